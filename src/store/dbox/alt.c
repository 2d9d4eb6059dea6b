/* alt.c - the alternative storage root (ALT=): slow disks for old mail (dbox-format 2.5).
 *
 * root/dbox-alt-root is a symbolic link to the ALT root that was in use last: a setting that was changed by mistake shows in
 * the log. A rebuild must not take messages for lost because their disk is not mounted. */
#include "store/dbox/dbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define LINK_NAME "dbox-alt-root"

bool dbox_alt_mounted(const struct mail_location *at, bool used)
{
    struct mail_modes modes = mail_modes_of(at->root);
    struct stat st;
    struct error e;

    if (at->alt == NULL || stat(at->alt, &st) == 0)
        return true;
    /* A mount point that cannot be made is one that should have been there. */
    return errno == ENOENT && !used && os_mkdir_parents(AT_FDCWD, at->alt, modes.dir, modes.gid, &e) == 0;
}

void dbox_alt_check(const struct mail_location *at, const struct log *log)
{
    char *path = mem_printf("%s/" LINK_NAME, at->root), old[4096], *temp;
    ssize_t n = readlink(path, old, sizeof(old) - 1);
    struct error e;

    old[n < 0 ? 0 : n] = '\0';
    if (at->alt_nocheck || (n < 0 && (errno != ENOENT || at->alt == NULL)) ||
        (n >= 0 && at->alt != NULL && strcmp(old, at->alt) == 0)) {
        mem_free(path);
        return;
    }
    if (n >= 0 && at->alt == NULL)
        log_warning(log, "dbox %s: Original ALT=%s, but currently no ALT path set", at->root, old);
    else if (n >= 0)
        log_warning(log, "dbox %s: Original ALT=%s, but currently ALT=%s", at->root, old, at->alt);
    if (at->alt == NULL) {
        if (os_unlink(AT_FDCWD, path, &e) < 0 && e.class != ERROR_NOT_FOUND)
            log_error_value(log, &e);
    } else {
        temp = mem_printf("%s.%ld.tmp", path, (long)getpid());
        if ((os_symlink(at->alt, AT_FDCWD, temp, &e) < 0 && e.class != ERROR_EXISTS) ||
            os_rename(AT_FDCWD, temp, AT_FDCWD, path, &e) < 0) {
            /* Another process may have been faster; a root that is not there yet gets its link at the next open. */
            if (e.class != ERROR_NOT_FOUND && e.class != ERROR_PERMISSION)
                log_error_value(log, &e);
            os_unlink(AT_FDCWD, temp, &e);
        }
        mem_free(temp);
    }
    mem_free(path);
}

/* ---- moving ---- */

static int copy_bytes(int from, int to, struct error *e)
{
    struct buffer b = {0};
    uint64_t at = 0;
    ssize_t n;
    int r = 0;

    while (r == 0 && (n = os_pread(from, at, 65536, &b, e)) != 0) {
        r = n < 0 ? -1 : os_write(to, buffer_slice(&b), e);
        at += n < 0 ? 0 : (uint64_t)n;
        buffer_reset(&b);
    }
    buffer_free(&b);
    return r;
}

static int copy_file(int from, const struct stat *st, int todir, const char *todir_path, const char *name,
                     const struct mail_modes *modes, struct error *e)
{
    struct arena *arena = arena_new();
    struct error ignored;
    char *temp;
    int to = dbox_temp_create(todir, todir_path, modes, arena, &temp, e), r;

    r = to < 0 ? -1 : copy_bytes(from, to, e);
    if (r == 0)
        r = os_sync(to, e);
    if (r == 0)
        r = os_set_times(todir, temp, st->st_mtime, e);
    if (r == 0)
        r = os_rename(todir, temp, todir, name, e);
    if (r < 0 && to >= 0)
        os_unlink(todir, temp, &ignored);
    if (to >= 0)
        close(to);
    arena_free(arena);
    return r;
}

int dbox_alt_move(int dir, const char *dir_path, const char *name, int todir, const char *todir_path,
                  const struct mail_modes *modes, struct error *e)
{
    int from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), r = -1;
    struct error ignored;
    struct stat st;

    if (from < 0 || fstat(from, &st) < 0)
        error_sys(e, "open", name);
    else
        r = copy_file(from, &st, todir, todir_path, name, modes, e);
    /* The copy must be found after a crash before the original goes. Else the copy goes: two would be one too many. */
    if (r == 0) {
        r = os_sync(todir, e) < 0 || os_unlink(dir, name, e) < 0 ? -1 : 0;
        if (r < 0 && faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            os_unlink(todir, name, &ignored);
    }
    if (r < 0)
        error_context(e, "%s/%s -> %s: ", dir_path, name, todir_path);
    if (from >= 0)
        close(from);
    return r;
}
