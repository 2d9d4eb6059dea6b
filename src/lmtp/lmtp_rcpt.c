/* lmtp_rcpt.c - RCPT: syntax, detail, userdb, limits, in the order of doors 2.2.
 *
 * While a look-up runs no further command is read, so replies keep their order by themselves. */
#include "lmtp/lmtp_impl.h"
#include "lmtp/lmtp_job.h"
#include "rpc/credentials.h"

static void finish(struct lmtp_client *c)
{
    if (c->mode == LMTP_WAIT)
        c->mode = LMTP_COMMAND;
    lmtp_client_resume(c);
}

static void refuse(struct lmtp_client *c, const char *code, const char *text)
{
    lmtp_reply(c, "%s <%s> %s", code, c->asking->path, text);
    c->asking = NULL;
    finish(c);
}

static void accept_rcpt(struct lmtp_client *c)
{
    struct lmtp_transaction *t = c->trans;
    struct lmtp_rcpt *r = c->asking, *old;

    c->asking = NULL;
    LL_FOREACH(t->rcpts, old)
        if (old->same_as == NULL && strcmp(old->path, r->path) == 0) {
            r->same_as = old;
            break;
        }
    LL_APPEND(t->rcpts, r);
    t->rcpt_count++;
    c->state = "RCPT TO";
    lmtp_reply(c, "250 2.1.5 OK");
    finish(c);
}

static void limit_known(void *arg, bool ok, unsigned count)
{
    struct lmtp_client *c = arg;

    c->query = NULL;
    if (ok && count >= conf_uint(c->set, SET_lmtp_user_concurrency_limit)) {
        refuse(c, "451 4.3.0", "Too many concurrent deliveries for user");
        return;
    }
    c->asking->anvil_ident = anvil_ident(c->trans->arena, "lmtp", "", c->asking->user);
    anvil_connect(c->server->anvil, getpid(), c->asking->anvil_ident);
    accept_rcpt(c);
}

/* ---- lmtp_rcpt_check_quota ---- */

struct room_query {
    struct lmtp_client *client; /* NULL: it does not wait any more */
};

static void check_limit(struct lmtp_client *c)
{
    if (conf_uint(c->set, SET_lmtp_user_concurrency_limit) == 0) {
        accept_rcpt(c);
        return;
    }
    c->query = anvil_lookup(c->server->anvil, anvil_ident(c->trans->arena, "lmtp", "", c->asking->user), limit_known, c);
}

static void room_known(void *arg, const struct error *e, const struct slice *fields, size_t count)
{
    struct room_query *room = arg;
    struct lmtp_client *c = room->client;
    const char *text;

    mem_free(room);
    if (c == NULL)
        return;
    c->room = NULL;
    if (e->class != ERROR_NONE)
        log_error(NULL, "rcpt %s: Failed to ask for its quota: %s", c->asking->path, e->admin);
    if (e->class != ERROR_NONE || count < 2 || slice_equal_str(fields[0], LMTP_ROOM_FAILED)) {
        refuse(c, "451 4.3.0", "Temporary internal error");
        return;
    }
    if (slice_equal_str(fields[0], LMTP_ROOM_FITS)) {
        check_limit(c);
        return;
    }
    text = arena_str(c->trans->arena, fields[1]);
    refuse(c, conf_bool(c->set, SET_quota_full_tempfail) ? "452 4.2.2" : "552 5.2.2", text);
}

static void ask_room(struct lmtp_client *c)
{
    struct lmtp_rcpt *r = c->asking;
    struct lmtp_job_rcpt line = {.user = r->user, .session = arena_printf(c->trans->arena, "%s:quota", r->session), .path = r->path,
                                 .detail = r->detail, .userdb = r->userdb};
    struct dispatch_request request = {.job = true, .service = "lmtp", .user = r->user, .session = line.session, .local = c->local,
                                       .remote = c->remote, .real_local = c->real_local, .real_remote = c->real_remote, .tls = c->tls};
    struct buffer bytes = {0};
    struct error e;

    c->room = mem_zero(1, sizeof(*c->room));
    c->room->client = c;
    lmtp_job_room(&bytes, "lmtp", 0);
    lmtp_job_add(&bytes, &line);
    request.input = buffer_slice(&bytes);
    if (dispatch_client_job(c->server->dispatch, &request, -1, room_known, c->room, &e) < 0)
        room_known(c->room, &e, NULL, 0);
    buffer_free(&bytes);
}

