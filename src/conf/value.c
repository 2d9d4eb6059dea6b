/* Types of values (config 5): what is accepted, the number behind it, the form in which it is printed, and the exact
 * texts of refusal. */
#include "base/text.h"
#include "conf/schema.h"

#include <inttypes.h>
#include <stdio.h>

static int parse_bool(const char *text, uint64_t *number, struct error *e)
{
    struct slice word = slice_from_str(text);
    if (slice_equal_str_nocase(word, "yes") || slice_equal_str_nocase(word, "y") || slice_equal_str(word, "1"))
        *number = 1;
    else if (slice_equal_str_nocase(word, "no"))
        *number = 0;
    else
        return error_set(e, ERROR_INVALID, "Invalid boolean value: %s (use yes or no)", text);
    return 0;
}

/* Digits at *at, moved behind them. False: none, or more than 64 bits (then *huge). */
static bool read_digits(const char **at, unsigned base, uint64_t *number, bool *huge)
{
    const char *p = *at;
    uint64_t n = 0;
    *huge = false;
    for (; *p >= '0' && *p < (char)('0' + base); p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (__builtin_mul_overflow(n, (uint64_t)base, &n) || __builtin_add_overflow(n, (uint64_t)digit, &n))
            *huge = true;
    }
    bool any = p != *at;
    *at = p;
    *number = n;
    return any && !*huge;
}

static int parse_uint(const char *text, uint64_t *number, struct error *e)
{
    bool huge, negative = text[0] == '-';
    const char *at = text + negative;
    bool fine = read_digits(&at, 10, number, &huge);
    if ((!fine && !huge) || *at != '\0')
        return error_set(e, ERROR_INVALID, "Invalid number %s: Not a valid number", text);
    if (negative)
        return error_set(e, ERROR_INVALID, "Invalid number %s: Number too small", text);
    if (huge || *number > UINT32_MAX)
        return error_set(e, ERROR_INVALID, "Invalid number %s: Number too large", text);
    return 0;
}

static int parse_octal(const char *text, uint64_t *number, struct error *e)
{
    if (text[0] != '0')
        return parse_uint(text, number, e);
    bool huge;
    const char *at = text;
    if (!read_digits(&at, 8, number, &huge) || *at != '\0')
        return error_set(e, ERROR_INVALID, "Invalid number: %s", text);
    *number &= UINT32_MAX;
    return 0;
}

static int parse_port(const char *text, uint64_t *number, struct error *e)
{
    bool huge;
    const char *at = text;
    if (!read_digits(&at, 10, number, &huge) || *at != '\0' || *number > 65535)
        return error_set(e, ERROR_INVALID, "Invalid port number %s", text);
    return 0;
}

static int parse_size(const char *text, uint64_t *number, struct error *e)
{
    bool huge;
    const char *at = text;
    if (!read_digits(&at, 10, number, &huge) && !huge)
        return error_set(e, ERROR_INVALID, "Invalid size: %s", text);
    while (*at == ' ')
        at++;
    uint64_t times = 1;
    char unit = text_lower(*at);
    if (unit == 'b') {
        at++;
    } else if (unit != '\0') {
        const char *units = "kmgt", *which = strchr(units, unit);
        if (which == NULL)
            return error_set(e, ERROR_INVALID, "Invalid size: %s", text);
        times = (uint64_t)1 << (10 * (which - units + 1));
        at++;
        if (text_lower(*at) == 'i')
            at++;
        if (text_lower(*at) == 'b')
            at++;
    }
    if (*at != '\0')
        return error_set(e, ERROR_INVALID, "Invalid size: %s", text);
    if (huge || __builtin_mul_overflow(*number, times, number))
        return error_set(e, ERROR_INVALID, "Size is too large: %s", text);
    return 0;
}

/* A unit may be cut short: "mi", "minut". */
static bool is_prefix(struct slice unit, const char *word)
{
    return slice_starts_nocase(slice_from_str(word), unit);
}

/* Milliseconds of one unit, or 0. Minutes come before milliseconds: "m" and "mi" are minutes. */
static uint64_t unit_msecs(struct slice unit)
{
    static const struct {
        const char *word;
        uint64_t msecs;
    } units[] = {
        {"secs", 1000}, {"seconds", 1000}, {"mins", 60000}, {"minutes", 60000}, {"hours", 3600000},
        {"days", 86400000}, {"weeks", 604800000}, {"msecs", 1}, {"mseconds", 1}, {"millisecs", 1}, {"milliseconds", 1},
    };
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (is_prefix(unit, units[i].word))
            return units[i].msecs;
    }
    return 0;
}

