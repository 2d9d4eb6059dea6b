/* sync.c - what has changed in the selected mailbox, told in the oracle's order (imap 7.2, RFC 3501 section 7).
 *
 * A synchronisation first brings mailbox and index together (a store_op, in steps), then takes the changes into the
 * view. Requests that forbid EXPUNGE are answered first, in a pass that holds expunges back; then the others. The
 * lines are written in pieces, so that a hundred thousand changes do not pile up in the output buffer. */
#include "imap/notify.h"
#include "imap/updates.h"

enum sync_stage { STAGE_REFRESH, STAGE_PASS, STAGE_TELL };

struct sync_flag {
    uint32_t uid, seq;         /* seq: as before the expunges */
    bool own_silent, visible;
};

struct sync {
    enum sync_stage stage;
    struct store_op *op;
    bool hold;                 /* of this pass: no EXPUNGE */
    bool hold_answers;         /* ... which answers the requests that forbid it */
    bool second;               /* the pass without holding is still to come */
    bool tell_uid;
    bool delay;                /* delay-newmail, NOTIFY: nothing of new and gone messages */
    bool no_flags;             /* NOTIFY: nothing of flags */
    uint32_t new_first;        /* NOTIFY: messages from here on are new, their FETCH is to come; 0: none */
    struct request *fetch;     /* ... and is being sent */
    bool invalid;
    VEC(struct sync_flag) flags;
    VEC(struct index_change) expunged; /* highest number first */
    size_t flag_at, expunge_at;
    struct updates_pass *updates;  /* searches that are watched: looked at when all else is told */
};

/* ---- keywords ------------------------------------------------------------------------------------------------------- */

struct session_keyword *session_keyword_add(struct session *s, struct slice name)
{
    struct arena *arena = worker_arena(s->worker);
    struct slice key = text_lowered(arena, name);
    struct session_keyword *k;

    HASH_FIND(hh, s->keywords, key.at, key.size, k);
    if (k == NULL) {
        k = mem_zero(1, sizeof(*k));
        k->name = mem_strndup(name);
        k->key = mem_strndup(key);
        k->bit = -1;
        HASH_ADD_KEYPTR(hh, s->keywords, k->key, key.size, k);
    }
    worker_arena_back(s->worker, arena);
    return k;
}

void session_keyword_mention(struct session *s, struct slice name)
{
    if (HASH_COUNT(s->keywords) < SESSION_KEYWORDS_MENTIONED)
        session_keyword_add(s, name);
}

/* Takes the index's names into the session's order, behind those that it has. */
void session_keywords_refresh(struct session *s)
{
    struct index *index = mailbox_index(s->box);
    unsigned count = index_keyword_count(index);

    for (unsigned i = s->keywords_seen; i < count; i++)
        session_keyword_add(s, slice_from_str(index_keyword_name(index, i)))->bit = (int)i;
    s->keywords_seen = count;
}

void session_keywords_forget(struct session *s)
{
    struct session_keyword *k, *next;

    HASH_ITER(hh, s->keywords, k, next) {
        HASH_DEL(s->keywords, k);
        mem_free(k->name);
        mem_free(k->key);
        mem_free(k);
    }
    mem_free(s->keywords_of);
    s->keywords_of = NULL;
    s->keywords_told = s->keywords_seen = 0;
}

void session_keywords_begin(struct session *s, const char *vname)
{
    if (s->keywords_of != NULL && strcmp(s->keywords_of, vname) == 0)
        return;
    session_keywords_forget(s);
    s->keywords_of = mem_strdup(vname);
}

/* Puts a word behind those that stand from `start` on. */
static void put_word(struct buffer *out, size_t start, const char *word)
{
    if (out->size > start)
        buffer_append_byte(out, ' ');
    buffer_append_str(out, word);
}

void session_put_flags(struct session *s, struct buffer *out, uint8_t flags, bool recent, struct slice keywords)
{
    size_t start;
    bool any = false;

    buffer_append_byte(out, '(');
    start = out->size;
    index_flags_put(out, flags, recent && !s->rev2);
    for (size_t i = 0; i < keywords.size; i++)
        any = any || keywords.at[i] != 0;
    for (struct session_keyword *k = s->keywords; any && k != NULL; k = k->hh.next)
        if (k->bit >= 0 && index_keyword_has(keywords, (unsigned)k->bit))
            put_word(out, start, k->name);
    buffer_append_byte(out, ')');
}

