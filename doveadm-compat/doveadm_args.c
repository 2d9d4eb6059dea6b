/* doveadm_args.c - options and positional parameters of one command, as its row in commands.def says. */
#include "doveadm_args.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

struct doveadm_value {
    const char *name;
    char letter, type;        /* '-' = no letter; b s a n, p = positional, P = array */
    bool given;
    VEC(const char *) texts;
    struct doveadm_value *next;
};

static const char mail_options[] = "u:user:s,A:all-users:b,F:user-file:s,S:socket-path:s,-:trans-flags:n";

static struct doveadm_value *find(const struct doveadm *d, const char *name)
{
    for (struct doveadm_value *v = d->values; v != NULL; v = v->next)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

bool doveadm_given(const struct doveadm *d, const char *name)
{
    const struct doveadm_value *v = find(d, name);

    return v != NULL && v->given;
}

bool doveadm_flag(const struct doveadm *d, const char *name)
{
    return doveadm_given(d, name);
}

const char *doveadm_text(const struct doveadm *d, const char *name)
{
    const struct doveadm_value *v = find(d, name);

    return v == NULL || v->texts.count == 0 ? NULL : v->texts.at[v->texts.count - 1];
}

const char *const *doveadm_list(const struct doveadm *d, const char *name, size_t *n)
{
    static const char *const none[] = {NULL};
    struct doveadm_value *v = find(d, name);

    *n = v == NULL ? 0 : v->texts.count;
    if (*n == 0)
        return none;
    VEC_PUSH(&v->texts, NULL); /* the end mark does not count */
    v->texts.count--;
    return v->texts.at;
}

bool doveadm_number(const struct doveadm *d, const char *name, int64_t *out)
{
    const char *text = doveadm_text(d, name);
    char *end;

    if (text == NULL || *text == '\0')
        return false;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return *end == '\0' && errno == 0;
}

static void add_value(struct doveadm *d, struct slice name, char letter, char type)
{
    struct doveadm_value *v = ARENA_NEW(d->arena, struct doveadm_value), **last;

    v->name = arena_str(d->arena, name);
    v->letter = letter;
    v->type = type;
    for (last = &d->values; *last != NULL; last = &(*last)->next)
        ;
    *last = v;
}

static void declare_options(struct doveadm *d, const char *text)
{
    struct slice rest = slice_from_str(text), one, letter, name, type;

    while (rest.size > 0 && slice_split(&rest, ',', &one))
        if (slice_split(&one, ':', &letter) && slice_split(&one, ':', &name) && slice_split(&one, ':', &type))
            add_value(d, name, (char)letter.at[0], (char)type.at[0]);
}

static void declare_positional(struct doveadm *d, const char *text)
{
    struct slice rest = slice_from_str(text), one;

    while (rest.size > 0 && slice_split(&rest, ',', &one)) {
        bool array = one.at[one.size - 1] == '+';
        add_value(d, slice_head(one, one.size - array), '-', array ? 'P' : 'p');
    }
}

static void take(struct doveadm_value *v, const char *text)
{
    v->given = true;
    if (text != NULL)
        VEC_PUSH(&v->texts, text);
}

/* Positional parameters in order; an array takes the rest. */
static int take_positional(struct doveadm *d, char **args)
{
    struct doveadm_value *v = d->values;

    for (; *args != NULL; args++) {
        while (v != NULL && v->type != 'p' && v->type != 'P')
            v = v->next;
        if (v == NULL) {
            struct buffer text = {0};
            for (; *args != NULL; args++)
                buffer_printf(&text, "%s%s", text.size > 0 ? " " : "", *args);
            log_error(NULL, "Extraneous arguments found: %s", buffer_cstr(&text));
            buffer_free(&text);
            return DOVEADM_USAGE;
        }
        take(v, *args);
        if (v->type == 'p')
            v = v->next;
    }
    return DOVEADM_OK;
}

static int take_options(struct doveadm *d, int argc, char **argv)
{
    struct option *longs;
    char letters[128];
    size_t n = 0, count = 0, i = 0;
    int c, index = -1;

    for (struct doveadm_value *v = d->values; v != NULL; v = v->next)
        count++;
    longs = ARENA_ARRAY(d->arena, struct option, count + 1);
    letters[n++] = '+';
    if ((d->command->flags & DOVEADM_NO_PERMUTE) == 0)
        n = 0;
    for (struct doveadm_value *v = d->values; v != NULL; v = v->next) {
        bool wants = v->type != 'b';
        if (v->type == 'p' || v->type == 'P')
            continue;
        if (v->letter != '-') {
            letters[n++] = v->letter;
            if (wants)
                letters[n++] = ':';
        }
        longs[i++] = (struct option){v->name, wants ? required_argument : no_argument, NULL, 0};
    }
    letters[n] = '\0';
    optind = 0; /* glibc: start anew */
    while ((c = getopt_long(argc, argv, letters, longs, &index)) != -1) {
        struct doveadm_value *v;
        if (c == '?')
            return DOVEADM_USAGE; /* getopt has said why */
        for (v = d->values; v != NULL; v = v->next)
            if (c == 0 ? strcmp(v->name, longs[index].name) == 0 : v->letter == c)
                break;
        take(v, v->type == 'b' ? NULL : optarg);
    }
    return DOVEADM_OK;
}

void doveadm_args_declare(struct doveadm *d)
{
    declare_options(d, d->command->options);
    if ((d->command->flags & DOVEADM_MAIL) != 0)
        declare_options(d, mail_options);
    declare_positional(d, d->command->positional);
}

char *doveadm_args_camel(struct arena *a, const char *name)
{
    char *text = arena_strdup(a, name), *to = text;

    for (; *name != '\0'; name++)
        if ((*name == ' ' || *name == '-') && name[1] >= 'a' && name[1] <= 'z')
            *to++ = (char)(*++name - 'a' + 'A');
        else
            *to++ = *name;
    *to = '\0';
    return text;
}

/* Lists of fields and flags are one word of the command line, where they have an option it is only another way. */
static bool give_list(struct doveadm *d, const char *name, const char *value)
{
    struct doveadm_value *v = find(d, strcmp(name, "field") == 0 ? "fieldstr" : "flagstr");
    const char *before;

    if ((strcmp(name, "field") != 0 && strcmp(name, "flag") != 0) || v == NULL || v->type != 'p')
        return false;
    before = doveadm_text(d, v->name);
    take(v, before == NULL ? value : arena_printf(d->arena, "%s %s", before, value));
    return true;
}

bool doveadm_args_give(struct doveadm *d, const char *name, const char *value)
{
    struct doveadm_value *v = d->values;
    int64_t number;

    if (give_list(d, name, value))
        return true;
    while (v != NULL && strcmp(v->name, name) != 0 && strcmp(doveadm_args_camel(d->arena, v->name), name) != 0)
        v = v->next;
    if (v == NULL)
        return false;
    if (v->type == 'b' && strcmp(value, "true") != 0)
        return true;
    take(v, v->type == 'b' ? NULL : value);
    return v->type != 'n' || doveadm_number(d, v->name, &number);
}

void doveadm_args_each(const struct doveadm *d, void (*see)(void *, const char *, char), void *arg)
{
    for (const struct doveadm_value *v = d->values; v != NULL; v = v->next)
        see(arg, v->name, v->type);
}

int doveadm_args_parse(struct doveadm *d, int argc, char **argv)
{
    int status = DOVEADM_OK;

    doveadm_args_declare(d);
    if ((d->command->flags & DOVEADM_RAW_ARGS) != 0)
        return take_positional(d, argv + 1);
    status = take_options(d, argc, argv);
    return status != DOVEADM_OK ? status : take_positional(d, argv + optind);
}

/* Parameters stand in the usage behind the options, in their order. */
bool doveadm_args_missing(const struct doveadm *d)
{
    const char *at = d->command->usage;
    const struct doveadm_value *v = d->values;
    size_t depth = 0;

    for (; *at != '\0'; at++) {
        depth += *at == '[';
        depth -= *at == ']' && depth > 0;
        if (*at != '<' || depth > 0)
            continue;
        while (v != NULL && v->type != 'p' && v->type != 'P')
            v = v->next;
        if (v != NULL && !v->given)
            return true;
        v = v == NULL ? NULL : v->next;
    }
    return false;
}

static void again(struct doveadm_value *v, struct arena *a, const char **out, size_t *n)
{
    const char *option = v->letter != '-' ? arena_printf(a, "-%c", v->letter) : arena_printf(a, "--%s", v->name);

    if (v->type == 'b')
        out[(*n)++] = option;
    for (size_t i = 0; i < v->texts.count; i++) {
        out[(*n)++] = option;
        out[(*n)++] = strcmp(v->name, "user-file") == 0 ? "" : v->texts.at[i];
    }
}

static bool is_mail_option(const struct doveadm_value *v)
{
    static const char *const names[] = {"user", "all-users", "user-file", "socket-path", "trans-flags"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(v->name, names[i]) == 0)
            return true;
    return false;
}

const char **doveadm_args_again(const struct doveadm *d, const char *without)
{
    size_t most = 2, n = 0;
    const char **out;

    for (const struct doveadm_value *v = d->values; v != NULL; v = v->next)
        most += 2 * v->texts.count + 1;
    out = ARENA_ARRAY(d->arena, const char *, most);
    for (int mail = 1; mail >= 0; mail--)
        for (struct doveadm_value *v = d->values; v != NULL; v = v->next)
            if (v->given && v->type != 'p' && v->type != 'P' && is_mail_option(v) == (mail == 1) &&
                strcmp(v->name, "socket-path") != 0)
                again(v, d->arena, out, &n);
    out[n++] = "--";
    for (const struct doveadm_value *v = d->values; v != NULL; v = v->next)
        for (size_t i = 0; (v->type == 'p' || v->type == 'P') && i < v->texts.count; i++)
            if (without == NULL || strcmp(v->name, without) != 0)
                out[n++] = v->texts.at[i];
    return out;
}

void doveadm_args_free(struct doveadm *d)
{
    for (struct doveadm_value *v = d->values; v != NULL; v = v->next)
        VEC_FREE(&v->texts);
}

const struct doveadm_command *doveadm_command_find(char **args, int *words)
{
    for (const struct doveadm_command *c = doveadm_commands; c->name != NULL; c++) {
        struct slice rest = slice_from_str(c->name), word;
        int n = 0;
        bool all = true;
        while (all && slice_split(&rest, ' ', &word)) {
            all = args[n] != NULL && slice_equal_str(word, args[n]);
            n++;
        }
        if (all) {
            *words = n;
            return c;
        }
    }
    return NULL;
}
