/* Virtio keyboard, mouse and tablet. */
#ifndef DEVICES_VIRTIO_INPUT_H
#define DEVICES_VIRTIO_INPUT_H

#include "core/device.h"
#include "core/input.h"
#include "devices/virtio.h"

enum virtio_input_kind { VIRTIO_KEYBOARD, VIRTIO_MOUSE, VIRTIO_TABLET };

/* input: where the events come from. NULL with a message. */
struct device *virtio_input_create(const struct virtio_slot *slot, enum virtio_input_kind kind, struct input *input);

#endif
