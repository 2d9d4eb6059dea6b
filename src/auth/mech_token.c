/* mech_token.c - DOVECOT-TOKEN (auth.md 11, 21): a mail process shows that it serves a session of this user.
 *
 * Only on the socket token-login/tokenlogin. No database is asked: the token is made of what it says and of a secret. */
#include "auth/conns.h"
#include "auth/mech.h"

/* service NUL pid NUL user NUL session NUL token */
static void input_token(struct exchange *x, struct slice data)
{
    struct request *r = x->request;
    struct slice rest = data, part[5];
    char expected[41];
    const char *service, *user, *session;
    uint32_t pid;
    size_t count = 0;

    while (count < 5 && slice_split(&rest, '\0', &part[count]))
        count++;
    if (count != 5 || rest.at != NULL || !slice_to_u32(part[1], &pid)) {
        exchange_refuse(x, "invalid input");
        return;
    }
    service = arena_str(r->arena, part[0]);
    user = arena_str(r->arena, part[2]);
    session = arena_str(r->arena, part[3]);
    if (!exchange_set_user(x, user))
        return;
    if (r->server->token == NULL) {
        exchange_finish(x, PASSDB_INTERNAL, SLICE_EMPTY);
        return;
    }
    token_make(r->server->token, user, pid, session, service, expected);
    if (!slice_equal_secret(part[4], slice_from_str(expected))) {
        request_info(r, "token is not valid for this session");
        exchange_finish(x, PASSDB_MISMATCH, SLICE_EMPTY);
        return;
    }
    request_set_field(r, "userdb_client_service", service, NULL);
    exchange_finish(x, PASSDB_OK, SLICE_EMPTY);
}

const struct mech mech_token = {.name = "DOVECOT-TOKEN", .flags = "\tprivate", .input = input_token};
