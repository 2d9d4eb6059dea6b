/* list.c - LIST and LSUB: what exists, what is subscribed, what has children (maildir-and-layouts 5; imap 8).
 *
 * Per namespace all names are put into one sorted table (folders, mailbox {} blocks, INBOX, subscriptions, missing
 * parents), in which children follow their parent; flags come from neighbours. Then patterns pick. */
#include "store/acl/acl.h"
#include "store/internal.h"
#include "store/pattern.h"

#include <stdlib.h>
#include <utlist.h>

struct entry {
    const char *vname;
    const struct mail_namespace *ns;
    bool root;                          /* the namespace itself: said even when nothing is in it */
    bool foreign;                       /* another namespace in this one: counts as a child, is said there */
    bool exists, selectable, subscribed, child_subscribed, has_children, child_special, implied;
    const char *special_use;
    size_t sorted;                      /* own place in the table */
    size_t parent, children, next;      /* of the tree, as places + 1 */
    uint32_t order;                     /* UID in the list index, 0 = none */
    bool by_index;                      /* DRIVER_LIST_KNOWS */
    struct mailbox_place place;         /* ns is NULL: not found out, or another namespace's */
};

struct mailbox_list {
    struct mail_user *user;
    struct arena *arena;
    unsigned flags;
    struct slice *patterns;
    size_t pattern_count;
    const struct mail_namespace *ns;    /* NULL after the last */
    struct mailbox_pattern **compiled;
    struct entry *at;                   /* of the namespace */
    size_t count, room, next;
    size_t *order;                      /* places in the order in which they are said */
    char separator;                     /* of the sort */
    bool loaded, failed;
    struct error error;
    struct mailbox_info info;
    unsigned status_items;              /* 0: not asked for */
    struct list_row_status row;         /* of the mailbox in `info` */
};

struct mailbox_list *mailbox_list_begin(struct mail_user *user, const struct slice *patterns, size_t count, unsigned flags)
{
    struct mailbox_list *list = mem_zero(1, sizeof(*list));

    list->user = mail_user_ref(user);
    list->arena = arena_new();
    list->flags = flags;
    list->patterns = ARENA_ARRAY(list->arena, struct slice, count + 1);
    for (size_t i = 0; i < count; i++)
        list->patterns[i] = arena_slice(list->arena, patterns[i]);
    list->pattern_count = count;
    list->compiled = ARENA_ARRAY(list->arena, struct mailbox_pattern *, count + 1);
    list->ns = user->namespaces;
    return list;
}

void mailbox_list_ask(struct mailbox_list *list, unsigned status_items)
{
    list->status_items = status_items;
}

void mailbox_list_end(struct mailbox_list **list_p)
{
    struct mailbox_list *list = *list_p;

    if (list == NULL)
        return;
    *list_p = NULL;
    mem_free(list->at);
    arena_free(list->arena);
    mail_user_close(&list->user);
    mem_free(list);
}

/* ---- the table ---- */

static void add(struct mailbox_list *list, const struct mail_namespace *ns, const char *vname, bool exists, bool selectable, bool subscribed)
{
    VEC_PUSH(list, ((struct entry){.vname = vname, .ns = ns, .exists = exists, .selectable = selectable, .subscribed = subscribed}));
}

/* The separator sorts before everything, so that children come right behind their parent. */
static int compare_vnames(const char *a, const char *b, char separator)
{
    while (*a != '\0' && *a == *b)
        a++, b++;
    int x = *a == separator ? 1 : *a == '\0' ? 0 : (unsigned char)*a + 2;
    int y = *b == separator ? 1 : *b == '\0' ? 0 : (unsigned char)*b + 2;
    return x - y;
}

static int compare_entry(const void *x, const void *y, void *arg)
{
    const struct mailbox_list *list = arg;
    const struct entry *a = x, *b = y;

    return compare_vnames(a->vname, b->vname, list->separator);
}

static void sort_table(struct mailbox_list *list)
{
    size_t n = 0;

    if (list->count > 1)
        qsort_r(list->at, list->count, sizeof(*list->at), compare_entry, list);
    for (size_t i = 0; i < list->count; i++) {
        if (n > 0 && strcmp(list->at[n - 1].vname, list->at[i].vname) == 0) {
            if (list->at[n - 1].ns == NULL)
                list->at[n - 1].ns = list->at[i].ns;
            list->at[n - 1].root |= list->at[i].root;
            list->at[n - 1].foreign |= list->at[i].foreign;
            list->at[n - 1].exists |= list->at[i].exists;
            list->at[n - 1].selectable |= list->at[i].selectable;
            list->at[n - 1].subscribed |= list->at[i].subscribed;
        } else {
            list->at[n++] = list->at[i];
        }
    }
    list->count = n;
}

