/* Linux kernels: zImage and bzImage, by the real-mode boot protocol.
 *
 * Where the pieces go is the usual layout: set-up code at 0x10000 with the command line at 0x20000 (old kernels:
 * 0x90000 with the command line behind it), the kernel at 1 MiB (zImage: 0x10000), the initial RAM disk as high in
 * memory as the kernel and firmware permit.
 *
 * Reference: [boot.rst] Linux Documentation/x86/boot.rst. */
#include "machine/loader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/roms.h"

/* Fields of the set-up header [boot.rst] "Details of Header Fields". */
#define OLD_CMDLINE_MAGIC  0x20  /* outside the header, protocols before 2.02 */
#define OLD_CMDLINE_OFFSET 0x22
#define SETUP_SECTS        0x1f1
#define SYSSIZE            0x1f4
#define VID_MODE           0x1fa
#define BOOT_FLAG          0x1fe
#define HEADER             0x202
#define VERSION            0x206
#define TYPE_OF_LOADER     0x210
#define LOADFLAGS          0x211
#define RAMDISK_IMAGE      0x218
#define RAMDISK_SIZE       0x21c
#define HEAP_END_PTR       0x224
#define CMD_LINE_PTR       0x228
#define INITRD_ADDR_MAX    0x22c
#define XLOADFLAGS         0x236
#define CMDLINE_SIZE       0x238
#define HEADER_END         0x264

#define LOADED_HIGH  0x01
#define CAN_USE_HEAP 0x80
#define ABOVE_4G     0x02 /* XLOADFLAGS: the RAM disk may be anywhere */

#define LOADER_QEMU 0xb0 /* the boot loader ID that this way of booting has [boot.rst] */
#define OLD_CMDLINE_SIGNATURE 0xa33f

static u32 initrd_limit(const struct loader *l, unsigned protocol)
{
    u64 limit = 0x37ffffff; /* what protocols before 2.03 promise */
    if (protocol >= 0x20c && loader_get16(l->kernel + XLOADFLAGS) & ABOVE_4G)
        limit = 0xffffffff;
    else if (protocol >= 0x203)
        limit = loader_get32(l->kernel + INITRD_ADDR_MAX);
    u64 top = l->low_ram > LOADER_FIRMWARE_RESERVE ? l->low_ram - LOADER_FIRMWARE_RESERVE : 0;
    return (u32)(limit >= top ? top - (top > 0) : limit);
}

/* vga= is the loader's business [boot.rst] "Special Command Line Options". */
static void video_mode(struct loader *l)
{
    const char *at = strstr(l->cmdline, "vga=");
    if (!at || (at != l->cmdline && at[-1] != ' ')) return;
    at += 4;
    u16 mode;
    if (!strncmp(at, "normal", 6))
        mode = 0xffff;
    else if (!strncmp(at, "ext", 3))
        mode = 0xfffe;
    else if (!strncmp(at, "ask", 3))
        mode = 0xfffd;
    else
        mode = (u16)strtoul(at, NULL, 0);
    loader_put16(l->kernel + VID_MODE, mode);
}

static int add_initrd(struct loader *l, unsigned protocol, u64 kernel_end)
{
    if (!l->initrd_path) return 0;
    if (protocol < 0x200) {
        fprintf(stderr, "calque: kernel %s: too old to take the initrd %s\n", l->kernel_path, l->initrd_path);
        return -EINVAL;
    }
    size_t size;
    u8 *initrd = loader_read_file(l->initrd_path, "initrd", 0x80000000u, &size);
    if (!initrd) return -EIO;
    u64 end = (u64)initrd_limit(l, protocol) + 1;
    int err = 0;
    if (size >= end || ((end - size) & ~GUEST_PAGE_MASK) < kernel_end) {
        fprintf(stderr, "calque: initrd %s: too large for the guest's memory (%zu bytes)\n", l->initrd_path, size);
        err = -EINVAL;
    } else {
        u32 address = (u32)((end - size) & ~GUEST_PAGE_MASK);
        loader_put32(l->kernel + RAMDISK_IMAGE, address);
        loader_put32(l->kernel + RAMDISK_SIZE, (u32)size);
        fw_cfg_add_u32(l->fw_cfg, FW_CFG_INITRD_ADDR, address);
        fw_cfg_add_u32(l->fw_cfg, FW_CFG_INITRD_SIZE, (u32)size);
        fw_cfg_add_bytes(l->fw_cfg, FW_CFG_INITRD_DATA, initrd, size);
    }
    free(initrd);
    return err;
}

