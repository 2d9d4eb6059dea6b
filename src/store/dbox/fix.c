/* fix.c - the repair of a corrupt dbox file (dbox-format 4).
 *
 * The file is read from one magic to the next. A magic is a 0x01 at the begin of a line: a message header ("pre"), or what
 * ends a body ("post") when plausible metadata follow it. Sizes that headers state are believed only when a post stands
 * where they say. The result is a new file; the original stays as NAME.broken, so that nothing is lost by guessing wrong.
 *
 * Linear in the file: metadata end at the first control character, hence no two tries look at the same bytes. */
#include "store/dbox/dbox.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define WINDOW 65536
#define PRE_NEAR 256

struct fix {
    int fd;
    uint64_t size;                  /* of the file */
    uint32_t old_header, new_header;/* sizes of message headers */
    struct buffer window;
    uint64_t window_at;
    int out;
    uint64_t out_at;
    unsigned messages;
    struct error *e;
    bool failed;                    /* an I/O error, in *e */
};

enum magic { MAGIC_NONE, MAGIC_PRE, MAGIC_POST };

/* Up to `size` bytes at `at`; fewer at the end of the file. */
static struct slice peek(struct fix *f, uint64_t at, size_t size)
{
    size_t want = size > WINDOW ? size : WINDOW;

    if (at >= f->size || f->failed)
        return SLICE_EMPTY;
    if (at < f->window_at || at + size > f->window_at + f->window.size) {
        buffer_reset(&f->window);
        f->window_at = at;
        if (os_pread(f->fd, at, want, &f->window, f->e) < 0)
            f->failed = true;
    }
    return slice_head(slice_from(buffer_slice(&f->window), (size_t)(at - f->window_at)), size);
}

/* ---- magics ---- */

static bool is_key(unsigned char c)
{
    return c != '\0' && strchr("ZRVPOGBXEFKS", c) != NULL;
}

/* Lines of known keys without control characters, ended by an empty one. `at` is behind the post magic. */
static bool is_metadata(struct fix *f, uint64_t at)
{
    bool line_start = true;

    for (uint64_t i = at; i < at + DBOX_METADATA_MAX; i++) {
        struct slice c = peek(f, i, 1);

        if (c.size == 0)
            return false;
        if (line_start && (*c.at == '\n' || *c.at == ' '))
            return true;
        if (line_start && !is_key(*c.at))
            return false;
        if (*c.at != '\n' && (*c.at < ' ' || *c.at == 127))
            return false;
        line_start = *c.at == '\n';
    }
    return false;
}

static bool header_at(struct fix *f, uint64_t at, uint32_t size, uint64_t *body_size)
{
    struct slice header = peek(f, at, size);

    return header.size == size && header.size >= DBOX_MESSAGE_HEADER_SIZE && header.at[2] == 'N' &&
           header.at[3] == ' ' && dbox_message_header_parse(header, body_size) == NULL;
}

/* -> the size of the header, 0: there is none. It is what the file says, but the damage may be there. */
static uint32_t pre_at(struct fix *f, uint64_t at, uint64_t *body_size)
{
    if (header_at(f, at, f->old_header, body_size))
        return f->old_header;
    return header_at(f, at, DBOX_MESSAGE_HEADER_SIZE, body_size) ? DBOX_MESSAGE_HEADER_SIZE : 0;
}

static bool post_at(struct fix *f, uint64_t at)
{
    struct slice magic = peek(f, at, 4);

    return magic.size == 4 && memcmp(magic.at, "\n\001\003\n", 4) == 0 && is_metadata(f, at + 4);
}

/* The nearest magic from `at` on: a pre at its 0x01, a post at its LF. `line_start`: `at` begins a line. */
static enum magic next_magic(struct fix *f, uint64_t at, bool line_start, uint64_t *found)
{
    uint64_t size;

