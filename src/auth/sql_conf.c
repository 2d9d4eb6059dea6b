/* sql_conf.c - reads dovecot-sql.conf.ext (auth.md 9.4): "key = value" lines, comments from '#', a '\' at the end joins
 * the next line, quotes around a value go. The old parser of Dovecot, not that of dovecot.conf. */
#include "auth/sql.h"

#define JOINED_MOST (64 * 1024)

void sql_conf_defaults(struct sql_conf *c)
{
    *c = (struct sql_conf){
        .driver = "", .connect = "",
        .password_query = "SELECT username, domain, password FROM users WHERE username = '%n' AND domain = '%d'",
        .user_query = "SELECT home, uid, gid FROM users WHERE username = '%n' AND domain = '%d'",
        .update_query = "UPDATE users SET password = '%w' WHERE username = '%n' AND domain = '%d'",
        .iterate_query = "SELECT username, domain FROM users",
        .default_pass_scheme = "MD5",
    };
}

/* What stands before a '#' that is not inside of quotes. */
static struct slice without_comment(struct slice line)
{
    unsigned char quote = 0;

    for (size_t i = 0; i < line.size; i++) {
        unsigned char c = line.at[i];
        if (quote != 0) {
            if (c == '\\' && i + 1 < line.size)
                i++;
            else if (c == quote)
                quote = 0;
        } else if (c == '\'' || c == '"') {
            quote = c;
        } else if (c == '#') {
            return slice_trim(slice_head(line, i));
        }
    }
    return slice_trim(line);
}

static char *unquoted(struct arena *arena, struct slice value)
{
    struct buffer b = {0};
    char *out;

    if (value.size < 2 || (value.at[0] != '"' && value.at[0] != '\'') || value.at[value.size - 1] != value.at[0])
        return arena_str(arena, value);
    for (size_t i = 1; i + 1 < value.size; i++) {
        if (value.at[i] == '\\' && i + 2 < value.size)
            i++;
        buffer_append_byte(&b, value.at[i]);
    }
    out = arena_strdup(arena, buffer_cstr(&b));
    buffer_free(&b);
    return out;
}

static int set_key(struct slice key, char *value, const char *path, unsigned number, struct sql_conf *c, struct error *e)
{
    const struct { const char *name; const char **at; } keys[] = {
        {"driver", &c->driver}, {"connect", &c->connect}, {"password_query", &c->password_query},
        {"user_query", &c->user_query}, {"update_query", &c->update_query}, {"iterate_query", &c->iterate_query},
        {"default_pass_scheme", &c->default_pass_scheme},
    };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (slice_equal_str(key, keys[i].name)) {
            *keys[i].at = value;
            return 0;
        }
    if (slice_equal_str(key, "userdb_warning_disable"))
        return 0;
    return error_set(e, ERROR_INVALID, "Error in configuration file %s line %u: Unknown setting: %.*s", path, number,
                     (int)slice_head(key, 64).size, (const char *)key.at);
}

int sql_conf_parse(struct slice text, const char *path, struct arena *arena, struct sql_conf *c, struct error *e)
{
    struct slice rest = text, line;
    struct buffer joined = {0};
    unsigned number = 0;
    int result = 0;

    while (result == 0 && slice_split(&rest, '\n', &line)) {
        struct slice whole, key;
        size_t n = 0;

        number++;
        line = slice_trim(line);
        if (joined.size == 0 && (line.size == 0 || line.at[0] == '#'))
            continue;
        line = without_comment(line);
        if (joined.size > 0)
            buffer_append_byte(&joined, ' ');
        if (line.size > 0 && line.at[line.size - 1] == '\\') {
            buffer_append_slice(&joined, slice_trim(slice_head(line, line.size - 1)));
            if (joined.size > JOINED_MOST)
                result = error_set(e, ERROR_LIMIT, "Error in configuration file %s line %u: line is too long", path,
                                   number);
            continue;
        }
        buffer_append_slice(&joined, line);
        whole = buffer_slice(&joined);
        while (n < whole.size && whole.at[n] != ' ' && whole.at[n] != '\t' && whole.at[n] != '=')
            n++;
        key = slice_head(whole, n);
        whole = slice_trim(slice_from(whole, n));
        if (whole.size == 0 || whole.at[0] != '=')
            result = error_set(e, ERROR_INVALID, "Error in configuration file %s line %u: Missing '='", path, number);
        else
            result = set_key(key, unquoted(arena, slice_trim(slice_from(whole, 1))), path, number, c, e);
        buffer_reset(&joined);
    }
    if (result == 0 && joined.size > 0)
        result = error_set(e, ERROR_INVALID, "Error in configuration file %s line %u: Unfinished line", path, number);
    buffer_wipe(&joined);
    return result;
}