int load_linux(struct loader *l)
{
    u8 *k = l->kernel;
    if (l->kernel_size < 0x400 || loader_get16(k + BOOT_FLAG) != 0xaa55) return 1;
    if (memcmp(k + HEADER, "HdrS", 4)) return 1;

    unsigned protocol = loader_get16(k + VERSION);
    size_t setup_size = ((k[SETUP_SECTS] ? k[SETUP_SECTS] : 4) + 1u) * 512;
    bool high = protocol >= 0x200 && k[LOADFLAGS] & LOADED_HIGH;
    u64 payload = l->kernel_size - MIN(setup_size, l->kernel_size);
    u64 announced = protocol >= 0x204 ? 16ull * loader_get32(k + SYSSIZE) : 0; /* rounded up */
    if (payload == 0 || payload + 32 < announced || setup_size < HEADER_END) {
        fprintf(stderr, "calque: kernel %s: the file is truncated\n", l->kernel_path);
        return -EINVAL;
    }

    size_t cmdline_size = strlen(l->cmdline) + 1;
    size_t cmdline_max = protocol >= 0x206 ? (size_t)loader_get32(k + CMDLINE_SIZE) + 1 : 256;
    u32 setup_at = 0x90000, kernel_at = 0x10000, cmdline_at = 0x9a000;
    if (high) {
        setup_at = 0x10000;
        kernel_at = 0x100000;
        cmdline_at = 0x20000;
        cmdline_max = MIN(cmdline_max, 0x10000u);
    } else {
        cmdline_max = MIN(cmdline_max, 0x800u);
        cmdline_at -= (u32)((cmdline_size + 15) & ~15u);
    }
    if (cmdline_size > cmdline_max) {
        fprintf(stderr, "calque: -append: the command line is longer than kernel %s takes (%zu characters)\n",
                l->kernel_path, cmdline_max - 1);
        return -EINVAL;
    }
    u64 kernel_end = kernel_at + payload;
    if (kernel_end > (high ? l->low_ram : setup_at)) {
        fprintf(stderr, "calque: kernel %s: too large for the guest's memory\n", l->kernel_path);
        return -EINVAL;
    }

    if (protocol >= 0x202) {
        loader_put32(k + CMD_LINE_PTR, cmdline_at);
    } else {
        loader_put16(k + OLD_CMDLINE_MAGIC, OLD_CMDLINE_SIGNATURE);
        loader_put16(k + OLD_CMDLINE_OFFSET, (u16)(cmdline_at - setup_at));
    }
    video_mode(l);
    if (protocol >= 0x200) k[TYPE_OF_LOADER] = LOADER_QEMU;
    if (protocol >= 0x201) {
        k[LOADFLAGS] |= CAN_USE_HEAP;
        loader_put16(k + HEAP_END_PTR, (u16)(cmdline_at - setup_at - 0x200));
    }
    int err = add_initrd(l, protocol, high ? kernel_end : 0x100000);
    if (err) return err;

    struct fw_cfg *f = l->fw_cfg;
    fw_cfg_add_u32(f, FW_CFG_CMDLINE_ADDR, cmdline_at);
    fw_cfg_add_u32(f, FW_CFG_CMDLINE_SIZE, (u32)cmdline_size);
    fw_cfg_add_string(f, FW_CFG_CMDLINE_DATA, l->cmdline);
    fw_cfg_add_u32(f, FW_CFG_SETUP_ADDR, setup_at);
    fw_cfg_add_u32(f, FW_CFG_SETUP_SIZE, (u32)MIN(setup_size, l->kernel_size));
    fw_cfg_add_bytes(f, FW_CFG_SETUP_DATA, k, MIN(setup_size, l->kernel_size));
    fw_cfg_add_u32(f, FW_CFG_KERNEL_ADDR, kernel_at);
    fw_cfg_add_u32(f, FW_CFG_KERNEL_SIZE, (u32)payload);
    fw_cfg_add_bytes(f, FW_CFG_KERNEL_DATA, k + setup_size, payload);
    l->rom = rom_linuxboot;
    l->rom_size = rom_linuxboot_size;
    l->rom_name = "genroms/linuxboot.bin";
    return 0;
}
