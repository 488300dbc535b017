/* What programs ask about the emulator before they use it: its commands, types of devices, CPU models, options.
 *
 * Leaves out: the members of answers and events (any value), the properties of devices and objects (empty lists). */
#include "machine/control.h"

#include <stdio.h>
#include <string.h>

#include "machine/machine.h"

static json_t *query_schema(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m, (void)args, (void)e;
    return control_schema();
}

/* Classes of objects: all devices are children of one abstract class. */
static json_t *qom_list_types(struct machine *m, json_t *args, struct control_error *e)
{
    static const char *const objects[] = {"filter-dump", "rng-builtin", "rng-random"};
    const char *implements = json_string_value(json_object_get(args, "implements"));
    json_t *list = json_array();
    const char *name;
    (void)m, (void)e;
    if (!implements || !strcmp(implements, "accel")) /* the name by which scripts for QEMU ask for ours */
        json_array_append_new(list, json_pack("{ssss}", "name", "tcg-accel", "parent", "accel"));
    if (!implements || !strcmp(implements, "device"))
        for (size_t i = 0; (name = options_device_name(i)); i++)
            json_array_append_new(list, json_pack("{ssss}", "name", name, "parent", "device"));
    if (!implements || !strcmp(implements, "user-creatable"))
        for (size_t i = 0; i < ARRAY_LEN(objects); i++)
            json_array_append_new(list, json_pack("{ssss}", "name", objects[i], "parent", "object"));
    return list;
}

/* Classes that do not exist have no properties either: libvirt 9.0 asks for memory-backend-file's, and crashes at an error. */
static json_t *list_object_properties(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m, (void)args, (void)e;
    return json_array();
}

/* There is no tree of objects: these exist, and show nothing. */
static json_t *qom_list(struct machine *m, json_t *args, struct control_error *e)
{
    static const char *const paths[] = {"/", "/machine", "/machine/peripheral", "/machine/peripheral-anon", "/objects"};
    const char *path = json_string_value(json_object_get(args, "path"));
    (void)m;
    bool found = !strncmp(path, "/machine/unattached/device[", 27);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) found |= !strcmp(path, paths[i]);
    return found ? json_array() : control_fail(e, ERROR_DEVICE, "Device '%.200s' not found", path);
}

static json_t *query_cpu_definitions(struct machine *m, json_t *args, struct control_error *e)
{
    json_t *list = json_array();
    const char *name;
    (void)m, (void)args, (void)e;
    for (size_t i = 0; (name = cpu_model_name(i)); i++) {
        char type[64];
        snprintf(type, sizeof(type), "%s-x86_64-cpu", name);
        json_array_append_new(list, json_pack("{sssss[]sbsbsb}", "name", name, "typename", type, "unavailable-features", "static",
                                              false, "migration-safe", false, "deprecated", false));
    }
    return list;
}

static json_t *query_options(struct machine *m, json_t *args, struct control_error *e)
{
    const char *only = json_string_value(json_object_get(args, "option")), *name;
    json_t *list = json_array();
    (void)m;
    for (size_t i = 0; (name = options_name(i)); i++)
        if (!only || !strcmp(only, name)) json_array_append_new(list, json_pack("{sss[]}", "option", name, "parameters"));
    if (json_array_size(list)) return list;
    json_decref(list);
    return control_fail(e, ERROR_GENERIC, "invalid option name: %.200s", only);
}

static json_t *query_nothing(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m, (void)args, (void)e;
    return json_array();
}

/* Events of migrations: there are none to come. */
static json_t *set_migrate_capabilities(struct machine *m, json_t *args, struct control_error *e)
{
    size_t i;
    json_t *item;
    (void)m;
    json_array_foreach(json_object_get(args, "capabilities"), i, item) {
        const char *name = json_string_value(json_object_get(item, "capability"));
        if (json_is_true(json_object_get(item, "state")) && (!name || strcmp(name, "events") != 0))
            return control_fail(e, ERROR_GENERIC, "Migration is not supported");
    }
    return json_object();
}

static bool is_driver(const char *type)
{
    const char *name;
    size_t i = 0;
    while ((name = options_device_name(i)) && strcmp(name, type)) i++;
    return name != NULL;
}

static json_t *list_properties(struct machine *m, json_t *args, struct control_error *e)
{
    const char *type = json_string_value(json_object_get(args, "typename"));
    (void)m;
    return is_driver(type) ? json_array() : control_fail(e, ERROR_DEVICE, "Class '%.200s' not found", type);
}

static json_t *device_add(struct machine *m, json_t *args, struct control_error *e)
{
    const char *driver = json_string_value(json_object_get(args, "driver"));
    (void)m;
    if (!is_driver(driver)) return control_fail(e, ERROR_GENERIC, "'%.200s' is not a valid device model name", driver);
    return control_fail(e, ERROR_GENERIC, "Bus 'pci.0' does not support hotplugging: %s", driver);
}

/* The names of devices from the command line are not kept: none of them can be plugged out. */
static json_t *device_del(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    return control_fail(e, ERROR_DEVICE, "Device '%.200s' not found", json_string_value(json_object_get(args, "id")));
}

const struct control_command control_probe[] = {
    {"query-qmp-schema", "", query_schema},
    {"qom-list", "path:s", qom_list},
    {"qom-list-types", "implements:s? abstract:b?", qom_list_types},
    {"qom-list-properties", "typename:s", list_object_properties},
    {"device-list-properties", "typename:s", list_properties},
    {"query-cpu-definitions", "", query_cpu_definitions},
    {"query-command-line-options", "option:s?", query_options},
    {"query-migrate-capabilities", "", query_nothing},
    {"migrate-set-capabilities", "capabilities:a", set_migrate_capabilities},
    {"query-tpm-models", "", query_nothing},
    {"query-tpm-types", "", query_nothing},
    {"device_add", "driver:s ...", device_add},
    {"device_del", "id:s", device_del},
    {0},
};
