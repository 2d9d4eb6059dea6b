/* mdbox: the map, where messages go, and what one storage shares (src/store/mdbox). */
#include "store/mdbox/map.h"
#include "tests/store/user_help.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the map ---- */

static struct mdbox_map *open_map(bool read_only)
{
    struct index_settings settings = {.fsync = INDEX_FSYNC_NEVER};
    struct mdbox_map *map;
    struct error e;
    int dir;

    mkdir("map", 0700);
    dir = open("map", O_PATH | O_DIRECTORY);
    ATF_REQUIRE(dir >= 0);
    ATF_REQUIRE_MSG(mdbox_map_open(&map, dir, "map", &settings, 0600, (gid_t)-1, read_only, &e) == 0, "%s", e.admin);
    close(dir);
    return map;
}

/* The map locked; true: a change before was not finished. */
static bool lock(struct mdbox_map *map)
{
    struct error e;
    bool unfinished;

    ATF_REQUIRE_MSG(mdbox_map_lock(map, "testing", &unfinished, &e) == STEP_DONE, "%s", e.admin);
    return unfinished;
}

static uint32_t add(struct mdbox_map *map, uint32_t file_id, uint32_t offset, uint32_t size, uint16_t ref)
{
    struct arena *arena = arena_new();
    struct mdbox_change change;
    uint32_t uid;
    struct error e;

    mdbox_change_begin(&change, map, arena, false);
    if (file_id > mdbox_map_highest_file_id(map))
        mdbox_change_highest_file_id(&change, file_id);
    mdbox_change_append(&change, &(struct mdbox_map_record){0, file_id, offset, size, ref});
    ATF_REQUIRE_MSG(mdbox_change_commit(&change, &uid, &e) == 0, "%s", e.admin);
    arena_free(arena);
    return uid;
}

static void confirm(struct mdbox_map *map)
{
    struct error e;

    ATF_REQUIRE_MSG(mdbox_map_confirm(map, &e) == 0, "%s", e.admin);
}

static struct mdbox_map_record get(const struct mdbox_map *map, uint32_t uid)
{
    struct mdbox_map_record rec;

    ATF_REQUIRE(mdbox_map_get(map, uid, &rec));
    return rec;
}

ATF_TC_WITHOUT_HEAD(records);
ATF_TC_BODY(records, tc)
{
    struct mdbox_map *map = open_map(false), *other;
    struct arena *arena = arena_new();
    struct mdbox_map_record rec, *all;
    struct mdbox_change change;
    struct error e;
    size_t count;

    ATF_CHECK(!lock(map));
    ATF_CHECK(mdbox_map_uid_validity(map) != 0);
    ATF_CHECK_EQ(0, mdbox_map_highest_file_id(map));
    ATF_CHECK_EQ(1, add(map, 1, 16, 100, 1));
    ATF_CHECK_EQ(2, add(map, 2, 16, 50, 1));
    ATF_CHECK_EQ(3, add(map, 1, 116, 70, 1));
    ATF_CHECK_EQ(2, mdbox_map_highest_file_id(map));

    mdbox_change_begin(&change, map, arena, false);
    mdbox_change_ref(&change, 1, 1);
    mdbox_change_ref(&change, 1, 1);
    mdbox_change_ref(&change, 2, -1);
    ATF_CHECK(mdbox_change_commit(&change, NULL, &e) == 0);
    ATF_CHECK_EQ(3, get(map, 1).ref);
    ATF_CHECK_EQ(0, get(map, 2).ref);

    mdbox_change_begin(&change, map, arena, true);
    mdbox_change_move(&change, &(struct mdbox_map_record){.uid = 3, .file_id = 7, .offset = 16, .size = 70});
    mdbox_change_expunge(&change, 2);
    mdbox_change_set_ref(&change, 1, 9);
    mdbox_change_rebuild_count(&change, 5);
    ATF_CHECK(mdbox_change_commit(&change, NULL, &e) == 0);
    confirm(map);
    mdbox_map_unlock(map);
    mdbox_map_close(&map);

    /* The same again from the files. */
    other = open_map(false);
    ATF_CHECK_EQ(2, mdbox_map_count(other));
    ATF_CHECK(!mdbox_map_get(other, 2, &rec));
    ATF_CHECK_EQ(9, get(other, 1).ref);
    ATF_CHECK_EQ(7, get(other, 3).file_id);
    ATF_CHECK_EQ(1, get(other, 3).ref);
    ATF_CHECK_EQ(5, mdbox_map_rebuild_count(other));
    ATF_CHECK(mdbox_map_problem(other) == NULL);
    ATF_REQUIRE(mdbox_map_get_at(other, 2, &rec));
    ATF_CHECK_EQ(3, rec.uid);
    ATF_CHECK(!mdbox_map_get_at(other, 3, &rec));
    ATF_CHECK(!lock(other));
    ATF_CHECK_EQ(4, add(other, 7, 86, 30, 1));
    all = mdbox_map_of_file(other, 7, arena, &count);
    ATF_REQUIRE_EQ(2, count);
    ATF_CHECK_EQ(16, all[0].offset);
    ATF_CHECK_EQ(86, all[1].offset);
    confirm(other);
    mdbox_map_unlock(other);
    mdbox_map_close(&other);
    arena_free(arena);
}

