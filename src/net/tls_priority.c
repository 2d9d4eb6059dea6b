/* tls_priority.c - OpenSSL cipher lists as GnuTLS priorities (config 12.2).
 *
 * The OpenSSL language is evaluated on our own table of TLS 1.2 suites; the result, an ordered set, becomes a
 * priority string. GnuTLS takes key exchange, cipher and MAC separately, so only a product can be enabled: a cipher
 * or MAC that would bring in a suite which the list excludes is left out. What the list excludes is never on. */
#include "net/tls.h"

#include <stdio.h>
#include <strings.h>

enum kx { KX_RSA = 1, KX_DHE = 2, KX_ECDHE = 4 };
enum au { AU_RSA = 1, AU_ECDSA = 2 };

struct suite {
    const char *openssl;
    unsigned kx, au;
    const char *cipher; /* GnuTLS's name */
    const char *mac;    /* GnuTLS's name */
    unsigned bits;
    const char *words;  /* OpenSSL words that select it, beside kx, au, bits classes */
    bool tls12;         /* needs TLS 1.2 */
};

/* OpenSSL's base order: ECDHE before DHE before RSA, within it by cipher. */
#define ROWS(NAME, KX, AU)                                                                                       \
    {NAME "AES256-GCM-SHA384", KX, AU, "AES-256-GCM", "AEAD", 256, "AES AES256 AESGCM", true},                     \
    {NAME "CHACHA20-POLY1305", KX, AU, "CHACHA20-POLY1305", "AEAD", 256, "CHACHA20", true},                      \
    {NAME "AES256-CCM8", KX, AU, "AES-256-CCM-8", "AEAD", 256, "AES AES256 AESCCM AESCCM8", true},               \
    {NAME "AES256-CCM", KX, AU, "AES-256-CCM", "AEAD", 256, "AES AES256 AESCCM", true},                          \
    {NAME "AES128-GCM-SHA256", KX, AU, "AES-128-GCM", "AEAD", 128, "AES AES128 AESGCM", true},                   \
    {NAME "AES128-CCM8", KX, AU, "AES-128-CCM-8", "AEAD", 128, "AES AES128 AESCCM AESCCM8", true},               \
    {NAME "AES128-CCM", KX, AU, "AES-128-CCM", "AEAD", 128, "AES AES128 AESCCM", true},                          \
    {NAME "AES256-SHA384", KX, AU, "AES-256-CBC", "SHA384", 256, "AES AES256 SHA384", true},                     \
    {NAME "AES256-SHA256", KX, AU, "AES-256-CBC", "SHA256", 256, "AES AES256 SHA256", true},                     \
    {NAME "CAMELLIA256-SHA384", KX, AU, "CAMELLIA-256-CBC", "SHA384", 256, "CAMELLIA CAMELLIA256 SHA384", true},\
    {NAME "AES128-SHA256", KX, AU, "AES-128-CBC", "SHA256", 128, "AES AES128 SHA256", true},                     \
    {NAME "CAMELLIA128-SHA256", KX, AU, "CAMELLIA-128-CBC", "SHA256", 128, "CAMELLIA CAMELLIA128 SHA256", true},\
    {NAME "AES256-SHA", KX, AU, "AES-256-CBC", "SHA1", 256, "AES AES256 SHA1 SHA", false},                       \
    {NAME "CAMELLIA256-SHA", KX, AU, "CAMELLIA-256-CBC", "SHA1", 256, "CAMELLIA CAMELLIA256 SHA1 SHA", false},   \
    {NAME "AES128-SHA", KX, AU, "AES-128-CBC", "SHA1", 128, "AES AES128 SHA1 SHA", false},                       \
    {NAME "CAMELLIA128-SHA", KX, AU, "CAMELLIA-128-CBC", "SHA1", 128, "CAMELLIA CAMELLIA128 SHA1 SHA", false},   \
    {NAME "DES-CBC3-SHA", KX, AU, "3DES-CBC", "SHA1", 112, "3DES SHA1 SHA", false}

static const struct suite suites[] = {
    ROWS("ECDHE-ECDSA-", KX_ECDHE, AU_ECDSA),
    ROWS("ECDHE-RSA-", KX_ECDHE, AU_RSA),
    ROWS("DHE-RSA-", KX_DHE, AU_RSA),
    ROWS("", KX_RSA, AU_RSA),
};
enum { SUITES = sizeof(suites) / sizeof(suites[0]) };

