/* The 82078 floppy disk controller of the PC, in AT mode, with two drives.
 *
 * Models all registers and the commands that drivers use, with DMA and without; the change line, write protection,
 * reset and polling interrupts. The disk is an image whose size gives the format; a drive is of the kind that its first
 * medium needs. Data commands are in fdc_data.c. Leaves out scan commands, SAVE, RESTORE and FORMAT AND WRITE (invalid
 * commands here), deleted data marks (written as ordinary ones), single density, sectors of other sizes than 512 bytes,
 * and tape drives.
 *
 * DEVIATION: heads and motors take no time, and the motor need not run.
 *
 * [82078] Intel 82078 44 pin CHMOS single-chip floppy disk controller, 290475 */
#include "devices/fdc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "devices/fdc_state.h"

/* digital output register */
#define DOR_RUN  0x04 /* not in reset */
#define DOR_GATE 0x08 /* interrupts and DMA requests get out */

/* main status register */
#define MSR_READY   0x80
#define MSR_TO_HOST 0x40
#define MSR_PIO     0x20
#define MSR_BUSY    0x10

#define DSR_RESET 0x80

#define CONFIG_NO_POLL 0x10
#define CONFIG_RESET   0x20 /* FIFO off, polling on */

#define STEP_LIMIT 83 /* the last cylinder that heads can reach */
#define PART_ID    0x41

/* Data rates as bits of struct fdc_format: 500, 300, 250 and 1000 kbit/s. A 360K disk is read at 250 in a drive of its
 * kind, at 300 in the faster 1.2M drive. */
enum { R500 = 1, R300 = 2, R250 = 4, R1000 = 8 };

static const struct fdc_format formats[] = {
    {40, 1, 8, R250 | R300, 1},  {40, 1, 9, R250 | R300, 1}, {40, 2, 8, R250 | R300, 1}, {40, 2, 9, R250 | R300, 1},
    {80, 2, 9, R250, 4},         {80, 2, 10, R250, 4},       {80, 2, 15, R500, 2},       {80, 2, 18, R500, 4},
    {82, 2, 18, R500, 4},        {80, 2, 20, R500, 4},       {80, 2, 21, R500, 4},       {82, 2, 21, R500, 4},
    {83, 2, 21, R500, 4},        {80, 2, 36, R1000, 5},
};

/* The first that holds so many bytes; of an image that is not full, the rest reads as zeros. What is smaller than all
 * floppies of a 1.44M drive is taken for one of those, unless it fits exactly. */
static const struct fdc_format *find_format(u64 size)
{
    const struct fdc_format *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        const struct fdc_format *m = &formats[i];
        u64 bytes = (u64)m->cylinders * m->heads * m->sectors * FDC_SECTOR;
        if (size == bytes) return m;
        if (!best && size && size < bytes && m->sectors >= 18) best = m;
    }
    return best;
}

u8 fdc_drive_type(u64 size)
{
    const struct fdc_format *m = find_format(size);
    return m ? m->type : 0;
}

/* ---- interrupts and phases ---- */

void fdc_raise(struct fdc *f, bool level)
{
    f->line = level;
    irq_set(&f->irq, level && f->dor & DOR_GATE && f->dor & DOR_RUN);
}

void fdc_result(struct fdc *f, unsigned length)
{
    f->phase = FDC_RESULT;
    f->at = 0;
    f->length = length;
}

static void idle(struct fdc *f)
{
    f->phase = FDC_COMMAND;
    f->at = 0;
}

/* A reset by DOR or DSR [82078] 4.3. */
static void soft_reset(struct fdc *f)
{
    fdc_data_abort(f);
    fdc_raise(f, false);
    idle(f);
    f->unsensed = 0;
    memset(f->pcn, 0, sizeof(f->pcn));
    f->perpendicular &= 0x3c;
    if (!f->lock) {
        f->config = CONFIG_RESET;
        f->pretrack = 0;
    }
}

/* Polling finds that all units became ready. */
static void after_reset(struct fdc *f)
{
    if (f->config & CONFIG_NO_POLL) return;
    for (u8 i = 0; i < FDC_UNITS; i++) f->sense[i] = 0xc0 | i;
    f->unsensed = 0x0f;
    fdc_raise(f, true);
}

/* ---- drives ---- */

