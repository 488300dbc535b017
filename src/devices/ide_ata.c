/* The ATA commands of a hard disk.
 *
 * Models the general feature set of [ATA-6] with 48-bit addresses: reads, writes and verifies in sectors,
 * multiples and by DMA, with CHS, 28-bit and 48-bit addresses, forced unit access, FLUSH CACHE, SET FEATURES,
 * power management, SMART (ide_smart.c), READ/WRITE BUFFER, and TRIM [ACS-2].
 *
 * Leaves out (the commands are aborted, as IDENTIFY says): security, host protected area changes, device
 * configuration overlay, advanced power management, acoustic management, streaming, general purpose logging.
 *
 * [ATA-6] T13/1410D revision 3b; [ACS-2] T13/2015-D. */
#include "devices/ide_drive.h"

#include <string.h>

#include "core/log.h"

#define BUFFER_SECTORS (IDE_BUFFER / IDE_SECTOR)

/* ---- addresses ---- */

static bool ext_range(const struct ide_drive *d, u64 *lba, u32 *count)
{
    *lba = d->lba_low[0] | d->lba_mid[0] << 8 | d->lba_high[0] << 16 | (u64)d->lba_low[1] << 24 |
           (u64)d->lba_mid[1] << 32 | (u64)d->lba_high[1] << 40;
    *count = (u32)(d->count[1] << 8 | d->count[0]);
    if (!*count) *count = 65536;
    return true;
}

/* false: no such sector (CHS). */
static bool short_range(struct ide_drive *d, u64 *lba, u32 *count)
{
    *count = d->count[0] ? d->count[0] : 256;
    if (d->device & IDE_DEV_LBA) {
        *lba = (u32)(d->lba_low[0] | d->lba_mid[0] << 8 | d->lba_high[0] << 16 | (d->device & 0xf) << 24);
        return true;
    }
    u32 cylinder = (u32)(d->lba_mid[0] | d->lba_high[0] << 8), head = d->device & 0xf, sector = d->lba_low[0];
    d->chs = true;
    *lba = ((u64)cylinder * d->cur_heads + head) * d->cur_sectors + sector - 1;
    return sector && sector <= d->cur_sectors && head < d->cur_heads;
}

/* Show an address in the task file, in the form the command used. */
static void show_address(struct ide_drive *d, u64 lba)
{
    if (d->chs) {
        u32 track = (u32)(lba / d->cur_sectors), cylinder = track / d->cur_heads;
        d->lba_low[0] = (u8)(lba % d->cur_sectors + 1);
        d->lba_mid[0] = (u8)cylinder;
        d->lba_high[0] = (u8)(cylinder >> 8);
        d->device = (u8)((d->device & 0xf0) | track % d->cur_heads);
        return;
    }
    d->lba_low[0] = (u8)lba;
    d->lba_mid[0] = (u8)(lba >> 8);
    d->lba_high[0] = (u8)(lba >> 16);
    if (d->ext) {
        d->lba_low[1] = (u8)(lba >> 24);
        d->lba_mid[1] = (u8)(lba >> 32);
        d->lba_high[1] = (u8)(lba >> 40);
    } else {
        d->device = (u8)((d->device & 0xf0) | (lba >> 24 & 0xf));
    }
}

/* The transfer ends: the task file shows the last sector, or the bad one, and how many are left. */
static void show_end(struct ide_drive *d, bool bad)
{
    show_address(d, bad ? d->lba : d->lba - 1);
    d->count[0] = (u8)d->left;
    d->count[1] = (u8)(d->left >> 8);
}

static void medium_error(struct ide_drive *d)
{
    show_end(d, true);
    /* DEVIATION: [ATA-6] has no error bit for a medium that cannot be written; UNC is what hosts take for it.
     */
    ide_command_failed(d, IDE_UNC);
}

/* ---- reading ---- */

static void read_chunk(struct ide_drive *d);

