/* The snapshot: a compiled configuration as lines of TAB-separated, escaped fields (docs/formats/snapshot.md).
 *
 * One text form for all readers; the reader trusts nothing: names must exist in the schema, values must have their
 * type, sections must close. What a service may not see is left out when the snapshot is written. */
#include "base/text.h"
#include "conf/settings.h"

#include <stdio.h>

#define SNAPSHOT_MAGIC "yarilo-config"
#define SNAPSHOT_VERSION "1"

/* ---- who sees what ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *program;
    const char *modules[8];
} seen_by[] = {
    {"imap-login", {"imap-login", "ssl", "ssl-server"}},
    {"pop3-login", {"pop3-login", "ssl", "ssl-server"}},
    {"submission-login", {"submission-login", "ssl", "ssl-server"}},
    {"managesieve-login", {"managesieve-login", "ssl", "ssl-server"}},
    {"imap-urlauth-login", {"imap-urlauth-login", "ssl"}},
    {"imap-urlauth", {"imap-urlauth", "mail"}},
    {"imap-urlauth-worker", {"imap-urlauth-worker", "mail"}},
    {"auth", {"auth", "ssl"}},
    {"lmtp", {"lmtp", "ssl", "ssl-server", "smtp-submit"}},
    {"lmtp-deliver", {"lmtp", "lda", "mail", "ssl", "smtp-submit"}}, /* the delivery workers: they run as users */
    {"submission", {"submission", "ssl", "ssl-server", "smtp-submit"}},
    {"imap", {"imap", "mail", "ssl", "smtp-submit", "imap-urlauth"}},
    {"pop3", {"pop3", "mail", "ssl"}},
    {"managesieve", {"managesieve", "mail", "ssl"}},
    {"dict", {"dict", "ssl"}},
    {"doveadm-server", {"*"}},      /* runs every command, as doveadm itself, which compiles the file */
    {"doveadm-front", {"ssl", "ssl-server"}},
    {"stats", {"stats", "ssl"}},
    {"anvil", {"anvil"}},
    {"log", {"log"}},
    {"dns-client", {"dns-client"}},
    {"ipc", {"ipc"}},
    {"config", {"*"}}, /* answers for all of them */
};

static struct slice program_of(const struct conf_tree *tree, const char *service, struct arena *arena)
{
    int def = conf_scope_find(conf_scope_global(), SLICE("service"));
    const struct conf_entry *entry = conf_section_find_entry(&tree->global->section, (unsigned)def, service);
    const struct conf_builtin *builtin = NULL;
    size_t n;
    const struct conf_builtin *all = conf_builtin_services(&n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(all[i].name, service) == 0)
            builtin = &all[i];
    }
    const struct conf_scope *scope = conf_scope_block(BLOCK_SERVICE);
    struct conf_section empty;
    conf_section_init(&empty, scope);
    const char *executable = conf_section_text(arena, entry == NULL ? &empty : &entry->section, builtin,
                                               (unsigned)conf_scope_find(scope, SLICE("executable")));
    struct slice rest = slice_from_str(executable), program = SLICE_EMPTY;
    (void)slice_split(&rest, ' ', &program);
    ptrdiff_t slash = slice_find_last(program, '/');
    if (slash >= 0)
        program = slice_from(program, (size_t)slash + 1);
    return program.size != 0 ? program : slice_from_str(service);
}

const char *const *conf_service_modules(const struct conf_tree *tree, const char *service)
{
    struct arena *arena = arena_new();
    struct slice program = program_of(tree, service, arena);
    const char *const *modules = NULL;
    for (size_t i = 0; i < sizeof(seen_by) / sizeof(seen_by[0]); i++) {
        if (slice_equal_str(program, seen_by[i].program))
            modules = seen_by[i].modules;
    }
    arena_free(arena);
    return modules;
}

struct writer {
    struct buffer *out;
    bool all;                     /* no service was named */
    const char *const *modules;   /* NULL: everything but the keys of the TLS server */
};

