/* list_index.c - dovecot.list.index: what all mailboxes of a namespace are called and hold, in one index
 * (index-format 11.1).
 *
 * A row counts only while it is current: its stamps equal the mailbox's folders and log. So a writer that does not update
 * it harms nobody, and everything here is best effort: what others have locked is left for the next time. The tree of names
 * is compared with the folders under the index's lock, so that a mailbox which another process has just made is not
 * dropped. */
#include "store/internal.h"
#include "store/list_index.h"
#include "store/vsize.h"

#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ROWS_AGE_NS 1000000u

void list_index_close(struct list_index **list_p)
{
    struct list_index *list = *list_p;

    if (list == NULL)
        return;
    *list_p = NULL;
    index_close(&list->index);
    list_tree_free(&list->tree);
    arena_free(list->arena);
    mem_free(list);
}

struct list_index *list_index_open(struct mail_storage *storage, bool create)
{
    static const struct index_ext_def defs[] = {
        [EXT_LIST] = {.name = "list", .header_size = 1, .record_size = 28, .record_align = 4},
        [EXT_MSGS] = {.name = "msgs", .record_size = 16, .record_align = 4},
        [EXT_MODSEQ] = {.name = "hmodseq", .record_size = 8, .record_align = 8},
        [EXT_VSIZE] = {.name = "vsize", .record_size = 16, .record_align = 8},
        [EXT_SYNC] = {.name = "index sync", .record_size = 8, .record_align = 4},
        [EXT_DRIVER] = {.name = "maildir", .record_size = 8, .record_align = 4},
        [EXT_SUBS] = {.name = "subs", .header_size = 4, .record_align = 4},
    };
    const struct mail_location *at = &storage->at;
    struct mail_modes modes;
    struct index_settings settings;
    struct index_where where = {.dir = -1, .no_create = !create, .settings = &settings, .name = "Mailbox list index: "};
    struct list_index *list = storage->list;
    struct arena *arena;
    struct error e;
    const char *slash = strrchr(at->list_index, '/'), *root;
    int r;

    if (list != NULL || at->index_memory || !conf_bool(storage->ns->user->settings, SET_mailbox_list_index) ||
        at->layout == LAYOUT_NONE)
        return list;
    arena = arena_new();
    root = mail_location_path(at, arena, "", PATH_INDEX);
    if (slash != NULL) {
        const char *folder = arena_str(arena, slice_of(at->list_index, (size_t)(slash - at->list_index)));

        root = *folder == '/' ? folder : arena_printf(arena, "%s/%s", root, folder);
    }
    modes = mail_modes_of(at->root);
    where.mode = modes.file;
    where.gid = modes.gid;
    store_index_settings(storage->ns->user, &settings);
    settings.log_rotate_min_size = 8192;
    settings.log_rotate_max_size = 65536;
    settings.log2_max_age_secs = 600;
    where.path = root;
    where.prefix = slash == NULL ? at->list_index : slash + 1;
    /* LISTINDEX may name a folder of its own below a root that is there. */
    if (create && slash != NULL && folder_make(root, &modes, &e) < 0)
        log_error_value(storage->ns->user->log_p, &e);
    where.dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (where.dir >= 0) {
        list = mem_zero(1, sizeof(*list));
        r = index_open(&list->index, &where, &e);
        close(where.dir);
        if (r < 0) {
            if (e.class != ERROR_NOT_FOUND && e.class != ERROR_PERMISSION)
                log_error_value(storage->ns->user->log_p, &e);
            mem_free(list);
            list = NULL;
        } else {
            for (size_t i = 0; i < EXT_COUNT; i++)
                list->ext[i] = index_ext(list->index, &defs[i]);
            list->arena = arena_new();
            storage->list = list;
        }
    }
    arena_free(arena);
    return list;
}

