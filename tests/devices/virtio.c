// build/tests/test_virtio
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/big_endian.h"
#include "core/bus.h"
#include "core/clock.h"
#include "core/input.h"
#include "core/netdev.h"
#include "devices/net_offload.h"
#include "devices/pci.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_input.h"
#include "devices/virtio_net.h"
#include "devices/virtio_rng.h"

#define MODERN  0xfe000000u
#define MSIX    0xfe010000u
#define NOTIFY  (MODERN + 0x3000)
#define CONFIG  (MODERN + 0x2000)
#define IO      0xc000u
#define RAM     (4u << 20)
#define DEVFN   PCI_DEVFN(3, 0)
#define DATA    0x100000u
#define SECTORS 4096u

#define NEXT     1u
#define WRITE    2u
#define INDIRECT 4u

#define VERSION_1 (1ull << 32)
#define EVENT_IDX (1ull << 29)
#define MRG_RXBUF (1ull << 15)

static struct bus *memory, *ports;
static struct ram *ram;
static struct pci_bus *pci;
static struct clock *clk;
static struct device *dev;
static int irq;

static void pirq(void *opaque, int n, int level)
{
    (void)opaque;
    (void)n;
    irq = level;
}

static u32 msi_count, msi_data;
static void msi(void *opaque, u64 address, u32 data)
{
    (void)opaque;
    (void)address;
    msi_count++;
    msi_data = data;
}

static u64 rd(u64 at, unsigned size) { return bus_read(memory, at, size); }
static void wr(u64 at, u64 value, unsigned size) { bus_write(memory, at, value, size); }
static u8 status(void) { return (u8)rd(MODERN + 20, 1); }

/* ---- back ends ---- */

struct fake_disk {
    struct block b;
    u8 data[SECTORS * 512];
    struct block_request *held[300];
    int held_count, flushes, discards, fail;
    bool hold, drained; /* requests wait; their data are left alone */
};
static struct fake_disk *disk;

static void complete(struct block_request *r)
{
    if (disk->fail) {
        r->error = -disk->fail;
    } else if (r->op == BLOCK_READ) {
        if (!disk->drained) block_put(r, 0, disk->data + r->offset, r->size);
    } else if (r->op == BLOCK_WRITE) {
        block_get(r, 0, disk->data + r->offset, r->size);
    } else if (r->op == BLOCK_FLUSH) {
        disk->flushes++;
    } else {
        disk->discards++;
    }
    r->done(r);
}

static void disk_submit(struct block *b, struct block_request *r)
{
    (void)b;
    cr_assert(r->offset + r->size <= sizeof(disk->data));
    if (disk->hold)
        disk->held[disk->held_count++] = r;
    else
        complete(r);
}
static void disk_drain(struct block *b)
{
    (void)b;
    disk->drained = true;
}
static const struct block_ops disk_ops = {.submit = disk_submit, .drain = disk_drain};

static struct {
    struct netdev dev;
    int count;
    size_t len[64];
    u8 frame[64][2048];
} net;

static void net_transmit(struct netdev *n, const u8 *frame, size_t len)
{
    (void)n;
    if (net.count < 64) {
        net.len[net.count] = len;
        memcpy(net.frame[net.count], frame, MIN(len, sizeof(net.frame[0])));
    }
    net.count++;
}
static const struct netdev_ops net_ops = {.transmit = net_transmit};

static size_t fill(void *opaque, u8 *buf, size_t size)
{
    (void)opaque;
    memset(buf, 0x5a, size);
    return size;
}

/* ---- a driver ---- */

struct ring {
    u64 desc, avail, used;
    u16 size, next, seen;
};
static struct ring rings[3];

static void setup(void)
{
    memory = bus_create("memory", 1ull << 52);
    ports = bus_create("ports", 0x10000);
    ram = ram_create(RAM);
    bus_add_ram(memory, "ram", 0, RAM, 0, ram, ram_alloc(ram, RAM), false);
    pci = pci_bus_create(memory, ports);
    pci_bus_set_pirq_handler(pci, pirq, NULL);
    pci_bus_set_msi_handler(pci, msi, NULL);
    clk = clock_create_manual();
    disk = calloc(1, sizeof(*disk));
    disk->b = (struct block){.ops = &disk_ops, .size = sizeof(disk->data), .discards = true};
    for (u32 i = 0; i < sizeof(disk->data); i++) disk->data[i] = (u8)(i >> 9 ^ i);
    memset(&net, 0, sizeof(net));
    net.dev.ops = &net_ops;
    irq = 0;
    msi_count = 0;
}

static void teardown(void)
{
    if (dev) dev->cls->destroy(dev);
    dev = NULL;
    for (int i = 0; i < disk->held_count; i++) complete(disk->held[i]); /* after the device */
    pci_bus_destroy(pci);
    bus_destroy(memory);
    bus_destroy(ports);
    ram_destroy(ram);
    clock_destroy(clk);
    free(disk);
}

static struct virtio_slot slot(void) { return (struct virtio_slot){.pci = pci, .devfn = DEVFN}; }

