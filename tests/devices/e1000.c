// build/tests/test_e1000
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/bus.h"
#include "core/clock.h"
#include "core/netdev.h"
#include "devices/e1000.h"
#include "devices/pci.h"

#define MMIO    0xfe000000u
#define IO      0xc000u
#define RX_RING 0x10000u
#define TX_RING 0x11000u
#define BUFFERS 0x20000u
#define RAM     (4u << 20)

enum {
    CTRL = 0, STATUS = 8, EECD = 0x10, EERD = 0x14, MDIC = 0x20, ICR = 0xc0, ITR = 0xc4, ICS = 0xc8, IMS = 0xd0,
    IMC = 0xd8, RCTL = 0x100, TCTL = 0x400, RDBAL = 0x2800, RDLEN = 0x2808, RDH = 0x2810, RDT = 0x2818,
    TDBAL = 0x3800, TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818, GPRC = 0x4074, GPTC = 0x4080, RNBC = 0x40a0,
    RXCSUM = 0x5000, MTA = 0x5200, RAL = 0x5400, RAH = 0x5404, VFTA = 0x5600
};

static const u8 mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

/* A network that remembers what was sent. */
struct fake_net {
    struct netdev dev;
    int count, resumed;
    size_t len[64];
    u8 frame[64][16384];
};

static void fake_transmit(struct netdev *n, const u8 *frame, size_t len)
{
    struct fake_net *f = (struct fake_net *)n;
    if (f->count < 64) {
        f->len[f->count] = len;
        memcpy(f->frame[f->count], frame, len);
    }
    f->count++;
}

static void fake_resume(struct netdev *n) { ((struct fake_net *)n)->resumed++; }
static void fake_destroy(struct netdev *n) { free(n); }
static const struct netdev_ops fake_ops = {
    .transmit = fake_transmit, .resume = fake_resume, .destroy = fake_destroy};

static struct bus *memory, *ports;
static struct ram *ram;
static struct pci_bus *pci;
static struct clock *clk;
static struct fake_net *net;
static struct device *card;
static int irq;

static void pirq(void *opaque, int n, int level)
{
    (void)opaque;
    (void)n;
    irq = level;
}

static u32 rd(u32 reg) { return (u32)bus_read(memory, MMIO + reg, 4); }
static void wr(u32 reg, u32 value) { bus_write(memory, MMIO + reg, value, 4); }
static u32 mem16(u32 at) { return (u32)bus_read(memory, at, 2); }
static u8 mem8(u32 at) { return (u8)bus_read(memory, at, 1); }

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
    net->dev.ops = &fake_ops;
    irq = 0;
    card = e1000_create(pci, PCI_DEVFN(3, 0), clk, &net->dev, mac, ram, NULL, 0);
    cr_assert(card);
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 0x10, MMIO, 4);
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 0x14, IO, 4);
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 4, 7, 2);
    clock_advance(clk, NS_PER_SECOND); /* the link comes up */
    rd(ICR);
}

static void teardown(void)
{
    card->cls->destroy(card);
    netdev_close(&net->dev);
    pci_bus_destroy(pci);
    bus_destroy(memory);
    bus_destroy(ports);
    ram_destroy(ram);
    clock_destroy(clk);
}

TestSuite(e1000, .init = setup, .fini = teardown);

/* Rings of eight descriptors each, receive buffers of 2 KiB. */
static void rings(u32 rctl)
{
    wr(RDBAL, RX_RING);
    wr(RDLEN, 128);
    wr(RDH, 0);
    for (u32 i = 0; i < 8; i++) bus_write(memory, RX_RING + 16 * i, BUFFERS + 0x1000 * i, 8);
    wr(RCTL, rctl | 2);
    wr(RDT, 7);
    wr(TDBAL, TX_RING);
    wr(TDLEN, 128);
    wr(TDH, 0);
    wr(TDT, 0);
    wr(TCTL, 0xa);
}

