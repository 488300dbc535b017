/* Direct boot: -kernel, -initrd and -append become fw_cfg items and a boot ROM that knows what to do with them. */
#ifndef MACHINE_LOADER_H
#define MACHINE_LOADER_H

#include "core/types.h"
#include "devices/fw_cfg.h"

struct loader {
    struct fw_cfg *fw_cfg;   /* where the items go */
    u64 low_ram;             /* bytes of DRAM below 4 GiB */
    const char *kernel_path; /* -kernel */
    const char *initrd_path; /* -initrd, NULL: none */
    const char *cmdline;     /* -append, "" when not given */
    u8 *kernel;              /* the kernel file */
    size_t kernel_size;      /* its bytes */
    const u8 *rom;           /* the boot ROM it needs, set by the load_*() that took it */
    size_t rom_size;         /* its bytes */
    const char *rom_name;    /* its fw_cfg file */
};

/* Firmware puts the ACPI tables and its own data at the end of low memory: keep that free. */
#define LOADER_FIRMWARE_RESERVE 0x28000

/* Read the kernel, find out what it is, and add the items. 0 or -errno with a message naming the file. The
 * kernel's memory is freed in any case. */
int load_kernel(struct loader *l);

/* Each takes an image of its kind: 1: not of this kind, 0: done, -errno with a message. */
int load_linux(struct loader *l);
int load_multiboot(struct loader *l);
int load_elf(struct loader *l);

/* A file's contents on the heap. NULL with a message that names the file and what it is. At most max bytes. */
u8 *loader_read_file(const char *path, const char *what, size_t max, size_t *size);

/* ---- ELF images (elf_image.c) ---- */

/* An executable's loadable segments as one piece of memory. */
struct elf_image {
    u8 *data;          /* heap, zero-filled between and behind segments */
    u64 base, size;    /* physical address and bytes */
    u64 entry;         /* physical, when the entry lies in a segment */
    u64 pvh_entry;     /* of the PHYS32_ENTRY note, 0: none */
    bool is_64;        /* ELFCLASS64 */
};

bool elf_image_is(const u8 *file, size_t size);
/* 0 or -EINVAL with a message; limit: the end of memory. */
int elf_image_load(struct elf_image *e, const char *path, const u8 *file, size_t size, u64 limit);
/* Refuse images that firmware's or the ROM's memory would damage: 0 or -EINVAL with a message. */
int elf_image_check_place(const char *path, u64 base, u64 size, u64 limit);

static inline u16 loader_get16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static inline u32 loader_get32(const u8 *p) { return loader_get16(p) | (u32)loader_get16(p + 2) << 16; }
static inline u64 loader_get64(const u8 *p) { return loader_get32(p) | (u64)loader_get32(p + 4) << 32; }
static inline void loader_put16(u8 *p, u16 v)
{
    p[0] = (u8)v;
    p[1] = (u8)(v >> 8);
}
static inline void loader_put32(u8 *p, u32 v)
{
    loader_put16(p, (u16)v);
    loader_put16(p + 2, (u16)(v >> 16));
}

#endif
