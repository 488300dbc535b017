// build/tests/test_acpi_tables
/* Runs the loader script as firmware does, then looks at the tables where it put them. iasl, where installed,
 * must disassemble the definition blocks. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bus.h"
#include "devices/acpi_tables.h"
#include "devices/fw_cfg.h"

#define TABLES_AT 0x1fff0000u
#define RSDP_AT   0x000f5000u

struct loaded {
    struct bus *memory, *ports;
    struct fw_cfg *f;
    u8 *tables, *rsdp;
    size_t tables_size, rsdp_size;
    size_t pointers, checksums;
};

static u64 le(const u8 *p, int size)
{
    u64 v = 0;
    while (size--)
        v = v << 8 | p[size];
    return v;
}

static u8 sum(const u8 *p, size_t size)
{
    u8 s = 0;
    while (size--)
        s = (u8)(s + *p++);
    return s;
}

static u8 *copy_file(struct fw_cfg *f, const char *name, size_t *size)
{
    const u8 *p = fw_cfg_find_file(f, name, size);
    cr_assert_not_null(p, "%s", name);
    u8 *copy = malloc(*size);
    memcpy(copy, p, *size);
    return copy;
}

static u8 *file(struct loaded *l, const char *name, size_t *size)
{
    bool rsdp = strcmp(name, "etc/acpi/rsdp") == 0;
    cr_assert(rsdp || strcmp(name, "etc/acpi/tables") == 0, "%s", name);
    *size = rsdp ? l->rsdp_size : l->tables_size;
    return rsdp ? l->rsdp : l->tables;
}

static void load(struct loaded *l, const struct acpi_config *config)
{
    size_t script_size, n;
    memset(l, 0, sizeof *l);
    l->memory = bus_create("memory", 1ull << 52);
    l->ports = bus_create("ports", 0x10000);
    l->f = fw_cfg_create(l->ports, l->memory);
    cr_assert_eq(acpi_tables_add(l->f, config), 0);
    l->tables = copy_file(l->f, "etc/acpi/tables", &l->tables_size);
    l->rsdp = copy_file(l->f, "etc/acpi/rsdp", &l->rsdp_size);
    u8 *script = copy_file(l->f, "etc/table-loader", &script_size);
    cr_assert_eq(script_size % 128, 0);
    for (u8 *c = script; c < script + script_size; c += 128) {
        const char *name = (char *)c + 4;
        switch (le(c, 4)) {
        case 1:
            cr_expect_eq(c[64], strcmp(name, "etc/acpi/rsdp") == 0 ? 2 : 1);
            cr_expect_eq(le(c + 60, 4), c[64] == 2 ? 16 : 64);
            break;
        case 2: {
            u8 *dest = file(l, name, &n);
            u64 offset = le(c + 116, 4), size = c[120];
            cr_assert_str_eq((char *)c + 60, "etc/acpi/tables");
            cr_assert(offset + size <= n);
            cr_expect_eq(l->checksums, 0, "pointers come before checksums");
            u64 v = le(dest + offset, (int)size) + TABLES_AT;
            memcpy(dest + offset, &v, size);
            l->pointers++;
            break;
        }
        case 3: {
            u8 *dest = file(l, name, &n);
            u64 offset = le(c + 60, 4), start = le(c + 64, 4), length = le(c + 68, 4);
            cr_assert(start + length <= n && offset >= start && offset < start + length);
            dest[offset] = (u8)(dest[offset] - sum(dest + start, length));
            l->checksums++;
            break;
        }
        default: cr_assert_fail("command %u", (unsigned)le(c, 4));
        }
    }
    free(script);
}

static void unload(struct loaded *l)
{
    free(l->tables);
    free(l->rsdp);
    fw_cfg_device(l->f)->cls->destroy(fw_cfg_device(l->f));
    bus_destroy(l->memory);
    bus_destroy(l->ports);
}

static u8 *at(struct loaded *l, u64 address)
{
    cr_assert(address >= TABLES_AT && address + 8 <= TABLES_AT + l->tables_size);
    return l->tables + (address - TABLES_AT);
}

static u8 *find(struct loaded *l, const char *signature, int n)
{
    u8 *rsdt = at(l, le(l->rsdp + 16, 4));
    for (u64 i = 36; i < le(rsdt + 4, 4); i += 4) {
        u8 *t = at(l, le(rsdt + i, 4));
        if (memcmp(t, signature, 4) == 0 && n-- == 0) return t;
    }
    return NULL;
}

static const struct acpi_config two = {
    .cpus = 2, .low_ram = 0x20000000, .hpet_id = 0x8086a201, .serial_ports = 1};

Test(acpi_tables, root_pointers_and_checksums)
{
    struct loaded l;
    load(&l, &two);
    cr_expect_eq(memcmp(l.rsdp, "RSD PTR ", 8), 0);
    cr_expect_eq(l.rsdp_size, 36);
    cr_expect_eq(sum(l.rsdp, 20), 0);
    cr_expect_eq(sum(l.rsdp, 36), 0);
    u8 *rsdt = at(&l, le(l.rsdp + 16, 4)), *xsdt = at(&l, le(l.rsdp + 24, 8));
    cr_expect_eq(memcmp(rsdt, "RSDT", 4), 0);
    cr_expect_eq(memcmp(xsdt, "XSDT", 4), 0);
    cr_expect_eq(sum(rsdt, le(rsdt + 4, 4)), 0);
    cr_expect_eq(sum(xsdt, le(xsdt + 4, 4)), 0);
    unsigned count = (unsigned)(le(rsdt + 4, 4) - 36) / 4;
    cr_expect_eq(count, 5);
    cr_expect_eq((le(xsdt + 4, 4) - 36) / 8, count);
    for (unsigned i = 0; i < count; i++) {
        u8 *t = at(&l, le(rsdt + 36 + 4 * i, 4));
        cr_expect_eq(le(xsdt + 36 + 8 * i, 8), le(rsdt + 36 + 4 * i, 4));
        cr_expect_eq(sum(t, le(t + 4, 4)), 0, "%.4s", t);
    }
    unload(&l);
}

Test(acpi_tables, fadt)
{
    struct loaded l;
    load(&l, &two);
    u8 *t = find(&l, "FACP", 0);
    cr_assert_not_null(t);
    cr_expect_eq(t[8], 3);
    cr_expect_eq(le(t + 4, 4), 244);
    u8 *facs = at(&l, le(t + 36, 4)), *dsdt = at(&l, le(t + 40, 4));
    cr_expect_eq(memcmp(facs, "FACS", 4), 0);
    cr_expect_eq(le(t + 36, 4) % 64, 0);
    cr_expect_eq(memcmp(dsdt, "DSDT", 4), 0);
    cr_expect_eq(sum(dsdt, le(dsdt + 4, 4)), 0);
    cr_expect_eq(le(t + 140, 8), le(t + 40, 4), "X_DSDT");
    cr_expect_eq(le(t + 46, 2), 9);
    cr_expect_eq(le(t + 48, 4), 0xb2);
    cr_expect_eq(le(t + 52, 2), 0xf0f1);
    cr_expect_eq(le(t + 56, 4), 0x600);
    cr_expect_eq(le(t + 64, 4), 0x604);
    cr_expect_eq(le(t + 76, 4), 0x608);
    cr_expect_eq(le(t + 80, 4), 0xafe0);
    cr_expect_eq(le(t + 88, 4), 0x04000204);
    cr_expect_eq(t[92], 4);
    cr_expect_eq(t[108], 0x32);
    cr_expect_eq(le(t + 109, 2), 3);
    cr_expect_eq(le(t + 112, 4) & (1 << 10 | 1 << 8 | 1 << 4), 1 << 10);
    cr_expect_eq(le(t + 116, 4), 0x01000801);
    cr_expect_eq(le(t + 120, 8), 0xcf9);
    cr_expect_eq(t[128], 6);
    cr_expect_eq(le(t + 148 + 4, 8), 0x600);
    cr_expect_eq(le(t + 172 + 4, 8), 0x604);
    cr_expect_eq(le(t + 208 + 4, 8), 0x608);
    cr_expect_eq(le(t + 220 + 4, 8), 0xafe0);
    unload(&l);
}

Test(acpi_tables, follow_firmware_that_moves_the_pm_registers)
{
    struct loaded l;
    size_t size, before;
    load(&l, &two);
    u64 fadt = (u64)(find(&l, "FACP", 0) - l.tables);
    const u8 *was = fw_cfg_find_file(l.f, "etc/acpi/tables", &before);
    cr_assert_not_null(was);
    acpi_tables_set_pm_base(l.f, 0xb000);
    const u8 *t = fw_cfg_find_file(l.f, "etc/acpi/tables", &size);
    cr_assert_eq(size, before);
    t += fadt;
    cr_expect_eq(le(t + 56, 4), 0xb000);
    cr_expect_eq(le(t + 64, 4), 0xb004);
    cr_expect_eq(le(t + 76, 4), 0xb008);
    cr_expect_eq(le(t + 148 + 4, 8), 0xb000);
    cr_expect_eq(le(t + 172 + 4, 8), 0xb004);
    cr_expect_eq(le(t + 208 + 4, 8), 0xb008);
    cr_expect_eq(le(t + 80, 4), 0xafe0, "the others stay");
    bool reserved = false;
    for (size_t i = 0; i + 8 <= size; i++)
        if (memcmp(t - fadt + i, "\x47\x01\x00\xb0\x00\xb0\x01\x40", 8) == 0) reserved = true;
    cr_expect(reserved);
    unload(&l);
}

Test(acpi_tables, madt)
{
    struct loaded l;
    struct acpi_config config = two;
    unsigned cpus = 0, apics = 0, overrides = 0;
    config.cpus = 5;
    load(&l, &config);
    u8 *t = find(&l, "APIC", 0);
    cr_assert_not_null(t);
    cr_expect_eq(le(t + 36, 4), 0xfee00000);
    cr_expect_eq(le(t + 40, 4), 1);
    u64 length = le(t + 4, 4), i = 44;
    for (; i < length; i += t[i + 1]) {
        u8 *e = t + i;
        cr_assert_gt(e[1], 0);
        if (e[0] == 0) {
            cr_expect_eq(e[2], cpus);
            cr_expect_eq(e[3], cpus);
            cr_expect_eq(le(e + 4, 4), 1);
            cpus++;
        } else if (e[0] == 1) {
            cr_expect_eq(le(e + 4, 4), 0xfec00000);
            cr_expect_eq(le(e + 8, 4), 0);
            apics++;
        } else if (e[0] == 2) {
            cr_expect_eq(le(e + 4, 4), e[3] == 0 ? 2 : e[3]);
            cr_expect_eq(le(e + 8, 2), e[3] == 0 ? 0 : 0xd);
            overrides |= 1u << e[3];
        } else {
            cr_expect_eq(e[0], 4);
            cr_expect_eq(e[2], 0xff);
            cr_expect_eq(e[5], 1);
        }
    }
    cr_expect_eq(i, length);
    cr_expect_eq(cpus, 5);
    cr_expect_eq(apics, 1);
    cr_expect_eq(overrides, 1 << 0 | 1 << 5 | 1 << 9 | 1 << 10 | 1 << 11);
    unload(&l);
}

Test(acpi_tables, hpet_is_optional)
{
    struct loaded l;
    struct acpi_config config = two;
    load(&l, &config);
    u8 *t = find(&l, "HPET", 0);
    cr_assert_not_null(t);
    cr_expect_eq(le(t + 4, 4), 56);
    cr_expect_eq(le(t + 36, 4), 0x8086a201);
    cr_expect_eq(le(t + 44, 8), 0xfed00000);
    unload(&l);
    config.hpet_id = 0;
    load(&l, &config);
    cr_expect_null(find(&l, "HPET", 0));
    unload(&l);
}

/* The value of Name (seg, DWord) in the DSDT. */
static u64 dsdt_name(struct loaded *l, const char *seg)
{
    u8 *dsdt = at(l, le(find(l, "FACP", 0) + 40, 4));
    for (u64 i = 36; i + 10 < le(dsdt + 4, 4); i++)
        if (dsdt[i] == 8 && memcmp(dsdt + i + 1, seg, 4) == 0) return le(dsdt + i + 6, 4);
    cr_assert_fail("%s", seg);
    return 0;
}

