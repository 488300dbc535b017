/* The i440FX PC: its parts list, in boot order, and the wires between them.
 *
 *     8254 -> HPET -\                                            /-> local APICs' LINT0
 *     CMOS clock -> HPET -> ISA interrupts 0-15 -> 8259 pair ----
 *     UARTs, 8042, PIIX3 (PIRQ, SCI) -/        \-> I/O APIC (0 at pin 2) -> APIC bus -> local APICs
 *     PIRQs also at I/O APIC pins 16-19; the FERR# of the x87 is ISA interrupt 13. */
#include "machine/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "core/log.h"
#include "cpu/cpuid.h"
#include "devices/ac97.h"
#include "devices/acpi_pm.h"
#include "devices/acpi_tables.h"
#include "devices/apic_bus.h"
#include "devices/debug_port.h"
#include "devices/e1000.h"
#include "devices/fdc.h"
#include "devices/fw_cfg.h"
#include "devices/hpet.h"
#include "devices/i440fx.h"
#include "devices/i8042.h"
#include "devices/i8237.h"
#include "devices/i8254.h"
#include "devices/i8259.h"
#include "devices/ioapic.h"
#include "devices/isa_debug_exit.h"
#include "devices/mc146818.h"
#include "devices/ne2000.h"
#include "devices/pc_testdev.h"
#include "devices/parallel.h"
#include "devices/pci.h"
#include "devices/pcspk.h"
#include "devices/pci_testdev.h"
#include "devices/piix3.h"
#include "devices/piix3_ide.h"
#include "devices/port92.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "devices/rtl8139.h"
#include "devices/smbios.h"
#include "devices/uart16550.h"
#include "devices/uhci.h"
#include "devices/usb_hid.h"
#include "devices/vga.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_input.h"
#include "devices/virtio_net.h"
#include "devices/virtio_rng.h"
#include "host/random_source.h"
#include "machine/control.h"
#include "machine/firmware.h"
#include "machine/loader.h"
#include "machine/version.h"

#define A20_BIT          (1ull << 20)
#define HPET_FREE_ROUTES 0x00f00104u /* pins 2, 8 and 20-23: not shared with a PIRQ */
#define ROM_SLACK        (1ull << 20) /* expansion ROMs of PCI devices, and page rounding */
#define NIC_ROM_MAX      (1u << 19)   /* a network card's expansion ROM */
#define FIRMWARE_PORT    0x402
#define FIRMWARE_READBACK 0xe9

struct pc {
    struct pci_bus *pci;        /* the only bus */
    struct i440fx *host_bridge; /* 00:00.0 */
    struct piix3 *piix3;        /* 00:01.0 */
    struct apic_bus *apics;     /* carries messages between the APICs */
    struct i8259 *i8259;        /* legacy interrupt controllers */
    struct ioapic *ioapic;      /* the other one */
    struct hpet *hpet;          /* NULL with -no-hpet */
    struct i8042 *i8042;        /* keyboard controller */
    struct port92 *port92;      /* fast A20 */
    struct mc146818 *rtc;       /* clock and CMOS */
    struct fw_cfg *fw_cfg;      /* what firmware is told */
    struct vga *vga;            /* NULL with -vga none */
    int nic_devfn[OPTIONS_NETS]; /* where the network cards are */
    int disk_devfn[OPTIONS_DRIVES]; /* as options->drives, of virtio disks */
    struct random_source *rngs[OPTIONS_RNGS + 1]; /* as options->rngs; the last one is for devices that name none */
    struct piix3_ide *ide;      /* 00:01.1 */
    struct i8237 *dma;          /* for the floppy controller */
    struct fdc *fdc;            /* NULL when no floppy drive was asked for */
    struct block *drives[OPTIONS_DRIVES]; /* as options->drives; NULL: no image */
    struct drive_events events[OPTIONS_DRIVES]; /* likewise: whose events these are */
    struct acpi_pm *pm;         /* 00:01.3, NULL with -no-acpi */
    u64 isa_count[16];          /* how often these interrupts went up */
    u16 isa_levels;             /* which are up */
    u64 low_ram, high_ram;      /* bytes of DRAM below and above 4 GiB */
    bool a20;                   /* the gate is open */
    bool was_reset;             /* for power-on, at least */
};

/* ---- wires ---- */

/* ISA interrupt n: at both interrupt controllers. */
static void isa_irq(void *opaque, int n, int level)
{
    struct pc *pc = opaque;
    struct irq_line legacy = i8259_input(pc->i8259, n);
    struct irq_line modern = ioapic_input(pc->ioapic, n == 0 ? 2 : n);
    u16 bit = (u16)(1u << n);
    if (level && !(pc->isa_levels & bit)) pc->isa_count[n]++;
    pc->isa_levels = level ? pc->isa_levels | bit : pc->isa_levels & (u16)~bit;
    irq_set(&legacy, level);
    irq_set(&modern, level);
}

