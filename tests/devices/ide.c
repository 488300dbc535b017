/* build/tests/test_ide: the IDE function by its registers, on a fake bus with disks in memory. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/fixture.h"
#include "devices/pci.h"
#include "devices/piix3_ide.h"

#define MEMORY  (1u << 20)
#define BMI     0xc000
#define TABLE   0x1000 /* PRD tables in guest memory */
#define SECTORS 4096u
#define CMD     0x1f0
#define CTL     0x3f6

/* A disk in memory. */
struct fake {
    struct block block;         /* must stay first */
    u8 *data;                   /* contents */
    u64 bad;                    /* sector that fails, ~0: none */
    bool hold;                  /* requests wait */
    struct block_request *held; /* the one that does */
    int flushes, drains;        /* seen */
};

static void serve(struct fake *f, struct block_request *r)
{
    size_t good = r->size;
    if (r->op == BLOCK_FLUSH) f->flushes++;
    if (r->op == BLOCK_READ || r->op == BLOCK_WRITE) {
        cr_assert(r->offset + r->size <= f->block.size, "inside the disk");
        if (f->bad * 512 >= r->offset && f->bad * 512 < r->offset + r->size) good = f->bad * 512 - r->offset;
        if (r->op == BLOCK_READ)
            block_put(r, 0, f->data + r->offset, good);
        else
            block_get(r, 0, f->data + r->offset, good);
    }
    r->good = good;
    r->error = good < r->size ? -EIO : 0;
    r->done(r);
}

static void submit(struct block *b, struct block_request *r)
{
    struct fake *f = (struct fake *)b;
    if (f->hold)
        f->held = r;
    else
        serve(f, r);
}

static void release(struct fake *f)
{
    struct block_request *r = f->held;
    f->held = NULL;
    f->hold = false;
    if (r) serve(f, r);
}

static void drain(struct block *b) { ((struct fake *)b)->drains++; }

static const struct block_ops fake_ops = {.submit = submit, .drain = drain};

static struct bus *mem, *io;
static struct ram *ram;
static struct pci_bus *pci;
static struct piix3_ide *ide;
static struct probe irq14, irq15;
static struct fake disk, cd;

static void fake_init(struct fake *f, u64 size)
{
    memset(f, 0, sizeof(*f));
    f->block = (struct block){.ops = &fake_ops, .size = size};
    f->data = malloc(size);
    f->bad = ~0ull / 512;
    for (u64 i = 0; i < size; i++)
        f->data[i] = (u8)(i >> 9) ^ (u8)(i * 3);
}

static int tray_moves;

static void tray_moved(void *opaque, bool open)
{
    (void)opaque;
    (void)open;
    tray_moves++;
}

static void setup(void)
{
    mem = bus_create("memory", 1ull << 52);
    io = bus_create("io", 0x10000);
    ram = ram_create(MEMORY);
    bus_add_ram(mem, "ram", 0, MEMORY, 0, ram, ram_alloc(ram, MEMORY), false);
    pci = pci_bus_create(mem, io);
    memset(&irq14, 0, sizeof(irq14));
    memset(&irq15, 0, sizeof(irq15));
    ide = piix3_ide_create(pci, PCI_DEVFN(1, 1), probe_line(&irq14), probe_line(&irq15));
    fake_init(&disk, SECTORS * 512);
    fake_init(&cd, 300 * 2048);
    cd.block.readonly = true;
    cr_assert_eq(piix3_ide_attach(ide, 0, &(struct piix3_ide_drive){.block = &disk.block, .serial = "S1"}),
                 0);
    cr_assert_eq(piix3_ide_attach(ide, 2, &(struct piix3_ide_drive){.block = &cd.block, .cdrom = true, .tray_moved = tray_moved}),
                 0);
    pci_bus_config_write(pci, 9, 0x40, 0x80008000, 4);
    pci_bus_config_write(pci, 9, 0x20, BMI, 4);
    pci_bus_config_write(pci, 9, 0x04, PCI_COMMAND_IO | PCI_COMMAND_MASTER, 2);
}

