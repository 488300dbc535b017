/* What the parts of the qcow2 model share: disk_qcow2.c (clusters, data), disk_qcow2_open.c (header, life),
 * disk_qcow2_meta.c (refcounts, tables, writing them back). */
#ifndef HOST_DISK_QCOW2_H
#define HOST_DISK_QCOW2_H

#include "host/disk.h"

/* L1 and L2 entries [qcow2] "Cluster mapping". */
#define QCOW2_COPIED     (1ull << 63) /* refcount is exactly 1: may be written in place */
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO       1ull /* version 3: reads as zeros */
#define QCOW2_OFFSET     0x00fffffffffffe00ull

/* A table of the image that is in memory. Entries are big-endian, as in the file. */
struct qcow2_table {
    u8 *data;   /* one cluster; NULL: not read yet */
    bool dirty; /* differs from the file */
};

struct disk_qcow2 {
    struct disk disk;     /* must stay first */
    struct disk *backing; /* what unallocated clusters show; NULL: zeros */
    int fd;               /* the file */
    struct disk_map map;  /* of it, for large reads */
    char *option, *path;  /* for messages */
    u32 version;          /* 2 or 3 */
    u32 cluster_bits;     /* log2 of bytes in a cluster */
    u64 cluster;          /* bytes in a cluster */
    u32 refcount_bits;    /* width of a refcount */
    bool zstd;            /* how clusters are compressed: by zstd, not by zlib */
    bool discard;         /* free clusters are given back to the host's file system */

    u64 l1_offset;          /* where the L1 table is */
    u32 l1_size;            /* its entries */
    u64 *l1;                /* it, in host byte order */
    bool l1_dirty;          /* differs from the file */
    struct qcow2_table *l2; /* L2 table of each L1 entry */

    u64 reftable_offset;        /* where the refcount table is */
    u64 reftable_size;          /* its entries */
    u64 *reftable;              /* it, in host byte order */
    bool reftable_dirty;        /* differs from the file */
    bool reftable_moved;        /* the header must be told */
    struct qcow2_table *blocks; /* refcount block of each of its entries */
    u64 free_hint;              /* no cluster before this one is free */

    /* Clusters that the tables do not refer to any more. The file's tables still do: they count as used until
     * those are written. */
    u64 *freed;                     /* cluster numbers */
    size_t freed_count, freed_room; /* used entries, allocated ones */

    u32 dirty;            /* changes since the last commit */
    int commit_error;     /* of the last commit */
    u8 *scratch, *packed; /* a cluster, and compressed data of one */
};

static inline u64 qcow2_get64(const u8 *p)
{
    u64 v;
    __builtin_memcpy(&v, p, sizeof(v));
    return __builtin_bswap64(v);
}

static inline void qcow2_put64(u8 *p, u64 v)
{
    v = __builtin_bswap64(v);
    __builtin_memcpy(p, &v, sizeof(v));
}

/* ---- disk_qcow2_meta.c ---- */

/* The L2 table that an L1 entry refers to: 0, or -errno. The entry is not zero. */
int qcow2_load_l2(struct disk_qcow2 *q, u64 index);
/* Reserve n clusters in a row: *offset. 0 or -errno. */
int qcow2_alloc(struct disk_qcow2 *q, u64 n, u64 *offset);
/* One reference less to each cluster that [offset, offset + size) touches, at the next commit. 0 or -ENOMEM.
 */
int qcow2_free(struct disk_qcow2 *q, u64 offset, u64 size);
/* Write all tables back so that they are right at any moment. 0 or -errno. */
int qcow2_commit(struct disk_qcow2 *q);

/* ---- disk_qcow2.c ---- */

int qcow2_read(struct disk *d, u64 offset, u8 *buf, size_t size);
int qcow2_write(struct disk *d, u64 offset, const u8 *buf, size_t size);
int qcow2_vector(struct disk *d, u64 offset, const struct iovec *v, unsigned count, size_t size, bool write);
int qcow2_discard(struct disk *d, u64 offset, u64 size);

#endif
