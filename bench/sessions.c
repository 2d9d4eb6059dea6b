/*
 * sessions HOST PORT COUNT PARALLEL COMMAND ...: plays COUNT IMAP sessions, PARALLEL at a time. Each reads the greeting, sends
 * the commands one after the other (`LOGIN user pass`, `LOGOUT`; the tag is added), each when the one before it has been
 * answered OK, and is over when the server closes. Prints nothing; status 0 if all were answered OK.
 *
 * For measuring logins: the client shares the machine with the server, and one that costs as much as the servers hides what
 * they do. Literals in answers are not skipped: a line within one that begins with the tag would be taken for the answer.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct session {
    int fd;
    int answered;        /* commands that have been; -1: no greeting yet */
    char line[1024];     /* the beginning of the line that is being read */
    size_t length;       /* of the line so far, bytes that `line` has no room for among them */
};

struct script {
    struct sockaddr_in server;
    char **commands;
    int count;
};

/* A session begins in this place. -1: an error, which has been said */
static int start(struct session *session, struct pollfd *place, const struct script *script)
{
    int on = 1;

    *session = (struct session){ .answered = -1, .fd = socket(AF_INET, SOCK_STREAM, 0) };
    if (session->fd < 0 || connect(session->fd, (const struct sockaddr *)&script->server, sizeof script->server) < 0 ||
        setsockopt(session->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) {
        perror("connect");
        return -1;
    }
    *place = (struct pollfd){ .fd = session->fd, .events = POLLIN };
    return 0;
}

static int send_next(struct session *session, const struct script *script)
{
    char text[1024];
    int length;

    if (session->answered >= script->count)
        return 0;
    length = snprintf(text, sizeof text, "t%d %s\r\n", session->answered, script->commands[session->answered]);
    if (length < 0 || (size_t)length >= sizeof text)
        return -1;
    return write(session->fd, text, (size_t)length) == length ? 0 : -1;
}

/* A whole line stands in session->line. */
static int take_line(struct session *session, const struct script *script)
{
    char tag[16];
    size_t length;

    if (session->answered < 0) {
        session->answered = 0;
        return send_next(session, script);
    }
    length = (size_t)snprintf(tag, sizeof tag, "t%d ", session->answered);
    if (strncmp(session->line, tag, length) != 0)
        return 0;
    if (strncmp(session->line + length, "OK", 2) != 0) {
        fprintf(stderr, "%s: %s\n", script->commands[session->answered], session->line);
        return -1;
    }
    session->answered++;
    return send_next(session, script);
}

/* -> 1: the session is over and all was answered; 0: it goes on; -1: an error, which has been said */
static int read_some(struct session *session, const struct script *script)
{
    char bytes[16384];
    ssize_t got = read(session->fd, bytes, sizeof bytes);

    if (got <= 0) {
        if (got == 0 && session->answered == script->count)
            return 1;
        fprintf(stderr, "answered %d of %d: %s\n", session->answered, script->count, got < 0 ? strerror(errno) : "closed");
        return -1;
    }
    for (ssize_t i = 0; i < got; i++) {
        if (bytes[i] != '\n') {
            if (session->length < sizeof session->line - 1)
                session->line[session->length] = bytes[i];
            session->length++;
            continue;
        }
        session->line[session->length < sizeof session->line ? session->length : sizeof session->line - 1] = '\0';
        session->length = 0;
        if (take_line(session, script) < 0)
            return -1;
    }
    return 0;
}

/* Keeps the sessions of one poll set going. */
static int play(const struct script *script, long count, int parallel)
{
    struct session *sessions = calloc((size_t)parallel, sizeof *sessions);
    struct pollfd *polls = calloc((size_t)parallel, sizeof *polls);
    long begun = 0, over = 0;
    int result = -1;

    if (sessions == NULL || polls == NULL)
        goto out;
    for (int i = 0; i < parallel; i++) {
        polls[i].fd = -1;
        if (begun < count && start(&sessions[i], &polls[i], script) < 0)
            goto out;
        begun += polls[i].fd >= 0;
    }
    while (over < count) {
        if (poll(polls, (nfds_t)parallel, 120 * 1000) <= 0) {
            fprintf(stderr, "nothing from the server for two minutes\n");
            goto out;
        }
        for (int i = 0; i < parallel; i++) {
            int state;

            if (polls[i].fd < 0 || polls[i].revents == 0)
                continue;
            state = read_some(&sessions[i], script);
            if (state < 0)
                goto out;
            if (state == 0)
                continue;
            close(sessions[i].fd);
            polls[i].fd = -1;
            over++;
            if (begun < count && start(&sessions[i], &polls[i], script) < 0)
                goto out;
            begun += polls[i].fd >= 0;
        }
    }
    result = 0;
out:
    free(sessions);
    free(polls);
    return result;
}

int main(int argc, char **argv)
{
    struct script script = { .server.sin_family = AF_INET };

    if (argc < 6 || inet_pton(AF_INET, argv[1], &script.server.sin_addr) != 1 || atol(argv[3]) < 1 || atoi(argv[4]) < 1) {
        fprintf(stderr, "usage: sessions ADDRESS PORT COUNT PARALLEL COMMAND ...\n");
        return 64;
    }
    script.server.sin_port = htons((uint16_t)atoi(argv[2]));
    script.commands = argv + 5;
    script.count = argc - 5;
    return play(&script, atol(argv[3]), atoi(argv[4])) < 0;
}
