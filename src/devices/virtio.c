/* Virtio over PCI: identification, the legacy registers in an I/O BAR, the modern ones in a memory BAR, interrupts.
 *
 * A device is transitional unless the user wants only one interface: drivers of both ages find theirs. Modern
 * registers are in BAR 4: common configuration, ISR, device configuration, notifications, a page each; legacy
 * ones in BAR 0; the MSI-X table in BAR 1, with a vector for each queue and one for configuration changes.
 *
 * Leaves out: VIRTIO_F_ACCESS_PLATFORM (there is no IOMMU), VIRTIO_F_NOTIFICATION_DATA, resets of single queues.
 *
 * References: [VIRTIO] Virtual I/O Device (VIRTIO) Version 1.1, sections 2 and 4.1. */
#include "devices/virtio.h"

#include <string.h>

#include "core/log.h"
#include "devices/pci_msi.h"

#define VENDOR 0x1af4

/* Device status [VIRTIO] 2.1. */
#define STATUS_DRIVER_OK   4u
#define STATUS_FEATURES_OK 8u
#define STATUS_NEEDS_RESET 64u

#define ISR_QUEUE  1u
#define ISR_CONFIG 2u
#define NO_VECTOR  0xffffu

/* Modern registers, offsets in BAR 4. */
#define MODERN_BAR  4
#define AREA        0x1000u
#define AREA_COMMON 0u
#define AREA_ISR    1u
#define AREA_CONFIG 2u
#define AREA_NOTIFY 3u

/* The common configuration [VIRTIO] 4.1.4.3. */
enum {
    COMMON_OFFERED_SELECT = 0,
    COMMON_OFFERED = 4,
    COMMON_FEATURES_SELECT = 8,
    COMMON_FEATURES = 12,
    COMMON_VECTOR = 16,
    COMMON_QUEUES = 18,
    COMMON_STATUS = 20,
    COMMON_GENERATION = 21,
    COMMON_QUEUE_SELECT = 22,
    COMMON_QUEUE_SIZE = 24,
    COMMON_QUEUE_VECTOR = 26,
    COMMON_QUEUE_ENABLE = 28,
    COMMON_QUEUE_NOTIFY = 30,
    COMMON_QUEUE_DESC = 32,
    COMMON_QUEUE_AVAIL = 40,
    COMMON_QUEUE_USED = 48,
    COMMON_END = 56,
};

/* The legacy registers [VIRTIO] 4.1.4.8. Those for MSI-X are only there while it is on. */
enum {
    LEGACY_OFFERED = 0,
    LEGACY_FEATURES = 4,
    LEGACY_QUEUE_PFN = 8,
    LEGACY_QUEUE_SIZE = 12,
    LEGACY_QUEUE_SELECT = 14,
    LEGACY_NOTIFY = 16,
    LEGACY_STATUS = 18,
    LEGACY_ISR = 19,
    LEGACY_VECTOR = 20,
    LEGACY_QUEUE_VECTOR = 22,
    LEGACY_CONFIG = 20,
    LEGACY_CONFIG_MSIX = 24,
};

/* Vendor capabilities [VIRTIO] 4.1.4. */
#define CAP_SIZE       16
#define CAP_WINDOW     5
#define WINDOW_BAR     4
#define WINDOW_OFFSET  8
#define WINDOW_LENGTH  12
#define WINDOW_DATA    16

/* ---- interrupts ---- */

static void raise(struct virtio *v, u16 vector, u8 cause)
{
    if (pci_msix_enabled(&v->pci)) {
        if (vector != NO_VECTOR) pci_msix_notify(&v->pci, vector);
        return;
    }
    v->isr |= cause;
    pci_set_irq(&v->pci, 1);
}

static u8 take_isr(struct virtio *v)
{
    u8 isr = v->isr;
    v->isr = 0;
    pci_set_irq(&v->pci, 0);
    return isr;
}

void virtio_config_changed(struct virtio *v)
{
    v->generation++;
    if (v->status & STATUS_DRIVER_OK) raise(v, v->config_vector, ISR_CONFIG);
}

void virtio_push(struct virtio *v, unsigned queue, u16 head, u32 written)
{
    virtqueue_fill(&v->queues[queue], 0, head, written);
    virtqueue_flush(&v->queues[queue], 1);
}

