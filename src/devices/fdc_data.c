/* The floppy controller's commands that transfer sectors: read, write, verify, format, read ID. What is modelled is
 * said in fdc.c. */
#include "devices/fdc_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

#define SIZE_CODE   2u /* N: 128 << 2 bytes, the only size that images have */
#define RETRY_EVERY (NS_PER_SECOND / 1000)
#define RETRIES     1000

static void next_sector(struct fdc *f);
static void request_done(struct block_request *r);

/* ---- the end ---- */

static void finish(struct fdc *f, u8 st0)
{
    struct fdc_transfer *t = &f->t;
    i8237_request(f->dma, FDC_DMA_CHANNEL, false);
    timer_cancel(f->retry);
    f->bytes[0] = st0 | t->head << 2 | t->unit;
    f->bytes[1] = t->st1;
    f->bytes[2] = t->st2;
    f->bytes[3] = t->c;
    f->bytes[4] = t->h;
    f->bytes[5] = t->r;
    f->bytes[6] = t->n;
    fdc_result(f, 7);
    fdc_raise(f, true);
}

static void fail(struct fdc *f, u8 st1, u8 st2)
{
    f->t.st1 |= st1;
    f->t.st2 |= st2;
    finish(f, ST0_ABNORMAL);
}

void fdc_data_abort(struct fdc *f)
{
    f->io_wanted = false;
    f->dropped = f->in_flight;
    i8237_request(f->dma, FDC_DMA_CHANNEL, false);
    timer_cancel(f->retry);
}

/* ---- the medium ---- */

/* Is anything readable under the heads?
 * DEVIATION: without a disk, hardware would wait for the index hole until it is reset. */
static bool formatted(const struct fdc *f)
{
    const struct fdc_transfer *t = &f->t;
    const struct fdc_drive *d = &f->drives[t->unit];
    return d->present && d->medium && t->mfm && d->format->rates & 1 << f->rate && t->head < d->format->heads &&
           d->cylinder < d->format->cylinders;
}

static u64 sector_offset(const struct fdc *f, u8 sector)
{
    const struct fdc_drive *d = &f->drives[f->t.unit];
    return (((u64)d->cylinder * d->format->heads + f->t.head) * d->format->sectors + sector - 1) * FDC_SECTOR;
}

static bool on_track(const struct fdc *f, u8 sector)
{
    const struct fdc_drive *d = &f->drives[f->t.unit];
    return sector && sector <= d->format->sectors;
}

/* Whether the sector with the ID that is wanted is there; else the command has failed. */
static bool locate(struct fdc *f)
{
    struct fdc_transfer *t = &f->t;
    const struct fdc_drive *d = &f->drives[t->unit];
    bool track = t->op == FDC_READ_TRACK; /* takes sectors as they come */
    if (!formatted(f))
        fail(f, ST1_NO_MARK, 0);
    else if (t->c != d->cylinder && !track)
        fail(f, ST1_NO_DATA, ST2_CYLINDER);
    else if (t->n != SIZE_CODE || (t->h != t->head && !track) || !on_track(f, t->r))
        fail(f, ST1_NO_DATA, 0);
    else
        return true;
    return false;
}

static void submit(struct fdc *f)
{
    struct fdc_transfer *t = &f->t;
    struct fdc_drive *d = &f->drives[t->unit];
    if (f->in_flight) { /* of a command before a reset */
        f->io_wanted = true;
        return;
    }
    if (!d->medium) { /* taken out meanwhile */
        fail(f, ST1_NO_MARK, 0);
        return;
    }
    f->in_flight = true;
    f->request.op = t->writing ? BLOCK_WRITE : BLOCK_READ;
    f->request.offset = sector_offset(f, t->op == FDC_FORMAT ? f->buf[2] : t->r);
    if (t->op == FDC_FORMAT) memset(f->buf, t->fill, FDC_SECTOR);
    if (f->request.offset + FDC_SECTOR <= d->medium->size) {
        block_submit(d->medium, &f->request);
        return;
    }
    /* The image is not full: the rest can be read. */
    f->request.error = t->writing ? -EIO : 0;
    if (!t->writing) memset(f->buf, 0, FDC_SECTOR);
    request_done(&f->request);
}