static void teardown(void)
{
    struct device *d = piix3_ide_device(ide);
    d->cls->destroy(d);
    release(&disk); /* a request that outlives the device */
    pci_bus_destroy(pci);
    bus_destroy(mem);
    bus_destroy(io);
    ram_destroy(ram);
    free(disk.data);
    free(cd.data);
}

TestSuite(ide, .init = setup, .fini = teardown);

static u16 base = CMD;

static void task(u8 count, u32 lba, u8 device, u8 command)
{
    out8(io, base + 6, device | (lba >> 24 & 0xf));
    out8(io, base + 2, count);
    out8(io, base + 3, (u8)lba);
    out8(io, base + 4, (u8)(lba >> 8));
    out8(io, base + 5, (u8)(lba >> 16));
    out8(io, base + 7, command);
}

static void task48(u16 count, u64 lba, u8 command)
{
    out8(io, base + 6, 0x40);
    for (int high = 1; high >= 0; high--) {
        out8(io, base + 2, (u8)(count >> 8 * high));
        out8(io, base + 3, (u8)(lba >> 24 * high));
        out8(io, base + 4, (u8)(lba >> (24 * high + 8)));
        out8(io, base + 5, (u8)(lba >> (24 * high + 16)));
    }
    out8(io, base + 7, command);
}

static void read_data(u8 *to, size_t size)
{
    for (size_t i = 0; i < size; i += 2) {
        u16 v = (u16)bus_read(io, base, 2);
        to[i] = (u8)v;
        to[i + 1] = (u8)(v >> 8);
    }
}

static void write_data(const u8 *from, size_t size)
{
    for (size_t i = 0; i < size; i += 2)
        bus_write(io, base, from[i] | from[i + 1] << 8, 2);
}

static void prd(int i, u32 address, u32 count, bool last)
{
    bus_write(mem, TABLE + 8 * i, address, 4);
    bus_write(mem, TABLE + 8 * i + 4, (count & 0xffff) | (last ? 0x80000000u : 0), 4);
}

static void start_dma(bool to_memory)
{
    bus_write(io, BMI + 4, TABLE, 4);
    out8(io, BMI + 2, 0x06);
    out8(io, BMI, to_memory ? 0x08 : 0);
    out8(io, BMI, to_memory ? 0x09 : 1);
}

static u16 word(const u8 *page, int i) { return (u16)(page[2 * i] | page[2 * i + 1] << 8); }

Test(ide, signature_after_reset)
{
    out8(io, CTL, 4);
    cr_expect_eq(in8(io, CTL), 0x80, "BSY while SRST is set");
    out8(io, CTL, 0);
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    cr_expect_eq(in8(io, CMD + 1), 1);
    cr_expect_eq(in8(io, CMD + 2), 1);
    cr_expect_eq(in8(io, CMD + 3), 1);
    cr_expect_eq(in8(io, CMD + 4), 0);
    cr_expect_eq(in8(io, CMD + 5), 0);
    cr_expect_eq(in8(io, 0x174), 0x14);
    cr_expect_eq(in8(io, 0x175), 0xeb);
    cr_expect_eq(irq14.rises, 0, "a reset raises no interrupt");
}

Test(ide, missing_drives)
{
    out8(io, CMD + 6, 0x10);
    cr_expect_eq(in8(io, CMD + 7), 0, "drive 0 answers for drive 1");
    out8(io, CMD + 7, 0xec);
    cr_expect_eq(in8(io, CMD + 7), 0);
    cr_expect_eq(irq14.rises, 0);
}

Test(ide, decode_enable)
{
    pci_bus_config_write(pci, 9, 0x40, 0, 2);
    cr_expect_eq(in8(io, CMD + 7), 0xff);
    cr_expect_eq(in8(io, 0x177), 0x00);
}

Test(ide, identify)
{
    u8 page[512], sum = 0;
    task(0, 0, 0, 0xec);
    cr_expect_eq(irq14.level, 1);
    cr_expect_eq(in8(io, CTL), 0x58);
    cr_expect_eq(irq14.level, 1, "alternate status leaves the interrupt");
    cr_expect_eq(in8(io, CMD + 7), 0x58);
    cr_expect_eq(irq14.level, 0);
    read_data(page, 512);
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    cr_expect_eq(irq14.rises, 1);
    for (int i = 0; i < 512; i++)
        sum += page[i];
    cr_expect_eq(sum, 0);
    cr_expect_eq(word(page, 60), SECTORS);
    cr_expect_eq(word(page, 100), SECTORS);
    cr_expect(!memcmp(page + 20, "1S  ", 4), "serial number, bytes swapped");
    cr_expect_eq(word(page, 83) & 0xc000, 0x4000);
}