void virtio_signal(struct virtio *v, unsigned queue)
{
    if (virtqueue_wants_interrupt(&v->queues[queue])) raise(v, v->queues[queue].vector, ISR_QUEUE);
}

/* ---- state ---- */

static bool is_modern(const struct virtio *v) { return virtio_has(v, VIRTIO_VERSION_1); }

bool virtio_running(const struct virtio *v)
{
    /* Legacy drivers may use a device before they say that they are ready. */
    return (v->status & STATUS_DRIVER_OK || (v->status && !is_modern(v))) && !(v->status & STATUS_NEEDS_RESET);
}

void virtio_fail(struct virtio *v, const char *why)
{
    log_printf(LOG_GUEST_ERROR, "%s: %s\n", v->pci.dev.cls->name, why);
    if (v->status & STATUS_NEEDS_RESET) return;
    v->status |= STATUS_NEEDS_RESET;
    for (unsigned i = 0; i < v->queue_count; i++) v->queues[i].dead = true;
    if (is_modern(v)) virtio_config_changed(v);
}

static void queue_failed(struct virtqueue *q, const char *why)
{
    virtio_fail(container_of(q - q->index, struct virtio, queues[0]), why);
}

static void reset_state(struct virtio *v)
{
    v->features = 0;
    v->offered_select = v->features_select = 0;
    v->queue_select = 0;
    v->config_vector = NO_VECTOR;
    v->status = 0;
    take_isr(v);
    for (unsigned i = 0; i < v->queue_count; i++) {
        virtqueue_reset(&v->queues[i]);
        v->queues[i].event_index = false;
    }
    v->ops->reset(v);
}

static void set_features(struct virtio *v, u64 features)
{
    if (v->status & STATUS_FEATURES_OK) return; /* too late */
    v->features = features;
    for (unsigned i = 0; i < v->queue_count; i++) v->queues[i].event_index = features & VIRTIO_EVENT_IDX;
}

static void set_status(struct virtio *v, u8 status)
{
    if (!status) {
        reset_state(v);
        return;
    }
    /* The device refuses features by not keeping the bit [VIRTIO] 3.1.1. */
    if ((status & STATUS_FEATURES_OK) && ((v->features & ~v->offered) || !is_modern(v))) {
        log_printf(LOG_GUEST_ERROR, "%s: features %#llx are not possible\n", v->pci.dev.cls->name,
                   (unsigned long long)v->features);
        status &= (u8)~STATUS_FEATURES_OK;
    }
    bool starts = status & ~v->status & STATUS_DRIVER_OK;
    v->status = (u8)(status | (v->status & STATUS_NEEDS_RESET));
    if (starts && v->ops->started) v->ops->started(v);
}

static void notify(struct virtio *v, unsigned queue)
{
    if (queue >= v->queue_count || !virtio_running(v) || !v->queues[queue].ready) return;
    if (!(v->pci.config[PCI_COMMAND] & PCI_COMMAND_MASTER)) {
        log_printf(LOG_GUEST_ERROR, "%s: used with bus mastering off\n", v->pci.dev.cls->name);
        return;
    }
    v->ops->notify(v, queue);
}

/* The selected queue; NULL: there is no such. */
static struct virtqueue *selected(struct virtio *v)
{
    return v->queue_select < v->queue_count ? &v->queues[v->queue_select] : NULL;
}

/* A vector that does not exist cannot be set [VIRTIO] 4.1.5.1.2. */
static u16 valid_vector(const struct virtio *v, u64 vector)
{
    return vector <= v->queue_count ? (u16)vector : NO_VECTOR;
}

static u64 config_read(const struct virtio *v, u64 offset, unsigned size)
{
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        if (offset + i < v->config_size) value |= (u64)v->config[offset + i] << (8 * i);
    return value;
}

static void config_write(struct virtio *v, u64 offset, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size && v->ops->config_written; i++)
        if (offset + i < v->config_size) v->ops->config_written(v, (unsigned)(offset + i), (u8)(value >> (8 * i)));
}

/* ---- modern registers ---- */

