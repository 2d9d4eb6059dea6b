/* mail.c - the users of a mail command.
 *
 * Without -u the user is $USER and no userdb is asked. One user: privileges are dropped for good; several: the effective
 * ids change from user to user and come back. Nothing that parses mail runs as root: a user whose userdb entry and
 * settings name no uid is an error, as with the real program. */
#include "mail.h"

#include "cmd_auth.h"
#include "remote.h"
#include "rpc/auth_home.h"
#include "rpc/credentials.h"
#include "rpc/session_id.h"
#include "store/plugins.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct users {
    VEC(const char *) names;
    bool iterating;
};

static bool is_mask(const char *name)
{
    return strpbrk(name, "*?") != NULL;
}

static int failed_to_iterate(void)
{
    log_set_prefix("doveadm: ");
    log_error(NULL, "Failed to iterate through some users");
    return DOVEADM_TEMPFAIL;
}

static int read_user_file(struct doveadm *d, const char *path, struct users *out)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *line = NULL;
    size_t room = 0;

    if (f == NULL) {
        log_error(NULL, "read(%s) failed: open(%s) failed: %s", path, path, strerror(errno));
        return failed_to_iterate();
    }
    while (getline(&line, &room, f) >= 0) {
        line[strcspn(line, "\r\n")] = '\0';
        if (*line != '\0')
            VEC_PUSH(&out->names, arena_strdup(d->arena, line));
    }
    free(line);
    if (f != stdin)
        fclose(f);
    return DOVEADM_OK;
}

static const char *userdb_socket(struct doveadm *d)
{
    return doveadm_socket(d, conf_str(doveadm_settings(d), SET_auth_socket_path));
}

static int list_users(struct doveadm *d, const char *mask, struct users *out)
{
    struct auth_user_info info = {.service = "doveadm"};
    const char **names;
    size_t n;
    struct error e;

    if (auth_wait_list(userdb_socket(d), mask, &info, d->arena, &names, &n, &e) < 0) {
        doveadm_auth_error(NULL, "userdb list", &e);
        return failed_to_iterate();
    }
    for (size_t i = 0; i < n; i++)
        VEC_PUSH(&out->names, names[i]);
    return DOVEADM_OK;
}

static int find_users(struct doveadm *d, struct users *out)
{
    const char *user = doveadm_text(d, "user"), *file = doveadm_text(d, "user-file");
    bool all = doveadm_flag(d, "all-users");

    if (d->server_user != NULL) { /* the client asks for each user by name */
        out->iterating = file != NULL || all || (user != NULL && is_mask(user));
        VEC_PUSH(&out->names, d->server_user);
        return DOVEADM_OK;
    }
    if (file != NULL) {
        out->iterating = true;
        return read_user_file(d, file, out);
    }
    if (all || (user != NULL && is_mask(user))) {
        out->iterating = true;
        return list_users(d, user != NULL && is_mask(user) ? user : NULL, out);
    }
    if (user == NULL && getenv("USER") == NULL)
        doveadm_fatal(DOVEADM_USAGE, "USER environment is missing and -u option not used");
    VEC_PUSH(&out->names, user != NULL ? user : getenv("USER"));
    return DOVEADM_OK;
}

/* ---- privileges ---------------------------------------------------------------------------------------------------- */

/* As whom this user's mail is touched (rpc/credentials.h). Without root: whoever runs the program, as he may. In a chroot
 * when it is for good; the paths of several users are seen from outside. *home is as seen afterwards. */
static int become(struct doveadm *d, const struct settings *set, const char *user, const struct rpc_fields *fields,
                  bool for_good, const char **home, struct error *e)
{
    struct credentials c;

    if (geteuid() != 0)
        return 0;
    if (credentials_find(d->arena, set, user, fields, &c, e) < 0)
        return e->class == ERROR_INVALID ? error_context(e, "User lookup failed: ") : -1;
    if (!for_good && c.chroot != NULL && *home != NULL)
        *home = arena_printf(d->arena, "%s%s%s", c.chroot, **home == '/' ? "" : "/", *home);
    if (!for_good)
        return credentials_lend(&c, e);
    if (credentials_take(&c, e) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "%s", e->admin);
    if (c.chroot != NULL && *home != NULL && chdir(*home) < 0)
        log_error(NULL, "chdir(%s) failed: %s", *home, strerror(errno));
    return 0;
}

