/* change.c - CREATE, DELETE, RENAME as operations (maildir-and-layouts 6.1 to 6.3).
 *
 * All three hold mailboxes.lock. Sessions of this process that have the mailbox open find it gone at their next step;
 * those of others by the index-deleted record or the vanished folder. */
#include "store/acl/acl.h"
#include "store/attribute.h"
#include "store/internal.h"
#include "store/notify.h"
#include "store/quota/quota.h"

#include <stdio.h>
#include <errno.h>
#include <unistd.h>

struct change_op {
    struct store_op op;
    struct arena *arena;
    struct mail_user *user;
    struct mailbox_place place, to;
    struct list_lock *lock, *lock2;
    struct mailbox *box;
    bool directory, locked, synced, marked, removed, emptied, alias, rescued, inherited, children_only;
    struct driver_sync sync;      /* that empties a mailbox */
    unsigned char guid[16];       /* of what was deleted */
    bool known;                   /* guid is set */
    const char *special_use;
    struct notify_notes *notes; /* of the messages of what is deleted */
};

static int refuse(struct error *e, enum error_class class, const char *vname, const char *text)
{
    error_set(e, class, "Mailbox %s: %s", vname, text);
    return error_user(e, text);
}

static void *new_change(const struct mailbox_place *place, const struct op_class *class)
{
    struct change_op *c = store_op_new(sizeof(*c), class);

    c->arena = arena_new();
    c->user = mail_user_ref(place->ns->user);
    c->place = (struct mailbox_place){place->ns, arena_strdup(c->arena, place->vname), arena_strdup(c->arena, place->name)};
    return c;
}

static void end_change(struct store_op *op)
{
    struct change_op *c = (struct change_op *)op;

    store_op_free(&op->inner);
    if (c->sync.state != NULL)
        c->box->driver->sync_end(c->box, &c->sync);
    notify_notes_free(&c->notes);
    store_op_give(op);
    list_lock_release(&c->lock2);
    list_lock_release(&c->lock);
    mailbox_close(&c->box);
    arena_free(c->arena);
    mail_user_close(&c->user);
}

static enum step lock_list(struct change_op *c, struct error *e)
{
    if (c->lock != NULL)
        return STEP_DONE;
    return list_lock_try(c->place.ns->storage, &c->lock, e);
}

static bool is_inbox(const struct mailbox_place *place)
{
    return strcmp(place->name, "INBOX") == 0;
}

/* ---- create ---- */

/* A new mailbox's cache begins with the decisions of INBOX, as the real server's does (index-format 9.5). */
static void inherit_cache(struct change_op *c)
{
    struct mail_namespace *ns = mail_user_inbox_namespace(c->user);
    struct mailbox_place inbox = {ns, "INBOX", "INBOX"};
    struct mailbox *from;
    struct error ignored;

    enum mailbox_existence there;

    if (ns == NULL || mailbox_exists(&inbox, false, &there, &ignored) < 0 || there != MAILBOX_EXISTS_YES ||
        mailbox_open(&from, &inbox, 0, &ignored) < 0)
        return;
    index_cache_inherit(c->box->index, from->index);
    mailbox_close(&from);
}

/* A shared namespace itself, or a name in it that has no owner. */
static int refuse_in_template(struct change_op *c, struct error *e)
{
    if (strlen(c->place.vname) < strlen(c->place.ns->prefix))
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Mailbox can't be created.");
    return refuse(e, ERROR_PERMISSION, c->place.vname, "Permission denied");
}

static enum step link_alias(const struct change_op *c, struct error *e)
{
    return mailbox_alias_link(&c->to, &c->place, e) < 0 ? STEP_ERROR : STEP_DONE;
}

static enum step create(struct store_op *op, struct budget *budget, struct error *e)
{
    struct change_op *c = (struct change_op *)op;
    enum mailbox_existence there;
    struct dict *ignored;
    enum step r;

