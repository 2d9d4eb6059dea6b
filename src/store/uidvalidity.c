/* uidvalidity.c - dovecot-uidvalidity: where UIDVALIDITYs of new mailboxes come from (maildir-and-layouts 6.5).
 *
 * Two files in the CONTROL root: one with the last value as 8 hex digits, one empty whose name ends in them. Renaming the
 * second to the next value is the claim, so that two processes never take the same number, with no lock. */
#include "store/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define NAME "dovecot-uidvalidity"

static bool parse_hex8(struct slice text, uint32_t *out)
{
    uint32_t value = 0;

    if (text.size != 8)
        return false;
    for (size_t i = 0; i < 8; i++) {
        unsigned char c = text.at[i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint32_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = value;
    return true;
}

static void suffixed(char name[64], uint32_t value)
{
    snprintf(name, 64, NAME ".%08x", value);
}

/* The highest suffix in the folder, 0 = none; lower ones are removed. */
static uint32_t scan(int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    struct error ignored;
    uint32_t highest = 0, value;
    char name[64];

    if (d == NULL) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    while ((entry = readdir(d)) != NULL) {
        struct slice text = slice_from_str(entry->d_name);

        if (!slice_starts(text, SLICE(NAME ".")) || !parse_hex8(slice_from(text, sizeof(NAME)), &value))
            continue;
        if (value > highest) {
            if (highest != 0) {
                suffixed(name, highest);
                os_unlink(dir, name, &ignored);
            }
            highest = value;
        } else if (value < highest) {
            suffixed(name, value);
            os_unlink(dir, name, &ignored);
        }
    }
    closedir(d);
    return highest;
}

static int write_value(int dir, uint32_t value, const struct mail_modes *modes, struct error *e)
{
    char text[16];
    int fd, r;

    snprintf(text, sizeof(text), "%08x", value);
    fd = openat(dir, NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        fd = os_create(dir, NAME, modes->file, modes->gid, e);
    if (fd < 0)
        return -1;
    r = os_pwrite(fd, slice_of(text, 8), 0, e);
    close(fd);
    return r;
}

/* Nothing usable is there: begin with the time, claimed by O_EXCL. */
static int begin(int dir, const struct mail_modes *modes, uint32_t *out, struct error *e)
{
    uint32_t value = (uint32_t)time(NULL);
    char name[64];
    int fd;

    for (int tries = 0; tries < 10; tries++, value++) {
        suffixed(name, value);
        fd = os_create(dir, name, 0444, modes->gid, e);
        if (fd >= 0) {
            close(fd);
            *out = value;
            return write_value(dir, value, modes, e);
        }
        if (e->class != ERROR_EXISTS)
            return -1;
    }
    return -1;
}

static int next_value(int dir, const struct mail_modes *modes, uint32_t *out, struct error *e)
{
    struct buffer text = {0};
    uint32_t value = 0;
    char from[64], to[64];

    if (os_read_file(dir, NAME, 64, &text, e) < 0 || !parse_hex8(buffer_slice(&text), &value) || value == 0)
        value = scan(dir);
    buffer_free(&text);
    if (value == 0)
        return begin(dir, modes, out, e);
    for (int tries = 0; tries < 20; tries++) {
        uint32_t next = value == UINT32_MAX ? 1 : value + 1;

        suffixed(from, value);
        suffixed(to, next);
        if (os_rename(dir, from, dir, to, e) == 0) {
            *out = next;
            return write_value(dir, next, modes, e);
        }
        if (e->class != ERROR_NOT_FOUND)
            return -1;
        /* Another took it: the folder knows the latest. */
        value = scan(dir);
        if (value == 0)
            return begin(dir, modes, out, e);
    }
    return -1;
}

int store_next_uid_validity(struct mail_storage *storage, uint32_t *out, struct error *e)
{
    struct arena *arena = arena_new();
    const char *root = mail_location_path(&storage->at, arena, "", PATH_CONTROL);
    struct mail_modes modes = mail_modes_of(storage->at.root);
    int r = -1, dir;

    if (folder_make(root, &modes, e) == 0) {
        dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0) {
            error_sys(e, "open", root);
        } else {
            r = next_value(dir, &modes, out, e);
            if (r < 0)
                error_context(e, "%s/" NAME ": ", root);
            close(dir);
        }
    }
    arena_free(arena);
    return r;
}
