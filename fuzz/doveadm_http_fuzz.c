/* The HTTP API of doveadm: head, login, and the JSON of a request (doveadm 9). */
#include "doveadm_front.h"

#include "../doveadm-compat/server/front_http.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    play(&front_http, data, size);
    buffer_free(&http.head);
    buffer_free(&http.body);
    buffer_free(&http.output);
    buffer_free(&http.rows);
    mem_free(http.method);
    mem_free(http.path);
    mem_free(http.referer);
    mem_free(http.agent);
    json_decref(http.commands);
    memset(&http, 0, sizeof(http));
    return 0;
}
