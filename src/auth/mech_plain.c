/* mech_plain.c - PLAIN (RFC 4616) and LOGIN (auth.md 11). */
#include "auth/mech.h"

/* authzid NUL authcid NUL password: exactly two NULs. */
static void input_plain(struct exchange *x, struct slice data)
{
    struct slice rest = data, part[3];
    struct error e;
    size_t count = 0;
    char *password;

    while (count < 3 && slice_split(&rest, '\0', &part[count]))
        count++;
    if (count != 3 || rest.at != NULL) {
        exchange_refuse(x, "invalid input");
        return;
    }
    if (!exchange_set_user(x, arena_str(x->request->arena, part[1])))
        return;
    if (part[0].size > 0 && !slice_equal(part[0], part[1]) &&
        request_set_login_user(x->request, arena_str(x->request->arena, part[0]), &e) < 0) {
        exchange_refuse(x, arena_printf(x->request->arena, "login user: %s", e.admin));
        return;
    }
    password = mem_strndup(part[2]);
    exchange_verify(x, password);
    mem_free(password);
}

const struct mech mech_plain = {
    .name = "PLAIN", .flags = "\tplaintext", .needs_passdb = true, .plaintext = true, .input = input_plain,
};

/* ---- LOGIN: two questions ------------------------------------------------------------------------------------- */

static void begin_login(struct exchange *x)
{
    exchange_challenge(x, SLICE("Username:"));
}

static void input_login(struct exchange *x, struct slice data)
{
    char *password;

    if (slice_find(data, '\0') >= 0) {
        exchange_refuse(x, "invalid input");
        return;
    }
    if (x->state == NULL) {
        x->state = x; /* the name is there */
        if (exchange_set_user(x, arena_str(x->request->arena, data)))
            exchange_challenge(x, SLICE("Password:"));
        return;
    }
    password = mem_strndup(data);
    exchange_verify(x, password);
    mem_free(password);
}

const struct mech mech_login = {
    .name = "LOGIN", .flags = "\tplaintext", .needs_passdb = true, .plaintext = true,
    .begin = begin_login, .input = input_login,
};
