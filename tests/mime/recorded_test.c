/* What the real server said about mail that is ordinary, odd or broken (tests/mime/cases, recorded by
 * oracle.py record): ENVELOPE and BODYSTRUCTURE must be the same, byte for byte; and what must hold of any mail. */
#include <stdio.h>

#include <atf-c.h>

#include "mime/mime.h"

static struct slice read_all(struct arena *arena, const char *name)
{
    char path[4096];
    unsigned char chunk[65536];
    struct buffer b = {0};
    size_t got;

    snprintf(path, sizeof(path), "%s/%s", MIME_CASES, name);
    FILE *file = fopen(path, "rb");
    ATF_REQUIRE_MSG(file != NULL, "%s", path);
    while ((got = fread(chunk, 1, sizeof(chunk), file)) > 0)
        buffer_append(&b, chunk, got);
    fclose(file);
    struct slice all = arena_slice(arena, buffer_slice(&b));
    buffer_free(&b);
    return all;
}

/* "WORD size\n" + bytes + "\n" */
static struct slice take_block(struct slice *rest, const char *word)
{
    ptrdiff_t lf = slice_find(*rest, '\n');
    uint64_t size;
    struct slice line = slice_head(*rest, (size_t)lf);

    ATF_REQUIRE(lf > 0 && slice_starts(line, slice_from_str(word)));
    ATF_REQUIRE(slice_to_u64(slice_from(line, strlen(word) + 1), &size));
    struct slice block = slice_head(slice_from(*rest, (size_t)lf + 1), (size_t)size);
    ATF_REQUIRE_EQ(block.size, size);
    *rest = slice_from(*rest, (size_t)lf + 2 + (size_t)size);
    return block;
}

static void check_same(const char *what, struct slice mail, struct slice ours, struct slice theirs)
{
    ATF_CHECK_MSG(slice_equal(ours, theirs), "%s of\n%.*s\nours:   %.*s\ntheirs: %.*s", what, (int)mail.size, mail.at,
                  (int)ours.size, ours.at, (int)theirs.size, theirs.at);
}

/* The tree survives its form in the cache; data loaded again and BODY derived say the same. */
static void check_cache(struct arena *arena, struct slice mail, struct mime_part *root)
{
    struct mime_source source = mime_source_slice(mail);
    struct buffer a = {0}, b = {0};
    struct mime_part *again;
    struct error e = {0};

    mime_parts_encode(&a, root);
    ATF_REQUIRE_EQ(mime_parts_decode(arena, buffer_slice(&a), &again, &e), 0);
    mime_parts_encode(&b, again);
    check_same("mime.parts", mail, buffer_slice(&b), buffer_slice(&a));

    ATF_REQUIRE_EQ(mime_part_load_data(arena, &source, again, &e), 0);
    buffer_reset(&a);
    buffer_reset(&b);
    mime_structure_put(&a, root, true);
    mime_structure_put(&b, again, true);
    check_same("structure of the cached tree", mail, buffer_slice(&b), buffer_slice(&a));

    struct slice structure = arena_slice(arena, buffer_slice(&a));
    buffer_reset(&a);
    buffer_reset(&b);
    mime_structure_put(&a, root, false);
    ATF_REQUIRE_EQ(mime_structure_to_body(&b, structure, &e), 0);
    check_same("derived BODY", mail, buffer_slice(&b), buffer_slice(&a));
    buffer_free(&a);
    buffer_free(&b);
}

static void check_mail(struct slice mail, struct slice answer)
{
    struct arena *arena = arena_new();
    struct mime_source source = mime_source_slice(mail);
    struct buffer out = {0};
    struct mime_part *root;
    struct mime_size size;
    struct error e = {0};

    ATF_REQUIRE_EQ(mime_parse(arena, &source, MIME_PARSE_DATA, &root, &e), 0);
    buffer_append_str(&out, "ENVELOPE (");
    mime_envelope_put(&out, root->data->envelope);
    buffer_append_str(&out, ") BODYSTRUCTURE (");
    mime_structure_put(&out, root, true);
    buffer_append_str(&out, ")");
    check_same("answer", mail, buffer_slice(&out), answer);

    ATF_REQUIRE_EQ(mime_source_sizes(&source, &size, &e), 0);
    struct mime_size total = mime_part_total(root);
    ATF_CHECK_EQ(total.physical, size.physical);
    ATF_CHECK_EQ(total.virtual, size.virtual);
    ATF_CHECK_EQ(total.lines, size.lines);
    check_cache(arena, mail, root);
    buffer_free(&out);
    arena_free(arena);
}

static void check_file(const char *name, size_t least)
{
    struct arena *arena = arena_new();
    struct slice rest = read_all(arena, name);
    size_t count = 0;

    while (rest.size > 0) {
        struct slice mail = take_block(&rest, "MAIL");
        check_mail(mail, take_block(&rest, "ANSWER"));
        count++;
    }
    ATF_CHECK(count >= least);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(ordinary);
ATF_TC_BODY(ordinary, tc)
{
    check_file("ordinary.cases", 60);
}

ATF_TC_WITHOUT_HEAD(addresses);
ATF_TC_BODY(addresses, tc)
{
    check_file("addresses.cases", 350);
}

ATF_TC_WITHOUT_HEAD(fields);
ATF_TC_BODY(fields, tc)
{
    check_file("fields.cases", 500);
}

ATF_TC_WITHOUT_HEAD(structure);
ATF_TC_BODY(structure, tc)
{
    check_file("structure.cases", 40);
}

ATF_TC_WITHOUT_HEAD(broken);
ATF_TC_BODY(broken, tc)
{
    check_file("broken.cases", 250);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, ordinary);
    ATF_TP_ADD_TC(tp, addresses);
    ATF_TP_ADD_TC(tp, fields);
    ATF_TP_ADD_TC(tp, structure);
    ATF_TP_ADD_TC(tp, broken);
    return atf_no_error();
}
