/* The MC146818 real-time clock and its battery-backed CMOS memory. */
#ifndef DEVICES_MC146818_H
#define DEVICES_MC146818_H

#include "core/bus.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/irq.h"

struct mc146818;

/* ports: 0x70 and 0x71. irq8: the interrupt. The time starts at clock_wall(), and is moved by what that is moved. slew:
 * periodic interrupts that the guest was too slow for come later. NULL when memory is short. */
struct mc146818 *mc146818_create(struct bus *ports, struct irq_line irq8, struct clock *clock, bool slew);
struct device *mc146818_device(struct mc146818 *r);

/* CMOS memory as the machine fills it in (memory sizes, boot order, ...). Index 0x0e to 0x7f, except 0x32. */
void mc146818_set_cmos(struct mc146818 *r, u8 index, u8 value);
u8 mc146818_get_cmos(const struct mc146818 *r, u8 index);
/* set is called when the guest sets the clock: to that many seconds since 1970-01-01. */
void mc146818_on_set(struct mc146818 *r, void (*set)(void *opaque, s64 seconds), void *opaque);
/* Port 0x70 bit 7: the guest masks NMI. */
bool mc146818_nmi_masked(const struct mc146818 *r);

#endif
