/* Sessions at rest (imap 13, ipc 14): from the worker's side.
 *
 * A session that idles for imap_hibernate_timeout gives its client's descriptor and a text of its state to imap-hibernate and
 * is freed; later a worker makes a session of that text again, which tells its client what has happened meanwhile. Whatever
 * goes wrong on the way there leaves the session where it is. */
#ifndef YARILO_IMAP_HIBERNATE_H
#define YARILO_IMAP_HIBERNATE_H

#include "imap/session.h"

/* ---- hibernate.c ---- */
struct hibernation;
/* May this session rest at all (by setting and by where it came from)? Then after how long; 0: no. In ns. */
uint64_t hibernate_after_ns(const struct session *);
/* IDLE has nothing to do. True: on its way; no steps until it is gone or has come back. */
bool hibernate_start(struct session *);
bool hibernate_underway(const struct session *);
/* The session ends while it is on its way. True: imap-hibernate has it already. */
bool hibernate_cancel(struct session *);
/* The state that login->rested holds. False: the session was ended. */
bool hibernate_resume(struct session *, const struct imap_login *);

/* ---- hibernate_state.c: the texts ---- */
struct hibernate_state {
    bool selected, examined;
    const char *mailbox;
    unsigned char guid[16];
    struct index_past past;              /* its ranges are to be freed */
    uint32_t messages;
    uint64_t modseq;
    uint32_t keywords;
    struct index_ranges recent, saved;   /* to be freed */
    bool id_logged, modseq_told;
    uint64_t modseq_confirmed, modseq_fetched;
    uint32_t uid_crc;
    bool has_uids;                       /* past.uids are those of the session */
};
/* Appends the text of `state=` (before base64). */
void hibernate_state_put(struct session *, const unsigned char guid[16], const struct index_past *, struct buffer *out);
/* What Dovecot's state has no place for: `yarilo=` (before base64). */
void hibernate_own_put(struct session *, const struct index_past *, struct buffer *out);
/* Reads both (own may be empty: Dovecot's imap wrote it); features and counters go to the session. Names in the arena. */
int hibernate_state_read(struct session *, struct arena *, struct slice state, struct slice own, struct hibernate_state *,
                         struct error *);
void hibernate_state_free(struct hibernate_state *);
uint32_t hibernate_uid_crc(const struct index_ranges *uids);

#endif
