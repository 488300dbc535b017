/* Realtek RTL8139C+: registers, both ways of sending and receiving, the EEPROM, the built-in PHY.
 *
 * Models the four transmit buffers and the receive ring of the RTL8139, the descriptor rings of the C+ mode with IP, TCP
 * and UDP checksums, large sends and VLAN tags, address filters, the timer, and loopback.
 * Leaves out: wake-up, flash, the dump of the statistics (DTCCR), early receive and transmit thresholds, the counters that
 * nothing here can raise.
 *
 * Receive ring (RBSTART): u16 status, u16 length with FCS, the frame, FCS; then on to a multiple of four bytes. CAPR lags
 * 16 bytes behind what the driver has read.
 * C+ descriptor:  OWN EOR FS LS ... | length   ;   VLAN   ;   buffer 31:0   ;   buffer 63:32
 *
 * References: [8139D] RTL8139D data sheet 1.3; [8139C+] RTL8139C(L)+ data sheet 1.6. */
#include "devices/rtl8139.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/big_endian.h"
#include "devices/net_offload.h"

#define REGS       256u
#define MIN_FRAME  60u
#define FCS        4u
#define MAX_FRAME  16384u /* longer ones do not fit any receive ring's length field */
#define RING_PAD   16u
#define TX_SLOTS   4u
#define DESC_SIZE  16u
#define RX_DESCS   64u
#define SEGMENT_MAX 4096u /* 11 bits of payload, and its headers */
#define TIMER_HZ   33000000ull /* the PCI clock */

enum {
    IDR0 = 0x00, MAR0 = 0x08, TSD0 = 0x10, DTCCR = 0x10, TSAD0 = 0x20, TNPDS = 0x20, THPDS = 0x28, RBSTART = 0x30, ERSR = 0x36,
    CR = 0x37, CAPR = 0x38, CBR = 0x3a, IMR = 0x3c, ISR = 0x3e, TCR = 0x40, RCR = 0x44, TCTR = 0x48, MPC = 0x4c,
    CR9346 = 0x50, CONFIG0 = 0x51, CONFIG1 = 0x52, TIMERINT = 0x54, MSR = 0x58, CONFIG3 = 0x59, CONFIG4 = 0x5a,
    MULINT = 0x5c, RERID = 0x5e, TSAD = 0x60, BMCR = 0x62, BMSR = 0x64, ANAR = 0x66, ANLPAR = 0x68, ANER = 0x6a,
    CONFIG5 = 0xd8, TPPOLL = 0xd9, CPCR = 0xe0, RDSAR = 0xe4, ETTHR = 0xec
};

#define CR_RST  0x10
#define CR_RE   0x08
#define CR_TE   0x04
#define CR_BUFE 0x01 /* the receive ring is empty */

#define ISR_ROK     0x0001
#define ISR_TOK     0x0004
#define ISR_RXOVW   0x0010
#define ISR_LINK    0x0020
#define ISR_FOVW    0x0040
#define ISR_TDU     0x0080
#define ISR_TIMEOUT 0x4000

#define TSD_OWN   0x00002000u
#define TSD_TOK   0x00008000u
#define TSD_SIZE  0x00001fffu
#define TSD_WRITE 0x003f1fffu

#define TCR_ID       0x74800000u /* RTL8139C+ [8139C+] 5.7 */
#define TCR_LOOPBACK 0x00060000u

#define RCR_AAP  0x01 /* all */
#define RCR_APM  0x02 /* ours */
#define RCR_AM   0x04 /* multicast */
#define RCR_AB   0x08 /* broadcast */
#define RCR_WRAP 0x80 /* a frame goes on beyond the ring's end */

#define RX_ROK  0x0001
#define RX_BAR  0x2000
#define RX_PAM  0x4000
#define RX_MAR  0x8000

#define CPCR_RX   0x02 /* C+ receive */
#define CPCR_TX   0x01 /* C+ transmit */
#define CPCR_VLAN 0x40 /* take tags off */

#define DESC_OWN 0x80000000u
#define DESC_EOR 0x40000000u
#define DESC_FS  0x20000000u
#define DESC_LS  0x10000000u
#define TXD_LGSEN 0x08000000u
#define TXD_IPCS  0x00040000u
#define TXD_UDPCS 0x00020000u
#define TXD_TCPCS 0x00010000u
#define TXD_TAG   0x00020000u /* in the second word */
#define RXD_TAG   0x00010000u /* likewise */