static void decode(void)
{
    cr_assert(dev);
    pci_bus_config_write(pci, DEVFN, 0x10, IO, 4);
    pci_bus_config_write(pci, DEVFN, 0x14, MSIX, 4);
    pci_bus_config_write(pci, DEVFN, 0x20, MODERN, 4);
    pci_bus_config_write(pci, DEVFN, 4, 7, 2);
}

static void create_disk(bool write_through)
{
    struct virtio_slot s = slot();
    struct virtio_blk_config c = {.block = &disk->b, .serial = "SERIAL-1", .write_through = write_through};
    dev = virtio_blk_create(&s, &c);
    decode();
}

static void create_net(void)
{
    struct virtio_slot s = slot();
    dev = virtio_net_create(&s, clk, &net.dev, (const u8[]){0x52, 0x54, 0, 1, 2, 3}, ram, NULL, 0);
    decode();
}

static u64 offered(void)
{
    wr(MODERN, 0, 4);
    u64 low = rd(MODERN + 4, 4);
    wr(MODERN, 1, 4);
    return low | rd(MODERN + 4, 4) << 32;
}

static void ring_setup(unsigned q, u16 size)
{
    struct ring *r = &rings[q];
    *r = (struct ring){.desc = 0x10000 + 0x10000 * q, .avail = 0x14000 + 0x10000 * q, .used = 0x18000 + 0x10000 * q,
                       .size = size};
    wr(MODERN + 22, q, 2);
    wr(MODERN + 24, size, 2);
    wr(MODERN + 32, r->desc, 4);
    wr(MODERN + 36, 0, 4);
    wr(MODERN + 40, r->avail, 4);
    wr(MODERN + 48, r->used, 4);
    wr(MODERN + 28, 1, 2);
    cr_assert_eq(rd(MODERN + 28, 2), 1);
}

/* The initialization sequence [VIRTIO] 3.1.1. */
static void start(u64 features, unsigned queues)
{
    wr(MODERN + 20, 0, 1);
    wr(MODERN + 20, 1, 1);
    wr(MODERN + 20, 3, 1);
    wr(MODERN + 8, 0, 4);
    wr(MODERN + 12, (u32)features, 4);
    wr(MODERN + 8, 1, 4);
    wr(MODERN + 12, features >> 32, 4);
    wr(MODERN + 20, 11, 1);
    cr_assert_eq(status(), 11);
    for (unsigned q = 0; q < queues; q++) ring_setup(q, 16);
    wr(MODERN + 20, 15, 1);
    cr_assert_eq(status(), 15);
}

static void desc(unsigned q, u16 i, u64 address, u32 length, u16 flags, u16 next)
{
    u64 at = rings[q].desc + 16ull * i;
    wr(at, address, 8);
    wr(at + 8, length, 4);
    wr(at + 12, flags, 2);
    wr(at + 14, next, 2);
}

static void post(unsigned q, u16 head)
{
    struct ring *r = &rings[q];
    wr(r->avail + 4 + 2u * (r->next % r->size), head, 2);
    wr(r->avail + 2, ++r->next, 2);
}

static void kick(unsigned q) { wr(NOTIFY + 4 * q, q, 2); }

/* Was another chain handed back? Which, and with how many bytes. */
static bool used(unsigned q, u32 *head, u32 *length)
{
    struct ring *r = &rings[q];
    if ((u16)rd(r->used + 2, 2) == r->seen) return false;
    u64 at = r->used + 4 + 8ull * (r->seen++ % r->size);
    *head = (u32)rd(at, 4);
    *length = (u32)rd(at + 4, 4);
    return true;
}

#define HEAD   0x80000u
#define STATUS 0x80100u

/* Post a request of three descriptors from number 3 * n on; data of length 0: two. */
static void post_request(u16 n, u32 type, u64 sector, u32 length, bool in)
{
    u16 i = (u16)(3 * n);
    wr(HEAD + 16u * n, type, 8);
    wr(HEAD + 16u * n + 8, sector, 8);
    wr(STATUS + n, 0xff, 1);
    desc(0, i, HEAD + 16u * n, 16, NEXT, length ? i + 1u : i + 2u);
    if (length) desc(0, (u16)(i + 1), DATA + 0x10000u * n, length, NEXT | (in ? WRITE : 0), (u16)(i + 2));
    desc(0, (u16)(i + 2), STATUS + n, 1, WRITE, 0);
    post(0, i);
}

static u8 request(u32 type, u64 sector, u32 length, bool in)
{
    u32 head, written;
    post_request(0, type, sector, length, in);
    kick(0);
    cr_assert(used(0, &head, &written));
    cr_assert_eq(head, 0);
    return (u8)rd(STATUS, 1);
}

TestSuite(virtio, .init = setup, .fini = teardown);

/* ---- the transport ---- */

Test(virtio, identity_and_capabilities)
{
    create_disk(false);
    cr_assert_eq(pci_bus_config_read(pci, DEVFN, 0, 4), 0x10011af4);
    cr_assert_eq(pci_bus_config_read(pci, DEVFN, 0x2c, 4), 0x00021af4);
    u32 seen = 0;
    for (u32 at = pci_bus_config_read(pci, DEVFN, 0x34, 1); at; at = pci_bus_config_read(pci, DEVFN, at + 1, 1))
        if (pci_bus_config_read(pci, DEVFN, at, 1) == 9) seen |= 1u << pci_bus_config_read(pci, DEVFN, at + 3, 1);
    cr_assert_eq(seen, 0x3e);
}

