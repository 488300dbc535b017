/* A one-byte debug port, as Bochs introduced it at 0xe9 and SeaBIOS uses it at 0x402. */
#include "devices/debug_port.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"

struct debug_port {
    struct device dev;     /* what the machine sees */
    struct chardev *chr;   /* where bytes go, or NULL */
    struct region *region; /* the port */
    u8 readback;           /* what a read gives */
    unsigned used;         /* bytes in line */
    char line[256];        /* the line that is being written, for the log */
};

static void flush_line(struct debug_port *p)
{
    if (p->used) log_printf(LOG_FIRMWARE, "%.*s\n", (int)p->used, p->line);
    p->used = 0;
}

static u64 debug_port_read(void *opaque, u64 offset, unsigned size)
{
    struct debug_port *p = opaque;
    (void)offset, (void)size;
    return p->readback;
}

static void debug_port_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct debug_port *p = opaque;
    u8 byte = value;
    (void)offset, (void)size;
    chardev_write(p->chr, &byte, 1);
    if (!log_enabled(LOG_FIRMWARE)) return;
    if (byte == '\n' || p->used == sizeof(p->line)) flush_line(p);
    if (byte != '\n') p->line[p->used++] = byte;
}

static const struct region_ops debug_port_ops = {debug_port_read, debug_port_write, 1, 1};

static void debug_port_reset(struct device *d) { flush_line(container_of(d, struct debug_port, dev)); }

static void debug_port_destroy(struct device *d)
{
    struct debug_port *p = container_of(d, struct debug_port, dev);
    flush_line(p);
    region_remove(p->region);
    free(p);
}

static const struct device_class debug_port_class = {"debug_port", debug_port_reset, debug_port_destroy};

struct device *debug_port_create(struct bus *ports, u16 port, u8 readback, struct chardev *chr)
{
    struct debug_port *p = calloc(1, sizeof(*p));
    if (!p) {
        fprintf(stderr, "calque: debug_port: out of memory\n");
        return NULL;
    }
    p->dev.cls = &debug_port_class;
    p->chr = chr;
    p->readback = readback;
    p->region = bus_add(ports, "debug_port", port, 1, 0, &debug_port_ops, p);
    return &p->dev;
}