static void regain(void)
{
    struct error e;

    if (credentials_return(&e) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "%s", e.admin);
}

/* ---- one user -------------------------------------------------------------------------------------------------------- */

/* What the userdb says of the name; the exit status, with the failure logged. */
static int look_up(struct doveadm *d, const char *name, bool iterating, const char **username, struct rpc_fields *fields)
{
    struct auth_user_info info = {.service = "doveadm"};
    struct error e;

    if (*name != '\0' && auth_wait_user(userdb_socket(d), name, &info, d->arena, username, fields, &e) == 0)
        return DOVEADM_OK;
    if (*name != '\0' && (e.class != ERROR_NOT_FOUND || e.sys != 0)) {
        doveadm_auth_error(name, "userdb lookup", &e);
        log_error(NULL, "User lookup failed: %s", "Internal error occurred. Refer to server log for more information.");
        return DOVEADM_TEMPFAIL;
    }
    if (!iterating)
        log_error(NULL, "User doesn't exist");
    else
        log_info(NULL, "User no longer exists, skipping");
    return DOVEADM_NOUSER;
}

static void close_user(struct doveadm_source *o)
{
    mail_user_close(&o->user);
    settings_unref(o->set);
    auth_homes_free(o->homes);
    *o = (struct doveadm_source){0};
}

/* Opens a user of the userdb, or $USER; `how` becomes the user first. */
static int open_user(struct doveadm *d, struct settings *base, const char *username, const char *home,
                     const struct rpc_fields *fields,
                     int (*how)(struct doveadm *, const struct settings *, const char *, const struct rpc_fields *, const char **,
                                struct error *),
                     struct doveadm_source *out, struct error *e)
{
    struct mail_user_params params = {.username = username, .service = "doveadm", .no_notify = true, .home = home};

    params.fields = rpc_fields_texts(d->arena, fields);
    out->set = settings_override_all(base, params.fields, e);
    if (out->set == NULL)
        return -1;
    params.find_home = auth_homes_find;
    params.find_home_arg = out->homes = auth_homes_new(conf_str(doveadm_settings(d), SET_base_dir), "doveadm");
    if ((how != NULL && how(d, out->set, username, fields, &params.home, e) < 0) ||
        mail_user_open(&out->user, out->set, &params, e) < 0)
        return -1;
    mail_user_set_unchecked(out->user, true);
    mail_user_enter(out->user);
    mail_user_login(out->user);
    return 0;
}

static int become_for_good(struct doveadm *d, const struct settings *set, const char *user, const struct rpc_fields *fields,
                           const char **home, struct error *e)
{
    return become(d, set, user, fields, true, home, e);
}

static int become_for_now(struct doveadm *d, const struct settings *set, const char *user, const struct rpc_fields *fields,
                          const char **home, struct error *e)
{
    return become(d, set, user, fields, false, home, e);
}

/* Whose lines the log has: before the user is known to exist, and with his mail open (doveadm 1.2, 8). */
static void name_user(const struct doveadm *d, const char *name)
{
    if (d->server && *d->server_ip != '\0')
        log_set_prefix("doveadm(%s,%s): ", d->server_ip, name);
    else
        log_set_prefix("doveadm(%s): ", name);
}

static void name_session(const struct doveadm *d, const char *name)
{
    char session[SESSION_ID_SIZE];

    if (!d->server)
        return;
    session_id_new(session);
    log_set_prefix("doveadm(%s)<%ld><%s>: ", name, (long)getpid(), session);
}

