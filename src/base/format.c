/* format.c - the C library's printf costs a third of a microsecond to put two strings together, and a tenth of what a server does is to
 * put strings together. What is simple is done here, everything else by the library. */
#include "base/format.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct out {
    char *at;
    size_t room, size;
};

static void put(struct out *o, const char *text, size_t size)
{
    if (o->size < o->room)
        memcpy(o->at + o->size, text, size < o->room - o->size ? size : o->room - o->size);
    o->size += size;
}

size_t format_digits(char digits[FORMAT_DIGITS], unsigned long long n)
{
    size_t at = FORMAT_DIGITS;

    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return at;
}

static void put_number(struct out *o, unsigned long long n)
{
    char digits[FORMAT_DIGITS];
    size_t at = format_digits(digits, n);

    put(o, digits + at, sizeof(digits) - at);
}

static void put_signed(struct out *o, long long n)
{
    if (n < 0)
        put(o, "-", 1);
    put_number(o, n < 0 ? 0 - (unsigned long long)n : (unsigned long long)n);
}

/* At most `most` bytes, if it is not negative. */
static void put_text(struct out *o, const char *text, int most)
{
    if (text == NULL)
        text = "(null)";
    put(o, text, most < 0 ? strlen(text) : strnlen(text, (size_t)most));
}

/* SIZE_MAX: the format has more than that. */
static size_t format_plain(char *out, size_t room, const char *fmt, va_list args)
{
    struct out o = {out, room, 0};

    for (;;) {
        const char *percent = strchrnul(fmt, '%');
        unsigned longs = 0;

        put(&o, fmt, (size_t)(percent - fmt));
        if (*percent == '\0')
            return o.size;
        fmt = percent + 1;
        if (fmt[0] == '.' && fmt[1] == '*' && fmt[2] == 's') {
            int most = va_arg(args, int);

            put_text(&o, va_arg(args, const char *), most);
            fmt += 3;
            continue;
        }
        if (*fmt == 'z' && fmt[1] == 'u') {
            put_number(&o, va_arg(args, size_t));
            fmt += 2;
            continue;
        }
        for (; *fmt == 'l'; fmt++)
            longs++;
        if (longs > 2 || (longs > 0 && *fmt != 'u' && *fmt != 'd'))
            return SIZE_MAX;
        switch (*fmt++) {
        case 's':
            put_text(&o, va_arg(args, const char *), -1);
            break;
        case 'c': {
            char c = (char)va_arg(args, int);

            put(&o, &c, 1);
            break;
        }
        case '%':
            put(&o, "%", 1);
            break;
        case 'u':
            put_number(&o, longs == 0 ? va_arg(args, unsigned) : longs == 1 ? va_arg(args, unsigned long) : va_arg(args, unsigned long long));
            break;
        case 'd':
            put_signed(&o, longs == 0 ? va_arg(args, int) : longs == 1 ? va_arg(args, long) : va_arg(args, long long));
            break;
        default:
            return SIZE_MAX;
        }
    }
}

size_t format_text(char *out, size_t room, const char *fmt, va_list args)
{
    va_list plain;
    size_t size;
    int n;

    va_copy(plain, args);
    size = format_plain(out, room, fmt, plain);
    va_end(plain);
    if (size != SIZE_MAX)
        return size;
    n = vsnprintf(out, room, fmt, args);
    if (n < 0)
        mem_exhausted(0);
    return (size_t)n;
}
