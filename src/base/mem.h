/* Memory: arenas that are freed as a whole, and the few allocations outside of them.
 *
 * An arena belongs to one command, transaction or session step. Blocks double up to 64 KiB; arena_reset keeps
 * the first one, so that a session that runs one command after the other does not call malloc at all. */
#ifndef YARILO_BASE_MEM_H
#define YARILO_BASE_MEM_H

#include "base/slice.h"

/* Exit status of a process that runs out of memory, as Dovecot's master expects it (ipc 2.3). */
#define EXIT_OUT_OF_MEMORY 83

/* Like malloc, calloc, realloc, strdup, but never NULL: exhaustion logs and ends the process with exit 83. */
void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_zero(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *mem_realloc(void *, size_t size) __attribute__((returns_nonnull));
char *mem_strdup(const char *) __attribute__((malloc, returns_nonnull));
char *mem_strdup_null(const char *); /* of NULL: NULL */
char *mem_strndup(struct slice) __attribute__((malloc, returns_nonnull)); /* adds the NUL */
char *mem_printf(const char *fmt, ...) __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));
void mem_free(void *);
/* Room to read through. The last one that was given back is the next one's: fresh pages would cost more than what is read. */
#define MEM_ROOM_SIZE 65536u
void *mem_room_new(void) __attribute__((malloc, returns_nonnull));
void mem_room_free(void *);   /* NULL is fine */
void mem_exhausted(size_t wanted) __attribute__((noreturn));

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *);                 /* NULL is fine */
void arena_reset(struct arena *);                /* everything allocated from it is gone */
void arena_recycle(struct arena *, size_t keep); /* likewise; its largest block stays if it has at most so many bytes */
size_t arena_used(const struct arena *);         /* bytes held, for session_memory */

void *arena_alloc(struct arena *, size_t size) __attribute__((malloc, returns_nonnull));  /* aligned to 16, zeroed */
void *arena_copy(struct arena *, const void *, size_t size);
char *arena_str(struct arena *, struct slice);   /* NUL-terminated copy */
char *arena_str_upper(struct arena *, struct slice);   /* ... with ASCII letters in upper case */
char *arena_strdup(struct arena *, const char *);
struct slice arena_slice(struct arena *, struct slice);
char *arena_printf(struct arena *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, type, count) ((type *)arena_array((arena), (count), sizeof(type)))
void *arena_array(struct arena *, size_t count, size_t size);  /* checks the product */

/* A growing array of plain values: VEC(uint32_t) uids = {0}; VEC_PUSH(&uids, 7); ... VEC_FREE(&uids). */
#define VEC(type) struct { type *at; size_t count, room; }
#define VEC_PUSH(v, value) \
    (((v)->count == (v)->room ? (void)((v)->at = vec_grow((v)->at, &(v)->room, sizeof(*(v)->at))) : (void)0), \
     (v)->at[(v)->count++] = (value))
#define VEC_FREE(v) (mem_free((v)->at), (v)->at = NULL, (v)->count = (v)->room = 0)
void *vec_grow(void *at, size_t *room, size_t size);

#endif
