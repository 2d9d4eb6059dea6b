/* Inside of base: printf for the formats that paths and answers are made of. */
#ifndef YARILO_BASE_FORMAT_H
#define YARILO_BASE_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

/* As vsnprintf, if the format has no conversions but %s, %.*s, %c, %% and decimal numbers without width (%d %u %ld %lu %lld %llu %zu):
 * the size that the text has, without its NUL; as much of it as `room` is for is written, without a NUL. Else SIZE_MAX. */
size_t format_plain(char *out, size_t room, const char *fmt, va_list);

#endif
