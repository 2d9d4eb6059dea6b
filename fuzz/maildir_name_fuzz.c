/* Maildir file names and dovecot-keywords: flags that were read and written again are the same flags. */
#include "store/maildir/maildir.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix, (void)text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct maildir_keywords keywords = {0};
    char *name;
    uint8_t flags, again;
    uint32_t letters, letters_again;
    uint64_t number;

    log_capture(ignore, NULL);
    if (size > 255)
        size = 255;
    name = arena_str(arena, slice_of(data, size));
    const char *info = name + maildir_base_size(name);
    maildir_info_parse(info, &flags, &letters);
    char *made = maildir_info_make(arena, info, flags, letters);
    maildir_info_parse(made, &again, &letters_again);
    if (again != flags || letters != letters_again)
        abort();
    if (strcmp(made, maildir_info_make(arena, made, flags, letters)) != 0)
        abort();
    maildir_size_field(slice_of(name, maildir_base_size(name)), 'S', &number);
    if (maildir_name_compare(name, name) != 0 || maildir_name_compare(name, "1.M2P3.h") != -maildir_name_compare("1.M2P3.h", name))
        if ((maildir_name_compare(name, "1.M2P3.h") < 0) == (maildir_name_compare("1.M2P3.h", name) < 0))
            abort();
    maildir_keywords_parse(&keywords, slice_of(data, size));
    for (int i = 0; i < MAILDIR_LETTERS; i++)
        if (keywords.names[i] != NULL && strchr(keywords.names[i], '\n') != NULL)
            abort();
    maildir_keywords_free(&keywords);
    arena_free(arena);
    return 0;
}
