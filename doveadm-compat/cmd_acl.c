/* cmd_acl.c - acl get, rights, set, add, remove, delete, recalc, debug (doveadm 6.10). For the administrator: rights to the
 * mailbox are not asked for. */
#include "mail.h"
#include "store/acl/acl.h"
#include "store/location.h"

static void parse_id(struct doveadm *d, struct acl_entry *who)
{
    const char *id = doveadm_text(d, "id");

    *who = (struct acl_entry){0};
    if (!acl_identifier_parse(d->arena, slice_from_str(id), who))
        doveadm_fatal(DOVEADM_USAGE, "Invalid ID: %s", id);
}

static void parse_rights(struct doveadm *d, unsigned *positive, unsigned *negative)
{
    size_t n;
    const char *const *words = doveadm_list(d, "right", &n);

    *positive = *negative = 0;
    for (size_t i = 0; i < n; i++) {
        bool minus = words[i][0] == '-';
        unsigned right = acl_right_of_name(slice_from_str(words[i] + (minus ? 1 : 0)));

        if (right == 0)
            doveadm_fatal(DOVEADM_USAGE, "Invalid right '%s'", words[i] + (minus ? 1 : 0));
        *(minus ? negative : positive) |= right;
    }
}

/* The mailbox, which must exist. */
static int find_box(struct doveadm *d, struct mail_user *user, struct mailbox_place *place, int *status)
{
    const char *name = doveadm_text(d, "mailbox");
    struct mailbox *box;
    struct error e;

    if (mailbox_place(user, d->arena, slice_from_str(name), place, &e) == 0 && mailbox_open(&box, place, MAILBOX_OPEN_UNCHECKED, &e) == 0) {
        mailbox_close(&box);
        if (acl_applies(place->ns))
            return 0;
        error_set(&e, ERROR_NOT_FOUND, "ACL not enabled for mailbox %s", name);
        log_error(NULL, "%s", e.admin);
        *status = DOVEADM_NOTFOUND;
        return -1;
    }
    *status = doveadm_mail_failed(d, &e, "Can't open mailbox %s", name);
    return -1;
}

static void put_names(struct buffer *out, unsigned rights, const char *minus)
{
    unsigned right;

    for (size_t i = 0; (right = acl_right_at(i)) != 0; i++)
        if ((rights & right) != 0)
            buffer_printf(out, "%s%s%s", out->size > 0 ? " " : "", minus, acl_right_name(right));
}

/* ---- get, rights ---------------------------------------------------------------------------------------------------- */

static int get_prepare(struct doveadm *d)
{
    if (doveadm_text(d, "mailbox") == NULL)
        return doveadm_usage(d);
    doveadm_mail_print(d, "table");
    print_header(d, "id", "ID", 0);
    print_header(d, "global", "Global", 0);
    print_header(d, "rights", "Rights", PRINT_EXPAND);
    return DOVEADM_OK;
}

static bool is_mine(struct mail_user *user, const struct mailbox_place *place, const struct acl_entry *entry)
{
    const struct acl_me me = {acl_user_name(user), acl_is_owner(place->ns), acl_groups(user)};
    struct acl_entry one = *entry;
    const struct acl_entries entries = {.at = &one, .count = 1};
    bool matched;

    if (me.owner) { /* the owner matches by himself: look whether the entry does */
        const struct acl_me other = {me.user, false, me.groups};

        if (entry->kind == ACL_OWNER)
            return true;
        acl_evaluate(&entries, &other, &matched);
        return matched;
    }
    acl_evaluate(&entries, &me, &matched);
    return matched;
}