    while (at < f->size && !f->failed) {
        struct slice bytes = peek(f, at, 1);

        if (bytes.size == 0)
            break;
        if (line_start && *bytes.at == 1 && pre_at(f, at, &size) > 0) {
            *found = at;
            return MAGIC_PRE;
        }
        bytes = peek(f, at, 1);
        if (bytes.size > 0 && *bytes.at == '\n') {
            if (post_at(f, at)) {
                *found = at;
                return MAGIC_POST;
            }
            line_start = true;
        } else {
            line_start = false;
        }
        at++;
        if (!line_start) {
            /* On to the next line end at once. */
            struct slice rest = slice_from(buffer_slice(&f->window), (size_t)(at - f->window_at));
            ptrdiff_t lf = at < f->window_at || rest.size == 0 ? -1 : slice_find(rest, '\n');

            if (lf >= 0)
                at += (uint64_t)lf;
            else
                at += rest.size;
        }
    }
    return MAGIC_NONE;
}

/* ---- output ---- */

static int put(struct fix *f, struct slice bytes)
{
    if (os_write(f->out, bytes, f->e) < 0)
        return -1;
    f->out_at += bytes.size;
    return 0;
}

static int copy(struct fix *f, uint64_t from, uint64_t to)
{
    while (from < to) {
        struct slice part = peek(f, from, to - from < WINDOW ? (size_t)(to - from) : WINDOW);

        if (f->failed)
            return -1;
        if (part.size == 0)
            return error_set(f->e, ERROR_TEMPORARY, "the file became shorter while it was repaired");
        if (put(f, part) < 0)
            return -1;
        from += part.size;
    }
    return 0;
}

static int put_message_header(struct fix *f, uint64_t size)
{
    unsigned char header[DBOX_MESSAGE_HEADER_SIZE];

    dbox_message_header_put(header, size);
    if (put(f, slice_of(header, sizeof(header) - 1)) < 0)
        return -1;
    for (uint32_t i = DBOX_MESSAGE_HEADER_SIZE; i < f->new_header; i++)
        if (put(f, SLICE(" ")) < 0)
            return -1;
    return put(f, SLICE("\n"));
}

/* "V" and hexadecimal digits. */
static bool is_size_line(struct slice line)
{
    for (size_t i = 1; i < line.size; i++)
        if (strchr("0123456789abcdefABCDEF", line.at[i]) == NULL)
            return false;
    return line.size > 1 && line.size <= 17;
}

static int virtual_size(struct fix *f, uint64_t from, uint64_t to, uint64_t *out)
{
    unsigned char last = 0;
    uint64_t n = 0;

    while (from < to) {
        struct slice part = peek(f, from, to - from < WINDOW ? (size_t)(to - from) : WINDOW);

        if (part.size == 0)
            return f->failed ? -1 : 0;
        for (size_t i = 0; i < part.size; i++) {
            n += part.at[i] == '\n' && last != '\r' ? 2 : 1;
            last = part.at[i];
        }
        from += part.size;
    }
    *out = n;
    return 0;
}

#define NO_POST UINT64_MAX

