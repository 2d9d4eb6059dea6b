/* From `service {}` blocks to units: limits, users, programs, listeners (config 10; texts of 10.3).
 *
 * Defaults: where neither client_limit nor service_count of a login or mail service is assigned, our own hold: one
 * login process serves many clients, and the dispatcher stands in front of mail workers that serve many sessions
 * (DECISIONS 1.2). As soon as one of the pair is assigned, both mean what they mean in Dovecot.
 *
 * Without root every service runs as the user who started master; a service that names another one cannot start. */
#include "master/master.h"

#include "rpc/service.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOGIN_PROCESSES_MAX 4 /* ahead, when nothing is assigned: one a core up to this */

/* Services that our dispatcher answers for, by the name of their program. */
static const char *const dispatched_programs[] = {"imap", "pop3", "submission", "managesieve", NULL};

struct build {
    struct generation *generation;
    struct settings *set;
    struct error *error;
};

/* ---- users and groups ------------------------------------------------------------------------------------------ */

/* "$default_internal_user" stands for a setting; *see is where an admin would change it. */
static const char *resolve(struct build *b, const char *value, const char *own_place, char **see)
{
    static const enum setting known[] = {SET_default_internal_user, SET_default_login_user,
                                         SET_default_internal_group};

    for (size_t i = 0; value[0] == '$' && i < sizeof(known) / sizeof(*known); i++) {
        if (strcmp(value + 1, conf_name(known[i])) != 0)
            continue;
        *see = mem_printf("%s setting", value + 1);
        return conf_str(b->set, known[i]);
    }
    *see = mem_strdup(own_place);
    return value;
}

static bool find_user(const char *name, uid_t *uid, gid_t *gid)
{
    struct passwd *pw;
    uint32_t number;

    if (slice_to_u32(slice_from_str(name), &number)) {
        pw = getpwuid(number);
        *uid = number;
        *gid = pw == NULL ? (gid_t)-1 : pw->pw_gid;
        return true;
    }
    pw = getpwnam(name);
    if (pw == NULL)
        return false;
    *uid = pw->pw_uid;
    *gid = pw->pw_gid;
    return true;
}

static bool find_group(const char *name, gid_t *gid)
{
    struct group *gr;
    uint32_t number;

    if (slice_to_u32(slice_from_str(name), &number)) {
        *gid = number;
        return true;
    }
    gr = getgrnam(name);
    if (gr == NULL)
        return false;
    *gid = gr->gr_gid;
    return true;
}

/* value "" leaves *uid and *gid alone. */
static int take_user(struct build *b, const char *service, const char *value, const char *place, uid_t *uid,
                     gid_t *gid)
{
    char *see;
    const char *name = resolve(b, value, place, &see);
    uid_t found_uid;
    gid_t found_gid;
    int result = 0;

    if (name[0] == '\0' || !b->generation->master->root) {
        /* Defaults become the user who runs master; a number or name that was written there must be possible. */
        if (name[0] != '\0' && value[0] != '$' && find_user(name, &found_uid, &found_gid) && found_uid != geteuid())
            result = error_set(b->error, ERROR_PERMISSION,
                               "service(%s) Can't run as user %s, because the master is not running as root (See %s)",
                               service, name, see);
    } else if (!find_user(name, &found_uid, &found_gid)) {
        result = error_set(b->error, ERROR_INVALID, "service(%s) User doesn't exist: %s (See %s)", service, name, see);
    } else {
        *uid = found_uid;
        if (gid != NULL)
            *gid = found_gid;
    }
    mem_free(see);
    return result;
}

static int take_group(struct build *b, const char *service, const char *value, const char *place, gid_t *gid)
{
    char *see;
    const char *name = resolve(b, value, place, &see);
    int result = 0;

    if (name[0] != '\0' && b->generation->master->root && !find_group(name, gid))
        result = error_set(b->error, ERROR_INVALID, "service(%s) Group doesn't exist: %s (See %s)", service, name,
                           see);
    mem_free(see);
    return result;
}

