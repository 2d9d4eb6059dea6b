/* dict_file.c - the dictionary in a file (ipc 10.2).
 *
 * The lock file is the new file; it is renamed over the old one. What was read is kept until inode, size or time of the
 * file change. Order of the lines is kept, new keys come last. No fsync, as there: a crash may lose the last change, never
 * the file. */
#include "store/dict_driver.h"

#include "store/location.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX (64u << 20)
#define STALE_SECS 60

struct file_dict {
    struct dict dict;
    char *path, *folder;
    const char *name;              /* in path */
    struct arena *arena;           /* of what was read */
    struct dict_pairs pairs;
    bool known;
    struct stat st;
};

static struct file_dict *file_of(struct dict *dict)
{
    return (struct file_dict *)dict; /* its first member */
}

static int open_file(struct dict **out, const char *args, const struct dict_settings *settings, struct error *e)
{
    struct slice rest = slice_from_str(args);
    struct file_dict *dict;
    ptrdiff_t lock;

    /* ":lock=fcntl": the file itself would be locked; the dotlock serves all. */
    lock = slice_find_slice(rest, SLICE(":lock="));
    if (lock >= 0)
        rest = slice_head(rest, (size_t)lock);
    if (slice_starts(rest, SLICE("~/")) && settings->home == NULL)
        return error_set(e, ERROR_INVALID, "dict-file: the home of ~/ is not known: file:%s", args);
    if (!slice_starts(rest, SLICE("~/")) && (rest.size == 0 || rest.at[0] != '/'))
        return error_set(e, ERROR_INVALID, "dict-file: path is not absolute: file:%s", args);
    dict = mem_zero(1, sizeof(*dict));
    dict->path = rest.at[0] == '/' ? mem_strndup(rest) : mem_printf("%s%.*s", settings->home, (int)rest.size - 1, (const char *)rest.at + 1);
    dict->folder = mem_strdup(dict->path);
    char *slash = strrchr(dict->folder, '/');
    dict->name = dict->path + (slash - dict->folder) + 1;
    slash[slash == dict->folder ? 1 : 0] = '\0';
    dict->arena = arena_new();
    *out = &dict->dict;
    return 0;
}

static void close_file(struct dict *d)
{
    struct file_dict *dict = file_of(d);

    VEC_FREE(&dict->pairs);
    arena_free(dict->arena);
    mem_free(dict->path);
    mem_free(dict->folder);
    mem_free(dict);
}

static const char *field(struct arena *arena, struct slice line)
{
    return arena_str(arena, text_tab_unescape(arena, line));
}

void dict_parse(struct slice file, struct arena *arena, struct dict_pairs *pairs)
{
    struct slice key, value;

    while (slice_split(&file, '\n', &key) && file.at != NULL && slice_split(&file, '\n', &value))
        VEC_PUSH(pairs, ((struct dict_pair){field(arena, key), field(arena, value)}));
}