struct rtl8139 {
    struct pci_device pci; /* must stay first */
    struct netdev *net;    /* the cable, may be NULL */
    struct clock *clock;   /* for the timer */
    struct timer *timer;   /* TimerInt */
    u8 mac[6];             /* from the EEPROM */
    u8 reg[REGS];          /* registers that only store, by offset */
    u16 isr, imr;          /* interrupt status, mask */
    u32 tsd[TX_SLOTS];     /* transmit status */
    u16 capr, cbr;         /* receive ring: what was read (minus 16), what was written */
    u64 timer_base;        /* clock time at which TCTR was 0 */
    u16 tx_index, rx_index; /* C+: the next descriptors */
    u8 *frame;             /* C+: what the descriptors have given so far, NETDEV_FRAME_MAX */
    u32 length;            /* bytes in it */
    bool too_long;         /* it had more than that */
    u32 first_flags;       /* the first descriptor's flags and tag */
    u32 first_tag;         /* likewise */
    bool sending;          /* a transmit is at work; its answer may come at once, even to the registers that send */
    u16 eeprom[64];        /* 93C46 */
    u16 ee_shift;          /* its input or output */
    u8 ee_bits;            /* bits shifted since it was selected */
    bool ee_out;           /* its data output */
    bool ee_clock;         /* its clock, as it was */
    bool ee_started;       /* the start bit was seen */
    bool ee_reading;       /* the word goes out */
};

static u16 get16(const struct rtl8139 *r, unsigned at) { return pci_get16(r->reg + at); }
static u32 get32(const struct rtl8139 *r, unsigned at) { return pci_get32(r->reg + at); }
static u64 get64(const struct rtl8139 *r, unsigned at) { return get32(r, at) | (u64)get32(r, at + 4) << 32; }

/* ---- interrupts and the timer ---- */

static void update_irq(struct rtl8139 *r) { pci_set_irq(&r->pci, (r->isr & r->imr) != 0); }

static void cause(struct rtl8139 *r, u16 bits)
{
    r->isr |= bits;
    update_irq(r);
}

static u32 ticks(const struct rtl8139 *r) { return (u32)muldiv64(clock_now(r->clock) - r->timer_base, TIMER_HZ, NS_PER_SECOND); }

static void arm_timer(struct rtl8139 *r)
{
    u32 at = get32(r, TIMERINT), left = at - ticks(r);
    if (!at)
        timer_cancel(r->timer);
    else
        timer_arm(r->timer, clock_now(r->clock) + muldiv64(left ? left : 1ull << 32, NS_PER_SECOND, TIMER_HZ) + 1);
}

static void timer_fired(void *opaque)
{
    struct rtl8139 *r = opaque;
    cause(r, ISR_TIMEOUT);
    /* The counter goes on, and comes by again when it has wrapped. */
    timer_arm(r->timer, clock_now(r->clock) + muldiv64(1ull << 32, NS_PER_SECOND, TIMER_HZ));
}

/* ---- receiving ---- */

static bool multicast_wanted(const struct rtl8139 *r, const u8 *address)
{
    unsigned hash = netdev_multicast_hash(address);
    return r->reg[MAR0 + (hash >> 3)] >> (hash & 7) & 1;
}

/* The status of a frame by its address, 0: not for us. */
static u16 filter(const struct rtl8139 *r, const u8 *frame)
{
    u8 rcr = r->reg[RCR];
    bool any = rcr & RCR_AAP;
    if (netdev_is_broadcast(frame)) return rcr & RCR_AB || any ? RX_ROK | RX_BAR : 0;
    if (frame[0] & 1) return (rcr & RCR_AM && multicast_wanted(r, frame)) || any ? RX_ROK | RX_MAR : 0;
    if (!memcmp(frame, r->reg + IDR0, 6)) return rcr & RCR_APM || any ? RX_ROK | RX_PAM : 0;
    return any ? RX_ROK : 0;
}

static void missed(struct rtl8139 *r, u16 why)
{
    u32 count = (get32(r, MPC) + 1) & 0xffffff;
    pci_put32(r->reg + MPC, count);
    cause(r, why);
}

static u32 ring_size(const struct rtl8139 *r) { return 8192u << (get32(r, RCR) >> 11 & 3); }

