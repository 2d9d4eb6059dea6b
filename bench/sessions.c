/*
 * sessions ADDRESS PORT imap|lmtp COUNT PARALLEL FILE ...: plays COUNT sessions, PARALLEL at a time; the n-th plays the n-th file,
 * or, where there are fewer, the first again. A session reads the greeting, sends what the file holds, one piece after the other,
 * each when the one before it has been answered well, and is over when the server closes. Prints nothing; status 0 if all went well.
 *
 * A file holds pieces: "LENGTH ANSWERS\n" and so many bytes. IMAP: a command; the tag is put in front of it, the answer is the
 * tagged OK. LMTP: as it is sent; so many replies 2xx or 3xx answer it.
 *
 * The client shares the machine with the server, and one that costs as much as the servers hides what they do.
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
#include <sys/uio.h>
#include <unistd.h>

enum { READ_SIZE = 64 * 1024 };

struct session {
    int fd;
    const struct script *script;
    int answered;        /* pieces that have been; -1: no greeting yet */
    int replies;         /* to the piece that is waited for */
    char *bytes;         /* read and not taken yet: the line that is being read */
    size_t count, room;
    size_t searched;     /* so many of them have no line end */
    unsigned long long literal; /* bytes to come that are no lines */
};

struct piece {
    const char *bytes;
    size_t length;
    int answers;
};

struct script {
    struct piece *pieces;
    int count;
};

struct play {
    struct sockaddr_in server;
    bool lmtp;
    struct script *scripts;
    int count;
};

/* Reads the pieces of a file; they are kept until the end of the program. -1: an error, which has been said */
static int read_script(struct script *script, const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t length;
    int answers;

    *script = (struct script){ 0 };
    if (file == NULL) {
        perror(path);
        return -1;
    }
    while (fscanf(file, "%zu %d", &length, &answers) == 2) {
        struct piece *more = realloc(script->pieces, (size_t)(script->count + 1) * sizeof *more);
        char *bytes = malloc(length + 1);

        if (more == NULL || bytes == NULL || getc(file) != '\n' || fread(bytes, 1, length, file) != length) {
            fprintf(stderr, "%s: not a script\n", path);
            fclose(file);
            return -1;
        }
        script->pieces = more;
        script->pieces[script->count++] = (struct piece){ bytes, length, answers };
    }
    fclose(file);
    return 0;
}

