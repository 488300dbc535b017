/* The 82441FX host bridge: DRAM, PAM shadowing of 0xc0000-0xfffff, SMRAM window. */
#ifndef DEVICES_I440FX_H
#define DEVICES_I440FX_H

#include "core/bus.h"
#include "core/device.h"
#include "devices/pci.h"

/* Bus priorities: DRAM is at 0, so ROM and memory-mapped devices that shall be seen in its place go above,
 * and BIOS ROM under the PAM areas goes anywhere below I440FX_PRIORITY_SHADOW. The VGA window must stay below
 * it too, for SMRAM to open over it. */
#define I440FX_PRIORITY_DRAM   0
#define I440FX_PRIORITY_SHADOW 10

struct i440fx;

/* How ram_size bytes of DRAM are split around the hole below 4 GiB: bytes at 0; the rest is at 4 GiB. */
u64 i440fx_low_size(u64 ram_size);

/* Plugs the bridge in at 00:00.0, takes ram_size bytes from ram and shows them on the PCI bus's memory bus.
 * ram_size: page multiple, at least 1 MiB. NULL with a message. */
struct i440fx *i440fx_create(struct pci_bus *pci, struct ram *ram, u64 ram_size);
struct device *i440fx_device(struct i440fx *h);
/* RAM offset of guest-physical address 0 (the low part is contiguous), for loaders and dumps. */
u64 i440fx_ram_offset(const struct i440fx *h);

#endif
