/* Dates: the Date header (RFC 5322 section 3.3, 4.3), IMAP's date-time, and calendar arithmetic without the C library's
 * zone state.
 *
 * The parser accepts what the real server accepts: a weekday that is not checked, two- and four-digit years, '.' for
 * ':', no seconds, no zone, unknown zones as UTC; all else is no date, and so is a day that the month does not have. */
#include <time.h>

#include "mime/mime_internal.h"

static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char weekdays[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};   /* 1-Jan-1970 first */

/* Days since 1-Jan-1970 of the Gregorian calendar. */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (int64_t)(month + (month > 2 ? -3u : 9u)) + 2) / 5 + (int64_t)day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

struct civil {
    int64_t year;
    unsigned month, day, hour, minute, second, weekday;
};

static struct civil civil_of(int64_t t)
{
    struct civil c;
    int64_t days = t / 86400, rest = t % 86400;

    if (rest < 0) {
        rest += 86400;
        days--;
    }
    c.hour = (unsigned)(rest / 3600);
    c.minute = (unsigned)(rest / 60 % 60);
    c.second = (unsigned)(rest % 60);
    c.weekday = (unsigned)(((days % 7) + 7) % 7);
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, of_era = z - era * 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * of_year + 2) / 153;
    c.day = (unsigned)(of_year - (153 * m + 2) / 5 + 1);
    c.month = (unsigned)(m < 10 ? m + 3 : m - 9);
    c.year = y + era * 400 + (c.month <= 2);
    return c;
}

static bool day_exists(int64_t year, unsigned month, unsigned day)
{
    static const unsigned char days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return day >= 1 && day <= days[month - 1] + (unsigned)(month == 2 && leap);
}

static bool month_of(struct slice word, unsigned *month)
{
    for (unsigned i = 0; i < 12; i++) {
        if (slice_starts_nocase(word, slice_from_str(months[i]))) {
            *month = i + 1;
            return true;
        }
    }
    return false;
}

/* Exactly `size` digits. */
static bool digits(struct slice s, size_t size, unsigned *value)
{
    if (s.size != size)
        return false;
    *value = 0;
    for (size_t i = 0; i < size; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return false;
        *value = *value * 10 + (unsigned)(s.at[i] - '0');
    }
    return true;
}

/* ---- Date header -------------------------------------------------------------------------------------------- */

struct reader {
    struct mime_lex lex;
    struct buffer word;
};

/* The next atom; dots separate ("19.37.57"). Empty at the end or before something else. */
static struct slice next_word(struct reader *r)
{
    buffer_reset(&r->word);
    (void)mime_lex_atom(&r->lex, &r->word);
    return buffer_slice(&r->word);
}

static bool at_byte(const struct reader *r, unsigned char c)
{
    return r->lex.at < r->lex.end && *r->lex.at == c;
}

static bool skip_byte(struct reader *r)
{
    r->lex.at++;
    return mime_lex_space(&r->lex) > 0;
}