/* Those that these rights allow to change (RFC 3501 section 7.1; quota-acl-plugins 2.5). */
static void put_flags_for(struct session *s, struct buffer *out, unsigned rights)
{
    size_t start = out->size;

    index_flags_put(out, (uint8_t)(((rights & MAILBOX_RIGHT_WRITE) != 0 ? INDEX_ANSWERED | INDEX_FLAGGED | INDEX_DRAFT : 0) |
                                   ((rights & MAILBOX_RIGHT_TRASH) != 0 ? INDEX_DELETED : 0) |
                                   ((rights & MAILBOX_RIGHT_SEEN) != 0 ? INDEX_SEEN : 0)), false);
    for (struct session_keyword *k = s->keywords; k != NULL && (rights & MAILBOX_RIGHT_WRITE) != 0; k = k->hh.next)
        put_word(out, start, k->name);
}

void session_tell_flags(struct session *s)
{
    struct buffer out = {0};

    buffer_append_str(&out, "* FLAGS (");
    put_flags_for(s, &out, MAILBOX_RIGHTS_ALL);
    buffer_append_str(&out, ")\r\n");
    if (s->examined || mailbox_view_read_only(s->view)) {
        buffer_append_str(&out, "* OK [PERMANENTFLAGS ()] Read-only mailbox.\r\n");
    } else {
        buffer_append_str(&out, "* OK [PERMANENTFLAGS (");
        put_flags_for(s, &out, mailbox_rights(mailbox_where(s->box)));
        buffer_printf(&out, "%s)] Flags permitted.\r\n", mailbox_new_keywords(s->box) ? " \\*" : "");
    }
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    s->keywords_told = HASH_COUNT(s->keywords);
}

uint64_t session_highest_modseq(const struct session *s)
{
    struct index_status status;

    index_status(mailbox_index(s->box), &status);
    return status.highest_modseq > 0 ? status.highest_modseq : 1;
}

bool session_knows_all(const struct session *s, const struct mailbox *box)
{
    return box != NULL && box == s->box && s->view != NULL && !index_view_changed(mailbox_view_index(s->view)) &&
           s->modseq_heard == session_highest_modseq(s);
}

void session_knows_own(struct session *s, size_t changes)
{
    uint64_t highest = session_highest_modseq(s);

    if (highest <= s->modseq_heard + changes) /* else others have been at work, too */
        s->modseq_heard = highest;
}

bool session_modseqs_last(const struct session *s)
{
    return s->view == NULL || !index_in_memory(mailbox_index(s->box));
}

void session_tell_modseq(struct session *s)
{
    session_print(s, "* OK [HIGHESTMODSEQ %llu] Highest", (unsigned long long)s->modseq_heard);
    s->modseq_told = true;
}

/* ---- one pass ------------------------------------------------------------------------------------------------------- */

void sync_free(struct session *s)
{
    struct sync *y = s->sync;

    if (y == NULL)
        return;
    store_op_free(&y->op);
    fetch_news_end(s, &y->fetch);
    updates_pass_free(s, &y->updates);
    VEC_FREE(&y->flags);
    VEC_FREE(&y->expunged);
    mem_free(y);
    s->sync = NULL;
}

