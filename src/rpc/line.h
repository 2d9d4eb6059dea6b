/* Line connections: the transport of all TAB protocols between processes (auth.md 17-20, ipc.md 1).
 *
 * A connection reads lines that end in LF (a CR before it is dropped), at most `line_max` bytes each; a longer one
 * ends the connection. Output is buffered, written when the loop comes round, and capped: a peer that does not read
 * pauses its own input at `output_pause` and is disconnected at `output_max`. A line is a command and fields,
 * separated by TAB; every field is escaped by text_tab_escape, in line_field and nowhere else.
 *
 * All calls are safe from inside a handler, line_conn_free too. */
#ifndef YARILO_RPC_LINE_H
#define YARILO_RPC_LINE_H

#include "base/base.h"

#include <ev.h>
#include <sys/types.h>

struct line_conn;

struct line_handler {
    /* One line without its end. The bytes live until the handler returns. */
    void (*line)(void *arg, struct slice line);
    /* The peer is gone (class NONE: plain end), sent too long a line (LIMIT), or did not read (LIMIT). Called once,
     * from the loop; the owner calls line_conn_free then or later. */
    void (*closed)(void *arg, const struct error *);
    void (*drained)(void *arg); /* output fell below half of output_pause after a pause; may be NULL */
};

struct line_limits {
    size_t line_max;     /* bytes of a line; 0 = 8192 */
    size_t output_pause; /* input stops above it; 0 = 50 KiB */
    size_t output_max;   /* 0 = 1 MiB */
    bool secret;         /* lines hold passwords: buffers are wiped and never moved by realloc */
};

/* Takes the descriptor and makes it non-blocking. */
struct line_conn *line_conn_new(struct ev_loop *, int fd, const struct line_limits *, const struct line_handler *,
                                void *arg);
void line_conn_free(struct line_conn *); /* NULL is fine; tries once to write what waits */
int line_conn_fd(const struct line_conn *);
/* "conn unix:NAME (pid=1,uid=2)": the peer on a socket of this name, as Dovecot's services have it in their logs. */
enum { LINE_PEER_SIZE = 96 };
const char *line_conn_peer(const struct line_conn *, const char *name, char out[LINE_PEER_SIZE]);
bool line_conn_full(const struct line_conn *);  /* more than output_pause bytes wait */
void line_conn_want_input(struct line_conn *, bool on);
/* Ends the connection: `closed` is called from the loop with this error. */
void line_conn_fail(struct line_conn *, const struct error *);

/* Writing. A line is put together in a buffer (line_begin, fields, line_end), then sent as a whole. */
void line_conn_send(struct line_conn *, struct slice bytes);                       /* complete lines, with LF */
void line_conn_print(struct line_conn *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool line_conn_flush(struct line_conn *);                                          /* now; true = nothing waits */

void line_begin(struct buffer *, const char *command);                             /* empties the buffer */
void line_field(struct buffer *, struct slice value);                              /* TAB, escaped value */
void line_field_str(struct buffer *, const char *value);
void line_field_num(struct buffer *, uint64_t value);
void line_pair(struct buffer *, const char *key, const char *value);               /* TAB key=value; NULL: nothing */
void line_end(struct buffer *);

/* VERSION<TAB>name<TAB>major<TAB>minor. */
void line_conn_send_version(struct line_conn *, const char *name, unsigned major, unsigned minor);
/* Checks such a line: name and major must match. name NULL: VERSION<TAB>major<TAB>minor (auth). */
int line_check_version(struct slice line, const char *name, unsigned major, unsigned *minor, struct error *);

/* Connects to a UNIX socket, close-on-exec and non-blocking. A full listen queue (EAGAIN) is retried for up to
 * `wait_ms`. -> fd or -1 with "connect(PATH) failed: ...". */
int line_connect(const char *path, unsigned wait_ms, struct error *);

/* Key and value pairs of replies, in the order of the wire. A bare word has the value NULL. */
struct rpc_field {
    const char *key;
    const char *value;
};
struct rpc_fields {
    struct rpc_field *at;
    size_t count;
    size_t empty;              /* an empty field stood behind so many, less one, on the wire; 0: none */
};
/* The value of `key`: NULL when absent, "" when it is a bare word. */
const char *rpc_fields_get(const struct rpc_fields *, const char *key);
bool rpc_fields_has(const struct rpc_fields *, const char *key);
/* Splits fields[from...] at their first '='. Empty fields (auth.md 26.3) are left out; `empty` says where
 * the last one was, for those who show replies. */
struct rpc_fields rpc_fields_parse(struct arena *, const struct slice *fields, size_t count, size_t from);
struct rpc_fields rpc_fields_copy(struct arena *, const struct rpc_fields *);
/* Appends each to the line, "key=value" or the bare word behind its TAB, `mark` in front of the key. */
void rpc_fields_write(struct buffer *, const char *mark, const struct rpc_fields *);
/* "key=value", or the bare word, NULL-ended: what settings_override_all and mail_user_params take of a userdb's reply. */
const char *const *rpc_fields_texts(struct arena *, const struct rpc_fields *);

/* Masks of user names: `*` any bytes, `?` one byte; case counts. */
bool rpc_wildcard_match(struct slice mask, struct slice text);

#endif
