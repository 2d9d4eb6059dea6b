/* Commands before login: no crash, and a command never takes more than is there. */
#include "login/imap_args.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct arena *a = arena_new();
    struct imap_wait wait = {0, 0};
    struct imap_line line;

    while (in.size > 0 && imap_parse_line(in, 8192, &wait, a, &line) == IMAP_LINE) {
        if (line.size == 0 || line.size > in.size || line.count > IMAP_ARGS_MAX)
            abort();
        in = slice_from(in, line.size);
    }
    arena_free(a);
    return 0;
}
