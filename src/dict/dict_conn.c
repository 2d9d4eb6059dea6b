/* dict_conn.c - lines of the dict protocol in, answers out (ipc 10.1).
 *
 * Every request is answered at once, in the words of an answer that comes later ("*1", then "+1 ..."), as clients of minor
 * version 1 expect; clients of minor 0 get the bare answer. */
#include "dict/dict_conn.h"

#include "rpc/line.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <utlist.h>

enum { MAJOR = 3, TRANSACTIONS_MOST = 1000, CHANGES_MOST = 100000 };
enum iterate_flags { RECURSE = 1, SORT_BY_KEY = 2, SORT_BY_VALUE = 4, NO_VALUE = 8, EXACT_KEY = 16 };

struct transaction {
    struct slice id;
    char *user;
    struct arena *arena;
    VEC(struct dict_change) changes;
    struct transaction *prev, *next;
};

struct dict_conn {
    const struct dict_conn_handler *handler;
    void *arg;
    struct dict *dict;
    char *name, *user;             /* of the dictionary; of the greeting */
    unsigned minor, asked;
    struct transaction *transactions;
    unsigned transaction_count;
};

struct dict_conn *dict_conn_new(const struct dict_conn_handler *handler, void *arg)
{
    struct dict_conn *c = mem_zero(1, sizeof(*c));

    c->handler = handler;
    c->arg = arg;
    return c;
}

static void drop_transaction(struct dict_conn *c, struct transaction *t)
{
    DL_DELETE(c->transactions, t);
    c->transaction_count--;
    VEC_FREE(&t->changes);
    arena_free(t->arena);
    mem_free(t->user);
    mem_free(t);
}

void dict_conn_free(struct dict_conn *c)
{
    struct transaction *t, *next;

    if (c == NULL)
        return;
    DL_FOREACH_SAFE(c->transactions, t, next)
        drop_transaction(c, t);
    dict_close(&c->dict);
    mem_free(c->name);
    mem_free(c->user);
    mem_free(c);
}

/* ---- answers ---- */

static uint64_t now_usecs(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* What stands in front of a reply; the first one of a request tells that there will be one. */
static void begin_reply(const struct dict_conn *c, struct buffer *out, bool first)
{
    if (c->minor == 0)
        return;
    if (first)
        buffer_printf(out, "*%u\n", c->asked);
    buffer_printf(out, "+%u\t", c->asked);
}

static void end_reply(const struct dict_conn *c, struct buffer *out, uint64_t begun)
{
    uint64_t now = now_usecs();

    if (c->minor > 0)
        buffer_printf(out, "\t%llu\t%llu\t%llu\t%llu", (unsigned long long)(begun / 1000000), (unsigned long long)(begun % 1000000),
                      (unsigned long long)(now / 1000000), (unsigned long long)(now % 1000000));
    buffer_append_byte(out, '\n');
}

static void send_and_free(struct dict_conn *c, struct buffer *out)
{
    c->handler->send(c->arg, buffer_slice(out));
    buffer_free(out);
}

/* ---- requests ---- */

static enum dict_input broken(const char *what, struct error *e)
{
    error_set(e, ERROR_INVALID, "%s: broken input", what);
    return DICT_END;
}

static const char *text_at(struct arena *arena, const struct slice *fields, size_t count, size_t i)
{
    return i < count ? arena_str(arena, fields[i]) : NULL;
}

static void use_user(struct dict_conn *c, const char *user)
{
    dict_set_user(c->dict, user == NULL ? c->user : user);
}

static enum dict_input greet(struct dict_conn *c, struct arena *arena, const struct slice *fields, size_t count, struct error *e)
{
    uint32_t major, minor;

    *e = (struct error){0};
    if (count < 5 || fields[0].size < 2 || fields[0].at[0] != 'H' || !slice_to_u32(slice_from(fields[0], 1), &major) ||
        !slice_to_u32(fields[1], &minor) || major != MAJOR)
        return DICT_END;
    c->minor = minor;
    c->user = mem_strndup(fields[3]);
    c->name = mem_strndup(fields[4]);
    return c->handler->open(c->arg, text_at(arena, fields, count, 4), &c->dict) ? DICT_NEXT : DICT_END;
}

static void put_values(struct buffer *out, const struct dict_values *values)
{
    struct buffer all = {0};

    if (values->count == 1) {
        buffer_append_byte(out, 'O');
        text_tab_escape(out, slice_from_str(values->at[0]));
        return;
    }
    for (size_t i = 0; i < values->count; i++) {
        if (i > 0)
            buffer_append_byte(&all, '\t');
        text_tab_escape(&all, slice_from_str(values->at[i]));
    }
    buffer_append_byte(out, 'M');
    text_tab_escape(out, buffer_slice(&all));
    buffer_free(&all);
}

static enum dict_input lookup(struct dict_conn *c, struct arena *arena, const struct slice *fields, size_t count, struct error *e)
{
    const char *key = arena_str(arena, slice_from(fields[0], 1));
    struct dict_values values = {0};
    struct buffer out = {0};
    uint64_t begun = now_usecs();

    if (!dict_key_valid(key))
        return broken("LOOKUP", e);
    use_user(c, text_at(arena, fields, count, 1));
    c->asked++;
    begin_reply(c, &out, true);
    if (dict_get_values(c->dict, arena, key, &values, e) < 0) {
        log_error(NULL, "%s: Lookup failed: %s", c->name, e->admin);
        buffer_append_byte(&out, 'F');
        text_tab_escape(&out, slice_from_str(e->admin));
    } else if (values.count == 0) {
        buffer_append_byte(&out, 'N');
    } else if (values.count == 1 || c->minor < 2) {
        values.count = 1;
        put_values(&out, &values);
    } else {
        put_values(&out, &values);
    }
    VEC_FREE(&values);
    end_reply(c, &out, begun);
    send_and_free(c, &out);
    return DICT_NEXT;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct dict_pair *)a)->key, ((const struct dict_pair *)b)->key);
}

