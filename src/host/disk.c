/* Opening disk images: permissions, locks, format detection, layers. */
#define _GNU_SOURCE
#include "host/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKING_DEPTH 32

/* ---- O_DIRECT: buffers, offsets and sizes have to be aligned, or there is EINVAL ---- */

#define DIRECT_ALIGN  512u /* of offsets, in the file */
#define DIRECT_BOUNCE (1u << 20)

static bool is_direct(int fd) { return errno == EINVAL && fcntl(fd, F_GETFL) & O_DIRECT; }

/* DEVIATION: where blocks are larger than DIRECT_ALIGN, all goes through the page cache from then on. */
static void give_up_direct(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT); }

static int plain_io(int fd, u64 offset, u8 *buf, size_t size, bool write)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = write ? pwrite(fd, buf + done, size - done, (off_t)(offset + done))
                          : pread(fd, buf + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && is_direct(fd)) {
            give_up_direct(fd);
            continue;
        }
        if (n < 0) return -errno;
        if (n == 0 && write) return -ENOSPC;
        if (n == 0) break;
        done += (size_t)n;
    }
    memset(buf + done, 0, size - done); /* behind the end; nothing when all was moved */
    return 0;
}

/* Through an aligned buffer; a write of parts of blocks reads the others first. */
static int bounce(int fd, u64 offset, u8 *buf, size_t size, bool write)
{
    u8 *aligned = aligned_alloc(4096, DIRECT_BOUNCE);
    int err = aligned ? 0 : -ENOMEM;
    while (size && !err) {
        u64 within = offset % DIRECT_ALIGN;
        size_t n = MIN(size, (size_t)(DIRECT_BOUNCE - DIRECT_ALIGN));
        size_t whole = (within + n + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN;
        if (!write || whole != n) err = plain_io(fd, offset - within, aligned, whole, false);
        if (!err && write) {
            memcpy(aligned + within, buf, n);
            err = plain_io(fd, offset - within, aligned, whole, true);
        } else if (!err) {
            memcpy(buf, aligned + within, n);
        }
        buf += n;
        offset += n;
        size -= n;
    }
    free(aligned);
    return err;
}

int disk_pread(int fd, u64 offset, void *buf, size_t size)
{
    u8 *to = buf;
    while (size) {
        ssize_t n = pread(fd, to, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && is_direct(fd)) return bounce(fd, offset, to, size, false);
        if (n < 0) return -errno;
        if (n == 0) {
            memset(to, 0, size);
            return 0;
        }
        to += n;
        offset += (u64)n;
        size -= (size_t)n;
    }
    return 0;
}

int disk_pwrite(int fd, u64 offset, const void *buf, size_t size)
{
    const u8 *from = buf;
    while (size) {
        ssize_t n = pwrite(fd, from, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && is_direct(fd)) return bounce(fd, offset, (u8 *)from, size, true);
        if (n < 0) return -errno;
        if (n == 0) return -ENOSPC;
        from += n;
        offset += (u64)n;
        size -= (size_t)n;
    }
    return 0;
}

int disk_vector(int fd, u64 offset, const struct iovec *v, unsigned count, size_t size, bool write)
{
    ssize_t n = write ? pwritev(fd, v, (int)count, (off_t)offset) : preadv(fd, v, (int)count, (off_t)offset);
    return n == (ssize_t)size ? 0 : -EAGAIN;
}

/* ---- locks ---- */

/* The protocol of the programs that commonly share such images: a shared lock on byte 100 + n says "I use
 * permission n", one on 200 + n "nobody else may use it". Permission 0: consistent reads, 1: writes, 3:
 * resizing. */
#define LOCK_USE    100
#define LOCK_REFUSE 200

static int lock_byte(int fd, int byte)
{
    struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

static bool locked(int fd, int byte)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

int disk_lock(int fd, bool write)
{
    u8 use = write ? 0x0b : 0x01, refuse = 0x0a;
    for (int n = 0; n < 4; n++) {
        int err = 0;
        if (use & 1 << n) err = lock_byte(fd, LOCK_USE + n);
        if (!err && refuse & 1 << n) err = lock_byte(fd, LOCK_REFUSE + n);
        if (err == -EAGAIN || err == -EACCES) return -EAGAIN;
        if (err) return 0; /* a file system without such locks */
    }
    for (int n = 0; n < 4; n++) {
        if (use & 1 << n && locked(fd, LOCK_REFUSE + n)) return -EAGAIN;
        if (refuse & 1 << n && locked(fd, LOCK_USE + n)) return -EAGAIN;
    }
    return 0;
}

/* ---- formats ---- */

bool disk_format_parse(const char *name, enum disk_format *format)
{
    if (!strcmp(name, "raw"))
        *format = DISK_RAW;
    else if (!strcmp(name, "qcow2"))
        *format = DISK_QCOW2;
    else if (!strcmp(name, "vmdk"))
        *format = DISK_VMDK;
    else if (!strcmp(name, "vpc") || !strcmp(name, "vhdx"))
        *format = DISK_VHD;
    else
        return false;
    return true;
}

/* What the first sector of an image says that it is; AUTO: a format that is not supported, of that name. */
static enum disk_format format_of(const u8 *head, const char **name)
{
    static const struct {
        const char *magic, *name;
        size_t length, offset;
        enum disk_format format;
    } formats[] = {
        {"QFI\xfb", "qcow2", 4, 0, DISK_QCOW2},
        {"KDMV", "VMDK", 4, 0, DISK_VMDK},    {"COWD", "VMDK", 4, 0, DISK_VMDK}, {"# Disk DescriptorFile", "VMDK", 21, 0, DISK_VMDK},
        {"vhdxfile", "VHDX", 8, 0, DISK_VHD}, {"conectix", "VHD", 8, 0, DISK_VHD},
        {"\x7f\x10\xda\xbe", "VDI", 4, 64, DISK_AUTO}, {"QED", "QED", 4, 0, DISK_AUTO},
    };
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (memcmp(head + formats[i].offset, formats[i].magic, formats[i].length)) continue;
        *name = formats[i].name;
        return formats[i].format;
    }
    *name = "raw";
    return DISK_RAW;
}

bool disk_looks_raw(const u8 *head)
{
    const char *name;
    return format_of(head, &name) == DISK_RAW;
}

static int probe(int fd, const struct disk_config *c, enum disk_format *format)
{
    u8 head[BLOCK_SECTOR];
    const char *name;
    int err = disk_pread(fd, 0, head, sizeof(head));
    if (err) {
        fprintf(stderr, "calque: %s %s: cannot read: %s\n", c->option, c->path, strerror(-err));
        return err;
    }
    *format = format_of(head, &name);
    if (*format == DISK_AUTO) {
        fprintf(stderr, "calque: %s %s: %s images not supported; qemu-img convert -O qcow2 makes one that is (format=raw takes the file as it is)\n",
                c->option, c->path, name);
        return -ENOTSUP;
    }
    if (*format == DISK_QCOW2 && (head[7] < 2 || head[4] || head[5] || head[6])) {
        fprintf(stderr, "calque: %s %s: qcow version 1 not supported\n", c->option, c->path);
        return -ENOTSUP;
    }
    return 0;
}

static int open_file(const struct disk_config *c, bool write)
{
    int fd = open(c->path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | (c->direct ? O_DIRECT : 0));
    struct stat st;
    if (fd < 0) {
        int err = -errno;
        if (err == -EINVAL && c->direct) {
            fprintf(stderr, "calque: %s %s: its file system does not know O_DIRECT (cache=none, directsync)\n", c->option, c->path);
            return err;
        }
        fprintf(stderr, "calque: %s %s: %s\n", c->option, c->path, strerror(errno));
        return err;
    }
    if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))) {
        fprintf(stderr, "calque: %s %s: neither a file nor a block device\n", c->option, c->path);
        close(fd);
        return -EINVAL;
    }
    if (disk_lock(fd, write) < 0) {
        fprintf(stderr, "calque: %s %s: in use by another process (cannot get \"%s\" lock)\n", c->option,
                c->path, write ? "write" : "read");
        close(fd);
        return -EAGAIN;
    }
    return fd;
}

