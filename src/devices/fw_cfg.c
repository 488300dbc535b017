/* The fw_cfg device, through which firmware (SeaBIOS), boot code and guest drivers learn about the machine.
 *
 * Models the port interface (selector and data at 0x510/0x511) and the DMA interface (0x514), the file
 * directory, and files that the guest may write by DMA.
 *
 * Leaves out: writing through the data port, which the interface has long withdrawn; the memory-mapped form
 * of other boards.
 *
 * Reference: [FWCFG] "QEMU Firmware Configuration (fw_cfg) Device" interface specification. */
#include "devices/fw_cfg.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

#define SELECTOR_PORT 0x510
#define DMA_PORT      0x514

#define KEY_ARCH    0x8000u /* the item is specific to the architecture */
#define KEY_WRITE   0x4000u /* historic write channel; ignored */
#define KEY_MASK    0x3fffu
#define KEY_INVALID 0xffffu

#define FILE_SLOTS 64
#define NAME_SIZE  56 /* in the directory, terminating zero included */
#define KEYS       (FW_CFG_FILE_FIRST + FILE_SLOTS)

#define FEATURES_PORTS 1u
#define FEATURES_DMA   2u

/* DMA control word; the upper half is the key to select. */
#define DMA_ERROR  0x01u
#define DMA_READ   0x02u
#define DMA_SKIP   0x04u
#define DMA_SELECT 0x08u
#define DMA_WRITE  0x10u

struct item {
    u8 *data;                          /* NULL: no such item */
    size_t size;                       /* bytes of data */
    bool owned;                        /* data is freed here */
    const struct fw_cfg_file_ops *ops; /* live files only */
    void *opaque;                      /* for ops */
};

struct file {
    char name[NAME_SIZE]; /* path */
    struct item item;     /* contents */
};

struct fw_cfg {
    struct device dev;                      /* class ops */
    struct bus *memory;                     /* DMA */
    struct region *ports;                   /* selector and data */
    struct region *dma_ports;               /* DMA address */
    struct item generic[FW_CFG_FILE_FIRST]; /* keys below FW_CFG_FILE_FIRST */
    struct item arch[KEYS];                 /* keys with KEY_ARCH */
    struct file files[FILE_SLOTS];          /* sorted by name: file i has key FW_CFG_FILE_FIRST + i */
    unsigned file_count;                    /* used entries of files */
    u16 key;                                /* selected, or KEY_INVALID */
    size_t offset;                          /* of the next byte */
    u64 dma_address;                        /* written so far */
};

/* ---- items ---- */

static struct item *find_item(struct fw_cfg *f, u16 key)
{
    u16 n = key & KEY_MASK;
    struct item *item = NULL;

    if (key == KEY_INVALID || n >= KEYS) return NULL;
    if (key & KEY_ARCH)
        item = &f->arch[n];
    else if (n < FW_CFG_FILE_FIRST)
        item = &f->generic[n];
    else if (n < FW_CFG_FILE_FIRST + f->file_count)
        item = &f->files[n - FW_CFG_FILE_FIRST].item;
    return item;
}

static void set_item(struct item *item, const void *data, size_t size)
{
    if (item->owned) free(item->data);
    u8 *copy = malloc(size ? size : 1);
    if (!copy) {
        fprintf(stderr, "calque: fw_cfg: out of memory\n");
        size = 0;
    } else if (size) {
        memcpy(copy, data, size);
    }
    *item = (struct item){.data = copy, .size = size, .owned = true};
}

void fw_cfg_add_bytes(struct fw_cfg *f, u16 key, const void *data, size_t size)
{
    struct item *item = find_item(f, key);
    assert(item && ((key & KEY_ARCH) || key < FW_CFG_FILE_DIR));
    set_item(item, data, size);
}

void fw_cfg_add_string(struct fw_cfg *f, u16 key, const char *s)
{
    fw_cfg_add_bytes(f, key, s, strlen(s) + 1);
}

static void put_le(u8 *p, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        p[i] = (u8)(value >> i * 8);
}

static void put_be(u8 *p, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        p[i] = (u8)(value >> (size - 1 - i) * 8);
}

static u64 get_be(const u8 *p, unsigned size)
{
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value = value << 8 | p[i];
    return value;
}

void fw_cfg_add_u16(struct fw_cfg *f, u16 key, u16 value)
{
    u8 b[2];
    put_le(b, value, sizeof b);
    fw_cfg_add_bytes(f, key, b, sizeof b);
}

void fw_cfg_add_u32(struct fw_cfg *f, u16 key, u32 value)
{
    u8 b[4];
    put_le(b, value, sizeof b);
    fw_cfg_add_bytes(f, key, b, sizeof b);
}

void fw_cfg_add_u64(struct fw_cfg *f, u16 key, u64 value)
{
    u8 b[8];
    put_le(b, value, sizeof b);
    fw_cfg_add_bytes(f, key, b, sizeof b);
}

/* ---- files ---- */