ATF_TC_WITHOUT_HEAD(unfinished);
ATF_TC_BODY(unfinished, tc)
{
    struct mdbox_map *map = open_map(false);

    ATF_CHECK(!lock(map));
    add(map, 1, 16, 100, 1);
    mdbox_map_unlock(map);
    /* Also in another process, and after a rewrite of the base index. */
    mdbox_map_close(&map);
    map = open_map(false);
    ATF_CHECK(lock(map));
    confirm(map);
    mdbox_map_unlock(map);
    ATF_CHECK(!lock(map));
    /* Facts need no confirmation: the tail steps over them. */
    mdbox_map_unlock(map);
    mdbox_map_close(&map);
}

ATF_TC_WITHOUT_HEAD(read_only);
ATF_TC_BODY(read_only, tc)
{
    struct mdbox_map *map = open_map(false);
    struct error e;
    bool unfinished;

    ATF_CHECK(!lock(map));
    add(map, 1, 16, 100, 1);
    confirm(map);
    mdbox_map_unlock(map);
    mdbox_map_close(&map);
    map = open_map(true);
    ATF_CHECK_EQ(100, get(map, 1).size);
    ATF_CHECK_EQ(STEP_ERROR, mdbox_map_lock(map, "testing", &unfinished, &e));
    mdbox_map_close(&map);
}

/* ---- files ---- */

static struct save *stage(struct mailbox *box, size_t size)
{
    char *text = mem_alloc(size);
    struct save *save;

    memset(text, 'x', size);
    memcpy(text, "Subject: x\n\n", 12);
    save = stage_text(box, slice_of(text, size), &(struct mail_meta){0});
    mem_free(text);
    return save;
}

static void save(struct mailbox *box, size_t size)
{
    struct arena *arena = arena_new();
    struct save *one = stage(box, size);
    struct save_result result;

    run(save_commit(box, &one, 1, true, NULL, arena, &result));
    arena_free(arena);
}

static off_t size_of(unsigned id)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof(path), "mail/storage/m.%u", id);
    return stat(path, &st) < 0 ? -1 : st.st_size;
}

