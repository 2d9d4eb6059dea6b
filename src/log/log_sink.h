/* Where log lines go: files, syslog, standard error, as log_path, info_log_path, debug_log_path, log_timestamp,
 * syslog_facility and log_format say (ipc 3). Used by the log service, and by master for what goes wrong before it
 * runs. */
#ifndef YARILO_LOG_LOG_SINK_H
#define YARILO_LOG_LOG_SINK_H

#include "base/base.h"
#include "conf/conf.h"

struct log_sink;

/* Opens the files (mode 0600). -1: one cannot be opened; the text is the original's: "Can't open log file %s: ...". */
int log_sink_open(const struct settings *, struct log_sink **, struct error *);
void log_sink_free(struct log_sink *);
/* SIGUSR1: opens the files again, so that a rotated one is let go. A file that fails keeps its old descriptor. */
int log_sink_reopen(struct log_sink *, struct error *);

/* One line: timestamp, "prefix", "Level: ", text. Not more than one write. -1: it could not be written. */
int log_sink_write(struct log_sink *, enum log_level, struct slice prefix, struct slice text, struct error *);

/* "Debug", "Info", "Warning", "Error", "Fatal", "Panic". */
const char *log_sink_level(enum log_level);

#endif
