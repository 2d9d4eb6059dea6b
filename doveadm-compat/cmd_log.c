/* cmd_log.c - where the logs are. */
#include "doveadm.h"

#include <stdio.h>

/* A level's file: the setting, or the one it falls back to (log_path). "syslog" and the terminal have no file. */
static void show(struct doveadm *d, const char *level, const char *path, const char *fallback)
{
    if (*path == '\0')
        path = fallback;
    printf("%s: %s\n", level, strcmp(path, "syslog") == 0 ? "Not found" : path);
    (void)d;
}

int doveadm_log_find(struct doveadm *d)
{
    const struct settings *set = doveadm_settings(d);
    const char *base = conf_str(set, SET_log_path), *info = conf_str(set, SET_info_log_path);
    const char *debug = conf_str(set, SET_debug_log_path);

    if (*info == '\0')
        info = base;
    if (*debug == '\0')
        debug = info;
    show(d, "Debug", debug, base);
    show(d, "Info", info, base);
    show(d, "Warning", base, base);
    show(d, "Error", base, base);
    show(d, "Fatal", base, base);
    return DOVEADM_OK;
}