/* The list while it is evaluated: order, and what is removed for ever. */
struct list {
    unsigned order[SUITES];
    unsigned count;
    bool killed[SUITES];
    unsigned seclevel;
};

static bool one_of(struct slice w, const char *words)
{
    return slice_has_word(slice_from_str(words), w);
}

static bool exists(const struct suite *s)
{
    /* Rows that no standard defines: SHA384 CBC only with ECDHE, SHA256 with AES-256 only without it. */
    if (strcmp(s->mac, "SHA384") == 0)
        return s->kx == KX_ECDHE;
    if (strcmp(s->mac, "SHA256") == 0 && s->bits == 256)
        return s->kx != KX_ECDHE;
    if (strstr(s->cipher, "CCM") != NULL)
        return !(s->kx == KX_ECDHE && s->au == AU_RSA);
    if (strcmp(s->cipher, "CHACHA20-POLY1305") == 0)
        return s->kx != KX_RSA;
    if (strncmp(s->cipher, "CAMELLIA", 8) == 0 && strcmp(s->mac, "SHA1") == 0)
        return s->kx != KX_ECDHE;
    return true;
}

static bool word_selects(struct slice w, const struct suite *s)
{
    if (slice_equal_str(w, s->openssl))
        return true;
    if (one_of(w, "ALL HIGH DEFAULT"))
        return s->bits >= 128 || slice_equal_str(w, "ALL");
    if (slice_equal_str(w, "MEDIUM"))
        return s->bits < 128;
    if (one_of(w, "kRSA RSA"))
        return s->kx == KX_RSA;
    if (one_of(w, "kDHE kEDH DHE EDH"))
        return s->kx == KX_DHE;
    if (one_of(w, "kECDHE kEECDH ECDHE EECDH"))
        return s->kx == KX_ECDHE;
    if (slice_equal_str(w, "aRSA"))
        return s->au == AU_RSA;
    if (one_of(w, "aECDSA ECDSA"))
        return s->au == AU_ECDSA;
    if (slice_equal_str(w, "TLSv1.2"))
        return s->tls12;
    if (one_of(w, "TLSv1.0 TLSv1 SSLv3"))
        return !s->tls12;
    return slice_has_word(slice_from_str(s->words), w);
}

/* "A+B" is the intersection. */
static bool term_selects(struct slice term, const struct suite *s)
{
    struct slice rest = term, w;

    while (slice_split(&rest, '+', &w))
        if (w.size == 0 || !word_selects(w, s))
            return false;
    return true;
}

static bool listed(const struct list *l, unsigned suite)
{
    for (unsigned i = 0; i < l->count; i++)
        if (l->order[i] == suite)
            return true;
    return false;
}

static void sort_by_strength(struct list *l)
{
    unsigned out[SUITES], n = 0;
    static const unsigned classes[] = {256, 128, 112};

    for (unsigned c = 0; c < sizeof(classes) / sizeof(classes[0]); c++)
        for (unsigned i = 0; i < l->count; i++)
            if (suites[l->order[i]].bits == classes[c])
                out[n++] = l->order[i];
    memcpy(l->order, out, n * sizeof(out[0]));
}

static void remove_term(struct list *l, struct slice term, bool for_ever, bool to_end)
{
    unsigned keep[SUITES], moved[SUITES], kept = 0, gone = 0;

    for (unsigned i = 0; i < l->count; i++) {
        if (term_selects(term, &suites[l->order[i]]))
            moved[gone++] = l->order[i];
        else
            keep[kept++] = l->order[i];
    }
    if (for_ever)
        for (unsigned i = 0; i < SUITES; i++)
            l->killed[i] |= term_selects(term, &suites[i]);
    memcpy(l->order, keep, kept * sizeof(keep[0]));
    l->count = kept;
    if (to_end) {
        memcpy(l->order + kept, moved, gone * sizeof(moved[0]));
        l->count += gone;
    }
}

static void apply_word(struct list *l, struct slice w)
{
    if (w.at[0] == '@') {
        if (slice_equal_str(w, "@STRENGTH"))
            sort_by_strength(l);
        else if (slice_starts(w, SLICE("@SECLEVEL=")) && w.size == 11 && w.at[10] >= '0' && w.at[10] <= '5')
            l->seclevel = (unsigned)(w.at[10] - '0');
        return;
    }
    if (w.at[0] == '!' || w.at[0] == '-' || w.at[0] == '+') {
        remove_term(l, slice_from(w, 1), w.at[0] == '!', w.at[0] == '+');
        return;
    }
    for (unsigned i = 0; i < SUITES; i++)
        if (exists(&suites[i]) && !l->killed[i] && !listed(l, i) && term_selects(w, &suites[i])) {
            /* 3DES and plain RSA are not in DEFAULT. */
            if (slice_equal_str(w, "DEFAULT") && suites[i].bits < 128)
                continue;
            l->order[l->count++] = i;
        }
}

