/* The virtio block device: requests of one queue go to a struct block, several at a time, and come back as they end.
 *
 * The back end works on the driver's buffers in place. A reset waits until it has let go of them; what it still says about
 * them later is not listened to.
 *
 * Leaves out: several queues, zoned disks, lifetime data, SCSI pass-through (not offered by modern devices).
 *
 * References: [VIRTIO] Virtual I/O Device (VIRTIO) Version 1.1, section 5.2. */
#include "devices/virtio_blk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

#define QUEUE_SIZE  256u
#define SEGMENTS    (QUEUE_SIZE - 2) /* of data in a request, beside header and status */
#define PIECE       (1u << 20) /* bytes of WRITE_ZEROES at a time */
#define SECTOR      512u
#define SERIAL_SIZE 20u
#define HEADER_SIZE 16u
#define RANGE_SIZE  16u /* of DISCARD and WRITE_ZEROES */
#define RANGE_MAX   (1u << 22) /* sectors: 2 GiB */

#define F_SEG_MAX      (1ull << 2)
#define F_RO           (1ull << 5)
#define F_BLK_SIZE     (1ull << 6)
#define F_FLUSH        (1ull << 9)
#define F_TOPOLOGY     (1ull << 10)
#define F_CONFIG_WCE   (1ull << 11)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

/* Configuration [VIRTIO] 5.2.4. */
enum {
    CONFIG_CAPACITY = 0,
    CONFIG_SEG_MAX = 12,
    CONFIG_BLK_SIZE = 20,
    CONFIG_MIN_IO = 26,
    CONFIG_WRITEBACK = 32,
    CONFIG_QUEUES = 34,
    CONFIG_DISCARD_SECTORS = 36,
    CONFIG_DISCARD_SEGS = 40,
    CONFIG_DISCARD_ALIGN = 44,
    CONFIG_ZEROES_SECTORS = 48,
    CONFIG_ZEROES_SEGS = 52,
    CONFIG_SIZE = 60,
};

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

struct virtio_blk;

struct request {
    struct block_request io;   /* the piece that the back end has; must stay first */
    struct virtio_blk *blk;    /* whose; NULL: nobody waits for it any more */
    struct request *next;      /* in the same list */
    struct request **link;     /* where that list points to this one, while it is active */
    u16 head;                  /* names it to the driver */
    u32 type;                  /* T_* */
    u64 offset, size;          /* what it is about, bytes of the disk */
    u64 position;              /* how much of that is done */
    bool flush;                /* a flush has to follow */
    u64 in_size;               /* bytes to write to, the status included */
    unsigned out, in;          /* segments to read, segments to write */
    unsigned room;             /* segments allocated */
    struct virtqueue_segment *segments; /* the driver's buffers */
    struct iovec *pieces;      /* those for data; room for as many */
    u8 *zeros;                 /* PIECE bytes, NULL: not needed yet */
};

struct virtio_blk {
    struct virtio v;           /* must stay first */
    struct block *block;       /* contents */
    bool write_through;        /* as the user wants it */
    u8 serial[SERIAL_SIZE];    /* padded with zeros */
    struct request *active;    /* requests that are not over */
    unsigned in_flight;        /* how many */
    struct request *unused;    /* for the next ones */
};

/* ---- requests' memory ---- */

static void request_free(struct request *r)
{
    free(r->segments);
    free(r->pieces);
    free(r->zeros);
    free(r);
}

static void activate(struct request *r)
{
    struct virtio_blk *b = r->blk;
    r->next = b->active;
    r->link = &b->active;
    if (r->next) r->next->link = &r->next;
    b->active = r;
    b->in_flight++;
}

static void deactivate(struct request *r)
{
    struct virtio_blk *b = r->blk;
    *r->link = r->next;
    if (r->next) r->next->link = r->link;
    r->next = b->unused;
    b->unused = r;
    b->in_flight--;
}

static bool reserve(struct request *r, unsigned segments)
{
    if (segments <= r->room) return true;
    struct virtqueue_segment *s = realloc(r->segments, segments * sizeof(*s));
    if (s) r->segments = s;
    struct iovec *p = realloc(r->pieces, segments * sizeof(*p));
    if (p) r->pieces = p;
    if (!s || !p) return false;
    r->room = segments;
    return true;
}

/* For the chain that was just taken. NULL: memory is short. */
static struct request *request_get(struct virtio_blk *b)
{
    const struct virtqueue_chain *c = &b->v.chain;
    struct request *r = b->unused;
    if (!r && !(r = calloc(1, sizeof(*r)))) return NULL;
    if (b->unused) b->unused = r->next;
    r->blk = b;
    activate(r);
    if (!reserve(r, c->out + c->in)) {
        deactivate(r);
        return NULL;
    }
    memcpy(r->segments, c->segments, (c->out + c->in) * sizeof(*r->segments));
    r->head = c->head;
    r->out = c->out;
    r->in = c->in;
    r->in_size = c->in_size;
    r->offset = r->size = r->position = 0;
    r->flush = false;
    return r;
}

/* ---- requests ---- */

