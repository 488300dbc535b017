/* The ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET, WAET, the DSDT of acpi_dsdt.asl, and an SSDT
 * with the processors.
 *
 * Where they end up is firmware's business: pointers and checksums are described by a script of commands
 * (allocate a file, add a file's address to a pointer, compute a checksum) which firmware runs.
 *
 * Leaves out: a PCI window above 4 GiB (some systems of the 32-bit era reject a host bridge that has one, and
 * no device here is that large), NUMA tables, sleep states other than S5.
 *
 * References: [ACPI] ACPI specification 6.4, chapter 5; [HPET] IA-PC HPET specification 1.0a, 3.2.4;
 * [WAET] Windows ACPI Emulated Devices Table. The script's format: SeaBIOS, "romfile loader". */
#define _GNU_SOURCE /* memmem() */
#include "devices/acpi_tables.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acpi_dsdt.hex"
#include "devices/acpi_pm.h"

#define TABLES_FILE    "etc/acpi/tables"
#define RSDP_FILE      "etc/acpi/rsdp"
#define LOADER_FILE    "etc/table-loader"
#define FILE_NAME_SIZE 56

#define HEADER_SIZE  36
#define LAPIC_BASE   0xfee00000u
#define IOAPIC_BASE  0xfec00000u
#define HPET_BASE    0xfed00000u
#define PCI_HOLE_END 0xfebfffffu

#define LOADER_COMMANDS 40

/* A byte string that fits by construction. */
struct blob {
    u8 *data;        /* zeroed */
    size_t size;     /* used */
    size_t capacity; /* allocated */
};

struct builder {
    struct blob tables; /* etc/acpi/tables */
    struct blob rsdp;   /* etc/acpi/rsdp */
    struct blob loader; /* etc/table-loader */
};

/* ---- byte strings ---- */

static int blob_create(struct blob *b, size_t capacity)
{
    b->data = calloc(1, capacity);
    b->size = 0;
    b->capacity = capacity;
    return b->data ? 0 : -ENOMEM;
}

/* The offset of size zero bytes more. */
static size_t blob_grow(struct blob *b, size_t size)
{
    size_t at = b->size;
    assert(size <= b->capacity - b->size);
    b->size += size;
    return at;
}

static void put(u8 *p, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        p[i] = (u8)(value >> i * 8);
}

static void append(struct blob *b, u64 value, unsigned size)
{
    size_t at = blob_grow(b, size);
    put(b->data + at, value, size);
}

static void append_bytes(struct blob *b, const void *bytes, size_t size)
{
    size_t at = blob_grow(b, size);
    memcpy(b->data + at, bytes, size);
}

/* ---- the loader's script: commands of 128 bytes ---- */

static u8 *command(struct builder *b, u32 number)
{
    u8 *c = b->loader.data + blob_grow(&b->loader, 128);
    put(c, number, 4);
    return c + 4;
}

static void put_name(u8 *p, const char *name)
{
    assert(strlen(name) < FILE_NAME_SIZE);
    memcpy(p, name, strlen(name));
}

/* Command 1: place a file in memory. zone 1: anywhere high; 2: the 0xf0000 segment, where RSDPs are sought.
 */
static void script_allocate(struct builder *b, const char *file, u32 align, u8 zone)
{
    u8 *c = command(b, 1);
    put_name(c, file);
    put(c + FILE_NAME_SIZE, align, 4);
    c[FILE_NAME_SIZE + 4] = zone;
}

/* Command 2: add the tables file's address to the pointer at offset of file. */
static void script_pointer(struct builder *b, const char *file, size_t offset, u8 size)
{
    u8 *c = command(b, 2);
    put_name(c, file);
    put_name(c + FILE_NAME_SIZE, TABLES_FILE);
    put(c + 2 * FILE_NAME_SIZE, offset, 4);
    c[2 * FILE_NAME_SIZE + 4] = size;
}

/* Command 3: make the bytes of [start, start + length) of file sum to zero by the byte at offset. */
static void script_checksum(struct builder *b, const char *file, size_t offset, size_t start, size_t length)
{
    u8 *c = command(b, 3);
    put_name(c, file);
    put(c + FILE_NAME_SIZE, offset, 4);
    put(c + FILE_NAME_SIZE + 4, start, 4);
    put(c + FILE_NAME_SIZE + 8, length, 4);
}

