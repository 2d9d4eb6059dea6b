/* basic.c - commands that need no mailbox: NOOP, CAPABILITY, ID, ENABLE, NAMESPACE, LOGOUT, and CHECK. */
#include "imap/session.h"
#include "rpc/imap_id.h"

#include <limits.h>

void noop_begin(struct session *s, struct request *r)
{
    (void)s;
    request_reply(r, "OK NOOP completed.");
}

void check_begin(struct session *s, struct request *r)
{
    (void)r;
    r->op = mailbox_sync(s->box, s->view, SYNC_FULL);
}

enum step check_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    enum step step = request_op(s, r, budget, e);

    if (step == STEP_ERROR && e->class == ERROR_NOT_FOUND) {
        session_mailbox_lost(s);
        return STEP_DONE;
    }
    if (step == STEP_DONE)
        request_reply(r, "OK Check completed.");
    return step;
}

void capability_begin(struct session *s, struct request *r)
{
    session_print(s, "* CAPABILITY %s", session_capabilities(s, r->arena));
    request_reply(r, "OK Capability completed.");
}

/* ---- ID (RFC 2971, imap 5.2) ---------------------------------------------------------------------------------------- */

static bool next_word(struct slice *rest, struct slice *word)
{
    *rest = slice_trim(*rest);
    return rest->size > 0 && slice_split(rest, ' ', word);
}

static bool is_logged_key(const char *list, struct slice key)
{
    struct slice rest = slice_from_str(list), word;

    while (next_word(&rest, &word)) {
        if (slice_equal_str(word, "*") || slice_equal_nocase(word, key))
            return true;
    }
    return false;
}

static void put_printable(struct buffer *out, struct slice text)
{
    for (size_t i = 0; i < text.size && i < 80; i++)
        buffer_append_byte(out, text.at[i] < ' ' || text.at[i] == 0x7f ? '?' : text.at[i]);
}

static void log_id(struct session *s, struct request *r)
{
    const char *list = conf_str(s->set, SET_imap_id_log);
    struct buffer line = {0};
    bool first = !s->id_logged;

    s->id_logged = true; /* the first ID is the one that is logged, whatever it says */
    if (*list == '\0' || !first || r->args == NULL || r->args->type != IMAP_LIST)
        return;
    for (const struct imap_arg *a = r->args->children; a != NULL && a->next != NULL; a = a->next->next) {
        if (a->text.size > 30 || a->type == IMAP_LIST || a->next->type == IMAP_LIST || !is_logged_key(list, a->text))
            continue;
        buffer_append_str(&line, line.size == 0 ? "" : ", ");
        put_printable(&line, a->text);
        buffer_append_byte(&line, '=');
        put_printable(&line, a->next->text);
    }
    if (line.size > 0)
        log_info(&s->log, "ID sent: %s", buffer_cstr(&line));
    buffer_free(&line);
}

void id_begin(struct session *s, struct request *r)
{
    struct buffer out = {0};

    log_id(s, r);
    buffer_append_str(&out, "* ID ");
    imap_id_put(&out, conf_str(s->set, SET_imap_id_send));
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    request_reply(r, "OK ID completed.");
}

/* ---- ENABLE (RFC 5161, imap 12.1) ------------------------------------------------------------------------------------ */

void enable_begin(struct session *s, struct request *r)
{
    struct buffer out = {0};
    bool condstore = false, qresync = false;

    for (const struct imap_arg *a = r->args; a != NULL; a = a->next) {
        if (!imap_arg_is_atom(a)) { /* what stands in front of it is turned on */
            request_bad(s, r, "Invalid arguments");
            break;
        }
        if (slice_equal_str_nocase(a->text, "CONDSTORE"))
            condstore = true;
        else if (slice_equal_str_nocase(a->text, "QRESYNC"))
            qresync = true;
        else if (!extension_enable(s, a->text))
            continue;
        buffer_printf(&out, " %s", request_upper(r, a->text));
    }
    r->state = arena_str(r->arena, buffer_slice(&out));
    buffer_free(&out);
    s->qresync = s->qresync || qresync;
    r->condstore = (condstore || qresync) && !s->condstore;
}

enum step enable_run(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    const char *words = r->state;

    (void)budget;
    (void)e;
    if (*words != '\0')
        session_print(s, "* ENABLED%s", words);
    request_reply(r, "OK Enabled.");
    return STEP_DONE;
}

/* ---- NAMESPACE (RFC 2342, imap 8.6) ----------------------------------------------------------------------------------- */

static void put_namespace(const struct session *s, struct buffer *out, const struct mail_namespace *ns)
{
    char separator[2] = {ns->separator, '\0'};
    struct buffer prefix = {0};

    put_shown_name(s, &prefix, ns->prefix); /* as clients write it */
    buffer_append_byte(out, '(');
    mime_put_nstring(out, slice_of(prefix.at == NULL ? (const unsigned char *)"" : prefix.at, prefix.size));
    buffer_free(&prefix);
    buffer_append_byte(out, ' ');
    mime_put_nstring(out, slice_from_str(separator));
    buffer_append_byte(out, ')');
}

static void put_namespaces(struct session *s, struct buffer *out, enum mail_namespace_type type)
{
    bool any = false, more = true;

    for (unsigned order = 0, next; more; order = next) { /* one `order` after the other: there are few */
        more = false;
        next = UINT_MAX;
        for (const struct mail_namespace *ns = mail_user_namespaces(s->user); ns != NULL; ns = ns->next) {
            if (ns->type != type || ns->hidden || ns->unusable || ns->order < order)
                continue;
            if (ns->order > order) {
                more = true;
                next = ns->order < next ? ns->order : next;
                continue;
            }
            if (!any)
                buffer_append_byte(out, '(');
            any = true;
            put_namespace(s, out, ns);
        }
    }
    buffer_append_str(out, any ? ")" : "NIL");
}

void namespace_begin(struct session *s, struct request *r)
{
    struct buffer out = {0};

    buffer_append_str(&out, "* NAMESPACE ");
    put_namespaces(s, &out, MAIL_NAMESPACE_PRIVATE);
    buffer_append_byte(&out, ' ');
    put_namespaces(s, &out, MAIL_NAMESPACE_SHARED);
    buffer_append_byte(&out, ' ');
    put_namespaces(s, &out, MAIL_NAMESPACE_PUBLIC);
    buffer_append_str(&out, "\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    request_reply(r, "OK Namespace completed.");
}

/* ---- the rest ------------------------------------------------------------------------------------------------------- */

void logout_begin(struct session *s, struct request *r)
{
    session_print(s, "* BYE Logging out");
    request_reply(r, "OK Logout completed.");
    reply_send(s, r);
    session_bye(s, NULL, "Logged out");
}

void state_begin(struct session *s, struct request *r)
{
    request_bad(s, r, "Command is disabled for now");
}

void cancel_begin(struct session *s, struct request *r)
{
    if (!imap_arg_is_string(r->args))
        request_bad(s, r, r->args == NULL ? "Missing arguments" : "Invalid arguments");
    else
        request_reply(r, "NO Command tag not found.");
}

void unsupported_begin(struct session *s, struct request *r)
{
    (void)s;
    request_reply(r, "NO [CANNOT] %s is not supported by this server.", r->name);
    r->sync = false;
}
