/* Multiboot (version 1) images, in ELF or with the addresses in their header, and their modules.
 *
 * -initrd names the modules: "file args,file args", where ",," stands for a comma. The command line starts with
 * the kernel's file name.
 *
 * Leaves out: video mode requests (the screen stays in text mode), drive and symbol information.
 * Reference: [Multiboot] Multiboot specification 0.6.96. */
#define _GNU_SOURCE
#include "machine/loader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/boot_block.h"
#include "machine/roms.h"
#include "machine/version.h"

#define SEARCH       8192 /* the header is in the file's first bytes, 3.1 */
#define HEADER_MAGIC 0x1badb002u
#define LOADER_MAGIC 0x2badb002u
#define MAX_MODULES  64

/* Header flags. */
#define NEED_PAGE_ALIGN 0x00000001u
#define NEED_MEMORY     0x00000002u
#define WANT_VIDEO      0x00000004u
#define HAS_ADDRESSES   0x00010000u

/* Information flags. */
#define INFO_MEMORY  0x001u
#define INFO_DEVICE  0x002u
#define INFO_CMDLINE 0x004u
#define INFO_MODULES 0x008u
#define INFO_MMAP    0x040u
#define INFO_LOADER  0x200u

/* Bytes that follow the image in memory: modules, their list, strings. */
struct tail {
    u8 *data;  /* heap */
    u64 size;  /* used */
    u64 base;  /* its guest address */
};

/* Append: the guest address of the copy, 0 when memory is short. */
static u64 tail_add(struct tail *t, const void *data, u64 size, u64 align)
{
    u64 at = (t->size + align - 1) & ~(align - 1);
    u8 *grown = realloc(t->data, at + size + 1);
    if (!grown) return 0;
    memset(grown + t->size, 0, at - t->size);
    memcpy(grown + at, data, size);
    t->data = grown;
    t->size = at + size;
    return t->base + at;
}

static const u8 *find_header(const struct loader *l)
{
    size_t end = MIN(l->kernel_size, (size_t)SEARCH);
    for (size_t at = 0; at + 12 <= end; at += 4) {
        const u8 *p = l->kernel + at;
        if (loader_get32(p) == HEADER_MAGIC && loader_get32(p) + loader_get32(p + 4) + loader_get32(p + 8) == 0)
            return p;
    }
    return NULL;
}

static int bad(const struct loader *l, const char *why)
{
    fprintf(stderr, "calque: kernel %s: %s\n", l->kernel_path, why);
    return -EINVAL;
}

/* The header's own addresses 3.1.3 instead of ELF. */
static int load_by_header(const struct loader *l, const u8 *header, struct elf_image *e)
{
    size_t at = (size_t)(header - l->kernel);
    if (at + 32 > l->kernel_size) return bad(l, "the Multiboot image is truncated");
    u32 header_addr = loader_get32(header + 12), load_addr = loader_get32(header + 16);
    u32 load_end = loader_get32(header + 20), bss_end = loader_get32(header + 24);
    if (header_addr < load_addr || header_addr - load_addr > at) return bad(l, "bad addresses in the Multiboot header");
    size_t start = at - (header_addr - load_addr);
    u64 size = load_end ? (u64)load_end - load_addr : l->kernel_size - start;
    if (load_end && load_end < load_addr) return bad(l, "bad addresses in the Multiboot header");
    if (size > l->kernel_size - start) return bad(l, "the Multiboot image is truncated");
    u64 memory = size;
    if (bss_end) {
        if (bss_end < load_addr + size) return bad(l, "bad addresses in the Multiboot header");
        memory = (u64)bss_end - load_addr;
    }
    int err = elf_image_check_place(l->kernel_path, load_addr, memory, l->low_ram);
    if (err) return err;
    e->data = calloc(1, memory + 1);
    if (!e->data) return bad(l, "out of memory");
    memcpy(e->data, l->kernel + start, size);
    e->base = load_addr;
    e->size = memory;
    e->entry = loader_get32(header + 28);
    return 0;
}

/* -initrd's modules into the tail, then their list: its address and length. */
static int add_modules(const struct loader *l, struct tail *t, u32 *count, u32 *list)
{
    u8 table[MAX_MODULES * 16] = {0};
    const char *text = l->initrd_path;
    unsigned n = 0;
    while (text && *text) {
        char string[4096];
        size_t len = 0;
        for (; *text; text++) {
            if (*text == ',') {
                if (text[1] != ',') break;
                text++;
            }
            if (len + 1 < sizeof(string)) string[len++] = *text;
        }
        string[len] = 0;
        if (*text) text++;
        if (n == MAX_MODULES) return bad(l, "too many modules");

        const char *space = strchr(string, ' ');
        char *path = strndup(string, space ? (size_t)(space - string) : len);
        size_t size = 0;
        u8 *data = path ? loader_read_file(path, "module", 0x80000000u, &size) : NULL;
        free(path);
        if (!data) return -EIO;
        u64 at = tail_add(t, data, size, GUEST_PAGE_SIZE);
        free(data);
        u64 name = at ? tail_add(t, string, len + 1, 1) : 0;
        if (!name) return bad(l, "out of memory");
        u8 *entry = table + 16 * n++;
        loader_put32(entry, (u32)at);
        loader_put32(entry + 4, (u32)(at + size));
        loader_put32(entry + 8, (u32)name);
    }
    *count = n;
    u64 at = n ? tail_add(t, table, 16u * n, 16) : 0;
    if (n && !at) return bad(l, "out of memory");
    *list = (u32)at;
    return 0;
}