static struct irq_line isa_line(struct pc *pc, int n) { return (struct irq_line){isa_irq, pc, n}; }

/* pc_testdev's lines are global system interrupts: those up to 15 reach the 8259s as well. */
static void gsi(void *opaque, int n, int level)
{
    struct pc *pc = opaque;
    if (n < 16) {
        struct irq_line legacy = i8259_input(pc->i8259, n);
        irq_set(&legacy, level);
    }
    struct irq_line modern = ioapic_input(pc->ioapic, n);
    irq_set(&modern, level);
}

void pc_ferr(struct machine *m, int level) { isa_irq(m->pc, 13, level); }

static int extint_ack(void *opaque)
{
    struct pc *pc = opaque;
    return i8259_ack(pc->i8259);
}

static void set_a20(struct machine *m, bool open)
{
    if (m->pc->a20 == open) return;
    m->pc->a20 = open;
    bus_set_address_mask(m->mem, open ? ~0ull : ~A20_BIT);
}

static void a20_from_i8042(void *opaque, int n, int level)
{
    struct machine *m = opaque;
    (void)n;
    set_a20(m, level);
    if (m->pc->port92) port92_note_a20(m->pc->port92, level);
}

static void a20_from_port92(void *opaque, int n, int level)
{
    struct machine *m = opaque;
    (void)n;
    set_a20(m, level);
    if (m->pc->i8042) i8042_note_a20(m->pc->i8042, level);
}

static void reset_line(void *opaque, int n, int level)
{
    (void)n;
    if (level) machine_request_reset(opaque, CAUSE_GUEST_RESET);
}

static void piix3_reset_control(void *opaque, bool hard)
{
    (void)hard; /* see piix3.c */
    machine_request_reset(opaque, CAUSE_GUEST_RESET);
}

static void power_off(void *opaque) { machine_request_power_off(opaque, CAUSE_GUEST_SHUTDOWN); }
static void pm_moved(void *opaque, u16 base)
{
    struct pc *pc = opaque;
    if (pc->fw_cfg) acpi_tables_set_pm_base(pc->fw_cfg, base);
}
static void debug_exit(void *opaque, int status) { machine_request_exit(opaque, status & 0xff); }
static void message(void *opaque, u64 address, u32 data) { apic_bus_msi(opaque, address, data); }

/* ---- parts ---- */

static bool add(struct machine *m, struct device *d) { return machine_add_device(m, d); }

/* More than all the host has, swap included, cannot end well. */
static bool host_has(u64 bytes)
{
    struct sysinfo info;
    if (sysinfo(&info)) return true;
    u64 total = ((u64)info.totalram + info.totalswap) * info.mem_unit;
    if (bytes <= total) return true;
    fprintf(stderr, "calque: -m: %llu MiB are more than this host's memory (%llu MiB)\n",
            (unsigned long long)(bytes >> 20), (unsigned long long)(total >> 20));
    return false;
}

/* Guest memory and firmware in it. */
static bool create_memory(struct machine *m, struct firmware *bios, struct firmware *vga_bios)
{
    const struct options *o = m->options;
    const char *bios_name = o->bios ? o->bios : FIRMWARE_DEFAULT_BIOS;
    if (!firmware_read(bios, o, bios_name, 1u << 30) || !firmware_check_bios(bios, bios_name)) return false;
    if (o->vga && !firmware_read(vga_bios, o, FIRMWARE_VGA_BIOS, 1u << 20)) return false;
    if (!host_has(o->ram_size)) return false;
    m->pc->low_ram = i440fx_low_size(o->ram_size);
    m->pc->high_ram = o->ram_size - m->pc->low_ram;
    m->ram = ram_create(o->ram_size + bios->size + o->vga_config.vram_size + ROM_SLACK + (u64)NIC_ROM_MAX * (u64)o->nic_count);
    return m->ram != NULL;
}

static bool create_processors(struct machine *m)
{
    struct pc *pc = m->pc;
    if (!(pc->apics = apic_bus_create())) {
        fprintf(stderr, "calque: out of memory\n");
        return false;
    }
    apic_bus_map_msi(pc->apics, m->mem);
    for (unsigned i = 0; i < m->options->cpus; i++)
        if (!vcpu_create(m, &m->vcpus[i], i, pc->apics, extint_ack, pc)) return false;

    pc->i8259 = i8259_create(m->io, apic_bus_lint(pc->apics, 0));
    if (!pc->i8259 || !add(m, i8259_device(pc->i8259))) return false;
    pc->ioapic = ioapic_create(m->mem, IOAPIC_DEFAULT_BASE, pc->apics);
    return pc->ioapic && add(m, ioapic_device(pc->ioapic));
}

