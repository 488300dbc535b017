/* build/tests/test_fdc */
#include "fixture.h"

#include <errno.h>
#include <string.h>

#include "devices/fdc.h"

#define DOR  0x3f2
#define MSR  0x3f4
#define FIFO 0x3f5
#define DIR  0x3f7

/* A disk in memory, whose requests wait until they are let go. */
struct memory_disk {
    struct block block;            /* must stay first */
    u8 *data;                      /* the contents */
    struct block_request *waiting; /* one that was submitted */
    bool slow;                     /* requests wait for let_go() */
    u64 bad;                       /* offset of a sector that fails, ~0: none */
    unsigned writes;               /* how many there were */
};

static void serve(struct memory_disk *d, struct block_request *r)
{
    cr_assert(r->offset + r->size <= d->block.size);
    r->error = r->offset == d->bad ? -EIO : 0;
    if (!r->error && r->op == BLOCK_READ) memcpy(r->buf, d->data + r->offset, r->size);
    if (!r->error && r->op == BLOCK_WRITE) memcpy(d->data + r->offset, r->buf, r->size);
    d->writes += r->op == BLOCK_WRITE;
    r->done(r);
}

static void submit(struct block *b, struct block_request *r)
{
    struct memory_disk *d = (struct memory_disk *)b;
    cr_assert_null(d->waiting);
    if (d->slow)
        d->waiting = r;
    else
        serve(d, r);
}

static void let_go(struct memory_disk *d)
{
    struct block_request *r = d->waiting;
    d->waiting = NULL;
    serve(d, r);
}

static const struct block_ops memory_ops = {.submit = submit};

struct setup {
    struct bus *ports, *mem;
    struct ram *ram;
    struct clock *clock;
    struct i8237 *dma;
    struct fdc *fdc;
    struct probe irq;
    struct memory_disk disk;
    u8 result[16];
};

static void insert(struct setup *s, u64 size)
{
    free(s->disk.data);
    s->disk = (struct memory_disk){.block = {.ops = &memory_ops, .size = size}, .bad = ~0ull};
    s->disk.data = malloc(size);
    for (u64 i = 0; i < size; i++) s->disk.data[i] = (u8)(i / 512 + i * 3);
}

static struct setup *start(u64 size)
{
    struct setup *s = calloc(1, sizeof(*s));
    s->ports = bus_create("ports", 0x10000);
    s->mem = bus_create("memory", 1ull << 32);
    s->ram = ram_create(0x100000);
    bus_add_ram(s->mem, "ram", 0, 0x100000, 0, s->ram, ram_alloc(s->ram, 0x100000), false);
    s->clock = clock_create_manual();
    s->dma = i8237_create(s->ports, s->mem);
    s->fdc = fdc_create(s->ports, probe_line(&s->irq), s->dma, s->clock);
    insert(s, size);
    fdc_attach(s->fdc, 0, &s->disk.block);
    out8(s->ports, 0xd6, 0xc0);
    out8(s->ports, 0xd4, 0);
    out8(s->ports, DOR, 0x1c);
    out8(s->ports, DIR, size == 2949120 ? 3 : size > 1000000 ? 0 : 2);
    return s;
}

static void finish(struct setup *s)
{
    fdc_device(s->fdc)->cls->destroy(fdc_device(s->fdc));
    i8237_device(s->dma)->cls->destroy(i8237_device(s->dma));
    clock_destroy(s->clock);
    bus_destroy(s->ports);
    bus_destroy(s->mem);
    ram_destroy(s->ram);
    free(s->disk.data);
    free(s);
}

static void send(struct setup *s, unsigned n, const u8 *bytes)
{
    for (unsigned i = 0; i < n; i++) {
        cr_assert_eq(in8(s->ports, MSR) & 0xc0, 0x80, "byte %u of command %02x", i, bytes[0]);
        out8(s->ports, FIFO, bytes[i]);
    }
}
#define SEND(s, ...) send(s, sizeof((u8[]){__VA_ARGS__}), (u8[]){__VA_ARGS__})

static void take(struct setup *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        cr_assert_eq(in8(s->ports, MSR), 0xd0, "result byte %u", i);
        s->result[i] = in8(s->ports, FIFO);
    }
    cr_assert_eq(in8(s->ports, MSR), 0x80);
}