/* The tree as the index has it now. */
int list_index_load(struct list_index *list, struct error *e)
{
    struct index_record rec;
    int r;

    if (list->tree_known && list->generation == index_generation(list->index))
        return 0;
    list_tree_free(&list->tree);
    arena_reset(list->arena);
    list->tree_known = false;
    r = list_tree_parse_header(&list->tree, index_ext_header(list->index, list->ext[EXT_LIST]), list->arena, e);
    for (uint32_t uid = 1; r == 0 && index_get_from(list->index, uid, &rec); uid = rec.uid + 1)
        r = list_tree_add(&list->tree, rec.uid, rec.flags, index_ext_record(list->index, list->ext[EXT_LIST], rec.uid), e);
    if (r == 0)
        r = list_tree_finish(&list->tree, e);
    if (r == 0) {
        list->tree_known = true;
        list->generation = index_generation(list->index);
    }
    return r;
}

int list_index_refresh(struct list_index *list, struct error *e)
{
    return index_refresh(list->index, e) == STEP_ERROR ? -1 : list_index_load(list, e);
}

struct list_node *list_index_node(struct list_index *list, const struct mail_storage *storage, const char *name)
{
    struct arena *arena = storage->escape == 0 ? NULL : arena_new();
    struct slice rest = slice_from_str(name), part;
    struct list_node *node = NULL;
    uint32_t parent = 0;

    while (slice_split(&rest, (unsigned char)storage->separator, &part)) {
        node = list_tree_child(&list->tree, parent, arena == NULL ? part : slice_from_str(mailbox_part_unescape(storage, arena, part)));
        if (node == NULL)
            break;
        parent = node->uid;
    }
    arena_free(arena);
    return node;
}

/* ---- rows ---- */

static bool has_row(const struct mail_storage *storage, const char *name)
{
    return strcmp(name, "INBOX") != 0 || conf_bool(storage->ns->user->settings, SET_mailbox_list_index_include_inbox);
}

static uint32_t field32(struct slice record, size_t n)
{
    return record.size >= (n + 1) * 4 ? bytes_le32(record.at + n * 4) : 0;
}

/* The mailbox's log as it is now: size and second. */
static bool stat_log(const struct mail_storage *storage, const char *name, uint32_t stamp[2])
{
    struct arena *arena = arena_new();
    const char *path = mail_location_path(&storage->at, arena, name, PATH_INDEX);
    struct stat st;
    bool ok = path != NULL && stat(arena_printf(arena, "%s/dovecot.index.log", path), &st) == 0;

    if (ok) {
        stamp[0] = (uint32_t)st.st_size;
        stamp[1] = (uint32_t)st.st_mtime;
    }
    arena_free(arena);
    return ok;
}

/* Rows as they are, or were a moment ago: LIST asks for one after the other. Each row is compared with its mailbox before it is
 * believed, so that an old one is only a stale one. */
static int refresh_rows(struct list_index *list, struct error *e)
{
    uint64_t now = time_monotonic_ns();

    if (now - list->looked_at < ROWS_AGE_NS)
        return list_index_load(list, e);
    if (list_index_refresh(list, e) < 0)
        return -1;
    list->looked_at = now;
    return 0;
}

static bool has_stamp(const struct mail_storage *storage)
{
    const struct store_driver *driver = storage->at.driver;

    return driver->list_stamp != NULL && (driver->list_unstamped == NULL || !driver->list_unstamped(storage->ns->user));
}

static bool is_current(struct list_index *list, const struct mail_storage *storage, uint32_t uid, const char *name,
                       const char *path)
{
    uint32_t folders[2], log[2], now = (uint32_t)time(NULL);
    struct slice sync = index_ext_record(list->index, list->ext[EXT_SYNC], uid);
    struct slice driver = index_ext_record(list->index, list->ext[EXT_DRIVER], uid);

    /* Who wants it so believes what the last session has written. */
    if (conf_bool(storage->ns->user->settings, SET_mailbox_list_index_very_dirty_syncs))
        return true;
    if (!stat_log(storage, name, log) || field32(sync, 0) != log[0] || field32(sync, 1) != log[1])
        return false;
    if (!has_stamp(storage))
        return true;
    /* A change in this very second would not show. */
    return storage->at.driver->list_stamp(path, folders) == 0 && field32(driver, 0) == folders[0] &&
           field32(driver, 1) == folders[1] && folders[0] + 1 < now && folders[1] + 1 < now;
}

