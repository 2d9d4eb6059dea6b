/* A whole IMAP session after login, on a real Maildir: whatever the client sends, in whatever pieces, no crash, no leak, and
 * the session either waits for input or has ended with a BYE. The first byte chooses the front: raw lines, or the arguments
 * of SEARCH, FETCH, STORE, LIST, so that deep parsers are reached soon. */
#include "compat/read.h"
#include "conf/settings.h"
#include "imap/imap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { ROUNDS = 400, QUIET = 6 };

static struct ev_loop *loop;
static struct conf *conf;
static struct imap_worker *worker;
static char home[] = "/tmp/imap-fuzz.XXXXXX";

static void ended(void *arg, uint32_t id, int fd)
{
    (void)arg;
    (void)id;
    if (fd >= 0)
        close(fd);
}

static const struct imap_worker_handler handler = {.ended = ended};

static void see_nothing(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg;
    (void)level;
    (void)prefix;
    (void)text;
}

static void remove_home(void)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -rf %s", home);
    if (system(command) != 0)
        return;
}

static int begin(void)
{
    struct imap_login login = {.id = 1, .user = "u", .session = "", .home = home};
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        abort();
    imap_worker_adopt(worker, fds[0], -1, &login);
    return fds[1];
}

/* Lets the session work until it is quiet; reads what it says. */
static void settle(int fd)
{
    char scratch[65536];
    int quiet = 0;

    for (int i = 0; i < ROUNDS && quiet < QUIET && imap_worker_sessions(worker) > 0; i++) {
        ev_run(loop, EVRUN_NOWAIT);
        quiet = read(fd, scratch, sizeof(scratch)) > 0 ? 0 : quiet + 1;
    }
}

static void say(int fd, const void *at, size_t size)
{
    if (write(fd, at, size) < 0 && errno != EPIPE && errno != EAGAIN)
        abort();
    settle(fd);
}
#define SAY(fd, text) say(fd, text, sizeof(text) - 1)

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const struct conf_reading running = {.expand = true};
    struct conf_tree *tree;
    struct error e;
    int fd;

    (void)argc;
    (void)argv;
    log_capture(see_nothing, NULL);
    if (mkdtemp(home) == NULL ||
        compat_read_text("mail_location = maildir:~/Maildir\nimap_urlauth_host = *\nmail_attribute_dict = file:%h/attributes\n"
                         "imap_capability = +IMAP4rev2 UTF8=ACCEPT UIDONLY PARTIAL REPLACE OBJECTID STATUS=DELETED APPENDLIMIT INPROGRESS "
                         "MULTISEARCH LIST-METADATA LIST-MYRIGHTS CREATE-SPECIAL-USE MESSAGELIMIT=3\nimap_metadata = yes\nnamespace inbox {\n  inbox = yes\n}\n", &running, &tree, &e) < 0)
        abort();
    atexit(remove_home);
    conf = conf_from_tree(tree);
    loop = ev_default_loop(0);
    worker = imap_worker_new(loop, conf, &handler, NULL);
    fd = begin();
    SAY(fd, "a CREATE a.b\r\na SUBSCRIBE a.b\r\na APPEND INBOX (\\Flagged kw) {130+}\r\n"
            "Subject: =?utf-8?q?h=C3=A4?=\r\nFrom: A <a@b.example>\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
            "--x\r\n\r\none\r\n--x\r\n\r\ntwo\r\n--x--\r\n\r\n");
    close(fd);
    settle(fd);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const fronts[] = {"", "f SEARCH ", "f UID SEARCH RETURN ", "f FETCH 1 ", "f UID FETCH 1:* (", "f STORE 1 ",
                                         "f LIST ", "f SORT ", "f SELECT INBOX ", "f STATUS INBOX ", "f APPEND INBOX ", "f COPY ",
                                         "f NOTIFY SET ", "f SEARCH MIMEPART ", "f GENURLAUTH ", "f REPLACE 1 ", "f URLFETCH ",
                                         "f ESEARCH IN (", "f LIST \"\" * RETURN (", "f CREATE x ("};
    const char *front;
    int fd;

    if (size == 0)
        return 0;
    front = fronts[data[0] % (sizeof(fronts) / sizeof(fronts[0]))];
    fd = begin();
    SAY(fd, "s SELECT INBOX\r\n");
    say(fd, front, strlen(front));
    say(fd, data + 1, (size - 1) / 2);
    say(fd, data + 1 + (size - 1) / 2, (size - 1) - (size - 1) / 2);
    SAY(fd, "\r\nz NOOP\r\n");
    close(fd);
    for (int i = 0; i < ROUNDS && imap_worker_sessions(worker) > 0; i++)
        ev_run(loop, EVRUN_NOWAIT);
    imap_worker_shutdown(worker, "bye");
    for (int i = 0; i < ROUNDS && imap_worker_sessions(worker) > 0; i++)
        ev_run(loop, EVRUN_NOWAIT);
    return 0;
}
