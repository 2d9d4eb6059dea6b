/* The keys of one user (mail_crypt): global ones from the settings, else one pair a mailbox, whose private half is wrapped for
 * the user's own pair, which is wrapped with a password or bare. Pairs live in attributes (store/attribute.h). */
#ifndef YARILO_STORE_CODING_CRYPT_USER_H
#define YARILO_STORE_CODING_CRYPT_USER_H

#include "store/attribute.h"
#include "store/coding/coding.h"
#include "store/coding/crypt.h"

struct crypt_user;
/* Dovecot's errors ("mail_crypt_plugin: ..."): the user is refused. */
int crypt_user_open(struct mail_user *, struct crypt_user **, struct error *);
void crypt_user_close(struct crypt_user **);   /* NULL is fine */
/* Puts the sink in front, unless mail_crypt_save_version is 0. */
/* Are new messages encrypted? */
bool crypt_user_saves(const struct mail_user *);
int crypt_user_encode(struct mailbox *, struct byte_sink **first, struct error *);
/* A key that somebody else shared with this user counts, too. */
struct decoder *crypt_user_decode(struct mailbox *, struct input *, struct error *);
/* Do mailboxes have keys of their own? Then a file of one cannot be read in another. */
bool crypt_user_by_folder(const struct mail_user *);

/* ---- for doveadm mailbox cryptokey, and for those that make keys ---- */

/* box NULL: the user's pair. */
enum { CRYPT_MAKE_FORCE = 1, CRYPT_MAKE_REWRAP = 2 };
/* The active public key; *key NULL: there is none. */
int crypt_user_active(struct mail_user *, struct mailbox *box, struct crypt_key **key, struct error *);
/* A new active pair (box NULL: the user's; made first where a mailbox needs it). */
int crypt_user_generate(struct mail_user *, struct mailbox *box, struct crypt_key **key, struct error *);
struct crypt_pair {
    char id[2 * CRYPT_ID_SIZE + 1];
    bool active;
};
struct crypt_pairs {
    struct crypt_pair *at;
    size_t count, room;
};
int crypt_user_pairs(struct mail_user *, struct mailbox *box, struct crypt_pairs *, struct error *);
/* The unwrapped private key; owned by the user. NULL with *e. */
const struct crypt_key *crypt_user_private(struct mail_user *, struct mailbox *box, const char *id, struct error *);
/* Below the keys' prefix (box NULL: the user's); value NULL takes away. Waits for the dictionary's lock. */
int crypt_user_put(struct mail_user *, struct mailbox *box, const struct attribute_change *, size_t count, struct error *);
/* Wraps the mailbox's private keys for the user's active key. *count: how many. */
int crypt_user_rewrap(struct mail_user *, struct mailbox *box, size_t *count, struct error *);
/* Stores the user's private keys with another password; NULL = bare. Texts as Dovecot's. */
int crypt_user_password(struct mail_user *, const char *old, const char *fresh, size_t *count, struct error *);

/* ---- crypt_share.c: mail_crypt_acl ---- */

struct acl_change;
bool crypt_share_wanted(const struct mail_user *);
/* ERROR_PERMISSION: mail_crypt_acl_require_secure_key_sharing forbids to give keys to everybody. */
int crypt_share_allowed(const struct mail_user *, const struct acl_change *, struct error *);
/* Makes what is shared follow the mailbox's list; nothing where the plugin is not loaded. */
int crypt_share_update(struct mailbox *, struct error *);
int crypt_share_update_place(const struct mailbox_place *, struct error *);
/* "privkeys/..." of a key for a user; NULL: for everybody. */
const char *crypt_share_name(struct arena *, const char *user, const char *id);

#endif
