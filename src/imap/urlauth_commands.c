/* urlauth_commands.c - GENURLAUTH, RESETKEY, URLFETCH (RFC 4467 section 7, RFC 5524, imap 12.5).
 *
 * URLs of the user's own mailboxes are fetched here, those of others by the imap-urlauth services (urlauth_remote.c). */
#include "imap/session.h"
#include "imap/urlauth.h"
#include "imap/urlauth_remote.h"

#include "store/attribute.h"

enum { CHUNK = 16 * 1024, DICT_RETRY_MS = 20 };

static bool available(struct session *s, struct request *r)
{
    if (urlauth_enabled(s->user))
        return true;
    request_bad(s, r, "URLAUTH disabled");
    return false;
}

/* ---- GENURLAUTH --------------------------------------------------------------------------------------------------------- */

struct genurlauth {
    const struct imap_arg *arg;    /* the URL at work; NULL: all are done */
    struct imap_url url;
    struct part part;
    unsigned char key[URLAUTH_KEY];
    bool making, knows;            /* a key is being made; the client knows all else of this mailbox */
    struct buffer line;
};

void genurlauth_begin(struct session *s, struct request *r)
{
    struct genurlauth *g = r->state = ARENA_NEW(r->arena, struct genurlauth);

    if (!available(s, r))
        return;
    for (const struct imap_arg *a = r->args; a != NULL; a = a->next->next) {
        if (!imap_arg_is_string(a) || !imap_arg_is_atom(a->next)) {
            request_bad(s, r, "Invalid arguments");
            return;
        }
        if (!slice_equal_str_nocase(a->next->text, "INTERNAL")) {
            request_bad(s, r, "Unsupported URLAUTH mechanism: %s", arena_str(r->arena, a->next->text));
            return;
        }
    }
    g->arg = r->args;
    buffer_append_str(&g->line, "* GENURLAUTH");
}

/* NULL, or the reply. */
static const char *rump_fault(struct session *s, struct request *r, const struct imap_url *url)
{
    const char *wrong;

    if (url->application == NULL || url->mechanism != NULL || url->mailbox == NULL || url->uid == 0)
        return "Invalid URL: Must be an URLAUTH rump URL";
    if (url->has_expire && url->expire <= (int64_t)time(NULL))
        return "URLAUTH has already expired";
    if (url->user == NULL)
        return "Invalid URL: Missing user name";
    if (strcmp(url->user, mail_user_name(s->user)) != 0)
        return arena_printf(r->arena, "Not permitted to generate URLAUTH for user %s", url->user);
    wrong = urlauth_host_fault(s->set, url);
    return wrong == NULL ? NULL : arena_printf(r->arena, "Invalid URL: %s", wrong);
}

/* False: the request has been answered. */
static bool begin_rump(struct session *s, struct request *r, struct genurlauth *g, struct error *e)
{
    const char *fault;

    if (imap_url_parse(r->arena, g->arg->text, NULL, IMAP_URL_URLAUTH, &g->url, &fault) < 0) {
        request_bad(s, r, "Invalid URL: %s", fault);
        return false;
    }
    fault = rump_fault(s, r, &g->url);
    if (fault != NULL) {
        request_bad(s, r, "%s", fault);
        return false;
    }
    if (part_begin(&g->part, s->user, r->arena, &g->url, &fault, e) == 0)
        return true;
    if (fault != NULL)
        request_bad(s, r, "Invalid URL: %s", fault);
    else
        request_error(s, r, e);
    return false;
}

static void put_url(struct request *r, struct genurlauth *g)
{
    unsigned char token[URLAUTH_TOKEN];
    struct buffer url = {0};

    (void)r;
    urlauth_token(g->key, g->arg->text, token);
    buffer_append_slice(&url, g->arg->text);
    buffer_append_str(&url, ":internal:");
    text_hex_encode(&url, slice_of(token, sizeof(token)));
    buffer_append_byte(&g->line, ' ');
    mime_put_astring(&g->line, buffer_slice(&url));
    buffer_free(&url);
}

