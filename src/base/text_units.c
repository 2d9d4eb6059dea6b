/* text_units.c - the words for times and sizes in Dovecot's configuration (config 5).
 *
 * Digits, spaces (no TAB), a unit. Any prefix of a unit's name will do, and where two begin alike the shorter
 * unit's name wins: "m", "mi" and "min" are minutes. No signs, no fractions. */
#include "base/text.h"

/* Takes digits and the spaces behind them off the front of *s. */
static int take_number(struct slice *s, uint64_t *number)
{
    size_t n = 0;

    while (n < s->size && s->at[n] >= '0' && s->at[n] <= '9')
        n++;
    if (!slice_to_u64(slice_head(*s, n), number))
        return -1;
    while (n < s->size && s->at[n] == ' ')
        n++;
    *s = slice_from(*s, n);
    return 0;
}

int text_parse_msecs(struct slice s, uint64_t *ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"secs", 1000},     {"seconds", 1000},  {"mins", 60000},     {"minutes", 60000},
                 {"msecs", 1},       {"mseconds", 1},    {"millisecs", 1},    {"milliseconds", 1},
                 {"hours", 3600000}, {"days", 86400000}, {"weeks", 604800000}};
    uint64_t number;

    if (take_number(&s, &number) < 0)
        return -1;
    if (s.size == 0) {
        if (number == 0)
            *ms = 0;
        return number == 0 ? 0 : -1;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (slice_starts_nocase(slice_from_str(units[i].name), s)) {
            uint64_t product;

            if (__builtin_mul_overflow(number, units[i].ms, &product))
                return -1;
            *ms = product;
            return 0;
        }
    }
    return -1;
}

int text_parse_size(struct slice s, uint64_t *bytes)
{
    static const char letters[] = "bkmgt"; /* each 1024 times the one before */
    uint64_t number;
    const char *letter;

    if (take_number(&s, &number) < 0)
        return -1;
    if (s.size > 0) {
        letter = memchr(letters, text_lower((char)s.at[0]), sizeof(letters) - 1);
        if (letter == NULL)
            return -1;
        s = slice_from(s, 1);
        if (*letter != 'b') {
            if (s.size > 0 && text_lower((char)s.at[0]) == 'i')
                s = slice_from(s, 1);
            if (s.size > 0 && text_lower((char)s.at[0]) == 'b')
                s = slice_from(s, 1);
        }
        if (s.size > 0)
            return -1;
        for (; letter > letters; letter--)
            if (__builtin_mul_overflow(number, 1024, &number))
                return -1;
    }
    *bytes = number;
    return 0;
}
