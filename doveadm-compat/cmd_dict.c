/* cmd_dict.c - dict get, set, unset, inc, iter (doveadm 7.4). The user of -u is only a name. */
#include "doveadm.h"
#include "print.h"
#include "store/dict.h"

/* -> 0, or the status. `value`: the name of the argument behind the key, NULL = none. */
static int open_dict(struct doveadm *d, const char *key_name, const char *value, const char *missing, struct dict **out)
{
    const char *uri = doveadm_text(d, "dict-uri"), *key = doveadm_text(d, key_name), *user = doveadm_text(d, "user");
    struct dict_settings settings = {.user = user, .base_dir = conf_str(doveadm_settings(d), SET_base_dir)};
    struct error e;

    *out = NULL;
    if (uri == NULL || key == NULL || (value != NULL && doveadm_text(d, value) == NULL)) {
        log_error(NULL, "%s", missing);
        return DOVEADM_USAGE;
    }
    if (!dict_key_valid(key)) {
        log_error(NULL, "Key must begin with 'priv/' or 'shared/': %s", key);
        return DOVEADM_USAGE;
    }
    if (strncmp(key, "priv/", 5) == 0 && user == NULL) {
        log_error(NULL, "-u must be specified for priv/ keys");
        return DOVEADM_USAGE;
    }
    if (dict_open(out, uri, &settings, &e) == 0)
        return 0;
    log_error(NULL, "dict_init(%s) failed: %s", uri, e.admin);
    return DOVEADM_TEMPFAIL;
}

int doveadm_dict_get(struct doveadm *d)
{
    struct dict *dict;
    const char *key, *value;
    struct error e;
    int r = open_dict(d, "key", NULL, "dict-get: Missing key", &dict);

    if (r != 0)
        return r;
    key = doveadm_text(d, "key");
    print_init(d, "table");
    print_header(d, "value", "", PRINT_HIDE_TITLE);
    if (dict_get(dict, d->arena, key, &value, &e) < 0) {
        log_error(NULL, "dict_lookup(%s) failed: %s", key, e.admin);
        r = DOVEADM_TEMPFAIL;
    } else if (value == NULL) {
        log_error(NULL, "%s doesn't exist", key);
        r = DOVEADM_NOTFOUND;
    } else {
        print_value(d, value);
    }
    dict_close(&dict);
    return r;
}

static int commit(struct dict *dict, struct dict_change *change)
{
    struct error e;
    int r = DOVEADM_OK;

    if (dict_commit_wait(dict, change, 1, &e) < 0) {
        log_error(NULL, "dict_transaction_commit() failed: %s", e.admin);
        r = DOVEADM_TEMPFAIL;
    } else if (change->missing) {
        log_error(NULL, "%s doesn't exist", change->key);
        r = DOVEADM_NOTFOUND;
    }
    dict_close(&dict);
    return r;
}

int doveadm_dict_set(struct doveadm *d)
{
    struct dict *dict;
    struct dict_change change = {.what = DICT_SET, .key = doveadm_text(d, "key"), .value = doveadm_text(d, "value")};
    int r = open_dict(d, "key", "value", "dict set: Missing parameters", &dict);

    return r != 0 ? r : commit(dict, &change);
}

int doveadm_dict_unset(struct doveadm *d)
{
    struct dict *dict;
    struct dict_change change = {.what = DICT_UNSET, .key = doveadm_text(d, "key")};
    int r = open_dict(d, "key", NULL, "dict unset: Missing key", &dict);

    return r != 0 ? r : commit(dict, &change);
}

int doveadm_dict_inc(struct doveadm *d)
{
    static const char missing[] = "dict-inc: Missing parameters";
    struct dict *dict;
    struct dict_change change = {.what = DICT_ADD, .key = doveadm_text(d, "key")};
    int r;

    if (doveadm_text(d, "difference") != NULL && !doveadm_number(d, "difference", &change.add)) {
        log_error(NULL, "%s", missing);
        return DOVEADM_USAGE;
    }
    r = open_dict(d, "key", "difference", missing, &dict);
    return r != 0 ? r : commit(dict, &change);
}

static int find_pairs(struct doveadm *d, struct dict *dict, const char *prefix, struct dict_pairs *pairs, struct error *e)
{
    const char *value;

    if (!doveadm_flag(d, "exact"))
        return dict_list(dict, d->arena, prefix, doveadm_flag(d, "recurse"), pairs, e);
    if (dict_get(dict, d->arena, prefix, &value, e) < 0)
        return -1;
    if (value != NULL)
        VEC_PUSH(pairs, ((struct dict_pair){prefix, value}));
    return 0;
}

int doveadm_dict_iter(struct doveadm *d)
{
    struct dict *dict;
    struct dict_pairs pairs = {0};
    const char *prefix;
    struct error e;
    int r = open_dict(d, "prefix", NULL, "dict-iter: Missing prefix", &dict);

    if (r != 0)
        return r;
    prefix = doveadm_text(d, "prefix");
    print_init(d, "tab");
    print_header_simple(d, "key");
    if (!doveadm_flag(d, "no-value"))
        print_header_simple(d, "value");
    if (find_pairs(d, dict, prefix, &pairs, &e) < 0) {
        log_error(NULL, "dict_iterate_deinit(%s) failed: %s", prefix, e.admin);
        r = DOVEADM_TEMPFAIL;
    }
    for (size_t i = 0; i < pairs.count; i++) {
        print_value(d, pairs.at[i].key);
        if (!doveadm_flag(d, "no-value"))
            print_value(d, pairs.at[i].value);
    }
    VEC_FREE(&pairs);
    dict_close(&dict);
    return r;
}
