/* The devices that are fuzzed: how each is put on the board, and where it answers. BARs are found by the board. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"
#include "core/audio.h"
#include "devices/ac97.h"
#include "devices/acpi_pm.h"
#include "devices/acpi_tables.h"
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
#include "devices/lapic.h"
#include "devices/mc146818.h"
#include "devices/ne2000.h"
#include "devices/parallel.h"
#include "devices/pc_testdev.h"
#include "devices/pci_testdev.h"
#include "devices/piix3.h"
#include "devices/piix3_ide.h"
#include "devices/port92.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "devices/rtl8139.h"
#include "devices/uart16550.h"
#include "devices/uhci.h"
#include "devices/usb_hid.h"
#include "devices/vga.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_input.h"
#include "devices/virtio_net.h"
#include "devices/virtio_rng.h"

static const u8 mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

static void nothing(void *opaque) { (void)opaque; }
static void nothing_int(void *opaque, int n)
{
    (void)opaque;
    (void)n;
}
static void nothing_bool(void *opaque, bool on)
{
    (void)opaque;
    (void)on;
}
static void message(void *opaque, u64 address, u32 data) { apic_bus_msi(opaque, address, data); }

/* ---- interrupts and timers ---- */

static void poke_i8259(struct board *b, void *opaque, struct fuzz_bytes *in)
{
    (void)b;
    u8 n = (u8)fuzz_take(in, 1);
    struct irq_line line = i8259_input(opaque, n & 15);
    irq_set(&line, n >> 4 & 1);
    if (n & 0x20) i8259_ack(opaque);
}

static void create_i8259(struct board *b)
{
    struct i8259 *pic = i8259_create(b->ports, b->line);
    board_add(b, i8259_device(pic));
    board_ports(b, 0x20, 2);
    board_ports(b, 0xa0, 2);
    board_ports(b, 0x4d0, 2);
    b->poke = poke_i8259;
    b->poke_opaque = pic;
}

static void create_i8254(struct board *b)
{
    board_add(b, i8254_device(i8254_create(b->ports, b->line, b->clock)));
    board_ports(b, 0x40, 4);
    board_ports(b, 0x61, 1);
}

static void create_mc146818(struct board *b)
{
    board_add(b, mc146818_device(mc146818_create(b->ports, b->line, b->clock, true)));
    board_ports(b, 0x70, 4);
}

static void create_hpet(struct board *b)
{
    struct hpet_wiring wiring = {.irq0 = b->line, .irq8 = b->line, .routes = 0xf00000, .msi = message, .msi_opaque = b->apics};
    for (int i = 0; i < 24; i++) wiring.gsi[i] = b->line;
    board_add(b, hpet_device(hpet_create(b->memory, HPET_DEFAULT_BASE, b->clock, &wiring)));
    board_memory(b, HPET_DEFAULT_BASE, 0x400);
}

static void sipi(void *opaque, u8 vector)
{
    (void)opaque;
    (void)vector;
}
static u64 same_time(void *opaque, u64 t)
{
    (void)opaque;
    return t;
}

static void poke_lapic(struct board *b, void *opaque, struct fuzz_bytes *in)
{
    u8 what = (u8)fuzz_take(in, 1);
    u64 value;
    u32 msr = what & 0x40 ? 0x1b : what & 0x20 ? 0x6e0 : 0x800 + (u32)fuzz_take(in, 1);
    switch (what % 6) {
    case 0: lapic_msr_read(opaque, msr, &value); break;
    case 1: lapic_msr_write(opaque, msr, fuzz_take(in, 8)); break;
    case 2: lapic_cr8_write(opaque, fuzz_take(in, 1) & 15); break;
    case 3: lapic_ack(opaque); break;
    case 4: {
        struct irq_line line = lapic_lint(opaque, what >> 7);
        irq_set(&line, what >> 6 & 1);
        break;
    }
    default: apic_bus_broadcast(b->apics, &(struct apic_message){.mode = APIC_MODE_INIT}, NULL);
    }
}

/* The page as a region; on the board a processor's accesses find it, wherever it was moved. */
static u64 lapic_region_read(void *opaque, u64 offset, unsigned size)
{
    u64 value;
    lapic_mmio_read(opaque, lapic_base(opaque) + offset, size, &value);
    return value;
}

static void lapic_region_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    lapic_mmio_write(opaque, lapic_base(opaque) + offset, value, size);
}

static const struct region_ops lapic_region_ops = {
    .read = lapic_region_read, .write = lapic_region_write, .min_size = 1, .max_size = 8};

