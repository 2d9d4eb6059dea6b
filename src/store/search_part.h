/* Keys about one part of a message (SEARCH=MIMEPART, imap 11.4): a message matches if one of its parts satisfies the key. */
#ifndef YARILO_STORE_SEARCH_PART_H
#define YARILO_STORE_SEARCH_PART_H

#include "store/imap_arg.h"
#include "store/search.h"

enum { SEARCH_PART_KEYS = 100 };  /* of one MIMEPART, all levels; more are refused */

enum search_part_type {
    PART_AND, PART_OR,            /* of `children` */
    PART_NONE,                    /* matches nothing */
    PART_PARENT, PART_CHILD,      /* one that matches children->...; without children: there is one */
    PART_SIZE,                    /* octets of the body, `compare` */
    PART_DEPTH,                   /* 0: the message itself */
    PART_INDEX,                   /* 1: the first child; the message itself too */
    PART_TYPE, PART_SUBTYPE, PART_ENCODING, PART_ID, PART_MD5, PART_LOCATION, PART_LANGUAGE,  /* are `text` in any case */
    PART_DISPOSITION,             /* its word is `text` */
    PART_DESCRIPTION,             /* contains `key` */
    PART_PARAM, PART_DISPOSITION_PARAM, /* the parameter `name` contains `key` */
    PART_FILENAME,                /* `compare` */
    PART_ENVELOPE,                /* of an attached message: field `name` contains `key` */
    PART_SENT                     /* its Date: `when`, day `number` */
};
enum search_part_compare { PART_IS, PART_CONTAINS, PART_BEGINS, PART_ENDS, PART_LARGER, PART_SMALLER };

struct search_part_key {
    struct search_part_key *next, *children;
    enum search_part_type type;
    enum search_part_compare compare;
    bool negate;
    enum search_when when;
    uint64_t number;
    struct slice name, text;
    struct mime_key key;
    unsigned id;                  /* 0 ... below the count of this MIMEPART's keys */
};

/* Reads the key behind *arg, which moves to the last argument taken; strings are in `charset`. Lists are arguments, or flat: the
 * atoms "(" and ")", which are strings where a string is wanted. The key becomes SEARCH_MIMEPART and keeps texts of the arguments. False: *fault is what the
 * user is told; NULL: a text is in a charset that nobody knows, which `charset` NULL stands for. */
bool search_part_parse(struct arena *, const char *charset, const struct imap_arg **arg, struct search_key *, const char **fault);

/* The tree needs data. `count`: keys of the whole tree. */
bool search_part_match(struct arena *, const struct mime_part *root, const struct search_part_key *, unsigned count);

#endif
