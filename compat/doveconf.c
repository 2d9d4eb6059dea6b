/* doveconf: prints the configuration as Dovecot's does (config 8).
 *
 * Reads Dovecot's language or, by the file's name, YAML; merges for the request; prints what differs from the
 * defaults (-n), was assigned (-N), or all. Exit 89 on every fatal error, 75 with USE_SYSEXITS. */
#include "compat/banner.h"
#include "compat/print.h"
#include "compat/read.h"
#include "conf/check.h"
#include "conf/yaml.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct options {
    const char *file;
    bool file_given;
    enum print_scope scope;
    bool scope_given, values_only, machine, show_secrets, expand, defaults, execute, all_files;
    struct conf_facts request;
    VEC(const char *) modules;
};

static int fatal_status(void)
{
    return getenv("USE_SYSEXITS") != NULL ? 75 : EXIT_FATAL;
}

static void flush(struct buffer *out)
{
    if (out->size > 0)
        fwrite(out->at, 1, out->size, stdout);
    fflush(stdout);
    buffer_reset(out);
}

/* ---- options ---------------------------------------------------------------------------------------------------- */

static void read_net(const char *what, const char *text, struct conf_net *net)
{
    struct error e;
    if (conf_net_parse(text, net, &e) < 0)
        log_fatal(fatal_status(), "%s filter: %s", what, e.admin);
}

static void read_fact(struct options *o, const char *text)
{
    static const struct {
        const char *name;
        int fact;
    } facts[] = {{"service=", 0}, {"protocol=", 0}, {"lname=", 1}, {"local=", 2}, {"remote=", 3}};
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        size_t size = strlen(facts[i].name);
        if (strncmp(text, facts[i].name, size) != 0)
            continue;
        const char *value = text + size;
        if (facts[i].fact == 0)
            o->request.service = value;
        else if (facts[i].fact == 1)
            o->request.local_name = value;
        else if (facts[i].fact == 2)
            read_net("local", value, &o->request.local);
        else
            read_net("remote", value, &o->request.remote);
        return;
    }
    log_fatal(fatal_status(), "Unknown filter argument: %s", text);
}

static void set_scope(struct options *o, enum print_scope scope)
{
    o->scope = scope;
    o->scope_given = true;
}

static bool check_hosts(const char *pattern);

static void read_options(struct options *o, int argc, char **argv)
{
    int c;
    /* Names and options may be mixed; the command of -e keeps its own options. */
    while (!o->execute && (c = getopt(argc, argv, "ac:def:hHi:km:nNo:OpPsSxL")) != -1) {
        switch (c) {
        case 'c': o->file = optarg; o->file_given = true; break;
        case 'd': o->defaults = true; break;
        case 'e': o->execute = o->expand = true; break;
        case 'f': read_fact(o, optarg); break;
        case 'h': o->values_only = true; break;
        case 'H': exit(check_hosts(argv[optind]) ? 0 : 78);
        case 'i': o->file = banner_instance_file(optarg);
            if (o->file == NULL)
                log_fatal(fatal_status(), "Unknown instance name: %s", optarg);
            o->file_given = true;
            break;
        case 'm': VEC_PUSH(&o->modules, optarg); break;
        case 'n': set_scope(o, PRINT_CHANGED); break;
        case 'N': set_scope(o, PRINT_SET); break;
        case 'p': o->all_files = true; break;
        case 'P': o->show_secrets = true; break;
        case 's': set_scope(o, PRINT_ALL_HIDDEN); break;
        case 'S': o->machine = true; break;
        case 'x': o->expand = true; break;
        case '?': exit(fatal_status());
        default: break; /* -a, -k, -L, -o, -O: accepted, without effect on printing */
        }
    }
    if (o->modules.count > 0)
        VEC_PUSH(&o->modules, NULL);
}

/* ---- -H --------------------------------------------------------------------------------------------------------- */

/* A director finds the host of a name by this hash: two hosts of one hash would be mixed up. */
static uint32_t host_hash(const char *name)
{
    struct arena *arena = arena_new();
    struct error e;
    struct conf_var table[] = {{'u', "user", name}, {0, NULL, NULL}};
    struct conf_vars vars = {table, NULL, NULL, NULL};
    uint32_t hash = (uint32_t)strtoul(conf_expand(arena, "%Nu", &vars, NULL, &e), NULL, 16);
    arena_free(arena);
    return hash;
}

static char *own_pattern(void)
{
    char *host = banner_hostname(), *digit = host;
    while (*digit != '\0' && (*digit < '0' || *digit > '9'))
        digit++;
    if (*digit == '\0')
        log_fatal(fatal_status(), "Hostname '%s' has no digits, can't verify", host);
    size_t digits = strspn(digit, "0123456789");
    char *pattern =
        mem_printf("%.*s%%%s%zud%s", (int)(digit - host), host, *digit == '0' ? "0" : "", digits, digit + digits);
    mem_free(host);
    return pattern;
}

