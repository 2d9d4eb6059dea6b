/* The subscriptions file, and the header of the list index. */
#include "store/internal.h"
#include "store/list_tree.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct name_list names = {0};
    struct list_tree tree = {0};
    struct slice rest = slice_of(data, size);
    struct error e;

    if (subscriptions_parse(slice_of(data, size), '.', arena, &names) == 0)
        for (size_t i = 0; i < names.count; i++)
            if (*names.at[i] != '\0' && names.at[i][strlen(names.at[i]) - 1] == '.')
                abort();
    VEC_FREE(&names);
    if (list_tree_parse_header(&tree, rest, arena, &e) == 0) {
        int r = 0;

        rest = slice_from(rest, size / 2);
        for (uint32_t uid = 1; r == 0 && rest.size >= 28; uid++, rest = slice_from(rest, 28))
            r = list_tree_add(&tree, uid, 0, slice_head(rest, 28), &e);
        if (r == 0 && list_tree_finish(&tree, &e) == 0) {
            struct buffer out = {0};

            for (size_t i = 0; i < tree.count; i++)
                if (list_tree_child(&tree, tree.at[i].parent_uid, slice_from_str(tree.at[i].name)) == NULL)
                    abort();
            list_tree_put_header(&tree, &out);
            buffer_free(&out);
        }
    }
    list_tree_free(&tree);
    arena_free(arena);
    return 0;
}