Test(ide, pio_read_interrupts_for_each_sector)
{
    u8 buf[3 * 512];
    task(3, 17, 0x40, 0x20);
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(irq14.rises, i + 1);
        cr_expect_eq(in8(io, CMD + 7), 0x58);
        read_data(buf + 512 * i, 512);
    }
    cr_expect_eq(irq14.rises, 3);
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    cr_expect(!memcmp(buf, disk.data + 17 * 512, sizeof(buf)));
    cr_expect_eq(in8(io, CMD + 3), 19, "the last sector");
    cr_expect_eq(in8(io, CMD + 2), 0);
}

Test(ide, data_port_takes_32_bits)
{
    task(1, 5, 0x40, 0x20);
    for (int i = 0; i < 128; i++) {
        u32 v = (u32)bus_read(io, CMD, 4), want;
        memcpy(&want, disk.data + 5 * 512 + 4 * i, 4);
        cr_assert_eq(v, want);
    }
    cr_expect_eq(in8(io, CMD + 7), 0x50);
}

Test(ide, chs_addresses)
{
    u8 buf[512];
    task(1, 0, 0, 0x20); /* sector 0 does not exist */
    cr_expect_eq(in8(io, CMD + 7), 0x51);
    cr_expect_eq(in8(io, CMD + 1), 0x10);
    out8(io, CMD + 6, 2); /* head 2 */
    out8(io, CMD + 2, 1);
    out8(io, CMD + 3, 4);
    out8(io, CMD + 4, 1); /* cylinder 1 */
    out8(io, CMD + 5, 0);
    out8(io, CMD + 7, 0x20);
    read_data(buf, 512);
    cr_expect(!memcmp(buf, disk.data + ((16 + 2) * 63 + 3) * 512, 512));
    cr_expect_eq(in8(io, CMD + 3), 4);
    cr_expect_eq(in8(io, CMD + 6) & 0xf, 2);
}

Test(ide, multiple)
{
    u8 buf[5 * 512];
    task(3, 0, 0, 0xc6);
    cr_expect_eq(in8(io, CMD + 7), 0x51, "not a power of two");
    task(4, 0, 0, 0xc6);
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    int before = irq14.rises;
    task(5, 8, 0x40, 0xc4);
    read_data(buf, 4 * 512);
    cr_expect_eq(irq14.rises, before + 1);
    cr_expect_eq(in8(io, CMD + 7), 0x58);
    read_data(buf + 4 * 512, 512);
    cr_expect(!memcmp(buf, disk.data + 8 * 512, sizeof(buf)));
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (u8)(i ^ 0x77);
    task(5, 100, 0x40, 0xc5);
    cr_expect_eq(in8(io, CMD + 7), 0x58, "the first block needs no interrupt");
    write_data(buf, sizeof(buf));
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    cr_expect(!memcmp(buf, disk.data + 100 * 512, sizeof(buf)));
}

Test(ide, lba48_and_hob)
{
    u8 buf[512];
    task48(1, SECTORS - 1, 0x24);
    read_data(buf, 512);
    cr_expect(!memcmp(buf, disk.data + (SECTORS - 1) * 512, 512));
    task48(0x1234, 0x665544332211ull, 0x24);
    cr_expect_eq(in8(io, CMD + 7), 0x51);
    cr_expect_eq(in8(io, CMD + 1), 0x10, "IDNF");
    cr_expect_eq(in8(io, CMD + 3), 0x11);
    out8(io, CTL, 0x80);
    cr_expect_eq(in8(io, CMD + 3), 0x44);
    cr_expect_eq(in8(io, CMD + 5), 0x66);
    cr_expect_eq(in8(io, CMD + 2), 0x12);
    out8(io, CMD + 2, 1);
    cr_expect_eq(in8(io, CMD + 3), 0x11, "a write to the command block clears HOB");
}

