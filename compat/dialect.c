/* The parser: logical lines to sections and settings (config 1.3, 2, 3). */
#include "compat/dialect.h"

#include "base/log.h"
#include "conf/registry.h"

#include <stdio.h>

/* ---- frames ----------------------------------------------------------------------------------------------------- */

struct frame *dialect_push(struct dialect *d, enum frame_kind kind, const char *key)
{
    struct frame frame = *dialect_frame(d);
    frame.kind = kind;
    frame.place = d->place;
    frame.entry = NULL;
    frame.is_filter = false;
    frame.first_plugin = false;
    if (key != NULL) {
        frame.path = arena_printf(d->arena, "%s%s { ", frame.path, key);
        frame.full = arena_printf(d->arena, "%s%s/", frame.full, key);
    }
    VEC_PUSH(&d->frames, frame);
    return dialect_frame(d);
}

/* Back to what stands around: the vector may have moved, so nothing else is kept. */
static void pop_frame(struct dialect *d)
{
    d->frames.count--;
}

/* ---- filters ---------------------------------------------------------------------------------------------------- */

enum filter_kind { FILTER_LOCAL, FILTER_LOCAL_NAME, FILTER_REMOTE, FILTER_PROTOCOL, FILTER_NONE };
static const char *const filter_words[] = {"local", "local_name", "remote", "protocol"};

static enum filter_kind filter_kind(const char *key)
{
    for (int i = 0; i < FILTER_NONE; i++) {
        if (strcmp(key, filter_words[i]) == 0)
            return (enum filter_kind)i;
    }
    return FILTER_NONE;
}

static bool has_condition(const struct conf_facts *facts, enum filter_kind kind)
{
    switch (kind) {
    case FILTER_LOCAL:
        return facts->local.family != 0;
    case FILTER_LOCAL_NAME:
        return facts->local_name != NULL;
    case FILTER_REMOTE:
        return facts->remote.family != 0;
    default:
        return facts->service != NULL;
    }
}

/* Outside to inside: local, local_name, remote, protocol. */
static int check_nesting(const struct conf_facts *outer, enum filter_kind kind, struct error *e)
{
    if (kind == FILTER_PROTOCOL && outer->service != NULL)
        return error_set(e, ERROR_INVALID, "Nested protocol { protocol { .. } } block not allowed");
    /* The innermost of the conditions that must not stand outside is named. */
    static const enum filter_kind named[] = {FILTER_REMOTE, FILTER_PROTOCOL, FILTER_LOCAL_NAME};
    for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
        if (named[i] > kind && has_condition(outer, named[i])) {
            const char *in = filter_words[named[i]], *it = filter_words[kind];
            return error_set(e, ERROR_INVALID, "%s { %s { .. } } not allowed (use %s { %s { .. } } instead)", in, it,
                             it, in);
        }
    }
    return 0;
}

static int narrow(const char *word, const char *name, struct conf_net *net, struct error *e)
{
    struct conf_net inner;
    if (conf_net_parse(name, &inner, e) < 0)
        return -1;
    if (net->family != 0 && !conf_net_inside(&inner, net))
        return error_set(e, ERROR_INVALID, "%s net1 { %s net2 { .. } } requires net2 to be inside net1", word, word);
    *net = inner;
    return 0;
}

static const struct conf_builtin *find_builtin(const struct conf_builtin *outer, enum conf_block_kind kind,
                                               const char *key)
{
    size_t n, n_services;
    const struct conf_builtin *services = conf_builtin_services(&n_services);
    const struct conf_builtin *all = kind == BLOCK_SERVICE ? conf_builtin_services(&n) : conf_builtin_listeners(&n);
    for (size_t i = 0; i < n; i++) {
        if (all[i].kind == kind && strcmp(all[i].name, key) == 0 &&
            (kind == BLOCK_SERVICE || &services[all[i].service] == outer))
            return &all[i];
    }
    return NULL;
}

/* Follows the open sections in the frame's level; built-in ones are there without being written. */
static bool find_same_section(struct dialect *d, struct frame *frame)
{
    const struct conf_builtin *builtin = NULL;
    bool existed;
    frame->section = &frame->level->section;
    frame->entry = NULL;
    for (size_t i = 0; i < d->frames.count; i++) {
        const struct frame *each = &d->frames.at[i];
        if (each->kind == FRAME_LEVEL || each->is_filter)
            continue;
        if (each->kind != FRAME_BLOCK)
            return false;
        enum conf_block_kind kind = (enum conf_block_kind)frame->section->scope->defs[each->def].id;
        builtin = find_builtin(builtin, kind, each->entry->key);
        frame->entry = conf_section_find_entry(frame->section, each->def, each->entry->key);
        if (frame->entry == NULL && builtin == NULL)
            return false;
        if (frame->entry == NULL)
            frame->entry = conf_section_entry(d->arena, frame->section, each->def, slice_from_str(each->entry->key),
                                              d->place, &existed);
        frame->entry->builtin = builtin;
        frame->section = &frame->entry->section;
    }
    return true;
}

