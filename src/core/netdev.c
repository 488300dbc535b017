/* What all network back ends share: the queue of frames for the guest, and watchers. */
#include "core/netdev.h"

#include <stdlib.h>
#include <string.h>

struct netdev_frame {
    struct netdev_frame *next; /* towards the tail */
    size_t len;                /* bytes in data */
    u8 data[];                 /* the frame */
};

static void drop_queue(struct netdev *n)
{
    while (n->head) {
        struct netdev_frame *f = n->head;
        n->head = f->next;
        free(f);
    }
    n->tail = NULL;
    n->queued = 0;
}

void netdev_attach(struct netdev *n, const struct netdev_front *front, void *opaque)
{
    if (!n) return;
    n->front = front;
    n->front_opaque = opaque;
}

void netdev_detach(struct netdev *n)
{
    if (!n) return;
    n->front = NULL;
    drop_queue(n);
    if (n->ops->resume) n->ops->resume(n);
}

void netdev_watch(struct netdev *n, struct netdev_watcher *w)
{
    w->next = n->watchers;
    n->watchers = w;
}

void netdev_close(struct netdev *n)
{
    if (!n) return;
    n->front = NULL;
    drop_queue(n);
    while (n->watchers) {
        struct netdev_watcher *w = n->watchers;
        n->watchers = w->next;
        w->destroy(w);
    }
    n->ops->destroy(n);
}

static void watch(struct netdev *n, const u8 *frame, size_t len)
{
    for (struct netdev_watcher *w = n->watchers; w; w = w->next) w->frame(w, frame, len);
}

/* A card may be made to send by the very frame that it takes, when its driver points a buffer at its registers. Back ends are
 * in the middle of their work then, and must not be called. */
static bool receive(struct netdev *n, const u8 *frame, size_t len)
{
    bool outer = n->delivering;
    n->delivering = true;
    bool taken = n->front->receive(n->front_opaque, frame, len);
    n->delivering = outer;
    return taken;
}

void netdev_transmit(struct netdev *n, const u8 *frame, size_t len)
{
    if (!n || n->link_down || n->delivering) return;
    watch(n, frame, len);
    n->ops->transmit(n, frame, len);
}

bool netdev_link(const struct netdev *n) { return n && !n->link_down; }

void netdev_set_link(struct netdev *n, bool up)
{
    if (n->link_down == !up) return;
    n->link_down = !up;
    if (n->front && n->front->link_changed) n->front->link_changed(n->front_opaque, up);
}

bool netdev_deliver(struct netdev *n, const u8 *frame, size_t len)
{
    if (n->link_down) return true;
    watch(n, frame, len);
    if (!n->front) return true;
    if (!n->head && receive(n, frame, len)) return true;
    if (n->queued == NETDEV_QUEUE_MAX) return false;
    struct netdev_frame *f = malloc(sizeof(*f) + len);
    if (!f) return false;
    f->next = NULL;
    f->len = len;
    memcpy(f->data, frame, len);
    if (n->tail)
        n->tail->next = f;
    else
        n->head = f;
    n->tail = f;
    n->queued++;
    return false;
}

void netdev_flush(struct netdev *n)
{
    if (!n || !n->head || n->flushing) return;
    n->flushing = true;
    while (n->head && n->front && receive(n, n->head->data, n->head->len)) {
        struct netdev_frame *f = n->head;
        if (!f) break; /* the card was detached meanwhile */
        n->head = f->next;
        if (!n->head) n->tail = NULL;
        n->queued--;
        free(f);
    }
    n->flushing = false;
    if (!n->head && n->ops->resume) n->ops->resume(n);
}
