/* search.c - does a message match a tree of keys? (imap 11.1, 11.2, doveadm 5) */
#include "store/search.h"

#include "store/inthread.h"
#include "store/search_part.h"

#include <time.h>

enum { BODY_STEP = 64 * 1024 };
enum truth { NO, YES, UNKNOWN };

struct scan {                                /* BODY or TEXT keys: one pass over the message for all of them */
    VEC(struct mime_key) keys;
    bool *found;
    struct mime_search *pass;
    bool done;
};

struct store_search {
    struct arena *arena;
    struct search_key *root;
    VEC(struct slice) names;                 /* headers that the keys look at */
    struct scan body, text;
    VEC(struct inthread *) inthreads;        /* looked up before all else */
    size_t inthread_at;

    struct mailbox_view *view;               /* the message that is being judged */
    uint32_t seq;
    unsigned round;                          /* the last one that was done; 0: none */
    struct index_record record;
    struct mail *mail;
    bool has_block;
    struct slice block;
    bool glanced;                  /* the last message was decided in round 1 */
};

struct search_key *search_key_new(struct arena *arena, enum search_type type)
{
    struct search_key *k = ARENA_NEW(arena, struct search_key);

    k->type = type;
    return k;
}

bool search_date_parse(struct slice text, uint64_t *day)
{
    static const char months[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    struct tm tm = {0};
    uint32_t d, y;
    size_t digits = text.size > 1 && text.at[1] == '-' ? 1 : 2;
    int month = -1;
    time_t t;

    if (text.size != digits + 9 || text.at[digits] != '-' || text.at[digits + 4] != '-' ||
        !slice_to_u32(slice_head(text, digits), &d) || !slice_to_u32(slice_from(text, digits + 5), &y))
        return false;
    for (int m = 0; m < 12; m++) {
        if (slice_equal_nocase(slice_of(text.at + digits + 1, 3), slice_of(months + 3 * m, 3)))
            month = m;
    }
    if (month < 0)
        return false;
    tm.tm_mday = (int)d;
    tm.tm_mon = month;
    tm.tm_year = (int)y - 1900;
    t = timegm(&tm);
    if (tm.tm_mday != (int)d || tm.tm_mon != month) /* the real server takes days that do not exist for the end of time, or its beginning */
        t = y > 2000 ? INT64_MAX : INT64_MIN;
    *day = (uint64_t)(t / 86400);
    return true;
}

/* ---- the tree --------------------------------------------------------------------------------------------------------- */

static void collect(struct store_search *q, struct search_key *k)
{
    struct scan *scan = k->type == SEARCH_TEXT ? &q->text : &q->body;

    if (k->type == SEARCH_INTHREAD) { /* what is in it is a search of its own */
        k->at = q->inthreads.count;
        VEC_PUSH(&q->inthreads, inthread_new(q->arena, k));
        return;
    }
    for (struct search_key *c = k->children; c != NULL; c = c->next)
        collect(q, c);
    if (k->type == SEARCH_HEADER)
        VEC_PUSH(&q->names, k->name);
    if (k->type == SEARCH_BODY || k->type == SEARCH_TEXT) {
        k->at = scan->keys.count;
        VEC_PUSH(&scan->keys, k->key);
    }
}

struct store_search *store_search_new(struct arena *arena, struct search_key *root)
{
    struct store_search *q = ARENA_NEW(arena, struct store_search);

    q->arena = arena;
    q->root = root;
    collect(q, root);
    q->body.found = ARENA_ARRAY(arena, bool, q->body.keys.count + 1);
    q->text.found = ARENA_ARRAY(arena, bool, q->text.keys.count + 1);
    return q;
}

/* ---- judging ---------------------------------------------------------------------------------------------------------- */

static int64_t local_day(int64_t when)
{
    struct tm tm;
    time_t t = (time_t)when;

    localtime_r(&t, &tm);
    tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
    tm.tm_gmtoff = 0;
    return timegm(&tm) / 86400;
}

static int judge_date(struct store_search *q, const struct search_key *k, bool *yes, struct error *e)
{
    int64_t when = 0, number = (int64_t)k->number;
    int zone = 0;

    if ((k->date == SEARCH_SENT    ? mail_sent_date(q->mail, &when, &zone, e)
         : k->date == SEARCH_SAVED ? mail_save_date(q->mail, &when, e)
                                   : mail_internal_date(q->mail, &when, e)) < 0)
        return -1;
    if (!k->exact && k->date == SEARCH_SENT) {
        when += (int64_t)zone * 60;
        when = when < 0 ? 0 : when / 86400;
    } else if (!k->exact) {
        when = local_day(when);
    }
    *yes = k->when == SEARCH_BEFORE ? when < number : k->when == SEARCH_ON ? when == number : when >= number;
    return 0;
}

static int judge_header(struct store_search *q, const struct search_key *k, bool *yes, struct error *e)
{
    if (!q->has_block) {
        if (mail_header_fields(q->mail, q->names.at, q->names.count, &q->block, e) < 0)
            return -1;
        q->has_block = true;
    }
    *yes = mime_match_header(&k->key, q->block, k->name, k->match);
    return 0;
}

/* The GUID as 32 hexadecimal digits. */
static int judge_guid128(struct store_search *q, const struct search_key *k, bool *yes, struct error *e)
{
    unsigned char guid[16];
    struct buffer text = {0};

    if (mail_guid128(q->mail, guid, e) < 0)
        return -1;
    text_hex_encode(&text, slice_of(guid, sizeof(guid)));
    *yes = slice_equal(buffer_slice(&text), k->name);
    buffer_free(&text);
    return 0;
}

/* A key of round 2 or 3, for a message that is open. */
static int judge_mail(struct store_search *q, const struct search_key *k, bool *yes, struct error *e)
{
    uint64_t size;
    const char *guid;

    switch (k->type) {
    case SEARCH_DATE:
        return judge_date(q, k, yes, e);
    case SEARCH_LARGER:
    case SEARCH_SMALLER:
        if (mail_size_virtual(q->mail, &size, e) < 0)
            return -1;
        *yes = k->type == SEARCH_LARGER ? size > k->number : size < k->number;
        return 0;
    case SEARCH_HEADER:
        return judge_header(q, k, yes, e);
    case SEARCH_GUID:
        if (k->exact)
            return judge_guid128(q, k, yes, e);
        if (mail_guid(q->mail, &guid, e) < 0)
            return -1;
        *yes = slice_equal_str(k->name, guid);
        return 0;
    case SEARCH_MIMEPART: {
        struct mime_part *root;

        if (mail_parts(q->mail, true, &root, e) < 0)
            return -1;
        *yes = search_part_match(mail_arena(q->mail), root, k->part, k->part_keys);
        return 0;
    }
    case SEARCH_BODY:
        *yes = q->body.found[k->at];
        return 0;
    case SEARCH_TEXT:
        *yes = q->text.found[k->at];
        return 0;
    default:
        *yes = false;
        return 0;
    }
}

static bool judge_index(const struct store_search *q, const struct search_key *k)
{
    int bit;

    switch (k->type) {
    case SEARCH_ALL:
        return true;
    case SEARCH_SEQS:
        return index_ranges_has(&k->ranges, q->seq);
    case SEARCH_UIDS:
        return index_ranges_has(&k->ranges, q->record.uid);
    case SEARCH_FLAGS:
        return (q->record.flags & k->flags) != 0;
    case SEARCH_RECENT:
        return mailbox_view_recent(q->view, q->record.uid);
    case SEARCH_KEYWORD:
        bit = index_keyword_find(mailbox_index(mailbox_view_box(q->view)), k->name);
        return bit >= 0 && index_keyword_has(q->record.keywords, (unsigned)bit);
    case SEARCH_MODSEQ:
        return q->record.modseq >= k->number;
    case SEARCH_INTHREAD:
        return inthread_has(q->inthreads.at[k->at], q->record.uid);
    case SEARCH_MAILBOX:
    case SEARCH_REAL_UIDS: {
        struct mailbox *box = mailbox_view_box(q->view);
        uint32_t uid = q->record.uid;

        mailbox_origin(&box, &uid);
        return k->type == SEARCH_MAILBOX ? slice_equal_str(k->name, mailbox_where(box)->vname) : index_ranges_has(&k->ranges, uid);
    }
    default:
        return false;
    }
}

static unsigned round_of(enum search_type type)
{
    return type >= SEARCH_BODY ? 3 : type >= SEARCH_DATE ? 2 : 1;
}

/* -> enum truth, or -1 with *e. */
static int judge(struct store_search *q, const struct search_key *k, struct error *e)
{
    int truth;

    if (k->type == SEARCH_AND || k->type == SEARCH_OR) {
        int decides = k->type == SEARCH_AND ? NO : YES;

        truth = k->type == SEARCH_AND ? YES : NO;
        for (const struct search_key *c = k->children; c != NULL; c = c->next) {
            int t = judge(q, c, e);

            if (t < 0)
                return -1;
            if (t == decides) {
                truth = t;
                break;
            }
            if (t == UNKNOWN)
                truth = UNKNOWN;
        }
    } else if (round_of(k->type) == 1) {
        truth = judge_index(q, k) ? YES : NO;
    } else if (round_of(k->type) > q->round) {
        return UNKNOWN;
    } else {
        bool yes;

        if (judge_mail(q, k, &yes, e) < 0)
            return -1;
        truth = yes ? YES : NO;
    }
    if (k->negate && truth != UNKNOWN)
        truth = truth == YES ? NO : YES;
    return truth;
}

/* ---- one message ------------------------------------------------------------------------------------------------------- */

static void end_scan(struct scan *scan)
{
    if (scan->pass != NULL)
        mime_search_free(scan->pass);
    scan->pass = NULL;
    scan->done = false;
}

static void end_message(struct store_search *q)
{
    end_scan(&q->body);
    end_scan(&q->text);
    if (q->mail != NULL)
        mail_close(&q->mail);
    q->has_block = false;
    q->round = 0;
}

/* One pass over the bodies for all keys of a kind. */
static enum step scan_step(struct store_search *q, struct scan *scan, bool text, struct budget *budget, struct error *e)
{
    if (scan->done || scan->keys.count == 0)
        return STEP_DONE;
    if (scan->pass == NULL) {
        const struct mime_source *source;
        struct mime_part *root;

        memset(scan->found, 0, scan->keys.count * sizeof(bool));
        if (mail_source(q->mail, &source, e) < 0 || mail_parts(q->mail, true, &root, e) < 0)
            return STEP_ERROR;
        scan->pass = mime_search_new(mail_arena(q->mail), source, root, scan->keys.at, scan->found, scan->keys.count,
                                     text);
    }
    for (;;) {
        enum step step = mime_search_step(scan->pass, BODY_STEP, e);

        if (step == STEP_DONE)
            scan->done = true;
        if (step != STEP_MORE || budget_spent(budget, 4))
            return step;
    }
}

/* Rounds 1 and 2. */
static enum step judge_cheaply(struct store_search *q, int *truth, struct error *e)
{
    if (q->round == 0) {
        q->round = 1;
        *truth = judge(q, q->root, e);
        if (*truth != UNKNOWN)
            return *truth < 0 ? STEP_ERROR : STEP_DONE;
        if (q->record.expunged) {
            error_set(e, ERROR_EXPUNGED, "UID %u is expunged", q->record.uid);
            return STEP_ERROR;
        }
        if (mail_open(q->view, q->seq, &q->mail, e) < 0) {
            q->mail = NULL;
            return STEP_ERROR;
        }
        q->round = 2;
        *truth = judge(q, q->root, e);
        if (*truth != UNKNOWN)
            return *truth < 0 ? STEP_ERROR : STEP_DONE;
    }
    return STEP_MORE;
}

static enum step judge_bodies(struct store_search *q, struct budget *budget, int *truth, struct error *e)
{
    for (int i = 0; i < 2; i++) {
        enum step step = scan_step(q, i == 0 ? &q->body : &q->text, i == 1, budget, e);

        if (step != STEP_DONE)
            return step;
    }
    q->round = 3;
    *truth = judge(q, q->root, e);
    return *truth < 0 ? STEP_ERROR : STEP_DONE;
}

enum step store_search_match(struct store_search *q, struct mailbox_view *view, uint32_t seq, struct budget *budget,
                             bool *matches, struct error *e)
{
    int truth = NO;
    enum step step;

    q->view = view;
    q->seq = seq;
    *matches = false;
    for (; q->inthread_at < q->inthreads.count; q->inthread_at++) {
        if (inthread_run(q->inthreads.at[q->inthread_at], view, budget) != STEP_DONE)
            return STEP_MORE;
    }
    /* The record is read again in every slice: its bytes may have moved. */
    if (!index_view_get(mailbox_view_index(view), seq, &q->record)) {
        end_message(q);
        return STEP_DONE;
    }
    step = judge_cheaply(q, &truth, e);
    if (step == STEP_MORE)
        step = judge_bodies(q, budget, &truth, e);
    if (step == STEP_MORE)
        return step;
    q->glanced = q->round == 1;
    end_message(q);
    *matches = step == STEP_DONE && truth == YES;
    return step;
}

static bool matches_all(const struct search_key *k)
{
    if (k->negate || (k->type != SEARCH_ALL && k->type != SEARCH_AND))
        return false;
    for (const struct search_key *c = k->children; c != NULL; c = c->next) {
        if (!matches_all(c))
            return false;
    }
    return true;
}

bool store_search_matches_all(const struct store_search *q)
{
    return matches_all(q->root);
}

bool store_search_glanced(const struct store_search *q)
{
    return q->glanced;
}

void store_search_free(struct store_search *q)
{
    if (q == NULL)
        return;
    end_message(q);
    for (size_t i = 0; i < q->inthreads.count; i++)
        inthread_free(q->inthreads.at[i]);
    VEC_FREE(&q->inthreads);
    VEC_FREE(&q->names);
    VEC_FREE(&q->body.keys);
    VEC_FREE(&q->text.keys);
}