static void chunk_taken(struct ide_drive *d)
{
    d->lba += d->chunk;
    d->left -= d->chunk;
    if (d->failing) {
        medium_error(d);
    } else if (d->left) {
        read_chunk(d);
    } else {
        show_end(d, false);
        if (d->dma)
            ide_command_done(d);
        else
            ide_command_read(d);
    }
}

static void offer_block(struct ide_drive *d);

static void block_taken(struct ide_drive *d)
{
    d->served = (u32)d->pos;
    if (d->served == d->chunk * IDE_SECTOR)
        chunk_taken(d);
    else
        offer_block(d);
}

static void offer_block(struct ide_drive *d)
{
    u32 size = MIN(d->drq_sectors * IDE_SECTOR, d->chunk * IDE_SECTOR - d->served);
    ide_pio_in(d, d->served, size, block_taken);
}

static void chunk_read(struct ide_drive *d, int error, size_t good)
{
    d->failing = error != 0;
    if (error) d->chunk = (u32)(good / IDE_SECTOR);
    d->served = 0;
    if (!d->chunk)
        medium_error(d);
    else if (d->dma)
        ide_dma_in(d, d->chunk * IDE_SECTOR, chunk_taken);
    else
        offer_block(d);
}

static void read_buffered(struct ide_drive *d)
{
    if (!ide_need_buffer(d)) return;
    d->chunk = MIN(d->left, BUFFER_SECTORS);
    ide_submit(d, BLOCK_READ, d->lba * IDE_SECTOR, d->chunk * IDE_SECTOR, chunk_read);
}

static void direct_read(struct ide_drive *d, int error, size_t good)
{
    d->failing = error != 0;
    d->chunk = (u32)(good / IDE_SECTOR);
    if (!error) ide_dma_moved(d);
    chunk_taken(d);
}

static void read_chunk(struct ide_drive *d)
{
    d->chunk = d->left;
    if (d->dma)
        ide_dma_direct(d, BLOCK_READ, read_buffered, direct_read);
    else
        read_buffered(d);
}

/* ---- verifying ---- */

static void verify_chunk(struct ide_drive *d);

static void chunk_verified(struct ide_drive *d, int error, size_t good)
{
    u32 sectors = error ? (u32)(good / IDE_SECTOR) : d->chunk;
    d->lba += sectors;
    d->left -= sectors;
    if (error) {
        medium_error(d);
    } else if (d->left) {
        verify_chunk(d);
    } else {
        show_end(d, false);
        ide_command_done(d);
    }
}

static void verify_chunk(struct ide_drive *d)
{
    d->chunk = MIN(d->left, BUFFER_SECTORS);
    ide_submit(d, BLOCK_READ, d->lba * IDE_SECTOR, d->chunk * IDE_SECTOR, chunk_verified);
}

/* ---- writing ---- */

static void write_chunk(struct ide_drive *d, bool irq);

static void write_flushed(struct ide_drive *d, int error, size_t good)
{
    (void)good;
    show_end(d, false);
    if (error)
        ide_command_failed(d, IDE_ABRT);
    else
        ide_command_done(d);
}

static void chunk_written(struct ide_drive *d, int error, size_t good)
{
    u32 sectors = error ? (u32)(good / IDE_SECTOR) : d->chunk;
    d->lba += sectors;
    d->left -= sectors;
    if (error) {
        medium_error(d);
    } else if (d->left) {
        write_chunk(d, true);
    } else if (d->fua || !d->write_cache) {
        ide_submit(d, BLOCK_FLUSH, 0, 0, write_flushed);
    } else {
        show_end(d, false);
        ide_command_done(d);
    }
}

static void chunk_full(struct ide_drive *d)
{
    ide_submit(d, BLOCK_WRITE, d->lba * IDE_SECTOR, d->chunk * IDE_SECTOR, chunk_written);
}

static void accept_block(struct ide_drive *d, bool irq);

static void block_given(struct ide_drive *d)
{
    d->served = (u32)d->pos;
    if (d->served == d->chunk * IDE_SECTOR)
        chunk_full(d);
    else
        accept_block(d, true);
}

