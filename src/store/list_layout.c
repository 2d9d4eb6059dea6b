/* list_layout.c - LAYOUT=index: names of mailboxes live in dovecot.list.index alone, folders are called by GUIDs
 * (maildir-and-layouts 5.4, index-format 11.1).
 *
 * A change is one commit under the index's lock, after the tree has been read again. The folder is made before its name is
 * there and removed after it is gone, so that a crash leaves at most a folder without a name: force-resync removes it if its
 * mailbox was deleted, else gives it back the name that stands in the mailbox's own index. */
#include "store/list_index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define LOCK_TRIES 2000            /* of a millisecond */

static int open_tree(struct mail_storage *storage, bool create, struct list_index **out, struct error *e)
{
    struct mail_modes modes;
    struct arena *arena;
    int r = 0;

    *out = list_index_open(storage, false);
    if (*out == NULL && create) {
        arena = arena_new();
        modes = mail_modes_of(storage->at.root);
        r = folder_make(mail_location_path(&storage->at, arena, "", PATH_INDEX), &modes, e);
        arena_free(arena);
        if (r == 0)
            *out = list_index_open(storage, true);
        if (r == 0 && *out == NULL)
            r = error_set(e, ERROR_TEMPORARY, "%s: the mailbox list index can't be opened", storage->at.root);
    }
    if (r == 0 && *out != NULL)
        r = list_index_refresh(*out, e);
    if (r < 0 && e->class == ERROR_CORRUPT)
        error_context(e, "%s/%s: ", storage->at.root, storage->at.list_index);
    return r;
}

static bool is_mailbox(const struct list_node *node)
{
    return (node->flags & (LIST_NODE_NONEXISTENT | LIST_NODE_NOSELECT)) == 0;
}

static bool is_pending(const struct mail_storage *storage, const char *name)
{
    return storage->pending != NULL && strcmp(storage->pending, name) == 0;
}

bool list_layout_guid(struct mail_storage *storage, const char *name, unsigned char guid[16])
{
    static const unsigned char none[16];
    struct list_index *list;
    struct list_node *node;
    struct slice row;
    struct error e;

    if (is_pending(storage, name)) {
        memcpy(guid, storage->pending_guid, 16);
        return true;
    }
    if (open_tree(storage, false, &list, &e) < 0) {
        log_error_value(storage->ns->user->log_p, &e);
        return false;
    }
    node = list == NULL ? NULL : list_index_node(list, storage, name);
    if (node == NULL || !is_mailbox(node))
        return false;
    row = index_ext_record(list->index, list->ext[EXT_LIST], node->uid);
    if (row.size < 24 || memcmp(row.at + 8, none, 16) == 0)
        return false;
    memcpy(guid, row.at + 8, 16);
    return true;
}

int list_layout_exists(struct mail_storage *storage, const char *name, enum mailbox_existence *out, struct error *e)
{
    struct list_index *list;
    struct list_node *node;

    *out = MAILBOX_EXISTS_NO;
    if (open_tree(storage, false, &list, e) < 0)
        return -1;
    node = list == NULL ? NULL : list_index_node(list, storage, name);
    if (node != NULL)
        *out = is_mailbox(node) ? MAILBOX_EXISTS_YES : MAILBOX_EXISTS_NOSELECT;
    return 0;
}

/* ---- the whole tree ---- */

struct walk {
    const struct mail_storage *storage;
    const struct list_tree *tree;
    struct arena *arena;
    struct folder_names *names;
};

/* Nodes are sorted by parent: the children of one stand side by side. Depth is bounded by the length of names. */
static void walk_children(struct walk *w, uint32_t parent, const char *prefix, unsigned depth)
{
    size_t low = 0, high = w->tree->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (w->tree->at[mid].parent_uid < parent)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < w->tree->count && w->tree->at[low].parent_uid == parent; low++) {
        const struct list_node *node = &w->tree->at[low];
        const char *part = mailbox_part_escape(w->storage, w->arena, slice_from_str(node->name), parent == 0);
        const char *name = parent == 0 ? part : arena_printf(w->arena, "%s%c%s", prefix, w->storage->separator, part);

        if (mailbox_name_storable(w->storage, name))
            VEC_PUSH(w->names, ((struct folder_name){name, is_mailbox(node)}));
        if (depth < 100)
            walk_children(w, node->uid, name, depth + 1);
    }
}

