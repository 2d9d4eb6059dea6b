/* The line protocol of doveadm-server, 1.2 (doveadm 8): VERSION, PLAIN or STARTTLS, then commands, one after the other.
 *
 * Replies are multiplexed from minor version 1 on: a byte for the channel, the size, the bytes. Data for a command follows
 * its line, dot-stuffed; the line feed before the lone dot does not belong to it. */
#include "server/front.h"
#include "line_status.h"

#include "base/text.h"
#include "rpc/line.h"

enum { CHANNEL_REPLY = 0, CHANNEL_LOG = 'L', PACKET_HEAD = 5, LOGIN_SECONDS = 60, DATA_SECONDS = 300, LOGIN_LINE_MAX = 8192, FIELDS_MAX = 8192 };

enum state { AWAITS_VERSION, AWAITS_LOGIN, CHECKING, IDLE, BUSY, DATA };

struct line_state {
    enum state state;
    unsigned minor;
    /* Of DATA: where in a line we are, and the line ends that wait for what follows. */
    enum { BEGIN, INSIDE, AFTER_DOT } at;
    bool has_end;
    struct buffer data;
};
static struct line_state line;

/* ---- out ------------------------------------------------------------------------------------------------------------- */

static void send_on(struct front *f, unsigned char channel, struct slice bytes)
{
    unsigned char head[PACKET_HEAD] = {channel};

    if (line.minor == 0) {
        if (channel == CHANNEL_REPLY)
            stream_write(f->stream, bytes);
        return;
    }
    bytes_put_be32(head + 1, (uint32_t)bytes.size);
    stream_write(f->stream, slice_of(head, sizeof(head)));
    stream_write(f->stream, bytes);
}

static void line_output(struct front *f, struct slice bytes)
{
    send_on(f, CHANNEL_REPLY, bytes);
}

static void line_log(struct front *f, struct slice bytes)
{
    send_on(f, CHANNEL_LOG, bytes);
}

static void finish_command(struct front *f, const char *status)
{
    struct buffer reply = {0};

    buffer_printf(&reply, "\n%s\n", status);
    send_on(f, CHANNEL_REPLY, buffer_slice(&reply));
    buffer_free(&reply);
    line.state = IDLE;
}

static void line_answer(struct front *f, enum wire_answer answer, unsigned status)
{
    switch (answer) {
    case WIRE_ACCEPTED:
        stream_print(f->stream, "+\n");
        stream_deadline(f->stream, 0);
        line.state = IDLE;
        break;
    case WIRE_REFUSED:
        stream_print(f->stream, "-\n");
        front_end(f);
        break;
    case WIRE_WANTS_INPUT:
        line.at = BEGIN;
        line.has_end = false;
        line.state = DATA;
        stream_deadline(f->stream, DATA_SECONDS);
        break;
    case WIRE_STATUS:
        finish_command(f, line_status_name((int)status));
        break;
    case WIRE_UNKNOWN:
        finish_command(f, "-");
        break;
    case WIRE_END:
    default:
        front_end(f);
        break;
    }
}

/* ---- in -------------------------------------------------------------------------------------------------------------- */

static void start_line(struct front *f)
{
    if (line.state == AWAITS_VERSION)
        stream_deadline(f->stream, LOGIN_SECONDS);
}

static void take_version(struct front *f, struct slice text)
{
    struct error e;

    if (line_check_version(text, "doveadm-server", 1, &line.minor, &e) < 0) {
        log_error(NULL, "doveadm client not compatible with this server (mixed old and new binaries?)");
        front_end(f);
        return;
    }
    if (line.minor >= 1)
        stream_print(f->stream, "VERSION\tdoveadm-client\t1\t2\n");
    if (!front_flag(f, FRONT_FLAG_TRUSTED)) {
        stream_print(f->stream, "-\n");
        line.state = AWAITS_LOGIN;
        return;
    }
    line_answer(f, WIRE_ACCEPTED, 0);
}

static void refuse(struct front *f, const char *reason)
{
    log_error(NULL, "%s", reason);
    stream_print(f->stream, "-\n");
    front_end(f);
}

static void take_login(struct front *f, struct slice text)
{
    struct slice word = SLICE_EMPTY, rest = text, parts[3], plain;
    struct buffer decoded = {0};
    size_t n = 0;

    if (slice_equal_str(text, "STARTTLS") && !f->tls_on) {
        if (f->tls == NULL) {
            log_error(NULL, "SSL init failed: %s", f->tls_error.admin);
            stream_print(f->stream, "-\n");
            front_end(f);
        } else
            front_start_tls(f);
        return;
    }
    (void)slice_split(&rest, '\t', &word);
    if (!slice_equal_str(word, "PLAIN")) {
        struct buffer reason = {0};
        buffer_printf(&reason, "doveadm client attempted non-PLAIN authentication: %.*s", (int)slice_head(text, 200).size,
                      (const char *)text.at);
        refuse(f, buffer_cstr(&reason));
        buffer_free(&reason);
        return;
    }
    if (text_base64_decode(&decoded, rest) < 0)
        refuse(f, "doveadm client sent invalid base64 auth PLAIN data");
    else {
        plain = buffer_slice(&decoded);
        while (n < 3 && slice_split(&plain, '\0', &parts[n]))
            n++;
        if (n != 3 || parts[0].size != 0 || slice_find(plain, '\0') >= 0)
            refuse(f, "doveadm client sent invalid auth PLAIN data");
        else {
            line.state = CHECKING;
            front_ask(f, WIRE_PLAIN, parts + 1, 2);
        }
    }
    buffer_wipe(&decoded);
}

