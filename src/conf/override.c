/* Settings that differ in a few values: userdb fields and -o (auth 7, config 11.2).
 *
 * An overlay holds only what differs, so that a session costs a few hundred bytes beside the shared settings. Lists
 * of blocks are replaced as a whole when something inside is changed. */
#include "conf/settings.h"

/* The next component of "a/b\sc", unescaped. */
static struct slice next_component(struct arena *arena, struct slice *path)
{
    struct slice part = SLICE_EMPTY;
    (void)slice_split(path, '/', &part);
    struct buffer name = {0};
    for (size_t i = 0; i < part.size; i++) {
        unsigned char c = part.at[i];
        if (c == '\\' && i + 1 < part.size) {
            switch (part.at[++i]) {
            case 's': c = '/'; break;
            case 'e': c = '='; break;
            case '+': c = ','; break;
            case '_': c = ' '; break;
            default: c = part.at[i]; break;
            }
        }
        buffer_append_byte(&name, c);
    }
    struct slice copy = arena_slice(arena, buffer_slice(&name));
    buffer_free(&name);
    return copy;
}

static struct settings *new_overlay(struct settings *base)
{
    struct arena *arena = arena_new();
    struct settings *set = ARENA_NEW(arena, struct settings);
    set->refs = 1;
    set->arena = arena;
    set->conf = base->conf;
    set->conf->refs++;
    set->base = settings_ref(base);
    memcpy(set->blocks, base->blocks, sizeof(set->blocks));
    return set;
}

static int ready_from_text(struct arena *arena, const struct conf_def *def, const char *text, struct conf_ready *ready,
                           struct error *e)
{
    const char *canonical;
    if (conf_canonical_value(def, text, arena, &canonical, &ready->number, e) < 0)
        return -1;
    ready->text = arena_strdup(arena, canonical);
    ready->assigned = true;
    return 0;
}

static void change_pair(struct settings *set, enum conf_strlist which, struct slice key, const char *value)
{
    size_t n = set->pair_count[which];
    for (size_t i = 0; i < n; i++) {
        if (slice_equal_str(key, set->pairs[which][i].key)) {
            set->pairs[which][i].value = arena_strdup(set->arena, value);
            return;
        }
    }
    struct conf_ready_pair *more = ARENA_ARRAY(set->arena, struct conf_ready_pair, n + 1);
    if (n > 0)
        memcpy(more, set->pairs[which], n * sizeof(*more));
    more[n] = (struct conf_ready_pair){arena_str(set->arena, key), arena_strdup(set->arena, value), true};
    set->pairs[which] = more;
    set->pair_count[which] = n + 1;
}

static int change_value(struct settings *set, const struct conf_def *def, const char *value, struct error *e)
{
    struct settings_change change = {.set = (enum setting)def->id};
    if (ready_from_text(set->arena, def, value, &change.value, e) < 0)
        return -1;
    for (size_t i = 0; i < set->change_count; i++) {
        if (set->changes[i].set == change.set) {
            set->changes[i] = change;
            return 0;
        }
    }
    struct settings_change *more = ARENA_ARRAY(set->arena, struct settings_change, set->change_count + 1);
    if (set->change_count > 0)
        memcpy(more, set->changes, set->change_count * sizeof(*more));
    more[set->change_count++] = change;
    set->changes = more;
    return 0;
}

static struct conf_block *copy_block(struct arena *arena, const struct conf_block *from)
{
    struct conf_block *block = ARENA_NEW(arena, struct conf_block);
    *block = *from;
    block->values = arena_copy(arena, from->values, from->scope->count * sizeof(*from->values));
    if (from->blocks != NULL)
        block->blocks = arena_copy(arena, from->blocks, BLOCK_KINDS * sizeof(*from->blocks));
    return block;
}

/* A block is named by its name, an unnamed one by its place. */
static bool find_block(const struct conf_blocks *blocks, struct slice name, size_t *at)
{
    uint32_t index;
    for (size_t i = 0; i < blocks->count; i++) {
        if (slice_equal_str(name, blocks->at[i]->name)) {
            *at = i;
            return true;
        }
    }
    if (!slice_to_u32(name, &index) || index >= blocks->count)
        return false;
    *at = index;
    return true;
}

static int change_in_blocks(struct arena *arena, struct conf_blocks *blocks, struct slice path, const char *value,
                            struct error *e)
{
    size_t at;
    if (!find_block(blocks, next_component(arena, &path), &at))
        return 0;
    struct slice member = next_component(arena, &path);
    const struct conf_scope *scope = blocks->at[at]->scope;
    if (slice_equal_str(member, "mail_location") || slice_equal_str(member, "mail"))
        member = SLICE("location");
    int def = conf_scope_find(scope, member);
    if (def < 0)
        return 0;
    struct conf_block *block = copy_block(arena, blocks->at[at]);
    const struct conf_block **list = arena_copy(arena, blocks->at, blocks->count * sizeof(*list));
    list[at] = block;
    if (scope->defs[def].kind == CONF_DEF_BLOCKS) {
        if (change_in_blocks(arena, &block->blocks[scope->defs[def].id], path, value, e) < 0)
            return -1;
    } else if (path.size != 0) {
        return 0;
    } else if (ready_from_text(arena, &scope->defs[def], value, &block->values[def], e) < 0) {
        return -1;
    } else if (def == scope->name_def) {
        block->name = block->values[def].text;
    }
    blocks->at = list;
    return 0;
}

static int change_path(struct settings *set, const char *text, const char *value, struct error *e)
{
    struct slice path = slice_from_str(text);
    struct slice first = next_component(set->arena, &path);
    if (slice_equal_str(first, "mail"))
        first = SLICE("mail_location");
    const struct conf_scope *scope = conf_scope_global();
    int found = conf_scope_find(scope, first);
    if (found < 0)
        return 0;
    const struct conf_def *def = &scope->defs[found];
    switch (def->kind) {
    case CONF_DEF_VALUE:
        return path.size != 0 ? 0 : change_value(set, def, value, e);
    case CONF_DEF_STRLIST:
        change_pair(set, (enum conf_strlist)def->id, next_component(set->arena, &path), value);
        return 0;
    default:
        return change_in_blocks(set->arena, &set->blocks[def->id], path, value, e);
    }
}

struct settings *settings_override(struct settings *base, const char *path, const char *value, struct error *e)
{
    struct settings *set = new_overlay(base);
    if (change_path(set, path, value, e) < 0) {
        settings_unref(set);
        return NULL;
    }
    return set;
}

struct settings *settings_override_all(struct settings *base, const char *const *pairs, struct error *e)
{
    struct settings *set = new_overlay(base);
    for (; *pairs != NULL; pairs++) {
        const char *equals = strchr(*pairs, '=');
        size_t size = equals == NULL ? strlen(*pairs) : (size_t)(equals - *pairs);
        char *path = arena_str(set->arena, slice_of(*pairs, size));
        if (change_path(set, path, equals == NULL ? "yes" : equals + 1, e) < 0) {
            settings_unref(set);
            return NULL;
        }
    }
    return set;
}
