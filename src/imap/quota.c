/* quota.c - GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 2087; imap 12.2, quota-acl-plugins 1.7). */
#include "imap/session.h"

#include "store/quota/quota.h"

static bool put_root(struct session *s, struct request *r, struct quota_root *root)
{
    struct quota_amount limits, used;
    struct buffer out = {0};
    struct error e;

    quota_over_check(s->user, true);
    if (quota_usage(root, &used, &e) < 0) {
        if (e.class == ERROR_BUSY)
            return true; /* nothing is said until it is known */
        log_error_value(&s->log, &e);
        return false;
    }
    limits = quota_root_limits(root);
    buffer_append_str(&out, "* QUOTA ");
    mime_put_astring(&out, slice_from_str(quota_root_name_for(root, s->user, r->arena)));
    buffer_append_str(&out, " (");
    if (limits.bytes != 0)
        buffer_printf(&out, "STORAGE %llu %llu", (unsigned long long)((used.bytes + 1023) / 1024), (unsigned long long)((limits.bytes + 1023) / 1024));
    if (limits.count != 0)
        buffer_printf(&out, "%sMESSAGE %llu %llu", limits.bytes != 0 ? " " : "", (unsigned long long)used.count, (unsigned long long)limits.count);
    buffer_append_str(&out, ")\r\n");
    session_write(s, buffer_slice(&out));
    buffer_free(&out);
    return true;
}

static void calculation_failed(struct request *r)
{
    request_reply(r, "NO Internal quota calculation error.");
}

static bool first_string(struct session *s, struct request *r)
{
    if (r->args == NULL)
        request_bad(s, r, "Missing arguments");
    else if (!imap_arg_is_string(r->args))
        request_bad(s, r, "Invalid arguments");
    else
        return true;
    return false;
}

/* Roots without any limit are not told of; one whose usage cannot be had is, but not while the indexer counts it. */
static bool is_shown(struct session *s, struct quota_root *root, const struct mail_namespace *ns)
{
    struct quota_amount limits, used;
    struct error e;

    if (quota_root_hidden(root) || !quota_root_covers(root, ns))
        return false;
    limits = quota_root_limits(root);
    if ((limits.bytes != 0 || limits.count != 0) && conf_uint(mail_user_settings(s->user), SET_mail_vsize_bg_after_count) == 0)
        return true; /* nobody has to count for that */
    if (quota_usage(root, &used, &e) < 0)
        return e.class != ERROR_BUSY;
    if (limits.bytes != 0 || limits.count != 0)
        return true;
    limits = quota_root_limits(root); /* some backends know them with the usage */
    return limits.bytes != 0 || limits.count != 0;
}

/* The namespace of a name, which need not be one that a mailbox could have. False: answered. */
static bool find_namespace(struct session *s, struct request *r, const struct mail_namespace **ns)
{
    struct mailbox_place place;
    struct error e = {0};
    struct slice name;

    if (!request_name(s, r, r->args->text, &name))
        return false;
    *ns = mail_user_inbox_namespace(s->user);
    if (name.size == 0)
        return true;
    if (mailbox_place(s->user, r->arena, name, &place, &e) == 0) {
        *ns = place.ns;
        return true;
    }
    if (strstr(e.user, "Missing namespace prefix") == NULL)
        return true;
    request_place_error(s, r, &e, ERROR_PLAIN);
    return false;
}

void getquotaroot_begin(struct session *s, struct request *r)
{
    const struct mail_namespace *ns;
    struct quota_root *root;
    struct buffer out = {0};
    bool any = false, good = true;

    if (!first_string(s, r) || !find_namespace(s, r, &ns))
        return;
    if (ns->type == MAIL_NAMESPACE_SHARED) {
        request_reply(r, "NO Not showing other users' quota.");
        return;
    }
    buffer_append_str(&out, "* QUOTAROOT ");
    mime_put_astring(&out, r->args->text);
    for (size_t i = 0; (root = quota_root_at(s->user, i)) != NULL; i++) {
        if (!is_shown(s, root, ns))
            continue;
        any = true;
        buffer_append_byte(&out, ' ');
        mime_put_astring(&out, slice_from_str(quota_root_name(root)));
    }
    buffer_append_str(&out, "\r\n");
    if (any)
        session_write(s, buffer_slice(&out));
    buffer_free(&out);
    for (size_t i = 0; (root = quota_root_at(s->user, i)) != NULL; i++)
        if (is_shown(s, root, ns))
            good = put_root(s, r, root) && good;
    if (!good)
        calculation_failed(r);
    else
        request_reply(r, any ? "OK Getquotaroot completed." : "OK No quota.");
}

void getquota_begin(struct session *s, struct request *r)
{
    struct quota_root *root;

    if (!first_string(s, r))
        return;
    root = quota_root_find(s->user, r->args->text);
    if (root == NULL || quota_root_hidden(root))
        request_reply(r, "NO Quota root doesn't exist.");
    else if (put_root(s, r, root))
        request_reply(r, "OK Getquota completed.");
    else
        calculation_failed(r);
}

/* Pairs are set one after the other, up to the first that cannot be. */
static bool set_limits(struct session *s, struct request *r, struct quota_root *root, const struct imap_arg *pairs)
{
    for (const struct imap_arg *name = pairs, *value; name != NULL; name = value->next) {
        struct error e;
        uint64_t limit;

        value = name->next;
        if (value == NULL || !imap_arg_is_atom(name) || !imap_arg_is_atom(value) || !slice_to_u64(value->text, &limit)) {
            request_bad(s, r, "Invalid arguments");
            return false;
        }
        if (quota_root_set(root, name->text, limit, &e) < 0) {
            if (e.class != ERROR_PERMISSION && e.class != ERROR_INVALID)
                log_error_value(&s->log, &e);
            request_bad(s, r, "%s", e.user);
            return false;
        }
    }
    return true;
}

/* Only for an administrator, and only into the dictionary of quota_set. */
void setquota_begin(struct session *s, struct request *r)
{
    struct quota_root *root;

    if (r->args == NULL || r->args->next == NULL) {
        request_bad(s, r, "Missing arguments");
    } else if (!imap_arg_is_string(r->args) || r->args->next->type != IMAP_LIST) {
        request_bad(s, r, "Invalid arguments");
    } else if (!mail_user_is_admin(s->user)) {
        request_reply(r, "NO Quota can be changed only by admin.");
    } else {
        root = quota_root_find(s->user, r->args->text);
        if (root == NULL)
            request_reply(r, "NO Quota root doesn't exist.");
        else if (set_limits(s, r, root, r->args->next->children))
            request_reply(r, "OK Setquota completed.");
    }
}
