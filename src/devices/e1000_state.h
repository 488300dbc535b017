/* Private to e1000*.c: the controller's state and registers [8254x] 13. */
#ifndef DEVICES_E1000_STATE_H
#define DEVICES_E1000_STATE_H

#include "core/clock.h"
#include "core/netdev.h"
#include "core/types.h"
#include "devices/pci.h"

#define E1000_MMIO_SIZE 0x20000u
#define E1000_FCS       4u /* bytes of a frame's check sequence, which netdevs do not carry */
#define E1000_MIN_FRAME 60u /* without it */

/* Registers, by offset in BAR 0. */
enum e1000_register {
    E1000_CTRL = 0x0000,
    E1000_CTRL_DUP = 0x0004,
    E1000_STATUS = 0x0008,
    E1000_EECD = 0x0010,
    E1000_EERD = 0x0014,
    E1000_CTRL_EXT = 0x0018,
    E1000_MDIC = 0x0020,
    E1000_VET = 0x0038,
    E1000_ICR = 0x00c0,
    E1000_ITR = 0x00c4,
    E1000_ICS = 0x00c8,
    E1000_IMS = 0x00d0,
    E1000_IMC = 0x00d8,
    E1000_RCTL = 0x0100,
    E1000_TCTL = 0x0400,
    E1000_TIPG = 0x0410,
    E1000_LEDCTL = 0x0e00,
    E1000_PBA = 0x1000,
    E1000_RDBAL = 0x2800,
    E1000_RDBAH = 0x2804,
    E1000_RDLEN = 0x2808,
    E1000_RDH = 0x2810,
    E1000_RDT = 0x2818,
    E1000_RDTR = 0x2820,
    E1000_RSRPD = 0x2c00,
    E1000_TDBAL = 0x3800,
    E1000_TDBAH = 0x3804,
    E1000_TDLEN = 0x3808,
    E1000_TDH = 0x3810,
    E1000_TDT = 0x3818,
    E1000_STATS = 0x4000, /* to 0x40fc: statistics, cleared by reading */
    E1000_MPC = 0x4010,
    E1000_PRC64 = 0x405c, /* then 127, 255, 511, 1023, 1522 */
    E1000_GPRC = 0x4074,
    E1000_BPRC = 0x4078,
    E1000_MPRC = 0x407c,
    E1000_GPTC = 0x4080,
    E1000_GORCL = 0x4088,
    E1000_GOTCL = 0x4090,
    E1000_RNBC = 0x40a0,
    E1000_ROC = 0x40ac,
    E1000_TORL = 0x40c0,
    E1000_TOTL = 0x40c8,
    E1000_TPR = 0x40d0,
    E1000_TPT = 0x40d4,
    E1000_PTC64 = 0x40d8, /* then as PRC64 */
    E1000_MPTC = 0x40f0,
    E1000_BPTC = 0x40f4,
    E1000_TSCTC = 0x40f8,
    E1000_STATS_END = 0x4100,
    E1000_RXCSUM = 0x5000,
    E1000_MTA = 0x5200,  /* 128 words of a hash table */
    E1000_RA = 0x5400,   /* 16 pairs: RAL, RAH */
    E1000_VFTA = 0x5600, /* 128 words, a bit for each VLAN */
    E1000_WUC = 0x5800,
};

#define CTRL_FD      0x00000001u
#define CTRL_SLU     0x00000040u
#define CTRL_SPEED   0x00000300u
#define CTRL_FRCSPD  0x00000800u
#define CTRL_FRCDPX  0x00001000u
#define CTRL_RST     0x04000000u
#define CTRL_VME     0x40000000u
#define CTRL_PHY_RST 0x80000000u

#define CTRL_EXT_EE_RST 0x00002000u

#define STATUS_FD 0x00000001u
#define STATUS_LU 0x00000002u

#define ICR_TXDW   0x00000001u /* transmit descriptor written back */
#define ICR_TXQE   0x00000002u /* transmit queue empty */
#define ICR_LSC    0x00000004u /* link status change */
#define ICR_RXDMT0 0x00000010u /* receive descriptors are running out */
#define ICR_RXO    0x00000040u /* receiver overrun */
#define ICR_RXT0   0x00000080u /* packet received */
#define ICR_MDAC   0x00000200u /* MDIO access complete */
#define ICR_SRPD   0x00010000u /* small packet received */
#define ICR_ALL    0x0001ffffu /* bits that exist */

#define RCTL_EN    0x00000002u
#define RCTL_SBP   0x00000004u
#define RCTL_UPE   0x00000008u
#define RCTL_MPE   0x00000010u
#define RCTL_LPE   0x00000020u
#define RCTL_LBM   0x000000c0u
#define RCTL_BAM   0x00008000u
#define RCTL_VFE   0x00040000u
#define RCTL_CFIEN 0x00080000u
#define RCTL_CFI   0x00100000u
#define RCTL_PMCF  0x00800000u
#define RCTL_BSEX  0x02000000u
#define RCTL_SECRC 0x04000000u

#define TCTL_EN  0x00000002u
#define TCTL_PSP 0x00000008u

