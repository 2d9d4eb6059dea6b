/* doveadm_run.c - what commands share: settings, sockets, what an error means, commands that are not there. */
#include "doveadm_args.h"
#include "conf/plugins.h"
#include "rpc/line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct settings *doveadm_settings(struct doveadm *d)
{
    const struct conf_filter filter = {.service = "doveadm"};
    const char *path = d->config_path != NULL ? d->config_path : getenv("CONFIG_FILE");
    struct stat st;
    struct error e;

    if (d->set != NULL)
        return d->set;
    if (path == NULL)
        path = SYSCONFDIR "/dovecot/dovecot.conf";
    if (stat(path, &st) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Error reading configuration: stat(%s) failed: %s", path, strerror(errno));
    if (conf_open_file(path, d->overrides, &d->conf, &e) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Error reading configuration: %s", e.admin);
    d->set = conf_settings(d->conf, &filter, &e);
    if (d->set == NULL)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Error reading configuration: %s", e.admin);
    if (conf_plugins_check(d->set, false, &e) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "%s", e.admin);
    return d->set;
}

const char *doveadm_socket(struct doveadm *d, const char *name)
{
    if (*name == '/')
        return name;
    return arena_printf(d->arena, "%s/%s", conf_str(doveadm_settings(d), SET_base_dir), name);
}

FILE *doveadm_stream(const char *path, FILE **out)
{
    struct error e;
    int fd = line_connect(path, 0, &e);

    if (fd < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "net_connect_unix(%s) failed: %s", path, strerror(e.sys));
    return doveadm_fd_stream(fd, out);
}

FILE *doveadm_fd_stream(int fd, FILE **out)
{
    struct timeval patience = {.tv_sec = DOVEADM_ANSWER_SECS};
    FILE *in;

    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    in = fdopen(fd, "r");
    *out = fdopen(dup(fd), "w");
    if (in == NULL || *out == NULL)
        doveadm_fatal(DOVEADM_TEMPFAIL, "fdopen() failed: %s", strerror(errno));
    return in;
}

int doveadm_status_of(const struct error *e)
{
    switch (e->class) {
    case ERROR_NONE:
        return DOVEADM_OK;
    case ERROR_NOT_FOUND:
        return DOVEADM_NOTFOUND;
    case ERROR_EXISTS:
    case ERROR_BUSY:
    case ERROR_LIMIT:
    case ERROR_UNSUPPORTED:
        return DOVEADM_DATAERR;
    case ERROR_INVALID:
        return DOVEADM_USAGE;
    case ERROR_PERMISSION: /* rights say no; what the system refuses is a fault of the installation */
        return e->sys != 0 && e->user[0] == '\0' ? DOVEADM_TEMPFAIL : DOVEADM_NOPERM;
    case ERROR_QUOTA:
        return DOVEADM_NOQUOTA;
    default:
        return DOVEADM_TEMPFAIL;
    }
}

const char *doveadm_error_text(struct arena *a, const struct error *e)
{
    char stamp[40];
    time_t now = time(NULL);
    struct tm tm;

    if (e->user[0] != '\0')
        return arena_strdup(a, e->user);
    localtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
    return arena_printf(a, "Internal error occurred. Refer to server log for more information. [%s]", stamp);
}

void doveadm_status_add(int *status, int more)
{
    if (*status == DOVEADM_OK || more == DOVEADM_TEMPFAIL)
        *status = more == DOVEADM_OK ? *status : more;
}

/* What is wrong with the call is said first, as the real program would. */
int doveadm_absent(struct doveadm *d)
{
    bool mail = (d->command->flags & DOVEADM_MAIL) != 0;

    if (mail && !doveadm_given(d, "user") && !doveadm_given(d, "all-users") && !doveadm_given(d, "user-file") &&
        getenv("USER") == NULL)
        doveadm_fatal(DOVEADM_USAGE, "USER environment is missing and -u option not used");
    if (doveadm_args_missing(d))
        return doveadm_usage(d);
    doveadm_fatal(DOVEADM_TEMPFAIL, "doveadm %s: this command is not available in this version", d->command->name);
}

/* Is the plugin of a command's first word in mail_plugins? */
bool doveadm_plugin_loaded(struct doveadm *d, const struct doveadm_command *c)
{
    struct slice plugin = strncmp(c->name, "mailbox cryptokey ", 18) == 0 ? SLICE("mail_crypt")
                                                                          : slice_of(c->name, strcspn(c->name, " "));

    return conf_plugin_named(doveadm_settings(d), arena_str(d->arena, plugin));
}