/* Bytes go into the ring at CBR; beyond its end, or around. */
static void ring_put(struct rtl8139 *r, u32 *at, const void *data, u32 len, bool wrap)
{
    u32 size = ring_size(r), base = get32(r, RBSTART);
    u32 n = wrap ? MIN(len, size - *at) : len;
    pci_dma_write(&r->pci, base + *at, data, n);
    if (n < len) pci_dma_write(&r->pci, base, (const u8 *)data + n, len - n);
    *at += len;
    if (wrap) *at %= size;
}

static void receive_ring(struct rtl8139 *r, const u8 *frame, u32 len, u16 status)
{
    static const u8 zero[MIN_FRAME + FCS];
    u32 size = ring_size(r), padded = MAX(len, MIN_FRAME), at = r->cbr % size;
    u32 need = (4 + padded + FCS + 3) & ~3u;
    u32 used = (r->cbr + size - (r->capr + RING_PAD) % size) % size;
    u8 header[4];
    if (used + need >= size) {
        missed(r, ISR_RXOVW);
        return;
    }
    /* The 64 KiB ring always wraps [8139D] 5.8. */
    bool wrap = !(r->reg[RCR] & RCR_WRAP) || size == 65536;
    pci_put16(header, status);
    pci_put16(header + 2, (u16)(padded + FCS));
    ring_put(r, &at, header, 4, wrap);
    ring_put(r, &at, frame, len, wrap);
    ring_put(r, &at, zero, padded - len + FCS, wrap); /* nobody looks at the FCS */
    r->cbr = (u16)((r->cbr + need) % size);
    cause(r, ISR_ROK);
}

static void receive_descriptor(struct rtl8139 *r, const u8 *frame, u32 len, u16 status)
{
    static const u8 zero[MIN_FRAME + FCS];
    u64 at = get64(r, RDSAR) + DESC_SIZE * r->rx_index;
    u8 d[DESC_SIZE] = {0};
    u32 tag = 0;
    pci_dma_read(&r->pci, at, d, sizeof(d));
    u32 flags = pci_get32(d), room = flags & 0x1fff;
    u64 buffer = pci_get32(d + 8) | (u64)pci_get32(d + 12) << 32;
    bool take_tag = get16(r, CPCR) & CPCR_VLAN && len >= 18 && frame[12] == 0x81 && frame[13] == 0;
    u32 cut = take_tag ? 4 : 0, padded = MAX(len - cut, MIN_FRAME);
    if (!(flags & DESC_OWN) || padded + FCS > room) {
        missed(r, flags & DESC_OWN ? ISR_FOVW : ISR_RXOVW);
        return;
    }
    if (take_tag) { /* in network order, as the driver expects it */
        tag = RXD_TAG | frame[14] | (u32)frame[15] << 8;
        pci_dma_write(&r->pci, buffer, frame, 12);
        pci_dma_write(&r->pci, buffer + 12, frame + 16, len - 16);
    } else {
        pci_dma_write(&r->pci, buffer, frame, len);
    }
    pci_dma_write(&r->pci, buffer + len - cut, zero, padded - (len - cut) + FCS);
    u32 done = (flags & DESC_EOR) | DESC_FS | DESC_LS | (padded + FCS);
    if (status & RX_MAR) done |= 1u << 27;
    if (status & RX_PAM) done |= 1u << 26;
    if (status & RX_BAR) done |= 1u << 25;
    pci_put32(d + 4, tag);
    pci_dma_write(&r->pci, at + 4, d + 4, 4);
    pci_put32(d, done);
    pci_dma_write(&r->pci, at, d, 4);
    r->rx_index = flags & DESC_EOR || r->rx_index == RX_DESCS - 1 ? 0 : r->rx_index + 1;
    cause(r, ISR_ROK);
}

/* Is there room for any frame? If not it can wait in the netdev's queue. */
static bool may_receive(struct rtl8139 *r, size_t len)
{
    if (!(r->reg[CR] & CR_RE) || !(pci_get16(r->pci.config + PCI_COMMAND) & PCI_COMMAND_MASTER)) return true; /* lost */
    if (get16(r, CPCR) & CPCR_RX) {
        u8 d[4] = {0};
        pci_dma_read(&r->pci, get64(r, RDSAR) + DESC_SIZE * r->rx_index, d, sizeof(d));
        return pci_get32(d) & DESC_OWN;
    }
    u32 size = ring_size(r), used = (r->cbr + size - (r->capr + RING_PAD) % size) % size;
    return used + len + 16 < size || !used;
}

