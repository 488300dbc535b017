/* The virtio network device: a receive, a transmit and a control queue.
 *
 * Models mergeable receive buffers, checksums and TCP segmentation for the driver, checked checksums towards it, the
 * link's state, and the filters that the control queue sets. Large TCP packets go on whole where the other end takes
 * them, else they are cut here.
 *
 * Leaves out: several queue pairs, receive coalescing (GUEST_TSO), UDP fragmentation, announcements.
 *
 * References: [VIRTIO] Virtual I/O Device (VIRTIO) Version 1.1, section 5.1. */
#include "devices/virtio_net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/big_endian.h"
#include "core/log.h"
#include "devices/net_offload.h"

enum { RX, TX, CTRL, QUEUES };

#define QUEUE_SIZE  256u
#define HEADER_MAX  12u
#define HEADER_OLD  10u  /* legacy, without mergeable buffers: no number of buffers */
#define SEGMENT_MAX 2048u /* the longest frame that segmentation may ask for */
#define MACS        64u  /* addresses in the filter; more: all are taken */
#define VLANS       4096u

#define F_CSUM          (1ull << 0)
#define F_GUEST_CSUM    (1ull << 1)
#define F_MAC           (1ull << 5)
#define F_HOST_TSO4     (1ull << 11)
#define F_HOST_TSO6     (1ull << 12)
#define F_MRG_RXBUF     (1ull << 15)
#define F_STATUS        (1ull << 16)
#define F_CTRL_VQ       (1ull << 17)
#define F_CTRL_RX       (1ull << 18)
#define F_CTRL_VLAN     (1ull << 19)
#define F_CTRL_RX_EXTRA (1ull << 20)
#define F_CTRL_MAC_ADDR (1ull << 23)

enum { CONFIG_MAC = 0, CONFIG_STATUS = 6, CONFIG_PAIRS = 8, CONFIG_SIZE = 12 };

/* The header in front of frames [VIRTIO] 5.1.6. */
enum { HEADER_FLAGS = 0, HEADER_GSO = 1, HEADER_GSO_SIZE = 4, HEADER_START = 6, HEADER_OFFSET = 8, HEADER_BUFFERS = 10 };
#define NEEDS_CSUM 1u
#define DATA_VALID 2u
#define GSO_TCP4   1u
#define GSO_TCP6   4u
#define GSO_ECN    0x80u

/* Commands of the control queue: class << 8 | command [VIRTIO] 5.1.6.5. */
enum {
    RX_PROMISC = 0x000,
    RX_ALL_MULTI = 0x001,
    RX_ALL_UNI = 0x002,
    RX_NO_MULTI = 0x003,
    RX_NO_UNI = 0x004,
    RX_NO_BROADCAST = 0x005,
    RX_MODES = 6,
    MAC_TABLE = 0x100,
    MAC_ADDRESS = 0x101,
    VLAN_ADD = 0x200,
    VLAN_DEL = 0x201,
};

struct virtio_net {
    struct virtio v;            /* must stay first */
    struct netdev *net;         /* NULL: no cable */
    struct timer *timer;        /* transmission goes on */
    u8 mac[6];                  /* as made */
    bool mode[RX_MODES];        /* by command: RX_PROMISC to RX_NO_BROADCAST */
    u8 macs[MACS][6];           /* addresses that are taken, beside the card's own */
    unsigned mac_count;         /* used entries */
    bool macs_overflow[2];      /* more unicast, multicast addresses were asked for */
    u8 vlans[VLANS / 8];        /* VLANs that are taken, a bit each */
    u8 frame[NETDEV_FRAME_MAX]; /* being sent */
    u8 segment[SEGMENT_MAX];    /* part of it */
};

static unsigned header_size(const struct virtio_net *n)
{
    return virtio_has(&n->v, VIRTIO_VERSION_1 | F_MRG_RXBUF) ? HEADER_MAX : HEADER_OLD;
}

/* ---- transmit ---- */

static void send_segment(void *opaque, u8 *frame, size_t len) { netdev_transmit(opaque, frame, len); }

