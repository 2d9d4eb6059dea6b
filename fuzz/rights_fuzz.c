/* Access control lists, global ones, quota rules, maildirsize, dictionaries in files: what lies beside the mail. */
#include "store/acl/acl.h"
#include "store/dict.h"
#include "store/quota/quota.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is written is read again as the same. */
static void check_acl(struct arena *arena, struct slice in)
{
    struct acl_entries first = {0}, second = {0};
    struct buffer once = {0}, twice = {0};
    struct acl_me me = {"bob", false, NULL};
    struct error e;
    bool matched;

    if (acl_text_parse(arena, in, "f", &first, &e) == 0) {
        (void)acl_evaluate(&first, &me, &matched);
        for (size_t i = 0; i < first.count; i++)
            acl_line_put(&once, &first.at[i]);
        if (acl_text_parse(arena, buffer_slice(&once), "f", &second, &e) == 0) {
            for (size_t i = 0; i < second.count; i++)
                acl_line_put(&twice, &second.at[i]);
            if (!slice_equal(buffer_slice(&once), buffer_slice(&twice)))
                abort();
        }
    }
    VEC_FREE(&first);
    VEC_FREE(&second);
    buffer_free(&once);
    buffer_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct slice in = slice_of(data, size);
    struct acl_patterns patterns = {0};
    struct quota_amount limits, sum;
    struct quota_warning warning;
    struct quota_rule rule;
    struct dict_pairs pairs = {0};
    struct error e;
    unsigned lines;
    const char *text = arena_str(arena, in);

    check_acl(arena, in);
    (void)acl_global_parse(arena, in, "f", &patterns, &e);
    if (quota_rule_parse(arena, text, &rule, &e) == 0)
        (void)quota_limits(&rule, 1, "INBOX", &limits);
    (void)quota_warning_parse(arena, text, &warning, &e);
    (void)quota_maildirsize_parse(in, &limits, &sum, &lines);
    dict_parse(in, arena, &pairs);
    VEC_FREE(&patterns);
    VEC_FREE(&pairs);
    arena_free(arena);
    return 0;
}
