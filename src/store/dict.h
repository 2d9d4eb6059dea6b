/* Small dictionaries of keys and values: mailbox attributes, quota, who shares what (ipc 10.2, maildir-and-layouts 10).
 *
 * The driver here is `file`: pairs of lines, TAB-escaped, the whole file rewritten under its dotlock; a Dovecot may use the
 * same file at the same time. Keys begin with "priv/" or "shared/" and have no empty parts. */
#ifndef YARILO_STORE_DICT_H
#define YARILO_STORE_DICT_H

#include "base/base.h"

struct dict;

/* `uri` is expanded already ("file:/home/u/attributes"). Opens no file. ERROR_UNSUPPORTED "Unknown dict module: x". */
int dict_open(struct dict **, const char *uri, struct error *);
void dict_close(struct dict **);               /* NULL is fine */

/* *value NULL: not there. Lives in the arena. A missing file is an empty dictionary. */
int dict_get(struct dict *, struct arena *, const char *key, const char **value, struct error *);

struct dict_pair {
    const char *key, *value;
};
struct dict_pairs {
    struct dict_pair *at;
    size_t count, room;
};
/* Pairs whose key begins with `prefix` ("priv/x/"), in the order of the file; without `deep` only those whose rest has
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
/* All of them, under the lock, in one rewrite; nothing is written where nothing changes. STEP_WAIT: somebody has the
 * lock, call again. */
enum step dict_commit(struct dict *, struct dict_change *, size_t count, struct error *);
/* The same, waiting up to the lock's two minutes. */
int dict_commit_wait(struct dict *, struct dict_change *, size_t count, struct error *);

/* Bytes of a file <-> pairs; an odd last line is dropped. For tests and fuzzing. */
void dict_parse(struct slice file, struct arena *, struct dict_pairs *);
void dict_put(struct buffer *, const struct dict_pairs *);

#endif
