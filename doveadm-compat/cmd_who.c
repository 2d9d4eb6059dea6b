/* cmd_who.c - who, kick, penalty: what anvil counts (doveadm 7.2).
 *
 * A process may serve many sessions here, so `kick` sends no signal: anvil is told which connections are meant and has the
 * dispatcher end their sessions. No other session suffers, so -f changes nothing. Dovecot's anvil does not know that: it hangs
 * up, and the processes are ended as Dovecot's doveadm does; those that also serve others only with -f. */
#include "doveadm.h"
#include "net/addr.h"
#include "print.h"
#include "rpc/anvil_client.h"

#include <errno.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <uthash.h>

struct entry {
    char *user, *service, *ip;
    const char *ident;       /* as anvil sent it */
    pid_t pid;
    unsigned count;
};

struct who {
    struct doveadm *d;
    struct ev_loop *loop;
    VEC(struct entry) entries;
    VEC(pid_t) others;       /* processes with connections that are not meant */
    const char *user_mask, *network;
    bool failed;
};

static void take_line(void *arg, const char *ident, pid_t pid, unsigned count)
{
    struct who *w = arg;
    struct slice rest = slice_from_str(ident), service, ip;
    struct net_ip address;
    struct entry e = {.pid = pid, .count = count};

    if (!slice_split(&rest, '/', &service) || !slice_split(&rest, '/', &ip))
        return; /* lmtp/user: deliveries are not shown */
    e.service = arena_str(w->d->arena, service);
    e.ip = arena_str(w->d->arena, ip);
    e.ident = arena_strdup(w->d->arena, ident);
    e.user = arena_str(w->d->arena, text_tab_unescape(w->d->arena, rest));
    if ((w->user_mask != NULL && fnmatch(w->user_mask, e.user, 0) != 0) ||
        (w->network != NULL && (!net_ip_parse(ip, &address) || !net_ip_in(&address, w->network)))) {
        VEC_PUSH(&w->others, pid);
        return;
    }
    VEC_PUSH(&w->entries, e);
}

static void dump_done(void *arg, bool ok, unsigned lines)
{
    struct who *w = arg;

    (void)lines;
    w->failed = !ok;
    ev_break(w->loop, EVBREAK_ALL);
}

/* Masks: addresses and networks, or user names; one of each. */
static int read_masks(struct who *w, const char *name)
{
    size_t n;
    const char *const *masks = doveadm_list(w->d, name, &n);

    for (size_t i = 0; i < n; i++) {
        struct slice mask = slice_from_str(masks[i]), ip = mask;
        struct net_ip address;
        ptrdiff_t slash = slice_find(mask, '/');
        if (slash >= 0)
            ip = slice_head(mask, (size_t)slash);
        if (net_ip_parse(ip, &address)) {
            if (w->network != NULL) {
                log_error(NULL, "Multiple network masks not supported");
                return DOVEADM_USAGE;
            }
            w->network = masks[i];
        } else {
            if (w->user_mask != NULL) {
                log_error(NULL, "Multiple username masks not supported");
                return DOVEADM_USAGE;
            }
            w->user_mask = masks[i];
        }
    }
    return DOVEADM_OK;
}

static void ask_anvil(struct who *w)
{
    const char *path = doveadm_text(w->d, "socket-path");
    struct anvil_client *anvil;
    struct error e;
    int fd;

    if (path == NULL)
        path = doveadm_socket(w->d, "anvil");
    fd = line_connect(path, 0, &e);
    if (fd < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "net_connect_unix(%s) failed: %s", path, strerror(e.sys));
    w->loop = ev_loop_new(0);
    anvil = anvil_client_new(w->loop, NULL, fd);
    anvil_dump(anvil, take_line, dump_done, w);
    ev_run(w->loop, 0);
    anvil_client_free(anvil);
    ev_loop_destroy(w->loop);
    if (w->failed)
        doveadm_fatal(DOVEADM_TEMPFAIL, "%s: anvil gave no answer", path);
}

/* A row per user and protocol. */
struct group {
    const char *key, *user, *service;
    unsigned count;
    struct buffer pids, ips;
    UT_hash_handle hh;
};

static void add_word(struct buffer *out, const char *word)
{
    struct slice rest = buffer_slice(out), one;

    while (rest.size > 0 && slice_split(&rest, ' ', &one))
        if (slice_equal_str(one, word))
            return;
    if (out->size > 0)
        buffer_append_byte(out, ' ');
    buffer_append_str(out, word);
}

