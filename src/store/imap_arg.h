/* Arguments in the syntax of IMAP (RFC 3501 section 4), as data: what the IMAP parser makes of a line, the rules of virtual
 * mailboxes and the words of doveadm's queries alike. */
#ifndef YARILO_STORE_IMAP_ARG_H
#define YARILO_STORE_IMAP_ARG_H

#include "base/base.h"

enum imap_arg_type { IMAP_NIL, IMAP_ATOM, IMAP_QUOTED, IMAP_LITERAL, IMAP_LIST };

struct imap_arg {
    enum imap_arg_type type;
    bool literal8;               /* LITERAL: ~{n} */
    struct slice text;           /* of NIL and ATOM: the spelling; of LIST: empty */
    struct imap_arg *children;   /* of LIST */
    struct imap_arg *next;
};

/* What a client may give where a string is wanted; NIL is a string of three letters there (imap 2). */
static inline bool imap_arg_is_string(const struct imap_arg *a)
{
    return a != NULL && a->type != IMAP_LIST;
}
static inline bool imap_arg_is_atom(const struct imap_arg *a)
{
    return a != NULL && (a->type == IMAP_ATOM || a->type == IMAP_NIL);
}

#endif
