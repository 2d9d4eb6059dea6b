/* Slices and buffers: how this house handles bytes.
 *
 * A slice borrows bytes that somebody else owns; it is never NUL-terminated by promise. A buffer owns bytes and
 * grows. Everything that comes from a file or a peer is a slice with its length, and is compared, cut and
 * searched by the functions here, so that a length is checked in one place. */
#ifndef YARILO_BASE_SLICE_H
#define YARILO_BASE_SLICE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const unsigned char *at;
    size_t size;
};

#define SLICE_EMPTY ((struct slice){NULL, 0})
/* A slice of a string literal, without its NUL. */
#define SLICE(literal) ((struct slice){(const unsigned char *)("" literal), sizeof(literal) - 1})

static inline struct slice slice_of(const void *at, size_t size)
{
    return (struct slice){at, size};
}

/* The bytes of a C string; NULL gives the empty slice. */
static inline struct slice slice_from_str(const char *text)
{
    return (struct slice){(const unsigned char *)text, text == NULL ? 0 : strlen(text)};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.at, b.at, a.size) == 0);
}

bool slice_equal_str(struct slice a, const char *text);
bool slice_equal_folded(struct slice a, struct slice b);   /* of the same size */
/* ASCII letters compare without case; other bytes must be equal. Mostly they are not even nearly. */
static inline bool slice_equal_nocase(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || (((a.at[0] ^ b.at[0]) & ~0x20) == 0 && slice_equal_folded(a, b)));
}
bool slice_equal_str_nocase(struct slice a, const char *text);
bool slice_starts(struct slice a, struct slice prefix);
bool slice_starts_nocase(struct slice a, struct slice prefix);
bool slice_ends(struct slice a, struct slice suffix);

/* Bytes from `from` on; empty when `from` is past the end. */
static inline struct slice slice_from(struct slice a, size_t from)
{
    if (from >= a.size)
        return (struct slice){a.at == NULL ? NULL : a.at + a.size, 0};
    return (struct slice){a.at + from, a.size - from};
}

/* The first `size` bytes, or fewer. */
static inline struct slice slice_head(struct slice a, size_t size)
{
    return (struct slice){a.at, size < a.size ? size : a.size};
}

/* Without spaces, tabs, CR and LF at both ends. */
struct slice slice_trim(struct slice a);

/* Index of the first byte `c`, or -1. */
ptrdiff_t slice_find(struct slice a, unsigned char c);
ptrdiff_t slice_find_last(struct slice a, unsigned char c);
/* Index of the first occurrence of `what` (linear time), or -1; an empty `what` is found at 0. */
ptrdiff_t slice_find_slice(struct slice a, struct slice what);

/* Takes what stands before the first `sep` off the front of *rest (the separator goes too).
 * False when *rest is exhausted; a trailing separator yields one last empty part. */
bool slice_split(struct slice *rest, unsigned char sep, struct slice *part);

/* Is the word one of those in the list, with blanks between them? */
bool slice_has_word(struct slice list, struct slice word);

/* Decimal digits only, the whole slice, no sign, no overflow. False: *out is untouched. */
bool slice_to_u64(struct slice a, uint64_t *out);
bool slice_to_u32(struct slice a, uint32_t *out);

/* Equality in time that depends only on the sizes: for secrets. */
bool slice_equal_secret(struct slice a, struct slice b);

int slice_compare(struct slice a, struct slice b); /* memcmp order, shorter first */

/* A growing byte string. Zero-initialised is a valid empty buffer. Allocation failure ends the process
 * (exit 83, as Dovecot does): every size that a peer controls is bounded before it gets here. */
struct buffer {
    unsigned char *at;
    size_t size;
    size_t room;
};

void buffer_grow(struct buffer *, size_t more); /* buffer_reserve where there is no room yet */

/* Inline, since answers are put together of small pieces. */
static inline void buffer_reserve(struct buffer *b, size_t more)
{
    if (more > b->room - b->size)
        buffer_grow(b, more);
}

static inline void buffer_append(struct buffer *b, const void *at, size_t size)
{
    if (size == 0)
        return;
    buffer_reserve(b, size);
    memcpy(b->at + b->size, at, size);
    b->size += size;
}

static inline void buffer_append_slice(struct buffer *b, struct slice s)
{
    buffer_append(b, s.at, s.size);
}

static inline void buffer_append_str(struct buffer *b, const char *text)
{
    buffer_append(b, text, strlen(text));
}

static inline void buffer_append_byte(struct buffer *b, unsigned char c)
{
    buffer_reserve(b, 1);
    b->at[b->size++] = c;
}

void buffer_append_number(struct buffer *, uint64_t);   /* decimal; where printf would be felt */
void buffer_append_digits(struct buffer *, uint64_t, unsigned width);   /* the last `width` (at most 20) of its decimal digits */
void buffer_printf(struct buffer *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buffer_vprintf(struct buffer *, const char *fmt, va_list) __attribute__((format(printf, 2, 0)));
/* Removes `size` bytes at the front. */
void buffer_drop(struct buffer *, size_t size);
/* Replaces `cut` bytes at `at` by `with`. */
void buffer_splice(struct buffer *, size_t at, size_t cut, struct slice with);
void buffer_reset(struct buffer *);          /* empty, keeps the memory */
void buffer_free(struct buffer *);           /* gives the memory back; the buffer is empty and usable */
void buffer_wipe(struct buffer *);           /* zeroes the memory, then frees it: for secrets */
const char *buffer_cstr(struct buffer *);    /* NUL-terminated, the NUL not counted; valid until the next change */

static inline struct slice buffer_slice(const struct buffer *b)
{
    return (struct slice){b->at, b->size};
}

/* Little-endian and big-endian integers at unaligned places; the caller has checked the size. */
static inline uint16_t bytes_le16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t bytes_le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t bytes_le64(const unsigned char *p)
{
    return (uint64_t)bytes_le32(p) | (uint64_t)bytes_le32(p + 4) << 32;
}
static inline uint32_t bytes_be32(const unsigned char *p)
{
    return (uint32_t)p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
}
static inline void bytes_put_le16(unsigned char *p, uint16_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}
static inline void bytes_put_le32(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
    p[2] = (unsigned char)(v >> 16);
    p[3] = (unsigned char)(v >> 24);
}
static inline void bytes_put_le64(unsigned char *p, uint64_t v)
{
    bytes_put_le32(p, (uint32_t)v);
    bytes_put_le32(p + 4, (uint32_t)(v >> 32));
}
static inline void bytes_put_be32(unsigned char *p, uint32_t v)
{
    p[3] = (unsigned char)v;
    p[2] = (unsigned char)(v >> 8);
    p[1] = (unsigned char)(v >> 16);
    p[0] = (unsigned char)(v >> 24);
}

#endif
