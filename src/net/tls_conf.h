/* TLS contexts of a server process, one per settings object (ssl_* of the settings that a connection matches).
 *
 * Settings are shared by all connections that match the same local, remote and local_name blocks, so a context per
 * object is a context per certificate. Bad certificates are found at the first use, as the real server does, and
 * remembered: a broken setting is not parsed again for each client. */
#ifndef YARILO_NET_TLS_CONF_H
#define YARILO_NET_TLS_CONF_H

#include "conf/conf.h"
#include "net/tls.h"

struct tls_cache;

struct tls_cache *tls_cache_new(const char *alpn); /* alpn must live as long; NULL = none offered */
void tls_cache_free(struct tls_cache *);
/* NULL with *e ("Can't load SSL certificate (ssl_cert setting): ..."). The context is the cache's. */
struct tls_context *tls_cache_get(struct tls_cache *, struct settings *, struct error *);

#endif