static int take_extra_groups(struct build *b, struct unit *unit, const char *list)
{
    struct slice rest = slice_from_str(list), word;
    struct buffer numbers = {0};
    char *place = mem_printf("service %s { extra_groups } setting", unit->name);
    int result = 0;

    while (result == 0 && rest.size > 0 && slice_split(&rest, ',', &word)) {
        char *name = mem_strndup(slice_trim(word));
        gid_t gid = (gid_t)-1;

        if (name[0] != '\0')
            result = take_group(b, unit->name, name, place, &gid);
        if (gid != (gid_t)-1)
            buffer_printf(&numbers, "%s%u", numbers.size == 0 ? "" : ",", gid);
        mem_free(name);
    }
    if (numbers.size > 0)
        unit->extra_gids = mem_strdup(buffer_cstr(&numbers));
    buffer_free(&numbers);
    mem_free(place);
    return result;
}

static int take_credentials(struct build *b, struct unit *unit, const struct conf_block *block)
{
    char *user = mem_printf("service %s { user } setting", unit->name);
    char *group = mem_printf("service %s { group } setting", unit->name);
    char *privileged = mem_printf("service %s { privileged_group } setting", unit->name);
    const char *name = conf_block_str(block, "user");
    int result = -1;

    unit->uid = (uid_t)-1;
    unit->gid = unit->privileged_gid = (gid_t)-1;
    /* The front of lmtp parses what strangers send: ours is never root (DECISIONS 1.1). */
    if (strcmp(unit->name, "lmtp") == 0 && !conf_block_assigned(block, "user"))
        name = "$default_internal_user";
    if (take_user(b, unit->name, name, user, &unit->uid, &unit->gid) == 0 &&
        take_group(b, unit->name, conf_block_str(block, "group"), group, &unit->gid) == 0 &&
        take_group(b, unit->name, conf_block_str(block, "privileged_group"), privileged, &unit->privileged_gid) == 0 &&
        take_extra_groups(b, unit, conf_block_str(block, "extra_groups")) == 0)
        result = 0;
    mem_free(user);
    mem_free(group);
    mem_free(privileged);
    return result;
}

/* ---- programs -------------------------------------------------------------------------------------------------- */

static bool runnable(const char *path)
{
    return access(path, X_OK) == 0;
}

static char **split_words(const char *text)
{
    struct slice rest = slice_from_str(text), word;
    VEC(char *) words = {0};

    while (rest.size > 0 && slice_split(&rest, ' ', &word))
        if (word.size > 0)
            VEC_PUSH(&words, mem_strndup(word));
    VEC_PUSH(&words, NULL);
    return words.at;
}

static void prepend_word(char ***words, char *word)
{
    size_t n = 0;

    while ((*words)[n] != NULL)
        n++;
    *words = mem_realloc(*words, (n + 2) * sizeof(**words));
    memmove(*words + 1, *words, (n + 1) * sizeof(**words));
    (*words)[0] = word;
}

static bool is_dispatched(const char *program)
{
    for (size_t i = 0; dispatched_programs[i] != NULL; i++)
        if (strcmp(program, dispatched_programs[i]) == 0)
            return true;
    return false;
}

/* Ours first; where libexec_dir is assigned, what lies there and is not ours. An absolute path is as it is. */
static int take_executable(struct build *b, struct unit *unit, const struct conf_block *block)
{
    struct master *master = b->generation->master;
    const char *assigned = conf_assigned(b->set, SET_libexec_dir) ? conf_str(b->set, SET_libexec_dir) : NULL;
    char *program, *path;

    unit->argv = split_words(conf_block_str(block, "executable"));
    program = unit->argv[0];
    if (program == NULL)
        return error_set(b->error, ERROR_INVALID, "service(%s) executable is empty", unit->name);
    if (program[0] == '/') {
        if (!runnable(program))
            return error_set(b->error, ERROR_NOT_FOUND, "service(%s) access(%s) failed: %s", unit->name, program,
                             strerror(errno));
        return 0;
    }
    path = mem_printf("%s/%s", master->libexec_dir, program);
    if (is_dispatched(program) && runnable(path)) {
        /* `imap ARGS` becomes `dispatch imap ARGS`; the dispatcher starts the workers. */
        unit->dispatched = true;
        mem_free(path);
        path = mem_printf("%s/dispatch", master->libexec_dir);
        prepend_word(&unit->argv, path);
        program = NULL;
    } else {
        unit->dispatched = strcmp(program, "dispatch") == 0;
        if (!runnable(path) && assigned != NULL) {
            mem_free(path);
            path = mem_printf("%s/%s", assigned, program);
        }
        unit->argv[0] = path;
    }
    if (!runnable(path)) {
        if (program != NULL && conf_block_assigned(block, "executable")) {
            (void)error_set(b->error, ERROR_NOT_FOUND, "service(%s) access(%s) failed: %s", unit->name, path,
                            strerror(errno));
            mem_free(program);
            return -1;
        }
        unit->absent = true;
    }
    mem_free(program);
    return 0;
}

