/* One delivery: a message into one recipient's mailbox (doors 3). Used by the LMTP worker; dovecot-lda will, too. */
#ifndef YARILO_LMTP_LMTP_DELIVER_H
#define YARILO_LMTP_LMTP_DELIVER_H

#include "conf/conf.h"
#include "lmtp/lmtp_job.h"
#include "rpc/auth_home.h"

#include <ev.h>

/* What the log wants to know of a message; read once for all recipients. */
struct deliver_message {
    struct slice bytes;
    const char *message_id, *subject, *from; /* "" = none; message_id "unspecified" */
    uint64_t started_usecs;                  /* of the transaction */
};
struct deliver_message deliver_message_read(struct arena *, struct slice bytes);

struct mail_user;

struct deliver_request {
    struct ev_loop *loop;
    struct conf *conf;
    struct auth_homes *homes; /* for shared namespaces */
    const struct deliver_message *message;
    const char *sender;
    const struct lmtp_job_rcpt *rcpt;
    unsigned number;          /* given back to `over` */
};

/* The recipient as a mail user, with the settings of that service. *set is the caller's, also after an error if not NULL. */
int deliver_open_user(const struct deliver_request *, const char *service, struct arena *, struct log *, struct settings **set,
                      struct mail_user **, struct error *);

/* Has the recipient's INBOX room for `size` bytes more? The fields of the answer to ROOM (lmtp_job.h); at least 3 places. */
size_t deliver_room(const struct deliver_request *, const char *service, uint64_t size, struct arena *, const char *fields[3]);

struct deliver;
/* A line for the log. Deliveries that run side by side end in any order; whoever started them writes their lines in the
 * order of the recipients, as log readers are used to. */
struct deliver_line {
    enum log_level level;
    const char *prefix, *text; /* prefix NULL = the process's */
};
/* The outcome, "code enhanced text" ("250 2.0.0 Saved"), called exactly once, from deliver_commit or the loop. The
 * arguments live until it returns. */
typedef void deliver_over_fn(void *arg, unsigned number, const char *answer, const struct deliver_line *, size_t lines);

/* Opens the user and the mailbox and stages the message, by a link to what `like` has staged when that is not NULL.
 * A failure is told at deliver_commit. */
struct deliver *deliver_stage(const struct deliver_request *, struct deliver *like, deliver_over_fn *over, void *arg);
bool deliver_is_staged(const struct deliver *);
/* Makes it durable and visible, tells the outcome, frees. */
void deliver_commit(struct deliver *);

#endif
