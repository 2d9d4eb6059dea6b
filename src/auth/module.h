/* Modules: shared objects that hold what needs a heavy or foreign library (DECISIONS: modules export one function and
 * import nothing from the host). A module is built from its own file and this header alone. */
#ifndef YARILO_AUTH_MODULE_H
#define YARILO_AUTH_MODULE_H

#include <stdbool.h>
#include <stddef.h>

#define YARILO_MODULE_VERSION 1

struct yarilo_host {
    unsigned version;
    void (*log_error)(const char *text);
};

struct yarilo_module {
    unsigned version;
    const char *name;  /* "auth_pam" */
    const void *face;  /* what the name says: struct auth_pam_face ... */
};

/* The one exported symbol, "yarilo_module". NULL: the module cannot work here. */
typedef const struct yarilo_module *yarilo_module_fn(const struct yarilo_host *);

/* ---- auth_pam -------------------------------------------------------------------------------------------------- */

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

#ifndef YARILO_MODULE_ITSELF
#include "base/error.h"
/* Loads NAME.so from the module folder, once. NULL with *e. */
const struct yarilo_module *module_load(const char *name, struct error *);
#endif

#endif
