/* What comes behind `info`. */
#include "machine/monitor_commands.h"

#include <string.h>

#include "cpu/engine.h"
#include "machine/control.h"
#include "machine/version.h"

static const char *text_of(json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static s64 number_of(json_t *o, const char *key) { return json_integer_value(json_object_get(o, key)); }

static bool is_set(json_t *o, const char *key) { return json_is_true(json_object_get(o, key)); }

/* ---- the machine ---- */

static void info_version(struct hmp *h, json_t *args)
{
    (void)args;
    fprintf(h->out, "Calque " CALQUE_VERSION "\n");
}

static void info_status(struct hmp *h, json_t *args)
{
    const char *state = machine_state_name(h->m);
    (void)args;
    fprintf(h->out, "VM status: %s", h->m->state == RUN_RUNNING ? "running" : "paused");
    if (strcmp(state, "running") && strcmp(state, "paused")) fprintf(h->out, " (%s)", state);
    fputc('\n', h->out);
}

static void info_name(struct hmp *h, json_t *args)
{
    (void)args;
    if (h->m->options->name) fprintf(h->out, "%s\n", h->m->options->name);
}

static void info_uuid(struct hmp *h, json_t *args)
{
    (void)args;
    json_t *r = hmp_control(h, "query-uuid", NULL);
    fprintf(h->out, "%s\n", text_of(r, "UUID"));
    json_decref(r);
}

static void info_kvm(struct hmp *h, json_t *args)
{
    (void)args;
    fprintf(h->out, "kvm support: not compiled\n");
}

static void info_memory_size(struct hmp *h, json_t *args)
{
    (void)args;
    fprintf(h->out, "base memory: %llu\nplugged memory: 0\n", (unsigned long long)h->m->options->ram_size);
}

static void info_mtree(struct hmp *h, json_t *args)
{
    (void)args;
    fprintf(h->out, "address-space: memory\n");
    bus_print(h->m->mem, h->out);
    fprintf(h->out, "address-space: I/O\n");
    bus_print(h->m->io, h->out);
}

static void info_qtree(struct hmp *h, json_t *args)
{
    (void)args;
    for (int i = 0; i < h->m->device_count; i++) fprintf(h->out, "dev: %s\n", h->m->devices[i]->cls->name);
}

static void info_irq(struct hmp *h, json_t *args)
{
    (void)args;
    pc_print_irqs(h->m, h->out);
}

static void info_pic(struct hmp *h, json_t *args)
{
    (void)args;
    pc_print_pics(h->m, h->out);
}

/* ---- processors ---- */

static void info_cpus(struct hmp *h, json_t *args)
{
    (void)args;
    for (unsigned i = 0; i < h->m->options->cpus; i++)
        fprintf(h->out, "%c CPU #%u: thread_id=%d%s\n", i == *h->cpu ? '*' : ' ', i,
                __atomic_load_n(&h->m->vcpus[i].tid, __ATOMIC_RELAXED), h->m->vcpus[i].cpu->halted ? " (halted)" : "");
}

static void info_registers(struct hmp *h, json_t *args)
{
    bool all = is_set(args, "cpustate_all");
    for (unsigned i = 0; i < h->m->options->cpus; i++) {
        if (!all && i != *h->cpu) continue;
        fprintf(h->out, "\nCPU#%u\n", i);
        cpu_dump(h->m->vcpus[i].cpu, h->out);
    }
}

static void info_jit(struct hmp *h, json_t *args)
{
    struct cpu *cpu = h->m->vcpus[*h->cpu].cpu;
    (void)args;
    if (cpu->engine_ops->info)
        cpu->engine_ops->info(cpu, h->out);
    else
        fprintf(h->out, "The engine is %s: nothing is translated\n", cpu->engine_ops->name);
}

/* ---- devices and back ends ---- */

static void info_block(struct hmp *h, json_t *args)
{
    const char *only = json_string_value(json_object_get(args, "device"));
    json_t *list = hmp_control(h, "query-block", NULL), *item;
    size_t i;
    bool any = false;
    json_array_foreach(list, i, item) {
        json_t *inserted = json_object_get(item, "inserted");
        if (only && strcmp(only, text_of(item, "device"))) continue;
        if (any) fputc('\n', h->out);
        any = true;
        if (inserted)
            fprintf(h->out, "%s (#%s): %s (%s%s)\n", text_of(item, "device"), text_of(inserted, "node-name"),
                    text_of(inserted, "file"), text_of(inserted, "drv"), is_set(inserted, "ro") ? ", read-only" : "");
        else
            fprintf(h->out, "%s: [not inserted]\n", text_of(item, "device"));
        if (json_object_get(item, "qdev")) fprintf(h->out, "    Attached to:      %s\n", text_of(item, "qdev"));
        if (is_set(item, "removable"))
            fprintf(h->out, "    Removable device: %slocked, tray %s\n", is_set(item, "locked") ? "" : "not ",
                    is_set(item, "tray_open") ? "open" : "closed");
        json_t *cache = json_object_get(inserted, "cache");
        if (inserted)
            fprintf(h->out, "    Cache mode:       %s%s\n", is_set(cache, "writeback") ? "writeback" : "writethrough",
                    is_set(cache, "no-flush") ? ", ignore flushes" : "");
    }
    json_decref(list);
}

static void info_network(struct hmp *h, json_t *args)
{
    static const char *const kinds[] = {"user", "tap", "stream", "dgram"};
    const struct options *o = h->m->options;
    (void)args;
    for (int i = 0; i < o->nic_count; i++) {
        const struct nic_option *nic = &o->nics[i];
        const u8 *mac = nic->mac;
        static const char *const names[] = {"e1000", "rtl8139", "ne2k_pci", "virtio-net-pci"};
        const char *model = names[nic->model];
        fprintf(h->out, "%s.%d: index=0,type=nic,model=%s,macaddr=%02x:%02x:%02x:%02x:%02x:%02x\n", model, i, model, mac[0],
                mac[1], mac[2], mac[3], mac[4], mac[5]);
        if (nic->net < 0) continue;
        const struct netdev *net = h->m->nets[nic->net];
        fprintf(h->out, " \\ %s: index=0,type=%s%s\n", net->id ? net->id : "", kinds[o->nets[nic->net].kind],
                netdev_link(net) ? "" : ",link down");
    }
}

static void info_pci(struct hmp *h, json_t *args)
{
    json_t *buses = hmp_control(h, "query-pci", NULL), *d, *region;
    size_t i, k;
    (void)args;
    json_array_foreach(json_object_get(json_array_get(buses, 0), "devices"), i, d) {
        json_t *class = json_object_get(d, "class_info"), *id = json_object_get(d, "id");
        fprintf(h->out, "  Bus %2d, device %3d, function %d:\n    ", 0, (int)number_of(d, "slot"),
                (int)number_of(d, "function"));
        if (json_object_get(class, "desc"))
            fprintf(h->out, "%s", text_of(class, "desc"));
        else
            fprintf(h->out, "Class %04x", (unsigned)number_of(class, "class"));
        fprintf(h->out, ": PCI device %04x:%04x\n", (unsigned)number_of(id, "vendor"), (unsigned)number_of(id, "device"));
        if (number_of(id, "subsystem-vendor"))
            fprintf(h->out, "      PCI subsystem %04x:%04x\n", (unsigned)number_of(id, "subsystem-vendor"),
                    (unsigned)number_of(id, "subsystem"));
        if (number_of(d, "irq_pin"))
            fprintf(h->out, "      IRQ %d, pin %c\n", (int)number_of(d, "irq"), (char)('A' + number_of(d, "irq_pin") - 1));
        json_array_foreach(json_object_get(d, "regions"), k, region) {
            u64 at = (u64)number_of(region, "address"), last = at + (u64)number_of(region, "size") - 1;
            fprintf(h->out, "      BAR%d: ", (int)number_of(region, "bar"));
            if (!strcmp(text_of(region, "type"), "io"))
                fprintf(h->out, "I/O at 0x%04llx [0x%04llx].\n", (unsigned long long)at, (unsigned long long)last);
            else
                fprintf(h->out, "%d bit%s memory at 0x%08llx [0x%08llx].\n", is_set(region, "mem_type_64") ? 64 : 32,
                        is_set(region, "prefetch") ? " prefetchable" : "", (unsigned long long)at, (unsigned long long)last);
        }
        fprintf(h->out, "      id \"%s\"\n", text_of(d, "qdev_id"));
    }
    json_decref(buses);
}

static void info_chardev(struct hmp *h, json_t *args)
{
    json_t *list = hmp_control(h, "query-chardev", NULL), *item;
    size_t i;
    (void)args;
    json_array_foreach(list, i, item) fprintf(h->out, "%s: filename=%s\n", text_of(item, "label"), text_of(item, "filename"));
    json_decref(list);
}

static void info_mice(struct hmp *h, json_t *args)
{
    json_t *list = hmp_control(h, "query-mice", NULL), *item;
    size_t i;
    (void)args;
    json_array_foreach(list, i, item)
        fprintf(h->out, "%c Mouse #%d: %s%s\n", is_set(item, "current") ? '*' : ' ', (int)number_of(item, "index"),
                text_of(item, "name"), is_set(item, "absolute") ? " (absolute)" : "");
    if (!json_array_size(list)) fprintf(h->out, "No mouse devices connected\n");
    json_decref(list);
}

const struct hmp_command hmp_info[] = {
    {"block", "-v:verbose device:s?", "[-v] [device]", "show the drives", .run = info_block},
    {"chardev", "", "", "show the character devices", .run = info_chardev},
    {"cpus", "", "", "show the CPUs", .run = info_cpus},
    {"irq", "", "", "show how often legacy interrupts happened", .run = info_irq},
    {"jit", "", "", "show what the translator has done", .run = info_jit, .park = true},
    {"kvm", "", "", "show KVM's state", .run = info_kvm},
    {"mem", "", "", "show the ranges that the page tables map", .run = hmp_info_mem, .park = true},
    {"memory_size_summary", "", "", "show the amount of memory", .run = info_memory_size},
    {"mice", "", "", "show the pointers; * is the one in use", .run = info_mice},
    {"mtree", "", "", "show the memory map and the ports", .run = info_mtree},
    {"name", "", "", "show the machine's name", .run = info_name},
    {"network", "", "", "show the network cards", .run = info_network},
    {"pci", "", "", "show the PCI devices", .run = info_pci},
    {"pic", "", "", "show the interrupt controllers", .run = info_pic},
    {"qtree", "", "", "show the devices", .run = info_qtree},
    {"registers", "-a:cpustate_all", "[-a]", "show a CPU's registers (-a: all CPUs')", .run = info_registers, .park = true},
    {"status", "", "", "show whether the machine runs", .run = info_status},
    {"tlb", "", "", "show what the page tables map", .run = hmp_info_tlb, .park = true},
    {"uuid", "", "", "show the machine's UUID", .run = info_uuid},
    {"version", "", "", "show the version", .run = info_version},
    {0},
};
