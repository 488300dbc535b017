// build/tests/test_bus
/* The map (priorities, directions, moves, the A20 mask), repaired access sizes, DMA blocks, write tracking.
 */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bus.h"
#include "core/log.h"

#define MEMORY_SIZE (1ull << 52)
#define MIB         (1ull << 20)

/* A device that notes its accesses and holds bytes. */
struct probe {
    u8 bytes[64];    /* what reads return and writes change */
    char calls[512]; /* "r4@8 w1@3=5a ..." */
};

static void note(struct probe *p, const char *call)
{
    if (*p->calls) strcat(p->calls, " ");
    cr_assert_lt(strlen(p->calls) + strlen(call), sizeof p->calls - 2);
    strcat(p->calls, call);
}

static u64 probe_read(void *opaque, u64 offset, unsigned size)
{
    struct probe *p = opaque;
    char call[64];
    u64 value = 0xdeadbeefdeadbeefull << (size < 8 ? 8 * size : 0); /* garbage above the size asked for */
    snprintf(call, sizeof call, "r%u@%llx", size, (unsigned long long)offset);
    note(p, call);
    if (size == 8) value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)p->bytes[(offset + i) % sizeof p->bytes] << 8 * i;
    return value;
}

static void probe_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct probe *p = opaque;
    char call[64];
    snprintf(call, sizeof call, "w%u@%llx=%llx", size, (unsigned long long)offset, (unsigned long long)value);
    note(p, call);
    for (unsigned i = 0; i < size; i++)
        p->bytes[(offset + i) % sizeof p->bytes] = (u8)(value >> 8 * i);
}

static const struct region_ops ops_any = {.read = probe_read, .write = probe_write};
static const struct region_ops ops_byte = {
    .read = probe_read, .write = probe_write, .min_size = 1, .max_size = 1};
static const struct region_ops ops_word = {
    .read = probe_read, .write = probe_write, .min_size = 1, .max_size = 2};
static const struct region_ops ops_dword = {
    .read = probe_read, .write = probe_write, .min_size = 4, .max_size = 4};
static const struct region_ops ops_qword = {
    .read = probe_read, .write = probe_write, .min_size = 8, .max_size = 8};

static struct probe probe(void)
{
    struct probe p = {0};
    for (unsigned i = 0; i < sizeof p.bytes; i++)
        p.bytes[i] = (u8)(0x10 + i);
    return p;
}

/* The calls since last asked. */
static const char *calls(struct probe *p)
{
    static char text[sizeof p->calls];
    strcpy(text, p->calls);
    p->calls[0] = 0;
    return text;
}

static void count(void *opaque) { ++*(int *)opaque; }

/* ---- who answers ---- */

Test(bus, nobody_answers_all_ones)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    u8 buf[5] = {0};
    bool page_ok = false;
    cr_assert_eq(bus_read(b, 0x1234, 1), 0xff);
    cr_assert_eq(bus_read(b, 0x1234, 2), 0xffff);
    cr_assert_eq(bus_read(b, 0x1234, 4), 0xffffffff);
    cr_assert_eq(bus_read(b, 0x1233, 8), UINT64_MAX);
    cr_assert_eq(bus_read(b, UINT64_MAX - 1, 8), UINT64_MAX);
    cr_assert_eq(bus_read(b, MEMORY_SIZE - 1, 2), 0xffff);
    bus_write(b, 0, 1, 4);
    bus_read_block(b, 0xfff, buf, sizeof buf);
    cr_assert_arr_eq(buf, "\xff\xff\xff\xff\xff", 5);
    cr_assert_null(bus_lookup(b, 0x5000, true, &page_ok).host);
    cr_assert(page_ok);
    bus_destroy(b);
}

