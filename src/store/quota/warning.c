/* warning.c - scripts that are told when usage crosses a limit (quota-acl-plugins 1.5, ipc 15).
 *
 * The command's first word is a socket of a script service below base_dir; the rest are its arguments. Nobody waits for it.
 * Only the first warning that matches is executed. */
#include "store/quota/internal.h"
#include "store/script.h"

#include <unistd.h>

static uint64_t level(const struct quota_limit *limit, uint64_t whole)
{
    if (!limit->given || limit->value < 0)
        return 0;
    return limit->percent ? whole / 100 * (uint64_t)limit->value + whole % 100 * (uint64_t)limit->value / 100 : (uint64_t)limit->value;
}

static bool crossed(bool below, uint64_t at, uint64_t before, uint64_t after)
{
    if (at == 0)
        return false;
    return below ? before >= at && after < at : before < at && after >= at;
}

void quota_run_script(struct mail_user *user, const char *command, const char *why)
{
    struct slice rest = slice_from_str(command), name;
    struct error e;
    int fd;

    log_debug(user->log_p, "quota: Executing warning: %s%s%s%s", command, why == NULL ? "" : " (because ", why == NULL ? "" : why,
              why == NULL ? "" : ")");
    if (!slice_split(&rest, ' ', &name))
        return;
    if (slice_starts(name, SLICE("unix:")))
        name = slice_from(name, 5);
    fd = script_start(user, name, rest, false, &e);
    if (fd >= 0) {
        close(fd);
        return;
    }
    error_context(&e, "quota: Failed to run warning: ");
    log_error_value(user->log_p, &e);
}

void quota_warn(struct quota_root *root, const struct quota_amount *before, const struct quota_amount *after)
{
    for (size_t i = 0; i < root->warnings.count; i++) {
        const struct quota_warning *w = &root->warnings.at[i];

        if (crossed(w->below, level(&w->bytes, root->limits.bytes), before->bytes, after->bytes) ||
            crossed(w->below, level(&w->count, root->limits.count), before->count, after->count)) {
            quota_run_script(root->quota->user, w->command, NULL);
            return;
        }
    }
}
