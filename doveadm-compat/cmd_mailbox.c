/* cmd_mailbox.c - mailbox list, status, create, delete, rename, subscribe, unsubscribe, path (doveadm 6.9). */
#include "mail.h"
#include "query.h"
#include "store/location.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- list ----------------------------------------------------------------------------------------------------------- */

static int list_prepare(struct doveadm *d)
{
    doveadm_mail_print(d, "flow");
    print_header(d, "mailbox", "mailbox", PRINT_HIDE_TITLE);
    return DOVEADM_OK;
}

static void print_name(struct doveadm *d, const char *vname)
{
    struct buffer out = {0};

    if (doveadm_flag(d, "mutf7") && text_utf8_to_mutf7(&out, slice_from_str(vname)) == 0)
        print_value(d, buffer_cstr(&out));
    else
        print_value(d, vname);
    buffer_free(&out);
}

static int list_run(struct doveadm *d, struct mail_user *user)
{
    enum doveadm_match which = DOVEADM_MATCH_LISTED | (doveadm_flag(d, "subscriptions") ? DOVEADM_MATCH_SUBSCRIBED : 0);
    size_t n, count;
    const char *const *masks = doveadm_list(d, "mailbox-mask", &n);
    const char **names;
    struct error e;

    if (doveadm_mailbox_match(d, user, masks, n, which, &names, &count, &e) < 0)
        return doveadm_mail_failed(d, &e, "Listing mailboxes failed");
    for (size_t i = 0; i < count; i++)
        print_name(d, names[i]);
    return DOVEADM_OK;
}

int doveadm_mailbox_list(struct doveadm *d)
{
    static const struct mail_command command = {list_prepare, list_run};

    return doveadm_mail_run(d, &command);
}

/* ---- status --------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned item;
    bool summable;
} status_fields[] = {
    {"messages", STATUS_MESSAGES, true},       {"recent", STATUS_RECENT, true},
    {"uidnext", STATUS_UIDNEXT, false},        {"uidvalidity", STATUS_UIDVALIDITY, false},
    {"unseen", STATUS_UNSEEN, true},           {"highestmodseq", STATUS_HIGHESTMODSEQ, false},
    {"vsize", STATUS_SIZE, true},              {"guid", STATUS_GUID, false},
    {"firstsaved", STATUS_FIRST_SAVED, false},
};
enum { STATUS_FIELDS = sizeof(status_fields) / sizeof(status_fields[0]) };

static unsigned status_items_of(const char *words, bool total)
{
    struct slice rest = slice_from_str(words), word;
    unsigned items = 0;

    while (slice_split(&rest, ' ', &word)) {
        bool known = word.size == 0 || slice_equal_str(word, "all");
        for (size_t i = 0; i < STATUS_FIELDS; i++) {
            bool all = slice_equal_str(word, "all");
            if (!all && !slice_equal_str(word, status_fields[i].name))
                continue;
            known = true;
            if (all && total && !status_fields[i].summable)
                continue;
            if (total && !status_fields[i].summable)
                doveadm_fatal(DOVEADM_USAGE, "Status field %s can't be used with -t", status_fields[i].name);
            items |= status_fields[i].item;
        }
        if (!known)
            doveadm_fatal(DOVEADM_USAGE, "Unknown status field: %.*s", (int)word.size, word.at);
    }
    return items;
}

/* The words of the first argument; with --field all arguments are mailboxes. */
static unsigned status_items(struct doveadm *d)
{
    bool total = doveadm_flag(d, "total-sum");
    size_t n;
    const char *const *fields = doveadm_list(d, "field", &n);
    unsigned items = n == 0 ? status_items_of(doveadm_text(d, "fieldstr"), total) : 0;

    for (size_t i = 0; i < n; i++)
        items |= status_items_of(fields[i], total);
    if (items == 0)
        doveadm_fatal(DOVEADM_USAGE, "No status fields");
    return items;
}

static const char *const *status_masks(struct doveadm *d, size_t *n)
{
    const char *const *masks = doveadm_list(d, "mailbox-mask", n), *first = doveadm_text(d, "fieldstr");
    const char **all = ARENA_ARRAY(d->arena, const char *, *n + 1);
    size_t fields;

    doveadm_list(d, "field", &fields);
    if (fields == 0 || first == NULL)
        return masks;
    all[0] = first;
    for (size_t i = 0; i < *n; i++)
        all[i + 1] = masks[i];
    ++*n;
    return all;
}

