/* The face of src/store (floor 4): users, namespaces, mailbox names, mailboxes, messages; formats behind driver.h.
 *
 * Protocols and programs are written against this header and know nothing of Maildir or dbox.
 *
 *     struct mail_user *user;                     mail_user_open: settings, userdb fields -> namespaces
 *     struct mailbox_place place;                 mailbox_place: a client's name -> namespace + storage name
 *     struct mailbox *box;                        mailbox_open: shared per process, counted
 *     struct mailbox_view *view;                  a session's selected state: numbering, \Recent, read-only
 *     struct store_op *op = mailbox_sync(...);    everything that locks or takes long goes in steps
 *
 * How things happen. Reading is synchronous and short. What changes the store is a `struct store_op`: made by a
 * function, run by store_op_step until it is not STEP_MORE or STEP_WAIT; programs that do one thing call
 * store_op_wait. Flag changes and expunges are an internal index batch (index.h), committed by mailbox_commit; a
 * mailbox_sync afterwards carries them out in the files. Saving is in two phases: save_begin/_write/_finish stage a
 * message without any lock, save_commit makes it durable, then publishes all staged ones together under the lock.
 *
 * A name becomes a path in one place (mailbox_place), rights are checked in one place (mailbox_need, called by every
 * function here). Errors carry in `user` what Dovecot says to clients; classes as in base/error.h. */
#ifndef YARILO_STORE_STORE_H
#define YARILO_STORE_STORE_H

#include "base/base.h"
#include "conf/conf.h"
#include "index/index.h"
#include "mime/mime.h"

struct mail_user;
struct mailbox;
struct mailbox_view;
struct mail;
struct store_op;

/* ---- operations in steps --------------------------------------------------------------------------------------- */

/* One slice. STEP_DONE: the result stands where the maker of the op was told to put it. STEP_MORE: call again.
 * STEP_WAIT: call again after store_op_retry_ms, or when woken. STEP_ERROR: nothing was changed, unless the maker says
 * otherwise. */
enum step store_op_step(struct store_op *, struct budget *, struct error *);
/* Called when waiting may be over (another job of this mailbox ended, an fsync is done). Idempotent, may come at any
 * time from the loop, not from inside a step. */
void store_op_set_wake(struct store_op *, void (*wake)(void *arg), void *arg);
unsigned store_op_retry_ms(const struct store_op *);   /* after STEP_WAIT: at most so long; 0 = only when woken */
void store_op_free(struct store_op **);                /* also cancels one that has not ended; NULL is fine */
/* Goes on with work that nobody waits for, and gives up when that has to wait for others `ms` long. Frees it. */
void store_op_finish(struct store_op *, unsigned ms);
/* Runs it to the end, sleeping where needed, and frees it. 0, or -1. For programs without a loop. */
int store_op_wait(struct store_op *, struct error *);

/* ---- users and namespaces -------------------------------------------------------------------------------------- */

struct mail_user_params {
    const char *username;
    const char *home;             /* NULL = unknown */
    const char *service;          /* "imap", "lmtp", "doveadm": %s */
    const char *session_id;       /* %{session}; NULL = none */
    const char *local_ip, *remote_ip;
    const char *const *fields;    /* userdb fields "key=value" for %{userdb:key}, NULL-ended; NULL = none. Those that
                                     override settings are applied by the caller (settings_override_all) */
    const struct log *log;        /* for lines about this user's store; copied prefix; NULL = the process's */
    bool no_notify;               /* one-shot program: no watches */
    /* The home of another user, for namespaces that are made per owner (%%h); *home NULL: there is no such user. May wait.
     * NULL = nobody can be asked. */
    int (*find_home)(void *arg, const char *username, struct arena *, const char **home, struct error *);
    void *find_home_arg;
};

/* `settings` are referenced. Never creates files. Errors as Dovecot logs them ("Namespace '': ..."). */
int mail_user_open(struct mail_user **, struct settings *, const struct mail_user_params *, struct error *);
struct mail_user *mail_user_ref(struct mail_user *);
void mail_user_close(struct mail_user **);             /* drops the reference */
const char *mail_user_name(const struct mail_user *);
const char *mail_user_home(const struct mail_user *);  /* NULL = unknown */
bool mail_user_is_admin(const struct mail_user *);     /* the user database said admin=y: SETQUOTA is allowed */
const struct settings *mail_user_settings(const struct mail_user *);
const struct log *mail_user_log(const struct mail_user *);
/* Expands %-variables of the user (config 9). */
char *mail_user_expand(const struct mail_user *, struct arena *, const char *text, struct error *);

