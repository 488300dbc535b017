/* The 82540EM's receive side: filters, the ring, checksum verification.
 *
 * Leaves out: flow control frames (filtered, never acted upon), the packet buffer's limits, and the IP/UDP
 * checksums of fragments, tunnels and IPv6 (reported as not checked).
 *
 * References: [8254x] 3.2 (descriptors and ring), 13.5 (filters), 14 (statistics). */
#include "devices/e1000_state.h"

#include <string.h>

#include "core/big_endian.h"
#include "core/log.h"
#include "devices/net_offload.h"

#define DESC_SIZE 16u

#define STA_DD    0x01u
#define STA_EOP   0x02u
#define STA_IXSM  0x04u
#define STA_VP    0x08u
#define STA_TCPCS 0x20u
#define STA_IPCS  0x40u
#define STA_PIF   0x80u
#define ERR_TCPE  0x20u
#define ERR_IPE   0x40u

#define RXCSUM_IPOFL 0x100u
#define RXCSUM_TUOFL 0x200u

/* ---- filters ---- */

static bool is_tagged(const struct e1000 *e, const u8 *frame) { return be_get16(frame + 12) == e1000_get(e, E1000_VET); }

/* Does a receive address match exactly? Only destination addresses can be selected (RAH.AS 00b). */
static bool exact_match(const struct e1000 *e, const u8 *frame)
{
    u32 low = pci_get32(frame), high = pci_get16(frame + 4);
    for (u32 i = 0; i < 16; i++) {
        u32 rah = e1000_get(e, E1000_RA + 8 * i + 4);
        if ((rah & RAH_AV) && !(rah & 0x30000) && (rah & 0xffff) == high && e1000_get(e, E1000_RA + 8 * i) == low)
            return true;
    }
    return false;
}

/* Twelve bits of the address, chosen by RCTL.MO, index the hash table [8254x] 13.5.1. */
static bool hash_match(const struct e1000 *e, const u8 *frame)
{
    static const u8 shifts[] = {4, 3, 2, 0};
    u32 top = (u32)(frame[5] << 8 | frame[4]);
    u32 bit = top >> shifts[e1000_get(e, E1000_RCTL) >> 12 & 3] & 0xfff;
    return e1000_get(e, E1000_MTA + 4 * (bit >> 5)) >> (bit & 31) & 1;
}

/* *inexact: the address matched only through the hash table. */
static bool accepted(const struct e1000 *e, const u8 *frame, bool *inexact)
{
    u32 rctl = e1000_get(e, E1000_RCTL);
    *inexact = false;
    if (is_tagged(e, frame) && (rctl & RCTL_VFE)) {
        u32 tag = be_get16(frame + 14), vid = tag & 0xfff;
        if (!(e1000_get(e, E1000_VFTA + 4 * (vid >> 5)) >> (vid & 31) & 1)) return false;
        if ((rctl & RCTL_CFIEN) && (tag >> 12 & 1) != (rctl & RCTL_CFI ? 1u : 0u)) return false;
    }
    /* PAUSE frames are for the MAC. */
    if (be_get16(frame + 12) == 0x8808 && !memcmp(frame, "\x01\x80\xc2\x00\x00\x01", 6) && !(rctl & RCTL_PMCF))
        return false;
    if (netdev_is_broadcast(frame) && (rctl & RCTL_BAM)) return true;
    if (frame[0] & 1) {
        if (rctl & RCTL_MPE) return true;
    } else if (rctl & RCTL_UPE) {
        return true;
    }
    if (exact_match(e, frame)) return true;
    *inexact = true;
    return hash_match(e, frame);
}

/* ---- checksums ---- */

/* Verify what RXCSUM asks for; frame is as on the wire. */
static void verify(const struct e1000 *e, const u8 *frame, size_t len, u8 *status, u8 *errors)
{
    u32 rxcsum = e1000_get(e, E1000_RXCSUM);
    size_t l3 = is_tagged(e, frame) ? 18 : 14;
    if (len < l3 + 20 || be_get16(frame + l3 - 2) != 0x0800 || frame[l3] >> 4 != 4) return;
    const u8 *ip = frame + l3;
    size_t header = (ip[0] & 15u) * 4, total = be_get16(ip + 2);
    if (header < 20 || total < header || total > len - l3) return;
    if (rxcsum & RXCSUM_IPOFL) {
        *status |= STA_IPCS;
        if (net_sum(ip, header, 0) != 0xffff) *errors |= ERR_IPE;
    }
    bool fragment = be_get16(ip + 6) & 0x3fff, tcp = ip[9] == 6, udp = ip[9] == 17;
    size_t l4_len = total - header;
    if (!(rxcsum & RXCSUM_TUOFL) || fragment || !(tcp ? l4_len >= 20 : udp && l4_len >= 8)) return;
    if (udp && be_get16(ip + header + 6) == 0) return; /* none was sent */
    *status |= STA_TCPCS;
    u64 pseudo = (u64)net_sum(ip + 12, 8, 0) + ip[9] + l4_len;
    if (net_sum(ip + header, l4_len, pseudo) != 0xffff) *errors |= ERR_TCPE;
}

/* ---- the ring ---- */

static u32 buffer_size(const struct e1000 *e)
{
    u32 rctl = e1000_get(e, E1000_RCTL), code = rctl >> 16 & 3;
    u32 size = 2048u >> code;
    return rctl & RCTL_BSEX && code ? size * 16 : size; /* BSEX with code 0 is reserved */
}

static u32 ring_count(const struct e1000 *e) { return e1000_get(e, E1000_RDLEN) / DESC_SIZE; }

