/* passdb_chain.c - leads a request through the passdbs (auth.md 5).
 *
 * The walk is a loop over positions that leaves when a database is asked in a worker and comes back with its result.
 * A database whose check fails loses its fields; what it changed is kept only for OK and NEXT. */
#include "auth/auth.h"
#include "auth/cache.h"
#include "auth/worker_pool.h"
#include "rpc/line.h"

static void walk(struct request *);

/* ---- which links are asked ------------------------------------------------------------------------------------ */

/* A word of a space or comma separated list. */
static bool next_word(struct slice *rest, struct slice *word)
{
    while (rest->size > 0) {
        size_t n = 0;
        while (n < rest->size && strchr(" ,\t", rest->at[n]) == NULL)
            n++;
        *word = slice_head(*rest, n);
        *rest = slice_from(*rest, n < rest->size ? n + 1 : n);
        if (n > 0)
            return true;
    }
    return false;
}

static bool mech_allowed(const char *mechanisms, const char *mech)
{
    struct slice rest = slice_from_str(mechanisms), word;

    if (*mechanisms == '\0')
        return true;
    while (next_word(&rest, &word))
        if (slice_equal_str_nocase(word, mech == NULL ? "none" : mech))
            return true;
    return false;
}

/* `!pattern` excludes; with only such patterns everybody else matches. */
static bool user_allowed(const char *filter, const char *user)
{
    struct slice rest = slice_from_str(filter), word, name = slice_from_str(user);
    bool positive = false, matched = false;

    if (*filter == '\0')
        return true;
    while (next_word(&rest, &word)) {
        if (word.at[0] == '!') {
            if (rpc_wildcard_match(slice_from(word, 1), name))
                return false;
        } else {
            positive = true;
            matched = matched || rpc_wildcard_match(word, name);
        }
    }
    return matched || !positive;
}

static bool wants(const struct request *r, const struct chain_link *l)
{
    if (!mech_allowed(l->mechanisms, r->mech) || !user_allowed(l->username_filter, r->user))
        return false;
    /* "Authenticated" is whose password was found right, whatever the rule made of it. */
    return l->skip == SKIP_NEVER || r->skip_password_check == (l->skip == SKIP_UNLESS_SUCCESS);
}

/* ---- one database --------------------------------------------------------------------------------------------- */

enum passdb_result passdb_verify_here(struct db *db, struct request *r)
{
    enum passdb_result result;

    if (db->driver->verify != NULL)
        return db->driver->verify(db, r, r->password);
    result = db->driver->lookup(db, r);
    return result == PASSDB_OK ? request_verify_stored(r) : result;
}

enum passdb_result passdb_lookup_here(struct db *db, struct request *r)
{
    enum passdb_result result;

    if (db->driver->lookup == NULL) {
        request_debug(r, "passdb doesn't support credential lookups");
        return PASSDB_SCHEME_NOT_AVAILABLE;
    }
    result = db->driver->lookup(db, r);
    return result == PASSDB_OK ? request_make_credentials(r) : result;
}

/* ---- what a result means -------------------------------------------------------------------------------------- */

static void finish(struct request *r, enum passdb_result result)
{
    passdb_done_fn *done = r->passdb_done;

    r->passdb_done = NULL;
    if (result == PASSDB_OK)
        r->successful = true;
    r->chain = NULL;
    done(r, result);
}

/* The master's password was right: from here on the request is the login user's (auth.md 5). */
static void become_login_user(struct request *r)
{
    r->master_was_right = true;
    log_info(NULL, "Master user logging in as %s", r->login_user);
    r->master_user = r->user;
    r->user = r->login_user;
    r->translated_user = r->login_user;
    r->login_user = NULL;
}

static void finish_chain(struct request *r)
{
    enum passdb_result result = r->last_result;

    if (r->success == SUCCESS_YES) {
        finish(r, PASSDB_OK);
    } else if (result == PASSDB_NEXT) {
        request_error(r, "Last passdb had noauthenticate field, cannot authenticate user");
        finish(r, PASSDB_INTERNAL);
    } else if (r->internal_seen) {
        finish(r, PASSDB_INTERNAL);
    } else {
        if (result == PASSDB_OK) /* a right password, but no rule said "ok" */
            result = PASSDB_MISMATCH;
        if (result == PASSDB_SCHEME_NOT_AVAILABLE && r->unknown_seen)
            result = PASSDB_USER_UNKNOWN;
        finish(r, result);
    }
}

/* Applies the link's rule. True: the walk goes on. */
static bool apply_rule(struct request *r, const struct chain_link *l, enum passdb_result result)
{
    enum chain_rule rule = result == PASSDB_OK ? l->success : result == PASSDB_INTERNAL ? l->internalfail
                         : result == PASSDB_NEXT ? RULE_CONTINUE : l->failure;

    r->last_result = result;
    switch (rule) {
    case RULE_RETURN:
        return false;
    case RULE_RETURN_OK:
        r->success = SUCCESS_YES;
        return false;
    case RULE_RETURN_FAIL:
        r->success = SUCCESS_NO;
        return false;
    case RULE_CONTINUE:
        if (result == PASSDB_OK)
            r->skip_password_check = true;
        return true;
    case RULE_CONTINUE_OK:
        r->success = SUCCESS_YES;
        r->skip_password_check = true;
        return true;
    case RULE_CONTINUE_FAIL:
        r->success = SUCCESS_NO;
        return true;
    }
    return false;
}

