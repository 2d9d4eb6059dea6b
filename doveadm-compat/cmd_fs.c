/* cmd_fs.c - doveadm fs: files of a file system driver (doveadm 7.4). There is one here: posix, with prefix=, mode=, dirs,
 * no-fsync, accurate-mtime as arguments. Everything happens as the user who runs the program, below the prefix as it is
 * given: it is the administrator's tool, and paths are not confined. */
#include "base/os.h"
#include "doveadm.h"
#include "print.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct fs {
    const char *prefix;
    mode_t mode, folder_mode;
    bool sync, keep_folders;
};

static void bad_argument(const char *what, struct slice word) __attribute__((noreturn));

static void bad_argument(const char *what, struct slice word)
{
    doveadm_fatal(DOVEADM_TEMPFAIL, "fs_init() failed: posix: %s%.*s%s", what, (int)word.size, word.at,
                  *what == 'U' ? "'" : "");
}

static struct fs open_fs(struct doveadm *d)
{
    struct slice rest = slice_from_str(doveadm_text(d, "fs-args")), word;
    const char *driver = doveadm_text(d, "fs-driver");
    struct fs fs = {.prefix = "", .mode = 0600, .folder_mode = 0700, .sync = true};

    if (strcmp(driver, "posix") != 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "fs_init() failed: Unknown fs driver: %s", driver);
    while (rest.size > 0 && slice_split(&rest, ':', &word)) {
        if (slice_starts(word, SLICE("prefix="))) {
            /* The last one: a colon in it is its own. */
            fs.prefix = arena_printf(d->arena, "%.*s%s%.*s", (int)word.size - 7, word.at + 7, rest.size > 0 ? ":" : "",
                                     (int)rest.size, rest.at);
            break;
        } else if (slice_starts(word, SLICE("mode="))) {
            char *text = arena_str(d->arena, slice_from(word, 5)), *end;
            unsigned long mode = strtoul(text, &end, 8);

            if (*text == '\0' || *end != '\0' || mode > 0777)
                bad_argument("Invalid mode value: ", slice_from(word, 5));
            fs.mode = (mode_t)mode & 0666;
            fs.folder_mode = (mode_t)mode | (mode_t)((mode & 0444) >> 2);
        } else if (slice_equal_str(word, "no-fsync")) {
            fs.sync = false;
        } else if (slice_equal_str(word, "dirs")) {
            fs.keep_folders = true;
        } else if (word.size > 0 && !slice_equal_str(word, "accurate-mtime") &&
                   !slice_starts(word, SLICE("lock="))) {
            bad_argument("Unknown arg '", word);
        }
    }
    return fs;
}

static const char *full(struct doveadm *d, const struct fs *fs, const char *path)
{
    return arena_printf(d->arena, "%s%s", fs->prefix, path);
}

/* "CALL(PATH) failed: reason", as missing where it is that. */
static int failed(const char *operation, const char *path, const char *call, const char *file)
{
    int e = errno;

    if (e == ENOENT) {
        log_error(NULL, "%s doesn't exist: %s(%s) failed: %s", path, call, file, strerror(e));
        return DOVEADM_NOTFOUND;
    }
    log_error(NULL, "%s(%s) failed: %s(%s) failed: %s", operation, path, call, file, strerror(e));
    return DOVEADM_TEMPFAIL;
}

/* A folder is no file: the real one says the same of it as of nothing. */
static int open_file(const char *file)
{
    struct stat st;
    int fd = open(file, O_RDONLY | O_CLOEXEC);

    if (fd >= 0 && (fstat(fd, &st) < 0 || S_ISDIR(st.st_mode))) {
        close(fd);
        errno = ENOENT;
        return -1;
    }
    return fd;
}

/* ---- get, stat, metadata -------------------------------------------------------------------------------------------- */

int doveadm_fs_get(struct doveadm *d)
{
    const char *path = doveadm_text(d, "path"), *file;
    unsigned char bytes[16 * 1024];
    struct fs fs;
    ssize_t n;
    int fd;

    if (path == NULL)
        return doveadm_usage(d);
    fs = open_fs(d);
    file = full(d, &fs, path);
    print_init(d, "pager");
    print_header(d, "content", "content", PRINT_HIDE_TITLE);
    fd = open_file(file);
    if (fd < 0)
        return failed("fs_read_stream", path, "open", file);
    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        print_stream(d, slice_of(bytes, (size_t)n), false);
    print_stream(d, (struct slice){NULL, 0}, true);
    close(fd);
    return n < 0 ? failed("fs_read_stream", path, "read", file) : DOVEADM_OK;
}