static bool create_bridges(struct machine *m, const struct firmware *bios)
{
    struct pc *pc = m->pc;
    if (!(pc->pci = pci_bus_create(m->mem, m->io))) {
        fprintf(stderr, "calque: out of memory\n");
        return false;
    }
    pci_bus_set_msi_handler(pc->pci, message, pc->apics);
    pc->host_bridge = i440fx_create(pc->pci, m->ram, m->options->ram_size);
    if (!pc->host_bridge || !add(m, i440fx_device(pc->host_bridge))) return false;
    firmware_map_bios(bios, m->mem, m->ram);

    struct piix3_wiring wiring = {.reset = piix3_reset_control, .opaque = m};
    for (int i = 0; i < 16; i++) wiring.isa_irq[i] = isa_line(pc, i);
    for (int i = 0; i < 4; i++) wiring.pirq_apic[i] = ioapic_input(pc->ioapic, 16 + i);
    pc->piix3 = piix3_create(pc->pci, &wiring);
    return pc->piix3 && add(m, piix3_device(pc->piix3));
}

static struct audio *audio_of(struct machine *m, int ref) { return m->audios[ref >= 0 ? ref : OPTIONS_AUDIOS]; }

static bool create_timers(struct machine *m)
{
    struct pc *pc = m->pc;
    struct irq_line irq0 = isa_line(pc, 0), irq8 = isa_line(pc, 8);
    if (m->options->hpet) {
        struct hpet_wiring wiring = {
            .irq0 = irq0, .irq8 = irq8, .routes = HPET_FREE_ROUTES, .msi = message, .msi_opaque = pc->apics};
        for (int i = 0; i < IOAPIC_PINS; i++) wiring.gsi[i] = ioapic_input(pc->ioapic, i);
        pc->hpet = hpet_create(m->mem, HPET_DEFAULT_BASE, m->clock, &wiring);
        if (!pc->hpet || !add(m, hpet_device(pc->hpet))) return false;
        irq0 = hpet_pit_input(pc->hpet);
        irq8 = hpet_rtc_input(pc->hpet);
    }
    struct i8254 *pit = i8254_create(m->io, irq0, m->clock);
    if (!add(m, pit ? i8254_device(pit) : NULL) || !add(m, pcspk_create(pit, audio_of(m, m->options->pcspk_audio))))
        return false;
    pc->rtc = mc146818_create(m->io, irq8, m->clock, m->options->rtc_slew);
    if (!add(m, pc->rtc ? mc146818_device(pc->rtc) : NULL)) return false;
    mc146818_on_set(pc->rtc, control_clock_set, m);
    return true;
}

static bool create_legacy(struct machine *m)
{
    struct pc *pc = m->pc;
    pc->dma = i8237_create(m->io, m->mem);
    if (!add(m, pc->dma ? i8237_device(pc->dma) : NULL)) return false;

    struct ps2_keyboard *keyboard = ps2_keyboard_create(NULL, NULL);
    struct ps2_mouse *mouse = ps2_mouse_create();
    bool have_keyboard = add(m, keyboard ? ps2_keyboard_device(keyboard) : NULL);
    bool have_mouse = add(m, mouse ? ps2_mouse_device(mouse) : NULL);
    if (!have_keyboard || !have_mouse) return false;
    ps2_keyboard_connect(keyboard, m->input);
    ps2_mouse_connect(mouse, m->input);
    struct irq_line reset = {reset_line, m, 0};
    pc->i8042 = i8042_create(m->io, isa_line(pc, 1), isa_line(pc, 12), (struct irq_line){a20_from_i8042, m, 0}, reset,
                             ps2_keyboard_port(keyboard), ps2_mouse_port(mouse));
    if (!add(m, pc->i8042 ? i8042_device(pc->i8042) : NULL)) return false;
    pc->port92 = port92_create(m->io, (struct irq_line){a20_from_port92, m, 0}, reset);
    return add(m, pc->port92 ? port92_device(pc->port92) : NULL);
}

static struct chardev *chardev_of(struct machine *m, int ref) { return ref >= 0 ? chardev_port(m->chardevs[ref]) : NULL; }

static bool create_ports(struct machine *m)
{
    static const u16 bases[OPTIONS_SERIALS] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
    static const int irqs[OPTIONS_SERIALS] = {4, 3, 4, 3};
    for (int i = 0; i < OPTIONS_SERIALS; i++) {
        int ref = m->options->serial[i];
        if (ref < 0) continue;
        if (!add(m, uart16550_create(m->io, bases[i], isa_line(m->pc, irqs[i]), m->clock, chardev_of(m, ref))))
            return false;
    }
    return m->options->parallel < 0 || add(m, parallel_create(m->io, 0x378, isa_line(m->pc, 7),
                                                                  chardev_of(m, m->options->parallel)));
}

static struct virtio_slot virtio_slot(struct machine *m, const struct virtio_place *p)
{
    return (struct virtio_slot){.pci = m->pc->pci, .devfn = p->devfn, .no_legacy = p->no_legacy, .no_modern = p->no_modern};
}

