/* request.c - what commands share: operations of the store, names, flags, sets, status items. */
#include "imap/session.h"

static void wake_session(void *arg)
{
    session_wake(arg);
}

void session_retry(struct session *s, unsigned ms)
{
    ev_timer_stop(worker_loop(s->worker), &s->retry);
    ev_timer_set(&s->retry, ms / 1000.0, 0);
    ev_timer_start(worker_loop(s->worker), &s->retry);
}

enum step session_op(struct session *s, struct store_op **op, struct budget *budget, struct error *e)
{
    enum step step;
    unsigned ms;

    if (*op == NULL)
        return STEP_DONE;
    step = store_op_step(*op, budget, e);
    if (step == STEP_DONE || step == STEP_ERROR) {
        store_op_free(op);
        return step;
    }
    if (step == STEP_WAIT) {
        store_op_set_wake(*op, wake_session, s);
        ms = store_op_retry_ms(*op);
        if (ms > 0)
            session_retry(s, ms);
    }
    return step;
}

enum step request_op(struct session *s, struct request *r, struct budget *budget, struct error *e)
{
    return session_op(s, &r->op, budget, e);
}

bool request_name(struct session *s, struct request *r, struct slice mutf7, struct slice *utf8)
{
    struct buffer out = {0};
    bool good = s->utf8 ? text_utf8_valid(mutf7) : text_mutf7_to_utf8(&out, mutf7) == 0;

    if (s->utf8)
        buffer_append_slice(&out, mutf7);
    for (size_t i = 0; good && i < out.size; i++)
        good = out.at[i] >= ' ' && out.at[i] != 0x7f;
    *utf8 = arena_slice(r->arena, buffer_slice(&out));
    buffer_free(&out);
    if (!good) {
        request_reply(r, s->utf8 ? "NO Mailbox name is not valid UTF-8." : "NO Mailbox name is not valid mUTF-7.");
        r->sync = false;
    }
    return good;
}

bool session_workaround(const struct session *s, const char *name)
{
    struct slice rest = slice_from_str(conf_str(s->set, SET_imap_client_workarounds)), word;

    for (size_t i = 0; i < rest.size; i++) {
        size_t n = 0;

        while (i + n < rest.size && rest.at[i + n] != ' ' && rest.at[i + n] != ',')
            n++;
        word = slice_of(rest.at + i, n);
        if (slice_equal_str(word, name))
            return true;
        i += n;
    }
    return false;
}

bool request_place(struct session *s, struct request *r, const struct imap_arg *arg, struct mailbox_place *place,
                   enum error_use use)
{
    struct slice name;
    struct error e = {0};

    if (!request_name(s, r, arg->text, &name))
        return false;
    if (name.size > 0 && session_workaround(s, "tb-extra-mailbox-sep") &&
        name.at[name.size - 1] == (unsigned char)mail_user_inbox_namespace(s->user)->separator)
        name.size--;
    if (mailbox_place(s->user, r->arena, name, place, &e) == 0)
        return true;
    request_place_error(s, r, &e, use);
    return false;
}

/* A name that belongs to no namespace has a text of its own here (imap 8.2). */
void request_place_error(struct session *s, struct request *r, const struct error *e, enum error_use use)
{
    if (strstr(e->user, "Missing namespace prefix") == NULL) {
        request_error_as(s, r, e, use);
        return;
    }
    request_reply(r, "NO Client tried to access nonexistent namespace. (Mailbox name should probably be prefixed with: %s).",
                  mail_user_inbox_namespace(s->user)->prefix);
    r->sync = false;
}

void request_no_mailbox(struct request *r, struct slice name)
{
    request_reply(r, "NO Mailbox doesn't exist: %.*s%s", (int)name.size, (const char *)name.at, slice_ends(name, SLICE(".")) ? "" : ".");
}

void put_mailbox(const struct session *s, struct buffer *out, const char *utf8)
{
    struct buffer name = {0};

    put_shown_name(s, &name, utf8);
    mime_put_astring(out, slice_of(name.at == NULL ? (const unsigned char *)"" : name.at, name.size));
    buffer_free(&name);
}

const char *request_upper(struct request *r, struct slice text)
{
    return arena_str_upper(r->arena, text);
}

bool session_may_tell_progress(struct session *s, struct request *r, unsigned secs)
{
    uint64_t now = time_monotonic_ns();

    if (r->progress_ns == 0)
        r->progress_ns = r->begun_ns;
    if (now - r->progress_ns < (uint64_t)secs * 1000000000 || stream_pending(s->io) > 0)
        return false;
    r->progress_ns = now;
    return true;
}

