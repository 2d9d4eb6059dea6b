/* The contract between a service process and the master that started it (ipc 2); every program in libexec begins here.
 *
 *     int main(int argc, char **argv)
 *     {
 *         static const struct service_options options = {.name = "auth", .own_options = "w", .option = take_option};
 *         struct service *service = service_init(argc, argv, &options, &state);
 *         ... connect what only root may (service_connect), load modules, read secrets ...
 *         service_drop_privileges(service, 0);
 *         service_ready(service, &handler, &state);
 *         return service_run(service);
 *     }
 *
 * The environment and the descriptors are Dovecot's, so that our programs run under its master and its programs under
 * ours. What is ours alone: the configuration comes as a sealed snapshot (YARILO_CONFIG_FD). Started by hand with
 * -c FILE a program compiles the configuration itself, has no listeners, and logs to standard error.
 *
 * What goes wrong at start ends the process with a fatal log line and exit status 89; so these functions return no
 * errors. Master ends with the process: a closed master pipe means "finish what you have and go" (also at reload).
 *
 * Counting: each accepted connection is a client from before `connected` is called until service_client_end. Master
 * hears of the free places through the status pipe; with service_count the process ends after its last client. */
#ifndef YARILO_RPC_SERVICE_H
#define YARILO_RPC_SERVICE_H

#include "base/base.h"
#include "conf/conf.h"

#include <ev.h>
#include <sys/types.h>

/* The Dovecot version whose programs and files these are compatible with: in DOVECOT_VERSION, in --version. */
#define SERVICE_COMPAT_VERSION "2.3.19.1"
#define SERVICE_COMPAT_REVISION "9b53102964"

struct service;

struct service_listener {
    const char *name;   /* base name of a UNIX socket's path ("auth-userdb"), name of an inet_listener ("imaps") */
    int fd;
    bool ssl;           /* TLS from the first byte (after a PROXY header) */
    bool haproxy;       /* a PROXY header comes first */
    bool fifo;          /* not a socket: `connected` is called once with the FIFO itself (not counted as a client) */
};

enum service_flags {
    SERVICE_NO_CONFIG = 1,        /* needs no settings (anvil) */
    SERVICE_KEEP_ROOT = 2,        /* complain when started as another user than root: not used by ./serve */
    SERVICE_NO_IDLE_EXIT = 4,     /* SIGINT is ignored while idle too: log, anvil */
    SERVICE_STAYS = 8             /* the master pipe is not watched: log ends with the last of its writers */
};

struct service_options {
    const char *name;             /* when SERVICE_NAME is not in the environment */
    unsigned flags;               /* enum service_flags */
    const char *own_options;      /* getopt letters besides -c FILE, -o KEY=VALUE, -i INSTANCE; NULL = none */
    /* An own option; false: unknown, prints the usage and ends with 64. */
    bool (*option)(void *arg, int letter, const char *value);
};

/* Never returns NULL. Opens the log, reads the environment, moves the listeners, opens the configuration, ignores
 * SIGPIPE, SIGHUP and SIGALRM, sets umask 0. Remaining arguments: service_args. */
struct service *service_init(int argc, char **argv, const struct service_options *, void *arg);

const char *service_name(const struct service *);
char *const *service_args(const struct service *);          /* after the options, NULL-ended */
struct ev_loop *service_loop(const struct service *);       /* the process's only loop */
struct conf *service_conf(const struct service *);          /* NULL with SERVICE_NO_CONFIG */
bool service_standalone(const struct service *);            /* started by hand */
/* Is the process one that cannot change users (./serve)? Everybody is the same user then, and nothing is chrooted. */
bool service_unprivileged(const struct service *);
unsigned service_client_limit(const struct service *);      /* clients at one time; at least 1 */
unsigned service_count_left(const struct service *);        /* UINT_MAX = without end */
unsigned service_process_limit(const struct service *);
const struct service_listener *service_listeners(const struct service *, size_t *count);
const char *service_base_dir(const struct service *);       /* $RUN, absolute; the working directory until chroot */
const char *service_hostname(const struct service *);       /* DOVECOT_HOSTNAME, or gethostname */

/* Connects to a UNIX socket below $RUN ("anvil", "auth-master"), non-blocking and close-on-exec; before
 * service_drop_privileges root-only ones too. -> fd, or -1 and *e. */
int service_connect(const struct service *, const char *socket, struct error *);

/* In a child that will be another program: signals do and are let through what they are by default. */
void service_reset_signals(void);

/* Our own programs: the build tree's libexec while running from the build tree, else the installed one. */
const char *service_libexec_dir(void);

/* ---- what ps shows --------------------------------------------------------------------------------------------- */

/* With verbose_proctitle, in a process that a master or a dispatcher has started: "dovecot/imap [text]"; "": without brackets.
 * Else nothing happens. */
bool service_titled(void);
void service_title(const char *text);

/* ---- privileges ------------------------------------------------------------------------------------------------ */

enum service_drop {
    SERVICE_KEEP_CHROOT_OUT = 1, /* RESTRICT_CHROOT is not obeyed */
    SERVICE_MAY_GAIN = 2         /* no_new_privs is left out: its children start programs of the admin's (scripts) */
};

/* setgid, setgroups, chroot, setuid as the environment says (RESTRICT_*), then no_new_privs. A process of an ordinary
 * user does only the last; one log line (debug) says so. Call it exactly once; also when nothing is restricted. */
void service_drop_privileges(struct service *, unsigned flags);

/* ---- clients --------------------------------------------------------------------------------------------------- */

struct service_handler {
    /* An accepted connection: non-blocking, close-on-exec, yours. */
    void (*connected)(void *arg, const struct service_listener *, int fd);
    /* Nothing new is accepted from now on: at a reload (`now` is false: clients stay, the process ends with its last
     * one), or since master has gone without a word and shutdown_clients=yes (`now` is true; service_run returns
     * next). May be NULL. */
    void (*finishing)(void *arg, bool now);
    /* The service is full and has no room for new connections: close the oldest clients that have not logged in
     * ("Connection queue full"). Login services only. May be NULL. */
    void (*full)(void *arg);
    /* SIGTERM or SIGINT in a process that cannot just end: say good-bye to the clients. service_run returns when the
     * loop comes round next. May be NULL. */
    void (*terminate)(void *arg);
    /* May an idle process go (SIGINT from master)? NULL = yes when it has no clients. */
    bool (*may_idle)(void *arg);
};

/* Starts accepting and writes the first status (master waits for it 30 seconds). */
void service_ready(struct service *, const struct service_handler *, void *arg);
/* A client that did not come through a listener (a session that a dispatcher adopted). */
void service_client_begin(struct service *);
void service_client_end(struct service *);
unsigned service_clients(const struct service *);
/* Nothing new is accepted from now on, as when service_count is used up; the process ends with its last client. */
void service_retire(struct service *);
bool service_finishing(const struct service *);             /* master is gone, or service_count is used up */

/* CONNECT and DISCONNECT lines on the pipe to anvil; `ident` as anvil_ident makes it. Nothing happens without master.
 * A pid other than the own one: the dispatcher's workers. */
void service_anvil_connect(const struct service *, pid_t, const char *ident);
void service_anvil_disconnect(const struct service *, pid_t, const char *ident);

/* Runs the loop until the process shall end; the exit status. */
int service_run(struct service *);
/* Ends service_run from inside a handler. */
void service_stop(struct service *);

#endif
