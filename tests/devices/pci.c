// build/tests/test_pci
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "core/bus.h"
#include "devices/pci.h"
#include "devices/pci_msi.h"

struct board {
    struct bus *memory, *ports;
    struct ram *ram;
    struct pci_bus *pci;
    struct pci_device dev;
    u64 last_offset;
    u32 register_value;
    int pirq[4];
    int pirq_changes;
    u64 msi_address;
    u32 msi_data;
    int msi_count;
    u8 rcr;
    int hook_calls;
};

static u64 reg_read(void *opaque, u64 offset, unsigned size)
{
    struct board *b = opaque;
    (void)size;
    b->last_offset = offset;
    return b->register_value;
}

static void reg_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct board *b = opaque;
    (void)size;
    b->last_offset = offset;
    b->register_value = (u32)value;
}

static const struct region_ops reg_ops = {.read = reg_read, .write = reg_write, .min_size = 4, .max_size = 4};

static void set_pirq(void *opaque, int n, int level)
{
    struct board *b = opaque;
    b->pirq[n] = level;
    b->pirq_changes++;
}

static void on_msi(void *opaque, u64 address, u32 data)
{
    struct board *b = opaque;
    b->msi_address = address;
    b->msi_data = data;
    b->msi_count++;
}

static struct board *hook_board;
static void hook(struct pci_device *d, unsigned offset, unsigned size, const u8 *old)
{
    (void)offset;
    (void)size;
    if (memcmp(old, d->config, 256)) hook_board->hook_calls++;
}

static void dev_reset(struct device *d) { pci_device_reset((struct pci_device *)d); }
static void dev_destroy(struct device *d) { pci_device_destroy((struct pci_device *)d); }
static const struct device_class cls = {.name = "thing", .reset = dev_reset, .destroy = dev_destroy};
static const struct pci_info info = {
    .vendor = 0x1234,
    .device = 0x5678,
    .revision = 9,
    .class_code = 0x020001,
    .interrupt_pin = 1,
    .config_written = hook,
};

static void setup(struct board *b)
{
    memset(b, 0, sizeof *b);
    hook_board = b;
    b->memory = bus_create("memory", 1ull << 52);
    b->ports = bus_create("ports", 0x10000);
    b->ram = ram_create(1 << 20);
    b->pci = pci_bus_create(b->memory, b->ports);
    pci_bus_set_pirq_handler(b->pci, set_pirq, b);
    pci_bus_set_msi_handler(b->pci, on_msi, b);
    cr_assert_eq(pci_device_init(&b->dev, b->pci, PCI_DEVFN(3, 0), &info, &cls), 0);
}

static void teardown(struct board *b)
{
    pci_device_destroy(&b->dev);
    pci_bus_destroy(b->pci);
    bus_destroy(b->memory);
    bus_destroy(b->ports);
    ram_destroy(b->ram);
}

static void select_reg(struct board *b, int devfn, unsigned reg)
{
    bus_write(b->ports, 0xcf8, 0x80000000u | (u32)devfn << 8 | reg, 4);
}

static u32 conf(struct board *b, unsigned reg, unsigned size)
{
    select_reg(b, PCI_DEVFN(3, 0), reg & ~3u);
    return (u32)bus_read(b->ports, 0xcfc + (reg & 3), size);
}

static void set_conf(struct board *b, unsigned reg, u32 value, unsigned size)
{
    select_reg(b, PCI_DEVFN(3, 0), reg & ~3u);
    bus_write(b->ports, 0xcfc + (reg & 3), value, size);
}

