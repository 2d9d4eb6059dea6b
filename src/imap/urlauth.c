/* urlauth.c - keys, tokens, access (RFC 4467 sections 3 to 5, imap 12.5). */
#include "imap/urlauth.h"

#include "store/attribute.h"

#include <nettle/hmac.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

bool urlauth_enabled(const struct mail_user *user)
{
    const struct settings *set = mail_user_settings(user);

    return *conf_str(set, SET_imap_urlauth_host) != '\0' && *conf_str(set, SET_mail_attribute_dict) != '\0';
}

const char *urlauth_host_fault(const struct settings *set, const struct imap_url *url)
{
    const char *host = conf_str(set, SET_imap_urlauth_host);

    if (url->host == NULL || (strcmp(host, "*") != 0 && strcmp(host, url->host) != 0))
        return "Inappropriate host name";
    if ((url->has_port ? url->port : 143) != conf_uint(set, SET_imap_urlauth_port))
        return "Inappropriate server port";
    return NULL;
}

bool urlauth_key(struct mailbox *box, struct arena *arena, unsigned char key[URLAUTH_KEY], struct error *e)
{
    const char *text = NULL;
    struct buffer bytes = {0};
    bool good;

    *e = (struct error){0};
    if (mailbox_attribute_get(box, ATTRIBUTE_PRIVATE, URLAUTH_KEY_NAME, arena, &text, e) < 0 || text == NULL)
        return false;
    good = text_hex_decode(&bytes, slice_from_str(text)) == 0 && bytes.size == URLAUTH_KEY;
    if (good)
        memcpy(key, bytes.at, URLAUTH_KEY);
    buffer_wipe(&bytes);
    return good;
}

struct store_op *urlauth_key_make(struct mailbox *box, unsigned char key[URLAUTH_KEY])
{
    struct attribute_change change = {.scope = ATTRIBUTE_PRIVATE, .name = URLAUTH_KEY_NAME};
    struct buffer text = {0};
    struct store_op *op;

    if (getrandom(key, URLAUTH_KEY, 0) != URLAUTH_KEY)
        abort(); /* at most 256 bytes never come short */
    text_hex_encode(&text, slice_of(key, URLAUTH_KEY));
    change.value = buffer_cstr(&text);
    op = mailbox_attribute_set(box, &change, 1);
    buffer_wipe(&text);
    return op;
}

struct store_op *urlauth_key_remove(struct mailbox *box)
{
    struct attribute_change change = {.scope = ATTRIBUTE_PRIVATE, .name = URLAUTH_KEY_NAME};

    return mailbox_attribute_set(box, &change, 1);
}

void urlauth_token(const unsigned char key[URLAUTH_KEY], struct slice rump, unsigned char token[URLAUTH_TOKEN])
{
    struct hmac_sha1_ctx ctx;

    token[0] = 1;
    hmac_sha1_set_key(&ctx, URLAUTH_KEY, key);
    hmac_sha1_update(&ctx, rump.size, rump.at);
    hmac_sha1_digest(&ctx, SHA1_DIGEST_SIZE, token + 1);
}

/* ---- fetching ----------------------------------------------------------------------------------------------------------- */

bool urlauth_parse(struct urlauth_fetch *f, struct arena *arena, const struct settings *set, struct slice text)
{
    const char *wrong;

    *f = (struct urlauth_fetch){.text = text};
    f->syntax = imap_url_parse(arena, text, NULL, IMAP_URL_URLAUTH, &f->url, &f->fault) < 0;
    if (f->syntax)
        return false;
    wrong = f->url.mechanism == NULL || f->url.mailbox == NULL || f->url.uid == 0 ? "Must be a full URLAUTH URL"
                                                                               : urlauth_host_fault(set, &f->url);
    if (wrong != NULL)
        f->fault = arena_printf(arena, "Invalid URL: %s", wrong);
    else if (f->url.user == NULL)
        f->fault = "Invalid URLAUTH: Missing user name";
    else if (strcasecmp(f->url.mechanism, "INTERNAL") != 0)
        f->fault = arena_printf(arena, "Unsupported URLAUTH mechanism: %s", f->url.mechanism);
    else if (f->url.has_expire && f->url.expire <= (int64_t)time(NULL))
        f->fault = "URLAUTH has expired";
    return f->fault == NULL;
}

static bool has_app(const char *const *apps, const char *name, bool named)
{
    for (; apps != NULL && *apps != NULL; apps++) {
        size_t n = strlen(*apps);
        bool plus = n > 0 && (*apps)[n - 1] == '+';

        if (plus == named && strlen(name) == n - plus && strncmp(*apps, name, n - plus) == 0)
            return true;
    }
    return false;
}

/* NULL: `accessor` may. */
static const char *access_fault(struct arena *arena, const struct imap_url *url, const char *owner, const char *accessor,
                                const char *const *apps)
{
    const char *app = url->application, *name = url->access_user;
    bool may = false;

    if (strcasecmp(app, "user") == 0) {
        if (name == NULL)
            return "URLAUTH `user' access is missing userid";
        may = accessor != NULL && (strcmp(name, accessor) == 0 || strcmp(owner, accessor) == 0);
    } else if (strcasecmp(app, "authuser") == 0) {
        may = accessor != NULL;
    } else if (strcasecmp(app, "anonymous") == 0) {
        may = true;
    } else {
        may = has_app(apps, app, name != NULL) && (name == NULL || (accessor != NULL && strcmp(name, accessor) == 0));
    }
    if (may)
        return NULL;
    return arena_printf(arena, "No '%s%s%s' access allowed for %s%s", app, name == NULL ? "" : "+", name == NULL ? "" : name,
                        accessor == NULL ? "anonymous user" : "user ", accessor == NULL ? "" : accessor);
}

int urlauth_begin(struct urlauth_fetch *f, struct arena *arena, struct mail_user *owner, const char *accessor,
                  const char *const *apps, struct error *e)
{
    const char *fault;

    f->fault = access_fault(arena, &f->url, mail_user_name(owner), accessor, apps);
    f->denied = strcasecmp(f->url.application, "user") == 0 || strcasecmp(f->url.application, "authuser") == 0;
    if (f->fault != NULL)
        return -1;
    f->denied = true;
    if (part_begin(&f->part, owner, arena, &f->url, &fault, e) == 0)
        return 0;
    if (fault != NULL)
        f->fault = arena_printf(arena, "Invalid URLAUTH: %s", fault);
    else
        f->denied = false;
    return -1;
}

int urlauth_check(struct urlauth_fetch *f, struct arena *arena, struct error *e)
{
    unsigned char key[URLAUTH_KEY], token[URLAUTH_TOKEN];
    const char *fault;

    if (part_check(&f->part, &fault) < 0) {
        f->fault = arena_printf(arena, "Invalid URLAUTH: %s", fault);
        return -1;
    }
    if (!urlauth_key(f->part.box, arena, key, e)) {
        f->denied = e->class == ERROR_NONE;
        if (f->denied)
            f->fault = "URLAUTH verification failed";
        return -1;
    }
    urlauth_token(key, slice_head(f->text, f->url.rump_size), token);
    if (f->url.token.size != URLAUTH_TOKEN || !slice_equal_secret(f->url.token, slice_of(token, URLAUTH_TOKEN))) {
        f->fault = "URLAUTH verification failed";
        f->denied = true;
        return -1;
    }
    f->denied = false;
    if (part_find(&f->part, arena, &fault, e) == 0)
        return 0;
    f->fault = fault;
    f->read_fault = true;
    return -1;
}
