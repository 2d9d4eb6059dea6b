/* NOTIFY (RFC 5465, imap 12.6) inside: what was asked for, and who asks for it. */
#ifndef YARILO_IMAP_NOTIFY_H
#define YARILO_IMAP_NOTIFY_H

#include "imap/fetch.h"
#include "imap/filter.h"

enum { NOTIFY_NEW = 0x1, NOTIFY_EXPUNGE = 0x2, NOTIFY_FLAGS = 0x4, NOTIFY_NAMES = 0x8, NOTIFY_SUBSCRIPTIONS = 0x10 };

struct notify_group {
    struct notify_group *next;
    struct mailbox_filter filter;
    unsigned events;
};

/* In the arena of the request that asked. */
struct notify_plan {
    bool status;                   /* the option STATUS */
    bool selected, delayed;        /* there is a group for the selected mailbox */
    unsigned selected_events;
    struct fetch *fetch;           /* of MessageNew (items); NULL: none */
    struct notify_group *groups;
};
/* False: answered. */
bool notify_parse(struct session *, struct request *, struct notify_plan *);

/* Has something happened that the client wants to hear of, between two commands or in IDLE? */
bool notify_pending(const struct session *);
enum step notify_step(struct session *, struct budget *);    /* tells it */
void notify_selected(struct session *);
void notify_unselected(struct session *);
void notify_free(struct session *);
bool notify_hides_counts(const struct session *);            /* nothing of new and gone messages */
bool notify_hides_flags(const struct session *);
bool notify_delays_expunge(const struct session *);
const struct fetch *notify_fetch(const struct session *);    /* NULL: none */

#endif
