/* QMP, the protocol for programs: JSON objects both ways, on any character back end.
 *
 * A client that does not read its answers gets no further commands executed and loses events; it never makes the machine
 * wait. Input is bounded: an object of more than a mebibyte is refused and skipped.
 * DEVIATION: out-of-band commands are not offered. As in QEMU, strings may be in single quotes. */
#include "machine/monitor.h"

#include <stdlib.h>
#include <string.h>

#include "core/chardev.h"
#include "machine/control.h"
#include "machine/machine.h"
#include "machine/version.h"

#define INPUT_MAX  (1u << 20)
#define ANSWER_MAX (1u << 19) /* fits, besides events, when nothing waits in the back end */

struct qmp {
    struct monitor mon;              /* must stay first */
    struct machine *machine;         /* what it controls */
    struct chardev *chr;             /* the client */
    struct control_listener listener; /* for events; on the machine's list when negotiated */
    size_t style;                    /* jansson's JSON_*: how answers look */
    bool negotiated;                 /* qmp_capabilities was executed */

    /* One JSON value at a time is cut out of the input by its brackets. */
    char *buf;        /* it, as far as it came */
    size_t len, room; /* bytes used, and allocated */
    int depth;        /* brackets that are open */
    char quote;       /* inside a string: its quotation mark, else 0 */
    bool escaped;     /* in it, behind a backslash */
    bool too_long;    /* it is being skipped */
};

/* ---- output ---- */

static void send_text(struct qmp *q, json_t *message)
{
    char *text = json_dumps(message, q->style);
    size_t len = text ? strlen(text) : 0;
    if (len > ANSWER_MAX - 2) len = 0;
    char *line = len ? malloc(len + 3) : NULL;
    if (line) {
        memcpy(line, text, len);
        memcpy(line + len, "\r\n", 3);
        chardev_write(q->chr, (const u8 *)line, len + 2);
    } else {
        static const char refusal[] = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"The answer is too long\"}}\r\n";
        chardev_write(q->chr, (const u8 *)refusal, sizeof(refusal) - 1);
    }
    free(line);
    free(text);
}

static void send_message(struct qmp *q, json_t *message)
{
    if (message) send_text(q, message);
    json_decref(message);
}

static void on_event(void *opaque, json_t *event) { send_text(opaque, event); }

static json_t *error_object(const struct control_error *e)
{
    return json_pack("{s{ssss}}", "error", "class", e->class, "desc", e->text);
}

static void greet(struct qmp *q)
{
    struct control_error e;
    send_message(q, json_pack("{s{soso}}", "QMP", "version", control_run(q->machine, "query-version", NULL, &e),
                              "capabilities", json_array()));
}

/* ---- commands ---- */

static json_t *execute(struct qmp *q, const char *name, json_t *args, struct control_error *e)
{
    e->class = NULL;
    if (!q->negotiated) {
        if (strcmp(name, "qmp_capabilities"))
            return control_fail(e, ERROR_COMMAND, "Expecting capabilities negotiation with 'qmp_capabilities'");
        if (args && !control_check("enable:a?", args, e)) return NULL;
        json_t *enable = json_object_get(args, "enable");
        if (json_array_size(enable)) {
            const char *wanted = json_string_value(json_array_get(enable, 0));
            return control_fail(e, ERROR_GENERIC, "Capability '%.100s' is not available", wanted ? wanted : "");
        }
        q->negotiated = true;
        control_listen(q->machine, &q->listener);
        return json_object();
    }
    return control_run(q->machine, name, args, e);
}

static json_t *check_request(json_t *request, struct control_error *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(request)) return control_fail(e, ERROR_GENERIC, "QMP input must be a JSON object");
    json_object_foreach(request, key, value) {
        if (!strcmp(key, "execute")) {
            if (!json_is_string(value))
                return control_fail(e, ERROR_GENERIC, "QMP input member 'execute' must be a string");
        } else if (!strcmp(key, "arguments")) {
            if (!json_is_object(value))
                return control_fail(e, ERROR_GENERIC, "QMP input member 'arguments' must be an object");
        } else if (strcmp(key, "id")) {
            return control_fail(e, ERROR_GENERIC, "QMP input member '%.200s' is unexpected", key);
        }
    }
    value = json_object_get(request, "execute");
    return value ? value : control_fail(e, ERROR_GENERIC, "QMP input lacks member 'execute'");
}

