/* The firmware configuration device: a set of numbered items and named files that firmware reads. */
#ifndef DEVICES_FW_CFG_H
#define DEVICES_FW_CFG_H

#include "core/bus.h"
#include "core/device.h"
#include "core/types.h"

/* Item numbers that firmware and kernels know. */
enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00, /* "QEMU"; added by fw_cfg_create() */
    FW_CFG_ID = 0x01,        /* u32 features; added by fw_cfg_create() */
    FW_CFG_UUID = 0x02,      /* 16 bytes */
    FW_CFG_RAM_SIZE = 0x03,  /* u64 */
    FW_CFG_NOGRAPHIC = 0x04, /* u16 */
    FW_CFG_NB_CPUS = 0x05,   /* u16 */
    FW_CFG_MACHINE_ID = 0x06,
    FW_CFG_KERNEL_ADDR = 0x07,    /* u32; and so on for direct boot */
    FW_CFG_KERNEL_SIZE = 0x08,    /* u32 */
    FW_CFG_KERNEL_CMDLINE = 0x09, /* string */
    FW_CFG_INITRD_ADDR = 0x0a,    /* u32 */
    FW_CFG_INITRD_SIZE = 0x0b,    /* u32 */
    FW_CFG_BOOT_DEVICE = 0x0c,    /* u16 */
    FW_CFG_NUMA = 0x0d,           /* u64s */
    FW_CFG_BOOT_MENU = 0x0e,      /* u16 */
    FW_CFG_MAX_CPUS = 0x0f,       /* u16: highest APIC ID + 1 */
    FW_CFG_KERNEL_ENTRY = 0x10,   /* u32 */
    FW_CFG_KERNEL_DATA = 0x11,    /* bytes */
    FW_CFG_INITRD_DATA = 0x12,    /* bytes */
    FW_CFG_CMDLINE_ADDR = 0x13,   /* u32 */
    FW_CFG_CMDLINE_SIZE = 0x14,   /* u32 */
    FW_CFG_CMDLINE_DATA = 0x15,   /* string */
    FW_CFG_SETUP_ADDR = 0x16,     /* u32 */
    FW_CFG_SETUP_SIZE = 0x17,     /* u32 */
    FW_CFG_SETUP_DATA = 0x18,     /* bytes */
    FW_CFG_FILE_DIR = 0x19,       /* the directory; made here */
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_IRQ0_OVERRIDE = 0x8002, /* u8: IRQ 0 is wired to I/O APIC pin 2 */
};

struct fw_cfg;

/* Ports 0x510-0x51b; memory is what the DMA interface reaches. NULL with a message. */
struct fw_cfg *fw_cfg_create(struct bus *ports, struct bus *memory);
struct device *fw_cfg_device(struct fw_cfg *f);

/* Add an item, or replace what was there. Data is copied, integers are little-endian. All of these are for
 * before the guest runs; adding a file may renumber others, as they are kept sorted by name. */
void fw_cfg_add_bytes(struct fw_cfg *f, u16 key, const void *data, size_t size);
void fw_cfg_add_string(struct fw_cfg *f, u16 key, const char *s); /* with its terminating zero */
void fw_cfg_add_u16(struct fw_cfg *f, u16 key, u16 value);
void fw_cfg_add_u32(struct fw_cfg *f, u16 key, u32 value);
void fw_cfg_add_u64(struct fw_cfg *f, u16 key, u64 value);
/* A file: 0, or -EINVAL / -ENOSPC with a message (name longer than 55 characters; too many). */
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t size);

/* A file whose size bytes at data belong to the caller, who may change them until they are destroyed after f.
 * select, if not NULL, is called when the guest selects it; written, if not NULL, after the guest changed
 * [offset, offset + length) by DMA; without it the file is read-only. */
struct fw_cfg_file_ops {
    void (*select)(void *opaque);
    void (*written)(void *opaque, size_t offset, size_t length);
};
int fw_cfg_add_live_file(struct fw_cfg *f, const char *name, void *data, size_t size,
                         const struct fw_cfg_file_ops *ops, void *opaque);

/* "etc/e820": the memory map of DRAM, low bytes from 0 and high bytes from 4 GiB. */
void fw_cfg_add_e820(struct fw_cfg *f, u64 low, u64 high);

/* The item's bytes as the guest would read them; NULL when there is none. For the monitor and for tests. */
const u8 *fw_cfg_find(struct fw_cfg *f, u16 key, size_t *size);
const u8 *fw_cfg_find_file(struct fw_cfg *f, const char *name, size_t *size);

#endif
