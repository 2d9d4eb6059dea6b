/* Modules: shared objects that hold what needs a heavy or foreign library (DECISIONS: modules export one function and
 * import nothing from the host). A module is built from its own file, this header and the one of its face alone. */
#ifndef YARILO_RPC_MODULE_H
#define YARILO_RPC_MODULE_H

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
    const void *face;  /* what the name says: struct auth_pam_face, struct http_curl_face ... */
};

/* The one exported symbol, "yarilo_module". NULL: the module cannot work here. */
typedef const struct yarilo_module *yarilo_module_fn(const struct yarilo_host *);

#ifndef YARILO_MODULE_ITSELF
#include "base/error.h"
/* Loads NAME.so from the module folder, once. NULL with *e. */
const struct yarilo_module *module_load(const char *name, struct error *);
#endif

#endif