static int begin_filter(struct dialect *d, enum filter_kind kind, const char *name, struct error *e)
{
    struct frame *outer = dialect_frame(d);
    struct conf_facts facts = outer->level->facts;
    int result = check_nesting(&facts, kind, e);
    if (result == 0 && kind == FILTER_LOCAL)
        result = narrow("local", name, &facts.local, e);
    else if (result == 0 && kind == FILTER_REMOTE)
        result = narrow("remote", name, &facts.remote, e);
    else if (kind == FILTER_LOCAL_NAME)
        facts.local_name = name;
    else if (kind == FILTER_PROTOCOL)
        facts.service = name;
    if (result < 0)
        return -1;
    struct conf_level *level = conf_tree_level(d->tree, outer->level, &facts, d->place);
    /* Inside of a section a filter goes on in the same section of its own level, if that has it. */
    struct frame inner = *outer;
    inner.level = level;
    if (level != outer->level && !find_same_section(d, &inner))
        inner.kind = FRAME_NOTHING;
    *dialect_push(d, inner.kind, NULL) = inner;
    dialect_frame(d)->place = d->place;
    dialect_frame(d)->is_filter = true;
    return 0;
}

/* ---- sections --------------------------------------------------------------------------------------------------- */

static bool tests_connection(const struct conf_level *level)
{
    return level->facts.local.family != 0 || level->facts.remote.family != 0 || level->facts.local_name != NULL;
}

static int check_auth(const struct frame *frame, const struct conf_def *def, struct error *e)
{
    if (frame->kind == FRAME_LEVEL && (def->flags & CONF_IN_AUTH) && tests_connection(frame->level))
        return error_set(e, ERROR_INVALID, "Auth settings not supported inside local/remote blocks: %s", def->name);
    return 0;
}

static int begin_block(struct dialect *d, unsigned def, const char *key, const char *name, unsigned number,
                       struct error *e)
{
    struct frame *outer = dialect_frame(d);
    enum conf_block_kind kind = (enum conf_block_kind)outer->section->scope->defs[def].id;
    bool existed, unique = conf_scope_block(kind)->unique;
    struct conf_entry *entry =
        conf_section_entry(d->arena, outer->section, def, slice_from_str(name), d->place, &existed);
    if (existed && !unique)
        return error_set(e, ERROR_INVALID, "%s%s/%s already exists", outer->full, key, entry->name);
    entry->name = arena_strdup(d->arena, name); /* the last spelling holds */
    if (entry->builtin == NULL)
        entry->builtin = find_builtin(outer->entry == NULL ? NULL : outer->entry->builtin, kind, entry->key);
    struct frame *frame = dialect_push(d, FRAME_BLOCK, key);
    frame->entry = entry;
    frame->section = &entry->section;
    frame->def = def;
    struct buffer full = {0};
    buffer_append_str(&full, frame->full);
    if (name[0] == '\0')
        buffer_printf(&full, "%u", number);
    else
        conf_path_escape(&full, name);
    buffer_append_byte(&full, '/');
    frame->full = arena_str(d->arena, buffer_slice(&full));
    buffer_free(&full);
    return 0;
}

