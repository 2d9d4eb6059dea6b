/* cmd_metadata.c - mailbox metadata get, set, unset, list (doveadm 6.9). Unlike IMAP, internal attributes are shown. */
#include "mail.h"
#include "store/attribute.h"

#include <stdio.h>

struct key {
    enum attribute_scope scope;
    const char *name;              /* lower case, without "/private/" */
};

/* "/private/x"; another text ends the program. */
static struct key key_of(struct doveadm *d, const char *text)
{
    static const char *const scopes[] = {"/private", "/shared"};
    const char *low = arena_str(d->arena, text_lowered(d->arena, slice_from_str(text)));

    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(scopes[i]);

        if (strncmp(low, scopes[i], n) == 0 && (low[n] == '\0' || low[n] == '/'))
            return (struct key){i == 0 ? ATTRIBUTE_PRIVATE : ATTRIBUTE_SHARED, low[n] == '\0' ? "" : low + n + 1};
    }
    doveadm_fatal(DOVEADM_USAGE, "Invalid metadata key '%s': Must begin with /private or /shared", low);
}

static bool of_server(struct doveadm *d)
{
    return *doveadm_text(d, "mailbox") == '\0' && doveadm_flag(d, "allow-empty-mailbox-name");
}

static const char *stored_name(struct doveadm *d, const char *name)
{
    return of_server(d) ? arena_printf(d->arena, ATTRIBUTE_SERVER_PREFIX "%s", name) : name;
}

static bool no_mailbox(struct doveadm *d, const char *what)
{
    if (*doveadm_text(d, "mailbox") != '\0' || of_server(d))
        return false;
    log_error(NULL, "Failed to %s attribute: mailbox name cannot be empty", what);
    return true;
}

static int open_box(struct doveadm *d, struct mail_user *user, struct mailbox **box, struct error *e)
{
    struct mailbox_place place;

    if (mailbox_place(user, d->arena, of_server(d) ? SLICE("INBOX") : slice_from_str(doveadm_text(d, "mailbox")), &place, e) < 0)
        return -1;
    return mailbox_open(box, &place, 0, e);
}

/* ---- get ------------------------------------------------------------------------------------------------------------ */

static int get_prepare(struct doveadm *d)
{
    if (doveadm_text(d, "key") == NULL)
        return doveadm_usage(d);
    key_of(d, doveadm_text(d, "key"));
    doveadm_mail_print(d, "flow");
    print_header(d, "value", "value", PRINT_HIDE_TITLE);
    return DOVEADM_OK;
}

static int get_run(struct doveadm *d, struct mail_user *user)
{
    struct key key = key_of(d, doveadm_text(d, "key"));
    struct mailbox *box;
    const char *value;
    struct error e;
    int r;

    if (no_mailbox(d, "get"))
        return DOVEADM_USAGE;
    if (open_box(d, user, &box, &e) < 0)
        return doveadm_mail_failed(d, &e, "Failed to get attribute");
    r = mailbox_attribute_get(box, key.scope, stored_name(d, key.name), d->arena, &value, &e);
    mailbox_close(&box);
    if (r < 0)
        return doveadm_mail_failed(d, &e, "Failed to get attribute");
    print_value(d, value == NULL ? "" : value);
    return DOVEADM_OK;
}

int doveadm_metadata_get(struct doveadm *d)
{
    static const struct mail_command command = {get_prepare, get_run};

    return doveadm_mail_run(d, &command);
}

/* ---- set, unset ------------------------------------------------------------------------------------------------------- */

static int set_prepare(struct doveadm *d)
{
    if (doveadm_text(d, "key") == NULL || (strcmp(d->command->name, "mailbox metadata set") == 0 && doveadm_text(d, "value") == NULL))
        return doveadm_usage(d);
    key_of(d, doveadm_text(d, "key"));
    return DOVEADM_OK;
}

