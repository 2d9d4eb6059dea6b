/* storetool - drives src/store from the command line, for tests and for looking.
 *
 *     storetool [-u USER] [-h HOME] [-l LOCATION] [-o KEY=VALUE]... [-c CONF] COMMAND ARG... [-- COMMAND ARG...]...
 *
 * Commands: list PATTERN, lsub PATTERN, create NAME, delete NAME, rename OLD NEW, subscribe NAME, unsubscribe NAME,
 * status NAME, save NAME FLAGS FILE..., dump NAME (JSON lines), body NAME UID, flags NAME UIDS +|-|=FLAGS,
 * load NAME SECONDS SEED (random saves, flag changes, expunges of its own messages, looks; says what was done),
 * expunge NAME UIDS, copy NAME UIDS DEST, move NAME UIDS DEST, sync NAME, resync NAME, select NAME, watch NAME SECONDS,
 * state (JSON lines of all mailboxes: one of the mailbox, then its messages), cachepurge NAME, purge.
 * FLAGS are words joined by commas: Seen,Answered,kw1; "-" for none. Exit status 1 and the error's texts on standard
 * error when something fails; log lines go there too. */
#include "base/base.h"
#include "conf/settings.h"
#include "store/store.h"

#include <nettle/sha2.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct mail_user *user;
static struct arena *arena;

static struct save **staged; /* what has been staged and not committed: a failure takes it back, as a session would */
static size_t staged_count;

static void fail(const struct error *e)
{
    for (size_t i = 0; i < staged_count; i++)
        save_cancel(&staged[i]);
    fprintf(stderr, "storetool: %s: %s [%s]\n", error_class_name(e->class), e->admin, e->user);
    exit(1);
}

static void run(struct store_op *op)
{
    struct error e;

    if (store_op_wait(op, &e) < 0)
        fail(&e);
}

static struct mailbox_place place_of(const char *name, bool new)
{
    struct mailbox_place place;
    struct error e;
    bool directory;

    if ((new ? mailbox_place_new(user, arena, slice_from_str(name), &place, &directory, &e)
             : mailbox_place(user, arena, slice_from_str(name), &place, &e)) < 0)
        fail(&e);
    return place;
}

static struct mailbox *open_box(const char *name, enum sync_why why)
{
    struct mailbox_place place = place_of(name, false);
    struct mailbox *box;
    struct error e;

    if (mailbox_open(&box, &place, 0, &e) < 0)
        fail(&e);
    run(mailbox_sync(box, NULL, why));
    return box;
}

/* ---- words ---- */

static const struct {
    const char *name;
    uint8_t flag;
} flag_names[] = {{"Answered", INDEX_ANSWERED}, {"Flagged", INDEX_FLAGGED}, {"Deleted", INDEX_DELETED},
                  {"Seen", INDEX_SEEN}, {"Draft", INDEX_DRAFT}};

static void parse_flags(const char *text, struct mail_meta *meta)
{
    struct slice rest = slice_from_str(text), word;
    struct slice *keywords = ARENA_ARRAY(arena, struct slice, strlen(text) + 1);

    while (slice_split(&rest, ',', &word)) {
        bool known = word.size == 0 || slice_equal_str(word, "-");

        for (size_t i = 0; i < 5; i++)
            if (slice_equal_str_nocase(word, flag_names[i].name)) {
                meta->flags |= flag_names[i].flag;
                known = true;
            }
        if (!known)
            keywords[meta->keyword_count++] = word;
    }
    meta->keywords = keywords;
}

struct uid_list {
    uint32_t *at;
    size_t count, room;
};

static struct uid_list parse_uids(struct mailbox *box, const char *text)
{
    struct uid_list uids = {0};
    struct slice rest = slice_from_str(text), word;
    struct index_record rec;
    uint32_t uid;

    if (strcmp(text, "all") == 0) {
        for (uid = 1; index_get_from(mailbox_index(box), uid, &rec); uid = rec.uid + 1)
            VEC_PUSH(&uids, rec.uid);
        return uids;
    }
    while (slice_split(&rest, ',', &word))
        if (slice_to_u32(word, &uid))
            VEC_PUSH(&uids, uid);
    return uids;
}

