/* driver.c - virtual mailboxes as a store driver: what the file says, which mailboxes are behind, whose a message is.
 *
 * A virtual mailbox has an index of its own, with UIDs, flags and a record per message that names the mailbox behind and the
 * UID there. Messages are read from there; sync.c brings both together. */
#include "store/virtual/virtual.h"

#include "store/internal.h"
#include "store/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

#define FILE_MAX (1u << 20)
#define BOXES_MAX 10000

static int refuse_save(struct error *e)
{
    error_set(e, ERROR_UNSUPPORTED, "Can't save messages to this virtual mailbox");
    return error_user(e, "Can't save messages to this virtual mailbox");
}

/* ---- the mailboxes behind ---- */

static void close_box(struct virtual_box *b)
{
    mailbox_watch_remove(&b->watch);
    mailbox_view_close(&b->view);
    mailbox_close(&b->box);
    index_ranges_free(&b->matches);
}

static void drop_boxes(struct virtual *v)
{
    for (size_t i = 0; i < v->count; i++) {
        close_box(v->at[i]);
        mem_free(v->at[i]);
    }
    VEC_FREE(v);
}

struct virtual_box *virtual_box_of(struct virtual *v, uint32_t id)
{
    for (size_t i = 0; i < v->count; i++)
        if (v->at[i]->entry.id == id)
            return v->at[i];
    return NULL;
}

static struct virtual_box *find_name(struct virtual *v, const char *vname)
{
    for (size_t i = 0; i < v->count; i++)
        if (strcmp(v->at[i]->vname, vname) == 0)
            return v->at[i];
    return NULL;
}

static struct virtual_box *add_box(struct virtual *v, const char *vname)
{
    struct virtual_box *b = find_name(v, vname);

    if (b != NULL || v->count >= BOXES_MAX)
        return b;
    b = mem_zero(1, sizeof(*b));
    b->vname = arena_strdup(v->box->arena, vname);
    b->entry.name = b->vname;
    VEC_PUSH(v, b);
    return b;
}

bool virtual_real(struct virtual *v, uint32_t uid, uint32_t *id, uint32_t *real_uid)
{
    struct slice raw = index_ext_record(v->box->index, v->ext, uid);

    if (raw.size < 8)
        return false;
    *id = bytes_le32(raw.at);
    *real_uid = bytes_le32(raw.at + 4);
    return *id != 0;
}

/* ---- what the file says ---- */

