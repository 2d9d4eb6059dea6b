/* name.c - from a client's mailbox name to a place: the only way (maildir-and-layouts 2.2, 3).
 *
 * A name is checked twice: as the client sees it (separators, length) and as it is stored (what the file system must not
 * see). Only names that passed both become a mailbox_place; only places become paths. The refusals are Dovecot's
 * texts. */
#include "store/acl/acl.h"
#include "store/internal.h"

#include <stdio.h>

static int refuse(struct error *e, const char *name, const char *text)
{
    char user[128];

    snprintf(user, sizeof(user), "Invalid mailbox name: %s", text);
    error_set(e, ERROR_INVALID, "%s: %s", name, user);
    return error_user(e, user);
}

static bool prefix_matches(const struct mail_namespace *ns, const char *vname)
{
    size_t n = strlen(ns->prefix);

    if (strncmp(ns->prefix, vname, n) == 0)
        return true;
    /* The prefix without its separator names the namespace itself. */
    return n > 0 && ns->prefix[n - 1] == ns->separator && strlen(vname) == n - 1 &&
           strncmp(ns->prefix, vname, n - 1) == 0;
}

/* INBOX in any case, alone or as the first part of a name without prefix. */
static bool starts_inbox(const char *vname, char separator)
{
    return strncasecmp(vname, "INBOX", 5) == 0 && (vname[5] == '\0' || vname[5] == separator);
}

struct mail_namespace *mail_namespace_find(const struct mail_user *user, const char *vname)
{
    struct mail_namespace *ns, *best = NULL;

    if (strcasecmp(vname, "INBOX") == 0)
        return mail_user_inbox_namespace(user);
    for (ns = mail_user_namespaces(user); ns != NULL; ns = ns->next) {
        if (prefix_matches(ns, vname) && (best == NULL || strlen(ns->prefix) > strlen(best->prefix)))
            best = ns;
    }
    return best;
}

const char *mail_namespace_root_name(const struct mail_namespace *ns, struct arena *arena)
{
    size_t n = strlen(ns->prefix);

    return arena_str(arena, slice_of(ns->prefix, n > 0 && ns->prefix[n - 1] == ns->separator ? n - 1 : n));
}

/* UTF-8 part to storage: BROKENCHAR escapes undone, mUTF-7. */
static int store_part(const struct mail_storage *storage, struct slice part, struct buffer *out, const char *name,
                      struct error *e)
{
    const struct mail_location *at = &storage->at;
    struct buffer raw = {0};
    struct slice rest = part;
    bool broken = false;
    int r = 0;

    if (at->broken_char != 0) {
        for (size_t i = 0; i < part.size; i++) {
            struct buffer byte = {0};

            if (part.at[i] == (unsigned char)at->broken_char && i + 2 < part.size &&
                text_hex_decode(&byte, slice_of(part.at + i + 1, 2)) == 0) {
                buffer_append_byte(&raw, byte.at[0]);
                broken = true;
                i += 2;
            } else {
                buffer_append_byte(&raw, part.at[i]);
            }
            buffer_free(&byte);
        }
        rest = buffer_slice(&raw);
    }
    if (at->utf8 || broken) {
        /* A name that is not convertible is stored byte for byte; the checks below see it as stored. */
        buffer_append_slice(out, rest);
        if (memchr(rest.at == NULL ? (const unsigned char *)"" : rest.at, '\0', rest.size) != NULL ||
            slice_find(rest, (unsigned char)storage->separator) >= 0)
            r = refuse(e, name, "Not valid UTF-8");
    } else if (text_utf8_to_mutf7(out, rest) < 0) {
        r = refuse(e, name, "Not valid UTF-8");
    }
    buffer_free(&raw);
    return r;
}

/* ---- escapes (3.2) ---- */

static bool needs_escape(const struct mail_storage *storage, struct slice part, size_t i, bool first)
{
    unsigned char c = part.at[i];

    if (c == (unsigned char)storage->escape || c == (unsigned char)storage->separator || c == '/')
        return true;
    if (i > 0)
        return false;
    return (c == '~' && first) || slice_equal_str(part, ".") || slice_equal_str(part, "..") ||
           (*storage->at.dirname != '\0' && slice_equal_str(part, storage->at.dirname));
}

const char *mailbox_part_escape(const struct mail_storage *storage, struct arena *arena, struct slice part, bool first)
{
    struct buffer out = {0};
    const char *text;

    for (size_t i = 0; i < part.size; i++) {
        if (storage->escape != 0 && needs_escape(storage, part, i, first))
            buffer_printf(&out, "%c%02x", storage->escape, part.at[i]);
        else
            buffer_append_byte(&out, part.at[i]);
    }
    text = arena_str(arena, buffer_slice(&out));
    buffer_free(&out);
    return text;
}

