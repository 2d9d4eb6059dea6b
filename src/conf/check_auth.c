/* Checks of auth and its databases (config 7.2). */
#include "conf/check.h"

#include <inttypes.h>

static int check_verbose_passwords(struct conf_check *c)
{
    struct slice rest = slice_from_str(conf_str(c->set, SET_auth_verbose_passwords)), kind;
    uint32_t most;
    (void)slice_split(&rest, ':', &kind);
    if (rest.size > 0 && (!slice_to_u32(rest, &most) || most == 0))
        return error_set(c->e, ERROR_INVALID, "auth_verbose_passwords: Invalid truncation number: '%.*s'", WORD(rest));
    static const char *const known[] = {"no", "plain", "sha1", "yes"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (slice_equal_str(kind, known[i]))
            return 0;
    }
    return error_set(c->e, ERROR_INVALID, "auth_verbose_passwords: Invalid value");
}

static int check_policy(struct conf_check *c)
{
    static const struct {
        const char *name;
        unsigned bits;
    } digests[] = {{"md4", 128}, {"md5", 128}, {"sha1", 160}, {"sha256", 256}, {"sha384", 384}, {"sha512", 512},
                   {"sha3-256", 256}, {"sha3-512", 512}, {"size", 32}};
    if (conf_str(c->set, SET_auth_policy_server_url)[0] == '\0')
        return 0;
    if (conf_str(c->set, SET_auth_policy_hash_nonce)[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "auth_policy_hash_nonce must be set when policy server is used");
    unsigned bits = 0, truncate = conf_uint(c->set, SET_auth_policy_hash_truncate);
    for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++) {
        if (strcmp(conf_str(c->set, SET_auth_policy_hash_mech), digests[i].name) == 0)
            bits = digests[i].bits;
    }
    if (bits == 0)
        return error_set(c->e, ERROR_INVALID, "invalid auth_policy_hash_mech given");
    if (truncate >= bits)
        return error_set(c->e, ERROR_INVALID, "policy_hash_truncate is not smaller than digest size (%u >= %u)",
                         truncate, bits);
    return 0;
}

static int check_passdb(struct conf_check *c, const struct conf_block *block)
{
    if (conf_block_str(block, "driver")[0] == '\0')
        return error_set(c->e, ERROR_INVALID, "passdb is missing driver");
    if (conf_block_bool(block, "pass") && strcmp(conf_block_str(block, "result_success"), "return-ok") != 0)
        return error_set(c->e, ERROR_INVALID, "Obsolete pass=yes setting mixed with non-default result_success");
    return 0;
}

int check_auth(struct conf_check *c)
{
    size_t n;
    uint64_t cache = conf_size(c->set, SET_auth_cache_size);
    if (conf_uint(c->set, SET_auth_worker_max_count) == 0)
        return error_set(c->e, ERROR_INVALID, "auth_worker_max_count must be above zero");
    if (cache > 0 && cache < 1024)
        return error_set(c->e, ERROR_INVALID, "auth_cache_size value is too small (%" PRIu64 " bytes)", cache);
    if (check_verbose_passwords(c) < 0 || check_policy(c) < 0)
        return -1;
    const struct conf_block *const *blocks = conf_blocks(c->set, BLOCK_PASSDB, &n);
    for (size_t i = 0; i < n; i++) {
        if (check_passdb(c, blocks[i]) < 0)
            return -1;
    }
    blocks = conf_blocks(c->set, BLOCK_USERDB, &n);
    for (size_t i = 0; i < n; i++) {
        if (conf_block_str(blocks[i], "driver")[0] == '\0')
            return error_set(c->e, ERROR_INVALID, "userdb is missing driver");
    }
    return 0;
}
