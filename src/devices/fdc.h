/* The floppy disk controller, an 82078, with up to two drives. */
#ifndef DEVICES_FDC_H
#define DEVICES_FDC_H

#include "core/block.h"
#include "core/bus.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/irq.h"
#include "devices/i8237.h"

#define FDC_DRIVES      2
#define FDC_DMA_CHANNEL 2

struct fdc;

/* ports: 0x3f2-0x3f5 and 0x3f7. NULL when memory is short. */
struct fdc *fdc_create(struct bus *ports, struct irq_line irq, struct i8237 *dma, struct clock *clock);
struct device *fdc_device(struct fdc *f);

/* Can a disk of that many bytes be put into a floppy drive? Of which kind is the drive then, as CMOS calls it (1: 360K,
 * 2: 1.2M, 4: 1.44M, 5: 2.88M); 0: no. */
u8 fdc_drive_type(u64 size);
/* Install drive 0 or 1, of the kind that suits the medium (1.44M when that is NULL). */
void fdc_attach(struct fdc *f, unsigned drive, struct block *medium);
/* The kind, for CMOS; 0: there is no such drive. */
u8 fdc_type(const struct fdc *f, unsigned drive);
/* Take out what is in the drive and put another medium in, or none. The guest sees the change line. */
void fdc_change_medium(struct fdc *f, unsigned drive, struct block *medium);

#endif