static int parse_time(const char *text, bool msecs, uint64_t *number, struct error *e)
{
    bool huge;
    const char *at = text;
    if (!read_digits(&at, 10, number, &huge) && !huge)
        return error_set(e, ERROR_INVALID, "Invalid time interval: %s", text);
    while (*at == ' ')
        at++;
    if (*at == '\0') {
        if (*number == 0 && !huge)
            return 0;
        return error_set(e, ERROR_INVALID, "Time interval '%s' is missing units (add e.g. 's' for seconds)", text);
    }
    uint64_t each = unit_msecs(slice_from_str(at));
    if (each == 0)
        return error_set(e, ERROR_INVALID, "Invalid time interval: %s", text);
    if (huge || __builtin_mul_overflow(*number, each, number))
        return error_set(e, ERROR_INVALID, "Time interval is too large: %s", text);
    if (!msecs) {
        if (*number % 1000 != 0)
            return error_set(e, ERROR_INVALID, "Milliseconds not supported for this setting: %s", text);
        *number /= 1000;
    }
    if (*number > UINT32_MAX)
        return error_set(e, ERROR_INVALID, "Time interval is too large: %s", text);
    return 0;
}

static int parse_enum(const char *words, const char *text, struct error *e)
{
    struct slice rest = slice_from_str(words), word;
    while (slice_split(&rest, '|', &word)) {
        if (slice_equal_str(word, text))
            return 0;
    }
    return error_set(e, ERROR_INVALID, "Invalid value: %s", text);
}

int conf_parse_value(enum conf_type type, const char *words, const char *text, uint64_t *number, struct error *e)
{
    *number = 0;
    switch (type) {
    case CONF_STR:
    case CONF_STR_VARS:
        return 0;
    case CONF_BOOL:
        return parse_bool(text, number, e);
    case CONF_UINT:
        return parse_uint(text, number, e);
    case CONF_OCTAL:
        return parse_octal(text, number, e);
    case CONF_PORT:
        return parse_port(text, number, e);
    case CONF_SIZE:
        return parse_size(text, number, e);
    case CONF_TIME:
        return parse_time(text, false, number, e);
    case CONF_TIME_MSECS:
        return parse_time(text, true, number, e);
    case CONF_ENUM:
        return parse_enum(words, text, e);
    }
    return error_set(e, ERROR_BUG, "no such type of setting");
}

static void format_size(uint64_t n, struct buffer *out)
{
    static const char units[] = {'B', 'k', 'M', 'G', 'T'};
    size_t unit = 0;
    while (n != 0 && n % 1024 == 0 && unit + 1 < sizeof(units)) {
        n /= 1024;
        unit++;
    }
    if (n == 0)
        buffer_append_str(out, "0");
    else
        buffer_printf(out, "%" PRIu64 " %c", n, units[unit]);
}

static void format_secs(uint64_t n, struct buffer *out)
{
    static const struct {
        uint64_t secs;
        const char *word;
    } units[] = {{604800, "weeks"}, {86400, "days"}, {3600, "hours"}, {60, "mins"}, {1, "secs"}};
    if (n == 0) {
        buffer_append_str(out, "0");
        return;
    }
    size_t i = 0;
    while (n % units[i].secs != 0)
        i++;
    buffer_printf(out, "%" PRIu64 " %s", n / units[i].secs, units[i].word);
}

void conf_format_number(enum conf_type type, uint64_t n, struct buffer *out)
{
    switch (type) {
    case CONF_BOOL:
        buffer_append_str(out, n != 0 ? "yes" : "no");
        break;
    case CONF_OCTAL:
        buffer_printf(out, "0%" PRIo64, n);
        break;
    case CONF_SIZE:
        format_size(n, out);
        break;
    case CONF_TIME:
        format_secs(n, out);
        break;
    case CONF_TIME_MSECS:
        if (n % 1000 == 0)
            format_secs(n / 1000, out);
        else
            buffer_printf(out, "%" PRIu64 " ms", n);
        break;
    default:
        buffer_printf(out, "%" PRIu64, n);
        break;
    }
}

int conf_canonical_value(const struct conf_def *def, const char *text, struct arena *arena, const char **canonical,
                         uint64_t *number, struct error *e)
{
    if (conf_parse_value((enum conf_type)def->type, def->value, text, number, e) < 0)
        return -1;
    if (def->type == CONF_STR || def->type == CONF_STR_VARS || def->type == CONF_ENUM) {
        *canonical = text;
        return 0;
    }
    struct buffer out = {0};
    conf_format_number((enum conf_type)def->type, *number, &out);
    *canonical = arena_str(arena, buffer_slice(&out));
    buffer_free(&out);
    return 0;
}
