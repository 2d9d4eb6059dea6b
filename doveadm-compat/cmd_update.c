/* cmd_update.c - mailbox update: what clients know a mailbox by, set by the administrator (doveadm 6.9). */
#include "mail.h"

bool doveadm_guid_parse(const char *text, unsigned char guid[16])
{
    struct buffer bytes = {0};
    bool good = strlen(text) == 32 && text_hex_decode(&bytes, slice_from_str(text)) == 0 && bytes.size == 16;

    if (good)
        memcpy(guid, bytes.at, 16);
    buffer_free(&bytes);
    return good;
}

int doveadm_mailbox_identify(struct doveadm *d, const struct mailbox_place *place, struct mailbox_identity *wanted, struct error *e)
{
    static const unsigned char none[16];
    struct mailbox_identity id = *wanted;
    struct index_status status;
    struct mailbox *box;
    int r;

    (void)d;
    if (mailbox_open(&box, place, MAILBOX_OPEN_UNCHECKED, e) < 0)
        return -1;
    r = doveadm_mailbox_sync(box, NULL, SYNC_FULL, e);
    if (r == 0) {
        index_status(mailbox_index(box), &status);
        if (id.uid_validity == 0)
            id.uid_validity = status.uid_validity;
        if (memcmp(id.guid, none, 16) == 0)
            r = mailbox_guid(box, id.guid, e);
        id.replace = true;
    }
    if (r == 0 && (store_op_wait(mailbox_adopt(box, &id), e) < 0 || doveadm_mailbox_sync(box, NULL, SYNC_FULL, e) < 0))
        r = -1;
    mailbox_close(&box);
    return r;
}

static bool number(struct doveadm *d, const char *name, uint64_t most, uint64_t *out)
{
    *out = 0;
    return !doveadm_given(d, name) || (slice_to_u64(slice_from_str(doveadm_text(d, name)), out) && *out > 0 && *out <= most);
}

static bool wanted_identity(struct doveadm *d, struct mailbox_identity *id)
{
    uint64_t validity, next, recent, modseq, private;

    *id = (struct mailbox_identity){0};
    if (!number(d, "uid-validity", UINT32_MAX, &validity) || !number(d, "min-next-uid", UINT32_MAX, &next) ||
        !number(d, "min-first-recent-uid", UINT32_MAX, &recent) || !number(d, "min-highest-modseq", UINT64_MAX, &modseq) ||
        !number(d, "min-highest-pvt-modseq", UINT64_MAX, &private))
        return false;
    id->uid_validity = (uint32_t)validity;
    id->next_uid = (uint32_t)next;
    id->first_recent = (uint32_t)recent;
    id->highest_modseq = modseq; /* there is no index of private flags that could have another */
    return !doveadm_given(d, "mailbox-guid") || doveadm_guid_parse(doveadm_text(d, "mailbox-guid"), id->guid);
}

static int update_prepare(struct doveadm *d)
{
    struct mailbox_identity id;

    if (doveadm_text(d, "mailbox") == NULL || !wanted_identity(d, &id))
        return doveadm_usage(d);
    if (id.first_recent > id.next_uid)
        doveadm_fatal(DOVEADM_DATAERR, "min_first_recent_uid > min_next_uid");
    return DOVEADM_OK;
}

static int update_run(struct doveadm *d, struct mail_user *user)
{
    const char *name = doveadm_text(d, "mailbox");
    struct mailbox_identity id;
    struct mailbox_place place;
    struct error e;

    (void)wanted_identity(d, &id);
    if (mailbox_place(user, d->arena, slice_from_str(name), &place, &e) < 0 || doveadm_mailbox_identify(d, &place, &id, &e) < 0)
        return doveadm_mail_failed(d, &e, "Cannot update %s", name);
    return DOVEADM_OK;
}

int doveadm_mailbox_update(struct doveadm *d)
{
    static const struct mail_command command = {update_prepare, update_run};

    return doveadm_mail_run(d, &command);
}
