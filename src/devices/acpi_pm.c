/* The 82371AB (PIIX4) power management function, as far as ACPI uses it.
 *
 * Models the PM1a event and control registers, the 24-bit power management timer, a 16-bit general purpose
 * event block at a fixed port, the SMBus host controller (with nobody on its bus), the APM control and
 * status ports, and S5.
 *
 * Leaves out: system management mode. APMC_EN reads as set after reset, as if SMM had been set up already, so
 * that firmware does not try, and this device does by itself what an SMI handler would: writing the ACPI
 * enable and disable commands to port 0xb2 sets and clears SCI_EN. Also left out: device idle and trap
 * monitors (storable registers), clock throttling, sleep states other than S5, RTC wake-up.
 *
 * References: [PIIX4] Intel 82371AB (PIIX4) data sheet; [ACPI] ACPI specification 6.4, 4.8. */
#include "devices/acpi_pm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

/* Configuration space. */
#define PMBA      0x40 /* PM I/O base, 64 ports */
#define DEVACTB   0x58 /* device activity B; bit 25 APMC_EN: SMI on writes to 0xb2 */
#define PMREGMISC 0x80 /* bit 0 PMIOSE: decode PMBA */
#define SMBBA     0x90 /* SMBus I/O base, 16 ports */
#define SMBHSTCFG 0xd2 /* bit 0: SMBus host enabled */

/* PM I/O registers, offsets from PMBA. */
#define PMSTS   0x00
#define PMEN    0x02
#define PMCNTRL 0x04
#define PMTMR   0x08
#define PM_SIZE 0x40

#define STS_TIMER  0x0001 /* TMROF_STS: bit 23 of the timer changed */
#define STS_GLOBAL 0x0020
#define STS_POWER  0x0100 /* PWRBTN_STS */
#define STS_RTC    0x0400
#define STS_WAKE   0x8000
#define STS_EVENTS (STS_TIMER | STS_GLOBAL | STS_POWER | STS_RTC) /* those with an enable bit */

#define CNT_SCI_EN     0x0001
#define CNT_SLEEP_TYPE 0x1c00
#define CNT_SLEEP      0x2000                    /* SLP_EN: write-only */
#define CNT_STORED     (0x0002 | CNT_SLEEP_TYPE) /* BRLD_EN_BM and SLP_TYP; SCI_EN is read-only to software */

#define TIMER_HZ  3579545u
#define TIMER_TOP 0x800000u /* half of the 24-bit range */

/* SMBus host registers, offsets from SMBBA. */
#define SMBHSTSTS      0x0
#define SMBHSTCNT      0x2
#define SMBHSTDAT0     0x5
#define SMB_SIZE       0x10
#define SMBSTS_DEV_ERR 0x04
#define SMBSTS_CLEAR   0x1e /* bits cleared by writing one */
#define SMBCNT_START   0x40

struct acpi_pm {
    struct pci_device pci;     /* 00:01.3 */
    struct clock *clock;       /* drives the timer */
    struct timer *overflow;    /* next change of timer bit 23, armed while its event is enabled */
    struct irq_line sci;       /* system control interrupt */
    void (*power_off)(void *); /* S5 */
    void *opaque;              /* for power_off */
    void (*moved)(void *, u16); /* acpi_pm_on_move() */
    void *moved_opaque;        /* for moved */
    struct region *pm_region;  /* PMBA */
    struct region *smb_region; /* SMBBA */
    struct region *gpe_region; /* general purpose events */
    struct region *apm_region; /* 0xb2, 0xb3 */
    u16 status;                /* PMSTS */
    u16 enable;                /* PMEN */
    u16 control;               /* PMCNTRL */
    u64 overflow_tick;         /* timer tick of the next bit 23 change not yet in status */
    u16 gpe_status;            /* GPE0_STS */
    u16 gpe_enable;            /* GPE0_EN */
    u8 apmc, apms;             /* ports 0xb2, 0xb3 */
    u8 smb[SMB_SIZE];          /* SMBus host registers */
};

