/* What the readers of configuration files share: how much to resolve, $names, <files. */
#ifndef YARILO_CONF_READING_H
#define YARILO_CONF_READING_H

#include "conf/tree.h"

struct conf_reading {
    /* Resolve $names and read <files, as running servers do; else both stay as text (config 4). */
    bool expand;
    /* With expand: modules whose <files are wanted, ended by NULL; NULL = all. */
    const char *const *modules;
    /* With expand: a key of the TLS server that the caller may not read becomes empty instead of an error. */
    bool skip_unreadable_keys;
};

/* Words of a value that begin with $ (config 4.1). `key` itself is always resolved, in `level` or what is around it. */
int conf_expand_words(struct conf_tree *, struct conf_level *, const char *key, const char *raw, bool expand,
                      const char **value, struct error *);
/* "<path": its content, or the text when it is not to be read. `full`: the key's path in messages; `global`: a
 * setting of the top level, which modules may not want. */
int conf_file_value(struct conf_tree *, const struct conf_reading *, const char *full, const char *key, bool global,
                    const char *path, const char **value, struct error *);
/* A whole file onto the end of *text; links are followed, a folder reads as empty. -1: "open(%s) failed: %m". */
int conf_read_file(const char *path, struct buffer *text, struct error *);

#endif
