/* Commands about the machine as a whole: what it is, whether it runs, its memory, its end. */
#define _GNU_SOURCE
#include "machine/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu/mmu.h"
#include "machine/machine.h"
#include "machine/monitor.h"
#include "machine/version.h"

#define ANSWER_MAX (256u << 10) /* of human-monitor-command */

/* ---- what it is ---- */

static json_t *query_version(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    (void)args;
    (void)e;
    /* Clients judge by the number what they can ask for: it is that of the QEMU whose commands these are. */
    return json_pack("{s{sisisi}ss}", "qemu", "micro", 0, "minor", 2, "major", 7, "package",
                     "Calque " CALQUE_VERSION);
}

/* Listed, since clients look for it there; the negotiation itself is qmp.c's. */
static json_t *qmp_capabilities(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    (void)args;
    return control_fail(e, ERROR_COMMAND, "Capabilities negotiation is already complete, command ignored");
}

static json_t *query_commands(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    (void)args;
    (void)e;
    return control_list();
}

static json_t *query_name(struct machine *m, json_t *args, struct control_error *e)
{
    (void)args;
    (void)e;
    return m->options->name ? json_pack("{ss}", "name", m->options->name) : json_object();
}

static json_t *query_uuid(struct machine *m, json_t *args, struct control_error *e)
{
    char text[37];
    const u8 *u = m->options->uuid;
    (void)args;
    (void)e;
    snprintf(text, sizeof(text), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2],
             u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
    return json_pack("{ss}", "UUID", text);
}

static json_t *query_kvm(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    (void)args;
    (void)e;
    return json_pack("{sbsb}", "enabled", false, "present", false);
}

static json_t *query_target(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    (void)args;
    (void)e;
    return json_pack("{ss}", "arch", "x86_64");
}

static json_t *query_machines(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    (void)args;
    (void)e;
    return json_pack("[{sssssbsisbsbsb}]", "name", "pc-i440fx-7.2", "alias", "pc", "is-default", true, "cpu-max", 64,
                     "hotpluggable-cpus", false, "numa-mem-supported", false, "deprecated", false);
}

static json_t *query_current_machine(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    (void)args;
    (void)e;
    return json_pack("{sb}", "wakeup-suspend-support", false);
}

static json_t *query_cpus_fast(struct machine *m, json_t *args, struct control_error *e)
{
    const struct options *o = m->options;
    json_t *list = json_array();
    (void)args;
    (void)e;
    for (unsigned i = 0; i < o->cpus; i++) {
        char path[48];
        snprintf(path, sizeof(path), "/machine/unattached/device[%u]", i);
        json_array_append_new(
            list, json_pack("{sis{sisisi}sissss}", "thread-id", __atomic_load_n(&m->vcpus[i].tid, __ATOMIC_RELAXED), "props",
                            "core-id", i / o->threads % o->cores, "thread-id", i % o->threads, "socket-id",
                            i / (o->threads * o->cores), "cpu-index", i, "qom-path", path, "target", "x86_64"));
    }
    return list;
}

static json_t *query_memory_size(struct machine *m, json_t *args, struct control_error *e)
{
    (void)args;
    (void)e;
    return json_pack("{sIsi}", "base-memory", (json_int_t)m->options->ram_size, "plugged-memory", 0);
}

static json_t *query_balloon(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    (void)args;
    return control_fail(e, ERROR_NOT_ACTIVE, "No balloon device has been activated");
}

static json_t *query_none(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    (void)args;
    (void)e;
    return json_array();
}

/* ---- whether it runs ---- */

static json_t *query_status(struct machine *m, json_t *args, struct control_error *e)
{
    (void)args;
    (void)e;
    return json_pack("{sssbsb}", "status", machine_state_name(m), "singlestep", false, "running", m->state == RUN_RUNNING);
}

static json_t *stop(struct machine *m, json_t *args, struct control_error *e)
{
    (void)args;
    (void)e;
    machine_stop(m, RUN_PAUSED);
    return json_object();
}

static json_t *cont(struct machine *m, json_t *args, struct control_error *e)
{
    (void)args;
    if (m->options->no_machine) return control_fail(e, ERROR_GENERIC, "There is no machine (-machine none)");
    if (!machine_cont(m)) return control_fail(e, ERROR_GENERIC, "Resetting the Virtual Machine is required");
    return json_object();
}

static json_t *system_reset(struct machine *m, json_t *args, struct control_error *e)
{
    (void)args;
    (void)e;
    machine_request_reset(m, CAUSE_HOST_RESET);
    return json_object();
}

static json_t *system_powerdown(struct machine *m, json_t *args, struct control_error *e)
{
    (void)args;
    (void)e;
    pc_power_button(m);
    control_event(m, "POWERDOWN", NULL);
    return json_object();
}

static json_t *system_wakeup(struct machine *m, json_t *args, struct control_error *e)
{
    (void)m;
    (void)args;
    return control_fail(e, ERROR_GENERIC, "Unable to wake up: guest is not in suspended state");
}

static json_t *quit(struct machine *m, json_t *args, struct control_error *e)
{
    (void)args;
    (void)e;
    control_event_cause(m, "SHUTDOWN", CAUSE_HOST_QUIT);
    machine_request_exit(m, 0);
    return json_object();
}

