/* System control port A: the fast way to gate A20 and to reset. */
#ifndef DEVICES_PORT92_H
#define DEVICES_PORT92_H

#include "core/bus.h"
#include "core/device.h"
#include "core/irq.h"

struct port92;

/* a20: level of the A20 gate, driven on each write (the last of this and the i8042 to write wins; see
 * port92_note_a20()). reset: pulsed to reset the machine. NULL when memory is short. */
struct port92 *port92_create(struct bus *ports, struct irq_line a20, struct irq_line reset);
struct device *port92_device(struct port92 *p);

/* Somebody else (the i8042) moved the A20 gate: reads show it. */
void port92_note_a20(struct port92 *p, bool on);

#endif
