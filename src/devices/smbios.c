/* SMBIOS 2.8 tables: BIOS, system, chassis, processors, memory, boot status.
 *
 * Firmware copies the structures to where guests look for them and completes the entry point.
 *
 * Leaves out: base board, caches, slots, ports and sensors: nothing that the board could say about them is
 * more than decoration.
 *
 * Reference: [SMBIOS] DMTF DSP0134 System Management BIOS Reference Specification 2.8. */
#include "devices/smbios.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_SIZE    31
#define STRINGS_MAX   8
#define STRING_LENGTH 64
#define GIB           (1ull << 30)
#define MIB           (1ull << 20)
#define HIGH_BASE     0x100000000ull
#define DIMM_SIZE     (16 * GIB) /* as large as one memory device gets */
#define UNKNOWN16     0xffffu

struct builder {
    u8 *data;                                  /* all structures */
    size_t size;                               /* used */
    size_t capacity;                           /* allocated */
    size_t start;                              /* of the structure being made */
    unsigned count;                            /* structures */
    unsigned largest;                          /* bytes of the largest structure */
    unsigned strings;                          /* strings of the current structure */
    char text[STRINGS_MAX][STRING_LENGTH + 1]; /* those */
};

static void append(struct builder *b, u64 value, unsigned size)
{
    assert(size <= b->capacity - b->size);
    for (unsigned i = 0; i < size; i++)
        b->data[b->size++] = (u8)(value >> i * 8);
}

static void begin(struct builder *b, u8 type, u16 handle)
{
    b->start = b->size;
    b->strings = 0;
    append(b, type, 1);
    append(b, 0, 1); /* length, set at the end */
    append(b, handle, 2);
}

/* A string is a field with its number; the text follows the structure [SMBIOS] 6.1.3. */
static void append_string(struct builder *b, const char *s)
{
    if (!s || !*s) {
        append(b, 0, 1);
        return;
    }
    assert(b->strings < STRINGS_MAX);
    snprintf(b->text[b->strings], sizeof b->text[0], "%s", s);
    append(b, ++b->strings, 1);
}

static void end(struct builder *b)
{
    b->data[b->start + 1] = (u8)(b->size - b->start);
    for (unsigned i = 0; i < b->strings; i++)
        for (size_t k = 0; k <= strlen(b->text[i]); k++)
            append(b, (u8)b->text[i][k], 1);
    append(b, 0, b->strings ? 1 : 2); /* the set of strings ends with an empty one */
    b->count++;
    b->largest = MAX(b->largest, (unsigned)(b->size - b->start));
}

static void build_bios(struct builder *b, const struct smbios_config *config)
{
    begin(b, 0, 0x0000);
    append_string(b, "Calque");
    append_string(b, config->version);
    append(b, 0xe800, 2); /* segment */
    append_string(b, "01/01/2024");
    append(b, 0, 1);       /* ROM size: 64 KiB */
    append(b, 1u << 3, 8); /* characteristics: not given */
    append(b, 0, 1);
    append(b, 0x14, 1);      /* extension 2: targeted content distribution, virtual machine */
    append(b, 0, 2);         /* release */
    append(b, UNKNOWN16, 2); /* embedded controller release: none */
    end(b);
}

static void build_system(struct builder *b, const struct smbios_config *config)
{
    /* The first three fields of a UUID are little-endian here [SMBIOS] 7.2.1. */
    static const u8 order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

    begin(b, 1, 0x0100);
    append_string(b, "Calque");
    append_string(b, "Standard PC (i440FX + PIIX, 1996)");
    append_string(b, config->version);
    append(b, 0, 1); /* serial number */
    for (int i = 0; i < 16; i++)
        append(b, config->uuid ? config->uuid[order[i]] : 0, 1);
    append(b, 6, 1); /* woken by: power switch */
    append(b, 0, 1); /* SKU */
    append(b, 0, 1); /* family */
    end(b);
}

static void build_chassis(struct builder *b, const struct smbios_config *config)
{
    begin(b, 3, 0x0300);
    append_string(b, "Calque");
    append(b, 1, 1); /* type: other */
    append_string(b, config->version);
    append(b, 0, 2); /* serial number, asset tag */
    append(b, 3, 1); /* boot-up state: safe; and so on */
    append(b, 3, 1);
    append(b, 3, 1);
    append(b, 2, 1); /* security: unknown */
    append(b, 0, 4); /* OEM */
    append(b, 0, 1); /* height */
    append(b, 0, 1); /* power cords: unspecified */
    append(b, 0, 2); /* no contained elements */
    append(b, 0, 1); /* SKU */
    end(b);
}

static void build_processor(struct builder *b, const struct smbios_config *config, unsigned i)
{
    char socket[16];

    snprintf(socket, sizeof socket, "CPU %u", i);
    begin(b, 4, (u16)(0x0400 + i));
    append_string(b, socket);
    append(b, 3, 1); /* central processor */
    append(b, 1, 1); /* family: other */
    append_string(b, config->cpu_vendor);
    append(b, config->cpu_signature, 4);
    append(b, config->cpu_features, 4);
    append_string(b, config->cpu_model);
    append(b, 0, 1);    /* voltage */
    append(b, 0, 2);    /* external clock: unknown */
    append(b, 2000, 2); /* MHz */
    append(b, 2000, 2);
    append(b, 0x41, 1);      /* populated, enabled */
    append(b, 1, 1);         /* upgrade: other */
    append(b, UNKNOWN16, 2); /* caches: not described */
    append(b, UNKNOWN16, 2);
    append(b, UNKNOWN16, 2);
    append(b, 0, 3); /* serial number, asset tag, part number */
    append(b, 1, 1); /* cores */
    append(b, 1, 1);
    append(b, 1, 1); /* threads */
    append(b, 2, 2); /* characteristics: unknown */
    append(b, 1, 2); /* family, again */
    end(b);
}

