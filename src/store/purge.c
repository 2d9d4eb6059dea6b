/* purge.c - taking the space of messages that are in no mailbox any more, as an operation (dbox-format 3.7). */
#include "store/internal.h"

struct purge_op {
    struct store_op op;
    struct mail_user *user;
    struct mail_storage *storage;
    void *state;
};

static enum step run_purge(struct store_op *op, struct budget *budget, struct error *e)
{
    struct purge_op *p = (struct purge_op *)op;
    const struct store_driver *driver = p->storage->at.driver;

    if (driver->purge_begin == NULL)
        return STEP_DONE;
    if (p->state == NULL)
        p->state = driver->purge_begin(p->user, p->storage);
    return driver->purge_step(p->state, budget, e);
}

static void end_purge(struct store_op *op)
{
    struct purge_op *p = (struct purge_op *)op;

    if (p->state != NULL)
        p->storage->at.driver->purge_end(p->state);
    mail_user_close(&p->user);
}

struct store_op *mail_namespace_purge(struct mail_namespace *ns)
{
    static const struct op_class class = {run_purge, end_purge};
    struct purge_op *p = store_op_new(sizeof(*p), &class);

    p->user = mail_user_ref(ns->user);
    p->storage = ns->storage;
    return &p->op;
}
