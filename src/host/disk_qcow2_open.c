/* Opening and closing qcow2 images: the header, its extensions and features. */
#define _GNU_SOURCE
#include "host/disk_qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER_V2                72
#define HEADER_V3                104
#define HEADER_AUTOCLEAR         88
#define INCOMPAT_DIRTY           1u
#define INCOMPAT_CORRUPT         2u
#define INCOMPAT_DATA            4u
#define INCOMPAT_COMPRESSION     8u
#define INCOMPAT_EXTENDED_L2     16u
#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define L1_MAX                   (32u << 20 >> 3) /* entries */

static u32 get32(const u8 *p) { return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3]; }

static int fail(const struct disk_qcow2 *q, const char *why)
{
    fprintf(stderr, "calque: %s %s: %s\n", q->option, q->path, why);
    return -EINVAL;
}

static int check_features(struct disk_qcow2 *q, const u8 *h, u32 length)
{
    u64 incompatible = qcow2_get64(h + 72);
    if (incompatible & INCOMPAT_DATA) return fail(q, "qcow2 with an external data file not supported");
    if (incompatible & INCOMPAT_EXTENDED_L2) return fail(q, "qcow2 with extended L2 entries not supported");
    q->zstd = incompatible & INCOMPAT_COMPRESSION && length > 104 && h[104] == 1;
    if (incompatible & INCOMPAT_COMPRESSION && length > 104 && h[104] > 1)
        return fail(q, "qcow2 with an unknown kind of compression");
    if (incompatible & ~0x1full) return fail(q, "qcow2 with an unknown incompatible feature");
    if (incompatible & INCOMPAT_CORRUPT && !q->disk.readonly)
        return fail(q, "the qcow2 image is marked as corrupt: repair it, or open it read-only");
    if (incompatible & INCOMPAT_DIRTY && !q->disk.readonly)
        return fail(
            q, "the qcow2 image was not closed properly (lazy refcounts): repair it, or open it read-only");
    return 0;
}

static u64 *read_words(struct disk_qcow2 *q, u64 offset, u64 count, u64 room)
{
    u64 *words = calloc(room + 1, sizeof(*words));
    if (!words || disk_pread(q->fd, offset, words, count * sizeof(*words))) {
        free(words);
        return NULL;
    }
    for (u64 i = 0; i < count; i++)
        words[i] = __builtin_bswap64(words[i]);
    return words;
}

static int read_header(struct disk_qcow2 *q, u8 *h, u32 *header_length)
{
    int err = disk_pread(q->fd, 0, h, 512);
    if (err) return fail(q, strerror(-err));
    if (memcmp(h, "QFI\xfb", 4)) return fail(q, "not a qcow2 image");
    q->version = get32(h + 4);
    if (q->version != 2 && q->version != 3) return fail(q, "qcow2 version not supported");
    *header_length = q->version == 2 ? HEADER_V2 : get32(h + 100);
    q->cluster_bits = get32(h + 20);
    u32 order = q->version == 2 ? 4 : get32(h + 96);
    if (get32(h + 32)) return fail(q, "encrypted qcow2 image not supported");
    if (q->cluster_bits < 9 || q->cluster_bits > 21 || order > 6 ||
        (q->version == 3 && (*header_length < HEADER_V3 || *header_length > 512)))
        return fail(q, "damaged qcow2 header");
    if (q->version == 3 && (err = check_features(q, h, *header_length))) return err;
    q->cluster = 1ull << q->cluster_bits;
    q->refcount_bits = 1u << order;
    q->disk.size = (qcow2_get64(h + 24) + BLOCK_SECTOR - 1) & ~(u64)(BLOCK_SECTOR - 1);
    q->l1_size = get32(h + 36);
    q->l1_offset = qcow2_get64(h + 40);
    q->reftable_offset = qcow2_get64(h + 48);
    q->reftable_size = (u64)get32(h + 56) * q->cluster / 8;
    u64 per_l1 = q->cluster * (q->cluster / 8);
    if (q->l1_size > L1_MAX || q->reftable_size > (8u << 20) || q->disk.size > 1ull << 56 ||
        q->disk.size > q->l1_size * per_l1 || (q->l1_offset | q->reftable_offset) & (q->cluster - 1) ||
        !q->reftable_offset || !q->reftable_size)
        return fail(q, "damaged qcow2 header");
    return 0;
}

static int read_tables(struct disk_qcow2 *q)
{
    q->l1 = read_words(q, q->l1_offset, q->l1_size, q->l1_size);
    q->reftable = read_words(q, q->reftable_offset, q->reftable_size, q->reftable_size);
    q->l2 = calloc(q->l1_size + 1, sizeof(*q->l2));
    q->blocks = calloc(q->reftable_size, sizeof(*q->blocks));
    q->scratch = malloc(q->cluster);
    q->packed = malloc(2 * q->cluster);
    if (!q->l1 || !q->reftable || !q->l2 || !q->blocks || !q->scratch || !q->packed)
        return fail(q, "cannot read the qcow2 tables");
    q->free_hint = 1; /* cluster 0 is the header */
    return 0;
}

