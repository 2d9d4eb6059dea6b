/* The HTTP API of doveadm (doveadm 9): a request a connection, whose body is an array of commands.
 *
 * Nothing of a body is read before the key was right, and no more than BODY_MAX of it then. Answers are kept until the last
 * command has ended, since a later fault in the request makes all of them a 400. Otherwise than the real one: a command that
 * ends with Fatal is an error with its exit code, and commas stand where JSON wants them (its own recommendation). */
#include "server/front.h"

#include "base/text.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { HEAD_SECONDS = 60, HEAD_MAX = 16 * 1024, BODY_MAX = 64 * 1024 * 1024 };

static struct {
    enum { HEAD, CHECKING, BODY, RUNNING, LISTING, ANSWERED } state;
    struct buffer head, body, output, rows;
    char *method, *path, *referer, *agent;
    size_t length;
    json_t *commands;
    size_t next;
    const char *tag;                        /* of the command at work */
    struct slice input;                     /* its data */
} http;

/* ---- the raw log -------------------------------------------------------------------------------------------------- */

static void copy(struct front *f, enum wire_ask which, struct slice bytes)
{
    for (; bytes.size > 0 && front_flag(f, FRONT_FLAG_COPIES); bytes = slice_from(bytes, WIRE_DATA_MAX))
        front_ask_bytes(f, which, slice_head(bytes, WIRE_DATA_MAX));
}

/* Takes it from the stream. */
static void consume(struct front *f, size_t size)
{
    copy(f, WIRE_COPY_IN, slice_head(stream_input(f->stream), size));
    stream_consume(f->stream, size);
}

static void send_out(struct front *f, struct slice bytes)
{
    copy(f, WIRE_COPY_OUT, bytes);
    stream_write(f->stream, bytes);
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

static void respond(struct front *f, const char *status, const char *headers, struct slice body)
{
    time_t now = time(NULL);
    struct tm tm;
    struct buffer head = {0};
    char date[64];

    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    buffer_printf(&head, "HTTP/1.1 %s\r\nDate: %s\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n", status, date, body.size, headers);
    send_out(f, buffer_slice(&head));
    send_out(f, body);
    buffer_free(&head);
    log_info(NULL, "doveadm: %s - - \"%s %s HTTP/1.1\" %.3s %zu \"%s\" \"%s\"", f->ip, http.method, http.path, status,
             body.size, http.referer == NULL ? "" : http.referer, http.agent == NULL ? "" : http.agent);
    http.state = ANSWERED;
    front_end(f);
}

static void respond_text(struct front *f, const char *status, const char *text)
{
    struct buffer body = {0};

    buffer_printf(&body, "%s\r\n", text);
    respond(f, status, "Content-Type: text/plain; charset=utf-8\r\n", buffer_slice(&body));
    buffer_free(&body);
}

static void respond_json(struct front *f, struct slice body)
{
    respond(f, "200 OK", "Content-Type: application/json; charset=utf-8\r\n", body);
}

static void refuse(struct front *f)
{
    struct buffer headers = {0};

    if (front_flag(f, FRONT_FLAG_KEY))
        buffer_append_str(&headers, "WWW-Authenticate: X-Dovecot-API\r\n");
    if (front_flag(f, FRONT_FLAG_PASSWORD))
        buffer_append_str(&headers, "WWW-Authenticate: Basic Realm=\"doveadm\"\r\n");
    if (headers.size == 0)
        respond(f, "500 Internal Server Error", "", SLICE_EMPTY);
    else
        respond(f, "401 Authentication required", buffer_cstr(&headers), SLICE_EMPTY);
    buffer_free(&headers);
}

/* ---- commands ------------------------------------------------------------------------------------------------------ */

static void put_text(struct buffer *out, const char *text)
{
    buffer_append_str(out, text);
    buffer_append_byte(out, '\0');
}

static bool is_plain(const json_t *v)
{
    return json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v);
}

