/* The four protocols of auth: whatever a peer sends, nothing crashes, leaks or hangs. The first byte chooses the protocol;
 * "@" in the input stands for a line that a well-behaved client begins with. */
#include "tests/auth/small_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_log(void *arg, enum log_level level, const char *prefix, const char *text)
{
    (void)arg, (void)level, (void)prefix, (void)text;
}

static struct server server;

static void end_server(void)
{
    small_server_end(&server);
}

static void begin_server(void)
{
    log_capture(ignore_log, NULL);
    (void)small_server(&server, "static", "password=x nodelay=y", "static", "uid=1 gid=1 home=/h");
    server.auths.at[0]->set.master_separator = '*';
    atexit(end_server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool begun;
    static const char *const hello[] = {
        "VERSION\t1\t2\nCPID\t1\n", "VERSION\t1\t2\nCPID\t2\n", "VERSION\t1\t1\n", "VERSION\t1\t0\n",
        "VERSION\tauth-worker\t1\t0\n"};
    char got[65536];
    unsigned kind;
    int pair[2];

    if (size == 0 || size > 60000)
        return 0;
    if (!begun) {
        begin_server();
        begun = true;
    }
    kind = data[0] % 5;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        return 0;
    if (kind == 0 || kind == 1)
        client_conn_new(&server, pair[0], kind == 1, false);
    else if (kind == 4)
        worker_conn_new(&server, pair[0]);
    else
        master_conn_new(&server, pair[0], kind == 3, NULL);
    if (size > 1 && data[1] == '@') {
        (void)!write(pair[1], hello[kind], strlen(hello[kind]));
        if (kind == 4) {
            char passdb[33], userdb[33];
            server_db_hash(&server, false, passdb);
            server_db_hash(&server, true, userdb);
            dprintf(pair[1], "DBHASH\t%s\t%s\n", passdb, userdb);
        }
        data++, size--;
    }
    (void)!write(pair[1], data + 1, size - 1);
    for (int i = 0; i < 4; i++) {
        ev_run(server.loop, EVRUN_NOWAIT);
        (void)!recv(pair[1], got, sizeof(got), MSG_DONTWAIT);
    }
    shutdown(pair[1], SHUT_WR);
    for (int i = 0; i < 4; i++) {
        ev_run(server.loop, EVRUN_NOWAIT);
        (void)!recv(pair[1], got, sizeof(got), MSG_DONTWAIT);
    }
    close(pair[1]);
    while (server.clients != NULL)
        ev_run(server.loop, EVRUN_NOWAIT);
    for (int i = 0; i < 2; i++)
        ev_run(server.loop, EVRUN_NOWAIT);
    return 0;
}