static void accept_block(struct ide_drive *d, bool irq)
{
    u32 size = MIN(d->drq_sectors * IDE_SECTOR, d->chunk * IDE_SECTOR - d->served);
    ide_pio_out(d, d->served, size, irq, block_given);
}

static void write_buffered(struct ide_drive *d)
{
    if (!ide_need_buffer(d)) return;
    d->chunk = MIN(d->left, BUFFER_SECTORS);
    ide_dma_out(d, d->chunk * IDE_SECTOR, chunk_full);
}

static void direct_written(struct ide_drive *d, int error, size_t good)
{
    ide_dma_moved(d);
    chunk_written(d, error, good);
}

static void write_chunk(struct ide_drive *d, bool irq)
{
    d->chunk = d->dma ? d->left : MIN(d->left, BUFFER_SECTORS);
    d->served = 0;
    if (d->dma)
        ide_dma_direct(d, BLOCK_WRITE, write_buffered, direct_written);
    else if (ide_need_buffer(d))
        accept_block(d, irq);
}

/* ---- the commands that address sectors ---- */

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_VERIFY };

static void transfer(struct ide_drive *d, enum access access, bool ext, bool dma, u32 drq_sectors)
{
    u64 lba;
    u32 count;
    d->ext = ext;
    d->chs = false;
    d->dma = dma;
    d->drq_sectors = drq_sectors;
    d->failing = false;
    bool exists = ext ? ext_range(d, &lba, &count) : short_range(d, &lba, &count);
    if (!drq_sectors || (dma && !d->udma && !d->mwdma)) {
        ide_command_failed(d, IDE_ABRT);
        return;
    }
    if (!exists || lba >= ide_sectors(d) || count > ide_sectors(d) - lba) {
        ide_command_failed(d, IDE_IDNF);
        return;
    }
    if (access == ACCESS_WRITE && d->block->readonly) {
        ide_command_failed(d, IDE_ABRT | IDE_UNC); /* bit 6 is WP, write protected [ATA-6] 8.62.6 */
        return;
    }
    if (access == ACCESS_VERIFY && !ide_need_buffer(d)) return;
    d->lba = lba;
    d->left = count;
    if (access == ACCESS_READ)
        read_chunk(d);
    else if (access == ACCESS_WRITE)
        write_chunk(d, false);
    else
        verify_chunk(d);
}

/* ---- TRIM ---- */

static void trim_next(struct ide_drive *d);

static void trimmed(struct ide_drive *d, int error, size_t good)
{
    (void)good;
    if (error)
        ide_command_failed(d, IDE_ABRT);
    else
        trim_next(d);
}

/* Entries of 8 bytes: a 48-bit address and 16 bits of sectors; 0 sectors: nothing [ACS-2] 7.10. */
static void trim_next(struct ide_drive *d)
{
    while (d->served < d->end) {
        const u8 *e = d->buf + d->served;
        u64 lba = e[0] | e[1] << 8 | e[2] << 16 | (u64)e[3] << 24 | (u64)e[4] << 32 | (u64)e[5] << 40;
        u32 count = (u32)(e[6] | e[7] << 8);
        d->served += 8;
        if (!count) continue;
        if (lba >= ide_sectors(d) || count > ide_sectors(d) - lba) {
            ide_command_failed(d, IDE_ABRT);
            return;
        }
        ide_submit(d, BLOCK_DISCARD, lba * IDE_SECTOR, count * IDE_SECTOR, trimmed);
        return;
    }
    ide_command_done(d);
}

static void trim_begin(struct ide_drive *d)
{
    d->served = 0;
    trim_next(d);
}

static void data_set_management(struct ide_drive *d)
{
    u32 blocks = (u32)(d->count[1] << 8 | d->count[0]);
    if (!(d->feature[0] & 1) || !blocks || blocks > 8 || !d->block->discards || d->block->readonly) {
        ide_command_failed(d, IDE_ABRT);
        return;
    }
    if (ide_need_buffer(d)) ide_dma_out(d, blocks * IDE_SECTOR, trim_begin);
}

