/* The supervisor's own face: what its parts share. Nobody outside of src/master includes it.
 *
 * A generation is one reading of the configuration with its services. A reload makes a new one; the old one stays
 * until its last process has ended, without listeners. Two things outlive generations: anvil's process (it holds the
 * counts of connections) and internet listeners with the same address and port. */
#ifndef YARILO_MASTER_MASTER_H
#define YARILO_MASTER_MASTER_H

#include "base/base.h"
#include "conf/conf.h"
#include "net/addr.h"

#include <ev.h>
#include <sys/types.h>
#include <uthash.h>

struct master;
struct generation;
struct unit;
struct process;

/* ---- listeners ------------------------------------------------------------------------------------------------- */

enum listener_kind { LISTENER_UNIX, LISTENER_FIFO, LISTENER_INET };

struct listener {
    enum listener_kind kind;
    char *name;             /* as the child gets it */
    char *path;             /* UNIX, FIFO: absolute */
    mode_t mode;
    uid_t uid;              /* (uid_t)-1, (gid_t)-1: not changed */
    gid_t gid;
    struct net_endpoint at; /* INET */
    char *address;          /* INET: as messages print it */
    bool ssl, haproxy, reuse_port, seqpacket;
    int fd;                 /* -1 = not open */
    ev_io watcher;
    struct unit *unit;
};

/* ---- services -------------------------------------------------------------------------------------------------- */

enum unit_type { UNIT_PLAIN, UNIT_LOG, UNIT_CONFIG, UNIT_ANVIL, UNIT_LOGIN, UNIT_STARTUP, UNIT_WORKER };

/* One `service {}` of one generation. */
struct unit {
    struct master *master;
    struct generation *generation;
    char *name, *protocol;
    enum unit_type type;
    char **argv;            /* argv[0] is the path of the executable */
    bool absent;            /* one of ours that this version does not have: connections are dropped with a log line */
    bool dispatched;        /* the dispatcher runs in its place: one process, process_limit counts sessions */

    uid_t uid;              /* (uid_t)-1: stays root */
    gid_t gid, privileged_gid;
    char *extra_gids;       /* "8,12", numeric; NULL = none */
    char *chroot;           /* absolute; NULL = none */
    bool drop_before_exec;

    unsigned process_limit, process_min_avail, client_limit, service_count, idle_kill;
    uint64_t vsz_limit;
    unsigned configured_process_limit, configured_client_limit; /* as service status and messages print them */

    struct listener *listeners;
    size_t listener_count;

    int log_read, log_write;        /* the pipe that is standard error of its processes */
    int status_read, status_write;
    int full_fd;                    /* login services: its offset is the "full" flag (ipc 2.1, descriptor 4) */
    int conf_fd;                    /* sealed snapshot, made for the first process */
    ev_io status_watcher;

    struct process *processes;      /* doubly linked, oldest first */
    unsigned process_count, process_avail, process_count_total;
    bool listening, listen_pending, stopped_by_admin, full, retired;
    bool absent_said;

    unsigned throttle_secs;
    time_t exit_failure_last, last_drop_warning;
    unsigned exit_failures_in_sec;
    ev_timer throttle_timer, drop_timer, full_timer;
};

struct generation {
    struct master *master;
    struct conf *conf;
    struct settings *set;
    struct unit *units;
    size_t unit_count;
    struct unit *log, *config, *anvil;
    int dead_read, dead_write;      /* descriptor 6 of its processes; the write end is closed to end them */
    unsigned process_count;
    ev_timer kill_timer;            /* shutdown_clients: ends what does not end by itself after a reload */
    bool term_sent;
    struct generation *next;        /* older ones that still have processes */
};

/* ---- processes ------------------------------------------------------------------------------------------------- */

struct process {
    pid_t pid;
    uint32_t number;                /* GENERATION of the environment: tells a reused pid from its predecessor */
    struct unit *unit;
    unsigned available, total;
    bool had_status, killed_late;
    time_t idle_start, last_status, last_kill;
    ev_timer timer;                 /* until the first status; then for idle_kill */
    struct process *prev, *next;    /* of the unit */
    UT_hash_handle hh;              /* by pid */
};

/* ---- master ---------------------------------------------------------------------------------------------------- */

enum { MASTER_LISTEN_BACKLOG_MIN = 4, MASTER_LISTEN_BACKLOG_MAX = 511, MASTER_FIRST_STATUS_SECS = 30 };

