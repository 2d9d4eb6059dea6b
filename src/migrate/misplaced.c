/* misplaced.c - messages of an interrupted run that Dovecot has given other UIDs.
 *
 * Between two runs a Dovecot may rebuild an mdbox target. What the first run had written and not yet entered into its mailbox
 * it appends there, under the next UIDs, in no order that we know. Such messages are at the end of the mailbox, each is another one of
 * the source, by its GUID, and there too none has a UID below theirs. Only if all of that is so they are taken away again; the run then
 * copies them once more, under the right UIDs. Who has used the target already and copied or moved messages there has not made that. */
#include "migrate/migrate.h"

#include <stdlib.h>

struct known {
    unsigned char guid[16];
    uint32_t uid;
};

/* 0: it has none, or is gone. */
static int guid_of(struct mailbox *box, uint32_t uid, unsigned char guid[16], struct error *e)
{
    struct mail *mail = NULL;
    int r = mail_open_uid(box, uid, &mail, e) < 0 || mail_guid128(mail, guid, e) < 0 ? -1 : 1;

    mail_close(&mail);
    return r < 0 && e->class == ERROR_EXPUNGED ? 0 : r;
}

static int compare(const void *x, const void *y)
{
    const struct known *a = x, *b = y;
    int d = memcmp(a->guid, b->guid, 16);

    return d != 0 ? d : a->uid < b->uid ? -1 : a->uid > b->uid;
}

struct source {
    VEC(struct known) all;
    bool read;
};

static int read_source(struct source *s, struct mailbox *from, struct error *e)
{
    struct index_record rec;
    struct known k;
    int r;

    s->read = true;
    for (uint32_t uid = 1; index_get_from(mailbox_index(from), uid, &rec);) {
        k.uid = rec.uid;
        uid = rec.uid + 1;
        r = guid_of(from, k.uid, k.guid, e);
        if (r < 0)
            return -1;
        if (r > 0)
            VEC_PUSH(&s->all, k);
    }
    if (s->all.count > 1)
        qsort(s->all.at, s->all.count, sizeof(*s->all.at), compare);
    return 0;
}

/* The last UID of the source with this GUID; 0: none. */
static uint32_t uid_of(const struct source *s, const unsigned char guid[16])
{
    size_t low = 0, high = s->all.count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (memcmp(s->all.at[mid].guid, guid, 16) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low > 0 && memcmp(s->all.at[low - 1].guid, guid, 16) == 0 ? s->all.at[low - 1].uid : 0;
}

/* Where a message of the target should be: 0 = nowhere. */
static int right_uid(struct source *s, struct mailbox *from, struct mailbox *to, uint32_t uid, uint32_t *right, struct error *e)
{
    unsigned char guid[16], there[16];
    struct index_record rec;
    int r = guid_of(to, uid, guid, e);

    *right = 0;
    if (r <= 0)
        return r;
    if (index_get(mailbox_index(from), uid, &rec)) {
        if ((r = guid_of(from, uid, there, e)) < 0)
            return -1;
        if (r > 0 && memcmp(guid, there, 16) == 0) {
            *right = uid;
            return 0;
        }
    }
    if (!s->read && read_source(s, from, e) < 0)
        return -1;
    *right = uid_of(s, guid);
    return 0;
}

static int compare_uids(const void *x, const void *y)
{
    const uint32_t *a = x, *b = y;

    return *a < *b ? -1 : *a > *b;
}

static bool all_different(uint32_t *uids, size_t count)
{
    if (count > 1)
        qsort(uids, count, sizeof(*uids), compare_uids);
    for (size_t i = 1; i < count; i++)
        if (uids[i] == uids[i - 1])
            return false;
    return true;
}

int migrate_find_misplaced(struct mailbox *from, struct mailbox *to, uint32_t *first, struct error *e)
{
    struct source source = {0};
    struct index_record rec;
    VEC(uint32_t) rights = {0};
    uint32_t lowest = UINT32_MAX;
    int r = 0;

    *first = 0;
    for (uint32_t seq = index_count(mailbox_index(to)); seq > 0 && index_get_at(mailbox_index(to), seq, &rec); seq--) {
        uint32_t uid = rec.uid, right;

        r = right_uid(&source, from, to, uid, &right, e);
        if (r < 0 || right == 0 || (right == uid && lowest > uid))
            break;
        lowest = right < lowest ? right : lowest;
        VEC_PUSH(&rights, right);
        *first = uid;
    }
    if (r < 0 || lowest < *first || !all_different(rights.at, rights.count))
        *first = 0;
    VEC_FREE(&rights);
    VEC_FREE(&source.all);
    return r;
}
