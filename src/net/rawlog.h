/* Copies of what a connection reads and writes (rawlog_dir and its like): DIR/20220131-120000.PID.N.in and .out. Each line has
 * the time at which its first byte passed in front. A copy that cannot be written ends, which is logged; the connection goes on. */
#ifndef YARILO_NET_RAWLOG_H
#define YARILO_NET_RAWLOG_H

#include "base/base.h"

struct rawlog;

/* `n` tells the connections of the process apart; the log lives as long. NULL: there is no such directory. */
struct rawlog *rawlog_open(const char *dir, unsigned n, const struct log *);
void rawlog_close(struct rawlog **);                 /* NULL inside is fine, below too */
void rawlog_in(struct rawlog *, struct slice);
void rawlog_out(struct rawlog *, struct slice);

#endif
