/* change.c - a list is changed: read again under its dotlock, written whole, renamed (quota-acl-plugins 2.3).
 *
 * The lock file is the new file. When the last entry goes, an empty file stays, as there. */
#include "store/acl/internal.h"
#include "store/attribute.h"
#include "store/coding/crypt_user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { STALE_SECS = 120 };

/* dovecot-acl in the folder of the mailbox. STEP_DONE with the lock. */
static enum step lock_file(const char *path, struct os_dotlock **lock, int *dir, struct error *e)
{
    struct arena *arena = arena_new();
    const char *slash = strrchr(path, '/');
    char *folder = arena_str(arena, slice_of(path, (size_t)(slash - path)));
    struct mail_modes modes = mail_modes_of(folder);
    struct os_dotlock_options options = {.stale_secs = STALE_SECS, .replaces = true, .protects = slash + 1,
                                         .mode = modes.file, .gid = modes.gid, .set_gid = modes.gid != (gid_t)-1};
    enum step r = STEP_ERROR;

    *dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dir < 0) {
        error_sys(e, "open", folder);
    } else {
        enum os_lock got = os_dotlock_try_with(*dir, "dovecot-acl.lock", &options, lock, e);

        r = got == OS_GOT ? STEP_DONE : got == OS_BUSY ? STEP_WAIT : STEP_ERROR;
        if (r != STEP_DONE)
            close(*dir);
    }
    arena_free(arena);
    return r;
}

static int write_entries(struct os_dotlock **lock, const struct acl_entries *entries, struct error *e)
{
    struct buffer text = {0};
    int r;

    for (size_t i = 0; i < entries->count; i++)
        if (!entries->at[i].global)
            acl_line_put(&text, &entries->at[i]);
    r = os_write(os_dotlock_fd(*lock), buffer_slice(&text), e);
    buffer_free(&text);
    /* A right that was taken away must stay taken away after a crash. */
    if (r == 0)
        r = os_sync(os_dotlock_fd(*lock), e);
    return r < 0 ? -1 : os_dotlock_replace(lock, "dovecot-acl", e);
}

/* ---- one change ---- */

static void apply_half(const struct acl_change *change, bool *has, unsigned *rights, const char **more)
{
    switch (change->how) {
    case ACL_SET:
        *rights = change->rights;
        *more = change->more;
        break;
    case ACL_ADD:
        *rights |= change->rights;
        break;
    case ACL_REMOVE:
        *rights &= ~change->rights;
        break;
    case ACL_CLEAR:
        *rights = 0;
        *more = NULL;
        break;
    }
    /* Nothing at all is a list entry too, but for what is taken away: then nothing is. */
    *has = change->negative ? *rights != 0 || *more != NULL
                            : change->how != ACL_CLEAR && (*has || change->how == ACL_SET || *rights != 0);
}

static void apply(struct acl_entries *entries, const struct acl_change *change)
{
    struct acl_entry *entry = NULL;

    for (size_t i = 0; i < entries->count; i++)
        if (acl_compare(&entries->at[i], &change->who) == 0)
            entry = &entries->at[i];
    if (entry == NULL) {
        struct acl_entry fresh = {.kind = change->who.kind, .name = change->who.name};

        VEC_PUSH(entries, fresh);
        entry = &entries->at[entries->count - 1];
    }
    if (change->negative)
        apply_half(change, &entry->has_negative, &entry->negative, &entry->more_negative);
    else
        apply_half(change, &entry->has_rights, &entry->rights, &entry->more);
    acl_sort(entries); /* an entry without rights writes no line */
}

struct acl_op {
    struct store_op op;
    struct arena *arena;
    struct mail_user *user;
    struct mailbox_place place;
    struct acl_change change;
    bool written;
};

static int rewrite(struct acl_op *o, const char *path, struct os_dotlock **lock, struct error *e)
{
    const struct acl_file *file;
    struct acl_entries entries = {0};
    struct acl *acl = o->user->acl;
    int r;

    acl_file_forget(acl, path);
    r = acl_file_get(acl, path, false, &file, e);
    if (r == 0) {
        for (size_t i = 0; i < file->entries.count; i++)
            VEC_PUSH(&entries, file->entries.at[i]);
        apply(&entries, &o->change);
        r = write_entries(lock, &entries, e);
    }
    VEC_FREE(&entries);
    acl_file_forget(acl, path);
    return r;
}

/* What would make another line of it. */
static bool has_control(const char *name)
{
    for (; name != NULL && *name != '\0'; name++)
        if ((unsigned char)*name < 0x20 || *name == 0x7f)
            return true;
    return false;
}

static enum step write_change(struct acl_op *o, struct error *e)
{
    const char *path = acl_file_path(&o->place, o->arena);
    struct os_dotlock *lock = NULL;
    enum step r;
    int dir;

