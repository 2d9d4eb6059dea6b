/* mail_plugins: which names there are (quota-acl-plugins 7), and which a setting names.
 *
 * Names stand between blanks and commas; what Dovecot's file names have in front and behind ("lib20_zlib", "zlib.so") may stand
 * there too. There are no modules to load: what a plugin does is part of the servers, and done where it is named. */
#ifndef YARILO_CONF_PLUGINS_H
#define YARILO_CONF_PLUGINS_H

#include "conf/conf.h"

/* Is the plugin in mail_plugins? */
bool conf_plugin_named(const struct settings *, const char *name);

/* Are all names those of plugins, and is all there that they need? ERROR_INVALID with Dovecot's texts: "Plugin 'x' not found from
 * directory ...", "Couldn't load required plugin ...: Plugin quota must be loaded also"; `hint`: with what to set.
 * A file of mail_plugin_dir that is no plugin of Dovecot's own counts as one that is not there, like those of which we know. */
int conf_plugins_check(const struct settings *, bool hint, struct error *);

/* Names, each once, of plugins that this server does not have; in the arena. Begin with *at = 0; NULL: no more. */
const char *conf_plugins_absent(const struct settings *, struct arena *, size_t *at);

#endif
