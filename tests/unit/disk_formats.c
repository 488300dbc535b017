/* build/tests/test_disk_formats: images in others' formats, made by qemu-img. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/disk.h"

#define SIZE (4u << 20)

static char dir[64];
static u8 *model;

static int sh(const char *format, const char *a)
{
    char command[600], whole[700];
    snprintf(command, sizeof(command), format, a);
    snprintf(whole, sizeof(whole), "cd %s && %s", dir, command);
    return system(whole);
}

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/calque-formats-XXXXXX");
    cr_assert(mkdtemp(dir));
    if (system("qemu-img --version >/dev/null 2>&1")) cr_skip_test("no qemu-img");
    model = calloc(1, SIZE);
    for (u32 i = 0, x = 1; i < SIZE / 2; i++) {
        x = x * 1664525 + 1013904223;
        if (i % 200000 < 150000) model[i] = (u8)(x >> (24 + (i >> 16) % 3)); /* holes, and what can be compressed */
    }
    char path[100];
    snprintf(path, sizeof(path), "%s/raw", dir);
    FILE *f = fopen(path, "w");
    cr_assert(f && fwrite(model, 1, SIZE, f) == SIZE && !fclose(f));
}

static void teardown(void)
{
    sh("rm -rf %s", dir);
    free(model);
}

TestSuite(disk_formats, .init = setup, .fini = teardown, .timeout = 200);

static struct disk *open_image(enum disk_format format, bool readonly, bool snapshot)
{
    char path[100];
    snprintf(path, sizeof(path), "%s/image", dir);
    struct disk_config c = {.option = "-hda", .path = path, .format = format, .readonly = readonly, .snapshot = snapshot};
    return disk_open(&c);
}

static void reads_as_it_should(struct disk *d)
{
    u8 *got = malloc(SIZE);
    cr_assert(d);
    cr_assert_geq(d->size, SIZE);
    cr_assert_eq(d->ops->read(d, 0, got, SIZE), 0);
    cr_assert(!memcmp(got, model, SIZE));
    cr_assert_eq(d->ops->read(d, 1536, got, 70000 / 512 * 512), 0);
    cr_assert(!memcmp(got, model + 1536, 70000 / 512 * 512));
    cr_assert_eq(disk_close(d), 0);
    free(got);
}

/* Made with these options, found out and read; writes are refused unless they go elsewhere. */
static void foreign(const char *options, enum disk_format format, const char *name)
{
    cr_assert_eq(sh("qemu-img convert -f raw -O %s raw image", options), 0);
    cr_assert_null(open_image(format, false, false), "opened for writing");
    struct disk *d = open_image(format, true, false);
    if (!d) cr_skip_test("built without libvmdk and libvhdi");
    cr_assert_str_eq(d->ops->name, name);
    u8 sector[512] = {0};
    cr_assert_lt(d->ops->write(d, 0, sector, 512), 0);
    reads_as_it_should(d);
    d = open_image(format, false, true);
    cr_assert(d);
    cr_assert_eq(d->ops->write(d, 512, sector, 512), 0);
    memset(model + 512, 0, 512);
    reads_as_it_should(d);
}

Test(disk_formats, vmdk) { foreign("vmdk", DISK_AUTO, "vmdk"); }
Test(disk_formats, vmdk_stream) { foreign("vmdk -o subformat=streamOptimized", DISK_AUTO, "vmdk"); }
Test(disk_formats, vmdk_flat) { foreign("vmdk -o subformat=monolithicFlat", DISK_AUTO, "vmdk"); }
Test(disk_formats, vhd) { foreign("vpc -o force_size=on", DISK_AUTO, "vpc"); }
Test(disk_formats, vhd_fixed) { foreign("vpc -o subformat=fixed,force_size=on", DISK_VHD, "vpc"); }
Test(disk_formats, vhdx) { foreign("vhdx", DISK_AUTO, "vhdx"); }

Test(disk_formats, qcow2_zstd)
{
    cr_assert_eq(sh("qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd %s image", "raw"), 0);
    struct disk *d = open_image(DISK_AUTO, false, false);
    cr_assert(d);
    u8 sector[512];
    memset(sector, 0x77, 512);
    cr_assert_eq(d->ops->write(d, 65536 + 512, sector, 512), 0); /* the rest of the cluster is unpacked */
    memcpy(model + 65536 + 512, sector, 512);
    reads_as_it_should(d);
    cr_assert_eq(sh("qemu-img check -q %s", "image"), 0);
}

Test(disk_formats, damaged)
{
    static const char *const kinds[] = {"vmdk", "vhdx", "vpc"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        cr_assert_eq(sh("qemu-img convert -f raw -O %s raw image", kinds[i]), 0);
        cr_assert_eq(sh("truncate -s %s image", "70000"), 0);
        struct disk *d = open_image(DISK_AUTO, true, false);
        u8 *got = malloc(SIZE);
        if (d && d->size >= SIZE) cr_expect_neq(d->ops->read(d, 0, got, SIZE), 0, "%s", kinds[i]);
        disk_close(d);
        free(got);
    }
    cr_assert_eq(sh("qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd %s image", "raw"), 0);
    cr_assert_eq(sh("%s /dev/zero | dd of=image bs=64k conv=notrunc seek=5 2>/dev/null", "head -c 300000"), 0);
    struct disk *d = open_image(DISK_AUTO, true, false);
    u8 *got = malloc(SIZE);
    cr_assert(d);
    cr_expect_eq(d->ops->read(d, 0, got, SIZE), -EIO);
    disk_close(d);
    free(got);
}
