/* sqlite.c - the SQL engine sqlite, and the table of engines.
 *
 * The database is opened at the first query and kept; a locked one is waited for at most a second, as Dovecot does. */
#include "sql/sql.h"

#include <sqlite3.h>

#define BUSY_MS 1000
#define COLUMNS_MOST 256

struct sqlite {
    char *path;
    bool create;
    sqlite3 *db;
};

static void *open_sqlite(const char *connect, bool create, struct error *e)
{
    struct sqlite *s;

    if (*connect == '\0') {
        error_set(e, ERROR_INVALID, "sqlite: connect is empty");
        return NULL;
    }
    s = mem_zero(1, sizeof(*s));
    s->path = mem_strdup(connect);
    s->create = create;
    return s;
}

static void close_sqlite(void *engine)
{
    struct sqlite *s = engine;

    if (s == NULL)
        return;
    sqlite3_close(s->db);
    mem_free(s->path);
    mem_free(s);
}

static int connect_now(struct sqlite *s, struct error *e)
{
    int rc;

    if (s->db != NULL)
        return 0;
    rc = sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | (s->create ? SQLITE_OPEN_CREATE : 0), NULL);
    if (rc != SQLITE_OK) {
        sqlite3_close(s->db);
        rc = sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READONLY, NULL);
    }
    if (rc != SQLITE_OK) {
        error_set(e, ERROR_TEMPORARY, "sqlite: open(%s) failed: %s", s->path, sqlite3_errstr(rc));
        sqlite3_close(s->db);
        s->db = NULL;
        return -1;
    }
    (void)sqlite3_busy_timeout(s->db, BUSY_MS);
    return 0;
}

static bool give_row(sqlite3_stmt *stmt, sql_row_fn *row, void *arg)
{
    const char *names[COLUMNS_MOST], *values[COLUMNS_MOST];
    struct sql_row r = {.columns = sqlite3_column_count(stmt), .names = names, .values = values};

    if (r.columns > COLUMNS_MOST)
        r.columns = COLUMNS_MOST;
    for (int i = 0; i < r.columns; i++) {
        names[i] = sqlite3_column_name(stmt, i);
        values[i] = (const char *)sqlite3_column_text(stmt, i);
    }
    return row(arg, &r);
}

static int query_sqlite(void *engine, const struct sql_statement *statement, sql_row_fn *row, void *arg, struct error *e)
{
    struct sqlite *s = engine;
    sqlite3_stmt *stmt;
    int rc;

    if (connect_now(s, e) < 0)
        return -1;
    rc = sqlite3_prepare_v2(s->db, statement->text, -1, &stmt, NULL);
    for (size_t i = 0; rc == SQLITE_OK && i < statement->count; i++)
        rc = sqlite3_bind_text(stmt, (int)i + 1, statement->values[i], -1, SQLITE_TRANSIENT);
    if (rc == SQLITE_OK)
        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
            if (row != NULL && !give_row(stmt, row, arg)) {
                rc = SQLITE_DONE;
                break;
            }
    if (rc != SQLITE_DONE)
        error_set(e, ERROR_TEMPORARY, "%s (%d)", sqlite3_errmsg(s->db), sqlite3_extended_errcode(s->db));
    sqlite3_finalize(stmt);
    return rc == SQLITE_DONE ? 0 : -1;
}

static uint64_t changed_sqlite(void *engine)
{
    struct sqlite *s = engine;

    return s->db == NULL ? 0 : (uint64_t)sqlite3_changes(s->db);
}

const struct sql_engine sql_sqlite = {"sqlite", open_sqlite, close_sqlite, query_sqlite, changed_sqlite};

/* Further engines are rows here. */
static const struct sql_engine *const engines[] = {&sql_sqlite};

const struct sql_engine *sql_engine_find(const char *name)
{
    for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}
