/* os_nfs.c - a client of NFS asks its server for a file's attributes when the file is opened, and believes its cache in between
 * (up to a minute for folders). Who wants to know whether another machine has changed a file opens it first. */
#include "base/os_nfs.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void touch(int dir, const char *name, int flags)
{
    int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);

    if (fd >= 0)
        close(fd);
}

void os_nfs_flush(int dir, const char *folder, const char *file)
{
    const int kept = errno;

    touch(dir, folder == NULL ? "." : folder, O_DIRECTORY);
    if (file != NULL)
        touch(dir, file, O_NOFOLLOW);
    errno = kept;
}