/* One parameter as pairs; false: the request ends with this text. */
static bool put_parameter(struct front *f, struct buffer *out, const char *name, const json_t *v)
{
    char text[32];
    size_t i;
    json_t *one;

    if (strcmp(name, "file") == 0 && is_plain(v)) {
        http.input = slice_of(json_string_value(v), json_string_length(v));
        put_text(out, name);
        put_text(out, "");
    } else if (json_is_array(v)) {
        json_array_foreach(v, i, one) {
            if (!is_plain(one)) {
                respond_text(f, "400 Bad Request", "Command parameter array can only containstring values");
                return false;
            }
            put_text(out, name);
            put_text(out, json_string_value(one));
        }
    } else if (is_plain(v) || json_is_integer(v) || json_is_boolean(v)) {
        (void)snprintf(text, sizeof(text), "%lld", json_is_integer(v) ? (long long)json_integer_value(v) : 0);
        put_text(out, name);
        put_text(out, is_plain(v) ? json_string_value(v) : json_is_integer(v) ? text : json_is_true(v) ? "true" : "false");
    } else if (!json_is_null(v)) {
        struct buffer reason = {0};
        buffer_printf(&reason, "Parameter `%s' must be string or array", name);
        respond_text(f, "400 Bad Request", buffer_cstr(&reason));
        buffer_free(&reason);
        return false;
    }
    return true;
}

static const char *fault_of(const json_t *command)
{
    if (!json_is_array(command))
        return "Command must be a JSON array";
    if (!is_plain(json_array_get(command, 0)))
        return "Command name must be a string";
    if (!json_is_object(json_array_get(command, 1)))
        return "Parameters must be contained in a JSON object";
    if (!is_plain(json_array_get(command, 2)))
        return "Command ID must be a string";
    return json_array_size(command) > 3 ? "Unexpected JSON element at end of command" : NULL;
}

static void run_next(struct front *f)
{
    json_t *command = json_array_get(http.commands, http.next++), *value;
    const char *fault = command == NULL ? NULL : fault_of(command), *name;
    struct buffer packet = {0};
    bool good = true;

    if (command == NULL) {
        buffer_append_str(&http.rows, http.rows.size == 0 ? "[]" : "]");
        respond_json(f, buffer_slice(&http.rows));
        return;
    }
    if (fault != NULL) {
        respond_text(f, "400 Bad Request", fault);
        return;
    }
    http.state = RUNNING;
    http.tag = json_string_value(json_array_get(command, 2));
    buffer_reset(&http.output);
    put_text(&packet, json_string_value(json_array_get(command, 0)));
    json_object_foreach(json_array_get(command, 1), name, value)
        good = good && put_parameter(f, &packet, name, value);
    if (good && packet.size >= WIRE_PACKET_MAX)
        respond_text(f, "400 Bad Request", "Command is too long");
    else if (good)
        front_ask_bytes(f, WIRE_OBJECT, buffer_slice(&packet));
    buffer_free(&packet);
}

static void send_input(struct front *f)
{
    while (http.input.size > 0) {
        front_ask_bytes(f, WIRE_DATA, slice_head(http.input, WIRE_DATA_MAX));
        http.input = slice_from(http.input, WIRE_DATA_MAX);
    }
    front_ask_bytes(f, WIRE_DATA_END, SLICE_EMPTY);
}

static void finish_command(struct front *f, const char *error, unsigned status)
{
    json_t *tag = json_string(http.tag);
    char *quoted = json_dumps(tag, JSON_ENCODE_ANY);

    buffer_append_byte(&http.rows, http.rows.size == 0 ? '[' : ',');
    if (error != NULL)
        buffer_printf(&http.rows, "[\"error\",{\"type\":\"%s\", \"exitCode\":%u},%s]", error, status, quoted);
    else {
        buffer_append_str(&http.rows, "[\"doveadmResponse\",");
        buffer_append_slice(&http.rows, http.output.size == 0 ? SLICE("[]") : buffer_slice(&http.output));
        buffer_printf(&http.rows, ",%s]", quoted);
    }
    free(quoted);
    json_decref(tag);
    run_next(f);
}

