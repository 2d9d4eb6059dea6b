/* Attachments on their way into files of their own (dbox-format 5.1, 5.3). */
#ifndef YARILO_STORE_CODING_ATTACH_H
#define YARILO_STORE_CODING_ATTACH_H

#include "store/coding/coding.h"

/* ---- base64.c: can this text be written again from its bytes? ---- */

/* Fed with a part's body; says afterwards whether lines of one length, and nothing but padding and line ends, make it up, but
 * for at most 1024 bytes behind the end. */
struct base64_check {
    uint64_t taken;            /* bytes fed */
    uint64_t text;             /* of them: base64 without the last line end, once ended or at the end */
    unsigned columns;          /* of all lines but the last */
    unsigned column;
    unsigned padding;
    int last;                  /* value of the last letter */
    bool bad, ended;
};
void base64_check_put(struct base64_check *, struct slice);
/* True: the first `text` bytes, decoded and encoded in lines of `columns`, are the same again. */
bool base64_check_end(struct base64_check *);
/* Decodes such text; whole calls may end anywhere in it. */
struct base64_reader {
    uint32_t bits;
    unsigned count;
};
void base64_reader_put(struct base64_reader *, struct slice text, struct buffer *out);

/* ---- hash.c ---- */

struct hash_template;          /* lives in the arena */
struct hash_template *hash_template_new(struct arena *, const char *text, struct error *);
void hash_template_put(struct hash_template *, struct slice);
void hash_template_end(struct hash_template *, struct buffer *out);   /* appends the text */

/* ---- extract.c ---- */

/* A sink that keeps the message, takes parts out of it when it is finished, and passes the rest on. */
struct byte_sink *extract_sink_new(struct mailbox *, struct byte_sink *next, struct error *);
/* X of what was taken out; NULL = nothing. After finish. */
const char *extract_sink_refs(const struct byte_sink *);
/* The message was stored: the files stay when the sink is freed. */
void extract_sink_keep(struct byte_sink *);

#endif