enum step genurlauth_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct genurlauth *g = r->state;
    const char *fault;
    enum step step;

    if (g->arg == NULL) {
        buffer_append_str(&g->line, "\r\n");
        session_write(s, buffer_slice(&g->line));
        request_reply(r, "OK GENURLAUTH completed.");
        return STEP_DONE;
    }
    if (g->part.box == NULL && !begin_rump(s, r, g, e))
        return STEP_DONE;
    step = g->making ? request_op(s, r, budget, e) : session_op(s, &g->part.op, budget, e);
    if (step != STEP_DONE)
        return step;
    if (!g->making) {
        if (part_check(&g->part, &fault) < 0 || part_find(&g->part, r->arena, &fault, e) < 0) {
            if (fault == NULL)
                return STEP_ERROR;
            request_bad(s, r, "Invalid URL: %s", fault);
            return STEP_DONE;
        }
        if (!urlauth_key(g->part.box, r->arena, g->key, e)) {
            if (e->class != ERROR_NONE)
                return STEP_ERROR;
            g->making = true;
            g->knows = session_knows_all(s, g->part.box);
            r->op = urlauth_key_make(g->part.box, g->key);
            return STEP_MORE;
        }
    }
    if (g->making && g->knows)
        session_knows_own(s, 1);
    put_url(r, g);
    g->making = false;
    part_close(&g->part);
    g->part.box = NULL;
    g->arg = g->arg->next->next;
    return STEP_MORE;
}

void genurlauth_end(struct session *s, struct request *r)
{
    struct genurlauth *g = r->state;

    (void)s;
    if (g == NULL)
        return;
    part_close(&g->part);
    buffer_free(&g->line);
    explicit_bzero(g->key, sizeof(g->key));
}

/* ---- RESETKEY ----------------------------------------------------------------------------------------------------------- */

/* Without a mailbox: the key of every one that LIST shows, as if each were named, since the log of each tells of it (dsync, modseqs). Behind
 * them those that are left in the dictionary: of mailboxes that are not listed, and of deleted ones. */
struct resetkey {
    struct mailbox *box;           /* at work */
    bool knows;                    /* the client knows all else of it */
    struct mailbox_list *list;     /* names are being collected; NULL: they are */
    VEC(const char *) names;
    size_t next;
    bool all, swept;
    struct dict *dict;
    struct dict_change *changes;
    size_t count;
};

/* Every key in the dictionary that is one of ours. */
static int collect_keys(struct session *s, struct request *r, struct resetkey *k, struct error *e)
{
    struct dict_pairs pairs = {0};

    if (mail_user_attributes(s->user, &k->dict, e) < 0 || dict_list(k->dict, r->arena, "priv/", true, &pairs, e) < 0)
        return -1;
    k->changes = ARENA_ARRAY(r->arena, struct dict_change, pairs.count + 1);
    for (size_t i = 0; i < pairs.count; i++) {
        if (slice_ends(slice_from_str(pairs.at[i].key), SLICE("/" URLAUTH_KEY_NAME)))
            k->changes[k->count++] = (struct dict_change){.what = DICT_UNSET, .key = pairs.at[i].key};
    }
    VEC_FREE(&pairs);
    return 0;
}

static void remove_key(struct session *s, struct request *r, struct resetkey *k)
{
    k->knows = session_knows_all(s, k->box);
    r->op = urlauth_key_remove(k->box);
}

static enum step finish_key(struct session *s, struct request *r, struct resetkey *k, struct budget *budget, struct error *e)
{
    enum step step = request_op(s, r, budget, e);

    if (step == STEP_DONE && k->knows)
        session_knows_own(s, 1);
    if (step == STEP_DONE)
        k->knows = false;
    return step;
}

void resetkey_begin(struct session *s, struct request *r)
{
    struct resetkey *k = r->state = ARENA_NEW(r->arena, struct resetkey);
    struct slice everything = SLICE("*");
    struct mailbox_place place;
    struct error e = {0};

    if (!available(s, r))
        return;
    if (r->args == NULL) {
        k->all = true;
        k->list = mailbox_list_begin(s->user, &everything, 1, 0);
        return;
    }
    for (const struct imap_arg *a = r->args; a != NULL; a = a->next) {
        if (a == r->args ? !imap_arg_is_string(a) : !imap_arg_is_atom(a)) {
            request_bad(s, r, "Invalid arguments");
            return;
        }
    }
    for (const struct imap_arg *a = r->args->next; a != NULL; a = a->next) {
        if (!slice_equal_str_nocase(a->text, "INTERNAL")) {
            request_reply(r, "NO Unsupported URLAUTH mechanism.");
            return;
        }
    }
    if (!request_place(s, r, r->args, &place, ERROR_PLAIN))
        return;
    if (mailbox_open(&k->box, &place, 0, &e) < 0) {
        k->box = NULL;
        request_error(s, r, &e);
        return;
    }
    remove_key(s, r, k);
}

