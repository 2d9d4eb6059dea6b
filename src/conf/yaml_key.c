/* The named keys (config-yaml 3): one table of paths, and the walk that compares a document with it.
 *
 * "*" stands for any name. A key that no path begins with is a fault that names the nearest one. */
#include "conf/yaml_key.h"

#include <stdlib.h>

enum { PARTS_MOST = 6 };

struct found {
    struct yaml *y;
    const struct yaml_node *node;
    const char *parts[PARTS_MOST]; /* of the path in the document */
    enum setting set;
};

/* ---- what a key does -------------------------------------------------------------------------------------------- */

static void set(struct found *f)
{
    yaml_set_global(f->y, f->set, f->node);
}

static void set_file(struct found *f)
{
    if (f->set == SET_ssl_cert)
        f->y->ssl_at = f->node;
    yaml_set_file(f->y, f->y->tree->global, f->set, f->node);
}

static void set_domain(struct found *f)
{
    yaml_set_file(f->y, yaml_local_name(f->y, f->parts[3], f->node), f->set, f->node);
}

static void set_mode(struct found *f)
{
    f->y->single = f->node->kind == YAML_TEXT && strcmp(f->node->text, "single") == 0;
    set(f);
}

static void set_level(struct found *f)
{
    static const enum setting debug[] = {SET_mail_debug, SET_auth_debug};
    const char *environment = getenv("LOG_LEVEL");
    struct yaml_node node = *f->node;
    if (environment != NULL && environment[0] != '\0')
        node = (struct yaml_node){
            .kind = YAML_TEXT, .text = environment, .file = node.file, .line = node.line, .column = node.column};
    yaml_set_global(f->y, SET_log_level, &node);
    for (size_t i = 0; node.kind == YAML_TEXT && strcmp(node.text, "debug") == 0 && i < 2; i++) {
        struct yaml_node yes = node;
        yes.text = "yes";
        yaml_set_global(f->y, debug[i], &yes);
    }
}

static void read_databases(struct found *f)
{
    struct conf_level *global = f->y->tree->global;
    unsigned def = (unsigned)conf_scope_find(conf_scope_global(), slice_from_str(f->parts[1]));
    if (f->node->kind != YAML_LIST) {
        FAULT(f->y, f->node, "%s: a list of maps was expected", f->parts[1]);
        return;
    }
    f->y->auth_at = f->node;
    for (const struct yaml_node *item = f->node->items; item != NULL; item = item->next)
        yaml_read_block(f->y, global, &global->section, def, "", item);
}

/* A path of a passwd-file, or maps like those of passdb. */
static void read_masters(struct found *f)
{
    struct yaml *y = f->y;
    struct conf_section *global = &y->tree->global->section;
    unsigned def = (unsigned)conf_scope_find(conf_scope_global(), SLICE("passdb"));
    if (f->node->kind == YAML_TEXT) {
        struct conf_section *passdb = yaml_entry(y, global, "passdb", "", f->node);
        yaml_member(y, passdb, "driver", "passwd-file", f->node);
        yaml_member(y, passdb, "args", f->node->text, f->node);
        yaml_member(y, passdb, "master", "yes", f->node);
        return;
    }
    for (const struct yaml_node *item = f->node->items; item != NULL; item = item->next) {
        yaml_read_block(y, y->tree->global, global, def, "", item);
        yaml_member(y, &conf_section_list(global, def)->last->section, "master", "yes", item);
    }
}

/* protocol.X: a name with the protocol's prefix is the setting itself, another one holds for the protocol only. */
static void set_protocol(struct found *f)
{
    const char *protocol = f->parts[1];
    unsigned def = (unsigned)conf_setting_def(f->set);
    if (strcmp(protocol, "managesieve") == 0)
        protocol = "sieve";
    if (strncmp(conf_name(f->set), f->parts[1], strlen(f->parts[1])) == 0) {
        set(f);
        return;
    }
    struct conf_level *level = yaml_protocol(f->y, protocol, f->node);
    yaml_set(f->y, level, &level->section, def, f->node);
}

