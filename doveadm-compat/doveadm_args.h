/* Parsing of a command's words; only the dispatcher calls this. */
#ifndef YARILO_DOVEADM_ARGS_H
#define YARILO_DOVEADM_ARGS_H

#include "doveadm.h"

/* argv[0] is the last word of the command, as getopt's messages show it. 0, or 64 with the message given. */
int doveadm_args_parse(struct doveadm *, int argc, char **argv);
void doveadm_args_free(struct doveadm *);

/* doveadm_help.c: the list of commands; prefix = "" or the words of a family. Returns 64. */
int doveadm_help_list(const struct doveadm *, const char *family);
bool doveadm_is_family(const char *words);

#endif