static int set_run(struct doveadm *d, struct mail_user *user)
{
    struct key key = key_of(d, doveadm_text(d, "key"));
    bool unset = strcmp(d->command->name, "mailbox metadata unset") == 0;
    struct attribute_change change = {key.scope, *key.name == '\0' ? "" : stored_name(d, key.name),
                                      unset ? NULL : doveadm_text(d, "value")};
    struct mailbox *box;
    struct error e;
    int r;

    if (no_mailbox(d, "set"))
        return DOVEADM_USAGE;
    if (open_box(d, user, &box, &e) < 0)
        return doveadm_mail_failed(d, &e, "Failed to open mailbox");
    r = store_op_wait(mailbox_attribute_set(box, &change, 1), &e);
    mailbox_close(&box);
    return r < 0 ? doveadm_mail_failed(d, &e, "Failed to set attribute") : DOVEADM_OK;
}

int doveadm_metadata_set(struct doveadm *d)
{
    static const struct mail_command command = {set_prepare, set_run};

    return doveadm_mail_run(d, &command);
}

/* ---- list ----------------------------------------------------------------------------------------------------------------- */

static int list_prepare(struct doveadm *d)
{
    if (doveadm_text(d, "mailbox") == NULL)
        return doveadm_usage(d);
    if (doveadm_text(d, "key-prefix") != NULL)
        key_of(d, doveadm_text(d, "key-prefix"));
    doveadm_mail_print(d, "flow");
    print_header(d, "key", "key", PRINT_HIDE_TITLE);
    return DOVEADM_OK;
}

/* The prefix is cut off as text, even in the middle of a part, and with -p its scope alone is put back. */
static int list_scope(struct doveadm *d, struct mailbox *box, enum attribute_scope scope, const char *prefix, struct error *e)
{
    struct attribute_names names = {0};
    size_t n = strlen(prefix);
    int r = mailbox_attribute_list(box, scope, of_server(d) ? "vendor/vendor.dovecot/pvt/server" : "", true, d->arena, &names, e);

    for (size_t i = 0; r == 0 && i < names.count; i++) {
        const char *name = names.at[i];

        if (strncmp(name, prefix, n) != 0)
            continue;
        /* Of the server only what somebody has set. */
        if (of_server(d) && scope == ATTRIBUTE_SHARED && (strcmp(name, "admin") == 0 || strcmp(name, "comment") == 0))
            continue;
        if (doveadm_flag(d, "prepend-prefix"))
            print_value(d, arena_printf(d->arena, "/%s/%s", scope == ATTRIBUTE_PRIVATE ? "private" : "shared", name + n));
        else
            print_value(d, name + n);
    }
    VEC_FREE(&names);
    return r;
}

static int list_run(struct doveadm *d, struct mail_user *user)
{
    struct key key = {ATTRIBUTE_PRIVATE, ""};
    const char *name = doveadm_text(d, "mailbox");
    int status = DOVEADM_OK;

    if (no_mailbox(d, "list"))
        return DOVEADM_USAGE;
    if (doveadm_text(d, "key-prefix") != NULL)
        key = key_of(d, doveadm_text(d, "key-prefix"));
    for (enum attribute_scope scope = ATTRIBUTE_PRIVATE; scope <= ATTRIBUTE_SHARED; scope++) {
        struct mailbox *box = NULL;
        struct error e;

        if (*key.name != '\0' && scope != key.scope)
            continue;
        if (open_box(d, user, &box, &e) < 0 || list_scope(d, box, scope, key.name, &e) < 0)
            doveadm_status_add(&status, doveadm_mail_failed(d, &e, "Mailbox %s: Failed to iterate mailbox attributes", name));
        mailbox_close(&box);
    }
    return status;
}

int doveadm_metadata_list(struct doveadm *d)
{
    static const struct mail_command command = {list_prepare, list_run};

    return doveadm_mail_run(d, &command);
}
