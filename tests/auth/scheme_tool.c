/* The scheme library on the command line, for comparisons with the real doveadm pw:
 *
 *     scheme_tool list | verify STORED PASSWORD USER | make SCHEME PASSWORD USER
 *
 * verify prints "match", "mismatch" or "invalid: TEXT"; make prints {SCHEME}data. */
#include "auth/scheme.h"

#include <stdio.h>

static int verify(const char *stored, const char *password, const char *user)
{
    struct slice data = slice_from_str(stored), scheme;
    struct error e;

    if (!scheme_split(&data, &scheme)) {
        puts("invalid: Missing {scheme} prefix from hash");
        return 0;
    }
    switch (scheme_verify(slice_from_str(password), user, scheme, data, &e)) {
    case SCHEME_MATCH:
        puts("match");
        break;
    case SCHEME_MISMATCH:
        puts("mismatch");
        break;
    default:
        printf("invalid: %s\n", e.admin);
        break;
    }
    return 0;
}

static int make(const char *scheme, const char *password, const char *user)
{
    struct buffer out = {0};
    struct error e;

    if (scheme_generate(slice_from_str(password), user, slice_from_str(scheme), 0, &out, &e) < 0) {
        printf("invalid: %s\n", e.admin);
        return 1;
    }
    printf("{%s}%s\n", scheme, buffer_cstr(&out));
    buffer_free(&out);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (size_t i = 0; scheme_name_at(i) != NULL; i++)
            puts(scheme_name_at(i));
        return 0;
    }
    if (argc == 5 && strcmp(argv[1], "verify") == 0)
        return verify(argv[2], argv[3], argv[4]);
    if (argc == 5 && strcmp(argv[1], "make") == 0)
        return make(argv[2], argv[3], argv[4]);
    return 64;
}