static int status_prepare(struct doveadm *d)
{
    unsigned items;
    size_t n;

    status_masks(d, &n);
    if (doveadm_text(d, "fieldstr") == NULL || n == 0)
        return doveadm_usage(d);
    items = status_items(d);
    doveadm_mail_print(d, "flow");
    if (!doveadm_flag(d, "total-sum"))
        print_header(d, "mailbox", "mailbox", PRINT_HIDE_TITLE);
    for (size_t i = 0; i < STATUS_FIELDS; i++)
        if ((items & status_fields[i].item) != 0)
            print_header_simple(d, status_fields[i].name);
    return DOVEADM_OK;
}

static void print_guid(struct doveadm *d, const unsigned char guid[16])
{
    struct buffer hex = {0};

    text_hex_encode(&hex, slice_of(guid, 16));
    print_value(d, buffer_cstr(&hex));
    buffer_free(&hex);
}

static void print_status(struct doveadm *d, unsigned items, const struct mailbox_status *s)
{
    if (items & STATUS_MESSAGES)
        print_number(d, s->messages);
    if (items & STATUS_RECENT)
        print_number(d, s->recent);
    if (items & STATUS_UIDNEXT)
        print_number(d, s->uid_next);
    if (items & STATUS_UIDVALIDITY)
        print_number(d, s->uid_validity);
    if (items & STATUS_UNSEEN)
        print_number(d, s->unseen);
    if (items & STATUS_HIGHESTMODSEQ)
        print_number(d, s->highest_modseq);
    if (items & STATUS_SIZE)
        print_number(d, s->size);
    if (items & STATUS_GUID)
        print_guid(d, s->guid);
    if (items & STATUS_FIRST_SAVED) {
        if (s->first_saved == 0)
            print_value(d, "never");
        else
            print_number(d, (uint64_t)s->first_saved);
    }
}

static int status_run(struct doveadm *d, struct mail_user *user)
{
    unsigned items = status_items(d);
    bool total = doveadm_flag(d, "total-sum");
    struct mailbox_status sum = {0};
    size_t n, count;
    const char *const *masks = status_masks(d, &n);
    const char **names;
    int status = DOVEADM_OK;
    struct error e;

    /* Several masks are sought in the user's own namespaces alone, as the real program does. */
    if (doveadm_mailbox_match(d, user, masks, n, n == 1 ? 0 : DOVEADM_MATCH_PRIVATE, &names, &count, &e) < 0)
        return doveadm_mail_failed(d, &e, "Listing mailboxes failed");
    for (size_t i = 0; i < count; i++) {
        struct mailbox_status s = {0};
        struct mailbox_place place;
        if (mailbox_place(user, d->arena, slice_from_str(names[i]), &place, &e) < 0 ||
            store_op_wait(mailbox_status(&place, items, &s), &e) < 0) {
            doveadm_status_add(&status,
                               doveadm_mail_failed(d, &e, "Mailbox %s: Failed to lookup mailbox status", names[i]));
            continue;
        }
        sum.messages += s.messages;
        sum.recent += s.recent;
        sum.unseen += s.unseen;
        sum.size += s.size;
        if (!total) {
            print_value(d, place.vname);
            print_status(d, items, &s);
        }
    }
    if (total)
        print_status(d, items, &sum);
    return status;
}

int doveadm_mailbox_status(struct doveadm *d)
{
    static const struct mail_command command = {status_prepare, status_run};

    return doveadm_mail_run(d, &command);
}

/* ---- commands over a list of names ------------------------------------------------------------------------------------ */

static int names_prepare(struct doveadm *d)
{
    size_t n;

    doveadm_list(d, "mailbox", &n);
    return n == 0 ? doveadm_usage(d) : DOVEADM_OK;
}

static int create_prepare(struct doveadm *d)
{
    struct mailbox_identity id;

    if (doveadm_given(d, "guid") && !doveadm_guid_parse(doveadm_text(d, "guid"), id.guid))
        return doveadm_usage(d);
    return names_prepare(d);
}

