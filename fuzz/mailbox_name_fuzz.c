/* Mailbox names x layouts x separators: no name leaves the mail root, and what is accepted is shown as it was asked
 * for. The first byte picks the layout and flags, the second the separator. Also patterns of LIST, against a slow and
 * plain matcher. */
#include "conf/settings.h"
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mail_user *users[6][3];

static const char *const locations[] = {"maildir:/r/m", "maildir:/r/m:LAYOUT=fs", "maildir:/r/m:LAYOUT=imapdir", "maildir:/r/m:UTF-8",
                                        "maildir:/r/m:LAYOUT=fs:DIRNAME=mAildir:INDEX=/r/m/i:CONTROL=/r/m/c",
                                        "maildir:/r/m:BROKENCHAR=+"};
static const char separators[] = "./^";

static struct mail_user *user_of(unsigned location, unsigned separator)
{
    struct mail_user **user = &users[location][separator];
    struct mail_user_params params = {.username = "u", .home = "/r/h"};
    struct settings *set, *changed;
    struct conf *conf;
    char pair[200];
    struct error e;

    if (*user != NULL)
        return *user;
    conf = conf_from_tree(conf_tree_new("fuzz"));
    set = conf_settings(conf, NULL, &e);
    snprintf(pair, sizeof(pair), "mail_location=%s", locations[location]);
    changed = settings_override_all(set, (const char *const[]){pair, NULL}, &e);
    if (changed == NULL || mail_user_open(user, changed, &params, &e) < 0)
        abort();
    (*user)->namespaces->separator = separators[separator];
    settings_unref(set);
    settings_unref(changed);
    conf_free(conf);
    return *user;
}

static void check_path(const struct mailbox_place *place, struct arena *arena)
{
    for (int what = PATH_MAILBOX; what <= PATH_DIR; what++) {
        const char *path = mail_location_path(&place->ns->storage->at, arena, place->name, (enum mail_path)what);

        if (path == NULL)
            continue;
        if (strncmp(path, "/r/m", 4) != 0 || strstr(path, "/../") != NULL || strstr(path, "/./") != NULL ||
            strstr(path, "//") != NULL || (strlen(path) >= 3 && strcmp(path + strlen(path) - 3, "/..") == 0) ||
            (strlen(path) >= 2 && strcmp(path + strlen(path) - 2, "/.") == 0))
            abort();
        if (strcmp(place->name, "INBOX") != 0 && *place->name != '\0' && strlen(path) <= 5)
            abort();
    }
}

static bool slow_match(const char *p, const char *n, char separator)
{
    if (*p == '\0')
        return *n == '\0';
    if (*p == '*' || *p == '%') {
        if (slow_match(p + 1, n, separator))
            return true;
        return *n != '\0' && (*p == '*' || *n != separator) && slow_match(p, n + 1, separator);
    }
    return *p == *n && slow_match(p + 1, n + 1, separator);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena;
    struct mailbox_place place;
    struct mail_user *user;
    struct error e;
    bool directory;

    if (size < 3)
        return 0;
    arena = arena_new();
    user = user_of(data[0] % 6, data[1] % 3);
    struct slice name = slice_of(data + 2, size - 2);
    if (mailbox_place(user, arena, name, &place, &e) == 0) {
        check_path(&place, arena);
        if (*place.name != '\0' && user->namespaces->storage->at.broken_char == 0) {
            const char *shown = mailbox_vname_of(place.ns, arena, place.name);

            if (strcmp(shown, place.vname) != 0)
                abort();
        }
    } else if (e.class != ERROR_INVALID || e.user[0] == '\0') {
        abort();
    }
    if (mailbox_place_new(user, arena, name, &place, &directory, &e) == 0)
        check_path(&place, arena);
    if (size <= 22) {
        char *pattern = arena_str(arena, slice_head(name, name.size / 2)), *text = arena_str(arena, slice_from(name, name.size / 2));

        if (strlen(pattern) == name.size / 2 && strlen(text) == name.size - name.size / 2 && strncasecmp(text, "INBOX", 5) != 0 &&
            mailbox_pattern_match(slice_from_str(pattern), slice_from_str(text), '/') != slow_match(pattern, text, '/'))
            abort();
    }
    arena_free(arena);
    return 0;
}
