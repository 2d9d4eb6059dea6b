/* run.c - the process of one command: what doveadm_main.c is for the command line.
 *
 * Its formatter writes to the front's pipe, what it prints past that goes nowhere; its input is what the client sent, or
 * nothing. Log lines go to the log service and, as records, to the client (a Fatal only to the log, as with the real one). */
#include "doveadm_args.h"
#include "print.h"
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* "mailbox list" is one word of the client's; its words and the arguments are what doveadm_command_find wants. */
const struct doveadm_command *server_find_command(struct arena *a, const char **words, char ***args, int *count)
{
    struct slice rest = slice_from_str(words[2]), one;
    const struct doveadm_command *command;
    size_t most = rest.size + 2, n = 0;
    int taken = 0;

    for (size_t i = 3; words[i] != NULL; i++)
        most++;
    *args = ARENA_ARRAY(a, char *, most + 1);
    while (slice_split(&rest, ' ', &one))
        (*args)[n++] = arena_str(a, one);
    for (size_t i = 3; words[i] != NULL; i++)
        (*args)[n++] = arena_strdup(a, words[i]);
    command = doveadm_command_find(*args, &taken);
    if (command == NULL || (command->flags & DOVEADM_LOCAL) != 0)
        return NULL;
    *args += taken - 1; /* getopt's first word */
    *count = (int)n - (taken - 1);
    return command;
}

/* Reads this command what a client sends behind it? */
static bool reads_stream(const struct doveadm_command *c)
{
    return c->run == doveadm_save || strcmp(c->name, "sieve put") == 0;
}

static int parse_words(struct doveadm *d, const char **words)
{
    char **args;
    int count;

    d->command = server_find_command(d->arena, words, &args, &count);
    return doveadm_args_parse(d, count, args);
}

bool server_wants_input(struct arena *a, const char **words)
{
    struct doveadm d = {.arena = a};
    char **args;
    int count;
    bool wants;

    d.command = server_find_command(a, words, &args, &count);
    if (d.command == NULL || !reads_stream(d.command))
        return false;
    wants = doveadm_args_parse(&d, count, args) == DOVEADM_OK && !doveadm_given(&d, "file");
    doveadm_args_free(&d);
    return wants;
}

/* ---- objects of the HTTP API ----------------------------------------------------------------------------------- */

const struct doveadm_command *server_find_object(struct arena *a, const char *name)
{
    for (const struct doveadm_command *c = doveadm_commands; c->name != NULL; c++)
        if ((c->flags & DOVEADM_LOCAL) == 0 && (strcmp(c->name, name) == 0 || strcmp(doveadm_args_camel(a, c->name), name) == 0))
            return c;
    return NULL;
}

static bool is_stream(const struct doveadm_command *c, const char *name)
{
    return strcmp(name, "file") == 0 && reads_stream(c);
}

static bool take_object(struct doveadm *d, const char **words)
{
    bool all = true;

    d->command = server_find_object(d->arena, words[0]);
    doveadm_args_declare(d);
    for (size_t i = 1; all && words[i] != NULL; i += 2)
        all = is_stream(d->command, words[i]) || doveadm_args_give(d, words[i], words[i + 1]);
    return all;
}

bool server_check_object(struct arena *a, const char **words, bool *wants_input)
{
    struct doveadm d = {.arena = a};
    bool all = take_object(&d, words);

    *wants_input = false;
    for (size_t i = 1; words[i] != NULL; i += 2)
        *wants_input = *wants_input || is_stream(d.command, words[i]);
    doveadm_args_free(&d);
    return all;
}

struct listing {
    struct arena *arena;
    struct buffer text;
    size_t count;
};

static void list_parameter(void *arg, const char *name, char type)
{
    struct listing *l = arg;
    const char *word = type == 'b' ? "boolean" : type == 'n' ? "integer" : type == 'a' || type == 'P' ? "array" : "string";

    buffer_printf(&l->text, "%s\n\t\t{\"name\":\"%s\",\"type\":\"%s\"}", l->count++ == 0 ? "" : ",",
                  doveadm_args_camel(l->arena, name), word);
}

