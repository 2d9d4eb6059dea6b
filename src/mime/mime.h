/* Floor 2, mail as bytes: RFC 5322 headers, MIME structure, and what IMAP wants to know of both.
 *
 * Everything here is a pure function over bytes: no files, no settings, no clock. Input is a mime_source (a slice,
 * or a pread-like callback for mail that should not be in memory as a whole); output lands in an arena or a buffer.
 *
 * Two sizes. Mail is stored with LF or CRLF and is always shown with CRLF. *Physical* counts the bytes of the
 * source, *virtual* counts a CR more for each LF that has none before it. Sections, partial ranges, RFC822.SIZE and
 * BODYSTRUCTURE speak of virtual bytes.
 *
 * NIL. A slice whose `at` is NULL is absent (NIL), one with `at` set and size 0 is present and empty ("").
 *
 * Mail is hostile: depth, parts, header bytes, addresses, parameters and languages are capped (struct mime_limits)
 * and everything is linear in the input. What is over a cap is not an error: the rest is cut off, or is one flat
 * part, as oracle-build 1.5 and imap 10.5 say. The only errors are those of the source's read function, and
 * ERROR_CORRUPT where a cached structure contradicts the mail. */
#ifndef YARILO_MIME_MIME_H
#define YARILO_MIME_MIME_H

#include <sys/types.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/slice.h"
#include "base/step.h"

/* ---- where the bytes come from --------------------------------------------------------------------------- */

/* `read` works like pread: up to `size` bytes from `offset`; fewer than asked only at the end of the mail, 0 past it,
 * -1 with *e filled. With read == NULL the mail is `whole`. */
struct mime_source {
    ssize_t (*read)(void *arg, uint64_t offset, void *buf, size_t size, struct error *e);
    void *arg;
    struct slice whole;
};

static inline struct mime_source mime_source_slice(struct slice whole)
{
    return (struct mime_source){NULL, NULL, whole};
}

/* As read, of either kind of source. */
ssize_t mime_source_read(const struct mime_source *, uint64_t offset, void *buf, size_t size, struct error *);

/* Sizes of a whole mail in one pass (RFC822.SIZE without a parse). `lines` counts LFs. */
struct mime_size {
    uint64_t physical, virtual;
    uint32_t lines;
};
int mime_source_sizes(const struct mime_source *, struct mime_size *, struct error *);

/* ---- structure --------------------------------------------------------------------------------------------- */

/* Bits of mime_part.flags, as in the cache field mime.parts (index-format 9.7). */
enum {
    MIME_PART_MULTIPART = 0x01,
    MIME_PART_DIGEST = 0x02,   /* multipart/digest */
    MIME_PART_MESSAGE = 0x04,  /* message/rfc822 (and message/global) */
    MIME_PART_TEXT = 0x08,     /* text/anything, or no Content-Type */
    MIME_PART_NULS = 0x20,     /* header or body holds NUL bytes */
    MIME_PART_IS_MIME = 0x40,  /* has MIME-Version or any Content-* field */
    MIME_PART_CUT = 0x80       /* too deep or too many parts: not looked into further */
};

struct mime_param {
    struct slice name;   /* as in the mail; continuations joined; "name*" when the value is RFC 2231 encoded */
    struct slice value;
};

struct mime_params {
    struct mime_param *at;
    size_t count;
};

/* One address of a list. A group is a start (mailbox = its name, domain NIL), members, and an end (both NIL). */
struct mime_address {
    struct mime_address *next;
    struct slice name, route, mailbox, domain;
    bool invalid;              /* syntax error, or mailbox or domain missing */
    bool plain;                /* IMAP's strings of its name, mailbox and domain are these between quotes; no route */
};

struct mime_envelope {
    struct slice date, subject, in_reply_to, message_id;   /* raw values, folding removed where imap 10.4 says */
    struct mime_address *from, *sender, *reply_to, *to, *cc, *bcc;
};

/* What the header of one part says; only where the parse collected it (MIME_PARSE_DATA). */
enum mime_encoding {
    MIME_ENCODING_NONE,        /* 7bit, 8bit, binary, absent */
    MIME_ENCODING_QP,
    MIME_ENCODING_BASE64,
    MIME_ENCODING_UNKNOWN
};

struct mime_part_data {
    struct slice type, subtype;            /* spelling of the mail; type NIL: no (usable) Content-Type */
    struct mime_params params;
    struct slice encoding, id, description, md5, location;
    /* What searches go by, with and without MIME-Version: */
    enum mime_encoding decoding;           /* of the last field */
    struct slice charset;                  /* of the first Content-Type; empty: none */
    bool not_text;                         /* the last Content-Type is no text/... or message/... */
    struct slice disposition;
    struct mime_params disposition_params;
    struct slice *languages;
    size_t languages_count;
    struct mime_envelope *envelope;        /* of the root and of parts inside message/rfc822: else NULL */
};

