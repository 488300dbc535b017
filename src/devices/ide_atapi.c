/* A CD-ROM drive: the PACKET protocol, the reading of discs, the tray.
 *
 * Models a drive with one data track of 2048-byte blocks (a raw ISO image): PACKET by PIO and DMA, the
 * reading commands, READ CD of data sectors (2048 user bytes, or 2352 made up around them), the tray with its
 * lock, media events, unit attentions; what it tells about itself is in ide_atapi_info.c. Discs larger than a
 * CD answer as DVD-ROM.
 *
 * Leaves out: audio, writing, sub-channels, sessions, DVD keys: ILLEGAL REQUEST, as a drive without the
 * feature says.
 *
 * [ATA-6] T13/1410D revision 3b, 9.8 (PACKET protocol); [SPC-3] T10/1416-D; [MMC-5] T10/1675-D. */
#include "devices/ide_atapi.h"

#include <errno.h>
#include <string.h>

#include "core/log.h"

void ide_atapi_put_msf(u8 *p, u32 lba)
{
    lba += 150;
    p[0] = (u8)(lba / (60 * 75));
    p[1] = (u8)(lba / 75 % 60);
    p[2] = (u8)(lba % 75);
}

/* ---- ends ---- */

static void good(struct ide_drive *d)
{
    d->count[0] = IDE_REASON_IO | IDE_REASON_COD;
    d->sense = (struct ide_sense){0, 0, 0};
    ide_command_done(d);
}

static void check_sense(struct ide_drive *d, struct ide_sense sense)
{
    d->count[0] = IDE_REASON_IO | IDE_REASON_COD;
    d->sense = sense;
    ide_command_failed(d, (u8)(sense.key << 4 | (sense.key == SENSE_ILLEGAL ? IDE_ABRT : 0)));
}

void ide_atapi_check(struct ide_drive *d, u8 key, u8 asc) { check_sense(d, (struct ide_sense){key, asc, 0}); }

static void no_medium(struct ide_drive *d)
{
    /* Medium not present: tray closed, or open. */
    check_sense(d, (struct ide_sense){SENSE_NOT_READY, 0x3a, d->tray_open ? 2 : 1});
}

/* ---- data to the host ---- */

static void send_more(struct ide_drive *d);

static void block_sent(struct ide_drive *d)
{
    d->served = (u32)d->pos;
    send_more(d);
}

static void read_blocks(struct ide_drive *d);

/* The next DRQ block of what is in buf, or the next part of the disc, or the end. */
static void send_more(struct ide_drive *d)
{
    if (!d->data_left) {
        if (d->cd_left)
            read_blocks(d);
        else
            good(d);
        return;
    }
    u32 size = MIN(d->data_left, d->byte_limit);
    d->data_left -= size;
    d->count[0] = IDE_REASON_IO;
    d->lba_mid[0] = (u8)size;
    d->lba_high[0] = (u8)(size >> 8);
    ide_pio_in(d, d->served, size, block_sent);
}

static void dma_sent(struct ide_drive *d)
{
    if (d->cd_left)
        read_blocks(d);
    else
        good(d);
}

static void send(struct ide_drive *d, u32 size)
{
    d->served = 0;
    if (d->packet_dma) {
        d->count[0] = IDE_REASON_IO;
        ide_dma_in(d, size, dma_sent);
    } else {
        d->data_left = size;
        send_more(d);
    }
}

void ide_atapi_answer(struct ide_drive *d, u32 size, u32 allowed)
{
    u32 n = MIN(size, allowed);
    d->cd_left = 0;
    if (!n)
        good(d);
    else
        send(d, n);
}

/* ---- reading the disc ---- */

/* Spread the 2048-byte blocks in buf to raw sectors: sync, header, data; the error correction is left zero.
 */
static void make_raw(struct ide_drive *d, u32 n)
{
    for (u32 i = n; i-- > 0;) {
        u8 *raw = d->buf + (size_t)i * 2352;
        memmove(raw + 16, d->buf + (size_t)i * IDE_CD_SECTOR, IDE_CD_SECTOR);
    }
    for (u32 i = 0; i < n; i++) {
        u8 *raw = d->buf + (size_t)i * 2352;
        memset(raw + 1, 0xff, 10);
        raw[0] = raw[11] = 0;
        ide_atapi_put_msf(raw + 12, d->cd_lba + i);
        for (int k = 12; k < 15; k++)
            raw[k] = (u8)(raw[k] / 10 << 4 | raw[k] % 10);
        raw[15] = 1;
        memset(raw + 16 + IDE_CD_SECTOR, 0, 288);
    }
}

static void blocks_read(struct ide_drive *d, int error, size_t bytes)
{
    u32 n = d->chunk;
    (void)bytes;
    if (error) {
        ide_atapi_check(d, SENSE_MEDIUM, 0x11); /* unrecovered read error */
        return;
    }
    if (d->cd_block != IDE_CD_SECTOR) make_raw(d, n);
    d->cd_lba += n;
    d->cd_left -= n;
    send(d, n * d->cd_block);
}