    if (c->box == NULL) {
        if (c->place.ns->template != NULL)
            return refuse_in_template(c, e), STEP_ERROR;
        if (mailbox_need_create(&c->place, e) < 0)
            return STEP_ERROR;
        if (c->special_use != NULL && (c->directory || !c->user->keep_special_uses || mail_user_attributes(c->user, &ignored, e) < 0))
            return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "[USEATTR] Special-use attributes can't be set"), STEP_ERROR;
        if (mailbox_alias_of(&c->place, c->arena, &c->to)) {
            if (mailbox_alias_exists(&c->place))
                return refuse(e, ERROR_EXISTS, c->place.vname, "Mailbox already exists"), STEP_ERROR;
            struct mailbox_place swap = c->place;

            c->alias = true;
            c->place = c->to; /* what it stands for, if that is new too */
            c->to = swap;
        }
        if ((*c->place.name == '\0' && (c->place.ns->inbox || *c->place.ns->prefix == '\0')) || c->place.ns->storage->at.layout == LAYOUT_NONE)
            return refuse(e, ERROR_EXISTS, c->place.vname, "Mailbox already exists"), STEP_ERROR;
        r = lock_list(c, e);
        if (r != STEP_DONE)
            return r;
        if (folder_exists(c->place.ns->storage, c->place.name, &there, e) < 0)
            return STEP_ERROR;
        if (there == MAILBOX_EXISTS_YES && !(is_inbox(&c->place) && c->place.ns->storage->at.layout != LAYOUT_INDEX &&
              access(mail_location_path(&c->place.ns->storage->at, c->arena, c->place.name, PATH_MAILBOX), F_OK) < 0))
            return c->alias ? link_alias(c, e) : (refuse(e, ERROR_EXISTS, c->place.vname, "Mailbox already exists"), STEP_ERROR);
        if (folder_create(c->place.ns->storage, c->place.name, c->directory, e) < 0)
            return STEP_ERROR;
        if (c->alias && link_alias(c, e) == STEP_ERROR)
            return STEP_ERROR;
        list_index_refresh_flag(c->place.ns->storage);
        list_lock_release(&c->lock);
        if (c->directory && (c->place.ns->storage->at.layout == LAYOUT_FS || c->place.ns->storage->at.layout == LAYOUT_INDEX)) {
            mailbox_log_append_name(c->place.ns->storage, MAILBOX_LOG_CREATE_DIR, c->place.vname);
            return STEP_DONE;
        }
        if (mailbox_open(&c->box, &c->place, MAILBOX_OPEN_UNCHECKED, e) < 0 || acl_copy_from_parent(&c->place, e) < 0)
            return STEP_ERROR;
        /* UIDVALIDITY and GUID are given at once. */
        op->inner = mailbox_sync(c->box, NULL, SYNC_FULL);
    }
    r = store_op_inner(op, budget, e);
    if (r == STEP_DONE && !c->inherited) {
        c->inherited = true;
        inherit_cache(c);
        if (c->special_use != NULL) {
            op->inner = mailbox_special_use_keep(c->box, c->special_use);
            return STEP_MORE;
        }
    }
    return r;
}

static enum step run_create(struct store_op *op, struct budget *budget, struct error *e)
{
    struct change_op *c = (struct change_op *)op;
    enum step r = create(op, budget, e);

    if (r == STEP_DONE)
        notify_mailbox(c->alias ? &c->to : &c->place, NOTIFY_CREATED, NULL);
    return r;
}

struct store_op *mailbox_create(const struct mailbox_place *place, bool directory, const char *special_use)
{
    static const struct op_class class = {run_create, end_change};
    struct change_op *c = new_change(place, &class);

    c->directory = directory;
    c->special_use = special_use == NULL ? NULL : arena_strdup(c->arena, special_use);
    return &c->op;
}

/* ---- delete ---- */

static int commit_undelete(struct mailbox *box, struct error *e)
{
    struct arena *arena = arena_new();
    struct index_batch *batch = index_batch_new(arena, INDEX_EXTERNAL);
    enum step r;

    index_batch_undeleted(batch);
    r = index_commit(box->index, batch, NULL, e);
    arena_free(arena);
    if (r == STEP_WAIT)
        return error_set(e, ERROR_LOCK_TIMEOUT, "%s: the index is locked", box->path);
    return r == STEP_ERROR ? -1 : 0;
}

static enum step delete_folder(struct change_op *c, struct error *e)
{
    struct mail_storage *storage = c->place.ns->storage;
    struct error ignored;
    enum mailbox_existence left;

