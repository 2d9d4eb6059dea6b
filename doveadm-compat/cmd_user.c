/* cmd_user.c - doveadm user: what the userdb says of users, and which there are (doveadm 7.1). */
#include "cmd_auth.h"
#include "print.h"

#include <stdio.h>
#include <unistd.h>

struct lookup {
    struct doveadm *d;
    const char *socket;
    struct auth_user_info info;
    struct rpc_fields extra;
    struct buffer late;        /* what is said behind the rows of all users */
};

static bool is_mask(const char *user)
{
    return strpbrk(user, "*?") != NULL;
}

static int list_users(struct lookup *l, const char *const *masks, size_t n)
{
    /* Names go past the formatter, which says in its own way that it has no rows. */
    if (l->d->formatter != NULL) {
        print_init(l->d, "tab");
        print_flush(l->d);
        print_free(l->d);
    }
    for (size_t i = 0; i < n; i++) {
        const char **users;
        size_t count;
        struct error e;
        if (!is_mask(masks[i])) {
            printf("%s\n", masks[i]);
            continue;
        }
        if (auth_wait_list(l->socket, masks[i], &l->info, l->d->arena, &users, &count, &e) < 0) {
            log_error(NULL, "user listing failed: %s", e.admin);
            return DOVEADM_TEMPFAIL;
        }
        for (size_t j = 0; j < count; j++)
            printf("%s\n", users[j]);
    }
    return DOVEADM_OK;
}

/* The variables of a user's settings; failures are logged. */
static char *expand(struct lookup *l, const char *template, const char *user, const char *home)
{
    const char *at = strchr(user, '@');
    struct arena *a = l->d->arena;
    struct conf_var table[] = {
        {'u', "user", user},
        {'n', "username", arena_str(a, slice_of(user, at == NULL ? strlen(user) : (size_t)(at - user)))},
        {'d', "domain", at == NULL ? "" : at + 1},
        {'s', "service", l->info.service},
        {'h', "home", home},
        {0, NULL, NULL},
    };
    struct conf_vars vars = {.table = table};
    bool failed = false;
    struct error e;
    char *text = conf_expand(a, template, &vars, &failed, &e);

    if (!failed)
        return text;
    log_error(NULL, "Failed to expand %s: %s", template, e.admin);
    return NULL;
}

/* The userdb's home, else mail_home. */
static const char *home_of(struct lookup *l, const char *user, const struct rpc_fields *fields)
{
    const char *home = rpc_fields_get(fields, "home");
    const char *template = conf_str(doveadm_settings(l->d), SET_mail_home);

    if (home == NULL && *template != '\0')
        home = expand(l, template, user, NULL);
    return home;
}

/* One of the four fields that every mail process has: the userdb's, else the setting's. NULL = neither. */
static const char *basic_field(struct lookup *l, const char *user, const struct rpc_fields *fields, const char *name)
{
    const struct settings *set = doveadm_settings(l->d);
    const char *value = rpc_fields_get(fields, name);

    if (strcmp(name, "home") == 0)
        return home_of(l, user, fields);
    if (value == NULL && strcmp(name, "uid") == 0)
        value = conf_str(set, SET_mail_uid);
    else if (value == NULL && strcmp(name, "gid") == 0)
        value = conf_str(set, SET_mail_gid);
    else if (value == NULL && strcmp(name, "mail") == 0)
        value = conf_str(set, SET_mail_location);
    return value == NULL || *value == '\0' ? NULL : value;
}

static void print_row(struct doveadm *d, const char *field, const char *value)
{
    print_value(d, field);
    print_value(d, value == NULL ? "" : value);
}

/* uid, gid, home and mail come first, as a mail process would use them; then the rest. */
/* Those that every user has stand in front, the others as they came. */
enum { BASIC_FIELDS = 4 };
static const char *const basic_fields[BASIC_FIELDS] = {"uid", "gid", "home", "mail"};

static bool is_basic(const char *key)
{
    for (size_t i = 0; i < BASIC_FIELDS; i++)
        if (strcmp(key, basic_fields[i]) == 0)
            return true;
    return false;
}

static void show_fields(struct lookup *l, const char *user, const struct rpc_fields *fields)
{
    for (size_t i = 0; i < BASIC_FIELDS; i++) {
        const char *value = basic_field(l, user, fields, basic_fields[i]);
        if (value != NULL)
            print_row(l->d, basic_fields[i], value);
    }
    for (size_t i = 0; i <= fields->count; i++) {
        if (fields->empty == i + 1)
            print_row(l->d, "", "");
        if (i < fields->count && !is_basic(fields->at[i].key))
            print_row(l->d, fields->at[i].key, fields->at[i].value);
    }
}

