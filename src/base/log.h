/* Logging: lines to the log service, in Dovecot's log protocol (ipc 3), or to a terminal.
 *
 * A process opens the log once (log_open_service when master started it, log_open_stderr otherwise). A `struct log`
 * is a prefix: the process has one, each session its own, so that a worker with many sessions writes the
 * per-message prefix form (0x40). Control bytes in messages are replaced, so that nobody forges lines. */
#ifndef YARILO_BASE_LOG_H
#define YARILO_BASE_LOG_H

#include "base/error.h"

#include <stdbool.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR, LOG_LEVEL_FATAL, LOG_LEVEL_PANIC };

struct log {
    char *prefix;            /* e.g. "imap(user)<12><session>: "; NULL = the process's own */
    bool debug;              /* mail_debug, auth_debug ... for this object */
};

/* The name is the service name; its prefix "name: " until log_set_prefix. */
void log_open_service(const char *name);
/* To standard error as doveadm does: "Error: text"; with `timestamps` as `dovecot -F` on a terminal. */
void log_open_stderr(const char *prefix, bool timestamps);
/* Lines go to this function instead: for tests, and for doveadm's server side. NULL ends it. */
void log_capture(void (*see)(void *, enum log_level, const char *prefix, const char *text), void *arg);
/* The prefix of the process; service mode tells the log service by an option line (prefix=...). */
void log_set_prefix(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_set_debug(bool on);
bool log_debug_on(const struct log *);

/* `log` NULL = the process's. */
void log_write(const struct log *, enum log_level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define log_debug(log, ...) (log_debug_on(log) ? log_write((log), LOG_LEVEL_DEBUG, __VA_ARGS__) : (void)0)
#define log_info(log, ...) log_write((log), LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(log, ...) log_write((log), LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(log, ...) log_write((log), LOG_LEVEL_ERROR, __VA_ARGS__)
/* The error's admin text, once, at the boundary that answers. */
void log_error_value(const struct log *, const struct error *);
/* Logs a fatal line and ends the process; 89 is Dovecot's general fatal status. */
#define EXIT_FATAL 89
void log_fatal(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));

#endif
