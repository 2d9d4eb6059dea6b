/* Work that nobody waits for: what sessions leave behind, what a login writes down.
 *
 * A process with a loop runs it there in slices, beside its sessions; in a program without one store_later runs it to
 * its end. Such an op logs its failures itself: there is nobody to answer. */
#ifndef YARILO_STORE_LATER_H
#define YARILO_STORE_LATER_H

#include "store/store.h"

#include <ev.h>

void store_later_begin(struct ev_loop *);
/* Takes the op. Never runs it inside this call where there is a loop. */
void store_later(struct store_op *);
bool store_later_has_loop(void);
struct ev_loop *store_later_loop(void);    /* NULL: there is none */
bool store_later_ending(void);      /* store_later_end has begun: nobody waits for a better moment */
/* Before the loop goes: runs what is left, all together at most `ms`, and cancels the rest; waits for HTTP (http.h) too. */
void store_later_end(unsigned ms);

#endif