static void evaluate(struct slice text, struct list *l)
{
    size_t at = 0;

    memset(l, 0, sizeof(*l));
    while (at < text.size) {
        size_t end = at;
        while (end < text.size && strchr(":, ", text.at[end]) == NULL)
            end++;
        if (end > at)
            apply_word(l, slice_of(text.at + at, end - at));
        at = end + 1;
    }
}

/* The versions before 1.3; that one is always added. */
static const struct {
    const char *setting, *gnutls;
} versions[] = {
    {"ANY", "+VERS-TLS1.0:+VERS-TLS1.1:+VERS-TLS1.2"},
    {"SSLv3", "+VERS-TLS1.0:+VERS-TLS1.1:+VERS-TLS1.2"},
    {"TLSv1", "+VERS-TLS1.0:+VERS-TLS1.1:+VERS-TLS1.2"},
    {"TLSv1.1", "+VERS-TLS1.1:+VERS-TLS1.2"},
    {"TLSv1.2", "+VERS-TLS1.2"},
    {"TLSv1.3", ""},
    {"LATEST", ""},
};

static const struct {
    const char *openssl, *gnutls;
} groups[] = {
    {"X25519", "X25519"},       {"X448", "X448"},           {"P-256", "SECP256R1"},     {"prime256v1", "SECP256R1"},
    {"P-384", "SECP384R1"},     {"secp384r1", "SECP384R1"}, {"P-521", "SECP521R1"},     {"secp521r1", "SECP521R1"},
    {"ffdhe2048", "FFDHE2048"}, {"ffdhe3072", "FFDHE3072"}, {"ffdhe4096", "FFDHE4096"}, {"ffdhe6144", "FFDHE6144"},
    {"ffdhe8192", "FFDHE8192"}, {"auto", "ALL"},
}, tls13[] = {
    {"TLS_AES_256_GCM_SHA384", "AES-256-GCM"},
    {"TLS_CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"},
    {"TLS_AES_128_GCM_SHA256", "AES-128-GCM"},
    {"TLS_AES_128_CCM_SHA256", "AES-128-CCM"},
    {"TLS_AES_128_CCM_8_SHA256", "AES-128-CCM-8"},
};

static void add_once(struct buffer *out, const char *prefix, const char *word)
{
    char item[64];

    snprintf(item, sizeof(item), ":+%s%s", prefix, word);
    /* A whole item: the next byte is ':' or the end. */
    struct slice rest = buffer_slice(out);
    for (ptrdiff_t i; (i = slice_find_slice(rest, slice_from_str(item))) >= 0;) {
        rest = slice_from(rest, (size_t)i + strlen(item));
        if (rest.size == 0 || rest.at[0] == ':')
            return;
    }
    buffer_append_str(out, item);
}

/* True when (kx, au) x (cipher, mac) contains a suite that exists and is not in the list. */
static bool would_add_foreign(const struct list *l, const struct suite *candidate, unsigned kx_au_mask)
{
    for (unsigned i = 0; i < SUITES; i++) {
        const struct suite *s = &suites[i];
        unsigned bit = 1u << (s->kx * 2 + s->au);
        if ((kx_au_mask & bit) != 0 && exists(s) && !listed(l, i) && strcmp(s->cipher, candidate->cipher) == 0 &&
            strcmp(s->mac, candidate->mac) == 0)
            return true;
    }
    return false;
}

static void add_suites(const struct list *l, struct buffer *out)
{
    unsigned mask = 0, added = 0;

    for (unsigned i = 0; i < l->count; i++)
        mask |= 1u << (suites[l->order[i]].kx * 2 + suites[l->order[i]].au);
    for (unsigned i = 0; i < l->count; i++) {
        const struct suite *s = &suites[l->order[i]];
        add_once(out, "", s->kx == KX_RSA                          ? "RSA"
                          : s->kx == KX_DHE                        ? "DHE-RSA"
                          : s->au == AU_ECDSA                      ? "ECDHE-ECDSA"
                                                                   : "ECDHE-RSA");
    }
    for (unsigned i = 0; i < l->count; i++) {
        const struct suite *s = &suites[l->order[i]];
        if (would_add_foreign(l, s, mask))
            continue;
        add_once(out, "", s->cipher);
        add_once(out, "", s->mac);
        added++;
    }
    if (added == 0 && l->count > 0) {
        /* The product never fits (single suites of two kinds): keep the first one's key exchange alone. */
        struct list first = {.order = {l->order[0]}, .count = 1};
        add_suites(&first, out);
    }
}

