/* libexec/log: the log service. Reads one pipe a service (descriptors 7...), knows the prefix and address that each
 * process has set, writes the lines where the configuration says, and keeps the last errors for `doveadm log errors`.
 *
 * It ends when every pipe has ended: after a reload the old log process serves the old processes to their last word.
 * Statuses of its own: 80 a log file cannot be opened, 81 not written, 82 anything else (ipc 2.3). */
#include "log/log_protocol.h"
#include "log/log_sink.h"
#include "rpc/service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <uthash.h>

enum { EXIT_CANT_OPEN = 80, EXIT_CANT_WRITE = 81, READ_SIZE = 16384, RING_SIZE = 1000, RING_BYTES = 1 << 20,
       PROCESSES_MAX = 100000 };
#define COLLECT_SECS 0.001

/* What a process has said about itself. */
struct speaker {
    uint32_t pid;
    char *prefix, *ip;       /* NULL = not set */
    bool fatal;              /* has logged a fatal line itself */
    UT_hash_handle hh;
};

struct source {
    struct state *state;
    int fd;
    bool master;
    bool greeted, skipping;  /* skipping: the rest of an over-long line */
    char *prefix;
    struct buffer input;
    struct speaker *speakers;
    ev_io watcher;
};

struct ring_line {
    enum log_level level;
    time_t when;
    char *prefix, *text;
};

struct state {
    struct service *service;
    struct log_sink *sink;
    struct source **sources;
    size_t source_count, open_count;
    struct ring_line ring[RING_SIZE];
    size_t ring_first, ring_count, ring_bytes;
    ev_signal reopen;
};

/* ---- writing --------------------------------------------------------------------------------------------------- */

static void forget_oldest(struct state *state)
{
    struct ring_line *line = &state->ring[state->ring_first];

    state->ring_bytes -= strlen(line->prefix) + strlen(line->text);
    mem_free(line->prefix);
    mem_free(line->text);
    state->ring_first = (state->ring_first + 1) % RING_SIZE;
    state->ring_count--;
}

static void remember(struct state *state, enum log_level level, struct slice prefix, struct slice text)
{
    struct ring_line *line;

    if (level < LOG_LEVEL_WARNING)
        return;
    while (state->ring_count == RING_SIZE || (state->ring_count > 0 && state->ring_bytes + text.size > RING_BYTES))
        forget_oldest(state);
    line = &state->ring[(state->ring_first + state->ring_count++) % RING_SIZE];
    *line = (struct ring_line){level, time(NULL), mem_strndup(prefix), mem_strndup(text)};
    state->ring_bytes += strlen(line->prefix) + strlen(line->text);
}

static void emit(struct state *state, enum log_level level, struct slice prefix, struct slice text)
{
    struct error error;

    remember(state, level, prefix, text);
    if (log_sink_write(state->sink, level, prefix, text, &error) == 0)
        return;
    fprintf(stderr, "%s\n", error.admin);
    exit(EXIT_CANT_WRITE);
}

/* ---- speakers -------------------------------------------------------------------------------------------------- */

static struct speaker *find_speaker(struct source *source, uint32_t pid, bool make)
{
    struct speaker *speaker;

    HASH_FIND(hh, source->speakers, &pid, sizeof(pid), speaker);
    if (speaker != NULL || !make || HASH_COUNT(source->speakers) >= PROCESSES_MAX)
        return speaker;
    speaker = mem_zero(1, sizeof(*speaker));
    speaker->pid = pid;
    HASH_ADD(hh, source->speakers, pid, sizeof(pid), speaker);
    return speaker;
}

static void forget_speaker(struct source *source, struct speaker *speaker)
{
    HASH_DEL(source->speakers, speaker);
    mem_free(speaker->prefix);
    mem_free(speaker->ip);
    mem_free(speaker);
}

static void set_option(struct source *source, const struct log_message *message)
{
    struct speaker *speaker = find_speaker(source, message->pid, true);
    char **place = NULL;
    size_t skip = 0;

    if (speaker == NULL)
        return;
    if (slice_starts(message->text, SLICE("prefix="))) {
        place = &speaker->prefix;
        skip = 7;
    } else if (slice_starts(message->text, SLICE("ip="))) {
        place = &speaker->ip;
        skip = 3;
    } else {
        return;
    }
    mem_free(*place);
    *place = mem_strndup(slice_from(message->text, skip));
}

