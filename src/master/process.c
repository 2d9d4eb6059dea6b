/* One child: descriptors, rights, limits, environment, exec (ipc 2.1).
 *
 * Between fork and exec only what is needed happens; a step that fails writes a fatal line to the service's own log
 * pipe and ends with 84 (exec) or 89, which master reports like every other end. */
#include "master/master.h"

#include "rpc/service.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXIT_EXEC_FAILED 84
#define FD_LISTEN 7
#define SESSIONS_PER_VSZ 64 /* vsz_limit is meant for one session: a process for many gets it once for so many */

/* What the child gets as descriptor 0, 1, 2, ... */
struct plan {
    VEC(int) fds;
    size_t unnamed; /* pipes in front of the named sockets: log, anvil */
    int conf;       /* its number in the child, or -1 */
};

static int seal_conf(struct unit *unit, struct error *error)
{
    if (unit->type == UNIT_ANVIL || unit->type == UNIT_CONFIG || unit->conf_fd >= 0)
        return 0;
    unit->conf_fd = conf_seal(unit->generation->conf, unit->name, error);
    return unit->conf_fd < 0 ? -1 : 0;
}

static void make_plan(struct unit *unit, struct plan *plan)
{
    struct master *master = unit->master;
    struct generation *generation = unit->generation;
    int null = master->null_fd;
    bool alone = unit->type == UNIT_LOG || unit->type == UNIT_ANVIL || unit->type == UNIT_CONFIG;

    VEC_PUSH(&plan->fds, null);
    VEC_PUSH(&plan->fds, unit->type == UNIT_LOG ? master->stderr_fd : null);
    VEC_PUSH(&plan->fds, unit->type == UNIT_LOG ? master->stderr_fd : unit->log_write);
    VEC_PUSH(&plan->fds, alone ? null : master->anvil_blocking[1]);
    VEC_PUSH(&plan->fds, unit->type == UNIT_LOGIN   ? unit->full_fd
                         : unit->type == UNIT_ANVIL ? master->anvil_log_socket[1]
                                                    : null);
    VEC_PUSH(&plan->fds, unit->status_write);
    VEC_PUSH(&plan->fds, unit->type == UNIT_ANVIL ? master->dead_read : generation->dead_read);
    if (unit->type == UNIT_LOG) {
        VEC_PUSH(&plan->fds, unit->log_read);
        for (size_t i = 0; i < generation->unit_count; i++)
            if (generation->units[i].type != UNIT_LOG)
                VEC_PUSH(&plan->fds, generation->units[i].log_read);
    } else if (unit->type == UNIT_ANVIL) {
        VEC_PUSH(&plan->fds, master->anvil_control[0]);
        VEC_PUSH(&plan->fds, master->anvil_blocking[0]);
    }
    plan->unnamed = plan->fds.count - FD_LISTEN;
    for (size_t i = 0; i < unit->listener_count; i++)
        if (unit->listeners[i].fd >= 0)
            VEC_PUSH(&plan->fds, unit->listeners[i].fd);
    plan->conf = -1;
    if (unit->conf_fd >= 0) {
        plan->conf = (int)plan->fds.count;
        VEC_PUSH(&plan->fds, unit->conf_fd);
    }
}

/* ---- in the child ---------------------------------------------------------------------------------------------- */

static void child_fatal(int status, const char *what, const char *path)
{
    log_fatal(status, "%s(%s) failed: %s", what, path, strerror(errno));
}

/* First out of the way of the numbers that are wanted, then each to its place (which clears close-on-exec). */
static void place_descriptors(struct plan *plan)
{
    int above = (int)plan->fds.count + 8;

    for (size_t i = 0; i < plan->fds.count; i++) {
        plan->fds.at[i] = fcntl(plan->fds.at[i], F_DUPFD_CLOEXEC, above);
        if (plan->fds.at[i] < 0)
            child_fatal(EXIT_FATAL, "fcntl", "F_DUPFD");
    }
    for (size_t i = 0; i < plan->fds.count; i++)
        if (dup2(plan->fds.at[i], (int)i) < 0)
            child_fatal(EXIT_FATAL, "dup2", "child descriptor");
}

/* RLIMIT_AS. AddressSanitizer reserves terabytes, so its builds go without. */
static void limit_memory(const struct unit *unit)
{
#ifndef SANITIZERS
    uint64_t bytes = unit->vsz_limit, times = 1 + unit->client_limit / SESSIONS_PER_VSZ;
    struct rlimit limit;

    /* The dispatcher limits its workers, by what each of them serves. */
    if (bytes == 0 || unit->dispatched || __builtin_mul_overflow(bytes, times, &bytes))
        return;
    limit.rlim_cur = limit.rlim_max = bytes;
    if (setrlimit(RLIMIT_AS, &limit) < 0)
        child_fatal(EXIT_FATAL, "setrlimit", "RLIMIT_AS");
#else
    (void)unit;
#endif
}

