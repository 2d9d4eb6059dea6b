/* over.c - quota_over_flag: what a user database believes about being over the limit, compared with what is (quota-acl-plugins 1.6).
 *
 * Where the two differ quota_over_script is told, with the flag as its last argument; it is up to it to change the database. */
#include "store/quota/internal.h"

/* As IMAP shows it: kilobytes, rounded up. */
static bool is_over(struct quota *q)
{
    for (size_t i = 0; i < q->roots.count; i++) {
        struct quota_root *root = q->roots.at[i];
        const struct quota_amount limits = quota_root_limits(root);
        struct quota_amount used;
        struct error e;

        if (limits.bytes == 0 && limits.count == 0)
            continue;
        if (quota_usage(root, &used, &e) < 0) {
            log_error_value(q->user->log_p, &e);
            continue;
        }
        if ((limits.bytes != 0 && (used.bytes + 1023) / 1024 >= (limits.bytes + 1023) / 1024) ||
            (limits.count != 0 && quota_root_counts(root) && used.count >= limits.count))
            return true;
    }
    return false;
}

static void lower(char *text)
{
    for (; *text != '\0'; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text + ('a' - 'A'));
}

/* Letters of either case are the same. */
static bool matches(struct arena *arena, const char *mask, const char *flag)
{
    char *a = arena_strdup(arena, mask), *b = arena_strdup(arena, flag);

    lower(a);
    lower(b);
    return store_wildcard_match(a, b);
}

static void compare(struct quota *q, const char *flag, const char *mask, const char *script)
{
    const bool believed = flag != NULL && matches(q->arena, mask, flag), over = is_over(q);

    log_debug(q->user->log_p, "quota: quota_over_flag=%d(%s) vs currently overquota=%d", believed, flag == NULL ? "(null)" : flag, over);
    if (believed != over)
        quota_run_script(q->user, arena_printf(q->arena, "%s %s", script, flag == NULL ? "" : flag), "quota_over_flag mismatch");
}

void quota_over_check(struct mail_user *user, bool used)
{
    struct quota *q = user->quota;
    const char *flag, *mask, *script;
    struct error e;

    if (q == NULL || q->over_checked || used != mail_user_plugin_bool(user, "quota_over_flag_lazy_check"))
        return;
    q->over_checked = true;
    if (mail_user_plugin_text(user, q->arena, "quota_over_flag", &flag, &e) < 0 ||
        mail_user_plugin_text(user, q->arena, "quota_over_flag_value", &mask, &e) < 0 ||
        mail_user_plugin_text(user, q->arena, "quota_over_script", &script, &e) < 0) {
        log_error_value(user->log_p, &e);
        return;
    }
    if (mask != NULL && *mask != '\0' && script != NULL && *script != '\0')
        compare(q, flag, mask, script);
}