static void take_message(struct source *source, struct slice line)
{
    struct log_message message;
    struct slice prefix = slice_from_str(source->prefix);
    struct speaker *speaker;

    log_protocol_parse(line, &message);
    if (message.plain && line.size == 0)
        return;
    if (!message.plain && message.type == LOG_PROTOCOL_OPTION) {
        set_option(source, &message);
        return;
    }
    speaker = message.plain ? NULL : find_speaker(source, message.pid, message.type >= LOG_LEVEL_FATAL);
    if (message.has_prefix)
        prefix = message.prefix;
    else if (message.no_service_prefix)
        prefix = SLICE_EMPTY;
    else if (speaker != NULL && speaker->prefix != NULL)
        prefix = slice_from_str(speaker->prefix);
    if (speaker != NULL && message.type >= LOG_LEVEL_FATAL)
        speaker->fatal = true;
    emit(source->state, (enum log_level)message.type, prefix, message.text);
}

/* ---- the pipe "MASTER" ----------------------------------------------------------------------------------------- */

static struct source *source_of(struct state *state, uint32_t fd)
{
    for (size_t i = 0; i < state->source_count; i++)
        if ((uint32_t)state->sources[i]->fd == fd)
            return state->sources[i];
    return NULL;
}

/* How a process ended, behind the prefix that it used last: "imap(u)<1><s>: Fatal: master: service(imap): child..." */
static void report_end(struct source *source, const struct log_order *order)
{
    struct speaker *speaker = find_speaker(source, order->pid, false);
    struct buffer text = {0};

    if (order->what == LOG_ORDER_DEFAULT_FATAL && speaker != NULL && speaker->fatal)
        return;
    buffer_append_str(&text, "master: ");
    buffer_append_slice(&text, order->text);
    if (speaker != NULL && speaker->ip != NULL)
        buffer_printf(&text, " [last ip=%s]", speaker->ip);
    emit(source->state, LOG_LEVEL_FATAL,
         slice_from_str(speaker != NULL && speaker->prefix != NULL ? speaker->prefix : source->prefix),
         buffer_slice(&text));
    buffer_free(&text);
}

static void take_data(struct source *source, struct slice chunk);

/* Words that a process wrote before it ended come first: its pipe is read out before its end is told. */
static void read_out(struct source *source)
{
    unsigned char chunk[READ_SIZE];

    for (int rounds = 0; rounds < 64; rounds++) {
        ssize_t n = read(source->fd, chunk, sizeof(chunk));

        if (n <= 0)
            return;
        take_data(source, slice_of(chunk, (size_t)n));
    }
}

static void take_order(struct state *state, struct slice line)
{
    struct log_order order;
    struct source *source;
    struct speaker *speaker;

    if (!log_protocol_order(line, &order) || (source = source_of(state, order.fd)) == NULL || source->master)
        return;
    read_out(source);
    if (order.what != LOG_ORDER_BYE) {
        report_end(source, &order);
        return;
    }
    speaker = find_speaker(source, order.pid, false);
    if (speaker != NULL)
        forget_speaker(source, speaker);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

static void take_line(struct source *source, struct slice line)
{
    /* Master's own messages come on the same pipe, in the protocol. */
    if (source->master && line.size > 0 && line.at[0] != 0x01)
        take_order(source->state, line);
    else
        take_message(source, line);
}

static void set_prefix(struct source *source, struct slice prefix)
{
    source->master = slice_equal_str(prefix, "MASTER");
    mem_free(source->prefix);
    source->prefix = source->master ? mem_strdup("master: ") : mem_strndup(prefix);
}

static bool take_handshake(struct source *source)
{
    struct slice prefix;
    size_t used;
    int result = log_protocol_handshake(buffer_slice(&source->input), &prefix, &used);

    if (result == 0)
        return false;
    source->greeted = true;
    if (result < 0)
        return true; /* a pipe whose beginning was read by a log process that has died */
    set_prefix(source, prefix);
    buffer_drop(&source->input, used);
    return true;
}

static void take_data(struct source *source, struct slice chunk)
{
    size_t done = 0;
    struct slice all;
    ptrdiff_t end;

    buffer_append_slice(&source->input, chunk);
    if (!source->greeted && !take_handshake(source))
        return;
    all = buffer_slice(&source->input);
    while ((end = slice_find(slice_from(all, done), '\n')) >= 0) {
        if (!source->skipping)
            take_line(source, slice_head(slice_from(all, done), (size_t)end));
        source->skipping = false;
        done += (size_t)end + 1;
    }
    buffer_drop(&source->input, done);
    if (source->input.size > LOG_PROTOCOL_LINE_MAX) {
        if (!source->skipping)
            take_line(source, buffer_slice(&source->input));
        source->skipping = true;
        buffer_reset(&source->input);
    }
    if (source->input.size == 0)
        buffer_free(&source->input);
}

static void close_source(struct source *source)
{
    struct state *state = source->state;
    struct speaker *speaker, *next;

    if (source->input.size > 0 && !source->skipping)
        take_line(source, buffer_slice(&source->input));
    buffer_free(&source->input);
    ev_io_stop(service_loop(state->service), &source->watcher);
    HASH_ITER(hh, source->speakers, speaker, next)
        forget_speaker(source, speaker);
    (void)close(source->fd);
    source->fd = -1;
    if (--state->open_count == 0)
        service_stop(state->service);
}

static void source_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct source *source = watcher->data;
    unsigned char chunk[READ_SIZE];
    ssize_t n;

    (void)loop, (void)events;
    for (int rounds = 0; rounds < 4; rounds++) { /* what a pipe holds */
        n = read(source->fd, chunk, sizeof(chunk));
        if (n <= 0)
            break;
        take_data(source, slice_of(chunk, (size_t)n));
        if ((size_t)n < sizeof(chunk))
            return;
    }
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_source(source);
}

