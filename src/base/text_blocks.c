/* Work on every byte of a mail, sixteen bytes at a time. Vectors of the compiler, no instructions of one machine. What is left at the
 * end goes byte by byte. */
#include "base/text.h"

#include <limits.h>

enum { BLOCK = 16, FOUR_BLOCKS = 4 * BLOCK };

typedef unsigned char block __attribute__((vector_size(BLOCK)));

static inline block load(const unsigned char *at)
{
    block b;

    memcpy(&b, at, BLOCK);
    return b;
}

/* Lanes are 0xff or 0; as two words, in the order of memory. */
struct lanes {
    uint64_t word[2];
};

static inline struct lanes lanes_of(block b)
{
    struct lanes l;

    memcpy(&l, &b, BLOCK);
    return l;
}

static inline bool any(struct lanes l)
{
    return (l.word[0] | l.word[1]) != 0;
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FRONT_ZEROS __builtin_ctzll
#else
#define FRONT_ZEROS __builtin_clzll
#endif

/* The first lane that is set; there is one. */
static inline size_t first_of(struct lanes l)
{
    return l.word[0] != 0 ? (size_t)FRONT_ZEROS(l.word[0]) / 8 : 8 + (size_t)FRONT_ZEROS(l.word[1]) / 8;
}

size_t text_ascii_length(struct slice s)
{
    size_t i = 0;

    for (; s.size - i >= BLOCK; i += BLOCK) {
        struct lanes l = lanes_of(load(s.at + i) >= 0x80);

        if (any(l))
            return i + first_of(l);
    }
    while (i < s.size && s.at[i] < 0x80)
        i++;
    return i;
}

size_t text_plain_length(struct slice s, unsigned char but)
{
    size_t i = 0;

    for (; s.size - i >= BLOCK; i += BLOCK) {
        block b = load(s.at + i);
        struct lanes l = lanes_of((b < ' ') | (b == but));

        if (any(l))
            return i + first_of(l);
    }
    while (i < s.size && s.at[i] >= ' ' && s.at[i] != but)
        i++;
    return i;
}

/* As signed bytes those from 0x80 on are below ' '. */
static inline block not_plain(block b)
{
    typedef signed char numbers __attribute__((vector_size(BLOCK)));

    return (block)((numbers)b < ' ') | (block)(b == '"') | (block)(b == '\\') | (block)(b == 0x7f);
}

bool text_is_plain(struct slice s, bool single_blanks)
{
    const size_t last = s.size - 1;
    size_t i = 0;

    if (s.size == 0 || (single_blanks && (s.at[0] == ' ' || s.at[last] == ' ')))
        return false;
    for (; last - i >= BLOCK; i += BLOCK) { /* with the byte behind it */
        block b = load(s.at + i), bad = not_plain(b);

        if (single_blanks)
            bad |= (block)(b == ' ') & (block)(load(s.at + i + 1) == ' ');
        if (any(lanes_of(bad)))
            return false;
    }
    for (; i <= last; i++) {
        const unsigned char c = s.at[i];

        if (c < ' ' || c >= 0x7f || c == '"' || c == '\\' || (single_blanks && c == ' ' && s.at[i + 1] == ' '))
            return false;
    }
    return true;
}

void text_upper_ascii(unsigned char *at, size_t size)
{
    size_t i = 0;

    for (; size - i >= BLOCK; i += BLOCK) {
        block b = load(at + i);

        b -= (block)((b >= 'a') & (b <= 'z')) & 0x20;
        memcpy(at + i, &b, BLOCK);
    }
    for (; i < size; i++)
        at[i] = at[i] >= 'a' && at[i] <= 'z' ? (unsigned char)(at[i] - 0x20) : at[i];
}

static uint32_t sum_of(block b)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < BLOCK; i++)
        sum += b[i];
    return sum;
}

struct text_lines text_lines(struct slice s, bool cr_before, int stop)
{
    struct text_lines lines = {0};
    block ends = {0}, crlfs = {0};
    uint32_t crlf = 0;
    size_t i = 0, rounds = 0;

