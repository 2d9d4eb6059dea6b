/* config.c - dovecot-virtual: groups of mailbox names, each followed by a search program whose lines begin with a blank.
 *
 *     INBOX
 *     work.%
 *     -work.old
 *       unseen from boss
 *
 * '-' leaves out, '!' is the mailbox that saves go to, '+' takes \Recent over there too. */
#include "store/virtual/virtual.h"

#include <zlib.h>

void virtual_config_free(struct virtual_config *config)
{
    mem_free(config->lines);
    mem_free(config->rules);
    *config = (struct virtual_config){0};
}

static int end_rule(struct virtual_config *config, struct buffer *rule, struct arena *arena, unsigned line, struct error *e)
{
    struct slice text;

    if (rule->size == 0)
        return error_set(e, ERROR_INVALID, "Error at line %u: No search rule for mailboxes", line);
    /* Over all rules, with the blank that joins a rule's lines also in front; the state begins with 0, not with ones. */
    config->crc = (uint32_t)crc32(config->rule_count == 0 ? 0xffffffff : config->crc, rule->at, (uInt)rule->size);
    text = slice_trim(buffer_slice(rule));
    if (config->rule_count == config->rule_room)
        config->rules = vec_grow(config->rules, &config->rule_room, sizeof(*config->rules));
    config->rules[config->rule_count++] = arena_str(arena, text);
    buffer_reset(rule);
    return 0;
}

static int add_mailbox(struct virtual_config *config, struct slice line, struct arena *arena, unsigned number, struct error *e)
{
    struct virtual_line entry = {.mark = VIRTUAL_PLAIN, .rule = config->rule_count};

    switch (line.at[0]) {
    case '-':
        entry.mark = VIRTUAL_EXCLUDE;
        break;
    case '!':
        entry.mark = VIRTUAL_SAVE;
        break;
    case '+':
        entry.mark = VIRTUAL_CLEAR_RECENT;
        break;
    case '/':
        return error_set(e, ERROR_INVALID, "Error at line %u: mailboxes by metadata aren't supported", number);
    default:
        break;
    }
    if (entry.mark != VIRTUAL_PLAIN)
        line = slice_from(line, 1);
    if (line.size == 0 || !text_utf8_valid(line) || slice_find(line, 0) >= 0)
        return error_set(e, ERROR_INVALID, "Error at line %u: Mailbox name not UTF-8", number);
    entry.pattern = arena_str(arena, line);
    if (config->line_count == config->line_room)
        config->lines = vec_grow(config->lines, &config->line_room, sizeof(*config->lines));
    config->lines[config->line_count++] = entry;
    return 0;
}

int virtual_config_parse(struct virtual_config *config, struct slice file, struct arena *arena, struct error *e)
{
    struct buffer rule = {0};
    struct slice line;
    bool open = false;             /* mailboxes wait for their rule */
    unsigned number = 0;
    int r = 0;

    *config = (struct virtual_config){0};
    while (r == 0 && slice_split(&file, '\n', &line)) {
        number++;
        if (line.size > 0 && line.at[line.size - 1] == '\r')
            line.size--;
        if (line.size == 0 || line.at[0] == '#')
            continue;
        if (line.at[0] == ' ' || line.at[0] == '\t') {
            if (!open) {
                r = error_set(e, ERROR_INVALID, "Error at line %u: Search rule without a mailbox", number);
                break;
            }
            while (line.size > 0 && (line.at[0] == ' ' || line.at[0] == '\t'))
                line = slice_from(line, 1);
            buffer_append_byte(&rule, ' ');
            buffer_append_slice(&rule, line);
            continue;
        }
        if (open && rule.size > 0) {
            r = end_rule(config, &rule, arena, number, e);
            open = false;
        }
        if (r == 0)
            r = add_mailbox(config, line, arena, number, e);
        open = true;
    }
    if (r == 0 && open)
        r = end_rule(config, &rule, arena, number, e);
    if (r == 0 && config->rule_count == 0)
        r = error_set(e, ERROR_INVALID, "No mailboxes defined");
    buffer_free(&rule);
    if (r < 0)
        virtual_config_free(config);
    return r;
}