/* dbox-format 3.3: no file grows beyond the limit but by one large message, which has it alone. */
ATF_TC_WITHOUT_HEAD(rotation);
ATF_TC_BODY(rotation, tc)
{
    struct arena *arena = arena_new();
    struct mail_user *user = open_user("mdbox", (const char *const[]){"mdbox_rotate_size=4k", NULL});
    struct mailbox *a = open_box(user, arena, "INBOX"), *b = open_box(user, arena, "other");
    unsigned id;

    for (unsigned i = 0; i < 30; i++) {
        save(a, 500);
        save(b, 700);
    }
    save(a, 9000);
    for (id = 1; size_of(id) >= 0 && size_of(id) < 9000; id++)
        ATF_CHECK_MSG(size_of(id) <= 4096, "m.%u has %ld bytes", id, (long)size_of(id));
    ATF_CHECK(id > 8 && size_of(id) > 9000 && size_of(id + 1) < 0);
    save(b, 500);
    ATF_CHECK(size_of(id) < 9500); /* nothing more comes behind the large one */
    mailbox_close(&a);
    mailbox_close(&b);
    mail_user_close(&user);
    arena_free(arena);
}

/* One that is being appended to by another session is passed over. */
ATF_TC_WITHOUT_HEAD(busy_file);
ATF_TC_BODY(busy_file, tc)
{
    struct arena *arena = arena_new();
    struct mail_user *user = open_user("mdbox", (const char *const[]){NULL});
    struct mailbox *box = open_box(user, arena, "INBOX");
    off_t before;
    struct error e;
    int fd;

    save(box, 500);
    before = size_of(1);
    fd = open("mail/storage/m.1", O_RDWR | O_CLOEXEC);
    ATF_REQUIRE(fd >= 0 && os_lock_fd(fd, OS_LOCK_FLOCK, &e) == OS_GOT);
    save(box, 500);
    ATF_CHECK_EQ(before, size_of(1));
    ATF_CHECK(size_of(2) > 0);
    close(fd);
    mailbox_close(&box);
    mail_user_close(&user);
    arena_free(arena);
}

/* A message that a killed writer has begun is cut off, never appended behind (3.3-5). */
ATF_TC_WITHOUT_HEAD(half_message);
ATF_TC_BODY(half_message, tc)
{
    static const char begun[] = "\001\002N          0000000000000000\nSubject: half\n\nno end";
    struct arena *arena = arena_new();
    struct mail_user *user = open_user("mdbox", (const char *const[]){NULL});
    struct mailbox *box = open_box(user, arena, "INBOX");
    off_t one;
    int fd;

    save(box, 500);
    one = size_of(1);
    fd = open("mail/storage/m.1", O_WRONLY | O_APPEND | O_CLOEXEC);
    ATF_REQUIRE(fd >= 0 && write(fd, begun, sizeof(begun) - 1) == (ssize_t)sizeof(begun) - 1);
    close(fd);
    save(box, 500); /* passes it over, and cuts it */
    ATF_CHECK_EQ(one, size_of(1));
    ATF_CHECK(size_of(2) > 0);
    ATF_CHECK_EQ(2, index_count(mailbox_index(box)));
    mailbox_close(&box);
    mail_user_close(&user);
    arena_free(arena);
}

/* What is staged and cancelled leaves nothing. */
ATF_TC_WITHOUT_HEAD(cancelled);
ATF_TC_BODY(cancelled, tc)
{
    struct arena *arena = arena_new();
    struct mail_user *user = open_user("mdbox", (const char *const[]){NULL});
    struct mailbox *box = open_box(user, arena, "INBOX");
    struct save *staged = stage(box, 500);

    save_cancel(&staged);
    ATF_CHECK(size_of(1) < 0);
    ATF_CHECK(system("test -z \"$(ls -A mail/storage | grep temp)\"") == 0);
    mailbox_close(&box);
    mail_user_close(&user);
    arena_free(arena);
}

