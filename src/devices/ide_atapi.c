/* The ATAPI commands of a CD-ROM drive, and the SCSI commands inside its packets.
 *
 * Models a drive with one data track of 2048-byte blocks (a raw ISO image): PACKET by PIO and DMA, the
 * reading commands, READ TOC, READ CD of data sectors (2048 user bytes, or 2352 made up around them), the
 * tray with its lock, media events, unit attentions, mode pages, configuration. Discs larger than a CD answer
 * as DVD-ROM.
 *
 * Leaves out: audio, writing, sub-channels, sessions, DVD keys: ILLEGAL REQUEST, as a drive without the
 * feature says.
 *
 * [ATA-6] T13/1410D revision 3b, 9.8 (PACKET protocol); [SPC-3] T10/1416-D; [MMC-5] T10/1675-D. */
#include "devices/ide_drive.h"

#include <errno.h>
#include <string.h>

#include "core/log.h"

#define CD_BLOCKS_MAX (90u * 60 * 75) /* more than any CD has: then it is a DVD */

/* Sense keys and additional codes [SPC-3] 4.5. */
#define KEY_NOT_READY 2
#define KEY_MEDIUM    3
#define KEY_ILLEGAL   5
#define KEY_ATTENTION 6

#define PROFILE_CD  0x0008
#define PROFILE_DVD 0x0010

enum { EVENT_NONE, EVENT_EJECT, EVENT_NEW, EVENT_REMOVED };

static bool ready(const struct ide_drive *d) { return d->block && !d->tray_open; }
static u32 blocks(const struct ide_drive *d)
{
    u64 n = d->block ? d->block->size / IDE_CD_SECTOR : 0;
    return (u32)MIN(n, 0xfffffffeull);
}

static u32 get16(const u8 *p) { return (u32)(p[0] << 8 | p[1]); }
static u32 get32(const u8 *p) { return get16(p) << 16 | get16(p + 2); }
static void put16(u8 *p, u32 v)
{
    p[0] = (u8)(v >> 8);
    p[1] = (u8)v;
}
static void put32(u8 *p, u32 v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

/* Minutes, seconds, frames, with the two seconds of lead-in. */
static void put_msf(u8 *p, u32 lba)
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
    ide_command_failed(d, (u8)(sense.key << 4 | (sense.key == KEY_ILLEGAL ? IDE_ABRT : 0)));
}

static void check(struct ide_drive *d, u8 key, u8 asc) { check_sense(d, (struct ide_sense){key, asc, 0}); }
static void no_medium(struct ide_drive *d)
{
    /* Medium not present: tray closed, or open. */
    check_sense(d, (struct ide_sense){KEY_NOT_READY, 0x3a, d->tray_open ? 2 : 1});
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

/* An answer of size bytes in buf, of which the host allows so many. */
static void answer(struct ide_drive *d, u32 size, u32 allowed)
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
        put_msf(raw + 12, d->cd_lba + i);
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
        check(d, KEY_MEDIUM, 0x11); /* unrecovered read error */
        return;
    }
    if (d->cd_block != IDE_CD_SECTOR) make_raw(d, n);
    d->cd_lba += n;
    d->cd_left -= n;
    send(d, n * d->cd_block);
}

static void read_blocks(struct ide_drive *d)
{
    if (!ready(d)) {
        no_medium(d);
        return;
    }
    d->chunk = MIN(d->cd_left, IDE_BUFFER / d->cd_block);
    ide_submit(d, BLOCK_READ, (u64)d->cd_lba * IDE_CD_SECTOR, d->chunk * IDE_CD_SECTOR, blocks_read);
}

static void read_disc(struct ide_drive *d, u32 lba, u32 count, u32 block)
{
    if (lba > blocks(d) || count > blocks(d) - lba) {
        check(d, KEY_ILLEGAL, 0x21); /* logical block address out of range */
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
        check(d, KEY_ILLEGAL, type > 2 ? 0x64 : 0x24); /* illegal mode for this track */
        return;
    }
    switch (d->packet[9] & 0xf8) {
    case 0x00: good(d); break;
    case 0x10: read_disc(d, lba, count, IDE_CD_SECTOR); break;
    case 0xf8: read_disc(d, lba, count, 2352); break;
    default: check(d, KEY_ILLEGAL, 0x24); break;
    }
}

