/* qcow2 refcounts and tables, and how they reach the file.
 *
 * Changed tables stay in memory until a flush, or until many are waiting. Then all of them are written, in an
 * order in which the file is right after each step if the host's power fails: data, refcounts up, L2 tables,
 * L1 table, refcounts down, with an fdatasync() between them. In between, clusters may be counted that nobody
 * refers to (a leak), which is harmless. But even that does not happen when our process is killed: a
 * short-lived child that shares our memory does it, and brings it to its end if we die. It also keeps the
 * image locked so long.
 *
 * [qcow2] the format's published specification, versions 2 and 3. */
#define _GNU_SOURCE
#include "host/disk_qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMMIT_STACK    (256u << 10)
#define HEADER_REFTABLE 48 /* refcount_table_offset and refcount_table_clusters */

static u64 block_entries(const struct disk_qcow2 *q) { return q->cluster * 8 / q->refcount_bits; }

/* ---- refcounts ---- */

static u64 get_entry(const struct disk_qcow2 *q, const u8 *block, u64 i)
{
    u32 bits = q->refcount_bits;
    if (bits < 8) return block[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
    u64 v = 0;
    for (u32 k = 0; k < bits / 8; k++)
        v = v << 8 | block[i * (bits / 8) + k];
    return v;
}

static void set_entry(const struct disk_qcow2 *q, u8 *block, u64 i, u64 v)
{
    u32 bits = q->refcount_bits;
    if (bits < 8) {
        u8 *p = block + i * bits / 8, shift = (u8)(i * bits % 8);
        *p = (u8)((*p & ~(((1u << bits) - 1) << shift)) | v << shift);
        return;
    }
    for (u32 k = bits / 8; k-- > 0; v >>= 8)
        block[i * (bits / 8) + k] = (u8)v;
}

static int load(struct disk_qcow2 *q, struct qcow2_table *t, u64 offset)
{
    if (t->data) return 0;
    if (offset & (q->cluster - 1)) return -EIO; /* a damaged image */
    u8 *data = malloc(q->cluster);
    if (!data) return -ENOMEM;
    int err = disk_pread(q->fd, offset, data, q->cluster);
    if (err) {
        free(data);
        return err;
    }
    t->data = data;
    return 0;
}

int qcow2_load_l2(struct disk_qcow2 *q, u64 index)
{
    return load(q, &q->l2[index], q->l1[index] & QCOW2_OFFSET);
}

/* The refcount block of a cluster, *t NULL when there is none. */
static int find_block(struct disk_qcow2 *q, u64 cluster, struct qcow2_table **t)
{
    u64 i = cluster / block_entries(q);
    *t = NULL;
    if (i >= q->reftable_size) return 0;
    if (!q->blocks[i].data) {
        if (!(q->reftable[i] & ~511ull)) return 0;
        int err = load(q, &q->blocks[i], q->reftable[i] & ~511ull);
        if (err) return err;
    }
    *t = &q->blocks[i];
    return 0;
}

static int get_refcount(struct disk_qcow2 *q, u64 cluster, u64 *count)
{
    struct qcow2_table *t;
    int err = find_block(q, cluster, &t);
    *count = !err && t ? get_entry(q, t->data, cluster % block_entries(q)) : 0;
    return err;
}

static int find_free(struct disk_qcow2 *q, u64 n, u64 *first)
{
    u64 run = 0, c = q->free_hint;
    while (run < n) {
        u64 count;
        int err = get_refcount(q, c, &count);
        if (err) return err;
        run = count ? 0 : run + 1;
        c++;
    }
    *first = c - n;
    if (*first + n > 1ull << (56 - q->cluster_bits)) return -EFBIG;
    return 0;
}

static int grow_reftable(struct disk_qcow2 *q, u64 entries);

/* Make sure that the cluster has a refcount block; *made: one was added, and free runs may not be free any
 * more. */
static int need_block(struct disk_qcow2 *q, u64 cluster, bool *made)
{
    struct qcow2_table *t;
    u64 i = cluster / block_entries(q), place;
    int err;
    if (i >= q->reftable_size) {
        *made = true;
        if ((err = grow_reftable(q, i + 1))) return err;
    }
    if ((err = find_block(q, cluster, &t)) || t) return err;
    *made = true;
    if (!(q->blocks[i].data = calloc(1, q->cluster))) return -ENOMEM;
    /* It may count itself. */
    err = find_free(q, 1, &place);
    bool more = false;
    while (!err && !(err = need_block(q, place, &more)) && more) {
        more = false;
        err = find_free(q, 1, &place);
    }
    if (!err) err = find_block(q, place, &t);
    if (err) {
        free(q->blocks[i].data);
        q->blocks[i].data = NULL;
        return err;
    }
    set_entry(q, t->data, place % block_entries(q), 1);
    t->dirty = q->blocks[i].dirty = true;
    q->reftable[i] = place * q->cluster;
    q->reftable_dirty = true;
    q->dirty++;
    return 0;
}

int qcow2_alloc(struct disk_qcow2 *q, u64 n, u64 *offset)
{
    u64 first;
    for (;;) {
        bool made = false;
        int err = find_free(q, n, &first);
        for (u64 c = first; !err && !made && c < first + n; c++)
            err = need_block(q, c, &made);
        if (err) return err;
        if (!made) break;
    }
    for (u64 c = first; c < first + n; c++) {
        struct qcow2_table *t;
        int err = find_block(q, c, &t);
        if (err || !t) return err ? err : -EIO;
        set_entry(q, t->data, c % block_entries(q), 1);
        t->dirty = true;
    }
    if (n == 1) q->free_hint = first + 1; /* all before it were seen to be used */
    q->dirty++;
    *offset = first * q->cluster;
    return 0;
}

/* A larger refcount table, in another place. */
static int grow_reftable(struct disk_qcow2 *q, u64 entries)
{
    u64 old = q->reftable_size, per_cluster = q->cluster / 8;
    u64 size = MAX(entries + entries / 2, old * 2);
    size = (size + per_cluster - 1) / per_cluster * per_cluster;
    if (size > (8u << 20) / 8 * 8) return -EFBIG;
    u64 *table = calloc(size, sizeof(*table));
    struct qcow2_table *blocks = calloc(size, sizeof(*blocks));
    if (!table || !blocks) {
        free(table);
        free(blocks);
        return -ENOMEM;
    }
    memcpy(table, q->reftable, old * sizeof(*table));
    memcpy(blocks, q->blocks, old * sizeof(*blocks));
    free(q->reftable);
    free(q->blocks);
    q->reftable = table;
    q->blocks = blocks;
    q->reftable_size = size;
    u64 offset, old_offset = q->reftable_offset, old_bytes = old * 8;
    int err = qcow2_alloc(q, size * 8 / q->cluster, &offset);
    if (err) { /* it still has its old size in the file */
        for (u64 i = old; i < size; i++) free(q->blocks[i].data);
        q->reftable_size = old;
        return err;
    }
    q->reftable_offset = offset;
    q->reftable_dirty = q->reftable_moved = true;
    return qcow2_free(q, old_offset, old_bytes);
}

int qcow2_free(struct disk_qcow2 *q, u64 offset, u64 size)
{
    if (!size) return 0;
    u64 first = offset >> q->cluster_bits, last = (offset + size - 1) >> q->cluster_bits;
    for (u64 c = first; c <= last; c++) {
        if (q->freed_count == q->freed_room) {
            size_t room = q->freed_room ? 2 * q->freed_room : 256;
            u64 *list = realloc(q->freed, room * sizeof(*list));
            if (!list) return -ENOMEM;
            q->freed = list;
            q->freed_room = room;
        }
        q->freed[q->freed_count++] = c;
    }
    q->dirty++;
    return 0;
}

/* ---- writing back ---- */

static int sync_file(const struct disk_qcow2 *q) { return fdatasync(q->fd) < 0 ? -errno : 0; }

/* A table of words, from host to file order, a cluster at a time. */
static int write_words(struct disk_qcow2 *q, u64 offset, const u64 *words, u64 count)
{
    while (count) {
        u64 n = MIN(count, q->cluster / 8);
        for (u64 i = 0; i < n; i++)
            qcow2_put64(q->scratch + 8 * i, words[i]);
        int err = disk_pwrite(q->fd, offset, q->scratch, n * 8);
        if (err) return err;
        offset += n * 8;
        words += n;
        count -= n;
    }
    return 0;
}

static int write_blocks(struct disk_qcow2 *q)
{
    for (u64 i = 0; i < q->reftable_size; i++) {
        struct qcow2_table *t = &q->blocks[i];
        if (!t->data || !t->dirty) continue;
        int err = disk_pwrite(q->fd, q->reftable[i] & ~511ull, t->data, q->cluster);
        if (err) return err;
        t->dirty = false;
    }
    return 0;
}

static int write_refcounts(struct disk_qcow2 *q)
{
    int err = write_blocks(q);
    if (err || !q->reftable_dirty) return err;
    if ((err = sync_file(q))) return err;
    if ((err = write_words(q, q->reftable_offset, q->reftable, q->reftable_size))) return err;
    if (q->reftable_moved) {
        u8 header[12];
        qcow2_put64(header, q->reftable_offset);
        u32 clusters = (u32)(q->reftable_size * 8 / q->cluster);
        for (int i = 0; i < 4; i++)
            header[8 + i] = (u8)(clusters >> (24 - 8 * i));
        if ((err = sync_file(q)) || (err = disk_pwrite(q->fd, HEADER_REFTABLE, header, sizeof(header))))
            return err;
        q->reftable_moved = false;
    }
    q->reftable_dirty = false;
    return 0;
}

static int write_mapping(struct disk_qcow2 *q)
{
    for (u64 i = 0; i < q->l1_size; i++) {
        struct qcow2_table *t = &q->l2[i];
        if (!t->data || !t->dirty) continue;
        int err = disk_pwrite(q->fd, q->l1[i] & QCOW2_OFFSET, t->data, q->cluster);
        if (err) return err;
        t->dirty = false;
    }
    if (!q->l1_dirty) return 0;
    int err = sync_file(q);
    if (!err) err = write_words(q, q->l1_offset, q->l1, q->l1_size);
    if (!err) q->l1_dirty = false;
    return err;
}

static int write_freed(struct disk_qcow2 *q)
{
    /* Each is off the list at once, so that an error on the way does not have it counted down again. */
    for (; q->freed_count; q->freed_count--) {
        struct qcow2_table *t;
        u64 c = q->freed[q->freed_count - 1], at = c % block_entries(q);
        int err = find_block(q, c, &t);
        if (err) return err;
        u64 count = t ? get_entry(q, t->data, at) : 0;
        if (!count) continue; /* a damaged image: nothing to give back */
        set_entry(q, t->data, at, count - 1);
        t->dirty = true;
        if (count > 1) continue;
        q->free_hint = MIN(q->free_hint, c);
        if (q->discard)
            fallocate(q->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(c * q->cluster),
                      (off_t)q->cluster);
    }
    return write_blocks(q);
}

static int commit_all(struct disk_qcow2 *q)
{
    int err;
    if ((err = sync_file(q)) || (err = write_refcounts(q)) || (err = sync_file(q)) ||
        (err = write_mapping(q)) || (err = sync_file(q)))
        return err;
    if (!q->freed_count) return 0;
    return (err = write_freed(q)) ? err : sync_file(q);
}

static int commit_child(void *opaque)
{
    struct disk_qcow2 *q = opaque;
    setsid(); /* what is sent to our process group is not for it */
    q->commit_error = commit_all(q);
    _exit(0);
}

int qcow2_commit(struct disk_qcow2 *q)
{
    if (!q->dirty) return sync_file(q);
    u8 *stack = malloc(COMMIT_STACK);
    if (!stack) return -ENOMEM;
    q->commit_error = -EIO;
    /* Like vfork(): the memory is shared, the files are its own, and this thread waits until it has ended. */
    pid_t pid = clone(commit_child, stack + COMMIT_STACK, CLONE_VM | CLONE_VFORK, q);
    if (pid < 0)
        q->commit_error = commit_all(q); /* not allowed here: then without that protection */
    else
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
            continue;
    free(stack);
    if (!q->commit_error) q->dirty = 0;
    return q->commit_error;
}