static void tx_desc(u32 i, u64 address, u64 rest)
{
    bus_write(memory, TX_RING + 16 * i, address, 8);
    bus_write(memory, TX_RING + 16 * i + 8, rest, 8);
}

static void send_to_guest(const u8 *to, size_t len)
{
    u8 frame[16384];
    memset(frame, 0xab, sizeof(frame));
    memcpy(frame, to, 6);
    frame[12] = 0x12, frame[13] = 0x34;
    netdev_deliver(&net->dev, frame, len);
}

static const u8 broadcast[6] = {255, 255, 255, 255, 255, 255};

Test(e1000, reset_state_and_eeprom)
{
    cr_expect_eq(pci_bus_config_read(pci, PCI_DEVFN(3, 0), 0, 4), 0x100e8086);
    cr_expect_eq(pci_bus_config_read(pci, PCI_DEVFN(3, 0), 0xa, 2), 0x0200);
    cr_expect_eq(rd(STATUS) & 3, 3, "link up, full duplex");
    cr_expect_eq(rd(RAL), 0x12005452);
    cr_expect_eq(rd(RAH), 0x80005634);
    u16 total = 0;
    for (u32 i = 0; i < 64; i++) {
        wr(EERD, i << 8 | 1);
        cr_expect(rd(EERD) & 0x10);
        total = (u16)(total + (rd(EERD) >> 16));
    }
    cr_expect_eq(total, 0xbaba);
    wr(EERD, 1 << 8 | 1);
    cr_expect_eq(rd(EERD) >> 16, 0x1200);
}

static void clock_bit(int di)
{
    wr(EECD, 0x42 | (di ? 4 : 0));
    wr(EECD, 0x43 | (di ? 4 : 0));
}

Test(e1000, microwire_reads_words)
{
    wr(EECD, 0x40);
    cr_expect(rd(EECD) & 0x80, "granted");
    wr(EECD, 0x42);
    static const int command[] = {1, 1, 0, 0, 0, 0, 0, 0, 1}; /* READ word 1 */
    for (int i = 0; i < 9; i++) clock_bit(command[i]);
    cr_expect_eq(rd(EECD) & 8, 0, "the dummy zero");
    u32 value = 0;
    for (int i = 0; i < 16; i++) {
        clock_bit(0);
        value = value << 1 | (rd(EECD) >> 3 & 1);
    }
    cr_expect_eq(value, 0x1200);
    for (int i = 0; i < 16; i++) { /* and goes on */
        clock_bit(0);
        value = value << 1 | (rd(EECD) >> 3 & 1);
    }
    cr_expect_eq(value & 0xffff, 0x5634);
    wr(EECD, 0);
    cr_expect_eq(rd(EECD) & 0x80, 0);
}

static u32 phy(u32 reg)
{
    wr(MDIC, 0x08000000 | 1 << 21 | reg << 16);
    cr_expect(rd(MDIC) & 0x10000000);
    return rd(MDIC) & 0xffff;
}

Test(e1000, phy_negotiates)
{
    cr_expect_eq(phy(2), 0x0141);
    cr_expect_eq(phy(3) & 0xfff0, 0x0c20);
    cr_expect_eq(phy(1) & 0x24, 0x24);
    wr(IMS, 4);
    wr(MDIC, 0x04000000 | 1 << 21 | 0 << 16 | 0x1340); /* restart */
    cr_expect_eq(phy(1) & 0x24, 0);
    cr_expect_eq(rd(STATUS) & 2, 0);
    cr_expect(irq);
    cr_expect_eq(rd(ICR), 4);
    clock_advance(clk, 100000000);
    cr_expect_eq(phy(1) & 0x24, 0x24);
    cr_expect_eq(rd(ICR), 4);
    wr(MDIC, 0x08000000 | 2 << 21); /* nobody at that address */
    cr_expect(rd(MDIC) & 0x40000000);
    netdev_set_link(&net->dev, false);
    cr_expect_eq(rd(STATUS) & 2, 0);
    netdev_set_link(&net->dev, true);
    clock_advance(clk, 100000000);
    cr_expect_eq(rd(STATUS) & 2, 2);
}

