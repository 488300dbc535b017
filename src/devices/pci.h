/* The PCI bus: configuration space, base address registers, INTx wires, capabilities.
 *
 * A PCI device embeds struct pci_device as the FIRST member of its private struct, so that the same pointer
 * is its struct device too:
 *
 *     struct nic { struct pci_device pci; ... };
 *     pci_device_init(&nic->pci, pci, -1, &nic_info, &nic_class);
 *     nic->mmio = pci_add_bar(&nic->pci, 0, PCI_BAR_MEM32, 0x20000, &nic_ops, nic);
 *     ...
 *     static void nic_reset(struct device *d) { pci_device_reset((struct pci_device *) d); ... }
 *     static void nic_destroy(struct device *d) { pci_device_destroy((struct pci_device *) d); free(d); }
 */
#ifndef DEVICES_PCI_H
#define DEVICES_PCI_H

#include "core/bus.h"
#include "core/device.h"
#include "core/types.h"

/* Offsets in the type 0 header [PCI3] 6.1. */
enum pci_config_offset {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_PROG_IF = 0x09,
    PCI_SUBCLASS = 0x0a,
    PCI_CLASS = 0x0b,
    PCI_CACHE_LINE = 0x0c,
    PCI_LATENCY = 0x0d,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM_ID = 0x2e,
    PCI_ROM_BAR = 0x30,
    PCI_CAP_POINTER = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
    PCI_HEADER_SIZE = 0x40,
};

#define PCI_COMMAND_IO       0x0001
#define PCI_COMMAND_MEMORY   0x0002
#define PCI_COMMAND_MASTER   0x0004
#define PCI_COMMAND_INTX_OFF 0x0400
#define PCI_STATUS_INTX      0x0008
#define PCI_STATUS_CAP_LIST  0x0010

#define PCI_DEVFN(slot, function)   ((slot) << 3 | (function))
#define PCI_SUBSYSTEM_VENDOR_CALQUE 0x1af4 /* what guests' quirk tables expect on this board */
#define PCI_SUBSYSTEM_ID_CALQUE     0x1100

/* BARs sit below everything else on the bus: DRAM, ROM and the APICs win where a BAR being sized or badly
 * placed covers them, as the host bridge decodes those first. */
#define PCI_BAR_PRIORITY (-1)

/* Kinds of BAR, as in its low bits [PCI3] 6.2.5.1. */
#define PCI_BAR_MEM32    0x0
#define PCI_BAR_IO       0x1
#define PCI_BAR_MEM64    0x4 /* takes the next index too */
#define PCI_BAR_PREFETCH 0x8 /* with MEM32 or MEM64 */

#define PCI_ROM_INDEX 6 /* struct pci_device's bar[] entry of the expansion ROM */

struct pci_bus;
struct pci_device;

/* What is fixed about a function. */
struct pci_info {
    u16 vendor;           /* vendor ID */
    u16 device;           /* device ID */
    u8 revision;          /* revision ID */
    u32 class_code;       /* class << 16 | subclass << 8 | programming interface */
    u16 subsystem_vendor; /* subsystem vendor ID; 0: the usual 1af4:1100 */
    u16 subsystem_id;     /* subsystem ID */
    u8 interrupt_pin;     /* 0: none, 1..4: INTA#..INTD# */
    bool multifunction;   /* header type bit 7; set on function 0 of a device with others */
    bool no_subsystem;    /* subsystem IDs read as zero */
    /* Called after the guest wrote [offset, offset + size) of configuration space and masks, BARs and
     * capabilities were taken care of; old is the whole space as it was. May be NULL. */
    void (*config_written)(struct pci_device *d, unsigned offset, unsigned size, const u8 *old);
    /* Called before the guest reads [offset, offset + size) of it. May be NULL. */
    void (*config_reading)(struct pci_device *d, unsigned offset, unsigned size);
};

struct pci_bar {
    struct region *region; /* NULL: no such BAR */
    u64 size;              /* bytes, a power of two */
    u8 flags;              /* PCI_BAR_* */
};

struct pci_device {
    struct device dev;           /* class ops; must stay first */
    struct pci_bus *bus;         /* where it is plugged in */
    const struct pci_info *info; /* identity; not copied */
    int devfn;                   /* slot << 3 | function */
    u8 config[256];              /* configuration space as read */
    u8 wmask[256];               /* bits the guest may write */
    u8 w1cmask[256];             /* bits the guest clears by writing one */
    struct pci_bar bar[7];       /* six BARs and the expansion ROM */
    bool irq_level;              /* what the device drives on its INTx pin */
    bool irq_on_bus;             /* what reaches the bus (INTx may be disabled in COMMAND) */
    u16 cap_end;                 /* where the next capability may start */
    u8 msi_cap;                  /* offset of the MSI capability, 0: none (pci_msi.c) */
    u8 msix_cap;                 /* offset of the MSI-X capability, 0: none (pci_msi.c) */
    struct pci_msix *msix;       /* MSI-X table and pending bits, NULL: none (pci_msi.c) */
};