/* A session begins in this place; its memory is kept from one to the next. -1: an error, which has been said */
static int start(struct session *session, struct pollfd *place, const struct play *play, long number)
{
    int on = 1;

    *session = (struct session){ .answered = -1, .fd = socket(AF_INET, SOCK_STREAM, 0), .bytes = session->bytes,
                                 .room = session->room, .script = &play->scripts[number % play->count] };
    if (session->fd < 0 || connect(session->fd, (const struct sockaddr *)&play->server, sizeof play->server) < 0 ||
        setsockopt(session->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) {
        perror("connect");
        return -1;
    }
    *place = (struct pollfd){ .fd = session->fd, .events = POLLIN };
    return 0;
}

/* The server reads while it answers only as much as there is room for: a piece is written to its end, whatever it says meanwhile. */
static int send_next(struct session *session, bool lmtp)
{
    const struct piece *piece = &session->script->pieces[session->answered];
    char tag[16];
    struct iovec parts[3] = { { tag, 0 }, { (void *)piece->bytes, piece->length }, { "\r\n", 2 } };
    struct iovec *part = parts + (lmtp ? 1 : 0), *end = parts + (lmtp ? 2 : 3);

    if (session->answered >= session->script->count)
        return 0;
    parts[0].iov_len = (size_t)snprintf(tag, sizeof tag, "t%d ", session->answered);
    session->replies = piece->answers;
    while (part < end) {
        ssize_t sent = writev(session->fd, part, (int)(end - part));

        if (sent < 0) {
            perror("writev");
            return -1;
        }
        while (part < end && (size_t)sent >= part->iov_len)
            sent -= (ssize_t)part++->iov_len;
        if (part < end) {
            part->iov_base = (char *)part->iov_base + sent;
            part->iov_len -= (size_t)sent;
        }
    }
    return 0;
}

/* "...{123}\r\n": that many bytes follow that are no lines. */
static unsigned long long literal_of(const char *line, size_t length)
{
    size_t at = length < 3 ? 0 : length - 3;

    if (at == 0 || line[at] != '}')
        return 0;
    while (at > 0 && line[at - 1] >= '0' && line[at - 1] <= '9')
        at--;
    return at > 0 && line[at - 1] == '{' ? strtoull(line + at, NULL, 10) : 0;
}

static int refused(const struct session *session, const char *line, size_t length)
{
    const struct piece *piece = &session->script->pieces[session->answered];
    int shown = piece->length < 100 ? (int)piece->length : 100;

    fprintf(stderr, "%.*s: %.*s", shown, piece->bytes, (int)length, line);
    return -1;
}

/* One whole line, with its end. */
static int take_line(struct session *session, const char *line, size_t length, bool lmtp)
{
    char tag[16];
    size_t tagged;

    if (session->answered < 0) {
        session->answered = 0;
        return send_next(session, lmtp);
    }
    if (session->answered == session->script->count)
        return 0;
    if (lmtp) {
        if (length < 4 || line[3] == '-')
            return 0;
        if (line[0] != '2' && line[0] != '3')
            return refused(session, line, length);
        if (--session->replies > 0)
            return 0;
    } else {
        tagged = (size_t)snprintf(tag, sizeof tag, "t%d ", session->answered);
        session->literal = literal_of(line, length);
        if (length < tagged + 2 || memcmp(line, tag, tagged) != 0)
            return 0;
        if (memcmp(line + tagged, "OK", 2) != 0)
            return refused(session, line, length);
    }
    session->answered++;
    return send_next(session, lmtp);
}

/* Takes all whole lines and literals; what is left is moved to the front. */
static int take_lines(struct session *session, bool lmtp)
{
    size_t at = 0;

    while (at < session->count) {
        const char *from = session->bytes + at, *end;
        size_t left = session->count - at, known = at == 0 ? session->searched : 0;

        if (session->literal > 0) {
            size_t skipped = session->literal < left ? (size_t)session->literal : left;

            session->literal -= skipped;
            at += skipped;
            continue;
        }
        end = memchr(from + known, '\n', left - known);
        if (end == NULL)
            break;
        if (take_line(session, from, (size_t)(end - from) + 1, lmtp) < 0)
            return -1;
        at += (size_t)(end - from) + 1;
    }
    session->count -= at;
    memmove(session->bytes, session->bytes + at, session->count);
    session->searched = session->count;
    return 0;
}

/* -> 1: the session is over and all was answered; 0: it goes on; -1: an error, which has been said */
static int read_some(struct session *session, bool lmtp)
{
    ssize_t got;

    if (session->room - session->count < READ_SIZE) {
        char *larger = realloc(session->bytes, session->room + 2 * READ_SIZE);

        if (larger == NULL) {
            perror("realloc");
            return -1;
        }
        session->bytes = larger;
        session->room += 2 * READ_SIZE;
    }
    got = read(session->fd, session->bytes + session->count, READ_SIZE);
    if (got <= 0) {
        if (got == 0 && session->answered == session->script->count)
            return 1;
        fprintf(stderr, "answered %d of %d: %s\n", session->answered, session->script->count, got < 0 ? strerror(errno) : "closed");
        return -1;
    }
    session->count += (size_t)got;
    return take_lines(session, lmtp);
}

/* Keeps the sessions of one poll set going. */
static int play(const struct play *play, long count, int parallel)
{
    struct session *sessions = calloc((size_t)parallel, sizeof *sessions);
    struct pollfd *polls = calloc((size_t)parallel, sizeof *polls);
    long begun = 0, over = 0;
    int result = -1;

    if (sessions == NULL || polls == NULL)
        goto out;
    for (int i = 0; i < parallel; i++) {
        polls[i].fd = -1;
        if (begun < count && start(&sessions[i], &polls[i], play, begun) < 0)
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
            state = read_some(&sessions[i], play->lmtp);
            if (state < 0)
                goto out;
            if (state == 0)
                continue;
            close(sessions[i].fd);
            polls[i].fd = -1;
            over++;
            if (begun < count && start(&sessions[i], &polls[i], play, begun) < 0)
                goto out;
            begun += polls[i].fd >= 0;
        }
    }
    result = 0;
out:
    for (int i = 0; sessions != NULL && i < parallel; i++)
        free(sessions[i].bytes);
    free(sessions);
    free(polls);
    return result;
}

int main(int argc, char **argv)
{
    struct play these = { .server.sin_family = AF_INET };

    if (argc < 7 || inet_pton(AF_INET, argv[1], &these.server.sin_addr) != 1 || atol(argv[4]) < 1 || atoi(argv[5]) < 1) {
        fprintf(stderr, "usage: sessions ADDRESS PORT imap|lmtp COUNT PARALLEL FILE ...\n");
        return 64;
    }
    these.server.sin_port = htons((uint16_t)atoi(argv[2]));
    these.lmtp = strcmp(argv[3], "lmtp") == 0;
    these.count = argc - 6;
    these.scripts = calloc((size_t)these.count, sizeof *these.scripts);
    if (these.scripts == NULL)
        return 75;
    for (int i = 0; i < these.count; i++) {
        if (read_script(&these.scripts[i], argv[6 + i]) < 0)
            return 66;
    }
    return play(&these, atol(argv[4]), atoi(argv[5])) < 0;
}