static json_t *inject_nmi(struct machine *m, json_t *args, struct control_error *e)
{
    (void)args;
    (void)e;
    for (unsigned i = 0; i < m->options->cpus; i++) {
        cpu_raise_nmi(m->vcpus[i].cpu);
        machine_event(&m->vcpus[i], 0);
    }
    return json_object();
}

/* -action's, at run time: the two that exist. */
static json_t *set_action(struct machine *m, json_t *args, struct control_error *e)
{
    const char *reboot = json_string_value(json_object_get(args, "reboot"));
    const char *shutdown = json_string_value(json_object_get(args, "shutdown"));
    (void)e;
    if (reboot) m->no_reboot = !strcmp(reboot, "shutdown");
    if (shutdown) m->no_shutdown = !strcmp(shutdown, "pause");
    return json_object();
}

/* ---- its memory ---- */

static json_t *save_memory(struct machine *m, json_t *args, struct control_error *e, struct cpu *linear)
{
    const char *name = json_string_value(json_object_get(args, "filename"));
    u64 at = (u64)json_integer_value(json_object_get(args, "val"));
    u64 left = (u64)json_integer_value(json_object_get(args, "size"));
    FILE *f = fopen(name, "w");
    if (!f) return control_fail(e, ERROR_GENERIC, "Could not open '%.200s': %s", name, strerror(errno));
    while (left && !e->class) {
        u8 page[GUEST_PAGE_SIZE];
        u64 n = MIN(left, GUEST_PAGE_SIZE - at % GUEST_PAGE_SIZE);
        gpa from = at;
        if (linear && !mmu_probe(linear, at, &from)) {
            control_fail(e, ERROR_GENERIC, "Invalid addr 0x%016llx/size %llu specified", (unsigned long long)at,
                         (unsigned long long)left);
            break;
        }
        bus_read_block(m->mem, from, page, n);
        if (fwrite(page, 1, n, f) != n) control_fail(e, ERROR_GENERIC, "writing memory to '%.200s' failed", name);
        at += n;
        left -= n;
    }
    if (fclose(f) && !e->class) control_fail(e, ERROR_GENERIC, "writing memory to '%.200s' failed", name);
    return e->class ? NULL : json_object();
}

static json_t *pmemsave(struct machine *m, json_t *args, struct control_error *e) { return save_memory(m, args, e, NULL); }

static json_t *memsave(struct machine *m, json_t *args, struct control_error *e)
{
    json_int_t index = json_integer_value(json_object_get(args, "cpu-index"));
    if (index < 0 || index >= (json_int_t)m->options->cpus)
        return control_fail(e, ERROR_GENERIC, "Parameter 'cpu-index' expects a CPU number");
    if (!machine_park(m)) return json_object();
    json_t *result = save_memory(m, args, e, m->vcpus[index].cpu);
    machine_unpark(m);
    return result;
}

/* ---- for people ---- */

static json_t *human_monitor_command(struct machine *m, json_t *args, struct control_error *e)
{
    unsigned cpu = (unsigned)json_integer_value(json_object_get(args, "cpu-index"));
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return control_fail(e, ERROR_GENERIC, "Out of memory");
    if (cpu >= m->options->cpus) {
        fclose(out);
        free(text);
        return control_fail(e, ERROR_GENERIC, "Parameter 'cpu-index' expects a CPU number");
    }
    monitor_run_line(m, json_string_value(json_object_get(args, "command-line")), &cpu, out);
    fclose(out);

    /* Lines end as on the monitor's terminal, and everything is UTF-8. */
    char *lines = malloc(2 * MIN(size, ANSWER_MAX) + 1);
    size_t n = 0;
    for (size_t i = 0; lines && i < size && i < ANSWER_MAX; i++) {
        if (text[i] == '\n') lines[n++] = '\r';
        lines[n++] = text[i] & 0x80 ? '?' : text[i];
    }
    json_t *result = lines ? json_stringn(lines, n) : NULL;
    free(lines);
    free(text);
    return result;
}

const struct control_command control_vm[] = {
    {"query-version", "", query_version},
    {"qmp_capabilities", "enable:a?", qmp_capabilities},
    {"query-commands", "", query_commands},
    {"query-name", "", query_name},
    {"query-uuid", "", query_uuid},
    {"query-kvm", "", query_kvm},
    {"query-target", "", query_target},
    {"query-machines", "", query_machines},
    {"query-current-machine", "", query_current_machine},
    {"query-cpus-fast", "", query_cpus_fast},
    {"query-memory-size-summary", "", query_memory_size},
    {"query-balloon", "", query_balloon},
    {"query-iothreads", "", query_none},
    {"query-status", "", query_status},
    {"stop", "", stop},
    {"cont", "", cont},
    {"system_reset", "", system_reset},
    {"system_powerdown", "", system_powerdown},
    {"system_wakeup", "", system_wakeup},
    {"quit", "", quit},
    {"inject-nmi", "", inject_nmi},
    {"set-action", "reboot:reset|shutdown? shutdown:poweroff|pause? panic:pause|shutdown|exit-failure|none? watchdog:s?",
     set_action},
    {"memsave", "val:i size:i filename:s cpu-index:i?", memsave},
    {"pmemsave", "val:i size:i filename:s", pmemsave},
    {"human-monitor-command", "command-line:s cpu-index:i?", human_monitor_command},
    {0},
};
