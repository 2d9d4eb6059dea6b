/* What the files of this folder share and nobody else sees. */
#ifndef YARILO_MIME_INTERNAL_H
#define YARILO_MIME_INTERNAL_H

#include "mime/mime.h"

/* ---- window: a source read forwards ------------------------------------------------------------------------ */

#define MIME_WINDOW_SIZE MEM_ROOM_SIZE

/* Reads *size bytes of a source that has `read`, or fewer, down to `least`, when that fails: what cannot be read further on costs
 * nobody what stands before it (a lost attachment: the header). *size: how many were asked for in the end. */
ssize_t mime_read_ahead(const struct mime_source *, uint64_t offset, void *buf, size_t *size, size_t least, struct error *);

/* at..end are the bytes at hand, `offset` is the place of `at` in the mail. */
struct mime_window {
    const struct mime_source *source;
    unsigned char *buf;
    const unsigned char *at, *end;
    uint64_t offset;
    bool eof;                  /* nothing follows `end` */
};
void mime_window_init(struct mime_window *, const struct mime_source *, uint64_t offset);
/* Makes at least `want` (<= MIME_WINDOW_SIZE) bytes available unless the mail ends; -1 on a read error. */
int mime_window_fill(struct mime_window *, size_t want, struct error *);
void mime_window_free(struct mime_window *);
/* Counts at most `physical` bytes from `offset` on. */
int mime_range_sizes(const struct mime_source *, uint64_t offset, uint64_t physical, struct mime_size *, struct error *);

/* Places in a mail: physical bytes, CRs that are missing, LFs so far. */
struct mime_place {
    uint64_t physical, missing;
    uint32_t lines;
};

/* The next stored line off the front of *rest, without its line end; false: it had none. */
static inline bool mime_line_next(struct slice *rest, struct slice *line)
{
    ptrdiff_t lf = slice_find(*rest, '\n');

    *line = lf < 0 ? *rest : slice_head(*rest, (size_t)lf);
    *rest = lf < 0 ? SLICE_EMPTY : slice_from(*rest, (size_t)lf + 1);
    if (lf >= 0 && line->size > 0 && line->at[line->size - 1] == '\r')
        line->size--;
    return lf >= 0;
}

/* ---- lexer of structured header values (RFC 5322 section 3.2) ---------------------------------------------- */

struct mime_lex {
    const unsigned char *at, *end;
    struct buffer *comment;    /* receives the text of the last comment; NULL: dropped */
};

/* Over a value; NIL is an empty one. */
static inline struct mime_lex mime_lex_of(struct slice value)
{
    const unsigned char *at = value.at == NULL ? (const unsigned char *)"" : value.at;

    return (struct mime_lex){at, at + value.size, NULL};
}

/* All return 1: more follows; 0: the end; -1: not what was asked for (`at` is where it stopped). White space and
 * comments behind the token are skipped. Output is appended. */
static inline int mime_lex_more(const struct mime_lex *l)
{
    return l->at < l->end ? 1 : 0;
}
int mime_lex_space(struct mime_lex *);
int mime_lex_atom(struct mime_lex *, struct buffer *out);
int mime_lex_local(struct mime_lex *, struct buffer *out);       /* atoms and dots in any order */
int mime_lex_quoted(struct mime_lex *, struct buffer *out);
int mime_lex_phrase(struct mime_lex *, struct buffer *out);      /* obs-phrase */
int mime_lex_domain(struct mime_lex *, struct buffer *out);      /* after the '@' */
int mime_lex_token(struct mime_lex *, struct buffer *out);       /* RFC 2045; may be empty */

/* What an ASCII character may stand in: an atom, a token of RFC 2045, between quotes without an escape. */
enum { MIME_ATOM = 1, MIME_DOT = 2, MIME_QUOTED = 4, MIME_BLANK = 8, MIME_TOKEN = 16 };
extern const unsigned char mime_kinds[256];
static inline bool mime_is_atext(unsigned char c)
{
    return c >= 0x80 || (mime_kinds[c] & MIME_ATOM) != 0;
}

