/* commands.c - what the front asks for: is the password right, run this command.
 *
 * Nothing is run before the password was right; a front that asks out of turn is ended. */
#include "server/server.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 8192 };

static void answer(struct server_client *c, enum wire_answer kind, int status)
{
    const unsigned char packet[] = {(unsigned char)kind, (unsigned char)status};
    struct error e;

    (void)packet_conn_send(c->wire, slice_of(packet, kind == WIRE_STATUS ? 2 : 1), -1, &e);
}

void server_tell(struct server_client *c, enum log_level level, const char *fmt, ...)
{
    struct buffer text = {0}, record = {0};
    va_list args;
    struct error e;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    log_write(NULL, level, "%s", buffer_cstr(&text));
    buffer_append_byte(&record, (unsigned char)(level + 1));
    if (*c->ip == '\0')
        buffer_printf(&record, "doveadm: %s\n", buffer_cstr(&text));
    else
        buffer_printf(&record, "doveadm(%s): %s\n", c->ip, buffer_cstr(&text));
    (void)os_write(c->log, buffer_slice(&record), &e);
    buffer_free(&text);
    buffer_free(&record);
}

/* The texts of a packet, NULL-ended; NULL when they are not well formed. */
static const char **split_texts(struct arena *a, struct slice bytes, size_t *count)
{
    const char **texts = ARENA_ARRAY(a, const char *, WORDS_MAX + 1);
    struct slice one;

    *count = 0;
    if (bytes.size == 0 || bytes.at[bytes.size - 1] != '\0')
        return NULL;
    bytes.size--;
    while (slice_split(&bytes, '\0', &one)) {
        if (*count == WORDS_MAX)
            return NULL;
        texts[(*count)++] = arena_str(a, one);
    }
    return texts;
}

/* ---- authentication --------------------------------------------------------------------------------------------- */

static bool is_password(struct server_client *c, const char *name, const char *password)
{
    const char *right = conf_str(c->set, SET_doveadm_password);

    if (*right == '\0')
        log_error(NULL, "doveadm_password not set, remote authentication disabled");
    else if (strcmp(name, "doveadm") != 0)
        log_error(NULL, "doveadm client didn't authenticate as 'doveadm'");
    else if (!slice_equal_secret(slice_from_str(password), slice_from_str(right)))
        log_error(NULL, "doveadm client authenticated with wrong password");
    else
        return true;
    return false;
}

static void take_secret(struct server_client *c, enum wire_ask kind, struct slice bytes)
{
    struct arena *a = arena_new();
    const char *key = conf_str(c->set, SET_doveadm_api_key);
    size_t n;
    const char **texts = split_texts(a, bytes, &n);

    if (texts != NULL && kind == WIRE_PLAIN && n == 2)
        c->trusted = is_password(c, texts[0], texts[1]);
    else if (texts != NULL && kind == WIRE_KEY && n == 1) {
        c->trusted = *key != '\0' && slice_equal_secret(slice_from_str(texts[0]), slice_from_str(key));
        if (!c->trusted)
            log_error(NULL, "doveadm client authenticated with wrong X-Dovecot-API key");
    }
    c->refused = !c->trusted; /* one try a connection */
    answer(c, c->trusted ? WIRE_ACCEPTED : WIRE_REFUSED, 0);
    arena_free(a);
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

static void forget_command(struct server_client *c)
{
    arena_free(c->waiting);
    c->waiting = NULL;
    if (c->input >= 0)
        close(c->input);
    c->input = -1;
}

static void command_ended(struct ev_loop *loop, ev_io *io, int events)
{
    struct server_client *c = io->data;
    int status = 0;

    (void)events;
    if (waitpid(c->command, &status, WNOHANG) == 0)
        return;
    ev_io_stop(loop, io);
    close(io->fd);
    c->command = 0;
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGPIPE)
        log_error(NULL, "The command was ended by signal %d", WTERMSIG(status));
    if (c->front_gone)
        server_client_free(c);
    else if (!WIFEXITED(status) || (WEXITSTATUS(status) >= SERVER_FATAL && !c->object))
        answer(c, WIRE_END, 0);
    else
        answer(c, WIRE_STATUS, WEXITSTATUS(status) % SERVER_FATAL);
}

static void run(struct server_client *c)
{
    int pidfd;

    c->command = fork();
    if (c->command == 0)
        server_run_command(c);
    if (c->command < 0 || (pidfd = (int)syscall(SYS_pidfd_open, c->command, 0)) < 0) {
        log_error(NULL, "Can't run a command: %s", strerror(errno));
        if (c->command > 0) {
            (void)kill(c->command, SIGKILL);
            (void)waitpid(c->command, NULL, 0);
        }
        c->command = 0;
        answer(c, WIRE_END, 0);
    } else {
        ev_io_init(&c->ended, command_ended, pidfd, EV_READ);
        c->ended.data = c;
        ev_io_start(service_loop(c->service), &c->ended);
    }
    forget_command(c);
}

