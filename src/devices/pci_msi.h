/* Message signalled interrupts for PCI devices: the MSI and MSI-X capabilities. */
#ifndef DEVICES_PCI_MSI_H
#define DEVICES_PCI_MSI_H

#include "core/types.h"
#include "devices/pci.h"

/* Add an MSI capability with vectors messages (1, 2, 4 ... 32), 64-bit addresses, no per-vector masking.
 * offset 0: anywhere. */
void pci_msi_init(struct pci_device *d, u8 offset, unsigned vectors);
/* Has the guest turned MSI on? Then the device signals by pci_msi_notify() and leaves INTx alone. */
bool pci_msi_enabled(const struct pci_device *d);
void pci_msi_notify(struct pci_device *d, unsigned vector);

/* Add an MSI-X capability whose table and pending bits are in memory BAR bar (created here, 4 KiB or what
 * the vectors need: table at 0, pending bits in the upper half). 0 or -ENOMEM with a message. */
int pci_msix_init(struct pci_device *d, u8 offset, int bar, unsigned vectors);
bool pci_msix_enabled(const struct pci_device *d);
/* Send the vector's message, or remember it while the vector is masked. */
void pci_msix_notify(struct pci_device *d, unsigned vector);

/* ---- for pci.c ---- */
void pci_msi_config_written(struct pci_device *d);
void pci_msi_reset(struct pci_device *d);
void pci_msi_destroy(struct pci_device *d);
/* Deliver one message (pci.c knows where they go). */
void pci_bus_msi(struct pci_bus *b, u64 address, u32 data);

#endif
