/* capability.c - the capability words after login, in Dovecot's order (imap 1.2). */
#include "imap/session.h"
#include "imap/urlauth.h"

#include "conf/plugins.h"

static const char built_in[] =
    "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE SORT SORT=DISPLAY THREAD=REFERENCES THREAD=REFS "
    "THREAD=ORDEREDSUBJECT MULTIAPPEND URL-PARTIAL CATENATE UNSELECT CHILDREN NAMESPACE UIDPLUS LIST-EXTENDED "
    "I18NLEVEL=1 CONDSTORE QRESYNC ESEARCH ESORT SEARCHRES WITHIN CONTEXT=SEARCH LIST-STATUS BINARY MOVE "
    "SNIPPET=FUZZY PREVIEW=FUZZY PREVIEW STATUS=SIZE SAVEDATE";

/* Does a mailbox block of any namespace name a special use? */
static bool has_special_use(const struct settings *set)
{
    size_t n, m;
    const struct conf_block *const *spaces = conf_blocks(set, BLOCK_NAMESPACE, &n);

    for (size_t i = 0; i < n; i++) {
        const struct conf_block *const *boxes = conf_block_blocks(spaces[i], BLOCK_MAILBOX, &m);

        for (size_t k = 0; k < m; k++) {
            if (*conf_block_str(boxes[k], "special_use") != '\0')
                return true;
        }
    }
    return false;
}

bool session_plugin(const struct session *s, const char *name)
{
    return conf_plugin_named(s->set, name);
}

/* imap_capability as it holds for this session. */
static const char *own_words(struct session *s, struct arena *arena)
{
    struct slice rest = slice_from_str(conf_str(s->set, SET_imap_capability)), word;
    struct buffer out = {0};
    const char *text;

    if (!conf_imap_extension(s->set, "UNAUTHENTICATE") || session_extension(s, "UNAUTHENTICATE"))
        return conf_str(s->set, SET_imap_capability);
    if (rest.at[0] == '+') {
        buffer_append_byte(&out, '+');
        rest = slice_from(rest, 1);
    }
    for (const char *between = ""; rest.size > 0 && slice_split(&rest, ' ', &word);) {
        if (slice_equal_str_nocase(word, "UNAUTHENTICATE"))
            continue;
        buffer_append_str(&out, between);
        buffer_append_slice(&out, word);
        between = " ";
    }
    text = arena_str(arena, buffer_slice(&out));
    buffer_free(&out);
    return text;
}

const char *session_capabilities(struct session *s, struct arena *arena)
{
    const char *own = own_words(s, arena), *more = "";

    if (*own != '\0' && *own != '+')
        return arena_strdup(arena, own);
    if (*own == '+')
        more = own + 1;
    return arena_printf(arena, "%s%s%s%s%s%s%s%s%s%s%s", built_in, *more == '\0' ? "" : " ", more,
                        conf_bool(s->set, SET_imap_literal_minus) ? " LITERAL-" : " LITERAL+",
                        conf_bool(s->set, SET_mailbox_list_index) ? " NOTIFY" : "",
                        urlauth_enabled(s->user) ? " URLAUTH URLAUTH=BINARY" : "",
                        conf_bool(s->set, SET_imap_metadata) && *conf_str(s->set, SET_mail_attribute_dict) != '\0' ? " METADATA" : "",
                        has_special_use(s->set) || session_extension(s, "CREATE-SPECIAL-USE") ? " SPECIAL-USE" : "",
                        /* the plugin that is loaded last speaks first, and they are loaded by the names of their files */
                        session_plugin(s, "imap_zlib") ? " COMPRESS=DEFLATE" : "", session_plugin(s, "imap_quota") ? " QUOTA" : "",
                        session_plugin(s, "imap_acl") ? " ACL RIGHTS=texk" : "");
}
