/* Steps: how long work is cut into bounded pieces. A function that returns a step does at most one slice of its
 * work (its budget) and says why it stopped. */
#ifndef YARILO_BASE_STEP_H
#define YARILO_BASE_STEP_H

#include <stdbool.h>
#include <stdint.h>

enum step {
    STEP_DONE,
    STEP_MORE,        /* slice used up; call again */
    STEP_OUTPUT_FULL, /* call again when the client has read */
    STEP_INPUT,       /* call again when the client has sent something */
    STEP_WAIT,        /* a lock, an fsync or an rpc will wake the caller */
    STEP_ERROR        /* the struct error is filled */
};

/* A slice of time. Checked per message, per 64 KiB, per 500 names. */
struct budget {
    uint64_t until_ns; /* CLOCK_MONOTONIC; 0 = no limit */
    uint32_t units;    /* steps left; counts down; UINT32_MAX = no limit */
};

uint64_t time_monotonic_ns(void);
/* In builds with --enable-faults the environment's YARILO_SLICE_UNITS makes every slice that many units, so that tests
 * see each operation cut wherever it can be cut. */
struct budget budget_ms(unsigned ms);
#define BUDGET_UNLIMITED ((struct budget){0, UINT32_MAX})
/* Counts `units` down; true when the slice is used up. Reads the clock only every 16th unit. */
bool budget_spent(struct budget *, uint32_t units);

#endif
