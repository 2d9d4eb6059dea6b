/* Checks of services and listeners (config 7.2), and the warnings about limits (7.3). */
#include "conf/check.h"

#include "base/log.h"

#include <pwd.h>
#include <stdlib.h>
#include <uthash.h>

static int check_users(struct conf_check *c)
{
    static const enum setting users[] = {SET_default_login_user, SET_default_internal_user};
    for (size_t i = 0; i < 2; i++) {
        const char *name = conf_str(c->set, users[i]);
        if (getpwnam(name) == NULL)
            return error_set(c->e, ERROR_INVALID, "%s doesn't exist: %s", conf_name(users[i]), name);
    }
    return 0;
}

static bool has_protocol(const struct settings *set, const char *protocol)
{
    struct slice rest = slice_from_str(conf_str(set, SET_protocols)), word;
    while (check_next_word(&rest, " ", &word)) {
        if (slice_equal_str(word, protocol))
            return true;
    }
    return false;
}

static bool is_enabled(const struct settings *set, const struct conf_block *service)
{
    const char *protocol = conf_block_str(service, "protocol");
    return protocol[0] == '\0' || has_protocol(set, protocol);
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

struct seen {
    const char *name;
    UT_hash_handle hh;
};

/* True when the name was there already. */
static bool add_seen(struct conf_check *c, struct seen **all, const char *name)
{
    struct seen *seen;
    HASH_FIND_STR(*all, name, seen);
    if (seen != NULL)
        return true;
    seen = ARENA_NEW(c->arena, struct seen);
    seen->name = name;
    HASH_ADD_KEYPTR(hh, *all, seen->name, strlen(seen->name), seen);
    return false;
}

static bool is_type(const char *type)
{
    static const char *const types[] = {"", "log", "config", "anvil", "login", "startup", "worker"};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(type, types[i]) == 0)
            return true;
    }
    return false;
}

static int check_names(struct conf_check *c, const struct conf_block *const *services, size_t n)
{
    struct seen *all = NULL;
    int result = 0;
    for (size_t i = 0; i < n && result == 0; i++) {
        const char *name = conf_block_name(services[i]), *type = conf_block_str(services[i], "type");
        if (name[0] == '\0')
            result = error_set(c->e, ERROR_INVALID, "Service #%zu is missing name", i);
        else if (!is_type(type))
            result = error_set(c->e, ERROR_INVALID, "Unknown service type: %s", type);
        else if (add_seen(c, &all, name))
            result = error_set(c->e, ERROR_INVALID, "Duplicate service name: %s", name);
    }
    HASH_CLEAR(hh, all);
    return result;
}

static int check_protocols(struct conf_check *c, const struct conf_block *const *services, size_t n)
{
    const char *protocols = conf_str(c->set, SET_protocols);
    struct slice rest = slice_from_str(protocols), word;
    if (strcmp(protocols, "none") == 0)
        return 0;
    while (check_next_word(&rest, " ", &word)) {
        bool found = false;
        for (size_t i = 0; i < n && !found; i++)
            found = slice_equal_str(word, conf_block_str(services[i], "protocol"));
        if (!found)
            return error_set(c->e, ERROR_INVALID, "protocols: Unknown protocol: %.*s", WORD(word));
    }
    return 0;
}

/* ---- services --------------------------------------------------------------------------------------------------- */

static unsigned process_limit(const struct settings *set, const struct conf_block *service)
{
    unsigned limit = conf_block_uint(service, "process_limit");
    return limit != 0 ? limit : conf_uint(set, SET_default_process_limit);
}

static unsigned client_limit(const struct settings *set, const struct conf_block *service)
{
    unsigned limit = conf_block_uint(service, "client_limit");
    return limit != 0 ? limit : conf_uint(set, SET_default_client_limit);
}

static bool must_be_one_process(const char *name)
{
    size_t n;
    const struct conf_builtin *all = conf_builtin_services(&n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(all[i].name, name) == 0)
            return all[i].one_process;
    }
    return false;
}

static int check_limits(struct conf_check *c, const struct conf_block *service)
{
    const char *name = conf_block_name(service);
    unsigned limit = process_limit(c->set, service);
    uint64_t vsz = conf_block_size(service, "vsz_limit");
    if (conf_block_bool(service, "drop_priv_before_exec") && conf_block_str(service, "chroot")[0] != '\0')
        return error_set(c->e, ERROR_INVALID, "service(%s): drop_priv_before_exec=yes can't be used with chroot", name);
    if (conf_block_uint(service, "process_min_avail") > limit)
        return error_set(c->e, ERROR_INVALID, "service(%s): process_min_avail is higher than process_limit", name);
    if (vsz != 0 && vsz < 1024 * 1024)
        return error_set(c->e, ERROR_INVALID, "service(%s): vsz_limit is too low", name);
    if (limit > 1 && must_be_one_process(name))
        return error_set(c->e, ERROR_INVALID, "service(%s): process_limit must be 1", name);
    return 0;
}