const char *mailbox_part_unescape(const struct mail_storage *storage, struct arena *arena, struct slice part)
{
    struct buffer out = {0};
    const char *text;

    for (size_t i = 0; i < part.size; i++) {
        struct buffer byte = {0};

        if (storage->escape != 0 && part.at[i] == (unsigned char)storage->escape && i + 2 < part.size &&
            text_hex_decode(&byte, slice_of(part.at + i + 1, 2)) == 0 && byte.at[0] != 0) {
            buffer_append_byte(&out, byte.at[0]);
            i += 2;
        } else {
            buffer_append_byte(&out, part.at[i]);
        }
        buffer_free(&byte);
    }
    text = arena_str(arena, buffer_slice(&out));
    buffer_free(&out);
    return text;
}

static int check_vname(const struct mail_storage *storage, const char *vname, char separator, struct error *e)
{
    const char doubled[3] = {separator, separator, '\0'};
    size_t n = strlen(vname);

    if (storage->escape == 0 && storage->separator != separator && strchr(vname, storage->separator) != NULL) {
        char user[64];

        snprintf(user, sizeof(user), "Character not allowed in mailbox name: '%c'", storage->separator);
        error_set(e, ERROR_INVALID, "%s: %s", vname, user);
        return error_user(e, user);
    }
    if (n == 0)
        return refuse(e, vname, "Name is empty");
    if (*vname == separator)
        return refuse(e, vname, "Begins with hierarchy separator");
    if (strstr(vname, doubled) != NULL)
        return refuse(e, vname, "Has adjacent hierarchy separators");
    if (vname[n - 1] == separator)
        return refuse(e, vname, "Ends with hierarchy separator");
    return 0;
}

static int check_part(const struct mail_storage *storage, struct slice part, const char *name, struct error *e)
{
    const struct mail_location *at = &storage->at;

    if (slice_equal_str(part, "."))
        return refuse(e, name, "Contains '.' part");
    if (slice_equal_str(part, ".."))
        return refuse(e, name, "Contains '..' part");
    if (part.size == 0)
        return refuse(e, name, "Has adjacent '/' chars");
    if (*at->dirname != '\0' && slice_equal_str(part, at->dirname))
        return refuse(e, name, "Contains reserved name");
    if (at->layout == LAYOUT_FS && *at->dirname == '\0' && (at->driver->can & DRIVER_RESERVED_DIRS) != 0 &&
        (slice_equal_str(part, "cur") || slice_equal_str(part, "new") || slice_equal_str(part, "tmp")))
        return refuse(e, name, "Contains reserved name");
    if (at->layout == LAYOUT_FS && strcmp(at->driver->name, "mbox") == 0 &&
        (slice_ends(part, SLICE(".lock")) || slice_equal_str(part, ".imap")))
        return refuse(e, name, "Contains reserved name");
    if (part.size > 255) {
        error_set(e, ERROR_INVALID, "%s: Mailbox name too long", name);
        return error_user(e, "Mailbox name too long");
    }
    return 0;
}

/* What is stored must stay below the root, whatever the layout. */
static int check_stored(const struct mail_storage *storage, const char *name, struct error *e)
{
    struct slice rest = slice_from_str(name), part;

    if (*name == '~')
        return refuse(e, name, "Begins with '~'");
    if (*name == '/')
        return refuse(e, name, "Begins with '/'");
    if (storage->at.layout != LAYOUT_INDEX && storage->separator != '/' && strchr(name, '/') != NULL)
        return refuse(e, name, "Name must not have '/' characters");
    while (slice_split(&rest, (unsigned char)storage->separator, &part)) {
        /* ".." can only be a path part where the separator is '/'; elsewhere parts have no dots at all. */
        if (check_part(storage, part, name, e) < 0)
            return -1;
    }
    /* Folder names of the Maildir++ trash and of this layout's own files. */
    if (storage->at.layout == LAYOUT_MAILDIRPP && strcmp(name, ".DOVECOT-TRASHED") == 0)
        return refuse(e, name, "Contains reserved name");
    if (storage->at.layout == LAYOUT_FS && strncmp(name, "..DOVECOT-TR", 12) == 0)
        return refuse(e, name, "Contains reserved name");
    return 0;
}

