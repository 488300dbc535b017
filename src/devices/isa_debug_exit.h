/* A port through which a test program ends the emulator with a status of its choice. */
#ifndef DEVICES_ISA_DEBUG_EXIT_H
#define DEVICES_ISA_DEBUG_EXIT_H

#include "core/bus.h"
#include "core/device.h"

/* Writing v calls exit(opaque, v << 1 | 1); what that does is up to the machine. NULL when memory is short.
 */
struct device *isa_debug_exit_create(struct bus *ports, u16 iobase, u16 iosize,
                                     void (*exit)(void *opaque, int status), void *opaque);

#endif