/* Copies the lines but V, and writes V last. `at`: the post magic, or NO_POST. -> *end is behind the metadata. */
static int put_metadata(struct fix *f, uint64_t at, uint64_t body, uint64_t body_end, uint64_t *end)
{
    struct buffer b = {0}, line = {0};
    struct slice old_v = SLICE_EMPTY;
    struct arena *arena = arena_new();
    bool has_guid = false, coded = false;
    uint64_t v = 0;
    int r;

    buffer_append(&b, "\n\001\003\n", 4);
    for (at = at == NO_POST ? f->size : at + 4; at < f->size;) {
        struct slice c = peek(f, at, 1);

        if (c.size == 0 || (*c.at < ' ' && *c.at != '\n') || b.size > DBOX_METADATA_MAX)
            break;
        at++;
        if (*c.at != '\n' || line.size == 0 || *line.at == ' ') {
            if (*c.at == '\n')
                break; /* the empty line, or a version 1 end */
            buffer_append_byte(&line, *c.at);
            continue;
        }
        has_guid = has_guid || *line.at == 'G';
        coded = coded || *line.at == 'Z' || *line.at == 'X';
        if (*line.at == 'V') {
            old_v = old_v.size == 0 ? arena_slice(arena, buffer_slice(&line)) : old_v;
        } else {
            buffer_append_slice(&b, buffer_slice(&line));
            buffer_append_byte(&b, '\n');
        }
        buffer_reset(&line);
    }
    *end = at;
    if (!has_guid) {
        unsigned char guid[16];

        store_guid_new(guid);
        buffer_append_byte(&b, 'G');
        text_hex_encode(&b, slice_of(guid, 16));
        buffer_append_byte(&b, '\n');
    }
    r = virtual_size(f, body, body_end, &v);
    if (coded && is_size_line(old_v)) {
        /* The body is compressed, encrypted or lacks its attachments: what was counted at saving is right. */
        buffer_append_slice(&b, old_v);
        buffer_append_byte(&b, '\n');
    } else {
        buffer_printf(&b, "V%llx\n", (unsigned long long)v);
    }
    buffer_append_byte(&b, '\n');
    if (r == 0)
        r = put(f, buffer_slice(&b));
    buffer_free(&b);
    buffer_free(&line);
    arena_free(arena);
    return r;
}

static int put_message(struct fix *f, uint64_t body, uint64_t body_end, uint64_t post, uint64_t *end)
{
    if (put_message_header(f, body_end - body) < 0 || copy(f, body, body_end) < 0 ||
        put_metadata(f, post, body, body_end, end) < 0)
        return -1;
    f->messages++;
    if (post == NO_POST)
        *end = body_end;
    return 0;
}

/* ---- the walk ---- */

/* Where the body that begins at `body` ends. */
static enum magic body_end(struct fix *f, uint64_t body, uint64_t stated, uint64_t *end)
{
    enum magic magic = MAGIC_NONE;

    if (stated <= f->size - body) {
        struct slice last = stated == 0 ? SLICE("\n") : peek(f, body + stated - 1, 1);

        magic = next_magic(f, body + stated, last.size == 1 && *last.at == '\n', end);
    }
    /* A size that leads nowhere: what is found from the begin is better than nothing. */
    return magic != MAGIC_NONE ? magic : next_magic(f, body, true, end);
}

/* One message from *at on. 1, 0: no more, -1. */
static int fix_one(struct fix *f, uint64_t *at, bool line_start)
{
    uint64_t found = 0, stated, body = *at, end = 0;
    enum magic magic = next_magic(f, *at, line_start, &found);
    struct slice last;

    if (magic == MAGIC_PRE && found - *at < PRE_NEAR) {
        uint32_t header = pre_at(f, found, &stated);

        if (header == 0)
            return f->failed ? -1 : 0;
        body = found + header;
        magic = body_end(f, body, stated, &found);
        if (magic == MAGIC_NONE && stated > 0 && body < f->size && !f->failed) {
            /* Its end was cut off or overwritten. The header is written last: there was a whole message once, and what is left
             * of it is better than nothing. */
            found = stated < f->size - body ? body + stated : f->size;
            last = peek(f, found, 4);
            magic = last.size == 4 && memcmp(last.at, "\n\001\003\n", 4) == 0 ? MAGIC_POST : MAGIC_PRE;
        }
    }
    if (f->failed)
        return -1;
    if (magic == MAGIC_NONE)
        return 0;
    if (put_message(f, body, found, magic == MAGIC_POST ? found : NO_POST, &end) < 0)
        return -1;
    if (end <= *at) /* nothing was taken off: it would be found again for ever */
        return 0;
    *at = end;
    return 1;
}

