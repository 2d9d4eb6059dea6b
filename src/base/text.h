/* Text codecs: the one escaping function for fields between processes, base64, hex, modified UTF-7, UTF-8. */
#ifndef YARILO_BASE_TEXT_H
#define YARILO_BASE_TEXT_H

#include "base/mem.h"
#include "base/slice.h"

/* TAB escaping (ipc "Notation"): 0x00 0x01 TAB CR LF become 0x01 followed by '0' '1' 't' 'r' 'n'.
 * Every field that crosses a process boundary goes through this pair, both ways. */
void text_tab_escape(struct buffer *out, struct slice);
char *text_tab_escaped(struct arena *, struct slice);
/* An unknown letter after 0x01 stands for itself; a lone 0x01 at the end is dropped. The result may hold NUL. */
struct slice text_tab_unescape(struct arena *, struct slice);
/* Splits a line at TABs and unescapes each field. Returns the number of fields (an empty line has one, empty). */
size_t text_tab_fields(struct arena *, struct slice line, struct slice **fields);

/* "text", with a backslash before each " and \\ in it: a quoted string of RFC 5322, of IMAP and of Dovecot's own files. */
void text_quoted(struct buffer *out, struct slice);
/* The inside of a JSON string, as Dovecot writes it: invalid UTF-8 becomes U+FFFD. */
void text_json_escape(struct buffer *out, struct slice);

/* RFC 4648 section 4, with padding. Decoding refuses foreign bytes, bad padding and trailing garbage; -1. */
void text_base64_encode(struct buffer *out, struct slice);
int text_base64_decode(struct buffer *out, struct slice);
/* The six bits of a letter, -1 for any other byte, '=' too. Inline: the decoders of mail ask it for every byte. */
extern const unsigned char text_base64_values[256];   /* one more than the value; 0: none */
static inline int text_base64_value(unsigned char c)
{
    return text_base64_values[c] - 1;
}
void text_hex_encode(struct buffer *out, struct slice);  /* lower case */
int text_hex_decode(struct buffer *out, struct slice);

/* UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, at most U+10FFFF. */
bool text_utf8_valid(struct slice);
/* Decodes one character off the front of *s; -1 on an invalid sequence (one byte is consumed) or at the end. */
int32_t text_utf8_next(struct slice *s);
void text_utf8_put(struct buffer *out, uint32_t c);

/* Modified UTF-7 (RFC 3501 section 5.1.3). Decoding is strict: it fails where another encoding of the same name
 * would exist (superfluous shifts, printable ASCII in a shift, wrong padding, lone surrogates). -1 on error. */
int text_mutf7_to_utf8(struct buffer *out, struct slice);
int text_utf8_to_mutf7(struct buffer *out, struct slice);

char text_lower(char c);                                  /* ASCII */
struct slice text_lowered(struct arena *, struct slice);  /* ASCII */

/* What is done with every byte of a mail (text_blocks.c). */
size_t text_ascii_length(struct slice);                         /* bytes below 0x80 at its front */
/* Printable ASCII but for the quotation mark and the backslash, at least one byte: nothing that a quoted string has to escape.
 * single: no blank at an end or beside another, either. */
bool text_is_plain(struct slice, bool single_blanks);
size_t text_plain_length(struct slice, unsigned char but);      /* bytes at its front that are neither control characters nor `but` */
void text_upper_ascii(unsigned char *, size_t);                 /* in place */
/* The whole lines at its front, up to the first of them behind an LF that begins with `stop` (-1: all). */
struct text_lines {
    size_t size;                   /* of all of them, with their line ends */
    uint32_t count, bare;          /* bare: that end in an LF without a CR */
};
struct text_lines text_lines(struct slice, bool cr_before, int stop);   /* cr_before: the byte in front of it is a CR */
/* Most of `in` with each LF as CRLF: what goes without care for the ends of both. -> bytes that were made; *used of `in` (never
 * between a CR that was made and its LF). *cr: is the byte before a CR? */
size_t text_put_crlf(unsigned char *out, size_t room, struct slice in, bool *cr, size_t *used);
/* Likewise with each CRLF as LF; the byte before `in` is no CR. A CR at the end of *used whose LF follows is not made. */
size_t text_put_lf(unsigned char *out, size_t room, struct slice in, size_t *used);

/* Dovecot's time and size words (config 5): "30 secs", "5 mins", "2h", "500ms", "64k". -1: not such a text. */
int text_parse_msecs(struct slice, uint64_t *ms);
int text_parse_size(struct slice, uint64_t *bytes);

#endif
