/* The arguments of an IMAP command before login: strings, atoms, one list; bounded in bytes and number. */
#ifndef YARILO_LOGIN_IMAP_ARGS_H
#define YARILO_LOGIN_IMAP_ARGS_H

#include "base/base.h"

enum imap_arg_kind { IMAP_ATOM, IMAP_QUOTED, IMAP_LITERAL, IMAP_OPEN, IMAP_CLOSE };

struct imap_arg {
    enum imap_arg_kind kind;
    struct slice value; /* in the arena */
};

enum { IMAP_ARGS_MAX = 256 };

struct imap_line {
    struct slice tag, command;  /* in the arena */
    struct imap_arg *args;      /* in the arena */
    size_t count;
    size_t size;                /* bytes of the input that the command takes, its line end too */
    const char *error;          /* the parser's text, or NULL */
};

/* How far the look at unfinished input has got, kept between calls. */
struct imap_wait {
    size_t literals_seen;       /* synchronising literals already answered with "+ OK" */
    size_t need;                /* do not parse again before so many bytes are there */
};

enum imap_parsed {
    IMAP_LINE,            /* *out is filled, perhaps with an error */
    IMAP_INCOMPLETE,      /* more input is needed */
    IMAP_GO_AHEAD,        /* "+ OK" must be sent, then more input is needed */
    IMAP_LITERAL_TOO_BIG
};

/* Parses the first command of the input (imap 2). literal_max: bytes a literal may have. */
enum imap_parsed imap_parse_line(struct slice input, size_t literal_max, struct imap_wait *, struct arena *,
                                 struct imap_line *out);

/* Atom, quoted or literal. */
bool imap_arg_string(const struct imap_line *, size_t i, struct slice *out);

#endif
