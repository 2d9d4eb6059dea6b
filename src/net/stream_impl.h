/* What stream.c and stream_tls.c share. */
#ifndef YARILO_NET_STREAM_IMPL_H
#define YARILO_NET_STREAM_IMPL_H

#include "net/stream.h"

#include <gnutls/gnutls.h>

enum tls_state { TLS_NONE, TLS_AFTER_FLUSH, TLS_HANDSHAKE, TLS_OPEN };

struct stream_tls {
    gnutls_session_t session;
    struct tls_context *context;
    enum tls_state state;
    bool client;
    struct buffer early; /* bytes of the handshake that were read before it began */
    size_t early_at;
    bool send_blocked; /* GnuTLS holds a record: the next send must be (NULL, 0) */
    void (*done)(void *arg, const struct error *);
    struct stream *stream; /* for the callback below, in GnuTLS's session pointer */
    struct tls_context *(*choose)(void *arg, const char *name);
    char protocol[16], cipher[64], kx[32], mac[16], alpn[64], sni[256], cert_name[256];
    bool cert_valid;               /* a client's; cert_name may still be empty */
    unsigned bits;
};

struct stream {
    struct ev_loop *loop;
    int fd, out_fd;
    ev_io in_watch, out_watch;
    ev_timer timer;
    const struct stream_handler *handler;
    void *arg;
    struct stream_tls *tls;

    struct buffer input;   /* left over from earlier calls */
    struct slice borrowed; /* in the loop's scratch buffer, during `readable` only */
    size_t input_max;
    struct buffer output;
    size_t output_at;      /* bytes of output already written */
    size_t output_high;
    uint64_t bytes_in, bytes_out;

    struct stream *next_dirty, **link_dirty; /* list of streams that the loop looks at before it sleeps */
    bool *freed;           /* set by stream_free during a callback */
    bool want_input, ended, failed, closed_told, finishing, was_full, call_readable, shut;
    bool marks;            /* a descriptor that comes along is a mark */
    bool mark_read, marked; /* by the read that is under way; ever */
    struct error error;
};

/* Reading and writing below the buffers. Bytes, 0 = end (read), -1 with errno. */
ssize_t stream_raw_read(struct stream *, void *at, size_t size);
ssize_t stream_raw_write(struct stream *, const void *at, size_t size);
void stream_mark_dirty(struct stream *);
void stream_fail(struct stream *, const struct error *);
void stream_update_watchers(struct stream *);

void stream_tls_begin(struct stream *);       /* output is flushed: starts the handshake */
void stream_tls_step(struct stream *);        /* goes on with it */
void stream_tls_free(struct stream *);
void stream_tls_bye(struct stream *);
bool stream_tls_read_pending(struct stream *);

/* tls.c */
int tls_session_new(struct tls_context *, struct stream_tls *, struct error *);
void tls_session_describe(struct tls_context *, struct stream_tls *);
void tls_session_client(struct stream_tls *, const char *host, bool verify);

#endif
