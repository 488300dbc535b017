/* The monitor's commands: most are commands of control.h with their arguments typed one after another. */
#include "machine/monitor_commands.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/input.h"
#include "core/log.h"
#include "machine/control.h"
#include "machine/monitor.h"

json_t *hmp_control(struct hmp *h, const char *name, json_t *args)
{
    struct control_error e;
    json_t *result = control_run(h->m, name, args, &e);
    json_decref(args);
    if (!result) fprintf(h->out, "Error: %s\n", e.text);
    return result;
}

static void run_control(struct hmp *h, const char *name, json_t *args) { json_decref(hmp_control(h, name, args)); }

static const char *text_of(json_t *args, const char *key) { return json_string_value(json_object_get(args, key)); }
static s64 number_of(json_t *args, const char *key) { return json_integer_value(json_object_get(args, key)); }

/* ---- commands with something of their own ---- */

static hmp_handler cmd_help;

static void cmd_cpu(struct hmp *h, json_t *args)
{
    s64 index = number_of(args, "index");
    if (index < 0 || index >= h->m->options->cpus)
        fprintf(h->out, "Error: invalid CPU index\n");
    else
        *h->cpu = (unsigned)index;
}

/* "ctrl-alt-f1", "0x1d-a" */
static void cmd_sendkey(struct hmp *h, json_t *args)
{
    json_t *keys = json_array(), *request = json_object();
    for (const char *at = text_of(args, "keys"); *at;) {
        size_t n = strcspn(at, "-");
        char name[32];
        char *end;
        snprintf(name, sizeof(name), "%.*s", (int)n, at);
        if (!strcmp(name, "<")) strcpy(name, "less");
        long code = strtol(name, &end, 0);
        bool number = strlen(name) > 1 && isdigit((unsigned char)*name) && !*end;
        json_array_append_new(keys, number ? json_pack("{sssi}", "type", "number", "data", (int)code)
                                           : json_pack("{ssss}", "type", "qcode", "data", name));
        if (!number && input_key_by_name(name) == INPUT_KEY_unmapped) {
            fprintf(h->out, "invalid parameter: %s\n", name);
            json_decref(keys);
            json_decref(request);
            return;
        }
        at += n + (at[n] != 0);
    }
    json_object_set_new(request, "keys", keys);
    json_object_set(request, "hold-time", json_object_get(args, "hold_time"));
    run_control(h, "send-key", request);
}

static void cmd_mouse_move(struct hmp *h, json_t *args)
{
    char *end;
    int dx = (int)strtol(text_of(args, "dx_str"), &end, 0), dy = (int)strtol(text_of(args, "dy_str"), &end, 0);
    const char *dz = text_of(args, "dz_str");
    int wheel = dz ? (int)strtol(dz, &end, 0) : 0;
    input_move_by(h->m->input, dx, dy);
    enum input_button button = wheel > 0 ? INPUT_BUTTON_wheel_up : INPUT_BUTTON_wheel_down;
    for (int i = 0; i < MIN(abs(wheel), 100); i++) {
        input_button(h->m->input, button, true);
        input_button(h->m->input, button, false);
    }
    input_sync(h->m->input);
}

static void cmd_mouse_button(struct hmp *h, json_t *args)
{
    static const enum input_button buttons[] = {INPUT_BUTTON_left, INPUT_BUTTON_right, INPUT_BUTTON_middle};
    s64 state = number_of(args, "button_state");
    for (size_t i = 0; i < ARRAY_LEN(buttons); i++) input_button(h->m->input, buttons[i], state >> i & 1);
    input_sync(h->m->input);
}

static void cmd_screendump(struct hmp *h, json_t *args)
{
    json_t *request = json_deep_copy(args);
    if (json_object_get(args, "flag")) json_object_del(request, "flag");
    run_control(h, "screendump", request);
}