bool list_index_status(struct mail_storage *storage, const char *name, const char *path, struct list_row_status *out)
{
    struct list_index *list = list_index_open(storage, false);
    struct list_node *node;
    struct slice msgs, row, vsize, modseq;
    struct error e;

    /* A virtual mailbox's own log does not tell what is behind it. */
    if (list == NULL || storage->at.driver->origin != NULL || !has_row(storage, name) || refresh_rows(list, &e) < 0)
        return false;
    node = list_index_node(list, storage, name);
    if (node == NULL || (node->flags & (LIST_NODE_NONEXISTENT | LIST_NODE_NOSELECT)) != 0)
        return false;
    msgs = index_ext_record(list->index, list->ext[EXT_MSGS], node->uid);
    row = index_ext_record(list->index, list->ext[EXT_LIST], node->uid);
    modseq = index_ext_record(list->index, list->ext[EXT_MODSEQ], node->uid);
    vsize = index_ext_record(list->index, list->ext[EXT_VSIZE], node->uid);
    if (field32(msgs, 3) == 0 || row.size < 28 || field32(row, 6) == 0 || !is_current(list, storage, node->uid, name, path))
        return false;
    out->status = (struct mailbox_status){.messages = field32(msgs, 0), .unseen = field32(msgs, 1), .recent = field32(msgs, 2),
                                          .uid_next = field32(msgs, 3), .uid_validity = field32(row, 6), .from_list_index = true};
    memcpy(out->status.guid, row.at + 8, 16);
    out->unknown = STATUS_DELETED | STATUS_DELETED_STORAGE | STATUS_FIRST_SAVED | STATUS_FIRST_RECENT;
    if (modseq.size >= 8)
        out->status.highest_modseq = bytes_le64(modseq.at);
    if (out->status.highest_modseq == 0)
        out->unknown |= STATUS_HIGHESTMODSEQ;
    if (vsize.size >= 16 && field32(vsize, 3) == out->status.messages && field32(vsize, 2) + 1 == out->status.uid_next)
        out->status.size = bytes_le64(vsize.at);
    else if (out->status.messages > 0)
        out->unknown |= STATUS_SIZE;
    return true;
}

static void put_if_changed(struct list_index *list, struct index_batch *batch, int ext, uint32_t uid, struct slice value)
{
    struct slice old = index_ext_record(list->index, list->ext[ext], uid);

    if (old.size < value.size || memcmp(old.at, value.at, value.size) != 0)
        index_batch_ext_record(batch, list->ext[ext], uid, value);
}

static void put_row(struct list_index *list, struct mailbox *box, const struct list_node *node, struct index_batch *batch)
{
    struct index_status status;
    unsigned char msgs[16], modseq[8], stamp[8], log[8], row[28];
    struct slice old = index_ext_record(list->index, list->ext[EXT_LIST], node->uid);
    uint32_t folders[2];
    struct error e;

    index_status(box->index, &status);
    bytes_put_le32(msgs, status.messages);
    bytes_put_le32(msgs + 4, status.unseen);
    bytes_put_le32(msgs + 8, status.recent);
    bytes_put_le32(msgs + 12, status.next_uid);
    bytes_put_le64(modseq, status.highest_modseq);
    memset(row, 0, sizeof(row));
    memcpy(row, old.at, old.size < 28 ? old.size : 28);
    bytes_put_le32(row + 24, status.uid_validity);
    if (mailbox_guid(box, row + 8, &e) < 0)
        memcpy(row + 8, old.at + 8, old.size >= 24 ? 16 : 0);
    put_if_changed(list, batch, EXT_LIST, node->uid, slice_of(row, 28));
    if (!has_row(box->storage, box->place.name))
        return;
    put_if_changed(list, batch, EXT_MSGS, node->uid, slice_of(msgs, 16));
    put_if_changed(list, batch, EXT_MODSEQ, node->uid, slice_of(modseq, 8));
    if (vsize_current(box).size > 0)
        put_if_changed(list, batch, EXT_VSIZE, node->uid, vsize_current(box));
    /* The stamps are those of what we have read: whatever others have done since makes the row stale. */
    bytes_put_le32(log, status.log_size);
    bytes_put_le32(log + 4, status.log_mtime);
    put_if_changed(list, batch, EXT_SYNC, node->uid, slice_of(log, 8));
    if (has_stamp(box->storage)) {
        box->driver->list_seen(box, folders);
        bytes_put_le32(stamp, folders[0]);
        bytes_put_le32(stamp + 4, folders[1]);
        put_if_changed(list, batch, EXT_DRIVER, node->uid, slice_of(stamp, 8));
    }
}

