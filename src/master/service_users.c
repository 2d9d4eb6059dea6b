/* As whom services run: names to ids, with the texts of config 10.3.
 *
 * Without root every service runs as the user who started master: defaults become that user, and a service that names
 * another one cannot start. */
#include "master/services.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

/* "$default_internal_user" stands for a setting; *see is where an admin would change it. */
const char *service_resolve(struct build *b, const char *value, const char *own_place, char **see)
{
    static const enum setting known[] = {SET_default_internal_user, SET_default_login_user,
                                         SET_default_internal_group};

    for (size_t i = 0; value[0] == '$' && i < sizeof(known) / sizeof(*known); i++) {
        if (strcmp(value + 1, conf_name(known[i])) != 0)
            continue;
        *see = mem_printf("%s setting", value + 1);
        return conf_str(b->set, known[i]);
    }
    *see = mem_strdup(own_place);
    return value;
}

bool service_find_user(const char *name, uid_t *uid, gid_t *gid)
{
    struct passwd *pw;
    uint32_t number;

    if (slice_to_u32(slice_from_str(name), &number)) {
        pw = getpwuid(number);
        *uid = number;
        *gid = pw == NULL ? (gid_t)-1 : pw->pw_gid;
        return true;
    }
    pw = getpwnam(name);
    if (pw == NULL)
        return false;
    *uid = pw->pw_uid;
    *gid = pw->pw_gid;
    return true;
}

static bool find_group(const char *name, gid_t *gid)
{
    struct group *gr;
    uint32_t number;

    if (slice_to_u32(slice_from_str(name), &number)) {
        *gid = number;
        return true;
    }
    gr = getgrnam(name);
    if (gr == NULL)
        return false;
    *gid = gr->gr_gid;
    return true;
}

/* value "" leaves *uid and *gid alone. */
int service_take_user(struct build *b, const char *service, const char *value, const char *place, uid_t *uid,
                     gid_t *gid)
{
    char *see;
    const char *name = service_resolve(b, value, place, &see);
    uid_t found_uid;
    gid_t found_gid;
    int result = 0;

    if (name[0] == '\0' || !b->generation->master->root) {
        /* Defaults become the user who runs master; a number or name that was written there must be possible. */
        if (name[0] != '\0' && value[0] != '$' && service_find_user(name, &found_uid, &found_gid) &&
            found_uid != geteuid())
            result = error_set(b->error, ERROR_PERMISSION,
                               "service(%s) Can't run as user %s, because the master is not running as root (See %s)",
                               service, name, see);
    } else if (!service_find_user(name, &found_uid, &found_gid)) {
        result = error_set(b->error, ERROR_INVALID, "service(%s) User doesn't exist: %s (See %s)", service, name, see);
    } else {
        *uid = found_uid;
        if (gid != NULL)
            *gid = found_gid;
    }
    mem_free(see);
    return result;
}

int service_take_group(struct build *b, const char *service, const char *value, const char *place, gid_t *gid)
{
    char *see;
    const char *name = service_resolve(b, value, place, &see);
    int result = 0;

    if (name[0] != '\0' && b->generation->master->root && !find_group(name, gid))
        result = error_set(b->error, ERROR_INVALID, "service(%s) Group doesn't exist: %s (See %s)", service, name,
                           see);
    mem_free(see);
    return result;
}

static int take_extra_groups(struct build *b, struct unit *unit, const char *list)
{
    struct slice rest = slice_from_str(list), word;
    struct buffer numbers = {0};
    char *place = mem_printf("service %s { extra_groups } setting", unit->name);
    int result = 0;

    while (result == 0 && rest.size > 0 && slice_split(&rest, ',', &word)) {
        char *name = mem_strndup(slice_trim(word));
        gid_t gid = (gid_t)-1;

        if (name[0] != '\0')
            result = service_take_group(b, unit->name, name, place, &gid);
        if (gid != (gid_t)-1)
            buffer_printf(&numbers, "%s%u", numbers.size == 0 ? "" : ",", gid);
        mem_free(name);
    }
    if (numbers.size > 0)
        unit->extra_gids = mem_strdup(buffer_cstr(&numbers));
    buffer_free(&numbers);
    mem_free(place);
    return result;
}

int service_take_credentials(struct build *b, struct unit *unit, const struct conf_block *block)
{
    char *user = mem_printf("service %s { user } setting", unit->name);
    char *group = mem_printf("service %s { group } setting", unit->name);
    char *privileged = mem_printf("service %s { privileged_group } setting", unit->name);
    const char *name = conf_block_str(block, "user");
    int result = -1;

    unit->uid = (uid_t)-1;
    unit->gid = unit->privileged_gid = (gid_t)-1;
    /* The front of lmtp parses what strangers send: ours is never root (DECISIONS 1.1). */
    if (strcmp(unit->name, "lmtp") == 0 && !conf_block_assigned(block, "user"))
        name = "$default_internal_user";
    if (service_take_user(b, unit->name, name, user, &unit->uid, &unit->gid) == 0 &&
        service_take_group(b, unit->name, conf_block_str(block, "group"), group, &unit->gid) == 0 &&
        service_take_group(b, unit->name, conf_block_str(block, "privileged_group"), privileged,
                           &unit->privileged_gid) == 0 &&
        take_extra_groups(b, unit, conf_block_str(block, "extra_groups")) == 0)
        result = 0;
    mem_free(user);
    mem_free(group);
    mem_free(privileged);
    return result;
}
