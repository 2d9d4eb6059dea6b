/* yarilo: the server under its own name (config-yaml).
 *
 * yarilo -config FILE            runs the server in the foreground
 *        -check                  reads and checks everything, prints all faults, exit 0 or 1
 *        -print yaml|dovecot     prints the configuration in either language
 *        -format yaml|dovecot    what FILE is written in, when its name does not say so
 *        -lenient                unknown keys are warnings
 *        -P                      shows secrets
 * FILE is by default $YARILO_CONFIG, else /etc/yarilo/yarilo.yaml. Exit 1 on every fault. */
#include "compat/certificate.h"
#include "compat/print.h"
#include "compat/read.h"
#include "conf/check.h"
#include "conf/yaml.h"

#include "base/log.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_FAULT = 1 };

struct options {
    const char *file;
    bool yaml, check, lenient, show_secrets;
    const char *print;
};

static void usage(void)
{
    fprintf(stderr,
            "usage: yarilo -config FILE [-check] [-print yaml|dovecot] [-format yaml|dovecot] [-lenient] [-P]\n");
    exit(EXIT_FAULT);
}

static void read_options(struct options *o, int argc, char **argv)
{
    static const struct option known[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"print", required_argument, NULL, 'p'},
        {"format", required_argument, NULL, 'f'},
        {"lenient", no_argument, NULL, 'l'},
        {"P", no_argument, NULL, 'P'},
        {NULL, 0, NULL, 0},
    };
    const char *format = NULL;
    int c;
    while ((c = getopt_long_only(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'c': o->file = optarg; break;
        case 'k': o->check = true; break;
        case 'p': o->print = optarg; break;
        case 'f': format = optarg; break;
        case 'l': o->lenient = true; break;
        case 'P': o->show_secrets = true; break;
        default: usage();
        }
    }
    bool prints = o->print == NULL || strcmp(o->print, "yaml") == 0 || strcmp(o->print, "dovecot") == 0;
    bool formats = format == NULL || strcmp(format, "yaml") == 0 || strcmp(format, "dovecot") == 0;
    if (argc != optind || !prints || !formats)
        usage();
    o->yaml = format == NULL ? yaml_is_name(o->file) : strcmp(format, "yaml") == 0;
}

static void print_fault(void *arg, const char *text)
{
    (void)arg;
    fprintf(stderr, "%s\n", text);
}

/* NULL: the faults are printed. */
static struct conf_tree *read_file(const struct options *o, bool expand, size_t *faults)
{
    struct conf_reading how = {.expand = expand};
    struct conf_tree *tree = NULL;
    struct error late, e;
    error_clear(&late);
    if (o->yaml) {
        *faults += yaml_read_all(o->file, &how, o->lenient, &tree, print_fault, NULL);
    } else if (compat_read(o->file, &how, &tree, &late, &e) < 0) {
        print_fault(NULL, e.admin);
        ++*faults;
    } else if (late.class != ERROR_NONE) {
        print_fault(NULL, late.admin);
        ++*faults;
    }
    return tree;
}

/* Files that settings name, and that only their users would miss later. */
static size_t check_files(const struct settings *set)
{
    static const enum setting files[] = {SET_auth_service_mtls_cert, SET_auth_service_mtls_key,
                                         SET_auth_service_mtls_ca, SET_ssl_client_ca_file};
    size_t faults = 0, n;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        const char *path = conf_str(set, files[i]);
        if (path[0] != '\0' && access(path, R_OK) < 0) {
            fprintf(stderr, "%s: %s: %s\n", conf_name(files[i]), path, strerror(errno));
            faults++;
        }
    }
    const char *key, *value;
    for (size_t i = 0; conf_dict_at(set, i, &key, &value); i++) {
        const char *colon = strchr(value, ':');
        bool file = colon != NULL && colon[1] == '/' && strncmp(value, "fs:", 3) != 0;
        if (file && access(colon + 1, R_OK) < 0 && errno != ENOENT) {
            fprintf(stderr, "dict %s: %s: %s\n", key, colon + 1, strerror(errno));
            faults++;
        }
    }
    const struct conf_block *const *passdbs = conf_blocks(set, BLOCK_PASSDB, &n);
    for (size_t i = 0; i < n; i++) {
        const char *args = conf_block_str(passdbs[i], "args");
        const char *driver = conf_block_str(passdbs[i], "driver");
        bool external = strcmp(driver, "sql") == 0 || strcmp(driver, "ldap") == 0;
        if (external && args[0] == '/' && access(args, R_OK) < 0) {
            fprintf(stderr, "passdb { driver=%s }: %s: %s\n", driver, args, strerror(errno));
            faults++;
        }
    }
    return faults;
}

