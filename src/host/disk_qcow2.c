/* qcow2 images: where a guest's clusters are, and their data.
 *
 * Models versions 2 and 3 for reading and writing: backing files, zero clusters, clusters compressed by
 * zlib or zstd (read), clusters shared with internal snapshots (copied before they are written), discard. Opening is in
 * disk_qcow2_open.c, refcounts and the order of writes in disk_qcow2_meta.c.
 *
 * Leaves out (refused by name when opening): encryption, external data files, extended L2 entries.
 *
 * [qcow2] the format's published specification, versions 2 and 3. */
#include "host/disk_qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define COMMIT_AFTER 4096 /* changes after which tables are written without being asked */

/* ---- compressed clusters ---- */

static void compressed_place(const struct disk_qcow2 *q, u64 entry, u64 *offset, u64 *size)
{
    u32 x = 62 - (q->cluster_bits - 8);
    *offset = entry & ((1ull << x) - 1);
    u64 sectors = (entry >> x & ((1ull << (q->cluster_bits - 8)) - 1)) + 1;
    *size = sectors * 512 - (*offset & 511);
}

static int read_compressed(struct disk_qcow2 *q, u64 entry, u8 *cluster)
{
    u64 offset, size;
    compressed_place(q, entry, &offset, &size);
    int err = disk_pread(q->fd, offset, q->packed, size); /* at most 2 clusters, by its field's width */
    if (err) return err;
    if (q->zstd) {
        /* A frame, and then what is behind it in the last sector. */
        size_t frame = ZSTD_findFrameCompressedSize(q->packed, size);
        bool good = !ZSTD_isError(frame) && ZSTD_decompress(cluster, q->cluster, q->packed, frame) == q->cluster;
        return good ? 0 : -EIO;
    }
    z_stream z = {
        .next_in = q->packed, .avail_in = (uInt)size, .next_out = cluster, .avail_out = (uInt)q->cluster};
    if (inflateInit2(&z, -12) != Z_OK) return -ENOMEM; /* raw deflate, 4 KiB window */
    int end = inflate(&z, Z_FINISH);
    bool whole = z.avail_out == 0 && (end == Z_STREAM_END || end == Z_BUF_ERROR || end == Z_OK);
    inflateEnd(&z);
    return whole ? 0 : -EIO;
}

/* ---- reading ---- */

/* The L2 entry of a guest offset; 0 when there is no table. */
static int lookup(struct disk_qcow2 *q, u64 offset, u64 *entry)
{
    u64 number = offset >> q->cluster_bits, per_table = q->cluster / 8, index = number / per_table;
    *entry = 0;
    if (index >= q->l1_size || (!(q->l1[index] & QCOW2_OFFSET) && !q->l2[index].data)) return 0;
    int err = qcow2_load_l2(q, index);
    if (!err) *entry = qcow2_get64(q->l2[index].data + 8 * (number % per_table));
    return err;
}

static int read_backing(struct disk_qcow2 *q, u64 offset, u8 *buf, size_t size)
{
    size_t n = 0;
    if (q->backing && offset < q->backing->size) {
        n = (size_t)MIN((u64)size, q->backing->size - offset);
        int err = q->backing->ops->read(q->backing, offset, buf, n);
        if (err) return err;
    }
    memset(buf + n, 0, size - n);
    return 0;
}

/* Inside one cluster; whole clusters may go past the end of the disk. */
static int read_part(struct disk_qcow2 *q, u64 entry, u64 offset, u8 *buf, size_t size)
{
    u64 within = offset & (q->cluster - 1);
    if (entry & QCOW2_COMPRESSED) {
        if (size == q->cluster) return read_compressed(q, entry, buf);
        int err = read_compressed(q, entry, q->scratch);
        if (!err) memcpy(buf, q->scratch + within, size);
        return err;
    }
    if (q->version >= 3 && entry & QCOW2_ZERO) {
        memset(buf, 0, size);
        return 0;
    }
    u64 host = entry & QCOW2_OFFSET;
    if (!host) return read_backing(q, offset, buf, size);
    if (host & (q->cluster - 1)) return -EIO;
    return disk_pread(q->fd, host + within, buf, size);
}

int qcow2_read(struct disk *d, u64 offset, u8 *buf, size_t size)
{
    struct disk_qcow2 *q = (struct disk_qcow2 *)d;
    while (size) {
        size_t n = (size_t)MIN((u64)size, q->cluster - (offset & (q->cluster - 1)));
        u64 entry;
        int err = lookup(q, offset, &entry);
        if (!err) err = read_part(q, entry, offset, buf, n);
        if (err) return err;
        buf += n;
        offset += n;
        size -= n;
    }
    return 0;
}

/* Only where the clusters are side by side in the file and, for writing, ours alone. */
int qcow2_vector(struct disk *d, u64 offset, const struct iovec *v, unsigned count, size_t size, bool write)
{
    struct disk_qcow2 *q = (struct disk_qcow2 *)d;
    u64 within = offset & (q->cluster - 1), first = 0;
    for (u64 at = offset - within; at < offset + size; at += q->cluster) {
        u64 entry;
        int err = lookup(q, at, &entry);
        if (err) return err;
        u64 host = entry & QCOW2_OFFSET;
        if (at <= offset) first = host;
        if (entry & QCOW2_COMPRESSED || (q->version >= 3 && entry & QCOW2_ZERO) || !host || host & (q->cluster - 1) ||
            host - first != at - (offset - within))
            return -EAGAIN;
        if (write && !(entry & QCOW2_COPIED && q->l1[(at >> q->cluster_bits) / (q->cluster / 8)] & QCOW2_COPIED)) return -EAGAIN;
    }
    if (!write && disk_map_read(&q->map, first + within, v, count, size)) return 0;
    return disk_vector(q->fd, first + within, v, count, size, write);
}

