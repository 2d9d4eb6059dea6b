/* Ranks: numbers in the order of the text that SORT takes from a header, kept in the index (index-format 10: extensions sort-s,
 * sort-f ...; docs/formats/index.md), so that a mailbox is sorted without its texts being read again.
 *
 *     ranks = ranks_new(arena, view, RANK_SUBJECT, count);
 *     while (ranks != NULL && ranks_complete(ranks, &hits, &budget) == STEP_MORE) ...
 *     if (ranks != NULL && ranks_cover(ranks, &hits))
 *         number = ranks_of(ranks, uid);
 *     else
 *         text by text: mail_sort_text(mail, RANK_SUBJECT, &text, &e) */
#ifndef YARILO_STORE_RANK_H
#define YARILO_STORE_RANK_H

#include "store/store.h"

enum rank_key { RANK_CC, RANK_FROM, RANK_SUBJECT, RANK_TO, RANK_DISPLAYFROM, RANK_DISPLAYTO, RANK_KEYS };

/* What a message is sorted by, normalised (imap 11.5): base subject, mailbox or display name of the first address. Empty when there
 * is none. In the mail's arena. */
int mail_sort_text(struct mail *, enum rank_key, struct slice *text, struct error *);

struct ranks;
/* The ranks that the index has at this moment, for so many of the view's messages; they stay as they were read. Everything lives in the
 * arena. Ranks that cannot be good are reported in the log, and count as none. NULL: the messages are so few of the mailbox that
 * their texts are read faster than all ranks. */
struct ranks *ranks_new(struct arena *, struct mailbox_view *, enum rank_key, uint64_t messages);
/* Has every one of these messages (sequence numbers of the view) a rank? Expunged ones need none. */
bool ranks_cover(struct ranks *, const struct index_ranges *seqs);
/* Gives a rank to all messages that the view shows, and writes them, if it pays: not when many more texts would be read than these
 * messages have. Best effort: never waits for a lock, and what cannot be read leaves everything as it is. DONE or MORE. */
enum step ranks_complete(struct ranks *, const struct index_ranges *seqs, struct budget *);
/* 0: none. Quick for ascending UIDs. Equal texts have equal ranks. */
uint32_t ranks_of(struct ranks *, uint32_t uid);

#endif
