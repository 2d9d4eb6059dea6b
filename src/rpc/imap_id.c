/* imap_id.c - `imap_id_send`: pairs of words (imap 5.2), written like arguments of IMAP: atoms, or "strings" with blanks in them.
 *
 * The value "*" stands for what the server knows of itself. NIL is said for what is none of it, for the value of a last key
 * that has none, and for a value that is a list; a string that does not end is not there. */
#include "base/text.h"
#include "rpc/imap_id.h"
#include "rpc/service.h"

#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

enum word { WORD_END, WORD_TEXT, WORD_LIST };

static void put_builtin(struct buffer *out, const struct buffer *key)
{
    static const struct {
        const char *key, *value;
    } known[] = {{"name", "Dovecot"},
                 {"version", SERVICE_COMPAT_VERSION},
                 {"revision", SERVICE_COMPAT_REVISION},
                 {"support-url", "http://www.dovecot.org/"},
                 {"support-email", "dovecot@dovecot.org"}};
    struct slice name = buffer_slice(key);
    struct utsname uts;

    if (uname(&uts) == 0 && slice_equal_str_nocase(name, "os")) {
        buffer_printf(out, "\"%s\"", uts.sysname);
        return;
    }
    if (uname(&uts) == 0 && slice_equal_str_nocase(name, "os-version")) {
        buffer_printf(out, "\"%s\"", uts.release);
        return;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (slice_equal_str_nocase(name, known[i].key)) {
            buffer_printf(out, "\"%s\"", known[i].value);
            return;
        }
    }
    buffer_append_str(out, "NIL");
}

static enum word next_quoted(const char **at, struct buffer *text)
{
    const char *p = *at + 1;

    for (; *p != '"'; p++) {
        if (*p == '\\' && p[1] != '\0')
            p++;
        if (*p == '\0')
            return WORD_END;
        buffer_append_byte(text, (unsigned char)*p);
    }
    *at = p + 1;
    return WORD_TEXT;
}

static enum word next_word(const char **at, struct buffer *text)
{
    size_t n;

    buffer_reset(text);
    *at += strspn(*at, " \t");
    if (**at == '\0')
        return WORD_END;
    if (**at == '"')
        return next_quoted(at, text);
    if (**at == '(') {
        const char *end = strchr(*at, ')');

        if (end == NULL)
            return WORD_END;
        *at = end + 1;
        return WORD_LIST;
    }
    n = strcspn(*at, " \t");
    buffer_append_slice(text, slice_of(*at, n));
    *at += n;
    return WORD_TEXT;
}

void imap_id_put(struct buffer *out, const char *imap_id_send)
{
    const char *at = imap_id_send;
    struct buffer key = {0}, value = {0};
    bool any = false;

    while (next_word(&at, &key) == WORD_TEXT) {
        enum word got = next_word(&at, &value);

        buffer_append_str(out, any ? " " : "(");
        text_quoted(out, buffer_slice(&key));
        buffer_append_byte(out, ' ');
        if (got != WORD_TEXT)
            buffer_append_str(out, "NIL");
        else if (slice_equal_str(buffer_slice(&value), "*"))
            put_builtin(out, &key);
        else
            text_quoted(out, buffer_slice(&value));
        any = true;
    }
    buffer_append_str(out, any ? ")" : "NIL");
    buffer_free(&key);
    buffer_free(&value);
}