Test(e1000, interrupt_causes_mask_and_acknowledge)
{
    wr(ICS, 0x80);
    cr_expect_not(irq);
    wr(IMS, 0x80);
    cr_expect(irq);
    cr_expect_eq(rd(IMS), 0x80);
    wr(IMC, 0x80);
    cr_expect_not(irq);
    wr(IMS, 0x80);
    cr_expect(irq);
    cr_expect_eq(rd(ICR), 0x80);
    cr_expect_not(irq);
    cr_expect_eq(rd(ICR), 0);
    wr(ICS, 0x81);
    wr(ICR, 0x80);
    cr_expect_eq(rd(ICR), 1);
}

Test(e1000, throttling_spaces_interrupts)
{
    wr(IMS, 0x80);
    wr(ITR, 1000); /* 256 us */
    wr(ICS, 0x80);
    cr_expect(irq);
    rd(ICR);
    clock_advance(clk, 100000);
    wr(ICS, 0x80);
    cr_expect_not(irq);
    clock_advance(clk, 155000);
    cr_expect_not(irq);
    clock_advance(clk, 2000);
    cr_expect(irq);
}

Test(e1000, registers_through_io_ports)
{
    bus_write(ports, IO, IMS, 4);
    bus_write(ports, IO + 4, 0x10, 4);
    cr_expect_eq(rd(IMS), 0x10);
    cr_expect_eq(bus_read(ports, IO + 4, 4), 0x10);
    bus_write(ports, IO, 0xfffffff0, 4); /* outside */
    bus_write(ports, IO + 4, 1, 4);
    cr_expect_eq(bus_read(ports, IO + 4, 4), 0);
    bus_write(ports, IO, CTRL, 4);
    bus_write(ports, IO + 4, 0x04000000, 4); /* reset */
    cr_expect_eq(rd(IMS), 0);
    cr_expect_eq(rd(CTRL) & 0x04000000, 0);
    cr_expect_eq(rd(0x40), 0x12005452, "RAL at the 82542's place");
}

Test(e1000, legacy_transmit)
{
    rings(0);
    bus_write_block(memory, BUFFERS, broadcast, 6);
    bus_write_block(memory, BUFFERS + 6, mac, 6);
    tx_desc(0, BUFFERS, 20 | 0x02ull << 24);       /* two descriptors make one frame */
    tx_desc(1, BUFFERS + 20, 30 | 0x0bull << 24);  /* EOP, IFCS, RS */
    wr(IMS, 1);
    wr(TDT, 2);
    cr_assert_eq(net->count, 1);
    cr_expect_eq(net->len[0], 60, "padded");
    cr_expect_arr_eq(net->frame[0], broadcast, 6);
    cr_expect_eq(mem8(TX_RING + 12), 0);
    cr_expect_eq(mem8(TX_RING + 28), 1, "DD");
    cr_expect_eq(rd(TDH), 2);
    cr_expect(irq);
    cr_expect_eq(rd(ICR) & 3, 3);
    cr_expect_eq(rd(GPTC), 1);
    cr_expect_eq(rd(GPTC), 0, "cleared by reading");
}

Test(e1000, legacy_checksum_and_vlan)
{
    rings(0);
    wr(CTRL, rd(CTRL) | 0x40000000); /* VME */
    u8 frame[64] = {0};
    frame[14] = 0x12, frame[15] = 0x34;
    bus_write_block(memory, BUFFERS, frame, 64);
    /* Sum from 14 on, to 20; tag 0x1005. EOP IFCS IC VLE */
    tx_desc(0, BUFFERS, 64 | 20ull << 16 | 0x47ull << 24 | 14ull << 40 | 0x1005ull << 48);
    wr(TDT, 1);
    cr_assert_eq(net->count, 1);
    cr_expect_eq(net->len[0], 68);
    const u8 *f = net->frame[0];
    cr_expect_eq(f[12] << 24 | f[13] << 16 | f[14] << 8 | f[15], (int)0x81001005);
    cr_expect_eq(f[24] << 8 | f[25], 0xffff & ~0x1234);
}