/* Military letters A-I, K-M east, N-Y west, Z; the names of RFC 5322; everything else is UTC. */
static int zone_of(struct slice s)
{
    static const struct {
        char name[4];
        int hours;
    } names[] = {{"EST", -5}, {"EDT", -4}, {"CST", -6}, {"CDT", -5},
                 {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7}};
    unsigned n;

    if (s.size == 5 && (s.at[0] == '+' || s.at[0] == '-') && digits(slice_from(s, 1), 4, &n)) {
        int minutes = (int)(n / 100 * 60 + n % 100);
        return s.at[0] == '-' ? -minutes : minutes;
    }
    if (s.size == 1) {
        int c = s.at[0] & ~0x20;
        if (c >= 'A' && c <= 'I')
            return (c - 'A' + 1) * 60;
        if (c >= 'K' && c <= 'M')
            return (c - 'K' + 10) * 60;
        if (c >= 'N' && c <= 'Y')
            return (c - 'N' + 1) * -60;
        return 0;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (slice_equal_str_nocase(s, names[i].name))
            return names[i].hours * 60;
    return 0;
}

static bool take_clock(struct reader *r, unsigned *hour, unsigned *minute, unsigned *second)
{
    *second = 0;
    if (!digits(next_word(r), 2, hour) || *hour > 23 || !(at_byte(r, ':') || at_byte(r, '.')) || !skip_byte(r))
        return false;
    if (!digits(next_word(r), 2, minute) || *minute > 59)
        return false;
    if (at_byte(r, ':') || at_byte(r, '.')) {
        if (!skip_byte(r) || !digits(next_word(r), 2, second) || *second > 60)
            return false;
        if (*second == 60)                 /* a leap second */
            *second = 59;
        if (at_byte(r, '.') || at_byte(r, ':'))
            return false;
    }
    return true;
}

static bool read_date(struct reader *r, int64_t *unix_time, int *zone)
{
    unsigned day, month, year, hour, minute, second;

    if (mime_lex_space(&r->lex) <= 0)
        return false;
    struct slice word = next_word(r);
    if (word.size == 3 && !(word.at[0] >= '0' && word.at[0] <= '9')) {
        if (!at_byte(r, ',') || !skip_byte(r))
            return false;
        word = next_word(r);
    }
    if (!digits(word, 2, &day) && !digits(word, 1, &day))
        return false;
    if (!month_of(next_word(r), &month))
        return false;
    word = next_word(r);
    if (digits(word, 2, &year))
        year += year < 70 ? 2000 : 1900;
    else if (!digits(word, 4, &year))
        return false;
    if (!day_exists(year, month, day) || !take_clock(r, &hour, &minute, &second))
        return false;
    if (mime_lex_more(&r->lex) && !mime_is_atext(*r->lex.at))
        return false;
    *zone = zone_of(next_word(r));
    *unix_time = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - *zone * 60;
    return true;
}

bool mime_date_parse(struct slice value, int64_t *unix_time, int *zone)
{
    struct reader r = {.lex = mime_lex_of(value)};
    int64_t t = 0;
    int z = 0;
    bool good = value.size > 0 && read_date(&r, &t, &z);

    buffer_free(&r.word);
    if (good) {
        *unix_time = t;
        *zone = z;
    }
    return good;
}

/* ---- IMAP and mail forms ------------------------------------------------------------------------------------ */

static void put_zone(struct buffer *out, int zone)
{
    int minutes = zone < 0 ? -zone : zone;

    buffer_append_byte(out, ' ');
    buffer_append_byte(out, zone < 0 ? '-' : '+');
    buffer_append_digits(out, (unsigned)minutes / 60, 2);
    buffer_append_digits(out, (unsigned)minutes % 60, 2);
}

/* "-Feb-1994" */
static void put_month(struct buffer *out, char between, const struct civil *c)
{
    buffer_append_byte(out, (unsigned char)between);
    buffer_append_str(out, months[c->month - 1]);
    buffer_append_byte(out, (unsigned char)between);
    if (c->year >= 0 && c->year <= 9999)
        buffer_append_digits(out, (uint64_t)c->year, 4);
    else
        buffer_printf(out, "%04lld", (long long)c->year);
}

/* " 21:52:25" */
static void put_clock(struct buffer *out, const struct civil *c)
{
    buffer_append_byte(out, ' ');
    buffer_append_digits(out, c->hour, 2);
    buffer_append_byte(out, ':');
    buffer_append_digits(out, c->minute, 2);
    buffer_append_byte(out, ':');
    buffer_append_digits(out, c->second, 2);
}

void mime_date_imap_put(struct buffer *out, int64_t unix_time, int zone)
{
    struct civil c = civil_of(unix_time + zone * 60);

    buffer_append_digits(out, c.day, 2);
    put_month(out, '-', &c);
    put_clock(out, &c);
    put_zone(out, zone);
}

void mime_date_mail_put(struct buffer *out, int64_t unix_time, int zone)
{
    struct civil c = civil_of(unix_time + zone * 60);

    buffer_append_str(out, weekdays[c.weekday]);
    buffer_append_str(out, ", ");
    buffer_append_digits(out, c.day, 2);
    put_month(out, ' ', &c);
    put_clock(out, &c);
    put_zone(out, zone);
}

/* "dd-Mon-yyyy hh:mm:ss +zzzz", the day with a space or one digit too. RFC 3501 section 9, date-time. */
bool mime_date_imap_parse(struct slice s, int64_t *unix_time, int *zone)
{
    unsigned day, month, year, hour, minute, second, z;

    if (s.size == 26 && s.at[0] == ' ')
        s = slice_from(s, 1);
    ptrdiff_t dash = slice_find(s, '-');
    if (dash < 1 || dash > 2 || s.size != (size_t)dash + 24 || !digits(slice_head(s, (size_t)dash), (size_t)dash, &day))
        return false;
    s = slice_from(s, (size_t)dash + 1);
    if (!month_of(slice_head(s, 3), &month) || s.at[3] != '-' || !digits(slice_head(slice_from(s, 4), 4), 4, &year) ||
        s.at[8] != ' ' || s.at[11] != ':' || s.at[14] != ':' || s.at[17] != ' ' ||
        !digits(slice_head(slice_from(s, 9), 2), 2, &hour) || !digits(slice_head(slice_from(s, 12), 2), 2, &minute) ||
        !digits(slice_head(slice_from(s, 15), 2), 2, &second) || (s.at[18] != '+' && s.at[18] != '-') ||
        !digits(slice_from(s, 19), 4, &z))
        return false;
    if (hour > 23 || minute > 59 || second > 60 || !day_exists(year, month, day)) {
        *zone = 0;
        *unix_time = INT64_MAX;
        return true;
    }
    if (second == 60) /* a leap second: the last one before it, as the real server has it */
        second = 59;
    int minutes = (int)(z / 100 * 60 + z % 100);
    *zone = s.at[18] == '-' ? -minutes : minutes;
    *unix_time = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - *zone * 60;
    return true;
}

int mime_date_local_zone(int64_t unix_time)
{
    time_t t = (time_t)unix_time;
    struct tm tm;

    return localtime_r(&t, &tm) == NULL ? 0 : (int)(tm.tm_gmtoff / 60);
}
