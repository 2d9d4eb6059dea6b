/* compress.c - COMPRESS=DEFLATE (RFC 4978, imap 12.7): raw deflate both ways, between the session and its stream.
 *
 * All input and output of a session goes through the four functions here. A batch of output (what one step wrote) ends with a
 * flush: a full one when it holds a tagged reply, so that a reply never shares a window with what an attacker made the server
 * say before (CVE-2026-40203); else a sync one. What is inflated and not yet used is bounded, like the stream's own buffer. */
#include "imap/session.h"

#include <zlib.h>

enum { INFLATED_MAX = 96 * 1024, PIECE = 16 * 1024, WINDOW = 1 << MAX_WBITS };

struct compression {
    z_stream in, out;
    struct buffer input;       /* inflated, from `at` on not yet used */
    size_t at;
    bool written, tagged;      /* since the last flush */
    bool inside;               /* what has come ends inside of a block, or of a byte */
    bool held;                 /* the last line may be the layer's last: nothing behind it is read yet */
};

/* ---- output ------------------------------------------------------------------------------------------------------------- */

static void deflate_out(struct session *s, struct slice bytes, int flush)
{
    struct compression *c = s->compression;
    unsigned char piece[PIECE];

    c->out.next_in = (unsigned char *)(uintptr_t)bytes.at;
    c->out.avail_in = (uInt)bytes.size;
    do {
        c->out.next_out = piece;
        c->out.avail_out = sizeof(piece);
        deflate(&c->out, flush);
        stream_write(s->io, slice_of(piece, sizeof(piece) - c->out.avail_out));
    } while (c->out.avail_out == 0);
}

void session_write(struct session *s, struct slice bytes)
{
    rawlog_out(s->rawlog, bytes);
    s->written += bytes.size;
    if (s->compression == NULL) {
        stream_write(s->io, bytes);
        return;
    }
    s->compression->written = true;
    for (; bytes.size > PIECE * 8; bytes = slice_from(bytes, PIECE * 8))
        deflate_out(s, slice_head(bytes, PIECE * 8), Z_NO_FLUSH);
    if (bytes.size > 0)
        deflate_out(s, bytes, Z_NO_FLUSH);
}

unsigned char *session_room(struct session *s, size_t size)
{
    return s->compression == NULL ? stream_room(s->io, size) : NULL;
}

void session_wrote(struct session *s, struct slice bytes)
{
    rawlog_out(s->rawlog, bytes);
    s->written += bytes.size;
    stream_wrote(s->io, bytes.size);
}

void session_write_tagged(struct session *s, struct slice line)
{
    session_write(s, line);
    if (s->compression != NULL)
        s->compression->tagged = true;
}

void session_flush(struct session *s)
{
    struct compression *c = s->compression;

    if (c == NULL || !c->written)
        return;
    deflate_out(s, SLICE_EMPTY, c->tagged ? Z_FULL_FLUSH : Z_SYNC_FLUSH);
    c->written = c->tagged = false;
}

/* ---- input -------------------------------------------------------------------------------------------------------------- */

enum { BITS_LEFT = 63, LAST_BLOCK = 64, BETWEEN_BLOCKS = 128 }; /* of z_stream.data_type */

/* The end of what was inflated is a line that ends the layer; what follows it is plain then (RFC 8437 section 4). */
static bool ends_layer(const struct session *s)
{
    static const char line[] = " UNAUTHENTICATE";
    const struct compression *c = s->compression;
    struct slice text = slice_from(buffer_slice(&c->input), c->at);

    if (!s->returns || text.size == 0 || text.at[text.size - 1] != '\n')
        return false;
    text.size--;
    if (text.size > 0 && text.at[text.size - 1] == '\r')
        text.size--;
    return text.size > sizeof(line) - 1 &&
           slice_equal_str_nocase(slice_from(text, text.size - (sizeof(line) - 1)), line);
}

static bool is_inside(const struct compression *c)
{
    return (c->in.data_type & (BITS_LEFT | LAST_BLOCK | BETWEEN_BLOCKS)) != BETWEEN_BLOCKS;
}

/* False: the bytes are no deflate stream. */
static bool inflate_in(struct session *s)
{
    struct compression *c = s->compression;
    struct slice raw = stream_input(s->io);
    int got = Z_OK;

    if (c->at > 0) {
        buffer_drop(&c->input, c->at);
        c->at = 0;
    }
    c->in.next_in = (unsigned char *)(uintptr_t)raw.at;
    c->in.avail_in = (uInt)raw.size;
    while (c->input.size < INFLATED_MAX && got == Z_OK) {
        buffer_reserve(&c->input, PIECE);
        c->in.next_out = c->input.at + c->input.size;
        c->in.avail_out = PIECE;
        got = inflate(&c->in, s->returns ? Z_BLOCK : Z_SYNC_FLUSH);
        c->input.size += PIECE - c->in.avail_out;
        if ((got == Z_STREAM_END || !is_inside(c)) && ends_layer(s)) {
            c->held = true;
            break;
        }
        if (c->in.avail_out > 0 && c->in.avail_in == 0)
            break;
    }
    if (raw.size > c->in.avail_in) /* a call without input tells nothing */
        c->inside = got != Z_STREAM_END && is_inside(c);
    stream_consume(s->io, raw.size - c->in.avail_in);
    return got == Z_OK || got == Z_BUF_ERROR || c->held;
}

struct slice session_input(struct session *s)
{
    struct compression *c = s->compression;

