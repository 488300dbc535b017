/* An IDE channel: the registers of two drives on one cable, and the PIO and DMA protocols of ATA.
 *
 * Models the command and control block registers with the 48-bit register pairs, drive selection with one or
 * two drives, interrupts with nIEN, software reset, EXECUTE DEVICE DIAGNOSTIC, the PIO data port (8, 16 and
 * 32 bits wide) and DMA through a bus master. The commands themselves are in ide_ata.c and ide_atapi.c.
 *
 * Leaves out: overlapped and queued commands, CFA, the time a reset takes (it is over at once).
 *
 * [ATA-6] T13/1410D revision 3b, AT Attachment with Packet Interface - 6. */
#include "devices/ide_drive.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"

/* Offsets in the command block. */
#define REG_DATA     0
#define REG_FEATURE  1 /* error when read */
#define REG_COUNT    2
#define REG_LBA_LOW  3
#define REG_LBA_MID  4
#define REG_LBA_HIGH 5
#define REG_DEVICE   6
#define REG_COMMAND  7 /* status when read */

#define CMD_DEVICE_RESET 0x08
#define CMD_DIAGNOSTIC   0x90

/* A cable without drives floats, but for DD7, which the host pulls down [ATA-6] table 4 note. */
#define FLOATING 0x7f

/* A request at the back end. It outlives a command that is cancelled. */
struct ide_io {
    struct block_request request;                              /* what the back end has */
    struct ide_drive *drive;                                   /* whose it is; NULL: cancelled */
    u8 *orphan;                                                /* buffer to free, when cancelled */
    void (*done)(struct ide_drive *d, int error, size_t good); /* what follows */
    struct ram *ram;                                           /* where the pieces are */
    struct iovec pieces[];                                     /* of guest memory, when the data are there */
};

/* ---- interrupts ---- */

static void update_irq(struct ide_channel *c)
{
    const struct ide_drive *d = &c->drive[c->selected];
    bool level = d->kind != IDE_NONE && d->intrq && !(c->control & IDE_NIEN);
    if (level == c->line) return;
    c->line = level;
    if (level && c->dma.irq) c->dma.irq(c->dma.opaque);
    irq_set(&c->irq, level);
}

void ide_raise(struct ide_drive *d)
{
    d->intrq = true;
    update_irq(d->channel);
}

/* ---- the back end ---- */

static void io_done(struct block_request *r)
{
    struct ide_io *io = (struct ide_io *)r;
    struct ide_drive *d = io->drive;
    int error = r->error;
    size_t good = r->good;
    void (*done)(struct ide_drive * d, int error, size_t good) = io->done;
    if (r->op == BLOCK_READ) {
        for (unsigned i = 0; i < r->piece_count; i++)
            ram_note_write(io->ram, (u64)((u8 *)io->pieces[i].iov_base - io->ram->host), io->pieces[i].iov_len);
    }
    free(io->orphan);
    free(io);
    if (!d) return;
    d->io = NULL;
    done(d, error, good);
}

static void submit(struct ide_drive *d, struct ide_io *io, struct block_request request,
                   void (*done)(struct ide_drive *d, int error, size_t good))
{
    d->phase = IDE_WORKING;
    d->status = IDE_BSY;
    io->request = request;
    io->request.done = io_done;
    io->drive = d;
    io->orphan = NULL;
    io->done = done;
    d->io = io;
    block_submit(d->block, &io->request);
}

void ide_submit(struct ide_drive *d, enum block_op op, u64 offset, size_t size,
                void (*done)(struct ide_drive *d, int error, size_t good))
{
    struct ide_io *io = malloc(sizeof(*io));
    if (io)
        submit(d, io, (struct block_request){.op = op, .offset = offset, .size = size, .buf = d->buf}, done);
    else
        ide_command_failed(d, IDE_ABRT);
}

/* The guest's memory is its own again. */
static void drain(struct ide_drive *d)
{
    if (d->io && d->io->request.piece_count) block_drain(d->block);
}

/* The back end may still use the buffer: leave it that. */
static void cancel(struct ide_drive *d)
{
    if (d->io) {
        drain(d);
        d->io->drive = NULL;
        d->io->orphan = d->buf;
        d->io = NULL;
        d->buf = NULL;
    }
    d->phase = IDE_IDLE;
    d->pos = d->end = 0;
    d->direct = false;
    d->next = NULL;
}

bool ide_need_buffer(struct ide_drive *d)
{
    if (!d->buf) d->buf = malloc(IDE_BUFFER);
    if (d->buf) return true;
    ide_command_failed(d, IDE_ABRT);
    return false;
}

/* ---- protocols ---- */

