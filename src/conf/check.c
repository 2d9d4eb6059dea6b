/* The order of checks, and the checks of the small modules (config 7.1, 7.2). */
#include "conf/check.h"
#include "conf/event_filter.h"

#include "base/log.h"

bool check_next_word(struct slice *rest, const char *separators, struct slice *word)
{
    while (rest->size > 0 && strchr(separators, rest->at[0]) != NULL)
        *rest = slice_from(*rest, 1);
    size_t size = 0;
    while (size < rest->size && strchr(separators, rest->at[size]) == NULL)
        size++;
    *word = slice_head(*rest, size);
    *rest = slice_from(*rest, size);
    return size > 0;
}

int check_words(struct conf_check *c, enum setting id, const char *known, const char *what)
{
    struct slice rest = slice_from_str(conf_str(c->set, id)), word;
    while (check_next_word(&rest, " ,", &word)) {
        struct slice all = slice_from_str(known), each;
        bool found = false;
        while (!found && slice_split(&all, ' ', &each))
            found = slice_equal_nocase(word, each);
        if (!found)
            return error_set(c->e, ERROR_INVALID, "%s: Unknown %s: %.*s", conf_name(id), what, WORD(word));
    }
    return 0;
}

static int check_syslog(struct conf_check *c)
{
    static const char known[] =
        "auth authpriv cron daemon ftp kern lpr mail news syslog user uucp local0 local1 local2 "
        "local3 local4 local5 local6 local7";
    const char *facility = conf_str(c->set, SET_syslog_facility);
    struct slice all = slice_from_str(known), each;
    while (slice_split(&all, ' ', &each)) {
        if (slice_equal_str(each, facility))
            return 0;
    }
    return error_set(c->e, ERROR_INVALID, "Unknown syslog_facility: %s", facility);
}

static int check_filter_setting(struct conf_check *c, enum setting id)
{
    struct event_filter *parsed;

    if (event_filter_parse(c->arena, conf_str(c->set, id), &parsed, c->e) == 0)
        return 0;
    return error_context(c->e, "Invalid %s: ", conf_name(id));
}

int check_service(struct conf_check *c)
{
    if (check_filter_setting(c, SET_log_debug) < 0 || check_filter_setting(c, SET_log_core_filter) < 0 ||
        check_filter_setting(c, SET_process_shutdown_filter) < 0)
        return -1;
    return check_syslog(c);
}

