// build/tests/test_loader
/* Direct boot: which fw_cfg items a kernel becomes, and that no damaged file is trusted. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bus.h"
#include "devices/fw_cfg.h"
#include "machine/boot_block.h"
#include "machine/loader.h"

#define LOW_RAM (64u << 20)

static char dir[] = "/tmp/calque-loader-XXXXXX";
static char path[64], initrd_path[64];
static struct bus *ports, *memory;
static struct fw_cfg *fw_cfg;
static struct loader loader;

static void setup(void)
{
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/kernel", dir);
    snprintf(initrd_path, sizeof(initrd_path), "%s/initrd", dir);
    ports = bus_create("io", 0x10000);
    memory = bus_create("memory", 1ull << 52);
    fw_cfg = fw_cfg_create(ports, memory);
    loader = (struct loader){.fw_cfg = fw_cfg, .low_ram = LOW_RAM, .kernel_path = path, .cmdline = ""};
}

static void teardown(void)
{
    struct device *d = fw_cfg_device(fw_cfg);
    d->cls->destroy(d);
    bus_destroy(ports);
    bus_destroy(memory);
    unlink(path);
    unlink(initrd_path);
    rmdir(dir);
}

TestSuite(loader, .init = setup, .fini = teardown, .timeout = 200);

static void put_file(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(name, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(data, 1, size, f), size);
    fclose(f);
}

static u32 item32(u16 key)
{
    size_t size;
    const u8 *p = fw_cfg_find(fw_cfg, key, &size);
    cr_assert_not_null(p, "item %#x", key);
    cr_assert_eq(size, 4);
    return loader_get32(p);
}

/* ---- Linux ---- */

#define SETUP_SIZE (5 * 512)
#define PAYLOAD    4096

static u8 linux_image[SETUP_SIZE + PAYLOAD];

static void make_linux(u16 protocol, u8 loadflags)
{
    u8 *k = linux_image;
    memset(k, 0, sizeof(linux_image));
    k[0x1f1] = 4;
    loader_put32(k + 0x1f4, PAYLOAD / 16);
    loader_put16(k + 0x1fe, 0xaa55);
    memcpy(k + 0x202, "HdrS", 4);
    loader_put16(k + 0x206, protocol);
    k[0x211] = loadflags;
    loader_put32(k + 0x22c, 0x7fffffff);
    loader_put32(k + 0x238, 255);
    memset(k + SETUP_SIZE, 0x5a, PAYLOAD);
    put_file(path, k, sizeof(linux_image));
}

Test(loader, bzimage)
{
    static const u8 initrd[5000] = {1, 2, 3};
    make_linux(0x20f, 1);
    put_file(initrd_path, initrd, sizeof(initrd));
    loader.initrd_path = initrd_path;
    loader.cmdline = "console=ttyS0 vga=ask";
    cr_assert_eq(load_kernel(&loader), 0);

    cr_assert_eq(item32(FW_CFG_SETUP_ADDR), 0x10000);
    cr_assert_eq(item32(FW_CFG_SETUP_SIZE), SETUP_SIZE);
    cr_assert_eq(item32(FW_CFG_KERNEL_ADDR), 0x100000);
    cr_assert_eq(item32(FW_CFG_KERNEL_SIZE), PAYLOAD);
    cr_assert_eq(item32(FW_CFG_CMDLINE_ADDR), 0x20000);
    u32 at = item32(FW_CFG_INITRD_ADDR);
    cr_assert_eq(at & GUEST_PAGE_MASK, 0);
    cr_assert_leq(at + sizeof(initrd), LOW_RAM - LOADER_FIRMWARE_RESERVE);
    cr_assert_gt(at + sizeof(initrd), LOW_RAM - LOADER_FIRMWARE_RESERVE - 0x2000, "as high as it goes");

    size_t size;
    const u8 *setup_data = fw_cfg_find(fw_cfg, FW_CFG_SETUP_DATA, &size);
    cr_assert_eq(size, SETUP_SIZE);
    cr_assert_eq(setup_data[0x210], 0xb0, "type_of_loader");
    cr_assert(setup_data[0x211] & 0x80, "CAN_USE_HEAP");
    cr_assert_eq(loader_get32(setup_data + 0x228), 0x20000, "cmd_line_ptr");
    cr_assert_eq(loader_get16(setup_data + 0x224), 0xfe00, "heap_end_ptr");
    cr_assert_eq(loader_get32(setup_data + 0x218), at);
    cr_assert_eq(loader_get32(setup_data + 0x21c), sizeof(initrd));
    cr_assert_eq(loader_get16(setup_data + 0x1fa), 0xfffd, "vid_mode");
    const u8 *cmdline = fw_cfg_find(fw_cfg, FW_CFG_CMDLINE_DATA, &size);
    cr_assert_str_eq((const char *)cmdline, loader.cmdline);
    const u8 *kernel = fw_cfg_find(fw_cfg, FW_CFG_KERNEL_DATA, &size);
    cr_assert_eq(size, PAYLOAD);
    cr_assert_eq(kernel[0], 0x5a);
    cr_assert_not_null(fw_cfg_find_file(fw_cfg, "genroms/linuxboot.bin", &size));
}