/* ---- what the drive says about itself ---- */

static void inquiry(struct ide_drive *d)
{
    u8 *b = d->buf;
    u32 size = 36;
    memset(b, 0, 64);
    if (d->packet[1] & 1) { /* vital product data */
        b[0] = 5;
        b[1] = d->packet[2];
        switch (d->packet[2]) {
        case 0x00:
            b[3] = 2;
            b[5] = 0x80;
            break;
        case 0x80:
            b[3] = (u8)strlen(d->serial);
            memcpy(b + 4, d->serial, b[3]);
            break;
        default: check(d, KEY_ILLEGAL, 0x24); return;
        }
        answer(d, 4u + b[3], get16(d->packet + 3));
        return;
    }
    b[0] = 5;    /* CD/DVD */
    b[1] = 0x80; /* removable */
    b[2] = 0;    /* ATAPI: no version */
    b[3] = 0x21; /* response format 1, ATAPI 2 */
    b[4] = (u8)(size - 5);
    memset(b + 8, ' ', 28);
    memcpy(b + 8, "CALQUE", 6);
    memcpy(b + 16, "DVD-ROM", 7);
    memcpy(b + 32, "1.0", 3);
    answer(d, size, d->packet[4]);
}

static void request_sense(struct ide_drive *d)
{
    struct ide_sense s = d->sense;
    if (d->attention.key) {
        s = d->attention;
        d->attention.key = 0;
    }
    memset(d->buf, 0, 18);
    d->buf[0] = 0xf0;
    d->buf[2] = s.key;
    d->buf[7] = 10;
    d->buf[12] = s.asc;
    d->buf[13] = s.ascq;
    answer(d, 18, d->packet[4]);
}

static u32 capabilities(const struct ide_drive *d, u8 *p)
{
    memset(p, 0, 22);
    p[0] = 0x2a;
    p[1] = 20;
    p[2] = 0x3b; /* reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R */
    p[4] = 0x70; /* mode 2 form 1 and 2, multisession; no audio play */
    p[5] = 0;
    p[6] = (u8)(0x29 | (d->tray_locked ? 2 : 0)); /* tray loader, eject, lock */
    put16(p + 8, 706);                            /* 4x, KB/s */
    put16(p + 10, 2);                             /* volume levels */
    put16(p + 12, IDE_BUFFER >> 10);
    put16(p + 14, 706);
    return 22;
}

static u32 error_recovery(u8 *p)
{
    memset(p, 0, 8);
    p[0] = 0x01;
    p[1] = 6;
    p[3] = 5; /* retries */
    return 8;
}

static void mode_sense(struct ide_drive *d, bool ten)
{
    u8 page = d->packet[2] & 0x3f, control = d->packet[2] >> 6;
    u32 head = ten ? 8 : 4, size = head;
    u8 *b = d->buf;
    memset(b, 0, head);
    if (control == 3) {
        check(d, KEY_ILLEGAL, 0x39); /* saving parameters not supported */
        return;
    }
    if (page == 0x01 || page == 0x3f) size += error_recovery(b + size);
    if (page == 0x2a || page == 0x3f) size += capabilities(d, b + size);
    if (size == head) {
        check(d, KEY_ILLEGAL, 0x24);
        return;
    }
    if (control == 1) { /* nothing can be changed */
        for (u32 at = head; at < size; at += b[at + 1] + 2u)
            memset(b + at + 2, 0, b[at + 1]);
    }
    u8 medium = d->tray_open ? 0x71 : !d->block ? 0x70 : 0x01;
    if (ten) {
        put16(b, size - 2);
        b[2] = medium;
        answer(d, size, get16(d->packet + 7));
    } else {
        b[0] = (u8)(size - 1);
        b[1] = medium;
        answer(d, size, d->packet[4]);
    }
}

static void read_capacity(struct ide_drive *d)
{
    put32(d->buf, blocks(d) - 1);
    put32(d->buf + 4, IDE_CD_SECTOR);
    answer(d, 8, 8);
}