bool imap_number(struct slice text, uint64_t *out)
{
    return slice_to_u64(text, out) && *out <= INT64_MAX;
}

/* ---- flags ---------------------------------------------------------------------------------------------------------- */

static const char *keyword_fault(const struct session *s, struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (name.at[i] <= ' ' || name.at[i] == 0x7f || strchr("]%*\\", name.at[i]) != NULL)
            return "Invalid characters in keyword";
    }
    if (name.size > conf_uint(s->set, SET_mail_max_keyword_length))
        return "Keyword length too long";
    return NULL;
}

struct seen_keyword {
    struct slice key;
    UT_hash_handle hh;
};

/* Keywords that differ only in case are one, with the first spelling. */
static bool is_new_keyword(struct request *r, struct seen_keyword **seen, struct slice name)
{
    struct slice key = text_lowered(r->arena, name);
    struct seen_keyword *k;

    HASH_FIND(hh, *seen, key.at, key.size, k);
    if (k != NULL)
        return false;
    k = ARENA_NEW(r->arena, struct seen_keyword);
    k->key = key;
    HASH_ADD_KEYPTR(hh, *seen, k->key.at, k->key.size, k);
    return true;
}

static bool take_flag(struct session *s, struct request *r, const struct imap_arg *arg, struct flag_list *out,
                      struct seen_keyword **seen)
{
    const char *fault;
    uint8_t bit;

    if (!imap_arg_is_atom(arg)) {
        request_bad(s, r, "Flags list contains non-atoms");
        return false;
    }
    if (arg->text.at[0] == '\\') {
        if (!index_flag_find(arg->text, &bit)) {
            request_bad(s, r, "Invalid system flag %s", request_upper(r, arg->text));
            return false;
        }
        out->flags |= bit;
        return true;
    }
    fault = keyword_fault(s, arg->text);
    if (fault != NULL && out->fault == NULL)
        out->fault = fault; /* said when all of the list is well-formed */
    if (fault != NULL)
        return true;
    if (is_new_keyword(r, seen, arg->text)) {
        out->keywords[out->keyword_mentions++] = arg->text;
        if (!out->repeats)
            out->keyword_count++;
    } else {
        out->repeats = true;
    }
    return true;
}

bool request_flags(struct session *s, struct request *r, const struct imap_arg *arg, bool list, struct flag_list *out)
{
    struct seen_keyword *seen = NULL;
    size_t n = 0;
    bool good = true;

    *out = (struct flag_list){0};
    if (list)
        arg = arg->children;
    for (const struct imap_arg *a = arg; a != NULL; a = a->next)
        n++;
    out->keywords = ARENA_ARRAY(r->arena, struct slice, n + 1);
    for (; good && arg != NULL; arg = arg->next)
        good = take_flag(s, r, arg, out, &seen);
    HASH_CLEAR(hh, seen);
    if (good && out->fault != NULL) {
        request_reply(r, "NO [CANNOT] %s.", out->fault);
        r->sync = false;
        return false;
    }
    return good;
}

bool request_set(struct session *s, struct request *r, struct slice text, struct index_ranges *seqs)
{
    struct imap_set set;

    if (imap_set_parse(r->arena, text, &set) == 0 &&
        imap_set_resolve(&set, r->uid ? IMAP_SET_UIDS : IMAP_SET_SEQS, mailbox_view_index(s->view), &s->saved, seqs) == 0)
        return true;
    request_bad(s, r, r->uid ? "Invalid uidset" : "Invalid messageset");
    return false;
}

/* ---- status items --------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned item;
} status_items[] = {{"MESSAGES", STATUS_MESSAGES}, {"RECENT", STATUS_RECENT}, {"UIDNEXT", STATUS_UIDNEXT},
                    {"UIDVALIDITY", STATUS_UIDVALIDITY}, {"UNSEEN", STATUS_UNSEEN},
                    {"HIGHESTMODSEQ", STATUS_HIGHESTMODSEQ}, {"SIZE", STATUS_SIZE},
                    {"X-GUID", STATUS_GUID}};
/* Those of extensions. */
static const struct {
    const char *name, *extension;
    unsigned item;
} more_items[] = {{"DELETED", "STATUS=DELETED", STATUS_DELETED},
                  {"DELETED", "IMAP4rev2", STATUS_DELETED},
                  {"DELETED", "QUOTA=RES-MESSAGE", STATUS_DELETED}, /* RFC 9208 section 4.1.4 */
                  {"DELETED-STORAGE", "QUOTA=RES-STORAGE", STATUS_DELETED_STORAGE},
                  {"MAILBOXID", "OBJECTID", STATUS_SHOW_MAILBOXID},
                  {"APPENDLIMIT", "APPENDLIMIT", STATUS_SHOW_APPENDLIMIT}};