    c->known = c->box != NULL && mailbox_guid(c->box, c->guid, &ignored) == 0;
    if (folder_delete(storage, c->place.name, e) < 0) {
        if (c->marked && commit_undelete(c->box, &ignored) < 0)
            log_error_value(c->user->log_p, &ignored); /* the next who opens it tries again */
        return STEP_ERROR;
    }
    if (c->box != NULL)
        mailbox_set_gone(c->box);
    notify_tell(c->notes, NULL);
    notify_mailbox(&c->place, NOTIFY_DELETED, NULL);
    if (c->known)
        mailbox_log_append(storage, MAILBOX_LOG_DELETE, c->guid);
    quota_unknown(c->user);
    if (folder_exists(storage, c->place.name, &left, &ignored) == 0 && left == MAILBOX_EXISTS_NO)
        mailbox_log_append_name(storage, MAILBOX_LOG_DELETE_DIR, c->place.vname);
    list_index_refresh_flag(storage);
    return STEP_DONE;
}

/* Attributes go last: among them is the key without which an encrypted mailbox, if it stays, cannot be read. */
static enum step delete_with_attributes(struct change_op *c, struct error *e)
{
    enum step r;

    if (!c->removed) {
        r = delete_folder(c, e);
        if (r != STEP_DONE)
            return r;
        c->removed = true;
    }
    r = c->known ? attribute_forget(c->user, c->guid, e) : STEP_DONE;
    if (r == STEP_ERROR) {
        log_error_value(c->user->log_p, e); /* nobody will ask for them */
        r = STEP_DONE;
    }
    return r;
}

/* Where others count what this mailbox refers to, or messages have files elsewhere, it gives them up before it goes. */
static bool must_be_empty(const struct mailbox *box)
{
    return (box->driver->can & DRIVER_COUNTS_REFERENCES) != 0 ||
           ((box->driver->can & DRIVER_ATTACHMENTS) != 0 &&
            *conf_str(box->user->settings, SET_mail_attachment_dir) != '\0');
}

static enum step empty_mailbox(struct change_op *c, struct budget *budget, struct error *e)
{
    struct index *index = c->box->index;
    struct index_record rec;
    enum step r;

    if (c->sync.batch == NULL && c->sync.state == NULL) {
        c->sync = (struct driver_sync){.why = SYNC_APPLY, .expunges = true, .batch = index_batch_new(c->arena, INDEX_INTERNAL)};
        for (uint32_t uid = 1; index_get_from(index, uid, &rec); uid = rec.uid + 1)
            index_batch_expunge(c->sync.batch, rec.uid, NULL);
    }
    r = c->box->driver->sync(c->box, &c->sync, budget, e);
    if (r == STEP_DONE) {
        c->box->driver->sync_end(c->box, &c->sync);
        c->emptied = true;
        return STEP_DONE;
    }
    return r;
}

/* Other processes that have it open learn it from the log. */
static enum step mark_deleted(struct change_op *c, struct error *e)
{
    struct index_batch *batch = index_batch_new(c->arena, INDEX_EXTERNAL);
    enum step r;

    index_batch_deleted(batch);
    r = index_commit(c->box->index, batch, NULL, e);
    if (r == STEP_DONE)
        c->marked = true;
    return r;
}

/* The index says that the mailbox was deleted, but here it is. Whoever deletes holds mailboxes.lock from before the mark until
 * the folder is gone; if we get it, that process died or failed, its user was told nothing, and the mail stays. */
void mailbox_undelete(struct mailbox *box)
{
    struct list_lock *lock = NULL;
    struct error e;

    if (list_lock_try(box->storage, &lock, &e) != STEP_DONE)
        return;
    if (access(box->path, F_OK) == 0 && index_refresh(box->index, &e) == STEP_DONE && index_deleted(box->index) == 2) {
        if (commit_undelete(box, &e) < 0)
            log_error_value(box->user->log_p, &e);
        else
            mailbox_log(box, LOG_LEVEL_WARNING, "its deletion was never finished: it is there again");
    }
    list_lock_release(&lock);
}

/* lazy_expunge: the messages go elsewhere before the mailbox does; without the list's lock, since that may make a mailbox. mail_log
 * wants to know of all of them. */
static enum step rescue_messages(struct change_op *c, struct budget *budget, struct error *e)
{
    enum mailbox_existence there;
    struct mailbox_place target;
    enum step r;

