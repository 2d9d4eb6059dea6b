/* Attachments in files of their own (dbox-format 5): what a driver does with the references that its messages have.
 *
 * A reference text is the value of the metadata key X, as stage_writer_ext_refs gave it or as it stands in the file. The
 * folder is the user's mail_attachment_dir, the file system below it mail_attachment_fs. Suffixes are what sdbox appends to
 * each path on disk ("-<mailbox guid>-<uid>"); NULL or "" = nothing. */
#ifndef YARILO_STORE_ATTACHMENT_H
#define YARILO_STORE_ATTACHMENT_H

#include "store/store.h"

struct attachment_ref {
    uint64_t offset;          /* in the complete message */
    uint64_t size;            /* bytes to insert there */
    unsigned base64_columns;  /* characters in a line; 0 = as stored */
    bool crlf;                /* line ends of the base64 text */
    struct slice path;
};
struct attachment_refs {
    struct attachment_ref *at;
    size_t count;
};
/* ERROR_CORRUPT with Dovecot's reason. Offsets ascend, sizes and their sums do not overflow, paths stay below the folder. */
int attachment_refs_parse(struct slice text, struct arena *, struct attachment_refs *, struct error *);

/* For all files of a text, in its order. unlink is best effort: what fails is logged, a missing file is not told. link and
 * rename undo what they did when one fails. Existing targets are an error. */
void attachment_refs_unlink(struct mail_user *, const char *refs, const char *suffix);
int attachment_refs_rename(struct mail_user *, const char *refs, const char *from_suffix, const char *to_suffix,
                           struct error *);
int attachment_refs_link(struct mail_user *, const char *refs, const char *from_suffix, const char *to_suffix,
                         struct error *);

/* doveadm sis deduplicate, for one name of the queue: the file below root becomes a link to one of equal content, or is the
 * first of its kind. A file that is gone is fine. */
int attachment_deduplicate(const char *root, const char *name, struct error *);

/* attachment_find.c: does the mail have what counts as an attachment by these words of mail_attachment_detection_options? The
 * tree needs data. */
bool attachment_find(struct arena *, struct mime_part *root, const char *options);

#endif
