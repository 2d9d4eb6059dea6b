/* The PROXY protocol: no crash; a header that is complete is complete with any bytes behind it. */
#include "net/haproxy.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct haproxy_header h, again;
    struct error e;

    if (haproxy_parse(slice_of(data, size), &h, &e) == STEP_DONE) {
        if (h.size > size || haproxy_parse(slice_of(data, h.size), &again, &e) != STEP_DONE || again.size != h.size)
            abort();
    }
    return 0;
}
