/* lmtp_xclient.c - what a trusted front says about its client (doors 1.6). A fixed set of names; nothing from others. */
#include "lmtp/lmtp_impl.h"

#include <stdio.h>

struct facts {
    struct net_endpoint remote;
    char *helo;
    const char *session;
};

/* False: the value is bad. */
static bool take(struct arena *a, struct slice key, struct slice value, struct facts *out)
{
    uint32_t number;

    if (slice_equal_str_nocase(value, "[UNAVAILABLE]"))
        return true;
    if (slice_equal_str_nocase(key, "ADDR"))
        return net_ip_parse(slice_starts_nocase(value, SLICE("IPV6:")) ? slice_from(value, 5) : value,
                            &out->remote.ip);
    if (slice_equal_str_nocase(key, "PORT")) {
        if (!slice_to_u32(value, &number) || number > 65535)
            return false;
        out->remote.port = (uint16_t)number;
        return true;
    }
    if (slice_equal_str_nocase(key, "PROTO"))
        return slice_equal_str_nocase(value, "SMTP") || slice_equal_str_nocase(value, "ESMTP") ||
               slice_equal_str_nocase(value, "LMTP");
    if (slice_equal_str_nocase(key, "TTL") || slice_equal_str_nocase(key, "TIMEOUT"))
        return slice_to_u32(value, &number);
    if (slice_equal_str_nocase(key, "HELO"))
        out->helo = arena_str(a, value);
    else if (slice_equal_str_nocase(key, "SESSION") && value.size <= 64)
        out->session = arena_str(a, value);
    return true;
}

static bool is_known(struct slice key)
{
    static const char *const names[] = {"ADDR", "PORT", "PROTO", "TTL", "TIMEOUT", "HELO", "SESSION", "LOGIN", "FORWARD"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (slice_equal_str_nocase(key, names[i]))
            return true;
    return false;
}

void lmtp_xclient(struct lmtp_client *c, struct slice params)
{
    struct arena *a = arena_new();
    struct facts facts = {.remote = c->remote};
    struct slice word;

    if (!c->trusted) {
        lmtp_reply(c, "550 5.7.14 You are not from trusted IP");
        goto out;
    }
    if (c->trans != NULL) {
        lmtp_bad(c, "503 5.5.0 XCLIENT not permitted during a mail transaction");
        goto out;
    }
    while (params.size > 0 && slice_split(&params, ' ', &word)) {
        struct buffer value = {0};
        ptrdiff_t eq = slice_find(word, '=');
        struct slice key = eq < 0 ? word : slice_head(word, (size_t)eq), raw = slice_from(word, key.size + 1);
        bool good;
        if (slice_find(raw, '=') >= 0 || smtp_xtext_decode(&value, raw) < 0) {
            lmtp_bad(c, "501 5.5.4 Invalid parameter: Unexpected character in parameter value");
            buffer_free(&value);
            goto out;
        }
        good = !is_known(key) || (eq >= 0 && slice_find(buffer_slice(&value), 0) < 0 &&
                                  take(a, key, buffer_slice(&value), &facts));
        buffer_free(&value);
        if (!good) {
            char name[16];
            snprintf(name, sizeof(name), "%.*s", (int)key.size, key.at);
            for (char *p = name; *p != '\0'; p++)
                *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
            lmtp_bad(c, "501 5.5.4 Invalid %s parameter", name);
            goto out;
        }
    }
    c->bad_commands = 0;
    c->remote = facts.remote;
    if (facts.helo != NULL) {
        mem_free(c->helo);
        c->helo = smtp_hostname_valid(slice_from_str(facts.helo)) ? mem_strdup(facts.helo) : NULL;
    }
    if (facts.session != NULL) {
        snprintf(c->session, sizeof(c->session), "%s", facts.session);
        c->transactions = 0;
    }
    lmtp_client_settings(c);
    c->state = "GREETING";
    lmtp_reply(c, "220 %s %s", c->server->hostname, conf_str(c->set, SET_login_greeting));
out:
    arena_free(a);
}