/* ---- writing ---- */

/* An L2 table for this L1 entry that is ours alone. */
static int need_l2(struct disk_qcow2 *q, u64 index)
{
    u64 old = q->l1[index], place;
    if (index >= q->l1_size) return -EIO;
    if (old & QCOW2_OFFSET) {
        int err = qcow2_load_l2(q, index);
        if (err || old & QCOW2_COPIED) return err;
    }
    int err = qcow2_alloc(q, 1, &place);
    if (err) return err;
    if (!(old & QCOW2_OFFSET)) {
        /* calloc's zeros: nothing is allocated in it */
        if (!(q->l2[index].data = calloc(1, q->cluster))) {
            qcow2_free(q, place, q->cluster);
            return -ENOMEM;
        }
    } else if ((err = qcow2_free(q, old & QCOW2_OFFSET, q->cluster))) {
        return err;
    }
    q->l2[index].dirty = true;
    q->l1[index] = place | QCOW2_COPIED;
    q->l1_dirty = true;
    return 0;
}

/* What an entry that is replaced referred to. */
static int free_entry(struct disk_qcow2 *q, u64 entry)
{
    if (entry & QCOW2_COMPRESSED) {
        u64 offset, size;
        compressed_place(q, entry, &offset, &size);
        return qcow2_free(q, offset, size);
    }
    return entry & QCOW2_OFFSET ? qcow2_free(q, entry & QCOW2_OFFSET, q->cluster) : 0;
}

static void set_l2(struct disk_qcow2 *q, u64 offset, u64 entry)
{
    u64 number = offset >> q->cluster_bits, per_table = q->cluster / 8;
    struct qcow2_table *t = &q->l2[number / per_table];
    qcow2_put64(t->data + 8 * (number % per_table), entry);
    t->dirty = true;
    q->dirty++;
}

/* Inside one cluster. */
static int write_part(struct disk_qcow2 *q, u64 offset, const u8 *buf, size_t size)
{
    u64 within = offset & (q->cluster - 1), start = offset - within, entry, place;
    int err = lookup(q, offset, &entry);
    if (err) return err;
    bool zero = q->version >= 3 && !(entry & QCOW2_COMPRESSED) && entry & QCOW2_ZERO;
    u64 index = (offset >> q->cluster_bits) / (q->cluster / 8);
    if (index >= q->l1_size) return -EIO;
    bool own = q->l1[index] & QCOW2_COPIED && entry & QCOW2_COPIED && !(entry & QCOW2_COMPRESSED);
    if (own && !zero) {
        if (entry & QCOW2_OFFSET & (q->cluster - 1)) return -EIO;
        return disk_pwrite(q->fd, (entry & QCOW2_OFFSET) + within, buf, size);
    }
    /* A new cluster, with what was there around the new data. */
    if (size < q->cluster) {
        if (entry & QCOW2_COMPRESSED)
            err = read_compressed(q, entry, q->scratch);
        else
            err = read_part(q, entry, start, q->scratch, q->cluster);
        if (err) return err;
        memcpy(q->scratch + within, buf, size);
    }
    if ((err = need_l2(q, index))) return err;
    if (own)
        place = entry & QCOW2_OFFSET; /* set aside for this cluster, and not read yet */
    else if ((err = qcow2_alloc(q, 1, &place)))
        return err;
    if ((err = disk_pwrite(q->fd, place, size < q->cluster ? q->scratch : buf, q->cluster))) {
        if (!own) qcow2_free(q, place, q->cluster);
        return err;
    }
    if (!own && (err = free_entry(q, entry))) return err;
    set_l2(q, offset, place | QCOW2_COPIED);
    return 0;
}

int qcow2_write(struct disk *d, u64 offset, const u8 *buf, size_t size)
{
    struct disk_qcow2 *q = (struct disk_qcow2 *)d;
    while (size) {
        size_t n = (size_t)MIN((u64)size, q->cluster - (offset & (q->cluster - 1)));
        int err = write_part(q, offset, buf, n);
        if (err) return err;
        buf += n;
        offset += n;
        size -= n;
    }
    return q->dirty > COMMIT_AFTER ? qcow2_commit(q) : 0;
}

/* Whole clusters only. They read as zeros afterwards, or as before where version 2 cannot say so. */
int qcow2_discard(struct disk *d, u64 offset, u64 size)
{
    struct disk_qcow2 *q = (struct disk_qcow2 *)d;
    u64 end = offset + size == d->size ? (d->size + q->cluster - 1) & ~(q->cluster - 1)
                                       : (offset + size) & ~(q->cluster - 1);
    for (u64 at = (offset + q->cluster - 1) & ~(q->cluster - 1); at < end; at += q->cluster) {
        u64 entry, empty = q->backing ? QCOW2_ZERO : 0;
        int err = lookup(q, at, &entry);
        if (err) return err;
        if (entry == empty || (q->backing && q->version < 3)) continue;
        if ((err = need_l2(q, (at >> q->cluster_bits) / (q->cluster / 8)))) return err;
        if ((err = free_entry(q, entry))) return err;
        set_l2(q, at, empty);
    }
    return q->dirty > COMMIT_AFTER ? qcow2_commit(q) : 0;
}
