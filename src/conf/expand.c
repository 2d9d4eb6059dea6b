/* %-variables (config 9.1): %[-][0][N][.[0][-]M][modifiers]X and %...{name}.
 *
 * Values are looked up in the caller's table, then among the built-in names, then as functions (expand_func.c). An
 * error is remembered and expansion goes on with UNSUPPORTED_VARIABLE_<name>, as Dovecot's callers expect. */
#include "conf/expand.h"

#include <nettle/md5.h>
#include <stdio.h>
#include <unistd.h>

enum { MODIFIERS_MOST = 10, DEPTH_MOST = 16 };

/* What stands between % and the variable. */
struct form {
    long offset, width;
    bool zeros, has_offset;
    char modifiers[MODIFIERS_MOST];
    unsigned modifier_count;
};

static long read_number(const char **p)
{
    long n = 0;
    for (; **p >= '0' && **p <= '9'; (*p)++) {
        if (n < 100000000)
            n = n * 10 + (**p - '0');
    }
    return n;
}

static bool take(const char **p, char c)
{
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

static struct form read_form(const char **p)
{
    struct form form = {0};
    bool minus = take(p, '-');
    form.zeros = take(p, '0');
    form.width = read_number(p);
    if (take(p, '.')) {
        form.offset = minus ? -form.width : form.width;
        form.has_offset = true;
        form.zeros = take(p, '0');
        minus = take(p, '-');
        form.width = read_number(p);
        if (minus)
            form.width = -form.width;
    }
    while (**p != '\0' && strchr("LUEXRHNMDT", **p) != NULL && form.modifier_count < MODIFIERS_MOST)
        form.modifiers[form.modifier_count++] = *(*p)++;
    return form;
}

/* ---- modifiers -------------------------------------------------------------------------------------------------- */

static struct slice map_bytes(struct arena *arena, struct slice value, char modifier)
{
    unsigned char *out = arena_copy(arena, value.at == NULL ? "" : (const char *)value.at, value.size);
    for (size_t i = 0; i < value.size; i++) {
        unsigned char c = value.at[i];
        if (modifier == 'L')
            out[i] = (unsigned char)text_lower((char)c);
        else if (modifier == 'U')
            out[i] = c >= 'a' && c <= 'z' ? (unsigned char)(c - 32) : c;
        else
            out[value.size - 1 - i] = c;
    }
    return slice_of(out, value.size);
}

static struct slice add_text(struct arena *arena, struct slice value, char modifier)
{
    struct buffer out = {0};
    for (size_t i = 0; i < value.size; i++) {
        unsigned char c = value.at[i];
        if (modifier == 'D' && c == '.') {
            buffer_append_str(&out, ",dc=");
            continue;
        }
        if (modifier == 'E' && (c == '"' || c == '\'' || c == '\\'))
            buffer_append_byte(&out, '\\');
        buffer_append_byte(&out, c);
    }
    struct slice copy = arena_slice(arena, buffer_slice(&out));
    buffer_free(&out);
    return copy;
}

static uint32_t hash_bytes(struct slice value)
{
    uint32_t h = 0;
    for (size_t i = 0; i < value.size; i++) {
        h = (h << 4) + value.at[i];
        uint32_t top = h & 0xf0000000U;
        if (top != 0)
            h = (h ^ top >> 24) ^ top;
    }
    return h;
}

static void md5_of(struct slice value, unsigned char digest[MD5_DIGEST_SIZE])
{
    struct md5_ctx md5;
    md5_init(&md5);
    md5_update(&md5, value.size, value.at);
    md5_digest(&md5, MD5_DIGEST_SIZE, digest);
}

/* H and N use the numbers of the form up: modulus, and with a dot the least number of digits. */
static struct slice hash_value(struct arena *arena, struct slice value, char modifier, struct form *form)
{
    uint64_t hash = hash_bytes(value);
    if (modifier == 'N') {
        unsigned char digest[MD5_DIGEST_SIZE];
        md5_of(value, digest);
        hash = (uint64_t)bytes_be32(digest) << 32 | bytes_be32(digest + 4);
    }
    if (form->width > 0)
        hash %= (uint64_t)form->width;
    int digits = form->has_offset && form->offset > 0 && form->offset < 64 ? (int)form->offset : 1;
    form->width = form->offset = 0;
    form->zeros = false;
    return slice_from_str(arena_printf(arena, "%0*x", digits, (unsigned)(uint32_t)hash));
}

static struct slice modify(struct arena *arena, struct slice value, struct form *form, unsigned i)
{
    uint64_t number = 0;
    switch (form->modifiers[i]) {
    case 'L':
    case 'U':
    case 'R':
        return map_bytes(arena, value, form->modifiers[i]);
    case 'D':
    case 'E':
        return add_text(arena, value, form->modifiers[i]);
    case 'X':
        (void)slice_to_u64(value, &number);
        return slice_from_str(arena_printf(arena, "%llx", (unsigned long long)number));
    case 'T':
        while (value.size > 0 && (value.at[value.size - 1] == ' ' || value.at[value.size - 1] == '\t'))
            value.size--;
        return value;
    case 'M': {
        unsigned char digest[MD5_DIGEST_SIZE];
        struct buffer hex = {0};
        md5_of(value, digest);
        text_hex_encode(&hex, slice_of(digest, sizeof(digest)));
        struct slice copy = arena_slice(arena, buffer_slice(&hex));
        buffer_free(&hex);
        return copy;
    }
    default:
        return hash_value(arena, value, form->modifiers[i], form);
    }
}

static void put_cut(struct buffer *out, struct slice value, const struct form *form)
{
    if (form->offset > 0)
        value = slice_from(value, (size_t)form->offset);
    else if (form->offset < 0 && (size_t)-form->offset < value.size)
        value = slice_from(value, value.size - (size_t)-form->offset);
    if (form->zeros) {
        for (size_t i = value.size; form->width > 0 && i < (size_t)form->width && i < 1024; i++)
            buffer_append_byte(out, '0');
    } else if (form->width > 0) {
        value = slice_head(value, (size_t)form->width);
    } else if (form->width < 0) {
        value = slice_head(value, (size_t)-form->width < value.size ? value.size - (size_t)-form->width : 0);
    }
    buffer_append_slice(out, value);
}

/* ---- look-up ---------------------------------------------------------------------------------------------------- */

static struct slice escaped(struct expand *x, const char *value)
{
    if (value == NULL)
        return SLICE_EMPTY;
    if (x->vars->escape != NULL)
        value = x->vars->escape(x->vars->arg, value, x->arena);
    return slice_from_str(value);
}

void expand_fail(struct expand *x, const struct error *e)
{
    *x->e = *e;
    x->errors++;
    x->failed = true;
}

static void fail_unknown(struct expand *x, struct slice name)
{
    struct error e;

    error_clear(&e);
    error_set(&e, ERROR_INVALID, "Unknown variable '%%%.*s'", (int)(name.size > 200 ? 200 : name.size), (const char *)name.at);
    expand_fail(x, &e);
}

static bool find_short(struct expand *x, char key, struct slice *value)
{
    for (const struct conf_var *v = x->vars->table; v->key != '\0' || v->name != NULL; v++) {
        if (v->key == key) {
            *value = escaped(x, v->value);
            return true;
        }
    }
    fail_unknown(x, slice_of((const unsigned char *)&key, 1));
    return false;
}

static bool find_builtin(struct expand *x, struct slice name, struct slice *value)
{
    char host[256];
    const char *text;
    if (slice_equal_str(name, "pid"))
        text = arena_printf(x->arena, "%ld", (long)getpid());
    else if (slice_equal_str(name, "uid"))
        text = arena_printf(x->arena, "%ld", (long)geteuid());
    else if (slice_equal_str(name, "gid"))
        text = arena_printf(x->arena, "%ld", (long)getegid());
    else if (slice_equal_str(name, "hostname") && gethostname(host, sizeof(host)) == 0)
        text = arena_str(x->arena, slice_of(host, strnlen(host, sizeof(host))));
    else
        return false;
    *value = slice_from_str(text);
    return true;
}

bool expand_find(struct expand *x, struct slice name, struct slice *value)
{
    for (const struct conf_var *v = x->vars->table; v->key != '\0' || v->name != NULL; v++) {
        if (v->name != NULL && slice_equal_str(name, v->name)) {
            *value = escaped(x, v->value);
            return true;
        }
    }
    if (find_builtin(x, name, value))
        return true;
    ptrdiff_t colon = slice_find(name, ':');
    for (const struct conf_var_func *f = x->vars->funcs; colon >= 0 && f != NULL && f->name != NULL; f++) {
        if (!slice_equal_str(slice_head(name, (size_t)colon), f->name))
            continue;
        const char *got = NULL;
        struct error e;
        error_clear(&e);
        if (!f->get(x->vars->arg, arena_str(x->arena, slice_from(name, (size_t)colon + 1)), x->arena, &got, &e)) {
            expand_fail(x, &e);
            return false;
        }
        *value = escaped(x, got);
        return true;
    }
    const unsigned errors = x->errors;
    if (expand_function(x, name, value))
        return true;
    if (x->errors == errors)
        fail_unknown(x, colon < 0 ? name : slice_head(name, (size_t)colon));
    return false;
}

/* The length of "name}" up to its brace, or -1. */
static ptrdiff_t name_end(const char *p)
{
    unsigned depth = 1;
    for (ptrdiff_t i = 0; p[i] != '\0'; i++) {
        if (p[i] == '\\' && p[i + 1] != '\0')
            i++;
        else if (p[i] == '{')
            depth++;
        else if (p[i] == '}' && --depth == 0)
            return i;
    }
    return -1;
}

/* One variable, p after its form. -> what follows it. */
static const char *put_variable(struct expand *x, struct buffer *out, const char *p, struct form *form)
{
    struct slice value, name = slice_of(p, 1);
    ptrdiff_t end = p[0] == '{' ? name_end(p + 1) : -1;
    bool found;
    const char *after = p + 1;
    if (p[0] == '%') {
        value = SLICE("%");
        found = true;
    } else if (end >= 0) {
        name = slice_of(p + 1, (size_t)end);
        after = p + end + 2;
        found = expand_find(x, name, &value);
    } else {
        found = find_short(x, p[0], &value);
    }
    if (!found) {
        buffer_append_str(out, "UNSUPPORTED_VARIABLE_");
        buffer_append_slice(out, name);
        return after;
    }
    for (unsigned i = 0; i < form->modifier_count; i++)
        value = modify(x->arena, value, form, i);
    put_cut(out, value, form);
    return after;
}

struct slice expand_text(struct expand *x, const char *template)
{
    struct buffer out = {0};
    const char *p = template;
    if (++x->depth > DEPTH_MOST) {
        struct error e;
        error_clear(&e);
        error_set(&e, ERROR_LIMIT, "Variables are nested too deep");
        expand_fail(x, &e);
        p = "";
    }
    while (*p != '\0') {
        const char *percent = strchrnul(p, '%');
        buffer_append(&out, p, (size_t)(percent - p));
        p = percent;
        if (*p == '\0')
            break;
        p++;
        struct form form = read_form(&p);
        if (*p == '\0')
            break;
        p = put_variable(x, &out, p, &form);
    }
    x->depth--;
    struct slice text = arena_slice(x->arena, buffer_slice(&out));
    buffer_free(&out);
    return text;
}

char *conf_expand(struct arena *arena, const char *template, const struct conf_vars *vars, bool *failed,
                  struct error *e)
{
    struct expand x = {.arena = arena, .vars = vars, .e = e};
    char *text = arena_str(arena, expand_text(&x, template));
    if (failed != NULL)
        *failed = x.failed;
    return text;
}

bool conf_expand_uses(const char *template, char key, const char *name)
{
    const char *p = template;
    while ((p = strchr(p, '%')) != NULL) {
        p++;
        (void)read_form(&p);
        if (*p == '\0')
            return false;
        ptrdiff_t end = *p == '{' ? name_end(p + 1) : -1;
        if (end < 0) {
            if (key != '\0' && *p == key)
                return true;
            p++;
            continue;
        }
        struct slice inside = slice_of(p + 1, (size_t)end);
        ptrdiff_t colon = slice_find_last(inside, ':');
        if (name != NULL && (slice_equal_str(inside, name) ||
                             (colon >= 0 && slice_equal_str(slice_from(inside, (size_t)colon + 1), name))))
            return true;
        p++; /* goes on inside the braces: if has variables in its parts */
    }
    return false;
}
