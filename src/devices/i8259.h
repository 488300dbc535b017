/* Two cascaded 8259A interrupt controllers, as wired in a PC. */
#ifndef DEVICES_I8259_H
#define DEVICES_I8259_H

#include <stdio.h>

#include "core/bus.h"
#include "core/device.h"
#include "core/irq.h"

struct i8259;

/* ports: 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1. intr_out: the master's INT pin. NULL when memory is short. */
struct i8259 *i8259_create(struct bus *ports, struct irq_line intr_out);
struct device *i8259_device(struct i8259 *p);

/* Input 0..15. Input 2 is taken by the cascade: its line is not connected. */
struct irq_line i8259_input(struct i8259 *p, int irq);

/* The interrupt acknowledge cycle: the vector that the pair puts on the bus. With nothing to deliver it is
 * the vector of the spurious interrupt (input 7 or 15). */
int i8259_ack(struct i8259 *p);

/* Its registers, for people. */
void i8259_print(const struct i8259 *p, FILE *out);

#endif
