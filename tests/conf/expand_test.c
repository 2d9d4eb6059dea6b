/* Vectors of config 9.2, and what goes wrong. */
#include "conf/conf.h"

#include <atf-c.h>

static bool get_userdb(void *arg, const char *field, struct arena *arena, const char **value, struct error *e)
{
    (void)arg;
    (void)e;
    const char *colon = strchr(field, ':');
    *value = colon == NULL ? NULL : arena_strdup(arena, colon + 1);
    return true;
}

static const struct conf_var user_table[] = {
    {'u', "user", "user.name@ex.ample.org"},
    {'n', "username", "user.name"},
    {'d', "domain", "ex.ample.org"},
    {0, NULL, NULL},
};
static const struct conf_var_func funcs[] = {{"userdb", get_userdb}, {NULL, NULL}};
static const struct conf_vars vars = {user_table, funcs, NULL, NULL};

static const struct {
    const char *in, *out;
} vectors[] = {
    {"%5u", "user."},
    {"%020{username}", "00000000000user.name"},
    {"%1.3u", "ser"},
    {"%-3.2u", "or"},
    {"%3.-2u", "r.name@ex.ample.o"},
    {"%2.0u", "er.name@ex.ample.org"},
    {"%Hu", "6bed897"},
    {"%16Hu", "7"},
    {"%2.256Hn", "a5"},
    {"%2.256Nn", "88"},
    {"%Nu", "35d41a1d"},
    {"%Mu", "63686f5d35d41a1d5e4011211bc74f37"},
    {"%Ru", "gro.elpma.xe@eman.resu"},
    {"%Dd", "ex,dc=ample,dc=org"},
    {"%Xu", "0"},
    {"%LUu", "USER.NAME@EX.AMPLE.ORG"},
    {"%{sha1:user}", "0e2311ea37c5808fb7e3beb2d2a0d13ed0315091"},
    {"%{sha256;truncate=16:user}", "49ed"},
    {"%{sha512;truncate=20:user}", "0c54b0"},
    {"%{sha1;rounds=2,format=base64:user}", "XXX0cN60nfaLAcc6oetLQJQr+R8="},
    {"%{md5;salt=ab,rounds=1:user}", "ee4390686b7b8cf4d0fc14bdcb489e6a"},
    {"%{if;%d;*;*.org;%u;no}", "user.name@ex.ample.org"},
    {"%{if;2;<;1;a}", ""},
    {"%{if;a\\;b;eq;a\\;b;y\\:;n}", "y:"},
    {"%{if;%{if;a;eq;a;x;y};eq;x;%{user};no}", "user.name@ex.ample.org"},
    {"%9.3{username}", ""},
    {"%{userdb:nope:dflt}", "dflt"},
    {"%%u", "%u"},
    {"a%", "a"},
    {"a%L", "a"},
    {"%{if;10;>=;9;y;n}", "y"},
    {"%{if;abc;~;^a.c$;y;n}", "y"},
    {"%{if;abc;!~;b;y;n}", "n"},
};

ATF_TC_WITHOUT_HEAD(vectors);
ATF_TC_BODY(vectors, tc)
{
    (void)tc;
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct error e = {0};
        bool failed;
        const char *got = conf_expand(arena, vectors[i].in, &vars, &failed, &e);
        ATF_CHECK_MSG(!failed, "%s: %s", vectors[i].in, e.admin);
        ATF_CHECK_MSG(strcmp(got, vectors[i].out) == 0, "%s: %s, not %s", vectors[i].in, got, vectors[i].out);
    }
    arena_free(arena);
}

#define KEY "key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define IV "000102030405060708090a0b0c0d0e0f"
#define DATA "cc260227cef6a91ababf3d5f93a4d0e6"
static const struct conf_var crypt_table[] = {
    {0, "user", "u"}, {0, "empty", ""}, {0, "long", "alongeruserthanone"}, {0, "data", DATA}, {0, "both", IV "$" DATA "$"},
    {0, "open", IV "$" DATA}, {0, "more", IV "$" DATA "$x"}, {0, "badiv", "zz$" DATA "$"}, {0, "shortiv", "00$" DATA "$"},
    {0, "baddata", IV "$zz$"}, {0, "shortdata", IV "$00$"}, {0, "junk", IV "zz$" DATA "zz$"}, {0, "tail", DATA "$xx"},
    {0, "longer", IV "$" DATA "00$"}, {0, "ctr", IV "$2f$"}, {0, "base64", "AAECAwQFBgcICQoLDA0ODw==$zCYCJ872qRq6vz1fk6TQ5g==$"},
    {0, "bare64", "AAECAwQFBgcICQoLDA0ODw$zCYCJ872qRq6vz1fk6TQ5g=$"}, {0, NULL, NULL}};

