/* Checks of mail storage and of mail users with their namespaces (config 7.2). */
#include "conf/check.h"

#include "base/text.h"

#include <errno.h>
#include <unistd.h>

/* ---- pop3_uidl_format ------------------------------------------------------------------------------------------- */

static int check_uidl(struct conf_check *c)
{
    const char *p = conf_str(c->set, SET_pop3_uidl_format);
    bool any = false;
    while ((p = strchr(p, '%')) != NULL) {
        p++;
        while (*p != '\0' && strchr("-0123456789.LUEXRHNMDT", *p) != NULL)
            p++;
        if (*p == '\0')
            break;
        if (strchr("vumfg%", *p) == NULL)
            return error_set(c->e, ERROR_INVALID, "Unknown pop3_uidl_format variable: %%%c", *p);
        any |= *p != '%';
        p++;
    }
    if (!any)
        return error_set(c->e, ERROR_INVALID, "pop3_uidl_format setting doesn't contain any %%%% variables.");
    return 0;
}

/* ---- mail_attachment_hash --------------------------------------------------------------------------------------- */

static int bad_hash(struct conf_check *c, const char *why, struct slice word)
{
    return error_set(c->e, ERROR_INVALID, "Invalid mail_attachment_hash setting: %s%.*s", why, WORD(word));
}

static int check_hash_method(struct conf_check *c, struct slice text)
{
    static const struct {
        const char *name;
        unsigned bits;
    } known[] = {{"md4", 128}, {"md5", 128}, {"sha1", 160}, {"sha256", 256}, {"sha384", 384}, {"sha512", 512},
                 {"sha3-256", 256}, {"sha3-512", 512}, {"size", 32}};
    struct slice name;
    uint32_t bits;
    bool limited = slice_find(text, ':') >= 0;
    (void)slice_split(&text, ':', &name);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (!slice_equal_str(name, known[i].name))
            continue;
        if (!limited)
            return 0;
        if (!slice_to_u32(text, &bits) || bits == 0 || bits > known[i].bits)
            return bad_hash(c, "Invalid :bits number: ", text);
        if (bits % 8 != 0)
            return bad_hash(c, "Currently :bits must be divisible by 8: ", text);
        return 0;
    }
    return bad_hash(c, "Unknown hash method: ", name);
}

static int check_attachment_hash(struct conf_check *c)
{
    const char *value = conf_str(c->set, SET_mail_attachment_hash);
    if (strchr(value, '/') != NULL)
        return error_set(c->e, ERROR_INVALID, "mail_attachment_hash setting must not contain '/' characters");
    for (const char *p = value; (p = strchr(p, '%')) != NULL;) {
        p++;
        if (*p == 'B' || *p == 'X')
            p++;
        if (*p != '{')
            return bad_hash(c, "No '{' after '%'", SLICE_EMPTY);
        const char *end = strchr(p, '}');
        if (end == NULL)
            return bad_hash(c, "Missing '}'", SLICE_EMPTY);
        if (check_hash_method(c, slice_of(p + 1, (size_t)(end - p - 1))) < 0)
            return -1;
        p = end + 1;
    }
    if (strchr(value, '-') != NULL)
        return error_set(c->e, ERROR_INVALID, "mail_attachment_hash setting must not contain '-' characters");
    return 0;
}

/* ---- storage ---------------------------------------------------------------------------------------------------- */

static int check_attachment_options(struct conf_check *c)
{
    static const char *const known[] = {"add-flags", "add-flags-on-save", "no-flags-on-fetch", "exclude-inlined"};
    struct slice rest = slice_from_str(conf_str(c->set, SET_mail_attachment_detection_options)), word;
    while (check_next_word(&rest, " ", &word)) {
        bool found = slice_starts(word, SLICE("content-type="));
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            found |= slice_equal_str(word, known[i]);
        if (!found)
            return error_set(c->e, ERROR_INVALID, "mail_attachment_detection_options: Unknown option: %.*s",
                             WORD(word));
    }
    return 0;
}

static bool is_header_name(struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (name.at[i] <= ' ' || name.at[i] >= 127 || name.at[i] == ':')
            return false;
    }
    return name.size > 0;
}

static int check_cache_fields(struct conf_check *c, enum setting id)
{
    struct slice rest = slice_from_str(conf_str(c->set, id)), word;
    while (check_next_word(&rest, " ,", &word)) {
        if (slice_starts_nocase(word, SLICE("hdr.")) && !is_header_name(slice_from(word, 4)))
            return error_set(c->e, ERROR_INVALID, "Invalid %s: %.*s is not a valid header name", conf_name(id),
                             WORD(word));
    }
    return 0;
}

