/* dump_other.c - doveadm dump of a mailbox log, of a recorded IMAP session under COMPRESS, and of a multiplexed stream
 * (doveadm 7.4). Each stops at the first contradiction; what was read until then is shown. */
#include "doveadm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum { FILE_MAX = 256 * 1024 * 1024, LOG_RECORD = 24, PACKET_HEADER = 5 };

int doveadm_dump_read(const char *path, size_t most, struct buffer *file)
{
    enum { PART = 64 * 1024 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), fault;
    ssize_t n = 1;

    if (fd < 0)
        return errno;
    while (n > 0 && file->size < most) {
        size_t want = most - file->size < PART ? most - file->size : PART;

        buffer_reserve(file, want);
        n = read(fd, file->at + file->size, want);
        file->size += n > 0 ? (size_t)n : 0;
    }
    fault = n < 0 ? errno : 0;
    close(fd);
    return fault;
}

static void read_all(const char *path, struct buffer *file)
{
    int fault = doveadm_dump_read(path, FILE_MAX, file);

    if (fault != 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "%s(%s) failed: %s", fault == EISDIR ? "read" : "open", path, strerror(fault));
}

static void stop(const struct buffer *out, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));

static void stop(const struct buffer *out, const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    fwrite(out->at, 1, out->size, stdout);
    doveadm_fatal(DOVEADM_TEMPFAIL, "%s", text);
}

/* ---- dovecot.mailbox.log (maildir-and-layouts 6.6) ---------------------------------------------------------------------- */

int doveadm_dump_mailbox_log(const char *path, struct buffer *out)
{
    static const char *const types[] = {"", "delete-mailbox", "delete-dir", "rename", "subscribe", "unsubscribe", "create-dir"};
    struct buffer file = {0};
    size_t at;

    read_all(path, &file);
    for (at = 0; at + LOG_RECORD <= file.size; at += LOG_RECORD) {
        const unsigned char *record = file.at + at;
        time_t when = (time_t)bytes_be32(record + 20);
        struct tm tm;
        char stamp[40];

        localtime_r(&when, &tm);
        strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
        buffer_printf(out, "#%zu: %s ", at, record[0] < sizeof(types) / sizeof(types[0]) ? types[record[0]] : "");
        text_hex_encode(out, slice_of(record + 4, 16));
        buffer_printf(out, " (%s)\n", stamp);
    }
    if (at < file.size)
        stop(out, "rec read() %zu != %d", file.size - at, LOG_RECORD);
    buffer_free(&file);
    return DOVEADM_OK;
}

/* ---- IMAP and COMPRESS -------------------------------------------------------------------------------------------------- */

/* Where the deflated bytes begin: behind the line that says so. */
static size_t plain_part(struct slice file)
{
    ptrdiff_t at = slice_find_slice(file, SLICE(" OK Begin compression")), lf;

    if (at < 0)
        return file.size;
    lf = slice_find(slice_from(file, (size_t)at), '\n');
    return lf < 0 ? file.size : (size_t)(at + lf) + 1;
}

static void inflate_into(struct slice in, struct buffer *out)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)in.at, .avail_in = (unsigned)in.size};
    int r = inflateInit2(&z, -MAX_WBITS);

    if (r != Z_OK)
        stop(out, "inflateInit() failed: %d", r);
    while (r == Z_OK && z.avail_in > 0 && out->size < FILE_MAX) {
        buffer_reserve(out, 64 * 1024);
        z.next_out = out->at + out->size;
        z.avail_out = 64 * 1024;
        r = inflate(&z, Z_SYNC_FLUSH);
        out->size += 64 * 1024 - z.avail_out;
    }
    inflateEnd(&z);
    if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
        stop(out, "inflate() failed: %d", r);
}

int doveadm_dump_imapzlib(const char *path, struct buffer *out)
{
    struct buffer file = {0};
    size_t plain;

    read_all(path, &file);
    plain = plain_part(buffer_slice(&file));
    buffer_append(out, file.at, plain);
    inflate_into(slice_from(buffer_slice(&file), plain), out);
    buffer_free(&file);
    return DOVEADM_OK;
}

/* ---- multiplexed streams (doveadm 8) -------------------------------------------------------------------------------------- */

/* Packets of a channel, a length, and so many bytes; what each channel said is shown together. A stream that ends early is
 * told, and is no failure. */
int doveadm_dump_multiplex(const char *path, struct buffer *out)
{
    static struct buffer channels[256];
    struct buffer file = {0};
    struct slice rest;
    int fault = doveadm_dump_read(path, FILE_MAX, &file);

    if (fault != 0)
        log_error(NULL, "read() failed: %s", strerror(fault));
    rest = buffer_slice(&file);
    while (rest.size >= PACKET_HEADER) {
        uint32_t size = bytes_be32(rest.at + 1), here;
        struct buffer *channel = &channels[rest.at[0]];

        rest = slice_from(rest, PACKET_HEADER);
        here = size < rest.size ? size : (uint32_t)rest.size;
        buffer_append(channel, rest.at, here);
        rest = slice_from(rest, here);
        if (here < size)
            log_error(NULL, "read() failed: Unexpected EOF - %u bytes remaining in packet", size - here);
    }
    for (unsigned i = 0; i < 256; i++) {
        if (channels[i].size > 0) {
            buffer_printf(out, "CHANNEL %u: %zu bytes:\n", i, channels[i].size);
            buffer_append_slice(out, buffer_slice(&channels[i]));
            buffer_append_byte(out, '\n');
        }
        buffer_free(&channels[i]);
    }
    buffer_free(&file);
    return DOVEADM_OK;
}
