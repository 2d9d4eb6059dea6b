/* search_part.c - matching of MIMEPART keys.
 *
 * PARENT and CHILD lead from part to part, to and fro; so the answer for each part and key is kept, and all of it costs at
 * most parts times keys. */
#include "store/search_part.h"

struct walk {
    struct arena *arena;
    const struct mime_part **parts;
    uint32_t *depth, *index, *parent, *first; /* first child; children follow each other by `following` */
    uint32_t *following;
    uint32_t count;
    unsigned keys;
    unsigned char *known;         /* parts times keys: 0 unknown, 1 no, 2 yes */
};

enum { NONE = UINT32_MAX };

static void number_parts(struct walk *w, const struct mime_part *root)
{
    uint32_t n = 0, *open;        /* the last child seen of each part */

    for (const struct mime_part *p = root; p != NULL; p = mime_part_following((struct mime_part *)(uintptr_t)root, (struct mime_part *)(uintptr_t)p))
        w->count++;
    w->parts = ARENA_ARRAY(w->arena, const struct mime_part *, w->count);
    w->depth = ARENA_ARRAY(w->arena, uint32_t, w->count);
    w->index = ARENA_ARRAY(w->arena, uint32_t, w->count);
    w->parent = ARENA_ARRAY(w->arena, uint32_t, w->count);
    w->first = ARENA_ARRAY(w->arena, uint32_t, w->count);
    w->following = ARENA_ARRAY(w->arena, uint32_t, w->count);
    open = ARENA_ARRAY(w->arena, uint32_t, w->count);
    for (const struct mime_part *p = root; p != NULL; p = mime_part_following((struct mime_part *)(uintptr_t)root, (struct mime_part *)(uintptr_t)p), n++) {
        uint32_t parent = NONE;

        w->parts[n] = p;
        w->first[n] = w->following[n] = open[n] = NONE;
        w->index[n] = 1;
        if (n > 0) { /* the parent is the part before, or one of its parents */
            parent = n - 1;
            while (w->parts[parent] != p->parent)
                parent = w->parent[parent];
            w->depth[n] = w->depth[parent] + 1;
            if (open[parent] == NONE) {
                w->first[parent] = n;
            } else {
                w->following[open[parent]] = n;
                w->index[n] = w->index[open[parent]] + 1;
            }
            open[parent] = n;
        }
        w->parent[n] = parent;
    }
}

static bool contains(struct slice text, const struct mime_key *key)
{
    return text.at != NULL && mime_match_value(key, text);
}

static bool param_contains(const struct mime_params *params, struct slice name, const struct mime_key *key)
{
    for (size_t i = 0; i < params->count; i++) {
        if (slice_equal_nocase(params->at[i].name, name) && contains(params->at[i].value, key))
            return true;
    }
    return false;
}

static bool match_filename(struct arena *arena, const struct mime_part_data *data, const struct search_part_key *k)
{
    struct slice name = mime_param_utf8(arena, &data->disposition_params, "filename");
    struct buffer normal = {0};
    struct slice have;
    bool yes;

    if (name.at == NULL)
        return false;
    mime_normalise(&normal, name);
    have = buffer_slice(&normal);
    switch (k->compare) {
    case PART_CONTAINS:
        yes = slice_find_slice(have, k->key.text) >= 0;
        break;
    case PART_BEGINS:
        yes = slice_starts(have, k->key.text);
        break;
    case PART_ENDS:
        yes = slice_ends(have, k->key.text);
        break;
    default:
        yes = slice_equal(have, k->key.text);
        break;
    }
    buffer_free(&normal);
    return yes;
}

/* An attached message's header says it all; other parts have none. */
static const struct mime_envelope *envelope_of(const struct mime_part *part)
{
    if ((part->flags & MIME_PART_MESSAGE) == 0 || part->parent == NULL || part->children == NULL || part->children->data == NULL)
        return NULL;
    return part->children->data->envelope;
}

static bool match_addresses(const struct mime_address *list, const struct mime_key *key)
{
    struct buffer text = {0};
    bool yes;

    mime_address_write(&text, list);
    yes = mime_match_value(key, slice_of(text.at == NULL ? (const unsigned char *)"" : text.at, text.size));
    buffer_free(&text);
    return yes;
}

static bool match_envelope(const struct mime_part *part, const struct search_part_key *k)
{
    const struct mime_envelope *v = envelope_of(part);
    const struct {
        const char *name;
        const struct mime_address *list;
    } lists[] = {{"FROM", v == NULL ? NULL : v->from},     {"TO", v == NULL ? NULL : v->to},
                 {"CC", v == NULL ? NULL : v->cc},         {"BCC", v == NULL ? NULL : v->bcc},
                 {"SENDER", v == NULL ? NULL : v->sender}, {"REPLY-TO", v == NULL ? NULL : v->reply_to}};

    if (v == NULL)
        return false;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        if (slice_equal_str(k->name, lists[i].name))
            return match_addresses(lists[i].list, &k->key);
    }
    return contains(slice_equal_str(k->name, "SUBJECT")       ? v->subject
                    : slice_equal_str(k->name, "IN-REPLY-TO") ? v->in_reply_to
                                                              : v->message_id,
                    &k->key);
}