static bool may_see(const struct writer *w, enum conf_group group)
{
    if (w->all || group == GROUP_master)
        return true;
    if (w->modules == NULL)
        return group != GROUP_ssl_server;
    for (const char *const *m = w->modules; *m != NULL; m++) {
        if (**m == '*' || conf_group_in_module(group, *m))
            return true;
    }
    return false;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static void put_line(struct writer *w, const char *kind, const char *const *fields, size_t n)
{
    buffer_append_str(w->out, kind);
    for (size_t i = 0; i < n; i++) {
        buffer_append_byte(w->out, '\t');
        text_tab_escape(w->out, slice_from_str(fields[i] == NULL ? "" : fields[i]));
    }
    buffer_append_byte(w->out, '\n');
}
#define PUT(w, kind, ...)                                                                                              \
    put_line((w), (kind), (const char *const[]){__VA_ARGS__},                                                          \
             sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void put_section(struct writer *w, const struct conf_section *section)
{
    for (const struct conf_value *v = section->first; v != NULL; v = v->next) {
        const struct conf_def *def = &section->scope->defs[v->def];
        if (may_see(w, (enum conf_group)def->group))
            PUT(w, "S", def->name, v->text);
    }
    for (unsigned i = 0; section->lists != NULL && i < section->scope->count; i++) {
        const struct conf_def *def = &section->scope->defs[i];
        if (section->lists[i] == NULL || !may_see(w, (enum conf_group)def->group))
            continue;
        for (const struct conf_entry *entry = section->lists[i]->first; entry != NULL; entry = entry->next) {
            PUT(w, "B", def->name, entry->key, entry->name);
            put_section(w, &entry->section);
            buffer_append_str(w->out, "E\n");
        }
    }
    static const struct {
        const char *name;
        enum conf_group group;
    } lists[STRLISTS] = {[STRLIST_plugin] = {"plugin", GROUP_plugin}, [STRLIST_dict] = {"dict", GROUP_dict}};
    for (int which = 0; section->pairs != NULL && which < STRLISTS; which++) {
        if (!may_see(w, lists[which].group))
            continue;
        for (const struct conf_pair *p = section->pairs[which].first; p != NULL; p = p->next)
            PUT(w, "P", lists[which].name, p->key, p->value);
    }
}

/* A name that is given stands behind "=": an empty one, which never matches, is not an absent one. */
static void put_name(const char *name, struct buffer *out)
{
    if (name != NULL)
        buffer_printf(out, "=%s", name);
}

static void put_level(struct writer *w, const struct conf_level *level)
{
    struct buffer service = {0}, name = {0}, local = {0}, remote = {0};
    char line[16];
    put_name(level->facts.service, &service);
    put_name(level->facts.local_name, &name);
    if (level->facts.local.family != 0)
        conf_net_format(&level->facts.local, &local);
    if (level->facts.remote.family != 0)
        conf_net_format(&level->facts.remote, &remote);
    snprintf(line, sizeof(line), "%u", level->place.line);
    PUT(w, "F", buffer_cstr(&service), buffer_cstr(&name), buffer_cstr(&local), buffer_cstr(&remote), level->place.file,
        line);
    put_section(w, &level->section);
    buffer_free(&service);
    buffer_free(&name);
    buffer_free(&local);
    buffer_free(&remote);
}

void conf_snapshot_write(const struct conf_tree *tree, const char *service, struct buffer *out)
{
    struct writer w = {.out = out, .all = service == NULL};
    if (service != NULL)
        w.modules = conf_service_modules(tree, service);
    PUT(&w, SNAPSHOT_MAGIC, SNAPSHOT_VERSION, tree->path);
    for (const struct conf_level *level = tree->global; level != NULL; level = level->next)
        put_level(&w, level);
    buffer_append_str(out, ".\n");
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

enum { NEST_MOST = 4 };

struct reader {
    struct conf_tree *tree;
    struct arena *scratch;
    struct conf_section *open[NEST_MOST]; /* [0] = the level */
    unsigned depth;                       /* 0 before the first F */
    unsigned line;
    bool ended;
};

static int refuse_line(const struct reader *r, struct error *e, const char *why)
{
    return error_set(e, ERROR_CORRUPT, "Configuration snapshot line %u: %s", r->line, why);
}

static const char *keep(struct reader *r, struct slice text)
{
    return arena_str(r->tree->arena, text);
}

static int read_level(struct reader *r, const struct slice *f, size_t n, struct error *e)
{
    if (n != 7 || r->depth > 1)
        return refuse_line(r, e, "misplaced level");
    struct conf_facts facts = {0};
    uint32_t line;
    if ((f[1].size != 0 && f[1].at[0] != '=') || (f[2].size != 0 && f[2].at[0] != '='))
        return refuse_line(r, e, "bad name");
    if (f[1].size != 0)
        facts.service = keep(r, slice_from(f[1], 1));
    if (f[2].size != 0)
        facts.local_name = keep(r, slice_from(f[2], 1));
    for (int i = 0; i < 2; i++) {
        struct conf_net *net = i == 0 ? &facts.local : &facts.remote;
        const char *text = keep(r, f[3 + i]), *slash = strchr(text, '/');
        uint32_t bits;
        if (text[0] == '\0')
            continue;
        if (!conf_net_parse_ip(keep(r, slash == NULL ? f[3 + i] : slice_head(f[3 + i], (size_t)(slash - text))), net))
            return refuse_line(r, e, "bad address");
        if (slash != NULL) {
            if (!slice_to_u32(slice_from_str(slash + 1), &bits) || bits > net->bits)
                return refuse_line(r, e, "bad net");
            net->bits = (unsigned char)bits;
        }
    }
    if (!slice_to_u32(f[6], &line))
        return refuse_line(r, e, "bad line number");
    struct conf_level *level =
        conf_tree_level(r->tree, r->tree->global, &facts, (struct conf_place){keep(r, f[5]), line});
    r->open[0] = &level->section;
    r->depth = 1;
    return 0;
}

static int read_value(struct reader *r, const struct slice *f, size_t n, struct error *e)
{
    if (n != 3 || r->depth == 0)
        return refuse_line(r, e, "misplaced setting");
    struct conf_section *section = r->open[r->depth - 1];
    int def = conf_scope_find(section->scope, f[1]);
    if (def < 0 || section->scope->defs[def].kind != CONF_DEF_VALUE)
        return refuse_line(r, e, "unknown setting");
    const struct conf_def *d = &section->scope->defs[def];
    const char *text = keep(r, f[2]);
    uint64_t number;
    if (conf_parse_value((enum conf_type)d->type, d->value, text, &number, e) < 0)
        return refuse_line(r, e, "bad value");
    conf_section_set(r->tree->arena, section, (unsigned)def, text, number, (struct conf_place){r->tree->path, 0});
    return 0;
}

static int read_block(struct reader *r, const struct slice *f, size_t n, struct error *e)
{
    if (n != 4 || r->depth == 0 || r->depth == NEST_MOST)
        return refuse_line(r, e, "misplaced section");
    struct conf_section *section = r->open[r->depth - 1];
    int def = conf_scope_find(section->scope, f[1]);
    if (def < 0 || section->scope->defs[def].kind != CONF_DEF_BLOCKS)
        return refuse_line(r, e, "unknown section");
    bool existed;
    struct conf_entry *entry = conf_section_entry(r->tree->arena, section, (unsigned)def, f[2],
                                                  (struct conf_place){r->tree->path, 0}, &existed);
    entry->name = keep(r, f[3]);
    r->open[r->depth++] = &entry->section;
    return 0;
}

static int read_pair(struct reader *r, const struct slice *f, size_t n, struct error *e)
{
    if (n != 4 || r->depth != 1)
        return refuse_line(r, e, "misplaced pair");
    int def = conf_scope_find(conf_scope_global(), f[1]);
    if (def < 0 || conf_scope_global()->defs[def].kind != CONF_DEF_STRLIST)
        return refuse_line(r, e, "unknown list");
    conf_section_set_pair(r->tree->arena, r->open[0], (enum conf_strlist)conf_scope_global()->defs[def].id,
                          keep(r, f[2]), keep(r, f[3]), (struct conf_place){r->tree->path, 0});
    return 0;
}

static int read_line(struct reader *r, struct slice line, struct error *e)
{
    struct slice *f;
    size_t n = text_tab_fields(r->scratch, line, &f);
    if (r->line == 1) {
        if (n != 3 || !slice_equal_str(f[0], SNAPSHOT_MAGIC) || !slice_equal_str(f[1], SNAPSHOT_VERSION))
            return refuse_line(r, e, "not a snapshot of this version");
        char *path = mem_strndup(f[2]);
        r->tree = conf_tree_new(path);
        mem_free(path);
        return 0;
    }
    switch (f[0].size == 1 && !r->ended ? f[0].at[0] : 0) {
    case 'F':
        return read_level(r, f, n, e);
    case 'S':
        return read_value(r, f, n, e);
    case 'B':
        return read_block(r, f, n, e);
    case 'P':
        return read_pair(r, f, n, e);
    case 'E':
        if (r->depth < 2)
            return refuse_line(r, e, "nothing to end");
        r->depth--;
        return 0;
    case '.':
        if (r->depth != 1)
            return refuse_line(r, e, "section not ended");
        r->ended = true;
        return 0;
    default:
        return refuse_line(r, e, "unknown line");
    }
}

struct conf_tree *conf_snapshot_read(struct slice text, struct error *e)
{
    struct reader r = {.scratch = arena_new()};
    int result = 0;
    while (result == 0 && text.size > 0) {
        ptrdiff_t end = slice_find(text, '\n');
        r.line++;
        if (end < 0) {
            result = refuse_line(&r, e, "cut short");
            break;
        }
        result = read_line(&r, slice_head(text, (size_t)end), e);
        text = slice_from(text, (size_t)end + 1);
        arena_reset(r.scratch);
    }
    if (result == 0 && !r.ended)
        result = refuse_line(&r, e, "cut short");
    arena_free(r.scratch);
    if (result < 0) {
        conf_tree_free(r.tree);
        return NULL;
    }
    return r.tree;
}