/* One delivery for several recipients. */
ATF_TC_WITHOUT_HEAD(again);
ATF_TC_BODY(again, tc)
{
    struct arena *arena = arena_new();
    struct mail_user *user = open_user("mdbox", (const char *const[]){NULL});
    struct mailbox *a = open_box(user, arena, "INBOX"), *b = open_box(user, arena, "other");
    struct save *first = stage(a, 500), *second;
    struct mail_meta meta = {0};
    struct save_result result;
    struct error e;

    ATF_REQUIRE_MSG(save_again(first, b, &meta, &second, &e) == 0, "%s", e.admin);
    ATF_REQUIRE_EQ(save_size(first), save_size(second));
    ATF_REQUIRE(store_op_wait(save_commit(a, &first, 1, true, NULL, arena, &result), &e) == 0);
    ATF_REQUIRE(store_op_wait(save_commit(b, &second, 1, true, NULL, arena, &result), &e) == 0);
    ATF_CHECK_EQ(1, index_count(mailbox_index(a)));
    ATF_CHECK_EQ(1, index_count(mailbox_index(b)));
    ATF_CHECK(size_of(1) > 1000);
    mailbox_close(&a);
    mailbox_close(&b);
    mail_user_close(&user);
    arena_free(arena);
}

/* The index is lost, what was kept of it is not. */
ATF_TC_WITHOUT_HEAD(backup);
ATF_TC_BODY(backup, tc)
{
    struct arena *arena = arena_new();
    struct mail_user *user = open_user("mdbox", (const char *const[]){"mail_index_rewrite_max_log_bytes=1", NULL});
    struct mailbox *box = open_box(user, arena, "INBOX");
    unsigned char guid[16], after[16];
    struct index_status status, then;
    struct error e;

    for (unsigned i = 0; i < 5; i++)
        save(box, 500);
    ATF_REQUIRE(mailbox_guid(box, guid, &e) == 0);
    index_status(mailbox_index(box), &status);
    mailbox_close(&box);
    ATF_REQUIRE(system("cd mail/mailboxes/INBOX/dbox-Mails && test -e dovecot.index.backup && rm -f dovecot.index dovecot.index.log*") == 0);
    box = open_box(user, arena, "INBOX");
    ATF_REQUIRE_MSG(store_op_wait(mailbox_sync(box, NULL, SYNC_POLL), &e) == 0, "%s", e.admin);
    index_status(mailbox_index(box), &then);
    ATF_CHECK_EQ(status.uid_validity, then.uid_validity);
    ATF_CHECK_EQ(5, then.messages);
    ATF_REQUIRE(mailbox_guid(box, after, &e) == 0);
    ATF_CHECK(memcmp(guid, after, 16) == 0);
    mailbox_close(&box);
    mail_user_close(&user);
    arena_free(arena);
}

/* ---- a conversion dies ---- */

enum { GIVEN_FIRST = 7, GIVEN_LAST = 9 };

static struct save *stage_given(struct mailbox *box, uint32_t uid)
{
    char guid[33], text[600];
    struct mail_meta meta = {.uid = uid, .guid = guid};
    struct save *save;
    struct error e;

    snprintf(guid, sizeof(guid), "%032u", uid);
    memset(text, 'x', sizeof(text));
    memcpy(text, "Subject: x\n\n", 12);
    ATF_REQUIRE_MSG(save_begin(box, &meta, &save, &e) == 0, "%s", e.admin);
    ATF_REQUIRE(save_write(save, slice_of(text, sizeof(text)), &e) == 0 && save_finish(save, &e) == 0);
    return save;
}

