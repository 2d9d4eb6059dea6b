/* given.c - UIDs that messages bring along (a conversion) survive a crash while the files are put in place.
 *
 * The files of a commit get their names before the uidlist names them. Whoever dies in between leaves files that the next
 * sync takes for new ones: with the next free UIDs, and without the GUIDs and UIDLs that they were to have. For a delivery
 * that is right; where the UIDs were given, what is to be written stands beforehand in a file of its own, in the form of a
 * uidlist, and whoever finds new files under the uidlist's lock looks there first. It is removed when uidlist and
 * index have it: until then what is put into the index has been shown to nobody, wherever its file lies. One that was left
 * behind harms nobody, since no other file will ever have these names; the end of the conversion removes it. */
#include "store/internal.h"
#include "store/maildir/maildir.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define NAME "dovecot-uidlist.given.tmp"
#define FILE_MAX (64u << 20)

static int remove_file(struct maildir *m, struct error *e)
{
    if (!m->given)
        return 0;
    m->given = false;
    return os_unlink(m->control, NAME, e) == 0 || e->class == ERROR_NOT_FOUND ? 0 : -1;
}

void maildir_given_done(struct maildir *m)
{
    struct error e;

    if (remove_file(m, &e) < 0)
        log_error_value(mail_user_log(m->box->user), &e);
}

int maildir_given_write(struct maildir *m, const struct maildir_record *at, size_t count, struct error *e)
{
    const struct mail_modes *modes = &m->box->modes;
    struct buffer out = {0};
    int fd, r;

    if (count == 0)
        return 0;
    maildir_uidlist_put_header(&out, &m->list);
    for (size_t i = 0; i < count; i++)
        maildir_uidlist_put(&out, &at[i]);
    fd = os_create(m->control, NAME, modes->file, modes->gid, e);
    if (fd < 0 && e->class == ERROR_EXISTS && os_unlink(m->control, NAME, e) == 0)
        fd = os_create(m->control, NAME, modes->file, modes->gid, e);
    if (fd >= 0) {
        m->given = true;
        r = os_write(fd, buffer_slice(&out), e);
        if (r == 0 && !m->fsync_never)
            r = os_sync(fd, e);
        close(fd);
        if (r < 0)
            maildir_given_done(m);
    } else {
        r = -1;
    }
    buffer_free(&out);
    return r < 0 ? error_context(e, "%s/" NAME ": ", m->box->control_path) : 0;
}

bool maildir_given_there(struct maildir *m)
{
    m->given = m->given || faccessat(m->control, NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    return m->given;
}

int maildir_given_end(struct maildir *m, struct error *e)
{
    return maildir_given_there(m) ? remove_file(m, e) : 0;
}

static int compare_uid(const void *a, const void *b)
{
    const struct maildir_given *x = a, *y = b;

    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

/* The lines of the file, if it is about this mailbox; a broken one is none. */
static bool read_file(struct maildir *m, struct maildir_uidlist *given)
{
    struct buffer text = {0};
    struct error e;
    size_t used, doubled;
    bool ok = os_read_file(m->control, NAME, FILE_MAX, &text, &e) == 0 &&
              maildir_uidlist_parse(given, buffer_slice(&text), &used, &e) == 0 && given->uid_validity == m->list.uid_validity;

    buffer_free(&text);
    if (ok)
        maildir_uidlist_index(given, &doubled);
    return ok;
}

size_t maildir_given_match(struct maildir *m, const struct maildir_entries *fresh, struct maildir_given *out)
{
    struct maildir_uidlist given = {.other_fields = ""};
    size_t n = 0, kept = 0;
    uint32_t next = m->list.next_uid;

    if (read_file(m, &given)) {
        m->given = true;
        for (size_t i = 0; i < fresh->count; i++) {
            const struct maildir_entry *entry = &fresh->at[i];
            const struct maildir_record *rec = maildir_uidlist_find_base(&given, entry->name, entry->base_size);

            if (rec != NULL)
                out[n++] = (struct maildir_given){.uid = rec->uid, .entry = i, .fields = rec->fields == NULL ? NULL
                                                  : arena_strdup(maildir_uidlist_arena(&m->list), rec->fields)};
        }
        if (n > 1)
            qsort(out, n, sizeof(*out), compare_uid);
    }
    /* UIDs that others have got meanwhile are gone for these. */
    for (size_t i = 0; i < n; i++) {
        if (out[i].uid < next || out[i].uid >= UINT32_MAX - 1)
            continue;
        next = out[i].uid + 1;
        out[kept++] = out[i];
    }
    maildir_uidlist_free(&given);
    return kept;
}