static u64 common_read(struct virtio *v, u64 offset, unsigned size)
{
    const struct virtqueue *q = selected(v);
    u8 page[COMMON_END + 8] = {0};
    pci_put32(page + COMMON_OFFERED_SELECT, v->offered_select);
    if (v->offered_select < 2) pci_put32(page + COMMON_OFFERED, (u32)(v->offered >> (32 * v->offered_select)));
    pci_put32(page + COMMON_FEATURES_SELECT, v->features_select);
    if (v->features_select < 2) pci_put32(page + COMMON_FEATURES, (u32)(v->features >> (32 * v->features_select)));
    pci_put16(page + COMMON_VECTOR, v->config_vector);
    pci_put16(page + COMMON_QUEUES, (u16)v->queue_count);
    page[COMMON_STATUS] = v->status;
    page[COMMON_GENERATION] = v->generation;
    pci_put16(page + COMMON_QUEUE_SELECT, v->queue_select);
    pci_put16(page + COMMON_QUEUE_VECTOR, NO_VECTOR);
    if (q) {
        pci_put16(page + COMMON_QUEUE_SIZE, q->size);
        pci_put16(page + COMMON_QUEUE_VECTOR, q->vector);
        pci_put16(page + COMMON_QUEUE_ENABLE, q->ready);
        pci_put16(page + COMMON_QUEUE_NOTIFY, v->queue_select);
        virtio_put64(page + COMMON_QUEUE_DESC, q->desc);
        virtio_put64(page + COMMON_QUEUE_AVAIL, q->avail);
        virtio_put64(page + COMMON_QUEUE_USED, q->used);
    }
    return offset < COMMON_END ? virtio_get64(page + offset) & ~0ull >> (64 - 8 * size) : 0;
}

/* Half of a 64 bit address. */
static void put_half(u64 *address, u64 offset, u64 value)
{
    unsigned shift = offset & 4 ? 32 : 0;
    *address = (*address & ~(0xffffffffull << shift)) | value << shift;
}

static void queue_write(struct virtio *v, struct virtqueue *q, u64 offset, u64 value)
{
    if (offset == COMMON_QUEUE_VECTOR) {
        q->vector = valid_vector(v, value);
        return;
    }
    if (q->ready) return; /* the rest must not change any more */
    switch (offset) {
    case COMMON_QUEUE_SIZE:
        if (value && value <= q->max && !(value & (value - 1)))
            q->size = (u16)value;
        else
            log_printf(LOG_GUEST_ERROR, "%s: a queue of %u entries\n", v->pci.dev.cls->name, (unsigned)value);
        break;
    case COMMON_QUEUE_ENABLE: q->ready = value == 1; break;
    case COMMON_QUEUE_DESC:
    case COMMON_QUEUE_DESC + 4: put_half(&q->desc, offset, value); break;
    case COMMON_QUEUE_AVAIL:
    case COMMON_QUEUE_AVAIL + 4: put_half(&q->avail, offset, value); break;
    case COMMON_QUEUE_USED:
    case COMMON_QUEUE_USED + 4: put_half(&q->used, offset, value); break;
    default: break;
    }
}

static void common_write(struct virtio *v, u64 offset, u64 value)
{
    switch (offset) {
    case COMMON_OFFERED_SELECT: v->offered_select = (u32)value; break;
    case COMMON_FEATURES_SELECT: v->features_select = (u32)value; break;
    case COMMON_FEATURES:
        if (v->features_select < 2) {
            u64 features = v->features;
            put_half(&features, 4 * v->features_select, value);
            set_features(v, features);
        }
        break;
    case COMMON_VECTOR: v->config_vector = valid_vector(v, value); break;
    case COMMON_STATUS: set_status(v, (u8)value); break;
    case COMMON_QUEUE_SELECT: v->queue_select = (u16)value; break;
    default:
        if (selected(v)) queue_write(v, selected(v), offset, value);
        break;
    }
}

static u64 modern_read(void *opaque, u64 offset, unsigned size)
{
    struct virtio *v = opaque;
    switch (offset / AREA) {
    case AREA_COMMON: return common_read(v, offset, size);
    case AREA_ISR: return offset % AREA ? 0 : take_isr(v);
    case AREA_CONFIG: return config_read(v, offset % AREA, size);
    default: return 0;
    }
}

static void modern_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct virtio *v = opaque;
    switch (offset / AREA) {
    case AREA_COMMON: common_write(v, offset, value); break;
    case AREA_CONFIG: config_write(v, offset % AREA, value, size); break;
    case AREA_NOTIFY: notify(v, (unsigned)(offset % AREA / 4)); break;
    default: break;
    }
}

