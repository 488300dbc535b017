/* The command table: look-up, arguments, events. */
#include "machine/control.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "machine/machine.h"

static const struct control_command *const tables[] = {control_vm,      control_block, control_nodes,
                                                       control_devices, control_input, control_probe};

json_t *control_fail(struct control_error *e, const char *class, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    e->class = class;
    vsnprintf(e->text, sizeof(e->text), format, ap);
    va_end(ap);
    return NULL;
}

/* ---- arguments ---- */

struct parameter {
    const char *name; /* not terminated */
    int name_len;     /* characters of it */
    const char *type; /* see struct control_command, not terminated */
    int type_len;     /* characters of it */
    bool optional;    /* it may be missing */
};

/* The next of a schema; false: no more. */
static bool next_parameter(const char **schema, struct parameter *p)
{
    const char *s = *schema + strspn(*schema, " ");
    if (!*s || *s == '.') return false;
    p->name = s;
    p->name_len = (int)strcspn(s, ":");
    p->type = s + p->name_len + 1;
    p->type_len = (int)strcspn(p->type, "? ");
    p->optional = p->type[p->type_len] == '?';
    *schema = p->type + p->type_len + p->optional;
    return true;
}

static bool in_enumeration(const struct parameter *p, const char *value)
{
    size_t len = strlen(value);
    for (const char *at = p->type, *end = at + p->type_len; at < end;) {
        size_t n = strcspn(at, "|? ");
        if (n == len && !memcmp(at, value, n)) return true;
        at += n + 1;
    }
    return false;
}

static bool check_value(const struct parameter *p, json_t *value, struct control_error *e)
{
    const char *expected = "string";
    bool ok = json_is_string(value);
    if (p->type_len == 1) {
        switch (*p->type) {
        case 'i': ok = json_is_integer(value), expected = "integer"; break;
        case 'n': ok = json_is_number(value), expected = "number"; break;
        case 'b': ok = json_is_boolean(value), expected = "boolean"; break;
        case 'o': ok = json_is_object(value), expected = "object"; break;
        case 'a': ok = json_is_array(value), expected = "array"; break;
        case '*': ok = true; break;
        default: break;
        }
    }
    if (!ok)
        control_fail(e, ERROR_GENERIC, "Invalid parameter type for '%.*s', expected: %s", p->name_len, p->name, expected);
    else if (p->type_len > 1 && !in_enumeration(p, json_string_value(value)))
        control_fail(e, ERROR_GENERIC, "Parameter '%.*s' does not accept value '%.200s'", p->name_len, p->name,
                     json_string_value(value));
    return !e->class;
}

bool control_check(const char *schema, json_t *args, struct control_error *e)
{
    struct parameter p;
    size_t known = 0;
    for (const char *at = schema; next_parameter(&at, &p);) {
        json_t *value = json_object_getn(args, p.name, (size_t)p.name_len);
        if (!value && !p.optional)
            control_fail(e, ERROR_GENERIC, "Parameter '%.*s' is missing", p.name_len, p.name);
        if (value) check_value(&p, value, e);
        if (e->class) return false;
        known += value != NULL;
    }
    if (known == json_object_size(args) || strstr(schema, "...")) return true;
    const char *key;
    json_t *value;
    json_object_foreach(args, key, value) {
        bool found = false;
        for (const char *at = schema; !found && next_parameter(&at, &p);)
            found = strlen(key) == (size_t)p.name_len && !memcmp(key, p.name, (size_t)p.name_len);
        if (!found) control_fail(e, ERROR_GENERIC, "Parameter '%.200s' is unexpected", key);
    }
    return false;
}

/* ---- commands ---- */

json_t *control_run(struct machine *m, const char *name, json_t *args, struct control_error *e)
{
    e->class = NULL;
    for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
        for (const struct control_command *c = tables[t]; c->name; c++) {
            if (strcmp(c->name, name)) continue;
            json_t *given = args ? json_incref(args) : json_object();
            json_t *result = control_check(c->args, given, e) ? c->run(m, given, e) : NULL;
            json_decref(given);
            if (!result && !e->class) control_fail(e, ERROR_GENERIC, "Out of memory");
            return result;
        }
    }
    return control_fail(e, ERROR_COMMAND, "The command %.200s has not been found", name);
}

json_t *control_list(void)
{
    json_t *list = json_array();
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (const struct control_command *c = tables[t]; c->name; c++)
            json_array_append_new(list, json_pack("{ss}", "name", c->name));
    return list;
}