Test(virtio, features_are_checked)
{
    create_disk(false);
    u64 all = offered();
    cr_assert(all & VERSION_1);
    cr_assert(all & EVENT_IDX);
    wr(MODERN + 20, 3, 1);
    wr(MODERN + 8, 1, 4);
    wr(MODERN + 12, 3, 4); /* VERSION_1 and one that does not exist */
    wr(MODERN + 20, 11, 1);
    cr_assert_eq(status(), 3);
    wr(MODERN + 12, 1, 4);
    wr(MODERN + 20, 11, 1);
    cr_assert_eq(status(), 11);
    wr(MODERN + 12, 0, 4); /* too late */
    cr_assert_eq(rd(MODERN + 12, 4), 1);
    wr(MODERN + 20, 0, 1);
    cr_assert_eq(rd(MODERN + 12, 4), 0);
}

Test(virtio, queue_registers)
{
    create_disk(false);
    cr_assert_eq(rd(MODERN + 18, 2), 1);
    cr_assert_eq(rd(MODERN + 24, 2), 256);
    wr(MODERN + 24, 100, 2); /* no power of two */
    cr_assert_eq(rd(MODERN + 24, 2), 256);
    wr(MODERN + 26, 7, 2); /* no such vector */
    cr_assert_eq(rd(MODERN + 26, 2), 0xffff);
    wr(MODERN + 26, 1, 2);
    cr_assert_eq(rd(MODERN + 26, 2), 1);
    wr(MODERN + 22, 1, 2); /* no such queue */
    cr_assert_eq(rd(MODERN + 24, 2), 0);
    wr(MODERN + 28, 1, 2);
    wr(MODERN + 22, 0, 2);
    wr(MODERN + 32, 0x12345000, 4);
    wr(MODERN + 36, 0x9, 4);
    cr_assert_eq(rd(MODERN + 32, 8), 0x912345000);
    wr(MODERN + 28, 1, 2);
    wr(MODERN + 32, 0, 4); /* not any more */
    cr_assert_eq(rd(MODERN + 32, 4), 0x12345000);
}

Test(virtio, configuration_access_window)
{
    create_disk(false);
    u32 at = pci_bus_config_read(pci, DEVFN, 0x34, 1);
    while (pci_bus_config_read(pci, DEVFN, at, 1) != 9 || pci_bus_config_read(pci, DEVFN, at + 3, 1) != 5)
        at = pci_bus_config_read(pci, DEVFN, at + 1, 1);
    pci_bus_config_write(pci, DEVFN, at + 4, 4, 1);
    pci_bus_config_write(pci, DEVFN, at + 8, 0x2000, 4);
    pci_bus_config_write(pci, DEVFN, at + 12, 4, 4);
    cr_assert_eq(pci_bus_config_read(pci, DEVFN, at + 16, 4), SECTORS);
    pci_bus_config_write(pci, DEVFN, at + 8, 20, 4);
    pci_bus_config_write(pci, DEVFN, at + 12, 1, 4);
    pci_bus_config_write(pci, DEVFN, at + 16, 3, 4);
    cr_assert_eq(status(), 3);
    pci_bus_config_write(pci, DEVFN, at + 8, 0xfffffffc, 4); /* outside */
    pci_bus_config_write(pci, DEVFN, at + 12, 4, 4);
    pci_bus_config_write(pci, DEVFN, at + 16, 0, 4);
    cr_assert_eq(status(), 3);
}

Test(virtio, interrupts_by_pin_and_by_message)
{
    create_disk(false);
    start(VERSION_1, 1);
    request(4, 0, 0, false);
    cr_assert_eq(irq, 1);
    cr_assert_eq(rd(MODERN + 0x1000, 1), 1);
    cr_assert_eq(irq, 0);
    cr_assert_eq(rd(MODERN + 0x1000, 1), 0);

    u32 at = pci_bus_config_read(pci, DEVFN, 0x34, 1);
    while (pci_bus_config_read(pci, DEVFN, at, 1) != 0x11) at = pci_bus_config_read(pci, DEVFN, at + 1, 1);
    pci_bus_config_write(pci, DEVFN, at + 2, 0x8000, 2);
    wr(MSIX + 16, 0xfee00000, 4);
    wr(MSIX + 24, 0x41, 4);
    wr(MSIX + 28, 0, 4);
    wr(MODERN + 22, 0, 2);
    wr(MODERN + 26, 1, 2);
    request(4, 0, 0, false);
    cr_assert_eq(irq, 0);
    cr_assert_eq(msi_count, 1);
    cr_assert_eq(msi_data, 0x41);
    wr(rings[0].avail, 1, 2); /* the driver polls */
    request(4, 0, 0, false);
    cr_assert_eq(msi_count, 1);
}