static bool receive(void *opaque, const u8 *frame, size_t len)
{
    struct rtl8139 *r = opaque;
    if (!may_receive(r, len)) return false;
    if (!(r->reg[CR] & CR_RE) || len < 14 || len > MAX_FRAME) return true;
    u16 status = filter(r, frame);
    if (!status) return true;
    if (get16(r, CPCR) & CPCR_RX)
        receive_descriptor(r, frame, (u32)len, status);
    else
        receive_ring(r, frame, (u32)len, status);
    return true;
}

static void link_changed(void *opaque, bool up)
{
    (void)up;
    cause(opaque, ISR_LINK);
}

static const struct netdev_front front = {.receive = receive, .link_changed = link_changed};

/* ---- sending ---- */

static void send(struct rtl8139 *r, u8 *frame, u32 len)
{
    if (len < MIN_FRAME) {
        memset(frame + len, 0, MIN_FRAME - len);
        len = MIN_FRAME;
    }
    if ((get32(r, TCR) & TCR_LOOPBACK) == TCR_LOOPBACK)
        receive(r, frame, len);
    else
        netdev_transmit(r->net, frame, len);
}

static void transmit_slot(struct rtl8139 *r, unsigned slot)
{
    u32 len = r->tsd[slot] & TSD_SIZE;
    if (r->sending || !(r->reg[CR] & CR_TE)) return;
    r->sending = true;
    if (len && pci_dma_read(&r->pci, get32(r, TSAD0 + 4 * slot), r->frame, len)) send(r, r->frame, len);
    r->sending = false;
    r->tsd[slot] |= TSD_OWN | TSD_TOK;
    cause(r, ISR_TOK);
}

/* Where the IPv4 packet of a frame starts, 0: there is none that is whole. */
static u32 find_ip(const u8 *frame, u32 len)
{
    u32 at = len > 17 && be_get16(frame + 12) == 0x8100 ? 18 : 14;
    const u8 *ip = frame + at;
    if (len < at + 20 || be_get16(ip - 2) != 0x0800 || ip[0] >> 4 != 4) return 0;
    u32 header = (ip[0] & 15) * 4u, total = be_get16(ip + 2);
    return header < 20 || total < header || at + total > len ? 0 : at;
}

/* The checksums that the driver left to us, in an IPv4 frame. */
static void checksums(u8 *frame, u32 len, u32 flags)
{
    u32 at = find_ip(frame, len);
    if (!at) return;
    u8 *ip = frame + at;
    u32 header = (ip[0] & 15) * 4u, size = be_get16(ip + 2) - header;
    u8 *payload = ip + header;
    if (flags & TXD_IPCS) {
        be_put16(ip + 10, 0);
        be_put16(ip + 10, (u16)~net_sum(ip, header, 0));
    }
    u32 place = ip[9] == 6 && flags & TXD_TCPCS ? 16 : ip[9] == 17 && flags & TXD_UDPCS ? 6 : 0;
    if (!place || size < place + 2 || (be_get16(ip + 6) & 0x3fff)) return; /* fragments have no checksum of their own */
    be_put16(payload + place, 0);
    u16 value = (u16)~net_sum(payload, size, (u64)net_sum(ip + 12, 8, 0) + ip[9] + size);
    be_put16(payload + place, !value && ip[9] == 17 ? 0xffff : value);
}

static void send_segment(void *opaque, u8 *frame, size_t len) { send(opaque, frame, (u32)len); }

/* A whole frame of the C+ mode: its tag, its checksums. r->frame has room for the tag. */
static void finish_frame(struct rtl8139 *r)
{
    u32 flags = r->first_flags;
    if (r->too_long || r->length < 14) return;
    if (r->first_tag & TXD_TAG) {
        memmove(r->frame + 16, r->frame + 12, r->length - 12);
        r->frame[12] = 0x81;
        r->frame[13] = 0;
        r->frame[14] = (u8)r->first_tag;
        r->frame[15] = (u8)(r->first_tag >> 8);
        r->length += 4;
    }
    if (flags & TXD_LGSEN) {
        u8 scratch[SEGMENT_MAX];
        u32 ip = find_ip(r->frame, r->length), mss = flags >> 16 & 0x7ff;
        if (ip && mss)
            net_segment(r->frame, r->length, ip, ip + (r->frame[ip] & 15) * 4u, mss, scratch, sizeof(scratch), send_segment, r);
        return;
    }
    checksums(r->frame, r->length, flags);
    send(r, r->frame, r->length);
}