/* ---- the bus ---- */

/* Claims ports 0xcf8-0xcff (configuration mechanism #1). NULL when out of memory. */
struct pci_bus *pci_bus_create(struct bus *memory, struct bus *ports);
/* Its devices must be gone. */
void pci_bus_destroy(struct pci_bus *b);
struct bus *pci_bus_memory(struct pci_bus *b);
struct bus *pci_bus_ports(struct pci_bus *b);
/* Where the four interrupt wires PIRQA#..PIRQD# (0..3) go: levels, already wired-OR. */
void pci_bus_set_pirq_handler(struct pci_bus *b, void (*set)(void *opaque, int pirq, int level),
                              void *opaque);
/* Where message signalled interrupts go. Without one they are plain memory writes. */
void pci_bus_set_msi_handler(struct pci_bus *b, void (*msi)(void *opaque, u64 address, u32 data),
                             void *opaque);
/* Byte accesses to port 0xcf9 belong to the south bridge's reset control register. */
void pci_bus_set_reset_control(struct pci_bus *b, u8 (*read)(void *opaque),
                               void (*write)(void *opaque, u8 value), void *opaque);
/* To the state after a bus reset: the configuration address register. Devices are reset on their own. */
void pci_bus_reset(struct pci_bus *b);
/* NULL: nothing there. */
struct pci_device *pci_bus_device(struct pci_bus *b, int devfn);
/* Configuration cycles as the CPU makes them (size 1, 2 or 4, inside one dword). Nobody there: all ones. */
u32 pci_bus_config_read(struct pci_bus *b, int devfn, unsigned offset, unsigned size);
void pci_bus_config_write(struct pci_bus *b, int devfn, unsigned offset, u32 value, unsigned size);
/* PIRQ (0..3) that pin (1..4) of devfn is wired to: this board rotates them by slot. */
int pci_pirq_of(int devfn, int pin);

/* ---- a device ---- */

/* Fill in *d (zeroed by the caller) and plug it in; devfn -1: function 0 of the first free slot from 2 on.
 * 0, or -EBUSY / -ENOSPC with a message. */
int pci_device_init(struct pci_device *d, struct pci_bus *bus, int devfn, const struct pci_info *info,
                    const struct device_class *cls);
/* Unplug: removes the BAR regions. Does not free d. */
void pci_device_destroy(struct pci_device *d);
/* The header to its state after reset: decoding off, BARs zero, INTx released, MSI off. */
void pci_device_reset(struct pci_device *d);

/* Add a BAR backed by callbacks or by guest memory; the region follows the guest's settings and must not be
 * moved or removed by the device. size: a power of two, at least 4 (I/O) or 16 (memory). */
struct region *pci_add_bar(struct pci_device *d, int index, u8 flags, u64 size, const char *name,
                           const struct region_ops *ops, void *opaque);
struct region *pci_add_bar_ram(struct pci_device *d, int index, u8 flags, u64 size, const char *name,
                               struct ram *ram, u64 ram_offset);
/* Expansion ROM with a copy of image, made out to this device; its BAR size is rounded up to a power of two. */
void pci_add_rom(struct pci_device *d, const char *name, struct ram *ram, const void *image, size_t size);
/* Is the BAR decoded now, and where? */
bool pci_bar_address(const struct pci_device *d, int index, u64 *address);

/* Link a capability of size bytes (ID and next pointer included) in front of the list. offset 0: the next
 * free place from 0x40 up. Everything in it is zero and read-only but the two header bytes. Its offset. */
u8 pci_add_capability(struct pci_device *d, u8 id, u8 offset, u8 size);

/* Drive the INTx pin. */
void pci_set_irq(struct pci_device *d, int level);

/* Bus mastering. False, and nothing done, while COMMAND.MASTER is clear. */
bool pci_dma_read(struct pci_device *d, gpa address, void *buf, u64 size);
bool pci_dma_write(struct pci_device *d, gpa address, const void *buf, u64 size);

/* Little-endian fields of configuration space. */
static inline u16 pci_get16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static inline u32 pci_get32(const u8 *p) { return pci_get16(p) | (u32)pci_get16(p + 2) << 16; }
static inline void pci_put16(u8 *p, u16 v)
{
    p[0] = (u8)v;
    p[1] = (u8)(v >> 8);
}
static inline void pci_put32(u8 *p, u32 v)
{
    pci_put16(p, (u16)v);
    pci_put16(p + 2, (u16)(v >> 16));
}

#endif