Test(pci, mechanism_1_address_register)
{
    struct board b;
    setup(&b);
    bus_write(b.ports, 0xcf8, 0xffffffff, 4);
    cr_expect_eq(bus_read(b.ports, 0xcf8, 4), 0x80fffffc);
    /* Bytes and words at 0xcf8 are not the address register's. */
    bus_write(b.ports, 0xcf8, 0, 1);
    bus_write(b.ports, 0xcfb, 0, 1);
    bus_write(b.ports, 0xcfa, 0, 2);
    cr_expect_eq(bus_read(b.ports, 0xcf8, 4), 0x80fffffc);
    cr_expect_eq(bus_read(b.ports, 0xcf8, 1), 0xff);
    cr_expect_eq(bus_read(b.ports, 0xcfa, 2), 0xffff);
    /* Disabled: no configuration cycles. */
    bus_write(b.ports, 0xcf8, PCI_DEVFN(3, 0) << 8, 4);
    cr_expect_eq(bus_read(b.ports, 0xcfc, 4), 0xffffffff);
    bus_write(b.ports, 0xcf8, 0x80000000u | PCI_DEVFN(3, 0) << 8, 4);
    cr_expect_eq(bus_read(b.ports, 0xcfc, 4), 0x56781234);
    /* Other buses are empty. */
    bus_write(b.ports, 0xcf8, 0x80010000u | PCI_DEVFN(3, 0) << 8, 4);
    cr_expect_eq(bus_read(b.ports, 0xcfc, 4), 0xffffffff);
    pci_bus_reset(b.pci);
    cr_expect_eq(bus_read(b.ports, 0xcf8, 4), 0);
    teardown(&b);
}

Test(pci, header)
{
    struct board b;
    setup(&b);
    cr_expect_eq(conf(&b, 0, 2), 0x1234);
    cr_expect_eq(conf(&b, 2, 2), 0x5678);
    cr_expect_eq(conf(&b, 1, 1), 0x12);
    cr_expect_eq(conf(&b, 1, 2), 0x7812);
    cr_expect_eq(conf(&b, 8, 4), 0x02000109);
    cr_expect_eq(conf(&b, 0x2c, 4), 0x11001af4);
    cr_expect_eq(conf(&b, 0x3d, 1), 1);
    set_conf(&b, 0, 0xffffffff, 4); /* read-only */
    set_conf(&b, 8, 0xffffffff, 4);
    cr_expect_eq(conf(&b, 0, 4), 0x56781234);
    cr_expect_eq(conf(&b, 8, 4), 0x02000109);
    cr_expect_eq(b.hook_calls, 0);
    set_conf(&b, 0x3c, 0x0b, 1);
    cr_expect_eq(conf(&b, 0x3c, 1), 0x0b);
    cr_expect_eq(b.hook_calls, 1);
    set_conf(&b, 4, 0xffff, 2);
    cr_expect_eq(conf(&b, 4, 2), 0x0547);
    /* Nobody in another slot or function. */
    cr_expect_eq(pci_bus_config_read(b.pci, PCI_DEVFN(4, 0), 0, 4), 0xffffffff);
    cr_expect_eq(pci_bus_config_read(b.pci, PCI_DEVFN(3, 1), 0, 2), 0xffff);
    teardown(&b);
}

Test(pci, status_bits_clear_by_writing_one)
{
    struct board b;
    setup(&b);
    pci_put16(b.dev.config + PCI_STATUS, 0xf080);
    set_conf(&b, 6, 0x3000, 2);
    cr_expect_eq(conf(&b, 6, 2), 0xc080);
    set_conf(&b, 6, 0xffff, 2);
    cr_expect_eq(conf(&b, 6, 2), 0x0080);
    teardown(&b);
}

Test(pci, io_bar)
{
    struct board b;
    setup(&b);
    pci_add_bar(&b.dev, 0, PCI_BAR_IO, 0x20, "regs", &reg_ops, &b);
    cr_expect_eq(conf(&b, 0x10, 4), 1);
    set_conf(&b, 0x10, 0xffffffff, 4);
    cr_expect_eq(conf(&b, 0x10, 4), 0xffffffe1);
    set_conf(&b, 0x10, 0xc000, 4);
    b.register_value = 0xabcdef01;
    cr_expect_eq(bus_read(b.ports, 0xc004, 4), 0xffffffff, "decoding is off");
    set_conf(&b, 4, PCI_COMMAND_IO, 2);
    cr_expect_eq(bus_read(b.ports, 0xc004, 4), 0xabcdef01);
    cr_expect_eq(b.last_offset, 4);
    set_conf(&b, 0x11, 0xd0, 1); /* a byte write moves it too */
    cr_expect_eq(bus_read(b.ports, 0xc004, 4), 0xffffffff);
    cr_expect_eq(bus_read(b.ports, 0xd01c, 4), 0xabcdef01);
    cr_expect_eq(b.last_offset, 0x1c);
    set_conf(&b, 0x10, 0x10000, 4); /* out of reach */
    cr_expect_eq(bus_read(b.ports, 0, 4), 0xffffffff);
    teardown(&b);
}

