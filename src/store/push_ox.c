/* push_ox.c - notifications by HTTP (push_ox.h). They are put together and sent when what happened in the mailbox is over; nobody
 * waits for the answer, which only the log hears of. */
#include "store/push_ox.h"

#include "base/text.h"
#include "store/attribute.h"
#include "store/http.h"
#include "store/internal.h"

#include <stdio.h>
#include <time.h>

#define WHO "push-notification-ox: "
#define ATTRIBUTE_REGISTRATION ATTRIBUTE_SERVER_PREFIX "vendor/vendor.dovecot/http-notify"

enum { CACHE_SECS = 60, TIMEOUT_MS = 2000, RETRIES = 1 };

struct push_ox {
    struct mail_user *user;
    char *url;
    bool from_metadata;              /* the registration names the user */
    unsigned cache_secs, timeout_ms, retries;
    char *registration;              /* the attribute's value; NULL = none */
    time_t looked_at;                /* 0: not yet */
    char *registered;                /* its user=; NULL: nobody is to be told of what happens now */
    VEC(uint32_t) uids;              /* delivered */
};

/* ---- parameters ------------------------------------------------------------------------------------------------------ */

static int take_url(struct push_ox *ox, struct slice value)
{
    struct http_url ignored;
    struct error e;

    mem_free(ox->url);
    ox->url = mem_strndup(value);
    if (http_url_parse(ox->url, &ignored, &e) == 0) {
        log_debug(ox->user->log_p, WHO "Using URL %s", ox->url);
        return 0;
    }
    log_error(ox->user->log_p, "ox: Failed to parse OX REST URL %s: %s", ox->url, e.admin);
    return -1;
}

static int take_lifetime(struct push_ox *ox, const char *value)
{
    uint64_t secs;
    struct error e;

    if (conf_parse_value(CONF_TIME, NULL, value, &secs, &e) == 0) {
        ox->cache_secs = (unsigned)secs;
        return 0;
    }
    log_error(ox->user->log_p, "ox: Failed to parse OX cache_lifetime %s: %s", value, e.admin);
    return -1;
}

/* The real server says nothing of wrong ones. */
static void take_number(const struct push_ox *ox, struct slice name, struct slice value, unsigned *number)
{
    if (!slice_to_u32(value, number))
        log_warning(ox->user->log_p, "ox: Ignoring invalid %.*s: %.*s", (int)name.size, (const char *)name.at, (int)value.size,
                    (const char *)value.at);
}

/* Unknown parameters are no error. */
static int take_parameter(struct push_ox *ox, struct arena *arena, struct slice word)
{
    struct slice name = SLICE_EMPTY, value = word;

    (void)slice_split(&value, '=', &name);
    if (slice_equal_str(name, "url"))
        return take_url(ox, value);
    if (slice_equal_str(name, "cache_lifetime"))
        return take_lifetime(ox, arena_str(arena, value));
    if (slice_equal_str(name, "user_from_metadata"))
        ox->from_metadata = true;
    else if (slice_equal_str(name, "timeout_msecs"))
        take_number(ox, name, value, &ox->timeout_ms);
    else if (slice_equal_str(name, "max_retries"))
        take_number(ox, name, value, &ox->retries);
    return 0;
}

static int take_parameters(struct push_ox *ox, struct slice config)
{
    struct arena *arena = arena_new();
    struct slice word;
    int r = 0;

    while (r == 0 && slice_split(&config, ' ', &word))
        r = take_parameter(ox, arena, word);
    arena_free(arena);
    if (r == 0 && ox->url == NULL) {
        log_error(ox->user->log_p, "ox: Driver requires the url parameter");
        return -1;
    }
    return r;
}

struct push_ox *push_ox_open(struct mail_user *user, struct slice config)
{
    struct push_ox *ox = mem_zero(1, sizeof(*ox));

    ox->user = user;
    ox->cache_secs = CACHE_SECS;
    ox->timeout_ms = TIMEOUT_MS;
    ox->retries = RETRIES;
    if (take_parameters(ox, config) < 0) {
        push_ox_close(ox);
        return NULL;
    }
    log_debug(user->log_p, WHO "Using cache lifetime: %u", ox->cache_secs);
    return ox;
}

void push_ox_close(struct push_ox *ox)
{
    mem_free(ox->url);
    mem_free(ox->registration);
    mem_free(ox->registered);
    VEC_FREE(&ox->uids);
    mem_free(ox);
}

/* ---- who has registered ------------------------------------------------------------------------------------------------ */

static void look_up(struct push_ox *ox, struct mailbox *box)
{
    struct arena *arena;
    const char *value = NULL;
    struct error e;

    if (ox->looked_at != 0 && time(NULL) < ox->looked_at + (time_t)ox->cache_secs)
        return;
    arena = arena_new();
    mem_free(ox->registration);
    ox->registration = NULL;
    if (mailbox_attribute_get(box, ATTRIBUTE_PRIVATE, ATTRIBUTE_REGISTRATION, arena, &value, &e) < 0) {
        error_context(&e, WHO "Skipped because unable to get attribute: ");
        log_error_value(ox->user->log_p, &e);
    } else if (value != NULL) {
        ox->registration = mem_strdup(value);
    }
    ox->looked_at = time(NULL);
    arena_free(arena);
}

/* "user=ID", among fields behind TABs; the last one counts. */
static char *registered_user(const char *registration)
{
    struct slice rest = slice_from_str(registration), field, user = SLICE_EMPTY;
    bool found = false;

    while (slice_split(&rest, '\t', &field)) {
        if (!slice_starts(field, SLICE("user=")))
            continue;
        user = slice_from(field, 5);
        found = true;
    }
    return found ? mem_strndup(user) : NULL;
}

