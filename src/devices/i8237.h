/* The PC's two 8237A DMA controllers with their page registers. */
#ifndef DEVICES_I8237_H
#define DEVICES_I8237_H

#include "core/bus.h"
#include "core/device.h"

struct i8237;

/* ports: 0x00-0x0f, 0xc0-0xdf and 0x80-0x8f; mem: where transfers go. NULL when memory is short. */
struct i8237 *i8237_create(struct bus *ports, struct bus *mem);
struct device *i8237_device(struct i8237 *d);

/* ---- for devices that use a channel ---- */

/* A device's request line; shows in the status register. */
void i8237_request(struct i8237 *d, unsigned channel, bool level);
/* Is the channel set up and not masked? */
bool i8237_ready(const struct i8237 *d, unsigned channel);
/* Bytes left before terminal count. */
u32 i8237_left(const struct i8237 *d, unsigned channel);
/* Move up to len bytes between buf and memory in the direction the guest has programmed: device_reads is what
 * the device wants, and a mismatch or a masked channel moves nothing. On channels 5 to 7 len is even. Verify
 * transfers count without touching memory. Returns the bytes done; *tc (may be NULL): terminal count was
 * reached, at which point the transfer stops (and starts over on an auto-initialized channel). */
size_t i8237_transfer(struct i8237 *d, unsigned channel, void *buf, size_t len, bool device_reads, bool *tc);

#endif
