/* How a command ends in the line protocol of doveadm-server, for both sides (doveadm 8). */
#ifndef YARILO_DOVEADM_LINE_STATUS_H
#define YARILO_DOVEADM_LINE_STATUS_H

#include "doveadm.h"

static const struct {
    int status;
    const char *name;
} line_statuses[] = {{DOVEADM_OK, "+"}, {DOVEADM_USAGE, "-USAGE"}, {DOVEADM_DATAERR, "-DATAERR"}, {DOVEADM_NOUSER, "-NOUSER"},
                     {DOVEADM_NOTFOUND, "-NOTFOUND"}, {DOVEADM_TEMPFAIL, "-TEMPFAIL"}, {DOVEADM_PROTOCOL, "-PROTOCOL"},
                     {DOVEADM_NOPERM, "-NOPERM"}, {1001, "-NOREPLICATE"}};

enum { LINE_STATUSES = sizeof(line_statuses) / sizeof(line_statuses[0]) };

static inline const char *line_status_name(int status)
{
    for (unsigned i = 0; i < LINE_STATUSES; i++)
        if (line_statuses[i].status == status)
            return line_statuses[i].name;
    return "-UNKNOWN";
}

static inline int line_status_of(struct slice name)
{
    for (unsigned i = 0; i < LINE_STATUSES; i++)
        if (slice_equal_str(name, line_statuses[i].name))
            return line_statuses[i].status;
    return DOVEADM_TEMPFAIL;
}

#endif
