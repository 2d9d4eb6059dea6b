/* pattern.c - LIST patterns by a set of states, one bit each: no backtracking, no cap that would hide mailboxes.
 *
 * State i says: the first i elements of the pattern have been matched. A byte of the name moves all states at once; the
 * cost is name size times pattern size over 64. */
#include "store/pattern.h"

#include "store/store.h"

struct mailbox_pattern {
    size_t words;              /* of 64 states */
    size_t elements;
    char separator;
    bool all;                  /* "*" */
    bool inbox;                /* the namespace has INBOX, which is written in any case */
    uint64_t *star, *percent;  /* states that stand before such an element */
    uint64_t *literal[256];    /* states whose next element is this byte; NULL = none */
    uint64_t *now, *next;      /* scratch */
};

static void set_bit(uint64_t *bits, size_t i)
{
    bits[i / 64] |= (uint64_t)1 << i % 64;
}

struct mailbox_pattern *mailbox_pattern_new(struct arena *arena, struct slice text, char separator, bool inbox)
{
    struct mailbox_pattern *p = ARENA_NEW(arena, struct mailbox_pattern);
    unsigned char *elements = arena_alloc(arena, text.size + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = text.at[i];

        /* Neighbouring wildcards are one. */
        if (n > 0 && (c == '*' || c == '%') && (elements[n - 1] == '*' || elements[n - 1] == '%')) {
            if (c == '*')
                elements[n - 1] = '*';
            continue;
        }
        elements[n++] = c;
    }
    p->elements = n;
    p->inbox = inbox;
    p->separator = separator;
    p->words = n / 64 + 1;
    p->all = n == 1 && elements[0] == '*';
    p->star = ARENA_ARRAY(arena, uint64_t, p->words);
    p->percent = ARENA_ARRAY(arena, uint64_t, p->words);
    p->now = ARENA_ARRAY(arena, uint64_t, p->words);
    p->next = ARENA_ARRAY(arena, uint64_t, p->words);
    for (size_t i = 0; i < n; i++) {
        if (elements[i] == '*') {
            set_bit(p->star, i);
        } else if (elements[i] == '%') {
            set_bit(p->percent, i);
        } else {
            if (p->literal[elements[i]] == NULL)
                p->literal[elements[i]] = ARENA_ARRAY(arena, uint64_t, p->words);
            set_bit(p->literal[elements[i]], i);
        }
    }
    return p;
}

/* A wildcard may match nothing: the state behind it holds too. */
static void close_states(const struct mailbox_pattern *p, uint64_t *bits)
{
    uint64_t carry = 0;

    for (size_t w = 0; w < p->words; w++) {
        uint64_t wild = bits[w] & (p->star[w] | p->percent[w]);

        bits[w] |= wild << 1 | carry;
        carry = wild >> 63;
    }
}

bool mailbox_pattern_run(const struct mailbox_pattern *p, struct slice name)
{
    uint64_t *now = p->now, *next = p->next;
    /* INBOX, alone or as the first level, matches without case. */
    bool inbox = p->inbox && slice_starts(name, SLICE("INBOX")) && (name.size == 5 || name.at[5] == (unsigned char)p->separator);

    if (p->all)
        return true;
    memset(now, 0, p->words * sizeof(*now));
    now[0] = 1;
    close_states(p, now);
    for (size_t i = 0; i < name.size; i++) {
        const uint64_t *literal = p->literal[name.at[i]];
        const uint64_t *lower = inbox && i < 5 ? p->literal[(unsigned char)text_lower((char)name.at[i])] : NULL;
        bool separator = name.at[i] == (unsigned char)p->separator;
        uint64_t carry = 0, any = 0, *swap;

        for (size_t w = 0; w < p->words; w++) {
            uint64_t moved = now[w] & ((literal == NULL ? 0 : literal[w]) | (lower == NULL ? 0 : lower[w]));

            next[w] = moved << 1 | carry | (now[w] & p->star[w]) | (separator ? 0 : now[w] & p->percent[w]);
            carry = moved >> 63;
            any |= next[w];
        }
        if (any == 0)
            return false;
        close_states(p, next);
        swap = now;
        now = next;
        next = swap;
    }
    return (now[p->elements / 64] >> p->elements % 64 & 1) != 0;
}

bool mailbox_pattern_match(struct slice pattern, struct slice vname, char separator)
{
    struct arena *arena = arena_new();
    bool r = mailbox_pattern_run(mailbox_pattern_new(arena, pattern, separator, true), vname);

    arena_free(arena);
    return r;
}
