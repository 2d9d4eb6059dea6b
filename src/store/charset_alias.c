/* charset_alias.c - the plugin of that name: what a user's mail calls by one name is converted as another charset
 * (quota-acl-plugins 7). */
#include "mime/mime.h"
#include "store/internal.h"
#include "store/plugins.h"

void charset_alias_open(struct mail_user *user)
{
    struct slice rest, word;
    struct error e;

    if (!mail_user_plugin(user, "charset_alias"))
        return;
    if (mail_user_plugin_text(user, user->arena, "charset_aliases", &user->charset_aliases, &e) < 0) {
        log_error_value(user->log_p, &e);
        return;
    }
    for (rest = slice_from_str(user->charset_aliases == NULL ? "" : user->charset_aliases); slice_split(&rest, ' ', &word);) {
        ptrdiff_t equals = slice_find(word, '=');

        if (word.size > 0 && equals < 0)
            log_write(user->log_p, LOG_LEVEL_ERROR, "charset_alias: Missing '=' in charset_aliases setting");
        else if (equals == 0 || (equals > 0 && (size_t)equals + 1 == word.size))
            log_write(user->log_p, LOG_LEVEL_ERROR, "charset_alias: charset or alias missing in charset_aliases setting");
    }
}

void charset_alias_close(struct mail_user *user)
{
    if (user->charset_aliases != NULL)
        mime_charset_aliases(NULL);
}

void mail_user_enter(const struct mail_user *user)
{
    mime_charset_aliases(user->charset_aliases);
}
