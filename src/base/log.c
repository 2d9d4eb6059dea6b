/* log.c - lines to the log service, to a terminal, or to a test.
 *
 * Service mode writes Dovecot's log protocol (ipc 3): each line is one write of at most PIPE_BUF bytes, so that the
 * lines of several writers of one pipe never mix; longer text becomes several lines with the same header. Control
 * bytes become '?', since a line feed or an 0x01 in the text would begin a line of another level. */
#include "base/log.h"
#include "base/mem.h"
#include "base/slice.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { TYPE_OPTION = 7, FLAG_PREFIX_LENGTH = 0x40 };

/* The process's own log: what log_open_* set. It is the one thing that every floor shares. */
static struct {
    enum { TO_STDERR, TO_SERVICE } where;
    bool timestamps, debug;
    char *prefix;
    void (*see)(void *, enum log_level, const char *prefix, const char *text);
    void *see_arg;
} process;

static const char *level_name(enum log_level level)
{
    static const char *const names[] = {"Debug", "Info", "Warning", "Error", "Fatal", "Panic"};

    return names[level];
}

static void set_prefix(char *prefix)
{
    mem_free(process.prefix);
    process.prefix = prefix;
}

static void neutralise(unsigned char *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((at[i] < 0x20 && at[i] != '\t') || at[i] == 0x7F)
            at[i] = '?';
}

/* Nobody can be told when the log itself fails; the process goes on. */
static void write_line(const void *at, size_t size)
{
    const char *p = at;

    while (size > 0) {
        ssize_t n = write(STDERR_FILENO, p, size);

        if (n > 0) {
            p += n;
            size -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd wait = {STDERR_FILENO, POLLOUT, 0};

            poll(&wait, 1, -1);
        } else if (n == 0 || errno != EINTR) {
            return;
        }
    }
}

/* One message as lines of the log protocol. `prefix` NULL: the service's prefix or the one set for the pid. */
static void write_service(unsigned type, const char *prefix, struct slice text)
{
    char head[PIPE_BUF / 2];
    size_t prefix_size = prefix == NULL ? 0 : strlen(prefix), room;
    int n;

    if (prefix_size > sizeof(head) - 64) /* names come from clients; the text must have its place */
        prefix_size = sizeof(head) - 64;
    if (prefix == NULL)
        n = snprintf(head, sizeof(head), "\001%c%ld ", (int)(type + 1), (long)getpid());
    else
        n = snprintf(head, sizeof(head), "\001%c%ld %zu %.*s", (int)((type + 1) | FLAG_PREFIX_LENGTH), (long)getpid(),
                     prefix_size, (int)prefix_size, prefix);
    neutralise((unsigned char *)head + 2, (size_t)n - 2);
    room = PIPE_BUF - 1 - (size_t)n;
    do {
        char line[PIPE_BUF];
        struct slice part = slice_head(text, room);

        memcpy(line, head, (size_t)n);
        if (part.size > 0)
            memcpy(line + n, part.at, part.size);
        line[(size_t)n + part.size] = '\n';
        write_line(line, (size_t)n + part.size + 1);
        text = slice_from(text, part.size);
    } while (text.size > 0);
}

static void write_stderr(enum log_level level, const char *prefix, struct slice text)
{
    struct buffer line = {0};

    if (process.timestamps) {
        time_t now = time(NULL);
        struct tm tm;
        char stamp[32];

        localtime_r(&now, &tm);
        strftime(stamp, sizeof(stamp), "%b %d %H:%M:%S ", &tm);
        buffer_append_str(&line, stamp);
    }
    buffer_append_str(&line, prefix);
    buffer_printf(&line, "%s: ", level_name(level));
    buffer_append_slice(&line, text);
    neutralise(line.at, line.size);
    buffer_append_byte(&line, '\n');
    write_line(line.at, line.size);
    buffer_free(&line);
}

static void write_message(const struct log *log, enum log_level level, const char *fmt, va_list args)
{
    const char *own = log == NULL ? NULL : log->prefix;
    const char *prefix = own != NULL ? own : process.prefix != NULL ? process.prefix : "";
    struct buffer text = {0};
    int saved = errno;

    buffer_vprintf(&text, fmt, args);
    neutralise(text.at, text.size);
    if (process.see != NULL)
        process.see(process.see_arg, level, prefix, buffer_cstr(&text));
    else if (process.where == TO_SERVICE)
        write_service(level, own, buffer_slice(&text));
    else
        write_stderr(level, prefix, buffer_slice(&text));
    buffer_free(&text);
    errno = saved;
}

void log_open_service(const char *name)
{
    process.where = TO_SERVICE;
    set_prefix(mem_printf("%s: ", name));
}

void log_open_stderr(const char *prefix, bool timestamps)
{
    process.where = TO_STDERR;
    process.timestamps = timestamps;
    set_prefix(mem_strdup(prefix == NULL ? "" : prefix));
}

void log_capture(void (*see)(void *, enum log_level, const char *, const char *), void *arg)
{
    process.see = see;
    process.see_arg = arg;
}

void log_set_prefix(const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    neutralise(text.at, text.size);
    set_prefix(mem_strndup(buffer_slice(&text)));
    buffer_free(&text);
    if (process.where == TO_SERVICE) {
        buffer_printf(&text, "prefix=%s", process.prefix);
        /* An option is one line or none: the remainder of a longer one would be a second option. */
        write_service(TYPE_OPTION, NULL, slice_head(buffer_slice(&text), PIPE_BUF - 32));
        buffer_free(&text);
    }
}

void log_set_debug(bool on)
{
    process.debug = on;
}

bool log_debug_on(const struct log *log)
{
    return process.debug || (log != NULL && log->debug);
}

void log_write(const struct log *log, enum log_level level, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    write_message(log, level, fmt, args);
    va_end(args);
}

void log_error_value(const struct log *log, const struct error *e)
{
    log_write(log, LOG_LEVEL_ERROR, "%s", e->admin);
}

void log_fatal(int status, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    write_message(NULL, LOG_LEVEL_FATAL, fmt, args);
    va_end(args);
    exit(status);
}
