/* From a client's name to a place, and LIST patterns: maildir-and-layouts 2.2, 3.4, 4. */
#include "store/internal.h"
#include "store/pattern.h"
#include "tests/store/user_help.h"

static struct mail_user *user_at(const char *location)
{
    struct mail_user_params params = {.username = "ann@example.org", .home = "/mail/ann"};

    return open_user_of(&params, location, (const char *const[]){NULL});
}

struct vector {
    const char *vname, *name, *path, *refusal;
};

static void check(const char *location, const struct vector *vectors, size_t count)
{
    struct mail_user *user = user_at(location);
    struct arena *arena = arena_new();

    for (size_t i = 0; i < count; i++) {
        const struct vector *v = &vectors[i];
        struct mailbox_place place;
        struct error e = {0};
        int r = mailbox_place(user, arena, slice_from_str(v->vname), &place, &e);

        if (v->refusal != NULL) {
            ATF_CHECK_MSG(r < 0, "%s: '%s' was accepted", location, v->vname);
            ATF_CHECK_STREQ(v->refusal, e.user);
            continue;
        }
        ATF_REQUIRE_MSG(r == 0, "%s: '%s': %s", location, v->vname, e.admin);
        ATF_CHECK_STREQ(v->name, place.name);
        ATF_CHECK_STREQ(v->path, mail_location_path(&place.ns->storage->at, arena, place.name, PATH_MAILBOX));
        if (strcasecmp(v->vname, "inbox") != 0)
            ATF_CHECK_STREQ(place.vname, mailbox_vname_of(place.ns, arena, place.name));
    }
    arena_free(arena);
    mail_user_close(&user);
}
#define CHECK(location, vectors) check(location, vectors, sizeof(vectors) / sizeof(vectors[0]))

ATF_TC_WITHOUT_HEAD(maildirpp);
ATF_TC_BODY(maildirpp, tc)
{
    static const struct vector vectors[] = {
        {"INBOX", "INBOX", "/mail/ann/Maildir", NULL},
        {"iNbOx", "INBOX", "/mail/ann/Maildir", NULL},
        {"INBOX.x", "INBOX.x", "/mail/ann/Maildir/.INBOX.x", NULL},
        {"a.b", "a.b", "/mail/ann/Maildir/.a.b", NULL},
        {"cur", "cur", "/mail/ann/Maildir/.cur", NULL},
        {"\xc3\xa4&", "&AOQ-&-", "/mail/ann/Maildir/.&AOQ-&-", NULL},
        {"*%", "*%", "/mail/ann/Maildir/.*%", NULL},
        {"", NULL, NULL, "Invalid mailbox name: Name is empty"},
        {".", NULL, NULL, "Invalid mailbox name: Begins with hierarchy separator"},
        {"a.", NULL, NULL, "Invalid mailbox name: Ends with hierarchy separator"},
        {"a..b", NULL, NULL, "Invalid mailbox name: Has adjacent hierarchy separators"},
        {"a..", NULL, NULL, "Invalid mailbox name: Has adjacent hierarchy separators"},
        {".a.", NULL, NULL, "Invalid mailbox name: Begins with hierarchy separator"},
        {"./../victim/Maildir", NULL, NULL, "Invalid mailbox name: Begins with hierarchy separator"},
        {"a/b", NULL, NULL, "Invalid mailbox name: Name must not have '/' characters"},
        {"~ann", NULL, NULL, "Invalid mailbox name: Begins with '~'"},
        {"/etc", NULL, NULL, "Invalid mailbox name: Begins with '/'"},
        {"\xff", NULL, NULL, "Invalid mailbox name: Not valid UTF-8"},
    };

    (void)tc;
    CHECK("maildir:~/Maildir", vectors);
}

ATF_TC_WITHOUT_HEAD(fs);
ATF_TC_BODY(fs, tc)
{
    static const struct vector vectors[] = {
        {"INBOX", "INBOX", "/mail/ann/Maildir", NULL},
        {"a/b", "a/b", "/mail/ann/Maildir/a/b", NULL},
        {".x", ".x", "/mail/ann/Maildir/.x", NULL},
        {"a/../b", NULL, NULL, "Invalid mailbox name: Contains '..' part"},
        {"..", NULL, NULL, "Invalid mailbox name: Contains '..' part"},
        {"a/.", NULL, NULL, "Invalid mailbox name: Contains '.' part"},
        {"a/cur", NULL, NULL, "Invalid mailbox name: Contains reserved name"},
        {"tmp", NULL, NULL, "Invalid mailbox name: Contains reserved name"},
        {"/etc/passwd", NULL, NULL, "Invalid mailbox name: Begins with hierarchy separator"},
    };

    (void)tc;
    CHECK("maildir:~/Maildir:LAYOUT=fs", vectors);
}

ATF_TC_WITHOUT_HEAD(apart);
ATF_TC_BODY(apart, tc)
{
    struct mail_user *user = user_at("maildir:~/Maildir:INDEX=/i/%n:CONTROL=/c/%d");
    struct arena *arena = arena_new();
    const struct mail_location *at = &user->inbox->storage->at;

    (void)tc;
    /* A value given as an override is not expanded. */
    ATF_CHECK_STREQ("/i/%n/.INBOX", mail_location_path(at, arena, "INBOX", PATH_INDEX));
    ATF_CHECK_STREQ("/c/%d/.a.b", mail_location_path(at, arena, "a.b", PATH_CONTROL));
    ATF_CHECK_STREQ("/mail/ann/Maildir/.a.b", mail_location_path(at, arena, "a.b", PATH_MAILBOX));
    arena_free(arena);
    mail_user_close(&user);
}