static void set_acl(struct found *f)
{
    bool on;
    if (!yaml_bool(f->y, f->node, &on) || !on)
        return;
    buffer_append_str(&f->y->plugins, " acl");
    buffer_append_str(&f->y->imap_plugins, " imap_acl");
    yaml_set_pair(f->y, f->y->tree->global, STRLIST_plugin, "acl", "vfile", f->node);
}

static void set_compression(struct found *f)
{
    struct yaml *y = f->y;
    const struct yaml_node *name = f->node, *level = NULL;
    if (f->node->kind == YAML_MAP) {
        name = yaml_get(f->node, "algorithm");
        level = yaml_get(f->node, "level");
        for (const struct yaml_pair *pair = f->node->first; pair != NULL; pair = pair->next) {
            if (pair->value != name && pair->value != level)
                yaml_fault(y->faults, pair->value->file, pair->key_line, pair->key_column,
                           "unknown key storage.compression.%s, did you mean %s?", pair->key,
                           yaml_distance(pair->key, "level") < yaml_distance(pair->key, "algorithm") ? "level"
                                                                                                     : "algorithm");
        }
    }
    if (name == NULL || name->kind != YAML_TEXT) {
        FAULT(y, f->node, "compression: the name of an algorithm was expected");
        return;
    }
    if (name->null || strcmp(name->text, "no") == 0 || strcmp(name->text, "none") == 0)
        return;
    buffer_append_str(&y->plugins, " zlib");
    yaml_set_pair(y, y->tree->global, STRLIST_plugin, "zlib_save", name->text, name);
    if (level != NULL && yaml_text(y, level) != NULL)
        yaml_set_pair(y, y->tree->global, STRLIST_plugin, "zlib_save_level", level->text, level);
}

static void read_dict(struct found *f)
{
    struct yaml *y = f->y;
    const char *name = f->parts[1];
    if (f->node->kind == YAML_TEXT) {
        yaml_set_pair(y, y->tree->global, STRLIST_dict, name, f->node->text, f->node);
        return;
    }
    const struct yaml_node *driver = yaml_get(f->node, "driver"), *uri = yaml_get(f->node, "uri");
    if (driver == NULL || yaml_text(y, driver) == NULL) {
        FAULT(y, f->node, "dicts.%s: the driver is missing", name);
        return;
    }
    struct buffer text = {0};
    buffer_printf(&text, "%s:", driver->text);
    if (uri != NULL && yaml_text(y, uri) != NULL)
        buffer_append_str(&text, uri->text);
    bool first = uri == NULL;
    for (const struct yaml_pair *pair = f->node->first; pair != NULL; pair = pair->next) {
        if (pair->value == driver || pair->value == uri || yaml_text(y, pair->value) == NULL)
            continue;
        buffer_printf(&text, "%s%s=%s", first ? "" : ":", pair->key, pair->value->text);
        first = false;
    }
    yaml_set_pair(y, y->tree->global, STRLIST_dict, name, buffer_cstr(&text), f->node);
    buffer_free(&text);
}

static void read_namespace(struct found *f)
{
    struct conf_level *global = f->y->tree->global;
    unsigned def = (unsigned)conf_scope_find(conf_scope_global(), SLICE("namespace"));
    yaml_read_block(f->y, global, &global->section, def, f->parts[1], f->node);
}

static void keep_mailbox(struct found *f)
{
    f->y->mailbox = f->node;
}

static void keep_root(struct found *f)
{
    f->y->root = f->node;
    yaml_set_global(f->y, SET_storage_maildir_root, f->node);
}

static void keep_home(struct found *f)
{
    f->y->home = f->node;
}

