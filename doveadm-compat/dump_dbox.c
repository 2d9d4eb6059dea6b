/* dump_dbox.c - doveadm dump of a dbox file, u.N or m.N: its header, and of each message sizes and metadata (doveadm 7.4).
 *
 * In the words of the real one, which scripts read. It stops at the first contradiction and says where. */
#include "doveadm.h"
#include "store/dbox/dbox.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct dump {
    int fd;
    struct buffer *out;
    struct buffer line;
    uint64_t at;
};

static void flush(struct buffer *out)
{
    if (out->size > 0)
        fwrite(out->at, 1, out->size, stdout);
    buffer_reset(out);
}

/* Prints what was found so far, and ends. */
#define FAIL(dump, ...) (flush((dump)->out), doveadm_fatal(DOVEADM_TEMPFAIL, __VA_ARGS__))

static size_t read_at(struct dump *d, uint64_t at, void *to, size_t size)
{
    ssize_t n = TEMP_FAILURE_RETRY(pread(d->fd, to, size, (off_t)at));

    if (n < 0)
        FAIL(d, "read() failed: %s", strerror(errno));
    return (size_t)n;
}

/* The next line without its LF; d->at is behind it. False: the file ends before. */
static bool next_line(struct dump *d, const char **line)
{
    char part[512];
    size_t n;

    buffer_reset(&d->line);
    while (d->line.size < DBOX_METADATA_MAX && (n = read_at(d, d->at, part, sizeof(part))) > 0) {
        const char *lf = memchr(part, '\n', n);

        buffer_append(&d->line, part, lf == NULL ? n : (size_t)(lf - part));
        d->at += lf == NULL ? n : (size_t)(lf - part) + 1;
        if (lf != NULL) {
            *line = buffer_cstr(&d->line);
            return true;
        }
    }
    return false;
}

static bool hex(const char *text, uint64_t *out)
{
    *out = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (!isxdigit((unsigned char)*p))
            return false;
        *out = *out << 4 | (uint64_t)(isdigit((unsigned char)*p) ? *p - '0' : (*p | 0x20) - 'a' + 10);
    }
    return *text != '\0';
}

static void put_time(struct dump *d, const char *what, const char *value)
{
    uint64_t n;
    char text[64];
    time_t stamp;
    struct tm tm;

    if (!hex(value, &n))
        FAIL(d, "Invalid %s at %llu: %s", what, (unsigned long long)d->at, value);
    stamp = (time_t)n;
    if (localtime_r(&stamp, &tm) == NULL || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm) == 0)
        text[0] = '\0';
    buffer_printf(d->out, "%s = %lld (%s)\n", what, (long long)stamp, text);
}

static void put_size(struct dump *d, const char *what, const char *value)
{
    uint64_t n;

    if (!hex(value, &n))
        FAIL(d, "Invalid %s at %llu: %s", what, (unsigned long long)d->at, value);
    buffer_printf(d->out, "%s = %llu\n", what, (unsigned long long)n);
}

/* -> the size of message headers */
static uint32_t dump_header(struct dump *d, const char *path)
{
    const char *line;
    char *text, *word, *rest;
    uint64_t size = 0;
    unsigned version;

    if (!next_line(d, &line))
        FAIL(d, "Empty file");
    if (!isdigit((unsigned char)line[0]) || (line[1] != ' ' && line[1] != '\0'))
        FAIL(d, "%s is not a dbox file", path);
    version = (unsigned)(line[0] - '0');
    if (version != 2)
        FAIL(d, "Unsupported dbox file version %u", version);
    text = mem_strdup(line + 1);
    for (word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        if (*word == 'M') {
            if (!hex(word + 1, &size) || size == 0 || size > 65536)
                FAIL(d, "Invalid msg_header_size header: %s", word + 1);
            buffer_printf(d->out, "file.msg_header_size = %llu\n", (unsigned long long)size);
        } else if (*word == 'C') {
            put_time(d, "file.create_stamp", word + 1);
        } else {
            buffer_printf(d->out, "file.unknown-%c = %s\n", *word, word + 1);
        }
    }
    mem_free(text);
    if (size == 0)
        FAIL(d, "Missing msg_header_size in file header");
    buffer_append_str(d->out, "\n");
    return (uint32_t)size;
}

static void dump_metadata(struct dump *d)
{
    static const struct {
        char key;
        const char *name;
        void (*put)(struct dump *, const char *what, const char *value);
    } keys[] = {{'R', "msg.received", put_time},     {'Z', "msg.physical-size", put_size}, {'V', "msg.virtual-size", put_size},
                {'P', "msg.pop3-uidl", NULL},        {'O', "msg.pop3-order", NULL},        {'G', "msg.guid", NULL},
                {'B', "msg.orig-mailbox", NULL},     {'X', "msg.ext-ref", NULL},           {'E', "msg.obsolete-E", NULL},
                {'F', "msg.obsolete-F", NULL},       {'K', "msg.obsolete-K", NULL},        {'S', "msg.obsolete-S", NULL},
                {' ', "msg.obsolete- ", NULL}};
    const char *line;

    for (;;) {
        if (!next_line(d, &line))
            FAIL(d, "dbox metadata ended unexpectedly at EOF");
        if (*line == '\0')
            return;
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
            if (keys[i].key != *line)
                continue;
            if (keys[i].put != NULL)
                keys[i].put(d, keys[i].name, line + 1);
            else
                buffer_printf(d->out, "%s = %s\n", keys[i].name, line + 1);
        }
    }
}

/* False: the file ends here. */
static bool dump_message(struct dump *d, uint32_t header_size)
{
    unsigned char *header = mem_alloc(header_size), magic[4];
    uint64_t offset = d->at, size;
    size_t n = read_at(d, offset, header, header_size);
    char text[17];
    bool whole = n == header_size && n >= DBOX_MESSAGE_HEADER_SIZE, magic_wrong = whole && (header[0] != 1 || header[1] != 2);

    memcpy(text, header + (whole ? 13 : 0), whole ? 16 : 0);
    text[16] = '\0';
    mem_free(header);
    if (n == 0)
        return false;
    if (!whole)
        FAIL(d, "Partial message header read at %llu: %zu bytes", (unsigned long long)offset, n);
    buffer_printf(d->out, "offset %llu:\n", (unsigned long long)offset);
    if (magic_wrong)
        FAIL(d, "dbox wrong pre-magic at %llu", (unsigned long long)offset);
    if (!hex(text, &size))
        FAIL(d, "Invalid msg.size at %llu: %s", (unsigned long long)offset, text);
    buffer_printf(d->out, "msg.size = %llu\n", (unsigned long long)size);
    d->at = offset + header_size + size;
    if (size > INT64_MAX - offset - header_size || read_at(d, d->at, magic, 4) < 4)
        FAIL(d, "dbox missing metadata at %llu", (unsigned long long)d->at);
    if (memcmp(magic, "\n\001\003\n", 4) != 0)
        FAIL(d, "dbox wrong post-magic at %llu", (unsigned long long)d->at);
    d->at += 4;
    dump_metadata(d);
    buffer_append_str(d->out, "\n");
    return true;
}

int doveadm_dump_dbox(const char *path, struct buffer *out)
{
    struct dump d = {.fd = open(path, O_RDONLY | O_CLOEXEC), .out = out};
    uint32_t header_size;

    if (d.fd < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "open(%s) failed: %s", path, strerror(errno));
    header_size = dump_header(&d, path);
    while (dump_message(&d, header_size)) {
        if (out->size > 65536)
            flush(out);
    }
    buffer_free(&d.line);
    close(d.fd);
    return DOVEADM_OK;
}
