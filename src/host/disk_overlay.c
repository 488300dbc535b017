/* -snapshot: what the guest writes goes to a temporary file, which nobody else sees and which is gone in the
 * end.
 *
 * The file is sparse and as large as the disk; a bitmap in memory says which clusters are in it. */
#define _GNU_SOURCE
#include "host/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER (64u << 10)

struct disk_overlay {
    struct disk disk;  /* must stay first */
    struct disk *base; /* the image, never written */
    int fd;            /* the temporary file */
    u8 *present;       /* bit per cluster: it is in the file */
    u8 *scratch;       /* one cluster */
};

static bool present(const struct disk_overlay *o, u64 cluster)
{
    return o->present[cluster >> 3] >> (cluster & 7) & 1;
}

static int overlay_read(struct disk *d, u64 offset, u8 *buf, size_t size)
{
    struct disk_overlay *o = (struct disk_overlay *)d;
    while (size) {
        size_t n = MIN(size, CLUSTER - offset % CLUSTER);
        int err = present(o, offset / CLUSTER) ? disk_pread(o->fd, offset, buf, n)
                                               : o->base->ops->read(o->base, offset, buf, n);
        if (err) return err;
        buf += n;
        offset += n;
        size -= n;
    }
    return 0;
}

/* Copy a cluster that is written in part. */
static int fill(struct disk_overlay *o, u64 start)
{
    size_t n = (size_t)MIN((u64)CLUSTER, o->disk.size - start);
    int err = o->base->ops->read(o->base, start, o->scratch, n);
    return err ? err : disk_pwrite(o->fd, start, o->scratch, n);
}

static int overlay_write(struct disk *d, u64 offset, const u8 *buf, size_t size)
{
    struct disk_overlay *o = (struct disk_overlay *)d;
    while (size) {
        u64 cluster = offset / CLUSTER, start = cluster * CLUSTER;
        size_t n = MIN(size, CLUSTER - offset % CLUSTER);
        int err = 0;
        if (!present(o, cluster) && n < MIN((u64)CLUSTER, d->size - start)) err = fill(o, start);
        if (!err) err = disk_pwrite(o->fd, offset, buf, n);
        if (err) return err;
        o->present[cluster >> 3] |= (u8)(1u << (cluster & 7));
        buf += n;
        offset += n;
        size -= n;
    }
    return 0;
}

/* Where all of it goes to, or comes from, one file. */
static int overlay_vector(struct disk *d, u64 offset, const struct iovec *v, unsigned count, size_t size, bool write)
{
    struct disk_overlay *o = (struct disk_overlay *)d;
    u64 first = offset / CLUSTER, last = (offset + size - 1) / CLUSTER, here = 0;
    for (u64 c = first; c <= last; c++) {
        bool whole = c * CLUSTER >= offset && MIN((c + 1) * CLUSTER, d->size) <= offset + size;
        here += present(o, c) || (write && whole);
    }
    if (!here && !write && o->base->ops->vector) return o->base->ops->vector(o->base, offset, v, count, size, false);
    if (here != last - first + 1) return -EAGAIN;
    int err = disk_vector(o->fd, offset, v, count, size, write);
    if (err) return err;
    for (u64 c = first; write && c <= last; c++) o->present[c >> 3] |= (u8)(1u << (c & 7));
    return 0;
}

static int overlay_flush(struct disk *d)
{
    (void)d; /* it does not outlive the process */
    return 0;
}

static int overlay_close(struct disk *d)
{
    struct disk_overlay *o = (struct disk_overlay *)d;
    int err = disk_close(o->base);
    if (o->fd >= 0) close(o->fd);
    free(o->present);
    free(o->scratch);
    free(o);
    return err;
}

static const struct disk_ops overlay_ops = {.name = "snapshot",
                                            .read = overlay_read,
                                            .write = overlay_write,
                                            .vector = overlay_vector,
                                            .flush = overlay_flush,
                                            .close = overlay_close};

static int temporary_file(void)
{
    const char *dir = getenv("TMPDIR");
    if (!dir || !*dir) dir = "/var/tmp"; /* it may become large: not where memory is the medium */
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    char name[4096];
    if (snprintf(name, sizeof(name), "%s/calque-XXXXXX", dir) >= (int)sizeof(name)) return -1;
    fd = mkostemp(name, O_CLOEXEC);
    if (fd >= 0) unlink(name);
    return fd;
}

struct disk *disk_overlay_open(struct disk *base, const struct disk_config *config)
{
    struct disk_overlay *o = calloc(1, sizeof(*o));
    if (!o) {
        fprintf(stderr, "calque: out of memory\n");
        disk_close(base);
        return NULL;
    }
    o->base = base;
    o->disk.ops = &overlay_ops;
    o->disk.size = base->size;
    o->fd = temporary_file();
    o->present = calloc(1, base->size / CLUSTER / 8 + 1);
    o->scratch = malloc(CLUSTER);
    if (o->fd < 0 || !o->present || !o->scratch) {
        fprintf(stderr, "calque: %s %s: cannot create a temporary file for the snapshot: %s\n",
                config->option, config->path, strerror(errno));
        overlay_close(&o->disk);
        return NULL;
    }
    return &o->disk;
}