static size_t from_guest(struct request *r, u64 at, void *to, size_t size)
{
    return virtqueue_copy(r->segments, r->out, at, to, size, false);
}

static size_t to_guest(struct request *r, u64 at, void *from, size_t size)
{
    return virtqueue_copy(r->segments + r->out, r->in, at, from, size, true);
}

/* It is over. in: bytes of data that were written for the driver. */
static void finish(struct request *r, u8 status, u64 in)
{
    struct virtio *v = &r->blk->v;
    to_guest(r, r->in_size - 1, &status, 1);
    virtio_push(v, 0, r->head, (u32)in + 1);
    virtio_signal(v, 0);
    deactivate(r);
}

static void submit(struct request *r, enum block_op op, u64 offset, size_t size)
{
    r->io.op = op;
    r->io.offset = offset;
    r->io.size = size;
    block_submit(r->blk->block, &r->io);
}

/* Bytes [at, at + size) of these segments are the data. */
static void submit_pieces(struct request *r, enum block_op op, const struct virtqueue_segment *s, u64 at, size_t size)
{
    unsigned n = 0;
    for (size_t left = size; left; s++) {
        if (at >= s->size) {
            at -= s->size;
            continue;
        }
        size_t part = MIN((size_t)(s->size - at), left);
        r->pieces[n++] = (struct iovec){.iov_base = s->host + at, .iov_len = part};
        left -= part;
        at = 0;
    }
    r->io.buf = NULL;
    r->io.pieces = r->pieces;
    r->io.piece_count = n;
    submit(r, op, r->offset, size);
}

/* Does a write need a flush before it is complete [VIRTIO] 5.2.6.2? */
static bool writes_through(const struct virtio_blk *b)
{
    if (virtio_has(&b->v, F_CONFIG_WCE)) return !b->v.config[CONFIG_WRITEBACK];
    return b->write_through || !virtio_has(&b->v, F_FLUSH);
}

/* What is left to do, if anything is. */
static void go_on(struct request *r)
{
    u64 left = r->size - r->position, at = r->offset + r->position;
    if (!left) {
        bool flush = r->flush;
        r->flush = false;
        if (flush)
            submit(r, BLOCK_FLUSH, 0, 0);
        else
            finish(r, S_OK, r->type == T_IN ? r->position : 0);
    } else if (r->type == T_DISCARD) {
        submit(r, BLOCK_DISCARD, at, (size_t)left);
    } else if (r->type == T_IN) {
        submit_pieces(r, BLOCK_READ, r->segments + r->out, 0, (size_t)left);
    } else if (r->type == T_OUT) {
        submit_pieces(r, BLOCK_WRITE, r->segments, HEADER_SIZE, (size_t)left);
    } else if (!r->zeros && !(r->zeros = calloc(1, PIECE))) {
        finish(r, S_IOERR, 0);
    } else {
        r->io.buf = r->zeros;
        submit(r, BLOCK_WRITE, at, (size_t)MIN(left, (u64)PIECE));
    }
}

/* The back end has written to the driver's buffers, also when it failed later, or the request was given up. */
static void note_read(const struct request *r)
{
    for (unsigned i = r->out; i < r->out + r->in; i++)
        ram_note_write(r->segments[i].ram, r->segments[i].ram_offset, r->segments[i].size);
}

static void done(struct block_request *io)
{
    struct request *r = (struct request *)io;
    if (r->type == T_IN && io->op == BLOCK_READ) note_read(r);
    if (!r->blk) {
        request_free(r);
    } else if (io->error) {
        finish(r, S_IOERR, 0);
    } else {
        r->position += io->size;
        go_on(r);
    }
}

/* DISCARD's and WRITE_ZEROES' range [VIRTIO] 5.2.6: the status when it is not to be done, else S_OK. */
static u8 take_range(struct request *r, u64 size)
{
    u8 range[RANGE_SIZE];
    if (size != RANGE_SIZE || from_guest(r, HEADER_SIZE, range, sizeof(range)) != sizeof(range)) return S_IOERR;
    u32 sectors = pci_get32(range + 8), flags = pci_get32(range + 12);
    if (flags & ~(r->type == T_WRITE_ZEROES ? 1u : 0u)) return S_UNSUPP;
    if (sectors > RANGE_MAX) return S_IOERR;
    r->offset = virtio_get64(range);
    r->size = (u64)sectors * SECTOR;
    return S_OK;
}

/* What the header asks for; S_OK: go on with it. */
static u8 prepare(struct request *r, u64 out_size)
{
    const struct virtio_blk *b = r->blk;
    u8 header[HEADER_SIZE], status = S_OK;
    from_guest(r, 0, header, sizeof(header));
    r->type = pci_get32(header);
    r->offset = virtio_get64(header + 8);
    switch (r->type) {
    case T_IN: r->size = r->in_size - 1; break;
    case T_OUT: r->size = out_size - HEADER_SIZE; break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        if (!virtio_has(&b->v, r->type == T_DISCARD ? F_DISCARD : F_WRITE_ZEROES)) return S_UNSUPP;
        status = take_range(r, out_size - HEADER_SIZE);
        break;
    case T_FLUSH:
        r->offset = 0;
        r->flush = true;
        return S_OK;
    default: return S_UNSUPP;
    }
    u64 sectors = b->block->size / SECTOR;
    if (status != S_OK) return status;
    if (r->size % SECTOR || r->offset > sectors || r->size / SECTOR > sectors - r->offset) return S_IOERR;
    r->offset *= SECTOR;
    if (r->type == T_IN) return S_OK;
    if (b->block->readonly) return S_IOERR;
    r->flush = r->type != T_DISCARD && writes_through(b);
    return S_OK;
}

