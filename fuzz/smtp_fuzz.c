/* SMTP syntax: no crash; a path that parses is written in a form that parses to the same; data keeps every byte. */
#include "smtp/smtp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool good)
{
    if (!good)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size), rest;
    struct arena *a = arena_new();
    struct smtp_command command;
    struct smtp_param params[SMTP_PARAMS_MAX];
    struct smtp_path path, again;
    struct smtp_data d = SMTP_DATA_INIT;
    struct buffer out = {0};
    size_t n;
    bool end;

    if (smtp_command_parse(in, &command) == SMTP_COMMAND)
        expect(command.size <= size);
    if (smtp_path_parse(in, SMTP_PATH_NULL_ALLOWED, a, &path, &rest) == NULL) {
        char *text = arena_printf(a, "<%s>", smtp_path_text(a, &path));
        /* Literals and lone dots are written as they came. */
        if (slice_find(path.local, 0) < 0 && slice_find(path.domain, 0) < 0) {
            expect(smtp_path_parse(slice_from_str(text), SMTP_PATH_NULL_ALLOWED, a, &again, &rest) == NULL);
            expect(slice_equal(path.local, again.local) && slice_equal(path.domain, again.domain));
        }
        smtp_params_parse(rest, params, &n);
    }
    smtp_path_parse(in, SMTP_PATH_NULL_ALLOWED | SMTP_PATH_BROKEN_ALLOWED | SMTP_PATH_SPACE_BEFORE | SMTP_PATH_NO_BRACKETS,
                    a, &path, &rest);
    n = smtp_data_take(&d, in, &out, &end);
    expect(n <= size && out.size <= n);
    buffer_reset(&out);
    smtp_xtext_encode(&out, in);
    struct buffer back = {0};
    expect(smtp_xtext_decode(&back, buffer_slice(&out)) == 0 && slice_equal(buffer_slice(&back), in));
    buffer_free(&back);
    buffer_free(&out);
    smtp_string_check(in);
    smtp_hostname_valid(in);
    arena_free(a);
    return 0;
}
