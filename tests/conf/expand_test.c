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

static const struct {
    const char *in, *out, *error;
} failures[] = {
    {"a%yb", "aUNSUPPORTED_VARIABLE_yb", "Unknown variable '%y'"},
    {"%{nosuch}-%n", "UNSUPPORTED_VARIABLE_nosuch-user.name", "Unknown variable '%nosuch'"},
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
    ATF_TP_ADD_TC(tp, errors);
    ATF_TP_ADD_TC(tp, uses);
    return atf_no_error();
}