static int by_value(const void *a, const void *b)
{
    return strcmp(((const struct dict_pair *)a)->value, ((const struct dict_pair *)b)->value);
}

static int find_pairs(struct dict_conn *c, struct arena *arena, unsigned flags, const char *path, struct dict_pairs *pairs, struct error *e)
{
    const char *value;

    if ((flags & EXACT_KEY) == 0)
        return dict_list(c->dict, arena, path, (flags & RECURSE) != 0, pairs, e);
    if (dict_get(c->dict, arena, path, &value, e) < 0)
        return -1;
    if (value != NULL)
        VEC_PUSH(pairs, ((struct dict_pair){path, value}));
    return 0;
}

static enum dict_input iterate(struct dict_conn *c, struct arena *arena, const struct slice *fields, size_t count, struct error *e)
{
    struct dict_pairs pairs = {0};
    struct buffer out = {0};
    uint64_t begun = now_usecs();
    uint32_t flags;
    uint64_t most;
    const char *path;
    int r;

    if (count < 3 || !slice_to_u32(slice_from(fields[0], 1), &flags) || !slice_to_u64(fields[1], &most))
        return broken("ITERATE", e);
    path = arena_str(arena, fields[2]);
    /* A prefix ends in '/': the real service stops at an assertion where it does not. */
    if (!dict_key_valid(path) || ((flags & EXACT_KEY) == 0 && path[strlen(path) - 1] != '/'))
        return broken("ITERATE", e);
    use_user(c, text_at(arena, fields, count, 3));
    c->asked++;
    r = find_pairs(c, arena, flags, path, &pairs, e);
    if (r < 0)
        log_error(NULL, "%s: dict_iterate() failed: %s", c->name, e->admin);
    if (pairs.count > 1 && (flags & (SORT_BY_KEY | SORT_BY_VALUE)) != 0)
        qsort(pairs.at, pairs.count, sizeof(*pairs.at), (flags & SORT_BY_KEY) != 0 ? by_key : by_value);
    for (size_t i = 0; i < pairs.count && (most == 0 || i < most); i++) {
        begin_reply(c, &out, i == 0);
        buffer_append_byte(&out, 'O');
        text_tab_escape(&out, slice_from_str(pairs.at[i].key));
        line_field_str(&out, (flags & NO_VALUE) != 0 ? "" : pairs.at[i].value);
        line_end(&out);
    }
    begin_reply(c, &out, pairs.count == 0);
    if (r < 0) {
        buffer_append_byte(&out, 'F');
        text_tab_escape(&out, slice_from_str(e->admin));
    }
    VEC_FREE(&pairs);
    end_reply(c, &out, begun);
    send_and_free(c, &out);
    return DICT_NEXT;
}

/* ---- transactions ---- */

static struct transaction *find_transaction(struct dict_conn *c, struct slice id)
{
    struct transaction *t;

    DL_FOREACH(c->transactions, t)
        if (slice_equal(t->id, id))
            return t;
    return NULL;
}

static enum dict_input begin(struct dict_conn *c, struct arena *arena, const struct slice *fields, size_t count, struct error *e)
{
    struct slice id = slice_from(fields[0], 1);
    const char *user = text_at(arena, fields, count, 1);
    struct transaction *t;
    uint32_t number;

    if (!slice_to_u32(id, &number))
        return broken("BEGIN", e);
    if (find_transaction(c, id) != NULL) {
        error_set(e, ERROR_INVALID, "Transaction ID %u already exists", number);
        return DICT_END;
    }
    if (c->transaction_count >= TRANSACTIONS_MOST) {
        error_set(e, ERROR_LIMIT, "Too many transactions at once");
        return DICT_END;
    }
    t = mem_zero(1, sizeof(*t));
    t->arena = arena_new();
    t->id = arena_slice(t->arena, id);
    t->user = mem_strdup(user == NULL ? c->user : user);
    DL_APPEND(c->transactions, t);
    c->transaction_count++;
    return DICT_NEXT;
}