void fdc_seek(struct fdc *f, u8 unit, int cylinder)
{
    struct fdc_drive *d = &f->drives[unit];
    int target = d->cylinder + cylinder - f->pcn[unit];
    target = MAX(0, MIN(target, STEP_LIMIT));
    if (d->present) {
        if (target != d->cylinder && d->medium) d->changed = false;
        d->cylinder = (u8)target;
    }
    f->pcn[unit] = (u8)cylinder;
}

static void seek_over(struct fdc *f, u8 st0)
{
    u8 unit = f->bytes[1] & 3;
    f->sense[unit] = st0 | unit;
    f->unsensed |= 1 << unit;
    idle(f);
    fdc_raise(f, true);
}

/* ---- commands ---- */

static void read_data(struct fdc *f) { fdc_data_start(f, FDC_READ); }
static void read_deleted(struct fdc *f) { fdc_data_start(f, FDC_READ_DELETED); }
static void read_track(struct fdc *f) { fdc_data_start(f, FDC_READ_TRACK); }
static void verify(struct fdc *f) { fdc_data_start(f, FDC_VERIFY); }
static void write_data(struct fdc *f) { fdc_data_start(f, FDC_WRITE); }
static void format_track(struct fdc *f) { fdc_data_start(f, FDC_FORMAT); }

static void recalibrate(struct fdc *f)
{
    u8 unit = f->bytes[1] & 3;
    f->pcn[unit] = f->drives[unit].cylinder; /* as many steps as it takes */
    fdc_seek(f, unit, 0);
    /* A unit that is not there never says "track 0". */
    seek_over(f, f->drives[unit].present ? ST0_SEEK_END : ST0_SEEK_END | ST0_ABNORMAL | ST0_EQUIPMENT);
}

static void seek(struct fdc *f)
{
    fdc_seek(f, f->bytes[1] & 3, f->bytes[2]);
    seek_over(f, ST0_SEEK_END | (f->bytes[1] & 4));
}

static void relative_seek(struct fdc *f)
{
    u8 unit = f->bytes[1] & 3;
    int steps = f->bytes[0] & 0x40 ? f->bytes[2] : -f->bytes[2];
    fdc_seek(f, unit, f->pcn[unit] + steps);
    seek_over(f, ST0_SEEK_END | (f->bytes[1] & 4));
}

static void sense_interrupt(struct fdc *f)
{
    if (!f->unsensed) {
        f->bytes[0] = ST0_INVALID;
        fdc_result(f, 1);
        return;
    }
    unsigned unit = (unsigned)__builtin_ctz(f->unsensed);
    bool seeks = (f->sense[unit] & 0xc0) != 0xc0;
    f->unsensed &= ~(1 << unit);
    f->bytes[0] = f->sense[unit];
    f->bytes[1] = f->pcn[unit];
    fdc_result(f, 2);
    fdc_raise(f, false);
    if (seeks && f->unsensed) fdc_raise(f, true);
}

static void specify(struct fdc *f)
{
    memcpy(f->specify, f->bytes + 1, 2);
    idle(f);
}

static void sense_drive(struct fdc *f)
{
    const struct fdc_drive *d = &f->drives[f->bytes[1] & 3];
    bool track0 = d->present && !d->cylinder, protected = d->medium && d->medium->readonly;
    f->bytes[0] = 0x28 | (f->bytes[1] & 7) | (track0 ? 0x10 : 0) | (protected ? 0x40 : 0);
    fdc_result(f, 1);
}

static void configure(struct fdc *f)
{
    f->config = f->bytes[2] & 0x7f;
    f->pretrack = f->bytes[3];
    idle(f);
}

static void perpendicular(struct fdc *f)
{
    /* OW: whether the drives' bits are changed, too. */
    f->perpendicular = f->bytes[1] & 0x80 ? f->bytes[1] & 0x3f : (f->perpendicular & 0x3c) | (f->bytes[1] & 3);
    idle(f);
}

static void lock(struct fdc *f)
{
    f->lock = f->bytes[0] & 0x80;
    f->bytes[0] = f->lock ? 0x10 : 0;
    fdc_result(f, 1);
}

static void dump_registers(struct fdc *f)
{
    memcpy(f->bytes, f->pcn, FDC_UNITS);
    memcpy(f->bytes + 4, f->specify, 2);
    f->bytes[6] = f->last_eot;
    f->bytes[7] = (f->lock ? 0x80 : 0) | f->perpendicular;
    f->bytes[8] = f->config;
    f->bytes[9] = f->pretrack;
    fdc_result(f, 10);
}

