/* Codecs: bytes on their way out of a file (struct decoder, pulled) and into one (struct byte_sink, pushed), and reading a
 * decoded message at any place (struct spool).
 *
 * A decoder is sequential and owns what it reads from. Input is hostile: a truncated or damaged stream is ERROR_CORRUPT, the
 * memory that a stream may ask for is capped, and empty blocks are skipped in a loop. */
#ifndef YARILO_STORE_CODING_CODEC_H
#define YARILO_STORE_CODING_CODEC_H

#include "store/stage.h"

#define CODEC_HEAD 16      /* bytes that detection needs */

struct decoder {
    /* Up to `size` bytes; 0 only at the end of the data; -1. After an error or the end it is not called again. */
    ssize_t (*read)(struct decoder *, unsigned char *buf, size_t size, struct error *);
    void (*free)(struct decoder *);
};
/* The bytes of a source from its beginning; the source stays the caller's. */
struct decoder *decoder_of_source(const struct mime_source *);
void decoder_free(struct decoder *);   /* NULL is fine */

/* A buffered look at a decoder's bytes, for the next decoder. */
#define INPUT_SIZE 32768
struct input {
    struct decoder *from;              /* owned */
    unsigned char *buf;
    size_t at, have;
    bool end;
    uint64_t taken;                    /* bytes that were used up */
};
void input_init(struct input *, struct decoder *from);
void input_free(struct input *);
struct decoder *decoder_of_input(struct input *);   /* what is left; takes over what *input holds */
/* Sees to it that `want` (at most INPUT_SIZE) bytes stand there, or all that are left. */
int input_fill(struct input *, size_t want, struct error *);
static inline struct slice input_slice(const struct input *in)
{
    return slice_of(in->buf + in->at, in->have - in->at);
}
static inline void input_take(struct input *in, size_t size)
{
    in->at += size;
    in->taken += size;
}
/* ERROR_CORRUPT "<codec>: <why> at stored byte <n>". */
int input_bad(const struct input *, const char *codec, const char *why, struct error *);

struct codec {
    const char *name;
    int level_min, level_max, level_default;
    bool (*is)(struct slice head);                               /* NULL: cannot be told */
    struct byte_sink *(*encode)(int level, struct byte_sink *next);   /* NULL: not written. The sink owns not `next` */
    struct decoder *(*decode)(struct input *);                   /* takes over what *input holds; NULL: not read */
};
extern const struct codec codec_gz, codec_deflate, codec_bz2, codec_lz4, codec_zstd, codec_xz;
/* By Dovecot's name; NULL: unknown. */
const struct codec *codec_find(struct slice name);
/* By the first bytes of a message; NULL: plain. */
const struct codec *codec_detect(struct slice head);
/* Is support compiled in (for reading)? */
static inline bool codec_there(const struct codec *c)
{
    return c->decode != NULL;
}

/* ---- spool.c ---- */

/* Bytes that are written once and read at any place: in memory, from 128 KiB on in a file without a name. */
struct blob;
struct blob *blob_new(const char *temp_dir);   /* mail_temp_dir */
void blob_free(struct blob *);                 /* NULL is fine */
int blob_append(struct blob *, struct slice, struct error *);
uint64_t blob_size(const struct blob *);
ssize_t blob_read(void *blob, uint64_t offset, void *buf, size_t size, struct error *);     /* as mime_source's */

/* The decoded bytes, kept in a blob as far as they were decoded. `stored` bounds what may come of it (a bomb is ERROR_LIMIT).
 * Takes the decoder. */
struct spool;
struct spool *spool_new(struct decoder *, uint64_t stored, const char *temp_dir);
void spool_free(struct spool *);       /* NULL is fine */
ssize_t spool_read(void *spool, uint64_t offset, void *buf, size_t size, struct error *);   /* as mime_source's */
int spool_size(struct spool *, uint64_t *, struct error *);   /* decodes to the end */

#endif