/* ---- events ---- */

static u64 ticks(const struct acpi_pm *p) { return muldiv64(clock_now(p->clock), TIMER_HZ, NS_PER_SECOND); }

static void update(struct acpi_pm *p)
{
    u64 now = ticks(p);
    if (now >= p->overflow_tick) {
        p->status |= STS_TIMER;
        p->overflow_tick = (now | (TIMER_TOP - 1)) + 1;
    }
    bool pending = (p->status & p->enable & STS_EVENTS) || (p->gpe_status & p->gpe_enable);
    /* With SCI_EN clear events raise SMI# instead [ACPI], and there is none. */
    irq_set(&p->sci, pending && (p->control & CNT_SCI_EN));

    if ((p->enable & STS_TIMER) && !(p->status & STS_TIMER))
        timer_arm(p->overflow, muldiv64(p->overflow_tick, NS_PER_SECOND, TIMER_HZ) + 1);
    else
        timer_cancel(p->overflow);
}

static void overflow_fired(void *opaque) { update(opaque); }

bool acpi_pm_power_button(struct acpi_pm *p)
{
    p->status |= STS_POWER;
    update(p);
    return (p->control & CNT_SCI_EN) && (p->enable & STS_POWER);
}

void acpi_pm_gpe(struct acpi_pm *p, int n)
{
    p->gpe_status |= (u16)(1u << n);
    update(p);
}

/* ---- registers: 16 bits wide, reached by any access size ---- */

static u16 pm_word(struct acpi_pm *p, unsigned reg)
{
    switch (reg) {
    case PMSTS: return p->status;
    case PMEN: return p->enable;
    case PMCNTRL: return p->control;
    case PMTMR: return (u16)ticks(p);
    case PMTMR + 2: return ticks(p) >> 16 & 0xff;
    default: return 0;
    }
}

static void enter_sleep(struct acpi_pm *p)
{
    unsigned type = (p->control & CNT_SLEEP_TYPE) >> 10;

    if (type == ACPI_PM_SLEEP_TYPE_S5) {
        if (p->power_off) p->power_off(p->opaque);
        return;
    }
    /* The tables offer no other state. Hardware that cannot sleep would go on, and so does this. */
    log_printf(LOG_UNIMP, "acpi_pm: sleep type %u\n", type);
}

/* mask: the bits that the access reaches. */
static void pm_set_word(struct acpi_pm *p, unsigned reg, u16 value, u16 mask)
{
    switch (reg) {
    case PMSTS: p->status &= (u16) ~(value & mask & (STS_EVENTS | STS_WAKE)); break;
    case PMEN: p->enable = (u16)((p->enable & ~mask) | (value & mask & STS_EVENTS)); break;
    case PMCNTRL:
        mask &= CNT_STORED | CNT_SLEEP;
        p->control = (u16)((p->control & ~mask) | (value & mask & CNT_STORED));
        if (value & mask & CNT_SLEEP) enter_sleep(p);
        break;
    default: log_printf(LOG_UNIMP, "acpi_pm: write to register 0x%02x\n", reg); break;
    }
}

static u64 pm_read(void *opaque, u64 offset, unsigned size)
{
    struct acpi_pm *p = opaque;
    u64 value = 0;

    /* Guests read the timer all the time; one look at the clock, so that its bytes belong together. */
    if (offset == PMTMR && size == 4) return ticks(p) & 0xffffff;
    update(p); /* the timer's status bit appears without an event having to be enabled */
    for (unsigned i = 0; i < size; i++) {
        unsigned o = (unsigned)offset + i;
        value |= (u64)(pm_word(p, o & ~1u) >> (o & 1) * 8 & 0xff) << i * 8;
    }
    return value;
}

static void pm_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct acpi_pm *p = opaque;
    unsigned end = (unsigned)offset + size;

    update(p);
    for (unsigned o = (unsigned)offset; o < end; o = (o & ~1u) + 2) {
        unsigned shift = (o - (unsigned)offset) * 8;
        bool odd = o & 1;
        bool whole = !odd && o + 1 < end;
        u16 part = (u16)(value >> shift);
        if (whole)
            pm_set_word(p, o, part, 0xffff);
        else
            pm_set_word(p, o & ~1u, odd ? (u16)(part << 8) : part & 0xff, odd ? 0xff00 : 0x00ff);
    }
    update(p);
}

