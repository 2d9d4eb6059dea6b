/* lmtp_data.c - DATA and BDAT: the message goes into a memfd, behind the headers that are ours (doors 1.4, 2.4).
 *
 * The spool is memory that only this process and the workers see; it is sealed before a worker gets it, so that nobody
 * can change what was acknowledged. */
#include "lmtp/lmtp_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

static bool spool(struct lmtp_client *c, struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t n = write(c->trans->fd, bytes.at, bytes.size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            log_error(NULL, "Can't spool a message: write() failed: %m");
            return false;
        }
        bytes = slice_from(bytes, (size_t)n);
    }
    return true;
}

static void put_received(struct lmtp_client *c, struct buffer *out, const char *only_path)
{
    struct tls_session_info tls;
    char ip[NET_IP_TEXT], date[64];
    struct tm tm;

    localtime_r(&c->trans->started, &tm);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S %z", &tm);
    buffer_printf(out, "Received: from %s", c->helo == NULL ? "unknown" : c->helo);
    if (c->remote.ip.family != 0)
        buffer_printf(out, " ([%s])", net_ip_text(&c->remote.ip, ip));
    if (stream_tls_info(c->stream, &tls))
        buffer_printf(out, "\r\n\t(using %s with cipher %s (%u/%u bits))", tls.protocol, tls.cipher, tls.bits, tls.bits);
    buffer_printf(out, "\r\n\tby %s with %s\r\n\tid %s\r\n\t(envelope-from <%s>)", c->server->hostname,
                  c->tls ? "LMTPS" : "LMTP", c->trans->session, c->trans->from_text);
    if (only_path != NULL)
        buffer_printf(out, "\r\n\tfor <%s>", only_path);
    buffer_printf(out, "; %s\r\n", date);
}

static void put_trace(struct lmtp_client *c, struct buffer *out)
{
    const char *which = conf_str(c->set, SET_lmtp_hdr_delivery_address);
    struct lmtp_rcpt *only = c->trans->rcpt_count == 1 ? c->trans->rcpts : NULL;
    const char *address = NULL;

    if (only != NULL && strcmp(which, "final") == 0)
        address = only->path;
    else if (only != NULL && strcmp(which, "original") == 0)
        address = only->original;
    buffer_printf(out, "Return-Path: <%s>\r\n", c->trans->from_text);
    if (address != NULL)
        buffer_printf(out, "Delivered-To: %s\r\n", address);
    if (conf_bool(c->set, SET_lmtp_add_received_header))
        put_received(c, out, only == NULL ? NULL : address != NULL ? address : only->path);
}

/* Opens the spool and writes the headers. False: the reply is the caller's. */
static bool begin_spool(struct lmtp_client *c)
{
    struct buffer head = {0};
    bool good;

    c->trans->fd = memfd_create("lmtp-message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (c->trans->fd < 0) {
        log_error(NULL, "Can't spool a message: memfd_create() failed: %m");
        return false;
    }
    put_trace(c, &head);
    good = spool(c, buffer_slice(&head));
    buffer_free(&head);
    return good;
}

static void spool_failed(struct lmtp_client *c)
{
    lmtp_reply(c, "451 4.3.0 Temporary internal failure");
    c->state = "READY";
    lmtp_transaction_end(c);
}

void lmtp_data_command(struct lmtp_client *c)
{
    struct lmtp_transaction *t = c->trans;

    if (t == NULL)
        lmtp_bad(c, "503 5.5.0 MAIL needed first");
    else if (t->chunk_failed || t->chunking)
        lmtp_bad(c, "503 5.5.0 Previous data chunk failed, issue RSET first");
    else if (t->rcpt_count == 0)
        lmtp_bad(c, "503 5.5.0 No valid recipients");
    else if (!begin_spool(c))
        spool_failed(c);
    else {
        c->bad_commands = 0;
        lmtp_reply(c, "354 OK");
        c->state = "DATA";
        c->mode = LMTP_DATA;
        c->data = SMTP_DATA_INIT;
    }
}

static void message_complete(struct lmtp_client *c)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

    if (fcntl(c->trans->fd, F_ADD_SEALS, seals) < 0) {
        log_error(NULL, "Can't seal a message: fcntl(F_ADD_SEALS) failed: %m");
        c->mode = LMTP_COMMAND;
        spool_failed(c);
        return;
    }
    lmtp_client_wait(c);
    lmtp_submit(c);
}

