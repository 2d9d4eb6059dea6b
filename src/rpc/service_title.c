/* service_title.c - what `ps` shows (verbose_proctitle).
 *
 * Linux shows the memory in which the program's arguments were given, and on into the environment behind them when the last
 * byte of the arguments is no NUL. So both are copied away once, and the title is written over them. */
#include "rpc/service_impl.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
    char *at;      /* NULL: titles are off */
    size_t size;   /* with the NUL at the end */
    char *name;    /* the first argument, "dovecot/imap" */
} title;

static char **copy_strings(char *const *strings)
{
    VEC(char *) copies = {0};

    for (; *strings != NULL; strings++)
        VEC_PUSH(&copies, mem_strdup(*strings));
    VEC_PUSH(&copies, NULL);
    return copies.at;
}

/* The end of the strings that stand behind one another from `end` on. */
static char *joined(char *end, char *const *strings)
{
    for (; *strings != NULL && *strings == end; strings++)
        end += strlen(end) + 1;
    return end;
}

void service_title_init(struct service *service, char **argv)
{
    char *end = joined(argv[0], argv);

    end = joined(end, environ);
    service->args = copy_strings(service->args);
    environ = copy_strings(environ);
    title.name = mem_strdup(argv[0]);
    title.at = argv[0];
    title.size = (size_t)(end - argv[0]);
}

bool service_titled(void)
{
    return title.at != NULL;
}

void service_title(const char *text)
{
    int size;

    if (title.at == NULL)
        return;
    memset(title.at, 0, title.size);
    size = *text == '\0' ? snprintf(title.at, title.size, "%s", title.name)
                         : snprintf(title.at, title.size, "%s [%s]", title.name, text);
    for (int i = 0; i < size && title.at[i] != '\0'; i++) {
        if ((unsigned char)title.at[i] < ' ' || title.at[i] == 0x7f)
            title.at[i] = '?';
    }
}