int list_layout_list(struct mail_storage *storage, struct arena *arena, struct folder_names *names, struct error *e)
{
    struct list_index *list;
    struct walk w = {storage, NULL, arena, names};

    if (open_tree(storage, false, &list, e) < 0)
        return -1;
    if (list == NULL)
        return 0;
    w.tree = &list->tree;
    walk_children(&w, 0, "", 0);
    return 0;
}

/* ---- changing ---- */

struct edit {
    struct mail_storage *storage;
    struct list_index *list;
    struct arena *arena;
    struct index_batch *batch;
    uint32_t next_uid, next_name;
    bool names_changed;
};

static int begin(struct edit *d, struct mail_storage *storage, struct error *e)
{
    struct index_status status;
    enum step r;

    *d = (struct edit){.storage = storage};
    if (open_tree(storage, true, &d->list, e) < 0)
        return -1;
    for (unsigned tries = 0; (r = index_lock_try(d->list->index, "syncing", e)) == STEP_WAIT; tries++) {
        if (tries == LOCK_TRIES)
            return error_set(e, ERROR_LOCK_TIMEOUT, "%s: Timeout while waiting for the lock of the mailbox list index", storage->at.root);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    if (r != STEP_DONE)
        return -1;
    if (list_index_load(d->list, e) < 0) {
        index_unlock(d->list->index);
        return -1;
    }
    d->arena = arena_new();
    d->batch = index_batch_new(d->arena, INDEX_EXTERNAL);
    index_status(d->list->index, &status);
    d->next_uid = status.next_uid == 0 ? 1 : status.next_uid;
    d->next_name = 1;
    for (size_t i = 0; i < d->list->tree.name_count; i++)
        if (d->list->tree.names[i].id >= d->next_name)
            d->next_name = d->list->tree.names[i].id + 1;
    if (status.uid_validity == 0)
        index_batch_uid_validity(d->batch, (uint32_t)time(NULL));
    return 0;
}

static int finish(struct edit *d, int r, struct error *e)
{
    struct buffer header = {0};

    if (r == 0 && d->names_changed) {
        list_tree_put_header(&d->list->tree, &header);
        index_batch_ext_resize(d->batch, d->list->ext[EXT_LIST], (uint32_t)header.size);
        index_batch_ext_header(d->batch, d->list->ext[EXT_LIST], 0, buffer_slice(&header));
        buffer_free(&header);
    }
    if (r == 0 && !index_batch_empty(d->batch))
        r = index_commit_locked(d->list->index, d->batch, NULL, e);
    if (r == 0)
        index_maintain(d->list->index);
    d->list->tree_known = false;
    index_unlock(d->list->index);
    arena_free(d->arena);
    return r;
}

static uint32_t add_name(struct edit *d, const char *text)
{
    struct list_tree *tree = &d->list->tree;

    if (tree->name_count == tree->name_room)
        tree->names = vec_grow(tree->names, &tree->name_room, sizeof(*tree->names));
    tree->names[tree->name_count++] = (struct list_name){d->next_name, text};
    d->names_changed = true;
    return d->next_name++;
}

static void put_row(struct edit *d, uint32_t uid, struct index_append *append, uint32_t name_id, uint32_t parent,
                    const unsigned char guid[16])
{
    unsigned char row[28] = {0};

    bytes_put_le32(row, name_id);
    bytes_put_le32(row + 4, parent);
    if (guid != NULL)
        memcpy(row + 8, guid, 16);
    if (append != NULL)
        index_append_ext(d->batch, append, d->list->ext[EXT_LIST], slice_of(row, sizeof(row)));
    else
        index_batch_ext_record(d->batch, d->list->ext[EXT_LIST], uid, slice_of(row, sizeof(row)));
}

static void set_flags(struct edit *d, struct list_node *node, uint8_t flags)
{
    index_batch_flags_raw(d->batch, node->uid, node->uid, flags, (uint8_t)(0xff & ~flags));
}

/* Nodes for all parts of a name but the last, containers where they are missing. -> UID of the parent. */
static uint32_t want_parents(struct edit *d, struct slice *rest, struct slice *last)
{
    uint32_t parent = 0;
    struct slice part;

    while (slice_split(rest, (unsigned char)d->storage->separator, &part)) {
        const char *plain = mailbox_part_unescape(d->storage, d->arena, part);
        struct list_node *node;

        if (rest->at == NULL) {
            *last = slice_from_str(plain);
            break;
        }
        node = list_tree_child(&d->list->tree, parent, slice_from_str(plain));
        if (node != NULL) {
            parent = node->uid;
        } else {
            struct index_append *append = index_batch_append(d->batch, d->next_uid, LIST_NODE_NONEXISTENT);

            put_row(d, d->next_uid, append, add_name(d, plain), parent, NULL);
            parent = d->next_uid++;
        }
    }
    return parent;
}

static int exists(struct error *e)
{
    error_set(e, ERROR_EXISTS, "Mailbox already exists");
    return error_user(e, "Mailbox already exists");
}

int list_layout_create(struct mail_storage *storage, const char *name, const unsigned char guid[16], struct error *e)
{
    struct slice rest = slice_from_str(name), last = SLICE("");
    bool directory = guid == NULL;
    struct list_node *node;
    struct edit d;
    uint32_t parent;
    int r = 0;

    if (begin(&d, storage, e) < 0)
        return -1;
    parent = want_parents(&d, &rest, &last);
    node = list_tree_child(&d.list->tree, parent, last);
    if (node != NULL && (is_mailbox(node) || (directory && (node->flags & LIST_NODE_NOSELECT) != 0))) {
        r = exists(e);
    } else if (node != NULL) {
        set_flags(&d, node, directory ? LIST_NODE_NOSELECT : 0);
        put_row(&d, node->uid, NULL, node->name_id, node->parent_uid, guid);
    } else {
        struct index_append *append = index_batch_append(d.batch, d.next_uid, directory ? LIST_NODE_NOSELECT : 0);

        put_row(&d, d.next_uid, append, add_name(&d, arena_str(d.arena, last)), parent, guid);
    }
    return finish(&d, r, e);
}

static bool has_children(const struct list_tree *tree, uint32_t uid)
{
    for (size_t i = 0; i < tree->count; i++)
        if (tree->at[i].parent_uid == uid)
            return true;
    return false;
}

static struct list_node *node_by_uid(struct list_tree *tree, uint32_t uid)
{
    for (size_t i = 0; i < tree->count; i++)
        if (tree->at[i].uid == uid)
            return &tree->at[i];
    return NULL;
}

/* NO-NOSELECT: parents that are only there for a child which goes. */
static void drop_empty_parents(struct edit *d, uint32_t uid, uint32_t gone)
{
    struct list_tree *tree = &d->list->tree;

    for (struct list_node *node = node_by_uid(tree, uid); node != NULL; node = node_by_uid(tree, node->parent_uid)) {
        size_t others = 0;

        for (size_t i = 0; i < tree->count; i++)
            others += tree->at[i].parent_uid == node->uid && tree->at[i].uid != gone;
        if (others > 0 || is_mailbox(node) || !d->storage->at.no_noselect)
            return;
        index_batch_expunge(d->batch, node->uid, NULL);
        gone = node->uid;
    }
}

int list_layout_delete(struct mail_storage *storage, const char *name, struct error *e)
{
    struct list_node *node;
    struct edit d;
    int r = 0;

    if (begin(&d, storage, e) < 0)
        return -1;
    node = list_index_node(d.list, storage, name);
    if (node == NULL) {
        r = error_set(e, ERROR_NOT_FOUND, "Mailbox doesn't exist: %s", name);
    } else if (has_children(&d.list->tree, node->uid)) {
        if (!is_mailbox(node)) {
            error_set(e, ERROR_EXISTS, "Mailbox has children, delete them first");
            r = error_user(e, "Mailbox has children, delete them first");
        } else {
            set_flags(&d, node, LIST_NODE_NONEXISTENT);
            put_row(&d, node->uid, NULL, node->name_id, node->parent_uid, NULL);
        }
    } else {
        index_batch_expunge(d.batch, node->uid, NULL);
        drop_empty_parents(&d, node->parent_uid, node->uid);
    }
    return finish(&d, r, e);
}

int list_layout_rename(struct mail_storage *storage, const char *from, const char *to, struct error *e)
{
    struct slice rest = slice_from_str(to), last = SLICE(""), row;
    struct list_node *node, *there;
    struct edit d;
    uint32_t parent, old_parent;
    int r = 0;

    if (begin(&d, storage, e) < 0)
        return -1;
    node = list_index_node(d.list, storage, from);
    if (node == NULL) {
        r = error_set(e, ERROR_NOT_FOUND, "Mailbox doesn't exist: %s", from);
        return finish(&d, r, e);
    }
    parent = want_parents(&d, &rest, &last);
    there = list_tree_child(&d.list->tree, parent, last);
    if (there != NULL) {
        error_set(e, ERROR_EXISTS, "Target mailbox already exists");
        r = error_user(e, "Target mailbox already exists");
    } else {
        const char *part = arena_str(d.arena, last);
        unsigned char changed[28] = {0};

        row = index_ext_record(d.list->index, d.list->ext[EXT_LIST], node->uid);
        memcpy(changed, row.at, row.size < sizeof(changed) ? row.size : sizeof(changed));
        old_parent = node->parent_uid;
        bytes_put_le32(changed, strcmp(part, node->name) == 0 ? node->name_id : add_name(&d, part));
        bytes_put_le32(changed + 4, parent);
        index_batch_ext_record(d.batch, d.list->ext[EXT_LIST], node->uid, slice_of(changed, sizeof(changed)));
        if (parent != old_parent)
            drop_empty_parents(&d, old_parent, node->uid);
    }
    return finish(&d, r, e);
}

/* ---- a new mailbox: first its files, then its name ---- */

void list_layout_begin(struct mail_storage *storage, const char *name, const unsigned char guid[16])
{
    mem_free(storage->pending);
    storage->pending = mem_strdup(name);
    memcpy(storage->pending_guid, guid, 16);
}

static void end_pending(struct mail_storage *storage)
{
    mem_free(storage->pending);
    storage->pending = NULL;
}

int list_layout_name(struct mail_storage *storage, const char *name, struct error *e)
{
    int r;

    if (!is_pending(storage, name))
        return 0;
    r = list_layout_create(storage, name, storage->pending_guid, e);
    if (r == 0)
        end_pending(storage);
    return r;
}

/* The mailbox itself is a file in some formats. */
static int remove_any(const char *path, const struct stat *st, struct error *e)
{
    return S_ISDIR(st->st_mode) ? folder_remove_tree(path, e) : os_unlink(AT_FDCWD, path, e);
}

void list_layout_forget(struct mail_storage *storage, const char *name)
{
    static const enum mail_path kinds[] = {PATH_MAILBOX, PATH_CONTROL, PATH_CACHE, PATH_INDEX};
    struct arena *arena;
    struct error e;
    struct stat st;

    if (!is_pending(storage, name))
        return;
    arena = arena_new();
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const char *path = mail_location_path(&storage->at, arena, name, kinds[i]);

        if (path != NULL && lstat(path, &st) == 0 && remove_any(path, &st, &e) < 0)
            log_error_value(storage->ns->user->log_p, &e);
    }
    end_pending(storage);
    arena_free(arena);
}

