/* user.c - what a user's settings say of attachments, compression and encryption; found out once. */
#include "store/coding/codec.h"
#include "store/coding/coding.h"
#include "store/coding/crypt_user.h"
#include "store/internal.h"

/* zlib_save and zlib_save_level. What is wrong with them is logged, and mails are saved as they come (Dovecot's texts). */
static void read_zlib(const struct mail_user *user, struct coding *c)
{
    const char *name = conf_plugin(user->settings, "zlib_save"), *level = conf_plugin(user->settings, "zlib_save_level");
    const struct codec *codec;
    uint32_t number;

    if (!c->zlib || name == NULL || *name == '\0')
        return;
    codec = codec_find(slice_from_str(name));
    if (codec == NULL) {
        log_write(mail_user_log(user), LOG_LEVEL_ERROR, "zlib_save: Unknown handler: %s", name);
        return;
    }
    if (codec->encode == NULL || codec->is == NULL) {
        log_write(mail_user_log(user), LOG_LEVEL_ERROR, "zlib_save: Support not compiled in for handler: %s", name);
        return;
    }
    c->save = codec;
    c->save_level = codec->level_default;
    if (level == NULL || *level == '\0')
        return;
    if (!slice_to_u32(slice_from_str(level), &number) || number > INT32_MAX || (int)number < codec->level_min ||
        (int)number > codec->level_max)
        log_write(mail_user_log(user), LOG_LEVEL_ERROR, "zlib_save_level: Level must be between %d..%d", codec->level_min,
                 codec->level_max);
    else
        c->save_level = (int)number;
}

int coding_open(struct mail_user *user, struct error *e)
{
    struct coding *c = user->coding = mem_zero(1, sizeof(*c));

    c->arena = arena_new();
    c->zlib = mail_user_plugin(user, "zlib");
    c->crypt = mail_user_plugin(user, "mail_crypt");
    read_zlib(user, c);
    return c->crypt ? crypt_user_open(user, &c->crypt_user, e) : 0;
}

struct coding *coding_of(struct mail_user *user)
{
    return user->coding;
}

void coding_close(struct coding **coding_p)
{
    struct coding *c = *coding_p;

    if (c == NULL)
        return;
    *coding_p = NULL;
    fs_close(&c->fs);
    crypt_user_close(&c->crypt_user);
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
        if (strncmp(c->folder, "~/", 2) == 0) {
            if (user->home == NULL)
                return error_set(e, ERROR_INVALID, "mail_attachment_dir: the user has no home");
            c->folder = arena_printf(c->arena, "%s%s", user->home, c->folder + 1);
        }
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
