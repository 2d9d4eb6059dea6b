/* What the header of one part says about its content: type, encoding, disposition and the rest of BODYSTRUCTURE
 * (RFC 2045, RFC 2183, RFC 3282, RFC 1864, RFC 2557).
 *
 * The first field of a name counts, but a disposition without parameters is replaced by a later one, as the real
 * server does; searches decode bodies by the last Content-Transfer-Encoding. Parameters and languages draw on budgets of the whole mail (oracle-build 1.5). */
#include "mime/mime_internal.h"

static void add_encoding(struct arena *arena, struct mime_part_data *d, struct slice value)
{
    struct mime_lex l = mime_lex_of(value);
    struct buffer word = {0};

    if (mime_lex_space(&l) >= 0 && mime_lex_token(&l, &word) == 0 && word.size > 0)
        d->encoding = mime_keep(arena, buffer_slice(&word));
    buffer_free(&word);
}

/* The value as decoders take it: a parameter may follow, anything else makes it unknown, as does a field without a word. */
static enum mime_encoding decoding_of(struct slice value)
{
    struct mime_lex l = mime_lex_of(value);
    enum mime_encoding decoding = MIME_ENCODING_UNKNOWN;
    struct buffer word = {0};

    if (mime_lex_space(&l) > 0 && mime_lex_token(&l, &word) >= 0 && word.size > 0 && (l.at == l.end || *l.at == ';'))
        decoding = mime_encoding_of(buffer_slice(&word));
    buffer_free(&word);
    return decoding;
}

static void add_languages(struct arena *arena, struct mime_part_data *d, struct slice value, uint32_t *left)
{
    struct mime_lex l = mime_lex_of(value);
    VEC(struct slice) found = {0};
    struct buffer word = {0};

    int more = mime_lex_space(&l);
    while (more > 0 && *left > 0) {
        buffer_reset(&word);
        more = mime_lex_atom(&l, &word);
        if (more < 0 || word.size == 0)
            break;
        struct slice kept = mime_keep(arena, buffer_slice(&word));
        VEC_PUSH(&found, kept);
        --*left;
        if (more == 0 || *l.at != ',')
            break;
        l.at++;
        more = mime_lex_space(&l);
    }
    if (found.count > 0) {
        d->languages = ARENA_ARRAY(arena, struct slice, found.count);
        memcpy(d->languages, found.at, found.count * sizeof(found.at[0]));
        d->languages_count = found.count;
    }
    VEC_FREE(&found);
    buffer_free(&word);
}

static void set_first(struct arena *arena, struct slice *to, struct slice value)
{
    if (to->at == NULL)
        *to = mime_no_nuls(arena, value);
}

static void cap_params(struct mime_params *params, struct mime_budget *budget)
{
    if (params->count > budget->params_left)
        params->count = budget->params_left;
    budget->params_left -= (uint32_t)params->count;
}

static bool is_searched(const struct mime_content_type *type)
{
    return type->subtype.size > 0 && (slice_equal_str_nocase(type->type, "text") || slice_equal_str_nocase(type->type, "message"));
}

void mime_data_first_type(struct mime_part_data *d, const struct mime_content_type *type, struct mime_budget *budget)
{
    const struct slice *charset;

    d->not_text = !is_searched(type);
    d->type = type->type;
    d->subtype = type->subtype;
    d->params = type->params;
    cap_params(&d->params, budget);
    charset = mime_param_find(&d->params, "charset");
    d->charset = charset != NULL ? *charset : SLICE_EMPTY;
}

/* The first field counts; but whether it is text to be searched says the last one. */
static void add_content_type(struct arena *arena, struct mime_part_data *d, struct slice value, struct mime_budget *budget)
{
    struct mime_content_type type;
    struct arena *scratch;

    if (d->type.at == NULL) {
        mime_content_type_take(arena, value, &type);
        mime_data_first_type(d, &type, budget);
        return;
    }
    scratch = arena_new();
    mime_content_type_take(scratch, value, &type);
    d->not_text = !is_searched(&type);
    arena_free(scratch);
}

