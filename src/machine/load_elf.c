/* ELF images without a Multiboot header: those with a PVH entry note (uncompressed Linux kernels and others) get the
 * PVH start information; a 32-bit executable without it is entered at its entry point with nothing promised but
 * 32-bit protected mode.
 *
 * Reference: [PVH] Xen public/arch-x86/hvm/start_info.h. */
#include "machine/loader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/boot_block.h"
#include "machine/roms.h"

#define START_MAGIC 0x336ec578u

/* What lies in memory behind the initial RAM disk: the module list's only entry and the command line. */
struct pvh_tail {
    u64 module_address, module_size, module_cmdline, module_reserved;
};

static int bad(const struct loader *l, const char *why)
{
    fprintf(stderr, "calque: kernel %s: %s\n", l->kernel_path, why);
    return -EINVAL;
}

static int add_items(struct loader *l, const struct elf_image *e)
{
    size_t initrd_size = 0, cmdline_size = strlen(l->cmdline) + 1;
    u8 *initrd = NULL;
    if (l->initrd_path) {
        initrd = loader_read_file(l->initrd_path, "initrd", 0x80000000u, &initrd_size);
        if (!initrd) return -EIO;
    }

    /* At the end of memory, so that the kernel can grow: RAM disk, module list, command line. */
    size_t list_offset = (initrd_size + 15) & ~(size_t)15;
    size_t cmdline_offset = list_offset + sizeof(struct pvh_tail);
    size_t size = cmdline_offset + cmdline_size;
    u64 end = l->low_ram - LOADER_FIRMWARE_RESERVE;
    u8 *tail = calloc(1, size);
    struct boot_block *b = calloc(1, sizeof(*b));
    int err = 0;
    if (!tail || !b)
        err = bad(l, "out of memory");
    else if (size > end || end - size < e->base + e->size + GUEST_PAGE_SIZE)
        err = bad(l, "the image and the initrd do not fit into the guest's memory");
    if (err) goto out;

    u64 base = (end - size) & ~GUEST_PAGE_MASK;
    struct pvh_tail list = {.module_address = base, .module_size = initrd_size};
    if (initrd_size) memcpy(tail, initrd, initrd_size);
    memcpy(tail + list_offset, &list, sizeof(list));
    memcpy(tail + cmdline_offset, l->cmdline, cmdline_size);

    b->map = BOOT_BLOCK_AT(memory_map);
    if (e->pvh_entry) {
        b->entry = (u32)e->pvh_entry;
        b->ebx = BOOT_BLOCK_AT(info);
        b->format = BOOT_MAP_PVH;
        b->count_at = BOOT_BLOCK_AT(info.pvh.memmap_entries);
        b->rsdp_at = BOOT_BLOCK_AT(info.pvh.rsdp);
        b->info.pvh.magic = START_MAGIC;
        b->info.pvh.version = 1;
        b->info.pvh.nr_modules = l->initrd_path ? 1 : 0;
        b->info.pvh.modlist = l->initrd_path ? base + list_offset : 0;
        b->info.pvh.cmdline = base + cmdline_offset;
        b->info.pvh.memmap = BOOT_BLOCK_AT(memory_map);
    } else {
        b->entry = (u32)e->entry;
    }
    fw_cfg_add_u32(l->fw_cfg, FW_CFG_KERNEL_ADDR, (u32)e->base);
    fw_cfg_add_u32(l->fw_cfg, FW_CFG_KERNEL_SIZE, (u32)e->size);
    fw_cfg_add_bytes(l->fw_cfg, FW_CFG_KERNEL_DATA, e->data, e->size);
    fw_cfg_add_u32(l->fw_cfg, FW_CFG_SETUP_ADDR, (u32)base);
    fw_cfg_add_u32(l->fw_cfg, FW_CFG_SETUP_SIZE, (u32)size);
    fw_cfg_add_bytes(l->fw_cfg, FW_CFG_SETUP_DATA, tail, size);
    fw_cfg_add_u32(l->fw_cfg, FW_CFG_INITRD_ADDR, BOOT_BLOCK_ADDRESS);
    fw_cfg_add_u32(l->fw_cfg, FW_CFG_INITRD_SIZE, sizeof(*b));
    fw_cfg_add_bytes(l->fw_cfg, FW_CFG_INITRD_DATA, b, sizeof(*b));
    l->rom = rom_multiboot;
    l->rom_size = rom_multiboot_size;
    l->rom_name = "genroms/multiboot.bin";
out:
    free(b);
    free(tail);
    free(initrd);
    return err;
}

int load_elf(struct loader *l)
{
    if (!elf_image_is(l->kernel, l->kernel_size)) return 1;
    struct elf_image e;
    int err = elf_image_load(&e, l->kernel_path, l->kernel, l->kernel_size, l->low_ram);
    if (err) return err;
    if (e.is_64 && !e.pvh_entry)
        err = bad(l, "a 64-bit ELF image without PVH entry note or Multiboot header");
    else if (e.pvh_entry > 0xffffffff || (!e.pvh_entry && e.entry > 0xffffffff))
        err = bad(l, "its entry point is above 4 GiB");
    if (!err) err = add_items(l, &e);
    free(e.data);
    return err;
}
