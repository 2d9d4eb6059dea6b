/* index_tool.c - the index library as a command, for scripts that compare it with the independent decoder and with
 * the real server.
 *
 *   index_tool [-r] [-p PREFIX] [-o SETTING=NUMBER]... DIR COMMAND [ARGUMENT...] [, COMMAND ...]
 *
 * Commands work on one open index, separated by commas. Faults are armed by YARILO_FAULT (os.h). */
#include "index/batch.h"
#include "index/dump.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct index *box;

static void die(const struct error *e)
{
    fprintf(stderr, "index_tool: %s\n", e->admin);
    exit(75);
}

static void commit(struct index_batch *batch)
{
    struct index_commit out;
    struct error e;

    if (index_commit_wait(box, batch, &out, &e) < 0)
        die(&e);
    printf("ok first=%u last=%u modseq=%llu failed=%zu\n", out.first_uid, out.last_uid,
           (unsigned long long)out.highest_modseq, out.failed.count);
    fflush(stdout);
}

/* The bytes of a base index of now, on standard output. */
static void emit(void)
{
    struct state *s = &box->state;
    struct buffer out = {0};

    index_store_modseq(box);
    state_put(s, BASE_AT_LOG_TAIL, state_get(s, BASE_AT_LOG_HEAD));
    state_emit_header(s, &out);
    fwrite(out.at, 1, out.size, stdout);
    if (s->count > 0)
        fwrite(s->records, s->stride, s->count, stdout);
    buffer_free(&out);
}

static void list(void)
{
    struct index_status st;
    struct index_record r;

    index_status(box, &st);
    printf("messages=%u seen=%u unseen=%u deleted=%u recent=%u uidvalidity=%u uidnext=%u modseq=%llu\n", st.messages,
           st.seen, st.unseen, st.deleted, st.recent, st.uid_validity, st.next_uid,
           (unsigned long long)st.highest_modseq);
    for (uint32_t uid = 1; index_get_from(box, uid, &r); uid = r.uid + 1) {
        printf("%u flags=%02x modseq=%llu keywords=", r.uid, r.flags, (unsigned long long)r.modseq);
        for (unsigned k = 0; k < index_keyword_count(box); k++) {
            if (index_keyword_has(r.keywords, k))
                printf("%s,", index_keyword_name(box, k));
        }
        printf("\n");
    }
}

static void flags(char **arg)
{
    struct arena *arena = arena_new();
    struct index_batch *b = index_batch_new(arena, INDEX_INTERNAL);
    enum index_modify modify = *arg[0] == '+' ? INDEX_ADD : *arg[0] == '-' ? INDEX_REMOVE : INDEX_REPLACE;
    uint32_t first = (uint32_t)strtoul(arg[1], NULL, 10), last = (uint32_t)strtoul(arg[2], NULL, 10);
    unsigned long bits;
    char *end;

    bits = strtoul(arg[3], &end, 16);
    if (*end == '\0') {
        index_batch_flags(b, first, last, modify, (uint8_t)bits);
    } else {
        struct slice name = slice_from_str(arg[3]);

        index_batch_keywords(b, first, last, modify, &name, 1);
    }
    commit(b);
    arena_free(arena);
}

/* A number into an extension of such records, as if by somebody who makes mistakes. */
static void ext_number(char **arg)
{
    struct arena *arena = arena_new();
    struct index_batch *b = index_batch_new(arena, INDEX_INTERNAL);
    unsigned ext = index_ext(box, &(struct index_ext_def){arg[0], 0, 4, 4, false});
    unsigned char raw[4];

    bytes_put_le32(raw, (uint32_t)strtoul(arg[2], NULL, 10));
    index_batch_ext_record(b, ext, (uint32_t)strtoul(arg[1], NULL, 10), slice_of(raw, sizeof(raw)));
    commit(b);
    arena_free(arena);
}

static void append(const char *count, const char *modseq)
{
    struct arena *arena = arena_new();
    struct index_batch *b = index_batch_new(arena, INDEX_EXTERNAL);
    unsigned fields[32];
    size_t wanted = index_cache_wanted(box, fields, 32);

    if (state_get(&box->state, BASE_AT_UID_VALIDITY) == 0)
        index_batch_uid_validity(b, (uint32_t)time(NULL));
    for (unsigned n = (unsigned)strtoul(count, NULL, 10); n > 0; n--) {
        struct index_append *a = index_batch_append(b, 0, 0);

        if (modseq != NULL)
            index_append_modseq(b, a, strtoull(modseq, NULL, 10));
        for (size_t f = 0; f < wanted; f++) {
            if (fields[f] == index_field("size.virtual"))
                index_append_cache(b, a, fields[f], SLICE("\x67\0\0\0\0\0\0\0"));
        }
    }
    commit(b);
    arena_free(arena);
}