struct master {
    struct ev_loop *loop;
    char *config_path;
    const char *const *overrides;   /* -o, NULL-ended */
    char *base_dir, *state_dir, *instance, *libexec_dir;
    char *hostname, *hostdomain;
    char *ssl_key_password;
    bool root;                      /* may change users */
    bool foreground;
    bool pid_file;                  /* ours has been written */
    int null_fd, stderr_fd;         /* stderr_fd: the one that master was started with, for log_path = /dev/stderr */
    struct generation *now, *old;
    struct process *processes;      /* all, by pid */
    uint32_t last_number;
    bool stopping;
    char **environment;             /* of the children: what import_environment lets through */
    char *preserve_names;
    char ticket_key[65];    /* of dispatchers (rpc/dispatch.h), in hex; made once */

    int dead_read, dead_write;      /* descriptor 6 of anvil: the only process that outlives generations */
    int log_control;                /* write end of the pipe "MASTER" */
    int anvil_blocking[2], anvil_control[2]; /* pipes 8 and 7 of anvil */
    int anvil_log_socket[2];        /* descriptor 4 of anvil */
    bool anvil_restarted;

    int control_fd;                 /* socket "master" */
    ev_io control_watcher;
    ev_signal term, interrupt, quit, hup, usr1;
    ev_child child;
    ev_timer stop_timer;
    int inherited_first, inherited_count; /* systemd */
    char *notify_socket;
};

/* services.c: the services of a configuration, checked. 0 or -1 with master's text ("service(x) User doesn't..."). */
int generation_new(struct master *, struct conf *, struct generation **, struct error *);
void generation_free(struct generation *);
struct unit *generation_find(struct generation *, const char *name);

/* listeners.c. Inet sockets are taken from `old` (NULL at the start) and from systemd where they fit; with `all`
 * false a listener that fails is logged and left out (reload). */
int listeners_open(struct generation *, struct generation *old, bool all, struct error *);
void listeners_close(struct unit *);
void listener_free(struct listener *);
/* Accepts and closes what waits. */
void listeners_drop_waiting(struct unit *);

/* process.c */
int process_start(struct unit *, struct error *);
void process_free(struct process *);
struct process *process_find(struct master *, pid_t);
void process_kill(const struct process *, int signal);

/* environment.c */
void environment_prepare(struct master *, const struct settings *);
char **environment_for(struct arena *, struct unit *, uint32_t number, int conf_fd, size_t sockets, size_t unnamed);

/* monitor.c: keeps the services of a generation going. */
void monitor_start(struct generation *);
void monitor_retire(struct generation *);       /* no listening, no new processes */
void monitor_unit_update(struct unit *);        /* listen, fork ahead, drop: as the counts say */
void monitor_unit_stop(struct unit *);          /* `doveadm service stop` */
void monitor_throttle(struct unit *);           /* a start has failed: no new one for a while */
bool monitor_stopped(const struct unit *);
void monitor_status_ready(struct ev_loop *, ev_io *, int events);

/* ends.c */
void monitor_child_ended(struct master *, pid_t, int status);

/* pipes.c: log and anvil plumbing. */
int pipes_init(struct master *, struct error *);
int pipes_open_unit(struct unit *, struct error *);
void pipes_close_unit(struct unit *);
void pipes_log_takes_over(struct master *);     /* master's own messages go to the log service from now on */
void pipes_anvil_new_log(struct master *);      /* reload: anvil, which stays, gets the new log pipe */
void pipes_tell_log(struct unit *, pid_t, const char *what, const char *text);
void pipes_anvil_kill(struct master *, pid_t);

/* basedir.c */
int basedir_prepare(struct master *, const struct settings *, struct error *);
int basedir_pidfile_check(struct master *, struct error *);
int basedir_pidfile_create(struct master *, struct error *);
void basedir_forget(struct master *);
void basedir_note_fatal(struct master *, const char *text);

/* control.c: the socket "master". */
int control_open(struct master *, struct error *);
void control_close(struct master *);

/* systemd.c */
void systemd_init(struct master *);
int systemd_take(struct master *, const struct net_endpoint *); /* -> fd or -1 */
void systemd_notify(struct master *, const char *state);

/* fatal.c: a fatal line of the start: to standard error and to the configured log. Status 89. */
void master_fatal(struct master *, struct conf *, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* run.c: from a checked configuration to the end. */
int master_run(struct master *, struct conf *, int started_fd);

#endif
