/* A self-signed certificate for the first start: ECDSA P-256, localhost, ten years. */
#include "compat/certificate.h"

#include "base/os.h"

#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <pwd.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static int failed(struct error *e, const char *what, int code)
{
    return error_set(e, ERROR_TEMPORARY, "%s: %s", what, gnutls_strerror(code));
}

static int fill_certificate(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
    unsigned char serial[16];
    static const unsigned char loopback[4] = {127, 0, 0, 1};
    time_t now = time(NULL);
    int code = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));
    serial[0] &= 0x7f;
    if (code >= 0)
        code = gnutls_x509_crt_set_version(crt, 3);
    if (code >= 0)
        code = gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
    if (code >= 0)
        code = gnutls_x509_crt_set_activation_time(crt, now - 3600);
    if (code >= 0)
        code = gnutls_x509_crt_set_expiration_time(crt, now + (time_t)3650 * 86400);
    if (code >= 0)
        code = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "localhost", 9);
    if (code >= 0)
        code = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost", 9, GNUTLS_FSAN_SET);
    if (code >= 0)
        code = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, loopback, sizeof(loopback),
                                                    GNUTLS_FSAN_APPEND);
    if (code >= 0)
        code = gnutls_x509_crt_set_key(crt, key);
    if (code >= 0)
        code = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    return code;
}

static int write_file(const char *path, mode_t mode, const gnutls_datum_t *text, struct error *e)
{
    int fd = os_create(AT_FDCWD, path, mode, (gid_t)-1, e);
    if (fd < 0)
        return -1;
    int result = os_write(fd, slice_of(text->data, text->size), e);
    close(fd);
    return result;
}

static int write_pair(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const char *folder, struct error *e)
{
    gnutls_datum_t text = {NULL, 0};
    char *path = mem_printf("%s/key.pem", folder);
    int code = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &text);
    int result = code < 0 ? failed(e, path, code) : write_file(path, 0600, &text, e);
    gnutls_free(text.data);
    mem_free(path);
    if (result < 0)
        return -1;
    path = mem_printf("%s/cert.pem", folder);
    code = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &text);
    result = code < 0 ? failed(e, path, code) : write_file(path, 0644, &text, e);
    gnutls_free(text.data);
    mem_free(path);
    return result;
}

static int make_certificate(const char *folder, struct error *e)
{
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
    int code = gnutls_x509_crt_init(&crt);
    if (code < 0)
        return failed(e, "certificate", code);
    code = gnutls_x509_privkey_init(&key);
    if (code < 0) {
        gnutls_x509_crt_deinit(crt);
        return failed(e, "key", code);
    }
    code = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    if (code >= 0)
        code = fill_certificate(crt, key);
    int result = code < 0 ? failed(e, "certificate", code) : write_pair(crt, key, folder, e);
    gnutls_x509_privkey_deinit(key);
    gnutls_x509_crt_deinit(crt);
    return result;
}

static const char *text_of(const struct conf_tree *tree, enum setting set)
{
    const struct conf_value *v = conf_section_get(&tree->global->section, (unsigned)conf_setting_def(set));
    return v == NULL ? "" : v->text;
}

/* As root, mail is another user's. */
static int give_to_owner(const struct conf_tree *tree, const char *folder, struct error *e)
{
    const struct passwd *owner = getpwnam(text_of(tree, SET_mail_uid));
    if (geteuid() != 0 || owner == NULL)
        return 0;
    return chown(folder, owner->pw_uid, owner->pw_gid) == 0 ? 0 : error_sys(e, "chown", folder);
}

int certificate_prepare_single(const struct conf_tree *tree, struct error *e)
{
    /* The embedded default put everything into .../yarilo-data and found no certificate there yet. */
    const char *run = text_of(tree, SET_base_dir);
    struct slice base = slice_from_str(run);
    if (strcmp(text_of(tree, SET_mode), "single") != 0 || text_of(tree, SET_ssl_cert)[0] != '\0' ||
        !slice_ends(base, SLICE("/yarilo-data/run")))
        return 0;
    char *folder = mem_strndup(slice_head(base, base.size - strlen("/run")));
    char *mail = mem_printf("%s/mail", folder);
    int result = os_mkdir_parents(AT_FDCWD, run, 0755, (gid_t)-1, e);
    if (result == 0)
        result = os_mkdir_parents(AT_FDCWD, mail, 0700, (gid_t)-1, e);
    if (result == 0)
        result = give_to_owner(tree, mail, e);
    if (result == 0)
        result = make_certificate(folder, e);
    mem_free(mail);
    mem_free(folder);
    return result;
}