int doveadm_fs_stat(struct doveadm *d)
{
    const char *path = doveadm_text(d, "path"), *file;
    struct stat st;
    struct fs fs;

    if (path == NULL)
        return doveadm_usage(d);
    fs = open_fs(d);
    file = full(d, &fs, path);
    print_init(d, "formatted");
    print_template(d, "%{path} size=%{size}");
    print_header_simple(d, "path");
    print_header(d, "size", "size", PRINT_NUMBER);
    if (stat(file, &st) < 0)
        return failed("fs_stat", path, "stat", file);
    print_value(d, path);
    print_number(d, (uint64_t)st.st_size);
    return DOVEADM_OK;
}

/* posix keeps none but the name that was asked for; whether there is such a file is not looked at. */
int doveadm_fs_metadata(struct doveadm *d)
{
    const char *path = doveadm_text(d, "path");

    if (doveadm_text(d, "fs-args") != NULL)
        (void)open_fs(d);
    if (path == NULL)
        return doveadm_usage(d);
    if (d->formatter == NULL) {
        printf(":/X-Dovecot-fs-api-OrigPath=%s\n", path);
        return DOVEADM_OK;
    }
    print_init(d, "flow");
    print_header_simple(d, "key");
    print_header_simple(d, "value");
    print_value(d, ":/X-Dovecot-fs-api-OrigPath");
    print_value(d, path);
    return DOVEADM_OK;
}

/* ---- put, copy ------------------------------------------------------------------------------------------------------- */

static int make_parents(struct doveadm *d, const struct fs *fs, const char *file, struct error *e)
{
    const char *slash = strrchr(file, '/');

    return slash == NULL || slash == file
               ? 0
               : os_mkdir_parents(AT_FDCWD, arena_str(d->arena, slice_of(file, (size_t)(slash - file))), fs->folder_mode,
                                  (gid_t)-1, e);
}

static int write_all(int from, int to, bool sync, struct error *e)
{
    unsigned char bytes[16 * 1024];
    ssize_t n;

    while ((n = read(from, bytes, sizeof(bytes))) > 0)
        if (os_write(to, slice_of(bytes, (size_t)n), e) < 0)
            return -1;
    if (n < 0)
        return error_sys(e, "read", NULL);
    return sync ? os_sync(to, e) : 0;
}

/* Written beside, then renamed over: nobody sees half a file. */
static int write_file(struct doveadm *d, const struct fs *fs, int from, const char *file, struct error *e)
{
    const char *temp = arena_printf(d->arena, "%s.tmp.%ld", file, (long)getpid());
    int to, r;

    if (make_parents(d, fs, file, e) < 0 || (to = os_create(AT_FDCWD, temp, fs->mode, (gid_t)-1, e)) < 0)
        return -1;
    r = write_all(from, to, fs->sync, e);
    close(to);
    if (r == 0)
        r = os_rename(AT_FDCWD, temp, AT_FDCWD, file, e);
    if (r < 0) {
        struct error ignored;

        (void)os_unlink(AT_FDCWD, temp, &ignored);
    }
    return r;
}

static int put_from(struct doveadm *d, const struct fs *fs, const char *source, const char *path)
{
    const char *file = full(d, fs, path);
    int fd = open(source, O_RDONLY | O_CLOEXEC), r;
    struct error e;

    if (fd < 0) {
        log_error(NULL, "fs_write_stream_finish() failed: write(%s) failed: nsend-istream: read(%s) failed: open(%s) failed: %s", file,
                  source, source, strerror(errno));
        return DOVEADM_TEMPFAIL;
    }
    r = write_file(d, fs, fd, file, &e);
    close(fd);
    if (r < 0)
        log_error(NULL, "fs_write_stream_finish() failed: write(%s) failed: %s", file, e.admin);
    return r < 0 ? DOVEADM_TEMPFAIL : DOVEADM_OK;
}

int doveadm_fs_put(struct doveadm *d)
{
    const char *path = doveadm_text(d, "path");
    struct fs fs;

    if (doveadm_given(d, "hash"))
        doveadm_fatal(DOVEADM_TEMPFAIL, "fs put -h: posix keeps no hash of what is written");
    if (doveadm_text(d, "fs-args") != NULL)
        fs = open_fs(d);
    return path == NULL ? doveadm_usage(d) : put_from(d, &fs, doveadm_text(d, "input-path"), path);
}