void push_ox_begin(struct push_ox *ox, struct mailbox *box)
{
    const struct log *log = ox->user->log_p;

    mem_free(ox->registered);
    ox->registered = NULL;
    ox->uids.count = 0;
    if (box == NULL)
        return;
    if (!box->place.ns->inbox || strcmp(box->place.vname, "INBOX") != 0) {
        log_debug(log, WHO "Skipped because %s is not a watched mailbox", box->place.vname);
        return;
    }
    look_up(ox, box);
    if (ox->registration == NULL) {
        log_debug(log, WHO "Skipped because not active (/private/" ATTRIBUTE_REGISTRATION " METADATA not set)");
        return;
    }
    ox->registered = registered_user(ox->registration);
    if (ox->registered == NULL) {
        log_error(log, WHO "No user provided in config");
        return;
    }
    log_debug(log, WHO "User (%s)", ox->registered);
    log_debug(log, WHO "Handling MessageNew event");
}

/* ---- notifications -------------------------------------------------------------------------------------------------------- */

static void put_text(struct buffer *out, const char *key, struct slice text)
{
    buffer_printf(out, ",\"%s\":\"", key);
    text_json_escape(out, text);
    buffer_append_byte(out, '"');
}

/* As it stands in the header, folds and encoded words too. */
static void put_header(struct buffer *out, struct mail *mail, const char *key, const char *name)
{
    struct slice wanted = slice_from_str(name), block, line;
    struct mime_field field;
    struct buffer value = {0};
    struct error ignored;

    if (mail_header_fields(mail, &wanted, 1, &block, &ignored) < 0 || !mime_header_find(block, name, &field))
        return;
    for (struct slice rest = field.value; slice_split(&rest, '\r', &line);)
        buffer_append_slice(&value, line);
    put_text(out, key, buffer_slice(&value));
    buffer_free(&value);
}

static void put_message(struct buffer *out, struct mailbox *box, uint32_t uid)
{
    struct mail *mail;
    struct slice snippet;
    struct error ignored;

    if (mail_open_uid(box, uid, &mail, &ignored) < 0)
        return;
    put_header(out, mail, "from", "From");
    put_header(out, mail, "subject", "Subject");
    if (mail_preview(mail, &snippet, &ignored) == 0)
        put_text(out, "snippet", snippet);
    mail_close(&mail);
}

static void put_notification(struct buffer *out, const struct push_ox *ox, struct mailbox *box, uint32_t uid, const struct index_status *status)
{
    buffer_append_str(out, "{\"user\":\"");
    text_json_escape(out, slice_from_str(ox->from_metadata ? ox->registered : ox->user->name));
    buffer_append_str(out, "\",\"event\":\"messageNew\",\"folder\":\"");
    text_json_escape(out, slice_from_str(box->place.vname));
    buffer_printf(out, "\",\"imap-uidvalidity\":%u,\"imap-uid\":%u", status->uid_validity, uid);
    put_message(out, box, uid);
    buffer_printf(out, ",\"unseen\":%u}", status->unseen);
}

/* The user may be gone when the answer comes. */
struct sent {
    struct log log;
    bool own_log;
};

static void on_answer(void *arg, const struct http_answer *answer)
{
    struct sent *sent = arg;
    const struct log *log = sent->own_log ? &sent->log : NULL;

    if (http_succeeded(answer))
        log_debug(log, WHO "Notification sent successfully: %u %s", answer->status, answer->text);
    else if (answer->status >= HTTP_FAILED_ABORTED)
        log_error(log, WHO "Error when sending notification: %s", answer->text);
    else
        log_error(log, WHO "Error when sending notification: %u %s", answer->status, answer->text);
    mem_free(sent->log.prefix);
    mem_free(sent);
}

static void send_notification(const struct push_ox *ox, struct slice body)
{
    const struct http_request request = {.method = "PUT", .url = ox->url, .content_type = "application/json; charset=utf-8", .body = body,
                                         .trust = store_http_trust(ox->user), .attempt_ms = ox->timeout_ms, .retries = ox->retries};
    const struct log *log = ox->user->log_p;
    struct http_client *client = store_http();
    struct sent *sent;
    struct error e;

    if (client == NULL)
        return;
    log_debug(log, WHO "Sending notification: %.*s", (int)body.size, (const char *)body.at);
    sent = mem_zero(1, sizeof(*sent));
    if (log != NULL) {
        sent->log = (struct log){mem_strdup_null(log->prefix), log->debug};
        sent->own_log = true;
    }
    if (http_client_send(client, &request, on_answer, sent, &e) == 0)
        return;
    error_context(&e, WHO "Error when sending notification: ");
    log_error_value(log, &e);
    mem_free(sent->log.prefix);
    mem_free(sent);
}

/* Only deliveries are new messages: what a client appends or copies is none. */
static bool delivers(const struct mail_user *user)
{
    return strcmp(user->service, "lmtp") == 0 || strcmp(user->service, "lda") == 0;
}

void push_ox_saved(struct push_ox *ox, const struct staged *staged)
{
    if (ox->registered != NULL && delivers(ox->user) && staged->uid != 0)
        VEC_PUSH(&ox->uids, staged->uid);
}

void push_ox_end(struct push_ox *ox, struct mailbox *box)
{
    struct index_status status;
    struct buffer body = {0};

    for (size_t i = 0; i < ox->uids.count; i++) {
        index_status(box->index, &status);
        log_debug(ox->user->log_p, WHO "Got status of mailbox '%s': (unseen: %u)", box->place.vname, status.unseen);
        buffer_reset(&body);
        put_notification(&body, ox, box, ox->uids.at[i], &status);
        send_notification(ox, buffer_slice(&body));
    }
    buffer_free(&body);
    ox->uids.count = 0;
}
