/* FETCH inside: what was asked for (fetch_parse.c), and how it is written (fetch.c). */
#ifndef YARILO_IMAP_FETCH_H
#define YARILO_IMAP_FETCH_H

#include "imap/session.h"

enum fetch_kind {
    /* written together, first */
    FETCH_FLAGS, FETCH_UID, FETCH_MODSEQ, FETCH_INTERNALDATE, FETCH_SIZE, FETCH_PREVIEW, FETCH_SAVEDATE, FETCH_GUID,
    FETCH_MAILBOX, FETCH_REAL_UID, FETCH_EMAILID, FETCH_THREADID,
    /* then these */
    FETCH_ENVELOPE, FETCH_BODY, FETCH_BODYSTRUCTURE, FETCH_SECTION, FETCH_BINARY, FETCH_BINARY_SIZE
};
#define FETCH_FIRST_STREAMED FETCH_ENVELOPE

struct fetch_item {
    struct fetch_item *next;
    enum fetch_kind kind;
    const char *label;             /* what the reply calls it, origin included */
    bool lazy, fuzzy;              /* PREVIEW */
    bool sees;                     /* sets \Seen */
    bool header;                   /* counts as header in the statistics */
    struct mime_section section;
    uint64_t from, count;          /* partial range; 0 and UINT64_MAX = all */
};

struct fetch {
    struct fetch_item *items;      /* buffered ones first, each group in the order of the request */
    bool flags, sees, needs_mail;
    bool changed_since, vanished;
    bool partial, partial_end;     /* (PARTIAL a:b), RFC 9394 */
    uint32_t partial_first, partial_last;
    uint64_t modseq;

    struct index_ranges seqs;
    size_t at;
    uint32_t seq;
    struct index_ranges seen;      /* UIDs whose \Seen was newly set */

    /* the message being written */
    struct fetch_item *item;       /* the next one; NULL: none or the line is complete */
    bool writing, gone;
    struct index_record record;
    struct mail *mail;
    struct mime_reader *reader;
    struct buffer line;            /* its front; kept from message to message */
    struct buffer decoded;         /* BINARY: the decoded part */
    bool first;
    bool committed, issued, failed_bye, parse_failed;
    const char *failed, *failed_why; /* what the client and what the log hears of the last message that could not be read */
    const char *unknown_cte;
    uint32_t told;                 /* of a plan: messages up to here are not new */
};

/* Items and modifiers. False: the request has been answered. */
bool fetch_parse(struct session *, struct request *, struct fetch *, const struct imap_arg *items,
                 const struct imap_arg **rest);

/* ---- messages that are sent without being asked for (CONTEXT, NOTIFY) ---- */

/* Items as a plan to be used again and again; it lives in the request's arena. False: answered, with the words of `prefix`. */
bool fetch_parse_news(struct session *, struct request *, const struct imap_arg *list, const char *prefix, struct fetch **);
/* Takes the ranges (sequence numbers). */
struct request *fetch_news_begin(struct session *, const struct fetch *plan, const struct index_ranges *seqs);
/* DONE or ERROR: over and freed. */
void fetch_news_end(struct session *, struct request **);   /* NULL is fine */
enum step fetch_news_step(struct session *, struct request **, struct budget *, struct error *);

#endif