static enum step collect_names(struct session *s, struct request *r, struct resetkey *k, struct budget *budget, struct error *e)
{
    const struct mailbox_info *info;
    enum step step;

    while ((step = mailbox_list_next(k->list, budget, &info, e)) == STEP_MORE) {
        if ((info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) == 0)
            VEC_PUSH(&k->names, arena_strdup(r->arena, info->vname));
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    if (step == STEP_WAIT)
        return STEP_MORE;
    if (step == STEP_ERROR)
        log_error_value(&s->log, e); /* those of one namespace; its keys are in the dictionary all the same */
    mailbox_list_end(&k->list);
    return STEP_DONE;
}

/* The next mailbox. One that is made only when it is selected (auto = create) has no key. */
static void begin_next(struct session *s, struct request *r, struct resetkey *k)
{
    const char *name = k->names.at[k->next++];
    enum mailbox_existence there = MAILBOX_EXISTS_NO;
    struct mailbox_place place;
    struct error e = {0};

    if (mailbox_place(s->user, r->arena, slice_from_str(name), &place, &e) < 0 || mailbox_exists(&place, false, &there, &e) < 0 ||
        there != MAILBOX_EXISTS_YES || mailbox_open(&k->box, &place, 0, &e) < 0)
        k->box = NULL;
    else
        remove_key(s, r, k);
}

static enum step reset_all(struct session *s, struct request *r, struct resetkey *k, struct budget *budget, struct error *e)
{
    enum step step;

    if (k->list != NULL) {
        step = collect_names(s, r, k, budget, e);
        if (step != STEP_DONE)
            return step;
    }
    while (k->box != NULL || k->next < k->names.count) {
        if (k->box == NULL)
            begin_next(s, r, k);
        step = finish_key(s, r, k, budget, e);
        if (step == STEP_ERROR)
            log_error_value(&s->log, e);
        else if (step != STEP_DONE)
            return step;
        if (k->box != NULL)
            mailbox_close(&k->box);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    if (!k->swept && collect_keys(s, r, k, e) < 0)
        return STEP_ERROR;
    k->swept = true;
    step = k->count == 0 ? STEP_DONE : dict_commit(k->dict, k->changes, k->count, e);
    if (step == STEP_WAIT)
        session_retry(s, DICT_RETRY_MS);
    if (step == STEP_DONE)
        request_reply(r, "OK All keys removed.");
    return step;
}

enum step resetkey_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct resetkey *k = r->state;
    enum step step;

