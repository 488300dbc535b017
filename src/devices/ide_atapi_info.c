/* What a CD-ROM drive says about itself and its disc: the answers to the SCSI commands that only ask. Each
 * builds one in buf and sends as much of it as the command allows. Which there are is ide_atapi.c's table.
 *
 * [SPC-3] T10/1416-D; [MMC-5] T10/1675-D. */
#include "devices/ide_atapi.h"

#include <string.h>

#define CD_BLOCKS_MAX (90u * 60 * 75) /* more than any CD has: then it is a DVD */

#define PROFILE_CD  0x0008
#define PROFILE_DVD 0x0010

void ide_atapi_inquiry(struct ide_drive *d)
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
        default: ide_atapi_check(d, SENSE_ILLEGAL, 0x24); return;
        }
        ide_atapi_answer(d, 4u + b[3], be_get16(d->packet + 3));
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
    ide_atapi_answer(d, size, d->packet[4]);
}

void ide_atapi_request_sense(struct ide_drive *d)
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
    ide_atapi_answer(d, 18, d->packet[4]);
}

static u32 capabilities(const struct ide_drive *d, u8 *p)
{
    memset(p, 0, 22);
    p[0] = 0x2a;
    p[1] = 20;
    p[2] = 0x3b;                                  /* reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R */
    p[4] = 0x70;                                  /* mode 2 form 1 and 2, multisession; no audio play */
    p[6] = (u8)(0x29 | (d->tray_locked ? 2 : 0)); /* tray loader, eject, lock */
    be_put16(p + 8, 706);                         /* 4x, KB/s */
    be_put16(p + 10, 2);                          /* volume levels */
    be_put16(p + 12, IDE_BUFFER >> 10);
    be_put16(p + 14, 706);
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

void ide_atapi_mode_sense(struct ide_drive *d)
{
    u8 page = d->packet[2] & 0x3f, control = d->packet[2] >> 6;
    bool ten = d->packet[0] == 0x5a;
    u32 head = ten ? 8 : 4, size = head;
    u8 *b = d->buf;
    memset(b, 0, head);
    if (control == 3) {
        ide_atapi_check(d, SENSE_ILLEGAL, 0x39); /* saving parameters not supported */
        return;
    }
    if (page == 0x01 || page == 0x3f) size += error_recovery(b + size);
    if (page == 0x2a || page == 0x3f) size += capabilities(d, b + size);
    if (size == head) {
        ide_atapi_check(d, SENSE_ILLEGAL, 0x24);
        return;
    }
    if (control == 1) { /* nothing can be changed */
        for (u32 at = head; at < size; at += b[at + 1] + 2u)
            memset(b + at + 2, 0, b[at + 1]);
    }
    u8 medium = d->tray_open ? 0x71 : !d->block ? 0x70 : 0x01;
    if (ten) {
        be_put16(b, size - 2);
        b[2] = medium;
        ide_atapi_answer(d, size, be_get16(d->packet + 7));
    } else {
        b[0] = (u8)(size - 1);
        b[1] = medium;
        ide_atapi_answer(d, size, d->packet[4]);
    }
}

void ide_atapi_read_capacity(struct ide_drive *d)
{
    be_put32(d->buf, ide_atapi_blocks(d) - 1);
    be_put32(d->buf + 4, IDE_CD_SECTOR);
    ide_atapi_answer(d, 8, 8);
}

static void put_toc_address(const struct ide_drive *d, u8 *p, u32 lba)
{
    if (d->packet[1] & 2) {
        p[0] = 0;
        ide_atapi_put_msf(p + 1, lba);
    } else {
        be_put32(p, lba);
    }
}

void ide_atapi_read_toc(struct ide_drive *d)
{
    u8 format = d->packet[2] & 0xf, start = d->packet[6], *b = d->buf;
    u32 size = 4;
    if (!format) format = d->packet[9] >> 6; /* where the first ATAPI drives had it */
    memset(b, 0, 64);
    b[2] = b[3] = 1; /* first and last track, or session */
    switch (format) {
    case 0:
        if (start > 1 && start != 0xaa) {
            ide_atapi_check(d, SENSE_ILLEGAL, 0x24);
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
        put_toc_address(d, b + size + 4, ide_atapi_blocks(d));
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
                ide_atapi_put_msf(e + 8, i == 2 ? ide_atapi_blocks(d) : 0);
            size += 11;
        }
        break;
    }
    default: ide_atapi_check(d, SENSE_ILLEGAL, 0x24); return;
    }
    be_put16(b, size - 2);
    ide_atapi_answer(d, size, be_get16(d->packet + 7));
}