static bool match_sent(const struct mime_part *part, const struct search_part_key *k)
{
    const struct mime_envelope *v = envelope_of(part);
    int64_t when, number = (int64_t)k->number;
    int zone;

    if (v == NULL || v->date.at == NULL || !mime_date_parse(v->date, &when, &zone))
        return false;
    when = (when + (int64_t)zone * 60) / 86400;
    return k->when == SEARCH_BEFORE ? when < number : k->when == SEARCH_ON ? when == number : when >= number;
}

static bool match_number(uint64_t n, const struct search_part_key *k)
{
    return k->compare == PART_LARGER ? n > k->number : k->compare == PART_SMALLER ? n < k->number : n == k->number;
}

static bool match_language(const struct mime_part_data *data, struct slice text)
{
    for (size_t i = 0; i < data->languages_count; i++) {
        if (slice_equal_nocase(data->languages[i], text))
            return true;
    }
    return false;
}

/* What stands for a field that the part does not have (RFC 2045 sections 5.2, 6.1). */
static bool match_default(const struct mime_part_data *data, const struct search_part_key *k)
{
    switch (k->type) {
    case PART_TYPE:
        return slice_equal_str_nocase(k->text, "text");
    case PART_SUBTYPE:
        return slice_equal_str_nocase(k->text, "plain");
    case PART_PARAM:
        return slice_equal_str_nocase(k->name, "charset") && (data->type.at == NULL || slice_equal_str_nocase(data->type, "text")) &&
               mime_match_value(&k->key, SLICE("us-ascii"));
    default:
        return slice_equal_str_nocase(k->text, "7bit");
    }
}

static bool match_data(struct walk *w, const struct mime_part_data *data, const struct search_part_key *k)
{
    switch (k->type) {
    case PART_TYPE:
        return data->type.at == NULL ? match_default(data, k) : slice_equal_nocase(data->type, k->text);
    case PART_SUBTYPE:
        return data->type.at == NULL ? match_default(data, k) : slice_equal_nocase(data->subtype, k->text);
    case PART_ENCODING:
        return data->encoding.at == NULL ? match_default(data, k) : slice_equal_nocase(data->encoding, k->text);
    case PART_ID:
        return data->id.at != NULL && slice_equal_nocase(data->id, k->text);
    case PART_MD5:
        return data->md5.at != NULL && slice_equal_nocase(data->md5, k->text);
    case PART_LOCATION:
        return data->location.at != NULL && slice_equal_nocase(data->location, k->text);
    case PART_DISPOSITION:
        return data->disposition.at != NULL && slice_equal_nocase(data->disposition, k->text);
    case PART_LANGUAGE:
        return match_language(data, k->text);
    case PART_DESCRIPTION:
        return contains(data->description, &k->key);
    case PART_PARAM:
        return param_contains(&data->params, k->name, &k->key) || (mime_param_find(&data->params, "charset") == NULL && match_default(data, k));
    case PART_DISPOSITION_PARAM:
        return param_contains(&data->disposition_params, k->name, &k->key);
    case PART_FILENAME:
        return match_filename(w->arena, data, k);
    default:
        return false;
    }
}

static bool match(struct walk *w, uint32_t n, const struct search_part_key *k);

static bool match_fresh(struct walk *w, uint32_t n, const struct search_part_key *k)
{
    const struct mime_part *part = w->parts[n];

    switch (k->type) {
    case PART_AND:
    case PART_OR:
        for (const struct search_part_key *c = k->children; c != NULL; c = c->next) {
            if (match(w, n, c) == (k->type == PART_OR))
                return k->type == PART_OR;
        }
        return k->type == PART_AND;
    case PART_NONE:
        return false;
    case PART_PARENT:
        return w->parent[n] != NONE && (k->children == NULL || match(w, w->parent[n], k->children));
    case PART_CHILD:
        for (uint32_t c = w->first[n]; c != NONE; c = w->following[c]) {
            if (k->children == NULL || match(w, c, k->children))
                return true;
        }
        return false;
    case PART_SIZE:
        return match_number(part->body.virtual, k);
    case PART_DEPTH:
        return match_number(w->depth[n], k);
    case PART_INDEX:
        return w->index[n] == k->number;
    case PART_ENVELOPE:
        return match_envelope(part, k);
    case PART_SENT:
        return match_sent(part, k);
    default:
        return part->data != NULL && match_data(w, part->data, k);
    }
}

static bool match(struct walk *w, uint32_t n, const struct search_part_key *k)
{
    unsigned char *known = &w->known[(size_t)n * w->keys + k->id];

    if (*known == 0)
        *known = match_fresh(w, n, k) != k->negate ? 2 : 1;
    return *known == 2;
}

bool search_part_match(struct arena *arena, const struct mime_part *root, const struct search_part_key *k, unsigned count)
{
    struct walk w = {.arena = arena, .keys = count};

    number_parts(&w, root);
    w.known = ARENA_ARRAY(arena, unsigned char, (size_t)w.count * count);
    for (uint32_t n = 0; n < w.count; n++) {
        if (match(&w, n, k))
            return true;
    }
    return false;
}
