/* tls.c - TLS contexts and sessions over GnuTLS.
 *
 * A context is immutable once made and shared by all connections of its kind; certificates are parsed once. The
 * name that a client sends (SNI) is checked as a host name before anybody looks it up, and looked up at most once
 * a handshake, so that foreign names cost nothing (CVE-2017-15130). */
#include "net/tls.h"
#include "net/stream_impl.h"

#include <gnutls/x509.h>
#include <stdio.h>

struct tls_context {
    unsigned refs;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority, priority_before_13; /* the second may be NULL */
    gnutls_datum_t ticket_key;
    bool verify_client;
    char *alpn;
    char *cert_username_field;
};

static gnutls_datum_t datum(struct slice s)
{
    return (gnutls_datum_t){(unsigned char *)(uintptr_t)s.at, (unsigned)s.size};
}

static int load_pair(struct tls_context *c, const struct tls_settings *set, bool alternative, struct error *e)
{
    gnutls_datum_t cert = datum(alternative ? set->alt_cert : set->cert);
    gnutls_datum_t key = datum(alternative ? set->alt_key : set->key);
    int r;

    if (cert.size == 0)
        return error_set(e, ERROR_INVALID, "Can't load SSL certificate (ssl_cert setting): The certificate is empty");
    r = gnutls_certificate_set_x509_key_mem2(c->credentials, &cert, &key, GNUTLS_X509_FMT_PEM, set->key_password, 0);
    if (r >= 0)
        return 0;
    /* Tell the certificate from the key: only one of them parses. */
    gnutls_x509_crt_t *list = NULL;
    unsigned count = 0;
    int cert_r = gnutls_x509_crt_list_import2(&list, &count, &cert, GNUTLS_X509_FMT_PEM, 0);
    if (cert_r >= 0) {
        for (unsigned i = 0; i < count; i++)
            gnutls_x509_crt_deinit(list[i]);
        gnutls_free(list);
        return error_set(e, ERROR_INVALID,
                         "Couldn't parse private SSL key (%s setting)%s: %s", alternative ? "ssl_alt_key" : "ssl_key",
                         set->key_password != NULL && *set->key_password != '\0' ? "" : " (maybe ssl_key_password is wrong?)",
                         gnutls_strerror(r));
    }
    if (alternative)
        return error_set(e, ERROR_INVALID,
                         "Can't load alternative SSL certificate (ssl_alt_cert setting): There is no valid PEM certificate.");
    return error_set(e, ERROR_INVALID, "Can't load SSL certificate (ssl_cert setting): There is no valid PEM certificate.");
}

static int load_ca(struct tls_context *c, const struct tls_settings *set, struct error *e)
{
    gnutls_datum_t ca = datum(set->ca);
    int r;

    if (ca.size == 0)
        return 0;
    r = gnutls_certificate_set_x509_trust_mem(c->credentials, &ca, GNUTLS_X509_FMT_PEM);
    if (r < 0)
        return error_set(e, ERROR_INVALID, "Couldn't parse ssl_ca: %s", gnutls_strerror(r));
    r = gnutls_certificate_set_x509_crl_mem(c->credentials, &ca, GNUTLS_X509_FMT_PEM);
    if (set->require_crl && r <= 0)
        return error_set(e, ERROR_INVALID, "Couldn't parse ssl_ca: no CRL found (ssl_require_crl=yes)");
    return 0;
}

static int make_priority(const struct tls_settings *set, enum tls_priority_for what, gnutls_priority_t *out,
                         struct error *e)
{
    struct buffer words = {0};
    int r = tls_priority(set, what, &words, e);

    if (r == 0 && words.size > 0) {
        r = gnutls_priority_init(out, buffer_cstr(&words), NULL);
        if (r < 0)
            r = error_set(e, ERROR_INVALID, "Can't set cipher list to '%s' (ssl_cipher_list setting): %s",
                          set->cipher_list, gnutls_strerror(r));
    }
    buffer_free(&words);
    return r;
}

int tls_context_new(const struct tls_settings *set, struct tls_context **out, struct error *e)
{
    struct tls_context *c = mem_zero(1, sizeof(*c));

    c->refs = 1;
    gnutls_certificate_allocate_credentials(&c->credentials);
    c->verify_client = set->verify_client;
    c->alpn = mem_strdup_null(set->alpn);
    c->cert_username_field = mem_strdup(set->cert_username_field == NULL ? "commonName" : set->cert_username_field);
    if (set->tickets)
        gnutls_session_ticket_key_generate(&c->ticket_key);
    if (set->cert.size > 0 || set->key.size > 0 || !set->verify_client) {
        if (load_pair(c, set, false, e) < 0)
            goto failed;
    }
    if (set->alt_cert.size > 0 && load_pair(c, set, true, e) < 0)
        goto failed;
    if (load_ca(c, set, e) < 0 || make_priority(set, TLS_PRIORITY_START, &c->priority, e) < 0 ||
        make_priority(set, TLS_PRIORITY_BEFORE_13, &c->priority_before_13, e) < 0)
        goto failed;
    *out = c;
    return 0;
failed:
    tls_context_unref(c);
    return -1;
}