static int create_run(struct doveadm *d, struct mail_user *user)
{
    size_t n;
    const char *const *names = doveadm_list(d, "mailbox", &n);
    struct mailbox_identity id = {0};
    int status = DOVEADM_OK;

    if (doveadm_given(d, "guid"))
        (void)doveadm_guid_parse(doveadm_text(d, "guid"), id.guid);

    for (size_t i = 0; i < n; i++) {
        struct mailbox_place place;
        bool directory;
        struct error e;
        int r;

        mail_user_set_unchecked(user, false); /* the right to make mailboxes counts (doveadm 6.9) */
        r = mailbox_place_new(user, d->arena, slice_from_str(names[i]), &place, &directory, &e) < 0 ||
                    store_op_wait(mailbox_create(&place, directory, NULL), &e) < 0
                ? -1
                : 0;
        mail_user_set_unchecked(user, true);
        if (r < 0) {
            doveadm_status_add(&status, doveadm_mail_failed(d, &e, "Can't create mailbox %s", names[i]));
            continue;
        }
        if (doveadm_given(d, "guid") && doveadm_mailbox_identify(d, &place, &id, &e) < 0)
            doveadm_status_add(&status, doveadm_mail_failed(d, &e, "Can't create mailbox %s", names[i]));
        if (doveadm_flag(d, "subscriptions") && store_op_wait(mailbox_subscribe(&place, true), &e) < 0)
            doveadm_status_add(&status, doveadm_mail_failed(d, &e, "Can't subscribe to mailbox %s", names[i]));
    }
    return status;
}

int doveadm_mailbox_create(struct doveadm *d)
{
    static const struct mail_command command = {create_prepare, create_run};

    return doveadm_mail_run(d, &command);
}

static int delete_one(struct doveadm *d, struct mail_user *user, const char *name)
{
    struct mailbox_place place;
    struct mailbox_status s = {0};
    struct error e;

    if (mailbox_place(user, d->arena, slice_from_str(name), &place, &e) < 0)
        return doveadm_mail_failed(d, &e, "Can't delete mailbox %s", name);
    if (doveadm_flag(d, "require-empty")) {
        if (store_op_wait(mailbox_status(&place, STATUS_MESSAGES, &s), &e) < 0)
            return doveadm_mail_failed(d, &e, "Can't delete mailbox %s", name);
        if (s.messages > 0) {
            log_error(NULL, "Can't delete mailbox %s: Mailbox isn't empty", name);
            return DOVEADM_DATAERR;
        }
    }
    if (store_op_wait(mailbox_delete(&place), &e) < 0)
        return doveadm_mail_failed(d, &e, "Can't delete mailbox %s", name);
    if (doveadm_flag(d, "subscriptions") && store_op_wait(mailbox_subscribe(&place, false), &e) < 0)
        return doveadm_mail_failed(d, &e, "Can't unsubscribe from mailbox %s", name);
    return DOVEADM_OK;
}

struct doomed {
    const char *name;
    bool bare;  /* of a tree: a folder without mail, which may go with the last of its children */
    bool empty; /* its messages go first: it may be one that stays */
};
struct doomed_list {
    struct doomed *at;
    size_t count, room;
};

static int compare_doomed(const void *a, const void *b)
{
    return strcmp(((const struct doomed *)b)->name, ((const struct doomed *)a)->name);
}

/* The mailbox and all below it; everything ("") is all of the namespace without a prefix. */
static int add_tree(struct doveadm *d, struct mail_user *user, const char *name, struct doomed_list *all)
{
    struct mail_namespace *ns = mail_user_inbox_namespace(user);
    struct slice mask = slice_from_str(arena_printf(d->arena, *name == '\0' ? "%s*" : "%s%c*", name, ns->separator));
    struct mailbox_list *list = mailbox_list_begin(user, &mask, 1, 0);
    struct budget budget = BUDGET_UNLIMITED;
    const struct mailbox_info *info;
    size_t before = all->count;
    struct doomed self = {name, false, false};
    enum step step;
    struct error e;

    while ((step = mailbox_list_next(list, &budget, &info, &e)) == STEP_MORE || step == STEP_WAIT) {
        if (step == STEP_MORE && (*name != '\0' || *info->ns->prefix == '\0')) {
            struct doomed one = {arena_strdup(d->arena, info->vname),
                                 (info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) != 0,
                                 strcmp(info->vname, "INBOX") == 0};

            VEC_PUSH(all, one);
        }
    }
    mailbox_list_end(&list);
    if (step == STEP_ERROR)
        return doveadm_mail_failed(d, &e, "Listing mailboxes failed");
    if (*name != '\0') {
        struct mailbox_place place;
        enum mailbox_existence existence = MAILBOX_EXISTS_YES;

        if (all->count > before && mailbox_place(user, d->arena, slice_from_str(name), &place, &e) == 0)
            (void)mailbox_exists(&place, false, &existence, &e);
        self.bare = existence != MAILBOX_EXISTS_YES;
        VEC_PUSH(all, self);
    }
    return DOVEADM_OK;
}