void mime_data_add(struct arena *arena, struct mime_part_data *d, enum mime_known known, struct slice value,
                   struct mime_budget *budget)
{
    switch (known) {
    case MIME_KNOWN_CONTENT_TYPE:
        add_content_type(arena, d, value, budget);
        break;
    case MIME_KNOWN_DISPOSITION:
        if (d->disposition_params.count == 0) {
            struct slice word;
            struct mime_params params;
            if (mime_disposition_parse(arena, value, &word, &params)) {
                d->disposition = word;
                d->disposition_params = params;
                cap_params(&d->disposition_params, budget);
            }
        }
        break;
    case MIME_KNOWN_ENCODING:
        if (d->encoding.at == NULL)
            add_encoding(arena, d, value);
        d->decoding = decoding_of(value);
        break;
    case MIME_KNOWN_LANGUAGE:
        if (d->languages == NULL)
            add_languages(arena, d, value, &budget->languages_left);
        break;
    case MIME_KNOWN_ID:
        set_first(arena, &d->id, value);
        break;
    case MIME_KNOWN_DESCRIPTION:
        set_first(arena, &d->description, value);
        break;
    case MIME_KNOWN_MD5:
        set_first(arena, &d->md5, value);
        break;
    case MIME_KNOWN_LOCATION:
        set_first(arena, &d->location, value);
        break;
    default:
        break;
    }
}

void mime_data_forget_content(struct mime_part_data *d)
{
    *d = (struct mime_part_data){.envelope = d->envelope, .decoding = d->decoding, .charset = d->charset, .not_text = d->not_text};
}

struct mime_budget mime_budget_of(const struct mime_limits *limits)
{
    return (struct mime_budget){limits->headers_size, limits->addresses, limits->languages, 200000};
}

/* True when the parse gave this part an envelope: the mail itself and what a message/rfc822 holds. */
static bool has_envelope(const struct mime_part *part)
{
    return part->parent == NULL || (part->parent->flags & MIME_PART_MESSAGE) != 0;
}

int mime_part_load_data(struct arena *arena, const struct mime_source *source, struct mime_part *root, struct error *e)
{
    struct mime_budget budget = mime_budget_of(&mime_limits_default);

    for (struct mime_part *part = root; part != NULL; part = mime_part_following(root, part)) {
        struct arena *scratch = arena_new();
        struct mime_envelope_builder env = {0};
        struct mime_headers headers;
        struct mime_field field;
        struct slice block;

        if (mime_header_read(scratch, source, part, &block, e) < 0) {
            arena_free(scratch);
            return -1;
        }
        if (block.size < part->header.physical && block.size < mime_limits_default.headers_size) {
            arena_free(scratch);
            return error_set(e, ERROR_CORRUPT, "Cached MIME parts don't match message during parsing: "
                             "message ends inside a header");
        }
        part->data = ARENA_NEW(arena, struct mime_part_data);
        if (has_envelope(part)) {
            mime_envelope_begin(&env, arena);
            part->data->envelope = env.envelope;
        }
        mime_headers_init(&headers, slice_head(block, (size_t)budget.headers_left));
        while (mime_headers_next(&headers, &field)) {
            enum mime_known known = mime_known_of(field.name);
            if (known >= MIME_KNOWN_DATE && env.envelope != NULL)
                mime_envelope_add(&env, arena, known, field.value, &budget.addresses_left);
            else if (known != MIME_KNOWN_NONE)
                mime_data_add(arena, part->data, known, field.value, &budget);
        }
        if ((part->flags & MIME_PART_IS_MIME) == 0)
            mime_data_forget_content(part->data);
        budget.headers_left -= block.size < budget.headers_left ? block.size : budget.headers_left;
        arena_free(scratch);
    }
    return 0;
}
