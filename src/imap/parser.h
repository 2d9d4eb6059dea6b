/* The IMAP line parser: bytes in pieces -> a tag, a command name, a tree of arguments (RFC 3501 section 4, imap 2).
 *
 * Pure over the buffer: it never reads or writes a connection. The caller offers what it has, is told how many bytes
 * were used, and offers the rest again together with what has come since. A token is used only when it is complete,
 * a literal as it comes; so nothing here holds more than one argument, and each argument has a cap. */
#ifndef YARILO_IMAP_PARSER_H
#define YARILO_IMAP_PARSER_H

#include "store/imap_arg.h"

#define IMAP_LIST_DEPTH 50       /* parentheses in parentheses */
#define IMAP_ARGS_MAX 100000     /* arguments of one command, all levels */

enum imap_parse {
    IMAP_PARSE_MORE,     /* needs more bytes */
    IMAP_PARSE_DONE,
    IMAP_PARSE_MESSAGE,  /* IMAP_PARSER_MESSAGE: a literal has been announced, its size is in literal_size */
    IMAP_PARSE_BAD,      /* `problem` is the text; the rest of the line is to be skipped */
    IMAP_PARSE_BYE       /* `problem` is the text of the last line that the client gets */
};

enum {
    IMAP_PARSER_LITERAL8 = 1,       /* ~{n} is allowed */
    IMAP_PARSER_MESSAGE = 2,        /* literals are messages: the parser stops in front of their bytes */
    IMAP_PARSER_LITERAL_MINUS = 4   /* {n+} only up to 4096 bytes */
};

struct imap_parser {
    struct arena *arena;
    size_t max;                  /* imap_max_line_length */
    unsigned flags;
    unsigned want;               /* top-level arguments to read; 0 = the whole line */

    struct imap_arg *args;       /* result: a list */
    unsigned count;              /* top-level arguments read */
    unsigned char eol;           /* the line end has been used too: its size; 0 = not yet */
    bool say_go_on;              /* a synchronising literal was announced: send "+ OK", clear it */
    const char *problem;
    uint64_t literal_size;       /* of the literal being read or, with IMAP_PARSE_MESSAGE, announced */
    bool literal8, literal_plus;

    /* inside */
    struct imap_arg **tail[IMAP_LIST_DEPTH + 1];
    unsigned depth, items;
    size_t total, scanned, literal_have;
    unsigned char *literal;
    enum { IMAP_AT_TOKEN, IMAP_AT_LITERAL_LF, IMAP_AT_LITERAL } at;
};

const char *imap_parser_reason(const struct imap_parser *); /* `problem` without its code, for the log */
void imap_parser_init(struct imap_parser *, struct arena *, size_t max, unsigned flags, unsigned want);
/* Reads on. *used bytes of `in` are done with, whatever is returned. */
enum imap_parse imap_parser_read(struct imap_parser *, struct slice in, size_t *used);
/* After IMAP_PARSE_MESSAGE inside a list: the bytes have been taken, an empty literal stands for them. */
void imap_parser_message_done(struct imap_parser *);
/* After IMAP_PARSE_MESSAGE: this literal is a string after all, read on to gather it. False: it is too long. */
bool imap_parser_gather(struct imap_parser *);

/* Tag and command name off the front of a line. DONE: *used stands behind the name (a UID prefix goes into *uid).
 * BAD: problem (also for words longer than max) and, if it could be read, the tag; *used stands where skipping of the line begins. */
struct imap_line {
    struct slice tag, name;      /* borrow from `in`; tag empty: it was invalid */
    bool uid;
    const char *problem;         /* "Error in IMAP tag: Invalid tag", "Error in IMAP command: Invalid command name" */
};
enum imap_parse imap_line_read(struct slice in, size_t max, struct imap_line *, size_t *used);
/* Skips to behind the next LF. True: it was there; `literal`: so many bytes of a literal that does not wait for "+" follow, and
 * then the rest of the line (UINT64_MAX: more than can be counted). False: more input is needed; a few bytes may stay. */
bool imap_skip_line(struct slice in, size_t *used, uint64_t *literal);

#endif