Test(pci, memory_bars)
{
    struct board b;
    u64 address;
    setup(&b);
    u64 chunk = ram_alloc(b.ram, 0x10000);
    pci_add_bar(&b.dev, 1, PCI_BAR_MEM32, 0x1000, "regs", &reg_ops, &b);
    pci_add_bar_ram(&b.dev, 2, PCI_BAR_MEM64 | PCI_BAR_PREFETCH, 0x10000, "vram", b.ram, chunk);
    b.register_value = 0x11223344;

    set_conf(&b, 0x18, 0xffffffff, 4);
    set_conf(&b, 0x1c, 0xffffffff, 4);
    cr_expect_eq(conf(&b, 0x18, 4), 0xffff000c);
    cr_expect_eq(conf(&b, 0x1c, 4), 0xffffffff);
    set_conf(&b, 0x14, 0xfebf0000, 4);
    set_conf(&b, 0x18, 0x40000000, 4);
    set_conf(&b, 0x1c, 0x2, 4);
    cr_expect_not(pci_bar_address(&b.dev, 1, &address));
    set_conf(&b, 4, PCI_COMMAND_MEMORY, 2);
    cr_expect(pci_bar_address(&b.dev, 2, &address));
    cr_expect_eq(address, 0x240000000ull);
    cr_expect_eq(bus_read(b.memory, 0xfebf0ffc, 4), 0x11223344);
    bus_write(b.memory, 0x240001000ull, 0x55, 1);
    cr_expect_eq(b.ram->host[chunk + 0x1000], 0x55);

    /* DRAM wins over a badly placed BAR. */
    u64 dram = ram_alloc(b.ram, 0x1000);
    struct region *r = bus_add_ram(b.memory, "dram", 0xfebf0000, 0x1000, 0, b.ram, dram, false);
    cr_expect_eq(bus_read(b.memory, 0xfebf0000, 4), 0);
    region_remove(r);

    pci_device_reset(&b.dev);
    cr_expect_eq(bus_read(b.memory, 0xfebf0000, 4), 0xffffffff);
    cr_expect_eq(conf(&b, 0x18, 4), 0xc);
    cr_expect_eq(conf(&b, 0x1c, 4), 0);
    cr_expect_eq(conf(&b, 4, 2), 0);
    teardown(&b);
}

Test(pci, expansion_rom)
{
    struct board b;
    u8 image[5000];
    setup(&b);
    memset(image, 0x5a, sizeof image);
    pci_add_rom(&b.dev, "rom", b.ram, image, sizeof image);
    set_conf(&b, 0x30, 0xfffffffe, 4);
    cr_expect_eq(conf(&b, 0x30, 4), 0xffffe000);
    set_conf(&b, 4, PCI_COMMAND_MEMORY, 2);
    set_conf(&b, 0x30, 0xfea00000, 4);
    cr_expect_eq(bus_read(b.memory, 0xfea00000, 1), 0xff, "needs its own enable bit");
    set_conf(&b, 0x30, 0xfea00001, 4);
    cr_expect_eq(bus_read(b.memory, 0xfea00000 + 4999, 1), 0x5a);
    cr_expect_eq(bus_read(b.memory, 0xfea00000 + 5000, 1), 0);
    bus_write(b.memory, 0xfea00000, 0, 1);
    cr_expect_eq(bus_read(b.memory, 0xfea00000, 1), 0x5a);
    teardown(&b);
}

