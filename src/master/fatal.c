/* What goes wrong before the log service runs: said on standard error, and in the log that the configuration names, so
 * that an admin who starts the server from a script finds it (verified with the original: both places). */
#include "master/master.h"

#include "log/log_sink.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void master_fatal(struct master *master, struct conf *conf, const char *fmt, ...)
{
    struct buffer text = {0};
    struct settings *set;
    struct log_sink *sink;
    struct error error;
    va_list args;

    va_start(args, fmt);
    buffer_vprintf(&text, fmt, args);
    va_end(args);
    fprintf(stderr, "Fatal: %s\n", buffer_cstr(&text));
    if (conf != NULL && (set = conf_settings(conf, NULL, &error)) != NULL) {
        if (strcmp(conf_str(set, SET_log_path), "/dev/stderr") != 0 && log_sink_open(set, &sink, &error) == 0)
            (void)log_sink_write(sink, LOG_LEVEL_FATAL, SLICE("master: "), buffer_slice(&text), &error);
        if (master->pid_file)
            basedir_note_fatal(master, buffer_cstr(&text));
    }
    exit(EXIT_FATAL);
}
