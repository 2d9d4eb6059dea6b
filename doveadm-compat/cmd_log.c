/* cmd_log.c - log find, log test, log errors: where the logs are, and what the log service remembers (doveadm 7.3). */
#include "doveadm.h"
#include "rpc/line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum { LEVELS = 5 };
static const struct {
    const char *name, *lower;
    int syslog;
} levels[LEVELS] = {{"Debug", "debug", LOG_DEBUG},
                    {"Info", "info", LOG_INFO},
                    {"Warning", "warning", LOG_WARNING},
                    {"Error", "error", LOG_ERR},
                    {"Fatal", "fatal", LOG_CRIT}};

/* A level's file: its setting, or the one that it falls back to. "syslog" is no file. */
static const char *level_path(struct doveadm *d, size_t level)
{
    const struct settings *set = doveadm_settings(d);
    const char *base = conf_str(set, SET_log_path), *info = conf_str(set, SET_info_log_path);
    const char *debug = conf_str(set, SET_debug_log_path);

    if (level == 0 && *debug != '\0')
        return debug;
    return level <= 1 && *info != '\0' ? info : base;
}

int doveadm_log_find(struct doveadm *d)
{
    for (size_t i = 0; i < LEVELS; i++) {
        const char *path = level_path(d, i);
        printf("%s: %s\n", levels[i].name, strcmp(path, "syslog") == 0 ? "Not found" : path);
    }
    return DOVEADM_OK;
}

int doveadm_log_test(struct doveadm *d)
{
    const char *format = conf_str(doveadm_settings(d), SET_log_timestamp);
    time_t now = time(NULL);
    char stamp[128] = "";
    struct tm tm;

    localtime_r(&now, &tm);
    if (strncmp(format, "\"", 1) == 0)
        format++;
    if (strftime(stamp, sizeof(stamp), format, &tm) == 0)
        stamp[0] = '\0';
    for (size_t i = 0; i < LEVELS; i++) {
        const char *path = level_path(d, i);
        const char *text = arena_printf(d->arena, "doveadm: %s: This is Dovecot's %s log (%lld)", levels[i].name,
                                        levels[i].lower, (long long)now);
        int fd;
        if (strcmp(path, "syslog") == 0) {
            syslog(LOG_MAIL | levels[i].syslog, "%s", text);
            continue;
        }
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            doveadm_fatal(DOVEADM_TEMPFAIL, "Can't open log file %s: %s", path, strerror(errno));
        dprintf(fd, "%s%s\n", stamp, text);
        close(fd);
    }
    return DOVEADM_OK;
}

static const char *unescape(struct doveadm *d, struct slice text)
{
    return arena_str(d->arena, text_tab_unescape(d->arena, text));
}

/* "error TAB 1795485842 TAB prefix TAB text" (ipc 5). */
static void print_error(struct doveadm *d, struct slice line, int64_t since)
{
    struct slice level, when, prefix;
    uint64_t stamp;
    time_t t;
    struct tm tm;
    char text[40];

    if (!slice_split(&line, '\t', &level) || !slice_split(&line, '\t', &when) || !slice_split(&line, '\t', &prefix) ||
        !slice_to_u64(when, &stamp) || stamp > INT64_MAX || level.size == 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Invalid input from log: %.*s", (int)line.size, (const char *)line.at);
    if ((int64_t)stamp < since)
        return;
    t = (time_t)stamp;
    localtime_r(&t, &tm);
    strftime(text, sizeof(text), "%b %d %H:%M:%S", &tm);
    printf("%s %c%.*s: %s%s\n", text, level.at[0] - ('a' - 'A'), (int)level.size - 1, (const char *)level.at + 1,
           unescape(d, prefix), unescape(d, line));
}

int doveadm_log_errors(struct doveadm *d)
{
    const char *path = doveadm_socket(d, "log-errors");
    int64_t since = 0;
    char *line = NULL;
    size_t room = 0;
    struct error e;
    ssize_t n;
    FILE *in;
    int fd;

    if (doveadm_given(d, "since") && (!doveadm_number(d, "since", &since) || since < 0))
        return doveadm_usage(d);
    fd = line_connect(path, 0, &e);
    if (fd < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "net_connect_unix(%s) failed: %s", path, strerror(e.sys));
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    in = fdopen(fd, "r");
    if (in == NULL)
        doveadm_fatal(DOVEADM_TEMPFAIL, "fdopen() failed: %s", strerror(errno));
    while ((n = getline(&line, &room, in)) > 0)
        print_error(d, slice_of(line, (size_t)n - (line[n - 1] == '\n')), since);
    free(line);
    fclose(in);
    return DOVEADM_OK;
}
