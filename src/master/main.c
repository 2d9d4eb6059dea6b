/* dovecot: the program that admins start (config 11.1; texts and exit statuses are the original's).
 *
 *     dovecot [-F] [-c <config file>] [-p] [-n] [-a] [--help] [--version]
 *             [--build-options] [--hostdomain] [reload] [stop]
 *
 * -a and -n are doveconf's work, any other word is a doveadm command. Without -F the caller returns when the server
 * listens, or when it could not start (the reason is on standard error and in the log). */
#include "master/master.h"

#include "log/log_sink.h"
#include "rpc/service.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define DEFAULT_FILE "/etc/dovecot/dovecot.conf"
#define INSTANCES_FILE "/var/lib/dovecot/instances"
#define EXIT_NOT_RUNNING 75
#define EXIT_LOG_OPEN 80

#ifdef SANITIZERS
/* What this program holds it holds until its end: the leak checker would only list the configuration. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}
#endif

struct options {
    const char *file, *instance;
    VEC(const char *) overrides;
    bool foreground, ask_password, show_all, show_changed;
};

static const char usage[] = "Usage: dovecot [-F] [-c <config file>] [-p] [-n] [-a] [--help] [--version]\n"
                            "       [--build-options] [--hostdomain] [reload] [stop]\n";

static const char build_options[] = "Build options: ioloop=epoll notify=inotify gnutls io_block_size=8192\n"
                                    "SQL driver plugins:"
#ifdef HAVE_MYSQL
                                    " mysql"
#endif
#ifdef HAVE_PGSQL
                                    " postgresql"
#endif
                                    "\nSQL drivers: sqlite\n"
                                    "Passdb: pam passwd passwd-file shadow sql static\n"
                                    "Userdb: passwd prefetch passwd-file sql static\n";

__attribute__((noreturn)) static void fatal(const char *text, const char *detail)
{
    fprintf(stderr, "Fatal: %s%s\n", text, detail);
    exit(EXIT_FATAL);
}

/* ---- the other programs ---------------------------------------------------------------------------------------- */

/* Beside us in the build tree, in bin/ beside our sbin/ when installed, else by PATH. */
static void exec_beside(const char *name, char **argv)
{
    char self[PATH_MAX], path[PATH_MAX + 64], *slash;
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (size > 0) {
        self[size] = '\0';
        slash = strrchr(self, '/');
        if (slash != NULL) {
            *slash = '\0';
            (void)snprintf(path, sizeof(path), "%s/%s", self, name);
            (void)execv(path, argv);
            (void)snprintf(path, sizeof(path), "%s/../bin/%s", self, name);
            (void)execv(path, argv);
        }
    }
    (void)execvp(name, argv);
}

/* name, -c FILE, the overrides, then `words`. */
__attribute__((noreturn)) static void exec_program(const char *name, const struct options *options,
                                                   const char *const *words)
{
    VEC(char *) argv = {0};

    VEC_PUSH(&argv, mem_strdup(name));
    VEC_PUSH(&argv, mem_strdup("-c"));
    VEC_PUSH(&argv, mem_strdup(options->file));
    for (size_t i = 0; i + 1 < options->overrides.count; i++) {
        VEC_PUSH(&argv, mem_strdup("-o"));
        VEC_PUSH(&argv, mem_strdup(options->overrides.at[i]));
    }
    for (size_t i = 0; words[i] != NULL; i++)
        VEC_PUSH(&argv, mem_strdup(words[i]));
    VEC_PUSH(&argv, NULL);
    exec_beside(name, argv.at);
    fprintf(stderr, "Fatal: execvp(%s) failed: %s\n", name, strerror(errno));
    exit(84);
}

/* ---- reload and stop -------------------------------------------------------------------------------------------- */

static pid_t running_master(const char *base_dir, char **path)
{
    struct buffer text = {0};
    struct error error;
    uint32_t pid = 0;

    *path = mem_printf("%s/master.pid", base_dir);
    if (os_read_file(AT_FDCWD, *path, 64, &text, &error) == 0)
        (void)slice_to_u32(slice_trim(buffer_slice(&text)), &pid);
    buffer_free(&text);
    return pid > 1 && (kill((pid_t)pid, 0) == 0 || errno == EPERM) ? (pid_t)pid : 0;
}