static u16 reference_sum(const u8 *p, size_t len, u32 start)
{
    u32 total = start;
    for (size_t i = 0; i < len; i++) total += i & 1 ? p[i] : (u32)p[i] << 8;
    while (total >> 16) total = (total & 0xffff) + (total >> 16);
    return (u16)total;
}

/* An IPv4 TCP packet with headers of 54 bytes and payload bytes behind. */
static void tcp_packet(u8 *f, size_t payload)
{
    memset(f, 0, 54);
    memcpy(f, broadcast, 6);
    f[12] = 8, f[14] = 0x45, f[22] = 64, f[23] = 6;
    f[18] = 0x01, f[19] = 0xff;             /* IP ID */
    memcpy(f + 26, "\x0a\0\2\x0f\x0a\0\2\2", 8);
    f[34] = 1, f[36] = 2;                   /* ports */
    f[40] = 0xff, f[41] = 0xfe;             /* sequence 0xfffe */
    f[46] = 0x50, f[47] = 0x19;             /* FIN PSH ACK */
    for (size_t i = 0; i < payload; i++) f[54 + i] = (u8)(i * 7 + i / 256);
    u16 pseudo = reference_sum(f + 26, 8, 6);
    f[50] = (u8)(pseudo >> 8), f[51] = (u8)pseudo;
}

static u8 packet[54 + 3000];

static void send_for_segmentation(void)
{
    rings(0);
    tcp_packet(packet, 3000);
    bus_write_block(memory, BUFFERS, packet, sizeof(packet));
    /* Context: IP at 14..33 sum at 24, TCP from 34 sum at 50; payload 3000, DEXT TSE IP TCP, header 54, MSS 1400. */
    tx_desc(0, 14 | 24u << 8 | 33u << 16 | 34ull << 32 | 50ull << 40,
            3000 | 0x27ull << 24 | 54ull << 40 | 1400ull << 48);
    tx_desc(1, BUFFERS, 1000 | 1u << 20 | 0x26ull << 24 | 3ull << 40);
    tx_desc(2, BUFFERS + 1000, 2054 | 1u << 20 | 0x2full << 24);
    wr(TDT, 3);
}

Test(e1000, segmentation)
{
    send_for_segmentation();
    cr_assert_eq(net->count, 3);
    static const size_t parts[] = {1400, 1400, 200};
    size_t at = 0;
    for (int i = 0; i < 3; i++) {
        const u8 *f = net->frame[i];
        cr_expect_eq(net->len[i], 54 + parts[i]);
        cr_expect_arr_eq(f + 54, packet + 54 + at, parts[i]);
        cr_expect_eq(f[16] << 8 | f[17], (int)(40 + parts[i]));
        cr_expect_eq(f[18] << 8 | f[19], 0x1ff + i);
        cr_expect_eq((u32)(f[38] << 24 | f[39] << 16 | f[40] << 8 | f[41]), 0xfffe + at);
        cr_expect_eq(f[47], i == 2 ? 0x19 : 0x10);
        cr_expect_eq(reference_sum(f + 14, 20, 0), 0xffff, "IP checksum of segment %d", i);
        cr_expect_eq(reference_sum(f + 34, net->len[i] - 34, reference_sum(f + 26, 8, 6 + (u32)(20 + parts[i]))), 0xffff,
                     "TCP checksum of segment %d", i);
        at += parts[i];
    }
    cr_expect_eq(mem8(TX_RING + 44), 1, "DD");
}

