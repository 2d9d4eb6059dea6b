/* What the files of doveadm fetch share: the message at work. */
#ifndef YARILO_DOVEADM_FETCH_H
#define YARILO_DOVEADM_FETCH_H

#include "query.h"

struct fetch_mail {
    struct doveadm *d;
    struct mailbox_view *view;
    struct mail *mail;
    uint32_t seq;
    struct index_record record;
    const char *rest;             /* behind "hdr." and the like */
    struct arena *arena;          /* of this message */
};

/* Decoded and unfolded: a line break goes, the white space behind it is one blank. */
void fetch_put_decoded(struct arena *, struct slice header_value, struct buffer *out);
/* The field text.utf8. 0, or -1 with *e filled. */
int fetch_put_text_utf8(struct fetch_mail *, struct error *);

#endif
