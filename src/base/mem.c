/* mem.c - arenas and checked allocation.
 *
 * Exhaustion is not an error that callers handle: sizes that peers control are bounded where they arrive, and
 * what remains (vsz_limit reached) ends the process with the status from which master makes its advice. */
#include "base/mem.h"

#include "base/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FIRST_BLOCK = 1024, LARGEST_BLOCK = 64 * 1024, ALIGN = 16 };

struct block {
    struct block *next;
    size_t size, used;
    unsigned char data[] __attribute__((aligned(ALIGN)));
};

struct arena {
    struct block *newest; /* allocation happens here; older ones follow */
    size_t held;
};

void mem_exhausted(size_t wanted)
{
    char text[80];
    int n = snprintf(text, sizeof(text), "Fatal: Out of memory: cannot allocate %zu bytes\n", wanted);

    if (n > 0)
        (void)!write(STDERR_FILENO, text, (size_t)n);
    _exit(EXIT_OUT_OF_MEMORY);
}

void *mem_alloc(size_t size)
{
    void *p = malloc(size == 0 ? 1 : size);

    if (p == NULL)
        mem_exhausted(size);
    return p;
}

void *mem_zero(size_t count, size_t size)
{
    void *p = calloc(count == 0 ? 1 : count, size == 0 ? 1 : size);

    if (p == NULL)
        mem_exhausted(size);
    return p;
}

void *mem_realloc(void *old, size_t size)
{
    void *p = realloc(old, size == 0 ? 1 : size);

    if (p == NULL)
        mem_exhausted(size);
    return p;
}

char *mem_strdup(const char *text)
{
    return mem_strndup(slice_from_str(text));
}

char *mem_strdup_null(const char *text)
{
    return text == NULL ? NULL : mem_strdup(text);
}

char *mem_strndup(struct slice s)
{
    char *p = mem_alloc(s.size + 1);

    if (s.size > 0)
        memcpy(p, s.at, s.size);
    p[s.size] = '\0';
    return p;
}

char *mem_printf(const char *fmt, ...)
{
    char *text;
    va_list args;

    va_start(args, fmt);
    if (vasprintf(&text, fmt, args) < 0)
        mem_exhausted(0);
    va_end(args);
    return text;
}

void mem_free(void *p)
{
    free(p);
}

static struct block *add_block(struct arena *a, size_t least)
{
    size_t size = a->newest == NULL ? FIRST_BLOCK : a->newest->size * 2;
    struct block *b;

    if (size > LARGEST_BLOCK)
        size = LARGEST_BLOCK;
    if (size < least)
        size = least;
    b = mem_alloc(sizeof(*b) + size);
    b->size = size;
    b->used = 0;
    b->next = a->newest;
    a->newest = b;
    a->held += sizeof(*b) + size;
    return b;
}

/* Most arenas live for one function and need one block. A few that are over are kept for the next ones, but not where a sanitizer looks for
 * uses of what is gone. */
#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
static struct arena *take_spare(void)
{
    return NULL;
}

static bool keep_spare(struct arena *a)
{
    (void)a;
    return false;
}

void *mem_room_new(void)
{
    return mem_alloc(MEM_ROOM_SIZE);
}

void mem_room_free(void *room)
{
    mem_free(room);
}
#else
enum { SPARE_MOST = 8 };
static _Thread_local struct arena *spare[SPARE_MOST];
static _Thread_local size_t spares;
static _Thread_local void *spare_room;

void *mem_room_new(void)
{
    void *room = spare_room;

    spare_room = NULL;
    return room != NULL ? room : mem_alloc(MEM_ROOM_SIZE);
}

void mem_room_free(void *room)
{
    if (room == NULL)
        return;
    if (spare_room == NULL)
        spare_room = room;
    else
        mem_free(room);
}

static struct arena *take_spare(void)
{
    return spares > 0 ? spare[--spares] : NULL;
}

static bool keep_spare(struct arena *a)
{
    if (spares == SPARE_MOST)
        return false;
    spare[spares++] = a;
    return true;
}
#endif

struct arena *arena_new(void)
{
    struct arena *a = take_spare();

    return a != NULL ? a : mem_zero(1, sizeof(*a));
}

void arena_free(struct arena *a)
{
    if (a == NULL)
        return;
    arena_reset(a);
    if (keep_spare(a))
        return;
    mem_free(a->newest);
    mem_free(a);
}

void arena_reset(struct arena *a)
{
    struct block *b, *next;

    if (a->newest == NULL)
        return;
    for (b = a->newest; b->next != NULL; b = next) {
        next = b->next;
        mem_free(b);
    }
    if (b->size > FIRST_BLOCK) { /* the first allocation was a big one; it must not stay for the idle time */
        mem_free(b);
        *a = (struct arena){NULL, 0};
        return;
    }
    b->used = 0;
    a->newest = b;
    a->held = sizeof(*b) + b->size;
}

void arena_recycle(struct arena *a, size_t keep)
{
    struct block *kept = a->newest, *b, *next;

    if (kept == NULL)
        return;
    if (kept->size > keep) {
        arena_reset(a);
        return;
    }
    for (b = kept->next; b != NULL; b = next) {
        next = b->next;
        mem_free(b);
    }
    kept->next = NULL;
    kept->used = 0;
    a->held = sizeof(*kept) + kept->size;
}

size_t arena_used(const struct arena *a)
{
    return sizeof(*a) + a->held;
}

void *arena_alloc(struct arena *a, size_t size)
{
    struct block *b = a->newest;
    size_t want;
    void *p;

    if (__builtin_add_overflow(size, (size_t)ALIGN - 1, &want))
        mem_exhausted(size);
    want &= ~((size_t)ALIGN - 1);
    if (b == NULL || b->size - b->used < want)
        b = add_block(a, want);
    p = b->data + b->used;
    b->used += want;
    memset(p, 0, want);
    return p;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t want;

    if (__builtin_mul_overflow(count, size, &want))
        mem_exhausted(count);
    return arena_alloc(a, want);
}

void *arena_copy(struct arena *a, const void *at, size_t size)
{
    void *p = arena_alloc(a, size);

    if (size > 0)
        memcpy(p, at, size);
    return p;
}

char *arena_str(struct arena *a, struct slice s)
{
    char *p = arena_alloc(a, s.size + 1);

    if (s.size > 0)
        memcpy(p, s.at, s.size);
    return p;
}

char *arena_str_upper(struct arena *a, struct slice s)
{
    char *p = arena_str(a, s);

    for (char *c = p; *c != '\0'; c++) {
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 32);
    }
    return p;
}

char *arena_strdup(struct arena *a, const char *text)
{
    return arena_str(a, slice_from_str(text));
}

struct slice arena_slice(struct arena *a, struct slice s)
{
    return slice_of(arena_str(a, s), s.size);
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args;
    char text[256], *p; /* most are short: one pass does */
    size_t size;

    va_start(args, fmt);
    size = format_text(text, sizeof(text), fmt, args);
    va_end(args);
    p = arena_alloc(a, size + 1);
    if (size < sizeof(text)) {
        memcpy(p, text, size);
        return p;
    }
    va_start(args, fmt);
    format_text(p, size + 1, fmt, args);
    va_end(args);
    return p;
}

void *vec_grow(void *at, size_t *room, size_t size)
{
    size_t count = *room == 0 ? 8 : *room * 2, bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        mem_exhausted(count);
    *room = count;
    return mem_realloc(at, bytes);
}
