/* usage.c - what is used: sums of the mailboxes' indexes, a dictionary, the disk (quota-acl-plugins 1.3).
 *
 * The sum of an index is what it remembers, and what is new (vsize.h). A mailbox that is at work in this process is taken as its index is:
 * nothing here waits for another session. */
#include "store/quota/internal.h"
#include "store/vsize.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

int quota_each_folder(struct quota_root *root, int (*see)(void *arg, const struct mailbox_place *, struct error *), void *arg, struct error *e)
{
    struct arena *arena = arena_new();
    struct mail_namespace *ns;
    int r = 0;

    LL_FOREACH(root->quota->user->namespaces, ns)
    {
        struct folder_names names = {0};
        bool inbox = false;

        if (r < 0 || !quota_root_covers(root, ns) || ns->storage->at.layout == LAYOUT_NONE || ns->storage->at.driver->origin != NULL)
            continue;
        r = folder_list(ns->storage, arena, &names, e);
        for (size_t i = 0; r == 0 && i < names.count; i++) {
            struct mailbox_place place = {ns, mailbox_vname_of(ns, arena, names.at[i].name), names.at[i].name};

            inbox |= strcmp(place.name, "INBOX") == 0;
            if (names.at[i].selectable)
                r = see(arg, &place, e);
        }
        VEC_FREE(&names);
        if (r == 0 && ns->inbox && !inbox)
            r = see(arg, &(struct mailbox_place){ns, "INBOX", "INBOX"}, e);
    }
    arena_free(arena);
    return r;
}

/* ---- the indexes ---- */

static int physical_size(struct mailbox *box, uint32_t uid, uint64_t *size, struct error *e)
{
    struct mail *mail;
    int r;

    *size = 0;
    if (mail_open_uid(box, uid, &mail, e) < 0)
        return e->class == ERROR_EXPUNGED ? 0 : -1;
    r = mail_size_physical(mail, size, e);
    mail_close(&mail);
    if (r < 0 && e->class == ERROR_EXPUNGED)
        *size = 0;
    return r < 0 && e->class != ERROR_EXPUNGED ? -1 : 0;
}

static int sum_physical(struct mailbox *box, struct quota_amount *out, struct error *e)
{
    struct index_record record;

    for (uint32_t uid = 1; index_get_from(box->index, uid, &record);) {
        uint64_t size;

        if (physical_size(box, record.uid, &size, e) < 0)
            return -1;
        out->bytes += size;
        out->count++;
        uid = record.uid + 1;
    }
    return 0;
}

static int sum_virtual(struct mailbox *box, struct quota_amount *out, struct error *e)
{
    struct budget budget = BUDGET_UNLIMITED;
    struct vsize_sum sum;
    enum step r;

    vsize_begin(box, &sum, false);
    while ((r = vsize_step(box, &sum, &budget, e)) == STEP_MORE)
        continue;
    if (r != STEP_DONE)
        return -1;
    vsize_remember(box, &sum);
    out->bytes += sum.bytes;
    out->count += sum.count;
    return 0;
}

struct sum {
    struct quota_root *root;
    struct quota_amount total;
};

static int add_mailbox(void *arg, const struct mailbox_place *place, struct error *e)
{
    struct sum *s = arg;
    struct quota *q = s->root->quota;
    const struct quota_rule *rules = s->root->rules.at;
    struct quota_amount limits;
    struct mailbox *box;
    int r = 0;

    if (!quota_limits(rules, s->root->rules.count, place->vname, &limits))
        return 0;
    if (mailbox_open(&box, place, MAILBOX_OPEN_UNCHECKED, e) < 0)
        return e->class == ERROR_NOT_FOUND ? 0 : -1;
    if (box->job == NULL && box->waiting == NULL)
        r = store_op_wait(mailbox_sync(box, NULL, SYNC_POLL), e);
    if (r == 0)
        r = q->vsizes ? sum_virtual(box, &s->total, e) : sum_physical(box, &s->total, e);
    else if (e->class == ERROR_NOT_FOUND)
        r = 0;
    if (r < 0 && e->class == ERROR_BUSY && !q->recalculating)
        error_context(e, "Ongoing quota calculation blocked getting size of %s: ", place->vname);
    else if (r < 0 && e->class == ERROR_BUSY)
        error_context(e, "Couldn't get mailbox %s vsize: ", place->vname);
    index_cache_flush(box->index);
    mailbox_close(&box);
    return r;
}

