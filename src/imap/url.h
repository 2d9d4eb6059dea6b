/* IMAP URLs (RFC 5092, RFC 4467): text -> what it names. Used by CATENATE, URLAUTH, and the imap-urlauth services.
 *
 * Nothing here looks at a mailbox; the words of refusals are Dovecot's (imap 12.5). */
#ifndef YARILO_IMAP_URL_H
#define YARILO_IMAP_URL_H

#include "base/base.h"

enum {
    IMAP_URL_RELATIVE = 0x1,  /* must be relative (CATENATE); without it, it must be absolute */
    IMAP_URL_URLAUTH = 0x2    /* ;EXPIRE= and ;URLAUTH= may stand at the end */
};

struct imap_url {
    const char *user, *auth, *host;  /* NULL: none */
    bool has_port;
    uint32_t port;
    const char *mailbox;             /* UTF-8, "/" as written; NULL: none */
    uint32_t uid_validity, uid;      /* 0: none */
    const char *section;             /* NULL: the whole message */
    uint64_t from, count;            /* PARTIAL; count UINT64_MAX: to the end */
    const char *search;              /* NULL: none */
    /* URLAUTH */
    bool has_expire;
    int64_t expire;
    const char *application, *access_user; /* "user" and "name" of user+name; application NULL: no ;URLAUTH= */
    const char *mechanism;           /* NULL: a rump */
    struct slice token;              /* bytes */
    size_t rump_size;                /* the text's part that the token is made of */
};

/* `base` is the mailbox that relative URLs start from, NULL: none. 0, or -1 and *fault is the text. */
int imap_url_parse(struct arena *, struct slice text, const char *base, unsigned flags, struct imap_url *,
                   const char **fault);

#endif