/* The descriptors from the current one on, not more than once around: a ring that stays ours is the guest's mistake. */
static void transmit_ring(struct rtl8139 *r)
{
    if (r->sending || !(r->reg[CR] & CR_TE) || !(get16(r, CPCR) & CPCR_TX)) return;
    r->sending = true;
    for (unsigned n = 0; n < 64; n++) {
        u64 at = get64(r, TNPDS) + DESC_SIZE * r->tx_index;
        u8 d[DESC_SIZE] = {0};
        if (!pci_dma_read(&r->pci, at, d, sizeof(d))) break;
        u32 flags = pci_get32(d), len = flags & 0xffff;
        if (!(flags & DESC_OWN)) {
            cause(r, ISR_TDU);
            break;
        }
        if (flags & DESC_FS) {
            r->length = 0;
            r->too_long = false;
            r->first_flags = flags;
            r->first_tag = pci_get32(d + 4);
        }
        if (r->length + len > NETDEV_FRAME_MAX - 4) {
            r->too_long = true;
        } else {
            pci_dma_read(&r->pci, pci_get32(d + 8) | (u64)pci_get32(d + 12) << 32, r->frame + r->length, len);
            r->length += len;
        }
        pci_put32(d, flags & ~DESC_OWN);
        pci_dma_write(&r->pci, at, d, 4);
        r->tx_index = flags & DESC_EOR || r->tx_index == 63 ? 0 : r->tx_index + 1;
        if (!(flags & DESC_LS)) continue;
        finish_frame(r);
        r->length = 0;
        cause(r, ISR_TOK);
    }
    r->sending = false;
}

/* ---- the EEPROM: a 93C46 behind four pins of CR9346 ---- */

static void eeprom_write(struct rtl8139 *r, u8 value)
{
    bool selected = value & 0x08 && (value >> 6) == 2, clock_pin = value & 0x04, rising = clock_pin && !r->ee_clock;
    r->ee_clock = clock_pin;
    if (!selected) {
        r->ee_started = r->ee_reading = false;
        r->ee_bits = 0;
        r->ee_shift = 0;
        r->ee_out = true; /* never busy */
        return;
    }
    if (!rising) return;
    if (r->ee_reading) {
        r->ee_out = r->ee_shift & 0x8000;
        r->ee_shift = (u16)(r->ee_shift << 1);
        return;
    }
    if (!r->ee_started) {
        r->ee_started = value & 0x02; /* the start bit */
        return;
    }
    r->ee_shift = (u16)(r->ee_shift << 1 | (value >> 1 & 1));
    if (++r->ee_bits != 8) return;
    if (r->ee_shift >> 6 == 2) { /* READ: two bits of opcode, six of address; a zero goes first */
        r->ee_shift = r->eeprom[r->ee_shift & 63];
        r->ee_reading = true;
        r->ee_out = false;
    }
}

/* ---- registers ---- */

static void chip_reset(struct rtl8139 *r)
{
    u8 id[16];
    memcpy(id, r->reg, sizeof(id)); /* IDR and MAR stay */
    memset(r->reg, 0, sizeof(r->reg));
    memcpy(r->reg, id, sizeof(id));
    memset(r->tsd, 0, sizeof(r->tsd));
    for (unsigned i = 0; i < TX_SLOTS; i++) r->tsd[i] = TSD_OWN;
    r->isr = r->imr = 0;
    r->capr = (u16)-RING_PAD;
    r->cbr = 0;
    r->tx_index = r->rx_index = 0;
    r->length = 0;
    r->timer_base = clock_now(r->clock);
    timer_cancel(r->timer);
    r->reg[CONFIG1] = 0x0c; /* both BARs are there */
    r->reg[CONFIG3] = 0x01;
    pci_put16(r->reg + BMCR, 0x1000);  /* auto-negotiation */
    pci_put16(r->reg + ANAR, 0x05e1);
    pci_put16(r->reg + ANLPAR, 0x45e1); /* the other side can do all, too */
    pci_put16(r->reg + ANER, 0x0001);
    update_irq(r);
}

