/* A virtio disk. */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

#include "core/block.h"
#include "core/device.h"
#include "devices/virtio.h"

struct virtio_blk_config {
    struct block *block; /* its contents */
    bool write_through;  /* writes are only complete when they are on stable storage, until the driver changes that */
    const char *serial;  /* at most 20 characters, copied; NULL: none */
};

/* NULL with a message. */
struct device *virtio_blk_create(const struct virtio_slot *slot, const struct virtio_blk_config *config);

#endif
