/* URLs of other users: the client of the imap-urlauth services (ipc 16), for one session.
 *
 * The connection is made by the dispatcher, which holds the session's token; it comes as a descriptor. One connection serves one
 * owner; for the next a new one is asked for. */
#ifndef YARILO_IMAP_URLAUTH_REMOTE_H
#define YARILO_IMAP_URLAUTH_REMOTE_H

#include "imap/session.h"

struct urlauth_remote;

enum { REMOTE_BODY = 1, REMOTE_BINARY = 2, REMOTE_STRUCTURE = 4 };

struct urlauth_answer {
    const char *structure;     /* BODYPARTSTRUCTURE; NULL: not asked for */
    bool binary;               /* ~{n} */
    uint64_t size;
    bool refused;
    const char *fault;         /* of a refusal, whole: "Failed to fetch URLAUTH ..."; NULL: none of our business */
};

/* Asks for a URL; `owner` is its user. What was asked for before is over. */
void urlauth_remote_ask(struct session *, const char *owner, struct slice url, unsigned want);
/* DONE: *answer, in the arena; size bytes follow when there is no fault. ERROR: the services do not answer. */
enum step urlauth_remote_answer(struct session *, struct arena *, struct urlauth_answer *, struct error *);
/* Bytes of the answer that are there; take them with _consume. Empty: wait (STEP_INPUT), or, with the service gone, *lost. */
struct slice urlauth_remote_bytes(struct session *, bool *lost);
void urlauth_remote_consume(struct session *, size_t);
/* After them. DONE: the next URL may be asked for. */
enum step urlauth_remote_finish(struct session *);
/* The dispatcher's answer: -1: there is no connection to be had. */
void urlauth_remote_connected(struct session *, int fd);
void urlauth_remote_free(struct session *);

#endif
