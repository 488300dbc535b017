/* The two cascaded 8237A DMA controllers of the PC and the page registers at 0x80-0x8f.
 *
 * Models all registers, single masks, auto-initialize, both address directions, terminal count, and transfers
 * that a device asks for. Page registers without a channel are scratch bytes; 0x80 is where firmware posts.
 * Leaves out memory-to-memory transfers, which a PC's wiring does not allow (the cascade is on channel 4),
 * bus timing, and software requests, which only set the status bit.
 *
 * [8237A] Intel 8237A High Performance Programmable DMA Controller, 231466-005
 * [PIIX3] Intel 82371SB, 290550-002, section 2.5.1 */
#include "devices/i8237.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

#define CHANNEL_CASCADE 4

/* mode register: bits 7-6 demand, single, block, cascade */
#define MODE_DECREMENT 0x20
#define MODE_AUTO_INIT 0x10
#define MODE_TYPE      0x0c
#define TYPE_VERIFY    0x00
#define TYPE_WRITE     0x04 /* device to memory */
#define TYPE_READ      0x08 /* memory to device */

#define COMMAND_DISABLE 0x04

struct channel {
    u16 base_address; /* what auto-initialize goes back to */
    u16 base_count;   /* likewise */
    u16 address;      /* current; in words on channels 4 to 7 */
    u16 count;        /* transfers left minus 1; 0xffff after terminal count */
    u8 mode;          /* mode register, bits 7-2 */
};

struct controller {
    struct channel ch[4]; /* channels 0-3, or 4-7 */
    u8 command;           /* command register */
    u8 mask;              /* bit per channel, 1: masked */
    u8 status;            /* bits 3-0: terminal count reached, until read */
    u8 requests;          /* bit per channel: DREQ is high */
    u8 software;          /* bit per channel: request register */
    bool high_byte;       /* the flip-flop: the next address or count access is the high byte */
    unsigned shift;       /* 1: addresses and ports count words */
};

struct i8237 {
    struct device dev;         /* what the machine sees */
    struct bus *mem;           /* where transfers go */
    struct controller ctl[2];  /* 8-bit, 16-bit */
    u8 page[16];               /* ports 0x80-0x8f */
    struct region *regions[3]; /* 0x00, 0xc0, 0x80 */
};

/* Which page register belongs to a channel [PIIX3] 2.5.1.9; channel 4's is the refresh page. */
static const u8 page_of[8] = {0x7, 0x3, 0x1, 0x2, 0xf, 0xb, 0x9, 0xa};

/* ---- registers ---- */

static void write_half(struct controller *c, u16 *reg, u8 value)
{
    *reg = c->high_byte ? (*reg & 0x00ff) | value << 8 : (*reg & 0xff00) | value;
}

static void write_channel(struct controller *c, unsigned reg, u8 value)
{
    struct channel *ch = &c->ch[reg >> 1];
    /* [8237A]: base and current registers are written together. */
    if (reg & 1) {
        write_half(c, &ch->base_count, value);
        write_half(c, &ch->count, value);
    } else {
        write_half(c, &ch->base_address, value);
        write_half(c, &ch->address, value);
    }
    c->high_byte = !c->high_byte;
}

static void set_bit(u8 *bits, u8 value)
{
    u8 bit = 1 << (value & 3);
    *bits = value & 4 ? *bits | bit : *bits & ~bit;
}

static void master_clear(struct controller *c)
{
    c->command = c->status = c->software = 0;
    c->mask = 0x0f;
    c->high_byte = false;
}

static u64 controller_read(void *opaque, u64 offset, unsigned size)
{
    struct controller *c = opaque;
    unsigned reg = offset >> c->shift;
    u8 value;
    (void)size;
    if (reg < 8) {
        u16 whole = reg & 1 ? c->ch[reg >> 1].count : c->ch[reg >> 1].address;
        value = c->high_byte ? whole >> 8 : whole;
        c->high_byte = !c->high_byte;
        return value;
    }
    switch (reg) {
    case 0x8:
        value = c->status | (c->requests | c->software) << 4;
        c->status = 0;
        return value;
    case 0xd: return 0;              /* temporary register: memory-to-memory only */
    case 0xf: return 0xf0 | c->mask; /* as in later chipsets; the 8237A has nothing to read here */
    default: return 0xff;
    }
}

static void controller_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct controller *c = opaque;
    unsigned reg = offset >> c->shift;
    (void)size;
    if (reg < 8) {
        write_channel(c, reg, value);
        return;
    }
    switch (reg) {
    case 0x8: c->command = value; break;
    case 0x9: set_bit(&c->software, value); break;
    case 0xa: set_bit(&c->mask, value); break;
    case 0xb: c->ch[value & 3].mode = value & 0xfc; break;
    case 0xc: c->high_byte = false; break;
    case 0xd: master_clear(c); break;
    case 0xe: c->mask = 0; break;
    default: c->mask = value & 0x0f; break;
    }
}

static u64 page_read(void *opaque, u64 offset, unsigned size)
{
    struct i8237 *d = opaque;
    (void)size;
    return d->page[offset];
}

static void page_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct i8237 *d = opaque;
    (void)size;
    d->page[offset] = value;
    if (offset == 0) log_printf(LOG_FIRMWARE, "POST %02x\n", (unsigned)(u8)value);
}