static void put_toc_address(const struct ide_drive *d, u8 *p, u32 lba)
{
    if (d->packet[1] & 2) {
        p[0] = 0;
        put_msf(p + 1, lba);
    } else {
        put32(p, lba);
    }
}

static void read_toc(struct ide_drive *d)
{
    u8 format = d->packet[2] & 0xf, start = d->packet[6], *b = d->buf;
    u32 size = 4;
    if (!format) format = d->packet[9] >> 6; /* where the first ATAPI drives had it */
    memset(b, 0, 64);
    b[2] = b[3] = 1; /* first and last track, or session */
    switch (format) {
    case 0:
        if (start > 1 && start != 0xaa) {
            check(d, KEY_ILLEGAL, 0x24);
            return;
        }
        if (start <= 1) {
            b[size + 1] = 0x14; /* data track */
            b[size + 2] = 1;
            put_toc_address(d, b + size + 4, 0);
            size += 8;
        }
        b[size + 1] = 0x16;
        b[size + 2] = 0xaa; /* lead-out */
        put_toc_address(d, b + size + 4, blocks(d));
        size += 8;
        break;
    case 1: /* one session, from track 1 */
        b[5] = 0x14;
        b[6] = 1;
        put_toc_address(d, b + 8, 0);
        size = 12;
        break;
    case 2: { /* raw: points A0, A1, A2 and the track, in minutes, seconds and frames */
        static const u8 points[4] = {0xa0, 0xa1, 0xa2, 1};
        for (int i = 0; i < 4; i++) {
            u8 *e = b + size;
            e[0] = 1;
            e[1] = 0x14;
            e[3] = points[i];
            if (i < 2)
                e[8] = 1;
            else
                put_msf(e + 8, i == 2 ? blocks(d) : 0);
            size += 11;
        }
        break;
    }
    default: check(d, KEY_ILLEGAL, 0x24); return;
    }
    put16(b, size - 2);
    answer(d, size, get16(d->packet + 7));
}

static void event_status(struct ide_drive *d)
{
    u8 *b = d->buf;
    u32 size = 4;
    memset(b, 0, 8);
    if (!(d->packet[1] & 1)) { /* asynchronous */
        check(d, KEY_ILLEGAL, 0x24);
        return;
    }
    b[3] = 0x10; /* the media class is all there is */
    if (d->packet[4] & 0x10) {
        b[2] = 0x04;
        b[4] = d->media_event;
        b[5] = (u8)((d->tray_open ? 1 : 0) | (ready(d) ? 2 : 0));
        d->media_event = EVENT_NONE;
        size = 8;
    } else {
        b[2] = 0x80; /* no event of the classes asked for */
    }
    put16(b, size - 2);
    answer(d, size, get16(d->packet + 7));
}

static u32 feature(u8 *p, u16 code, u8 flags, u32 extra)
{
    memset(p, 0, 4 + extra);
    put16(p, code);
    p[2] = flags;
    p[3] = (u8)extra;
    return 4 + extra;
}

static void get_configuration(struct ide_drive *d)
{
    u16 current = !ready(d) ? 0 : blocks(d) > CD_BLOCKS_MAX ? PROFILE_DVD : PROFILE_CD;
    u32 start = get16(d->packet + 2), type = d->packet[1] & 3, size = 8;
    u8 *b = d->buf;
    memset(b, 0, 8);
    put16(b + 6, current);
    if (type == 3) {
        check(d, KEY_ILLEGAL, 0x24);
        return;
    }
    /* Profile list, core, removable medium, random readable, and the current medium's reading. */
    static const u16 codes[] = {0x0000, 0x0001, 0x0003, 0x0010, 0x001e, 0x001f};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        u16 code = codes[i];
        bool now = code <= 3 || (code == 0x10 && current) || (code == 0x1e && current == PROFILE_CD) ||
                   (code == 0x1f && current == PROFILE_DVD);
        if ((type == 2 && code != start) || code < start || (type == 1 && !now)) continue;
        u8 *p = b + size, on = now ? 1 : 0;
        switch (code) {
        case 0x0000:
            size += feature(p, code, 0x02 | on, 8);
            put16(p + 4, PROFILE_DVD);
            p[6] = current == PROFILE_DVD;
            put16(p + 8, PROFILE_CD);
            p[10] = current == PROFILE_CD;
            break;
        case 0x0001:
            size += feature(p, code, 0x0a | on, 8);
            put32(p + 4, 2); /* ATAPI */
            p[8] = 1;
            break;
        case 0x0003:
            size += feature(p, code, 0x02 | on, 4);
            p[4] = 0x29; /* tray, eject, lock */
            break;
        case 0x0010:
            size += feature(p, code, on, 8);
            put32(p + 4, IDE_CD_SECTOR);
            put16(p + 8, 16);
            break;
        case 0x001e: size += feature(p, code, 0x08 | on, 4); break;
        default: size += feature(p, code, 0x04 | on, 0); break;
        }
    }
    put32(b, size - 4);
    answer(d, size, get16(d->packet + 7));
}

