/* What the two halves of the encoder share: batch_encode.c and batch_keyword.c. */
#ifndef YARILO_INDEX_BATCH_ENCODE_H
#define YARILO_INDEX_BATCH_ENCODE_H

#include "index/batch.h"

struct encoder {
    struct index *index;
    struct state *s;
    struct index_batch *b;
    struct buffer *out;
    uint32_t type_bits;     /* EXTERNAL, SYNC */
    unsigned records;
    size_t record_at;       /* where the open record begins */
    struct index_ranges failed;
};

void encode_begin(struct encoder *, uint32_t type);
void encode_end(struct encoder *);
void encode_u16(struct encoder *, uint16_t);
void encode_u32(struct encoder *, uint32_t);
void encode_pad4(struct encoder *);
/* May the batch change record i (UNCHANGEDSINCE)? If not, its UID is noted as failed. */
bool encode_may_change(struct encoder *, uint32_t i);
void encode_keywords(struct encoder *);

#endif