static void drop_privileges(const struct unit *unit)
{
    struct slice rest = slice_from_str(unit->extra_gids), word;
    gid_t groups[256];
    size_t count = 0;
    uint32_t gid;

    if (unit->gid != (gid_t)-1) {
        groups[count++] = unit->gid;
        if (setgid(unit->gid) < 0)
            child_fatal(EXIT_FATAL, "setgid", unit->name);
    }
    while (rest.size > 0 && count < 256 && slice_split(&rest, ',', &word))
        if (slice_to_u32(word, &gid))
            groups[count++] = gid;
    if (unit->uid == (uid_t)-1)
        return;
    if (setgroups(count, groups) < 0)
        child_fatal(EXIT_FATAL, "setgroups", unit->name);
    if (setuid(unit->uid) < 0)
        child_fatal(EXIT_FATAL, "setuid", unit->name);
}

__attribute__((noreturn)) static void run_child(struct unit *unit, uint32_t number, struct plan *plan)
{
    struct master *master = unit->master;
    struct arena *arena = arena_new();
    char **env = environment_for(arena, unit, number, plan->conf, plan->fds.count - FD_LISTEN - plan->unnamed -
                                 (plan->conf >= 0 ? 1 : 0), plan->unnamed);
    char *path = unit->argv[0];
    bool named = strcmp(master->instance, "dovecot") != 0;

    service_reset_signals();
    place_descriptors(plan);
    log_open_service(unit->name);
    if (chdir(master->base_dir) < 0)
        child_fatal(EXIT_FATAL, "chdir", master->base_dir);
    (void)setpriority(PRIO_PROCESS, 0, 0);
    if (unit->drop_before_exec && master->root)
        drop_privileges(unit);
    limit_memory(unit);
    unit->argv[0] = arena_printf(arena, "dovecot%s%s/%s", named ? "-" : "", named ? master->instance : "", unit->name);
    (void)execve(path, unit->argv, env);
    if (errno == ENOMEM)
        log_fatal(EXIT_EXEC_FAILED, "execv(%s) failed: %s (vsz_limit too low?)", path, strerror(errno));
    child_fatal(EXIT_EXEC_FAILED, "execv", path);
    _exit(EXIT_EXEC_FAILED);
}

/* ---- in master ------------------------------------------------------------------------------------------------- */

static void link_process(struct process *process)
{
    struct unit *unit = process->unit;
    struct process *last = unit->processes;

    if (last == NULL) {
        unit->processes = process;
    } else {
        while (last->next != NULL)
            last = last->next;
        last->next = process;
        process->prev = last;
    }
    HASH_ADD(hh, unit->master->processes, pid, sizeof(process->pid), process);
    unit->process_count++;
    unit->process_count_total++;
    unit->generation->process_count++;
}

int process_start(struct unit *unit, struct error *error)
{
    struct master *master = unit->master;
    struct process *process;
    struct plan plan = {0};
    uint32_t number = ++master->last_number;
    pid_t pid;

    if (seal_conf(unit, error) < 0)
        return error_context(error, "service(%s): ", unit->name);
    make_plan(unit, &plan);
    pid = fork();
    if (pid == 0)
        run_child(unit, number, &plan);
    VEC_FREE(&plan.fds);
    if (pid < 0)
        return error_set(error, ERROR_TEMPORARY, "service(%s): fork() failed: %s", unit->name, strerror(errno));
    process = mem_zero(1, sizeof(*process));
    process->pid = pid;
    process->number = number;
    process->unit = unit;
    process->available = unit->client_limit;
    process->idle_start = process->last_status = 0;
    link_process(process);
    unit->process_avail++;
    return 0;
}

void process_free(struct process *process)
{
    struct unit *unit = process->unit;

    ev_timer_stop(unit->master->loop, &process->timer);
    if (process->prev != NULL)
        process->prev->next = process->next;
    else
        unit->processes = process->next;
    if (process->next != NULL)
        process->next->prev = process->prev;
    HASH_DEL(unit->master->processes, process);
    unit->process_count--;
    unit->generation->process_count--;
    mem_free(process);
}

struct process *process_find(struct master *master, pid_t pid)
{
    struct process *process;

    HASH_FIND(hh, master->processes, &pid, sizeof(pid), process);
    return process;
}

void process_kill(const struct process *process, int signal)
{
    if (kill(process->pid, signal) < 0 && errno != ESRCH)
        log_error(NULL, "service(%s): kill(%s, %d) failed: %s", process->unit->name, "process", signal,
                  strerror(errno));
}