/* ---- settings ---- */

bool ide_set_transfer_mode(struct ide_drive *d, u8 mode)
{
    u8 number = mode & 7;
    switch (mode >> 3) {
    case 0: return number <= 1; /* PIO default, without or with IORDY */
    case 1: return number <= 4;
    case 4:
        if (number > 2) return false;
        d->mwdma = number + 1;
        d->udma = 0;
        return true;
    case 8:
        if (number > 5) return false;
        d->udma = number + 1;
        d->mwdma = 0;
        return true;
    default: return false;
    }
}

static void cache_flushed(struct ide_drive *d, int error, size_t good)
{
    (void)good;
    if (error)
        ide_command_failed(d, IDE_ABRT);
    else
        ide_command_done(d);
}

static void set_features(struct ide_drive *d)
{
    switch (d->feature[0]) {
    case 0x02: d->write_cache = true; break;
    case 0x82:
        d->write_cache = false;
        ide_submit(d, BLOCK_FLUSH, 0, 0, cache_flushed);
        return;
    case 0x03:
        if (!ide_set_transfer_mode(d, d->count[0])) {
            ide_command_failed(d, IDE_ABRT);
            return;
        }
        break;
    case 0x55: d->look_ahead = false; break;
    case 0xaa: d->look_ahead = true; break;
    case 0x66: d->no_revert = true; break;
    case 0xcc: d->no_revert = false; break;
    default: ide_command_failed(d, IDE_ABRT); return;
    }
    ide_command_done(d);
}

static void set_multiple(struct ide_drive *d)
{
    u8 n = d->count[0];
    if (n > IDE_MULTIPLE || (n & (n - 1))) {
        ide_command_failed(d, IDE_ABRT); /* and multiple mode stays as it was [ATA-6] 8.41 */
        return;
    }
    d->multiple = n;
    ide_command_done(d);
}

static void init_parameters(struct ide_drive *d)
{
    if (!d->count[0]) {
        ide_command_failed(d, IDE_ABRT);
        return;
    }
    d->cur_sectors = d->count[0];
    d->cur_heads = (d->device & 0xf) + 1;
    ide_command_done(d);
}

static void native_max(struct ide_drive *d, bool ext)
{
    u64 last = ide_sectors(d) - 1;
    d->ext = ext;
    d->chs = false;
    if (!ext) {
        if (!(d->device & IDE_DEV_LBA)) {
            ide_command_failed(d, IDE_ABRT);
            return;
        }
        if (last > 0xfffffff) last = 0xfffffff;
    }
    show_address(d, last);
    ide_command_done(d);
}

/* ---- whole-sector commands without the medium ---- */

static void identify(struct ide_drive *d)
{
    if (!ide_need_buffer(d)) return;
    ide_identify(d, d->buf);
    ide_pio_in(d, 0, IDE_SECTOR, ide_command_read);
}

static void power(struct ide_drive *d, u8 state)
{
    d->power = state;
    ide_command_done(d);
}

static void sleep_mode(struct ide_drive *d)
{
    ide_command_done(d);
    d->phase = IDE_SLEEP;
}