/* Where names are nested folders one may be gone already; where they are flat, the real one says what it did not find. */
static int delete_bare(struct doveadm *d, struct mail_user *user, const char *name)
{
    struct mailbox_place place;
    struct error e;

    if (mailbox_place(user, d->arena, slice_from_str(name), &place, &e) < 0)
        return doveadm_mail_failed(d, &e, "Can't delete mailbox %s", name);
    if (store_op_wait(mailbox_delete(&place), &e) < 0)
        return e.class == ERROR_NOT_FOUND && place.ns->storage->at.layout == LAYOUT_FS
                   ? DOVEADM_OK
                   : doveadm_mail_failed(d, &e, "Can't delete mailbox %s", name);
    return DOVEADM_OK;
}

/* Where the account shall go, so do the messages of an INBOX that cannot. */
static int empty_one(struct doveadm *d, struct mail_user *user, const char *name)
{
    struct mailbox *box;
    struct mailbox_view *view;
    struct index_batch *batch = index_batch_new(d->arena, INDEX_INTERNAL);
    struct index_view *index;
    struct error e;
    int status;

    if (doveadm_mailbox_open(d, user, name, 0, &box, &e) < 0)
        return e.class == ERROR_NOT_FOUND ? DOVEADM_OK : doveadm_mail_failed(d, &e, "Can't delete mailbox %s", name);
    view = mailbox_view_open(box, false);
    doveadm_view_refresh(view);
    index = mailbox_view_index(view);
    for (uint32_t seq = 1; seq <= index_view_count(index); seq++)
        mailbox_batch_expunge(view, batch, index_view_uid(index, seq));
    status = doveadm_batch_commit(d, view, &batch);
    mailbox_view_close(&view);
    mailbox_close(&box);
    return status;
}

/* Children go first in every case. */
static int delete_run(struct doveadm *d, struct mail_user *user)
{
    struct doomed_list all = {0};
    size_t n;
    const char *const *names = doveadm_list(d, "mailbox", &n);
    int status = DOVEADM_OK;

    for (size_t i = 0; i < n; i++) {
        struct doomed one = {names[i], false, false};

        if (doveadm_flag(d, "recursive"))
            doveadm_status_add(&status, add_tree(d, user, names[i], &all));
        else
            VEC_PUSH(&all, one);
    }
    qsort(all.at, all.count, sizeof(*all.at), compare_doomed);
    for (size_t i = 0; i < all.count; i++) {
        if (all.at[i].empty)
            doveadm_status_add(&status, empty_one(d, user, all.at[i].name));
        doveadm_status_add(&status, all.at[i].bare ? delete_bare(d, user, all.at[i].name) : delete_one(d, user, all.at[i].name));
    }
    VEC_FREE(&all);
    return status;
}

int doveadm_mailbox_delete(struct doveadm *d)
{
    static const struct mail_command command = {names_prepare, delete_run};

    return doveadm_mail_run(d, &command);
}

static int subscribe_names(struct doveadm *d, struct mail_user *user, bool on)
{
    size_t n;
    const char *const *names = doveadm_list(d, "mailbox", &n);
    int status = DOVEADM_OK;

    for (size_t i = 0; i < n; i++) {
        struct mailbox_place place;
        struct error e;
        if (mailbox_place(user, d->arena, slice_from_str(names[i]), &place, &e) < 0 ||
            store_op_wait(mailbox_subscribe(&place, on), &e) < 0)
            /* Two blanks, and the command's name: as the real program says it. */
            doveadm_status_add(&status, doveadm_mail_failed(d, &e, "Can't %s mailbox %s to", names[i],
                                                            on ? "subscribe" : "unsubscribe"));
    }
    return status;
}

