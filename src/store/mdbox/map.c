/* map.c - the map index over src/index: extensions "map" and "ref" (dbox-format 3.1; index-format 11.2). */
#include "store/mdbox/map.h"

#include <stdlib.h>
#include <time.h>

#define MAP_HEADER_SIZE 8
#define MAP_RECORD_SIZE 12

struct mdbox_map {
    struct index *index;
    unsigned ext_map, ext_ref;
};

int mdbox_map_open(struct mdbox_map **out, int dir, const char *path, const struct index_settings *given, mode_t mode,
                   gid_t gid, bool read_only, struct error *e)
{
    static const struct index_ext_def map_ext = {.name = "map", .header_size = MAP_HEADER_SIZE,
                                                 .record_size = MAP_RECORD_SIZE, .record_align = 4};
    static const struct index_ext_def ref_ext = {.name = "ref", .record_size = 2, .record_align = 2};
    struct index_settings settings = *given;
    struct index_where where = {.dir = dir, .path = path, .prefix = "dovecot.map.index", .settings = &settings,
                                .mode = mode, .gid = gid, .read_only = read_only};
    struct mdbox_map *map = mem_zero(1, sizeof(*map));

    settings.strict_tail = true;
    if (index_open(&map->index, &where, e) < 0) {
        mem_free(map);
        return -1;
    }
    map->ext_map = index_ext(map->index, &map_ext);
    map->ext_ref = index_ext(map->index, &ref_ext);
    *out = map;
    return 0;
}

void mdbox_map_close(struct mdbox_map **map_p)
{
    struct mdbox_map *map = *map_p;

    if (map == NULL)
        return;
    *map_p = NULL;
    index_close(&map->index);
    mem_free(map);
}

struct index *mdbox_map_index(const struct mdbox_map *map)
{
    return map->index;
}

enum step mdbox_map_refresh(struct mdbox_map *map, struct error *e)
{
    return index_refresh(map->index, e);
}

/* ---- looking ---- */

uint32_t mdbox_map_uid_validity(const struct mdbox_map *map)
{
    struct index_status status;

    index_status(map->index, &status);
    return status.uid_validity;
}

static uint32_t header_u32(const struct mdbox_map *map, size_t offset)
{
    struct slice raw = index_ext_header(map->index, map->ext_map);

    return raw.size < offset + 4 ? 0 : bytes_le32(raw.at + offset);
}

uint32_t mdbox_map_highest_file_id(const struct mdbox_map *map)
{
    return header_u32(map, 0);
}

uint32_t mdbox_map_rebuild_count(const struct mdbox_map *map)
{
    return header_u32(map, 4);
}

const char *mdbox_map_problem(const struct mdbox_map *map)
{
    if (index_count(map->index) == 0)
        return NULL;
    if (mdbox_map_uid_validity(map) == 0)
        return "lost uidvalidity";
    if (!index_ext_exists(map->index, map->ext_map))
        return "missing map extension";
    return index_ext_exists(map->index, map->ext_ref) ? NULL : "missing ref extension";
}

bool mdbox_map_fscked(const struct mdbox_map *map)
{
    struct index_status status;

    index_status(map->index, &status);
    return status.fscked;
}

uint32_t mdbox_map_count(const struct mdbox_map *map)
{
    return index_count(map->index);
}

bool mdbox_map_get(const struct mdbox_map *map, uint32_t uid, struct mdbox_map_record *out)
{
    struct slice where = index_ext_record(map->index, map->ext_map, uid);
    struct slice ref = index_ext_record(map->index, map->ext_ref, uid);

    if (where.size < MAP_RECORD_SIZE)
        return false;
    *out = (struct mdbox_map_record){.uid = uid, .file_id = bytes_le32(where.at), .offset = bytes_le32(where.at + 4),
                                     .size = bytes_le32(where.at + 8), .ref = ref.size < 2 ? 0 : bytes_le16(ref.at)};
    return true;
}

bool mdbox_map_get_at(const struct mdbox_map *map, uint32_t seq, struct mdbox_map_record *out)
{
    struct index_record rec;

    return index_get_at(map->index, seq, &rec) && mdbox_map_get(map, rec.uid, out);
}

int mdbox_map_record_compare(const void *x, const void *y)
{
    const struct mdbox_map_record *a = x, *b = y;

    if (a->file_id != b->file_id)
        return a->file_id < b->file_id ? -1 : 1;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return a->uid < b->uid ? -1 : a->uid > b->uid;
}

struct mdbox_map_record *mdbox_map_of_file(const struct mdbox_map *map, uint32_t file_id, struct arena *arena, size_t *count)
{
    VEC(struct mdbox_map_record) found = {0};
    struct mdbox_map_record rec, *out;

    for (uint32_t seq = 1, n = mdbox_map_count(map); seq <= n; seq++)
        if (mdbox_map_get_at(map, seq, &rec) && rec.file_id == file_id)
            VEC_PUSH(&found, rec);
    if (found.count > 1)
        qsort(found.at, found.count, sizeof(*found.at), mdbox_map_record_compare);
    *count = found.count;
    out = ARENA_ARRAY(arena, struct mdbox_map_record, found.count + 1);
    if (found.count > 0)
        memcpy(out, found.at, found.count * sizeof(*out));
    VEC_FREE(&found);
    return out;
}

