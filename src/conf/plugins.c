/* plugins.c - the names of mail_plugins (quota-acl-plugins 7). */
#include "conf/plugins.h"

#include <dirent.h>
#include <stdlib.h>

/* In the order in which Dovecot loads them: by the names of their files. */
static const struct plugin {
    unsigned number;           /* of the file: lib20_zlib_plugin.so */
    const char *name;
    bool here;                 /* this server has it */
    const char *needs;         /* another one that has to be named; NULL = none */
} plugins[] = {
    {1, "acl", true, NULL},
    {1, "apparmor", false, NULL},
    {1, "mail_lua", false, NULL},
    {2, "imap_acl", true, "acl"},
    {2, "lazy_expunge", true, NULL},
    {5, "mail_crypt_acl", true, "acl"},
    {5, "pop3_migration", false, NULL},
    {10, "last_login", true, NULL},
    {10, "mail_crypt", true, NULL},
    {10, "quota", true, NULL},
    {11, "imap_quota", true, "quota"},
    {11, "trash", true, "quota"},
    {15, "notify", true, NULL},
    {20, "charset_alias", true, NULL},
    {20, "fts", false, NULL},
    {20, "listescape", true, NULL},
    {20, "mail_log", true, "notify"},
    {20, "mailbox_alias", true, NULL},
    {20, "notify_status", true, "notify"},
    {20, "push_notification", true, "notify"},
    {20, "quota_clone", true, "quota"},
    {20, "replication", false, "notify"},
    {20, "var_expand_crypt", true, NULL},
    {20, "virtual", true, NULL},
    {20, "zlib", true, NULL},
    {21, "fts_lucene", false, "fts"},
    {21, "fts_solr", false, "fts"},
    {21, "fts_squat", false, "fts"},
    {22, "push_notification_lua", false, "push_notification"},
    {30, "imap_zlib", true, NULL},
    {90, "old_stats", false, NULL},
    {90, "sieve", false, NULL},
    {95, "imap_filter_sieve", false, NULL},
    {95, "imap_old_stats", false, "old_stats"},
    {95, "imap_sieve", false, NULL},
    {99, "welcome", true, NULL},
    /* Of others, often met. */
    {21, "fts_flatcurve", false, "fts"},
    {21, "fts_xapian", false, "fts"},
    {90, "antispam", false, NULL},
};
enum { PLUGINS = sizeof(plugins) / sizeof(plugins[0]) };

/* The next name of mail_plugins, without what makes it a file's. False: there is none. */
static bool next_name(struct slice *rest, struct slice *name)
{
    *name = SLICE_EMPTY;
    while (rest->size > 0) {
        size_t size = 0;

        while (size < rest->size && rest->at[size] != ' ' && rest->at[size] != ',')
            size++;
        *name = slice_head(*rest, size);
        *rest = slice_from(*rest, size < rest->size ? size + 1 : size);
        if (size > 0)
            break;
    }
    if (rest->size == 0 && name->size == 0)
        return false;
    if (slice_starts(*name, SLICE("lib")))
        *name = slice_from(*name, 3);
    for (size_t i = 0; i < name->size && (name->at[i] == '_' || (name->at[i] >= '0' && name->at[i] <= '9')); i++)
        if (name->at[i] == '_' && i > 0) {
            *name = slice_from(*name, i + 1);
            break;
        }
    if (name->size > 3 && slice_equal_str(slice_from(*name, name->size - 3), ".so"))
        *name = slice_head(*name, name->size - 3);
    return true;
}

static const struct plugin *find_plugin(struct slice name)
{
    for (size_t i = 0; i < PLUGINS; i++)
        if (slice_equal_str(name, plugins[i].name))
            return &plugins[i];
    return NULL;
}

bool conf_plugin_named(const struct settings *set, const char *wanted)
{
    struct slice rest = slice_from_str(conf_str(set, SET_mail_plugins)), name;

    while (next_name(&rest, &name))
        if (slice_equal_str(name, wanted))
            return true;
    return false;
}

/* Somebody else's plugin, which Dovecot would load: lib<digits>_<name>_plugin.so. */
static bool has_file(const struct settings *set, struct slice name)
{
    DIR *dir = opendir(conf_str(set, SET_mail_plugin_dir));
    const struct dirent *d;
    bool found = false;

    while (dir != NULL && !found && (d = readdir(dir)) != NULL) {
        struct slice file = slice_from_str(d->d_name), bare = SLICE_EMPTY;

        if (!slice_starts(file, SLICE("lib")) || file.size < 4 || !next_name(&file, &bare))
            continue;
        found = slice_equal(bare, name) ||
                (bare.size == name.size + 7 && slice_starts(bare, name) && slice_equal_str(slice_from(bare, name.size), "_plugin"));
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

static bool is_known(const struct settings *set, struct slice name)
{
    return find_plugin(name) != NULL || has_file(set, name);
}

int conf_plugins_check(const struct settings *set, bool hint, struct error *e)
{
    struct slice rest = slice_from_str(conf_str(set, SET_mail_plugins)), name, unknown = SLICE_EMPTY;
    bool named[PLUGINS] = {false};

    while (next_name(&rest, &name)) {
        const struct plugin *p = find_plugin(name);

        if (p != NULL)
            named[p - plugins] = true;
        else if ((unknown.size == 0 || slice_compare(name, unknown) < 0) && !is_known(set, name))
            unknown = name;
    }
    for (size_t i = 0; i < PLUGINS; i++) {
        const struct plugin *p = &plugins[i];

        if (named[i] && p->needs != NULL && !named[find_plugin(slice_from_str(p->needs)) - plugins])
            return error_set(e, ERROR_INVALID, "Couldn't load required plugin %s/lib%02u_%s_plugin.so: Plugin %s must be loaded also%s%s%s",
                             conf_str(set, SET_mail_plugin_dir), p->number, p->name, p->needs,
                             hint ? " (you must set: mail_plugins=$mail_plugins " : "", hint ? p->needs : "", hint ? ")" : "");
    }
    if (unknown.size > 0)
        return error_set(e, ERROR_INVALID, "Plugin '%.*s' not found from directory %s", (int)unknown.size, (const char *)unknown.at,
                         conf_str(set, SET_mail_plugin_dir));
    return 0;
}

/* Has it stood further in front already? */
static bool seen(struct slice text, const unsigned char *end, struct slice wanted)
{
    struct slice rest = slice_head(text, (size_t)(end - text.at)), name;

    while (next_name(&rest, &name))
        if (slice_equal(name, wanted))
            return true;
    return false;
}

const char *conf_plugins_absent(const struct settings *set, struct arena *arena, size_t *at)
{
    const struct slice text = slice_from_str(conf_str(set, SET_mail_plugins));
    struct slice rest = slice_from(text, *at), name;

    while (next_name(&rest, &name)) {
        const struct plugin *p = find_plugin(name);
        const unsigned char *begin = name.at;

        while (begin > text.at && begin[-1] != ' ' && begin[-1] != ',')
            begin--;
        *at = text.size - rest.size;
        if ((p == NULL || !p->here) && !seen(text, begin, name))
            return arena_str(arena, name);
    }
    return NULL;
}