static struct device *create_rng(struct machine *m, const struct device_option *d)
{
    int i = d->object < 0 ? OPTIONS_RNGS : d->object;
    struct random_source **source = &m->pc->rngs[i];
    struct virtio_slot slot = virtio_slot(m, &d->virtio);
    if (!*source && !(*source = random_source_open(i < OPTIONS_RNGS ? m->options->rngs[i].file : NULL))) return NULL;
    return virtio_rng_create(&slot, random_source_fill, *source);
}

/* -debugcon, -device, and the firmware's debug port when its output is logged. */
static bool create_debug_devices(struct machine *m)
{
    const struct options *o = m->options;
    bool firmware_port = log_enabled(LOG_FIRMWARE);
    if (o->debugcon >= 0 &&
        !add(m, debug_port_create(m->io, FIRMWARE_READBACK, FIRMWARE_READBACK, chardev_of(m, o->debugcon))))
        return false;
    for (int i = 0; i < o->device_count; i++) {
        const struct device_option *d = &o->devices[i];
        struct device *created = NULL;
        switch (d->kind) {
        case DEVICE_DEBUG_EXIT: created = isa_debug_exit_create(m->io, d->iobase, d->iosize, debug_exit, m); break;
        case DEVICE_DEBUG_CONSOLE:
            if (d->iobase == FIRMWARE_PORT) firmware_port = false;
            created = debug_port_create(m->io, d->iobase, d->readback, chardev_of(m, d->chardev));
            break;
        case DEVICE_PC_TESTDEV: {
            struct irq_line lines[PC_TESTDEV_LINES];
            for (int n = 0; n < PC_TESTDEV_LINES; n++) lines[n] = (struct irq_line){gsi, m->pc, n};
            created = pc_testdev_create(m->io, m->mem, lines);
            break;
        }
        case DEVICE_PCI_TESTDEV: created = pci_testdev_create(m->pc->pci, -1); break;
        case DEVICE_AC97: created = ac97_create(m->pc->pci, d->devfn, audio_of(m, d->audio)); break;
        case DEVICE_VIRTIO_RNG: created = create_rng(m, d); break;
        case DEVICE_VIRTIO_KEYBOARD:
        case DEVICE_VIRTIO_MOUSE:
        case DEVICE_VIRTIO_TABLET: {
            struct virtio_slot slot = virtio_slot(m, &d->virtio);
            enum virtio_input_kind kind = VIRTIO_KEYBOARD + (d->kind - DEVICE_VIRTIO_KEYBOARD);
            created = virtio_input_create(&slot, kind, m->input);
            break;
        }
        }
        if (!add(m, created)) return false;
    }
    return !firmware_port || add(m, debug_port_create(m->io, FIRMWARE_PORT, FIRMWARE_READBACK, NULL));
}

struct block *pc_open_image(struct machine *m, const struct drive_option *d, struct drive_events *events, const char *option,
                            const char *file, enum disk_format format, bool readonly)
{
    struct disk_config config = {.option = option, .path = file, .format = format, .readonly = readonly,
                                 .snapshot = d->snapshot && !readonly, .unsafe = d->unsafe, .discard = d->discard, .direct = d->direct,
                                 .read_error = d->read_error, .write_error = d->write_error,
                                 .on_error = control_block_failed, .opaque = events};
    struct disk *disk = disk_open(&config);
    return disk ? disk_queue_create(disk, &config, m->loop) : NULL;
}

static bool create_floppy(struct machine *m, const struct drive_option *d, struct block *medium)
{
    struct pc *pc = m->pc;
    if (medium && !fdc_drive_type(medium->size)) {
        fprintf(stderr, "calque: %s %s: %llu bytes are no floppy disk\n", d->option, d->file, (unsigned long long)medium->size);
        return false;
    }
    if (!pc->fdc) {
        pc->fdc = fdc_create(m->io, isa_line(pc, 6), pc->dma, m->clock);
        if (!pc->fdc || !add(m, fdc_device(pc->fdc))) return false;
    }
    fdc_attach(pc->fdc, (unsigned)d->index, medium);
    return true;
}

/* Open the images, and give the IDE and floppy drives theirs. */
static bool create_drives(struct machine *m)
{
    const struct options *o = m->options;
    struct pc *pc = m->pc;
    pc->ide = piix3_ide_create(pc->pci, PCI_DEVFN(1, 1), isa_line(pc, 14), isa_line(pc, 15));
    if (!pc->ide || !add(m, piix3_ide_device(pc->ide))) return false;
    for (int i = 0; i < o->drive_count; i++) {
        const struct drive_option *d = &o->drives[i];
        pc->events[i] = (struct drive_events){m, i};
        if (d->file && !(pc->drives[i] = pc_open_image(m, d, &pc->events[i], d->option, d->file, d->format, d->readonly)))
            return false;
        if (d->interface == DRIVE_FLOPPY && !create_floppy(m, d, pc->drives[i])) return false;
        if (d->interface != DRIVE_IDE) continue;
        struct piix3_ide_drive drive = {.block = pc->drives[i], .cdrom = d->cdrom, .write_through = d->write_through,
                                        .serial = d->serial, .model = d->model,
                                        .tray_moved = control_tray_moved, .opaque = &pc->events[i]};
        if (!d->cdrom && !pc->drives[i]->size) {
            fprintf(stderr, "calque: %s %s: the image is empty\n", d->option, d->file);
            return false;
        }
        if (piix3_ide_attach(pc->ide, d->index, &drive)) return false;
    }
    return true;
}

