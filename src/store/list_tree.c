/* list_tree.c - names of mailboxes as a tree of index records (index-format 11.1). Bytes in, values out; no files. */
#include "store/list_tree.h"

#include <stdlib.h>

#define LIST_RECORD_MIN 8

void list_tree_free(struct list_tree *tree)
{
    mem_free(tree->names);
    mem_free(tree->at);
    *tree = (struct list_tree){0};
}

static void push_name(struct list_tree *tree, struct list_name name)
{
    if (tree->name_count == tree->name_room)
        tree->names = vec_grow(tree->names, &tree->name_room, sizeof(*tree->names));
    tree->names[tree->name_count++] = name;
}

int list_tree_parse_header(struct list_tree *tree, struct slice header, struct arena *arena, struct error *e)
{
    uint32_t last = 0;

    if (header.size == 0)
        return 0;
    tree->refresh = header.at[0] != 0;
    header = slice_from(header, 1);
    while (header.size >= 4) {
        uint32_t id = bytes_le32(header.at);
        ptrdiff_t end;

        if (id == 0)
            return 0;
        if (id <= last)
            return error_set(e, ERROR_CORRUPT, "Corrupted mailbox list index header: ids are not ascending");
        header = slice_from(header, 4);
        end = slice_find(header, '\0');
        if (end < 0)
            return error_set(e, ERROR_CORRUPT, "Corrupted mailbox list index header: name has no end");
        if (end == 0)
            return error_set(e, ERROR_CORRUPT, "Corrupted mailbox list index header: empty name");
        push_name(tree, (struct list_name){id, arena_str(arena, slice_head(header, (size_t)end))});
        header = slice_from(header, (size_t)end + 1);
        last = id;
    }
    return 0;
}

static const char *name_of(const struct list_tree *tree, uint32_t id)
{
    size_t low = 0, high = tree->name_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (tree->names[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < tree->name_count && tree->names[low].id == id ? tree->names[low].name : NULL;
}

int list_tree_add(struct list_tree *tree, uint32_t uid, uint8_t flags, struct slice record, struct error *e)
{
    struct list_node node = {.uid = uid, .flags = flags};

    if (record.size < LIST_RECORD_MIN)
        return error_set(e, ERROR_CORRUPT, "Missing list extension data");
    node.name_id = bytes_le32(record.at);
    node.parent_uid = bytes_le32(record.at + 4);
    node.name = name_of(tree, node.name_id);
    if (node.name == NULL)
        return error_set(e, ERROR_CORRUPT, "name_id=%u not in index header", node.name_id);
    if (node.parent_uid == uid)
        return error_set(e, ERROR_CORRUPT, "parent_uid=%u loops to node itself (%s)", uid, node.name);
    VEC_PUSH(tree, node);
    return 0;
}

static int compare_nodes(const void *x, const void *y)
{
    const struct list_node *a = x, *b = y;

    if (a->parent_uid != b->parent_uid)
        return a->parent_uid < b->parent_uid ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int compare_uids(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

    return a < b ? -1 : a > b;
}

int list_tree_finish(struct list_tree *tree, struct error *e)
{
    uint32_t *uids = mem_alloc((tree->count + 1) * sizeof(*uids));
    int r = 0;

    for (size_t i = 0; i < tree->count; i++)
        uids[i] = tree->at[i].uid;
    if (tree->count > 1) {
        qsort(uids, tree->count, sizeof(*uids), compare_uids);
        qsort(tree->at, tree->count, sizeof(*tree->at), compare_nodes);
    }
    for (size_t i = 0; r == 0 && i < tree->count; i++) {
        const struct list_node *node = &tree->at[i];

        if (node->parent_uid != 0 && bsearch(&node->parent_uid, uids, tree->count, sizeof(*uids), compare_uids) == NULL)
            r = error_set(e, ERROR_CORRUPT, "parent_uid=%u points to nonexistent record", node->parent_uid);
        else if (i > 0 && compare_nodes(&tree->at[i - 1], node) == 0)
            r = error_set(e, ERROR_CORRUPT, "Duplicate mailbox '%s' in index", node->name);
    }
    mem_free(uids);
    return r;
}

struct list_node *list_tree_child(struct list_tree *tree, uint32_t parent_uid, struct slice name)
{
    size_t low = 0, high = tree->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct list_node *node = &tree->at[mid];
        int r = node->parent_uid != parent_uid ? (node->parent_uid < parent_uid ? -1 : 1)
                                               : slice_compare(slice_from_str(node->name), name);

        if (r == 0)
            return &tree->at[mid];
        if (r < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

struct list_node *list_tree_find(struct list_tree *tree, const char *name, char separator)
{
    struct slice rest = slice_from_str(name), part;
    struct list_node *node = NULL;
    uint32_t parent = 0;

    while (slice_split(&rest, (unsigned char)separator, &part)) {
        node = list_tree_child(tree, parent, part);
        if (node == NULL)
            return NULL;
        parent = node->uid;
    }
    return node;
}

void list_tree_put_header(const struct list_tree *tree, struct buffer *out)
{
    unsigned char id[4];

    buffer_append_byte(out, tree->refresh);
    for (size_t i = 0; i < tree->name_count; i++) {
        bytes_put_le32(id, tree->names[i].id);
        buffer_append(out, id, 4);
        buffer_append(out, tree->names[i].name, strlen(tree->names[i].name) + 1);
    }
    bytes_put_le32(id, 0);
    buffer_append(out, id, 4);
}
