/* The face of src/store/dbox: the file format that sdbox (one message a file) and mdbox (many) share, its repair, names of
 * unfinished files, and the alternative storage root (dbox-format 1, 2.5, 4).
 *
 * A file is a header line and messages; a message is a header of fixed size, the body as stored, and metadata lines.
 * What contradicts that is ERROR_CORRUPT, with Dovecot's text "Corrupted dbox file PATH (around offset=N): why"; an
 * I/O fault is never taken for corruption. All functions here are short and synchronous; none takes a lock. */
#ifndef YARILO_STORE_DBOX_DBOX_H
#define YARILO_STORE_DBOX_DBOX_H

#include "store/driver.h"

#define DBOX_MESSAGE_HEADER_SIZE 30
#define DBOX_METADATA_MAX (1024 * 1024)

/* ---- codec (codec.c): pure functions over bytes ---- */

struct dbox_header {                 /* the file's first line */
    unsigned version;                /* 1, 2 */
    uint32_t message_header_size;    /* M */
    uint32_t created;                /* C */
    uint32_t size;                   /* of the line, with its LF: the first message stands there */
};
/* NULL, or why it is corrupt. */
const char *dbox_header_parse(struct slice file, struct dbox_header *);
void dbox_header_put(struct buffer *, time_t created);                     /* "2 M1e C..." LF */

/* `at`: the message header's bytes, as many as M says. NULL, or why it is corrupt. */
const char *dbox_message_header_parse(struct slice at, uint64_t *body_size);
void dbox_message_header_put(unsigned char out[DBOX_MESSAGE_HEADER_SIZE], uint64_t body_size);

/* Everything that the metadata of a message says. Strings NULL = absent. */
struct dbox_metadata {
    bool has_physical, has_received, has_virtual, has_order;
    uint64_t physical;               /* Z: plain size, when it is not the header's */
    int64_t received;                /* R */
    uint64_t virtual_size;           /* V */
    const char *pop3_uidl;           /* P */
    uint32_t pop3_order;             /* O */
    const char *guid;                /* G: any text */
    const char *mailbox;             /* B: storage name (mdbox) */
    const char *attachments;         /* X */
    struct slice lines;              /* all of them as they stand, without the post magic and the last empty line */
};
/* `at` begins with the post magic (LF 01 03 LF). 1: *used bytes are the metadata; 0: it does not end within `at`, *used are whole
 * lines; -1: corrupt; *why says it. Strings are copied to the arena. */
int dbox_metadata_parse(struct slice at, struct arena *, struct dbox_metadata *, size_t *used, const char **why);
/* Post magic, the fields that are set in the order Z R V P O G B X, the empty line. Z only when it differs from
 * body_size; B not when it holds a line end. `lines` is not looked at. */
void dbox_metadata_put(struct buffer *, const struct dbox_metadata *, uint64_t body_size);

/* ---- files (file.c) ---- */

struct dbox_file {
    int fd;                          /* -1 = closed */
    char *path;                      /* for texts; owned */
    struct dbox_header header;
    uint64_t size;                   /* of the file when it was opened or refreshed */
    struct stat st;
};
/* Opens for reading and reads the header line. extra: more open flags. ERROR_NOT_FOUND, ERROR_CORRUPT. `dir_path` is for
 * texts. */
int dbox_file_open(struct dbox_file *, int dir, const char *dir_path, const char *name, struct error *);
/* Takes over a descriptor that somebody has opened (for writing, locked); closed by dbox_file_close, also on failure. */
int dbox_file_from_fd(struct dbox_file *, int fd, const char *path, struct error *);
int dbox_file_refresh(struct dbox_file *, struct error *);                 /* fstat again */
void dbox_file_close(struct dbox_file *);                                  /* closed ones are fine */
/* Fills *e: "Corrupted dbox file ... (around offset=...): why". -> -1 */
int dbox_file_corrupt(const struct dbox_file *, uint64_t offset, const char *why, struct error *);

/* *e says what is corrupt in the file of a message whose bytes were asked for: that is logged, and becomes what the real one says
 * then, "... uid=N points to broken data at offset=M". -> -1 */
int dbox_broken(const struct log *, uint32_t uid, uint64_t offset, struct error *e);

