/* The envelope of a mail: collecting its fields, and ENVELOPE as IMAP shows it (imap 10.4, RFC 3501 section 7.4.2).
 *
 * Of several Date, Subject, In-Reply-To, Message-ID fields the last counts, addresses of several fields are joined.
 * The tail of each list is kept, so that a hundred thousand To: lines cost linear time (oracle-build 1.5). */
#include "mime/mime_internal.h"

const char *const mime_envelope_names[MIME_ENVELOPE_NAMES + 1] = {"Date", "Subject", "From", "Sender", "Reply-To", "To",
                                           "Cc", "Bcc", "In-Reply-To", "Message-ID", NULL};

enum mime_known mime_known_of(struct slice name)
{
    static const struct {
        const char *name;
        enum mime_known known;
    } table[] = {
        {"to", MIME_KNOWN_TO}, {"cc", MIME_KNOWN_CC}, {"bcc", MIME_KNOWN_BCC}, {"from", MIME_KNOWN_FROM},
        {"date", MIME_KNOWN_DATE}, {"sender", MIME_KNOWN_SENDER}, {"subject", MIME_KNOWN_SUBJECT},
        {"reply-to", MIME_KNOWN_REPLY_TO}, {"message-id", MIME_KNOWN_MESSAGE_ID},
        {"in-reply-to", MIME_KNOWN_IN_REPLY_TO}, {"mime-version", MIME_KNOWN_MIME_VERSION},
        {"content-type", MIME_KNOWN_CONTENT_TYPE}, {"content-transfer-encoding", MIME_KNOWN_ENCODING},
        {"content-id", MIME_KNOWN_ID}, {"content-description", MIME_KNOWN_DESCRIPTION},
        {"content-md5", MIME_KNOWN_MD5}, {"content-location", MIME_KNOWN_LOCATION},
        {"content-disposition", MIME_KNOWN_DISPOSITION}, {"content-language", MIME_KNOWN_LANGUAGE},
    };

    if (name.size < 2 || name.size > 25)
        return MIME_KNOWN_NONE;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if ((name.at[0] | 0x20) == table[i].name[0] && slice_equal_str_nocase(name, table[i].name))
            return table[i].known;
    return MIME_KNOWN_NONE;
}

void mime_envelope_begin(struct mime_envelope_builder *b, struct arena *arena)
{
    struct mime_envelope *env = ARENA_NEW(arena, struct mime_envelope);

    b->envelope = env;
    b->tail[0] = &env->from;
    b->tail[1] = &env->sender;
    b->tail[2] = &env->reply_to;
    b->tail[3] = &env->to;
    b->tail[4] = &env->cc;
    b->tail[5] = &env->bcc;
}

void mime_envelope_add(struct mime_envelope_builder *b, struct arena *arena, enum mime_known known, struct slice value,
                       uint32_t *addresses_left)
{
    struct mime_envelope *env = b->envelope;

    switch (known) {
    case MIME_KNOWN_DATE:
        env->date = mime_no_nuls(arena, value);
        return;
    case MIME_KNOWN_SUBJECT:
        env->subject = mime_no_nuls(arena, value);
        return;
    case MIME_KNOWN_IN_REPLY_TO:
        env->in_reply_to = mime_no_nuls(arena, value);
        return;
    case MIME_KNOWN_MESSAGE_ID:
        env->message_id = mime_no_nuls(arena, value);
        return;
    default:
        break;
    }
    if (known < MIME_KNOWN_FROM || known > MIME_KNOWN_BCC)
        return;
    struct mime_address ***tail = &b->tail[known - MIME_KNOWN_FROM];
    **tail = mime_address_parse(arena, value, addresses_left, true);
    while (**tail != NULL)
        *tail = &(**tail)->next;
}

static void put_addresses(struct buffer *out, const struct mime_address *a)
{
    if (a == NULL) {
        buffer_append_str(out, "NIL");
        return;
    }
    buffer_append_byte(out, '(');
    for (; a != NULL; a = a->next) {
        buffer_append_byte(out, '(');
        mime_put_humans(out, a->name);
        buffer_append_byte(out, ' ');
        mime_put_nstring(out, a->route);
        buffer_append_byte(out, ' ');
        mime_put_nstring(out, a->mailbox);
        buffer_append_byte(out, ' ');
        mime_put_nstring(out, a->domain);
        buffer_append_byte(out, ')');
    }
    buffer_append_byte(out, ')');
}

void mime_envelope_put(struct buffer *out, const struct mime_envelope *env)
{
    const struct mime_address *lists[5] = {env->sender, env->reply_to, env->to, env->cc, env->bcc};
    size_t from, from_size;

    mime_put_nstring_nolf(out, env->date);
    buffer_append_byte(out, ' ');
    mime_put_humans(out, env->subject);
    buffer_append_byte(out, ' ');
    from = out->size;
    put_addresses(out, env->from);
    from_size = out->size - from;
    for (size_t i = 0; i < 5; i++) {
        buffer_append_byte(out, ' ');
        if (i < 2 && lists[i] == NULL) { /* sender and reply-to: the same as from */
            buffer_reserve(out, from_size);
            buffer_append(out, out->at + from, from_size);
        } else {
            put_addresses(out, lists[i]);
        }
    }
    buffer_append_byte(out, ' ');
    mime_put_nstring_nolf(out, env->in_reply_to);
    buffer_append_byte(out, ' ');
    mime_put_nstring_nolf(out, env->message_id);
}

static void add_fields(struct mime_envelope_builder *b, struct arena *arena, struct slice block, uint32_t *addresses_left)
{
    struct mime_headers headers;
    struct mime_field field;

    mime_headers_init(&headers, block);
    while (mime_headers_next(&headers, &field)) {
        enum mime_known known = mime_known_of(field.name);
        if (known >= MIME_KNOWN_DATE)
            mime_envelope_add(b, arena, known, field.value, addresses_left);
    }
}

struct mime_envelope *mime_envelope_parse(struct arena *arena, struct slice block)
{
    struct mime_envelope_builder b;
    uint32_t left = mime_limits_default.addresses;

    mime_envelope_begin(&b, arena);
    add_fields(&b, arena, block, &left);
    return b.envelope;
}

int mime_envelope_parse_cached(struct arena *arena, const struct slice *values, struct mime_envelope **envelope,
                               struct error *e)
{
    struct mime_envelope_builder b;
    uint32_t left = mime_limits_default.addresses;
    struct slice block;
    size_t size = 0;

    for (size_t i = 0; i < MIME_ENVELOPE_NAMES; i++)
        size += values[i].size;
    if (size / 2 > left) { /* so many that a limit could cut them: which fields it takes hangs on their order */
        if (mime_header_cache_merge(arena, values, MIME_ENVELOPE_NAMES, &block, e) < 0)
            return -1;
        *envelope = mime_envelope_parse(arena, block);
        return 0;
    }
    mime_envelope_begin(&b, arena);
    for (size_t i = 0; i < MIME_ENVELOPE_NAMES; i++) {
        if (mime_header_cache_decode(values[i], &block, e) < 0)
            return -1;
        add_fields(&b, arena, block, &left);
    }
    *envelope = b.envelope;
    return 0;
}
