/* file.c - reading lists: dovecot-acl beside the mail, the global file or folder (quota-acl-plugins 2.3).
 *
 * A file is parsed once and again when its times, size or inode differ. Every question looks at them, which is more often
 * than cache_secs asks for: a right that was taken away is gone at once. */
#include "store/acl/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

enum { FILE_MAX = 16 << 20, FILES_MAX = 2000 };

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void free_file(struct acl *acl, struct acl_file *file)
{
    HASH_DEL(acl->files, file);
    VEC_FREE(&file->entries);
    VEC_FREE(&file->patterns);
    arena_free(file->arena);
    mem_free(file->path);
    mem_free(file);
}

void acl_files_free(struct acl *acl)
{
    while (acl->files != NULL)
        free_file(acl, acl->files);
}

static struct acl_file *find_file(struct acl *acl, const char *path)
{
    struct acl_file *file;

    HASH_FIND_STR(acl->files, path, file);
    if (file != NULL)
        return file;
    file = mem_zero(1, sizeof(*file));
    file->path = mem_strdup(path);
    file->arena = arena_new();
    HASH_ADD_KEYPTR(hh, acl->files, file->path, strlen(file->path), file);
    return file;
}

void acl_file_forget(struct acl *acl, const char *path)
{
    struct acl_file *file;

    HASH_FIND_STR(acl->files, path, file);
    if (file != NULL)
        free_file(acl, file);
}

static int read_file(struct acl_file *file, bool patterns, struct error *e)
{
    struct buffer text = {0};
    int r = os_read_file(AT_FDCWD, file->path, FILE_MAX, &text, e);

    if (r == 0 && patterns)
        r = acl_global_parse(file->arena, buffer_slice(&text), file->path, &file->patterns, e);
    else if (r == 0)
        r = acl_text_parse(file->arena, buffer_slice(&text), file->path, &file->entries, e);
    buffer_free(&text);
    return r;
}

/* Somebody else's rights to a file decide nothing: what cannot be read grants nothing. */
static void refresh(struct acl_file *file, bool patterns)
{
    struct stat st;

    if (stat(file->path, &st) < 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            file->known = file->exists = file->failed = false;
            file->entries.count = file->patterns.count = 0;
            return;
        }
        error_sys(&file->error, "stat", file->path);
        file->known = false;
        file->failed = true;
        return;
    }
    if (file->known && !file->fresh && same_file(&st, &file->st))
        return;
    arena_reset(file->arena);
    file->entries.count = file->patterns.count = 0;
    file->exists = true;
    file->st = st;
    file->fresh = st.st_mtim.tv_sec >= time(NULL) - 1;
    file->failed = read_file(file, patterns, &file->error) < 0;
    file->known = !file->failed || file->error.class == ERROR_CORRUPT;
    if (file->failed && file->error.class == ERROR_NOT_FOUND)
        file->known = file->exists = file->failed = false;
}

int acl_file_get(struct acl *acl, const char *path, bool patterns, const struct acl_file **out, struct error *e)
{
    struct acl_file *file = find_file(acl, path);

    refresh(file, patterns);
    if (file->failed) {
        *e = file->error;
        e->user[0] = '\0';
        return -1;
    }
    *out = file;
    return 0;
}

/* ---- paths ---- */

const char *acl_list_folder(const struct mail_namespace *ns, struct arena *arena)
{
    return mail_location_path(&ns->storage->at, arena, "", PATH_MAILBOX);
}

const char *acl_default_path(const struct mail_namespace *ns, struct arena *arena)
{
    const struct mail_location *at = &ns->storage->at;
    const char *root = acl_list_folder(ns, arena), *inbox;

    if (ns->user->acl->globals_only || at->layout == LAYOUT_NONE || root == NULL)
        return NULL;
    /* Maildir: the root is INBOX's own folder, its list is INBOX's. */
    if (ns->inbox || ns->type == MAIL_NAMESPACE_SHARED) {
        inbox = mail_location_path(at, arena, "INBOX", PATH_MAILBOX);
        if (inbox != NULL && strcmp(inbox, root) == 0)
            return NULL;
    }
    return arena_printf(arena, "%s/dovecot-acl", root);
}

const char *acl_file_path(const struct mailbox_place *place, struct arena *arena)
{
    const struct mail_location *at = &place->ns->storage->at;
    const char *path;

    if (place->ns->user->acl->globals_only || at->layout == LAYOUT_NONE)
        return NULL;
    if (*place->name == '\0')
        return acl_default_path(place->ns, arena);
    path = mail_location_path(at, arena, place->name, strcmp(at->driver->name, "mbox") == 0 ? PATH_CONTROL : PATH_MAILBOX);
    return path == NULL ? NULL : arena_printf(arena, "%s/dovecot-acl", path);
}

/* ---- reading all that counts ---- */

static int add_global(struct acl *acl, const char *vname, struct arena *arena, struct acl_entries *out, struct error *e)
{
    const struct acl_file *file;

    if (acl->global == NULL)
        return 0;
    if (!acl->global_is_folder) {
        if (acl_file_get(acl, acl->global, true, &file, e) < 0)
            return -1;
        for (size_t i = 0; i < file->patterns.count; i++)
            if (store_wildcard_match(file->patterns.at[i].pattern, vname))
                VEC_PUSH(out, file->patterns.at[i].entry);
        return 0;
    }
    if (acl_file_get(acl, arena_printf(arena, "%s/%s", acl->global, vname), false, &file, e) < 0) {
        if (e->sys == EISDIR) /* a folder with the lists of children */
            return 0;
        return -1;
    }
    for (size_t i = 0; i < file->entries.count; i++) {
        struct acl_entry entry = file->entries.at[i];

        entry.global = true;
        VEC_PUSH(out, entry);
    }
    return 0;
}