static int add_tls13(const struct tls_settings *set, struct buffer *out, struct error *e)
{
    struct slice rest = slice_from_str(set->cipher_suites), w;

    if (rest.size == 0) {
        for (unsigned i = 0; i < 3; i++)
            add_once(out, "", tls13[i].gnutls);
        add_once(out, "", "AEAD");
        return 0;
    }
    while (slice_split(&rest, ':', &w)) {
        unsigned i;
        for (i = 0; i < sizeof(tls13) / sizeof(tls13[0]); i++)
            if (slice_equal_str(w, tls13[i].openssl))
                break;
        if (i == sizeof(tls13) / sizeof(tls13[0]))
            return error_set(e, ERROR_INVALID, "Can't set ciphersuites to '%s': no cipher match", set->cipher_suites);
        add_once(out, "", tls13[i].gnutls);
    }
    add_once(out, "", "AEAD");
    return 0;
}

static int add_groups(const struct tls_settings *set, struct buffer *out, struct error *e)
{
    struct slice rest = slice_from_str(set->curve_list), w;

    if (rest.size == 0) {
        buffer_append_str(out, ":+GROUP-ALL");
        return 0;
    }
    while (slice_split(&rest, ':', &w)) {
        unsigned i;
        for (i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
            if (slice_equal_str_nocase(w, groups[i].openssl))
                break;
        if (i == sizeof(groups) / sizeof(groups[0]))
            return error_set(e, ERROR_INVALID, "Can't set curve list to '%s' (ssl_curve_list setting)",
                             set->curve_list);
        add_once(out, "GROUP-", groups[i].gnutls);
    }
    return 0;
}

int tls_priority(const struct tls_settings *set, enum tls_priority_for what, struct buffer *out, struct error *e)
{
    const char *minimum = set->min_protocol == NULL || *set->min_protocol == '\0' ? "TLSv1.2" : set->min_protocol;
    static const char *const profiles[] = {"LOW", "LOW", "MEDIUM", "HIGH", "ULTRA", "FUTURE"};
    struct list *l;
    unsigned v;

    for (v = 0; v < sizeof(versions) / sizeof(versions[0]); v++)
        if (strcasecmp(versions[v].setting, minimum) == 0)
            break;
    if (v == sizeof(versions) / sizeof(versions[0]))
        return error_set(e, ERROR_INVALID, "Unknown ssl_min_protocol setting '%s'", minimum);
    if (what == TLS_PRIORITY_BEFORE_13 && versions[v].gnutls[0] == '\0')
        return 0;
    buffer_printf(out, "NONE:%s%s%s:+COMP-NULL:+SIGN-ALL:+CTYPE-X509", versions[v].gnutls,
                  what == TLS_PRIORITY_START && versions[v].gnutls[0] != '\0' ? ":" : "",
                  what == TLS_PRIORITY_START ? "+VERS-TLS1.3" : "");
    if (add_groups(set, out, e) < 0)
        return -1;
    l = mem_zero(1, sizeof(*l));
    if (set->cipher_list != NULL)
        evaluate(slice_from_str(set->cipher_list), l);
    else
        evaluate(SLICE("ALL:!kRSA:!3DES@STRENGTH"), l);
    if (l->count == 0) {
        mem_free(l);
        return error_set(e, ERROR_INVALID, "Can't set cipher list to '%s' (ssl_cipher_list setting): no cipher match",
                         set->cipher_list);
    }
    if (what == TLS_PRIORITY_START && add_tls13(set, out, e) < 0) {
        mem_free(l);
        return -1;
    }
    add_suites(l, out);
    if (l->seclevel > 0)
        buffer_printf(out, ":%%PROFILE_%s", profiles[l->seclevel]);
    if (set->prefer_server_ciphers)
        buffer_append_str(out, ":%SERVER_PRECEDENCE");
    mem_free(l);
    return 0;
}