static unsigned dimm_count(u64 total) { return (unsigned)((total + DIMM_SIZE - 1) / DIMM_SIZE); }

static void build_memory_array(struct builder *b, u64 total)
{
    u64 kib = total / 1024;

    begin(b, 16, 0x1000);
    append(b, 1, 1); /* location: other */
    append(b, 3, 1); /* use: system memory */
    append(b, 6, 1); /* errors corrected: multi-bit */
    append(b, kib < 0x80000000u ? kib : 0x80000000u, 4);
    append(b, 0xfffe, 2); /* no error information */
    append(b, dimm_count(total), 2);
    append(b, kib < 0x80000000u ? 0 : total, 8);
    end(b);
}

static void build_memory_device(struct builder *b, unsigned i, u64 size)
{
    char locator[16];
    u64 mib = size / MIB;

    snprintf(locator, sizeof locator, "DIMM %u", i);
    begin(b, 17, (u16)(0x1100 + i));
    append(b, 0x1000, 2);    /* its array */
    append(b, 0xfffe, 2);    /* no error information */
    append(b, UNKNOWN16, 2); /* widths */
    append(b, UNKNOWN16, 2);
    append(b, mib < 0x7fff ? mib : 0x7fff, 2);
    append(b, 9, 1); /* form: DIMM */
    append(b, 0, 1); /* not in a set */
    append_string(b, locator);
    append(b, 0, 1); /* bank */
    append(b, 7, 1); /* type: RAM */
    append(b, 2, 2); /* detail: other */
    append(b, 0, 2); /* speed */
    append_string(b, "Calque");
    append(b, 0, 3); /* serial number, asset tag, part number */
    append(b, 0, 1); /* rank */
    append(b, mib < 0x7fff ? 0 : mib, 4);
    append(b, 0, 2); /* configured speed */
    append(b, 0, 6); /* voltages */
    end(b);
}

static void build_mapped_address(struct builder *b, u16 handle, u64 base, u64 size)
{
    u64 last_kib = (base + size) / 1024 - 1;
    bool extended = last_kib >= 0xffffffffu;

    begin(b, 19, handle);
    append(b, extended ? 0xffffffffu : base / 1024, 4);
    append(b, extended ? 0xffffffffu : last_kib, 4);
    append(b, 0x1000, 2); /* its array */
    append(b, 1, 1);      /* devices per row */
    append(b, extended ? base : 0, 8);
    append(b, extended ? base + size - 1 : 0, 8);
    end(b);
}

static void build_all(struct builder *b, const struct smbios_config *config)
{
    u64 total = config->low_ram + config->high_ram;

    build_bios(b, config);
    build_system(b, config);
    build_chassis(b, config);
    for (unsigned i = 0; i < config->cpus; i++)
        build_processor(b, config, i);
    build_memory_array(b, total);
    for (unsigned i = 0; i < dimm_count(total); i++)
        build_memory_device(b, i, MIN(DIMM_SIZE, total - i * DIMM_SIZE));
    build_mapped_address(b, 0x1300, 0, config->low_ram);
    if (config->high_ram) build_mapped_address(b, 0x1301, HIGH_BASE, config->high_ram);
    begin(b, 32, 0x2000); /* boot information */
    append(b, 0, 6);
    append(b, 0, 1); /* no errors */
    end(b);
    begin(b, 127, 0x7f00); /* end of table */
    end(b);
}

static u8 checksum(const u8 *p, size_t size)
{
    u8 sum = 0;
    while (size--)
        sum = (u8)(sum + *p++);
    return (u8)-sum;
}

/* Entry point, 32-bit [SMBIOS] 5.2.1. The address is firmware's to fill in, and then the checksums again. */
static void build_entry(const struct builder *b, u8 *e)
{
    memset(e, 0, ENTRY_SIZE);
    memcpy(e, "_SM_", 4);
    e[5] = ENTRY_SIZE;
    e[6] = 2;
    e[7] = 8;
    e[8] = (u8)b->largest;
    e[9] = (u8)(b->largest >> 8);
    memcpy(e + 16, "_DMI_", 5);
    e[22] = (u8)b->size;
    e[23] = (u8)(b->size >> 8);
    e[28] = (u8)b->count;
    e[29] = (u8)(b->count >> 8);
    e[30] = 0x28;
    e[21] = checksum(e + 16, ENTRY_SIZE - 16);
    e[4] = checksum(e, ENTRY_SIZE);
}

int smbios_add(struct fw_cfg *f, const struct smbios_config *config)
{
    struct builder b = {0};
    u8 entry[ENTRY_SIZE];

    /* No structure with its strings is larger than 512 bytes. */
    b.capacity = 512 * (size_t)(9 + config->cpus + dimm_count(config->low_ram + config->high_ram));
    b.data = calloc(1, b.capacity);
    if (!b.data) {
        fprintf(stderr, "calque: smbios: out of memory\n");
        return -ENOMEM;
    }
    build_all(&b, config);
    if (b.size > 0xffff) {
        /* The entry point's length field has 16 bits: this machine is too large to be described. */
        fprintf(stderr, "calque: smbios: too many processors or memory devices\n");
        free(b.data);
        return -ENOSPC;
    }
    build_entry(&b, entry);
    int r = fw_cfg_add_file(f, "etc/smbios/smbios-tables", b.data, b.size);
    if (!r) r = fw_cfg_add_file(f, "etc/smbios/smbios-anchor", entry, sizeof entry);
    free(b.data);
    return r;
}
