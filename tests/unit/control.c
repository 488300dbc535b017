// build/tests/test_control
/* QMP and the monitor for people, on a machine without parts: what goes over the wire. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/chardev.h"
#include "machine/control.h"
#include "machine/machine.h"
#include "machine/monitor.h"

static struct options options;
static struct machine machine;
static struct monitor *monitor;

/* The client's end. */
static struct {
    struct chardev chr; /* what the monitor talks to */
    char *said;         /* what it said since the last look */
    size_t len;         /* bytes of it */
} client;

static void client_write(struct chardev *c, const u8 *buf, size_t len)
{
    (void)c;
    client.said = realloc(client.said, client.len + len + 1);
    memcpy(client.said + client.len, buf, len);
    client.len += len;
    client.said[client.len] = 0;
}

static const struct chardev_ops client_ops = {.write = client_write};

static void hear(void)
{
    free(client.said);
    client.said = strdup("");
    client.len = 0;
}

static void type_bytes(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) client.chr.front->receive(client.chr.front_opaque, (const u8 *)text + i, 1);
}

/* What is said to that, whole. */
static const char *say(const char *text)
{
    hear();
    type_bytes(text, strlen(text));
    return client.said;
}

static void setup(void)
{
    options.name = (char *)"test";
    options.ram_size = 64 << 20;
    machine.options = &options;
    machine.clock = clock_create();
    machine.loop = event_loop_create(machine.clock);
    machine.chardevs[0] = &client.chr;
    client.chr.ops = &client_ops;
    client.chr.up = true;
    hear();
}

static void teardown(void)
{
    monitor_destroy(monitor);
    cr_assert_null(machine.listeners);
    event_loop_destroy(machine.loop);
    clock_destroy(machine.clock);
    free(client.said);
}

static void start(bool qmp)
{
    struct monitor_option option = {.chardev = 0, .qmp = qmp};
    monitor = monitor_create(&machine, &option);
    cr_assert_not_null(monitor);
}

static void negotiate(void)
{
    start(true);
    cr_assert_str_eq(say("{\"execute\": \"qmp_capabilities\"}"), "{\"return\": {}}\r\n");
}

#define ERROR(class, text) "{\"error\": {\"class\": \"" class "\", \"desc\": \"" text "\"}}\r\n"

TestSuite(qmp, .init = setup, .fini = teardown, .timeout = 200);
TestSuite(monitor, .init = setup, .fini = teardown, .timeout = 200);

Test(qmp, greets_and_negotiates_first)
{
    start(true);
    cr_expect_not_null(strstr(client.said, "{\"QMP\": {\"version\": {\"qemu\": {"));
    cr_expect_str_eq(say("{\"execute\": \"query-name\"}"),
                     ERROR("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'"));
    cr_expect_not_null(strstr(say("{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}"), "\"error\""));
    cr_expect_str_eq(say("{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": []}}"), "{\"return\": {}}\r\n");
    cr_expect_str_eq(say("{\"execute\": \"qmp_capabilities\"}"),
                     ERROR("CommandNotFound", "Capabilities negotiation is already complete, command ignored"));
    cr_expect_str_eq(say("{\"execute\": \"query-name\"}"), "{\"return\": {\"name\": \"test\"}}\r\n");
}

Test(qmp, ids_come_back)
{
    negotiate();
    cr_expect_str_eq(say("{\"id\": [1, {\"a\": null}], \"execute\": \"query-name\"}"),
                     "{\"return\": {\"name\": \"test\"}, \"id\": [1, {\"a\": null}]}\r\n");
    cr_expect_str_eq(say("{\"id\": \"x\", \"execute\": \"nothing\"}"),
                     "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command nothing has not been found\"}, "
                     "\"id\": \"x\"}\r\n");
}

