/* Prints what src/mime says about mails, for comparison with recordings and with the real server.
 *
 *   mime_show FILE...      for each: "FILE name\n", then "key size\n" + bytes + "\n" for each answer
 *
 * With -s SECTION in front (repeatable: "2.HEADER", "TEXT<5.10>", "HEADER.FIELDS (To)") also the bytes of those,
 * with -k KEY whether the text occurs in body, text, subject, from ("BTSF", "-" where not). */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <fcntl.h>

#include "base/os.h"
#include "mime/mime.h"

static void show(const char *key, struct slice s)
{
    printf("%s %zu\n", key, s.size);
    if (s.size > 0)
        fwrite(s.at, 1, s.size, stdout);
    putchar('\n');
}

static void parts_text(struct buffer *out, const struct mime_part *part)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } flags[] = {{1, "multipart"}, {2, "digest"}, {4, "rfc822"}, {8, "text"}, {0x20, "nuls"}, {0x40, "mime"},
                 {0x80, "overflow"}};
    bool any = false;

    buffer_printf(out, "(pos=%llu hdr=%llu/%llu body=%llu/%llu flags=", (unsigned long long)part->offset,
                  (unsigned long long)part->header.physical, (unsigned long long)part->header.virtual,
                  (unsigned long long)part->body.physical, (unsigned long long)part->body.virtual);
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if ((part->flags & flags[i].bit) != 0) {
            buffer_printf(out, "%s%s", any ? "+" : "", flags[i].name);
            any = true;
        }
    }
    if (!any)
        buffer_append_byte(out, '-');
    if ((part->flags & 0x0c) != 0)
        buffer_printf(out, " lines=%u", part->body.lines);
    if ((part->flags & 0x05) != 0) {
        for (const struct mime_part *child = part->children; child != NULL; child = child->next) {
            buffer_append_byte(out, ' ');
            parts_text(out, child);
        }
    }
    buffer_append_byte(out, ')');
}

struct file {
    int fd;
};

/* "1.HEADER.FIELDS (A B)<5.10>" */
static void show_section(struct arena *arena, const struct mime_source *source, struct mime_part *root, char *text)
{
    char copy[512];
    struct mime_section section;
    struct mime_reader *reader;
    struct mime_hint hint = {0};
    struct error e = {0};
    struct buffer out = {0};
    struct slice names[32];
    size_t count = 0;
    unsigned long long from = 0, limit = UINT64_MAX;
    unsigned char chunk[100];
    ssize_t got;

    snprintf(copy, sizeof(copy), "%s", text);
    char *angle = strchr(copy, '<'), *list = strchr(copy, '(');
    if (angle != NULL) {
        *angle = '\0';
        sscanf(angle + 1, "%llu.%llu", &from, &limit);
    }
    if (list != NULL) {
        list[-1] = '\0';
        for (char *name = strtok(list + 1, " )"); name != NULL && count < 32; name = strtok(NULL, " )"))
            names[count++] = slice_from_str(name);
    }
    if (mime_section_parse(arena, slice_from_str(copy), &section, &e) < 0) {
        show(text, slice_from_str(e.admin));
        return;
    }
    section.names = names;
    section.names_count = count;
    if (mime_section_open(arena, source, getenv("NO_TREE") != NULL && section.depth == 0 ? NULL : root, &section, from,
                          limit, &hint, &reader, &e) < 0) {
        show(text, slice_from_str(e.admin));
        return;
    }
    while ((got = mime_reader_read(reader, chunk, sizeof(chunk), &e)) > 0)
        buffer_append(&out, chunk, (size_t)got);
    if (got < 0)
        buffer_append_str(&out, e.admin);
    if (out.size != mime_reader_size(reader))
        buffer_append_str(&out, "SIZE");
    show(text, buffer_slice(&out));
    mime_reader_free(reader);
    buffer_free(&out);
}

static ssize_t read_file(void *arg, uint64_t offset, void *buf, size_t size, struct error *e)
{
    const struct file *f = arg;

    return os_pread_into(f->fd, offset, buf, size, e);
}

