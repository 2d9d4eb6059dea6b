/* Sorting by numbers in linear time, stable: for SORT and THREAD, whose keys are numbers or become numbers. */
#ifndef YARILO_STORE_ORDER_H
#define YARILO_STORE_ORDER_H

#include "base/base.h"

/* Places 0 .. count-1 of some array, in an order. */
struct order {
    uint32_t count;
    uint32_t *at, *spare;
};
void order_init(struct order *, uint32_t count);   /* 0, 1, 2 ... */
/* By numbers[place]; places with the same number stay as they are. */
void order_by(struct order *, const uint64_t *numbers, bool reverse);
/* Equal texts get equal numbers, smaller ones smaller numbers: 1, 2 ... */
void order_number_texts(const struct slice *texts, uint32_t count, uint64_t *numbers);
uint32_t *order_take(struct order *);               /* `at` is the caller's, with room for one more; the rest is freed */
void order_free(struct order *);

#endif
