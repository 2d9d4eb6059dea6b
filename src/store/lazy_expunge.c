/* lazy_expunge.c - the lazy_expunge plugin: what is expunged is copied elsewhere first (quota-acl-plugins 4).
 *
 * The copies are published before the expunge is committed: a crash in between leaves the message in both places, never in
 * none. What is expunged over there is really gone. With lazy_expunge_only_last_instance a message whose bytes another message
 * shares (a hard link, a reference in the map) is not copied; those that go in the same expunge do not count. */
#include "store/internal.h"

#include <fnmatch.h>
#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

#define BATCH 200

static bool is_excluded(const struct mail_user *user, const char *vname, const char *special_use)
{
    for (unsigned n = 1;; n++) {
        char key[64];
        const char *value;

        snprintf(key, sizeof(key), n == 1 ? "lazy_expunge_exclude" : "lazy_expunge_exclude%u", n);
        value = conf_plugin(user->settings, key);
        if (value == NULL)
            return false;
        if (*value == '\\' ? special_use != NULL && strstr(special_use, value) != NULL : fnmatch(value, vname, 0) == 0)
            return true;
    }
}

static struct mail_namespace *target_namespace(const struct mail_user *user)
{
    const char *value = conf_plugin(user->settings, "lazy_expunge");
    struct mail_namespace *ns;

    LL_FOREACH(user->namespaces, ns)
        if (value != NULL && *value != '\0' && strcmp(ns->prefix, value) == 0)
            return ns;
    return NULL;
}

bool lazy_expunge_namespace(const struct mail_namespace *ns)
{
    return mail_user_plugin(ns->user, "lazy_expunge") && target_namespace(ns->user) == ns;
}

bool lazy_expunge_target(struct mailbox *box, struct arena *arena, struct mailbox_place *target)
{
    struct mail_user *user = box->place.ns->user;
    const char *value = conf_plugin(user->settings, "lazy_expunge"), *name = box->place.vname;
    struct mail_namespace *ns;
    struct error e;

    if (!mail_user_plugin(user, "lazy_expunge") || value == NULL || *value == '\0' || box->driver->origin != NULL)
        return false;
    ns = target_namespace(user);
    if (ns == box->place.ns || box->place.ns->type != MAIL_NAMESPACE_PRIVATE ||
        is_excluded(user, name, mailbox_special_use(box->place.ns, name)))
        return false;
    if (ns != NULL) {
        size_t n = strlen(box->place.ns->prefix);

        value = arena_printf(arena, "%s%s", ns->prefix, strncmp(name, box->place.ns->prefix, n) == 0 ? name + n : name);
    }
    return mailbox_place(user, arena, slice_from_str(value), target, &e) == 0 && strcmp(target->vname, name) != 0;
}

/* A message of which instances were seen in this expunge. */
struct instances {
    char *guid;
    uint32_t left;                 /* that are not expunged yet */
    UT_hash_handle hh;
};

struct lazy_op {
    struct store_op op;
    bool only_last;
    struct instances *seen;        /* uthash by GUID */
    struct mailbox *box, *target;
    struct mailbox_place place;
    struct arena *arena, *step;
    uint32_t *uids;
    size_t count, next;
    struct save_result result;
};

/* Is this the last one that has these bytes? 1: yes, 0: others stay, -1. */
static int is_last(struct lazy_op *l, uint32_t uid, struct error *e)
{
    struct instances *seen;
    const char *guid;
    struct mail *mail;
    uint32_t count;
    int r = -1;

    if (mail_open_uid(l->box, uid, &mail, e) < 0)
        return -1;
    if (mail_guid(mail, &guid, e) == 0 && mail_refcount(mail, &count, e) == 0) {
        HASH_FIND_STR(l->seen, guid, seen);
        if (seen == NULL) {
            seen = ARENA_NEW(l->arena, struct instances);
            *seen = (struct instances){.guid = arena_strdup(l->arena, guid), .left = count};
            HASH_ADD_STR(l->seen, guid, seen);
        }
        seen->left -= seen->left > 0;
        r = seen->left == 0;
    }
    mail_close(&mail);
    return r;
}

