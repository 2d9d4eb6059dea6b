/* The line protocol of doveadm-server, as clients speak it (doveadm 8). */
#include "doveadm_front.h"

#include "../doveadm-compat/server/front_line.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    play(&front_line, data, size);
    buffer_free(&line.data);
    line = (struct line_state){0};
    return 0;
}
