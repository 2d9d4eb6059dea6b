/* A large base index is mapped: it grows, is cut off under its reader's feet, has records out of order. */
#include "tests/index/lib.h"

#include "index/index_backend.h"

#include <poll.h>

enum { MANY = 40000 };

static void write_base(struct index *index)
{
    ATF_REQUIRE_EQ(index_lock_try(index, "testing", &err), STEP_DONE);
    REQUIRE_OK(file_base_write(index, &err));
    index_unlock(index);
}

/* MANY messages in a base index. */
static void make_box(const char *path)
{
    struct index *index = open_dir(path, NULL, false);

    append(index, MANY);
    write_base(index);
    done(&index);
}

/* The records' UIDs ascend; how many there are. */
static uint32_t count_uids(struct index *index)
{
    struct index_record r;
    uint32_t count = 0;

    for (uint32_t uid = 1; index_get_from(index, uid, &r); uid = r.uid + 1) {
        ATF_REQUIRE(r.uid >= uid);
        count++;
    }
    return count;
}

ATF_TC_WITHOUT_HEAD(grows);
ATF_TC_BODY(grows, tc)
{
    struct index_record r;
    struct index *index;

    make_box("box");
    index = open_dir("box", NULL, false);
    ATF_REQUIRE(index->state.map != NULL);
    ATF_CHECK_EQ(count_uids(index), MANY);
    append(index, 100);
    set_flags(index, 20000, 20000, INDEX_FLAGGED);
    expunge(index, 30000);
    ATF_CHECK_MSG(index->state.map != NULL, "there was room for some messages more");
    ATF_CHECK_EQ(count_uids(index), MANY + 99);
    append(index, MANY);
    ATF_CHECK_MSG(index->state.map == NULL, "there was no room for so many");
    ATF_CHECK_EQ(count_uids(index), 2 * MANY + 99);
    write_base(index);
    done(&index);
    index = open_dir("box", NULL, false);
    ATF_REQUIRE(index->state.map != NULL);
    ATF_CHECK_EQ(count_uids(index), 2 * MANY + 99);
    ATF_REQUIRE(index_get(index, 20000, &r));
    ATF_CHECK_EQ(r.flags, INDEX_FLAGGED);
    ATF_CHECK(!index_get(index, 30000, &r));
    set_keyword(index, 7, 7, "word"); /* every record gets another layout */
    ATF_CHECK_EQ(count_uids(index), 2 * MANY + 99);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(not_with_mmap_disable);
ATF_TC_BODY(not_with_mmap_disable, tc)
{
    struct index_settings set = {.mmap_disable = true, .rewrite_max_log_bytes = UINT64_MAX, .log_rotate_max_size = UINT64_MAX};
    struct index *index;

    make_box("box");
    index = open_dir("box", &set, true);
    ATF_CHECK(index->state.map == NULL);
    ATF_CHECK_EQ(count_uids(index), MANY);
    done(&index);
}

/* Nobody does that; a disk that fails does. */
ATF_TC_WITHOUT_HEAD(cut_off);
ATF_TC_BODY(cut_off, tc)
{
    struct index *index;
    uint32_t left;

    make_box("box");
    index = open_dir("box", NULL, false);
    ATF_REQUIRE(index->state.map != NULL);
    ATF_REQUIRE_EQ(truncate("box/dovecot.index", 120 + MANY * 8 / 2), 0);
    ATF_CHECK_EQ(state_uid(&index->state, MANY / 4), MANY / 4 + 1);
    ATF_CHECK_EQ(state_uid(&index->state, MANY * 3 / 4), 0);
    ATF_CHECK(os_map_lost(index->state.map));
    ATF_CHECK_EQ(index_refresh(index, &err), STEP_DONE);
    ATF_CHECK(index->state.map == NULL);
    left = count_uids(index);
    ATF_CHECK_MSG(left >= MANY / 2 - 40 && left <= MANY / 2, "%u messages", left);
    append(index, 1);
    ATF_CHECK_EQ(count_uids(index), left + 1);
    done(&index);
}

/* Found when the file is written anew. */
ATF_TC_WITHOUT_HEAD(out_of_order);
ATF_TC_BODY(out_of_order, tc)
{
    static const unsigned char low[4] = {5, 0, 0, 0};
    struct index *index;
    int fd;

    make_box("box");
    fd = open("box/dovecot.index", O_WRONLY);
    ATF_REQUIRE_EQ(pwrite(fd, low, 4, 120 + 8 * 10000), 4);
    close(fd);
    index = open_dir("box", NULL, false);
    ATF_CHECK_EQ(index->state.count, MANY);
    write_base(index);
    ATF_CHECK_EQ(count_uids(index), MANY - 1);
    ATF_CHECK(!state_damaged(&index->state));
    done(&index);
    index = open_dir("box", NULL, false);
    ATF_CHECK(!state_unordered(&index->state));
    ATF_CHECK_EQ(count_uids(index), MANY - 1);
    done(&index);
}

/* ---- written, and put in place when it is durable ---- */

static bool exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

static void wait_for_sync(void)
{
    struct pollfd p = {.fd = os_sync_fd(), .events = POLLIN};

    ATF_REQUIRE_EQ(poll(&p, 1, 30000), 1);
    os_sync_poll();
}

/* A base index that is due and is being made durable. */
static struct index *begin_later(void)
{
    struct index *index = open_dir("box", NULL, false);

    REQUIRE_OK(os_sync_pool_start(1, &err));
    append(index, MANY);
    ATF_REQUIRE_EQ(index_lock_try(index, "testing", &err), STEP_DONE);
    REQUIRE_OK(file_base_write_later(index, &err));
    index_unlock(index);
    ATF_REQUIRE(index->base_job != NULL);
    ATF_CHECK(exists("box/dovecot.index.tmp") && !exists("box/dovecot.index"));
    return index;
}

ATF_TC_WITHOUT_HEAD(later);
ATF_TC_BODY(later, tc)
{
    struct index *index = begin_later();

    append(index, 1); /* the log goes on meanwhile */
    wait_for_sync();
    ATF_CHECK(index->base_job == NULL);
    ATF_CHECK(!exists("box/dovecot.index.tmp") && exists("box/dovecot.index"));
    ATF_CHECK_EQ(count_uids(index), MANY + 1);
    done(&index);
    index = open_dir("box", NULL, false);
    ATF_CHECK(index->state.map != NULL);
    ATF_CHECK_EQ(count_uids(index), MANY + 1);
    done(&index);
    os_sync_pool_stop();
}

/* Another one is written before it is durable: the newer one stays. */
ATF_TC_WITHOUT_HEAD(later_than_another);
ATF_TC_BODY(later_than_another, tc)
{
    struct index *index = begin_later();
    struct stat before, after;

    append(index, 1);
    write_base(index);
    ATF_REQUIRE_EQ(stat("box/dovecot.index", &before), 0);
    wait_for_sync();
    ATF_REQUIRE_EQ(stat("box/dovecot.index", &after), 0);
    ATF_CHECK_EQ(before.st_ino, after.st_ino);
    ATF_CHECK(!exists("box/dovecot.index.tmp"));
    done(&index);
    os_sync_pool_stop();
}

/* The log was rotated meanwhile: what follows it needs a base index of its own. */
ATF_TC_WITHOUT_HEAD(later_than_rotation);
ATF_TC_BODY(later_than_rotation, tc)
{
    struct index *index = begin_later();

    ATF_REQUIRE_EQ(index_lock_try(index, "testing", &err), STEP_DONE);
    REQUIRE_OK(file_rotate(index, &err));
    index_unlock(index);
    wait_for_sync();
    ATF_CHECK(!exists("box/dovecot.index.tmp"));
    ATF_CHECK_EQ(index->base_log_seq, index->log.h.file_seq);
    done(&index);
    index = open_dir("box", NULL, false);
    ATF_CHECK_EQ(count_uids(index), MANY);
    done(&index);
    os_sync_pool_stop();
}

/* Closed before it is durable: the close waits. */
ATF_TC_WITHOUT_HEAD(later_than_close);
ATF_TC_BODY(later_than_close, tc)
{
    struct index *index = begin_later();

    done(&index);
    ATF_CHECK(!exists("box/dovecot.index.tmp") && exists("box/dovecot.index"));
    wait_for_sync();
    ATF_CHECK(exists("box/dovecot.index"));
    os_sync_pool_stop();
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, later);
    ATF_TP_ADD_TC(tp, later_than_another);
    ATF_TP_ADD_TC(tp, later_than_rotation);
    ATF_TP_ADD_TC(tp, later_than_close);
    ATF_TP_ADD_TC(tp, grows);
    ATF_TP_ADD_TC(tp, not_with_mmap_disable);
    ATF_TP_ADD_TC(tp, cut_off);
    ATF_TP_ADD_TC(tp, out_of_order);
    return atf_no_error();
}
