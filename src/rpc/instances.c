/* instances.c - the file of servers that were started here. Replaced as a whole; the last writer wins, as with Dovecot. */
#include "rpc/instances.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

enum { FILE_MOST = 1024 * 1024, FIELDS = 4 };

static const char *file_path(struct arena *arena, const char *state_dir)
{
    return arena_printf(arena, "%s/instances", state_dir);
}

int instances_read(struct arena *arena, const char *state_dir, struct instances *out, struct error *e)
{
    struct buffer bytes = {0};
    struct slice rest, line;

    if (os_read_file(AT_FDCWD, file_path(arena, state_dir), FILE_MOST, &bytes, e) < 0)
        return e->class == ERROR_NOT_FOUND ? 0 : -1;
    rest = buffer_slice(&bytes);
    while (rest.size > 0 && slice_split(&rest, '\n', &line)) {
        struct slice *fields;
        size_t n = text_tab_fields(arena, line, &fields);
        struct instance one = {"", "", "", ""};
        const char **const to[FIELDS] = {&one.last_used, &one.name, &one.base_dir, &one.config};

        for (size_t i = 0; i < n && i < FIELDS; i++)
            *to[i] = arena_str(arena, fields[i]);
        if (*one.base_dir != '\0')
            VEC_PUSH(out, one);
    }
    buffer_free(&bytes);
    return 0;
}

int instances_write(struct arena *arena, const char *state_dir, const struct instances *list, struct error *e)
{
    const char *path = file_path(arena, state_dir), *temp = arena_printf(arena, "%s.%ld", path, (long)getpid());
    struct buffer bytes = {0};
    int fd, r;

    for (size_t i = 0; i < list->count; i++) {
        const struct instance *one = &list->at[i];
        const char *const fields[FIELDS] = {one->last_used, one->name, one->base_dir, one->config};

        for (size_t j = 0; j < FIELDS; j++) {
            text_tab_escape(&bytes, slice_from_str(fields[j]));
            buffer_append_str(&bytes, j + 1 < FIELDS ? "\t" : "\n");
        }
    }
    fd = os_create(AT_FDCWD, temp, 0644, (gid_t)-1, e);
    r = fd < 0 ? -1 : os_write(fd, buffer_slice(&bytes), e);
    if (fd >= 0)
        (void)close(fd);
    buffer_free(&bytes);
    return r < 0 ? -1 : os_rename(AT_FDCWD, temp, AT_FDCWD, path, e);
}

int instances_touch(const char *state_dir, const char *name, const char *base_dir, const char *config, struct error *e)
{
    struct arena *arena = arena_new();
    struct instances list = {0}, kept = {0};
    struct instance self = {arena_printf(arena, "%lld", (long long)time(NULL)), name, base_dir, config};
    int r = instances_read(arena, state_dir, &list, e);

    for (size_t i = 0; i < list.count; i++)
        if (strcmp(list.at[i].base_dir, base_dir) != 0)
            VEC_PUSH(&kept, list.at[i]);
    VEC_PUSH(&kept, self);
    if (r == 0)
        r = instances_write(arena, state_dir, &kept, e);
    VEC_FREE(&list);
    VEC_FREE(&kept);
    arena_free(arena);
    return r;
}
