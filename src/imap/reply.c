/* reply.c - lines to the client: tagged replies with the time they took, texts of errors (imap 4).
 *
 * The class of an error decides the response code, its `user` text what is said. What is not the user's doing is
 * logged here, once. */
#include "imap/session.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

void session_print(struct session *s, const char *fmt, ...)
{
    struct buffer line = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&line, fmt, args);
    va_end(args);
    buffer_append_str(&line, "\r\n");
    session_write(s, buffer_slice(&line));
    buffer_free(&line);
}

void request_reply(struct request *r, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    r->reply = arena_str(r->arena, buffer_slice(&text));
    buffer_free(&text);
}

static void count_bad(struct session *s)
{
    s->bad_count++;
}

void request_bad(struct session *s, struct request *r, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;

    buffer_printf(&text, "BAD Error in IMAP command %s: ", r->name);
    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    buffer_append_byte(&text, '.');
    r->reply = arena_str(r->arena, buffer_slice(&text));
    r->sync = false;
    buffer_free(&text);
    count_bad(s);
}

static const char *class_code(enum error_class class, enum error_use use)
{
    switch (class) {
    case ERROR_NOT_FOUND:
        return use == ERROR_TRYCREATE ? "TRYCREATE" : use == ERROR_NONEXISTENT ? "NONEXISTENT" : NULL;
    case ERROR_EXISTS:
        return "ALREADYEXISTS";
    case ERROR_PERMISSION:
        return "NOPERM";
    case ERROR_QUOTA:
    case ERROR_SPACE:
        return "OVERQUOTA";
    case ERROR_LIMIT:
        return "LIMIT";
    case ERROR_INVALID:
    case ERROR_UNSUPPORTED:
        return "CANNOT";
    case ERROR_EXPUNGED:
        return "EXPUNGEISSUED";
    case ERROR_LOCK_TIMEOUT:
    case ERROR_BUSY:
        return "INUSE";
    default:
        return "SERVERBUG";
    }
}

/* Errors that tell of the server, not of what the user asked for. */
static bool is_internal(enum error_class class)
{
    return class == ERROR_TEMPORARY || class == ERROR_CORRUPT || class == ERROR_BUG || class == ERROR_NONE ||
           class == ERROR_SPACE || class == ERROR_LOCK_TIMEOUT;
}

static const char *class_text(enum error_class class)
{
    switch (class) {
    case ERROR_NOT_FOUND:
        return "Mailbox doesn't exist";
    case ERROR_EXISTS:
        return "Mailbox already exists";
    case ERROR_PERMISSION:
        return "Permission denied";
    case ERROR_QUOTA:
    case ERROR_SPACE:
        return "Quota exceeded (mailbox for user is full)";
    case ERROR_EXPUNGED:
        return "Some of the requested messages no longer exist.";
    case ERROR_LOCK_TIMEOUT:
        return "Timeout while waiting for lock";
    case ERROR_INVALID:
        return "Invalid parameters";
    case ERROR_UNSUPPORTED:
        return "Not supported";
    case ERROR_LIMIT:
        return "Limit exceeded";
    default:
        return NULL;
    }
}

const char *error_internal_text(struct arena *arena)
{
    char stamp[32];
    struct tm tm;
    time_t now = time(NULL);

    localtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
    return arena_printf(arena, "Internal error occurred. Refer to server log for more information. [%s]", stamp);
}

const char *error_reply(struct session *s, struct arena *arena, const struct error *e, enum error_use use)
{
    const char *code = class_code(e->class, use), *text = e->user[0] != '\0' ? e->user : class_text(e->class);

    if (is_internal(e->class))
        log_error_value(&s->log, e);
    if (text == NULL)
        return arena_printf(arena, "[SERVERBUG] %s", error_internal_text(arena));
    if (code == NULL || text[0] == '[')
        return arena_strdup(arena, text);
    return arena_printf(arena, "[%s] %s", code, text);
}

void request_error_as(struct session *s, struct request *r, const struct error *e, enum error_use use)
{
    const char *text = error_reply(s, r->arena, e, use);
    size_t n = strlen(text);

    request_reply(r, "NO %s%s", text, n > 0 && text[n - 1] == '.' ? "" : ".");
    r->sync = false;
}

void request_error(struct session *s, struct request *r, const struct error *e)
{
    request_error_as(s, r, e, ERROR_PLAIN);
}

static uint64_t ceil_ms(uint64_t ns)
{
    return (ns + 999999) / 1000000;
}

/* "text (0.001 + 0.000 secs)." (imap 4.2) */
static void put_timed(struct buffer *out, const char *text, const struct request *r)
{
    uint64_t now = time_monotonic_ns(), total = now - r->begun_ns, run, wait, idle;
    size_t n = strlen(text);

    run = ceil_ms(r->run_ns);
    wait = ceil_ms(total > r->run_ns ? total - r->run_ns : 0);
    idle = (now - r->last_ns) / 1000000;
    if (wait > 0)
        wait--; /* what is below a millisecond is the loop itself */
    if (n > 0 && text[n - 1] == '.')
        n--;
    buffer_append(out, text, n);
    buffer_printf(out, " (%u.%03u + %u.%03u ", (unsigned)(run / 1000), (unsigned)(run % 1000), (unsigned)(wait / 1000),
                  (unsigned)(wait % 1000));
    if (idle > 0)
        buffer_printf(out, "+ %u.%03u ", (unsigned)(idle / 1000), (unsigned)(idle % 1000));
    buffer_append_str(out, "secs).\r\n");
}

void reply_send(struct session *s, struct request *r)
{
    struct buffer line = {0};

    buffer_printf(&line, "%s ", r->tag);
    if (r->untimed)
        buffer_printf(&line, "%s\r\n", r->reply);
    else
        put_timed(&line, r->reply, r);
    session_write_tagged(s, buffer_slice(&line));
    buffer_free(&line);
    event_finished(s, r);
    if (strncmp(r->reply, "BAD ", 4) != 0)
        s->bad_count = 0;
}

void reply_bad_line(struct session *s, struct slice tag, const char *problem)
{
    struct buffer line = {0};
    uint64_t now = time_monotonic_ns();
    struct request r = {.begun_ns = now, .last_ns = now, .run_ns = 1};

    if (tag.size == 0)
        buffer_append_byte(&line, '*');
    else
        buffer_append_slice(&line, tag);
    buffer_append_str(&line, " BAD ");
    put_timed(&line, problem, &r);
    session_write_tagged(s, buffer_slice(&line));
    buffer_free(&line);
    count_bad(s);
}
