/* cmd_proxy.c - proxy list, kick: the proxied connections of login processes, asked through the socket ipc (ipc 12). */
#include "doveadm.h"
#include "print.h"
#include "rpc/line.h"

#include <stdio.h>
#include <stdlib.h>

struct ipc {
    FILE *in, *out;
    char *line;
    size_t room;
};

/* False: the error has been logged. */
static bool ask(struct doveadm *d, struct ipc *ipc, const char *name, const struct buffer *command)
{
    const char *path = doveadm_text(d, "socket-path");
    struct error e;
    int fd;

    if (path == NULL)
        path = doveadm_socket(d, "ipc");
    fd = line_connect(path, 0, &e);
    if (fd < 0) {
        log_error(NULL, "connect(%s) failed: %s", path, strerror(e.sys));
        log_error(NULL, "%s failed: ipc connect failed", name);
        return false;
    }
    *ipc = (struct ipc){0};
    ipc->in = doveadm_fd_stream(fd, &ipc->out);
    fprintf(ipc->out, "proxy\t*\t");
    fwrite(command->at, 1, command->size, ipc->out);
    fputc('\n', ipc->out);
    fflush(ipc->out);
    return true;
}

static void leave(struct ipc *ipc)
{
    free(ipc->line);
    fclose(ipc->in);
    fclose(ipc->out);
}

/* The next line, whole. NULL: there is none. */
static const char *next_line(struct ipc *ipc)
{
    ssize_t n = getline(&ipc->line, &ipc->room, ipc->in);

    if (n <= 0 || ipc->line[n - 1] != '\n')
        return NULL;
    ipc->line[n - 1] = '\0';
    return ipc->line;
}

static const char *title_of(const char *key)
{
    static const char *const titles[][2] = {{"service", "proto"}, {"src-ip", "src ip"}, {"dest-ip", "dest ip"}, {"dest-port", "port"}};

    for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++) {
        if (strcmp(key, titles[i][0]) == 0)
            return titles[i][1];
    }
    return key;
}

static size_t print_fields(struct doveadm *d, const char *line, bool header)
{
    struct slice rest = slice_from_str(line), one;
    size_t n = 0;

    for (; slice_split(&rest, '\t', &one); n++) {
        const char *text = arena_str(d->arena, text_tab_unescape(d->arena, one));

        if (header)
            print_header(d, text, title_of(text), strcmp(text, "username") == 0 ? PRINT_EXPAND : 0);
        else
            print_value(d, text);
    }
    return n;
}

int doveadm_proxy_list(struct doveadm *d)
{
    struct buffer command = {0};
    size_t columns = 0;
    const char *line;
    struct ipc ipc;

    print_init(d, "table");
    buffer_append_str(&command, "LIST-FULL");
    if (ask(d, &ipc, "LIST-FULL", &command)) {
        while ((line = next_line(&ipc)) != NULL && line[0] == ':') {
            if (columns == 0)
                columns = print_fields(d, line + 1, true);
            else
                for (size_t n = print_fields(d, line + 1, false); n % columns != 0; n++)
                    print_value(d, "");
        }
        if (line == NULL || line[0] != '+')
            log_error(NULL, "LIST-FULL failed: %s", line == NULL ? "Disconnected" : line[0] == '-' ? line + 1 : "Invalid input");
        leave(&ipc);
    }
    buffer_free(&command);
    return DOVEADM_OK;
}

int doveadm_proxy_kick(struct doveadm *d)
{
    const char *field = doveadm_text(d, "passdb-field"), *host = doveadm_text(d, "host"), *line;
    struct buffer command = {0};
    int status = DOVEADM_TEMPFAIL;
    struct ipc ipc;
    size_t n;
    const char *const *users = doveadm_list(d, "user", &n);

    if (n == 0 && host == NULL)
        return doveadm_usage(d);
    buffer_append_str(&command, host != NULL ? "KICK-HOST" : field != NULL ? "KICK-ALT" : "KICK");
    if (host != NULL || field != NULL)
        line_field_str(&command, host != NULL ? host : field);
    for (size_t i = 0; i < n; i++)
        line_field_str(&command, users[i]);
    print_init(d, "formatted");
    print_template(d, "%{count} connections kicked\n");
    print_header_simple(d, "count");
    if (ask(d, &ipc, "KICK", &command)) {
        while ((line = next_line(&ipc)) != NULL && line[0] == ':')
            ;
        if (line != NULL && line[0] == '+') {
            print_value(d, line[1] == '\0' ? "0" : line + 1);
            status = DOVEADM_OK;
        } else {
            log_error(NULL, "KICK failed: %s", line == NULL ? "Disconnected" : line[0] == '-' ? line + 1 : "Invalid input");
        }
        leave(&ipc);
    }
    buffer_free(&command);
    return status;
}
