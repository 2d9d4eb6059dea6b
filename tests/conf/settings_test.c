/* From a text to settings: merging by filters, defaults, blocks, overrides, the snapshot and what it leaves out. */
#include "compat/read.h"
#include "conf/registry.h"
#include "conf/settings.h"

#include "base/os.h"

#include <atf-c.h>
#include <unistd.h>

static const char text[] =
    "mail_location = maildir:~/Maildir\n"
    "mail_plugins = quota\n"
    "default_vsz_limit = 512 M\n"
    "imap_idle_notify_interval = 5m\n"
    "ssl_key = PRIVATE\n"
    "doveadm_password = secret\n"
    "namespace inbox {\n"
    "  inbox = yes\n"
    "  separator = /\n"
    "  mailbox Trash {\n"
    "    auto = subscribe\n"
    "  }\n"
    "}\n"
    "passdb {\n"
    "  driver = passwd-file\n"
    "  args = /etc/users\n"
    "}\n"
    "plugin {\n"
    "  quota = maildir\n"
    "  quota_x = no\n"
    "}\n"
    "service imap-login {\n"
    "  client_limit = 7\n"
    "  inet_listener imap {\n"
    "    port = 1143\n"
    "  }\n"
    "}\n"
    "protocol imap {\n"
    "  mail_plugins = $mail_plugins imap_quota\n"
    "  passdb {\n"
    "    driver = static\n"
    "  }\n"
    "}\n"
    "local_name mail.example.com {\n"
    "  ssl_cert = CERT\n"
    "}\n"
    "remote 10.0.0.0/8 {\n"
    "  mail_debug = yes\n"
    "}\n"
    "protocol {\n" /* never matches, also after a snapshot */
    "  mail_plugins = nobody\n"
    "}\n";

static struct conf *open_text(const char *from)
{
    static const struct conf_reading running = {.expand = true};
    struct conf_tree *tree;
    struct error e;
    ATF_REQUIRE_MSG(compat_read_text(from, &running, &tree, &e) == 0, "%s", e.admin);
    return conf_from_tree(tree);
}

static struct settings *settings_for(struct conf *conf, const char *service, const char *name, const char *remote)
{
    struct conf_filter filter = {.service = service, .local_name = name, .remote_ip = remote};
    struct error e;
    struct settings *set = conf_settings(conf, &filter, &e);
    ATF_REQUIRE_MSG(set != NULL, "%s", e.admin);
    return set;
}

static void check_all(struct conf *conf)
{
    struct settings *set = settings_for(conf, NULL, NULL, NULL);
    size_t n;
    ATF_CHECK_STREQ("maildir:~/Maildir", conf_str(set, SET_mail_location));
    ATF_CHECK_STREQ("quota", conf_str(set, SET_mail_plugins));
    ATF_CHECK(conf_assigned(set, SET_mail_location));
    ATF_CHECK(!conf_assigned(set, SET_mail_debug));
    ATF_CHECK(!conf_bool(set, SET_mail_debug));
    ATF_CHECK_EQ((uint64_t)512 << 20, conf_size(set, SET_default_vsz_limit));
    ATF_CHECK_EQ(300, conf_secs(set, SET_imap_idle_notify_interval));
    ATF_CHECK_EQ(30000, conf_msecs(set, SET_login_proxy_timeout));
    ATF_CHECK_STREQ("maildir", conf_plugin(set, "quota"));
    ATF_CHECK(conf_plugin(set, "nothing") == NULL);
    ATF_CHECK(!conf_plugin_bool(set, "quota_x"));
    const struct conf_block *const *passdb = conf_blocks(set, BLOCK_PASSDB, &n);
    ATF_REQUIRE_EQ(1, n);
    ATF_CHECK_STREQ("passwd-file", conf_block_str(passdb[0], "driver"));
    ATF_CHECK_STREQ("return-ok", conf_block_str(passdb[0], "result_success"));
    const struct conf_block *inbox = conf_block_find(set, BLOCK_NAMESPACE, "inbox");
    ATF_REQUIRE(inbox != NULL);
    const struct conf_block *const *mailboxes = conf_block_blocks(inbox, BLOCK_MAILBOX, &n);
    ATF_REQUIRE_EQ(1, n);
    ATF_CHECK_STREQ("Trash", conf_block_name(mailboxes[0]));
    const struct conf_block *login = conf_block_find(set, BLOCK_SERVICE, "imap-login");
    ATF_REQUIRE(login != NULL);
    ATF_CHECK(conf_block_assigned(login, "client_limit"));
    ATF_CHECK(!conf_block_assigned(login, "service_count"));
    ATF_CHECK_EQ(1, conf_block_uint(login, "service_count"));
    const struct conf_block *const *ports = conf_block_blocks(login, BLOCK_INET_LISTENER, &n);
    ATF_REQUIRE_EQ(2, n);
    ATF_CHECK_EQ(1143, conf_block_uint(ports[0], "port"));
    ATF_CHECK_EQ(993, conf_block_uint(ports[1], "port"));
    settings_unref(set);

    set = settings_for(conf, "imap", NULL, "10.1.2.3");
    ATF_CHECK_STREQ("quota imap_quota", conf_str(set, SET_mail_plugins));
    ATF_CHECK(conf_bool(set, SET_mail_debug));
    passdb = conf_blocks(set, BLOCK_PASSDB, &n);
    ATF_REQUIRE_EQ(2, n);
    ATF_CHECK_STREQ("static", conf_block_str(passdb[0], "driver"));
    struct settings *again = settings_for(conf, "imap", NULL, "10.9.9.9");
    ATF_CHECK_MSG(again == set, "settings for the same blocks are one object");
    settings_unref(again);
    settings_unref(set);

    set = settings_for(conf, "pop3", "MAIL.example.com", NULL);
    ATF_CHECK_STREQ("CERT", conf_str(set, SET_ssl_cert));
    settings_unref(set);
    ATF_CHECK(conf_uses_remote(conf, "imap"));
    ATF_CHECK(conf_uses_local_name(conf, "imap"));
    ATF_CHECK(!conf_uses_local(conf, "imap"));
}