    if (c->box == NULL) {
        if ((!mail_user_plugin(c->user, "lazy_expunge") && c->user->notify == NULL) || lazy_expunge_namespace(c->place.ns) ||
            folder_exists(c->place.ns->storage, c->place.name, &there, e) < 0 || there != MAILBOX_EXISTS_YES ||
            mailbox_open(&c->box, &c->place, 0, e) < 0) {
            c->rescued = true;
            return STEP_DONE;
        }
        c->op.inner = mailbox_sync(c->box, NULL, SYNC_FULL);
    }
    r = store_op_inner(&c->op, budget, e);
    if (r == STEP_DONE && !c->synced) {
        c->synced = true;
        if (lazy_expunge_target(c->box, c->arena, &target))
            c->op.inner = lazy_expunge_all(c->box, &target);
        r = store_op_inner(&c->op, budget, e);
    }
    if (r == STEP_DONE) {
        c->rescued = true;
        mailbox_close(&c->box);
    }
    return r;
}

/* INBOX as the mail root itself: it is always there. Elsewhere it comes with the first who opens it, and may be deleted, and renamed before and over. */
static bool is_root_inbox(const struct mailbox_place *place)
{
    const struct mail_location *at = &place->ns->storage->at;

    return is_inbox(place) && place->ns->inbox && (at->driver->can & DRIVER_INBOX_IS_ROOT) != 0 && *at->dirname == '\0';
}

static enum step run_delete(struct store_op *op, struct budget *budget, struct error *e)
{
    struct change_op *c = (struct change_op *)op;
    enum mailbox_existence there;
    enum step r;

    if (c->lock == NULL) {
        if (mailbox_need(&c->place, MAILBOX_RIGHT_DELETE, e) < 0)
            return STEP_ERROR;
        if (is_root_inbox(&c->place))
            return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "INBOX can't be deleted."), STEP_ERROR;
        if (c->place.ns->storage->at.layout == LAYOUT_NONE)
            return mailbox_not_found(&c->place, e), STEP_ERROR;
        if (*c->place.name == '\0')
            return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Storage root can't be deleted."), STEP_ERROR;
        if (mailbox_has_aliases(&c->place))
            return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Can't delete mailbox while it has aliases"), STEP_ERROR;
        if (!c->rescued) {
            r = rescue_messages(c, budget, e);
            if (r != STEP_DONE)
                return r;
        }
        r = lock_list(c, e);
        if (r != STEP_DONE)
            return r;
        if (mailbox_alias_of(&c->place, c->arena, &c->to)) {
            if (!mailbox_alias_exists(&c->place))
                return mailbox_not_found(&c->place, e), STEP_ERROR;
            return folder_delete(c->place.ns->storage, c->place.name, e) < 0 ? STEP_ERROR : STEP_DONE; /* the link */
        }
        if (folder_exists(c->place.ns->storage, c->place.name, &there, e) < 0)
            return STEP_ERROR;
        if (there == MAILBOX_EXISTS_NO) {
            const struct mail_auto *automatic = mailbox_auto_of(&c->place);

            /* One that would be made by opening it. */
            if ((automatic != NULL && automatic->create) || (is_inbox(&c->place) && c->place.ns->inbox))
                return STEP_DONE;
            return mailbox_not_found(&c->place, e), STEP_ERROR;
        }
        if (there == MAILBOX_EXISTS_NOSELECT)
            return delete_folder(c, e);
        if (mailbox_open(&c->box, &c->place, MAILBOX_OPEN_UNCHECKED, e) < 0) {
            /* What cannot be opened can still be removed. */
            log_error_value(c->user->log_p, e);
            c->box = NULL;
            return delete_folder(c, e);
        }
    }
    if (c->box != NULL && !store_op_take(op, c->box))
        return STEP_WAIT;
    if (c->removed)
        return delete_with_attributes(c, e);
    if (c->notes == NULL)
        c->notes = notify_deletion(c->box);
    if (notify_prepare(c->notes, budget) == STEP_MORE)
        return STEP_MORE;
    if (!c->emptied && must_be_empty(c->box)) {
        r = empty_mailbox(c, budget, e);
        if (r != STEP_DONE)
            return r;
    }
    if (!c->marked) {
        r = mark_deleted(c, e);
        if (r == STEP_ERROR && e->class != ERROR_SPACE && e->class != ERROR_QUOTA)
            return r;
        if (r == STEP_WAIT)
            return r;
    }
    return delete_with_attributes(c, e);
}

struct store_op *mailbox_delete(const struct mailbox_place *place)
{
    static const struct op_class class = {run_delete, end_change};
    struct change_op *c = new_change(place, &class);

    return &c->op;
}

/* ---- rename ---- */