static void start(struct request *r, u64 out_size)
{
    u8 status = prepare(r, out_size);
    if (r->type == T_GET_ID) {
        size_t n = to_guest(r, 0, r->blk->serial, (size_t)MIN(r->in_size - 1, (u64)SERIAL_SIZE));
        finish(r, S_OK, n);
    } else if (status != S_OK) {
        finish(r, status, 0);
    } else {
        r->io.done = done;
        go_on(r);
    }
}

static void notify(struct virtio *v, unsigned queue)
{
    struct virtio_blk *b = (struct virtio_blk *)v;
    struct virtqueue *q = &v->queues[queue];
    do {
        virtqueue_want_notify(q, false);
        while (virtqueue_pop(q, &v->chain)) {
            u64 out_size = v->chain.out_size;
            if (out_size < HEADER_SIZE || !v->chain.in_size) {
                virtio_fail(v, "a request without header or status");
                return;
            }
            if (b->in_flight == q->size) {
                virtio_fail(v, "more requests than the queue has descriptors");
                return;
            }
            struct request *r = request_get(b);
            if (!r) {
                virtio_fail(v, "memory is short");
                return;
            }
            start(r, out_size);
        }
        virtqueue_want_notify(q, true);
    } while (virtqueue_waiting(q));
}

/* ---- life ---- */

static void config_written(struct virtio *v, unsigned offset, u8 value)
{
    if (offset == CONFIG_WRITEBACK && virtio_has(v, F_CONFIG_WCE)) v->config[offset] = value & 1;
}

static void forget(struct virtio *v)
{
    struct virtio_blk *b = (struct virtio_blk *)v;
    if (b->active) block_drain(b->block);
    for (struct request *r = b->active; r; r = r->next) r->blk = NULL;
    b->active = NULL;
    b->in_flight = 0;
    v->config[CONFIG_WRITEBACK] = !b->write_through;
}

static const struct virtio_ops ops = {.notify = notify, .config_written = config_written, .reset = forget};

static void virtio_blk_reset(struct device *d) { virtio_reset((struct virtio *)d); }

static void virtio_blk_destroy(struct device *d)
{
    struct virtio_blk *b = (struct virtio_blk *)d;
    forget(&b->v);
    virtio_destroy(&b->v);
    while (b->unused) {
        struct request *r = b->unused;
        b->unused = r->next;
        request_free(r);
    }
    free(b);
}

static const struct device_class class = {
    .name = "virtio-blk", .reset = virtio_blk_reset, .destroy = virtio_blk_destroy};

struct device *virtio_blk_create(const struct virtio_slot *slot, const struct virtio_blk_config *config)
{
    struct virtio_blk *b = calloc(1, sizeof(*b));
    if (!b) {
        fprintf(stderr, "calque: virtio-blk: out of memory\n");
        return NULL;
    }
    b->block = config->block;
    b->write_through = config->write_through;
    if (config->serial) memcpy(b->serial, config->serial, strnlen(config->serial, SERIAL_SIZE));
    u64 features = F_SEG_MAX | F_BLK_SIZE | F_TOPOLOGY | F_FLUSH | F_CONFIG_WCE;
    if (b->block->readonly)
        features |= F_RO;
    else
        features |= F_WRITE_ZEROES | (b->block->discards ? F_DISCARD : 0);
    if (virtio_init(&b->v, slot, VIRTIO_TYPE_BLK, 0x010000, &class, &ops, 1, QUEUE_SIZE, features, CONFIG_SIZE)) {
        free(b);
        return NULL;
    }
    u8 *c = b->v.config;
    virtio_put64(c + CONFIG_CAPACITY, b->block->size / SECTOR);
    pci_put32(c + CONFIG_SEG_MAX, SEGMENTS);
    pci_put32(c + CONFIG_BLK_SIZE, SECTOR);
    pci_put16(c + CONFIG_MIN_IO, 1);
    pci_put16(c + CONFIG_QUEUES, 1);
    pci_put32(c + CONFIG_DISCARD_SECTORS, RANGE_MAX);
    pci_put32(c + CONFIG_DISCARD_SEGS, 1);
    pci_put32(c + CONFIG_DISCARD_ALIGN, 4096 / SECTOR);
    pci_put32(c + CONFIG_ZEROES_SECTORS, RANGE_MAX);
    pci_put32(c + CONFIG_ZEROES_SEGS, 1);
    virtio_reset(&b->v);
    return &b->v.pci.dev;
}