/* ---- limits ---------------------------------------------------------------------------------------------------- */

static unsigned cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n < 1 ? 1 : (unsigned)n;
}

static void prepend_options(struct unit *unit, unsigned per_worker, unsigned worker_count)
{
    char *program = unit->argv[0];

    unit->argv[0] = mem_printf("-v%llu", (unsigned long long)unit->vsz_limit);
    prepend_word(&unit->argv, mem_printf("-k%u", unit->idle_kill));
    prepend_word(&unit->argv, mem_printf("-n%u", worker_count));
    prepend_word(&unit->argv, mem_printf("-l%u", per_worker));
    prepend_word(&unit->argv, program);
}

static void take_limits(struct build *b, struct unit *unit, const struct conf_block *block)
{
    bool assigned = conf_block_assigned(block, "client_limit") || conf_block_assigned(block, "service_count");
    uint64_t vsz = conf_block_size(block, "vsz_limit");
    unsigned idle = conf_block_secs(block, "idle_kill");

    unit->process_limit = conf_block_uint(block, "process_limit");
    if (unit->process_limit == 0)
        unit->process_limit = conf_uint(b->set, SET_default_process_limit);
    unit->client_limit = conf_block_uint(block, "client_limit");
    if (unit->client_limit == 0)
        unit->client_limit = conf_uint(b->set, SET_default_client_limit);
    unit->service_count = conf_block_uint(block, "service_count");
    unit->process_min_avail = conf_block_uint(block, "process_min_avail");
    unit->idle_kill = idle == 0 ? conf_secs(b->set, SET_default_idle_kill) : idle;
    unit->vsz_limit = vsz == CONF_SIZE_DEFAULT ? conf_size(b->set, SET_default_vsz_limit) : vsz;

    if (!assigned && unit->type == UNIT_LOGIN) {
        unit->service_count = 0;
        if (unit->process_min_avail == 0 && !conf_block_assigned(block, "process_min_avail")) {
            unit->process_min_avail = cores() < LOGIN_PROCESSES_MAX ? cores() : LOGIN_PROCESSES_MAX;
            if (unit->process_min_avail > unit->process_limit)
                unit->process_min_avail = unit->process_limit;
        }
    } else if (!assigned && strcmp(unit->name, "lmtp") == 0) {
        unit->client_limit = conf_uint(b->set, SET_default_client_limit);
    }
    if (unit->service_count > 0 && unit->client_limit > unit->service_count)
        unit->client_limit = unit->service_count;
    unit->configured_process_limit = unit->process_limit;
    unit->configured_client_limit = unit->client_limit;
    if (unit->dispatched) {
        /* One dispatcher; process_limit is the number of sessions. It gets the limits of its workers as options. */
        prepend_options(unit, assigned ? unit->client_limit : 0, assigned ? unit->service_count : 0);
        unit->client_limit = unit->process_limit;
        unit->idle_kill = CONF_TIME_NEVER;
        unit->process_limit = 1;
        unit->service_count = 0;
        unit->process_min_avail = unit->process_min_avail > 0 ? 1 : 0;
    }
    if (unit->type == UNIT_LOG || unit->type == UNIT_ANVIL)
        unit->process_min_avail = 1;
}

/* ---- listeners ------------------------------------------------------------------------------------------------- */

static struct listener *add_listener(struct unit *unit, enum listener_kind kind, char *name)
{
    struct listener *listener;

    unit->listeners = mem_realloc(unit->listeners, (unit->listener_count + 1) * sizeof(*unit->listeners));
    listener = &unit->listeners[unit->listener_count++];
    *listener = (struct listener){.kind = kind, .name = name, .uid = (uid_t)-1, .gid = (gid_t)-1, .fd = -1,
                                  .unit = unit};
    return listener;
}