static int add_items(struct loader *l, const struct elf_image *e, struct tail *t)
{
    struct boot_block *b = calloc(1, sizeof(*b));
    char *cmdline = NULL;
    int err = -ENOMEM;
    if (!b || asprintf(&cmdline, "%s%s%s", l->kernel_path, *l->cmdline ? " " : "", l->cmdline) < 0) {
        free(b);
        return bad(l, "out of memory");
    }
    b->entry = (u32)e->entry;
    b->eax = LOADER_MAGIC;
    b->ebx = BOOT_BLOCK_AT(info);
    b->format = BOOT_MAP_MULTIBOOT;
    b->map = BOOT_BLOCK_AT(memory_map);
    b->count_at = BOOT_BLOCK_AT(info.multiboot.mmap_length);
    b->mem_at = BOOT_BLOCK_AT(info.multiboot.mem_lower);
    b->info.multiboot.flags = INFO_MEMORY | INFO_DEVICE | INFO_CMDLINE | INFO_MODULES | INFO_MMAP | INFO_LOADER;
    b->info.multiboot.boot_device = 0x8000ffff; /* first hard disk, no partition */
    b->info.multiboot.mmap_addr = BOOT_BLOCK_AT(memory_map);
    err = add_modules(l, t, &b->info.multiboot.mods_count, &b->info.multiboot.mods_addr);
    if (!err) {
        static const char loader_name[] = "Calque " CALQUE_VERSION;
        b->info.multiboot.cmdline = (u32)tail_add(t, cmdline, strlen(cmdline) + 1, 16);
        b->info.multiboot.boot_loader_name = (u32)tail_add(t, loader_name, sizeof(loader_name), 1);
        if (!b->info.multiboot.cmdline || !b->info.multiboot.boot_loader_name) err = bad(l, "out of memory");
    }
    if (!err && t->base + t->size > l->low_ram - LOADER_FIRMWARE_RESERVE)
        err = bad(l, "the image and its modules do not fit into the guest's memory");
    if (!err) {
        fw_cfg_add_u32(l->fw_cfg, FW_CFG_KERNEL_ADDR, (u32)e->base);
        fw_cfg_add_u32(l->fw_cfg, FW_CFG_KERNEL_SIZE, (u32)e->size);
        fw_cfg_add_bytes(l->fw_cfg, FW_CFG_KERNEL_DATA, e->data, e->size);
        fw_cfg_add_u32(l->fw_cfg, FW_CFG_SETUP_ADDR, (u32)t->base);
        fw_cfg_add_u32(l->fw_cfg, FW_CFG_SETUP_SIZE, (u32)t->size);
        fw_cfg_add_bytes(l->fw_cfg, FW_CFG_SETUP_DATA, t->data, t->size);
        fw_cfg_add_u32(l->fw_cfg, FW_CFG_INITRD_ADDR, BOOT_BLOCK_ADDRESS);
        fw_cfg_add_u32(l->fw_cfg, FW_CFG_INITRD_SIZE, sizeof(*b));
        fw_cfg_add_bytes(l->fw_cfg, FW_CFG_INITRD_DATA, b, sizeof(*b));
    }
    free(cmdline);
    free(b);
    return err;
}

int load_multiboot(struct loader *l)
{
    const u8 *header = find_header(l);
    if (!header) return 1;
    u32 flags = loader_get32(header + 4);
    if (flags & 0xffff & ~(NEED_PAGE_ALIGN | NEED_MEMORY | WANT_VIDEO))
        return bad(l, "its Multiboot header asks for unknown features");

    struct elf_image e = {0};
    int err;
    if (flags & HAS_ADDRESSES)
        err = load_by_header(l, header, &e);
    else if (elf_image_is(l->kernel, l->kernel_size))
        err = elf_image_load(&e, l->kernel_path, l->kernel, l->kernel_size, l->low_ram);
    else
        err = bad(l, "a Multiboot image that is neither ELF nor has addresses in its header");
    if (err) return err;

    /* Behind the image; never between the firmware's areas below 1 MiB. */
    struct tail t = {.base = (e.base + e.size + GUEST_PAGE_MASK) & ~GUEST_PAGE_MASK};
    if (t.base < 0x100000) t.base = 0x100000;
    if (e.entry > 0xffffffff) err = bad(l, "its entry point is above 4 GiB");
    if (!err) err = add_items(l, &e, &t);
    free(e.data);
    free(t.data);
    l->rom = rom_multiboot;
    l->rom_size = rom_multiboot_size;
    l->rom_name = "genroms/multiboot.bin";
    return err;
}
