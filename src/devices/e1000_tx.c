/* The 82540EM's transmit side: the ring, its three kinds of descriptors, checksums, segmentation.
 *
 * A packet is collected from its descriptors before anything is done with it, instead of streaming through the
 * packet buffer: so segmentation takes payloads of up to the descriptor's 1 MiB.
 * DEVIATION: a TCP packet goes whole to a network that takes it, and counts as one frame.
 * A ring that is full of work is worked on in parts, so that others get the machine lock.
 *
 * Leaves out: TXDCTL's thresholds (descriptors are fetched and written back one by one, TXD_LOW is never raised),
 * TCTL.SWXOFF and collision parameters (there are no collisions).
 *
 * References: [8254x] 3.3 (descriptors), 3.4 (ring), 3.5 (segmentation), 3.6 (checksums). */
#include "devices/e1000_state.h"

#include <stdlib.h>
#include <string.h>

#include "core/big_endian.h"
#include "core/log.h"
#include "devices/net_offload.h"

/* The command byte of all kinds [8254x] 3.3.3.1. */
#define CMD_EOP  0x01u
#define CMD_IFCS 0x02u
#define CMD_IC   0x04u /* legacy: insert a checksum; else TSE */
#define CMD_TSE  0x04u
#define CMD_RS   0x08u
#define CMD_DEXT 0x20u
#define CMD_VLE  0x40u

#define TUCMD_TCP 0x01u
#define TUCMD_IP  0x02u

#define POPTS_IXSM 0x01u
#define POPTS_TXSM 0x02u

#define STA_DD 0x01u

#define DESC_SIZE  16u
#define PACKET_MAX ((1u << 20) + 256u) /* PAYLEN's and HDRLEN's reach */
#define WORK_MAX   (16u << 20) /* bytes in one go, a frame counting for FRAME_WORK more */
#define FRAME_WORK 1024u
#define FRAME_MAX  (16288u - E1000_FCS) /* the longest that the part sends, but for its FCS [8254x] 1.3 */

void e1000_tx_reset(struct e1000 *e)
{
    timer_cancel(e->tx_timer);
    memset(e->context, 0, sizeof(e->context));
    e->tx_len = 0;
    e->tx_lost = false;
    e->tx_first = true;
}

/* ---- sending frames ---- */

/* The FCS that software has put behind its frame, when it is one. Software that forgets IFCS does not work on real
 * hardware, but is common, so what is no FCS is taken for data. */
