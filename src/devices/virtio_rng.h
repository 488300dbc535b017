/* A virtio source of random numbers. */
#ifndef DEVICES_VIRTIO_RNG_H
#define DEVICES_VIRTIO_RNG_H

#include "core/device.h"
#include "devices/virtio.h"

/* fill: where the numbers come from; returns how many bytes it has put there, 0 when there are none. NULL with a
 * message. */
struct device *virtio_rng_create(const struct virtio_slot *slot, size_t (*fill)(void *opaque, u8 *buf, size_t size),
                                 void *opaque);

#endif
