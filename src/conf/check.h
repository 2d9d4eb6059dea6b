/* Checks after reading (config 7): module by module, in Dovecot's order and with Dovecot's texts. Linked only into
 * what reads configuration files. */
#ifndef YARILO_CONF_CHECK_H
#define YARILO_CONF_CHECK_H

#include "conf/settings.h"

/* What lasts over the check runs of one program: some warnings come once. */
struct conf_checker {
    bool told_limits, told_ssl;
};

struct conf_check {
    const struct settings *set;
    struct conf_checker *checker;
    struct arena *arena;
    struct error *e;
};

/* Checks merged settings. `fault` is called for every module that fails, with the text of its first fault.
 * `modules`: only what programs of these modules ask for, NULL-ended; NULL = all. */
void conf_check_settings(const struct settings *, struct conf_checker *, const char *const *modules,
                         void (*fault)(void *, const char *text), void *arg);
/* Checks every level, merged as a request of its own would be. -1: the first fault, as "Error in configuration file
 * %s: %s". */
int conf_check_tree(struct conf *, struct conf_checker *, const char *const *modules, struct error *);

/* The parts: 0, or -1 and the text in c->e. */
int check_auth(struct conf_check *);
int check_service(struct conf_check *);
int check_ssl(struct conf_check *);
int check_director(struct conf_check *);
int check_doveadm(struct conf_check *);
int check_imap(struct conf_check *);
int check_imapc(struct conf_check *);
int check_lmtp(struct conf_check *);
int check_mail_storage(struct conf_check *);
int check_mail_user(struct conf_check *);
int check_managesieve(struct conf_check *);
int check_master(struct conf_check *);
int check_pop3(struct conf_check *);
int check_pop3c(struct conf_check *);
int check_stats(struct conf_check *);
int check_submission(struct conf_check *);

/* Words of a value: cut at any of `separators`, empty ones left out. */
bool check_next_word(struct slice *rest, const char *separators, struct slice *word);
/* "NAME: Unknown TEXT: word" for the first word that is not in `known` (space-separated). */
int check_words(struct conf_check *, enum setting, const char *known, const char *what);
/* For texts with a word in them. */
#define WORD(w) (int)(w).size, (const char *)(w).at

#endif
