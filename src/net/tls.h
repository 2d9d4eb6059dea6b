/* TLS by GnuTLS: contexts from settings (ssl_*), OpenSSL cipher lists translated to priorities, SNI, ALPN, tickets.
 * config 12 gives the meaning of each setting. */
#ifndef YARILO_NET_TLS_H
#define YARILO_NET_TLS_H

#include "base/base.h"

struct tls_context;

/* What a context is made from: texts already read (PEM), so that a chrooted process can make contexts too. */
struct tls_settings {
    struct slice cert, key;          /* PEM; first certificate is the server's */
    struct slice alt_cert, alt_key;  /* empty = none */
    const char *key_password;        /* NULL = none */
    struct slice ca;                 /* PEM; for client certificates; empty = none */
    struct slice dh;                 /* PEM parameters: accepted and not used (RFC 7919 groups are) */
    const char *min_protocol;        /* "TLSv1.2" ... */
    const char *cipher_list;         /* OpenSSL form */
    const char *cipher_suites;       /* TLS 1.3 */
    const char *curve_list;
    bool prefer_server_ciphers;
    bool verify_client;              /* ask for a client certificate */
    bool require_crl;
    bool tickets;                    /* not with ssl_options = no_ticket */
    const char *cert_username_field; /* commonName ... */
    const char *alpn;                /* "imap", NULL = none offered */
};

/* Errors name the setting at fault, with the words of the real server where it has any. */
int tls_context_new(const struct tls_settings *, struct tls_context **, struct error *);
struct tls_context *tls_context_ref(struct tls_context *);
void tls_context_unref(struct tls_context *);

/* An OpenSSL cipher list and minimum as GnuTLS priority string (config 12.2). Words without a counterpart are
 * dropped; a list without any usable cipher is an error. GnuTLS knows one list of ciphers for all versions, OpenSSL one
 * for TLS 1.3 and one for those before, so there are two strings: the first starts the handshake, and once an older
 * version has been negotiated the second takes its place. It is empty when no older version is allowed. */
enum tls_priority_for { TLS_PRIORITY_START, TLS_PRIORITY_BEFORE_13 };
int tls_priority(const struct tls_settings *, enum tls_priority_for, struct buffer *out, struct error *e);

#endif
