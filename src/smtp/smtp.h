/* The face of src/smtp: the syntax of SMTP and LMTP commands (RFC 5321), pure functions over bytes. LMTP and
 * Submission stand on it. Texts of errors are the ones behind "501 5.5.4 " in the real server's replies (doors 1). */
#ifndef YARILO_SMTP_SMTP_H
#define YARILO_SMTP_SMTP_H

#include "base/base.h"

enum {
    SMTP_LINE_MAX = 4096 + 64,     /* bytes of a command line that is not finished yet */
    SMTP_PARAMS_MAX = 32
};

/* ---- command lines --------------------------------------------------------------------------------------------- */

enum smtp_parsed {
    SMTP_COMMAND,        /* name and params are filled */
    SMTP_INCOMPLETE,
    SMTP_BAD_SYNTAX,     /* 500 5.5.2: `size` bytes are to be skipped */
    SMTP_OVERLONG        /* 500 5.5.2 once, then skip until a line end: see smtp_skip_line */
};

struct smtp_command {
    struct slice name;   /* letters; empty for an empty line or one that starts with a space */
    struct slice params; /* behind the one space, without the line end; no control bytes, valid UTF-8 */
    size_t size;         /* bytes of the input that the command takes */
};

/* Takes the first line of the input; slices borrow from it. CRLF and LF end a line. */
enum smtp_parsed smtp_command_parse(struct slice input, struct smtp_command *out);

/* ---- paths ------------------------------------------------------------------------------------------------------ */

struct smtp_path {
    bool null;           /* "<>" */
    struct slice local;  /* unquoted; empty with `domain` set is possible: <""@x> */
    struct slice domain; /* without '@'; empty = none given */
    struct slice broken; /* the text between the brackets, when it does not parse and that is allowed */
};

enum { /* flags */
    SMTP_PATH_NULL_ALLOWED = 1,
    SMTP_PATH_BROKEN_ALLOWED = 2,      /* senders: what stands between the brackets is kept */
    SMTP_PATH_SPACE_BEFORE = 4,        /* workaround whitespace-before-path */
    SMTP_PATH_NO_BRACKETS = 8          /* workaround mailbox-for-path */
};

/* Parses a path at the start of `in`; *rest is what stands behind it (parameters, with their space). Returns NULL, or
 * the text of the error. Texts live in the arena. */
const char *smtp_path_parse(struct slice in, unsigned flags, struct arena *, struct smtp_path *, struct slice *rest);
/* "local@domain" with quotes where RFC 5321 wants them, "" for the null path. */
char *smtp_path_text(struct arena *, const struct smtp_path *);
/* The same without quotes: a user name. */
char *smtp_path_user(struct arena *, const struct smtp_path *);

/* ---- parameters -------------------------------------------------------------------------------------------------- */

struct smtp_param {
    struct slice key;    /* as sent; compare without case */
    struct slice value;
    bool has_value;
};

/* Parameters behind a path: each is preceded by one space. Returns NULL or the text behind "Invalid MAIL parameter: ". */
const char *smtp_params_parse(struct slice in, struct smtp_param *out, size_t *count);
/* RFC 3461 xtext; -1 on a bad sequence. */
int smtp_xtext_decode(struct buffer *out, struct slice);
void smtp_xtext_encode(struct buffer *out, struct slice);
/* One atom or quoted string, nothing else (NOOP, VRFY). NULL or the error's text. */
const char *smtp_string_check(struct slice);

/* A host name of letters, digits and '-', or an address literal in brackets: what may stand in Received. */
bool smtp_hostname_valid(struct slice);

/* ---- message data ------------------------------------------------------------------------------------------------ */

/* The end of DATA is a line with a dot alone between CRLFs, nothing else (doors 8: bare LF ends nothing here). */
struct smtp_data {
    enum { SMTP_DATA_LINE_START, SMTP_DATA_DOT, SMTP_DATA_DOT_CR, SMTP_DATA_BODY, SMTP_DATA_CR } state;
};
#define SMTP_DATA_INIT ((struct smtp_data){SMTP_DATA_LINE_START})
/* Appends the message bytes of `in` to *out without the stuffed dots; returns the number of input bytes taken. *end is
 * set when the final dot has been read (what stands behind it was not taken). */
size_t smtp_data_take(struct smtp_data *, struct slice in, struct buffer *out, bool *end);

#endif
