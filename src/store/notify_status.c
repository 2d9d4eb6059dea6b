/* notify_status.c - the plugin of that name: how many messages a mailbox has, in a dictionary (quota-acl-plugins 5).
 *
 * A change only marks its mailbox. An op looks at those that are marked when the loop comes round, and writes them all at once,
 * not before the write before has ended; a program without a loop does that when the user is closed. So many changes may be one
 * write, and the last one always tells what is. */
#include "store/dict_write.h"
#include "store/internal.h"
#include "store/later.h"
#include "store/notify.h"

#include <stdio.h>
#include <uthash.h>

#define VALUE_DEFAULT "{\"messages\":%{messages},\"unseen\":%{unseen}}"

struct pending {
    bool gone;
    UT_hash_handle hh;
    char vname[];                  /* the key */
};

struct notify_status {
    struct mail_user *user;
    const char *uri, *template;
    VEC(const char *) patterns;
    struct pending *pending;
    bool asked, writing;           /* an op will look; a write is under way */
};

struct status_op {
    struct store_op op;            /* first */
    struct mail_user *user;        /* referenced */
    struct notify_status *status;
    struct pending *work;          /* NULL: not begun */
    struct arena *arena;
    struct mailbox_place place;
    struct mailbox_status is;
    VEC(struct dict_change) changes;
};

static void free_pending(struct pending **all)
{
    struct pending *p, *next;

    HASH_ITER(hh, *all, p, next)
    {
        HASH_DEL(*all, p);
        mem_free(p);
    }
}

/* ---- settings --------------------------------------------------------------------------------------------------- */

static int read_patterns(struct notify_status *s, struct error *e)
{
    char key[40] = "notify_status_mailbox";
    const char *text;

    for (unsigned i = 2;; i++) {
        if (mail_user_plugin_text(s->user, s->user->arena, key, &text, e) < 0)
            return -1;
        if (text == NULL)
            return 0;
        VEC_PUSH(&s->patterns, text);
        snprintf(key, sizeof(key), "notify_status_mailbox%u", i);
    }
}

static void close_status(struct mail_user *user, void *self)
{
    struct notify_status *s = self;

    (void)user;
    free_pending(&s->pending);
    VEC_FREE(&s->patterns);
    mem_free(s);
}

static int open_status(struct mail_user *user, void **self, struct error *e)
{
    struct notify_status *s;
    struct dict *dict;
    const char *uri, *template;
    struct error why;

    if (!mail_user_plugin(user, "notify_status"))
        return 0;
    if (mail_user_plugin_text(user, user->arena, "notify_status_dict", &uri, e) < 0 ||
        mail_user_plugin_text(user, user->arena, "notify_status_value", &template, e) < 0)
        return -1;
    if (uri == NULL || *uri == '\0')
        return 0;
    if (mail_user_dict(user, uri, NULL, &dict, &why) < 0) {
        error_context(&why, "notify-status: dict_init(%s) failed: ", uri);
        log_error_value(user->log_p, &why);
        return 0;
    }
    dict_close(&dict);
    s = mem_zero(1, sizeof(*s));
    s->user = user;
    s->uri = uri;
    s->template = template == NULL || *template == '\0' ? VALUE_DEFAULT : template;
    if (read_patterns(s, e) < 0) {
        close_status(user, s);
        return -1;
    }
    *self = s;
    return 0;
}

static unsigned wants(const void *self)
{
    (void)self;
    return NOTIFY_FLAGS | NOTIFY_EXPUNGES | NOTIFY_SAVES;
}

/* ---- a value ---------------------------------------------------------------------------------------------------- */

static const char *json_text(struct arena *arena, const char *text)
{
    struct buffer out = {0};
    const char *copy;

    text_json_escape(&out, slice_from_str(text));
    copy = arena_str(arena, buffer_slice(&out));
    buffer_free(&out);
    return copy;
}

static const char *number(struct arena *arena, uint64_t n)
{
    return arena_printf(arena, "%llu", (unsigned long long)n);
}

/* Unknown variables are no error: the value shows them. */
static char *value_of(struct status_op *o)
{
    const struct mailbox_status *is = &o->is;
    struct arena *a = o->arena;
    const struct conf_var table[] = {
        {0, "username", json_text(a, o->user->name)}, {0, "mailbox", json_text(a, o->place.vname)}, {0, "messages", number(a, is->messages)},
        {0, "unseen", number(a, is->unseen)}, {0, "recent", number(a, is->recent)}, {0, "uidvalidity", number(a, is->uid_validity)},
        {0, "uidnext", number(a, is->uid_next)}, {0, "first_recent_uid", number(a, is->first_recent)},
        {0, "highest_modseq", number(a, is->highest_modseq)}, {0, "highest_pvt_modseq", number(a, is->highest_private_modseq)}, {0, NULL, NULL}};
    const struct conf_vars vars = {.table = table};
    struct error ignored;

    return conf_expand(a, o->status->template, &vars, NULL, &ignored);
}

/* ---- the op ----------------------------------------------------------------------------------------------------- */

static void written(void *arg)
{
    struct status_op *o = arg;
    struct mail_user *user = o->user;

    o->status->writing = false;
    mem_free(o);
    mail_user_close(&user);
}

static void change(struct status_op *o, enum dict_what what, const char *value)
{
    VEC_PUSH(&o->changes, ((struct dict_change){.what = what, .key = arena_printf(o->arena, "priv/status/%s", o->work->vname), .value = value}));
}