/* Complete a frame as its header asks, and send it. */
static void send_frame(struct virtio_net *n, const u8 *header, size_t len)
{
    u8 *frame = n->frame;
    size_t start = pci_get16(header + HEADER_START), at = start + pci_get16(header + HEADER_OFFSET);
    u8 gso = header[HEADER_GSO] & (u8)~GSO_ECN;
    bool checksum = header[HEADER_FLAGS] & NEEDS_CSUM;
    if (len < 14) return;
    if (gso && (!checksum || (gso != GSO_TCP4 && gso != GSO_TCP6))) {
        log_printf(LOG_GUEST_ERROR, "virtio-net: segmentation of type %u\n", gso);
        return;
    }
    if (gso && !(n->net && n->net->large)) {
        size_t ip = be_get16(frame + 12) == 0x8100 ? 18 : 14;
        if (!net_segment(frame, len, ip, start, pci_get16(header + HEADER_GSO_SIZE), n->segment, SEGMENT_MAX,
                         send_segment, n->net))
            log_printf(LOG_GUEST_ERROR, "virtio-net: a packet that cannot be cut\n");
        return;
    }
    if (checksum && at + 2 <= len && start < len) {
        /* The driver has put the sum of the pseudo header there. */
        u16 sum = (u16)~net_sum(frame + start, len - start, 0);
        be_put16(frame + at, sum ? sum : 0xffff); /* the same number; UDP says "none" with the other */
    }
    netdev_transmit(n->net, frame, len);
}

static void transmit(void *opaque)
{
    struct virtio_net *n = opaque;
    struct virtio *v = &n->v;
    struct virtqueue *q = &v->queues[TX];
    unsigned size = header_size(n), sent = 0;
    if (!virtio_running(v)) return;
    virtqueue_want_notify(q, false);
    for (;;) {
        u8 header[HEADER_MAX] = {0};
        if (sent == q->size) { /* let others have a turn */
            timer_arm(n->timer, 0);
            break;
        }
        if (!virtqueue_pop(q, &v->chain)) {
            virtqueue_want_notify(q, true);
            if (!virtqueue_waiting(q)) break;
            virtqueue_want_notify(q, false);
            continue;
        }
        if (v->chain.out_size < size) {
            virtio_fail(v, "a frame without its header");
            return;
        }
        u64 len = v->chain.out_size - size;
        u16 head = v->chain.head; /* an answer may come while the frame is sent, and use the scratch chain */
        virtqueue_read(&v->chain, 0, header, size);
        if (len <= sizeof(n->frame))
            send_frame(n, header, virtqueue_read(&v->chain, size, n->frame, (size_t)len));
        else
            log_printf(LOG_GUEST_ERROR, "virtio-net: a frame of %llu bytes\n", (unsigned long long)len);
        virtio_push(v, TX, head, 0);
        sent++;
    }
    virtio_signal(v, TX);
}

/* ---- receive ---- */

static bool wanted(const struct virtio_net *n, const u8 *frame)
{
    bool group = frame[0] & 1;
    if (n->mode[RX_PROMISC]) return true;
    if (be_get16(frame + 12) == 0x8100 && virtio_has(&n->v, F_CTRL_VLAN)) {
        u32 id = be_get16(frame + 14) & 0xfff;
        if (!(n->vlans[id / 8] >> id % 8 & 1)) return false;
    }
    if (netdev_is_broadcast(frame)) return !n->mode[RX_NO_BROADCAST];
    if (n->mode[group ? RX_NO_MULTI : RX_NO_UNI]) return false;
    if (n->mode[group ? RX_ALL_MULTI : RX_ALL_UNI] || n->macs_overflow[group]) return true;
    if (!memcmp(frame, n->v.config + CONFIG_MAC, 6)) return true;
    for (unsigned i = 0; i < n->mac_count; i++)
        if (!memcmp(frame, n->macs[i], 6)) return true;
    return false;
}