static const struct region_ops controller_ops = {controller_read, controller_write, 1, 1};
static const struct region_ops page_ops = {page_read, page_write, 1, 1};

/* ---- transfers ---- */

void i8237_request(struct i8237 *d, unsigned channel, bool level)
{
    struct controller *c = &d->ctl[channel >> 2 & 1];
    u8 bit = 1 << (channel & 3);
    c->requests = level ? c->requests | bit : c->requests & ~bit;
}

bool i8237_ready(const struct i8237 *d, unsigned channel)
{
    const struct controller *c = &d->ctl[channel >> 2 & 1], *cascade = &d->ctl[1];
    if (channel > 7 || channel == CHANNEL_CASCADE) return false;
    if ((c->mask & (1 << (channel & 3))) || (c->command & COMMAND_DISABLE)) return false;
    /* The first controller reaches the bus through channel 4 of the second. */
    return c == cascade || !((cascade->mask & 1) || (cascade->command & COMMAND_DISABLE));
}

u32 i8237_left(const struct i8237 *d, unsigned channel)
{
    const struct controller *c = &d->ctl[channel >> 2 & 1];
    return ((u32)c->ch[channel & 3].count + 1) << c->shift;
}

/* The physical address of the channel's next transfer: on channels 5 to 7 the page's bit 0 is not used. */
static gpa transfer_address(const struct i8237 *d, const struct controller *c, unsigned channel)
{
    u8 page = d->page[page_of[channel]];
    u16 address = c->ch[channel & 3].address;
    if (!c->shift) return (gpa)page << 16 | address;
    return (gpa)(page & 0xfe) << 16 | (gpa)address << 1;
}

static void copy(struct i8237 *d, gpa addr, u8 *buf, u64 size, u8 type)
{
    if (type == TYPE_WRITE)
        bus_write_block(d->mem, addr, buf, size);
    else if (type == TYPE_READ)
        bus_read_block(d->mem, addr, buf, size);
}

static void terminal_count(struct controller *c, unsigned channel)
{
    struct channel *ch = &c->ch[channel & 3];
    u8 bit = 1 << (channel & 3);
    c->status |= bit;
    c->software &= ~bit;
    if (ch->mode & MODE_AUTO_INIT) {
        ch->address = ch->base_address;
        ch->count = ch->base_count;
    } else {
        c->mask |= bit;
    }
}

size_t i8237_transfer(struct i8237 *d, unsigned channel, void *buf, size_t len, bool device_reads, bool *tc)
{
    if (tc) *tc = false;
    if (!i8237_ready(d, channel)) return 0;
    struct controller *c = &d->ctl[channel >> 2];
    struct channel *ch = &c->ch[channel & 3];
    u8 type = ch->mode & MODE_TYPE;
    if (type != TYPE_VERIFY && type != (device_reads ? TYPE_READ : TYPE_WRITE)) return 0;

    size_t left = i8237_left(d, channel);
    size_t total = MIN(len, left) >> c->shift << c->shift;
    size_t unit = 1u << c->shift;
    for (size_t done = 0; done < total;) {
        /* The address counts within its 16 bits, so that a block wraps at the end of the page. */
        size_t run =
            ch->mode & MODE_DECREMENT ? unit : MIN(total - done, (size_t)(0x10000 - ch->address) << c->shift);
        copy(d, transfer_address(d, c, channel), (u8 *)buf + done, run, type);
        done += run;
        ch->address += ch->mode & MODE_DECREMENT ? -1 : (int)(run >> c->shift);
    }
    ch->count -= total >> c->shift;
    if (total == left) {
        terminal_count(c, channel);
        if (tc) *tc = true;
    }
    return total;
}

/* ---- the device ---- */

static void i8237_reset(struct device *dev)
{
    struct i8237 *d = container_of(dev, struct i8237, dev);
    for (unsigned i = 0; i < 2; i++) {
        struct controller *c = &d->ctl[i];
        memset(c->ch, 0, sizeof(c->ch));
        master_clear(c);
    }
    memset(d->page, 0, sizeof(d->page));
}

static void i8237_destroy(struct device *dev)
{
    struct i8237 *d = container_of(dev, struct i8237, dev);
    for (size_t i = 0; i < ARRAY_LEN(d->regions); i++)
        region_remove(d->regions[i]);
    free(d);
}

static const struct device_class i8237_class = {"i8237", i8237_reset, i8237_destroy};

struct device *i8237_device(struct i8237 *d) { return &d->dev; }

struct i8237 *i8237_create(struct bus *ports, struct bus *mem)
{
    struct i8237 *d = calloc(1, sizeof(*d));
    if (!d) {
        fprintf(stderr, "calque: i8237: out of memory\n");
        return NULL;
    }
    d->dev.cls = &i8237_class;
    d->mem = mem;
    for (unsigned i = 0; i < 2; i++) {
        d->ctl[i].shift = i;
    }
    d->regions[0] = bus_add(ports, "i8237-8bit", 0x00, 0x10, 0, &controller_ops, &d->ctl[0]);
    d->regions[1] = bus_add(ports, "i8237-16bit", 0xc0, 0x20, 0, &controller_ops, &d->ctl[1]);
    d->regions[2] = bus_add(ports, "i8237-pages", 0x80, 0x10, 0, &page_ops, d);
    i8237_reset(&d->dev);
    return d;
}