ATF_TC_WITHOUT_HEAD(locations);
ATF_TC_BODY(locations, tc)
{
    static const struct {
        const char *text, *fault;
    } vectors[] = {
        {"maildir:~/x", NULL}, {"maildir:/a::b/c", NULL}, {"maildir:/x:LAYOUT=fs:DIRNAME=m", NULL},
        {"maildir:", "Root mail directory not given"}, {"maildir:INBOX=/x", "Mail root directory not given"},
        {"maildir:/x:FOO=1", "Unknown setting: FOO"}, {"nosuch:/x", "Unknown mail storage driver nosuch"},
        {"maildir:/x:DIRNAME=m", "Mailbox list driver maildir++: maildir_name not supported by this driver"},
        {"maildir:/x:ALT=/y", "Mailbox list driver maildir++: alt_dir not supported by this driver"},
        {"maildir:/x:ITERINDEX", "ITERINDEX requires INDEX to be explicitly set"},
    };
    struct arena *arena = arena_new();
    struct mail_location at;
    struct error e;

    (void)tc;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        int r = mail_location_parse(&at, arena, vectors[i].text, "/mail/ann", &e);

        if (vectors[i].fault == NULL)
            ATF_CHECK_MSG(r == 0, "%s: %s", vectors[i].text, e.admin);
        else
            ATF_CHECK_STREQ(vectors[i].fault, r < 0 ? e.admin : "accepted");
    }
    ATF_CHECK(mail_location_parse(&at, arena, "maildir:/a::b/c/", NULL, &e) == 0);
    ATF_CHECK_STREQ("/a:b/c", at.root);
    ATF_CHECK(mail_location_parse(&at, arena, "maildir:~/x", NULL, &e) < 0);
    ATF_CHECK_STREQ("Home directory not set for user. Can't expand ~/ for mail root dir in: ~/x", e.admin);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(new_names);
ATF_TC_BODY(new_names, tc)
{
    struct mail_user *user = user_at("maildir:~/Maildir:LAYOUT=fs");
    struct arena *arena = arena_new();
    struct mailbox_place place;
    struct error e;
    bool directory;
    char *longest = arena_alloc(arena, 5000);

    (void)tc;
    ATF_CHECK(mailbox_place_new(user, arena, slice_from_str("x/"), &place, &directory, &e) == 0 && directory);
    ATF_CHECK_STREQ("x", place.vname);
    ATF_CHECK(mailbox_place_new(user, arena, slice_from_str("a\tb"), &place, &directory, &e) < 0);
    ATF_CHECK_STREQ("Control characters not allowed in new mailbox names", e.user);
    memset(longest, 'a', 256);
    ATF_CHECK(mailbox_place_new(user, arena, slice_of(longest, 255), &place, &directory, &e) == 0);
    ATF_CHECK(mailbox_place_new(user, arena, slice_of(longest, 256), &place, &directory, &e) < 0);
    ATF_CHECK_STREQ("Mailbox name too long", e.user);
    for (size_t i = 0; i < 4200; i++)
        longest[i] = i % 100 == 99 ? '/' : 'a';
    ATF_CHECK(mailbox_place_new(user, arena, slice_of(longest, 4098), &place, &directory, &e) < 0);
    ATF_CHECK_STREQ("Mailbox name too long", e.user);
    arena_free(arena);
    mail_user_close(&user);
}

ATF_TC_WITHOUT_HEAD(patterns);
ATF_TC_BODY(patterns, tc)
{
    static const struct {
        const char *pattern, *name;
        bool match;
    } vectors[] = {
        {"*", "a/b/c", true}, {"%", "a", true}, {"%", "a/b", false}, {"%/%", "a/b", true}, {"a*c", "a/b/c", true},
        {"a%c", "a/c", false}, {"a%c", "abbc", true}, {"", "", true}, {"", "a", false}, {"**%%**", "x", true},
        {"inbox", "INBOX", true}, {"i%x", "INBOX", true}, {"inbox/X", "INBOX/X", true}, {"inbox/x", "INBOX/X", false},
        {"inboxes", "INBOXES", false}, {"%INBOX", "INBOX", true}, {"b", "INBOX", false}, {"*%x", "INBOX", true},
    };
    struct arena *arena = arena_new();
    size_t n = 4000;
    char *pattern = arena_alloc(arena, n + 1), *name = arena_alloc(arena, n + 1);

    (void)tc;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        ATF_CHECK_MSG(mailbox_pattern_match(slice_from_str(vectors[i].pattern), slice_from_str(vectors[i].name), '/') ==
                          vectors[i].match, "%s %s", vectors[i].pattern, vectors[i].name);
    /* What makes a backtracking matcher run for ever (2026-33607); all of it must be looked at, nothing be capped. */
    for (size_t i = 0; i < n; i++) {
        pattern[i] = i % 2 == 0 ? '*' : 'a';
        name[i] = 'a';
    }
    ATF_CHECK(mailbox_pattern_match(slice_from_str(pattern), slice_from_str(name), '/'));
    pattern[n - 1] = 'b';
    ATF_CHECK(!mailbox_pattern_match(slice_from_str(pattern), slice_from_str(name), '/'));
    arena_free(arena);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, maildirpp);
    ATF_TP_ADD_TC(tp, fs);
    ATF_TP_ADD_TC(tp, apart);
    ATF_TP_ADD_TC(tp, locations);
    ATF_TP_ADD_TC(tp, new_names);
    ATF_TP_ADD_TC(tp, patterns);
    return atf_no_error();
}