static bool is_child(const char *child, const char *parent, char separator)
{
    size_t n = strlen(parent);

    return strncmp(child, parent, n) == 0 && child[n] == separator;
}

/* Parents that nobody made, for every name; `implied` ones are shown as not existing. Only the longest missing chain per
 * name is walked, so the total is bounded by the length of the names. */
static void add_parents(struct mailbox_list *list)
{
    size_t count = list->count;
    char separator = list->separator;
    const char *last = "";

    for (size_t i = 0; i < count; i++) {
        const char *vname = list->at[i].vname;
        size_t common = 0;

        while (last[common] != '\0' && last[common] == vname[common])
            common++;
        for (const char *p = strchr(vname, separator); p != NULL; p = strchr(p + 1, separator)) {
            size_t n = (size_t)(p - vname);

            /* A prefix shared with the name before has been added with that one. */
            if (n == 0 || (n < common && i > 0) || (n == common && last[n] == separator))
                continue;
            VEC_PUSH(list, ((struct entry){.vname = arena_str(list->arena, slice_of(vname, n)), .implied = true}));
        }
        last = vname;
    }
    sort_table(list);
}

/* Flags that follow from children. One pass finds the parents, with a stack of open ones; one from the end tells them what is
 * below: something that exists, or a namespace. */
static void look_at_children(struct mailbox_list *list)
{
    size_t *stack = ARENA_ARRAY(list->arena, size_t, list->count + 1), depth = 0;

    for (size_t i = 0; i < list->count; i++) {
        while (depth > 0 && !is_child(list->at[i].vname, list->at[stack[depth - 1]].vname, list->separator))
            depth--;
        list->at[i].parent = depth == 0 ? 0 : stack[depth - 1] + 1;
        stack[depth++] = i;
    }
    for (size_t i = list->count; i-- > 0;) {
        const struct entry *entry = &list->at[i];
        struct entry *parent = entry->parent == 0 ? NULL : &list->at[entry->parent - 1];

        if (parent == NULL)
            continue;
        parent->has_children |= entry->exists || entry->foreign || entry->has_children;
        parent->child_subscribed |= entry->subscribed || entry->child_subscribed;
        parent->child_special |= (entry->special_use != NULL && entry->exists) || entry->child_special;
    }
}

static int compare_order(const void *x, const void *y, void *arg)
{
    const struct mailbox_list *list = arg;
    size_t i = *(const size_t *)x, j = *(const size_t *)y;
    uint32_t a = list->at[i].order, b = list->at[j].order;

    if (a != b)
        return a > b ? -1 : 1; /* 0, no node, is last */
    return i < j ? -1 : 1;
}

/* The order of Dovecot's list index tree: on one level the newest node first, children behind their parent; names without
 * a node come after them, by name. */
static void put_in_order(struct mailbox_list *list, const struct mail_namespace *ns)
{
    size_t *todo, depth = 0, n = 0, first = 0;
    struct error e;

    list->order = ARENA_ARRAY(list->arena, size_t, list->count + 1);
    todo = ARENA_ARRAY(list->arena, size_t, list->count + 1);
    for (size_t i = 0; i < list->count; i++) {
        struct entry *entry = &list->at[i];

        entry->sorted = i;
        if (entry->ns == NULL || entry->ns->template != NULL ||
            mailbox_place(ns->user, list->arena, slice_from_str(entry->vname), &entry->place, &e) < 0 || entry->place.ns != entry->ns) {
            entry->place.ns = NULL;
            continue;
        }
        entry->order = list_index_order(entry->ns->storage, entry->place.name);
        entry->by_index = (entry->ns->storage->at.driver->can & DRIVER_LIST_KNOWS) != 0;
    }
    /* Lists of children, each kept with the one to be said first in front. */
    size_t *by_order = ARENA_ARRAY(list->arena, size_t, list->count + 1);
    for (size_t i = 0; i < list->count; i++)
        by_order[i] = i;
    qsort_r(by_order, list->count, sizeof(*by_order), compare_order, list);
    for (size_t k = list->count; k-- > 0;) {
        struct entry *entry = &list->at[by_order[k]];
        size_t *head = entry->parent == 0 ? &first : &list->at[entry->parent - 1].children;

        entry->next = *head;
        *head = by_order[k] + 1;
    }
    depth = 0;
    for (size_t at = first; at != 0 || depth > 0;) {
        if (at == 0) {
            at = todo[--depth];
            continue;
        }
        list->order[n++] = at - 1;
        if (list->at[at - 1].next != 0 || list->at[at - 1].children != 0) {
            size_t sibling = list->at[at - 1].next;

            if (list->at[at - 1].children != 0) {
                if (sibling != 0)
                    todo[depth++] = sibling;
                at = list->at[at - 1].children;
            } else {
                at = sibling;
            }
        } else {
            at = 0;
        }
    }
}

