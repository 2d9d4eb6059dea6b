/* Descriptors over UNIX sockets. A descriptor travels with the first byte of a message (ipc 24.1); a message with
 * more descriptors than expected has the surplus closed. */
#ifndef YARILO_NET_FDPASS_H
#define YARILO_NET_FDPASS_H

#include "base/base.h"

/* One sendmsg with all bytes and at most one descriptor (-1 = none). Returns bytes sent, or -1 with errno set
 * (EAGAIN is the caller's to handle). */
ssize_t net_send_fd(int socket, struct slice, int fd);
/* One recvmsg into `at`. *fd = the descriptor (O_CLOEXEC) or -1. 0 = end, -1 with errno. */
ssize_t net_receive_fd(int socket, void *at, size_t size, int *fd);
/* Is the descriptor readable as UNIX stream or seqpacket peer: pid, uid of the connector; -1 unknown. */
int net_peer_credentials(int socket, pid_t *pid, uid_t *uid);

#endif
