/* The Realtek RTL8139 Fast Ethernet controller. */
#ifndef DEVICES_RTL8139_H
#define DEVICES_RTL8139_H

#include "core/clock.h"
#include "core/device.h"
#include "core/netdev.h"
#include "devices/pci.h"

/* net: the cable, may be NULL. rom: an expansion ROM, copied to ram; may be NULL. NULL with a message. */
struct device *rtl8139_create(struct pci_bus *pci, int devfn, struct clock *clock, struct netdev *net, const u8 mac[6],
                              struct ram *ram, const void *rom, size_t rom_size);

#endif