    /* A block needs its neighbours: the byte in front of it, and the one behind. */
    if (s.size > FOUR_BLOCKS && s.at[0] != '\n') {
        block stops = (block){0} + (unsigned char)stop;

        for (i = 1; s.size - i > FOUR_BLOCKS; i += FOUR_BLOCKS) {
            block hits = {0}, more = {0}, more_crlfs = {0};

            for (size_t k = i; k < i + FOUR_BLOCKS; k += BLOCK) {
                block lf = (block)(load(s.at + k) == '\n');

                hits |= lf & (block)(load(s.at + k + 1) == stops);
                more -= lf;
                more_crlfs -= lf & (block)(load(s.at + k - 1) == '\r');
            }
            if (stop >= 0 && any(lanes_of(hits)))
                break;
            ends += more;
            crlfs += more_crlfs;
            if (++rounds == UCHAR_MAX / 4) {
                lines.count += sum_of(ends);
                crlf += sum_of(crlfs);
                ends = crlfs = (block){0};
                rounds = 0;
            }
        }
        lines.count += sum_of(ends);
        crlf += sum_of(crlfs);
        if (lines.count > 0)
            lines.size = (size_t)((const unsigned char *)memrchr(s.at, '\n', i) - s.at) + 1;
    }
    for (; i < s.size; i++) {
        if (s.at[i] != '\n')
            continue;
        lines.count++;
        crlf += i > 0 ? s.at[i - 1] == '\r' : cr_before;
        lines.size = i + 1;
        if (stop >= 0 && i + 1 < s.size && s.at[i + 1] == stop)
            break;
    }
    lines.bare = lines.count - crlf;
    return lines;
}

/* A bit for each lane, the first one lowest. */
static inline uint64_t bits_of(block hits)
{
#ifdef __SSE2__
    typedef char bytes __attribute__((vector_size(BLOCK)));

    return (unsigned)__builtin_ia32_pmovmskb128((bytes)hits);
#else
    const block own = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint64_t gather = 0x0101010101010101; /* the sum of all bytes becomes the highest one */
    struct lanes l = lanes_of(hits & own);

    return l.word[0] * gather >> 56 | (l.word[1] * gather >> 56) << 8;
#endif
}

/* Copies a round; -> a bit for each `what` in it. */
static inline uint64_t copy_round(unsigned char *out, const unsigned char *in, unsigned char what)
{
    uint64_t bits = 0;

    for (size_t k = 0; k < FOUR_BLOCKS; k += BLOCK) {
        block b = load(in + k);

        memcpy(out + k, &b, BLOCK);
        bits |= bits_of((block)(b == what)) << k;
    }
    return bits;
}

size_t text_put_crlf(unsigned char *out, size_t room, struct slice in, bool *cr, size_t *used)
{
    size_t at = 0, made = 0;

    /* A round is copied as it is; then from each line end on once more, a byte further on. Each copy is a whole round, whatever of
     * it counts: so there is one more to read, and two more to write, since all of it may be line ends. */
    for (; in.size - at >= 2 * FOUR_BLOCKS && room - made >= 3 * FOUR_BLOCKS; at += FOUR_BLOCKS) {
        uint64_t ends = copy_round(out + made, in.at + at, '\n');
        size_t done = 0;

        for (; ends != 0; ends &= ends - 1) {
            const size_t n = (size_t)__builtin_ctzll(ends);

            made += n - done;
            done = n + 1;
            if (!(at + n > 0 ? in.at[at + n - 1] == '\r' : *cr))
                out[made++] = '\r';
            out[made++] = '\n';
            memcpy(out + made, in.at + at + done, FOUR_BLOCKS);
        }
        made += FOUR_BLOCKS - done;
    }
    if (at > 0)
        *cr = in.at[at - 1] == '\r';
    *used = at;
    return made;
}

size_t text_put_lf(unsigned char *out, size_t room, struct slice in, size_t *used)
{
    size_t at = 0, made = 0;

    for (; in.size - at >= 2 * FOUR_BLOCKS && room - made >= 2 * FOUR_BLOCKS; at += FOUR_BLOCKS) {
        uint64_t crs = copy_round(out + made, in.at + at, '\r');
        size_t done = 0;

        for (; crs != 0; crs &= crs - 1) {
            const size_t n = (size_t)__builtin_ctzll(crs);

            if (in.at[at + n + 1] != '\n')
                continue;
            made += n - done;
            done = n + 1;
            memcpy(out + made, in.at + at + done, FOUR_BLOCKS);
        }
        made += FOUR_BLOCKS - done;
    }
    *used = at;
    return made;
}
