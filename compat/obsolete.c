/* Settings of older Dovecots, translated with a warning (config 6).
 *
 * Each rule is one function or one row; the texts are Dovecot's. What becomes a service's setting is stored at the
 * global level, whatever block it stood in. */
#include "compat/dialect.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

void dialect_obsolete_warn(struct dialect *d, const char *fmt, ...)
{
    va_list args;
    struct buffer text = {0};
    if (!d->noted)
        log_warning(NULL, "NOTE: You can get a new clean config file with: doveconf -Pn > dovecot-new.conf");
    d->noted = true;
    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    log_warning(NULL, "Obsolete setting in %s:%u: %s", d->place.file, d->place.line, buffer_cstr(&text));
    buffer_free(&text);
}

struct rule {
    struct dialect *d;
    struct frame *frame;
    const char **key, **value;
    struct error *e;
};

static bool has_word(struct slice words, const char *word)
{
    struct slice part;
    while (slice_split(&words, ' ', &part)) {
        if (slice_equal_str(part, word))
            return true;
    }
    return false;
}

static enum obsolete to_result(int result)
{
    return result < 0 ? OBSOLETE_ERROR : OBSOLETE_DONE;
}

static enum obsolete rename_to(struct rule *r, const char *name, const char *value)
{
    *r->key = name;
    if (value != NULL)
        *r->value = value;
    return OBSOLETE_NO;
}

/* ---- protocols -------------------------------------------------------------------------------------------------- */

static int drop_ssl_protocol(struct rule *r, const char *word, const char *plain, bool has_plain, struct buffer *out)
{
    if (has_plain) {
        dialect_obsolete_warn(r->d, "'%s' protocol is no longer necessary, remove it", word);
        return 0;
    }
    dialect_obsolete_warn(r->d,
                          "'%s' protocol can no longer be specified (use protocols=%s). to disable non-ssl %s, use "
                          "service %s-login { inet_listener %s { port=0 } }",
                          word, plain, plain, plain, plain);
    buffer_printf(out, " %s", plain);
    const char *login = arena_printf(r->d->arena, "%s-login", plain);
    return dialect_set_global(r->d, (const char *[]){"service", login, "inet_listener", plain, "port", NULL}, "0",
                              r->e);
}

static enum obsolete fix_protocols(struct rule *r)
{
    struct slice all = slice_from_str(*r->value), rest = all, word;
    bool imap = has_word(all, "imap"), pop3 = has_word(all, "pop3");
    struct buffer kept = {0}, added = {0};
    bool imaps = false, pop3s = false;
    while (slice_split(&rest, ' ', &word)) {
        if (word.size == 0)
            continue;
        if (slice_equal_str(word, "managesieve")) {
            dialect_obsolete_warn(r->d, "protocols=managesieve has been renamed to protocols=sieve");
            word = SLICE("sieve");
        }
        if (slice_equal_str(word, "imaps")) {
            imaps = true;
            continue;
        }
        if (slice_equal_str(word, "pop3s")) {
            pop3s = true;
            continue;
        }
        if (kept.size > 0)
            buffer_append_byte(&kept, ' ');
        buffer_append_slice(&kept, word);
    }
    int result = 0;
    if (imaps)
        result = drop_ssl_protocol(r, "imaps", "imap", imap, &added);
    if (pop3s && result == 0)
        result = drop_ssl_protocol(r, "pop3s", "pop3", pop3, &added);
    buffer_append_slice(&kept, buffer_slice(&added));
    *r->value = arena_str(r->d->arena, slice_trim(buffer_slice(&kept)));
    buffer_free(&kept);
    buffer_free(&added);
    return result < 0 ? OBSOLETE_ERROR : OBSOLETE_NO;
}

/* ---- TLS -------------------------------------------------------------------------------------------------------- */

static enum obsolete fix_ssl_file(struct rule *r)
{
    const char *name = *r->key;
    if (**r->value == '\0')
        return OBSOLETE_DONE;
    char *plain = arena_str(r->d->arena, slice_of(name, strlen(name) - strlen("_file")));
    dialect_obsolete_warn(r->d, "%s has been replaced by %s = <file", name, plain);
    const char *value;
    bool is_plain;
    const char *raw = arena_printf(r->d->arena, "<%s", *r->value);
    if (dialect_value(r->d, r->frame, plain, raw, &value, &is_plain, r->e) < 0)
        return OBSOLETE_ERROR;
    return rename_to(r, plain, value);
}

static enum obsolete fix_ssl_disable(struct rule *r)
{
    dialect_obsolete_warn(r->d, "ssl_disable has been renamed to ssl");
    bool yes = strcmp(*r->value, "yes") == 0, no = strcmp(*r->value, "no") == 0;
    return rename_to(r, "ssl", yes ? "no" : no ? "yes" : NULL);
}

