/* services: one map a listener (config-yaml 3), written down as Dovecot's services and protocols. */
#include "conf/yaml_key.h"

static const struct {
    const char *name, *protocol, *service, *listener;
    bool tls;                     /* from the first byte, unless it is said otherwise */
    const char *port;             /* what the listener has when only its name is given */
    bool builtin;                 /* open by default */
} listeners[YAML_SERVICES] = {
    {"imap", "imap", "imap-login", "imap", false, "143", true},
    {"imaps", "imap", "imap-login", "imaps", true, "993", true},
    {"pop3", "pop3", "pop3-login", "pop3", false, "110", true},
    {"pop3s", "pop3", "pop3-login", "pop3s", true, "995", true},
    {"submission", "submission", "submission-login", "submission", false, "587", true},
    {"submissions", "submission", "submission-login", "submissions", true, "465", false},
    {"lmtp", "lmtp", "lmtp", "lmtp", false, "24", false},
    {"managesieve", "sieve", "managesieve-login", "sieve", false, "4190", true},
    {"jmap", NULL, NULL, NULL, true, "8443", false},
};

int yaml_service_index(const char *name)
{
    for (int i = 0; i < YAML_SERVICES; i++) {
        if (strcmp(name, listeners[i].name) == 0)
            return i;
    }
    return -1;
}

const char *yaml_service_name(int index)
{
    return listeners[index].name;
}

/* ssl_mode: ssl, starttls, no; the older `ssl` is a boolean. */
static const char *ssl_mode(struct yaml *y, const struct yaml_node *node, bool tls)
{
    static const char *const modes[] = {"ssl", "starttls", "no"};
    const char *text = node == NULL ? NULL : yaml_text(y, node);
    if (text == NULL)
        return tls ? "ssl" : "starttls";
    for (size_t i = 0; i < 3; i++) {
        if (slice_equal_str_nocase(slice_from_str(text), modes[i]))
            return modes[i];
    }
    if (slice_equal_str_nocase(slice_from_str(text), "true") || slice_equal_str_nocase(slice_from_str(text), "yes"))
        return "ssl";
    if (slice_equal_str_nocase(slice_from_str(text), "false"))
        return "no";
    FAULT(y, node, "ssl_mode: ssl, starttls or no was expected");
    return "no";
}

static void set_flag(struct yaml *y, struct conf_section *listener, const char *member, const struct yaml_node *node,
                     bool inverse)
{
    bool on;
    if (node != NULL && yaml_bool(y, node, &on))
        yaml_member(y, listener, member, on != inverse ? "yes" : "no", node);
}

static void set_node(struct yaml *y, struct conf_section *section, const char *member, const struct yaml_node *node)
{
    if (node != NULL)
        yaml_set(y, NULL, section, (unsigned)conf_scope_find(section->scope, slice_from_str(member)), node);
}

static void write_service(struct yaml *y, int i)
{
    const struct yaml_service *s = &y->services[i];
    struct conf_section *service = yaml_entry(y, &y->tree->global->section, "service", listeners[i].service, s->at);
    set_node(y, service, "client_limit", s->client_limit);
    set_node(y, service, "process_limit", s->process_limit);
    if (s->socket != NULL && yaml_text(y, s->socket) != NULL) {
        struct conf_section *socket = yaml_entry(y, service, "unix_listener", s->socket->text, s->socket);
        yaml_member(y, socket, "mode", "0666", s->socket);
    }
    if (s->socket != NULL && s->port == NULL)
        return;
    struct conf_section *listener = yaml_entry(y, service, "inet_listener", listeners[i].listener, s->at);
    const char *mode = ssl_mode(y, s->ssl_mode, listeners[i].tls);
    if (s->port != NULL)
        set_node(y, listener, "port", s->port);
    else
        yaml_member(y, listener, "port", listeners[i].port, s->at);
    set_node(y, listener, "address", s->address);
    yaml_member(y, listener, "ssl", strcmp(mode, "ssl") == 0 ? "yes" : "no", s->at);
    if (s->ssl_mode != NULL)
        yaml_member(y, listener, "ssl_mode", mode, s->ssl_mode);
    set_flag(y, listener, "disable_plaintext_auth", s->plaintext, false);
    set_flag(y, listener, "disable_plaintext_auth", s->cleartext, true);
    set_flag(y, listener, "haproxy", s->haproxy, false);
    set_flag(y, listener, "xclient", s->xclient, false);
}

/* A listener that was not asked for is not opened, when its sibling was. */
static void close_sibling(struct yaml *y, int i)
{
    struct conf_section *service =
        yaml_entry(y, &y->tree->global->section, "service", listeners[i].service, y->services_at);
    struct conf_section *listener = yaml_entry(y, service, "inet_listener", listeners[i].listener, y->services_at);
    yaml_member(y, listener, "port", "0", y->services_at);
}

static bool is_on(const struct yaml *y, int i)
{
    return y->services[i].at != NULL && !y->services[i].disabled;
}

static bool is_protocol_on(const struct yaml *y, const char *protocol)
{
    for (int i = 0; i < YAML_SERVICES; i++) {
        if (is_on(y, i) && listeners[i].protocol != NULL && strcmp(listeners[i].protocol, protocol) == 0)
            return true;
    }
    return false;
}

void yaml_finish_services(struct yaml *y)
{
    static const char *const protocols[] = {"imap", "pop3", "submission", "lmtp", "sieve"};
    struct buffer on = {0};
    if (y->services_at == NULL)
        return;
    for (int i = 0; i < YAML_SERVICES; i++) {
        if (!is_on(y, i)) {
            if (listeners[i].builtin && is_protocol_on(y, listeners[i].protocol))
                close_sibling(y, i);
        } else if (listeners[i].service == NULL) {
            FAULT(y, y->services[i].at, "services.%s is not available in this version", listeners[i].name);
        } else {
            write_service(y, i);
        }
    }
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        if (is_protocol_on(y, protocols[i]))
            buffer_printf(&on, "%s%s", on.size > 0 ? " " : "", protocols[i]);
    }
    yaml_set_text(y, &y->tree->global->section, (unsigned)conf_setting_def(SET_protocols),
                  on.size > 0 ? buffer_cstr(&on) : "none", y->services_at);
    buffer_free(&on);
}