static int begin_section(struct dialect *d, const char *key, const char *name, struct error *e)
{
    enum filter_kind filter = filter_kind(key);
    struct frame *outer = dialect_frame(d);
    if (outer->kind == FRAME_STRLIST && filter == FILTER_NONE)
        return error_set(e, ERROR_INVALID, "Section not allowed here");
    if (filter == FILTER_PROTOCOL && strcmp(name, "managesieve") == 0 && outer->kind == FRAME_LEVEL) {
        dialect_obsolete_warn(d, "protocol managesieve {} has been replaced by protocol sieve { }");
        name = "sieve";
    }
    if (filter != FILTER_NONE)
        return begin_filter(d, filter, name, e);
    switch (dialect_v1_section(d, key, &name, &key, e)) {
    case OBSOLETE_DONE:
        return 0;
    case OBSOLETE_ERROR:
        return -1;
    case OBSOLETE_NO:
        break;
    }
    outer = dialect_frame(d);
    unsigned number = d->counter;
    if (name[0] == '\0')
        d->counter++;
    int def = outer->kind == FRAME_NOTHING ? -1 : conf_scope_find(outer->section->scope, slice_from_str(key));
    if (def < 0)
        return error_set(e, ERROR_INVALID, "Unknown setting: %s%s { %s", outer->path, key, key);
    const struct conf_def *at = &outer->section->scope->defs[def];
    if (check_auth(outer, at, e) < 0)
        return -1;
    if (at->kind == CONF_DEF_BLOCKS)
        return begin_block(d, (unsigned)def, key, name, number, e);
    if (at->kind == CONF_DEF_STRLIST) {
        enum conf_strlist which = (enum conf_strlist)at->id;
        conf_section_open_pairs(d->arena, outer->section, which);
        struct frame *frame = dialect_push(d, FRAME_STRLIST, key);
        frame->strlist = which;
        frame->full = arena_printf(d->arena, "%s%u/", frame->full, number);
        frame->first_plugin = number == 0 && name[0] == '\0' && strcmp(key, "plugin") == 0;
        return 0;
    }
    /* A setting in the shape of a section gets the section's name or number as its value. */
    const char *value = name[0] != '\0' ? name : arena_printf(d->arena, "%u", number);
    if (dialect_set(d, outer, key, value, e) < 0)
        return -1;
    dialect_push(d, FRAME_NOTHING, key);
    return 0;
}

static int end_section(struct dialect *d, struct error *e)
{
    if (d->frames.count == 1)
        return error_set(e, ERROR_INVALID, "Unexpected '}'");
    int result = dialect_v1_end(d, dialect_frame(d), e);
    pop_frame(d);
    return result;
}

/* ---- settings --------------------------------------------------------------------------------------------------- */

int dialect_assign(struct dialect *d, struct conf_section *section, unsigned def, const char *value, struct error *e)
{
    return conf_registry_set(d->arena, section, def, value, d->place, e);
}

/* Dovecot's other names for settings (config 2). */
static const char *real_name(const struct frame *frame, const char *key)
{
    if (frame->kind == FRAME_LEVEL && strcmp(key, "mail") == 0)
        return "mail_location";
    if (frame->kind == FRAME_LEVEL && strcmp(key, "doveadm_proxy_port") == 0)
        return "doveadm_port";
    if (frame->kind == FRAME_BLOCK && frame->section->scope == conf_scope_block(BLOCK_NAMESPACE) &&
        (strcmp(key, "mail") == 0 || strcmp(key, "mail_location") == 0))
        return "location";
    return key;
}

static void warn_if_filtered(struct dialect *d, const struct frame *frame, unsigned def)
{
    struct conf_place *first = &d->filtered[def];
    if (frame->level->number != 0) {
        if (first->file == NULL)
            *first = d->place;
    } else if (first->file != NULL) {
        log_warning(NULL,
                    "%s line %u: Global setting %s won't change the setting inside an earlier filter at %s line %u (if "
                    "this is intentional, avoid this warning by moving the global setting before %s line %u)",
                    d->place.file, d->place.line, conf_scope_global()->defs[def].name, first->file, first->line,
                    first->file, first->line);
    }
}

/* "plugin/x", "namespace/inbox/inbox": sections that exist already. */
static int set_by_path(struct dialect *d, struct conf_section *section, struct slice path, const char *value,
                       bool *found, struct error *e)
{
    struct slice part = SLICE_EMPTY, name;
    (void)slice_split(&path, '/', &part);
    int def = conf_scope_find(section->scope, part);
    *found = false;
    if (def < 0)
        return 0;
    const struct conf_def *at = &section->scope->defs[def];
    if (at->kind == CONF_DEF_VALUE && path.size == 0) {
        *found = true;
        return dialect_assign(d, section, (unsigned)def, value, e);
    }
    if (at->kind == CONF_DEF_STRLIST && path.size > 0 && slice_find(path, '/') < 0) {
        *found = true;
        conf_section_set_pair(d->arena, section, (enum conf_strlist)at->id, arena_str(d->arena, path), value, d->place);
        return 0;
    }
    if (at->kind != CONF_DEF_BLOCKS || !slice_split(&path, '/', &name))
        return 0;
    uint32_t index;
    bool is_index = slice_to_u32(name, &index);
    struct conf_list *list = conf_section_list(section, (unsigned)def);
    struct conf_entry *entry = conf_section_find_entry(section, (unsigned)def, arena_str(d->arena, name));
    for (struct conf_entry *each = list == NULL ? NULL : list->first; entry == NULL && is_index && each != NULL;
         each = each->next) {
        if (each->index == index)
            entry = each;
    }
    return entry == NULL ? 0 : set_by_path(d, &entry->section, path, value, found, e);
}

