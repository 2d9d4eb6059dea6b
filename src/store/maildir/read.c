/* read.c - opening messages whose files others rename at any time (maildir-and-layouts 8.7, end).
 *
 * The name is where the last scan saw it, else what the index's flags make likely; when it is not there the folders are
 * read again. Only then a message counts as expunged. */
#include "store/internal.h"
#include "store/maildir/maildir.h"
#include "store/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define RESCANS 10

char *maildir_record_path(const struct maildir_record *rec, struct arena *arena)
{
    const char *info = rec->info == NULL ? "" : rec->info;

    if (rec->where == WHERE_NEW)
        return arena_printf(arena, "new/%s%s", rec->base, info);
    return arena_printf(arena, "cur/%s%s", rec->base, *info == '\0' && rec->where != WHERE_CUR ? ":2," : info);
}

/* The name that the index's flags make likely. */
static char *likely_path(struct maildir *m, const struct maildir_record *rec, struct arena *arena)
{
    struct index_record index;
    uint32_t letters = 0;

    if (!index_get(m->box->index, rec->uid, &index))
        return NULL;
    for (unsigned i = 0; i < index_keyword_count(m->box->index); i++) {
        int letter;

        if (!index_keyword_has(index.keywords, i))
            continue;
        letter = maildir_keyword_letter(&m->keywords, slice_from_str(index_keyword_name(m->box->index, i)));
        if (letter >= 0)
            letters |= 1u << letter;
    }
    return arena_printf(arena, "cur/%s%s", rec->base, maildir_info_make(arena, rec->info, index.flags, letters));
}

struct maildir_record *maildir_record_of(struct maildir *m, uint32_t uid, struct error *e)
{
    struct maildir_record *rec = maildir_uidlist_find(&m->list, uid);

    if (rec != NULL || (m->list.loaded && maildir_list_refresh(m, e) < 0))
        return rec;
    if (!m->list.loaded && maildir_list_refresh(m, e) < 0)
        return NULL;
    return maildir_uidlist_find(&m->list, uid);
}

int maildir_file_do(struct maildir *m, uint32_t uid,
                    int (*act)(struct maildir *, const char *name, void *arg, struct error *), void *arg,
                    struct error *e)
{
    struct arena *arena = arena_new();
    struct maildir_record *rec;
    const char *path;
    int r = 0;

    error_clear(e);
    rec = maildir_record_of(m, uid, e);
    if (rec == NULL) {
        arena_free(arena);
        return e->class == ERROR_NONE ? 0 : -1;
    }
    if (rec->where != WHERE_UNKNOWN)
        r = act(m, maildir_record_path(rec, arena), arg, e);
    if (r == 0 && (path = likely_path(m, rec, arena)) != NULL) {
        r = act(m, path, arg, e);
        if (r == 1) {
            rec->where = WHERE_CUR;
            rec->info = arena_strdup(maildir_uidlist_arena(&m->list), path + 4 + strlen(rec->base));
        }
    }
    if (r == 0 && rec->where == WHERE_UNKNOWN) {
        r = act(m, arena_printf(arena, "new/%s", rec->base), arg, e);
        if (r == 1)
            rec->where = WHERE_NEW;
    }
    for (int i = 0; r == 0 && i < RESCANS; i++) {
        if (maildir_search(m, e) < 0) {
            r = -1;
            break;
        }
        rec = maildir_uidlist_find(&m->list, uid);
        if (rec == NULL || rec->where == WHERE_GONE)
            break;
        r = act(m, maildir_record_path(rec, arena), arg, e);
        if (r == 0)
            m->search_cur.tv_nsec ^= 1; /* the folder told nothing new: look once more before giving up */
        if (r == 0 && i >= 1 && !rec->seen)
            break;
    }
    arena_free(arena);
    return r;
}

static int open_file(struct maildir *m, const char *name, void *arg, struct error *e)
{
    struct mail_file *file = arg;
    char path[PATH_MAX];
    int fd = openat(m->dir, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0) {
        if (errno == ENOENT)
            return 0;
        if (errno == ELOOP)
            return error_set(e, ERROR_PERMISSION, "%s/%s is a symbolic link, which is not followed", m->box->path, name);
        snprintf(path, sizeof(path), "%s/%s", m->box->path, name);
        return error_sys(e, "open", path);
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return error_set(e, ERROR_CORRUPT, "%s/%s is not a regular file", m->box->path, name);
    }
    file->fd = fd;
    file->size = (uint64_t)st.st_size;
    file->internal_date = st.st_mtime;
    file->save_date = st.st_ctime;
    return 1;
}

int maildir_read(struct mailbox *box, uint32_t uid, struct arena *arena, struct mail_file *file, struct error *e)
{
    struct maildir *m = box->data;
    int r;

    r = maildir_file_do(m, uid, open_file, file, e);
    if (r == 0)
        return store_message_gone(uid, e);
    if (r < 0)
        return -1;
    file->source = store_file_source(arena, file->fd, 0, file->size);
    return 0;
}

