/* doveadm_fatal for tests: what main's would do to the program, it does to CAUGHT(call): the status, or -1 if the call
 * came back. The text is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

static jmp_buf caught_at;
static char caught_text[512];

void doveadm_fatal(int status, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(caught_text, sizeof(caught_text), fmt, args);
    va_end(args);
    longjmp(caught_at, status + 1);
}

#define CAUGHT(status, call)                   \
    do {                                       \
        int caught_value = setjmp(caught_at);  \
        if (caught_value == 0) {               \
            (call);                            \
            (status) = -1;                     \
        } else                                 \
            (status) = caught_value - 1;       \
    } while (0)
