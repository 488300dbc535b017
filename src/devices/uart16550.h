/* A 16550A serial port. */
#ifndef DEVICES_UART16550_H
#define DEVICES_UART16550_H

#include "core/bus.h"
#include "core/chardev.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/irq.h"

/* Eight ports from base. chr may be NULL: output vanishes. NULL when memory is short. */
struct device *uart16550_create(struct bus *ports, u16 base, struct irq_line irq, struct clock *clock,
                                struct chardev *chr);

#endif
