/* storage: where mail is (config-yaml 3), plugins that keys asked for, and the embedded default of `mode: single`
 * (config-yaml 4). */
#include "conf/yaml_key.h"

#include <pwd.h>
#include <grp.h>
#include <stdio.h>
#include <unistd.h>

static void set_text(struct yaml *y, enum setting id, const char *text, const struct yaml_node *at)
{
    yaml_set_text(y, &y->tree->global->section, (unsigned)conf_setting_def(id), text, at);
}

static void set_location(struct yaml *y, const struct yaml_node *node)
{
    static const struct {
        const char *name, *location;
    } formats[] = {{"maildir", "maildir:~/Maildir"}, {"dbox", "sdbox:~/sdbox"}, {"sdbox", "sdbox:~/sdbox"},
                   {"mdbox", "mdbox:~/mdbox"}, {"mbox", "mbox:~/mail"}};
    const char *text = yaml_text(y, node);
    if (text == NULL)
        return;
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (strcmp(text, formats[i].name) == 0) {
            set_text(y, SET_mail_location, formats[i].location, node);
            return;
        }
    }
    if (strcmp(text, "obox") == 0)
        FAULT(y, node, "storage.mailbox: obox is not available in this version");
    else
        FAULT(y, node, "storage.mailbox: maildir, dbox, mdbox or mbox was expected, not %s", text);
}

/* Words that keys added to mail_plugins, before `settings:` has its say. */
static void set_plugins(struct yaml *y, const struct yaml_node *at)
{
    if (y->plugins.size > 0)
        set_text(y, SET_mail_plugins, buffer_cstr(&y->plugins) + 1, at);
    if (y->imap_plugins.size == 0)
        return;
    struct conf_level *imap = yaml_protocol(y, "imap", at);
    char *all = arena_printf(y->arena, "%s%s", buffer_cstr(&y->plugins) + 1, buffer_cstr(&y->imap_plugins));
    yaml_set_text(y, &imap->section, (unsigned)conf_setting_def(SET_mail_plugins), all, at);
}

void yaml_finish_storage(struct yaml *y)
{
    const struct yaml_node *any = y->root != NULL ? y->root : y->home != NULL ? y->home : y->mailbox;
    static const struct yaml_node nowhere = {.kind = YAML_TEXT, .text = "", .file = "default", .line = 0, .column = 0};
    if (y->mailbox != NULL)
        set_location(y, y->mailbox);
    if (y->root != NULL || y->home != NULL) {
        const char *root = y->root == NULL ? "" : yaml_text(y, y->root);
        const char *home = y->home == NULL ? "%d/%n" : yaml_text(y, y->home);
        if (root != NULL && home != NULL) {
            bool whole = home[0] == '/' || root[0] == '\0';
            set_text(y, SET_mail_home, whole ? home : arena_printf(y->arena, "%s/%s", root, home), any);
        }
    }
    set_plugins(y, any != NULL ? any : &nowhere);
}

/* ---- mode: single ----------------------------------------------------------------------------------------------- */

#define SINGLE_MAIL_USER "mail"

struct single {
    struct yaml *y;
    struct yaml_node at;
    const char *data;
};

static bool is_set(struct yaml *y, enum setting id)
{
    return conf_section_get(&y->tree->global->section, (unsigned)conf_setting_def(id)) != NULL;
}

static void set_default(struct single *s, enum setting id, const char *text)
{
    if (!is_set(s->y, id))
        set_text(s->y, id, text, &s->at);
}

/* What `settings:` said already stays. */
static void default_member(struct single *s, struct conf_section *section, const char *member, const char *text)
{
    if (conf_section_get(section, (unsigned)conf_scope_find(section->scope, slice_from_str(member))) == NULL)
        yaml_member(s->y, section, member, text, &s->at);
}

static void open_listener(struct single *s, const char *service, const char *listener, const char *port, bool ssl)
{
    struct conf_section *entry = yaml_entry(s->y, &s->y->tree->global->section, "service", service, &s->at);
    struct conf_section *inet = yaml_entry(s->y, entry, "inet_listener", listener, &s->at);
    default_member(s, inet, "port", port);
    default_member(s, inet, "address", "127.0.0.1");
    default_member(s, inet, "ssl", ssl ? "yes" : "no");
}

