/* client.c - who asks for mailboxes to be indexed. */
#include "indexer/indexer.h"

#include <utlist.h>

struct index_client {
    struct indexer *indexer;
    struct line_conn *line;
    struct wait *waits;
    unsigned wait_count;
    bool greeted, held;            /* held: nothing is read until there is room */
    struct index_client *prev, *next;
};

/* One answer that is still to come. */
struct wait {
    struct index_waiter waiter;    /* first: queue.c's */
    struct index_client *client;
    uint32_t tag;
    struct wait *prev, *next;      /* the client's */
};

static void free_client(struct index_client *c)
{
    struct wait *wait, *next;
    struct service *service = c->indexer->service;

    DL_FOREACH_SAFE (c->waits, wait, next) {
        index_waiter_leave(&wait->waiter);
        mem_free(wait);
    }
    DL_DELETE(c->indexer->clients, c);
    c->indexer->client_count--;
    indexer_show(c->indexer);
    line_conn_free(c->line);
    mem_free(c);
    service_client_end(service);
}

/* Before the others' turn: who is full or finds the queue full is not read from. */
static void hold(struct index_client *c)
{
    bool held = index_queue_full(c->indexer->queue) || c->wait_count >= INDEXER_WAITS_MOST;

    if (held == c->held)
        return;
    c->held = held;
    line_conn_want_input(c->line, !held);
}

static void heard(struct index_waiter *waiter, int percent)
{
    struct wait *wait = (struct wait *)waiter;
    struct index_client *c = wait->client;

    /* Who does not read does not need to hear of every percent. */
    if (percent >= 0 && percent < INDEXER_DONE) {
        if (!line_conn_full(c->line))
            line_conn_print(c->line, "%u\t%d\n", wait->tag, percent);
        return;
    }
    line_conn_print(c->line, "%u\t%d\n", wait->tag, percent);
    DL_DELETE(c->waits, wait);
    c->wait_count--;
    mem_free(wait);
    hold(c);
}

/* The peer, as the log of the original names it. */
static void log_peer(struct index_client *c, const char *text)
{
    char peer[LINE_PEER_SIZE];

    log_error(NULL, "%s: %s", line_conn_peer(c->line, "indexer", peer), text);
}

static void take_version(struct index_client *c, struct slice line)
{
    struct error e;
    unsigned minor;

    if (line_check_version(line, INDEXER_VERSION_NAME, INDEXER_VERSION, &minor, &e) < 0) {
        log_peer(c, e.admin);
        free_client(c);
        return;
    }
    c->greeted = true;
}

static void take_request(struct index_client *c, const struct indexer_request *r)
{
    struct wait *wait = NULL;

    line_conn_print(c->line, "%u\tOK\n", r->tag);
    if (r->tag != 0) {
        wait = mem_zero(1, sizeof(*wait));
        wait->waiter.heard = heard;
        wait->client = c;
        wait->tag = r->tag;
        DL_APPEND(c->waits, wait);
        c->wait_count++;
    }
    (void)index_queue_add(c->indexer->queue, r, wait == NULL ? NULL : &wait->waiter); /* there is room: we read */
    hold(c);
    index_hands_start(c->indexer);
}

static void take_line(void *arg, struct slice line)
{
    struct index_client *c = arg;
    struct arena *arena = arena_new();
    struct indexer_request request;
    struct error e;

    if (!c->greeted) {
        take_version(c, line);
    } else if (line.size == 0) {
        log_peer(c, "Unexpectedly received empty line");
        free_client(c);
    } else if (indexer_request_read(arena, line, &request, &e) < 0) {
        log_error(NULL, "Client input error: %s", e.admin);
        free_client(c);
    } else {
        take_request(c, &request);
    }
    arena_free(arena);
}

/* Clients may close right after they have sent; what they have asked for stays. */
static void take_close(void *arg, const struct error *e)
{
    struct index_client *c = arg;

    if (e->class != ERROR_NONE)
        log_peer(c, e->admin);
    free_client(c);
}

void index_client_new(struct indexer *x, int fd)
{
    static const struct line_handler handler = {.line = take_line, .closed = take_close};
    static const struct line_limits limits = {.line_max = INDEXER_LINE_MAX};
    struct index_client *c = mem_zero(1, sizeof(*c));

    c->indexer = x;
    c->line = line_conn_new(x->loop, fd, &limits, &handler, c);
    DL_APPEND(x->clients, c);
    x->client_count++;
    indexer_show(x);
    line_conn_send_version(c->line, INDEXER_VERSION_NAME, INDEXER_VERSION, 0);
    hold(c);
}

void index_clients_resume(struct indexer *x)
{
    struct index_client *c;

    DL_FOREACH (x->clients, c)
        hold(c);
}

void index_clients_free(struct indexer *x)
{
    while (x->clients != NULL)
        free_client(x->clients);
}
