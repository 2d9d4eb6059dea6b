/* tls_conf.c - from ssl_* settings to contexts. */
#include "net/tls_conf.h"


#include <uthash.h>

struct entry {
    struct settings *set; /* a reference; the key */
    struct tls_context *context;
    struct error error;
    UT_hash_handle hh;
};

struct tls_cache {
    const char *alpn;
    struct entry *entries;
};

struct tls_cache *tls_cache_new(const char *alpn)
{
    struct tls_cache *cache = mem_zero(1, sizeof(*cache));

    cache->alpn = alpn;
    return cache;
}

void tls_cache_free(struct tls_cache *cache)
{
    struct entry *it, *next;

    HASH_ITER(hh, cache->entries, it, next) {
        HASH_DEL(cache->entries, it);
        tls_context_unref(it->context);
        settings_unref(it->set);
        mem_free(it);
    }
    mem_free(cache);
}

static bool option_set(const char *options, const char *word)
{
    struct slice rest = slice_from_str(options), one;

    while (slice_split(&rest, ' ', &one))
        if (slice_equal_str(one, word))
            return true;
    return false;
}

static struct tls_context *make(const char *alpn, struct settings *set, struct error *e)
{
    const char *password = conf_str(set, SET_ssl_key_password);
    struct tls_settings tls = {
        .cert = slice_from_str(conf_str(set, SET_ssl_cert)),
        .key = slice_from_str(conf_str(set, SET_ssl_key)),
        .alt_cert = slice_from_str(conf_str(set, SET_ssl_alt_cert)),
        .alt_key = slice_from_str(conf_str(set, SET_ssl_alt_key)),
        .key_password = *password == '\0' ? NULL : password,
        .ca = slice_from_str(conf_str(set, SET_ssl_ca)),
        .dh = slice_from_str(conf_str(set, SET_ssl_dh)),
        .min_protocol = conf_str(set, SET_ssl_min_protocol),
        .cipher_list = conf_str(set, SET_ssl_cipher_list),
        .cipher_suites = conf_str(set, SET_ssl_cipher_suites),
        .curve_list = conf_str(set, SET_ssl_curve_list),
        .prefer_server_ciphers = conf_bool(set, SET_ssl_prefer_server_ciphers),
        .verify_client = conf_bool(set, SET_ssl_verify_client_cert),
        .require_crl = conf_bool(set, SET_ssl_require_crl),
        .tickets = !option_set(conf_str(set, SET_ssl_options), "no_ticket"),
        .cert_username_field = conf_str(set, SET_ssl_cert_username_field),
        .alpn = alpn,
    };
    struct tls_context *context;

    return tls_context_new(&tls, &context, e) < 0 ? NULL : context;
}

struct tls_context *tls_cache_get(struct tls_cache *cache, struct settings *set, struct error *e)
{
    struct entry *it;

    HASH_FIND_PTR(cache->entries, &set, it);
    if (it == NULL) {
        it = mem_zero(1, sizeof(*it));
        it->set = settings_ref(set);
        it->context = make(cache->alpn, set, &it->error);
        HASH_ADD_PTR(cache->entries, set, it);
    }
    if (it->context == NULL)
        *e = it->error;
    return it->context;
}
