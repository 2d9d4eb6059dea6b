/* The registry of settings: libconfuse's option tables, made from schema.def and instantiated once (DECISIONS 8).
 *
 * Both readers of configuration files set values through it, so that a setting has one name, one default and one
 * check. What a file says is kept in our own sparse levels (tree.h), not in libconfuse's sections, which cost 144
 * bytes an option and level. */
#ifndef YARILO_CONF_REGISTRY_H
#define YARILO_CONF_REGISTRY_H

#include "conf/tree.h"

#include <confuse.h>

/* All settings of the top level; sections are options with options of their own. */
cfg_t *conf_registry(void);
/* Checks the text by the option's validator, brings it into its form, and sets it in the section. -1: Dovecot's text
 * for a wrong value. `text` must live as long as the arena. */
int conf_registry_set(struct arena *, struct conf_section *, unsigned def, const char *text, struct conf_place,
                      struct error *);

#endif
