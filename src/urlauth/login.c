/* login.c - the program imap-urlauth-login: a mail process shows whose session it serves (ipc 16).
 *
 *     VERSION<TAB>imap-urlauth<TAB>2<TAB>0
 *     AUTH<TAB>service<TAB>pid<TAB>user<TAB>session<TAB>token
 *
 * The pid is that of the process which has made the connection, and the token was made for it (auth.md 21); auth judges the rest.
 * Then the connection is imap-urlauth's. A refusal is "NO". */
#include "login/login.h"

enum { LINE_MAX_BYTES = 2048 };

struct front {
    bool greeted;
};

static void open_client(struct login_client *c)
{
    login_set_state(c, mem_zero(1, sizeof(struct front)));
    stream_input_max(login_stream(c), LINE_MAX_BYTES + 1);
}

static void close_client(struct login_client *c)
{
    mem_free(login_state(c));
    login_set_state(c, NULL);
}

static void nothing_to_say(struct login_client *c)
{
    (void)c;
}

static void refuse(struct login_client *c, const char *why)
{
    stream_write(login_stream(c), SLICE("NO\n"));
    login_disconnect(c, why);
}

static void challenge(struct login_client *c, struct slice base64)
{
    (void)base64;
    refuse(c, "BUG: auth has a question");
}

static void failed(struct login_client *c, enum login_failure failure, const char *text)
{
    (void)failure;
    refuse(c, text);
}

static void bye(struct login_client *c, const char *text)
{
    (void)text;
    stream_write(login_stream(c), SLICE("NO\n"));
}

static void notice(struct login_client *c, const char *text)
{
    (void)c;
    (void)text;
}

static void handover(struct login_client *c, struct buffer *out)
{
    (void)c;
    (void)out;
}

static void put_part(struct buffer *out, struct slice part, bool last)
{
    buffer_append_slice(out, part);
    if (!last)
        buffer_append_byte(out, 0);
}

static void take_auth(struct login_client *c, struct arena *arena, struct slice line)
{
    struct slice *f;
    size_t count = text_tab_fields(arena, line, &f);
    struct buffer plain = {0}, encoded = {0};
    uint32_t pid;

    if (count < 6 || !slice_equal_str(f[0], "AUTH") || !slice_to_u32(f[2], &pid)) {
        refuse(c, "Invalid AUTH request");
        return;
    }
    for (size_t i = 1; i < 6; i++) {
        if (slice_find(f[i], 0) >= 0) {
            refuse(c, "Invalid AUTH request");
            return;
        }
    }
    if (!slice_equal_str(f[1], "imap") && !slice_equal_str(f[1], "submission")) {
        refuse(c, "Unknown service in AUTH request");
        return;
    }
    if (!login_peer_is(c, (pid_t)pid)) {
        refuse(c, "AUTH request of another process");
        return;
    }
    login_set_user(c, arena_str(arena, f[3]));
    login_forwarded(c, NULL, NULL, arena_str(arena, f[4]));
    for (size_t i = 1; i < 6; i++)
        put_part(&plain, f[i], i == 5);
    text_base64_encode(&encoded, buffer_slice(&plain));
    login_auth_start(c, SLICE("DOVECOT-TOKEN"), true, buffer_slice(&encoded));
    buffer_wipe(&plain);
    buffer_wipe(&encoded);
}

static void take_line(struct login_client *c, struct arena *arena, struct slice line)
{
    struct front *front = login_state(c);
    unsigned minor;
    struct error e;

    if (front->greeted) {
        take_auth(c, arena, line);
    } else if (line_check_version(line, "imap-urlauth", 2, &minor, &e) < 0) {
        refuse(c, e.admin);
    } else {
        front->greeted = true;
    }
}

static void input(struct login_client *c)
{
    while (!login_busy(c)) {
        struct slice in = stream_input(login_stream(c));
        ptrdiff_t end = slice_find(in, '\n');
        struct arena *arena;

        if (end < 0) {
            if (in.size > LINE_MAX_BYTES)
                refuse(c, "Input line too long");
            return;
        }
        arena = arena_new();
        in = arena_slice(arena, slice_head(in, (size_t)end));
        stream_consume(login_stream(c), in.size + 1);
        take_line(c, arena, in);
        arena_free(arena);
    }
}

static const struct login_protocol protocol = {
    .name = "imap-urlauth",
    .process = "imap-urlauth-login",
    .socket = "imap-urlauth",
    .folder = "token-login",
    .auth_socket = "tokenlogin",
    .local = true,
    .open = open_client,
    .close = close_client,
    .greet = nothing_to_say,
    .input = input,
    .challenge = challenge,
    .failed = failed,
    .bye = bye,
    .notice = notice,
    .starttls_done = nothing_to_say,
    .handover = handover,
};

int main(int argc, char **argv)
{
    return login_main(argc, argv, &protocol);
}
