/* The IMAP part of the login process: state shared by imap_login.c and imap_id.c. */
#ifndef YARILO_LOGIN_IMAP_LOGIN_H
#define YARILO_LOGIN_IMAP_LOGIN_H

#include "login/imap_args.h"
#include "login/login.h"

#include <strings.h>

struct imap_login {
    struct imap_wait wait;
    char tag[128];            /* of the login command that is running */
    bool capability_asked;    /* then the mail process answers without a CAPABILITY code (imap 5.4) */
    bool id_logged;
};

void imap_id_reply(struct login_client *);
/* False: "Invalid ID parameters". */
bool imap_id_command(struct login_client *, struct imap_login *, const struct imap_line *);

#endif