void ide_ata_command(struct ide_drive *d, u8 command)
{
    u8 multiple = d->multiple;
    d->fua = false;
    switch (command) {
    case 0x06: data_set_management(d); break;
    case 0x20:
    case 0x21: transfer(d, ACCESS_READ, false, false, 1); break;
    case 0x24: transfer(d, ACCESS_READ, true, false, 1); break;
    case 0x25: transfer(d, ACCESS_READ, true, true, 1); break;
    case 0x27: native_max(d, true); break;
    case 0x29: transfer(d, ACCESS_READ, true, false, multiple); break;
    case 0x30:
    case 0x31: transfer(d, ACCESS_WRITE, false, false, 1); break;
    case 0x34: transfer(d, ACCESS_WRITE, true, false, 1); break;
    case 0x35: transfer(d, ACCESS_WRITE, true, true, 1); break;
    case 0x39: transfer(d, ACCESS_WRITE, true, false, multiple); break;
    case 0x3d:
        d->fua = true;
        transfer(d, ACCESS_WRITE, true, true, 1);
        break;
    case 0xce:
        d->fua = true;
        transfer(d, ACCESS_WRITE, true, false, multiple);
        break;
    case 0x40:
    case 0x41: transfer(d, ACCESS_VERIFY, false, false, 1); break;
    case 0x42: transfer(d, ACCESS_VERIFY, true, false, 1); break;
    case 0xc4: transfer(d, ACCESS_READ, false, false, multiple); break;
    case 0xc5: transfer(d, ACCESS_WRITE, false, false, multiple); break;
    case 0xc6: set_multiple(d); break;
    case 0xc8:
    case 0xc9: transfer(d, ACCESS_READ, false, true, 1); break;
    case 0xca:
    case 0xcb: transfer(d, ACCESS_WRITE, false, true, 1); break;
    case 0x10 ... 0x1f: /* RECALIBRATE */
    case 0x70 ... 0x7f: /* SEEK */ ide_command_done(d); break;
    case 0x91: init_parameters(d); break;
    case 0xb0: ide_smart(d); break;
    case 0x94:
    case 0xe0: /* STANDBY IMMEDIATE */
    case 0x96:
    case 0xe2: /* STANDBY */ power(d, 0x00); break;
    case 0x95:
    case 0xe1: /* IDLE IMMEDIATE */
    case 0x97:
    case 0xe3: /* IDLE */ power(d, 0xff); break;
    case 0x98:
    case 0xe5: /* CHECK POWER MODE */
        d->count[0] = d->power;
        ide_command_done(d);
        break;
    case 0x99:
    case 0xe6: sleep_mode(d); break;
    case 0xe4: /* READ BUFFER */
        if (ide_need_buffer(d)) ide_pio_in(d, 0, IDE_SECTOR, ide_command_read);
        break;
    case 0xe8: /* WRITE BUFFER */
        if (ide_need_buffer(d)) ide_pio_out(d, 0, IDE_SECTOR, false, ide_command_done);
        break;
    case 0xe7:
    case 0xea: ide_submit(d, BLOCK_FLUSH, 0, 0, cache_flushed); break;
    case 0xec: identify(d); break;
    case 0xef: set_features(d); break;
    case 0xf8: native_max(d, false); break;
    default:
        log_printf(LOG_UNIMP, "ide: command %02x not supported\n", command);
        ide_command_failed(d, IDE_ABRT);
        break;
    }
    /* Any command that moves the medium spins the drive up again. */
    if (d->phase != IDE_IDLE && d->phase != IDE_SLEEP) d->power = 0xff;
}

/* ---- life ---- */

void ide_ata_attach(struct ide_drive *d)
{
    /* The default translation [ATA-6] annex C: 16 heads of 63 sectors, fewer for tiny disks. */
    u64 sectors = ide_sectors(d);
    d->heads = 16;
    d->sectors = 63;
    u64 cylinders = sectors / (16 * 63);
    d->cylinders = (u16)(cylinders > 16383 ? 16383 : cylinders < 1 ? 1 : cylinders);
}

void ide_ata_reset(struct ide_drive *d, bool hard)
{
    d->power = 0xff;
    if (hard) {
        d->udma = 0;
        d->mwdma = 3; /* what a driver finds that never sets a mode */
        d->smart_on = d->smart_autosave = true;
        d->no_revert = false;
    }
    if (d->no_revert) return;
    d->multiple = IDE_MULTIPLE;
    d->cur_heads = d->heads;
    d->cur_sectors = d->sectors;
    d->write_cache = d->default_write_cache;
    d->look_ahead = true;
}
