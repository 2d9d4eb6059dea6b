/* What src/store/coding has for the rest of src/store: what a user's settings say of attachments, compression and
 * encryption, and the codecs. Decisions are made once a user (user.c), bytes go through struct byte_sink on the way in and
 * struct decoder on the way out. */
#ifndef YARILO_STORE_CODING_CODING_H
#define YARILO_STORE_CODING_CODING_H

#include "store/coding/fs.h"
#include "store/stage.h"


/* ---- user.c: settings ---- */

struct codec;
struct crypt_user;
struct coding {                  /* of one user; lives as long as the user */
    bool zlib, crypt;            /* mail_plugins names them */
    const struct codec *save;    /* zlib_save; NULL = none */
    int save_level;
    struct crypt_user *crypt_user; /* NULL: no crypt */
    struct fs *fs;               /* of mail_attachment_fs, once it was needed */
    const char *folder;          /* mail_attachment_dir; "" = unset */
    struct arena *arena;
};
struct coding *coding_of(struct mail_user *);
/* mail_attachment_dir and _fs. ERROR_INVALID: unset or not understood. */
int coding_attachments(struct mail_user *, struct fs **, const char **folder, struct error *);

/* ---- write.c ---- */

/* Puts the sinks of the user's settings in front of *first, which on failure holds those that were made. *attachments: the
 * one that takes attachments out; NULL = none. */
int coding_sinks(struct mailbox *, struct byte_sink **first, struct byte_sink **attachments, struct error *);
/* The first bytes of what a client saves (up to 64 KiB, all if there are fewer): ERROR_UNSUPPORTED where they would be taken
 * for compressed by us when they are read. */
int coding_refuses(struct mailbox *, struct slice head, struct error *);

/* ---- splice.c: attachments put back ---- */

/* `stored` stays the caller's. NULL with *e: the references cannot be understood, or nobody knows
 * where the files are. Files are opened when they are read. */
struct splice;
struct splice *splice_open(struct mail_user *, const struct mime_source *stored, const char *refs, const char *suffix,
                           struct error *);
void splice_close(struct splice **);   /* NULL is fine */
ssize_t splice_read(void *splice, uint64_t offset, void *buf, size_t size, struct error *);   /* as mime_source's */
uint64_t splice_size(const struct splice *, uint64_t stored);

#endif
