// build/tests/test_i440fx
#include <criterion/criterion.h>

#include "core/bus.h"
#include "devices/i440fx.h"
#include "devices/pci.h"

struct board {
    struct bus *memory, *ports;
    struct ram *ram;
    struct pci_bus *pci;
    struct i440fx *host;
    struct region *rom;
};

static void setup(struct board *b, u64 ram_size)
{
    b->memory = bus_create("memory", 1ull << 52);
    b->ports = bus_create("ports", 0x10000);
    b->ram = ram_create(ram_size + 0x40000);
    b->pci = pci_bus_create(b->memory, b->ports);
    b->host = i440fx_create(b->pci, b->ram, ram_size);
    u64 rom = ram_alloc(b->ram, 0x40000);
    for (u64 i = 0; i < 0x40000; i += 0x1000)
        b->ram->host[rom + i] = 0xbb;
    b->rom = bus_add_ram(b->memory, "rom", 0xc0000, 0x40000, 0, b->ram, rom, true);
}

static void teardown(struct board *b)
{
    region_remove(b->rom);
    i440fx_device(b->host)->cls->destroy(i440fx_device(b->host));
    pci_bus_destroy(b->pci);
    bus_destroy(b->memory);
    bus_destroy(b->ports);
    ram_destroy(b->ram);
}

static u8 peek(struct board *b, u64 at) { return (u8)bus_read(b->memory, at, 1); }
static void poke(struct board *b, u64 at, u8 v) { bus_write(b->memory, at, v, 1); }
static void set(struct board *b, unsigned reg, u32 v, unsigned size)
{
    pci_bus_config_write(b->pci, 0, reg, v, size);
}
static u32 get(struct board *b, unsigned reg, unsigned size)
{
    return pci_bus_config_read(b->pci, 0, reg, size);
}

Test(i440fx, identity)
{
    struct board b;
    setup(&b, 4 << 20);
    cr_expect_eq(get(&b, 0, 4), 0x12378086);
    cr_expect_eq(get(&b, 8, 4), 0x06000002);
    cr_expect_eq(get(&b, 0x2c, 4), 0x11001af4);
    cr_expect_eq(get(&b, 4, 4), 0x02800006);
    set(&b, 4, 0, 2);
    cr_expect_eq(get(&b, 4, 2), 6, "memory and master are hardwired");
    cr_expect_eq(get(&b, 0x72, 1), 2);
    teardown(&b);
}

Test(i440fx, memory_layout)
{
    struct board b;
    cr_expect_eq(i440fx_low_size(0xdfffffffull & ~0xfffull), 0xdffff000);
    cr_expect_eq(i440fx_low_size(0xe0000000), 0xc0000000);
    cr_expect_eq(i440fx_low_size(8ull << 30), 0xc0000000);

    setup(&b, 4 << 20);
    poke(&b, 0x9ffff, 1);
    poke(&b, 0x100000, 2);
    poke(&b, 0x3fffff, 3);
    cr_expect_eq(peek(&b, 0x9ffff), 1);
    cr_expect_eq(peek(&b, 0x100000), 2);
    cr_expect_eq(peek(&b, 0x3fffff), 3);
    cr_expect_eq(b.ram->host[i440fx_ram_offset(b.host) + 0x100000], 2);
    poke(&b, 0xa0000, 4);
    cr_expect_eq(peek(&b, 0xa0000), 0xff, "the VGA window is not DRAM");
    cr_expect_eq(peek(&b, 0x400000), 0xff);
    teardown(&b);

    setup(&b, 0xe0000000ull + 0x1000); /* sparse */
    poke(&b, 0xbfffffff, 5);
    cr_expect_eq(peek(&b, 0xbfffffff), 5);
    cr_expect_eq(peek(&b, 0xc0000000), 0xff);
    poke(&b, 0x100000000ull + 0x20000fff, 6);
    cr_expect_eq(peek(&b, 0x100000000ull + 0x20000fff), 6);
    cr_expect_eq(peek(&b, 0x100000000ull + 0x20001000), 0xff);
    teardown(&b);
}

