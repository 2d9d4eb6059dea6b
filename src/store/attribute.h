/* Attributes of mailboxes and of the server: METADATA, keys of mail_crypt (maildir-and-layouts 10, imap 12.4).
 *
 * They live in the user's mail_attribute_dict under "priv/<mailbox GUID>/name" and "shared/<mailbox GUID>/name"; those of the
 * server below INBOX's GUID with SERVER_ATTRIBUTES in front. Names have no "/private/" or "/shared/": that is the scope.
 * They go with DELETE and stay at RENAME, since the GUID does. Names are kept in lower case. */
#ifndef YARILO_STORE_ATTRIBUTE_H
#define YARILO_STORE_ATTRIBUTE_H

#include "store/dict.h"
#include "store/store.h"

enum attribute_scope { ATTRIBUTE_PRIVATE, ATTRIBUTE_SHARED };

#define ATTRIBUTE_INTERNAL_PREFIX "vendor/vendor.dovecot/pvt/"
#define ATTRIBUTE_SERVER_PREFIX "vendor/vendor.dovecot/pvt/server/"
/* Keys of mail_crypt: beside the mailbox, and the user's own below the server's. */
#define ATTRIBUTE_CRYPT_PREFIX "vendor/vendor.dovecot/pvt/crypt/"

/* Is mail_attribute_dict set? Opens it. ERROR_UNSUPPORTED "Mailbox attributes not enabled". */
int mail_user_attributes(struct mail_user *, struct dict **, struct error *);

/* Where a mailbox's are: shared ones of another user's mailbox in his dictionary, private ones always in one's own. */
int mailbox_attributes(struct mailbox *, enum attribute_scope, struct dict **, struct error *);

/* *value NULL: there is none. Built-in values (comment, specialuse, the server's comment and admin) included. */
int mailbox_attribute_get(struct mailbox *, enum attribute_scope, const char *name, struct arena *, const char **value,
                          struct error *);
/* Names below `prefix` ("" = all; "a/b": "a/b" itself is not meant, "a/b/c" is), without the prefix, sorted as the dictionary
 * has them, built-in ones behind. Internal ones (ATTRIBUTE_INTERNAL_PREFIX) only if asked for. */
struct attribute_names {
    const char **at;
    size_t count, room;
};
int mailbox_attribute_list(struct mailbox *, enum attribute_scope, const char *prefix, bool internal, struct arena *,
                           struct attribute_names *, struct error *);

struct attribute_change {
    enum attribute_scope scope;
    const char *name;
    const char *value;             /* NULL = take away */
};
/* May this one be set? ERROR_UNSUPPORTED "The /private/specialuse attribute cannot be changed". */
int mailbox_attribute_settable(struct mailbox *, const struct attribute_change *, struct error *);
/* All of them or none. Everything is copied. */
struct store_op *mailbox_attribute_set(struct mailbox *, const struct attribute_change *, size_t count);
/* The values are kept elsewhere (access control lists): only the mailbox's log is told that they have changed. */
struct store_op *mailbox_attribute_note(struct mailbox *, const struct attribute_change *, size_t count);

/* Below the store (DELETE): unset everything of a GUID; STEP_WAIT as dict_commit. No dictionary: done. */
enum step attribute_forget(struct mail_user *, const unsigned char guid[16], struct error *);

#endif
