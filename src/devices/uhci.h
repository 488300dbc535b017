/* The PIIX3's USB function: a universal host controller with two ports. */
#ifndef DEVICES_UHCI_H
#define DEVICES_UHCI_H

#include "core/clock.h"
#include "devices/pci.h"
#include "devices/usb.h"

#define UHCI_PORTS 2

struct uhci;

/* Plugs in at devfn (-1: a free slot); interrupts on INTD#, as the PIIX3's. NULL with a message. */
struct uhci *uhci_create(struct pci_bus *pci, int devfn, struct clock *clock);
struct device *uhci_device(struct uhci *u);
/* Plug a device into the first free port: false when there is none. The caller keeps and destroys the device. */
bool uhci_plug(struct uhci *u, struct usb_device *d);

#endif