static int run_for(struct doveadm *d, const struct mail_command *command, const char *name, bool lookup, bool iterating)
{
    struct rpc_fields fields = {NULL, 0};
    struct doveadm_source at_work = {0};
    const char *username = name;
    struct error e;
    int status = lookup ? look_up(d, name, iterating, &username, &fields) : DOVEADM_OK;

    if (status != DOVEADM_OK)
        return status == DOVEADM_NOUSER && iterating ? DOVEADM_OK : status;
    credentials_split_home(d->arena, doveadm_settings(d), &fields);
    if (open_user(d, doveadm_settings(d), username, lookup ? rpc_fields_get(&fields, "home") : getenv("HOME"), &fields,
                  iterating ? become_for_now : become_for_good, &at_work, &e) < 0) {
        log_error(NULL, "%s", e.admin);
        /* Where there are others the run goes on, and the status does not tell, as with the real one. */
        status = iterating ? DOVEADM_OK : DOVEADM_TEMPFAIL;
    } else {
        d->username = username;
        name_session(d, username);
        status = command->run(d, at_work.user);
    }
    close_user(&at_work);
    regain();
    return status;
}

/* ---- another user's mail ------------------------------------------------------------------------------------------------ */

/* Settings with no namespace but the one with INBOX, which is at the location; nobody's rights or limits. */
static struct settings *only_location(struct doveadm *d, struct settings *base, const char *location, struct error *e)
{
    size_t n, count = 0;
    const struct conf_block *const *blocks = conf_blocks(base, BLOCK_NAMESPACE, &n);
    const char **pairs = ARENA_ARRAY(d->arena, const char *, 3 * n + 3);

    pairs[count++] = arena_printf(d->arena, "mail_location=%s", location);
    pairs[count++] = "mail_plugins=";
    for (size_t i = 0; i < n; i++) {
        const char *name = conf_block_name(blocks[i]);

        if (conf_block_bool(blocks[i], "inbox")) {
            pairs[count++] = arena_printf(d->arena, "namespace/%s/location=", name);
            pairs[count++] = arena_printf(d->arena, "namespace/%s/prefix=", name);
            pairs[count++] = arena_printf(d->arena, "namespace/%s/separator=", name);
        } else {
            pairs[count++] = arena_printf(d->arena, "namespace/%s/disabled=yes", name);
        }
    }
    return settings_override_all(base, pairs, e);
}

int doveadm_source_open(struct doveadm *d, const char *name, const char *location, struct doveadm_source *out)
{
    struct rpc_fields fields = {NULL, 0};
    struct settings *base = settings_ref(doveadm_settings(d));
    const char *username = name;
    struct error e;
    int status = location == NULL || doveadm_given(d, "source-user") ? look_up(d, name, false, &username, &fields) : DOVEADM_OK;

    credentials_split_home(d->arena, base, &fields);
    if (status == DOVEADM_OK && location != NULL) {
        settings_unref(base);
        base = only_location(d, doveadm_settings(d), location, &e);
        fields.count = 0; /* what the userdb says of the user's own mail does not count */
    }
    if (status == DOVEADM_OK &&
        (base == NULL || open_user(d, base, username, rpc_fields_get(&fields, "home"), &fields, NULL, out, &e) < 0)) {
        close_user(out);
        if (location != NULL)
            doveadm_fatal(DOVEADM_TEMPFAIL,
                          "Import namespace initialization failed: Initializing mail storage from mail_location parameter "
                          "failed: %s", strncmp(e.admin, "Namespace '': ", 14) == 0 ? e.admin + 14 : e.admin);
        log_error(NULL, "%s", e.admin);
        status = DOVEADM_TEMPFAIL;
    }
    settings_unref(base);
    return status;
}

void doveadm_source_close(struct doveadm_source *source)
{
    close_user(source);
}

/* ---- the run ------------------------------------------------------------------------------------------------------------ */

