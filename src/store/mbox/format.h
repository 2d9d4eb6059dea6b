/* The bytes of an mbox file: pure functions, without files, index or locks (maildir-and-layouts 9.1).
 *
 * A file is a row of messages: a From_ line, a header, an empty line, a body, and one line end that belongs to nobody. What
 * the index of other formats holds stands in headers that clients never see: Status, X-Status, X-Keywords, X-UID, and in
 * the first message (or in a pseudo message in front of all) X-IMAPbase (or X-IMAP). */
#ifndef YARILO_STORE_MBOX_FORMAT_H
#define YARILO_STORE_MBOX_FORMAT_H

#include "base/base.h"
#include "mime/mime.h"

/* ---- from.c: the From_ line ---- */

#define MBOX_FROM_MAX 1024               /* a longer line is none */

/* Is this line (without its line end) a From_ line: "From ", a sender, a date that can be read? *date is its time; a date
 * without zone is local. */
bool mbox_from_parse(struct slice line, int64_t *date);
/* "From <sender>  Thu Nov 26 02:29:00 2026\n" in local time; an empty sender is MAILER-DAEMON. */
void mbox_from_make(struct buffer *out, const char *sender, int64_t date);

/* ---- scan.c: from one From_ line to the next ---- */

enum mbox_md5 { MBOX_MD5_APOP3D, MBOX_MD5_ALL };   /* mbox_md5: which headers count */

struct mbox_message {
    uint64_t from, header, body, end, next;  /* offsets: its From_ line, what follows, its body, that body's end, and the
                                              * next From_ line or the end of the file */
    int64_t date;                            /* of the From_ line */
    bool crlf;                               /* its From_ line ends with CRLF */
    bool headless;                           /* its header does not end with an empty line */
    bool huge;                               /* its header is longer than MBOX_HEADER_MAX: what lies behind was not looked at,
                                              * and it cannot be rewritten */
    bool pseudo;                             /* it has X-IMAP: in front of all others it is no message */
    bool has_base;                           /* X-IMAP or X-IMAPbase could be read */
    uint32_t base_validity, base_last;
    struct slice base_keywords;              /* separated by white space; in the arena */
    uint32_t uid;                            /* X-UID; 0 = none that could be read */
    uint8_t flags;                           /* INDEX_SEEN ... of Status and X-Status */
    bool old;                                /* Status has O: not recent */
    struct slice keywords;                   /* of X-Keywords; in the arena */
    bool has_length, length_valid;           /* Content-Length is there, and leads to the next From_ line or the end */
    bool filler;                             /* behind it there are only line ends: what an unfinished expunge leaves */
    unsigned char md5[16];                   /* of its header */
    uint64_t hidden;                         /* bytes of hidden header lines */
};
#define MBOX_HEADER_MAX (4u << 20)

struct mbox_scan {
    const struct mime_source *source;
    uint64_t size;                           /* of the file; what comes later is not looked at */
    enum mbox_md5 md5;
    struct buffer window;                    /* the scan's own */
    uint64_t window_at;
};
void mbox_scan_init(struct mbox_scan *, const struct mime_source *, uint64_t size, enum mbox_md5);
void mbox_scan_end(struct mbox_scan *);
/* 1: a From_ line begins here, 0: none does, -1: *e. */
int mbox_scan_from(struct mbox_scan *, uint64_t at, struct error *);
/* The message whose From_ line is at `at`. 0; ERROR_CORRUPT: there is none. Linear in its bytes; a valid Content-Length makes
 * it linear in its header's. */
int mbox_scan_message(struct mbox_scan *, uint64_t at, struct arena *, struct mbox_message *, struct error *);

/* ---- header.c: what is hidden ---- */

bool mbox_header_hidden(struct slice name);      /* not shown to clients */
/* Appends the header without hidden lines. `saved`: also without X-Delivery-ID. */
void mbox_header_visible(struct slice header, bool saved, struct buffer *out);
/* Takes the next field with its continuation lines off the front; false at the end. *value begins behind the colon. A line
 * without a colon has an empty name. */
bool mbox_header_next(struct slice *rest, struct slice *field, struct slice *name, struct slice *value);
void mbox_header_read(struct slice header, enum mbox_md5, struct arena *, struct mbox_message *);

struct mbox_facts {                              /* what hidden headers shall say */
    bool base, pseudo;                           /* write X-IMAPbase, or X-IMAP */
    uint32_t base_validity, base_last;
    struct slice base_keywords;                  /* separated by spaces */
    uint32_t uid;                                /* 0: of the pseudo message, that has none */
    uint8_t flags;
    bool old;
    struct slice keywords;                       /* separated by spaces */
    bool has_length;
    uint64_t length;
    bool crlf;
};
#define MBOX_PADDING 50                          /* spaces that a rewritten header gets, so that it can grow in place */
/* The header of a message with these facts, its empty line included: other lines stay as they are. room: how many bytes it
 * shall have; where it needs more, or room is 0, it gets MBOX_PADDING spaces. */
void mbox_header_make(struct slice header, const struct mbox_facts *, size_t room, struct buffer *out);
/* The pseudo message, From_ line to its last line end. */
void mbox_pseudo_make(const struct mbox_facts *, const char *host, int64_t now, struct buffer *out);

#endif