Test(virtio, event_index)
{
    create_disk(false);
    start(VERSION_1 | EVENT_IDX, 1);
    u64 used_event = rings[0].avail + 4 + 2 * 16, avail_event = rings[0].used + 4 + 8 * 16;
    wr(used_event, 0, 2);
    request(4, 0, 0, false);
    cr_assert_eq(rd(MODERN + 0x1000, 1), 1);
    cr_assert_eq(rd(avail_event, 2), 1);
    wr(used_event, 2, 2); /* not for the next one */
    request(4, 0, 0, false);
    cr_assert_eq(rd(MODERN + 0x1000, 1), 0);
    request(4, 0, 0, false);
    cr_assert_eq(rd(MODERN + 0x1000, 1), 1);
    cr_assert_eq(rd(avail_event, 2), 3);
}

Test(virtio, legacy_interface)
{
    create_disk(false);
    cr_assert_eq(bus_read(ports, IO, 4) & 0x600, 0x200 | 0x400);
    bus_write(ports, IO + 18, 3, 1);
    bus_write(ports, IO + 4, 0xffffffff, 4);
    cr_assert_eq(bus_read(ports, IO + 4, 4), bus_read(ports, IO, 4));
    bus_write(ports, IO + 4, 0, 4);
    cr_assert_eq(bus_read(ports, IO + 12, 2), 256);
    bus_write(ports, IO + 8, 0x20, 4);
    cr_assert_eq(bus_read(ports, IO + 8, 4), 0x20);
    bus_write(ports, IO + 18, 7, 1);
    cr_assert_eq(bus_read(ports, IO + 20, 8), SECTORS);
    rings[0] = (struct ring){.desc = 0x20000, .avail = 0x21000, .used = 0x22000, .size = 256};
    post_request(0, 0, 5, 512, true);
    bus_write(ports, IO + 16, 0, 2);
    cr_assert_eq(rd(STATUS, 1), 0);
    cr_assert_eq(rd(DATA + 1, 1), 4);
    cr_assert_eq(irq, 1);
    cr_assert_eq(bus_read(ports, IO + 19, 1), 1);
    cr_assert_eq(irq, 0);
}

/* ---- rings that no driver makes ---- */

static void broken(void)
{
    kick(0);
    cr_assert_eq(status(), 15 | 64);
    cr_assert_eq(rd(MODERN + 0x1000, 1) & 2, 2);
    kick(0); /* nothing happens any more */
    cr_assert_eq((u16)rd(rings[0].used + 2, 2), rings[0].seen);
    dev->cls->reset(dev);
    decode();
    start(VERSION_1, 1);
    memset(ram->host + rings[0].avail, 0, 64);
    memset(ram->host + rings[0].used, 0, 256);
    cr_assert_eq(request(0, 1, 512, true), 0); /* it works again */
    rings[0].seen = (u16)rd(rings[0].used + 2, 2);
}

Test(virtio, malformed_chains)
{
    create_disk(false);
    start(VERSION_1, 1);
    post(0, 16); /* no such descriptor */
    broken();
    desc(0, 0, HEAD, 16, NEXT, 200);
    post(0, 0);
    broken();
    desc(0, 0, HEAD, 16, NEXT, 1); /* a loop */
    desc(0, 1, HEAD, 16, NEXT, 0);
    post(0, 0);
    broken();
    desc(0, 0, HEAD, 16, NEXT, 1); /* to read behind to write */
    desc(0, 1, DATA, 512, NEXT | WRITE, 2);
    desc(0, 2, DATA, 512, 0, 0);
    post(0, 0);
    broken();
    desc(0, 0, HEAD, 0, NEXT, 1); /* empty */
    post(0, 0);
    broken();
    desc(0, 0, RAM - 8, 16, 0, 0); /* across the end of RAM */
    post(0, 0);
    broken();
    desc(0, 0, ~0ull - 4, 0xffffffff, 0, 0);
    post(0, 0);
    broken();
    desc(0, 0, HEAD, 0xffffffff, 0, 0);
    post(0, 0);
    broken();
    desc(0, 0, MODERN, 16, 0, 0); /* our own registers */
    post(0, 0);
    broken();
    desc(0, 0, HEAD, 8, NEXT, 1); /* half a header */
    desc(0, 1, STATUS, 1, WRITE, 0);
    post(0, 0);
    broken();
    desc(0, 0, HEAD, 16, 0, 0); /* no status */
    post(0, 0);
    broken();
    wr(rings[0].avail + 2, 1000, 2); /* the index jumps */
    broken();
}

Test(virtio, malformed_indirect_tables)
{
    u64 table = 0x90000;
    create_disk(false);
    start(VERSION_1 | 1ull << 28, 1);
    desc(0, 0, table, 0, INDIRECT, 0);
    post(0, 0);
    broken();
    desc(0, 0, table, 40, INDIRECT, 0);
    post(0, 0);
    broken();
    desc(0, 0, table, 0xfffffff0, INDIRECT, 0);
    post(0, 0);
    broken();
    desc(0, 0, RAM, 32, INDIRECT, 0);
    post(0, 0);
    broken();
    rings[1].desc = table; /* desc(1, ...) writes the table */
    desc(1, 0, table, 16, INDIRECT, 0); /* nested */
    desc(0, 0, table, 16, INDIRECT, 0);
    post(0, 0);
    broken();
    rings[1].desc = table;
    for (u16 i = 0; i < 2000; i++) desc(1, i, DATA + 0x100u * (i % 2), 16, NEXT, (u16)(i + 1)); /* too many pieces */
    desc(0, 0, table, 2000 * 16, INDIRECT, 0);
    post(0, 0);
    broken();
}

