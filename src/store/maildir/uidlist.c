/* uidlist.c - dovecot-uidlist as a table in memory, and its text (maildir-and-layouts 8.3). No files here.
 *
 * Records are kept by UID; a second array orders them by file name, so that a scan of the folder is merged with the list
 * in O(n log n) whatever names others choose. */
#include "store/maildir/maildir.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME "dovecot-uidlist"

void maildir_uidlist_free(struct maildir_uidlist *list)
{
    mem_free(list->at);
    mem_free(list->by_base);
    arena_free(list->arena);
    *list = (struct maildir_uidlist){0};
}

struct arena *maildir_uidlist_arena(struct maildir_uidlist *list)
{
    if (list->arena == NULL)
        list->arena = arena_new();
    return list->arena;
}

/* ---- parsing ---- */

static int corrupt(struct error *e, const char *fmt, struct slice what)
{
    return error_set(e, ERROR_CORRUPT, fmt, (int)(what.size > 200 ? 200 : what.size), (const char *)what.at);
}

/* What is wrong and costs nothing but itself. The texts are the real server's. */
static void complain(const struct maildir_uidlist *list, const char *what, struct slice text)
{
    int size = (int)(text.size > 200 ? 200 : text.size);

    if (list->box == NULL)
        log_error(NULL, "Broken file " NAME " line %zu: %s: %.*s", list->line, what, size, (const char *)text.at);
    else
        mailbox_log(list->box, LOG_LEVEL_ERROR, "Broken file %s/" NAME " line %zu: %s: %.*s", list->box->control_path, list->line, what,
                    size, (const char *)text.at);
}

static bool has_nul(struct slice s)
{
    return s.size > 0 && memchr(s.at, '\0', s.size) != NULL;
}

static int parse_guid(struct maildir_uidlist *list, struct slice value, struct error *e)
{
    struct buffer raw = {0};
    int r = 0;

    if (text_hex_decode(&raw, value) < 0 || raw.size != 16) {
        r = corrupt(e, "Invalid mailbox GUID: %.*s", value);
    } else {
        memcpy(list->guid, raw.at, 16);
        list->have_guid = true;
    }
    buffer_free(&raw);
    return r;
}

static int header_v3(struct maildir_uidlist *list, struct slice line, struct error *e)
{
    struct buffer others = {0};
    struct slice field, value;
    int r = 0;

    while (r == 0 && slice_split(&line, ' ', &field)) {
        if (field.size == 0)
            continue;
        value = slice_from(field, 1);
        switch (field.at[0]) {
        case 'V':
            if (!slice_to_u32(value, &list->uid_validity))
                list->uid_validity = 0;
            break;
        case 'N':
            if (!slice_to_u32(value, &list->next_uid))
                list->next_uid = 0;
            break;
        case 'G':
            r = parse_guid(list, value, e);
            break;
        default:
            buffer_append_byte(&others, ' ');
            buffer_append_slice(&others, field);
        }
    }
    list->other_fields = arena_str(maildir_uidlist_arena(list), buffer_slice(&others));
    buffer_free(&others);
    return r;
}

static int parse_header(struct maildir_uidlist *list, struct slice line, struct error *e)
{
    struct slice version, number;

    list->uid_validity = list->next_uid = 0;
    list->have_guid = false;
    list->other_fields = "";
    if (has_nul(line) || slice_find(line, ' ') < 0 || !slice_split(&line, ' ', &version) || !slice_to_u32(version, &list->version))
        return error_set(e, ERROR_CORRUPT, "Corrupted header (invalid version number)");
    if (list->version == 1) {
        if (!slice_split(&line, ' ', &number) || !slice_to_u32(number, &list->uid_validity) ||
            !slice_split(&line, ' ', &number) || !slice_to_u32(number, &list->next_uid))
            return error_set(e, ERROR_CORRUPT, "Corrupted header (version 1)");
        list->recreate = true;
    } else if (list->version != 3) {
        return error_set(e, ERROR_CORRUPT, "Unsupported version %u", list->version);
    } else if (header_v3(list, line, e) < 0) {
        return -1;
    }
    if (!list->have_guid)
        list->recreate = true;
    if (list->uid_validity == 0 || list->next_uid == 0)
        return error_set(e, ERROR_CORRUPT, "Broken header (uidvalidity = %u, next_uid=%u)", list->uid_validity,
                         list->next_uid);
    return 0;
}