Test(ide, range_ends_at_the_last_sector)
{
    task(2, SECTORS - 1, 0x40, 0x20);
    cr_expect_eq(in8(io, CMD + 7), 0x51);
    cr_expect_eq(in8(io, CMD + 1), 0x10);
    task(0, SECTORS - 255, 0x40, 0xca);
    cr_expect_eq(in8(io, CMD + 1), 0x10, "0 is 256 sectors");
}

Test(ide, medium_errors_name_the_sector)
{
    u8 buf[1024];
    disk.bad = 42;
    task(4, 40, 0x40, 0x20);
    read_data(buf, 1024);
    cr_expect_eq(in8(io, CMD + 7), 0x51);
    cr_expect_eq(in8(io, CMD + 1), 0x40, "UNC");
    cr_expect_eq(in8(io, CMD + 3), 42);
    cr_expect_eq(in8(io, CMD + 2), 2, "sectors left");
    cr_expect(!memcmp(buf, disk.data + 40 * 512, 1024));
    prd(0, 0x8000, 4 * 512, true);
    task(4, 40, 0x40, 0xca);
    start_dma(false);
    cr_expect_eq(in8(io, CMD + 7), 0x51);
    cr_expect_eq(in8(io, CMD + 1), 0x40);
    cr_expect_eq(in8(io, CMD + 3), 42);
}

Test(ide, write_protection)
{
    disk.block.readonly = true;
    task(1, 0, 0x40, 0x30);
    cr_expect_eq(in8(io, CMD + 7), 0x51);
    cr_expect_eq(in8(io, CMD + 1), 0x44);
}

Test(ide, dma_scatters)
{
    prd(0, 0x8000, 0x200, false);
    prd(1, 0x9002, 0x3fe, false);
    prd(2, 0xa000, 0x202, true);
    task(4, 7, 0x40, 0xc8);
    cr_expect_eq(irq14.rises, 0, "nothing moves before the start");
    start_dma(true);
    cr_expect_eq(irq14.level, 1);
    cr_expect_eq(in8(io, BMI + 2), 0x04, "interrupt, not active");
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    u8 buf[4 * 512];
    bus_read_block(mem, 0x8000, buf, 0x200);
    bus_read_block(mem, 0x9002, buf + 0x200, 0x3fe);
    bus_read_block(mem, 0xa000, buf + 0x5fe, 0x202);
    cr_expect(!memcmp(buf, disk.data + 7 * 512, sizeof(buf)));
    out8(io, BMI + 2, 0x64);
    cr_expect_eq(in8(io, BMI + 2), 0x60);
}

Test(ide, dma_started_before_the_command)
{
    prd(0, 0x8000, 0x1000, true);
    start_dma(true);
    cr_expect_eq(in8(io, BMI + 2), 0x01);
    task(4, 0, 0x40, 0xc8);
    cr_expect_eq(irq14.level, 1);
    cr_expect_eq(in8(io, BMI + 2), 0x05, "longer table: interrupt and active");
    out8(io, BMI, 0);
    cr_expect_eq(in8(io, BMI + 2), 0x04);
}

Test(ide, dma_table_too_short_waits_for_ever)
{
    prd(0, 0x8000, 0x200, true);
    task(4, 0, 0x40, 0xc8);
    start_dma(true);
    cr_expect_eq(irq14.rises, 0);
    cr_expect_eq(in8(io, BMI + 2), 0x00, "neither interrupt nor active");
    cr_expect(in8(io, CTL) & 0x80);
    out8(io, CTL, 4);
    out8(io, CTL, 0);
    cr_expect_eq(in8(io, CMD + 7), 0x50, "a reset helps");
}

Test(ide, dma_goes_straight_to_memory)
{
    prd(0, 0x8000, 0x3000, true);
    disk.hold = true;
    task(24, 5, 0x40, 0xc8);
    cr_expect_null(disk.held, "where to is not known yet");
    start_dma(true);
    cr_assert_not_null(disk.held);
    cr_expect_eq(disk.held->piece_count, 1);
    cr_expect_eq(disk.held->pieces[0].iov_len, 0x3000);
    cr_expect_eq(in8(io, BMI + 2), 0x01, "active until all has arrived");
    release(&disk);
    cr_expect_eq(in8(io, BMI + 2), 0x04);
    u8 buf[0x3000];
    bus_read_block(mem, 0x8000, buf, sizeof(buf));
    cr_expect(!memcmp(buf, disk.data + 5 * 512, sizeof(buf)));
}

