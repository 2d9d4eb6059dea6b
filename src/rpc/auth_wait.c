/* auth_wait.c - blocking forms of the auth clients, for one-shot programs: a private loop runs until the answer. */
#include "rpc/auth_client.h"

#include <unistd.h>

struct wait {
    struct ev_loop *loop;
    struct arena *arena;
    struct error error;
    const char *user;
    struct rpc_fields fields;
    VEC(const char *) names;
    /* PLAIN */
    const struct auth_request_info *info;
    struct auth_client *client;
};

static void lookup_done(void *arg, const struct error *e, const char *user, const struct rpc_fields *fields)
{
    struct wait *w = arg;

    w->error = *e;
    if (w->arena != NULL) {
        w->fields = rpc_fields_copy(w->arena, fields);
        w->user = user == NULL ? NULL : arena_strdup(w->arena, user);
    }
    ev_break(w->loop, EVBREAK_ALL);
}

static int ask(const char *path, bool pass, const char *user, const struct auth_user_info *info, struct arena *arena,
               const char **found, struct rpc_fields *fields, struct error *e)
{
    struct wait w = {.loop = ev_loop_new(EVFLAG_AUTO), .arena = arena};
    struct auth_master *m = auth_master_new(w.loop, path, -1);

    (pass ? auth_master_pass : auth_master_user)(m, user, info, lookup_done, &w);
    ev_run(w.loop, 0);
    auth_master_free(m);
    ev_loop_destroy(w.loop);
    if (w.error.class != ERROR_NONE) {
        *e = w.error;
        return -1;
    }
    *found = w.user;
    *fields = w.fields;
    return 0;
}

int auth_wait_user(const char *path, const char *user, const struct auth_user_info *info, struct arena *arena,
                   const char **found, struct rpc_fields *fields, struct error *e)
{
    return ask(path, false, user, info, arena, found, fields, e);
}

int auth_wait_pass(const char *path, const char *user, const struct auth_user_info *info, struct arena *arena,
                   const char **found, struct rpc_fields *fields, struct error *e)
{
    return ask(path, true, user, info, arena, found, fields, e);
}

static void list_each(void *arg, const char *user)
{
    struct wait *w = arg;

    VEC_PUSH(&w->names, arena_strdup(w->arena, user));
}

int auth_wait_list(const char *path, const char *mask, const struct auth_user_info *info, struct arena *arena,
                   const char ***users, size_t *count, struct error *e)
{
    struct wait w = {.loop = ev_loop_new(EVFLAG_AUTO), .arena = arena};
    struct auth_master *m = auth_master_new(w.loop, path, -1);

    auth_master_list(m, mask, info, list_each, lookup_done, &w);
    ev_run(w.loop, 0);
    auth_master_free(m);
    ev_loop_destroy(w.loop);
    if (w.error.class == ERROR_NONE) {
        *users = arena_copy(arena, w.names.at, w.names.count * sizeof(*w.names.at));
        *count = w.names.count;
    } else {
        *e = w.error;
    }
    VEC_FREE(&w.names);
    return w.error.class == ERROR_NONE ? 0 : -1;
}

int auth_wait_cache_flush(const char *path, const char *const *users, size_t count, unsigned *removed,
                          struct error *e)
{
    struct arena *arena = arena_new();
    struct wait w = {.loop = ev_loop_new(EVFLAG_AUTO), .arena = arena};
    struct auth_master *m = auth_master_new(w.loop, path, -1);
    uint32_t n = 0;

    auth_master_cache_flush(m, users, count, lookup_done, &w);
    ev_run(w.loop, 0);
    auth_master_free(m);
    ev_loop_destroy(w.loop);
    if (w.error.class == ERROR_NONE && (w.user == NULL || !slice_to_u32(slice_from_str(w.user), &n)))
        error_set(&w.error, ERROR_TEMPORARY, "auth server sent a broken CACHE-FLUSH reply");
    arena_free(arena);
    if (w.error.class != ERROR_NONE) {
        *e = w.error;
        return -1;
    }
    *removed = n;
    return 0;
}

/* ---- PLAIN ---------------------------------------------------------------------------------------------------- */

static void plain_answer(void *arg, enum auth_answer answer, struct slice challenge, const struct rpc_fields *fields)
{
    struct wait *w = arg;

    (void)challenge;
    w->fields = rpc_fields_copy(w->arena, fields);
    if (answer == AUTH_FAIL)
        error_set(&w->error, ERROR_PERMISSION, "authentication failed");
    else if (answer == AUTH_ABORTED)
        error_set(&w->error, ERROR_TEMPORARY, "the connection to the auth server broke");
    else if (answer == AUTH_CONTINUE)
        error_set(&w->error, ERROR_TEMPORARY, "auth server asks for more than PLAIN has");
    ev_break(w->loop, EVBREAK_ALL);
}

static void plain_ready(void *arg)
{
    struct wait *w = arg;

    if (auth_request_start(w->client, w->info, plain_answer, w, &w->error) == NULL)
        ev_break(w->loop, EVBREAK_ALL);
}

static void plain_lost(void *arg, const struct error *e)
{
    struct wait *w = arg;

    w->error = *e;
    ev_break(w->loop, EVBREAK_ALL);
}

int auth_wait_plain(const char *path, const struct auth_request_info *info, const char *master, const char *user,
                    const char *password, struct arena *arena, struct rpc_fields *fields, struct error *e)
{
    static const struct auth_client_handler handler = {.ready = plain_ready, .lost = plain_lost};
    struct auth_request_info with = *info;
    struct wait w = {.loop = ev_loop_new(EVFLAG_AUTO), .arena = arena, .info = &with};
    struct buffer raw = {0}, coded = {0};

    /* With a master user the identity is the master's and `user` the one to act as. */
    buffer_reserve(&raw, 64 + strlen(user) + strlen(password) + (master == NULL ? 0 : strlen(master)));
    if (master != NULL)
        buffer_append_str(&raw, user);
    buffer_append_byte(&raw, '\0');
    buffer_append_str(&raw, master != NULL ? master : user);
    buffer_append_byte(&raw, '\0');
    buffer_append_str(&raw, password);
    buffer_reserve(&coded, raw.size * 2);
    text_base64_encode(&coded, buffer_slice(&raw));
    buffer_wipe(&raw);
    with.mech = "PLAIN";
    with.has_initial = true;
    with.initial = buffer_slice(&coded);

    w.client = auth_client_new(w.loop, path, -1, (unsigned)getpid(), &handler, &w);
    ev_run(w.loop, 0);
    auth_client_free(w.client);
    ev_loop_destroy(w.loop);
    buffer_wipe(&coded);
    *fields = w.fields;
    if (w.error.class == ERROR_NONE)
        return 0;
    *e = w.error;
    return -1;
}