Test(bus, unclaimed_accesses_are_logged)
{
    struct bus *b = bus_create("ports", 0x10000);
    char path[] = "/tmp/calque-bus-XXXXXX", text[256] = "";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    FILE *f = fdopen(fd, "r");
    cr_assert_eq(log_open(path), 0);
    remove(path);
    log_mask = LOG_UNIMP;
    bus_read(b, 0x1f7, 1);
    cr_assert_not_null(fgets(text, sizeof text, f));
    cr_assert_not_null(strstr(text, "ports"));
    cr_assert_not_null(strstr(text, "0x1f7"));
    log_mask = 0;
    bus_write(b, 0x1f7, 0, 1);
    cr_assert_null(fgets(text, sizeof text, f));
    fclose(f);
    bus_destroy(b);
}

Test(bus, highest_priority_wins_and_last_added_among_equals)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct probe low = probe(), high = probe(), tie = probe();
    bus_add(b, "high", 0x1008, 8, 5, &ops_any, &high);
    bus_add(b, "low", 0x1000, 0x20, 0, &ops_any, &low);
    bus_add(b, "tie", 0x101c, 8, 0, &ops_any, &tie);

    bus_read(b, 0x1007, 1);
    cr_assert_str_eq(calls(&low), "r1@7");
    bus_read(b, 0x1008, 1);
    bus_read(b, 0x100f, 1);
    cr_assert_str_eq(calls(&high), "r1@0 r1@7");
    cr_assert_str_eq(calls(&low), "");
    bus_read(b, 0x1010, 1);
    cr_assert_str_eq(calls(&low), "r1@10", "offsets count from the region's base, also after a hole");
    bus_read(b, 0x101c, 1);
    cr_assert_str_eq(calls(&tie), "r1@0");
    bus_destroy(b);
}

Test(bus, regions_may_touch_both_ends_of_the_bus)
{
    struct bus *b = bus_create("ports", 0x10000);
    struct probe first = probe(), last = probe();
    bus_add(b, "first", 0, 1, 0, &ops_byte, &first);
    bus_add(b, "last", 0xfffe, 16, 0, &ops_byte, &last); /* 14 bytes stick out */
    cr_assert_eq(bus_read(b, 0, 1), 0x10);
    cr_assert_eq(bus_read(b, 0xffff, 1), 0x11);
    cr_assert_eq(bus_read(b, 0xffff, 2), 0xff11);
    cr_assert_eq(bus_read(b, 0x10000, 1), 0xff);
    bus_destroy(b);
}

Test(bus, remove_disable_and_move)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct probe under = probe(), bar = probe();
    bus_add(b, "under", 0x1000, 0x10, 0, &ops_any, &under);
    struct region *r = bus_add(b, "bar", 0x1000, 0x10, 1, &ops_any, &bar);
    cr_assert(region_enabled(r));

    region_set_enabled(r, false);
    cr_assert_not(region_enabled(r));
    bus_read(b, 0x1001, 1);
    cr_assert_str_eq(calls(&under), "r1@1");

    region_set_base(r, 0x2000);
    cr_assert_eq(region_base(r), 0x2000);
    cr_assert_eq(bus_read(b, 0x2001, 1), 0xff, "still disabled");
    region_set_enabled(r, true);
    cr_assert_eq(bus_read(b, 0x2001, 1), 0x11);

    region_set_base(r, MEMORY_SIZE - 4); /* partly out of the bus */
    cr_assert_eq(bus_read(b, MEMORY_SIZE - 1, 1), 0x13);
    region_set_base(r, UINT64_MAX - 2); /* altogether */
    cr_assert_eq(bus_read(b, MEMORY_SIZE - 1, 1), 0xff);
    cr_assert_eq(bus_read(b, 1, 1), 0xff);

    region_set_base(r, 0x1008);
    bus_read(b, 0x1008, 1);
    cr_assert_str_eq(calls(&under), "");
    region_remove(r);
    bus_read(b, 0x1008, 1);
    cr_assert_str_eq(calls(&under), "r1@8");
    bus_destroy(b);
}

