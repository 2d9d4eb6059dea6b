/* fs.c - from a specification to a chain of file systems, and what they share. */
#include "store/coding/fs.h"
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FOLDER_MODE 0700
#define FILE_MODE 0600
#define CHAIN_MAX 8

static const struct fs_ops *const all[] = {&fs_posix, &fs_sis, &fs_sis_queue, &fs_compress, &fs_crypt, &fs_mail_crypt};

static int open_part(struct mail_user *user, struct slice spec, unsigned depth, struct fs **out, struct error *e)
{
    size_t size = 0;
    struct slice rest = SLICE_EMPTY;
    struct fs *fs;

    if (depth > CHAIN_MAX)
        return error_set(e, ERROR_INVALID, "Too many fs drivers in a row");
    while (size < spec.size && spec.at[size] != ':' && spec.at[size] != ' ')
        size++;
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        if (!slice_equal_str(slice_head(spec, size), all[i]->name))
            continue;
        fs = mem_zero(1, sizeof(*fs));
        fs->ops = all[i];
        fs->user = user;
        fs->arena = arena_new();
        fs->durable = user == NULL || strcmp(conf_str(user->settings, SET_mail_fsync), "never") != 0;
        if (fs->ops->open(fs, slice_from(spec, size + 1), &rest, e) < 0 ||
            (rest.size > 0 && open_part(user, rest, depth + 1, &fs->parent, e) < 0)) {
            fs_close(&fs);
            return -1;
        }
        *out = fs;
        return 0;
    }
    return error_set(e, ERROR_INVALID, "Unknown fs driver: %.*s", (int)(size > 200 ? 200 : size), (const char *)spec.at);
}

int fs_open(struct mail_user *user, const char *spec, struct fs **out, struct error *e)
{
    return open_part(user, slice_trim(slice_from_str(spec)), 1, out, e);
}

void fs_close(struct fs **fs_p)
{
    struct fs *fs = *fs_p;

    if (fs == NULL)
        return;
    *fs_p = NULL;
    if (fs->ops->close != NULL)
        fs->ops->close(fs);
    fs_close(&fs->parent);
    arena_free(fs->arena);
    mem_free(fs);
}

/* ---- shared ---- */

int fs_folder(struct fs *fs, const char *path, bool make, const char **name, struct error *e)
{
    const char *slash = strrchr(path, '/');
    char folder[4096], above[4096];
    int fd, up;

    (void)fs;
    if (slash == NULL || slash == path || (size_t)(slash - path) >= sizeof(folder))
        return error_set(e, ERROR_INVALID, "%s: not the path of a file", path);
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = '\0';
    *name = slash + 1;
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 || errno != ENOENT || !make)
        return fd >= 0 ? fd : error_sys(e, "open", folder);
    if (os_mkdir_parents(AT_FDCWD, folder, FOLDER_MODE, (gid_t)-1, e) < 0)
        return -1;
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_sys(e, "open", folder);
    /* A new folder is durable when those that name it are: two levels are made for the first file of a hash. */
    snprintf(above, sizeof(above), "%s", folder);
    for (int level = 0; fs->durable && level < 2 && (slash = strrchr(above, '/')) != NULL && slash != above; level++) {
        above[slash - above] = '\0';
        up = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (up >= 0 && os_sync(up, e) < 0) {
            close(up);
            close(fd);
            return -1;
        }
        if (up >= 0)
            close(up);
    }
    return fd;
}

int fs_temp_open(struct fs *fs, const char *path, struct fs_temp *temp, const char **name, struct error *e)
{
    unsigned char random[16];
    struct buffer hex = {0};

    for (int tries = 0; tries < 5; tries++) {
        temp->dir = fs_folder(fs, path, true, name, e);
        if (temp->dir < 0)
            return -1;
        store_guid_new(random);
        buffer_reset(&hex);
        text_hex_encode(&hex, slice_of(random, 16));
        temp->name = mem_printf(".temp.%s", buffer_cstr(&hex));
        temp->fd = os_create(temp->dir, temp->name, FILE_MODE, (gid_t)-1, e);
        if (temp->fd >= 0)
            break;
        close(temp->dir);
        mem_free(temp->name);
        temp->name = NULL;
        /* Somebody may have removed the empty folder meanwhile. */
        if (e->class != ERROR_NOT_FOUND && e->class != ERROR_EXISTS)
            break;
    }
    buffer_free(&hex);
    return temp->name == NULL ? -1 : 0;
}

void fs_temp_drop(struct fs *fs, struct fs_temp *temp)
{
    struct error e;

    if (temp->fd >= 0)
        close(temp->fd);
    temp->fd = -1;
    if (temp->name != NULL && os_unlink(temp->dir, temp->name, &e) < 0 && e.class != ERROR_NOT_FOUND)
        log_error_value(mail_user_log(fs->user), &e);
    mem_free(temp->name);
    temp->name = NULL;
    if (temp->dir >= 0)
        close(temp->dir);
    temp->dir = -1;
}

void fs_remove_folders(const char *path, unsigned levels)
{
    char folder[4096];
    struct error e;
    char *slash;

    if ((size_t)snprintf(folder, sizeof(folder), "%s", path) >= sizeof(folder))
        return;
    while (levels-- > 0 && (slash = strrchr(folder, '/')) != NULL && slash != folder) {
        *slash = '\0';
        if (os_rmdir(AT_FDCWD, folder, &e) < 0)
            return; /* not empty, or somebody else was faster */
    }
}

int fs_parent_unlink(struct fs *fs, const char *path, struct error *e)
{
    return fs_unlink(fs->parent, path, e);
}

int fs_parent_link(struct fs *fs, const char *from, const char *to, struct error *e)
{
    return fs_link(fs->parent, from, to, e);
}

int fs_parent_rename(struct fs *fs, const char *from, const char *to, struct error *e)
{
    return fs_rename(fs->parent, from, to, e);
}
