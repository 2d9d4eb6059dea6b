/* The face of src/conf: ONE schema of settings, and how every program reads its configuration.
 *
 * The schema is the table schema.def: each setting has an id (SET_mail_location), a type, a default text and flags;
 * each kind of section (passdb, namespace, service, ...) has its members. Readers (compat/: Dovecot's language;
 * yaml.c) fill a `struct conf_tree`; `config` compiles that into a snapshot (docs/formats/snapshot.md) which every
 * other program reads. A program never parses a configuration file itself.
 *
 *     struct conf *conf;                                  one a process (conf_open_process), refreshed on reload
 *     struct settings *set = conf_settings(conf, &filter) merged for one protocol, address, name; shared, refcounted
 *     conf_bool(set, SET_mail_debug), conf_secs(set, SET_imap_idle_notify_interval), conf_plugin(set, "quota")
 *
 * Values come out typed and in their unit; texts live as long as the settings they came from. A setting that was
 * not assigned gives its default (Dovecot's), and conf_assigned() tells the two apart (DECISIONS 2).
 * Only the accessor of the setting's own type may be used; another one is a bug and aborts. */
#ifndef YARILO_CONF_CONF_H
#define YARILO_CONF_CONF_H

#include "base/error.h"
#include "base/mem.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the schema ------------------------------------------------------------------------------------------------- */

enum conf_type {
    CONF_STR,
    CONF_STR_VARS,  /* contains %-variables that conf_expand resolves per user or session (config 5) */
    CONF_BOOL,
    CONF_UINT,
    CONF_OCTAL,     /* a file mode: conf_uint */
    CONF_PORT,      /* conf_uint */
    CONF_SIZE,      /* bytes: conf_size */
    CONF_TIME,      /* conf_secs */
    CONF_TIME_MSECS,/* conf_msecs */
    CONF_ENUM       /* one of the words: conf_str */
};

/* SET_<name> for every setting of the top level, in definition order. */
enum setting {
#define SETTING(name, type, value, group, flags) SET_##name,
#define OWN_SETTING(id, path, type, value, flags) SET_##id,
#include "conf/schema.def"
    SETTINGS
};

/* Sections that can stand several times. MAILBOX lives in NAMESPACE, the listeners in SERVICE. */
enum conf_block_kind {
    BLOCK_PASSDB, BLOCK_USERDB, BLOCK_NAMESPACE, BLOCK_MAILBOX, BLOCK_SERVICE, BLOCK_UNIX_LISTENER,
    BLOCK_FIFO_LISTENER, BLOCK_INET_LISTENER, BLOCK_METRIC, BLOCK_EVENT_EXPORTER, BLOCK_KINDS
};

const char *conf_name(enum setting);                        /* "mail_location" */
bool conf_find(const char *name, enum setting *);           /* by Dovecot's name, or a YAML path of our own keys */

/* ---- a compiled configuration ----------------------------------------------------------------------------------- */

struct conf;

/* Reads a snapshot; the descriptor is not needed afterwards (and stays the caller's). The snapshot is checked as
 * hostile input. */
int conf_open_fd(int fd, struct conf **, struct error *);
/* Compiles a file (Dovecot's language, or YAML by its name) by running libexec/config. `overrides`: NULL, or a
 * NULL-ended list of "key=value" as `-o` gives them. Errors carry Dovecot's text ("Error in configuration file %s
 * line %d: %s"); warnings of the reader go to standard error. */
int conf_open_file(const char *path, const char *const *overrides, struct conf **, struct error *);
/* How a service gets its configuration: the snapshot whose descriptor stands in the environment variable
 * YARILO_CONFIG_FD (master passes it); else the file in CONFIG_FILE; else the default file. */
#define CONF_FD_ENV "YARILO_CONFIG_FD"
int conf_open_process(struct conf **, struct error *);
/* For the master: a sealed memfd with what `service` may see (a login service gets ssl_key, nobody but those who
 * serve TLS does; login services get no passdb, userdb, dict, plugin values). NULL: everything. -> fd or -1. */