static void handle(struct qmp *q)
{
    struct control_error e = {0};
    json_error_t where;
    json_t *request = json_loadb(q->buf, q->len, JSON_DECODE_ANY, &where), *result = NULL;
    if (!request) {
        control_fail(&e, ERROR_GENERIC, "JSON parse error, %s", where.text);
    } else {
        json_t *name = check_request(request, &e);
        if (name) result = execute(q, json_string_value(name), json_object_get(request, "arguments"), &e);
    }
    json_t *answer = result ? json_pack("{so}", "return", result) : error_object(&e);
    json_t *id = json_is_object(request) ? json_object_get(request, "id") : NULL;
    if (answer && id) json_object_set(answer, "id", id);
    send_message(q, answer);
    json_decref(request);
}

/* ---- input ---- */

static void restart(struct qmp *q)
{
    q->len = 0;
    q->depth = 0;
    q->quote = 0;
    q->escaped = q->too_long = false;
}

static void store(struct qmp *q, char c)
{
    if (q->len == q->room) {
        size_t room = q->room ? 2 * q->room : 1024;
        char *buf = room <= INPUT_MAX ? realloc(q->buf, room) : NULL;
        if (!buf) {
            q->too_long = true;
            return;
        }
        q->buf = buf;
        q->room = room;
    }
    q->buf[q->len++] = c;
}

static void finish(struct qmp *q)
{
    if (q->too_long) {
        struct control_error e;
        control_fail(&e, ERROR_GENERIC, "JSON parse error, the input is too long");
        send_message(q, error_object(&e));
    } else if (q->len) {
        handle(q);
    }
    restart(q);
}

/* A character inside a string; what is in single quotes is turned into double ones. */
static void string_char(struct qmp *q, char c)
{
    if (q->escaped) {
        q->escaped = false;
        if (c == '\'') q->len--; /* no escape in double quotes */
        store(q, c);
    } else if (c == q->quote) {
        q->quote = 0;
        store(q, '"');
    } else {
        q->escaped = c == '\\';
        if (c == '"') store(q, '\\');
        store(q, c);
    }
}

static void take(struct qmp *q, char c)
{
    bool blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';
    if (q->quote && (u8)c >= ' ') {
        if (!q->too_long) {
            string_char(q, c);
        } else if (q->escaped) {
            q->escaped = false;
        } else if (c == q->quote) {
            q->quote = 0;
        } else {
            q->escaped = c == '\\';
        }
    } else if (q->quote || (q->depth == 0 && blank)) {
        /* A bare word, or a string that has no end on its line. */
        if (q->quote && !q->too_long) store(q, c);
        finish(q);
    } else if (c == '"' || c == '\'') {
        q->quote = c;
        if (!q->too_long) store(q, '"');
    } else {
        bool open = c == '{' || c == '[';
        if (open && q->depth == 0 && q->len) finish(q);
        if (!q->too_long) store(q, c);
        if (open) q->depth++;
        if (c == '}' || c == ']') q->depth--;
        if (q->depth <= 0 && !open && (c == '}' || c == ']')) finish(q);
    }
}

static size_t can_receive(void *opaque)
{
    (void)opaque;
    return SIZE_MAX;
}

static void receive(void *opaque, const u8 *buf, size_t len)
{
    for (size_t i = 0; i < len; i++) take(opaque, (char)buf[i]);
}

static void connected(void *opaque, bool up)
{
    struct qmp *q = opaque;
    restart(q);
    if (q->negotiated) control_unlisten(q->machine, &q->listener);
    q->negotiated = false;
    if (up) greet(q);
}

static const struct chardev_front front = {.can_receive = can_receive, .receive = receive, .connected = connected};

/* ---- life ---- */

static void destroy(struct monitor *mon)
{
    struct qmp *q = (struct qmp *)mon;
    if (q->negotiated) control_unlisten(q->machine, &q->listener);
    free(q->buf);
    free(q);
}

struct monitor *qmp_create(struct machine *m, struct chardev *chr, bool pretty)
{
    struct qmp *q = calloc(1, sizeof(*q));
    if (!q) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    q->mon.destroy = destroy;
    q->machine = m;
    q->chr = chr;
    q->listener = (struct control_listener){.event = on_event, .opaque = q};
    q->style = JSON_ENSURE_ASCII | (pretty ? JSON_INDENT(4) : 0);
    chr->lossy = true;
    chardev_attach(chr, &front, q);
    return &q->mon;
}
