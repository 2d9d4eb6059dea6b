/* attachment_refs.c - the X metadata of dbox (dbox-format 5.2), and the files that it names. */
#include "store/attachment.h"
#include "store/coding/coding.h"
#include "store/internal.h"

static int bad(struct error *e, const char *why)
{
    return error_set(e, ERROR_CORRUPT, "%s", why);
}

/* "-", "B76", "B76C". */
static int parse_options(struct slice options, struct attachment_ref *ref, struct error *e)
{
    if (slice_equal_str(options, "-"))
        return 0;
    for (size_t i = 0; i < options.size; i++) {
        size_t digits = i + 1;
        uint32_t columns;

        if (options.at[i] == 'C') {
            ref->crlf = true;
            continue;
        }
        if (options.at[i] != 'B')
            return bad(e, "Unknown extref option");
        while (digits < options.size && options.at[digits] >= '0' && options.at[digits] <= '9')
            digits++;
        if (!slice_to_u32(slice_of(options.at + i + 1, digits - i - 1), &columns) || columns == 0 || columns % 4 != 0)
            return bad(e, "Corrupted base64 chars/line");
        ref->base64_columns = columns;
        i = digits - 1;
    }
    return 0;
}

static bool path_is_safe(struct slice path)
{
    struct slice part, rest = path;

    if (path.size == 0 || path.size > 1024 || memchr(path.at, '\0', path.size) != NULL)
        return false;
    while (slice_split(&rest, '/', &part))
        if (part.size == 0 || slice_equal_str(part, ".") || slice_equal_str(part, ".."))
            return false;
    return true;
}

int attachment_refs_parse(struct slice text, struct arena *arena, struct attachment_refs *out, struct error *e)
{
    struct slice words[4];
    uint64_t end = 0;
    size_t spaces = 0;

    for (size_t i = 0; i < text.size; i++)
        spaces += text.at[i] == ' ';
    if (spaces % 4 != 3)
        return bad(e, "Missing data");
    *out = (struct attachment_refs){ARENA_ARRAY(arena, struct attachment_ref, spaces / 4 + 1), 0};
    while (out->count <= spaces / 4) {
        struct attachment_ref *ref = &out->at[out->count++];

        for (size_t i = 0; i < 4; i++)
            slice_split(&text, ' ', &words[i]);
        if (!slice_to_u64(words[0], &ref->offset))
            return bad(e, "Invalid offset");
        if (!slice_to_u64(words[1], &ref->size))
            return bad(e, "Invalid size");
        if (parse_options(words[2], ref, e) < 0)
            return -1;
        if (ref->offset < end)
            return bad(e, "Parts overlap");
        if (ref->offset > INT64_MAX || ref->size > INT64_MAX - ref->offset)
            return bad(e, "Invalid size");
        end = ref->offset + ref->size;
        if (!path_is_safe(words[3]))
            return bad(e, "Invalid path");
        ref->path = words[3];
    }
    return 0;
}

/* ---- their files ---- */

struct refs {
    struct arena *arena;
    struct fs *fs;
    const char *folder;
    struct attachment_refs list;
};

static int open_refs(struct mail_user *user, const char *text, struct refs *r, struct error *e)
{
    r->arena = arena_new();
    if (coding_attachments(user, &r->fs, &r->folder, e) == 0 &&
        attachment_refs_parse(slice_from_str(text), r->arena, &r->list, e) == 0)
        return 0;
    arena_free(r->arena);
    return -1;
}

static const char *path_of(struct refs *r, size_t i, const char *suffix)
{
    return arena_printf(r->arena, "%s/%.*s%s", r->folder, (int)r->list.at[i].path.size, (const char *)r->list.at[i].path.at,
                        suffix == NULL ? "" : suffix);
}

void attachment_refs_unlink(struct mail_user *user, const char *text, const char *suffix)
{
    struct error e;
    struct refs r;

    if (text == NULL)
        return;
    if (open_refs(user, text, &r, &e) < 0) {
        log_error_value(mail_user_log(user), &e);
        return;
    }
    for (size_t i = 0; i < r.list.count; i++)
        if (fs_unlink(r.fs, path_of(&r, i, suffix), &e) < 0 && e.class != ERROR_NOT_FOUND)
            log_error_value(mail_user_log(user), &e);
    arena_free(r.arena);
}

/* All or none. */
static int for_all(struct mail_user *user, const char *text, const char *from, const char *to, bool link, struct error *e)
{
    struct error ignored;
    struct refs r;
    size_t done;
    int result = 0;

    if (text == NULL)
        return 0;
    if (open_refs(user, text, &r, e) < 0)
        return -1;
    for (done = 0; result == 0 && done < r.list.count; done++) {
        const char *a = path_of(&r, done, from), *b = path_of(&r, done, to);

        result = link ? fs_link(r.fs, a, b, e) : fs_rename(r.fs, a, b, e);
    }
    if (result < 0) {
        for (done--; done > 0; done--) {
            const char *a = path_of(&r, done - 1, from), *b = path_of(&r, done - 1, to);

            (void)(link ? fs_unlink(r.fs, b, &ignored) : fs_rename(r.fs, b, a, &ignored));
        }
    }
    arena_free(r.arena);
    return result;
}

int attachment_refs_rename(struct mail_user *user, const char *refs, const char *from, const char *to, struct error *e)
{
    return for_all(user, refs, from, to, false, e);
}

int attachment_refs_link(struct mail_user *user, const char *refs, const char *from, const char *to, struct error *e)
{
    return for_all(user, refs, from, to, true, e);
}
