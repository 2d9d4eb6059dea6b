/* cmd_cache.c - mailbox cache decision, purge, remove: which fields a mailbox's cache keeps, and what it has (doveadm 6.9). */
#include "query.h"

#include <stdlib.h>
#include <strings.h>
#include <time.h>

static const char *const decisions[] = {[INDEX_CACHE_NO] = "no", [INDEX_CACHE_TEMP] = "temp", [INDEX_CACHE_YES] = "yes"};

/* One mailbox after the other by its name; wildcards mean nothing here. */
static int each_mailbox(struct doveadm *d, struct mail_user *user, int (*run)(struct doveadm *, struct mailbox *))
{
    size_t n;
    const char *const *names = doveadm_list(d, "mailbox", &n);
    int status = DOVEADM_OK;

    for (size_t i = 0; i < n; i++) {
        struct mailbox *box;
        struct error e;

        if (doveadm_mailbox_open(d, user, names[i], 0, &box, &e) < 0) {
            doveadm_status_add(&status, doveadm_mail_failed(d, &e, "Cannot open mailbox %s", names[i]));
            continue;
        }
        doveadm_status_add(&status, run(d, box));
        mailbox_close(&box);
    }
    return status;
}

/* ---- decision --------------------------------------------------------------------------------------------------------- */

/* 1: a decision was given; 0: none; -1: not one. */
static int wanted_decision(struct doveadm *d, enum index_decision *out)
{
    const char *word = doveadm_text(d, "decision");

    if (word == NULL)
        return 0;
    for (size_t i = 0; i < sizeof(decisions) / sizeof(decisions[0]); i++)
        if (strcmp(word, decisions[i]) == 0) {
            *out = (enum index_decision)i;
            return 1;
        }
    return -1;
}

static int decision_prepare(struct doveadm *d)
{
    enum index_decision decision;

    if (!doveadm_flag(d, "all") && !doveadm_given(d, "fieldstr"))
        doveadm_fatal(DOVEADM_TEMPFAIL, "Missing fields parameter");
    if (wanted_decision(d, &decision) < 0) {
        log_error(NULL, "Invalid decision '%s': must be one of yes, temp, no", doveadm_text(d, "decision"));
        log_error(NULL, "Invalid parameter d");
    }
    doveadm_mail_print(d, "table");
    print_header(d, "mailbox", "mailbox", PRINT_STICKY);
    print_header_simple(d, "field");
    print_header_simple(d, "decision");
    print_header_simple(d, "last-used");
    return DOVEADM_OK;
}

static const char *time_text(struct doveadm *d, uint32_t when)
{
    char text[64];
    time_t t = when;
    struct tm tm;

    localtime_r(&t, &tm);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %Z", &tm);
    return arena_strdup(d->arena, text);
}

/* Changes what is to be changed, shows what was wanted, as the real program does. */
static void show_field(struct doveadm *d, struct index *index, unsigned field, const char *name)
{
    enum index_decision decision = INDEX_CACHE_NO, wanted;
    bool change = wanted_decision(d, &wanted) == 1;
    uint32_t used = 0, new_used;
    int64_t number;

    index_cache_decision(index, field, &decision, &used);
    if (doveadm_number(d, "last-used", &number) && number >= 0 && number <= UINT32_MAX) {
        new_used = (uint32_t)number;
        index_cache_configure(index, field, change ? &wanted : NULL, &new_used);
        used = new_used;
    } else if (change) {
        index_cache_configure(index, field, &wanted, NULL);
    }
    print_value(d, name);
    print_value(d, decisions[change ? wanted : (decision & 0x7f)]);
    print_value(d, time_text(d, used));
}

static void show_named(struct doveadm *d, struct index *index, const unsigned *fields, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(index_field_name(fields[i]), name) == 0) {
            show_field(d, index, fields[i], name);
            return;
        }
    print_value(d, name);
    print_value(d, "<not found>");
    print_value(d, "");
}

