/* cache.c - the authentication cache (auth.md 12).
 *
 * One hash table of key -> stored password and raw fields, in LRU order, bounded in bytes. A positive passdb entry holds
 * the stored password (or {SHA1} of the one that was right), never the plain text of a login. A negative entry (user
 * unknown) is one per password that was tried: PAM and others say "unknown" for reasons that the next password need
 * not share, and nobody locks another out by guessing. A mismatch against a cached password asks the database again
 * when the entry's last use was a success: a changed password works at once. */
#include "auth/cache.h"
#include "auth/scheme.h"

#include <nettle/sha2.h>
#include <time.h>
#include <uthash.h>
#include <utlist.h>

struct entry {
    char *key;
    char *stored;             /* NULL: userdb, or none */
    struct field *fields;
    size_t count, bytes;
    bool negative, last_failed;
    time_t created;
    UT_hash_handle hh;
    struct entry *next, *prev; /* LRU, the oldest first */
};

struct cache {
    size_t most, bytes;
    time_t ttl, negative_ttl;
    struct entry *table, *lru;
    unsigned hits, misses, positive, negative;
    unsigned long long positive_bytes, negative_bytes;
};

struct cache *cache_new(size_t bytes, unsigned ttl, unsigned negative_ttl)
{
    struct cache *c = mem_zero(1, sizeof(*c));

    c->most = bytes;
    c->ttl = (time_t)ttl;
    c->negative_ttl = (time_t)negative_ttl;
    return c;
}

static void free_entry(struct cache *c, struct entry *en)
{
    HASH_DEL(c->table, en);
    DL_DELETE(c->lru, en);
    c->bytes -= en->bytes;
    for (size_t i = 0; i < en->count; i++) {
        mem_free((char *)en->fields[i].key);
        mem_free((char *)en->fields[i].value);
    }
    if (en->stored != NULL)
        explicit_bzero(en->stored, strlen(en->stored));
    mem_free(en->stored);
    mem_free(en->fields);
    mem_free(en->key);
    mem_free(en);
}

void cache_free(struct cache *c)
{
    if (c == NULL)
        return;
    while (c->lru != NULL)
        free_entry(c, c->lru);
    mem_free(c);
}

/* ---- keys ----------------------------------------------------------------------------------------------------- */

static const char *escape_key(void *arg, const char *value, struct arena *arena)
{
    (void)arg;
    /* A TAB in a value must not move it into the next part: two users would share a key (CVE-2025-30189). */
    return text_tab_escaped(arena, slice_from_str(value));
}

/* NULL: the database of the link is not cached. */
static char *make_key(struct request *r, char kind, bool negative)
{
    const struct db *db = r->link->db;
    const char *was = r->user, *expanded;
    char *key;

    if (r->server->cache == NULL || db->cache_key == NULL)
        return NULL;
    /* The user part is the name as it was before databases changed it. */
    if (r->translated_user != NULL)
        r->user = r->translated_user;
    expanded = request_expand(r, db->cache_key, escape_key, NULL);
    r->user = was;
    key = arena_printf(r->arena, "%c%u%s%s\t%s", kind, db->id, r->master_user != NULL ? "+" : "",
                       r->master_user != NULL ? r->master_user : "", expanded);
    if (negative && r->password != NULL) {
        unsigned char digest[SHA256_DIGEST_SIZE];
        struct sha256_ctx ctx;
        struct buffer hex = {0};
        sha256_init(&ctx);
        sha256_update(&ctx, strlen(r->password), (const uint8_t *)r->password);
        sha256_digest(&ctx, sizeof(digest), digest);
        text_hex_encode(&hex, slice_of(digest, sizeof(digest)));
        key = arena_printf(r->arena, "%s\t%s", key, buffer_cstr(&hex));
        buffer_free(&hex);
    }
    return key;
}

static struct entry *find_entry(struct cache *c, const char *key)
{
    struct entry *en;

