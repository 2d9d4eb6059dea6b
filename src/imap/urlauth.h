/* URLAUTH (RFC 4467): keys of mailboxes, tokens, and who may fetch what. For the IMAP commands and the imap-urlauth services.
 *
 * A mailbox's key is 64 random bytes in its attributes, as hexadecimal text: the real server reads and writes the same. */
#ifndef YARILO_IMAP_URLAUTH_H
#define YARILO_IMAP_URLAUTH_H

#include "imap/part.h"

enum { URLAUTH_KEY = 64, URLAUTH_TOKEN = 21 /* 01, HMAC-SHA1 */ };
#define URLAUTH_KEY_NAME "vendor/vendor.dovecot/imap-urlauth"

/* imap_urlauth_host and mail_attribute_dict are set. */
bool urlauth_enabled(const struct mail_user *);
/* NULL: host and port are this server's. */
const char *urlauth_host_fault(const struct settings *, const struct imap_url *);
/* False: the mailbox has no key (or *e is an error: class not ERROR_NONE). */
bool urlauth_key(struct mailbox *, struct arena *, unsigned char key[URLAUTH_KEY], struct error *);
struct store_op *urlauth_key_make(struct mailbox *, unsigned char key[URLAUTH_KEY]);   /* a new one */
struct store_op *urlauth_key_remove(struct mailbox *);
void urlauth_token(const unsigned char key[URLAUTH_KEY], struct slice rump, unsigned char token[URLAUTH_TOKEN]);

/* One fetch, in steps: begin, run part.op to its end, check; then part_open or part_structure. */
struct urlauth_fetch {
    struct imap_url url;
    struct part part;
    struct slice text;
    const char *fault;         /* why not, without a stop; "Failed to fetch URLAUTH ...: fault" */
    bool syntax;               /* the text is no such URL */
    bool denied;               /* the fault tells of the mailbox or the key: whoever is not the owner hears no reason */
    bool read_fault;           /* ... "Failed to read URLAUTH ...: fault" */
};
/* Parses and judges the text alone; url.user is then known. False: fault. */
bool urlauth_parse(struct urlauth_fetch *, struct arena *, const struct settings *, struct slice text);
/* `accessor` NULL: anonymous. `apps` are the applications besides user, authuser, anonymous that it may use ("submit+"). -1 with
 * fault NULL: *e. */
int urlauth_begin(struct urlauth_fetch *, struct arena *, struct mail_user *owner, const char *accessor,
                  const char *const *apps, struct error *);
int urlauth_check(struct urlauth_fetch *, struct arena *, struct error *);

#endif