static void http_answer(struct front *f, enum wire_answer answer, unsigned status)
{
    if (answer == WIRE_REFUSED)
        refuse(f);
    else if (answer == WIRE_ACCEPTED)
        http.state = BODY;
    else if (http.state == LISTING && answer == WIRE_STATUS)
        respond_json(f, buffer_slice(&http.output));
    else if (http.state != RUNNING || answer == WIRE_END)
        front_end(f);
    else if (answer == WIRE_WANTS_INPUT)
        send_input(f);
    else if (answer == WIRE_STATUS)
        finish_command(f, status == 0 ? NULL : "exitCode", status);
    else
        finish_command(f, answer == WIRE_UNKNOWN ? "unknownMethod" : answer == WIRE_FORBIDDEN ? "unAuthorized" : "invalidRequest", 0);
}

static void http_output(struct front *f, struct slice bytes)
{
    (void)f;
    buffer_append_slice(&http.output, bytes);
}

/* Clients of the API are not told what is logged. */
static void http_log(struct front *f, struct slice bytes)
{
    (void)f, (void)bytes;
}

/* ---- the request ------------------------------------------------------------------------------------------------------ */

static const char *parse_fault(const json_error_t *e)
{
    static char text[160];

    if (json_error_code(e) == json_error_end_of_input_expected)
        return "JSON parse error: Unexpected data at the end";
    if (json_error_code(e) == json_error_duplicate_key) {
        const char *name = strchr(e->text, '"'), *end = name == NULL ? NULL : strchr(name + 1, '"');
        (void)snprintf(text, sizeof(text), "Parameter `%.*s' is duplicated", end == NULL ? 0 : (int)(end - name - 1),
                       end == NULL ? "" : name + 1);
        return text;
    }
    return "JSON parse error: Invalid data as value";
}

static void take_body(struct front *f)
{
    json_error_t e;

    if (strcmp(http.method, "GET") == 0 && strcmp(http.path, "/") == 0) {
        respond_json(f, SLICE("[\n{\"method\":\"OPTIONS\",\"path\":\"*\"},\n{\"method\":\"GET\",\"path\":\"/\"},\n"
                              "{\"method\":\"GET\",\"path\":\"/doveadm/v1\"},\n{\"method\":\"POST\",\"path\":\"/doveadm/v1\"}\n]"));
        return;
    }
    if (strcmp(http.method, "GET") == 0) {
        http.state = LISTING;
        front_ask(f, WIRE_LIST, NULL, 0);
        return;
    }
    http.commands = json_loadb((const char *)http.body.at, http.body.size, JSON_REJECT_DUPLICATES, &e);
    if (http.commands == NULL)
        respond_text(f, "400 Bad Request", parse_fault(&e));
    else if (!json_is_array(http.commands))
        respond_text(f, "400 Bad Request", "Request must be a JSON array");
    else
        run_next(f);
}

static void check_authorization(struct front *f, struct slice value)
{
    struct slice scheme = SLICE_EMPTY, parts[2] = {SLICE_EMPTY, SLICE_EMPTY}, rest;
    struct buffer decoded = {0};
    bool basic;

    (void)slice_split(&value, ' ', &scheme);
    basic = slice_equal_str_nocase(scheme, "Basic") && front_flag(f, FRONT_FLAG_PASSWORD);
    if ((!basic && !(slice_equal_str_nocase(scheme, "X-Dovecot-API") && front_flag(f, FRONT_FLAG_KEY))) ||
        text_base64_decode(&decoded, slice_trim(value)) < 0 || slice_find(buffer_slice(&decoded), '\0') >= 0) {
        refuse(f);
        buffer_wipe(&decoded);
        return;
    }
    http.state = CHECKING;
    rest = buffer_slice(&decoded);
    if (basic) {
        (void)slice_split(&rest, ':', &parts[0]);
        parts[1] = rest;
        front_ask(f, WIRE_PLAIN, parts, 2);
    } else
        front_ask(f, WIRE_KEY, &rest, 1);
    buffer_wipe(&decoded);
}