enum mail_namespace_type { MAIL_NAMESPACE_PRIVATE, MAIL_NAMESPACE_SHARED, MAIL_NAMESPACE_PUBLIC };
enum mail_namespace_list { MAIL_NAMESPACE_LIST_NO, MAIL_NAMESPACE_LIST_YES, MAIL_NAMESPACE_LIST_CHILDREN };

struct mail_namespace {
    struct mail_namespace *next;       /* in the order of LIST */
    unsigned order;                    /* in the NAMESPACE reply; equal ones as in LIST */
    struct mail_user *user;
    const char *name, *prefix;         /* section name; vname prefix */
    char separator;                    /* what clients see */
    enum mail_namespace_type type;
    enum mail_namespace_list list;
    bool inbox, hidden, subscriptions;
    bool unusable;                     /* the root namespace that is added internally when none has prefix "" */
    const char *owner;                 /* whose mailboxes they are; NULL = nobody's (public), or each owner's own instance's */
    struct shared_template *template;  /* type=shared with %%u: the mailboxes are in instances, one an owner (shared.c); NULL = no */
    bool owner_inbox;                  /* of an instance: its name without separator is the owner's INBOX */
    struct mail_namespace *alias_for;  /* NULL = none */
    struct mail_storage *storage;      /* internal (location.h) */
};
struct mail_namespace *mail_user_namespaces(const struct mail_user *);   /* list */
struct mail_namespace *mail_user_inbox_namespace(const struct mail_user *);

/* ---- names ----------------------------------------------------------------------------------------------------- */

#define MAILBOX_NAME_MAX 4096          /* bytes of a vname (maildir-and-layouts 3.3) */

struct mailbox_place {
    struct mail_namespace *ns;
    const char *vname;                 /* UTF-8 as clients see it, INBOX in capitals, no trailing separator */
    const char *name;                  /* storage name; "" = the namespace's own prefix */
};
/* From a client's name in UTF-8 (IMAP: decode mUTF-7 first) to a place; strings live in the arena. Refusals are
 * ERROR_INVALID with the texts of maildir-and-layouts 3.4 in user ("Invalid mailbox name: ..."); the mailbox need not
 * exist. */
int mailbox_place(struct mail_user *, struct arena *, struct slice vname, struct mailbox_place *, struct error *);
/* The same for a name that is to be created (CREATE, RENAME target): control characters and lengths too. One
 * trailing separator is allowed; *directory tells that there was one (a container is meant). */
int mailbox_place_new(struct mail_user *, struct arena *, struct slice vname, struct mailbox_place *, bool *directory,
                      struct error *);

enum { /* RFC 4314 letters; all of them for one's own mailboxes */
    MAILBOX_RIGHT_LOOKUP = 0x1, MAILBOX_RIGHT_READ = 0x2, MAILBOX_RIGHT_SEEN = 0x4, MAILBOX_RIGHT_WRITE = 0x8,
    MAILBOX_RIGHT_INSERT = 0x10, MAILBOX_RIGHT_POST = 0x20, MAILBOX_RIGHT_EXPUNGE = 0x40, MAILBOX_RIGHT_CREATE = 0x80,
    MAILBOX_RIGHT_DELETE = 0x100, MAILBOX_RIGHT_TRASH = 0x200, MAILBOX_RIGHT_ADMIN = 0x400, MAILBOX_RIGHTS_ALL = 0x7ff
};
unsigned mailbox_rights(const struct mailbox_place *);
/* From here on rights are not asked for, or are again: doveadm acts for the administrator. */
void mail_user_set_unchecked(struct mail_user *, bool);
/* ERROR_NOT_FOUND ("Mailbox doesn't exist: x") without lookup, else ERROR_PERMISSION ("Permission denied"). */
int mailbox_need(const struct mailbox_place *, unsigned rights, struct error *);
int mailbox_need_any(const struct mailbox_place *, unsigned rights, struct error *);   /* one of them is enough */
/* May a mailbox of this name be made? Its parent's right, or the namespace's default; always ERROR_PERMISSION. */
int mailbox_need_create(const struct mailbox_place *, struct error *);

/* ---- the list -------------------------------------------------------------------------------------------------- */