void pc_close_drives(struct machine *m)
{
    if (!m->pc) return;
    for (int i = 0; i < OPTIONS_DRIVES; i++) {
        if (!control_node_release(m, m->pc->drives[i])) disk_queue_destroy(m->pc->drives[i]);
        m->pc->drives[i] = NULL;
    }
    control_nodes_close(m);
}

static bool create_pci_devices(struct machine *m, const struct firmware *vga_bios)
{
    struct pc *pc = m->pc;
    if (m->options->acpi) {
        pc->pm = acpi_pm_create(pc->pci, PCI_DEVFN(1, 3), piix3_isa_input(pc->piix3, ACPI_PM_SCI_IRQ), m->clock, power_off, m);
        if (!pc->pm || !add(m, acpi_pm_device(pc->pm))) return false;
        acpi_pm_on_move(pc->pm, pm_moved, pc);
    }
    if (!m->options->vga) return true;
    pc->vga = vga_create(pc->pci, &m->options->vga_config, m->ram, m->clock, vga_bios->data, vga_bios->size);
    if (!pc->vga || !add(m, vga_device(pc->vga))) return false;
    vga_connect(pc->vga, m->display);
    return true;
}

static bool create_usb(struct machine *m)
{
    const struct options *o = m->options;
    if (!o->usb) return true;
    struct uhci *uhci = uhci_create(m->pc->pci, PCI_DEVFN(1, 2), m->clock);
    if (!uhci || !add(m, uhci_device(uhci))) return false;
    for (int i = 0; i < o->usb_count; i++) {
        struct usb_device *d = usb_hid_create(o->usb_devices[i], m->clock, m->input);
        if (!d || !add(m, &d->dev) || !uhci_plug(uhci, d)) return false;
    }
    return true;
}

static bool create_network_cards(struct machine *m)
{
    const struct options *o = m->options;
    for (int i = 0; i < o->nic_count; i++) {
        const struct nic_option *nic = &o->nics[i];
        struct firmware rom = {0};
        /* Machines without the default ROM just do not boot from the network. */
        static const char *const roms[] = {FIRMWARE_E1000, FIRMWARE_RTL8139, FIRMWARE_NE2000, FIRMWARE_VIRTIO_NET};
        const char *name = nic->romfile ? nic->romfile : roms[nic->model];
        if (nic->rom && (nic->romfile || firmware_exists(o, name)) && !firmware_read(&rom, o, name, NIC_ROM_MAX))
            return false;
        struct netdev *net = nic->net >= 0 ? m->nets[nic->net] : NULL;
        struct virtio_slot slot = virtio_slot(m, &nic->virtio);
        struct device *card;
        if (nic->model == NIC_VIRTIO)
            card = virtio_net_create(&slot, m->clock, net, nic->mac, m->ram, rom.data, rom.size);
        else if (nic->model == NIC_RTL8139)
            card = rtl8139_create(m->pc->pci, nic->devfn, m->clock, net, nic->mac, m->ram, rom.data, rom.size);
        else if (nic->model == NIC_NE2000)
            card = ne2000_create(m->pc->pci, nic->devfn, net, nic->mac, m->ram, rom.data, rom.size);
        else
            card = e1000_create(m->pc->pci, nic->devfn, m->clock, net, nic->mac, m->ram, rom.data, rom.size);
        firmware_free(&rom);
        if (!add(m, card)) return false;
        m->pc->nic_devfn[i] = ((struct pci_device *)card)->devfn;
    }
    return true;
}

static bool create_virtio_disks(struct machine *m)
{
    for (int i = 0; i < m->options->drive_count; i++) {
        const struct drive_option *d = &m->options->drives[i];
        if (d->interface != DRIVE_VIRTIO) continue;
        struct virtio_slot slot = virtio_slot(m, &d->virtio);
        struct virtio_blk_config config = {
            .block = m->pc->drives[i], .write_through = d->write_through, .serial = d->serial};
        struct device *disk = virtio_blk_create(&slot, &config);
        if (!add(m, disk)) return false;
        m->pc->disk_devfn[i] = ((struct pci_device *)disk)->devfn;
    }
    return true;
}

/* ---- what firmware is told ---- */

/* Types and geometries of the first channel's disks, as old BIOSes keep them, and how INT 13h translates those of all:
 * not at all, or by LBA, when there are more cylinders than it can name. */
