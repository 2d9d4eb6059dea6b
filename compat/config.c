/* config: compiles a configuration file into the snapshot that all other programs read (DECISIONS 8); without
 * --compile it is the service behind Dovecot's config socket (config_service.h).
 *
 * config --compile [-o KEY=VALUE]... -- FILE     writes the snapshot to descriptor 3; a failure's text goes to
 *                                                descriptor 4, warnings to standard error; exit 0 or 89.
 * The only program that runs with Dovecot's language and YAML in it beside doveconf, yarilo and doveadm. */
#include "compat/config_service.h"
#include "compat/override.h"
#include "compat/read.h"
#include "conf/check.h"
#include "conf/yaml.h"

#include "base/log.h"
#include "base/os.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SNAPSHOT_FD = 3, REASON_FD = 4 };

static void fail(const struct error *e)
{
    struct error ignored;
    if (os_write(REASON_FD, slice_from_str(e->admin), &ignored) < 0)
        log_error(NULL, "%s", e->admin);
    _exit(EXIT_FATAL);
}

static void keep_first(void *arg, const char *text)
{
    struct error *e = arg;
    if (e->class == ERROR_NONE)
        error_set(e, ERROR_INVALID, "%s", text);
}

static struct conf_tree *read_file(const char *path)
{
    static const struct conf_reading running = {.expand = true, .skip_unreadable_keys = true};
    struct conf_tree *tree;
    struct error late, e;
    error_clear(&late);
    if (yaml_is_name(path) && getenv("YARILO_LENIENT") != NULL) {
        error_clear(&e);
        if (yaml_read_all(path, &running, true, &tree, keep_first, &e) > 0)
            fail(&e);
        return tree;
    }
    int result = yaml_is_name(path) ? yaml_read(path, &running, &tree, &late, &e)
                                    : compat_read(path, &running, &tree, &late, &e);
    if (result < 0)
        fail(&e);
    if (late.class != ERROR_NONE)
        fail(&late);
    return tree;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"compile", no_argument, NULL, 'C'}, {NULL, 0, NULL, 0}};
    VEC(const char *) overrides = {0};
    struct conf_checker checker = {0};
    struct error e;
    int c;
    if (argc < 2 || strcmp(argv[1], "--compile") != 0)
        return config_service(argc, argv);
    /* Dovecot's programs read through doveconf, and its name stands in front of the warnings. */
    log_open_stderr("doveconf: ", false);
    while ((c = getopt_long(argc, argv, "+o:", options, NULL)) != -1) {
        if (c == 'o')
            VEC_PUSH(&overrides, optarg);
        else if (c != 'C')
            return EXIT_FATAL;
    }
    if (argc - optind != 1) {
        fprintf(stderr, "usage: config --compile [-o KEY=VALUE] -- FILE\n");
        return EXIT_FATAL;
    }
    struct conf_tree *tree = read_file(argv[optind]);
    for (size_t i = 0; i < overrides.count; i++) {
        if (compat_override(tree, overrides.at[i], &e) < 0)
            fail(&e);
    }
    VEC_FREE(&overrides);
    struct conf *conf = conf_from_tree(tree);
    if (conf_check_tree(conf, &checker, NULL, &e) < 0)
        fail(&e);
    struct buffer snapshot = {0};
    conf_snapshot_write(tree, NULL, &snapshot);
    if (os_write(SNAPSHOT_FD, buffer_slice(&snapshot), &e) < 0)
        fail(&e);
    buffer_wipe(&snapshot);
    conf_free(conf);
    return 0;
}