void ide_pio_in(struct ide_drive *d, size_t pos, size_t size, ide_step *next)
{
    d->phase = IDE_PIO_IN;
    d->pos = pos;
    d->end = pos + size;
    d->next = next;
    d->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
    ide_raise(d);
}

void ide_pio_out(struct ide_drive *d, size_t pos, size_t size, bool irq, ide_step *next)
{
    d->phase = IDE_PIO_OUT;
    d->pos = pos;
    d->end = pos + size;
    d->next = next;
    d->status = IDE_DRDY | IDE_DSC | IDE_DRQ;
    if (irq) ide_raise(d);
}

static void dma_find(struct ide_drive *d)
{
    const struct ide_dma *dma = &d->channel->dma;
    struct ide_io *io = malloc(sizeof(*io) + IDE_PIECES * sizeof(io->pieces[0]));
    unsigned count = 0;
    int n = -1;
    if (io && dma->find)
        n = dma->find(dma->opaque, io->pieces, &count, &io->ram, d->chunk * IDE_SECTOR, d->phase == IDE_DMA_IN);
    if (n > 0) {
        d->chunk = (u32)n / IDE_SECTOR;
        d->direct = false;
        submit(d, io, (struct block_request){.op = d->direct_op, .offset = d->lba * IDE_SECTOR, .size = (size_t)n,
                                             .pieces = io->pieces, .piece_count = count}, d->direct_done);
        return;
    }
    free(io);
    if (!n) return;
    d->direct = false;
    d->next(d);
}

static void dma_run(struct ide_drive *d)
{
    const struct ide_dma *dma = &d->channel->dma;
    if (d->direct) {
        dma_find(d);
        return;
    }
    if (dma->move) d->pos += dma->move(dma->opaque, d->buf + d->pos, d->end - d->pos, d->phase == IDE_DMA_IN);
    if (d->pos < d->end) return; /* DMARQ stays asserted */
    d->phase = IDE_WORKING;
    d->status = IDE_BSY;
    d->next(d);
}

static void dma_begin(struct ide_drive *d, size_t size, ide_step *next, enum ide_phase phase)
{
    d->phase = phase;
    d->pos = 0;
    d->end = size;
    d->next = next;
    d->status = IDE_BSY | IDE_DRDY | IDE_DSC;
    dma_run(d);
}

void ide_dma_in(struct ide_drive *d, size_t size, ide_step *next) { dma_begin(d, size, next, IDE_DMA_IN); }
void ide_dma_out(struct ide_drive *d, size_t size, ide_step *next) { dma_begin(d, size, next, IDE_DMA_OUT); }

void ide_dma_direct(struct ide_drive *d, enum block_op op, ide_step *buffered,
                    void (*done)(struct ide_drive *d, int error, size_t good))
{
    d->phase = op == BLOCK_READ ? IDE_DMA_IN : IDE_DMA_OUT;
    d->direct = true;
    d->direct_op = op;
    d->direct_done = done;
    d->next = buffered;
    d->status = IDE_BSY | IDE_DRDY | IDE_DSC;
    dma_run(d);
}

void ide_dma_moved(struct ide_drive *d)
{
    const struct ide_dma *dma = &d->channel->dma;
    dma->move(dma->opaque, NULL, 0, d->direct_op == BLOCK_READ);
}

void ide_dma_stop(struct ide_channel *c)
{
    for (int i = 0; i < 2; i++) drain(&c->drive[i]);
}

void ide_dma_continue(struct ide_channel *c)
{
    /* DMARQ is one wire, but only a selected drive gets a command, and it keeps the bus until it is done. */
    for (int i = 0; i < 2; i++) {
        struct ide_drive *d = &c->drive[i];
        if (d->phase == IDE_DMA_IN || d->phase == IDE_DMA_OUT) dma_run(d);
    }
}

void ide_command_done(struct ide_drive *d)
{
    d->phase = IDE_IDLE;
    d->status = IDE_DRDY | IDE_DSC;
    d->error = 0;
    ide_raise(d);
}

void ide_command_read(struct ide_drive *d)
{
    d->phase = IDE_IDLE;
    d->status = IDE_DRDY | IDE_DSC;
}

void ide_command_failed(struct ide_drive *d, u8 error)
{
    d->phase = IDE_IDLE;
    d->status = IDE_DRDY | IDE_DSC | IDE_ERR;
    d->error = error;
    ide_raise(d);
}

/* ---- reset ---- */

void ide_signature(struct ide_drive *d)
{
    bool atapi = d->kind == IDE_ATAPI;
    d->count[0] = d->lba_low[0] = 1;
    d->lba_mid[0] = atapi ? 0x14 : 0;
    d->lba_high[0] = atapi ? 0xeb : 0;
    d->device &= IDE_DEV_DEV;
}

