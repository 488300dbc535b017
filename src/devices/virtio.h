/* What all virtio devices share: the PCI transport, legacy and modern, in front of a set of virtqueues.
 *
 * A device embeds struct virtio as the FIRST member of its private struct, so that the same pointer is its struct
 * pci_device and struct device, too. */
#ifndef DEVICES_VIRTIO_H
#define DEVICES_VIRTIO_H

#include "core/types.h"
#include "devices/pci.h"
#include "devices/virtqueue.h"

#define VIRTIO_QUEUES      4
#define VIRTIO_CONFIG_SIZE 256

enum virtio_type { VIRTIO_TYPE_NET = 1, VIRTIO_TYPE_BLK = 2, VIRTIO_TYPE_RNG = 4, VIRTIO_TYPE_INPUT = 18 };

/* Features of all types [VIRTIO] 6. */
#define VIRTIO_NOTIFY_ON_EMPTY (1ull << 24) /* legacy */
#define VIRTIO_ANY_LAYOUT      (1ull << 27) /* legacy */
#define VIRTIO_INDIRECT_DESC   (1ull << 28)
#define VIRTIO_EVENT_IDX       (1ull << 29)
#define VIRTIO_VERSION_1       (1ull << 32)

struct virtio;

struct virtio_ops {
    /* The driver made something available in a queue. */
    void (*notify)(struct virtio *v, unsigned queue);
    /* The driver wrote a byte of the device's configuration. May be NULL. */
    void (*config_written)(struct virtio *v, unsigned offset, u8 value);
    /* The driver is ready (DRIVER_OK). May be NULL. */
    void (*started)(struct virtio *v);
    /* Forget all that came from the driver; config[] is to be as after power-on. */
    void (*reset)(struct virtio *v);
};

/* How the user wants it plugged in. */
struct virtio_slot {
    struct pci_bus *pci; /* where */
    int devfn;           /* -1: a free slot */
    bool no_legacy;      /* only the interface of version 1 */
    bool no_modern;      /* only the one before */
};

struct virtio {
    struct pci_device pci;          /* must stay first */
    struct pci_info info;           /* its identity */
    enum virtio_type type;          /* what it is */
    const struct virtio_ops *ops;   /* the device behind the transport */
    bool modern;                    /* offers VIRTIO_VERSION_1 */
    u64 offered;                    /* features */
    unsigned queue_count;           /* used entries of queues[] */
    struct virtqueue queues[VIRTIO_QUEUES];
    u8 config[VIRTIO_CONFIG_SIZE];  /* device-specific configuration as the driver reads it */
    unsigned config_size;           /* bytes of it */

    u64 features;                   /* what the driver took */
    u32 offered_select, features_select; /* which half of the features shows */
    u16 queue_select;               /* which queue's registers show */
    u16 config_vector;              /* MSI-X vector of configuration changes, 0xffff: none */
    u8 status;                      /* VIRTIO_STATUS_* */
    u8 isr;                         /* interrupt causes while MSI-X is off */
    u8 generation;                  /* of the configuration */
    u8 window;                      /* offset of the configuration access capability, 0: none */
    struct virtqueue_chain chain;   /* scratch for devices */
};

/* Fill in *v (zeroed by the caller) and plug it in. max: entries of each queue. 0 or -errno with a message. */
int virtio_init(struct virtio *v, const struct virtio_slot *slot, enum virtio_type type, u32 class_code,
                const struct device_class *cls, const struct virtio_ops *ops, unsigned queues, u16 max, u64 features,
                unsigned config_size);
/* For the class's reset; calls ops->reset(). */
void virtio_reset(struct virtio *v);
void virtio_destroy(struct virtio *v);

/* Has the driver started the device, and not broken it? */
bool virtio_running(const struct virtio *v);
static inline bool virtio_has(const struct virtio *v, u64 feature) { return v->features & feature; }
/* Hand one chain back. */
void virtio_push(struct virtio *v, unsigned queue, u16 head, u32 written);
/* Interrupt the driver for what was handed back, if it wants that. */
void virtio_signal(struct virtio *v, unsigned queue);
/* config[] has changed by itself. */
void virtio_config_changed(struct virtio *v);
/* The driver broke the device's rules: it must reset it [VIRTIO] 2.1.2. */
void virtio_fail(struct virtio *v, const char *why);

static inline u64 virtio_get64(const u8 *p) { return pci_get32(p) | (u64)pci_get32(p + 4) << 32; }
static inline void virtio_put64(u8 *p, u64 value)
{
    pci_put32(p, (u32)value);
    pci_put32(p + 4, (u32)(value >> 32));
}

#endif
