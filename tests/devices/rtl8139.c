// build/tests/test_rtl8139
#include <criterion/criterion.h>

#include "net_fixture.h"
#include "devices/rtl8139.h"

#define MMIO 0xfe000000u
#define RAM  (1u << 20)
#define RING 0x10000u

static struct bus *memory, *ports;
static struct ram *ram;
static struct pci_bus *pci;
static struct clock *clk;
static struct device *card;
static struct netdev *net;

static u32 rd(u32 reg, unsigned size) { return (u32)bus_read(memory, MMIO + reg, size); }
static void wr(u32 reg, u32 value, unsigned size) { bus_write(memory, MMIO + reg, value, size); }

static void setup(void)
{
    memory = bus_create("memory", 1ull << 52);
    ports = bus_create("ports", 0x10000);
    ram = ram_create(RAM);
    bus_add_ram(memory, "ram", 0, RAM, 0, ram, ram_alloc(ram, RAM), false);
    pci = pci_bus_create(memory, ports);
    pci_bus_set_pirq_handler(pci, pirq, NULL);
    clk = clock_create_manual();
    net = calloc(1, sizeof(*net));
    net->ops = &net_ops;
    irq = sent = 0;
    card = rtl8139_create(pci, PCI_DEVFN(3, 0), clk, net, mac, ram, NULL, 0);
    cr_assert(card);
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 0x14, MMIO, 4);
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 4, 7, 2);
}

static void teardown(void)
{
    card->cls->destroy(card);
    netdev_close(net);
    pci_bus_destroy(pci);
    bus_destroy(memory);
    bus_destroy(ports);
    ram_destroy(ram);
    clock_destroy(clk);
}

TestSuite(rtl8139, .init = setup, .fini = teardown);

static void deliver(size_t len)
{
    u8 frame[16384];
    memset(frame, 0xa5, sizeof(frame));
    memcpy(frame, mac, 6);
    netdev_deliver(net, frame, len);
}

Test(rtl8139, address_and_no_8169)
{
    cr_assert_eq(rd(0, 4), 0x12005452u);
    cr_assert_eq(rd(0x40, 4) & 0x7cc00000, 0x74800000u);
    wr(0xda, 0x1234, 2);
    cr_assert_eq(rd(0xda, 2), 0u);
}

Test(rtl8139, slot_sends)
{
    for (u32 i = 0; i < 100; i++) bus_write(memory, 0x2000 + i, i, 1);
    wr(0x37, 0x0c, 1);
    wr(0x3c, 0x0004, 2);
    wr(0x24, 0x2000, 4);
    wr(0x14, 100, 4);
    cr_assert_eq(sent, 1);
    cr_assert_eq(sent_len, 100u);
    cr_assert_eq(last[99], 99);
    cr_assert_eq(rd(0x14, 4) & 0xa000, 0xa000u);
    cr_assert_eq(irq, 1);
    wr(0x3e, 0x0004, 2);
    cr_assert_eq(irq, 0);
    wr(0x14, 20, 4);
    cr_assert_eq(sent_len, 60u, "padded");
}

Test(rtl8139, ring_receives_and_fills)
{
    wr(0x30, RING, 4);
    wr(0x44, 0x0a, 4); /* 8 KiB, ours and broadcast */
    wr(0x37, 0x08, 1);
    cr_assert_eq(rd(0x37, 1) & 1, 1u);
    deliver(100);
    cr_assert_eq(rd(0x37, 1) & 1, 0u);
    cr_assert_eq(bus_read(memory, RING, 2), 0x4001u);
    cr_assert_eq(bus_read(memory, RING + 2, 2), 104u);
    cr_assert_eq(bus_read(memory, RING + 4, 1), 0x52u);
    cr_assert_eq(rd(0x3a, 2), 108u);
    for (int i = 0; i < 20; i++) deliver(1500);
    u32 until = rd(0x3a, 2);
    cr_assert_lt(until, 8192u);
    cr_assert_eq(bus_read(memory, RING + 8192, 4), 0u, "nothing beyond its end");
    wr(0x38, (until - 16) & 0xffff, 2); /* all read: those that waited come */
    cr_assert_neq(rd(0x3a, 2), until);
    cr_assert_eq(bus_read(memory, RING + 8192, 4), 0u);
}

