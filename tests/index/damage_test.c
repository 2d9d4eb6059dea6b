/* damage_test.c - every file of a family cut at every length and with flipped bits (index-format 12, 17.12): a reader
 * neither fails nor reads outside, a writer mends, and after that nobody has anything to complain about. */
#include "lib.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef GOLDEN_DIR
#error "GOLDEN_DIR is where the recordings are"
#endif

struct file {
    char name[256];
    struct buffer bytes;
};

static struct file files[8];
static size_t file_count;
static unsigned complaints;
static struct buffer last_complaint;

static void see(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg;
    (void)prefix;
    if (level < LOG_LEVEL_WARNING)
        return;
    complaints++;
    buffer_reset(&last_complaint);
    buffer_append_str(&last_complaint, text);
}

static void load_family(const char *family)
{
    char path[512];
    DIR *dir;
    struct dirent *d;

    snprintf(path, sizeof(path), "%s/%s", GOLDEN_DIR, family);
    dir = opendir(path);
    ATF_REQUIRE_MSG(dir != NULL, "%s", path);
    file_count = 0;
    while ((d = readdir(dir)) != NULL) {
        if (d->d_name[0] == '.' || strstr(d->d_name, ".backup") != NULL)
            continue;
        snprintf(files[file_count].name, sizeof(files[0].name), "%s", d->d_name);
        REQUIRE_OK(os_read_file(dirfd(dir), d->d_name, 1 << 20, &files[file_count].bytes, &e_));
        file_count++;
    }
    closedir(dir);
    ATF_REQUIRE(file_count >= 1);
}

static void free_family(void)
{
    for (size_t i = 0; i < file_count; i++)
        buffer_free(&files[i].bytes);
}

static void empty_box(void)
{
    DIR *dir = opendir("box");
    struct dirent *d;

    if (dir == NULL) {
        mkdir("box", 0700);
        return;
    }
    while ((d = readdir(dir)) != NULL) {
        if (d->d_name[0] != '.')
            unlinkat(dirfd(dir), d->d_name, 0);
    }
    closedir(dir);
}

static void write_box(const struct file *damaged, struct slice bytes)
{
    empty_box();
    for (size_t i = 0; i < file_count; i++) {
        struct slice s = &files[i] == damaged ? bytes : buffer_slice(&files[i].bytes);
        char path[300];
        int fd;

        snprintf(path, sizeof(path), "box/%.255s", files[i].name);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        ATF_REQUIRE(fd >= 0);
        ATF_REQUIRE_EQ(write(fd, s.at, s.size), (ssize_t)s.size);
        close(fd);
    }
}

static const char *prefix_of(void)
{
    static char prefix[256];

    for (size_t i = 0; i < file_count; i++) {
        const char *end = strstr(files[i].name, ".log");

        if (end != NULL) {
            snprintf(prefix, sizeof(prefix), "%.*s", (int)(end - files[i].name), files[i].name);
            return prefix;
        }
    }
    return "dovecot.index";
}

