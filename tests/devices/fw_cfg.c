// build/tests/test_fw_cfg
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/bus.h"
#include "devices/fw_cfg.h"

#define RAM_SIZE 0x10000

struct board {
    struct bus *memory, *ports;
    struct ram *ram;
    u8 *dram;
    struct fw_cfg *f;
    int selected, written;
    size_t written_at, written_length;
};

static void setup(struct board *b)
{
    memset(b, 0, sizeof *b);
    b->memory = bus_create("memory", 1ull << 52);
    b->ports = bus_create("ports", 0x10000);
    b->ram = ram_create(RAM_SIZE + 0x1000);
    u64 at = ram_alloc(b->ram, RAM_SIZE);
    bus_add_ram(b->memory, "dram", 0, RAM_SIZE, 0, b->ram, at, false);
    bus_add_ram(b->memory, "rom", 0x80000, 0x1000, 0, b->ram, ram_alloc(b->ram, 0x1000), true);
    b->dram = b->ram->host + at;
    b->f = fw_cfg_create(b->ports, b->memory);
}

static void teardown(struct board *b)
{
    fw_cfg_device(b->f)->cls->destroy(fw_cfg_device(b->f));
    bus_destroy(b->memory);
    bus_destroy(b->ports);
    ram_destroy(b->ram);
}

static u8 next(struct board *b) { return (u8)bus_read(b->ports, 0x511, 1); }
static void select_key(struct board *b, u16 key) { bus_write(b->ports, 0x510, key, 2); }
static u32 next_be(struct board *b, int size)
{
    u32 v = 0;
    while (size--)
        v = v << 8 | next(b);
    return v;
}

static void put_be(u8 *p, u64 v, int size)
{
    while (size--) {
        p[size] = (u8)v;
        v >>= 8;
    }
}

/* One DMA request with its descriptor at 0x100; the control word after it. */
static u32 dma(struct board *b, u32 control, u32 length, u64 address)
{
    u8 *d = b->dram + 0x100;
    put_be(d, control, 4);
    put_be(d + 4, length, 4);
    put_be(d + 8, address, 8);
    bus_write(b->ports, 0x514, 0, 4);
    bus_write(b->ports, 0x518, __builtin_bswap32(0x100), 4);
    return (u32)d[0] << 24 | (u32)d[1] << 16 | (u32)d[2] << 8 | d[3];
}

Test(fw_cfg, signature_and_features)
{
    struct board b;
    setup(&b);
    select_key(&b, FW_CFG_SIGNATURE);
    cr_expect_eq(next_be(&b, 4), 0x51454d55); /* "QEMU" */
    cr_expect_eq(next(&b), 0, "zeros past the end");
    select_key(&b, FW_CFG_ID);
    cr_expect_eq(next(&b), 3);
    cr_expect_eq(next(&b), 0);
    cr_expect_eq(bus_read(b.ports, 0x514, 4), 0x554d4551); /* "QEMU CFG" as bytes */
    cr_expect_eq(bus_read(b.ports, 0x518, 4), 0x47464320);
    teardown(&b);
}

Test(fw_cfg, integers_are_little_endian)
{
    struct board b;
    setup(&b);
    fw_cfg_add_u16(b.f, FW_CFG_NB_CPUS, 0x0102);
    fw_cfg_add_u32(b.f, FW_CFG_KERNEL_SIZE, 0x01020304);
    fw_cfg_add_u64(b.f, FW_CFG_RAM_SIZE, 0x0102030405060708ull);
    fw_cfg_add_string(b.f, FW_CFG_CMDLINE_DATA, "ab");
    fw_cfg_add_bytes(b.f, FW_CFG_IRQ0_OVERRIDE, "\1", 1);
    select_key(&b, FW_CFG_NB_CPUS);
    cr_expect_eq(next_be(&b, 3), 0x020100);
    select_key(&b, FW_CFG_KERNEL_SIZE);
    cr_expect_eq(next_be(&b, 4), 0x04030201);
    select_key(&b, FW_CFG_RAM_SIZE);
    cr_expect_eq(next_be(&b, 4), 0x08070605);
    cr_expect_eq(next_be(&b, 4), 0x04030201);
    select_key(&b, FW_CFG_CMDLINE_DATA);
    cr_expect_eq(next_be(&b, 4), 0x61620000);
    select_key(&b, FW_CFG_IRQ0_OVERRIDE);
    cr_expect_eq(next(&b), 1);
    select_key(&b, 2); /* not the architecture's item 2 */
    cr_expect_eq(next(&b), 0);
    fw_cfg_add_u16(b.f, FW_CFG_NB_CPUS, 7); /* replaced */
    select_key(&b, FW_CFG_NB_CPUS);
    cr_expect_eq(next(&b), 7);
    teardown(&b);
}