static void write_folders(struct mail_storage *, struct list_index *);

void list_index_update(struct mailbox *box)
{
    struct list_index *list;
    struct list_node *node;
    struct index_batch *batch;
    struct arena *arena;
    struct error e;

    if (box->list_generation == index_generation(box->index) || index_deleted(box->index) != 0)
        return;
    list = list_index_open(box->storage, true);
    if (list == NULL) {
        box->list_generation = index_generation(box->index); /* not to be looked for again before there is news */
        return;
    }
    if (list_index_refresh(list, &e) < 0)
        return;
    node = list_index_node(list, box->storage, box->place.name);
    if (node == NULL && (list->tree.refresh || list->tree.count == 0)) {
        /* A new mailbox: others are told by its row that there is mail in it. */
        write_folders(box->storage, list);
        node = list_index_node(list, box->storage, box->place.name);
    }
    if (node == NULL)
        return;
    arena = arena_new();
    batch = index_batch_new(arena, INDEX_EXTERNAL);
    put_row(list, box, node, batch);
    if (index_batch_empty(batch) || index_commit(list->index, batch, NULL, &e) == STEP_DONE)
        box->list_generation = index_generation(box->index);
    arena_free(arena);
}

/* ---- names ---- */

void list_index_refresh_flag(struct mail_storage *storage)
{
    struct list_index *list = list_index_open(storage, false);
    struct arena *arena;
    struct index_batch *batch;
    struct error e;

    storage->list_checked = false;
    if (list == NULL || storage->at.layout == LAYOUT_INDEX)
        return; /* the tree itself was changed */
    arena = arena_new();
    for (int tries = 0; tries < 50; tries++) {
        enum step r;

        batch = index_batch_new(arena, INDEX_EXTERNAL);
        index_batch_ext_header(batch, list->ext[EXT_LIST], 0, slice_of("\1", 1));
        r = index_commit(list->index, batch, NULL, &e);
        if (r == STEP_ERROR)
            log_error_value(storage->ns->user->log_p, &e);
        if (r != STEP_WAIT)
            break;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    arena_free(arena);
}

struct compare {
    struct mail_storage *storage;
    struct list_index *list;
    struct arena *arena;
    struct index_batch *batch;
    void *names;                   /* tsearch trees: of struct list_name by name, of new nodes by parent and name */
    void *fresh;
    struct list_node **new_nodes;  /* in the order of their UIDs */
    size_t new_count, new_room;
    uint32_t next_uid, next_name;
    bool names_changed;
};

static int compare_name(const void *x, const void *y)
{
    return strcmp(((const struct list_name *)x)->name, ((const struct list_name *)y)->name);
}

static int compare_child(const void *x, const void *y)
{
    const struct list_node *a = x, *b = y;

    if (a->parent_uid != b->parent_uid)
        return a->parent_uid < b->parent_uid ? -1 : 1;
    return strcmp(a->name, b->name);
}

static void know_name(struct compare *c, uint32_t id, const char *text)
{
    struct list_name *name = ARENA_NEW(c->arena, struct list_name);

    *name = (struct list_name){id, text};
    tsearch(name, &c->names, compare_name);
}

static uint32_t name_id(struct compare *c, const char *text)
{
    struct list_tree *tree = &c->list->tree;
    struct list_name key = {0, text}, **found = tfind(&key, &c->names, compare_name);

    if (found != NULL)
        return (*found)->id;
    if (tree->name_count == tree->name_room)
        tree->names = vec_grow(tree->names, &tree->name_room, sizeof(*tree->names));
    tree->names[tree->name_count++] = (struct list_name){c->next_name, text};
    know_name(c, c->next_name, text);
    c->names_changed = true;
    return c->next_name++;
}

/* The node is there already: its flags, for the last part as wanted, for parents only if nothing else names them. */
static uint32_t keep_node(struct compare *c, struct list_node *node, uint8_t flags, bool last)
{
    const uint8_t mask = LIST_NODE_NONEXISTENT | LIST_NODE_NOSELECT;
    uint8_t want = last ? flags : LIST_NODE_NONEXISTENT;

    if (!node->wanted && (node->flags & mask) != want) {
        index_batch_flags_raw(c->batch, node->uid, node->uid, want, (uint8_t)(mask & ~want));
        node->flags = (uint8_t)((node->flags & ~mask) | want);
    }
    node->wanted = true;
    return node->uid;
}

/* Finds or makes the node of one part; the last part gets `flags`. Parents come before children (sorted names). */
static uint32_t want_node(struct compare *c, uint32_t parent, struct slice part, uint8_t flags, bool last)
{
    struct list_node *node = list_tree_child(&c->list->tree, parent, part), key = {.parent_uid = parent}, **found;

    if (node != NULL)
        return keep_node(c, node, flags, last);
    key.name = arena_str(c->list->arena, part);
    found = tfind(&key, &c->fresh, compare_child);
    if (found != NULL)
        return (*found)->uid;
    node = ARENA_NEW(c->arena, struct list_node);
    *node = (struct list_node){.uid = c->next_uid++, .parent_uid = parent, .name_id = name_id(c, key.name), .name = key.name,
                               .flags = last ? flags : LIST_NODE_NONEXISTENT, .wanted = true};
    tsearch(node, &c->fresh, compare_child);
    if (c->new_count == c->new_room)
        c->new_nodes = vec_grow(c->new_nodes, &c->new_room, sizeof(*c->new_nodes));
    c->new_nodes[c->new_count++] = node;
    return node->uid;
}

static void want_name(struct compare *c, const char *name, uint8_t flags)
{
    struct slice rest = slice_from_str(name), part;
    uint32_t parent = 0;

    while (slice_split(&rest, (unsigned char)c->storage->separator, &part))
        parent = want_node(c, parent, slice_from_str(mailbox_part_unescape(c->storage, c->arena, part)), flags,
                           rest.at == NULL || rest.size == 0);
}

static uint8_t flags_of(const struct folder_name *name)
{
    return name->selectable ? 0 : LIST_NODE_NOSELECT;
}

/* Marks the nodes of one name; false: one is missing, or the last has other flags. *seen counts those marked first. */
static bool mark_nodes(struct list_tree *tree, const struct mail_storage *storage, const char *name, uint8_t flags, size_t *seen)
{
    struct arena *arena = storage->escape == 0 ? NULL : arena_new();
    struct slice rest = slice_from_str(name), part;
    uint32_t parent = 0;
    bool same = true;

    while (same && slice_split(&rest, (unsigned char)storage->separator, &part)) {
        struct list_node *node =
            list_tree_child(tree, parent, arena == NULL ? part : slice_from_str(mailbox_part_unescape(storage, arena, part)));

        if (node == NULL) {
            same = false;
            break;
        }
        *seen += !node->wanted;
        node->wanted = true;
        parent = node->uid;
        if (rest.size == 0)
            same = (node->flags & (LIST_NODE_NONEXISTENT | LIST_NODE_NOSELECT)) == flags;
    }
    arena_free(arena);
    return same;
}

/* Do tree and folders say the same? No lock. */
static bool is_same(struct list_index *list, const struct mail_storage *storage, const struct folder_names *names)
{
    struct list_tree *tree = &list->tree;
    size_t seen = 0;

    for (size_t i = 0; i < tree->count; i++)
        tree->at[i].wanted = false;
    for (size_t i = 0; i < names->count; i++)
        if (!mark_nodes(tree, storage, names->at[i].name, flags_of(&names->at[i]), &seen))
            return false;
    if (storage->ns->inbox && !mark_nodes(tree, storage, "INBOX", 0, &seen))
        return false;
    return seen == tree->count;
}

static void put_new_nodes(struct compare *c)
{
    for (size_t i = 0; i < c->new_count; i++) {
        const struct list_node *node = c->new_nodes[i];
        struct index_append *append = index_batch_append(c->batch, node->uid, node->flags);
        unsigned char row[28] = {0};

        bytes_put_le32(row, node->name_id);
        bytes_put_le32(row + 4, node->parent_uid);
        index_append_ext(c->batch, append, c->list->ext[EXT_LIST], slice_of(row, 28));
    }
}

static void keep_tree(void *node)
{
    (void)node; /* the arena's */
}

static int write_tree(struct compare *c, const struct folder_names *names, struct error *e)
{
    struct list_tree *tree = &c->list->tree;
    struct index_status status;
    struct buffer header = {0};
    bool had_flag = tree->refresh;
    int r;

    index_status(c->list->index, &status);
    c->next_uid = status.next_uid == 0 ? 1 : status.next_uid;
    c->next_name = tree->name_count == 0 ? 1 : tree->names[tree->name_count - 1].id + 1;
    for (size_t i = 0; i < tree->count; i++)
        tree->at[i].wanted = false;
    for (size_t i = 0; i < tree->name_count; i++)
        know_name(c, tree->names[i].id, tree->names[i].name);
    if (c->storage->ns->inbox)
        want_name(c, "INBOX", 0);
    for (size_t i = 0; i < names->count; i++)
        want_name(c, names->at[i].name, flags_of(&names->at[i]));
    for (size_t i = 0; i < tree->count; i++) {
        if (!tree->at[i].wanted)
            index_batch_expunge(c->batch, tree->at[i].uid, NULL);
    }
    if (status.uid_validity == 0)
        index_batch_uid_validity(c->batch, (uint32_t)time(NULL));
    tree->refresh = false;
    if (c->names_changed) {
        list_tree_put_header(tree, &header);
        index_batch_ext_resize(c->batch, c->list->ext[EXT_LIST], (uint32_t)header.size);
        index_batch_ext_header(c->batch, c->list->ext[EXT_LIST], 0, buffer_slice(&header));
        buffer_free(&header);
    } else if (had_flag) {
        index_batch_ext_header(c->batch, c->list->ext[EXT_LIST], 0, slice_of("\0", 1));
    }
    put_new_nodes(c);
    r = index_commit_locked(c->list->index, c->batch, NULL, e);
    c->list->tree_known = false;
    return r;
}

/* Writes the tree of the folders that are there, if nobody else does at the moment. */
static void write_folders(struct mail_storage *storage, struct list_index *list)
{
    struct compare c = {.storage = storage, .list = list};
    struct folder_names again = {0};
    struct error e;
    int r;

    if (index_lock_try(list->index, "syncing", &e) != STEP_DONE)
        return;
    c.arena = arena_new();
    c.batch = index_batch_new(c.arena, INDEX_EXTERNAL);
    /* Under the lock the folders are read once more: who makes a mailbox makes the folder first. */
    r = folder_list(storage, c.arena, &again, &e);
    if (r == 0)
        r = list_index_load(list, &e);
    if (r == 0)
        r = write_tree(&c, &again, &e);
    if (r < 0)
        log_error_value(storage->ns->user->log_p, &e);
    else
        index_maintain(list->index);
    index_unlock(list->index);
    tdestroy(c.names, keep_tree);
    tdestroy(c.fresh, keep_tree);
    mem_free(c.new_nodes);
    VEC_FREE(&again);
    arena_free(c.arena);
}

void list_index_compare(struct mail_storage *storage, const struct folder_names *names)
{
    struct list_index *list = list_index_open(storage, true);
    struct error e;

    if (list == NULL || storage->at.layout == LAYOUT_INDEX)
        return;
    if (list_index_refresh(list, &e) < 0) {
        if (e.class == ERROR_CORRUPT)
            index_mark_corrupted(list->index, "%s", e.admin);
        return;
    }
    if (list->tree.refresh || !is_same(list, storage, names))
        write_folders(storage, list);
}

uint32_t list_index_order(struct mail_storage *storage, const char *name)
{
    struct list_index *list = storage->list;
    struct list_node *node;
    struct error e;

    if (list == NULL || *name == '\0' || list_index_load(list, &e) < 0)
        return 0;
    node = list_index_node(list, storage, name);
    return node == NULL ? 0 : node->uid;
}
