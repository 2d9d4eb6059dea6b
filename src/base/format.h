/* Inside of base: printf for the formats that paths and answers are made of. */
#ifndef YARILO_BASE_FORMAT_H
#define YARILO_BASE_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

/* The size that the text has. If it is less than `room` all of it stands in `out`, with or without a NUL behind it; else some. Formats
 * without other conversions than %s, %.*s, %c, %% and decimal numbers without width (%d %u %ld %lu %lld %llu %zu) are quick. */
size_t format_text(char *out, size_t room, const char *fmt, va_list);

enum { FORMAT_DIGITS = 20 };
/* Decimal digits, at the end of the array: where they begin in it. */
size_t format_digits(char digits[FORMAT_DIGITS], unsigned long long);

#endif
