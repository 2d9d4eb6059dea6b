/* Inside of doveadm-server: one connection, its front, the command at work. */
#ifndef YARILO_DOVEADM_SERVER_H
#define YARILO_DOVEADM_SERVER_H

#include "doveadm.h"
#include "net/net.h"
#include "rpc/packet.h"
#include "rpc/service.h"
#include "server/wire.h"

/* What is added to the exit status of a command's process that ended with Fatal: for clients of the line protocol the
 * connection ends without a reply (doveadm 8). */
enum { SERVER_FATAL = 128 };

struct server_client {
    struct service *service;
    struct settings *set;
    struct packet_conn *wire;
    pid_t front, command;          /* command: 0 = none at work */
    int out, log;                  /* write ends of the front's pipes */
    int input;                     /* what the command reads, -1 = none */
    struct arena *waiting;         /* of the command that waits for its input; NULL = none */
    const char **words;            /* its flags, user, name and arguments, NULL-ended; of an object: name and pairs */
    bool object;
    ev_io ended;                   /* the command's pidfd */
    bool trusted, refused, front_gone;
    char ip[NET_IP_TEXT];          /* "" for UNIX sockets */
    struct rawlog *rawlog;         /* of HTTP; NULL = none */
};

/* front_start.c: starts doveadm-front for the connection. -1 and *e. */
int server_start_front(struct server_client *, const struct service_listener *, int fd, struct error *);

/* commands.c: a packet of the front; the end of the front. */
void server_take_packet(struct server_client *, struct slice);
/* When the front is gone and no command is at work any more. */
void server_client_free(struct server_client *);

/* run.c: the command in a process of its own. Does not return. */
void server_run_command(struct server_client *) __attribute__((noreturn));
/* The row of the table for words[2] and what follows; args: name and arguments, NULL-ended. NULL: there is none that may
 * be run here. */
const struct doveadm_command *server_find_command(struct arena *, const char **words, char ***args, int *count);
/* The same for an object of the HTTP API, whose name is in camel case. */
const struct doveadm_command *server_find_object(struct arena *, const char *name);
/* Are there such parameters? *wants_input: one of them is a stream. */
bool server_check_object(struct arena *, const char **words, bool *wants_input);
void server_list(struct server_client *);
/* Does the command read input that the client sends behind it? */
bool server_wants_input(struct arena *, const char **words);
/* Logs here and tells the client; for lines that end no command. */
void server_tell(struct server_client *, enum log_level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
