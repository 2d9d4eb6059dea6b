/* Small helpers of the index tests: an index in a folder of the test's work directory, batches in one line. */
#ifndef TESTS_INDEX_LIB_H
#define TESTS_INDEX_LIB_H

#include "index/batch.h"
#include "index/cache.h"

#include <atf-c.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define REQUIRE_OK(call) \
    do { \
        struct error e_ = {0}; \
        int ret_ = (call); \
        ATF_REQUIRE_MSG(ret_ == 0, "%s: %s", #call, e_.admin); \
    } while (0)

static struct arena *arena;
static struct error err;

static inline struct index *open_dir(const char *path, const struct index_settings *set, bool read_only)
{
    struct index_where where = {.path = path, .settings = set, .read_only = read_only};
    struct index *index = NULL;

    mkdir(path, 0700);
    where.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ATF_REQUIRE(where.dir >= 0);
    if (index_open(&index, &where, &err) < 0)
        atf_tc_fail("index_open(%s): %s", path, err.admin);
    close(where.dir);
    return index;
}

static inline struct index *open_memory_index(void)
{
    struct index_where where = {.in_memory = true, .dir = -1};
    struct index *index = NULL;

    ATF_REQUIRE_EQ(index_open(&index, &where, &err), 0);
    return index;
}

static inline struct index_batch *batch_of(enum index_origin origin)
{
    if (arena == NULL)
        arena = arena_new();
    return index_batch_new(arena, origin);
}

static inline struct index_commit commit(struct index *index, struct index_batch *b)
{
    struct index_commit out = {0};
    enum step step = index_commit(index, b, &out, &err);

    ATF_REQUIRE_MSG(step == STEP_DONE, "commit: %s", step == STEP_ERROR ? err.admin : "busy");
    return out;
}

static inline void append(struct index *index, unsigned count)
{
    struct index_batch *b = batch_of(INDEX_EXTERNAL);
    struct index_status st;

    index_status(index, &st);
    if (st.uid_validity == 0)
        index_batch_uid_validity(b, 12345);
    while (count-- > 0)
        index_batch_append(b, 0, 0);
    commit(index, b);
}

static inline void set_flags(struct index *index, uint32_t first, uint32_t last, uint8_t flags)
{
    struct index_batch *b = batch_of(INDEX_INTERNAL);

    index_batch_flags(b, first, last, INDEX_ADD, flags);
    commit(index, b);
}

static inline void set_keyword(struct index *index, uint32_t first, uint32_t last, const char *name)
{
    struct index_batch *b = batch_of(INDEX_INTERNAL);
    struct slice s = slice_from_str(name);

    index_batch_keywords(b, first, last, INDEX_ADD, &s, 1);
    commit(index, b);
}

static inline void expunge(struct index *index, uint32_t uid)
{
    struct index_batch *b = batch_of(INDEX_EXTERNAL);

    index_batch_expunge(b, uid, NULL);
    commit(index, b);
}

static inline void done(struct index **index)
{
    index_close(index);
    arena_free(arena);
    arena = NULL;
}

#endif
