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

/* The speaker's side. changing() is called before channel 2 or the speaker's bit moves on to what an access is about to
 * make of it, while what was can still be asked for; changed() after that. */
void i8254_on_speaker(struct i8254 *p, void (*changing)(void *opaque), void (*changed)(void *opaque), void *opaque);
/* Is the speaker connected (port 0x61 bit 1), and counts channel 2? */
bool i8254_speaker_on(const struct i8254 *p);
/* The level on the speaker at a time, which does not lie before the one asked for last. */
bool i8254_speaker_level(struct i8254 *p, u64 ns);

#endif
