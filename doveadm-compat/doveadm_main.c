/* doveadm_main.c - the program: global options, finding the command, running it, the exit status (doveadm 1, 2). */
#include "doveadm_args.h"
#include "print.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The longest beginning of the arguments that names a family: "mailbox", "director ring". */
static const char *find_family(struct arena *a, char **args)
{
    const char *family = "", *longer = "";

    for (int i = 0; i < 2 && args[i] != NULL; i++) {
        longer = i == 0 ? arena_strdup(a, args[0]) : arena_printf(a, "%s %s", longer, args[i]);
        if (!doveadm_is_family(longer))
            break;
        family = i == 0 ? longer : family; /* usage is given for the first word's family */
    }
    return family;
}

void doveadm_fatal(int status, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    fflush(stdout);
    log_fatal(status, "%s", text);
}

static void take_global_options(struct doveadm *d, int argc, char **argv)
{
    VEC(const char *) overrides = {0};
    int c;

    while ((c = getopt(argc, argv, "+Df:hvc:i:kLo:O")) != -1) {
        switch (c) {
        case 'D':
            d->debug = d->verbose = true;
            break;
        case 'v':
            d->verbose = true;
            break;
        case 'f':
            d->formatter = optarg;
            break;
        case 'h':
            d->no_titles = true;
            break;
        case 'c':
            d->config_path = optarg;
            break;
        case 'o':
            VEC_PUSH(&overrides, optarg);
            break;
        case 'i':
        case 'k':
        case 'L':
        case 'O':
            break;
        default:
            exit(DOVEADM_GLOBAL_OPTION);
        }
    }
    VEC_PUSH(&overrides, NULL);
    d->overrides = arena_copy(d->arena, overrides.at, overrides.count * sizeof(*overrides.at));
    VEC_FREE(&overrides);
}

static int run_command(struct doveadm *d, char **args, int words)
{
    int argc = 0, status;

    /* getopt's messages begin with the last word of the command. */
    args += words - 1;
    while (args[argc] != NULL)
        argc++;
    status = doveadm_args_parse(d, argc, args);
    if (status == DOVEADM_OK)
        status = d->command->run(d);
    print_flush(d);
    print_free(d);
    if (d->end_line)
        putchar('\n');
    return status;
}

int main(int argc, char **argv)
{
    struct doveadm d = {.arena = arena_new()};
    int words = 0, status;

    log_open_stderr("", false);
    take_global_options(&d, argc, argv);
    log_set_debug(d.debug);
    if (d.formatter != NULL && !print_known(d.formatter)) {
        log_open_stderr("doveadm: ", false);
        doveadm_fatal(DOVEADM_TEMPFAIL, "Unknown print formatter: %s", d.formatter);
    }
    argv += optind;
    d.command = argv[0] == NULL ? NULL : doveadm_command_find(argv, &words);
    if (d.command != NULL && strncmp(d.command->name, "mailbox ", 8) == 0 && (d.command->flags & DOVEADM_PLUGIN) != 0 &&
        !doveadm_plugin_loaded(&d, d.command))
        d.command = NULL; /* as if it did not exist: no plugin has the family's name */
    if (d.command == NULL) {
        status = doveadm_help_list(&d, argv[0] == NULL ? "" : find_family(d.arena, argv));
    } else {
        if ((d.command->flags & DOVEADM_PLUGIN) != 0 && !doveadm_plugin_loaded(&d, d.command))
            doveadm_fatal(DOVEADM_TEMPFAIL, "Unknown command '%s', but plugin %s exists. Try to set mail_plugins=%s",
                          argv[0], argv[0], argv[0]);
        status = run_command(&d, argv, words);
    }
    doveadm_args_free(&d);
    settings_unref(d.set);
    conf_free(d.conf);
    arena_free(d.arena);
    return status;
}
