/* db_pam.c - passdb pam (auth.md 9.2): arguments and results; the module auth_pam asks. Always in a worker, which ends
 * after max_requests questions, since PAM modules leak. */
#include "auth/auth_pam.h"
#include "auth/db_drivers.h"
#include "rpc/module.h"

#include <stdio.h>
#include <unistd.h>

struct state {
    const char *service;
    bool session, setcred, show_message, told_missing;
    unsigned max_requests, requests;
};

static int open_pam(struct db *db, const struct db_params *params, struct error *e)
{
    struct slice rest = slice_from_str(params->args), word, value;
    struct state *s = ARENA_NEW(params->arena, struct state);
    uint32_t most;

    s->service = "dovecot";
    s->max_requests = 100;
    while (db_args_next(&rest, &word)) {
        if (slice_equal_str(word, "session=yes") || slice_equal_str(word, "-session")) {
            s->session = true;
        } else if (slice_equal_str(word, "setcred=yes")) {
            s->setcred = true;
        } else if (slice_equal_str(word, "failure_show_msg=yes")) {
            s->show_message = true;
        } else if (db_arg_is(word, "cache_key", &value)) {
            const char *templates[] = {arena_str(params->arena, value), NULL};
            db->cache_key = db_cache_key(params->arena, templates);
        } else if (db_arg_is(word, "max_requests", &value)) {
            if (!slice_to_u32(value, &most))
                return error_set(e, ERROR_INVALID, "passdb pam: Invalid requests_max value: %.*s", (int)value.size,
                                 (const char *)value.at);
            s->max_requests = most;
        } else if (rest.size == 0 && slice_find(word, '=') < 0) {
            s->service = slice_equal_str(word, "*") ? "%Ls" : arena_str(params->arena, word);
        } else {
            return error_set(e, ERROR_INVALID, "passdb pam: Unknown setting: %.*s", (int)word.size,
                             (const char *)word.at);
        }
    }
    db->blocking = true;
    db->state = s;
    return 0;
}

/* A service without a file is asked as "other", which refuses: that is said once, as an error. */
static void log_refusal(struct request *r, struct state *s, const struct auth_pam_answer *answer, const char *service)
{
    char path[300];
    struct stat st;

    snprintf(path, sizeof(path), "/etc/pam.d/%s", service);
    if (strncmp(answer->what, "pam_authenticate()", 18) != 0) {
        request_error(r, "%s", answer->what);
    } else if (!s->told_missing && stat(path, &st) < 0) {
        request_error(r, "%s (%s missing?)", answer->what, path);
        s->told_missing = true;
    } else {
        request_log_mismatch(r, arena_printf(r->arena, "%s (Password mismatch?)", answer->what));
    }
}

static enum passdb_result take_answer(struct request *r, struct state *s, enum auth_pam_result result,
                                      const struct auth_pam_answer *answer, const char *service)
{
    if (result != AUTH_PAM_OK && s->show_message && answer->message[0] != '\0')
        request_set_field(r, "reason", answer->message, "PLAIN");
    switch (result) {
    case AUTH_PAM_OK:
        if (answer->user[0] != '\0')
            request_set_field(r, "user", answer->user, "PLAIN");
        return PASSDB_OK;
    case AUTH_PAM_UNKNOWN_USER:
        request_log_unknown(r, answer->what);
        return PASSDB_USER_UNKNOWN;
    case AUTH_PAM_EXPIRED:
        request_info(r, "%s", answer->what);
        return PASSDB_PASS_EXPIRED;
    case AUTH_PAM_MISMATCH:
        log_refusal(r, s, answer, service);
        return PASSDB_MISMATCH;
    case AUTH_PAM_FAILED:
        break;
    }
    request_error(r, "%s", answer->what);
    return PASSDB_INTERNAL;
}

static enum passdb_result verify(struct db *db, struct request *r, const char *password)
{
    struct state *s = db->state;
    const struct yarilo_module *module;
    const struct auth_pam_face *face;
    struct auth_pam_answer answer;
    struct auth_pam_question question = {.user = r->user, .password = password, .session = s->session,
                                         .setcred = s->setcred};
    char ip[NET_IP_TEXT];
    struct error e;

    module = module_load("auth_pam", &e);
    if (module == NULL) {
        request_error(r, "%s", e.admin);
        return PASSDB_INTERNAL;
    }
    face = module->face;
    question.service = request_expand(r, s->service, NULL, NULL);
    if (strchr(question.service, '/') != NULL) { /* %s comes from the client */
        request_error(r, "Invalid PAM service name");
        return PASSDB_INTERNAL;
    }
    if (r->remote.ip.family != 0)
        question.remote_host = net_ip_text(&r->remote.ip, ip);
    if (s->max_requests != 0 && ++s->requests >= s->max_requests)
        r->server->retire = true;
    return take_answer(r, s, face->check(&question, &answer), &answer, question.service);
}

const struct db_driver db_pam = {
    .name = "pam", .default_scheme = "PLAIN", .passdb = true, .open = open_pam, .verify = verify,
};
