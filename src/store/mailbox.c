/* mailbox.c - mailboxes that are open in this process, views and syncing.
 *
 * One struct mailbox per mailbox, shared by all sessions: one index in memory, one uidlist, one descriptor of the log.
 * A session has a view. What changes a mailbox is an op, and a mailbox runs one at a time (op.c). */
#include "store/acl/acl.h"
#include "store/internal.h"
#include "store/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#define IDLE_MAX 16
#define FIRST_SYNC_TRIES 5000 /* of a millisecond */
#define IDLE_NS (30ull * 1000000000ull)

static struct mailbox *open_boxes; /* uthash by path and index path */

/* Mailboxes that nobody has open any more, oldest first: who selects one again in the next seconds finds index and uidlist
 * read. They are looked at when others are opened or closed; a process that does nothing keeps the last few. */
static struct mailbox *idle_boxes;
static unsigned idle_count;

int mailbox_not_found(const struct mailbox_place *place, struct error *e)
{
    char text[128];

    snprintf(text, sizeof(text), "Mailbox doesn't exist: %.100s", place->vname);
    error_set(e, ERROR_NOT_FOUND, "Mailbox doesn't exist: %s", place->vname);
    return error_user(e, text);
}

const struct store_driver *const *store_drivers(void)
{
    /* In the order of autodetection (maildir-and-layouts 1.4): formats with folders of their own come before Maildir. */
    static const struct store_driver *const drivers[] = {&mdbox_driver, &sdbox_driver, &maildir_driver, &mbox_driver, NULL};

    return drivers;
}

const struct store_driver *store_driver_find(const char *name)
{
    if (strcasecmp(name, "dbox") == 0)
        return &sdbox_driver;
    if (strcasecmp(name, "virtual") == 0) /* never found by looking at folders */
        return &virtual_driver;
    if (strcasecmp(name, "mdbox_deleted") == 0)
        return &mdbox_deleted_driver;
    for (const struct store_driver *const *d = store_drivers(); *d != NULL; d++)
        if (strcasecmp((*d)->name, name) == 0)
            return *d;
    return NULL;
}

void mailbox_log(const struct mailbox *box, enum log_level level, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    log_write(box->user->log_p, level, "Mailbox %s: %s", box->place.vname, buffer_cstr(&text));
    buffer_free(&text);
}

/* ---- opening ---- */

static char *key_of(const struct mailbox_place *place, struct arena *arena, unsigned *size)
{
    const struct mail_location *at = &place->ns->storage->at;
    const char *path = mail_location_path(at, arena, place->name, PATH_MAILBOX);
    const char *index = mail_location_path(at, arena, place->name, PATH_INDEX);
    /* An open mailbox carries its user's rights: what belongs to others is opened for each user by himself. */
    const char *user = place->ns->type == MAIL_NAMESPACE_PRIVATE && at->index_private == NULL ? "" : place->ns->user->name;
    size_t a, b, c = strlen(user);
    char *key;

    if (path == NULL)
        return NULL;
    a = strlen(path);
    b = index == NULL ? 0 : strlen(index);
    key = arena_alloc(arena, a + b + c + 3);
    memcpy(key, path, a);
    if (index != NULL)
        memcpy(key + a + 1, index, b);
    memcpy(key + a + b + 2, user, c);
    *size = (unsigned)(a + b + c + 3);
    return key;
}

struct mailbox *mailbox_find_open(const struct mailbox_place *place)
{
    struct arena *arena;
    struct mailbox *box = NULL;
    unsigned size;
    const char *key;

    /* An index in memory is one session's own. */
    if (open_boxes == NULL || place->ns->storage->at.index_memory)
        return NULL;
    arena = arena_new();
    key = key_of(place, arena, &size);
    if (key != NULL)
        HASH_FIND(hh, open_boxes, key, size, box);
    arena_free(arena);
    return box;
}

static void forget_key(struct mailbox *box)
{
    if (box->key != NULL)
        HASH_DEL(open_boxes, box);
    mem_free(box->key);
    box->key = NULL;
}

static void close_files(struct mailbox *box)
{
    if (box->index != NULL)
        index_cache_flush(box->index);
    box->driver->close(box);
    if (box->private != NULL)
        index_close(&box->private);
}

static void free_box(struct mailbox *box)
{
    struct mail_user *user = box->user;

    forget_key(box);
    close_files(box);
    arena_free(box->arena);
    mem_free(box);
    mail_user_close(&user);
}

