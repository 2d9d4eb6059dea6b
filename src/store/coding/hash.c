/* hash.c - mail_attachment_hash: "%{sha1}", "%{sha256:80}", "%{size}-...", "%X{md5}", "%B{sha512:128}" (config 5).
 *
 * All digests that the template names are taken in one pass. Base64 of a name has '_' for '/'. */
#include "store/coding/attach.h"

#include <nettle/md4.h>
#include <nettle/nettle-meta.h>

struct part {
    char how;                  /* 'l': literal text, 's': size, 'h' hex, 'X' hex without zeros in front, 'B' base64 */
    struct slice text;
    const struct nettle_hash *hash;
    void *ctx;
    size_t bits;
};

struct hash_template {
    struct arena *arena;
    struct part *at;
    size_t count;
    uint64_t size;
};

static int parse_method(struct hash_template *t, struct slice word, struct part *p, struct error *e)
{
    struct slice name, bits = word;
    uint32_t n;

    slice_split(&bits, ':', &name);
    if (slice_equal_str(name, "size")) {
        p->how = 's';
        return 0;
    }
    for (size_t i = 0; nettle_get_hashes()[i] != NULL; i++) {
        static const char *const known[] = {"md4", "md5", "sha1", "sha256", "sha512"};
        const struct nettle_hash *hash = nettle_get_hashes()[i];

        for (size_t k = 0; k < sizeof(known) / sizeof(*known); k++)
            if (slice_equal_str(name, known[k]) && strcmp(hash->name, known[k]) == 0)
                p->hash = hash;
    }
    if (p->hash == NULL)
        return error_set(e, ERROR_INVALID, "Unknown hash method: %.*s", (int)(name.size > 100 ? 100 : name.size),
                         (const char *)name.at);
    p->bits = (size_t)p->hash->digest_size * 8;
    if (bits.size > 0) {
        if (!slice_to_u32(bits, &n) || n == 0 || n > p->bits)
            return error_set(e, ERROR_INVALID, "Invalid :bits number: %.*s", (int)(bits.size > 100 ? 100 : bits.size),
                             (const char *)bits.at);
        p->bits = n;
    }
    p->ctx = arena_alloc(t->arena, p->hash->context_size);
    p->hash->init(p->ctx);
    return 0;
}

struct hash_template *hash_template_new(struct arena *arena, const char *text, struct error *e)
{
    struct hash_template *t = ARENA_NEW(arena, struct hash_template);
    struct slice rest = slice_from_str(text);

    t->arena = arena;
    t->at = ARENA_ARRAY(arena, struct part, rest.size + 1);
    while (rest.size > 0) {
        struct part *p = &t->at[t->count++];
        ptrdiff_t end = slice_find(rest, '%');

        if (end != 0) {
            *p = (struct part){.how = 'l', .text = end < 0 ? rest : slice_head(rest, (size_t)end)};
            rest = slice_from(rest, p->text.size);
            continue;
        }
        rest = slice_from(rest, 1);
        p->how = 'h';
        if (rest.size > 0 && (rest.at[0] == 'B' || rest.at[0] == 'X')) {
            p->how = (char)rest.at[0];
            rest = slice_from(rest, 1);
        }
        end = slice_find(rest, '}');
        if (rest.size == 0 || rest.at[0] != '{' || end < 0) {
            error_set(e, ERROR_INVALID, "%s", rest.size == 0 || rest.at[0] != '{' ? "No '{' after '%'" : "Missing '}'");
            return NULL;
        }
        if (parse_method(t, slice_of(rest.at + 1, (size_t)end - 1), p, e) < 0)
            return NULL;
        rest = slice_from(rest, (size_t)end + 1);
    }
    return t;
}

void hash_template_put(struct hash_template *t, struct slice bytes)
{
    t->size += bytes.size;
    for (size_t i = 0; i < t->count; i++)
        if (t->at[i].hash != NULL)
            t->at[i].hash->update(t->at[i].ctx, bytes.size, bytes.at);
}

static void put_digest(struct buffer *out, struct part *p)
{
    unsigned char digest[64];
    size_t bytes = (p->bits + 7) / 8, from = out->size;

    p->hash->digest(p->ctx, p->hash->digest_size, digest);
    if (p->bits % 8 != 0)
        digest[bytes - 1] &= (unsigned char)(0xff << (8 - p->bits % 8));
    if (p->how == 'B') {
        text_base64_encode(out, slice_of(digest, bytes));
        while (out->size > from && out->at[out->size - 1] == '=')
            out->size--;
        for (size_t i = from; i < out->size; i++)
            if (out->at[i] == '/')
                out->at[i] = '_';
        return;
    }
    text_hex_encode(out, slice_of(digest, bytes));
    while (p->how == 'X' && out->size > from + 1 && out->at[from] == '0')
        buffer_splice(out, from, 1, SLICE_EMPTY);
}

void hash_template_end(struct hash_template *t, struct buffer *out)
{
    for (size_t i = 0; i < t->count; i++) {
        struct part *p = &t->at[i];

        if (p->how == 'l')
            buffer_append_slice(out, p->text);
        else if (p->how == 's')
            buffer_printf(out, "%llu", (unsigned long long)t->size);
        else
            put_digest(out, p);
    }
}