/* Takes the result of the current link. True: the walk goes on with the next one. */
static bool take_result(struct request *r, enum passdb_result result)
{
    const struct chain_link *l = r->link;
    bool more;

    /* Also after a failure: the fields are rolled back then, but a changed user stays changed (as with Dovecot). */
    request_set_template(r, l->override_fields, l->db->default_scheme, false);
    if (l->deny) {
        r->skip_password_check = r->skip_before_deny;
        if (result == PASSDB_USER_UNKNOWN) {
            fields_roll_back(&r->passdb_fields);
            r->position++;
            return true;
        }
        if (result != PASSDB_INTERNAL) {
            log_info(NULL, "User found from deny passdb");
            result = PASSDB_USER_DISABLED;
        }
        finish(r, result);
        return false;
    }
    if (r->failed && result == PASSDB_OK)
        result = PASSDB_USER_UNKNOWN;
    if (result == PASSDB_USER_DISABLED || result == PASSDB_PASS_EXPIRED) {
        if (result == PASSDB_PASS_EXPIRED && !fields_has(&r->passdb_fields, "reason"))
            fields_set(&r->passdb_fields, "reason", "Password expired");
        finish(r, result);
        return false;
    }
    if (result == PASSDB_INTERNAL)
        r->internal_seen = true;
    if (result == PASSDB_USER_UNKNOWN)
        r->unknown_seen = true;
    if (result == PASSDB_OK || result == PASSDB_NEXT)
        fields_save(&r->passdb_fields);
    else
        fields_roll_back(&r->passdb_fields);
    fields_remove(&r->passdb_fields, "nopassword");
    fields_remove(&r->passdb_fields, "noauthenticate");
    r->failed = false;

    if (r->chain == &r->auth->masterdbs && result == PASSDB_OK && r->login_user != NULL) {
        become_login_user(r);
        more = apply_rule(r, l, result);
        if (more) {
            r->chain = &r->auth->passdbs;
            r->position = 0;
            r->success = SUCCESS_UNSET;
            return true;
        }
    } else {
        more = apply_rule(r, l, result);
    }
    if (!more) {
        finish_chain(r);
        return false;
    }
    r->position++;
    return true;
}

static void worker_answered(struct request *r, enum passdb_result result)
{
    r->recording = false;
    if (take_result(r, result))
        walk(r);
}

/* Asks the current link. False: a worker will answer. */
static bool ask_link(struct request *r, enum passdb_result *result)
{
    struct db *db = r->link->db;
    bool blocking = db->blocking && !r->server->worker;

    r->raw.list.count = 0;
    if (cache_find_passdb(r, result))
        return true;
    r->recording = true;
    if (blocking) {
        worker_ask_passdb(r, worker_answered);
        return false;
    }
    *result = r->wanted_scheme != NULL ? passdb_lookup_here(db, r) : passdb_verify_here(db, r);
    r->recording = false;
    cache_add_passdb(r, *result);
    return true;
}

static void walk(struct request *r)
{
    enum passdb_result result;

    do {
        while (r->position < r->chain->count && !wants(r, &r->chain->at[r->position]))
            r->position++;
        if (r->position >= r->chain->count) {
            if (r->link == NULL) {
                request_error(r, "All password databases were skipped");
                finish(r, PASSDB_INTERNAL);
            } else {
                finish_chain(r);
            }
            return;
        }
        r->link = &r->chain->at[r->position];
        mem_free(r->stored);
        r->stored = NULL;
        if (r->link->deny) {
            /* Who stands in it is refused whatever the password. */
            r->skip_before_deny = r->skip_password_check;
            r->skip_password_check = true;
        }
        request_set_template(r, r->link->default_fields, r->link->db->default_scheme, false);
        if (!ask_link(r, &result))
            return;
    } while (take_result(r, result));
}

/* ---- beginnings ----------------------------------------------------------------------------------------------- */

static void start(struct request *r, passdb_done_fn *done)
{
    r->passdb_done = done;
    r->link = NULL;
    r->position = 0;
    r->success = SUCCESS_UNSET;
    r->skip_password_check = r->internal_seen = r->unknown_seen = r->failed = false;
    r->last_result = PASSDB_INTERNAL;
    r->chain = r->login_user != NULL ? &r->auth->masterdbs : &r->auth->passdbs;
    fields_save(&r->passdb_fields);
    if (r->login_user != NULL && r->chain->count == 0) {
        request_info(r, "Attempted master login with no master passdbs (trying to log in as user: %s)", r->login_user);
        finish(r, PASSDB_USER_UNKNOWN);
        return;
    }
    walk(r);
}

void passdb_verify(struct request *r, passdb_done_fn *done)
{
    mem_free(r->wanted_scheme);
    r->wanted_scheme = NULL;
    if (strpbrk(r->password, "\x01\t\r\n") != NULL) {
        log_info(NULL, "Attempted login with password having illegal chars");
        r->passdb_done = done;
        finish(r, PASSDB_USER_UNKNOWN);
        return;
    }
    start(r, done);
}

void passdb_credentials(struct request *r, const char *scheme, passdb_done_fn *done)
{
    mem_free(r->wanted_scheme);
    r->wanted_scheme = mem_strdup(scheme);
    start(r, done);
}
