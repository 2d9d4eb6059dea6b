/* hibernate.c - a session goes to rest, and comes back (hibernate.h).
 *
 * Going: first a watch of its own on the mailbox is opened, then the mailbox is looked at once more: what happens between
 * that look and the moment when imap-hibernate begins to wait lies in the watch. Coming back: the view shows what the client
 * was told last, and the ordinary synchronisation of IDLE tells the difference. */
#include "imap/hibernate.h"
#include "imap/notify.h"

#include "net/loop.h"
#include "rpc/handoff.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { HANDOFF_SECS = 10, LINE_MOST = 112 * 1024, LOOKS_MOST = 3 };

struct hibernation {
    struct handoff *handoff;
    int notify_fd;             /* -1: no mailbox is selected */
    unsigned looks;
};

uint64_t hibernate_after_ns(const struct session *s)
{
    return s->origin == NULL ? 0 : (uint64_t)conf_secs(s->set, SET_imap_hibernate_timeout) * 1000000000u;
}

/* Everything that a text cannot hold, or that is still going on, stays here. */
static bool may_rest(struct session *s)
{
    return s->hibernation == NULL && s->phase == PHASE_RUN && s->now != NULL && s->finished == NULL && s->sync == NULL &&
           !s->news && !s->closed && !stream_ended(s->io) && stream_pending(s->io) == 0 && stream_input(s->io).size == 0 &&
           compression_may_rest(s) && !s->compress_next && s->notify == NULL && s->updates == NULL && s->rawlog == NULL &&
           (s->view == NULL || !index_view_changed(mailbox_view_index(s->view)));
}

static void report(struct session *s, const struct error *e)
{
    static bool told;

    s->rest_failed = true;
    if (e->class == ERROR_UNSUPPORTED) {
        log_debug(&s->log, "Couldn't hibernate imap client: %s", e->admin);
    } else if (!told || e->sys != EMFILE) { /* the limit is the user's: one line a process is enough */
        told = told || e->sys == EMFILE;
        log_error(&s->log, "Couldn't hibernate imap client: %s", e->admin);
    }
}

static void put_number(struct buffer *out, const char *key, uint64_t n)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    line_pair(out, key, text);
}

static void put_base64(struct buffer *out, const char *key, struct slice bytes)
{
    struct buffer text = {0};

    text_base64_encode(&text, bytes);
    line_pair(out, key, buffer_cstr(&text));
    buffer_free(&text);
}

static void put_line(struct session *s, const unsigned char guid[16], const struct index_past *past, struct buffer *out)
{
    struct arena *arena = worker_arena(s->worker);
    struct buffer state = {0};
    struct stat st = {0};

    (void)fstat(stream_fd(s->io), &st);
    line_begin(out, text_tab_escaped(arena, slice_from_str(mail_user_name(s->user))));
    line_field_str(out, conf_str(s->set, SET_mail_log_prefix)); /* imap-hibernate knows what is to be put in */
    put_number(out, "idle_notify_interval", conf_secs(s->set, SET_imap_idle_notify_interval));
    put_number(out, "peer_dev_major", major(st.st_dev));
    put_number(out, "peer_dev_minor", minor(st.st_dev));
    put_number(out, "peer_ino", st.st_ino);
    buffer_append_str(out, s->origin); /* begins with a TAB; escaped */
    put_number(out, "uid", geteuid());
    put_number(out, "gid", getegid());
    if (s->box != NULL)
        line_pair(out, "mailbox", mailbox_where(s->box)->vname);
    line_pair(out, "tag", s->now->tag);
    line_pair(out, "stats", session_stats_text(s, arena));
    line_field_str(out, "idle-cmd");
    if (s->compression != NULL) {
        line_field_str(out, "compress");
        compression_put_window(s, &state);
        put_base64(out, "window", buffer_slice(&state));
        buffer_reset(&state);
    }
    if (s->hibernation->notify_fd >= 0)
        line_field_str(out, "notify_fd");
    hibernate_state_put(s, guid, past, &state);
    put_base64(out, "state", buffer_slice(&state));
    buffer_reset(&state);
    hibernate_own_put(s, past, &state);
    put_base64(out, "yarilo", buffer_slice(&state));
    buffer_free(&state);
    worker_arena_back(s->worker, arena);
}

static void forget(struct session *s)
{
    struct hibernation *h = s->hibernation;

    s->hibernation = NULL;
    (void)handoff_free(h->handoff);
    if (h->notify_fd >= 0)
        (void)close(h->notify_fd);
    mem_free(h);
}