static int get_run(struct doveadm *d, struct mail_user *user)
{
    struct acl_entries entries = {0};
    struct mailbox_place place;
    struct error e;
    bool has_file;
    int status = DOVEADM_OK;

    if (find_box(d, user, &place, &status) < 0)
        return status;
    if (acl_read(&place, d->arena, &entries, &has_file, &e) < 0)
        status = doveadm_mail_failed(d, &e, "Getting ACLs failed");
    for (size_t i = 0; status == DOVEADM_OK && i < entries.count; i++) {
        struct buffer id = {0}, rights = {0};

        if (doveadm_flag(d, "match-me") && !is_mine(user, &place, &entries.at[i]))
            continue;
        acl_identifier_put(&id, &entries.at[i]);
        put_names(&rights, entries.at[i].rights, "");
        put_names(&rights, entries.at[i].negative, "-");
        print_value(d, buffer_cstr(&id));
        print_value(d, entries.at[i].global ? "global" : "");
        print_value(d, buffer_cstr(&rights));
        buffer_free(&id);
        buffer_free(&rights);
    }
    VEC_FREE(&entries);
    return status;
}

int doveadm_acl_get(struct doveadm *d)
{
    static const struct mail_command command = {get_prepare, get_run};

    return doveadm_mail_run(d, &command);
}

static int rights_prepare(struct doveadm *d)
{
    if (doveadm_text(d, "mailbox") == NULL)
        return doveadm_usage(d);
    doveadm_mail_print(d, "table");
    print_header(d, "rights", "Rights", PRINT_EXPAND);
    return DOVEADM_OK;
}

/* "lookup read write ...": the order in which effective rights are said. */
static const char *effective(struct doveadm *d, unsigned rights)
{
    struct buffer out = {0};
    const char *text;

    for (const char *c = "lrwstipekxa"; *c != '\0'; c++)
        if ((rights & acl_right_of_letter(*c)) != 0)
            buffer_printf(&out, "%s%s", out.size > 0 ? " " : "", acl_right_name(acl_right_of_letter(*c)));
    text = arena_strdup(d->arena, buffer_cstr(&out));
    buffer_free(&out);
    return text;
}

static int rights_run(struct doveadm *d, struct mail_user *user)
{
    struct mailbox_place place;
    struct error e;
    unsigned rights;
    int status = DOVEADM_OK;

    if (find_box(d, user, &place, &status) < 0)
        return status;
    if (acl_rights(&place, &rights, &e) < 0)
        return doveadm_mail_failed(d, &e, "Failed to get rights");
    print_value(d, effective(d, rights));
    return DOVEADM_OK;
}

int doveadm_acl_rights(struct doveadm *d)
{
    static const struct mail_command command = {rights_prepare, rights_run};

    return doveadm_mail_run(d, &command);
}

/* ---- changes -------------------------------------------------------------------------------------------------------- */

static bool is(const struct doveadm *d, const char *name)
{
    return strcmp(d->command->name, name) == 0;
}

static int change_prepare(struct doveadm *d)
{
    size_t n = 0;

    return doveadm_text(d, "id") == NULL || (!is(d, "acl delete") && (doveadm_list(d, "right", &n), n == 0)) ? doveadm_usage(d)
                                                                                                         : DOVEADM_OK;
}

static int change_one(struct doveadm *d, const struct mailbox_place *place, bool negative, enum acl_how how, unsigned rights, struct error *e)
{
    struct acl_change change = {.negative = negative, .how = how, .rights = rights};

    parse_id(d, &change.who);
    return store_op_wait(acl_update(place, &change), e);
}

static int change_run(struct doveadm *d, struct mail_user *user)
{
    enum acl_how how = is(d, "acl set") ? ACL_SET : is(d, "acl add") ? ACL_ADD : is(d, "acl remove") ? ACL_REMOVE : ACL_CLEAR;
    unsigned positive = 0, negative = 0;
    struct mailbox_place place;
    struct acl_entry who;
    struct error e;
    int status = DOVEADM_OK, r = 0;

    if (find_box(d, user, &place, &status) < 0)
        return status;
    parse_id(d, &who);
    if (how != ACL_CLEAR)
        parse_rights(d, &positive, &negative);
    if (positive != 0 || how == ACL_CLEAR)
        r = change_one(d, &place, false, how, positive, &e);
    if (r == 0 && (negative != 0 || how == ACL_CLEAR))
        r = change_one(d, &place, true, how, negative, &e);
    return r < 0 ? doveadm_mail_failed(d, &e, "Failed to set ACL") : DOVEADM_OK;
}

