/* The PC test device of bare-metal test suites. What they rely on:
 *
 *   0xe0-0xe3      a 32-bit register, read and written in any piece and size
 *   0xe4-0xe7      32-bit write: drop cached translations of the page at that physical address; reads 0
 *   0xe8-0xeb      the register at 0xe0 again, byte by byte
 *   0x2000-0x2017  writing n sets the level of global system interrupt (port - 0x2000) to n != 0; reads 0
 *   0xff000000     64 KiB of memory that is reached like a device
 *
 * Dropping translations needs no work here: they are kept coherent with the map. */
#include "devices/pc_testdev.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IOMEM_BASE 0xff000000u
#define IOMEM_SIZE 0x10000u

struct pc_testdev {
    struct device dev;                       /* what the machine sees */
    struct irq_line lines[PC_TESTDEV_LINES]; /* global system interrupts */
    struct region *regions[5];               /* register, flush, register by bytes, lines, memory */
    u32 data;                                /* the register */
    u8 iomem[IOMEM_SIZE];                    /* the memory */
};

static u64 register_read(void *opaque, u64 offset, unsigned size)
{
    struct pc_testdev *t = opaque;
    return t->data >> offset * 8 & (0xffffffffu >> (32 - size * 8));
}

static void register_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct pc_testdev *t = opaque;
    u32 mask = 0xffffffffu >> (32 - size * 8) << offset * 8;
    t->data = (t->data & ~mask) | ((u32)value << offset * 8 & mask);
}

static u64 zero_read(void *opaque, u64 offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    return 0;
}

static void flush_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    (void)opaque, (void)offset, (void)value, (void)size;
}

static void lines_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct pc_testdev *t = opaque;
    (void)size;
    irq_set(&t->lines[offset], value != 0);
}

static u64 iomem_read(void *opaque, u64 offset, unsigned size)
{
    struct pc_testdev *t = opaque;
    u64 value = 0;
    if (offset + size <= IOMEM_SIZE) memcpy(&value, t->iomem + offset, size);
    return value;
}

static void iomem_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct pc_testdev *t = opaque;
    if (offset + size <= IOMEM_SIZE) memcpy(t->iomem + offset, &value, size);
}

static const struct region_ops register_ops = {register_read, register_write, 1, 4};
static const struct region_ops bytes_ops = {register_read, register_write, 1, 1};
static const struct region_ops flush_ops = {zero_read, flush_write, 1, 4};
static const struct region_ops lines_ops = {zero_read, lines_write, 1, 1};
static const struct region_ops iomem_ops = {iomem_read, iomem_write, 1, 8};

static void pc_testdev_reset(struct device *d)
{
    struct pc_testdev *t = container_of(d, struct pc_testdev, dev);
    t->data = 0;
    memset(t->iomem, 0, sizeof(t->iomem));
}

static void pc_testdev_destroy(struct device *d)
{
    struct pc_testdev *t = container_of(d, struct pc_testdev, dev);
    for (size_t i = 0; i < ARRAY_LEN(t->regions); i++)
        region_remove(t->regions[i]);
    free(t);
}

static const struct device_class pc_testdev_class = {"pc_testdev", pc_testdev_reset, pc_testdev_destroy};

struct device *pc_testdev_create(struct bus *ports, struct bus *mem,
                                 const struct irq_line lines[PC_TESTDEV_LINES])
{
    struct pc_testdev *t = calloc(1, sizeof(*t));
    if (!t) {
        fprintf(stderr, "calque: pc_testdev: out of memory\n");
        return NULL;
    }
    t->dev.cls = &pc_testdev_class;
    memcpy(t->lines, lines, sizeof(t->lines));
    /* Priority 1: a debug port at 0xe9 lies below. */
    t->regions[0] = bus_add(ports, "pc_testdev-register", 0xe0, 4, 1, &register_ops, t);
    t->regions[1] = bus_add(ports, "pc_testdev-flush", 0xe4, 4, 1, &flush_ops, t);
    t->regions[2] = bus_add(ports, "pc_testdev-bytes", 0xe8, 4, 1, &bytes_ops, t);
    t->regions[3] = bus_add(ports, "pc_testdev-lines", 0x2000, PC_TESTDEV_LINES, 1, &lines_ops, t);
    t->regions[4] = bus_add(mem, "pc_testdev-memory", IOMEM_BASE, IOMEM_SIZE, 1, &iomem_ops, t);
    return &t->dev;
}
