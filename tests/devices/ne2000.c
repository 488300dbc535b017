// build/tests/test_ne2000
#include <criterion/criterion.h>

#include "net_fixture.h"
#include "devices/ne2000.h"

#define BASE 0xc000u

static struct bus *memory, *ports;
static struct ram *ram;
static struct pci_bus *pci;
static struct device *card;
static struct netdev *net;

static u32 in(u32 reg, unsigned size) { return (u32)bus_read(ports, BASE + reg, size); }
static void out(u32 reg, u32 value, unsigned size) { bus_write(ports, BASE + reg, value, size); }

static void dma(u8 command, u16 at, u16 count)
{
    out(8, at & 0xff, 1), out(9, at >> 8, 1);
    out(10, count & 0xff, 1), out(11, count >> 8, 1);
    out(0, command | 2, 1);
}

static u8 local(u16 at)
{
    dma(0x08, at, 1);
    return (u8)in(0x10, 1);
}

static void setup(void)
{
    memory = bus_create("memory", 1ull << 52);
    ports = bus_create("ports", 0x10000);
    ram = ram_create(1u << 20);
    pci = pci_bus_create(memory, ports);
    pci_bus_set_pirq_handler(pci, pirq, NULL);
    net = calloc(1, sizeof(*net));
    net->ops = &net_ops;
    irq = sent = 0;
    card = ne2000_create(pci, PCI_DEVFN(3, 0), net, mac, ram, NULL, 0);
    cr_assert(card);
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 0x10, BASE, 4);
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
}

TestSuite(ne2000, .init = setup, .fini = teardown);

/* A ring from page 0x46 to 0x80, everything enabled. */
static void start(u8 rcr)
{
    out(0, 0x21, 1);
    out(14, 0x48, 1);
    out(12, rcr, 1);
    out(13, 0, 1);
    out(1, 0x46, 1), out(2, 0x80, 1), out(3, 0x46, 1);
    out(7, 0xff, 1), out(15, 0x3f, 1);
    out(0, 0x61, 1);
    for (unsigned i = 0; i < 6; i++) out(1 + i, mac[i], 1);
    for (unsigned i = 8; i < 16; i++) out(i, 0, 1);
    out(7, 0x47, 1);
    out(0, 0x22, 1);
}

static bool deliver(size_t len, const u8 *to)
{
    u8 frame[2048];
    memset(frame, 0xa5, sizeof(frame));
    memcpy(frame, to, 6);
    return netdev_deliver(net, frame, len);
}

Test(ne2000, identity_and_prom)
{
    u8 prom[32];
    cr_expect_eq(in(0, 1), 0x21);
    cr_expect_eq(in(10, 2), 0x4350);
    dma(0x08, 0, 32);
    for (int i = 0; i < 32; i++) prom[i] = (u8)in(0x10, 1);
    for (int i = 0; i < 12; i++) cr_expect_eq(prom[i], mac[i / 2]);
    cr_expect(!memcmp(prom + 28, "WWWW", 4));
    cr_expect_eq(in(7, 1) & 0x40, 0x40, "RDC");
    out(14, 0x49, 1);
    dma(0x08, 0, 12);
    cr_expect_eq(in(0x10, 1), 0x52, "in words, a byte is the low one");
    cr_expect_eq(in(0x10, 2), 0x5454);
    cr_expect_eq(in(0x10, 4), 0x12120000);
}

Test(ne2000, packet_memory_and_reset)
{
    out(14, 0x49, 1);
    dma(0x10, 0x7ffc, 8);
    out(0x10, 0x44332211, 4);
    out(0x10, 0x88776655, 4); /* beyond it: lost */
    dma(0x08, 0x7ffa, 6);
    cr_expect_eq(in(0x10, 2), 0);
    cr_expect_eq(in(0x10, 4), 0x44332211);
    cr_expect_eq(in(0x10, 2), 0xffff, "the count is over");
    out(0, 0x22, 1);
    cr_expect_eq(in(7, 1) & 0x80, 0);
    in(0x1f, 1);
    cr_expect_eq(in(7, 1), 0x80);
    cr_expect_eq(in(0, 1), 0x21);
}

Test(ne2000, receives_into_the_ring)
{
    start(0x04);
    cr_assert(deliver(100, mac));
    cr_expect_eq(irq, 1);
    cr_expect_eq(in(7, 1), 0x01);
    out(7, 0x01, 1);
    cr_expect_eq(irq, 0);
    cr_expect_eq(local(0x4700), 0x01);
    cr_expect_eq(local(0x4701), 0x48);
    cr_expect_eq(local(0x4702), 104);
    cr_expect_eq(local(0x4704), 0x52);
    cr_expect_eq(local(0x4704 + 99), 0xa5);
    deliver(30, mac);
    cr_expect_eq(local(0x4802), 64, "padded");
    deliver(252, mac); /* with its FCS it does not fit into one page */
    cr_expect_eq(local(0x4901), 0x4b);
    out(0, 0x62, 1);
    cr_expect_eq(in(7, 1), 0x4b);
}

