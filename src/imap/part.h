/* Parts of messages as bytes: for CATENATE, URLFETCH and the imap-urlauth services. */
#ifndef YARILO_IMAP_PART_H
#define YARILO_IMAP_PART_H

#include "imap/url.h"
#include "store/store.h"

/* What a URL names, opened in steps: part_begin, run `op` to its end, part_open; then part_read. Refusals that the client is
 * told of are texts in *fault (-1 with *fault NULL: *e). */
struct part {
    struct mail_user *user;
    const struct imap_url *url;
    struct mailbox *box;
    struct store_op *op;       /* brings the mailbox up to date; the caller runs and frees it */
    struct mail *mail;
    struct mime_section section;
    struct mime_hint hint;
    struct mime_reader *reader;
    struct buffer whole;       /* instead of a reader: header fields, decoded parts */
    uint64_t at, size;
    bool binary;               /* ~{n} */
};

/* The text of SECTION, "HEADER.FIELDS (A B)" too. -1: no section. */
int part_section_parse(struct arena *, const char *text, struct mime_section *);
int part_begin(struct part *, struct mail_user *, struct arena *, const struct imap_url *, const char **fault, struct error *);
/* Is it the mailbox that was meant? "Invalid UIDVALIDITY". */
int part_check(struct part *, const char **fault);
/* Looks for the message and the section. */
int part_find(struct part *, struct arena *, const char **fault, struct error *);
/* Its bytes; `decode`: BINARY. *size is what part_read will give. */
int part_open(struct part *, struct arena *, bool decode, const char **fault, struct error *);
ssize_t part_read(struct part *, void *buf, size_t size, struct error *);
/* BODYPARTSTRUCTURE (RFC 5524). */
int part_structure(struct part *, struct arena *, struct buffer *out, const char **fault, struct error *);
void part_close(struct part *);

#endif
