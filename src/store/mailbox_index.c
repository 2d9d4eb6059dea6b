/* mailbox_index.c - the index of a mailbox, as its user's settings and its driver want it. */
#include "store/internal.h"

#include <fcntl.h>
#include <unistd.h>

/* Nothing in struct index_settings is its default; what is set to nothing is as little as there is. */
static unsigned secs(const struct settings *set, enum setting id)
{
    unsigned value = conf_secs(set, id);

    return value == 0 ? 1 : value;
}

void store_index_settings(const struct mail_user *user, struct index_settings *out)
{
    const struct settings *set = user->settings;
    const char *lock = conf_str(set, SET_lock_method), *sync = conf_str(set, SET_mail_fsync);

    *out = (struct index_settings){
        .lock_method = strcmp(lock, "flock") == 0 ? OS_LOCK_FLOCK : strcmp(lock, "dotlock") == 0 ? OS_LOCK_DOTLOCK : OS_LOCK_FCNTL,
        .fsync = strcmp(sync, "never") == 0 ? INDEX_FSYNC_NEVER : strcmp(sync, "always") == 0 ? INDEX_FSYNC_ALWAYS : INDEX_FSYNC_OPTIMIZED,
        .dotlock_by_link = !conf_bool(set, SET_dotlock_use_excl),
        .mmap_disable = conf_bool(set, SET_mmap_disable),
        .nfs = conf_bool(set, SET_mail_nfs_index),
        .lock_timeout_secs = conf_secs(set, SET_mail_max_lock_timeout),
        .log_rotate_min_size = conf_size(set, SET_mail_index_log_rotate_min_size),
        .log_rotate_max_size = conf_size(set, SET_mail_index_log_rotate_max_size),
        .log_rotate_min_age_secs = secs(set, SET_mail_index_log_rotate_min_age),
        .log2_max_age_secs = secs(set, SET_mail_index_log2_max_age),
        .rewrite_min_log_bytes = conf_size(set, SET_mail_index_rewrite_min_log_bytes),
        .rewrite_max_log_bytes = conf_size(set, SET_mail_index_rewrite_max_log_bytes),
        .cache_fields = conf_str(set, SET_mail_cache_fields),
        .always_cache_fields = conf_str(set, SET_mail_always_cache_fields),
        .never_cache_fields = conf_str(set, SET_mail_never_cache_fields),
        .cache_min_mails = conf_uint(set, SET_mail_cache_min_mail_count),
        .cache_purge_headers = conf_uint(set, SET_mail_cache_purge_header_continue_count),
        .cache_unaccessed_drop_secs = secs(set, SET_mail_cache_unaccessed_field_drop),
        .cache_record_max_size = (uint32_t)conf_size(set, SET_mail_cache_record_max_size),
        .cache_max_size = (uint32_t)conf_size(set, SET_mail_cache_max_size),
        .cache_purge_min_size = (uint32_t)conf_size(set, SET_mail_cache_purge_min_size),
        .cache_purge_delete_percent = conf_uint(set, SET_mail_cache_purge_delete_percentage),
        .cache_purge_continued_percent = conf_uint(set, SET_mail_cache_purge_continued_percentage),
    };
}

/* The folder of the index files; made when it is elsewhere than the mail. */
static int open_folder(struct mailbox *box, struct index_where *where, struct error *e)
{
    bool elsewhere = strcmp(box->index_path, box->path) != 0;

    if (elsewhere && folder_make(box->index_path, &box->modes, e) < 0)
        return -1;
    where->dir = open(box->index_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (where->dir < 0)
        return error_sys(e, "open", box->index_path);
    if (elsewhere) /* mail that may only be read can well have an index that may be written */
        where->read_only = faccessat(where->dir, ".", W_OK, AT_EACCESS) < 0;
    return 0;
}

/* Not being allowed to keep an index is no reason to hide the mail, where the mail says the same as its index. */
static bool may_do_without(const struct store_index_how *how, const struct index_where *where, const struct error *e)
{
    return !how->only_copy && !where->in_memory && (e->class == ERROR_PERMISSION || (where->read_only && e->class == ERROR_NOT_FOUND));
}

int store_index_open(struct mailbox *box, const struct store_index_how *how, struct error *e)
{
    struct index_settings settings;
    struct index_where where = {.dir = -1, .path = box->index_path, .mode = box->modes.file, .gid = box->modes.gid,
                                .settings = &settings, .read_only = how->read_only, .init = how->init, .init_arg = box,
                                .in_memory = how->in_memory || box->index_path == NULL};
    char *name = mem_printf("Mailbox %s: ", box->place.vname);
    int r = 0;

    store_index_settings(box->user, &settings);
    settings.sync_appends = settings.keep_backup = how->only_copy;
    where.name = name;
    if (!where.in_memory)
        r = open_folder(box, &where, e);
    if (r == 0)
        r = index_open(&box->index, &where, e);
    if (r < 0 && may_do_without(how, &where, e)) {
        if (e->class == ERROR_PERMISSION)
            mailbox_log(box, LOG_LEVEL_ERROR, "%s: the index is kept in memory", e->admin);
        where.in_memory = true;
        where.read_only = false;
        r = index_open(&box->index, &where, e);
    } else if (r < 0 && where.read_only && e->class == ERROR_NOT_FOUND) {
        (void)error_set(e, ERROR_PERMISSION, "%s: there is no index, and none can be made", box->index_path);
    }
    if (where.dir >= 0)
        (void)close(where.dir);
    mem_free(name);
    return r;
}

/* ---- fsck ---- */

struct fsck_op {
    struct store_op op;
    struct mailbox *box;
};

static enum step run_fsck(struct store_op *op, struct budget *budget, struct error *e)
{
    struct fsck_op *f = (struct fsck_op *)op;

    (void)budget;
    if (mailbox_check_gone(f->box, e) < 0)
        return STEP_ERROR;
    return store_op_take(op, f->box) ? index_fsck(f->box->index, e) : STEP_WAIT;
}

static void end_fsck(struct store_op *op)
{
    struct fsck_op *f = (struct fsck_op *)op;

    store_op_give(op);
    mailbox_close(&f->box);
}

struct store_op *mailbox_fsck(struct mailbox *box)
{
    static const struct op_class class = {run_fsck, end_fsck};
    struct fsck_op *f = store_op_new(sizeof(*f), &class);

    f->box = mailbox_ref(box);
    return &f->op;
}
