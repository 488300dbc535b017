/* What the two halves of the CD-ROM drive share: ide_atapi.c (protocol, reading, tray) and ide_atapi_info.c (what it tells
 * about itself). Nobody else includes it. */
#ifndef DEVICES_IDE_ATAPI_H
#define DEVICES_IDE_ATAPI_H

#include "core/big_endian.h"
#include "devices/ide_drive.h"

/* Sense keys [SPC-3] 4.5. */
#define SENSE_NOT_READY 2
#define SENSE_MEDIUM    3
#define SENSE_ILLEGAL   5
#define SENSE_ATTENTION 6

/* Media events [MMC-5] 6.7. */
enum { MEDIA_NONE, MEDIA_EJECT, MEDIA_NEW, MEDIA_REMOVED };

/* A disc is in, the tray closed. */
static inline bool ide_atapi_ready(const struct ide_drive *d) { return d->block && !d->tray_open; }
/* Blocks of the disc. */
static inline u32 ide_atapi_blocks(const struct ide_drive *d)
{
    u64 n = d->block ? d->block->size / IDE_CD_SECTOR : 0;
    return (u32)MIN(n, 0xfffffffeull);
}

/* ---- ide_atapi.c ---- */

/* Minutes, seconds, frames, with the two seconds of lead-in. */
void ide_atapi_put_msf(u8 *p, u32 lba);
/* The command ends with an answer of size bytes in buf, of which the host allows so many. */
void ide_atapi_answer(struct ide_drive *d, u32 size, u32 allowed);
/* It fails, with sense key and additional sense code. */
void ide_atapi_check(struct ide_drive *d, u8 key, u8 asc);

/* ---- ide_atapi_info.c: the command in d->packet ---- */

ide_step ide_atapi_inquiry, ide_atapi_request_sense, ide_atapi_mode_sense, ide_atapi_read_capacity, ide_atapi_read_toc;
ide_step ide_atapi_event_status, ide_atapi_get_configuration, ide_atapi_disc_information, ide_atapi_track_information;
ide_step ide_atapi_dvd_structure, ide_atapi_mechanism_status;

#endif
