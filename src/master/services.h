/* What the parts that build the services of a configuration share. */
#ifndef YARILO_MASTER_SERVICES_H
#define YARILO_MASTER_SERVICES_H

#include "master/master.h"

struct build {
    struct generation *generation;
    struct settings *set;
    struct error *error;
};

/* service_users.c. "$default_internal_user" stands for a setting; *see (freed by the caller) is where an admin would
 * change it. */
const char *service_resolve(struct build *, const char *value, const char *own_place, char **see);
bool service_find_user(const char *name, uid_t *, gid_t *primary);
/* An empty value leaves *uid and *gid alone. gid may be NULL. */
int service_take_user(struct build *, const char *service, const char *value, const char *place, uid_t *, gid_t *);
int service_take_group(struct build *, const char *service, const char *value, const char *place, gid_t *);
int service_take_credentials(struct build *, struct unit *, const struct conf_block *);

/* service_listeners.c */
struct listener *service_add_listener(struct unit *, enum listener_kind, char *name);
int service_take_listeners(struct build *, struct unit *, const struct conf_block *);

#endif
