/* What `doveadm dump` prints of a log and of an index, line by line as the real one does (doveadm 7.4). Pure: bytes
 * or an open index in, text out. */
#ifndef YARILO_INDEX_DUMP_H
#define YARILO_INDEX_DUMP_H

#include "index/index.h"

/* A transaction log. -1: the text so far is in *out, the error has Dovecot's words for what follows it. */
int index_dump_log(struct slice file, struct buffer *out, struct error *);
/* An index with its cache; uid 0 = all messages. `path` is how the heading calls the base index. */
void index_dump(struct index *, const char *path, uint32_t uid, struct buffer *out);

#endif
