/* The 82540EM's EEPROM (a 93C46 on a bit-banged Microwire bus, and EERD) and its PHY (an 88E1011S behind MDIC).
 *
 * Leaves out: PHY pages other than 0, forced speeds on the wire (what is forced is reported), cable diagnostics,
 * PHY interrupts, and keeping what a guest writes into the EEPROM.
 * DEVIATION: autonegotiation takes 20 ms, not seconds.
 *
 * References: [8254x] PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual; [93C46] any
 * data sheet of the part; [802.3] clause 22 and 40 for the PHY's standard registers. */
#include "devices/e1000_state.h"

#include <string.h>

#include "core/log.h"

#define NEGOTIATION_NS 20000000ull

#define EECD_SK   0x001u
#define EECD_CS   0x002u
#define EECD_DI   0x004u
#define EECD_DO   0x008u
#define EECD_FWE  0x030u
#define EECD_REQ  0x040u
#define EECD_GNT  0x080u
#define EECD_PRES 0x100u

#define EERD_START 0x01u
#define EERD_DONE  0x10u

#define EEPROM_CHECKSUM 0xbabau /* sum of words 0 to 0x3f [8254x] 5.6.35 */

/* ---- EEPROM ---- */

void e1000_eeprom_init(struct e1000 *e)
{
    u16 *w = e->eeprom;
    memset(w, 0, sizeof(e->eeprom));
    for (int i = 0; i < 3; i++) w[i] = (u16)(e->mac[2 * i] | e->mac[2 * i + 1] << 8);
    w[0x03] = 0x0000;                                           /* compatibility */
    w[0x05] = 0xffff;                                           /* no image version */
    w[0x08] = 0xffff, w[0x09] = 0xffff;                         /* no PBA number */
    w[0x0a] = 0x4408;                                           /* init control 1: signature 01b, IDs from here */
    w[0x0b] = pci_get16(e->pci.config + PCI_SUBSYSTEM_ID);
    w[0x0c] = pci_get16(e->pci.config + PCI_SUBSYSTEM_VENDOR);
    w[0x0d] = e->pci.info->device;
    w[0x0e] = e->pci.info->vendor;
    w[0x0f] = 0x3040;                                           /* init control 2: advertise both kinds of PAUSE */
    w[0x2f] = 0x0602;                                           /* LEDs */
    u16 sum = 0;
    for (int i = 0; i < 0x3f; i++) sum = (u16)(sum + w[i]);
    w[0x3f] = (u16)(EEPROM_CHECKSUM - sum);
}

void e1000_eeprom_load(struct e1000 *e)
{
    const u16 *w = e->eeprom;
    *e1000_reg(e, E1000_RA) = w[0] | (u32)w[1] << 16;
    *e1000_reg(e, E1000_RA + 4) = w[2] | RAH_AV;
}

static void eeprom_idle(struct e1000 *e)
{
    e->ee_in = 0;
    e->ee_in_bits = 0;
    e->ee_reading = false;
    e->ee_do = true; /* READY, or pulled up */
}

/* An instruction of start bit, two bits of opcode and six of address is in [93C46]. */
static void eeprom_instruction(struct e1000 *e)
{
    u8 address = e->ee_in & 0x3f;
    switch (e->ee_in >> 6 & 3) {
    case 2: /* READ: a zero comes out first, then the words from that address on */
        e->ee_reading = true;
        e->ee_do = false;
        e->ee_word = address;
        e->ee_out = e->eeprom[address];
        e->ee_out_bits = 16;
        break;
    case 0: /* EWEN and EWDS; ERAL and WRAL are not for this part's supply voltage */
        if (address >> 4 == 3) e->ee_writable = true;
        if (address >> 4 == 0) e->ee_writable = false;
        break;
    case 3: /* ERASE */
        if (e->ee_writable) e->eeprom[address] = 0xffff;
        break;
    default: break; /* WRITE: 16 bits of data follow */
    }
}

static void eeprom_clock(struct e1000 *e, bool di)
{
    if (e->ee_reading) {
        if (!e->ee_out_bits) {
            e->ee_word = (e->ee_word + 1) & 0x3f;
            e->ee_out = e->eeprom[e->ee_word];
            e->ee_out_bits = 16;
        }
        e->ee_do = e->ee_out >> --e->ee_out_bits & 1;
        return;
    }
    if (e->ee_in_bits == 0 && !di) return; /* leading zeros */
    e->ee_in = e->ee_in << 1 | di;
    e->ee_in_bits++;
    if (e->ee_in_bits == 9) eeprom_instruction(e);
    if (e->ee_in_bits == 25) {
        if ((e->ee_in >> 22 & 3) == 1 && e->ee_writable) e->eeprom[e->ee_in >> 16 & 0x3f] = (u16)e->ee_in;
        eeprom_idle(e);
    }
}

