/* A parsed query, between query.c (parsing) and query_run.c (mailboxes and messages). */
#ifndef YARILO_DOVEADM_QUERY_IMPL_H
#define YARILO_DOVEADM_QUERY_IMPL_H

#include "query.h"

enum query_kind { QUERY_AND, QUERY_OR, QUERY_KEY, QUERY_INTHREAD, QUERY_MAILBOX, QUERY_MAILBOX_GUID, QUERY_X_MAILBOX };

struct query_node {
    struct query_node *next, *children;
    enum query_kind kind;
    bool negate;
    const char *text;          /* name or pattern, GUID in hexadecimal */
    struct search_key *key;    /* INTHREAD: the node's one child is to be in it */
};

struct query {
    struct query_node *root;
    bool oldest_only;          /* a mailbox ends at the first message that had to be looked into and does not match */
};

#endif