static void version(struct fdc *f)
{
    f->bytes[0] = 0x90;
    fdc_result(f, 1);
}

static void part_id(struct fdc *f)
{
    f->bytes[0] = PART_ID;
    fdc_result(f, 1);
}

static void option(struct fdc *f)
{
    f->option = f->bytes[1];
    idle(f);
}

static void power_mode(struct fdc *f)
{
    f->bytes[0] = f->power = f->bytes[1];
    fdc_result(f, 1);
}

/* Nothing follows from what drives are; a byte with bit 7 is the last one, and bit 6 in it asks for a result. */
static void drive_specification(struct fdc *f)
{
    if (!(f->bytes[1] & 0x80)) {
        f->at = 1;
        return;
    }
    if (f->bytes[1] & 0x40) {
        idle(f);
        return;
    }
    memset(f->bytes, 0, FDC_UNITS);
    fdc_result(f, FDC_UNITS);
}

static const struct command {
    u8 mask, value;           /* which bits of the opcode are fixed, and to what */
    u8 length;                /* bytes, opcode included */
    void (*run)(struct fdc *f); /* what it does */
} commands[] = {
    {0x1f, 0x06, 9, read_data},
    {0x1f, 0x0c, 9, read_deleted},
    {0x9f, 0x02, 9, read_track},
    {0x1f, 0x16, 9, verify},
    {0x3f, 0x05, 9, write_data},
    {0x3f, 0x09, 9, write_data}, /* deleted */
    {0xbf, 0x0d, 6, format_track},
    {0xbf, 0x0a, 2, fdc_read_id},
    {0xff, 0x07, 2, recalibrate},
    {0xff, 0x0f, 3, seek},
    {0xbf, 0x8f, 3, relative_seek},
    {0xff, 0x08, 1, sense_interrupt},
    {0xff, 0x03, 3, specify},
    {0xff, 0x04, 2, sense_drive},
    {0xff, 0x13, 4, configure},
    {0xff, 0x12, 2, perpendicular},
    {0x7f, 0x14, 1, lock},
    {0xff, 0x0e, 1, dump_registers},
    {0xff, 0x10, 1, version},
    {0xff, 0x18, 1, part_id},
    {0xff, 0x33, 2, option},
    {0xff, 0x17, 2, power_mode},
    {0xff, 0x8e, 2, drive_specification},
};

static void command_byte(struct fdc *f, u8 value)
{
    const struct command *c = commands;
    f->bytes[f->at++] = value;
    while (c < commands + ARRAY_LEN(commands) && (f->bytes[0] & c->mask) != c->value) c++;
    if (c == commands + ARRAY_LEN(commands)) {
        log_printf(LOG_GUEST_ERROR, "fdc: invalid command %02x\n", value);
        f->bytes[0] = ST0_INVALID;
        fdc_result(f, 1);
    } else if (f->at == c->length) {
        c->run(f);
    }
}

/* ---- registers ---- */

static u8 main_status(const struct fdc *f)
{
    if (!(f->dor & DOR_RUN)) return 0;
    switch (f->phase) {
    case FDC_COMMAND: return f->at ? MSR_READY | MSR_BUSY : MSR_READY;
    case FDC_RESULT: return MSR_READY | MSR_TO_HOST | MSR_BUSY;
    default: break;
    }
    u8 status = MSR_BUSY | (fdc_pio(f) ? MSR_PIO : 0);
    return fdc_data_ready(f) ? status | MSR_READY | (fdc_data_to_host(f) ? MSR_TO_HOST : 0) : status;
}

static u8 fifo_read(struct fdc *f)
{
    u8 status = main_status(f);
    if ((status & (MSR_READY | MSR_TO_HOST)) != (MSR_READY | MSR_TO_HOST)) {
        log_printf(LOG_GUEST_ERROR, "fdc: nothing to read, status %02x\n", status);
        return 0;
    }
    if (f->phase == FDC_EXECUTION) return fdc_data_read(f);
    if (f->at == 0 && f->length == 7) fdc_raise(f, false); /* the end of a data command is acknowledged so */
    u8 value = f->bytes[f->at++];
    if (f->at == f->length) idle(f);
    return value;
}

static void fifo_write(struct fdc *f, u8 value)
{
    u8 status = main_status(f);
    if ((status & (MSR_READY | MSR_TO_HOST)) != MSR_READY)
        log_printf(LOG_GUEST_ERROR, "fdc: write of %02x, status %02x\n", value, status);
    else if (f->phase == FDC_EXECUTION)
        fdc_data_write(f, value);
    else
        command_byte(f, value);
}