Test(virtio, rings_outside_of_ram)
{
    create_disk(false);
    for (int which = 0; which < 3; which++) {
        start(VERSION_1, 0);
        wr(MODERN + 24, 16, 2);
        wr(MODERN + 32, which == 0 ? ~0ull : 0x10000, 4);
        wr(MODERN + 36, which == 0 ? ~0ull : 0, 4);
        wr(MODERN + 40, which == 1 ? RAM - 2u : 0x14000, 4);
        wr(MODERN + 48, which == 2 ? MODERN : 0x18000, 4);
        wr(MODERN + 28, 1, 2);
        rings[0] = (struct ring){.desc = 0x10000, .avail = 0x14000, .used = 0x18000, .size = 16};
        post_request(0, 4, 0, 0, false);
        kick(0);
        cr_assert_eq(status(), 15 | 64, "ring %d", which);
    }
}

/* ---- the disk ---- */

Test(virtio, disk_reads_and_writes)
{
    create_disk(false);
    start(VERSION_1, 1);
    cr_assert_eq(request(0, 7, 1024, true), 0);
    cr_assert_eq(memcmp(ram->host + DATA, disk->data + 7 * 512, 1024), 0);
    memset(ram->host + DATA, 0x33, 512);
    cr_assert_eq(request(1, 100, 512, false), 0);
    cr_assert_eq(disk->data[100 * 512], 0x33);
    cr_assert_eq(disk->data[101 * 512 - 1], 0x33);
    cr_assert_neq(disk->data[101 * 512], 0x33);
    cr_assert_eq(disk->flushes, 1); /* the driver cannot flush, so the write was */
    cr_assert_eq(request(8, 0, 20, true), 0);
    cr_assert_eq(memcmp(ram->host + DATA, "SERIAL-1\0\0\0\0\0\0\0\0\0\0\0\0", 20), 0);
}

Test(virtio, disk_refuses)
{
    create_disk(false);
    start(VERSION_1, 1);
    cr_assert_eq(request(0, SECTORS, 512, true), 1);
    cr_assert_eq(request(0, SECTORS - 1, 1024, true), 1);
    cr_assert_eq(request(0, ~0ull, 512, true), 1);
    cr_assert_eq(request(0, ~0ull / 512 + 1, 512, true), 1);
    cr_assert_eq(request(0, 0, 100, true), 1);
    cr_assert_eq(request(99, 0, 512, true), 2);
    disk->fail = 5;
    cr_assert_eq(request(0, 0, 512, true), 1);
    cr_assert_eq(request(1, 0, 512, false), 1);
    cr_assert_eq(request(4, 0, 0, false), 1);
    disk->fail = 0;
    disk->b.readonly = true;
    cr_assert_eq(request(1, 0, 512, false), 1);
}

Test(virtio, disk_flushes_as_told)
{
    create_disk(true);
    start(VERSION_1 | 1ull << 9 | 1ull << 11, 1);
    cr_assert_eq(rd(CONFIG + 32, 1), 0);
    request(1, 0, 512, false);
    cr_assert_eq(disk->flushes, 1);
    wr(CONFIG + 32, 1, 1);
    cr_assert_eq(rd(CONFIG + 32, 1), 1);
    request(1, 0, 512, false);
    cr_assert_eq(disk->flushes, 1);
    request(4, 0, 0, false);
    cr_assert_eq(disk->flushes, 2);
}

Test(virtio, disk_discards_and_zeroes)
{
    create_disk(false);
    start(VERSION_1 | 1ull << 13 | 1ull << 14 | 1ull << 9, 1);
    wr(DATA, 8, 8);
    wr(DATA + 8, 16, 4);
    wr(DATA + 12, 0, 4);
    cr_assert_eq(request(11, 0, 16, false), 0);
    cr_assert_eq(disk->discards, 1);
    cr_assert_eq(request(13, 0, 16, false), 0);
    for (int i = 0; i < 16 * 512; i++) cr_assert_eq(disk->data[8 * 512 + i], 0);
    cr_assert_eq(disk->data[24 * 512], (u8)24);
    wr(DATA + 12, 2, 4);
    cr_assert_eq(request(11, 0, 16, false), 2);
    wr(DATA + 12, 0, 4);
    wr(DATA, SECTORS - 2, 8);
    cr_assert_eq(request(11, 0, 16, false), 1);
    wr(DATA + 8, 0xffffffff, 4);
    cr_assert_eq(request(13, 0, 16, false), 1);
    cr_assert_eq(request(13, 0, 8, false), 1);
}