static void disc_information(struct ide_drive *d)
{
    if (d->packet[1] & 7) {
        check(d, KEY_ILLEGAL, 0x24);
        return;
    }
    memset(d->buf, 0, 34);
    put16(d->buf, 32);
    d->buf[2] = 0x0e; /* complete disc, complete session */
    d->buf[3] = d->buf[4] = d->buf[5] = d->buf[6] = 1;
    d->buf[7] = 0x20; /* unrestricted use */
    memset(d->buf + 16, 0xff, 8);
    answer(d, 34, get16(d->packet + 7));
}

static void track_information(struct ide_drive *d)
{
    memset(d->buf, 0, 36);
    put16(d->buf, 34);
    d->buf[2] = d->buf[3] = 1;
    d->buf[5] = 4; /* data track */
    d->buf[6] = 1;
    put32(d->buf + 24, blocks(d));
    answer(d, 36, get16(d->packet + 7));
}

static void dvd_structure(struct ide_drive *d)
{
    if (blocks(d) <= CD_BLOCKS_MAX) {
        check(d, KEY_ILLEGAL, 0x30); /* incompatible medium */
        return;
    }
    u8 *b = d->buf;
    u32 size = 4 + 2048;
    memset(b, 0, size);
    switch (d->packet[7]) {
    case 0x00: /* physical format */
        b[4] = 0x01;
        b[5] = 0x0f;
        b[6] = 0x01;
        put32(b + 8, 0x30000);
        put32(b + 12, 0x30000 + blocks(d) - 1);
        put32(b + 16, 0);
        break;
    case 0x01: size = 8; break; /* copyright: none */
    default: check(d, KEY_ILLEGAL, 0x24); return;
    }
    put16(b, size - 2);
    answer(d, size, get16(d->packet + 8));
}

static void mechanism_status(struct ide_drive *d)
{
    memset(d->buf, 0, 8);
    d->buf[1] = d->tray_open ? 0x10 : 0;
    answer(d, 8, get16(d->packet + 8));
}

/* ---- the tray ---- */

static void move_tray(struct ide_drive *d, bool open)
{
    if (open == d->tray_open) return;
    if (d->block) {
        d->media_event = open ? EVENT_REMOVED : EVENT_NEW;
        if (!open) d->attention = (struct ide_sense){KEY_ATTENTION, 0x28, 0};
    }
    d->tray_open = open;
    if (d->tray_moved) d->tray_moved(d->tray_opaque, open);
}

static void start_stop(struct ide_drive *d)
{
    bool load = d->packet[4] & 2, start = d->packet[4] & 1;
    if (load && !start && d->tray_locked) {
        check_sense(d, (struct ide_sense){KEY_ILLEGAL, 0x53, 2}); /* medium removal prevented */
        return;
    }
    if (load) move_tray(d, !start);
    good(d);
}

