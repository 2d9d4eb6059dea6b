/* http.c - one HTTP client a process, on the loop that work for later runs on. */
#include "store/http.h"

#include "store/internal.h"
#include "store/later.h"

static struct http_client *client;     /* NULL: nobody has asked for it */

struct http_client *store_http(void)
{
    if (client == NULL && store_later_has_loop())
        client = http_client_new(store_later_loop());
    return client;
}

struct http_trust store_http_trust(const struct mail_user *user)
{
    return (struct http_trust){conf_str(user->settings, SET_ssl_client_ca_file), conf_str(user->settings, SET_ssl_client_ca_dir),
                               !conf_bool(user->settings, SET_ssl_client_require_valid_cert)};
}

void store_http_end(unsigned ms)
{
    http_client_wait(client, ms);
    http_client_free(client);
    client = NULL;
}
