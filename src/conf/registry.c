/* libconfuse's tables: see registry.h. They hold names, defaults and validators, one validator a type; every value is a
 * text for libconfuse (value.c knows the types). An enum's words are its option's comment. */
#include "conf/registry.h"

static struct {
    cfg_t *root;
    struct error why;             /* what a validator said last */
} registry;

static void keep_reason(cfg_t *cfg, const char *fmt, va_list args)
{
    struct buffer text = {0};
    (void)cfg;
    buffer_vprintf(&text, fmt, args);
    error_set(&registry.why, ERROR_INVALID, "%s", buffer_cstr(&text));
    buffer_free(&text);
}

static int validate(cfg_t *cfg, const cfg_opt_t *option, enum conf_type type, const char *text)
{
    uint64_t number;
    struct error e;
    if (conf_parse_value(type, option->comment, text, &number, &e) == 0)
        return 0;
    cfg_error(cfg, "%s", e.admin);
    return -1;
}

#define VALIDATOR(type) \
    static int validate_##type(cfg_t *cfg, cfg_opt_t *option, void *value) \
    { \
        return validate(cfg, option, type, value); \
    }
VALIDATOR(CONF_BOOL)
VALIDATOR(CONF_UINT)
VALIDATOR(CONF_OCTAL)
VALIDATOR(CONF_PORT)
VALIDATOR(CONF_SIZE)
VALIDATOR(CONF_TIME)
VALIDATOR(CONF_TIME_MSECS)
VALIDATOR(CONF_ENUM)

static const cfg_validate_callback2_t validators[] = {
    [CONF_BOOL] = validate_CONF_BOOL,  [CONF_UINT] = validate_CONF_UINT,
    [CONF_OCTAL] = validate_CONF_OCTAL, [CONF_PORT] = validate_CONF_PORT,
    [CONF_SIZE] = validate_CONF_SIZE,  [CONF_TIME] = validate_CONF_TIME,
    [CONF_TIME_MSECS] = validate_CONF_TIME_MSECS, [CONF_ENUM] = validate_CONF_ENUM,
};

/* The table of one kind of section, and of the sections inside; all in the arena, since cfg_init makes copies. */
static cfg_opt_t *make_options(struct arena *arena, const struct conf_scope *scope)
{
    cfg_opt_t *options = ARENA_ARRAY(arena, cfg_opt_t, scope->count + 1U);
    for (unsigned i = 0; i < scope->count; i++) {
        const struct conf_def *def = &scope->defs[i];
        const char *value = arena_str(arena, conf_def_default(def));
        if (def->kind == CONF_DEF_VALUE) {
            options[i] = (cfg_opt_t)CFG_STR(def->name, value, CFGF_NONE);
        } else if (def->kind == CONF_DEF_STRLIST) {
            options[i] = (cfg_opt_t)CFG_SEC(def->name, ARENA_NEW(arena, cfg_opt_t), CFGF_MULTI | CFGF_IGNORE_UNKNOWN);
        } else {
            cfg_opt_t *inner = make_options(arena, conf_scope_block((enum conf_block_kind)def->id));
            options[i] = (cfg_opt_t)CFG_SEC(def->name, inner, CFGF_MULTI | CFGF_TITLE);
        }
    }
    return options;
}

/* cfg_init keeps the order, so that an option and its row in the schema have the same place. */
static void attach_validators(cfg_opt_t *options, const struct conf_scope *scope)
{
    for (unsigned i = 0; i < scope->count; i++) {
        const struct conf_def *def = &scope->defs[i];
        if (def->kind == CONF_DEF_BLOCKS)
            attach_validators(options[i].subopts, conf_scope_block((enum conf_block_kind)def->id));
        else if (def->kind == CONF_DEF_VALUE && def->type < sizeof(validators) / sizeof(validators[0]))
            options[i].validcb2 = validators[def->type];
        if (def->kind == CONF_DEF_VALUE && def->type == CONF_ENUM)
            options[i].comment = mem_strdup(def->value);
    }
}

cfg_t *conf_registry(void)
{
    if (registry.root != NULL)
        return registry.root;
    struct arena *arena = arena_new();
    registry.root = cfg_init(make_options(arena, conf_scope_global()), CFGF_NONE);
    arena_free(arena);
    if (registry.root == NULL)
        mem_exhausted(sizeof(cfg_opt_t));
    (void)cfg_set_error_function(registry.root, keep_reason);
    attach_validators(registry.root->opts, conf_scope_global());
    return registry.root;
}

/* The option of a row, in the table of its kind of section. */
static cfg_opt_t *find_options(cfg_opt_t *options, const struct conf_scope *here, const struct conf_scope *wanted)
{
    if (here == wanted)
        return options;
    for (unsigned i = 0; i < here->count; i++) {
        const struct conf_def *def = &here->defs[i];
        cfg_opt_t *found = NULL;
        if (def->kind == CONF_DEF_BLOCKS)
            found = find_options(options[i].subopts, conf_scope_block((enum conf_block_kind)def->id), wanted);
        if (found != NULL)
            return found;
    }
    return NULL;
}

int conf_registry_set(struct arena *arena, struct conf_section *section, unsigned def, const char *text,
                      struct conf_place place, struct error *e)
{
    cfg_t *cfg = conf_registry();
    cfg_opt_t *option = &find_options(cfg->opts, conf_scope_global(), section->scope)[def];
    const char *canonical;
    uint64_t number;
    if (option->validcb2 != NULL && option->validcb2(cfg, option, (void *)(uintptr_t)text) != 0) {
        *e = registry.why;
        return -1;
    }
    if (conf_canonical_value(&section->scope->defs[def], text, arena, &canonical, &number, e) < 0)
        return -1;
    conf_section_set(arena, section, def, canonical, number, place);
    return 0;
}
