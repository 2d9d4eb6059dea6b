/* SASL mechanisms (auth.md 11). A new one is a row in mech.c and a file mech_NAME.c.
 *
 * An exchange is one run of a mechanism. `input` gets each (decoded) message of the client; the mechanism answers with
 * exchange_challenge, or asks the passdbs and ends with exchange_finish. */
#ifndef YARILO_AUTH_MECH_H
#define YARILO_AUTH_MECH_H

#include "auth/auth.h"

struct exchange;

struct mech {
    const char *name;
    const char *flags;          /* words of the MECH line, separated by TAB, with one in front */
    bool needs_passdb;
    bool plaintext;
    /* The client sent no initial response; NULL: an empty challenge asks for it. */
    void (*begin)(struct exchange *);
    void (*input)(struct exchange *, struct slice data);
    void (*free)(struct exchange *); /* of `state`; may be NULL */
};

struct exchange {
    const struct mech *mech;
    struct request *request;    /* request->owner is the exchange */
    void *state;                /* of the mechanism */
    void (*challenge)(struct exchange *, struct slice data);
    void (*finished)(struct exchange *, enum passdb_result, struct slice final);
};

const struct mech *mech_find(struct slice name); /* any case; NULL */
void mech_add(const struct mech *);              /* from a module */

void exchange_challenge(struct exchange *, struct slice data);
void exchange_finish(struct exchange *, enum passdb_result, struct slice final);
/* Verifies the request's user with this password, then finishes. The password is wiped. */
void exchange_verify(struct exchange *, char *password);
/* Takes a user name into the request; on failure logs, finishes, and returns false. */
bool exchange_set_user(struct exchange *, const char *name);
/* Refuses what the client sent. */
void exchange_refuse(struct exchange *, const char *why);

extern const struct mech mech_plain, mech_login, mech_token /* of the token socket alone */;

#endif