u32 e1000_eecd_read(struct e1000 *e)
{
    u32 value = e1000_get(e, E1000_EECD) & (EECD_SK | EECD_CS | EECD_DI | EECD_FWE | EECD_REQ);
    if (value & EECD_REQ) value |= EECD_GNT;
    if (e->ee_do) value |= EECD_DO;
    return value | EECD_PRES;
}

void e1000_eecd_write(struct e1000 *e, u32 value)
{
    u32 old = e1000_get(e, E1000_EECD);
    *e1000_reg(e, E1000_EECD) = value;
    if (!(value & EECD_CS)) {
        eeprom_idle(e);
        return;
    }
    if (!(old & EECD_CS)) eeprom_idle(e);
    if ((value & EECD_SK) && !(old & EECD_SK)) eeprom_clock(e, value & EECD_DI);
}

void e1000_eerd_write(struct e1000 *e, u32 value)
{
    /* Done at once [8254x] 13.4.4. */
    u32 address = value >> 8 & 0xff;
    u32 data = address < ARRAY_LEN(e->eeprom) ? e->eeprom[address] : 0xffff;
    *e1000_reg(e, E1000_EERD) = value & EERD_START ? data << 16 | (value & 0xff00) | EERD_DONE : value & 0xff00;
}

/* ---- PHY ---- */

#define MDIC_READY 0x10000000u
#define MDIC_INT   0x20000000u
#define MDIC_ERROR 0x40000000u
#define PHY_ADDRESS 1

enum phy_register {
    PHY_CONTROL = 0,
    PHY_STATUS = 1,
    PHY_ID1 = 2,
    PHY_ID2 = 3,
    PHY_ADVERTISE = 4,
    PHY_PARTNER = 5,
    PHY_EXPANSION = 6,
    PHY_1000T_CONTROL = 9,
    PHY_1000T_STATUS = 10,
    PHY_EXT_STATUS = 15,
    PHY_M88_CONTROL = 16,
    PHY_M88_STATUS = 17,
    PHY_M88_INT_ENABLE = 18,
    PHY_M88_EXT_CONTROL = 20,
    PHY_M88_LED_CONTROL = 24,
};

#define CONTROL_RESET    0x8000
#define CONTROL_LOOPBACK 0x4000
#define CONTROL_AN       0x1000
#define CONTROL_DOWN     0x0800
#define CONTROL_RESTART  0x0200

#define PHY_STATUS_LINK 0x0004
#define PHY_STATUS_AN   0x0020

bool e1000_phy_loopback(const struct e1000 *e) { return e->phy[PHY_CONTROL] & CONTROL_LOOPBACK; }

/* The link as the PHY's registers and STATUS.LU show it. */
static void set_link(struct e1000 *e, bool up)
{
    bool negotiated = up && (e->phy[PHY_CONTROL] & CONTROL_AN);
    if (up) {
        e->phy[PHY_STATUS] |= PHY_STATUS_LINK;
        e->phy[PHY_M88_STATUS] = 0xac08 | 0x0400; /* 1000 Mb/s, full duplex, resolved, link, RX pause */
    } else {
        e->phy[PHY_STATUS] &= (u16)~PHY_STATUS_LINK;
        e->phy[PHY_M88_STATUS] = 0x8000;
    }
    if (negotiated) {
        e->phy[PHY_STATUS] |= PHY_STATUS_AN;
        e->phy[PHY_PARTNER] = 0xc5e1;      /* acknowledge, symmetric pause, all of 10 and 100 Mb/s */
        e->phy[PHY_EXPANSION] = 0x000f;    /* page received; the partner negotiates, with next pages */
        e->phy[PHY_1000T_STATUS] = 0x7c00; /* slave; both receivers fine; partner does 1000BASE-T */
    } else {
        e->phy[PHY_STATUS] &= (u16)~PHY_STATUS_AN;
        e->phy[PHY_PARTNER] = 0;
        e->phy[PHY_EXPANSION] = 0x0004;
        e->phy[PHY_1000T_STATUS] = 0;
    }
    if (e->link == up) return;
    e->link = up;
    e1000_cause(e, ICR_LSC);
}

void e1000_phy_negotiated(void *opaque)
{
    struct e1000 *e = opaque;
    set_link(e, netdev_link(e->net) || e1000_phy_loopback(e));
    if (e->link) netdev_flush(e->net);
}

