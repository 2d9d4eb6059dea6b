/* The configuration file of SQL dictionaries, and lines of the dict protocol at a dictionary in memory's stead: a file that
 * is not there. */
#include "dict/dict_conn.h"
#include "dict/dict_sql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool open_dict(void *arg, const char *name, struct dict **out)
{
    const struct dict_settings settings = {0};
    struct error e;

    (void)arg;
    (void)name;
    return dict_open(out, "file:/nonexistent/x", &settings, &e) == 0;
}

static void ignore(void *arg, struct slice lines)
{
    (void)arg;
    (void)lines;
}

static void take_file(struct slice in)
{
    struct arena *arena = arena_new();
    struct sql_maps maps;
    const char **variables;
    size_t known;
    struct error e;

    if (sql_maps_parse(in, "fuzz", arena, &maps, &e) == 0) {
        (void)sql_maps_find(&maps, arena, "priv/a/b/c", &variables);
        for (const struct sql_map *map = maps.first; map != NULL; map = map->next)
            (void)sql_map_below(map, arena, "priv/a/", &variables, &known);
    }
    arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct dict_conn_handler handler = {open_dict, ignore};
    struct slice rest = slice_of(data, size), line;
    struct dict_conn *conn = dict_conn_new(&handler, NULL);
    struct error e = {0};

    take_file(rest);
    /* Commits would go to the disk. */
    while (slice_split(&rest, '\n', &line))
        if ((line.size > 0 && (line.at[0] == 'C' || line.at[0] == 'D')) || dict_conn_take(conn, line, &e) == DICT_END)
            break;
    dict_conn_free(conn);
    return 0;
}
