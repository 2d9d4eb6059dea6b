/* A dbox file from anybody: walked message by message, then repaired; what the repair wrote must be walked without fault,
 * and a second repair must keep all of its messages. */
#include "store/dbox/dbox.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix, (void)text;
}

static unsigned walk(int dir, bool sane)
{
    struct dbox_metadata meta;
    struct dbox_message message;
    struct dbox_file file;
    struct error e;
    uint64_t at = 0;
    unsigned n = 0;
    int r;

    if (dbox_file_open(&file, dir, ".", "f", &e) < 0) {
        if (sane && e.class != ERROR_NOT_FOUND)
            abort();
        return 0;
    }
    do {
        struct arena *arena = arena_new();

        r = dbox_file_next(&file, &at, &message, arena, &meta, &e);
        if (r == 1) {
            struct mime_source source = dbox_message_source(file.fd, &message, arena);
            unsigned char byte;

            n++;
            if (message.end > file.size || message.body + message.size > message.end ||
                source.read(source.arg, message.size, &byte, 1, &e) != 0)
                abort();
            if (sane && (meta.guid == NULL || !meta.has_virtual))
                abort();
        }
        arena_free(arena);
    } while (r == 1);
    if (sane && r != 0)
        abort();
    dbox_file_close(&file);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct mail_modes modes = {0600, 0700, (gid_t)-1};
    static int dir = -1;
    struct error e;
    unsigned n;
    int fd;

    if (dir < 0) {
        char path[] = "/dev/shm/dbox_fuzz.XXXXXX";

        log_capture(ignore, NULL);
        if (mkdtemp(path) == NULL || (dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
            abort();
    }
    fd = openat(dir, "f", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || (size > 0 && write(fd, data, size) != (ssize_t)size))
        abort();
    close(fd);
    walk(dir, false);
    if (dbox_file_fix(dir, ".", "f", 0, &modes, NULL, &e) < 0)
        abort();
    n = walk(dir, true);
    if (n > 0 && (dbox_file_fix(dir, ".", "f", 0, &modes, NULL, &e) != 1 || walk(dir, true) < n))
        abort();
    unlinkat(dir, "f", 0);
    unlinkat(dir, "f.broken", 0);
    return 0;
}