/* Which answer needs no authentication, else what the client shows for it. */
static void begin_request(struct front *f, struct slice authorization)
{
    bool api = strcmp(http.path, "/doveadm/v1") == 0, get = strcmp(http.method, "GET") == 0;

    if (strcmp(http.method, "OPTIONS") == 0)
        respond(f, "200 OK", "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET, POST, OPTIONS\r\n"
                "Access-Control-Allow-Request-Headers: Content-Type, X-API-Key, Authorization\r\n"
                "Access-Control-Allow-Headers: Content-Type, WWW-Authenticate\r\n", SLICE_EMPTY);
    else if (!(get && (api || strcmp(http.path, "/") == 0)) && !(api && strcmp(http.method, "POST") == 0))
        respond_text(f, "404 Path Not Found", "Path Not Found");
    else
        check_authorization(f, authorization);
}

static void take_head(struct front *f)
{
    struct slice rest = buffer_slice(&http.head), line, word = SLICE_EMPTY, authorization = SLICE_EMPTY;
    uint64_t length = 0;
    bool good, proceed = false;

    good = slice_split(&rest, '\n', &line) && slice_split(&line, ' ', &word);
    http.method = mem_strndup(word);
    good = good && slice_split(&line, ' ', &word) && slice_starts(line, SLICE("HTTP/1."));
    http.path = mem_strndup(slice_head(word, (size_t)(slice_find(word, '?') < 0 ? (ptrdiff_t)word.size : slice_find(word, '?'))));
    while (good && slice_split(&rest, '\n', &line)) {
        struct slice name, value;
        if (!slice_split(&line, ':', &name))
            continue;
        value = slice_trim(line);
        if (slice_equal_str_nocase(name, "Authorization"))
            authorization = value;
        else if (slice_equal_str_nocase(name, "Content-Length"))
            good = slice_to_u64(value, &length);
        else if (slice_equal_str_nocase(name, "Transfer-Encoding"))
            good = false;
        else if (slice_equal_str_nocase(name, "Expect"))
            proceed = true;
        else if (slice_equal_str_nocase(name, "User-Agent") && http.agent == NULL)
            http.agent = mem_strndup(value);
        else if (slice_equal_str_nocase(name, "Referer") && http.referer == NULL)
            http.referer = mem_strndup(value);
    }
    http.length = (size_t)length;
    if (!good || length > BODY_MAX)
        respond_text(f, good ? "413 Payload Too Large" : "400 Bad Request", good ? "Payload Too Large" : "Bad Request");
    else {
        begin_request(f, authorization);
        if (proceed && http.state == CHECKING)
            send_out(f, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
    }
}

static void read_head(struct front *f)
{
    struct slice input = stream_input(f->stream);
    ptrdiff_t end = slice_find_slice(slice_head(input, HEAD_MAX), SLICE("\r\n\r\n"));

    if (end < 0) {
        if (input.size >= HEAD_MAX)
            front_end(f);
        return;
    }
    buffer_append(&http.head, input.at, (size_t)end);
    consume(f, (size_t)end + 4);
    take_head(f);
    buffer_wipe(&http.head);
}

static void http_input(struct front *f)
{
    struct slice piece;

    if (http.state == HEAD)
        read_head(f);
    if (http.state != BODY)
        return;
    piece = slice_head(stream_input(f->stream), http.length - http.body.size);
    buffer_append_slice(&http.body, piece);
    consume(f, piece.size);
    if (http.body.size == http.length) {
        stream_deadline(f->stream, 0);
        take_body(f);
    }
}

static void http_start(struct front *f)
{
    stream_deadline(f->stream, HEAD_SECONDS);
}

const struct front_protocol front_http = {"http", http_start, http_input, http_output, http_log, http_answer};
