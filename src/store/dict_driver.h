/* What a kind of dictionary has to do; src/store/dict.h is the face. A driver's struct begins with struct dict. */
#ifndef YARILO_STORE_DICT_DRIVER_H
#define YARILO_STORE_DICT_DRIVER_H

#include "store/dict.h"

struct dict {
    const struct dict_driver *driver;
    char *user;                /* never NULL */
};

struct dict_driver {
    const char *name;
    /* `args`: what stands behind "name:". */
    int (*open)(struct dict **, const char *args, const struct dict_settings *, struct error *);
    void (*close)(struct dict *);
    int (*get)(struct dict *, struct arena *, const char *key, struct dict_values *, struct error *);
    int (*list)(struct dict *, struct arena *, const char *prefix, bool deep, struct dict_pairs *, struct error *);
    enum step (*commit)(struct dict *, struct dict_change *, size_t count, struct error *);
    /* NULL: commit never waits for others. Gets no UNSET_BELOW. */
    enum step (*commit_step)(struct dict *, struct dict_change *, size_t count, bool *uncertain, struct error *);
    bool unsets_below;         /* commit knows DICT_UNSET_BELOW; else it gets one UNSET for each key there is */
};

extern const struct dict_driver dict_driver_file, dict_driver_proxy;

/* NULL counts as "". */
void dict_value_add(struct dict_values *, struct arena *, const char *value);

#endif