enum { /* what to yield, what to find out */
    MAILBOX_LIST_SELECT_SUBSCRIBED = 0x1,    /* LSUB, LIST (SUBSCRIBED): only subscribed names, existing or not */
    MAILBOX_LIST_SELECT_RECURSIVE = 0x2,     /* RECURSIVEMATCH: parents of selected ones too */
    MAILBOX_LIST_SELECT_SPECIAL_USE = 0x4,
    MAILBOX_LIST_RETURN_SUBSCRIBED = 0x8,
    MAILBOX_LIST_RETURN_CHILDREN = 0x10,
    MAILBOX_LIST_RETURN_SPECIAL_USE = 0x20,
    MAILBOX_LIST_LSUB = 0x40,                /* as LSUB: with RECURSIVE, parents of subscribed ones as NOSELECT */
    MAILBOX_LIST_HIDDEN = 0x80               /* also namespaces with list = no (doveadm) */
};
enum { /* mailbox_info.flags */
    MAILBOX_INFO_NOSELECT = 0x1, MAILBOX_INFO_NONEXISTENT = 0x2, MAILBOX_INFO_NOINFERIORS = 0x4,
    MAILBOX_INFO_CHILDREN = 0x8, MAILBOX_INFO_NOCHILDREN = 0x10, MAILBOX_INFO_MARKED = 0x20,
    MAILBOX_INFO_UNMARKED = 0x40, MAILBOX_INFO_SUBSCRIBED = 0x80, MAILBOX_INFO_CHILD_SUBSCRIBED = 0x100,
    MAILBOX_INFO_CHILD_SPECIAL_USE = 0x200,
    MAILBOX_INFO_BY_INDEX = 0x400            /* a format whose list index tells all that there is to know (dbox) */
};
struct mailbox_info {
    struct mail_namespace *ns;
    const char *vname;           /* UTF-8 */
    unsigned flags;
    const char *special_use;     /* "\Sent", several separated by spaces; NULL = none */
    const struct mailbox_status *status;   /* what mailbox_list_ask wanted, where the list index knows it; else NULL */
};
/* Patterns are UTF-8 with '*' and '%', already joined with the reference. Matching is linear and uncapped. Everything
 * in the result lives until mailbox_list_end. */
struct mailbox_list;
struct mailbox_list *mailbox_list_begin(struct mail_user *, const struct slice *patterns, size_t count, unsigned flags);
/* STEP_MORE with *info filled: one mailbox. STEP_DONE: no more. STEP_ERROR: one namespace failed (the others were
 * yielded); call no more. STEP_WAIT: slice used up without a result, call again. */
enum step mailbox_list_next(struct mailbox_list *, struct budget *, const struct mailbox_info **, struct error *);
/* STATUS_... that will be asked for of each mailbox: a look at the list index is shared with LIST's own. */
void mailbox_list_ask(struct mailbox_list *, unsigned status_items);
void mailbox_list_end(struct mailbox_list **);
bool mailbox_pattern_match(struct slice pattern, struct slice vname, char separator);

/* Does it exist? MAILBOX_EXISTS_NO, a container, or a mailbox. auto = create ones and INBOX say yes. */
enum mailbox_existence { MAILBOX_EXISTS_NO, MAILBOX_EXISTS_NOSELECT, MAILBOX_EXISTS_YES };
int mailbox_exists(const struct mailbox_place *, bool auto_boxes, enum mailbox_existence *, struct error *);

/* Special uses that clients give count for this user, beside those of the settings (RFC 6154 section 3). */
void mail_user_keep_special_uses(struct mail_user *);
/* ERROR_EXISTS "Mailbox already exists". directory: only the container (fs layouts). special_use ("\\Sent \\Trash") may be NULL;
 * ERROR_UNSUPPORTED where nothing keeps it (mail_attribute_dict). */
struct store_op *mailbox_create(const struct mailbox_place *, bool directory, const char *special_use);
struct store_op *mailbox_delete(const struct mailbox_place *);
struct store_op *mailbox_rename(const struct mailbox_place *from, const struct mailbox_place *to);
/* The mailbox need not exist for taking a subscription away; IMAP checks existence before setting one. */
struct store_op *mailbox_subscribe(const struct mailbox_place *, bool on);
bool mailbox_subscribed(const struct mailbox_place *);
/* Full names as they stand in the file that keeps this namespace's subscriptions, in its order; in the arena. */
int mail_namespace_subscriptions(const struct mail_namespace *, struct arena *, const char ***names, size_t *n, struct error *);