static void fill_cmos_disks(struct machine *m)
{
    struct mc146818 *rtc = m->pc->rtc;
    u8 types = 0, translation = 0;
    for (int i = 0; i < IDE_DRIVES; i++) {
        u16 cylinders;
        u8 heads, sectors;
        if (!piix3_ide_geometry(m->pc->ide, i, &cylinders, &heads, &sectors)) continue;
        if (cylinders > 1024) translation |= (u8)(1u << (2 * i));
        if (i > 1) continue;
        types |= i ? 0x0f : 0xf0; /* see 19h and 1ah */
        mc146818_set_cmos(rtc, (u8)(0x19 + i), 47); /* the type with a geometry of its own */
        u8 at = (u8)(0x1b + 9 * i);
        const u8 entry[9] = {(u8)cylinders, (u8)(cylinders >> 8), heads, 0xff, 0xff, /* no write precompensation */
                             (u8)(0xc0 | (heads > 8) << 3), (u8)cylinders, (u8)(cylinders >> 8), sectors};
        for (u8 k = 0; k < sizeof(entry); k++) mc146818_set_cmos(rtc, (u8)(at + k), entry[k]);
    }
    mc146818_set_cmos(rtc, 0x12, types);
    mc146818_set_cmos(rtc, 0x39, translation);
}

/* Three nibbles: 1 floppy, 2 hard disk, 3 CD, 4 network. */
static void set_boot_order(struct pc *pc, const char *letters)
{
    const char *order = letters[0] ? letters : "cad";
    u8 nibbles[3] = {0};
    for (int i = 0; i < 3 && order[i]; i++) {
        switch (order[i]) {
        case 'a':
        case 'b': nibbles[i] = 1; break;
        case 'c': nibbles[i] = 2; break;
        case 'd': nibbles[i] = 3; break;
        default: nibbles[i] = 4; break;
        }
    }
    mc146818_set_cmos(pc->rtc, 0x3d, (u8)(nibbles[1] << 4 | nibbles[0]));
    mc146818_set_cmos(pc->rtc, 0x38, (u8)(nibbles[2] << 4)); /* bit 0: do not check for a floppy's boot signature */
}

/* CMOS fields as SeaBIOS and older firmware read them. */
static void fill_cmos(struct machine *m)
{
    struct pc *pc = m->pc;
    struct mc146818 *rtc = pc->rtc;
    u64 low = pc->low_ram, high = pc->high_ram;

    mc146818_set_cmos(rtc, 0x15, 640 & 0xff); /* base memory, KiB */
    mc146818_set_cmos(rtc, 0x16, 640 >> 8);
    u64 extended = MIN((low - 0x100000) >> 10, 0xffffull); /* above 1 MiB, KiB */
    mc146818_set_cmos(rtc, 0x17, (u8)extended);
    mc146818_set_cmos(rtc, 0x18, (u8)(extended >> 8));
    mc146818_set_cmos(rtc, 0x30, (u8)extended);
    mc146818_set_cmos(rtc, 0x31, (u8)(extended >> 8));
    u64 above_16m = low > 0x1000000 ? MIN((low - 0x1000000) >> 16, 0xffffull) : 0; /* 64 KiB units */
    mc146818_set_cmos(rtc, 0x34, (u8)above_16m);
    mc146818_set_cmos(rtc, 0x35, (u8)(above_16m >> 8));
    mc146818_set_cmos(rtc, 0x5b, (u8)(high >> 16)); /* above 4 GiB, 64 KiB units */
    mc146818_set_cmos(rtc, 0x5c, (u8)(high >> 24));
    mc146818_set_cmos(rtc, 0x5d, (u8)(high >> 32));
    mc146818_set_cmos(rtc, 0x5f, (u8)(m->options->cpus - 1));

    u8 floppies[FDC_DRIVES] = {0}, count = 0;
    for (unsigned i = 0; i < FDC_DRIVES && pc->fdc; i++) count += (floppies[i] = fdc_type(pc->fdc, i)) != 0;
    mc146818_set_cmos(rtc, 0x10, (u8)(floppies[0] << 4 | floppies[1]));
    /* equipment: x87, PS/2 mouse, floppy drives */
    mc146818_set_cmos(rtc, 0x14, (u8)(0x06 | (count ? (count - 1) << 6 | 1 : 0)));
    fill_cmos_disks(m);

    set_boot_order(pc, m->options->boot_once[0] ? m->options->boot_once : m->options->boot_order);
}

static bool add_option_roms(struct machine *m)
{
    for (int i = 0; i < m->options->option_rom_count; i++) {
        const char *name = m->options->option_roms[i];
        struct firmware rom;
        if (!firmware_read(&rom, m->options, name, 1u << 24)) return false;
        const char *base = strrchr(name, '/');
        char file[56];
        int n = snprintf(file, sizeof(file), "genroms/%s", base ? base + 1 : name);
        bool ok = n < (int)sizeof(file) && !fw_cfg_add_file(m->pc->fw_cfg, file, rom.data, rom.size);
        if (n >= (int)sizeof(file)) fprintf(stderr, "calque: -option-rom %s: the file's name is too long\n", name);
        firmware_free(&rom);
        if (!ok) return false;
    }
    return true;
}

