/* build/tests/test_i8237 */
#include "fixture.h"

#include <string.h>

#include "devices/i8237.h"

struct setup {
    struct bus *ports, *mem;
    struct ram *ram;
    struct i8237 *dma;
};

static struct setup *start(void)
{
    struct setup *s = calloc(1, sizeof(*s));
    s->ports = bus_create("ports", 0x10000);
    s->mem = bus_create("memory", 1ull << 32);
    s->ram = ram_create(0x100000);
    bus_add_ram(s->mem, "ram", 0, 0x100000, 0, s->ram, ram_alloc(s->ram, 0x100000), false);
    s->dma = i8237_create(s->ports, s->mem);
    return s;
}

static void finish(struct setup *s)
{
    i8237_device(s->dma)->cls->destroy(i8237_device(s->dma));
    bus_destroy(s->ports);
    bus_destroy(s->mem);
    ram_destroy(s->ram);
    free(s);
}

/* Channel 2 for len bytes at addr, unmasked, with the cascade open. */
static void program2(struct setup *s, u8 mode, u32 addr, u32 len)
{
    out8(s->ports, 0xd6, 0xc0);
    out8(s->ports, 0xd4, 0x00);
    out8(s->ports, 0x0a, 0x06);
    out8(s->ports, 0x0c, 0);
    out8(s->ports, 0x04, addr);
    out8(s->ports, 0x04, addr >> 8);
    out8(s->ports, 0x81, addr >> 16);
    out8(s->ports, 0x05, len - 1);
    out8(s->ports, 0x05, (len - 1) >> 8);
    out8(s->ports, 0x0b, mode | 2);
    out8(s->ports, 0x0a, 0x02);
}

Test(i8237, registers)
{
    struct setup *s = start();
    for (int ch = 0; ch < 4; ch++) {
        out8(s->ports, 0x0c, 0);
        out8(s->ports, ch * 2, 0x34 + ch);
        out8(s->ports, ch * 2, 0x12);
        cr_assert_eq(in8(s->ports, ch * 2), 0x34 + ch);
        cr_assert_eq(in8(s->ports, ch * 2), 0x12);
        out8(s->ports, 0xd8, 0);
        out8(s->ports, 0xc0 + ch * 4 + 2, 0x78);
        out8(s->ports, 0xc0 + ch * 4 + 2, 0x56 + ch);
        out8(s->ports, 0xd8, 0);
        cr_assert_eq(in8(s->ports, 0xc0 + ch * 4 + 2), 0x78);
        cr_assert_eq(in8(s->ports, 0xc0 + ch * 4 + 2), 0x56 + ch);
    }
    cr_assert_eq(in8(s->ports, 0x0f) & 0x0f, 0x0f);
    out8(s->ports, 0x0a, 0x01);
    cr_assert_eq(in8(s->ports, 0x0f) & 0x0f, 0x0d);
    out8(s->ports, 0x0a, 0x05);
    cr_assert_eq(in8(s->ports, 0x0f) & 0x0f, 0x0f);
    out8(s->ports, 0x0e, 0);
    cr_assert_eq(in8(s->ports, 0x0f) & 0x0f, 0x00);
    out8(s->ports, 0x0f, 0x0a);
    cr_assert_eq(in8(s->ports, 0x0f) & 0x0f, 0x0a);
    out8(s->ports, 0x0d, 0);
    cr_assert_eq(in8(s->ports, 0x0f) & 0x0f, 0x0f);
    i8237_request(s->dma, 3, true);
    cr_assert_eq(in8(s->ports, 0x08), 0x80);
    i8237_request(s->dma, 3, false);
    cr_assert_eq(in8(s->ports, 0x08), 0x00);
    for (int i = 0; i < 16; i++)
        out8(s->ports, 0x80 + i, i * 3);
    for (int i = 0; i < 16; i++)
        cr_assert_eq(in8(s->ports, 0x80 + i), i * 3);
    finish(s);
}

Test(i8237, a_device_fills_memory_in_pieces)
{
    struct setup *s = start();
    u8 buf[512];
    for (int i = 0; i < 512; i++)
        buf[i] = i * 7;
    program2(s, 0x44, 0x23456, 512);
    bool tc;
    cr_assert_eq(i8237_left(s->dma, 2), 512);
    cr_assert_eq(i8237_transfer(s->dma, 2, buf, 200, false, &tc), 200);
    cr_assert_not(tc);
    cr_assert_eq(in8(s->ports, 0x04), 0x1e);
    cr_assert_eq(in8(s->ports, 0x04), 0x35);
    cr_assert_eq(i8237_transfer(s->dma, 2, buf + 200, 1000, false, &tc), 312);
    cr_assert(tc);
    u8 got[512];
    bus_read_block(s->mem, 0x23456, got, 512);
    cr_assert_arr_eq(got, buf, 512);
    cr_assert_eq(in8(s->ports, 0x05), 0xff);
    cr_assert_eq(in8(s->ports, 0x05), 0xff);
    cr_assert_eq(in8(s->ports, 0x08), 0x04);
    cr_assert_eq(in8(s->ports, 0x08), 0x00, "reading clears terminal count");
    cr_assert_eq(i8237_transfer(s->dma, 2, buf, 1, false, &tc), 0, "masked itself");
    finish(s);
}

