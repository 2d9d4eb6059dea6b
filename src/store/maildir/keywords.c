/* keywords.c - dovecot-keywords: which keyword the letters a to z mean (maildir-and-layouts 8.4). */
#include "store/maildir/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define NAME "dovecot-keywords"

void maildir_keywords_free(struct maildir_keywords *kw)
{
    for (int i = 0; i < MAILDIR_LETTERS; i++)
        mem_free(kw->names[i]);
    *kw = (struct maildir_keywords){0};
}

int maildir_keyword_letter(const struct maildir_keywords *kw, struct slice name)
{
    for (int i = 0; i < MAILDIR_LETTERS; i++)
        if (kw->names[i] != NULL && slice_equal_str_nocase(name, kw->names[i]))
            return i;
    return -1;
}

int maildir_keyword_add(struct maildir_keywords *kw, struct slice name)
{
    for (int i = 0; i < MAILDIR_LETTERS; i++) {
        if (kw->names[i] == NULL) {
            kw->names[i] = mem_strndup(name);
            kw->changed = true;
            return i;
        }
    }
    return -1;
}

size_t maildir_keywords_parse(struct maildir_keywords *kw, struct slice text)
{
    struct slice line, number;
    size_t bad = 0;
    uint32_t n;

    while (slice_split(&text, '\n', &line)) {
        if (line.size == 0)
            continue;
        if (!slice_split(&line, ' ', &number) || !slice_to_u32(number, &n) || n >= MAILDIR_LETTERS || line.size == 0 ||
            memchr(line.at, '\0', line.size) != NULL) {
            bad++;
            continue;
        }
        /* The same name for two letters: the second has none, since they must stay apart. Two names for a letter: the later one. */
        if (maildir_keyword_letter(kw, line) < 0) {
            mem_free(kw->names[n]);
            kw->names[n] = mem_strndup(line);
        }
    }
    return bad;
}

int maildir_keywords_refresh(struct maildir *m, struct error *e)
{
    struct maildir_keywords *kw = &m->keywords;
    struct buffer text = {0};
    struct stat st;

    if (fstatat(m->control, NAME, &st, 0) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return error_sys(e, "stat", NAME);
        if (!kw->loaded) {
            kw->loaded = true;
        } else if (kw->mtime.tv_sec != 0) {
            maildir_keywords_free(kw);
            kw->loaded = true;
        }
        return 0;
    }
    if (kw->loaded && st.st_mtim.tv_sec == kw->mtime.tv_sec && st.st_mtim.tv_nsec == kw->mtime.tv_nsec)
        return 0;
    if (os_read_file(m->control, NAME, 1u << 20, &text, e) < 0)
        return -1;
    maildir_keywords_free(kw);
    maildir_keywords_parse(kw, buffer_slice(&text)); /* of lines that are none nobody is told, nor by the real one */
    buffer_free(&text);
    kw->loaded = true;
    kw->mtime = st.st_mtim;
    return 0;
}

int maildir_keywords_write(struct maildir *m, struct error *e)
{
    struct maildir_keywords *kw = &m->keywords;
    const struct mail_modes *modes = &m->box->modes;
    struct buffer out = {0};
    struct error ignored;
    struct stat st;
    int fd, r;

    if (!kw->changed)
        return 0;
    for (int i = 0; i < MAILDIR_LETTERS; i++)
        if (kw->names[i] != NULL)
            buffer_printf(&out, "%d %s\n", i, kw->names[i]);
    /* The uidlist lock is ours, so a lock file here is a dead writer's. */
    os_unlink(m->control, NAME ".lock", &ignored);
    fd = os_create(m->control, NAME ".lock", modes->file, modes->gid, e);
    if (fd < 0) {
        buffer_free(&out);
        return -1;
    }
    r = os_write(fd, buffer_slice(&out), e);
    if (r == 0 && !m->fsync_never)
        r = os_sync(fd, e);
    /* Others look at the seconds of the time only: it must grow. */
    if (r == 0 && kw->mtime.tv_sec != 0 && fstat(fd, &st) == 0 && st.st_mtim.tv_sec <= kw->mtime.tv_sec)
        r = os_set_times(m->control, NAME ".lock", kw->mtime.tv_sec + 1, e);
    if (r == 0)
        r = os_rename(m->control, NAME ".lock", m->control, NAME, e);
    if (r == 0 && fstat(fd, &st) == 0) {
        kw->mtime = st.st_mtim;
        kw->changed = false;
    }
    if (r < 0)
        os_unlink(m->control, NAME ".lock", &ignored);
    close(fd);
    buffer_free(&out);
    return r;
}