/* A name that is not there; with folders in folders the target is looked at first (measured). */
static int refuse_missing(struct change_op *c, struct error *e)
{
    enum mailbox_existence target;

    if (c->to.ns->storage->at.layout == LAYOUT_FS && *c->to.name != '\0' && folder_exists(c->to.ns->storage, c->to.name, &target, e) == 0 &&
        target != MAILBOX_EXISTS_NO)
        return refuse(e, ERROR_EXISTS, c->to.vname, "Target mailbox already exists");
    return mailbox_not_found(&c->place, e);
}

static int check_rename(struct change_op *c, struct error *e)
{
    const struct mail_storage *from = c->place.ns->storage, *to = c->to.ns->storage;
    struct mailbox_place other;
    enum mailbox_existence there;

    if (strcmp(c->place.vname, c->to.vname) == 0)
        return refuse(e, ERROR_EXISTS, c->place.vname, "Can't rename mailbox to itself.");
    if (from == to && strncmp(c->to.name, c->place.name, strlen(c->place.name)) == 0 &&
        c->to.name[strlen(c->place.name)] == from->separator) {
        if (from->at.layout == LAYOUT_FS) { /* whoever asks at this level hears what the file system says of it */
            errno = EINVAL;
            return error_sys(e, "rename", arena_printf(c->arena, "%s, %s",
                                                       mail_location_path(&from->at, c->arena, c->place.name, PATH_DIR),
                                                       mail_location_path(&to->at, c->arena, c->to.name, PATH_DIR)));
        }
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Can't rename mailbox under its own child");
    }
    if (is_root_inbox(&c->place))
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Renaming INBOX isn't supported.");
    if (from != to && (from->at.driver != to->at.driver || from->at.layout != to->at.layout ||
                       ((from->at.driver->can & DRIVER_ONE_ROOT) != 0 && strcmp(from->at.root, to->at.root) != 0)))
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Can't rename mailboxes across specified storages.");
    if (c->place.ns != c->to.ns && (c->place.ns->type != MAIL_NAMESPACE_PRIVATE || c->to.ns->type != MAIL_NAMESPACE_PRIVATE))
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Renaming not supported across non-private namespaces.");
    if (mailbox_need(&c->place, MAILBOX_RIGHT_DELETE, e) < 0 || mailbox_need_create(&c->to, e) < 0)
        return -1;
    if (from->at.layout == LAYOUT_NONE)
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Not supported");
    if (*c->place.name == '\0')
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Can't rename mailbox root.");
    if (lazy_expunge_namespace(c->place.ns) != lazy_expunge_namespace(c->to.ns))
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Can't rename mailboxes to/from expunge namespace.");
    if (mailbox_alias_of(&c->place, c->arena, &other))
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Can't rename alias mailboxes");
    if (mailbox_alias_of(&c->to, c->arena, &other))
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Can't rename to mailbox alias");
    if (mailbox_has_aliases(&c->place))
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Can't rename mailbox while it has aliases");
    if (from != to && from->at.layout == LAYOUT_INDEX)
        return refuse(e, ERROR_UNSUPPORTED, c->place.vname, "Can't rename mailboxes across specified storages.");
    if (folder_exists(from, c->place.name, &there, e) < 0)
        return -1;
    if (there == MAILBOX_EXISTS_NO && !folder_has_children(from, c->place.name))
        return refuse_missing(c, e);
    /* A name without a mailbox gives its children to a mailbox that exists, where the layout has no folder for it. */
    c->children_only = there == MAILBOX_EXISTS_NO && from->at.layout != LAYOUT_FS && from->at.layout != LAYOUT_INDEX;
    if (c->children_only && *c->to.name != '\0')
        return 0;
    if (*c->to.name == '\0' || folder_exists(to, c->to.name, &there, e) < 0)
        return *c->to.name == '\0' ? refuse(e, ERROR_EXISTS, c->to.vname, "Target mailbox already exists") : -1;
    if (there != MAILBOX_EXISTS_NO || is_root_inbox(&c->to))
        return refuse(e, ERROR_EXISTS, c->to.vname, "Target mailbox already exists");
    return 0;
}

