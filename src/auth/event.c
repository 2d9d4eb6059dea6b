/* event.c - auth_request_finished: each login that was tried (ipc 8.1). One that failed has no field `success`. */
#include "auth/conns.h"
#include "rpc/stats_client.h"

struct ip_text {
    char text[NET_IP_TEXT];
};

static struct event_value ip_of(const struct net_endpoint *e, struct ip_text *room)
{
    return e->ip.family == 0 ? (struct event_value){0} : stats_text(net_ip_text(&e->ip, room->text));
}

/* No port: left out like a text that is missing. */
static struct event_value port_of(const struct net_endpoint *e)
{
    return e->port == 0 ? (struct event_value){0} : stats_number(e->port);
}

void event_request_finished(const struct request *r, bool success)
{
    static const char *const categories[] = {"service:auth", "auth", NULL};
    const struct net_endpoint *real_local = r->real_local.ip.family != 0 ? &r->real_local : &r->local;
    const struct net_endpoint *real_remote = r->real_remote.ip.family != 0 ? &r->real_remote : &r->remote;
    struct ip_text ip[4];

    if (!stats_client_on(r->server->stats))
        return;
    const struct stats_out_field fields[] = {
        {"success", stats_text(success ? "yes" : NULL)},
        {"policy_result", stats_text("ok")},
        {"mechanism", stats_text(r->mech)},
        {"transport", stats_text(r->tls ? "TLS" : r->secured ? "trusted" : "insecure")},
        {"service", stats_text(r->service)},
        {"session", stats_text(r->session)},
        {"local_ip", ip_of(&r->local, &ip[0])},
        {"real_local_ip", ip_of(real_local, &ip[1])},
        {"remote_ip", ip_of(&r->remote, &ip[2])},
        {"real_remote_ip", ip_of(real_remote, &ip[3])},
        {"local_port", port_of(&r->local)},
        {"real_local_port", port_of(real_local)},
        {"remote_port", port_of(&r->remote)},
        {"real_remote_port", port_of(real_remote)},
        {"original_user", stats_text(r->original_user)},
        {"user", stats_text(r->user)},
        {"translated_user", stats_text(r->translated_user)},
        {"login_user", stats_text(r->login_user)},
        {"master_user", stats_text(r->master_user)},
    };
    const struct stats_out event = {.name = "auth_request_finished", .categories = categories,
                                    .took_ns = time_monotonic_ns() - r->begun_ns, .file = __FILE__, .line = __LINE__,
                                    .fields = fields, .count = sizeof(fields) / sizeof(fields[0])};
    stats_client_send(r->server->stats, &event);
}
