/* Taking attachments out of a message: put back, it is what was saved; removed, no file is left. */
#include "conf/settings.h"
#include "conf/tree.h"
#include "store/attachment.h"
#include "store/coding/attach.h"
#include "store/coding/codec.h"
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory_sink {
    struct byte_sink sink;
    struct buffer out;
};

static int put(struct byte_sink *sink, struct slice bytes, struct error *e)
{
    (void)e;
    buffer_append_slice(&((struct memory_sink *)sink)->out, bytes);
    return 0;
}

static int finish(struct byte_sink *sink, struct error *e)
{
    (void)sink, (void)e;
    return 0;
}

static void free_sink(struct byte_sink *sink)
{
    (void)sink;
}

static char folder[] = "/tmp/yarilo-fuzz.XXXXXX";

static struct mail_user *open_user(void)
{
    const char *pairs[] = {"mail_location=maildir:/nonexistent", NULL, "mail_attachment_min_size=8", "mail_fsync=never", NULL};
    struct mail_user_params params = {.username = "u", .home = "/nonexistent", .service = "imap"};
    struct conf *conf = conf_from_tree(conf_tree_new("fuzz"));
    struct settings *set, *changed;
    struct mail_user *user;
    struct error e;
    char text[100];

    if (mkdtemp(folder) == NULL)
        abort();
    snprintf(text, sizeof(text), "mail_attachment_dir=%s", folder);
    pairs[1] = text;
    set = conf_settings(conf, NULL, &e);
    changed = set == NULL ? NULL : settings_override_all(set, pairs, &e);
    if (changed == NULL || mail_user_open(&user, changed, &params, &e) < 0)
        abort();
    settings_unref(set);
    settings_unref(changed);
    conf_free(conf);
    return user;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct store_driver driver = {.name = "fuzz", .can = DRIVER_ATTACHMENTS};
    static struct mail_user *user;
    struct memory_sink last = {{put, finish, free_sink, NULL}, {0}};
    struct mailbox box = {.driver = &driver};
    struct byte_sink *sink;
    const char *refs;
    struct error e;

    if (user == NULL)
        user = open_user();
    box.user = user;
    sink = extract_sink_new(&box, &last.sink, &e);
    if (sink == NULL || byte_sink_put(sink, slice_of(data, size), &e) < 0 || byte_sink_finish(sink, &e) < 0)
        abort();
    extract_sink_keep(sink);
    refs = extract_sink_refs(sink);
    if (refs != NULL) {
        struct mime_source source = mime_source_slice(buffer_slice(&last.out));
        struct splice *s = splice_open(user, &source, refs, NULL, &e);
        unsigned char *back = mem_alloc(size + 1);

        if (s == NULL || splice_read(s, 0, back, size + 1, &e) != (ssize_t)size || memcmp(back, data, size) != 0)
            abort();
        splice_close(&s);
        mem_free(back);
        attachment_refs_unlink(user, refs, NULL);
        if (rmdir(folder) != 0 || mkdir(folder, 0700) != 0)
            abort(); /* something is left */
    } else if (!slice_equal(buffer_slice(&last.out), slice_of(data, size))) {
        abort();
    }
    byte_sinks_free(sink);
    buffer_free(&last.out);
    return 0;
}
