/* owner.c - whose quota a mailbox counts for: in another user's mailbox it is the owner's (quota-acl-plugins 1.4).
 *
 * The owner is opened as a user of his own, with the same configuration, when a mailbox of his is first asked about. The
 * fields that the user database has told of the one who saves are not his, so they are not taken. */
#include "store/quota/internal.h"

static int open_owner(struct quota *q, const char *name, struct mail_user **out, struct error *e)
{
    const struct mail_user *user = q->user;
    const char *home = NULL;
    struct mail_user_params params = {.username = name, .service = user->service, .session_id = user->session_id,
                                      .local_ip = user->local_ip, .remote_ip = user->remote_ip, .log = user->log_p,
                                      .find_home = user->find_home, .find_home_arg = user->find_home_arg,
                                      .no_notify = true}; /* his mailboxes are not kept open for others */

    *out = NULL;
    if (user->find_home == NULL)
        return 0;
    if (user->find_home(user->find_home_arg, name, q->arena, &home, e) < 0)
        return -1;
    if (home == NULL)
        return 0;
    params.home = home;
    if (mail_user_open(out, user->settings, &params, e) < 0)
        return -1;
    (*out)->unchecked = true; /* it is he whose room is made, whoever asks */
    quota_over_check(*out, false);
    return 0;
}

struct quota *quota_of_owner(struct quota *q, const char *name)
{
    struct quota_owner owner = {.name = arena_strdup(q->arena, name)};
    struct error e;

    for (size_t i = 0; i < q->owners.count; i++)
        if (strcmp(q->owners.at[i].name, name) == 0)
            return q->owners.at[i].user == NULL ? NULL : q->owners.at[i].user->quota;
    if (open_owner(q, name, &owner.user, &e) < 0) {
        error_context(&e, "quota of %s, the owner of a shared mailbox: ", name);
        log_error_value(q->user->log_p, &e);
    }
    VEC_PUSH(&q->owners, owner);
    return owner.user == NULL ? NULL : owner.user->quota;
}

struct quota *quota_of(struct mailbox *box)
{
    struct quota *q = box->user->quota;
    const struct mail_namespace *ns = box->place.ns;

    if (q == NULL || ns->type != MAIL_NAMESPACE_SHARED || ns->owner == NULL || strcmp(ns->owner, box->user->name) == 0)
        return q;
    return quota_of_owner(q, ns->owner);
}

bool quota_root_covers_box(const struct quota_root *root, const struct mailbox *box)
{
    const struct mail_user *user = root->quota->user;

    if (user == box->user)
        return quota_root_covers(root, box->place.ns);
    return user->inbox != NULL && quota_root_covers(root, user->inbox);
}

const char *quota_name_of(const struct quota *q, struct arena *arena, const struct mailbox *box)
{
    if (q->user == box->user || q->user->inbox == NULL)
        return box->place.vname;
    return mailbox_vname_of(q->user->inbox, arena, box->place.name);
}
