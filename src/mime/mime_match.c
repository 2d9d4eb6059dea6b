/* Searching text in mail (imap 11.1, 11.2): keys and text are both folded to decomposed title case, then compared as
 * bytes. Headers have their encoded-words decoded; bodies of text and message parts lose transfer encoding and charset.
 *
 * Bodies pass in chunks: window -> decoder -> charset -> folding -> memmem, which is linear for long needles. The end
 * of each chunk, one byte shorter than the longest key, stays for the next, so that a match may cross chunks, but
 * never parts. Line ends are those of the storage. */
#include "mime/mime_internal.h"

#define CHUNK 32768

struct mime_key mime_key_new(struct arena *arena, struct slice utf8)
{
    struct buffer b = {0};

    mime_normalise(&b, utf8);
    struct mime_key key = {mime_keep(arena, buffer_slice(&b))};
    buffer_free(&b);
    return key;
}

static bool occurs(const struct mime_key *key, struct slice folded)
{
    if (key->text.size == 0)
        return true;
    return folded.size >= key->text.size && memmem(folded.at, folded.size, key->text.at, key->text.size) != NULL;
}

bool mime_match_value(const struct mime_key *key, struct slice raw)
{
    struct buffer folded = {0};

    mime_words_fold(&folded, raw);
    bool found = occurs(key, buffer_slice(&folded));
    buffer_free(&folded);
    return found;
}

/* White space runs of the raw value become one space, those in encoded-words stay. */
bool mime_match_subject(const struct mime_key *key, struct slice raw)
{
    struct buffer one = {0};
    bool space = false;

    for (size_t i = 0; i < raw.size; i++) {
        unsigned char c = raw.at[i];
        bool blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';
        if (blank && !space && one.size > 0)
            buffer_append_byte(&one, ' ');
        space = blank;
        if (!blank)
            buffer_append_byte(&one, c);
    }
    bool found = mime_match_value(key, buffer_slice(&one));
    buffer_free(&one);
    return found;
}

/* Only the rewritten form is looked at: comments and odd spacing are not text. */
bool mime_match_addresses(const struct mime_key *key, struct slice raw)
{
    struct arena *arena = arena_new();
    struct buffer text = {0};

    mime_address_write(&text, mime_address_parse(arena, raw, NULL, true));
    bool found = mime_match_value(key, buffer_slice(&text));
    buffer_free(&text);
    arena_free(arena);
    return found;
}

bool mime_match_header(const struct mime_key *key, struct slice block, struct slice name, enum mime_match_kind kind)
{
    struct mime_headers h;
    struct mime_field f;

    mime_headers_init(&h, block);
    while (mime_headers_next(&h, &f)) {
        if (f.name.size == 0 || !slice_equal_nocase(f.name, name))
            continue;
        if (key->text.size == 0)
            return true;
        bool found = kind == MIME_MATCH_ADDRESSES ? mime_match_addresses(key, f.value)
                     : kind == MIME_MATCH_SUBJECT ? mime_match_subject(key, f.value)
                                                  : mime_match_value(key, f.value);
        if (found)
            return true;
    }
    return false;
}

/* ---- bodies in steps ---------------------------------------------------------------------------------------- */

enum phase {
    ENTER,             /* a part is next: its header, if that is wanted */
    BODY,
    NEXT
};

struct mime_search {
    const struct mime_source *source;
    struct mime_part *root, *part;
    const struct mime_key *keys;
    bool *found;
    size_t count, missing, longest;
    bool with_headers;
    enum phase phase;
    struct mime_window window;
    uint64_t end;
    struct mime_decoder decoder;
    struct mime_charset *charset;
    struct buffer decoded, text, folded;
};

struct mime_search *mime_search_new(struct arena *arena, const struct mime_source *source, struct mime_part *root,
                                    const struct mime_key *keys, bool *found, size_t count, bool with_headers)
{
    struct mime_search *s = ARENA_NEW(arena, struct mime_search);

    s->source = source;
    s->root = s->part = root;
    s->keys = keys;
    s->found = found;
    s->count = count;
    s->with_headers = with_headers;
    for (size_t i = 0; i < count; i++) {
        if (keys[i].text.size == 0)
            found[i] = true;
        if (!found[i])
            s->missing++;
        if (keys[i].text.size > s->longest)
            s->longest = keys[i].text.size;
    }
    return s;
}