/* ---- data between buf and the host ---- */

static bool transfers(const struct fdc *f) { return f->t.op != FDC_VERIFY; }
static bool host_writes(const struct fdc *f) { return f->t.op >= FDC_WRITE; }

/* To the next sector's ID [82078] table 6-5: whether the last one of the command was passed. */
static bool step(struct fdc_transfer *t)
{
    if (t->r != t->eot) {
        t->r++;
        return false;
    }
    t->r = 1;
    if (!t->multi) {
        t->c++;
        return true;
    }
    t->h ^= 1;
    if (t->head) t->c++;
    t->head ^= 1;
    return !t->head;
}

/* A sector is done. */
static void advance(struct fdc *f)
{
    struct fdc_transfer *t = &f->t;
    u8 head = t->head;
    if (t->op == FDC_FORMAT || t->op == FDC_READ_TRACK) {
        if (t->op == FDC_READ_TRACK) t->r++;
        if (t->tc || !--t->count)
            finish(f, 0);
        else
            next_sector(f);
        return;
    }
    bool last = step(t);
    bool counted = t->op == FDC_VERIFY && t->count && !--t->count;
    if (t->tc || counted || t->op == FDC_READ_DELETED || (last && t->op == FDC_VERIFY && !t->count)) {
        t->head = head; /* ST0 has the head that worked last */
        finish(f, 0);
    } else if (last) {
        t->head = head;
        fail(f, ST1_END, 0);
    } else {
        next_sector(f);
    }
}

/* The host has moved all of a sector, or what it wanted of it. */
static void moved(struct fdc *f)
{
    struct fdc_transfer *t = &f->t;
    if (!host_writes(f)) {
        advance(f);
        return;
    }
    t->writing = true;
    if (t->op == FDC_FORMAT) {
        const u8 *id = f->buf;
        /* DEVIATION: the image's geometry is what it is; a track that is formatted otherwise is not readable. */
        if (t->pos < 4 || !formatted(f) || id[0] != f->drives[t->unit].cylinder || id[1] != t->head || id[3] != SIZE_CODE ||
            !on_track(f, id[2])) {
            fail(f, ST1_NO_MARK, 0);
            return;
        }
        t->c = id[0];
        t->h = id[1];
        t->r = id[2];
        t->n = id[3];
    } else {
        memset(f->buf + t->pos, 0, t->size - t->pos); /* [82078] 6.1.3: TC inside a sector */
    }
    submit(f);
}

static void pump(struct fdc *f)
{
    struct fdc_transfer *t = &f->t;
    if (fdc_pio(f)) {
        fdc_raise(f, true);
        return;
    }
    if (f->dor & 8) {
        i8237_request(f->dma, FDC_DMA_CHANNEL, true);
        size_t n = i8237_transfer(f->dma, FDC_DMA_CHANNEL, f->buf + t->pos, t->size - t->pos, host_writes(f), &t->tc);
        t->pos += n;
        if (n) f->retries = RETRIES;
    }
    if (t->tc || t->pos == t->size) {
        moved(f);
    } else if (f->retries) {
        /* The channel is not set up: the disk would have to turn until this sector comes by, too. */
        f->retries--;
        timer_arm(f->retry, clock_now(f->clock) + RETRY_EVERY);
    } else {
        log_printf(LOG_GUEST_ERROR, "fdc: DMA was not set up in time\n");
        fail(f, ST1_OVERRUN, 0);
    }
}

void fdc_data_retry(void *opaque)
{
    struct fdc *f = opaque;
    if (f->phase == FDC_EXECUTION) pump(f);
}

static void request_done(struct block_request *r)
{
    struct fdc *f = container_of(r, struct fdc, request);
    f->in_flight = false;
    if (f->destroyed) {
        free(f);
        return;
    }
    if (f->dropped) {
        f->dropped = false;
        if (f->io_wanted) {
            f->io_wanted = false;
            next_sector(f);
        }
        return;
    }
    if (r->error)
        fail(f, ST1_DATA, ST2_DATA);
    else if (f->t.writing || !transfers(f))
        advance(f);
    else
        pump(f);
}

