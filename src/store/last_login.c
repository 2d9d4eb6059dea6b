/* last_login.c - when somebody was last here, in a dictionary (quota-acl-plugins 6).
 *
 * One shared key a user. Nobody waits for it: what goes wrong is an error in the log, never in the session. */
#include "store/dict_write.h"
#include "store/internal.h"

#include <time.h>

#define KEY_DEFAULT "last-login/%u"

static char *time_text(struct arena *arena, const char *precision)
{
    static const struct {
        const char *name;
        unsigned long long a_second;
    } known[] = {{"s", 1}, {"ms", 1000}, {"us", 1000000}, {"ns", 1000000000}};
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(precision, known[i].name) == 0)
            return arena_printf(arena, "%llu", (unsigned long long)now.tv_sec * known[i].a_second +
                                                   (unsigned long long)now.tv_nsec / (1000000000 / known[i].a_second));
    return NULL;
}

static int write_login(struct mail_user *user, struct arena *arena, struct error *e)
{
    struct dict_change change = {.what = DICT_SET};
    const char *uri, *key, *precision;

    if (mail_user_plugin_text(user, arena, "last_login_dict", &uri, e) < 0 ||
        mail_user_plugin_text(user, arena, "last_login_key", &key, e) < 0 ||
        mail_user_plugin_text(user, arena, "last_login_precision", &precision, e) < 0)
        return -1;
    if (uri == NULL || *uri == '\0')
        return 0;
    if (key == NULL || *key == '\0')
        key = mail_user_expand(user, arena, KEY_DEFAULT, e);
    if (key == NULL)
        return -1;
    if (precision == NULL || *precision == '\0')
        precision = "s";
    change.key = arena_printf(arena, "shared/%s", key);
    change.value = time_text(arena, precision);
    if (change.value == NULL)
        return error_set(e, ERROR_INVALID, "last_login_dict: Invalid last_login_precision '%s'", precision);
    dict_write(user, "last_login_dict", uri, &change, 1, NULL, NULL);
    return 0;
}

void last_login_write(struct mail_user *user)
{
    struct arena *arena;
    struct error e;

    if (!mail_user_plugin(user, "last_login"))
        return;
    arena = arena_new();
    if (write_login(user, arena, &e) < 0)
        log_error_value(user->log_p, &e);
    arena_free(arena);
}
