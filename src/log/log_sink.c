/* Lines in the three files of the configuration, syslog, or standard error.
 *
 * debug goes to debug_log_path, info to info_log_path, the rest to log_path; an empty one means the one above it. A
 * path may be "syslog", "/dev/stderr" or a file. json: one object a line (our own log.format). */
#include "log/log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum { SINK_ERROR, SINK_INFO, SINK_DEBUG, SINKS };

struct target {
    char *path;    /* NULL: syslog */
    int fd;
};

struct log_sink {
    struct target targets[SINKS];
    char *timestamp;
    char *ident;
    bool json;
};

const char *log_sink_level(enum log_level level)
{
    static const char *const names[] = {"Debug", "Info", "Warning", "Error", "Fatal", "Panic"};

    return names[level];
}

static int facility(const char *name)
{
    static const struct {
        const char *name;
        int value;
    } table[] = {{"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},     {"daemon", LOG_DAEMON},
                 {"kern", LOG_KERN},     {"lpr", LOG_LPR},           {"mail", LOG_MAIL},     {"news", LOG_NEWS},
                 {"syslog", LOG_SYSLOG}, {"user", LOG_USER},         {"uucp", LOG_UUCP},     {"local0", LOG_LOCAL0},
                 {"local1", LOG_LOCAL1}, {"local2", LOG_LOCAL2},     {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},
                 {"local5", LOG_LOCAL5}, {"local6", LOG_LOCAL6},     {"local7", LOG_LOCAL7}};

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i].value;
    return LOG_MAIL;
}

/* Several targets may name one file: each has a descriptor of its own, O_APPEND keeps the lines whole. */
static int open_target(const char *path, struct error *error)
{
    int fd;

    if (strcmp(path, "/dev/stderr") == 0)
        fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    else
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return error_set(error, ERROR_TEMPORARY, "Can't open log file %s: %s", path, strerror(errno));
    return fd;
}

int log_sink_open(const struct settings *set, struct log_sink **out, struct error *error)
{
    static const enum setting ids[SINKS] = {SET_log_path, SET_info_log_path, SET_debug_log_path};
    struct log_sink *sink = mem_zero(1, sizeof(*sink));
    const char *path = "syslog";

    sink->timestamp = mem_strdup(conf_str(set, SET_log_timestamp));
    sink->json = strcmp(conf_str(set, SET_log_format), "json") == 0;
    sink->ident = mem_strdup(conf_str(set, SET_instance_name));
    for (int i = 0; i < SINKS; i++)
        sink->targets[i].fd = -1;
    for (int i = 0; i < SINKS; i++) {
        const char *own = conf_str(set, ids[i]);

        if (own[0] != '\0')
            path = own;
        if (strcmp(path, "syslog") == 0)
            continue;
        sink->targets[i].path = mem_strdup(path);
        sink->targets[i].fd = open_target(path, error);
        if (sink->targets[i].fd < 0) {
            log_sink_free(sink);
            return -1;
        }
    }
    openlog(sink->ident, LOG_NDELAY, facility(conf_str(set, SET_syslog_facility)));
    *out = sink;
    return 0;
}

void log_sink_free(struct log_sink *sink)
{
    if (sink == NULL)
        return;
    closelog();
    for (int i = 0; i < SINKS; i++) {
        if (sink->targets[i].fd >= 0)
            (void)close(sink->targets[i].fd);
        mem_free(sink->targets[i].path);
    }
    mem_free(sink->timestamp);
    mem_free(sink->ident);
    mem_free(sink);
}

int log_sink_reopen(struct log_sink *sink, struct error *error)
{
    int result = 0;

    for (int i = 0; i < SINKS; i++) {
        struct target *target = &sink->targets[i];
        int fd;

        if (target->path == NULL || strcmp(target->path, "/dev/stderr") == 0)
            continue;
        fd = open_target(target->path, error);
        if (fd < 0) {
            result = -1;
            continue;
        }
        (void)close(target->fd);
        target->fd = fd;
    }
    return result;
}

static void append_timestamp(struct buffer *line, const char *format)
{
    char text[256];
    time_t now = time(NULL);
    struct tm tm;

    if (format[0] == '\0')
        return;
    (void)localtime_r(&now, &tm);
    if (strftime(text, sizeof(text), format, &tm) > 0)
        buffer_append_str(line, text);
}

static void append_json_text(struct buffer *line, struct slice text)
{
    buffer_append_byte(line, '"');
    while (text.size > 0) {
        int32_t c = text_utf8_next(&text);

        if (c < 0)
            c = 0xFFFD;
        if (c == '"' || c == '\\')
            buffer_printf(line, "\\%c", (char)c);
        else if (c < 0x20 || c == 0x7F)
            buffer_printf(line, "\\u%04x", (unsigned)c);
        else
            text_utf8_put(line, (uint32_t)c);
    }
    buffer_append_byte(line, '"');
}

static void append_json(struct buffer *line, enum log_level level, struct slice prefix, struct slice text)
{
    char stamp[64];
    struct timespec now;
    struct tm tm;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    (void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    buffer_printf(line, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"prefix\":", stamp, now.tv_nsec / 1000000,
                  log_sink_level(level));
    if (slice_ends(prefix, SLICE(": ")))
        prefix.size -= 2;
    append_json_text(line, prefix);
    buffer_append_str(line, ",\"message\":");
    append_json_text(line, text);
    buffer_append_byte(line, '}');
}

static int write_syslog(enum log_level level, struct slice prefix, struct slice text)
{
    static const int priorities[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERR, LOG_CRIT, LOG_CRIT};

    syslog(priorities[level], "%.*s%s: %.*s", (int)prefix.size, (const char *)prefix.at, log_sink_level(level),
           (int)text.size, (const char *)text.at);
    return 0;
}

int log_sink_write(struct log_sink *sink, enum log_level level, struct slice prefix, struct slice text,
                   struct error *error)
{
    struct target *target = &sink->targets[level == LOG_LEVEL_DEBUG  ? SINK_DEBUG
                                           : level == LOG_LEVEL_INFO ? SINK_INFO
                                                                     : SINK_ERROR];
    struct buffer line = {0};
    int result = 0;

    if (target->path == NULL)
        return write_syslog(level, prefix, text);
    if (sink->json) {
        append_json(&line, level, prefix, text);
    } else {
        append_timestamp(&line, sink->timestamp);
        buffer_append_slice(&line, prefix);
        buffer_printf(&line, "%s: ", log_sink_level(level));
        buffer_append_slice(&line, text);
    }
    buffer_append_byte(&line, '\n');
    for (size_t done = 0; done < line.size && result == 0;) {
        ssize_t n = write(target->fd, line.at + done, line.size - done);

        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            result = error_set(error, ERROR_TEMPORARY, "write(%s) failed: %s", target->path, strerror(errno));
    }
    buffer_free(&line);
    return result;
}