static void json_string(struct slice text)
{
    putchar('"');
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = text.at[i];

        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

/* ---- commands ---- */

static void cmd_list(char **args, unsigned flags)
{
    struct slice pattern = slice_from_str(args[0] == NULL ? "*" : args[0]);
    struct mailbox_list *list = mailbox_list_begin(user, &pattern, 1, flags | MAILBOX_LIST_RETURN_CHILDREN | MAILBOX_LIST_RETURN_SUBSCRIBED);
    struct budget budget = BUDGET_UNLIMITED;
    const struct mailbox_info *info;
    struct error e;
    enum step r;

    while ((r = mailbox_list_next(list, &budget, &info, &e)) == STEP_MORE || r == STEP_WAIT) {
        if (r == STEP_WAIT)
            continue;
        printf("%s%s%s%s%s %s\n", info->flags & MAILBOX_INFO_NOSELECT ? "noselect," : "",
               info->flags & MAILBOX_INFO_NONEXISTENT ? "nonexistent," : "",
               info->flags & MAILBOX_INFO_CHILDREN ? "children" : "nochildren",
               info->flags & MAILBOX_INFO_SUBSCRIBED ? ",subscribed" : "",
               info->special_use == NULL ? "" : info->special_use, info->vname);
    }
    mailbox_list_end(&list);
    if (r == STEP_ERROR)
        fail(&e);
}

static void cmd_status(char **args)
{
    struct mailbox_place place = place_of(args[0], false);
    struct mailbox_status st;

    run(mailbox_status(&place, STATUS_MESSAGES | STATUS_RECENT | STATUS_UIDNEXT | STATUS_UIDVALIDITY | STATUS_UNSEEN |
                       STATUS_HIGHESTMODSEQ | STATUS_SIZE | STATUS_GUID, &st));
    printf("messages=%u recent=%u uidnext=%u uidvalidity=%u unseen=%u modseq=%llu size=%llu guid=", st.messages, st.recent,
           st.uid_next, st.uid_validity, st.unseen, (unsigned long long)st.highest_modseq, (unsigned long long)st.size);
    for (int i = 0; i < 16; i++)
        printf("%02x", st.guid[i]);
    printf("%s\n", st.from_list_index ? " list-index" : "");
}

static void report(const struct save_result *result, size_t count)
{
    printf("uidvalidity=%u uids=", result->uid_validity);
    for (size_t i = 0; i < count; i++)
        printf("%s%u", i == 0 ? "" : ",", result->uids[i]);
    putchar('\n');
    fflush(stdout);
}

static void cmd_save(char **args)
{
    struct mailbox_place place = place_of(args[0], false);
    struct mail_meta meta = {0};
    struct save_result result;
    struct mailbox *box;
    struct save **saves;
    size_t n = 0;
    struct error e;

    if (mailbox_open(&box, &place, 0, &e) < 0)
        fail(&e);
    parse_flags(args[1], &meta);
    for (char **p = args + 2; *p != NULL; p++)
        n++;
    saves = ARENA_ARRAY(arena, struct save *, n + 1);
    staged = saves;
    for (size_t i = 0; i < n; i++) {
        struct buffer text = {0};

        if (os_read_file(AT_FDCWD, args[2 + i], 1u << 30, &text, &e) < 0 || save_begin(box, &meta, &saves[i], &e) < 0)
            fail(&e);
        staged_count = i + 1;
        if (save_write(saves[i], buffer_slice(&text), &e) < 0 || save_finish(saves[i], &e) < 0)
            fail(&e);
        buffer_free(&text);
    }
    staged_count = 0;
    run(save_commit(box, saves, n, true, NULL, arena, &result));
    report(&result, n);
    mailbox_close(&box);
}

static void dump_one(struct mailbox *box, const struct index_record *rec)
{
    struct mail *mail;
    struct error e;
    int64_t date, sent;
    uint64_t physical, virtual;
    const char *guid;
    struct buffer envelope = {0};
    struct slice structure;
    const struct mime_source *source;
    struct sha256_ctx ctx;
    unsigned char digest[SHA256_DIGEST_SIZE], buf[65536];
    struct mime_section all = {0};
    struct mime_reader *reader;
    ssize_t n;
    int zone;

    if (mail_open_uid(box, rec->uid, &mail, &e) < 0 || mail_internal_date(mail, &date, &e) < 0 ||
        mail_size_virtual(mail, &virtual, &e) < 0 || mail_guid(mail, &guid, &e) < 0 || mail_envelope(mail, &envelope, &e) < 0 ||
        mail_structure(mail, true, &structure, &e) < 0 || mail_sent_date(mail, &sent, &zone, &e) < 0 ||
        mail_source(mail, &source, &e) < 0 || mail_size_physical(mail, &physical, &e) < 0) {
        if (e.class != ERROR_EXPUNGED)
            fail(&e);
        buffer_free(&envelope);
        mail_close(&mail); /* others' doing, and the index does not know yet */
        return;
    }
    sha256_init(&ctx);
    if (mime_section_open(mail_arena(mail), source, NULL, &all, 0, UINT64_MAX, NULL, &reader, &e) < 0)
        fail(&e);
    while ((n = mime_reader_read(reader, buf, sizeof(buf), &e)) > 0)
        sha256_update(&ctx, (size_t)n, buf);
    if (n < 0)
        fail(&e);
    mime_reader_free(reader);
    sha256_digest(&ctx, sizeof(digest), digest);
    printf("{\"uid\": %u, \"flags\": [", rec->uid);
    bool first = true;
    for (size_t i = 0; i < 5; i++)
        if ((rec->flags & flag_names[i].flag) != 0) {
            printf("%s\"\\\\%s\"", first ? "" : ", ", flag_names[i].name);
            first = false;
        }
    for (unsigned i = 0; i < index_keyword_count(mailbox_index(box)); i++)
        if (index_keyword_has(rec->keywords, i)) {
            printf("%s", first ? "" : ", ");
            json_string(slice_from_str(index_keyword_name(mailbox_index(box), i)));
            first = false;
        }
    printf("], \"modseq\": %llu, \"date\": %lld, \"physical\": %llu, \"size\": %llu, \"sha256\": \"",
           (unsigned long long)rec->modseq, (long long)date, (unsigned long long)physical, (unsigned long long)virtual);
    for (size_t i = 0; i < sizeof(digest); i++)
        printf("%02x", digest[i]);
    printf("\", \"guid\": ");
    json_string(slice_from_str(guid));
    printf(", \"envelope\": ");
    json_string(buffer_slice(&envelope));
    buffer_free(&envelope);
    printf(", \"bodystructure\": ");
    json_string(structure);
    printf("}\n");
    mail_close(&mail);
}

/* As a session sees them: with this user's own flags. */
static void dump_all(struct mailbox *box)
{
    struct mailbox_view *view = mailbox_view_open(box, true);
    struct index_record rec;

    run(mailbox_sync(box, view, SYNC_POLL));
    for (uint32_t seq = 1; index_view_get(mailbox_view_index(view), seq, &rec); seq++)
        dump_one(box, &rec);
    index_cache_flush(mailbox_index(box));
    mailbox_view_close(&view);
}

static void cmd_dump(char **args)
{
    struct mailbox *box = open_box(args[0], SYNC_POLL);

    dump_all(box);
    mailbox_close(&box);
}

/* Everything that can be seen, for crash_store.py: one process instead of one a mailbox. */
static void cmd_state(void)
{
    struct slice pattern = SLICE("*");
    struct mailbox_list *list = mailbox_list_begin(user, &pattern, 1, MAILBOX_LIST_HIDDEN);
    struct budget budget = BUDGET_UNLIMITED;
    const struct mailbox_info *info;
    VEC(const char *) names = {0};
    struct error e;
    enum step r;

    while ((r = mailbox_list_next(list, &budget, &info, &e)) == STEP_MORE || r == STEP_WAIT)
        if (r == STEP_MORE && (info->flags & (MAILBOX_INFO_NOSELECT | MAILBOX_INFO_NONEXISTENT)) == 0)
            VEC_PUSH(&names, arena_strdup(arena, info->vname));
    mailbox_list_end(&list);
    if (r == STEP_ERROR)
        fail(&e);
    for (size_t i = 0; i < names.count; i++) {
        struct mailbox *box = open_box(names.at[i], SYNC_POLL);
        struct index_status st;

        index_status(mailbox_index(box), &st);
        printf("{\"mailbox\": ");
        json_string(slice_from_str(names.at[i]));
        printf(", \"uidvalidity\": %u, \"uidnext\": %u, \"modseq\": %llu, \"recent\": %u}\n", st.uid_validity, st.next_uid,
               (unsigned long long)st.highest_modseq, st.recent);
        dump_all(box);
        mailbox_close(&box);
    }
    VEC_FREE(&names);
}

static void cmd_cachepurge(char **args)
{
    struct mailbox *box = open_box(args[0], SYNC_POLL);
    struct error e;
    enum step r;

    while ((r = index_cache_purge(mailbox_index(box), &e)) == STEP_WAIT)
        poll(NULL, 0, 1);
    if (r == STEP_ERROR)
        fail(&e);
    mailbox_close(&box);
}

static void cmd_body(char **args)
{
    struct mailbox *box = open_box(args[0], SYNC_POLL);
    const struct mime_source *source;
    unsigned char buf[65536];
    uint64_t at = 0;
    struct mail *mail;
    struct error e;
    ssize_t n;

    if (mail_open_uid(box, (uint32_t)strtoul(args[1], NULL, 10), &mail, &e) < 0 || mail_source(mail, &source, &e) < 0)
        fail(&e);
    while ((n = source->read(source->arg, at, buf, sizeof(buf), &e)) > 0) {
        fwrite(buf, 1, (size_t)n, stdout);
        at += (uint64_t)n;
    }
    mail_close(&mail);
    mailbox_close(&box);
}

static void commit(struct mailbox_view *view, struct index_batch *batch, unsigned rights)
{
    struct index_commit out;

    run(mailbox_commit(view, batch, rights, &out));
    run(mailbox_sync(mailbox_view_box(view), view, SYNC_APPLY));
}

static void cmd_flags(char **args)
{
    struct mailbox *box = open_box(args[0], SYNC_POLL);
    struct mailbox_view *view = mailbox_view_open(box, false);
    struct uid_list uids = parse_uids(box, args[1]);
    struct index_batch *batch = index_batch_new(arena, INDEX_INTERNAL);
    enum index_modify how = args[2][0] == '+' ? INDEX_ADD : args[2][0] == '-' ? INDEX_REMOVE : INDEX_REPLACE;
    struct mail_meta meta = {0};

    parse_flags(args[2] + 1, &meta);
    for (size_t i = 0; i < uids.count; i++) {
        if (meta.flags != 0 || how == INDEX_REPLACE)
            index_batch_flags(batch, uids.at[i], uids.at[i], how, meta.flags);
        if (meta.keyword_count > 0 || how == INDEX_REPLACE)
            index_batch_keywords(batch, uids.at[i], uids.at[i], how, meta.keywords, meta.keyword_count);
    }
    commit(view, batch, MAILBOX_RIGHT_WRITE);
    VEC_FREE(&uids);
    mailbox_view_close(&view);
    mailbox_close(&box);
}

static void expunge(struct mailbox *box, const struct uid_list *uids)
{
    struct mailbox_view *view = mailbox_view_open(box, false);
    struct index_batch *batch = index_batch_new(arena, INDEX_INTERNAL);

    for (size_t i = 0; i < uids->count; i++)
        mailbox_batch_expunge(view, batch, uids->at[i]);
    commit(view, batch, MAILBOX_RIGHT_EXPUNGE);
    mailbox_view_close(&view);
}

static void cmd_expunge(char **args)
{
    struct mailbox *box = open_box(args[0], SYNC_POLL);
    struct uid_list uids = parse_uids(box, args[1]);

    expunge(box, &uids);
    VEC_FREE(&uids);
    mailbox_close(&box);
}

static void purge(void)
{
    for (struct mail_namespace *ns = mail_user_namespaces(user); ns != NULL; ns = ns->next)
        run(mail_namespace_purge(ns));
}

/* altmove MAILBOX UIDS there|back */
static void cmd_altmove(char **args)
{
    struct mailbox *box = open_box(args[0], SYNC_POLL);
    struct uid_list uids = parse_uids(box, args[1]);
    struct mailbox_view *view = mailbox_view_open(box, false);
    struct arena *scratch = arena_new();
    struct index_batch *batch = index_batch_new(scratch, INDEX_INTERNAL);

    for (size_t i = 0; i < uids.count; i++)
        mailbox_batch_altmove(view, batch, uids.at[i], strcmp(args[2], "there") == 0);
    commit(view, batch, 0);
    arena_free(scratch);
    mailbox_view_close(&view);
    VEC_FREE(&uids);
    mailbox_close(&box);
    purge();
}

static void cmd_copy(char **args, bool move)
{
    struct mailbox *box = open_box(args[0], SYNC_POLL), *dest;
    struct mailbox_place place = place_of(args[2], false);
    struct uid_list uids = parse_uids(box, args[1]);
    struct save **saves = ARENA_ARRAY(arena, struct save *, uids.count + 1);
    struct save_result result;
    struct error e;

    if (mailbox_open(&dest, &place, 0, &e) < 0)
        fail(&e);
    staged = saves;
    for (size_t i = 0; i < uids.count; i++) {
        if (save_copy(dest, box, uids.at[i], NULL, &saves[i], &e) < 0)
            fail(&e);
        staged_count = i + 1;
    }
    staged_count = 0;
    run(save_commit(dest, saves, uids.count, true, NULL, arena, &result));
    report(&result, uids.count);
    if (move)
        expunge(box, &uids);
    VEC_FREE(&uids);
    mailbox_close(&dest);
    mailbox_close(&box);
}

static void cmd_sync(char **args, enum sync_why why)
{
    struct mailbox_place place = place_of(args[0], false);
    struct mailbox_view *view;
    struct index_status st;
    struct mailbox *box;
    struct error e;

    if (mailbox_open(&box, &place, 0, &e) < 0)
        fail(&e);
    view = mailbox_view_open(box, why != SYNC_SELECT);
    run(mailbox_sync(box, view, why));
    index_view_sync(mailbox_view_index(view), false);
    struct index_change change;
    while (index_view_next(mailbox_view_index(view), &change))
        ;
    index_status(mailbox_index(box), &st);
    printf("messages=%u uidnext=%u recent=%u\n", st.messages, st.next_uid, mailbox_view_recent_count(view));
    mailbox_view_close(&view);
    mailbox_close(&box);
}

static void on_news(void *arg)
{
    *(bool *)arg = true;
}

static void cmd_watch(char **args)
{
    struct mailbox *box = open_box(args[0], SYNC_POLL);
    struct mailbox_view *view = mailbox_view_open(box, true);
    bool news = false;
    struct mailbox_watch *watch = mailbox_watch_add(box, on_news, &news);
    uint64_t until = time_monotonic_ns() + (uint64_t)atoi(args[1]) * 1000000000ull;
    struct index_status st;
    uint32_t last = 0;

    while (time_monotonic_ns() < until) {
        struct pollfd p = {.fd = store_watch_fd(), .events = POLLIN};

        index_status(mailbox_index(box), &st);
        if (st.next_uid != last) {
            printf("uidnext=%u messages=%u\n", st.next_uid, st.messages);
            fflush(stdout);
        }
        last = st.next_uid;
        if (poll(&p, 1, 100) > 0)
            store_watch_poll();
        if (news) {
            news = false;
            run(mailbox_sync(box, view, SYNC_POLL));
        }
    }
    mailbox_watch_remove(&watch);
    mailbox_view_close(&view);
    mailbox_close(&box);
}

/* ---- load: what a busy session does, for tests beside a real Dovecot ---- */

struct own {
    uint32_t *at;
    size_t count, room;
};

static void load_save(struct mailbox *box, unsigned seed, unsigned number, struct own *own)
{
    unsigned n = 1 + (unsigned)random() % 3;
    struct save *saves[3];
    struct save_result result;
    struct mail_meta meta = {.flags = random() % 3 == 0 ? INDEX_SEEN : 0};
    struct slice keyword = slice_from_str(random() % 2 == 0 ? "kwA" : "kwB");
    struct arena *scratch = arena_new();
    struct error e;

    if (random() % 4 == 0) {
        meta.keywords = &keyword;
        meta.keyword_count = 1;
    }
    for (unsigned i = 0; i < n; i++) {
        char *text = arena_printf(scratch, "From: load@example.org\nX-Id: s%u-%u-%u\nSubject: load\n\n%*s\n", seed, number, i,
                                  (int)(random() % 3000), "body");

        if (save_begin(box, &meta, &saves[i], &e) < 0 || save_write(saves[i], slice_from_str(text), &e) < 0 ||
            save_finish(saves[i], &e) < 0)
            fail(&e);
    }
    run(save_commit(box, saves, n, true, NULL, scratch, &result));
    for (unsigned i = 0; i < n; i++) {
        printf("+ s%u-%u-%u %u\n", seed, number, i, result.uids[i]);
        VEC_PUSH(own, result.uids[i]);
    }
    fflush(stdout);
    arena_free(scratch);
}

static void load_expunge(struct mailbox_view *view, struct own *own)
{
    struct arena *scratch = arena_new();
    struct index_batch *batch = index_batch_new(scratch, INDEX_INTERNAL);
    size_t i = (size_t)random() % own->count;

    printf("- %u\n", own->at[i]);
    fflush(stdout);
    mailbox_batch_expunge(view, batch, own->at[i]);
    commit(view, batch, MAILBOX_RIGHT_EXPUNGE);
    own->at[i] = own->at[--own->count];
    arena_free(scratch);
}

static void load_flags(struct mailbox_view *view)
{
    struct arena *scratch = arena_new();
    struct index_batch *batch = index_batch_new(scratch, INDEX_INTERNAL);
    uint32_t count = index_view_count(mailbox_view_index(view));
    struct slice keyword = slice_from_str(random() % 2 == 0 ? "kwA" : "kwC");
    uint32_t uid = count == 0 ? 0 : index_view_uid(mailbox_view_index(view), 1 + (uint32_t)random() % count);

    if (uid != 0) {
        index_batch_flags(batch, uid, uid, random() % 2 ? INDEX_ADD : INDEX_REMOVE, random() % 2 ? INDEX_SEEN : INDEX_FLAGGED);
        if (random() % 3 == 0)
            index_batch_keywords(batch, uid, uid, random() % 2 ? INDEX_ADD : INDEX_REMOVE, &keyword, 1);
        commit(view, batch, MAILBOX_RIGHT_WRITE);
    }
    arena_free(scratch);
}

static void load_look(struct mailbox_view *view)
{
    uint32_t count = index_view_count(mailbox_view_index(view));
    const struct mime_source *source;
    struct buffer text = {0};
    struct mail *mail;
    uint64_t size;
    struct error e;

    if (count == 0 || mail_open(view, 1 + (uint32_t)random() % count, &mail, &e) < 0)
        return;
    if ((mail_source(mail, &source, &e) < 0 || mail_envelope(mail, &text, &e) < 0 || mail_size_virtual(mail, &size, &e) < 0) &&
        e.class != ERROR_EXPUNGED)
        fail(&e);
    buffer_free(&text);
    mail_close(&mail);
}

static void cmd_load(char **args)
{
    struct mailbox *box = open_box(args[0], SYNC_POLL);
    struct mailbox_view *view = mailbox_view_open(box, false);
    uint64_t until = time_monotonic_ns() + (uint64_t)atoi(args[1]) * 1000000000ull;
    unsigned seed = (unsigned)atoi(args[2]), number = 0;
    struct own own = {0};

    srandom(seed);
    while (time_monotonic_ns() < until) {
        struct index_change change;
        long what = random() % 10;

        if (what < 3)
            load_save(box, seed, number++, &own);
        else if (what < 4 && own.count > 3)
            load_expunge(view, &own);
        else if (what < 7)
            load_flags(view);
        else
            load_look(view);
        run(mailbox_sync(box, view, random() % 20 == 0 ? SYNC_SELECT : SYNC_POLL));
        index_view_sync(mailbox_view_index(view), false);
        while (index_view_next(mailbox_view_index(view), &change))
            if (change.kind == INDEX_CHANGE_INVALID)
                printf("! invalid\n");
        index_cache_flush(mailbox_index(box));
    }
    VEC_FREE(&own);
    mailbox_view_close(&view);
    mailbox_close(&box);
}

static struct settings *load_settings(const char *file, const char *const *pairs, struct conf **conf)
{
    struct settings *set, *changed;
    struct conf_filter filter = {.service = "doveadm"};
    struct error e;

    if (file == NULL)
        *conf = conf_from_tree(conf_tree_new("storetool"));
    else if (conf_open_file(file, NULL, conf, &e) < 0)
        fail(&e);
    set = conf_settings(*conf, &filter, &e);
    if (set == NULL)
        fail(&e);
    changed = settings_override_all(set, pairs, &e);
    if (changed == NULL)
        fail(&e);
    settings_unref(set);
    return changed;
}

static bool complete(char **args)
{
    return args[0] != NULL && (args[1] != NULL || strcmp(args[0], "list") == 0 || strcmp(args[0], "lsub") == 0 ||
                               strcmp(args[0], "state") == 0 || strcmp(args[0], "purge") == 0);
}

static void run_command(const char *command, char **args)
{
    struct mailbox_place a, b;

    if (strcmp(command, "list") == 0) {
        cmd_list(args, MAILBOX_LIST_HIDDEN);
    } else if (strcmp(command, "lsub") == 0) {
        cmd_list(args, MAILBOX_LIST_LSUB);
    } else if (strcmp(command, "create") == 0) {
        a = place_of(args[0], true);
        run(mailbox_create(&a, false, NULL));
    } else if (strcmp(command, "delete") == 0) {
        a = place_of(args[0], false);
        run(mailbox_delete(&a));
    } else if (strcmp(command, "rename") == 0) {
        a = place_of(args[0], false);
        b = place_of(args[1], true);
        run(mailbox_rename(&a, &b));
    } else if (strcmp(command, "subscribe") == 0 || strcmp(command, "unsubscribe") == 0) {
        a = place_of(args[0], false);
        run(mailbox_subscribe(&a, *command == 's'));
    } else if (strcmp(command, "status") == 0) {
        cmd_status(args);
    } else if (strcmp(command, "save") == 0) {
        cmd_save(args);
    } else if (strcmp(command, "dump") == 0) {
        cmd_dump(args);
    } else if (strcmp(command, "state") == 0) {
        cmd_state();
    } else if (strcmp(command, "purge") == 0) {
        purge();
    } else if (strcmp(command, "cachepurge") == 0) {
        cmd_cachepurge(args);
    } else if (strcmp(command, "body") == 0) {
        cmd_body(args);
    } else if (strcmp(command, "flags") == 0) {
        cmd_flags(args);
    } else if (strcmp(command, "expunge") == 0) {
        cmd_expunge(args);
    } else if (strcmp(command, "altmove") == 0) {
        cmd_altmove(args);
    } else if (strcmp(command, "copy") == 0 || strcmp(command, "move") == 0) {
        cmd_copy(args, *command == 'm');
    } else if (strcmp(command, "sync") == 0 || strcmp(command, "resync") == 0 || strcmp(command, "select") == 0) {
        cmd_sync(args, *command == 'r' ? SYNC_RESYNC : strcmp(command, "sync") == 0 ? SYNC_FULL : SYNC_SELECT);
    } else if (strcmp(command, "load") == 0) {
        cmd_load(args);
    } else if (strcmp(command, "watch") == 0) {
        cmd_watch(args);
    } else {
        fprintf(stderr, "storetool: unknown command %s\n", command);
        exit(64);
    }
}

int main(int argc, char **argv)
{
    const char *name = "user", *home = NULL, *file = NULL;
    const char **pairs;
    size_t n = 0;
    struct mail_user_params params = {.service = "doveadm"};
    struct settings *set;
    struct conf *conf;
    struct error e;
    int c;

    umask(0);
    log_open_stderr("storetool: ", false);
    os_fault_from_env();
    arena = arena_new();
    pairs = ARENA_ARRAY(arena, const char *, (size_t)argc + 2);
    while ((c = getopt(argc, argv, "+u:h:l:o:c:")) != -1) {
        switch (c) {
        case 'u':
            name = optarg;
            break;
        case 'h':
            home = optarg;
            break;
        case 'l':
            pairs[n++] = arena_printf(arena, "mail_location=%s", optarg);
            break;
        case 'o':
            pairs[n++] = optarg;
            break;
        case 'c':
            file = optarg;
            break;
        default:
            return 64;
        }
    }
    char **args = argv + optind;
    if (!complete(args))
        return 64;
    set = load_settings(file, pairs, &conf);
    params.username = name;
    params.home = home;
    if (mail_user_open(&user, set, &params, &e) < 0)
        fail(&e);
    while (args != NULL) {
        char **next = args;

        while (*next != NULL && strcmp(*next, "--") != 0)
            next++;
        bool more = *next != NULL;
        *next = NULL;
        if (!complete(args))
            return 64;
        run_command(args[0], args + 1);
        args = more ? next + 1 : NULL;
    }
    mail_user_close(&user);
    settings_unref(set);
    conf_free(conf);
    arena_free(arena);
    return 0;
}
