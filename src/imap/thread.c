/* thread.c - THREAD (RFC 5256; imap 11.7): the algorithm's name and the answer. The trees are made in src/store/thread.c. */
#include "imap/search.h"

bool thread_parse(struct session *s, struct request *r, struct search *q, const struct imap_arg *arg)
{
    enum thread_kind kind;

    if (!imap_arg_is_string(arg) || !imap_arg_is_string(arg->next)) {
        request_bad(s, r, "Invalid arguments");
        return false;
    }
    if (!thread_kind_parse(arg->text, &kind)) {
        request_bad(s, r, "Unknown thread algorithm");
        return false;
    }
    q->thread = thread_new(r->arena, kind);
    return true;
}

static void put_number(struct session *s, struct request *r, struct buffer *out, uint32_t seq)
{
    buffer_append_number(out, r->uid ? index_view_uid(mailbox_view_index(s->view), seq) : seq);
}

static void put_node(struct session *s, struct request *r, struct buffer *out, const struct thread_node *n)
{
    buffer_append_byte(out, '(');
    for (;;) { /* only children in a row stand flat */
        if (n->seq != 0) {
            put_number(s, r, out, n->seq);
            if (n->children != NULL)
                buffer_append_byte(out, ' ');
        }
        if (n->children == NULL || n->children->next != NULL)
            break;
        n = n->children;
    }
    for (const struct thread_node *c = n->children; c != NULL; c = c->next)
        put_node(s, r, out, c);
    buffer_append_byte(out, ')');
}

enum step thread_run(struct session *s, struct request *r, struct search *q, struct budget *budget)
{
    struct buffer out = {0};

    if (thread_read(q->thread, s->view, &q->hits, budget) != STEP_DONE)
        return STEP_MORE;
    q->issued = q->issued || thread_missed(q->thread);
    buffer_append_str(&out, "* THREAD ");
    for (const struct thread_node *root = thread_roots(q->thread); root != NULL; root = root->next)
        put_node(s, r, &out, root);
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    return STEP_DONE;
}
