/* VMDK, VHD and VHDX images, read by libvmdk and libvhdi; nothing is written. Leaves out images that stand on others. */
#include "host/disk.h"

#include <errno.h>
#include <libvhdi.h>
#include <libvmdk.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct disk_foreign {
    struct disk disk;       /* must stay first */
    libvmdk_handle_t *vmdk; /* the image, or NULL */
    libvhdi_file_t *vhd;    /* likewise, VHD and VHDX */
    int fd;                 /* open for the sake of the lock */
};

static int foreign_read(struct disk *d, u64 offset, u8 *buf, size_t size)
{
    struct disk_foreign *f = (struct disk_foreign *)d;
    while (size) {
        ssize_t n = f->vmdk ? libvmdk_handle_read_buffer_at_offset(f->vmdk, buf, size, (off64_t)offset, NULL)
                            : libvhdi_file_read_buffer_at_offset(f->vhd, buf, size, (off64_t)offset, NULL);
        if (n <= 0) return -EIO;
        buf += n;
        offset += (u64)n;
        size -= (size_t)n;
    }
    return 0;
}

static int foreign_write(struct disk *d, u64 offset, const u8 *buf, size_t size)
{
    (void)d;
    (void)offset;
    (void)buf;
    (void)size;
    return -EROFS;
}

static int foreign_flush(struct disk *d)
{
    (void)d;
    return 0;
}

static int foreign_close(struct disk *d)
{
    struct disk_foreign *f = (struct disk_foreign *)d;
    if (f->vmdk) {
        libvmdk_handle_close(f->vmdk, NULL);
        libvmdk_handle_free(&f->vmdk, NULL);
    }
    if (f->vhd) {
        libvhdi_file_close(f->vhd, NULL);
        libvhdi_file_free(&f->vhd, NULL);
    }
    close(f->fd);
    free(f);
    return 0;
}

#define FOREIGN_OPS(format)                                                                                                \
    {                                                                                                                      \
        .name = format, .read = foreign_read, .write = foreign_write, .flush = foreign_flush, .close = foreign_close       \
    }
static const struct disk_ops vmdk_ops = FOREIGN_OPS("vmdk"), vhd_ops = FOREIGN_OPS("vpc"), vhdx_ops = FOREIGN_OPS("vhdx");

static bool open_vmdk(struct disk_foreign *f, const char *path, size64_t *size)
{
    f->disk.ops = &vmdk_ops;
    return libvmdk_handle_initialize(&f->vmdk, NULL) == 1 &&
           libvmdk_handle_open(f->vmdk, path, LIBVMDK_OPEN_READ, NULL) == 1 &&
           libvmdk_handle_open_extent_data_files(f->vmdk, NULL) == 1 &&
           libvmdk_handle_get_media_size(f->vmdk, size, NULL) == 1;
}

static bool open_vhd(struct disk_foreign *f, const char *path, size64_t *size)
{
    u8 parent[16];
    int type = 0;
    if (libvhdi_file_initialize(&f->vhd, NULL) != 1 || libvhdi_file_open(f->vhd, path, LIBVHDI_OPEN_READ, NULL) != 1 ||
        libvhdi_file_get_file_type(f->vhd, &type, NULL) != 1 ||
        libvhdi_file_get_parent_identifier(f->vhd, parent, sizeof(parent), NULL) != 0)
        return false;
    if (type == LIBVHDI_FILE_TYPE_VHDX) f->disk.ops = &vhdx_ops;
    return libvhdi_file_get_media_size(f->vhd, size, NULL) == 1;
}

struct disk *disk_foreign_open(int fd, const struct disk_config *config, enum disk_format format)
{
    struct disk_foreign *f = calloc(1, sizeof(*f));
    size64_t size = 0;
    if (!f) {
        fprintf(stderr, "calque: out of memory\n");
        close(fd);
        return NULL;
    }
    f->disk = (struct disk){.ops = &vhd_ops, .readonly = true};
    f->fd = fd;
    if (!(format == DISK_VMDK ? open_vmdk(f, config->path, &size) : open_vhd(f, config->path, &size))) {
        fprintf(stderr, "calque: %s %s: not a %s image that can be read (qemu-img convert may help)\n", config->option,
                config->path, format == DISK_VMDK ? "VMDK" : "VHD or VHDX");
        foreign_close(&f->disk);
        return NULL;
    }
    f->disk.size = size & ~(u64)(BLOCK_SECTOR - 1);
    return &f->disk;
}
