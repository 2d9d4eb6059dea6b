/* What all formats share between a client's bytes and the bytes of a file: the way in (struct stage_writer) and the way
 * out (store_read).
 *
 * In: line ends are converted and counted, then the bytes go through a chain of sinks, the last of which writes to the
 * file: attachments (dbox), compression, encryption, as the user's settings say. Out: the driver gives the stored bytes,
 * and what was done to them is undone in the opposite order. Sizes that anybody is told are those of the plain text. */
#ifndef YARILO_STORE_STAGE_H
#define YARILO_STORE_STAGE_H

#include "store/driver.h"

/* Where bytes go. A sink that passes bytes on calls its `next`; the last one has none. */
struct byte_sink {
    int (*put)(struct byte_sink *, struct slice, struct error *);
    int (*finish)(struct byte_sink *, struct error *);  /* all bytes were put: writes what is left, then finishes next */
    void (*free)(struct byte_sink *);                   /* itself alone, not next; also without finish */
    struct byte_sink *next;
};
int byte_sink_put(struct byte_sink *, struct slice, struct error *);
int byte_sink_finish(struct byte_sink *, struct error *);
void byte_sinks_free(struct byte_sink *first);          /* the chain; NULL is fine */

struct stage_writer {
    uint64_t size_physical, size_virtual;   /* of the plain text, line ends as stored; right after finish */
    uint64_t stored;                        /* bytes that went to the file; right after finish */
    bool coded;                             /* the stored bytes are others than the plain text; known from the start */
    struct byte_sink *first;                /* the rest is stage.c's */
    struct mailbox *box;
    struct buffer buffer;
    bool crlf, last_cr, finished, looked;
    struct error failed;                    /* class ERROR_NONE: none; each further put fails with the same */
    struct byte_sink file, *attachments;
    int fd;
};

/* Writes at the current position of fd, which stays the caller's and open until free. crlf: all line ends become CRLF,
 * else LF; a CR without LF stays as it is. What cannot be set up (an unknown zlib_save) is told by the first put. */
struct stage_writer *stage_writer_new(struct mailbox *, int fd, bool crlf);
int stage_writer_put(struct stage_writer *, struct slice, struct error *);   /* ERROR_SPACE, ERROR_QUOTA with Dovecot's text */
int stage_writer_finish(struct stage_writer *, struct error *);              /* all is in the file; not synced */
/* The X metadata of what was taken out as attachments; after finish, lives until free; NULL = nothing was. The files are
 * the caller's from then on: attachment_refs_unlink (store/attachment.h) where the message is discarded. Without finish
 * free removes them. */
const char *stage_writer_ext_refs(const struct stage_writer *);
void stage_writer_free(struct stage_writer **);                              /* NULL is fine */

/* The user text for a full disk: returns -1. */
int stage_space_text(struct error *);

/* The message as it was saved: driver->read, then decrypted, decompressed, attachments put back. Everything outside of
 * the drivers reads messages by this, and ends with store_read_end. Nothing is decoded before the first read. */
int store_read(struct mailbox *, uint32_t uid, struct arena *, struct mail_file *, struct error *);
void store_read_end(struct mailbox *, struct mail_file *);
/* The size of the plain text; may have to decode it all. (mail_file.size is that of the stored bytes where coding is set.) */
int store_read_size(struct mail_file *, uint64_t *, struct error *);
/* The same for a message that is only staged, and whose fd is open; nothing to end but by store_read_end(NULL, ...). */
int store_read_staged(const struct staged *, struct arena *, struct mail_file *, struct error *);
/* `size` bytes of an open file, from `at` on, for mail_file.source; the descriptor stays the caller's. */
struct mime_source store_file_source(struct arena *, int fd, uint64_t at, uint64_t size);
/* May the bytes of a message in `from` stand in `to` as they are (a link, a reference)? Not where keys differ. */
bool store_may_share(const struct mailbox *to, const struct mailbox *from);
/* May the stored bytes of messages here be others than their plain text? Then a file's size says nothing. */
bool store_read_coded(const struct mailbox *);

#endif