static int add_file_listener(struct build *b, struct unit *unit, enum listener_kind kind,
                             const struct conf_block *block)
{
    static const char *const words[] = {"unix_listener", "fifo_listener"};
    const char *path = conf_block_name(block), *word = words[kind == LISTENER_FIFO], *slash = strrchr(path, '/');
    struct listener *listener;
    char *user, *group;
    int result;

    if (conf_block_uint(block, "mode") == 0)
        return 0;
    listener = add_listener(unit, kind, mem_strdup(slash == NULL ? path : slash + 1));
    listener->path = path[0] == '/' ? mem_strdup(path) : mem_printf("%s/%s", b->generation->master->base_dir, path);
    listener->mode = conf_block_uint(block, "mode");
    user = mem_printf("service %s { %s %s { user } } setting", unit->name, word, path);
    group = mem_printf("service %s { %s %s { group } } setting", unit->name, word, path);
    result = take_user(b, unit->name, conf_block_str(block, "user"), user, &listener->uid, NULL);
    if (result == 0)
        result = take_group(b, unit->name, conf_block_str(block, "group"), group, &listener->gid);
    mem_free(user);
    mem_free(group);
    return result;
}

static void add_inet(struct unit *unit, const struct conf_block *block, const struct net_ip *ip, const char *text)
{
    struct listener *listener = add_listener(unit, LISTENER_INET, mem_strdup(conf_block_name(block)));

    listener->at = (struct net_endpoint){*ip, (uint16_t)conf_block_uint(block, "port")};
    listener->address = mem_strdup(text);
    listener->ssl = conf_block_bool(block, "ssl");
    listener->haproxy = conf_block_bool(block, "haproxy");
    listener->reuse_port = conf_block_bool(block, "reuse_port");
}

static int add_resolved(struct build *b, struct unit *unit, const struct conf_block *block, const char *host)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int status = getaddrinfo(host, NULL, &hints, &list);

    if (status != 0)
        return error_set(b->error, ERROR_NOT_FOUND, "service(%s) Can't resolve address %s: %s", unit->name, host,
                         gai_strerror(status));
    if (list == NULL)
        return error_set(b->error, ERROR_NOT_FOUND, "service(%s) No IPs for address: %s", unit->name, host);
    for (struct addrinfo *at = list; at != NULL; at = at->ai_next) {
        struct net_endpoint end = net_endpoint_of(at->ai_addr);
        char text[NET_IP_TEXT];

        if (end.ip.family != 0)
            add_inet(unit, block, &end.ip, net_ip_text(&end.ip, text));
    }
    freeaddrinfo(list);
    return 0;
}

static int add_inet_listener(struct build *b, struct unit *unit, const struct conf_block *block)
{
    const char *addresses = conf_block_str(block, "address");
    struct slice rest;

    if (conf_block_uint(block, "port") == 0)
        return 0;
    if (conf_block_bool(block, "ssl") && strcmp(conf_text(b->set, SET_ssl), "no") == 0)
        return 0;
    if (addresses[0] == '\0')
        addresses = conf_str(b->set, SET_listen);
    rest = slice_from_str(addresses);
    while (rest.size > 0) {
        size_t size = 0;
        struct slice word;
        struct net_ip ip = {0};
        char *text;
        int result = 0;

        while (size < rest.size && rest.at[size] != ' ' && rest.at[size] != ',')
            size++;
        word = slice_head(rest, size);
        rest = slice_from(rest, size + 1);
        if (word.size == 0)
            continue;
        if (word.size > 2 && word.at[0] == '[' && word.at[word.size - 1] == ']')
            word = slice_head(slice_from(word, 1), word.size - 2);
        text = mem_strndup(word);
        if (strcmp(text, "*") == 0)
            ip.family = AF_INET;
        else if (!net_ip_parse(word, &ip))
            result = add_resolved(b, unit, block, text);
        if (ip.family != 0)
            add_inet(unit, block, &ip, text);
        mem_free(text);
        if (result < 0)
            return -1;
    }
    return 0;
}