static void cmd_change(struct hmp *h, json_t *args)
{
    const char *device = text_of(args, "device"), *target = text_of(args, "target");
    if (!strcmp(device, "vnc") && (!strcmp(target, "password") || !strcmp(target, "passwd"))) {
        const char *password = text_of(args, "arg");
        if (!password)
            fprintf(h->out, "Error: the password is missing: change vnc password PASSWORD\n");
        else
            run_control(h, "change-vnc-password", json_pack("{ss}", "password", password));
        return;
    }
    json_t *request = json_pack("{ssss}", "device", device, "filename", target);
    if (text_of(args, "arg")) json_object_set(request, "format", json_object_get(args, "arg"));
    if (text_of(args, "mode")) json_object_set(request, "read-only-mode", json_object_get(args, "mode"));
    if (json_object_get(args, "force")) json_object_set(request, "force", json_object_get(args, "force"));
    run_control(h, "blockdev-change-medium", request);
}

static void cmd_set_password(struct hmp *h, json_t *args)
{
    json_t *request = json_pack("{ssss}", "protocol", text_of(args, "protocol"), "password", text_of(args, "password"));
    run_control(h, "set_password", request);
}

static void cmd_log(struct hmp *h, json_t *args)
{
    const char *items = text_of(args, "items");
    u32 mask = 0;
    if (strcmp(items, "none") && (strstr(items, "help") || log_parse(items, &mask, NULL)))
        fprintf(h->out, "unknown log item; -d help lists them\n");
    else
        log_mask = mask;
}

static void cmd_logfile(struct hmp *h, json_t *args)
{
    if (log_open(text_of(args, "filename"))) fprintf(h->out, "Error: cannot open %s\n", text_of(args, "filename"));
}

static void cmd_set_link(struct hmp *h, json_t *args)
{
    const char *name = text_of(args, "name");
    for (int i = 0; i < h->m->options->net_count; i++) {
        if (strcmp(h->m->options->nets[i].id, name)) continue;
        netdev_set_link(h->m->nets[i], json_is_true(json_object_get(args, "up")));
        return;
    }
    fprintf(h->out, "Error: Device '%s' not found\n", name);
}

static void cmd_not_there(struct hmp *h, json_t *args)
{
    (void)args;
    fprintf(h->out, "Error: this is not supported\n");
}

/* `info` alone. */
static void cmd_info(struct hmp *h, json_t *args)
{
    (void)args;
    for (const struct hmp_command *c = hmp_info; c->name; c++)
        fprintf(h->out, "info %s %s -- %s\n", c->name, c->params, c->help);
}

/* ---- the table ---- */

static const struct hmp_command commands[] = {
    {"help", "name:s?", "[cmd]", "show the help", .run = cmd_help, .alias = "?"},
    {"change", "-f:force device:s target:s arg:s? mode:s?", "[-f] device filename [format [read-only-mode]]",
     "put another disc into a drive; change vnc password PASSWORD", .run = cmd_change},
    {"commit", "device:s", "device|all", "not supported", .run = cmd_not_there},
    {"cont", "", "", "let the machine go on", .control = "cont", .alias = "c"},
    {"cpu", "index:i", "index", "choose the CPU that other commands look at", .run = cmd_cpu},
    {"expire_password", "protocol:s time:s", "vnc now|never", "end a password's validity", .control = "expire_password"},
    {"eject", "-f:force device:s", "[-f] device", "take the disc out of a drive (-f: though the guest has locked it)",
     .control = "eject"},
    {"gva2gpa", "addr:i", "addr", "show the physical address of a linear one", .run = hmp_gva2gpa, .park = true},
    {"i", "fmt:/ addr:i index:i?", "/fmt addr", "read a port", .run = hmp_in},
    {"info", "item:s?", "[subcommand]", "show various things", .run = cmd_info},
    {"log", "items:s", "item1[,...]", "log these, or none", .run = cmd_log},
    {"logfile", "filename:s", "filename", "log to that file", .run = cmd_logfile},
    {"memsave", "val:i size:i filename:s", "addr size file", "write linear memory to a file", .control = "memsave"},
    {"mouse_button", "button_state:i", "state", "press mouse buttons (1 left, 2 right, 4 middle)", .run = cmd_mouse_button},
    {"mouse_move", "dx_str:s dy_str:s dz_str:s?", "dx dy [dz]", "move the mouse", .run = cmd_mouse_move},
    {"nmi", "", "", "send all CPUs an NMI", .control = "inject-nmi"},
    {"o", "fmt:/ addr:i val:i", "/fmt addr value", "write a port", .run = hmp_out},
    {"pmemsave", "val:i size:i filename:s", "addr size file", "write physical memory to a file", .control = "pmemsave"},
    {"print", "fmt:/ val:i", "/fmt expr", "print an expression ($reg for registers)", .run = hmp_print, .park = true, .alias = "p"},
    {"quit", "", "", "end the machine", .control = "quit", .alias = "q"},
    {"screendump", "filename:s -f:flag format:s?", "filename [-f format]", "save the screen (png or ppm)",
     .run = cmd_screendump},
    {"sendkey", "keys:s hold_time:i?", "keys [hold_ms]", "press keys (as in 'sendkey ctrl-alt-f1')", .run = cmd_sendkey},
    {"set_link", "name:s up:b", "name on|off", "plug a network's cable in or out", .run = cmd_set_link},
    {"set_password", "protocol:s password:s", "vnc password", "set the password that VNC clients must know",
     .run = cmd_set_password},
    {"stop", "", "", "stop the machine", .control = "stop", .alias = "s"},
    {"sum", "start:i size:i", "addr size", "show the checksum of physical memory", .run = hmp_sum},
    {"system_powerdown", "", "", "press the power button", .control = "system_powerdown"},
    {"system_reset", "", "", "reset the machine", .control = "system_reset"},
    {"system_wakeup", "", "", "wake it up from suspend", .control = "system_wakeup"},
    {"x", "fmt:/ addr:i", "/fmt addr", "show linear memory (/4xw: as words; /10i: as instructions)", .run = hmp_x, .park = true},
    {"xp", "fmt:/ addr:i", "/fmt addr", "show physical memory", .run = hmp_xp},
    {0},
};

