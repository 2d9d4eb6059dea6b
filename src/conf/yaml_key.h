/* Between the files of the YAML reader. */
#ifndef YARILO_CONF_YAML_KEY_H
#define YARILO_CONF_YAML_KEY_H

#include "base/text.h"
#include "conf/reading.h"
#include "conf/yaml_node.h"

enum { YAML_SERVICES = 9 };

/* What services.X says, gathered before it is written down. */
struct yaml_service {
    const struct yaml_node *at;   /* NULL: not named */
    bool disabled;
    const struct yaml_node *port, *address, *ssl_mode, *plaintext, *cleartext, *haproxy, *xclient, *socket,
        *client_limit, *process_limit;
};

struct yaml {
    struct conf_tree *tree;
    const struct conf_reading *how;
    struct arena *arena;
    struct yaml_faults *faults;
    const char *folder;           /* of the main file, for the embedded default */
    bool lenient;
    bool single;                  /* mode: single was said */
    struct yaml_service services[YAML_SERVICES];
    const struct yaml_node *services_at, *auth_at, *ssl_at;
    const struct yaml_node *mailbox, *root, *home;   /* storage */
    struct buffer plugins, imap_plugins;
};

#define FAULT(y, node, ...) yaml_fault((y)->faults, (node)->file, (node)->line, (node)->column, __VA_ARGS__)

/* ---- values (yaml_value.c) -------------------------------------------------------------------------------------- */

/* The node as the text that the setting wants: lists joined, booleans and bare numbers in Dovecot's form. NULL: a
 * fault was noted. */
const char *yaml_value_text(struct yaml *, const struct conf_def *, const struct yaml_node *);
/* Checks and sets; $words and <files are resolved. */
void yaml_set(struct yaml *, struct conf_level *, struct conf_section *, unsigned def, const struct yaml_node *);
void yaml_set_text(struct yaml *, struct conf_section *, unsigned def, const char *text, const struct yaml_node *at);
void yaml_set_global(struct yaml *, enum setting, const struct yaml_node *);
/* "key = <path" */
void yaml_set_file(struct yaml *, struct conf_level *, enum setting, const struct yaml_node *);
void yaml_set_pair(struct yaml *, struct conf_level *, enum conf_strlist, const char *key, const char *value,
                   const struct yaml_node *at);
bool yaml_bool(struct yaml *, const struct yaml_node *, bool *value);
const char *yaml_text(struct yaml *, const struct yaml_node *);     /* a text, or NULL and a fault */
struct conf_section *yaml_entry(struct yaml *, struct conf_section *, const char *list, const char *name,
                                const struct yaml_node *at);
void yaml_member(struct yaml *, struct conf_section *, const char *member, const char *text,
                 const struct yaml_node *at);
struct conf_level *yaml_protocol(struct yaml *, const char *protocol, const struct yaml_node *at);
struct conf_level *yaml_local_name(struct yaml *, const char *name, const struct yaml_node *at);
unsigned yaml_distance(const char *a, const char *b);

/* ---- keys ------------------------------------------------------------------------------------------------------- */

/* All of the document but settings: (yaml_key.c); then what was gathered (yaml_service.c, yaml_store.c). */
void yaml_walk_keys(struct yaml *, const struct yaml_node *root);
void yaml_finish_services(struct yaml *);
void yaml_finish_storage(struct yaml *);
void yaml_finish_single(struct yaml *, const struct yaml_node *root);
int yaml_service_index(const char *name);                           /* imap, imaps, ...; -1 */
const char *yaml_service_name(int index);

/* Sections (yaml_section.c): one block of passdb, namespace, ... from a map. */
void yaml_read_block(struct yaml *, struct conf_level *, struct conf_section *, unsigned def, const char *name,
                     const struct yaml_node *);
void yaml_read_settings(struct yaml *, const struct yaml_node *);

#endif
