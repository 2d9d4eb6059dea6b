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
    b->borrow = false;
    b->tail[0] = &env->from;
    b->tail[1] = &env->sender;
    b->tail[2] = &env->reply_to;
    b->tail[3] = &env->to;
    b->tail[4] = &env->cc;
    b->tail[5] = &env->bcc;
}

static struct slice text_of(const struct mime_envelope_builder *b, struct arena *arena, struct slice value)
{
    if (b->borrow && value.size > 0 && memchr(value.at, '\0', value.size) == NULL)
        return value;
    return mime_no_nuls(arena, value);
}

void mime_envelope_add(struct mime_envelope_builder *b, struct arena *arena, enum mime_known known, struct slice value,
                       uint32_t *addresses_left)
{
    struct mime_envelope *env = b->envelope;

    switch (known) {
    case MIME_KNOWN_DATE:
        env->date = text_of(b, arena, value);
        return;
    case MIME_KNOWN_SUBJECT:
        env->subject = text_of(b, arena, value);
        return;
    case MIME_KNOWN_IN_REPLY_TO:
        env->in_reply_to = text_of(b, arena, value);
        return;
    case MIME_KNOWN_MESSAGE_ID:
        env->message_id = text_of(b, arena, value);
        return;
    default:
        break;
    }
    if (known < MIME_KNOWN_FROM || known > MIME_KNOWN_BCC)
        return;
    struct mime_address ***tail = &b->tail[known - MIME_KNOWN_FROM];
    **tail = mime_address_parse_how(arena, value, addresses_left, MIME_ADDRESS_FILL | (b->borrow ? MIME_ADDRESS_BORROW : 0));
    while (**tail != NULL)
        *tail = &(**tail)->next;
}

/* Room for it has been made. */
static unsigned char *put_raw(unsigned char *to, struct slice s)
{
    memcpy(to, s.at, s.size);
    return to + s.size;
}

static void put_plain(struct buffer *out, const struct mime_address *a)
{
    unsigned char *to;

    buffer_reserve(out, a->name.size + a->mailbox.size + a->domain.size + sizeof("(\"\" NIL \"\" \"\")"));
    to = out->at + out->size;
    *to++ = '(';
    if (a->name.at != NULL) {
        *to++ = '"';
        to = put_raw(to, a->name);
        to = put_raw(to, SLICE("\" NIL \""));
    } else {
        to = put_raw(to, SLICE("NIL NIL \""));
    }
    to = put_raw(to, a->mailbox);
    to = put_raw(to, SLICE("\" \""));
    to = put_raw(to, a->domain);
    to = put_raw(to, SLICE("\")"));
    out->size = (size_t)(to - out->at);
}

static void put_addresses(struct buffer *out, const struct mime_address *a)
{
    if (a == NULL) {
        buffer_append_str(out, "NIL");
        return;
    }
    buffer_append_byte(out, '(');
    for (; a != NULL; a = a->next) {
        if (a->plain) {
            put_plain(out, a);
            continue;
        }
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

/* One line: "name: value". Then its value, as mime_headers_next gives it. */
static bool only_line(struct slice cached, const char *name, size_t size, struct slice *value)
{
    struct slice line = slice_from(cached, 8);
    const unsigned char *lf;

    if (line.size < size + 2 || bytes_le32(cached.at) == 0 || bytes_le32(cached.at + 4) != 0 || line.at[size] != ':' ||
        (memcmp(line.at, name, size) != 0 && !slice_equal_nocase(slice_head(line, size), slice_of(name, size))))
        return false;
    lf = memchr(line.at, '\n', line.size);
    if (lf != line.at + line.size - 1)
        return false;
    *value = mime_field_value(slice_from(line, size + 1));
    return true;
}

int mime_envelope_put_cached(struct buffer *out, struct arena *arena, const struct slice *values, struct error *e)
{
    static const unsigned char sizes[MIME_ENVELOPE_NAMES] = {4, 7, 4, 6, 8, 2, 2, 3, 11, 10}; /* of mime_envelope_names */
    struct mime_envelope_builder b;
    uint32_t left = mime_limits_default.addresses;
    struct slice block, value;
    size_t size = 0;

    for (size_t i = 0; i < MIME_ENVELOPE_NAMES; i++)
        size += values[i].size;
    if (size / 2 > left) { /* so many that a limit could cut them: which fields it takes hangs on their order */
        if (mime_header_cache_merge(arena, values, MIME_ENVELOPE_NAMES, &block, e) < 0)
            return -1;
        mime_envelope_put(out, mime_envelope_parse(arena, block));
        return 0;
    }
    mime_envelope_begin(&b, arena);
    b.borrow = true;
    for (size_t i = 0; i < MIME_ENVELOPE_NAMES; i++) {
        if (values[i].size == 0)
            continue;
        if (only_line(values[i], mime_envelope_names[i], sizes[i], &value)) {
            mime_envelope_add(&b, arena, (enum mime_known)(MIME_KNOWN_DATE + (int)i), value, &left);
            continue;
        }
        if (mime_header_cache_decode(values[i], &block, e) < 0)
            return -1;
        add_fields(&b, arena, block, &left);
    }
    mime_envelope_put(out, b.envelope);
    return 0;
}