static void dor_write(struct fdc *f, u8 value)
{
    u8 old = f->dor;
    f->dor = value;
    if (!(value & DOR_RUN)) {
        if (old & DOR_RUN) soft_reset(f);
    } else if (!(old & DOR_RUN)) {
        after_reset(f);
    }
    fdc_raise(f, f->line); /* by the new gate */
}

static u64 fdc_read(void *opaque, u64 offset, unsigned size)
{
    struct fdc *f = opaque;
    (void)size;
    switch (offset) {
    case 0: return f->dor;
    case 1: return f->tape;
    case 2: return main_status(f);
    default: return fifo_read(f);
    }
}

static void fdc_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct fdc *f = opaque;
    (void)size;
    switch (offset) {
    case 0: dor_write(f, (u8)value); break;
    case 1: f->tape = value & 3; break;
    case 2:
        f->rate = value & 3;
        if (value & DSR_RESET && f->dor & DOR_RUN) {
            soft_reset(f);
            after_reset(f);
        }
        break;
    default: fifo_write(f, (u8)value); break;
    }
}

/* Bit 7 of the digital input register; the others are not driven by this chip. */
static u64 input_read(void *opaque, u64 offset, unsigned size)
{
    struct fdc *f = opaque;
    const struct fdc_drive *d = &f->drives[f->dor & 3];
    (void)offset;
    (void)size;
    return d->present && (d->changed || !d->medium) ? 0x80 : 0;
}

static void rate_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct fdc *f = opaque;
    (void)offset;
    (void)size;
    f->rate = value & 3;
}

static const struct region_ops fdc_ops = {fdc_read, fdc_write, 1, 1};
static const struct region_ops input_ops = {input_read, rate_write, 1, 1};

/* ---- the device ---- */

void fdc_attach(struct fdc *f, unsigned drive, struct block *medium)
{
    struct fdc_drive *d = &f->drives[drive];
    d->present = d->changed = true;
    d->medium = medium;
    d->format = medium ? find_format(medium->size) : NULL;
    if (!d->format) d->medium = NULL;
    d->type = d->format ? d->format->type : 4;
}

u8 fdc_type(const struct fdc *f, unsigned drive) { return f->drives[drive].type; }

void fdc_change_medium(struct fdc *f, unsigned drive, struct block *medium)
{
    u8 type = f->drives[drive].type;
    fdc_attach(f, drive, medium);
    f->drives[drive].type = type;
}

static void fdc_reset(struct device *dev)
{
    struct fdc *f = container_of(dev, struct fdc, dev);
    f->lock = false;
    f->dor = f->tape = 0;
    f->rate = 2; /* 250 kbit/s [82078] 2.1.6 */
    soft_reset(f);
    f->perpendicular = f->option = f->power = f->last_eot = 0;
    memset(f->specify, 0, sizeof(f->specify));
    for (unsigned i = 0; i < FDC_UNITS; i++) f->drives[i].changed = true;
}

static void fdc_destroy(struct device *dev)
{
    struct fdc *f = container_of(dev, struct fdc, dev);
    for (size_t i = 0; i < ARRAY_LEN(f->regions); i++) region_remove(f->regions[i]);
    timer_destroy(f->retry);
    f->destroyed = true;
    if (!f->in_flight) free(f);
}

static const struct device_class fdc_class = {"fdc", fdc_reset, fdc_destroy};

struct device *fdc_device(struct fdc *f) { return &f->dev; }

struct fdc *fdc_create(struct bus *ports, struct irq_line irq, struct i8237 *dma, struct clock *clock)
{
    struct fdc *f = calloc(1, sizeof(*f));
    if (f) f->retry = timer_create_on(clock, fdc_data_retry, f);
    if (!f || !f->retry) {
        fprintf(stderr, "calque: fdc: out of memory\n");
        free(f);
        return NULL;
    }
    f->dev.cls = &fdc_class;
    f->irq = irq;
    f->dma = dma;
    f->clock = clock;
    f->regions[0] = bus_add(ports, "fdc", 0x3f2, 4, 0, &fdc_ops, f);
    f->regions[1] = bus_add(ports, "fdc-input", 0x3f7, 1, 0, &input_ops, f);
    fdc_reset(&f->dev);
    return f;
}
