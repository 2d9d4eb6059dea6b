/* What happened, told to the stats service (ipc 8.1): events that its filter asks for, and nothing as long as it asks for none.
 *
 *     stats = stats_client_new(service);
 *     stats_client_connect(stats);            before service_drop_privileges: the socket may be closed to users
 *     if (stats_client_on(stats)) { ... stats_client_send(stats, &event); }
 *
 * An event is complete by itself: the fields of the session that it belongs to stand in it. The service never has to wait: when the
 * stats service does not read, or has gone, events are lost.
 *
 * A worker, which could not connect with its user's rights, is given a connection by its dispatcher when somebody asks for events, and
 * has none before. */
#ifndef YARILO_RPC_STATS_CLIENT_H
#define YARILO_RPC_STATS_CLIENT_H

#include "conf/event_filter.h"

/* The descriptor of a connection that the dispatcher has made for its worker; unset: it has made none. */
#define STATS_FD_ENV "YARILO_STATS_FD"
/* Where master says that the socket is. */
#define STATS_PATH_ENV "STATS_WRITER_SOCKET_PATH"

struct service;
struct stats_client;

/* A field without text (STR) or number is left out: text.at NULL. */
struct stats_out_field {
    const char *key;
    struct event_value value;
};
static inline struct event_value stats_text(const char *text)
{
    return (struct event_value){.text = text == NULL ? SLICE_EMPTY : slice_from_str(text)};
}
static inline struct event_value stats_number(uint64_t n)
{
    return (struct event_value){.type = EVENT_INT, .number = (int64_t)n};
}

struct stats_out {
    const char *name;                        /* "imap_command_finished" */
    const char *const *categories;           /* NULL-ended */
    uint64_t took_ns;                        /* until now */
    const char *file;                        /* where it is sent: __FILE__, __LINE__ */
    unsigned line;
    const struct stats_out_field *fields;
    size_t count;
};

struct stats_client *stats_client_new(struct service *);      /* without a connection; NULL is fine everywhere below */
void stats_client_free(struct stats_client *);
/* Where master says; false: nobody listens there. */
bool stats_client_connect(struct stats_client *);
/* The one that the dispatcher has made for this worker, if it has made one; false: it has not. */
bool stats_client_inherit(struct stats_client *);
/* A connection that somebody else has made, in place of the one that was there. */
void stats_client_adopt(struct stats_client *, int fd);
/* `heard` is called when the service has said what it asks for, and when the connection has ended. */
void stats_client_watch(struct stats_client *, void (*heard)(void *arg), void *arg);
enum stats_asks { STATS_GONE, STATS_SILENT, STATS_NOTHING, STATS_EVENTS };  /* no connection; nothing was heard yet; its filter is empty */
enum stats_asks stats_client_asks(const struct stats_client *);
bool stats_client_on(const struct stats_client *);            /* STATS_EVENTS */
void stats_client_send(struct stats_client *, const struct stats_out *);

#endif
