/* subscriptions.c - the subscriptions file, both versions (maildir-and-layouts 6.4).
 *
 * Its lock file is the new file. Names are stored without the namespace's prefix; a namespace that keeps no file stores
 * prefix and name with its parent. Lines that no name could be are told of once they are read, and taken out. */
#include "store/internal.h"
#include "store/later.h"
#include "store/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

#define LINE_MAX_SIZE 4096
#define FILE_MAX (64u << 20)
#define DROPS_MOST 100             /* at one reading; the rest at the next */

static const struct slice magic = {(const unsigned char *)"V\t2\n\n", 5};

/* One line as a storage name with `separator`; "" is the root; NULL: not usable. */
static const char *line_name(struct slice line, bool v2, char separator, struct arena *arena)
{
    struct buffer out = {0};
    struct slice part;
    const char *name;
    bool first = true;

    if (line.size > 0 && line.at[line.size - 1] == '\r')
        line.size--;
    if (!v2) {
        buffer_append_slice(&out, line);
    } else {
        while (slice_split(&line, '\t', &part)) {
            if (!first)
                buffer_append_byte(&out, (unsigned char)separator);
            first = false;
            buffer_append_slice(&out, text_tab_unescape(arena, part));
        }
    }
    while (out.size > 0 && out.at[out.size - 1] == (unsigned char)separator)
        out.size--;
    name = out.size > 0 && memchr(out.at, '\0', out.size) != NULL ? NULL : arena_str(arena, buffer_slice(&out));
    buffer_free(&out);
    return name;
}

int subscriptions_parse(struct slice file, char separator, struct arena *arena, struct name_list *names)
{
    bool v2 = slice_starts(file, magic);
    struct slice line;

    if (v2)
        file = slice_from(file, magic.size);
    while (slice_split(&file, '\n', &line)) {
        const char *name;

        if (line.size > LINE_MAX_SIZE)
            return -1;
        if (line.size == 0 && file.at == NULL)
            break; /* what stands behind the last LF */
        name = line_name(line, v2, separator, arena);
        if (name != NULL)
            VEC_PUSH(names, name);
    }
    return 0;
}

/* The namespace whose file holds the subscriptions of `ns`. */
static const struct mail_namespace *keeper_of(const struct mail_namespace *ns)
{
    const struct mail_namespace *other, *best = NULL;

    if (ns->alias_for != NULL)
        ns = ns->alias_for;
    if (ns->subscriptions)
        return ns;
    LL_FOREACH(ns->user->namespaces, other)
    {
        if (other->subscriptions && !other->unusable && strncmp(other->prefix, ns->prefix, strlen(other->prefix)) == 0 &&
            (best == NULL || strlen(other->prefix) > strlen(best->prefix)))
            best = other;
    }
    return best;
}

