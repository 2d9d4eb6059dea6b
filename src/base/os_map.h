/* Files as private memory (os_map.c). */
#ifndef YARILO_BASE_OS_MAP_H
#define YARILO_BASE_OS_MAP_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct os_map;

/* The first `size` bytes of a file that is never changed in place, followed by at least `room` zero bytes. Both may be written:
 * the file does not change. The descriptor may be closed. Pages count as memory only once they are touched (but as address space). */
int os_map_open(struct os_map **, int fd, size_t size, size_t room, struct error *);
unsigned char *os_map_bytes(const struct os_map *);
size_t os_map_room(const struct os_map *);         /* bytes from the first to the last of the room */
/* A part could not be read when it was touched: zeros stand there. */
bool os_map_lost(const struct os_map *);
void os_map_close(struct os_map **);               /* NULL is fine */

#endif
