/* Giving up root: groups, chroot, user, no_new_privs, as RESTRICT_* says (ipc 2.1, real order: setgid, setgroups,
 * chroot, chdir, setuid). A step that fails ends the process: nothing must go on with more rights than configured. */
#include "rpc/service_impl.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define GROUPS_MAX_COUNT 256

#ifdef SANITIZERS
/* The leak checker at the end of a process needs ptrace and /proc, which a process without rights in a chroot does not
 * have; leaks are looked for by the unit tests. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return getenv("LOG_SERVICE") != NULL;
}
#endif

static bool environment_id(const char *name, uint32_t *id)
{
    const char *text = getenv(name);

    if (text == NULL || text[0] == '\0')
        return false;
    if (!slice_to_u32(slice_from_str(text), id) || *id == UINT32_MAX)
        log_fatal(EXIT_FATAL, "Invalid environment: %s=%s", name, text);
    return true;
}

static void set_groups(bool have_gid, gid_t gid)
{
    struct slice rest = slice_from_str(getenv("RESTRICT_SETEXTRAGROUPS")), word;
    gid_t groups[GROUPS_MAX_COUNT];
    size_t count = 0;
    uint32_t id;

    if (have_gid)
        groups[count++] = gid;
    while (rest.size > 0 && slice_split(&rest, ',', &word)) {
        if (!slice_to_u32(word, &id) || count == GROUPS_MAX_COUNT)
            log_fatal(EXIT_FATAL, "Invalid environment: RESTRICT_SETEXTRAGROUPS=%s", getenv("RESTRICT_SETEXTRAGROUPS"));
        groups[count++] = id;
    }
    if (count > 0 && setgroups(count, groups) < 0)
        log_fatal(EXIT_FATAL, "setgroups() failed: %s", strerror(errno));
}

static void set_group(gid_t gid)
{
    uint32_t privileged;
    int result;

    /* The privileged group stays reachable as the saved one: for locks beside mail spools. */
    if (environment_id("RESTRICT_SETGID_PRIV", &privileged))
        result = setresgid(gid, gid, privileged);
    else
        result = setgid(gid);
    if (result < 0)
        log_fatal(EXIT_FATAL, "setgid(%u) failed: %s", gid, strerror(errno));
}

static void set_user(uid_t uid)
{
    if (setuid(uid) < 0)
        log_fatal(EXIT_FATAL, "setuid(%u) failed: %s", uid, strerror(errno));
    if (uid != 0 && setuid(0) == 0)
        log_fatal(EXIT_FATAL, "We could still become root after setuid(%u)", uid);
}

void service_drop_privileges(struct service *service, unsigned flags)
{
    const char *root = getenv("RESTRICT_CHROOT");
    uint32_t uid = 0, gid = 0;
    bool have_gid = environment_id("RESTRICT_SETGID", &gid), have_uid = environment_id("RESTRICT_SETUID", &uid);

    if (service->unprivileged) {
        log_debug(NULL, "Running without root: user, groups and chroot of the service are not changed");
    } else {
        if (have_gid)
            set_group(gid);
        set_groups(have_gid, gid);
        if (root != NULL && root[0] != '\0' && (flags & SERVICE_KEEP_CHROOT_OUT) == 0) {
            if (chroot(root) < 0)
                log_fatal(EXIT_FATAL, "chroot(%s) failed: %s", root, strerror(errno));
            if (chdir("/") < 0)
                log_fatal(EXIT_FATAL, "chdir(/) failed: %s", strerror(errno));
            service->chrooted = true;
        }
        if (have_uid)
            set_user(uid);
    }
    if ((flags & SERVICE_MAY_GAIN) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        log_fatal(EXIT_FATAL, "prctl(PR_SET_NO_NEW_PRIVS) failed: %s", strerror(errno));
}