/* Descriptors between head and tail; none when either is outside of the ring. */
static u32 free_descriptors(const struct e1000 *e)
{
    u32 count = ring_count(e), head = e1000_get(e, E1000_RDH), tail = e1000_get(e, E1000_RDT);
    if (head >= count || tail >= count) return head < count && tail == count ? count - head : 0;
    return tail >= head ? tail - head : count - head + tail;
}

static void count_frame(struct e1000 *e, const u8 *frame, size_t octets)
{
    e1000_count(e, E1000_GPRC);
    e1000_count_octets(e, E1000_GORCL, octets);
    e1000_count_size(e, E1000_PRC64, octets);
    if (frame[0] & 1) e1000_count(e, netdev_is_broadcast(frame) ? E1000_BPRC : E1000_MPRC);
}

/* Spread len bytes over descriptors; the last gets the rest of status. */
static void store(struct e1000 *e, const u8 *frame, size_t len, size_t fcs, u8 status, u8 errors, u16 special,
                  u16 checksum)
{
    static const u8 no_fcs[E1000_FCS];
    u64 base = e1000_get(e, E1000_RDBAL) | (u64)e1000_get(e, E1000_RDBAH) << 32;
    u32 count = ring_count(e), size = buffer_size(e);
    size_t total = len + fcs, done = 0;

    for (u32 guard = 0; done < total && guard < count; guard++) {
        u8 d[DESC_SIZE];
        u32 head = e1000_get(e, E1000_RDH);
        u64 at = base + (u64)head * DESC_SIZE;
        if (!pci_dma_read(&e->pci, at, d, sizeof(d))) return;
        u64 buffer = pci_get32(d) | (u64)pci_get32(d + 4) << 32;
        size_t part = MIN((size_t)size, total - done);
        size_t from_frame = done < len ? MIN(part, len - done) : 0;
        if (from_frame) pci_dma_write(&e->pci, buffer, frame + done, from_frame);
        if (part > from_frame) pci_dma_write(&e->pci, buffer + from_frame, no_fcs, part - from_frame);
        done += part;
        bool last = done == total;
        pci_put16(d + 8, (u16)part);
        pci_put16(d + 10, last ? checksum : 0);
        d[12] = last ? status | STA_DD | STA_EOP : (status & STA_VP) | STA_DD;
        d[13] = last ? errors : 0;
        pci_put16(d + 14, special);
        /* The status last, so that a driver on another vCPU never sees DD before the rest. */
        pci_dma_write(&e->pci, at + 8, d + 8, 4);
        pci_dma_write(&e->pci, at + 12, d + 12, 4);
        *e1000_reg(e, E1000_RDH) = head + 1 >= count ? 0 : head + 1;
    }
}

static void received(struct e1000 *e, size_t octets)
{
    u32 causes = ICR_RXT0, threshold = ring_count(e) >> ((e1000_get(e, E1000_RCTL) >> 8 & 3) + 1);
    if (free_descriptors(e) <= threshold) causes |= ICR_RXDMT0;
    if (octets <= (e1000_get(e, E1000_RSRPD) & 0xfff)) causes |= ICR_SRPD;
    e1000_cause(e, causes);
}

bool e1000_rx_frame(struct e1000 *e, const u8 *wire, size_t len)
{
    u32 rctl = e1000_get(e, E1000_RCTL);
    u8 frame[16384];
    if (!(rctl & RCTL_EN) || !e->link || e->rx_busy || len < 14) return true;
    if (!(pci_get16(e->pci.config + PCI_COMMAND) & PCI_COMMAND_MASTER)) return true;
    size_t octets = MAX(len, (size_t)E1000_MIN_FRAME) + E1000_FCS;
    if (octets > sizeof(frame) || (octets > 1522 && !(rctl & (RCTL_LPE | RCTL_SBP)))) {
        e1000_count(e, E1000_ROC);
        return true;
    }
    /* Everything else works on a padded copy. */
    memcpy(frame, wire, len);
    if (len < E1000_MIN_FRAME) {
        memset(frame + len, 0, E1000_MIN_FRAME - len);
        len = E1000_MIN_FRAME;
    }

    bool inexact;
    bool wanted = accepted(e, frame, &inexact);
    size_t fcs = rctl & RCTL_SECRC ? 0 : E1000_FCS;
    bool strip = is_tagged(e, frame) && (e1000_get(e, E1000_CTRL) & CTRL_VME);
    size_t stored = len + fcs - (strip ? 4 : 0);
    if (wanted && (u64)free_descriptors(e) * buffer_size(e) < stored) {
        e1000_count(e, E1000_RNBC);
        e1000_cause(e, ICR_RXO);
        return false;
    }
    e1000_count(e, E1000_TPR);
    e1000_count_octets(e, E1000_TORL, octets);
    if (!wanted) return true;
    count_frame(e, frame, octets);

    u8 status = inexact ? STA_PIF : 0, errors = 0;
    u16 special = 0;
    verify(e, frame, len, &status, &errors);
    if (!(status & (STA_IPCS | STA_TCPCS))) status |= STA_IXSM;
    if (strip) {
        special = be_get16(frame + 14);
        status |= STA_VP;
        memmove(frame + 12, frame + 16, len - 16);
        len -= 4;
    }
    size_t from = e1000_get(e, E1000_RXCSUM) & 0xff;
    u16 checksum = from < len ? net_sum(frame + from, len - from, 0) : 0;

    e->rx_busy = true;
    store(e, frame, len, fcs, status, errors, special, (u16)(checksum << 8 | checksum >> 8));
    e->rx_busy = false;
    received(e, octets);
    return true;
}
