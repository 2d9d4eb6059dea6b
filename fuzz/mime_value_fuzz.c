/* Any bytes as a header value: every parser of values, and the rules their results keep. */
#include <stdlib.h>

#include "base/text.h"
#include "mime/mime_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool good)
{
    if (!good)
        abort();
}

/* An envelope out of the cached values is the one of the header that they make together. */
static void check_cached_envelope(struct arena *arena, struct slice header)
{
    struct mime_field_list list = mime_headers_all(arena, header);
    struct slice values[MIME_ENVELOPE_NAMES], block;
    struct buffer b = {0}, direct = {0}, merged = {0};
    struct error e;

    for (size_t i = 0; i < MIME_ENVELOPE_NAMES; i++) {
        buffer_reset(&b);
        mime_header_cache_encode(&b, &list, slice_from_str(mime_envelope_names[i]));
        values[i] = arena_slice(arena, buffer_slice(&b));
    }
    expect(mime_header_cache_merge(arena, values, MIME_ENVELOPE_NAMES, &block, &e) == 0);
    mime_envelope_put(&merged, mime_envelope_parse(arena, block));
    expect(mime_envelope_put_cached(&direct, arena, values, &e) == 0);
    expect(slice_equal(buffer_slice(&direct), buffer_slice(&merged)));
    buffer_free(&b);
    buffer_free(&direct);
    buffer_free(&merged);
}

/* Plain addresses are the same by the short way and by the long one, and so is what IMAP says of them. */
static void check_short_way(struct arena *arena, struct slice in)
{
    struct mime_envelope quick = {0}, thorough = {0};
    struct buffer a = {0}, b = {0};

    quick.from = mime_address_parse_how(arena, in, NULL, MIME_ADDRESS_FILL | MIME_ADDRESS_BORROW);
    thorough.from = mime_address_parse_how(arena, in, NULL, MIME_ADDRESS_FILL | MIME_ADDRESS_NO_SHORT_WAY);
    mime_envelope_put(&a, &quick);
    mime_envelope_put(&b, &thorough);
    expect(slice_equal(buffer_slice(&a), buffer_slice(&b)));
    for (const struct mime_address *x = quick.from, *y = thorough.from; x != NULL || y != NULL; x = x->next, y = y->next)
        expect(x != NULL && y != NULL && x->invalid == y->invalid && slice_equal(x->name, y->name) && (x->name.at == NULL) == (y->name.at == NULL));
    buffer_free(&a);
    buffer_free(&b);
}

static void check_decoders(struct slice in)
{
    /* The same in one piece and byte by byte. */
    for (enum mime_encoding encoding = MIME_ENCODING_NONE; encoding <= MIME_ENCODING_BASE64; encoding++) {
        struct buffer whole = {0}, bytes = {0};
        struct mime_decoder a, b;

        mime_decoder_init(&a, encoding);
        mime_decoder_feed(&a, in, &whole);
        mime_decoder_finish(&a, &whole);
        mime_decoder_init(&b, encoding);
        for (size_t i = 0; i < in.size; i++)
            mime_decoder_feed(&b, slice_of(in.at + i, 1), &bytes);
        mime_decoder_finish(&b, &bytes);
        expect(slice_equal(buffer_slice(&whole), buffer_slice(&bytes)) && a.broken == b.broken);
        buffer_free(&whole);
        buffer_free(&bytes);
    }
}

static void check_charsets(struct slice in)
{
    static const char *const names[] = {"utf-8", "iso-8859-1", "shift_jis", "iso-2022-jp", "utf-16", "utf-7", "gb18030", "big5-hkscs"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct buffer out = {0}, folded = {0};
        (void)mime_charset_to_utf8(slice_from_str(names[i]), in, &out);
        expect(text_utf8_valid(buffer_slice(&out)));
        mime_normalise(&folded, buffer_slice(&out));
        expect(text_utf8_valid(buffer_slice(&folded)));
        buffer_free(&out);
        buffer_free(&folded);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct slice in = slice_of(data, size), type, subtype, id, rest = in, first, block;
    struct mime_params params;
    struct buffer out = {0};
    struct error e = {0};
    struct mime_part *root;
    uint32_t left = 1000;
    int64_t when;
    int zone;
    bool reply;

    struct mime_address *list = mime_address_parse(arena, in, &left, true);
    mime_address_write(&out, list);
    (void)mime_address_parse(arena, in, NULL, false);
    (void)mime_address_first(arena, in, &first);
    if (mime_content_type_parse(arena, in, &type, &subtype, &params)) {
        expect(params.count <= mime_limits_default.params);
        (void)mime_param_utf8(arena, &params, "name");
    }
    (void)mime_disposition_parse(arena, in, &type, &params);
    (void)mime_header_unfold(arena, in);
    if (mime_date_parse(in, &when, &zone)) {
        buffer_reset(&out);
        mime_date_imap_put(&out, when, zone);
    }
    if (mime_date_imap_parse(in, &when, &zone)) {
        int64_t again;
        int other;
        buffer_reset(&out);
        mime_date_imap_put(&out, when, zone);
        if (zone / 60 < 100 && zone / 60 > -100)
            expect(mime_date_imap_parse(buffer_slice(&out), &again, &other) && again == when && other == zone);
    }
    buffer_reset(&out);
    mime_words_decode(&out, in);
    expect(text_utf8_valid(buffer_slice(&out)));
    expect(text_utf8_valid(mime_base_subject(arena, in, &reply)));
    while (mime_message_id_next(arena, &rest, &id))
        expect(id.size > 0);

    struct mime_key key = mime_key_new(arena, slice_head(in, 3));
    (void)mime_match_subject(&key, in);
    (void)mime_match_addresses(&key, in);
    check_decoders(in);
    check_charsets(in);

    check_cached_envelope(arena, in);
    check_short_way(arena, in);

    /* What comes from the cache file. */
    (void)mime_parts_decode(arena, in, &root, &e);
    buffer_reset(&out);
    (void)mime_structure_to_body(&out, in, &e);
    (void)mime_header_cache_merge(arena, &in, 1, &block, &e);
    buffer_reset(&out);
    struct mime_field_list fields = mime_headers_all(arena, in);
    mime_header_cache_encode(&out, &fields, SLICE("Subject"));
    expect(mime_header_cache_decode(buffer_slice(&out), &block, &e) == 0);

    buffer_reset(&out);
    mime_put_nstring_nolf(&out, in);
    mime_put_humans(&out, in);
    mime_put_astring(&out, in);
    buffer_free(&out);
    arena_free(arena);
    return 0;
}
