/* stage_read.c - the one way to a stored message's bytes: what the driver gives, decoded (store/stage.h). */
#include "store/stage.h"

int store_read(struct mailbox *box, uint32_t uid, struct arena *arena, struct mail_file *file, struct error *e)
{
    return box->driver->read(box, uid, arena, file, e);
}

void store_read_end(struct mailbox *box, struct mail_file *file)
{
    box->driver->read_end(file);
}

bool store_read_coded(const struct mailbox *box)
{
    (void)box;
    return false;
}