/* Drains the view. Numbers of FLAGS changes count as after the expunges; clients hear of them before. */
static void take_changes(struct session *s, struct sync *y)
{
    struct index_change c;
    size_t gone;

    y->flags.count = y->expunged.count = 0;
    y->flag_at = y->expunge_at = 0;
    index_view_sync(mailbox_view_index(s->view), y->hold);
    while (index_view_next(mailbox_view_index(s->view), &c)) {
        switch (c.kind) {
        case INDEX_CHANGE_EXPUNGED:
            VEC_PUSH(&y->expunged, c);
            break;
        case INDEX_CHANGE_FLAGS: {
            struct sync_flag f = {c.uid, c.seq, c.own_silent, c.flags_visible};
            VEC_PUSH(&y->flags, f);
            break;
        }
        case INDEX_CHANGE_APPENDED:
        case INDEX_CHANGE_KEYWORDS:
        case INDEX_CHANGE_HEADER: /* told by comparing with what was told before */
            break;
        case INDEX_CHANGE_INVALID:
            y->invalid = true;
            break;
        }
    }
    gone = y->expunged.count; /* lowest number is last */
    for (size_t i = 0, below = 0; i < y->flags.count; i++) {
        while (gone > 0 && y->expunged.at[gone - 1].seq <= y->flags.at[i].seq + below) {
            gone--;
            below++;
        }
        y->flags.at[i].seq += (uint32_t)below;
    }
}