/* The i440FX's programmable attribute map: each direction goes to shadow RAM or to the ROM. */
Test(bus, pam_splits_directions)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct ram *ram = ram_create(4 * GUEST_PAGE_SIZE);
    u64 shadow = ram_alloc(ram, GUEST_PAGE_SIZE), rom = ram_alloc(ram, GUEST_PAGE_SIZE);
    bool page_ok;
    bus_add_ram(b, "rom", 0xf0000, GUEST_PAGE_SIZE, 1, ram, rom, true);
    struct region *r = bus_add_ram(b, "shadow", 0xf0000, GUEST_PAGE_SIZE, 2, ram, shadow, false);
    ram->host[rom] = 0xaa;
    ram->host[shadow] = 0x55;

    region_set_access(r, false, false);
    cr_assert_eq(bus_read(b, 0xf0000, 1), 0xaa);
    bus_write(b, 0xf0000, 1, 1);
    cr_assert_eq(ram->host[rom], 0xaa, "a ROM is not written");
    cr_assert_eq(ram->host[shadow], 0x55);
    cr_assert_null(bus_lookup(b, 0xf0000, true, &page_ok).host);

    region_set_access(r, false, true); /* copying the BIOS down */
    bus_write(b, 0xf0000, bus_read(b, 0xf0000, 1), 1);
    cr_assert_eq(ram->host[shadow], 0xaa);
    cr_assert_eq(bus_lookup(b, 0xf0000, false, &page_ok).ram_offset, rom);
    cr_assert_eq(bus_lookup(b, 0xf0000, true, &page_ok).ram_offset, shadow);

    ram->host[shadow] = 0x66;
    region_set_access(r, true, false); /* shadowed and protected */
    cr_assert_eq(bus_read(b, 0xf0000, 1), 0x66);
    bus_write(b, 0xf0000, 1, 1);
    cr_assert_eq(bus_read(b, 0xf0000, 1), 0x66);
    bus_destroy(b);
    ram_destroy(ram);
}

Test(bus, lookup_tells_when_a_page_is_shared)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct ram *ram = ram_create(16 * GUEST_PAGE_SIZE);
    struct probe dev = probe();
    bool page_ok = false;
    ram_alloc(ram, GUEST_PAGE_SIZE);
    u64 at = ram_alloc(ram, 8 * GUEST_PAGE_SIZE);
    bus_add_ram(b, "ram", 0x10000, 8 * GUEST_PAGE_SIZE, 0, ram, at, false);
    bus_add(b, "dev", 0x12ffc, 8, 1, &ops_dword, &dev);

    struct bus_target t = bus_lookup(b, 0x11abc, false, &page_ok);
    cr_assert(page_ok);
    cr_assert_eq(t.host, ram->host + at + 0x1abc);
    cr_assert_eq(t.ram_offset, at + 0x1abc);
    cr_assert_eq(t.ram, ram);
    t = bus_lookup(b, 0x12010, true, &page_ok);
    cr_assert_not(page_ok, "the device has the end of this page");
    cr_assert_eq(t.host, ram->host + at + 0x2010);
    t = bus_lookup(b, 0x13010, true, &page_ok);
    cr_assert_not(page_ok, "and the beginning of this one");
    cr_assert_null(bus_lookup(b, 0x13000, true, &page_ok).host);
    cr_assert_not(page_ok);
    bus_lookup(b, 0x14000, true, &page_ok);
    cr_assert(page_ok);
    bus_lookup(b, 0x14000, true, NULL); /* not asked for */
    bus_destroy(b);
    ram_destroy(ram);
}

/* ---- change notifications ---- */

Test(bus, listeners_hear_of_real_changes)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct probe dev = probe();
    int first = 0, second = 0;
    bus_on_change(b, count, &first);
    bus_on_change(b, count, &second);
    struct region *r = bus_add(b, "dev", 0x1000, 0x10, 0, &ops_any, &dev);
    cr_assert_eq(first, 1);
    cr_assert_eq(second, 1);
    region_set_base(r, 0x1000);
    region_set_enabled(r, true);
    region_set_access(r, true, true);
    cr_assert_eq(first, 1, "nothing changed");
    region_set_base(r, 0x3000);
    cr_assert_eq(first, 2);
    region_set_enabled(r, false);
    cr_assert_eq(first, 3);
    region_set_base(r, 0x4000);
    cr_assert_eq(first, 3, "it is not shown");
    region_remove(r);
    cr_assert_eq(first, 3);
    bus_destroy(b);
}