static int take_listeners(struct build *b, struct unit *unit, const struct conf_block *block)
{
    static const enum conf_block_kind kinds[] = {BLOCK_UNIX_LISTENER, BLOCK_FIFO_LISTENER, BLOCK_INET_LISTENER};

    for (size_t k = 0; k < 3; k++) {
        size_t n;
        const struct conf_block *const *blocks = conf_block_blocks(block, kinds[k], &n);

        for (size_t i = 0; i < n; i++) {
            int result = kinds[k] == BLOCK_INET_LISTENER
                             ? add_inet_listener(b, unit, blocks[i])
                             : add_file_listener(b, unit, k == 0 ? LISTENER_UNIX : LISTENER_FIFO, blocks[i]);

            if (result < 0)
                return -1;
        }
    }
    return 0;
}

/* ---- units ----------------------------------------------------------------------------------------------------- */

static enum unit_type type_of(const char *word)
{
    static const char *const words[] = {"", "log", "config", "anvil", "login", "startup", "worker"};

    for (size_t i = 1; i < sizeof(words) / sizeof(*words); i++)
        if (strcmp(word, words[i]) == 0)
            return (enum unit_type)i;
    return UNIT_PLAIN;
}

static bool protocol_enabled(const struct settings *set, const char *protocol)
{
    struct slice rest = slice_from_str(conf_str(set, SET_protocols)), word;

    if (protocol[0] == '\0')
        return true;
    while (rest.size > 0 && slice_split(&rest, ' ', &word))
        if (slice_equal_str(slice_trim(word), protocol))
            return true;
    return false;
}

static void init_unit(struct unit *unit, struct generation *generation, const char *name)
{
    unit->master = generation->master;
    unit->generation = generation;
    unit->name = mem_strdup(name);
    unit->log_read = unit->log_write = unit->status_read = unit->status_write = -1;
    unit->full_fd = unit->conf_fd = -1;
}

static int build_unit(struct build *b, struct unit *unit, const struct conf_block *block)
{
    const char *root = conf_block_str(block, "chroot");

    unit->type = type_of(conf_block_str(block, "type"));
    unit->protocol = mem_strdup(conf_block_str(block, "protocol"));
    if (root[0] == '/')
        unit->chroot = mem_strdup(root);
    else if (strcmp(root, ".") == 0)
        unit->chroot = mem_strdup(b->generation->master->base_dir);
    else if (root[0] != '\0')
        unit->chroot = mem_printf("%s/%s", b->generation->master->base_dir, root);
    unit->drop_before_exec = conf_block_bool(block, "drop_priv_before_exec");
    if (take_executable(b, unit, block) < 0)
        return -1;
    take_limits(b, unit, block);
    if (take_credentials(b, unit, block) < 0)
        return -1;
    return take_listeners(b, unit, block);
}

/* Deliveries: the front of lmtp hands them to a dispatcher of its own, which may become every user. */
static void build_delivery(struct build *b, struct unit *unit, const struct unit *lmtp)
{
    struct listener *listener;
    char *see;
    const char *user = resolve(b, "$default_internal_user", "", &see);

    unit->protocol = mem_strdup("lmtp");
    unit->argv = split_words("dispatch lmtp-deliver");
    mem_free(unit->argv[0]);
    unit->argv[0] = mem_printf("%s/dispatch", b->generation->master->libexec_dir);
    unit->dispatched = true;
    unit->absent = !runnable(unit->argv[0]);
    unit->uid = (uid_t)-1;
    unit->gid = unit->privileged_gid = (gid_t)-1;
    unit->process_limit = unit->configured_process_limit = 1;
    unit->client_limit = unit->configured_client_limit = lmtp->configured_process_limit;
    unit->idle_kill = lmtp->idle_kill;
    unit->vsz_limit = lmtp->vsz_limit;
    prepend_options(unit, 0, 0);
    unit->idle_kill = CONF_TIME_NEVER;
    if (lmtp->extra_gids != NULL)
        unit->extra_gids = mem_strdup(lmtp->extra_gids);
    listener = add_listener(unit, LISTENER_UNIX, mem_strdup("dispatch-lmtp"));
    listener->path = mem_printf("%s/dispatch-lmtp", b->generation->master->base_dir);
    listener->mode = 0600;
    listener->seqpacket = true;
    if (b->generation->master->root) {
        gid_t gid;

        /* Checked already: lmtp itself runs as this user, or as the one it names. */
        if (lmtp->uid != (uid_t)-1)
            listener->uid = lmtp->uid;
        else
            (void)find_user(user, &listener->uid, &gid);
    }
    mem_free(see);
}