/* ---- mailboxes ------------------------------------------------------------------------------------------------- */

enum {
    MAILBOX_OPEN_CREATE = 0x1,    /* create what is missing (LMTP autocreate). INBOX and auto=create always are */
    /* What it is opened for, else for reading: to save into (APPEND, target of COPY), to deliver into, or by somebody whose
     * rights have been looked at. */
    MAILBOX_OPEN_SAVE = 0x2, MAILBOX_OPEN_POST = 0x4, MAILBOX_OPEN_UNCHECKED = 0x8
};
/* One object per mailbox and process; further opens share it. ERROR_NOT_FOUND "Mailbox doesn't exist: x". Does not
 * sync: run mailbox_sync before looking. */
int mailbox_open(struct mailbox **, const struct mailbox_place *, unsigned flags, struct error *);
struct mailbox *mailbox_ref(struct mailbox *);
void mailbox_close(struct mailbox **);
const struct mailbox_place *mailbox_where(const struct mailbox *);
struct index *mailbox_index(const struct mailbox *);
const char *mailbox_format(const struct mailbox *);    /* "maildir", "sdbox" ... */
/* From a message of a virtual mailbox to the one behind it (not referenced, open as long as *box is); others stay. */
void mailbox_origin(struct mailbox **box, uint32_t *uid);
/* 16 bytes (maildir-and-layouts 7). */
int mailbox_guid(struct mailbox *, unsigned char guid[16], struct error *);
bool mailbox_read_only(const struct mailbox *);        /* the file system or rights say so */
/* May new keywords be made (PERMANENTFLAGS \*)? */
bool mailbox_new_keywords(const struct mailbox *);

enum sync_why {
    SYNC_POLL,      /* what others did (NOOP, IDLE news); cheap when nothing happened */
    SYNC_FAST,      /* the same after FETCH, SEARCH, COPY: a virtual mailbox does not look at those behind it */
    SYNC_SELECT,    /* a read-write session selects: also takes \Recent, moves new/ to cur/ */
    SYNC_APPLY,     /* after a commit: carry out this and other requests */
    SYNC_FULL,      /* CHECK, doveadm index: look at everything */
    SYNC_RESYNC     /* doveadm force-resync: distrust index and uidlist */
};

/* doveadm force-resync -f: the index is checked and written anew, whatever it looks like. */
struct store_op *mailbox_fsck(struct mailbox *);

/* A session's selected state. */
struct mailbox_view *mailbox_view_open(struct mailbox *, bool read_only);  /* references the mailbox; sync then */
/* As another process showed it, and what it held as \Recent (index_view_open_past). NULL: the mailbox is another one. */
struct mailbox_view *mailbox_view_open_past(struct mailbox *, bool read_only, const struct index_past *,
                                            const struct index_ranges *recent);
const struct index_ranges *mailbox_view_recent_uids(const struct mailbox_view *);
void mailbox_view_close(struct mailbox_view **);
struct mailbox *mailbox_view_box(const struct mailbox_view *);
struct index_view *mailbox_view_index(const struct mailbox_view *);
bool mailbox_view_read_only(const struct mailbox_view *);
bool mailbox_view_recent(const struct mailbox_view *, uint32_t uid);
uint32_t mailbox_view_recent_count(const struct mailbox_view *);   /* among the messages that the view shows */
size_t mailbox_view_memory(const struct mailbox_view *);

/* Brings index and files together. With a view: its claim to \Recent counts (SYNC_SELECT; SYNC_POLL of a read-write
 * view too). Afterwards the caller runs index_view_sync on the view for what has changed. ERROR_NOT_FOUND: the mailbox is
 * gone (deleted, renamed, its mount vanished): end the session. */
struct store_op *mailbox_sync(struct mailbox *, struct mailbox_view *, enum sync_why);

/* Commits an internal batch (STORE, EXPUNGE, cache ...) for a view and carries it out in the files, under one hold of the
 * locks. `rights`: what it needs (MAILBOX_RIGHT_EXPUNGE where it has expunge requests). A SYNC_POLL or SYNC_APPLY
 * afterwards brings in what others did. The batch's arena must live until the op ends. ERROR_PERMISSION on a read-only view. */