/* ---- the mailbox's own index ---- */

void list_layout_box_name(struct mailbox *box)
{
    struct index_ext_def def = {.name = "box-name", .header_size = 1};
    struct arena *arena = arena_new();
    struct slice rest = slice_from_str(box->place.name), part;
    struct buffer name = {0};
    struct index_batch *batch;
    struct error e;
    unsigned ext;
    bool first = true;

    while (slice_split(&rest, (unsigned char)box->storage->separator, &part)) {
        if (!first)
            buffer_append_byte(&name, 0);
        first = false;
        buffer_append_str(&name, mailbox_part_unescape(box->storage, arena, part));
    }
    def.header_size = (uint32_t)name.size;
    ext = index_ext(box->index, &def);
    if (name.size > 0 && !index_read_only(box->index) && !slice_equal(index_ext_header(box->index, ext), buffer_slice(&name))) {
        batch = index_batch_new(arena, INDEX_INTERNAL);
        index_batch_ext_resize(batch, ext, (uint32_t)name.size);
        index_batch_ext_header(batch, ext, 0, buffer_slice(&name));
        if (index_commit(box->index, batch, NULL, &e) == STEP_ERROR)
            log_error_value(box->user->log_p, &e);
    }
    buffer_free(&name);
    arena_free(arena);
}

