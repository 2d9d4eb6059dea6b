/* lmtp_job.c - delivery jobs as bytes. */
#include "lmtp/lmtp_job.h"

enum { FIXED_FIELDS = 7 };

void lmtp_job_begin(struct buffer *out, const char *sender)
{
    struct buffer line = {0};

    line_begin(&line, "MAIL");
    line_field_str(&line, sender);
    line_end(&line);
    buffer_append_slice(out, buffer_slice(&line));
    buffer_free(&line);
}

void lmtp_job_room(struct buffer *out, const char *service, uint64_t size)
{
    struct buffer line = {0};

    line_begin(&line, "ROOM");
    line_field_str(&line, service);
    line_field_num(&line, size);
    line_end(&line);
    buffer_append_slice(out, buffer_slice(&line));
    buffer_free(&line);
}

void lmtp_job_add(struct buffer *out, const struct lmtp_job_rcpt *r)
{
    struct buffer line = {0};

    line_begin(&line, "RCPT");
    line_field_num(&line, r->index);
    line_field_str(&line, r->user);
    line_field_str(&line, r->session);
    line_field_str(&line, r->path);
    line_field_str(&line, r->original == NULL ? "" : r->original);
    line_field_str(&line, r->detail);
    rpc_fields_write(&line, "", &r->userdb);
    line_end(&line);
    buffer_append_slice(out, buffer_slice(&line));
    buffer_free(&line);
}

int lmtp_job_read(struct arena *a, struct slice bytes, struct lmtp_job *out, struct error *e)
{
    VEC(struct lmtp_job_rcpt) rcpts = {0};
    struct slice line, *fields;

    memset(out, 0, sizeof(*out));
    while (bytes.size > 0 && slice_split(&bytes, '\n', &line)) {
        size_t n = text_tab_fields(a, line, &fields);
        if (slice_equal_str(fields[0], "MAIL") && n == 2)
            out->sender = arena_str(a, fields[1]);
        else if (slice_equal_str(fields[0], "ROOM") && n == 3 && slice_to_u64(fields[2], &out->room_size))
            out->room_service = arena_str(a, fields[1]);
        else if (slice_equal_str(fields[0], "RCPT") && n >= FIXED_FIELDS) {
            struct lmtp_job_rcpt r = {.user = arena_str(a, fields[2]),
                                      .session = arena_str(a, fields[3]),
                                      .path = arena_str(a, fields[4]),
                                      .original = arena_str(a, fields[5]),
                                      .detail = arena_str(a, fields[6]),
                                      .userdb = rpc_fields_parse(a, fields, n, FIXED_FIELDS)};
            if (!slice_to_u32(fields[1], &r.index)) {
                VEC_FREE(&rcpts);
                return error_set(e, ERROR_INVALID, "Delivery job: bad index");
            }
            VEC_PUSH(&rcpts, r);
        } else if (line.size > 0) {
            VEC_FREE(&rcpts);
            return error_set(e, ERROR_INVALID, "Delivery job: bad line");
        }
    }
    out->count = rcpts.count;
    out->rcpts = arena_copy(a, rcpts.at, rcpts.count * sizeof(*rcpts.at));
    VEC_FREE(&rcpts);
    if ((out->sender == NULL && out->room_service == NULL) || out->count == 0 || (out->room_service != NULL && out->count != 1))
        return error_set(e, ERROR_INVALID, "Delivery job: incomplete");
    return 0;
}
