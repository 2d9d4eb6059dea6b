/* The service `config`: Dovecot's config socket (ipc 4), so that stock programs find their settings here too. */
#ifndef YARILO_COMPAT_CONFIG_SERVICE_H
#define YARILO_COMPAT_CONFIG_SERVICE_H

int config_service(int argc, char **argv);

#endif
