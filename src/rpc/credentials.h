/* As whom the mail of a user is touched: uid, gid, groups, chroot, nice, from the userdb and the mail_* settings (auth 7;
 * config). The one place that decides it, for dispatchers and doveadm.
 *
 * Refused: root, ids outside first_valid_*...last_valid_*, and a chroot of the userdb that valid_chroot_dirs does not
 * allow. The texts are the real server's, which names first_valid_* also where last_valid_* was the reason. */
#ifndef YARILO_RPC_CREDENTIALS_H
#define YARILO_RPC_CREDENTIALS_H

#include "conf/conf.h"
#include "rpc/line.h"

#include <sys/types.h>

enum { CREDENTIALS_GROUPS_MAX = 64 };

struct credentials {
    uid_t uid;
    gid_t gid, privileged_gid;         /* privileged: (gid_t)-1 = none */
    gid_t groups[CREDENTIALS_GROUPS_MAX];
    size_t group_count;
    const char *chroot;                /* NULL = none */
    int nice;
};

/* A home CHROOT/./REST becomes the fields home=/REST and chroot=CHROOT, where valid_chroot_dirs is set (auth 7). The
 * fields are changed in place or grown in the arena. */
void credentials_split_home(struct arena *, const struct settings *, struct rpc_fields *);

/* From the userdb's fields (after credentials_split_home) and the settings for this service and these addresses. All
 * texts in the arena. Without root there is one user only: whoever started the program. Errors of class INVALID are
 * the userdb's, PERMISSION a refusal, TEMPORARY the configuration's. */
int credentials_find(struct arena *, const struct settings *, const char *user, const struct rpc_fields *,
                     struct credentials *, struct error *);
/* More supplementary groups: numbers with commas (extra_groups of the service); NULL = none. */
void credentials_add_groups(struct credentials *, const char *numbers);
/* The same text for the same credentials. */
const char *credentials_key(struct arena *, const struct credentials *);

/* Gives up root for good: groups, chroot, user. After a failure the process must end. */
int credentials_take(const struct credentials *, struct error *);
/* Works as the user until credentials_return, without chroot: the effective ids only. */
int credentials_lend(const struct credentials *, struct error *);
int credentials_return(struct error *);

#endif
