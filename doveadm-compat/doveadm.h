/* The face of doveadm-compat: commands as data, their arguments, output through a formatter, exit status.
 *
 * A command is a row of commands.def and a function. The dispatcher has parsed its options and positional arguments; the
 * function asks for them by name, prints rows through print.h, and returns an exit status (doveadm 2). Mail commands
 * (DOVEADM_MAIL) get one open user after the other: see mail.h. */
#ifndef YARILO_DOVEADM_H
#define YARILO_DOVEADM_H

#include "base/base.h"
#include "conf/conf.h"

#include <stdio.h>

enum doveadm_exit { /* doveadm 2 */
    DOVEADM_OK = 0,
    DOVEADM_USAGE = 64,
    DOVEADM_DATAERR = 65,
    DOVEADM_NOUSER = 67,
    DOVEADM_NOTFOUND = 68,
    DOVEADM_NOQUOTA = 73,
    DOVEADM_TEMPFAIL = 75,
    DOVEADM_PROTOCOL = 76,
    DOVEADM_NOPERM = 77,
    DOVEADM_GLOBAL_OPTION = 89
};

enum doveadm_flags {
    DOVEADM_MAIL = 1,        /* -u, -A, -F, -S, --trans-flags; runs once a user */
    DOVEADM_RAW_ARGS = 2,    /* everything behind the name is an argument, options too */
    DOVEADM_NO_PERMUTE = 4,  /* options end at the first argument */
    DOVEADM_NO_PLUGINS = 8,  /* works with a broken mail_plugins */
    DOVEADM_PLUGIN = 16,     /* exists only with the mail plugin of its first word (acl, quota, fts) */
    DOVEADM_LOCAL = 32       /* on the command line only: doveadm-server does not know it */
};

struct doveadm;
struct mail_user;
struct print;

struct doveadm_command {
    const char *name, *usage;
    unsigned flags;
    const char *options, *positional;
    int (*run)(struct doveadm *);
};
extern const struct doveadm_command doveadm_commands[]; /* sorted by name, ended by a NULL name */

/* One run. */
struct doveadm {
    struct arena *arena;
    struct conf *conf;                 /* opened at the first doveadm_settings */
    struct settings *set;
    const char *config_path;           /* -c, or NULL */
    const char **overrides;            /* -o, NULL-ended */
    const struct doveadm_command *command;
    struct print *print;
    const char *formatter;             /* -f, or NULL */
    bool debug, verbose, no_titles;
    struct doveadm_value *values;      /* options and positional arguments */
    const char *username;              /* of the mail command at work; NULL = none */
    bool end_line;                     /* behind all output: the end of the line on which users were counted */
    bool iterating;                    /* several users: rows begin with the user's name */
    struct mail_user *batch_user;      /* inside of doveadm batch: the user at work; NULL = no batch */
    bool batch_prepared;
    bool batch_headers;                /* ... of batch -S: nothing but its headers is wanted, after those in print */
    bool server;                       /* in doveadm-server: output is its client's */
    const char *server_user;           /* there: the user that the client names, once for each */
    const char *server_ip;             /* there: the client's address, "" when it has none */
    struct slice input;                /* what the command reads, once it has been read (save) */
    bool has_input;
    bool remote;                       /* a server runs the command, the rows come from there whole */
};

/* ---- arguments ------------------------------------------------------------------------------------------------ */

/* By long option name or positional name. */
bool doveadm_given(const struct doveadm *, const char *name);
bool doveadm_flag(const struct doveadm *, const char *name);
const char *doveadm_text(const struct doveadm *, const char *name);           /* NULL = not given */
/* All values of a repeated option or array parameter; *n may be 0. NULL-ended. */
const char *const *doveadm_list(const struct doveadm *, const char *name, size_t *n);
bool doveadm_number(const struct doveadm *, const char *name, int64_t *out);  /* false = not given, or no number */

/* All that was given, as another doveadm takes it: mail options first, then the others, "--", the arguments. Not -S, nor a
 * file that is to be sent (`file`). NULL-ended. */
const char **doveadm_args_again(const struct doveadm *, const char *without);
/* Usage of the command on stderr; returns 64. */
int doveadm_usage(const struct doveadm *);

/* ---- settings, errors ------------------------------------------------------------------------------------------ */

