/* worker.c - the program imap-urlauth-worker: becomes the owner of a mailbox and reads messages out of it (ipc 16).
 *
 *     control:  '0' + the client's socket, VERSION -> OK, ACCESS user service [debug] [apps=a,b] -> OK, ... FINISHED | DISCONNECTED
 *     client:   USER owner -> OK | NO;  URL url [body|binary] [bpstruct] -> OK ... size, bytes | NO error=text;  END
 *
 * Who accesses is what imap-urlauth says, never the client. A process reads as one owner and ends (service_count=1), since it has
 * given up the right to become another. It waits blocking: it has one client, and nothing else to do. */
#include "conf/settings.h"
#include "imap/urlauth.h"
#include "net/fdpass.h"
#include "rpc/auth_client.h"
#include "rpc/auth_home.h"
#include "rpc/credentials.h"
#include "rpc/service.h"
#include "urlauth/wire.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

enum { LINE_MOST = 8192, IDLE_SECS = 10 * 60, ANSWER_SECS = 30, CHUNK = 16 * 1024, APPS_MAX = 8 };
enum { WANT_BODY = 1, WANT_BINARY = 2, WANT_STRUCTURE = 4 };

struct worker {
    struct service *service;
    struct arena *arena;               /* of the client */
    struct wire control, client;
    struct buffer line;
    const char *accessor;              /* NULL: anonymous */
    const char *apps[APPS_MAX + 1];
    struct mail_user *user;
    struct settings *set;
    struct auth_homes *homes;
    struct log log;
};

/* ---- the owner ----------------------------------------------------------------------------------------------------------- */

/* From here on the process has the owner's rights. */
static int become_owner(struct worker *w, const char *user, struct rpc_fields *fields, struct error *e)
{
    struct mail_user_params params = {.username = user, .service = "imap-urlauth-worker", .log = &w->log};
    struct conf_filter filter = {.service = "imap-urlauth-worker"};
    struct settings *set = conf_settings(service_conf(w->service), &filter, e);
    struct credentials credentials;

    if (set == NULL)
        return -1;
    credentials_split_home(w->arena, set, fields);
    params.home = rpc_fields_get(fields, "home");
    params.fields = rpc_fields_texts(w->arena, fields);
    w->set = settings_override_all(set, params.fields, e);
    settings_unref(set);
    if (w->set == NULL || credentials_find(w->arena, w->set, user, fields, &credentials, e) < 0)
        return -1;
    w->homes = auth_homes_new(service_base_dir(w->service), "imap-urlauth-worker");
    params.find_home = auth_homes_find;
    params.find_home_arg = w->homes;
    if (geteuid() == 0 && credentials_take(&credentials, e) < 0)
        log_fatal(EXIT_FATAL, "%s", e->admin);
    return mail_user_open(&w->user, w->set, &params, e);
}

/* USER: false: the answer is NO. */
static bool select_owner(struct worker *w, const char *name)
{
    struct auth_user_info info = {.service = "imap-urlauth-worker"};
    struct rpc_fields fields;
    const char *path = arena_printf(w->arena, "%s/auth-userdb", service_base_dir(w->service)), *user;
    struct error e = {0};

    if (auth_wait_user(path, name, &info, w->arena, &user, &fields, &e) < 0) {
        if (e.class != ERROR_NOT_FOUND)
            log_error_value(&w->log, &e);
        return false;
    }
    w->log.prefix = arena_printf(w->arena, "imap-urlauth-worker(%s)<%ld>: ", user, (long)getpid());
    if (become_owner(w, user, &fields, &e) < 0) {
        log_error_value(&w->log, &e);
        return false;
    }
    return urlauth_enabled(w->user);
}

/* ---- URLs ---------------------------------------------------------------------------------------------------------------- */

/* "NO error=...", or without a reason where the asker has no access: he is not to learn more of the mailbox. */
static int refuse(struct worker *w, struct arena *arena, struct slice url, const struct urlauth_fetch *f, const struct error *e)
{
    const char *why = f->fault;
    struct buffer out = {0};
    int result;

    if (f->denied)
        return wire_write(&w->client, SLICE("NO\n"));
    if (why == NULL && e->user[0] != '\0')
        why = e->user;
    if (why == NULL) {
        log_error_value(&w->log, e);
        why = "Internal error occurred. Refer to server log for more information.";
    }
    line_begin(&out, "NO");
    line_pair(&out, "error", arena_printf(arena, "Failed to %s URLAUTH \"%.*s\": %s%s", f->read_fault ? "read" : "fetch", (int)url.size,
                                          (const char *)url.at, f->syntax ? "Invalid URLAUTH: " : "", why));
    line_end(&out);
    result = wire_write(&w->client, buffer_slice(&out));
    buffer_free(&out);
    return result;
}