/* Everything but \Deleted. */
static int copy_one(struct lazy_op *l, uint32_t uid, struct save **save, struct error *e)
{
    unsigned n = index_keyword_count(l->box->index);
    struct mail_meta meta = {0};
    struct index_record rec;
    struct slice *keywords;

    if (!index_get(l->box->index, uid, &rec))
        return 1; /* gone meanwhile */
    if (l->only_last) {
        int last = is_last(l, uid, e);

        if (last <= 0)
            return last == 0 || e->class == ERROR_EXPUNGED ? 1 : -1;
    }
    keywords = ARENA_ARRAY(l->step, struct slice, n + 1);
    for (unsigned i = 0; i < n; i++)
        if (index_keyword_has(rec.keywords, i))
            keywords[meta.keyword_count++] = slice_from_str(index_keyword_name(l->box->index, i));
    meta.keywords = keywords;
    meta.flags = rec.flags & INDEX_FLAGS_CLIENT & ~INDEX_DELETED;
    if (save_copy(l->target, l->box, uid, &meta, save, e) == 0)
        return 0;
    return e->class == ERROR_EXPUNGED ? 1 : -1;
}

static int stage_batch(struct lazy_op *l, struct error *e)
{
    struct save *saves[BATCH];
    size_t n = 0;

    arena_reset(l->step);
    while (n < BATCH && l->next < l->count) {
        int r = copy_one(l, l->uids[l->next++], &saves[n], e);

        if (r < 0) {
            while (n > 0)
                save_cancel(&saves[--n]);
            return -1;
        }
        n += r == 0;
    }
    if (n > 0) {
        l->op.inner = save_commit(l->target, saves, n, false, NULL, l->step, &l->result);
        save_commit_skips_gone(l->op.inner);
    }
    return 0;
}

static enum step failed(struct error *e)
{
    error_context(e, "Lazy-expunge transaction failed: ");
    return STEP_ERROR;
}

static enum step run_lazy(struct store_op *op, struct budget *budget, struct error *e)
{
    struct lazy_op *l = (struct lazy_op *)op;

    for (;;) {
        enum step r = store_op_inner(op, budget, e);

        if (r == STEP_ERROR)
            return failed(e);
        if (r != STEP_DONE)
            return r;
        if (l->target == NULL) {
            enum mailbox_existence there;

            if (mailbox_exists(&l->place, false, &there, e) < 0)
                return failed(e);
            if (there != MAILBOX_EXISTS_YES) {
                op->inner = mailbox_create(&l->place, false, NULL);
                continue;
            }
            if (mailbox_open(&l->target, &l->place, 0, e) < 0)
                return failed(e);
            op->inner = mailbox_sync(l->target, NULL, SYNC_POLL);
            continue;
        }
        if (l->next == l->count)
            return STEP_DONE;
        if (stage_batch(l, e) < 0)
            return failed(e);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
}

static void end_lazy(struct store_op *op)
{
    struct lazy_op *l = (struct lazy_op *)op;

    HASH_CLEAR(hh, l->seen);
    store_op_free(&op->inner);
    mailbox_close(&l->target);
    mailbox_close(&l->box);
    arena_free(l->step);
    arena_free(l->arena);
    mem_free(l->uids);
}

struct store_op *lazy_expunge_copy(struct mailbox *box, const struct mailbox_place *target, const uint32_t *uids, size_t count)
{
    static const struct op_class class = {run_lazy, end_lazy};
    struct lazy_op *l = store_op_new(sizeof(*l), &class);

    l->box = mailbox_ref(box);
    l->only_last = mail_user_plugin_bool(box->place.ns->user, "lazy_expunge_only_last_instance");
    l->arena = arena_new();
    l->step = arena_new();
    l->place = (struct mailbox_place){target->ns, arena_strdup(l->arena, target->vname), arena_strdup(l->arena, target->name)};
    l->uids = mem_alloc((count + 1) * sizeof(*uids));
    memcpy(l->uids, uids, count * sizeof(*uids));
    l->count = count;
    return &l->op;
}

struct store_op *lazy_expunge_all(struct mailbox *box, const struct mailbox_place *target)
{
    VEC(uint32_t) uids = {0};
    struct index_record rec;
    struct store_op *op;

    for (uint32_t uid = 1; index_get_from(box->index, uid, &rec); uid = rec.uid + 1)
        VEC_PUSH(&uids, rec.uid);
    op = uids.count == 0 ? NULL : lazy_expunge_copy(box, target, uids.at, uids.count);
    VEC_FREE(&uids);
    return op;
}