/* The lowest version that a list like "!SSLv3 TLSv1" allows. */
static enum obsolete fix_ssl_protocols(struct rule *r)
{
    static const char *const versions[] = {"SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2"};
    enum { VERSIONS = sizeof(versions) / sizeof(versions[0]) };
    bool wanted[VERSIONS] = {false}, banned[VERSIONS] = {false}, any = false;
    struct slice rest = slice_from_str(*r->value);
    dialect_obsolete_warn(r->d, "ssl_protocols has been replaced by ssl_min_protocol");
    while (rest.size > 0) {
        size_t size = 0;
        while (size < rest.size && rest.at[size] != ' ' && rest.at[size] != ',')
            size++;
        struct slice word = slice_head(rest, size);
        rest = slice_from(rest, size + 1);
        if (word.size == 0)
            continue;
        bool not = word.at[0] == '!';
        struct slice name = slice_from(word, not);
        int i = 0;
        while (i < VERSIONS && !slice_equal_str(name, versions[i]))
            i++;
        if (i == VERSIONS) {
            log_error(NULL,
                      "Could not find a minimum ssl_min_protocol setting from ssl_protocols = %s: Unrecognized "
                      "protocol '%.*s'",
                      *r->value, (int)name.size, (const char *)name.at);
            return OBSOLETE_DONE;
        }
        (not ? banned : wanted)[i] = true;
        any |= !not;
    }
    for (int i = 0; i < VERSIONS; i++) {
        if (any ? wanted[i] && !banned[i] : !banned[i])
            return rename_to(r, "ssl_min_protocol", versions[i]);
    }
    log_error(NULL, "Could not find a minimum ssl_min_protocol setting from ssl_protocols = %s: All protocols disabled",
              *r->value);
    return OBSOLETE_DONE;
}

/* ---- services --------------------------------------------------------------------------------------------------- */

static const struct {
    const char *protocol, *service;
} services[] = {{"imap", "imap"}, {"pop3", "pop3"}, {"sieve", "managesieve"}};

/* Sets a member of the login or mail services that the frame is about. Dovecot loses without a word what stands
 * globally and has the wrong type, and what stands in a block for an address or a name. */
static enum obsolete set_services(struct rule *r, const char *suffix, const char *member, const char *value)
{
    const struct conf_facts *facts = &r->frame->level->facts;
    if (facts->local.family != 0 || facts->remote.family != 0 || facts->local_name != NULL)
        return OBSOLETE_DONE;
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        if (facts->service != NULL && strcmp(facts->service, services[i].protocol) != 0)
            continue;
        const char *service = arena_printf(r->d->arena, "%s%s", services[i].service, suffix);
        if (dialect_set_global(r->d, (const char *[]){"service", service, member, NULL}, value, r->e) < 0 &&
            facts->service != NULL)
            return OBSOLETE_ERROR;
    }
    error_clear(r->e);
    return OBSOLETE_DONE;
}

enum conversion { AS_IS, MEGABYTES, CHROOT, COUNT };

static const struct {
    const char *name;
    enum { OF_LOGIN, OF_MAIL, OF_AUTH } services;
    const char *member;
    enum conversion conversion;
} moved[] = {
    {"login_chroot", OF_LOGIN, "chroot", CHROOT},
    {"login_user", OF_LOGIN, "user", AS_IS},
    {"login_executable", OF_LOGIN, "executable", AS_IS},
    {"login_process_size", OF_LOGIN, "vsz_limit", MEGABYTES},
    {"login_process_per_connection", OF_LOGIN, "service_count", COUNT},
    {"login_processes_count", OF_LOGIN, "process_min_avail", AS_IS},
    {"login_max_processes_count", OF_LOGIN, "process_limit", AS_IS},
    {"login_max_connections", OF_LOGIN, "client_limit", AS_IS},
    {"max_mail_processes", OF_MAIL, "process_limit", AS_IS},
    {"mail_executable", OF_MAIL, "executable", AS_IS},
    {"mail_process_size", OF_MAIL, "vsz_limit", MEGABYTES},
    {"mail_drop_priv_before_exec", OF_MAIL, "drop_priv_before_exec", AS_IS},
    {"auth_executable", OF_AUTH, "executable", AS_IS},
    {"auth_process_size", OF_AUTH, "vsz_limit", MEGABYTES},
    {"auth_user", OF_AUTH, "user", AS_IS},
    {"auth_chroot", OF_AUTH, "chroot", AS_IS},
};

static const char *convert(struct rule *r, enum conversion conversion)
{
    bool no = strcmp(*r->value, "no") == 0;
    switch (conversion) {
    case MEGABYTES:
        return arena_printf(r->d->arena, "%s M", *r->value);
    case CHROOT:
        return no ? "" : "login";
    case COUNT:
        return no ? "0" : "1";
    default:
        return *r->value;
    }
}

