/* status.c - STATUS (RFC 3501 section 6.3.10, imap 8.5). */
#include "imap/session.h"

struct status_state {
    unsigned items;
    bool x_size, selected;
    struct status_sum sum;
    struct mailbox_place place;
    struct mailbox_status result;
};

/* X-SIZE alone still needs the size. */
static unsigned store_items(const struct status_state *t)
{
    return status_store_items(t->items) | (t->x_size ? STATUS_SIZE : 0);
}

void status_begin(struct session *s, struct request *r)
{
    struct status_state *t = r->state = ARENA_NEW(r->arena, struct status_state);
    const struct imap_arg *list;
    struct slice name;

    if (r->args == NULL || (list = r->args->next) == NULL) {
        request_bad(s, r, "Missing arguments");
        return;
    }
    if (!imap_arg_is_string(r->args) || list->type != IMAP_LIST) {
        request_bad(s, r, "Invalid arguments");
        return;
    }
    if (!request_status_items(s, r, list, &t->items, &t->x_size))
        return;
    if (!request_name(s, r, r->args->text, &name))
        return;
    r->condstore = (t->items & STATUS_HIGHESTMODSEQ) != 0 && !s->condstore;
    if (!request_place(s, r, r->args, &t->place, ERROR_PLAIN))
        return;
    t->selected = status_is_selected(s, &t->place);
    r->op = mailbox_status(&t->place, store_items(t), &t->result);
}

/* The view may show messages that are gone, and hide new ones: then its size is the sum of what it shows. */
static enum step sum_sizes(struct session *s, struct status_sum *t, uint64_t *sum, struct budget *budget)
{
    const struct index_view *view = mailbox_view_index(s->view);
    uint32_t count = index_view_count(view);

    while (t->seq < count) {
        struct error e = {0};
        struct mail *mail;
        uint64_t size = 0;

        t->seq++;
        if (mail_open(s->view, t->seq, &mail, &e) == 0) {
            if (mail_size_virtual(mail, &size, &e) == 0)
                t->size += size;
            mail_close(&mail);
        }
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    *sum = t->size;
    index_cache_flush(mailbox_index(s->box));
    return STEP_DONE;
}

bool status_is_selected(const struct session *s, const struct mailbox_place *place)
{
    return s->box != NULL && strcmp(mailbox_where(s->box)->vname, place->vname) == 0;
}

enum step status_from_view(struct session *s, unsigned items, struct status_sum *sum, struct mailbox_status *result, struct budget *budget)
{
    const struct index_view *view;
    struct index_status status;

    if (s->view == NULL)
        return STEP_DONE;
    view = mailbox_view_index(s->view);
    if ((items & STATUS_SIZE) != 0 && index_view_changed(view) && sum_sizes(s, sum, &result->size, budget) != STEP_DONE)
        return STEP_MORE;
    index_view_status(view, &status);
    result->messages = status.messages;
    result->unseen = s->unseen;
    result->recent = mailbox_view_recent_count(s->view);
    result->uid_next = index_view_next_uid(view);
    result->highest_modseq = s->modseq_heard;
    return STEP_DONE;
}

enum step status_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct status_state *t = r->state;
    enum step step;
    struct buffer out = {0};

    step = request_op(s, r, budget, e);
    if (step != STEP_DONE)
        return step;
    if (t->selected && status_from_view(s, store_items(t), &t->sum, &t->result, budget) != STEP_DONE)
        return STEP_MORE;
    put_status(s, &out, r->args->text, t->items, t->x_size, &t->result);
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    request_reply(r, t->selected ? "OK [CLIENTBUG] Status on selected mailbox completed." : "OK Status completed.");
    return STEP_DONE;
}
