/* Inside of doveadm-front: the client's stream, the server's packets, the command's output. */
#ifndef YARILO_DOVEADM_SERVER_FRONT_H
#define YARILO_DOVEADM_SERVER_FRONT_H

#include "net/net.h"
#include "net/tls.h"
#include "rpc/packet.h"
#include "server/wire.h"

struct front;

/* A protocol towards the client. */
struct front_protocol {
    const char *name;
    void (*start)(struct front *);
    void (*input)(struct front *);                          /* stream_input has more, or may be looked at again */
    void (*output)(struct front *, struct slice);           /* what the command prints */
    void (*log)(struct front *, struct slice);              /* its log records; may be cut anywhere */
    void (*answer)(struct front *, enum wire_answer, unsigned status);
};
extern const struct front_protocol front_line, front_http;

struct front {
    struct ev_loop *loop;
    struct stream *stream;
    struct packet_conn *wire;
    struct tls_context *tls;       /* NULL: there is none, for the reason ... */
    struct error tls_error;
    const struct front_protocol *protocol;
    const char *flags, *ip;
    ev_io out_ready, log_ready;
    bool tls_on, ending;
};

bool front_flag(const struct front *, char flag);
/* kind, then each text with its NUL. */
void front_ask(struct front *, enum wire_ask, const struct slice *texts, size_t count);
void front_ask_bytes(struct front *, enum wire_ask, struct slice);
/* Reads what is in the pipes: all of it, or as much as the client takes. */
void front_pump(struct front *, bool all);
/* f->tls is there. `start` of the protocol follows the handshake. */
void front_start_tls(struct front *);
/* Writes what waits and ends. */
void front_end(struct front *);

#endif