static const struct region_ops modern_ops = {.read = modern_read, .write = modern_write, .min_size = 1, .max_size = 4};

/* ---- legacy registers ---- */

static unsigned legacy_config(const struct virtio *v)
{
    return pci_msix_enabled(&v->pci) ? LEGACY_CONFIG_MSIX : LEGACY_CONFIG;
}

static u64 legacy_read(void *opaque, u64 offset, unsigned size)
{
    struct virtio *v = opaque;
    const struct virtqueue *q = selected(v);
    if (offset >= legacy_config(v)) return config_read(v, offset - legacy_config(v), size);
    switch (offset) {
    case LEGACY_OFFERED: return (u32)v->offered;
    case LEGACY_FEATURES: return (u32)v->features;
    case LEGACY_QUEUE_PFN: return q && q->ready ? q->desc >> GUEST_PAGE_SHIFT : 0;
    case LEGACY_QUEUE_SIZE: return q ? q->max : 0;
    case LEGACY_QUEUE_SELECT: return v->queue_select;
    case LEGACY_STATUS: return v->status;
    case LEGACY_ISR: return take_isr(v);
    case LEGACY_VECTOR: return v->config_vector;
    case LEGACY_QUEUE_VECTOR: return q ? q->vector : NO_VECTOR;
    default: return 0;
    }
}

/* The queue's parts follow each other from this page on [VIRTIO] 2.6.2. Page 0: it is not used any more. */
static void set_pfn(struct virtqueue *q, u32 pfn)
{
    u16 vector = q->vector;
    virtqueue_reset(q);
    q->vector = vector;
    q->ready = pfn != 0;
    q->desc = (u64)pfn << GUEST_PAGE_SHIFT;
    q->avail = q->desc + 16ull * q->size;
    q->used = (q->avail + 6 + 2ull * q->size + GUEST_PAGE_MASK) & ~GUEST_PAGE_MASK;
}

static void legacy_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct virtio *v = opaque;
    struct virtqueue *q = selected(v);
    if (offset >= legacy_config(v)) {
        config_write(v, offset - legacy_config(v), value, size);
        return;
    }
    switch (offset) {
    case LEGACY_FEATURES: set_features(v, value & v->offered & UINT32_MAX); break;
    case LEGACY_QUEUE_PFN:
        if (q) set_pfn(q, (u32)value);
        break;
    case LEGACY_QUEUE_SELECT: v->queue_select = (u16)value; break;
    case LEGACY_NOTIFY: notify(v, (u16)value); break;
    case LEGACY_STATUS: set_status(v, (u8)value & (u8)~STATUS_FEATURES_OK); break;
    case LEGACY_VECTOR: v->config_vector = valid_vector(v, value); break;
    case LEGACY_QUEUE_VECTOR:
        if (q) q->vector = valid_vector(v, value);
        break;
    default: break;
    }
}

static const struct region_ops legacy_ops = {.read = legacy_read, .write = legacy_write, .min_size = 1, .max_size = 4};

/* ---- configuration space ---- */

static void add_capability(struct virtio *v, u8 type, u32 area, u32 length, u8 size)
{
    u8 at = pci_add_capability(&v->pci, 0x09, 0, size);
    u8 *c = v->pci.config + at;
    c[2] = size;
    c[3] = type;
    if (type == CAP_WINDOW) {
        v->window = at;
        v->pci.wmask[at + WINDOW_BAR] = 0xff;
        memset(v->pci.wmask + at + WINDOW_OFFSET, 0xff, 12); /* offset, length, data */
        return;
    }
    c[4] = MODERN_BAR;
    pci_put32(c + 8, area * AREA);
    pci_put32(c + 12, length);
    if (size > CAP_SIZE) pci_put32(c + 16, 4); /* bytes from a queue's notification address to the next */
}

/* The access that the window describes; false: to nothing [VIRTIO] 4.1.4.9. */
static bool window(const struct virtio *v, u32 *offset, u32 *length)
{
    const u8 *c = v->pci.config + v->window;
    *offset = pci_get32(c + WINDOW_OFFSET);
    *length = pci_get32(c + WINDOW_LENGTH);
    return c[WINDOW_BAR] == MODERN_BAR && (*length == 1 || *length == 2 || *length == 4) && *offset < 4 * AREA &&
           *offset % *length == 0;
}