/* A broken file is reported here, and nothing is sent (config 11.3). */
static int signal_master(const struct options *options, int number)
{
    struct conf *conf;
    struct settings *set;
    struct error error;
    char *path;
    pid_t pid;

    if (conf_open_file(options->file, options->overrides.at, &conf, &error) < 0 ||
        (set = conf_settings(conf, NULL, &error)) == NULL)
        fatal("Error reading configuration: ", error.admin);
    pid = running_master(conf_str(set, SET_base_dir), &path);
    if (pid == 0) {
        fprintf(stderr, "Fatal: Dovecot is not running (read from %s)\n", path);
        return EXIT_NOT_RUNNING;
    }
    if (kill(pid, number) < 0) {
        fprintf(stderr, "Fatal: kill(%ld) failed: %s\n", (long)pid, strerror(errno));
        return EXIT_FATAL;
    }
    /* stop: come back when it has gone, so that a start can follow. */
    for (int i = 0; number == SIGTERM && i < 100 && kill(pid, 0) == 0; i++)
        (void)usleep(60000);
    mem_free(path);
    settings_unref(set);
    conf_free(conf);
    return 0;
}

/* ---- start ------------------------------------------------------------------------------------------------------ */

static char *ask_password(void)
{
    struct termios before, quiet;
    char line[1024] = "";
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;

    fputs("Give the password for SSL keys: ", stdout);
    (void)fflush(stdout);
    if (terminal) {
        quiet = before;
        quiet.c_lflag &= (tcflag_t)~ECHO;
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    if (fgets(line, sizeof(line), stdin) == NULL)
        line[0] = '\0';
    if (terminal) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        putchar('\n');
    }
    line[strcspn(line, "\r\n")] = '\0';
    return mem_strdup(line);
}

static void find_names(struct master *master)
{
    char name[256] = "localhost";
    struct addrinfo hints = {.ai_flags = AI_CANONNAME}, *list = NULL;

    (void)gethostname(name, sizeof(name) - 1);
    master->hostname = mem_strdup(name);
    if (strchr(name, '.') == NULL && getaddrinfo(name, NULL, &hints, &list) == 0 && list->ai_canonname != NULL)
        master->hostdomain = mem_strdup(list->ai_canonname);
    else
        master->hostdomain = mem_strdup(name);
    if (list != NULL)
        freeaddrinfo(list);
}

/* The caller waits for a byte from the daemon (or for its end) and takes over its status. */
static int into_background(void)
{
    int ends[2], status = 0;
    unsigned char byte;
    ssize_t n;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0)
        fatal("fork() failed: ", strerror(errno));
    if (pid > 0) {
        (void)close(ends[1]);
        while ((n = read(ends[0], &byte, 1)) < 0 && errno == EINTR)
            ;
        if (n > 0)
            _exit(0);
        (void)waitpid(pid, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FATAL);
    }
    (void)close(ends[0]);
    (void)setsid();
    return ends[1];
}

static void point_to_null(struct master *master)
{
    master->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (master->null_fd < 0)
        fatal("open(/dev/null) failed: ", strerror(errno));
    (void)dup2(master->null_fd, STDIN_FILENO);
    if (!master->foreground)
        (void)dup2(master->null_fd, STDOUT_FILENO);
}

static void fill_master(struct master *master, const struct settings *set)
{
    master->base_dir = mem_strdup(conf_str(set, SET_base_dir));
    master->state_dir = mem_strdup(conf_str(set, SET_state_dir));
    master->instance = mem_strdup(conf_str(set, SET_instance_name));
    master->libexec_dir = mem_strdup(service_libexec_dir());
    master->root = geteuid() == 0;
    master->log_control = master->control_fd = -1;
    find_names(master);
    environment_prepare(master, set);
}

/* The log process would fail again and again where nobody sees it. */
static void check_log(const struct settings *set)
{
    struct log_sink *sink;
    struct error error;

    if (log_sink_open(set, &sink, &error) < 0) {
        fprintf(stderr, "%s\n", error.admin);
        exit(EXIT_LOG_OPEN);
    }
    log_sink_free(sink);
}

/* -i NAME: the file of the instance that was started last under this name. */
static const char *instance_file(const char *name)
{
    struct arena *arena = arena_new();
    struct buffer text = {0};
    struct slice rest, line, *fields;
    struct error error;
    const char *path = NULL;

    (void)os_read_file(AT_FDCWD, INSTANCES_FILE, 1 << 20, &text, &error);
    rest = buffer_slice(&text);
    while (rest.size > 0 && slice_split(&rest, '\n', &line))
        if (text_tab_fields(arena, line, &fields) > 3 && slice_equal_str(fields[1], name))
            path = arena_str(arena, fields[3]);
    if (path == NULL)
        fatal("Unknown instance name: ", name);
    path = mem_strdup(path);
    buffer_free(&text);
    arena_free(arena);
    return path;
}

