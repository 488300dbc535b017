/* The virtio entropy device: fills each buffer at once, up to 64 KiB of it.
 *
 * References: [VIRTIO] Virtual I/O Device (VIRTIO) Version 1.1, section 5.4. */
#include "devices/virtio_rng.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUE_SIZE 8u
#define BUFFER_MAX 65536u /* a device may return less than there is room for, but at least a byte */
#define PIECE      4096u

struct virtio_rng {
    struct virtio v;                                      /* must stay first */
    size_t (*fill)(void *opaque, u8 *buf, size_t size);   /* the source */
    void *opaque;                                         /* its first argument */
};

static void notify(struct virtio *v, unsigned queue)
{
    struct virtio_rng *g = (struct virtio_rng *)v;
    while (virtqueue_pop(&v->queues[queue], &v->chain)) {
        u64 size = MIN(v->chain.in_size, (u64)BUFFER_MAX), done = 0;
        while (done < size) {
            u8 buf[PIECE];
            size_t n = g->fill(g->opaque, buf, (size_t)MIN(size - done, (u64)PIECE));
            if (!n) break;
            virtqueue_write(&v->chain, done, buf, n);
            done += n;
        }
        virtio_push(v, queue, v->chain.head, (u32)done);
        virtqueue_want_notify(&v->queues[queue], true);
    }
    virtio_signal(v, queue);
}

static void forget(struct virtio *v) { (void)v; }

static const struct virtio_ops ops = {.notify = notify, .reset = forget};

static void virtio_rng_reset(struct device *d) { virtio_reset((struct virtio *)d); }

static void virtio_rng_destroy(struct device *d)
{
    virtio_destroy((struct virtio *)d);
    free(d);
}

static const struct device_class class = {
    .name = "virtio-rng", .reset = virtio_rng_reset, .destroy = virtio_rng_destroy};

struct device *virtio_rng_create(const struct virtio_slot *slot, size_t (*fill)(void *opaque, u8 *buf, size_t size),
                                 void *opaque)
{
    struct virtio_rng *g = calloc(1, sizeof(*g));
    if (!g) {
        fprintf(stderr, "calque: virtio-rng: out of memory\n");
        return NULL;
    }
    g->fill = fill;
    g->opaque = opaque;
    if (virtio_init(&g->v, slot, VIRTIO_TYPE_RNG, 0x00ff00, &class, &ops, 1, QUEUE_SIZE, 0, 0)) {
        free(g);
        return NULL;
    }
    virtio_reset(&g->v);
    return &g->v.pci.dev;
}
