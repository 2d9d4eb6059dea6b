/* lookup.c - what an open index knows: records, counts, keywords, extensions. Nothing here reads or changes a file. */
#include "index/index_backend.h"

#include <stdio.h>
#include <sys/stat.h>

/* ---- looking things up -------------------------------------------------------------------------------------------- */

uint64_t index_default_modseq(const struct index *index)
{
    const struct state *s = &index->state;
    uint64_t highest = index->modseq;

    /* without the extension, what enabling it now would give every message (5) */
    if (s->ext_modseq >= 0 && s->exts[s->ext_modseq].header_size >= 8)
        highest = bytes_le64(s->exts[s->ext_modseq].header);
    return highest > 0 ? highest : 1;
}

static void fill_record(const struct index *index, uint32_t i, struct index_record *out)
{
    const struct state *s = &index->state;
    const unsigned char *r = state_record(s, i);

    *out = (struct index_record){.uid = bytes_le32(r), .flags = r[4], .modseq = state_modseq(s, i)};
    if (out->modseq == 0)
        out->modseq = index_default_modseq(index);
    out->keywords = state_keywords(s, i);
}

uint32_t index_count(const struct index *index)
{
    return index->state.count;
}

bool index_get(const struct index *index, uint32_t uid, struct index_record *out)
{
    int64_t i = state_find(&index->state, uid);

    if (i < 0)
        return false;
    fill_record(index, (uint32_t)i, out);
    return true;
}

bool index_get_from(const struct index *index, uint32_t uid, struct index_record *out)
{
    uint32_t i = state_lower(&index->state, uid);

    if (i >= index->state.count)
        return false;
    fill_record(index, i, out);
    return true;
}

bool index_get_at(const struct index *index, uint32_t seq, struct index_record *out)
{
    if (seq == 0 || seq > index->state.count)
        return false;
    fill_record(index, seq - 1, out);
    return true;
}

struct slice index_header(const struct index *index)
{
    return slice_of(index->state.base, index->state.base_size);
}

uint32_t index_first_recent(const struct index *index)
{
    return state_get(&index->state, BASE_AT_FIRST_RECENT);
}

void index_status(const struct index *index, struct index_status *out)
{
    const struct state *s = &index->state;
    uint32_t flags = state_get(s, BASE_AT_FLAGS);

    *out = (struct index_status){
        .messages = s->count,
        .seen = state_get(s, BASE_AT_SEEN),
        .deleted = state_get(s, BASE_AT_DELETED),
        .uid_validity = state_get(s, BASE_AT_UID_VALIDITY),
        .next_uid = state_get(s, BASE_AT_NEXT_UID),
        .first_recent_uid = state_get(s, BASE_AT_FIRST_RECENT),
        .first_unseen_hint = state_get(s, BASE_AT_UNSEEN_LOWWATER),
        .highest_modseq = index->modseq > 0 ? index->modseq : 1,
        .modseq_enabled = s->ext_modseq >= 0 && s->exts[s->ext_modseq].record_size == 8,
        .fscked = (flags & BASE_FLAG_FSCKED) != 0,
        .have_dirty = (flags & BASE_FLAG_HAVE_DIRTY) != 0,
        .day_stamp = state_get(s, BASE_AT_DAY_STAMP),
        .log_size = (uint32_t)index->log.head,
        .log_mtime = index->log.mtime,
    };
    for (unsigned i = 0; i < BASE_DAYS; i++)
        out->day_first_uid[i] = state_get(s, BASE_AT_DAY_FIRST + 4 * i);
    out->unseen = out->seen < out->messages ? out->messages - out->seen : 0;
    out->recent = s->count - state_lower(s, out->first_recent_uid);
    if (out->log_mtime == 0 && index->log.fd >= 0) {
        struct stat st;

        if (fstat(index->log.fd, &st) == 0)
            out->log_mtime = (uint32_t)st.st_mtime;
    }
}

unsigned index_keyword_count(const struct index *index)
{
    return index->state.keyword_count;
}

const char *index_keyword_name(const struct index *index, unsigned i)
{
    return i < index->state.keyword_count ? index->state.keywords[i] : NULL;
}

int index_keyword_find(const struct index *index, struct slice name)
{
    return state_keyword_find(&index->state, name);
}

/* So that a reader can go on counting from here without reading the log from its start (5). */
void index_store_modseq(struct index *index)
{
    struct state *s = &index->state;
    struct state_ext *x;

    if (s->ext_modseq < 0)
        return;
    x = &s->exts[s->ext_modseq];
    if (x->header_size < 16)
        return;
    bytes_put_le64(x->header, index->modseq);
    bytes_put_le32(x->header + 8, state_get(s, BASE_AT_LOG_SEQ));
    bytes_put_le32(x->header + 12, state_get(s, BASE_AT_LOG_HEAD));
}

/* ---- extensions --------------------------------------------------------------------------------------------------- */

unsigned index_ext(struct index *index, const struct index_ext_def *def)
{
    struct index_ext_known known = {.def = *def};

    for (unsigned i = 0; i < index->known_exts.count; i++) {
        if (strcmp(index->known_exts.at[i].name, def->name) == 0) {
            index->known_exts.at[i].def = *def;
            return i;
        }
    }
    snprintf(known.name, sizeof(known.name), "%s", def->name);
    VEC_PUSH(&index->known_exts, known);
    return (unsigned)index->known_exts.count - 1;
}

int index_ext_position(const struct index *index, unsigned ext)
{
    if (ext >= index->known_exts.count)
        return -1;
    return state_ext_find(&index->state, slice_from_str(index->known_exts.at[ext].name));
}

bool index_ext_exists(const struct index *index, unsigned ext)
{
    return index_ext_position(index, ext) >= 0;
}

uint32_t index_ext_reset_id(const struct index *index, unsigned ext)
{
    int at = index_ext_position(index, ext);

    return at < 0 ? 0 : index->state.exts[at].reset_id;
}

struct slice index_ext_header(const struct index *index, unsigned ext)
{
    int at = index_ext_position(index, ext);

    return at < 0 ? SLICE_EMPTY : slice_of(index->state.exts[at].header, index->state.exts[at].header_size);
}

struct slice index_ext_record(const struct index *index, unsigned ext, uint32_t uid)
{
    int at = index_ext_position(index, ext);
    int64_t i;

    if (at < 0 || index->state.exts[at].record_size == 0 || (i = state_find(&index->state, uid)) < 0)
        return SLICE_EMPTY;
    return slice_of(state_record(&index->state, (uint32_t)i) + index->state.exts[at].record_offset,
                    index->state.exts[at].record_size);
}

bool index_ext_numbers(const struct index *index, unsigned ext, uint32_t *uids, uint32_t *numbers)
{
    const struct state *s = &index->state;
    int at = index_ext_position(index, ext);
    bool there = at >= 0 && s->exts[at].record_size == 4;

    for (uint32_t i = 0; i < s->count; i++) {
        uids[i] = state_uid(s, i);
        numbers[i] = there ? bytes_le32(state_record(s, i) + s->exts[at].record_offset) : 0;
    }
    return there;
}

bool index_ext_at(const struct index *index, unsigned i, struct index_ext_info *out)
{
    const struct state_ext *e;

    if (i >= index->state.ext_count)
        return false;
    e = &index->state.exts[i];
    *out = (struct index_ext_info){.name = e->name, .header_size = e->header_size, .reset_id = e->reset_id,
                                   .record_size = e->record_size, .record_align = e->record_align,
                                   .record_offset = e->record_offset,
                                   .header = slice_of(e->header, e->header_size)};
    return true;
}