/* ---- the service ----------------------------------------------------------------------------------------------- */

/* log-errors: everything that is remembered, then the end. */
static void dump_errors(struct state *state, int fd)
{
    struct buffer out = {0};
    struct error error;

    for (size_t i = 0; i < state->ring_count; i++) {
        const struct ring_line *line = &state->ring[(state->ring_first + i) % RING_SIZE];
        char level[16];

        (void)snprintf(level, sizeof(level), "%s", log_sink_level(line->level));
        level[0] = text_lower(level[0]);
        buffer_printf(&out, "%s\t%lld\t", level, (long long)line->when);
        text_tab_escape(&out, slice_from_str(line->prefix));
        buffer_append_byte(&out, '\t');
        text_tab_escape(&out, slice_from_str(line->text));
        buffer_append_byte(&out, '\n');
    }
    /* At most a megabyte to root's own client; a client that does not read loses what does not fit its buffer. */
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    {
        struct timeval patience = {.tv_sec = 1};

        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    }
    (void)os_write(fd, buffer_slice(&out), &error);
    buffer_free(&out);
    (void)close(fd);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    struct state *state = arg;
    struct source *source;

    if (!listener->fifo) {
        dump_errors(state, fd);
        service_client_end(state->service);
        return;
    }
    source = mem_zero(1, sizeof(*source));
    source->state = state;
    source->fd = fd;
    set_prefix(source, slice_from_str(listener->name)); /* until the handshake, or in its place */
    os_never_block(fd);
    state->sources = mem_realloc(state->sources, (state->source_count + 1) * sizeof(*state->sources));
    state->sources[state->source_count++] = source;
    state->open_count++;
    ev_io_init(&source->watcher, source_ready, fd, EV_READ);
    source->watcher.data = source;
    ev_io_start(service_loop(state->service), &source->watcher);
}

static void take_reopen(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct state *state = watcher->data;
    struct error error;

    (void)loop, (void)events;
    if (log_sink_reopen(state->sink, &error) < 0)
        emit(state, LOG_LEVEL_ERROR, SLICE("log: "), slice_from_str(error.admin));
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "log", .flags = SERVICE_NO_IDLE_EXIT | SERVICE_STAYS};
    static const struct service_handler handler = {.connected = connected};
    struct state *state = mem_zero(1, sizeof(*state));
    struct settings *set;
    struct error error;

    state->service = service_init(argc, argv, &options, state);
    /* Its standard error is master's own: lines there are read by people. */
    log_open_stderr("log: ", false);
    set = conf_settings(service_conf(state->service), NULL, &error);
    if (set == NULL || log_sink_open(set, &state->sink, &error) < 0) {
        fprintf(stderr, "log: Fatal: %s\n", error.admin);
        return EXIT_CANT_OPEN;
    }
    settings_unref(set);
    service_drop_privileges(state->service, 0);
    /* As soon as it can be: SIGUSR1 of a quick admin must not end us. */
    ev_signal_init(&state->reopen, take_reopen, SIGUSR1);
    state->reopen.data = state;
    ev_signal_start(service_loop(state->service), &state->reopen);
    /* Under load one turn takes the lines of many processes; a line that comes alone is written at once. */
    ev_set_io_collect_interval(service_loop(state->service), COLLECT_SECS);
    service_ready(state->service, &handler, state);
    return service_run(state->service);
}
