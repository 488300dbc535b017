/* The PC's parallel port (LPT). */
#ifndef DEVICES_PARALLEL_H
#define DEVICES_PARALLEL_H

#include "core/bus.h"
#include "core/chardev.h"
#include "core/device.h"
#include "core/irq.h"

/* ports base to base + 2. chardev: where printed bytes go, may be NULL. NULL with a message. */
struct device *parallel_create(struct bus *ports, u16 base, struct irq_line irq, struct chardev *chardev);

#endif
