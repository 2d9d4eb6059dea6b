/* script.c - the asking side of a script service (ipc 15). */
#include "store/script.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int send_words(int fd, struct slice words, bool answer, struct error *e)
{
    struct buffer out = {0};
    struct slice word;
    int r = 0;

    buffer_printf(&out, "VERSION\tscript\t4\t0\n%s\n", answer ? "-" : "noreply");
    while (words.size > 0 && slice_split(&words, ' ', &word)) {
        if (word.size == 0)
            continue;
        text_tab_escape(&out, word);
        buffer_append_byte(&out, '\n');
    }
    buffer_append_byte(&out, '\n');
    /* A few hundred bytes into an empty socket: never blocks. */
    if (send(fd, out.at, out.size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        r = error_sys(e, "send", NULL);
    buffer_free(&out);
    return r;
}

int script_start(const struct mail_user *user, struct slice path, struct slice words, bool answer, struct error *e)
{
    const char *base = path.size > 0 && path.at[0] == '/' ? "" : conf_str(mail_user_settings(user), SET_base_dir);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, n;

    n = snprintf(address.sun_path, sizeof(address.sun_path), "%s%s%.*s", base, *base == '\0' ? "" : "/", (int)path.size, (const char *)path.at);
    if (n < 0 || (size_t)n >= sizeof(address.sun_path))
        return error_set(e, ERROR_INVALID, "net_connect_unix(%.*s) failed: the path is too long", (int)path.size, (const char *)path.at);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        error_set(e, ERROR_TEMPORARY, "net_connect_unix(%s) failed: %s", address.sun_path, strerror(errno));
    else if (send_words(fd, words, answer, e) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}
