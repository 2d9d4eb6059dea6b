/* Start of a service process: environment, descriptors, log, configuration, command line (ipc 2.1).
 *
 * What goes wrong: descriptors and environment that do not belong together end the process at once (status 89), so
 * that master throttles the service and says so. */
#include "net/loop.h"
#include "rpc/line.h"
#include "rpc/service_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_USAGE 64

static unsigned environment_number(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    uint32_t number;

    if (text == NULL || text[0] == '\0')
        return otherwise;
    if (!slice_to_u32(slice_from_str(text), &number))
        log_fatal(EXIT_FATAL, "Invalid environment: %s=%s", name, text);
    return number;
}

/* "2.3.21" and "2.3.19.1" speak the same protocols: only another major.minor is a mix of old and new programs. */
static void check_version(const struct service *service, const struct settings *set)
{
    const char *version = getenv("DOVECOT_VERSION");

    if (version == NULL || strncmp(version, "2.3.", 4) == 0 || (set != NULL && conf_bool(set, SET_version_ignore)))
        return;
    log_fatal(EXIT_FATAL, "Dovecot version mismatch: Master is v%s, %s is v" SERVICE_COMPAT_VERSION
              " (if you don't care, set version_ignore=yes)", version, service->name);
}

static void take_descriptor(int fd)
{
    int flags = fcntl(fd, F_GETFD);

    if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0)
        log_fatal(EXIT_FATAL, "Descriptor %d was not passed by the master: %s", fd, strerror(errno));
}

static void read_listener(struct service *service, size_t i, struct arena *arena)
{
    struct service_listener *listener = &service->listeners[i];
    struct slice *fields;
    struct stat st;
    const char *settings;
    size_t count;

    listener->fd = SERVICE_FD_LISTEN + (int)i;
    take_descriptor(listener->fd);
    if (fstat(listener->fd, &st) < 0)
        log_fatal(EXIT_FATAL, "fstat(listener %d) failed: %s", listener->fd, strerror(errno));
    listener->fifo = !S_ISSOCK(st.st_mode);
    settings = getenv(arena_printf(arena, "SOCKET%zu_SETTINGS", i));
    /* The log and anvil services have pipes without a name in front of their sockets. */
    count = text_tab_fields(arena, slice_from_str(settings), &fields);
    listener->name = mem_strndup(fields[0]);
    for (size_t k = 1; k < count; k++) {
        if (slice_equal_str(fields[k], "ssl"))
            listener->ssl = true;
        else if (slice_equal_str(fields[k], "haproxy"))
            listener->haproxy = true;
    }
    if (!listener->fifo) {
        int flags = fcntl(listener->fd, F_GETFL);

        if (flags < 0 || fcntl(listener->fd, F_SETFL, flags | O_NONBLOCK) < 0)
            log_fatal(EXIT_FATAL, "fcntl(listener %d) failed: %s", listener->fd, strerror(errno));
    }
}

static void read_environment(struct service *service)
{
    struct arena *arena = arena_new();
    unsigned count;

    service->generation = environment_number("GENERATION", 0);
    service->client_limit = environment_number("CLIENT_LIMIT", 1);
    service->process_limit = environment_number("PROCESS_LIMIT", 1);
    service->count_left = environment_number("SERVICE_COUNT", 0);
    if (service->count_left == 0)
        service->count_left = UINT_MAX;
    if (service->client_limit == 0)
        service->client_limit = 1;
    if (!service->child)
        goto out;
    count = environment_number("SOCKET_COUNT", 0);
    if (count > 4096)
        log_fatal(EXIT_FATAL, "Invalid environment: SOCKET_COUNT=%u", count);
    take_descriptor(SERVICE_FD_STATUS);
    take_descriptor(SERVICE_FD_DEAD);
    (void)fcntl(SERVICE_FD_ANVIL, F_SETFD, FD_CLOEXEC);
    (void)fcntl(SERVICE_FD_FULL, F_SETFD, FD_CLOEXEC);
    service->listener_count = count;
    service->listeners = mem_zero(count + 1, sizeof(*service->listeners));
    for (size_t i = 0; i < count; i++)
        read_listener(service, i, arena);
out:
    arena_free(arena);
}

