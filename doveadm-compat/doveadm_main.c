/* doveadm_main.c - the program: global options, finding the command, running it, the exit status (doveadm 1, 2). */
#include "doveadm_args.h"
#include "print.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The whole of the command's words, or NULL. *words = how many arguments they take. */
static const struct doveadm_command *find_command(char **args, int *words)
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

struct settings *doveadm_settings(struct doveadm *d)
{
    const struct conf_filter filter = {.service = "doveadm"};
    const char *path = d->config_path != NULL ? d->config_path : getenv("CONFIG_FILE");
    struct stat st;
    struct error e;

    if (d->set != NULL)
        return d->set;
    if (path == NULL)
        path = SYSCONFDIR "/dovecot/dovecot.conf";
    if (stat(path, &st) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Error reading configuration: stat(%s) failed: %s", path, strerror(errno));
    if (conf_open_file(path, d->overrides, &d->conf, &e) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Error reading configuration: %s", e.admin);
    d->set = conf_settings(d->conf, &filter, &e);
    if (d->set == NULL)
        doveadm_fatal(DOVEADM_TEMPFAIL, "Error reading configuration: %s", e.admin);
    return d->set;
}

const char *doveadm_socket(struct doveadm *d, const char *name)
{
    if (*name == '/')
        return name;
    return arena_printf(d->arena, "%s/%s", conf_str(doveadm_settings(d), SET_base_dir), name);
}

int doveadm_status_of(const struct error *e)
{
    switch (e->class) {
    case ERROR_NONE:
        return DOVEADM_OK;
    case ERROR_NOT_FOUND:
        return DOVEADM_NOTFOUND;
    case ERROR_EXISTS:
    case ERROR_LIMIT:
    case ERROR_UNSUPPORTED:
        return DOVEADM_DATAERR;
    case ERROR_INVALID:
        return DOVEADM_USAGE;
    case ERROR_PERMISSION:
        return DOVEADM_NOPERM;
    case ERROR_QUOTA:
        return DOVEADM_NOQUOTA;
    default:
        return DOVEADM_TEMPFAIL;
    }
}

const char *doveadm_error_text(struct arena *a, const struct error *e)
{
    char stamp[40];
    time_t now = time(NULL);
    struct tm tm;

    if (e->user[0] != '\0')
        return arena_strdup(a, e->user);
    localtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
    return arena_printf(a, "Internal error occurred. Refer to server log for more information. [%s]", stamp);
}

void doveadm_status_add(int *status, int more)
{
    if (*status == DOVEADM_OK || more == DOVEADM_TEMPFAIL)
        *status = more == DOVEADM_OK ? *status : more;
}

int doveadm_absent(struct doveadm *d)
{
    doveadm_fatal(DOVEADM_TEMPFAIL, "doveadm %s: this command is not available in this version", d->command->name);
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
    if (argv[0] == NULL)
        return doveadm_help_list(&d, "");
    d.command = find_command(argv, &words);
    if (d.command == NULL)
        return doveadm_help_list(&d, find_family(d.arena, argv));
    status = run_command(&d, argv, words);
    doveadm_args_free(&d);
    settings_unref(d.set);
    conf_free(d.conf);
    arena_free(d.arena);
    return status;
}
