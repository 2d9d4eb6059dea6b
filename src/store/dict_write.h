/* Writes into dictionaries that nobody waits for: last_login, quota_clone. */
#ifndef YARILO_STORE_DICT_WRITE_H
#define YARILO_STORE_DICT_WRITE_H

#include "store/dict.h"
#include "store/store.h"

/* Commits the changes for the user, later (store/later.h): at most some at a time in a process, in order of asking; more than
 * a thousand that wait are refused. Everything is copied; the user may be closed. What goes wrong is logged: "WHAT: Failed to
 * write value: ..." Whatever happens, `done` is called at the end, maybe within this call; NULL = nobody wants to know. */
void dict_write(struct mail_user *, const char *what, const char *uri, const struct dict_change *, size_t count, void (*done)(void *arg),
                void *arg);

#endif
