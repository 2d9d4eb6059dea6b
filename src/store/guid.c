/* guid.c - 128-bit identities of mailboxes and messages (maildir-and-layouts 7), and the host's name. */
#include "store/driver.h"

#include <limits.h>
#include <nettle/sha1.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

const char *store_hostname(void)
{
    static char name[HOST_NAME_MAX + 1];
    const char *set = getenv("DOVECOT_HOSTNAME");

    if (set != NULL && *set != '\0' && strpbrk(set, "/\r\n\t") == NULL)
        return set;
    if (name[0] == '\0' && (gethostname(name, sizeof(name) - 1) < 0 || strpbrk(name, "/\r\n\t") != NULL || !*name))
        memcpy(name, "localhost", 10);
    return name;
}

static void sha1_of(struct slice text, unsigned char digest[SHA1_DIGEST_SIZE])
{
    struct sha1_ctx ctx;

    sha1_init(&ctx);
    sha1_update(&ctx, text.size, text.at);
    sha1_digest(&ctx, SHA1_DIGEST_SIZE, digest);
}

void store_guid_new(unsigned char guid[16])
{
    static struct timespec last;
    static pid_t pid;
    unsigned char digest[SHA1_DIGEST_SIZE];
    const char *host = store_hostname();

    if (pid != getpid()) {
        pid = getpid();
        clock_gettime(CLOCK_REALTIME, &last);
    } else if (++last.tv_nsec >= 1000000000) {
        last.tv_nsec = 0;
        last.tv_sec++;
    }
    sha1_of(slice_from_str(host), digest);
    bytes_put_le32(guid, (uint32_t)last.tv_nsec);
    bytes_put_le32(guid + 4, (uint32_t)last.tv_sec);
    bytes_put_le32(guid + 8, (uint32_t)pid);
    memcpy(guid + 12, digest + SHA1_DIGEST_SIZE - 4, 4);
}

void store_guid_of_text(struct slice text, unsigned char guid[16])
{
    struct buffer bytes = {0};
    unsigned char digest[SHA1_DIGEST_SIZE];

    if (text.size == 32 && text_hex_decode(&bytes, text) == 0 && bytes.size == 16) {
        memcpy(guid, bytes.at, 16);
    } else {
        sha1_of(text, digest);
        memcpy(guid, digest + SHA1_DIGEST_SIZE - 16, 16); /* the last 16 bytes, as the real server's expunge records show */
    }
    buffer_free(&bytes);
}

void store_mailbox_guid_new(const struct mailbox *box, unsigned char guid[16])
{
    const char *slash = strrchr(box->path, '/');
    struct buffer raw = {0};

    if (box->storage->at.layout == LAYOUT_INDEX && slash != NULL && text_hex_decode(&raw, slice_from_str(slash + 1)) == 0 && raw.size == 16)
        memcpy(guid, raw.at, 16);
    else
        store_guid_new(guid);
    buffer_free(&raw);
}
