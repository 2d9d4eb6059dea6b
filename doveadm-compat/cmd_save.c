/* cmd_save.c - doveadm save: a message from a file or standard input into a mailbox (doveadm 6.6). */
#include "mail.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct buffer message; /* read once, saved for each user */

static int save_prepare(struct doveadm *d)
{
    const char *path = doveadm_text(d, "file");
    int fd = path == NULL || strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "open(%s) failed: %s", path, strerror(errno));
    do {
        buffer_reserve(&message, 64 * 1024);
        n = read(fd, message.at + message.size, 64 * 1024);
        if (n > 0)
            message.size += (size_t)n;
    } while (n > 0);
    if (n < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "read(%s) failed: %s", path == NULL ? "stdin" : path, strerror(errno));
    if (fd != STDIN_FILENO)
        close(fd);
    d->input = buffer_slice(&message);
    d->has_input = true;
    return DOVEADM_OK;
}

static int save_run(struct doveadm *d, struct mail_user *user)
{
    const char *name = doveadm_given(d, "mailbox") ? doveadm_text(d, "mailbox") : "INBOX";
    struct mail_meta meta = {0};
    struct save_result result;
    struct mailbox *box;
    struct save *save = NULL;
    struct error e;
    int status = DOVEADM_OK;

    if (doveadm_mailbox_open(d, user, name, MAILBOX_OPEN_SAVE, &box, &e) < 0)
        return doveadm_mail_failed(d, &e, "Failed to open mailbox %s", name);
    if (save_begin(box, &meta, &save, &e) < 0 || save_write(save, buffer_slice(&message), &e) < 0 ||
        save_finish(save, &e) < 0) {
        save_cancel(&save);
        status = doveadm_mail_failed(d, &e, "Saving failed");
    } else if (store_op_wait(save_commit(box, &save, 1, true, NULL, d->arena, &result), &e) < 0)
        status = doveadm_mail_failed(d, &e, "Saving failed");
    mailbox_close(&box);
    return status;
}

int doveadm_save(struct doveadm *d)
{
    static const struct mail_command command = {save_prepare, save_run};
    int status = doveadm_mail_run(d, &command);

    if (d->batch_user == NULL) /* in a batch for the next user */
        buffer_free(&message);
    return status;
}
