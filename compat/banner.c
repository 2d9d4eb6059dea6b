/* The head of doveconf's output. */
#include "compat/banner.h"

#include "conf/reading.h"

#include <mntent.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The version whose behaviour this is; programs that parse it find what they expect. */
#define COMPAT_VERSION "2.3.19.1"
#define COMPAT_PIGEONHOLE "0.5.19"

void banner_version(const char *file, struct buffer *out)
{
    buffer_printf(out, "# %s (yarilo %s): %s\n", COMPAT_VERSION, PACKAGE_VERSION, file);
    buffer_printf(out, "# Pigeonhole version %s (yarilo %s)\n", COMPAT_PIGEONHOLE, PACKAGE_VERSION);
}

char *banner_hostname(void)
{
    char host[256] = "";
    struct addrinfo hints = {.ai_flags = AI_CANONNAME}, *found = NULL;
    char *name = NULL;
    if (gethostname(host, sizeof(host) - 1) < 0)
        return mem_strdup("localhost");
    if (getaddrinfo(host, NULL, &hints, &found) == 0 && found->ai_canonname != NULL)
        name = mem_strdup(found->ai_canonname);
    if (found != NULL)
        freeaddrinfo(found);
    return name != NULL ? name : mem_strdup(host);
}

/* A key of lines like KEY="value", or the whole first line. */
static bool read_release(const char *path, const char *key, struct buffer *out)
{
    struct buffer text = {0};
    struct error ignored;
    bool found = false;
    if (conf_read_file(path, &text, &ignored) == 0) {
        struct slice rest = buffer_slice(&text), line;
        while (!found && slice_split(&rest, '\n', &line)) {
            if (key != NULL && !slice_starts(line, slice_from_str(key)))
                continue;
            line = slice_trim(slice_from(line, key == NULL ? 0 : strlen(key)));
            if (line.size >= 2 && line.at[0] == '"')
                line = slice_head(slice_from(line, 1), line.size - 2);
            buffer_append_slice(out, line);
            found = true;
        }
    }
    buffer_free(&text);
    return found;
}

static void put_distribution(struct buffer *out)
{
    static const char *const files[] = {"/etc/redhat-release", "/etc/SuSE-release", "/etc/gentoo-release"};
    if (read_release("/etc/lsb-release", "DISTRIB_DESCRIPTION=", out))
        return;
    size_t before = out->size;
    buffer_append_str(out, "Debian ");
    if (read_release("/etc/debian_version", NULL, out))
        return;
    out->size = before;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (read_release(files[i], NULL, out))
            return;
    }
}

/* The type of the file system that holds the path. */
static void put_file_system(const char *path, struct buffer *out)
{
    struct stat st, mount;
    char *folder = mem_strdup(path);
    while (stat(folder, &st) < 0) {
        char *slash = strrchr(folder, '/');
        if (slash == NULL || slash == folder) {
            mem_free(folder);
            return;
        }
        *slash = '\0';
    }
    FILE *mounts = setmntent("/proc/self/mounts", "r");
    char *type = NULL;
    for (struct mntent *m; mounts != NULL && (m = getmntent(mounts)) != NULL;) {
        if (stat(m->mnt_dir, &mount) == 0 && mount.st_dev == st.st_dev) {
            mem_free(type);
            type = mem_strdup(m->mnt_type);
        }
    }
    if (mounts != NULL)
        endmntent(mounts);
    if (type != NULL)
        buffer_append_str(out, type);
    mem_free(type);
    mem_free(folder);
}

void banner_system(const struct settings *set, struct buffer *out)
{
    struct utsname name;
    char *host = banner_hostname();
    buffer_append_str(out, "# OS: ");
    if (uname(&name) == 0)
        buffer_printf(out, "%s %s %s ", name.sysname, name.release, name.machine);
    put_distribution(out);
    buffer_append_byte(out, ' ');
    const char *location = conf_str(set, SET_mail_location), *colon = strchr(location, ':');
    struct slice path = slice_from_str(colon == NULL ? location : colon + 1), first;
    (void)slice_split(&path, ':', &first);
    if (first.size > 0 && first.at[0] == '/' && slice_find(first, '%') < 0 && slice_find(first, '~') < 0) {
        char *text = mem_strndup(first);
        put_file_system(text, out);
        mem_free(text);
    }
    buffer_printf(out, "\n# Hostname: %s\n", host);
    mem_free(host);
}

char *banner_instance_file(const char *wanted)
{
    struct buffer text = {0};
    struct error ignored;
    char *file = NULL;
    if (conf_read_file("/var/lib/dovecot/instances", &text, &ignored) == 0) {
        struct slice rest = buffer_slice(&text), line, part[4];
        while (slice_split(&rest, '\n', &line)) {
            size_t n = 0;
            while (n < 4 && slice_split(&line, '\t', &part[n]))
                n++;
            if (n == 4 && slice_equal_str(part[1], wanted)) {
                mem_free(file);
                file = mem_strndup(part[3]);
            }
        }
    }
    buffer_free(&text);
    return file;
}

void banner_capabilities(struct conf_tree *tree)
{
    static const struct {
        enum setting set;
        const char *value;
    } announced[] = {
        {SET_managesieve_notify_capability, "mailto"},
        {SET_managesieve_sieve_capability,
         "fileinto reject envelope encoded-character vacation subaddress comparator-i;ascii-numeric relational regex "
         "imap4flags copy include variables body enotify environment mailbox date index ihave duplicate mime "
         "foreverypart "
         "extracttext"},
    };
    bool installed = access(PKGLIBEXECDIR "/managesieve", X_OK) == 0;
#ifdef BUILD_LIBEXEC
    installed |= geteuid() == getuid() && access(BUILD_LIBEXEC "/managesieve", X_OK) == 0;
#endif
    if (getenv("DUMP_CAPABILITY") != NULL || !installed)
        return;
    for (size_t i = 0; i < sizeof(announced) / sizeof(announced[0]); i++) {
        unsigned def = (unsigned)conf_setting_def(announced[i].set);
        if (conf_section_get(&tree->global->section, def) == NULL)
            conf_section_set(tree->arena, &tree->global->section, def, announced[i].value, 0,
                             (struct conf_place){tree->path, 0});
    }
}