struct store_op *mailbox_commit(struct mailbox_view *, struct index_batch *, unsigned rights, struct index_commit *out);
/* An expunge request with the message's GUID, as Dovecot writes it. */
void mailbox_batch_expunge(struct mailbox_view *, struct index_batch *, uint32_t uid);
void mailbox_batch_moved(struct mailbox_view *, struct index_batch *, uint32_t uid);   /* the same, for MOVE: it is elsewhere now */
/* The message shall lie in the alternative storage (ALT=), or no more: done by the batch's commit (sdbox), or by the next
 * purge (mdbox). Nothing where there is no ALT. */
void mailbox_batch_altmove(struct mailbox_view *, struct index_batch *, uint32_t uid, bool to_alt);

/* doveadm purge: takes the space of messages that no mailbox has any more (mdbox), and moves between the storages what
 * altmove has chosen. Formats that keep nothing have nothing to do. */
struct store_op *mail_namespace_purge(struct mail_namespace *);

/* What clients know a mailbox by. Zeros: left as they are; numbers never go down, but for a UIDVALIDITY. */
struct mailbox_identity {
    uint32_t uid_validity, next_uid, first_recent;
    uint64_t highest_modseq;
    unsigned char guid[16];
    bool replace; /* the administrator's wish: whatever it has or had */
};
/* The mailbox, open and synced, takes the place of another one (conversion to another format). ERROR_EXISTS when it has
 * or had messages of another UIDVALIDITY or GUID, ERROR_UNSUPPORTED when its format cannot. LAYOUT=index keeps its own GUID: the folder is
 * called so. Sync it afterwards. */
struct store_op *mailbox_adopt(struct mailbox *, const struct mailbox_identity *);
/* Takes the messages from this UID on away again, as if they had never been there: those of a conversion that a rebuild by Dovecot
 * has given other UIDs than they are to have. The caller has made sure that each of them is elsewhere. Not in formats where
 * that does not happen. */
bool mailbox_can_unplace(const struct mailbox *);
struct store_op *mailbox_unplace(struct mailbox *, uint32_t first_uid);

enum {
    STATUS_MESSAGES = 0x1, STATUS_RECENT = 0x2, STATUS_UIDNEXT = 0x4, STATUS_UIDVALIDITY = 0x8, STATUS_UNSEEN = 0x10,
    STATUS_HIGHESTMODSEQ = 0x20, STATUS_SIZE = 0x40, STATUS_GUID = 0x80, STATUS_DELETED = 0x100,
    STATUS_FIRST_SAVED = 0x200, STATUS_DELETED_STORAGE = 0x400, STATUS_FIRST_RECENT = 0x800
};
struct mailbox_status {
    uint32_t messages, recent, uid_next, uid_validity, unseen, deleted, first_recent;
    uint64_t highest_modseq, highest_private_modseq;   /* private: 0 = there is no private index */
    uint64_t size;              /* virtual */
    uint64_t deleted_storage;   /* bytes that an expunge of what is \Deleted gives back */
    unsigned char guid[16];
    time_t first_saved;         /* 0 = none */
    bool from_list_index;       /* answered without opening the mailbox */
};
/* From the list index when that is current, else the mailbox is opened and polled. `out` and place must live until the
 * end. */
struct store_op *mailbox_status(const struct mailbox_place *, unsigned items, struct mailbox_status *out);

/* How far it is. Numbers of messages as the view has them. */
struct mailbox_precache {
    uint32_t first, last;       /* what is to do: none when first > last; first is 0 until it is known */
    uint32_t seq;               /* done up to here; it may stop between any two steps */
    uint32_t cached;            /* messages that were read */
    uint32_t first_uid, last_uid;   /* of those that were tried; 0 = none */
};
/* Puts into the index cache what its decisions want of the messages behind the last one that it has something of. View and *out
 * must live until the end. STEP_ERROR: some could not be read; the others were. */
struct store_op *mailbox_precache(struct mailbox_view *, struct mailbox_precache *out);
/* Brings the remembered sum of virtual sizes up to date, where there is one: what mail_vsize_bg_after_count has left. */
struct store_op *mailbox_finish_vsize(struct mailbox *);

/* At the end of a session or delivery: what the mailbox blocks let go. Cheap to ask whether there are any. */
bool mail_user_has_autoexpunge(const struct mail_user *);
struct store_op *mail_user_autoexpunge(struct mail_user *);   /* references the user */