/* U+FFFD in UTF-8: what a NUL becomes in parsed values. */
#define MIME_REPLACEMENT "\xef\xbf\xbd"
/* UTF-8 by any of its names, ASCII too; and a converter that no alias changes. */
bool mime_name_is_utf8(struct slice name);
struct mime_charset *mime_utf8_open(void);
void mime_put_no_nuls(struct buffer *out, struct slice);
/* A copy in the arena that is never NIL. */
struct slice mime_keep(struct arena *, struct slice);
struct slice mime_no_nuls(struct arena *, struct slice);

/* "; name=value ..." behind a word; *left is the cap on parameters. */
void mime_params_parse(struct arena *, struct mime_lex *, struct mime_params *, uint32_t max);

/* The value as the structure sees it: after the colon, first white space skipped. */
struct slice mime_field_value(struct slice after_colon);

/* ---- collecting what headers say ---------------------------------------------------------------------------- */

enum mime_known {
    MIME_KNOWN_NONE,
    MIME_KNOWN_MIME_VERSION, MIME_KNOWN_CONTENT_TYPE, MIME_KNOWN_ENCODING, MIME_KNOWN_ID, MIME_KNOWN_DESCRIPTION,
    MIME_KNOWN_MD5, MIME_KNOWN_LOCATION, MIME_KNOWN_DISPOSITION, MIME_KNOWN_LANGUAGE,
    MIME_KNOWN_DATE, MIME_KNOWN_SUBJECT, MIME_KNOWN_FROM, MIME_KNOWN_SENDER, MIME_KNOWN_REPLY_TO, MIME_KNOWN_TO,
    MIME_KNOWN_CC, MIME_KNOWN_BCC, MIME_KNOWN_IN_REPLY_TO, MIME_KNOWN_MESSAGE_ID
};
enum mime_known mime_known_of(struct slice name);

/* Addresses as mime_address_parse has them. */
enum {
    MIME_ADDRESS_FILL = 1,     /* what is missing is named */
    MIME_ADDRESS_BORROW = 2,   /* the value stays where it is as long as the addresses are used */
    MIME_ADDRESS_NO_SHORT_WAY = 4  /* none for plain ones either: for comparing */
};
struct mime_address *mime_address_parse_how(struct arena *, struct slice value, uint32_t *left, unsigned how);

/* Builds an envelope field by field. */
struct mime_envelope_builder {
    struct mime_envelope *envelope;
    bool borrow;               /* values stay where they are as long as the envelope is used */
    struct mime_address **tail[6];
};
void mime_envelope_begin(struct mime_envelope_builder *, struct arena *);
void mime_envelope_add(struct mime_envelope_builder *, struct arena *, enum mime_known, struct slice value,
                       uint32_t *addresses_left);

/* Budgets of one mail. */
struct mime_budget {
    uint64_t headers_left;
    uint32_t addresses_left, languages_left, params_left;
};
struct mime_content_type {
    bool good;
    struct slice type, subtype;    /* never NIL */
    struct mime_params params;
};
void mime_content_type_take(struct arena *, struct slice value, struct mime_content_type *);
void mime_data_first_type(struct mime_part_data *, const struct mime_content_type *, struct mime_budget *);
void mime_data_add(struct arena *, struct mime_part_data *, enum mime_known, struct slice value, struct mime_budget *);
void mime_data_forget_content(struct mime_part_data *);   /* not MIME: only the envelope counts */
struct mime_budget mime_budget_of(const struct mime_limits *);

/* ---- text --------------------------------------------------------------------------------------------------- */

uint32_t mime_entity_code(const char *name);   /* of "amp"; 0: no such character */
int mime_hex_digit(unsigned char c);   /* -1: none */

#endif
