/* %-variables: the first line of the input is a value, the rest the template. */
#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size), line = SLICE_EMPTY;
    struct arena *arena = arena_new();
    struct error e;
    bool failed;
    (void)slice_split(&rest, '\n', &line);
    char *value = arena_str(arena, line), *template = arena_str(arena, rest);
    struct conf_var table[] = {{'u', "user", value}, {'n', "username", "n"}, {'d', "domain", NULL}, {0, NULL, NULL}};
    struct conf_vars vars = {table, NULL, NULL, NULL};
    /* Rounds and regular expressions cost what the administrator asked for. */
    if (strstr(template, "rounds") == NULL && strstr(template, "pkcs5") == NULL && strchr(template, '~') == NULL)
        (void)conf_expand(arena, template, &vars, &failed, &e);
    (void)conf_expand_uses(template, 'u', "user");
    arena_free(arena);
    return 0;
}
