/* db_passwd_file.c - passwd-file (auth.md 9.1).
 *
 * A file is read into a hash table and read again when its time or size changes, looked at most once a second. With
 * variables in the path there is one table a path, in a bounded set. The path that results is normalised and must stay
 * below what stands before the first variable: a domain "../other" reaches no other file (CVE-2026-0394). */
#include "auth/db_drivers.h"
#include "auth/passwd_file.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#define TABLES_MOST 256
#define FILE_MOST (256UL * 1024 * 1024)

struct open_file {
    char *path;
    struct passwd_file *table;   /* NULL: missing */
    struct timespec mtime;
    off_t size;
    time_t checked;
    struct open_file *next, *prev; /* LRU, the oldest first */
};

struct state {
    const char *path, *username_format;
    bool vars;
    struct open_file *files;
    unsigned count;
};

static void free_file(struct state *s, struct open_file *f)
{
    DL_DELETE(s->files, f);
    s->count--;
    passwd_file_free(f->table);
    mem_free(f->path);
    mem_free(f);
}

/* Reads the file if it is new or has changed. -1: it cannot be read; NOT_FOUND when it does not exist. */
static int refresh(struct open_file *f, struct error *e)
{
    struct stat st;
    struct buffer text = {0};
    time_t now = time(NULL);

    if (f->table != NULL && f->checked == now)
        return 0;
    if (stat(f->path, &st) < 0)
        return error_sys(e, "stat", f->path);
    f->checked = now;
    if (f->table != NULL && st.st_mtim.tv_sec == f->mtime.tv_sec && st.st_mtim.tv_nsec == f->mtime.tv_nsec &&
        st.st_size == f->size)
        return 0;
    if (os_read_file(AT_FDCWD, f->path, FILE_MOST, &text, e) < 0) {
        buffer_wipe(&text);
        return -1;
    }
    passwd_file_free(f->table);
    f->table = passwd_file_parse(buffer_slice(&text), f->path);
    f->mtime = st.st_mtim;
    f->size = st.st_size;
    buffer_wipe(&text);
    return 0;
}

static struct open_file *get_file(struct state *s, const char *path)
{
    struct open_file *f;

    DL_FOREACH(s->files, f)
        if (strcmp(f->path, path) == 0) {
            DL_DELETE(s->files, f);
            DL_APPEND(s->files, f);
            return f;
        }
    if (s->count >= TABLES_MOST)
        free_file(s, s->files);
    f = mem_zero(1, sizeof(*f));
    f->path = mem_strdup(path);
    DL_APPEND(s->files, f);
    s->count++;
    return f;
}

static int open_driver(struct db *db, const struct db_params *params, struct error *e)
{
    struct state *s = mem_zero(1, sizeof(*s));
    const char *rest = params->args, *format = "%u";

    db->state = s;
    for (;;) {
        const char *space;
        while (*rest == ' ')
            rest++;
        space = strchr(rest, ' ');
        if (strncmp(rest, "scheme=", 7) == 0 && space != NULL)
            db->default_scheme = arena_str(params->arena, slice_of(rest + 7, (size_t)(space - rest) - 7));
        else if (strncmp(rest, "username_format=", 16) == 0 && space != NULL)
            format = arena_str(params->arena, slice_of(rest + 16, (size_t)(space - rest) - 16));
        else
            break;
        rest = space;
    }
    if (*rest == '\0')
        return error_set(e, ERROR_INVALID, "passwd-file: Missing args");
    s->path = arena_strdup(params->arena, rest);
    s->username_format = format;
    s->vars = strchr(rest, '%') != NULL;
    if (!s->vars) {
        /* Now, while the process may still read what only root can; a missing file may come later. */
        struct error why;
        if (refresh(get_file(s, s->path), &why) < 0)
            log_error(NULL, "passwd-file: %s", why.admin);
    }
    return 0;
}

static void close_driver(struct db *db)
{
    struct state *s = db->state;

    if (s == NULL)
        return;
    while (s->files != NULL)
        free_file(s, s->files);
    mem_free(s);
}

/* ---- paths ---------------------------------------------------------------------------------------------------- */

char *passwd_file_normalize(struct arena *arena, const char *path)
{
    struct slice rest = slice_from_str(path), part;
    VEC(struct slice) parts = {0};
    struct buffer b = {0};
    char *out;

    while (slice_split(&rest, '/', &part)) {
        if (part.size == 0 || slice_equal_str(part, "."))
            continue;
        if (!slice_equal_str(part, "..")) {
            VEC_PUSH(&parts, part);
        } else if (parts.count > 0) {
            parts.count--;
        }
    }
    for (size_t i = 0; i < parts.count; i++) {
        buffer_append_byte(&b, '/');
        buffer_append_slice(&b, parts.at[i]);
    }
    out = arena_strdup(arena, b.size == 0 ? "/" : buffer_cstr(&b));
    VEC_FREE(&parts);
    buffer_free(&b);
    return out;
}

