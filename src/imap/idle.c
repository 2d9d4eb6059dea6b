/* idle.c - IDLE (RFC 2177, imap 6.3).
 *
 * News comes from inotify or from other sessions of this process (store.h, mailbox_watch_add). A burst is told once:
 * the first piece of news waits NEWS_MS for those that come with it. */
#include "imap/hibernate.h"
#include "imap/keepalive.h"
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

struct idle {
    const char *ended;         /* its answer: it has ended in imap-hibernate */
    uint64_t rest_ns;          /* when the session goes there; 0: it does not */
};

static void plan_keepalive(struct session *s)
{
    s->keepalive_ns = keepalive_next(mail_user_name(s->user), conf_secs(s->set, SET_imap_idle_notify_interval));
}

static void plan_rest(struct session *s, struct idle *idle)
{
    uint64_t after = s->rest_failed ? 0 : hibernate_after_ns(s);

    idle->rest_ns = after == 0 ? 0 : time_monotonic_ns() + after;
}

static void set_alarm(struct session *s, const struct idle *idle)
{
    uint64_t now = time_monotonic_ns(), next = s->keepalive_ns;
    double wait = 0, poll = conf_secs(s->set, SET_mailbox_idle_check_interval);

    if (idle->rest_ns != 0 && (next == 0 || idle->rest_ns < next))
        next = idle->rest_ns;
    if (next != 0)
        wait = next > now ? (double)(next - now) / 1e9 : 0.001;
    if (s->view != NULL && s->watch == NULL && poll > 0 && (wait <= 0 || wait > poll))
        wait = poll;
    ev_timer_stop(worker_loop(s->worker), &s->alarm);
    if (wait > 0) {
        ev_timer_set(&s->alarm, wait, 0);
        ev_timer_start(worker_loop(s->worker), &s->alarm);
    }
}

void idle_resume(struct session *s, struct request *r, const char *reply)
{
    struct idle *idle = r->state = ARENA_NEW(r->arena, struct idle);

    idle->ended = reply;
    if (s->view != NULL)
        s->watch = mailbox_watch_add(s->box, on_news, s);
    s->news = true; /* what came before is told at once */
    s->rest_failed = false;
    plan_keepalive(s);
    plan_rest(s, idle);
}

void idle_begin(struct session *s, struct request *r)
{
    session_print(s, "+ idling");
    r->bytes_in = r->parser.eol; /* the real server has read the line end by now */
    r->parser.eol = 0;
    idle_resume(s, r, NULL);
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
    struct idle *idle = r->state;
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
        if (stream_pending(s->io) != before) {
            plan_keepalive(s);
            plan_rest(s, idle);
        }
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
    if (idle->ended != NULL) {
        request_reply(r, "%s", idle->ended);
        r->untimed = true;
        return STEP_DONE;
    }
    step = read_done(s, r);
    if (step != STEP_INPUT)
        return step;
    if (idle->rest_ns != 0 && now >= idle->rest_ns) {
        if (!s->rest_failed && hibernate_start(s))
            return hibernate_underway(s) ? STEP_WAIT : STEP_MORE;
        plan_rest(s, idle); /* later, or never again: also when imap-hibernate has said no */
    }
    set_alarm(s, idle);
    return step;
}

void idle_end(struct session *s, struct request *r)
{
    (void)r;
    (void)hibernate_cancel(s);
    mailbox_watch_remove(&s->watch);
    ev_timer_stop(worker_loop(s->worker), &s->alarm);
    s->news = false;
}