/* The result phase of a data command is this. */
static void expect(struct setup *s, const u8 *bytes)
{
    cr_assert_eq(s->irq.level, 1);
    take(s, 7);
    cr_assert_eq(s->irq.level, 0);
    cr_assert_arr_eq(s->result, bytes, 7, "%02x %02x %02x %02x %02x %02x %02x", s->result[0], s->result[1], s->result[2],
                     s->result[3], s->result[4], s->result[5], s->result[6]);
}
#define EXPECT(s, ...) expect(s, (u8[]){__VA_ARGS__})

static void sense(struct setup *s, u8 st0, u8 cylinder)
{
    SEND(s, 0x08);
    take(s, 2);
    cr_assert_eq(s->result[0], st0, "%02x", s->result[0]);
    cr_assert_eq(s->result[1], cylinder);
}

/* To just after the four interrupts of a reset, with a rate of steps and DMA. */
static void settle(struct setup *s)
{
    for (u8 i = 0; i < 4; i++) sense(s, 0xc0 | i, 0);
    SEND(s, 0x03, 0xdf, 0x02);
}

static void seek(struct setup *s, u8 head, u8 cylinder)
{
    SEND(s, 0x0f, (u8)(head << 2), cylinder);
    sense(s, (u8)(0x20 | head << 2), cylinder);
}

static void program(struct setup *s, u8 mode, u32 addr, u32 len)
{
    out8(s->ports, 0x0a, 0x06);
    out8(s->ports, 0x0c, 0);
    out8(s->ports, 0x04, (u8)addr);
    out8(s->ports, 0x04, (u8)(addr >> 8));
    out8(s->ports, 0x81, (u8)(addr >> 16));
    out8(s->ports, 0x05, (u8)(len - 1));
    out8(s->ports, 0x05, (u8)((len - 1) >> 8));
    out8(s->ports, 0x0b, mode | 2);
    out8(s->ports, 0x0a, 0x02);
}

static void compare(struct setup *s, u32 addr, u64 offset, size_t size)
{
    u8 *got = malloc(size);
    bus_read_block(s->mem, addr, got, size);
    cr_assert_arr_eq(got, s->disk.data + offset, size);
    free(got);
}

Test(fdc, reset_and_identity)
{
    struct setup *s = start(1474560);
    cr_assert_eq(in8(s->ports, MSR), 0x80);
    cr_assert_eq(s->irq.level, 1);
    SEND(s, 0x08);
    cr_assert_eq(s->irq.level, 0);
    take(s, 2);
    for (u8 i = 1; i < 4; i++) sense(s, 0xc0 | i, 0);
    SEND(s, 0x08);
    take(s, 1);
    cr_assert_eq(s->result[0], 0x80, "nothing to sense");
    SEND(s, 0x10);
    take(s, 1);
    cr_assert_eq(s->result[0], 0x90);
    SEND(s, 0x18);
    take(s, 1);
    cr_assert_eq(s->result[0], 0x41);
    SEND(s, 0x1f);
    take(s, 1);
    cr_assert_eq(s->result[0], 0x80, "invalid command");
    out8(s->ports, DOR, 0x18);
    cr_assert_eq(in8(s->ports, MSR), 0, "in reset");
    cr_assert_eq(in8(s->ports, FIFO), 0);
    out8(s->ports, FIFO, 0x10);
    out8(s->ports, DOR, 0x14);
    cr_assert_eq(s->irq.level, 0, "gated");
    out8(s->ports, DOR, 0x1c);
    cr_assert_eq(s->irq.level, 1);
    out8(s->ports, 0x3f3, 0xff);
    cr_assert_eq(in8(s->ports, 0x3f3), 3);
    cr_assert_eq(in8(s->ports, DOR), 0x1c);
    finish(s);
}

