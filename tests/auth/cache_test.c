/* The authentication cache (auth.md 12), with a database that counts how often it is asked. */
#include "auth/cache.h"
#include "tests/auth/small_server.h"

#include <atf-c.h>
#include <stdio.h>

static unsigned asked;
static const char *stored_now;

static int open_counting(struct db *db, const struct db_params *params, struct error *e)
{
    static const char *const templates[] = {"%u %r", NULL};

    (void)e;
    db->cache_key = db_cache_key(params->arena, templates);
    return 0;
}

static enum passdb_result lookup_counting(struct db *db, struct request *r)
{
    asked++;
    if (strncmp(r->user, "no", 2) == 0)
        return PASSDB_USER_UNKNOWN;
    request_set_field(r, "password", stored_now, db->default_scheme);
    request_set_field(r, "x", "1", db->default_scheme);
    request_set_field(r, "userdb_home", "/h", db->default_scheme);
    return PASSDB_OK;
}

static const struct db_driver counting = {.name = "counting", .default_scheme = "PLAIN", .passdb = true,
                                          .open = open_counting, .lookup = lookup_counting};

static enum passdb_result last;
static char fields[64];

static void done(struct request *r, enum passdb_result result)
{
    last = result;
    fields[0] = '\0';
    for (size_t i = 0; i < r->passdb_fields.list.count; i++)
        strcat(fields, r->passdb_fields.list.at[i].key);
}

static enum passdb_result login(struct server *s, const char *user, const char *password, const char *ip)
{
    struct request *r = request_new(s, "imap");
    struct error e;

    (void)request_set_param(r, "rip", ip);
    ATF_REQUIRE_EQ(0, request_set_user(r, user, &e));
    request_set_password(r, password);
    passdb_verify(r, done);
    request_unref(r);
    return last;
}

static void begin(struct server *s, size_t bytes)
{
    db_driver_add(&counting);
    (void)small_server(s, "counting", "", "static", "uid=1 allow_all_users=yes");
    s->cache = cache_new(bytes, 3600, 3600);
    asked = 0;
    stored_now = "secret";
}

ATF_TC_WITHOUT_HEAD(hits);
ATF_TC_BODY(hits, tc)
{
    struct server s;
    const char *const bob[] = {"bob"};

    begin(&s, 100000);
    ATF_CHECK_EQ(PASSDB_OK, login(&s, "bob", "secret", "192.0.2.1"));
    ATF_CHECK_EQ(PASSDB_OK, login(&s, "bob", "secret", "192.0.2.1"));
    ATF_CHECK_EQ(1, asked);
    ATF_CHECK_STREQ(fields, "xuserdb_home");
    /* The key holds what the query depends on. */
    ATF_CHECK_EQ(PASSDB_OK, login(&s, "bob", "secret", "192.0.2.2"));
    ATF_CHECK_EQ(2, asked);
    ATF_CHECK_EQ(2, cache_flush(s.cache, bob, 1));
    ATF_CHECK_EQ(PASSDB_OK, login(&s, "bob", "secret", "192.0.2.1"));
    ATF_CHECK_EQ(3, asked);
    small_server_end(&s);
}

/* After a success a mismatch asks the database again: a new password works at once, the old one no more. */
ATF_TC_WITHOUT_HEAD(changed_password);
ATF_TC_BODY(changed_password, tc)
{
    struct server s;

    begin(&s, 100000);
    ATF_CHECK_EQ(PASSDB_OK, login(&s, "bob", "secret", "192.0.2.1"));
    stored_now = "new";
    ATF_CHECK_EQ(PASSDB_OK, login(&s, "bob", "new", "192.0.2.1"));
    ATF_CHECK_EQ(2, asked);
    ATF_CHECK_EQ(PASSDB_MISMATCH, login(&s, "bob", "secret", "192.0.2.1"));
    small_server_end(&s);
}

/* Negative entries are one per password: guessing at a name does not lock it. */
ATF_TC_WITHOUT_HEAD(negative);
ATF_TC_BODY(negative, tc)
{
    struct server s;

    begin(&s, 100000);
    ATF_CHECK_EQ(PASSDB_USER_UNKNOWN, login(&s, "nobody", "a", "192.0.2.1"));
    ATF_CHECK_EQ(PASSDB_USER_UNKNOWN, login(&s, "nobody", "a", "192.0.2.1"));
    ATF_CHECK_EQ(1, asked);
    ATF_CHECK_EQ(PASSDB_USER_UNKNOWN, login(&s, "nobody", "b", "192.0.2.1"));
    ATF_CHECK_EQ(2, asked);
    small_server_end(&s);
}

/* The oldest go when the bytes are used up; nothing grows beyond. */
ATF_TC_WITHOUT_HEAD(bounded);
ATF_TC_BODY(bounded, tc)
{
    struct server s;
    char user[32];

    begin(&s, 2048);
    for (int i = 0; i < 100; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        ATF_REQUIRE_EQ(PASSDB_OK, login(&s, user, "secret", "192.0.2.1"));
    }
    ATF_CHECK_EQ(100, asked);
    ATF_CHECK_EQ(PASSDB_OK, login(&s, "user99", "secret", "192.0.2.1"));
    ATF_CHECK_EQ(100, asked);
    ATF_CHECK_EQ(PASSDB_OK, login(&s, "user0", "secret", "192.0.2.1"));
    ATF_CHECK_EQ(101, asked);
    ATF_CHECK(cache_flush(s.cache, NULL, 0) < 12);
    small_server_end(&s);
}

/* A TAB or a colon in a name leads to no other name's entry (CVE-2025-30189). */
ATF_TC_WITHOUT_HEAD(keys_apart);
ATF_TC_BODY(keys_apart, tc)
{
    struct server s;

    begin(&s, 100000);
    ((struct auth *)(uintptr_t)s.auths.at[0])->set.username_chars = "";
    ATF_CHECK_EQ(PASSDB_OK, login(&s, "a\t192.0.2.1", "secret", "192.0.2.2"));
    ATF_CHECK_EQ(PASSDB_OK, login(&s, "a", "secret", "192.0.2.1"));
    ATF_CHECK_EQ(2, asked);
    small_server_end(&s);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, hits);
    ATF_TP_ADD_TC(tp, changed_password);
    ATF_TP_ADD_TC(tp, negative);
    ATF_TP_ADD_TC(tp, bounded);
    ATF_TP_ADD_TC(tp, keys_apart);
    return atf_no_error();
}
