/* scan.c - reading new/ and cur/, and finding the files of the uidlist in what was read (maildir-and-layouts 8.7).
 *
 * Entries are sorted by base and merged with the list, which is sorted the same way: no hash of names that others
 * choose. Folders, FIFOs, sockets and devices are no mail: they are skipped and said once. */
#include "store/internal.h"
#include "store/maildir/maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void *maildir_scan_open(struct maildir *m, const char *folder, struct error *e)
{
    int fd = openat(m->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (d == NULL) {
        error_sys(e, "opendir", folder);
        error_context(e, "%s/", m->box->path);
        if (fd >= 0)
            close(fd);
    }
    return d;
}

static bool is_mail(struct maildir *m, DIR *d, const struct dirent *entry)
{
    switch (entry->d_type) {
    case DT_REG:
    case DT_LNK:
        return true;
    case DT_UNKNOWN: {
        struct stat st;

        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return false;
        if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
            return true;
        break;
    }
    default:
        break;
    }
    if (!m->odd_files_logged)
        mailbox_log(m->box, LOG_LEVEL_WARNING, "Ignoring what is not a file: %s/.../%s", m->box->path, entry->d_name);
    m->odd_files_logged = true;
    return false;
}

/* A name without a base: gets one, in new/. */
static void rename_broken(struct maildir *m, bool in_new, const char *name)
{
    struct arena *arena = arena_new();
    const char *from = arena_printf(arena, "%s/%s", in_new ? "new" : "cur", name);
    const char *to = arena_printf(arena, "new/%s", maildir_name_new(arena));
    struct error e;

    if (os_rename(m->dir, from, m->dir, to, &e) == 0)
        mailbox_log(m->box, LOG_LEVEL_WARNING, "Fixed broken filename: %s/%s -> %s", m->box->path, from, to);
    else if (e.class != ERROR_NOT_FOUND)
        log_error_value(mail_user_log(m->box->user), &e);
    arena_free(arena);
}

int maildir_scan(struct maildir *m, void *dir, bool in_new, struct arena *arena, struct maildir_entries *entries,
                 unsigned most, bool *end, struct error *e)
{
    DIR *d = dir;
    struct dirent *entry;

    *end = false;
    for (unsigned i = 0; i < most; i++) {
        const char *name;

        errno = 0;
        entry = readdir(d);
        if (entry == NULL) {
            if (errno != 0)
                return error_sys(e, "readdir", m->box->path);
            *end = true;
            return 0;
        }
        name = entry->d_name;
        if (*name == '.')
            continue;
        if (!is_mail(m, d, entry))
            continue;
        if (strpbrk(name, "\r\n") != NULL) {
            log_warning(mail_user_log(m->box->user), "Maildir %s: Ignoring a file with #0x%x: %s", m->box->path, *strpbrk(name, "\r\n"),
                        name);
            continue;
        }
        if (*name == ':') {
            rename_broken(m, in_new, name);
            continue;
        }
        VEC_PUSH(entries, ((struct maildir_entry){arena_strdup(arena, name), (uint32_t)maildir_base_size(name), in_new,
                                                  false, false}));
    }
    return 0;
}

static int compare_base(const struct maildir_entry *a, const struct maildir_entry *b)
{
    uint32_t n = a->base_size < b->base_size ? a->base_size : b->base_size;
    int r = memcmp(a->name, b->name, n);

    return r != 0 ? r : a->base_size < b->base_size ? -1 : a->base_size > b->base_size;
}

static int compare_entry(const void *x, const void *y)
{
    const struct maildir_entry *a = x, *b = y;
    int r = compare_base(a, b);

    return r != 0 ? r : a->in_new != b->in_new ? (a->in_new ? 1 : -1) : strcmp(a->name, b->name);
}

void maildir_entries_sort(struct maildir_entries *entries)
{
    if (entries->count > 1)
        qsort(entries->at, entries->count, sizeof(*entries->at), compare_entry);
}

static void note(struct maildir *m, struct maildir_record *rec, const struct maildir_entry *entry)
{
    const char *info = entry->name + entry->base_size;

    rec->seen = true;
    rec->where = entry->in_new ? WHERE_NEW : WHERE_CUR;
    rec->was_new = entry->in_new || entry->moved;
    if (*info == '\0')
        rec->info = NULL;
    else if (rec->info == NULL || strcmp(rec->info, info) != 0)
        rec->info = arena_strdup(maildir_uidlist_arena(&m->list), info);
}

void maildir_entries_merge(struct maildir *m, const struct maildir_entries *entries, struct maildir_entries *fresh)
{
    struct maildir_uidlist *list = &m->list;
    size_t doubled, i = 0, j = 0;

    maildir_uidlist_index(list, &doubled);
    for (size_t k = 0; k < list->count; k++)
        list->at[k].seen = false;
    while (j < entries->count) {
        const struct maildir_entry *entry = &entries->at[j];
        struct maildir_record *rec = NULL;
        int r = 1;

        if (entry->dropped || (j > 0 && compare_base(&entries->at[j - 1], entry) == 0 && !entries->at[j - 1].dropped)) {
            j++; /* doubled: the first one counts */
            continue;
        }
        if (i < list->sorted) {
            rec = &list->at[list->by_base[i]];
            r = strncmp(rec->base, entry->name, entry->base_size);
            if (r == 0 && rec->base[entry->base_size] != '\0')
                r = 1;
        }
        if (r < 0) {
            i++;
            continue;
        }
        if (r == 0 && rec->where == WHERE_GONE && i + 1 < list->sorted &&
            strcmp(list->at[list->by_base[i + 1]].base, rec->base) == 0) {
            i++; /* an older line of the same base */
            continue;
        }
        if (r == 0)
            note(m, rec, entry);
        else if (fresh != NULL)
            VEC_PUSH(fresh, *entry);
        j++;
    }
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static int scan_whole(struct maildir *m, const char *folder, struct arena *arena, struct maildir_entries *entries,
                      struct error *e)
{
    DIR *d = maildir_scan_open(m, folder, e);
    bool end = false;
    int r = d == NULL ? -1 : 0;

    while (r == 0 && !end)
        r = maildir_scan(m, d, *folder == 'n', arena, entries, 1000, &end, e);
    if (d != NULL)
        closedir(d);
    return r;
}

int maildir_search(struct maildir *m, struct error *e)
{
    struct maildir_entries entries = {0};
    struct stat st_new, st_cur;
    struct arena *arena;
    int r;

    if (fstatat(m->dir, "new", &st_new, 0) < 0 || fstatat(m->dir, "cur", &st_cur, 0) < 0)
        return error_sys(e, "stat", m->box->path);
    if (same_time(&st_new.st_mtim, &m->search_new) && same_time(&st_cur.st_mtim, &m->search_cur))
        return 0;
    arena = arena_new();
    r = scan_whole(m, "new", arena, &entries, e);
    if (r == 0)
        r = scan_whole(m, "cur", arena, &entries, e);
    if (r == 0) {
        maildir_entries_sort(&entries);
        maildir_entries_merge(m, &entries, NULL);
        m->search_new = st_new.st_mtim;
        m->search_cur = st_cur.st_mtim;
    }
    VEC_FREE(&entries);
    arena_free(arena);
    return r;
}
