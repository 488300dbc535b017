/* The board that devices are fuzzed on: buses, RAM, a clock that stands still, and fake back ends. */
#ifndef TESTS_FUZZ_BOARD_H
#define TESTS_FUZZ_BOARD_H

#include "core/block.h"
#include "core/bus.h"
#include "core/chardev.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/display.h"
#include "core/input.h"
#include "core/irq.h"
#include "core/netdev.h"
#include "devices/apic_bus.h"
#include "devices/pci.h"
#include "fuzz.h"

#define BOARD_RAM     (1u << 20)
#define BOARD_DEVICES 8
#define BOARD_WINDOWS 32
#define BOARD_DISKS   2

/* A range of addresses that accesses go to. */
struct board_window {
    struct bus *bus; /* memory or ports */
    gpa base;        /* first address */
    u64 size;        /* bytes */
};

/* A disk that is mostly empty, and slow: requests wait until the input says so. */
struct board_disk {
    struct block block;            /* must stay first */
    struct block_request *pending; /* oldest first */
    u8 data[16384];                /* its beginning; what follows reads as zeros */
};

struct board {
    struct bus *memory, *ports;           /* address spaces */
    struct ram *ram;                      /* RAM at 0, and what devices take */
    struct clock *clock;                  /* moved by the input */
    struct pci_bus *pci;                  /* bus 0 */
    struct apic_bus *apics;               /* for APICs */
    struct display *display;              /* for graphics; NULL: none */
    struct audio *audio;                  /* for sound; NULL: none */
    struct input *input;                  /* for keyboards and pointers */
    struct netdev net;                    /* for network cards */
    struct chardev chr;                   /* for serial ports */
    struct board_disk disk[BOARD_DISKS];  /* for disk controllers */
    struct irq_line line;                 /* a connected interrupt line */
    struct device *devices[BOARD_DEVICES]; /* in order of creation */
    int device_count;                     /* used entries */
    struct board_window windows[BOARD_WINDOWS]; /* where they answer */
    int window_count;                     /* used entries */
    int fixed_windows;                    /* those that are no BARs */
    void (*poke)(struct board *b, void *opaque, struct fuzz_bytes *in); /* what else may happen to the device; NULL: nothing */
    void *poke_opaque;                    /* its second argument */
};

/* For create functions. */
void board_add(struct board *b, struct device *d);
void board_ports(struct board *b, gpa base, u64 size);
void board_memory(struct board *b, gpa base, u64 size);

#endif