static bool covers_window(const struct virtio *v, unsigned offset, unsigned size)
{
    unsigned data = v->window + WINDOW_DATA;
    return v->window && offset < data + 4 && offset + size > data;
}

static void config_reading(struct pci_device *d, unsigned offset, unsigned size)
{
    struct virtio *v = (struct virtio *)d;
    u32 at, length;
    if (covers_window(v, offset, size) && window(v, &at, &length))
        pci_put32(d->config + v->window + WINDOW_DATA, (u32)modern_read(v, at, length));
}

static void config_written(struct pci_device *d, unsigned offset, unsigned size, const u8 *old)
{
    struct virtio *v = (struct virtio *)d;
    u32 at, length;
    (void)old;
    if (!covers_window(v, offset, size) || !window(v, &at, &length)) return;
    u64 value = pci_get32(d->config + v->window + WINDOW_DATA);
    modern_write(v, at, value & ~0ull >> (64 - 8 * length), length);
}

/* ---- life ---- */

int virtio_init(struct virtio *v, const struct virtio_slot *slot, enum virtio_type type, u32 class_code,
                const struct device_class *cls, const struct virtio_ops *ops, unsigned queues, u16 max, u64 features,
                unsigned config_size)
{
    /* Types from before version 1 have device numbers of their own; later ones have no legacy interface. */
    static const u16 old_ids[] = {[VIRTIO_TYPE_NET] = 0x1000, [VIRTIO_TYPE_BLK] = 0x1001, [VIRTIO_TYPE_RNG] = 0x1005};
    bool legacy = (unsigned)type < ARRAY_LEN(old_ids) && !slot->no_legacy;
    v->info = (struct pci_info){.vendor = VENDOR, .class_code = class_code, .interrupt_pin = 1,
                                .device = legacy ? old_ids[type] : (u16)(0x1040 + type), .revision = !legacy,
                                .subsystem_vendor = VENDOR, .subsystem_id = legacy ? (u16)type : 0x1100,
                                .config_reading = config_reading, .config_written = config_written};
    v->type = type;
    v->ops = ops;
    v->modern = !slot->no_modern;
    v->offered = features | VIRTIO_INDIRECT_DESC | VIRTIO_EVENT_IDX | (legacy ? VIRTIO_ANY_LAYOUT : 0) |
                 (v->modern ? VIRTIO_VERSION_1 : 0);
    v->queue_count = queues;
    v->config_size = config_size;
    for (unsigned i = 0; i < queues; i++)
        v->queues[i] = (struct virtqueue){
            .memory = pci_bus_memory(slot->pci), .failed = queue_failed, .index = i, .max = max};
    int err = pci_device_init(&v->pci, slot->pci, slot->devfn, &v->info, cls);
    if (err) return err;
    err = pci_msix_init(&v->pci, 0, 1, queues + 1);
    if (err) {
        pci_device_destroy(&v->pci);
        return err;
    }
    if (legacy) {
        u64 size = 32;
        while (size < LEGACY_CONFIG_MSIX + config_size) size <<= 1;
        pci_add_bar(&v->pci, 0, PCI_BAR_IO, size, cls->name, &legacy_ops, v);
    }
    if (v->modern) {
        pci_add_bar(&v->pci, MODERN_BAR, PCI_BAR_MEM64 | PCI_BAR_PREFETCH, 4 * AREA, cls->name, &modern_ops, v);
        /* The list is built from its end: drivers look for the common configuration first. */
        add_capability(v, CAP_WINDOW, 0, 0, CAP_SIZE + 4);
        add_capability(v, 2, AREA_NOTIFY, AREA, CAP_SIZE + 4);
        if (config_size) add_capability(v, 4, AREA_CONFIG, AREA, CAP_SIZE);
        add_capability(v, 3, AREA_ISR, AREA, CAP_SIZE);
        add_capability(v, 1, AREA_COMMON, AREA, CAP_SIZE);
    }
    return 0;
}

void virtio_reset(struct virtio *v)
{
    pci_device_reset(&v->pci);
    if (v->window) memset(v->pci.config + v->window + WINDOW_BAR, 0, 16);
    v->generation = 0;
    reset_state(v);
}

void virtio_destroy(struct virtio *v) { pci_device_destroy(&v->pci); }
