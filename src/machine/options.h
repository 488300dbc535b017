/* The command line, as a description of the machine to build. */
#ifndef MACHINE_OPTIONS_H
#define MACHINE_OPTIONS_H

#include "core/types.h"
#include "cpu/cpuid.h"
#include "host/chardev_open.h"

#define OPTIONS_CHARDEVS 16
#define OPTIONS_SERIALS  4
#define OPTIONS_DEVICES  16
#define OPTIONS_FILES    32
#define OPTIONS_PATHS    16

/* What a guest device is connected to. */
enum { CHARDEV_UNSET = -2, CHARDEV_NONE = -1 }; /* not given; given as "none"; else an index of chardevs[] */

enum device_kind { DEVICE_DEBUG_EXIT, DEVICE_DEBUG_CONSOLE, DEVICE_PC_TESTDEV, DEVICE_PCI_TESTDEV };

struct device_option {
    enum device_kind kind;
    u16 iobase, iosize; /* DEBUG_EXIT and DEBUG_CONSOLE */
    u8 readback;        /* DEBUG_CONSOLE */
    int chardev;        /* DEBUG_CONSOLE: index of chardevs[] or CHARDEV_NONE */
};

struct fw_cfg_option {
    char *name;       /* of the item */
    char *file;       /* its contents are this file's, or */
    char *string;     /* this string without its terminating zero */
};

struct options {
    u64 ram_size;                /* bytes */
    unsigned cpus;               /* vCPUs */
    unsigned cores, threads;     /* per socket, per core */
    struct cpu_model *cpu_model; /* owned */
    char *cpu;                   /* -cpu, NULL: default */
    bool hpet, acpi;             /* these are there */
    bool vga;                    /* the VGA adapter is there */
    bool nographic;              /* firmware and user are on the serial port */
    bool nodefaults;             /* no serial port unless asked for */
    bool translate;              /* -accel bt */
    bool no_reboot, no_shutdown; /* what the guest's reset and power-off do */

    char *kernel, *initrd, *append; /* direct boot; NULL: not given */
    char *bios;                     /* -bios, NULL: default */
    char *paths[OPTIONS_PATHS];     /* -L, in order */
    int path_count;                 /* used entries */
    char *option_roms[OPTIONS_FILES];
    int option_rom_count;           /* used entries */
    struct fw_cfg_option fw_cfg[OPTIONS_FILES];
    int fw_cfg_count;               /* used entries */
    char boot_order[4];             /* letters of -boot order=, "": default */
    bool boot_menu, boot_strict;    /* -boot menu=, strict= */
    u64 splash_time, reboot_timeout; /* -boot, ms; UINT64_MAX: not given */

    struct chardev_config chardevs[OPTIONS_CHARDEVS];
    bool chardev_used[OPTIONS_CHARDEVS]; /* a device has it */
    int chardev_count;                   /* used entries */
    int serial[OPTIONS_SERIALS];         /* CHARDEV_* or index of chardevs[] */
    int debugcon;                        /* likewise, for -debugcon (port 0xe9 by default) */
    struct device_option devices[OPTIONS_DEVICES];
    int device_count;                    /* used entries */

    bool rtc_localtime;          /* base=localtime */
    bool rtc_fixed;              /* base=DATE */
    s64 rtc_base;                /* that date, seconds since 1970 UTC */

    bool has_uuid;               /* -uuid was given */
    u8 uuid[16];                 /* in the order of the text form */
    char *name;                  /* -name, NULL: none */
    char *pidfile;               /* -pidfile, NULL: none */
    char *log_items, *log_file;  /* -d, -D */
};

/* 0: go on; 1: everything was said (-help and its like): exit with 0; -EINVAL: exit with 1, after one message. */
int options_parse(struct options *o, int argc, char **argv);
void options_free(struct options *o);

/* ---- options_chardev.c ---- */

/* -serial, -debugcon and their like: "stdio", "file:PATH" ... or "chardev:ID"; *ref becomes an index or
 * CHARDEV_NONE. option and label are for messages. 0 or -EINVAL with a message. */
int options_chardev_target(struct options *o, const char *option, const char *text, const char *label, int *ref);
/* -chardev KIND,id=ID,... */
int options_chardev_define(struct options *o, const char *text);
/* Take -chardev ID for a device. */
int options_chardev_take(struct options *o, const char *option, const char *id, int *ref);
/* Make a back end of that kind: its index or -EINVAL with a message. */
int options_chardev_add(struct options *o, const char *option, const struct chardev_config *config);

#endif