Test(bus, updates_are_grouped_and_nest)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct probe dev = probe();
    int changes = 0;
    bus_on_change(b, count, &changes);
    bus_begin_update(b);
    struct region *r = bus_add(b, "dev", 0x1000, 0x10, 0, &ops_any, &dev);
    bus_begin_update(b);
    region_set_base(r, 0x2000);
    bus_end_update(b);
    cr_assert_eq(changes, 0);
    cr_assert_eq(bus_read(b, 0x2000, 1), 0xff, "not yet in the map");
    bus_end_update(b);
    cr_assert_eq(changes, 1);
    cr_assert_eq(bus_read(b, 0x2000, 1), 0x10);
    bus_begin_update(b);
    region_set_base(r, 0x3000);
    region_set_base(r, 0x2000);
    bus_end_update(b);
    cr_assert_eq(changes, 1, "there and back again is no change");
    bus_destroy(b);
}

/* ---- access sizes ---- */

Test(bus, accesses_the_device_implements_pass_unchanged)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct probe dev = probe();
    bus_add(b, "dev", 0x1000, 0x40, 0, &ops_any, &dev);
    cr_assert_eq(bus_read(b, 0x1000, 8), 0x1716151413121110);
    cr_assert_eq(bus_read(b, 0x1003, 4), 0x16151413);
    bus_write(b, 0x1011, 0xffff1234, 2);
    cr_assert_str_eq(calls(&dev), "r8@0 r4@3 w2@11=1234");
    bus_destroy(b);
}

Test(bus, large_accesses_are_split)
{
    struct bus *b = bus_create("ports", 0x10000);
    struct probe byte = probe(), word = probe(), dword = probe();
    bus_add(b, "byte", 0x100, 0x40, 0, &ops_byte, &byte);
    bus_add(b, "word", 0x200, 0x40, 0, &ops_word, &word);
    bus_add(b, "dword", 0x300, 0x40, 0, &ops_dword, &dword);
    cr_assert_eq(bus_read(b, 0x101, 4), 0x14131211);
    cr_assert_str_eq(calls(&byte), "r1@1 r1@2 r1@3 r1@4");
    bus_write(b, 0x100, 0xa1b2c3d4, 4);
    cr_assert_str_eq(calls(&byte), "w1@0=d4 w1@1=c3 w1@2=b2 w1@3=a1");
    cr_assert_eq(bus_read(b, 0x200, 4), 0x13121110);
    cr_assert_eq(bus_read(b, 0x201, 1), 0x11);
    cr_assert_str_eq(calls(&word), "r2@0 r2@2 r1@1");
    cr_assert_eq(bus_read(b, 0x308, 8), 0x1f1e1d1c1b1a1918);
    bus_write(b, 0x300, 0x1122334455667788, 8);
    cr_assert_str_eq(calls(&dword), "r4@8 r4@c w4@0=55667788 w4@4=11223344");
    bus_destroy(b);
}

Test(bus, small_and_misaligned_accesses_are_widened)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct probe dev = probe(), wide = probe();
    bus_add(b, "dev", 0x1000, 0x40, 0, &ops_dword, &dev);
    bus_add(b, "wide", 0x2000, 0x40, 0, &ops_qword, &wide);
    cr_assert_eq(bus_read(b, 0x1006, 1), 0x16);
    cr_assert_eq(bus_read(b, 0x1004, 2), 0x1514);
    cr_assert_str_eq(calls(&dev), "r4@4 r4@4");
    cr_assert_eq(bus_read(b, 0x1003, 2), 0x1413, "over a boundary of units");
    cr_assert_eq(bus_read(b, 0x1006, 4), 0x19181716);
    cr_assert_eq(bus_read(b, 0x1001, 8), 0x1817161514131211);
    cr_assert_str_eq(calls(&dev), "r4@0 r4@4 r4@4 r4@8 r4@0 r4@4 r4@8");
    bus_write(b, 0x1006, 0xab, 1);
    bus_write(b, 0x1003, 0x2211, 2);
    cr_assert_str_eq(calls(&dev), "w4@4=ab0000 w4@0=11000000 w4@4=22");
    cr_assert_eq(bus_read(b, 0x2004, 4), 0x17161514);
    bus_write(b, 0x2004, 0xcafe0001, 4);
    cr_assert_str_eq(calls(&wide), "r8@0 w8@0=cafe000100000000");
    bus_destroy(b);
}

