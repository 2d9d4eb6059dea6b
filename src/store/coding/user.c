/* user.c - what a user's settings say of attachments, compression and encryption; found out once. */
#include "store/coding/coding.h"
#include "store/internal.h"

bool coding_plugin(const struct mail_user *user, const char *name)
{
    struct slice rest = slice_from_str(conf_str(user->settings, SET_mail_plugins));

    while (rest.size > 0) {
        size_t size = 0;

        while (size < rest.size && rest.at[size] != ' ' && rest.at[size] != ',')
            size++;
        if (slice_equal_str(slice_head(rest, size), name))
            return true;
        rest = slice_from(rest, size + 1);
    }
    return false;
}

struct coding *coding_of(struct mail_user *user)
{
    struct coding *c = user->coding;

    if (c != NULL)
        return c;
    c = user->coding = mem_zero(1, sizeof(*c));
    c->arena = arena_new();
    return c;
}

void coding_close(struct coding **coding_p)
{
    struct coding *c = *coding_p;

    if (c == NULL)
        return;
    *coding_p = NULL;
    fs_close(&c->fs);
    arena_free(c->arena);
    mem_free(c);
}

int coding_attachments(struct mail_user *user, struct fs **fs, const char **folder, struct error *e)
{
    struct coding *c = coding_of(user);
    const char *spec;

    if (c->folder == NULL) {
        c->folder = mail_user_expand(user, c->arena, conf_str(user->settings, SET_mail_attachment_dir), e);
        if (c->folder == NULL)
            return error_context(e, "mail_attachment_dir: ");
    }
    if (*c->folder == '\0')
        return error_set(e, ERROR_INVALID, "mail_attachment_dir is unset");
    if (c->fs == NULL) {
        spec = mail_user_expand(user, c->arena, conf_str(user->settings, SET_mail_attachment_fs), e);
        if (spec == NULL || fs_open(user, spec, &c->fs, e) < 0)
            return error_context(e, "mail_attachment_fs: ");
    }
    *fs = c->fs;
    *folder = c->folder;
    return 0;
}