Test(virtio, disk_requests_in_flight)
{
    u32 head, length;
    create_disk(false);
    start(VERSION_1, 1);
    disk->hold = true;
    for (u16 i = 0; i < 4; i++) post_request(i, 0, i, 512, true);
    kick(0);
    cr_assert_eq(disk->held_count, 4);
    cr_assert(!used(0, &head, &length));
    complete(disk->held[2]); /* in any order */
    cr_assert(used(0, &head, &length));
    cr_assert_eq(head, 6);
    cr_assert_eq(length, 513);
    cr_assert_eq(rd(STATUS + 2, 1), 0);
    /* A reset forgets the others, which do not touch memory any more. */
    wr(MODERN + 20, 0, 1);
    cr_assert_eq(status(), 0);
    cr_assert(disk->drained);
    memset(ram->host + DATA, 0xee, 512);
    complete(disk->held[0]);
    cr_assert_eq(rd(DATA, 1), 0xee);
    cr_assert_eq(rd(STATUS, 1), 0xff);
    disk->held[0] = disk->held[1];
    disk->held[1] = disk->held[3];
    disk->held_count = 2; /* teardown() completes these */
}

Test(virtio, disk_same_descriptor_many_times)
{
    create_disk(false);
    start(VERSION_1, 1);
    disk->hold = true;
    for (u16 i = 0; i < 16; i++) post_request(0, 0, i, 512, true);
    kick(0);
    cr_assert_eq(disk->held_count, 16);
    post_request(0, 0, 0, 512, true);
    kick(0);
    cr_assert_eq(status(), 15 | 64);
    cr_assert_eq(disk->held_count, 16);
}

Test(virtio, disk_large_request)
{
    create_disk(false);
    start(VERSION_1 | 1ull << 28, 1);
    /* 1.5 MiB in two halves, so that a piece ends inside. */
    wr(HEAD, 0, 8);
    wr(HEAD + 8, 0, 8);
    desc(0, 0, HEAD, 16, NEXT, 1);
    desc(0, 1, 0x200000, 0xc0000, NEXT | WRITE, 2);
    desc(0, 2, DATA, 0xc0000, NEXT | WRITE, 3);
    desc(0, 3, STATUS, 1, WRITE, 0);
    post(0, 0);
    kick(0);
    cr_assert_eq(rd(STATUS, 1), 0);
    cr_assert_eq(memcmp(ram->host + 0x200000, disk->data, 0xc0000), 0);
    cr_assert_eq(memcmp(ram->host + DATA, disk->data + 0xc0000, 0xc0000), 0);
}

/* ---- the network card ---- */

static const u8 frame[64] = {0x52, 0x54, 0, 1, 2, 3, 0x52, 0x55, 0, 0, 0, 1, 0x88, 0xb5, 1, 2, 3};

Test(virtio, net_receives)
{
    u32 head, length;
    create_net();
    start(VERSION_1 | MRG_RXBUF, 2);
    cr_assert(!netdev_deliver(&net.dev, frame, 64)); /* no buffers: it waits */
    desc(0, 0, DATA, 40, WRITE, 0);
    desc(0, 1, DATA + 0x1000, 40, WRITE, 0);
    post(0, 0);
    kick(0);
    cr_assert(!used(0, &head, &length)); /* too small for 76 bytes */
    post(0, 1);
    kick(0);
    cr_assert(used(0, &head, &length));
    cr_assert_eq(length, 40);
    cr_assert(used(0, &head, &length));
    cr_assert_eq(head, 1);
    cr_assert_eq(length, 36);
    cr_assert_eq(rd(DATA + 10, 2), 2); /* buffers */
    cr_assert_eq(memcmp(ram->host + DATA + 12, frame, 28), 0);
    cr_assert_eq(memcmp(ram->host + DATA + 0x1000, frame + 28, 36), 0);
}

Test(virtio, net_small_buffers_without_merging)
{
    u32 head, length;
    create_net();
    start(VERSION_1, 2);
    desc(0, 0, DATA, 40, WRITE, 0);
    post(0, 0);
    cr_assert(netdev_deliver(&net.dev, frame, 64)); /* lost */
    cr_assert(!used(0, &head, &length));
    cr_assert_eq(status(), 15);
    cr_assert(netdev_deliver(&net.dev, frame, 28));
    cr_assert(used(0, &head, &length));
    cr_assert_eq(length, 40);
}

static u8 control(u8 class, u8 command, const void *data, u32 size)
{
    const u8 code[2] = {class, command};
    u32 head, length;
    bus_write_block(memory, HEAD, code, 2);
    bus_write_block(memory, HEAD + 2, data, size);
    desc(2, 0, HEAD, 2 + size, NEXT, 1);
    desc(2, 1, STATUS, 1, WRITE, 0);
    post(2, 0);
    kick(2);
    cr_assert(used(2, &head, &length));
    return (u8)rd(STATUS, 1);
}

static bool takes(const u8 *address)
{
    u32 head, length;
    u8 f[64];
    memcpy(f, frame, 64);
    memcpy(f, address, 6);
    post(0, 0);
    netdev_deliver(&net.dev, f, 64);
    if (used(0, &head, &length)) return true;
    rings[0].next--;
    wr(rings[0].avail + 2, rings[0].next, 2);
    return false;
}

