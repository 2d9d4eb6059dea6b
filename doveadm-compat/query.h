/* The search query of doveadm (chapter 5): words to a search tree, and the mailboxes it looks at. */
#ifndef YARILO_DOVEADM_QUERY_H
#define YARILO_DOVEADM_QUERY_H

#include "mail.h"
#include "store/search.h"

/* MAILBOX and MAILBOX-GUID keys are doveadm's own: they choose mailboxes, and inside OR and NOT they are judged per
 * mailbox. A parsed query is kept as nodes until a mailbox is chosen. */
struct query;

/* Errors are fatal (75) with the real program's texts. n = 0 is the caller's usage error. */
struct query *query_parse(struct doveadm *, const char *const *words, size_t n);

/* expunge and move: every OR branch must name a mailbox and something besides ("all"). Fatal (64) otherwise. */
void query_check_safe(const struct query *, const char *command);

/* Walks the mailboxes and in each the matching messages, in order of sequence. `mail` is called for each one; `done`
 * after the last of a mailbox that was opened (may be NULL). Both return 0 to go on, or an exit status that is added.
 * `failed` says what a mailbox that cannot be opened means: returns the exit status (0: nothing). */
struct query_walk {
    enum sync_why why;
    bool read_only;
    int (*mail)(struct doveadm *, struct mailbox_view *, uint32_t seq, void *arg);
    int (*done)(struct doveadm *, struct mailbox_view *, void *arg);
    int (*failed)(struct doveadm *, const char *mailbox, const struct error *);
};
int query_run(struct doveadm *, struct query *, struct mail_user *, const struct query_walk *, void *arg);

/* query_run.c: makes the view one of all that is there now, whatever it has been told of. */
void doveadm_view_refresh(struct mailbox_view *);

/* cmd_change.c: commits a batch and carries it out in the files, *batch is NULL then (before: there was nothing to do); and the
 * `failed` of commands that change. */
int doveadm_batch_commit(struct doveadm *, struct mailbox_view *, struct index_batch **batch);
int doveadm_change_failed(struct doveadm *, const char *mailbox, const struct error *);

#endif