int conf_seal(const struct conf *, const char *service, struct error *);
void conf_free(struct conf *);                              /* settings handed out stay valid; NULL is fine */
const char *conf_path(const struct conf *);                 /* the main file, as it was given */

/* ---- settings for one request ----------------------------------------------------------------------------------- */

/* The known facts (config 3.3). NULL = unknown: every block that tests it does not match. */
struct conf_filter {
    const char *service;     /* "imap", "pop3", "lmtp", "sieve", "submission", "lda", "doveadm" ...: protocol blocks */
    const char *local_name;  /* TLS SNI */
    const char *local_ip, *remote_ip;
};

struct settings;

/* Merged settings for the facts, cached per set of matching blocks: a thousand sessions share one object. A
 * reference for the caller: settings_unref. NULL with *e on a conflict between blocks
 * ("Conflict in setting %s found from filter at %s"). A filter of NULL is the global level. */
struct settings *conf_settings(struct conf *, const struct conf_filter *, struct error *);
struct settings *settings_ref(struct settings *);
void settings_unref(struct settings *);                     /* NULL is fine */
/* Do blocks exist that test addresses or names for this service? (A login asks again per connection only then.) */
bool conf_uses_local(const struct conf *, const char *service);
bool conf_uses_remote(const struct conf *, const char *service);
bool conf_uses_local_name(const struct conf *, const char *service);

bool conf_bool(const struct settings *, enum setting);
unsigned conf_uint(const struct settings *, enum setting);          /* CONF_UINT, CONF_OCTAL, CONF_PORT */
uint64_t conf_size(const struct settings *, enum setting);
unsigned conf_secs(const struct settings *, enum setting);          /* CONF_TIME */
unsigned conf_msecs(const struct settings *, enum setting);         /* CONF_TIME or CONF_TIME_MSECS */
const char *conf_str(const struct settings *, enum setting);        /* CONF_STR, _STR_VARS, _ENUM; never NULL */
bool conf_assigned(const struct settings *, enum setting);          /* a file, -o, or an override set it */
/* The value as text, whatever the type (for scripts' environment, doveadm). */
const char *conf_text(const struct settings *, enum setting);

/* plugin { key = value }; NULL = absent. Booleans by the plugins' common rule (config 5): absent = false; n, N, 0,
 * f, F first = false; else true. */
const char *conf_plugin(const struct settings *, const char *key);
/* Is the word one of imap_capability's, with or without a '+' in front of them? Extensions are turned on so. */
bool conf_imap_extension(const struct settings *, const char *word);
bool conf_plugin_bool(const struct settings *, const char *key);
const char *conf_dict(const struct settings *, const char *key);    /* dict { key = value } */
/* Walks all pairs in order: for (size_t i = 0; conf_plugin_at(set, i, &key, &value); i++). */
bool conf_plugin_at(const struct settings *, size_t i, const char **key, const char **value);
bool conf_dict_at(const struct settings *, size_t i, const char **key, const char **value);

/* ---- blocks ----------------------------------------------------------------------------------------------------- */

struct conf_block;

/* The merged list in evaluation order (passdb of a protocol block before the global ones); *n its length. Built-in
 * services come first, in Dovecot's order. */
