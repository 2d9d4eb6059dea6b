/* Looks at paths on NFS (mail_nfs_index, mail_nfs_storage): what an open says is the server's truth (close-to-open consistency,
 * RFC 7530 section 10.3.1), what stat says may be seconds old. */
#ifndef YARILO_BASE_OS_NFS_H
#define YARILO_BASE_OS_NFS_H

/* Opens a folder below `dir` (NULL: itself), then a file in `dir` (NULL: none), and closes them: a stat that follows is true.
 * Best effort; errno is kept. No lock is lost, since ours belong to opens (os_lock.c). */
void os_nfs_flush(int dir, const char *folder, const char *file);

#endif