struct dbox_message {
    uint64_t offset;                 /* of its header */
    uint64_t body, size;             /* of the stored bytes */
    uint64_t end;                    /* behind its metadata; 0 = they were not read */
};
/* The header at `offset`; the body must lie within the file. */
int dbox_message_at(const struct dbox_file *, uint64_t offset, struct dbox_message *, struct error *);
/* Its metadata; sets message->end. */
int dbox_message_metadata(const struct dbox_file *, struct dbox_message *, struct arena *, struct dbox_metadata *,
                          struct error *);
/* Walking: *offset 0 = begin. 1: one message, *offset is behind it; 0: the end; -1: corrupt from *offset on. meta may be
 * NULL. */
int dbox_file_next(const struct dbox_file *, uint64_t *offset, struct dbox_message *, struct arena *,
                   struct dbox_metadata *meta, struct error *);
/* The stored bytes of a message as a source; state lives in the arena, the descriptor must stay open. */
struct mime_source dbox_message_source(int fd, const struct dbox_message *, struct arena *);

/* Writing (1.5). begin: a header of size 0 at `offset`, and the descriptor stands behind it; the caller writes the body;
 * end: metadata, at the descriptor's position; seal: the real header. A message that is not sealed is none. */
int dbox_message_begin(int fd, uint64_t offset, struct error *);
int dbox_message_end(int fd, uint64_t body_size, const struct dbox_metadata *, struct error *);
int dbox_message_seal(int fd, uint64_t offset, uint64_t body_size, struct error *);

/* ---- repair (fix.c): section 4 ---- */

/* Writes what can be saved of dir/name to a new file, from `start` on (0 = all; else the offset of the last message that is
 * known to be good, which is rewritten too), keeps the original as name.broken, and renames the new one over it. 1: done;
 * 0: no message was left, the file is gone (name.broken is there); -1: nothing changed. In mdbox the caller holds the
 * file's flock. Logs where the copy is. */
int dbox_file_fix(int dir, const char *dir_path, const char *name, uint64_t start, const struct mail_modes *,
                  const struct log *, struct error *);

/* ---- unfinished files (temp.c) ---- */

/* ".temp.<sec>.P<pid>Q<n>M<usec>.<host>" (1.5), never the same twice in a process. */
char *dbox_temp_name(struct arena *);
bool dbox_temp_is(const char *name);
/* Creates one for writing; *name in the arena. -> fd or -1. Texts get dir_path. */
int dbox_temp_create(int dir, const char *dir_path, const struct mail_modes *, struct arena *, char **name,
                     struct error *);
/* Is a clean-up due (mail_temp_scan_interval; last = last_temp_file_scan of the index header or the folder's atime)? */
bool dbox_temp_due(const struct mail_user *, int64_t last, int64_t now);
/* Deletes files .temp.* whose ctime is 36 hours old. What fails is logged. */
void dbox_temp_clean(const char *dir_path, int64_t now, const struct log *);

/* ---- alternative storage (alt.c) ---- */

/* Is the ALT root there, or, when nothing is known to lie in it, can it be made? False: it is not mounted. True without
 * ALT. */
bool dbox_alt_mounted(const struct mail_location *, bool used);
/* root/dbox-alt-root: compares it with ALT, warns, sets it right. One readlink when nothing has changed. */
void dbox_alt_check(const struct mail_location *, const struct log *);
/* Copies dir/name to todir/name as altmove does: temp file, fsync, times, rename, fsync of todir, unlink. ERROR_NOT_FOUND:
 * there is no such file. */
int dbox_alt_move(int dir, const char *dir_path, const char *name, int todir, const char *todir_path,
                  const struct mail_modes *, struct error *);

/* ---- what both drivers do alike (stage.c) ---- */

/* As driver.h says of create and remove. */
int dbox_folder_create(const struct mail_location *, const char *path, bool inbox, const struct mail_modes *, struct error *);
int dbox_folder_remove(const char *path, struct error *);

struct stage_writer;
/* A message that is being written as the only one of a new file. */
struct dbox_staging {
    uint32_t header_size;            /* of the file's first line */
    struct stage_writer *writer;     /* while bytes come */
    uint64_t stored;                 /* bytes of the body */
    const char *refs;                /* attachments that go when this is discarded; NULL = none */
};
int dbox_stage_begin(struct staged *, int fd, struct dbox_staging *, struct error *);
/* All bytes are there: sizes, metadata, the real message header. guid and mailbox (NULL: none) are written as G and B. */
int dbox_stage_end(struct staged *, int fd, struct dbox_staging *, const char *guid, const char *mailbox, struct error *);

#endif