/* ---- messages -------------------------------------------------------------------------------------------------- */

/* A handle for looking at one message; everything it returns lives in it. Values come from the index cache, else from one
 * parse, whose results go to the cache where decisions want them. ERROR_EXPUNGED: the file is gone (or the number
 * unknown). Call index_cache_flush(mailbox_index(box)) at the end of a command. */
int mail_open(struct mailbox_view *, uint32_t seq, struct mail **, struct error *);
int mail_open_uid(struct mailbox *, uint32_t uid, struct mail **, struct error *);   /* without a view */
void mail_close(struct mail **);
uint32_t mail_uid(const struct mail *);
struct arena *mail_arena(struct mail *);               /* for what belongs to this message */

int mail_internal_date(struct mail *, int64_t *unix_time, struct error *);
int mail_save_date(struct mail *, int64_t *unix_time, struct error *);
int mail_sent_date(struct mail *, int64_t *unix_time, int *zone, struct error *);   /* Date: header; 0, 0 = none */
int mail_size_physical(struct mail *, uint64_t *, struct error *);
int mail_size_virtual(struct mail *, uint64_t *, struct error *);    /* RFC822.SIZE */
int mail_guid(struct mail *, const char **text, struct error *);
int mail_guid128(struct mail *, unsigned char guid[16], struct error *);
int mail_pop3_uidl(struct mail *, const char **text, struct error *);      /* NULL = none stored */
int mail_pop3_order(struct mail *, uint32_t *, struct error *);            /* 0 = none */
int mail_refcount(struct mail *, uint32_t *, struct error *);              /* how many messages share its bytes */

/* The bytes (decompressed, decrypted). Valid until mail_close. */
int mail_source(struct mail *, const struct mime_source **, struct error *);
/* A part without its transfer encodings, those of its children too, whole in memory (binary.c): of the mail, the numbers, or TEXT
 * there. Nothing in *out: no such part. */
struct mail_binary {
    bool decoded;              /* something was, or it holds NULs: ~{n} */
    bool unknown, broken;      /* an encoding that is not known, or invalid: *out is not to be used */
};
int mail_binary(struct mail *, const struct mime_section *, struct buffer *out, struct mail_binary *, struct error *);
/* The size of that as BINARY.SIZE tells it: where lines end in LF on the disk, with a fault of the real server's. It takes a part
 * to be as long there as it is with CRLFs, and counts in what the decoding changes of encoded parts that begin within that. */
int mail_binary_size(struct mail *, const struct mime_section *, struct buffer *scratch, uint64_t *size, struct mail_binary *,
                     struct error *);
/* The structure; with `data` the headers of all parts (for BODYSTRUCTURE, searches). */
int mail_parts(struct mail *, bool data, struct mime_part **root, struct error *);
/* The header up to and with its empty line, as stored. */
int mail_header(struct mail *, struct slice *block, struct error *);
/* A header block that holds at least the named fields (from hdr.* in the cache, else the whole header). */
int mail_header_fields(struct mail *, const struct slice *names, size_t count, struct slice *block, struct error *);
/* Headers that are asked for message after message: a block for each, that holds at least its fields. Nothing is put together. */
struct mail_headers;
struct mail_headers *mail_headers_new(struct arena *, const struct slice *names, size_t count);
int mail_headers_get(struct mail *, const struct mail_headers *, struct slice *blocks, struct error *);
/* IMAP texts without the outermost parentheses; that of the envelope is appended. */
int mail_envelope(struct mail *, struct buffer *out, struct error *);
int mail_structure(struct mail *, bool extended, struct slice *text, struct error *);
int mail_preview(struct mail *, struct slice *text, struct error *);
/* Path of the file for diagnostics; NULL when the format has none. */
const char *mail_path(struct mail *);

/* ---- saving ---------------------------------------------------------------------------------------------------- */

struct mail_meta {
    uint8_t flags;                    /* INDEX_SEEN ... */
    const struct slice *keywords;
    size_t keyword_count;
    bool has_date;
    int64_t internal_date;            /* with has_date, else now */
    int64_t save_date;                /* 0 = now */
    const char *guid;                 /* NULL = a new one */
    const char *pop3_uidl;            /* NULL = none */
    uint32_t pop3_order;              /* 0 = none */
    uint32_t uid;                     /* dsync: wanted UID; 0 = next */
    uint64_t min_modseq;              /* dsync; 0 = none */
    const char *envelope_sender;      /* mbox; NULL = none */
    bool post;                        /* a delivery: the right to post counts, not the one to insert */
    bool quota_unknown;               /* quota_check_ahead could not tell: it is let through */
};