static int read_config(struct virtual *v, struct error *e)
{
    char *path = arena_printf(v->box->arena, "%s/" VIRTUAL_FILE, v->box->path);
    struct buffer text = {0};
    struct virtual_config config;
    struct arena *arena;
    struct stat st;

    if (stat(path, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR ? mailbox_not_found(&v->box->place, e) : error_sys(e, "stat", path);
    if (v->configured && st.st_mtime == v->config_stat.st_mtime && st.st_size == v->config_stat.st_size && st.st_ino == v->config_stat.st_ino)
        return 0;
    if (os_read_file(AT_FDCWD, path, FILE_MAX, &text, e) < 0)
        return -1;
    arena = arena_new();
    if (virtual_config_parse(&config, buffer_slice(&text), arena, e) < 0) {
        buffer_free(&text);
        arena_free(arena);
        return error_context(e, "%s: ", path);
    }
    buffer_free(&text);
    virtual_config_free(&v->config);
    arena_free(v->arena);
    v->arena = arena;
    v->config = config;
    v->config_stat = st;
    v->configured = true;
    return 0;
}

static bool is_virtual(const struct mailbox_place *place)
{
    return place->ns->storage->at.driver == &virtual_driver;
}

static void use_name(struct virtual *v, struct arena *arena, const char *vname, const struct virtual_line *line)
{
    struct mailbox_place place;
    struct virtual_box *b;
    struct error e;

    /* No mailbox that shows others: two that show one another would have no end. */
    if (mailbox_place(v->box->user, arena, slice_from_str(vname), &place, &e) < 0 || is_virtual(&place))
        return;
    if (line->mark == VIRTUAL_EXCLUDE) {
        b = find_name(v, place.vname);
        if (b != NULL)
            b->used = false;
        return;
    }
    if (line->mark == VIRTUAL_SAVE)
        v->save = (struct mailbox_place){place.ns, arena_strdup(v->box->arena, place.vname), arena_strdup(v->box->arena, place.name)};
    b = add_box(v, place.vname);
    if (b == NULL || b->used)
        return; /* the first rule that names it counts */
    b->used = true;
    b->rule = line->rule;
}

static int use_pattern(struct virtual *v, struct arena *arena, const struct virtual_line *line, struct error *e)
{
    struct slice pattern = slice_from_str(line->pattern);
    struct mailbox_list *list = mailbox_list_begin(v->box->user, &pattern, 1, 0);
    struct budget budget = BUDGET_UNLIMITED;
    const struct mailbox_info *info;
    enum step r;

    while ((r = mailbox_list_next(list, &budget, &info, e)) == STEP_MORE || r == STEP_WAIT)
        if (r == STEP_MORE && (info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) == 0)
            use_name(v, arena, info->vname, line);
    mailbox_list_end(&list);
    return r == STEP_ERROR ? -1 : 0;
}

static int use_all(struct virtual *v, struct arena *arena, struct error *e)
{
    for (size_t i = 0; i < v->count; i++)
        v->at[i]->used = false;
    v->save = (struct mailbox_place){0};
    for (int pass = 0; pass < 2; pass++) { /* what is left out is left out wherever it stands */
        for (size_t i = 0; i < v->config.line_count; i++) {
            const struct virtual_line *line = &v->config.lines[i];

            if ((line->mark == VIRTUAL_EXCLUDE) != (pass == 1))
                continue;
            if (strpbrk(line->pattern, "*%") == NULL)
                use_name(v, arena, line->pattern, line);
            else if (use_pattern(v, arena, line, e) < 0)
                return -1;
        }
    }
    return 0;
}

static int compare_ids(const void *a, const void *b)
{
    const struct virtual_box *const *x = a, *const *y = b;
    uint32_t m = (*x)->entry.id - 1, n = (*y)->entry.id - 1; /* 0 last */

    return m < n ? -1 : m > n;
}

/* What the index says of the mailboxes; others may have changed it. */
static int read_header(struct virtual *v, struct arena *arena, struct error *e)
{
    struct index *index = v->box->index;
    struct virtual_header h;

    if (virtual_header_parse(&h, index_ext_header(index, v->ext), index_ext_header(index, v->ext2), arena, e) < 0)
        return -1;
    v->change_counter = h.change_counter;
    v->highest_id = h.highest_id;
    v->crc = h.crc;
    for (size_t i = 0; i < v->count; i++)
        v->at[i]->entry.id = 0;
    for (size_t i = 0; i < h.count; i++) {
        struct virtual_box *b = add_box(v, h.at[i].name);

        if (b == NULL)
            continue;
        b->entry = h.at[i];
        b->entry.name = b->vname;
    }
    for (size_t i = 0; i < v->count; i++)
        if (v->at[i]->entry.id == 0)
            v->at[i]->entry = (struct virtual_entry){.name = v->at[i]->vname};
    if (v->count > 1)
        qsort(v->at, v->count, sizeof(*v->at), compare_ids);
    return 0;
}

int virtual_load(struct virtual *v, bool again, struct error *e)
{
    struct arena *arena = arena_new();
    bool had = v->configured;
    int r = read_config(v, e);

    if (r == 0 && (again || !had))
        r = use_all(v, arena, e);
    if (r == 0 && (again || !had)) {
        /* Dates relative to now are read anew. */
        v->rules = ARENA_ARRAY(v->arena, struct search_key *, v->config.rule_count);
        for (size_t i = 0; r == 0 && i < v->config.rule_count; i++)
            if ((v->rules[i] = virtual_query_parse(v->arena, v->config.rules[i], e)) == NULL)
                r = error_context(e, "%s/" VIRTUAL_FILE ": ", v->box->path);
    }
    if (r == 0)
        r = read_header(v, arena, e);
    arena_free(arena);
    return r;
}

/* ---- opening ---- */

static bool virtual_is_mailbox(const char *path)
{
    char *file = mem_printf("%s/" VIRTUAL_FILE, path);
    bool there = access(file, F_OK) == 0;

    mem_free(file);
    return there;
}

static int virtual_create(const struct mail_location *at, const char *path, bool inbox, const struct mail_modes *modes, struct error *e)
{
    (void)at, (void)path, (void)inbox, (void)modes;
    error_set(e, ERROR_UNSUPPORTED, "Can't create virtual mailboxes");
    return error_user(e, "Can't create virtual mailboxes");
}

static const struct index_ext_def ext_def = {.name = "virtual", .record_size = 8, .record_align = 4, .shrink = true};
static const struct index_ext_def ext2_def = {.name = "virtual2", .shrink = true};
static const struct index_ext_def guid_def = {.name = "virtual-guid", .header_size = 16};

static int init_index(void *arg, struct index *index, struct index_batch *batch, struct error *e)
{
    unsigned char guid[16];

    (void)arg, (void)e;
    store_guid_new(guid);
    index_batch_ext_header(batch, index_ext(index, &guid_def), 0, slice_of(guid, sizeof(guid)));
    return 0;
}

static void virtual_close(struct mailbox *box)
{
    struct virtual *v = box->data;

    if (v == NULL)
        return;
    drop_boxes(v);
    if (box->index != NULL)
        index_close(&box->index);
    virtual_config_free(&v->config);
    arena_free(v->arena);
    mem_free(v);
    box->data = NULL;
}

static int virtual_open(struct mailbox *box, const struct driver_open *how, struct error *e)
{
    struct virtual *v;

    if (!virtual_is_mailbox(box->path))
        return how->create ? virtual_create(NULL, NULL, false, NULL, e) : mailbox_not_found(&box->place, e);
    v = box->data = mem_zero(1, sizeof(*v));
    v->box = box;
    if (store_index_open(box, &(struct store_index_how){.init = init_index}, e) < 0) {
        virtual_close(box);
        return -1;
    }
    v->ext = index_ext(box->index, &ext_def);
    v->ext2 = index_ext(box->index, &ext2_def);
    v->ext_guid = index_ext(box->index, &guid_def);
    if (virtual_load(v, true, e) < 0) {
        virtual_close(box);
        return -1;
    }
    return 0;
}

static int virtual_guid(struct mailbox *box, unsigned char guid[16], struct error *e)
{
    struct virtual *v = box->data;
    struct slice raw = index_ext_header(box->index, v->ext_guid);

    if (raw.size < 16)
        return error_set(e, ERROR_TEMPORARY, "%s: the mailbox has no GUID", box->path);
    memcpy(guid, raw.at, 16);
    return 0;
}

/* ---- messages ---- */

static bool virtual_origin(struct mailbox *box, uint32_t uid, struct mailbox **real, uint32_t *real_uid)
{
    struct virtual *v = box->data;
    struct virtual_box *b;
    struct error e;
    uint32_t id;

    if (!virtual_real(v, uid, &id, real_uid) || (b = virtual_box_of(v, id)) == NULL)
        return false;
    if (b->box == NULL) {
        struct arena *arena = arena_new();
        struct mailbox_place place;
        int r = mailbox_place(box->user, arena, slice_from_str(b->vname), &place, &e);

        if (r == 0)
            r = mailbox_open(&b->box, &place, 0, &e);
        arena_free(arena);
        if (r < 0) {
            b->box = NULL;
            return false;
        }
    }
    *real = b->box;
    return true;
}

static int virtual_read(struct mailbox *box, uint32_t uid, struct arena *arena, struct mail_file *file, struct error *e)
{
    struct mailbox *real;
    uint32_t real_uid;

    if (!virtual_origin(box, uid, &real, &real_uid))
        return store_message_gone(uid, e);
    return real->driver->read(real, real_uid, arena, file, e);
}

static void virtual_read_end(struct mail_file *file)
{
    (void)file; /* store_read asks the mailbox behind directly */
}

static int virtual_item(struct mailbox *box, uint32_t uid, enum driver_item item, struct arena *arena, struct driver_value *value, struct error *e)
{
    struct mailbox *real;
    uint32_t real_uid;

    if (!virtual_origin(box, uid, &real, &real_uid))
        return store_message_gone(uid, e);
    return real->driver->item(real, real_uid, item, arena, value, e);
}

static bool virtual_save_into(struct mailbox *box, struct mailbox_place *place)
{
    struct virtual *v = box->data;

    *place = v->save;
    return v->save.vname != NULL;
}

/* Saves go to another mailbox (save.c) or nowhere. */
static int virtual_stage(struct staged *s, struct error *e)
{
    (void)s;
    return refuse_save(e);
}

static int virtual_stage_write(struct staged *s, struct slice bytes, struct error *e)
{
    (void)s, (void)bytes;
    return refuse_save(e);
}

static int virtual_stage_finish(struct staged *s, struct error *e)
{
    (void)s;
    return refuse_save(e);
}

static int virtual_stage_copy(struct staged *s, struct mailbox *from, uint32_t uid, struct error *e)
{
    (void)s, (void)from, (void)uid;
    return refuse_save(e);
}

static int virtual_stage_again(struct staged *s, const struct staged *first, struct error *e)
{
    (void)s, (void)first;
    return refuse_save(e);
}

static void virtual_discard(struct staged *s)
{
    (void)s;
}

static enum step virtual_publish(struct mailbox *box, struct driver_publish *p, struct budget *budget, struct error *e)
{
    (void)box, (void)p, (void)budget;
    refuse_save(e);
    return STEP_ERROR;
}

static void virtual_publish_end(struct mailbox *box, struct driver_publish *p)
{
    (void)box, (void)p;
}

const struct store_driver virtual_driver = {
    .name = "virtual",
    .can = DRIVER_FACTS_IN_FILE,
    .layout = LAYOUT_FS,
    .dirname = "", .mailboxdir = "", .subscriptions = "subscriptions",
    .is_mailbox = virtual_is_mailbox,
    .create = virtual_create, .remove = store_remove_files,
    .open = virtual_open, .close = virtual_close, .guid = virtual_guid,
    .sync = virtual_sync, .sync_end = virtual_sync_end,
    .stage = virtual_stage, .stage_write = virtual_stage_write, .stage_finish = virtual_stage_finish,
    .stage_copy = virtual_stage_copy, .stage_again = virtual_stage_again, .discard = virtual_discard,
    .publish = virtual_publish, .publish_end = virtual_publish_end,
    .read = virtual_read, .read_end = virtual_read_end, .item = virtual_item,
    .origin = virtual_origin, .save_into = virtual_save_into,
};
