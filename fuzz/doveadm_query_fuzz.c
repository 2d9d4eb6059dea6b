/* The search query of doveadm: one word a line. A query that is refused ends the program there, here the input; a tree that
 * is made has children only where a list is, and a key in every leaf that is one. */
#include "../doveadm-compat/query_impl.h"

#include <setjmp.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);

/* The parser ends the program when it refuses, so it frees nothing then. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static jmp_buf refused;

void doveadm_fatal(int status, const char *fmt, ...)
{
    (void)status;
    (void)fmt;
    longjmp(refused, 1);
}

static void check(const struct query_node *n)
{
    if ((n->kind == QUERY_KEY || n->kind == QUERY_INTHREAD) && n->key == NULL)
        abort();
    if ((n->kind == QUERY_MAILBOX || n->kind == QUERY_MAILBOX_GUID) && n->text == NULL)
        abort();
    for (const struct query_node *c = n->children; c != NULL; c = c->next) {
        if (n->kind != QUERY_AND && n->kind != QUERY_OR && n->kind != QUERY_INTHREAD)
            abort();
        check(c);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { WORDS = 512 };
    struct doveadm d = {.arena = arena_new()};
    const char *words[WORDS + 1];
    struct slice rest = slice_of(data, size), word;
    size_t n = 0;

    while (n < WORDS && slice_split(&rest, '\n', &word))
        if (word.size == 0 || memchr(word.at, 0, word.size) == NULL)
            words[n++] = arena_str(d.arena, word);
    words[n] = NULL;
    if (n > 0 && setjmp(refused) == 0) {
        struct query *q = query_parse(&d, words, n);
        check(q->root);
        if (setjmp(refused) == 0)
            query_check_safe(q, "expunge");
    }
    arena_free(d.arena);
    return 0;
}