struct tls_context *tls_context_ref(struct tls_context *c)
{
    c->refs++;
    return c;
}

void tls_context_unref(struct tls_context *c)
{
    if (c == NULL || --c->refs > 0)
        return;
    gnutls_certificate_free_credentials(c->credentials);
    if (c->priority != NULL)
        gnutls_priority_deinit(c->priority);
    if (c->priority_before_13 != NULL)
        gnutls_priority_deinit(c->priority_before_13);
    if (c->ticket_key.data != NULL) {
        gnutls_memset(c->ticket_key.data, 0, c->ticket_key.size);
        gnutls_free(c->ticket_key.data);
    }
    mem_free(c->alpn);
    mem_free(c->cert_username_field);
    mem_free(c);
}

/* Letters, digits, '-', '_', '.' only; lower case. */
static bool host_name(const char *in, size_t size, char out[254])
{
    if (size == 0 || size > 253)
        return false;
    for (size_t i = 0; i < size; i++) {
        char c = text_lower(in[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
            return false;
        out[i] = c;
    }
    out[size] = '\0';
    return true;
}

static bool read_sni(gnutls_session_t session, char out[254])
{
    char name[512];
    size_t size = sizeof(name);
    unsigned type;

    if (gnutls_server_name_get(session, name, &size, &type, 0) != 0 || type != GNUTLS_NAME_DNS)
        return false;
    return host_name(name, strnlen(name, size), out);
}

/* The version and the name are known, suite and certificate not chosen yet. */
static int after_client_hello(gnutls_session_t session)
{
    struct stream_tls *t = gnutls_session_get_ptr(session);
    struct tls_context *other;
    char name[254];

    if (t->choose != NULL && read_sni(session, name) && (other = t->choose(t->stream->arg, name)) != NULL &&
        other != t->context) {
        tls_context_unref(t->context);
        t->context = tls_context_ref(other);
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, other->credentials);
        gnutls_certificate_server_set_request(session,
                                              other->verify_client ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_IGNORE);
        gnutls_priority_set(session, other->priority);
    }
    if (gnutls_protocol_get_version(session) < GNUTLS_TLS1_3 && t->context->priority_before_13 != NULL)
        gnutls_priority_set(session, t->context->priority_before_13);
    return 0;
}

int tls_session_new(struct tls_context *c, struct stream_tls *t, struct error *e)
{
    gnutls_session_t session;
    int r = gnutls_init(&session, (t->client ? GNUTLS_CLIENT : GNUTLS_SERVER) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

    if (r < 0)
        return error_set(e, ERROR_TEMPORARY, "gnutls_init() failed: %s", gnutls_strerror(r));
    gnutls_session_set_ptr(session, t);
    gnutls_priority_set(session, c->priority);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, c->credentials);
    /* Deadlines are the stream's. */
    gnutls_handshake_set_timeout(session, GNUTLS_INDEFINITE_TIMEOUT);
    if (!t->client) {
        gnutls_certificate_server_set_request(session, c->verify_client ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_IGNORE);
        gnutls_handshake_set_post_client_hello_function(session, after_client_hello);
        if (c->ticket_key.data != NULL)
            gnutls_session_ticket_enable_server(session, &c->ticket_key);
    }
    if (c->alpn != NULL) {
        gnutls_datum_t alpn = {(unsigned char *)c->alpn, (unsigned)strlen(c->alpn)};
        /* Not mandatory: clients that offer nothing, or something else, connect as they do with Dovecot. */
        gnutls_alpn_set_protocols(session, &alpn, 1, 0);
    }
    t->session = session;
    return 0;
}

void tls_session_client(struct stream_tls *t, const char *host, bool verify)
{
    if (host != NULL && *host != '\0') {
        gnutls_server_name_set(t->session, GNUTLS_NAME_DNS, host, strlen(host));
        if (verify)
            gnutls_session_set_verify_cert(t->session, host, 0);
    }
}

/* OpenSSL's names for the TLS 1.2 suites that differ from "kx-cipher-mac" are made by these rules:
 * ECDHE-RSA-AES256-GCM-SHA384, ECDHE-RSA-CHACHA20-POLY1305, DHE-RSA-AES128-SHA. */
static void suite_name(gnutls_session_t session, char *out, size_t size)
{
    gnutls_cipher_algorithm_t cipher = gnutls_cipher_get(session);
    bool tls13 = gnutls_protocol_get_version(session) == GNUTLS_TLS1_3;
    const char *kx, *mac = gnutls_mac_get_name(gnutls_mac_get(session));
    char word[40];

    switch (cipher) {
    case GNUTLS_CIPHER_AES_128_GCM:
        snprintf(word, sizeof(word), tls13 ? "AES_128_GCM_SHA256" : "AES128-GCM-SHA256");
        break;
    case GNUTLS_CIPHER_AES_256_GCM:
        snprintf(word, sizeof(word), tls13 ? "AES_256_GCM_SHA384" : "AES256-GCM-SHA384");
        break;
    case GNUTLS_CIPHER_CHACHA20_POLY1305:
        snprintf(word, sizeof(word), tls13 ? "CHACHA20_POLY1305_SHA256" : "CHACHA20-POLY1305");
        break;
    case GNUTLS_CIPHER_AES_128_CCM:
        snprintf(word, sizeof(word), tls13 ? "AES_128_CCM_SHA256" : "AES128-CCM");
        break;
    case GNUTLS_CIPHER_AES_256_CCM:
        snprintf(word, sizeof(word), "AES256-CCM");
        break;
    case GNUTLS_CIPHER_AES_128_CCM_8:
        snprintf(word, sizeof(word), tls13 ? "AES_128_CCM_8_SHA256" : "AES128-CCM8");
        break;
    case GNUTLS_CIPHER_AES_128_CBC:
        snprintf(word, sizeof(word), "AES128-%s", mac == NULL || strcmp(mac, "SHA1") == 0 ? "SHA" : mac);
        break;
    case GNUTLS_CIPHER_AES_256_CBC:
        snprintf(word, sizeof(word), "AES256-%s", mac == NULL || strcmp(mac, "SHA1") == 0 ? "SHA" : mac);
        break;
    default:
        snprintf(word, sizeof(word), "%s", gnutls_cipher_get_name(cipher));
        break;
    }
    if (tls13) {
        snprintf(out, size, "TLS_%s", word);
        return;
    }
    switch (gnutls_kx_get(session)) {
    case GNUTLS_KX_ECDHE_RSA:
        kx = "ECDHE-RSA-";
        break;
    case GNUTLS_KX_ECDHE_ECDSA:
        kx = "ECDHE-ECDSA-";
        break;
    case GNUTLS_KX_DHE_RSA:
        kx = "DHE-RSA-";
        break;
    default:
        kx = "";
        break;
    }
    snprintf(out, size, "%s%s", kx, word);
}

/* Was a valid certificate sent by the client, and the name in it; "" where it has none. A certificate without the
 * wanted field names nobody (CVE-2019-3814). */
static void client_name(struct tls_context *c, struct stream_tls *t)
{
    unsigned status, count;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(t->session, &count);
    gnutls_x509_crt_t cert;
    size_t size = sizeof(t->cert_name);
    const char *oid = GNUTLS_OID_X520_COMMON_NAME;

    if (list == NULL || count == 0 || gnutls_certificate_verify_peers2(t->session, &status) < 0 || status != 0)
        return;
    t->cert_valid = true;
    if (strcmp(c->cert_username_field, "emailAddress") == 0)
        oid = GNUTLS_OID_PKCS9_EMAIL;
    else if (strcmp(c->cert_username_field, "x500UniqueIdentifier") == 0)
        oid = "2.5.4.45";
    if (gnutls_x509_crt_init(&cert) < 0)
        return;
    if (gnutls_x509_crt_import(cert, &list[0], GNUTLS_X509_FMT_DER) < 0 ||
        gnutls_x509_crt_get_dn_by_oid(cert, oid, 0, 0, t->cert_name, &size) < 0 ||
        memchr(t->cert_name, '\0', size) != NULL)
        t->cert_name[0] = '\0';
    gnutls_x509_crt_deinit(cert);
}

void tls_session_describe(struct tls_context *c, struct stream_tls *t)
{
    gnutls_datum_t alpn;
    const char *version = gnutls_protocol_get_name(gnutls_protocol_get_version(t->session));
    char name[254];

    /* "TLS1.3" here, "TLSv1.3" in Dovecot's logs. */
    snprintf(t->protocol, sizeof(t->protocol), "TLSv%s",
             version != NULL && strncmp(version, "TLS", 3) == 0 ? version + 3 : "?");
    if (strcmp(t->protocol, "TLSv1.0") == 0)
        t->protocol[5] = '\0';
    suite_name(t->session, t->cipher, sizeof(t->cipher));
    t->bits = (unsigned)gnutls_cipher_get_key_size(gnutls_cipher_get(t->session)) * 8;
    if (gnutls_alpn_get_selected_protocol(t->session, &alpn) == 0)
        snprintf(t->alpn, sizeof(t->alpn), "%.*s", (int)alpn.size, (const char *)alpn.data);
    if (!t->client && read_sni(t->session, name))
        snprintf(t->sni, sizeof(t->sni), "%s", name);
    if (!t->client)
        client_name(c, t);
}
