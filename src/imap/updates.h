/* Searches that a client watches (CONTEXT=SEARCH, RFC 5267): registered by RETURN (UPDATE), told of in synchronisations. */
#ifndef YARILO_IMAP_UPDATES_H
#define YARILO_IMAP_UPDATES_H

#include "imap/fetch.h"
#include "imap/search.h"

enum { UPDATES_MAX = 10 };

/* Takes the request's search over, with its arena. The hits are those of the search. */
void updates_add(struct session *, struct request *, struct search *);
bool updates_full(const struct session *);
bool updates_has(const struct session *, struct slice tag);
void updates_forget(struct session *);
/* REMOVEFROM for messages that are about to be expunged, highest number first. */
struct index_change;
void updates_tell_expunged(struct session *, const struct index_change *, size_t count);
/* Looks at changed and new messages. Starts over for each synchronisation. */
struct updates_pass;
struct updates_pass *updates_pass_new(struct session *);
void updates_pass_changed(struct updates_pass *, uint32_t uid);
enum step updates_step(struct session *, struct updates_pass *, struct budget *, struct error *);
void updates_pass_free(struct session *, struct updates_pass **);

#endif