static void leave_idle(struct mailbox *box)
{
    DL_DELETE2(idle_boxes, box, idle_prev, idle_next);
    idle_count--;
    box->idle_since_ns = 0;
}

static void drop_idle(uint64_t now)
{
    while (idle_boxes != NULL && (idle_count > IDLE_MAX || now - idle_boxes->idle_since_ns > IDLE_NS)) {
        struct mailbox *box = idle_boxes;

        leave_idle(box);
        free_box(box);
    }
}

void mailbox_set_gone(struct mailbox *box)
{
    box->gone = true;
    forget_key(box);
    if (box->refs == 0) {
        leave_idle(box);
        free_box(box);
        return;
    }
    mailbox_wake_watches(box, NULL);
}

/* Is an idle one still what is on the disk? Then it belongs to the new opener's user from here on. */
static bool wake_idle(struct mailbox *box, const struct mailbox_place *place)
{
    struct mail_user *old = box->user;
    struct error e;
    struct stat st;

    leave_idle(box);
    if (stat(box->path, &st) < 0 || st.st_dev != box->dev || st.st_ino != box->ino ||
        index_refresh(box->index, &e) == STEP_ERROR || index_deleted(box->index) != 0) {
        free_box(box);
        return false;
    }
    box->user = mail_user_ref(place->ns->user);
    box->storage = place->ns->storage;
    box->place.ns = place->ns;
    if (strcmp(box->place.vname, place->vname) != 0)
        box->place.vname = arena_strdup(box->arena, place->vname);
    mail_user_close(&old);
    return true;
}

/* LAYOUT=index: without a name in the index there is no path. */
static int make_by_index(struct mail_storage *storage, const struct mailbox_place *place, bool *create, struct error *e)
{
    const struct mail_auto *automatic = mailbox_auto_of(place);
    enum mailbox_existence there;

    *create = *create || (automatic != NULL && automatic->create);
    if (!*create || folder_exists(storage, place->name, &there, e) < 0 || there == MAILBOX_EXISTS_YES)
        return 0;
    return folder_create(storage, place->name, false, e) < 0 && e->class != ERROR_EXISTS ? -1 : 0;
}

/* What the opener wants to do with it. */
static int check_rights(const struct mailbox_place *place, unsigned flags, struct error *e)
{
    if ((flags & MAILBOX_OPEN_UNCHECKED) != 0)
        return 0;
    return mailbox_need(place, (flags & MAILBOX_OPEN_POST) != 0 ? MAILBOX_RIGHT_POST : (flags & MAILBOX_OPEN_SAVE) != 0 ? MAILBOX_RIGHT_INSERT : MAILBOX_RIGHT_READ, e);
}

/* Does the mailbox have to be made, and may this user do that? It has its parent's list then, whose rights count. */
static int check_create(const struct mailbox_place *place, unsigned flags, bool *absent, struct error *e)
{
    enum mailbox_existence there;

    *absent = false;
    if ((flags & MAILBOX_OPEN_CREATE) == 0 || (flags & MAILBOX_OPEN_UNCHECKED) != 0 || !acl_applies(place->ns) ||
        *place->name == '\0')
        return 0;
    if (folder_exists(place->ns->storage, place->name, &there, e) < 0)
        return -1;
    *absent = there != MAILBOX_EXISTS_YES;
    return *absent ? mailbox_need_create(place, e) : 0;
}

/* LAYOUT=index: a new mailbox has all that makes it one, its GUID above all, before its name is seen: a Dovecot that opened it
 * without would give it another GUID than its folder's. Nobody else can have locked it. */
static int first_sync(struct mailbox *box, struct error *e)
{
    struct driver_sync sync = {.why = SYNC_FULL};
    struct budget budget = BUDGET_UNLIMITED;
    unsigned tries = 0;
    enum step r;

    while ((r = box->driver->sync(box, &sync, &budget, e)) == STEP_MORE || (r == STEP_WAIT && tries++ < FIRST_SYNC_TRIES))
        if (r == STEP_WAIT)
            nanosleep(&(struct timespec){0, 1000000}, NULL);
    box->driver->sync_end(box, &sync);
    if (r == STEP_WAIT)
        return error_set(e, ERROR_LOCK_TIMEOUT, "%s: Timeout while waiting for lock", box->path);
    return r == STEP_DONE ? 0 : -1;
}

