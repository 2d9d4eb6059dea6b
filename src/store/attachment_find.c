/* attachment_find.c - is there an attachment in a mail? What clients show by the keywords $HasAttachment and $HasNoAttachment.
 *
 * A part counts that says it is one (Content-Disposition: attachment), or that has a file name and stands inline. The
 * words of mail_attachment_detection_options narrow that: exclude-inlined, and content types that do not count
 * (content-type=!image/...) or do after all (content-type=image/png); the last word that matches a part decides. */
#include "store/attachment.h"

#include <fnmatch.h>

static const char *type_of(struct arena *arena, const struct mime_part *part)
{
    const struct mime_part_data *data = part->data;

    if (data->type.at == NULL)
        return (part->flags & MIME_PART_MESSAGE) != 0 ? "message/rfc822" : "text/plain";
    return arena_printf(arena, "%.*s/%.*s", (int)data->type.size, data->type.at, (int)data->subtype.size, data->subtype.at);
}

static bool is_excluded(struct arena *arena, const struct mime_part *part, const char *options)
{
    struct slice rest = slice_from_str(options), word;
    const struct slice key = SLICE("content-type=");
    bool excluded = false;

    while (rest.size > 0 && slice_split(&rest, ' ', &word)) {
        bool no;

        if (!slice_starts(word, key))
            continue;
        word = slice_from(word, key.size);
        no = word.size > 0 && word.at[0] == '!';
        if (fnmatch(arena_str(arena, slice_from(word, no)), type_of(arena, part), FNM_CASEFOLD) == 0)
            excluded = no;
    }
    return excluded;
}

static bool has_filename(const struct mime_part_data *data)
{
    for (size_t i = 0; i < data->disposition_params.count; i++)
        if (slice_equal_str_nocase(data->disposition_params.at[i].name, "filename"))
            return true;
    return false;
}

bool attachment_find(struct arena *arena, struct mime_part *root, const char *options)
{
    bool inlined = !slice_has_word(slice_from_str(options), SLICE("exclude-inlined"));

    for (struct mime_part *part = root; part != NULL; part = mime_part_following(root, part)) {
        const struct mime_part_data *data = part->data;

        if (data != NULL &&
            (slice_equal_str_nocase(data->disposition, "attachment") ||
             (inlined && slice_equal_str_nocase(data->disposition, "inline") && has_filename(data))) &&
            !is_excluded(arena, part, options))
            return true;
    }
    return false;
}
