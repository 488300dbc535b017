/* Disk images: what is in a file, by format, and the worker thread that serves a disk controller from it.
 *
 * A struct disk is synchronous and used by one thread at a time; disk_queue makes a struct block of it. */
#ifndef HOST_DISK_H
#define HOST_DISK_H

#include "core/block.h"
#include "core/types.h"
#include "host/event_loop.h"

struct disk;

/* A format. Offsets and sizes are multiples of BLOCK_SECTOR and inside the disk. 0 or -errno. */
struct disk_ops {
    const char *name; /* as in format= */
    int (*read)(struct disk *d, u64 offset, u8 *buf, size_t size);
    int (*write)(struct disk *d, u64 offset, const u8 *buf, size_t size);
    /* All of it in one go, or not 0, after which the others are tried. NULL: never. */
    int (*vector)(struct disk *d, u64 offset, const struct iovec *v, unsigned count, size_t size, bool write);
    int (*flush)(struct disk *d);                         /* to stable storage */
    int (*discard)(struct disk *d, u64 offset, u64 size); /* NULL: does nothing */
    int (*idle)(struct disk *d);  /* nothing was asked for a second; NULL: nothing to do */
    int (*close)(struct disk *d); /* writes what is pending, frees */
};

/* First member of each format's private struct. */
struct disk {
    const struct disk_ops *ops; /* the format */
    u64 size;                   /* bytes, a multiple of BLOCK_SECTOR */
    bool readonly;              /* no writes */
};

enum disk_format { DISK_AUTO, DISK_RAW, DISK_QCOW2, DISK_VMDK, DISK_VHD /* VHDX, too */ };

/* What becomes of a request that failed. */
enum disk_action {
    DISK_REPORT, /* the guest is told */
    DISK_IGNORE, /* the guest is told that all is well */
    DISK_STOP,   /* it waits for disk_queue_retry(), and all later ones behind it */
    DISK_ENOSPC, /* STOP where the host's disk is full, else REPORT */
};

struct disk_config {
    const char *option;      /* "-hda", for messages */
    const char *path;        /* the image */
    enum disk_format format; /* AUTO: by its contents */
    bool readonly;           /* opened read-only */
    bool snapshot;           /* writes go to a temporary file */
    bool unsafe;             /* cache=unsafe: flushes are ignored */
    bool discard;            /* discard=unmap */
    bool direct;             /* cache=none and directsync: past the host's page cache */
    enum disk_action read_error, write_error; /* rerror=, and werror= for all others */
    /* A request failed, and DISK_REPORT or DISK_STOP is what is done; with the machine lock; may be NULL. */
    void (*on_error)(void *opaque, const struct block_request *r, enum disk_action done);
    void *opaque;            /* its first argument */
};

/* Open an image, with the formats it is made of. NULL with one message that names option and file. */
struct disk *disk_open(const struct disk_config *config);
/* 0, or the error of the last writes, with a message. */
int disk_close(struct disk *d);
/* "raw", "qcow2", "vmdk", "vpc", "vhdx"; false: unknown. */
bool disk_format_parse(const char *name, enum disk_format *format);

/* ---- a worker thread (disk_queue.c) ---- */

/* Takes the disk over. NULL with a message; then the disk is closed. */
struct block *disk_queue_create(struct disk *d, const struct disk_config *config, struct event_loop *loop);
/* Finish all requests, write everything back, close the disk. Requests' done() is still called. */
int disk_queue_destroy(struct block *b);

/* The error of the request that waits because of DISK_STOP, else 0; and have it tried again. With the machine lock. */
int disk_queue_stuck(struct block *b);
void disk_queue_retry(struct block *b);
/* The image's file, and the name of its format. */
const char *disk_queue_path(const struct block *b);
const char *disk_queue_format(const struct block *b);

/* ---- formats ---- */

/* They take fd over, in any case. NULL with a message. */
struct disk *disk_raw_open(int fd, const struct disk_config *config, bool probed);
struct disk *disk_qcow2_open(int fd, const struct disk_config *config, int depth);
/* VMDK and VHD, for reading. */
struct disk *disk_foreign_open(int fd, const struct disk_config *config, enum disk_format format);
/* Writes go to a temporary file; takes base over. */
struct disk *disk_overlay_open(struct disk *base, const struct disk_config *config);
/* disk_open() for the backing file of another image. */
struct disk *disk_open_backing(const struct disk_config *config, int depth);

/* ---- helpers ---- */

/* All bytes; what is behind the end of the file reads as zero. 0 or -errno. The file may be open with O_DIRECT. */
int disk_pread(int fd, u64 offset, void *buf, size_t size);
int disk_pwrite(int fd, u64 offset, const void *buf, size_t size);
/* Between the file and pieces of memory, size bytes in all, in one go; -EAGAIN: not all, or none. */
int disk_vector(int fd, u64 offset, const struct iovec *v, unsigned count, size_t size, bool write);
/* Would an image with this first sector be taken for a raw one when nobody says what it is? */
bool disk_looks_raw(const u8 *head);
/* Large reads from what the host's page cache has of a file, by a mapping (disk_map.c). */
struct disk_map {
    u8 *base;    /* of the file, from its start; NULL: it cannot be mapped, and nothing is read so */
    size_t size; /* bytes mapped, 0 then */
    u64 held;    /* bytes of it that are in use for us, at most, when it is a large one */
};
/* size: of the part that is read so; it may be more than there is yet. */
void disk_map_create(struct disk_map *m, int fd, u64 size);
void disk_map_destroy(struct disk_map *m);
/* All of it into these pieces, size bytes in all; false: some of it is not there, and the pieces have anything. */
bool disk_map_read(struct disk_map *m, u64 offset, const struct iovec *v, unsigned count, size_t size);
/* Tell other programs, by locks on bytes of the file, that it is read or written; refuse what does not go
 * together. 0, or -EAGAIN when another process has it. */
int disk_lock(int fd, bool write);

#endif