static void next_sector(struct fdc *f)
{
    struct fdc_transfer *t = &f->t;
    if (f->in_flight) { /* the buffer is still in use, for a command before a reset */
        f->io_wanted = true;
        return;
    }
    t->pos = 0;
    t->size = t->op == FDC_FORMAT ? 4 : FDC_SECTOR;
    t->writing = false;
    if (t->op == FDC_FORMAT) {
        if (formatted(f))
            pump(f);
        else
            fail(f, ST1_NO_MARK, 0);
    } else if (locate(f)) {
        if (host_writes(f))
            pump(f);
        else
            submit(f);
    }
}

/* ---- commands ---- */

void fdc_data_start(struct fdc *f, enum fdc_operation op)
{
    const u8 *b = f->bytes;
    struct fdc_transfer *t = &f->t;
    const struct fdc_drive *d = &f->drives[b[1] & 3];
    *t = (struct fdc_transfer){.op = op, .unit = b[1] & 3, .head = b[1] >> 2 & 1, .multi = b[0] & 0x80, .skip = b[0] & 0x20,
                               .mfm = b[0] & 0x40};
    if (op == FDC_FORMAT) {
        t->n = b[2];
        t->count = b[3] ? b[3] : 256;
        t->fill = b[5];
        f->last_eot = b[3];
    } else {
        t->c = b[2];
        t->h = b[3];
        t->r = b[4];
        t->n = b[5];
        t->eot = f->last_eot = b[6];
        if (op == FDC_VERIFY && b[1] & 0x80) t->count = b[8] ? b[8] : 256;
        if (op == FDC_READ_TRACK) {
            t->r = 1;
            t->count = t->eot ? t->eot : 256;
        }
        if (f->config & 0x40) fdc_seek(f, t->unit, t->c); /* EIS: implied seek */
    }
    f->request = f->in_flight ? f->request
                              : (struct block_request){.buf = f->buf, .size = FDC_SECTOR, .done = request_done};
    f->phase = FDC_EXECUTION;
    f->retries = RETRIES;
    if (host_writes(f) && d->present && d->medium && d->medium->readonly)
        fail(f, ST1_PROTECTED, 0);
    else if (op == FDC_READ_DELETED && t->skip) /* images have no deleted data: all is skipped */
        fail(f, ST1_NO_DATA, ST2_DELETED);
    else {
        if (op == FDC_READ_DELETED) t->st2 = ST2_DELETED;
        next_sector(f);
    }
}

void fdc_read_id(struct fdc *f)
{
    struct fdc_drive *d = &f->drives[f->bytes[1] & 3];
    f->t = (struct fdc_transfer){.unit = f->bytes[1] & 3, .head = f->bytes[1] >> 2 & 1, .mfm = f->bytes[0] & 0x40};
    f->phase = FDC_EXECUTION;
    if (!formatted(f)) {
        fail(f, ST1_NO_MARK, 0);
        return;
    }
    d->passed = (u8)(d->passed % d->format->sectors + 1);
    f->t.c = d->cylinder;
    f->t.h = f->t.head;
    f->t.r = d->passed;
    f->t.n = SIZE_CODE;
    finish(f, 0);
}

/* ---- PIO ---- */

bool fdc_data_to_host(const struct fdc *f) { return !host_writes(f); }

bool fdc_data_ready(const struct fdc *f)
{
    return f->phase == FDC_EXECUTION && fdc_pio(f) && transfers(f) && !f->in_flight && f->t.pos < f->t.size;
}

static void byte_moved(struct fdc *f)
{
    fdc_raise(f, false);
    if (++f->t.pos == f->t.size)
        moved(f);
    else
        fdc_raise(f, true); /* without FIFO, each byte asks for itself [82078] 4.2 */
}

u8 fdc_data_read(struct fdc *f)
{
    u8 value = f->buf[f->t.pos];
    byte_moved(f);
    return value;
}

void fdc_data_write(struct fdc *f, u8 value)
{
    f->buf[f->t.pos] = value;
    byte_moved(f);
}
