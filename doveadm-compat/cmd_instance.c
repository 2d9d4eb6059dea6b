/* cmd_instance.c - doveadm instance: lists the servers that were started on this machine, takes one out (doveadm 7.3). */
#include "doveadm.h"
#include "print.h"
#include "rpc/instances.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void read_instances(struct doveadm *d, struct instances *out)
{
    struct error e;

    if (instances_read(d->arena, conf_str(doveadm_settings(d), SET_state_dir), out, &e) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "%s", e.admin);
}

static bool is_running(struct doveadm *d, const char *base_dir)
{
    struct buffer text = {0};
    struct error e;
    uint32_t pid = 0;
    bool running = os_read_file(AT_FDCWD, arena_printf(d->arena, "%s/master.pid", base_dir), 64, &text, &e) == 0 &&
                   slice_to_u32(slice_trim(buffer_slice(&text)), &pid) && pid > 0 && pid <= INT32_MAX &&
                   (kill((pid_t)pid, 0) == 0 || errno == EPERM);

    buffer_free(&text);
    return running;
}

/* The file's, else where base_dir/dovecot.conf leads. */
static const char *config_of(struct doveadm *d, const struct instance *one)
{
    char target[4096];
    ssize_t n;

    if (*one->config != '\0')
        return one->config;
    n = readlink(arena_printf(d->arena, "%s/dovecot.conf", one->base_dir), target, sizeof(target));
    return n <= 0 ? "" : arena_str(d->arena, slice_of(target, (size_t)n));
}

static void print_instance(struct doveadm *d, const struct instance *one)
{
    uint64_t seconds = 0;
    char stamp[32] = "";
    time_t when;
    struct tm tm;

    if (slice_to_u64(slice_from_str(one->last_used), &seconds) && seconds > 0 && seconds < INT64_MAX) {
        when = (time_t)seconds;
        if (localtime_r(&when, &tm) != NULL)
            strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
    }
    print_value(d, one->base_dir);
    print_value(d, one->name);
    print_value(d, stamp);
    print_value(d, is_running(d, one->base_dir) ? "yes" : "no");
}

int doveadm_instance_list(struct doveadm *d)
{
    const char *name = doveadm_text(d, "name");
    bool config = doveadm_flag(d, "show-config");
    struct instances list = {0};

    read_instances(d, &list);
    if (!config) {
        print_init(d, "table");
        print_header(d, "path", "path", PRINT_EXPAND);
        print_header_simple(d, "name");
        print_header_simple(d, "last used");
        print_header_simple(d, "running");
    }
    for (size_t i = 0; i < list.count; i++) {
        if (name != NULL && strcmp(name, list.at[i].name) != 0)
            continue;
        if (config)
            printf("%s\n", config_of(d, &list.at[i]));
        else
            print_instance(d, &list.at[i]);
    }
    VEC_FREE(&list);
    return DOVEADM_OK;
}

/* By name, else by folder. */
int doveadm_instance_remove(struct doveadm *d)
{
    const char *name = doveadm_text(d, "name");
    struct instances list = {0}, left = {0};
    int status = DOVEADM_OK;
    struct error e;

    if (name == NULL)
        return doveadm_usage(d);
    read_instances(d, &list);
    for (size_t i = 0; i < list.count; i++)
        if (strcmp(name, list.at[i].name) != 0 && strcmp(name, list.at[i].base_dir) != 0)
            VEC_PUSH(&left, list.at[i]);
    if (left.count == list.count) {
        log_error(NULL, "Instance already didn't exist");
        status = DOVEADM_NOTFOUND;
    } else if (instances_write(d->arena, conf_str(doveadm_settings(d), SET_state_dir), &left, &e) < 0) {
        log_error(NULL, "%s", e.admin);
        status = DOVEADM_TEMPFAIL;
    }
    VEC_FREE(&list);
    VEC_FREE(&left);
    return status;
}