static void stay(struct session *s)
{
    forget(s);
    stream_want_input(s->io, true);
    s->news = true; /* what has come meanwhile */
    session_wake(s);
}

static void arrived(void *arg, enum handoff_end end, const char *text)
{
    struct session *s = arg;
    struct hibernation *h = s->hibernation;
    struct buffer rest = {0};
    struct error e;
    int fd;

    if (end != HANDOFF_TAKEN) {
        (void)error_set(&e, ERROR_TEMPORARY, "%s", text);
        report(s, &e);
        stay(s);
        return;
    }
    /* Silently: the client notices nothing, and no line is logged. */
    fd = stream_release(s->io, &rest);
    s->io = NULL;
    net_loop_forget(fd);
    (void)close(fd);
    buffer_free(&rest);
    s->hibernation = NULL;
    worker_session_over(s->worker, s);
    if (h->notify_fd >= 0)
        (void)close(h->notify_fd);
    (void)handoff_free(h->handoff); /* now it is imap-hibernate's */
    mem_free(h);
}

/* The watch is there: the next look at the mailbox is the last one. */
static int prepare(struct session *s, struct error *e)
{
    struct hibernation *h = mem_zero(1, sizeof(*h));

    h->notify_fd = -1;
    if (s->view != NULL) {
        h->notify_fd = mailbox_watch_open(s->box, e);
        if (h->notify_fd < 0) {
            mem_free(h);
            return -1;
        }
    }
    s->hibernation = h;
    return 0;
}

static int send_off(struct session *s, struct error *e)
{
    struct hibernation *h = s->hibernation;
    struct handoff_job job = {.protocol = "imap-hibernate", .fd = stream_fd(s->io), .second_fd = h->notify_fd,
                              .seconds = HANDOFF_SECS};
    struct index_past past = {0};
    struct buffer line = {0};
    unsigned char guid[16] = {0};
    char *path;

    if (s->view != NULL && mailbox_guid(s->box, guid, e) < 0)
        return -1;
    if (s->view != NULL)
        index_view_past(mailbox_view_index(s->view), &past);
    put_line(s, guid, &past, &line);
    index_ranges_free(&past.uids);
    if (line.size > LINE_MOST) {
        buffer_free(&line);
        return error_set(e, ERROR_UNSUPPORTED, "The session's state is too large");
    }
    path = mem_printf("%s/imap-hibernate", conf_str(s->set, SET_base_dir));
    job.path = path;
    job.line = buffer_slice(&line);
    h->handoff = handoff_start(worker_loop(s->worker), &job, arrived, s);
    mem_free(path);
    buffer_free(&line);
    return 0;
}

/* True: there were events. */
static bool drain(int fd)
{
    char events[1024];
    bool any = false;

    while (fd >= 0 && read(fd, events, sizeof(events)) > 0)
        any = true;
    return any;
}

bool hibernate_start(struct session *s)
{
    struct error e;

    if (s->hibernation == NULL) {
        if (!may_rest(s))
            return false;
        if (prepare(s, &e) < 0) {
            report(s, &e);
            return false;
        }
        s->news = true; /* the last look; idle_run comes here again */
        return true;
    }
    {
        struct hibernation *h = s->hibernation;
        bool rest;

        s->hibernation = NULL;
        rest = may_rest(s);
        s->hibernation = h;
        if (rest && h->looks++ < LOOKS_MOST && drain(h->notify_fd)) {
            s->news = true; /* maybe that was our own look, which took \Recent: it would wake us at once */
            return true;
        }
        if (!rest) { /* something has been told or has come: later */
            forget(s);
            return false;
        }
    }
    if (send_off(s, &e) < 0) {
        report(s, &e);
        forget(s);
        return false;
    }
    stream_want_input(s->io, false);
    return true;
}

bool hibernate_underway(const struct session *s)
{
    return s->hibernation != NULL && s->hibernation->handoff != NULL;
}

bool hibernate_cancel(struct session *s)
{
    struct hibernation *h = s->hibernation;
    bool taken;

    if (h == NULL)
        return false;
    taken = handoff_free(h->handoff);
    h->handoff = NULL;
    forget(s);
    return taken;
}

/* ---- coming back --------------------------------------------------------------------------------------------------------- */

static struct slice field_bytes(const struct rpc_fields *fields, const char *key, struct buffer *out)
{
    const char *text = rpc_fields_get(fields, key);

