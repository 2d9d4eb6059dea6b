/* warning.c - scripts that are told when usage crosses a limit (quota-acl-plugins 1.5, ipc 15).
 *
 * The command's first word is a socket of a script service below base_dir; the rest are its arguments. Nobody waits for it.
 * Only the first warning that matches is executed. */
#include "store/quota/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
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

static void send_command(int fd, struct slice words)
{
    struct buffer out = {0};
    struct slice word;

    buffer_append_str(&out, "VERSION\tscript\t4\t0\nnoreply\n");
    while (words.size > 0 && slice_split(&words, ' ', &word)) {
        if (word.size == 0)
            continue;
        text_tab_escape(&out, word);
        buffer_append_byte(&out, '\n');
    }
    buffer_append_byte(&out, '\n');
    /* A few hundred bytes into an empty socket: never blocks. */
    if (send(fd, out.at, out.size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_error(NULL, "quota warning: send() failed: %m");
    buffer_free(&out);
}

void quota_run_script(struct mail_user *user, const char *command, const char *why)
{
    struct slice rest = slice_from_str(command), name;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, n;

    log_debug(user->log_p, "quota: Executing warning: %s%s%s%s", command, why == NULL ? "" : " (because ", why == NULL ? "" : why,
              why == NULL ? "" : ")");
    if (!slice_split(&rest, ' ', &name))
        return;
    if (slice_starts(name, SLICE("unix:")))
        name = slice_from(name, 5);
    if (name.size > 0 && name.at[0] == '/')
        n = snprintf(address.sun_path, sizeof(address.sun_path), "%.*s", (int)name.size, (const char *)name.at);
    else
        n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%.*s", conf_str(user->settings, SET_base_dir), (int)name.size,
                     (const char *)name.at);
    if (n < 0 || (size_t)n >= sizeof(address.sun_path)) {
        log_error(user->log_p, "program_client_create(%s) failed: the path is too long", command);
        return;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        log_error(user->log_p, "quota: Failed to run warning: net_connect_unix(%s) failed: %m", address.sun_path);
    else
        send_command(fd, rest);
    if (fd >= 0)
        close(fd);
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
