/* auth_pam.c - the module auth_pam: asks PAM (auth.md 9.2). It runs in auth-worker only. */
#define YARILO_MODULE_ITSELF
#include "auth/auth_pam.h"
#include "rpc/module.h"

#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct talk {
    const struct auth_pam_question *question;
    struct auth_pam_answer *answer;
};

static void add_message(struct auth_pam_answer *answer, const char *text)
{
    size_t used = strlen(answer->message);

    if (text != NULL)
        snprintf(answer->message + used, sizeof(answer->message) - used, "%s%s", used > 0 ? "; " : "", text);
}

/* PAM frees what it gets here. */
static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *arg)
{
    struct talk *t = arg;
    struct pam_response *r;

    if (count <= 0 || count > PAM_MAX_NUM_MSG || (r = calloc((size_t)count, sizeof(*r))) == NULL)
        return PAM_CONV_ERR;
    for (int i = 0; i < count; i++) {
        switch (messages[i]->msg_style) {
        case PAM_PROMPT_ECHO_ON:
            r[i].resp = strdup(t->question->user);
            break;
        case PAM_PROMPT_ECHO_OFF:
            r[i].resp = strdup(t->question->password);
            break;
        case PAM_ERROR_MSG:
        case PAM_TEXT_INFO:
            add_message(t->answer, messages[i]->msg);
            break;
        default:
            for (int k = 0; k < i; k++)
                free(r[k].resp);
            free(r);
            return PAM_CONV_ERR;
        }
    }
    *responses = r;
    return PAM_SUCCESS;
}

static enum auth_pam_result refuse(pam_handle_t *pam, struct auth_pam_answer *answer, const char *what, int status)
{
    snprintf(answer->what, sizeof(answer->what), "%s() failed: %s", what, pam_strerror(pam, status));
    if (status == PAM_USER_UNKNOWN)
        return AUTH_PAM_UNKNOWN_USER;
    if (status == PAM_NEW_AUTHTOK_REQD || status == PAM_ACCT_EXPIRED)
        return AUTH_PAM_EXPIRED;
    return AUTH_PAM_MISMATCH;
}

static enum auth_pam_result ask(pam_handle_t *pam, const struct auth_pam_question *q, struct auth_pam_answer *answer)
{
    const void *user = NULL;
    int status;

    (void)pam_set_item(pam, PAM_TTY, "dovecot");
    (void)pam_set_item(pam, PAM_RUSER, q->user);
    if (q->remote_host != NULL)
        (void)pam_set_item(pam, PAM_RHOST, q->remote_host);
    if ((status = pam_authenticate(pam, 0)) != PAM_SUCCESS)
        return refuse(pam, answer, "pam_authenticate", status);
    if (q->setcred && (status = pam_setcred(pam, PAM_ESTABLISH_CRED)) != PAM_SUCCESS)
        return refuse(pam, answer, "pam_setcred", status);
    if ((status = pam_acct_mgmt(pam, 0)) != PAM_SUCCESS)
        return refuse(pam, answer, "pam_acct_mgmt", status);
    if (q->session) {
        if ((status = pam_open_session(pam, 0)) != PAM_SUCCESS)
            return refuse(pam, answer, "pam_open_session", status);
        if ((status = pam_close_session(pam, 0)) != PAM_SUCCESS)
            return refuse(pam, answer, "pam_close_session", status);
    }
    if (pam_get_item(pam, PAM_USER, &user) == PAM_SUCCESS && user != NULL)
        snprintf(answer->user, sizeof(answer->user), "%s", (const char *)user);
    return AUTH_PAM_OK;
}

static enum auth_pam_result check(const struct auth_pam_question *q, struct auth_pam_answer *answer)
{
    struct talk talk = {q, answer};
    struct pam_conv conv = {converse, &talk};
    pam_handle_t *pam = NULL;
    enum auth_pam_result result;
    int status;

    memset(answer, 0, sizeof(*answer));
    status = pam_start(q->service, q->user, &conv, &pam);
    if (status != PAM_SUCCESS) {
        snprintf(answer->what, sizeof(answer->what), "pam_start() failed: %s", pam_strerror(pam, status));
        return AUTH_PAM_FAILED;
    }
    result = ask(pam, q, answer);
    (void)pam_end(pam, PAM_SUCCESS);
    return result;
}

static const struct auth_pam_face face = {check};
static const struct yarilo_module module = {YARILO_MODULE_VERSION, "auth_pam", &face};

yarilo_module_fn yarilo_module;

const struct yarilo_module *yarilo_module(const struct yarilo_host *host)
{
    return host->version == YARILO_MODULE_VERSION ? &module : NULL;
}
