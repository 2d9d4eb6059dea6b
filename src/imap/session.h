/* Inside of src/imap: sessions, requests (a command that a client sent), the table of commands.
 *
 *     bytes -> session_step -> parser -> struct request -> command->begin (arguments -> what to do)
 *           -> command->run (in steps) -> synchronisation (sync.c) -> tagged reply (reply.c)
 *
 * A command is data first: see commands.c. `begin` looks at the arguments; it answers with request_bad, request_no or
 * request_ok, or leaves the request to `run`. `run` is a coroutine by hand: it does one slice and returns a step;
 * what it keeps between steps lives in request->state, in the request's arena. A request whose reply is set is over.
 *
 * Requests that want a synchronisation wait for it together (imap 6.2), at most SESSION_QUEUE of them. */
#ifndef YARILO_IMAP_SESSION_H
#define YARILO_IMAP_SESSION_H

#include "imap/imap.h"
#include "imap/parser.h"
#include "imap/set.h"
#include "net/rawlog.h"
#include "net/stream.h"
#include "store/store.h"

#include <uthash.h>

enum { SESSION_QUEUE = 4, SESSION_BAD_MAX = 20 };
enum { SESSION_INPUT_SECS = 30 * 60, SESSION_OUTPUT_SECS = 5 * 60, SESSION_FINISH_SECS = 5 };

struct request;

enum command_flags {
    COMMAND_SELECTED = 0x1,   /* needs a selected mailbox; said before the arguments are looked at */
    COMMAND_SYNC = 0x2,       /* wants a synchronisation before its tagged reply */
    COMMAND_HOLD = 0x4,       /* ... in which no EXPUNGE may be sent (RFC 3501 section 7.4.1) */
    COMMAND_ALONE = 0x8,      /* changes the mailbox: earlier commands are answered first */
    COMMAND_LITERAL8 = 0x20,
    COMMAND_MESSAGE = 0x40,   /* literals are messages that are not gathered (APPEND) */
    COMMAND_NEWMAIL = 0x100,  /* tells of new and gone messages even with the workaround delay-newmail (imap 7.1) */
    COMMAND_FAST = 0x200,     /* a virtual mailbox does not look behind itself for the synchronisation (imap 12.9) */
    COMMAND_LATE = 0x80       /* SELECTED is checked by begin itself, after the arguments (COPY, MOVE, UID EXPUNGE) */
};

struct command {
    const char *name;         /* upper case, with "UID " */
    unsigned flags;
    int args;                 /* top-level arguments to read: ARGS_NONE, ARGS_ALL, or a number */
    void (*begin)(struct session *, struct request *);
    enum step (*run)(struct session *, struct request *, struct budget *, struct error *); /* NULL: begin did it all */
    void (*end)(struct session *, struct request *);   /* gives back what `state` holds; may be NULL */
    const char *plugin;       /* exists only when mail_plugins names it */
    const char *extension;    /* ... when imap_capability names it */
    /* The line is broken behind what `args` holds: may answer for that instead of the parser, as the real server does where it reads
     * argument by argument. */
    void (*broken)(struct session *, struct request *);
};
enum { ARGS_NONE = -1, ARGS_ALL = 0 };

const struct command *command_find(bool uid, struct slice name);

struct request {
    struct request *next;
    const struct command *command;
    struct arena *arena;
    char *tag;
    char *name;               /* upper case, with "UID " */
    bool uid;
    bool hold;                /* of the synchronisation; from the command's flags, SEARCH decides itself */
    bool sync;
    bool quiet;               /* COPY into the selected mailbox: delay-newmail holds */
    bool send_uid;            /* FETCHs of the synchronisation name the UID (UID STORE) */
    bool condstore;           /* CONDSTORE has to be turned on before run */
    bool arena_kept;          /* somebody else owns the arena now (updates.h) */
    bool untimed;             /* the reply does not say how long it took (imap 13) */
    bool stray;               /* a line of its own follows that is no command (CATENATE, imap 2) */
    bool ended;               /* command->end was called */
    struct imap_parser parser;
    const struct imap_arg *args;
    void *state;
    struct store_op *op;      /* the operation that request_op works on */
    struct store_op *condstore_op;
    struct mailbox_view *writer;  /* for commits out of an examined mailbox */
    bool condstore_asked;
    const char *limited;      /* "[MESSAGELIMIT n uid] " of a reply for only a part of the messages; NULL: for all (limit.c) */
    const char *reply;        /* "OK Fetch completed." once it is over */
    uint64_t begun_ns, run_ns, last_ns, progress_ns;
    uint64_t bytes_in, out_before; /* what IDLE has read; the session's output when the command began */
    const char *typed;        /* the name as the client wrote it; NULL: nobody counts */
    uint64_t taken, written;  /* of the session's when it began */
};