ATF_TC_WITHOUT_HEAD(values);
ATF_TC_BODY(values, tc)
{
    (void)tc;
    struct conf *conf = open_text(text);
    check_all(conf);
    conf_free(conf);
}

ATF_TC_WITHOUT_HEAD(snapshot);
ATF_TC_BODY(snapshot, tc)
{
    (void)tc;
    struct conf *conf = open_text(text), *copy;
    struct error e;
    int fd = conf_seal(conf, NULL, &e);
    ATF_REQUIRE_MSG(fd >= 0, "%s", e.admin);
    ATF_REQUIRE_MSG(conf_open_fd(fd, &copy, &e) == 0, "%s", e.admin);
    check_all(copy);
    ATF_CHECK_MSG(write(fd, "x", 1) < 0, "the snapshot is sealed");
    close(fd);
    conf_free(copy);
    conf_free(conf);
}

ATF_TC_WITHOUT_HEAD(secrets);
ATF_TC_BODY(secrets, tc)
{
    (void)tc;
    struct conf *conf = open_text(text);
    static const struct {
        const char *service;
        bool key, passdb, plugin, password;
    } sees[] = {
        {"imap-login", true, false, false, false}, {"imap", false, false, true, false},
        {"auth", false, true, false, false},       {"lmtp", true, false, true, false},
        {"anvil", false, false, false, false},
    };
    for (size_t i = 0; i < sizeof(sees) / sizeof(sees[0]); i++) {
        struct buffer out = {0};
        conf_snapshot_write(conf_tree_of(conf), sees[i].service, &out);
        const char *all = buffer_cstr(&out);
        ATF_CHECK_EQ_MSG(sees[i].key, strstr(all, "PRIVATE") != NULL, "%s and ssl_key", sees[i].service);
        ATF_CHECK_EQ_MSG(sees[i].passdb, strstr(all, "/etc/users") != NULL, "%s and passdb", sees[i].service);
        ATF_CHECK_EQ_MSG(sees[i].plugin, strstr(all, "\tquota\t") != NULL, "%s and plugin", sees[i].service);
        ATF_CHECK_EQ_MSG(sees[i].password, strstr(all, "secret") != NULL, "%s and doveadm_password", sees[i].service);
        buffer_free(&out);
    }
    conf_free(conf);
}

ATF_TC_WITHOUT_HEAD(overrides);
ATF_TC_BODY(overrides, tc)
{
    (void)tc;
    struct conf *conf = open_text(text);
    struct error e;
    struct settings *set = settings_for(conf, "imap", NULL, NULL);
    static const char *const fields[] = {"mail_location=mdbox:~/m",
                                         "plugin/quota=count",
                                         "plugin/new",
                                         "namespace/inbox/separator=.",
                                         "namespace/inbox/mailbox/Trash/auto=no",
                                         "nosuch=1",
                                         NULL};
    struct settings *own = settings_override_all(set, fields, &e);
    ATF_REQUIRE_MSG(own != NULL, "%s", e.admin);
    ATF_CHECK_STREQ("mdbox:~/m", conf_str(own, SET_mail_location));
    ATF_CHECK(conf_overridden(own, SET_mail_location));
    ATF_CHECK(!conf_overridden(own, SET_mail_plugins));
    ATF_CHECK_STREQ("quota imap_quota", conf_str(own, SET_mail_plugins));
    ATF_CHECK_STREQ("count", conf_plugin(own, "quota"));
    ATF_CHECK_STREQ("yes", conf_plugin(own, "new"));
    ATF_CHECK_STREQ(".", conf_block_str(conf_block_find(own, BLOCK_NAMESPACE, "inbox"), "separator"));
    ATF_CHECK_STREQ("/", conf_block_str(conf_block_find(set, BLOCK_NAMESPACE, "inbox"), "separator"));
    ATF_CHECK_STREQ("maildir:~/Maildir", conf_str(set, SET_mail_location));
    const char *key, *value;
    size_t pairs = 0;
    while (conf_plugin_at(own, pairs, &key, &value))
        pairs++;
    ATF_CHECK_EQ(3, pairs);
    struct settings *bad = settings_override(set, "mail_debug", "maybe", &e);
    ATF_CHECK(bad == NULL);
    ATF_CHECK_STREQ("Invalid boolean value: maybe (use yes or no)", e.admin);
    settings_unref(set);
    conf_free(conf);
    ATF_CHECK_STREQ("mdbox:~/m", conf_str(own, SET_mail_location)); /* outlives the configuration */
    settings_unref(own);
}