/* Spread the frame over buffers. False: there are not enough of them. */
static bool store(struct virtio_net *n, u8 *header, const u8 *frame, size_t len)
{
    struct virtio *v = &n->v;
    struct virtqueue *q = &v->queues[RX];
    struct virtqueue_segment where = {0}; /* of the first header's number of buffers, which is known at the end */
    unsigned size = header_size(n), buffers = 0;
    bool merge = virtio_has(v, F_MRG_RXBUF);
    size_t done = 0;
    do {
        if (!virtqueue_pop(q, &v->chain)) {
            virtqueue_unpop(q, buffers);
            return !virtio_running(v);
        }
        unsigned skip = buffers ? 0 : size;
        if (v->chain.in_size < skip + (merge ? 1 : len)) {
            /* Frames longer than the driver is prepared for are lost. */
            virtqueue_unpop(q, buffers + 1);
            log_printf(LOG_GUEST_ERROR, "virtio-net: a receive buffer of %llu bytes for a frame of %zu\n",
                       (unsigned long long)v->chain.in_size, len);
            return true;
        }
        if (!buffers) {
            virtqueue_write(&v->chain, 0, header, size);
            where = v->chain.segments[v->chain.out];
        }
        size_t part = virtqueue_write(&v->chain, skip, frame + done, len - done);
        virtqueue_fill(q, buffers++, v->chain.head, (u32)(skip + part));
        done += part;
    } while (done < len && buffers < q->size);
    if (buffers > 1 && where.size >= HEADER_MAX) {
        u8 count[2];
        pci_put16(count, (u16)buffers);
        virtqueue_copy(&where, 1, HEADER_BUFFERS, count, 2, true);
    }
    virtqueue_flush(q, buffers);
    virtio_signal(v, RX);
    return true;
}

static bool receive(void *opaque, const u8 *frame, size_t len)
{
    struct virtio_net *n = opaque;
    struct virtio *v = &n->v;
    struct virtqueue *q = &v->queues[RX];
    u8 header[HEADER_MAX] = {0};
    if (!virtio_running(v) || !q->ready || len < 14 || !(v->pci.config[PCI_COMMAND] & PCI_COMMAND_MASTER)) return true;
    if (!wanted(n, frame)) return true;
    if (virtio_has(v, F_GUEST_CSUM) && net_checksum_valid(frame, len)) header[HEADER_FLAGS] = DATA_VALID;
    pci_put16(header + HEADER_BUFFERS, 1);
    if (store(n, header, frame, len)) return true;
    /* Tell us when there are more, which may have come meanwhile. */
    virtqueue_want_notify(q, true);
    if (!store(n, header, frame, len)) return false;
    virtqueue_want_notify(q, false);
    return true;
}

static void link_changed(void *opaque, bool up)
{
    struct virtio_net *n = opaque;
    pci_put16(n->v.config + CONFIG_STATUS, up);
    virtio_config_changed(&n->v);
}

/* ---- control ---- */

/* Both lists of addresses, each behind its 32 bit length: whether they are well formed. */
static bool set_macs(struct virtio_net *n, const struct virtqueue_chain *c)
{
    u64 at = 2;
    unsigned count = 0;
    bool overflow[2] = {false, false};
    for (int group = 0; group < 2; group++) {
        u8 length[4];
        if (virtqueue_read(c, at, length, 4) != 4) return false;
        u64 entries = pci_get32(length);
        at += 4;
        if (entries * 6 > c->out_size - at) return false;
        for (u64 i = 0; i < entries; i++, at += 6) {
            if (count < MACS)
                virtqueue_read(c, at, n->macs[count++], 6);
            else
                overflow[group] = true;
        }
    }
    n->mac_count = count;
    memcpy(n->macs_overflow, overflow, sizeof(overflow));
    return true;
}

static bool command(struct virtio_net *n, const struct virtqueue_chain *c)
{
    u8 head[2], data[6];
    if (virtqueue_read(c, 0, head, 2) != 2) return false;
    size_t len = virtqueue_read(c, 2, data, sizeof(data));
    unsigned code = (unsigned)head[0] << 8 | head[1];
    u32 vlan = pci_get16(data) % VLANS;
    if (code < RX_MODES) {
        if (len < 1) return false;
        n->mode[code] = data[0];
        return true;
    }
    switch (code) {
    case MAC_TABLE: return set_macs(n, c);
    case MAC_ADDRESS:
        if (len != 6) return false;
        memcpy(n->v.config + CONFIG_MAC, data, 6);
        return true;
    case VLAN_ADD:
    case VLAN_DEL:
        if (len != 2) return false;
        n->vlans[vlan / 8] = (u8)((n->vlans[vlan / 8] & ~(1u << vlan % 8)) | (code == VLAN_ADD ? 1u << vlan % 8 : 0));
        return true;
    default: return false;
    }
}