Test(fdc, configuration_outlives_resets_when_locked)
{
    struct setup *s = start(1474560);
    settle(s);
    SEND(s, 0x13, 0, 0x5f, 7);
    SEND(s, 0x12, 0x87);
    SEND(s, 0x94);
    take(s, 1);
    cr_assert_eq(s->result[0], 0x10);
    out8(s->ports, MSR, 0x80); /* data rate select: software reset */
    cr_assert_eq(in8(s->ports, MSR), 0x80);
    SEND(s, 0x0e);
    take(s, 10);
    const u8 locked[10] = {0, 0, 0, 0, 0xdf, 0x02, 0, 0x84, 0x5f, 7};
    cr_assert_arr_eq(s->result, locked, 10);
    cr_assert_eq(s->irq.level, 0, "CONFIGURE has switched polling off");
    SEND(s, 0x14);
    take(s, 1);
    out8(s->ports, MSR, 0x80);
    settle(s);
    SEND(s, 0x0e);
    take(s, 10);
    const u8 unlocked[10] = {0, 0, 0, 0, 0xdf, 0x02, 0, 0x04, 0x20, 0};
    cr_assert_arr_eq(s->result, unlocked, 10);
    SEND(s, 0x8e, 0x01, 0x02, 0xc0);
    cr_assert_eq(in8(s->ports, MSR), 0x80, "no result asked for");
    SEND(s, 0x8e, 0x80);
    take(s, 4);
    finish(s);
}

Test(fdc, seeks_and_the_change_line)
{
    struct setup *s = start(1474560);
    settle(s);
    cr_assert_eq(in8(s->ports, DIR), 0x80);
    SEND(s, 0x07, 0);
    sense(s, 0x20, 0);
    cr_assert_eq(in8(s->ports, DIR), 0x80, "no step, no change");
    seek(s, 1, 5);
    cr_assert_eq(in8(s->ports, DIR), 0);
    SEND(s, 0x04, 4);
    take(s, 1);
    cr_assert_eq(s->result[0], 0x2c);
    SEND(s, 0xcf, 0, 3); /* relative, inwards */
    sense(s, 0x20, 8);
    SEND(s, 0x8f, 0, 200);
    sense(s, 0x20, (u8)(8 - 200));
    SEND(s, 0x04, 0);
    take(s, 1);
    cr_assert_eq(s->result[0], 0x38, "track 0");
    fdc_change_medium(s->fdc, 0, NULL);
    seek(s, 0, 10);
    cr_assert_eq(in8(s->ports, DIR), 0x80, "empty");
    s->disk.block.readonly = true;
    fdc_change_medium(s->fdc, 0, &s->disk.block);
    cr_assert_eq(in8(s->ports, DIR), 0x80);
    seek(s, 0, 11);
    cr_assert_eq(in8(s->ports, DIR), 0);
    SEND(s, 0x04, 0);
    take(s, 1);
    cr_assert_eq(s->result[0], 0x68, "write protected");
    SEND(s, 0x07, 1);
    sense(s, 0x71, 0);
    out8(s->ports, DOR, 0x2d);
    cr_assert_eq(in8(s->ports, DIR), 0, "there is no drive B");
    finish(s);
}

Test(fdc, reads_over_both_heads_by_dma)
{
    struct setup *s = start(1474560);
    settle(s);
    seek(s, 0, 3);
    program(s, 0x44, 0x10000, 30 * 512);
    SEND(s, 0xe6, 0x00, 3, 0, 17, 2, 18, 0x1b, 0xff); /* MT: sectors 17 and 18, then head 1 */
    EXPECT(s, 0x44, 0x80, 0, 4, 0, 1, 2); /* head 1 ends before the host has all */
    compare(s, 0x10000, (3 * 36 + 16) * 512, 20 * 512);
    program(s, 0x44, 0x20000, 700);
    SEND(s, 0xe6, 0x00, 3, 0, 18, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x04, 0, 0, 3, 1, 2, 2);
    compare(s, 0x20000, (3 * 36 + 17) * 512, 700);
    cr_assert_eq(bus_read(s->mem, 0x20000 + 700, 1), 0);
    program(s, 0x44, 0x20000, 512);
    SEND(s, 0x46, 0x04, 3, 1, 18, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x04, 0, 0, 4, 1, 1, 2);
    compare(s, 0x20000, (3 * 36 + 35) * 512, 512);
    finish(s);
}