int quota_count(struct quota_root *root, struct quota_amount *out, struct error *e)
{
    struct sum s = {.root = root};

    if (quota_each_folder(root, add_mailbox, &s, e) < 0)
        return -1;
    *out = s.total;
    return 0;
}

/* ---- dict ---- */

#define KEY_BYTES "priv/quota/storage"
#define KEY_COUNT "priv/quota/messages"

static int dict_init(struct quota_root *root, struct error *e)
{
    if (mail_user_dict(root->quota->user, root->dict_uri, root->dict_user, &root->dict, e) == 0)
        return 0;
    error_context(e, "Quota root %s: dict quota init failed: dict_init(%s) failed: ", root->name, root->dict_uri);
    return -1;
}

static int dict_recalculate(struct quota_root *root, struct error *e)
{
    struct quota_amount sum;
    char bytes[24], count[24];
    struct dict_change changes[2] = {{.what = DICT_SET, .key = KEY_BYTES, .value = bytes}, {.what = DICT_SET, .key = KEY_COUNT, .value = count}};

    if (quota_count(root, &sum, e) < 0)
        return -1;
    snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)sum.bytes);
    snprintf(count, sizeof(count), "%llu", (unsigned long long)sum.count);
    return dict_commit_wait(root->dict, changes, 2, e);
}

static int dict_number(struct quota_root *root, const char *key, uint64_t *out, bool *known, struct error *e)
{
    struct arena *arena = arena_new();
    const char *text;
    int r = dict_get(root->dict, arena, key, &text, e);

    *known = r == 0 && text != NULL && slice_to_u64(slice_from_str(text), out);
    arena_free(arena);
    return r;
}

static int dict_usage(struct quota_root *root, struct quota_amount *out, struct error *e)
{
    bool known = false, also = false;

    for (int tries = 0; tries < 2; tries++) {
        if (dict_number(root, KEY_BYTES, &out->bytes, &known, e) < 0 || dict_number(root, KEY_COUNT, &out->count, &also, e) < 0)
            return -1;
        if (known && also)
            return 0;
        if (tries == 0 && dict_recalculate(root, e) < 0)
            return -1;
    }
    return error_set(e, ERROR_TEMPORARY, "no usage in the dictionary after it was calculated");
}

static int dict_change_by(struct quota_root *root, int64_t bytes, int64_t count, struct error *e)
{
    struct dict_change changes[2] = {{.what = DICT_ADD, .key = KEY_BYTES, .add = bytes}, {.what = DICT_ADD, .key = KEY_COUNT, .add = count}};

    if (dict_commit_wait(root->dict, changes, 2, e) < 0)
        return -1;
    return changes[0].missing || changes[1].missing ? dict_recalculate(root, e) : 0;
}

/* ---- dirsize ---- */

enum { DEPTH_MAX = 100 };

static int add_folder(int parent, const char *name, unsigned depth, uint64_t *bytes, struct error *e)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *d;
    int r = 0;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return errno == ENOENT || errno == ENOTDIR ? 0 : error_sys(e, "opendir", name);
    }
    while (r == 0 && (d = readdir(dir)) != NULL) {
        struct stat st;

        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 || fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISREG(st.st_mode))
            *bytes += (uint64_t)st.st_size;
        if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
            r = add_folder(fd, d->d_name, depth + 1, bytes, e);
    }
    closedir(dir);
    return r;
}

static int dirsize_usage(struct quota_root *root, struct quota_amount *out, struct error *e)
{
    struct mail_namespace *ns;

    *out = (struct quota_amount){0, 0};
    LL_FOREACH(root->quota->user->namespaces, ns)
        if (quota_root_covers(root, ns) && ns->storage->at.layout != LAYOUT_NONE && ns->storage->at.driver->origin == NULL &&
            add_folder(AT_FDCWD, ns->storage->at.root, 0, &out->bytes, e) < 0)
            return -1;
    return 0;
}

const struct quota_backend *quota_backend_find(struct slice name)
{
    static const struct quota_backend count = {.name = "count", .usage = quota_count};
    static const struct quota_backend dict = {.name = "dict", .init = dict_init, .usage = dict_usage, .recalculate = dict_recalculate, .change = dict_change_by};
    static const struct quota_backend dirsize = {.name = "dirsize", .usage = dirsize_usage, .no_count = true};
    const struct quota_backend *const all[] = {&count, &dict, &dirsize, &quota_backend_maildir, &quota_backend_fs};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (slice_equal_str(name, all[i]->name))
            return all[i];
    return NULL;
}
