/* worker_conn.c - auth-worker: does what auth asks, one thing at a time, synchronously (auth.md 20). */
#include "auth/conns.h"
#include "auth/scheme.h"
#include "auth/worker_pool.h"
#include "net/fdpass.h"
#include "rpc/service.h"

#include <stdio.h>
#include <unistd.h>

#define LINE_MAX_BYTES 8192
#define OUTPUT_MOST (256UL * 1024 * 1024)

struct worker_conn {
    struct server *server;
    struct line_conn *conn;
    unsigned lines;
    pid_t peer_pid;
    uid_t peer_uid;
};

static void handle_line(void *arg, struct slice line);

static void handle_closed(void *arg, const struct error *why)
{
    struct worker_conn *w = arg;
    struct service *service = w->server->service;

    if (why->class != ERROR_NONE)
        log_error(NULL, "auth-worker: %s", why->admin);
    line_conn_free(w->conn);
    if (service != NULL) {
        service_client_end(service);
        if (w->server->retire)
            service_stop(service); /* master starts a fresh one when it is needed */
    }
    mem_free(w);
}

static const struct line_handler conn_handler = {.line = handle_line, .closed = handle_closed};

void worker_conn_new(struct server *s, int fd)
{
    const struct line_limits limits = {.line_max = LINE_MAX_BYTES, .output_max = OUTPUT_MOST, .secret = true};
    struct worker_conn *w = mem_zero(1, sizeof(*w));

    w->server = s;
    w->conn = line_conn_new(s->loop, fd, &limits, &conn_handler, w);
    w->peer_pid = -1;
    (void)net_peer_credentials(fd, &w->peer_pid, &w->peer_uid);
    line_conn_send_version(w->conn, "auth-worker", 1, 0);
}

static void refuse(struct worker_conn *w, const char *why)
{
    struct error e;

    error_set(&e, ERROR_INVALID, "%s", why);
    line_conn_fail(w->conn, &e);
}

/* ---- answers -------------------------------------------------------------------------------------------------- */

static void put_raw(struct buffer *b, const struct request *r)
{
    for (size_t i = 0; i < r->raw.list.count; i++) {
        buffer_append_byte(b, '\t');
        text_tab_escape(b, slice_from_str(r->raw.list.at[i].key));
        buffer_append_byte(b, '=');
        text_tab_escape(b, slice_from_str(r->raw.list.at[i].value == NULL ? "" : r->raw.list.at[i].value));
    }
}

/* user if changed, stored password or credentials, fields */
static void put_details(struct buffer *b, const struct request *r, const char *old_user)
{
    line_field_str(b, strcmp(old_user, r->user) != 0 ? r->user : "");
    buffer_append_byte(b, '\t');
    if (r->wanted_scheme != NULL && *r->wanted_scheme != '\0') {
        struct buffer coded = {0};
        buffer_printf(b, "{%s.b64}", r->wanted_scheme);
        text_base64_encode(&coded, buffer_slice(&r->credentials));
        buffer_append_slice(b, buffer_slice(&coded));
        buffer_wipe(&coded);
    } else if (r->stored != NULL) {
        text_tab_escape(b, slice_from_str(r->stored));
    }
    put_raw(b, r);
}

static void send_passdb(struct worker_conn *w, const char *id, const struct request *r, enum passdb_result result,
                        const char *old_user)
{
    struct buffer b = {0};

    buffer_reserve(&b, 1024);
    buffer_append_str(&b, id);
    if (result == PASSDB_OK && r->failed) /* allow_nets, fail */
        result = PASSDB_USER_UNKNOWN;
    if (result == PASSDB_OK)
        line_field_str(&b, "OK");
    else if (result == PASSDB_NEXT)
        line_field_str(&b, "NEXT");
    else
        buffer_printf(&b, "\tFAIL\t%d", (int)result);
    put_details(&b, r, old_user);
    line_end(&b);
    line_conn_send(w->conn, buffer_slice(&b));
    buffer_wipe(&b);
}

/* ---- commands ------------------------------------------------------------------------------------------------- */

struct command {
    const char *id, *name;
    struct db *db;
    struct chain_link link;   /* so that log lines and %! name the database */
    struct request *request;
};

static void handle_passv(struct worker_conn *w, struct command *c, struct slice password)
{
    struct request *r = c->request;
    const char *old = arena_strdup(r->arena, r->user);
    char *text = mem_strndup(password);

    request_set_password(r, text);
    explicit_bzero(text, strlen(text));
    mem_free(text);
    r->recording = true;
    send_passdb(w, c->id, r, passdb_verify_here(c->db, r), old);
}

static void handle_passl(struct worker_conn *w, struct command *c, struct slice scheme)
{
    struct request *r = c->request;
    const char *old = arena_strdup(r->arena, r->user);

    r->wanted_scheme = mem_strndup(scheme);
    r->recording = true;
    send_passdb(w, c->id, r, passdb_lookup_here(c->db, r), old);
}

static void handle_passw(struct worker_conn *w, struct command *c, struct slice password, struct slice stored)
{
    struct request *r = c->request;
    char *text = mem_strndup(password);

    request_set_password(r, text);
    explicit_bzero(text, strlen(text));
    mem_free(text);
    r->stored = mem_strndup(stored);
    send_passdb(w, c->id, r, request_verify_stored(r), r->user);
}

