/* The keyboard controller of a PS/2 compatible PC. */
#ifndef DEVICES_I8042_H
#define DEVICES_I8042_H

#include "core/bus.h"
#include "core/device.h"
#include "core/irq.h"
#include "devices/ps2.h"

struct i8042;

/* ports: 0x60 and 0x64. irq1: keyboard data; irq12: mouse data. a20: level of the A20 gate, driven at reset
 * (1) and whenever the guest writes it. reset: pulsed to reset the machine. keyboard, mouse: may be NULL, and
 * are not owned. NULL when memory is short. */
struct i8042 *i8042_create(struct bus *ports, struct irq_line irq1, struct irq_line irq12,
                           struct irq_line a20, struct irq_line reset, struct ps2_device *keyboard,
                           struct ps2_device *mouse);
struct device *i8042_device(struct i8042 *k);

/* Somebody else (port 0x92) moved the A20 gate: the output port shows it. */
void i8042_note_a20(struct i8042 *k, bool on);

#endif