static u64 gpe_read(void *opaque, u64 offset, unsigned size)
{
    struct acpi_pm *p = opaque;
    u32 all = p->gpe_status | (u32)p->gpe_enable << 16;
    (void)size;
    return all >> offset * 8 & 0xff;
}

static void gpe_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct acpi_pm *p = opaque;
    unsigned shift = offset % 2 * 8;
    (void)size;
    if (offset < 2)
        p->gpe_status &= (u16) ~(value << shift);
    else
        p->gpe_enable = (u16)((p->gpe_enable & ~(0xffu << shift)) | value << shift);
    update(p);
}

static u64 apm_read(void *opaque, u64 offset, unsigned size)
{
    struct acpi_pm *p = opaque;
    (void)size;
    return offset ? p->apms : p->apmc;
}

static void apm_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct acpi_pm *p = opaque;
    (void)size;
    if (offset) {
        p->apms = (u8)value;
        return;
    }
    p->apmc = (u8)value;
    if (value == ACPI_PM_ENABLE) p->control |= CNT_SCI_EN;
    if (value == ACPI_PM_DISABLE) p->control &= (u16)~CNT_SCI_EN;
    update(p);
}

static u64 smb_read(void *opaque, u64 offset, unsigned size)
{
    struct acpi_pm *p = opaque;
    (void)size;
    return p->smb[offset];
}

static void smb_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct acpi_pm *p = opaque;
    (void)size;
    switch (offset) {
    case SMBHSTSTS: p->smb[SMBHSTSTS] &= (u8) ~(value & SMBSTS_CLEAR); break;
    case SMBHSTCNT:
        p->smb[SMBHSTCNT] = (u8)value & (u8)~SMBCNT_START;
        /* No device answers any address: the transaction ends at once, not acknowledged. */
        if (value & SMBCNT_START) {
            p->smb[SMBHSTSTS] |= SMBSTS_DEV_ERR;
            p->smb[SMBHSTDAT0] = 0xff;
        }
        break;
    default: p->smb[offset] = (u8)value; break;
    }
}

static const struct region_ops pm_ops = {.read = pm_read, .write = pm_write, .min_size = 1, .max_size = 4};
static const struct region_ops gpe_ops = {.read = gpe_read, .write = gpe_write, .min_size = 1, .max_size = 1};
static const struct region_ops apm_ops = {.read = apm_read, .write = apm_write, .min_size = 1, .max_size = 1};
static const struct region_ops smb_ops = {.read = smb_read, .write = smb_write, .min_size = 1, .max_size = 1};

/* ---- the PCI function ---- */

static void place(struct region *r, bool decoded, u32 base)
{
    if (decoded && base) region_set_base(r, base);
    region_set_enabled(r, decoded && base);
}

static void update_ports(struct acpi_pm *p)
{
    const u8 *c = p->pci.config;
    struct bus *ports = pci_bus_ports(p->pci.bus);
    u16 base = (u16)(pci_get32(c + PMBA) & 0xffc0);

    bus_begin_update(ports);
    place(p->pm_region, c[PMREGMISC] & 1, base);
    place(p->smb_region, c[SMBHSTCFG] & 1, pci_get32(c + SMBBA) & 0xfff0);
    bus_end_update(ports);
    if (p->moved && region_enabled(p->pm_region)) p->moved(p->moved_opaque, base);
}

static void config_written(struct pci_device *d, unsigned offset, unsigned size, const u8 *old)
{
    (void)offset;
    (void)size;
    if (memcmp(old + PMBA, d->config + PMBA, 4) || old[PMREGMISC] != d->config[PMREGMISC] ||
        memcmp(old + SMBBA, d->config + SMBBA, 4) || old[SMBHSTCFG] != d->config[SMBHSTCFG])
        update_ports((struct acpi_pm *)d);
}