/* ---- backing files ---- */

/* The name in the image is relative to where the image is. */
static char *backing_path(const struct disk_qcow2 *q, const char *name)
{
    const char *slash = strrchr(q->path, '/');
    char *path = NULL;
    if (name[0] == '/' || !slash) return strdup(name);
    if (asprintf(&path, "%.*s/%s", (int)(slash - q->path), q->path, name) < 0) return NULL;
    return path;
}

static int open_backing(struct disk_qcow2 *q, const u8 *h, u32 header_length,
                        const struct disk_config *config, int depth)
{
    u64 at = qcow2_get64(h + 8), length = get32(h + 16);
    if (!at || !length) return 0;
    char name[1024] = {0};
    u8 *area = q->scratch;
    u64 size = q->cluster;
    if (length > 1023 || disk_pread(q->fd, at, name, length) || disk_pread(q->fd, 0, area, size))
        return fail(q, "damaged qcow2 header");
    if (!strncmp(name, "file:", 5)) memmove(name, name + 5, strlen(name + 5) + 1);
    if (strstr(name, "://") || !strncmp(name, "json:", 5))
        return fail(q, "backing file is not a plain file name");

    struct disk_config c = *config;
    c.readonly = true;
    c.snapshot = false;
    c.format = DISK_AUTO;
    for (u64 e = header_length; e + 8 <= size;) {
        u32 type = get32(area + e), bytes = get32(area + e + 4);
        if (!type || bytes > size - e - 8) break;
        if (type == EXTENSION_BACKING_FORMAT) {
            char format[16] = {0};
            memcpy(format, area + e + 8, MIN(bytes, 15));
            if (!disk_format_parse(format, &c.format))
                return fail(q, "format of the backing file not supported");
        }
        e += 8 + (((u64)bytes + 7) & ~7ull);
    }
    char *path = backing_path(q, name);
    if (!path) return fail(q, "out of memory");
    c.path = path;
    q->backing = disk_open_backing(&c, depth + 1);
    free(path);
    return q->backing ? 0 : -EINVAL;
}

/* ---- life ---- */

static int qcow2_flush(struct disk *d) { return qcow2_commit((struct disk_qcow2 *)d); }

static int qcow2_close(struct disk *d)
{
    struct disk_qcow2 *q = (struct disk_qcow2 *)d;
    int err = q->dirty ? qcow2_commit(q) : 0;
    disk_close(q->backing);
    for (u64 i = 0; q->l2 && i < q->l1_size; i++)
        free(q->l2[i].data);
    for (u64 i = 0; q->blocks && i < q->reftable_size; i++)
        free(q->blocks[i].data);
    disk_map_destroy(&q->map);
    close(q->fd);
    free(q->l1);
    free(q->l2);
    free(q->reftable);
    free(q->blocks);
    free(q->freed);
    free(q->scratch);
    free(q->packed);
    free(q->option);
    free(q->path);
    free(q);
    return err;
}

static const struct disk_ops qcow2_ops = {.name = "qcow2",
                                          .read = qcow2_read,
                                          .write = qcow2_write,
                                          .vector = qcow2_vector,
                                          .flush = qcow2_flush,
                                          .idle = qcow2_flush,
                                          .discard = qcow2_discard,
                                          .close = qcow2_close};

struct disk *disk_qcow2_open(int fd, const struct disk_config *config, int depth)
{
    struct disk_qcow2 *q = calloc(1, sizeof(*q));
    u8 header[512];
    u32 length;
    if (!q) {
        fprintf(stderr, "calque: out of memory\n");
        close(fd);
        return NULL;
    }
    q->disk.ops = &qcow2_ops;
    q->disk.readonly = config->readonly;
    q->fd = fd;
    q->discard = config->discard;
    q->option = strdup(config->option);
    q->path = strdup(config->path);
    int err = q->option && q->path ? read_header(q, header, &length) : -ENOMEM;
    if (!err) err = read_tables(q);
    if (!err) err = open_backing(q, header, length, config, depth);
    /* Features that go away when a program writes that does not know them: bitmaps. */
    if (!err && !q->disk.readonly && q->version == 3 && qcow2_get64(header + HEADER_AUTOCLEAR)) {
        static const u8 none[8];
        if (disk_pwrite(fd, HEADER_AUTOCLEAR, none, sizeof(none)))
            err = fail(q, "cannot write the qcow2 header");
    }
    if (err) {
        qcow2_close(&q->disk);
        return NULL;
    }
    disk_map_create(&q->map, fd, 2 * q->disk.size); /* tables and snapshots take room, too */
    return &q->disk;
}
