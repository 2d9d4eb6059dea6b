/* cmd_exec.c - doveadm exec: runs a program of libexec in this process's place, with the same configuration. */
#include "doveadm.h"
#include "rpc/service.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int doveadm_exec(struct doveadm *d)
{
    size_t n;
    const char *const *args = doveadm_list(d, "args", &n), *binary = doveadm_text(d, "binary");
    const char *path, **argv;

    if (binary == NULL)
        return doveadm_usage(d);
    path = arena_printf(d->arena, "%s/%s", service_libexec_dir(), binary);
    argv = ARENA_ARRAY(d->arena, const char *, n + 2);
    argv[0] = path;
    for (size_t i = 0; i < n; i++)
        argv[i + 1] = args[i];
    /* The program reads the same file: by CONFIG_FILE, so that its own arguments stay what was given. */
    if (d->config_path != NULL)
        setenv("CONFIG_FILE", d->config_path, 1);
    execv(path, (char *const *)(uintptr_t)argv);
    doveadm_fatal(DOVEADM_TEMPFAIL, "execv(%s) failed: %s", path, strerror(errno));
}