static int check_path(struct conf_check *c, struct seen **all, const char *service, const char *kind, const char *path)
{
    const char *base = conf_str(c->set, SET_base_dir);
    size_t size = strlen(base);
    while (size > 0 && base[size - 1] == '/')
        size--;
    if (path[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "service(%s): %s: path must not be empty", service, kind);
    if (size > 0 && strncmp(path, base, size) == 0 && path[size] == '/')
        log_warning(NULL, "You should remove base_dir prefix from %s: %s", kind, path);
    const char *full = path[0] == '/' ? path : arena_printf(c->arena, "%.*s/%s", (int)size, base, path);
    if (add_seen(c, all, full))
        return error_set(c->e, ERROR_INVALID, "duplicate listener: %s", full);
    return 0;
}

static int check_listeners(struct conf_check *c, struct seen **all, const struct conf_block *service)
{
    static const struct {
        enum conf_block_kind kind;
        const char *word;
    } paths[] = {{BLOCK_UNIX_LISTENER, "unix_listener"}, {BLOCK_FIFO_LISTENER, "fifo_listener"}};
    size_t n;
    for (size_t k = 0; k < 2; k++) {
        const struct conf_block *const *at = conf_block_blocks(service, paths[k].kind, &n);
        for (size_t i = 0; i < n; i++) {
            if (conf_block_uint(at[i], "mode") != 0 &&
                check_path(c, all, conf_block_name(service), paths[k].word, conf_block_name(at[i])) < 0)
                return -1;
        }
    }
    const struct conf_block *const *at = conf_block_blocks(service, BLOCK_INET_LISTENER, &n);
    for (size_t i = 0; i < n; i++) {
        unsigned port = conf_block_uint(at[i], "port");
        if (port == 0)
            continue;
        const char *full = arena_printf(c->arena, "%u:%s", port, conf_block_str(at[i], "address"));
        if (add_seen(c, all, full))
            return error_set(c->e, ERROR_INVALID, "duplicate listener: %s", full);
    }
    return 0;
}

/* ---- limits of the services that everybody calls ---------------------------------------------------------------- */

struct load {
    uint64_t total;
    struct buffer text;
};

static void add_load(struct load *load, const struct settings *set, const struct conf_block *service)
{
    unsigned limit = process_limit(set, service);
    load->total += limit;
    buffer_printf(&load->text, "%sservice %s { process_limit=%u }", load->text.size > 0 ? " + " : "",
                  conf_block_name(service), limit);
}

static void warn_load(const struct settings *set, const char *name, const struct load *load, const char *counted)
{
    const struct conf_block *service = conf_block_find(set, BLOCK_SERVICE, name);
    if (service == NULL || client_limit(set, service) >= load->total)
        return;
    log_warning(NULL, "service %s { client_limit=%u } is lower than required under max. load (%u). %s: %.*s", name,
                client_limit(set, service), (unsigned)load->total, counted, (int)load->text.size,
                (const char *)load->text.at);
}

static void check_load(struct conf_check *c, const struct conf_block *const *services, size_t n)
{
    struct load auth = {0}, anvil = {.total = 2};
    for (size_t i = 0; i < n; i++) {
        const char *name = conf_block_name(services[i]);
        bool login = strcmp(conf_block_str(services[i], "type"), "login") == 0;
        if (!is_enabled(c->set, services[i]))
            continue;
        if (conf_block_str(services[i], "protocol")[0] != '\0' && strcmp(name, "imap-hibernate") != 0 &&
            (login || conf_block_uint(services[i], "service_count") != 1))
            add_load(&auth, c->set, services[i]);
        if (login || strcmp(name, "auth") == 0)
            add_load(&anvil, c->set, services[i]);
    }
    warn_load(c->set, "auth", &auth, "Counted for protocol services with service_count != 1");
    warn_load(c->set, "anvil", &anvil, "Counted with");
    buffer_free(&auth.text);
    buffer_free(&anvil.text);
}

int check_master(struct conf_check *c)
{
    size_t n;
    unsigned last_uid = conf_uint(c->set, SET_last_valid_uid), last_gid = conf_uint(c->set, SET_last_valid_gid);
    const struct conf_block *const *services = conf_blocks(c->set, BLOCK_SERVICE, &n);
    if (conf_str(c->set, SET_listen)[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "listen can't be set empty");
    if (last_uid != 0 && conf_uint(c->set, SET_first_valid_uid) > last_uid)
        return error_set(c->e, ERROR_INVALID, "first_valid_uid can't be larger than last_valid_uid");
    if (last_gid != 0 && conf_uint(c->set, SET_first_valid_gid) > last_gid)
        return error_set(c->e, ERROR_INVALID, "first_valid_gid can't be larger than last_valid_gid");
    if (check_users(c) < 0 || check_names(c, services, n) < 0 || check_protocols(c, services, n) < 0)
        return -1;
    struct seen *all = NULL;
    int result = 0;
    for (size_t i = 0; i < n && result == 0; i++) {
        if (!is_enabled(c->set, services[i]))
            continue;
        result = check_limits(c, services[i]);
        if (result == 0)
            result = check_listeners(c, &all, services[i]);
    }
    HASH_CLEAR(hh, all);
    if (result == 0 && !c->checker->told_limits) {
        check_load(c, services, n);
        c->checker->told_limits = true;
    }
    return result;
}