    if (c == NULL)
        return stream_input(s->io);
    if (c->held && c->input.size > c->at)
        return slice_from(buffer_slice(&c->input), c->at);
    c->held = false;
    if ((stream_input(s->io).size > 0 || c->input.size - c->at == 0) && !inflate_in(s)) {
        session_bye(s, NULL, "Invalid compressed input");
        return SLICE_EMPTY;
    }
    return slice_from(buffer_slice(&c->input), c->at);
}

void session_consume(struct session *s, size_t size)
{
    struct compression *c = s->compression;

    s->taken += size;
    if (c == NULL) {
        rawlog_in(s->rawlog, slice_head(stream_input(s->io), size));
        stream_consume(s->io, size);
        return;
    }
    rawlog_in(s->rawlog, slice_head(slice_from(buffer_slice(&c->input), c->at), size));
    c->at += size;
    if (c->at == c->input.size) {
        buffer_free(&c->input);
        c->at = 0;
    }
}

/* ---- the command -------------------------------------------------------------------------------------------------------- */

void compress_begin(struct session *s, struct request *r)
{
    static const char *const others[] = {"GZ", "BZ2", "XZ", "LZ4", "ZSTD"};

    if (!imap_arg_is_atom(r->args)) {
        request_bad(s, r, "Invalid arguments");
    } else if (s->compression != NULL) {
        request_reply(r, "NO [COMPRESSIONACTIVE] COMPRESSION=DEFLATE already enabled.");
    } else if (slice_equal_str_nocase(r->args->text, "DEFLATE")) {
        request_reply(r, "OK Begin compression.");
        s->compress_next = true;
    } else {
        request_reply(r, "NO Unknown compression mechanism.");
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
            if (slice_equal_str_nocase(r->args->text, others[i]))
                request_reply(r, "NO Unsupported compression mechanism.");
        }
    }
}

void compression_start(struct session *s)
{
    const char *level = conf_plugin(s->set, "imap_compress_deflate_level");
    struct compression *c = mem_zero(1, sizeof(*c));
    int n = level != NULL && *level >= '1' && *level <= '9' && level[1] == '\0' ? *level - '0' : 6;

    s->compress_next = false;
    if (inflateInit2(&c->in, -MAX_WBITS) != Z_OK || deflateInit2(&c->out, n, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        mem_exhausted(sizeof(*c));
    s->compression = c;
}

/* ---- the end of the layer -------------------------------------------------------------------------------------------------- */

void compression_finish(struct session *s)
{
    if (s->compression == NULL)
        return;
    deflate_out(s, SLICE_EMPTY, Z_FINISH);
    s->compression->written = s->compression->tagged = false;
}

/* The bytes of the client's last flush that stand behind its last line. */
static void skip_flush(struct session *s)
{
    static const unsigned char empty_block[] = {0, 0, 0, 0xff, 0xff};
    struct compression *c = s->compression;
    struct slice raw = stream_input(s->io);
    unsigned char none[64];
    int got = Z_OK;

    c->in.next_in = (unsigned char *)(uintptr_t)raw.at;
    c->in.avail_in = (uInt)raw.size;
    while (c->inside && got == Z_OK && c->in.avail_in > 0) {
        c->in.next_out = none;
        c->in.avail_out = sizeof(none);
        got = inflate(&c->in, Z_BLOCK);
        c->inside = got == Z_OK && is_inside(c);
    }
    stream_consume(s->io, raw.size - c->in.avail_in);
    /* The block before it ended at a whole byte by chance. */
    if (slice_starts(stream_input(s->io), slice_of(empty_block, sizeof(empty_block))))
        stream_consume(s->io, sizeof(empty_block));
}

void compression_put_rest(struct session *s, struct buffer *out)
{
    struct compression *c = s->compression;

    if (c != NULL) {
        buffer_append_slice(out, slice_from(buffer_slice(&c->input), c->at));
        skip_flush(s);
    }
    buffer_append_slice(out, stream_input(s->io));
}

/* ---- rest (hibernate.h) ---------------------------------------------------------------------------------------------------- */

bool compression_may_rest(const struct session *s)
{
    const struct compression *c = s->compression;

    /* What was written ended with a flush at a whole byte, so that a new stream may follow. What the client sends has to stand
     * likewise: between two blocks, at a whole byte. */
    return c == NULL || (!c->written && c->input.size == c->at && !c->inside);
}

void compression_put_window(struct session *s, struct buffer *out)
{
    unsigned char window[WINDOW];
    uInt size = sizeof(window);
    uLong packed;

    if (inflateGetDictionary(&s->compression->in, window, &size) != Z_OK)
        size = 0;
    packed = compressBound(size);
    buffer_reserve(out, packed);
    if (compress2(out->at + out->size, &packed, window, size, Z_BEST_SPEED) != Z_OK)
        mem_exhausted(packed);
    out->size += packed;
}

bool compression_resume(struct session *s, struct slice packed)
{
    unsigned char window[WINDOW];
    uLong size = sizeof(window);

    if (uncompress(window, &size, packed.at, packed.size) != Z_OK)
        return false;
    compression_start(s);
    return size == 0 || inflateSetDictionary(&s->compression->in, window, (uInt)size) == Z_OK;
}

void compression_free(struct session *s)
{
    struct compression *c = s->compression;

    if (c == NULL)
        return;
    inflateEnd(&c->in);
    deflateEnd(&c->out);
    buffer_free(&c->input);
    mem_free(c);
    s->compression = NULL;
}