static void print_groups(struct who *w)
{
    struct group *groups = NULL, *g, *next;
    struct doveadm *d = w->d;

    for (size_t i = 0; i < w->entries.count; i++) {
        const struct entry *e = &w->entries.at[i];
        char *key = arena_printf(d->arena, "%s\n%s", e->user, e->service);
        HASH_FIND_STR(groups, key, g);
        if (g == NULL) {
            g = ARENA_NEW(d->arena, struct group);
            *g = (struct group){.key = key, .user = e->user, .service = e->service};
            HASH_ADD_KEYPTR(hh, groups, g->key, strlen(g->key), g);
        }
        g->count += e->count;
        add_word(&g->pids, arena_printf(d->arena, "%d", (int)e->pid));
        if (*e->ip != '\0')
            add_word(&g->ips, e->ip);
    }
    print_init(d, "table");
    print_header(d, "username", "username", 0);
    print_header(d, "connections", "#", PRINT_RIGHT);
    print_header(d, "service", "proto", 0);
    print_header(d, "pids", "(pids)", 0);
    print_header(d, "ips", "(ips)", 0);
    HASH_ITER(hh, groups, g, next) {
        print_value(d, g->user);
        print_number(d, g->count);
        print_value(d, g->service);
        print_value(d, arena_printf(d->arena, "(%s)", buffer_cstr(&g->pids)));
        print_value(d, arena_printf(d->arena, "(%s)", buffer_cstr(&g->ips)));
        HASH_DEL(groups, g);
        buffer_free(&g->pids);
        buffer_free(&g->ips);
    }
}

static void print_each(struct who *w)
{
    struct doveadm *d = w->d;

    print_init(d, "table");
    print_header(d, "username", "username", PRINT_EXPAND);
    print_header(d, "service", "proto", 0);
    print_header_simple(d, "pid");
    print_header_simple(d, "ip");
    for (size_t i = 0; i < w->entries.count; i++)
        for (unsigned j = 0; j < w->entries.at[i].count; j++) {
            print_value(d, w->entries.at[i].user);
            print_value(d, w->entries.at[i].service);
            print_number(d, (uint64_t)w->entries.at[i].pid);
            print_value(d, w->entries.at[i].ip);
        }
}

int doveadm_who(struct doveadm *d)
{
    struct who w = {.d = d};
    int status = read_masks(&w, "mask");

    if (status != DOVEADM_OK)
        return status;
    ask_anvil(&w);
    if (doveadm_flag(d, "separate-connections"))
        print_each(&w);
    else
        print_groups(&w);
    VEC_FREE(&w.entries);
    VEC_FREE(&w.others);
    return DOVEADM_OK;
}

/* ---- kick, penalty: lines to anvil and back, one after the other ------------------------------------------------------- */

static FILE *anvil_stream(struct doveadm *d, FILE **out)
{
    const char *path = doveadm_text(d, "socket-path");
    FILE *in = doveadm_stream(path != NULL ? path : doveadm_socket(d, "anvil"), out);

    fputs("VERSION\tanvil\t1\t0\n", *out);
    return in;
}

static bool was_named(const struct who *w, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(w->entries.at[i].user, w->entries.at[at].user) == 0)
            return true;
    return false;
}

static bool serves_others(const struct who *w, pid_t pid)
{
    for (size_t i = 0; i < w->others.count; i++)
        if (w->others.at[i] == pid)
            return true;
    return false;
}

/* One signal a process. */
static size_t kick_processes(struct who *w)
{
    size_t kept = 0;

    for (size_t i = 0; i < w->entries.count; i++) {
        pid_t pid = w->entries.at[i].pid;
        bool done = false;

        if (serves_others(w, pid) && !doveadm_flag(w->d, "force"))
            continue;
        for (size_t k = 0; k < kept && !done; k++)
            done = w->entries.at[k].pid == pid;
        if (!done && pid > 0 && kill(pid, SIGTERM) < 0 && errno != ESRCH)
            log_error(NULL, "kill(%d, SIGTERM) failed: %s", (int)pid, strerror(errno));
        else if (pid > 0)
            w->entries.at[kept++] = w->entries.at[i];
    }
    return w->entries.count = kept;
}