int check_ssl(struct conf_check *c)
{
    if (strcmp(conf_str(c->set, SET_ssl), "no") == 0)
        return 0;
    if (conf_bool(c->set, SET_ssl_verify_client_cert) && conf_str(c->set, SET_ssl_ca)[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "ssl_verify_client_cert set, but ssl_ca not");
    struct slice rest = slice_from_str(conf_str(c->set, SET_ssl_options)), word;
    while (check_next_word(&rest, " ,", &word)) {
        if (!slice_equal_str_nocase(word, "compression") && !slice_equal_str_nocase(word, "no_compression") &&
            !slice_equal_str_nocase(word, "no_ticket"))
            return error_set(c->e, ERROR_INVALID, "ssl_options: unknown flag: '%.*s'", WORD(word));
    }
    return 0;
}

int check_director(struct conf_check *c)
{
    if (conf_secs(c->set, SET_director_user_expire) < 10)
        return error_set(c->e, ERROR_INVALID, "director_user_expire is too low");
    return 0;
}

int check_doveadm(struct conf_check *c)
{
    if (conf_str(c->set, SET_dsync_hashed_headers)[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "dsync_hashed_headers must not be empty");
    if (conf_str(c->set, SET_dsync_alt_char)[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "dsync_alt_char must not be empty");
    return check_words(c, SET_dsync_features, "empty-header-workaround", "feature");
}

int check_imap(struct conf_check *c)
{
    return check_words(c, SET_imap_client_workarounds, "delay-newmail tb-extra-mailbox-sep tb-lsub-flags",
                       "workaround");
}

static int check_throttle(struct conf_check *c, struct slice word)
{
    struct slice part;
    uint32_t number;
    unsigned n = 0;
    (void)slice_split(&word, ':', &part);
    while (slice_split(&word, ':', &part)) {
        if (!slice_to_u32(part, &number))
            n = 3;
        n++;
    }
    return n == 3 ? 0 : error_set(c->e, ERROR_INVALID, "imapc_features: Invalid throttle settings");
}

int check_imapc(struct conf_check *c)
{
    static const char known[] =
        "rfc822.size guid-forced fetch-headers gmail-migration search zimbra-workarounds no-examine proxyauth "
        "fetch-msn-workarounds fetch-fix-broken-mails modseq delay-login fetch-bodystructure send-id "
        "fetch-empty-is-expunged no-msn-updates acl";
    if (conf_secs(c->set, SET_imapc_max_idle_time) == 0)
        return error_set(c->e, ERROR_INVALID, "imapc_max_idle_time must not be 0");
    struct slice rest = slice_from_str(conf_str(c->set, SET_imapc_features)), word;
    while (check_next_word(&rest, " ,", &word)) {
        if (slice_starts_nocase(word, SLICE("throttle:"))) {
            if (check_throttle(c, word) < 0)
                return -1;
            continue;
        }
        struct slice all = slice_from_str(known), each;
        bool found = false;
        while (!found && slice_split(&all, ' ', &each))
            found = slice_equal_nocase(word, each);
        if (!found)
            return error_set(c->e, ERROR_INVALID, "imapc_features: Unknown feature: %.*s", WORD(word));
    }
    return 0;
}

int check_pop3c(struct conf_check *c)
{
    return check_words(c, SET_pop3c_features, "no-pipelining", "feature");
}

int check_lmtp(struct conf_check *c)
{
    return check_words(c, SET_lmtp_client_workarounds, "whitespace-before-path mailbox-for-path", "workaround");
}

int check_pop3(struct conf_check *c)
{
    if (check_words(c, SET_pop3_client_workarounds, "outlook-no-nuls oe-ns-eoh", "workaround") < 0)
        return -1;
    if (strcmp(conf_str(c->set, SET_pop3_delete_type), "flag") == 0 &&
        conf_str(c->set, SET_pop3_deleted_flag)[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "pop3_delete_type=flag, but pop3_deleted_flag not set");
    return 0;
}

int check_managesieve(struct conf_check *c)
{
    /* There is none that it knows. */
    return check_words(c, SET_managesieve_client_workarounds, "", "workaround");
}

int check_submission(struct conf_check *c)
{
    return check_words(c, SET_submission_client_workarounds,
                       "whitespace-before-path mailbox-for-path implicit-auth-external exotic-backend", "workaround");
}

/* Dovecot's modules in its order; those without checks are left out. */
static const struct {
    int (*check)(struct conf_check *);
    enum conf_group group;
} checks[] = {
    {check_managesieve, GROUP_managesieve},
    {check_service, GROUP_service},       {check_ssl, GROUP_ssl},
    {check_auth, GROUP_auth},             {check_director, GROUP_director},
    {check_doveadm, GROUP_doveadm},       {check_imap, GROUP_imap},
    {check_imapc, GROUP_imapc},           {check_lmtp, GROUP_lmtp},
    {check_mail_storage, GROUP_mail},     {check_mail_user, GROUP_mail},
    {check_master, GROUP_master},         {check_pop3, GROUP_pop3},
    {check_pop3c, GROUP_pop3c},           {check_stats, GROUP_stats},
    {check_submission, GROUP_submission_both}, /* submission-login */
    {check_submission, GROUP_submission},
};

static bool is_wanted(enum conf_group group, const char *const *modules)
{
    if (modules == NULL)
        return true;
    for (; *modules != NULL; modules++) {
        if (conf_group_in_module(group, *modules))
            return true;
    }
    return group == GROUP_service;
}

void conf_check_settings(const struct settings *set, struct conf_checker *checker, const char *const *modules,
                         void (*fault)(void *, const char *), void *arg)
{
    struct error e;
    struct conf_check c = {set, checker, arena_new(), &e};
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        error_clear(&e);
        if (is_wanted(checks[i].group, modules) && checks[i].check(&c) < 0)
            fault(arg, e.admin);
    }
    arena_free(c.arena);
}

struct first_fault {
    struct error *e;
    const char *path;
    bool found;
};

static void keep_first(void *arg, const char *text)
{
    struct first_fault *first = arg;
    if (!first->found)
        error_set(first->e, ERROR_INVALID, "Error in configuration file %s: %s", first->path, text);
    first->found = true;
}

static void warn_ssl(const struct conf_level *level, const struct settings *global, struct conf_checker *checker)
{
    const struct conf_value *v = conf_section_get(&level->section, (unsigned)conf_setting_def(SET_ssl));
    if (checker->told_ssl || level->number == 0 || v == NULL || strcmp(v->text, "no") == 0 ||
        strcmp(conf_str(global, SET_ssl), "no") != 0)
        return;
    log_warning(NULL, "SSL is disabled because global ssl=no, ignoring ssl=%s for subsection", v->text);
    checker->told_ssl = true;
}

int conf_check_tree(struct conf *conf, struct conf_checker *checker, const char *const *modules, struct error *e)
{
    struct first_fault first = {e, conf->tree->path, false};
    struct arena *arena = arena_new();
    struct settings *global = NULL;
    for (const struct conf_level *level = conf->tree->global; level != NULL && !first.found; level = level->next) {
        struct conf_level **levels;
        struct conf_section merged;
        struct error conflict;
        size_t n = conf_tree_matching(conf->tree, &level->facts, arena, &levels);
        if (conf_merge(arena, levels, n, &merged, &conflict) < 0)
            keep_first(&first, conflict.admin);
        struct settings *set = settings_build(conf, &merged);
        if (!first.found)
            conf_check_settings(set, checker, modules, keep_first, &first);
        if (level->number == 0)
            global = settings_ref(set);
        warn_ssl(level, global, checker);
        settings_unref(set);
        arena_reset(arena);
    }
    settings_unref(global);
    arena_free(arena);
    return first.found ? -1 : 0;
}
