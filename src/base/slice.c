/* slice.c - slices and buffers.
 *
 * Pure functions over bytes; no locale. Memory exhaustion ends the process in mem.c. */
#include "base/slice.h"
#include "base/format.h"
#include "base/mem.h"

#include <assert.h>
#include <stdio.h>

static unsigned char fold(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

bool slice_equal_str(struct slice a, const char *text)
{
    return slice_equal(a, slice_from_str(text));
}

bool slice_equal_folded(struct slice a, struct slice b)
{
    for (size_t i = 0; i < a.size; i++)
        if (fold(a.at[i]) != fold(b.at[i]))
            return false;
    return true;
}

bool slice_equal_str_nocase(struct slice a, const char *text)
{
    return slice_equal_nocase(a, slice_from_str(text));
}

bool slice_starts(struct slice a, struct slice prefix)
{
    return a.size >= prefix.size && slice_equal(slice_head(a, prefix.size), prefix);
}

bool slice_starts_nocase(struct slice a, struct slice prefix)
{
    return a.size >= prefix.size && slice_equal_nocase(slice_head(a, prefix.size), prefix);
}

bool slice_ends(struct slice a, struct slice suffix)
{
    return a.size >= suffix.size && slice_equal(slice_from(a, a.size - suffix.size), suffix);
}

static bool is_blank(unsigned char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice a)
{
    while (a.size > 0 && is_blank(a.at[0]))
        a = slice_from(a, 1);
    while (a.size > 0 && is_blank(a.at[a.size - 1]))
        a.size--;
    return a;
}

ptrdiff_t slice_find(struct slice a, unsigned char c)
{
    const unsigned char *p = a.size == 0 ? NULL : memchr(a.at, c, a.size);
    return p == NULL ? -1 : p - a.at;
}

ptrdiff_t slice_find_last(struct slice a, unsigned char c)
{
    const unsigned char *p = a.size == 0 ? NULL : memrchr(a.at, c, a.size);
    return p == NULL ? -1 : p - a.at;
}

ptrdiff_t slice_find_slice(struct slice a, struct slice what)
{
    if (what.size == 0)
        return 0;
    if (a.size < what.size)
        return -1;
    /* glibc's memmem is the linear two-way algorithm. */
    const unsigned char *p = memmem(a.at, a.size, what.at, what.size);
    return p == NULL ? -1 : p - a.at;
}

bool slice_split(struct slice *rest, unsigned char sep, struct slice *part)
{
    if (rest->at == NULL)
        return false;
    ptrdiff_t i = slice_find(*rest, sep);
    if (i < 0) {
        *part = *rest;
        *rest = SLICE_EMPTY;
    } else {
        *part = slice_head(*rest, (size_t)i);
        *rest = slice_from(*rest, (size_t)i + 1);
    }
    return true;
}

bool slice_has_word(struct slice list, struct slice word)
{
    struct slice one;

    while (slice_split(&list, ' ', &one))
        if (one.size > 0 && slice_equal(one, word))
            return true;
    return false;
}

bool slice_to_u64(struct slice a, uint64_t *out)
{
    uint64_t n = 0;

    if (a.size == 0)
        return false;
    for (size_t i = 0; i < a.size; i++) {
        if (a.at[i] < '0' || a.at[i] > '9')
            return false;
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(a.at[i] - '0'), &n))
            return false;
    }
    *out = n;
    return true;
}

bool slice_to_u32(struct slice a, uint32_t *out)
{
    uint64_t n;

    if (!slice_to_u64(a, &n) || n > UINT32_MAX)
        return false;
    *out = (uint32_t)n;
    return true;
}

bool slice_equal_secret(struct slice a, struct slice b)
{
    /* The loop runs over b whatever a is; only the sizes, which are not secret, decide its length. */
    unsigned char differ = a.size != b.size;

    for (size_t i = 0; i < b.size; i++)
        differ |= (unsigned char)(b.at[i] ^ (i < a.size ? a.at[i] : 0));
    return differ == 0;
}

int slice_compare(struct slice a, struct slice b)
{
    size_t n = a.size < b.size ? a.size : b.size;
    int r = n == 0 ? 0 : memcmp(a.at, b.at, n);

    return r != 0 ? r : (a.size > b.size) - (a.size < b.size);
}

void buffer_grow(struct buffer *b, size_t more)
{
    size_t need, room = b->room < 64 ? 64 : b->room;

    if (__builtin_add_overflow(b->size, more, &need))
        mem_exhausted(more);
    while (room < need)
        if (__builtin_mul_overflow(room, 2, &room))
            mem_exhausted(need);
    b->at = mem_realloc(b->at, room);
    b->room = room;
}

void buffer_append_number(struct buffer *b, uint64_t n)
{
    char digits[FORMAT_DIGITS];
    size_t at = format_digits(digits, n);

    buffer_append(b, digits + at, sizeof(digits) - at);
}

void buffer_append_digits(struct buffer *b, uint64_t n, unsigned width)
{
    unsigned char digits[20];

    assert(width <= sizeof(digits));
    for (unsigned i = width; i-- > 0; n /= 10)
        digits[i] = (unsigned char)('0' + n % 10);
    buffer_append(b, digits, width);
}

void buffer_vprintf(struct buffer *b, const char *fmt, va_list args)
{
    size_t room, size;
    va_list again;

    va_copy(again, args);
    buffer_reserve(b, 64); /* most texts fit: then they are made once */
    room = b->room - b->size;
    size = format_text((char *)b->at + b->size, room, fmt, args);
    if (size >= room) {
        buffer_reserve(b, size + 1);
        format_text((char *)b->at + b->size, size + 1, fmt, again);
    }
    va_end(again);
    b->size += size;
}

void buffer_printf(struct buffer *b, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(b, fmt, args);
    va_end(args);
}

void buffer_drop(struct buffer *b, size_t size)
{
    assert(size <= b->size);
    if (size == 0)
        return;
    b->size -= size;
    memmove(b->at, b->at + size, b->size);
}

void buffer_splice(struct buffer *b, size_t at, size_t cut, struct slice with)
{
    assert(at <= b->size && cut <= b->size - at);
    if (with.size > cut)
        buffer_reserve(b, with.size - cut);
    if (b->size > at + cut)
        memmove(b->at + at + with.size, b->at + at + cut, b->size - at - cut);
    if (with.size > 0)
        memcpy(b->at + at, with.at, with.size);
    b->size = b->size - cut + with.size;
}

void buffer_reset(struct buffer *b)
{
    b->size = 0;
}

void buffer_free(struct buffer *b)
{
    mem_free(b->at);
    *b = (struct buffer){NULL, 0, 0};
}

void buffer_wipe(struct buffer *b)
{
    if (b->at != NULL)
        explicit_bzero(b->at, b->room);
    buffer_free(b);
}

const char *buffer_cstr(struct buffer *b)
{
    buffer_reserve(b, 1);
    b->at[b->size] = '\0';
    return (const char *)b->at;
}