/* What searches, sorting and threading see: decoded subject, its base, the date, the preview. */
static void show_text(struct arena *arena, const struct mime_source *source, struct mime_part *root)
{
    struct buffer b = {0};
    struct error e = {0};
    struct slice block;
    struct mime_field f;
    int64_t when = 0;
    int zone = 0;
    bool reply;

    if (mime_header_read(arena, source, NULL, &block, &e) < 0)
        exit(1);
    if (mime_header_find(block, "Subject", &f)) {
        mime_words_decode(&b, f.value);
        show("subject", buffer_slice(&b));
        show("base-subject", mime_base_subject(arena, f.value, &reply));
    }
    if (mime_header_find(block, "Date", &f)) {
        buffer_reset(&b);
        if (mime_date_parse(f.value, &when, &zone))
            buffer_printf(&b, "%lld tz=%d", (long long)when, zone);
        show("date", buffer_slice(&b));
    }
    buffer_reset(&b);
    if (mime_preview(arena, source, root, &b, &e) < 0)
        exit(1);
    show("preview", buffer_slice(&b));
    buffer_free(&b);
}

/* Does the key occur in body, text, subject, from? */
static void show_match(struct arena *arena, const struct mime_source *source, struct mime_part *root, const char *text)
{
    struct mime_key key = mime_key_new(arena, slice_from_str(text));
    struct error e = {0};
    struct slice block;
    bool body = false, all = false;

    for (int i = 0; i < 2; i++) {
        struct mime_search *search = mime_search_new(arena, source, root, &key, i == 0 ? &body : &all, 1, i == 1);
        enum step step;
        while ((step = mime_search_step(search, 1, &e)) == STEP_MORE)
            ;
        if (step != STEP_DONE)
            exit(1);
        mime_search_free(search);
    }
    if (mime_header_read(arena, source, NULL, &block, &e) < 0)
        exit(1);
    char answer[5] = {body ? 'B' : '-', all ? 'T' : '-',
                      mime_match_header(&key, block, SLICE("Subject"), MIME_MATCH_SUBJECT) ? 'S' : '-',
                      mime_match_header(&key, block, SLICE("From"), MIME_MATCH_ADDRESSES) ? 'F' : '-', 0};
    show(text, slice_from_str(answer));
}

static void show_mail(const char *name, int fd, char **sections, int sections_count, char **keys, int keys_count)
{
    struct arena *arena = arena_new();
    struct file f = {fd};
    struct mime_source source = {read_file, &f, SLICE_EMPTY};
    struct mime_part *root;
    struct error e = {0};
    struct buffer b = {0};

    printf("FILE %s\n", name);
    if (mime_parse(arena, &source, MIME_PARSE_DATA, &root, &e) < 0) {
        fprintf(stderr, "mime_show: %s: %s\n", name, e.admin);
        exit(1);
    }
    parts_text(&b, root);
    show("parts", buffer_slice(&b));
    buffer_reset(&b);
    mime_parts_encode(&b, root);
    show("mime.parts", buffer_slice(&b));
    buffer_reset(&b);
    mime_envelope_put(&b, root->data->envelope);
    show("ENVELOPE", buffer_slice(&b));
    buffer_reset(&b);
    mime_structure_put(&b, root, true);
    show("BODYSTRUCTURE", buffer_slice(&b));
    struct slice structure = arena_slice(arena, buffer_slice(&b));
    buffer_reset(&b);
    mime_structure_put(&b, root, false);
    show("BODY", buffer_slice(&b));
    buffer_reset(&b);
    if (mime_structure_to_body(&b, structure, &e) < 0)
        buffer_append_str(&b, e.admin);
    show("BODY-derived", buffer_slice(&b));
    show_text(arena, &source, root);
    for (int i = 0; i < sections_count; i++)
        show_section(arena, &source, root, sections[i]);
    for (int i = 0; i < keys_count; i++)
        show_match(arena, &source, root, keys[i]);
    buffer_free(&b);
    arena_free(arena);
}

int main(int argc, char **argv)
{
    char *sections[64], *keys[64];
    int count = 0, keys_count = 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-s") == 0 && i + 1 < argc && count < 64) {
            sections[count++] = argv[++i];
            continue;
        }
        if (strcmp(argv[i], "-k") == 0 && i + 1 < argc && keys_count < 64) {
            keys[keys_count++] = argv[++i];
            continue;
        }
        int fd = open(argv[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            perror(argv[i]);
            return 1;
        }
        show_mail(argv[i], fd, sections, count, keys, keys_count);
        close(fd);
    }
    return 0;
}