static void keep_service(struct found *f)
{
    static const struct {
        const char *key;
        size_t offset;
    } fields[] = {
        {"port", offsetof(struct yaml_service, port)},
        {"address", offsetof(struct yaml_service, address)},
        {"ssl_mode", offsetof(struct yaml_service, ssl_mode)},
        {"ssl", offsetof(struct yaml_service, ssl_mode)},
        {"disable_plaintext_auth", offsetof(struct yaml_service, plaintext)},
        {"auth_allow_cleartext", offsetof(struct yaml_service, cleartext)},
        {"haproxy_protocol", offsetof(struct yaml_service, haproxy)},
        {"xclient_protocol", offsetof(struct yaml_service, xclient)},
        {"socket", offsetof(struct yaml_service, socket)},
        {"client_limit", offsetof(struct yaml_service, client_limit)},
        {"process_limit", offsetof(struct yaml_service, process_limit)},
    };
    struct yaml_service *service = &f->y->services[yaml_service_index(f->parts[1])];
    bool on;
    if (strcmp(f->parts[2], "enabled") == 0) {
        if (yaml_bool(f->y, f->node, &on))
            service->disabled = !on;
        return;
    }
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp(f->parts[2], fields[i].key) == 0)
            *(const struct yaml_node **)(void *)((char *)service + fields[i].offset) = f->node;
    }
}