static struct lapic *add_lapic(struct board *b, u32 id)
{
    const struct lapic_cpu cpu = {.opaque = b, .set_intr = nothing_bool, .nmi = nothing, .init = nothing, .sipi = sipi,
                                  .smi = nothing, .ns_to_tsc = same_time, .tsc_to_ns = same_time};
    const struct lapic_config config = {
        .id = id, .bsp = !id, .x2apic = true, .tsc_deadline = true, .directed_eoi = true, .phys_bits = 40};
    struct lapic *l = lapic_create(b->apics, b->clock, &config, &cpu);
    board_add(b, lapic_device(l));
    bus_add(b->memory, "lapic", LAPIC_DEFAULT_BASE + id * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE, 1, &lapic_region_ops, l);
    board_memory(b, LAPIC_DEFAULT_BASE + id * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
    return l;
}

static void create_lapic(struct board *b)
{
    b->poke = poke_lapic;
    b->poke_opaque = add_lapic(b, 0);
    add_lapic(b, 1);
}

static void poke_ioapic(struct board *b, void *opaque, struct fuzz_bytes *in)
{
    (void)b;
    u8 n = (u8)fuzz_take(in, 1);
    struct irq_line line = ioapic_input(opaque, (n & 0x7f) % IOAPIC_PINS);
    irq_set(&line, n >> 7);
}

static void create_ioapic(struct board *b)
{
    add_lapic(b, 0);
    add_lapic(b, 1);
    struct ioapic *io = ioapic_create(b->memory, IOAPIC_DEFAULT_BASE, b->apics);
    board_add(b, ioapic_device(io));
    board_memory(b, IOAPIC_DEFAULT_BASE, GUEST_PAGE_SIZE);
    apic_bus_map_msi(b->apics, b->memory);
    b->poke = poke_ioapic;
    b->poke_opaque = io;
}

/* ---- the board's bridges ---- */

static void create_bridges(struct board *b)
{
    pci_bus_set_msi_handler(b->pci, message, b->apics);
    board_add(b, i440fx_device(i440fx_create(b->pci, b->ram, 8u << 20)));
    struct piix3_wiring wiring = {.reset = nothing_bool, .opaque = b};
    for (int i = 0; i < 16; i++) wiring.isa_irq[i] = b->line;
    for (int i = 0; i < 4; i++) wiring.pirq_apic[i] = b->line;
    board_add(b, piix3_device(piix3_create(b->pci, &wiring)));
    board_add(b, pci_testdev_create(b->pci, -1));
    board_ports(b, 0xcf8, 8);
    board_memory(b, 0xa0000, 0x60000);
}

static void poke_acpi_pm(struct board *b, void *opaque, struct fuzz_bytes *in)
{
    (void)b;
    u8 n = (u8)fuzz_take(in, 1);
    if (n & 0x80) acpi_pm_power_button(opaque);
    else acpi_pm_gpe(opaque, n & 15);
}

static void create_acpi_pm(struct board *b)
{
    struct acpi_pm *pm = acpi_pm_create(b->pci, PCI_DEVFN(1, 3), b->line, b->clock, nothing, b);
    board_add(b, acpi_pm_device(pm));
    board_ports(b, ACPI_PM_SMI_COMMAND, 2);
    board_ports(b, ACPI_PM_GPE_BASE, ACPI_PM_GPE_LENGTH);
    board_ports(b, 0x600, 0x40);
    board_ports(b, 0x700, 0x10);
    b->poke = poke_acpi_pm;
    b->poke_opaque = pm;
}

/* ---- legacy devices ---- */

static void poke_i8237(struct board *b, void *opaque, struct fuzz_bytes *in)
{
    (void)b;
    u8 n = (u8)fuzz_take(in, 1), buf[512] = {0};
    bool tc;
    i8237_request(opaque, n & 7, n >> 3 & 1);
    size_t len = fuzz_take(in, 2) % sizeof(buf) & ~(size_t)1;
    if (i8237_transfer(opaque, n & 7, buf, len, n >> 4 & 1, &tc) > len) abort();
    if (i8237_left(opaque, n & 7) > 0x20000) abort();
}

static void create_i8237(struct board *b)
{
    struct i8237 *dma = i8237_create(b->ports, b->memory);
    board_add(b, i8237_device(dma));
    board_ports(b, 0, 0x10);
    board_ports(b, 0xc0, 0x20);
    board_ports(b, 0x80, 0x10);
    b->poke = poke_i8237;
    b->poke_opaque = dma;
}

static void create_i8042(struct board *b)
{
    struct ps2_keyboard *keyboard = ps2_keyboard_create(NULL, NULL);
    struct ps2_mouse *mouse = ps2_mouse_create();
    board_add(b, ps2_keyboard_device(keyboard));
    board_add(b, ps2_mouse_device(mouse));
    ps2_keyboard_connect(keyboard, b->input);
    ps2_mouse_connect(mouse, b->input);
    board_add(b, i8042_device(i8042_create(b->ports, b->line, b->line, b->line, b->line, ps2_keyboard_port(keyboard),
                                           ps2_mouse_port(mouse))));
    board_add(b, port92_device(port92_create(b->ports, b->line, b->line)));
    board_ports(b, 0x60, 1);
    board_ports(b, 0x64, 1);
    board_ports(b, 0x92, 1);
}

static void create_uart16550(struct board *b)
{
    board_add(b, uart16550_create(b->ports, 0x3f8, b->line, b->clock, &b->chr));
    board_ports(b, 0x3f8, 8);
}

static void create_debug(struct board *b)
{
    struct irq_line lines[PC_TESTDEV_LINES];
    for (int i = 0; i < PC_TESTDEV_LINES; i++) lines[i] = b->line;
    board_add(b, debug_port_create(b->ports, 0x402, 0xe9, &b->chr));
    board_add(b, isa_debug_exit_create(b->ports, 0xf4, 4, nothing_int, b));
    board_add(b, pc_testdev_create(b->ports, b->memory, lines));
    board_ports(b, 0x402, 1);
    board_ports(b, 0xf4, 4);
    board_ports(b, 0xe0, 0xc);
    board_ports(b, 0x2000, 0x18);
    board_memory(b, 0xff000000, 0x10000);
}

static void create_fw_cfg(struct board *b)
{
    struct fw_cfg *f = fw_cfg_create(b->ports, b->memory);
    board_add(b, fw_cfg_device(f));
    fw_cfg_add_u64(f, FW_CFG_RAM_SIZE, BOARD_RAM);
    fw_cfg_add_e820(f, BOARD_RAM, 0);
    const struct acpi_config acpi = {.cpus = 2, .low_ram = BOARD_RAM};
    if (acpi_tables_add(f, &acpi)) abort();
    board_ports(b, 0x510, 12);
}

static void create_parallel(struct board *b)
{
    board_add(b, parallel_create(b->ports, 0x378, b->line, &b->chr));
    board_ports(b, 0x378, 8);
}

/* ---- disks ---- */

static void poke_fdc(struct board *b, void *opaque, struct fuzz_bytes *in)
{
    u8 n = (u8)fuzz_take(in, 1);
    if (!b->disk[1].pending) fdc_change_medium(opaque, 1, n & 1 ? &b->disk[1].block : NULL);
}

static void create_fdc(struct board *b)
{
    struct i8237 *dma = i8237_create(b->ports, b->memory);
    board_add(b, i8237_device(dma));
    struct fdc *fdc = fdc_create(b->ports, b->line, dma, b->clock);
    board_add(b, fdc_device(fdc));
    for (unsigned i = 0; i < BOARD_DISKS; i++) {
        b->disk[i].block.size = i ? 720u << 10 : 1440u << 10;
        fdc_attach(fdc, i, &b->disk[i].block);
    }
    board_ports(b, 0x3f2, 6);
    board_ports(b, 0, 0x10);
    board_ports(b, 0x80, 0x10);
    b->poke = poke_fdc;
    b->poke_opaque = fdc;
}

static void poke_ide(struct board *b, void *opaque, struct fuzz_bytes *in)
{
    u8 n = (u8)fuzz_take(in, 1);
    if (b->disk[1].pending) return; /* the monitor waits for that, too */
    if (n & 1) piix3_ide_change_medium(opaque, 2, n & 2 ? &b->disk[1].block : NULL, n & 4);
    else piix3_ide_move_tray(opaque, 2, n & 2, n & 4);
}

static void create_ide(struct board *b)
{
    struct piix3_ide *ide = piix3_ide_create(b->pci, PCI_DEVFN(1, 1), b->line, b->line);
    board_add(b, piix3_ide_device(ide));
    const struct piix3_ide_drive disk = {.block = &b->disk[0].block};
    b->disk[1].block.readonly = true;
    b->disk[1].block.size = 64u << 20;
    const struct piix3_ide_drive cd = {.block = &b->disk[1].block, .cdrom = true, .tray_moved = nothing_bool};
    if (piix3_ide_attach(ide, 0, &disk) || piix3_ide_attach(ide, 2, &cd)) abort();
    board_ports(b, 0x1f0, 8);
    board_ports(b, 0x170, 8);
    board_ports(b, 0x3f6, 1);
    board_ports(b, 0x376, 1);
    b->poke = poke_ide;
    b->poke_opaque = ide;
}

static struct virtio_slot slot(struct board *b)
{
    pci_bus_set_msi_handler(b->pci, message, b->apics);
    return (struct virtio_slot){.pci = b->pci, .devfn = -1};
}

static void create_virtio_blk(struct board *b)
{
    const struct virtio_slot s = slot(b);
    const struct virtio_blk_config config = {.block = &b->disk[0].block, .serial = "fuzz"};
    board_add(b, virtio_blk_create(&s, &config));
}

/* ---- network ---- */

static void create_e1000(struct board *b)
{
    b->net.large = true; /* in loopback it cuts packets itself */
    board_add(b, e1000_create(b->pci, -1, b->clock, &b->net, mac, b->ram, NULL, 0));
    clock_advance(b->clock, NS_PER_SECOND); /* the link comes up */
}

static void create_rtl8139(struct board *b)
{
    board_add(b, rtl8139_create(b->pci, -1, b->clock, &b->net, mac, b->ram, NULL, 0));
}

static void create_ne2000(struct board *b)
{
    board_add(b, ne2000_create(b->pci, -1, &b->net, mac, b->ram, NULL, 0));
}

static void create_virtio_net(struct board *b)
{
    const struct virtio_slot s = slot(b);
    b->net.large = true;
    board_add(b, virtio_net_create(&s, b->clock, &b->net, mac, b->ram, NULL, 0));
}

/* ---- others ---- */

static size_t random_numbers(void *opaque, u8 *buf, size_t size)
{
    (void)opaque;
    memset(buf, 0x5a, size);
    return size;
}

static void create_virtio_rng(struct board *b)
{
    const struct virtio_slot s = slot(b);
    board_add(b, virtio_rng_create(&s, random_numbers, NULL));
}

static void create_virtio_input(struct board *b)
{
    const struct virtio_slot s = slot(b);
    board_add(b, virtio_input_create(&s, VIRTIO_KEYBOARD, b->input));
    board_add(b, virtio_input_create(&s, VIRTIO_TABLET, b->input));
}

static void create_uhci(struct board *b)
{
    struct uhci *uhci = uhci_create(b->pci, PCI_DEVFN(1, 2), b->clock);
    board_add(b, uhci_device(uhci));
    for (int i = 0; i < UHCI_PORTS; i++) {
        struct usb_device *d = usb_hid_create(i ? USB_HID_TABLET : USB_HID_KEYBOARD, b->clock, b->input);
        board_add(b, &d->dev);
        if (!uhci_plug(uhci, d)) abort();
    }
}

static void create_ac97(struct board *b)
{
    if (!(b->audio = audio_create(b->clock, NULL, 44100))) abort();
    board_add(b, ac97_create(b->pci, -1, b->audio));
}

static void create_vga(struct board *b)
{
    static const u8 rom[512] = {0x55, 0xaa, 1};
    struct vga *vga = vga_create(b->pci, &(struct vga_config)VGA_DEFAULT, b->ram, b->clock, rom, sizeof(rom));
    board_add(b, vga_device(vga));
    if (!(b->display = display_create())) abort();
    vga_connect(vga, b->display);
    board_ports(b, 0x3b4, 0x2c);
    board_ports(b, 0x1ce, 4);
    board_memory(b, 0xa0000, 0x20000);
}

/* Cards that do DMA into each other's registers. */
static void create_cards(struct board *b)
{
    create_ide(b);
    create_e1000(b);
    board_add(b, rtl8139_create(b->pci, -1, b->clock, NULL, mac, b->ram, NULL, 0)); /* it only hears itself */
    create_uhci(b);
    create_ac97(b);
}

const struct fuzz_target fuzz_devices[] = {
    {"i8259", NULL, create_i8259},
    {"i8254", NULL, create_i8254},
    {"mc146818", NULL, create_mc146818},
    {"hpet", NULL, create_hpet},
    {"lapic", NULL, create_lapic},
    {"ioapic", NULL, create_ioapic},
    {"bridges", NULL, create_bridges},
    {"acpi_pm", NULL, create_acpi_pm},
    {"i8237", NULL, create_i8237},
    {"i8042", NULL, create_i8042},
    {"uart16550", NULL, create_uart16550},
    {"debug", NULL, create_debug},
    {"parallel", NULL, create_parallel},
    {"fw_cfg", NULL, create_fw_cfg},
    {"ide", NULL, create_ide},
    {"fdc", NULL, create_fdc},
    {"virtio_blk", NULL, create_virtio_blk},
    {"e1000", NULL, create_e1000},
    {"rtl8139", NULL, create_rtl8139},
    {"ne2000", NULL, create_ne2000},
    {"virtio_net", NULL, create_virtio_net},
    {"virtio_rng", NULL, create_virtio_rng},
    {"virtio_input", NULL, create_virtio_input},
    {"uhci", NULL, create_uhci},
    {"ac97", NULL, create_ac97},
    {"vga", NULL, create_vga},
    {"cards", NULL, create_cards},
    {NULL, NULL, NULL},
};
