/* The environment of children (ipc 2.1): what import_environment names, and what master tells them. Everything else
 * of master's own environment is dropped. */
#include "master/master.h"

#include "rpc/dispatch.h"
#include "rpc/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static const char always[] = "TZ CORE_OUTOFMEM CORE_ERROR LISTEN_PID LISTEN_FDS NOTIFY_SOCKET";

/* Names that concern master alone: a child that answered to systemd would confuse it. */
static bool masters_own(struct slice name)
{
    return slice_equal_str(name, "LISTEN_PID") || slice_equal_str(name, "LISTEN_FDS") ||
           slice_equal_str(name, "NOTIFY_SOCKET");
}

static void add_word(struct buffer *names, struct slice name)
{
    if (names->size > 0)
        buffer_append_byte(names, ' ');
    buffer_append_slice(names, name);
}

static void make_ticket_key(struct master *master)
{
    unsigned char key[32];
    struct buffer hex = {0};

    if (master->ticket_key[0] != '\0')
        return; /* sessions at rest outlive a reload */
    if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
        log_fatal(EXIT_FATAL, "getrandom() failed: %m");
    text_hex_encode(&hex, slice_of(key, sizeof(key)));
    memcpy(master->ticket_key, hex.at, sizeof(key) * 2);
    buffer_wipe(&hex);
}

void environment_prepare(struct master *master, const struct settings *set)
{
    struct slice rest = slice_from_str(conf_str(set, SET_import_environment)), word;
    VEC(char *) list = {0};
    struct buffer names = {0};

    make_ticket_key(master);
    while (rest.size > 0 && slice_split(&rest, ' ', &word)) {
        ptrdiff_t equal = slice_find(word, '=');
        struct slice name = equal < 0 ? word : slice_head(word, (size_t)equal);
        char *copy;
        const char *value;

        if (name.size == 0)
            continue;
        add_word(&names, name);
        copy = mem_strndup(name);
        value = getenv(copy);
        if (equal >= 0)
            VEC_PUSH(&list, mem_strndup(word));
        else if (value != NULL && !masters_own(name))
            VEC_PUSH(&list, mem_printf("%s=%s", copy, value));
        mem_free(copy);
    }
#ifdef FAULTS
    {
        /* Fault tests reach every service (base/os.h). */
        static const char *const tests[] = {"YARILO_FAULT", "YARILO_TRACE_FD", "YARILO_SLICE_UNITS", NULL};

        for (size_t i = 0; tests[i] != NULL; i++)
            if (getenv(tests[i]) != NULL)
                VEC_PUSH(&list, mem_printf("%s=%s", tests[i], getenv(tests[i])));
    }
#endif
    add_word(&names, slice_from_str(always));
    VEC_PUSH(&list, NULL);
    master->environment = list.at;
    master->preserve_names = mem_strdup(buffer_cstr(&names));
    buffer_free(&names);
}

#define ADD(...) VEC_PUSH(&list, arena_printf(arena, __VA_ARGS__))

char **environment_for(struct arena *arena, struct unit *unit, uint32_t number, int conf_fd, size_t sockets,
                       size_t unnamed)
{
    struct master *master = unit->master;
    const struct settings *set = unit->generation->set;
    const char *stats = conf_str(set, SET_stats_writer_socket_path);
    VEC(char *) list = {0};
    char **copy;

    for (size_t i = 0; master->environment[i] != NULL; i++)
        VEC_PUSH(&list, master->environment[i]);
    ADD("DOVECOT_CHILD_PROCESS=1");
    /* Stock programs ask the config socket; ours read the snapshot. The config service itself reads the file. */
    if (unit->type == UNIT_CONFIG)
        ADD("CONFIG_FILE=%s", master->config_path);
    else
        ADD("CONFIG_FILE=%s/config", master->base_dir);
    if (conf_fd >= 0)
        ADD(CONF_FD_ENV "=%d", conf_fd);
    ADD("SERVICE_NAME=%s", unit->name);
    ADD("GENERATION=%u", number);
    ADD("CLIENT_LIMIT=%u", unit->client_limit);
    ADD("PROCESS_LIMIT=%u", unit->process_limit);
    ADD("PROCESS_MIN_AVAIL=%u", unit->process_min_avail);
    ADD("IDLE_KILL=%u", unit->idle_kill);
    if (unit->service_count != 0)
        ADD("SERVICE_COUNT=%u", unit->service_count);
    ADD("SOCKET_COUNT=%zu", sockets + unnamed);
    /* The log process knows the prefixes from the pipes; one that follows a crashed one does not. */
    for (size_t i = 0, n = 0; unit->type == UNIT_LOG && i <= unit->generation->unit_count; i++) {
        if (i == 0)
            ADD("SOCKET%zu_SETTINGS=MASTER", n++);
        else if (unit->generation->units[i - 1].type != UNIT_LOG)
            ADD("SOCKET%zu_SETTINGS=%s: ", n++,
                text_tab_escaped(arena, slice_from_str(unit->generation->units[i - 1].name)));
    }
    for (size_t i = 0, n = unnamed; i < unit->listener_count; i++) {
        const struct listener *listener = &unit->listeners[i];

        if (listener->fd < 0)
            continue;
        ADD("SOCKET%zu_SETTINGS=%s%s%s", n++, text_tab_escaped(arena, slice_from_str(listener->name)),
            listener->ssl ? "\tssl" : "", listener->haproxy ? "\thaproxy" : "");
    }
    ADD("LOG_SERVICE=1");
    ADD("LOG_DEBUG=%s", conf_str(set, SET_log_debug));
    /* In a chroot the socket is the one that lies there. */
    if ((unit->chroot != NULL && master->root) || stats[0] == '/' || stats[0] == '\0')
        ADD("STATS_WRITER_SOCKET_PATH=%s", stats);
    else
        ADD("STATS_WRITER_SOCKET_PATH=%s/%s", master->base_dir, stats);
    ADD("DOVECOT_VERSION=" SERVICE_COMPAT_VERSION);
    ADD("DOVECOT_HOSTNAME=%s", master->hostname);
    ADD("DOVECOT_HOSTDOMAIN=%s", master->hostdomain);
    ADD("DOVECOT_PRESERVE_ENVS=%s", master->preserve_names);
    if (master->root) {
        if (unit->uid != (uid_t)-1)
            ADD("RESTRICT_SETUID=%u", unit->uid);
        if (unit->gid != (gid_t)-1)
            ADD("RESTRICT_SETGID=%u", unit->gid);
        if (unit->privileged_gid != (gid_t)-1)
            ADD("RESTRICT_SETGID_PRIV=%u", unit->privileged_gid);
        if (unit->extra_gids != NULL)
            ADD("RESTRICT_SETEXTRAGROUPS=%s", unit->extra_gids);
        if (unit->chroot != NULL)
            ADD("RESTRICT_CHROOT=%s", unit->chroot);
    }
    if (master->ssl_key_password != NULL && unit->type == UNIT_LOGIN)
        ADD("SSL_KEY_PASSWORD=%s", master->ssl_key_password);
    if (unit->dispatched)
        ADD(DISPATCH_TICKET_ENV "=%s", master->ticket_key);
    if (unit->type == UNIT_ANVIL && master->anvil_restarted)
        ADD("ANVIL_RESTARTED=1");
    VEC_PUSH(&list, NULL);
    copy = arena_copy(arena, list.at, list.count * sizeof(*list.at));
    VEC_FREE(&list);
    return copy;
}
