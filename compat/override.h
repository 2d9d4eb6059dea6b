/* -o KEY=VALUE on a whole configuration (config 11.2). */
#ifndef YARILO_COMPAT_OVERRIDE_H
#define YARILO_COMPAT_OVERRIDE_H

#include "conf/tree.h"

/* Sets the value wherever the file says something about the path, and globally, so that no filter hides it. No
 * expansion; unknown keys are ignored. -1: "Error reading configuration: Invalid -o parameter %s: %s". */
int compat_override(struct conf_tree *, const char *pair, struct error *);

#endif
