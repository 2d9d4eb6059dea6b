/* userdb_chain.c - leads a request through the userdbs (auth.md 6).
 *
 * Fields that passdbs returned as userdb_* are there before the first database is asked. */
#include "auth/auth.h"
#include "auth/cache.h"
#include "auth/worker_pool.h"

static void walk(struct request *);
static void answered(struct request *, enum userdb_result);

static void finish(struct request *r, enum userdb_result result)
{
    userdb_done_fn *done = r->userdb_done;

    r->userdb_done = NULL;
    r->link = NULL;
    done(r, result);
}

static void finish_chain(struct request *r)
{
    if (r->success == SUCCESS_YES) {
        finish(r, USERDB_FOUND);
    } else if (r->internal_seen) {
        finish(r, USERDB_INTERNAL);
    } else {
        if (r->successful)
            request_error(r, r->chain->count == 1 ? "user not found from userdb" : "user not found from any userdbs");
        finish(r, USERDB_UNKNOWN);
    }
}

/* Takes the result of the current link. True: the walk goes on. */
static bool take_result(struct request *r, enum userdb_result result)
{
    const struct chain_link *l = r->link;
    enum chain_rule rule;
    bool more = false;

    if (result == USERDB_FOUND) {
        request_set_template(r, l->override_fields, "", true);
        if (fields_has(&r->userdb_fields, "tempfail"))
            result = USERDB_INTERNAL;
    }
    if (result == USERDB_INTERNAL)
        r->internal_seen = true;
    rule = result == USERDB_FOUND ? l->success : result == USERDB_INTERNAL ? l->internalfail : l->failure;
    switch (rule) {
    case RULE_RETURN:
        r->success = result == USERDB_FOUND ? SUCCESS_YES : r->success;
        break;
    case RULE_RETURN_OK:
        r->success = SUCCESS_YES;
        break;
    case RULE_RETURN_FAIL:
        r->success = SUCCESS_NO;
        break;
    case RULE_CONTINUE:
        more = true;
        break;
    case RULE_CONTINUE_OK:
        r->success = SUCCESS_YES;
        more = true;
        break;
    case RULE_CONTINUE_FAIL:
        r->success = SUCCESS_NO;
        more = true;
        break;
    }
    if (result == USERDB_FOUND)
        fields_save(&r->userdb_fields);
    else
        fields_roll_back(&r->userdb_fields);
    if (!more) {
        finish_chain(r);
        return false;
    }
    r->position++;
    return true;
}

static void answered(struct request *r, enum userdb_result result)
{
    r->recording = false;
    if (take_result(r, result))
        walk(r);
}

/* ---- users that a passdb must know first (static) -------------------------------------------------------------- */

static void passdb_asked(struct request *branch, enum passdb_result result)
{
    struct request *r = branch->owner;
    enum userdb_result found;

    switch (result) {
    case PASSDB_OK:
    case PASSDB_NEXT:
        found = userdb_lookup_here(r->link->db, r);
        break;
    case PASSDB_USER_UNKNOWN:
    case PASSDB_USER_DISABLED:
    case PASSDB_PASS_EXPIRED:
        found = USERDB_UNKNOWN;
        break;
    case PASSDB_SCHEME_NOT_AVAILABLE:
        request_error(r, "passdb doesn't support lookups, can't verify user's existence");
        found = USERDB_INTERNAL;
        break;
    default:
        found = USERDB_INTERNAL;
        break;
    }
    request_unref(branch);
    answered(r, found);
}

static void ask_passdb_first(struct request *r)
{
    struct request *branch = request_branch(r);

    branch->owner = r;
    passdb_credentials(branch, "", passdb_asked);
}

/* ---- the walk ------------------------------------------------------------------------------------------------- */

enum userdb_result userdb_lookup_here(struct db *db, struct request *r)
{
    return db->driver->user(db, r);
}

static bool wants(const struct request *r, const struct chain_link *l)
{
    return !(l->skip == SKIP_IF_SUCCESS && r->success == SUCCESS_YES) &&
           !(l->skip == SKIP_UNLESS_SUCCESS && r->success != SUCCESS_YES);
}

static void walk(struct request *r)
{
    enum userdb_result result;

    do {
        struct db *db;

        while (r->position < r->chain->count && !wants(r, &r->chain->at[r->position]))
            r->position++;
        if (r->position >= r->chain->count) {
            finish_chain(r);
            return;
        }
        r->link = &r->chain->at[r->position];
        db = r->link->db;
        request_set_template(r, r->link->default_fields, "", true);
        if (!r->successful && db->driver->wants_passdb != NULL && db->driver->wants_passdb(db)) {
            ask_passdb_first(r);
            return;
        }
        r->raw.list.count = 0;
        if (!cache_find_userdb(r, &result)) {
            r->recording = true;
            if (db->blocking && !r->server->worker) {
                worker_ask_userdb(r, answered);
                return;
            }
            result = userdb_lookup_here(db, r);
            r->recording = false;
            cache_add_userdb(r, result);
        }
    } while (take_result(r, result));
}

void userdb_lookup(struct request *r, userdb_done_fn *done)
{
    r->userdb_done = done;
    r->chain = &r->auth->userdbs;
    r->position = 0;
    r->success = SUCCESS_UNSET;
    r->internal_seen = false;
    r->userdb_lookup = true;
    fields_save(&r->userdb_fields);
    walk(r);
}
