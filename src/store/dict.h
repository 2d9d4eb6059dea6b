/* Small dictionaries of keys and values: mailbox attributes, quota, who shares what (ipc 10, maildir-and-layouts 10).
 *
 * Drivers: `file` (pairs of lines, TAB-escaped, the whole file rewritten under its dotlock; a Dovecot may use the same file at
 * the same time) and `proxy` (a dict service is asked, Dovecot's or ours). libexec/dict and doveadm have further ones
 * (src/dict). Keys begin with "priv/" or "shared/" and have no empty parts; a key of "priv/" belongs to a user. */
#ifndef YARILO_STORE_DICT_H
#define YARILO_STORE_DICT_H

#include "base/base.h"

struct dict;

struct dict_driver;
struct dict_settings {
    const char *user;                          /* whose "priv/" is; NULL = nobody's */
    const char *home;                          /* "file:~/x" is in it; NULL = not known */
    const char *base_dir;                      /* where sockets are looked for ("proxy::quota"); NULL = the working directory */
    const struct dict_driver *const *more;     /* drivers besides file and proxy, ended by NULL; NULL = none */
};
/* `uri` is expanded already ("file:/home/u/attributes", "proxy::quota"). Opens nothing yet. ERROR_UNSUPPORTED
 * "Unknown dict module: x". */
int dict_open(struct dict **, const char *uri, const struct dict_settings *, struct error *);
void dict_close(struct dict **);               /* NULL is fine */
void dict_set_user(struct dict *, const char *user);   /* from now on */
/* "priv/..." or "shared/...". */
bool dict_key_valid(const char *key);

/* *value NULL: not there. Lives in the arena. A missing file is an empty dictionary. */
int dict_get(struct dict *, struct arena *, const char *key, const char **value, struct error *);
/* SQL maps may give several; one that is NULL there is "". None: not there. */
struct dict_values {
    const char **at;
    size_t count, room;
};
int dict_get_values(struct dict *, struct arena *, const char *key, struct dict_values *, struct error *);

struct dict_pair {
    const char *key, *value;
};
struct dict_pairs {
    struct dict_pair *at;
    size_t count, room;
};
/* Pairs whose key begins with `prefix` ("priv/x/"), in the driver's order; without `deep` only those whose rest has
 * no further '/'. Strings live in the arena; VEC_FREE(pairs). */
int dict_list(struct dict *, struct arena *, const char *prefix, bool deep, struct dict_pairs *, struct error *);

enum dict_what { DICT_SET, DICT_UNSET, DICT_ADD, DICT_UNSET_BELOW };
struct dict_change {
    enum dict_what what;
    const char *key;                           /* UNSET_BELOW: every key that begins with this */
    const char *value;                         /* SET */
    int64_t add;                               /* ADD, to a value that is there */
    bool missing;                              /* out, ADD: there was none; nothing is changed for this key */
};
/* All of them or none. A file: under the lock, in one rewrite; nothing is written where nothing changes. STEP_WAIT: somebody
 * has the lock, call again. A service: waited for, at most some seconds (dict_proxy.c). */
enum step dict_commit(struct dict *, struct dict_change *, size_t count, struct error *);
/* The same, but never waits for a service either (STEP_WAIT), up to Dovecot's 30 seconds. Nothing else may be asked of the
 * dictionary until it has ended; closing it gives up. *uncertain: it may be done nevertheless. */
enum step dict_commit_step(struct dict *, struct dict_change *, size_t count, bool *uncertain, struct error *);
/* dict_commit, waiting up to the lock's two minutes. */
int dict_commit_wait(struct dict *, struct dict_change *, size_t count, struct error *);

/* Bytes of a file <-> pairs; an odd last line is dropped. For tests and fuzzing. */
void dict_parse(struct slice file, struct arena *, struct dict_pairs *);
void dict_put(struct buffer *, const struct dict_pairs *);

#endif
