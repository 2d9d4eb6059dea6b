/* Requests of login processes and packets between dispatcher and workers: no crash; what can be read can be written, and
 * reads the same again. */
#include "dispatch/dispatch_impl.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_packet(struct slice packet)
{
    struct arena *arena = arena_new();
    struct dispatch_request one, two;
    struct buffer again = {0};
    struct error error;

    if (dispatch_request_read(arena, packet, &one, &error) == 0 && dispatch_request_write(&again, &one, &error) == 0) {
        if (dispatch_request_read(arena, buffer_slice(&again), &two, &error) < 0 || one.id != two.id ||
            strcmp(one.user, two.user) != 0 || one.userdb.count != two.userdb.count ||
            !slice_equal(one.input, two.input))
            abort();
    }
    buffer_free(&again);
    arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct login_request request;
    struct login_data parts;
    struct error error;

    check_packet(slice_of(data, size));
    if (size >= LOGIN_REQUEST_SIZE && login_request_read(data, &request, &error) == 0 &&
        request.data_size > LOGIN_DATA_MAX)
        abort();
    login_data_read(slice_of(data, size), true, &parts);
    login_data_read(slice_of(data, size), false, &parts);
    return 0;
}
