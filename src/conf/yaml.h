/* The YAML reader and printer (config-yaml). */
#ifndef YARILO_CONF_YAML_H
#define YARILO_CONF_YAML_H

#include "conf/reading.h"

/* *.yaml, *.yml */
bool yaml_is_name(const char *path);
/* Like compat_read; errors are "FILE:LINE:COLUMN: ...". */
int yaml_read(const char *path, const struct conf_reading *, struct conf_tree **, struct error *late, struct error *);

#endif
