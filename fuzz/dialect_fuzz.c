/* Dovecot's configuration language: no crash; what is read can be written as a snapshot, and reads back as the same. */
#include "compat/read.h"
#include "conf/settings.h"

#include "base/log.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix, (void)text;
}

/* Files and the network stay out of it. */
static bool reaches_out(const char *text)
{
    return strstr(text, "!include") != NULL || strchr(text, '<') != NULL || strstr(text, "local") != NULL ||
           strstr(text, "remote") != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct conf_reading running = {.expand = true};
    struct conf_tree *tree = NULL, *copy;
    struct error e;
    char *text = mem_strndup(slice_of(data, size));
    log_capture(ignore, NULL);
    if (!reaches_out(text) && compat_read_text(text, &running, &tree, &e) == 0) {
        struct buffer first = {0}, second = {0};
        conf_snapshot_write(tree, NULL, &first);
        copy = conf_snapshot_read(buffer_slice(&first), &e);
        if (copy == NULL)
            abort();
        conf_snapshot_write(copy, NULL, &second);
        if (!slice_equal(buffer_slice(&first), buffer_slice(&second)))
            abort();
        struct conf *conf = conf_from_tree(copy);
        settings_unref(conf_settings(conf, NULL, &e));
        conf_free(conf);
        conf_tree_free(tree);
        buffer_free(&first);
        buffer_free(&second);
    }
    mem_free(text);
    return 0;
}
