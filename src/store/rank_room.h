/* Numbers between numbers: new ranks get their places between those that there are (rank_room.c). */
#ifndef YARILO_STORE_RANK_ROOM_H
#define YARILO_STORE_RANK_ROOM_H

#include "base/base.h"

struct rank_room;
struct rank_room *rank_room_new(struct arena *, size_t most);
/* The next text in order, with its rank (0: it needs one) and the number of its messages. Ranks that are given ascend. */
void rank_room_add(struct rank_room *, uint32_t rank, uint32_t messages);
/* Gives ranks to those that need one. Others move only where there is no room. */
void rank_room_give(struct rank_room *);
uint32_t rank_room_get(const struct rank_room *, uint32_t at);   /* in the order of adding, from 0 */

#endif