struct mime_part {
    struct mime_part *parent, *next, *children;
    uint32_t flags;
    uint32_t children_count;               /* direct children */
    uint64_t offset;                       /* physical, where the part's header begins */
    struct mime_size header, body;         /* the header includes its empty line */
    struct mime_part_data *data;           /* NULL in trees from the cache */
};

struct mime_limits {
    uint32_t depth, parts;                 /* 100, 10000 */
    uint64_t header_size, headers_size;    /* 10 MiB of values in one block, 50 MiB in all */
    uint32_t addresses, params, languages; /* 100000 a mail, 128 a field, 100000 a mail */
};
extern const struct mime_limits mime_limits_default;

enum {
    MIME_PARSE_DATA = 1        /* fill part->data (for BODYSTRUCTURE, ENVELOPE, PREVIEW, searches) */
};

/* A parse in steps: STEP_MORE after about `budget` bytes, STEP_DONE (then mime_parser_root is valid), STEP_ERROR.
 * The tree and the parser live in the arena. `limits` NULL = defaults. */
struct mime_parser;
struct mime_parser *mime_parser_new(struct arena *, const struct mime_source *, const struct mime_limits *,
                                    unsigned flags);
enum step mime_parser_step(struct mime_parser *, size_t budget, struct error *);
struct mime_part *mime_parser_root(struct mime_parser *);
void mime_parser_free(struct mime_parser *);   /* its buffers; the tree stays in the arena. NULL is fine */

/* The same at once. 0 and *root, or -1. */
int mime_parse(struct arena *, const struct mime_source *, unsigned flags, struct mime_part **root, struct error *);
/* ... and what mime_header_read gives of the mail, where it was small enough to be at hand as a whole; else NIL. */
int mime_parse_and_header(struct arena *, const struct mime_source *, unsigned flags, struct mime_part **root, struct slice *header,
                          struct error *);

/* Fills data of a tree from the cache by reading the part headers again. ERROR_CORRUPT: the tree is not this mail's. */
int mime_part_load_data(struct arena *, const struct mime_source *, struct mime_part *root, struct error *);

struct mime_size mime_part_total(const struct mime_part *);   /* header + body; lines are the sum too */
/* n-th part in depth-first order, root = 0; NULL past the end. */
struct mime_part *mime_part_at(struct mime_part *root, uint32_t n);
/* Depth-first successor inside the tree under `root`; NULL at the end. */
struct mime_part *mime_part_following(struct mime_part *root, struct mime_part *);

/* Cache field mime.parts (index-format 9.7). decode: -1 with ERROR_CORRUPT unless all bytes are consumed and all
 * counts, sizes and depths are possible. Line counts of headers are not stored and come back as 0. */
void mime_parts_encode(struct buffer *out, const struct mime_part *root);
int mime_parts_decode(struct arena *, struct slice, struct mime_part **root, struct error *);

/* ---- header fields ----------------------------------------------------------------------------------------- */

struct mime_field {
    struct slice name;    /* without white space before the colon; empty for a line without a colon */
    struct slice raw;     /* whole field, all its lines with their line ends, as stored (NULs too) */
    struct slice value;   /* after the colon and the white space behind it, up to the last line end, folds as stored */
    uint32_t line;        /* 1-based number of its first line in the header */
    bool last_without_lf; /* the block ended inside this field */
};

/* Walks a header block in memory; stops at the empty line (consumed) or the end. */
struct mime_headers {
    struct slice rest;
    uint32_t line;
    uint64_t value_left;   /* of mime_limits.header_size: values are cut beyond it */
    bool empty_line;       /* set when the empty line was seen */
};
void mime_headers_init(struct mime_headers *, struct slice block);
bool mime_headers_next(struct mime_headers *, struct mime_field *);

/* First field of that name in the block; false if there is none. */
bool mime_header_find(struct slice block, const char *name, struct mime_field *);
/* The value with folding undone: each line break goes, the white space behind it stays (a line break without white
 * space behind it becomes one space), white space at both ends dropped. */
struct slice mime_header_unfold(struct arena *, struct slice value);

/* Reads the header block of a part (or, with part NULL, of the mail: up to and with the empty line), at most
 * limits.headers_size bytes, line ends as stored. */