Test(rtl8139, wild_registers)
{
    wr(0x44, 0xffffffff, 4);
    wr(0x30, 0xffffff00, 4);
    wr(0x37, 0x0c, 1);
    wr(0x38, 0xabcd, 2);
    for (int i = 0; i < 20; i++) deliver(14 + 777 * (size_t)i);
    for (u32 i = 0; i < 4; i++) {
        wr(0x20 + 4 * i, 0xfffffff0, 4);
        wr(0x10 + 4 * i, 0x1fff, 4);
    }
    cr_assert_eq(sent, 4, "whatever is there goes out");
    cr_assert_eq(rd(0x37, 1) & 0x0c, 0x0cu);
}

Test(rtl8139, wild_descriptors)
{
    wr(0xe0, 3, 2);
    wr(0x37, 0x0c, 1);
    wr(0x44, 0x0f, 4);
    wr(0x20, 0x8000, 4);
    wr(0xe4, 0x9000, 4);
    /* One endless frame, which never ends, with large sends and tags asked for; then ends of frames without a start. */
    for (u32 i = 0; i < 64; i++) {
        bus_write(memory, 0x8000 + 16 * i, i < 32 ? 0xafffffff : 0x9fffffff, 4);
        bus_write(memory, 0x8004 + 16 * i, 0xffffffff, 4);
        bus_write(memory, 0x8008 + 16 * i, 0xffffffffffffff00ull, 8);
        bus_write(memory, 0x9000 + 16 * i, 0x80000000 | (i * 64), 4);
        bus_write(memory, 0x9008 + 16 * i, 0xfffffff0, 8);
    }
    for (int k = 0; k < 4; k++) wr(0xd9, 0x40, 1);
    for (int i = 0; i < 100; i++) deliver(14 + 100 * (size_t)i);
    cr_assert_eq(bus_read(memory, 0x8000, 4) >> 31, 0u, "given back");
    cr_assert_eq(sent, 0);
}

Test(rtl8139, descriptor_sends)
{
    wr(0xe0, 3, 2);
    wr(0x37, 0x0c, 1);
    wr(0x20, 0x8000, 4);
    bus_write(memory, 0x8000, 0xa0000000u | 40, 4);
    bus_write(memory, 0x8008, 0x2000, 8);
    bus_write(memory, 0x8010, 0xd0000000u | 60, 4);
    bus_write(memory, 0x8018, 0x3000, 8);
    bus_write(memory, 0x3000, 0x77, 1);
    wr(0xd9, 0x40, 1);
    cr_assert_eq(sent, 1);
    cr_assert_eq(sent_len, 100u);
    cr_assert_eq(last[40], 0x77);
    cr_assert_eq(bus_read(memory, 0x8010, 4), 0x50000000u | 60);
    cr_assert_eq(rd(0x3e, 2) & 4, 4u);
}

Test(rtl8139, timer)
{
    wr(0x3c, 0x4000, 2);
    wr(0x48, 0, 4);
    wr(0x54, 33000, 4); /* 1 ms */
    clock_advance(clk, 900000);
    cr_assert_eq(irq, 0);
    clock_advance(clk, 200000);
    cr_assert_eq(irq, 1);
}

/* What comes back goes to the register that sends. */
Test(rtl8139, loopback_into_its_own_registers)
{
    wr(0x30, MMIO + 0x10, 4);
    wr(0x44, 0x0f, 4);
    wr(0x40, 0x60000, 4);
    wr(0x37, 0x0c, 1);
    wr(0x20, 0x2000, 4);
    wr(0x10, 100, 4);
    cr_assert_eq(sent, 0);
    cr_assert_eq(rd(0x3e, 2) & 0x0005, 0x0005u);
}
