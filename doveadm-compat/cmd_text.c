/* cmd_text.c - mailbox mutf7, help, config, exec: commands that only need their arguments. */
#include "doveadm_args.h"
#include "print.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_plain(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.at[i] < 0x20 || text.at[i] > 0x7e)
            return false;
    return true;
}

int doveadm_mutf7(struct doveadm *d)
{
    bool to_utf8 = doveadm_flag(d, "to-utf8");
    size_t n;
    const char *const *names = doveadm_list(d, "name", &n);
    int status = DOVEADM_OK;

    if (n == 0)
        return doveadm_usage(d);
    print_init(d, "flow");
    print_header(d, "mailbox", "mailbox", PRINT_HIDE_TITLE);
    for (size_t i = 0; i < n; i++) {
        struct buffer out = {0};
        struct slice name = slice_from_str(names[i]);
        if ((to_utf8 ? text_mutf7_to_utf8(&out, name) : text_utf8_to_mutf7(&out, name)) < 0) {
            log_error(NULL, to_utf8 ? "Mailbox name not valid mUTF-7: %s" : "Mailbox name not valid UTF-8: %s", names[i]);
            status = DOVEADM_DATAERR;
            if (to_utf8) { /* what could be read of it, as the real program does: nothing where the plain part in front is bad */
                if (!is_plain(slice_head(name, strcspn(names[i], "&"))))
                    name.size = 0;
                while (name.size > 0 && text_mutf7_to_utf8(&out, name) < 0)
                    name.size--;
                print_value(d, buffer_cstr(&out));
            }
        } else
            print_value(d, buffer_cstr(&out));
        buffer_free(&out);
    }
    return status;
}

static const char **with_config(struct doveadm *d, const char *program, const char *const *args, size_t n)
{
    const char **argv = ARENA_ARRAY(d->arena, const char *, n + 4);
    size_t i = 0;

    argv[i++] = program;
    if (d->config_path != NULL) {
        argv[i++] = "-c";
        argv[i++] = d->config_path;
    }
    for (size_t j = 0; j < n; j++)
        argv[i++] = args[j];
    return argv;
}

/* The programs beside this one: BUILD_BIN in the build tree, bindir when installed. */
static const char *beside(struct doveadm *d, const char *name)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n <= 0)
        return name;
    self[n] = '\0';
    slash = strrchr(self, '/');
    return arena_printf(d->arena, "%.*s/%s", (int)(slash - self), self, name);
}

int doveadm_config(struct doveadm *d)
{
    size_t n;
    const char *const *args = doveadm_list(d, "args", &n);
    const char *path = beside(d, "doveconf");
    const char **argv = with_config(d, path, args, n);

    execv(path, (char *const *)(uintptr_t)argv);
    doveadm_fatal(DOVEADM_TEMPFAIL, "execv(%s) failed: %s", path, strerror(errno));
}

int doveadm_help(struct doveadm *d)
{
    const char *command = doveadm_text(d, "cmd");
    pid_t child;
    int status;

    if (command == NULL)
        return doveadm_help_list(d, "");
    child = fork();
    if (child < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "fork() failed: %s", strerror(errno));
    if (child == 0) {
        execlp("man", "man", arena_printf(d->arena, "doveadm-%s", command), (char *)NULL);
        _exit(127);
    }
    if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
        return DOVEADM_TEMPFAIL;
    return WEXITSTATUS(status);
}
