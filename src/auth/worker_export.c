/* worker_export.c - a request in the words of the worker protocol, and back (auth.md 20). */
#include "auth/worker_pool.h"
#include "rpc/line.h"

static void put_end(struct buffer *b, const char *prefix, const struct net_endpoint *local, const struct net_endpoint *remote)
{
    char text[NET_IP_TEXT];

    if (local->ip.family != 0)
        buffer_printf(b, "\t%slip=%s", prefix, net_ip_text(&local->ip, text));
    if (remote->ip.family != 0)
        buffer_printf(b, "\t%srip=%s", prefix, net_ip_text(&remote->ip, text));
    if (local->port != 0)
        buffer_printf(b, "\t%slport=%u", prefix, local->port);
    if (remote->port != 0)
        buffer_printf(b, "\t%srport=%u", prefix, remote->port);
}

static void put_fields(struct buffer *b, const char *prefix, const struct fields *f)
{
    for (size_t i = 0; i < f->list.count; i++) {
        buffer_printf(b, "\t%s", prefix);
        text_tab_escape(b, slice_from_str(f->list.at[i].key));
        if (f->list.at[i].value != NULL) {
            buffer_append_byte(b, '=');
            text_tab_escape(b, slice_from_str(f->list.at[i].value));
        }
    }
}

static void put_flag(struct buffer *b, bool on, const char *name)
{
    if (on)
        line_field_str(b, name);
}

void worker_export(struct buffer *b, const struct request *r)
{
    const struct net_endpoint *rl = r->real_local.ip.family != 0 ? &r->real_local : &r->local;
    const struct net_endpoint *rr = r->real_remote.ip.family != 0 ? &r->real_remote : &r->remote;

    line_pair(b, "user", r->user);
    line_pair(b, "service", r->service);
    line_pair(b, "master-user", r->master_user);
    if (r->original_user != NULL)
        line_pair(b, "original-username", r->original_user);
    else
        line_field_str(b, "original-username");
    line_pair(b, "requested-login-user", r->login_user);
    put_end(b, "", &r->local, &r->remote);
    put_end(b, "real_", rl, rr);
    line_pair(b, "local_name", r->local_name);
    line_pair(b, "session", r->session);
    put_flag(b, r->debug, "debug");
    put_flag(b, r->secured && !r->tls, "secured");
    put_flag(b, r->tls, "secured=tls");
    put_flag(b, r->skip_password_check, "skip-password-check");
    put_flag(b, r->valid_cert, "valid-client-cert");
    put_flag(b, r->no_penalty, "no-penalty");
    put_flag(b, r->successful, "successful");
    line_pair(b, "mech", r->mech);
    line_pair(b, "client_id", r->client_id);
    put_fields(b, "passdb_", &r->passdb_fields);
    put_fields(b, "userdb_", &r->userdb_fields);
}

static void import_field(struct request *r, const char *key, const char *value)
{
    const char *text = value == NULL ? "" : value;

    if (strcmp(key, "user") == 0) {
        r->user = text;
        r->translated_user = text;
    } else if (strcmp(key, "master-user") == 0) {
        r->master_user = text;
    } else if (strcmp(key, "original-username") == 0) {
        r->original_user = text;
    } else if (strcmp(key, "requested-login-user") == 0) {
        r->login_user = text;
    } else if (strcmp(key, "skip-password-check") == 0) {
        r->skip_password_check = true;
    } else if (strcmp(key, "successful") == 0) {
        r->successful = true;
    } else if (strcmp(key, "mech") == 0) {
        r->mech = text;
    } else if (strncmp(key, "passdb_", 7) == 0) {
        fields_set(&r->passdb_fields, key + 7, value);
    } else if (strncmp(key, "userdb_", 7) == 0) {
        fields_set(&r->userdb_fields, key + 7, value);
    } else {
        (void)request_set_param(r, key, value);
    }
}

void worker_import(struct request *r, const struct slice *field, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ptrdiff_t eq = slice_find(field[i], '=');

        if (field[i].size == 0)
            continue;
        if (eq < 0)
            import_field(r, arena_str(r->arena, field[i]), NULL);
        else
            import_field(r, arena_str(r->arena, slice_head(field[i], (size_t)eq)),
                         arena_str(r->arena, slice_from(field[i], (size_t)eq + 1)));
    }
    if (r->user == NULL)
        r->user = "";
    if (r->original_user == NULL)
        r->original_user = r->user;
}