Test(fdc, exactly_what_was_asked_for)
{
    struct setup *s = start(1474560);
    settle(s);
    program(s, 0x44, 0x10000, 36 * 512);
    SEND(s, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x04, 0, 0, 1, 0, 1, 2);
    compare(s, 0x10000, 0, 36 * 512);
    SEND(s, 0x4a, 0x04);
    EXPECT(s, 0x04, 0, 0, 0, 1, 1, 2);
    SEND(s, 0x4a, 0x04);
    EXPECT(s, 0x04, 0, 0, 0, 1, 2, 2);
    SEND(s, 0x42, 0x00, 0, 0, 9, 2, 2, 0x1b, 0xff); /* READ TRACK begins at the index hole */
    clock_advance(s->clock, NS_PER_SECOND / 2);
    program(s, 0x44, 0x30000, 2048);
    clock_advance(s->clock, NS_PER_SECOND / 100);
    EXPECT(s, 0x00, 0, 0, 0, 0, 3, 2);
    compare(s, 0x30000, 0, 1024);
    SEND(s, 0x56, 0x80, 0, 0, 5, 2, 18, 0x1b, 4); /* VERIFY 4 sectors */
    EXPECT(s, 0x00, 0, 0, 0, 0, 9, 2);
    SEND(s, 0x56, 0x80, 0, 0, 5, 2, 18, 0x1b, 20);
    EXPECT(s, 0x40, 0x80, 0, 1, 0, 1, 2);
    finish(s);
}

Test(fdc, writes_and_formats)
{
    struct setup *s = start(737280);
    settle(s);
    seek(s, 1, 79);
    for (u32 i = 0; i < 1000; i++) bus_write(s->mem, 0x40000 + i, i * 5 + 1, 1);
    program(s, 0x48, 0x40000, 700);
    SEND(s, 0xc5, 0x04, 79, 1, 8, 2, 9, 0x2a, 0xff);
    EXPECT(s, 0x04, 0, 0, 80, 0, 1, 2);
    compare(s, 0x40000, 737280 - 1024, 700);
    for (int i = 700; i < 1024; i++) cr_assert_eq(s->disk.data[737280 - 1024 + i], 0, "a sector is filled up");
    for (u32 i = 0; i < 9; i++) bus_write(s->mem, 0x50000 + 4 * i, 79 | 1 << 8 | (i * 4 % 9 + 1) << 16 | 2 << 24, 4);
    program(s, 0x48, 0x50000, 36);
    SEND(s, 0x4d, 0x04, 2, 9, 0x50, 0xf6);
    EXPECT(s, 0x04, 0, 0, 79, 1, 6, 2);
    for (u64 i = 737280 - 9 * 512; i < 737280; i++) cr_assert_eq(s->disk.data[i], 0xf6);
    cr_assert_neq(s->disk.data[737280 - 9 * 512 - 1], 0xf6);
    bus_write(s->mem, 0x50000, 79 | 1 << 8 | 10 << 16 | 2 << 24, 4);
    program(s, 0x48, 0x50000, 40);
    SEND(s, 0x4d, 0x04, 2, 10, 0x50, 0xf6);
    cr_assert_eq(s->irq.level, 1);
    take(s, 7);
    cr_assert_eq(s->result[0], 0x44, "a tenth sector does not fit");
    s->disk.block.readonly = true;
    unsigned before = s->disk.writes;
    SEND(s, 0x45, 0x04, 79, 1, 8, 2, 9, 0x2a, 0xff);
    EXPECT(s, 0x44, 0x02, 0, 79, 1, 8, 2);
    cr_assert_eq(s->disk.writes, before);
    finish(s);
}

Test(fdc, pio)
{
    struct setup *s = start(1474560);
    settle(s);
    SEND(s, 0x03, 0xdf, 0x03);
    SEND(s, 0x46, 0x00, 0, 0, 18, 2, 18, 0x1b, 0xff);
    for (int i = 0; i < 512; i++) {
        cr_assert_eq(in8(s->ports, MSR), 0xf0);
        cr_assert_eq(s->irq.level, 1);
        cr_assert_eq(in8(s->ports, FIFO), s->disk.data[17 * 512 + i]);
    }
    EXPECT(s, 0x40, 0x80, 0, 1, 0, 1, 2); /* nothing says "enough" in PIO */
    SEND(s, 0x45, 0x00, 0, 0, 18, 2, 18, 0x1b, 0xff);
    for (int i = 0; i < 512; i++) {
        cr_assert_eq(in8(s->ports, MSR), 0xb0);
        out8(s->ports, FIFO, (u8)(i ^ 0x55));
    }
    EXPECT(s, 0x40, 0x80, 0, 1, 0, 1, 2);
    for (int i = 0; i < 512; i++) cr_assert_eq(s->disk.data[17 * 512 + i], (u8)(i ^ 0x55));
    finish(s);
}