/* The longest child must still be a legal name (3.3). */
static int check_lengths(struct change_op *c, struct error *e)
{
    struct folder_names names = {0};
    size_t old = strlen(c->place.name), new = strlen(c->to.name);
    int r = folder_list(c->place.ns->storage, c->arena, &names, e);

    for (size_t i = 0; r == 0 && i < names.count; i++)
        if (strncmp(names.at[i].name, c->place.name, old) == 0 && names.at[i].name[old] == c->place.ns->storage->separator &&
            strlen(names.at[i].name) - old + new > (c->to.ns->storage->at.layout == LAYOUT_FS ? MAILBOX_NAME_MAX : 254))
            r = refuse(e, ERROR_INVALID, c->place.vname, "Mailbox or child name too long");
    VEC_FREE(&names);
    return r;
}

static void set_children_gone(struct change_op *c)
{
    struct folder_names names = {0};
    enum mailbox_existence there;
    struct error e;
    size_t new = strlen(c->to.name);

    /* Renamed with their parent: what was open under the old name has no folder any more. */
    if (folder_list(c->to.ns->storage, c->arena, &names, &e) == 0) {
        for (size_t i = 0; i < names.count; i++) {
            struct mailbox_place old = c->place;
            struct mailbox *box;

            if (strncmp(names.at[i].name, c->to.name, new) != 0 || names.at[i].name[new] != c->to.ns->storage->separator)
                continue;
            old.name = arena_printf(c->arena, "%s%c%s", c->place.name, c->place.ns->storage->separator, names.at[i].name + new + 1);
            box = mailbox_find_open(&old);
            if (box != NULL && folder_exists(c->place.ns->storage, old.name, &there, &e) == 0 && there == MAILBOX_EXISTS_NO)
                mailbox_set_gone(box);
        }
    }
    VEC_FREE(&names);
}

static enum step stamp_rename(struct change_op *c, struct error *e)
{
    struct index_ext_def def = {.name = "last-rename-stamp", .header_size = 4};
    struct index_batch *batch = index_batch_new(c->arena, INDEX_EXTERNAL);
    unsigned char now[4];

    bytes_put_le32(now, (uint32_t)time(NULL));
    index_batch_ext_header(batch, index_ext(c->box->index, &def), 0, slice_of(now, 4));
    return index_commit(c->box->index, batch, NULL, e);
}

static enum step run_rename(struct store_op *op, struct budget *budget, struct error *e)
{
    struct change_op *c = (struct change_op *)op;
    enum mailbox_existence there;
    struct mailbox *open;
    enum step r;

    (void)budget;
    if (c->box != NULL) {
        r = stamp_rename(c, e);
        if (r == STEP_ERROR) {
            log_error_value(c->user->log_p, e); /* the mailbox is renamed all the same */
            return STEP_DONE;
        }
        return r;
    }
    r = list_lock_try(c->to.ns->storage, &c->lock, e);
    if (r != STEP_DONE)
        return r;
    if (check_rename(c, e) < 0 || check_lengths(c, e) < 0)
        return STEP_ERROR;
    open = mailbox_find_open(&c->place);
    if (open != NULL && open->job != NULL)
        return list_lock_release(&c->lock), STEP_WAIT;
    if (folder_rename(c->place.ns->storage, c->place.name, c->to.ns->storage, c->to.name, e) < 0) {
        if (e->class == ERROR_EXISTS)
            error_user(e, "Target mailbox already exists");
        return STEP_ERROR;
    }
    notify_mailbox(&c->place, NOTIFY_RENAMED, &c->to);
    if (open != NULL)
        mailbox_set_gone(open);
    set_children_gone(c);
    mailbox_log_append_name(c->to.ns->storage, MAILBOX_LOG_RENAME, c->to.vname);
    list_index_refresh_flag(c->to.ns->storage);
    if (c->to.ns != c->place.ns)
        list_index_refresh_flag(c->place.ns->storage);
    list_lock_release(&c->lock);
    /* Opening would make a mailbox of what is only a folder. */
    if (c->children_only || folder_exists(c->to.ns->storage, c->to.name, &there, e) < 0 || there != MAILBOX_EXISTS_YES ||
        mailbox_open(&c->box, &c->to, MAILBOX_OPEN_UNCHECKED, e) < 0) {
        c->box = NULL;
        return STEP_DONE; /* only its children exist */
    }
    return STEP_MORE;
}

struct store_op *mailbox_rename(const struct mailbox_place *from, const struct mailbox_place *to)
{
    static const struct op_class class = {run_rename, end_change};
    struct change_op *c = new_change(from, &class);

    c->to = (struct mailbox_place){to->ns, arena_strdup(c->arena, to->vname), arena_strdup(c->arena, to->name)};
    return &c->op;
}