/* Does a name of this namespace belong to it, and not to one whose prefix lies inside? */
static bool is_own(const struct mail_namespace *ns, const char *vname)
{
    const struct mail_namespace *found = mail_namespace_find(ns->user, vname);

    return found == ns || (found != NULL && found->template != NULL && ns->owner != NULL && ns->type == MAIL_NAMESPACE_SHARED);
}

/* Links of mailbox_alias are not said. */
static bool is_alias(struct mailbox_list *list, const struct mail_namespace *ns, const char *vname, const char *name)
{
    struct mailbox_place place = {(struct mail_namespace *)(uintptr_t)ns, vname, name}, old;

    return mailbox_alias_of(&place, list->arena, &old) && mailbox_alias_exists(&place);
}

/* What this user may not see is not there; parents of what he sees come back as names without a mailbox. */
static bool is_visible(const struct mail_namespace *ns, const char *vname, const char *name)
{
    struct mailbox_place place = {(struct mail_namespace *)(uintptr_t)ns, vname, name};

    struct error e;
    unsigned rights;

    /* An administrator's program sees what the user sees. */
    if (acl_rights(&place, &rights, &e) == 0)
        return (rights & MAILBOX_RIGHT_LOOKUP) != 0;
    log_error_value(ns->user->log_p, &e);
    return false;
}

/* Folders and mailbox {} blocks of one namespace, or of one owner's instance. */
static int add_names(struct mailbox_list *list, const struct mail_namespace *ns, struct error *e)
{
    struct mail_storage *storage = ns->storage;
    struct folder_names names = {0};
    const struct mail_auto *automatic;
    enum mailbox_existence root;
    struct mailbox_place place;
    int r;

    folder_clean_trash(storage);
    r = folder_list(storage, list->arena, &names, e);
    if (r == 0 && conf_bool(ns->user->settings, SET_mailbox_list_index))
        list_index_compare(storage, &names);
    for (size_t i = 0; i < names.count; i++) {
        const char *vname = mailbox_vname_of(ns, list->arena, names.at[i].name);

        if (is_own(ns, vname) && !is_alias(list, ns, vname, names.at[i].name) && is_visible(ns, vname, names.at[i].name))
            add(list, ns, vname, true, names.at[i].selectable, false);
    }
    VEC_FREE(&names);
    if (ns->inbox && ns->alias_for == NULL && is_visible(ns, "INBOX", "INBOX"))
        add(list, ns, "INBOX", true, true, false);
    LL_FOREACH(mail_namespace_autos(ns), automatic)
        if (automatic->create && mailbox_place(ns->user, list->arena, slice_from_str(automatic->vname), &place, e) == 0 &&
            is_visible(ns, place.vname, place.name))
            add(list, ns, automatic->vname, true, true, automatic->subscribe);
    /* The root as a mailbox: the owner's INBOX, or one that was made (CREATE of the prefix without its separator). */
    if (r == 0 && *ns->prefix != '\0' && storage->at.layout != LAYOUT_NONE) {
        const char *name = ns->owner_inbox ? "INBOX" : "";

        r = folder_exists(storage, name, &root, e);
        if (r == 0 && root == MAILBOX_EXISTS_YES) {
            const char *vname = mailbox_vname_of(ns, list->arena, name);

            if (is_visible(ns, vname, name))
                add(list, ns, vname, true, true, false);
            else
                VEC_PUSH(list, ((struct entry){.vname = vname, .ns = ns, .root = true, .implied = true}));
        }
    }
    return r;
}

