/* What roms/multiboot.S is told about an image: loaded at its fixed address, read by the ROM and by the image. */
#ifndef MACHINE_BOOT_BLOCK_H
#define MACHINE_BOOT_BLOCK_H

#include "core/types.h"

#define BOOT_BLOCK_ADDRESS 0x2000 /* above the ROM's stack; images may be linked to run from 16 KiB on */
#define BOOT_BLOCK_ENTRIES 64 /* of the memory map, at most */

enum boot_map_format { BOOT_MAP_NONE = 0, BOOT_MAP_MULTIBOOT = 1, BOOT_MAP_PVH = 2 };

struct boot_block {
    /* ---- for the ROM; the names are those of multiboot.S ---- */
    u32 entry;    /* where to jump, 32-bit protected mode */
    u32 eax, ebx; /* registers there */
    u32 format;   /* enum boot_map_format */
    u32 map;      /* address of memory_map */
    u32 count_at; /* where to store the memory map's size (Multiboot: bytes, PVH: entries); 0: nowhere */
    u32 mem_at;   /* where to store mem_lower and mem_upper; 0: nowhere */
    u32 rsdp_at;  /* where to store the RSDP's address; 0: nowhere */
    /* ---- for the image ---- */
    union {
        struct {  /* [Multiboot] 3.3 */
            u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length,
                mmap_addr, drives_length, drives_addr, config_table, boot_loader_name;
        } multiboot;
        struct {  /* [PVH] hvm_start_info, version 1 */
            u32 magic, version, flags, nr_modules;
            u64 modlist, cmdline, rsdp, memmap;
            u32 memmap_entries, reserved;
        } pvh;
        u8 space[128];
    } info;
    u8 memory_map[BOOT_BLOCK_ENTRIES * 24 + 8]; /* filled in by the ROM */
};

_Static_assert(BOOT_BLOCK_ADDRESS + sizeof(struct boot_block) <= 0x10000, "the ROM reaches it with segment 0");

/* The guest's address of a field. */
#define BOOT_BLOCK_AT(field) ((u32)(BOOT_BLOCK_ADDRESS + offsetof(struct boot_block, field)))

#endif
