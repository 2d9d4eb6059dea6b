/* libexec/stats: counts the events of the other services by the metrics of the configuration (ipc 8). Services connect to
 * stats-writer and are told which events are wanted (writer.c); doveadm asks through stats-reader (reader.c), Prometheus and
 * its like by HTTP (http.c). */
#include "net/fdpass.h"
#include "stats/stats.h"

#include <sys/socket.h>
#include <time.h>

enum { HTTP_END_MS = 5000 };    /* for events on their way when the process ends */

static void connected(void *arg, const struct service_listener *listener, int fd)
{
    struct stats *stats = arg;
    int domain = 0;
    socklen_t size = sizeof(domain);

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain != AF_UNIX)
        stats_http_connected(stats, fd);
    else if (strcmp(listener->name, "stats-reader") == 0)
        stats_reader_connected(stats, fd);
    else
        stats_writer_connected(stats, fd);
}

void stats_peer_end(struct stats *stats, void *peer)
{
    mem_free(peer);
    service_client_end(stats->service);
}

static void read_metrics(struct stats *stats, const struct settings *set)
{
    struct error e;
    size_t n, exporter_count;
    const struct conf_block *const *metrics = conf_blocks(set, BLOCK_METRIC, &n);
    const struct conf_block *const *exporters = conf_blocks(set, BLOCK_EVENT_EXPORTER, &exporter_count);

    for (size_t i = 0; i < exporter_count; i++)
        exporter_add(&stats->metrics, conf_block_name(exporters[i]), conf_block_str(exporters[i], "format"),
                     conf_block_str(exporters[i], "format_args"), conf_block_str(exporters[i], "transport"),
                     conf_block_str(exporters[i], "transport_args"), conf_block_msecs(exporters[i], "transport_timeout"));
    for (size_t i = 0; i < n; i++) {
        const struct conf_block *m = metrics[i];

        if (metrics_add(&stats->metrics, conf_block_name(m), conf_block_str(m, "description"), conf_block_str(m, "fields"),
                        conf_block_str(m, "group_by"), conf_block_str(m, "filter"), &e) < 0)
            log_error(NULL, "metric %s: %s", conf_block_name(m), e.admin);
        else
            metrics_export(&stats->metrics, conf_block_name(m), conf_block_str(m, "exporter"), conf_block_str(m, "exporter_include"));
    }
}

int main(int argc, char **argv)
{
    static const struct service_options options = {.name = "stats"};
    static const struct service_handler handler = {.connected = connected};
    struct stats stats = {.started = time(NULL)};
    struct settings *set;
    struct error e;
    int status;

    stats.service = service_init(argc, argv, &options, NULL);
    service_drop_privileges(stats.service, 0);
    set = conf_settings(service_conf(stats.service), NULL, &e);
    if (set == NULL)
        log_fatal(89, "%s", e.admin);
    stats.metrics.hostname = service_hostname(stats.service);
    stats.metrics.http = http_client_new(service_loop(stats.service));
    stats.metrics.trust = (struct http_trust){conf_str(set, SET_ssl_client_ca_file), conf_str(set, SET_ssl_client_ca_dir),
                                              !conf_bool(set, SET_ssl_client_require_valid_cert)};
    stats.rawlog_dir = conf_str(set, SET_stats_http_rawlog_dir);
    read_metrics(&stats, set);
    service_ready(stats.service, &handler, &stats);
    status = service_run(stats.service);
    http_client_wait(stats.metrics.http, HTTP_END_MS);
    http_client_free(stats.metrics.http);
    stats.metrics.http = NULL;
    while (stats.metrics.first != NULL)
        (void)metrics_remove(&stats.metrics, stats.metrics.first->name);
    exporters_free(&stats.metrics);
    mem_free(stats.writers);
    settings_unref(set);
    return status;
}