static void nothing(struct found *f)
{
    (void)f;
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

struct row {
    const char *path;
    const char *also;             /* another name of the last component; both at once are a fault */
    void (*apply)(struct found *);
    enum setting set;
};

static const struct row rows[] = {
    {"mode", NULL, set_mode, SET_mode},
    {"include", NULL, nothing, 0},
    {"settings", NULL, nothing, 0},
    {"general.ssl.tls_cert", "ssl_server_cert_file", set_file, SET_ssl_cert},
    {"general.ssl.tls_key", "ssl_server_key_file", set_file, SET_ssl_key},
    {"general.ssl.domains.*.tls_cert", "ssl_server_cert_file", set_domain, SET_ssl_cert},
    {"general.ssl.domains.*.tls_key", "ssl_server_key_file", set_domain, SET_ssl_key},
    {"general.ssl.min_protocol", NULL, set, SET_ssl_min_protocol},
    {"general.ssl.ciphers", NULL, set, SET_ssl_cipher_list},
    {"general.ssl.client_ca", NULL, set_file, SET_ssl_ca},
    {"general.ssl.verify_client", NULL, set, SET_ssl_verify_client_cert},
    {"general.haproxy.trusted_nets", "haproxy_trusted_networks", set, SET_haproxy_trusted_networks},
    {"general.haproxy.timeout", NULL, set, SET_haproxy_timeout},
    {"general.xclient.trusted_nets", NULL, set, SET_general_xclient_trusted_nets},
    {"general.limits.mail_max_userip_connections", NULL, set, SET_mail_max_userip_connections},
    {"services.*.enabled", NULL, keep_service, 0},
    {"services.*.port", NULL, keep_service, 0},
    {"services.*.address", NULL, keep_service, 0},
    {"services.*.ssl_mode", "ssl", keep_service, 0},
    {"services.*.disable_plaintext_auth", "auth_allow_cleartext", keep_service, 0},
    {"services.*.haproxy_protocol", NULL, keep_service, 0},
    {"services.*.xclient_protocol", NULL, keep_service, 0},
    {"services.*.socket", NULL, keep_service, 0},
    {"services.*.client_limit", NULL, keep_service, 0},
    {"services.*.process_limit", NULL, keep_service, 0},
    {"protocol.imap.acl.enabled", NULL, set_acl, 0},
    {"protocol.submission.max_message_size", "submission_max_mail_size", set_protocol, SET_submission_max_mail_size},
    {"protocol.submission.received_header", NULL, set, SET_protocol_submission_received_header},
    {"protocol.submission.relay.host", NULL, set, SET_submission_relay_host},
    {"protocol.submission.relay.port", NULL, set, SET_submission_relay_port},
    {"protocol.submission.relay.ssl", NULL, set, SET_submission_relay_ssl},
    {"protocol.submission.relay.ssl_verify", NULL, set, SET_submission_relay_ssl_verify},
    {"protocol.submission.relay.user", NULL, set, SET_submission_relay_user},
    {"protocol.submission.relay.password", NULL, set, SET_submission_relay_password},
    {"protocol.submission.relay.trusted", NULL, set, SET_submission_relay_trusted},
    {"protocol.submission.relay.connect_timeout", NULL, set, SET_submission_relay_connect_timeout},
    {"protocol.submission.relay.command_timeout", NULL, set, SET_submission_relay_command_timeout},
    {"protocol.lmtp.hdr_delivery_address", NULL, set, SET_lmtp_hdr_delivery_address},
    {"protocol.lmtp.save_to_detail_mailbox", NULL, set, SET_lmtp_save_to_detail_mailbox},
    {"protocol.lmtp.user_concurrency_limit", NULL, set, SET_lmtp_user_concurrency_limit},
    {"protocol.lmtp.client_workarounds", NULL, set, SET_lmtp_client_workarounds},
    {"protocol.lmtp.proxy", NULL, set, SET_lmtp_proxy},
    {"protocol.lmtp.rcpt_check_quota", NULL, set, SET_lmtp_rcpt_check_quota},
    {"protocol.lmtp.add_received_header", NULL, set, SET_lmtp_add_received_header},
    {"protocol.managesieve.max_line_length", NULL, set, SET_managesieve_max_line_length},
    {"protocol.managesieve.max_compile_errors", NULL, set, SET_managesieve_max_compile_errors},
    {"protocol.managesieve.client_workarounds", NULL, set, SET_managesieve_client_workarounds},
    {"protocol.managesieve.logout_format", NULL, set, SET_managesieve_logout_format},
    {"protocol.managesieve.implementation_string", NULL, set, SET_managesieve_implementation_string},
    {"auth.mechanisms", NULL, set, SET_auth_mechanisms},
    {"auth.realms", NULL, set, SET_auth_realms},
    {"auth.default_realm", NULL, set, SET_auth_default_realm},
    {"auth.username_format", NULL, set, SET_auth_username_format},
    {"auth.username_chars", NULL, set, SET_auth_username_chars},
    {"auth.passdb", NULL, read_databases, 0},
    {"auth.userdb", NULL, read_databases, 0},
    {"auth.master_users", NULL, read_masters, 0},
    {"auth.cache.size", NULL, set, SET_auth_cache_size},
    {"auth.cache.ttl", NULL, set, SET_auth_cache_ttl},
    {"auth.cache.negative_ttl", NULL, set, SET_auth_cache_negative_ttl},
    {"auth.failure_delay", NULL, set, SET_auth_failure_delay},
    {"auth.policy.server_url", NULL, set, SET_auth_policy_server_url},
    {"auth.policy.server_api_header", NULL, set, SET_auth_policy_server_api_header},
    {"auth.policy.server_timeout_msecs", NULL, set, SET_auth_policy_server_timeout_msecs},
    {"auth.policy.hash_mech", NULL, set, SET_auth_policy_hash_mech},
    {"auth.policy.hash_nonce", NULL, set, SET_auth_policy_hash_nonce},
    {"auth.policy.hash_truncate", NULL, set, SET_auth_policy_hash_truncate},
    {"auth.policy.request_attributes", NULL, set, SET_auth_policy_request_attributes},
    {"auth.policy.reject_on_fail", NULL, set, SET_auth_policy_reject_on_fail},
    {"auth.policy.check_before_auth", NULL, set, SET_auth_policy_check_before_auth},
    {"auth.policy.check_after_auth", NULL, set, SET_auth_policy_check_after_auth},
    {"auth.policy.report_after_auth", NULL, set, SET_auth_policy_report_after_auth},
    {"auth.policy.log_only", NULL, set, SET_auth_policy_log_only},
    {"auth_service.listen", NULL, set, SET_auth_service_listen},
    {"auth_service.master_listen", NULL, set, SET_auth_service_master_listen},
    {"auth_service.mtls.cert", NULL, set, SET_auth_service_mtls_cert},
    {"auth_service.mtls.key", NULL, set, SET_auth_service_mtls_key},
    {"auth_service.mtls.ca", NULL, set, SET_auth_service_mtls_ca},
    {"storage.mailbox", "mail_driver", keep_mailbox, 0},
    {"storage.maildir_root", "root", keep_root, 0},
    {"storage.mail_home_template", "mail_home", keep_home, 0},
    {"storage.index", NULL, set, SET_storage_index},
    {"storage.compression", NULL, set_compression, 0},
    {"storage.attachments.dir", NULL, set, SET_mail_attachment_dir},
    {"storage.attachments.fs", NULL, set, SET_mail_attachment_fs},
    {"storage.attachments.min_size", NULL, set, SET_mail_attachment_min_size},
    {"storage.attachments.hash", NULL, set, SET_mail_attachment_hash},
    {"namespaces.*", NULL, read_namespace, 0},
    {"dicts.*", NULL, read_dict, 0},
    {"shutdown.session_grace_period", NULL, set, SET_shutdown_session_grace_period},
    {"shutdown.kill_timeout", NULL, set, SET_shutdown_kill_timeout},
    {"log.level", NULL, set_level, SET_log_level},
    {"log.format", NULL, set, SET_log_format},
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

/* Sections of larger installations: known, and told apart from a misspelt key. */
static const char *const elsewhere[] = {"director_service", "monitor", "locks",       "admin",
                                        "telemetry",        "fts",     "internal_tls"};

static const char *const protocols[] = {"imap", "pop3", "lmtp", "submission", "managesieve"};

/* ---- the walk --------------------------------------------------------------------------------------------------- */

enum fit { FIT_NONE, FIT_BEGIN, FIT_WHOLE };

/* How the first `depth` parts go with a row's path; the last part may be the row's other name. */
static enum fit fit_row(const struct row *row, const char *const *parts, unsigned depth)
{
    struct slice rest = slice_from_str(row->path), part;
    for (unsigned i = 0; i < depth; i++) {
        if (!slice_split(&rest, '.', &part))
            return FIT_NONE;
        bool last = rest.size == 0 && i + 1 == depth;
        if (!slice_equal_str(part, "*") && !slice_equal_str(part, parts[i]) &&
            !(last && row->also != NULL && strcmp(row->also, parts[i]) == 0))
            return FIT_NONE;
    }
    return rest.size == 0 ? FIT_WHOLE : FIT_BEGIN;
}

/* The component of a row's path at `depth`, when the parts before it fit. */
static bool component_at(const struct row *row, const char *const *parts, unsigned depth, struct slice *component)
{
    if (depth > 0 && fit_row(row, parts, depth) != FIT_BEGIN)
        return false;
    struct slice rest = slice_from_str(row->path);
    for (unsigned i = 0; i <= depth; i++) {
        if (!slice_split(&rest, '.', component))
            return false;
    }
    return true;
}

static void consider(const char *name, const char *candidate, const char **best, unsigned *distance)
{
    unsigned d = yaml_distance(name, candidate);
    if (d < *distance) {
        *distance = d;
        *best = candidate;
    }
}

static void unknown_key(struct yaml *y, const char *const *parts, unsigned depth, const struct yaml_pair *pair)
{
    const char *best = NULL;
    unsigned distance = (unsigned)strlen(pair->key) / 2 + 2;
    struct buffer path = {0};
    for (size_t i = 0; depth > 0 && i < ROWS; i++) {
        struct slice component;
        if (!component_at(&rows[i], parts, depth, &component))
            continue;
        consider(pair->key, arena_str(y->arena, component), &best, &distance);
        if (rows[i].also != NULL)
            consider(pair->key, rows[i].also, &best, &distance);
    }
    for (size_t i = 0; depth == 0 && i < ROWS; i++) {
        struct slice component = SLICE_EMPTY, rest = slice_from_str(rows[i].path);
        (void)slice_split(&rest, '.', &component);
        consider(pair->key, arena_str(y->arena, component), &best, &distance);
    }
    for (int i = 0; depth == 1 && strcmp(parts[0], "services") == 0 && i < YAML_SERVICES; i++)
        consider(pair->key, yaml_service_name(i), &best, &distance);
    for (size_t i = 0; depth == 1 && strcmp(parts[0], "protocol") == 0 && i < sizeof(protocols) / sizeof(protocols[0]);
         i++)
        consider(pair->key, protocols[i], &best, &distance);
    for (int i = 0; depth == 2 && strcmp(parts[0], "protocol") == 0 && i < SETTINGS; i++)
        consider(pair->key, conf_name((enum setting)i), &best, &distance);
    for (unsigned i = 0; i < depth; i++)
        buffer_printf(&path, "%s.", parts[i]);
    const char *level = buffer_cstr(&path);
    if (best != NULL)
        yaml_fault(y->faults, pair->value->file, pair->key_line, pair->key_column, "unknown key %s%s, did you mean %s?",
                   level, pair->key, best);
    else
        yaml_fault(y->faults, pair->value->file, pair->key_line, pair->key_column, "unknown key %s%s", level,
                   pair->key);
    buffer_free(&path);
}

static bool is_elsewhere(struct yaml *y, const struct yaml_pair *pair)
{
    for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++) {
        if (strcmp(pair->key, elsewhere[i]) != 0)
            continue;
        yaml_fault(y->faults, pair->value->file, pair->key_line, pair->key_column,
                   "%s is not available in this version", pair->key);
        return true;
    }
    return false;
}

/* Names that stand for "*" where not every name is allowed. */
static bool is_name_allowed(const char *const *parts, unsigned depth)
{
    if (depth != 2)
        return true;
    if (strcmp(parts[0], "services") == 0)
        return yaml_service_index(parts[1]) >= 0;
    if (strcmp(parts[0], "protocol") != 0)
        return true;
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        if (strcmp(parts[1], protocols[i]) == 0)
            return true;
    }
    return false;
}

