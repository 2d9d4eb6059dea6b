/* cmd_pw.c - doveadm pw: makes and checks stored passwords (doveadm 7.4). */
#include "auth/scheme.h"
#include "doveadm.h"

#include <stdio.h>
#include <termios.h>
#include <unistd.h>

enum { TRIES = 3 };

static bool read_line(const char *prompt, char *line, size_t size)
{
    struct termios old, quiet;
    bool terminal = tcgetattr(STDIN_FILENO, &old) == 0, got;

    if (terminal) {
        quiet = old;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
        fputs(prompt, stderr);
    }
    got = fgets(line, (int)size, stdin) != NULL;
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
        fputc('\n', stderr);
    }
    line[strcspn(line, "\r\n")] = '\0';
    return got;
}

/* Asked twice on a terminal; from a pipe one line is enough. */
static const char *ask_password(struct doveadm *d)
{
    char first[1024], second[1024];

    for (int i = 0; i < TRIES; i++) {
        if (!read_line("Enter new password: ", first, sizeof(first)))
            doveadm_fatal(DOVEADM_TEMPFAIL, "read(stdin) failed: EOF");
        if (!isatty(STDIN_FILENO))
            return arena_strdup(d->arena, first);
        if (read_line("Retype new password: ", second, sizeof(second)) && strcmp(first, second) == 0)
            return arena_strdup(d->arena, first);
        fputs("Passwords don't match!\n", stderr);
    }
    doveadm_fatal(DOVEADM_TEMPFAIL, "Couldn't get a password");
}

/* "{SCHEME}data" -> checks; prints it with " (verified)". */
static int verify(struct doveadm *d, const char *stored, const char *password, const char *user)
{
    struct slice data = slice_from_str(stored), scheme;
    struct buffer raw = {0};
    struct error e;

    (void)d;
    if (stored[0] != '{' || !scheme_split(&data, &scheme))
        doveadm_fatal(DOVEADM_TEMPFAIL, "Missing {scheme} prefix from hash");
    if (scheme_decode(scheme, data, &raw, &e) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "reverse decode check failed: %s", e.admin);
    buffer_wipe(&raw);
    switch (scheme_verify(slice_from_str(password), user, scheme, data, &e)) {
    case SCHEME_MATCH:
        printf("%s (verified)\n", stored);
        return DOVEADM_OK;
    case SCHEME_MISMATCH:
        doveadm_fatal(DOVEADM_TEMPFAIL, "reverse password verification check failed: Password mismatch");
    default:
        doveadm_fatal(DOVEADM_TEMPFAIL, "reverse password verification check failed: %s", e.admin);
    }
}

static int list_schemes(void)
{
    for (size_t i = 0; scheme_name_at(i) != NULL; i++)
        printf("%s ", scheme_name_at(i));
    putchar('\n');
    return DOVEADM_OK;
}

int doveadm_pw(struct doveadm *d)
{
    const char *scheme = doveadm_given(d, "scheme") ? doveadm_text(d, "scheme") : "CRYPT";
    const char *password = doveadm_text(d, "plaintext"), *user = doveadm_text(d, "user");
    const char *stored = doveadm_text(d, "test-hash");
    char *name = arena_strdup(d->arena, scheme);
    struct buffer out = {0};
    int64_t rounds = 0;
    struct error e;

    if (doveadm_flag(d, "list"))
        return list_schemes();
    for (char *p = name; *p != '\0'; p++)
        *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
    doveadm_number(d, "rounds", &rounds);
    if (password == NULL)
        password = ask_password(d);
    if (stored != NULL)
        return verify(d, stored, password, user);
    if (scheme_generate(slice_from_str(password), user, slice_from_str(name),
                        rounds < 0 || rounds > UINT32_MAX ? 0 : (unsigned)rounds, &out, &e) < 0)
        doveadm_fatal(DOVEADM_TEMPFAIL, "%s", e.admin);
    stored = arena_printf(d->arena, "{%s}%s", name, buffer_cstr(&out));
    buffer_wipe(&out);
    if (doveadm_flag(d, "reverse-verify"))
        return verify(d, stored, password, user);
    printf("%s\n", stored);
    return DOVEADM_OK;
}
