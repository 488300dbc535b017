/* What PS/2 keyboards and mice share: two queues of bytes for the host. */
#include "devices/ps2.h"

#include "core/log.h"

void ps2_attach(struct ps2_device *d, void (*ready)(void *opaque), void *opaque)
{
    d->ready = ready;
    d->ready_opaque = opaque;
}

bool ps2_has_data(const struct ps2_device *d) { return d->replies.used || d->events.used; }

u8 ps2_take(struct ps2_device *d)
{
    struct ps2_queue *q = d->replies.used ? &d->replies : &d->events;
    if (!q->used) return d->last_sent;
    u8 byte = q->data[q->head];
    q->head = (q->head + 1) % sizeof(q->data);
    q->used--;
    d->last_sent = byte;
    return byte;
}

bool ps2_queue_put(struct ps2_queue *q, u8 byte)
{
    if (q->used == sizeof(q->data)) return false;
    q->data[(q->head + q->used++) % sizeof(q->data)] = byte;
    return true;
}

void ps2_queue_clear(struct ps2_queue *q) { q->head = q->used = 0; }

void ps2_reply(struct ps2_device *d, u8 byte)
{
    if (!ps2_queue_put(&d->replies, byte))
        log_printf(LOG_GUEST_ERROR, "%s: commands sent without reading the answers\n", d->dev.cls->name);
}

void ps2_notify(struct ps2_device *d)
{
    if (d->ready) d->ready(d->ready_opaque);
}