Test(ide, dma_of_more_pieces_than_a_request_takes)
{
    for (u32 i = 0; i < 1200; i++) prd((int)i, 0x20000 + 0x200 * (i ^ 1), 0x100, i == 1199);
    task48(600, 5, 0x25);
    start_dma(true);
    cr_expect_eq(in8(io, BMI + 2), 0x04);
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    for (u32 i = 0; i < 1200; i++) {
        u8 buf[0x100];
        bus_read_block(mem, 0x20000 + 0x200 * (i ^ 1), buf, sizeof(buf));
        cr_assert(!memcmp(buf, disk.data + 5 * 512 + 0x100 * i, sizeof(buf)), "%u", i);
    }
}

Test(ide, stop_and_reset_wait_for_memory)
{
    prd(0, 0x8000, 0x200, true);
    disk.hold = true;
    task(1, 3, 0x40, 0xc8);
    start_dma(true);
    cr_expect_eq(disk.drains, 0);
    out8(io, BMI, 0);
    cr_expect_eq(disk.drains, 1);
    out8(io, CTL, 4);
    cr_expect_eq(disk.drains, 2);
    out8(io, CTL, 0);
    release(&disk);
    cr_expect_eq(irq14.rises, 0, "forgotten");
}

Test(ide, dma_error_after_good_sectors)
{
    prd(0, 0x8000, 0x800, true);
    disk.bad = 5;
    task(4, 3, 0x40, 0xc8);
    start_dma(true);
    cr_expect_eq(in8(io, BMI + 2), 0x05, "the table is not at its end");
    cr_expect_eq(in8(io, CMD + 7) & 0x01, 1);
    cr_expect_eq(in8(io, CMD + 3), 5);
    u8 buf[0x400];
    bus_read_block(mem, 0x8000, buf, sizeof(buf));
    cr_expect(!memcmp(buf, disk.data + 3 * 512, sizeof(buf)));
}

Test(ide, dma_needs_the_bus_master_bit)
{
    prd(0, 0x8000, 0x200, true);
    pci_bus_config_write(pci, 9, 0x04, PCI_COMMAND_IO, 2);
    task(1, 3, 0x40, 0xc8);
    start_dma(true);
    cr_expect_eq(irq14.rises, 0);
    pci_bus_config_write(pci, 9, 0x04, PCI_COMMAND_IO | PCI_COMMAND_MASTER, 2);
    cr_expect_eq(irq14.rises, 1);
}

Test(ide, dma_wild_addresses)
{
    bus_write(mem, TABLE, 0xfffffffe, 4);
    bus_write(mem, TABLE + 4, 0x80000000, 4);
    task(0, 0, 0x40, 0xc8);
    start_dma(true); /* 64 KiB, then the end of the table: waits */
    cr_expect_eq(irq14.rises, 0);
    out8(io, BMI, 0);
    bus_write(io, BMI + 4, 0xfffffffc, 4); /* the table in nowhere */
    out8(io, BMI, 9);
    cr_expect_eq(in8(io, BMI + 4), 0xfc);
}

Test(ide, dma_write_and_forced_unit_access)
{
    for (int i = 0; i < 1024; i += 4)
        bus_write(mem, 0x8000 + i, 0x01020304u * (u32)i, 4);
    prd(0, 0x8000, 1024, true);
    task48(2, 9, 0x3d);
    start_dma(false);
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    cr_expect_eq(disk.flushes, 1);
    u8 buf[1024];
    bus_read_block(mem, 0x8000, buf, sizeof(buf));
    cr_expect(!memcmp(buf, disk.data + 9 * 512, sizeof(buf)));
}

