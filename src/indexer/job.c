/* job.c - one mailbox is indexed: open, sync, fill the cache, finish the sum of sizes (ipc 13).
 *
 * Runs in slices beside other jobs of the process. Whatever fails is logged here, and the answer says only that it failed; a mailbox
 * that does not exist fails without a word, since it may have gone while its request waited. */
#include "indexer/worker.h"

#include "rpc/session_id.h"
#include "store/log_prefix.h"
#include "store/store.h"

#include <stdio.h>
#include <unistd.h>

enum { SLICE_MS = 5, NOTE_EVERY = 100 };
enum stage { STAGE_SYNC, STAGE_CACHE, STAGE_SUM, STAGE_DONE };

struct job {
    struct index_worker *worker;
    struct arena *arena;
    uint32_t id;
    struct indexer_work work;
    struct settings *set;
    const char *session;
    struct log log;              /* of the user */
    struct mail_user *user;
    struct mailbox *box;
    struct mailbox_view *view;
    struct store_op *op;
    enum stage stage;
    struct mailbox_precache cached;
    uint32_t noted;              /* messages at the last note */
    uint64_t started_ns;
    ev_timer retry;
    ev_idle more;
};

static void wake(void *arg);

/* ---- what others see --------------------------------------------------------------------------------------------- */

/* For `ps` (verbose_proctitle): "[user mailbox - done/all]"; all 0: not known yet. */
static void show(struct job *j, uint32_t done, uint32_t all)
{
    char text[256], progress[32] = "";

    if (!service_titled())
        return;
    if (all > 0)
        (void)snprintf(progress, sizeof(progress), " - %u/%u", done, all);
    (void)snprintf(text, sizeof(text), "%s %s%s", j->work.user, j->work.mailbox, progress);
    service_title(text);
}

/* The event of the original's workers, but for the processor time. */
static void tell_stats(struct job *j)
{
    const char *const categories[] = {"service:indexer-worker", "storage", mailbox_format(j->box), "mailbox", "indexer-worker", NULL};
    const struct stats_out_field fields[] = {
        {"user", stats_text(j->work.user)},
        {"session", stats_text(j->session)},
        {"mailbox", stats_text(mailbox_where(j->box)->vname)},
        {"message_count", stats_number(j->cached.cached)},
        {"first_uid", stats_number(j->cached.first_uid)},
        {"last_uid", stats_number(j->cached.last_uid)},
    };
    const struct stats_out event = {.name = "indexer_worker_indexing_finished", .categories = categories, .file = __FILE__, .line = __LINE__,
                                    .took_ns = time_monotonic_ns() - j->started_ns, .fields = fields,
                                    .count = sizeof(fields) / sizeof(fields[0])};

    if (stats_client_on(j->worker->stats))
        stats_client_send(j->worker->stats, &event);
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static void finish(struct job *j, bool well)
{
    static const char *const done[] = {"100"}, *const failed[] = {"-1"};

    ev_timer_stop(j->worker->loop, &j->retry);
    ev_idle_stop(j->worker->loop, &j->more);
    store_op_free(&j->op);
    mailbox_view_close(&j->view);
    mailbox_close(&j->box);
    mail_user_close(&j->user);
    settings_unref(j->set);
    if (--j->worker->jobs == 0)
        service_title("idling");
    dispatch_worker_answer(j->worker->dispatch, j->id, well ? done : failed, 1);
    arena_free(j->arena); /* the job itself lives in it */
}

static void fail(struct job *j, const struct error *e, const char *what)
{
    /* What is wrong with a name is said of the name already. */
    if (e->class != ERROR_NOT_FOUND)
        log_error(&j->log, "Mailbox %s: %s%s", j->work.mailbox, what, e->class == ERROR_INVALID && e->user[0] != '\0' ? e->user : e->admin);
    finish(j, false);
}

/* ---- stages ------------------------------------------------------------------------------------------------------ */

static void begin_cache(struct job *j)
{
    if (j->work.max_recent != 0 && mailbox_view_recent_count(j->view) > j->work.max_recent) {
        j->stage = STAGE_DONE;
        return;
    }
    j->stage = STAGE_CACHE;
    j->op = mailbox_precache(j->view, &j->cached);
}

static void stage_over(struct job *j)
{
    switch (j->stage) {
    case STAGE_SYNC:
        j->view = mailbox_view_open(j->box, true);
        if (j->work.index) {
            begin_cache(j);
            return;
        }
        break;
    case STAGE_CACHE: {
        char uids[64] = "";

        if (j->cached.first_uid != 0)
            (void)snprintf(uids, sizeof(uids), " (UIDs %u..%u)", j->cached.first_uid, j->cached.last_uid);
        tell_stats(j);
        log_debug(&j->log, "Mailbox %s: Indexed %u messages%s", j->work.mailbox, j->cached.cached, uids);
        break;
    }
    default:
        j->stage = STAGE_DONE;
        return;
    }
    j->stage = STAGE_SUM;
    j->op = mailbox_finish_vsize(j->box);
}

static void failed(struct job *j, const struct error *e)
{
    if (j->stage == STAGE_CACHE)
        log_error(&j->log, "Mailbox %s: Mail search failed: %s (attempted to index %u messages (UIDs %u..%u))", j->work.mailbox, e->admin,
                  j->cached.seq - j->cached.first + 1, j->cached.first_uid, j->cached.last_uid);
    else if (e->class != ERROR_NOT_FOUND)
        log_error(&j->log, "Mailbox %s: Syncing failed: %s", j->work.mailbox, e->admin);
    finish(j, false);
}

/* Percents, as often as the original's workers say them. */
static void note_progress(struct job *j)
{
    char percent[16];
    const char *field = percent;
    uint32_t all, done;

    if (j->stage != STAGE_CACHE || j->cached.first == 0 || j->cached.seq < j->cached.first)
        return;
    done = j->cached.seq - j->cached.first + 1;
    all = j->cached.last - j->cached.first + 1;
    if (done / NOTE_EVERY == j->noted / NOTE_EVERY || done >= all)
        return;
    j->noted = done;
    show(j, done, all);
    (void)snprintf(percent, sizeof(percent), "%u", (unsigned)((uint64_t)done * 100 / all));
    dispatch_worker_note(j->worker->dispatch, j->id, &field, 1);
}

static void step(struct job *j)
{
    struct budget budget = budget_ms(SLICE_MS);
    enum step r = STEP_DONE;
    struct error e = {0};
    unsigned ms;

    ev_timer_stop(j->worker->loop, &j->retry);
    ev_idle_stop(j->worker->loop, &j->more);
    while (j->stage != STAGE_DONE) {
        store_op_set_wake(j->op, wake, j);
        r = store_op_step(j->op, &budget, &e);
        if (r != STEP_DONE)
            break;
        store_op_free(&j->op);
        stage_over(j);
    }
    if (r == STEP_ERROR) {
        failed(j, &e);
    } else if (r == STEP_DONE) {
        finish(j, true);
    } else if (r == STEP_WAIT) {
        ms = store_op_retry_ms(j->op);
        if (ms > 0) {
            ev_timer_set(&j->retry, ms / 1000., 0.);
            ev_timer_start(j->worker->loop, &j->retry);
        }
    } else {
        note_progress(j);
        ev_idle_start(j->worker->loop, &j->more);
    }
}

static void wake(void *arg)
{
    struct job *j = arg;

    ev_idle_start(j->worker->loop, &j->more);
}

static void retry_now(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)events;
    step(w->data);
}