static void control(struct virtio_net *n)
{
    struct virtio *v = &n->v;
    while (virtqueue_pop(&v->queues[CTRL], &v->chain)) {
        if (!v->chain.in_size) {
            virtio_fail(v, "a control command without room for its status");
            return;
        }
        u8 status = command(n, &v->chain) ? 0 : 1;
        virtqueue_write(&v->chain, v->chain.in_size - 1, &status, 1);
        virtio_push(v, CTRL, v->chain.head, 1);
        virtqueue_want_notify(&v->queues[CTRL], true);
    }
    virtio_signal(v, CTRL);
}

/* ---- life ---- */

static void notify(struct virtio *v, unsigned queue)
{
    struct virtio_net *n = (struct virtio_net *)v;
    if (queue == TX)
        transmit(n);
    else if (queue == RX)
        netdev_flush(n->net);
    else
        control(n);
}

static void config_written(struct virtio *v, unsigned offset, u8 value)
{
    /* How drivers set the address before there was a command for it. */
    if (offset < 6 && !virtio_has(v, VIRTIO_VERSION_1 | F_CTRL_MAC_ADDR)) v->config[offset] = value;
}

static void started(struct virtio *v)
{
    virtqueue_want_notify(&v->queues[RX], false);
    netdev_flush(((struct virtio_net *)v)->net);
}

static void forget(struct virtio *v)
{
    struct virtio_net *n = (struct virtio_net *)v;
    memset(n->mode, 0, sizeof(n->mode));
    n->mode[RX_PROMISC] = true; /* until a driver says what it wants */
    n->mac_count = 0;
    n->macs_overflow[0] = n->macs_overflow[1] = false;
    memset(n->vlans, 0, sizeof(n->vlans));
    timer_cancel(n->timer);
    memcpy(v->config + CONFIG_MAC, n->mac, 6);
    pci_put16(v->config + CONFIG_STATUS, netdev_link(n->net));
    pci_put16(v->config + CONFIG_PAIRS, 1);
    netdev_flush(n->net); /* nobody waits for these frames any more */
}

static const struct virtio_ops ops = {
    .notify = notify, .config_written = config_written, .started = started, .reset = forget};

static const struct netdev_front front = {.receive = receive, .link_changed = link_changed};

static void virtio_net_reset(struct device *d) { virtio_reset((struct virtio *)d); }

static void virtio_net_destroy(struct device *d)
{
    struct virtio_net *n = (struct virtio_net *)d;
    netdev_detach(n->net);
    virtio_destroy(&n->v);
    timer_destroy(n->timer);
    free(n);
}

static const struct device_class class = {
    .name = "virtio-net", .reset = virtio_net_reset, .destroy = virtio_net_destroy};

struct device *virtio_net_create(const struct virtio_slot *slot, struct clock *clock, struct netdev *net, const u8 mac[6],
                                 struct ram *ram, const void *rom, size_t rom_size)
{
    static const u64 features = F_CSUM | F_GUEST_CSUM | F_MAC | F_HOST_TSO4 | F_HOST_TSO6 | F_MRG_RXBUF | F_STATUS |
                                F_CTRL_VQ | F_CTRL_RX | F_CTRL_VLAN | F_CTRL_RX_EXTRA | F_CTRL_MAC_ADDR;
    struct virtio_net *n = calloc(1, sizeof(*n));
    if (!n || !(n->timer = timer_create_on(clock, transmit, n))) {
        fprintf(stderr, "calque: virtio-net: out of memory\n");
        free(n);
        return NULL;
    }
    n->net = net;
    memcpy(n->mac, mac, sizeof(n->mac));
    if (virtio_init(&n->v, slot, VIRTIO_TYPE_NET, 0x020000, &class, &ops, QUEUES, QUEUE_SIZE, features, CONFIG_SIZE)) {
        timer_destroy(n->timer);
        free(n);
        return NULL;
    }
    if (rom) pci_add_rom(&n->v.pci, "virtio-net-rom", ram, rom, rom_size);
    virtio_reset(&n->v);
    netdev_attach(net, &front, n);
    return &n->v.pci.dev;
}