/* ---- the schema: entities that refer to each other by name ---- */

/* The name of a parameter's type, which is added to the list if it is an enumeration. */
static json_t *type_of(json_t *list, const struct parameter *p, const char *object)
{
    static const struct {
        char letter;      /* as in the table */
        const char *name; /* as in the schema */
    } types[] = {{'i', "int"}, {'n', "number"}, {'b', "bool"}, {'a', "[any]"}, {'s', "str"}};
    if (p->type_len == 1) {
        for (size_t i = 0; i < ARRAY_LEN(types); i++)
            if (types[i].letter == *p->type) return json_string(types[i].name);
        return json_string("any");
    }
    json_t *name = json_sprintf("%s-%.*s", object, p->name_len, p->name), *members = json_array(), *values = json_array();
    for (const char *at = p->type, *end = at + p->type_len; at < end;) {
        size_t n = strcspn(at, "|? ");
        json_array_append_new(members, json_pack("{ss%}", "name", at, n));
        json_array_append_new(values, json_stringn(at, n));
        at += n + 1;
    }
    json_array_append_new(list, json_pack("{sssOsoso}", "meta-type", "enum", "name", name, "members", members, "values", values));
    return name;
}

json_t *control_schema(void)
{
    static const char *const builtins[][2] = {{"str", "string"}, {"int", "int"}, {"number", "number"}, {"bool", "boolean"},
                                              {"any", "value"}};
    static const char *const events[] = {"BLOCK_IO_ERROR", "DEVICE_TRAY_MOVED", "POWERDOWN", "RESET", "RESUME", "RTC_CHANGE",
                                         "SHUTDOWN", "STOP"};
    json_t *list = json_array();
    for (size_t i = 0; i < ARRAY_LEN(builtins); i++)
        json_array_append_new(list, json_pack("{ssssss}", "meta-type", "builtin", "name", builtins[i][0], "json-type",
                                              builtins[i][1]));
    json_array_append_new(list, json_pack("{ssssss}", "meta-type", "array", "name", "[any]", "element-type", "any"));
    json_array_append_new(list, json_pack("{sssss[]}", "meta-type", "object", "name", "event", "members"));
    for (size_t i = 0; i < ARRAY_LEN(events); i++)
        json_array_append_new(list, json_pack("{ssssss}", "meta-type", "event", "name", events[i], "arg-type", "event"));
    for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
        for (const struct control_command *c = tables[t]; c->name; c++) {
            char object[80];
            struct parameter p;
            json_t *members = json_array();
            snprintf(object, sizeof(object), "%s-arg", c->name);
            for (const char *at = c->args; next_parameter(&at, &p);) {
                json_t *member = json_pack("{ss%so}", "name", p.name, (size_t)p.name_len, "type", type_of(list, &p, object));
                if (p.optional) json_object_set_new(member, "default", json_null());
                json_array_append_new(members, member);
            }
            json_array_append_new(list, json_pack("{sssssssssb}", "meta-type", "command", "name", c->name, "arg-type", object,
                                                  "ret-type", "any", "allow-oob", false));
            json_array_append_new(list, json_pack("{ssssso}", "meta-type", "object", "name", object, "members", members));
        }
    }
    return list;
}

/* ---- events ---- */

void control_listen(struct machine *m, struct control_listener *l)
{
    l->next = m->listeners;
    m->listeners = l;
}

void control_unlisten(struct machine *m, struct control_listener *l)
{
    struct control_listener **at = &m->listeners;
    while (*at && *at != l) at = &(*at)->next;
    if (*at) *at = l->next;
}

void control_event(struct machine *m, const char *name, json_t *data)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    json_t *event = json_pack("{s{sIsI}ss}", "timestamp", "seconds", (json_int_t)now.tv_sec, "microseconds",
                              (json_int_t)now.tv_nsec / 1000, "event", name);
    if (data) json_object_set_new(event, "data", data);
    for (struct control_listener *l = m->listeners; l; l = l->next) l->event(l->opaque, event);
    json_decref(event);
}

void control_event_cause(struct machine *m, const char *name, const char *cause)
{
    control_event(m, name, json_pack("{sbss}", "guest", !strncmp(cause, "guest-", 6), "reason", cause));
}

void control_clock_set(void *machine, s64 seconds)
{
    struct machine *m = machine;
    control_event(m, "RTC_CHANGE", json_pack("{sIss}", "offset", (json_int_t)(seconds - clock_wall(m->clock, NULL)), "qom-path",
                                             "/machine/rtc"));
}