int doveadm_mail_run(struct doveadm *d, const struct mail_command *command)
{
    struct users users = {0};
    bool lookup = d->server_user != NULL || doveadm_given(d, "user") || doveadm_given(d, "all-users") || doveadm_given(d, "user-file");
    int status, list_status;

    if (d->batch_user != NULL) {
        status = d->batch_prepared || command->prepare == NULL ? DOVEADM_OK : command->prepare(d);
        d->batch_prepared = true;
        if (d->iterating && d->print != NULL)
            print_sticky(d, "username", d->username);
        return status == DOVEADM_OK ? command->run(d, d->batch_user) : status;
    }
    if (d->batch_headers)
        return command->prepare == NULL ? DOVEADM_OK : command->prepare(d);
    (void)umask(0);
    list_status = find_users(d, &users);
    d->iterating = users.iterating;
    d->remote = doveadm_is_remote(d);
    status = command->prepare == NULL ? DOVEADM_OK : command->prepare(d);
    if (d->remote)
        status = status != DOVEADM_OK ? status : doveadm_remote_run(d, users.names.at, users.names.count);
    for (size_t i = 0; !d->remote && status != DOVEADM_USAGE && i < users.names.count; i++) {
        int one;
        name_user(d, users.names.at[i]);
        if (users.iterating && d->print != NULL)
            print_sticky(d, "username", users.names.at[i]);
        one = run_for(d, command, users.names.at[i], lookup, users.iterating && !d->server);
        doveadm_status_add(&status, one);
        if (users.iterating && d->verbose && (i + 1) % 100 == 0)
            printf("\r%zu", i + 1);
    }
    d->end_line = users.iterating && d->verbose;
    doveadm_status_add(&status, list_status);
    VEC_FREE(&users.names);
    return status;
}

void doveadm_mail_print(struct doveadm *d, const char *formatter)
{
    print_init(d, formatter);
    if (d->iterating)
        print_header(d, "username", "Username", PRINT_STICKY | PRINT_HIDE_TITLE);
}

int doveadm_mail_failed_as(struct doveadm *d, const struct error *e, bool reason, const char *fmt, ...)
{
    struct buffer text = {0};
    bool internal = e->user[0] == '\0';
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    if (internal)
        log_error_value(NULL, e); /* where it happened; the text below says to whom */
    log_error(NULL, "%s: %s", buffer_cstr(&text), internal && reason ? e->admin : doveadm_error_text(d->arena, e));
    buffer_free(&text);
    return doveadm_status_of(e);
}

/* ---- mailboxes --------------------------------------------------------------------------------------------------------- */

int doveadm_mailbox_sync(struct mailbox *box, struct mailbox_view *view, enum sync_why why, struct error *e)
{
    return store_op_wait(mailbox_sync(box, view, why), e);
}

int doveadm_mailbox_open(struct doveadm *d, struct mail_user *user, const char *name, unsigned flags,
                         struct mailbox **box, struct error *e)
{
    struct mailbox_place place;
    int r;

    mail_user_set_unchecked(user, (flags & MAILBOX_OPEN_SAVE) == 0);
    r = mailbox_place(user, d->arena, slice_from_str(name), &place, e) < 0 || mailbox_open(box, &place, flags, e) < 0 ? -1 : 0;
    mail_user_set_unchecked(user, true);
    if (r < 0)
        return -1;
    if (doveadm_mailbox_sync(*box, NULL, SYNC_POLL, e) < 0) {
        mailbox_close(box);
        return -1;
    }
    return 0;
}

/* IMAP lists INBOX and mailboxes that are made on use whether they are there or not; here they must be there. */
static bool is_there(struct doveadm *d, struct mail_user *user, const struct mailbox_info *info)
{
    struct mailbox_place place;
    enum mailbox_existence existence;
    struct error e;

    if ((info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) != 0)
        return false;
    return mailbox_place(user, d->arena, slice_from_str(info->vname), &place, &e) < 0 ||
           mailbox_exists(&place, false, &existence, &e) < 0 || existence == MAILBOX_EXISTS_YES;
}

/* A "*" or "%" of a mask does not reach into a namespace with a prefix: the separator behind that must stand in the mask. */
static bool reaches(const char *mask, const struct mail_namespace *ns)
{
    size_t prefix = strlen(ns->prefix);

    if (prefix == 0)
        return true;
    for (const char *at = mask; (at = strchr(at, ns->separator)) != NULL; at++)
        if (mailbox_pattern_match(slice_of(mask, (size_t)(at - mask)), slice_of(ns->prefix, prefix - 1), ns->separator))
            return true;
    return false;
}

