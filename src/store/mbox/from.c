/* from.c - the From_ line (maildir-and-layouts 9.1).
 *
 * Its date is what makes a line that begins with "From " the beginning of a message; so it is read as tolerantly as in the
 * real server (zones in two places, no seconds, the form of mail dates, UUCP's tail), but it has to be one. */
#include "store/mbox/format.h"

#include <ctype.h>
#include <time.h>

static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char weekdays[] = "SunMonTueWedThuFriSat";

static int find_name(const char *names, int count, struct slice word)
{
    for (int i = 0; i < count; i++)
        if (slice_equal_nocase(word, slice_of(names + i * 3, 3)))
            return i;
    return -1;
}

static bool next_word(struct slice *rest, struct slice *word)
{
    size_t from = 0, to;

    while (from < rest->size && rest->at[from] == ' ')
        from++;
    for (to = from; to < rest->size && rest->at[to] != ' ';)
        to++;
    *word = slice_of(rest->at + from, to - from);
    *rest = slice_from(*rest, to);
    return word->size > 0;
}

static bool to_number(struct slice word, uint32_t least, uint32_t most, int *out)
{
    uint32_t value;

    if (!slice_to_u32(word, &value) || value < least || value > most)
        return false;
    *out = (int)value;
    return true;
}

/* hh:mm or hh:mm:ss */
static bool to_clock(struct slice word, struct tm *tm)
{
    struct slice part;

    if (!slice_split(&word, ':', &part) || part.size > 2 || !to_number(part, 0, 23, &tm->tm_hour) || !slice_split(&word, ':', &part) ||
        part.size != 2 || !to_number(part, 0, 59, &tm->tm_min))
        return false;
    if (!slice_split(&word, ':', &part))
        return true;
    return part.size == 2 && to_number(part, 0, 60, &tm->tm_sec) && word.size == 0;
}

struct zone {
    bool known;
    int minutes;
};

/* "+0300". Names of zones mean something else everywhere: they are skipped, but for Greenwich's. */
static bool to_zone(struct slice word, struct zone *zone)
{
    uint32_t value;

    if (word.size == 5 && (word.at[0] == '+' || word.at[0] == '-') && slice_to_u32(slice_from(word, 1), &value)) {
        zone->known = true;
        zone->minutes = (int)(value / 100 * 60 + value % 100) * (word.at[0] == '-' ? -1 : 1);
        return true;
    }
    for (size_t i = 0; i < word.size; i++)
        if (!isalpha(word.at[i]))
            return false;
    if (slice_equal_str_nocase(word, "GMT") || slice_equal_str_nocase(word, "UTC"))
        *zone = (struct zone){true, 0};
    return word.size > 0;
}

static bool to_year(struct slice word, struct tm *tm)
{
    if (word.size != 4 || !to_number(word, 1900, 9999, &tm->tm_year))
        return false;
    tm->tm_year -= 1900;
    return true;
}

/* Behind the weekday: "Nov 29 22:33:52 2001 +0300", the zone also before the year. */
static bool unix_date(struct slice rest, struct tm *tm, struct zone *zone)
{
    struct slice word;

    if (!next_word(&rest, &word) || word.size != 3 || (tm->tm_mon = find_name(months, 12, word)) < 0 ||
        !next_word(&rest, &word) || !to_number(word, 1, 31, &tm->tm_mday) || !next_word(&rest, &word) || !to_clock(word, tm) ||
        !next_word(&rest, &word))
        return false;
    if (!to_year(word, tm) && (!to_zone(word, zone) || !next_word(&rest, &word) || !to_year(word, tm)))
        return false;
    if (next_word(&rest, &word))
        to_zone(word, zone);
    return true;
}

/* "29 Nov 2001 22:33:52 +0300" */
static bool mail_date(struct slice rest, struct tm *tm, struct zone *zone)
{
    struct slice word;

    if (!next_word(&rest, &word) || !to_number(word, 1, 31, &tm->tm_mday) || !next_word(&rest, &word) || word.size != 3 ||
        (tm->tm_mon = find_name(months, 12, word)) < 0 || !next_word(&rest, &word) || !to_year(word, tm) ||
        !next_word(&rest, &word) || !to_clock(word, tm))
        return false;
    if (next_word(&rest, &word))
        to_zone(word, zone);
    return true;
}

static bool date_at(struct slice rest, int64_t *date)
{
    struct tm tm = {.tm_isdst = -1};
    struct zone zone = {false, 0};
    struct slice word;

    if (!next_word(&rest, &word))
        return false;
    if (word.size == 4 && word.at[3] == ',')
        word.size = 3;
    if (word.size != 3 || find_name(weekdays, 7, word) < 0)
        return false;
    if (!unix_date(rest, &tm, &zone)) {
        tm = (struct tm){.tm_isdst = -1};
        zone = (struct zone){false, 0};
        if (!mail_date(rest, &tm, &zone))
            return false;
    }
    *date = zone.known ? (int64_t)timegm(&tm) - zone.minutes * 60 : (int64_t)mktime(&tm);
    return true;
}

bool mbox_from_parse(struct slice line, int64_t *date)
{
    struct slice rest = slice_from(line, 5), word;

    if (!slice_starts(line, SLICE("From ")) || line.size > MBOX_FROM_MAX)
        return false;
    /* A quoted sender may hold anything. */
    if (rest.size > 0 && rest.at[0] == '"') {
        size_t i = 1;

        while (i < rest.size && rest.at[i] != '"')
            i += rest.at[i] == '\\' ? 2u : 1u;
        rest = slice_from(rest, i);
    }
    do {
        if (date_at(rest, date))
            return true;
    } while (next_word(&rest, &word));
    return false;
}

void mbox_from_make(struct buffer *out, const char *sender, int64_t date)
{
    time_t when = (time_t)date;
    struct tm tm;

    if (localtime_r(&when, &tm) == NULL)
        memset(&tm, 0, sizeof(tm));
    buffer_append_str(out, "From ");
    if (sender == NULL || *sender == '\0')
        sender = "MAILER-DAEMON";
    for (; *sender != '\0'; sender++)
        buffer_append_byte(out, (unsigned char)*sender <= ' ' || *sender == 0x7f ? '-' : (unsigned char)*sender);
    buffer_printf(out, "  %.3s %.3s %02d %02d:%02d:%02d %04d\n", weekdays + tm.tm_wday * 3, months + tm.tm_mon * 3, tm.tm_mday,
                  tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_year + 1900);
}