Test(bus, missing_callbacks_read_ones_and_drop_writes)
{
    static const struct region_ops none = {0};
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct probe under = probe();
    bus_add(b, "under", 0x1000, 0x10, 0, &ops_any, &under);
    bus_add(b, "none", 0x1000, 0x10, 1, &none, NULL);
    cr_assert_eq(bus_read(b, 0x1000, 4), 0xffffffff);
    bus_write(b, 0x1000, 1, 4);
    cr_assert_str_eq(calls(&under), "");
    bus_destroy(b);
}

Test(bus, straddling_accesses_are_shared_out)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct ram *ram = ram_create(4 * GUEST_PAGE_SIZE);
    struct probe dev = probe(), next = probe();
    bus_add_ram(b, "ram", 0, GUEST_PAGE_SIZE, 0, ram, ram_alloc(ram, GUEST_PAGE_SIZE), false);
    bus_add(b, "dev", 0x1000, 6, 0, &ops_any, &dev);
    bus_add(b, "next", 0x1006, 0x10, 0, &ops_any, &next);
    ram->host[0xffe] = 0xfe;
    ram->host[0xfff] = 0xff;

    cr_assert_eq(bus_read(b, 0xffe, 4), 0x1110fffe);
    cr_assert_str_eq(calls(&dev), "r2@0");
    cr_assert_eq(bus_read(b, 0xfff, 8), 0x10151413121110ff);
    cr_assert_str_eq(calls(&dev), "r4@0 r2@4");
    cr_assert_str_eq(calls(&next), "r1@0");
    bus_write(b, 0xfff, 0x44332211, 4);
    cr_assert_eq(ram->host[0xfff], 0x11);
    cr_assert_str_eq(calls(&dev), "w2@0=3322 w1@2=44");
    cr_assert_eq(bus_read(b, 0x1014, 4), 0xffff1f1e, "what is behind the end is nobody's");
    bus_destroy(b);
    ram_destroy(ram);
}

Test(bus, ram_accesses_at_any_alignment)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct ram *ram = ram_create(4 * GUEST_PAGE_SIZE);
    bus_add_ram(b, "ram", 0x4000, 2 * GUEST_PAGE_SIZE, 0, ram, ram_alloc(ram, 2 * GUEST_PAGE_SIZE), false);
    bus_write(b, 0x4ffd, 0x8877665544332211, 8);
    cr_assert_arr_eq(ram->host + 0xffd, "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
    cr_assert_eq(bus_read(b, 0x4ffd, 8), 0x8877665544332211);
    cr_assert_eq(bus_read(b, 0x4ffe, 4), 0x55443322);
    cr_assert_eq(bus_read(b, 0x4fff, 2), 0x4433);
    bus_write(b, 0x5000, 0xffffff00, 1);
    cr_assert_eq(bus_read(b, 0x4fff, 4), 0x66550033);
    bus_destroy(b);
    ram_destroy(ram);
}

/* ---- A20 ---- */

