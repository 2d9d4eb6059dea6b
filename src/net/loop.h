/* The process's libev loop (DESIGN "Processes"), and what libev leaves open about descriptors that are given away. */
#ifndef YARILO_NET_LOOP_H
#define YARILO_NET_LOOP_H

#include <ev.h>

/* The loop of this process: call it once, before /proc is out of reach (chroot). NULL with errno set. */
struct ev_loop *net_loop_open(void);
/* A descriptor whose watchers have been stopped was given to another process, so that its socket lives on after it is closed
 * here: takes it out of the kernel's set. libev does not: it would be woken for the other process's input, and then build
 * the whole set anew, at the cost of a system call for each descriptor that it watches. */
void net_loop_forget(int fd);

#endif