static void handle_user(struct worker_conn *w, struct command *c)
{
    struct request *r = c->request;
    const char *old = arena_strdup(r->arena, r->user);
    struct buffer b = {0};
    enum userdb_result result;

    r->userdb_lookup = true;
    r->recording = true;
    result = userdb_lookup_here(c->db, r);
    buffer_append_str(&b, c->id);
    if (result == USERDB_FOUND && !fields_has(&r->userdb_fields, "tempfail")) {
        line_field_str(&b, "OK");
        line_field_str(&b, strcmp(old, r->user) != 0 ? r->user : "");
        put_raw(&b, r);
    } else {
        line_field_str(&b, result == USERDB_UNKNOWN ? "NOTFOUND" : "FAIL");
        buffer_append_byte(&b, '\t');
    }
    line_end(&b);
    line_conn_send(w->conn, buffer_slice(&b));
    buffer_free(&b);
}

struct listing {
    struct worker_conn *w;
    const char *id;
};

static void list_user(void *arg, const char *user)
{
    struct listing *l = arg;
    struct buffer b = {0};

    buffer_append_str(&b, l->id);
    line_field_str(&b, "*");
    line_field_str(&b, user);
    line_end(&b);
    line_conn_send(l->w->conn, buffer_slice(&b));
    buffer_free(&b);
}

static void handle_list(struct worker_conn *w, struct command *c)
{
    struct listing l = {w, c->id};
    struct error e;

    if (c->db->driver->iterate == NULL) {
        log_error(NULL, "userdb %s: iteration isn't supported", c->db->driver->name);
        line_conn_print(w->conn, "%s\tFAIL\n", c->id);
    } else if (c->db->driver->iterate(c->db, c->request, list_user, &l, &e) < 0) {
        log_error(NULL, "%s", e.admin);
        line_conn_print(w->conn, "%s\tFAIL\n", c->id);
    } else {
        line_conn_print(w->conn, "%s\tOK\n", c->id);
    }
}

static struct request *import_request(struct server *s, struct arena *arena, const struct slice *word, size_t count,
                                      size_t from)
{
    const char *service = "";
    struct request *r;

    for (size_t i = from; i < count; i++)
        if (slice_starts(word[i], SLICE("service=")))
            service = arena_str(arena, slice_from(word[i], 8));
    r = request_new(s, service);
    if (from < count)
        worker_import(r, word + from, count - from);
    else
        r->user = r->original_user = "";
    return r;
}

static void run_command(struct worker_conn *w, struct arena *arena, const struct slice *word, size_t count)
{
    struct server *s = w->server;
    struct command c = {.id = arena_str(arena, word[0]), .name = arena_str(arena, word[1])};
    bool userdb = strcmp(c.name, "USER") == 0 || strcmp(c.name, "LIST") == 0;
    size_t extra = strcmp(c.name, "PASSW") == 0 ? 2 : userdb ? 0 : 1;
    size_t limit = userdb ? s->userdbs.count : s->passdbs.count;
    uint32_t id;

    if (count < 3 + extra || !slice_to_u32(word[2], &id) || id == 0 || id > limit) {
        refuse(w, "BUG: Auth-worker received broken request");
        return;
    }
    snprintf(s->log_context, sizeof(s->log_context), "conn unix:auth-worker (pid=%ld,uid=%u): auth-worker<%.32s>: ",
             (long)w->peer_pid, (unsigned)w->peer_uid, c.id);
    c.db = userdb ? s->userdbs.at[id - 1] : s->passdbs.at[id - 1];
    c.request = import_request(s, arena, word, count, 3 + extra);
    c.link = (struct chain_link){.name = c.db->driver->name, .db = c.db, .default_fields = "", .override_fields = "",
                                 .mechanisms = "", .username_filter = "", .verbose = -1};
    c.request->link = &c.link;
    if (strcmp(c.name, "PASSV") == 0)
        handle_passv(w, &c, word[3]);
    else if (strcmp(c.name, "PASSL") == 0)
        handle_passl(w, &c, word[3]);
    else if (strcmp(c.name, "PASSW") == 0)
        handle_passw(w, &c, word[3], word[4]);
    else if (strcmp(c.name, "USER") == 0)
        handle_user(w, &c);
    else if (strcmp(c.name, "LIST") == 0)
        handle_list(w, &c);
    else
        refuse(w, arena_printf(arena, "BUG: Auth-worker received unknown command: %s", c.name));
    request_unref(c.request);
    s->log_context[0] = '\0';
    if (s->retire)
        line_conn_print(w->conn, "RESTART\n");
}

/* ---- lines ---------------------------------------------------------------------------------------------------- */

static void check_hash(struct worker_conn *w, const struct slice *word, size_t count)
{
    char passdb[33], userdb[33];

    server_db_hash(w->server, false, passdb);
    server_db_hash(w->server, true, userdb);
    if (count >= 3 && slice_equal_str(word[0], "DBHASH") && slice_equal_str(word[1], passdb) &&
        slice_equal_str(word[2], userdb))
        return;
    log_error(NULL, "Auth worker's passdb/userdb configuration differs from auth's (reload needed?)");
    refuse(w, "configuration differs");
    if (w->server->service != NULL)
        service_stop(w->server->service); /* the next worker reads the new one */
}

static void handle_line(void *arg, struct slice line)
{
    struct worker_conn *w = arg;
    struct arena *arena;
    struct slice *word;
    struct error e;
    unsigned minor, number = w->lines++;
    size_t count;

    if (number == 0) {
        if (line_check_version(line, "auth-worker", 1, &minor, &e) < 0)
            line_conn_fail(w->conn, &e);
        return;
    }
    arena = arena_new();
    count = text_tab_fields(arena, line, &word);
    if (number == 1)
        check_hash(w, word, count);
    else if (count < 3)
        refuse(w, "BUG: Auth-worker received broken request");
    else
        run_command(w, arena, word, count);
    arena_free(arena);
}