int mime_header_read(struct arena *, const struct mime_source *, const struct mime_part *, struct slice *block,
                     struct error *);

/* A set of field names, looked up without case in constant time. Wildcards: none. */
struct mime_names;
struct mime_names *mime_names_new(struct arena *, const struct slice *names, size_t count);
bool mime_names_has(const struct mime_names *, struct slice name);
/* Index in the array given to mime_names_new (first of equals), or -1. */
ptrdiff_t mime_names_index(const struct mime_names *, struct slice name);

/* Fields whose name is in the set (or, with `invert`, is not), raw, with CRLF line ends and NUL -> 0x80, then the
 * empty line: the value of BODY[HEADER.FIELDS ...]. With
 * `invert` the header's end stays as it is; without, a last line without LF gets one, and the empty line is added. */
void mime_header_filter(struct buffer *out, struct slice block, const struct mime_names *, bool invert);

/* All fields of a block, for those who look for many names. */
struct mime_field_list {
    const struct mime_field *at;
    size_t count;
};
struct mime_field_list mime_headers_all(struct arena *, struct slice block);

/* Cache field hdr.<Name> (index-format 9.7): line numbers, 0, raw fields with LF ends (a last line without line end
 * stays without); empty when absent. */
void mime_header_cache_encode(struct buffer *out, const struct mime_field_list *, struct slice name);
/* The raw fields in it; -1 if it is malformed. *fields is empty when the header is known to be absent. */
int mime_header_cache_decode(struct slice, struct slice *fields, struct error *);
/* Merges several hdr.* values back into one header block in the order of their line numbers. */
int mime_header_cache_merge(struct arena *, const struct slice *values, size_t count, struct slice *block,
                            struct error *);

/* ---- values ------------------------------------------------------------------------------------------------ */

/* RFC 5322 address list, obsolete forms and broken input as Dovecot reads it (imap 10.4). At most *left addresses
 * (decremented); NULL = mime_limits_default. With `fill`, missing parts get the placeholders MISSING_MAILBOX,
 * MISSING_DOMAIN, SYNTAX_ERROR, INVALID_ROUTE; otherwise they are empty and `invalid` is set. NULL list: no address. */
struct mime_address *mime_address_parse(struct arena *, struct slice value, uint32_t *left, bool fill);
/* "Name, quoted" <box@host>, Atom <box@host>, <box@host>; groups as "name: <a>, <b>;". */
void mime_address_write(struct buffer *out, const struct mime_address *);
/* The first real address (not a group mark) as mailbox@domain; false if there is none or it is incomplete. */
bool mime_address_first(struct arena *, struct slice value, struct slice *address);

/* RFC 5322 date (obsolete zones, missing weekday or seconds, two-digit years). *zone in minutes. False: no date.
 * RFC 5322 section 3.3, 4.3 */
bool mime_date_parse(struct slice value, int64_t *unix_time, int *zone);
/* "05-Jan-2022 10:00:00 +0000" in the given zone (minutes), no quotes; strict parse of the same (APPEND). The form is right but
 * there is no such time (31-Feb, 24:00:00): true with INT64_MAX, which Dovecot takes as now. */
void mime_date_imap_put(struct buffer *out, int64_t unix_time, int zone);
bool mime_date_imap_parse(struct slice, int64_t *unix_time, int *zone);
/* "Tue, 24 Nov 2026 19:37:57 +0000" */
void mime_date_mail_put(struct buffer *out, int64_t unix_time, int zone);
/* The server's zone at that moment, in minutes (TZ). */
int mime_date_local_zone(int64_t unix_time);

/* RFC 2047: decodes encoded-words of a header value into UTF-8, unfolds. Unknown charset: taken for UTF-8. Bytes that
 * are not UTF-8 become U+FFFD. */
void mime_words_decode(struct buffer *out, struct slice value);
/* The same for searching and sorting: mime_normalise'd, but for words of unknown charset, which stay as they are. */
void mime_words_fold(struct buffer *out, struct slice value);

/* Content-Type ("type/subtype; params"): false when there is no type. Params as BODYSTRUCTURE shows them. */
bool mime_content_type_parse(struct arena *, struct slice value, struct slice *type, struct slice *subtype,
                             struct mime_params *);
/* The first parameter of a name, as it stands; NULL: there is none. */
const struct slice *mime_param_find(const struct mime_params *, const char *name);
/* "word; params" (Content-Disposition). */
bool mime_disposition_parse(struct arena *, struct slice value, struct slice *word, struct mime_params *);
/* The value of a parameter in UTF-8: RFC 2231 charset and percent encoding undone, RFC 2047 words too. NIL: absent. */
struct slice mime_param_utf8(struct arena *, const struct mime_params *, const char *name);

