/* A machine: its parts, its vCPU threads, and the run loop. */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <pthread.h>
#include <stdio.h>

#include "core/audio.h"
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
    pthread_t thread;            /* runs it */
    pthread_cond_t wake;         /* it may have work, or the machine goes on */
    int tid;                     /* its thread as the kernel numbers it; read from other threads */
    bool started;                /* thread exists */
    bool parked;                 /* it stands still because machine->hold is set */
};

/* Whether guest time goes on, and why not. */
enum run_state {
    RUN_RUNNING,   /* it does */
    RUN_PRELAUNCH, /* it has not begun: -S, or a reset while it stood still */
    RUN_PAUSED,    /* the user said so */
    RUN_SHUTDOWN,  /* the guest switched itself off, and -no-shutdown keeps us */
    RUN_IO_ERROR,  /* a disk request failed, and is tried again when it goes on (werror=stop) */
};

/* Causes of resets and of the end, as control_event() reports them; those of the guest start with "guest-". */
#define CAUSE_GUEST_RESET    "guest-reset"
#define CAUSE_GUEST_SHUTDOWN "guest-shutdown"
#define CAUSE_HOST_RESET     "host-qmp-system-reset"
#define CAUSE_HOST_QUIT      "host-qmp-quit"
#define CAUSE_HOST_SIGNAL    "host-signal"
#define CAUSE_HOST_UI        "host-ui"

struct control_listener;
struct control_nodes;
struct monitor;

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
    struct audio *audios[OPTIONS_AUDIOS + 1];   /* as options->audios; the last one is not heard */
    struct device *devices[MACHINE_DEVICES];    /* in order of creation and reset */
    int device_count;              /* used entries */
    struct vcpu *vcpus;            /* options->cpus of them */
    struct cpu **cpus;             /* their CPUs */

    pthread_mutex_t lock;          /* the machine lock */
    int loop_wants;                /* the loop waits for the lock: vCPUs let it through (atomic) */
    pthread_cond_t parked;         /* a vCPU was parked */
    unsigned parked_count;         /* vCPUs that stand still */
    bool hold;                     /* vCPUs are to stand still */
    bool stopping;                 /* vCPU threads are to end */
    enum run_state state;          /* the loop's thread changes it */
    const char *reset_cause;       /* a reset is wanted: CAUSE_*; else NULL */
    const char *shutdown_cause;    /* the machine is to be switched off: CAUSE_*; else NULL */
    bool exit_wanted;              /* with exit_code */
    int exit_code;                 /* of the process */
    bool no_reboot, no_shutdown;   /* as in options, until set-action changes them */
    bool leaked;                   /* a vCPU thread did not end in time */
    struct monitor *monitors[OPTIONS_MONITORS];  /* as options->monitors */
    struct control_listener *listeners;          /* who hears of events (control.c) */
    struct control_nodes *nodes;                 /* images of blockdev-add (control_nodes.c), NULL: none yet */
};

/* Build it as the options say. NULL with a message on stderr. */
struct machine *machine_create(const struct options *options);
void machine_destroy(struct machine *m);
/* Run until it ends: the process's exit code. */
int machine_run(struct machine *m);
/* Signal handlers may call it: end the run. */
void machine_quit(struct machine *m);

/* ---- run control; on the loop's thread, with the machine lock ---- */

/* Stop vCPUs and guest time; nothing happens when they stand still. */
void machine_stop(struct machine *m, enum run_state why);
/* Let them go on. False: the guest switched itself off, only a reset helps. */
bool machine_cont(struct machine *m);
/* "running", "paused"... */
const char *machine_state_name(const struct machine *m);
/* Have all vCPUs stand still for a moment, to look at them; guest time goes on. False: the machine is ending. */
bool machine_park(struct machine *m);
void machine_unpark(struct machine *m);

/* ---- for pc.c; with the machine lock ---- */

/* Put a device on the list of those that are reset and destroyed; false when it is NULL. */
bool machine_add_device(struct machine *m, struct device *d);
/* Reset, switch off, or end the emulator with a status. */
void machine_request_reset(struct machine *m, const char *cause);
void machine_request_power_off(struct machine *m, const char *cause);
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
/* The disks' requests that failed and wait are tried again. */
void pc_retry_drives(struct machine *m);
/* Reset what is not a device. */
void pc_reset(struct machine *m);
/* Open an image as a drive wants it. NULL with a message. */
struct drive_events;
struct block *pc_open_image(struct machine *m, const struct drive_option *d, struct drive_events *events, const char *option,
                            const char *file, enum disk_format format, bool readonly);
/* For the user's commands: the PCI bus, the disk controllers, a drive's contents (which may be changed). */
struct pci_bus *pc_pci(struct machine *m);
struct piix3_ide *pc_ide(struct machine *m);
struct fdc *pc_fdc(struct machine *m);
struct block **pc_drive(struct machine *m, int drive);
struct drive_events *pc_drive_events(struct machine *m, int drive);
/* How often legacy interrupts happened; what the interrupt controllers hold. */
void pc_print_irqs(struct machine *m, FILE *out);
void pc_print_pics(struct machine *m, FILE *out);
/* Press it; guests without ACPI take no notice. */
void pc_power_button(struct machine *m);

#endif
