/* From `service {}` blocks to units: limits, users, programs, listeners (config 10; texts of 10.3).
 *
 * Defaults: where neither client_limit nor service_count of a login or mail service is assigned, our own hold: one
 * login process serves many clients, and the dispatcher stands in front of mail workers that serve many sessions
 * (DECISIONS 1.2). As soon as one of the pair is assigned, both mean what they mean in Dovecot. */
#include "master/services.h"

#include "rpc/service.h"

#include <errno.h>
#include <unistd.h>

#define SESSIONS_MAX 1000000
#define LOGIN_PROCESSES_MAX 4 /* ahead, when nothing is assigned: one a core up to this */

/* Services that our dispatcher answers for, by the name of their program. */
static const char *const dispatched_programs[] = {"imap", "pop3", "submission", "managesieve", "indexer-worker", NULL};

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

/* Whose clients are people: those of imap-urlauth-login are sessions, and few. */
static bool faces_the_network(const struct conf_block *block)
{
    size_t n;

    (void)conf_block_blocks(block, BLOCK_INET_LISTENER, &n);
    return n > 0;
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
        if (unit->process_min_avail == 0 && !conf_block_assigned(block, "process_min_avail") && faces_the_network(block)) {
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
        /* One dispatcher, for as many sessions as that many processes of the real server take. It gets the limits of its
         * workers as options. */
        uint64_t sessions = (uint64_t)unit->process_limit * (assigned ? unit->client_limit : 1);

        prepend_options(unit, assigned ? unit->client_limit : 0, assigned ? unit->service_count : 0);
        unit->client_limit = sessions < SESSIONS_MAX ? (unsigned)sessions : SESSIONS_MAX;
        unit->idle_kill = CONF_TIME_NEVER;
        unit->process_limit = 1;
        unit->service_count = 0;
        unit->process_min_avail = unit->process_min_avail > 0 ? 1 : 0;
    }
    if (unit->type == UNIT_LOG || unit->type == UNIT_ANVIL)
        unit->process_min_avail = 1;
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
    if (service_take_credentials(b, unit, block) < 0)
        return -1;
    return service_take_listeners(b, unit, block);
}

static bool runs(const struct master *master, const struct unit *unit, const char *program)
{
    size_t n = strlen(master->libexec_dir);

    return strncmp(unit->argv[0], master->libexec_dir, n) == 0 && unit->argv[0][n] == '/' && strcmp(unit->argv[0] + n + 1, program) == 0;
}

/* Deliveries: the front of lmtp (and quota-status, which asks for room) hands them to a dispatcher of its own, which may become every user. */
static void build_delivery(struct build *b, struct unit *unit, const struct unit *lmtp)
{
    struct listener *listener;
    char *see;
    const char *user = service_resolve(b, "$default_internal_user", "", &see);

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
    listener = service_add_listener(unit, LISTENER_UNIX, mem_strdup("dispatch-lmtp"));
    listener->path = mem_printf("%s/dispatch-lmtp", b->generation->master->base_dir);
    listener->mode = 0600;
    listener->seqpacket = true;
    if (b->generation->master->root) {
        gid_t gid;

        /* Checked already: lmtp itself runs as this user, or as the one it names. */
        if (lmtp->uid != (uid_t)-1)
            listener->uid = lmtp->uid;
        else
            (void)service_find_user(user, &listener->uid, &gid);
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
        /* Whoever hands in jobs; lmtp's own limits and user count where both are there. */
        if ((strcmp(unit->name, "lmtp") == 0 || (lmtp == NULL && runs(master, unit, "quota-status"))) &&
            strncmp(unit->argv[0], master->libexec_dir, strlen(master->libexec_dir)) == 0)
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
