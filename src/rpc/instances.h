/* The servers that were started on this machine: state_dir/instances (doveadm 7.3).
 *
 * A line for each: unix time of the last start, name, base_dir, configuration, separated by TABs and escaped like every field
 * between processes. The master writes its own at the start; doveadm lists them and takes them out. */
#ifndef YARILO_RPC_INSTANCES_H
#define YARILO_RPC_INSTANCES_H

#include "base/base.h"

struct instance {
    const char *last_used, *name, *base_dir, *config; /* config may be empty */
};
struct instances {
    struct instance *at; /* a VEC: the caller frees it; texts in the arena */
    size_t count, room;
};

/* No file: none. */
int instances_read(struct arena *, const char *state_dir, struct instances *, struct error *);
int instances_write(struct arena *, const char *state_dir, const struct instances *, struct error *);
/* This server has been started now; the entry of its base_dir is replaced. */
int instances_touch(const char *state_dir, const char *name, const char *base_dir, const char *config, struct error *);

#endif
