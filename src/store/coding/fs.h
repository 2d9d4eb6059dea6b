/* Files behind a chain of small file systems, as mail_attachment_fs and the fs: dict name them (dbox-format 5):
 *
 *     posix                 plain files                       sis PARENT             equal content is stored once
 *     sis-queue DIR:PARENT  the same, later, by doveadm sis   crypt:..., compress:...  encoded on the way
 *
 * A path is absolute. A file appears as a whole and durable, or not at all, when the sink that fs_create gave has been
 * finished. Everything blocks; nothing here is called with a mailbox lock held. */
#ifndef YARILO_STORE_CODING_FS_H
#define YARILO_STORE_CODING_FS_H

#include "store/stage.h"

struct fs;

struct fs_file {          /* one that is open for reading: any place of it can be read */
    struct mime_source source;
    uint64_t size;        /* UINT64_MAX: not known before it was read to its end */
    void (*end)(struct fs_file *);
    void *data;
};

struct fs_ops {
    const char *name;
    /* What stands behind the name in the specification; *rest: of the parent ("": none). */
    int (*open)(struct fs *, struct slice args, struct slice *rest, struct error *);
    void (*close)(struct fs *);
    struct byte_sink *(*create)(struct fs *, const char *path, struct error *);
    int (*read)(struct fs *, const char *path, struct fs_file *, struct error *);
    int (*unlink)(struct fs *, const char *path, struct error *);
    int (*link)(struct fs *, const char *from, const char *to, struct error *);    /* ERROR_EXISTS */
    int (*rename)(struct fs *, const char *from, const char *to, struct error *);
};

struct fs {
    const struct fs_ops *ops;
    struct fs *parent;
    struct mail_user *user;   /* settings and keys; not referenced */
    struct arena *arena;
    bool durable;             /* sync files and folders */
    void *data;
};

extern const struct fs_ops fs_posix, fs_sis, fs_sis_queue, fs_compress, fs_crypt, fs_mail_crypt;

/* "sis posix", "sis-queue /dir:posix", "crypt:set_prefix=x:posix". The user stays open as long as it. */
int fs_open(struct mail_user *, const char *spec, struct fs **, struct error *);
void fs_close(struct fs **);   /* NULL is fine */

static inline struct byte_sink *fs_create(struct fs *fs, const char *path, struct error *e)
{
    return fs->ops->create(fs, path, e);
}
static inline int fs_read(struct fs *fs, const char *path, struct fs_file *file, struct error *e)
{
    return fs->ops->read(fs, path, file, e);
}
static inline int fs_unlink(struct fs *fs, const char *path, struct error *e)
{
    return fs->ops->unlink(fs, path, e);
}
static inline int fs_link(struct fs *fs, const char *from, const char *to, struct error *e)
{
    return fs->ops->link(fs, from, to, e);
}
static inline int fs_rename(struct fs *fs, const char *from, const char *to, struct error *e)
{
    return fs->ops->rename(fs, from, to, e);
}

/* ---- for file systems ---- */

/* The folder of a path, opened; missing folders are made when `make`. -> O_RDONLY descriptor or -1 (ERROR_NOT_FOUND). *name
 * points into path. */
int fs_folder(struct fs *, const char *path, bool make, const char **name, struct error *);
/* A file of its own beside the path, not visible under it: `.temp.<...>`. */
struct fs_temp {
    int dir, fd;
    char *name;               /* in dir */
};
int fs_temp_open(struct fs *, const char *path, struct fs_temp *, const char **name, struct error *);
void fs_temp_drop(struct fs *, struct fs_temp *);   /* removes it; also when it has another name by now (name NULL): closes */
/* Removes empty folders: that of path and `levels` - 1 above it. */
void fs_remove_folders(const char *path, unsigned levels);
/* For wrappers: the parent's own link, rename, unlink. */
int fs_parent_unlink(struct fs *, const char *path, struct error *);
int fs_parent_link(struct fs *, const char *from, const char *to, struct error *);
int fs_parent_rename(struct fs *, const char *from, const char *to, struct error *);

#endif
