/* dovecot-uidlist: whatever the bytes are, records are ordered, and what is found by name is that name. */
#include "store/maildir/maildir.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix, (void)text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct maildir_uidlist list = {.other_fields = ""};
    struct slice text = slice_of(data, size);
    struct arena *arena = arena_new();
    size_t used, more, doubled, half = size / 2;
    struct error e;

    log_capture(ignore, NULL);
    /* In two pieces, as a reader sees a growing file. */
    if (maildir_uidlist_parse(&list, slice_head(text, half), &used, &e) == 0)
        maildir_uidlist_parse(&list, slice_from(text, used), &more, &e);
    maildir_uidlist_index(&list, &doubled);
    for (size_t i = 0; i < list.count; i++) {
        const struct maildir_record *rec = &list.at[i], *found;

        if (i > 0 && list.at[i - 1].uid >= rec->uid)
            abort();
        if (strpbrk(rec->base, "/:\n") != NULL || *rec->base == '\0')
            abort();
        found = maildir_uidlist_find_base(&list, rec->base, strlen(rec->base));
        if (found == NULL || strcmp(found->base, rec->base) != 0 || maildir_uidlist_find(&list, rec->uid) != rec)
            abort();
        maildir_record_field(rec, 'G', arena);
        maildir_fields_set(arena, rec->fields, 'S', "1");
    }
    maildir_uidlist_free(&list);
    arena_free(arena);
    return 0;
}