static int check_types(struct generation *generation, struct error *error)
{
    for (size_t i = 0; i < generation->unit_count; i++) {
        struct unit *unit = &generation->units[i];
        struct unit **place = unit->type == UNIT_LOG      ? &generation->log
                              : unit->type == UNIT_CONFIG ? &generation->config
                              : unit->type == UNIT_ANVIL  ? &generation->anvil
                                                          : NULL;

        if (place == NULL)
            continue;
        if (*place != NULL)
            return error_set(error, ERROR_INVALID, "Multiple %s services specified",
                             unit->type == UNIT_LOG      ? "log"
                             : unit->type == UNIT_CONFIG ? "config"
                                                         : "anvil");
        *place = unit;
    }
    if (generation->log == NULL)
        return error_set(error, ERROR_INVALID, "log service not specified");
    if (generation->config == NULL)
        return error_set(error, ERROR_INVALID, "config process not specified");
    if (generation->anvil == NULL)
        return error_set(error, ERROR_INVALID, "anvil service not specified");
    if (generation->config->listener_count == 0)
        return error_set(error, ERROR_INVALID, "service(config) Service must have unix listeners");
    return 0;
}

int generation_new(struct master *master, struct conf *conf, struct generation **out, struct error *error)
{
    struct generation *generation = mem_zero(1, sizeof(*generation));
    struct build b = {.generation = generation, .error = error};
    const struct conf_block *const *blocks;
    const struct unit *lmtp = NULL;
    size_t n;

    generation->master = master;
    generation->dead_read = generation->dead_write = -1;
    generation->set = b.set = conf_settings(conf, NULL, error);
    if (b.set == NULL) {
        mem_free(generation);
        return -1;
    }
    blocks = conf_blocks(b.set, BLOCK_SERVICE, &n);
    generation->units = mem_zero(n + 1, sizeof(*generation->units)); /* + the delivery dispatcher */
    for (size_t i = 0; i < n; i++) {
        struct unit *unit = &generation->units[generation->unit_count];

        if (!protocol_enabled(b.set, conf_block_str(blocks[i], "protocol")))
            continue;
        init_unit(unit, generation, conf_block_name(blocks[i]));
        generation->unit_count++;
        if (build_unit(&b, unit, blocks[i]) < 0)
            goto failed;
        if (strcmp(unit->name, "lmtp") == 0 && strncmp(unit->argv[0], master->libexec_dir,
                                                       strlen(master->libexec_dir)) == 0)
            lmtp = unit;
    }
    if (lmtp != NULL) {
        struct unit *unit = &generation->units[generation->unit_count++];

        init_unit(unit, generation, "lmtp-deliver");
        build_delivery(&b, unit, lmtp);
    }
    if (check_types(generation, error) < 0)
        goto failed;
    generation->conf = conf;
    *out = generation;
    return 0;
failed:
    generation_free(generation);
    return -1;
}

struct unit *generation_find(struct generation *generation, const char *name)
{
    for (size_t i = 0; i < generation->unit_count; i++)
        if (strcmp(generation->units[i].name, name) == 0)
            return &generation->units[i];
    return NULL;
}

static void unit_free(struct unit *unit)
{
    listeners_close(unit);
    pipes_close_unit(unit);
    for (size_t i = 0; i < unit->listener_count; i++)
        listener_free(&unit->listeners[i]);
    mem_free(unit->listeners);
    if (unit->conf_fd >= 0)
        (void)close(unit->conf_fd);
    for (size_t i = 0; unit->argv != NULL && unit->argv[i] != NULL; i++)
        mem_free(unit->argv[i]);
    mem_free(unit->argv);
    mem_free(unit->name);
    mem_free(unit->protocol);
    mem_free(unit->extra_gids);
    mem_free(unit->chroot);
}

/* The configuration goes too, unless the generation never got it (a failed start). */
void generation_free(struct generation *generation)
{
    for (size_t i = 0; i < generation->unit_count; i++)
        unit_free(&generation->units[i]);
    if (generation->dead_read >= 0)
        (void)close(generation->dead_read);
    if (generation->dead_write >= 0)
        (void)close(generation->dead_write);
    settings_unref(generation->set);
    conf_free(generation->conf);
    mem_free(generation->units);
    mem_free(generation);
}
