/* penalty.c - growing delays for addresses that fail (auth.md 13). anvil keeps the values; if it does not answer, nobody
 * is delayed. */
#include "auth/conns.h"
#include "rpc/anvil_client.h"

#include <time.h>
#include <zlib.h>

#define PENALTY_MOST 4
#define SECS_MOST 15
#define EXPIRE_SECS 29
#define CLEAN_SECS 1.     /* for so long an address is known to have no penalty: nobody else gives any */
#define CLEAN_MOST 256

struct clean {
    char ident[NET_IP_TEXT];
    ev_tstamp until;
};

struct penalty {
    struct ev_loop *loop;
    struct anvil_client *anvil;
    unsigned given;                    /* penalties, since the start: an answer from before one says nothing of now */
    struct clean clean[CLEAN_MOST];    /* by the hash of the address */
};

struct question {
    struct penalty *penalty;
    struct request *request;
    unsigned given;
    void (*done)(void *arg, unsigned value, unsigned secs);
    void *arg;
};

struct penalty *penalty_new(struct server *s, int fd)
{
    struct penalty *p = mem_zero(1, sizeof(*p));

    p->loop = s->loop;
    p->anvil = anvil_client_new(s->loop, NULL, fd);
    anvil_penalty_expire(p->anvil, EXPIRE_SECS);
    return p;
}

void penalty_free(struct penalty *p)
{
    if (p == NULL)
        return;
    anvil_client_free(p->anvil);
    mem_free(p);
}

static unsigned secs_of(unsigned value)
{
    unsigned secs = 2U << value;

    return secs > SECS_MOST ? SECS_MOST : secs;
}

/* The address; IPv6 by its /48. "" without one: all such clients share a bucket. */
static void make_ident(const struct request *r, char out[NET_IP_TEXT])
{
    struct net_ip ip = r->remote.ip;

    if (ip.family == AF_INET6)
        memset(ip.bytes + 6, 0, 10);
    (void)net_ip_text(&ip, out);
}

static struct clean *clean_of(struct penalty *p, const char *ident)
{
    return &p->clean[crc32(0, (const Bytef *)ident, (uInt)strlen(ident)) % CLEAN_MOST];
}

static bool is_clean(struct penalty *p, const char *ident)
{
    const struct clean *c = clean_of(p, ident);

    return c->until > ev_now(p->loop) && strcmp(c->ident, ident) == 0;
}

static void note_clean(struct penalty *p, const struct request *r)
{
    char ident[NET_IP_TEXT];
    struct clean *c;

    make_ident(r, ident);
    c = clean_of(p, ident);
    memcpy(c->ident, ident, sizeof(ident));
    c->until = ev_now(p->loop) + CLEAN_SECS;
}

static void answered(void *arg, bool ok, unsigned value, uint64_t last)
{
    struct question *q = arg;
    struct question copy = *q;
    uint64_t now = (uint64_t)time(NULL), age = now > last ? now - last : 0;

    mem_free(q);
    if (ok && value == 0 && copy.given == copy.penalty->given)
        note_clean(copy.penalty, copy.request);
    if (!ok)
        value = 0;
    if (value > PENALTY_MOST)
        value = PENALTY_MOST;
    /* It decays by one for each of its own delays that has passed. */
    for (unsigned d = PENALTY_MOST; value > 0 && age >= secs_of(d); d--) {
        value--;
        if (d == 0)
            break;
    }
    copy.done(copy.arg, value, value == 0 ? 0 : secs_of(value));
    request_unref(copy.request);
}

void penalty_ask(struct penalty *p, struct request *r, void (*done)(void *, unsigned, unsigned), void *arg)
{
    struct question *q;
    char ident[NET_IP_TEXT];

    make_ident(r, ident);
    if (is_clean(p, ident)) {
        done(arg, 0, 0);
        return;
    }
    q = mem_zero(1, sizeof(*q));
    q->penalty = p;
    q->request = request_ref(r);
    q->given = p->given;
    q->done = done;
    q->arg = arg;
    anvil_penalty_get(p->anvil, ident, answered, q);
}

static uint32_t checksum(const struct request *r)
{
    uLong sum = crc32(0, NULL, 0);

    if (r->password == NULL)
        return 0;
    sum = crc32(sum, (const Bytef *)r->password, (uInt)strlen(r->password));
    if (r->user != NULL)
        sum = crc32(sum, (const Bytef *)r->user, (uInt)strlen(r->user));
    return (uint32_t)sum;
}

void penalty_failed(struct penalty *p, const struct request *r, unsigned value)
{
    char ident[NET_IP_TEXT];

    make_ident(r, ident);
    p->given++;
    clean_of(p, ident)->until = 0;
    anvil_penalty_inc(p->anvil, ident, checksum(r), value < PENALTY_MOST ? value + 1 : PENALTY_MOST);
}

void penalty_succeeded(struct penalty *p, const struct request *r, unsigned value)
{
    char ident[NET_IP_TEXT];

    if (value == 0)
        return;
    make_ident(r, ident);
    anvil_penalty_inc(p->anvil, ident, 0, 0);
}
