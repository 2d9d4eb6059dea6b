/* idle.c - IDLE (RFC 2177, imap 6.3).
 *
 * News comes from inotify or from other sessions of this process (store.h, mailbox_watch_add). A burst is told once:
 * the first piece of news waits NEWS_MS for those that come with it. */
#include "imap/notify.h"
#include "imap/session.h"

enum { NEWS_MS = 5 };

static void on_news(void *arg)
{
    struct session *s = arg;

    if (s->news)
        return;
    s->news = true;
    ev_timer_stop(worker_loop(s->worker), &s->alarm);
    ev_timer_set(&s->alarm, NEWS_MS / 1000.0, 0);
    ev_timer_start(worker_loop(s->worker), &s->alarm);
}

/* Sessions of one user are woken at the same moment of the interval, for the sake of phones (imap 6.1). */
static void plan_keepalive(struct session *s)
{
    uint64_t interval = (uint64_t)conf_secs(s->set, SET_imap_idle_notify_interval) * 1000000000u;
    uint64_t now = time_monotonic_ns(), hash = 5381;

    if (interval == 0) {
        s->keepalive_ns = 0;
        return;
    }
    for (const char *c = mail_user_name(s->user); *c != '\0'; c++)
        hash = hash * 33 + (unsigned char)*c;
    s->keepalive_ns = now + interval - (now + hash * 1000000u % interval) % interval;
    if (s->keepalive_ns - now < interval / 2)
        s->keepalive_ns += interval;
}

static void set_alarm(struct session *s)
{
    uint64_t now = time_monotonic_ns();
    double wait = 0, poll = conf_secs(s->set, SET_mailbox_idle_check_interval);

    if (s->keepalive_ns != 0)
        wait = s->keepalive_ns > now ? (double)(s->keepalive_ns - now) / 1e9 : 0.001;
    if (s->view != NULL && s->watch == NULL && poll > 0 && (wait <= 0 || wait > poll))
        wait = poll;
    ev_timer_stop(worker_loop(s->worker), &s->alarm);
    if (wait > 0) {
        ev_timer_set(&s->alarm, wait, 0);
        ev_timer_start(worker_loop(s->worker), &s->alarm);
    }
}

void idle_begin(struct session *s, struct request *r)
{
    (void)r;
    session_print(s, "+ idling");
    if (s->view != NULL)
        s->watch = mailbox_watch_add(s->box, on_news, s);
    s->news = true; /* what came before is told at once */
    plan_keepalive(s);
}

static enum step read_done(struct session *s, struct request *r)
{
    struct slice in = session_input(s), line;
    ptrdiff_t lf = slice_find(in, '\n');

    if (lf < 0 && in.size < 1024)
        return STEP_INPUT;
    line = slice_trim(slice_head(in, lf < 0 ? in.size : (size_t)lf));
    if (slice_equal_str_nocase(line, "DONE"))
        request_reply(r, "OK Idle completed.");
    else
        request_reply(r, "BAD Expected DONE.");
    if (lf < 0) {
        s->phase = PHASE_SKIP; /* the rest of that line */
        return STEP_DONE;
    }
    session_consume(s, (size_t)lf + 1);
    return STEP_DONE;
}

enum step idle_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    uint64_t now = time_monotonic_ns();
    enum step step;

    (void)e;
    if (s->view != NULL && s->watch == NULL && s->sync == NULL)
        s->news = true; /* no watches on this system: the alarm looks */
    if (s->news || s->sync != NULL) {
        size_t before = stream_pending(s->io);

        s->news = s->sync == NULL ? false : s->news;
        step = sync_news(s, budget);
        if (step != STEP_DONE)
            return step;
        if (s->phase == PHASE_OVER)
            return STEP_DONE;
        if (stream_pending(s->io) != before)
            plan_keepalive(s);
        if (s->box != NULL)
            index_cache_flush(mailbox_index(s->box));
    } else if (s->keepalive_ns != 0 && now >= s->keepalive_ns) {
        if (stream_pending(s->io) == 0)
            session_print(s, "* OK Still here");
        plan_keepalive(s);
    }
    if (s->news)
        return STEP_MORE;
    if (s->sync == NULL && notify_pending(s)) {
        size_t before = stream_pending(s->io);

        step = notify_step(s, budget);
        if (step != STEP_DONE)
            return step;
        if (stream_pending(s->io) != before)
            plan_keepalive(s);
    }
    step = read_done(s, r);
    if (step == STEP_INPUT)
        set_alarm(s);
    return step;
}

void idle_end(struct session *s, struct request *r)
{
    (void)r;
    mailbox_watch_remove(&s->watch);
    ev_timer_stop(worker_loop(s->worker), &s->alarm);
    s->news = false;
}
