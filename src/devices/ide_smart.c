/* SMART of a healthy disk: enable and status, attribute data and thresholds, self-tests that pass at once,
 * and empty logs. [ATA-6] 8.54; the layout of attributes is the vendors' common one [ATA-3] annex. */
#include "devices/ide_drive.h"

#include <string.h>

/* Attribute: id, flags, value, worst, raw; threshold. */
static const struct {
    u8 id, flags, value, raw, threshold;
} attributes[] = {
    {0x01, 0x03, 100, 0, 6},    /* raw read error rate */
    {0x03, 0x03, 100, 16, 0},   /* spin-up time */
    {0x04, 0x02, 100, 100, 20}, /* start/stop count */
    {0x05, 0x03, 100, 0, 36},   /* reallocated sectors */
    {0x09, 0x03, 100, 1, 0},    /* power-on hours */
    {0x0c, 0x03, 100, 0, 0},    /* power cycles */
    {0xbe, 0x03, 69, 31, 50},   /* air flow temperature */
};

static void send(struct ide_drive *d)
{
    u8 sum = 0;
    for (unsigned i = 0; i < 511; i++)
        sum += d->buf[i];
    d->buf[511] = (u8)-sum;
    ide_pio_in(d, 0, IDE_SECTOR, ide_command_read);
}

static void data(struct ide_drive *d)
{
    d->buf[0] = 0x01; /* revision */
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        u8 *a = d->buf + 2 + 12 * i;
        a[0] = attributes[i].id;
        a[1] = attributes[i].flags;
        a[3] = a[4] = attributes[i].value;
        a[5] = attributes[i].raw;
    }
    d->buf[362] = 0x02 | (d->smart_autosave ? 0x80 : 0); /* off-line collection: completed */
    d->buf[364] = 288 & 0xff;                            /* its seconds */
    d->buf[365] = 288 >> 8;
    d->buf[367] = 0x5b; /* off-line and self-test commands are there */
    d->buf[368] = 0x03; /* attributes are saved */
    d->buf[370] = 0x01; /* error logging */
    d->buf[372] = 2;    /* minutes of the short self-test */
    d->buf[373] = 54;   /* and of the long one */
}

static void thresholds(struct ide_drive *d)
{
    d->buf[0] = 0x01;
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        d->buf[2 + 12 * i] = attributes[i].id;
        d->buf[3 + 12 * i] = attributes[i].threshold;
    }
}

static bool log_page(struct ide_drive *d)
{
    switch (d->lba_low[0]) {
    case 0x00: /* directory */
        d->buf[0] = 0x01;
        d->buf[2] = 1;  /* log 1: one sector */
        d->buf[12] = 1; /* log 6 */
        return true;
    case 0x01: d->buf[0] = 0x01; return true; /* errors: none */
    case 0x06: d->buf[0] = 0x01; return true; /* self-tests: none */
    default: return false;
    }
}

void ide_smart(struct ide_drive *d)
{
    u8 sub = d->feature[0];
    if (d->lba_mid[0] != 0x4f || d->lba_high[0] != 0xc2 || (!d->smart_on && sub != 0xd8)) {
        ide_command_failed(d, IDE_ABRT);
        return;
    }
    switch (sub) {
    case 0xd0:
    case 0xd1:
    case 0xd5:
        if (!ide_need_buffer(d)) return;
        memset(d->buf, 0, IDE_SECTOR);
        if (sub == 0xd5 && !log_page(d)) break;
        if (sub == 0xd0) data(d);
        if (sub == 0xd1) thresholds(d);
        send(d);
        return;
    case 0xd2:
        d->smart_autosave = d->count[0] != 0;
        ide_command_done(d);
        return;
    case 0xd3: /* SAVE ATTRIBUTE VALUES */
    case 0xd4: /* EXECUTE OFF-LINE IMMEDIATE */ ide_command_done(d); return;
    case 0xd8:
        d->smart_on = true;
        ide_command_done(d);
        return;
    case 0xd9:
        d->smart_on = false;
        ide_command_done(d);
        return;
    case 0xda: /* RETURN STATUS: the signature stays: no threshold was exceeded */
        ide_command_done(d);
        return;
    default: break;
    }
    ide_command_failed(d, IDE_ABRT);
}
