/* other.c - other users: the owner of a shared mailbox, whose quota and whose dictionaries count, and those it is shared with.
 *
 * Each is opened with the same configuration when he is first asked about, and stays open as long as the user who asks. The
 * fields that the user database has told of the one who asks are not his, so they are not taken. */
#include "store/internal.h"
#include "store/quota/quota.h"

struct mail_other {
    const char *name;
    struct mail_user *user;        /* NULL: there is none, or he cannot be opened */
};
struct mail_others {
    VEC(struct mail_other) list;
};

static int open_other(struct mail_user *user, const char *name, struct mail_user **out, struct error *e)
{
    const char *home = NULL;
    struct mail_user_params params = {.username = name, .service = user->service, .session_id = user->session_id,
                                      .local_ip = user->local_ip, .remote_ip = user->remote_ip, .log = user->log_p,
                                      .find_home = user->find_home, .find_home_arg = user->find_home_arg,
                                      .no_notify = true}; /* his mailboxes are not kept open for others */

    if (user->find_home == NULL)
        return 0;
    if (user->find_home(user->find_home_arg, name, user->arena, &home, e) < 0)
        return -1;
    if (home == NULL)
        return 0;
    params.home = home;
    if (mail_user_open(out, user->settings, &params, e) < 0)
        return -1;
    (*out)->unchecked = true; /* it is his own, whoever asks */
    return 0;
}

struct mail_user *mail_user_other(struct mail_user *user, const char *name, const char *why)
{
    struct mail_other other = {.name = arena_strdup(user->arena, name)};
    struct error e;

    if (user->others == NULL)
        user->others = mem_zero(1, sizeof(*user->others));
    for (size_t i = 0; i < user->others->list.count; i++)
        if (strcmp(user->others->list.at[i].name, name) == 0)
            return user->others->list.at[i].user;
    if (open_other(user, name, &other.user, &e) < 0) {
        error_context(&e, "%s %s: ", why, name);
        log_error_value(user->log_p, &e);
    } else if (other.user != NULL) {
        quota_over_check(other.user, false);
    }
    VEC_PUSH(&user->others->list, other);
    return other.user;
}

const char *mailbox_foreign_owner(const struct mailbox *box)
{
    const struct mail_namespace *ns = box->place.ns;

    return ns->type == MAIL_NAMESPACE_SHARED && ns->owner != NULL && strcmp(ns->owner, box->user->name) != 0 ? ns->owner : NULL;
}

void mail_others_close(struct mail_user *user)
{
    if (user->others == NULL)
        return;
    for (size_t i = 0; i < user->others->list.count; i++)
        mail_user_close(&user->others->list.at[i].user);
    VEC_FREE(&user->others->list);
    mem_free(user->others);
    user->others = NULL;
}