int check_mail_storage(struct conf_check *c)
{
    const struct settings *set = c->set;
    if (conf_secs(set, SET_mailbox_idle_check_interval) == 0)
        return error_set(c->e, ERROR_INVALID, "mailbox_idle_check_interval must not be 0");
    if (conf_bool(set, SET_mail_nfs_index) && !conf_bool(set, SET_mmap_disable))
        return error_set(c->e, ERROR_INVALID, "mail_nfs_index=yes requires mmap_disable=yes");
    if (conf_bool(set, SET_mail_nfs_index) && strcmp(conf_str(set, SET_mail_fsync), "always") != 0)
        return error_set(c->e, ERROR_INVALID, "mail_nfs_index=yes requires mail_fsync=always");
    if (conf_size(set, SET_mail_cache_max_size) > (uint64_t)1 << 30)
        return error_set(c->e, ERROR_INVALID, "mail_cache_max_size can't be over 1 GB");
    if (conf_uint(set, SET_mail_cache_purge_delete_percentage) > 100)
        return error_set(c->e, ERROR_INVALID, "mail_cache_purge_delete_percentage can't be over 100");
    if (check_uidl(c) < 0 || check_attachment_hash(c) < 0 || check_attachment_options(c) < 0)
        return -1;
    if (check_cache_fields(c, SET_mail_cache_fields) < 0 || check_cache_fields(c, SET_mail_always_cache_fields) < 0)
        return -1;
    return check_cache_fields(c, SET_mail_never_cache_fields);
}

/* ---- users ------------------------------------------------------------------------------------------------------ */

static bool is_utf8(const char *text)
{
    return text_utf8_valid(slice_from_str(text));
}

static int check_alias(struct conf_check *c, const struct conf_block *namespace)
{
    const char *target = conf_block_str(namespace, "alias_for");
    size_t n;
    if (!conf_block_assigned(namespace, "alias_for") || conf_block_bool(namespace, "disabled"))
        return 0;
    const struct conf_block *const *all = conf_blocks(c->set, BLOCK_NAMESPACE, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(conf_block_str(all[i], "prefix"), target) != 0)
            continue;
        if (!conf_block_assigned(all[i], "alias_for"))
            return 0;
        return error_set(c->e, ERROR_INVALID, "Namespace '%s': alias_for chaining isn't allowed: %s -> %s",
                         conf_block_str(namespace, "prefix"), target, conf_block_str(all[i], "alias_for"));
    }
    return error_set(c->e, ERROR_INVALID, "Namespace '%s': alias_for points to unknown namespace: %s",
                     conf_block_str(namespace, "prefix"), target);
}

static int check_mailbox(struct conf_check *c, const struct conf_block *mailbox)
{
    static const char *const uses[] = {"\\All",       "\\Archive", "\\Drafts", "\\Flagged",
                                       "\\Important", "\\Junk",    "\\Sent",   "\\Trash"};
    struct slice rest = slice_from_str(conf_block_str(mailbox, "special_use")), word;
    const char *name = conf_block_name(mailbox);
    if (!is_utf8(name))
        return error_set(c->e, ERROR_INVALID, "mailbox %s: name isn't valid UTF-8", name);
    while (check_next_word(&rest, " ", &word)) {
        bool found = false;
        for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++)
            found |= slice_equal_str_nocase(word, uses[i]);
        if (!found)
            return error_set(c->e, ERROR_INVALID, "mailbox %s: unknown special_use: %.*s", name, WORD(word));
    }
    return 0;
}

static int check_namespace(struct conf_check *c, const struct conf_block *namespace)
{
    size_t n;
    const char *prefix = conf_block_str(namespace, "prefix");
    if (strlen(conf_block_str(namespace, "separator")) > 1)
        return error_set(c->e, ERROR_INVALID, "Namespace '%s': Hierarchy separator must be only one character long",
                         prefix);
    if (!is_utf8(prefix))
        return error_set(c->e, ERROR_INVALID, "Namespace prefix not valid UTF8: %s", prefix);
    if (check_alias(c, namespace) < 0)
        return -1;
    const struct conf_block *const *mailboxes = conf_block_blocks(namespace, BLOCK_MAILBOX, &n);
    for (size_t i = 0; i < n; i++) {
        if (check_mailbox(c, mailboxes[i]) < 0)
            return -1;
    }
    return 0;
}

int check_mail_user(struct conf_check *c)
{
    const char *folder = conf_str(c->set, SET_mail_plugin_dir);
    size_t n;
    /* The default is the folder of a Dovecot that may have been removed: we have nothing to load. */
    if (conf_assigned(c->set, SET_mail_plugin_dir) && conf_str(c->set, SET_mail_plugins)[0] != '\0' && access(folder, R_OK | X_OK) < 0)
        return error_set(c->e, ERROR_INVALID, "mail_plugin_dir: access(%s) failed: %s", folder, strerror(errno));
    const struct conf_block *const *blocks = conf_blocks(c->set, BLOCK_NAMESPACE, &n);
    for (size_t i = 0; i < n; i++) {
        if (check_namespace(c, blocks[i]) < 0)
            return -1;
    }
    return 0;
}
