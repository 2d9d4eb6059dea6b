/* Lines of the indexer (ipc 13): what programs ask of it, and what it asks of the indexer-worker service.
 *
 *     program -> indexer         VERSION indexer 1 0, then   APPEND|PREPEND tag user mailbox [max-recent [session]]
 *                                                            OPTIMIZE tag user mailbox
 *     indexer -> program         VERSION indexer 1 0, then   tag OK, and of a tag that is not 0: tag percent ..., tag 100 or tag -1
 *     indexer -> worker          VERSION indexer-master-worker 1 0, then   user mailbox session max-recent flags
 *     worker  -> indexer         VERSION indexer-worker-master 1 0, how many of them there may be, then   percent ..., 100 or -1
 *
 * Fields are separated by TAB and escaped. Names are what somebody else has said: who may be a user, and what may be a mailbox, is
 * decided where the mailbox is opened. */
#ifndef YARILO_RPC_INDEXER_H
#define YARILO_RPC_INDEXER_H

#include "rpc/line.h"

#define INDEXER_VERSION_NAME "indexer"
#define INDEXER_TO_WORKER_NAME "indexer-master-worker"
#define INDEXER_FROM_WORKER_NAME "indexer-worker-master"

enum { INDEXER_VERSION = 1, INDEXER_LINE_MAX = 64 * 1024, INDEXER_DONE = 100, INDEXER_FAILED = -1 };

enum indexer_command { INDEXER_APPEND, INDEXER_PREPEND, INDEXER_OPTIMIZE };

struct indexer_request {
    enum indexer_command command;
    uint32_t tag;              /* 0: nobody wants to hear of the end */
    const char *user, *mailbox;
    const char *session;       /* whose wish it is; "" = not said */
    uint32_t max_recent;       /* mailboxes with more \Recent messages are left alone; 0 = none is */
    bool limited;              /* max_recent is said, 0 too */
};

/* One line of a program, without its LF; texts in the arena. -1: as the log says it ("Wrong parameter count"). */
int indexer_request_read(struct arena *, struct slice line, struct indexer_request *, struct error *);
void indexer_request_write(struct buffer *, const struct indexer_request *);   /* with LF; empties the buffer first */

struct indexer_work {
    const char *user, *mailbox, *session;
    uint32_t max_recent;
    bool index, optimize;
};

/* The line for a worker. */
int indexer_work_read(struct arena *, struct slice line, struct indexer_work *, struct error *);
void indexer_work_write(struct buffer *, const struct indexer_work *);

/* Asks and goes: the answer is nobody's. Waits only for room in the listen queue, at most `wait_ms`. -1: "net_connect_unix(PATH)
 * failed: ..." or "write(PATH) failed: ...", with the errno. */
int indexer_ask(const char *path, const struct indexer_request *, unsigned wait_ms, struct error *);

#endif