static void expunge(const char *kind, const char *uid)
{
    struct arena *arena = arena_new();
    struct index_batch *b = index_batch_new(arena, kind[0] == 'e' ? INDEX_EXTERNAL : INDEX_INTERNAL);

    index_batch_expunge(b, (uint32_t)strtoul(uid, NULL, 10), NULL);
    commit(b);
    arena_free(arena);
}

/* As a storage does it: carries everything out (here: only expunges have an effect), moves the tail, maintains. */
static void sync_box(void)
{
    struct arena *arena = arena_new();
    struct index_requests requests;
    struct index_batch *b = index_batch_new(arena, INDEX_EXTERNAL);
    struct error e;

    if (index_lock_wait(box, "syncing", &e) < 0 || index_pending(box, arena, &requests, &e) < 0)
        die(&e);
    printf("requests=%zu\n", requests.count);
    for (size_t i = 0; i < requests.count; i++) {
        if (requests.at[i].expunge)
            index_batch_expunge(b, requests.at[i].uid, requests.at[i].guid);
    }
    index_batch_done(b, &requests);
    if (index_commit_locked(box, b, NULL, &e) < 0)
        die(&e);
    index_maintain(box);
    index_unlock(box);
    arena_free(arena);
}

static void cache_put(const char *uid, const char *field, const char *value)
{
    index_cache_put(box, (uint32_t)strtoul(uid, NULL, 10), index_field(field), slice_from_str(value));
}

static void print_hex(const char *before, struct slice value)
{
    struct buffer hex = {0};

    text_hex_encode(&hex, value);
    printf("%s%s\n", before, buffer_cstr(&hex));
    buffer_free(&hex);
}

static void cache_get(const char *uid, const char *field)
{
    struct arena *arena = arena_new();
    struct slice value;

    if (index_cache_get(box, (uint32_t)strtoul(uid, NULL, 10), index_field(field), arena, &value) == INDEX_CACHE_FOUND)
        print_hex("found ", value);
    else
        printf("miss\n");
    arena_free(arena);
}

static bool see_cached(void *arg, const char *field, struct slice value)
{
    printf("uid=%u %s=", *(uint32_t *)arg, field);
    print_hex("", value);
    return true;
}

static void cache_all(void)
{
    struct index_record r;

    for (uint32_t uid = 1; index_get_from(box, uid, &r); uid = r.uid + 1)
        index_cache_each(box, r.uid, see_cached, &r.uid);
}

/* Toggles a flag n times, with room for the other side to get the lock. */
static void loop(char **arg)
{
    unsigned long n = strtoul(arg[0], NULL, 10);

    for (unsigned long i = 0; i < n; i++) {
        char *toggle[] = {(char *)(i % 2 == 0 ? "+" : "-"), arg[1], arg[1], arg[2]};
        struct timespec pause = {0, 3000000};

        flags(toggle);
        nanosleep(&pause, NULL);
    }
}

static void dump(const char *path)
{
    struct buffer out = {0};

    index_dump(box, path, 0, &out);
    fwrite(out.at, 1, out.size, stdout);
    buffer_free(&out);
}

/* index_tool dumplog FILE: without an index. */
static int dump_log(const char *path)
{
    struct buffer file = {0}, out = {0};
    struct error e;
    int ret = os_read_file(AT_FDCWD, path, 1 << 30, &file, &e);

    if (ret == 0)
        ret = index_dump_log(buffer_slice(&file), &out, &e);
    if (out.size > 0)
        fwrite(out.at, 1, out.size, stdout);
    if (ret < 0)
        fprintf(stderr, "Fatal: %s\n", e.admin);
    buffer_free(&file);
    buffer_free(&out);
    return ret < 0 ? 75 : 0;
}

static void under_lock(int (*act)(struct index *, struct error *))
{
    struct error e;

    if (index_lock_wait(box, "testing", &e) < 0 || act(box, &e) < 0)
        die(&e);
    index_unlock(box);
}

static int purge(struct index *index, struct error *e)
{
    return index_cache_purge(index, e) == STEP_DONE ? 0 : -1;
}