/* The link goes down, and comes back after a while if there is a partner. */
static void renegotiate(struct e1000 *e)
{
    set_link(e, false);
    timer_arm(e->link_timer, clock_now(e->clock) + NEGOTIATION_NS);
}

void e1000_phy_link(struct e1000 *e)
{
    if (!netdev_link(e->net)) {
        timer_cancel(e->link_timer);
        set_link(e, false);
    } else if (!(e->phy[PHY_CONTROL] & CONTROL_DOWN)) {
        renegotiate(e);
    }
}

void e1000_phy_reset(struct e1000 *e)
{
    static const struct {
        u8 reg;
        u16 value;
    } defaults[] = {
        {PHY_CONTROL, 0x1140},   {PHY_STATUS, 0x7949},         {PHY_ID1, 0x0141},
        {PHY_ID2, 0x0c20},       {PHY_ADVERTISE, 0x01e1},      {PHY_1000T_CONTROL, 0x0e00},
        {PHY_EXT_STATUS, 0x3000}, {PHY_M88_CONTROL, 0x0360},   {PHY_M88_EXT_CONTROL, 0x0d60},
        {PHY_M88_LED_CONTROL, 0x4100},
    };
    memset(e->phy, 0, sizeof(e->phy));
    for (size_t i = 0; i < ARRAY_LEN(defaults); i++) e->phy[defaults[i].reg] = defaults[i].value;
    renegotiate(e);
}

static void control_write(struct e1000 *e, u16 value)
{
    u16 old = e->phy[PHY_CONTROL];
    e->phy[PHY_CONTROL] = value & (u16) ~(CONTROL_RESET | CONTROL_RESTART);
    if (value & CONTROL_DOWN) {
        timer_cancel(e->link_timer);
        set_link(e, false);
    } else if ((value & (CONTROL_RESET | CONTROL_RESTART)) ||
               ((old ^ value) & (CONTROL_DOWN | CONTROL_AN | CONTROL_LOOPBACK))) {
        renegotiate(e);
    }
}

static void phy_write(struct e1000 *e, unsigned reg, u16 value)
{
    switch (reg) {
    case PHY_CONTROL: control_write(e, value); break;
    case PHY_ADVERTISE:
    case 7: /* next page */
    case PHY_1000T_CONTROL:
    case PHY_M88_CONTROL:
    case PHY_M88_INT_ENABLE:
    case PHY_M88_EXT_CONTROL:
    case 22:
    case PHY_M88_LED_CONTROL:
    case 25:
    case 26:
    case 29: /* page and data of vendor registers that drivers set */
    case 30: e->phy[reg] = value; break;
    default: break; /* read-only or reserved */
    }
}

static u16 phy_read(struct e1000 *e, unsigned reg)
{
    u16 value = e->phy[reg];
    /* The status bit latches a lost link until it is read [802.3] 22.2.4.2.13; here the loss is over too soon to
     * be worth remembering. Page received is cleared by reading. */
    if (reg == PHY_EXPANSION) e->phy[reg] &= (u16)~0x0002;
    return value;
}

void e1000_mdic_write(struct e1000 *e, u32 value)
{
    unsigned reg = value >> 16 & 31, address = value >> 21 & 31, op = value >> 26 & 3;
    u32 result = value & ~(MDIC_READY | MDIC_ERROR);
    if (address != PHY_ADDRESS) {
        /* Nobody drives the wire: all ones, and an error [8254x] 13.4.7. */
        result |= MDIC_ERROR | 0xffff;
    } else if (op == 2) {
        result = (result & 0xffff0000u) | phy_read(e, reg);
    } else if (op == 1) {
        phy_write(e, reg, (u16)value);
    } else {
        log_printf(LOG_GUEST_ERROR, "e1000: MDIC: operation %u\n", op);
        result |= MDIC_ERROR;
    }
    *e1000_reg(e, E1000_MDIC) = result | MDIC_READY;
    if (value & MDIC_INT) e1000_cause(e, ICR_MDAC);
}

/* Speed in bits 7:6, and as detected in 9:8: 00b 10, 01b 100, 1xb 1000 Mb/s. */
u32 e1000_status(const struct e1000 *e)
{
    u32 ctrl = e1000_get(e, E1000_CTRL);
    u32 speed = ctrl & CTRL_FRCSPD ? ctrl >> 8 & 3 : 2;
    u32 status = e1000_get(e, E1000_STATUS);
    if (e->link) status |= STATUS_LU;
    if (!(ctrl & CTRL_FRCDPX) || (ctrl & CTRL_FD)) status |= STATUS_FD;
    return status | speed << 6 | 2u << 8;
}
