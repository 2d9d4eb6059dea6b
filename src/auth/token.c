/* token.c - session tokens (auth.md 21): HMAC-SHA1, key = user name, over session pid, session id, service and 32 secret
 * bytes that every process of this installation shares through a file. */
#include "auth/conns.h"
#include "auth/scheme_impl.h"

#include <fcntl.h>
#include <nettle/hmac.h>
#include <stdio.h>
#include <unistd.h>

#define SECRET_SIZE 32

struct token {
    unsigned char secret[SECRET_SIZE];
};

/* A file that others could have written or could read is not used. */
static bool read_secret(const char *path, unsigned char *out)
{
    struct error e;
    struct buffer raw = {0};
    struct stat st;
    int fd = os_open(AT_FDCWD, path, 0, &e);
    bool good;

    if (fd < 0)
        return false;
    good = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid == geteuid() &&
           (st.st_mode & 07777) == 0600 && st.st_size == SECRET_SIZE &&
           os_pread(fd, 0, SECRET_SIZE, &raw, &e) == SECRET_SIZE;
    if (good)
        memcpy(out, raw.at, SECRET_SIZE);
    buffer_wipe(&raw);
    close(fd);
    return good;
}

static int write_secret(const char *path, const unsigned char *secret, struct error *e)
{
    struct arena *arena = arena_new();
    const char *temporary = arena_printf(arena, "%s.%ld.tmp", path, (long)getpid());
    struct error ignored;
    int fd, result = -1;

    (void)os_unlink(AT_FDCWD, temporary, &ignored);
    fd = os_create(AT_FDCWD, temporary, 0600, (gid_t)-1, e);
    if (fd >= 0) {
        if (os_write(fd, slice_of(secret, SECRET_SIZE), e) == 0 &&
            os_rename(AT_FDCWD, temporary, AT_FDCWD, path, e) == 0)
            result = 0;
        close(fd);
    }
    arena_free(arena);
    return result;
}

struct token *token_new(const char *path, struct error *e)
{
    struct token *t = mem_zero(1, sizeof(*t));

    if (!read_secret(path, t->secret)) {
        scheme_random(t->secret, SECRET_SIZE);
        if (write_secret(path, t->secret, e) < 0) {
            token_free(t);
            return NULL;
        }
    }
    return t;
}

void token_free(struct token *t)
{
    if (t == NULL)
        return;
    explicit_bzero(t, sizeof(*t));
    mem_free(t);
}

void token_make(const struct token *t, const char *user, unsigned session_pid, const char *session, const char *service,
                char out[41])
{
    unsigned char digest[SHA1_DIGEST_SIZE];
    struct buffer hex = {0};
    struct hmac_sha1_ctx ctx;
    char pid[16];

    snprintf(pid, sizeof(pid), "%u", session_pid);
    hmac_sha1_set_key(&ctx, strlen(user), (const uint8_t *)user);
    hmac_sha1_update(&ctx, strlen(pid), (const uint8_t *)pid);
    hmac_sha1_update(&ctx, strlen(session), (const uint8_t *)session);
    hmac_sha1_update(&ctx, strlen(service), (const uint8_t *)service);
    hmac_sha1_update(&ctx, SECRET_SIZE, t->secret);
    hmac_sha1_digest(&ctx, sizeof(digest), digest);
    text_hex_encode(&hex, slice_of(digest, sizeof(digest)));
    memcpy(out, buffer_cstr(&hex), 41);
    buffer_free(&hex);
}