Test(ide, write_cache_off_flushes)
{
    u8 buf[512] = {1};
    out8(io, CMD + 1, 0x82);
    task(0, 0, 0, 0xef);
    cr_expect_eq(disk.flushes, 1);
    out8(io, CMD + 1, 0);
    task(1, 0, 0x40, 0x30);
    write_data(buf, 512);
    cr_expect_eq(disk.flushes, 2);
    task(0, 0, 0, 0xe7);
    cr_expect_eq(disk.flushes, 3);
}

Test(ide, busy_until_the_back_end_is_done)
{
    u8 buf[512];
    disk.hold = true;
    task(1, 1, 0x40, 0x20);
    cr_expect_eq(in8(io, CMD + 7), 0x80);
    out8(io, CMD + 7, 0xec);
    cr_expect_eq(in8(io, CMD + 7), 0x80, "commands are ignored");
    release(&disk);
    cr_expect_eq(irq14.level, 1);
    read_data(buf, 512);
    cr_expect(!memcmp(buf, disk.data + 512, 512));
}

Test(ide, reset_forgets_a_request)
{
    disk.hold = true;
    task(1, 1, 0x40, 0x20);
    out8(io, CTL, 4);
    out8(io, CTL, 0);
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    release(&disk);
    cr_expect_eq(irq14.rises, 0);
    cr_expect_eq(in8(io, CMD + 7), 0x50);
}

Test(ide, nien)
{
    out8(io, CTL, 2);
    task(0, 0, 0, 0xe7);
    cr_expect_eq(irq14.level, 0);
    out8(io, CTL, 0);
    cr_expect_eq(irq14.level, 1, "it was pending");
}

Test(ide, unknown_commands_abort)
{
    static const u8 commands[] = {0x00, 0x08, 0x92, 0xa0, 0xa1, 0xf1, 0xf5, 0xf6, 0xf9, 0xff};
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        task(0, 0, 0, commands[i]);
        cr_expect_eq(in8(io, CMD + 7), 0x51, "%02x", commands[i]);
        cr_expect_eq(in8(io, CMD + 1), 0x04, "%02x", commands[i]);
    }
}

Test(ide, diagnostic)
{
    task(9, 99, 0x40, 0x90);
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    cr_expect_eq(in8(io, CMD + 1), 1);
    cr_expect_eq(in8(io, CMD + 3), 1);
    cr_expect_eq(irq14.rises, 1);
}

Test(ide, smart_status)
{
    out8(io, CMD + 1, 0xda);
    task(0, 0xc24f00, 0, 0xb0);
    cr_expect_eq(in8(io, CMD + 7), 0x50);
    cr_expect_eq(in8(io, CMD + 4), 0x4f);
    cr_expect_eq(in8(io, CMD + 5), 0xc2);
    task(0, 0, 0, 0xb0);
    cr_expect_eq(in8(io, CMD + 7), 0x51, "without the key");
}

/* ---- ATAPI ---- */

/* Send a packet; the data by PIO, at most limit bytes at a time: the bytes that came. */
static size_t packet(const u8 *p, u8 *to, size_t room, u16 limit)
{
    size_t done = 0;
    base = 0x170;
    out8(io, 0x171, 0);
    task(0, (u32)limit << 8, 0, 0xa0);
    cr_assert_eq(in8(io, 0x177) & 0x89, 0x08);
    cr_assert_eq(in8(io, 0x172), 1, "command to the drive");
    write_data(p, 12);
    while (in8(io, 0x177) & 8) {
        cr_assert_eq(in8(io, 0x172), 2, "data from the drive");
        size_t n = in8(io, 0x174) | in8(io, 0x175) << 8;
        cr_assert(n && n <= limit && done + n <= room);
        read_data(to + done, n + (n & 1));
        done += n;
    }
    cr_expect_eq(in8(io, 0x172), 3);
    base = CMD;
    return done;
}

/* Its sense key and code. */
static u16 sense(void)
{
    u8 b[18] = {0};
    cr_assert_eq(packet((const u8[12]){3, 0, 0, 0, 18}, b, 18, 18), 18);
    return (u16)(b[2] << 8 | b[12]);
}