static int show_user(struct lookup *l, const char *user)
{
    const char *field = doveadm_text(l->d, "field"), *template = doveadm_text(l->d, "expand-field");
    bool plain = doveadm_flag(l->d, "userdb-only");
    struct rpc_fields fields;
    const char *found;
    struct error e;

    if (auth_wait_user(l->socket, user, &l->info, l->d->arena, &found, &fields, &e) < 0) {
        if (e.class == ERROR_NOT_FOUND && e.sys == 0) {
            if (field == NULL && template == NULL && !plain)
                buffer_printf(&l->late, "\nuserdb lookup: user %s doesn't exist\n", user);
            else
                fprintf(plain ? stdout : stderr, "userdb lookup: user %s doesn't exist\n", user);
            return DOVEADM_NOUSER;
        }
        doveadm_auth_error(user, "userdb lookup", &e);
        return DOVEADM_TEMPFAIL;
    }
    if (template != NULL) {
        char *text = expand(l, template, found, home_of(l, found, &fields));
        if (text != NULL)
            printf("%s\n", text);
    } else if (field != NULL) {
        const char *value = basic_field(l, found, &fields, field);
        if (value != NULL)
            printf("%s\n", value);
    } else if (plain) {
        doveadm_auth_print("userdb", user, found, &fields);
    } else
        show_fields(l, found, &fields);
    return DOVEADM_OK;
}

/* ---- for doveadm-server: objects (doveadm 9) ------------------------------------------------------------------------ */

static int serve_list(struct lookup *l, const char *const *masks, size_t n)
{
    const char *between = "";

    print_json_raw("{\"userList\":[");
    for (size_t i = 0; i < n; i++) {
        const char *one[] = {masks[i]}, **users = one;
        size_t count = 1;
        struct error e;
        if (is_mask(masks[i]) && auth_wait_list(l->socket, masks[i], &l->info, l->d->arena, &users, &count, &e) < 0) {
            log_error(NULL, "user listing failed: %s", e.admin);
            return DOVEADM_TEMPFAIL;
        }
        for (size_t j = 0; j < count; j++) {
            print_json_raw(between);
            print_json_text(users[j]);
            between = ",";
        }
    }
    print_json_raw("]}");
    return DOVEADM_OK;
}

static void serve_pair(const char **between, const char *key, const char *value)
{
    if (value == NULL)
        return;
    print_json_raw(*between);
    print_json_text(key);
    print_json_raw(":");
    print_json_text(value);
    *between = ",";
}

static void serve_fields(struct lookup *l, const char *user, const struct rpc_fields *fields)
{
    const char *only = doveadm_text(l->d, "field"), *template = doveadm_text(l->d, "expand-field"), *between = "";

    if (template != NULL) {
        serve_pair(&between, template, expand(l, template, user, home_of(l, user, fields)));
        return;
    }
    if (only != NULL) {
        serve_pair(&between, only, basic_field(l, user, fields, only));
        return;
    }
    for (size_t i = 0; i < BASIC_FIELDS; i++)
        serve_pair(&between, basic_fields[i], basic_field(l, user, fields, basic_fields[i]));
    for (size_t i = 0; i < fields->count; i++)
        if (!is_basic(fields->at[i].key))
            serve_pair(&between, fields->at[i].key, fields->at[i].value == NULL ? "" : fields->at[i].value);
}

static int serve_users(struct lookup *l, const char *const *users, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct rpc_fields fields;
        const char *found;
        struct error e;
        if (auth_wait_user(l->socket, users[i], &l->info, l->d->arena, &found, &fields, &e) < 0) {
            if (e.class == ERROR_NOT_FOUND && e.sys == 0)
                return DOVEADM_NOUSER;
            doveadm_auth_error(users[i], "userdb lookup", &e);
            return DOVEADM_TEMPFAIL;
        }
        print_json_raw(i == 0 ? "{" : ",");
        print_json_text(users[i]);
        print_json_raw(":{");
        serve_fields(l, found, &fields);
        print_json_raw("}");
    }
    print_json_raw("}");
    return DOVEADM_OK;
}

int doveadm_user(struct doveadm *d)
{
    struct lookup l = {.d = d, .info = {.service = "doveadm"}};
    size_t n;
    const char *const *users = doveadm_list(d, "user-mask", &n);
    bool masks = false, table;
    int status = DOVEADM_OK;

    if (n == 0)
        return doveadm_usage(d);
    if (doveadm_given(d, "field") && doveadm_given(d, "expand-field")) {
        log_error(NULL, "-e can't be used with -f");
        return DOVEADM_USAGE;
    }
    doveadm_auth_info(d, &l.info, &l.extra);
    l.socket = doveadm_text(d, "socket-path");
    if (l.socket == NULL)
        l.socket = doveadm_socket(d, conf_str(doveadm_settings(d), SET_auth_socket_path));
    for (size_t i = 0; i < n; i++)
        masks = masks || is_mask(users[i]);
    if (d->server)
        return masks ? serve_list(&l, users, n) : serve_users(&l, users, n);
    if (masks)
        return list_users(&l, users, n);
    table = !doveadm_given(d, "field") && !doveadm_given(d, "expand-field") && !doveadm_flag(d, "userdb-only");
    if (table) {
        print_init(d, "tab");
        print_header_simple(d, "field");
        print_header_simple(d, "value");
        print_begin(d);
    }
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buffer_append_byte(&l.late, '\n');
        if (!table) {
            fputs(buffer_cstr(&l.late), stdout);
            buffer_reset(&l.late);
        }
        doveadm_status_add(&status, show_user(&l, users[i]));
    }
    fputs(buffer_cstr(&l.late), stdout);
    buffer_free(&l.late);
    return status;
}