/* Count, then per file: size, key, two reserved bytes, name; all big-endian [FWCFG] "File Directory". */
static void rebuild_directory(struct fw_cfg *f)
{
    u8 directory[4 + FILE_SLOTS * 64] = {0};

    put_be(directory, f->file_count, 4);
    for (unsigned i = 0; i < f->file_count; i++) {
        u8 *e = directory + 4 + i * 64;
        put_be(e, f->files[i].item.size, 4);
        put_be(e + 4, FW_CFG_FILE_FIRST + i, 2);
        memcpy(e + 8, f->files[i].name, NAME_SIZE);
    }
    set_item(&f->generic[FW_CFG_FILE_DIR], directory, 4 + f->file_count * 64);
}

/* The file's slot, made if it is new. */
static int file_slot(struct fw_cfg *f, const char *name, struct item **item)
{
    unsigned i = 0;

    if (strlen(name) >= NAME_SIZE) {
        fprintf(stderr, "calque: fw_cfg: file name too long: %s\n", name);
        return -EINVAL;
    }
    while (i < f->file_count && strcmp(f->files[i].name, name) < 0)
        i++;
    if (i == f->file_count || strcmp(f->files[i].name, name) != 0) {
        if (f->file_count == FILE_SLOTS) {
            fprintf(stderr, "calque: fw_cfg: too many files: %s\n", name);
            return -ENOSPC;
        }
        memmove(&f->files[i + 1], &f->files[i], (f->file_count - i) * sizeof f->files[0]);
        memset(&f->files[i], 0, sizeof f->files[i]);
        memcpy(f->files[i].name, name, strlen(name));
        f->file_count++;
    }
    *item = &f->files[i].item;
    return 0;
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t size)
{
    struct item *item;
    int r = file_slot(f, name, &item);
    if (r < 0) return r;
    set_item(item, data, size);
    rebuild_directory(f);
    return 0;
}

int fw_cfg_add_live_file(struct fw_cfg *f, const char *name, void *data, size_t size,
                         const struct fw_cfg_file_ops *ops, void *opaque)
{
    struct item *item;
    int r = file_slot(f, name, &item);
    if (r < 0) return r;
    if (item->owned) free(item->data);
    *item = (struct item){.data = data, .size = size, .ops = ops, .opaque = opaque};
    rebuild_directory(f);
    return 0;
}

void fw_cfg_add_e820(struct fw_cfg *f, u64 low, u64 high)
{
    u8 table[40] = {0}; /* entries of base, length, type (1: RAM), packed to 20 bytes */

    put_le(table + 8, low, 8);
    put_le(table + 16, 1, 4);
    put_le(table + 20, 0x100000000ull, 8);
    put_le(table + 28, high, 8);
    put_le(table + 36, 1, 4);
    fw_cfg_add_file(f, "etc/e820", table, high ? 40 : 20);
}

const u8 *fw_cfg_find(struct fw_cfg *f, u16 key, size_t *size)
{
    struct item *item = find_item(f, key);
    if (!item || !item->data) return NULL;
    *size = item->size;
    return item->data;
}

const u8 *fw_cfg_find_file(struct fw_cfg *f, const char *name, size_t *size)
{
    for (unsigned i = 0; i < f->file_count; i++)
        if (strcmp(f->files[i].name, name) == 0) return fw_cfg_find(f, (u16)(FW_CFG_FILE_FIRST + i), size);
    return NULL;
}

/* ---- the ports ---- */

static void select_key(struct fw_cfg *f, u16 key)
{
    f->offset = 0;
    f->key = key & (u16)~KEY_WRITE;
    struct item *item = find_item(f, f->key);
    if (!item) {
        f->key = KEY_INVALID;
        return;
    }
    if (item->ops && item->ops->select) item->ops->select(item->opaque);
}

static u64 port_read(void *opaque, u64 offset, unsigned size)
{
    struct fw_cfg *f = opaque;
    struct item *item = find_item(f, f->key);

    /* The selector cannot be read back: a byte read of either port gives data. */
    (void)offset;
    if (size != 1 || !item || f->offset >= item->size) return 0;
    return item->data[f->offset++];
}

static void port_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    if (offset == 0 && size == 2) select_key(opaque, (u16)value);
}

/* Is all of [address, address + length) RAM in that direction? DMA to anything else is refused, so that a
 * wild length ends at the first page that is not memory. */
static bool is_ram(struct fw_cfg *f, gpa address, u64 length, bool write)
{
    if (address + length < address) return false;
    for (u64 done = 0; done < length;) {
        bool page_ok;
        u64 piece = MIN(length - done, GUEST_PAGE_SIZE - ((address + done) & GUEST_PAGE_MASK));
        if (!bus_lookup(f->memory, address + done, write, &page_ok).host) return false;
        done += piece;
    }
    return true;
}