Test(virtio, net_filters)
{
    static const u8 own[6] = {0x52, 0x54, 0, 1, 2, 3}, other[6] = {0x52, 0x54, 0, 9, 9, 9};
    static const u8 group[6] = {1, 0, 0x5e, 0, 0, 1}, all[6] = {255, 255, 255, 255, 255, 255};
    create_net();
    start(VERSION_1 | 1ull << 17 | 1ull << 18 | 1ull << 23, 3);
    desc(0, 0, DATA, 2048, WRITE, 0);
    cr_assert(takes(other));
    cr_assert_eq(control(0, 0, "\0", 1), 0); /* not promiscuous */
    cr_assert(takes(own));
    cr_assert(!takes(other));
    cr_assert(!takes(group));
    cr_assert(takes(all));
    cr_assert_eq(control(0, 1, "\1", 1), 0);
    cr_assert(takes(group));
    cr_assert_eq(control(0, 1, "\0", 1), 0);
    static const u8 table[] = {1, 0, 0, 0, 0x52, 0x54, 0, 9, 9, 9, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1};
    cr_assert_eq(control(1, 0, table, sizeof(table)), 0);
    cr_assert(takes(other));
    cr_assert(takes(group));
    static const u8 wild[] = {255, 255, 255, 255, 1, 2, 3, 4, 5, 6};
    cr_assert_eq(control(1, 0, wild, sizeof(wild)), 1);
    cr_assert_eq(control(1, 1, other, 6), 0);
    cr_assert_eq(rd(CONFIG + 5, 1), 9);
    cr_assert_eq(control(1, 1, other, 3), 1);
    cr_assert_eq(control(77, 0, other, 6), 1);
    cr_assert_eq(control(0, 0, "", 0), 1);
}

/* An IPv4 TCP packet with that much payload; returns its length. */
static size_t tcp_packet(u8 *p, size_t payload)
{
    memset(p, 0, 54);
    memcpy(p, frame, 12);
    be_put16(p + 12, 0x0800);
    p[14] = 0x45;
    be_put16(p + 16, (u32)(40 + payload));
    p[22] = 64;
    p[23] = 6;
    be_put32(p + 26, 0x0a00020f);
    be_put32(p + 30, 0x0a000202);
    be_put16(p + 24, (u16)~net_sum(p + 14, 20, 0));
    be_put32(p + 38, 1000);
    p[46] = 5 << 4;
    p[47] = 0x18; /* PSH, ACK */
    for (size_t i = 0; i < payload; i++) p[54 + i] = (u8)(i * 7);
    /* What a driver puts there: the sum of the pseudo header. */
    be_put16(p + 50, net_sum(p + 26, 8, 6 + 20 + payload));
    return 54 + payload;
}

static void send(u8 gso, u16 mss, const u8 *packet, size_t len)
{
    const u8 header[12] = {1, gso, 54, 0, (u8)mss, (u8)(mss >> 8), 34, 0, 16, 0};
    bus_write_block(memory, DATA, header, 12);
    bus_write_block(memory, DATA + 0x1000, packet, len);
    desc(1, 0, DATA, 12, NEXT, 1);
    desc(1, 1, DATA + 0x1000, (u32)len, 0, 0);
    post(1, 0);
    kick(1);
}

Test(virtio, net_checksums_and_segments)
{
    u8 packet[8192];
    u32 head, length;
    create_net();
    start(VERSION_1 | 1 | 1ull << 11, 2);
    size_t len = tcp_packet(packet, 100);
    send(0, 0, packet, len);
    cr_assert_eq(net.count, 1);
    cr_assert(net_checksum_valid(net.frame[0], net.len[0]));
    len = tcp_packet(packet, 3000);
    send(1, 1460, packet, len);
    cr_assert_eq(net.count, 4);
    for (int i = 1; i < 4; i++) {
        const u8 *f = net.frame[i];
        size_t part = i < 3 ? 1460 : 80;
        cr_assert_eq(net.len[i], 54 + part);
        cr_assert(net_checksum_valid(f, net.len[i]));
        cr_assert_eq(net_sum(f + 14, 20, 0), 0xffff);
        cr_assert_eq(be_get32(f + 38), 1000u + 1460u * (unsigned)(i - 1));
        cr_assert_eq(f[47], i < 3 ? 0x10 : 0x18);
        cr_assert_eq(memcmp(f + 54, packet + 54 + 1460 * (i - 1), part), 0);
    }
    while (used(1, &head, &length)) cr_assert_eq(length, 0);
    cr_assert_eq(rings[1].seen, 2);
    send(1, 0, packet, len); /* segments of nothing */
    send(1, 9000, packet, len);
    send(1, 1460, packet, 40);
    send(3, 1460, packet, len); /* UDP */
    cr_assert_eq(net.count, 4);
    cr_assert_eq(status(), 15);
    net.dev.large = true;
    send(1, 1460, packet, len);
    cr_assert_eq(net.count, 5);
    cr_assert_eq(net.len[4], len);
    desc(1, 0, DATA, 4, 0, 0); /* no header */
    post(1, 0);
    kick(1);
    cr_assert_eq(status(), 15 | 64);
}