Test(acpi_tables, dsdt_is_filled_in)
{
    struct loaded l;
    load(&l, &two);
    cr_expect_eq(dsdt_name(&l, "P0S_"), 0x20000000);
    cr_expect_eq(dsdt_name(&l, "P0E_"), 0xfebfffff);
    cr_expect_eq(dsdt_name(&l, "SERB"), 1);
    cr_expect_eq(dsdt_name(&l, "HPEB"), 1);
    unload(&l);
}

/* Disassemble a table; the text. */
static char *disassemble(const u8 *table, const char *name)
{
    char dir[] = "/tmp/calque-acpi-XXXXXX", path[128], command[512];
    char *text = calloc(1, 1 << 20);
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/%s.aml", dir, name);
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(table, 1, le(table + 4, 4), f), le(table + 4, 4));
    fclose(f);
    snprintf(command, sizeof command, "cd %s && iasl -d %s.aml >log 2>&1 && ! grep -i 'invalid\\|error' log",
             dir, name);
    int status = system(command);
    snprintf(path, sizeof path, "%s/%s.dsl", dir, name);
    f = fopen(path, "rb");
    if (f) {
        size_t n = fread(text, 1, (1 << 20) - 1, f);
        text[n] = 0;
        fclose(f);
    }
    snprintf(command, sizeof command, "rm -r %s", dir);
    cr_expect_eq(system(command), 0);
    cr_assert_eq(status, 0);
    return text;
}

Test(acpi_tables, definition_blocks_disassemble)
{
    struct loaded l;
    struct acpi_config config = two;
    if (system("command -v iasl >/dev/null") != 0) cr_skip_test("iasl is not installed");
    config.cpus = 255;
    load(&l, &config);
    char *dsdt = disassemble(at(&l, le(find(&l, "FACP", 0) + 40, 4)), "dsdt");
    cr_expect_not_null(strstr(dsdt, "Name (P0S, 0x20000000)"));
    cr_expect_not_null(strstr(dsdt, "Method (_PRT"));
    free(dsdt);
    char *ssdt = disassemble(find(&l, "SSDT", 0), "ssdt");
    cr_expect_not_null(strstr(ssdt, "Scope (\\_PR)"));
    cr_expect_not_null(strstr(ssdt, "Processor (C000, 0x00, 0x00000000, 0x00) {}"));
    cr_expect_not_null(strstr(ssdt, "Processor (C0FE, 0xFE, 0x00000000, 0x00) {}"));
    free(ssdt);
    unload(&l);
}