Test(e1000, segmentation_left_to_the_network)
{
    net->dev.large = true;
    send_for_segmentation();
    cr_assert_eq(net->count, 1);
    const u8 *f = net->frame[0];
    cr_expect_eq(net->len[0], sizeof(packet));
    cr_expect_arr_eq(f + 54, packet + 54, 3000);
    cr_expect_eq(f[16] << 8 | f[17], 3040);
    cr_expect_eq(f[47], 0x19);
    cr_expect_eq(reference_sum(f + 14, 20, 0), 0xffff);
    cr_expect_eq(reference_sum(f + 34, 3020, reference_sum(f + 26, 8, 6 + 3020)), 0xffff);
}

Test(e1000, receive)
{
    rings(0x8000);
    wr(IMS, 0x80);
    send_to_guest(mac, 100);
    cr_expect(irq);
    cr_expect_eq(rd(RDH), 1);
    cr_expect_eq(mem16(RX_RING + 8), 104, "with FCS");
    cr_expect_eq(mem8(RX_RING + 12) & 3, 3);
    cr_expect_eq(mem8(BUFFERS + 99), 0xab);
    cr_expect_eq(mem8(BUFFERS + 5), 0x56);
    cr_expect(rd(ICR) & 0x80);
    wr(RCTL, 0x04008002); /* strip the FCS */
    send_to_guest(broadcast, 20);
    cr_expect_eq(mem16(RX_RING + 16 + 8), 60, "padded");
    cr_expect_eq(rd(GPRC), 2);
}

Test(e1000, receive_in_several_buffers)
{
    rings(0x04008020 | 0x30000); /* LPE, 256 bytes each */
    send_to_guest(mac, 1000);
    cr_expect_eq(rd(RDH), 4);
    cr_expect_eq(mem16(RX_RING + 8), 256);
    cr_expect_eq(mem8(RX_RING + 12) & 3, 1, "DD without EOP");
    cr_expect_eq(mem16(RX_RING + 56), 1000 - 768);
    cr_expect_eq(mem8(RX_RING + 60) & 3, 3);
    send_to_guest(mac, 8000); /* never fits */
    cr_expect_eq(rd(RDH), 4);
}

Test(e1000, filters)
{
    static const u8 other[6] = {0x52, 0, 0, 0, 0, 1}, group[6] = {1, 0, 0x5e, 0, 0, 0x12};
    rings(0);
    send_to_guest(other, 60);
    send_to_guest(broadcast, 60);
    send_to_guest(group, 60);
    cr_expect_eq(rd(RDH), 0);
    wr(RCTL, 0x8002);
    send_to_guest(broadcast, 60);
    cr_expect_eq(rd(RDH), 1);
    u32 bit = (0x12u << 8 | 0) >> 4; /* bits 47:36 */
    wr(MTA + 4 * (bit >> 5), 1u << (bit & 31));
    send_to_guest(group, 60);
    cr_expect_eq(rd(RDH), 2);
    cr_expect(mem8(RX_RING + 16 + 12) & 0x80, "PIF");
    wr(RCTL, 0x8002 | 3 << 12);
    send_to_guest(group, 60);
    cr_expect_eq(rd(RDH), 2, "another part of the address");
    wr(RCTL, 0x8012);
    send_to_guest(group, 60);
    cr_expect_eq(rd(RDH), 3, "MPE");
    send_to_guest(other, 60);
    cr_expect_eq(rd(RDH), 3);
    wr(RCTL, 0x800a);
    send_to_guest(other, 60);
    cr_expect_eq(rd(RDH), 4, "UPE");
    wr(RCTL, 0x8002);
    wr(RAL + 8, 0x00000052);
    wr(RAH + 8, 0x80000100);
    send_to_guest(other, 60);
    cr_expect_eq(rd(RDH), 5, "second address");
}