    HASH_FIND_STR(c->table, key, en);
    if (en == NULL)
        return NULL;
    if (time(NULL) - en->created > (en->negative ? c->negative_ttl : c->ttl)) {
        free_entry(c, en);
        return NULL;
    }
    DL_DELETE(c->lru, en);
    DL_APPEND(c->lru, en);
    return en;
}

static void add_entry(struct cache *c, const char *key, const char *stored, const struct fields *raw, bool negative)
{
    struct entry *en, *old;
    size_t bytes = sizeof(*en) + strlen(key) + (stored == NULL ? 0 : strlen(stored)) + 2;

    if ((negative ? c->negative_ttl : c->ttl) == 0)
        return;
    for (size_t i = 0; !negative && i < raw->list.count; i++)
        bytes += sizeof(struct field) + strlen(raw->list.at[i].key) + 2 +
                 (raw->list.at[i].value == NULL ? 0 : strlen(raw->list.at[i].value));
    if (bytes > c->most)
        return;
    HASH_FIND_STR(c->table, key, old);
    if (old != NULL)
        free_entry(c, old);
    while (c->bytes + bytes > c->most)
        free_entry(c, c->lru);
    en = mem_zero(1, sizeof(*en));
    en->key = mem_strdup(key);
    en->negative = negative;
    en->bytes = bytes;
    en->created = time(NULL);
    if (!negative) {
        en->stored = mem_strdup_null(stored);
        en->count = raw->list.count;
        en->fields = en->count == 0 ? NULL : mem_zero(en->count, sizeof(*en->fields));
        for (size_t i = 0; i < en->count; i++) {
            en->fields[i].key = mem_strdup(raw->list.at[i].key);
            en->fields[i].value = mem_strdup_null(raw->list.at[i].value);
        }
        c->positive++;
        c->positive_bytes += bytes;
    } else {
        c->negative++;
        c->negative_bytes += bytes;
    }
    c->bytes += bytes;
    HASH_ADD_KEYPTR(hh, c->table, en->key, strlen(en->key), en);
    DL_APPEND(c->lru, en);
}

/* ---- passdb --------------------------------------------------------------------------------------------------- */

static void set_cached_fields(struct request *r, const struct entry *en, bool userdb)
{
    for (size_t i = 0; i < en->count; i++) {
        const char *value = en->fields[i].value == NULL ? "" : en->fields[i].value;
        if (userdb)
            request_set_userdb_field(r, en->fields[i].key, value);
        else
            request_set_field(r, en->fields[i].key, value, "PLAIN");
    }
    if (en->stored != NULL && !userdb)
        request_set_field(r, "password", en->stored, "PLAIN");
}

/* Quiet comparison: the mismatch is logged only if the database agrees. */
static bool matches(const struct request *r, const struct entry *en)
{
    struct slice data = slice_from_str(en->stored), scheme;
    struct error e;

    if (en->stored == NULL)
        return true;
    return scheme_split(&data, &scheme) &&
           scheme_verify(slice_from_str(r->password), r->original_user, scheme, data, &e) == SCHEME_MATCH;
}

bool cache_find_passdb(struct request *r, enum passdb_result *result)
{
    struct cache *c = r->server->cache;
    char *key = make_key(r, 'P', false);
    struct entry *en;

    if (key == NULL)
        return false;
    en = find_entry(c, key);
    if (en == NULL && find_entry(c, make_key(r, 'P', true)) != NULL) {
        c->hits++;
        request_log_unknown(r, NULL);
        *result = PASSDB_USER_UNKNOWN;
        return true;
    }
    if (en == NULL) {
        c->misses++;
        return false;
    }
    if (r->wanted_scheme == NULL && !r->skip_password_check && !matches(r, en)) {
        bool ask_again = !en->last_failed || time(NULL) - en->created > c->negative_ttl;
        en->last_failed = true;
        if (ask_again) {
            c->misses++;
            return false;
        }
    } else {
        en->last_failed = false;
    }
    c->hits++;
    set_cached_fields(r, en, false);
    *result = r->wanted_scheme != NULL ? request_make_credentials(r) : request_verify_stored(r);
    return true;
}