Test(bus, a20_mask_wraps_the_second_megabyte)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct ram *ram = ram_create(4 * MIB);
    int changes = 0;
    bool page_ok;
    u8 buf[4];
    bus_add_ram(b, "ram", 0, 4 * MIB, 0, ram, ram_alloc(ram, 4 * MIB), false);
    ram->host[0] = 0x01;
    ram->host[1] = 0x02;
    ram->host[MIB - 1] = 0x03;
    ram->host[MIB] = 0x04;
    ram->host[2 * MIB] = 0x05;

    bus_on_change(b, count, &changes);
    cr_assert_eq(bus_read(b, MIB, 1), 0x04);
    bus_set_address_mask(b, ~(1ull << 20));
    cr_assert_eq(changes, 1);
    cr_assert_eq(bus_read(b, MIB, 1), 0x01);
    cr_assert_eq(bus_read(b, 2 * MIB, 1), 0x05);
    cr_assert_eq(bus_read(b, MIB - 1, 2), 0x0103, "the carry into bit 20 is lost");
    cr_assert_eq(bus_read(b, MIB - 1, 4), 0x00020103);
    bus_read_block(b, MIB - 1, buf, 4);
    cr_assert_arr_eq(buf, "\x03\x01\x02\x00", 4);
    bus_write(b, MIB - 1, 0xbbaa, 2);
    cr_assert_eq(ram->host[0], 0xbb);
    cr_assert_eq(ram->host[MIB], 0x04);
    bus_write_block(b, MIB - 1, "\x10\x11", 2);
    cr_assert_eq(ram->host[MIB - 1], 0x10);
    cr_assert_eq(ram->host[0], 0x11);
    cr_assert_eq(bus_lookup(b, MIB + 0x123, true, &page_ok).ram_offset, 0x123);
    cr_assert(page_ok);

    bus_set_address_mask(b, ~(1ull << 20));
    cr_assert_eq(changes, 1);
    bus_set_address_mask(b, ~0ull);
    cr_assert_eq(changes, 2);
    cr_assert_eq(bus_read(b, MIB, 1), 0x04);
    bus_destroy(b);
    ram_destroy(ram);
}

/* ---- DMA ---- */

Test(bus, blocks_cross_ram_and_devices)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct ram *ram = ram_create(8 * GUEST_PAGE_SIZE);
    struct probe dev = probe();
    u8 out[0x1020], in[0x1020];
    bus_add_ram(b, "ram", 0, 2 * GUEST_PAGE_SIZE, 0, ram, ram_alloc(ram, 2 * GUEST_PAGE_SIZE), false);
    bus_add(b, "dev", 0x2000, 0x1d, 0, &ops_any, &dev);
    for (unsigned i = 0; i < sizeof out; i++)
        out[i] = (u8)(i * 7 + 1);

    bus_write_block(b, 0x1003, out, sizeof out); /* 0xffd bytes of RAM, 0x1d of the device, 6 of nothing */
    cr_assert_arr_eq(ram->host + 0x1003, out, 0xffd);
    cr_assert_arr_eq(dev.bytes, out + 0xffd, 0x1d);
    dev.calls[0] = 0;
    bus_read_block(b, 0x1003, in, sizeof in);
    cr_assert_arr_eq(in, out, 0xffd + 0x1d);
    cr_assert_arr_eq(in + 0xffd + 0x1d, "\xff\xff\xff\xff\xff\xff", 6);
    cr_assert_str_eq(calls(&dev), "r8@0 r8@8 r8@10 r4@18 r1@1c");

    bus_read_block(b, 0x2003, in, 10);
    cr_assert_str_eq(calls(&dev), "r1@3 r4@4 r4@8 r1@c");
    bus_read_block(b, 0x2003, in, 0);
    cr_assert_str_eq(calls(&dev), "");
    bus_destroy(b);
    ram_destroy(ram);
}

static struct region *moving; /* what moves_itself() moves */

static u64 moves_itself(void *opaque, u64 offset, unsigned size)
{
    (void)opaque;
    (void)offset;
    (void)size;
    region_set_base(moving, 0x9000);
    return 0;
}

