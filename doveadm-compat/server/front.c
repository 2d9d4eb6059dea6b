/* libexec/doveadm-front: speaks with one client of doveadm-server, which has started it (wire.h).
 *
 * Before the first byte of the client is read all rights are given up: user, chroot, seccomp, Landlock as a login process.
 * It knows no password; it hands over what clients send and hears whether it is right. So whoever takes it over has what
 * he had before: a connection. What can go wrong with client, server or pipes ends the process. */
#include "server/front.h"

#include "conf/conf.h"
#include "login/sandbox.h"
#include "net/loop.h"
#include "net/tls_conf.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

enum { CLIENT_SECONDS_TO_END = 30, PIPE_PIECE = 16 * 1024, OUTPUT_HIGH = 256 * 1024 };

#ifdef SANITIZERS
/* The leak checker needs what the sandbox takes away. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}
#endif

bool front_flag(const struct front *f, char flag)
{
    return strchr(f->flags, flag) != NULL;
}

/* ---- the server ------------------------------------------------------------------------------------------------- */

void front_ask_bytes(struct front *f, enum wire_ask kind, struct slice bytes)
{
    struct buffer packet = {0};
    struct error e;

    buffer_append_byte(&packet, (unsigned char)kind);
    buffer_append_slice(&packet, bytes);
    if (packet_conn_send(f->wire, buffer_slice(&packet), -1, &e) < 0)
        front_end(f);
    buffer_wipe(&packet);
}

void front_ask(struct front *f, enum wire_ask kind, const struct slice *texts, size_t count)
{
    struct buffer bytes = {0};

    for (size_t i = 0; i < count; i++) {
        buffer_append_slice(&bytes, texts[i]);
        buffer_append_byte(&bytes, '\0');
    }
    front_ask_bytes(f, kind, buffer_slice(&bytes));
    buffer_wipe(&bytes);
}

static void wire_packet(void *arg, struct slice packet, int fd)
{
    struct front *f = arg;

    if (fd >= 0)
        close(fd);
    if (packet.size == 0 || f->ending)
        return;
    front_pump(f, true);
    f->protocol->answer(f, (enum wire_answer)packet.at[0], packet.size > 1 ? packet.at[1] : 0);
    if (!f->ending)
        f->protocol->input(f);
}

static void wire_closed(void *arg, const struct error *e)
{
    (void)e;
    front_end(arg);
}

/* ---- the output of a command ---------------------------------------------------------------------------------------- */

/* False when there is nothing (more) in it. */
static bool move(struct front *f, int fd, void (*to)(struct front *, struct slice))
{
    unsigned char piece[PIPE_PIECE];
    ssize_t n = read(fd, piece, sizeof(piece));

    if (n > 0 && !f->ending)
        to(f, slice_of(piece, (size_t)n));
    return n > 0;
}

void front_pump(struct front *f, bool all)
{
    while (move(f, FRONT_FD_LOG, f->protocol->log))
        ;
    while ((all || !stream_full(f->stream)) && move(f, FRONT_FD_OUT, f->protocol->output))
        ;
    if (stream_full(f->stream))
        ev_io_stop(f->loop, &f->out_ready);
    else if (!f->ending)
        ev_io_start(f->loop, &f->out_ready);
}

static void pipe_ready(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop, (void)events;
    front_pump(io->data, false);
}

/* ---- the client ---------------------------------------------------------------------------------------------------- */

void front_end(struct front *f)
{
    if (f->ending)
        return;
    f->ending = true;
    ev_io_stop(f->loop, &f->out_ready);
    ev_io_stop(f->loop, &f->log_ready);
    stream_finish(f->stream, CLIENT_SECONDS_TO_END);
}

static void client_readable(void *arg)
{
    struct front *f = arg;

    if (!f->ending)
        f->protocol->input(f);
}

static void client_writable(void *arg)
{
    front_pump(arg, false);
}

static void client_closed(void *arg, const struct error *e)
{
    struct front *f = arg;

    (void)e;
    f->ending = true;
    ev_break(f->loop, EVBREAK_ALL);
}

static void client_deadline(void *arg)
{
    front_end(arg);
}

