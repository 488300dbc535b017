/* Raw images: the file, or the block device, is the disk. */
#define _GNU_SOURCE
#include "host/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

struct disk_raw {
    struct disk disk;    /* must stay first */
    int fd;              /* the file */
    struct disk_map map; /* of it, for large reads */
    const char *path;    /* for messages */
    const char *option;  /* likewise */
    bool probed;         /* nobody said that it is raw */
    bool warned;         /* the message about sector 0 was written */
};

static int raw_read(struct disk *d, u64 offset, u8 *buf, size_t size)
{
    struct disk_raw *r = (struct disk_raw *)d;
    if (disk_map_read(&r->map, offset, &(struct iovec){.iov_base = buf, .iov_len = size}, 1, size)) return 0;
    return disk_pread(r->fd, offset, buf, size);
}

static int raw_write(struct disk *d, u64 offset, const u8 *buf, size_t size)
{
    struct disk_raw *r = (struct disk_raw *)d;
    /* A guest that writes the header of another format would have its image taken for that next time, with files of
     * the host's behind it that the guest has chosen. */
    if (r->probed && !offset && size && !disk_looks_raw(buf)) {
        if (!r->warned)
            fprintf(stderr, "calque: %s %s: the guest's write of another format's header is refused; give format=raw\n", r->option,
                    r->path);
        r->warned = true;
        return -EPERM;
    }
    return disk_pwrite(r->fd, offset, buf, size);
}

static int raw_vector(struct disk *d, u64 offset, const struct iovec *v, unsigned count, size_t size, bool write)
{
    struct disk_raw *r = (struct disk_raw *)d;
    if (write && r->probed && !offset) return -EAGAIN;
    if (!write && disk_map_read(&r->map, offset, v, count, size)) return 0;
    return disk_vector(r->fd, offset, v, count, size, write);
}

static int raw_flush(struct disk *d) { return fdatasync(((struct disk_raw *)d)->fd) < 0 ? -errno : 0; }

static int raw_discard(struct disk *d, u64 offset, u64 size)
{
    struct disk_raw *r = (struct disk_raw *)d;
    if (fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) == 0)
        return 0;
    return errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV ? 0 : -errno; /* only a hint */
}

static int raw_close(struct disk *d)
{
    struct disk_raw *r = (struct disk_raw *)d;
    disk_map_destroy(&r->map);
    int err = close(r->fd) < 0 ? -errno : 0;
    free((char *)r->path);
    free((char *)r->option);
    free(r);
    return err;
}

static const struct disk_ops raw_ops = {.name = "raw",
                                        .read = raw_read,
                                        .write = raw_write,
                                        .vector = raw_vector,
                                        .flush = raw_flush,
                                        .discard = raw_discard,
                                        .close = raw_close};

struct disk *disk_raw_open(int fd, const struct disk_config *config, bool probed)
{
    struct disk_raw *r = calloc(1, sizeof(*r));
    off_t size = lseek(fd, 0, SEEK_END);
    if (!r || size < 0) {
        fprintf(stderr, "calque: %s %s: %s\n", config->option, config->path,
                r ? strerror(errno) : "out of memory");
        free(r);
        close(fd);
        return NULL;
    }
    r->disk.ops = &raw_ops;
    /* An odd end is part of a last sector, the rest of which reads as zero. */
    r->disk.size = ((u64)size + BLOCK_SECTOR - 1) & ~(u64)(BLOCK_SECTOR - 1);
    r->disk.readonly = config->readonly;
    r->fd = fd;
    r->path = strdup(config->path);
    r->option = strdup(config->option);
    r->probed = probed;
    disk_map_create(&r->map, fd, r->disk.size);
    return &r->disk;
}