Test(qmp, requests_of_the_wrong_form)
{
    static const char *const cases[][2] = {
        {"[1]", "QMP input must be a JSON object"},
        {"\"x\" ", "QMP input must be a JSON object"},
        {"{}", "QMP input lacks member 'execute'"},
        {"{\"execute\": 5}", "QMP input member 'execute' must be a string"},
        {"{\"execute\": \"stop\", \"arguments\": []}", "QMP input member 'arguments' must be an object"},
        {"{\"execute\": \"stop\", \"foo\": 1}", "QMP input member 'foo' is unexpected"},
        {"{\"execute\": \"stop\", \"arguments\": {\"foo\": 1}}", "Parameter 'foo' is unexpected"},
        {"{\"execute\": \"send-key\"}", "Parameter 'keys' is missing"},
        {"{\"execute\": \"send-key\", \"arguments\": {\"keys\": 1}}",
         "Invalid parameter type for 'keys', expected: array"},
        {"{\"execute\": \"send-key\", \"arguments\": {\"keys\": [5]}}",
         "Invalid parameter type for 'keys[0]', expected: object"},
        {"{\"execute\": \"send-key\", \"arguments\": {\"keys\": [{\"type\": \"qcode\", \"data\": \"zz\"}]}}",
         "Parameter 'data' does not accept value 'zz'"},
        {"{\"execute\": \"set-action\", \"arguments\": {\"reboot\": \"set\"}}", "Parameter 'reboot' does not accept value 'set'"},
    };
    negotiate();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char want[256];
        snprintf(want, sizeof(want), ERROR("GenericError", "%s"), cases[i][1]);
        cr_expect_str_eq(say(cases[i][0]), want, "%s: %s", cases[i][0], client.said);
    }
}

Test(qmp, nonsense_is_refused_and_forgotten)
{
    static const char *const cases[] = {"{a}", "garbage\n", "}", "]", "{\"execute\": \"stop}\n", "{\"a\" 1}", "{\"a\": tru}"};
    negotiate();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cr_expect_not_null(strstr(say(cases[i]), "JSON parse error"), "%s: %s", cases[i], client.said);
        say("}\n"); /* whatever is open */
        cr_expect_str_eq(say("{\"execute\": \"query-name\"}"), "{\"return\": {\"name\": \"test\"}}\r\n", "after %s: %s", cases[i],
                         client.said);
    }
    hear();
    type_bytes("{\"execute\": \"\0\"}", 15);
    say("}\n");
    cr_expect_str_eq(say("{\"execute\": \"query-name\"}"), "{\"return\": {\"name\": \"test\"}}\r\n");
}

Test(qmp, several_requests_and_single_quotes)
{
    negotiate();
    cr_expect_str_eq(say("{'execute': 'query-name'}{\"execute\":\n\t\"query-name\", 'id': 'it\\'s \"{'}"),
                     "{\"return\": {\"name\": \"test\"}}\r\n{\"return\": {\"name\": \"test\"}, \"id\": \"it's \\\"{\"}\r\n");
}

Test(qmp, endless_input_is_bounded)
{
    negotiate();
    hear();
    type_bytes("[\"", 2);
    static char block[4096];
    memset(block, 'x', sizeof(block));
    for (int i = 0; i < 3 << 8; i++) type_bytes(block, sizeof(block)); /* 3 MiB */
    cr_expect_str_eq(say("\"]"), ERROR("GenericError", "JSON parse error, the input is too long"));
    memset(block, '[', sizeof(block));
    for (int i = 0; i < 25; i++) type_bytes(block, sizeof(block));
    memset(block, ']', sizeof(block));
    hear();
    for (int i = 0; i < 25; i++) type_bytes(block, sizeof(block));
    cr_expect_not_null(strstr(client.said, "JSON parse error"));
    cr_expect_str_eq(say("{\"execute\": \"query-name\"}"), "{\"return\": {\"name\": \"test\"}}\r\n");
}

Test(qmp, stop_and_continue_are_told)
{
    negotiate();
    cr_expect_not_null(strstr(say("{\"execute\": \"query-status\"}"), "\"running\""));
    say("{\"execute\": \"stop\"}");
    const char *event = strstr(client.said, "\"event\": \"STOP\"}\r\n"), *answer = strstr(client.said, "{\"return\": {}}");
    cr_assert(event && answer && event < answer, "%s", client.said);
    u64 now = clock_now(machine.clock);
    cr_expect_not_null(strstr(say("{\"execute\": \"query-status\"}"), "\"status\": \"paused\""));
    cr_expect_str_eq(say("{\"execute\": \"stop\"}"), "{\"return\": {}}\r\n");
    cr_expect_eq(clock_now(machine.clock), now);
    cr_expect_not_null(strstr(say("{\"execute\": \"cont\"}"), "\"event\": \"RESUME\""));
    machine.state = RUN_SHUTDOWN;
    cr_expect_str_eq(say("{\"execute\": \"cont\"}"), ERROR("GenericError", "Resetting the Virtual Machine is required"));
}

