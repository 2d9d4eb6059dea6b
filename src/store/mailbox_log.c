/* mailbox_log.c - dovecot.mailbox.log: what dsync learns of deletions and renames (maildir-and-layouts 6.6).
 * Best effort: a line that cannot be written is logged and costs dsync a guess. */
#include "store/internal.h"

#include <fcntl.h>
#include <nettle/sha1.h>
#include <time.h>
#include <unistd.h>

#define LOG_NAME "dovecot.mailbox.log"
#define LOG_MAX 4096

static int append_record(int dir, const struct mail_modes *modes, struct slice record, struct error *e)
{
    struct stat st;
    int r, fd = openat(dir, LOG_NAME, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= LOG_MAX) {
        close(fd);
        if (os_rename(dir, LOG_NAME, dir, LOG_NAME ".2", e) < 0)
            return -1;
        fd = -1;
    }
    if (fd < 0) {
        fd = os_create(dir, LOG_NAME, modes->file, modes->gid, e);
        if (fd < 0 && e->class == ERROR_EXISTS)
            fd = openat(dir, LOG_NAME, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
        else if (fd >= 0 && fcntl(fd, F_SETFL, O_APPEND) < 0)
            error_sys(e, "fcntl", LOG_NAME);
    }
    if (fd < 0)
        return -1;
    r = os_append(fd, record, e);
    close(fd);
    return r;
}

void mailbox_log_append(const struct mail_storage *storage, enum mailbox_log_type type, const unsigned char guid[16])
{
    struct arena *arena = arena_new();
    const char *root = mail_location_path(&storage->at, arena, "", PATH_INDEX);
    struct mail_modes modes = mail_modes_of(storage->at.root);
    unsigned char record[24] = {(unsigned char)type};
    uint32_t now = (uint32_t)time(NULL);
    struct error e;
    int dir;

    memcpy(record + 4, guid, 16);
    for (int i = 0; i < 4; i++)
        record[20 + i] = (unsigned char)(now >> (24 - 8 * i));
    dir = root == NULL ? -1 : open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0) {
        if (append_record(dir, &modes, slice_of(record, sizeof(record)), &e) < 0) {
            error_context(&e, "%s/" LOG_NAME ": ", root);
            log_error_value(storage->ns->user->log_p, &e);
        }
        close(dir);
    }
    arena_free(arena);
}

void mailbox_log_append_name(const struct mail_storage *storage, enum mailbox_log_type type, const char *vname)
{
    struct sha1_ctx ctx;
    unsigned char digest[SHA1_DIGEST_SIZE];

    sha1_init(&ctx);
    sha1_update(&ctx, strlen(vname), (const unsigned char *)vname);
    sha1_digest(&ctx, sizeof(digest), digest);
    mailbox_log_append(storage, type, digest);
}