struct subscribed {
    const char *name;
    size_t place;            /* in the files; names that the settings subscribe come behind all */
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct subscribed *)a)->name, ((const struct subscribed *)b)->name);
}

static int compare_subscribed(const void *a, const void *b)
{
    const struct subscribed *x = a, *y = b;

    return x->place < y->place ? -1 : x->place > y->place;
}

/* Subscriptions are shown in the order in which they were made. */
static int sort_subscribed(struct doveadm *d, struct mail_user *user, const char **names, size_t count, struct error *e)
{
    struct subscribed *all = ARENA_ARRAY(d->arena, struct subscribed, count + 1);
    VEC(struct subscribed) filed = {0};
    const char **file;
    size_t n;
    int r = 0;

    for (struct mail_namespace *ns = mail_user_namespaces(user); r == 0 && ns != NULL; ns = ns->next) {
        if (ns->alias_for != NULL || ns->unusable)
            continue;
        r = mail_namespace_subscriptions(ns, d->arena, &file, &n, e);
        for (size_t i = 0; r == 0 && i < n; i++) {
            struct subscribed one = {file[i], filed.count};

            VEC_PUSH(&filed, one);
        }
    }
    if (filed.count > 0)
        qsort(filed.at, filed.count, sizeof(*filed.at), compare_names);
    for (size_t i = 0; i < count; i++) {
        struct subscribed key = {names[i], filed.count + i}, *found = NULL;

        if (filed.count > 0)
            found = bsearch(&key, filed.at, filed.count, sizeof(*filed.at), compare_names);
        all[i] = found != NULL ? *found : key;
    }
    qsort(all, count, sizeof(*all), compare_subscribed);
    for (size_t i = 0; i < count; i++)
        names[i] = all[i].name;
    VEC_FREE(&filed);
    return r;
}

int doveadm_mailbox_match(struct doveadm *d, struct mail_user *user, const char *const *masks, size_t n,
                          enum doveadm_match which, const char ***names, size_t *count, struct error *e)
{
    static const char *const everything[] = {"*"};
    VEC(const char *) found = {0};
    struct budget budget = BUDGET_UNLIMITED;
    struct slice *patterns = ARENA_ARRAY(d->arena, struct slice, n + 1);
    const struct mailbox_info *info;
    struct mailbox_list *list;
    bool limited = n == 1, inbox = false, subscribed = (which & DOVEADM_MATCH_SUBSCRIBED) != 0;
    enum step step;

    if (n == 1 && strpbrk(masks[0], "*%") == NULL) {
        *names = arena_copy(d->arena, masks, sizeof(*masks));
        *count = 1;
        return 0;
    }
    if (n == 0) {
        masks = everything;
        n = 1;
    }
    for (size_t i = 0; i < n; i++)
        patterns[i] = slice_from_str(masks[i]);
    list = mailbox_list_begin(user, patterns, n, subscribed ? MAILBOX_LIST_SELECT_SUBSCRIBED : 0);
    while ((step = mailbox_list_next(list, &budget, &info, e)) == STEP_MORE || step == STEP_WAIT) {
        if (step == STEP_WAIT || (limited && !reaches(masks[0], info->ns)) ||
            ((which & DOVEADM_MATCH_PRIVATE) != 0 && info->ns->type != MAIL_NAMESPACE_PRIVATE) ||
            ((which & DOVEADM_MATCH_LISTED) == 0 && !is_there(d, user, info)))
            continue;
        if (!subscribed && strcmp(info->vname, "INBOX") == 0)
            inbox = true; /* comes last, whatever its namespace */
        else
            VEC_PUSH(&found, arena_strdup(d->arena, info->vname));
    }
    mailbox_list_end(&list);
    if (step == STEP_ERROR) {
        VEC_FREE(&found);
        return -1;
    }
    if (inbox)
        VEC_PUSH(&found, "INBOX");
    *names = arena_copy(d->arena, found.at, found.count * sizeof(*found.at));
    *count = found.count;
    VEC_FREE(&found);
    return subscribed ? sort_subscribed(d, user, *names, *count, e) : 0;
}
