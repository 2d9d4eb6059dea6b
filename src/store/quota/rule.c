/* rule.c - limits as texts (quota-acl-plugins 1.2, 1.5): pure functions.
 *
 *     *:storage=1G:messages=1000     Trash:storage=+10%     Spam:ignore     -storage=80% quota-warning 80 alice */
#include "store/quota/internal.h"

#include <stdlib.h>

static int bad(struct error *e, const char *what, const char *text, const char *why)
{
    return error_set(e, ERROR_INVALID, "Invalid %s %s: %s", what, text, why);
}

/* "+10%", "64k", "100": `unit` where none is given. */
static bool parse_limit(struct slice text, uint64_t unit, struct quota_limit *out)
{
    bool negative = false, relative = false;
    uint64_t value;

    if (text.size > 0 && (text.at[0] == '+' || text.at[0] == '-')) {
        negative = text.at[0] == '-';
        relative = true;
        text = slice_from(text, 1);
    }
    *out = (struct quota_limit){.given = true, .relative = relative};
    if (text.size > 1 && text.at[text.size - 1] == '%') {
        out->percent = true;
        if (!slice_to_u64(slice_head(text, text.size - 1), &value) || value > 1000000)
            return false;
    } else if (slice_to_u64(text, &value)) {
        if (value > (uint64_t)INT64_MAX / unit)
            return false;
        value *= unit;
    } else if (unit == 0 || text_parse_size(text, &value) < 0) {
        return false;
    }
    if (value > INT64_MAX)
        return false;
    out->value = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

/* storage=, bytes=, messages= between ':'; what stands for errors in the text. */
static int parse_limits(struct arena *arena, struct slice text, const char *what, const char *whole, struct quota_limit *bytes,
                        struct quota_limit *count, struct error *e)
{
    struct slice part;

    while (text.size > 0 && slice_split(&text, ':', &part)) {
        ptrdiff_t at = slice_find(part, '=');
        struct slice value = at < 0 ? SLICE_EMPTY : slice_from(part, (size_t)at + 1), name = at < 0 ? part : slice_head(part, (size_t)at);
        bool good;

        if (slice_equal_str(name, "storage"))
            good = parse_limit(value, 1024, bytes);
        else if (slice_equal_str(name, "bytes"))
            good = parse_limit(value, 1, bytes);
        else if (slice_equal_str(name, "messages"))
            good = parse_limit(value, 1, count);
        else
            return bad(e, what, whole, arena_printf(arena, "Unknown rule limit name: %s", arena_str(arena, name)));
        if (!good)
            return bad(e, what, whole, arena_printf(arena, "Invalid %s limit: %s", arena_str(arena, name), arena_str(arena, value)));
    }
    return 0;
}

int quota_rule_parse(struct arena *arena, const char *text, struct quota_rule *rule, struct error *e)
{
    struct slice rest = slice_from_str(text);
    ptrdiff_t at = slice_find(rest, ':');

    *rule = (struct quota_rule){0};
    if (at < 0)
        return bad(e, "rule", text, "Invalid rule");
    rule->mailbox = arena_str(arena, slice_head(rest, (size_t)at));
    rest = slice_from(rest, (size_t)at + 1);
    if (slice_equal_str(rest, "ignore")) {
        rule->ignore = true;
        return 0;
    }
    if (slice_starts(rest, SLICE("backend="))) {
        rule->backend = arena_str(arena, slice_from(rest, strlen("backend=")));
        return 0;
    }
    if (parse_limits(arena, rest, "rule", text, &rule->bytes, &rule->count, e) < 0)
        return -1;
    if (strcmp(rule->mailbox, "*") != 0)
        return 0;
    if (rule->bytes.percent || rule->count.percent)
        return bad(e, "rule", text, "Default rule can't be a percentage");
    if (rule->bytes.relative || rule->count.relative)
        return bad(e, "rule", text, "Rule limit cannot have '+'");
    return 0;
}

int quota_warning_parse(struct arena *arena, const char *text, struct quota_warning *warning, struct error *e)
{
    struct slice rest = slice_from_str(text);
    ptrdiff_t at = slice_find(rest, ' ');

    *warning = (struct quota_warning){0};
    if (at < 0)
        return error_set(e, ERROR_INVALID, "Invalid warning rule: %s", text);
    warning->command = arena_str(arena, slice_trim(slice_from(rest, (size_t)at)));
    rest = slice_head(rest, (size_t)at);
    if (rest.size > 0 && (rest.at[0] == '-' || rest.at[0] == '+')) {
        warning->below = rest.at[0] == '-';
        rest = slice_from(rest, 1);
    }
    return parse_limits(arena, rest, "warning rule", text, &warning->bytes, &warning->count, e);
}

static uint64_t apply_limit(uint64_t limit, const struct quota_limit *rule)
{
    int64_t add = rule->value;

    if (!rule->given || limit == 0)
        return limit; /* without a default there is nothing to add to */
    if (rule->percent)
        add = (int64_t)((limit / 100) * (uint64_t)llabs(rule->value) + (limit % 100) * (uint64_t)llabs(rule->value) / 100) * (rule->value < 0 ? -1 : 1);
    if (add < 0)
        return (uint64_t)-add >= limit ? 1 : limit - (uint64_t)-add;
    return limit > (uint64_t)INT64_MAX - (uint64_t)add ? INT64_MAX : limit + (uint64_t)add;
}

bool quota_limits(const struct quota_rule *rules, size_t count, const char *vname, struct quota_amount *out)
{
    *out = (struct quota_amount){0, 0};
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rules[i].mailbox, "*") != 0)
            continue;
        if (rules[i].bytes.given)
            out->bytes = (uint64_t)rules[i].bytes.value;
        if (rules[i].count.given)
            out->count = (uint64_t)rules[i].count.value;
    }
    for (size_t i = 0; vname != NULL && i < count; i++) {
        if (strcmp(rules[i].mailbox, "*") == 0 || !store_wildcard_match(rules[i].mailbox, vname))
            continue;
        if (rules[i].ignore)
            return false;
        out->bytes = apply_limit(out->bytes, &rules[i].bytes);
        out->count = apply_limit(out->count, &rules[i].count);
        break;
    }
    return true;
}