Test(fdc, sectors_that_are_not_there)
{
    struct setup *s = start(1474560);
    settle(s);
    program(s, 0x44, 0x10000, 512);
    SEND(s, 0x46, 0x00, 0, 0, 19, 2, 19, 0x1b, 0xff);
    EXPECT(s, 0x40, 0x04, 0, 0, 0, 19, 2);
    SEND(s, 0x46, 0x00, 0, 0, 0, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x40, 0x04, 0, 0, 0, 0, 2);
    SEND(s, 0x46, 0x00, 0, 1, 1, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x40, 0x04, 0, 0, 1, 1, 2);
    SEND(s, 0x46, 0x00, 0, 0, 1, 3, 18, 0x1b, 0xff);
    EXPECT(s, 0x40, 0x04, 0, 0, 0, 1, 3);
    SEND(s, 0x46, 0x00, 7, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x40, 0x04, 0x10, 7, 0, 1, 2);
    SEND(s, 0x06, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff); /* FM */
    EXPECT(s, 0x40, 0x01, 0, 0, 0, 1, 2);
    SEND(s, 0x46, 0x01, 0, 0, 1, 2, 18, 0x1b, 0xff); /* no drive B */
    EXPECT(s, 0x41, 0x01, 0, 0, 0, 1, 2);
    SEND(s, 0x0f, 0, 82);
    sense(s, 0x20, 82);
    SEND(s, 0x46, 0x00, 82, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x40, 0x01, 0, 82, 0, 1, 2);
    SEND(s, 0x13, 0, 0x60, 0); /* implied seeks */
    SEND(s, 0x46, 0x00, 2, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x00, 0, 0, 2, 0, 2, 2);
    compare(s, 0x10000, 2 * 36 * 512, 512);
    out8(s->ports, DIR, 2);
    SEND(s, 0x4a, 0x00);
    EXPECT(s, 0x40, 0x01, 0, 0, 0, 0, 0); /* at another data rate */
    out8(s->ports, DIR, 0);
    s->disk.bad = 2 * 36 * 512 + 512;
    program(s, 0x44, 0x10000, 1024);
    SEND(s, 0x46, 0x00, 2, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x40, 0x20, 0x20, 2, 0, 2, 2);
    SEND(s, 0x6c, 0x00, 2, 0, 1, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x40, 0x04, 0x40, 2, 0, 1, 2);
    finish(s);
}

