/* commands.c - the table. */
#include "doveadm.h"

#define COMMAND(name, usage, flags, options, positional, run) {name, usage, flags, options, positional, run},
const struct doveadm_command doveadm_commands[] = {
#include "commands.def"
    {NULL, NULL, 0, NULL, NULL, NULL}};