/* ---- tables ---- */

static size_t table_begin(struct builder *b, const char *signature, u8 revision)
{
    size_t start = blob_grow(&b->tables, HEADER_SIZE);
    u8 *h = b->tables.data + start;

    memcpy(h, signature, 4);
    h[8] = revision;
    memcpy(h + 10, "CALQUE", 6);
    memcpy(h + 16, "CALQ", 4);
    memcpy(h + 20, signature, 4);
    put(h + 24, 1, 4);
    memcpy(h + 28, "CALQ", 4);
    put(h + 32, 1, 4);
    return start;
}

/* Length, and a checksum command: every table is checksummed after all pointers are in. */
static void table_end(struct builder *b, size_t start)
{
    size_t length = b->tables.size - start;
    put(b->tables.data + start + 4, length, 4);
    script_checksum(b, TABLES_FILE, start + 9, start, length);
}

/* Give the DSDT's Name (seg, DWord) its value. */
static void patch_name(u8 *aml, size_t size, const char *seg, u32 value)
{
    u8 pattern[6] = {0x08, (u8)seg[0], (u8)seg[1], (u8)seg[2], (u8)seg[3], 0x0c}; /* NameOp, DWordPrefix */

    for (size_t i = HEADER_SIZE; i + 10 <= size; i++) {
        if (memcmp(aml + i, pattern, sizeof pattern) != 0) continue;
        put(aml + i + 6, value, 4);
        return;
    }
    assert(!"placeholder in acpi_dsdt.asl");
}

static size_t build_dsdt(struct builder *b, const struct acpi_config *config)
{
    size_t start = b->tables.size;

    append_bytes(&b->tables, acpi_dsdt_aml_code, sizeof acpi_dsdt_aml_code);
    u8 *aml = b->tables.data + start;
    patch_name(aml, sizeof acpi_dsdt_aml_code, "P0S_", (u32)config->low_ram);
    patch_name(aml, sizeof acpi_dsdt_aml_code, "P0E_", PCI_HOLE_END);
    patch_name(aml, sizeof acpi_dsdt_aml_code, "SERB", config->serial_ports);
    patch_name(aml, sizeof acpi_dsdt_aml_code, "HPEB", config->hpet_id != 0);
    patch_name(aml, sizeof acpi_dsdt_aml_code, "FDCB", config->floppy);
    aml[9] = 0;
    table_end(b, start);
    return start;
}

/* Firmware ACPI control structure [ACPI] 5.2.10: no checksum, 64-byte aligned. */
static size_t build_facs(struct builder *b)
{
    while (b->tables.size % 64)
        append(&b->tables, 0, 1);
    size_t start = blob_grow(&b->tables, 64);
    memcpy(b->tables.data + start, "FACS", 4);
    put(b->tables.data + start + 4, 64, 4);
    return start;
}

/* Generic address structure [ACPI] 5.2.3.2 in I/O space; access: 1 byte, 2 word, 3 dword. */
static void append_gas(struct builder *b, u16 port, u8 bits, u8 access)
{
    append(&b->tables, port ? 1 : 0, 1);
    append(&b->tables, bits, 1);
    append(&b->tables, 0, 1);
    append(&b->tables, access, 1);
    append(&b->tables, port, 8);
}

#define FADT_WBINVD         (1u << 0)
#define FADT_PROC_C1        (1u << 2)
#define FADT_SLP_BUTTON     (1u << 5) /* no fixed sleep button; the power button is fixed hardware */
#define FADT_FIX_RTC        (1u << 6) /* no RTC wake-up status in the fixed registers */
#define FADT_RESET_REG      (1u << 10)
#define FADT_PLATFORM_CLOCK (1u << 15)

