/* src/mime by examples: sources in pieces, steps, caps, cache fields, sections. */
#include "tests/mime/mime_help.h"

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
    struct mime_field_list list = mime_headers_all(arena, slice_from_str(block));
    struct buffer b = {0};
    struct slice values[2], fields, merged;
    struct error e = {0};

    mime_header_cache_encode(&b, &list, SLICE("A"));
    ATF_REQUIRE_EQ(b.size, 12 + 7 + 9);
    ATF_CHECK_EQ(bytes_le32(b.at), 1);
    ATF_CHECK_EQ(bytes_le32(b.at + 4), 4);
    ATF_CHECK_EQ(bytes_le32(b.at + 8), 0);
    CHECK_SLICE(slice_from(buffer_slice(&b), 12), "A: one\na: three\n");
    ATF_CHECK_EQ(mime_header_cache_decode(buffer_slice(&b), &fields, &e), 0);
    CHECK_SLICE(fields, "A: one\na: three\n");
    values[0] = arena_slice(arena, buffer_slice(&b));
    buffer_reset(&b);
    mime_header_cache_encode(&b, &list, SLICE("b"));
    values[1] = arena_slice(arena, buffer_slice(&b));
    ATF_REQUIRE_EQ(mime_header_cache_merge(arena, values, 2, &merged, &e), 0);
    CHECK_SLICE(merged, "A: one\nB: two\n\tfolded\na: three\n");

    buffer_reset(&b);
    mime_header_cache_encode(&b, &list, SLICE("none"));
    ATF_CHECK_EQ(b.size, 0);
    ATF_CHECK_EQ(mime_header_cache_decode(slice_of("\1\0\0", 3), &fields, &e), -1);
    ATF_CHECK_EQ(mime_header_cache_decode(slice_of("\2\0\0\0\1\0\0\0\0\0\0\0", 12), &fields, &e), -1);
    buffer_free(&b);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(cached_envelope);
ATF_TC_BODY(cached_envelope, tc)
{
    static const char block[] = "To: a@b.c\r\nSubject: one\r\nDate: Thu,\r\n 1 Jan\r\nX: y\r\ncc: =?utf-8?q?c?= <c@d>\r\nTO: \"e\\\"f\" <e@f>\r\n"
                                "From: g@h\r\nMessage-ID: <m>\r\nSubject: two  \r\n\r\n";
    struct arena *arena = arena_new();
    struct mime_field_list list = mime_headers_all(arena, slice_from_str(block));
    struct slice values[MIME_ENVELOPE_NAMES];
    struct buffer b = {0};
    struct error e = {0};

    for (size_t i = 0; i < MIME_ENVELOPE_NAMES; i++) {
        buffer_reset(&b);
        mime_header_cache_encode(&b, &list, slice_from_str(mime_envelope_names[i]));
        values[i] = arena_slice(arena, buffer_slice(&b));
    }
    buffer_reset(&b);
    ATF_REQUIRE_EQ(mime_envelope_put_cached(&b, arena, values, &e), 0);
    CHECK_SLICE(buffer_slice(&b),
                "\"Thu, 1 Jan\" {3}\r\ntwo ((NIL NIL \"g\" \"h\")) ((NIL NIL \"g\" \"h\")) ((NIL NIL \"g\" \"h\")) "
                "((NIL NIL \"a\" \"b.c\")({3}\r\ne\"f NIL \"e\" \"f\")) ((\"=?utf-8?q?c?=\" NIL \"c\" \"d\")) NIL NIL \"<m>\"");
    values[3] = slice_of("\1\0\0", 3);
    buffer_reset(&b);
    ATF_CHECK_EQ(mime_envelope_put_cached(&b, arena, values, &e), -1);
    ATF_CHECK_EQ(b.size, 0);
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
    ATF_TP_ADD_TC(tp, cached_envelope);
    ATF_TP_ADD_TC(tp, sections);
    ATF_TP_ADD_TC(tp, partial_ranges);
    ATF_TP_ADD_TC(tp, section_syntax);
    ATF_TP_ADD_TC(tp, shorter_than_promised);
    ATF_TP_ADD_TC(tp, filter);

    return atf_no_error();
}