static void set_identity(struct single *s)
{
    const struct passwd *user = getpwuid(geteuid());
    if (geteuid() == 0) {
        /* Mail belongs to the system's user for it; processes have users of their own. */
        if (getpwnam(SINGLE_MAIL_USER) != NULL && getgrnam(SINGLE_MAIL_USER) != NULL) {
            set_default(s, SET_mail_uid, SINGLE_MAIL_USER);
            set_default(s, SET_mail_gid, SINGLE_MAIL_USER);
            set_default(s, SET_first_valid_uid, "1");
        }
        return;
    }
    if (user == NULL)
        return;
    const char *name = arena_strdup(s->y->arena, user->pw_name);
    const struct group *group = getgrgid(user->pw_gid);
    char number[16];
    snprintf(number, sizeof(number), "%u", (unsigned)user->pw_gid);
    const char *group_name = group != NULL ? arena_strdup(s->y->arena, group->gr_name) : number;
    set_default(s, SET_mail_uid, name);
    set_default(s, SET_mail_gid, group_name);
    set_default(s, SET_first_valid_uid, "1");
    set_default(s, SET_default_login_user, name);
    set_default(s, SET_default_internal_user, name);
    set_default(s, SET_default_internal_group, group_name);
}

static void add_database(struct single *s, const char *list)
{
    struct conf_section *block = yaml_entry(s->y, &s->y->tree->global->section, list, "", &s->at);
    yaml_member(s->y, block, "driver", "sqlite", &s->at);
    yaml_member(s->y, block, "dsn", arena_printf(s->y->arena, "%s/users.db", s->data), &s->at);
}

static const char *data_folder(struct yaml *y)
{
    char here[4096];
    if (y->folder[0] == '/' || getcwd(here, sizeof(here)) == NULL)
        return arena_printf(y->arena, "%s/yarilo-data", y->folder);
    if (strcmp(y->folder, ".") == 0)
        return arena_printf(y->arena, "%s/yarilo-data", here);
    return arena_printf(y->arena, "%s/%s/yarilo-data", here, y->folder);
}

void yaml_finish_single(struct yaml *y, const struct yaml_node *root)
{
    struct single s = {.y = y, .at = *root, .data = data_folder(y)};
    const char *file = arena_printf(y->arena, "%s/cert.pem", s.data);
    if (!y->single)
        return;
    if (y->services_at == NULL) {
        set_default(&s, SET_protocols, "imap lmtp");
        open_listener(&s, "imap-login", "imap", "10143", false);
        open_listener(&s, "imap-login", "imaps", "10993", true);
        open_listener(&s, "lmtp", "lmtp", "10024", false);
    }
    if (y->auth_at == NULL) {
        add_database(&s, "passdb");
        add_database(&s, "userdb");
        set_default(&s, SET_auth_mechanisms, "plain login");
    }
    if (y->ssl_at == NULL && access(file, R_OK) == 0) { /* yarilo makes them at the first start */
        struct yaml_node node = s.at;
        node.kind = YAML_TEXT;
        node.text = file;
        yaml_set_file(y, y->tree->global, SET_ssl_cert, &node);
        node.text = arena_printf(y->arena, "%s/key.pem", s.data);
        yaml_set_file(y, y->tree->global, SET_ssl_key, &node);
    }
    if (y->mailbox == NULL)
        set_default(&s, SET_mail_location, "maildir:~/Maildir");
    if (y->root == NULL && y->home == NULL)
        set_default(&s, SET_mail_home, arena_printf(y->arena, "%s/mail/%%d/%%n", s.data));
    if (y->services_at == NULL || y->auth_at == NULL) {
        set_default(&s, SET_base_dir, arena_printf(y->arena, "%s/run", s.data));
        set_default(&s, SET_state_dir, arena_printf(y->arena, "%s/run", s.data));
        set_default(&s, SET_log_path, "/dev/stderr");
        set_identity(&s);
    }
}
