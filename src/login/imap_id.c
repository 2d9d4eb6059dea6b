/* imap_id.c - the ID command before login (imap 5.2): what is answered, logged, believed and kept. */
#include "login/imap_login.h"
#include "rpc/imap_id.h"

#include <stdio.h>

enum { KEY_MAX = 30, LOG_VALUE_MAX = 80, RETAIN_PAIRS = 30, RETAIN_BYTES = 255 };

void imap_id_reply(struct login_client *c)
{
    struct buffer out = {0};

    buffer_append_str(&out, "* ID ");
    imap_id_put(&out, conf_str(login_settings(c), SET_imap_id_send));
    buffer_append_str(&out, "\r\n");
    stream_print(login_stream(c), "%s", buffer_cstr(&out));
    buffer_free(&out);
}

static bool wants_log(const char *setting, struct slice key)
{
    struct slice rest = slice_from_str(setting), one;

    if (strcmp(setting, "*") == 0)
        return true;
    while (slice_split(&rest, ' ', &one))
        if (one.size > 0 && slice_equal_nocase(one, key))
            return true;
    return false;
}

static void put_printable(struct buffer *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        buffer_append_byte(out, text.at[i] < 0x20 || text.at[i] == 0x7f ? '?' : text.at[i]);
}

static void put_escaped(struct buffer *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.at[i] == '"' || text.at[i] == '\\')
            buffer_append_byte(out, '\\');
        put_printable(out, (struct slice){text.at + i, 1});
    }
}

/* Keys that a front in login_trusted_networks may set: a fixed set of names (known-faults "forwarding"). */
static bool believe(struct login_client *c, struct slice key, struct slice value)
{
    struct net_endpoint remote = {{0}, 0}, local = {{0}, 0};
    uint32_t port;
    struct arena *a;

    if (slice_equal_str_nocase(key, "x-originating-ip")) {
        if (net_ip_parse(value, &remote.ip))
            login_forwarded(c, &remote, NULL, NULL);
    } else if (slice_equal_str_nocase(key, "x-originating-port")) {
        if (slice_to_u32(value, &port) && port <= 65535) {
            remote.port = (uint16_t)port;
            login_forwarded(c, &remote, NULL, NULL);
        }
    } else if (slice_equal_str_nocase(key, "x-connected-ip")) {
        if (net_ip_parse(value, &local.ip))
            login_forwarded(c, NULL, &local, NULL);
    } else if (slice_equal_str_nocase(key, "x-connected-port")) {
        if (slice_to_u32(value, &port) && port <= 65535) {
            local.port = (uint16_t)port;
            login_forwarded(c, NULL, &local, NULL);
        }
    } else if (slice_equal_str_nocase(key, "x-session-id") || slice_equal_str_nocase(key, "x-session-ext-id")) {
        a = arena_new();
        login_forwarded(c, NULL, NULL, arena_str(a, value));
        arena_free(a);
    } else if (slice_starts_nocase(key, SLICE("x-forward-")))
        login_forward_field(c, slice_from(key, 10), value);
    else
        return slice_equal_str_nocase(key, "x-proxy-ttl");
    return true;
}

static bool pairs_are_valid(const struct imap_line *line, size_t *first, size_t *end)
{
    *first = *end = 0;
    if (line->count == 0)
        return true;
    if (line->args[0].kind == IMAP_ATOM)
        return slice_equal_str_nocase(line->args[0].value, "NIL");
    if (line->args[0].kind != IMAP_OPEN)
        return false;
    *first = *end = 1;
    for (; *end < line->count && line->args[*end].kind != IMAP_CLOSE; (*end)++) {
        const struct imap_arg *arg = &line->args[*end];
        bool is_key = (*end - 1) % 2 == 0;
        if (arg->kind == IMAP_OPEN || (is_key && (arg->kind == IMAP_ATOM || arg->value.size > KEY_MAX)))
            return false;
        if (!is_key && arg->kind == IMAP_ATOM && !slice_equal_str_nocase(arg->value, "NIL"))
            return false;
    }
    return *end < line->count; /* the list is closed */
}

bool imap_id_command(struct login_client *c, struct imap_login *imap, const struct imap_line *line)
{
    const char *log_setting = conf_str(login_settings(c), SET_imap_id_log);
    struct buffer logged = {0}, kept = {0};
    size_t first, end, pairs = 0;

    if (line->error != NULL || !pairs_are_valid(line, &first, &end))
        return false;
    for (size_t i = first; i + 1 < end; i += 2) {
        struct slice key = line->args[i].value, value = line->args[i + 1].value;
        bool nil = line->args[i + 1].kind == IMAP_ATOM;
        bool believed = login_trusted(c) && !nil && believe(c, key, value);

        if (*log_setting != '\0' && wants_log(log_setting, key)) {
            buffer_append_str(&logged, logged.size > 0 ? ", " : "");
            put_printable(&logged, key);
            buffer_append_byte(&logged, '=');
            put_printable(&logged, nil ? SLICE("NIL") : slice_head(value, LOG_VALUE_MAX));
        }
        if (!believed && pairs++ < RETAIN_PAIRS && kept.size + key.size + value.size + 6 <= RETAIN_BYTES) {
            buffer_printf(&kept, "%s\"", kept.size > 0 ? " " : "");
            put_escaped(&kept, key);
            buffer_append_str(&kept, nil ? "\" NIL" : "\" \"");
            if (!nil) {
                put_escaped(&kept, value);
                buffer_append_byte(&kept, '"');
            }
        }
    }
    if (logged.size > 0 && !imap->id_logged)
        login_log(c, "ID sent: %s", buffer_cstr(&logged));
    imap->id_logged = true; /* the first ID is the one that is logged, whatever it says */
    if (conf_bool(login_settings(c), SET_imap_id_retain) && kept.size > 0)
        login_set_client_id(c, buffer_cstr(&kept));
    buffer_free(&logged);
    buffer_free(&kept);
    return true;
}