static void go_on(struct ev_loop *loop, ev_idle *w, int events)
{
    (void)loop, (void)events;
    step(w->data);
}

/* ---- the beginning ----------------------------------------------------------------------------------------------- */

/* "ID", or "PREFIX:ID" of a request that names a session. */
static const char *session_id(struct arena *arena, const char *prefix)
{
    char id[SESSION_ID_SIZE];

    session_id_new(id);
    return arena_printf(arena, "%s%s%s", prefix, *prefix == '\0' ? "" : ":", id);
}

static int open_user(struct job *j, const struct dispatch_request *request, struct error *e)
{
    const struct conf_filter filter = {.service = "indexer-worker"};
    struct settings *set = conf_settings(service_conf(j->worker->service), &filter, e);
    struct mail_user_params params = {.username = arena_strdup(j->arena, request->user), .home = rpc_fields_get(&request->userdb, "home"),
                                      .service = "indexer-worker", .session_id = j->session, .fields = rpc_fields_texts(j->arena, &request->userdb),
                                      .log = &j->log, .find_home = auth_homes_find, .find_home_arg = j->worker->homes, .no_notify = true};

    if (set == NULL)
        return -1;
    j->set = settings_override_all(set, params.fields, e);
    settings_unref(set);
    if (j->set == NULL)
        return -1;
    j->log.debug = conf_bool(j->set, SET_mail_debug);
    j->log.prefix = mail_user_log_prefix(j->set, &params, j->arena);
    return mail_user_open(&j->user, j->set, &params, e);
}

void index_job_start(struct index_worker *w, const struct dispatch_request *request)
{
    struct arena *arena = arena_new();
    struct job *j = ARENA_NEW(arena, struct job);
    struct mailbox_place place;
    struct error e;

    j->worker = w;
    j->arena = arena;
    j->id = request->id;
    j->started_ns = time_monotonic_ns();
    w->jobs++;
    ev_init(&j->retry, retry_now);
    ev_init(&j->more, go_on);
    j->retry.data = j->more.data = j;
    if (indexer_work_read(arena, request->input, &j->work, &e) == 0)
        j->session = session_id(arena, j->work.session);
    if (j->session == NULL || open_user(j, request, &e) < 0) {
        log_error(&j->log, "User initialization failed: %s", e.admin);
        finish(j, false);
        return;
    }
    show(j, 0, 0);
    mail_user_set_unchecked(j->user, true); /* whoever may see what is cached has the right to see the message */
    if (mailbox_place(j->user, arena, slice_from_str(j->work.mailbox), &place, &e) < 0 || mailbox_open(&j->box, &place, 0, &e) < 0) {
        fail(j, &e, "Syncing failed: ");
        return;
    }
    if (index_in_memory(mailbox_index(j->box))) {
        log_info(&j->log, "Mailbox %s: Indexes disabled, skipping", j->work.mailbox);
        finish(j, true);
        return;
    }
    j->op = mailbox_sync(j->box, NULL, SYNC_FULL);
    ev_idle_start(w->loop, &j->more);
}
