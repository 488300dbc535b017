/* The audio controller of Intel's 82801AA with an AC'97 codec. */
#ifndef DEVICES_AC97_H
#define DEVICES_AC97_H

#include "core/audio.h"
#include "core/device.h"
#include "devices/pci.h"

/* NULL with a message. */
struct device *ac97_create(struct pci_bus *pci, int devfn, struct audio *audio);

#endif
