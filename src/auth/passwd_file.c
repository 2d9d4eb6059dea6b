/* passwd_file.c - reads the lines of a passwd-file (auth.md 9.1):
 *
 *     user:password:uid:gid:(gecos):home:(shell):extra fields
 *
 * Extra fields are separated by spaces and may hold colons. The first line of a user wins. */
#include "auth/passwd_file.h"

#include <grp.h>
#include <pwd.h>
#include <uthash.h>

struct node {
    struct passwd_entry entry;
    UT_hash_handle hh;
};

struct passwd_file {
    struct arena *arena;
    struct node *nodes;   /* uthash keeps the order of the file */
};

static const char *text_or_null(struct arena *arena, struct slice s)
{
    return s.size == 0 ? NULL : arena_str(arena, s);
}

/* "name" or number -> number as text; NULL: unknown. */
static const char *resolve_id(struct arena *arena, struct slice field, bool group)
{
    uint32_t id;

    if (slice_to_u32(field, &id)) {
        if (id == 0)
            return NULL;
    } else {
        const char *name = arena_str(arena, field);
        if (group) {
            struct group *gr = getgrnam(name);
            if (gr == NULL || gr->gr_gid == 0)
                return NULL;
            id = gr->gr_gid;
        } else {
            struct passwd *pw = getpwnam(name);
            if (pw == NULL || pw->pw_uid == 0)
                return NULL;
            id = pw->pw_uid;
        }
    }
    return arena_printf(arena, "%u", id);
}

/* The old form: "data[34]" says what the data is. */
static void take_password(struct arena *arena, struct passwd_entry *entry, struct slice field)
{
    static const struct { const char *suffix, *scheme; } old[] = {
        {"[13]", "CRYPT"}, {"[34]", "PLAIN-MD5"}, {"[56]", "DIGEST-MD5"}};

    for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++)
        if (slice_ends(field, slice_from_str(old[i].suffix))) {
            entry->scheme = old[i].scheme;
            field.size -= 4;
            break;
        }
    entry->password = arena_str(arena, field);
}

static void take_extra(struct arena *arena, struct passwd_entry *entry, struct slice rest, const char *mail)
{
    VEC(const char *) words = {0};
    struct slice word;

    if (mail != NULL)
        VEC_PUSH(&words, arena_printf(arena, "userdb_mail=%s", mail));
    while (slice_split(&rest, ' ', &word))
        if (word.size > 0)
            VEC_PUSH(&words, arena_str(arena, word));
    entry->count = words.count;
    entry->extra = arena_copy(arena, words.at, words.count * sizeof(*words.at));
    VEC_FREE(&words);
}

/* False: the line is dropped. */
static bool parse_line(struct passwd_file *f, struct passwd_entry *entry, struct slice line, const char *path)
{
    struct slice rest = line, field[7] = {{0}}, extra;
    const char *mail = NULL;
    size_t count = 0;

    while (count < 7 && slice_split(&rest, ':', &field[count]))
        count++;
    entry->user = arena_str(f->arena, field[0]);
    if (count >= 2)
        take_password(f->arena, entry, field[1]);
    entry->has_userdb = count > 2;
    if (field[2].size > 0 && (entry->uid = resolve_id(f->arena, field[2], false)) == NULL) {
        log_error(NULL, "passwd-file %s:User %s has invalid UID '%.*s'", path, entry->user, (int)field[2].size,
                  (const char *)field[2].at);
        return false;
    }
    if (field[3].size > 0 && (entry->gid = resolve_id(f->arena, field[3], true)) == NULL) {
        log_error(NULL, "passwd-file %s:User %s has invalid GID '%.*s'", path, entry->user, (int)field[3].size,
                  (const char *)field[3].at);
        return false;
    }
    entry->home = text_or_null(f->arena, field[5]);
    extra = rest;
    /* An empty field behind the shell: all that follows is an old-style mail location. */
    if (extra.size > 0 && extra.at[0] == ':') {
        mail = text_or_null(f->arena, slice_from(extra, 1));
        extra = SLICE_EMPTY;
    }
    take_extra(f->arena, entry, extra, mail);
    return true;
}

struct passwd_file *passwd_file_parse(struct slice text, const char *path)
{
    struct passwd_file *f = mem_zero(1, sizeof(*f));
    struct slice rest = text, line;

    f->arena = arena_new();
    while (slice_split(&rest, '\n', &line)) {
        struct node *node, *other;

        if (line.size > 0 && line.at[line.size - 1] == '\r')
            line.size--;
        if (line.size == 0 || line.at[0] == ':' || line.at[0] == '#')
            continue;
        node = ARENA_NEW(f->arena, struct node);
        if (!parse_line(f, &node->entry, line, path))
            continue;
        HASH_FIND_STR(f->nodes, node->entry.user, other);
        if (other != NULL)
            log_error(NULL, "passwd-file %s:User %s exists more than once", path, node->entry.user);
        else
            HASH_ADD_KEYPTR(hh, f->nodes, node->entry.user, strlen(node->entry.user), node);
    }
    return f;
}

void passwd_file_free(struct passwd_file *f)
{
    if (f == NULL)
        return;
    HASH_CLEAR(hh, f->nodes);
    arena_free(f->arena);
    mem_free(f);
}

const struct passwd_entry *passwd_file_find(const struct passwd_file *f, const char *user)
{
    struct node *node;

    HASH_FIND_STR(f->nodes, user, node);
    return node == NULL ? NULL : &node->entry;
}

void passwd_file_each(const struct passwd_file *f, void (*each)(void *arg, const char *user), void *arg)
{
    for (struct node *node = f->nodes; node != NULL; node = node->hh.next)
        each(arg, node->entry.user);
}
