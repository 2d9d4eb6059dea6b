/* cmd_sis.c - sis deduplicate, sis find: attachments of equal content (dbox-format 5.3). */
#include "doveadm.h"
#include "print.h"
#include "store/attachment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *root_of(struct doveadm *d, bool find)
{
    const char *root = doveadm_text(d, "root-dir");
    struct stat st;

    if (find && stat(root, &st) < 0 && errno == ENOENT)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Attachment dir doesn't exist: %s", root);
    if (stat(root, &st) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "stat(%s) failed: %s", root, strerror(errno));
    return root;
}

/* Each name of the queue is looked at once; what could be done leaves it. */
int doveadm_sis_deduplicate(struct doveadm *d)
{
    const char *root, *queue;
    struct dirent *entry;
    struct error e;
    bool failed = false;
    DIR *dir;

    if (doveadm_text(d, "root-dir") == NULL || doveadm_text(d, "queue-dir") == NULL)
        return doveadm_usage(d);
    root = root_of(d, false);
    queue = doveadm_text(d, "queue-dir");
    dir = opendir(queue);
    if (dir == NULL)
        doveadm_fatal(DOVEADM_TEMPFAIL, "opendir(%s) failed: %s", queue, strerror(errno));
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        if (attachment_deduplicate(root, entry->d_name, &e) < 0 || os_unlink(dirfd(dir), entry->d_name, &e) < 0) {
            log_error_value(NULL, &e);
            failed = true;
        }
    }
    closedir(dir);
    return failed ? DOVEADM_TEMPFAIL : DOVEADM_OK;
}

int doveadm_sis_find(struct doveadm *d)
{
    const char *root, *hash, *folder;
    struct dirent *entry;
    size_t n;
    DIR *dir;

    if (doveadm_text(d, "root-dir") == NULL || doveadm_text(d, "hash") == NULL)
        return doveadm_usage(d);
    root = root_of(d, true);
    hash = doveadm_text(d, "hash");
    n = strlen(hash);
    if (n < 4 || strchr(hash, '/') != NULL)
        return doveadm_usage(d);
    folder = arena_printf(d->arena, "%s/%.2s/%.2s", root, hash, hash + 2);
    print_init(d, "table");
    print_header(d, "path", "path", PRINT_HIDE_TITLE);
    dir = opendir(folder);
    if (dir == NULL && errno != ENOENT)
        doveadm_fatal(DOVEADM_TEMPFAIL, "opendir(%s) failed: %s", folder, strerror(errno));
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (strncmp(entry->d_name, hash, n) == 0 && strchr(entry->d_name, '-') != NULL)
            print_value(d, arena_printf(d->arena, "%s/%s", folder, entry->d_name));
    if (dir != NULL)
        closedir(dir);
    print_flush(d);
    return DOVEADM_OK;
}
