/* The comment lines at the head of doveconf's output, and what it learns from the machine (config 8.2). */
#ifndef YARILO_COMPAT_BANNER_H
#define YARILO_COMPAT_BANNER_H

#include "conf/settings.h"

void banner_version(const char *file, struct buffer *out);
/* "# OS:", "# Hostname:" */
void banner_system(const struct settings *, struct buffer *out);
char *banner_hostname(void);
/* The configuration file of a named instance, or NULL. */
char *banner_instance_file(const char *name);
/* What managesieve announces, as if it were assigned; not with DUMP_CAPABILITY (config 11.4). */
void banner_capabilities(struct conf_tree *);

#endif
