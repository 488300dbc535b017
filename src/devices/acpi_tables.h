/* The ACPI tables of the board, handed to firmware through fw_cfg. */
#ifndef DEVICES_ACPI_TABLES_H
#define DEVICES_ACPI_TABLES_H

#include "core/types.h"
#include "devices/fw_cfg.h"

/* What differs from machine to machine. */
struct acpi_config {
    unsigned cpus;   /* processors; number i has local APIC ID i */
    u64 low_ram;     /* bytes of DRAM below 4 GiB: the PCI hole starts there */
    u32 hpet_id;     /* low half of the HPET's capabilities register; 0: no HPET */
    u8 serial_ports; /* bit n: serial port n + 1 exists (COM1, COM2) */
    bool floppy;     /* there is a floppy controller */
};

/* Adds etc/acpi/tables, etc/acpi/rsdp, etc/table-loader and etc/system-states. 0 or -errno with a message. */
int acpi_tables_add(struct fw_cfg *f, const struct acpi_config *config);
/* Firmware has placed the power management registers at this port: the tables, which it reads later, say so. */
void acpi_tables_set_pm_base(struct fw_cfg *f, u16 base);

#endif