    if (path == NULL) {
        error_set(e, ERROR_UNSUPPORTED, "Mailbox %s: no list of its own is possible here", o->place.vname);
        return STEP_ERROR;
    }
    if (has_control(o->change.who.name) || has_control(o->change.more)) {
        error_set(e, ERROR_INVALID, "Mailbox %s: control characters in an identifier", o->place.vname);
        error_user(e, "Invalid identifier");
        return STEP_ERROR;
    }
    r = lock_file(path, &lock, &dir, e);
    if (r != STEP_DONE)
        return r;
    if (rewrite(o, path, &lock, e) < 0)
        r = STEP_ERROR;
    if (lock != NULL)
        os_dotlock_release(&lock);
    close(dir);
    return r;
}

/* The mailbox's log hears of it, as of an attribute: its modseq rises, and whoever replicates mailboxes sees that there is something
 * to take over. A list of a name that is no mailbox has no log. */
static struct store_op *tell_log(struct acl_op *o)
{
    struct attribute_change change = {.scope = ATTRIBUTE_SHARED, .value = o->change.how == ACL_CLEAR ? NULL : ""};
    struct buffer name = {0};
    struct store_op *op = NULL;
    struct mailbox *box;
    struct error e;

    if (mailbox_open(&box, &o->place, MAILBOX_OPEN_UNCHECKED, &e) < 0) {
        if (e.class != ERROR_NOT_FOUND)
            log_error_value(o->user->log_p, &e);
        return NULL;
    }
    buffer_append_str(&name, "vendor/vendor.dovecot/pvt/acl/");
    acl_identifier_put(&name, &o->change.who);
    change.name = buffer_cstr(&name);
    op = mailbox_attribute_note(box, &change, 1);
    buffer_free(&name);
    mailbox_close(&box);
    return op;
}

static enum step run_update(struct store_op *op, struct budget *budget, struct error *e)
{
    struct acl_op *o = (struct acl_op *)op;
    enum step r;

    if (!o->written) {
        if (crypt_share_allowed(o->user, &o->change, e) < 0)
            return STEP_ERROR;
        r = write_change(o, e);
        if (r != STEP_DONE)
            return r;
        o->written = true;
        if (crypt_share_update_place(&o->place, e) < 0)
            return STEP_ERROR;
        op->inner = tell_log(o);
    }
    r = store_op_inner(op, budget, e);
    if (r == STEP_ERROR)
        log_error_value(o->user->log_p, e); /* the list is changed */
    else if (r != STEP_DONE)
        return r;
    r = acl_known_step(o->place.ns, e);
    if (r == STEP_ERROR) {
        log_error_value(o->user->log_p, e); /* the list itself is changed */
        return STEP_DONE;
    }
    return r;
}

static void end_update(struct store_op *op)
{
    struct acl_op *o = (struct acl_op *)op;

    store_op_free(&op->inner);
    mail_user_close(&o->user);
    arena_free(o->arena);
}

struct store_op *acl_update(const struct mailbox_place *place, const struct acl_change *change)
{
    static const struct op_class class = {run_update, end_update};
    struct acl_op *o = store_op_new(sizeof(*o), &class);

    o->arena = arena_new();
    o->user = mail_user_ref(place->ns->user);
    o->place = (struct mailbox_place){place->ns, arena_strdup(o->arena, place->vname), arena_strdup(o->arena, place->name)};
    o->change = *change;
    o->change.who.global = false;
    o->change.who.name = change->who.name == NULL ? NULL : arena_strdup(o->arena, change->who.name);
    o->change.more = change->more == NULL ? NULL : arena_strdup(o->arena, change->more);
    return &o->op;
}

/* ---- a new mailbox ---- */

int acl_copy_from_parent(const struct mailbox_place *place, struct error *e)
{
    struct arena *arena;
    struct mailbox_place parent;
    const struct acl_file *file;
    struct os_dotlock *lock = NULL;
    const char *from, *to;
    enum step r = STEP_DONE;
    int dir;

    if (!acl_applies(place->ns) || *place->name == '\0')
        return 0;
    arena = arena_new();
    parent = acl_parent_of(place, arena);
    from = acl_file_path(&parent, arena);
    to = acl_file_path(place, arena);
    if (from != NULL && to != NULL && strcmp(from, to) != 0) {
        if (acl_file_get(place->ns->user->acl, from, false, &file, e) < 0)
            r = STEP_ERROR;
        else if (file->exists && file->entries.count > 0) {
            r = lock_file(to, &lock, &dir, e);
            if (r == STEP_DONE) {
                if (write_entries(&lock, &file->entries, e) < 0)
                    r = STEP_ERROR;
                if (lock != NULL)
                    os_dotlock_release(&lock);
                close(dir);
                acl_file_forget(place->ns->user->acl, to);
            }
        }
    }
    arena_free(arena);
    return r == STEP_ERROR ? -1 : 0; /* locked: whoever has the lock of a folder that is just made writes what he wants */
}
