/* Lines over a blocking socket, for the processes here that serve one client each.
 *
 * Nothing is read beyond the line that was asked for: what stands behind is the next process's, which gets the same socket. */
#ifndef YARILO_URLAUTH_WIRE_H
#define YARILO_URLAUTH_WIRE_H

#include "base/base.h"

struct wire {
    int fd;
    int guard;                 /* its end ends the waiting; -1: none */
    uint64_t in, out;          /* bytes */
};

enum wire_result { WIRE_LINE, WIRE_END, WIRE_TIMEOUT, WIRE_TOO_LONG };

/* One line without its LF, at most `most` bytes; in the buffer, which is emptied first. */
enum wire_result wire_line(struct wire *, struct buffer *line, size_t most, unsigned secs);
/* -1: the peer is gone, or does not read for five minutes. */
int wire_write(struct wire *, struct slice bytes);
/* Fields of a line, unescaped; at least one. */
size_t wire_fields(struct arena *, const struct buffer *line, struct slice **fields);

#endif