/* Under a foreign master CONFIG_FILE is its config socket; its main file is linked beside it. */
static void find_config_file(struct arena *arena)
{
    const char *path = getenv("CONFIG_FILE"), *slash;
    struct stat st;

    if (getenv(CONF_FD_ENV) != NULL || path == NULL || stat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    slash = strrchr(path, '/');
    if (slash != NULL)
        (void)setenv("CONFIG_FILE", arena_printf(arena, "%.*s/dovecot.conf", (int)(slash - path), path), 1);
}

static void open_conf(struct service *service, const char *file, const char *const *overrides)
{
    struct arena *arena;
    struct settings *set;
    struct error error;
    int result;

    if ((service->flags & SERVICE_NO_CONFIG) != 0 && file == NULL) {
        check_version(service, NULL);
        return;
    }
    arena = arena_new();
    find_config_file(arena);
    if (file != NULL)
        result = conf_open_file(file, overrides, &service->conf, &error);
    else
        result = conf_open_process(&service->conf, &error);
    if (result < 0)
        log_fatal(EXIT_FATAL, "Error reading configuration: %s", error.admin);
    set = conf_settings(service->conf, NULL, &error);
    if (set == NULL)
        log_fatal(EXIT_FATAL, "Error reading configuration: %s", error.admin);
    check_version(service, set);
    service->titled = (service->child || service->worker) && conf_bool(set, SET_verbose_proctitle);
    service->base_dir = mem_strdup(conf_str(set, SET_base_dir));
    settings_unref(set);
    arena_free(arena);
}

static void usage(const struct service *service, const char *own)
{
    fprintf(stderr, "Usage: %s [-c <config file>] [-o <setting>=<value>]%s%s\n", service->name,
            own == NULL ? "" : " -", own == NULL ? "" : own);
    exit(EXIT_USAGE);
}

static void find_hostname(struct service *service)
{
    char name[256] = "localhost";
    const char *given = getenv("DOVECOT_HOSTNAME");

    if (given == NULL) {
        (void)gethostname(name, sizeof(name) - 1);
        given = name;
    }
    service->hostname = mem_strdup(given);
}

struct service *service_init(int argc, char **argv, const struct service_options *options, void *arg)
{
    struct service *service = mem_zero(1, sizeof(*service));
    const char *own = options->own_options == NULL ? "" : options->own_options;
    const char *name = getenv("SERVICE_NAME"), *file = NULL;
    VEC(const char *) overrides = {0};
    char *letters = mem_printf("+c:o:i:%s", own);
    char cwd[PATH_MAX];
    int letter;

    umask(0);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGALRM, SIG_IGN);
    os_fault_from_env();
    service->name = mem_strdup(name != NULL ? name : options->name);
    service->flags = options->flags;
    service->child = getenv("DOVECOT_CHILD_PROCESS") != NULL && getenv("GENERATION") != NULL;
    service->worker = getenv("YARILO_WORKER_FD") != NULL;
    service->unprivileged = geteuid() != 0;
    service->status_sent = UINT_MAX;
    service->parent = getppid();
    if (getenv("LOG_SERVICE") != NULL)
        log_open_service(service->name);
    else {
        char *prefix = mem_printf("%s: ", service->name);

        log_open_stderr(prefix, getenv("LOG_STDERR_TIMESTAMP") != NULL);
        mem_free(prefix);
    }

    while ((letter = getopt(argc, argv, letters)) != -1) {
        if (letter == 'c')
            file = optarg;
        else if (letter == 'o')
            VEC_PUSH(&overrides, optarg);
        else if (letter != 'i' && (letter == '?' || options->option == NULL || !options->option(arg, letter, optarg)))
            usage(service, options->own_options);
    }
    service->args = argv + optind;
    VEC_PUSH(&overrides, NULL);

    read_environment(service);
    open_conf(service, service->child || service->worker ? NULL : file, overrides.at);
    if (service->base_dir == NULL)
        service->base_dir = mem_strdup(getcwd(cwd, sizeof(cwd)) == NULL ? "/" : cwd);
    find_hostname(service);
    service->loop = net_loop_open();
    if (service->loop == NULL)
        log_fatal(EXIT_FATAL, "The event loop could not be made: %s", strerror(errno));
    VEC_FREE(&overrides);
    mem_free(letters);
    if (service->titled)
        service_title_init(service, argv);
    return service;
}

int service_connect(const struct service *service, const char *socket, struct error *error)
{
    char path[PATH_MAX];

    if (service->chrooted || socket[0] == '/')
        return line_connect(socket, 1000, error);
    if (snprintf(path, sizeof(path), "%s/%s", service->base_dir, socket) >= (int)sizeof(path))
        return error_set(error, ERROR_INVALID, "Path of the socket %s is too long", socket);
    return line_connect(path, 1000, error);
}

void service_reset_signals(void)
{
    sigset_t none;

    (void)sigemptyset(&none);
    for (int i = 1; i < NSIG; i++)
        if (i != SIGKILL && i != SIGSTOP)
            (void)signal(i, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

const char *service_libexec_dir(void)
{
    static const char build[] = BUILD_LIBEXEC;
    static const size_t top = sizeof(BUILD_LIBEXEC) - sizeof("libexec"); /* with the slash */
    char self[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self));

    /* A path of the build is trusted only by processes that keep the user who started them. */
    if (size > (ssize_t)top && memcmp(self, build, top) == 0 && geteuid() == getuid())
        return build;
    return PKGLIBEXECDIR;
}

const char *service_name(const struct service *service)
{
    return service->name;
}

char *const *service_args(const struct service *service)
{
    return service->args;
}

struct ev_loop *service_loop(const struct service *service)
{
    return service->loop;
}

struct conf *service_conf(const struct service *service)
{
    return service->conf;
}

bool service_standalone(const struct service *service)
{
    return !service->child && !service->worker;
}

bool service_unprivileged(const struct service *service)
{
    return service->unprivileged;
}

unsigned service_client_limit(const struct service *service)
{
    return service->client_limit;
}

unsigned service_process_limit(const struct service *service)
{
    return service->process_limit;
}

unsigned service_count_left(const struct service *service)
{
    return service->count_left;
}

const struct service_listener *service_listeners(const struct service *service, size_t *count)
{
    *count = service->listener_count;
    return service->listeners;
}

const char *service_base_dir(const struct service *service)
{
    return service->base_dir;
}

const char *service_hostname(const struct service *service)
{
    return service->hostname;
}