/* A message-id without its brackets and comments off the front of *rest ("<a@b> <c@d>"); false: there is no more. */
bool mime_message_id_next(struct arena *, struct slice *rest, struct slice *id);

/* Base subject (RFC 5256 section 2.1 as imap 11.6): normalised; *reply tells whether a reply or forward mark was
 * removed. `subject` is the raw header value. */
struct slice mime_base_subject(struct arena *, struct slice subject, bool *reply);

/* ---- what IMAP shows --------------------------------------------------------------------------------------- */

/* IMAP string writers (imap 4.4). The slice may be NIL. */
void mime_put_nstring(struct buffer *out, struct slice);
void mime_put_nstring_nolf(struct buffer *out, struct slice);
void mime_put_humans(struct buffer *out, struct slice);
void mime_put_astring(struct buffer *out, struct slice);

/* ENVELOPE without the outermost parentheses: also the cache field imap.envelope. */
void mime_envelope_put(struct buffer *out, const struct mime_envelope *);
/* From a header block, or from the fields of mime_envelope_names joined. */
struct mime_envelope *mime_envelope_parse(struct arena *, struct slice block);
enum { MIME_ENVELOPE_NAMES = 10 };
extern const char *const mime_envelope_names[MIME_ENVELOPE_NAMES + 1];   /* Date ... Message-ID; NULL-terminated */
/* From the cached values (mime_header_cache_encode) of mime_envelope_names, in that order: the same as parsing what
 * mime_header_cache_merge makes of them, without making it. -1 if one is malformed; nothing is written then. */
int mime_envelope_put_cached(struct buffer *out, struct arena *, const struct slice *values, struct error *);

/* BODYSTRUCTURE (extended) or BODY without the outermost parentheses: also imap.bodystructure and imap.body.
 * Needs data in the whole tree. */
void mime_structure_put(struct buffer *out, const struct mime_part *root, bool extended);
/* BODY out of a cached BODYSTRUCTURE; -1 if that is not one. */
int mime_structure_to_body(struct buffer *out, struct slice structure, struct error *);
/* The bit 0x10 of cache field flags: BODYSTRUCTURE follows from the sizes alone (plain us-ascii 7bit text). */
bool mime_structure_is_plain(const struct mime_part *root);
void mime_structure_put_plain(struct buffer *out, const struct mime_part *root, bool extended);

/* ---- sections ---------------------------------------------------------------------------------------------- */

enum mime_section_what {
    MIME_SECTION_ALL,          /* [] or [1.2] */
    MIME_SECTION_HEADER,
    MIME_SECTION_FIELDS,
    MIME_SECTION_FIELDS_NOT,
    MIME_SECTION_TEXT,
    MIME_SECTION_MIME
};

struct mime_section {
    enum mime_section_what what;
    uint32_t *numbers;
    size_t depth;
    struct slice *names;       /* of FIELDS and FIELDS_NOT */
    size_t names_count;
};

/* The text between the brackets without a name list: "", "TEXT", "1.2.HEADER.FIELDS". The caller sets the names of the
 * list that followed. -1: `Invalid BODY[..] section` (imap 10.3); HEADER.FIELDS passes here without names. */
int mime_section_parse(struct arena *, struct slice text, struct mime_section *, struct error *);
/* False when the section can be answered with root == NULL: no numbers. That costs a scan for sizes. */
bool mime_section_needs_tree(const struct mime_section *);
/* The part that the numbers mean, NULL if there is none; *body tells that its body (not header + body) is meant. */
struct mime_part *mime_section_part(struct mime_part *root, const struct mime_section *, bool *whole);

/* Where a partial read ended, so that a client that walks through a big body does not cost a scan from the start
 * each time: kept by the session, zero at first, dropped when another message or part is read. */
struct mime_hint {
    uint64_t begin;            /* physical begin of the range it belongs to */
    uint64_t physical, virtual;
    bool after_cr;
};

/* A reader of virtual bytes: CRLF line ends, NUL -> 0x80. `from` and `count` are the partial range
 * (0 and UINT64_MAX for all). */
struct mime_reader;
int mime_section_open(struct arena *, const struct mime_source *, struct mime_part *root, const struct mime_section *,
                      uint64_t from, uint64_t count, struct mime_hint *, struct mime_reader **, struct error *);
/* A reader of any physical range whose virtual size is known (or UINT64_MAX: it is counted first). */
int mime_reader_open(struct arena *, const struct mime_source *, uint64_t offset, uint64_t physical, uint64_t virtual,
                     uint64_t from, uint64_t count, struct mime_hint *, struct mime_reader **, struct error *);