/* "K<value> K<value> " up to the ':' that begins the name. *fields: NULL when a key is no letter. */
static int parse_fields(struct maildir_uidlist *list, struct slice *rest, const char **fields, struct error *e)
{
    struct buffer out = {0};
    struct slice all = *rest;
    bool bad = false;

    for (;;) {
        struct slice field;
        size_t n = 0;

        while (rest->size > 0 && rest->at[0] == ' ')
            *rest = slice_from(*rest, 1);
        if (rest->size == 0) {
            buffer_free(&out);
            return corrupt(e, "Invalid extended fields: %.*s", all);
        }
        if (rest->at[0] == ':')
            break;
        while (n < rest->size && rest->at[n] != ' ')
            n++;
        field = slice_head(*rest, n);
        *rest = slice_from(*rest, n);
        if (field.at[0] < 'A' || field.at[0] > 'Z') {
            complain(list, "Invalid extension record, removing", field);
            bad = true;
        }
        if (out.size > 0)
            buffer_append_byte(&out, ' ');
        buffer_append_slice(&out, field);
    }
    if (bad)
        list->recreate = true;
    *fields = bad || out.size == 0 ? NULL : arena_str(maildir_uidlist_arena(list), buffer_slice(&out));
    buffer_free(&out);
    return 0;
}

static int parse_record(struct maildir_uidlist *list, struct slice line, struct error *e)
{
    struct slice rest = line, number;
    const char *fields = NULL;
    uint32_t uid, last = list->count == 0 ? 0 : list->at[list->count - 1].uid;

    if (has_nul(line) || line.size == 0 || line.at[0] < '0' || line.at[0] > '9' || !slice_split(&rest, ' ', &number) ||
        rest.size == 0 || !slice_to_u32(number, &uid))
        return corrupt(e, "Invalid data: %.*s", line);
    if (uid <= last)
        return error_set(e, ERROR_CORRUPT, "UIDs not ordered (%u >= %u)", last, uid);
    if (uid == UINT32_MAX)
        return error_set(e, ERROR_CORRUPT, "UID too high (%u)", uid);
    if (list->version == 1) {
        if (uid >= list->next_uid)
            return error_set(e, ERROR_CORRUPT, "UID larger than next_uid (%u >= %u)", uid, list->next_uid);
    } else {
        if (parse_fields(list, &rest, &fields, e) < 0)
            return -1;
        rest = slice_from(rest, 1);
    }
    if (rest.size == 0)
        return corrupt(e, "Invalid data: %.*s", line);
    if (slice_find(rest, '/') >= 0)
        return error_set(e, ERROR_CORRUPT, "%s/" NAME ": Broken filename at line %zu: %.*s", list->box == NULL ? "" : list->box->control_path,
                         list->line, (int)(rest.size > 200 ? 200 : rest.size), (const char *)rest.at);
    /* An info part in the list is no part of the identity. */
    char *base = arena_str(maildir_uidlist_arena(list), rest);
    base[maildir_base_size(base)] = '\0';
    if (*base == '\0')
        return corrupt(e, "Invalid data: %.*s", line);
    maildir_uidlist_add(list, uid, base, fields);
    list->lines++;
    return 0;
}

int maildir_uidlist_parse(struct maildir_uidlist *list, struct slice text, size_t *used, struct error *e)
{
    bool header = list->version == 0;

    list->line = header ? 0 : list->lines + 1;
    *used = 0;
    for (;;) {
        struct slice rest = slice_from(text, *used), line;
        ptrdiff_t end = slice_find(rest, '\n');
        int r;

        if (end < 0)
            return 0; /* a line without its end is still being written */
        line = slice_head(rest, (size_t)end);
        list->line++;
        r = header ? parse_header(list, line, e) : parse_record(list, line, e);
        if (r < 0)
            return error_context(e, "line %zu: ", list->line);
        header = false;
        *used += (size_t)end + 1;
    }
}

/* ---- writing ---- */

void maildir_uidlist_put_header(struct buffer *out, const struct maildir_uidlist *list)
{
    buffer_printf(out, "3 V%u N%u G", list->uid_validity, list->next_uid);
    text_hex_encode(out, slice_of(list->guid, 16));
    buffer_append_str(out, list->other_fields == NULL ? "" : list->other_fields);
    buffer_append_byte(out, '\n');
}

void maildir_uidlist_put(struct buffer *out, const struct maildir_record *rec)
{
    buffer_printf(out, "%u %s%s:%s\n", rec->uid, rec->fields == NULL ? "" : rec->fields, rec->fields == NULL ? "" : " ",
                  rec->base);
}

/* ---- the table ---- */

struct maildir_record *maildir_uidlist_add(struct maildir_uidlist *list, uint32_t uid, const char *base,
                                           const char *fields)
{
    VEC_PUSH(list, ((struct maildir_record){.uid = uid, .base = base, .fields = fields}));
    return &list->at[list->count - 1];
}

