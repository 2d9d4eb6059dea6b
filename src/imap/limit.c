/* limit.c - MESSAGELIMIT and SAVELIMIT (RFC 9738): how many messages one command may touch.
 *
 * The limit is the number in the word of imap_capability ("MESSAGELIMIT=1000"). FETCH and SEARCH answer for the last messages of
 * what was asked for, and say from which UID on; commands that change something are refused as a whole, so that no client takes
 * a part for all. */
#include "imap/session.h"

/* The number behind "NAME=" in imap_capability; 0: it is not there. */
static uint32_t limit_of(const struct session *s, const char *name)
{
    struct slice rest = slice_from_str(conf_str(s->set, SET_imap_capability)), word;
    size_t n = strlen(name);
    uint32_t limit = 0;

    if (rest.size > 0 && rest.at[0] == '+')
        rest = slice_from(rest, 1);
    while (rest.size > 0 && slice_split(&rest, ' ', &word)) {
        if (word.size > n && slice_equal_nocase(slice_head(word, n), slice_from_str(name)) && slice_to_u32(slice_from(word, n), &limit))
            return limit;
    }
    return 0;
}

bool limit_refuses(const struct session *s, struct request *r, uint64_t count, bool saves)
{
    uint32_t limit = limit_of(s, "MESSAGELIMIT="), save = saves ? limit_of(s, "SAVELIMIT=") : 0;

    if (save != 0 && (limit == 0 || save < limit))
        limit = save;
    if (limit == 0 || count <= limit)
        return false;
    request_reply(r, "NO [MESSAGELIMIT %u] Too many messages, try a smaller subset.", limit);
    r->sync = false;
    return true;
}

void limit_keep_last(const struct session *s, struct request *r, struct index_ranges *seqs)
{
    uint32_t limit = limit_of(s, "MESSAGELIMIT=");
    uint64_t count = imap_ranges_count(seqs), skip = limit == 0 || count <= limit ? 0 : count - limit;
    struct index_ranges kept = {0};

    if (skip == 0)
        return;
    for (size_t i = 0; i < seqs->count; i++) {
        uint64_t size = (uint64_t)seqs->at[i].last - seqs->at[i].first + 1;

        if (skip < size)
            index_ranges_add(&kept, seqs->at[i].first + (uint32_t)skip, seqs->at[i].last);
        skip -= skip < size ? skip : size;
    }
    index_ranges_free(seqs);
    *seqs = kept;
    r->limited = arena_printf(r->arena, "[MESSAGELIMIT %u %u] ", limit,
                              index_view_uid(mailbox_view_index(s->view), kept.at[0].first));
}
