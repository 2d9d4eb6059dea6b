/* mail.c - the users of a mail command.
 *
 * Without -u the user is $USER and no userdb is asked. One user: privileges are dropped for good; several: the effective
 * ids change from user to user and come back. Nothing that parses mail runs as root: a user whose userdb entry and
 * settings name no uid is an error, as with the real program. */
#include "mail.h"

#include "cmd_auth.h"
#include "rpc/auth_home.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
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

static void read_user_file(struct doveadm *d, const char *path, struct users *out)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *line = NULL;
    size_t room = 0;

    if (f == NULL)
        doveadm_fatal(DOVEADM_TEMPFAIL, "open(%s) failed: %s", path, strerror(errno));
    while (getline(&line, &room, f) >= 0) {
        line[strcspn(line, "\r\n")] = '\0';
        if (*line != '\0')
            VEC_PUSH(&out->names, arena_strdup(d->arena, line));
    }
    free(line);
    if (f != stdin)
        fclose(f);
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
        log_error(NULL, "Failed to iterate through some users");
        return DOVEADM_TEMPFAIL;
    }
    for (size_t i = 0; i < n; i++)
        VEC_PUSH(&out->names, names[i]);
    return DOVEADM_OK;
}

static int find_users(struct doveadm *d, struct users *out)
{
    const char *user = doveadm_text(d, "user"), *file = doveadm_text(d, "user-file");
    bool all = doveadm_flag(d, "all-users");

    if (file != NULL) {
        out->iterating = true;
        read_user_file(d, file, out);
        return DOVEADM_OK;
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

static bool find_id(const char *text, bool group, uint32_t *out)
{
    struct passwd *pw;
    struct group *gr;

    if (slice_to_u32(slice_from_str(text), out))
        return true;
    if (group) {
        gr = getgrnam(text);
        *out = gr == NULL ? 0 : gr->gr_gid;
        return gr != NULL;
    }
    pw = getpwnam(text);
    *out = pw == NULL ? 0 : pw->pw_uid;
    return pw != NULL;
}

static int drop(struct doveadm *d, const struct rpc_fields *fields, bool for_good, struct error *e)
{
    const struct settings *set = doveadm_settings(d);
    const char *uid_text = rpc_fields_get(fields, "uid"), *gid_text = rpc_fields_get(fields, "gid");
    const char *groups_user = rpc_fields_get(fields, "system_groups_user");
    uint32_t uid, gid;

    if (geteuid() != 0)
        return 0; /* an ordinary user works with what he may */
    if (uid_text == NULL)
        uid_text = conf_str(set, SET_mail_uid);
    if (gid_text == NULL)
        gid_text = conf_str(set, SET_mail_gid);
    if (*uid_text == '\0' || !find_id(uid_text, false, &uid))
        return error_set(e, ERROR_TEMPORARY, *uid_text == '\0' ? "userdb didn't return UID and mail_uid isn't set"
                                                               : "Unknown UNIX user: %s", uid_text);
    if (*gid_text == '\0' || !find_id(gid_text, true, &gid))
        return error_set(e, ERROR_TEMPORARY, *gid_text == '\0' ? "userdb didn't return GID and mail_gid isn't set"
                                                               : "Unknown UNIX group: %s", gid_text);
    if (uid == 0 && conf_uint(set, SET_first_valid_uid) > 0)
        return error_set(e, ERROR_TEMPORARY, "Mail access not permitted for users with UID 0");
    if (groups_user != NULL ? initgroups(groups_user, gid) < 0 : setgroups(1, &gid) < 0)
        return error_sys(e, "setgroups", NULL);
    if (for_good ? setgid(gid) < 0 || setuid(uid) < 0 : setegid(gid) < 0 || seteuid(uid) < 0)
        return error_sys(e, "setuid", uid_text);
    return 0;
}

static void regain(void)
{
    if (getuid() == 0 && geteuid() != 0 && (seteuid(0) < 0 || setegid(0) < 0))
        doveadm_fatal(DOVEADM_TEMPFAIL, "seteuid(0) failed: %s", strerror(errno));
}

/* ---- one user -------------------------------------------------------------------------------------------------------- */

static struct settings *user_settings(struct doveadm *d, const struct rpc_fields *fields, const char **pairs,
                                      struct error *e)
{
    for (size_t i = 0; i < fields->count; i++)
        /* "mail" is the userdb's name of mail_location (auth 7). */
        pairs[i] = arena_printf(d->arena, "%s=%s",
                                strcmp(fields->at[i].key, "mail") == 0 ? "mail_location" : fields->at[i].key,
                                fields->at[i].value == NULL ? "yes" : fields->at[i].value);
    return settings_override_all(doveadm_settings(d), pairs, e);
}

static int run_for(struct doveadm *d, const struct mail_command *command, const char *name, bool lookup, bool iterating)
{
    struct auth_user_info info = {.service = "doveadm"};
    struct mail_user_params params = {.username = name, .service = "doveadm", .no_notify = true};
    struct rpc_fields fields = {NULL, 0};
    struct mail_user *user = NULL;
    struct auth_homes *homes;
    struct settings *set;
    const char **pairs;
    struct error e;
    int status;

    if (lookup && auth_wait_user(userdb_socket(d), name, &info, d->arena, &params.username, &fields, &e) < 0) {
        if (e.class == ERROR_NOT_FOUND && e.sys == 0 && iterating) {
            if (d->verbose)
                log_info(NULL, "User no longer exists, skipping");
            return DOVEADM_OK;
        }
        if (e.class == ERROR_NOT_FOUND && e.sys == 0) {
            log_error(NULL, "User doesn't exist");
            return DOVEADM_NOUSER;
        }
        doveadm_auth_error(name, "userdb lookup", &e);
        log_error(NULL, "User lookup failed: %s", "Internal error occurred. Refer to server log for more information.");
        return DOVEADM_TEMPFAIL;
    }
    pairs = ARENA_ARRAY(d->arena, const char *, fields.count + 1);
    set = user_settings(d, &fields, pairs, &e);
    params.home = lookup ? rpc_fields_get(&fields, "home") : getenv("HOME");
    params.fields = pairs;
    params.find_home = auth_homes_find;
    params.find_home_arg = homes = auth_homes_new(conf_str(doveadm_settings(d), SET_base_dir), "doveadm");
    if (!lookup && geteuid() == 0) {
        /* Nobody said who the user is: the settings must (the mail would belong to root otherwise). */
        const char *missing = *conf_str(doveadm_settings(d), SET_mail_uid) == '\0'   ? "UID (see mail_uid setting)"
                              : *conf_str(doveadm_settings(d), SET_mail_gid) == '\0' ? "GID (see mail_gid setting)"
                                                                                      : NULL;

        if (missing != NULL) {
            log_error(NULL, "Couldn't drop privileges: User is missing %s", missing);
            settings_unref(set);
            auth_homes_free(homes);
            return DOVEADM_TEMPFAIL;
        }
    }
    if (set == NULL || drop(d, &fields, !iterating, &e) < 0 || mail_user_open(&user, set, &params, &e) < 0) {
        /* A plugin's refusal stands for itself. */
        if (strncmp(e.admin, "Failed to initialize quota: ", 28) == 0 || strncmp(e.admin, "Failed to expand plugin setting ", 32) == 0)
            log_error(NULL, "%s", e.admin);
        else
            log_error(NULL, "User initialization failed: %s", e.admin);
        settings_unref(set);
        auth_homes_free(homes);
        regain();
        return DOVEADM_TEMPFAIL;
    }
    d->username = params.username;
    mail_user_set_unchecked(user, true);
    status = command->run(d, user);
    mail_user_close(&user);
    settings_unref(set);
    auth_homes_free(homes);
    regain();
    return status;
}

int doveadm_mail_run(struct doveadm *d, const struct mail_command *command)
{
    struct users users = {0};
    bool lookup = doveadm_given(d, "user") || doveadm_given(d, "all-users") || doveadm_given(d, "user-file");
    int status, list_status;

    if (doveadm_given(d, "socket-path"))
        doveadm_fatal(DOVEADM_TEMPFAIL, "doveadm -S: doveadm-server is not available in this version");
    (void)umask(0);
    list_status = find_users(d, &users);
    d->iterating = users.iterating;
    status = command->prepare == NULL ? DOVEADM_OK : command->prepare(d);
    for (size_t i = 0; status != DOVEADM_USAGE && i < users.names.count; i++) {
        int one;
        log_set_prefix("doveadm(%s): ", users.names.at[i]);
        if (users.iterating && d->print != NULL)
            print_sticky(d, "username", users.names.at[i]);
        one = run_for(d, command, users.names.at[i], lookup, users.iterating);
        doveadm_status_add(&status, one);
    }
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

int doveadm_mail_failed(struct doveadm *d, const struct error *e, const char *fmt, ...)
{
    struct buffer text = {0};
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    if (e->user[0] == '\0')
        log_error_value(NULL, e); /* the reason, which the text below only stamps */
    log_error(NULL, "%s: %s", buffer_cstr(&text), doveadm_error_text(d->arena, e));
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

    if (mailbox_place(user, d->arena, slice_from_str(name), &place, e) < 0 || mailbox_open(box, &place, flags, e) < 0)
        return -1;
    if (doveadm_mailbox_sync(*box, NULL, SYNC_POLL, e) < 0) {
        mailbox_close(box);
        return -1;
    }
    return 0;
}

int doveadm_mailbox_match(struct doveadm *d, struct mail_user *user, const char *const *masks, size_t n, unsigned flags,
                          const char ***names, size_t *count, struct error *e)
{
    VEC(const char *) found = {0};
    struct budget budget = BUDGET_UNLIMITED;

    for (size_t i = 0; i < n; i++) {
        struct slice mask = slice_from_str(masks[i]);
        const struct mailbox_info *info;
        struct mailbox_list *list;
        enum step step;
        if (strpbrk(masks[i], "*%") == NULL) {
            VEC_PUSH(&found, masks[i]);
            continue;
        }
        list = mailbox_list_begin(user, &mask, 1, flags);
        while ((step = mailbox_list_next(list, &budget, &info, e)) == STEP_MORE || step == STEP_WAIT)
            if (step == STEP_MORE && (info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) == 0)
                VEC_PUSH(&found, arena_strdup(d->arena, info->vname));
        mailbox_list_end(&list);
        if (step == STEP_ERROR) {
            VEC_FREE(&found);
            return -1;
        }
    }
    *names = arena_copy(d->arena, found.at, found.count * sizeof(*found.at));
    *count = found.count;
    VEC_FREE(&found);
    return 0;
}
