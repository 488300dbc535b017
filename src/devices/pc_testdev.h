/* The test device that bare-metal test suites drive. */
#ifndef DEVICES_PC_TESTDEV_H
#define DEVICES_PC_TESTDEV_H

#include "core/bus.h"
#include "core/device.h"
#include "core/irq.h"

#define PC_TESTDEV_LINES 24

/* ports: 0xe0-0xeb and 0x2000-0x2017; mem: 64 KiB at 0xff000000. lines: the global system interrupts 0 to 23.
 * NULL when memory is short. */
struct device *pc_testdev_create(struct bus *ports, struct bus *mem,
                                 const struct irq_line lines[PC_TESTDEV_LINES]);

#endif
