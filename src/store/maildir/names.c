/* names.c - Maildir file names (maildir-and-layouts 8.1): "<base>:2,<flags>". Pure functions.
 *
 * Names are made by anybody; whatever stands in one, it has a base (which may be empty) and perhaps an info part. */
#include "store/maildir/maildir.h"

#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

size_t maildir_base_size(const char *name)
{
    return strcspn(name, ":");
}

/* What follows the last ":2,", or NULL. */
static const char *flags_of(const char *info)
{
    const char *colon = info == NULL ? NULL : strrchr(info, ':');

    return colon != NULL && colon[1] == '2' && colon[2] == ',' ? colon + 3 : NULL;
}

static const struct {
    char letter;
    uint8_t flag;
} flag_letters[] = {{'D', INDEX_DRAFT}, {'F', INDEX_FLAGGED}, {'R', INDEX_ANSWERED}, {'S', INDEX_SEEN}, {'T', INDEX_DELETED}};

static uint8_t flag_of(char letter)
{
    for (size_t i = 0; i < sizeof(flag_letters) / sizeof(flag_letters[0]); i++)
        if (flag_letters[i].letter == letter)
            return flag_letters[i].flag;
    return 0;
}

void maildir_info_parse(const char *info, uint8_t *flags, uint32_t *letters)
{
    const char *p = flags_of(info);

    *flags = 0;
    *letters = 0;
    for (; p != NULL && *p != '\0' && *p != ','; p++) {
        if (*p >= 'a' && *p <= 'z')
            *letters |= 1u << (*p - 'a');
        else
            *flags |= flag_of(*p);
    }
}

char *maildir_info_make(struct arena *arena, const char *old_info, uint8_t flags, uint32_t letters)
{
    const char *old = flags_of(old_info), *rest = "", *colon = old_info == NULL ? NULL : strrchr(old_info, ':');
    bool have[256] = {false};
    char out[300];
    size_t n = 0;

    if (old != NULL) {
        for (; *old != '\0' && *old != ','; old++)
            if (flag_of(*old) == 0 && !(*old >= 'a' && *old <= 'z'))
                have[(unsigned char)*old] = true; /* means nothing to us, but is kept */
        rest = old;
    }
    for (size_t i = 0; i < sizeof(flag_letters) / sizeof(flag_letters[0]); i++)
        if ((flags & flag_letters[i].flag) != 0)
            have[(unsigned char)flag_letters[i].letter] = true;
    for (int i = 0; i < MAILDIR_LETTERS; i++)
        if ((letters & 1u << i) != 0)
            have['a' + i] = true;
    for (int c = 1; c < 256; c++)
        if (have[c])
            out[n++] = (char)c;
    out[n] = '\0';
    /* What stands between the first and the last colon is nobody's, and stays. */
    return arena_printf(arena, "%.*s:2,%s%s", colon == NULL ? 0 : (int)(colon - old_info),
                        old_info == NULL ? "" : old_info, out, rest);
}

bool maildir_size_field(struct slice base, char key, uint64_t *out)
{
    for (size_t i = 0; i + 2 < base.size; i++) {
        struct slice digits;
        size_t n = 0;

        if (base.at[i] != ',' || base.at[i + 1] != (unsigned char)key || base.at[i + 2] != '=')
            continue;
        digits = slice_from(base, i + 3);
        while (n < digits.size && digits.at[n] >= '0' && digits.at[n] <= '9')
            n++;
        if (n < digits.size && digits.at[n] != ',' && digits.at[n] != ':')
            return false;
        return n > 0 && slice_to_u64(slice_head(digits, n), out);
    }
    return false;
}

char *maildir_name_new(struct arena *arena)
{
    static struct timeval last;
    struct timeval now;

    gettimeofday(&now, NULL);
    if (now.tv_sec < last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_usec <= last.tv_usec)) {
        now = last;
        if (++now.tv_usec >= 1000000) {
            now.tv_usec = 0;
            now.tv_sec++;
        }
    }
    last = now;
    return arena_printf(arena, "%lld.M%ldP%ld.%s", (long long)now.tv_sec, (long)now.tv_usec, (long)getpid(),
                        store_hostname());
}

/* The number before the first dot; not a number: 0. *m: the number after ".M", if there is one. */
static uint64_t seconds_of(const char *name, bool *have_m, uint64_t *m)
{
    struct slice text = slice_from_str(name), head;
    uint64_t seconds = 0;
    size_t n = 0;

    *have_m = false;
    *m = 0;
    if (!slice_split(&text, '.', &head) || !slice_to_u64(head, &seconds))
        return 0;
    if (text.size > 0 && text.at[0] == 'M') {
        while (n + 1 < text.size && text.at[n + 1] >= '0' && text.at[n + 1] <= '9')
            n++;
        *have_m = n > 0 && slice_to_u64(slice_of(text.at + 1, n), m);
    }
    return seconds;
}

int maildir_name_compare(const char *a, const char *b)
{
    bool have_a, have_b;
    uint64_t ma, mb, sa = seconds_of(a, &have_a, &ma), sb = seconds_of(b, &have_b, &mb);

    if (sa != sb)
        return sa < sb ? -1 : 1;
    if (have_a && have_b && ma != mb)
        return ma < mb ? -1 : 1;
    return strcmp(a, b);
}