struct maildir_record *maildir_uidlist_find(struct maildir_uidlist *list, uint32_t uid)
{
    size_t low = 0, high = list->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (list->at[mid].uid < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low < list->count && list->at[low].uid == uid ? &list->at[low] : NULL;
}

static int compare_index(const void *a, const void *b, void *arg)
{
    const struct maildir_uidlist *list = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int r = strcmp(list->at[x].base, list->at[y].base);

    return r != 0 ? r : x < y ? -1 : x > y;
}

void maildir_uidlist_index(struct maildir_uidlist *list, size_t *doubled)
{
    size_t old = list->sorted, fresh = list->count - old, n = old, i, j;
    uint32_t *tail;

    *doubled = 0;
    if (fresh == 0)
        return;
    if (list->by_base_room < list->count) {
        list->by_base_room = list->count + list->count / 2 + 8;
        list->by_base = mem_realloc(list->by_base, list->by_base_room * sizeof(uint32_t));
    }
    tail = mem_alloc(fresh * sizeof(*tail));
    for (i = 0; i < fresh; i++)
        tail[i] = (uint32_t)(old + i);
    qsort_r(tail, fresh, sizeof(*tail), compare_index, list);
    /* Merge from the back: both parts are sorted. */
    for (i = old, j = fresh, n = old + fresh; j > 0;) {
        if (i > 0 && compare_index(&list->by_base[i - 1], &tail[j - 1], list) > 0)
            list->by_base[--n] = list->by_base[--i];
        else
            list->by_base[--n] = tail[--j];
    }
    mem_free(tail);
    list->sorted = list->count;
    for (i = 1; i < list->count; i++) {
        struct maildir_record *a = &list->at[list->by_base[i - 1]], *b = &list->at[list->by_base[i]];

        if (a->where == WHERE_GONE || b->where == WHERE_GONE || strcmp(a->base, b->base) != 0)
            continue;
        log_warning(NULL, "%s/" NAME ": Duplicate file entry at line %zu: %s (uid %u -> %u)",
                    list->box == NULL ? "" : list->box->control_path, (size_t)(b - list->at) + 2, a->base, a->uid, b->uid);
        a->where = WHERE_GONE;
        list->gone++;
        list->recreate = true;
        ++*doubled;
    }
}

struct maildir_record *maildir_uidlist_find_base(struct maildir_uidlist *list, const char *base, size_t size)
{
    size_t low = 0, high = list->sorted;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const char *other = list->at[list->by_base[mid]].base;
        int r = strncmp(other, base, size);

        if (r == 0 && other[size] != '\0')
            r = 1;
        if (r < 0)
            low = mid + 1;
        else
            high = mid;
    }
    /* Of equal ones the last counts. */
    struct maildir_record *found = NULL;
    for (; low < list->sorted; low++) {
        struct maildir_record *rec = &list->at[list->by_base[low]];

        if (strncmp(rec->base, base, size) != 0 || rec->base[size] != '\0')
            break;
        if (rec->where != WHERE_GONE || found == NULL)
            found = rec;
    }
    return found;
}

const char *maildir_record_field(const struct maildir_record *rec, char key, struct arena *arena)
{
    struct slice rest = slice_from_str(rec->fields), field;

    while (rec->fields != NULL && slice_split(&rest, ' ', &field))
        if (field.size > 0 && field.at[0] == (unsigned char)key)
            return arena_str(arena, slice_from(field, 1));
    return NULL;
}

const char *maildir_fields_set(struct arena *arena, const char *fields, char key, const char *value)
{
    struct buffer out = {0};
    struct slice rest = slice_from_str(fields), field;
    bool done = value == NULL;
    char *text;

    while (fields != NULL && slice_split(&rest, ' ', &field)) {
        if (field.size == 0)
            continue;
        if (field.at[0] == (unsigned char)key) {
            if (!done)
                buffer_printf(&out, "%s%c%s", out.size == 0 ? "" : " ", key, value);
            done = true;
            continue;
        }
        if (out.size > 0)
            buffer_append_byte(&out, ' ');
        buffer_append_slice(&out, field);
    }
    if (!done)
        buffer_printf(&out, "%s%c%s", out.size == 0 ? "" : " ", key, value);
    text = out.size == 0 ? NULL : arena_str(arena, buffer_slice(&out));
    buffer_free(&out);
    return text;
}

static const char *move_text(struct arena *to, const char *text)
{
    return text == NULL ? NULL : arena_strdup(to, text);
}

void maildir_uidlist_repack(struct maildir_uidlist *list)
{
    struct arena *old = list->arena;

    if (old == NULL || arena_used(old) < (1u << 20) || arena_used(old) / 400 < list->count)
        return;
    list->arena = arena_new();
    list->other_fields = move_text(list->arena, list->other_fields);
    for (size_t i = 0; i < list->count; i++) {
        struct maildir_record *rec = &list->at[i];

        rec->base = move_text(list->arena, rec->base);
        rec->info = move_text(list->arena, rec->info);
        rec->fields = move_text(list->arena, rec->fields);
    }
    arena_free(old);
}
