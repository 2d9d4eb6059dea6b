/* The face of the module auth_pam (rpc/module.h): one question to PAM, which blocks. */
#ifndef YARILO_AUTH_AUTH_PAM_H
#define YARILO_AUTH_AUTH_PAM_H

#include <stdbool.h>

enum auth_pam_result { AUTH_PAM_OK, AUTH_PAM_MISMATCH, AUTH_PAM_UNKNOWN_USER, AUTH_PAM_EXPIRED, AUTH_PAM_FAILED };

struct auth_pam_question {
    const char *service, *user, *password, *remote_host; /* remote_host NULL = unknown */
    bool session, setcred;
};

struct auth_pam_answer {
    char user[256];      /* as PAM names it now; "" = unchanged */
    char what[512];      /* "pam_authenticate() failed: Authentication failure", for the log */
    char message[512];   /* what modules said to the user */
};

struct auth_pam_face {
    enum auth_pam_result (*check)(const struct auth_pam_question *, struct auth_pam_answer *);
};

#endif
