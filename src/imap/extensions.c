/* extensions.c - extensions that Dovecot 2.3 does not have (imap 15). A client of 2.3 would notice them, so they are off, unless
 * imap_capability names them ("+IMAP4rev2 UIDONLY REPLACE"): what is announced is also done. Some wait for ENABLE besides. */
#include "imap/session.h"

bool session_extension(const struct session *s, const char *name)
{
    /* Somebody has to take the client back: not where a session is served by hand, or behind a foreign login process. */
    return conf_imap_extension(s->set, name) && (s->returns || strcmp(name, "UNAUTHENTICATE") != 0);
}

/* Words of ENABLE beside CONDSTORE and QRESYNC. */
bool extension_enable(struct session *s, struct slice word)
{
    static const char *const words[] = {"IMAP4rev2", "UTF8=ACCEPT", "UIDONLY"};
    size_t i = 0;

    while (i < 3 && !slice_equal_str_nocase(word, words[i]))
        i++;
    if (i == 3 || !session_extension(s, words[i]))
        return false;
    s->rev2 = s->rev2 || i == 0;
    s->utf8 = s->utf8 || i <= 1;
    s->uidonly = s->uidonly || i == 2;
    return true;
}

/* RFC 7889: what a message may weigh at most; 0: no limit. */
uint64_t session_append_limit(const struct session *s)
{
    const char *text = conf_plugin(s->set, "quota_max_mail_size");
    uint64_t size = 0;

    if (text == NULL || text_parse_size(slice_from_str(text), &size) < 0)
        return 0;
    return size;
}

/* The front of a FETCH line (RFC 9586 section 3.3). */
void put_fetch_front(const struct session *s, struct buffer *out, uint32_t seq, uint32_t uid)
{
    buffer_append_str(out, "* ");
    buffer_append_number(out, s->uidonly ? uid : seq);
    buffer_append_str(out, s->uidonly ? " UIDFETCH (" : " FETCH (");
}

/* A mailbox name as this session writes it, without quotes. */
void put_shown_name(const struct session *s, struct buffer *out, const char *utf8)
{
    size_t before = out->size;

    if (!s->utf8 && text_utf8_to_mutf7(out, slice_from_str(utf8)) == 0)
        return;
    out->size = before;
    buffer_append_str(out, utf8);
}