#define RAH_AV 0x80000000u

/* Checksum and segmentation parameters of a context descriptor [8254x] 3.3.6. */
struct e1000_context {
    u8 ipcss, ipcso; /* IP checksum: first byte, where it goes */
    u16 ipcse;       /* last byte, 0: the packet's end */
    u8 tucss, tucso; /* TCP/UDP checksum, likewise */
    u16 tucse;
    u32 paylen;      /* bytes behind the header */
    u8 hdrlen;       /* bytes of header to put before each segment */
    u16 mss;         /* payload of a segment */
    bool tcp, ip4;   /* TUCMD.TCP, TUCMD.IP */
};

struct e1000 {
    struct pci_device pci;  /* 8086:100e; must stay first */
    struct clock *clock;    /* interrupt throttling, autonegotiation */
    struct netdev *net;     /* NULL: no cable */
    u8 mac[6];              /* of the EEPROM as made */

    u32 *regs;              /* E1000_MMIO_SIZE bytes of registers by offset / 4; many are computed instead */
    u32 icr, ims;           /* interrupt causes and mask */
    bool irq;               /* what is on the pin */
    u64 irq_time;           /* when it rose last */
    struct timer *itr_timer; /* end of the throttling interval */
    u32 io_address;         /* IOADDR in BAR 1 */

    u16 eeprom[64];         /* 93C46 contents */
    bool ee_writable;       /* EWEN was given */
    u32 ee_in;              /* instruction bits shifted in, after the start bit */
    int ee_in_bits;         /* how many, the start bit included; 0: waiting for it */
    u32 ee_out;             /* bits to shift out, the next one on top of bit 16 */
    int ee_out_bits;        /* how many are left of this word */
    bool ee_reading;        /* DO is driven by READ */
    u8 ee_word;             /* address of the word being read */
    bool ee_do;             /* DO pin */

    u16 phy[32];            /* PHY registers of page 0 */
    struct timer *link_timer; /* end of autonegotiation */
    bool link;              /* the MAC sees a link */

    struct e1000_context context[2]; /* [0] for checksums, [1] for segmentation */
    struct timer *tx_timer; /* transmission goes on */
    size_t tx_work;         /* what this part of it has cost */
    bool tx_busy, rx_busy;  /* DMA of ours that hits our own registers starts nothing */
    u8 *tx;                 /* the packet that is being collected */
    size_t tx_len;          /* bytes of it */
    size_t tx_size;         /* bytes allocated */
    bool tx_lost;           /* it was too long or memory is short: drop it */
    bool tx_first;          /* the next data descriptor starts a packet */
    bool tx_tse;            /* it is to be cut into segments */
    u8 tx_popts;            /* POPTS of its first descriptor */
    u16 tx_tag;             /* VLAN tag to insert */
    bool tx_vlan;           /* insert it */
    bool tx_fcs;            /* the MAC appends the FCS (IFCS of the first descriptor) */
};

static inline u32 *e1000_reg(struct e1000 *e, u32 offset) { return &e->regs[offset / 4]; }
static inline u32 e1000_get(const struct e1000 *e, u32 offset) { return e->regs[offset / 4]; }

/* Set interrupt causes. */
void e1000_cause(struct e1000 *e, u32 causes);
/* Count in a statistics register; the 32 bit ones stick at all ones. */
void e1000_count(struct e1000 *e, u32 offset);
/* Add to a 64 bit statistic. */
void e1000_count_octets(struct e1000 *e, u32 offset, size_t octets);
/* Count a packet by its length with FCS in the six counters from offset on. */
void e1000_count_size(struct e1000 *e, u32 offset, size_t octets);

/* ---- e1000_tx.c ---- */

void e1000_tx_reset(struct e1000 *e);
/* Work on the transmit ring, if it is on; also the timer's. */
void e1000_tx_run(void *opaque);

/* ---- e1000_rx.c ---- */

/* A frame from the cable: false when it must wait for descriptors. */
bool e1000_rx_frame(struct e1000 *e, const u8 *frame, size_t len);

/* ---- e1000_phy.c ---- */

/* The EEPROM as it leaves the factory. */
void e1000_eeprom_init(struct e1000 *e);
u32 e1000_eecd_read(struct e1000 *e);
void e1000_eecd_write(struct e1000 *e, u32 value);
void e1000_eerd_write(struct e1000 *e, u32 value);
/* Put the address in the EEPROM into receive address 0, as the MAC does after a reset. */
void e1000_eeprom_load(struct e1000 *e);
/* Hardware reset of the PHY: starts autonegotiation. */
void e1000_phy_reset(struct e1000 *e);
void e1000_mdic_write(struct e1000 *e, u32 value);
/* Is the PHY in loopback? */
bool e1000_phy_loopback(const struct e1000 *e);
/* The carrier came or went. */
void e1000_phy_link(struct e1000 *e);
/* Timer: autonegotiation is complete. */
void e1000_phy_negotiated(void *opaque);
/* What CTRL and the PHY make of STATUS. */
u32 e1000_status(const struct e1000 *e);

#endif