static int fix_all(struct fix *f, uint64_t start)
{
    uint64_t at = start;
    int r;

    do {
        /* What follows a line that we read to its end, or the file header, begins one. */
        struct slice before = at == 0 ? SLICE_EMPTY : peek(f, at - 1, 1);

        r = fix_one(f, &at, at == 0 || (before.size == 1 && *before.at == '\n'));
    } while (r > 0);
    return r;
}

/* Reads the file header as far as it can be believed. -> where messages begin */
static uint64_t begin_file(struct fix *f, uint64_t start)
{
    struct dbox_header header;
    struct slice line = peek(f, 0, 4096);

    f->old_header = f->new_header = DBOX_MESSAGE_HEADER_SIZE;
    if (f->failed || dbox_header_parse(line, &header) != NULL)
        return start;
    if (header.message_header_size >= DBOX_MESSAGE_HEADER_SIZE)
        f->old_header = header.message_header_size;
    if (start > 0)
        f->new_header = f->old_header;
    return start > 0 ? start : header.size;
}

static int write_new(struct fix *f, uint64_t start)
{
    uint64_t at = begin_file(f, start);
    struct buffer b = {0};
    int r;

    if (f->failed)
        return -1;
    if (start > 0) {
        r = copy(f, 0, start);
    } else {
        dbox_header_put(&b, time(NULL));
        r = put(f, buffer_slice(&b));
        buffer_free(&b);
    }
    return r < 0 ? -1 : fix_all(f, at);
}

/* The original under another name, the new file in its place. */
static int replace(int dir, const char *dir_path, const char *name, const char *temp, const struct fix *f, uint64_t start,
                   const struct log *log, struct error *e)
{
    char *broken = mem_printf("%s.broken", name);
    int r = os_link(dir, name, dir, broken, e);

    if (r < 0 && e->class == ERROR_EXISTS) {
        r = os_unlink(dir, broken, e);
        r = r < 0 ? r : os_link(dir, name, dir, broken, e);
    }
    if (r == 0)
        log_warning(log, "dbox: Copy of the broken file saved to %s/%s", dir_path, broken);
    mem_free(broken);
    if (r < 0)
        return -1;
    if (f->messages == 0 && start == 0)
        return os_unlink(dir, name, e) < 0 || os_unlink(dir, temp, e) < 0 ? -1 : 0;
    if (os_sync(f->out, e) < 0 || os_rename(dir, temp, dir, name, e) < 0)
        return -1;
    return 1;
}

int dbox_file_fix(int dir, const char *dir_path, const char *name, uint64_t start, const struct mail_modes *modes,
                  const struct log *log, struct error *e)
{
    struct fix f = {.fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), .out = -1, .e = e};
    struct arena *arena;
    struct error ignored;
    struct stat st;
    char *temp = NULL;
    int r = -1;

    if (f.fd < 0) {
        error_sys(e, "open", name);
        return error_context(e, "%s/", dir_path);
    }
    arena = arena_new();
    if (fstat(f.fd, &st) < 0) {
        error_sys(e, "fstat", name);
    } else if (!S_ISREG(st.st_mode)) {
        error_set(e, ERROR_CORRUPT, "%s/%s is not a regular file", dir_path, name);
    } else if ((f.size = (uint64_t)st.st_size) < start) {
        error_set(e, ERROR_CORRUPT, "%s/%s is shorter than it was", dir_path, name);
    } else if ((f.out = dbox_temp_create(dir, dir_path, modes, arena, &temp, e)) >= 0) {
        r = write_new(&f, start);
        if (r == 0)
            r = replace(dir, dir_path, name, temp, &f, start, log, e);
        if (r < 0)
            os_unlink(dir, temp, &ignored);
        close(f.out);
    }
    if (r < 0)
        error_context(e, "dbox: %s/%s: ", dir_path, name);
    close(f.fd);
    buffer_free(&f.window);
    arena_free(arena);
    return r;
}