    if (k->all)
        return reset_all(s, r, k, budget, e);
    step = finish_key(s, r, k, budget, e);
    if (step == STEP_DONE)
        request_reply(r, "OK [URLMECH INTERNAL] Key removed.");
    return step;
}

void resetkey_end(struct session *s, struct request *r)
{
    struct resetkey *k = r->state;

    (void)s;
    if (k == NULL)
        return;
    if (k->list != NULL)
        mailbox_list_end(&k->list);
    VEC_FREE(&k->names);
    if (k->box != NULL)
        mailbox_close(&k->box);
}

/* ---- URLFETCH ----------------------------------------------------------------------------------------------------------- */

enum { URLFETCH_BODY = 1, URLFETCH_BINARY = 2, URLFETCH_STRUCTURE = 4 };

struct urlfetch {
    const struct imap_arg *arg;    /* the URL at work */
    unsigned what;                 /* 0: the bare bytes */
    struct urlauth_fetch fetch;
    enum { URLFETCH_NEXT, URLFETCH_SYNC, URLFETCH_STREAM, URLFETCH_ASKED, URLFETCH_PASS } stage;
    uint64_t left;
};

static bool fetch_words(struct session *s, struct request *r, const struct imap_arg *a, unsigned *what)
{
    *what = 0;
    for (; a != NULL; a = a->next) {
        if (!imap_arg_is_atom(a)) {
            request_bad(s, r, "Invalid URL fetch parameter");
            return false;
        }
        if (slice_equal_str_nocase(a->text, "BODY")) {
            *what |= URLFETCH_BODY;
        } else if (slice_equal_str_nocase(a->text, "BINARY")) {
            *what |= URLFETCH_BINARY;
        } else if (slice_equal_str_nocase(a->text, "BODYPARTSTRUCTURE")) {
            *what |= URLFETCH_STRUCTURE;
        } else {
            request_bad(s, r, "Unknown URL fetch parameter: %s", arena_str(r->arena, a->text));
            return false;
        }
    }
    if ((*what & URLFETCH_BODY) == 0 || (*what & URLFETCH_BINARY) == 0)
        return true;
    request_bad(s, r, "URL cannot have both BODY and BINARY fetch parameters");
    return false;
}

static const struct imap_arg *url_of(const struct imap_arg *a)
{
    return a->type == IMAP_LIST ? a->children : a;
}

void urlfetch_begin(struct session *s, struct request *r)
{
    struct urlfetch *u = r->state = ARENA_NEW(r->arena, struct urlfetch);
    unsigned what;

    if (!available(s, r))
        return;
    if (r->args == NULL)
        request_bad(s, r, "Invalid arguments");
    for (const struct imap_arg *a = r->args; a != NULL && r->reply == NULL; a = a->next) {
        if (!imap_arg_is_string(url_of(a)))
            request_bad(s, r, "Invalid arguments");
        else if (a->type == IMAP_LIST)
            fetch_words(s, r, a->children->next, &what);
    }
    u->arg = r->args;
}

static void next_url(struct urlfetch *u)
{
    part_close(&u->fetch.part);
    u->fetch.part = (struct part){0};
    u->arg = u->arg->next;
    u->stage = URLFETCH_NEXT;
}

static void put_front(struct session *s, struct urlfetch *u)
{
    struct buffer out = {0};

    buffer_append_str(&out, "* URLFETCH ");
    mime_put_astring(&out, url_of(u->arg)->text);
    buffer_append_byte(&out, ' ');
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
}

/* No bytes: NIL, and why. */
static void refuse(struct session *s, struct request *r, struct urlfetch *u, const struct error *e)
{
    struct slice url = url_of(u->arg)->text;
    const char *why = u->fetch.fault;

    if (why == NULL)
        why = error_reply(s, r->arena, e, ERROR_PLAIN);
    put_front(s, u);
    session_print(s, "NIL");
    session_print(s, "* NO Failed to %s URLAUTH \"%.*s\": %s.", u->fetch.read_fault ? "read" : "fetch", (int)url.size,
                  (const char *)url.at, why);
    next_url(u);
}

static bool wants_bytes(const struct urlfetch *u)
{
    return u->what == 0 || (u->what & (URLFETCH_BODY | URLFETCH_BINARY)) != 0;
}

static void put_front_of(struct session *s, struct urlfetch *u, struct slice structure, bool binary, uint64_t size)
{
    struct buffer out = {0};
    bool data = wants_bytes(u);

    put_front(s, u);
    if (u->what != 0)
        buffer_append_byte(&out, '(');
    if ((u->what & URLFETCH_STRUCTURE) != 0) {
        buffer_append_str(&out, "BODYPARTSTRUCTURE (");
        buffer_append_slice(&out, structure);
        buffer_append_str(&out, data ? ") " : ")");
    }
    if (u->what != 0 && data)
        buffer_append_str(&out, (u->what & URLFETCH_BINARY) != 0 ? "BINARY " : "BODY ");
    if (data)
        buffer_printf(&out, "%s{%llu}\r\n", binary ? "~" : "", (unsigned long long)size);
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    u->left = data ? size : 0;
}

/* Everything in front of the bytes. -1: nothing was written. */
static int put_head(struct session *s, struct request *r, struct urlfetch *u, struct error *e)
{
    struct buffer structure = {0};
    struct part *part = &u->fetch.part;
    bool data = wants_bytes(u);
    int got = 0;

    u->fetch.read_fault = true;
    if ((u->what & URLFETCH_STRUCTURE) != 0)
        got = part_structure(part, r->arena, &structure, &u->fetch.fault, e);
    if (got == 0 && data)
        got = part_open(part, r->arena, (u->what & URLFETCH_BINARY) != 0, &u->fetch.fault, e);
    if (got == 0)
        put_front_of(s, u, buffer_slice(&structure), part->binary, part->size);
    buffer_free(&structure);
    return got;
}

static enum step stream(struct session *s, struct urlfetch *u, struct budget *budget, struct error *e)
{
    unsigned char chunk[CHUNK];