void maildir_read_end(struct mail_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

/* ---- facts without reading ---- */

struct stat_arg {
    struct stat st;
    const char *path;
    struct arena *arena;
};

static int stat_file(struct maildir *m, const char *name, void *arg, struct error *e)
{
    struct stat_arg *out = arg;

    if (fstatat(m->dir, name, &out->st, 0) < 0)
        return errno == ENOENT ? 0 : error_sys(e, "stat", name);
    if (out->arena != NULL)
        out->path = arena_printf(out->arena, "%s/%s", m->box->path, name);
    return 1;
}

static int stat_uid(struct maildir *m, uint32_t uid, struct stat_arg *arg, struct error *e)
{
    int r = maildir_file_do(m, uid, stat_file, arg, e);

    return r == 1 ? 0 : r == 0 ? store_message_gone(uid, e) : -1;
}

const char *maildir_guid_of(const struct maildir_record *rec, struct arena *arena)
{
    const char *guid = maildir_record_field(rec, 'G', arena);

    return guid != NULL && *guid != '\0' ? guid : arena_strdup(arena, rec->base);
}

static bool known_size(struct maildir *m, const struct maildir_record *rec, char key, struct arena *arena, uint64_t *out)
{
    const char *field = maildir_record_field(rec, key, arena);

    if (field != NULL && slice_to_u64(slice_from_str(field), out))
        return true;
    return !m->broken_sizes && maildir_size_field(slice_from_str(rec->base), key, out);
}

int maildir_item(struct mailbox *box, uint32_t uid, enum driver_item item, struct arena *arena,
                 struct driver_value *out, struct error *e)
{
    struct maildir *m = box->data;
    struct maildir_record *rec;
    struct stat_arg arg = {.arena = item == ITEM_PATH ? arena : NULL};
    const char *text;
    uint32_t number;

    *out = (struct driver_value){0};
    error_clear(e);
    rec = maildir_record_of(m, uid, e);
    if (rec == NULL)
        return e->class == ERROR_NONE ? store_message_gone(uid, e) : -1;
    switch (item) {
    case ITEM_GUID:
        out->text = maildir_guid_of(rec, arena);
        out->known = true;
        return 0;
    case ITEM_POP3_UIDL:
        out->text = maildir_record_field(rec, 'P', arena);
        if (out->text != NULL && *out->text == '\0')
            out->text = arena_strdup(arena, rec->base);
        out->known = true;
        return 0;
    case ITEM_POP3_ORDER:
        text = maildir_record_field(rec, 'O', arena);
        if (text != NULL && slice_to_u32(slice_from_str(text), &number))
            out->number = number;
        out->known = true;
        return 0;
    case ITEM_SIZE_VIRTUAL:
        out->known = known_size(m, rec, 'W', arena, &out->number);
        return 0;
    case ITEM_SIZE_PHYSICAL:
        out->known = known_size(m, rec, 'S', arena, &out->number);
        if (out->known || store_read_coded(box))
            return 0;
        break;
    default:
        break;
    }
    if (stat_uid(m, uid, &arg, e) < 0)
        return -1;
    out->known = true;
    out->text = arg.path;
    if (item == ITEM_SIZE_PHYSICAL)
        out->number = (uint64_t)arg.st.st_size;
    else if (item == ITEM_INTERNAL_DATE)
        out->number = (uint64_t)arg.st.st_mtime;
    else if (item == ITEM_SAVE_DATE)
        out->number = (uint64_t)arg.st.st_ctime;
    return 0;
}

void maildir_mend(struct mailbox *box, uint32_t uid, uint64_t physical, uint64_t virtual_size)
{
    struct maildir *m = box->data;
    struct maildir_record *rec = maildir_uidlist_find(&m->list, uid);
    struct arena *arena;
    uint64_t s, w;

    if (rec == NULL)
        return;
    arena = arena_new();
    if (!known_size(m, rec, 'S', arena, &s))
        s = physical;
    if (!known_size(m, rec, 'W', arena, &w))
        w = virtual_size;
    if (s != physical || w != virtual_size) {
        /* The record's values win over the name's; the name, and with it the UID and the GUID, stay. */
        mailbox_log(box, LOG_LEVEL_ERROR, "UID=%u: file name says S=%llu, W=%llu, the file has %llu, %llu: corrected in uidlist",
                    uid, (unsigned long long)s, (unsigned long long)w, (unsigned long long)physical,
                    (unsigned long long)virtual_size);
        rec->fields = maildir_fields_set(maildir_uidlist_arena(&m->list), rec->fields, 'S',
                                         arena_printf(arena, "%llu", (unsigned long long)physical));
        rec->fields = maildir_fields_set(maildir_uidlist_arena(&m->list), rec->fields, 'W',
                                         arena_printf(arena, "%llu", (unsigned long long)virtual_size));
        m->list.recreate = true;
    }
    arena_free(arena);
}
