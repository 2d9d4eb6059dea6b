/* libexec/indexer: the queue of mailboxes that are to be indexed (indexer.h). */
#include "indexer/indexer.h"

#include <stdio.h>

void indexer_show(const struct indexer *x)
{
    char text[64];

    if (!service_titled())
        return;
    (void)snprintf(text, sizeof(text), "%u clients, %u requests", x->client_count, index_queue_count(x->queue));
    service_title(text);
}

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    (void)listener;
    index_client_new(arg, fd);
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "indexer"};
    static const struct service_handler handler = {.connected = connected};
    struct indexer x = {.hand_most = 1};
    int status;

    x.service = service_init(argc, argv, &options, &x);
    x.loop = service_loop(x.service);
    x.queue = index_queue_new(INDEXER_TASKS_MOST);
    x.worker_path = mem_printf("%s/indexer-worker", service_base_dir(x.service));
    service_drop_privileges(x.service, 0);
    indexer_show(&x);
    service_ready(x.service, &handler, &x);
    status = service_run(x.service);
    index_clients_free(&x);
    index_hands_free(&x);
    index_queue_free(x.queue);
    mem_free(x.worker_path);
    return status;
}