/* What the conversion does to a mailbox: takes its identity, and saves what is not there. */
static void convert(const struct os_fault *fault)
{
    struct mailbox_identity id = {.uid_validity = 5};
    struct arena *arena = arena_new();
    struct mail_user *user = open_user("mdbox", (const char *const[]){NULL});
    struct mailbox *box = open_box(user, arena, "INBOX");
    struct save_result result;
    struct index_record rec;
    struct error e;

    ATF_REQUIRE_MSG(store_op_wait(mailbox_sync(box, NULL, SYNC_FULL), &e) == 0, "%s", e.admin);
    ATF_REQUIRE_MSG(store_op_wait(mailbox_adopt(box, &id), &e) == 0, "%s", e.admin);
    ATF_REQUIRE_MSG(store_op_wait(mailbox_sync(box, NULL, SYNC_FULL), &e) == 0, "%s", e.admin);
    if (!index_get(mailbox_index(box), GIVEN_FIRST, &rec)) {
        struct save *saves[] = {stage_given(box, GIVEN_FIRST), stage_given(box, GIVEN_LAST)};

        os_fault_arm(fault);
        ATF_REQUIRE_MSG(store_op_wait(save_commit(box, saves, 2, true, NULL, arena, &result), &e) == 0, "%s", e.admin);
        ATF_CHECK_EQ(GIVEN_FIRST, result.uids[0]);
        ATF_CHECK_EQ(GIVEN_LAST, result.uids[1]);
    }
    os_fault_arm(NULL);
    mailbox_close(&box);
    mail_user_close(&user);
    arena_free(arena);
}

static void check_converted(unsigned at)
{
    struct arena *arena = arena_new();
    struct mail_user *user = open_user("mdbox", (const char *const[]){NULL});
    struct mailbox *box = open_box(user, arena, "INBOX");
    struct index_record rec;
    struct error e;

    ATF_REQUIRE_MSG(store_op_wait(mailbox_sync(box, NULL, SYNC_RESYNC), &e) == 0, "%s", e.admin);
    ATF_REQUIRE_MSG(store_op_wait(mail_namespace_purge(mail_user_namespaces(user)), &e) == 0, "%s", e.admin);
    ATF_CHECK_EQ_MSG(2, index_count(mailbox_index(box)), "call %u: %u messages", at, index_count(mailbox_index(box)));
    ATF_CHECK(index_get(mailbox_index(box), GIVEN_FIRST, &rec) && index_get(mailbox_index(box), GIVEN_LAST, &rec));
    ATF_CHECK_MSG(system("test $(cat mail/storage/m.* | grep -ac '^.*N   *[0-9A-F]*$') = 2 && test -z \"$(ls mail/storage | grep given)\"") == 0,
                  "call %u: more than the messages is left", at);
    mailbox_close(&box);
    mail_user_close(&user);
    arena_free(arena);
}

/* Whichever call it dies before, the next run ends with the same UIDs, and nothing twice. */
ATF_TC_WITHOUT_HEAD(given_uids);
ATF_TC_BODY(given_uids, tc)
{
#ifdef FAULTS
    unsigned at = 0;
    int status = 0;

    do {
        struct os_fault fault = {.at = ++at, .how = OS_EXIT_BEFORE};
        pid_t pid;

        ATF_REQUIRE(system("rm -rf mail") == 0);
        fflush(NULL);
        pid = fork();
        ATF_REQUIRE(pid >= 0);
        if (pid == 0) {
            convert(&fault);
            _exit(0);
        }
        ATF_REQUIRE(waitpid(pid, &status, 0) == pid);
        ATF_REQUIRE(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == OS_FAULT_EXIT));
        convert(NULL);
        check_converted(at);
    } while (WEXITSTATUS(status) != 0);
    ATF_CHECK(at > 10);
#else
    atf_tc_skip("machine: built without --enable-faults");
#endif
}

ATF_TP_ADD_TCS(tp)
{
    ATF_TP_ADD_TC(tp, records);
    ATF_TP_ADD_TC(tp, unfinished);
    ATF_TP_ADD_TC(tp, read_only);
    ATF_TP_ADD_TC(tp, rotation);
    ATF_TP_ADD_TC(tp, busy_file);
    ATF_TP_ADD_TC(tp, half_message);
    ATF_TP_ADD_TC(tp, cancelled);
    ATF_TP_ADD_TC(tp, again);
    ATF_TP_ADD_TC(tp, backup);
    ATF_TP_ADD_TC(tp, given_uids);
    return atf_no_error();
}
