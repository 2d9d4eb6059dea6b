/* cmd_dump.c - doveadm dump: what is in an index, a log (src/index/dump.h), and in other files (dump_*.c); doveadm 7.4.
 *
 * Nothing is repaired or created: the files may be a running server's, or an administrator's only copy. */
#include "doveadm.h"
#include "index/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Is there a base index, or a log that says it all? */
static bool has_family(struct doveadm *d, const char *folder, const char *prefix)
{
    return access(arena_printf(d->arena, "%s/%s", folder, prefix), F_OK) == 0 ||
           access(arena_printf(d->arena, "%s/%s.log", folder, prefix), F_OK) == 0;
}

/* The index family of a path: a folder (a mailbox's, or mdbox's with the map), or the base file itself. */
static void split_path(struct doveadm *d, const char *path, const char **folder, const char **prefix)
{
    const char *slash = strrchr(path, '/');
    struct stat st;

    *prefix = "dovecot.index";
    *folder = path;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (!has_family(d, path, *prefix) && has_family(d, path, "dovecot.map.index"))
            *prefix = "dovecot.map.index";
        return;
    }
    *prefix = slash == NULL ? path : slash + 1;
    *folder = slash == NULL ? "." : slash == path ? "/" : arena_str(d->arena, slice_of(path, (size_t)(slash - path)));
}

static bool is_index(struct doveadm *d, const char *path)
{
    const char *folder, *prefix;

    split_path(d, path, &folder, &prefix);
    return ends_with(prefix, ".index") && has_family(d, folder, prefix);
}

/* The first bytes of a file; false: it has not so many. */
static bool read_head(const char *path, unsigned char *head, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ok = fd >= 0 && read(fd, head, size) == (ssize_t)size;

    if (fd >= 0)
        close(fd);
    return ok;
}

/* A log begins with its major version and the size of its header (index-format 4.1). */
static bool is_log(const char *path)
{
    unsigned char head[4];

    return (ends_with(path, ".log") || ends_with(path, ".log.2")) && read_head(path, head, sizeof(head)) && head[0] == 1 &&
           head[2] >= 24 && head[3] == 0;
}

/* A change log begins with a record of 24 bytes, whose first says what happened: 1 to 6. */
static bool is_mailbox_log(const char *path)
{
    unsigned char record[24];

    return ends_with(path, ".log") && read_head(path, record, sizeof(record)) && record[0] >= 1 && record[0] <= 6;
}

static bool is_dbox(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;

    return strncmp(name, "u.", 2) == 0 || strncmp(name, "m.", 2) == 0;
}

static int dump_index(struct doveadm *d, const char *path, struct buffer *out)
{
    struct index_where where = {.read_only = true, .no_create = true};
    struct index *index;
    size_t n;
    const char *const *args = doveadm_list(d, "args", &n);
    uint32_t uid = 0;
    struct error e;

    split_path(d, path, &where.path, &where.prefix);
    where.dir = open(where.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!is_index(d, path) || where.dir < 0 || index_open(&index, &where, &e) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Couldn't open index %s", path);
    close(where.dir);
    if (n > 0 && !slice_to_u32(slice_from_str(args[0]), &uid))
        doveadm_fatal(DOVEADM_TEMPFAIL, "Invalid uid number %s", args[0]);
    index_dump(index, arena_printf(d->arena, "%s/%s", where.path, where.prefix), uid, out);
    index_close(&index);
    return DOVEADM_OK;
}

static int dump_log(const char *path, struct buffer *out)
{
    enum { MOST = 256 * 1024 * 1024 };
    struct buffer file = {0};
    struct error e;
    int fault = doveadm_dump_read(path, MOST, &file), r;

    if (fault != 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "%s(%s) failed: %s", fault == EISDIR ? "read" : "open", path, strerror(fault));
    r = index_dump_log(buffer_slice(&file), out, &e);
    buffer_free(&file);
    if (r == 0)
        return DOVEADM_OK;
    fwrite(out->at, 1, out->size, stdout);
    doveadm_fatal(DOVEADM_TEMPFAIL, "%s", e.admin);
}

static bool is_thread(const char *path)
{
    return ends_with(path, ".thread");
}

/* In the order of looking when no type is named. */
static const struct {
    const char *name;
    int (*dump)(const char *path, struct buffer *out);   /* NULL: index, which takes arguments */
    bool (*is)(const char *path);                        /* NULL: cannot be told, or not by this alone */
} types[] = {
    {"dbox", doveadm_dump_dbox, is_dbox},
    {"index", NULL, NULL},
    {"log", dump_log, is_log},
    {"mailboxlog", doveadm_dump_mailbox_log, is_mailbox_log},
    {"thread", doveadm_dump_thread, is_thread},
    {"imapzlib", doveadm_dump_imapzlib, NULL},
    {"dcrypt-file", doveadm_dump_crypt_file, doveadm_is_crypt_file},
    {"dcrypt-key", doveadm_dump_crypt_key, doveadm_is_crypt_key},
    {"multiplex", doveadm_dump_multiplex, NULL},
};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

/* Which of the types; TYPES: none. */
static unsigned detect(struct doveadm *d, const char *path)
{
    unsigned i = 0;

    while (i < TYPES && (types[i].dump == NULL ? !is_index(d, path) : types[i].is == NULL || !types[i].is(path)))
        i++;
    return i;
}

static unsigned find_type(const char *name)
{
    unsigned i = 0;

    while (i < TYPES && strcmp(types[i].name, name) != 0)
        i++;
    return i;
}

static void print_types(void)
{
    fputs("Available dump types:", stderr);
    for (unsigned i = 0; i < TYPES; i++)
        fprintf(stderr, " %s", types[i].name);
    fputc('\n', stderr);
}

int doveadm_dump(struct doveadm *d)
{
    const char *type = doveadm_text(d, "type"), *path = doveadm_text(d, "path");
    struct buffer out = {0};
    unsigned which;
    int status;

    if (path == NULL)
        return doveadm_usage(d);
    which = type == NULL ? detect(d, path) : find_type(type);
    if (which == TYPES && type == NULL)
        doveadm_fatal(DOVEADM_DATAERR, "Can't autodetect file type: %s", path);
    if (which == TYPES) {
        print_types();
        doveadm_fatal(DOVEADM_USAGE, "Unknown type: %s", type);
    }
    if (type == NULL)
        printf("Detected file type: %s\n", types[which].name);
    status = types[which].dump == NULL ? dump_index(d, path, &out) : types[which].dump(path, &out);
    if (out.size > 0)
        fwrite(out.at, 1, out.size, stdout);
    buffer_free(&out);
    return status;
}