/* Diagnostic code 01h: the drive and the one behind it passed [ATA-6] table 26. An ATAPI drive shows DRDY
 * only after its first command. */
static void post(struct ide_drive *d)
{
    ide_signature(d);
    d->device = 0;
    d->error = 0x01;
    d->status = d->kind == IDE_ATAPI ? 0 : IDE_DRDY | IDE_DSC;
}

static void reset_drive(struct ide_drive *d, bool hard)
{
    cancel(d);
    d->intrq = false;
    if (d->kind == IDE_ATA) ide_ata_reset(d, hard);
    if (d->kind == IDE_ATAPI) ide_atapi_reset(d, hard);
    post(d);
}

void ide_channel_reset(struct ide_channel *c)
{
    for (int i = 0; i < 2; i++)
        reset_drive(&c->drive[i], true);
    c->selected = 0;
    c->control = 0;
    update_irq(c);
}

static void diagnostic(struct ide_channel *c)
{
    for (int i = 0; i < 2; i++) {
        struct ide_drive *d = &c->drive[i];
        cancel(d);
        post(d);
    }
    c->selected = 0;
    if (c->drive[0].kind != IDE_NONE) ide_raise(&c->drive[0]);
}

/* ---- registers ---- */

/* Who answers: the selected drive; when it does not exist, the other one in its place. */
static struct ide_drive *responder(struct ide_channel *c)
{
    struct ide_drive *d = &c->drive[c->selected];
    if (d->kind != IDE_NONE) return d;
    d = &c->drive[!c->selected];
    return d->kind != IDE_NONE ? d : NULL;
}

static u32 data_read(struct ide_channel *c, unsigned size)
{
    struct ide_drive *d = &c->drive[c->selected];
    u32 value = 0;
    if (d->phase != IDE_PIO_IN) return 0xffffffffu >> (32 - 8 * size);
    for (unsigned i = 0; i < size && d->pos < d->end; i++)
        value |= (u32)d->buf[d->pos++] << (8 * i);
    if (d->pos >= d->end) {
        d->phase = IDE_WORKING;
        d->status = IDE_BSY;
        d->next(d);
    }
    return value;
}

static void data_write(struct ide_channel *c, u32 value, unsigned size)
{
    struct ide_drive *d = &c->drive[c->selected];
    if (d->phase != IDE_PIO_OUT) return;
    for (unsigned i = 0; i < size && d->pos < d->end; i++)
        d->buf[d->pos++] = (u8)(value >> (8 * i));
    if (d->pos >= d->end) {
        d->phase = IDE_WORKING;
        d->status = IDE_BSY;
        d->next(d);
    }
}

static u8 status(struct ide_channel *c)
{
    struct ide_drive *d = &c->drive[c->selected];
    if (c->control & IDE_SRST) return responder(c) ? IDE_BSY : FLOATING;
    if (d->kind != IDE_NONE) return d->status;
    /* Device 0 answers for a missing device 1 with 00h [ATA-6] 9.16.1; the other way around nobody does. */
    return c->drive[0].kind != IDE_NONE ? 0 : FLOATING;
}

static u8 register_read(struct ide_channel *c, unsigned reg)
{
    struct ide_drive *d = responder(c);
    if (!d) return FLOATING;
    int old = c->control & IDE_HOB ? 1 : 0;
    switch (reg) {
    case REG_FEATURE: return d->error;
    case REG_COUNT: return d->count[old];
    case REG_LBA_LOW: return d->lba_low[old];
    case REG_LBA_MID: return d->lba_mid[old];
    case REG_LBA_HIGH: return d->lba_high[old];
    case REG_DEVICE: return (u8)((d->device & ~IDE_DEV_DEV) | (c->selected ? IDE_DEV_DEV : 0) | 0xa0);
    default: {
        u8 value = status(c);
        struct ide_drive *s = &c->drive[c->selected];
        if (s->intrq) {
            s->intrq = false;
            update_irq(c);
        }
        return value;
    }
    }
}