static void user_known(void *arg, const struct error *e, const char *user, const struct rpc_fields *fields)
{
    struct lmtp_client *c = arg;
    struct lmtp_rcpt *r = c->asking;
    struct arena *a = c->trans->arena;

    c->lookup = NULL;
    if (e->class == ERROR_NOT_FOUND) {
        refuse(c, "550 5.1.1", arena_printf(a, "User doesn't exist: %s", r->user));
        return;
    }
    if (e->class != ERROR_NONE) {
        struct log log = {.prefix = arena_printf(a, "lmtp(%s)<%d><%s>: ", r->user, (int)getpid(), r->session)};
        char ip[NET_IP_TEXT];
        log_error(&log, "auth-master: userdb lookup(%s): Auth USER lookup failed", r->user);
        log_error(NULL, "lmtp-server: conn %s:%u [%u]: rcpt %s: Failed to lookup user %s: %s",
                  lmtp_client_address(c, ip), c->remote.port, c->number, r->path, r->user,
                  e->user[0] != '\0' ? e->user
                                     : "Internal error occurred. Refer to server log for more information.");
        refuse(c, "451 4.3.0", "Temporary internal error");
        return;
    }
    r->user = arena_strdup(a, user);
    r->userdb = rpc_fields_copy(a, fields);
    credentials_split_home(a, c->set, &r->userdb);
    if (conf_bool(c->set, SET_lmtp_rcpt_check_quota))
        ask_room(c);
    else
        check_limit(c);
}

static struct auth_user_info lookup_info(const struct lmtp_client *c)
{
    return (struct auth_user_info){.service = "lmtp",
                                   .local = c->local,
                                   .remote = c->remote,
                                   .real_local = c->real_local,
                                   .real_remote = c->real_remote,
                                   .session = c->asking->session};
}

static void ask_user(struct lmtp_client *c)
{
    struct auth_user_info info = lookup_info(c);

    c->lookup = auth_master_user(c->server->auth, c->asking->user, &info, user_known, c);
}

static void proxy_known(void *arg, const struct error *e, const char *user, const struct rpc_fields *fields)
{
    struct lmtp_client *c = arg;

    (void)user;
    c->lookup = NULL;
    if (e->class == ERROR_NONE && rpc_fields_has(fields, "proxy")) {
        log_error(NULL, "rcpt %s: passdb returned proxy, but this LMTP service has no proxy yet", c->asking->path);
        refuse(c, "451 4.3.0", "Temporary internal error");
        return;
    }
    if (e->class != ERROR_NONE && e->class != ERROR_NOT_FOUND) {
        refuse(c, "451 4.3.0", "Temporary user lookup failure");
        return;
    }
    ask_user(c); /* unknown to the passdb, or not proxied: local */
}

/* user+detail: the first delimiter in the local part splits (doors 2.1). */
static void split_detail(struct lmtp_client *c, const struct smtp_path *path, struct lmtp_rcpt *r)
{
    const char *delimiters = conf_str(c->set, SET_recipient_delimiter);
    struct smtp_path plain = *path;

    r->detail = "";
    for (size_t i = 0; i < path->local.size; i++)
        if (path->local.at[i] != 0 && strchr(delimiters, path->local.at[i]) != NULL) {
            plain.local = slice_head(path->local, i);
            r->detail = arena_str(c->trans->arena, slice_from(path->local, i + 1));
            break;
        }
    r->user = smtp_path_user(c->trans->arena, &plain);
}

/* "rfc822;xtext" -> the address; NULL: another shape. */
static const char *original_recipient(struct arena *a, struct slice value)
{
    struct buffer out = {0};
    const char *text = NULL;

    if (slice_starts_nocase(value, SLICE("rfc822;")) && smtp_xtext_decode(&out, slice_from(value, 7)) == 0)
        text = arena_str(a, buffer_slice(&out));
    buffer_free(&out);
    return text;
}

