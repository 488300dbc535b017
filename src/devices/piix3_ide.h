/* The PIIX3's IDE function: two channels of two drives each, with bus-master DMA. */
#ifndef DEVICES_PIIX3_IDE_H
#define DEVICES_PIIX3_IDE_H

#include "core/block.h"
#include "core/device.h"
#include "core/irq.h"
#include "devices/pci.h"

#define IDE_DRIVES 4 /* primary master and slave, secondary master and slave */

struct piix3_ide;

/* A drive; strings are copied, NULL: a default. */
struct piix3_ide_drive {
    struct block *block; /* its contents; NULL for a CD drive: no disc in it */
    bool cdrom;          /* ATAPI CD-ROM drive instead of an ATA disk */
    bool write_through;  /* the drive's write cache is off after reset */
    const char *serial;  /* at most 20 characters */
    const char *model;   /* at most 40 */
    void (*tray_moved)(void *opaque, bool open); /* a CD drive's tray did, whoever asked it to; may be NULL */
    void *opaque;        /* its first argument */
};

/* Plugs in at devfn (00:01.1); irq: ISA interrupts 14 and 15. NULL with a message. */
struct piix3_ide *piix3_ide_create(struct pci_bus *pci, int devfn, struct irq_line irq14,
                                   struct irq_line irq15);
struct device *piix3_ide_device(struct piix3_ide *ide);
/* Put a drive in; before the guest runs. 0 or -errno with a message. */
int piix3_ide_attach(struct piix3_ide *ide, int index, const struct piix3_ide_drive *config);
/* Change a CD drive's disc, NULL: take it out; the tray is opened for it. -EBUSY: the guest has locked it and force is not
 * set; -EINVAL: no CD drive. */
int piix3_ide_change_medium(struct piix3_ide *ide, int index, struct block *block, bool force);
/* Open or close the tray, with the disc in it; errors as above. */
int piix3_ide_move_tray(struct piix3_ide *ide, int index, bool open, bool force);
/* false: no CD drive. */
bool piix3_ide_tray(const struct piix3_ide *ide, int index, bool *open, bool *locked);
/* The geometry that the drive reports: false when there is no ATA disk. */
bool piix3_ide_geometry(const struct piix3_ide *ide, int index, u16 *cylinders, u8 *heads, u8 *sectors);

#endif
