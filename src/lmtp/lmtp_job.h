/* What a delivery job carries, both ways (the bytes of a JOB in rpc/dispatch.h, and the fields of its answer).
 *
 * Bytes: lines of TAB fields, escaped:
 *     MAIL sender
 *     RCPT index user session path original detail key=value...      one per recipient; userdb fields at the end
 * or, of a job that only asks whether INBOX has room (no descriptor comes with it), with one RCPT, whose userdb fields are those
 * that the dispatcher finds:
 *     ROOM service size
 * Answer: one field per recipient:  "index code enhanced text", e.g. "0 250 2.0.0 Saved". Of ROOM: LMTP_ROOM_* and, but for
 * FITS, the text for the client; then quota_status_success or what belongs there, "" = nothing is set. */
#ifndef YARILO_LMTP_LMTP_JOB_H
#define YARILO_LMTP_LMTP_JOB_H

#include "rpc/line.h"

struct lmtp_job_rcpt {
    unsigned index;
    const char *user, *session, *path, *original /* "" = none */, *detail;
    struct rpc_fields userdb;
};

struct lmtp_job {
    const char *sender;
    struct lmtp_job_rcpt *rcpts;
    size_t count;
    const char *room_service;  /* ROOM: whose settings count; NULL = a delivery */
    uint64_t room_size;
};

#define LMTP_ROOM_FITS "fits"
#define LMTP_ROOM_OVER "over"
#define LMTP_ROOM_LARGE "large"        /* more than the whole limit */
#define LMTP_ROOM_FAILED "failed"

void lmtp_job_room(struct buffer *, const char *service, uint64_t size);

void lmtp_job_begin(struct buffer *, const char *sender);
void lmtp_job_add(struct buffer *, const struct lmtp_job_rcpt *);
int lmtp_job_read(struct arena *, struct slice bytes, struct lmtp_job *, struct error *);

#endif