/* Subscriptions that lie in this namespace; those of others in the same file are said there. The owner's INBOX has two names
 * in a shared namespace: the one is said by which it is listed; what he alone may see he alone is told of. */
static int add_subscriptions(struct mailbox_list *list, const struct mail_namespace *ns, struct error *e)
{
    struct name_list subs = {0};
    int r = subscriptions_read(ns, list->arena, &subs, e);

    for (size_t i = 0; i < subs.count; i++) {
        const char *vname = subs.at[i];
        struct mailbox_place place;
        struct error ignored;

        if (!is_own(ns, vname))
            continue;
        if (ns->template != NULL || ns->owner_inbox) {
            if (mailbox_place(ns->user, list->arena, slice_from_str(vname), &place, &ignored) < 0 ||
                (place.ns->template == NULL && !is_visible(place.ns, vname, place.name)))
                continue;
            if (strcmp(place.name, "INBOX") == 0)
                vname = mailbox_vname_of(place.ns, list->arena, place.name);
        }
        add(list, ns, vname, false, false, true);
    }
    VEC_FREE(&subs);
    return r;
}

static bool is_listed(const struct mailbox_list *list, const struct mail_namespace *ns)
{
    if (ns->unusable)
        return false;
    if (ns->list != MAIL_NAMESPACE_LIST_NO || ((list->flags & MAILBOX_LIST_HIDDEN) != 0 && ns->alias_for == NULL))
        return true;
    /* list = no: who names the prefix may look. */
    for (size_t i = 0; i < list->pattern_count; i++)
        if (*ns->prefix != '\0' && slice_starts(list->patterns[i], slice_from_str(ns->prefix)))
            return true;
    return false;
}

/* The namespace's own name, and those of namespaces inside it. */
static void add_roots(struct mailbox_list *list, const struct mail_namespace *ns)
{
    const struct mail_namespace *other;

    if (*ns->prefix != '\0' && ns->list == MAIL_NAMESPACE_LIST_YES)
        VEC_PUSH(list, ((struct entry){.vname = mail_namespace_root_name(ns, list->arena), .ns = ns, .root = true, .implied = true}));
    LL_FOREACH(ns->user->namespaces, other)
    {
        size_t n = strlen(ns->prefix);

        if (other != ns && other->list == MAIL_NAMESPACE_LIST_YES && !other->unusable && strlen(other->prefix) > n &&
            strncmp(other->prefix, ns->prefix, n) == 0)
            VEC_PUSH(list, ((struct entry){.vname = mail_namespace_root_name(other, list->arena), .foreign = true}));
    }
}

static int load_namespace(struct mailbox_list *list, const struct mail_namespace *ns, struct error *e)
{
    const struct mail_namespace *instance;
    struct dict_pairs uses = {0};
    int r = 0;

    list->count = list->next = 0;
    list->separator = ns->separator;
    if (ns->template == NULL) {
        r = add_names(list, ns, e);
    } else {
        r = shared_instances_load((struct mail_namespace *)(uintptr_t)ns, e);
        LL_FOREACH(shared_instances(ns), instance)
        {
            if (r == 0)
                r = add_names(list, instance, e);
            if (r == 0 && instance->subscriptions)
                r = add_subscriptions(list, instance, e);
        }
    }
    if (r == 0)
        r = add_subscriptions(list, ns, e);
    add_roots(list, ns);
    sort_table(list);
    add_parents(list);
    special_uses_load(list->user, list->arena, &uses);
    for (size_t i = 0; i < list->count; i++) {
        list->at[i].special_use = mailbox_special_use(ns, list->at[i].vname);
        if (list->at[i].special_use == NULL && list->at[i].selectable)
            list->at[i].special_use = special_uses_find(&uses, list->user, list->arena, list->at[i].vname);
    }
    VEC_FREE(&uses);
    look_at_children(list);
    put_in_order(list, ns);
    for (size_t i = 0; i < list->pattern_count; i++)
        list->compiled[i] = mailbox_pattern_new(list->arena, list->patterns[i], ns->separator, ns->inbox);
    return r;
}

/* ---- picking ---- */

static bool matches(const struct mailbox_list *list, const char *vname)
{
    for (size_t i = 0; i < list->pattern_count; i++)
        if (mailbox_pattern_run(list->compiled[i], slice_from_str(vname)))
            return true;
    return false;
}