/* False: the reply has been given. */
static bool take_params(struct lmtp_client *c, struct slice rest, struct lmtp_rcpt *r)
{
    struct smtp_param list[SMTP_PARAMS_MAX];
    const char *error;
    size_t n;

    error = smtp_params_parse(rest, list, &n);
    if (error != NULL) {
        lmtp_bad(c, "501 5.5.4 Invalid RCPT parameter: %s", error);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct buffer out = {0};
        int bad;
        if (slice_equal_str_nocase(list[i].key, "ORCPT")) {
            r->original = original_recipient(c->trans->arena, list[i].value);
            if (r->original == NULL) {
                lmtp_bad(c, "501 5.5.4 Invalid addr-type for ORCPT= parameter");
                return false;
            }
            continue;
        }
        if (!slice_equal_str_nocase(list[i].key, "XRCPTFORWARD")) {
            lmtp_reply(c, "555 5.5.4 Unsupported parameters");
            return false;
        }
        /* Without a value the real server dies (known-faults): an error of syntax here. */
        bad = list[i].has_value ? smtp_xtext_decode(&out, list[i].value) : -1;
        buffer_free(&out);
        if (bad < 0) {
            lmtp_bad(c, "501 5.5.4 Invalid XRCPTFORWARD= parameter: Invalid xtext encoding");
            return false;
        }
        if (!c->trusted) {
            lmtp_reply(c, "550 5.7.14 Unacceptable XRCPTFORWARD= parameter: You are not from trusted IP");
            return false;
        }
    }
    return true;
}

void lmtp_rcpt_command(struct lmtp_client *c, struct slice params)
{
    const char *workarounds = conf_str(c->set, SET_lmtp_client_workarounds), *error;
    unsigned flags = (strstr(workarounds, "whitespace-before-path") != NULL ? SMTP_PATH_SPACE_BEFORE : 0) |
                     (strstr(workarounds, "mailbox-for-path") != NULL ? SMTP_PATH_NO_BRACKETS : 0);
    struct lmtp_transaction *t = c->trans;
    struct smtp_path path;
    struct lmtp_rcpt *r;
    struct slice rest;

    if (t == NULL) {
        lmtp_bad(c, "503 5.5.0 MAIL needed first");
        return;
    }
    if (!slice_starts_nocase(params, SLICE("TO:"))) {
        lmtp_bad(c, "501 5.5.4 Invalid parameters");
        return;
    }
    error = smtp_path_parse(slice_from(params, 3), flags, t->arena, &path, &rest);
    if (error != NULL) {
        lmtp_bad(c, "501 5.5.4 Invalid TO: %s", error);
        return;
    }
    r = ARENA_NEW(t->arena, struct lmtp_rcpt);
    r->client = c;
    r->path = smtp_path_text(t->arena, &path);
    if (!take_params(c, rest, r))
        return;
    c->bad_commands = 0;
    t->rcpt_commands++;
    r->session = t->rcpt_commands == 1 ? t->session : arena_printf(t->arena, "%s:R%u", t->session, t->rcpt_commands);
    if (path.local.size == 0 && path.domain.size == 0) {
        lmtp_reply(c, "550 5.1.1 <%s> Unacceptable TO: Empty path not allowed", r->path);
        return;
    }
    if (t->rcpt_count >= LMTP_MAX_RCPTS) {
        lmtp_reply(c, "452 4.5.3 <%s> Too many recipients", r->path);
        return;
    }
    split_detail(c, &path, r);
    c->asking = r;
    lmtp_client_wait(c);
    if (conf_bool(c->set, SET_lmtp_proxy)) {
        struct auth_user_info info = lookup_info(c);
        c->lookup = auth_master_pass(c->server->auth, r->user, &info, proxy_known, c);
    } else
        ask_user(c);
}

void lmtp_rcpt_cancel(struct lmtp_client *c)
{
    if (c->lookup != NULL)
        auth_lookup_cancel(c->lookup);
    c->lookup = NULL;
    if (c->query != NULL)
        anvil_query_cancel(c->query);
    c->query = NULL;
    if (c->room != NULL)
        c->room->client = NULL;
    c->room = NULL;
    c->asking = NULL;
}