Test(loader, initrd_stays_below_the_kernels_limit)
{
    static const u8 initrd[100] = {1};
    make_linux(0x203, 1);
    loader_put32(linux_image + 0x22c, 0x1ffffff);
    put_file(path, linux_image, sizeof(linux_image));
    put_file(initrd_path, initrd, sizeof(initrd));
    loader.initrd_path = initrd_path;
    cr_assert_eq(load_kernel(&loader), 0);
    cr_assert_eq(item32(FW_CFG_INITRD_ADDR), 0x1fff000);
}

Test(loader, zimage_of_protocol_2_0)
{
    make_linux(0x200, 0);
    loader.cmdline = "root=/dev/fd0";
    cr_assert_eq(load_kernel(&loader), 0);
    cr_assert_eq(item32(FW_CFG_SETUP_ADDR), 0x90000);
    cr_assert_eq(item32(FW_CFG_KERNEL_ADDR), 0x10000);
    u32 cmdline = item32(FW_CFG_CMDLINE_ADDR);
    size_t size;
    const u8 *setup_data = fw_cfg_find(fw_cfg, FW_CFG_SETUP_DATA, &size);
    cr_assert_eq(loader_get16(setup_data + 0x20), 0xa33f);
    cr_assert_eq(loader_get16(setup_data + 0x22), cmdline - 0x90000);
}

Test(loader, expansion_roms_are_valid)
{
    make_linux(0x20f, 1);
    cr_assert_eq(load_kernel(&loader), 0);
    size_t size;
    const u8 *rom = fw_cfg_find_file(fw_cfg, "genroms/linuxboot.bin", &size);
    u8 sum = 0, pnp_sum = 0;
    for (size_t i = 0; i < size; i++) sum = (u8)(sum + rom[i]);
    cr_assert_eq(sum, 0);
    cr_assert_eq(size, rom[2] * 512u);
    size_t pnp = loader_get16(rom + 0x1a);
    cr_assert(!memcmp(rom + pnp, "$PnP", 4));
    for (size_t i = 0; i < 32; i++) pnp_sum = (u8)(pnp_sum + rom[pnp + i]);
    cr_assert_eq(pnp_sum, 0);
}

/* ---- ELF ---- */

static size_t make_elf(u8 *file, bool is_64, u64 paddr, u64 vaddr, u64 entry)
{
    memset(file, 0, 4096);
    if (is_64) {
        Elf64_Ehdr eh = {.e_machine = EM_X86_64, .e_entry = entry, .e_phoff = 64, .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2};
        Elf64_Phdr ph[2] = {
            {.p_type = PT_LOAD, .p_offset = 0x200, .p_vaddr = vaddr, .p_paddr = paddr, .p_filesz = 16, .p_memsz = 64},
            {.p_type = PT_NOTE, .p_offset = 0x300, .p_filesz = 24, .p_memsz = 24, .p_align = 4}};
        memcpy(eh.e_ident, "\x7f" "ELF\x02\x01\x01", 7);
        memcpy(file, &eh, sizeof(eh));
        memcpy(file + 64, ph, sizeof(ph));
    } else {
        Elf32_Ehdr eh = {.e_machine = EM_386, .e_entry = (u32)entry, .e_phoff = 52, .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 2};
        Elf32_Phdr ph[2] = {
            {.p_type = PT_LOAD, .p_offset = 0x200, .p_vaddr = (u32)vaddr, .p_paddr = (u32)paddr, .p_filesz = 16, .p_memsz = 64},
            {.p_type = PT_NOTE, .p_offset = 0x300, .p_filesz = 24, .p_memsz = 24, .p_align = 4}};
        memcpy(eh.e_ident, "\x7f" "ELF\x01\x01\x01", 7);
        memcpy(file, &eh, sizeof(eh));
        memcpy(file + 52, ph, sizeof(ph));
    }
    memset(file + 0x200, 0x90, 16);
    loader_put32(file + 0x300, 4);
    loader_put32(file + 0x304, 4);
    loader_put32(file + 0x308, 18);
    memcpy(file + 0x30c, "Xen", 4);
    loader_put32(file + 0x310, 0x200010);
    return 0x400;
}

Test(loader, elf_segments_and_entry)
{
    u8 file[4096];
    for (int is_64 = 0; is_64 < 2; is_64++) {
        u64 vaddr = is_64 ? 0xffffffff80200000ull : 0xc0200000;
        size_t size = make_elf(file, is_64, 0x200000, vaddr, vaddr + 8);
        struct elf_image e;
        cr_assert_eq(elf_image_load(&e, "x", file, size, LOW_RAM), 0);
        cr_assert_eq(e.base, 0x200000);
        cr_assert_eq(e.size, 64);
        cr_assert_eq(e.entry, 0x200008, "translated to physical");
        cr_assert_eq(e.pvh_entry, 0x200010);
        cr_assert_eq(e.is_64, is_64);
        cr_assert_eq(e.data[15], 0x90);
        cr_assert_eq(e.data[16], 0);
        free(e.data);
    }
}