/* [ACPI] 5.2.9, in the form of ACPI 2.0 (revision 3, 244 bytes). */
static size_t build_fadt(struct builder *b, size_t facs, size_t dsdt)
{
    struct blob *t = &b->tables;
    size_t start = table_begin(b, "FACP", 3);

    script_pointer(b, TABLES_FILE, t->size, 4);
    append(t, facs, 4);
    script_pointer(b, TABLES_FILE, t->size, 4);
    append(t, dsdt, 4);
    append(t, 1, 1); /* ACPI 1.0's INT_MODEL: multiple APIC */
    append(t, 1, 1); /* preferred profile: desktop */
    append(t, ACPI_PM_SCI_IRQ, 2);
    append(t, ACPI_PM_SMI_COMMAND, 4);
    append(t, ACPI_PM_ENABLE, 1);
    append(t, ACPI_PM_DISABLE, 1);
    append(t, 0, 1);                /* S4BIOS_REQ */
    append(t, 0, 1);                /* PSTATE_CNT */
    append(t, ACPI_PM_BASE, 4);     /* PM1a_EVT_BLK */
    append(t, 0, 4);                /* PM1b_EVT_BLK */
    append(t, ACPI_PM_BASE + 4, 4); /* PM1a_CNT_BLK */
    append(t, 0, 4);                /* PM1b_CNT_BLK */
    append(t, 0, 4);                /* PM2_CNT_BLK */
    append(t, ACPI_PM_BASE + 8, 4); /* PM_TMR_BLK */
    append(t, ACPI_PM_GPE_BASE, 4); /* GPE0_BLK */
    append(t, 0, 4);                /* GPE1_BLK */
    append(t, 4, 1);                /* PM1_EVT_LEN */
    append(t, 2, 1);                /* PM1_CNT_LEN */
    append(t, 0, 1);                /* PM2_CNT_LEN */
    append(t, 4, 1);                /* PM_TMR_LEN */
    append(t, ACPI_PM_GPE_LENGTH, 1);
    append(t, 0, 1);      /* GPE1_BLK_LEN */
    append(t, 0, 1);      /* GPE1_BASE */
    append(t, 0, 1);      /* CST_CNT */
    append(t, 0x0fff, 2); /* P_LVL2_LAT: more than 100 us, no C2 */
    append(t, 0x0fff, 2); /* P_LVL3_LAT: more than 1000 us, no C3 */
    append(t, 0, 2);      /* FLUSH_SIZE */
    append(t, 0, 2);      /* FLUSH_STRIDE */
    append(t, 0, 1);      /* DUTY_OFFSET */
    append(t, 0, 1);      /* DUTY_WIDTH */
    append(t, 0, 1);      /* DAY_ALRM */
    append(t, 0, 1);      /* MON_ALRM */
    append(t, 0x32, 1);   /* CENTURY: its CMOS index */
    append(t, 3, 2);      /* IAPC_BOOT_ARCH: legacy devices, 8042 */
    append(t, 0, 1);
    append(t,
           FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_RESET_REG | FADT_PLATFORM_CLOCK,
           4);
    append_gas(b, 0xcf9, 8, 1);
    append(t, 0x06, 1); /* RESET_VALUE: hard reset */
    append(t, 0, 3);
    append(t, 0, 8); /* X_FIRMWARE_CTRL: the FACS is below 4 GiB, and only one of the two may be set */
    script_pointer(b, TABLES_FILE, t->size, 8);
    append(t, dsdt, 8);
    append_gas(b, ACPI_PM_BASE, 32, 2);
    append_gas(b, 0, 0, 0);
    append_gas(b, ACPI_PM_BASE + 4, 16, 2);
    append_gas(b, 0, 0, 0);
    append_gas(b, 0, 0, 0);
    append_gas(b, ACPI_PM_BASE + 8, 32, 3);
    append_gas(b, ACPI_PM_GPE_BASE, ACPI_PM_GPE_LENGTH * 8, 1);
    append_gas(b, 0, 0, 0);
    assert(t->size - start == 244);
    table_end(b, start);
    return start;
}

/* Interrupt source override [ACPI] 5.2.12.5; flags 0: as the bus, 0xd: active high, level triggered. */
static void append_override(struct blob *t, u8 irq, u32 gsi, u16 flags)
{
    append(t, 2, 1);
    append(t, 10, 1);
    append(t, 0, 1); /* ISA */
    append(t, irq, 1);
    append(t, gsi, 4);
    append(t, flags, 2);
}

