/* cmd_batch.c - doveadm batch: several mail commands for each user, with the user opened once (doveadm 6.8).
 *
 * Each command has its arguments, its output and headers of its own; the real program prints all rows under the headers of
 * all commands together. The first command that fails ends the user's batch. What a doveadm-server answers (-S) does not tell
 * one command's rows from another's; so they stand under all headers then, as there. */
#include "doveadm_args.h"
#include "mail.h"

struct batch {
    struct doveadm *at; /* one a command */
    size_t count;
};
static struct batch batch;

/* The arguments from one separator to the next are a command. */
static int parse_one(struct doveadm *d, char **words, int n, struct doveadm *sub)
{
    int taken = 0;

    *sub = (struct doveadm){.arena = d->arena, .set = doveadm_settings(d), .config_path = d->config_path,
                            .overrides = d->overrides, .formatter = d->formatter, .debug = d->debug, .verbose = d->verbose,
                            .no_titles = d->no_titles, .iterating = d->iterating, .remote = d->remote, .batch_headers = d->remote};
    sub->command = doveadm_command_find(words, &taken);
    if (sub->command == NULL || (sub->command->flags & DOVEADM_MAIL) == 0 || sub->command->run == doveadm_batch)
        doveadm_fatal(DOVEADM_USAGE, "doveadm batch: '%s' mail command doesn't exist", n == 0 ? "" : words[0]);
    if (doveadm_args_parse(sub, n - taken + 1, words + taken - 1) != DOVEADM_OK)
        return doveadm_usage(sub);
    if (doveadm_given(sub, "user") || doveadm_given(sub, "all-users") || doveadm_given(sub, "user-file"))
        doveadm_fatal(DOVEADM_USAGE, "doveadm batch: -u, -A and -F belong to batch itself");
    return DOVEADM_OK;
}

/* The headers of all commands, one after the other, in the formatter of the first. */
static int gather_headers(struct doveadm *d)
{
    int status = DOVEADM_OK;

    for (size_t i = 0; i < batch.count && status == DOVEADM_OK; i++) {
        struct doveadm *sub = &batch.at[i];

        sub->print = d->print;
        status = sub->command->run(sub);
        d->print = sub->print;
        sub->print = NULL;
    }
    return status;
}

static int batch_prepare(struct doveadm *d)
{
    const char *separator = doveadm_text(d, "separator");
    size_t n, first = 0;
    const char *const *args = doveadm_list(d, "args", &n);

    batch.at = ARENA_ARRAY(d->arena, struct doveadm, n + 1);
    for (size_t i = 0; i <= n; i++) {
        char **words;

        if (i < n && strcmp(args[i], separator) != 0)
            continue;
        words = ARENA_ARRAY(d->arena, char *, i - first + 1);
        for (size_t j = first; j < i; j++)
            words[j - first] = arena_strdup(d->arena, args[j]);
        if (parse_one(d, words, (int)(i - first), &batch.at[batch.count]) != DOVEADM_OK)
            return DOVEADM_USAGE;
        batch.count++;
        first = i + 1;
    }
    return d->remote ? gather_headers(d) : DOVEADM_OK;
}

static int batch_run(struct doveadm *d, struct mail_user *user)
{
    int status = DOVEADM_OK;

    for (size_t i = 0; i < batch.count && status == DOVEADM_OK; i++) {
        struct doveadm *sub = &batch.at[i];

        sub->batch_user = user;
        sub->username = d->username;
        status = sub->command->run(sub);
    }
    return status;
}

int doveadm_batch(struct doveadm *d)
{
    static const struct mail_command command = {batch_prepare, batch_run};
    size_t n;
    int status;

    if (doveadm_list(d, "args", &n), n == 0)
        return doveadm_usage(d); /* whoever the user is */
    status = doveadm_mail_run(d, &command);

    for (size_t i = 0; i < batch.count; i++) {
        print_flush(&batch.at[i]);
        print_free(&batch.at[i]);
        doveadm_args_free(&batch.at[i]);
    }
    return status;
}
