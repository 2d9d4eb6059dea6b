/* commands.c - the table of commands (imap 6.2, 3.2).
 *
 * A new command is a line here and a file with its begin and run. */
#include "imap/session.h"

#define SEL COMMAND_SELECTED
#define SYNC COMMAND_SYNC
#define HOLD (COMMAND_SYNC | COMMAND_HOLD)
#define ALONE COMMAND_ALONE
#define NEWS COMMAND_NEWMAIL
#define FAST COMMAND_FAST

/* Sorted by name: command_find searches by halves. */
static const struct command commands[] = {
    {"APPEND", SYNC | NEWS | ALONE | COMMAND_LITERAL8 | COMMAND_MESSAGE, 1, append_begin, append_run, append_end},
    {"CANCELUPDATE", 0, ARGS_ALL, cancelupdate_begin, NULL, NULL},
    {"CAPABILITY", 0, ARGS_NONE, capability_begin, NULL, NULL},
    {"CHECK", SEL | SYNC | NEWS, ARGS_NONE, check_begin, check_run, NULL},
    {"CLOSE", SEL | ALONE, ARGS_NONE, close_begin, close_run, NULL},
    {"COMPRESS", ALONE, ARGS_ALL, compress_begin, NULL, NULL, "imap_zlib"},
    {"COPY", SEL | SYNC | NEWS | COMMAND_LATE | FAST, 2, copy_begin, copy_run, copy_end},
    {"CREATE", 0, 1, create_begin, mailbox_run, NULL},
    {"DELETE", ALONE, 1, delete_begin, mailbox_run, NULL},
    {"DELETEACL", 0, ARGS_ALL, deleteacl_begin, setacl_run, NULL, "imap_acl"},
    {"ENABLE", 0, ARGS_ALL, enable_begin, enable_run, NULL},
    {"ESEARCH", SYNC | FAST, ARGS_ALL, esearch_begin, esearch_run, esearch_end, NULL, "MULTISEARCH"},
    {"EXAMINE", ALONE, ARGS_ALL, select_begin, select_run, select_end},
    {"EXPUNGE", SEL | SYNC | NEWS, ARGS_NONE, expunge_begin, expunge_run, NULL},
    {"FETCH", SEL | HOLD | FAST, ARGS_ALL, fetch_begin, fetch_run, fetch_end},
    {"GENURLAUTH", 0, ARGS_ALL, genurlauth_begin, genurlauth_run, genurlauth_end},
    {"GETACL", 0, ARGS_ALL, getacl_begin, NULL, NULL, "imap_acl"},
    {"GETMETADATA", 0, ARGS_ALL, getmetadata_begin, getmetadata_run, getmetadata_end},
    {"GETQUOTA", 0, ARGS_ALL, getquota_begin, NULL, NULL, "imap_quota"},
    {"GETQUOTAROOT", 0, ARGS_ALL, getquotaroot_begin, NULL, NULL, "imap_quota"},
    {"ID", 0, ARGS_ALL, id_begin, NULL, NULL},
    {"IDLE", ALONE, ARGS_NONE, idle_begin, idle_run, idle_end},
    {"LIST", 0, ARGS_ALL, list_begin, list_run, list_end},
    {"LISTRIGHTS", 0, ARGS_ALL, listrights_begin, NULL, NULL, "imap_acl"},
    {"LOGOUT", ALONE, ARGS_NONE, logout_begin, NULL, NULL},
    {"LSUB", 0, ARGS_ALL, lsub_begin, list_run, list_end},
    {"MOVE", SEL | SYNC | NEWS | COMMAND_LATE | FAST, 2, copy_begin, copy_run, copy_end},
    {"MYRIGHTS", 0, ARGS_ALL, myrights_begin, NULL, NULL, "imap_acl"},
    {"NAMESPACE", 0, ARGS_NONE, namespace_begin, NULL, NULL},
    {"NOOP", SYNC | NEWS, ARGS_NONE, noop_begin, NULL, NULL},
    {"NOTIFY", SYNC | NEWS, ARGS_ALL, notify_begin, notify_run, NULL},
    {"RENAME", 0, 2, rename_begin, mailbox_run, NULL},
    {"REPLACE", SEL | SYNC | NEWS | ALONE | COMMAND_LITERAL8 | COMMAND_MESSAGE, 2, append_begin, append_run, append_end, NULL, "REPLACE"},
    {"RESETKEY", 0, ARGS_ALL, resetkey_begin, resetkey_run, resetkey_end},
    {"SEARCH", SEL | HOLD | FAST, ARGS_ALL, search_begin, search_run, search_end},
    {"SELECT", ALONE, ARGS_ALL, select_begin, select_run, select_end},
    {"SETACL", 0, ARGS_ALL, setacl_begin, setacl_run, NULL, "imap_acl"},
    {"SETMETADATA", COMMAND_LITERAL8, 2, setmetadata_begin, setmetadata_run, NULL, .broken = setmetadata_broken},
    {"SETQUOTA", 0, ARGS_ALL, setquota_begin, NULL, NULL, "imap_quota"},
    {"SORT", SEL | HOLD | FAST, ARGS_ALL, search_begin, search_run, search_end},
    {"STATUS", 0, 2, status_begin, status_run, NULL},
    {"STORE", SEL | HOLD, ARGS_ALL, store_begin, store_run, store_end},
    {"SUBSCRIBE", 0, 1, subscribe_begin, mailbox_run, NULL},
    {"THREAD", SEL | HOLD | FAST, ARGS_ALL, search_begin, search_run, search_end},
    {"UID COPY", SEL | SYNC | NEWS | COMMAND_LATE | FAST, 2, copy_begin, copy_run, copy_end},
    {"UID EXPUNGE", SEL | SYNC | NEWS | COMMAND_LATE | FAST, 1, expunge_begin, expunge_run, NULL},
    {"UID FETCH", SEL | SYNC | FAST, ARGS_ALL, fetch_begin, fetch_run, fetch_end},
    {"UID MOVE", SEL | SYNC | NEWS | COMMAND_LATE | FAST, 2, copy_begin, copy_run, copy_end},
    {"UID REPLACE", SEL | SYNC | NEWS | ALONE | COMMAND_LITERAL8 | COMMAND_MESSAGE, 2, append_begin, append_run, append_end, NULL, "REPLACE"},
    {"UID SEARCH", SEL | SYNC | FAST, ARGS_ALL, search_begin, search_run, search_end},
    {"UID SORT", SEL | SYNC | FAST, ARGS_ALL, search_begin, search_run, search_end},
    {"UID STORE", SEL | SYNC | FAST, ARGS_ALL, store_begin, store_run, store_end},
    {"UID THREAD", SEL | SYNC | FAST, ARGS_ALL, search_begin, search_run, search_end},
    {"UNAUTHENTICATE", ALONE, ARGS_NONE, unauthenticate_begin, NULL, NULL, NULL, "UNAUTHENTICATE"},
    {"UNSELECT", SEL | ALONE, ARGS_NONE, unselect_begin, NULL, NULL},
    {"UNSUBSCRIBE", 0, 1, unsubscribe_begin, mailbox_run, NULL},
    {"URLFETCH", 0, ARGS_ALL, urlfetch_begin, urlfetch_run, urlfetch_end},
    {"X-CANCEL", 0, 1, cancel_begin, NULL, NULL},
    {"X-STATE", 0, ARGS_NONE, state_begin, NULL, NULL},
    {"XLIST", 0, ARGS_ALL, list_begin, list_run, list_end},
};

/* The name that stands in the table against (UID) name. */
static int compare_name(const char *entry, bool uid, struct slice name)
{
    size_t n;

    if (uid) {
        int d = strncmp(entry, "UID ", 4);
        if (d != 0)
            return d;
        entry += 4;
    }
    n = strlen(entry);
    for (size_t i = 0; i < n && i < name.size; i++) {
        int c = name.at[i] >= 'a' && name.at[i] <= 'z' ? name.at[i] - 32 : name.at[i];
        if (entry[i] != c)
            return entry[i] < c ? -1 : 1;
    }
    return n == name.size ? 0 : n < name.size ? -1 : 1;
}

const struct command *command_find(bool uid, struct slice name)
{
    size_t low = 0, high = sizeof(commands) / sizeof(commands[0]);

    while (low < high) {
        size_t middle = (low + high) / 2;
        int d = compare_name(commands[middle].name, uid, name);

        if (d == 0)
            return &commands[middle];
        if (d < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