/* ---- folders without a name ---- */

#define ADOPT_SECS 60              /* a folder that is younger may be one that somebody is just naming */

static bool has_guid(struct list_index *list, const unsigned char guid[16])
{
    for (size_t i = 0; i < list->tree.count; i++) {
        struct slice row = index_ext_record(list->index, list->ext[EXT_LIST], list->tree.at[i].uid);

        if (row.size >= 24 && memcmp(row.at + 8, guid, 16) == 0)
            return true;
    }
    return false;
}

/* The name that the mailbox's own index gives, escaped; "" = none. */
static const char *name_in_index(struct mail_storage *storage, struct arena *arena, struct index *index)
{
    struct index_ext_def def = {.name = "box-name", .header_size = 1};
    struct slice rest = index_ext_header(index, index_ext(index, &def)), part;
    const char *name = "";

    while (rest.size > 0 && slice_split(&rest, '\0', &part)) {
        const char *escaped = mailbox_part_escape(storage, arena, part, *name == '\0');

        name = *name == '\0' ? escaped : arena_printf(arena, "%s%c%s", name, storage->separator, escaped);
    }
    return mailbox_name_storable(storage, name) ? name : "";
}

static void adopt_one(struct mail_storage *storage, struct arena *arena, int dir, const char *hex, const unsigned char guid[16])
{
    const struct log *log = storage->ns->user->log_p;
    const char *beside = (storage->at.driver->can & DRIVER_IS_FILE) != 0 && *storage->at.dirname == '\0' ? "/.imap" : "";
    const char *slash = *storage->at.mailboxdir != '\0' ? "/" : "";
    const char *path = arena_printf(arena, "%s%s%s/%s", storage->at.root, slash, storage->at.mailboxdir, hex);
    const char *index_path = storage->at.index == NULL && *beside == '\0' ? path
                             : arena_printf(arena, "%s%s%s%s/%s", storage->at.index == NULL ? storage->at.root : storage->at.index, slash,
                                            storage->at.mailboxdir, beside, hex);
    struct index_settings settings;
    struct index_where where = {.dir = open(index_path, O_PATH | O_DIRECTORY | O_CLOEXEC), .path = index_path, .no_create = true,
                                .gid = (gid_t)-1, .settings = &settings};
    const char *name = "";
    struct index *index;
    struct error e;
    struct stat st;
    bool deleted = false;

    store_index_settings(storage->ns->user, &settings);
    if (where.dir >= 0 && index_open(&index, &where, &e) == 0) {
        deleted = index_deleted(index) != 0;
        name = name_in_index(storage, arena, index);
        index_close(&index);
    }
    if (where.dir >= 0)
        close(where.dir);
    if (deleted) {
        if ((lstat(path, &st) == 0 && remove_any(path, &st, &e) < 0) || (index_path != path && folder_remove_tree(index_path, &e) < 0))
            log_error_value(log, &e);
        return;
    }
    if (fstatat(dir, hex, &st, 0) < 0 || st.st_mtime > time(NULL) - ADOPT_SECS)
        return;
    /* An empty folder was never a mailbox. */
    if (os_rmdir(dir, hex, &e) == 0)
        return;
    if (*name == '\0' || list_layout_create(storage, name, guid, &e) < 0) {
        name = arena_printf(arena, "lost-%s", hex);
        if (list_layout_create(storage, name, guid, &e) < 0) {
            log_error_value(log, &e);
            return;
        }
    }
    log_warning(log, "Mailbox list index: mailbox folder %s had no name, it is %s now", path, name);
}

void list_layout_adopt(struct mail_storage *storage)
{
    struct arena *arena = arena_new();
    const char *path = arena_printf(arena, "%s%s%s", storage->at.root, *storage->at.mailboxdir != '\0' ? "/" : "", storage->at.mailboxdir);
    DIR *d = opendir(path);
    struct list_index *list;
    struct dirent *entry;
    struct error e;

    while (d != NULL && (entry = readdir(d)) != NULL) {
        struct buffer raw = {0};
        struct slice name = slice_from_str(entry->d_name);
        bool is_guid = name.size == 32 && text_hex_decode(&raw, name) == 0;

        if (is_guid && open_tree(storage, true, &list, &e) < 0)
            log_error_value(storage->ns->user->log_p, &e);
        else if (is_guid && !has_guid(list, raw.at))
            adopt_one(storage, arena, dirfd(d), entry->d_name, raw.at);
        buffer_free(&raw);
    }
    if (d != NULL)
        closedir(d);
    arena_free(arena);
}