static char *digest_of(const char *password)
{
    struct buffer b = {0};
    struct error e;
    char *text = NULL;

    if (scheme_generate(slice_from_str(password), NULL, SLICE("SHA1"), 0, &b, &e) == 0)
        text = mem_printf("{SHA1}%s", buffer_cstr(&b));
    buffer_free(&b);
    return text;
}

void cache_add_passdb(struct request *r, enum passdb_result result)
{
    char *key = make_key(r, 'P', result == PASSDB_USER_UNKNOWN);
    char *digest = NULL;

    if (key == NULL)
        return;
    if (result == PASSDB_USER_UNKNOWN) {
        add_entry(r->server->cache, key, NULL, NULL, true);
    } else if (result == PASSDB_OK || (result == PASSDB_MISMATCH && r->stored != NULL)) {
        bool open = fields_has(&r->passdb_fields, "nopassword");
        if (r->stored == NULL && !open) {
            if (r->password == NULL || r->skip_password_check)
                return; /* nothing to check the next login against */
            digest = digest_of(r->password);
        }
        add_entry(r->server->cache, key, r->stored != NULL ? r->stored : digest, &r->raw, false);
        mem_free(digest);
    }
}

/* ---- userdb --------------------------------------------------------------------------------------------------- */

bool cache_find_userdb(struct request *r, enum userdb_result *result)
{
    struct cache *c = r->server->cache;
    char *key = make_key(r, 'U', false);
    struct entry *en = key == NULL ? NULL : find_entry(c, key);

    if (key == NULL)
        return false;
    if (en == NULL) {
        c->misses++;
        return false;
    }
    c->hits++;
    if (en->negative) {
        *result = USERDB_UNKNOWN;
        return true;
    }
    set_cached_fields(r, en, true);
    *result = USERDB_FOUND;
    return true;
}

void cache_add_userdb(struct request *r, enum userdb_result result)
{
    char *key = result == USERDB_INTERNAL ? NULL : make_key(r, 'U', false);

    if (key != NULL)
        add_entry(r->server->cache, key, NULL, &r->raw, result == USERDB_UNKNOWN);
}

/* ---- admin ---------------------------------------------------------------------------------------------------- */

/* The first field after the kind and id is the user. */
static bool is_of_user(const struct entry *en, const char *user)
{
    const char *tab = strchr(en->key, '\t');
    size_t size = strlen(user);

    return tab != NULL && strncmp(tab + 1, user, size) == 0 && (tab[1 + size] == '\0' || tab[1 + size] == '\t');
}

unsigned cache_flush(struct cache *c, const char *const *users, size_t count)
{
    struct entry *en, *next;
    unsigned removed = 0;

    if (c == NULL)
        return 0;
    DL_FOREACH_SAFE(c->lru, en, next) {
        bool wanted = count == 0;
        for (size_t i = 0; !wanted && i < count; i++)
            wanted = is_of_user(en, users[i]);
        if (wanted) {
            free_entry(c, en);
            removed++;
        }
    }
    return removed;
}

static unsigned percent(unsigned long long part, unsigned long long whole)
{
    return whole == 0 ? 100 : (unsigned)(part * 100 / whole);
}

void cache_log_statistics(struct cache *c)
{
    log_info(NULL, "Authentication cache hits %u/%u (%u%%)", c->hits, c->hits + c->misses,
             percent(c->hits, (unsigned long long)c->hits + c->misses));
    log_info(NULL, "Authentication cache inserts: positive: %u entries %llu bytes, negative: %u entries %llu bytes",
             c->positive, c->positive_bytes, c->negative, c->negative_bytes);
    log_info(NULL, "Authentication cache current size: %zu bytes used of %zu bytes (%u%%)", c->bytes, c->most,
             percent(c->bytes, c->most));
    c->hits = c->misses = c->positive = c->negative = 0;
    c->positive_bytes = c->negative_bytes = 0;
}