static bool has_fcs(const u8 *frame, size_t len)
{
    u32 crc = ~0u;
    if (len < E1000_MIN_FRAME + E1000_FCS) return false;
    for (size_t i = 0; i < len - E1000_FCS; i++) {
        crc ^= frame[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc == pci_get32(frame + len - E1000_FCS);
}

static void count_frame(struct e1000 *e, const u8 *frame, size_t len)
{
    size_t octets = len + E1000_FCS;
    e1000_count(e, E1000_TPT);
    e1000_count(e, E1000_GPTC);
    e1000_count_octets(e, E1000_TOTL, octets);
    e1000_count_octets(e, E1000_GOTCL, octets);
    e1000_count_size(e, E1000_PTC64, octets);
    if (!(frame[0] & 1)) return;
    e1000_count(e, netdev_is_broadcast(frame) ? E1000_BPTC : E1000_MPTC);
}

static bool loops_back(const struct e1000 *e) { return (e1000_get(e, E1000_RCTL) & RCTL_LBM) || e1000_phy_loopback(e); }

/* frame has room for a VLAN tag and for padding behind it. */
static void send_frame(struct e1000 *e, u8 *frame, size_t len, size_t limit)
{
    if (e->tx_vlan && (e1000_get(e, E1000_CTRL) & CTRL_VME) && len >= 12) {
        memmove(frame + 16, frame + 12, len - 12);
        be_put16(frame + 12, e1000_get(e, E1000_VET));
        be_put16(frame + 14, e->tx_tag);
        len += 4;
    }
    e->tx_work += FRAME_WORK;
    if (!e->tx_fcs && len <= FRAME_MAX + E1000_FCS && has_fcs(frame, len)) len -= E1000_FCS;
    if (len < 14 || len > limit) {
        log_printf(LOG_GUEST_ERROR, "e1000: a frame of %zu bytes is not sent\n", len);
        return;
    }
    if (len < E1000_MIN_FRAME && (e1000_get(e, E1000_TCTL) & TCTL_PSP)) {
        memset(frame + len, 0, E1000_MIN_FRAME - len);
        len = E1000_MIN_FRAME;
    }
    count_frame(e, frame, len);
    if (loops_back(e))
        e1000_rx_frame(e, frame, len);
    else if (e->link)
        netdev_transmit(e->net, frame, len);
}

/* ---- checksums ---- */

/* Sum bytes css..cse (0: the end) into the field at cso [8254x] 3.6. A field outside of the frame is not written. */
static void insert_checksum(u8 *frame, size_t len, size_t css, size_t cso, size_t cse, bool udp)
{
    size_t end = cse && cse + 1 < len ? cse + 1 : len;
    if (css >= end || cso + 2 > len) return;
    u16 value = (u16)~net_sum(frame + css, end - css, 0);
    /* Zero means "no checksum" in UDP. */
    be_put16(frame + cso, udp && !value ? 0xffffu : value);
}

static void offload(const struct e1000_context *c, u8 popts, u8 *frame, size_t len)
{
    if (popts & POPTS_TXSM) insert_checksum(frame, len, c->tucss, c->tucso, c->tucse, !c->tcp);
    if (popts & POPTS_IXSM) insert_checksum(frame, len, c->ipcss, c->ipcso, c->ipcse, false);
}

/* ---- segmentation ---- */

/* Adapt the headers of segment number n, whose payload starts at offset of the whole [8254x] 3.5.7. */
static void segment_headers(const struct e1000_context *c, u8 *frame, size_t len, u32 n, u32 offset, bool last)
{
    u8 *ip = frame + c->ipcss, *l4 = frame + c->tucss;
    if (c->ipcss + 8u <= c->hdrlen) {
        if (c->ip4) {
            be_put16(ip + 2, (u32)(len - c->ipcss));
            be_put16(ip + 4, be_get16(ip + 4) + n);
        } else {
            be_put16(ip + 4, (u32)(len - c->ipcss - 40));
        }
    }
    size_t l4_len = len - c->tucss;
    if (c->tcp && c->tucss + 14u <= c->hdrlen) {
        be_put32(l4 + 4, be_get32(l4 + 4) + offset);
        if (!last) l4[13] &= (u8)~0x09; /* FIN and PSH */
    } else if (!c->tcp && c->tucss + 6u <= c->hdrlen) {
        be_put16(l4 + 4, (u32)l4_len);
    }
    /* The driver's pseudo header lacks the length, which is the segment's. */
    if (c->tucso + 2u <= c->hdrlen) {
        u32 pseudo = be_get16(frame + c->tucso) + (u32)l4_len;
        be_put16(frame + c->tucso, (pseudo & 0xffff) + (pseudo >> 16));
    }
}

static void send_segments(struct e1000 *e)
{
    /* A copy: a looped frame may be stored onto our own registers, and reset them. */
    const struct e1000_context context = e->context[1], *c = &context;
    u8 frame[FRAME_MAX + 8];
    size_t hdrlen = c->hdrlen;
    if (c->mss == 0 || hdrlen == 0 || hdrlen > e->tx_len || hdrlen + c->mss > FRAME_MAX ||
        c->tucss > hdrlen || c->ipcss > hdrlen) {
        log_printf(LOG_GUEST_ERROR, "e1000: segmentation with HDRLEN %u, MSS %u, %zu bytes\n", c->hdrlen, c->mss,
                   e->tx_len);
        return;
    }
    size_t payload = MIN(e->tx_len - hdrlen, (size_t)c->paylen), done = 0;
    u32 n = 0;
    e1000_count(e, E1000_TSCTC);
    if (c->tcp && e->net && e->net->large && !loops_back(e) && hdrlen + payload - c->ipcss <= 0xffff) {
        segment_headers(c, e->tx, hdrlen + payload, 0, 0, true);
        offload(c, e->tx_popts, e->tx, hdrlen + payload);
        send_frame(e, e->tx, hdrlen + payload, NETDEV_FRAME_MAX);
        return;
    }
    do {
        size_t part = MIN((size_t)c->mss, payload - done);
        memcpy(frame, e->tx, hdrlen);
        memcpy(frame + hdrlen, e->tx + hdrlen + done, part);
        segment_headers(c, frame, hdrlen + part, n, (u32)done, done + part == payload);
        offload(c, e->tx_popts, frame, hdrlen + part);
        send_frame(e, frame, hdrlen + part, FRAME_MAX);
        done += part;
        n++;
    } while (done < payload);
}

static void send_packet(struct e1000 *e)
{
    if (!e->tx_lost && e->tx_len) {
        if (e->tx_tse) {
            send_segments(e);
        } else {
            offload(&e->context[0], e->tx_popts, e->tx, e->tx_len);
            send_frame(e, e->tx, e->tx_len, FRAME_MAX);
        }
    }
    e->tx_len = 0;
    e->tx_lost = false;
    e->tx_first = true;
}

/* ---- descriptors ---- */

/* Append data from guest memory to the packet. */
static void collect(struct e1000 *e, gpa address, size_t len)
{
    if (e->tx_lost) return;
    e->tx_work += len;
    size_t need = e->tx_len + len;
    if (need > PACKET_MAX) {
        log_printf(LOG_GUEST_ERROR, "e1000: a packet of more than %u bytes is not sent\n", PACKET_MAX);
        e->tx_lost = true;
        return;
    }
    if (need + 64 > e->tx_size) { /* room for a tag and padding */
        size_t size = MAX(need + 64, (size_t)2048);
        u8 *tx = realloc(e->tx, size);
        if (!tx) {
            e->tx_lost = true;
            return;
        }
        e->tx = tx;
        e->tx_size = size;
    }
    if (pci_dma_read(&e->pci, address, e->tx + e->tx_len, len))
        e->tx_len = need;
    else
        e->tx_lost = true;
}

static void load_context(struct e1000 *e, const u8 *d)
{
    struct e1000_context *c = &e->context[d[11] & CMD_TSE ? 1 : 0];
    c->ipcss = d[0];
    c->ipcso = d[1];
    c->ipcse = pci_get16(d + 2);
    c->tucss = d[4];
    c->tucso = d[5];
    c->tucse = pci_get16(d + 6);
    c->paylen = pci_get32(d + 8) & 0xfffff;
    c->tcp = d[11] & TUCMD_TCP;
    c->ip4 = d[11] & TUCMD_IP;
    c->hdrlen = d[13];
    c->mss = pci_get16(d + 14);
}

/* What the first descriptor of a packet says about all of it. */
static void start_packet(struct e1000 *e, u8 cmd, u8 popts, bool extended)
{
    if (!e->tx_first) return;
    e->tx_first = false;
    e->tx_fcs = cmd & CMD_IFCS;
    e->tx_tse = extended && (cmd & CMD_TSE);
    e->tx_popts = extended ? popts : 0;
}

static void legacy(struct e1000 *e, const u8 *d)
{
    u8 cmd = d[11];
    start_packet(e, cmd, 0, false);
    collect(e, pci_get32(d) | (u64)pci_get32(d + 4) << 32, pci_get16(d + 8));
    if (!(cmd & CMD_EOP)) return;
    e->tx_vlan = cmd & CMD_VLE;
    e->tx_tag = pci_get16(d + 14);
    if ((cmd & CMD_IC) && !e->tx_lost) insert_checksum(e->tx, e->tx_len, d[13], d[10], 0, false);
    send_packet(e);
}

static void data(struct e1000 *e, const u8 *d)
{
    u8 cmd = d[11];
    start_packet(e, cmd, d[13], true);
    collect(e, pci_get32(d) | (u64)pci_get32(d + 4) << 32, pci_get32(d + 8) & 0xfffff);
    if (!(cmd & CMD_EOP)) return;
    e->tx_vlan = cmd & CMD_VLE;
    e->tx_tag = pci_get16(d + 14);
    send_packet(e);
}

static void descriptor(struct e1000 *e, const u8 *d)
{
    if (!(d[11] & CMD_DEXT)) {
        legacy(e, d);
        return;
    }
    switch (d[10] >> 4) {
    case 0: load_context(e, d); break;
    case 1: data(e, d); break;
    default: log_printf(LOG_GUEST_ERROR, "e1000: transmit descriptor of type %u\n", d[10] >> 4); break;
    }
}

void e1000_tx_run(void *opaque)
{
    struct e1000 *e = opaque;
    u32 count = e1000_get(e, E1000_TDLEN) / DESC_SIZE, causes = 0;
    u64 base = e1000_get(e, E1000_TDBAL) | (u64)e1000_get(e, E1000_TDBAH) << 32;
    if (e->tx_busy || !count || !(e1000_get(e, E1000_TCTL) & TCTL_EN)) return;
    if (e1000_get(e, E1000_TDH) == e1000_get(e, E1000_TDT)) return;
    e->tx_busy = true;
    e->tx_work = 0;
    timer_cancel(e->tx_timer);
    /* A tail outside of the ring is never reached: one round is all that is done for it. */
    for (u32 n = 0; n < count && e1000_get(e, E1000_TDH) != e1000_get(e, E1000_TDT); n++) {
        u8 d[DESC_SIZE];
        if (e->tx_work > WORK_MAX) {
            timer_arm(e->tx_timer, clock_now(e->clock) + 1);
            break;
        }
        u32 head = e1000_get(e, E1000_TDH);
        if (!pci_dma_read(&e->pci, base + (u64)head * DESC_SIZE, d, sizeof(d))) break;
        descriptor(e, d);
        if (d[11] & CMD_RS) {
            u8 status = d[12] | STA_DD;
            pci_dma_write(&e->pci, base + (u64)head * DESC_SIZE + 12, &status, 1);
            causes |= ICR_TXDW;
        }
        *e1000_reg(e, E1000_TDH) = head + 1 >= count ? 0 : head + 1;
    }
    e->tx_busy = false;
    e1000_cause(e, causes | (timer_armed(e->tx_timer) ? 0 : ICR_TXQE));
}