/* For service "doveadm". Ends the program with the real one's text when the configuration is unusable. */
struct settings *doveadm_settings(struct doveadm *);
/* Path of a socket below base_dir (an absolute name stays). */
const char *doveadm_socket(struct doveadm *, const char *name);
/* A connection to a UNIX socket as two streams, of which the first waits DOVEADM_ANSWER_SECS for a line. Fatal when there is none. */
enum { DOVEADM_ANSWER_SECS = 5 };
FILE *doveadm_stream(const char *path, FILE **out);
FILE *doveadm_fd_stream(int fd, FILE **out);         /* of a connection that is there */
/* "Fatal: ..." and exit. */
void doveadm_fatal(int status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* Logs nothing: the status that an error means. */
int doveadm_status_of(const struct error *);
/* The text that an error shows here: the user's where there is one, else the storage's general one with a stamp. */
const char *doveadm_error_text(struct arena *, const struct error *);
/* Within one run the first status is kept, but 75 replaces any other. */
void doveadm_status_add(int *status, int more);

/* ---- the commands (one file each or a family) ------------------------------------------------------------------- */

int doveadm_user(struct doveadm *);
int doveadm_auth_test(struct doveadm *);
int doveadm_auth_lookup(struct doveadm *);
int doveadm_auth_cache_flush(struct doveadm *);
int doveadm_who(struct doveadm *);
int doveadm_exec(struct doveadm *);
int doveadm_mailbox_list(struct doveadm *);
int doveadm_mailbox_status(struct doveadm *);
int doveadm_mailbox_create(struct doveadm *);
int doveadm_mailbox_delete(struct doveadm *);
int doveadm_mailbox_subscribe(struct doveadm *);
int doveadm_mailbox_unsubscribe(struct doveadm *);
int doveadm_mailbox_rename(struct doveadm *);
int doveadm_save(struct doveadm *);
int doveadm_index(struct doveadm *);
int doveadm_force_resync(struct doveadm *);
int doveadm_purge(struct doveadm *);
int doveadm_fetch(struct doveadm *);
int doveadm_search(struct doveadm *);
int doveadm_flags(struct doveadm *);
int doveadm_expunge(struct doveadm *);
int doveadm_copy(struct doveadm *);
int doveadm_import(struct doveadm *);
int doveadm_batch(struct doveadm *);
int doveadm_proxy_kick(struct doveadm *);
int doveadm_proxy_list(struct doveadm *);
int doveadm_mailbox_update(struct doveadm *);
int doveadm_deduplicate(struct doveadm *);
int doveadm_pw(struct doveadm *);
int doveadm_absent(struct doveadm *); /* in the table, but not there yet: says so, 75 */
int doveadm_config(struct doveadm *);
int doveadm_help(struct doveadm *);
int doveadm_altmove(struct doveadm *);
int doveadm_fs_copy(struct doveadm *);
int doveadm_fs_delete(struct doveadm *);
int doveadm_fs_get(struct doveadm *);
int doveadm_fs_iter(struct doveadm *);
int doveadm_fs_iter_dirs(struct doveadm *);
int doveadm_fs_metadata(struct doveadm *);
int doveadm_fs_put(struct doveadm *);
int doveadm_fs_stat(struct doveadm *);
int doveadm_instance_list(struct doveadm *);
int doveadm_instance_remove(struct doveadm *);
int doveadm_auth_login(struct doveadm *);
int doveadm_dump(struct doveadm *);
int doveadm_dump_dbox(const char *path, struct buffer *out);   /* dump_dbox.c */
int doveadm_dump_mailbox_log(const char *path, struct buffer *out);   /* dump_other.c */
int doveadm_dump_imapzlib(const char *path, struct buffer *out);
int doveadm_dump_multiplex(const char *path, struct buffer *out);
int doveadm_dump_thread(const char *path, struct buffer *out);        /* dump_thread.c */
int doveadm_dump_crypt_file(const char *path, struct buffer *out);    /* dump_crypt.c */
bool doveadm_is_crypt_file(const char *path);
int doveadm_dump_crypt_key(const char *path, struct buffer *out);
bool doveadm_is_crypt_key(const char *path);
/* The first `most` bytes of a file. 0, or errno. */
int doveadm_dump_read(const char *path, size_t most, struct buffer *);
int doveadm_kick(struct doveadm *);
int doveadm_log_errors(struct doveadm *);
int doveadm_log_test(struct doveadm *);
int doveadm_cache_decision(struct doveadm *);
int doveadm_cache_purge(struct doveadm *);
int doveadm_cache_remove(struct doveadm *);
int doveadm_mailbox_path(struct doveadm *);
int doveadm_cryptokey_export(struct doveadm *);
int doveadm_cryptokey_generate(struct doveadm *);
int doveadm_cryptokey_list(struct doveadm *);
int doveadm_cryptokey_password(struct doveadm *);
int doveadm_sis_deduplicate(struct doveadm *);
int doveadm_sis_find(struct doveadm *);
int doveadm_acl_get(struct doveadm *);
int doveadm_acl_rights(struct doveadm *);
int doveadm_acl_change(struct doveadm *);
int doveadm_acl_recalc(struct doveadm *);
int doveadm_acl_debug(struct doveadm *);
int doveadm_dict_get(struct doveadm *);
int doveadm_dict_inc(struct doveadm *);
int doveadm_dict_iter(struct doveadm *);
int doveadm_dict_set(struct doveadm *);
int doveadm_dict_unset(struct doveadm *);
int doveadm_quota_get(struct doveadm *);
int doveadm_quota_recalc(struct doveadm *);
int doveadm_metadata_get(struct doveadm *);
int doveadm_metadata_set(struct doveadm *);
int doveadm_metadata_list(struct doveadm *);
int doveadm_penalty(struct doveadm *);
int doveadm_log_find(struct doveadm *);
int doveadm_log_reopen(struct doveadm *);
int doveadm_mutf7(struct doveadm *);
int doveadm_process_status(struct doveadm *);
int doveadm_rebuild_attachments(struct doveadm *);
int doveadm_reload(struct doveadm *);
int doveadm_service_status(struct doveadm *);
int doveadm_service_stop(struct doveadm *);
int doveadm_oldstats_dump(struct doveadm *);
int doveadm_oldstats_reset(struct doveadm *);
int doveadm_oldstats_top(struct doveadm *);
int doveadm_stats_add(struct doveadm *);
int doveadm_stats_dump(struct doveadm *);
int doveadm_stats_remove(struct doveadm *);
int doveadm_stop(struct doveadm *);

#endif