Test(ide, atapi_identifies_itself)
{
    u8 page[512];
    base = 0x170;
    task(0, 0, 0, 0xec);
    cr_expect_eq(in8(io, 0x177), 0x51);
    cr_expect_eq(in8(io, 0x174), 0x14);
    task(0, 0, 0, 0xa1);
    read_data(page, 512);
    cr_expect_eq(word(page, 0), 0x85c0);
    base = CMD;
}

Test(ide, atapi_unit_attention_then_ready)
{
    u8 b[8];
    packet((const u8[12]){0}, b, 0, 0xfffe);
    cr_expect_eq(in8(io, 0x177), 0x51);
    cr_expect_eq(in8(io, 0x171), 0x60);
    cr_expect_eq(sense(), 0x0629);
    packet((const u8[12]){0}, b, 0, 0xfffe);
    cr_expect_eq(in8(io, 0x177), 0x50);
    cr_expect_eq(packet((const u8[12]){0x25}, b, 8, 8), 8);
    cr_expect_eq(b[2] << 8 | b[3], 299);
    cr_expect_eq(b[6] << 8 | b[7], 2048);
}

Test(ide, atapi_reads_in_blocks_of_the_limit)
{
    static u8 buf[5 * 2048];
    sense();
    cr_expect_eq(packet((const u8[12]){0x28, 0, 0, 0, 0, 9, 0, 0, 5}, buf, sizeof(buf), 3000), sizeof(buf));
    cr_expect(!memcmp(buf, cd.data + 9 * 2048, sizeof(buf)));
    cr_expect_eq(packet((const u8[12]){0xa8, 0, 0, 0, 1, 43, 0, 0, 0, 1}, buf, sizeof(buf), 2048), 2048);
    cr_expect_eq(packet((const u8[12]){0xa8, 0, 0, 0, 1, 43, 0, 0, 0, 2}, buf, sizeof(buf), 2048), 0);
    cr_expect_eq(sense(), 0x0521, "past the end");
    cr_expect_eq(
        packet((const u8[12]){0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff}, buf, sizeof(buf), 2048), 0);
    cr_expect_eq(sense(), 0x0521);
}

Test(ide, atapi_dma)
{
    u8 buf[4096];
    sense();
    prd(0, 0x8000, 4096, true);
    base = 0x170;
    out8(io, 0x171, 1);
    task(0, 0, 0, 0xa0);
    write_data((const u8[12]){0x28, 0, 0, 0, 0, 20, 0, 0, 2}, 12);
    base = CMD;
    bus_write(io, BMI + 12, TABLE, 4);
    out8(io, BMI + 8, 9);
    cr_expect_eq(irq15.level, 1);
    cr_expect_eq(in8(io, 0x177), 0x50);
    bus_read_block(mem, 0x8000, buf, sizeof(buf));
    cr_expect(!memcmp(buf, cd.data + 20 * 2048, sizeof(buf)));
}

Test(ide, atapi_tray)
{
    u8 b[64];
    sense();
    packet((const u8[12]){0x1e, 0, 0, 0, 1}, b, 0, 64);
    packet((const u8[12]){0x1b, 0, 0, 0, 2}, b, 0, 64);
    cr_expect_eq(sense(), 0x0553, "locked");
    cr_expect_eq(piix3_ide_change_medium(ide, 2, NULL, false), -EBUSY);
    packet((const u8[12]){0x1e}, b, 0, 64);
    packet((const u8[12]){0x1b, 0, 0, 0, 2}, b, 0, 64);
    packet((const u8[12]){0}, b, 0, 64);
    cr_expect_eq(sense(), 0x023a, "open");
    cr_expect_eq(piix3_ide_change_medium(ide, 2, &disk.block, false), 0);
    cr_expect_eq(piix3_ide_move_tray(ide, 2, false, false), 0);
    cr_expect_eq(packet((const u8[12]){0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8}, b, 8, 8), 8);
    cr_expect_eq(b[4], 2, "new medium");
    packet((const u8[12]){0}, b, 0, 64);
    cr_expect_eq(sense(), 0x0628);
    cr_expect_eq(packet((const u8[12]){0x25}, b, 8, 8), 8);
    cr_expect_eq(b[2] << 8 | b[3], SECTORS / 4 - 1);
}