static unsigned more_item(const struct session *s, struct slice name)
{
    for (size_t i = 0; i < sizeof(more_items) / sizeof(more_items[0]); i++) {
        if (slice_equal_str_nocase(name, more_items[i].name) && session_extension(s, more_items[i].extension))
            return more_items[i].item;
    }
    return 0;
}

unsigned status_store_items(unsigned items)
{
    unsigned own = STATUS_SHOW_MAILBOXID | STATUS_SHOW_APPENDLIMIT;

    return (items & ~own) | ((items & STATUS_SHOW_MAILBOXID) != 0 ? STATUS_GUID : 0);
}

enum { STATUS_ITEMS = sizeof(status_items) / sizeof(status_items[0]) };

bool request_status_items(struct session *s, struct request *r, const struct imap_arg *list, unsigned *items,
                          bool *x_size)
{
    *items = 0;
    *x_size = false;
    if (list == NULL || list->children == NULL) {
        request_bad(s, r, "Empty status list");
        return false;
    }
    for (const struct imap_arg *a = list->children; a != NULL; a = a->next) {
        size_t i = 0;

        if (!imap_arg_is_atom(a)) {
            request_bad(s, r, "Status list contains non-atoms");
            return false;
        }
        if (slice_equal_str_nocase(a->text, "X-SIZE")) {
            *x_size = true;
            continue;
        }
        while (i < STATUS_ITEMS && !slice_equal_str_nocase(a->text, status_items[i].name))
            i++;
        if (i == STATUS_ITEMS && more_item(s, a->text) != 0) {
            *items |= more_item(s, a->text);
            continue;
        }
        if (i == STATUS_ITEMS) {
            request_bad(s, r, "Invalid status item %s", request_upper(r, a->text));
            return false;
        }
        *items |= status_items[i].item;
    }
    return true;
}

static void put_item(struct buffer *out, const char *name, uint64_t value, bool *first)
{
    buffer_printf(out, "%s%s %llu", *first ? "" : " ", name, (unsigned long long)value);
    *first = false;
}

void put_status(struct session *s, struct buffer *out, struct slice name, unsigned items, bool x_size,
                const struct mailbox_status *status)
{
    bool first = true;

    buffer_append_str(out, "* STATUS ");
    mime_put_astring(out, name);
    buffer_append_str(out, " (");
    if ((items & STATUS_MESSAGES) != 0)
        put_item(out, "MESSAGES", status->messages, &first);
    if ((items & STATUS_RECENT) != 0)
        put_item(out, "RECENT", status->recent, &first);
    if ((items & STATUS_UIDNEXT) != 0)
        put_item(out, "UIDNEXT", status->uid_next, &first);
    if ((items & STATUS_UIDVALIDITY) != 0)
        put_item(out, "UIDVALIDITY", status->uid_validity, &first);
    if ((items & STATUS_UNSEEN) != 0)
        put_item(out, "UNSEEN", status->unseen, &first);
    if ((items & STATUS_HIGHESTMODSEQ) != 0)
        put_item(out, "HIGHESTMODSEQ", status->highest_modseq > 0 ? status->highest_modseq : 1, &first);
    if ((items & STATUS_SIZE) != 0)
        put_item(out, "SIZE", status->size, &first);
    if (x_size)
        put_item(out, "X-SIZE", status->size, &first);
    if ((items & STATUS_GUID) != 0) {
        buffer_printf(out, "%sX-GUID ", first ? "" : " ");
        first = false;
        text_hex_encode(out, slice_of(status->guid, sizeof(status->guid)));
    }
    if ((items & STATUS_DELETED) != 0)
        put_item(out, "DELETED", status->deleted, &first);
    if ((items & STATUS_DELETED_STORAGE) != 0)
        put_item(out, "DELETED-STORAGE", status->deleted_storage, &first);
    if ((items & STATUS_SHOW_MAILBOXID) != 0) {
        buffer_printf(out, "%sMAILBOXID (F", first ? "" : " ");
        first = false;
        text_hex_encode(out, slice_of(status->guid, sizeof(status->guid)));
        buffer_append_byte(out, ')');
    }
    if ((items & STATUS_SHOW_APPENDLIMIT) != 0 && session_append_limit(s) > 0)
        put_item(out, "APPENDLIMIT", session_append_limit(s), &first);
    else if ((items & STATUS_SHOW_APPENDLIMIT) != 0)
        buffer_printf(out, "%sAPPENDLIMIT NIL", first ? "" : " ");
    buffer_append_str(out, ")\r\n");
}