Test(pci, interrupt_wires)
{
    struct board b;
    struct pci_device other = {0};
    setup(&b);
    cr_expect_eq(pci_pirq_of(PCI_DEVFN(1, 0), 1), 0);
    cr_expect_eq(pci_pirq_of(PCI_DEVFN(3, 0), 1), 2);
    cr_expect_eq(pci_pirq_of(PCI_DEVFN(3, 0), 4), 1);
    /* Slot 7 shares the wire of slot 3: wired-OR. */
    cr_assert_eq(pci_device_init(&other, b.pci, PCI_DEVFN(7, 0), &info, &cls), 0);
    pci_set_irq(&b.dev, 1);
    cr_expect_eq(b.pirq[2], 1);
    cr_expect_eq(conf(&b, 6, 2) & 8, 8);
    pci_set_irq(&other, 1);
    pci_set_irq(&b.dev, 0);
    cr_expect_eq(b.pirq[2], 1);
    cr_expect_eq(b.pirq_changes, 1);
    pci_device_destroy(&other);
    cr_expect_eq(b.pirq[2], 0);

    set_conf(&b, 4, PCI_COMMAND_INTX_OFF, 2);
    pci_set_irq(&b.dev, 1);
    cr_expect_eq(b.pirq[2], 0);
    cr_expect_eq(conf(&b, 6, 2) & 8, 8, "the status bit does not depend on INTx being enabled");
    set_conf(&b, 4, 0, 2);
    cr_expect_eq(b.pirq[2], 1);
    pci_device_reset(&b.dev);
    cr_expect_eq(b.pirq[2], 0);
    teardown(&b);
}

static u8 rcr_read(void *opaque) { return ((struct board *)opaque)->rcr; }
static void rcr_write(void *opaque, u8 value) { ((struct board *)opaque)->rcr = value; }

Test(pci, reset_control_shares_the_address_port)
{
    struct board b;
    setup(&b);
    pci_bus_set_reset_control(b.pci, rcr_read, rcr_write, &b);
    bus_write(b.ports, 0xcf9, 0x02, 1);
    cr_expect_eq(b.rcr, 2);
    cr_expect_eq(bus_read(b.ports, 0xcf9, 1), 2);
    bus_write(b.ports, 0xcf8, 0x80000600, 4);
    cr_expect_eq(b.rcr, 2, "a dword at 0xcf8 is the address");
    cr_expect_eq(bus_read(b.ports, 0xcf8, 4), 0x80000600);
    teardown(&b);
}

Test(pci, slots)
{
    struct board b;
    struct pci_device d[31];
    memset(d, 0, sizeof d);
    setup(&b);
    for (int i = 0; i < 29; i++)
        cr_assert_eq(pci_device_init(&d[i], b.pci, -1, &info, &cls), 0);
    cr_expect_eq(d[0].devfn, PCI_DEVFN(2, 0));
    cr_expect_eq(d[1].devfn, PCI_DEVFN(4, 0), "slot 3 is taken");
    cr_expect_eq(d[28].devfn, PCI_DEVFN(31, 0));
    cr_expect_eq(pci_device_init(&d[29], b.pci, -1, &info, &cls), -ENOSPC);
    cr_expect_eq(pci_device_init(&d[29], b.pci, PCI_DEVFN(3, 0), &info, &cls), -EBUSY);
    cr_expect_eq(pci_bus_device(b.pci, PCI_DEVFN(2, 0)), &d[0]);
    for (int i = 0; i < 29; i++)
        pci_device_destroy(&d[i]);
    cr_expect_null(pci_bus_device(b.pci, PCI_DEVFN(2, 0)));
    teardown(&b);
}

Test(pci, bus_mastering)
{
    struct board b;
    u32 value = 0x12345678;
    setup(&b);
    bus_add_ram(b.memory, "dram", 0, 0x1000, 0, b.ram, ram_alloc(b.ram, 0x1000), false);
    cr_expect_not(pci_dma_write(&b.dev, 0x100, &value, 4));
    cr_expect_eq(bus_read(b.memory, 0x100, 4), 0);
    set_conf(&b, 4, PCI_COMMAND_MASTER, 2);
    cr_expect(pci_dma_write(&b.dev, 0x100, &value, 4));
    cr_expect_eq(bus_read(b.memory, 0x100, 4), 0x12345678);
    value = 0;
    cr_expect(pci_dma_read(&b.dev, 0x100, &value, 4));
    cr_expect_eq(value, 0x12345678);
    teardown(&b);
}

