/* The command line, as a description of the machine to build. */
#ifndef MACHINE_OPTIONS_H
#define MACHINE_OPTIONS_H

#include "core/clock.h"
#include "core/types.h"
#include "cpu/cpuid.h"
#include "host/audio_open.h"
#include "host/chardev_open.h"
#include "host/display_open.h"
#include "host/net_open.h"
#include "host/disk.h"
#include "devices/usb_hid.h"
#include "devices/vga.h"
#include "machine/option_list.h"

#define OPTIONS_CHARDEVS 16
#define OPTIONS_SERIALS  4
#define OPTIONS_DEVICES  16
#define OPTIONS_DRIVES   16
#define OPTIONS_FILES    32
#define OPTIONS_PATHS    16
#define OPTIONS_NETS     8
#define OPTIONS_DISPLAYS 2 /* a VNC server, and something else */
#define OPTIONS_MONITORS 8
#define OPTIONS_RNGS     4
#define OPTIONS_AUDIOS   4

/* What a guest device is connected to. */
enum { CHARDEV_UNSET = -2, CHARDEV_NONE = -1 }; /* not given; given as "none"; else an index of chardevs[] */

#define OPTIONS_USB      2 /* ports */

enum device_kind {
    DEVICE_DEBUG_EXIT,
    DEVICE_DEBUG_CONSOLE,
    DEVICE_PC_TESTDEV,
    DEVICE_PCI_TESTDEV,
    DEVICE_VIRTIO_RNG,
    DEVICE_VIRTIO_KEYBOARD,
    DEVICE_VIRTIO_MOUSE,
    DEVICE_VIRTIO_TABLET,
    DEVICE_AC97,
};

/* How a virtio device is plugged in. */
struct virtio_place {
    int devfn;                 /* PCI address, -1: any */
    bool no_legacy, no_modern; /* disable-legacy=, disable-modern= */
};

struct device_option {
    enum device_kind kind;
    u16 iobase, iosize; /* DEBUG_EXIT and DEBUG_CONSOLE */
    int devfn;          /* AC97: PCI address, -1: any */
    int audio;          /* AC97: index of audios[], -1: not heard */
    u8 readback;        /* DEBUG_CONSOLE */
    int chardev;        /* DEBUG_CONSOLE: index of chardevs[] or CHARDEV_NONE */
    struct virtio_place virtio; /* VIRTIO_* */
    int object;         /* VIRTIO_RNG: index of rngs[], -1: the host's generator */
};

/* -object rng-random and rng-builtin */
struct rng_option {
    char *id;   /* for -device virtio-rng-pci,rng= */
    char *file; /* where the numbers come from, NULL: the host's generator */
};

enum drive_interface { DRIVE_IDE, DRIVE_VIRTIO, DRIVE_FLOPPY, DRIVE_NONE }; /* NONE: waits for a -device */

struct drive_option {
    char *option;             /* what it comes from, for messages */
    char *file;               /* image; NULL: an empty CD or floppy drive */
    char *id;                 /* for -device drive=; NULL: none */
    char *serial, *model;     /* for the guest; NULL: default */
    enum drive_interface interface; /* where it is connected */
    enum disk_format format;  /* of the image */
    struct virtio_place virtio; /* VIRTIO: where */
    int index;                /* IDE: 2 * channel + unit; FLOPPY: unit; VIRTIO: a running number; -1: any of */
    int first, last;          /* these; last 0: all */
    int bootindex;            /* -1: none */
    bool cdrom;               /* media=cdrom */
    bool readonly, snapshot;  /* writes fail; writes are forgotten */
    bool keep;                /* snapshot=off: -snapshot is not for this one */
    bool write_through;       /* cache=: the drive's write cache starts switched off */
    bool unsafe;              /* flushes do nothing */
    bool discard;             /* discard=unmap */
    bool direct;              /* cache=none, directsync: O_DIRECT */
    enum disk_action read_error, write_error; /* rerror=, werror= */
    bool taken;               /* a -device has it, or a node on top of it */
    bool plain;               /* -blockdev: a file that may be that of a node of a format */
    char *below;              /* -blockdev: that node, whose file it has */
};

struct fw_cfg_option {
    char *name;       /* of the item */
    char *file;       /* its contents are this file's, or */
    char *string;     /* this string without its terminating zero */
};

