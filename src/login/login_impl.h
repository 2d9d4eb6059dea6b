/* What the files of src/login share. */
#ifndef YARILO_LOGIN_LOGIN_IMPL_H
#define YARILO_LOGIN_LOGIN_IMPL_H

#include "login/login.h"
#include "net/tls_conf.h"
#include "rpc/anvil_client.h"

#include <utlist.h>

struct login_server {
    const struct login_protocol *protocol;
    struct service *service;
    struct ev_loop *loop;
    struct settings *global;           /* for this protocol, without addresses */
    struct auth_client *auth;
    struct anvil_client *anvil;
    struct login_handover *handover;   /* the connection to the mail service */
    struct tls_cache *tls;
    struct login_client *clients;      /* oldest first */
    unsigned client_count, relay_count; /* relays: clients that are logged in */
    bool ending;
};

enum login_stage {
    STAGE_PROXY,     /* PROXY header is awaited */
    STAGE_TLS,       /* handshake */
    STAGE_GREETING,  /* auth's greeting is awaited */
    STAGE_COMMAND,
    STAGE_AUTH,      /* auth has been asked */
    STAGE_RESPONSE,  /* the client has been challenged */
    STAGE_LIMIT,     /* anvil has been asked */
    STAGE_HANDOVER,  /* the mail process has been asked */
    STAGE_RELAY,     /* logged in; TLS is ours */
    STAGE_END
};

/* What it takes to make an attempt once more when auth or the dispatcher went away with it (killed, or replaced by a reload): the one
 * response of the client, which stands here until the client is the mail process's or refused. A second answer to a challenge is
 * worth nothing to another auth. */
struct login_again {
    struct buffer response; /* base64; a secret */
    bool has_response;
    bool possible;          /* nothing was said that cannot be repeated */
    bool done;              /* this is the second attempt */
    unsigned losses;        /* notices that auth is gone while this waits for it: the second one ends it */
};

struct login_client {
    struct login_server *server;
    struct login_client *prev, *next;
    const struct service_listener *listener;
    struct stream *stream;
    void *state;                       /* the protocol's */
    enum login_stage stage;
    struct settings *set;
    struct net_endpoint local, remote, real_local, real_remote;
    char session[72];
    char *local_name, *client_id, *cert_username;
    struct buffer forward_fields;      /* TAB-escaped pairs */
    bool tls, tls_implicit, tls_proxied, trusted, secured, greeted, cert_valid;
    char *tls_error;

    struct auth_request *auth;
    uint32_t auth_id;
    char *mech, *user, *auth_user;     /* of the last attempt */
    unsigned attempts, successes, bad_commands;
    double connected_at, first_attempt_at, attempt_at;
    bool attempt_open, attempt_aborted, auth_broke;
    struct login_again again;
    enum login_failure last_failure;
    ev_timer slow;                     /* "Waiting for authentication process to respond.." */

    struct anvil_query *query;
    unsigned handover_tag;
    pid_t mail_pid;
    int relay_fd;                      /* our end towards the mail process, -1 */
    bool handover_failed;              /* the reason says everything: nothing stands behind it in the log */
    struct stream_relay *relay;
    bool relayed;
    bool returns;                      /* the mail process may give the client back */
};

/* Folder of the sockets below $RUN. */
static inline const char *login_folder(const struct login_protocol *p)
{
    return p->folder != NULL ? p->folder : "login";
}

/* login_client.c */
void login_client_new(struct login_server *, const struct service_listener *, int fd);
void login_client_free(struct login_client *);
void login_client_auth_ready(struct login_client *);
void login_client_auth_lost(struct login_client *);
void login_client_kick(struct login_client *, const char *text, const char *reason); /* bye and log */
void login_client_resume(struct login_client *);     /* reads commands again */
void login_client_settings(struct login_client *);   /* after addresses or the TLS name are known */

/* login_auth.c */
void login_auth_init(struct login_client *);
void login_auth_stop(struct login_client *);         /* cancels what is open */
void login_auth_connected(struct login_client *);    /* attempts that wait for auth begin */
void login_auth_unreachable(struct login_client *);
/* After the client was accepted by auth, nobody took it: everything once more, with the auth and the dispatcher that are there now.
 * False: this attempt cannot be repeated. */
bool login_auth_repeat(struct login_client *);

/* login_handover.c */
struct login_handover *login_handover_new(struct login_server *, int fd);
void login_handover_free(struct login_handover *);
void login_handover_prepare(struct login_handover *);
void login_handover_start(struct login_client *);
void login_handover_take_answers(struct login_handover *);   /* that wait: whose client a mail process has is not cut off at the end */
void login_handover_cancel(struct login_client *);   /* the client went away meanwhile */

/* login_log.c */
void login_log_reason(struct login_client *, const char *reason);      /* "Disconnected: REASON (auth failed ...)" */
void login_log_line(struct login_client *, enum log_level, const char *message);

#endif