    while (u->left > 0) {
        ssize_t n;

        if (stream_full(s->io))
            return STEP_OUTPUT_FULL;
        n = part_read(&u->fetch.part, chunk, u->left < CHUNK ? (size_t)u->left : CHUNK, e);
        if (n <= 0) {
            session_bye(s, NULL, "URLFETCH failed: message ended early");
            return STEP_DONE;
        }
        u->left -= (uint64_t)n;
        session_write(s, slice_of(chunk, (size_t)n));
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    session_write(s, u->what != 0 ? SLICE(")\r\n") : SLICE("\r\n"));
    next_url(u);
    return STEP_MORE;
}

static void begin_url(struct session *s, struct request *r, struct urlfetch *u, struct error *e)
{
    struct urlauth_fetch *f = &u->fetch;

    u->what = 0;
    if (u->arg->type == IMAP_LIST)
        fetch_words(s, r, u->arg->children->next, &u->what);
    if (!urlauth_parse(f, r->arena, s->set, url_of(u->arg)->text)) {
        refuse(s, r, u, e);
    } else if (strcmp(f->url.user, mail_user_name(s->user)) != 0) {
        urlauth_remote_ask(s, f->url.user, url_of(u->arg)->text,
                           (wants_bytes(u) ? (u->what & URLFETCH_BINARY) != 0 ? REMOTE_BINARY : REMOTE_BODY : 0) |
                               ((u->what & URLFETCH_STRUCTURE) != 0 ? REMOTE_STRUCTURE : 0));
        u->stage = URLFETCH_ASKED;
    } else if (urlauth_begin(f, r->arena, s->user, mail_user_name(s->user), NULL, e) < 0) {
        refuse(s, r, u, e);
    } else {
        u->stage = URLFETCH_SYNC;
    }
}

/* The answer of another user's worker. */
static enum step take_answer(struct session *s, struct request *r, struct urlfetch *u, struct error *e)
{
    struct urlauth_answer answer;
    enum step step = urlauth_remote_answer(s, r->arena, &answer, e);

    if (step == STEP_WAIT)
        return step;
    if (step == STEP_ERROR) {
        refuse(s, r, u, e);
    } else if (answer.refused) {
        put_front(s, u);
        session_print(s, "NIL");
        if (answer.fault != NULL)
            session_print(s, "* NO %s.", answer.fault);
        next_url(u);
    } else {
        struct slice structure = answer.structure == NULL ? SLICE_EMPTY : slice_from_str(answer.structure);

        put_front_of(s, u, structure, answer.binary, answer.size);
        u->stage = URLFETCH_PASS;
    }
    return STEP_MORE;
}

/* Bytes from the worker to the client. */
static enum step pass_on(struct session *s, struct urlfetch *u, struct budget *budget)
{
    enum step step;

    while (u->left > 0) {
        struct slice bytes;
        bool lost;

        if (stream_full(s->io))
            return STEP_OUTPUT_FULL;
        bytes = slice_head(urlauth_remote_bytes(s, &lost), CHUNK);
        if (lost) {
            session_bye(s, NULL, "URLFETCH failed: imap-urlauth is gone");
            return STEP_DONE;
        }
        if (bytes.size == 0)
            return STEP_WAIT;
        session_write(s, bytes);
        u->left -= bytes.size;
        urlauth_remote_consume(s, bytes.size);
        if (budget_spent(budget, 1))
            return STEP_MORE;
    }
    step = urlauth_remote_finish(s);
    if (step != STEP_DONE)
        return step;
    session_write(s, u->what != 0 ? SLICE(")\r\n") : SLICE("\r\n"));
    next_url(u);
    return STEP_MORE;
}

enum step urlfetch_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    struct urlfetch *u = r->state;
    enum step step;

    if (u->stage == URLFETCH_ASKED)
        return take_answer(s, r, u, e);
    if (u->stage == URLFETCH_PASS)
        return pass_on(s, u, budget);

    if (u->stage == URLFETCH_STREAM)
        return stream(s, u, budget, e);
    if (u->stage == URLFETCH_SYNC) {
        step = session_op(s, &u->fetch.part.op, budget, e);
        if (step != STEP_DONE && step != STEP_ERROR)
            return step;
        if (step == STEP_ERROR || urlauth_check(&u->fetch, r->arena, e) < 0 || put_head(s, r, u, e) < 0)
            refuse(s, r, u, e);
        else
            u->stage = URLFETCH_STREAM;
        return STEP_MORE;
    }
    if (u->arg == NULL) {
        request_reply(r, "OK URLFETCH completed.");
        return STEP_DONE;
    }
    begin_url(s, r, u, e);
    return STEP_MORE;
}

void urlfetch_end(struct session *s, struct request *r)
{
    struct urlfetch *u = r->state;

    (void)s;
    if (u != NULL)
        part_close(&u->fetch.part);
}
