/* The PCI test device that bare-metal test suites probe and time accesses with. */
#ifndef DEVICES_PCI_TESTDEV_H
#define DEVICES_PCI_TESTDEV_H

#include "core/device.h"
#include "devices/pci.h"

/* Plugs in at devfn (-1: a free slot). NULL with a message. */
struct device *pci_testdev_create(struct pci_bus *pci, int devfn);

#endif
