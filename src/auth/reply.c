/* reply.c - the lines OK, FAIL and USER (auth.md 17, 19). */
#include "auth/conns.h"

/* Fields that only auth itself reads (auth.md 7.1). */
static bool is_hidden(const char *key)
{
    static const char *const hidden[] = {"nopassword", "noauthenticate", "allow_nets", "allow_real_nets", "fail",
                                         "delay_until", "user", "username", "domain", "login_user"};

    if (strncmp(key, "userdb_", 7) == 0)
        return true;
    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
        if (strcmp(key, hidden[i]) == 0)
            return true;
    return false;
}

static void put_field(struct buffer *b, const struct field *f, bool bare)
{
    buffer_append_byte(b, '\t');
    text_tab_escape(b, slice_from_str(f->key));
    if (f->value == NULL || *f->value == '\0' || bare)
        return;
    buffer_append_byte(b, '=');
    text_tab_escape(b, slice_from_str(f->value));
}

void reply_put_fields(struct buffer *b, const struct request *r, bool normalise)
{
    const struct fields *f = &r->passdb_fields;
    bool any = false;

    for (size_t i = 0; i < f->list.count; i++) {
        const char *key = f->list.at[i].key;
        if (is_hidden(key))
            continue;
        put_field(b, &f->list.at[i],
                  normalise && (strcmp(key, "nologin") == 0 || strcmp(key, "proxy") == 0 || strcmp(key, "anonymous") == 0));
        any = true;
    }
    if (!any && f->list.count > 0)
        buffer_append_byte(b, '\t'); /* auth.md 26.3 */
}

void reply_put_ok(struct buffer *b, uint32_t id, const struct request *r, bool login, struct slice final)
{
    const struct fields *f = &r->passdb_fields;

    line_begin(b, "OK");
    line_field_num(b, id);
    line_pair(b, "user", r->user);
    reply_put_fields(b, r, true);
    if (strcmp(r->original_user, r->user) != 0)
        line_pair(b, "original_user", r->original_user);
    if (r->master_user != NULL)
        line_pair(b, "auth_user", r->master_user);
    if (login && fields_has(f, "proxy")) {
        if (!fields_has(f, "pass") && r->password != NULL)
            line_pair(b, "pass", r->password);
        if (!fields_has(f, "master") && r->master_user != NULL)
            line_pair(b, "master", r->master_user);
    }
    if (final.size > 0) {
        buffer_append_str(b, "\tresp=");
        text_base64_encode(b, final);
    }
    line_end(b);
}

void reply_put_fail(struct buffer *b, uint32_t id, const struct request *r, enum passdb_result result)
{
    const char *code = NULL;

    if (result == PASSDB_INTERNAL || result == PASSDB_SCHEME_NOT_AVAILABLE)
        code = result == PASSDB_INTERNAL ? "temp_fail" : NULL;
    else if (r->master_was_right)
        code = "authz_fail";
    else if (result == PASSDB_USER_DISABLED)
        code = "user_disabled";
    else if (result == PASSDB_PASS_EXPIRED)
        code = "pass_expired";

    line_begin(b, "FAIL");
    line_field_num(b, id);
    line_pair(b, "user", r->user);
    line_pair(b, "code", code);
    for (size_t i = 0; i < r->passdb_fields.list.count; i++) {
        const struct field *field = &r->passdb_fields.list.at[i];
        if (!is_hidden(field->key) && strcmp(field->key, "nologin") != 0)
            put_field(b, field, false);
    }
    /* A name that was refused is shown as it came, and so is one that was changed. */
    if (r->original_user != NULL && r->user != NULL &&
        (strcmp(r->original_user, r->user) != 0 || r->refused_user))
        line_pair(b, "original_user", r->original_user);
    if (r->master_user != NULL)
        line_pair(b, "auth_user", r->master_user);
    line_end(b);
}

void reply_put_user(struct buffer *b, uint32_t id, struct request *r, const char *token)
{
    const struct fields *f = &r->userdb_fields;

    line_begin(b, "USER");
    line_field_num(b, id);
    line_field_str(b, r->user);
    for (size_t i = 0; i < f->list.count; i++)
        put_field(b, &f->list.at[i], false);
    if (f->list.count == 0)
        buffer_append_byte(b, '\t');
    if (r->master_user != NULL && !fields_has(f, "master_user"))
        line_pair(b, "master_user", r->master_user);
    if (r->successful && r->mech != NULL) {
        line_pair(b, "auth_mech", r->mech);
        if (fields_has(&r->passdb_fields, "anonymous"))
            buffer_append_str(b, "\tanonymous");
        line_pair(b, "auth_token", token);
        if (r->master_user != NULL)
            line_pair(b, "auth_user", r->master_user);
        else if (strcmp(r->original_user, r->user) != 0)
            line_pair(b, "auth_user", r->original_user);
    }
    line_end(b);
}

/* ---- proxy fields (auth.md 16) -------------------------------------------------------------------------------- */

static bool is_self(const struct request *r, const char *host)
{
    const struct net_endpoint *local = r->real_local.ip.family != 0 ? &r->real_local : &r->local;
    const char *port = fields_get(&r->passdb_fields, "port");
    struct net_ip ip;
    uint32_t number;

    if (!net_ip_parse(slice_from_str(host), &ip))
        return false;
    if (!net_ip_equal(&ip, &local->ip) && !net_ip_in(&ip, r->auth->set.proxy_self))
        return false;
    return port == NULL || (slice_to_u32(slice_from_str(port), &number) && number == local->port);
}

void reply_finish_proxy(struct request *r)
{
    struct fields *f = &r->passdb_fields;
    bool maybe = fields_has(f, "proxy_maybe"), always = fields_has(f, "proxy_always");
    const char *host = fields_get(f, "hostip") != NULL ? fields_get(f, "hostip") : fields_get(f, "host");
    char text[NET_IP_TEXT];

    if (!maybe && !always && !fields_has(f, "proxy"))
        return;
    if (host == NULL || *host == '\0') {
        /* A director decides; it needs to know where the client came in. */
        if (r->local.ip.family != 0)
            fields_set(f, "lip", net_ip_text(&r->local.ip, text));
        if (r->local.port != 0)
            fields_set(f, "lport", arena_printf(r->arena, "%u", r->local.port));
        return;
    }
    if (!maybe)
        return;
    if (is_self(r, host)) {
        static const char *const gone[] = {"proxy", "proxy_maybe", "proxy_always", "host", "hostip", "port", "destuser"};
        for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
            fields_remove(f, gone[i]);
        if (always)
            fields_set(f, "proxy", NULL);
    } else {
        fields_remove(f, "proxy_maybe");
        fields_set(f, "proxy", NULL);
    }
}
