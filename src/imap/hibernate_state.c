/* hibernate_state.c - the state of a session as text (ipc 14), and what ours adds.
 *
 * `state=` is Dovecot's: "base" LF, then blocks: B the mailbox, F a feature, 1 the saved search result, I the ID was logged.
 * Its UIDs are a checksum: who reads it has to find them again in the log. `yarilo=` holds them in full, with the place in
 * the log up to which the client has heard everything, and the counters of the log line: nothing has to be guessed. UIDs full
 * of gaps are long: it is deflated.
 *
 * Both come from other processes: every length is checked, and a set of UIDs is no larger than the mailbox says. */
#include "imap/hibernate.h"

#include <zlib.h>

static const char head[] = "base\n";
enum { OWN_VERSION = 2 };
/* Of what `yarilo=` may inflate to: 2^32 UIDs would not fit, but no mailbox is so large. */
enum { OWN_MAX = 64 * 1024 * 1024 };

/* ---- numbers and sets ---------------------------------------------------------------------------------------------------- */

static void put_num(struct buffer *out, uint64_t n)
{
    for (; n >= 0x80; n >>= 7)
        buffer_append_byte(out, (unsigned char)(n & 0x7f) | 0x80);
    buffer_append_byte(out, (unsigned char)n);
}

static bool take_num(struct slice *in, uint64_t *out)
{
    uint64_t n = 0;

    for (unsigned shift = 0; in->size > 0 && shift < 64; shift += 7) {
        unsigned char c = in->at[0];

        *in = slice_from(*in, 1);
        n |= (uint64_t)(c & 0x7f) << shift;
        if ((c & 0x80) == 0) {
            *out = n;
            return true;
        }
    }
    return false;
}

static bool take_u32(struct slice *in, uint32_t *out)
{
    uint64_t n;

    if (!take_num(in, &n) || n > UINT32_MAX)
        return false;
    *out = (uint32_t)n;
    return true;
}

/* Per range: how far it begins behind the last one, doubled, and 1 more when it has several, then how many more. */
static void put_ranges(struct buffer *out, const struct index_ranges *r)
{
    uint64_t next = 0;

    put_num(out, r->count);
    for (size_t i = 0; i < r->count; i++) {
        uint64_t first = r->at[i].first, last = r->at[i].last;

        put_num(out, (first - next) << 1 | (first == last ? 0 : 1));
        if (first != last)
            put_num(out, last - first - 1);
        next = last + 1;
    }
}

static bool take_ranges(struct slice *in, struct index_ranges *out)
{
    uint64_t count, next = 0, n, more;

    if (!take_num(in, &count) || count > in->size)
        return false;
    for (; count > 0; count--) {
        uint64_t first, last;

        if (!take_num(in, &n) || (n >> 1) > UINT32_MAX)
            return false;
        first = last = next + (n >> 1);
        if ((n & 1) != 0) {
            if (!take_num(in, &more) || more > UINT32_MAX)
                return false;
            last = first + more + 1;
        }
        if (first == 0 || last > UINT32_MAX)
            return false;
        index_ranges_add(out, (uint32_t)first, (uint32_t)last);
        next = last + 1;
    }
    return true;
}