bool passwd_file_path_allowed(struct arena *arena, const char *template, const char *path, const char **prefix)
{
    size_t size = strcspn(template, "%");

    *prefix = arena_str(arena, slice_of(template, size));
    return size == 0 || strncmp(passwd_file_normalize(arena, path), *prefix, size) == 0;
}

/* The table that holds the request's user; NULL with *missing (unknown user) or an internal failure, logged. */
static const struct passwd_file *find_table(struct db *db, struct request *r, bool *missing)
{
    struct state *s = db->state;
    const char *path = s->path, *prefix;
    struct open_file *f;
    struct error e;

    *missing = false;
    if (s->vars) {
        path = request_expand(r, s->path, NULL, NULL);
        if (!passwd_file_path_allowed(r->arena, s->path, path, &prefix)) {
            request_notice(r, "Failed to normalize path: Path is outside '%s'", prefix);
            *missing = true;
            return NULL;
        }
    }
    f = get_file(s, path);
    if (refresh(f, &e) == 0)
        return f->table;
    if (e.class == ERROR_NOT_FOUND && s->vars) {
        if (r->auth->set.verbose)
            log_info(NULL, "missing passwd file: %s", path);
        *missing = true;
    } else {
        request_error(r, "%s", e.admin);
    }
    return NULL;
}

static const struct passwd_entry *find_entry(struct db *db, struct request *r, bool *missing)
{
    struct state *s = db->state;
    const struct passwd_file *table = find_table(db, r, missing);
    const struct passwd_entry *entry;

    if (table == NULL)
        return NULL;
    entry = passwd_file_find(table, request_expand(r, s->username_format, NULL, NULL));
    *missing = entry == NULL;
    if (entry == NULL && r->userdb_lookup && r->chain == &r->auth->userdbs)
        request_info(r, "unknown user");
    else if (entry == NULL)
        request_log_unknown(r, NULL);
    return entry;
}

/* ---- driver --------------------------------------------------------------------------------------------------- */

static void set_extra(struct request *r, const struct passwd_entry *entry, const char *scheme, bool userdb)
{
    for (size_t i = 0; i < entry->count; i++) {
        const char *text = entry->extra[i], *eq = strchr(text, '=');
        const char *key = eq == NULL ? text : arena_str(r->arena, slice_of(text, (size_t)(eq - text)));
        const char *value = eq == NULL ? "" : request_expand(r, eq + 1, NULL, NULL);

        if (!userdb)
            request_set_field(r, key, value, scheme);
        else if (strncmp(key, "userdb_", 7) == 0)
            request_set_userdb_field(r, key + 7, value);
    }
}

static enum passdb_result lookup(struct db *db, struct request *r)
{
    bool missing;
    const struct passwd_entry *entry = find_entry(db, r, &missing);

    if (entry == NULL && !missing)
        return PASSDB_INTERNAL;
    if (entry == NULL)
        return PASSDB_USER_UNKNOWN;
    if (entry->password != NULL)
        request_set_field(r, "password", entry->password, entry->scheme != NULL ? entry->scheme : db->default_scheme);
    set_extra(r, entry, db->default_scheme, false);
    /* An empty field is the empty password of that scheme only with nopassword. */
    return PASSDB_OK;
}

static enum userdb_result find_user(struct db *db, struct request *r)
{
    bool missing;
    const struct passwd_entry *entry = find_entry(db, r, &missing);

    if (entry == NULL)
        return missing ? USERDB_UNKNOWN : USERDB_INTERNAL;
    if (!entry->has_userdb) {
        log_error(NULL, "passwd-file %s:User %s is missing userdb info", ((struct state *)db->state)->path, r->user);
        return USERDB_UNKNOWN;
    }
    if (entry->uid != NULL)
        request_set_userdb_field(r, "uid", entry->uid);
    if (entry->gid != NULL)
        request_set_userdb_field(r, "gid", entry->gid);
    if (entry->home != NULL)
        request_set_userdb_field(r, "home", entry->home);
    set_extra(r, entry, "", true);
    return USERDB_FOUND;
}

static int iterate(struct db *db, struct request *r, db_each_fn *each, void *arg, struct error *e)
{
    struct state *s = db->state;
    struct open_file *f;

    (void)r;
    if (s->vars)
        return error_set(e, ERROR_UNSUPPORTED, "passwd-file: User iteration isn't currently supported with %%variable paths");
    f = get_file(s, s->path);
    if (refresh(f, e) < 0)
        return -1;
    passwd_file_each(f->table, each, arg);
    return 0;
}

const struct db_driver db_passwd_file = {
    .name = "passwd-file", .default_scheme = "CRYPT", .passdb = true, .userdb = true,
    .open = open_driver, .close = close_driver, .lookup = lookup, .user = find_user, .iterate = iterate,
};