/* ---- maildirsize (maildir-and-layouts 8.13) ---- */

static bool parse_signed(struct slice text, int64_t *out)
{
    bool negative = text.size > 0 && text.at[0] == '-';
    uint64_t value;

    if (!slice_to_u64(negative ? slice_from(text, 1) : text, &value) || value > INT64_MAX)
        return false;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

static bool parse_first(struct slice line, struct quota_amount *limits)
{
    struct slice part;

    *limits = (struct quota_amount){0, 0};
    while (line.size > 0 && slice_split(&line, ',', &part)) {
        uint64_t value;

        if (part.size < 2 || !slice_to_u64(slice_head(part, part.size - 1), &value))
            return false;
        if (part.at[part.size - 1] == 'S')
            limits->bytes = value;
        else if (part.at[part.size - 1] == 'C')
            limits->count = value;
        else
            return false;
    }
    return true;
}

int quota_maildir_rule(struct quota_rule *rule, struct error *e)
{
    struct quota_amount limits;

    if (!parse_first(slice_from_str(rule->backend), &limits))
        return error_set(e, ERROR_INVALID, "quota-maildir: Invalid Maildir++ quota rule \"%s\"", rule->backend);
    rule->bytes = (struct quota_limit){.given = true, .value = (int64_t)limits.bytes};
    rule->count = (struct quota_limit){.given = true, .value = (int64_t)limits.count};
    return 0;
}

bool quota_maildirsize_parse(struct slice file, struct quota_amount *limits, struct quota_amount *sum, unsigned *lines)
{
    ptrdiff_t last = slice_find_last(file, '\n');
    int64_t bytes = 0, count = 0;
    struct slice line, part;

    *lines = 0;
    if (file.size >= 5120 || slice_find(file, '\0') >= 0 || last < 0)
        return false;
    file = slice_head(file, (size_t)last); /* a last line that is not whole was never written */
    if (!slice_split(&file, '\n', &line) || !parse_first(line, limits))
        return false;
    while (file.size > 0 && slice_split(&file, '\n', &line)) {
        int64_t b, c;

        line = slice_trim(line);
        if (!slice_split(&line, ' ', &part) || !parse_signed(part, &b) || !parse_signed(slice_trim(line), &c) ||
            __builtin_add_overflow(bytes, b, &bytes) || __builtin_add_overflow(count, c, &count))
            return false;
        ++*lines;
    }
    if (*lines == 0 || bytes < 0 || count < 0)
        return false;
    *sum = (struct quota_amount){(uint64_t)bytes, (uint64_t)count};
    return true;
}