int doveadm_fs_copy(struct doveadm *d)
{
    const char *from = doveadm_text(d, "source-path"), *to = doveadm_text(d, "destination-path"), *source;
    struct fs fs;
    int fd, r;
    struct error e;

    if (doveadm_text(d, "fs-args") != NULL)
        fs = open_fs(d);
    if (to == NULL)
        return doveadm_usage(d);
    source = full(d, &fs, from);
    fd = open_file(source);
    if (fd < 0 && errno == ENOENT) { /* the real one's words, which say less than one would like */
        log_error(NULL, "%s doesn't exist: BUG: Unknown file error", from);
        return DOVEADM_NOTFOUND;
    }
    if (fd < 0)
        return failed("fs_copy", from, "open", source);
    r = write_file(d, &fs, fd, full(d, &fs, to), &e);
    close(fd);
    if (r < 0)
        log_error(NULL, "fs_copy(%s, %s) failed: %s", from, to, e.admin);
    return r < 0 ? DOVEADM_TEMPFAIL : DOVEADM_OK;
}

/* ---- delete ---------------------------------------------------------------------------------------------------------- */

static int delete_one(const char *path, const char *file)
{
    struct stat st;
    bool folder = lstat(file, &st) == 0 && S_ISDIR(st.st_mode);
    struct error e;

    if ((folder ? os_rmdir(AT_FDCWD, file, &e) : os_unlink(AT_FDCWD, file, &e)) == 0)
        return DOVEADM_OK;
    errno = e.sys;
    return failed("fs_delete", path, folder ? "rmdir" : "unlink", file);
}

/* Folders below the prefix that are empty now go too, unless "dirs" says that folders are the caller's matter. */
static void delete_parents(struct doveadm *d, const struct fs *fs, const char *file)
{
    char *path = arena_strdup(d->arena, file), *slash;
    struct error ignored;

    while (!fs->keep_folders && (slash = strrchr(path, '/')) != NULL && (size_t)(slash - path) > strlen(fs->prefix)) {
        *slash = '\0';
        if (os_rmdir(AT_FDCWD, path, &ignored) < 0)
            break;
    }
}

/* Children first. */
static int delete_below(struct doveadm *d, const char *path, const char *file)
{
    DIR *dir = opendir(file);
    struct dirent *entry;
    int status = DOVEADM_OK;

    if (dir == NULL)
        return errno == ENOENT ? DOVEADM_OK : failed("fs_iter", path, "opendir", file);
    while ((entry = readdir(dir)) != NULL) {
        const char *inner = arena_printf(d->arena, "%s/%s", file, entry->d_name);
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (lstat(inner, &st) == 0 && S_ISDIR(st.st_mode))
            doveadm_status_add(&status, delete_below(d, inner, inner));
        else
            doveadm_status_add(&status, delete_one(inner, inner));
    }
    closedir(dir);
    doveadm_status_add(&status, delete_one(path, file));
    return status;
}

int doveadm_fs_delete(struct doveadm *d)
{
    int status = DOVEADM_OK, one;
    struct fs fs;
    size_t n;
    const char *const *paths = doveadm_list(d, "path", &n);

    if (doveadm_text(d, "fs-args") != NULL)
        fs = open_fs(d);
    if (n == 0)
        return doveadm_usage(d);
    for (size_t i = 0; i < n && status == DOVEADM_OK; i++) { /* the first that fails ends it, as with the real one */
        size_t length = strlen(paths[i]);
        bool below = doveadm_flag(d, "recursive") && length > 0 && paths[i][length - 1] == '/';
        char *file = arena_strdup(d->arena, full(d, &fs, paths[i]));

        if (below)
            file[strlen(file) - 1] = '\0';
        one = below ? delete_below(d, paths[i], file) : delete_one(paths[i], file);
        if (one == DOVEADM_OK)
            delete_parents(d, &fs, file);
        doveadm_status_add(&status, one);
    }
    return status;
}

/* ---- iter ------------------------------------------------------------------------------------------------------------ */

static int list_names(struct doveadm *d, bool folders)
{
    const char *path = doveadm_text(d, "path"), *file;
    struct dirent *entry;
    struct fs fs;
    DIR *dir;

    if (path == NULL)
        return doveadm_usage(d);
    fs = open_fs(d);
    file = full(d, &fs, path);
    print_init(d, "flow");
    print_header(d, "path", "path", PRINT_HIDE_TITLE);
    dir = opendir(*file == '\0' ? "." : file);
    if (dir == NULL && errno != ENOENT)
        return failed("fs_iter", path, "opendir", file);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct stat st;

        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && (S_ISDIR(st.st_mode) != 0) == folders)
            print_value(d, entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    return DOVEADM_OK;
}

int doveadm_fs_iter(struct doveadm *d)
{
    return list_names(d, false);
}

int doveadm_fs_iter_dirs(struct doveadm *d)
{
    return list_names(d, true);
}