enum nic_model { NIC_E1000, NIC_RTL8139, NIC_NE2000, NIC_VIRTIO };

struct nic_option {
    enum nic_model model; /* which card */
    int net;              /* index of nets[], -1: no cable */
    bool has_mac;         /* mac was given */
    u8 mac[6];            /* the card's address */
    int devfn;            /* PCI address, -1: any */
    struct virtio_place virtio; /* VIRTIO: more of that */
    int bootindex;        /* place in the boot order, -1: none */
    bool rom;             /* it has its expansion ROM */
    char *romfile;        /* NULL: the model's default, if it is installed */
};

struct dump_option {
    int net;         /* index of nets[] */
    char *file;      /* where to */
    u32 snap_length; /* bytes kept of each frame */
};

struct monitor_option {
    int chardev;  /* index of chardevs[] */
    bool qmp;     /* speaks QMP, else for people */
    bool pretty;  /* QMP: indented */
};

/* Texts of an option that may be given several times... */
struct options_texts {
    const char *text[OPTIONS_DEVICES];   /* of argv */
    const char *option[OPTIONS_DEVICES]; /* which option it was, without dashes */
    int count;                           /* used entries */
};

/* ... and that is looked at after all others: they refer to each other in any order. */
struct options_later {
    struct options_texts chardevs, serials, parallels, debugcons;
    struct options_texts monitors; /* -monitor, -qmp, -qmp-pretty and -mon */
    struct options_texts devices, netdevs, nets, objects;
};

struct options {
    u64 ram_size;                /* bytes */
    unsigned cpus;               /* vCPUs */
    unsigned cores, threads;     /* per socket, per core */
    struct cpu_model *cpu_model; /* owned */
    char *cpu;                   /* -cpu, NULL: default */
    bool hpet, acpi;             /* these are there */
    bool vga;                    /* the VGA adapter is there */
    struct vga_config vga_config; /* and what it is like */
    struct display_config displays[OPTIONS_DISPLAYS];
    int display_count;           /* used entries */
    bool usb;                    /* the USB controller is there */
    enum usb_hid_kind usb_devices[OPTIONS_USB];
    int usb_count;               /* used entries */
    bool display_said;           /* -display was given */
    bool display_missing;        /* nobody sees anything, and nobody said so */
    bool full_screen;            /* -full-screen */
    bool nographic;              /* firmware and user are on the serial port */
    bool nodefaults;             /* no serial port unless asked for */
    bool interpret;              /* -accel interp */
    bool accel_found;            /* an -accel that there is */
    char accel_missing[32];      /* the last -accel that there is not */
    bool no_reboot, no_shutdown; /* what the guest's reset and power-off do */
    bool start_stopped;          /* -S */
    bool no_machine;             /* -machine none: it never starts */
    bool daemonize;              /* -daemonize */

    char *kernel, *initrd, *append; /* direct boot; NULL: not given */
    char *bios;                     /* -bios, NULL: default */
    char *paths[OPTIONS_PATHS];     /* -L, in order */
    int path_count;                 /* used entries */
    char *option_roms[OPTIONS_FILES];
    int option_rom_count;           /* used entries */
    struct fw_cfg_option fw_cfg[OPTIONS_FILES];
    int fw_cfg_count;               /* used entries */
    char boot_order[4];             /* letters of -boot order=, "": default */
    char boot_once[4];              /* likewise once=: before the first reset */
    bool boot_menu, boot_strict;    /* -boot menu=, strict= */
    u64 splash_time, reboot_timeout; /* -boot, ms; UINT64_MAX: not given */

    struct chardev_config chardevs[OPTIONS_CHARDEVS];
    bool chardev_used[OPTIONS_CHARDEVS]; /* a device has it */
    struct {
        int set, fd;                     /* -add-fd: /dev/fdset/SET is that descriptor */
    } fds[OPTIONS_CHARDEVS];
    int fd_count;                        /* used entries */
    int chardev_count;                   /* used entries */
    int serial[OPTIONS_SERIALS];         /* CHARDEV_* or index of chardevs[] */
    int parallel;                        /* likewise */
    int debugcon;                        /* likewise, for -debugcon (port 0xe9 by default) */
    struct device_option devices[OPTIONS_DEVICES];
    int device_count;                    /* used entries */

    struct rng_option rngs[OPTIONS_RNGS];
    int rng_count;                       /* used entries */