bool mailbox_name_storable(const struct mail_storage *storage, const char *name)
{
    struct error e;

    return *name != '\0' && strlen(name) <= MAILBOX_NAME_MAX && check_stored(storage, name, &e) == 0;
}

static int missing_prefix(const struct mail_user *user, const char *vname, struct error *e)
{
    char text[128];
    const struct mail_namespace *ns = mail_user_inbox_namespace(user);
    int n = snprintf(text, sizeof(text), "Invalid mailbox name '%s': Missing namespace prefix '%s'", vname, ns->prefix);

    (void)n; /* a long one is cut */
    error_set(e, ERROR_INVALID, "%s", text);
    return error_user(e, text);
}

int mailbox_place(struct mail_user *user, struct arena *arena, struct slice vname, struct mailbox_place *place,
                  struct error *e)
{
    struct mail_namespace *ns;
    struct buffer stored = {0};
    struct slice rest, part;
    char *name = arena_str(arena, vname), *inner;
    size_t prefix;
    bool inbox = false, first = true;

    if (memchr(name, '\0', vname.size) != NULL)
        return refuse(e, name, "Contains NUL");
    if (vname.size == 0)
        return refuse(e, name, "Name is empty");
    if (vname.size > MAILBOX_NAME_MAX * 4) {
        error_set(e, ERROR_INVALID, "Mailbox name too long");
        return error_user(e, "Mailbox name too long");
    }
    if (!text_utf8_valid(vname))
        return refuse(e, "?", "Not valid UTF-8");
    ns = mail_namespace_find(user, name);
    if (ns == NULL || ns->unusable)
        return missing_prefix(user, name, e);
    if (ns->template != NULL) {
        struct mail_namespace *instance;

        if (shared_instance_find(ns, name, &instance, e) < 0)
            return -1;
        if (instance == NULL) { /* nobody's: it does not exist */
            *place = (struct mailbox_place){ns, name, ""};
            return 0;
        }
        ns = instance;
    }
    prefix = strlen(ns->prefix);
    if (ns->inbox && strcasecmp(name, "INBOX") == 0) {
        memcpy(name, "INBOX", 5);
        *place = (struct mailbox_place){ns, name, "INBOX"};
        return 0;
    }
    if (strlen(name) + 1 == prefix && strncmp(name, ns->prefix, prefix - 1) == 0) {
        *place = (struct mailbox_place){ns, name, ns->owner_inbox ? "INBOX" : ""}; /* the namespace's own name */
        return 0;
    }
    inner = name + prefix;
    if (ns->inbox && prefix == 0 && starts_inbox(inner, ns->separator)) {
        memcpy(inner, "INBOX", 5);
        inbox = true;
    }
    if (check_vname(ns->storage, inner, ns->separator, e) < 0)
        return -1;
    rest = slice_from_str(inner);
    while (slice_split(&rest, (unsigned char)ns->separator, &part)) {
        struct buffer raw = {0};

        if (!first)
            buffer_append_byte(&stored, (unsigned char)ns->storage->separator);
        if (store_part(ns->storage, part, &raw, name, e) < 0) {
            buffer_free(&raw);
            buffer_free(&stored);
            return -1;
        }
        buffer_append_str(&stored, mailbox_part_escape(ns->storage, arena, buffer_slice(&raw), first));
        buffer_free(&raw);
        first = false;
    }
    *place = (struct mailbox_place){ns, name, arena_str(arena, buffer_slice(&stored))};
    buffer_free(&stored);
    /* With escapes "P/INBOX" can be told from INBOX. */
    if (ns->inbox && !inbox && ns->storage->escape != 0 && strcmp(place->name, "INBOX") == 0)
        place->name = arena_printf(arena, "%c49NBOX", ns->storage->escape);
    /* "P/INBOX" beside INBOX in a prefixed inbox namespace would be the same folder. */
    if (ns->inbox && !inbox && strcmp(place->name, "INBOX") == 0)
        return refuse(e, name, "Contains reserved name");
    return check_stored(ns->storage, place->name, e);
}

int mailbox_place_new(struct mail_user *user, struct arena *arena, struct slice vname, struct mailbox_place *place,
                      bool *directory, struct error *e)
{
    const struct mail_namespace *ns;
    char *text = arena_str(arena, vname);

    *directory = false;
    ns = vname.size == 0 || memchr(text, '\0', vname.size) != NULL ? NULL : mail_namespace_find(user, text);
    if (ns != NULL && vname.at[vname.size - 1] == (unsigned char)ns->separator) {
        vname.size--;
        *directory = true;
    }
    for (size_t i = 0; i < vname.size; i++) {
        if (vname.at[i] < 0x20) {
            error_set(e, ERROR_INVALID, "Control characters not allowed in new mailbox names");
            return error_user(e, "Control characters not allowed in new mailbox names");
        }
    }
    if (vname.size > MAILBOX_NAME_MAX) {
        error_set(e, ERROR_INVALID, "Mailbox name too long");
        return error_user(e, "Mailbox name too long");
    }
    return mailbox_place(user, arena, vname, place, e);
}