Test(virtio, net_checked_checksums)
{
    u8 packet[256];
    create_net();
    start(VERSION_1 | 2, 2);
    size_t len = tcp_packet(packet, 100);
    desc(0, 0, DATA, 2048, WRITE, 0);
    post(0, 0);
    netdev_deliver(&net.dev, packet, len);
    cr_assert_eq(rd(DATA, 1), 0); /* the checksum is not complete */
    be_put16(packet + 50, (u16)~net_sum(packet + 34, len - 34, 0));
    post(0, 0);
    netdev_deliver(&net.dev, packet, len);
    cr_assert_eq(rd(DATA, 1), 2);
}

Test(virtio, net_link)
{
    create_net();
    start(VERSION_1 | 1ull << 16, 2);
    cr_assert_eq(rd(CONFIG + 6, 2), 1);
    u64 before = rd(MODERN + 21, 1);
    netdev_set_link(&net.dev, false);
    cr_assert_eq(rd(CONFIG + 6, 2), 0);
    cr_assert_neq(rd(MODERN + 21, 1), before);
    cr_assert_eq(rd(MODERN + 0x1000, 1), 2);
}

/* ---- random numbers, input ---- */

Test(virtio, random_numbers)
{
    u32 head, length;
    struct virtio_slot s = slot();
    dev = virtio_rng_create(&s, fill, NULL);
    decode();
    start(VERSION_1, 1);
    desc(0, 0, DATA, 100, WRITE, 0);
    desc(0, 1, DATA, 0x200000, WRITE, 0);
    desc(0, 2, DATA, 100, 0, 0);
    post(0, 0);
    kick(0);
    cr_assert(used(0, &head, &length));
    cr_assert_eq(length, 100);
    cr_assert_eq(rd(DATA + 99, 2), 0x005a);
    post(0, 1);
    post(0, 2);
    kick(0);
    cr_assert(used(0, &head, &length));
    cr_assert_eq(length, 65536);
    cr_assert(used(0, &head, &length));
    cr_assert_eq(length, 0);
}

static void expect_event(u64 at, u16 type, u16 code, u32 value)
{
    cr_assert_eq(rd(at, 2), type);
    cr_assert_eq(rd(at + 2, 2), code);
    cr_assert_eq(rd(at + 4, 4), value);
}

Test(virtio, tablet)
{
    struct virtio_slot s = slot();
    struct input *in = input_create(clk);
    dev = virtio_input_create(&s, VIRTIO_TABLET, in);
    decode();
    wr(CONFIG, 0x12, 1);
    wr(CONFIG + 1, 1, 1);
    cr_assert_eq(rd(CONFIG + 2, 1), 20);
    cr_assert_eq(rd(CONFIG + 12, 4), INPUT_ABS_MAX);
    wr(CONFIG, 0x11, 1);
    wr(CONFIG + 1, 3, 1);
    cr_assert_eq(rd(CONFIG + 2, 1), 1);
    cr_assert_eq(rd(CONFIG + 8, 1), 3);
    cr_assert(!input_is_absolute(in)); /* nobody runs it */
    start(VERSION_1, 2);
    cr_assert(input_is_absolute(in));
    for (u16 i = 0; i < 8; i++) {
        desc(0, i, DATA + 8u * i, 8, WRITE, 0);
        post(0, i);
    }
    kick(0);
    input_move_to(in, 100, 200);
    input_button(in, INPUT_BUTTON_left, true);
    input_sync(in);
    expect_event(DATA, 3, 0, 100);
    expect_event(DATA + 8, 3, 1, 200);
    expect_event(DATA + 16, 1, 0x110, 1);
    expect_event(DATA + 24, 0, 0, 0);
    input_button(in, INPUT_BUTTON_wheel_up, true);
    input_sync(in);
    expect_event(DATA + 32, 2, 8, 1);
    expect_event(DATA + 40, 0, 0, 0);
    input_move_to(in, 5, 6); /* no room for three events: all or nothing */
    input_sync(in);
    cr_assert_eq(rd(rings[0].used + 2, 2), 6);
    wr(MODERN + 20, 0, 1);
    cr_assert(!input_is_absolute(in));
    dev->cls->destroy(dev);
    dev = NULL;
    input_destroy(in);
}

Test(virtio, keyboard)
{
    struct virtio_slot s = slot();
    struct input *in = input_create(clk);
    dev = virtio_input_create(&s, VIRTIO_KEYBOARD, in);
    decode();
    start(VERSION_1, 2);
    input_key(in, INPUT_KEY_up, true); /* waits for room */
    for (u16 i = 0; i < 8; i++) {
        desc(0, i, DATA + 8u * i, 8, WRITE, 0);
        post(0, i);
    }
    clock_advance(clk, 10000000);
    expect_event(DATA, 1, 103, 1);
    input_key(in, INPUT_KEY_up, false);
    expect_event(DATA + 16, 1, 103, 0);
    input_key(in, INPUT_KEY_a, true);
    expect_event(DATA + 32, 1, 30, 1);
    wr(HEAD, 0x11, 2); /* EV_LED, caps lock, on */
    wr(HEAD + 2, 1, 2);
    wr(HEAD + 4, 1, 4);
    desc(1, 0, HEAD, 8, 0, 0);
    post(1, 0);
    kick(1);
    cr_assert_eq(input_leds(in), 4);
    dev->cls->destroy(dev);
    dev = NULL;
    input_destroy(in);
}
