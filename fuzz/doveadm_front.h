/* Around a protocol of doveadm-front: a client whose bytes come in pieces, and a server that agrees to what it is asked.
 * Include it before the protocol's source, which is tested with its own static state. */
#include "base/base.h"
#include "server/front.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct front front;
    const struct front_protocol *protocol;
    struct buffer input;
    size_t taken;
    enum wire_ask asked;           /* 0 = nothing to answer */
    bool wants_input;              /* what the server says to the next command */
} fuzz;

struct slice stream_input(const struct stream *s)
{
    (void)s;
    return slice_from(buffer_slice(&fuzz.input), fuzz.taken);
}

void stream_consume(struct stream *s, size_t size)
{
    (void)s;
    if (size > fuzz.input.size - fuzz.taken)
        abort();
    fuzz.taken += size;
}

void stream_write(struct stream *s, struct slice bytes)
{
    (void)s;
    if (bytes.size > 0 && bytes.at == NULL)
        abort();
}

void stream_print(struct stream *s, const char *fmt, ...)
{
    (void)s, (void)fmt;
}

void stream_deadline(struct stream *s, double seconds)
{
    (void)s, (void)seconds;
}

void front_start_tls(struct front *f)
{
    (void)f;
}

bool front_flag(const struct front *f, char flag)
{
    return strchr(f->flags, flag) != NULL;
}

void front_end(struct front *f)
{
    f->ending = true;
}

/* A packet must be one that the server takes, and a question comes only when the one before it is answered. */
void front_ask_bytes(struct front *f, enum wire_ask kind, struct slice bytes)
{
    if (bytes.size >= WIRE_PACKET_MAX || (kind == WIRE_DATA && bytes.size > WIRE_DATA_MAX) || f->ending)
        abort();
    if (kind == WIRE_DATA)
        return;
    if (fuzz.asked != 0)
        abort();
    fuzz.asked = kind;
}

void front_ask(struct front *f, enum wire_ask kind, const struct slice *texts, size_t count)
{
    size_t size = 0;

    for (size_t i = 0; i < count; i++)
        size += texts[i].size + 1;
    front_ask_bytes(f, kind, slice_of("", size));
}

static void answer(void)
{
    struct front *f = &fuzz.front;

    while (fuzz.asked != 0 && !f->ending) {
        enum wire_ask asked = fuzz.asked;

        fuzz.asked = 0;
        if (asked == WIRE_PLAIN || asked == WIRE_KEY) {
            fuzz.protocol->answer(f, WIRE_ACCEPTED, 0);
        } else if (asked != WIRE_DATA_END && asked != WIRE_LIST && fuzz.wants_input) {
            fuzz.protocol->answer(f, WIRE_WANTS_INPUT, 0);
        } else {
            fuzz.protocol->log(f, SLICE("\003log line\n"));
            fuzz.protocol->output(f, SLICE("[]"));
            fuzz.protocol->answer(f, WIRE_STATUS, 0);
        }
        if (!f->ending)
            fuzz.protocol->input(f);
    }
}

static void ignore_log(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix, (void)text;
}

/* The first byte: flags of the connection, whether commands want input, and in what pieces the rest comes. */
static void play(const struct front_protocol *protocol, const uint8_t *data, size_t size)
{
    static const char *const flags[] = {"pk", "u", "p", "k"};
    const unsigned char how = size == 0 ? 0 : data[0];
    const size_t piece = (how & 8) != 0 ? 1 + (size_t)(how >> 4) * 7 : size + 1;

    fuzz.front = (struct front){.flags = flags[how & 3], .ip = "127.0.0.1"};
    fuzz.protocol = protocol;
    fuzz.asked = 0;
    fuzz.taken = 0;
    fuzz.wants_input = (how & 4) != 0;
    log_capture(ignore_log, NULL);
    protocol->start(&fuzz.front);
    for (size_t at = 1; at < size && !fuzz.front.ending; at += piece) {
        buffer_append(&fuzz.input, data + at, size - at < piece ? size - at : piece);
        if (fuzz.asked == 0)
            protocol->input(&fuzz.front);
        answer();
    }
    buffer_free(&fuzz.input);
}
