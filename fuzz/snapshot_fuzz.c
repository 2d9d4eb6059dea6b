/* Snapshots as hostile input: refused, or written again as they would be by the writer. */
#include "conf/settings.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error e;
    struct conf_tree *tree = conf_snapshot_read(slice_of(data, size), &e);
    if (tree == NULL)
        return 0;
    struct buffer out = {0};
    conf_snapshot_write(tree, NULL, &out);
    struct conf_tree *copy = conf_snapshot_read(buffer_slice(&out), &e);
    if (copy == NULL)
        abort();
    conf_tree_free(copy);
    struct conf *conf = conf_from_tree(tree);
    struct conf_filter filter = {
        .service = "imap", .local_name = "a.example", .remote_ip = "10.0.0.1", .local_ip = "::1"};
    settings_unref(conf_settings(conf, &filter, &e));
    conf_free(conf);
    buffer_free(&out);
    return 0;
}
