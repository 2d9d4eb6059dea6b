/* SEARCH_INTHREAD inside of a search (inthread.c): the messages in whose thread some message matches the key. */
#ifndef YARILO_STORE_INTHREAD_H
#define YARILO_STORE_INTHREAD_H

#include "store/search.h"

struct inthread;
struct inthread *inthread_new(struct arena *, struct search_key *);   /* lives in the arena, but for what inthread_free frees */
/* Searches and threads all messages of the view. MORE: the slice is used up; DONE. What cannot be read is logged. */
enum step inthread_run(struct inthread *, struct mailbox_view *, struct budget *);
bool inthread_has(const struct inthread *, uint32_t uid);             /* after DONE */
void inthread_free(struct inthread *);

#endif