static int decision_box(struct doveadm *d, struct mailbox *box)
{
    struct index *index = mailbox_index(box);
    const unsigned *fields;
    size_t count;

    print_sticky(d, "mailbox", mailbox_where(box)->vname);
    if (!index_cache_fields(index, d->arena, &fields, &count)) {
        log_error(NULL, "Cache is unusable");
        return DOVEADM_TEMPFAIL;
    }
    if (doveadm_flag(d, "all")) {
        for (size_t i = 0; i < count; i++)
            show_field(d, index, fields[i], index_field_name(fields[i]));
    } else {
        char *names = arena_strdup(d->arena, doveadm_text(d, "fieldstr")), *rest;

        for (char *name = strtok_r(names, ", ", &rest); name != NULL; name = strtok_r(NULL, ", ", &rest))
            show_named(d, index, fields, count, name);
    }
    index_cache_flush(index);
    return DOVEADM_OK;
}

static int decision_run(struct doveadm *d, struct mail_user *user)
{
    enum index_decision decision;
    int status = each_mailbox(d, user, decision_box);

    if (wanted_decision(d, &decision) < 0)
        doveadm_status_add(&status, DOVEADM_USAGE);
    return status;
}

int doveadm_cache_decision(struct doveadm *d)
{
    static const struct mail_command command = {decision_prepare, decision_run};

    return doveadm_mail_run(d, &command);
}

/* ---- purge --------------------------------------------------------------------------------------------------------------- */

static int purge_box(struct doveadm *d, struct mailbox *box)
{
    struct index *index = mailbox_index(box);
    struct error e;
    enum step step;

    if (index_lock_wait(index, "cache purge", &e) < 0)
        return doveadm_mail_failed(d, &e, "Purging mailbox %s cache failed", mailbox_where(box)->vname);
    step = index_cache_purge(index, &e);
    index_unlock(index);
    return step == STEP_ERROR ? doveadm_mail_failed(d, &e, "Purging mailbox %s cache failed", mailbox_where(box)->vname)
                              : DOVEADM_OK;
}

static int purge_run(struct doveadm *d, struct mail_user *user)
{
    return each_mailbox(d, user, purge_box);
}

int doveadm_cache_purge(struct doveadm *d)
{
    static const struct mail_command command = {NULL, purge_run};

    return doveadm_mail_run(d, &command);
}

/* ---- remove ---------------------------------------------------------------------------------------------------------------- */

static int remove_prepare(struct doveadm *d)
{
    size_t n;
    const char *const *words = doveadm_list(d, "query", &n);

    if (n == 0)
        return doveadm_usage(d);
    query_parse(d, words, n);
    doveadm_mail_print(d, "table");
    print_header(d, "mailbox", "mailbox", PRINT_STICKY);
    print_header_simple(d, "uid");
    print_header_simple(d, "result");
    return DOVEADM_OK;
}

static int remove_collect(struct doveadm *d, struct mailbox_view *view, uint32_t seq, void *arg)
{
    uint32_t uid = index_view_uid(mailbox_view_index(view), seq);

    (void)d;
    index_ranges_add(arg, uid, uid);
    return DOVEADM_OK;
}

/* At the end of a mailbox: all its messages in one transaction. */
static int remove_done(struct doveadm *d, struct mailbox_view *view, void *arg)
{
    struct mailbox *box = mailbox_view_box(view);
    struct index_ranges *uids = arg;
    struct error e;
    int status = DOVEADM_OK;
    bool good = index_cache_remove(mailbox_index(box), uids, &e) == 0;

    if (!good)
        status = doveadm_mail_failed(d, &e, "Mailbox %s: removing from the cache failed", mailbox_where(box)->vname);
    print_sticky(d, "mailbox", mailbox_where(box)->vname);
    for (size_t i = 0; i < uids->count; i++)
        for (uint32_t uid = uids->at[i].first;; uid++) {
            print_number(d, uid);
            print_value(d, good ? "ok" : "failed");
            if (uid == uids->at[i].last)
                break;
        }
    index_ranges_free(uids);
    *uids = (struct index_ranges){0};
    return status;
}

static int remove_run(struct doveadm *d, struct mail_user *user)
{
    static const struct query_walk walk = {
        .why = SYNC_POLL, .mail = remove_collect, .done = remove_done, .failed = doveadm_change_failed};
    struct index_ranges uids = {0};
    size_t n;
    const char *const *words = doveadm_list(d, "query", &n);
    int status = query_run(d, query_parse(d, words, n), user, &walk, &uids);

    index_ranges_free(&uids);
    return status;
}

int doveadm_cache_remove(struct doveadm *d)
{
    static const struct mail_command command = {remove_prepare, remove_run};

    return doveadm_mail_run(d, &command);
}
