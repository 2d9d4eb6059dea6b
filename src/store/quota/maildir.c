/* maildir.c - the file maildirsize, shared with every program that keeps Maildir++ quota (maildir-and-layouts 8.13).
 *
 *     10485760S,100C      the limits it was calculated for
 *     0 0                 the sum at that time, then one line for each change
 *
 * A line is appended by one write without a lock. The file is calculated again when it is broken, long, for other limits, or
 * says that the limit is passed and is not just new. */
#include "store/quota/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { FILE_MAX = 5120, OLD_SECS = 15 * 60 };

static const char *folder_of(const struct quota_root *root)
{
    const struct mail_location *at = &root->quota->user->inbox->storage->at;

    return at->control != NULL ? at->control : at->root;
}

static int maildir_init(struct quota_root *root, struct error *e)
{
    if (strcmp(root->quota->user->inbox->storage->at.driver->name, "maildir") == 0)
        return 0;
    return error_set(e, ERROR_INVALID, "Quota root %s: maildir quota init failed: the INBOX namespace is not Maildir", root->name);
}

/* ---- calculating ---- */

struct walk {
    struct quota_root *root;
    struct quota_amount sum;
    struct timespec newest;
};

static bool later(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

static uint64_t file_size(int dir, const char *name)
{
    const char *size = strstr(name, ",S=");
    struct stat st;
    uint64_t value = 0;
    size_t n = 0;

    if (size != NULL) {
        size += 3;
        n = strspn(size, "0123456789");
        if ((size[n] == '\0' || size[n] == ',' || size[n] == ':') && slice_to_u64(slice_of(size, n), &value))
            return value;
    }
    return fstatat(dir, name, &st, 0) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

static int walk_folder(struct walk *w, const char *path, const char *sub, struct error *e)
{
    char *name = mem_printf("%s/%s", path, sub);
    DIR *dir = opendir(name);
    struct dirent *d;
    struct stat st;

    if (dir == NULL) {
        int r = errno == ENOENT || errno == ENOTDIR ? 0 : error_sys(e, "opendir", name);

        mem_free(name);
        return r;
    }
    if (fstat(dirfd(dir), &st) == 0 && later(&st.st_mtim, &w->newest))
        w->newest = st.st_mtim;
    while ((d = readdir(dir)) != NULL) {
        if (d->d_name[0] == '.')
            continue;
        w->sum.bytes += file_size(dirfd(dir), d->d_name);
        w->sum.count++;
    }
    closedir(dir);
    mem_free(name);
    return 0;
}

static int walk_mailbox(void *arg, const struct mailbox_place *place, struct error *e)
{
    struct walk *w = arg;
    struct arena *arena;
    struct quota_amount limits;
    const char *path;
    int r = 0;

    if (!quota_limits(w->root->rules.at, w->root->rules.count, place->vname, &limits))
        return 0;
    arena = arena_new();
    path = mail_location_path(&place->ns->storage->at, arena, place->name, PATH_MAILBOX);
    if (path != NULL && (walk_folder(w, path, "new", e) < 0 || walk_folder(w, path, "cur", e) < 0))
        r = -1;
    arena_free(arena);
    return r;
}

static int check_folder(void *arg, const struct mailbox_place *place, struct error *e)
{
    struct walk *w = arg;
    struct arena *arena = arena_new();
    const char *path = mail_location_path(&place->ns->storage->at, arena, place->name, PATH_MAILBOX), *subs[] = {"new", "cur"};
    struct stat st;

    (void)e;
    for (size_t i = 0; path != NULL && i < 2; i++)
        if (stat(arena_printf(arena, "%s/%s", path, subs[i]), &st) == 0 && later(&st.st_mtim, &w->newest))
            w->newest = st.st_mtim;
    arena_free(arena);
    return 0;
}

static void put_limits(struct buffer *out, const struct quota_amount *limits)
{
    if (limits->bytes != 0 || limits->count == 0)
        buffer_printf(out, "%lluS", (unsigned long long)limits->bytes);
    if (limits->count != 0)
        buffer_printf(out, "%s%lluC", limits->bytes != 0 ? "," : "", (unsigned long long)limits->count);
    buffer_append_byte(out, '\n');
}

static int write_file(struct quota_root *root, const struct walk *w, struct error *e)
{
    const char *folder = folder_of(root);
    struct mail_modes modes = mail_modes_of(folder);
    struct buffer text = {0};
    char temp[200];
    int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, r = -1;

    if (dir < 0)
        return errno == ENOENT ? 0 : error_sys(e, "open", folder); /* no mail yet */
    put_limits(&text, &root->limits);
    buffer_printf(&text, "%llu %llu\n", (unsigned long long)w->sum.bytes, (unsigned long long)w->sum.count);
    snprintf(temp, sizeof(temp), "maildirsize%.100s.%ld.%llx", store_hostname(), (long)getpid(), (unsigned long long)time_monotonic_ns());
    fd = os_create(dir, temp, modes.file, modes.gid, e);
    if (fd >= 0) {
        struct error ignored;

        r = os_write(fd, buffer_slice(&text), e);
        if (r == 0)
            r = os_rename(dir, temp, dir, "maildirsize", e);
        if (r < 0)
            os_unlink(dir, temp, &ignored);
        close(fd);
    }
    close(dir);
    buffer_free(&text);
    return r;
}

static void forget(struct quota_root *root)
{
    struct error ignored;
    int dir = open(folder_of(root), O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return;
    (void)os_unlink(dir, "maildirsize", &ignored);
    close(dir);
}

static int calculate(struct quota_root *root, struct quota_amount *out, struct error *e)
{
    struct walk w = {.root = root};
    struct timespec seen;

    if (quota_each_folder(root, walk_mailbox, &w, e) < 0)
        return -1;
    seen = w.newest;
    if (quota_each_folder(root, check_folder, &w, e) < 0)
        return -1;
    *out = w.sum;
    if (later(&w.newest, &seen)) {
        forget(root); /* somebody changed mail meanwhile: true enough for now, not to be kept */
        return 0;
    }
    return write_file(root, &w, e);
}

static int maildir_recalculate(struct quota_root *root, struct error *e)
{
    struct quota_amount sum;

    forget(root);
    return calculate(root, &sum, e);
}

/* ---- reading, appending ---- */

static bool is_over(const struct quota_amount *sum, const struct quota_amount *limits)
{
    return (limits->bytes != 0 && sum->bytes > limits->bytes) || (limits->count != 0 && sum->count > limits->count);
}

/* False: it has to be calculated. */
static bool read_file(struct quota_root *root, struct quota_amount *sum)
{
    char *path = mem_printf("%s/maildirsize", folder_of(root));
    struct buffer text = {0};
    struct quota_amount limits;
    struct error ignored;
    struct stat st;
    unsigned lines;
    bool good = stat(path, &st) == 0 && st.st_size < FILE_MAX && os_read_file(AT_FDCWD, path, FILE_MAX, &text, &ignored) == 0 &&
                quota_maildirsize_parse(buffer_slice(&text), &limits, sum, &lines);

    if (good && root->rules.count == 0)
        root->limits = limits;
    else if (good && (limits.bytes != root->limits.bytes || limits.count != root->limits.count))
        good = false;
    if (good && is_over(sum, &root->limits) && (lines > 1 || st.st_mtime < time(NULL) - OLD_SECS))
        good = false;
    buffer_free(&text);
    mem_free(path);
    return good;
}

static int maildir_usage(struct quota_root *root, struct quota_amount *out, struct error *e)
{
    return read_file(root, out) ? 0 : calculate(root, out, e);
}

static int append_change(const char *folder, int64_t bytes, int64_t count, struct error *e)
{
    int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, r;
    char line[64];

    if (dir < 0)
        return errno == ENOENT ? 0 : error_sys(e, "open", folder);
    fd = os_open(dir, "maildirsize", O_APPEND, e);
    close(dir);
    if (fd < 0)
        return e->class == ERROR_NOT_FOUND ? 0 : -1; /* calculated when somebody asks */
    snprintf(line, sizeof(line), "%lld %lld\n", (long long)bytes, (long long)count);
    r = os_append(fd, slice_from_str(line), e);
    close(fd);
    return r;
}

static int maildir_change(struct quota_root *root, int64_t bytes, int64_t count, struct error *e)
{
    return append_change(folder_of(root), bytes, count, e);
}

const struct quota_backend quota_backend_maildir = {
    .name = "maildir", .init = maildir_init, .usage = maildir_usage, .recalculate = maildir_recalculate, .change = maildir_change,
    .rule = quota_maildir_rule, .has_limits = true};