Test(i440fx, attribute_map)
{
    /* Register, shift and base of each segment, from the data sheet's table. */
    static const struct {
        unsigned reg, shift;
        u64 base, last;
    } segments[] = {
        {0x59, 4, 0xf0000, 0xff000}, {0x5a, 0, 0xc0000, 0xc3000}, {0x5a, 4, 0xc4000, 0xc7000},
        {0x5b, 0, 0xc8000, 0xcb000}, {0x5b, 4, 0xcc000, 0xcf000}, {0x5c, 0, 0xd0000, 0xd3000},
        {0x5c, 4, 0xd4000, 0xd7000}, {0x5d, 0, 0xd8000, 0xdb000}, {0x5d, 4, 0xdc000, 0xdf000},
        {0x5e, 0, 0xe0000, 0xe3000}, {0x5e, 4, 0xe4000, 0xe7000}, {0x5f, 0, 0xe8000, 0xeb000},
        {0x5f, 4, 0xec000, 0xef000},
    };
    struct board b;
    setup(&b, 4 << 20);
    for (size_t i = 0; i < ARRAY_LEN(segments); i++) {
        unsigned reg = segments[i].reg, shift = segments[i].shift;
        u64 at = segments[i].base, last = segments[i].last;
        poke(&b, at, 0x11); /* to the ROM: nothing happens */
        cr_expect_eq(peek(&b, at), 0xbb);
        set(&b, reg, 2u << shift, 1); /* writes to DRAM, reads from ROM */
        poke(&b, at, 0x22);
        poke(&b, last, 0x33);
        cr_expect_eq(peek(&b, at), 0xbb);
        set(&b, reg, 1u << shift, 1); /* reads from DRAM, write protected */
        cr_expect_eq(peek(&b, at), 0x22);
        cr_expect_eq(peek(&b, last), 0x33);
        poke(&b, at, 0x44);
        cr_expect_eq(peek(&b, at), 0x22);
        set(&b, reg, 3u << shift, 1);
        poke(&b, at, 0x55);
        cr_expect_eq(peek(&b, at), 0x55);
        cr_expect_eq(get(&b, reg, 1), 3u << shift);
        set(&b, reg, 0, 1);
        cr_expect_eq(peek(&b, at), 0xbb);
    }
    set(&b, 0x58, 0xffffffff, 4);
    set(&b, 0x5c, 0xffffffff, 4);
    cr_expect_eq(get(&b, 0x58, 4), 0x333330ff);
    cr_expect_eq(get(&b, 0x5c, 4), 0x33333333);
    cr_expect_eq(peek(&b, 0xf0000), 0x55);
    i440fx_device(b.host)->cls->reset(i440fx_device(b.host));
    cr_expect_eq(get(&b, 0x5c, 4), 0);
    cr_expect_eq(peek(&b, 0xf0000), 0xbb, "reset runs firmware from ROM");
    teardown(&b);
}

Test(i440fx, smram_window_and_lock)
{
    struct board b;
    setup(&b, 4 << 20);
    set(&b, 0x72, 0x4a, 1);
    poke(&b, 0xa0000, 0x77);
    poke(&b, 0xbffff, 0x78);
    cr_expect_eq(peek(&b, 0xa0000), 0x77);
    set(&b, 0x72, 0x0a, 1);
    cr_expect_eq(peek(&b, 0xa0000), 0xff);
    set(&b, 0x72, 0x5a, 1); /* lock: closes, for good */
    cr_expect_eq(get(&b, 0x72, 1), 0x1a);
    set(&b, 0x72, 0x4a, 1);
    cr_expect_eq(get(&b, 0x72, 1), 0x1a);
    cr_expect_eq(peek(&b, 0xbffff), 0xff);
    i440fx_device(b.host)->cls->reset(i440fx_device(b.host));
    cr_expect_eq(get(&b, 0x72, 1), 2);
    set(&b, 0x72, 0x4a, 1);
    cr_expect_eq(peek(&b, 0xbffff), 0x78);
    teardown(&b);
}