const struct conf_block *const *conf_blocks(const struct settings *, enum conf_block_kind, size_t *n);
/* Sub-blocks: BLOCK_MAILBOX of a namespace; the three listener kinds of a service. */
const struct conf_block *const *conf_block_blocks(const struct conf_block *, enum conf_block_kind, size_t *n);
/* The block of that name, or NULL. */
const struct conf_block *conf_block_find(const struct settings *, enum conf_block_kind, const char *name);
const char *conf_block_name(const struct conf_block *);     /* section name; path for UNIX listeners; "" = unnamed */
/* Members by name; an unknown name or wrong type aborts. */
const char *conf_block_str(const struct conf_block *, const char *member);
bool conf_block_bool(const struct conf_block *, const char *member);
unsigned conf_block_uint(const struct conf_block *, const char *member);
uint64_t conf_block_size(const struct conf_block *, const char *member);
unsigned conf_block_secs(const struct conf_block *, const char *member);
unsigned conf_block_msecs(const struct conf_block *, const char *member);
bool conf_block_assigned(const struct conf_block *, const char *member);
/* service { vsz_limit, idle_kill }: these values mean "use default_vsz_limit" and "never". */
#define CONF_SIZE_DEFAULT UINT64_MAX
#define CONF_TIME_NEVER UINT32_MAX

/* ---- derived settings ------------------------------------------------------------------------------------------- */

/* A new settings object that differs in one value: userdb fields and -o override any setting (auth 7). Paths:
 * "mail_location", "plugin/quota", "namespace/inbox/separator" (Dovecot's paths, config 2). `set` keeps its own
 * reference. An unknown key is ignored (config 11.2: returns a reference to `set`); a value of the wrong type gives
 * NULL and *e. The value of an override is not %-expanded: conf_overridden tells. */
struct settings *settings_override(struct settings *, const char *path, const char *value, struct error *);
/* Many at once (one copy): "key=value" texts, NULL-ended. A key without '=' is "yes". */
struct settings *settings_override_all(struct settings *, const char *const *pairs, struct error *);
bool conf_overridden(const struct settings *, enum setting);
bool conf_plugin_overridden(const struct settings *, const char *key);

/* ---- %-variables (config 9) ------------------------------------------------------------------------------------- */

/* One table of a context: short key (0 = none), long name (NULL = none), value (NULL = empty). Ended by {0, NULL,
 * NULL}. */
struct conf_var {
    char key;
    const char *name;
    const char *value;
};
/* A function such as userdb:FIELD. *value NULL = empty. Returns false with *e when the field is an error. */
struct conf_var_func {
    const char *name;        /* "userdb" */
    bool (*get)(void *arg, const char *field, struct arena *, const char **value, struct error *);
};
struct conf_vars {
    const struct conf_var *table;
    const struct conf_var_func *funcs;       /* NULL, or ended by {NULL, NULL} */
    void *arg;                               /* for the functions */
    /* NULL, or escapes every value (not the template) before it is put in: SQL, LDAP, paths. */
    const char *(*escape)(void *arg, const char *value, struct arena *);
    bool crypt;                              /* encrypt and decrypt are there: the plugin var_expand_crypt */
};

/* The variables of a mail process's user (config 9.3). auth_user: who logged in; NULL = the user. home: has_home = false leaves
 * the variable out. uid, gid: as text. Values live as long as what they were made from, and the arena. */
struct conf_user {
    const char *name, *auth_user, *service, *local_ip, *remote_ip, *uid, *gid, *session, *hostname, *home;
    bool has_home;
};
enum { CONF_USER_VARS = 18 };
void conf_user_vars(struct arena *, const struct conf_user *, struct conf_var table[CONF_USER_VARS]);

/* Never NULL. On an error *e is filled (class ERROR_INVALID, text as Dovecot's: "Unknown variable '%y'"), the text of
 * the variable becomes UNSUPPORTED_VARIABLE_<name>, and expansion goes on: the caller decides (config 9.1). `failed`
 * may be NULL. */
char *conf_expand(struct arena *, const char *template, const struct conf_vars *, bool *failed, struct error *);
/* Does the template use the variable (short key, or long name)? Modifiers and widths are skipped. */
bool conf_expand_uses(const char *template, char key, const char *name);

/* ---- values (config 5) ------------------------------------------------------------------------------------------ */

/* Checks a text against a type and gives its number; errors are Dovecot's texts. `words`: for CONF_ENUM, "a|b|c". */
int conf_parse_value(enum conf_type, const char *words, const char *text, uint64_t *number, struct error *);

#endif