int dialect_set(struct dialect *d, struct frame *frame, const char *key, const char *value, struct error *e)
{
    bool found = false;
    if (frame->kind == FRAME_STRLIST) {
        if (strchr(key, '/') != NULL)
            return error_set(e, ERROR_INVALID, "Unknown setting: %s%s", frame->path, key);
        conf_section_set_pair(d->arena, frame->section, frame->strlist, arena_strdup(d->arena, key), value, d->place);
        return 0;
    }
    key = real_name(frame, key);
    int def = frame->kind == FRAME_NOTHING ? -1 : conf_scope_find(frame->section->scope, slice_from_str(key));
    if (def >= 0) {
        const struct conf_def *at = &frame->section->scope->defs[def];
        if (at->flags & CONF_OWN)
            def = -1;
        else if (at->kind == CONF_DEF_STRLIST) {
            conf_section_open_pairs(d->arena, frame->section, (enum conf_strlist)at->id);
            return 0;
        }
        else if (at->kind == CONF_DEF_BLOCKS) {
            /* "passdb = x": an entry without a name, and nothing in it. */
            if (check_auth(frame, at, e) < 0)
                return -1;
            (void)conf_section_entry(d->arena, frame->section, (unsigned)def, SLICE_EMPTY, d->place, &found);
            return 0;
        }
    }
    if (def >= 0) {
        if (frame->kind == FRAME_LEVEL)
            warn_if_filtered(d, frame, (unsigned)def);
        if (dialect_assign(d, frame->section, (unsigned)def, value, e) < 0)
            return -1;
        return check_auth(frame, &frame->section->scope->defs[def], e);
    }
    if (frame->kind == FRAME_LEVEL && strchr(key, '/') != NULL && key[strlen(key) - 1] != '/') {
        if (set_by_path(d, frame->section, slice_from_str(key), value, &found, e) < 0)
            return -1;
        if (found)
            return 0;
    }
    return error_set(e, ERROR_INVALID, "Unknown setting: %s%s", frame->path, key);
}

int dialect_set_global(struct dialect *d, const char *const *parts, const char *value, struct error *e)
{
    struct conf_section *section = &d->tree->global->section;
    const struct conf_builtin *builtin = NULL;
    for (;; parts += 2) {
        int def = conf_scope_find(section->scope, slice_from_str(parts[0]));
        if (def < 0)
            return error_set(e, ERROR_INVALID, "Unknown setting: %s", parts[0]);
        if (parts[1] == NULL)
            return dialect_assign(d, section, (unsigned)def, value, e);
        bool existed;
        struct conf_entry *entry =
            conf_section_entry(d->arena, section, (unsigned)def, slice_from_str(parts[1]), d->place, &existed);
        if (entry->builtin == NULL)
            entry->builtin = find_builtin(builtin, (enum conf_block_kind)section->scope->defs[def].id, entry->key);
        builtin = entry->builtin;
        section = &entry->section;
    }
}

static int set_line(struct dialect *d, const char *key, const char *raw, struct error *e)
{
    struct frame *frame = dialect_frame(d);
    const char *value;
    bool plain;
    if (dialect_value(d, frame, key, raw, &value, &plain, e) < 0)
        return -1;
    switch (dialect_v1_setting(d, frame, &key, value, e)) {
    case OBSOLETE_DONE:
        return 0;
    case OBSOLETE_ERROR:
        return -1;
    case OBSOLETE_NO:
        break;
    }
    struct frame level = *frame;
    if (frame->kind == FRAME_V1_AUTH) {
        level.kind = FRAME_LEVEL;
        frame = &level;
    }
    if (plain) {
        switch (dialect_obsolete(d, frame, &key, &value, e)) {
        case OBSOLETE_DONE:
            return 0;
        case OBSOLETE_ERROR:
            return -1;
        case OBSOLETE_NO:
            break;
        }
    }
    return dialect_set(d, frame, key, value, e);
}

/* ---- lines ------------------------------------------------------------------------------------------------------ */