static bool called(const struct hmp_command *c, const char *word, size_t len)
{
    return (strlen(c->name) == len && !memcmp(c->name, word, len)) ||
           (c->alias && strlen(c->alias) == len && !memcmp(c->alias, word, len));
}

static const struct hmp_command *find(const struct hmp_command *table, const char *word, size_t len)
{
    for (const struct hmp_command *c = table; c->name; c++)
        if (called(c, word, len)) return c;
    return NULL;
}

static void cmd_help(struct hmp *h, json_t *args)
{
    const char *name = text_of(args, "name");
    if (name && !strcmp(name, "info")) {
        cmd_info(h, args);
        return;
    }
    for (const struct hmp_command *c = commands; c->name; c++)
        if (!name || called(c, name, strlen(name)))
            fprintf(h->out, "%s%s%s %s -- %s\n", c->name, c->alias ? "|" : "", c->alias ? c->alias : "", c->params, c->help);
}

/* ---- arguments ---- */

struct typed {
    struct hmp *h;    /* for messages and registers */
    const char *name; /* the command's */
    const char *at;   /* what is left of the line */
};

static void skip_blanks(struct typed *t)
{
    while (isspace((unsigned char)*t->at)) t->at++;
}

/* A word, or text in double quotes with \ for special characters. NULL: none. */
static json_t *word(struct typed *t)
{
    char buf[1024];
    size_t n = 0;
    bool quoted = *t->at == '"';
    if (quoted) t->at++;
    while (*t->at && (quoted ? *t->at != '"' : !isspace((unsigned char)*t->at))) {
        char c = *t->at++;
        if (quoted && c == '\\' && *t->at) {
            c = *t->at++;
            if (c == 'n') c = '\n';
            if (c == 'r') c = '\r';
        }
        if (n < sizeof(buf)) buf[n++] = c;
    }
    if (quoted && *t->at == '"') t->at++;
    return n || quoted ? json_stringn(buf, n) : NULL;
}

/* "/10xw": count, format, size. */
static void format(struct typed *t, json_t *args)
{
    char *end;
    if (*t->at != '/') return;
    t->at++;
    if (isdigit((unsigned char)*t->at)) {
        json_object_set_new(args, "count", json_integer((json_int_t)strtoul(t->at, &end, 10)));
        t->at = end;
    }
    for (; *t->at && !isspace((unsigned char)*t->at); t->at++) {
        static const char sizes[] = "bhwg";
        const char *size = strchr(sizes, *t->at);
        if (size)
            json_object_set_new(args, "size", json_integer(1 << (size - sizes)));
        else
            json_object_set_new(args, "format", json_integer(*t->at));
    }
}