struct disk *disk_open_backing(const struct disk_config *config, int depth)
{
    enum disk_format format = config->format;
    if (depth > BACKING_DEPTH) {
        fprintf(stderr, "calque: %s %s: more than %d backing files\n", config->option, config->path,
                BACKING_DEPTH);
        return NULL;
    }
    int fd = open_file(config, !config->readonly);
    if (fd < 0) return NULL;
    if (format == DISK_AUTO && probe(fd, config, &format) < 0) {
        close(fd);
        return NULL;
    }
    if (format == DISK_QCOW2) return disk_qcow2_open(fd, config, depth);
    if (format != DISK_RAW && !config->readonly) {
        fprintf(stderr, "calque: %s %s: an image of this format can only be read: give readonly=on or snapshot=on, or convert it\n",
                config->option, config->path);
        close(fd);
        return NULL;
    }
    if (format != DISK_RAW) return disk_foreign_open(fd, config, format);
    return disk_raw_open(fd, config, config->format == DISK_AUTO);
}

struct disk *disk_open(const struct disk_config *config)
{
    if (!config->snapshot) return disk_open_backing(config, 0);
    struct disk_config base = *config;
    base.readonly = true;
    struct disk *d = disk_open_backing(&base, 0);
    return d ? disk_overlay_open(d, config) : NULL;
}

int disk_close(struct disk *d) { return d ? d->ops->close(d) : 0; }
