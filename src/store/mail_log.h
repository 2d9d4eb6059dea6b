/* The mail_log plugin (quota-acl-plugins 3): a line of the log for what happens to messages and mailboxes. Not for other folders.
 *
 * Everything may be called for users without the plugin: nothing happens then. */
#ifndef YARILO_STORE_MAIL_LOG_H
#define YARILO_STORE_MAIL_LOG_H

#include "store/driver.h"

struct mail_log;           /* of a user: what is told, and of what */
struct mail_log_notes;     /* lines of one commit */

/* *out NULL: the plugins notify and mail_log are not both loaded. */
int mail_log_open(struct mail_user *, struct mail_log **out, struct error *);
void mail_log_close(struct mail_log **);

/* Changes that a batch is about to make for a view; NULL: there is nothing to tell. Lines are made by mail_log_prepare before the
 * commit, while what is expunged is still there, and told when it has succeeded. `moved`: what it expunges was copied elsewhere. */
struct mail_log_notes *mail_log_changes(struct mailbox_view *, const struct index_batch *, bool moved);
struct mail_log_notes *mail_log_deletion(struct mailbox *);          /* all messages of a mailbox that goes */
enum step mail_log_prepare(struct mail_log_notes *, struct budget *);   /* STEP_DONE or STEP_MORE; NULL is fine */
/* `failed`: UIDs that the commit has left alone; NULL = none. */
void mail_log_tell(const struct mail_log_notes *, const struct index_ranges *failed);
void mail_log_notes_free(struct mail_log_notes **);                  /* NULL is fine */

bool mail_log_wants_uids(const struct mail_user *);                  /* of saved messages */
/* A message that was just published; `from`: the mailbox it was copied from, NULL = none. */
void mail_log_saved(const struct staged *, const char *from, uint8_t private_flags);

enum mail_log_event { MAIL_LOG_CREATED, MAIL_LOG_DELETED, MAIL_LOG_RENAMED };
void mail_log_mailbox(const struct mailbox_place *, enum mail_log_event, const struct mailbox_place *to); /* to: of a rename */

#endif
