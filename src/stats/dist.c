/* dist.c - count, sum, least, greatest; median and percentiles of an even choice of what came (reservoir sampling). */
#include "stats/stats.h"

#include <math.h>
#include <stdlib.h>

void dist_add(struct dist *d, uint64_t value)
{
    size_t at = (size_t)d->count;

    if (at < DIST_SAMPLES && at >= d->room) {
        d->room = d->room == 0 ? 8 : d->room * 2 > DIST_SAMPLES ? DIST_SAMPLES : d->room * 2;
        d->samples = mem_realloc(d->samples, d->room * sizeof(*d->samples));
    } else if (at >= DIST_SAMPLES) {
        at = (size_t)((double)(d->count + 1) * drand48());
    }
    if (at < DIST_SAMPLES)
        d->samples[at] = value;
    d->min = d->count == 0 || value < d->min ? value : d->min;
    d->max = value > d->max ? value : d->max;
    d->sum += value;
    d->count++;
}

void dist_reset(struct dist *d)
{
    mem_free(d->samples);
    *d = (struct dist){0};
}

static size_t sample_count(const struct dist *d)
{
    return d->count < DIST_SAMPLES ? (size_t)d->count : DIST_SAMPLES;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Sorting does not hurt: which sample the next one takes the place of is by chance. */
static size_t sorted(const struct dist *d)
{
    size_t n = sample_count(d);

    if (n > 1)
        qsort(d->samples, n, sizeof(*d->samples), compare);
    return n;
}

double dist_average(const struct dist *d)
{
    return d->count == 0 ? 0 : (double)d->sum / (double)d->count;
}

double dist_variance(const struct dist *d)
{
    size_t n = sample_count(d);
    double average = dist_average(d), sum = 0;

    for (size_t i = 0; i < n; i++) {
        double off = (double)d->samples[i] - average;

        sum += off * off;
    }
    return n == 0 ? 0 : sum / (double)n;
}

uint64_t dist_median(const struct dist *d)
{
    size_t n = sorted(d);

    if (n == 0)
        return 0;
    return n % 2 == 1 ? d->samples[n / 2] : (d->samples[n / 2 - 1] + d->samples[n / 2]) / 2;
}

uint64_t dist_percentile(const struct dist *d, double fraction)
{
    size_t n = sorted(d);
    double at = ceil((double)n * fraction - 1e-8 * (double)n) - 1;

    if (n == 0)
        return 0;
    return d->samples[at < 0 ? 0 : at >= (double)n ? n - 1 : (size_t)at];
}
