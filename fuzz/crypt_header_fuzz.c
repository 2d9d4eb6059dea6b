/* Encrypted mail and the texts of keys: whatever the bytes are, they are refused or give something, with a key that fits every
 * identity. */
#include "store/coding/crypt.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct crypt_key *key;

static const struct crypt_key *find(struct crypt_ring *ring, const unsigned char id[CRYPT_ID_SIZE], bool old, struct error *e)
{
    (void)ring, (void)id, (void)old, (void)e;
    return key;
}

/* The rounds of a key derivation are the writer's choice; here they may not take the time. */
static void few_rounds(unsigned char *bytes, size_t size)
{
    if (size > 44 && bytes[9] == 2)
        bytes_put_be32(bytes + 40, bytes_be32(bytes + 40) & 15);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct crypt_ring ring = {find};
    struct mime_source source;
    unsigned char *copy = mem_alloc(size + 1), buf[1000];
    unsigned char id[CRYPT_ID_SIZE];
    struct crypt_key *other;
    struct decoder *d;
    struct input in;
    struct error e;

    if (key == NULL)
        key = crypt_key_generate(crypt_curve_find(SLICE("prime256v1")));
    memcpy(copy, data, size);
    few_rounds(copy, size);
    source = mime_source_slice(slice_of(copy, size));
    input_init(&in, decoder_of_source(&source));
    d = crypt_decode(&in, &ring, &e);
    while (d != NULL && d->read(d, buf, sizeof(buf), &e) > 0)
        ;
    decoder_free(d);
    if (crypt_key_public(slice_of(copy, size), &other, &e) == 0) {
        struct buffer again = {0};
        struct crypt_key *third;

        crypt_key_public_text(other, &again);
        if (crypt_key_public(buffer_slice(&again), &third, &e) < 0 || memcmp(third->id, other->id, CRYPT_ID_SIZE) != 0)
            abort();
        crypt_key_free(&third);
        crypt_key_free(&other);
        buffer_free(&again);
    }
    /* Without a password: those that are wrapped would count rounds. */
    if (crypt_key_wrap_of(slice_of(copy, size), id) == CRYPT_WRAP_NONE &&
        crypt_key_private(slice_of(copy, size), NULL, &other, &e) == 0)
        crypt_key_free(&other);
    mem_free(copy);
    return 0;
}