static u8 read_byte(struct rtl8139 *r, unsigned at)
{
    bool up = netdev_link(r->net);
    u32 value;
    switch (at) {
    case CR: return (r->reg[CR] & (CR_RE | CR_TE)) | (r->cbr == (u16)((r->capr + RING_PAD) % ring_size(r)) ? CR_BUFE : 0);
    case CAPR:
    case CAPR + 1: return (u8)(r->capr >> (8 * (at - CAPR)));
    case CBR:
    case CBR + 1: return (u8)(r->cbr >> (8 * (at - CBR)));
    case IMR:
    case IMR + 1: return (u8)(r->imr >> (8 * (at - IMR)));
    case ISR:
    case ISR + 1: return (u8)(r->isr >> (8 * (at - ISR)));
    case CR9346: return (r->reg[at] & 0xfe) | r->ee_out;
    case MSR: return up ? 0x10 : 0x14; /* 100 Mbit/s, auxiliary power; bit 2: no link */
    case BMSR: return up ? 0x2d : 0x09; /* 0x782d: all of 10 and 100 Mbit/s, negotiated, link */
    case BMSR + 1: return 0x78;
    case TSAD:
    case TSAD + 1: /* summary of the four slots: OWN, abort, underrun, TOK [8139D] 5.14 */
        value = 0;
        for (unsigned i = 0; i < TX_SLOTS; i++)
            value |= (r->tsd[i] & TSD_OWN ? 1u << i : 0) | (r->tsd[i] & TSD_TOK ? 0x1000u << i : 0);
        return (u8)(value >> (8 * (at - TSAD)));
    default: break;
    }
    if (at >= TSD0 && at < TSD0 + 4 * TX_SLOTS) return (u8)(r->tsd[(at - TSD0) / 4] >> (8 * (at & 3)));
    if (at >= TCR && at < TCR + 4) return (u8)((get32(r, TCR) | TCR_ID) >> (8 * (at & 3)));
    if (at >= TCTR && at < TCTR + 4) return (u8)(ticks(r) >> (8 * (at & 3)));
    return r->reg[at];
}

static u64 rtl8139_read(void *opaque, u64 offset, unsigned size)
{
    u64 value = 0;
    for (unsigned i = 0; i < size; i++) value |= (u64)read_byte(opaque, ((unsigned)offset + i) % REGS) << (8 * i);
    return value;
}

/* CONFIG registers take writes only after the right word in CR9346 [8139D] 5.15. */
static bool unlocked(const struct rtl8139 *r) { return r->reg[CR9346] >> 6 == 3; }

static void write_wide(struct rtl8139 *r, unsigned at, u32 value, unsigned size)
{
    for (unsigned i = 0; i < size && at + i < REGS; i++) r->reg[at + i] = (u8)(value >> (8 * i));
}

static void write_cr(struct rtl8139 *r, u8 value)
{
    if (value & CR_RST) {
        chip_reset(r);
        return;
    }
    u8 risen = value & ~r->reg[CR];
    r->reg[CR] = value & (CR_RE | CR_TE);
    if (risen & CR_RE) {
        r->cbr = 0;
        r->capr = (u16)-RING_PAD;
        r->rx_index = 0;
    }
    if (risen & CR_TE) r->tx_index = 0;
    netdev_flush(r->net);
}