Test(bus, map_may_change_under_a_block)
{
    static const struct region_ops ops = {.read = moves_itself};
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    u8 buf[16];
    moving = bus_add(b, "moving", 0x1000, 0x100, 0, &ops, NULL);
    bus_read_block(b, 0x1000, buf, sizeof buf);
    cr_assert_arr_eq(buf, "\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 16);
    bus_destroy(b);
}

/* ---- RAM ---- */

Test(ram, chunks_are_zeroed_and_page_aligned)
{
    struct ram *ram = ram_create(3 * GUEST_PAGE_SIZE - 1);
    cr_assert_eq(ram->size, 3 * GUEST_PAGE_SIZE);
    u64 a = ram_alloc(ram, 1), b = ram_alloc(ram, GUEST_PAGE_SIZE + 1);
    cr_assert_eq(a, 0);
    cr_assert_eq(b, GUEST_PAGE_SIZE);
    cr_assert_eq(ram->used, 3 * GUEST_PAGE_SIZE);
    for (u64 i = 0; i < ram->size; i++)
        cr_assert_eq(ram->host[i], 0);
    ram_destroy(ram);
}

Test(ram, impossible_size_is_refused, .init = cr_redirect_stderr) { cr_assert_null(ram_create(1ull << 62)); }

struct code_log {
    int calls;        /* times called */
    u64 offset, size; /* of the last call */
    u64 total;        /* sum of sizes */
};

static void code_written(void *opaque, u64 offset, u64 size)
{
    struct code_log *log = opaque;
    log->calls++;
    log->offset = offset;
    log->size = size;
    log->total += size;
}

Test(ram, writes_through_the_bus_are_noted)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct ram *ram = ram_create(16 * GUEST_PAGE_SIZE);
    struct code_log log = {0};
    u8 block[3 * GUEST_PAGE_SIZE] = {0};
    u64 at = ram_alloc(ram, GUEST_PAGE_SIZE);
    at = ram_alloc(ram, 8 * GUEST_PAGE_SIZE);
    bus_add_ram(b, "ram", 0x100000, 8 * GUEST_PAGE_SIZE, 0, ram, at, false);
    ram_on_code_write(ram, code_written, &log);
    ram->page_flags[3] = ram->page_flags[4] = RAM_PAGE_CODE; /* offsets 0x3000-0x4fff: 0x102000-0x103fff */

    bus_write(b, 0x100010, 1, 4);
    cr_assert_eq(ram->page_flags[1], RAM_PAGE_DIRTY);
    cr_assert_eq(log.calls, 0);
    bus_read(b, 0x102010, 4);
    cr_assert_eq(ram->page_flags[3], RAM_PAGE_CODE, "reads are not noted");

    bus_write(b, 0x102010, 1, 4);
    cr_assert_eq(log.calls, 1);
    cr_assert_eq(log.offset, 0x3010);
    cr_assert_eq(log.size, 4);
    cr_assert_eq(ram->page_flags[3], RAM_PAGE_CODE | RAM_PAGE_DIRTY);

    bus_write(b, 0x101ffe, 0, 4); /* the last two bytes only */
    cr_assert_eq(log.offset, 0x3000);
    cr_assert_eq(log.size, 2);
    cr_assert_eq(ram->page_flags[2], RAM_PAGE_DIRTY);

    log = (struct code_log){0};
    bus_write_block(b, 0x101800, block, sizeof block); /* half a page, two of code, half a page */
    cr_assert_eq(log.calls, 1);
    cr_assert_eq(log.offset, 0x3000);
    cr_assert_eq(log.size, 0x2000);
    cr_assert_eq(ram->page_flags[5], RAM_PAGE_DIRTY);

    ram->page_flags[4] = 0;
    ram->page_flags[5] = RAM_PAGE_CODE;
    log = (struct code_log){0};
    bus_write_block(b, 0x102800, block, sizeof block); /* half of 3, 4, 5 and half of 6 */
    cr_assert_eq(log.calls, 2, "not of what is between the code pages");
    cr_assert_eq(log.total, 0x800 + 0x1000);
    bus_destroy(b);
    ram_destroy(ram);
}

Test(ram, notes_beyond_the_end_are_cut)
{
    struct ram *ram = ram_create(2 * GUEST_PAGE_SIZE);
    struct code_log log = {0};
    ram_on_code_write(ram, code_written, &log);
    ram->page_flags[1] = RAM_PAGE_CODE;
    ram_note_write(ram, 0x1800, UINT64_MAX);
    cr_assert_eq(log.offset, 0x1800);
    cr_assert_eq(log.size, 0x800);
    ram_note_write(ram, 0x2000, 1);
    ram_note_write(ram, 0x1000, 0);
    cr_assert_eq(log.calls, 1);
    cr_assert_eq(ram->page_flags[0], 0);
    ram_destroy(ram);
}

