/* temp.c - files that are not finished yet: their names, and the clean-up of what crashes have left (dbox-format 1.5).
 *
 * Dovecot deletes what begins with ".temp." and has not changed for 36 hours; so do we, and no sooner. */
#include "store/dbox/dbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#define TEMP_OLD_SECS (36 * 3600)
#define PREFIX ".temp."

char *dbox_temp_name(struct arena *arena)
{
    static unsigned counter;
    struct timeval now;

    gettimeofday(&now, NULL);
    return arena_printf(arena, PREFIX "%lld.P%ldQ%uM%ld.%s", (long long)now.tv_sec, (long)getpid(), counter++,
                        (long)now.tv_usec, store_hostname());
}

bool dbox_temp_is(const char *name)
{
    return strncmp(name, PREFIX, sizeof(PREFIX) - 1) == 0;
}

int dbox_temp_create(int dir, const char *dir_path, const struct mail_modes *modes, struct arena *arena, char **name,
                     struct error *e)
{
    int fd = -1;

    for (int tries = 0; fd < 0 && tries < 10; tries++) {
        *name = dbox_temp_name(arena);
        fd = os_create(dir, *name, modes->file, modes->gid, e);
        if (fd < 0 && e->class != ERROR_EXISTS)
            break;
    }
    if (fd < 0)
        error_context(e, "%s/", dir_path);
    return fd;
}

bool dbox_temp_due(const struct mail_user *user, int64_t last, int64_t now)
{
    unsigned interval = conf_secs(mail_user_settings(user), SET_mail_temp_scan_interval);

    return interval != 0 && last < now - (int64_t)interval;
}

void dbox_temp_clean(const char *dir_path, int64_t now, const struct log *log)
{
    DIR *d = opendir(dir_path);
    struct dirent *entry;
    struct stat st;
    struct error e;

    if (d == NULL) {
        if (errno != ENOENT)
            log_error(log, "opendir(%s) failed: %s", dir_path, strerror(errno));
        return;
    }
    while ((entry = readdir(d)) != NULL) {
        if (!dbox_temp_is(entry->d_name) || fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(st.st_mode) || (int64_t)st.st_ctime > now - TEMP_OLD_SECS)
            continue;
        if (os_unlink(dirfd(d), entry->d_name, &e) < 0 && e.class != ERROR_NOT_FOUND) {
            error_context(&e, "%s/", dir_path);
            log_error_value(log, &e);
        }
    }
    closedir(d);
}
