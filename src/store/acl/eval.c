/* eval.c - from the entries of a mailbox to what one user may (quota-acl-plugins 2.4).
 *
 * Entries are sorted: own ones before global ones, within each by kind. What matches replaces what an earlier kind gave;
 * several of one kind (groups) add up. The owner starts with everything, and what the mailbox's own list says of anyone,
 * authenticated or groups does not touch him; global entries do. Rights that are taken away by '-' go at the end. */
#include "store/acl/acl.h"

static bool in_group(const struct acl_me *me, const char *group)
{
    for (size_t i = 0; me->groups != NULL && me->groups[i] != NULL; i++)
        if (strcmp(me->groups[i], group) == 0)
            return true;
    return false;
}

static bool matches(const struct acl_entry *entry, const struct acl_me *me)
{
    switch (entry->kind) {
    case ACL_ANYONE:
        return true;
    case ACL_AUTHENTICATED:
        return me->user != NULL;
    case ACL_GROUP:
    case ACL_GROUP_OVERRIDE:
        return in_group(me, entry->name);
    case ACL_OWNER:
        return me->owner;
    case ACL_USER:
        return me->user != NULL && strcmp(me->user, entry->name) == 0;
    }
    return false;
}

unsigned acl_evaluate(const struct acl_entries *entries, const struct acl_me *me, bool *matched)
{
    unsigned given = me->owner ? MAILBOX_RIGHTS_ALL : 0, taken = 0;
    const struct acl_entry *last = NULL;
    bool global = false;

    *matched = me->owner;
    for (size_t i = 0; i < entries->count; i++) {
        const struct acl_entry *entry = &entries->at[i];
        bool adds;

        if ((me->owner && !entry->global && entry->kind < ACL_OWNER) || !matches(entry, me))
            continue;
        if (entry->global && !global) {
            taken = 0;
            global = true;
        }
        adds = last != NULL && last->kind == entry->kind && last->global == entry->global;
        if (entry->has_rights)
            given = (adds ? given : 0) | entry->rights;
        if (entry->has_negative)
            taken = (adds ? taken : 0) | entry->negative;
        last = entry;
        *matched = true;
    }
    return given & ~taken;
}

bool acl_shows_others(const struct acl_entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        if (entries->at[i].kind != ACL_OWNER && (entries->at[i].rights & MAILBOX_RIGHT_LOOKUP) != 0)
            return true;
    return false;
}