/* The sessions that anvil still knew are kicked; who had ended meanwhile is not named. */
static size_t kick_entries(struct who *w)
{
    FILE *out, *in = anvil_stream(w->d, &out);
    char line[128];
    size_t kept = 0;

    for (size_t i = 0; i < w->entries.count; i++) {
        fprintf(out, "KICK\t%s\t%d\n", w->entries.at[i].ident, (int)w->entries.at[i].pid);
        fflush(out);
        if (fgets(line, sizeof(line), in) == NULL) {
            if (i > 0)
                doveadm_fatal(DOVEADM_TEMPFAIL, "anvil gave no answer");
            fclose(in);
            fclose(out);
            return kick_processes(w);
        }
        if (line[0] == '+')
            w->entries.at[kept++] = w->entries.at[i];
    }
    fclose(in);
    fclose(out);
    return w->entries.count = kept;
}

int doveadm_kick(struct doveadm *d)
{
    struct who w = {.d = d};
    bool terminal = isatty(STDOUT_FILENO) == 1;
    int status;
    size_t n;

    doveadm_list(d, "mask", &n);
    if (n == 0) {
        log_error(NULL, "user and/or ip[/bits] must be specified.");
        return DOVEADM_USAGE;
    }
    status = read_masks(&w, "mask");
    if (status != DOVEADM_OK)
        return status;
    ask_anvil(&w);
    if (w.entries.count == 0 || kick_entries(&w) == 0) {
        printf("no users kicked\n");
        VEC_FREE(&w.entries);
        VEC_FREE(&w.others);
        return DOVEADM_NOTFOUND;
    }
    /* In a pipe the names come first, and scripts may have got used to it. */
    if (terminal)
        printf("kicked connections from the following users:\n");
    for (size_t i = 0; i < w.entries.count; i++)
        if (!was_named(&w, i))
            printf("%s ", w.entries.at[i].user);
    printf(terminal ? "\n" : "kicked connections from the following users:\n\n");
    VEC_FREE(&w.entries);
    VEC_FREE(&w.others);
    return DOVEADM_OK;
}

static void print_penalty(struct doveadm *d, char *line, const char *network)
{
    char *fields[4], text[40], *rest = line;
    struct net_ip address;
    struct tm tm;
    time_t when;

    for (size_t i = 0; i < 4; i++)
        if ((fields[i] = strsep(&rest, "\t")) == NULL)
            doveadm_fatal(DOVEADM_TEMPFAIL, "Read invalid penalty line from anvil");
    if (network != NULL && (!net_ip_parse(slice_from_str(fields[0]), &address) || !net_ip_in(&address, network)))
        return;
    print_value(d, fields[0]);
    print_value(d, fields[1]);
    when = (time_t)strtoll(fields[2], NULL, 10);
    localtime_r(&when, &tm);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
    print_value(d, text);
    when = (time_t)strtoll(fields[3], NULL, 10);
    localtime_r(&when, &tm);
    strftime(text, sizeof(text), "%H:%M:%S", &tm);
    print_value(d, text);
}

static bool is_network(const char *text)
{
    struct slice rest = slice_from_str(text), ip, bits = SLICE_EMPTY;
    struct net_ip address;
    uint32_t number = 0;

    if (!slice_split(&rest, '/', &ip) || !net_ip_parse(ip, &address))
        return false;
    return strchr(text, '/') == NULL || (bits = rest, slice_to_u32(bits, &number) && number <= 128);
}

int doveadm_penalty(struct doveadm *d)
{
    const char *network = doveadm_text(d, "netmask");
    FILE *out, *in;
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    if (network != NULL && !is_network(network)) {
        log_error(NULL, "Invalid netmask '%s' given", network);
        return DOVEADM_USAGE;
    }
    in = anvil_stream(d, &out);
    print_init(d, "table");
    print_header_simple(d, "IP");
    print_header_simple(d, "penalty");
    print_header_simple(d, "last_penalty");
    print_header_simple(d, "last_update");
    fputs("PENALTY-DUMP\n", out);
    fflush(out);
    while ((n = getline(&line, &room, in)) > 1) {
        line[n - 1] = '\0';
        print_penalty(d, line, network);
    }
    if (n < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "anvil gave no answer");
    free(line);
    fclose(in);
    fclose(out);
    return DOVEADM_OK;
}
