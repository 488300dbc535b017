/* A machine: its parts, its vCPU threads, and the run loop. */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <pthread.h>

#include "core/bus.h"
#include "core/chardev.h"
#include "core/clock.h"
#include "core/device.h"
#include "core/display.h"
#include "core/input.h"
#include "core/irq.h"
#include "core/netdev.h"
#include "core/types.h"
#include "cpu/cpu.h"
#include "devices/lapic.h"
#include "host/event_loop.h"
#include "machine/options.h"

#define MACHINE_DEVICES 160 /* the board's parts, and a local APIC for each of up to 64 vCPUs */

struct machine;

/* One vCPU with its local APIC and its thread. */
struct vcpu {
    struct machine *machine;     /* where it belongs */
    struct cpu *cpu;             /* its state */
    struct lapic *lapic;         /* its interrupt controller */
    struct apic_bus *apics;      /* what connects that to the others */
    struct region *lapic_page;   /* the local APIC's page, moved with IA32_APIC_BASE */
    struct cpu_hooks hooks;      /* what the CPU calls */
    u64 tsc_base;                /* clock time at which the TSC was 0 */
    pthread_t thread;            /* runs it */
    pthread_cond_t wake;         /* it may have work, or the machine goes on */
    bool started;                /* thread exists */
    bool parked;                 /* it stands still because machine->hold is set */
};

struct machine {
    const struct options *options; /* the command line; outlives the machine */
    struct clock *clock;           /* guest time */
    struct event_loop *loop;       /* timers and host descriptors */
    struct ram *ram;               /* guest RAM, ROMs, video memory */
    struct bus *mem, *io;          /* address spaces */
    struct display *display;       /* what is on the screen */
    struct input *input;           /* keys and pointers */
    struct display_view *views[OPTIONS_DISPLAYS]; /* as options->displays; NULL: none */
    struct pc *pc;                 /* the board's parts (pc.c) */
    struct chardev *chardevs[OPTIONS_CHARDEVS]; /* as options->chardevs */
    struct netdev *nets[OPTIONS_NETS];          /* as options->nets */
    struct device *devices[MACHINE_DEVICES];    /* in order of creation and reset */
    int device_count;              /* used entries */
    struct vcpu *vcpus;            /* options->cpus of them */

    pthread_mutex_t lock;          /* the machine lock */
    int loop_wants;                /* the loop waits for the lock: vCPUs let it through (atomic) */
    pthread_cond_t parked;         /* a vCPU was parked */
    unsigned parked_count;         /* vCPUs that stand still */
    bool hold;                     /* vCPUs are to stand still */
    bool stopping;                 /* vCPU threads are to end */
    bool reset_wanted;             /* by the guest or the user */
    bool exit_wanted;              /* with exit_code */
    int exit_code;                 /* of the process */
    bool leaked;                   /* a vCPU thread did not end in time */
};

/* Build it as the options say. NULL with a message on stderr. */
struct machine *machine_create(const struct options *options);
void machine_destroy(struct machine *m);
/* Run until it ends: the process's exit code. */
int machine_run(struct machine *m);
/* Signal handlers may call it: end the run. */
void machine_quit(struct machine *m);

/* ---- for pc.c; with the machine lock ---- */

/* Put a device on the list of those that are reset and destroyed; false when it is NULL. */
bool machine_add_device(struct machine *m, struct device *d);
/* The guest resets, powers off, or ends the emulator with a status. */
void machine_request_reset(struct machine *m);
void machine_request_power_off(struct machine *m);
void machine_request_exit(struct machine *m, int code);
/* Set event bits on a vCPU and wake it. */
void machine_event(struct vcpu *v, u32 events);
/* The vCPU whose thread this is, NULL on others. */
struct vcpu *machine_current_vcpu(void);

/* ---- vcpu.c ---- */

/* The vCPU, its APIC and the page where it sees it. extint: the acknowledge cycle of the 8259s. */
struct apic_bus;
bool vcpu_create(struct machine *m, struct vcpu *v, u32 index, struct apic_bus *apics, int (*extint)(void *opaque),
                 void *extint_opaque);
void vcpu_destroy(struct vcpu *v);
/* To power-on state at clock time `now`, the same for all, so that their TSCs agree; its APIC, a device, has been reset. */
void vcpu_reset(struct vcpu *v, u64 now);
/* The thread's function; its argument is the struct vcpu. */
void *vcpu_thread(void *opaque);
/* Wait for the thread's end until that CLOCK_REALTIME: whether it came. */
struct timespec;
bool vcpu_join(struct vcpu *v, const struct timespec *deadline);
/* The x87's FERR# line goes here. */
void pc_ferr(struct machine *m, int level);

/* ---- pc.c ---- */

/* All parts of the board, vCPUs included. False with a message. */
bool pc_create(struct machine *m);
/* What is not in the list of devices. */
void pc_destroy(struct machine *m);
/* Finish what the disks' back ends have to do; devices must not be used any more. */
void pc_close_drives(struct machine *m);
/* Reset what is not a device. */
void pc_reset(struct machine *m);

#endif