/* ---- many regions, many threads ---- */

/* Random overlapping regions against a scan of all of them. */
Test(bus, matches_a_linear_scan)
{
    enum { COUNT = 200, SPACE = 0x800 };
    struct bus *b = bus_create("ports", 0x10000);
    struct probe *devices = calloc(COUNT, sizeof *devices);
    struct region *regions[COUNT];
    unsigned size[COUNT];
    int priority[COUNT];
    u32 random = 99;
    for (int i = 0; i < COUNT; i++) {
        random = random * 1664525 + 1013904223;
        size[i] = 1 + (random >> 8) % 40;
        priority[i] = (int)(random >> 20) % 5;
        devices[i] = probe();
        memset(devices[i].bytes, i, sizeof devices[i].bytes);
        regions[i] = bus_add(b, "r", (random >> 12) % SPACE, size[i], priority[i], &ops_byte, &devices[i]);
    }
    for (int round = 0; round < 10; round++) {
        for (u64 port = 0; port < SPACE + 40; port++) {
            int best = -1;
            for (int i = 0; i < COUNT; i++)
                if (region_enabled(regions[i]) && port - region_base(regions[i]) < size[i] &&
                    (best < 0 || priority[i] >= priority[best]))
                    best = i;
            cr_assert_eq(bus_read(b, port, 1), best < 0 ? 0xff : (u64)best, "port %llx",
                         (unsigned long long)port);
            if (best >= 0) devices[best].calls[0] = 0;
        }
        for (int i = 0; i < 20; i++) {
            random = random * 1664525 + 1013904223;
            region_set_base(regions[(random >> 8) % COUNT], (random >> 16) % SPACE);
            region_set_enabled(regions[(random >> 10) % COUNT], random >> 31);
        }
    }
    bus_destroy(b);
    free(devices);
}

struct reader {
    struct bus *bus; /* read without a lock */
    bool stop;       /* set by the writer */
    u64 reads;       /* how many were made */
    u64 wrong;       /* neither of the two possible answers */
};

static void *read_all_the_time(void *opaque)
{
    struct reader *r = opaque;
    while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
        u64 value = bus_read(r->bus, 0x5000, 8);
        if (value != 0x1111 && value != 0x2222) r->wrong++;
        __atomic_store_n(&r->reads, r->reads + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

Test(bus, readers_see_a_whole_map_while_it_changes)
{
    struct bus *b = bus_create("memory", MEMORY_SIZE);
    struct ram *ram = ram_create(16 * GUEST_PAGE_SIZE);
    struct reader r = {.bus = b};
    struct probe dev = probe();
    pthread_t thread;
    bus_add_ram(b, "low", 0, 8 * GUEST_PAGE_SIZE, 0, ram, ram_alloc(ram, 8 * GUEST_PAGE_SIZE), false);
    struct region *over =
        bus_add_ram(b, "over", 0x5000, GUEST_PAGE_SIZE, 1, ram, ram_alloc(ram, GUEST_PAGE_SIZE), false);
    *(u64 *)(ram->host + 0x5000) = 0x1111;
    *(u64 *)(ram->host + 0x8000) = 0x2222;
    cr_assert_eq(pthread_create(&thread, NULL, read_all_the_time, &r), 0);
    int changes = 0;
    while (__atomic_load_n(&r.reads, __ATOMIC_ACQUIRE) < 20000 || changes < 3000) {
        region_set_enabled(over, changes & 1);
        if (changes < 150) bus_add(b, "many", 0x20000 + 0x100 * (u64)changes, 1, 0, &ops_any, &dev);
        changes++;
    }
    __atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    cr_assert_eq(r.wrong, 0);
    bus_destroy(b);
    ram_destroy(ram);
}
