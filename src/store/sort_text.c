/* sort_text.c - the text that SORT compares messages by (RFC 5256, RFC 5957; imap 11.5, 11.6). */
#include "store/rank.h"

static const char *header_of(enum rank_key key)
{
    static const char *const headers[RANK_KEYS] = {"Cc", "From", "Subject", "To", "From", "To"};

    return headers[key];
}

/* Of a group its name; a name that decodes to nothing is none. */
static void put_display_name(struct buffer *out, const struct mime_address *a)
{
    if (a->name.size > 0)
        mime_words_decode(out, a->name);
    if (out->size > 0)
        return;
    buffer_append_slice(out, a->mailbox);
    if (a->domain.at == NULL)
        return;
    buffer_append_byte(out, '@');
    buffer_append_slice(out, a->domain);
}

static struct slice address_text(struct arena *arena, enum rank_key key, const struct mime_address *a)
{
    struct buffer name = {0}, out = {0};
    struct slice text;

    if (key == RANK_DISPLAYFROM || key == RANK_DISPLAYTO) {
        put_display_name(&name, a);
        mime_normalise(&out, buffer_slice(&name));
    } else {
        mime_normalise(&out, a->mailbox);
    }
    text = arena_slice(arena, buffer_slice(&out));
    buffer_free(&name);
    buffer_free(&out);
    return text;
}

int mail_sort_text(struct mail *mail, enum rank_key key, struct slice *text, struct error *e)
{
    const char *name = header_of(key);
    struct slice block, wanted = slice_from_str(name);
    const struct mime_address *first;
    struct mime_field field;
    bool reply;

    *text = SLICE("");
    if (mail_header_fields(mail, &wanted, 1, &block, e) < 0)
        return -1;
    if (!mime_header_find(block, name, &field))
        return 0;
    if (key == RANK_SUBJECT) {
        *text = mime_base_subject(mail_arena(mail), field.value, &reply);
        return 0;
    }
    first = mime_address_parse(mail_arena(mail), field.value, NULL, true);
    if (first != NULL)
        *text = address_text(mail_arena(mail), key, first);
    return 0;
}
