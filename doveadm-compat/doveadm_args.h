/* Parsing of a command's words; only the dispatcher calls this. */
#ifndef YARILO_DOVEADM_ARGS_H
#define YARILO_DOVEADM_ARGS_H

#include "doveadm.h"

/* All words of a command begin the arguments: the first row that does, or NULL. *words = how many arguments it takes. */
const struct doveadm_command *doveadm_command_find(char **args, int *words);
/* argv[0] is the last word of the command, as getopt's messages show it. 0, or 64 with the message given. */
int doveadm_args_parse(struct doveadm *, int argc, char **argv);
/* For commands that are not given as words: declares, then gives one value by its name (as it is, or in camel case), several
 * times for several. Flags want "true". False: there is no such parameter, or the number is none. */
void doveadm_args_declare(struct doveadm *);
bool doveadm_args_give(struct doveadm *, const char *name, const char *value);
/* "mailbox metadata get" -> "mailboxMetadataGet". In the arena. */
char *doveadm_args_camel(struct arena *, const char *name);
/* Calls see for each parameter with its name and type (b s a n, p P). */
void doveadm_args_each(const struct doveadm *, void (*see)(void *, const char *name, char type), void *arg);
/* Is a positional parameter missing that the usage does not show in brackets? */
bool doveadm_args_missing(const struct doveadm *);
void doveadm_args_free(struct doveadm *);

/* doveadm_help.c: the list of commands; prefix = "" or the words of a family. Returns 64. */
int doveadm_help_list(struct doveadm *, const char *family);
/* doveadm_run.c */
bool doveadm_plugin_loaded(struct doveadm *, const struct doveadm_command *);
bool doveadm_is_family(const char *words);

#endif