static enum obsolete move_to_service(struct rule *r, size_t row)
{
    const char *member = moved[row].member, *value = convert(r, moved[row].conversion);
    if (moved[row].services == OF_AUTH) {
        dialect_obsolete_warn(r->d, "%s has been replaced by service auth { %s }", *r->key, member);
        return to_result(dialect_set_global(r->d, (const char *[]){"service", "auth", member, NULL}, value, r->e));
    }
    dialect_obsolete_warn(r->d, "%s has been replaced by service { %s }", *r->key, member);
    return set_services(r, moved[row].services == OF_LOGIN ? "-login" : "", member, value);
}

static bool is_address(const char *text)
{
    struct conf_net net;
    return strcmp(text, "*") == 0 || conf_net_parse_ip(text, &net);
}

static bool has_port(struct dialect *d, const char *value)
{
    if (strchr(value, ':') == NULL)
        return false;
    char *copy = arena_strdup(d->arena, value), *save;
    for (char *word = strtok_r(copy, ", ", &save); word != NULL; word = strtok_r(NULL, ", ", &save)) {
        if (!is_address(word))
            return true;
    }
    return false;
}

/* Sets a member of the listeners that "listen" and "ssl_listen" meant. A port that is none is lost without a word. */
static enum obsolete set_listeners(struct rule *r, bool ssl, const char *member, const char *value)
{
    const char *only = r->frame->level->facts.service;
    for (size_t i = 0; i < 2; i++) { /* managesieve's listener never had the name that was looked for */
        if (only != NULL && strcmp(only, services[i].protocol) != 0)
            continue;
        const char *service = arena_printf(r->d->arena, "%s-login", services[i].service);
        const char *listener = arena_printf(r->d->arena, "%s%s", services[i].service, ssl ? "s" : "");
        (void)dialect_set_global(r->d, (const char *[]){"service", service, "inet_listener", listener, member, NULL},
                                 value, r->e);
    }
    error_clear(r->e);
    return OBSOLETE_DONE;
}

static bool is_port(const char *text)
{
    uint32_t port;
    return slice_to_u32(slice_from_str(text), &port) && port <= 65535;
}

static enum obsolete fix_listen(struct rule *r)
{
    bool ssl = (*r->key)[0] == 's', global = r->frame->level->number == 0 && !ssl;
    if (**r->value == '\0')
        return global ? OBSOLETE_NO : OBSOLETE_DONE;
    if (has_port(r->d, *r->value)) {
        dialect_obsolete_warn(r->d, "%s=..:port has been replaced by service { inet_listener { port } }", *r->key);
        const char *colon = strrchr(*r->value, ':');
        if (is_port(colon + 1))
            (void)set_listeners(r, ssl, "port", colon + 1);
        *r->value = arena_str(r->d->arena, slice_of(*r->value, (size_t)(colon - *r->value)));
    }
    if (global)
        return OBSOLETE_NO;
    dialect_obsolete_warn(r->d, "protocol { %s } has been replaced by service { inet_listener { address } }", *r->key);
    return set_listeners(r, ssl, "address", *r->value);
}

/* ---- single settings -------------------------------------------------------------------------------------------- */

static enum obsolete fix_workarounds(struct rule *r)
{
    static const struct {
        const char *word, *why;
    } gone[] = {{"outlook-idle", "is no longer necessary"}, {"netscape-eoh", "is no longer supported"}};
    struct buffer out = {0};
    struct slice rest = slice_from_str(*r->value);
    bool first = true;
    while (rest.size > 0) {
        size_t size = 0;
        while (size < rest.size && rest.at[size] != ' ' && rest.at[size] != ',')
            size++;
        struct slice word = slice_head(rest, size);
        rest = slice_from(rest, size + 1);
        while (rest.size > 0 && (rest.at[0] == ' ' || rest.at[0] == ','))
            rest = slice_from(rest, 1);
        for (size_t i = 0; i < 2; i++) {
            if (slice_equal_str(word, gone[i].word)) {
                dialect_obsolete_warn(r->d, "imap_client_workarounds=%s %s", gone[i].word, gone[i].why);
                word.size = 0;
            }
        }
        if (!first)
            buffer_append_byte(&out, ' ');
        first = false;
        buffer_append_slice(&out, word);
    }
    *r->value = arena_str(r->d->arena, buffer_slice(&out));
    buffer_free(&out);
    return OBSOLETE_NO;
}

static enum obsolete fix_fsync(struct rule *r)
{
    dialect_obsolete_warn(r->d, "fsync_disable has been renamed to mail_fsync");
    bool yes = strcmp(*r->value, "yes") == 0, no = strcmp(*r->value, "no") == 0;
    return rename_to(r, "mail_fsync", yes ? "never" : no ? "optimized" : NULL);
}