static bool data_input(struct lmtp_client *c)
{
    struct buffer out = {0};
    struct slice in = stream_input(c->stream);
    bool end, good;

    if (in.size == 0)
        return false;
    stream_consume(c->stream, smtp_data_take(&c->data, in, &out, &end));
    good = spool(c, buffer_slice(&out));
    buffer_free(&out);
    if (!good) {
        /* The rest of the data cannot be told from commands any more. */
        lmtp_reply(c, "451 4.3.0 Temporary internal failure");
        lmtp_client_end(c, "Temporary internal failure");
        return false;
    }
    if (end)
        message_complete(c);
    return true;
}

/* ---- BDAT -------------------------------------------------------------------------------------------------------- */

static void chunk_complete(struct lmtp_client *c)
{
    c->mode = LMTP_COMMAND;
    if (c->chunk_drop) {
        lmtp_bad(c, c->trans == NULL ? "503 5.5.0 MAIL needed first"
                                     : "503 5.5.0 Previous data chunk failed, issue RSET first");
        return;
    }
    if (c->chunk_last) {
        message_complete(c);
        return;
    }
    lmtp_reply(c, "250 2.0.0 Added %llu octets", (unsigned long long)c->chunk_size);
}

static bool chunk_input(struct lmtp_client *c)
{
    struct slice in = slice_head(stream_input(c->stream), c->chunk_left > SIZE_MAX ? SIZE_MAX : (size_t)c->chunk_left);
    size_t n = in.size;

    if (n == 0 && c->chunk_left > 0)
        return false;
    if (!c->chunk_drop && !spool(c, in)) {
        lmtp_reply(c, "451 4.3.0 Temporary internal failure");
        lmtp_client_end(c, "Temporary internal failure");
        return false;
    }
    stream_consume(c->stream, n);
    c->chunk_left -= n;
    if (c->chunk_left == 0)
        chunk_complete(c);
    return true;
}

/* Syntax: a size and perhaps LAST. False: the reply has been given. */
static bool parse_chunk(struct lmtp_client *c, struct slice params)
{
    struct slice size, marker, more;

    if (!slice_split(&params, ' ', &size) || size.size == 0) {
        lmtp_bad(c, "501 5.5.4 Invalid chunk size parameter");
        return false;
    }
    for (size_t i = 0; i < size.size; i++)
        if (size.at[i] < '0' || size.at[i] > '9') {
            lmtp_bad(c, "501 5.5.4 Invalid chunk size parameter");
            return false;
        }
    if (!slice_to_u64(size, &c->chunk_size)) {
        lmtp_bad_syntax(c);
        return false;
    }
    c->chunk_last = false;
    if (slice_split(&params, ' ', &marker)) {
        if (!slice_equal_str_nocase(marker, "LAST")) {
            lmtp_bad(c, "501 5.5.4 Invalid end marker parameter");
            return false;
        }
        if (slice_split(&params, ' ', &more)) {
            lmtp_bad(c, "501 5.5.4 Invalid parameters");
            return false;
        }
        c->chunk_last = true;
    }
    return true;
}

void lmtp_bdat_command(struct lmtp_client *c, struct slice params)
{
    struct lmtp_transaction *t = c->trans;

    if (!parse_chunk(c, params)) {
        if (t != NULL)
            t->chunk_failed = true;
        return;
    }
    /* The bytes follow in any case and must not be read as commands. */
    c->chunk_left = c->chunk_size;
    c->chunk_drop = t == NULL || t->chunk_failed || t->rcpt_count == 0;
    if (t != NULL && t->rcpt_count == 0)
        t->chunk_failed = true;
    if (!c->chunk_drop && t->fd < 0 && !begin_spool(c)) {
        t->chunk_failed = true;
        c->chunk_drop = true;
    }
    if (!c->chunk_drop) {
        t->chunking = true;
        c->state = "DATA";
        c->bad_commands = 0;
    }
    c->mode = LMTP_CHUNK;
    if (c->chunk_left == 0)
        chunk_complete(c);
}

bool lmtp_data_input(struct lmtp_client *c)
{
    return c->mode == LMTP_DATA ? data_input(c) : chunk_input(c);
}
