/* stream_tls.c - TLS on a stream: start, handshake, end.
 *
 * Before the handshake starts, output in plain text leaves and input in plain text is thrown away, so that nothing
 * an attacker put in front of the handshake is read as if it had come after it (CVE-2021-33515). */
#include "net/stream_impl.h"
#include "net/tls.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

bool stream_tls_read_pending(struct stream *s)
{
    return s->tls != NULL && s->tls->state == TLS_OPEN &&
           (gnutls_record_check_pending(s->tls->session) > 0 || s->tls->early_at < s->tls->early.size);
}

static void start(struct stream *s, struct tls_context *context, bool client,
                  void (*done)(void *arg, const struct error *))
{
    s->tls = mem_zero(1, sizeof(*s->tls));
    s->tls->context = tls_context_ref(context);
    s->tls->client = client;
    s->tls->stream = s;
    s->tls->done = done;
    s->tls->state = TLS_AFTER_FLUSH;
    s->borrowed = SLICE_EMPTY;
    buffer_wipe(&s->input);
}

static void start_server(struct stream *s, struct tls_context *context, const struct buffer *early,
                         void (*done)(void *arg, const struct error *))
{
    struct error e;

    start(s, context, false, done);
    s->tls->early = *early;
    if (tls_session_new(context, s->tls, &e) < 0) {
        stream_fail(s, &e);
        return;
    }
    stream_mark_dirty(s);
}

void stream_start_tls(struct stream *s, struct tls_context *context, void (*done)(void *arg, const struct error *))
{
    start_server(s, context, &(struct buffer){0}, done);
}

void stream_start_tls_behind_proxy(struct stream *s, struct tls_context *context,
                                   void (*done)(void *arg, const struct error *))
{
    struct buffer early = {0};

    buffer_append_slice(&early, stream_input(s));
    start_server(s, context, &early, done);
}

/* First what was read too early, then the socket. */
static ssize_t pull(gnutls_transport_ptr_t arg, void *at, size_t size)
{
    struct stream *s = arg;
    struct stream_tls *t = s->tls;
    size_t left = t->early.size - t->early_at;
    ssize_t n;

    if (left > 0) {
        size = size < left ? size : left;
        memcpy(at, t->early.at + t->early_at, size);
        t->early_at += size;
        if (t->early_at == t->early.size) {
            buffer_free(&t->early);
            t->early_at = 0;
        }
        return (ssize_t)size;
    }
    n = recv(s->fd, at, size, 0);
    if (n < 0)
        gnutls_transport_set_errno(t->session, errno);
    return n;
}

static ssize_t push(gnutls_transport_ptr_t arg, const void *at, size_t size)
{
    struct stream *s = arg;
    ssize_t n = send(s->fd, at, size, MSG_NOSIGNAL);

    if (n < 0)
        gnutls_transport_set_errno(s->tls->session, errno);
    return n;
}

void stream_start_tls_client(struct stream *s, struct tls_context *context, const char *host, bool verify,
                             void (*done)(void *arg, const struct error *))
{
    struct error e;

    start(s, context, true, done);
    if (tls_session_new(context, s->tls, &e) < 0) {
        stream_fail(s, &e);
        return;
    }
    tls_session_client(s->tls, host, verify);
    stream_mark_dirty(s);
}

void stream_choose_tls(struct stream *s, struct tls_context *(*choose)(void *arg, const char *name))
{
    s->tls->choose = choose;
}

void stream_tls_begin(struct stream *s)
{
    /* What arrived between the answer to STARTTLS and now was sent in plain text; it is not read at all: the
     * handshake starts with the bytes that are still in the kernel, and fails if they are not a ClientHello. */
    s->tls->state = TLS_HANDSHAKE;
    if (s->tls->early.size > 0) {
        gnutls_transport_set_ptr(s->tls->session, s);
        gnutls_transport_set_pull_function(s->tls->session, pull);
        gnutls_transport_set_push_function(s->tls->session, push);
    } else
        gnutls_transport_set_int2(s->tls->session, s->fd, s->out_fd);
    stream_tls_step(s);
}

void stream_tls_step(struct stream *s)
{
    int r = gnutls_handshake(s->tls->session);
    struct error e = {.class = ERROR_NONE};
    void (*done)(void *, const struct error *);

    if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED || (r < 0 && !gnutls_error_is_fatal(r))) {
        stream_update_watchers(s);
        return;
    }
    done = s->tls->done;
    s->tls->done = NULL;
    if (r < 0) {
        if (r == GNUTLS_E_FATAL_ALERT_RECEIVED || r == GNUTLS_E_WARNING_ALERT_RECEIVED)
            error_set(&e, ERROR_INVALID, "%s: %s", gnutls_strerror(r),
                      gnutls_alert_get_name(gnutls_alert_get(s->tls->session)));
        else if (r == GNUTLS_E_PREMATURE_TERMINATION || r == GNUTLS_E_PULL_ERROR || r == GNUTLS_E_PUSH_ERROR)
            error_set(&e, ERROR_TEMPORARY, "Connection closed");
        else {
            error_set(&e, ERROR_INVALID, "%s", gnutls_strerror(r));
            gnutls_alert_send_appropriate(s->tls->session, r);
        }
        stream_fail(s, &e);
    } else {
        s->tls->state = TLS_OPEN;
        tls_session_describe(s->tls->context, s->tls);
        stream_mark_dirty(s);
    }
    if (done != NULL)
        done(s->arg, &e);
}

void stream_tls_bye(struct stream *s)
{
    if (s->tls != NULL && s->tls->state == TLS_OPEN)
        gnutls_bye(s->tls->session, GNUTLS_SHUT_WR);
}

void stream_tls_free(struct stream *s)
{
    if (s->tls->session != NULL)
        gnutls_deinit(s->tls->session);
    tls_context_unref(s->tls->context);
    buffer_free(&s->tls->early);
    mem_free(s->tls);
    s->tls = NULL;
}

static const char *or_null(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

bool stream_tls_info(struct stream *s, struct tls_session_info *out)
{
    struct stream_tls *t = s->tls;

    if (t == NULL || t->state != TLS_OPEN)
        return false;
    *out = (struct tls_session_info){.protocol = or_null(t->protocol),
                                     .cipher = or_null(t->cipher),
                                     .sni = or_null(t->sni),
                                     .alpn = or_null(t->alpn),
                                     .kx = or_null(t->kx),
                                     .mac = or_null(t->mac),
                                     .bits = t->bits,
                                     .client_certificate_valid = t->cert_valid,
                                     .client_certificate_name = or_null(t->cert_name)};
    return true;
}
