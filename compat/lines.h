/* From bytes to logical lines: includes, comments, continuations (config 1.1, 1.2, 1.5). */
#ifndef YARILO_COMPAT_LINES_H
#define YARILO_COMPAT_LINES_H

#include "conf/tree.h"

struct input {
    struct input *below;          /* what goes on when this one ends */
    const char *path;             /* as composed: part of messages */
    struct buffer text;
    size_t at;
    uint32_t line;
};

/* Files on the stack, the current one on top. */
struct lines {
    struct arena *arena;          /* for paths: messages refer to them for long */
    struct input *top;
    unsigned depth;
    struct buffer pending;        /* a logical line in the making */
};

int lines_open(struct lines *, const char *path, struct error *);
void lines_open_text(struct lines *, const char *path, struct slice text);
/* The next logical line without comment and outer whitespace, valid until the next call. False: the input is over.
 * *place: where it ends. */
bool lines_next(struct lines *, char **line, struct conf_place *);
/* !include, !include_try. */
int lines_include(struct lines *, const char *pattern, bool must, struct error *);
/* Relative to the folder of the file that is being read. */
const char *lines_path(const struct lines *, const char *name);
void lines_close(struct lines *);

#endif