/* [ACPI] 5.2.12. */
static size_t build_madt(struct builder *b, const struct acpi_config *config)
{
    struct blob *t = &b->tables;
    size_t start = table_begin(b, "APIC", 1);

    append(t, LAPIC_BASE, 4);
    append(t, 1, 4); /* PCAT_COMPAT: 8259s too */
    for (unsigned i = 0; i < config->cpus; i++) {
        append(t, 0, 1);
        append(t, 8, 1);
        append(t, i, 1); /* processor ID, as in the SSDT */
        append(t, i, 1); /* local APIC ID */
        append(t, 1, 4); /* enabled */
    }
    append(t, 1, 1);
    append(t, 12, 1);
    append(t, 0, 1); /* I/O APIC ID, as its register has it after reset */
    append(t, 0, 1);
    append(t, IOAPIC_BASE, 4);
    append(t, 0, 4); /* first global interrupt */
    append_override(t, 0, 2, 0);
    append_override(t, 5, 5, 0xd); /* what PCI interrupts and the SCI may be routed to */
    append_override(t, ACPI_PM_SCI_IRQ, ACPI_PM_SCI_IRQ, 0xd);
    append_override(t, 10, 10, 0xd);
    append_override(t, 11, 11, 0xd);
    append(t, 4, 1); /* local APIC NMI */
    append(t, 6, 1);
    append(t, 0xff, 1); /* of all processors */
    append(t, 0, 2);
    append(t, 1, 1); /* LINT1 */
    table_end(b, start);
    return start;
}

static size_t build_hpet(struct builder *b, const struct acpi_config *config)
{
    struct blob *t = &b->tables;
    size_t start = table_begin(b, "HPET", 1);

    append(t, config->hpet_id, 4);
    append(t, 0, 4); /* address structure: memory space */
    append(t, HPET_BASE, 8);
    append(t, 0, 1); /* number */
    append(t, 0, 2); /* minimum tick in periodic mode */
    append(t, 0, 1); /* page protection */
    table_end(b, start);
    return start;
}

/* Tells guests that one read of the power management timer is enough. */
static size_t build_waet(struct builder *b)
{
    size_t start = table_begin(b, "WAET", 1);
    append(&b->tables, 2, 4);
    table_end(b, start);
    return start;
}

/* Scope (\_PR) { Processor (C000, 0, 0, 0) {} ... }, in AML [ACPI] 20.2.5.2. */
static size_t build_ssdt(struct builder *b, const struct acpi_config *config)
{
    struct blob *t = &b->tables;
    size_t start = table_begin(b, "SSDT", 1);
    unsigned body = 3 + 5 + config->cpus * 13; /* package length, "\_PR_", processors */

    append(t, 0x10, 1);                /* ScopeOp */
    append(t, 0x80 | (body & 0xf), 1); /* package length in three bytes: 4, 8 and 8 bits */
    append(t, body >> 4 & 0xff, 1);
    append(t, body >> 12, 1);
    append_bytes(t, "\\_PR_", 5);
    for (unsigned i = 0; i < config->cpus; i++) {
        char name[5];
        snprintf(name, sizeof name, "C%03X", i & 0xfff);
        append(t, 0x835b, 2); /* ProcessorOp */
        append(t, 11, 1);     /* package length */
        append_bytes(t, name, 4);
        append(t, i, 1); /* processor ID */
        append(t, 0, 4); /* no processor control block */
        append(t, 0, 1);
    }
    table_end(b, start);
    return start;
}

/* RSDT (pointers of 4 bytes) or XSDT (of 8). */
static size_t build_root(struct builder *b, const char *signature, u8 pointer_size, const size_t *tables,
                         int count)
{
    size_t start = table_begin(b, signature, 1);
    for (int i = 0; i < count; i++) {
        script_pointer(b, TABLES_FILE, b->tables.size, pointer_size);
        append(&b->tables, tables[i], pointer_size);
    }
    table_end(b, start);
    return start;
}

/* [ACPI] 5.2.5.3, revision 2. */
static void build_rsdp(struct builder *b, size_t rsdt, size_t xsdt)
{
    struct blob *r = &b->rsdp;

    append_bytes(r, "RSD PTR ", 8);
    append(r, 0, 1); /* checksum of the first 20 bytes */
    append_bytes(r, "CALQUE", 6);
    append(r, 2, 1);
    append(r, rsdt, 4);
    append(r, 36, 4);
    append(r, xsdt, 8);
    append(r, 0, 1); /* checksum of all */
    append(r, 0, 3);
    script_pointer(b, RSDP_FILE, 16, 4);
    script_pointer(b, RSDP_FILE, 24, 8);
    script_checksum(b, RSDP_FILE, 8, 0, 20);
    script_checksum(b, RSDP_FILE, 32, 0, 36);
}

