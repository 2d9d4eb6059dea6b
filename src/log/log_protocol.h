/* Reading what services write to their standard error (ipc 3): pure, so that tests and fuzzers reach it. */
#ifndef YARILO_LOG_LOG_PROTOCOL_H
#define YARILO_LOG_LOG_PROTOCOL_H

#include "base/base.h"

#define LOG_PROTOCOL_MAGIC 0x02FF03FEu
#define LOG_PROTOCOL_PREFIX_MAX 1024 /* of the handshake */
#define LOG_PROTOCOL_LINE_MAX 8192   /* a longer line is cut */

enum { LOG_PROTOCOL_OPTION = 7 };

struct log_message {
    bool plain;              /* not of the protocol: the service's prefix, level Error */
    unsigned type;           /* enum log_level, or LOG_PROTOCOL_OPTION */
    bool no_service_prefix;
    bool has_prefix;         /* `prefix` replaces the service's for this message */
    uint32_t pid;
    struct slice prefix, text;
};

/* The handshake at the start of a pipe. 1: read, *used bytes are consumed; 0: more bytes are needed; -1: something
 * else stands there (nothing is consumed). */
int log_protocol_handshake(struct slice bytes, struct slice *prefix, size_t *used);
/* One line without its LF. Never fails: what is not understood is a plain line. */
void log_protocol_parse(struct slice line, struct log_message *);

/* Lines on the pipe "MASTER": "<service fd> <pid> BYE", "... FATAL <text>", "... DEFAULT-FATAL <text>". */
struct log_order {
    uint32_t fd, pid;
    enum { LOG_ORDER_BYE, LOG_ORDER_FATAL, LOG_ORDER_DEFAULT_FATAL } what;
    struct slice text;
};
bool log_protocol_order(struct slice line, struct log_order *);

#endif