static const char *const broken[] = {
    "",
    "yarilo-config\t2\tx\n",
    "yarilo-config\t1\tx\n",
    "yarilo-config\t1\tx\nS\tmail_debug\tyes\n.\n",
    "yarilo-config\t1\tx\nF\t\t\t\t\tx\t0\nS\tnosuch\ty\n.\n",
    "yarilo-config\t1\tx\nF\t\t\t\t\tx\t0\nS\tmail_debug\tmaybe\n.\n",
    "yarilo-config\t1\tx\nF\t\t\t\t\tx\t0\nB\tpassdb\ta\ta\n.\n",
    "yarilo-config\t1\tx\nF\t\t\t\t\tx\t0\nE\n.\n",
    "yarilo-config\t1\tx\nF\t\t\t10.0.0.0/99\t\tx\t0\n.\n",
    "yarilo-config\t1\tx\nF\t\t\t\t\tx\t0\n",
    "yarilo-config\t1\tx\nF\timap\t\t\t\tx\t0\n.\n",
};

ATF_TC_WITHOUT_HEAD(broken_snapshots);
ATF_TC_BODY(broken_snapshots, tc)
{
    (void)tc;
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        struct error e;
        error_clear(&e);
        ATF_CHECK_MSG(conf_snapshot_read(slice_from_str(broken[i]), &e) == NULL, "%s", broken[i]);
        ATF_CHECK_EQ(ERROR_CORRUPT, e.class);
    }
}

ATF_TC_WITHOUT_HEAD(conflict);
ATF_TC_BODY(conflict, tc)
{
    (void)tc;
    struct conf *conf = open_text("local 127.0.0.1 {\nmail_debug = yes\n}\nremote 127.0.0.1 {\nmail_debug = no\n}\n");
    struct conf_filter filter = {.local_ip = "127.0.0.1", .remote_ip = "127.0.0.1"};
    struct error e;
    ATF_CHECK(conf_settings(conf, &filter, &e) == NULL);
    ATF_CHECK_STREQ("Conflict in setting mail_debug found from filter at text:4", e.admin);
    conf_free(conf);
}

static void check_defaults(cfg_opt_t *options, const struct conf_scope *scope)
{
    for (unsigned i = 0; i < scope->count; i++) {
        const struct conf_def *def = &scope->defs[i];
        char *value = mem_strndup(conf_def_default(def));
        ATF_CHECK_STREQ(def->name, options[i].name);
        for (unsigned k = 0; k < i; k++)
            ATF_CHECK_MSG(strcmp(scope->defs[k].name, def->name) != 0, "%s is there twice", def->name);
        if (options[i].validcb2 != NULL)
            ATF_CHECK_MSG(options[i].validcb2(conf_registry(), &options[i], value) == 0, "the default of %s: %s",
                          def->name, value);
        if (def->kind == CONF_DEF_BLOCKS)
            check_defaults(options[i].subopts, conf_scope_block((enum conf_block_kind)def->id));
        mem_free(value);
    }
}

ATF_TC_WITHOUT_HEAD(registry);
ATF_TC_BODY(registry, tc)
{
    (void)tc;
    cfg_t *cfg = conf_registry();
    check_defaults(cfg->opts, conf_scope_global());
    cfg_opt_t *option = cfg_getopt(cfg, "ssl");
    ATF_REQUIRE(option != NULL);
    ATF_CHECK(option->validcb2(cfg, option, (void *)(uintptr_t) "required") == 0);
    ATF_CHECK(option->validcb2(cfg, option, (void *)(uintptr_t) "maybe") != 0);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, registry);
    ATF_TP_ADD_TC(tp, values);
    ATF_TP_ADD_TC(tp, snapshot);
    ATF_TP_ADD_TC(tp, secrets);
    ATF_TP_ADD_TC(tp, overrides);
    ATF_TP_ADD_TC(tp, broken_snapshots);
    ATF_TP_ADD_TC(tp, conflict);
    return atf_no_error();
}
