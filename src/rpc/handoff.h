/* Sessions handed over with their descriptor: the protocols of the sockets imap-hibernate and imap-master (ipc 14).
 *
 *     both      VERSION <TAB> protocol <TAB> 1 <TAB> 0
 *     giver     one line; the descriptor travels with its first byte
 *     taker     "+", or "-" and why not
 *     giver     if a second descriptor was announced in the line: LF with that descriptor; the taker answers again
 *     giver     closes
 *
 * Whose the session is must never be in doubt. A giver that gives up shuts its receiving side first and then looks at what
 * had arrived before: a "+" that is there counts, one that comes later fails at the taker (handoff_reply), which then lets
 * the session be. A taker that must wait until the giver has let go (imap-hibernate) waits for `closed`. */
#ifndef YARILO_RPC_HANDOFF_H
#define YARILO_RPC_HANDOFF_H

#include "rpc/line.h"

enum { HANDOFF_LINE_MAX = 128 * 1024 };

/* ---- giving ---------------------------------------------------------------------------------------------------------- */

struct handoff;

struct handoff_job {
    const char *path;          /* of the socket */
    const char *protocol;
    struct slice line;         /* fields escaped, without LF; copied */
    int fd, second_fd;         /* second: -1 = none. They stay the caller's, until the end of the handoff */
    double seconds;            /* until it fails */
    bool retry;                /* a peer that cannot be reached, or ends without a word, is asked again meanwhile */
};

enum handoff_end {
    HANDOFF_TAKEN,             /* the peer has it; it may begin when the connection ends (handoff_free) */
    HANDOFF_REFUSED,           /* "-": text is the peer's */
    HANDOFF_FAILED             /* the peer does not have it: text as of a failed system call */
};
typedef void handoff_done(void *arg, enum handoff_end, const char *text);

/* `done` is called once, from the loop; handoff_free in it or later. */
struct handoff *handoff_start(struct ev_loop *, const struct handoff_job *, handoff_done *done, void *arg);
/* Closes the connection. Before `done`: gives up; true: too late, the peer has it. */
bool handoff_free(struct handoff *);

/* ---- taking ---------------------------------------------------------------------------------------------------------- */

struct handoff_conn;

struct handoff_handler {
    /* The line's fields (they live until this returns), and its descriptor, yours. Answer with handoff_reply, now or later. */
    void (*line)(void *arg, struct handoff_conn *, const struct slice *fields, size_t count, int fd);
    void (*second)(void *arg, struct handoff_conn *, int fd);  /* the second descriptor, yours; NULL: the protocol has none */
    void (*closed)(void *arg, struct handoff_conn *);          /* the giver has ended; call handoff_conn_free */
};

/* Takes the descriptor of an accepted connection. What does not follow the protocol is logged and ends it. */
struct handoff_conn *handoff_conn_new(struct ev_loop *, int fd, const char *protocol, const struct handoff_handler *, void *arg);
/* problem NULL: "+". False: the giver does not wait any more, and the session is not ours. */
bool handoff_reply(struct handoff_conn *, const char *problem);
void handoff_conn_free(struct handoff_conn *);

#endif