Test(pci, capabilities_form_a_list)
{
    struct board b;
    setup(&b);
    cr_expect_eq(conf(&b, 6, 2) & PCI_STATUS_CAP_LIST, 0);
    u8 first = pci_add_capability(&b.dev, 0x09, 0, 10);
    u8 second = pci_add_capability(&b.dev, 0x10, 0x80, 0x14);
    u8 third = pci_add_capability(&b.dev, 0x01, 0, 8);
    cr_expect_eq(first, 0x40);
    cr_expect_eq(second, 0x80);
    cr_expect_eq(third, 0x94);
    cr_expect_eq(conf(&b, 6, 2) & PCI_STATUS_CAP_LIST, PCI_STATUS_CAP_LIST);
    cr_expect_eq(conf(&b, 0x34, 1), third);
    cr_expect_eq(conf(&b, third, 2), 0x8001);
    cr_expect_eq(conf(&b, second, 2), 0x4010);
    cr_expect_eq(conf(&b, first, 2), 0x0009);
    teardown(&b);
}

Test(pci, msi)
{
    struct board b;
    setup(&b);
    pci_msi_init(&b.dev, 0x50, 4);
    cr_expect_eq(conf(&b, 0x50, 4), 0x00840005);
    pci_msi_notify(&b.dev, 0);
    cr_expect_eq(b.msi_count, 0, "off");
    set_conf(&b, 0x54, 0xfee01003, 4);
    set_conf(&b, 0x5c, 0x4143, 2);
    set_conf(&b, 0x52, 0x0011, 2); /* on, two messages */
    cr_expect_eq(conf(&b, 0x52, 2), 0x0095);
    pci_msi_notify(&b.dev, 0);
    cr_expect_eq(b.msi_count, 1);
    cr_expect_eq(b.msi_address, 0xfee01000);
    cr_expect_eq(b.msi_data, 0x4142);
    pci_msi_notify(&b.dev, 3);
    cr_expect_eq(b.msi_data, 0x4143);
    pci_device_reset(&b.dev);
    cr_expect_not(pci_msi_enabled(&b.dev));
    cr_expect_eq(conf(&b, 0x50, 4), 0x00840005);
    teardown(&b);
}

Test(pci, msix)
{
    struct board b;
    setup(&b);
    cr_assert_eq(pci_msix_init(&b.dev, 0, 4, 3), 0);
    cr_expect_eq(conf(&b, 0x40, 4), 0x00020011);
    cr_expect_eq(conf(&b, 0x44, 4), 4);
    cr_expect_eq(conf(&b, 0x48, 4), 0x804);
    set_conf(&b, 0x20, 0xfe000000, 4);
    set_conf(&b, 4, PCI_COMMAND_MEMORY, 2);
    cr_expect_eq(bus_read(b.memory, 0xfe00001c, 4), 1, "masked after reset");
    bus_write(b.memory, 0xfe000010, 0xfee00003, 4);
    bus_write(b.memory, 0xfe000014, 0x1, 4);
    bus_write(b.memory, 0xfe000018, 0x1234, 4);
    pci_msix_notify(&b.dev, 1);
    cr_expect_eq(bus_read(b.memory, 0xfe000800, 4), 0, "MSI-X is off");
    set_conf(&b, 0x42, 0x8000, 2);
    cr_expect(pci_msix_enabled(&b.dev));
    pci_msix_notify(&b.dev, 1);
    cr_expect_eq(b.msi_count, 0);
    cr_expect_eq(bus_read(b.memory, 0xfe000800, 4), 2);
    bus_write(b.memory, 0xfe00001c, 0xfffffffe, 4); /* unmask: what is pending goes out */
    cr_expect_eq(b.msi_count, 1);
    cr_expect_eq(b.msi_address, 0x1fee00000ull);
    cr_expect_eq(b.msi_data, 0x1234);
    cr_expect_eq(bus_read(b.memory, 0xfe000800, 4), 0);
    cr_expect_eq(bus_read(b.memory, 0xfe00001c, 4), 0);
    set_conf(&b, 0x42, 0xc000, 2); /* function mask */
    pci_msix_notify(&b.dev, 1);
    cr_expect_eq(b.msi_count, 1);
    set_conf(&b, 0x42, 0x8000, 2);
    cr_expect_eq(b.msi_count, 2);
    pci_msix_notify(&b.dev, 3); /* no such vector */
    cr_expect_eq(b.msi_count, 2);
    teardown(&b);
}