static int open_new(struct mailbox **out, const struct mailbox_place *place, bool create, struct error *e)
{
    struct mailbox *box = mem_zero(1, sizeof(*box));
    struct mail_storage *storage = place->ns->storage;
    struct driver_open how = {.create = create};
    const struct mail_auto *automatic = mailbox_auto_of(place);
    enum mailbox_existence root;
    struct stat st;
    unsigned size;
    bool absent;
    char *key;
    int r;

    if (storage->at.layout == LAYOUT_INDEX && make_by_index(storage, place, &create, e) < 0) {
        mem_free(box);
        return -1;
    }
    how.create = create;
    box->arena = arena_new();
    box->refs = 1;
    box->user = mail_user_ref(place->ns->user);
    box->storage = storage;
    box->driver = storage->at.driver;
    box->place = (struct mailbox_place){place->ns, arena_strdup(box->arena, place->vname), arena_strdup(box->arena, place->name)};
    for (size_t i = 0; i < 4; i++)
        box->watch_ids[i] = -1;
    key = key_of(&box->place, box->arena, &size);
    if (key == NULL || (*place->name == '\0' && !create && folder_exists(storage, "", &root, e) == 0 && root != MAILBOX_EXISTS_YES)) {
        mailbox_not_found(place, e);
        arena_free(box->arena);
        mail_user_close(&box->user);
        mem_free(box);
        return -1;
    }
    box->path = mail_location_path(&storage->at, box->arena, place->name, PATH_MAILBOX);
    box->index_path = mail_location_path(&storage->at, box->arena, place->name, PATH_INDEX);
    box->control_path = mail_location_path(&storage->at, box->arena, place->name, PATH_CONTROL);
    box->modes = mail_modes_of(box->path);
    if (automatic != NULL && automatic->create && !create) {
        enum mailbox_existence there;

        how.create = folder_exists(storage, place->name, &there, e) == 0 && there != MAILBOX_EXISTS_YES;
    }
    absent = how.create && access(box->path, F_OK) < 0;
    r = box->driver->open(box, &how, e);
    if (r == 0 && storage->at.layout == LAYOUT_INDEX) {
        list_layout_box_name(box);
        r = storage->pending == NULL ? 0 : first_sync(box, e);
        if (r == 0)
            r = list_layout_name(storage, place->name, e);
        if (r < 0)
            close_files(box);
    }
    if (r == 0 && (r = private_open(box, e)) < 0)
        close_files(box);
    if (r < 0) {
        struct mail_user *user = box->user;

        if (storage->at.layout == LAYOUT_INDEX)
            list_layout_forget(storage, place->name);

        arena_free(box->arena);
        mem_free(box);
        mail_user_close(&user);
        return -1;
    }
    if (stat(box->path, &st) == 0) {
        box->dev = st.st_dev;
        box->ino = st.st_ino;
    }
    if (!storage->at.index_memory) {
        box->key = mem_alloc(size);
        memcpy(box->key, key, size);
        box->key_size = size;
        HASH_ADD_KEYPTR(hh, open_boxes, box->key, box->key_size, box);
    }
    if (index_deleted(box->index) == 2)
        mailbox_undelete(box);
    *out = box;
    if (absent)
        notify_mailbox(&box->place, NOTIFY_CREATED, NULL);
    if (how.create && automatic != NULL && automatic->subscribe && !mailbox_subscribed(place)) {
        struct error ignored;

        if (store_op_wait(mailbox_subscribe(place, true), &ignored) < 0)
            log_error_value(box->user->log_p, &ignored);
    }
    return 0;
}

static int open_place(struct mailbox **out, const struct mailbox_place *place, unsigned flags, struct error *e)
{
    bool inbox = place->ns->inbox && strcmp(place->name, "INBOX") == 0;
    enum mailbox_existence there;
    struct mailbox *box;
    bool absent = false, is_new;

    if ((!inbox && check_create(place, flags, &absent, e) < 0) || (!absent && check_rights(place, flags, e) < 0))
        return -1;
    drop_idle(time_monotonic_ns());
    box = mailbox_find_open(place);
    if (box != NULL && (box->refs > 0 || wake_idle(box, place))) {
        *out = mailbox_ref(box);
        return 0;
    }
    is_new = inbox && welcome_wanted(place->ns->user) && folder_exists(place->ns->storage, place->name, &there, e) == 0 && there != MAILBOX_EXISTS_YES;
    if (open_new(out, place, inbox || (flags & MAILBOX_OPEN_CREATE) != 0, e) < 0)
        return -1;
    if (is_new)
        welcome_run(place->ns->user);
    if (!absent || (acl_copy_from_parent(place, e) == 0 && check_rights(place, flags, e) == 0))
        return 0;
    mailbox_close(out);
    return -1;
}