static void read_blocks(struct ide_drive *d)
{
    if (!ide_atapi_ready(d)) {
        no_medium(d);
        return;
    }
    d->chunk = MIN(d->cd_left, IDE_BUFFER / d->cd_block);
    ide_submit(d, BLOCK_READ, (u64)d->cd_lba * IDE_CD_SECTOR, d->chunk * IDE_CD_SECTOR, blocks_read);
}

static void read_disc(struct ide_drive *d, u32 lba, u32 count, u32 block)
{
    if (lba > ide_atapi_blocks(d) || count > ide_atapi_blocks(d) - lba) {
        ide_atapi_check(d, SENSE_ILLEGAL, 0x21); /* logical block address out of range */
        return;
    }
    d->cd_lba = lba;
    d->cd_left = count;
    d->cd_block = block;
    if (count)
        read_blocks(d);
    else
        good(d);
}

/* [MMC-5] 6.21: byte 9 says which parts of the sectors are wanted. */
static void read_cd(struct ide_drive *d, u32 lba, u32 count)
{
    u8 type = d->packet[1] >> 2 & 7;
    if ((type != 0 && type != 2) || d->packet[10] & 7) {
        ide_atapi_check(d, SENSE_ILLEGAL, type > 2 ? 0x64 : 0x24); /* illegal mode for this track */
        return;
    }
    switch (d->packet[9] & 0xf8) {
    case 0x00: good(d); break;
    case 0x10: read_disc(d, lba, count, IDE_CD_SECTOR); break;
    case 0xf8: read_disc(d, lba, count, 2352); break;
    default: ide_atapi_check(d, SENSE_ILLEGAL, 0x24); break;
    }
}

/* ---- the tray ---- */

static void move_tray(struct ide_drive *d, bool open)
{
    if (open == d->tray_open) return;
    if (d->block) {
        d->media_event = open ? MEDIA_REMOVED : MEDIA_NEW;
        if (!open) d->attention = (struct ide_sense){SENSE_ATTENTION, 0x28, 0}; /* medium may have changed */
    }
    d->tray_open = open;
    if (d->tray_moved) d->tray_moved(d->tray_opaque, open);
}

static void start_stop(struct ide_drive *d)
{
    bool load = d->packet[4] & 2, start = d->packet[4] & 1;
    if (load && !start && d->tray_locked) {
        check_sense(d, (struct ide_sense){SENSE_ILLEGAL, 0x53, 2}); /* medium removal prevented */
        return;
    }
    if (load) move_tray(d, !start);
    good(d);
}

int ide_atapi_tray(struct ide_drive *d, bool open, bool force)
{
    if (open && d->tray_locked && !force) {
        d->media_event = MEDIA_EJECT; /* the guest is asked */
        return -EBUSY;
    }
    if (open) d->tray_locked = false;
    move_tray(d, open);
    return 0;
}

int ide_atapi_change(struct ide_drive *d, struct block *block, bool force)
{
    int err = d->tray_open ? 0 : ide_atapi_tray(d, true, force);
    if (err) return err;
    d->block = block;
    return 0;
}

/* ---- the commands ---- */

static void prevent_removal(struct ide_drive *d)
{
    d->tray_locked = d->packet[4] & 1;
    good(d);
}

static void seek(struct ide_drive *d)
{
    if (be_get32(d->packet + 2) < ide_atapi_blocks(d))
        good(d);
    else
        ide_atapi_check(d, SENSE_ILLEGAL, 0x21);
}

static void read_10(struct ide_drive *d)
{
    read_disc(d, be_get32(d->packet + 2), be_get16(d->packet + 7), IDE_CD_SECTOR);
}

static void read_12(struct ide_drive *d)
{
    read_disc(d, be_get32(d->packet + 2), be_get32(d->packet + 6), IDE_CD_SECTOR);
}

static void read_cd_blocks(struct ide_drive *d)
{
    read_cd(d, be_get32(d->packet + 2), (u32)d->packet[6] << 16 | be_get16(d->packet + 7));
}

static u32 from_msf(const u8 *p) { return (p[0] * 60u + p[1]) * 75u + p[2] - 150u; }

static void read_cd_msf(struct ide_drive *d)
{
    u32 from = from_msf(d->packet + 3), to = from_msf(d->packet + 6);
    if (to < from)
        ide_atapi_check(d, SENSE_ILLEGAL, 0x24);
    else
        read_cd(d, from, to - from);
}

#define WITH_DISC 1 /* needs one that is in */
#define ANY_TIME  2 /* is done although a unit attention waits, and reports it another way [MMC-5] 4.1.6.1 */