/* Where a vname cannot be a path of the global folder: it is checked by mailbox_place, but for what was never asked there. */
static bool is_path(const char *vname)
{
    struct slice rest = slice_from_str(vname), part;

    if (*vname == '\0')
        return false;
    while (slice_split(&rest, '/', &part))
        if (part.size == 0 || slice_equal_str(part, ".") || slice_equal_str(part, ".."))
            return false;
    return true;
}

/* Entries stay where the files keep them: valid until the next question. */
static int collect(struct acl *acl, const char *path, const char *global_name, struct arena *arena, struct acl_entries *out,
                   bool *has_file, struct error *e)
{
    const struct acl_file *file;
    size_t own;

    if (HASH_COUNT(acl->files) >= FILES_MAX)
        acl_files_free(acl);
    *has_file = false;
    if (path != NULL) {
        if (acl_file_get(acl, path, false, &file, e) < 0)
            return -1;
        *has_file = file->exists;
        for (size_t i = 0; i < file->entries.count; i++)
            VEC_PUSH(out, file->entries.at[i]);
    }
    own = out->count;
    if (!acl->global_is_folder || is_path(global_name))
        if (add_global(acl, global_name, arena, out, e) < 0)
            return -1;
    if (out->count > own)
        acl_sort(out);
    return 0;
}

int acl_read(const struct mailbox_place *place, struct arena *arena, struct acl_entries *out, bool *has_file,
             struct error *e)
{
    size_t first = out->count;
    int r = collect(place->ns->user->acl, acl_file_path(place, arena), place->vname, arena, out, has_file, e);

    for (size_t i = first; r == 0 && i < out->count; i++) {
        struct acl_entry *entry = &out->at[i];

        entry->name = entry->name == NULL ? NULL : arena_strdup(arena, entry->name);
        entry->more = entry->more == NULL ? NULL : arena_strdup(arena, entry->more);
        entry->more_negative = entry->more_negative == NULL ? NULL : arena_strdup(arena, entry->more_negative);
    }
    return r;
}

/* ---- what I may ---- */

static struct acl_me me_in(const struct mail_namespace *ns)
{
    struct acl *acl = ns->user->acl;

    return (struct acl_me){acl->name, acl_is_owner(ns), acl->groups};
}

static int default_rights(const struct mail_namespace *ns, struct arena *arena, unsigned *rights, struct error *e)
{
    struct acl *acl = ns->user->acl;
    struct acl_me me = me_in(ns);
    struct acl_entries entries = {0};
    const char *path = acl_default_path(ns, arena), *global = ".DEFAULT";
    bool has_file, matched;
    int r;

    if (acl->defaults_from_inbox && ns->type != MAIL_NAMESPACE_PUBLIC) {
        struct mailbox_place inbox = {(struct mail_namespace *)(uintptr_t)ns, mailbox_vname_of(ns, arena, "INBOX"), "INBOX"};

        path = acl_file_path(&inbox, arena);
        global = inbox.vname;
    }
    r = collect(acl, path, global, arena, &entries, &has_file, e);
    if (r == 0)
        *rights = acl_evaluate(&entries, &me, &matched);
    VEC_FREE(&entries);
    return r;
}

static int rights_of(const struct mailbox_place *place, struct arena *arena, unsigned *rights, struct error *e)
{
    struct acl *acl = place->ns->user->acl;
    struct acl_me me = me_in(place->ns);
    struct acl_entries entries = {0};
    bool has_file, matched = false;
    int r;

    if (*place->name == '\0')
        return default_rights(place->ns, arena, rights, e);
    r = collect(acl, acl_file_path(place, arena), place->vname, arena, &entries, &has_file, e);
    if (r == 0)
        *rights = acl_evaluate(&entries, &me, &matched);
    VEC_FREE(&entries);
    return r < 0 || matched ? r : default_rights(place->ns, arena, rights, e);
}

int acl_rights(const struct mailbox_place *place, unsigned *rights, struct error *e)
{
    struct arena *arena;
    int r;

    if (!acl_applies(place->ns)) {
        *rights = MAILBOX_RIGHTS_ALL;
        return 0;
    }
    arena = arena_new();
    r = rights_of(place, arena, rights, e);
    arena_free(arena);
    return r;
}

struct mailbox_place acl_parent_of(const struct mailbox_place *place, struct arena *arena)
{
    const char *at = strrchr(place->name, place->ns->storage->separator);
    struct mailbox_place parent = {place->ns, "", ""};

    if (at != NULL) {
        parent.name = arena_str(arena, slice_of(place->name, (size_t)(at - place->name)));
        parent.vname = mailbox_vname_of(place->ns, arena, parent.name);
    }
    return parent;
}

int acl_parent_rights(const struct mailbox_place *place, unsigned *rights, struct error *e)
{
    struct mailbox_place parent;
    struct arena *arena;
    int r;

    if (!acl_applies(place->ns)) {
        *rights = MAILBOX_RIGHTS_ALL;
        return 0;
    }
    arena = arena_new();
    parent = acl_parent_of(place, arena);
    r = rights_of(&parent, arena, rights, e);
    arena_free(arena);
    return r;
}