/* Does a selected descendant exist that no pattern matches? */
static bool has_hidden_child(const struct mailbox_list *list, const struct entry *entry, bool special)
{
    for (size_t i = entry->sorted + 1; i < list->count && is_child(list->at[i].vname, entry->vname, list->separator); i++)
        if ((special ? list->at[i].special_use != NULL && list->at[i].exists : list->at[i].subscribed) &&
            !matches(list, list->at[i].vname))
            return true;
    return false;
}

/* In shared namespaces, and in flat layouts without a list index, Dovecot says a missing parent only where it stands for children
 * that are not said. */
static bool stands_for_others(const struct mailbox_list *list, const struct entry *entry)
{
    enum mail_layout layout = list->ns->storage->at.layout;
    bool flat = layout == LAYOUT_MAILDIRPP || layout == LAYOUT_IMAPDIR;

    if (!entry->implied || entry->exists || entry->root || strlen(entry->vname) < strlen(list->ns->prefix) ||
        (list->ns->template == NULL && (!flat || conf_bool(list->user->settings, SET_mailbox_list_index))))
        return true;
    for (size_t i = entry->sorted + 1; i < list->count && is_child(list->at[i].vname, entry->vname, list->separator); i++)
        if (list->at[i].exists && !matches(list, list->at[i].vname))
            return true;
    return false;
}

static bool wanted(const struct mailbox_list *list, const struct entry *entry)
{
    unsigned flags = list->flags;
    bool recursive = (flags & MAILBOX_LIST_SELECT_RECURSIVE) != 0;

    if (!is_own(list->ns, entry->vname) || (entry->foreign && !entry->root && !entry->exists && !entry->implied))
        return false;
    if ((flags & MAILBOX_LIST_LSUB) != 0)
        return entry->subscribed || (recursive && entry->child_subscribed);
    /* RECURSIVEMATCH: a parent is said for descendants that do not match themselves. */
    if ((flags & MAILBOX_LIST_SELECT_SUBSCRIBED) != 0 && !entry->subscribed &&
        !(recursive && entry->child_subscribed && has_hidden_child(list, entry, false)))
        return false;
    if ((flags & MAILBOX_LIST_SELECT_SPECIAL_USE) != 0 && entry->special_use == NULL &&
        !(recursive && entry->child_special && has_hidden_child(list, entry, true)))
        return false;
    if ((flags & (MAILBOX_LIST_SELECT_SUBSCRIBED | MAILBOX_LIST_SELECT_SPECIAL_USE)) != 0)
        return true;
    return entry->exists || entry->root || (entry->has_children && stands_for_others(list, entry));
}

/* What a current row of the list index says: \Marked or \UnMarked of recent messages, INBOX never (measured); the status that
 * was asked for. */
static void look_at_row(struct mailbox_list *list, const struct entry *entry)
{
    const struct mailbox_place *place = &entry->place;
    struct mail_storage *storage = place->ns->storage;
    struct arena *arena = arena_new();
    const char *path = mail_location_path(&storage->at, arena, place->name, PATH_MAILBOX);
    struct error e;

    if (path != NULL && strcmp(place->name, "INBOX") != 0 && list_index_status(storage, place->name, path, &list->row)) {
        list->info.flags |= list->row.status.recent > 0 ? MAILBOX_INFO_MARKED : MAILBOX_INFO_UNMARKED;
        if (list->status_items != 0 && (list->status_items & list->row.unknown) == 0 && status_by_row(place) &&
            mailbox_need(place, MAILBOX_RIGHT_READ, &e) == 0)
            list->info.status = &list->row.status;
    }
    arena_free(arena);
}

/* Mailboxes that are files hold no others. INBOX's may be elsewhere, so that its name can be a folder's, too. */
static bool is_leaf(const struct entry *entry)
{
    const struct mail_location *at = entry->ns == NULL ? NULL : &entry->ns->storage->at;

    return at != NULL && (at->driver->can & DRIVER_IS_FILE) != 0 && *at->dirname == '\0' && entry->exists && entry->selectable &&
           !entry->has_children && !(entry->ns->inbox && strcmp(entry->vname, "INBOX") == 0);
}

/* Where names are said for subscribed ones below them, those count as children, whether they exist or not. */
static bool has_subscribed_children(const struct mailbox_list *list, const struct entry *entry)
{
    const unsigned both = MAILBOX_LIST_SELECT_SUBSCRIBED | MAILBOX_LIST_SELECT_RECURSIVE;

    return (list->flags & both) == both && entry->child_subscribed && list->ns->storage != NULL && list->ns->storage->at.layout == LAYOUT_MAILDIRPP;
}

