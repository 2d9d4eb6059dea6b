/* restore.c - sessions come back from imap-hibernate over the socket imap-master (ipc 14).
 *
 * Who may connect there is said by the socket's rights. Still nobody is believed about who a user is or what he may
 * (CVE-2020-24386): a session carries a ticket, this dispatcher's own word for the fields that it had found. Without a valid
 * one (another master has made it, or Dovecot's imap) the userdb is asked anew.
 *
 * When process_limit is reached the connection ends without an answer, and imap-hibernate asks again. */
#include "dispatch/dispatch_impl.h"

#include "rpc/handoff.h"

#include <nettle/hmac.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct restore {
    struct dispatcher *dispatcher;
    struct handoff_conn *conn;
    struct session *session;   /* that has not been answered; NULL: none */
};

static void digest_of(struct dispatcher *d, struct slice text, uint8_t digest[SHA256_DIGEST_SIZE])
{
    struct hmac_sha256_ctx ctx;

    hmac_sha256_set_key(&ctx, sizeof(d->ticket_key), d->ticket_key);
    hmac_sha256_update(&ctx, text.size, text.at);
    hmac_sha256_digest(&ctx, SHA256_DIGEST_SIZE, digest);
}

/* Hides the session's token in a ticket, and shows it again: each session has bytes of its own to mix it with, and one token. What
 * was changed on the way is nobody's, since the ticket does not fit then. */
static void mix_token(struct dispatcher *d, const struct dispatch_request *request, struct buffer *token)
{
    uint8_t digest[SHA256_DIGEST_SIZE];

    for (size_t i = 0; i < token->size; i++) {
        if (i % sizeof(digest) == 0) {
            struct buffer text = {0};

            line_begin(&text, "token");
            line_field_str(&text, d->protocol);
            line_field_str(&text, request->user);
            line_field_str(&text, request->session);
            line_field_num(&text, request->created_usecs / 1000000); /* what comes back has no more */
            line_field_num(&text, i);
            digest_of(d, buffer_slice(&text), digest);
            buffer_free(&text);
        }
        token->at[i] ^= digest[i % sizeof(digest)];
    }
}

static const char *make_ticket(struct dispatcher *d, struct arena *arena, const struct dispatch_request *request, const char *sealed)
{
    struct dispatch_request plain = *request;
    struct buffer text = {0}, ticket = {0};
    uint8_t digest[SHA256_DIGEST_SIZE];
    const char *made;

    plain.ticket = NULL;
    line_begin(&text, "ticket");
    line_field_str(&text, d->protocol);
    line_field_str(&text, request->user);
    line_field_str(&text, sealed);
    dispatch_origin_write(&text, &plain);
    digest_of(d, buffer_slice(&text), digest);
    text_hex_encode(&ticket, slice_of(digest, sizeof(digest)));
    buffer_append_str(&ticket, sealed);
    made = arena_strdup(arena, buffer_cstr(&ticket));
    buffer_free(&text);
    buffer_free(&ticket);
    return made;
}

const char *restore_ticket(struct session *session)
{
    struct dispatcher *d = session->dispatcher;
    struct buffer token = {0}, sealed = {0};
    const char *ticket;

    if (session->token != NULL) { /* it was made for this process: another one has no use of it */
        buffer_printf(&token, "%ld:%s", (long)getpid(), session->token);
        mix_token(d, &session->request, &token);
        text_hex_encode(&sealed, buffer_slice(&token));
    }
    ticket = make_ticket(d, session->arena, &session->request, buffer_cstr(&sealed));
    buffer_wipe(&token);
    buffer_free(&sealed);
    return ticket;
}

/* Takes the token out of a ticket that is believed. */
static void take_sealed(struct session *session, const char *sealed)
{
    struct buffer token = {0};
    const char *mine = arena_printf(session->arena, "%ld:", (long)getpid());

    if (text_hex_decode(&token, slice_from_str(sealed)) == 0) {
        mix_token(session->dispatcher, &session->request, &token);
        if (slice_starts(buffer_slice(&token), slice_from_str(mine)))
            session->token = arena_str(session->arena, slice_from(buffer_slice(&token), strlen(mine)));
    }
    buffer_wipe(&token);
}

void restore_answer(struct session *session, const char *problem)
{
    struct restore *r = session->rest;

    session->rest = NULL;
    r->session = NULL;
    (void)handoff_reply(r->conn, problem);
}

