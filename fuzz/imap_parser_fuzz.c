/* IMAP lines after login: no crash; whatever pieces the bytes come in, the outcome is the same, and no more is used than
 * was there. */
#include "imap/parser.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool good)
{
    if (!good)
        abort();
}

static enum imap_parse parse(struct arena *arena, struct imap_parser *p, struct slice in, size_t piece, size_t *total)
{
    size_t have = piece < in.size ? piece : in.size, used;
    enum imap_parse got;

    imap_parser_init(p, arena, 300, IMAP_PARSER_LITERAL8, 0);
    *total = 0;
    for (;;) {
        got = imap_parser_read(p, slice_from(slice_head(in, have), *total), &used);
        expect(used <= have - *total);
        *total += used;
        if (got != IMAP_PARSE_MORE || have == in.size)
            return got;
        have = have + piece < in.size ? have + piece : in.size;
    }
}

static bool same_args(const struct imap_arg *a, const struct imap_arg *b)
{
    for (; a != NULL && b != NULL; a = a->next, b = b->next) {
        if (a->type != b->type || !slice_equal(a->text, b->text) || !same_args(a->children, b->children))
            return false;
    }
    return a == NULL && b == NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct arena *arena = arena_new();
    struct imap_parser whole, pieces;
    struct imap_line line;
    size_t a, b, used;

    if (imap_line_read(in, 8192, &line, &used) == IMAP_PARSE_DONE) {
        expect(used <= size && line.tag.size > 0 && line.name.size > 0);
        in = slice_from(in, used);
    }
    if (size < 4096) {
        enum imap_parse first = parse(arena, &whole, in, in.size + 1, &a), second = parse(arena, &pieces, in, 1, &b);

        expect(first == second);
        if (first == IMAP_PARSE_DONE)
            expect(a == b && same_args(whole.args, pieces.args));
    }
    arena_free(arena);
    return 0;
}