uint64_t mime_reader_size(const struct mime_reader *);   /* exactly what read will give in all */
/* Up to `size` bytes; 0 at the end, -1: error (ERROR_CORRUPT when the mail is shorter than promised). */
ssize_t mime_reader_read(struct mime_reader *, void *buf, size_t size, struct error *);
void mime_reader_free(struct mime_reader *);   /* its window; the rest lives in the arena. NULL is fine */

/* ---- decoding ---------------------------------------------------------------------------------------------- */

enum mime_encoding mime_encoding_of(struct slice word);   /* without case; empty: MIME_ENCODING_NONE */

/* A streaming decoder: feed appends what it can decode; finish the rest. `broken` is set by invalid input, decoding
 * goes on as Dovecot's does. */
struct mime_decoder {
    enum mime_encoding encoding;
    bool broken;
    bool ended;
    unsigned char hold[80];
    size_t held;
    uint32_t bits;
    unsigned state;
};
void mime_decoder_init(struct mime_decoder *, enum mime_encoding);
void mime_decoder_feed(struct mime_decoder *, struct slice, struct buffer *out);
void mime_decoder_finish(struct mime_decoder *, struct buffer *out);

/* Charsets by iconv, plus UTF-8 that is checked: what is not valid becomes U+FFFD (once per run). */
struct mime_charset;
bool mime_charset_known(struct slice name);
/* Other names, "foo=koi8-r bar=utf-8", for all functions that are called with a charset until this is called again; the text must stay
 * meanwhile. Encoded words in UTF-8 and ASCII stay what they are. Words that are no NAME=NAME are passed over. NULL: there are none. */
void mime_charset_aliases(const char *);
struct mime_charset *mime_charset_open(struct slice name);   /* NULL: unknown. SLICE_EMPTY, us-ascii, utf-8: UTF-8 */
/* An unknown one is taken for UTF-8, which an alias may turn into another; never NULL. */
struct mime_charset *mime_charset_open_body(struct slice name);
void mime_charset_feed(struct mime_charset *, struct slice, struct buffer *out);
/* False if anything was invalid or incomplete. */
bool mime_charset_close(struct mime_charset *, struct buffer *out);
/* The same for a body, of which the real server leaves out a character that the end cuts off. */
void mime_charset_close_body(struct mime_charset *, struct buffer *out);
/* Whole text at once; false (out as far as it went) when it is unknown or invalid. */
bool mime_charset_to_utf8(struct slice name, struct slice text, struct buffer *out);

/* i;unicode-casemap (RFC 5051): decomposed title case of UTF-8; invalid bytes become U+FFFD. */
void mime_normalise(struct buffer *out, struct slice utf8);

/* ---- search ------------------------------------------------------------------------------------------------ */

/* A search key: UTF-8, normalised once. */
struct mime_key {
    struct slice text;         /* normalised */
};
struct mime_key mime_key_new(struct arena *, struct slice utf8);

/* HEADER: the value with encoded-words decoded, unfolded. */
bool mime_match_value(const struct mime_key *, struct slice raw_value);
/* SUBJECT: the same after white space runs became one space each. */
bool mime_match_subject(const struct mime_key *, struct slice raw_value);
/* FROM, TO, CC, BCC: the addresses rewritten as mime_address_write does, then decoded. */
bool mime_match_addresses(const struct mime_key *, struct slice raw_value);

enum mime_match_kind { MIME_MATCH_VALUE, MIME_MATCH_ADDRESSES, MIME_MATCH_SUBJECT };
/* Any field called `name` in the block; an empty key matches presence. */
bool mime_match_header(const struct mime_key *, struct slice block, struct slice name, enum mime_match_kind);

/* BODY and TEXT (imap 11.2) for several keys in one pass, in steps of about `budget` bytes. found[i] is set for each
 * key that occurs; the pass stops when all are found. The tree needs data. `with_headers`: TEXT. */
struct mime_search;
struct mime_search *mime_search_new(struct arena *, const struct mime_source *, struct mime_part *root,
                                    const struct mime_key *keys, bool *found, size_t count, bool with_headers);
enum step mime_search_step(struct mime_search *, size_t budget, struct error *);
void mime_search_free(struct mime_search *);

/* PREVIEW (imap 10.7): at most 200 characters of text. The cache field body.snippet is '1' and this text. */
int mime_preview(struct arena *, const struct mime_source *, struct mime_part *root, struct buffer *out,
                 struct error *);

#endif
