/* list_index.c - dovecot.list.index: names and counts of all mailboxes in one index (index-format 11.1). */
#include "store/internal.h"

bool list_index_status(struct mail_storage *storage, const char *name, const char *path, unsigned items,
                       struct mailbox_status *out)
{
    (void)storage, (void)name, (void)path, (void)items, (void)out;
    return false;
}

void list_index_update(struct mailbox *box)
{
    (void)box;
}

void list_index_refresh_flag(struct mail_storage *storage)
{
    (void)storage;
}

void list_index_compare(struct mail_storage *storage, const struct folder_names *names)
{
    (void)storage, (void)names;
}

void list_index_close(struct list_index **list)
{
    *list = NULL;
}
