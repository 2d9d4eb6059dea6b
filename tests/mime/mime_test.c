/* src/mime by examples: sources in pieces, steps, caps, cache fields, sections, values, decoding, searching. */
#include <stdio.h>
#include <stdlib.h>

#include <atf-c.h>

#include "mime/mime.h"

#define CHECK_SLICE(a, text) \
    do { \
        struct slice got_ = (a); \
        ATF_CHECK_MSG(slice_equal_str(got_, (text)), "got \"%.*s\", want \"%s\"", (int)got_.size, \
                      got_.at == NULL ? (const unsigned char *)"" : got_.at, (text)); \
    } while (0)

/* ---- helpers ------------------------------------------------------------------------------------------------ */

struct memory {
    struct slice bytes;
    size_t fail_at;            /* reads from here on fail; SIZE_MAX: never */
};

static ssize_t read_memory(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    struct memory *m = arg;
    if (offset >= m->fail_at)
        return error_set(e, ERROR_TEMPORARY, "no more");
    struct slice rest = slice_head(slice_from(m->bytes, (size_t)offset), size);
    if (rest.size > 0)
        memcpy(buf, rest.at, rest.size);
    return (ssize_t)rest.size;
}

static struct mime_part *parse(struct arena *arena, const struct mime_source *source)
{
    struct mime_part *root = NULL;
    struct error e = {0};

    ATF_REQUIRE_EQ_MSG(mime_parse(arena, source, MIME_PARSE_DATA, &root, &e), 0, "%s", e.admin);
    return root;
}

static struct slice structure_of(struct arena *arena, struct slice mail)
{
    struct mime_source source = mime_source_slice(mail);
    struct buffer b = {0};

    mime_structure_put(&b, parse(arena, &source), true);
    struct slice kept = arena_slice(arena, buffer_slice(&b));
    buffer_free(&b);
    return kept;
}

static struct slice section_of(struct arena *arena, const struct mime_source *source, struct mime_part *root,
                               const char *text, uint64_t from, uint64_t count, size_t chunk, struct mime_hint *hint)
{
    unsigned char bytes[256];
    struct mime_section section;
    struct mime_reader *reader;
    struct buffer out = {0};
    struct error e = {0};
    ssize_t got;

    ATF_REQUIRE_EQ(mime_section_parse(arena, slice_from_str(text), &section, &e), 0);
    ATF_REQUIRE_EQ_MSG(mime_section_open(arena, source, root, &section, from, count, hint, &reader, &e), 0, "%s", e.admin);
    while ((got = mime_reader_read(reader, bytes, chunk, &e)) > 0)
        buffer_append(&out, bytes, (size_t)got);
    ATF_CHECK_EQ_MSG(got, 0, "%s", e.admin);
    ATF_CHECK_EQ(out.size, mime_reader_size(reader));
    mime_reader_free(reader);
    struct slice kept = out.size == 0 ? slice_of("", 0) : arena_slice(arena, buffer_slice(&out));
    buffer_free(&out);
    return kept;
}

static const char multipart[] =
    "From: a@b\n"
    "Subject: outer\n"
    "MIME-Version: 1.0\n"
    "Content-Type: multipart/mixed; boundary=\"x\"\n"
    "\n"
    "preamble\n"
    "--x\n"
    "Content-Type: text/plain; charset=utf-8\n"
    "Content-Transfer-Encoding: quoted-printable\n"
    "\n"
    "Gr=C3=BC=\n"
    "=C3=9Fe\n"
    "--x\n"
    "Content-Type: message/rfc822\n"
    "\n"
    "Subject: inner\n"
    "\n"
    "in\r\n"
    "side\n"
    "--x--\n"
    "epilogue\n";

/* ---- parser ------------------------------------------------------------------------------------------------- */

