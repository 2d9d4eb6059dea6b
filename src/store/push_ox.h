/* The driver ox of push_notification (quota-acl-plugins 5): tells a server by HTTP of messages that were delivered to INBOX,
 * for users who have registered (the server's attribute vendor/vendor.dovecot/http-notify). */
#ifndef YARILO_STORE_PUSH_OX_H
#define YARILO_STORE_PUSH_OX_H

#include "store/driver.h"

struct push_ox;

/* `config`: "url=URL cache_lifetime=60s ...". NULL: it cannot work, which is logged. */
struct push_ox *push_ox_open(struct mail_user *, struct slice config);
/* What is on its way goes on. */
void push_ox_close(struct push_ox *);

/* Around what happens in a mailbox (NULL: to a mailbox). */
void push_ox_begin(struct push_ox *, struct mailbox *);
void push_ox_saved(struct push_ox *, const struct staged *);
void push_ox_end(struct push_ox *, struct mailbox *);

#endif