static bool is_allowed(const struct server_client *c, const char *command)
{
    struct slice rest = slice_from_str(conf_str(c->set, SET_doveadm_allowed_commands)), one;

    if (rest.size == 0)
        return true;
    while (slice_split(&rest, ',', &one))
        if (slice_equal_str(slice_trim(one), command))
            return true;
    return false;
}

/* True: it may be run, as soon as it has its input. */
static bool check(struct server_client *c, size_t n)
{
    const struct doveadm_command *command;
    size_t wrong;
    char **args;
    int count;

    if (n < 3) {
        server_tell(c, LOG_LEVEL_ERROR, "doveadm client: No command given");
        answer(c, WIRE_END, 0);
        return false;
    }
    wrong = strspn(c->words[0], "Dv");
    if (c->words[0][wrong] != '\0') {
        server_tell(c, LOG_LEVEL_ERROR, "doveadm client: Unknown flag: %c", c->words[0][wrong]);
        answer(c, WIRE_END, 0);
        return false;
    }
    command = server_find_command(c->waiting, c->words, &args, &count);
    if (command != NULL && !is_allowed(c, command->name)) {
        log_error(NULL, "doveadm client ran command that wasn't allowed: %s", command->name);
        answer(c, WIRE_END, 0);
        return false;
    }
    if (command == NULL) {
        server_tell(c, LOG_LEVEL_ERROR, "doveadm: Client sent unknown command: %s", c->words[2]);
        answer(c, WIRE_UNKNOWN, 0);
        return false;
    }
    return true;
}

/* As soon as it has its input. */
static void run_or_wait(struct server_client *c, bool wants_input)
{
    if (!wants_input) {
        run(c);
        return;
    }
    c->input = memfd_create("doveadm input", MFD_CLOEXEC);
    if (c->input < 0) {
        log_error(NULL, "memfd_create() failed: %s", strerror(errno));
        answer(c, WIRE_END, 0);
        forget_command(c);
        return;
    }
    answer(c, WIRE_WANTS_INPUT, 0);
}

static const char *user_of(const char **words)
{
    for (size_t i = 1; words[i] != NULL; i += 2)
        if (strcmp(words[i], "user") == 0)
            return words[i + 1];
    return "(null)";
}

static void take_object(struct server_client *c, struct slice bytes)
{
    const struct doveadm_command *command;
    enum wire_answer no = WIRE_INVALID;
    bool wants_input = false;
    size_t n;

    c->waiting = arena_new();
    c->object = true;
    c->words = split_texts(c->waiting, bytes, &n);
    command = c->words == NULL || n % 2 == 0 ? NULL : server_find_object(c->waiting, c->words[0]);
    if (command == NULL)
        no = WIRE_UNKNOWN;
    else if (!is_allowed(c, command->name))
        no = WIRE_FORBIDDEN;
    else if (server_check_object(c->waiting, c->words, &wants_input)) {
        log_info(NULL, "Executing command '%s' as '%s'", command->name, user_of(c->words));
        run_or_wait(c, wants_input);
        return;
    }
    answer(c, no, 0);
    forget_command(c);
}

static void take_command(struct server_client *c, struct slice bytes)
{
    size_t n;

    c->waiting = arena_new();
    c->object = false;
    c->words = split_texts(c->waiting, bytes, &n);
    if (c->words == NULL || !check(c, n)) {
        if (c->words == NULL)
            answer(c, WIRE_END, 0);
        forget_command(c);
        return;
    }
    run_or_wait(c, server_wants_input(c->waiting, c->words));
}

static void take_input(struct server_client *c, struct slice bytes)
{
    struct error e;

    if (os_write(c->input, bytes, &e) == 0)
        return;
    log_error(NULL, "%s", e.admin);
    answer(c, WIRE_END, 0);
    forget_command(c);
}

void server_take_packet(struct server_client *c, struct slice packet)
{
    enum wire_ask kind = packet.size == 0 ? 0 : (enum wire_ask)packet.at[0];
    struct slice bytes = slice_from(packet, 1);
    bool copy = kind == WIRE_COPY_IN || kind == WIRE_COPY_OUT;
    bool secret = kind == WIRE_PLAIN || kind == WIRE_KEY, input = kind == WIRE_DATA || kind == WIRE_DATA_END;

    if (copy) {
        if (kind == WIRE_COPY_IN)
            rawlog_in(c->rawlog, bytes);
        else
            rawlog_out(c->rawlog, bytes);
    } else if (c->command != 0 || c->refused || c->trusted == secret || (c->input >= 0) != input) {
        log_error(NULL, "doveadm-front asked out of turn");
        answer(c, WIRE_END, 0);
    } else if (secret)
        take_secret(c, kind, bytes);
    else if (kind == WIRE_DATA)
        take_input(c, bytes);
    else if (kind == WIRE_DATA_END)
        run(c);
    else if (kind == WIRE_COMMAND)
        take_command(c, bytes);
    else if (kind == WIRE_OBJECT)
        take_object(c, bytes);
    else if (kind == WIRE_LIST) {
        server_list(c);
        answer(c, WIRE_STATUS, 0);
    }
    else
        answer(c, WIRE_END, 0);
}
