/* What admins write for auth: passwd-files, SQL configurations and queries, stored passwords. */
#include "auth/passwd_file.h"
#include "auth/scheme.h"
#include "auth/sql.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_log(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix, (void)text;
}

static void see_user(void *arg, const char *user)
{
    if (passwd_file_find(arg, user) == NULL)
        abort();
}

/* As many '?' as values, and no variable left in the text. */
static void check_template(const struct sql_template *t)
{
    size_t marks = 0;

    for (const char *p = t->text; *p != '\0'; p++)
        marks += *p == '?';
    if (marks < t->count)
        abort();
}

/* Iterations make a run slow, not wrong. */
static bool is_slow(struct slice text)
{
    return slice_find(text, '$') >= 0 || slice_find(text, ',') >= 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size), rest, scheme;
    struct arena *arena = arena_new();
    struct passwd_file *f;
    struct sql_conf conf;
    struct sql_template t;
    struct buffer out = {0};
    struct error e;
    const char *prefix, *text = arena_str(arena, in);

    log_capture(ignore_log, NULL);
    f = passwd_file_parse(in, "fuzz");
    passwd_file_each(f, see_user, f);
    passwd_file_free(f);
    (void)passwd_file_path_allowed(arena, "/a/b/%d", text, &prefix);
    sql_conf_defaults(&conf);
    (void)sql_conf_parse(in, "fuzz", arena, &conf, &e);
    if (sql_template_parse(text, arena, &t, &e) == 0)
        check_template(&t);
    rest = in;
    if (scheme_split(&rest, &scheme)) {
        (void)scheme_decode(scheme, rest, &out, &e);
        if (!is_slow(rest))
            (void)scheme_verify(SLICE("secret"), "u@d", scheme, rest, &e);
        buffer_reset(&out);
        (void)scheme_credentials(scheme, rest, "u@d", "CRAM-MD5", &out, &e);
    }
    buffer_free(&out);
    arena_free(arena);
    return 0;
}