/* Carry out one request; true when it was in order. */
static bool dma_transfer(struct fw_cfg *f, u32 control, u32 length, gpa address)
{
    static const u8 zeros[GUEST_PAGE_SIZE];

    if (control & DMA_SELECT) select_key(f, (u16)(control >> 16));

    bool read = control & DMA_READ, write = control & DMA_WRITE;
    if (read && write) return false;
    if (!read && !write && !(control & DMA_SKIP)) return true; /* only a selection */

    struct item *item = find_item(f, f->key);
    size_t left = item && f->offset < item->size ? item->size - f->offset : 0;
    if (write) {
        /* Past the end there is nothing to write to, and nothing is written at all. */
        if (!item || !item->ops || !item->ops->written || length > left) return false;
        if (!is_ram(f, address, length, false)) return false;
        bus_read_block(f->memory, address, item->data + f->offset, length);
        size_t at = f->offset;
        f->offset += length;
        if (length) item->ops->written(item->opaque, at, length);
        return true;
    }

    size_t take = MIN(left, length);
    if (read) {
        if (!is_ram(f, address, length, true)) return false;
        if (take) bus_write_block(f->memory, address, item->data + f->offset, take);
        for (u64 done = take; done < length;) {
            u64 piece = MIN(length - done, sizeof zeros);
            bus_write_block(f->memory, address + done, zeros, piece);
            done += piece;
        }
    }
    f->offset += take;
    return true;
}

static void dma_start(struct fw_cfg *f)
{
    gpa at = f->dma_address;
    u8 request[16]; /* big-endian: control, length, address */
    u8 result[4];

    f->dma_address = 0;
    if (!is_ram(f, at, sizeof request, true)) {
        log_printf(LOG_GUEST_ERROR, "fw_cfg: DMA request at 0x%llx is not in RAM\n", (unsigned long long)at);
        return;
    }
    bus_read_block(f->memory, at, request, sizeof request);
    bool ok = dma_transfer(f, (u32)get_be(request, 4), (u32)get_be(request + 4, 4), get_be(request + 8, 8));
    if (!ok)
        log_printf(LOG_GUEST_ERROR, "fw_cfg: bad DMA request, control 0x%08x\n", (u32)get_be(request, 4));
    put_be(result, ok ? 0 : DMA_ERROR, 4);
    bus_write_block(f->memory, at, result, sizeof result);
}

static u64 dma_read(void *opaque, u64 offset, unsigned size)
{
    /* Reads as a signature, big-endian like the address that is written here [FWCFG] "DMA Interface". */
    static const u8 signature[8] = {'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G'};
    u64 value = 0;
    (void)opaque;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)signature[offset + i] << i * 8;
    return value;
}

static void dma_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct fw_cfg *f = opaque;
    u8 bytes[8];

    put_be(bytes, f->dma_address, 8);
    put_le(bytes + offset, value, size);
    f->dma_address = get_be(bytes, 8);
    if (offset + size == 8) dma_start(f); /* the last byte, the least significant one, starts the transfer */
}

static const struct region_ops port_ops = {
    .read = port_read, .write = port_write, .min_size = 1, .max_size = 2};
static const struct region_ops dma_ops = {.read = dma_read, .write = dma_write, .min_size = 4, .max_size = 8};

/* ---- the device ---- */

static void fw_cfg_reset(struct device *d)
{
    struct fw_cfg *f = container_of(d, struct fw_cfg, dev);
    f->key = FW_CFG_SIGNATURE;
    f->offset = 0;
    f->dma_address = 0;
}

static void fw_cfg_destroy(struct device *d)
{
    struct fw_cfg *f = container_of(d, struct fw_cfg, dev);

    region_remove(f->ports);
    region_remove(f->dma_ports);
    for (unsigned i = 0; i < ARRAY_LEN(f->generic); i++)
        if (f->generic[i].owned) free(f->generic[i].data);
    for (unsigned i = 0; i < ARRAY_LEN(f->arch); i++)
        if (f->arch[i].owned) free(f->arch[i].data);
    for (unsigned i = 0; i < f->file_count; i++)
        if (f->files[i].item.owned) free(f->files[i].item.data);
    free(f);
}

static const struct device_class fw_cfg_class = {
    .name = "fw_cfg", .reset = fw_cfg_reset, .destroy = fw_cfg_destroy};

struct fw_cfg *fw_cfg_create(struct bus *ports, struct bus *memory)
{
    struct fw_cfg *f = calloc(1, sizeof *f);
    if (!f) {
        fprintf(stderr, "calque: fw_cfg: out of memory\n");
        return NULL;
    }
    f->dev.cls = &fw_cfg_class;
    f->memory = memory;
    f->ports = bus_add(ports, "fw_cfg", SELECTOR_PORT, 2, 0, &port_ops, f);
    f->dma_ports = bus_add(ports, "fw_cfg-dma", DMA_PORT, 8, 0, &dma_ops, f);
    fw_cfg_add_bytes(f, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_add_u32(f, FW_CFG_ID, FEATURES_PORTS | FEATURES_DMA);
    rebuild_directory(f);
    return f;
}

struct device *fw_cfg_device(struct fw_cfg *f) { return &f->dev; }