static void drop_first(struct status_op *o)
{
    struct pending *done = o->work;

    HASH_DEL(o->work, done);
    mem_free(done);
}

/* Takes what is marked; true: there is a mailbox to look at. */
static bool begin_next(struct status_op *o)
{
    struct error ignored;

    while (o->work != NULL && o->op.inner == NULL) {
        if (o->work->gone || mailbox_place(o->user, o->arena, slice_from_str(o->work->vname), &o->place, &ignored) < 0) {
            change(o, DICT_UNSET, NULL);
            drop_first(o);
        } else {
            o->op.inner = mailbox_status(&o->place, STATUS_MESSAGES | STATUS_UNSEEN | STATUS_RECENT | STATUS_UIDNEXT | STATUS_UIDVALIDITY |
                                                        STATUS_HIGHESTMODSEQ | STATUS_FIRST_RECENT, &o->is);
        }
    }
    return o->work != NULL;
}

/* What the inner op found out, or why not. */
static void keep_value(struct status_op *o, enum step r, struct error *e)
{
    if (r == STEP_DONE) {
        change(o, DICT_SET, value_of(o));
    } else if (e->class == ERROR_NOT_FOUND) { /* gone meanwhile, or it holds no messages */
        change(o, DICT_UNSET, NULL);
    } else {
        error_context(e, "notify-status: mailbox_open(%s) failed: ", o->work->vname);
        log_error_value(o->user->log_p, e);
    }
    drop_first(o);
}

static enum step run(struct store_op *op, struct budget *budget, struct error *e)
{
    struct status_op *o = (struct status_op *)op;
    enum step r;

    if (o->status->writing)
        return STEP_WAIT;
    if (o->status->asked) {
        o->status->asked = false;
        o->work = o->status->pending;
        o->status->pending = NULL;
    }
    while (begin_next(o)) {
        r = store_op_inner(op, budget, e);
        if (r != STEP_DONE && r != STEP_ERROR)
            return r;
        keep_value(o, r, e);
    }
    return STEP_DONE;
}

static void end(struct store_op *op)
{
    struct status_op *o = (struct status_op *)op;
    struct status_op *keep = NULL;

    store_op_free(&op->inner);
    free_pending(&o->work);
    if (o->changes.count > 0) {
        /* The user lives until it is written. */
        keep = mem_zero(1, sizeof(*keep));
        keep->user = mail_user_ref(o->user);
        keep->status = o->status;
        o->status->writing = true;
        dict_write(o->user, "notify-status", o->status->uri, o->changes.at, o->changes.count, written, keep);
    }
    VEC_FREE(&o->changes);
    arena_free(o->arena);
    mail_user_close(&o->user);
}

static void start(struct notify_status *s)
{
    static const struct op_class class = {.run = run, .end = end};
    struct status_op *o = store_op_new(sizeof(*o), &class);

    s->asked = true;
    o->user = mail_user_ref(s->user);
    o->status = s;
    o->arena = arena_new();
    store_later(&o->op);
}

static void flush(struct mail_user *user, void *self)
{
    struct notify_status *s = self;

    (void)user;
    if (s->pending != NULL && !s->asked)
        start(s);
}

/* ---- marks ------------------------------------------------------------------------------------------------------ */

static bool is_told(const struct notify_status *s, const struct mailbox_place *place)
{
    for (size_t i = 0; i < s->patterns.count; i++)
        if (mailbox_pattern_match(slice_from_str(s->patterns.at[i]), slice_from_str(place->vname), place->ns->separator))
            return true;
    return s->patterns.count == 0;
}

static void mark(struct notify_status *s, const struct mailbox_place *place, bool gone)
{
    const char *vname = place->vname;
    size_t size = strlen(vname);
    struct pending *p;

    if (!is_told(s, place))
        return;
    HASH_FIND(hh, s->pending, vname, size, p);
    if (p == NULL) {
        p = mem_alloc(sizeof(*p) + size + 1);
        memcpy(p->vname, vname, size + 1);
        HASH_ADD_KEYPTR(hh, s->pending, p->vname, size, p);
    }
    p->gone = gone;
    if (!s->asked && store_later_has_loop())
        start(s);
}

/* Numbers that the default value shows: other flags change nothing. */
static bool note(void *self, const struct notify_change *c, struct buffer *out)
{
    (void)self;
    (void)out;
    return c->expunged || ((c->before->flags ^ c->flagged->flags) & INDEX_SEEN) != 0;
}

static void tell(void *self, struct mailbox *box, struct slice text)
{
    (void)text;
    mark(self, &box->place, false);
}

static void saved(void *self, const struct staged *staged, const char *from, const struct notify_state *state)
{
    (void)from;
    (void)state;
    mark(self, &staged->box->place, false);
}

static void tell_mailbox(void *self, const struct mailbox_place *place, enum notify_event event, const struct mailbox_place *to)
{
    if (event == NOTIFY_CREATED)
        mark(self, place, false);
    else if (event == NOTIFY_DELETED || event == NOTIFY_RENAMED)
        mark(self, place, true);
    if (event == NOTIFY_RENAMED)
        mark(self, to, false);
}

const struct notify_listener notify_status_listener = {
    .open = open_status, .close = close_status, .flush = flush, .wants = wants, .note = note, .tell = tell, .saved = saved, .mailbox = tell_mailbox};