/* An alias opens what it stands for. */
static int open_alias(struct mailbox **out, const struct mailbox_place *place, const struct mailbox_place *old, unsigned flags, struct error *e)
{
    if (open_place(out, old, flags, e) == 0)
        return 0;
    return e->class == ERROR_NOT_FOUND ? mailbox_not_found(place, e) : -1;
}

int mailbox_open(struct mailbox **out, const struct mailbox_place *place, unsigned flags, struct error *e)
{
    struct arena *arena = arena_new();
    struct mailbox_place old;
    int r = mailbox_alias_of(place, arena, &old) ? open_alias(out, place, &old, flags, e) : open_place(out, place, flags, e);

    arena_free(arena);
    return r;
}

struct mailbox *mailbox_ref(struct mailbox *box)
{
    box->refs++;
    return box;
}

void mailbox_close(struct mailbox **box_p)
{
    struct mailbox *box = *box_p;

    *box_p = NULL;
    if (box == NULL || --box->refs > 0)
        return;
    if (box->gone || box->key == NULL || box->user->no_notify) {
        free_box(box);
        return;
    }
    index_cache_flush(box->index);
    box->idle_since_ns = time_monotonic_ns();
    DL_APPEND2(idle_boxes, box, idle_prev, idle_next);
    idle_count++;
    drop_idle(box->idle_since_ns);
}

const struct mailbox_place *mailbox_where(const struct mailbox *box)
{
    return &box->place;
}

void mailbox_origin(struct mailbox **box, uint32_t *uid)
{
    struct mailbox *real;
    uint32_t real_uid;

    if ((*box)->driver->origin == NULL || !(*box)->driver->origin(*box, *uid, &real, &real_uid))
        return;
    *box = real;
    *uid = real_uid;
}

const char *mailbox_format(const struct mailbox *box)
{
    return box->driver->name;
}

struct index *mailbox_index(const struct mailbox *box)
{
    return box->index;
}

int mailbox_guid(struct mailbox *box, unsigned char guid[16], struct error *e)
{
    return box->driver->guid(box, guid, e);
}

bool mailbox_read_only(const struct mailbox *box)
{
    return box->read_only || (mailbox_rights(&box->place) & (MAILBOX_RIGHT_WRITE | MAILBOX_RIGHT_SEEN | MAILBOX_RIGHT_TRASH | MAILBOX_RIGHT_EXPUNGE | MAILBOX_RIGHT_INSERT)) == 0;
}

bool mailbox_new_keywords(const struct mailbox *box)
{
    return !box->read_only && (mailbox_rights(&box->place) & MAILBOX_RIGHT_WRITE) != 0;
}

/* ---- views ---- */

static struct mailbox_view *new_view(struct mailbox *box, bool read_only, struct index_view *index)
{
    struct mailbox_view *view = mem_zero(1, sizeof(*view));

    view->box = mailbox_ref(box);
    view->read_only = read_only || mailbox_read_only(box);
    view->view = index;
    if (box->private != NULL)
        index_view_private(view->view, box->private, PRIVATE_FLAGS);
    return view;
}

struct mailbox_view *mailbox_view_open(struct mailbox *box, bool read_only)
{
    return new_view(box, read_only, index_view_open(box->index));
}

struct mailbox_view *mailbox_view_open_past(struct mailbox *box, bool read_only, const struct index_past *past,
                                            const struct index_ranges *recent)
{
    struct index_view *index = index_view_open_past(box->index, past);
    struct mailbox_view *view;

    if (index == NULL)
        return NULL;
    view = new_view(box, read_only, index);
    for (size_t i = 0; i < recent->count; i++)
        index_ranges_add(&view->recent, recent->at[i].first, recent->at[i].last);
    return view;
}

const struct index_ranges *mailbox_view_recent_uids(const struct mailbox_view *view)
{
    return &view->recent;
}

void mailbox_view_close(struct mailbox_view **view_p)
{
    struct mailbox_view *view = *view_p;

    if (view == NULL)
        return;
    *view_p = NULL;
    index_view_close(&view->view);
    index_ranges_free(&view->recent);
    mem_free(view->notes.lazy_uids);
    mailbox_close(&view->box);
    mem_free(view);
}

struct mailbox *mailbox_view_box(const struct mailbox_view *view)
{
    return view->box;
}

struct index_view *mailbox_view_index(const struct mailbox_view *view)
{
    return view->view;
}