/* What Dovecot 2.3.19's plugin answers. An empty result with an error: refused. */
static const struct {
    const char *in, *out, *error;
} crypts[] = {
    {"%{encrypt;" KEY ",iv=" IV ":user}", IV "$" DATA "$", NULL},
    {"%{encrypt;noiv=yes," KEY ",iv=" IV ":user}", DATA, NULL},
    {"%{encrypt;noiv=YES," KEY ",iv=" IV ":user}", DATA, NULL},
    {"%{encrypt;noiv=1,noiv,foo=bar,," KEY ",iv=" IV ",:user}", IV "$" DATA "$", NULL},
    {"%{encrypt;noiv=yes," KEY "zz,iv=" IV ":user}", DATA, NULL},
    {"%{encrypt;noiv=yes," KEY ",iv=" IV ":long}", "6dc27fca0c3e8873193eef3701ff22a38871e03c1a72f1ed7936e49ecb6613b4", NULL},
    {"%{encrypt;algo=AES-128-CBC,key=" IV ",iv=" IV ":user}", IV "$a2ccf3ef5c29b02fcf2c4038f9958786$", NULL},
    {"%{encrypt;format=base64," KEY ",iv=" IV ":user}", "AAECAwQFBgcICQoLDA0ODw==$zCYCJ872qRq6vz1fk6TQ5g==$", NULL},
    {"%{encrypt;format=base64,format=hex," KEY ",iv=" IV ":user}", IV "$" DATA "$", NULL},
    {"%{encrypt;algo=AES-256-CTR," KEY ",iv=" IV ":user}", IV "$2f$", NULL},
    {"%{encrypt;algo=aes-256-cfb," KEY ",iv=" IV ":user}", IV "$2f$", NULL},
    {"%{encrypt;algo=CAMELLIA-256-CBC," KEY ",iv=" IV ":user}", IV "$28a515da7284fdc1dc3587eb38fc286b$", NULL},
    {"%{decrypt;" KEY ":both}", "u", NULL},
    {"%{decrypt;" KEY ":open}", "u", NULL},
    {"%{decrypt;" KEY ":more}", "u", NULL},
    {"%{decrypt;" KEY ":junk}", "u", NULL},
    {"%{decrypt;" KEY ",noiv=yes,iv=" IV ":data}", "u", NULL},
    {"%{decrypt;" KEY ",iv=" IV ":tail}", "u", NULL},
    {"%{decrypt;" KEY ",format=base64:base64}", "u", NULL},
    {"%{decrypt;" KEY ",format=base64:bare64}", "u", NULL},
    {"%{decrypt;" KEY ",algo=aes-256-ctr:ctr}", "u", NULL},
    {"%5{decrypt;" KEY ":both}y", "uy", NULL},
    {"%{decrypt;" KEY ",iv=" IV ":both}", "", "data authentication failed"},
    {"%{decrypt;" KEY ",iv=0001020304ff060708090a0b0c0d0e0f:data}", "", "data authentication failed"},
    {"%{decrypt;" KEY ":baddata}", "", "data authentication failed"},
    {"%{decrypt;" KEY ":shortdata}", "", "data authentication failed"},
    {"%{decrypt;" KEY ":longer}", "", "data authentication failed"},
    {"%{decrypt;" KEY ":badiv}", "", "decrypt: IV missing"},
    {"%{decrypt;" KEY ":data}", "", "decrypt: IV missing"},
    {"%{decrypt;" KEY ":shortiv}", "", "crypt: IV length invalid (1 != 16)"},
    {"%{encrypt:user}", "", "crypt: Key length invalid (0 != 32)"},
    {"%{encrypt;algo=AES-128-CBC," KEY ",iv=" IV ":user}", "", "crypt: Key length invalid (32 != 16)"},
    {"%{encrypt;" KEY ",iv=00:user}", "", "crypt: IV length invalid (1 != 16)"},
    {"%{encrypt;algo=foo," KEY ":user}", "", "Invalid cipher foo"},
    {"%{encrypt;format=hexuc," KEY ":user}", "", "Cannot parse hash arguments:'hexuc' is not supported format"},
    {"%{encrypt;" KEY ":nosuch}", "", "Unknown variable '%nosuch'"},
};

static const char *double_quotes(void *arg, const char *value, struct arena *arena)
{
    size_t before = strcspn(value, "'");

    (void)arg;
    return value[before] == '\0' ? value : arena_printf(arena, "%.*s'%s", (int)before, value, value + before);
}