Test(fdc, nobody_sets_up_dma)
{
    struct setup *s = start(1474560);
    settle(s);
    SEND(s, 0x46, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    cr_assert_eq(in8(s->ports, MSR), 0x10);
    clock_advance(s->clock, 2 * NS_PER_SECOND);
    EXPECT(s, 0x40, 0x10, 0, 0, 0, 1, 2);
    program(s, 0x48, 0x10000, 512); /* the wrong direction */
    SEND(s, 0x46, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    clock_advance(s->clock, 2 * NS_PER_SECOND);
    EXPECT(s, 0x40, 0x10, 0, 0, 0, 1, 2);
    finish(s);
}

Test(fdc, reset_while_the_disk_works)
{
    struct setup *s = start(1474560);
    settle(s);
    s->disk.slow = true;
    program(s, 0x44, 0x10000, 512);
    SEND(s, 0x46, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    cr_assert_not_null(s->disk.waiting);
    cr_assert_eq(in8(s->ports, MSR), 0x10);
    out8(s->ports, DOR, 0x18);
    out8(s->ports, DOR, 0x1c);
    settle(s);
    SEND(s, 0x46, 0x00, 0, 0, 5, 2, 18, 0x1b, 0xff);
    cr_assert_eq(in8(s->ports, MSR), 0x10);
    let_go(&s->disk); /* of the first command */
    cr_assert_eq(in8(s->ports, MSR), 0x10);
    let_go(&s->disk);
    EXPECT(s, 0x00, 0, 0, 0, 0, 6, 2);
    compare(s, 0x10000, 4 * 512, 512);
    SEND(s, 0x46, 0x00, 0, 0, 5, 2, 18, 0x1b, 0xff);
    fdc_device(s->fdc)->cls->reset(fdc_device(s->fdc));
    let_go(&s->disk);
    cr_assert_eq(s->irq.level, 0);
    finish(s);
}

Test(fdc, ejected_while_a_track_is_formatted)
{
    struct setup *s = start(737280);
    settle(s);
    SEND(s, 0x03, 0xdf, 0x03); /* without DMA */
    SEND(s, 0x4d, 0x00, 2, 9, 0x50, 0xf6);
    for (u8 i = 0; i < 3; i++) out8(s->ports, FIFO, 0);
    fdc_change_medium(s->fdc, 0, NULL);
    out8(s->ports, FIFO, 2);
    EXPECT(s, 0x40, 0x01, 0, 0, 0, 0, 2);
    cr_assert_eq(s->disk.writes, 0);
    finish(s);
}

/* The sanitizers see to it that the request's memory is there until its end, and not longer. */
Test(fdc, destroyed_while_the_disk_works)
{
    struct setup *s = start(1474560);
    struct memory_disk disk;
    settle(s);
    s->disk.slow = true;
    program(s, 0x44, 0x10000, 512);
    SEND(s, 0x46, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    disk = s->disk;
    s->disk.data = NULL;
    finish(s);
    let_go(&disk);
    cr_assert_null(disk.waiting, "nothing follows");
    free(disk.data);
}

Test(fdc, kinds_of_disks)
{
    cr_assert_eq(fdc_drive_type(1474560), 4);
    cr_assert_eq(fdc_drive_type(1228800), 2);
    cr_assert_eq(fdc_drive_type(737280), 4);
    cr_assert_eq(fdc_drive_type(368640), 1);
    cr_assert_eq(fdc_drive_type(163840), 1);
    cr_assert_eq(fdc_drive_type(2949120), 5);
    cr_assert_eq(fdc_drive_type(1296384), 4, "not full");
    cr_assert_eq(fdc_drive_type(2949120 + 512), 0);
    cr_assert_eq(fdc_drive_type(0), 0);
    struct setup *s = start(512 * 20); /* the image ends on the second head's track */
    out8(s->ports, DIR, 0);
    settle(s);
    program(s, 0x44, 0x10000, 4 * 512);
    SEND(s, 0xe6, 0x00, 0, 0, 18, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x04, 0, 0, 0, 1, 4, 2);
    compare(s, 0x10000, 17 * 512, 3 * 512);
    for (int i = 0; i < 512; i++) cr_assert_eq(bus_read(s->mem, 0x10000 + 3 * 512 + i, 1), 0);
    program(s, 0x48, 0x10000, 512);
    SEND(s, 0x45, 0x04, 0, 1, 3, 2, 18, 0x1b, 0xff);
    EXPECT(s, 0x44, 0x20, 0x20, 0, 1, 3, 2);
    finish(s);
}

/* Anything at all may come; the disk's bounds are checked by serve(). */
Test(fdc, random_bytes)
{
    for (u32 seed = 1; seed < 40; seed++) {
        struct setup *s = start(seed & 1 ? 1474560 : 10 * 512);
        u32 x = seed * 2654435761u;
        for (int i = 0; i < 4000; i++) {
            x = x * 1664525 + 1013904223;
            u8 value = (u8)(x >> 24), what = x >> 16 & 15;
            static const u8 opcodes[] = {0xe6, 0xc5, 0x4d, 0x42, 0x56, 0x4a, 0x0f, 0x07, 0x08, 0x03, 0x13, 0x8e, 0xcf, 0x6c};
            if (what == 0) program(s, value & 0x1c, x & 0xfffff, x >> 20);
            if (what == 1 && !(value & 7)) out8(s->ports, DOR, value);
            if (what == 2) out8(s->ports, DIR, value & 3);
            if (what == 3) clock_advance(s->clock, NS_PER_SECOND / 10);
            if (what == 4) s->disk.slow = value & 1;
            if (what == 5 && s->disk.waiting) let_go(&s->disk);
            if (what > 5 && what < 10) in8(s->ports, FIFO);
            if (what == 10) out8(s->ports, FIFO, opcodes[value % sizeof(opcodes)]);
            if (what > 10) out8(s->ports, FIFO, value % 21);
        }
        if (s->disk.waiting) let_go(&s->disk);
        out8(s->ports, DOR, 0);
        out8(s->ports, DOR, 0x0c);
        cr_assert_eq(in8(s->ports, MSR), 0x80, "seed %u", seed);
        finish(s);
    }
}