static char *skip_white(char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

/* Cuts the name off a section's header; p at its first byte. -> what follows, or NULL. */
static char *cut_name(char *p, const char **name)
{
    if (*p == '{') {
        *name = "";
        return p;
    }
    if (*p == '"') {
        char *end = strchr(p + 1, '"'), *out = p + 1;
        if (end == NULL)
            return NULL;
        *end = '\0';
        *name = out;
        for (const char *in = p + 1; *in != '\0'; in++) {
            if (*in == '\\' && in[1] != '\0')
                in++;
            *out++ = *in;
        }
        *out = '\0';
        return skip_white(end + 1);
    }
    *name = p;
    while (*p != '\0' && *p != ' ' && *p != '\t')
        p++;
    if (*p != '\0')
        *p++ = '\0';
    return skip_white(p);
}

static int parse_line(struct dialect *d, char *line, struct error *e)
{
    char *key = line, *p = line;
    while (*p != '\0' && *p != ' ' && *p != '\t' && *p != '=')
        p++;
    char *key_end = p;
    p = skip_white(p);
    char next = *p;
    size_t size = (size_t)(key_end - key);
    if (size == 0 && next == '=' && dialect_frame(d)->kind == FRAME_LEVEL)
        return error_set(e, ERROR_INVALID, "Missing key name ('=' at the beginning of line)");
    key = arena_str(d->arena, slice_of(key, size));
    bool try = strcmp(key, "!include_try") == 0;
    if (try || strcmp(key, "!include") == 0)
        return lines_include(&d->lines, arena_strdup(d->arena, p), !try, e);
    if (next == '=')
        return set_line(d, key, arena_strdup(d->arena, skip_white(p + 1)), e);
    if (strcmp(key, "}") == 0 && next == '\0')
        return end_section(d, e);
    const char *name;
    p = cut_name(p, &name);
    if (p == NULL || *p != '{' || size == 0)
        return error_set(e, ERROR_INVALID, "Expecting '{'");
    name = arena_strdup(d->arena, name);
    if (*skip_white(p + 1) != '\0')
        return error_set(e, ERROR_INVALID, "Garbage after '{'");
    return begin_section(d, key, arena_strdup(d->arena, name), e);
}

static int read_all(struct dialect *d, struct error *late, struct error *e)
{
    char *line;
    while (lines_next(&d->lines, &line, &d->place)) {
        if (parse_line(d, line, e) < 0) {
            const struct input *top = d->lines.top;
            return error_context(e, "Error in configuration file %s line %u: ", top->path, top->line);
        }
    }
    if (d->frames.count > 1) {
        const struct conf_place *start = &dialect_frame(d)->place;
        error_set(late, ERROR_INVALID, "Error in configuration file %s: Missing '}' (section started at %s:%u)",
                  d->tree->path, start->file, start->line);
    }
    return 0;
}

static void start_dialect(struct dialect *d, const char *path, const struct conf_reading *options)
{
    d->options = options;
    d->tree = conf_tree_new(path);
    d->arena = d->lines.arena = d->tree->arena;
    d->filtered = ARENA_ARRAY(d->arena, struct conf_place, conf_scope_global()->count);
    struct frame frame = {.kind = FRAME_LEVEL, .level = d->tree->global, .section = &d->tree->global->section,
                          .path = "", .full = ""};
    VEC_PUSH(&d->frames, frame);
}

static int finish_dialect(struct dialect *d, int result, struct conf_tree **tree)
{
    lines_close(&d->lines);
    VEC_FREE(&d->frames);
    if (result == 0)
        *tree = d->tree;
    else
        conf_tree_free(d->tree);
    return result;
}

int compat_read(const char *path, const struct conf_reading *options, struct conf_tree **tree, struct error *late,
                struct error *e)
{
    struct dialect d = {0};
    start_dialect(&d, path, options);
    int result = lines_open(&d.lines, path, e);
    if (result == 0)
        result = read_all(&d, late, e);
    return finish_dialect(&d, result, tree);
}

int compat_read_text(const char *text, const struct conf_reading *options, struct conf_tree **tree, struct error *e)
{
    struct dialect d = {0};
    struct error late;
    error_clear(&late);
    start_dialect(&d, "text", options);
    lines_open_text(&d.lines, "text", slice_from_str(text));
    int result = read_all(&d, &late, e);
    if (result == 0 && late.class != ERROR_NONE) {
        *e = late;
        result = -1;
    }
    return finish_dialect(&d, result, tree);
}
