/* session_id.c - names of sessions (session_id.h). */
#include "rpc/session_id.h"

#include "base/base.h"
#include "base/text.h"

#include <sys/random.h>

void session_id_new(char out[SESSION_ID_SIZE])
{
    unsigned char raw[16];
    struct buffer text = {0};

    if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
        log_fatal(EXIT_FATAL, "getrandom() failed: %m");
    text_base64_encode(&text, slice_of(raw, sizeof(raw)));
    memcpy(out, text.at, SESSION_ID_SIZE - 1);
    out[SESSION_ID_SIZE - 1] = '\0';
    buffer_free(&text);
}