bool mailbox_view_read_only(const struct mailbox_view *view)
{
    return view->read_only;
}

static uint32_t unclaimed_from(const struct mailbox_view *view)
{
    uint32_t first = index_first_recent(view->box->index);

    return first == 0 ? 1 : first;
}

/* Messages that this session took over, and those that nobody has yet (RFC 3501 section 2.3.2). */
bool mailbox_view_recent(const struct mailbox_view *view, uint32_t uid)
{
    return uid >= unclaimed_from(view) || index_ranges_has(&view->recent, uid);
}

uint32_t mailbox_view_recent_count(const struct mailbox_view *view)
{
    uint32_t count = 0, first, last, unclaimed = unclaimed_from(view);

    if (index_view_seq_range(view->view, unclaimed, UINT32_MAX - 1, &first, &last))
        count = last - first + 1;
    for (size_t i = 0; i < view->recent.count; i++) {
        const struct index_range *range = &view->recent.at[i];
        uint32_t end = range->last < unclaimed ? range->last : unclaimed - 1;

        if (range->first <= end && index_view_seq_range(view->view, range->first, end, &first, &last))
            count += last - first + 1;
    }
    return count;
}

/* What EXAMINE has shown as recent stays so, also when another session takes it over. */
static void keep_recent(struct mailbox_view *view)
{
    uint32_t first = unclaimed_from(view);
    struct index_status status;

    if (!view->read_only)
        return;
    index_status(view->box->index, &status);
    if (first < status.next_uid)
        index_ranges_add(&view->recent, first, status.next_uid - 1);
}

size_t mailbox_view_memory(const struct mailbox_view *view)
{
    return sizeof(*view) + index_view_memory(view->view) + view->recent.room * sizeof(*view->recent.at);
}

/* ---- sync ---- */

struct sync_op {
    struct store_op op;
    struct mailbox *box;
    struct mailbox_view *view;
    struct driver_sync sync;
    bool adopted;
};

int mailbox_check_gone(struct mailbox *box, struct error *e)
{
    return box->gone ? mailbox_not_found(&box->place, e) : 0;
}

static enum step run_sync(struct store_op *op, struct budget *budget, struct error *e)
{
    struct sync_op *s = (struct sync_op *)op;
    enum step r;

    if (mailbox_check_gone(s->box, e) < 0)
        return STEP_ERROR;
    if (s->sync.why == SYNC_RESYNC && s->box->storage->at.layout == LAYOUT_INDEX && !s->adopted) {
        s->adopted = true;
        list_layout_adopt(s->box->storage);
    }
    if (s->sync.why == SYNC_SELECT && s->box->user->welcoming && s->box->place.ns->inbox && strcmp(s->box->place.name, "INBOX") == 0)
        return STEP_WAIT;
    if (!store_op_take(op, s->box))
        return STEP_WAIT;
    r = s->box->driver->sync(s->box, &s->sync, budget, e);
    if (r == STEP_ERROR) {
        error_context(e, "Mailbox %s: ", s->box->place.vname);
        if (e->class == ERROR_NOT_FOUND)
            mailbox_set_gone(s->box);
    }
    if (r != STEP_DONE)
        return r;
    if (s->view != NULL && s->sync.recent_first != 0)
        index_ranges_add(&s->view->recent, s->sync.recent_first, s->sync.recent_last);
    if (s->view != NULL)
        keep_recent(s->view);
    private_follow(s->box);
    list_index_update(s->box);
    if (s->sync.changed)
        mailbox_wake_watches(s->box, NULL);
    return STEP_DONE;
}

static void end_sync(struct store_op *op)
{
    struct sync_op *s = (struct sync_op *)op;

    s->box->driver->sync_end(s->box, &s->sync);
    store_op_give(op);
    mailbox_close(&s->box);
}

struct store_op *mailbox_sync(struct mailbox *box, struct mailbox_view *view, enum sync_why why)
{
    static const struct op_class class = {run_sync, end_sync};
    struct sync_op *s = store_op_new(sizeof(*s), &class);

    s->box = mailbox_ref(box);
    s->view = view;
    /* Only who looks at others' mailboxes makes a difference. */
    s->sync.why = why == SYNC_FAST && box->driver->origin == NULL ? SYNC_POLL : why;
    s->sync.take_recent = view != NULL && !view->read_only && (why == SYNC_SELECT || why == SYNC_POLL || why == SYNC_FAST);
    s->sync.give_up_busy = why == SYNC_POLL || why == SYNC_FAST;
    return &s->op;
}
