/* The 8254 programmable interval timer and the port 0x61 that belongs to it. */
#ifndef DEVICES_I8254_H
#define DEVICES_I8254_H

#include "core/bus.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/irq.h"

struct i8254;

#define I8254_HZ 1193182 /* the PC's timer clock: 14.31818 MHz / 12 */

/* ports: 0x40-0x43 and 0x61. irq0: OUT of channel 0, both edges. NULL when memory is short. */
struct i8254 *i8254_create(struct bus *ports, struct irq_line irq0, struct clock *clock);
struct device *i8254_device(struct i8254 *p);

#endif
