/* Streams: a connected socket on a libev loop, with bounded buffers and, if wanted, TLS.
 *
 * Input: `readable` is called when bytes have come; the handler looks at stream_input, takes what it understands
 * with stream_consume, and is called again only when more has come. When the input buffer holds `input_max` bytes
 * reading stops until something is consumed (backpressure to the client). Bytes are read into one scratch buffer
 * of the loop and copied only if the handler left them; an idle stream owns no buffer.
 *
 * Output: stream_write never fails and never blocks; it appends, and the stream writes when the loop comes round
 * (or at stream_flush). When more than `output_high` bytes wait, stream_full is true: the producer stops
 * (STEP_OUTPUT_FULL) and `writable` tells when less than a quarter of that is left.
 *
 * End: `closed` is called once, from the loop, never from inside a call of the handler's own; the owner frees the
 * stream then or later. Deadlines: one timer per stream, stream_deadline. */
#ifndef YARILO_NET_STREAM_H
#define YARILO_NET_STREAM_H

#include "base/base.h"

#include <ev.h>

struct stream;
struct tls_context;

struct stream_handler {
    void (*readable)(void *arg);
    void (*writable)(void *arg);                            /* may be NULL */
    /* The peer has closed its side (error class NONE), or reading or writing failed. Input that came before is
     * still there. While reading is off the peer's end, like its bytes, is not looked at. */
    void (*closed)(void *arg, const struct error *);
    void (*deadline)(void *arg);                            /* may be NULL */
};

struct stream_limits {
    size_t input_max;   /* default 64 KiB when 0 */
    size_t output_high; /* default 128 KiB when 0; then one stream of the process, whose client is quick, may have 512 */
};

/* Takes the descriptor, makes it non-blocking. `out_fd` -1: the same for output (a socket); otherwise for output
 * (standard output of `doveadm exec imap`). */
struct stream *stream_new(struct ev_loop *, int fd, int out_fd, const struct stream_limits *,
                          const struct stream_handler *, void *arg);
void stream_set_handler(struct stream *, const struct stream_handler *, void *arg);
/* Closes the descriptors unless released. Output that is still waiting is lost: see stream_finish. */
void stream_free(struct stream *);

struct slice stream_input(const struct stream *);
void stream_consume(struct stream *, size_t size);
/* Stops and starts reading; a stream starts with reading on. Turning it on calls `readable` from the loop when
 * bytes are waiting already. */
void stream_want_input(struct stream *, bool on);
/* Puts bytes in front of what will be read: input that came with the descriptor. */
void stream_unread(struct stream *, struct slice);
void stream_input_max(struct stream *, size_t);
bool stream_ended(const struct stream *);                   /* peer has closed its side */

void stream_write(struct stream *, struct slice);
/* Room for so many bytes at the end of the output, to be filled before anything else is written; NULL: nothing is written any
 * more. stream_wrote says how many there are now. */
unsigned char *stream_room(struct stream *, size_t size);
void stream_wrote(struct stream *, size_t size);
void stream_print(struct stream *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void stream_flush(struct stream *);                          /* tries to write now */
size_t stream_pending(const struct stream *);                /* bytes not yet written */
bool stream_full(const struct stream *);
/* Writes what waits, ends TLS, shuts down, then calls `closed`; at most `seconds`. Input is ignored from now on. */
void stream_finish(struct stream *, double seconds);
void stream_deadline(struct stream *, double seconds);       /* 0 = off; replaces the earlier one */

int stream_fd(const struct stream *);
/* Gives the descriptor away (plain streams with empty output): the stream is freed, unread input appended to *rest. */
int stream_release(struct stream *, struct buffer *rest);
/* Between two processes of ours, over a UNIX socket: a mark is one byte with a descriptor beside it, which no bytes of a session
 * can make. The one side sends it when everything else is written (0; -1 with errno: EAGAIN, or it is broken). The other side,
 * when it expects one, does not see the byte: `readable` is called when all that was written before it is there. */
int stream_send_mark(struct stream *);
void stream_expect_mark(struct stream *);
bool stream_marked(const struct stream *);
/* Output that is not written yet, taken back (plain streams). */
void stream_take_output(struct stream *, struct buffer *out);
uint64_t stream_bytes_in(const struct stream *);             /* of the protocol, not of TLS records */
uint64_t stream_bytes_out(const struct stream *);
size_t stream_memory(const struct stream *);

/* TLS server. Input that was buffered in plain text is dropped: it is what an attacker put in front of the handshake
 * (CVE-2021-33515). `done` is called with class NONE when the handshake is finished; a failed one calls it with the
 * error, and `closed` follows. Output that waits is written before. */
void stream_start_tls(struct stream *, struct tls_context *,
                      void (*done)(void *arg, const struct error *));
/* The same for a connection whose first bytes were a PROXY header: the input that is left is the handshake's begin. */
void stream_start_tls_behind_proxy(struct stream *, struct tls_context *,
                                   void (*done)(void *arg, const struct error *));
/* Right after stream_start_tls: `choose` is asked once during the handshake, with the handler's arg and the name that
 * the client sent (a checked host name, lower case, at most 253 bytes); it returns the context with the certificate
 * for that name, which lives at least as long as the stream, or NULL to stay with the listener's. */
void stream_choose_tls(struct stream *, struct tls_context *(*choose)(void *arg, const char *name));
/* As client, towards `host` (verified when `verify`); for relays and proxies. */
void stream_start_tls_client(struct stream *, struct tls_context *, const char *host, bool verify,
                             void (*done)(void *arg, const struct error *));
struct tls_session_info {
    const char *protocol, *cipher, *sni, *alpn, *kx, *mac; /* e.g. "TLSv1.3", "TLS_AES_256_GCM_SHA384"; NULL = none */
    unsigned bits;
    bool client_certificate_valid;
    const char *client_certificate_name;                  /* the field of ssl_cert_username_field */
};
/* False without TLS. Strings live until the stream is freed. */
bool stream_tls_info(struct stream *, struct tls_session_info *);

/* Copies bytes both ways between two streams until one ends; the other is finished then. `done` is called once,
 * both streams are freed before. The login process's TLS proxy. */
struct stream_relay;
struct stream_relay *stream_relay_start(struct stream *client, struct stream *server,
                                        void (*done)(void *arg, bool client_ended), void *arg);
/* The server side may give the client back (RFC 8437), which it announces by a mark: then it gets nothing more, and ends with what
 * it had got and not used: four bytes of size, and the bytes. `returned` is called then instead of `done`: the client's stream is
 * the caller's again, with `rest` to be read in front of its input; the relay is gone. An end without all of that ends the client. */
void stream_relay_returns(struct stream_relay *, void (*returned)(void *arg, struct slice rest));
void stream_relay_stop(struct stream_relay *); /* ends both at once; done is not called */

#endif