ATF_TC_WITHOUT_HEAD(pieces_and_steps);
ATF_TC_BODY(pieces_and_steps, tc)
{
    /* Long lines, CRLF and boundaries around the border of the window: at every offset the same tree. */
    struct arena *arena = arena_new();
    struct buffer mail = {0};

    for (size_t pad = 65530; pad < 65545; pad++) {
        buffer_reset(&mail);
        buffer_append_str(&mail, "Content-Type: multipart/mixed; boundary=x\r\nX-Pad: ");
        while (mail.size < pad)
            buffer_append_byte(&mail, 'p');
        buffer_append_str(&mail, "\r\n\r\n--x\r\n\r\none\r\n--x\r\n\r\n");
        for (size_t i = 0; i < 65533; i++)
            buffer_append_byte(&mail, 'l');
        buffer_append_str(&mail, "\r\ntwo\r\n--x--\r\n");

        struct memory memory = {buffer_slice(&mail), SIZE_MAX};
        struct mime_source in_memory = mime_source_slice(buffer_slice(&mail));
        struct mime_source by_reads = {read_memory, &memory, SLICE_EMPTY};
        struct buffer a = {0}, b = {0};
        struct error e = {0};

        mime_parts_encode(&a, parse(arena, &in_memory));
        struct mime_parser *p = mime_parser_new(arena, &by_reads, NULL, 0);
        enum step step;
        size_t steps = 0;
        while ((step = mime_parser_step(p, 4096, &e)) == STEP_MORE)
            steps++;
        ATF_REQUIRE_EQ(step, STEP_DONE);
        ATF_CHECK(steps > 0);
        mime_parts_encode(&b, mime_parser_root(p));
        mime_parser_free(p);
        ATF_CHECK_MSG(slice_equal(buffer_slice(&a), buffer_slice(&b)), "pad %zu", pad);
        ATF_CHECK_EQ(parse(arena, &in_memory)->children_count, 2);

        struct mime_size size, other;
        ATF_REQUIRE_EQ(mime_source_sizes(&by_reads, &size, &e), 0);
        ATF_REQUIRE_EQ(mime_source_sizes(&in_memory, &other, &e), 0);
        ATF_CHECK_EQ(size.virtual, mail.size);
        ATF_CHECK_EQ(other.virtual, mail.size);
        buffer_free(&a);
        buffer_free(&b);
        arena_reset(arena);
    }
    buffer_free(&mail);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(read_error);
ATF_TC_BODY(read_error, tc)
{
    struct arena *arena = arena_new();
    struct buffer mail = {0};
    struct error e = {0};
    struct mime_part *root = NULL;

    buffer_append_str(&mail, "Subject: x\n\n");
    while (mail.size < 200000)
        buffer_append_str(&mail, "line\n");
    struct memory memory = {buffer_slice(&mail), 100000};
    struct mime_source source = {read_memory, &memory, SLICE_EMPTY};
    ATF_CHECK_EQ(mime_parse(arena, &source, 0, &root, &e), -1);
    ATF_CHECK_EQ(e.class, ERROR_TEMPORARY);
    ATF_CHECK(root == NULL);
    buffer_free(&mail);
    arena_free(arena);
}

static void append_many(struct buffer *b, const char *text, size_t count)
{
    while (count-- > 0)
        buffer_append_str(b, text);
}

ATF_TC_WITHOUT_HEAD(depth);
ATF_TC_BODY(depth, tc)
{
    /* 2020-12100: messages in messages. The hundredth is not opened. */
    struct arena *arena = arena_new();
    struct buffer mail = {0};

    append_many(&mail, "Content-Type: message/rfc822\n\n", 20000);
    struct mime_source source = mime_source_slice(buffer_slice(&mail));
    struct mime_part *part = parse(arena, &source);
    unsigned deep = 1;
    while (part->children != NULL) {
        part = part->children;
        deep++;
    }
    ATF_CHECK_EQ(deep, 100);
    ATF_CHECK((part->flags & MIME_PART_CUT) != 0);
    struct slice structure = structure_of(arena, buffer_slice(&mail));
    ATF_CHECK(slice_find_slice(structure, SLICE("\"application\" \"octet-stream\"")) > 0);
    buffer_free(&mail);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(parts);
ATF_TC_BODY(parts, tc)
{
    struct arena *arena = arena_new();
    struct buffer mail = {0};

    buffer_append_str(&mail, "Content-Type: multipart/mixed; boundary=b\n\n");
    append_many(&mail, "--b\n\nx\n", 50000);
    struct mime_source source = mime_source_slice(buffer_slice(&mail));
    struct mime_part *root = parse(arena, &source);
    ATF_CHECK_EQ(root->children_count, 9999);
    ATF_CHECK(mime_part_at(root, 9999) != NULL);
    ATF_CHECK(mime_part_at(root, 10000) == NULL);
    /* The last one has all the rest. */
    ATF_CHECK_EQ(mime_part_at(root, 9999)->body.lines, 3 * (50000 - 9999) + 1);
    buffer_free(&mail);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(header_sizes);
ATF_TC_BODY(header_sizes, tc)
{
    /* 2024-23185: 10 MiB of values count, what stands behind is empty, the mail stays whole. */
    struct arena *arena = arena_new();
    struct buffer mail = {0}, out = {0};

    for (size_t i = 0; i < 11500; i++) {
        buffer_append_str(&mail, "X-F: ");
        append_many(&mail, "0123456789", 100);
        buffer_append_str(&mail, "\n");
    }
    buffer_append_str(&mail, "Subject: hello\nTo: a@b\nContent-Type: text/html\n\nbody\n");
    struct mime_source source = mime_source_slice(buffer_slice(&mail));
    struct mime_part *root = parse(arena, &source);
    mime_envelope_put(&out, root->data->envelope);
    CHECK_SLICE(buffer_slice(&out), "NIL \"\" NIL NIL NIL NIL NIL NIL NIL NIL");
    ATF_CHECK_EQ(mime_part_total(root).physical, mail.size);

    struct slice block, name = SLICE("Subject");
    struct error e = {0};
    ATF_REQUIRE_EQ(mime_header_read(arena, &source, NULL, &block, &e), 0);
    buffer_reset(&out);
    mime_header_filter(&out, block, mime_names_new(arena, &name, 1), false);
    CHECK_SLICE(buffer_slice(&out), "Subject: \r\n\r\n");
    buffer_free(&mail);
    buffer_free(&out);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(addresses_cap);
ATF_TC_BODY(addresses_cap, tc)
{
    /* 2024-23184, 2026-27852: 100000 addresses in all fields together, many fields in linear time. */
    struct arena *arena = arena_new();
    struct buffer mail = {0};
    uint32_t from = 0, to = 0;

    buffer_append_str(&mail, "From: ");
    append_many(&mail, "f@x, ", 60000);
    buffer_append_str(&mail, "\n");
    append_many(&mail, "To: t@y\n", 60000);
    buffer_append_str(&mail, "\n");
    struct mime_source source = mime_source_slice(buffer_slice(&mail));
    struct mime_envelope *env = parse(arena, &source)->data->envelope;
    for (struct mime_address *a = env->from; a != NULL; a = a->next)
        from++;
    for (struct mime_address *a = env->to; a != NULL; a = a->next)
        to++;
    ATF_CHECK_EQ(from, 60000);
    ATF_CHECK_EQ(to, 40000);
    buffer_free(&mail);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(params_cap);
ATF_TC_BODY(params_cap, tc)
{
    /* 2026-27859: 128 parameters, continuations too. */
    struct arena *arena = arena_new();
    struct buffer value = {0};
    struct slice type, subtype;
    struct mime_params params;

    buffer_append_str(&value, "text/plain");
    for (int i = 0; i < 100000; i++)
        buffer_printf(&value, "; p%d=%d", i, i);
    ATF_REQUIRE(mime_content_type_parse(arena, buffer_slice(&value), &type, &subtype, &params));
    ATF_CHECK_EQ(params.count, 128);
    buffer_reset(&value);
    buffer_append_str(&value, "text/plain");
    for (int i = 0; i < 200; i++)
        buffer_printf(&value, "; n*%d=%d,", i, i);
    ATF_REQUIRE(mime_content_type_parse(arena, buffer_slice(&value), &type, &subtype, &params));
    ATF_REQUIRE_EQ(params.count, 1);
    ATF_CHECK(slice_ends(params.at[0].value, SLICE("126127")));
    buffer_free(&value);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(hostile_values);
ATF_TC_BODY(hostile_values, tc)
{
    /* Values that tempt a parser to look ahead again and again. They need only end. */
    static const char *const patterns[] = {"(", "\"", "<", "=?", "=?utf-8?q?", "[a]", "[", "(fwd)", "a:", "\\", "<@", ";a=", ";=\"", "@",
                                           "=?x?b?=?", "<a", "re:[x]"};
    struct arena *arena = arena_new();
    struct buffer value = {0}, out = {0};

    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        struct slice type, subtype, id;
        struct mime_params params;
        int64_t when;
        int zone;
        bool reply;

        buffer_reset(&value);
        append_many(&value, patterns[i], 200000);
        struct slice v = buffer_slice(&value), rest = v;
        (void)mime_address_parse(arena, v, NULL, true);
        (void)mime_content_type_parse(arena, v, &type, &subtype, &params);
        (void)mime_base_subject(arena, v, &reply);
        (void)mime_date_parse(v, &when, &zone);
        buffer_reset(&out);
        mime_words_decode(&out, v);
        while (mime_message_id_next(arena, &rest, &id))
            ;
        arena_reset(arena);
    }
    buffer_free(&value);
    buffer_free(&out);
    arena_free(arena);
}

/* ---- cache fields ------------------------------------------------------------------------------------------- */

ATF_TC_WITHOUT_HEAD(parts_codec);
ATF_TC_BODY(parts_codec, tc)
{
    struct arena *arena = arena_new();
    struct mime_source source = mime_source_slice(slice_from_str(multipart));
    struct mime_part *root = parse(arena, &source), *again;
    struct buffer b = {0};
    struct error e = {0};

    /* index-format 16.3: a text of 91/96 + 6/7 bytes and one line. */
    static const unsigned char example[] = {8, 0, 0, 0, 0x5b, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 0, 0, 0,
                                            6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
    ATF_REQUIRE_EQ(mime_parts_decode(arena, slice_of(example, sizeof(example)), &again, &e), 0);
    ATF_CHECK_EQ(again->flags, MIME_PART_TEXT);
    ATF_CHECK_EQ(again->header.physical, 91);
    ATF_CHECK_EQ(again->body.virtual, 7);
    ATF_CHECK_EQ(again->body.lines, 1);
    mime_parts_encode(&b, again);
    ATF_CHECK(slice_equal(buffer_slice(&b), slice_of(example, sizeof(example))));

    buffer_reset(&b);
    mime_parts_encode(&b, root);
    ATF_REQUIRE_EQ(mime_parts_decode(arena, buffer_slice(&b), &again, &e), 0);
    ATF_CHECK_EQ(again->children_count, 2);
    ATF_CHECK_EQ(again->children->next->children->offset, root->children->next->children->offset);

    /* Cut anywhere, or with something behind: refused, never read past the end. */
    for (size_t size = 0; size < b.size; size++) {
        struct slice cut = arena_slice(arena, slice_head(buffer_slice(&b), size));
        ATF_CHECK_EQ(mime_parts_decode(arena, cut, &again, &e), -1);
        ATF_CHECK_EQ(e.class, ERROR_CORRUPT);
    }
    buffer_append_byte(&b, 0);
    ATF_CHECK_EQ(mime_parts_decode(arena, buffer_slice(&b), &again, &e), -1);
    b.size--;
    /* A child that says it is outside of its parent; a count that cannot be. */
    unsigned char *child = b.at + 4 + 32 + 4;
    child[4 + 7] = 0x10;
    ATF_CHECK_EQ(mime_parts_decode(arena, buffer_slice(&b), &again, &e), -1);
    child[4 + 7] = 0;
    b.at[4 + 32 + 3] = 0xff;
    ATF_CHECK_EQ(mime_parts_decode(arena, buffer_slice(&b), &again, &e), -1);
    buffer_free(&b);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(cached_headers);
ATF_TC_BODY(cached_headers, tc)
{
    static const char block[] = "A: one\r\nB: two\r\n\tfolded\r\na: three\r\n\r\n";
    struct arena *arena = arena_new();
    struct buffer b = {0};
    struct slice values[2], fields, merged;
    struct error e = {0};

    mime_header_cache_encode(&b, slice_from_str(block), SLICE("A"));
    ATF_REQUIRE_EQ(b.size, 12 + 7 + 9);
    ATF_CHECK_EQ(bytes_le32(b.at), 1);
    ATF_CHECK_EQ(bytes_le32(b.at + 4), 4);
    ATF_CHECK_EQ(bytes_le32(b.at + 8), 0);
    CHECK_SLICE(slice_from(buffer_slice(&b), 12), "A: one\na: three\n");
    ATF_CHECK_EQ(mime_header_cache_decode(buffer_slice(&b), &fields, &e), 0);
    CHECK_SLICE(fields, "A: one\na: three\n");
    values[0] = arena_slice(arena, buffer_slice(&b));
    buffer_reset(&b);
    mime_header_cache_encode(&b, slice_from_str(block), SLICE("b"));
    values[1] = arena_slice(arena, buffer_slice(&b));
    ATF_REQUIRE_EQ(mime_header_cache_merge(arena, values, 2, &merged, &e), 0);
    CHECK_SLICE(merged, "A: one\nB: two\n\tfolded\na: three\n");

    buffer_reset(&b);
    mime_header_cache_encode(&b, slice_from_str(block), SLICE("none"));
    ATF_CHECK_EQ(b.size, 0);
    ATF_CHECK_EQ(mime_header_cache_decode(slice_of("\1\0\0", 3), &fields, &e), -1);
    ATF_CHECK_EQ(mime_header_cache_decode(slice_of("\2\0\0\0\1\0\0\0\0\0\0\0", 12), &fields, &e), -1);
    buffer_free(&b);
    arena_free(arena);
}

/* ---- sections ----------------------------------------------------------------------------------------------- */

ATF_TC_WITHOUT_HEAD(sections);
ATF_TC_BODY(sections, tc)
{
    struct arena *arena = arena_new();
    struct mime_source source = mime_source_slice(slice_from_str(multipart));
    struct mime_part *root = parse(arena, &source);

    CHECK_SLICE(section_of(arena, &source, root, "2", 0, UINT64_MAX, 7, NULL), "Subject: inner\r\n\r\nin\r\nside");
    CHECK_SLICE(section_of(arena, &source, root, "2.HEADER", 0, UINT64_MAX, 7, NULL), "Subject: inner\r\n\r\n");
    CHECK_SLICE(section_of(arena, &source, root, "2.1", 0, UINT64_MAX, 1, NULL), "in\r\nside");
    CHECK_SLICE(section_of(arena, &source, root, "2.TEXT", 0, UINT64_MAX, 2, NULL), "in\r\nside");
    CHECK_SLICE(section_of(arena, &source, root, "2.MIME", 0, UINT64_MAX, 3, NULL), "Content-Type: message/rfc822\r\n\r\n");
    CHECK_SLICE(section_of(arena, &source, root, "3", 0, UINT64_MAX, 3, NULL), "");
    CHECK_SLICE(section_of(arena, &source, NULL, "TEXT", 0, 10, 3, NULL), "preamble\r\n");
    CHECK_SLICE(section_of(arena, &source, NULL, "HEADER", 0, 11, 3, NULL), "From: a@b\r\n");
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(partial_ranges);
ATF_TC_BODY(partial_ranges, tc)
{
    /* Every range of every section is the range of the whole, with and without a hint, in any chunks. */
    struct arena *arena = arena_new();
    struct mime_source source = mime_source_slice(slice_from_str(multipart));
    struct mime_part *root = parse(arena, &source);
    static const char *const names[] = {"", "TEXT", "1", "2"};

    for (size_t s = 0; s < sizeof(names) / sizeof(names[0]); s++) {
        struct slice whole = section_of(arena, &source, root, names[s], 0, UINT64_MAX, 100, NULL);
        for (size_t count = 1; count < 9; count += 3) {
            struct mime_hint hint = {0};
            for (size_t from = 0; from < whole.size + 2; from += count) {
                struct slice want = slice_head(slice_from(whole, from), count);
                struct slice got = section_of(arena, &source, root, names[s], from, count, 1 + from % 4, &hint);
                ATF_CHECK_MSG(slice_equal(want, got), "%s<%zu.%zu>", names[s], from, count);
                got = section_of(arena, &source, root, names[s], from, count, 5, NULL);
                ATF_CHECK(slice_equal(want, got));
            }
        }
    }
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(section_syntax);
ATF_TC_BODY(section_syntax, tc)
{
    static const char *const bad[] = {"1.", ".1", "1..2", "MIME", "1.FOO", "HEADER.", "TEXT.1", "x", "1.HEADER.FIELD", "1 "};
    struct arena *arena = arena_new();
    struct mime_section section;
    struct error e = {0};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ATF_CHECK_MSG(mime_section_parse(arena, slice_from_str(bad[i]), &section, &e) == -1, "%s", bad[i]);
    ATF_REQUIRE_EQ(mime_section_parse(arena, SLICE("1.23.header.fields.not"), &section, &e), 0);
    ATF_CHECK_EQ(section.what, MIME_SECTION_FIELDS_NOT);
    ATF_REQUIRE_EQ(section.depth, 2);
    ATF_CHECK_EQ(section.numbers[1], 23);
    ATF_REQUIRE_EQ(mime_section_parse(arena, SLICE("99999999999999999999"), &section, &e), 0);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(shorter_than_promised);
ATF_TC_BODY(shorter_than_promised, tc)
{
    struct arena *arena = arena_new();
    struct mime_source source = mime_source_slice(slice_from_str(multipart));
    struct mime_part *root = parse(arena, &source);
    struct mime_section section = {.what = MIME_SECTION_TEXT};
    struct mime_reader *reader;
    unsigned char chunk[64];
    struct error e = {0};
    ssize_t got;

    source.whole.size -= 30;
    ATF_REQUIRE_EQ(mime_section_open(arena, &source, root, &section, 0, UINT64_MAX, NULL, &reader, &e), 0);
    while ((got = mime_reader_read(reader, chunk, sizeof(chunk), &e)) > 0)
        ;
    ATF_CHECK_EQ(got, -1);
    ATF_CHECK_EQ(e.class, ERROR_CORRUPT);
    mime_reader_free(reader);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(filter);
ATF_TC_BODY(filter, tc)
{
    static const char block[] = "To: a\nX: 1\n\t2\nno colon\nto: b\nSubject: s";
    struct arena *arena = arena_new();
    struct slice names[] = {SLICE("TO"), SLICE("x")};
    struct mime_names *set = mime_names_new(arena, names, 2);
    struct buffer out = {0};

    mime_header_filter(&out, slice_from_str(block), set, false);
    CHECK_SLICE(buffer_slice(&out), "To: a\r\nX: 1\r\n\t2\r\nto: b\r\n\r\n");
    buffer_reset(&out);
    mime_header_filter(&out, slice_from_str(block), set, true);
    CHECK_SLICE(buffer_slice(&out), "no colon\r\nSubject: s");
    ATF_CHECK_EQ(mime_names_index(set, SLICE("X")), 1);
    ATF_CHECK_EQ(mime_names_index(set, SLICE("y")), -1);
    ATF_CHECK(!mime_names_has(mime_names_new(arena, NULL, 0), SLICE("y")));
    buffer_free(&out);
    arena_free(arena);
}

/* ---- values ------------------------------------------------------------------------------------------------- */

ATF_TC_WITHOUT_HEAD(dates);
ATF_TC_BODY(dates, tc)
{
    static const struct {
        const char *text;
        long long unix_time;   /* -1: no date */
        int zone;
    } cases[] = {
        {"Tue, 24 Nov 2026 19:37:57 +0000", 1795549077, 0}, {"24 Nov 26 19:37 +0100", 1795545420, 60},
        {"24 Nov 99 00:00:00 GMT", 943401600, 0},           {"24 Nov 69 00:00:00 GMT", 3152476800, 0},
        {"24 Nov 2026 19:37:57 EST", 1795567077, -300},     {"24 Nov 2026 19:37:57 M", 1795505877, 720},
        {"24 Nov 2026 23:59:60 +0000", 1795564799, 0},      {"24 Nov 2026 19.37.57 (c) -2459", 1795639017, -1499},
        {"24 November 2026 19:37:57 bogus", 1795549077, 0}, {"31 Feb 2026 00:00:00 +0000", -1, 0},
        {"29 Feb 2023 00:00:00 +0000", -1, 0},              {"29 Feb 2024 00:00:00 +0000", 1709164800, 0},
        {"24 Nov 126 00:00:00 GMT", -1, 0},                 {"4 Nov 2026 0:0:0 +0000", -1, 0},
        {"Tue 24 Nov 2026 19:37:57 +0000", -1, 0},          {"Tuesday, 24 Nov 2026 19:37:57 +0000", -1, 0},
        {"24 Nov 2026 24:00:00 +0000", -1, 0},              {"", -1, 0},
        {"24 Nov 2026 19:37:", -1, 0},                      {"24 Nov 1900 00:00:00 +0000", -2180736000LL, 0},
    };
    struct buffer out = {0};
    int64_t t;
    int zone;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool good = mime_date_parse(slice_from_str(cases[i].text), &t, &zone);
        ATF_CHECK_MSG(good == (cases[i].unix_time != -1), "%s", cases[i].text);
        if (good)
            ATF_CHECK_MSG(t == cases[i].unix_time && zone == cases[i].zone, "%s: %lld %d", cases[i].text, (long long)t, zone);
    }
    /* There and back over four hundred years, a prime number of seconds apart. */
    for (int64_t when = -6000000000LL; when < 7000000000LL; when += 7654321) {
        buffer_reset(&out);
        mime_date_imap_put(&out, when, 90);
        int64_t again = 0;
        ATF_REQUIRE_MSG(mime_date_imap_parse(buffer_slice(&out), &again, &zone), "%s", buffer_cstr(&out));
        ATF_CHECK_EQ(again, when);
        ATF_CHECK_EQ(zone, 90);
        buffer_reset(&out);
        mime_date_mail_put(&out, when, -330);
        ATF_REQUIRE_MSG(mime_date_parse(buffer_slice(&out), &again, &zone), "%s", buffer_cstr(&out));
        ATF_CHECK_EQ(again, when);
        ATF_CHECK_EQ(zone, -330);
    }
    buffer_reset(&out);
    mime_date_imap_put(&out, 1641376800, 0);
    CHECK_SLICE(buffer_slice(&out), "05-Jan-2022 10:00:00 +0000");
    buffer_reset(&out);
    mime_date_mail_put(&out, 1795549077, 0);
    CHECK_SLICE(buffer_slice(&out), "Tue, 24 Nov 2026 19:37:57 +0000");
    ATF_CHECK(mime_date_imap_parse(SLICE(" 5-Jan-2022 10:00:00 +0000"), &t, &zone));
    ATF_CHECK(mime_date_imap_parse(SLICE("32-Jan-2022 10:00:00 +0000"), &t, &zone) && t == INT64_MAX);
    ATF_CHECK(mime_date_imap_parse(SLICE("31-Dec-2016 23:59:60 +0000"), &t, &zone) && t == 1483228799);
    ATF_CHECK(!mime_date_imap_parse(SLICE("05-Jan-2022 10:00:00"), &t, &zone));
    ATF_CHECK(!mime_date_imap_parse(SLICE("05-Jan-22 10:00:00 +0000"), &t, &zone));
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(words);
ATF_TC_BODY(words, tc)
{
    static const struct {
        const char *text, *decoded;
    } cases[] = {
        {"=?utf-8?q?a_b?=", "a b"}, {"=?utf-8?q?a?= \r\n =?utf-8?q?b?=", "ab"}, {"=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"},
        {"x=?utf-8?q?a?=y", "xay"}, {"=?iso-8859-1?q?=E4?=", "\xc3\xa4"}, {"=?iso-8859-1*de?q?=E4?=", "\xc3\xa4"},
        {"=?koi8-r?b?8tXT?=", "\xd0\xa0\xd1\x83\xd1\x81"}, {"=?utf-8?x?a?=", "=?utf-8?x?a?="}, {"=?utf-8?q?a", "=?utf-8?q?a"},
        {"=?utf-8?q?a?b?=", "=?utf-8?q?a?b?="}, {"=?bogus?q?a?=", "a"}, {"=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "\xc3\xa4"},
        {"\xe4", "\xef\xbf\xbd"}, {"a\n b", "a b"}, {"=?utf-8?b?w6Q?=", "\xc3\xa4"}, {"=?utf-8?q?=FF?=", "\xef\xbf\xbd"},
        {"=?utf-8?q?a=00b?=", "a b"}, {"=?=?utf-8?q?a?=", "=?a"}, {"=?iso-2022-jp?b?GyRCJCIbKEI=?=", "\xe3\x81\x82"},
    };
    struct buffer out = {0};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        buffer_reset(&out);
        mime_words_decode(&out, slice_from_str(cases[i].text));
        CHECK_SLICE(buffer_slice(&out), cases[i].decoded);
    }
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(subjects);
ATF_TC_BODY(subjects, tc)
{
    static const struct {
        const char *text, *base;
        bool reply;
    } cases[] = {
        {"Hello", "HELLO", false}, {"Re: Hello", "HELLO", true}, {"RE : [x] fwd: Hello (fwd) (FWD)", "HELLO", true},
        {"[list] Hello", "HELLO", false}, {"[list] Re: Hello", "HELLO", true}, {"Re[2]: Hello", "HELLO", true},
        {"[fwd: Hello]", "HELLO", true}, {"[Fwd: [x] Re: Hello]", "HELLO", true}, {"[blob]", "[BLOB]", false},
        {"Re:", "", true}, {"", "", false}, {"  a \t b ", "A B", false}, {"=?utf-8?q?re=3A_=C3=A4?=", "A\xcc\x88", true},
        {"reply: x", "REPLY: X", false}, {"[a][b] x", "X", false}, {"[a [b] x", "[A [B] X", false},
    };
    struct arena *arena = arena_new();

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool reply;
        CHECK_SLICE(mime_base_subject(arena, slice_from_str(cases[i].text), &reply), cases[i].base);
        ATF_CHECK_MSG(reply == cases[i].reply, "%s", cases[i].text);
    }
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(message_ids);
ATF_TC_BODY(message_ids, tc)
{
    struct arena *arena = arena_new();
    struct slice rest = SLICE("junk <a@b> (c) <d.e @ f.g>\n <bad> <\"q\"@h> <i@j"), id;

    ATF_REQUIRE(mime_message_id_next(arena, &rest, &id));
    CHECK_SLICE(id, "a@b");
    ATF_REQUIRE(mime_message_id_next(arena, &rest, &id));
    CHECK_SLICE(id, "d.e@f.g");
    ATF_REQUIRE(mime_message_id_next(arena, &rest, &id));
    CHECK_SLICE(id, "q@h");
    ATF_CHECK(!mime_message_id_next(arena, &rest, &id));
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(addresses);
ATF_TC_BODY(addresses, tc)
{
    struct arena *arena = arena_new();
    struct buffer out = {0};
    struct slice first;

    mime_address_write(&out, mime_address_parse(arena, SLICE("a@b, Name <c@d>, \"Q, S\" <\"e f\"@g>, grp: h@i, j@k;, x (Com)"), NULL, true));
    CHECK_SLICE(buffer_slice(&out),
                "<a@b>, Name <c@d>, \"Q, S\" <\"e f\"@g>, grp: <h@i>, <j@k>;, Com <x@MISSING_DOMAIN>");
    ATF_REQUIRE(mime_address_first(arena, SLICE("g: x <a@b>, c@d;"), &first));
    CHECK_SLICE(first, "a@b");
    ATF_CHECK(!mime_address_first(arena, SLICE("x"), &first));
    ATF_CHECK(!mime_address_first(arena, SLICE(""), &first));
    struct mime_address *a = mime_address_parse(arena, SLICE("x"), NULL, false);
    ATF_REQUIRE(a != NULL);
    ATF_CHECK(a->invalid);
    ATF_CHECK_EQ(a->domain.size, 0);
    buffer_free(&out);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(params);
ATF_TC_BODY(params, tc)
{
    struct arena *arena = arena_new();
    struct slice type, subtype;
    struct mime_params params;

    ATF_REQUIRE(mime_content_type_parse(arena, SLICE("a/b; n*0*=utf-8''x%C3%A4; n*1=y; m=\"=?utf-8?q?=C3=A4?=\"; k*=iso-8859-1'de'%E4"),
                                        &type, &subtype, &params));
    CHECK_SLICE(mime_param_utf8(arena, &params, "N"), "x\xc3\xa4y");
    CHECK_SLICE(mime_param_utf8(arena, &params, "m"), "\xc3\xa4");
    CHECK_SLICE(mime_param_utf8(arena, &params, "k"), "\xc3\xa4");
    ATF_CHECK(mime_param_utf8(arena, &params, "none").at == NULL);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(unfold);
ATF_TC_BODY(unfold, tc)
{
    struct arena *arena = arena_new();
    CHECK_SLICE(mime_header_unfold(arena, SLICE("  a\r\n b\n\tc\r\n ")), "a b\tc");
    CHECK_SLICE(mime_header_unfold(arena, SLICE(" \r\n ")), "");
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(quoting);
ATF_TC_BODY(quoting, tc)
{
    struct buffer out = {0};

    mime_put_nstring(&out, SLICE_EMPTY);
    mime_put_nstring(&out, slice_of("", 0));
    mime_put_nstring(&out, SLICE("a\"b\\"));
    mime_put_nstring(&out, SLICE("\"\"\"\"\""));
    mime_put_nstring_nolf(&out, SLICE("a\r\n b\nc"));
    mime_put_humans(&out, SLICE("say \"hi\""));
    mime_put_humans(&out, SLICE("plain text"));
    mime_put_astring(&out, SLICE("INBOX"));
    mime_put_astring(&out, SLICE("nil"));
    mime_put_astring(&out, SLICE("a b"));
    CHECK_SLICE(buffer_slice(&out), "NIL\"\"\"a\\\"b\\\\\"{5}\r\n\"\"\"\"\"\"a b c\"{8}\r\nsay \"hi\"\"plain text\"INBOX\"nil\"\"a b\"");
    buffer_free(&out);
}

/* ---- decoding and searching ---------------------------------------------------------------------------------- */

static void check_decoder(enum mime_encoding encoding, const char *in, const char *want, bool broken)
{
    /* In one piece and in pieces of every size. */
    struct slice text = slice_from_str(in);
    for (size_t piece = 1; piece <= text.size + 1; piece++) {
        struct mime_decoder d;
        struct buffer out = {0};
        mime_decoder_init(&d, encoding);
        for (size_t at = 0; at < text.size; at += piece)
            mime_decoder_feed(&d, slice_head(slice_from(text, at), piece), &out);
        mime_decoder_finish(&d, &out);
        CHECK_SLICE(buffer_slice(&out), want);
        ATF_CHECK_EQ_MSG(d.broken, broken, "%s", in);
        buffer_free(&out);
    }
}

ATF_TC_WITHOUT_HEAD(decoders);
ATF_TC_BODY(decoders, tc)
{
    check_decoder(MIME_ENCODING_BASE64, "aGVs\r\nbG8=", "hello", false);
    check_decoder(MIME_ENCODING_BASE64, "aGVsbG8", "hello", true);
    check_decoder(MIME_ENCODING_BASE64, "aGVsbG9o", "helloh", false);
    check_decoder(MIME_ENCODING_BASE64, "aA==\n", "h", false);
    check_decoder(MIME_ENCODING_BASE64, "aGV!sbG8=", "he", true);
    check_decoder(MIME_ENCODING_BASE64, "aGVsbG8=aGVs", "hello", true);
    check_decoder(MIME_ENCODING_QP, "a=3Db=\r\n c =\nd \t\ne", "a=b c d\ne", false);
    check_decoder(MIME_ENCODING_QP, "a=GGb", "a=GGb", true);
    check_decoder(MIME_ENCODING_QP, "a= \nb=c3=a4", "ab\xc3\xa4", false);
    check_decoder(MIME_ENCODING_QP, "a  b  \r\nc", "a  b\r\nc", false);
    check_decoder(MIME_ENCODING_NONE, "a=20", "a=20", false);
    ATF_CHECK_EQ(mime_encoding_of(SLICE("Base64")), MIME_ENCODING_BASE64);
    ATF_CHECK_EQ(mime_encoding_of(SLICE("x-uuencode")), MIME_ENCODING_UNKNOWN);
    ATF_CHECK_EQ(mime_encoding_of(SLICE_EMPTY), MIME_ENCODING_NONE);
}

ATF_TC_WITHOUT_HEAD(charsets);
ATF_TC_BODY(charsets, tc)
{
    static const struct {
        const char *charset, *in, *want;
        bool good;
    } cases[] = {
        {"", "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", true},
        {"utf-8", "a\xff\xfe" "b\xc3", "a\xef\xbf\xbd" "b\xef\xbf\xbd", false},
        {"utf-8", "\xed\xa0\x80x\xc0\x80", "\xef\xbf\xbdx\xef\xbf\xbd", false},
        {"iso-8859-1", "\xe4\xf6", "\xc3\xa4\xc3\xb6", true},
        {"iso-2022-jp", "\x1b$B$\"\x1b(B", "\xe3\x81\x82", true},
        {"shift_jis", "\x82\xa0", "\xe3\x81\x82", true},
        {"utf-16be", "A\x04", "\xe4\x84\x84", true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice in = slice_from_str(cases[i].in);
        for (size_t piece = 1; piece <= in.size; piece++) {
            struct buffer out = {0};
            struct mime_charset *c = mime_charset_open(slice_from_str(cases[i].charset));
            ATF_REQUIRE(c != NULL);
            for (size_t at = 0; at < in.size; at += piece)
                mime_charset_feed(c, slice_head(slice_from(in, at), piece), &out);
            bool good = mime_charset_close(c, &out);
            CHECK_SLICE(buffer_slice(&out), cases[i].want);
            ATF_CHECK_EQ(good, cases[i].good);
            buffer_free(&out);
        }
    }
    ATF_CHECK(!mime_charset_known(SLICE("bogus")));
    ATF_CHECK(!mime_charset_known(SLICE("utf-16//TRANSLIT")));
    ATF_CHECK(!mime_charset_known(SLICE("../../x")));
}

static void check_fold(const char *in, const char *want)
{
    struct buffer out = {0};
    mime_normalise(&out, slice_from_str(in));
    CHECK_SLICE(buffer_slice(&out), want);
    buffer_free(&out);
}

ATF_TC_WITHOUT_HEAD(folding);
ATF_TC_BODY(folding, tc)
{
    check_fold("abcXYZ1", "ABCXYZ1");
    check_fold("\xc3\xa4pfel", "A\xcc\x88PFEL");
    check_fold("a\xcc\x88", "A\xcc\x88");
    check_fold("\xc3\x9f", "\xc3\x9f");
    check_fold("\xef\xbc\x81", "!");
    check_fold("\xff", "\xef\xbf\xbd");
}

static void search(struct slice mail, const char *const *texts, size_t count, bool headers, bool *found)
{
    struct arena *arena = arena_new();
    struct mime_source source = mime_source_slice(mail);
    struct mime_part *root = parse(arena, &source);
    struct mime_key keys[8];
    struct error e = {0};
    enum step step;

    for (size_t i = 0; i < count; i++) {
        keys[i] = mime_key_new(arena, slice_from_str(texts[i]));
        found[i] = false;
    }
    struct mime_search *s = mime_search_new(arena, &source, root, keys, found, count, headers);
    while ((step = mime_search_step(s, 1000, &e)) == STEP_MORE)
        ;
    ATF_CHECK_EQ(step, STEP_DONE);
    mime_search_free(s);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(searching);
ATF_TC_BODY(searching, tc)
{
    static const char *const keys[] = {"GR\xc3\x9cSSE", "gr\xc3\xbc\xc3\x9f" "e", "preamble", "inner", "side", "subject: INNER", "in\r\nside", ""};
    bool body[8], text[8];

    search(slice_from_str(multipart), keys, 8, false, body);
    search(slice_from_str(multipart), keys, 8, true, text);
    static const bool want_body[] = {false, true, false, false, true, false, true, true};
    static const bool want_text[] = {false, true, false, true, true, true, true, true};
    for (size_t i = 0; i < 8; i++) {
        ATF_CHECK_EQ_MSG(body[i], want_body[i], "%s", keys[i]);
        ATF_CHECK_EQ_MSG(text[i], want_text[i], "%s", keys[i]);
    }
}

ATF_TC_WITHOUT_HEAD(search_across_chunks);
ATF_TC_BODY(search_across_chunks, tc)
{
    static const char *const key[] = {"needle in the hay"};
    struct buffer mail = {0};
    bool found;

    for (size_t at = 32768 - 20; at < 32768 + 20; at++) {
        buffer_reset(&mail);
        buffer_append_str(&mail, "\n");
        while (mail.size < at)
            buffer_append_byte(&mail, 'h');
        buffer_append_str(&mail, "Needle in the HAY");
        append_many(&mail, "h", 40000);
        search(buffer_slice(&mail), key, 1, false, &found);
        ATF_CHECK_MSG(found, "at %zu", at);
    }
    buffer_free(&mail);
}

ATF_TC_WITHOUT_HEAD(search_values);
ATF_TC_BODY(search_values, tc)
{
    static const char block[] = "From: \"Anna B\" <x@y>\nFrom: z@w (Com)\nSubject: a\n  b\tc\nX:\n\n";
    struct arena *arena = arena_new();
    struct mime_key empty = mime_key_new(arena, SLICE_EMPTY);
    static const struct {
        const char *name, *key;
        enum mime_match_kind kind;
        bool want;
    } cases[] = {
        {"from", "\"anna b\" <x@", MIME_MATCH_ADDRESSES, true}, {"from", "com <z@w>", MIME_MATCH_ADDRESSES, true},
        {"from", "(com)", MIME_MATCH_ADDRESSES, false}, {"from", "(com)", MIME_MATCH_VALUE, true},
        {"subject", "a b c", MIME_MATCH_SUBJECT, true}, {"subject", "a b c", MIME_MATCH_VALUE, false},
        {"subject", "a  b", MIME_MATCH_VALUE, true}, {"to", "a", MIME_MATCH_VALUE, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mime_key key = mime_key_new(arena, slice_from_str(cases[i].key));
        ATF_CHECK_EQ_MSG(mime_match_header(&key, slice_from_str(block), slice_from_str(cases[i].name), cases[i].kind),
                         cases[i].want, "%s %s", cases[i].name, cases[i].key);
    }
    ATF_CHECK(mime_match_header(&empty, slice_from_str(block), SLICE("x"), MIME_MATCH_VALUE));
    ATF_CHECK(!mime_match_header(&empty, slice_from_str(block), SLICE("y"), MIME_MATCH_VALUE));
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(previews);
ATF_TC_BODY(previews, tc)
{
    static const struct {
        const char *mail, *preview;
    } cases[] = {
        {"\na\n> q\nb", "a b"}, {"\n> q\n> r", ">q r"}, {"\n  \n", ""},
        {"Content-Type: text/html\n\n<p>Hello <b>World</b> &amp; all</p>", "Hello World & all"},
        {"Content-Type: text/html\n\n<style>x{}</style>a<script>if (a<b) c</script>d<!-- x -->e", "a de"},
        {"Content-Type: text/html\n\n<blockquote>q</blockquote>z &eacute;&#233;&#xe9;", "z \xc3\xa9\xc3\xa9\xc3\xa9"},
        {"Content-Type: image/gif\n\nx", ""}, {"Content-Type: text/html\n\n<a b=\"c>d", ""},   /* 2020-7957: crafted mail */
        {"Content-Type: text/html\n\n&", ""}, {"\n>", ""}, {"\n\xef\xbb\xbfx", "x"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct arena *arena = arena_new();
        struct mime_source source = mime_source_slice(slice_from_str(cases[i].mail));
        struct buffer out = {0};
        struct error e = {0};
        ATF_REQUIRE_EQ(mime_preview(arena, &source, parse(arena, &source), &out, &e), 0);
        CHECK_SLICE(buffer_slice(&out), cases[i].preview);
        buffer_free(&out);
        arena_free(arena);
    }
}

ATF_TC_WITHOUT_HEAD(plain_structure);
ATF_TC_BODY(plain_structure, tc)
{
    struct arena *arena = arena_new();
    static const char *const plain[] = {"\nx\n", "Content-Type: text/plain; charset=us-ascii\n\nx\ny",
                                        "MIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\n"};
    static const char *const not_plain[] = {"Content-Type: text/html\n\nx", "Content-Type: text/plain; charset=utf-8\n\nx",
                                            "MIME-Version: 1\nContent-ID: x\n\nx", "Content-Type: image/gif\n\nx"};

    for (size_t i = 0; i < 3; i++) {
        struct mime_source source = mime_source_slice(slice_from_str(plain[i]));
        struct mime_part *root = parse(arena, &source);
        struct buffer out = {0};
        ATF_CHECK(mime_structure_is_plain(root));
        mime_structure_put_plain(&out, root, true);
        ATF_CHECK(slice_equal(buffer_slice(&out), structure_of(arena, source.whole)));
        buffer_free(&out);
    }
    for (size_t i = 0; i < 4; i++) {
        struct mime_source source = mime_source_slice(slice_from_str(not_plain[i]));
        ATF_CHECK(!mime_structure_is_plain(parse(arena, &source)));
    }
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, pieces_and_steps);
    ATF_TP_ADD_TC(tp, read_error);
    ATF_TP_ADD_TC(tp, depth);
    ATF_TP_ADD_TC(tp, parts);
    ATF_TP_ADD_TC(tp, header_sizes);
    ATF_TP_ADD_TC(tp, addresses_cap);
    ATF_TP_ADD_TC(tp, params_cap);
    ATF_TP_ADD_TC(tp, hostile_values);
    ATF_TP_ADD_TC(tp, parts_codec);
    ATF_TP_ADD_TC(tp, cached_headers);
    ATF_TP_ADD_TC(tp, sections);
    ATF_TP_ADD_TC(tp, partial_ranges);
    ATF_TP_ADD_TC(tp, section_syntax);
    ATF_TP_ADD_TC(tp, shorter_than_promised);
    ATF_TP_ADD_TC(tp, filter);
    ATF_TP_ADD_TC(tp, dates);
    ATF_TP_ADD_TC(tp, words);
    ATF_TP_ADD_TC(tp, subjects);
    ATF_TP_ADD_TC(tp, message_ids);
    ATF_TP_ADD_TC(tp, addresses);
    ATF_TP_ADD_TC(tp, params);
    ATF_TP_ADD_TC(tp, unfold);
    ATF_TP_ADD_TC(tp, quoting);
    ATF_TP_ADD_TC(tp, decoders);
    ATF_TP_ADD_TC(tp, charsets);
    ATF_TP_ADD_TC(tp, folding);
    ATF_TP_ADD_TC(tp, searching);
    ATF_TP_ADD_TC(tp, search_across_chunks);
    ATF_TP_ADD_TC(tp, search_values);
    ATF_TP_ADD_TC(tp, previews);
    ATF_TP_ADD_TC(tp, plain_structure);
    return atf_no_error();
}
