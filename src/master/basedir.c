/* What master makes in base_dir and state_dir: folders, pid file, link to the configuration, list of instances
 * (config 11.1).
 *
 * Nothing is repaired silently: wrong modes are set right with a warning, as admins of the original know it. */
#include "master/master.h"

#include "rpc/instances.h"
#include "rpc/line.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char *in_base(const struct master *master, const char *name)
{
    return mem_printf("%s/%s", master->base_dir, name);
}

/* Sockets in the folders that login processes are chrooted to belong to the last run. */
static void remove_old_sockets(const char *folder)
{
    struct error error;
    int dir = os_open(AT_FDCWD, folder, O_DIRECTORY, &error);

    if (dir < 0)
        return;
    {
        /* Only what listeners of this and former configurations made. */
        static const char *const known[] = {"imap", "pop3", "submission", "sieve", "login", "tokenlogin", "director",
                                            "dns-client", "ipc-proxy", "stats-writer", "ssl-params", "imap-urlauth",
                                            "proxy-notify", NULL};

        for (size_t i = 0; known[i] != NULL; i++) {
            struct stat st;

            if (fstatat(dir, known[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode))
                (void)os_unlink(dir, known[i], &error);
        }
    }
    (void)close(dir);
}

static int make_folder(const char *path, mode_t mode, gid_t gid, struct error *error)
{
    struct stat st;

    if (os_mkdir_parents(AT_FDCWD, path, mode, (gid_t)-1, error) < 0)
        return error_set(error, error->class, "mkdir(%s) failed: %s", path, strerror(error->sys));
    if (stat(path, &st) < 0)
        return error_sys(error, "stat", path);
    if (!S_ISDIR(st.st_mode))
        return error_set(error, ERROR_INVALID, "%s is not a directory", path);
    if (gid != (gid_t)-1 && st.st_gid != gid && chown(path, (uid_t)-1, gid) < 0)
        return error_sys(error, "chown", path);
    if ((st.st_mode & 0777) != mode && chmod(path, mode) < 0)
        return error_sys(error, "chmod", path);
    return 0;
}

static int make_base(const struct master *master, struct error *error)
{
    struct stat st;

    if (os_mkdir_parents(AT_FDCWD, master->base_dir, 0755, (gid_t)-1, error) < 0)
        return -1;
    if (stat(master->base_dir, &st) < 0)
        return error_sys(error, "stat", master->base_dir);
    if (!S_ISDIR(st.st_mode))
        return error_set(error, ERROR_INVALID, "%s is not a directory", master->base_dir);
    if ((st.st_mode & 0755) != 0755 && st.st_uid == geteuid()) {
        log_warning(NULL, "Fixing permissions of %s to be world-readable", master->base_dir);
        if (chmod(master->base_dir, st.st_mode | 0755) < 0)
            return error_sys(error, "chmod", master->base_dir);
    }
    return 0;
}

static gid_t login_group(const struct master *master, const struct settings *set)
{
    struct passwd *pw = master->root ? getpwnam(conf_str(set, SET_default_login_user)) : NULL;

    return pw == NULL ? (gid_t)-1 : pw->pw_gid;
}

static int link_config(const struct master *master, struct error *error)
{
    char *name = in_base(master, "dovecot.conf"), *path = realpath(master->config_path, NULL);
    struct error ignored;
    int result;

    (void)os_unlink(AT_FDCWD, name, &ignored);
    result = os_symlink(path == NULL ? master->config_path : path, AT_FDCWD, name, error);
    free(path);
    mem_free(name);
    return result;
}

static void show_last_fatal(const struct master *master)
{
    char *name = in_base(master, "master-fatal.lastlog");
    struct buffer text = {0};
    struct error error;

    if (os_read_file(AT_FDCWD, name, 4096, &text, &error) == 0) {
        struct slice line = slice_trim(buffer_slice(&text));

        fprintf(stderr, "Last died with error (see error log for more information): %.*s\n", (int)line.size,
                (const char *)line.at);
        (void)os_unlink(AT_FDCWD, name, &error);
    }
    buffer_free(&text);
    mem_free(name);
}

int basedir_prepare(struct master *master, const struct settings *set, struct error *error)
{
    static const char *const names[] = {"login", "token-login", "empty"};
    gid_t group = login_group(master, set);
    struct error ignored;

    if (make_base(master, error) < 0)
        return -1;
    show_last_fatal(master);
    if (os_mkdir_parents(AT_FDCWD, master->state_dir, 0755, (gid_t)-1, error) < 0) {
        /* Without root the default is out of reach; it holds only the list of instances. */
        if (master->root || conf_assigned(set, SET_state_dir))
            return -1;
    }
    for (size_t i = 0; i < 3; i++) {
        char *path = in_base(master, names[i]);
        int result = make_folder(path, i == 2 ? 0755 : 0750, i == 2 ? (gid_t)-1 : group, error);

        if (i < 2 && result == 0)
            remove_old_sockets(path);
        mem_free(path);
        if (result < 0)
            return -1;
    }
    if (link_config(master, error) < 0)
        return -1;
    (void)instances_touch(master->state_dir, master->instance, master->base_dir, master->config_path, &ignored); /* only a list */
    return 0;
}

/* ---- the pid file ---------------------------------------------------------------------------------------------- */

int basedir_pidfile_check(struct master *master, struct error *error)
{
    char *path = in_base(master, "master.pid");
    struct buffer text = {0};
    uint32_t pid = 0;
    int result = 0;

    if (os_read_file(AT_FDCWD, path, 64, &text, error) == 0 && slice_to_u32(slice_trim(buffer_slice(&text)), &pid) &&
        pid > 1 && (pid_t)pid != getpid() && (kill((pid_t)pid, 0) == 0 || errno == EPERM)) {
        /* A pid that somebody else got meanwhile does not answer on our socket. */
        char *socket_path = in_base(master, "master");
        int fd = line_connect(socket_path, 1000, error);

        if (fd >= 0)
            (void)close(fd);
        if (fd >= 0 || error->class == ERROR_PERMISSION)
            result = error_set(error, ERROR_EXISTS, "Dovecot is already running with PID %u (read from %s)", pid,
                               path);
        mem_free(socket_path);
    }
    buffer_free(&text);
    mem_free(path);
    return result;
}

int basedir_pidfile_create(struct master *master, struct error *error)
{
    char *path = in_base(master, "master.pid"), text[32];
    struct error ignored;
    int fd, n, result;

    (void)os_unlink(AT_FDCWD, path, &ignored);
    fd = os_create(AT_FDCWD, path, 0600, (gid_t)-1, error);
    mem_free(path);
    if (fd < 0)
        return -1;
    n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    result = os_write(fd, slice_of(text, (size_t)n), error);
    (void)close(fd);
    return result;
}

void basedir_forget(struct master *master)
{
    char *path = in_base(master, "master.pid");
    struct error ignored;

    (void)os_unlink(AT_FDCWD, path, &ignored);
    mem_free(path);
}

void basedir_note_fatal(struct master *master, const char *text)
{
    char *path = in_base(master, "master-fatal.lastlog");
    struct error error;
    int fd;

    (void)os_unlink(AT_FDCWD, path, &error);
    fd = os_create(AT_FDCWD, path, 0600, (gid_t)-1, &error);
    if (fd >= 0) {
        (void)os_write(fd, slice_from_str(text), &error);
        (void)close(fd);
    }
    mem_free(path);
}
