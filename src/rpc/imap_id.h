/* imap_id.h - the answer to IMAP's ID: the same before login, by the front, and after it, by the worker. */
#ifndef YARILO_RPC_IMAP_ID_H
#define YARILO_RPC_IMAP_ID_H

#include "base/slice.h"

/* Appends what stands behind "* ID " for this value of `imap_id_send`: "NIL" or a list of pairs. */
void imap_id_put(struct buffer *out, const char *imap_id_send);

#endif