int doveadm_acl_change(struct doveadm *d)
{
    static const struct mail_command command = {change_prepare, change_run};

    return doveadm_mail_run(d, &command);
}

/* ---- recalc, debug -------------------------------------------------------------------------------------------------- */

static int recalc_run(struct doveadm *d, struct mail_user *user)
{
    struct mail_namespace *ns;
    struct error e;

    for (ns = mail_user_namespaces(user); ns != NULL; ns = ns->next)
        if (ns->type == MAIL_NAMESPACE_PRIVATE && ns->alias_for == NULL && acl_known_rebuild(ns, &e) < 0)
            return doveadm_mail_failed(d, &e, "Failed to recalculate ACL lookup dict");
    return DOVEADM_OK;
}

int doveadm_acl_recalc(struct doveadm *d)
{
    static const struct mail_command command = {NULL, recalc_run};

    return doveadm_mail_run(d, &command);
}

static int debug_prepare(struct doveadm *d)
{
    return doveadm_text(d, "mailbox") == NULL ? doveadm_usage(d) : DOVEADM_OK;
}

static int debug_run(struct doveadm *d, struct mail_user *user)
{
    const char *name = doveadm_text(d, "mailbox"), *file;
    struct mailbox_place place;
    enum mailbox_existence there;
    struct error e;
    unsigned rights;

    if (mailbox_place(user, d->arena, slice_from_str(name), &place, &e) < 0)
        return doveadm_mail_failed(d, &e, "Mailbox '%s'", name);
    if (mailbox_exists(&place, true, &there, &e) < 0)
        there = MAILBOX_EXISTS_NO;
    file = acl_applies(place.ns) ? acl_file_path(&place, d->arena) : NULL;
    if (there != MAILBOX_EXISTS_YES) {
        const char *slash = file == NULL ? NULL : strrchr(file, '/');

        log_error(NULL, "Mailbox '%s' in namespace '%s' doesn't exist in %s", place.name, place.ns->prefix,
                  slash == NULL ? "" : arena_str(d->arena, slice_of(file, (size_t)(slash - file))));
        return DOVEADM_NOTFOUND;
    }
    log_info(NULL, "Mailbox '%s' is in namespace '%s'", place.name, place.ns->prefix);
    if (file != NULL)
        log_info(NULL, "Mailbox path: %s", arena_str(d->arena, slice_of(file, (size_t)(strrchr(file, '/') - file))));
    log_info(NULL, mail_location_path(&place.ns->storage->at, d->arena, place.name, PATH_PRIVATE) != NULL
                       ? "Per-user private flags in mailbox: \\Seen"
                       : "All message flags are shared across users in mailbox");
    if (!acl_applies(place.ns)) {
        log_error(NULL, "ACL not enabled for mailbox %s", name);
        return DOVEADM_NOTFOUND;
    }
    if (acl_rights(&place, &rights, &e) < 0)
        return doveadm_mail_failed(d, &e, "Failed to get rights");
    if (rights == 0)
        log_info(NULL, "User %s has no rights for mailbox", acl_user_name(user));
    else
        log_info(NULL, "User %s has rights: %s", acl_user_name(user), effective(d, rights));
    if ((rights & MAILBOX_RIGHT_LOOKUP) == 0) {
        log_error(NULL, "User %s is missing 'lookup' right", acl_user_name(user));
        log_info(NULL, "Mailbox %s is NOT visible in LIST", name);
        return DOVEADM_OK;
    }
    if (place.ns->type == MAIL_NAMESPACE_PRIVATE) {
        log_info(NULL, "Mailbox in user's private namespace");
    } else {
        log_info(NULL, "Mailbox found from dovecot-acl-list");
        log_info(NULL, "Mailbox is in %s namespace", place.ns->type == MAIL_NAMESPACE_SHARED ? "shared" : "public");
    }
    log_info(NULL, "Mailbox %s is visible in LIST", name);
    return DOVEADM_OK;
}

int doveadm_acl_debug(struct doveadm *d)
{
    static const struct mail_command command = {debug_prepare, debug_run};

    return doveadm_mail_run(d, &command);
}
