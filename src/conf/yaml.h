/* The YAML reader and printer (config-yaml). */
#ifndef YARILO_CONF_YAML_H
#define YARILO_CONF_YAML_H

#include "conf/reading.h"

/* *.yaml, *.yml */
bool yaml_is_name(const char *path);
/* Like compat_read; the first fault is the error, "FILE:LINE:COLUMN: ...". */
int yaml_read(const char *path, const struct conf_reading *, struct conf_tree **, struct error *late, struct error *);
/* All faults, one a call of `see`. Unknown keys are warnings when `lenient`. -> the number of faults; *tree is there
 * when it is 0. */
size_t yaml_read_all(const char *path, const struct conf_reading *, bool lenient, struct conf_tree **,
                     void (*see)(void *, const char *text), void *arg);
/* From bytes, for tests and fuzzing. */
int yaml_read_text(struct slice, const struct conf_reading *, struct conf_tree **, struct error *);

/* The whole tree as YAML that reads back as the same settings. */
void yaml_print(const struct conf_tree *, bool show_secrets, struct buffer *out);

#endif
