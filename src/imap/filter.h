/* Which mailboxes a client means: the filters of NOTIFY (RFC 5465 section 6) and ESEARCH (RFC 7377 section 2.2). */
#ifndef YARILO_IMAP_FILTER_H
#define YARILO_IMAP_FILTER_H

#include "imap/session.h"

enum mailbox_filter_kind { FILTER_PERSONAL, FILTER_SUBSCRIBED, FILTER_SUBTREE, FILTER_SUBTREE_ONE, FILTER_MAILBOXES };
enum { FILTER_NAMES_MAX = 100 };

struct mailbox_filter {
    enum mailbox_filter_kind kind;
    const char **names;            /* UTF-8, of SUBTREE, SUBTREE_ONE and MAILBOXES; in the request's arena */
    size_t count;
    bool too_many;                 /* more than FILTER_NAMES_MAX were given */
};

/* The filter that begins at *arg; *arg moves behind it. False: it is none. */
bool mailbox_filter_parse(const struct session *, struct request *, const struct imap_arg **arg, struct mailbox_filter *);
/* `info` has MAILBOX_LIST_RETURN_SUBSCRIBED. */
bool mailbox_filter_has(const struct mailbox_filter *, const struct mailbox_info *info);

#endif
