/* welcome.c - the plugin of that name: a script runs when a user's INBOX has been made (quota-acl-plugins 6).
 *
 * With welcome_wait the first SELECT comes back when the script has ended, so that what it delivers is seen; no session of
 * others waits for it. */
#include "store/internal.h"
#include "store/later.h"
#include "store/script.h"

#include <errno.h>
#include <unistd.h>

#define WAIT_NS (30 * 1000000000ull)

struct welcome_op {
    struct store_op op;            /* first */
    struct mail_user *user;        /* referenced */
    const char *path;              /* in its arena */
    int fd;
    uint64_t until_ns;
};

static enum step run(struct store_op *op, struct budget *budget, struct error *e)
{
    struct welcome_op *w = (struct welcome_op *)op;
    char answer;
    ssize_t n = read(w->fd, &answer, 1);

    (void)budget;
    (void)e;
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && time_monotonic_ns() < w->until_ns)
        return STEP_WAIT;
    if (n < 0)
        log_write(w->user->log_p, LOG_LEVEL_ERROR, "welcome: %s failed: %s", w->path, errno == EAGAIN ? "Timeout while waiting for the script" : strerror(errno));
    else if (n == 0)
        log_write(w->user->log_p, LOG_LEVEL_ERROR, "welcome: %s failed: Only 0 bytes read", w->path);
    else if (answer != '+')
        log_write(w->user->log_p, LOG_LEVEL_ERROR, "welcome: %s failed: Script returned error", w->path);
    return STEP_DONE;
}

static void end(struct store_op *op)
{
    struct welcome_op *w = (struct welcome_op *)op;

    close(w->fd);
    w->user->welcoming = false;
    mail_user_close(&w->user);
}

bool welcome_wanted(const struct mail_user *user)
{
    return mail_user_plugin(user, "welcome");
}

void welcome_run(struct mail_user *user)
{
    static const struct op_class class = {.run = run, .end = end};
    const bool wait = mail_user_plugin_bool(user, "welcome_wait");
    struct slice rest, path;
    struct welcome_op *w;
    const char *command;
    struct error e;
    int fd = -1;

    if (mail_user_plugin_text(user, user->arena, "welcome_script", &command, &e) < 0) {
        log_error_value(user->log_p, &e);
        return;
    }
    rest = slice_from_str(command == NULL ? "" : command);
    if (rest.size == 0 || !slice_split(&rest, ' ', &path))
        return;
    fd = script_start(user, path, rest, wait, &e);
    if (fd < 0) {
        error_context(&e, "welcome: ");
        log_error_value(user->log_p, &e);
        return;
    }
    if (!wait) {
        close(fd);
        return;
    }
    w = store_op_new(sizeof(*w), &class);
    w->user = mail_user_ref(user);
    w->path = arena_str(user->arena, path);
    w->fd = fd;
    w->until_ns = time_monotonic_ns() + WAIT_NS;
    user->welcoming = true;
    store_later(&w->op);
}
