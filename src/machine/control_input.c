/* Commands about the screen, keyboard and pointer. */
#include "machine/control.h"

#include <errno.h>
#include <string.h>

#include "core/display.h"
#include "core/input.h"
#include "host/png.h"
#include "host/ppm.h"
#include "machine/machine.h"

#define KEYS_MAX     16  /* of a chord, as the router has it */
#define HOLD_DEFAULT 100 /* ms */

static json_t *screendump(struct machine *m, json_t *args, struct control_error *e)
{
    const char *file = json_string_value(json_object_get(args, "filename"));
    const char *format = json_string_value(json_object_get(args, "format"));
    const char *device = json_string_value(json_object_get(args, "device"));
    if (device) return control_fail(e, ERROR_DEVICE, "Device '%.200s' not found", device);
    if (json_integer_value(json_object_get(args, "head"))) return control_fail(e, ERROR_GENERIC, "there is one screen");
    const struct display_surface *s = display_update(m->display);
    int err = format && !strcmp(format, "png") ? png_write(file, s) : ppm_write(file, s);
    if (err) return control_fail(e, ERROR_GENERIC, "failed to open file '%.200s': %s", file, strerror(-err));
    return json_object();
}

/* ---- keys ---- */

/* {"type": "qcode", "data": NAME} or {"type": "number", "data": SCAN CODE}; path: what it is, for messages. */
static enum input_key key_value(json_t *value, const char *path, struct control_error *e)
{
    enum input_key key = INPUT_KEY_unmapped;
    if (!json_is_object(value)) {
        control_fail(e, ERROR_GENERIC, "Invalid parameter type for '%s', expected: object", path);
        return key;
    }
    if (!control_check("type:qcode|number data:*", value, e)) return key;
    json_t *data = json_object_get(value, "data");
    if (!strcmp(json_string_value(json_object_get(value, "type")), "number")) {
        if (!json_is_integer(data))
            control_fail(e, ERROR_GENERIC, "Invalid parameter type for 'data', expected: integer");
        else
            key = input_key_by_set1((u16)json_integer_value(data));
    } else if (!json_is_string(data)) {
        control_fail(e, ERROR_GENERIC, "Invalid parameter type for 'data', expected: string");
    } else {
        const char *name = json_string_value(data);
        key = input_key_by_name(name);
        if (key == INPUT_KEY_unmapped && strcmp(name, "unmapped"))
            control_fail(e, ERROR_GENERIC, "Parameter 'data' does not accept value '%.200s'", name);
    }
    return key;
}

static json_t *send_key(struct machine *m, json_t *args, struct control_error *e)
{
    json_t *keys = json_object_get(args, "keys"), *hold = json_object_get(args, "hold-time");
    enum input_key list[KEYS_MAX];
    size_t n = json_array_size(keys);
    json_int_t hold_ms = hold ? json_integer_value(hold) : HOLD_DEFAULT;
    if (n > KEYS_MAX) return control_fail(e, ERROR_GENERIC, "Parameter 'keys' has more than %d elements", KEYS_MAX);
    for (size_t i = 0; i < n; i++) {
        char path[24];
        snprintf(path, sizeof(path), "keys[%zu]", i);
        list[i] = key_value(json_array_get(keys, i), path, e);
        if (e->class) return NULL;
    }
    if (hold_ms < 0 || hold_ms > 3600 * 1000) return control_fail(e, ERROR_GENERIC, "Parameter 'hold-time' is out of range");
    input_send_keys(m->input, list, n, (u64)hold_ms);
    return json_object();
}

/* ---- events as they come ---- */

/* Checks, or does, one event. False with the error set. */
static bool input_event(struct machine *m, json_t *event, bool send, struct control_error *e)
{
    if (!json_is_object(event)) {
        control_fail(e, ERROR_GENERIC, "Invalid parameter type for 'events', expected: object");
        return false;
    }
    if (!control_check("type:key|btn|rel|abs data:o", event, e)) return false;
    const char *type = json_string_value(json_object_get(event, "type"));
    json_t *data = json_object_get(event, "data");
    if (!strcmp(type, "key")) {
        if (!control_check("down:b key:o", data, e)) return false;
        enum input_key key = key_value(json_object_get(data, "key"), "key", e);
        if (send) input_key(m->input, key, json_is_true(json_object_get(data, "down")));
    } else if (!strcmp(type, "btn")) {
        if (!control_check("down:b button:s", data, e)) return false;
        const char *name = json_string_value(json_object_get(data, "button"));
        enum input_button button = input_button_by_name(name);
        if (button == INPUT_BUTTON_COUNT)
            control_fail(e, ERROR_GENERIC, "Parameter 'button' does not accept value '%.200s'", name);
        else if (send)
            input_button(m->input, button, json_is_true(json_object_get(data, "down")));
    } else {
        if (!control_check("axis:x|y value:i", data, e)) return false;
        bool x = !strcmp(json_string_value(json_object_get(data, "axis")), "x");
        int value = (int)json_integer_value(json_object_get(data, "value"));
        if (send && *type == 'r') input_move_by(m->input, x ? value : 0, x ? 0 : value);
        if (send && *type == 'a') {
            int at[2];
            input_position(m->input, &at[0], &at[1]);
            at[!x] = value;
            input_move_to(m->input, at[0], at[1]);
        }
    }
    return !e->class;
}