static void command(struct ide_channel *c, u8 value)
{
    struct ide_drive *d = &c->drive[c->selected];
    if (value == CMD_DIAGNOSTIC) {
        if (!(d->status & (IDE_BSY | IDE_DRQ))) diagnostic(c); /* both drives execute it */
        return;
    }
    if (d->kind == IDE_NONE) return;
    if (value == CMD_DEVICE_RESET && d->kind == IDE_ATAPI) {
        cancel(d); /* the only command that is taken while BSY is set */
        d->intrq = false;
        u8 device = d->device;
        ide_atapi_reset(d, false);
        post(d);
        d->device = device & IDE_DEV_DEV;
        update_irq(c);
        return;
    }
    if (d->status & (IDE_BSY | IDE_DRQ)) {
        log_printf(LOG_GUEST_ERROR, "ide: command %02x while the drive is busy\n", value);
        return;
    }
    if (d->phase == IDE_SLEEP) return; /* only a reset wakes it */
    d->intrq = false;
    update_irq(c);
    d->command = value;
    d->status = IDE_BSY;
    d->error = 0;
    d->phase = IDE_WORKING;
    log_printf(LOG_IO,
               "ide: drive %d command %02x count %02x%02x lba %02x%02x%02x %02x%02x%02x device %02x\n",
               d->unit, value, d->count[1], d->count[0], d->lba_high[1], d->lba_mid[1], d->lba_low[1],
               d->lba_high[0], d->lba_mid[0], d->lba_low[0], d->device);
    if (d->kind == IDE_ATA)
        ide_ata_command(d, value);
    else
        ide_atapi_command(d, value);
}

static void push(u8 pair[2], u8 value)
{
    pair[1] = pair[0];
    pair[0] = value;
}

/* Both drives take what is written to the command block, unless they are busy. */
static void register_write(struct ide_channel *c, unsigned reg, u8 value)
{
    if (c->control & IDE_SRST) return; /* drives in reset do not listen */
    c->control &= (u8)~IDE_HOB;        /* [ATA-6] 7.8 */
    if (reg == REG_COMMAND) {
        command(c, value);
        return;
    }
    const struct ide_drive *s = &c->drive[c->selected];
    if (s->kind != IDE_NONE && (s->status & (IDE_BSY | IDE_DRQ)) && reg != REG_DEVICE) return;
    for (int i = 0; i < 2; i++) {
        struct ide_drive *d = &c->drive[i];
        if (d->kind == IDE_NONE || d->status & (IDE_BSY | IDE_DRQ)) continue;
        switch (reg) {
        case REG_FEATURE: push(d->feature, value); break;
        case REG_COUNT: push(d->count, value); break;
        case REG_LBA_LOW: push(d->lba_low, value); break;
        case REG_LBA_MID: push(d->lba_mid, value); break;
        case REG_LBA_HIGH: push(d->lba_high, value); break;
        default: d->device = value; break;
        }
    }
    if (reg == REG_DEVICE) {
        c->selected = value & IDE_DEV_DEV ? 1 : 0;
        update_irq(c);
    }
}

static u64 command_read(void *opaque, u64 offset, unsigned size)
{
    struct ide_channel *c = opaque;
    if (offset == REG_DATA) return responder(c) ? data_read(c, size) : 0xffffffffu >> (32 - 8 * size);
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)register_read(c, (unsigned)offset + i) << (8 * i);
    return value;
}

static void command_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct ide_channel *c = opaque;
    if (offset == REG_DATA) {
        data_write(c, (u32)value, size);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        register_write(c, (unsigned)offset + i, (u8)(value >> (8 * i)));
}

static u64 control_read(void *opaque, u64 offset, unsigned size)
{
    (void)offset;
    (void)size;
    return status(opaque); /* alternate status: the interrupt stays */
}

static void control_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct ide_channel *c = opaque;
    u8 old = c->control;
    (void)offset;
    (void)size;
    c->control = (u8)value;
    if (c->control & ~old & IDE_SRST) {
        for (int i = 0; i < 2; i++)
            reset_drive(&c->drive[i], false);
        c->selected = 0;
    }
    update_irq(c);
}

static const struct region_ops command_ops = {
    .read = command_read, .write = command_write, .min_size = 1, .max_size = 4};
static const struct region_ops control_ops = {
    .read = control_read, .write = control_write, .min_size = 1, .max_size = 1};

void ide_channel_init(struct ide_channel *c, struct bus *ports, u16 command_base, u16 control_base,
                      struct irq_line irq)
{
    c->irq = irq;
    for (int i = 0; i < 2; i++) {
        c->drive[i].channel = c;
        c->drive[i].unit = i;
    }
    c->command = bus_add(ports, "ide-command", command_base, 8, 0, &command_ops, c);
    c->ctl = bus_add(ports, "ide-control", control_base, 1, 0, &control_ops, c);
}

void ide_channel_fini(struct ide_channel *c)
{
    for (int i = 0; i < 2; i++) {
        cancel(&c->drive[i]);
        free(c->drive[i].buf);
    }
    if (c->command) region_remove(c->command);
    if (c->ctl) region_remove(c->ctl);
}