Test(qmp, a_new_client_starts_over)
{
    negotiate();
    say("{\"execute\": \"query-na");
    chardev_set_up(&client.chr, false);
    cr_expect_null(machine.listeners);
    hear();
    chardev_set_up(&client.chr, true);
    cr_expect_not_null(strstr(client.said, "{\"QMP\""));
    cr_expect_not_null(strstr(say("{\"execute\": \"query-name\"}"), "Expecting capabilities"));
}

Test(qmp, every_command_is_listed_and_checks_its_arguments)
{
    struct control_error e;
    json_t *list = control_list(), *item, *wrong = json_pack("{si}", "no such argument", 1);
    size_t i;
    cr_assert_gt(json_array_size(list), 30);
    json_array_foreach(list, i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        cr_expect_null(control_run(&machine, name, wrong, &e), "%s", name);
        cr_expect_str_eq(e.class, "GenericError");
        cr_expect(strstr(e.text, "is unexpected") || strstr(e.text, "is missing"), "%s: %s", name, e.text);
    }
    json_decref(list);
    json_decref(wrong);
}

static json_t *ask(const char *name, const char *key, const char *value)
{
    struct control_error e;
    json_t *args = key ? json_pack("{ss}", key, value) : NULL, *answer = control_run(&machine, name, args, &e);
    json_decref(args);
    return answer;
}

static json_t *named(json_t *list, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
        if (!strcmp(json_string_value(json_object_get(item, "name")), name)) return item;
    return NULL;
}

/* Every name that the schema refers to is in it. */
Test(qmp, schema_is_complete)
{
    json_t *schema = ask("query-qmp-schema", NULL, NULL), *list = control_list(), *item, *member;
    size_t i, k;
    json_array_foreach(schema, i, item) {
        static const char *const keys[] = {"arg-type", "ret-type", "element-type"};
        for (size_t n = 0; n < ARRAY_LEN(keys); n++) {
            const char *type = json_string_value(json_object_get(item, keys[n]));
            if (type) cr_expect_not_null(named(schema, type), "%s", type);
        }
        if (strcmp(json_string_value(json_object_get(item, "meta-type")), "object")) continue;
        json_array_foreach(json_object_get(item, "members"), k, member)
            cr_expect_not_null(named(schema, json_string_value(json_object_get(member, "type"))));
    }
    json_array_foreach(list, i, item) cr_expect_not_null(named(schema, json_string_value(json_object_get(item, "name"))));
    json_t *mode = named(schema, "blockdev-change-medium-arg-read-only-mode");
    cr_assert_eq(json_array_size(json_object_get(mode, "values")), 3);
    cr_expect_str_eq(json_string_value(json_array_get(json_object_get(mode, "values"), 1)), "read-only");
    json_decref(schema);
    json_decref(list);
}

Test(qmp, questions_about_the_emulator)
{
    json_t *types = ask("qom-list-types", "implements", "device"), *models = ask("query-cpu-definitions", NULL, NULL);
    cr_expect_not_null(named(types, "virtio-blk-pci"));
    cr_expect_null(named(types, "rng-random"));
    cr_expect_not_null(named(models, "qemu64"));
    json_t *option = ask("query-command-line-options", "option", "drive");
    cr_expect_eq(json_array_size(option), 1);
    cr_expect_null(ask("query-command-line-options", "option", "nosuch"));
    cr_expect_null(ask("device-list-properties", "typename", "nosuch"));
    cr_expect_null(ask("qom-list", "path", "/nosuch"));
    cr_expect_null(ask("device_add", "driver", "e1000"));
    json_decref(types);
    json_decref(models);
    json_decref(option);
}

Test(qmp, lines_for_people)
{
    negotiate();
    cr_expect_str_eq(say("{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"info name\", "
                         "\"cpu-index\": 1}}"),
                     ERROR("GenericError", "Parameter 'cpu-index' expects a CPU number"));
}

/* ---- the monitor for people ---- */

/* What a line has to say. */
static const char *run(const char *line)
{
    static char *text;
    size_t size;
    unsigned cpu = 0;
    free(text);
    FILE *out = open_memstream(&text, &size);
    monitor_run_line(&machine, line, &cpu, out);
    fclose(out);
    return text;
}

