/* cmd_cryptokey.c - mailbox cryptokey list, generate, export, password: the key pairs of mail_crypt (docs/formats/coding.md). */
#include "mail.h"
#include "store/coding/crypt_user.h"

#include <stdio.h>
#include <unistd.h>

static int open_box(struct doveadm *d, struct mail_user *user, const char *name, struct mailbox **box, struct error *e)
{
    struct mailbox_place place;

    return mailbox_place(user, d->arena, slice_from_str(name), &place, e) < 0 ? -1 : mailbox_open(box, &place, 0, e);
}

static int nothing(struct doveadm *d)
{
    log_warning(NULL, "%s: Nothing was matched. Use -U or specify mask?", d->command->name);
    return DOVEADM_OK;
}

/* For each mailbox of the mask (all: NULL), or with -U for the user (box NULL). *seen counts. */
static int for_each(struct doveadm *d, struct mail_user *user, bool all,
                    int (*act)(struct doveadm *, struct mail_user *, struct mailbox *, const char *name, size_t *seen), size_t *seen)
{
    const char *mask = all ? "*" : doveadm_text(d, "mailbox"), **names;
    size_t count;
    struct error e;
    int status = DOVEADM_OK;

    if (mask == NULL)
        return DOVEADM_OK;
    if (doveadm_mailbox_match(d, user, &mask, 1, 0, &names, &count, &e) < 0)
        return doveadm_mail_failed(d, &e, "Listing mailboxes failed");
    for (size_t i = 0; i < count; i++) {
        struct mailbox *box;
        int r;

        if (open_box(d, user, names[i], &box, &e) < 0) {
            if (e.class != ERROR_NOT_FOUND)
                status = doveadm_mail_failed(d, &e, "mailbox_open(%s) failed", names[i]);
            continue;
        }
        r = act(d, user, box, names[i], seen);
        mailbox_close(&box);
        status = r != DOVEADM_OK ? r : status;
    }
    return status;
}

/* ---- list ------------------------------------------------------------------------------------------------------------- */

static int list_prepare(struct doveadm *d)
{
    doveadm_mail_print(d, "table");
    print_header(d, "box", "Folder", 0);
    print_header(d, "active", "Active", 0);
    print_header(d, "pubid", "Public ID", 0);
    return DOVEADM_OK;
}

static int list_one(struct doveadm *d, struct mail_user *user, struct mailbox *box, const char *name, size_t *seen)
{
    struct crypt_pairs pairs = {0};
    struct error e;
    int status = DOVEADM_OK;

    if (crypt_user_pairs(user, box, &pairs, &e) < 0)
        status = doveadm_mail_failed(d, &e, "%s", name);
    for (size_t i = 0; status == DOVEADM_OK && i < pairs.count; i++) {
        print_value(d, name);
        print_value(d, pairs.at[i].active ? "yes" : "no");
        print_value(d, pairs.at[i].id);
        ++*seen;
    }
    VEC_FREE(&pairs);
    return status;
}

static int list_run(struct doveadm *d, struct mail_user *user)
{
    size_t seen = 0;
    int status = doveadm_flag(d, "user-key") ? list_one(d, user, NULL, "", &seen) : for_each(d, user, false, list_one, &seen);

    return status == DOVEADM_OK && seen == 0 ? nothing(d) : status;
}

int doveadm_cryptokey_list(struct doveadm *d)
{
    static const struct mail_command command = {list_prepare, list_run};

    return doveadm_mail_run(d, &command);
}

/* ---- export ----------------------------------------------------------------------------------------------------------- */

static int export_prepare(struct doveadm *d)
{
    doveadm_mail_print(d, "pager");
    print_header(d, "box", "Folder", 0);
    print_header(d, "name", "Public ID", 0);
    print_header(d, "error", "Error", 0);
    print_header(d, "key", "Key", 0);
    return DOVEADM_OK;
}

static int export_one(struct doveadm *d, struct mail_user *user, struct mailbox *box, const char *name, size_t *seen)
{
    struct crypt_pairs pairs = {0};
    struct error e;
    int status = DOVEADM_OK;

    if (crypt_user_pairs(user, box, &pairs, &e) < 0)
        status = doveadm_mail_failed(d, &e, "%s", name);
    for (size_t i = 0; status == DOVEADM_OK && i < pairs.count; i++) {
        const struct crypt_key *key = crypt_user_private(user, box, pairs.at[i].id, &e);
        struct buffer pem = {0};

        print_value(d, name);
        print_value(d, pairs.at[i].id);
        if (key == NULL || crypt_key_pem(key, &pem, &e) < 0) {
            print_value(d, arena_printf(d->arena, "ERROR: %s", e.admin));
            print_value(d, "");
        } else {
            print_value(d, "");
            print_value(d, buffer_cstr(&pem));
        }
        buffer_wipe(&pem);
        ++*seen;
    }
    VEC_FREE(&pairs);
    return status;
}

static int export_run(struct doveadm *d, struct mail_user *user)
{
    size_t seen = 0;

    return doveadm_flag(d, "user-key") ? export_one(d, user, NULL, "", &seen) : for_each(d, user, false, export_one, &seen);
}

int doveadm_cryptokey_export(struct doveadm *d)
{
    static const struct mail_command command = {export_prepare, export_run};

    return doveadm_mail_run(d, &command);
}

