/* Searching: a tree of keys as data, and the matching of one message in bounded steps.
 *
 * IMAP, doveadm, Sieve and virtual mailboxes parse their own syntax into the same tree. Keys are judged in three rounds
 * of rising cost: what the index knows, what header and sizes tell, what the bodies hold. A key that a round cannot
 * judge is unknown (three-valued logic); so most messages are decided without opening them, and a body is read once for
 * all keys together.
 *
 *     k = search_key_new(arena, SEARCH_HEADER); k->name = SLICE("Subject"); k->key = mime_key_new(arena, text);
 *     search = store_search_new(arena, root);
 *     for (seq = 1; seq <= count; seq++)
 *         while ((step = store_search_match(search, view, seq, &budget, &yes, &e)) == STEP_MORE) ...
 *     store_search_free(search); */
#ifndef YARILO_STORE_SEARCH_H
#define YARILO_STORE_SEARCH_H

#include "store/thread.h"

enum search_type {
    SEARCH_AND, SEARCH_OR,                   /* of `children`; AND without children is true, OR is false */
    SEARCH_ALL, SEARCH_NONE,
    /* the index alone */
    SEARCH_SEQS,                             /* `ranges` are sequence numbers of the view */
    SEARCH_UIDS,                             /* `ranges` are UIDs */
    SEARCH_FLAGS,                            /* any of `flags` (INDEX_SEEN ...) */
    SEARCH_RECENT,
    SEARCH_KEYWORD,                          /* `name`, in any case */
    SEARCH_MODSEQ,                           /* at least `number` */
    SEARCH_MAILBOX,                          /* the message is of the mailbox `name` (virtual ones: of the one behind) */
    SEARCH_REAL_UIDS,                        /* `ranges` are UIDs there */
    SEARCH_INTHREAD,                         /* `children`, one key, holds for a message of its thread (by `thread`) */
    /* header, sizes, dates */
    SEARCH_DATE,                             /* `date` and `when`; `number` is a day, or with `exact` a unix time */
    SEARCH_LARGER, SEARCH_SMALLER,           /* than `number` octets (virtual size) */
    SEARCH_HEADER,                           /* field `name` contains `key`; an empty key: the field is there */
    SEARCH_GUID,                             /* is `name`; `exact`: its 16 bytes are, in hexadecimal */
    SEARCH_MIMEPART,                         /* one part satisfies `part` (search_part.h) */
    /* bodies */
    SEARCH_BODY, SEARCH_TEXT                 /* contains `key` */
};
enum search_date { SEARCH_INTERNAL, SEARCH_SENT, SEARCH_SAVED };
enum search_when { SEARCH_BEFORE, SEARCH_ON, SEARCH_SINCE };

struct search_key {
    struct search_key *next, *children;
    enum search_type type;
    bool negate;
    enum mime_match_kind match;              /* HEADER: ADDRESSES for the keys FROM, TO, CC, BCC, SUBJECT for SUBJECT, else VALUE */
    bool exact;
    uint8_t flags;
    enum search_date date;
    enum search_when when;
    uint64_t number;                         /* day: days since 1970 (int64_t), local calendar; SENT: the Date header's own zone */
    struct slice name;
    struct mime_key key;
    struct index_ranges ranges;              /* freed by whoever made it */
    const struct search_part_key *part;
    unsigned part_keys;
    enum thread_kind thread;
    size_t at;                               /* inside: BODY, TEXT, INTHREAD: place among the keys of its kind */
};

struct search_key *search_key_new(struct arena *, enum search_type);
/* "1-Jan-2022", one or two digits of the day. False: it is not such a date. */
bool search_date_parse(struct slice, uint64_t *day);

struct store_search;
/* A search of one view: what INTHREAD needs is looked up in it once, before the first message is judged. The tree stays the
 * caller's and must not change; all but the open message and what store_search_free frees lives in the arena. */
struct store_search *store_search_new(struct arena *, struct search_key *root);
/* DONE: *matches. MORE: the slice is used up, call again with the same message. ERROR: it could not be read
 * (ERROR_EXPUNGED: it is gone); it counts as not matching, go on with the next. */
enum step store_search_match(struct store_search *, struct mailbox_view *, uint32_t seq, struct budget *, bool *matches,
                             struct error *);
/* Every message matches: none needs to be looked at. */
bool store_search_matches_all(const struct store_search *);
/* The index alone decided the last message. */
bool store_search_glanced(const struct store_search *);
void store_search_free(struct store_search *);         /* closes what is open; NULL is fine */

#endif
