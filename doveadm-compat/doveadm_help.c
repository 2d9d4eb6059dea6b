/* doveadm_help.c - usage texts: one command, a family, everything (doveadm 1.1). */
#include "doveadm_args.h"

#include <stdio.h>

int doveadm_usage(const struct doveadm *d)
{
    if (d->server && (d->command->flags & DOVEADM_MAIL) != 0)
        doveadm_fatal(DOVEADM_USAGE, "Client sent invalid command. Usage: doveadm %s %s", d->command->name, d->command->usage);
    fprintf(stderr, "doveadm %s %s\n", d->command->name, d->command->usage);
    return DOVEADM_USAGE;
}

static bool in_family(const char *name, const char *family)
{
    size_t n = strlen(family);

    return n == 0 || (strncmp(name, family, n) == 0 && name[n] == ' ');
}

bool doveadm_is_family(const char *words)
{
    for (const struct doveadm_command *c = doveadm_commands; c->name != NULL; c++)
        if (in_family(c->name, words))
            return true;
    return false;
}

/* Commands of plugins that are not loaded are not listed. */
static bool is_listed(struct doveadm *d, const struct doveadm_command *c)
{
    return (c->flags & DOVEADM_PLUGIN) == 0 || doveadm_plugin_loaded(d, c);
}

/* Lines sorted by the first word; families folded to "word  a|b|c". The first sub-word of a family that is a family
 * itself stands twice in the list of all commands, as the real program prints it (recordings, group top). */
int doveadm_help_list(struct doveadm *d, const char *family)
{
    size_t skip = *family == '\0' ? 0 : strlen(family) + 1;
    const char *space = *family == '\0' ? "" : " ";

    fprintf(stderr, "usage: doveadm [-Dv] [-f <formatter>] %s%s<command> [<args>]\n", family, space);
    if (*family == '\0')
        fprintf(stderr, "%15s\n", "");
    for (const struct doveadm_command *c = doveadm_commands; c->name != NULL;) {
        const char *word = c->name + skip, *sub, *last = "";
        size_t n;
        bool first = true;
        if (!in_family(c->name, family) || !is_listed(d, c)) {
            c++;
            continue;
        }
        n = strcspn(word, " ");
        if (word[n] == '\0') {
            fprintf(stderr, "  %-12.*s %s\n", (int)n, word, c->usage);
            c++;
            continue;
        }
        fprintf(stderr, "  %-12.*s ", (int)n, word);
        for (; c->name != NULL && in_family(c->name, family) && strncmp(c->name + skip, word, n + 1) == 0; c++) {
            size_t m, before;
            if (!is_listed(d, c))
                continue;
            sub = c->name + skip + n + 1;
            m = strcspn(sub, " ");
            before = strcspn(last, " ");
            if (*last != '\0' && before == m && strncmp(last, sub, m) == 0 && !(first && skip == 0))
                continue;
            if (*last != '\0' && before == m && strncmp(last, sub, m) == 0)
                first = false;
            else if (*last != '\0')
                first = false;
            fprintf(stderr, "%s%.*s", *last == '\0' ? "" : "|", (int)m, sub);
            last = sub;
        }
        fputc('\n', stderr);
    }
    return DOVEADM_USAGE;
}