static bool same_socket(const struct rpc_fields *fields, int fd)
{
    const char *inode = rpc_fields_get(fields, "peer_ino"), *major = rpc_fields_get(fields, "peer_dev_major"),
               *minor = rpc_fields_get(fields, "peer_dev_minor");
    struct stat st;
    uint64_t ino, maj, min;

    if (fstat(fd, &st) < 0)
        return false;
    if (inode == NULL || major == NULL || minor == NULL)
        return true; /* not announced */
    return slice_to_u64(slice_from_str(inode), &ino) && slice_to_u64(slice_from_str(major), &maj) &&
           slice_to_u64(slice_from_str(minor), &min) && ino == st.st_ino && maj == major(st.st_dev) && min == minor(st.st_dev);
}

/* Input that the client has sent meanwhile, and everything else of the session itself. */
static bool take_rested(struct session *session, const struct rpc_fields *fields)
{
    const char *input = rpc_fields_get(fields, "client_input");
    struct dispatch_request *to = &session->request;
    struct buffer bytes = {0};

    if (input != NULL && text_base64_decode(&bytes, slice_from_str(input)) < 0) {
        buffer_free(&bytes);
        return false;
    }
    to->input = arena_slice(session->arena, buffer_slice(&bytes));
    buffer_free(&bytes);
    to->rested.at = ARENA_ARRAY(session->arena, struct rpc_field, fields->count + 1);
    for (size_t i = 0; i < fields->count; i++) {
        static const char *const own[] = {"session", "lip", "lport", "rip", "rport", "userdb_fields", "ticket", "client_input",
                                          "peer_dev_major", "peer_dev_minor", "peer_ino", NULL};
        bool other = true;

        for (size_t k = 0; own[k] != NULL; k++)
            other = other && strcmp(own[k], fields->at[i].key) != 0;
        if (other)
            to->rested.at[to->rested.count++] = fields->at[i];
    }
    return rpc_fields_get(fields, "tag") != NULL && rpc_fields_get(fields, "state") != NULL;
}

static bool is_believed(struct session *session, const char *ticket)
{
    const size_t digits = SHA256_DIGEST_SIZE * 2;

    if (ticket == NULL || strlen(ticket) < digits ||
        !slice_equal_secret(slice_from_str(ticket), slice_from_str(make_ticket(session->dispatcher, session->arena, &session->request,
                                                                               ticket + digits))))
        return false;
    take_sealed(session, ticket + digits);
    return true;
}

static void refuse(struct restore *r, int fd, const char *problem)
{
    log_error(NULL, "imap-master: %s", problem);
    (void)handoff_reply(r->conn, problem);
    (void)close(fd);
}

static void take_line(void *arg, struct handoff_conn *conn, const struct slice *fields, size_t count, int fd)
{
    struct restore *r = arg;
    struct session *session;
    struct rpc_fields all;

    for (size_t i = 0; i < count; i++) {
        if (slice_find(fields[i], '\0') >= 0 || fields[0].size == 0) {
            refuse(r, fd, "Invalid session"); /* a name that ends early as a C string is another name */
            return;
        }
    }
    if (r->dispatcher->session_count >= r->dispatcher->session_limit) {
        login_warn_limit(r->dispatcher);
        (void)close(fd);
        handoff_conn_free(conn);
        mem_free(r);
        return;
    }
    session = session_new(r->dispatcher, fd);
    all = rpc_fields_parse(session->arena, fields, count, 1);
    all = rpc_fields_copy(session->arena, &all);
    session->rest = r;
    r->session = session;
    session->request.user = arena_str(session->arena, fields[0]);
    dispatch_origin_read(session->arena, &all, &session->request);
    if (!same_socket(&all, fd) || !take_rested(session, &all)) {
        log_error(NULL, "imap-master: Invalid session of user %s", session->request.user);
        restore_answer(session, "Invalid session");
        session_ended(session);
        return;
    }
    session_start_rested(session, is_believed(session, session->request.ticket));
}

/* A giver that has given up has told the client so: what has not begun shall not begin later. */
static void take_end(void *arg, struct handoff_conn *conn)
{
    struct restore *r = arg;
    struct session *session = r->session;

    if (session != NULL) {
        session->rest = NULL;
        session_ended(session);
    }
    handoff_conn_free(conn);
    mem_free(r);
}

void restore_conn_new(struct dispatcher *d, int fd)
{
    static const struct handoff_handler handler = {.line = take_line, .closed = take_end};
    struct restore *r = mem_zero(1, sizeof(*r));

    r->dispatcher = d;
    r->conn = handoff_conn_new(d->loop, fd, "imap-master", &handler, r);
}
