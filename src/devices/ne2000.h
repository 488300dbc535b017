/* An NE2000 on PCI: the Realtek RTL8029. */
#ifndef DEVICES_NE2000_H
#define DEVICES_NE2000_H

#include "core/device.h"
#include "core/netdev.h"
#include "devices/pci.h"

/* net: the cable, may be NULL. rom: an expansion ROM, copied to ram; may be NULL. NULL with a message. */
struct device *ne2000_create(struct pci_bus *pci, int devfn, struct netdev *net, const u8 mac[6], struct ram *ram,
                             const void *rom, size_t rom_size);

#endif