Test(fw_cfg, selecting)
{
    struct board b;
    setup(&b);
    select_key(&b, 0);
    next(&b);
    select_key(&b, 0);
    cr_expect_eq(next(&b), 'Q', "starts over");
    select_key(&b, 0x3fff);
    cr_expect_eq(next(&b), 0);
    select_key(&b, 0xffff);
    cr_expect_eq(next(&b), 0);
    select_key(&b, 0x4000); /* the write channel is the same item */
    cr_expect_eq(next(&b), 'Q');
    bus_write(b.ports, 0x511, 0xff, 1); /* data cannot be written */
    cr_expect_eq(next(&b), 'E');
    bus_write(b.ports, 0x510, 1, 1); /* nor selected by a byte */
    cr_expect_eq(next(&b), 'M');
    fw_cfg_device(b.f)->cls->reset(fw_cfg_device(b.f));
    cr_expect_eq(next(&b), 'Q');
    teardown(&b);
}

Test(fw_cfg, directory_is_sorted)
{
    struct board b;
    char name[57] = {0};
    setup(&b);
    cr_expect_eq(fw_cfg_add_file(b.f, "opt/b", "BB", 2), 0);
    cr_expect_eq(fw_cfg_add_file(b.f, "bootorder", "x", 1), 0);
    cr_expect_eq(fw_cfg_add_file(b.f, "etc/z", "zzz", 3), 0);
    cr_expect_eq(fw_cfg_add_file(b.f, "etc/z", "ZZZZ", 4), 0);
    static const char *names[] = {"bootorder", "etc/z", "opt/b"};
    static const unsigned sizes[] = {1, 4, 2};
    static const char first[] = {'x', 'Z', 'B'};
    select_key(&b, FW_CFG_FILE_DIR);
    cr_assert_eq(next_be(&b, 4), 3);
    for (unsigned i = 0; i < 3; i++) {
        cr_expect_eq(next_be(&b, 4), sizes[i]);
        cr_expect_eq(next_be(&b, 2), 0x20 + i);
        cr_expect_eq(next_be(&b, 2), 0);
        for (int k = 0; k < 56; k++)
            name[k] = (char)next(&b);
        cr_expect_str_eq(name, names[i]);
    }
    cr_expect_eq(next(&b), 0);
    for (unsigned i = 0; i < 3; i++) {
        select_key(&b, (u16)(0x20 + i));
        cr_expect_eq(next(&b), first[i]);
    }
    teardown(&b);
}

Test(fw_cfg, file_limits)
{
    struct board b;
    char name[64];
    setup(&b);
    memset(name, 'n', sizeof name);
    name[56] = 0;
    cr_expect_eq(fw_cfg_add_file(b.f, name, "", 0), -EINVAL);
    name[55] = 0;
    cr_expect_eq(fw_cfg_add_file(b.f, name, "", 0), 0);
    int r = 0;
    for (int i = 0; i < 1000 && r == 0; i++) {
        snprintf(name, sizeof name, "f%d", i);
        r = fw_cfg_add_file(b.f, name, "", 0);
    }
    cr_expect_eq(r, -ENOSPC);
    teardown(&b);
}

Test(fw_cfg, dma_reads)
{
    struct board b;
    setup(&b);
    memset(b.dram + 0x200, 0xee, 32);
    cr_expect_eq(dma(&b, 0x00000008 | 0x02, 6, 0x200), 0); /* select item 0 and read */
    cr_expect_eq(memcmp(b.dram + 0x200, "QEMU\0\0\xee", 7), 0, "zeros past the end");
    fw_cfg_add_file(b.f, "f", "abcdefgh", 8);
    cr_expect_eq(dma(&b, 0x20u << 16 | 0x08, 0, 0), 0);
    cr_expect_eq(dma(&b, 0x04, 2, 0), 0); /* skip */
    cr_expect_eq(dma(&b, 0x02, 2, 0x300), 0);
    cr_expect_eq(memcmp(b.dram + 0x300, "cd\0", 3), 0);
    cr_expect_eq(next(&b), 'e', "ports and DMA share the position");
    cr_expect_eq(dma(&b, 0x20u << 16 | 0x08 | 0x04, 7, 0), 0);
    cr_expect_eq(next(&b), 'h');
    cr_expect_eq(dma(&b, 0x3fffu << 16 | 0x0a, 4, 0x300), 0, "an item that does not exist reads as zeros");
    cr_expect_eq(memcmp(b.dram + 0x300, "\0\0\0\0", 4), 0);
    teardown(&b);
}

