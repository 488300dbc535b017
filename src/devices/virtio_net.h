/* A virtio network card. */
#ifndef DEVICES_VIRTIO_NET_H
#define DEVICES_VIRTIO_NET_H

#include "core/clock.h"
#include "core/device.h"
#include "core/netdev.h"
#include "devices/virtio.h"

/* net: the cable, NULL: none. rom: an expansion ROM image to copy into ram, or NULL. NULL with a message. */
struct device *virtio_net_create(const struct virtio_slot *slot, struct clock *clock, struct netdev *net, const u8 mac[6],
                                 struct ram *ram, const void *rom, size_t rom_size);

#endif
