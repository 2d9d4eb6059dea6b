/* cmd_quota.c - quota get, quota recalc (doveadm 6.10). */
#include "mail.h"
#include "store/quota/quota.h"

static int get_prepare(struct doveadm *d)
{
    doveadm_mail_print(d, "table");
    print_header(d, "root", "Quota name", 0);
    print_header(d, "type", "Type", 0);
    print_header(d, "value", "Value", PRINT_RIGHT);
    print_header(d, "limit", "Limit", PRINT_RIGHT);
    print_header(d, "percent", "%", PRINT_RIGHT | PRINT_EXPAND);
    return DOVEADM_OK;
}

static int not_enabled(void)
{
    log_error(NULL, "Quota not enabled");
    return DOVEADM_NOTFOUND;
}

static void put_row(struct doveadm *d, struct quota_root *root, const char *type, uint64_t value, uint64_t limit, uint64_t unit)
{
    print_value(d, quota_root_name(root));
    print_value(d, type);
    value = value / unit + (value % unit != 0);
    limit = limit / unit + (limit % unit != 0);
    print_number(d, value);
    if (limit == 0) {
        print_value(d, "-");
        print_value(d, "0");
        return;
    }
    print_number(d, limit);
    print_number(d, value > UINT64_MAX / 100 ? 0 : value * 100 / limit); /* of what is shown */
}

/* The indexer is still counting. */
static void put_unknown(struct doveadm *d, struct quota_root *root, const char *type, const struct error *e)
{
    log_error(NULL, "Failed to get quota resource %s: %s", type, e->admin);
    print_value(d, quota_root_name(root));
    print_value(d, type);
    for (int i = 0; i < 3; i++)
        print_value(d, "error");
}

static int get_run(struct doveadm *d, struct mail_user *user)
{
    struct quota_root *root;
    int status = DOVEADM_OK;

    if (quota_root_at(user, 0) == NULL)
        return not_enabled();
    for (size_t i = 0; (root = quota_root_at(user, i)) != NULL; i++) {
        struct quota_amount used, limits;
        struct error e;

        if (quota_usage(root, &used, &e) < 0) {
            bool busy = e.class == ERROR_BUSY;

            if (busy)
                put_unknown(d, root, "STORAGE", &e);
            if (busy && quota_root_counts(root))
                put_unknown(d, root, "MESSAGE", &e);
            doveadm_status_add(&status, busy ? DOVEADM_TEMPFAIL : doveadm_mail_failed(d, &e, "Failed to get quota resource"));
            continue;
        }
        limits = quota_root_limits(root);
        put_row(d, root, "STORAGE", used.bytes, limits.bytes, 1024);
        if (quota_root_counts(root))
            put_row(d, root, "MESSAGE", used.count, limits.count, 1);
    }
    return status;
}

int doveadm_quota_get(struct doveadm *d)
{
    static const struct mail_command command = {get_prepare, get_run};

    return doveadm_mail_run(d, &command);
}

static int recalc_run(struct doveadm *d, struct mail_user *user)
{
    struct quota_root *root;
    int status = DOVEADM_OK;

    if (quota_root_at(user, 0) == NULL)
        return not_enabled();
    for (size_t i = 0; (root = quota_root_at(user, i)) != NULL; i++) {
        struct error e;

        if (quota_recalculate(root, &e) < 0) {
            if (e.class == ERROR_BUSY) /* comes by itself */
                log_error(NULL, "Recalculating quota failed: %s", e.admin);
            else
                doveadm_status_add(&status, doveadm_mail_failed(d, &e, "Recalculating quota failed"));
        }
    }
    return status;
}

int doveadm_quota_recalc(struct doveadm *d)
{
    static const struct mail_command command = {NULL, recalc_run};

    return doveadm_mail_run(d, &command);
}