/* One argument. False: a message was printed. */
static bool argument(struct typed *t, const char *key, const char *type, bool optional, json_t *args)
{
    json_t *v = NULL;
    s64 number;
    skip_blanks(t);
    switch (*type) {
    case '/': format(t, args); return true;
    case 'i':
        if (!*t->at && optional) return true;
        if (!hmp_expression(t->h, &t->at, &number)) return false;
        v = json_integer(number);
        break;
    case 'b': {
        v = word(t);
        const char *s = json_string_value(v);
        bool on = s && !strcmp(s, "on"), known = on || (s && !strcmp(s, "off"));
        json_decref(v);
        if (!known) {
            fprintf(t->h->out, "%s: expected 'on' or 'off'\n", t->name);
            return false;
        }
        v = json_boolean(on);
        break;
    }
    default: v = word(t); break;
    }
    if (v) json_object_set_new(args, key, v);
    if (!v && !optional) fprintf(t->h->out, "%s: string expected\nTry \"help %s\" for more information\n", t->name, t->name);
    return v || optional;
}

/* All of them, as the specification says. NULL: a message was printed. */
static json_t *arguments(struct typed *t, const char *spec)
{
    json_t *args = json_object();
    bool ok = true;
    while (ok && *spec) {
        char key[32];
        int n = (int)strcspn(spec, ":"), end = (int)strcspn(spec, " ");
        const char *type = spec + n + 1;
        skip_blanks(t);
        if (*spec == '-') {
            if (!strncmp(t->at, spec, (size_t)n) && (!t->at[n] || isspace((unsigned char)t->at[n]))) {
                snprintf(key, sizeof(key), "%.*s", end - n - 1, type);
                json_object_set_new(args, key, json_true());
                t->at += n;
            }
        } else {
            snprintf(key, sizeof(key), "%.*s", n, spec);
            ok = argument(t, key, type, spec[end - 1] == '?', args);
        }
        spec += end;
        spec += strspn(spec, " ");
    }
    skip_blanks(t);
    if (ok && *t->at) {
        fprintf(t->h->out, "%s: extraneous characters at the end of line\nTry \"help %s\" for more information\n", t->name,
                t->name);
        ok = false;
    }
    if (ok) return args;
    json_decref(args);
    return NULL;
}

void monitor_run_line(struct machine *m, const char *line, unsigned *cpu, FILE *out)
{
    struct hmp h = {.m = m, .cpu = cpu, .out = out};
    struct typed t = {.h = &h, .at = line};
    char name[64];
    skip_blanks(&t);
    if (!*t.at || *t.at == '#') return;
    size_t n = strcspn(t.at, "/ \t");
    const struct hmp_command *c = find(commands, t.at, n);
    snprintf(name, sizeof(name), "%.*s", (int)n, t.at);
    if (c && !strcmp(c->name, "info")) {
        const char *behind = t.at + n + strspn(t.at + n, " \t");
        size_t k = strcspn(behind, " \t");
        if (k) {
            c = find(hmp_info, behind, k);
            n = (size_t)(behind - t.at) + k;
            snprintf(name, sizeof(name), "info %.*s", (int)MIN(k, sizeof(name) - 6), behind);
        }
    }
    if (!c) {
        fprintf(out, "unknown command: '%s'\n", name);
        return;
    }
    t.name = name;
    t.at += n;
    /* Expressions name registers, so the CPUs stand still from here on. */
    bool parked = c->park && machine_park(m);
    json_t *args = arguments(&t, c->args);
    if (args && c->run)
        c->run(&h, args);
    else if (args)
        run_control(&h, c->control, json_incref(args));
    json_decref(args);
    if (parked) machine_unpark(m);
}

size_t monitor_complete(const char *line, const char **matches, size_t room)
{
    const struct hmp_command *table = commands;
    size_t n = 0;
    line += strspn(line, " ");
    if (!strncmp(line, "info ", 5)) {
        table = hmp_info;
        line += 5 + strspn(line + 5, " ");
    } else if (!strncmp(line, "help ", 5)) {
        line += 5;
    }
    if (strchr(line, ' ')) return 0;
    for (; table->name && n < room; table++)
        if (!strncmp(table->name, line, strlen(line))) matches[n++] = table->name;
    return n;
}
