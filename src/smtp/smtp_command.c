/* smtp_command.c - command lines, parameters, strings (RFC 5321 section 4.1, doors 1). */
#include "smtp/smtp.h"

static bool is_letter(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Printable ASCII, space, TAB and UTF-8: what a line may hold. */
static bool line_is_clean(struct slice line)
{
    for (size_t i = 0; i < line.size; i++)
        if ((line.at[i] < 0x20 && line.at[i] != '\t') || line.at[i] == 0x7f)
            return false;
    return text_utf8_valid(line);
}

enum smtp_parsed smtp_command_parse(struct slice in, struct smtp_command *out)
{
    ptrdiff_t lf = slice_find(in, '\n');
    struct slice line;
    size_t n = 0;

    memset(out, 0, sizeof(*out));
    if (lf < 0)
        return in.size >= SMTP_LINE_MAX ? SMTP_OVERLONG : SMTP_INCOMPLETE;
    out->size = (size_t)lf + 1;
    line = slice_head(in, (size_t)lf);
    if (line.size > 0 && line.at[line.size - 1] == '\r')
        line.size--;
    if (line.size > SMTP_LINE_MAX || !line_is_clean(line))
        return SMTP_BAD_SYNTAX;
    while (n < line.size && is_letter(line.at[n]))
        n++;
    out->name = slice_head(line, n);
    if (n == line.size)
        return SMTP_COMMAND;
    if (line.at[n] != ' ')
        return SMTP_BAD_SYNTAX; /* a digit or another character in the name */
    out->params = slice_from(line, n + 1);
    if (n > 0 && out->params.size > 0 && out->params.at[0] == ' ')
        return SMTP_BAD_SYNTAX;
    return SMTP_COMMAND;
}

static bool param_key_byte(unsigned char c, bool first)
{
    return is_letter(c) || (c >= '0' && c <= '9') || (!first && c == '-');
}

const char *smtp_params_parse(struct slice in, struct smtp_param *out, size_t *count)
{
    struct slice word;

    *count = 0;
    if (in.size == 0)
        return NULL;
    if (in.at[0] != ' ')
        return "Unexpected character";
    in = slice_from(in, 1);
    while (slice_split(&in, ' ', &word)) {
        struct smtp_param *p = &out[*count];
        ptrdiff_t eq = slice_find(word, '=');
        if (word.size == 0)
            return "Parameter is empty";
        if (*count == SMTP_PARAMS_MAX)
            return "Too many parameters";
        p->has_value = eq >= 0;
        p->key = eq < 0 ? word : slice_head(word, (size_t)eq);
        p->value = eq < 0 ? SLICE_EMPTY : slice_from(word, (size_t)eq + 1);
        for (size_t i = 0; i < p->key.size; i++)
            if (!param_key_byte(p->key.at[i], i == 0))
                return "Unexpected character in parameter keyword";
        if (p->key.size == 0)
            return "Unexpected character in parameter keyword";
        for (size_t i = 0; i < p->value.size; i++)
            if (p->value.at[i] <= 0x20 || p->value.at[i] == '=' || p->value.at[i] >= 0x7f)
                return "Unexpected character in parameter value";
        (*count)++;
    }
    return NULL;
}

static int hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int smtp_xtext_decode(struct buffer *out, struct slice in)
{
    for (size_t i = 0; i < in.size; i++) {
        if (in.at[i] < 33 || in.at[i] > 126 || in.at[i] == '=')
            return -1;
        if (in.at[i] != '+') {
            buffer_append_byte(out, in.at[i]);
            continue;
        }
        if (in.size - i < 3 || hex_digit(in.at[i + 1]) < 0 || hex_digit(in.at[i + 2]) < 0)
            return -1;
        buffer_append_byte(out, (unsigned char)(hex_digit(in.at[i + 1]) << 4 | hex_digit(in.at[i + 2])));
        i += 2;
    }
    return 0;
}

void smtp_xtext_encode(struct buffer *out, struct slice in)
{
    for (size_t i = 0; i < in.size; i++) {
        if (in.at[i] < 33 || in.at[i] > 126 || in.at[i] == '=' || in.at[i] == '+')
            buffer_printf(out, "+%02X", in.at[i]);
        else
            buffer_append_byte(out, in.at[i]);
    }
}

static bool atext(unsigned char c)
{
    return is_letter(c) || (c >= '0' && c <= '9') || (c != 0 && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

const char *smtp_string_check(struct slice in)
{
    size_t i = 0;

    if (in.size > 0 && in.at[0] == '"') {
        for (i = 1; i < in.size && in.at[i] != '"'; i++)
            if (in.at[i] == '\\')
                i++;
        if (i >= in.size)
            return "Missing '\"' at end of string";
        return i + 1 == in.size ? NULL : "Invalid character in string";
    }
    while (i < in.size && atext(in.at[i]))
        i++;
    return i == in.size && i > 0 ? NULL : "Invalid character in string";
}

bool smtp_hostname_valid(struct slice name)
{
    struct slice label;

    if (name.size == 0 || name.size > 255)
        return false;
    if (name.at[0] == '[') {
        if (name.at[name.size - 1] != ']')
            return false;
        for (size_t i = 1; i + 1 < name.size; i++)
            if (!is_letter(name.at[i]) && strchr("0123456789.:-", name.at[i]) == NULL)
                return false;
        return name.size > 2;
    }
    while (slice_split(&name, '.', &label)) {
        if (label.size == 0 || label.size > 63 || label.at[0] == '-' || label.at[label.size - 1] == '-')
            return false;
        for (size_t i = 0; i < label.size; i++)
            if (!is_letter(label.at[i]) && !(label.at[i] >= '0' && label.at[i] <= '9') && label.at[i] != '-')
                return false;
    }
    return true;
}