Test(e1000, vlan_filter_and_stripping)
{
    u8 frame[64] = {0};
    rings(0x04048000); /* SECRC VFE BAM */
    memcpy(frame, broadcast, 6);
    memcpy(frame + 12, "\x81\x00\x20\x07\x12\x34", 6);
    frame[18] = 0x77;
    netdev_deliver(&net->dev, frame, 64);
    cr_expect_eq(rd(RDH), 0);
    wr(VFTA, 1u << 7);
    wr(CTRL, rd(CTRL) | 0x40000000);
    netdev_deliver(&net->dev, frame, 64);
    cr_expect_eq(rd(RDH), 1);
    cr_expect_eq(mem16(RX_RING + 8), 60);
    cr_expect(mem8(RX_RING + 12) & 8);
    cr_expect_eq(mem16(RX_RING + 14), 0x2007);
    cr_expect_eq(mem8(BUFFERS + 14), 0x77);
}

Test(e1000, checksums_are_verified)
{
    static u8 f[54 + 101];
    rings(0x8000);
    wr(RXCSUM, 0x300);
    tcp_packet(f, 101);
    f[16] = 0, f[17] = 141;
    f[24] = f[25] = 0;
    u16 ip = (u16)~reference_sum(f + 14, 20, 0);
    f[24] = (u8)(ip >> 8), f[25] = (u8)ip;
    f[50] = f[51] = 0;
    u16 tcp = (u16)~reference_sum(f + 34, 121, reference_sum(f + 26, 8, 6 + 121));
    f[50] = (u8)(tcp >> 8), f[51] = (u8)tcp;
    netdev_deliver(&net->dev, f, sizeof(f));
    cr_expect_eq(mem8(RX_RING + 12), 0x63);
    cr_expect_eq(mem8(RX_RING + 13), 0);
    f[100] ^= 1;
    netdev_deliver(&net->dev, f, sizeof(f));
    cr_expect_eq(mem8(RX_RING + 16 + 13), 0x20, "TCPE");
    f[100] ^= 1, f[22]--;
    netdev_deliver(&net->dev, f, sizeof(f));
    cr_expect_eq(mem8(RX_RING + 32 + 13), 0x40, "IPE");
}

Test(e1000, frames_wait_for_descriptors)
{
    rings(0x8000);
    for (int i = 0; i < 9; i++) send_to_guest(mac, 60 + (size_t)i);
    cr_expect_eq(rd(RDH), 7);
    cr_expect_eq(net->dev.queued, 2);
    cr_expect(rd(ICR) & 0x40, "overrun");
    cr_expect_eq(net->resumed, 0);
    wr(RDT, 4);
    cr_expect_eq(net->dev.queued, 0);
    cr_expect_eq(net->resumed, 1);
    cr_expect_eq(rd(RDH), 1, "wrapped");
    cr_expect_eq(mem16(RX_RING + 7 * 16 + 8), 60 + 7 + 4);
    cr_expect_eq(mem16(RX_RING + 8), 60 + 8 + 4);
    /* The queue is bounded. */
    for (int i = 0; i < 3000; i++) send_to_guest(mac, 60);
    cr_expect_eq(net->dev.queued, NETDEV_QUEUE_MAX);
}

Test(e1000, loopback)
{
    rings(0x80c0);
    bus_write_block(memory, BUFFERS + 0x10000, mac, 6);
    bus_write(memory, BUFFERS + 0x10000 + 40, 0x5a, 1);
    tx_desc(0, BUFFERS + 0x10000, 60 | 0x0bull << 24);
    wr(TDT, 1);
    cr_expect_eq(net->count, 0);
    cr_expect_eq(rd(RDH), 1);
    cr_expect_eq(mem8(BUFFERS + 40), 0x5a);
}

