/* The isa-debug-exit test device: accesses of 1, 2 and 4 bytes; reads give 0. */
#include "devices/isa_debug_exit.h"

#include <stdio.h>
#include <stdlib.h>

struct isa_debug_exit {
    struct device dev;                      /* what the machine sees */
    struct region *region;                  /* the ports */
    void (*exit)(void *opaque, int status); /* the machine's */
    void *opaque;                           /* for exit() */
};

static u64 isa_debug_exit_read(void *opaque, u64 offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    return 0;
}

static void isa_debug_exit_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct isa_debug_exit *e = opaque;
    (void)offset, (void)size;
    e->exit(e->opaque, (int)((u32)value << 1 | 1));
}

static const struct region_ops isa_debug_exit_ops = {isa_debug_exit_read, isa_debug_exit_write, 1, 4};

static void isa_debug_exit_reset(struct device *d) { (void)d; }

static void isa_debug_exit_destroy(struct device *d)
{
    struct isa_debug_exit *e = container_of(d, struct isa_debug_exit, dev);
    region_remove(e->region);
    free(e);
}

static const struct device_class isa_debug_exit_class = {"isa_debug_exit", isa_debug_exit_reset,
                                                         isa_debug_exit_destroy};

struct device *isa_debug_exit_create(struct bus *ports, u16 iobase, u16 iosize,
                                     void (*exit)(void *opaque, int status), void *opaque)
{
    struct isa_debug_exit *e = calloc(1, sizeof(*e));
    if (!e) {
        fprintf(stderr, "calque: isa_debug_exit: out of memory\n");
        return NULL;
    }
    e->dev.cls = &isa_debug_exit_class;
    e->exit = exit;
    e->opaque = opaque;
    e->region = bus_add(ports, "isa_debug_exit", iobase, iosize, 0, &isa_debug_exit_ops, e);
    return &e->dev;
}
