/* Intel 82540EM Gigabit Ethernet controller (PCI 8086:100e). */
#ifndef DEVICES_E1000_H
#define DEVICES_E1000_H

#include "core/clock.h"
#include "core/device.h"
#include "core/netdev.h"
#include "devices/pci.h"

/* Plugs in at devfn (-1: a free slot). net: the cable, NULL: none. rom: an expansion ROM image to copy into ram, or
 * NULL. NULL with a message. */
struct device *e1000_create(struct pci_bus *pci, int devfn, struct clock *clock, struct netdev *net, const u8 mac[6],
                            struct ram *ram, const void *rom, size_t rom_size);

#endif