static int subscribe_run(struct doveadm *d, struct mail_user *user)
{
    return subscribe_names(d, user, true);
}

static int unsubscribe_run(struct doveadm *d, struct mail_user *user)
{
    return subscribe_names(d, user, false);
}

int doveadm_mailbox_subscribe(struct doveadm *d)
{
    static const struct mail_command command = {names_prepare, subscribe_run};

    return doveadm_mail_run(d, &command);
}

int doveadm_mailbox_unsubscribe(struct doveadm *d)
{
    static const struct mail_command command = {names_prepare, unsubscribe_run};

    return doveadm_mail_run(d, &command);
}

/* ---- rename ------------------------------------------------------------------------------------------------------------- */

static int rename_prepare(struct doveadm *d)
{
    return doveadm_text(d, "new-name") == NULL ? doveadm_usage(d) : DOVEADM_OK;
}

static int rename_run(struct doveadm *d, struct mail_user *user)
{
    const char *from = doveadm_text(d, "mailbox"), *to = doveadm_text(d, "new-name");
    struct mailbox_place old, new;
    bool directory, subscribed;
    struct error e;

    if (mailbox_place(user, d->arena, slice_from_str(from), &old, &e) < 0 ||
        mailbox_place_new(user, d->arena, slice_from_str(to), &new, &directory, &e) < 0)
        return doveadm_mail_failed(d, &e, "Can't rename mailbox %s to %s", from, to);
    subscribed = doveadm_flag(d, "subscriptions");
    if (store_op_wait(mailbox_rename(&old, &new), &e) < 0)
        return doveadm_mail_failed(d, &e, "Can't rename mailbox %s to %s", from, to);
    if (subscribed && (store_op_wait(mailbox_subscribe(&old, false), &e) < 0 ||
                       store_op_wait(mailbox_subscribe(&new, true), &e) < 0))
        return doveadm_mail_failed(d, &e, "Can't move the subscription of %s", from);
    return DOVEADM_OK;
}

int doveadm_mailbox_rename(struct doveadm *d)
{
    static const struct mail_command command = {rename_prepare, rename_run};

    return doveadm_mail_run(d, &command);
}

/* ---- path --------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum mail_path path;
} path_types[] = {{"dir", PATH_DIR},     {"mailbox", PATH_MAILBOX}, {"alt-mailbox", PATH_ALT}, {"alt-dir", PATH_ALT},
                  {"index", PATH_INDEX}, {"control", PATH_CONTROL}};
enum { PATH_TYPES = sizeof(path_types) / sizeof(path_types[0]) };

static size_t path_type(struct doveadm *d)
{
    const char *type = doveadm_given(d, "type") ? doveadm_text(d, "type") : "mailbox";
    size_t i;

    for (i = 0; i < PATH_TYPES && strcmp(path_types[i].name, type) != 0; i++)
        ;
    return i;
}

static int path_prepare(struct doveadm *d)
{
    size_t n;

    doveadm_list(d, "mailbox", &n);
    /* "index-private" is known and has no path: shared mailboxes keep no private index here. */
    if (n != 1 || (path_type(d) == PATH_TYPES && strcmp(doveadm_text(d, "type"), "index-private") != 0))
        return doveadm_usage(d);
    doveadm_mail_print(d, "flow");
    print_header(d, "path", "path", PRINT_HIDE_TITLE);
    return DOVEADM_OK;
}

static int path_run(struct doveadm *d, struct mail_user *user)
{
    const char *name = doveadm_text(d, "mailbox"), *path = NULL;
    size_t type = path_type(d);
    struct mailbox_place place;
    struct error e;

    if (mailbox_place(user, d->arena, slice_from_str(name), &place, &e) < 0)
        return doveadm_mail_failed(d, &e, "Failed to lookup mailbox %s path", name);
    if (type < PATH_TYPES)
        path = mail_location_path(&place.ns->storage->at, d->arena, place.name, path_types[type].path);
    if (path != NULL)
        print_value(d, path);
    return DOVEADM_OK;
}

int doveadm_mailbox_path(struct doveadm *d)
{
    static const struct mail_command command = {path_prepare, path_run};

    return doveadm_mail_run(d, &command);
}
