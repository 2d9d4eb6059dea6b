/* What the tests of src/mime share: mail in memory, its parts. */
#ifndef TESTS_MIME_MIME_HELP_H
#define TESTS_MIME_MIME_HELP_H

#include "mime/mime.h"

#include <atf-c.h>
#include <stdio.h>
#include <stdlib.h>

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

static inline ssize_t read_memory(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    struct memory *m = arg;
    if (offset >= m->fail_at)
        return error_set(e, ERROR_TEMPORARY, "no more");
    struct slice rest = slice_head(slice_from(m->bytes, (size_t)offset), size);
    if (rest.size > 0)
        memcpy(buf, rest.at, rest.size);
    return (ssize_t)rest.size;
}

static inline struct mime_part *parse(struct arena *arena, const struct mime_source *source)
{
    struct mime_part *root = NULL;
    struct error e = {0};

    ATF_REQUIRE_EQ_MSG(mime_parse(arena, source, MIME_PARSE_DATA, &root, &e), 0, "%s", e.admin);
    return root;
}

static inline struct slice structure_of(struct arena *arena, struct slice mail)
{
    struct mime_source source = mime_source_slice(mail);
    struct buffer b = {0};

    mime_structure_put(&b, parse(arena, &source), true);
    struct slice kept = arena_slice(arena, buffer_slice(&b));
    buffer_free(&b);
    return kept;
}

static inline struct slice section_of(struct arena *arena, const struct mime_source *source, struct mime_part *root,
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

static inline void append_many(struct buffer *b, const char *text, size_t count)
{
    while (count-- > 0)
        buffer_append_str(b, text);
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

#endif