static void walk(struct yaml *y, const struct yaml_node *map, const char **parts, unsigned depth);

/* Any setting by its own name may stand under a protocol. */
static bool set_by_name(struct yaml *y, const char **parts, unsigned depth, const struct yaml_node *node)
{
    struct found f = {.y = y, .node = node};
    if (depth != 3 || strcmp(parts[0], "protocol") != 0 || node->kind == YAML_MAP || !conf_find(parts[2], &f.set))
        return false;
    memcpy(f.parts, parts, depth * sizeof(*parts));
    set_protocol(&f);
    return true;
}

/* Both names of one key. */
static void check_both(struct yaml *y, const struct yaml_node *map, const struct row *row, const struct yaml_pair *pair)
{
    const char *dot = strrchr(row->path, '.'), *name = dot == NULL ? row->path : dot + 1;
    if (row->also != NULL && strcmp(pair->key, row->also) == 0 && yaml_get(map, name) != NULL)
        yaml_fault(y->faults, pair->value->file, pair->key_line, pair->key_column, "%s and %s are the same key",
                   row->also, name);
}

static void walk_pair(struct yaml *y, const struct yaml_node *map, const struct yaml_pair *pair, const char **parts,
                      unsigned depth)
{
    bool begins = false;
    parts[depth] = pair->key;
    if (is_name_allowed(parts, depth + 1)) {
        for (size_t i = 0; i < ROWS; i++) {
            enum fit fit = fit_row(&rows[i], parts, depth + 1);
            begins |= fit == FIT_BEGIN;
            if (fit != FIT_WHOLE)
                continue;
            struct found f = {.y = y, .node = pair->value, .set = rows[i].set};
            memcpy(f.parts, parts, (depth + 1) * sizeof(*parts));
            check_both(y, map, &rows[i], pair);
            rows[i].apply(&f);
            return;
        }
        begins |= depth == 1 && strcmp(parts[0], "protocol") == 0; /* also those without keys of their own */
        if (set_by_name(y, parts, depth + 1, pair->value))
            return;
    }
    if (begins && depth == 1 && strcmp(parts[0], "services") == 0)
        y->services[yaml_service_index(pair->key)].at = pair->value;
    if (begins && pair->value->null)
        return;
    if (begins && pair->value->kind == YAML_MAP && depth + 1 < PARTS_MOST) {
        walk(y, pair->value, parts, depth + 1);
    } else if (begins) {
        FAULT(y, pair->value, "%s: a map of keys was expected", pair->key);
    } else if (depth > 0 || !is_elsewhere(y, pair)) {
        unknown_key(y, parts, depth, pair);
    }
}

static void walk(struct yaml *y, const struct yaml_node *map, const char **parts, unsigned depth)
{
    for (const struct yaml_pair *pair = map->first; pair != NULL; pair = pair->next)
        walk_pair(y, map, pair, parts, depth);
}

void yaml_walk_keys(struct yaml *y, const struct yaml_node *root)
{
    const char *parts[PARTS_MOST];
    y->services_at = yaml_get(root, "services");
    walk(y, root, parts, 0);
}