void ide_atapi_event_status(struct ide_drive *d)
{
    u8 *b = d->buf;
    u32 size = 4;
    memset(b, 0, 8);
    if (!(d->packet[1] & 1)) { /* asynchronous */
        ide_atapi_check(d, SENSE_ILLEGAL, 0x24);
        return;
    }
    b[3] = 0x10; /* the media class is all there is */
    if (d->packet[4] & 0x10) {
        b[2] = 0x04;
        b[4] = d->media_event;
        b[5] = (u8)((d->tray_open ? 1 : 0) | (ide_atapi_ready(d) ? 2 : 0));
        d->media_event = MEDIA_NONE;
        size = 8;
    } else {
        b[2] = 0x80; /* no event of the classes asked for */
    }
    be_put16(b, size - 2);
    ide_atapi_answer(d, size, be_get16(d->packet + 7));
}

static u32 feature(u8 *p, u16 code, u8 flags, u32 extra)
{
    memset(p, 0, 4 + extra);
    be_put16(p, code);
    p[2] = flags;
    p[3] = (u8)extra;
    return 4 + extra;
}

void ide_atapi_get_configuration(struct ide_drive *d)
{
    u16 current = !ide_atapi_ready(d) ? 0 : ide_atapi_blocks(d) > CD_BLOCKS_MAX ? PROFILE_DVD : PROFILE_CD;
    u32 start = be_get16(d->packet + 2), type = d->packet[1] & 3, size = 8;
    u8 *b = d->buf;
    memset(b, 0, 8);
    be_put16(b + 6, current);
    if (type == 3) {
        ide_atapi_check(d, SENSE_ILLEGAL, 0x24);
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
            be_put16(p + 4, PROFILE_DVD);
            p[6] = current == PROFILE_DVD;
            be_put16(p + 8, PROFILE_CD);
            p[10] = current == PROFILE_CD;
            break;
        case 0x0001:
            size += feature(p, code, 0x0a | on, 8);
            be_put32(p + 4, 2); /* ATAPI */
            p[8] = 1;
            break;
        case 0x0003:
            size += feature(p, code, 0x02 | on, 4);
            p[4] = 0x29; /* tray, eject, lock */
            break;
        case 0x0010:
            size += feature(p, code, on, 8);
            be_put32(p + 4, IDE_CD_SECTOR);
            be_put16(p + 8, 16);
            break;
        case 0x001e: size += feature(p, code, 0x08 | on, 4); break;
        default: size += feature(p, code, 0x04 | on, 0); break;
        }
    }
    be_put32(b, size - 4);
    ide_atapi_answer(d, size, be_get16(d->packet + 7));
}

void ide_atapi_disc_information(struct ide_drive *d)
{
    if (d->packet[1] & 7) {
        ide_atapi_check(d, SENSE_ILLEGAL, 0x24);
        return;
    }
    memset(d->buf, 0, 34);
    be_put16(d->buf, 32);
    d->buf[2] = 0x0e; /* complete disc, complete session */
    d->buf[3] = d->buf[4] = d->buf[5] = d->buf[6] = 1;
    d->buf[7] = 0x20; /* unrestricted use */
    memset(d->buf + 16, 0xff, 8);
    ide_atapi_answer(d, 34, be_get16(d->packet + 7));
}

void ide_atapi_track_information(struct ide_drive *d)
{
    memset(d->buf, 0, 36);
    be_put16(d->buf, 34);
    d->buf[2] = d->buf[3] = 1;
    d->buf[5] = 4; /* data track */
    d->buf[6] = 1;
    be_put32(d->buf + 24, ide_atapi_blocks(d));
    ide_atapi_answer(d, 36, be_get16(d->packet + 7));
}

void ide_atapi_dvd_structure(struct ide_drive *d)
{
    if (ide_atapi_blocks(d) <= CD_BLOCKS_MAX) {
        ide_atapi_check(d, SENSE_ILLEGAL, 0x30); /* incompatible medium */
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
        be_put32(b + 8, 0x30000);
        be_put32(b + 12, 0x30000 + ide_atapi_blocks(d) - 1);
        be_put32(b + 16, 0);
        break;
    case 0x01: size = 8; break; /* copyright: none */
    default: ide_atapi_check(d, SENSE_ILLEGAL, 0x24); return;
    }
    be_put16(b, size - 2);
    ide_atapi_answer(d, size, be_get16(d->packet + 8));
}

void ide_atapi_mechanism_status(struct ide_drive *d)
{
    memset(d->buf, 0, 8);
    d->buf[1] = d->tray_open ? 0x10 : 0;
    ide_atapi_answer(d, 8, be_get16(d->packet + 8));
}
