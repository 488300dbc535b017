/* A port that prints: 0x402 of firmware, 0xe9 of small operating systems. */
#ifndef DEVICES_DEBUG_PORT_H
#define DEVICES_DEBUG_PORT_H

#include "core/bus.h"
#include "core/chardev.h"
#include "core/device.h"

/* Bytes written to the port go to chr and, a line at a time, to the log's `firmware` category. A read gives
 * readback (0xe9 is what programs look for). chr may be NULL. NULL when memory is short. */
struct device *debug_port_create(struct bus *ports, u16 port, u8 readback, struct chardev *chr);

#endif
