/* What happens to messages and mailboxes of a user, told once, to whichever plugins listen (quota-acl-plugins 3, 5): mail_log,
 * notify_status, push_notification. Virtual mailboxes tell nothing: the mailboxes behind them do.
 *
 * Everything may be called for users of whom nobody wants to hear: nothing happens then. */
#ifndef YARILO_STORE_NOTIFY_H
#define YARILO_STORE_NOTIFY_H

#include "store/driver.h"

struct notify;             /* of a user: who listens; NULL = nobody */
struct notify_notes;       /* of one commit */
enum notify_event { NOTIFY_CREATED, NOTIFY_DELETED, NOTIFY_RENAMED, NOTIFY_SUBSCRIBED, NOTIFY_UNSUBSCRIBED };

/* ---- for those who change things -------------------------------------------------------------------------------- */

int notify_open(struct mail_user *, struct notify **out, struct error *);
void notify_close(struct mail_user *, struct notify **);
/* Before the user is closed: what a program without a loop still has to do. */
void notify_flush(struct mail_user *);

/* Changes that a batch is about to make for a view; NULL: there is nothing to tell. They are looked at by notify_prepare before the
 * commit, while what is expunged is still there, and told when it has succeeded. `moved`: what it expunges was copied elsewhere. */
struct notify_notes *notify_changes(struct mailbox_view *, const struct index_batch *, bool moved);
struct notify_notes *notify_deletion(struct mailbox *);              /* all messages of a mailbox that goes */
enum step notify_prepare(struct notify_notes *, struct budget *);    /* STEP_DONE or STEP_MORE; NULL is fine */
/* `failed`: UIDs that the commit has left alone; NULL = none. */
void notify_tell(const struct notify_notes *, const struct index_ranges *failed);
void notify_notes_free(struct notify_notes **);                      /* NULL is fine */

bool notify_wants_uids(const struct mail_user *);                    /* of saved messages */
/* Messages that were just published, one after the other between begin and end; `from`: the mailbox a message was copied from,
 * NULL = none. */
void notify_saves_begin(struct mailbox *);
void notify_saved(const struct staged *, const char *from, uint8_t private_flags);
void notify_saves_end(struct mailbox *);

void notify_mailbox(const struct mailbox_place *, enum notify_event, const struct mailbox_place *to); /* to: of a rename */

/* ---- for those who listen --------------------------------------------------------------------------------------- */

enum { NOTIFY_FLAGS = 0x1, NOTIFY_EXPUNGES = 0x2, NOTIFY_SAVES = 0x4 };

struct notify_state {      /* of a message */
    uint8_t flags;
    bool recent;
    VEC(struct slice) keywords;
};
bool notify_has_name(const struct slice *names, size_t count, struct slice name);   /* of keywords: without case */
struct notify_change {     /* of one message, by one commit: first its flags, then its keywords, then its end */
    struct mailbox *box;
    uint32_t uid;
    struct mail *mail;     /* NULL: it cannot be opened */
    const struct notify_state *before, *flagged, *after;   /* flagged: flags as they will be, keywords as they were */
    bool flags, keywords, expunged;                        /* are changed */
    bool autoexpunge;
};

struct notify_listener {
    /* *self NULL: it does not listen to this user. */
    int (*open)(struct mail_user *, void **self, struct error *);
    void (*close)(struct mail_user *, void *self);
    void (*flush)(struct mail_user *, void *self);         /* NULL = nothing to do */
    unsigned (*wants)(const void *self);
    /* Of a change that is going to be: true = tell will be called for it, with what was put into the buffer. */
    bool (*note)(void *self, const struct notify_change *, struct buffer *out);
    void (*begin)(void *self, struct mailbox *);           /* around messages that belong together; NULL = nothing to do */
    void (*tell)(void *self, struct mailbox *, struct slice text);
    void (*end)(void *self, struct mailbox *);
    void (*saved)(void *self, const struct staged *, const char *from, const struct notify_state *);
    void (*mailbox)(void *self, const struct mailbox_place *, enum notify_event, const struct mailbox_place *to);
};
extern const struct notify_listener mail_log_listener, notify_status_listener, push_notification_listener;

#endif