static char *file_path(const struct mail_namespace *ns, struct arena *arena)
{
    const struct mail_location *at = &ns->storage->at;

    return arena_printf(arena, "%s/%s", at->control != NULL ? at->control : at->root, at->subscriptions);
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_unique(struct name_list *names)
{
    size_t n = 0;

    if (names->count > 1)
        qsort(names->at, names->count, sizeof(*names->at), compare_text);
    for (size_t i = 0; i < names->count; i++)
        if (n == 0 || strcmp(names->at[n - 1], names->at[i]) != 0)
            names->at[n++] = names->at[i];
    names->count = n;
}

bool name_list_has(const struct name_list *names, const char *name)
{
    return names->count > 0 && bsearch(&name, names->at, names->count, sizeof(*names->at), compare_text) != NULL;
}

static int too_long(const char *path, struct error *e)
{
    return error_set(e, ERROR_CORRUPT, "Subscription file %s contains lines longer than %d characters", path, LINE_MAX_SIZE);
}

/* Names of namespaces without a file of their own lie in this one's too. */
static bool belongs_to(const struct mail_namespace *ns, const char *vname)
{
    const struct mail_namespace *found = mail_namespace_find(ns->user, vname);

    return found == ns || (found != NULL && found->template != NULL && ns->owner != NULL && ns->type == MAIL_NAMESPACE_SHARED);
}

/* The namespace without a file of its own that a line is about: its prefix stands in front, as clients see it, *rest behind it.
 * NULL: the line is the keeper's own. */
static const struct mail_namespace *guest_of(const struct mail_namespace *keeper, const char *line, const char **rest)
{
    const struct mail_namespace *ns, *best = NULL;
    size_t own = strlen(keeper->prefix), size, most = 0;

    LL_FOREACH(keeper->user->namespaces, ns)
    {
        size = strlen(ns->prefix);
        if (ns->subscriptions || size <= own + most || strncmp(line, ns->prefix + own, size - own) != 0 || keeper_of(ns) != keeper)
            continue;
        best = ns;
        most = size - own;
    }
    *rest = line + most;
    return best;
}

/* Could the line be a name of this layout, whether there is such a mailbox or not? As the real server judges. */
static bool is_name(const struct mail_storage *storage, const char *name)
{
    if (*name == '~' || !text_utf8_valid(slice_from_str(name)))
        return false;
    if (storage->separator != '/')
        return strchr(name, '/') == NULL;
    return mailbox_name_storable(storage, name);
}

static void take_out(const struct mail_namespace *keeper, const char *name);

static int read_names(const struct mail_namespace *ns, struct arena *arena, struct name_list *out, struct error *e)
{
    const struct mail_namespace *keeper = keeper_of(ns);
    struct name_list names = {0};
    struct buffer text = {0};
    unsigned dropped = 0;
    const char *path;
    int r = 0;

    if (keeper == NULL || keeper->storage->at.layout == LAYOUT_NONE)
        return 0;
    path = file_path(keeper, arena);
    if (os_read_file(AT_FDCWD, path, FILE_MAX, &text, e) < 0) {
        buffer_free(&text);
        return e->class == ERROR_NOT_FOUND || e->sys == ENOTDIR ? 0 : -1;
    }
    if (subscriptions_parse(buffer_slice(&text), keeper->storage->separator, arena, &names) < 0)
        r = too_long(path, e);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        const char *vname, *rest;
        const struct mail_namespace *guest = guest_of(keeper, names.at[i], &rest);

        if (guest == NULL && names.at[i][0] != '\0' && !is_name(keeper->storage, names.at[i])) {
            if (dropped++ < DROPS_MOST) {
                log_warning(keeper->user->log_p, "Subscriptions file %s: Removing invalid entry: %s", path, names.at[i]);
                take_out(keeper, names.at[i]);
            }
            continue;
        }
        /* An empty line is the namespace itself, where it has a name. */
        if (guest == NULL && (names.at[i][0] == '\0' ? *keeper->prefix == '\0' : !mailbox_name_storable(keeper->storage, names.at[i])))
            continue;
        if (guest != NULL && guest->template == NULL && guest->storage != NULL && *rest != '\0' && !mailbox_name_storable(guest->storage, rest))
            continue;
        vname = mailbox_vname_of(keeper, arena, strcasecmp(names.at[i], "INBOX") == 0 ? "INBOX" : names.at[i]);
        if (strlen(vname) <= MAILBOX_NAME_MAX && (keeper == ns || belongs_to(ns, vname)))
            VEC_PUSH(out, vname);
    }
    VEC_FREE(&names);
    buffer_free(&text);
    return r;
}

int subscriptions_read(const struct mail_namespace *ns, struct arena *arena, struct name_list *out, struct error *e)
{
    int r = read_names(ns, arena, out, e);

    sort_unique(out);
    return r;
}

int mail_namespace_subscriptions(const struct mail_namespace *ns, struct arena *arena, const char ***names, size_t *n,
                                 struct error *e)
{
    struct name_list list = {0};
    int r = read_names(ns, arena, &list, e);