static bool add_user_items(struct machine *m)
{
    for (int i = 0; i < m->options->fw_cfg_count; i++) {
        const struct fw_cfg_option *item = &m->options->fw_cfg[i];
        size_t size;
        if (fw_cfg_find_file(m->pc->fw_cfg, item->name, &size)) {
            fprintf(stderr, "calque: -fw_cfg: item %s exists already\n", item->name);
            return false;
        }
        int err;
        if (item->string) {
            err = fw_cfg_add_file(m->pc->fw_cfg, item->name, item->string, strlen(item->string));
        } else {
            u8 *data = loader_read_file(item->file, "fw_cfg item", 1u << 30, &size);
            if (!data) return false;
            err = fw_cfg_add_file(m->pc->fw_cfg, item->name, data, size);
            free(data);
        }
        if (err) return false;
    }
    return true;
}

/* What has a bootindex, lowest first, by its Open Firmware path. */
static void add_boot_indexes(const struct machine *m, char *boot_order, size_t size)
{
    const struct options *o = m->options;
    for (int done = -1;;) {
        s64 best = INT64_MAX;
        char path[64];
        for (int i = 0; i < o->drive_count; i++) {
            const struct drive_option *d = &o->drives[i];
            if (d->interface == DRIVE_NONE || d->bootindex <= done || d->bootindex >= best) continue;
            best = d->bootindex;
            if (d->interface == DRIVE_IDE)
                snprintf(path, sizeof(path), "ide@1,1/drive@%x/disk@%x", d->index >> 1, d->index & 1);
            else if (d->interface == DRIVE_FLOPPY)
                snprintf(path, sizeof(path), "isa@1/fdc@03f0/floppy@%x", d->index);
            else
                snprintf(path, sizeof(path), "scsi@%x/disk@0,0", m->pc->disk_devfn[i] >> 3);
        }
        for (int i = 0; i < o->nic_count; i++) {
            if (o->nics[i].bootindex <= done || o->nics[i].bootindex >= best) continue;
            best = o->nics[i].bootindex;
            snprintf(path, sizeof(path), "ethernet@%x/ethernet-phy@0", m->pc->nic_devfn[i] >> 3);
        }
        if (best == INT64_MAX) return;
        done = (int)best;
        size_t n = strlen(boot_order);
        snprintf(boot_order + n, size - n, "%s/pci@i0cf8/%s", n ? "\n" : "", path);
    }
}

static bool add_kernel(struct machine *m, char *boot_order, size_t boot_order_size)
{
    const struct options *o = m->options;
    boot_order[0] = 0;
    if (o->kernel) {
        struct loader l = {
            .fw_cfg = m->pc->fw_cfg,
            .low_ram = m->pc->low_ram,
            .kernel_path = o->kernel,
            .initrd_path = o->initrd,
            .cmdline = o->append ? o->append : "",
        };
        if (load_kernel(&l)) return false;
        snprintf(boot_order, boot_order_size, "/rom@%s", l.rom_name);
    }
    add_boot_indexes(m, boot_order, boot_order_size);
    if (o->boot_strict) {
        size_t n = strlen(boot_order);
        snprintf(boot_order + n, boot_order_size - n, "%sHALT", n ? "\n" : "");
    }
    return true;
}

static bool add_tables(struct machine *m)
{
    const struct options *o = m->options;
    struct pc *pc = m->pc;
    u8 serial_ports = 0;
    for (int i = 0; i < 2; i++)
        if (o->serial[i] >= 0) serial_ports |= (u8)(1u << i);
    struct acpi_config acpi = {
        .cpus = o->cpus,
        .low_ram = pc->low_ram,
        .hpet_id = o->hpet ? HPET_BLOCK_ID : 0,
        .serial_ports = serial_ports,
        .floppy = pc->fdc != NULL,
    };
    if (o->acpi && acpi_tables_add(pc->fw_cfg, &acpi)) return false;
    struct smbios_config smbios = {
        .cpus = o->cpus,
        .cpu_signature = cpu_model_signature(o->cpu_model),
        .cpu_features = o->cpu_model->words[CPUID_1_EDX],
        .cpu_vendor = o->cpu_model->vendor,
        .cpu_model = o->cpu_model->brand,
        .low_ram = pc->low_ram,
        .high_ram = pc->high_ram,
        .uuid = o->has_uuid ? o->uuid : NULL,
        .version = CALQUE_VERSION,
    };
    return !smbios_add(pc->fw_cfg, &smbios);
}