static int find(struct worker *w, struct arena *arena, struct urlauth_fetch *f, struct slice url, struct error *e)
{
    struct store_op *op;

    if (!urlauth_parse(f, arena, w->set, url))
        return -1;
    if (strcmp(f->url.user, mail_user_name(w->user)) != 0) {
        f->fault = "URL of another user";
        f->denied = true;
        return -1;
    }
    if (urlauth_begin(f, arena, w->user, w->accessor, w->apps, e) < 0)
        return -1;
    op = f->part.op;
    f->part.op = NULL;
    if (store_op_wait(op, e) < 0) {
        f->denied = false;
        return -1;
    }
    return urlauth_check(f, arena, e);
}

static int send_bytes(struct worker *w, struct part *part)
{
    unsigned char chunk[CHUNK];
    uint64_t left = part->size;
    struct error e = {0};

    while (left > 0) {
        ssize_t n = part_read(part, chunk, left < CHUNK ? (size_t)left : CHUNK, &e);

        if (n <= 0) { /* the size has been said: only the end of the connection tells the truth now */
            log_error(&w->log, "Message ended early: %s", e.admin);
            return -1;
        }
        if (wire_write(&w->client, slice_of(chunk, (size_t)n)) < 0)
            return -1;
        left -= (uint64_t)n;
    }
    return part->size == 0 ? 0 : wire_write(&w->client, SLICE("\n"));
}

/* "OK [bpstruct=...] [hasnuls] size", then the bytes. */
static int answer(struct worker *w, struct arena *arena, struct urlauth_fetch *f, unsigned want, struct error *e, bool *said)
{
    struct buffer structure = {0}, out = {0};
    int result = 0;

    f->read_fault = true;
    if ((want & WANT_STRUCTURE) != 0)
        result = part_structure(&f->part, arena, &structure, &f->fault, e);
    if (result == 0 && (want & (WANT_BODY | WANT_BINARY)) != 0)
        result = part_open(&f->part, arena, (want & WANT_BINARY) != 0, &f->fault, e);
    else
        f->part.size = 0;
    if (result == 0) {
        line_begin(&out, "OK");
        if ((want & WANT_STRUCTURE) != 0)
            line_pair(&out, "bpstruct", buffer_cstr(&structure));
        if (f->part.binary)
            line_field_str(&out, "hasnuls");
        line_field_num(&out, f->part.size);
        line_end(&out);
        *said = true;
        result = wire_write(&w->client, buffer_slice(&out));
        if (result == 0)
            result = send_bytes(w, &f->part);
    }
    buffer_free(&structure);
    buffer_free(&out);
    return result;
}

static int fetch(struct worker *w, const struct slice *words, size_t count)
{
    struct arena *arena = arena_new();
    struct urlauth_fetch f = {0};
    struct error e = {0};
    unsigned want = 0;
    bool said = false;
    int result = -1;

    for (size_t i = 2; i < count; i++) {
        if (slice_equal_str(words[i], "body"))
            want |= WANT_BODY;
        else if (slice_equal_str(words[i], "binary"))
            want |= WANT_BINARY;
        else if (slice_equal_str(words[i], "bpstruct"))
            want |= WANT_STRUCTURE;
    }
    if (count >= 2) {
        if (find(w, arena, &f, words[1], &e) == 0)
            result = answer(w, arena, &f, want, &e, &said);
        if (result < 0 && !said)
            result = refuse(w, arena, words[1], &f, &e);
        part_close(&f.part);
    }
    arena_free(arena);
    return result;
}

/* ---- the client ---------------------------------------------------------------------------------------------------------- */