ATF_TC_WITHOUT_HEAD(crypt);
ATF_TC_BODY(crypt, tc)
{
    struct arena *arena = arena_new();
    struct conf_vars with = {.table = crypt_table, .crypt = true};
    struct error e = {0};
    const char *one, *two;
    bool failed;

    (void)tc;
    for (size_t i = 0; i < sizeof(crypts) / sizeof(crypts[0]); i++) {
        const char *got = conf_expand(arena, crypts[i].in, &with, &failed, &e);

        ATF_CHECK_MSG(failed == (crypts[i].error != NULL), "%s: %s", crypts[i].in, failed ? e.admin : got);
        if (crypts[i].error == NULL)
            ATF_CHECK_MSG(strcmp(got, crypts[i].out) == 0, "%s: %s, not %s", crypts[i].in, got, crypts[i].out);
        else
            ATF_CHECK_MSG(strcmp(e.admin, crypts[i].error) == 0, "%s: %s, not %s", crypts[i].in, e.admin, crypts[i].error);
    }
    /* A new IV each time; only where it is wanted. */
    one = conf_expand(arena, "%{encrypt;" KEY ":user}", &with, &failed, &e);
    two = conf_expand(arena, "%{encrypt;" KEY ":user}", &with, &failed, &e);
    ATF_CHECK(!failed && strcmp(one, two) != 0);
    conf_expand(arena, "%{encrypt;" KEY ":user}", &vars, &failed, &e);
    ATF_CHECK(failed);
    /* What comes out is escaped like other values. */
    const struct conf_var quoted[] = {{0, "raw", "it's"}, {0, NULL, NULL}};
    with.table = quoted;
    one = conf_expand(arena, "%{encrypt;algo=aes-256-ctr,noiv=yes,iv=" IV "," KEY ":raw}", &with, &failed, &e);
    const struct conf_var hidden[] = {{0, "data", one}, {0, NULL, NULL}};
    with.table = hidden;
    with.escape = double_quotes;
    ATF_CHECK_STREQ(conf_expand(arena, "%{decrypt;algo=aes-256-ctr,iv=" IV "," KEY ":data}", &with, &failed, &e), "it''s");
    arena_free(arena);
}

static const struct {
    const char *in, *out, *error;
} failures[] = {
    {"a%yb", "aUNSUPPORTED_VARIABLE_yb", "Unknown variable '%y'"},
    {"%{nosuch}-%n", "UNSUPPORTED_VARIABLE_nosuch-user.name", "Unknown variable '%nosuch'"},
    {"%{nosuch;a:user}", NULL, "Unknown variable '%nosuch;a'"},
    {"%{one}%{two}%z", NULL, "Unknown variable '%z'"},
    {"%{one}%{two}%n", NULL, "Unknown variable '%two'"},
    {"%{sha1:nosuch:b}", NULL, "Unknown variable '%nosuch'"},
    {"%{open", "UNSUPPORTED_VARIABLE_{open", "Unknown variable '%{'"},
    {"%{if;x;<;1;a}", NULL, "if: x (lhs) is not a number"},
    {"%{if;1;<;y;a}", NULL, "if: y (rhs) is not a number"},
    {"%{if;1;<>;2;a}", NULL, "if: Unsupported comparator '<>'"},
    {"%{if;1;<;2}", NULL, "if: requires four or five parameters, got 3"},
    {"%{sha1;rounds=0:user}", NULL, "Cannot parse hash arguments:rounds must be at least 1"},
};

ATF_TC_WITHOUT_HEAD(errors);
ATF_TC_BODY(errors, tc)
{
    (void)tc;
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        struct error e = {0};
        bool failed = false;
        const char *got = conf_expand(arena, failures[i].in, &vars, &failed, &e);
        ATF_CHECK_MSG(failed, "%s gave %s", failures[i].in, got);
        ATF_CHECK_STREQ(failures[i].error, e.admin);
        if (failures[i].out != NULL)
            ATF_CHECK_STREQ(failures[i].out, got);
    }
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(uses);
ATF_TC_BODY(uses, tc)
{
    (void)tc;
    ATF_CHECK(conf_expand_uses("a%Lub", 'u', "user"));
    ATF_CHECK(conf_expand_uses("%{user}", 'u', "user"));
    ATF_CHECK(conf_expand_uses("%{if;%d;ne;;a;b}", 'd', "domain"));
    ATF_CHECK(conf_expand_uses("%{sha1:user}", 'u', "user"));
    ATF_CHECK(!conf_expand_uses("%%u %n", 'u', "user"));
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, vectors);
    ATF_TP_ADD_TC(tp, crypt);
    ATF_TP_ADD_TC(tp, errors);
    ATF_TP_ADD_TC(tp, uses);
    return atf_no_error();
}
