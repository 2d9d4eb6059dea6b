/* How processes end: what is said, and what follows (ipc 2.3; exit statuses and texts are the original's). */
#include "master/master.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

enum { FAILURES_IN_A_SECOND = 10 };

static const char *status_text(int status)
{
    switch (status) {
    case 80:
        return "Can't open log file";
    case 81:
        return "Can't write to log file";
    case 82:
        return "Internal logging error";
    case 83:
        return "Out of memory";
    case 84:
        return "exec() failed";
    case 89:
        return "Fatal failure";
    }
    return NULL;
}

static void print_core_hint(struct buffer *text, int status)
{
    struct rlimit limit;

    if (WCOREDUMP(status)) {
        buffer_append_str(text, " (core dumped)");
        return;
    }
    switch (WTERMSIG(status)) {
    case SIGABRT:
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
        break;
    default:
        return;
    }
    if (getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0)
        buffer_append_str(text, " (core dumps disabled - https://dovecot.org/bugreport.html#coredumps)");
    else
        buffer_append_str(text, " (core not dumped - https://dovecot.org/bugreport.html#coredumps)");
}

/* "service(imap): child 12 killed with signal 9": through the log service, so that it stands behind the child's last
 * prefix, and is left out when the child has said itself why it went. */
static void report_end(struct process *process, int status)
{
    struct unit *unit = process->unit;
    struct buffer text = {0};
    bool current = unit->generation == unit->master->now && unit->type != UNIT_LOG;

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    if (unit->master->stopping && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)
        return; /* it had not come to itself when the stop came */
    if (WIFSIGNALED(status)) {
        buffer_printf(&text, "service(%s): child %ld killed with signal %d", unit->name, (long)process->pid,
                      WTERMSIG(status));
        print_core_hint(&text, status);
    } else {
        const char *what = status_text(WEXITSTATUS(status));

        buffer_printf(&text, "service(%s): child %ld returned error %d", unit->name, (long)process->pid,
                      WEXITSTATUS(status));
        if (WEXITSTATUS(status) == 83)
            buffer_printf(&text, " (Out of memory (service %s { vsz_limit=%u MB }, you may need to increase it))",
                          unit->name, (unsigned)(unit->vsz_limit >> 20));
        else if (what != NULL)
            buffer_printf(&text, " (%s)", what);
    }
    if (current)
        pipes_tell_log(unit, process->pid, WIFSIGNALED(status) ? "FATAL" : "DEFAULT-FATAL", buffer_cstr(&text));
    else
        log_error(NULL, "%s", buffer_cstr(&text));
    buffer_free(&text);
}

static void count_failure(struct unit *unit, const struct process *process)
{
    time_t now = time(NULL);

    if (unit->exit_failure_last != now) {
        unit->exit_failure_last = now;
        unit->exit_failures_in_sec = 0;
    }
    unit->exit_failures_in_sec++;
    if (!process->had_status || unit->exit_failures_in_sec > FAILURES_IN_A_SECOND)
        monitor_throttle(unit);
}

void monitor_child_ended(struct master *master, pid_t pid, int status)
{
    struct process *process = process_find(master, pid);
    struct unit *unit;
    bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;

    if (process == NULL)
        return;
    unit = process->unit;
    report_end(process, status);
    if (unit->type != UNIT_LOG)
        pipes_tell_log(unit, pid, "BYE", NULL);
    if (failed) {
        if (unit->type != UNIT_LOG && unit->type != UNIT_ANVIL)
            pipes_anvil_kill(master, pid);
        if (unit->type == UNIT_ANVIL)
            master->anvil_restarted = true;
    }
    if (process->available > 0 && unit->process_avail > 0)
        unit->process_avail--;
    if (failed && !monitor_stopped(unit) && !process->killed_late)
        count_failure(unit, process);
    process_free(process);
    monitor_unit_update(unit);
}