static void enable_modseq(void)
{
    struct arena *arena = arena_new();
    struct index_batch *b = index_batch_new(arena, INDEX_INTERNAL);

    index_batch_enable_modseq(b);
    commit(b);
    arena_free(arena);
}

static void run(int argc, char **arg)
{
    const char *c = arg[0];
    struct error e;

    if (strcmp(c, "emit") == 0) {
        emit();
    } else if (strcmp(c, "list") == 0) {
        list();
    } else if (strcmp(c, "dump") == 0 && argc > 1) {
        dump(arg[1]);
    } else if (strcmp(c, "refresh") == 0) {
        if (index_refresh(box, &e) != STEP_DONE)
            die(&e);
    } else if (strcmp(c, "flags") == 0 && argc > 4) {
        flags(arg + 1);
    } else if (strcmp(c, "append") == 0 && argc > 1) {
        append(arg[1], arg[2]);
    } else if (strcmp(c, "expunge") == 0 && argc > 2) {
        expunge(arg[1], arg[2]);
    } else if (strcmp(c, "sync") == 0) {
        sync_box();
    } else if (strcmp(c, "put") == 0 && argc > 3) {
        cache_put(arg[1], arg[2], arg[3]);
    } else if (strcmp(c, "get") == 0 && argc > 2) {
        cache_get(arg[1], arg[2]);
    } else if (strcmp(c, "cache") == 0) {
        cache_all();
    } else if (strcmp(c, "flush") == 0) {
        index_cache_flush(box);
    } else if (strcmp(c, "purge") == 0) {
        under_lock(purge);
    } else if (strcmp(c, "rotate") == 0) {
        under_lock(file_rotate);
    } else if (strcmp(c, "rewrite") == 0) {
        under_lock(file_base_write);
    } else if (strcmp(c, "repair") == 0) {
        under_lock(file_repair);
    } else if (strcmp(c, "ext") == 0 && argc > 3) {
        ext_number(arg + 1);
    } else if (strcmp(c, "modseq") == 0) {
        enable_modseq();
    } else if (strcmp(c, "loop") == 0 && argc > 3) {
        loop(arg + 1);
    } else {
        fprintf(stderr, "index_tool: bad command %s\n", c);
        exit(64);
    }
}

static void set_option(struct index_settings *set, const char *option)
{
    const char *eq = strchr(option, '=');
    unsigned n = eq == NULL ? 0 : (unsigned)strtoul(eq + 1, NULL, 10);
    struct slice name = slice_of(option, eq == NULL ? 0 : (size_t)(eq - option));

    if (slice_equal_str(name, "rotate_min"))
        set->log_rotate_min_size = n;
    else if (slice_equal_str(name, "rotate_age"))
        set->log_rotate_min_age_secs = n;
    else if (slice_equal_str(name, "rewrite_max"))
        set->rewrite_max_log_bytes = n;
    else if (slice_equal_str(name, "timeout"))
        set->lock_timeout_secs = n;
    else if (slice_equal_str(name, "fields"))
        set->cache_fields = eq + 1;
    else if (slice_equal_str(name, "always"))
        set->always_cache_fields = eq + 1;
    else if (slice_equal_str(name, "purge_min"))
        set->cache_purge_min_size = n;
    else
        exit(64);
}

int main(int argc, char **argv)
{
    struct index_settings set = {0};
    struct index_where where = {.settings = &set};
    struct error e;
    int opt, first;

    log_open_stderr("", false);
    os_fault_from_env();
    while ((opt = getopt(argc, argv, "+rp:o:")) != -1) {
        if (opt == 'r')
            where.read_only = true;
        else if (opt == 'p')
            where.prefix = optarg;
        else if (opt == 'o')
            set_option(&set, optarg);
        else
            return 64;
    }
    if (argc - optind < 2)
        return 64;
    if (strcmp(argv[optind], "dumplog") == 0)
        return dump_log(argv[optind + 1]);
    where.path = argv[optind];
    where.dir = open(where.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (where.dir < 0) {
        perror(where.path);
        return 66;
    }
    if (index_open(&box, &where, &e) < 0)
        die(&e);
    for (first = optind + 1; first < argc;) {
        int end = first;

        while (end < argc && strcmp(argv[end], ",") != 0)
            end++;
        if (end > first)
            run(end - first, argv + first);
        first = end + 1;
    }
    index_close(&box);
    close(where.dir);
    return 0;
}
