/* Any bytes as a mail: parsing, structure, envelope, cache fields, sections, preview and search never crash, and the
 * tree keeps its promises: parts lie inside their parents, sizes add up, what goes into the cache comes out again, a
 * reader gives exactly the size it names. */
#include <stdlib.h>

#include "mime/mime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool good)
{
    if (!good)
        abort();
}

static ssize_t read_slice(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    const struct slice *all = arg;
    struct slice rest = slice_head(slice_from(*all, offset > all->size ? all->size : (size_t)offset), size);

    (void)e;
    if (rest.size > 0)
        memcpy(buf, rest.at, rest.size);
    return (ssize_t)rest.size;
}

static void check_tree(struct mime_part *root, size_t size)
{
    uint32_t count = 0;

    expect(mime_part_total(root).physical == size);
    for (struct mime_part *part = root; part != NULL; part = mime_part_following(root, part)) {
        uint64_t from = part->offset + part->header.physical;
        expect(++count <= mime_limits_default.parts);
        expect(part->header.virtual >= part->header.physical && part->body.virtual >= part->body.physical);
        for (struct mime_part *child = part->children; child != NULL; child = child->next) {
            expect(child->parent == part && child->offset >= from);
            from = child->offset + mime_part_total(child).physical;
        }
        expect(from <= part->offset + mime_part_total(part).physical);
    }
}

static void check_section(struct arena *arena, const struct mime_source *source, struct mime_part *root, const char *text,
                          uint64_t from, uint64_t count)
{
    struct mime_section section;
    struct mime_reader *reader;
    struct slice name = SLICE("Subject");
    unsigned char chunk[333];
    struct error e = {0};
    uint64_t sum = 0;
    ssize_t got;

    expect(mime_section_parse(arena, slice_from_str(text), &section, &e) == 0);
    section.names = &name;
    section.names_count = 1;
    expect(mime_section_open(arena, source, root, &section, from, count, NULL, &reader, &e) == 0);
    while ((got = mime_reader_read(reader, chunk, sizeof(chunk), &e)) > 0) {
        sum += (uint64_t)got;
        expect(memchr(chunk, '\0', (size_t)got) == NULL);
    }
    expect(got == 0 && sum == mime_reader_size(reader));
    mime_reader_free(reader);
}

static void check_cache(struct arena *arena, const struct mime_source *source, struct mime_part *root)
{
    struct buffer a = {0}, b = {0}, body = {0};
    struct mime_part *again;
    struct error e = {0};

    mime_parts_encode(&a, root);
    expect(mime_parts_decode(arena, buffer_slice(&a), &again, &e) == 0);
    mime_parts_encode(&b, again);
    expect(slice_equal(buffer_slice(&a), buffer_slice(&b)));
    buffer_reset(&a);
    buffer_reset(&b);
    mime_structure_put(&a, root, true);
    expect(mime_part_load_data(arena, source, again, &e) == 0);
    mime_structure_put(&b, again, true);
    expect(slice_equal(buffer_slice(&a), buffer_slice(&b)));
    buffer_reset(&b);
    mime_structure_put(&b, root, false);
    expect(mime_structure_to_body(&body, buffer_slice(&a), &e) == 0);
    expect(slice_equal(buffer_slice(&body), buffer_slice(&b)));
    buffer_free(&a);
    buffer_free(&b);
    buffer_free(&body);
}

/* The header that was at hand in a parse is the one that is read, and its envelope the one that the parse has found. */
static void check_header(struct arena *arena, const struct mime_source *source)
{
    struct mime_part *root;
    struct slice at_hand, read;
    struct buffer a = {0}, b = {0};
    struct error e = {0};

    expect(mime_parse_and_header(arena, source, MIME_PARSE_DATA, &root, &at_hand, &e) == 0);
    expect(mime_header_read(arena, source, NULL, &read, &e) == 0);
    expect(at_hand.at == NULL || slice_equal(at_hand, read));
    mime_envelope_put(&a, root->data->envelope);
    mime_envelope_put(&b, mime_envelope_parse(arena, read));
    expect(slice_equal(buffer_slice(&a), buffer_slice(&b)));
    buffer_free(&a);
    buffer_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const sections[] = {"", "HEADER", "TEXT", "1", "1.MIME", "2.HEADER", "1.1.TEXT", "HEADER.FIELDS",
                                           "1.HEADER.FIELDS.NOT"};
    struct arena *arena = arena_new();
    struct slice all = slice_of(data, size);
    struct mime_source in_memory = mime_source_slice(all), by_reads = {read_slice, &all, SLICE_EMPTY};
    struct mime_part *root, *other;
    struct mime_size sizes;
    struct buffer a = {0}, b = {0};
    struct error e = {0};
    bool found = false;

    expect(mime_parse(arena, &in_memory, MIME_PARSE_DATA, &root, &e) == 0);
    expect(mime_parse(arena, &by_reads, 0, &other, &e) == 0);
    check_tree(root, size);
    mime_parts_encode(&a, root);
    mime_parts_encode(&b, other);
    expect(slice_equal(buffer_slice(&a), buffer_slice(&b)));
    expect(mime_source_sizes(&by_reads, &sizes, &e) == 0);
    expect(sizes.virtual == mime_part_total(root).virtual);
    check_header(arena, &by_reads);
    check_cache(arena, &by_reads, root);

    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        check_section(arena, &by_reads, root, sections[i], 0, UINT64_MAX);
        check_section(arena, &in_memory, root, sections[i], size % 50, 17);
    }
    check_section(arena, &by_reads, NULL, "TEXT", size % 9, UINT64_MAX);

    buffer_reset(&a);
    expect(mime_preview(arena, &by_reads, root, &a, &e) == 0);
    expect(a.size <= 4 * 200 + 1);
    struct mime_key key = mime_key_new(arena, SLICE("needle"));
    struct mime_search *search = mime_search_new(arena, &by_reads, root, &key, &found, 1, true);
    while (mime_search_step(search, 100, &e) == STEP_MORE)
        ;
    mime_search_free(search);
    buffer_free(&a);
    buffer_free(&b);
    arena_free(arena);
    return 0;
}