Test(fw_cfg, bad_dma_requests)
{
    struct board b;
    setup(&b);
    cr_expect_eq(dma(&b, 0x0a, 4, 0x12345000), 1, "not RAM");
    cr_expect_eq(dma(&b, 0x0a, 4, 0x80000), 1, "ROM");
    cr_expect_eq(dma(&b, 0x0a, 0xffffffff, 0x200), 1, "runs out of RAM");
    cr_expect_eq(b.dram[0x200], 0, "and nothing was written");
    cr_expect_eq(dma(&b, 0x0a, 16, ~0ull - 4), 1, "wraps around");
    cr_expect_eq(dma(&b, 0x08 | 0x10, 4, 0x200), 1, "not writable");
    cr_expect_eq(dma(&b, 0x08 | 0x12, 4, 0x200), 1, "both directions");
    cr_expect_eq(dma(&b, 0x0a, 0, 0x12345000), 0, "nothing to transfer is in order");
    cr_expect_eq(dma(&b, 0x0a, 4, 0x200), 0, "and the next one works");
    cr_expect_eq(memcmp(b.dram + 0x200, "QEMU", 4), 0);
    /* A descriptor that is not in RAM is ignored. */
    bus_write(b.ports, 0x514, __builtin_bswap32(1), 4);
    bus_write(b.ports, 0x518, 0, 4);
    /* The high half does not stick. */
    b.dram[0x200] = 0;
    put_be(b.dram + 0x100, 0x0a, 4);
    bus_write(b.ports, 0x518, __builtin_bswap32(0x100), 4);
    cr_expect_eq(b.dram[0x200], 'Q');
    teardown(&b);
}

static void on_select(void *opaque) { ((struct board *)opaque)->selected++; }
static void on_written(void *opaque, size_t at, size_t length)
{
    struct board *b = opaque;
    b->written++;
    b->written_at = at;
    b->written_length = length;
}

Test(fw_cfg, live_files)
{
    static const struct fw_cfg_file_ops writable = {.select = on_select, .written = on_written};
    static const struct fw_cfg_file_ops watched = {.select = on_select};
    struct board b;
    u8 data[8] = "01234567", fixed[4] = "abcd";
    setup(&b);
    fw_cfg_add_live_file(b.f, "a", data, sizeof data, &writable, &b);
    fw_cfg_add_live_file(b.f, "b", fixed, sizeof fixed, &watched, &b);
    select_key(&b, 0x20);
    cr_expect_eq(b.selected, 1);
    data[0] = 'x';
    cr_expect_eq(next(&b), 'x');
    memcpy(b.dram + 0x200, "WXYZ", 4);
    cr_expect_eq(dma(&b, 0x10, 4, 0x200), 0);
    cr_expect_eq(memcmp(data, "xWXYZ567", 8), 0);
    cr_expect_eq(b.written, 1);
    cr_expect_eq(b.written_at, 1);
    cr_expect_eq(b.written_length, 4);
    cr_expect_eq(dma(&b, 0x10, 4, 0x200), 1, "past the end");
    cr_expect_eq(memcmp(data, "xWXYZ567", 8), 0);
    cr_expect_eq(b.written, 1);
    cr_expect_eq(dma(&b, 0x21u << 16 | 0x18, 2, 0x200), 1, "read-only");
    cr_expect_eq(memcmp(fixed, "abcd", 4), 0);
    teardown(&b);
}

Test(fw_cfg, e820)
{
    struct board b;
    size_t size;
    setup(&b);
    fw_cfg_add_e820(b.f, 0xc0000000, 0);
    cr_assert_not_null(fw_cfg_find_file(b.f, "etc/e820", &size));
    cr_expect_eq(size, 20);
    fw_cfg_add_e820(b.f, 0xc0000000, 0x123450000ull);
    const u8 *p = fw_cfg_find_file(b.f, "etc/e820", &size);
    static const u8 expected[40] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0xc0, 0, 0, 0, 0, 1, 0, 0, 0,
        0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x45, 0x23, 1, 0, 0, 0, 1, 0, 0, 0,
    };
    cr_expect_eq(size, 40);
    cr_expect_eq(memcmp(p, expected, 40), 0);
    cr_expect_null(fw_cfg_find_file(b.f, "etc/none", &size));
    teardown(&b);
}
