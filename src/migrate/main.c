/* yarilo-migrate - converts a user's mail from one mail_location to another.
 *
 *     yarilo-migrate --from LOCATION --to LOCATION [--format FORMAT] [--dry-run] [--user USER] [--home DIR]
 *                    [--config FILE] [--option KEY=VALUE]...
 *
 * Mailboxes keep their names, GUIDs, UIDVALIDITY, UIDNEXT and modseqs, messages their UIDs, GUIDs, flags, keywords, dates and
 * POP3 UIDLs, as far as the target can hold them; subscriptions are added. It runs as the user whose mail it is, and may be
 * interrupted and run again at any time: see mailbox.c. The source is only read. Exit status: 0 all is in the target,
 * 64 wrong use, 75 something failed (said per mailbox; the others were converted). docs/migration.md has the steps. */
#include "migrate/migrate.h"

#include "conf/settings.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_USE = 64, EXIT_FAILED = 75 };

static struct settings *settings_for(struct conf *conf, const char *const *pairs, const char *location, struct arena *arena,
                                     struct error *e)
{
    struct conf_filter filter = {.service = "doveadm"};
    struct settings *set = conf_settings(conf, &filter, e), *changed;
    const char **all;
    size_t n = 0;

    if (set == NULL)
        return NULL;
    while (pairs[n] != NULL)
        n++;
    all = ARENA_ARRAY(arena, const char *, n + 2);
    for (size_t i = 0; i < n; i++)
        all[i] = pairs[i];
    all[n] = arena_printf(arena, "mail_location=%s", location);
    all[n + 1] = NULL;
    changed = settings_override_all(set, all, e);
    settings_unref(set);
    return changed;
}

/* The name in the target: each part as it is, with the target's separator between them. */
static const char *name_in(const struct mail_namespace *from, const struct mail_user *to, struct arena *arena, const char *vname,
                           struct error *e)
{
    const struct mail_namespace *ns = mail_user_namespaces(to);
    char *name = arena_strdup(arena, vname);

    while (ns != NULL && strcmp(ns->name, from->name) != 0)
        ns = ns->next;
    if (ns == NULL)
        return error_set(e, ERROR_BUG, "no namespace %s in the target", from->name), NULL;
    for (char *p = name; *p != '\0'; p++) {
        if (*p == from->separator) {
            *p = ns->separator;
        } else if (*p == ns->separator) {
            error_set(e, ERROR_INVALID, "the target's hierarchy separator '%c' is part of its name", ns->separator);
            return NULL;
        }
    }
    return name;
}

struct name {
    struct mail_namespace *ns;
    const char *vname;
};
struct names {
    struct name *at;
    size_t count, room;
};

static int list_names(struct migrate *m, unsigned flags, struct names *out, struct error *e)
{
    struct slice all = SLICE("*");
    struct mailbox_list *list = mailbox_list_begin(m->from, &all, 1, flags);
    struct budget budget = BUDGET_UNLIMITED;
    const struct mailbox_info *info;
    enum step r;

    while ((r = mailbox_list_next(list, &budget, &info, e)) == STEP_MORE || r == STEP_WAIT) {
        bool mailbox = r == STEP_MORE && (info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) == 0;

        if (r == STEP_WAIT || info->ns->type != MAIL_NAMESPACE_PRIVATE)
            continue; /* others' mail is others' to convert */
        if (mailbox || (flags & MAILBOX_LIST_SELECT_SUBSCRIBED) != 0) {
            struct name name = {info->ns, arena_strdup(m->arena, info->vname)};

            VEC_PUSH(out, name);
        }
    }
    mailbox_list_end(&list);
    return r == STEP_ERROR ? -1 : 0;
}

static int convert_one(struct migrate *m, const struct name *name, struct migrate_box *box, struct error *e)
{
    struct mailbox_place from, to;
    const char *target = name_in(name->ns, m->to, m->arena, name->vname, e);
    bool directory;

    if (target == NULL || mailbox_place(m->from, m->arena, slice_from_str(name->vname), &from, e) < 0 ||
        mailbox_place_new(m->to, m->arena, slice_from_str(target), &to, &directory, e) < 0) {
        box->failed = arena_strdup(m->arena, e->admin);
        return -1;
    }
    return migrate_mailbox(m, &from, &to, box, e);
}

static int subscribe_all(struct migrate *m, unsigned *added, struct error *e)
{
    struct names names = {0};
    int r = list_names(m, MAILBOX_LIST_SELECT_SUBSCRIBED, &names, e);

    for (size_t i = 0; r == 0 && i < names.count; i++) {
        const char *target = name_in(names.at[i].ns, m->to, m->arena, names.at[i].vname, e);
        struct mailbox_place to;

        if (target == NULL)
            continue; /* told with its mailbox */
        r = mailbox_place(m->to, m->arena, slice_from_str(target), &to, e);
        if (r == 0 && !mailbox_subscribed(&to)) {
            r = m->dry_run ? 0 : store_op_wait(mailbox_subscribe(&to, true), e);
            *added += r == 0;
        }
    }
    VEC_FREE(&names);
    return r;
}

