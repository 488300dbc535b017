/* IDENTIFY DEVICE [ATA-6] 8.15 and IDENTIFY PACKET DEVICE 8.16. */
#include "devices/ide_drive.h"

#include <string.h>

#define FIRMWARE "1.0"

static void put(u8 *page, unsigned word, u16 value)
{
    page[2 * word] = (u8)value;
    page[2 * word + 1] = (u8)(value >> 8);
}

/* ATA strings have the first character in the high byte of each word, and are padded with spaces. */
static void put_string(u8 *page, unsigned word, unsigned words, const char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < 2 * words; i++)
        page[2 * word + (i ^ 1)] = (u8)(i < length ? text[i] : ' ');
}

static void put_names(const struct ide_drive *d, u8 *page)
{
    put_string(page, 10, 10, d->serial);
    put_string(page, 23, 4, FIRMWARE);
    put_string(page, 27, 20, d->model);
}

/* Transfer modes: supported in the low byte, selected in the high one. */
static void put_modes(const struct ide_drive *d, u8 *page)
{
    put(page, 63, (u16)(0x07 | (d->mwdma ? 0x100 << (d->mwdma - 1) : 0)));
    put(page, 64, 0x03); /* PIO 3 and 4 */
    for (unsigned word = 65; word <= 68; word++)
        put(page, word, 120); /* cycle times, ns */
    put(page, 88, (u16)(0x3f | (d->udma ? 0x100 << (d->udma - 1) : 0)));
}

static void identify_disk(const struct ide_drive *d, u8 *page)
{
    u64 sectors = ide_sectors(d);
    u64 current_cylinders = MIN(sectors / ((u32)d->cur_heads * d->cur_sectors), 65535);
    u32 current = (u32)current_cylinders * d->cur_heads * d->cur_sectors;
    u32 lba28 = (u32)MIN(sectors, 0xfffffffull);

    put(page, 0, 0x0040); /* ATA, fixed */
    put(page, 1, d->cylinders);
    put(page, 3, d->heads);
    put(page, 4, (u16)(d->sectors * IDE_SECTOR)); /* bytes per track and sector: before ATA-3 */
    put(page, 5, IDE_SECTOR);
    put(page, 6, d->sectors);
    put(page, 20, 3); /* dual ported cache: before ATA-3 */
    put(page, 21, IDE_BUFFER / IDE_SECTOR);
    put(page, 22, 4);
    put(page, 47, 0x8000 | IDE_MULTIPLE);
    put(page, 48, 1);      /* 32-bit data port: before ATA-4 */
    put(page, 49, 0x2f00); /* standby timer, IORDY and its disabling, LBA, DMA */
    put(page, 50, 0x4000);
    put(page, 51, 0x200); /* PIO 2, before ATA-4 */
    put(page, 52, 0x200);
    put(page, 53, 7); /* words 54-58, 64-70 and 88 are valid */
    put(page, 54, (u16)current_cylinders);
    put(page, 55, d->cur_heads);
    put(page, 56, d->cur_sectors);
    put(page, 57, (u16)current);
    put(page, 58, (u16)(current >> 16));
    if (d->multiple) put(page, 59, 0x100 | d->multiple);
    put(page, 60, (u16)lba28);
    put(page, 61, (u16)(lba28 >> 16));
    put(page, 80, 0x7e);   /* ATA-1 to ATA-6 */
    put(page, 81, 0x22);   /* ATA/ATAPI-6 revision 3a */
    put(page, 82, 0x7069); /* NOP, READ and WRITE BUFFER, look-ahead, write cache, power management, SMART */
    put(page, 83, 0x7400); /* FLUSH CACHE EXT, FLUSH CACHE, 48 bits */
    put(page, 84, 0x4040); /* WRITE FUA EXT */
    put(page, 85,
        (u16)(0x7008 | (d->smart_on ? 1 : 0) | (d->write_cache ? 0x20 : 0) | (d->look_ahead ? 0x40 : 0)));
    put(page, 86, 0x3400);
    put(page, 87, 0x4040);
    put(page, 93, (u16)(0x6001 | (d->unit ? 0x0a00 : 0))); /* hardware reset: passed, 80-conductor cable */
    for (unsigned i = 0; i < 4; i++)
        put(page, 100 + i, (u16)(sectors >> 16 * i));
    if (d->block->discards) {
        put(page, 69, 0x4000); /* reads after TRIM are deterministic */
        put(page, 105, 8);
        put(page, 169, 1);
    }
    put(page, 217, 1); /* does not rotate: hosts need no elevator */
}

static void identify_cd(const struct ide_drive *d, u8 *page)
{
    put(page, 0, 0x85c0); /* ATAPI, CD-ROM, removable, DRQ within 50 us, 12-byte packets */
    put(page, 20, 3);
    put(page, 21, IDE_BUFFER / IDE_SECTOR);
    put(page, 48, 1);
    put(page, 49, 0x0f00); /* IORDY and its disabling, LBA, DMA */
    put(page, 51, 0x200);
    put(page, 53, 7);
    put(page, 71, 30); /* us from PACKET to bus release, from SERVICE to BSY clear */
    put(page, 72, 30);
    put(page, 80, 0x7e);
    put(page, 81, 0x22);
    put(page, 82, 0x4210); /* NOP, DEVICE RESET, PACKET */
    put(page, 83, 0x4000);
    put(page, 84, 0x4000);
    put(page, 85, 0x4210);
    put(page, 86, 0x0000);
    put(page, 87, 0x4000);
    put(page, 93, (u16)(0x6001 | (d->unit ? 0x0a00 : 0)));
}

void ide_identify(const struct ide_drive *d, u8 *page)
{
    memset(page, 0, IDE_SECTOR);
    if (d->kind == IDE_ATA)
        identify_disk(d, page);
    else
        identify_cd(d, page);
    put_names(d, page);
    put_modes(d, page);
    /* Integrity word: all bytes add up to zero. */
    page[510] = 0xa5;
    u8 sum = 0;
    for (unsigned i = 0; i < 511; i++)
        sum += page[i];
    page[511] = (u8)-sum;
}
