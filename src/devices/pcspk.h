/* The PC speaker: what channel 2 of the 8254 and port 0x61 make of it. */
#ifndef DEVICES_PCSPK_H
#define DEVICES_PCSPK_H

#include "core/audio.h"
#include "devices/i8254.h"

/* NULL with a message. pit must be destroyed after it. */
struct device *pcspk_create(struct i8254 *pit, struct audio *audio);

#endif
