/* plugin.c - what plugin {} says for one user (config 5, quota-acl-plugins).
 *
 * A field of the userdb that no setting is named after is a plugin value (auth 7); such values, and those of -o, are taken
 * as they are, those of the configuration are expanded. */
#include "conf/plugins.h"
#include "store/internal.h"
#include "store/plugins.h"
#include "store/quota/quota.h"

#include <stdio.h>

static const char *field_of(const struct mail_user *user, const char *key)
{
    size_t n = strlen(key);

    for (size_t i = 0; user->fields != NULL && user->fields[i] != NULL; i++) {
        const char *pair = user->fields[i];

        if (strncmp(pair, key, n) == 0 && (pair[n] == '=' || pair[n] == '\0'))
            return pair[n] == '=' ? pair + n + 1 : "yes";
    }
    return NULL;
}

int mail_user_plugin_text(const struct mail_user *user, struct arena *arena, const char *key, const char **value, struct error *e)
{
    const char *text = field_of(user, key);

    *value = NULL;
    if (text == NULL) {
        text = conf_plugin(user->settings, key);
        if (text == NULL)
            return 0;
        if (!conf_plugin_overridden(user->settings, key)) {
            text = mail_user_expand(user, arena, text, e);
            if (text == NULL)
                return error_context(e, "Failed to expand plugin setting %s = '%s': ", key, conf_plugin(user->settings, key));
        }
    }
    *value = arena_strdup(arena, text);
    return 0;
}

bool mail_user_plugin_bool(const struct mail_user *user, const char *key)
{
    const char *text = field_of(user, key);

    return text == NULL ? conf_plugin_bool(user->settings, key) : *text == '\0' || strchr("nN0fF", *text) == NULL;
}

/* A process says it once of each plugin: here are the names, each behind a blank. */
static struct buffer told;

static bool tell(const char *name)
{
    char word[256];

    if ((size_t)snprintf(word, sizeof(word), " %s ", name) >= sizeof(word) || slice_find_slice(buffer_slice(&told), slice_from_str(word)) >= 0)
        return false;
    buffer_append_str(&told, word);
    return true;
}

void mail_user_login(struct mail_user *user)
{
    struct arena *arena = arena_new();
    const char *name;
    size_t at = 0;

    while ((name = conf_plugins_absent(user->settings, arena, &at)) != NULL) {
        if (strcmp(user->service, "doveadm") == 0)
            log_debug(NULL, "Plugin '%s' is not available in this version, it has no effect", name);
        else if (tell(name))
            log_warning(NULL, "Plugin '%s' is not available in this version, it has no effect", name);
    }
    arena_free(arena);
    quota_over_check(user, false);
    last_login_write(user);
}

bool store_wildcard_match(const char *pattern, const char *text)
{
    const char *star = NULL, *back = NULL;

    while (*text != '\0') {
        if (*pattern == '*') {
            star = ++pattern;
            back = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star;
            text = ++back;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}