static int open_box(struct index **index, bool read_only)
{
    struct index_where where = {.path = "box", .prefix = prefix_of(), .read_only = read_only};
    int ret;

    where.dir = open("box", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ATF_REQUIRE(where.dir >= 0);
    ret = index_open(index, &where, &err);
    close(where.dir);
    return ret;
}

static bool ignore_field(void *arg, const char *name, struct slice value)
{
    volatile unsigned char sum = (unsigned char)name[0];

    (void)arg;
    for (size_t i = 0; i < value.size; i++)
        sum ^= value.at[i];
    return true;
}

/* Reads everything that can be asked for. */
static void read_all(struct index *index)
{
    struct index_ext_info x;
    struct index_record r;
    struct index_status st;
    struct index_ranges vanished = {0};
    uint32_t prev = 0;

    index_status(index, &st);
    ATF_CHECK_EQ(st.messages, index_count(index));
    for (uint32_t seq = 1; index_get_at(index, seq, &r); seq++) {
        ATF_CHECK(r.uid > prev);
        prev = r.uid;
        for (unsigned k = 0; k < index_keyword_count(index); k++)
            index_keyword_has(r.keywords, k);
        index_cache_each(index, r.uid, ignore_field, NULL);
    }
    for (unsigned i = 0; index_ext_at(index, i, &x); i++)
        ignore_field(NULL, x.name, x.header);
    index_vanished_since(index, 1, &vanished, &err);
    index_ranges_free(&vanished);
}

static void try_damage(const struct file *f, struct slice bytes, const char *what, size_t at)
{
    struct index *index = NULL;
    struct index_batch *b;
    struct index_record r;

    write_box(f, bytes);
    if (open_box(&index, true) == 0) {
        read_all(index);
        index_close(&index);
    }
    if (open_box(&index, false) < 0) {
        /* what a reader may refuse, a writer repairs */
        atf_tc_fail("%s %s at %zu: cannot be opened: %s", f->name, what, at, err.admin);
    }
    read_all(index);
    b = batch_of(INDEX_INTERNAL);
    if (index_get_from(index, 1, &r))
        index_batch_flags(b, r.uid, r.uid, (r.flags & INDEX_FLAGGED) != 0 ? INDEX_REMOVE : INDEX_ADD, INDEX_FLAGGED);
    if (index_commit(index, b, NULL, &err) != STEP_DONE)
        atf_tc_fail("%s %s at %zu: commit: %s", f->name, what, at, err.admin);
    if (index_get_from(index, 1, &r)) {
        index_cache_put(index, r.uid, index_field("flags"), SLICE("\0\0\0\0"));
        index_cache_flush(index);
    }
    index_close(&index);
    complaints = 0;
    if (open_box(&index, true) < 0)
        atf_tc_fail("%s %s at %zu: reopen: %s", f->name, what, at, err.admin);
    read_all(index);
    ATF_CHECK_MSG(complaints == 0, "%s %s at %zu: after the repair: %s", f->name, what, at,
                  buffer_cstr(&last_complaint));
    index_close(&index);
    arena_reset(arena);
}

static void damage_family(const char *family)
{
    size_t most = getenv("YARILO_LONG") != NULL ? 1500 : 150;

    log_capture(see, NULL);
    arena = arena_new();
    load_family(family);
    srandom(1);
    for (size_t i = 0; i < file_count; i++) {
        const struct file *f = &files[i];
        size_t size = f->bytes.size, step = size / most + 1;
        struct buffer copy = {0};

        for (size_t cut = 0; cut < size; cut += cut < 128 || size - cut < 64 ? 1 : step)
            try_damage(f, slice_head(buffer_slice(&f->bytes), cut), "cut", cut);
        for (size_t at = 0; at < size; at += at < 128 ? 1 : step) {
            buffer_reset(&copy);
            buffer_append_slice(&copy, buffer_slice(&f->bytes));
            copy.at[at] ^= (unsigned char)(1u << random() % 8);
            try_damage(f, buffer_slice(&copy), "bit", at);
            copy.at[at] = random() % 2 ? 0xff : 0;
            try_damage(f, buffer_slice(&copy), "byte", at);
        }
        buffer_free(&copy);
    }
    free_family();
    buffer_free(&last_complaint);
    arena_free(arena);
    arena = NULL;
    log_capture(NULL, NULL);
}

#define FAMILY(id, name) \
    ATF_TC(id); \
    ATF_TC_HEAD(id, tc) \
    { \
        atf_tc_set_md_var(tc, "timeout", "1800"); \
    } \
    ATF_TC_BODY(id, tc) \
    { \
        damage_family(name); \
    }

FAMILY(maildir, "maildir-keywords")
FAMILY(sdbox, "sdbox-rotated")
FAMILY(reset, "sdbox-reset")
FAMILY(map, "mdbox-map")
FAMILY(inbox, "mdbox-inbox")

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, maildir);
    ATF_TP_ADD_TC(tp, sdbox);
    ATF_TP_ADD_TC(tp, reset);
    ATF_TP_ADD_TC(tp, map);
    ATF_TP_ADD_TC(tp, inbox);
    return atf_no_error();
}