/* -1: the connection is over. *last: what imap-urlauth hears then; NULL: nothing, the client is not worth another worker. */
static int take_command(struct worker *w, const char **last)
{
    struct arena *arena = arena_new();
    struct slice *words;
    size_t count = wire_fields(arena, &w->line, &words);
    int result = -1;

    if (slice_equal_str(words[0], "END")) {
        *last = "FINISHED";
    } else if (w->user == NULL && slice_equal_str(words[0], "USER") && count >= 2 && slice_find(words[1], 0) < 0) {
        bool found = select_owner(w, arena_str(w->arena, words[1]));

        result = wire_write(&w->client, found ? SLICE("OK\n") : SLICE("NO\n"));
        if (!found) {
            *last = NULL;
            result = -1;
        }
    } else if (w->user != NULL && slice_equal_str(words[0], "URL")) {
        result = fetch(w, words, count);
    } else {
        *last = NULL;
        log_error(&w->log, "Client sent an unexpected command");
    }
    arena_free(arena);
    return result;
}

static void serve(struct worker *w)
{
    const char *last = "DISCONNECTED";

    w->client.guard = w->control.fd;
    while (wire_line(&w->client, &w->line, LINE_MOST, IDLE_SECS) == WIRE_LINE && take_command(w, &last) == 0)
        ;
    if (last == NULL)
        return;
    buffer_reset(&w->line);
    buffer_printf(&w->line, "%s\t%llu\t%llu\n", last, (unsigned long long)w->client.in,
                  (unsigned long long)w->client.out);
    w->control.guard = -1;
    (void)wire_write(&w->control, buffer_slice(&w->line));
}

/* ---- the control connection ---------------------------------------------------------------------------------------------- */

static bool take_access(struct worker *w)
{
    struct slice *words, apps, app;
    size_t count, n = 0;

    if (wire_line(&w->control, &w->line, LINE_MOST, ANSWER_SECS) != WIRE_LINE)
        return false;
    count = wire_fields(w->arena, &w->line, &words);
    if (count < 3 || !slice_equal_str(words[0], "ACCESS"))
        return false;
    w->accessor = words[1].size == 0 ? NULL : arena_str(w->arena, words[1]);
    for (size_t i = 3; i < count; i++) {
        if (slice_equal_str(words[i], "debug"))
            w->log.debug = true;
        if (!slice_starts(words[i], SLICE("apps=")))
            continue;
        apps = slice_from(words[i], 5);
        while (apps.size > 0 && slice_split(&apps, ',', &app) && n < APPS_MAX)
            w->apps[n++] = arena_str(w->arena, app);
    }
    return wire_write(&w->control, SLICE("OK\n")) == 0;
}

static bool take_client(struct worker *w)
{
    unsigned minor;
    struct error e;
    char byte = 0;

    if (net_receive_fd(w->control.fd, &byte, 1, &w->client.fd) != 1 || byte != '0' || w->client.fd < 0) {
        log_error(NULL, "imap-urlauth sent no client");
        return false;
    }
    if (wire_line(&w->control, &w->line, LINE_MOST, ANSWER_SECS) != WIRE_LINE)
        return false;
    if (line_check_version(buffer_slice(&w->line), "imap-urlauth-worker", 2, &minor, &e) < 0) {
        log_error_value(NULL, &e);
        return false;
    }
    return wire_write(&w->control, SLICE("OK\n")) == 0 && take_access(w);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    struct worker *w = arg;
    struct buffer line = {0};

    (void)listener;
    (void)signal(SIGTERM, SIG_DFL); /* the loop waits for this client; it only reads */
    w->arena = arena_new();
    w->control = (struct wire){.fd = fd, .guard = -1};
    w->client = (struct wire){.fd = -1, .guard = -1};
    w->line = line;
    w->log.prefix = arena_printf(w->arena, "imap-urlauth-worker(%ld): ", (long)getpid());
    {
        struct pollfd first = {.fd = fd, .events = POLLIN};

        if (poll(&first, 1, ANSWER_SECS * 1000) > 0 && take_client(w))
            serve(w);
    }
    if (w->client.fd >= 0)
        (void)close(w->client.fd);
    (void)close(fd);
    mail_user_close(&w->user);
    auth_homes_free(w->homes);
    w->homes = NULL;
    settings_unref(w->set);
    w->set = NULL;
    buffer_free(&w->line);
    arena_free(w->arena);
    service_client_end(w->service);
    if (geteuid() != 0 && !service_unprivileged(w->service))
        service_stop(w->service); /* whoever it has become, it stays */
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "imap-urlauth-worker"};
    static const struct service_handler handler = {.connected = connected};
    struct worker w = {0};

    w.service = service_init(argc, argv, &options, &w);
    service_ready(w.service, &handler, &w);
    return service_run(w.service);
}
