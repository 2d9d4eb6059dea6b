/* The caps of the house on what one mail may cost: the numbers of oracle-build 1.5 and imap 10.5. */
#include "mime/mime.h"

const struct mime_limits mime_limits_default = {
    .depth = 100,
    .parts = 10000,
    .header_size = 10 * 1024 * 1024,
    .headers_size = 50 * 1024 * 1024,
    .addresses = 100000,
    .params = 128,
    .languages = 100000,
};