/* ---- generate --------------------------------------------------------------------------------------------------------- */

static int generate_prepare(struct doveadm *d)
{
    doveadm_mail_print(d, "table");
    print_header(d, "success", "  ", 0);
    print_header(d, "box", "Folder", 0);
    print_header(d, "pubid", "Public ID", 0);
    return DOVEADM_OK;
}

static void generated(struct doveadm *d, const char *name, const struct crypt_key *key, const struct error *e)
{
    char id[2 * CRYPT_ID_SIZE + 1];

    print_value(d, key == NULL ? "x" : "\u2713");
    print_value(d, name);
    if (key == NULL) {
        print_value(d, arena_printf(d->arena, "ERROR: %s", e->admin));
        return;
    }
    crypt_id_hex(key->id, id);
    print_value(d, id);
}

/* A pair that exists is kept without -f. */
static int make(struct doveadm *d, struct mail_user *user, struct mailbox *box, const char *name)
{
    struct crypt_key *key = NULL;
    struct error e;
    int r = crypt_user_active(user, box, &key, &e);

    if (r == 0 && key != NULL && !doveadm_flag(d, "force")) {
        log_info(NULL, "%s exists. Use -f to generate a new one", box == NULL ? "userkey" : "Folder key");
    } else if (r == 0) {
        crypt_key_free(&key);
        r = crypt_user_generate(user, box, &key, &e);
    }
    generated(d, name, key, &e);
    crypt_key_free(&key);
    return r < 0 ? DOVEADM_DATAERR : DOVEADM_OK;
}

static int generate_one(struct doveadm *d, struct mail_user *user, struct mailbox *box, const char *name, size_t *seen)
{
    struct error e;
    size_t count;
    int status = make(d, user, box, name);

    ++*seen;
    if (status == DOVEADM_OK && doveadm_flag(d, "re-encrypt-box-keys") && crypt_user_rewrap(user, box, &count, &e) < 0)
        status = doveadm_mail_failed(d, &e, "%s", name);
    return status;
}

static int generate_run(struct doveadm *d, struct mail_user *user)
{
    struct crypt_key *key = NULL;
    bool alone = doveadm_flag(d, "user-key-only");
    struct error e;
    size_t seen = 0;
    int status = DOVEADM_OK;

    if (crypt_user_active(user, NULL, &key, &e) < 0)
        return doveadm_mail_failed(d, &e, "User key");
    /* The user's pair comes first: the others are wrapped for it. */
    if (alone || (key == NULL && doveadm_text(d, "mailbox") == NULL)) {
        status = make(d, user, NULL, "<userkey>");
        seen++;
    }
    crypt_key_free(&key);
    if (status == DOVEADM_OK && !alone)
        status = for_each(d, user, doveadm_flag(d, "re-encrypt-box-keys"), generate_one, &seen);
    return status == DOVEADM_OK && seen == 0 ? nothing(d) : status;
}

int doveadm_cryptokey_generate(struct doveadm *d)
{
    static const struct mail_command command = {generate_prepare, generate_run};

    return doveadm_mail_run(d, &command);
}

/* ---- password --------------------------------------------------------------------------------------------------------- */

static int password_prepare(struct doveadm *d)
{
    doveadm_mail_print(d, "pager");
    print_header(d, "result", "result", 0);
    return DOVEADM_OK;
}

static const char *ask(struct doveadm *d, const char *prompt)
{
    char *text = getpass(prompt);

    return text == NULL ? NULL : arena_strdup(d->arena, text);
}

static int password_run(struct doveadm *d, struct mail_user *user)
{
    const char *old = doveadm_text(d, "old-password"), *fresh = doveadm_text(d, "new-password");
    bool clear = doveadm_flag(d, "clear-password");
    struct error e;
    size_t count;

    if (clear && (fresh != NULL || doveadm_flag(d, "ask-new-password"))) {
        print_value(d, "clear password and new password specified");
        return DOVEADM_USAGE;
    }
    if (old != NULL && doveadm_flag(d, "ask-old-password")) {
        print_value(d, "old password specified, cannot ask for it");
        return DOVEADM_USAGE;
    }
    if (fresh != NULL && doveadm_flag(d, "ask-new-password")) {
        print_value(d, "new password specified, cannot ask for it");
        return DOVEADM_USAGE;
    }
    if (doveadm_flag(d, "ask-old-password"))
        old = ask(d, "Old password: ");
    if (doveadm_flag(d, "ask-new-password")) {
        const char *again;

        fresh = ask(d, "New password: ");
        again = ask(d, "Confirm new password: ");
        if (fresh == NULL || again == NULL || strcmp(fresh, again) != 0) {
            print_value(d, "Passwords don't match, aborting");
            return DOVEADM_USAGE;
        }
    }
    if (crypt_user_password(user, old, clear ? NULL : fresh, &count, &e) < 0) {
        print_value(d, e.admin);
        return DOVEADM_DATAERR;
    }
    if (count == 0) {
        print_value(d, "No keys found");
        return DOVEADM_NOTFOUND;
    }
    print_value(d, arena_printf(d->arena, "Changed password for %zu key(s)", count));
    return DOVEADM_OK;
}

int doveadm_cryptokey_password(struct doveadm *d)
{
    static const struct mail_command command = {password_prepare, password_run};

    return doveadm_mail_run(d, &command);
}