    *names = arena_copy(arena, list.at, list.count * sizeof(*list.at));
    *n = list.count;
    VEC_FREE(&list);
    return r;
}

bool mailbox_subscribed(const struct mailbox_place *place)
{
    struct arena *arena = arena_new();
    struct name_list names = {0};
    struct error e;
    bool found = subscriptions_read(place->ns, arena, &names, &e) == 0 && name_list_has(&names, place->vname);

    VEC_FREE(&names);
    arena_free(arena);
    return found;
}

/* ---- writing ---- */

static void put_line(struct buffer *out, const char *name, bool v2, char separator)
{
    struct slice rest = slice_from_str(name), part;
    bool first = true;

    if (!v2) {
        buffer_append_str(out, name);
    } else {
        while (slice_split(&rest, (unsigned char)separator, &part)) {
            if (!first)
                buffer_append_byte(out, '\t');
            first = false;
            text_tab_escape(out, part);
        }
    }
    buffer_append_byte(out, '\n');
}

struct subscribe_op {
    struct store_op op;
    struct arena *arena;
    struct mail_namespace *ns;
    const struct mail_namespace *keeper;
    const char *name, *vname;        /* as stored; as the client sees it */
    const char *refusal;
    bool on;
    struct mail_user *held;          /* of an op that nobody waits for */
};

/* The new content. Where the keeper has a prefix an empty line is a name. */
static int change(const struct subscribe_op *s, struct slice old, bool exists, struct buffer *out, bool *changed)
{
    char separator = s->keeper->storage->separator;
    bool root = *s->keeper->prefix != '\0', foreign = s->ns != NULL && s->ns != s->keeper;
    bool v2 = !exists || slice_starts(old, magic), found = false;
    struct slice line;

    if (v2)
        buffer_append_slice(out, magic);
    if (v2 && exists)
        old = slice_from(old, magic.size);
    while (slice_split(&old, '\n', &line)) {
        const char *this;

        if (line.size > LINE_MAX_SIZE)
            return -1;
        if (line.size == 0 && (old.at == NULL || !root))
            continue;
        this = line_name(line, v2, separator, s->arena);
        /* Of other namespaces' names the prefix may stand in the keeper's form. */
        if (this != NULL && (strcmp(this, s->name) == 0 || (foreign && strcmp(mailbox_vname_of(s->keeper, s->arena, this), s->vname) == 0))) {
            found = true;
            if (!s->on)
                continue;
        }
        buffer_append_slice(out, line);
        buffer_append_byte(out, '\n');
    }
    if (s->on && !found)
        put_line(out, s->name, v2, separator);
    *changed = s->on != found;
    return 0;
}

static int rewrite(struct subscribe_op *s, int dir, struct os_dotlock **lock, struct error *e)
{
    const struct mail_storage *storage = s->keeper->storage;
    const char *file = storage->at.subscriptions;
    struct buffer old = {0}, out = {0};
    bool exists = true, changed = false;
    int r = 0;

    if (os_read_file(dir, file, FILE_MAX, &old, e) < 0) {
        exists = false;
        r = e->class == ERROR_NOT_FOUND ? 0 : -1;
    }
    if (r == 0 && change(s, buffer_slice(&old), exists, &out, &changed) < 0)
        r = too_long(file, e);
    if (r == 0 && changed) {
        r = os_write(os_dotlock_fd(*lock), buffer_slice(&out), e);
        if (r == 0 && strcmp(conf_str(s->keeper->user->settings, SET_mail_fsync), "never") != 0)
            r = os_sync(os_dotlock_fd(*lock), e);
        if (r == 0)
            r = os_dotlock_replace(lock, file, e);
        if (r == 0 && s->held == NULL) {
            mailbox_log_append_name(storage, s->on ? MAILBOX_LOG_SUBSCRIBE : MAILBOX_LOG_UNSUBSCRIBE, s->vname);
            notify_mailbox(&(struct mailbox_place){s->ns, s->vname, s->name}, s->on ? NOTIFY_SUBSCRIBED : NOTIFY_UNSUBSCRIBED, NULL);
        }
    }
    if (*lock != NULL)
        os_dotlock_release(lock);
    buffer_free(&old);
    buffer_free(&out);
    return r;
}

