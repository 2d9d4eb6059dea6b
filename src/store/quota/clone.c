/* clone.c - the plugin quota_clone: usage of the first root, copied into a dictionary after it has changed (quota-acl-plugins 7).
 *
 * Many changes become one write: it is begun when the loop comes round, and not before the last one has ended and a moment has
 * passed. A program without a loop writes when the user is closed. */
#include "store/dict_write.h"
#include "store/later.h"
#include "store/quota/internal.h"

#include <stdio.h>

#define PAUSE_NS 500000000ull

struct quota_clone {
    const char *uri;
    bool due;                      /* usage has changed since it was looked at */
    bool asked;                    /* an op will look */
    bool writing;
    uint64_t not_before_ns;
};

struct clone_op {
    struct store_op op;            /* first */
    struct mail_user *user;        /* referenced */
};

void quota_clone_open(struct quota *q)
{
    struct dict *dict;
    const char *uri;
    struct error e;

    if (q->roots.count == 0 || !mail_user_plugin(q->user, "quota_clone"))
        return;
    if (mail_user_plugin_text(q->user, q->arena, "quota_clone_dict", &uri, &e) < 0) {
        log_error_value(q->user->log_p, &e);
        return;
    }
    if (uri == NULL || *uri == '\0') {
        log_debug(q->user->log_p, "The quota_clone_dict setting is missing from configuration");
        return;
    }
    if (mail_user_dict(q->user, uri, NULL, &dict, &e) < 0) {
        error_context(&e, "quota_clone_dict: Failed to initialize '%s': ", uri);
        log_error_value(q->user->log_p, &e);
        return;
    }
    dict_close(&dict);
    q->clone = ARENA_NEW(q->arena, struct quota_clone);
    q->clone->uri = uri;
}

static void written(void *arg)
{
    struct mail_user *user = arg;

    user->quota->clone->writing = false;
    mail_user_close(&user);
}

static void write_usage(struct quota *q)
{
    struct quota_root *root = q->roots.at[0];
    struct quota_amount used;
    char bytes[24], count[24];
    struct dict_change changes[2] = {{.what = DICT_SET, .key = "priv/quota/storage", .value = bytes},
                                     {.what = DICT_SET, .key = "priv/quota/messages", .value = count}};
    struct error e;

    q->clone->due = false;
    if (quota_usage(root, &used, &e) < 0) {
        error_context(&e, "quota_clone_plugin: Failed to get quota resource STORAGE_BYTES: ");
        log_error_value(q->user->log_p, &e);
        return;
    }
    snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)used.bytes);
    snprintf(count, sizeof(count), "%llu", (unsigned long long)used.count);
    q->clone->writing = true;
    q->clone->not_before_ns = time_monotonic_ns() + PAUSE_NS;
    dict_write(q->user, "quota_clone_dict", q->clone->uri, changes, quota_root_counts(root) ? 2 : 1, written, mail_user_ref(q->user));
}

static enum step run(struct store_op *op, struct budget *budget, struct error *e)
{
    struct quota *q = ((struct clone_op *)op)->user->quota;

    (void)budget;
    (void)e;
    if (q->clone->writing || (!store_later_ending() && time_monotonic_ns() < q->clone->not_before_ns))
        return STEP_WAIT;
    write_usage(q);
    return STEP_DONE;
}

static void end(struct store_op *op)
{
    struct clone_op *c = (struct clone_op *)op;

    c->user->quota->clone->asked = false;
    mail_user_close(&c->user);
}

void quota_clone_changed(struct quota *q)
{
    static const struct op_class class = {.run = run, .end = end};
    struct clone_op *c;

    if (q->clone == NULL)
        return;
    q->clone->due = true;
    if (q->clone->asked || !store_later_has_loop())
        return;
    q->clone->asked = true;
    c = store_op_new(sizeof(*c), &class);
    c->user = mail_user_ref(q->user);
    store_later(&c->op);
}

void quota_flush(struct mail_user *user)
{
    if (user->quota != NULL && user->quota->clone != NULL && user->quota->clone->due)
        write_usage(user->quota);
}