static void rtl8139_write(void *opaque, u64 offset, u64 written, unsigned size)
{
    struct rtl8139 *r = opaque;
    unsigned at = (unsigned)offset;
    u32 value = (u32)written;
    if (at >= TSD0 && at < TSD0 + 4 * TX_SLOTS && !(get16(r, CPCR) & CPCR_TX)) {
        if (size != 4) return;
        unsigned slot = (at - TSD0) / 4;
        r->tsd[slot] = value & TSD_WRITE;
        if (!(value & TSD_OWN)) transmit_slot(r, slot);
        return;
    }
    switch (at) {
    case CR: write_cr(r, (u8)value); break;
    case CAPR:
        r->capr = (u16)value;
        netdev_flush(r->net);
        break;
    case CBR:
    case BMSR:
    case ANLPAR:
    case ANER:
    case CONFIG0:
    case MSR: break; /* read-only */
    case IMR:
        r->imr = (u16)value;
        if (size == 4) r->isr &= (u16)~(value >> 16);
        update_irq(r);
        break;
    case ISR:
        r->isr &= (u16)~value;
        update_irq(r);
        netdev_flush(r->net);
        break;
    case RCR:
        write_wide(r, at, value, size);
        netdev_flush(r->net);
        break;
    case TCTR:
        r->timer_base = clock_now(r->clock);
        arm_timer(r);
        break;
    case TIMERINT:
        write_wide(r, at, value, size);
        arm_timer(r);
        break;
    case MPC: pci_put32(r->reg + MPC, 0); break;
    case CR9346:
        r->reg[at] = (u8)value & 0xfe;
        eeprom_write(r, (u8)value);
        if (value >> 6 == 1) memcpy(r->reg + IDR0, r->mac, 6); /* auto-load */
        break;
    case CONFIG1:
    case CONFIG3:
    case CONFIG4:
        if (unlocked(r)) write_wide(r, at, value, 1);
        break;
    case BMCR:
        pci_put16(r->reg + BMCR, (u16)value & 0x3100); /* reset and the start of negotiation are over at once */
        break;
    case TPPOLL:
        if (value & 0x40) transmit_ring(r);
        break;
    default:
        /* Places without a register store nothing: iPXE takes a card that stores at dah for an RTL8169. */
        if (at < RERID || (at > TSAD + 1 && at < TPPOLL) || (at > TPPOLL + 6 && at <= ETTHR)) write_wide(r, at, value, size);
        break;
    }
}

static const struct region_ops ops = {rtl8139_read, rtl8139_write, 1, 4};

/* ---- life ---- */

static void rtl8139_reset(struct device *d)
{
    struct rtl8139 *r = (struct rtl8139 *)d;
    pci_device_reset(&r->pci);
    memset(r->reg, 0, sizeof(r->reg));
    memcpy(r->reg + IDR0, r->mac, 6);
    r->ee_clock = false;
    eeprom_write(r, 0);
    chip_reset(r);
}

static void rtl8139_destroy(struct device *d)
{
    struct rtl8139 *r = (struct rtl8139 *)d;
    netdev_detach(r->net);
    pci_device_destroy(&r->pci);
    if (r->timer) timer_destroy(r->timer);
    free(r->frame);
    free(r);
}

static const struct device_class class = {.name = "rtl8139", .reset = rtl8139_reset, .destroy = rtl8139_destroy};
static const struct pci_info info = {
    .vendor = 0x10ec, .device = 0x8139, .revision = 0x20, .class_code = 0x020000, .interrupt_pin = 1};

/* Signature, IDs, the address from word 7 on [8139D] 6. */
static void fill_eeprom(struct rtl8139 *r)
{
    r->eeprom[0] = 0x8129;
    r->eeprom[1] = info.vendor;
    r->eeprom[2] = info.device;
    r->eeprom[3] = PCI_SUBSYSTEM_VENDOR_CALQUE;
    r->eeprom[4] = PCI_SUBSYSTEM_ID_CALQUE;
    for (int i = 0; i < 3; i++) r->eeprom[7 + i] = pci_get16(r->mac + 2 * i);
}

struct device *rtl8139_create(struct pci_bus *pci, int devfn, struct clock *clock, struct netdev *net, const u8 mac[6],
                              struct ram *ram, const void *rom, size_t rom_size)
{
    struct rtl8139 *r = calloc(1, sizeof(*r));
    u8 *frame = malloc(NETDEV_FRAME_MAX);
    if (!r || !frame) {
        fprintf(stderr, "calque: rtl8139: out of memory\n");
        goto fail;
    }
    if (pci_device_init(&r->pci, pci, devfn, &info, &class) < 0) goto fail;
    r->frame = frame;
    r->clock = clock;
    r->net = net;
    memcpy(r->mac, mac, sizeof(r->mac));
    if (!(r->timer = timer_create_on(clock, timer_fired, r))) {
        fprintf(stderr, "calque: rtl8139: out of memory\n");
        rtl8139_destroy(&r->pci.dev);
        return NULL;
    }
    pci_add_bar(&r->pci, 0, PCI_BAR_IO, REGS, "rtl8139-io", &ops, r);
    pci_add_bar(&r->pci, 1, PCI_BAR_MEM32, REGS, "rtl8139-mmio", &ops, r);
    if (rom) pci_add_rom(&r->pci, "rtl8139-rom", ram, rom, rom_size);
    fill_eeprom(r);
    rtl8139_reset(&r->pci.dev);
    netdev_attach(net, &front, r);
    return &r->pci.dev;

fail:
    free(frame);
    free(r);
    return NULL;
}
