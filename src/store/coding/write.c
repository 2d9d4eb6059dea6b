/* write.c - which sinks stand between a message that is saved and its file (dbox-format 6, 7). */
#include "store/coding/attach.h"
#include "store/coding/codec.h"
#include "store/coding/coding.h"
#include "store/coding/crypt_user.h"
#include "store/internal.h"

int coding_sinks(struct mailbox *box, struct byte_sink **first, struct byte_sink **attachments, struct error *e)
{
    struct coding *c = coding_of(box->user);

    *attachments = NULL;
    if ((box->driver->can & DRIVER_IS_FILE) != 0) {
        /* Other programs read the file: nothing is compressed in it, and nothing that should be encrypted goes there. */
        if (c->crypt && crypt_user_saves(box->user))
            return error_set(e, ERROR_UNSUPPORTED, "mail_crypt cannot encrypt mails of %s mailboxes", box->driver->name);
        return 0;
    }
    if (c->crypt && crypt_user_encode(box, first, e) < 0)
        return -1;
    if (c->save != NULL)
        *first = c->save->encode(c->save_level, *first);
    if ((box->driver->can & DRIVER_ATTACHMENTS) != 0 && *conf_str(box->user->settings, SET_mail_attachment_dir) != '\0') {
        *attachments = extract_sink_new(box, *first, e);
        if (*attachments == NULL)
            return -1;
        *first = *attachments;
    }
    return 0;
}

int coding_refuses(struct mailbox *box, struct slice head, struct error *e)
{
    struct coding *c = coding_of(box->user);

    if (!c->zlib || c->save != NULL || codec_detect(head) == NULL)
        return 0;
    error_set(e, ERROR_UNSUPPORTED, "Saving mails compressed by client isn't supported");
    return error_user(e, "Saving mails compressed by client isn't supported");
}
