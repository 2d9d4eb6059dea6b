/* Where a program's configuration comes from: a snapshot's descriptor, or a file that libexec/config compiles. */
#include "conf/settings.h"

#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SNAPSHOT_MOST ((size_t)256 << 20)
#define DEFAULT_FILE "/etc/dovecot/dovecot.conf"

int conf_open_fd(int fd, struct conf **conf, struct error *e)
{
    struct buffer text = {0};
    ssize_t got;
    do {
        got = os_pread(fd, text.size, (size_t)256 << 10, &text, e);
    } while (got > 0 && text.size < SNAPSHOT_MOST);
    int result = got < 0 ? -1 : 0;
    if (result == 0) {
        struct conf_tree *tree = conf_snapshot_read(buffer_slice(&text), e);
        if (tree == NULL)
            result = -1;
        else
            *conf = conf_from_tree(tree);
    }
    buffer_wipe(&text);
    return result;
}

int conf_seal(const struct conf *conf, const char *service, struct error *e)
{
    struct buffer text = {0};
    conf_snapshot_write(conf->tree, service, &text);
    int fd = memfd_create("config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        error_sys(e, "memfd_create", "config");
    } else if (os_write(fd, buffer_slice(&text), e) < 0) {
        close(fd);
        fd = -1;
    } else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0) {
        error_sys(e, "fcntl(F_ADD_SEALS)", NULL);
        close(fd);
        fd = -1;
    }
    buffer_wipe(&text);
    return fd;
}

/* The uninstalled build knows its own tree; a changed effective uid must not believe it (DECISIONS 15). */
static char *config_program(void)
{
#ifdef BUILD_LIBEXEC
    if (geteuid() == getuid() && access(BUILD_LIBEXEC "/config", X_OK) == 0)
        return mem_strdup(BUILD_LIBEXEC "/config");
#endif
    return mem_strdup(PKGLIBEXECDIR "/config");
}

/* In the child: descriptor 3 is the snapshot, 4 carries the reason of a failure. */
static void run_config(const char *program, char *const *argv, int fd, int errors)
{
    int high = fcntl(fd, F_DUPFD, 10), high_errors = fcntl(errors, F_DUPFD, 10);
    if (high < 0 || high_errors < 0 || dup2(high, 3) < 0 || dup2(high_errors, 4) < 0)
        _exit(EXIT_OUT_OF_MEMORY);
    close(high);
    close(high_errors);
    execv(program, argv);
    dprintf(4, "execv(%s) failed: %s", program, strerror(errno));
    _exit(84);
}

static void read_reason(int fd, char *reason, size_t room)
{
    size_t used = 0;
    ssize_t got;
    while (used < room - 1 && ((got = read(fd, reason + used, room - 1 - used)) > 0 || (got < 0 && errno == EINTR))) {
        if (got > 0)
            used += (size_t)got;
    }
    reason[used] = '\0';
}

static int compile(const char *path, const char *const *overrides, int fd, struct error *e)
{
    int errors[2];
    if (pipe2(errors, O_CLOEXEC) < 0)
        return error_sys(e, "pipe2", NULL);
    char *program = config_program();
    VEC(char *) argv = {0};
    VEC_PUSH(&argv, program);
    VEC_PUSH(&argv, (char *)(uintptr_t) "--compile");
    for (; overrides != NULL && *overrides != NULL; overrides++) {
        VEC_PUSH(&argv, (char *)(uintptr_t) "-o");
        VEC_PUSH(&argv, (char *)(uintptr_t)*overrides);
    }
    VEC_PUSH(&argv, (char *)(uintptr_t) "--");
    VEC_PUSH(&argv, (char *)(uintptr_t)path);
    VEC_PUSH(&argv, NULL);
    char reason[sizeof(e->admin)];
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        run_config(program, argv.at, fd, errors[1]);
    close(errors[1]);
    if (pid > 0) {
        read_reason(errors[0], reason, sizeof(reason));
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    close(errors[0]);
    int result = 0;
    if (pid < 0)
        result = error_sys(e, "fork", NULL);
    else if (status != 0 && reason[0] != '\0')
        result = error_set(e, ERROR_INVALID, "%s", reason);
    else if (status != 0)
        result = error_set(e, ERROR_TEMPORARY, "%s --compile %s ended with status %#x", program, path, status);
    VEC_FREE(&argv);
    mem_free(program);
    return result;
}

int conf_open_file(const char *path, const char *const *overrides, struct conf **conf, struct error *e)
{
    int fd = memfd_create("config", MFD_CLOEXEC);
    if (fd < 0)
        return error_sys(e, "memfd_create", "config");
    int result = compile(path, overrides, fd, e);
    if (result == 0)
        result = conf_open_fd(fd, conf, e);
    close(fd);
    return result;
}

int conf_open_process(struct conf **conf, struct error *e)
{
    const char *number = getenv(CONF_FD_ENV), *file = getenv("CONFIG_FILE");
    uint32_t fd;
    if (number != NULL) {
        if (!slice_to_u32(slice_from_str(number), &fd) || fd > INT32_MAX)
            return error_set(e, ERROR_INVALID, "%s is not a descriptor: %s", CONF_FD_ENV, number);
        return conf_open_fd((int)fd, conf, e);
    }
    return conf_open_file(file != NULL ? file : DEFAULT_FILE, NULL, conf, e);
}