/* All checksum commands to the end of the script, in order: tables are finished before their pointers are. */
static void checksums_last(struct blob *loader)
{
    u8 sorted[LOADER_COMMANDS * 128];
    size_t n = 0;

    for (int checksums = 0; checksums < 2; checksums++) {
        for (size_t i = 0; i < loader->size; i += 128) {
            if ((loader->data[i] == 3) != checksums) continue;
            memcpy(sorted + n, loader->data + i, 128);
            n += 128;
        }
    }
    memcpy(loader->data, sorted, n);
}

int acpi_tables_add(struct fw_cfg *f, const struct acpi_config *config)
{
    /* Which states the board's firmware may offer: S0 and S5 (bit 7), the low bits are the sleep types. */
    static const u8 system_states[6] = {0x80, 0, 0, 1, 2, 0x80};
    struct builder b = {0};
    size_t roots[5];
    int count = 0;

    assert(config->cpus >= 1 && config->cpus <= 255);
    int r = blob_create(&b.tables, sizeof acpi_dsdt_aml_code + 4096 + config->cpus * 32);
    if (!r) r = blob_create(&b.rsdp, 36);
    if (!r) r = blob_create(&b.loader, LOADER_COMMANDS * 128);
    if (r < 0) {
        fprintf(stderr, "calque: acpi_tables: out of memory\n");
        goto out;
    }

    script_allocate(&b, RSDP_FILE, 16, 2);
    script_allocate(&b, TABLES_FILE, 64, 1);
    size_t facs = build_facs(&b);
    size_t dsdt = build_dsdt(&b, config);
    roots[count++] = build_fadt(&b, facs, dsdt);
    roots[count++] = build_ssdt(&b, config);
    roots[count++] = build_madt(&b, config);
    if (config->hpet_id) roots[count++] = build_hpet(&b, config);
    roots[count++] = build_waet(&b);
    size_t rsdt = build_root(&b, "RSDT", 4, roots, count);
    size_t xsdt = build_root(&b, "XSDT", 8, roots, count);
    build_rsdp(&b, rsdt, xsdt);
    checksums_last(&b.loader);

    r = fw_cfg_add_file(f, TABLES_FILE, b.tables.data, b.tables.size);
    if (!r) r = fw_cfg_add_file(f, RSDP_FILE, b.rsdp.data, b.rsdp.size);
    if (!r) r = fw_cfg_add_file(f, LOADER_FILE, b.loader.data, b.loader.size);
    if (!r) r = fw_cfg_add_file(f, "etc/system-states", system_states, sizeof system_states);
out:
    free(b.tables.data);
    free(b.rsdp.data);
    free(b.loader.data);
    return r;
}

/* FADT fields [ACPI] table 5.9: the ports of the PM1a event block, PM1a control block and PM timer, twice each. */
static const struct {
    u8 offset, size; /* in the FADT */
    u8 port;         /* from the base */
} pm_fields[] = {{56, 4, 0}, {64, 4, 4}, {76, 4, 8}, {152, 8, 0}, {176, 8, 4}, {212, 8, 8}};

void acpi_tables_set_pm_base(struct fw_cfg *f, u16 base)
{
    size_t size;
    const u8 *now = fw_cfg_find_file(f, TABLES_FILE, &size);
    const u8 *fadt = now ? memmem(now, size, "FACP", 4) : NULL;
    if (!fadt) return;
    u16 old = (u16)(fadt[56] | fadt[57] << 8);
    if (old == base) return;
    u8 *data = malloc(size);
    if (!data) return;
    memcpy(data, now, size);
    for (size_t i = 0; i < sizeof pm_fields / sizeof pm_fields[0]; i++)
        put(data + (fadt - now) + pm_fields[i].offset, base + pm_fields[i].port, pm_fields[i].size);
    /* In the DSDT the board's reserved ports, IO (Decode16, base, base, 1, 64) [ACPI] 6.4.2.5. */
    const u8 io[] = {0x47, 1, (u8)old, (u8)(old >> 8), (u8)old, (u8)(old >> 8), 1, 0x40};
    u8 *descriptor = memmem(data, size, io, sizeof io);
    if (descriptor) {
        put(descriptor + 2, base, 2);
        put(descriptor + 4, base, 2);
    }
    fw_cfg_add_file(f, TABLES_FILE, data, size);
    free(data);
}