static void fill_info(struct mailbox_list *list, const struct entry *entry)
{
    struct mailbox_info *info = &list->info;

    *info = (struct mailbox_info){.vname = entry->vname, .special_use = entry->special_use};
    info->ns = (struct mail_namespace *)(uintptr_t)(entry->ns == NULL ? list->ns : entry->ns);
    if (!entry->exists)
        info->flags |= MAILBOX_INFO_NONEXISTENT | MAILBOX_INFO_NOSELECT;
    else if (!entry->selectable)
        info->flags |= MAILBOX_INFO_NOSELECT;
    if (entry->ns != NULL && entry->ns->inbox && strcmp(entry->vname, "INBOX") == 0 && strncasecmp(entry->ns->prefix, "INBOX", 5) != 0 &&
        *entry->ns->prefix != '\0')
        info->flags |= MAILBOX_INFO_NOINFERIORS; /* below it no name leads into the namespace */
    else if (is_leaf(entry))
        info->flags |= MAILBOX_INFO_NOINFERIORS; /* it is a file */
    else
        info->flags |= entry->has_children || has_subscribed_children(list, entry) ? MAILBOX_INFO_CHILDREN : MAILBOX_INFO_NOCHILDREN;
    if (entry->order != 0 && entry->exists && entry->selectable && (list->flags & MAILBOX_LIST_SELECT_SUBSCRIBED) == 0)
        look_at_row(list, entry);
    if (entry->by_index)
        info->flags |= MAILBOX_INFO_BY_INDEX;
    if (entry->subscribed)
        info->flags |= MAILBOX_INFO_SUBSCRIBED;
    if (entry->child_subscribed)
        info->flags |= MAILBOX_INFO_CHILD_SUBSCRIBED;
    if (entry->child_special)
        info->flags |= MAILBOX_INFO_CHILD_SPECIAL_USE;
    if ((list->flags & MAILBOX_LIST_LSUB) != 0 && !entry->subscribed)
        info->flags |= MAILBOX_INFO_NOSELECT;
}

enum step mailbox_list_next(struct mailbox_list *list, struct budget *budget, const struct mailbox_info **out,
                            struct error *e)
{
    while (list->ns != NULL) {
        if (!is_listed(list, list->ns)) {
            list->ns = list->ns->next;
            continue;
        }
        if (!list->loaded) {
            if (load_namespace(list, list->ns, &list->error) < 0) {
                log_error_value(list->user->log_p, &list->error);
                list->failed = true;
            }
            list->loaded = true;
        }
        while (list->next < list->count) {
            const struct entry *entry = &list->at[list->order[list->next]];

            if (budget_spent(budget, 1))
                return STEP_WAIT;
            list->next++;
            if (!wanted(list, entry) || !matches(list, entry->vname))
                continue;
            if ((list->flags & MAILBOX_LIST_LSUB) != 0 && !entry->subscribed && !has_hidden_child(list, entry, false))
                continue;
            fill_info(list, entry);
            *out = &list->info;
            return STEP_MORE;
        }
        list->ns = list->ns->next;
        list->loaded = false;
    }
    if (list->failed) {
        *e = list->error;
        return STEP_ERROR;
    }
    return STEP_DONE;
}

/* ---- existence ---- */

int mailbox_exists(const struct mailbox_place *place, bool auto_boxes, enum mailbox_existence *out, struct error *e)
{
    const struct mail_auto *automatic;

    if (mailbox_need_any(place, MAILBOX_RIGHT_LOOKUP | MAILBOX_RIGHT_READ | MAILBOX_RIGHT_INSERT, e) < 0)
        return -1;
    if (folder_exists(place->ns->storage, place->name, out, e) < 0)
        return -1;
    if (*out == MAILBOX_EXISTS_YES || !auto_boxes)
        return 0;
    automatic = mailbox_auto_of(place);
    if ((place->ns->inbox && strcmp(place->name, "INBOX") == 0) || (automatic != NULL && automatic->create)) {
        *out = MAILBOX_EXISTS_YES;
        return 0;
    }
    if (*out == MAILBOX_EXISTS_NO && *place->name != '\0' && folder_has_children(place->ns->storage, place->name))
        *out = MAILBOX_EXISTS_NOSELECT;
    return 0;
}