static bool to_diff(struct slice text, int64_t *out)
{
    bool negative = text.size > 0 && text.at[0] == '-';
    uint64_t number;

    if (!slice_to_u64(slice_from(text, negative ? 1 : 0), &number) || number > INT64_MAX)
        return false;
    *out = negative ? -(int64_t)number : (int64_t)number;
    return true;
}

static enum dict_input change(struct transaction *t, char command, const struct slice *fields, size_t count, struct error *e)
{
    struct dict_change c = {0};

    if (count < (command == 'U' ? 2 : 3))
        return broken(command == 'S' ? "SET" : command == 'U' ? "UNSET" : "ATOMIC_INC", e);
    c.what = command == 'S' ? DICT_SET : command == 'U' ? DICT_UNSET : DICT_ADD;
    c.key = arena_str(t->arena, fields[1]);
    if (!dict_key_valid(c.key))
        return broken(command == 'S' ? "SET" : command == 'U' ? "UNSET" : "ATOMIC_INC", e);
    if (command == 'S')
        c.value = arena_str(t->arena, fields[2]);
    if (command == 'A' && !to_diff(fields[2], &c.add))
        return broken("ATOMIC_INC", e);
    if (t->changes.count >= CHANGES_MOST) {
        error_set(e, ERROR_LIMIT, "Too many changes in a transaction");
        return DICT_END;
    }
    VEC_PUSH(&t->changes, c);
    return DICT_NEXT;
}

static enum dict_input commit(struct dict_conn *c, struct transaction *t, bool async, struct error *e)
{
    struct buffer out = {0};
    uint64_t begun = now_usecs();
    enum step step = STEP_DONE;
    char code = 'O';

    dict_set_user(c->dict, t->user);
    if (t->changes.count > 0)
        step = dict_commit(c->dict, t->changes.at, t->changes.count, e);
    if (step == STEP_WAIT)
        return DICT_AGAIN;
    for (size_t i = 0; step == STEP_DONE && i < t->changes.count; i++)
        if (t->changes.at[i].missing)
            code = 'N';
    if (step != STEP_DONE)
        code = 'F';
    c->asked++;
    begin_reply(c, &out, true);
    if (async)
        buffer_append_byte(&out, 'A');
    buffer_append_byte(&out, (unsigned char)code);
    buffer_append_slice(&out, t->id);
    if (code == 'F')
        line_field_str(&out, e->admin); /* the client logs it */
    end_reply(c, &out, begun);
    send_and_free(c, &out);
    drop_transaction(c, t);
    return DICT_NEXT;
}

static enum dict_input in_transaction(struct dict_conn *c, char command, const struct slice *fields, size_t count, struct error *e)
{
    struct slice id = slice_from(fields[0], 1);
    struct transaction *t;
    uint32_t number;

    if (!slice_to_u32(id, &number)) {
        error_set(e, ERROR_INVALID, "Invalid transaction ID %.*s", (int)slice_head(id, 32).size, (const char *)id.at);
        return DICT_END;
    }
    t = find_transaction(c, id);
    if (t == NULL) {
        error_set(e, ERROR_INVALID, "Transaction ID %u doesn't exist", number);
        return DICT_END;
    }
    if (command == 'C' || command == 'D')
        return commit(c, t, command == 'D', e);
    if (command == 'R')
        drop_transaction(c, t);
    else if (command != 'T' && command != 'V') /* the time of a change; hide values: there is nothing to do here */
        return change(t, command, fields, count, e);
    return DICT_NEXT;
}

enum dict_input dict_conn_take(struct dict_conn *c, struct slice line, struct error *e)
{
    struct arena *arena = arena_new();
    enum dict_input r = DICT_END;
    struct slice *fields;
    size_t count = text_tab_fields(arena, line, &fields);
    char command = fields[0].size == 0 ? '\0' : (char)fields[0].at[0];

    *e = (struct error){0};
    if (c->dict == NULL)
        r = greet(c, arena, fields, count, e);
    else if (command == 'L')
        r = lookup(c, arena, fields, count, e);
    else if (command == 'I')
        r = iterate(c, arena, fields, count, e);
    else if (command == 'B')
        r = begin(c, arena, fields, count, e);
    else if (command != '\0' && strchr("CDRSUATV", command) != NULL)
        r = in_transaction(c, command, fields, count, e);
    else
        error_set(e, ERROR_INVALID, "Unknown command %c", command >= ' ' && command < 127 ? command : '?');
    if (r == DICT_END && e->class != ERROR_NONE && c->name != NULL)
        error_context(e, "%s: ", c->name);
    arena_free(arena);
    return r;
}