    if (text == NULL || text_base64_decode(out, slice_from_str(text)) < 0)
        return SLICE_EMPTY;
    return buffer_slice(out);
}

/* Dovecot's state names no UIDs: those that are there now and those that the log has seen go since. */
static int find_uids(struct index *index, struct hibernate_state *st, struct error *e)
{
    struct index_ranges gone = {0};
    struct index_record record;

    for (uint32_t uid = 1; index_get_from(index, uid, &record) && record.uid < st->past.next_uid; uid = record.uid + 1)
        index_ranges_add(&st->past.uids, record.uid, record.uid);
    if (imap_ranges_count(&st->past.uids) != st->messages && index_vanished_since(index, st->modseq, &gone, e) < 0) {
        index_ranges_free(&gone);
        return -1;
    }
    for (size_t i = 0; i < gone.count; i++) {
        for (uint64_t uid = gone.at[i].first; uid <= gone.at[i].last && uid < st->past.next_uid; uid++)
            index_ranges_add(&st->past.uids, (uint32_t)uid, (uint32_t)uid);
    }
    index_ranges_free(&gone);
    if (imap_ranges_count(&st->past.uids) != st->messages || hibernate_uid_crc(&st->past.uids) != st->uid_crc)
        return error_set(e, ERROR_CORRUPT, "The messages of the mailbox cannot be found again");
    return 0;
}

static int open_mailbox(struct session *s, struct arena *arena, struct hibernate_state *st, struct error *e)
{
    struct mailbox_place place;
    unsigned char guid[16];
    struct index *index;

    if (mailbox_place(s->user, arena, slice_from_str(st->mailbox), &place, e) < 0 || mailbox_open(&s->box, &place, 0, e) < 0)
        return -1;
    index = mailbox_index(s->box);
    if (index_refresh(index, e) == STEP_ERROR || mailbox_guid(s->box, guid, e) < 0)
        return -1;
    if (memcmp(guid, st->guid, sizeof(guid)) != 0)
        return error_set(e, ERROR_NOT_FOUND, "The mailbox has another GUID now");
    if (!st->has_uids && find_uids(index, st, e) < 0)
        return -1;
    s->view = mailbox_view_open_past(s->box, st->examined, &st->past, &st->recent);
    if (s->view == NULL)
        return error_set(e, ERROR_NOT_FOUND, "The mailbox is not the one that was selected");
    s->examined = st->examined;
    s->messages = st->messages;
    s->recent = mailbox_view_recent_count(s->view);
    s->modseq_told = st->modseq_told;
    s->modseq_confirmed = st->has_uids ? st->modseq_confirmed : st->modseq;
    s->modseq_fetched = st->modseq_fetched;
    s->modseq_heard = st->modseq > 0 ? st->modseq : 1;
    s->keywords_of = mem_strdup(place.vname);
    session_keywords_refresh(s);
    s->keywords_told = st->keywords < HASH_COUNT(s->keywords) ? st->keywords : HASH_COUNT(s->keywords);
    return 0;
}

bool hibernate_resume(struct session *s, const struct imap_login *login)
{
    const struct rpc_fields *fields = login->rested;
    struct arena *arena = worker_arena(s->worker);
    struct buffer state = {0}, own = {0};
    struct hibernate_state st;
    struct error e;
    int ret = 0;

    if (rpc_fields_has(fields, "compress") && !compression_resume(s, field_bytes(fields, "window", &own)))
        ret = error_set(&e, ERROR_INVALID, "The state of the compression is damaged");
    buffer_reset(&own);
    if (ret == 0)
        ret = hibernate_state_read(s, arena, field_bytes(fields, "state", &state), field_bytes(fields, "yarilo", &own), &st, &e);

    if (ret == 0) {
        s->id_logged = st.id_logged;
        if (st.selected)
            ret = open_mailbox(s, arena, &st, &e);
        s->saved = st.saved;
        st.saved = (struct index_ranges){0};
        hibernate_state_free(&st);
    }
    buffer_free(&state);
    buffer_free(&own);
    worker_arena_back(s->worker, arena);
    if (ret < 0) {
        log_error(&s->log, "Failed to unhibernate client: %s", e.admin);
        session_mailbox_lost(s);
        return false;
    }
    session_resume_idle(s, rpc_fields_get(fields, "tag"),
                        rpc_fields_has(fields, "bad-done")        ? "BAD Idle completed."
                        : rpc_fields_has(fields, "idle-continue") ? NULL
                                                                  : "OK Idle completed.");
    return true;
}
