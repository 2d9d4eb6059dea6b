/* Sections of Dovecot 1: auth NAME { passdb DRIVER { } socket listen { master { } client { } } } and the like
 * (config 6). */
#include "compat/dialect.h"

static bool inside(const struct dialect *d, enum frame_kind kind)
{
    return d->frames.at[d->frames.count - 1].kind == kind;
}

static enum obsolete begin_auth_database(struct dialect *d, const char *key, const char **name, struct error *e)
{
    dialect_obsolete_warn(d, "%s %s {} has been replaced by %s { driver=%s }", key, *name, key, *name);
    struct frame *outer = dialect_frame(d);
    int def = conf_scope_find(outer->section->scope, slice_from_str(key));
    bool existed;
    struct conf_entry *entry =
        conf_section_entry(d->arena, outer->section, (unsigned)def, SLICE_EMPTY, d->place, &existed);
    struct frame *frame = dialect_push(d, FRAME_BLOCK, key);
    frame->entry = entry;
    frame->section = &entry->section;
    frame->def = (unsigned)def;
    d->counter++;
    int driver = conf_scope_find(entry->section.scope, SLICE("driver"));
    if ((*name)[0] != '\0' && dialect_assign(d, &entry->section, (unsigned)driver, *name, e) < 0)
        return OBSOLETE_ERROR;
    return OBSOLETE_DONE;
}

enum obsolete dialect_v1_section(struct dialect *d, const char *key, const char **name, const char **new_key,
                                 struct error *e)
{
    (void)new_key;
    if (inside(d, FRAME_LEVEL)) {
        if (strcmp(key, "service") == 0 && strcmp(*name, "dns_client") == 0) {
            dialect_obsolete_warn(d, "service dns_client {} has been replaced by service dns-client { }");
            *name = "dns-client";
        } else if (strcmp(key, "auth") == 0) {
            dialect_obsolete_warn(
                d, "add auth_ prefix to all settings inside auth {} and remove the auth {} section completely");
            dialect_push(d, FRAME_V1_AUTH, NULL);
            return OBSOLETE_DONE;
        }
        return OBSOLETE_NO;
    }
    if (inside(d, FRAME_V1_AUTH)) {
        if (strcmp(key, "passdb") == 0 || strcmp(key, "userdb") == 0)
            return begin_auth_database(d, key, name, e);
        if (strcmp(key, "socket") == 0 && strcmp(*name, "connect") == 0)
            dialect_obsolete_warn(
                d, "socket connect {} is no longer supported, configure external auth server separately");
        else if (strcmp(key, "socket") == 0 && strcmp(*name, "listen") == 0) {
            dialect_push(d, FRAME_V1_SOCKET, NULL);
            return OBSOLETE_DONE;
        }
        return OBSOLETE_NO;
    }
    if (inside(d, FRAME_V1_SOCKET) && (strcmp(key, "master") == 0 || strcmp(key, "client") == 0)) {
        struct frame *frame = dialect_push(d, FRAME_V1_LISTEN, NULL);
        frame->v1_type = key;
        frame->v1_path = frame->v1_mode = frame->v1_user = frame->v1_group = NULL;
        return OBSOLETE_DONE;
    }
    return OBSOLETE_NO;
}

enum obsolete dialect_v1_setting(struct dialect *d, struct frame *frame, const char **key, const char *value,
                                 struct error *e)
{
    if (frame->kind == FRAME_V1_AUTH) {
        if (strncmp(*key, "auth_", 5) != 0)
            *key = arena_printf(d->arena, "auth_%s", *key);
        return OBSOLETE_NO;
    }
    if (frame->kind == FRAME_V1_SOCKET) {
        error_set(e, ERROR_INVALID, "Unknown setting: %s%s", frame->path, *key);
        return OBSOLETE_ERROR;
    }
    if (frame->kind != FRAME_V1_LISTEN)
        return OBSOLETE_NO;
    if (strcmp(*key, "path") == 0)
        frame->v1_path = value;
    else if (strcmp(*key, "mode") == 0)
        frame->v1_mode = value;
    else if (strcmp(*key, "user") == 0)
        frame->v1_user = value;
    else if (strcmp(*key, "group") == 0)
        frame->v1_group = value;
    else {
        error_set(e, ERROR_INVALID, "Unknown setting: %s%s", frame->path, *key);
        return OBSOLETE_ERROR;
    }
    return OBSOLETE_DONE;
}

static bool ends_with(const char *text, const char *suffix)
{
    return slice_ends(slice_from_str(text), slice_from_str(suffix));
}

static const char *without_base_dir(struct dialect *d, const char *path)
{
    int def = conf_scope_find(conf_scope_global(), SLICE("base_dir"));
    const char *base = conf_section_text(d->arena, &d->tree->global->section, NULL, (unsigned)def);
    size_t size = strlen(base);
    while (size > 0 && base[size - 1] == '/')
        size--;
    if (size > 0 && strncmp(path, base, size) == 0 && path[size] == '/')
        return path + size + 1;
    return path;
}

int dialect_v1_end(struct dialect *d, struct frame *frame, struct error *e)
{
    if (frame->kind != FRAME_V1_LISTEN)
        return 0;
    if (frame->v1_path == NULL)
        return error_set(e, ERROR_INVALID, "socket listen {} is missing path");
    bool master = strcmp(frame->v1_type, "master") == 0;
    bool named = ends_with(frame->v1_path, "-master") || ends_with(frame->v1_path, "-userdb");
    if (master && !named)
        return error_set(e, ERROR_INVALID,
                         "socket listen { master { path=.. } } must end with -master (or -userdb) suffix");
    if (!master && named)
        return error_set(e, ERROR_INVALID,
                         "socket listen { client { path=.. } } must end not with -master or -userdb suffix");
    const char *path = without_base_dir(d, frame->v1_path);
    const struct {
        const char *member, *value;
    } members[] = {{"path", path}, {"mode", frame->v1_mode}, {"user", frame->v1_user}, {"group", frame->v1_group}};
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const char *parts[] = {"service", "auth", "unix_listener", path, members[i].member, NULL};
        if (members[i].value != NULL && dialect_set_global(d, parts, members[i].value, e) < 0)
            return -1;
    }
    return 0;
}