static int run(struct options *options)
{
    struct master *master = mem_zero(1, sizeof(*master));
    struct conf *conf;
    struct settings *set;
    struct error error;
    char *path = realpath(options->file, NULL);
    int started = -1;

    /* Close-on-exec: descriptors that the caller left open are not for the services. */
    systemd_init(master);
    master->config_path = path != NULL ? path : mem_strdup(options->file);
    master->overrides = options->overrides.at;
    master->foreground = options->foreground;
    if (access(options->file, F_OK) < 0) {
        fprintf(stderr, "Fatal: Error reading configuration: stat(%s) failed: %s\n", options->file, strerror(errno));
        return EXIT_FATAL;
    }
    if (conf_open_file(master->config_path, options->overrides.at, &conf, &error) < 0 ||
        (set = conf_settings(conf, NULL, &error)) == NULL)
        fatal("Error reading configuration: ", error.admin);
    check_log(set);
    fill_master(master, set);
    if (basedir_pidfile_check(master, &error) < 0)
        master_fatal(master, conf, "%s", error.admin);
    if (options->ask_password)
        master->ssl_key_password = ask_password();
    settings_unref(set);
    point_to_null(master);
    if (!options->foreground)
        started = into_background();
    return master_run(master, conf, started);
}

/* ---- the command line ------------------------------------------------------------------------------------------- */

static int long_option(const char *word)
{
    if (strcmp(word, "version") == 0) {
        puts(SERVICE_COMPAT_VERSION " (" SERVICE_COMPAT_REVISION ")");
    } else if (strcmp(word, "build-options") == 0) {
        fputs(build_options, stdout);
    } else if (strcmp(word, "hostdomain") == 0) {
        struct master master = {0};

        find_names(&master);
        puts(master.hostdomain);
    } else if (strcmp(word, "help") == 0) {
        fputs(usage, stderr);
    } else {
        fputs(usage, stderr);
        fprintf(stderr, "Fatal: Unknown argument: --%s\n", word);
        return EXIT_FATAL;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct options options = {.file = DEFAULT_FILE}; /* lives as long as the process */
    const char *file = getenv("CONFIG_FILE");
    int letter;

    log_open_stderr("", false);
    os_fault_from_env();
    if (file != NULL && file[0] != '\0')
        options.file = file;
    opterr = 0;
    while ((letter = getopt(argc, argv, "+ac:Fi:no:pV-:")) != -1) {
        switch (letter) {
        case 'a':
            options.show_all = true;
            break;
        case 'c':
            options.file = optarg;
            break;
        case 'F':
            options.foreground = true;
            break;
        case 'i':
            options.instance = optarg;
            break;
        case 'n':
            options.show_changed = true;
            break;
        case 'o':
            VEC_PUSH(&options.overrides, optarg);
            break;
        case 'p':
            options.ask_password = true;
            break;
        case 'V':
            return long_option("version");
        case '-':
            if (strcmp(optarg, "log-error") == 0) {
                static const char *const test[] = {"log", "test", NULL};

                VEC_PUSH(&options.overrides, NULL);
                exec_program("doveadm", &options, test);
            }
            return long_option(optarg);
        default:
            fprintf(stderr, optopt == 'c' || optopt == 'i' || optopt == 'o'
                                ? "%s: option requires an argument -- '%c'\n"
                                : "%s: invalid option -- '%c'\n", argv[0], optopt);
            fputs(usage, stderr);
            return EXIT_FATAL;
        }
    }
    VEC_PUSH(&options.overrides, NULL);
    if (options.instance != NULL)
        options.file = instance_file(options.instance);
    if (options.show_all || options.show_changed) {
        const char *const words[] = {options.show_all ? "-a" : "-n", NULL};

        exec_program("doveconf", &options, words);
    }
    if (argv[optind] != NULL) {
        if (strcmp(argv[optind], "stop") == 0)
            return signal_master(&options, SIGTERM);
        if (strcmp(argv[optind], "reload") == 0)
            return signal_master(&options, SIGHUP);
        exec_program("doveadm", &options, (const char *const *)argv + optind);
    }
    return run(&options);
}