static json_t *input_send_event(struct machine *m, json_t *args, struct control_error *e)
{
    const char *device = json_string_value(json_object_get(args, "device"));
    json_t *events = json_object_get(args, "events"), *event;
    size_t i;
    if (device) return control_fail(e, ERROR_DEVICE, "Device '%.200s' not found", device);
    if (m->state != RUN_RUNNING) return control_fail(e, ERROR_GENERIC, "VM not running");
    /* All or nothing. */
    json_array_foreach(events, i, event)
        if (!input_event(m, event, false, e)) return NULL;
    json_array_foreach(events, i, event) input_event(m, event, true, e);
    input_sync(m->input);
    return json_object();
}

static json_t *query_mice(struct machine *m, json_t *args, struct control_error *e)
{
    json_t *list = json_array();
    const struct input_device *current = input_current(m->input, INPUT_TAKES_RELATIVE | INPUT_TAKES_ABSOLUTE);
    int index = 0;
    (void)args;
    (void)e;
    for (const struct input_device *d = input_devices(m->input); d; d = d->next) {
        if (d->takes & (INPUT_TAKES_RELATIVE | INPUT_TAKES_ABSOLUTE))
            json_array_append_new(list, json_pack("{sisssbsb}", "index", index, "name", d->name, "current", d == current,
                                                  "absolute", (d->takes & INPUT_TAKES_ABSOLUTE) != 0));
        index++;
    }
    return list;
}

/* ---- VNC ---- */

static json_t *vnc_password(struct machine *m, const char *password, struct control_error *e)
{
    int err = -ENOTSUP;
    for (int i = 0; i < OPTIONS_DISPLAYS && err; i++)
        if (m->views[i]) err = display_set_password(m->views[i], password);
    return err ? control_fail(e, ERROR_GENERIC, "Could not set password") : json_object();
}

static json_t *set_password(struct machine *m, json_t *args, struct control_error *e)
{
    return vnc_password(m, json_string_value(json_object_get(args, "password")), e);
}

/* expire_password: at once is all there is. */
static json_t *expire_password(struct machine *m, json_t *args, struct control_error *e)
{
    const char *time = json_string_value(json_object_get(args, "time"));
    if (!strcmp(time, "never")) return json_object();
    if (!strcmp(time, "now")) return vnc_password(m, NULL, e);
    return control_fail(e, ERROR_GENERIC, "Passwords do not expire later; there are now and never");
}

/* Of the first VNC display, as it was asked for; who is connected is not told. */
static json_t *query_vnc(struct machine *m, json_t *args, struct control_error *e)
{
    const struct options *o = m->options;
    (void)args, (void)e;
    for (int i = 0; i < o->display_count; i++) {
        const struct display_config *c = &o->displays[i];
        char service[16];
        if (c->kind != DISPLAY_VNC) continue;
        snprintf(service, sizeof(service), "%u", c->port);
        return json_pack("{sbssssssss s[]}", "enabled", true, "host", c->path ? c->path : c->host ? c->host : "0.0.0.0", "service",
                         c->path ? "" : service, "family", c->path ? "unix" : "ipv4", "auth", c->password ? "vnc" : "none",
                         "clients");
    }
    return json_pack("{sb}", "enabled", false);
}

const struct control_command control_input[] = {
    {"screendump", "filename:s device:s? head:i? format:png|ppm?", screendump},
    {"send-key", "keys:a hold-time:i?", send_key},
    {"input-send-event", "device:s? head:i? events:a", input_send_event},
    {"query-mice", "", query_mice},
    {"query-vnc", "", query_vnc},
    {"set_password", "protocol:vnc password:s connected:keep? display:s?", set_password},
    {"expire_password", "protocol:vnc time:s display:s?", expire_password},
    {"change-vnc-password", "password:s", set_password},
    {0},
};