/* A keyword name as this session shows it: names of the index, and those that were only mentioned (imap 9.3). A hash
 * by the name in lower case; walking it gives the order in which the session learnt them. */
struct session_keyword {
    char *name, *key;
    int bit;                  /* in the index; -1: not there */
    UT_hash_handle hh;
};

/* On the way back to the login process: output is written, the rest of the input awaited, given back, it may go. */
enum session_leaving { LEAVING_NOT, LEAVING_OUTPUT, LEAVING_INPUT, LEAVING_REST, LEAVING_DONE };

enum session_phase { PHASE_LINE, PHASE_ARGS, PHASE_CONDSTORE, PHASE_RUN, PHASE_SKIP, PHASE_SYNC, PHASE_NOTIFY, PHASE_OVER };

struct session_stats {
    uint64_t hdr_count, hdr_bytes, body_count, body_bytes;
    uint32_t deleted, expunged, trashed, appended;
    uint64_t bytes_in, bytes_out;         /* before the session was at rest (hibernate.h) */
};

struct session {
    struct session *next, *prev;          /* of the worker */
    struct session *next_run;             /* run queue */
    struct imap_worker *worker;
    uint32_t id;
    bool queued;
    bool closed;                          /* the stream has told that the client's side has ended */
    uint64_t over_ns;                     /* since when the session is over */
    bool returns;                         /* UNAUTHENTICATE is possible */
    enum session_leaving leaving;

    struct stream *io;
    struct rawlog *rawlog;                /* NULL: none */
    struct compression *compression;      /* NULL: none */
    bool compress_next;                   /* after the reply that is to come */
    struct settings *set;
    struct mail_user *user;
    struct log log;
    char *session_id;
    char *local_ip, *remote_ip;           /* NULL = unknown */
    uint64_t taken, written;              /* bytes of the protocol, used and sent */
    char *title;                          /* of the process (verbose_proctitle): user and address */
    ev_timer retry;                       /* of a waiting store_op */
    ev_timer alarm;                       /* idle notices and the news delay */

    enum session_phase phase, after_sync;
    uint64_t skip;                        /* bytes of a literal that are still to be skipped (PHASE_SKIP) */
    struct request *now;
    struct request *finished, **finished_tail;
    unsigned finished_count;
    struct sync *sync;                    /* a synchronisation in progress (sync.c) */
    unsigned bad_count;
    char *end_text;                       /* owned */
    char *last_command;
    uint64_t last_command_ns;

    bool condstore, qresync, id_logged;
    bool rev2, utf8, uidonly;             /* extensions that ENABLE has turned on (extensions.c) */

    /* the selected mailbox */
    struct mailbox *box;
    struct mailbox_view *view;
    bool examined, modseq_told;
    uint32_t messages, recent;            /* as last told */
    uint32_t unseen;                      /* at the last synchronisation */
    uint64_t modseq_confirmed;
    uint64_t modseq_fetched;              /* the highest that a FETCH has shown since the last reply that looked at it */
    uint64_t modseq_heard;                /* the mailbox's when all that had happened was told last */
    struct index_ranges saved;            /* UIDs of "$" */
    struct index_ranges *unreadable;      /* UIDs that FETCH could not read; NULL: none */
    struct mime_hint hint;                /* where the last partial FETCH ended, of message hint_uid */
    uint32_t hint_uid;
    struct urlauth_remote *remote;        /* URLs of others (urlauth_remote.h); NULL: none was asked for */
    struct notify *notify;                /* NOTIFY was given (notify.h); NULL: never */
    struct search_update *updates;        /* searches that are watched (updates.h) */
    char *keywords_of;                    /* the mailbox whose keyword names stand in `keywords` */
    struct session_keyword *keywords;
    unsigned keywords_told, keywords_seen; /* of all of them; of the index's */