Test(monitor, runs_lines)
{
    cr_expect_str_eq(run("info name"), "test\n");
    cr_expect_str_eq(run("  info   status "), "VM status: running\n");
    cr_expect_str_eq(run("s"), "");
    cr_expect_str_eq(run("info status"), "VM status: paused\n");
    cr_expect_str_eq(run("c"), "");
    cr_expect_str_eq(run(""), "");
    cr_expect_str_eq(run("foo bar"), "unknown command: 'foo'\n");
    cr_expect_str_eq(run("info foo"), "unknown command: 'info foo'\n");
    cr_expect_str_eq(run("stop now"),
                     "stop: extraneous characters at the end of line\nTry \"help stop\" for more information\n");
    cr_expect_str_eq(run("eject"), "eject: string expected\nTry \"help eject\" for more information\n");
    cr_expect_str_eq(run("eject -f foo"), "Error: Device 'foo' not found\n");
    cr_expect_str_eq(run("set_link foo maybe"), "set_link: expected 'on' or 'off'\n");
    cr_expect_str_eq(run("system_wakeup"), "Error: Unable to wake up: guest is not in suspended state\n");
    cr_expect_str_eq(run("sendkey ctrl-nokey"), "invalid parameter: nokey\n");
}

Test(monitor, calculates)
{
    cr_expect_str_eq(run("print 2 + 3 * (4 - 1)"), "11\n");
    cr_expect_str_eq(run("p/x 0x10|3"), "0x13\n");
    cr_expect_str_eq(run("p -5"), "-5\n");
    cr_expect_str_eq(run("p/c 'A'"), "'A'\n");
    cr_expect_str_eq(run("p 1/0"), "division by zero\n");
    cr_expect_str_eq(run("p 0x8000000000000000/-1"), "0\n");
    cr_expect_str_eq(run("p (1"), "')' expected\n");
    cr_expect_str_eq(run("p"), "unexpected end of expression\n");
    char deep[400];
    memset(deep, '(', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = 0;
    memcpy(deep, "p ", 2);
    cr_expect_str_eq(run(deep), "expression too deep\n");
}

Test(monitor, completes)
{
    const char *names[64];
    cr_assert_eq(monitor_complete("system_p", names, ARRAY_LEN(names)), 1);
    cr_expect_str_eq(names[0], "system_powerdown");
    cr_expect_eq(monitor_complete("system_", names, ARRAY_LEN(names)), 3);
    cr_assert_eq(monitor_complete("info regi", names, ARRAY_LEN(names)), 1);
    cr_expect_str_eq(names[0], "registers");
    cr_expect_eq(monitor_complete("eject x", names, ARRAY_LEN(names)), 0);
}

/* What is left of the line after these keys: run as a command, it appears in the complaint. */
static void edit(const char *keys, const char *line)
{
    char want[128];
    say(keys);
    snprintf(want, sizeof(want), "unknown command: '%s'\r\n", line);
    cr_expect_not_null(strstr(client.said, want), "%s: %s", line, client.said);
}

Test(monitor, edits_lines)
{
    start(false);
    cr_expect_not_null(strstr(client.said, "type 'help'"));
    edit("xyzzy\r", "xyzzy");
    edit("xyw\x7fzzy\r", "xyzzy");
    edit("yzzy\x01x\r", "xyzzy");
    edit("xzzy\x1b[D\x1b[D\x1b[Dy\r", "xyzzy");
    edit("foo bar\x15xyzzy\r", "xyzzy");
    edit("foo\x17xyzzy\r", "xyzzy");
    edit("xyzzy!\x1b[D\x1b[3~\r", "xyzzy");
    edit("xyzzyfoo\x02\x02\x02\x0b\r", "xyzzy");
    edit("plugh\r\n", "plugh");
    edit("\x1b[A\x1b[A\r", "xyzzy");
    say("info ve\t\r");
    cr_expect_not_null(strstr(client.said, "Calque"), "%s", client.said);
    hear();
    for (int i = 0; i < 5000; i++) type_bytes("a", 1);
    cr_expect_not_null(strstr(say("\r"), "unknown command"));
    type_bytes("\x1b[99999999999999999999~\x1bO\x1b[;", 27);
}
