/* The face of src/login: the pre-authentication front of all protocols.
 *
 * One process serves many clients, before and (with TLS) after login. It is the most exposed code of the house:
 * own user, chroot, no_new_privs, a seccomp filter, and a budget for each byte a client sends (sandbox.c, and the
 * limits below). It holds no secret but the TLS key and what its own clients sent.
 *
 * The common part does PROXY headers, TLS, authentication, limits, logging and the hand-over to the mail process; a
 * protocol brings a parser and its words (struct login_protocol). */
#ifndef YARILO_LOGIN_LOGIN_H
#define YARILO_LOGIN_LOGIN_H

#include "net/net.h"
#include "rpc/auth_client.h"
#include "rpc/service.h"

enum {
    LOGIN_INPUT_MAX = 1026,      /* unparsed bytes of a client (imap 2.1) */
    LOGIN_RESPONSE_MAX = 8192,   /* a SASL response, a literal */
    LOGIN_TIMEOUT_SECS = 180,
    LOGIN_MAX_BAD_COMMANDS = 3,
    LOGIN_AUTH_SLOW_SECS = 30,
};

struct login_client;

/* Why an attempt to log in failed; decides the words of the protocol and of the log. */
enum login_failure {
    LOGIN_FAIL_AUTH,
    LOGIN_FAIL_TEMP,
    LOGIN_FAIL_AUTHZ,
    LOGIN_FAIL_USER_DISABLED,
    LOGIN_FAIL_PASS_EXPIRED,
    LOGIN_FAIL_NOLOGIN,
    LOGIN_FAIL_REASON,           /* auth gave a text for the client */
    LOGIN_FAIL_INVALID_BASE64,
    LOGIN_FAIL_MECH_UNKNOWN,
    LOGIN_FAIL_PLAINTEXT,        /* plaintext mechanism on an insecure connection */
    LOGIN_FAIL_TLS_REQUIRED,
    LOGIN_FAIL_ABORTED,          /* the client sent "*" */
    LOGIN_FAIL_LIMIT,            /* mail_max_userip_connections */
    LOGIN_FAIL_INTERNAL,         /* the mail process refused */
    LOGIN_FAIL_UNAVAILABLE       /* a proxy destination */
};

struct login_protocol {
    const char *name;            /* "imap": service, filter, ALPN */
    const char *process;         /* "imap-login" */
    const char *socket;          /* of the mail process below `folder`: "imap" */
    const char *folder;          /* below $RUN, where the sockets lie and where the process is locked in; NULL: "login" */
    const char *auth_socket;     /* there; NULL: "login" */
    /* Clients are processes of this machine: UNIX sockets, no addresses, no limit for a user. */
    bool local;
    void (*open)(struct login_client *);      /* allocates the protocol's part */
    void (*close)(struct login_client *);
    void (*greet)(struct login_client *);
    /* Takes complete commands from the input, until none is left or login_busy(). */
    void (*input)(struct login_client *);
    /* A line for the client in the middle of a SASL exchange. */
    void (*challenge)(struct login_client *, struct slice base64);
    /* The answer to the login command; `text` is what auth or the common part wants said. */
    void (*failed)(struct login_client *, enum login_failure, const char *text);
    /* Something about the connection as a whole: "Disconnected for inactivity." ... */
    void (*bye)(struct login_client *, const char *text);
    void (*notice)(struct login_client *, const char *text);   /* "Waiting for authentication process to respond.." */
    void (*starttls_done)(struct login_client *);              /* forget what was said in plain text */
    /* May the mail process give a client back that has logged in (IMAP's UNAUTHENTICATE)? NULL: never. */
    bool (*returns)(struct login_client *);
    /* It has: as after the greeting, but nothing is said. */
    void (*returned)(struct login_client *);
    /* What goes in front of the unread input in the request to the mail process (ipc 7.2). */
    void (*handover)(struct login_client *, struct buffer *);
};

/* main() of a login program. */
int login_main(int argc, char **argv, const struct login_protocol *);

/* ---- for protocols --------------------------------------------------------------------------------------------- */

void *login_state(struct login_client *);
void login_set_state(struct login_client *, void *);
const struct settings *login_settings(const struct login_client *);
struct stream *login_stream(struct login_client *);
bool login_tls_active(const struct login_client *);
bool login_tls_by_command(const struct login_client *);        /* it began with STARTTLS */
bool login_tls_offered(const struct login_client *);           /* ssl is not "no", and not active yet */
bool login_secured(const struct login_client *);
/* Of a local protocol: may the client say that it is this process? */
bool login_peer_is(const struct login_client *, pid_t);
bool login_trusted(const struct login_client *);               /* login_trusted_networks */
bool login_plaintext_refused(const struct login_client *);     /* disable_plaintext_auth, ssl=required */
/* Mechanisms to offer, in the server's order: plaintext ones left out while refused, private ones always. Calls
 * each() with the names. */
void login_each_mech(struct login_client *, void (*each)(void *, const char *name), void *);
bool login_has_mech(struct login_client *, const char *name);

/* True while the client must not be read: authenticating without waiting for a response, handing over, ending. */
bool login_busy(const struct login_client *);
/* A response to a challenge is awaited: the protocol gives the next line to login_auth_continue. */
bool login_auth_waits(const struct login_client *);

/* Starts authentication; has_initial: with an initial response (base64). Every outcome comes through the protocol's
 * `challenge` and `failed`, or the hand-over. */
void login_auth_start(struct login_client *, struct slice mech, bool has_initial, struct slice initial);
/* LOGIN, USER+PASS: mechanism PLAIN. */
void login_auth_password(struct login_client *, struct slice user, struct slice password);
void login_auth_continue(struct login_client *, struct slice base64);
void login_auth_abort(struct login_client *);                  /* "*": `failed` says so */
void login_auth_drop(struct login_client *);                   /* the protocol has said why itself */

void login_starttls(struct login_client *);
/* Counts a bad command; true: that was one too many, the protocol says bye with the reason. */
bool login_bad_command(struct login_client *);
/* Ends the connection after what was written; the reason is for the log ("Aborted login by logging out"). */
void login_disconnect(struct login_client *, const char *reason);
/* An informational line with the connection's elements behind it. */
void login_log(struct login_client *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Believed from trusted networks only (IMAP ID, XCLIENT): NULL or family 0 = not given. */
void login_forwarded(struct login_client *, const struct net_endpoint *remote, const struct net_endpoint *local,
                     const char *session);
/* forward_fields (auth 17): TAB-escaped key=value pairs of a trusted front. */
void login_forward_field(struct login_client *, struct slice name, struct slice value);
void login_set_client_id(struct login_client *, const char *);
/* The name for the log, before auth has one. */
void login_set_user(struct login_client *, const char *);

#endif