void server_list(struct server_client *client)
{
    struct listing l = {.arena = arena_new()};
    const char *between = "[\n";
    struct error e;

    for (const struct doveadm_command *c = doveadm_commands; c->name != NULL; c++) {
        struct doveadm d = {.arena = l.arena, .command = c};
        if ((c->flags & DOVEADM_LOCAL) != 0)
            continue;
        buffer_printf(&l.text, "%s\t{\"command\":\"%s\", \"parameters\":[", between, doveadm_args_camel(l.arena, c->name));
        between = ",\n";
        l.count = 0;
        doveadm_args_declare(&d);
        doveadm_args_each(&d, list_parameter, &l);
        buffer_append_str(&l.text, "\n\t]}");
        doveadm_args_free(&d);
    }
    buffer_append_str(&l.text, "\n]");
    (void)os_write(client->out, buffer_slice(&l.text), &e);
    buffer_free(&l.text);
    arena_free(l.arena);
}

/* ---- log lines -------------------------------------------------------------------------------------------------- */

static void see(void *arg, enum log_level level, const char *prefix, const char *text)
{
    struct server_client *c = arg;
    const struct log here = {.prefix = (char *)(uintptr_t)prefix};
    struct buffer record = {0};
    struct error e;

    log_capture(NULL, NULL);
    log_write(&here, level, "%s", text);
    log_capture(see, c);
    if (level >= LOG_LEVEL_FATAL)
        return;
    buffer_append_byte(&record, (unsigned char)(level + 1));
    buffer_printf(&record, "%s%s\n", prefix, text);
    (void)os_write(c->log, buffer_slice(&record), &e);
    buffer_free(&record);
}

/* ---- the process ------------------------------------------------------------------------------------------------- */

static void place(int from, int to)
{
    if (from < 0 || dup2(from, to) < 0)
        log_fatal(SERVER_FATAL + DOVEADM_TEMPFAIL, "dup2() failed: %s", strerror(errno));
}

static void prepare(struct server_client *c)
{
    FILE *out;

    service_reset_signals();
    if (c->input >= 0 && lseek(c->input, 0, SEEK_SET) < 0)
        log_fatal(SERVER_FATAL + DOVEADM_TEMPFAIL, "lseek() failed: %s", strerror(errno));
    place(c->input >= 0 ? c->input : open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
    out = fdopen(dup(c->out), "w");
    if (out == NULL)
        log_fatal(SERVER_FATAL + DOVEADM_TEMPFAIL, "fdopen() failed: %s", strerror(errno));
    print_to(out);
    place(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
    (void)unsetenv("USER");
    (void)unsetenv("HOME");
    log_set_prefix(*c->ip == '\0' ? "doveadm%s: " : "doveadm(%s): ", c->ip);
    log_capture(see, c);
}

static int take_words(struct doveadm *d, struct server_client *c)
{
    d->formatter = "server";
    d->server_user = c->words[1];
    d->debug = strchr(c->words[0], 'D') != NULL;
    d->verbose = d->debug || strchr(c->words[0], 'v') != NULL;
    log_set_debug(d->debug);
    return parse_words(d, c->words);
}

void server_run_command(struct server_client *c)
{
    struct doveadm d = {.arena = arena_new(), .set = settings_ref(c->set), .server = true, .server_ip = c->ip};
    int status = DOVEADM_OK;

    prepare(c);
    os_fault_from_env();
    if (c->object) {
        d.formatter = "json";
        take_object(&d, c->words);
    } else
        status = take_words(&d, c);
    if ((d.command->flags & DOVEADM_PLUGIN) != 0 && !doveadm_plugin_loaded(&d, d.command))
        doveadm_fatal(DOVEADM_TEMPFAIL, "Unknown command '%s', but its plugin is not in mail_plugins", d.command->name);
    if (status == DOVEADM_OK)
        status = d.command->run(&d);
    print_flush(&d);
    fflush(NULL);
    exit(status);
}
