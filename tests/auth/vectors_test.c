/* Numbers that other programs must see the same: session tokens, database hashes, penalties. */
#include "auth/db_drivers.h"
#include "tests/auth/small_server.h"

#include <atf-c.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

ATF_TC_WITHOUT_HEAD(token);
ATF_TC_BODY(token, tc)
{
    struct buffer secret = {0};
    struct token *t;
    struct error e;
    struct stat st;
    char out[41];
    int fd;

    ATF_REQUIRE_EQ(0, text_hex_decode(&secret, SLICE("aa87f476a0ee3ca61f4fc489ed3067cd200f9e18bf4cde56515c29dca14bde69")));
    fd = os_create(AT_FDCWD, "secret.dat", 0600, (gid_t)-1, &e);
    ATF_REQUIRE_EQ(0, os_write(fd, buffer_slice(&secret), &e));
    close(fd);
    t = token_new("secret.dat", &e);
    ATF_REQUIRE(t != NULL);
    token_make(t, "plain", 26058, "RsxXPPxgI+t/AAAB", "imap", out);
    ATF_CHECK_STREQ(out, "7bdb29426aeca495df9571c514a32422b2d1a329");
    token_free(t);
    /* A file that others may read is not believed; a new one is made, with the right mode. */
    ATF_REQUIRE_EQ(0, chmod("secret.dat", 0644));
    t = token_new("secret.dat", &e);
    ATF_REQUIRE(t != NULL);
    token_make(t, "plain", 26058, "RsxXPPxgI+t/AAAB", "imap", out);
    ATF_CHECK(strcmp(out, "7bdb29426aeca495df9571c514a32422b2d1a329") != 0);
    ATF_REQUIRE_EQ(0, stat("secret.dat", &st));
    ATF_CHECK_EQ(st.st_mode & 07777, 0600);
    ATF_CHECK_EQ(st.st_size, 32);
    token_free(t);
    buffer_wipe(&secret);
}

ATF_TC_WITHOUT_HEAD(db_hash);
ATF_TC_BODY(db_hash, tc)
{
    static char sql_args[] = "/etc/dovecot/dovecot-sql.conf.ext", file_args[] = "username_format=%u /etc/dovecot/users";
    struct db passdb = {.id = 1, .driver = &db_sql, .args = sql_args};
    struct db userdb = {.id = 1, .driver = &db_passwd_file, .args = file_args};
    struct server s = {0};
    char hash[33];

    VEC_PUSH(&s.passdbs, &passdb);
    VEC_PUSH(&s.userdbs, &userdb);
    server_db_hash(&s, false, hash);
    ATF_CHECK_STREQ(hash, "c6f690dd9186bfc9732effe77cc7c1e6");
    server_db_hash(&s, true, hash);
    ATF_CHECK_STREQ(hash, "62739c177c25c17182ce4ead57797ff9");
    VEC_FREE(&s.passdbs);
    VEC_FREE(&s.userdbs);
}

/* ---- penalties: a fake anvil ---------------------------------------------------------------------------------- */

static unsigned got_value, got_secs, calls;

static void known(void *arg, unsigned value, unsigned secs)
{
    (void)arg;
    got_value = value;
    got_secs = secs;
    calls++;
}

static void run_until(struct server *s, unsigned wanted)
{
    while (calls < wanted)
        ev_run(s->loop, EVRUN_ONCE);
}

static const char *take(struct server *s, int fd)
{
    static char got[512];
    ssize_t n;

    while ((n = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT)) < 0)
        ev_run(s->loop, EVRUN_NOWAIT);
    got[n] = '\0';
    return got;
}

ATF_TC_WITHOUT_HEAD(penalty);
ATF_TC_BODY(penalty, tc)
{
    static const struct { unsigned stored, ago, value, secs; } rows[] = {
        {1, 0, 1, 4}, {2, 1, 2, 8}, {3, 2, 3, 15}, {4, 14, 4, 15}, {2, 7, 2, 8}, {9, 0, 4, 15}, {4, 15, 0, 0}, {0, 0, 0, 0},
    };
    struct server s;
    struct request *r;
    struct error e;
    int pair[2];

    (void)small_server(&s, "static", "password=x", "static", "uid=1");
    ATF_REQUIRE_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    s.penalty = penalty_new(&s, pair[0]);
    ATF_CHECK_STREQ(take(&s, pair[1]), "VERSION\tanvil\t1\t0\nPENALTY-SET-EXPIRE-SECS\t29\n");
    r = request_new(&s, "imap");
    (void)request_set_param(r, "rip", "192.0.2.1");
    ATF_REQUIRE_EQ(0, request_set_user(r, "sq", &e));
    request_set_password(r, "bad");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        penalty_ask(s.penalty, r, known, NULL);
        ATF_CHECK_STREQ(take(&s, pair[1]), "PENALTY-GET\t192.0.2.1\n");
        dprintf(pair[1], "%u %lld\n", rows[i].stored, (long long)time(NULL) - rows[i].ago);
        run_until(&s, (unsigned)i + 1);
        ATF_CHECK_EQ_MSG(got_value, rows[i].value, "row %zu: %u", i, got_value);
        ATF_CHECK_EQ_MSG(got_secs, rows[i].secs, "row %zu: %u", i, got_secs);
    }
    /* No penalty: known for a moment, and no longer when one is given, or was while anvil answered. */
    penalty_ask(s.penalty, r, known, NULL);
    run_until(&s, 9);
    ATF_CHECK_EQ(got_secs, 0);
    penalty_failed(s.penalty, r, 0);
    ATF_CHECK_STREQ(take(&s, pair[1]), "PENALTY-INC\t192.0.2.1\t3397667637\t1\n");
    penalty_ask(s.penalty, r, known, NULL);
    ATF_CHECK_STREQ(take(&s, pair[1]), "PENALTY-GET\t192.0.2.1\n");
    penalty_failed(s.penalty, r, 0);
    dprintf(pair[1], "0 0\n");
    run_until(&s, 10);
    ATF_CHECK_STREQ(take(&s, pair[1]), "PENALTY-INC\t192.0.2.1\t3397667637\t1\n");
    penalty_ask(s.penalty, r, known, NULL);
    ATF_CHECK_STREQ(take(&s, pair[1]), "PENALTY-GET\t192.0.2.1\n");
    dprintf(pair[1], "1 0\n");
    run_until(&s, 11);
    penalty_failed(s.penalty, r, 0);
    ATF_CHECK_STREQ(take(&s, pair[1]), "PENALTY-INC\t192.0.2.1\t3397667637\t1\n");
    penalty_failed(s.penalty, r, 4);
    ATF_CHECK_STREQ(take(&s, pair[1]), "PENALTY-INC\t192.0.2.1\t3397667637\t4\n");
    penalty_succeeded(s.penalty, r, 2);
    ATF_CHECK_STREQ(take(&s, pair[1]), "PENALTY-INC\t192.0.2.1\t0\t0\n");
    /* IPv6 by its /48; an anvil that is gone delays nobody. */
    (void)request_set_param(r, "rip", "2001:db8:1:2::3");
    penalty_ask(s.penalty, r, known, NULL);
    ATF_CHECK_STREQ(take(&s, pair[1]), "PENALTY-GET\t2001:db8:1::\n");
    close(pair[1]);
    run_until(&s, 12);
    ATF_CHECK_EQ(got_secs, 0);
    request_unref(r);
    penalty_free(s.penalty);
    small_server_end(&s);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, token);
    ATF_TP_ADD_TC(tp, db_hash);
    ATF_TP_ADD_TC(tp, penalty);
    return atf_no_error();
}