static const struct command {
    u8 code, flags; /* first byte of the packet; the above */
    ide_step *run;  /* does it */
} commands[] = {
    {0x00, WITH_DISC, good}, /* TEST UNIT READY */
    {0x03, ANY_TIME, ide_atapi_request_sense},
    {0x12, ANY_TIME, ide_atapi_inquiry},
    {0x1a, 0, ide_atapi_mode_sense},
    {0x1b, 0, start_stop},
    {0x1e, 0, prevent_removal},
    {0x25, WITH_DISC, ide_atapi_read_capacity},
    {0x28, WITH_DISC, read_10},
    {0x2b, WITH_DISC, seek},
    {0x43, WITH_DISC, ide_atapi_read_toc},
    {0x46, ANY_TIME, ide_atapi_get_configuration},
    {0x4a, ANY_TIME, ide_atapi_event_status},
    {0x51, WITH_DISC, ide_atapi_disc_information},
    {0x52, WITH_DISC, ide_atapi_track_information},
    {0x5a, 0, ide_atapi_mode_sense},
    {0xa8, WITH_DISC, read_12},
    {0xad, WITH_DISC, ide_atapi_dvd_structure},
    {0xb9, WITH_DISC, read_cd_msf},
    {0xbb, 0, good}, /* SET CD SPEED */
    {0xbd, 0, ide_atapi_mechanism_status},
    {0xbe, WITH_DISC, read_cd_blocks},
};

static const struct command *find_command(u8 code)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (commands[i].code == code) return &commands[i];
    return NULL;
}

/* ---- packets ---- */

static void packet_given(struct ide_drive *d)
{
    memcpy(d->packet, d->buf, sizeof(d->packet));
    log_printf(LOG_IO, "ide: packet %02x %02x %02x %02x %02x %02x %02x %02x %02x %02x %02x %02x%s\n",
               d->packet[0], d->packet[1], d->packet[2], d->packet[3], d->packet[4], d->packet[5],
               d->packet[6], d->packet[7], d->packet[8], d->packet[9], d->packet[10], d->packet[11],
               d->packet_dma ? " dma" : "");
    const struct command *c = find_command(d->packet[0]);
    if (d->attention.key && !(c && c->flags & ANY_TIME)) {
        struct ide_sense s = d->attention;
        d->attention.key = 0;
        check_sense(d, s);
    } else if (!c) {
        log_printf(LOG_UNIMP, "ide: packet command %02x not supported\n", d->packet[0]);
        ide_atapi_check(d, SENSE_ILLEGAL, 0x20); /* invalid command operation code */
    } else if (c->flags & WITH_DISC && !ide_atapi_ready(d)) {
        no_medium(d);
    } else {
        c->run(d);
    }
}

static void packet(struct ide_drive *d)
{
    if (d->feature[0] & 2 || (d->feature[0] & 1 && !d->udma && !d->mwdma)) { /* overlapped; DMA is off */
        ide_command_failed(d, IDE_ABRT);
        return;
    }
    if (!ide_need_buffer(d)) return;
    d->packet_dma = d->feature[0] & 1;
    /* An odd limit is rounded down, all ones too; zero cannot be meant [ATA-6] 8.21.4. */
    d->byte_limit = (u32)(d->lba_mid[0] | d->lba_high[0] << 8) & ~1u;
    if (!d->byte_limit) d->byte_limit = 0xfffe;
    d->cd_left = d->data_left = 0;
    d->count[0] = IDE_REASON_COD;
    /* The drive is of the kind that asks for the packet without an interrupt. */
    ide_pio_out(d, 0, sizeof(d->packet), false, packet_given);
}

void ide_atapi_command(struct ide_drive *d, u8 command)
{
    switch (command) {
    case 0xa0: packet(d); return;
    case 0xa1:
        if (!ide_need_buffer(d)) return;
        ide_identify(d, d->buf);
        ide_pio_in(d, 0, IDE_SECTOR, ide_command_read);
        return;
    case 0xef: /* SET FEATURES: transfer mode, reverting */
        if (d->feature[0] == 0x03 && ide_set_transfer_mode(d, d->count[0])) break;
        if (d->feature[0] == 0x66 || d->feature[0] == 0xcc) break;
        ide_command_failed(d, IDE_ABRT);
        return;
    case 0x94:
    case 0x95:
    case 0x96:
    case 0x97:
    case 0xe0:
    case 0xe1:
    case 0xe2:
    case 0xe3: break; /* power */
    case 0x98:
    case 0xe5: d->count[0] = 0xff; break;
    case 0x99:
    case 0xe6:
        ide_command_done(d);
        d->phase = IDE_SLEEP;
        return;
    case 0x20:
    case 0xec: /* READ SECTORS and IDENTIFY DEVICE tell who this is [ATA-6] 8.15.5.2 */
        ide_signature(d);
        ide_command_failed(d, IDE_ABRT);
        return;
    default: ide_command_failed(d, IDE_ABRT); return;
    }
    ide_command_done(d);
}

void ide_atapi_reset(struct ide_drive *d, bool hard)
{
    d->cd_left = d->data_left = 0;
    if (!hard) return; /* DEVICE RESET and SRST leave the mechanics and modes alone */
    move_tray(d, false);
    d->udma = 0;
    d->mwdma = 3;
    d->sense = (struct ide_sense){0, 0, 0};
    d->attention = (struct ide_sense){SENSE_ATTENTION, 0x29, 0}; /* power on */
    d->tray_locked = false;
    d->media_event = MEDIA_NONE;
}
