/* Output of doveadm: rows of values under declared headers, in the formatter that the command or -f names (doveadm 3). */
#ifndef YARILO_DOVEADM_PRINT_H
#define YARILO_DOVEADM_PRINT_H

#include "doveadm.h"

enum {
    PRINT_STICKY = 1,       /* the value is kept and repeated in each row */
    PRINT_HIDE_TITLE = 2,
    PRINT_RIGHT = 4,
    PRINT_EXPAND = 8,       /* table: takes the space that is left */
    PRINT_NUMBER = 16       /* json: bare */
};

struct print_header {
    const char *key, *title;
    unsigned flags;
};

struct print;
struct print_ops {
    const char *name;
    void (*header)(struct print *, const struct print_header *); /* may be NULL */
    void (*value)(struct print *, const char *value);            /* NULL = none */
    void (*stream)(struct print *, struct slice, bool end);      /* pieces of one value */
    void (*flush)(struct print *);                               /* the end of the output */
};
extern const struct print_ops print_flow, print_tab, print_table, print_pager, print_json, print_formatted,
    print_server;

struct print {
    const struct print_ops *ops;
    VEC(struct print_header) headers;
    VEC(char *) sticky;     /* by header; NULL = not set */
    size_t column;          /* of the next value */
    uint64_t rows;
    bool no_titles, started;
    void *state;            /* the formatter's */
    const char *template;   /* formatted */
};

/* Is it the name of a formatter that may be chosen? ("formatted" may, and then wants a template.) */
bool print_known(const char *formatter);
/* Once a run, before headers: `fallback` unless -f chose another. */
void print_init(struct doveadm *, const char *fallback);
void print_header(struct doveadm *, const char *key, const char *title, unsigned flags);
void print_header_simple(struct doveadm *, const char *key_and_title);
/* Titles that need not wait for values (tab) are printed now: for commands that also print past the formatter. */
void print_begin(struct doveadm *);
/* Values go from header to header; a row ends with the last one. */
void print_value(struct doveadm *, const char *value);
void print_number(struct doveadm *, uint64_t);
void print_stream(struct doveadm *, struct slice, bool end);
void print_sticky(struct doveadm *, const char *key, const char *value);
/* The template of `formatted`: "%{key}". */
void print_template(struct doveadm *, const char *);
/* In doveadm-server: where the formatters server and json write (standard output otherwise); then a string, quoted, and
 * what stands between strings, for the command whose answer is no rows. */
void print_to(FILE *);
void print_json_text(const char *);
void print_json_raw(const char *);
void print_flush(struct doveadm *);
void print_free(struct doveadm *);

#endif