static bool create_fw_cfg(struct machine *m)
{
    const struct options *o = m->options;
    struct fw_cfg *f = m->pc->fw_cfg = fw_cfg_create(m->io, m->mem);
    if (!f || !add(m, fw_cfg_device(f))) return false;

    fw_cfg_add_bytes(f, FW_CFG_UUID, o->uuid, sizeof(o->uuid));
    fw_cfg_add_u64(f, FW_CFG_RAM_SIZE, o->ram_size);
    fw_cfg_add_u16(f, FW_CFG_NOGRAPHIC, o->nographic);
    fw_cfg_add_u16(f, FW_CFG_NB_CPUS, (u16)o->cpus);
    fw_cfg_add_u16(f, FW_CFG_MAX_CPUS, (u16)o->cpus);
    fw_cfg_add_u16(f, FW_CFG_BOOT_MENU, o->boot_menu);
    fw_cfg_add_bytes(f, FW_CFG_IRQ0_OVERRIDE, &(u8){1}, 1);
    fw_cfg_add_e820(f, m->pc->low_ram, m->pc->high_ram);

    u32 fail_wait = o->reboot_timeout == UINT64_MAX ? UINT32_MAX : (u32)o->reboot_timeout;
    if (fw_cfg_add_file(f, "etc/boot-fail-wait", &fail_wait, sizeof(fail_wait))) return false;
    u16 menu_wait = (u16)o->splash_time;
    if (o->splash_time != UINT64_MAX && fw_cfg_add_file(f, "etc/boot-menu-wait", &menu_wait, sizeof(menu_wait)))
        return false;
    char boot_order[2048];
    if (!add_tables(m) || !add_option_roms(m) || !add_kernel(m, boot_order, sizeof(boot_order))) return false;
    if (boot_order[0] && fw_cfg_add_file(f, "bootorder", boot_order, strlen(boot_order) + 1)) return false;
    return add_user_items(m);
}

/* ---- the board ---- */

bool pc_create(struct machine *m)
{
    struct firmware bios = {0}, vga_bios = {0};
    m->pc = calloc(1, sizeof(*m->pc));
    if (!m->pc) {
        fprintf(stderr, "calque: out of memory\n");
        return false;
    }
    m->pc->a20 = true;
    bus_begin_update(m->mem);
    bus_begin_update(m->io);
    bool ok = create_memory(m, &bios, &vga_bios) &&
              create_processors(m) &&
              create_bridges(m, &bios) &&
              create_timers(m) &&
              create_legacy(m) &&
              create_ports(m) &&
              create_drives(m) &&
              create_pci_devices(m, &vga_bios) &&
              create_usb(m) &&
              create_network_cards(m) &&
              create_virtio_disks(m) &&
              create_debug_devices(m) &&
              create_fw_cfg(m);
    bus_end_update(m->io);
    bus_end_update(m->mem);
    if (ok) fill_cmos(m);
    firmware_free(&bios);
    firmware_free(&vga_bios);
    return ok;
}

void pc_reset(struct machine *m)
{
    pci_bus_reset(m->pc->pci);
    set_a20(m, true);
    if (m->pc->was_reset && m->options->boot_once[0]) set_boot_order(m->pc, m->options->boot_order);
    m->pc->was_reset = true;
}

void pc_destroy(struct machine *m)
{
    if (!m->pc) return;
    pc_close_drives(m);
    if (m->pc->pci) pci_bus_destroy(m->pc->pci);
    if (m->pc->apics) apic_bus_destroy(m->pc->apics);
    for (int i = 0; i <= OPTIONS_RNGS; i++) random_source_close(m->pc->rngs[i]);
    free(m->pc);
    m->pc = NULL;
}

/* ---- for the user's commands ---- */

struct pci_bus *pc_pci(struct machine *m) { return m->pc->pci; }
struct piix3_ide *pc_ide(struct machine *m) { return m->pc->ide; }
struct fdc *pc_fdc(struct machine *m) { return m->pc->fdc; }
void pc_print_pics(struct machine *m, FILE *out)
{
    i8259_print(m->pc->i8259, out);
    ioapic_print(m->pc->ioapic, out);
}

void pc_print_irqs(struct machine *m, FILE *out)
{
    fprintf(out, "IRQ statistics for isa:\n");
    for (int i = 0; i < 16; i++)
        if (m->pc->isa_count[i]) fprintf(out, "%2d: %llu\n", i, (unsigned long long)m->pc->isa_count[i]);
}

void pc_retry_drives(struct machine *m)
{
    for (int i = 0; m->pc && i < m->options->drive_count; i++)
        if (m->pc->drives[i]) disk_queue_retry(m->pc->drives[i]);
}

struct block **pc_drive(struct machine *m, int drive) { return &m->pc->drives[drive]; }
struct drive_events *pc_drive_events(struct machine *m, int drive) { return &m->pc->events[drive]; }

void pc_power_button(struct machine *m)
{
    if (m->pc->pm) acpi_pm_power_button(m->pc->pm);
}