int ide_atapi_tray(struct ide_drive *d, bool open, bool force)
{
    if (open && d->tray_locked && !force) {
        d->media_event = EVENT_EJECT; /* the guest is asked */
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
    if (block) move_tray(d, false);
    d->media_event = block ? EVENT_NEW : EVENT_REMOVED;
    d->attention = (struct ide_sense){KEY_ATTENTION, 0x28, 0}; /* medium may have changed */
    return 0;
}

/* ---- packets ---- */

/* What is done although a unit attention waits: these report it another way [MMC-5] 4.1.6.1. */
static bool ignores_attention(u8 op) { return op == 0x03 || op == 0x12 || op == 0x46 || op == 0x4a; }

static bool needs_medium(u8 op)
{
    switch (op) {
    case 0x00:
    case 0x25:
    case 0x28:
    case 0x2b:
    case 0x42:
    case 0x43:
    case 0x51:
    case 0x52:
    case 0xa8:
    case 0xad:
    case 0xb9:
    case 0xbe: return true;
    default: return false;
    }
}

static u32 from_msf(const u8 *p) { return (p[0] * 60u + p[1]) * 75u + p[2] - 150u; }

static void execute(struct ide_drive *d)
{
    const u8 *p = d->packet;
    if (d->attention.key && !ignores_attention(p[0])) {
        struct ide_sense s = d->attention;
        d->attention.key = 0;
        check_sense(d, s);
        return;
    }
    if (needs_medium(p[0]) && !ready(d)) {
        no_medium(d);
        return;
    }
    switch (p[0]) {
    case 0x00: good(d); break; /* TEST UNIT READY */
    case 0x03: request_sense(d); break;
    case 0x12: inquiry(d); break;
    case 0x1a: mode_sense(d, false); break;
    case 0x1b: start_stop(d); break;
    case 0x1e: /* PREVENT ALLOW MEDIUM REMOVAL */
        d->tray_locked = p[4] & 1;
        good(d);
        break;
    case 0x25: read_capacity(d); break;
    case 0x28: read_disc(d, get32(p + 2), get16(p + 7), IDE_CD_SECTOR); break;
    case 0xa8: read_disc(d, get32(p + 2), get32(p + 6), IDE_CD_SECTOR); break;
    case 0x2b: /* SEEK */
        if (get32(p + 2) < blocks(d))
            good(d);
        else
            check(d, KEY_ILLEGAL, 0x21);
        break;
    case 0x43: read_toc(d); break;
    case 0x46: get_configuration(d); break;
    case 0x4a: event_status(d); break;
    case 0x51: disc_information(d); break;
    case 0x52: track_information(d); break;
    case 0x5a: mode_sense(d, true); break;
    case 0xad: dvd_structure(d); break;
    case 0xb9: {
        u32 from = from_msf(p + 3), to = from_msf(p + 6);
        if (to < from)
            check(d, KEY_ILLEGAL, 0x24);
        else
            read_cd(d, from, to - from);
        break;
    }
    case 0xbb: good(d); break; /* SET CD SPEED */
    case 0xbd: mechanism_status(d); break;
    case 0xbe: read_cd(d, get32(p + 2), (u32)p[6] << 16 | get16(p + 7)); break;
    default:
        log_printf(LOG_UNIMP, "ide: packet command %02x not supported\n", p[0]);
        check(d, KEY_ILLEGAL, 0x20); /* invalid command operation code */
        break;
    }
}

static void packet_given(struct ide_drive *d)
{
    memcpy(d->packet, d->buf, sizeof(d->packet));
    log_printf(LOG_IO, "ide: packet %02x %02x %02x %02x %02x %02x %02x %02x %02x %02x %02x %02x%s\n",
               d->packet[0], d->packet[1], d->packet[2], d->packet[3], d->packet[4], d->packet[5],
               d->packet[6], d->packet[7], d->packet[8], d->packet[9], d->packet[10], d->packet[11],
               d->packet_dma ? " dma" : "");
    execute(d);
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

static void quiet_end(struct ide_drive *d)
{
    d->phase = IDE_IDLE;
    d->status = IDE_DRDY | IDE_DSC;
}

void ide_atapi_command(struct ide_drive *d, u8 command)
{
    switch (command) {
    case 0xa0: packet(d); return;
    case 0xa1:
        if (!ide_need_buffer(d)) return;
        ide_identify(d, d->buf);
        ide_pio_in(d, 0, IDE_SECTOR, quiet_end);
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
    d->udma = 0;
    d->mwdma = 3;
    d->sense = (struct ide_sense){0, 0, 0};
    d->attention = (struct ide_sense){KEY_ATTENTION, 0x29, 0}; /* power on */
    d->tray_open = d->tray_locked = false;
    d->media_event = EVENT_NONE;
}
