/* SEARCH and SORT inside: arguments to keys (search_parse.c), the walk over the messages (search.c), the answers
 * (search_result.c). Keys and matching are src/store/search.h. */
#ifndef YARILO_IMAP_SEARCH_H
#define YARILO_IMAP_SEARCH_H

#include "imap/session.h"
#include "store/search.h"

enum search_return {
    RETURN_MIN = 0x1, RETURN_MAX = 0x2, RETURN_ALL = 0x4, RETURN_COUNT = 0x8, RETURN_SAVE = 0x10, RETURN_UPDATE = 0x20,
    RETURN_PARTIAL = 0x40, RETURN_RELEVANCY = 0x80
};

struct sort_program;
struct sort_state;

struct search {
    struct search_key *root;
    VEC(struct search_key *) with_ranges;
    struct store_search *match;
    const char *charset;
    bool bad_charset;
    struct slice where;                      /* ESEARCH: the mailbox as the client calls it; empty: the selected one */
    uint32_t uid_validity;                   /* ... its own */
    bool extended;                           /* RETURN was given */
    unsigned returns;
    uint32_t partial_first, partial_last;
    bool partial_end;                        /* counted from the end (RFC 9394) */
    struct fetch *update_items;              /* UPDATE (items); NULL: none */
    bool update_only, no_update;             /* no other option was given; too many updates already */
    bool has_modseq, has_set;
    unsigned depth;

    uint32_t seq, count;                     /* where the walk is */
    bool in_message;
    bool issued;                             /* a message was gone before it could be looked at */

    struct index_ranges hits;                /* sequence numbers */
    uint64_t modseq;
    bool walked;
    size_t hit_at;                           /* of the answer being written */
    uint32_t hit;

    struct sort_program *sort;
    struct thread *thread;
    uint32_t *order;                         /* SORT: hits in their order */
    uint32_t order_count, order_at;
    unsigned sort_reads;
    bool sort_limited;
    struct sort_state *sort_state;
};

/* RETURN, SORT program or THREAD algorithm, charset and keys, as the command takes them. False: the request has been answered. */
bool search_parse_all(struct session *, struct request *, struct search *, const struct imap_arg *);
void search_free(struct search *);
/* Keys up to the end of the arguments. False: the request has been answered. */
bool search_parse(struct session *, struct request *, struct search *, const struct imap_arg *);
/* Answers NO. False. */
bool search_charset_unknown(struct session *, struct request *, const struct search *);
bool search_parse_returns(struct session *, struct request *, struct search *, const struct imap_arg *list);
/* Writes the answer. MORE: it is written. */
enum step search_tell(struct session *, struct request *, struct search *);

bool search_parse_partial(const struct session *, struct slice, uint32_t *first, uint32_t *last, bool *end);
enum step search_walk(struct session *, struct search *, struct budget *);

/* thread.c: writes its answer itself */
bool thread_parse(struct session *, struct request *, struct search *, const struct imap_arg *);
enum step thread_run(struct session *, struct request *, struct search *, struct budget *);

/* sort.c */
bool sort_parse(struct session *, struct request *, struct search *, const struct imap_arg *program);
enum step sort_run(struct session *, struct request *, struct search *, struct budget *, struct error *);

#endif
