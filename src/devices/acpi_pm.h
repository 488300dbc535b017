/* Power management: the PIIX4's ACPI function, its SMBus host, and the APM ports. */
#ifndef DEVICES_ACPI_PM_H
#define DEVICES_ACPI_PM_H

#include "core/bus.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/irq.h"
#include "devices/pci.h"

/* Facts that the ACPI tables state and firmware programs. */
#define ACPI_PM_BASE          0x600 /* usual place of the PM1a event block, control at +4, timer at +8 */
#define ACPI_PM_SMBUS_BASE    0x700
#define ACPI_PM_GPE_BASE      0xafe0 /* 2 bytes of status, 2 of enable */
#define ACPI_PM_GPE_LENGTH    4
#define ACPI_PM_SMI_COMMAND   0xb2
#define ACPI_PM_ENABLE        0xf1 /* written to the SMI command port: sets SCI_EN */
#define ACPI_PM_DISABLE       0xf0
#define ACPI_PM_SCI_IRQ       9
#define ACPI_PM_SLEEP_TYPE_S5 0

struct acpi_pm;

/* Plugs in at devfn (00:01.3). power_off is called when the guest enters S5. NULL with a message. */
struct acpi_pm *acpi_pm_create(struct pci_bus *pci, int devfn, struct irq_line sci, struct clock *clock,
                               void (*power_off)(void *opaque), void *opaque);
struct device *acpi_pm_device(struct acpi_pm *p);
/* moved is called when firmware places the PM registers at base and they answer there: the ACPI tables must say so. */
void acpi_pm_on_move(struct acpi_pm *p, void (*moved)(void *opaque, u16 base), void *opaque);
/* Press the power button. False when no operating system listens (ACPI mode is off or the event disabled). */
bool acpi_pm_power_button(struct acpi_pm *p);
/* Raise general purpose event n (0..15), for hotplug. */
void acpi_pm_gpe(struct acpi_pm *p, int n);

#endif
