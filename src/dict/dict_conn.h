/* The server's side of the dict protocol (ipc 10.1): one connection, one dictionary, its transactions. */
#ifndef YARILO_DICT_DICT_CONN_H
#define YARILO_DICT_DICT_CONN_H

#include "store/dict.h"

struct dict_conn;

struct dict_conn_handler {
    /* The dictionary of that name. False: answered in the log, the connection ends. */
    bool (*open)(void *arg, const char *name, struct dict **);
    void (*send)(void *arg, struct slice lines);
};

struct dict_conn *dict_conn_new(const struct dict_conn_handler *, void *arg);
void dict_conn_free(struct dict_conn *);
enum dict_input { DICT_NEXT, DICT_AGAIN, DICT_END };
/* One line. DICT_AGAIN: a file's lock is held by somebody; nothing was answered, call again with the same line. DICT_END: it
 * ends (*e of class NONE: without a word in the log). */
enum dict_input dict_conn_take(struct dict_conn *, struct slice line, struct error *);

#endif