static int run(struct migrate *m)
{
    struct names names = {0};
    unsigned failed = 0, subscribed = 0;
    uint64_t copied = 0;
    struct error e;

    if (list_names(m, MAILBOX_LIST_HIDDEN, &names, &e) < 0) {
        log_error_value(NULL, &e);
        VEC_FREE(&names);
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < names.count; i++) {
        struct migrate_box box = {.name = names.at[i].vname};

        if (convert_one(m, &names.at[i], &box, &e) < 0) {
            log_error(NULL, "%s: %s", box.name, e.admin);
            failed++;
        }
        copied += box.copied;
        progress_box(m, &box);
    }
    if (subscribe_all(m, &subscribed, &e) < 0) {
        log_error_value(NULL, &e);
        failed++;
    }
    progress_end(m, (unsigned)names.count, failed, copied, subscribed);
    VEC_FREE(&names);
    return failed == 0 ? 0 : EXIT_FAILED;
}

static int usage(void)
{
    fputs("usage: yarilo-migrate --from LOCATION --to LOCATION [--format FORMAT] [--dry-run] [--user USER] [--home DIR]\n"
          "                      [--config FILE] [--option KEY=VALUE]...\n", stderr);
    return EXIT_USE;
}

/* Opens both sides and runs. */
static int start(struct migrate *m, struct conf *conf, const char *const *pairs, const char *from, const char *to,
                 struct mail_user_params *params)
{
    struct settings *a = NULL, *b = NULL;
    struct error e;
    int status = EXIT_FAILED;

    a = settings_for(conf, pairs, from, m->arena, &e);
    if (a != NULL)
        b = settings_for(conf, pairs, to, m->arena, &e);
    if (b != NULL && mail_user_open(&m->from, a, params, &e) == 0 && mail_user_open(&m->to, b, params, &e) == 0) {
        mail_user_set_unchecked(m->from, true);
        mail_user_set_unchecked(m->to, true);
        status = run(m);
    } else {
        log_error_value(NULL, &e);
    }
    if (m->to != NULL)
        mail_user_close(&m->to);
    if (m->from != NULL)
        mail_user_close(&m->from);
    settings_unref(a);
    settings_unref(b);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"from", 1, NULL, 'f'}, {"to", 1, NULL, 't'}, {"format", 1, NULL, 'F'},
                                            {"dry-run", 0, NULL, 'n'}, {"user", 1, NULL, 'u'}, {"home", 1, NULL, 'h'},
                                            {"config", 1, NULL, 'c'}, {"option", 1, NULL, 'o'}, {NULL, 0, NULL, 0}};
    const char *from = NULL, *to = NULL, *format = NULL, *file = SYSCONFDIR "/dovecot/dovecot.conf";
    struct mail_user_params params = {.username = getenv("USER"), .home = getenv("HOME"), .service = "doveadm", .no_notify = true};
    struct migrate m = {.arena = arena_new(), .terminal = isatty(STDOUT_FILENO)};
    const char **pairs = ARENA_ARRAY(m.arena, const char *, (size_t)argc + 1);
    size_t n = 0;
    struct conf *conf;
    struct error e;
    int c, status;

    log_open_stderr("yarilo-migrate: ", false);
    os_fault_from_env();
    (void)umask(0);
    while ((c = getopt_long(argc, argv, "f:t:F:nu:h:c:o:", options, NULL)) != -1)
        switch (c) {
        case 'f': from = optarg; break;
        case 't': to = optarg; break;
        case 'F': format = optarg; break;
        case 'n': m.dry_run = true; break;
        case 'u': params.username = optarg; break;
        case 'h': params.home = optarg; break;
        case 'c': file = optarg; break;
        case 'o': pairs[n++] = optarg; break;
        default: arena_free(m.arena); return usage();
        }
    if (from == NULL || to == NULL || optind != argc || params.username == NULL) {
        arena_free(m.arena);
        return usage();
    }
    if (format != NULL && (strncmp(to, format, strlen(format)) != 0 || to[strlen(format)] != ':'))
        to = arena_printf(m.arena, "%s:%s", format, to);
    if (conf_open_file(file, NULL, &conf, &e) < 0) {
        log_error_value(NULL, &e);
        arena_free(m.arena);
        return EXIT_FAILED;
    }
    status = start(&m, conf, pairs, from, to, &params);
    conf_free(conf);
    arena_free(m.arena);
    return status;
}