static void acpi_pm_reset(struct device *d)
{
    struct acpi_pm *p = (struct acpi_pm *)d;
    u8 *c = p->pci.config;

    pci_device_reset(&p->pci);
    memset(c + PCI_HEADER_SIZE, 0, sizeof p->pci.config - PCI_HEADER_SIZE);
    pci_put16(c + PCI_STATUS, 0x0280); /* medium DEVSEL#, fast back-to-back */
    c[PMBA] = 1;                       /* bit 0: I/O space */
    c[SMBBA] = 1;
    pci_put32(c + DEVACTB, 1u << 25); /* APMC_EN: see the top comment */

    p->status = p->enable = p->control = 0;
    p->gpe_status = p->gpe_enable = 0;
    p->apmc = p->apms = 0;
    memset(p->smb, 0, sizeof p->smb);
    p->overflow_tick = (ticks(p) | (TIMER_TOP - 1)) + 1;
    update_ports(p);
    update(p);
}

static void acpi_pm_destroy(struct device *d)
{
    struct acpi_pm *p = (struct acpi_pm *)d;

    timer_destroy(p->overflow);
    region_remove(p->pm_region);
    region_remove(p->smb_region);
    region_remove(p->gpe_region);
    region_remove(p->apm_region);
    pci_device_destroy(&p->pci);
    free(p);
}

static const struct device_class acpi_pm_class = {
    .name = "acpi_pm",
    .reset = acpi_pm_reset,
    .destroy = acpi_pm_destroy,
};

static const struct pci_info acpi_pm_info = {
    .vendor = 0x8086,
    .device = 0x7113,
    .revision = 3, /* older ones have the timer read errata that drivers work around */
    .class_code = 0x068000,
    .interrupt_pin = 1,
    .config_written = config_written,
};

struct acpi_pm *acpi_pm_create(struct pci_bus *pci, int devfn, struct irq_line sci, struct clock *clock,
                               void (*power_off)(void *opaque), void *opaque)
{
    struct bus *ports = pci_bus_ports(pci);
    struct acpi_pm *p = calloc(1, sizeof *p);

    if (!p) {
        fprintf(stderr, "calque: acpi_pm: out of memory\n");
        return NULL;
    }
    if (pci_device_init(&p->pci, pci, devfn, &acpi_pm_info, &acpi_pm_class) < 0) {
        free(p);
        return NULL;
    }
    p->clock = clock;
    p->sci = sci;
    p->power_off = power_off;
    p->opaque = opaque;
    p->overflow = timer_create_on(clock, overflow_fired, p);

    u8 *w = p->pci.wmask;
    pci_put16(w + PCI_COMMAND, PCI_COMMAND_IO);
    memset(w + PCI_HEADER_SIZE, 0xff, sizeof p->pci.wmask - PCI_HEADER_SIZE);
    pci_put32(w + PMBA, 0xffc0);
    pci_put32(w + SMBBA, 0xfff0);

    bus_begin_update(ports);
    p->pm_region = bus_add(ports, "acpi-pm", 0, PM_SIZE, 0, &pm_ops, p);
    p->smb_region = bus_add(ports, "smbus", 0, SMB_SIZE, 0, &smb_ops, p);
    p->gpe_region = bus_add(ports, "acpi-gpe", ACPI_PM_GPE_BASE, ACPI_PM_GPE_LENGTH, 0, &gpe_ops, p);
    p->apm_region = bus_add(ports, "apm", ACPI_PM_SMI_COMMAND, 2, 0, &apm_ops, p);
    acpi_pm_reset(&p->pci.dev);
    bus_end_update(ports);
    return p;
}

struct device *acpi_pm_device(struct acpi_pm *p) { return &p->pci.dev; }

void acpi_pm_on_move(struct acpi_pm *p, void (*moved)(void *opaque, u16 base), void *opaque)
{
    p->moved = moved;
    p->moved_opaque = opaque;
}
