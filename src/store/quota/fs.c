/* fs.c - the quota that the file system itself keeps for a user or a group (quota-acl-plugins 1.3). */
#include "store/quota/internal.h"

#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>


int quota_fs_parameter(struct quota_root *root, struct slice text)
{
    struct arena *arena = root->quota->arena;

    if (slice_equal_str(text, "user"))
        root->fs.no_group = true;
    else if (slice_equal_str(text, "group"))
        root->fs.no_user = true;
    else if (slice_equal_str(text, "inode_per_mail"))
        root->fs.inodes = true;
    else if (slice_starts(text, SLICE("mount=")))
        root->fs.mount = arena_str(arena, slice_from(text, 6));
    else
        return -1;
    return 0;
}

/* A mail folder that is not there yet will be on its parent's file system. */
static int find_dev(const char *path, dev_t *dev, struct error *e)
{
    struct buffer at = {0};
    struct stat st;
    int r;

    buffer_append_str(&at, path);
    while ((r = stat(buffer_cstr(&at), &st)) < 0 && errno == ENOENT) {
        ptrdiff_t slash = slice_find_last(buffer_slice(&at), '/');

        if (slash <= 0)
            break;
        at.size = (size_t)slash;
    }
    buffer_free(&at);
    if (r < 0)
        return error_set(e, ERROR_TEMPORARY, "Mount point unknown for path %s", path);
    *dev = st.st_dev;
    return 0;
}

/* The device that is mounted with this number; a mount= names its place. */
static int find_device(struct quota_root *root, struct arena *arena, const char **device, struct error *e)
{
    const struct mail_namespace *inbox = root->quota->user->inbox;
    const char *path = root->fs.mount != NULL ? root->fs.mount : inbox == NULL ? "/" : inbox->storage->at.root;
    struct mntent *entry;
    FILE *mounts;
    dev_t dev = 0;

    *device = NULL;
    if (root->fs.mount == NULL && find_dev(path, &dev, e) < 0)
        return -1;
    mounts = setmntent("/proc/self/mounts", "re");
    if (mounts == NULL)
        return error_sys(e, "open", "/proc/self/mounts");
    while ((entry = getmntent(mounts)) != NULL) {
        struct stat st;

        if (root->fs.mount != NULL ? strcmp(entry->mnt_dir, path) == 0
                                   : entry->mnt_fsname[0] == '/' && stat(entry->mnt_dir, &st) == 0 && st.st_dev == dev)
            *device = arena_strdup(arena, entry->mnt_fsname); /* the last one lies over the others */
    }
    endmntent(mounts);
    if (*device == NULL)
        return error_set(e, ERROR_TEMPORARY, "Mount point unknown for path %s", path);
    return 0;
}

/* 0: no quota is kept there, which the log says once; 1: told. */
static int ask(const struct quota_root *root, const char *device, int type, int id, struct dqblk *out, struct error *e)
{
    const int command = (int)((unsigned)Q_GETQUOTA << SUBCMDSHIFT | (unsigned)type); /* as QCMD, which shifts into the sign */
    static bool said;

    if (quotactl(command, device, id, (caddr_t)out) == 0)
        return 1;
    /* Off for this kind, or nothing is known of the id. */
    if (errno == ESRCH || errno == ENOENT)
        return 0;
    if (errno != ENOSYS && errno != ENOTBLK && errno != EOPNOTSUPP)
        return error_sys(e, "quotactl(Q_GETQUOTA)", device);
    if (!said)
        log_warning(root->quota->user->log_p, "quota-fs: the file system of %s keeps no quotas (%m): nothing is limited", device);
    said = true;
    return 0;
}

static uint64_t first_of(uint64_t hard, uint64_t soft)
{
    return hard != 0 ? hard : soft;
}

static int fs_usage(struct quota_root *root, struct quota_amount *out, struct error *e)
{
    struct arena *arena = arena_new();
    struct dqblk block = {0};
    const char *device;
    int r = find_device(root, arena, &device, e) < 0 ? -1 : 0;

    if (r == 0 && !root->fs.no_user)
        r = ask(root, device, USRQUOTA, (int)geteuid(), &block, e);
    if (r >= 0 && !root->fs.no_group && (r == 0 || (block.dqb_bhardlimit == 0 && block.dqb_bsoftlimit == 0))) {
        struct dqblk group = {0};
        int found = ask(root, device, GRPQUOTA, (int)getegid(), &group, e);

        /* A user's usage without any limit is still better than none. */
        if (found < 0 || (found > 0 && (r == 0 || group.dqb_bhardlimit != 0 || group.dqb_bsoftlimit != 0))) {
            block = group;
            r = found;
        }
    }
    arena_free(arena);
    if (r < 0)
        return -1;
    *out = (struct quota_amount){block.dqb_curspace, root->fs.inodes ? block.dqb_curinodes : 0};
    if (first_of(block.dqb_bhardlimit, block.dqb_bsoftlimit) != 0)
        root->limits.bytes = first_of(block.dqb_bhardlimit, block.dqb_bsoftlimit) * 1024;
    if (root->fs.inodes && first_of(block.dqb_ihardlimit, block.dqb_isoftlimit) != 0)
        root->limits.count = first_of(block.dqb_ihardlimit, block.dqb_isoftlimit);
    return 0;
}

const struct quota_backend quota_backend_fs = {.name = "fs", .usage = fs_usage, .has_limits = true};