/* ---- the way back ---- */

static void show_part(const struct mail_storage *storage, struct slice part, struct buffer *out)
{
    const struct mail_location *at = &storage->at;
    size_t before = out->size;

    if (at->utf8 ? text_utf8_valid(part) : text_mutf7_to_utf8(out, part) == 0) {
        if (at->utf8)
            buffer_append_slice(out, part);
        /* Where the client's separator stands inside a part, the name cannot be said. */
        return;
    }
    out->size = before;
    for (size_t i = 0; i < part.size; i++) {
        if (at->broken_char != 0 && (part.at[i] >= 0x80 || part.at[i] == '&' || part.at[i] == (unsigned char)at->broken_char))
            buffer_printf(out, "%c%02x", at->broken_char, part.at[i]);
        else if (part.at[i] >= 0x80)
            buffer_append_str(out, "\xef\xbf\xbd");
        else
            buffer_append_byte(out, part.at[i]);
    }
}

/* The client's name of a storage name: in the arena. */
const char *mailbox_vname_of(const struct mail_namespace *ns, struct arena *arena, const char *name)
{
    struct buffer out = {0};
    struct slice rest = slice_from_str(name), part;
    bool first = true;
    char *text;

    if (ns->inbox && strcmp(name, "INBOX") == 0)
        return "INBOX";
    if (*name == '\0' || (ns->owner_inbox && strcmp(name, "INBOX") == 0))
        return mail_namespace_root_name(ns, arena);
    buffer_append_str(&out, ns->prefix);
    while (slice_split(&rest, (unsigned char)ns->storage->separator, &part)) {
        if (!first)
            buffer_append_byte(&out, (unsigned char)ns->separator);
        first = false;
        show_part(ns->storage, slice_from_str(mailbox_part_unescape(ns->storage, arena, part)), &out);
    }
    text = arena_str(arena, buffer_slice(&out));
    buffer_free(&out);
    return text;
}

/* ---- rights ---- */

static int find_rights(const struct mailbox_place *place, unsigned *rights, struct error *e)
{
    *rights = place->ns->unusable ? 0 : MAILBOX_RIGHTS_ALL;
    return place->ns->unusable || place->ns->user->unchecked ? 0 : acl_rights(place, rights, e);
}

unsigned mailbox_rights(const struct mailbox_place *place)
{
    struct error e;
    unsigned rights;

    if (find_rights(place, &rights, &e) == 0)
        return rights;
    /* A list that cannot be read gives nobody anything, the owner neither. */
    log_error_value(place->ns->user->log_p, &e);
    return 0;
}

void mail_user_set_unchecked(struct mail_user *user, bool on)
{
    user->unchecked = on;
}

static int missing(const struct mailbox_place *place, unsigned have, struct error *e)
{
    if ((have & MAILBOX_RIGHT_LOOKUP) == 0)
        return mailbox_not_found(place, e);
    error_set(e, ERROR_PERMISSION, "Mailbox %s: Permission denied", place->vname);
    return error_user(e, "Permission denied");
}

int mailbox_need(const struct mailbox_place *place, unsigned rights, struct error *e)
{
    unsigned have;

    if (find_rights(place, &have, e) < 0)
        return -1;
    return (have & rights) == rights ? 0 : missing(place, have, e);
}

int mailbox_need_any(const struct mailbox_place *place, unsigned rights, struct error *e)
{
    unsigned have;

    if (find_rights(place, &have, e) < 0)
        return -1;
    return (have & rights) != 0 ? 0 : missing(place, have, e);
}

int mailbox_need_create(const struct mailbox_place *place, struct error *e)
{
    unsigned have;

    if (place->ns->user->unchecked)
        return 0;
    if (!place->ns->unusable) {
        if (acl_parent_rights(place, &have, e) < 0)
            return -1;
        if ((have & MAILBOX_RIGHT_CREATE) != 0)
            return 0;
    }
    error_set(e, ERROR_PERMISSION, "Mailbox %s: Permission denied", place->vname);
    return error_user(e, "Permission denied");
}