    /* IDLE */
    struct mailbox_watch *watch;
    bool news;
    uint64_t keepalive_ns;
    char *origin;                         /* what imap-hibernate needs to know of the login (rpc/dispatch.h); NULL: stays here */
    struct hibernation *hibernation;      /* on its way to rest (hibernate.h) */
    bool rest_failed;                     /* ... was tried in vain: not again in this IDLE */

    struct session_stats stats;
};

/* ---- session.c ---- */
struct session *session_new(struct imap_worker *, int fd, int out_fd, const struct imap_login *);
void session_free(struct session *);
/* One slice. DONE: the session is over. */
enum step session_step(struct session *, struct budget *);
/* Over, and its last words are out (or nobody takes them): it may be freed. */
bool session_may_go(struct session *);
/* Puts it on the run queue; idempotent; from the loop, never from inside a step of the same session. */
void session_wake(struct session *);
/* Last line for the client ("* BYE text"; NULL: none), then the connection ends. `reason` for the log. */
void session_bye(struct session *, const char *bye, const char *reason);
void session_kick(struct session *, const char *bye);
struct store_op *session_enable_modseqs(struct session *, struct request *);
/* The client shows that it knows CONDSTORE. In `run`: when the phase has changed, it returns STEP_MORE, and is called again. */
void session_turn_on_modseqs(struct session *);
size_t session_memory(const struct session *);
/* imap_logout_format with its values. */
const char *session_stats_text(struct session *, struct arena *);
/* The line of the log at the end of a session. */
void session_log_end(struct session *, const char *reason);
bool session_fetch_failed(struct session *, uint32_t uid); /* notes it; has it failed before, in this mailbox? */
/* An IDLE that was begun in another process goes on; `reply`: it has ended there, this is its (untimed) answer. */
void session_resume_idle(struct session *, const char *tag, const char *reply);

/* ---- event.c: what is told to the stats service ---- */
void event_begin(struct session *, struct request *);            /* its name has been read */
void event_finished(struct session *, const struct request *);   /* the tagged reply has been sent */

/* ---- compress.c: all bytes of a session pass here ---- */
struct slice session_input(struct session *);
void session_consume(struct session *, size_t);
void session_write(struct session *, struct slice);
void session_write_tagged(struct session *, struct slice line);
/* Where bytes may be put that session_wrote then says are written; NULL: to be put elsewhere, and written. */
unsigned char *session_room(struct session *, size_t size);
void session_wrote(struct session *, struct slice);
void session_flush(struct session *);                        /* at the end of a step */
void compression_start(struct session *);
/* Can another process go on with what stands between the session and its client (also: nothing)? */
bool compression_may_rest(const struct session *);
/* What that process needs: the last bytes that the client has sent, to which it may refer. */
void compression_put_window(struct session *, struct buffer *out);
bool compression_resume(struct session *, struct slice window);
void compression_free(struct session *);
/* The layer ends with what was written last. */
void compression_finish(struct session *);
/* What the client has sent behind the end of its own, or without a layer at all: all that was not used. */
void compression_put_rest(struct session *, struct buffer *out);

/* ---- worker.c ---- */
void worker_queue(struct imap_worker *, struct session *);
void worker_watch_lists(struct imap_worker *);               /* after the first mailbox_list_watch_add */
struct ev_loop *worker_loop(const struct imap_worker *);
struct conf *worker_conf(const struct imap_worker *);
struct stats_client *worker_stats(const struct imap_worker *);
struct auth_homes *worker_homes(struct imap_worker *, const struct settings *);
struct arena *worker_arena(struct imap_worker *);            /* a fresh one, maybe used before */
void request_arena_back(struct session *, struct request *);  /* the end of a request */
void worker_arena_back(struct imap_worker *, struct arena *);
/* A connection to the imap-urlauth services for this session: urlauth_remote_connected follows. False: this process has nobody to ask. */
bool worker_ask_urlauth(struct imap_worker *, struct session *);
void worker_session_over(struct imap_worker *, struct session *);