static void tell_flag_change(struct session *s, struct sync *y, const struct sync_flag *f)
{
    struct index_record record;
    struct buffer out = {0};
    bool flags = f->visible && !f->own_silent;
    /* Instead of the flags, for a client that knows them, it is told in any case (imap 7.2). */
    bool modseq = s->condstore && (!flags || session_modseqs_last(s));

    if ((!flags && !modseq) || !index_view_get_uid(mailbox_view_index(s->view), f->uid, &record))
        return;
    put_fetch_front(s, &out, f->seq, f->uid);
    if (y->tell_uid || s->qresync)
        buffer_printf(&out, "UID %u ", f->uid);
    if (modseq) {
        buffer_printf(&out, "MODSEQ (%llu)%s", (unsigned long long)record.modseq, flags ? " " : "");
        if (record.modseq > s->modseq_fetched)
            s->modseq_fetched = record.modseq;
    }
    if (flags) {
        buffer_append_str(&out, "FLAGS ");
        session_put_flags(s, &out, record.flags, mailbox_view_recent(s->view, f->uid), record.keywords);
    }
    buffer_append_str(&out, ")\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
}

static void tell_vanished(struct session *s, struct sync *y)
{
    struct index_ranges uids = {0};
    struct buffer out = {0};

    for (size_t i = y->expunged.count; i-- > 0;)
        index_ranges_add(&uids, y->expunged.at[i].uid, y->expunged.at[i].uid);
    buffer_append_str(&out, "* VANISHED ");
    imap_ranges_put(&out, &uids);
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    index_ranges_free(&uids);
    y->expunge_at = y->expunged.count;
}

static bool pause_output(struct session *s, size_t i)
{
    return i % 64 == 63 && stream_full(s->io);
}

/* False: the client has to read first. */
static bool tell_changes(struct session *s, struct sync *y)
{
    uint32_t count, recent;

    if (y->flag_at == 0 && y->expunge_at == 0) {
        session_keywords_refresh(s);
        if (HASH_COUNT(s->keywords) > s->keywords_told)
            session_tell_flags(s);
        updates_tell_expunged(s, y->expunged.at, y->expunged.count);
    }
    for (; y->flag_at < y->flags.count * 2; y->flag_at++) { /* first what shows flags, then what shows the modseq alone */
        const struct sync_flag *f = &y->flags.at[y->flag_at % y->flags.count];

        if (pause_output(s, y->flag_at))
            return false;
        if (!y->no_flags && (f->visible && !f->own_silent) == (y->flag_at < y->flags.count))
            tell_flag_change(s, y, f);
    }
    if ((s->qresync || s->uidonly) && y->expunge_at < y->expunged.count)
        tell_vanished(s, y);
    for (; y->expunge_at < y->expunged.count; y->expunge_at++) {
        if (pause_output(s, y->expunge_at))
            return false;
        session_print(s, "* %u EXPUNGE", y->expunged.at[y->expunge_at].seq);
    }
    if (y->delay)
        return true;
    count = index_view_count(mailbox_view_index(s->view));
    recent = mailbox_view_recent_count(s->view);
    if (count + y->expunged.count > s->messages) {
        session_print(s, "* %u EXISTS", count);
        y->new_first = s->messages - (uint32_t)y->expunged.count + 1;
    }
    s->messages = count;
    if (recent != s->recent && !s->rev2)
        session_print(s, "* %u RECENT", recent);
    s->recent = recent;
    return true;
}

/* Expunges that are not told yet: the client must not skip them. */
static bool holds_expunges(const struct session *s, const struct sync *y)
{
    return y->hold && index_view_count(mailbox_view_index(s->view)) > index_count(mailbox_index(s->box));
}

/* QRESYNC: does this reply have to say how far the client has heard everything (imap 7.2)? A higher MODSEQ in a FETCH says it too;
 * where it says too much because expunges are held back, the reply takes it back. In the arena. */
static const char *modseq_code(struct session *s, struct sync *y, struct arena *arena)
{
    uint64_t highest = session_highest_modseq(s), shown = s->modseq_fetched;

    if (!s->qresync || !session_modseqs_last(s))
        return NULL;
    s->modseq_fetched = 0;
    if (holds_expunges(s, y)) {
        if (shown <= s->modseq_confirmed)
            return NULL;
    } else {
        if (highest <= s->modseq_confirmed)
            return NULL;
        s->modseq_confirmed = highest;
        if (highest <= shown)
            return NULL;
    }
    return arena_printf(arena, "[HIGHESTMODSEQ %llu] ", (unsigned long long)s->modseq_confirmed);
}

/* IDLE: it comes in a line of its own. */
static void tell_news_modseq(struct session *s, struct sync *y)
{
    struct arena *arena = worker_arena(s->worker);
    const char *code = modseq_code(s, y, arena);

    if (code != NULL)
        session_print(s, "* OK %sHighest", code);
    worker_arena_back(s->worker, arena);
}

static void answer_requests(struct session *s, struct sync *y)
{
    struct request **at = &s->finished, *r;

    while ((r = *at) != NULL) {
        const char *code;

        if (r->hold != y->hold_answers) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        s->finished_count--;
        code = modseq_code(s, y, r->arena);
        if (code != NULL && strncmp(r->reply, "OK ", 3) == 0 && r->reply[3] != '[')
            r->reply = arena_printf(r->arena, "OK %s%s", code, r->reply + 3);
        else if (code != NULL)
            session_print(s, "* OK %sHighest", code);
        reply_send(s, r);
        request_arena_back(s, r);
    }
    s->finished_tail = at;
}

/* STATUS of the selected mailbox says what it said then. */
static void take_unseen(struct session *s)
{
    struct index_status status;

    index_view_status(mailbox_view_index(s->view), &status);
    s->unseen = status.unseen;
}

static void begin_pass(struct session *s, struct sync *y)
{
    bool hold = false, plain = false, news = s->finished == NULL; /* none: IDLE */

    y->tell_uid = false;
    for (const struct request *r = s->finished; r != NULL; r = r->next) {
        hold = hold || r->hold;
        plain = plain || !r->hold;
        news = news || (!r->hold && (r->command->flags & COMMAND_NEWMAIL) != 0 && !r->quiet);
    }
    y->hold_answers = hold;
    y->second = hold && plain;
    if (s->notify != NULL) {
        y->delay = notify_hides_counts(s);
        y->no_flags = notify_hides_flags(s);
        hold = hold || (s->finished == NULL && s->now == NULL && notify_delays_expunge(s));
    } else {
        y->delay = session_workaround(s, "delay-newmail") && (hold || !news);
    }
    y->hold = hold || y->delay;
    for (const struct request *r = s->finished; r != NULL; r = r->next)
        y->tell_uid = y->tell_uid || r->send_uid;
    take_changes(s, y);
    if (!holds_expunges(s, y))
        s->modseq_heard = session_highest_modseq(s);
    take_unseen(s);
    y->stage = STAGE_TELL;
}

/* NOTIFY asked for data of new messages. */
static enum step tell_new(struct session *s, struct sync *y, struct budget *budget)
{
    const struct fetch *plan = notify_fetch(s);
    struct index_ranges seqs = {0};
    struct error e = {0};
    enum step step;

    if (y->fetch == NULL && plan != NULL) {
        index_ranges_add(&seqs, y->new_first, s->messages);
        y->fetch = fetch_news_begin(s, plan, &seqs);
    }
    y->new_first = 0;
    if (y->fetch == NULL)
        return STEP_DONE;
    step = fetch_news_step(s, &y->fetch, budget, &e);
    return step == STEP_ERROR ? STEP_DONE : step;
}

static enum step tell_updates(struct session *s, struct sync *y, struct budget *budget)
{
    struct error e = {0};
    enum step step;

    if (y->updates == NULL) {
        y->updates = updates_pass_new(s);
        for (size_t i = 0; i < y->flags.count; i++)
            updates_pass_changed(y->updates, y->flags.at[i].uid);
    }
    step = updates_step(s, y->updates, budget, &e);
    if (step == STEP_DONE)
        updates_pass_free(s, &y->updates);
    return step;
}

static bool all_fast(const struct session *s)
{
    for (const struct request *r = s->finished; r != NULL; r = r->next)
        if ((r->command->flags & COMMAND_FAST) == 0)
            return false;
    return s->finished != NULL;
}

static struct sync *sync_begin(struct session *s)
{
    if (s->sync == NULL) {
        s->sync = mem_zero(1, sizeof(*s->sync));
        /* commits have carried out what they asked for */
        s->sync->op = mailbox_sync(s->box, s->view, all_fast(s) ? SYNC_FAST : SYNC_POLL);
    }
    return s->sync;
}

/* STEP_DONE: the next stage is set. STEP_MORE is the operation's: its slice is used up, it is not over. */
static enum step refresh(struct session *s, struct sync *y, struct budget *budget)
{
    struct error e = {0};
    enum step step = session_op(s, &y->op, budget, &e);

    if (step == STEP_DONE) {
        begin_pass(s, y);
        return STEP_DONE;
    }
    if (step != STEP_ERROR)
        return step;
    if (e.class == ERROR_NOT_FOUND) {
        y->invalid = true;
        y->stage = STAGE_TELL;
        return STEP_DONE;
    }
    /* The mailbox could not be read now: say so, and go on with what is known. */
    {
        struct arena *arena = worker_arena(s->worker);

        session_print(s, "* NO %s", error_reply(s, arena, &e, ERROR_PLAIN));
        worker_arena_back(s->worker, arena);
    }
    begin_pass(s, y);
    return STEP_DONE;
}

enum step sync_step(struct session *s, struct budget *budget)
{
    struct sync *y;

    if (s->view == NULL) { /* closed meanwhile: nothing to tell */
        struct sync none = {0};

        answer_requests(s, &none);
        none.hold_answers = true;
        answer_requests(s, &none);
        return STEP_DONE;
    }
    y = sync_begin(s);
    if (y->stage == STAGE_REFRESH) {
        enum step step = refresh(s, y, budget);

        if (step != STEP_DONE)
            return step;
    }
    if (y->stage == STAGE_PASS)
        begin_pass(s, y);
    if (y->invalid) {
        bool fetch = s->finished != NULL && strstr(s->finished->command->name, "FETCH") != NULL;

        sync_free(s);
        if (fetch)
            session_bye(s, "FETCH failed: Mailbox was deleted under us", "FETCH failed: Mailbox was deleted under us");
        else
            session_mailbox_lost(s);
        return STEP_DONE;
    }
    if (y->updates == NULL && y->fetch == NULL && !tell_changes(s, y))
        return STEP_OUTPUT_FULL;
    if (y->new_first != 0 || y->fetch != NULL) {
        enum step step = tell_new(s, y, budget);

        if (step != STEP_DONE)
            return step;
    }
    if (s->updates != NULL) {
        enum step step = tell_updates(s, y, budget);

        if (step != STEP_DONE)
            return step;
    }
    if (s->finished == NULL)
        tell_news_modseq(s, y);
    answer_requests(s, y);
    if (y->second) {
        y->stage = STAGE_PASS;
        return STEP_MORE;
    }
    sync_free(s);
    return STEP_DONE;
}

enum step sync_news(struct session *s, struct budget *budget)
{
    if (s->view == NULL)
        return STEP_DONE;
    return sync_step(s, budget);
}
