/* Walking a tree of parts, and its form in the cache (index-format 9.7, field mime.parts).
 *
 * Decoding trusts nothing: counts, sizes and depth are checked against the bytes that are there and against each
 * other, since the field comes from a file that others write. */
#include "mime/mime_internal.h"

#define PART_SIZE_MAX ((uint64_t)1 << 62)

struct mime_size mime_part_total(const struct mime_part *part)
{
    return (struct mime_size){part->header.physical + part->body.physical, part->header.virtual + part->body.virtual,
                              part->header.lines + part->body.lines};
}

struct mime_part *mime_part_following(struct mime_part *root, struct mime_part *part)
{
    if (part->children != NULL)
        return part->children;
    while (part != root) {
        if (part->next != NULL)
            return part->next;
        part = part->parent;
    }
    return NULL;
}

struct mime_part *mime_part_at(struct mime_part *root, uint32_t n)
{
    struct mime_part *part = root;
    while (part != NULL && n-- > 0)
        part = mime_part_following(root, part);
    return part;
}

static void put32(struct buffer *out, uint32_t v)
{
    unsigned char b[4];
    bytes_put_le32(b, v);
    buffer_append(out, b, sizeof(b));
}

static void put64(struct buffer *out, uint64_t v)
{
    unsigned char b[8];
    bytes_put_le64(b, v);
    buffer_append(out, b, sizeof(b));
}

void mime_parts_encode(struct buffer *out, const struct mime_part *root)
{
    for (const struct mime_part *part = root; part != NULL;
         part = mime_part_following((struct mime_part *)root, (struct mime_part *)part)) {
        put32(out, part->flags);
        if (part != root)
            put64(out, part->offset);
        put64(out, part->header.physical);
        put64(out, part->header.virtual);
        put64(out, part->body.physical);
        put64(out, part->body.virtual);
        if ((part->flags & (MIME_PART_TEXT | MIME_PART_MESSAGE)) != 0)
            put32(out, part->body.lines);
        if ((part->flags & (MIME_PART_MULTIPART | MIME_PART_MESSAGE)) != 0)
            put32(out, part->children_count);
    }
}

struct reader {
    struct slice rest;
    bool failed;
};

static uint64_t take(struct reader *r, size_t size)
{
    if (r->rest.size < size) {
        r->failed = true;
        return 0;
    }
    uint64_t v = size == 4 ? bytes_le32(r->rest.at) : bytes_le64(r->rest.at);
    r->rest = slice_from(r->rest, size);
    return v;
}

static bool size_possible(const struct mime_size *s)
{
    return s->physical <= PART_SIZE_MAX && s->virtual >= s->physical && s->virtual - s->physical <= s->physical;
}

/* One part; *children tells how many must follow inside it. */
static bool take_part(struct reader *r, struct mime_part *part, uint32_t *children)
{
    const struct mime_part *parent = part->parent;

    part->flags = (uint32_t)take(r, 4);
    if (parent != NULL)
        part->offset = take(r, 8);
    part->header.physical = take(r, 8);
    part->header.virtual = take(r, 8);
    part->body.physical = take(r, 8);
    part->body.virtual = take(r, 8);
    if ((part->flags & (MIME_PART_TEXT | MIME_PART_MESSAGE)) != 0)
        part->body.lines = (uint32_t)take(r, 4);
    *children = 0;
    if ((part->flags & (MIME_PART_MULTIPART | MIME_PART_MESSAGE)) != 0)
        *children = (uint32_t)take(r, 4);
    if (r->failed || !size_possible(&part->header) || !size_possible(&part->body))
        return false;
    if ((part->flags & MIME_PART_MESSAGE) != 0 && *children != 1)
        return false;
    if (parent == NULL)
        return true;
    /* Inside the parent's body, behind the part before. */
    uint64_t from = parent->offset + parent->header.physical;
    return part->offset >= from && part->offset - from <= parent->body.physical &&
           part->header.physical + part->body.physical <= parent->body.physical - (part->offset - from);
}

int mime_parts_decode(struct arena *arena, struct slice bytes, struct mime_part **root, struct error *e)
{
    struct reader r = {bytes, false};
    struct mime_part *first = NULL, *parent = NULL, **link = &first;
    VEC(uint32_t) left = {0};              /* children still to come of each open parent */
    uint32_t children;
    bool good = true;

    do {
        struct mime_part *part = ARENA_NEW(arena, struct mime_part);
        part->parent = parent;
        *link = part;
        if (!take_part(&r, part, &children) || children > r.rest.size / 36) {
            good = false;
            break;
        }
        link = &part->next;
        if (parent != NULL)
            parent->children_count++;
        if (children > 0) {
            if (left.count > mime_limits_default.depth + 1) {
                good = false;
                break;
            }
            VEC_PUSH(&left, children);
            parent = part;
            link = &part->children;
            continue;
        }
        /* Up until a parent wants more. */
        struct mime_part *last = part;
        while (left.count > 0 && --left.at[left.count - 1] == 0) {
            left.count--;
            last = parent;
            parent = parent->parent;
        }
        link = &last->next;
    } while (left.count > 0);
    VEC_FREE(&left);
    if (!good || r.rest.size > 0)
        return error_set(e, ERROR_CORRUPT, "Cached MIME parts are malformed");
    *root = first;
    return 0;
}