void dict_put(struct buffer *out, const struct dict_pairs *pairs)
{
    for (size_t i = 0; i < pairs->count; i++) {
        if (pairs->at[i].key == NULL)
            continue;
        text_tab_escape(out, slice_from_str(pairs->at[i].key));
        buffer_append_byte(out, '\n');
        text_tab_escape(out, slice_from_str(pairs->at[i].value));
        buffer_append_byte(out, '\n');
    }
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int load(struct file_dict *dict, struct error *e)
{
    struct buffer text = {0};
    struct stat st;

    if (stat(dict->path, &st) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return error_sys(e, "stat", dict->path);
        dict->known = false;
        dict->pairs.count = 0;
        return 0;
    }
    if (dict->known && same_file(&st, &dict->st))
        return 0;
    dict->known = false;
    if (os_read_file(AT_FDCWD, dict->path, FILE_MAX, &text, e) < 0) {
        buffer_free(&text);
        if (e->class != ERROR_NOT_FOUND)
            return -1;
        dict->pairs.count = 0;
        return 0;
    }
    arena_reset(dict->arena);
    dict->pairs.count = 0;
    dict_parse(buffer_slice(&text), dict->arena, &dict->pairs);
    buffer_free(&text);
    /* The file is replaced, never changed: what was read is at least as new as what stat saw. */
    dict->st = st;
    dict->known = true;
    return 0;
}

/* The last line of a key counts, as when it is read into a table. */
static struct dict_pair *find(const struct dict_pairs *pairs, const char *key)
{
    for (size_t i = pairs->count; i-- > 0;)
        if (pairs->at[i].key != NULL && strcmp(pairs->at[i].key, key) == 0)
            return &pairs->at[i];
    return NULL;
}

static int get(struct dict *d, struct arena *arena, const char *key, struct dict_values *values, struct error *e)
{
    struct file_dict *dict = file_of(d);
    const struct dict_pair *pair;

    if (load(dict, e) < 0)
        return -1;
    pair = find(&dict->pairs, key);
    if (pair != NULL)
        dict_value_add(values, arena, pair->value);
    return 0;
}

static int list(struct dict *d, struct arena *arena, const char *prefix, bool deep, struct dict_pairs *out, struct error *e)
{
    struct file_dict *dict = file_of(d);
    size_t n = strlen(prefix);

    if (load(dict, e) < 0)
        return -1;
    for (size_t i = 0; i < dict->pairs.count; i++) {
        const struct dict_pair *pair = &dict->pairs.at[i];

        if (strncmp(pair->key, prefix, n) == 0 && (deep || strchr(pair->key + n, '/') == NULL))
            VEC_PUSH(out, ((struct dict_pair){arena_strdup(arena, pair->key), arena_strdup(arena, pair->value)}));
    }
    return 0;
}

/* ---- changing ---- */

static bool set_value(struct file_dict *dict, const char *key, const char *value)
{
    struct dict_pair *pair = find(&dict->pairs, key);

    if (pair != NULL && strcmp(pair->value, value) == 0)
        return false;
    if (pair != NULL)
        pair->value = arena_strdup(dict->arena, value);
    else
        VEC_PUSH(&dict->pairs, ((struct dict_pair){arena_strdup(dict->arena, key), arena_strdup(dict->arena, value)}));
    return true;
}

static bool unset(struct file_dict *dict, const char *key, bool below)
{
    size_t n = strlen(key);
    bool changed = false;

    for (size_t i = 0; i < dict->pairs.count; i++) {
        struct dict_pair *pair = &dict->pairs.at[i];

        if (pair->key != NULL && (below ? strncmp(pair->key, key, n) == 0 : strcmp(pair->key, key) == 0)) {
            pair->key = NULL;
            changed = true;
        }
    }
    return changed;
}

static int add(struct file_dict *dict, struct dict_change *change, bool *changed, struct error *e)
{
    struct dict_pair *pair = find(&dict->pairs, change->key);
    char *end;
    long long old;

    change->missing = pair == NULL;
    if (pair == NULL)
        return 0;
    errno = 0;
    old = strtoll(pair->value, &end, 10);
    if (errno != 0 || *end != '\0' || end == pair->value)
        return error_set(e, ERROR_CORRUPT, "Value for %s is not a number: %s", change->key, pair->value);
    *changed = *changed || change->add != 0;
    pair->value = arena_printf(dict->arena, "%lld", (long long)((unsigned long long)old + (unsigned long long)change->add));
    return 0;
}

static int apply(struct file_dict *dict, struct dict_change *changes, size_t count, bool *changed, struct error *e)
{
    for (size_t i = 0; i < count; i++) {
        struct dict_change *change = &changes[i];

        switch (change->what) {
        case DICT_SET:
            *changed |= set_value(dict, change->key, change->value);
            break;
        case DICT_UNSET:
        case DICT_UNSET_BELOW:
            *changed |= unset(dict, change->key, change->what == DICT_UNSET_BELOW);
            break;
        case DICT_ADD:
            if (add(dict, change, changed, e) < 0)
                return -1;
            break;
        }
    }
    return 0;
}

/* A new file has the rights of its folder, a later one those of the file before. */
static struct os_dotlock_options lock_options(const struct file_dict *dict)
{
    struct mail_modes modes = mail_modes_of(dict->folder);
    struct os_dotlock_options options = {.stale_secs = STALE_SECS, .replaces = true, .protects = dict->name};
    struct stat st;

    if (stat(dict->path, &st) == 0) {
        modes.file = st.st_mode & 0666;
        modes.gid = st.st_gid == getegid() ? (gid_t)-1 : st.st_gid;
    }
    options.mode = modes.file;
    options.gid = modes.gid;
    options.set_gid = modes.gid != (gid_t)-1;
    return options;
}

static int rewrite(struct file_dict *dict, struct dict_change *changes, size_t count, struct os_dotlock **lock, struct error *e)
{
    struct buffer out = {0};
    bool changed = false;
    int r = load(dict, e);

    if (r == 0)
        r = apply(dict, changes, count, &changed, e);
    /* From here on memory and file differ, unless all goes well: read again. */
    dict->known = false;
    if (r == 0 && changed) {
        dict_put(&out, &dict->pairs);
        r = os_write(os_dotlock_fd(*lock), buffer_slice(&out), e);
        if (r == 0)
            r = os_dotlock_replace(lock, dict->name, e);
    }
    if (*lock != NULL)
        os_dotlock_release(lock);
    buffer_free(&out);
    return r;
}

static enum step commit(struct dict *d, struct dict_change *changes, size_t count, struct error *e)
{
    struct file_dict *dict = file_of(d);
    struct os_dotlock_options options;
    struct os_dotlock *lock = NULL;
    char name[300];
    enum os_lock got;
    int dir, r = -1;

    if ((size_t)snprintf(name, sizeof(name), "%s.lock", dict->name) >= sizeof(name)) {
        error_set(e, ERROR_INVALID, "%s: name is too long", dict->path);
        return STEP_ERROR;
    }
    dir = open(dict->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 && errno == ENOENT) {
        /* The home, or the folder for the file, is new. */
        if (os_mkdir_parents(AT_FDCWD, dict->folder, 0700, (gid_t)-1, e) < 0)
            return STEP_ERROR;
        dir = open(dict->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    if (dir < 0) {
        error_sys(e, "open", dict->folder);
        return STEP_ERROR;
    }
    options = lock_options(dict);
    got = os_dotlock_try_with(dir, name, &options, &lock, e);
    if (got == OS_GOT)
        r = rewrite(dict, changes, count, &lock, e);
    close(dir);
    if (got == OS_BUSY)
        return STEP_WAIT;
    if (got == OS_GOT && r == 0)
        return STEP_DONE;
    error_context(e, "dict-file: %s: ", dict->path);
    return STEP_ERROR;
}

const struct dict_driver dict_driver_file = {"file", open_file, close_file, get, list, commit, NULL, true};
