/* owner.c - whose quota a mailbox counts for: in another user's mailbox it is the owner's (quota-acl-plugins 1.4). */
#include "store/quota/internal.h"

struct quota *quota_of_owner(struct quota *q, const char *name)
{
    struct mail_user *owner = mail_user_other(q->user, name, "quota of the owner of a shared mailbox,");

    return owner == NULL ? NULL : owner->quota;
}

struct quota *quota_of(struct mailbox *box)
{
    struct quota *q = box->user->quota;
    const char *owner = mailbox_foreign_owner(box);

    return q == NULL || owner == NULL ? q : quota_of_owner(q, owner);
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