static void take_command(struct front *f, struct slice text)
{
    struct arena *a = arena_new();
    struct slice *fields = ARENA_ARRAY(a, struct slice, FIELDS_MAX), one;
    size_t n = 0;
    bool fits = true;

    while (fits && slice_split(&text, '\t', &one)) {
        one = text_tab_unescape(a, one);
        fits = n < FIELDS_MAX && slice_find(one, '\0') < 0;
        if (fits)
            fields[n++] = one;
    }
    if (!fits) {
        log_error(NULL, "doveadm client: Invalid command");
        front_end(f);
    } else {
        line.state = BUSY;
        front_ask(f, WIRE_COMMAND, fields, n);
    }
    arena_free(a);
}

/* ---- data of a command -------------------------------------------------------------------------------------------------- */

static void flush_data(struct front *f)
{
    if (line.data.size > 0)
        front_ask_bytes(f, WIRE_DATA, buffer_slice(&line.data));
    buffer_reset(&line.data);
}

static void put_byte(struct front *f, unsigned char c)
{
    buffer_append_byte(&line.data, c);
    if (line.data.size >= WIRE_DATA_MAX)
        flush_data(f);
}

/* The line end that waited is one of the data after all. */
static void put_end(struct front *f)
{
    if (line.has_end)
        put_byte(f, '\n');
    line.has_end = false;
}

/* One byte; true: it was the last one. A CR is dropped where a LF follows, that is where it stands before the end. */
static bool take_byte(struct front *f, unsigned char c, unsigned char next)
{
    bool end_of_line = c == '\n' || (c == '\r' && next == '\n');

    if (c == '\r' && next == '\n')
        return false; /* its LF counts */
    if (line.at == AFTER_DOT) {
        if (end_of_line)
            return true;
        line.at = INSIDE; /* the dot was stuffing, or is none of ours */
    } else if (line.at == BEGIN && c == '.') {
        line.at = AFTER_DOT;
        return false;
    }
    if (!end_of_line) {
        line.at = INSIDE;
        put_end(f);
        put_byte(f, c);
        return false;
    }
    put_end(f);
    line.has_end = true;
    line.at = BEGIN;
    return false;
}

/* False: the input is used up. */
static bool take_data(struct front *f, struct slice input)
{
    size_t used = 0;
    bool last = false;

    /* A CR at the end waits for what follows. */
    while (!last && used < input.size && (input.at[used] != '\r' || used + 1 < input.size)) {
        last = take_byte(f, input.at[used], used + 1 < input.size ? input.at[used + 1] : 0);
        used++;
    }
    stream_consume(f->stream, used);
    if (!last)
        return false;
    flush_data(f);
    stream_deadline(f->stream, 0);
    line.state = BUSY;
    front_ask_bytes(f, WIRE_DATA_END, SLICE_EMPTY);
    return true;
}

/* ---- lines ------------------------------------------------------------------------------------------------------------- */

static void take_line(struct front *f, struct slice text)
{
    if (line.state == AWAITS_VERSION)
        take_version(f, text);
    else if (line.state == AWAITS_LOGIN)
        take_login(f, text);
    else
        take_command(f, text);
}

static void line_input(struct front *f)
{
    while (!f->ending && line.state != CHECKING && line.state != BUSY) {
        struct slice input = stream_input(f->stream);
        size_t most = line.state == IDLE ? WIRE_PACKET_MAX - 1 : LOGIN_LINE_MAX;
        ptrdiff_t end;
        struct buffer text = {0};

        if (line.state == DATA) {
            if (!take_data(f, input))
                return;
            continue;
        }
        end = slice_find(slice_head(input, most), '\n');
        if (end < 0) {
            if (input.size >= most)
                front_end(f);
            return;
        }
        buffer_append(&text, input.at, (size_t)end);
        if (text.size > 0 && text.at[text.size - 1] == '\r')
            text.size--;
        stream_consume(f->stream, (size_t)end + 1);
        take_line(f, buffer_slice(&text));
        buffer_wipe(&text);
    }
}

const struct front_protocol front_line = {"line", start_line, line_input, line_output, line_log, line_answer};