Test(ide, atapi_tray_by_hand)
{
    u8 b[64];
    bool open, locked;
    sense();
    cr_assert(piix3_ide_tray(ide, 2, &open, &locked));
    cr_expect(!open && !locked);
    cr_expect_not(piix3_ide_tray(ide, 0, &open, &locked), "a disk has none");
    cr_expect_eq(piix3_ide_move_tray(ide, 0, true, true), -EINVAL);
    packet((const u8[12]){0x1e, 0, 0, 0, 1}, b, 0, 64);
    cr_expect_eq(piix3_ide_move_tray(ide, 2, true, false), -EBUSY);
    cr_expect_eq(tray_moves, 0);
    cr_expect_eq(piix3_ide_move_tray(ide, 2, true, true), 0);
    cr_expect(piix3_ide_tray(ide, 2, &open, &locked) && open && !locked);
    cr_expect_eq(tray_moves, 1);
    packet((const u8[12]){0}, b, 0, 64);
    cr_expect_eq(sense(), 0x023a, "open");
    packet((const u8[12]){0x1b, 0, 0, 0, 3}, b, 0, 64);
    cr_expect_eq(tray_moves, 2, "the guest closed it");
    cr_expect_eq(piix3_ide_change_medium(ide, 2, NULL, false), 0);
    cr_expect(piix3_ide_tray(ide, 2, &open, &locked) && open, "an empty tray stays open");
    cr_expect_eq(tray_moves, 3);
    out8(io, 0x376, 4);
    out8(io, 0x376, 0);
    cr_expect_eq(tray_moves, 3, "also through a software reset");
    piix3_ide_device(ide)->cls->reset(piix3_ide_device(ide));
    cr_expect(piix3_ide_tray(ide, 2, &open, &locked) && !open, "power-on closes it");
    cr_expect_eq(tray_moves, 4);
}

Test(ide, atapi_toc)
{
    u8 b[64];
    sense();
    cr_expect_eq(packet((const u8[12]){0x43, 0, 0, 0, 0, 0, 0, 0, 64}, b, 64, 64), 20);
    cr_expect_eq(b[1], 18);
    cr_expect_eq(b[14], 0xaa);
    cr_expect_eq(b[18] << 8 | b[19], 300);
    cr_expect_eq(packet((const u8[12]){0x43, 2, 0, 0, 0, 0, 0, 0, 12}, b, 64, 64), 12, "allocation length");
    cr_expect_eq(b[10], 2, "two seconds of lead-in");
}

Test(ide, atapi_refuses_audio)
{
    static const u8 ops[] = {0x45, 0x47, 0x48, 0x4b, 0xa5, 0x2a, 0xff};
    u8 b[8];
    sense();
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        packet((const u8[12]){ops[i]}, b, 0, 64);
        cr_expect_eq(sense(), 0x0520, "%02x", ops[i]);
    }
}

/* Whatever a guest writes, the model answers: no access outside its buffers (run with sanitizers). */
Test(ide, random_register_writes)
{
    u32 seed = 1;
    for (int i = 0; i < 300000; i++) {
        seed = seed * 1664525u + 1013904223u;
        u8 value = (u8)(seed >> 24);
        u16 port = (u16)((seed >> 20 & 1 ? 0x1f0 : 0x170) + (seed >> 8 & 7));
        unsigned what = seed >> 12 & 31;
        if (what == 0)
            out8(io, (u16)(BMI + (seed >> 16 & 15)), value);
        else if (what == 1)
            out8(io, port & 0x80 ? CTL : 0x376, value & 0x8e);
        else if (what < 6)
            bus_write(io, port & ~7u, seed, 1u << (what & 1) << 1);
        else if (what < 10)
            bus_read(io, port, 2);
        else if (what == 10)
            bus_write(mem, TABLE + (seed & 0xff), seed, 4);
        else if (what == 11)
            bus_write(io, BMI + (port & 8), TABLE, 4);
        else if (what < 16)
            for (int k = 0; k < 64; k++)
                bus_read(io, port & ~7u, 4);
        else
            out8(io, port, value);
    }
    out8(io, CTL, 4);
    out8(io, CTL, 0);
    cr_expect_eq(in8(io, CMD + 7), 0x50, "and a reset brings it back");
}