static enum obsolete move_to_plugin(struct rule *r, const char *where)
{
    dialect_obsolete_warn(r->d, "%s has been moved into %s", *r->key, where);
    conf_section_set_pair(r->d->arena, &r->frame->level->section, STRLIST_plugin, *r->key, *r->value, r->d->place);
    return OBSOLETE_DONE;
}

static enum obsolete fix_sieve(struct rule *r)
{
    return move_to_plugin(r, "plugin {} section");
}

static enum obsolete fix_sieve_storage(struct rule *r)
{
    return move_to_plugin(r, "plugin { sieve_dir }");
}

static enum obsolete fix_auth_cache_size(struct rule *r)
{
    uint32_t n;
    if (!slice_to_u32(slice_from_str(*r->value), &n) || n == 0 || n >= 1024)
        return OBSOLETE_NO;
    dialect_obsolete_warn(r->d, "auth_cache_size value no longer defaults to megabytes. Use %sM", *r->value);
    const char *value = arena_printf(r->d->arena, "%sM", *r->value);
    return to_result(dialect_set_global(r->d, (const char *[]){"auth_cache_size", NULL}, value, r->e));
}

static enum obsolete fix_auth_count(struct rule *r)
{
    dialect_obsolete_warn(r->d, strcmp(*r->value, "count") == 0
                                    ? "auth_count has been removed"
                                    : "auth_count has been removed, and its value must be 1");
    return OBSOLETE_DONE;
}

static enum obsolete fix_rotate_size(struct rule *r)
{
    dialect_obsolete_warn(r->d, "dbox_rotate_size has been renamed to mdbox_rotate_size");
    return rename_to(r, "mdbox_rotate_size", NULL);
}

static enum obsolete ignore_needless(struct rule *r)
{
    dialect_obsolete_warn(r->d, "%s is no longer needed", *r->key);
    return OBSOLETE_DONE;
}

static enum obsolete ignore_removed(struct rule *r)
{
    dialect_obsolete_warn(r->d, "%s has been removed", *r->key);
    return OBSOLETE_DONE;
}

static const struct {
    const char *name;
    enum obsolete (*fix)(struct rule *);
} rules[] = {
    {"protocols", fix_protocols},
    {"ssl_cert_file", fix_ssl_file}, {"ssl_key_file", fix_ssl_file}, {"ssl_ca_file", fix_ssl_file},
    {"ssl_disable", fix_ssl_disable}, {"ssl_protocols", fix_ssl_protocols},
    {"ssl_parameters_regenerate", ignore_needless}, {"ssl_dh_parameters_length", ignore_needless},
    {"sieve", fix_sieve}, {"sieve_storage", fix_sieve_storage},
    {"fsync_disable", fix_fsync}, {"dbox_rotate_size", fix_rotate_size},
    {"imap_client_workarounds", fix_workarounds},
    {"login_dir", ignore_removed}, {"dbox_rotate_min_size", ignore_removed}, {"dbox_rotate_days", ignore_removed},
    {"director_consistent_hashing", ignore_removed}, {"mail_log_max_lines_per_sec", ignore_removed},
    {"maildir_copy_preserve_filename", ignore_removed},
    {"auth_cache_size", fix_auth_cache_size}, {"auth_count", fix_auth_count},
    {"listen", fix_listen}, {"ssl_listen", fix_listen},
};

enum obsolete dialect_obsolete(struct dialect *d, struct frame *frame, const char **key, const char **value,
                               struct error *e)
{
    struct rule r = {d, frame, key, value, e};
    if (frame->kind == FRAME_STRLIST && frame->first_plugin && strcmp(*key, "imap_zlib_compress_level") == 0) {
        dialect_obsolete_warn(d, "imap_zlib_compress_level has been replaced by imap_compress_deflate_level");
        return rename_to(&r, "imap_compress_deflate_level", NULL);
    }
    if (frame->kind != FRAME_LEVEL)
        return OBSOLETE_NO;
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (strcmp(*key, rules[i].name) == 0)
            return rules[i].fix(&r);
    }
    for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
        if (strcmp(*key, moved[i].name) == 0)
            return move_to_service(&r, i);
    }
    static const char compress[] = "mail_cache_compress_";
    if (strncmp(*key, compress, sizeof(compress) - 1) == 0) {
        const char *name = arena_printf(d->arena, "mail_cache_purge_%s", *key + sizeof(compress) - 1);
        dialect_obsolete_warn(d, "%s has been renamed to %s", *key, name);
        return rename_to(&r, name, NULL);
    }
    return OBSOLETE_NO;
}