static void tls_done(void *arg, const struct error *e)
{
    struct front *f = arg;

    if (e->class != ERROR_NONE) {
        log_info(NULL, "TLS handshake failed: %s", e->admin);
        return; /* `closed` follows */
    }
    f->tls_on = true;
    f->protocol->start(f);
}

void front_start_tls(struct front *f)
{
    stream_start_tls(f->stream, f->tls, tls_done);
}

/* ---- the process --------------------------------------------------------------------------------------------------- */

/* The context is made while files may be opened; the settings that it was made from go again. */
static void prepare_tls(struct front *f)
{
    const struct conf_filter filter = {.service = "doveadm", .remote_ip = *f->ip == '\0' ? NULL : f->ip};
    struct tls_cache *cache = tls_cache_new(NULL);
    struct conf *conf;
    struct settings *set;
    struct error e;

    if (conf_open_process(&conf, &e) < 0 || (set = conf_settings(conf, &filter, &e)) == NULL)
        log_fatal(EXIT_FATAL, "%s", e.admin);
    if (strcmp(conf_str(set, SET_ssl), "no") == 0)
        (void)error_set(&f->tls_error, ERROR_UNSUPPORTED, "SSL is disabled (ssl=no)");
    else if ((f->tls = tls_cache_get(cache, set, &f->tls_error)) != NULL)
        f->tls = tls_context_ref(f->tls);
    tls_cache_free(cache);
    settings_unref(set);
    conf_free(conf);
}

static void give_up_rights(const char *user, const char *root)
{
    const struct passwd *pw = geteuid() == 0 ? getpwnam(user) : NULL;

    if (geteuid() == 0) {
        if (pw == NULL)
            log_fatal(EXIT_FATAL, "User doesn't exist: %s", user);
        if (chroot(root) < 0 || chdir("/") < 0)
            log_fatal(EXIT_FATAL, "chroot(%s) failed: %s", root, strerror(errno));
        if (setgroups(0, NULL) < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
            log_fatal(EXIT_FATAL, "setuid(%s) failed: %s", user, strerror(errno));
    }
    login_sandbox_limits();
    login_sandbox_enter(geteuid() != 0 && pw == NULL);
}

static void watch(struct front *f, ev_io *io, int fd)
{
    os_never_block(fd);
    ev_io_init(io, pipe_ready, fd, EV_READ);
    io->data = f;
    ev_io_start(f->loop, io);
}

static void serve(struct front *f)
{
    static const struct stream_handler client = {client_readable, client_writable, client_closed, client_deadline};
    static const struct packet_handler wire = {wire_packet, wire_closed};
    static const struct stream_limits limits = {.input_max = WIRE_PACKET_MAX, .output_high = OUTPUT_HIGH};

    f->stream = stream_new(f->loop, FRONT_FD_CLIENT, -1, &limits, &client, f);
    f->wire = packet_conn_new(f->loop, FRONT_FD_WIRE, WIRE_PACKET_MAX, &wire, f);
    watch(f, &f->out_ready, FRONT_FD_OUT);
    watch(f, &f->log_ready, FRONT_FD_LOG);
    if (front_flag(f, FRONT_FLAG_TLS) && f->tls == NULL) {
        log_error(NULL, "SSL init failed: %s", f->tls_error.admin);
        front_end(f);
    } else if (front_flag(f, FRONT_FLAG_TLS))
        front_start_tls(f);
    else
        f->protocol->start(f);
    ev_run(f->loop, 0);
    packet_conn_free(f->wire);
    stream_free(f->stream);
}

/* doveadm-front PROTOCOL FLAGS ADDRESS USER ROOT */
int main(int argc, char **argv)
{
    struct front f = {.loop = net_loop_open()};

    if (getenv("LOG_SERVICE") != NULL)
        log_open_service("doveadm");
    else
        log_open_stderr("doveadm: ", false);
    if (argc != 6 || f.loop == NULL)
        log_fatal(EXIT_FATAL, "doveadm-front is started by doveadm-server only");
    f.protocol = strcmp(argv[1], "http") == 0 ? &front_http : &front_line;
    f.flags = argv[2];
    f.ip = argv[3];
    if (*f.ip != '\0')
        log_set_prefix("doveadm(%s): ", f.ip);
    prepare_tls(&f);
    give_up_rights(argv[4], argv[5]);
    serve(&f);
    tls_context_unref(f.tls);
    return 0;
}