    struct monitor_option monitors[OPTIONS_MONITORS];
    int monitor_count;                   /* used entries */
    bool monitor_said;                   /* -monitor, -mon or -qmp: no default monitor */

    struct audio_config audios[OPTIONS_AUDIOS];
    int audio_count;             /* used entries */
    char *pcspk_audiodev;        /* -machine pcspk-audiodev=, NULL: none */
    int pcspk_audio;             /* its index of audios[], -1: not heard */

    struct net_config nets[OPTIONS_NETS];
    bool net_used[OPTIONS_NETS]; /* a card has it */
    int net_count;               /* used entries */
    struct nic_option nics[OPTIONS_NETS];
    int nic_count;               /* used entries */
    struct dump_option dumps[OPTIONS_NETS];
    int dump_count;              /* used entries */
    bool net_said;               /* -nic, -net or a card's -device: no default card */
    struct drive_option drives[OPTIONS_DRIVES];
    int drive_count;             /* used entries */
    bool snapshot;               /* -snapshot: of all drives */

    bool rtc_localtime;          /* base=localtime */
    bool rtc_fixed;              /* base=DATE */
    s64 rtc_base;                /* that date, seconds since 1970 UTC */
    enum clock_wall_source rtc_clock; /* clock= */
    bool rtc_slew;               /* driftfix=slew */

    bool has_uuid;               /* -uuid was given */
    u8 uuid[16];                 /* in the order of the text form */
    char *name;                  /* -name, NULL: none */
    char *pidfile;               /* -pidfile, NULL: none */
    char *log_items, *log_file;  /* -d, -D */
    bool perfmap;                /* -perfmap */
    struct options_later later;  /* while the command line is read */
};

/* 0: go on; 1: everything was said (-help and its like): exit with 0; -EINVAL: exit with 1, after one message. */
int options_parse(struct options *o, int argc, char **argv);
void options_free(struct options *o);

/* Below: 0; 1 after help was printed; or -EINVAL with a message. `option` is the one that was given, for messages. */

/* ---- options_machine.c ---- */

int options_machine(struct options *o, const char *option, const char *arg);
int options_memory(struct options *o, const char *option, const char *arg);
int options_smp(struct options *o, const char *option, const char *arg);
int options_cpu(struct options *o, const char *option, const char *arg);
int options_accel(struct options *o, const char *option, const char *arg);
int options_enable_kvm(struct options *o, const char *option, const char *arg);
/* When all options were seen: one of the engines that were named must be there. */
int options_accel_check(const struct options *o);
int options_rtc(struct options *o, const char *option, const char *arg);
int options_uuid(struct options *o, const char *option, const char *arg);
int options_guest_name(struct options *o, const char *option, const char *arg);

/* ---- options_boot.c ---- */

int options_boot(struct options *o, const char *option, const char *arg);
int options_path(struct options *o, const char *option, const char *arg);
int options_option_rom(struct options *o, const char *option, const char *arg);
int options_fw_cfg(struct options *o, const char *option, const char *arg);

/* ---- options_device.c ---- */

int options_device(struct options *o, const char *text);
int options_object(struct options *o, const char *text);
/* -device help. */
void options_device_list(void);

/* ---- options_chardev.c ---- */

/* -serial, -debugcon and their like: "stdio", "file:PATH" ... or "chardev:ID"; *ref becomes an index or
 * CHARDEV_NONE. option and label are for messages. 0 or -EINVAL with a message. */
int options_chardev_target(struct options *o, const char *option, const char *text, const char *label, int *ref);
/* -add-fd. */
int options_add_fd(struct options *o, const char *option, const char *text);
/* -chardev KIND,id=ID,... */
int options_chardev_define(struct options *o, const char *text);
/* Take -chardev ID for a device. */
int options_chardev_take(struct options *o, const char *option, const char *id, int *ref);
/* Make a back end of that kind: its index or -EINVAL with a message. */
int options_chardev_add(struct options *o, const char *option, const struct chardev_config *config);

/* ---- options_control.c ---- */

/* -monitor TARGET and -qmp TARGET; -mon [chardev=]ID,...: 0 or -EINVAL with a message. */
int options_monitor(struct options *o, const char *option, const char *target, bool qmp, bool pretty);
int options_mon(struct options *o, const char *text);
/* A monitor for people on that back end. */
int options_monitor_add(struct options *o, const char *option, int chardev, bool qmp, bool pretty);
/* -action EVENT=ACTION,... */
int options_action(struct options *o, const char *option, const char *text);