/* ---- the lock ---- */

/* The header of a new map: its UIDVALIDITY is the time of its creation. */
static int begin_map(struct mdbox_map *map, struct error *e)
{
    struct arena *arena = arena_new();
    struct index_batch *batch = index_batch_new(arena, INDEX_EXTERNAL);
    int r;

    index_batch_uid_validity(batch, (uint32_t)time(NULL));
    index_batch_durable(batch);
    r = index_commit_locked(map->index, batch, NULL, e);
    arena_free(arena);
    return r < 0 ? -1 : mdbox_map_confirm(map, e);
}

enum step mdbox_map_lock(struct mdbox_map *map, const char *why, bool *unfinished, struct error *e)
{
    enum step r = index_lock_try(map->index, why, e);
    struct index_log_position at;

    *unfinished = false;
    if (r != STEP_DONE)
        return r;
    index_log_position(map->index, &at);
    *unfinished = at.tail < at.head;
    if (!*unfinished && mdbox_map_count(map) == 0 && mdbox_map_uid_validity(map) == 0 && begin_map(map, e) < 0) {
        index_unlock(map->index);
        return STEP_ERROR;
    }
    return STEP_DONE;
}

void mdbox_map_unlock(struct mdbox_map *map)
{
    index_unlock(map->index);
}

int mdbox_map_confirm(struct mdbox_map *map, struct error *e)
{
    struct arena *arena = arena_new();
    struct index_batch *batch = index_batch_new(arena, INDEX_EXTERNAL);
    struct index_requests requests;
    int r = index_pending(map->index, arena, &requests, e);

    if (r == 0) {
        requests.tail_needed = true; /* appends and reference counts ask nothing of anybody, but the map counts them */
        index_batch_done(batch, &requests);
        r = index_commit_locked(map->index, batch, NULL, e);
    }
    arena_free(arena);
    if (r == 0)
        index_maintain(map->index);
    return r;
}

/* ---- changes ---- */

void mdbox_change_begin(struct mdbox_change *c, struct mdbox_map *map, struct arena *arena, bool external)
{
    *c = (struct mdbox_change){map, index_batch_new(arena, external ? INDEX_EXTERNAL : INDEX_INTERNAL), 0};
    index_batch_durable(c->batch);
}

static struct slice put_where(unsigned char out[MAP_RECORD_SIZE], const struct mdbox_map_record *rec)
{
    bytes_put_le32(out, rec->file_id);
    bytes_put_le32(out + 4, rec->offset);
    bytes_put_le32(out + 8, rec->size);
    return slice_of(out, MAP_RECORD_SIZE);
}

void mdbox_change_append(struct mdbox_change *c, const struct mdbox_map_record *rec)
{
    struct index_append *append = index_batch_append(c->batch, 0, 0);
    unsigned char where[MAP_RECORD_SIZE], ref[2];

    index_append_ext(c->batch, append, c->map->ext_map, put_where(where, rec));
    bytes_put_le16(ref, rec->ref);
    index_append_ext(c->batch, append, c->map->ext_ref, slice_of(ref, 2));
    c->appends++;
}

void mdbox_change_move(struct mdbox_change *c, const struct mdbox_map_record *rec)
{
    unsigned char where[MAP_RECORD_SIZE];

    index_batch_ext_record(c->batch, c->map->ext_map, rec->uid, put_where(where, rec));
}

void mdbox_change_ref(struct mdbox_change *c, uint32_t uid, int diff)
{
    index_batch_ext_inc(c->batch, c->map->ext_ref, uid, diff);
}

void mdbox_change_set_ref(struct mdbox_change *c, uint32_t uid, uint16_t ref)
{
    unsigned char raw[2];

    bytes_put_le16(raw, ref);
    index_batch_ext_record(c->batch, c->map->ext_ref, uid, slice_of(raw, 2));
}

void mdbox_change_expunge(struct mdbox_change *c, uint32_t uid)
{
    index_batch_expunge(c->batch, uid, NULL);
}

static void put_header(struct mdbox_change *c, uint32_t offset, uint32_t value)
{
    unsigned char raw[4];

    bytes_put_le32(raw, value);
    index_batch_ext_header(c->batch, c->map->ext_map, offset, slice_of(raw, 4));
}

void mdbox_change_highest_file_id(struct mdbox_change *c, uint32_t id)
{
    put_header(c, 0, id);
}

void mdbox_change_rebuild_count(struct mdbox_change *c, uint32_t count)
{
    put_header(c, 4, count);
}

void mdbox_change_clear_fscked(struct mdbox_change *c)
{
    index_batch_clear_fscked(c->batch);
}

int mdbox_change_commit(struct mdbox_change *c, uint32_t *first_uid, struct error *e)
{
    struct index_commit commit;

    if (index_commit_locked(c->map->index, c->batch, &commit, e) < 0)
        return -1;
    if (c->appends > 0 && commit.last_uid - commit.first_uid + 1 != c->appends)
        return error_set(e, ERROR_BUG, "map UIDs %u..%u of %u records", commit.first_uid, commit.last_uid, c->appends);
    if (first_uid != NULL)
        *first_uid = commit.first_uid;
    return 0;
}
