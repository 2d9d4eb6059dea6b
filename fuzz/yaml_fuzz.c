/* YAML configurations: no crash; what is read prints as YAML that reads back as the same. */
#include "conf/settings.h"
#include "conf/yaml.h"

#include "base/log.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix, (void)text;
}

static bool has(struct slice text, const char *word)
{
    return slice_find_slice(text, slice_from_str(word)) >= 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct conf_reading as_text = {.expand = false};
    struct slice text = slice_of(data, size);
    struct conf_tree *tree, *copy;
    struct error e;
    log_capture(ignore, NULL);
    /* Host names in nets and included files would leave the process; $ words are resolved only once. */
    if (has(text, "local") || has(text, "remote") || has(text, "include") || has(text, "$"))
        return 0;
    if (yaml_read_text(text, &as_text, &tree, &e) < 0)
        return 0;
    struct buffer first = {0}, second = {0};
    yaml_print(tree, true, &first);
    if (yaml_read_text(buffer_slice(&first), &as_text, &copy, &e) == 0) {
        yaml_print(copy, true, &second);
        if (!slice_equal(buffer_slice(&first), buffer_slice(&second)))
            abort();
        conf_tree_free(copy);
    }
    conf_tree_free(tree);
    buffer_free(&first);
    buffer_free(&second);
    return 0;
}