static enum step run_subscribe(struct store_op *op, struct budget *budget, struct error *e)
{
    struct subscribe_op *s = (struct subscribe_op *)op;
    const struct mail_location *at;
    struct mail_modes modes;
    struct os_dotlock *lock = NULL;
    struct os_dotlock_options options = {.stale_secs = 30, .replaces = true,
                                          .by_link = !conf_bool(s->keeper->user->settings, SET_dotlock_use_excl)};
    const char *root;
    enum os_lock got;
    char name[256];
    int dir, r;

    (void)budget;
    if (s->refusal != NULL) {
        error_set(e, ERROR_UNSUPPORTED, "%s: %s", s->vname, s->refusal);
        error_user(e, s->refusal);
        return STEP_ERROR;
    }
    at = &s->keeper->storage->at;
    root = at->control != NULL ? at->control : at->root;
    modes = mail_modes_of(root);
    options.mode = modes.file;
    options.gid = modes.gid;
    options.set_gid = modes.gid != (gid_t)-1;
    options.protects = at->subscriptions;
    if (folder_make(root, &modes, e) < 0)
        return STEP_ERROR;
    dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return error_sys(e, "open", root), STEP_ERROR;
    snprintf(name, sizeof(name), "%.240s.lock", at->subscriptions);
    got = os_dotlock_try_with(dir, name, &options, &lock, e);
    r = got == OS_GOT ? rewrite(s, dir, &lock, e) : 0;
    close(dir);
    if (got == OS_BUSY)
        return STEP_WAIT;
    return got == OS_GOT && r == 0 ? STEP_DONE : STEP_ERROR;
}

static void end_subscribe(struct store_op *op)
{
    struct subscribe_op *s = (struct subscribe_op *)op;

    mail_user_close(&s->held);
    arena_free(s->arena);
}

static const struct op_class subscribe_class = {run_subscribe, end_subscribe};

/* Nobody's wish but the file's: only where it is the user's own. */
static void take_out(const struct mail_namespace *keeper, const char *name)
{
    struct subscribe_op *s;

    if (keeper->type != MAIL_NAMESPACE_PRIVATE)
        return;
    s = store_op_new(sizeof(*s), &subscribe_class);
    s->arena = arena_new();
    s->keeper = keeper;
    s->name = s->vname = arena_strdup(s->arena, name);
    s->held = mail_user_ref(keeper->user);
    store_later(&s->op);
}

struct store_op *mailbox_subscribe(const struct mailbox_place *place, bool on)
{
    struct subscribe_op *s = store_op_new(sizeof(*s), &subscribe_class);
    const struct mail_namespace *ns = place->ns->alias_for != NULL ? place->ns->alias_for : place->ns;

    s->arena = arena_new();
    s->on = on;
    s->ns = place->ns;
    s->keeper = keeper_of(place->ns);
    s->vname = arena_strdup(s->arena, place->vname);
    s->name = arena_strdup(s->arena, place->name);
    if (s->keeper == NULL || s->keeper->storage->at.layout == LAYOUT_NONE) {
        s->refusal = "Not supported";
    } else if (s->keeper != ns) {
        /* The prefix as clients see it, the name as it is stored. */
        struct mailbox_place other;
        struct error e;

        if (mailbox_place(ns->user, s->arena, slice_from_str(place->vname), &other, &e) == 0)
            s->name = arena_printf(s->arena, "%s%s", ns->prefix + strlen(s->keeper->prefix), other.name);
    }
    return &s->op;
}