/* ---- reply.c ---- */
void session_print(struct session *, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* adds CRLF */
/* "OK text." and alike: the reply of a request that is over. The final '.' becomes the time it took. */
void request_reply(struct request *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* BAD Error in IMAP command NAME: text. Counts as a bad command. */
void request_bad(struct session *, struct request *, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* NO [CODE] text. for an error of the store; logs what is not the user's doing. */
void request_error(struct session *, struct request *, const struct error *);
enum error_use { ERROR_PLAIN, ERROR_TRYCREATE, ERROR_NONEXISTENT };
void request_error_as(struct session *, struct request *, const struct error *, enum error_use);
/* The text of an error with its code, without NO: "[NOPERM] Permission denied". In the arena. */
const char *append_progress_text(struct request *); /* for the log, while a message comes in; else NULL */
const char *error_reply(struct session *, struct arena *, const struct error *, enum error_use);
const char *error_internal_text(struct arena *); /* what clients hear of errors of the server, with the time of the log's line */
void reply_send(struct session *, struct request *);
void reply_bad_line(struct session *, struct slice tag, const char *problem);

/* ---- unauthenticate.c ---- */
/* One step of a session that leaves. True: it may be freed. */
bool unauthenticate_step(struct session *);
/* The connection of one that has left, which is the caller's then; else -1. */
int unauthenticate_fd(struct session *);

/* ---- extensions.c ---- */
bool session_extension(const struct session *, const char *name);
bool extension_enable(struct session *, struct slice word);
uint64_t session_append_limit(const struct session *);
void put_fetch_front(const struct session *, struct buffer *, uint32_t seq, uint32_t uid);
void put_shown_name(const struct session *, struct buffer *, const char *utf8);
enum { STATUS_SHOW_MAILBOXID = 0x10000, STATUS_SHOW_APPENDLIMIT = 0x20000 };  /* beside the store's */
unsigned status_store_items(unsigned items);

/* ---- limit.c (RFC 9738) ---- */
/* More messages than a command may change, or save: then the request has been answered. */
bool limit_refuses(const struct session *, struct request *, uint64_t count, bool saves);
/* Leaves of the messages only the last that a command may read; sets r->limited when some are left out. */
void limit_keep_last(const struct session *, struct request *, struct index_ranges *seqs);

/* ---- sync.c ---- */
/* Starts or goes on with the synchronisation for the finished requests, and answers them. DONE: none is left. */
enum step sync_step(struct session *, struct budget *);
void sync_free(struct session *);
/* The synchronisation of IDLE: news without a tagged reply. */
enum step sync_news(struct session *, struct budget *);
void session_keywords_refresh(struct session *);
struct session_keyword *session_keyword_add(struct session *, struct slice name);   /* finds, or makes one */
/* A name that the client has used: shown from now on, also if it never gets into the index. At most so many are kept. */
#define SESSION_KEYWORDS_MENTIONED 10000
void session_keyword_mention(struct session *, struct slice name);
/* The names that follow are those of this mailbox; of another one they are forgotten. */
void session_keywords_begin(struct session *, const char *vname);
void session_keywords_forget(struct session *);
void session_put_flags(struct session *, struct buffer *, uint8_t flags, bool recent, struct slice keywords);
void session_tell_flags(struct session *);                            /* FLAGS and PERMANENTFLAGS */
void session_tell_modseq(struct session *);                           /* * OK [HIGHESTMODSEQ n] Highest */
uint64_t session_highest_modseq(const struct session *);
/* Attributes have modseqs, but nothing that a session could be told. Before: does the client know all of the selected mailbox, if that is the one?
 * After so many changes of this session's own it then still does. */
bool session_knows_all(const struct session *, const struct mailbox *);
void session_knows_own(struct session *, size_t changes);
bool session_modseqs_last(const struct session *);                    /* no, where the selected mailbox has its index in memory */

/* ---- select.c ---- */
void session_unselect(struct session *);
/* The store says the mailbox is gone: BYE, end. */
void session_mailbox_lost(struct session *);

/* ---- request.c: what commands share ---- */
/* Works on request->op. DONE: the operation has ended and is freed; ERROR: too. */
enum step request_op(struct session *, struct request *, struct budget *, struct error *);
enum step session_op(struct session *, struct store_op **, struct budget *, struct error *);
void session_retry(struct session *, unsigned ms);   /* wakes the session then */
/* The argument as a mailbox name: from mUTF-7 to a place. On failure the request has been answered (true: go on). */
bool request_place(struct session *, struct request *, const struct imap_arg *, struct mailbox_place *,
                   enum error_use);
void request_place_error(struct session *, struct request *, const struct error *, enum error_use);
/* NO: there is none of this name, in UTF-8 as it was written; a '.' at its end is lost, as at the end of all texts. */
void request_no_mailbox(struct request *, struct slice name);
/* Is the word in imap_client_workarounds? */
bool session_workaround(const struct session *, const char *name);
/* mUTF-7 to UTF-8 in the request's arena; answers NO on failure. */
bool request_name(struct session *, struct request *, struct slice mutf7, struct slice *utf8);
/* A name for output: astring in mUTF-7. */
void put_mailbox(const struct session *, struct buffer *, const char *utf8);
/* Flags of STORE and APPEND: a list or atoms up to the end. False: answered. */
/* (RFC 3501 section 2.3.2) */
struct flag_list {
    uint8_t flags;
    struct slice *keywords;
    size_t keyword_count;      /* those to be set: as in the real server those before the first that is named twice */
    size_t keyword_mentions;   /* all names in `keywords`, the others behind them */
    bool repeats;              /* one was named twice */
    const char *fault;         /* of a keyword */
};
bool request_flags(struct session *, struct request *, const struct imap_arg *, bool list, struct flag_list *);
/* The arguments of a sequence set; text must be an atom (or a string for COPY). False: answered. */
bool request_set(struct session *, struct request *, struct slice text, struct index_ranges *seqs);
/* The line that tells a waiting client of long work, when nothing was said for `secs` (imap 6.1). */
bool session_may_tell_progress(struct session *, struct request *, unsigned secs);
/* 32 bits or 63 bits, digits only. */
bool imap_number(struct slice, uint64_t *);
const char *request_upper(struct request *, struct slice);
/* Status items (STATUS, LIST RETURN): false: answered. */
bool request_status_items(struct session *, struct request *, const struct imap_arg *list, unsigned *items, bool *x_size);
/* Words of LIST for mailbox_info.flags: `missing` for a name without a mailbox; with `children` \HasChildren and its like. */
void put_box_flags(struct buffer *, unsigned flags, const char *missing, bool children, bool *first);
void put_status(struct session *, struct buffer *, struct slice name, unsigned items, bool x_size,
                const struct mailbox_status *);

/* ---- status.c ---- */
struct status_sum {
    uint32_t seq;                  /* sizes of the view up to here are summed up */
    uint64_t size;
};
bool status_is_selected(const struct session *, const struct mailbox_place *);
/* Of the selected mailbox: what the session has been told, not what has come since. `items`: STATUS_SIZE is looked for; the sum begins
 * zeroed. STEP_MORE: to be called again. */
enum step status_from_view(struct session *, unsigned items, struct status_sum *, struct mailbox_status *, struct budget *);

/* ---- capability.c ---- */
bool session_plugin(const struct session *, const char *name);    /* is it in mail_plugins? */
const char *session_capabilities(struct session *, struct arena *);

/* ---- the commands, one file a family ---- */
void noop_begin(struct session *, struct request *);
void check_begin(struct session *, struct request *);
enum step check_run(struct session *, struct request *, struct budget *, struct error *);
void capability_begin(struct session *, struct request *);
void id_begin(struct session *, struct request *);
void enable_begin(struct session *, struct request *);
enum step enable_run(struct session *, struct request *, struct budget *, struct error *);
void namespace_begin(struct session *, struct request *);
void logout_begin(struct session *, struct request *);
void state_begin(struct session *, struct request *);
void cancel_begin(struct session *, struct request *);
void getmetadata_begin(struct session *, struct request *);
enum step getmetadata_run(struct session *, struct request *, struct budget *, struct error *);
void getmetadata_end(struct session *, struct request *);
void setmetadata_begin(struct session *, struct request *);
void setmetadata_broken(struct session *, struct request *);
enum step setmetadata_run(struct session *, struct request *, struct budget *, struct error *);

/* Is it a list of entry names? False: answered. */
bool metadata_entries(struct session *, struct request *, const struct imap_arg *list);
/* "* METADATA" of one mailbox for LIST (RFC 9590); a failure is told as "* NO". */
void metadata_tell(struct session *, struct request *, const struct mailbox_place *, const struct imap_arg *entries,
                   struct slice shown);

void genurlauth_begin(struct session *, struct request *);
enum step genurlauth_run(struct session *, struct request *, struct budget *, struct error *);
void genurlauth_end(struct session *, struct request *);
void resetkey_begin(struct session *, struct request *);
enum step resetkey_run(struct session *, struct request *, struct budget *, struct error *);
void resetkey_end(struct session *, struct request *);
void urlfetch_begin(struct session *, struct request *);
enum step urlfetch_run(struct session *, struct request *, struct budget *, struct error *);
void urlfetch_end(struct session *, struct request *);

void unsupported_begin(struct session *, struct request *);

void select_begin(struct session *, struct request *);
enum step select_run(struct session *, struct request *, struct budget *, struct error *);
void select_end(struct session *, struct request *);
void close_begin(struct session *, struct request *);
enum step close_run(struct session *, struct request *, struct budget *, struct error *);
void unselect_begin(struct session *, struct request *);

void create_begin(struct session *, struct request *);
void delete_begin(struct session *, struct request *);
void rename_begin(struct session *, struct request *);
void subscribe_begin(struct session *, struct request *);
void unsubscribe_begin(struct session *, struct request *);
enum step mailbox_run(struct session *, struct request *, struct budget *, struct error *);

void list_begin(struct session *, struct request *);
void lsub_begin(struct session *, struct request *);
enum step list_run(struct session *, struct request *, struct budget *, struct error *);
void list_end(struct session *, struct request *);

void status_begin(struct session *, struct request *);
enum step status_run(struct session *, struct request *, struct budget *, struct error *);

void append_begin(struct session *, struct request *);
enum step append_run(struct session *, struct request *, struct budget *, struct error *);
void append_end(struct session *, struct request *);

void store_begin(struct session *, struct request *);
enum step store_run(struct session *, struct request *, struct budget *, struct error *);
void store_end(struct session *, struct request *);
void expunge_begin(struct session *, struct request *);
enum step expunge_run(struct session *, struct request *, struct budget *, struct error *);
/* A batch with an expunge request for each \Deleted message (of `uids`, NULL = of all). False: there is none. */
bool expunge_batch(struct session *, struct arena *, const struct index_ranges *seqs, struct index_batch **);

void copy_begin(struct session *, struct request *);
enum step copy_run(struct session *, struct request *, struct budget *, struct error *);
void copy_end(struct session *, struct request *);

void fetch_begin(struct session *, struct request *);
enum step fetch_run(struct session *, struct request *, struct budget *, struct error *);
void fetch_end(struct session *, struct request *);

void search_begin(struct session *, struct request *);
enum step search_run(struct session *, struct request *, struct budget *, struct error *);
void search_end(struct session *, struct request *);
void esearch_begin(struct session *, struct request *);
enum step esearch_run(struct session *, struct request *, struct budget *, struct error *);
void esearch_end(struct session *, struct request *);
void cancelupdate_begin(struct session *, struct request *);

void notify_begin(struct session *, struct request *);
enum step notify_run(struct session *, struct request *, struct budget *, struct error *);

/* acl.c (RFC 4314) */
/* "* MYRIGHTS" for LIST; nothing where there are no lists, or no right to know (RFC 8440). */
void myrights_tell(struct session *, const struct mailbox_place *, struct slice shown);
void myrights_begin(struct session *, struct request *);
void listrights_begin(struct session *, struct request *);
void getacl_begin(struct session *, struct request *);
void setacl_begin(struct session *, struct request *);
void deleteacl_begin(struct session *, struct request *);
enum step setacl_run(struct session *, struct request *, struct budget *, struct error *);

/* quota.c (RFC 2087) */
void getquotaroot_begin(struct session *, struct request *);
void getquota_begin(struct session *, struct request *);
void setquota_begin(struct session *, struct request *);

void compress_begin(struct session *, struct request *);

void unauthenticate_begin(struct session *, struct request *);

void idle_begin(struct session *, struct request *);
void idle_resume(struct session *, struct request *, const char *reply);
enum step idle_run(struct session *, struct request *, struct budget *, struct error *);
void idle_end(struct session *, struct request *);

#endif