uint32_t hibernate_uid_crc(const struct index_ranges *uids)
{
    uLong crc = crc32(0, NULL, 0);

    for (size_t i = 0; i < uids->count; i++) {
        for (uint64_t uid = uids->at[i].first; uid <= uids->at[i].last; uid++) {
            uint32_t native = (uint32_t)uid;

            crc = crc32(crc, (const Bytef *)&native, sizeof(native));
        }
    }
    return (uint32_t)crc;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------- */

static void put_feature(struct buffer *out, bool on, const char *name)
{
    if (!on)
        return;
    buffer_append_byte(out, 'F');
    buffer_append(out, name, strlen(name) + 1);
}

/* The original's checksum is that of the last name alone (ipc 24.9). */
static uint32_t keyword_crc(struct index *index)
{
    unsigned count = index_keyword_count(index);
    const char *name = count == 0 ? "" : index_keyword_name(index, count - 1);

    return count == 0 ? 0 : (uint32_t)crc32(0, (const Bytef *)name, (uInt)strlen(name));
}

static void put_mailbox_state(struct session *s, const unsigned char guid[16], const struct index_past *past, struct buffer *out)
{
    struct index *index = mailbox_index(s->box);
    struct index_status status;
    const char *vname = mailbox_where(s->box)->vname;

    index_status(index, &status);
    buffer_append_byte(out, 'B');
    buffer_append(out, vname, strlen(vname) + 1);
    buffer_append(out, guid, 16);
    buffer_append_byte(out, s->examined ? 1 : 0);
    put_num(out, past->uid_validity);
    put_num(out, past->next_uid);
    put_num(out, s->messages);
    put_num(out, status.highest_modseq);
    put_num(out, index_keyword_count(index));
    put_num(out, keyword_crc(index));
    put_num(out, hibernate_uid_crc(&past->uids));
    put_ranges(out, mailbox_view_recent_uids(s->view));
}

void hibernate_state_put(struct session *s, const unsigned char guid[16], const struct index_past *past, struct buffer *out)
{
    buffer_append_str(out, head);
    if (s->view != NULL)
        put_mailbox_state(s, guid, past, out);
    put_feature(out, s->condstore, "CONDSTORE");
    put_feature(out, s->qresync, "QRESYNC");
    put_feature(out, s->rev2, "IMAP4rev2");
    put_feature(out, s->utf8, "UTF8=ACCEPT");
    put_feature(out, s->uidonly, "UIDONLY");
    if (s->saved.count > 0) {
        buffer_append_byte(out, '1');
        put_ranges(out, &s->saved);
    }
    if (s->id_logged)
        buffer_append_byte(out, 'I');
}

static void put_own(struct session *s, const struct index_past *past, struct buffer *out)
{
    const struct session_stats *t = &s->stats;
    const uint64_t numbers[] = {t->bytes_in + stream_bytes_in(s->io), t->bytes_out + stream_bytes_out(s->io), t->hdr_count,
                                t->hdr_bytes, t->body_count, t->body_bytes, t->deleted, t->expunged, t->trashed, t->appended};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        put_num(out, numbers[i]);
    if (s->view == NULL)
        return;
    put_num(out, s->modseq_told);
    put_num(out, s->modseq_confirmed);
    put_num(out, s->modseq_fetched);
    put_num(out, past->log_seq);
    put_num(out, past->log_offset);
    put_ranges(out, &past->uids);
}

void hibernate_own_put(struct session *s, const struct index_past *past, struct buffer *out)
{
    struct buffer plain = {0};
    uLong size;

    put_own(s, past, &plain);
    size = compressBound(plain.size);
    put_num(out, OWN_VERSION);
    put_num(out, plain.size);
    buffer_reserve(out, size);
    if (compress2(out->at + out->size, &size, plain.at, plain.size, Z_BEST_SPEED) != Z_OK)
        mem_exhausted(size);
    out->size += size;
    buffer_free(&plain);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

static bool take_text(struct slice *in, struct arena *arena, const char **out)
{
    ptrdiff_t nul = slice_find(*in, '\0');

    if (nul < 0)
        return false;
    *out = arena_str(arena, slice_head(*in, (size_t)nul));
    *in = slice_from(*in, (size_t)nul + 1);
    return true;
}

static bool take_mailbox_state(struct slice *in, struct arena *arena, struct hibernate_state *st)
{
    uint32_t crc;

    if (st->selected || !take_text(in, arena, &st->mailbox) || in->size < 17)
        return false;
    st->selected = true;
    memcpy(st->guid, in->at, 16);
    st->examined = in->at[16] != 0;
    *in = slice_from(*in, 17);
    return take_u32(in, &st->past.uid_validity) && take_u32(in, &st->past.next_uid) && take_u32(in, &st->messages) &&
           take_num(in, &st->modseq) && take_u32(in, &st->keywords) && take_u32(in, &crc) && take_u32(in, &st->uid_crc) &&
           take_ranges(in, &st->recent);
}

static bool take_feature(struct session *s, struct slice *in, struct arena *arena)
{
    const char *name;

    if (!take_text(in, arena, &name))
        return false;
    if (strcmp(name, "CONDSTORE") == 0)
        s->condstore = true;
    else if (strcmp(name, "QRESYNC") == 0)
        s->condstore = s->qresync = true;
    else if (strcmp(name, "IMAP4rev2") == 0)
        s->rev2 = true;
    else if (strcmp(name, "UTF8=ACCEPT") == 0)
        s->utf8 = true;
    else if (strcmp(name, "UIDONLY") == 0)
        s->uidonly = true;
    else
        return false; /* something that the client relies on, and this version does not know */
    return true;
}

static bool take_block(struct session *s, struct slice *in, struct arena *arena, struct hibernate_state *st)
{
    unsigned char kind = in->at[0];

    *in = slice_from(*in, 1);
    switch (kind) {
    case 'B':
        return take_mailbox_state(in, arena, st);
    case 'F':
        return take_feature(s, in, arena);
    case '1':
        return st->saved.count == 0 && take_ranges(in, &st->saved);
    case 'I':
        st->id_logged = true;
        return true;
    case 'C':
        return true; /* TLS compression: of the log line alone */
    default:
        return false;
    }
}

static bool take_own(struct session *s, struct slice in, struct hibernate_state *st)
{
    struct session_stats *t = &s->stats;
    uint64_t told = 0, offset = 0;

    if (!take_num(&in, &t->bytes_in) || !take_num(&in, &t->bytes_out) ||
        !take_num(&in, &t->hdr_count) || !take_num(&in, &t->hdr_bytes) || !take_num(&in, &t->body_count) ||
        !take_num(&in, &t->body_bytes) || !take_u32(&in, &t->deleted) || !take_u32(&in, &t->expunged) ||
        !take_u32(&in, &t->trashed) || !take_u32(&in, &t->appended))
        return false;
    if (!st->selected)
        return true;
    if (!take_num(&in, &told) || !take_num(&in, &st->modseq_confirmed) || !take_num(&in, &st->modseq_fetched) ||
        !take_u32(&in, &st->past.log_seq) || !take_num(&in, &offset) || !take_ranges(&in, &st->past.uids))
        return false;
    st->modseq_told = told != 0;
    st->past.log_offset = offset;
    st->has_uids = true;
    return imap_ranges_count(&st->past.uids) == st->messages;
}

static bool inflate_own(struct session *s, struct slice in, struct hibernate_state *st)
{
    struct buffer plain = {0};
    uint64_t version, size;
    uLong got;
    bool good = take_num(&in, &version) && version == OWN_VERSION && take_num(&in, &size) && size <= OWN_MAX;

    if (good) {
        got = size;
        buffer_reserve(&plain, size);
        good = uncompress(plain.at, &got, in.at, in.size) == Z_OK && got == size &&
               take_own(s, slice_of(plain.at, got), st);
    }
    buffer_free(&plain);
    return good;
}

int hibernate_state_read(struct session *s, struct arena *arena, struct slice state, struct slice own, struct hibernate_state *st,
                         struct error *e)
{
    bool good = slice_starts(state, slice_from_str(head));

    *st = (struct hibernate_state){0};
    state = slice_from(state, sizeof(head) - 1);
    while (good && state.size > 0)
        good = take_block(s, &state, arena, st);
    if (good && own.size > 0)
        good = inflate_own(s, own, st);
    if (good)
        return 0;
    hibernate_state_free(st);
    return error_set(e, ERROR_INVALID, "Invalid state of a session");
}

void hibernate_state_free(struct hibernate_state *st)
{
    index_ranges_free(&st->past.uids);
    index_ranges_free(&st->recent);
    index_ranges_free(&st->saved);
    st->past.uids = st->recent = st->saved = (struct index_ranges){0};
}