Test(e1000, malformed_transmit_rings)
{
    rings(0);
    wr(TDT, 0xffff); /* a tail that is never reached: one round of empty descriptors */
    cr_expect_eq(rd(TDH), 0);
    cr_expect_eq(net->count, 0);
    wr(TDH, 0xfff0); /* a head outside of the ring */
    cr_expect_lt(rd(TDH), 0xffff);
    wr(TDBAL, 0xfffffff0); /* a ring where nothing is: descriptors of all ones */
    wr(0x3804, 0xffffffff);
    wr(TDH, 0);
    wr(TDT, 4);
    cr_expect_eq(rd(TDH), 4);
    wr(TDLEN, 0);
    wr(TDT, 6);
    cr_expect_eq(rd(TDH), 4, "an empty ring does not move");
}

Test(e1000, packets_without_end_are_dropped)
{
    rings(0);
    for (u32 i = 0; i < 8; i++) tx_desc(i, 0, 0xfffff | 1u << 20 | 0x22ull << 24); /* 1 MiB each, no EOP */
    wr(TDT, 7);
    tx_desc(7, BUFFERS, 60 | 0x0bull << 24);
    wr(TDT, 0);
    cr_expect_eq(net->count, 0);
    tx_desc(0, BUFFERS, 60 | 0x0bull << 24);
    wr(TDT, 1);
    cr_expect_eq(net->count, 1, "the next one goes");
}

/* A megabyte cut into pieces of a byte, and more of that: others get a turn. */
Test(e1000, much_work_is_done_in_parts)
{
    rings(0);
    for (u32 i = 0; i < 8; i += 2) {
        tx_desc(i, 14 | 255u << 8 | 34ull << 32 | 255ull << 40, 0xf0000 | 0x27ull << 24 | 54ull << 40 | 1ull << 48);
        tx_desc(i + 1, BUFFERS, 0xf0000 | 1u << 20 | 0x27ull << 24 | 3ull << 40);
    }
    wr(TDT, 7);
    cr_expect_eq(rd(TDH), 2, "%u", rd(TDH));
    for (int i = 0; i < 2; i++) clock_advance(clk, 1000);
    cr_expect_eq(rd(TDH), 7, "the rest by itself");
    cr_expect_eq(net->count, 3 * (0xf0000 - 54));
}

Test(e1000, bad_segmentation_parameters)
{
    rings(0);
    static const struct { u32 mss, header, css, payload; } cases[] = {
        {0, 54, 14, 100}, {1400, 0, 14, 100}, {65535, 54, 14, 100}, {100, 255, 14, 1000}, {1400, 54, 250, 1000}};
    for (u32 i = 0; i < ARRAY_LEN(cases); i++) {
        wr(TDH, 0);
        wr(TDT, 0);
        tx_desc(0, cases[i].css | 255u << 8 | (u64)cases[i].css << 32 | 255ull << 40,
                cases[i].payload | 0x27ull << 24 | (u64)cases[i].header << 40 | (u64)cases[i].mss << 48);
        tx_desc(1, BUFFERS, 200 | 1u << 20 | 0x2full << 24 | 3ull << 40);
        wr(TDT, 2);
        cr_expect_eq(rd(TDH), 2);
        cr_expect_eq(net->count, 0, "case %u", i);
    }
    /* Checksum fields outside of the frame. */
    tx_desc(2, 250 | 255u << 8 | 3u << 16 | 250ull << 32 | 255ull << 40, 0x20ull << 24);
    tx_desc(3, BUFFERS, 60 | 1u << 20 | 0x2bull << 24 | 3ull << 40);
    wr(TDT, 4);
    cr_expect_eq(net->count, 1);
}

Test(e1000, dma_into_own_registers_ends)
{
    rings(0x800a);
    /* Status goes to the tail register, and received frames over all of them. */
    wr(TDBAL, MMIO + TDT - 12);
    wr(TDT, 3);
    wr(TDBAL, TX_RING);
    wr(TDH, 0);
    wr(TDT, 0);
    for (u32 i = 0; i < 8; i++) bus_write(memory, RX_RING + 16 * i, MMIO + RDT, 8);
    for (int i = 0; i < 20; i++) send_to_guest(mac, 1500);
    wr(RDBAL, MMIO + RDBAL);
    wr(RCTL, 0x800a);
    for (int i = 0; i < 20; i++) send_to_guest(mac, 1500);
    cr_expect_eq(pci_bus_config_read(pci, PCI_DEVFN(3, 0), 0, 4), 0x100e8086, "still there");
}

