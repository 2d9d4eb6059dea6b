/* lmtp_submit.c - hands a complete message to delivery workers and answers the client.
 *
 * Recipients whose processes would run with the same credentials go in one job, so that one worker writes the message
 * once and links it to the others (doors 2.5). All replies are sent in the order of RCPT when the last job is done. */
#include "lmtp/lmtp_impl.h"
#include "lmtp/lmtp_job.h"

enum { JOB_BYTES_MAX = 48 * 1024 }; /* below DISPATCH_MESSAGE_MAX, with room for the header */

struct submission {
    struct lmtp_client *client;
    struct lmtp_rcpt **rcpts; /* of this job; the index of the job's lines */
    size_t count;
};

static void answer_all(struct lmtp_client *c)
{
    struct lmtp_rcpt *r;

    LL_FOREACH(c->trans->rcpts, r) {
        const struct lmtp_rcpt *first = r->same_as != NULL ? r->same_as : r;
        lmtp_reply(c, "%s", first->reply);
    }
    c->state = "READY";
    lmtp_transaction_end(c);
    c->mode = LMTP_COMMAND;
    lmtp_client_resume(c);
}

static void job_over(struct lmtp_client *c)
{
    if (--c->trans->jobs > 0)
        return;
    if (c->stream == NULL) { /* the client went away meanwhile */
        lmtp_client_free(c);
        return;
    }
    answer_all(c);
}

static const char *make_reply(struct arena *a, const struct lmtp_rcpt *r, struct slice field)
{
    struct slice code, enhanced;

    slice_split(&field, ' ', &code);
    if (!slice_split(&field, ' ', &enhanced))
        return arena_printf(a, "451 4.3.0 <%s> Temporary internal error", r->path);
    if (slice_equal_str(code, "250"))
        return arena_printf(a, "250 %.*s <%s> %s %.*s", (int)enhanced.size, enhanced.at, r->path, r->session,
                            (int)field.size, field.at);
    return arena_printf(a, "%.*s %.*s <%s> %.*s", (int)code.size, code.at, (int)enhanced.size, enhanced.at, r->path,
                        (int)field.size, field.at);
}

static void answered(void *arg, const struct error *e, const struct slice *fields, size_t count)
{
    struct submission *job = arg;
    struct lmtp_client *c = job->client;
    struct arena *a = c->trans->arena;

    if (e->class != ERROR_NONE)
        log_error(NULL, "Delivery failed: %s", e->admin);
    for (size_t i = 0; e->class == ERROR_NONE && i < count; i++) {
        struct slice rest = fields[i], number;
        uint32_t index;
        if (slice_split(&rest, ' ', &number) && slice_to_u32(number, &index) && index < job->count)
            job->rcpts[index]->reply = make_reply(a, job->rcpts[index], rest);
    }
    for (size_t i = 0; i < job->count; i++)
        if (job->rcpts[i]->reply == NULL)
            job->rcpts[i]->reply = arena_printf(a, "451 4.3.0 <%s> Temporary internal error", job->rcpts[i]->path);
    job_over(c);
}

static const char *field_or_empty(const struct lmtp_rcpt *r, const char *key)
{
    const char *value = rpc_fields_get(&r->userdb, key);

    return value == NULL ? "" : value;
}

/* Would both be delivered by processes with the same credentials? */
static bool same_credentials(const struct lmtp_rcpt *a, const struct lmtp_rcpt *b)
{
    static const char *const keys[] = {"uid", "gid", "system_groups_user", "chroot", "mail_access_groups", "nice"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(field_or_empty(a, keys[i]), field_or_empty(b, keys[i])) != 0)
            return false;
    return true;
}

/* One job with the first open recipient and all that fit to it. */
static void start_job(struct lmtp_client *c, struct lmtp_rcpt *first)
{
    struct lmtp_transaction *t = c->trans;
    struct submission *job = ARENA_NEW(t->arena, struct submission);
    struct dispatch_request request = {.job = true,
                                       .service = "lmtp",
                                       .user = first->user,
                                       .session = first->session,
                                       .local = c->local,
                                       .remote = c->remote,
                                       .real_local = c->real_local,
                                       .real_remote = c->real_remote,
                                       .tls = c->tls,
                                       .userdb = first->userdb};
    struct buffer bytes = {0};
    struct lmtp_rcpt *r;
    struct error e;

    job->client = c;
    job->rcpts = ARENA_ARRAY(t->arena, struct lmtp_rcpt *, t->rcpt_count);
    lmtp_job_begin(&bytes, t->from_text);
    for (r = first; r != NULL; r = r->next) {
        struct lmtp_job_rcpt line = {.index = (unsigned)job->count,
                                     .user = r->user,
                                     .session = r->session,
                                     .path = r->path,
                                     .original = r->original,
                                     .detail = r->detail,
                                     .userdb = r->userdb};
        if (r->answered || r->same_as != NULL || !same_credentials(first, r))
            continue;
        if (job->count > 0 && bytes.size > JOB_BYTES_MAX)
            break;
        lmtp_job_add(&bytes, &line);
        r->answered = true;
        job->rcpts[job->count++] = r;
    }
    request.input = buffer_slice(&bytes);
    t->jobs++;
    if (dispatch_client_job(c->server->dispatch, &request, t->fd, answered, job, &e) < 0)
        answered(job, &e, NULL, 0);
    buffer_free(&bytes);
}

void lmtp_submit(struct lmtp_client *c)
{
    struct lmtp_rcpt *r;

    c->trans->jobs = 1; /* held until all are started, so that an early failure does not answer too soon */
    LL_FOREACH(c->trans->rcpts, r)
        if (r->same_as == NULL && !r->answered)
            start_job(c, r);
    job_over(c);
}