/* "host%02d": prefix, width, zeros, suffix; the pattern never reaches printf. */
static char *host_name(const char *pattern, unsigned number)
{
    const char *p = strchr(pattern, '%'), *end = p + 1;
    bool zeros = *end == '0';
    unsigned width = (unsigned)strtoul(end, (char **)(uintptr_t)&end, 10);
    if (width > 9)
        width = 9;
    char *digits = zeros ? mem_printf("%0*u", (int)width, number) : mem_printf("%*u", (int)width, number);
    char *name = mem_printf("%.*s%s%s", (int)(p - pattern), pattern, digits, end + 1);
    mem_free(digits);
    return name;
}

struct host {
    uint32_t hash;
    char *name;
};

static int compare_hosts(const void *a, const void *b)
{
    const struct host *x = a, *y = b;
    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

static bool check_hosts(const char *given)
{
    enum { HOSTS = 1000 };
    char *pattern = given == NULL ? own_pattern() : mem_strdup(given);
    const char *p = strchr(pattern, '%');
    if (p == NULL || p[1 + strspn(p + 1, "0123456789")] != 'd')
        log_fatal(fatal_status(), "Host parameter missing %%d");
    struct host *hosts = mem_zero(HOSTS, sizeof(*hosts));
    bool unique = true;
    char *first = host_name(pattern, 0), *last = host_name(pattern, HOSTS - 1);
    for (unsigned i = 0; i < HOSTS; i++) {
        hosts[i].name = host_name(pattern, i);
        hosts[i].hash = host_hash(hosts[i].name);
    }
    qsort(hosts, HOSTS, sizeof(*hosts), compare_hosts);
    for (unsigned i = 1; i < HOSTS; i++) {
        if (hosts[i].hash != hosts[i - 1].hash)
            continue;
        unique = false;
        log_error(NULL, "Duplicate host hashes: %s and %s", hosts[i - 1].name, hosts[i].name);
    }
    if (unique)
        printf("No duplicate host hashes in %s .. %s\n", first, last);
    for (unsigned i = 0; i < HOSTS; i++)
        mem_free(hosts[i].name);
    mem_free(hosts);
    mem_free(first);
    mem_free(last);
    mem_free(pattern);
    return unique;
}

/* ---- -e --------------------------------------------------------------------------------------------------------- */

static void put_in_environment(void *arg, const char *pair)
{
    (void)arg;
    putenv(mem_strdup(pair));
}

/* Only what is named stays, as the programs that run themselves through doveconf want it. */
static void reduce_environment(const struct settings *set)
{
    const char *preserve = getenv("DOVECOT_PRESERVE_ENVS");
    if (preserve == NULL)
        return;
    struct buffer kept = {0};
    buffer_printf(&kept, "%s %s", preserve, conf_str(set, SET_import_environment));
    struct slice rest = slice_from_str(buffer_cstr(&kept)), name;
    VEC(char *) pairs = {0};
    while (check_next_word(&rest, " \t", &name)) {
        char *text = mem_strndup(name), *equals = strchr(text, '=');
        const char *value = equals == NULL ? getenv(text) : NULL;
        if (equals != NULL)
            VEC_PUSH(&pairs, mem_strdup(text));
        else if (value != NULL)
            VEC_PUSH(&pairs, mem_printf("%s=%s", text, value));
        mem_free(text);
    }
    clearenv();
    for (size_t i = 0; i < pairs.count; i++)
        putenv(pairs.at[i]);
    VEC_FREE(&pairs);
    buffer_free(&kept);
}

static void execute(const struct printer *p, const struct conf_section *merged, const struct settings *set, char **argv)
{
    if (argv[0] == NULL)
        log_fatal(fatal_status(), "Missing command for -e");
    reduce_environment(set);
    print_environment(p, merged, put_in_environment, NULL);
    putenv(mem_strdup("DOVECONF_ENV=1"));
    execvp(argv[0], argv);
    log_fatal(fatal_status(), "execvp(%s) failed: %s", argv[0], strerror(errno));
}

/* ---- the whole -------------------------------------------------------------------------------------------------- */

static struct conf_tree *read_file(const struct options *o, struct error *late)
{
    struct conf_reading how = {.expand = o->expand};
    struct conf_tree *tree;
    struct error e;
    if (o->modules.count > 0 && !o->all_files)
        how.modules = o->modules.at;
    if (o->defaults)
        return conf_tree_new(o->file);
    int result =
        yaml_is_name(o->file) ? yaml_read(o->file, &how, &tree, late, &e) : compat_read(o->file, &how, &tree, late, &e);
    if (result < 0)
        log_fatal(fatal_status(), "%s", e.admin);
    return tree;
}

/* Dovecot was last started with another file? */
static void warn_other_file(const struct options *o, const struct settings *set)
{
    char target[PATH_MAX];
    struct arena *arena = arena_new();
    const char *link = arena_printf(arena, "%s/dovecot.conf", conf_str(set, SET_base_dir));
    ssize_t size = readlink(link, target, sizeof(target) - 1);
    if (!o->file_given && size > 0) {
        target[size] = '\0';
        if (strcmp(target, o->file) != 0)
            log_warning(NULL, "Dovecot was last started using %s, but this config is %s", target, o->file);
    }
    arena_free(arena);
}

struct faults {
    unsigned count;
};

static void print_fault(void *arg, const char *text)
{
    struct faults *faults = arg;
    faults->count++;
    log_error(NULL, "%s", text);
}

/* `merged` NULL: filters contradict each other, and there is nothing to show of them. */
static void print_human(const struct options *o, struct printer *p, struct conf *conf,
                        const struct conf_section *merged, const struct settings *set, struct conf_checker *checker)
{
    struct faults faults = {0};
    banner_system(set, p->out);
    flush(p->out);
    warn_other_file(o, set);
    if (!o->scope_given)
        buffer_append_str(p->out, "# NOTE: Send doveconf -n output instead when asking for help.\n");
    if (merged != NULL)
        print_settings(p, merged, 0);
    flush(p->out);
    if (!o->defaults && merged != NULL)
        conf_check_settings(set, checker, p->modules, print_fault, &faults);
    print_filters(p, conf->tree, &o->request);
    flush(p->out);
}

int main(int argc, char **argv)
{
    static char name[] = "doveconf";
    struct options o = {.file = getenv("CONFIG_FILE"), .scope = PRINT_ALL};
    struct conf_checker checker = {0};
    struct error late, conflict;
    struct buffer out = {0};
    if (argc > 0)
        argv[0] = name;
    log_open_stderr("doveconf: ", false);
    if (o.file == NULL)
        o.file = "/etc/dovecot/dovecot.conf";
    read_options(&o, argc, argv);
    char **names = argv + optind;
    bool named = names[0] != NULL && !o.execute;

    if (!named && !o.machine && !o.execute) {
        banner_version(o.file, &out);
        flush(&out);
    }
    error_clear(&late);
    struct conf_tree *tree = read_file(&o, &late);
    struct conf *conf = conf_from_tree(tree);
    if (!o.defaults && late.class == ERROR_NONE)
        (void)conf_check_tree(conf, &checker, o.modules.count > 0 ? o.modules.at : NULL, &late);
    banner_capabilities(tree);

    struct arena *arena = arena_new();
    struct conf_level **levels;
    struct conf_section merged;
    size_t n = conf_tree_matching(tree, &o.request, arena, &levels);
    bool clash = conf_merge(arena, levels, n, &merged, &conflict) < 0;
    struct settings *set = settings_build(conf, &merged);
    struct printer p = {.arena = arena, .scope = o.scope, .show_secrets = o.show_secrets, .out = &out,
                        .modules = o.modules.count > 0 ? o.modules.at : NULL};
    if ((named || (o.machine && names[0] != NULL)) && !o.scope_given)
        p.scope = PRINT_ALL_HIDDEN;
    if (clash)
        log_error(NULL, "%s", conflict.admin);
    if (o.execute) {
        if (late.class != ERROR_NONE)
            log_fatal(fatal_status(), "%s", late.admin);
        execute(&p, &merged, set, names);
    } else if (o.machine) {
        p.scope = o.scope_given || names[0] != NULL ? p.scope : PRINT_ALL;
        struct faults faults = {0};
        print_machine(&p, &merged, names);
        flush(&out);
        if (!o.defaults)
            conf_check_settings(set, &checker, p.modules, print_fault, &faults);
    } else if (named) {
        if (clash)
            log_fatal(fatal_status(), "Errors in configuration");
        /* Dovecot writes sections at once and values at the end. */
        struct faults faults = {0};
        struct buffer values = {0};
        for (; *names != NULL; names++) {
            if (!print_name(&p, &merged, *names, o.values_only)) {
                buffer_append_slice(&values, buffer_slice(&out));
                buffer_reset(&out);
                continue;
            }
            flush(&out);
            if (!o.defaults)
                conf_check_settings(set, &checker, p.modules, print_fault, &faults);
        }
        flush(&values);
        buffer_free(&values);
        late.class = ERROR_NONE;
    } else {
        print_human(&o, &p, conf, clash ? NULL : &merged, set, &checker);
        if (clash && !o.scope_given)
            log_fatal(fatal_status(), "Errors in configuration");
    }
    if (late.class != ERROR_NONE)
        log_fatal(fatal_status(), "%s", late.admin);
    settings_unref(set);
    conf_free(conf);
    arena_free(arena);
    buffer_free(&out);
    VEC_FREE(&o.modules);
    return 0;
}