/* A looped segment is stored over CTRL, and resets the controller in the middle of the packet. */
Test(e1000, reset_by_a_segment_of_its_own, .timeout = 20)
{
    send_for_segmentation();
    wr(TDH, 0);
    wr(TDT, 0);
    memcpy(packet, (const u8[]){2, 0, 0, 4, 0, 0}, 6);
    bus_write_block(memory, BUFFERS, packet, 6);
    for (u32 i = 0; i < 8; i++) bus_write(memory, RX_RING + 16 * i, MMIO + CTRL, 8);
    wr(RCTL, 0x380ca); /* buffers of 256 bytes, which end before RCTL */
    wr(TDT, 3);
    cr_expect_eq(rd(RCTL), 0, "it was reset");
}

/* Back ends are not called while they hand over a frame. */
Test(e1000, nothing_is_sent_while_a_frame_arrives)
{
    static const u8 tail[6] = {2, 0, 0, 0, 0, 0};
    rings(0x800a);
    for (u32 i = 0; i < 2; i++) tx_desc(i, BUFFERS + 0x10000, 60 | 0x0bull << 24);
    bus_write(memory, RX_RING, MMIO + TDT, 8);
    send_to_guest(tail, 60);
    cr_expect_eq(rd(TDH), 2, "it tried");
    cr_expect_eq(net->count, 0);
    for (u32 i = 0; i < 2; i++) tx_desc(2 + i, BUFFERS + 0x10000, 60 | 0x0bull << 24);
    wr(TDT, 4);
    cr_expect_eq(net->count, 2, "afterwards all is as before");
}

Test(e1000, malformed_receive_rings)
{
    rings(0x8000);
    wr(RDT, 0xffff);
    send_to_guest(mac, 60);
    cr_expect_eq(rd(RDH), 0, "no descriptors there");
    wr(RDH, 0x4000);
    wr(RDT, 5);
    send_to_guest(mac, 60);
    cr_expect_eq(rd(RDH), 0x4000);
    wr(RDLEN, 0);
    send_to_guest(mac, 60);
    wr(RDLEN, 128);
    wr(RDH, 0);
    bus_write(memory, RX_RING, 0xfffffffffffff000ull, 8); /* a buffer nowhere */
    wr(RDT, 7);
    cr_expect_eq(net->dev.queued, 0);
    cr_expect_eq(rd(RDH), 3);
}

Test(e1000, no_dma_without_bus_mastering)
{
    rings(0x8000);
    pci_bus_config_write(pci, PCI_DEVFN(3, 0), 4, 3, 2);
    bus_write(memory, RX_RING + 8, 0, 8);
    send_to_guest(mac, 60);
    tx_desc(0, BUFFERS, 60 | 0x0bull << 24);
    wr(TDT, 1);
    cr_expect_eq(mem8(RX_RING + 12), 0);
    cr_expect_eq(net->count, 0);
    cr_expect_eq(rd(TDH), 0);
}

Test(e1000, no_cable)
{
    struct device *second = e1000_create(pci, -1, clk, NULL, mac, ram, NULL, 0);
    cr_assert(second);
    clock_advance(clk, NS_PER_SECOND);
    int devfn = ((struct pci_device *)second)->devfn;
    pci_bus_config_write(pci, devfn, 0x10, 0xfd000000, 4);
    pci_bus_config_write(pci, devfn, 4, 6, 2);
    cr_expect_eq(bus_read(memory, 0xfd000000 + STATUS, 4) & 2, 0);
    second->cls->destroy(second);
}
