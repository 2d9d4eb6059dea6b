/* The process's client for HTTP, for what users ask of the servers of others (push_notification). */
#ifndef YARILO_STORE_HTTP_H
#define YARILO_STORE_HTTP_H

#include "rpc/http_client.h"

struct mail_user;

/* NULL: a program without a loop (later.h). */
struct http_client *store_http(void);
/* As the user's settings say; valid as long as these. */
struct http_trust store_http_trust(const struct mail_user *);
/* Before the loop goes: waits for what is on its way, at most `ms`; the rest is told that it was aborted. */
void store_http_end(unsigned ms);

#endif