Test(ne2000, filters)
{
    static const u8 group[6] = {0x01, 0x00, 0x5e, 0x00, 0x00, 0x01}, all[6] = {255, 255, 255, 255, 255, 255},
                    other[6] = {0x52, 0x54, 0, 0, 0, 1};
    static const struct {
        u8 rcr;           /* receive configuration */
        bool filter;      /* all bits of the multicast filter */
        const u8 *to;     /* destination */
        u8 taken;         /* the status, 0: not taken */
    } cases[] = {
        {0x00, false, all, 0},       {0x04, false, all, 0x21},   {0x04, true, group, 0}, {0x08, false, group, 0},
        {0x08, true, group, 0x21},   {0x00, false, other, 0},    {0x10, false, other, 1}, {0x20, false, mac, 0},
        {0x00, false, mac, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        start(cases[i].rcr);
        if (cases[i].filter) {
            out(0, 0x62, 1);
            for (unsigned k = 8; k < 16; k++) out(k, 0xff, 1);
            out(0, 0x22, 1);
        }
        deliver(100, cases[i].to);
        cr_expect_eq(in(7, 1) & 1, cases[i].taken != 0, "case %zu", i);
        if (cases[i].taken) cr_expect_eq(local(0x4700), cases[i].taken, "case %zu", i);
    }
    start(0x10);
    out(0, 0x21, 1);
    deliver(100, mac);
    cr_expect_eq(in(7, 1) & 1, 0, "stopped");
}

Test(ne2000, a_full_ring_makes_frames_wait)
{
    int taken = 0;
    start(0x04);
    while (deliver(1000, mac)) taken++;
    cr_expect_eq(taken, 14, "of four pages, in 58: %d", taken);
    out(7, 0xff, 1);
    cr_expect_eq(in(7, 1) & 1, 1, "what waits wants service");
    out(3, 0x4b, 1); /* the first one was read */
    out(7, 0xff, 1);
    cr_expect_eq(in(7, 1) & 1, 0, "what waited has come");
    cr_expect_eq(local(0x7f01), 0x49, "around the end");
    cr_expect_eq(local(0x4600), 0xa5);
    out(0, 0x62, 1);
    cr_expect_eq(in(7, 1), 0x49);

    start(0x04);
    out(0, 0x61, 1);
    out(7, 0x46, 1); /* empty: BNRY is a page behind, and so not in the ring */
    out(0, 0x22, 1);
    out(3, 0x45, 1);
    for (taken = 0; deliver(1000, mac); taken++) continue;
    cr_expect_eq(taken, 14, "%d", taken);
}

Test(ne2000, sends)
{
    start(0x04);
    out(14, 0x49, 1);
    dma(0x10, 0x4000, 64);
    for (u32 i = 0; i < 64; i += 4) out(0x10, 0x03020100 + i * 0x01010101, 4);
    out(7, 0xff, 1);
    out(4, 0x40, 1), out(5, 64, 1), out(6, 0, 1);
    out(0, 0x26, 1);
    cr_expect_eq(sent, 1);
    cr_expect_eq(sent_len, 64);
    for (int i = 0; i < 64; i++) cr_expect_eq(last[i], i);
    cr_expect_eq(in(7, 1), 0x02);
    cr_expect_eq(in(4, 1), 0x01);
    cr_expect_eq(in(0, 1) & 4, 0);
    cr_expect_eq(irq, 1);

    /* Out of memory, too long. */
    out(7, 0xff, 1);
    out(4, 0x7f, 1), out(5, 0, 1), out(6, 2, 1);
    out(0, 0x26, 1);
    out(4, 0x40, 1), out(6, 0xff, 1);
    out(0, 0x26, 1);
    out(4, 0x00, 1), out(6, 0, 1), out(5, 64, 1);
    out(0, 0x26, 1);
    cr_expect_eq(sent, 1);
    cr_expect_eq(in(7, 1), 0x08);

    /* Loopback. */
    start(0x10);
    out(13, 0x02, 1);
    out(4, 0x40, 1), out(5, 64, 1), out(6, 0, 1);
    out(0, 0x26, 1);
    cr_expect_eq(sent, 1);
    cr_expect_eq(in(7, 1), 0x03);
    cr_expect_eq(local(0x4704), 0);
    cr_expect_eq(local(0x4705), 1);
}
