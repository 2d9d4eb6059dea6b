/* index_test.c - changes and their effects through the face, in memory and in files (index-format 2, 4, 7). */
#include "lib.h"

#include <stdlib.h>
#include <sys/wait.h>

/* Keyword sizes and record placement, verified by experiment with the real server (2.3, 10.1). */
ATF_TC_WITHOUT_HEAD(placement);
ATF_TC_BODY(placement, tc)
{
    struct index *index = open_memory_index();
    struct index_ext_info x;
    struct index_batch *b = batch_of(INDEX_EXTERNAL);
    unsigned vsize = index_ext(index, &(struct index_ext_def){"hdr-vsize", 16, 0, 8, false});

    index_batch_ext_header(b, vsize, 0, SLICE("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
    index_append_ext(b, index_batch_append(b, 0, 0), cache_ext(index), SLICE("\1\0\0\0"));
    commit(index, b);
    set_keyword(index, 1, 1, "kw");
    ATF_REQUIRE(index_ext_at(index, 1, &x));
    ATF_CHECK_STREQ(x.name, "cache");
    ATF_CHECK_EQ(x.record_offset, 8);
    ATF_REQUIRE(index_ext_at(index, 2, &x));
    ATF_CHECK_STREQ(x.name, "keywords");
    ATF_CHECK_EQ(x.record_offset, 5);
    ATF_CHECK_EQ(x.header_size, 144);
    ATF_CHECK_EQ(x.record_size, 2);
    ATF_CHECK_EQ(index->state.stride, 16); /* the alignment of hdr-vsize counts though it has no record */
    b = batch_of(INDEX_INTERNAL);
    index_batch_enable_modseq(b);
    commit(index, b);
    ATF_CHECK_EQ(index->state.stride, 24);
    ATF_REQUIRE(index_ext_at(index, 3, &x));
    ATF_CHECK_EQ(x.record_offset, 8);
    ATF_REQUIRE(index_ext_at(index, 1, &x));
    ATF_CHECK_EQ(x.record_offset, 16);
    ATF_CHECK_EQ(index_ext_record(index, cache_ext(index), 1).at[0], 1); /* moved with its data */
    for (int i = 0; i < 40; i++) {
        char name[16];

        snprintf(name, sizeof(name), "word%d", i);
        set_keyword(index, 1, 1, name);
    }
    ATF_REQUIRE(index_ext_at(index, 2, &x));
    ATF_CHECK(x.record_size * 8 >= 41);
    for (int i = 0; i < 41; i++) {
        struct index_record r;

        ATF_REQUIRE(index_get(index, 1, &r));
        ATF_CHECK(index_keyword_has(r.keywords, (unsigned)i));
    }
    done(&index);
}

ATF_TC_WITHOUT_HEAD(counters);
ATF_TC_BODY(counters, tc)
{
    struct index *index = open_memory_index();
    struct index_status st;

    srandom(3);
    append(index, 200);
    for (int step = 0; step < 400; step++) {
        struct index_batch *b = batch_of(INDEX_EXTERNAL);
        uint32_t first = (uint32_t)(random() % 200) + 1, seen = 0, deleted = 0;
        struct index_record r;

        switch (random() % 4) {
        case 0:
            index_batch_expunge(b, first, NULL);
            break;
        case 1:
            index_batch_append(b, 0, (uint8_t)(random() % 32));
            break;
        default:
            index_batch_flags(b, first, first + (uint32_t)(random() % 20), (enum index_modify)(random() % 3),
                              (uint8_t)(random() % 32));
        }
        commit(index, b);
        index_status(index, &st);
        for (uint32_t uid = 1; index_get_from(index, uid, &r); uid = r.uid + 1) {
            seen += (r.flags & INDEX_SEEN) != 0;
            deleted += (r.flags & INDEX_DELETED) != 0;
            ATF_CHECK((r.flags & INDEX_SEEN) != 0 || st.first_unseen_hint <= r.uid);
        }
        ATF_REQUIRE_EQ(st.seen, seen);
        ATF_REQUIRE_EQ(st.deleted, deleted);
        ATF_REQUIRE(!state_damaged(&index->state));
    }
    done(&index);
}

ATF_TC_WITHOUT_HEAD(unchanged_since);
ATF_TC_BODY(unchanged_since, tc)
{
    struct index *index = open_memory_index();
    struct slice name = SLICE("word");
    struct index_commit out;
    struct index_batch *b;
    struct index_record r;
    uint64_t modseq;

    append(index, 6);
    b = batch_of(INDEX_INTERNAL);
    index_batch_enable_modseq(b);
    modseq = commit(index, b).highest_modseq;
    set_flags(index, 2, 3, INDEX_FLAGGED);
    b = batch_of(INDEX_INTERNAL);
    index_batch_unchanged_since(b, modseq);
    index_batch_flags(b, 1, 5, INDEX_ADD, INDEX_SEEN);
    index_batch_keywords(b, 1, 5, INDEX_ADD, &name, 1);
    out = commit(index, b);
    ATF_REQUIRE_EQ(out.failed.count, 1);
    ATF_CHECK_EQ(out.failed.at[0].first, 2);
    ATF_CHECK_EQ(out.failed.at[0].last, 3);
    for (uint32_t uid = 1; uid <= 6; uid++) {
        bool changed = uid != 2 && uid != 3 && uid != 6;

        ATF_REQUIRE(index_get(index, uid, &r));
        ATF_CHECK_EQ((r.flags & INDEX_SEEN) != 0, changed);
        ATF_CHECK_EQ(index_keyword_has(r.keywords, 0), changed);
        ATF_CHECK_EQ(r.modseq, changed ? out.highest_modseq : uid == 6 ? modseq : modseq + 1);
    }
    done(&index);
}

ATF_TC_WITHOUT_HEAD(nothing_is_written_for_nothing);
ATF_TC_BODY(nothing_is_written_for_nothing, tc)
{
    struct index *index = open_dir("box", NULL, false);
    struct slice name = SLICE("word"), other = SLICE("other");
    struct index_batch *b;
    uint64_t head, modseq;

    append(index, 5);
    set_flags(index, 1, 5, INDEX_SEEN);
    set_keyword(index, 1, 5, "word");
    head = index->log.head;
    modseq = index->modseq;
    set_flags(index, 2, 4, INDEX_SEEN);
    set_keyword(index, 1, 5, "WORD");
    b = batch_of(INDEX_INTERNAL);
    index_batch_keywords(b, 1, 5, INDEX_REPLACE, &name, 1);
    index_batch_keywords(b, 1, 5, INDEX_REMOVE, &other, 1);
    index_batch_flags(b, 7, 9, INDEX_ADD, INDEX_DELETED);
    index_batch_expunge(b, 77, NULL);
    commit(index, b);
    ATF_CHECK_EQ(index->log.head, head);
    ATF_CHECK_EQ(index->modseq, modseq);
    ATF_CHECK_EQ(index_keyword_count(index), 1);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(keywords_replaced);
ATF_TC_BODY(keywords_replaced, tc)
{
    struct index *index = open_memory_index();
    struct slice names[2] = {SLICE("b"), SLICE("New")};
    struct index_batch *b;
    struct index_record r;

    append(index, 3);
    set_keyword(index, 1, 3, "a");
    set_keyword(index, 2, 3, "b");
    b = batch_of(INDEX_INTERNAL);
    index_batch_keywords(b, 1, 2, INDEX_REPLACE, names, 2);
    commit(index, b);
    for (uint32_t uid = 1; uid <= 3; uid++) {
        ATF_REQUIRE(index_get(index, uid, &r));
        ATF_CHECK_EQ(index_keyword_has(r.keywords, 0), uid == 3);
        ATF_CHECK_EQ(index_keyword_has(r.keywords, 1), true);
        ATF_CHECK_EQ(index_keyword_has(r.keywords, 2), uid != 3);
    }
    b = batch_of(INDEX_INTERNAL);
    index_batch_keywords(b, 1, 3, INDEX_REPLACE, NULL, 0);
    index_batch_keywords(b, 2, 2, INDEX_ADD, names, 1); /* later wins */
    commit(index, b);
    for (uint32_t uid = 1; uid <= 3; uid++) {
        ATF_REQUIRE(index_get(index, uid, &r));
        ATF_CHECK_EQ(index_keyword_has(r.keywords, 1), uid == 2);
        ATF_CHECK(!index_keyword_has(r.keywords, 0) && !index_keyword_has(r.keywords, 2));
    }
    done(&index);
}

ATF_TC_WITHOUT_HEAD(requests);
ATF_TC_BODY(requests, tc)
{
    struct index *index = open_dir("box", NULL, false);
    unsigned char guid[16] = {7};
    struct slice name = SLICE("word");
    struct index_requests q;
    struct index_batch *b;

    append(index, 5);
    ATF_CHECK(!index_has_pending(index));
    set_flags(index, 1, 3, INDEX_SEEN);
    b = batch_of(INDEX_INTERNAL);
    index_batch_flags(b, 2, 2, INDEX_REMOVE, INDEX_SEEN);
    index_batch_keywords(b, 2, 4, INDEX_ADD, &name, 1);
    index_batch_expunge(b, 3, guid);
    commit(index, b);
    ATF_CHECK(index_has_pending(index));
    ATF_REQUIRE_EQ(index_lock_try(index, "syncing", &err), STEP_DONE);
    REQUIRE_OK(index_pending(index, arena, &q, &e_));
    ATF_REQUIRE_EQ(q.count, 4);
    ATF_CHECK_EQ(q.at[0].uid, 1);
    ATF_CHECK_EQ(q.at[0].flags_add, INDEX_SEEN);
    ATF_CHECK_EQ(q.at[1].flags_remove, INDEX_SEEN);
    ATF_CHECK_EQ(q.at[1].flags_add, 0);
    ATF_CHECK_EQ(q.at[1].keyword_count, 1);
    ATF_CHECK(q.at[1].keywords[0].add);
    ATF_CHECK(q.at[2].expunge);
    ATF_CHECK_EQ(memcmp(q.at[2].guid, guid, 16), 0);
    ATF_CHECK_EQ(index_count(index), 5); /* a request: the message is still there */
    b = batch_of(INDEX_EXTERNAL);
    index_batch_expunge(b, 3, guid);
    index_batch_done(b, &q);
    REQUIRE_OK(index_commit_locked(index, b, NULL, &e_));
    ATF_CHECK(!index_has_pending(index));
    ATF_CHECK_EQ(index->log.tail, index->log.head);
    ATF_CHECK_EQ(index_count(index), 4);
    index_unlock(index);
    done(&index);
    /* and so it is for whoever opens it next */
    index = open_dir("box", NULL, false);
    ATF_CHECK(!index_has_pending(index));
    ATF_CHECK_EQ(index_count(index), 4);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(one_object_per_folder);
ATF_TC_BODY(one_object_per_folder, tc)
{
    struct index *one = open_dir("box", NULL, false), *two = open_dir("box", NULL, false), *other;

    ATF_CHECK(one == two);
    ATF_REQUIRE_EQ(index_lock_try(one, "testing", &err), STEP_DONE);
    ATF_CHECK_EQ(index_lock_try(two, "testing", &err), STEP_WAIT);
    index_unlock(one);
    ATF_CHECK_EQ(unlink("box/dovecot.index.log"), 0);
    ATF_CHECK_EQ(index_refresh(one, &err), STEP_ERROR);
    ATF_CHECK_EQ(err.class, ERROR_NOT_FOUND);
    other = open_dir("box", NULL, false); /* the folder's new family */
    ATF_CHECK(other != one);
    index_close(&two);
    index_close(&other);
    done(&one);
}

ATF_TC_WITHOUT_HEAD(rotation);
ATF_TC_BODY(rotation, tc)
{
    struct index_settings set = {.log_rotate_min_size = 600, .log_rotate_max_size = 2000};
    struct index *index = open_dir("box", &set, false);
    struct index_ranges vanished = {0};
    struct index_status before, after;
    struct index_requests q;

    append(index, 50);
    expunge(index, 7);
    for (int i = 0; i < 200; i++) {
        struct index_batch *b = batch_of(INDEX_EXTERNAL);

        set_flags(index, (uint32_t)i % 50 + 1, (uint32_t)i % 50 + 1, (uint8_t)(1u << (i + i / 50) % 5));
        ATF_REQUIRE_EQ(index_lock_try(index, "syncing", &err), STEP_DONE);
        REQUIRE_OK(index_pending(index, arena, &q, &e_));
        index_batch_done(b, &q);
        REQUIRE_OK(index_commit_locked(index, b, NULL, &e_));
        index_maintain(index);
        index_unlock(index);
    }
    ATF_CHECK_MSG(index->log.h.file_seq >= 4, "%u", index->log.h.file_seq);
    ATF_CHECK(index->log.head < 2100);
    index_status(index, &before);
    ATF_CHECK_EQ(index_vanished_since(index, before.highest_modseq, &vanished, &err), 0);
    ATF_CHECK_EQ(vanished.count, 0);
    ATF_CHECK_EQ(index_vanished_since(index, 1, &vanished, &err), -1); /* the logs do not reach back so far */
    index_ranges_free(&vanished);
    done(&index);
    index = open_dir("box", &set, false);
    index_status(index, &after);
    before.log_mtime = after.log_mtime = 0;
    ATF_CHECK_EQ(memcmp(&before, &after, sizeof(before)), 0);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(vanished);
ATF_TC_BODY(vanished, tc)
{
    struct index *index = open_dir("box", NULL, false);
    struct index_ranges r = {0};
    uint64_t modseq;

    append(index, 10);
    expunge(index, 2);
    modseq = index->modseq;
    expunge(index, 5);
    expunge(index, 6);
    expunge(index, 9);
    REQUIRE_OK(index_vanished_since(index, modseq, &r, &e_));
    ATF_REQUIRE_EQ(r.count, 2);
    ATF_CHECK_EQ(r.at[0].first, 5);
    ATF_CHECK_EQ(r.at[0].last, 6);
    ATF_CHECK_EQ(r.at[1].first, 9);
    index_ranges_free(&r);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(reset_goes_on);
ATF_TC_BODY(reset_goes_on, tc)
{
    struct index *index = open_dir("box", NULL, false);
    struct index_view *v;
    struct index_change c;
    struct index_batch *b;
    uint64_t modseq;

    append(index, 5);
    set_flags(index, 1, 5, INDEX_SEEN);
    modseq = index->modseq;
    v = index_view_open(index);
    ATF_REQUIRE_EQ(index_lock_try(index, "rebuilding", &err), STEP_DONE);
    b = batch_of(INDEX_EXTERNAL);
    index_batch_uid_validity(b, 12345);
    index_batch_next_uid(b, 6);
    index_batch_append(b, 6, INDEX_SEEN);
    REQUIRE_OK(index_reset(index, b, &e_));
    index_unlock(index);
    ATF_CHECK_EQ(index_count(index), 1);
    ATF_CHECK(index->modseq > modseq);
    index_view_sync(v, false);
    ATF_REQUIRE(index_view_next(v, &c));
    ATF_CHECK_EQ(c.kind, INDEX_CHANGE_EXPUNGED);
    while (index_view_next(v, &c))
        ;
    ATF_CHECK_EQ(index_view_count(v), 1);
    index_view_close(&v);
    done(&index);
    index = open_dir("box", NULL, false);
    ATF_CHECK_EQ(index_count(index), 1);
    ATF_CHECK(index->modseq > modseq);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(modseq_never_falls);
ATF_TC_BODY(modseq_never_falls, tc)
{
    struct index *index = open_dir("box", NULL, false);
    struct index_batch *b;
    unsigned char header[LOG_HEADER_SIZE];
    struct log_header h;
    uint64_t before, after;
    int fd;

    append(index, 3);
    b = batch_of(INDEX_INTERNAL);
    index_batch_enable_modseq(b);
    commit(index, b);
    for (int i = 0; i < 40; i++)
        set_flags(index, 1, 3, (uint8_t)(1u << i % 5));
    set_keyword(index, 1, 1, "word");
    ATF_REQUIRE_EQ(index_lock_try(index, "testing", &err), STEP_DONE);
    REQUIRE_OK(file_base_write(index, &e_));
    index_unlock(index);
    before = index->modseq;
    /* what Dovecot makes when the log was lost: a new one that counts from 1 */
    h = index->log.h;
    h.prev_file_seq = h.file_seq++;
    h.prev_file_offset = (uint32_t)index->log.head;
    h.initial_modseq = 1;
    done(&index);
    format_log_header_put(header, &h);
    fd = open("box/dovecot.index.log", O_WRONLY | O_TRUNC | O_CLOEXEC);
    ATF_REQUIRE_EQ(write(fd, header, sizeof(header)), (ssize_t)sizeof(header));
    close(fd);
    for (int i = 0; i < 5; i++) {
        index = open_dir("box", NULL, false);
        ATF_CHECK(index->modseq >= before);
        set_flags(index, 2, 2, INDEX_FLAGGED);
        set_keyword(index, 2, 2, i % 2 ? "a" : "b");
        after = index->modseq;
        ATF_CHECK(after >= before);
        before = after;
        done(&index);
    }
}

/* A child takes the log's lock as Dovecot does and keeps it until its pipe is closed. */
static pid_t hold_lock(int *release)
{
    int ready[2], end[2];
    char c;
    pid_t pid;

    ATF_REQUIRE(pipe(ready) == 0 && pipe(end) == 0);
    pid = fork();
    ATF_REQUIRE(pid >= 0);
    if (pid == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open("box/dovecot.index.log", O_RDWR | O_CLOEXEC);

        close(end[1]);
        if (fcntl(fd, F_SETLKW, &lock) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        _exit(read(end[0], &c, 1) == 0 ? 0 : 1);
    }
    close(end[0]);
    ATF_REQUIRE_EQ(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(ready[1]);
    *release = end[1];
    return pid;
}

ATF_TC_WITHOUT_HEAD(somebody_holds_the_lock);
ATF_TC_BODY(somebody_holds_the_lock, tc)
{
    struct index_settings set = {.lock_timeout_secs = 1};
    struct index *index = open_dir("box", &set, false);
    struct index_waiter w = {0};
    struct index_batch *b;
    char held_by[64];
    int release, status, ms;
    pid_t pid;

    append(index, 2);
    pid = hold_lock(&release);
    b = batch_of(INDEX_INTERNAL);
    index_batch_flags(b, 1, 2, INDEX_ADD, INDEX_SEEN);
    ATF_CHECK_EQ(index_commit(index, b, NULL, &err), STEP_WAIT);
    ATF_CHECK_EQ(index_refresh(index, &err), STEP_DONE); /* readers are not concerned */
    ms = index_waiter_next(&w, index, &err);
    ATF_CHECK(ms >= 1 && ms <= 100);
    ATF_CHECK_EQ(index_commit_wait(index, b, NULL, &err), -1);
    ATF_CHECK_EQ(err.class, ERROR_LOCK_TIMEOUT);
    snprintf(held_by, sizeof(held_by), "(WRITE lock held by pid %d)", (int)pid);
    ATF_CHECK_MSG(strstr(err.admin, "Timeout (1s) while waiting for lock for transaction log file box/dovecot.index.log") !=
                      NULL && strstr(err.admin, held_by) != NULL, "%s", err.admin);
    close(release);
    ATF_REQUIRE_EQ(waitpid(pid, &status, 0), pid);
    ATF_CHECK_EQ(index_commit(index, b, NULL, &err), STEP_DONE);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(kept_open);
ATF_TC_BODY(kept_open, tc)
{
    struct index *index, *again;
    const char *path, *log;
    unsigned char header[LOG_HEADER_SIZE];
    int fd;

    index_keep(2, 3600);
    index = open_dir("box", NULL, false);
    append(index, 3);
    again = index;
    index_close(&index);
    index = open_dir("box", NULL, false);
    ATF_CHECK(index == again);
    index_close(&index);
    ATF_CHECK_EQ(rename("box", "renamed"), 0);
    index = open_dir("renamed", NULL, false);
    ATF_CHECK(index == again);
    index_watch(index, &path, &log);
    ATF_CHECK_STREQ(path, "renamed"); /* what is watched is where it is now */
    ATF_CHECK_STREQ(log, "dovecot.index.log");
    index_close(&index);
    ATF_CHECK_EQ(rename("renamed", "box"), 0);
    ATF_CHECK_EQ(index_keep_expire(), 1);
    /* another process starts the family anew meanwhile */
    fd = open("box/dovecot.index.log", O_RDONLY | O_CLOEXEC);
    ATF_REQUIRE_EQ(read(fd, header, sizeof(header)), (ssize_t)sizeof(header));
    close(fd);
    unlink("box/dovecot.index.log");
    header[8]++;
    fd = open("box/dovecot.index.log", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ATF_REQUIRE_EQ(write(fd, header, sizeof(header)), (ssize_t)sizeof(header));
    close(fd);
    index = open_dir("box", NULL, false);
    ATF_CHECK_EQ(index_count(index), 0);
    append(index, 1);
    index_close(&index);
    unlink("box/dovecot.index.log"); /* or deletes the mailbox */
    index = open_dir("box", NULL, false);
    ATF_CHECK_EQ(index_count(index), 0);
    index_close(&index);
    for (int i = 0; i < 5; i++) {
        char other[16];

        snprintf(other, sizeof(other), "box%d", i);
        index = open_dir(other, NULL, false);
        index_close(&index);
    }
    ATF_CHECK_EQ(index_keep_expire(), 2);
    index_keep(0, 0);
    ATF_CHECK_EQ(index_keep_expire(), 0);
    arena_free(arena);
    arena = NULL;
}

ATF_TC_WITHOUT_HEAD(base_index_at_close);
ATF_TC_BODY(base_index_at_close, tc)
{
    struct index *index = open_dir("box", NULL, false);
    struct stat st;

    append(index, 10);
    for (int i = 0; i < 600; i++) {
        struct index_batch *b = batch_of(INDEX_INTERNAL);

        index_batch_flags(b, 3, 3, i % 2 ? INDEX_ADD : INDEX_REMOVE, INDEX_FLAGGED);
        commit(index, b);
    }
    done(&index);
    ATF_CHECK_EQ(stat("box/dovecot.index", &st), -1); /* who wrote it need not read it */
    index = open_dir("box", NULL, false);
    ATF_CHECK(index_has_pending(index));
    index_close(&index);
    ATF_CHECK_EQ(stat("box/dovecot.index", &st), 0);
    index = open_dir("box", NULL, false);
    ATF_CHECK_EQ(index_count(index), 10);
    ATF_CHECK_EQ(index->refreshed_bytes, 0);
    ATF_CHECK(index_has_pending(index)); /* the storage's requests are still to be carried out */
    index_close(&index);
}

ATF_TC_WITHOUT_HEAD(increments);
ATF_TC_BODY(increments, tc)
{
    struct index *index = open_memory_index();
    unsigned ref = index_ext(index, &(struct index_ext_def){"ref", 0, 2, 2, false});
    struct index_batch *b = batch_of(INDEX_INTERNAL);

    index_append_ext(b, index_batch_append(b, 0, 0), ref, SLICE("\1\0"));
    commit(index, b);
    b = batch_of(INDEX_INTERNAL);
    index_batch_ext_inc(b, ref, 1, 700);
    index_batch_ext_inc(b, ref, 1, -1);
    commit(index, b);
    ATF_CHECK_EQ(bytes_le16(index_ext_record(index, ref, 1).at), 700);
    done(&index);
}

static int make_header(void *arg, struct index *index, struct index_batch *b, struct error *e)
{
    unsigned ext = index_ext(index, &(struct index_ext_def){"dbox-hdr", 24, 0, 0, true});

    (void)arg;
    (void)e;
    index_batch_ext_header(b, ext, 0, SLICE("012345678901234567890123"));
    return 0;
}

/* The first log of an sdbox mailbox, byte by byte (16.2). */
ATF_TC_WITHOUT_HEAD(first_log);
ATF_TC_BODY(first_log, tc)
{
    struct index_where where = {.path = "box", .init = make_header};
    struct buffer file = {0};
    struct index *index;
    static const char intro[] = "\x80\x80\x80\x89\x40\0\0\0\xff\xff\xff\xff\0\0\0\0\x18\0\0\0\0\0\0\0\0\0\x08\0dbox-hdr"
                                "\x80\x80\x80\x89\0\1\0\0\0\0\x18\0"
                                "012345678901234567890123";

    mkdir("box", 0700);
    where.dir = open("box", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE_OK(index_open(&index, &where, &e_));
    close(where.dir);
    REQUIRE_OK(os_read_file(AT_FDCWD, "box/dovecot.index.log", 1 << 20, &file, &e_));
    ATF_REQUIRE_EQ(file.size, 40 + 72);
    ATF_CHECK_EQ(bytes_le32(file.at + 8), 2);
    ATF_CHECK_EQ(bytes_le32(file.at + 12), 0);
    ATF_CHECK_EQ(bytes_le64(file.at + 24), 1);
    ATF_CHECK_EQ(memcmp(file.at + 40, intro, 72), 0);
    buffer_free(&file);
    done(&index);
}

ATF_TC_WITHOUT_HEAD(no_space);
ATF_TC_BODY(no_space, tc)
{
    struct index *index = open_dir("box", NULL, false);
    struct index_batch *b;
    struct os_fault fault = {.at = 1, .calls = 1u << OS_WRITE, .how = OS_SHORT, .keep = 5};
    struct stat before, after;

    append(index, 3);
    stat("box/dovecot.index.log", &before);
    b = batch_of(INDEX_INTERNAL);
    index_batch_flags(b, 1, 3, INDEX_ADD, INDEX_SEEN);
    os_fault_arm(&fault);
    ATF_CHECK_EQ(index_commit(index, b, NULL, &err), STEP_ERROR);
    os_fault_arm(NULL);
    ATF_CHECK_EQ(err.class, ERROR_SPACE);
    stat("box/dovecot.index.log", &after);
    ATF_CHECK_EQ(before.st_size, after.st_size);
    set_flags(index, 1, 1, INDEX_FLAGGED); /* and on it goes */
    done(&index);
    index = open_dir("box", NULL, true);
    ATF_CHECK_EQ(state_get(&index->state, BASE_AT_SEEN), 0);
    done(&index);
}

/* A private index follows the shared one, keeps one flag of its own, and obeys UNCHANGEDSINCE of the shared modseqs. */
ATF_TC_WITHOUT_HEAD(private);
ATF_TC_BODY(private, tc)
{
    struct index *shared = open_memory_index(), *own = open_memory_index();
    struct index_batch *b, *mine;
    struct index_view *view;
    struct index_commit out;
    struct index_status status;
    struct index_record r;
    uint64_t modseq;

    append(shared, 6);
    b = batch_of(INDEX_INTERNAL);
    index_batch_enable_modseq(b);
    modseq = commit(shared, b).highest_modseq;
    ATF_REQUIRE_EQ(STEP_DONE, index_private_sync(own, shared, NULL, &err));
    ATF_CHECK_EQ(6, index_count(own));
    set_flags(shared, 2, 3, INDEX_FLAGGED);
    view = index_view_open(shared);
    index_view_private(view, own, INDEX_SEEN);
    b = batch_of(INDEX_INTERNAL);
    index_batch_unchanged_since(b, modseq);
    index_batch_flags(b, 1, 5, INDEX_ADD, INDEX_SEEN);
    mine = index_batch_private(b, view);
    ATF_REQUIRE(mine != NULL);
    out = commit(shared, b);
    ATF_REQUIRE_EQ(1, out.failed.count);
    ATF_CHECK(out.failed.at[0].first == 2 && out.failed.at[0].last == 3);
    index_batch_private_without(mine, &out.failed);
    ATF_REQUIRE_EQ(STEP_DONE, index_private_sync(own, shared, mine, &err));
    for (uint32_t uid = 1; uid <= 6; uid++) {
        bool changed = uid != 2 && uid != 3 && uid != 6;

        ATF_REQUIRE(index_get(own, uid, &r));
        ATF_CHECK_EQ_MSG(changed, (r.flags & INDEX_SEEN) != 0, "uid %u", uid);
        ATF_REQUIRE(index_get(shared, uid, &r));
        ATF_CHECK((r.flags & INDEX_SEEN) == 0);
        ATF_CHECK_EQ_MSG(changed ? out.highest_modseq : uid == 6 ? modseq : modseq + 1, r.modseq, "uid %u", uid);
    }
    ATF_CHECK_EQ(3, index_private_seen(own, shared, 7));
    ATF_CHECK_EQ(2, index_private_seen(own, shared, 5));
    /* What is there already is refused as well where the message is newer. */
    b = batch_of(INDEX_INTERNAL);
    index_batch_unchanged_since(b, modseq);
    index_batch_flags(b, 1, 1, INDEX_ADD, INDEX_SEEN);
    mine = index_batch_private(b, view);
    out = commit(shared, b);
    ATF_CHECK_EQ(1, out.failed.count);
    /* What goes there goes here; what comes is not seen. */
    b = batch_of(INDEX_EXTERNAL);
    index_batch_expunge(b, 4, NULL);
    index_batch_append(b, 0, INDEX_SEEN);
    commit(shared, b);
    ATF_REQUIRE_EQ(STEP_DONE, index_private_sync(own, shared, NULL, &err));
    ATF_CHECK(!index_get(own, 4, &r));
    ATF_CHECK(index_get(own, 7, &r) && (r.flags & INDEX_SEEN) == 0);
    ATF_CHECK_EQ(2, index_private_seen(own, shared, 8));
    /* A rebuild of the shared one has found a message again: it stands between the others, who keep their flags. */
    index_status(shared, &status);
    b = batch_of(INDEX_EXTERNAL);
    index_batch_uid_validity(b, status.uid_validity);
    for (uint32_t uid = 1; uid <= 7; uid++)
        index_batch_append(b, uid, 0);
    ATF_REQUIRE_EQ(STEP_DONE, index_lock_try(shared, "testing", &err));
    ATF_REQUIRE(index_reset(shared, b, &err) == 0);
    index_unlock(shared);
    ATF_REQUIRE_EQ(STEP_DONE, index_private_sync(own, shared, NULL, &err));
    ATF_CHECK_EQ(7, index_count(own));
    ATF_CHECK(index_get(own, 4, &r) && (r.flags & INDEX_SEEN) == 0);
    ATF_CHECK_EQ(2, index_private_seen(own, shared, 8));
    index_view_close(&view);
    done(&own);
    done(&shared);
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, placement);
    ATF_TP_ADD_TC(tp, counters);
    ATF_TP_ADD_TC(tp, unchanged_since);
    ATF_TP_ADD_TC(tp, private);
    ATF_TP_ADD_TC(tp, nothing_is_written_for_nothing);
    ATF_TP_ADD_TC(tp, keywords_replaced);
    ATF_TP_ADD_TC(tp, requests);
    ATF_TP_ADD_TC(tp, one_object_per_folder);
    ATF_TP_ADD_TC(tp, rotation);
    ATF_TP_ADD_TC(tp, vanished);
    ATF_TP_ADD_TC(tp, reset_goes_on);
    ATF_TP_ADD_TC(tp, modseq_never_falls);
    ATF_TP_ADD_TC(tp, somebody_holds_the_lock);
    ATF_TP_ADD_TC(tp, kept_open);
    ATF_TP_ADD_TC(tp, base_index_at_close);
    ATF_TP_ADD_TC(tp, increments);
    ATF_TP_ADD_TC(tp, first_log);
    ATF_TP_ADD_TC(tp, no_space);
    return atf_no_error();
}