Test(i8237, direction_mask_and_verify)
{
    struct setup *s = start();
    u8 buf[4] = {1, 2, 3, 4};
    program2(s, 0x48, 0x10000, 4);
    bus_write(s->mem, 0x10000, 0x44332211, 4);
    cr_assert_eq(i8237_transfer(s->dma, 2, buf, 4, false, NULL), 0);
    cr_assert_eq(i8237_transfer(s->dma, 2, buf, 2, true, NULL), 2);
    cr_assert_eq(buf[1], 0x22);
    cr_assert_eq(buf[2], 3);
    out8(s->ports, 0xd4, 0x04);
    cr_assert_not(i8237_ready(s->dma, 2), "the cascade is masked");
    out8(s->ports, 0xd4, 0x00);
    cr_assert(i8237_ready(s->dma, 2));
    out8(s->ports, 0x08, 0x04);
    cr_assert_not(i8237_ready(s->dma, 2), "controller disabled");
    out8(s->ports, 0x08, 0x00);
    cr_assert_not(i8237_ready(s->dma, 4));
    program2(s, 0x40, 0x10000, 4);
    cr_assert_eq(i8237_transfer(s->dma, 2, buf, 4, false, NULL), 4);
    cr_assert_eq(bus_read(s->mem, 0x10000, 4), 0x44332211, "verify does not write");
    finish(s);
}

Test(i8237, wraps_in_the_page_and_counts_down)
{
    struct setup *s = start();
    u8 buf[4] = {1, 2, 3, 4};
    program2(s, 0x44, 0x2fffe, 4);
    i8237_transfer(s->dma, 2, buf, 4, false, NULL);
    cr_assert_eq(bus_read(s->mem, 0x2fffe, 2), 0x0201);
    cr_assert_eq(bus_read(s->mem, 0x20000, 2), 0x0403);
    cr_assert_eq(bus_read(s->mem, 0x30000, 2), 0x0000);
    program2(s, 0x64, 0x50003, 4);
    i8237_transfer(s->dma, 2, buf, 4, false, NULL);
    cr_assert_eq(bus_read(s->mem, 0x50000, 4), 0x01020304);
    finish(s);
}

Test(i8237, auto_initialize)
{
    struct setup *s = start();
    u8 buf[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    bool tc;
    program2(s, 0x54, 0x40000, 4);
    cr_assert_eq(i8237_transfer(s->dma, 2, buf, 8, false, &tc), 4);
    cr_assert(tc);
    cr_assert_eq(i8237_left(s->dma, 2), 4);
    cr_assert_eq(i8237_transfer(s->dma, 2, buf + 4, 4, false, &tc), 4);
    cr_assert_eq(bus_read(s->mem, 0x40000, 4), 0x08070605);
    finish(s);
}

Test(i8237, words_on_the_second_controller)
{
    struct setup *s = start();
    u8 buf[6] = {1, 2, 3, 4, 5, 6};
    bool tc;
    out8(s->ports, 0xd8, 0);
    out8(s->ports, 0xc4, 0x08); /* word address 0x8008: byte 0x10010 of the 128 KiB page */
    out8(s->ports, 0xc4, 0x80);
    out8(s->ports, 0xc6, 0x02);
    out8(s->ports, 0xc6, 0x00);
    out8(s->ports, 0x8b, 0x05); /* bit 0 is not used */
    out8(s->ports, 0xd6, 0x45);
    out8(s->ports, 0xd4, 0x01);
    cr_assert_eq(i8237_left(s->dma, 5), 6);
    cr_assert_eq(i8237_transfer(s->dma, 5, buf, 3, false, &tc), 2, "whole words");
    cr_assert_eq(i8237_transfer(s->dma, 5, buf + 2, 4, false, &tc), 4);
    cr_assert(tc);
    u8 got[6];
    bus_read_block(s->mem, 0x50010, got, 6);
    cr_assert_arr_eq(got, buf, 6);
    finish(s);
}
