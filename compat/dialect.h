/* Inside the reader of Dovecot's language: what its files share. */
#ifndef YARILO_COMPAT_DIALECT_H
#define YARILO_COMPAT_DIALECT_H

#include "base/text.h"
#include "compat/lines.h"
#include "compat/read.h"

enum frame_kind {
    FRAME_LEVEL,      /* the top level or a filter */
    FRAME_BLOCK,      /* a section of a list */
    FRAME_STRLIST,    /* plugin, dict */
    FRAME_NOTHING,    /* a section where a setting was expected: nothing can stand inside */
    FRAME_V1_AUTH,    /* auth NAME { } of Dovecot 1: its keys are top-level ones (obsolete_v1.c) */
    FRAME_V1_SOCKET,
    FRAME_V1_LISTEN
};

struct frame {
    enum frame_kind kind;
    struct conf_level *level;
    struct conf_section *section; /* of the level or block */
    struct conf_entry *entry;     /* FRAME_BLOCK */
    unsigned def;                 /* FRAME_BLOCK: which list of the section around it */
    enum conf_strlist strlist;
    const char *path;             /* "service { unix_listener { ": for messages */
    const char *full;             /* "service/imap/": for messages of <file */
    struct conf_place place;
    bool is_filter;               /* goes on in the section of the frame below, in another level */
    bool first_plugin;            /* the first unnamed section of the input (config 6) */
    const char *v1_path, *v1_mode, *v1_user, *v1_group, *v1_type; /* FRAME_V1_LISTEN */
};

struct dialect {
    struct conf_tree *tree;
    struct arena *arena;          /* the tree's */
    struct lines lines;
    const struct conf_reading *options;
    VEC(struct frame) frames;
    struct conf_place place;      /* of the line in hand */
    unsigned counter;             /* numbers unnamed sections */
    bool noted;                   /* the NOTE before the first obsolete setting */
    struct conf_place *filtered;  /* by place in the global scope: where a filter first set it (config 3.5) */
};

static inline struct frame *dialect_frame(struct dialect *d)
{
    return &d->frames.at[d->frames.count - 1];
}

/* Sets a member after checking its type; for values that are made, not read. */
int dialect_assign(struct dialect *, struct conf_section *, unsigned def, const char *value, struct error *);
/* By key in the frame, with path syntax ("plugin/x"). */
int dialect_set(struct dialect *, struct frame *, const char *key, const char *value, struct error *);
/* "service/auth/unix_listener/x/mode" parts at the global level, NULL-ended, sections are made as needed. */
int dialect_set_global(struct dialect *, const char *const *parts, const char *value, struct error *);

/* values.c: */
int dialect_value(struct dialect *, struct frame *, const char *key, const char *raw, const char **value, bool *plain,
                  struct error *);

/* obsolete.c: names of Dovecot 1 and 2.0. */
enum obsolete { OBSOLETE_NO, OBSOLETE_DONE, OBSOLETE_ERROR };
/* May exchange key and value (then NO). */
enum obsolete dialect_obsolete(struct dialect *, struct frame *, const char **key, const char **value, struct error *);
void dialect_obsolete_warn(struct dialect *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* obsolete_v1.c: sections of Dovecot 1. DONE: the frame is pushed. */
enum obsolete dialect_v1_section(struct dialect *, const char *key, const char **name, const char **new_key,
                                 struct error *);
enum obsolete dialect_v1_setting(struct dialect *, struct frame *, const char **key, const char *value, struct error *);
int dialect_v1_end(struct dialect *, struct frame *, struct error *);
struct frame *dialect_push(struct dialect *, enum frame_kind, const char *key);

#endif