/* ---- options_net.c ---- */

/* -netdev KIND,id=ID,...; -nic KIND|none,...; -net nic|KIND|none,...: 0, 1 after -nic help and its like, or -EINVAL
 * with a message. */
int options_netdev(struct options *o, const char *text);
int options_nic(struct options *o, const char *option, const char *text);
int options_net(struct options *o, const char *text);
/* Is that -device driver a network card? Then options_net_device() makes it. */
bool options_net_driver(const char *driver);
int options_net_device(struct options *o, const char *driver, struct option_list *l);
/* -object filter-dump,... behind its kind */
int options_net_dump(struct options *o, struct option_list *l);
/* Default card and addresses, when all options were seen. */
int options_net_finish(struct options *o);
void options_net_free(struct options *o);

/* ---- options_audio.c ---- */

/* -audiodev KIND,id=ID,...; -audio KIND,model=MODEL,...: 0, 1 after help, or -EINVAL with a message. */
int options_audiodev(struct options *o, const char *option, const char *text);
int options_audio(struct options *o, const char *option, const char *text);
/* Is that -device driver a sound card? Then options_audio_device() makes it. */
bool options_audio_driver(const char *driver);
int options_audio_device(struct options *o, const char *driver, struct option_list *l);
/* When all options were seen. */
int options_audio_finish(struct options *o);
void options_audio_free(struct options *o);

/* ---- options_virtio.c ---- */

/* A PCI device's addr= and bus=: *devfn stays when there is none. 0 or -EINVAL with a message. */
int options_pci_place(struct option_list *l, const char *driver, int *devfn);
/* Is that -device driver a virtio device, or a virtio network card? */
bool options_virtio_driver(const char *driver);
bool options_virtio_net(const char *driver);
int options_virtio_device(struct options *o, const char *driver, struct option_list *l);
/* The properties that all virtio devices share. */
int options_virtio_place(struct option_list *l, const char *driver, struct virtio_place *p);
/* -object rng-random and rng-builtin, behind kind and id */
int options_rng(struct options *o, const char *kind, const char *id, struct option_list *l);
void options_virtio_free(struct options *o);

/* ---- options_display.c ---- */

/* -display TYPE,...; -vnc ADDRESS,... (option is the one it comes from); -k LAYOUT: 0, 1 after help, -EINVAL. */
int options_display(struct options *o, const char *option, const char *text);
int options_vnc(struct options *o, const char *option, const char *text);
int options_keyboard(struct options *o, const char *option, const char *text);
/* -usbdevice tablet|mouse|keyboard, and -device usb-tablet|usb-mouse|usb-kbd: is that driver one of those? */
int options_usb(struct options *o, const char *option, const char *name);
bool options_usb_driver(const char *driver);
/* -device VGA. */
int options_vga_device(struct options *o, struct option_list *l);
/* The default display, and what cannot be together. */
int options_display_finish(struct options *o);
void options_display_free(struct display_config *c);

/* ---- options_drive.c ---- */

/* -hda FILE and its like, -fda, -cdrom; option "FILE" itself: a disk image without an option. */
int options_drive_file(struct options *o, const char *option, const char *file);
/* -drive file=FILE,... */
int options_drive(struct options *o, const char *option, const char *text);
/* -blockdev driver=...,node-name=ID,... or the same in JSON */
int options_blockdev(struct options *o, const char *option, const char *text);
/* -device ide-hd and ide-cd, after all -drive; keys that nobody asked for are left to the caller. */
int options_device_ide(struct options *o, struct option_list *l, const char *driver);
int options_device_floppy(struct options *o, struct option_list *l);
/* Take -drive if=none,id=ID for a device: its index in drives[]. */
int options_drive_take(struct options *o, const char *option, const char *id, int *ref);
/* rerror= and werror= of a -drive or -device. */
int options_drive_errors(struct drive_option *d, const char *option, struct option_list *l);
/* Give all drives their places. */
int options_drive_finish(struct options *o);
void options_drive_free(struct options *o);
/* Take number i off the list. */
void options_drive_drop(struct options *o, int i);

/* What there is, for programs that ask; NULL at the end: names of options, of -device's drivers. */
const char *options_name(size_t i);
const char *options_device_name(size_t i);

#endif