Test(loader, elf_in_the_wrong_place)
{
    static const u64 places[] = {0, BOOT_BLOCK_ADDRESS, 0x98000, 0xfffc0, LOW_RAM - 32, 0xfffffff0};
    u8 file[4096];
    cr_redirect_stderr();
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        size_t size = make_elf(file, true, places[i], places[i], places[i]);
        if (places[i] == 0x98000) ((Elf64_Phdr *)(file + 64))->p_memsz = 0x8000;
        struct elf_image e;
        cr_assert_lt(elf_image_load(&e, "x", file, size, LOW_RAM), 0, "%#llx", (unsigned long long)places[i]);
    }
}

Test(loader, pvh_kernel)
{
    u8 file[4096];
    size_t size = make_elf(file, true, 0x200000, 0x200000, 0x200000);
    put_file(path, file, size);
    put_file(initrd_path, "abc", 3);
    loader.initrd_path = initrd_path;
    loader.cmdline = "x";
    cr_assert_eq(load_kernel(&loader), 0);
    size_t block_size, tail_size;
    const struct boot_block *b = (const void *)fw_cfg_find(fw_cfg, FW_CFG_INITRD_DATA, &block_size);
    cr_assert_eq(block_size, sizeof(*b));
    cr_assert_eq(item32(FW_CFG_INITRD_ADDR), BOOT_BLOCK_ADDRESS);
    cr_assert_eq(b->entry, 0x200010);
    cr_assert_eq(b->info.pvh.magic, 0x336ec578);
    cr_assert_eq(b->info.pvh.nr_modules, 1);
    const u8 *tail = fw_cfg_find(fw_cfg, FW_CFG_SETUP_DATA, &tail_size);
    u64 base = item32(FW_CFG_SETUP_ADDR);
    cr_assert_str_eq((const char *)tail + (b->info.pvh.cmdline - base), "x");
    const u8 *module = tail + (b->info.pvh.modlist - base);
    cr_assert_eq(loader_get64(module), base);
    cr_assert_eq(loader_get64(module + 8), 3);
    cr_assert(!memcmp(tail, "abc", 3));
}

/* Every damaged byte and every length must be survived; the sanitizers see what goes wrong. */
Test(loader, damaged_files)
{
    u8 good[4096], file[4096];
    cr_redirect_stderr();
    unsigned accepted = 0;
    for (int is_64 = 0; is_64 < 2; is_64++) {
        size_t size = make_elf(good, is_64, 0x200000, 0x200000, 0x200000);
        for (size_t i = 0; i < 0x320; i++) {
            for (unsigned change = 1; change < 256; change <<= 1) {
                memcpy(file, good, size);
                file[i] ^= (u8)change;
                struct elf_image e = {0};
                if (!elf_image_is(file, size)) continue;
                if (!elf_image_load(&e, "x", file, size, LOW_RAM)) {
                    accepted++;
                    cr_assert_leq(e.base + e.size, LOW_RAM);
                    free(e.data);
                }
            }
        }
        for (size_t length = 0; length < size; length++) {
            u8 *exact = malloc(length + 1); /* so that reading beyond is seen */
            memcpy(exact, good, length);
            exact = realloc(exact, length ? length : 1);
            struct elf_image e = {0};
            if (length < 0x318 && elf_image_is(exact, length))
                cr_assert_lt(elf_image_load(&e, "x", exact, length, LOW_RAM), 0, "%zu bytes", length);
            free(exact);
        }
    }
    cr_assert_gt(accepted, 0);
}

Test(loader, damaged_multiboot_headers)
{
    u8 file[256];
    cr_redirect_stderr();
    for (unsigned seed = 0; seed < 3000; seed++) {
        srand(seed);
        for (size_t i = 0; i < sizeof(file); i++) file[i] = (u8)rand();
        u32 flags = 0x10000 | (u32)(rand() & 3);
        u32 load = rand() % 4 ? 0x100000u + ((u32)rand() & 0xfff) : (u32)rand() * 2u;
        loader_put32(file, 0x1badb002);
        loader_put32(file + 4, flags);
        loader_put32(file + 8, 0u - 0x1badb002u - flags);
        loader_put32(file + 12, load + (rand() % 4 ? 0 : (u32)rand()));
        loader_put32(file + 16, load);
        loader_put32(file + 20, rand() % 2 ? 0 : load + (u32)(rand() % 300));
        loader_put32(file + 24, rand() % 2 ? 0 : load + (u32)(rand() % 600));
        put_file(path, file, sizeof(file));
        if (!load_kernel(&loader)) {
            cr_assert_gt(item32(FW_CFG_KERNEL_ADDR), BOOT_BLOCK_ADDRESS);
            cr_assert_leq((u64)item32(FW_CFG_KERNEL_ADDR) + item32(FW_CFG_KERNEL_SIZE), LOW_RAM);
        }
    }
}