static void count_fault(void *arg, const char *text)
{
    size_t *faults = arg;
    fprintf(stderr, "%s\n", text);
    ++*faults;
}

static int check(const struct options *o)
{
    size_t faults = 0;
    struct conf_checker checker = {0};
    struct error e;
    struct conf_tree *tree = read_file(o, true, &faults);
    if (tree == NULL)
        return EXIT_FAULT;
    struct conf *conf = conf_from_tree(tree);
    struct settings *set = conf_settings(conf, NULL, &e);
    if (set == NULL) {
        count_fault(&faults, e.admin);
    } else {
        conf_check_settings(set, &checker, NULL, count_fault, &faults);
        if (faults == 0 && conf_check_tree(conf, &checker, NULL, &e) < 0)
            count_fault(&faults, e.admin);
        faults += check_files(set);
    }
    settings_unref(set);
    conf_free(conf);
    return faults == 0 ? 0 : EXIT_FAULT;
}

static int print(const struct options *o)
{
    size_t faults = 0;
    struct conf_tree *tree = read_file(o, false, &faults);
    if (tree == NULL || faults > 0)
        return EXIT_FAULT;
    struct buffer out = {0};
    if (strcmp(o->print, "yaml") == 0) {
        yaml_print(tree, o->show_secrets, &out);
    } else {
        struct arena *arena = arena_new();
        struct printer p = {.arena = arena, .scope = PRINT_CHANGED, .show_secrets = o->show_secrets, .out = &out};
        struct conf_facts none = {0};
        struct conf_level **levels;
        struct conf_section merged;
        struct error e;
        size_t n = conf_tree_matching(tree, &none, arena, &levels);
        if (conf_merge(arena, levels, n, &merged, &e) == 0)
            print_settings(&p, &merged, 0);
        print_filters(&p, tree, &none);
        arena_free(arena);
    }
    fwrite(out.at, 1, out.size, stdout);
    buffer_free(&out);
    conf_tree_free(tree);
    return fflush(stdout) == 0 ? 0 : EXIT_FAULT;
}

/* The master reads the file itself, through config. */
static int run(const struct options *o)
{
    size_t faults = 0;
    struct error e;
    const char *server = SBINDIR "/dovecot";
    struct conf_tree *tree = read_file(o, false, &faults);
    if (tree == NULL || faults > 0)
        return EXIT_FAULT;
    if (o->yaml && certificate_prepare_single(tree, &e) < 0) {
        print_fault(NULL, e.admin);
        return EXIT_FAULT;
    }
    conf_tree_free(tree);
    if (o->lenient)
        setenv("YARILO_LENIENT", "1", 1);
#ifdef BUILD_BIN
    if (geteuid() == getuid() && access(BUILD_BIN "/dovecot", X_OK) == 0)
        server = BUILD_BIN "/dovecot";
#endif
    execl(server, "dovecot", "-F", "-c", o->file, (char *)NULL);
    fprintf(stderr, "yarilo: %s: %s\n", server, strerror(errno));
    return EXIT_FAULT;
}

int main(int argc, char **argv)
{
    struct options o = {.file = getenv("YARILO_CONFIG")};
    log_open_stderr("yarilo: ", false);
    if (o.file == NULL)
        o.file = "/etc/yarilo/yarilo.yaml";
    read_options(&o, argc, argv);
    return o.check ? check(&o) : o.print != NULL ? print(&o) : run(&o);
}