int store_message_gone(uint32_t uid, struct error *);   /* ERROR_EXPUNGED; -1 */

struct save; /* one staged message */
/* Everything in meta is copied. Nothing of a staged message can be seen by anybody. ERROR_SPACE, ERROR_QUOTA. */
int save_begin(struct mailbox *, const struct mail_meta *, struct save **, struct error *);
int save_write(struct save *, struct slice, struct error *);   /* line ends are converted as mail_save_crlf says */
int save_finish(struct save *, struct error *);                /* all bytes are there */
void save_cancel(struct save **);                              /* leaves nothing; NULL is fine */
uint64_t save_size(const struct save *);                       /* physical; after save_finish */
/* Stages a copy of a message: hard link or reference where the format can, else by content. Flags, keywords, dates are
 * the source's unless meta is given (a MOVE gives the GUID too). */
int save_copy(struct mailbox *to, struct mailbox *from, uint32_t uid, const struct mail_meta *, struct save **,
              struct error *);
/* The same for a message that leaves its place with it (MOVE): it takes no new room. */
int save_move(struct mailbox *to, struct mailbox *from, uint32_t uid, const struct mail_meta *, struct save **,
              struct error *);
/* A second staged message with the same bytes for another mailbox (one delivery to many): a link on the same file
 * system. */
int save_again(struct save *, struct mailbox *to, const struct mail_meta *, struct save **, struct error *);

struct save_result {
    uint32_t uid_validity;
    const uint32_t *uids;         /* in the order of `saves`; 0 = not known (plain delivery beside a busy writer) */
    uint64_t highest_modseq;
    const char *const *storage_ids; /* %{storage_id} of each: Maildir's base name, dbox's GUID; "" = none */
    const bool *gone;             /* copies that were left out (save_commit_skips_gone) */
};
/* Durable, then published together: all or none. Takes the saves (the array is copied, the saves are gone afterwards,
 * whatever happens). need_uids: wait for the lock so that UIDs can be told (UIDPLUS); a delivery says false.
 * `view`: what the saving session has selected, or NULL; if that is this mailbox, read-write, the session takes the new
 * messages over as recent before any other can see them. The arrays in *out live in the arena. An acknowledged message is
 * on disk: file, folder, and what names it. */
struct store_op *save_commit(struct mailbox *, struct save **saves, size_t count, bool need_uids,
                             struct mailbox_view *view, struct arena *, struct save_result *out);
/* Before it is run: copies of messages that have been expunged since they were staged are left out. Without this one of them
 * lets all fail with ERROR_EXPUNGED, as COPY has it. */
void save_commit_skips_gone(struct store_op *);

/* ---- news ------------------------------------------------------------------------------------------------------ */

/* One inotify descriptor per process: add store_watch_fd to the loop, call store_watch_poll when it is readable. -1: not
 * available (limits); sessions then poll by mailbox_idle_check_interval. */
int store_watch_fd(void);
void store_watch_poll(void);
/* `news` is called from store_watch_poll, and from ops of other sessions of this process that changed the mailbox:
 * run mailbox_sync(SYNC_POLL) then. NULL: no watch possible. */
struct mailbox_watch;
struct mailbox_watch *mailbox_watch_add(struct mailbox *, void (*news)(void *arg), void *arg);
void mailbox_watch_remove(struct mailbox_watch **);
/* A descriptor of its own that becomes readable when the mailbox may have changed, for a process that waits in this one's
 * place. It counts against the user's fs.inotify.max_user_instances. -1: not possible (no notification, a mailbox without
 * files of its own, limits). */
int mailbox_watch_open(struct mailbox *, struct error *);

/* The same for all of a user's mailboxes: names, counts, subscriptions (list_watch.c). `news` only takes note; what has changed
 * the caller finds out by looking. NULL: not possible. The descriptor is there from the first watch on. */
struct list_watch;
struct list_watch *mailbox_list_watch_add(struct mail_user *, void (*news)(void *arg), void *arg);
void mailbox_list_watch_remove(struct list_watch **);
int store_list_watch_fd(void);
void store_list_watch_poll(void);

#endif