/* Looks for the keys in what is folded; keeps the tail that a match may begin in. */
static void look(struct mime_search *s)
{
    for (size_t i = 0; i < s->count && s->missing > 0; i++) {
        if (!s->found[i] && occurs(&s->keys[i], buffer_slice(&s->folded))) {
            s->found[i] = true;
            s->missing--;
        }
    }
    if (s->longest > 0 && s->folded.size >= s->longest)
        buffer_drop(&s->folded, s->folded.size - s->longest + 1);
}

static bool part_is_text(const struct mime_part *part)
{
    if ((part->flags & (MIME_PART_MULTIPART | MIME_PART_MESSAGE)) != 0)
        return false;          /* their contents are parts of their own */
    return !part->data->not_text;
}

static int search_header(struct mime_search *s, struct error *e)
{
    struct arena *arena = arena_new();
    struct mime_headers h;
    struct mime_field f;
    struct slice block;

    if (mime_header_read(arena, s->source, s->part, &block, e) < 0) {
        arena_free(arena);
        return -1;
    }
    mime_headers_init(&h, block);
    while (s->missing > 0 && mime_headers_next(&h, &f)) {
        buffer_reset(&s->folded);
        mime_normalise(&s->folded, f.value.size == 0 ? f.name : slice_of(f.raw.at, (size_t)(f.value.at - f.raw.at))); /* "Name:  " */
        mime_words_fold(&s->folded, f.value);
        buffer_append_byte(&s->folded, '\n');
        look(s);
    }
    buffer_reset(&s->folded);
    arena_free(arena);
    return 0;
}

static bool begin_body(struct mime_search *s)
{
    const struct mime_part_data *d = s->part->data;

    if (!part_is_text(s->part) || d->decoding == MIME_ENCODING_UNKNOWN)
        return false;
    mime_decoder_init(&s->decoder, d->decoding);
    s->charset = mime_charset_open_body(d->charset);
    uint64_t begin = s->part->offset + s->part->header.physical;
    s->end = begin + s->part->body.physical;
    mime_window_free(&s->window);
    mime_window_init(&s->window, s->source, begin);
    buffer_reset(&s->folded);
    return true;
}

static void fold_decoded(struct mime_search *s, bool last)
{
    buffer_reset(&s->text);
    mime_charset_feed(s->charset, buffer_slice(&s->decoded), &s->text);
    if (last) {
        mime_charset_close_body(s->charset, &s->text);
        s->charset = NULL;
    }
    mime_normalise(&s->folded, buffer_slice(&s->text));
    look(s);
}

/* One chunk. 1: more of this body, 0: it ended, -1: error. */
static int search_body(struct mime_search *s, struct error *e)
{
    struct mime_window *w = &s->window;

    if (w->offset < s->end && mime_window_fill(w, 1, e) < 0)
        return -1;
    size_t n = (size_t)(w->end - w->at);
    if (n > s->end - w->offset)
        n = (size_t)(s->end - w->offset);
    if (n > CHUNK)
        n = CHUNK;
    buffer_reset(&s->decoded);
    if (n == 0) {
        mime_decoder_finish(&s->decoder, &s->decoded);
        fold_decoded(s, true);
        return 0;
    }
    mime_decoder_feed(&s->decoder, slice_of(w->at, n), &s->decoded);
    w->at += n;
    w->offset += n;
    fold_decoded(s, false);
    return 1;
}

enum step mime_search_step(struct mime_search *s, size_t budget, struct error *e)
{
    size_t spent = 0;

    while (s->part != NULL && s->missing > 0) {
        if (spent >= budget)
            return STEP_MORE;
        int more;
        switch (s->phase) {
        case ENTER:
            if (s->with_headers && search_header(s, e) < 0)
                return STEP_ERROR;
            spent += (size_t)(s->with_headers ? s->part->header.physical : 0) + 64;
            s->phase = begin_body(s) ? BODY : NEXT;
            break;
        case BODY:
            more = search_body(s, e);
            if (more < 0)
                return STEP_ERROR;
            spent += CHUNK;
            if (more == 0)
                s->phase = NEXT;
            break;
        case NEXT:
            s->part = mime_part_following(s->root, s->part);
            s->phase = ENTER;
            break;
        }
    }
    return STEP_DONE;
}

void mime_search_free(struct mime_search *s)
{
    if (s == NULL)
        return;
    if (s->charset != NULL) {
        buffer_reset(&s->text);
        (void)mime_charset_close(s->charset, &s->text);
    }
    mime_window_free(&s->window);
    buffer_free(&s->decoded);
    buffer_free(&s->text);
    buffer_free(&s->folded);
}
