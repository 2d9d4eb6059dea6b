/* IMAP URLs: no crash; a refusal has words, the rump of what is taken lies in the input, and a token has an access in front. */
#include "imap/url.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct imap_url url;
    const char *fault;

    if (imap_url_parse(a, slice_of(data, size), "a/b", IMAP_URL_RELATIVE, &url, &fault) < 0 && fault == NULL)
        abort();
    if (imap_url_parse(a, slice_of(data, size), NULL, IMAP_URL_URLAUTH, &url, &fault) < 0) {
        if (fault == NULL)
            abort();
    } else if (url.rump_size > size || (url.mechanism != NULL && url.application == NULL) || url.host == NULL) {
        abort();
    }
    arena_free(a);
    return 0;
}
