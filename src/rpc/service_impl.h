/* What the parts of the service contract share; nobody else includes it. */
#ifndef YARILO_RPC_SERVICE_IMPL_H
#define YARILO_RPC_SERVICE_IMPL_H

#include "rpc/service.h"

/* Descriptors that master prepares (ipc 2.1). */
enum { SERVICE_FD_ANVIL = 3, SERVICE_FD_FULL = 4, SERVICE_FD_STATUS = 5, SERVICE_FD_DEAD = 6, SERVICE_FD_LISTEN = 7 };

struct service_accept {
    ev_io watcher;
    struct service *service;
    size_t index;
};

struct service {
    char *name;
    unsigned flags;
    bool child;            /* a master started us: status pipe, master pipe */
    bool worker;           /* a dispatcher started us */
    bool unprivileged;
    bool chrooted;
    bool titled;
    bool running, stopping, finishing;
    char *const *args;
    struct ev_loop *loop;
    struct conf *conf;
    char *base_dir;
    char *hostname;
    uint32_t generation;

    unsigned client_limit, process_limit, count_left; /* count_left UINT_MAX = without end */
    unsigned clients;
    struct service_listener *listeners;
    struct service_accept *accepts;
    size_t listener_count;

    const struct service_handler *handler;
    void *arg;

    ev_io dead;
    ev_signal term, interrupt, full;
    ev_timer status_timer, accept_pause, orphan;
    pid_t parent;
    unsigned status_sent;  /* the last count that master knows; UINT_MAX = none yet */
};

/* Makes room for titles; nothing may point into the memory of the arguments or the environment afterwards. */
void service_title_init(struct service *, char **argv);

/* Starts or stops accepting, and tells master what has changed. */
void service_clients_update(struct service *);

#endif
