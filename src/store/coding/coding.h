/* What src/store/coding has for the rest of src/store: what a user's settings say of attachments, compression and
 * encryption, and the codecs. Decisions are made once a user (user.c), bytes go through struct byte_sink on the way in and
 * struct decoder on the way out. */
#ifndef YARILO_STORE_CODING_CODING_H
#define YARILO_STORE_CODING_CODING_H

#include "store/coding/fs.h"
#include "store/stage.h"

#define ATTACHMENT_COLUMNS_MAX 1024   /* characters in a line of base64 that can be written again */

/* ---- user.c: settings ---- */

struct codec;
struct coding {                  /* of one user; lives as long as the user */
    bool zlib, crypt;            /* mail_plugins names them */
    const struct codec *save;    /* zlib_save; NULL = none */
    int save_level;
    const char *save_error;      /* why zlib_save cannot be obeyed; NULL = it can */
    struct fs *fs;               /* of mail_attachment_fs, once it was needed */
    const char *folder;          /* mail_attachment_dir; "" = unset */
    struct arena *arena;
};
struct coding *coding_of(struct mail_user *);
bool coding_plugin(const struct mail_user *, const char *name);   /* is it in mail_plugins? */
/* mail_attachment_dir and _fs. ERROR_INVALID: unset or not understood. */
int coding_attachments(struct mail_user *, struct fs **, const char **folder, struct error *);

#endif
