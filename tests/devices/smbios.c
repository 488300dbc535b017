// build/tests/test_smbios
#include <criterion/criterion.h>
#include <string.h>

#include "core/bus.h"
#include "devices/fw_cfg.h"
#include "devices/smbios.h"

struct board {
    struct bus *memory, *ports;
    struct fw_cfg *f;
    const u8 *entry, *tables;
    size_t entry_size, tables_size;
};

static const u8 uuid[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                            0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};

static void setup(struct board *b, u64 low, u64 high)
{
    struct smbios_config config = {
        .cpus = 2,
        .cpu_signature = 0x6f1,
        .cpu_features = 0x0febfbff,
        .cpu_vendor = "GenuineIntel",
        .cpu_model = "Test CPU",
        .low_ram = low,
        .high_ram = high,
        .uuid = uuid,
        .version = "1.2",
    };
    b->memory = bus_create("memory", 1ull << 52);
    b->ports = bus_create("ports", 0x10000);
    b->f = fw_cfg_create(b->ports, b->memory);
    cr_assert_eq(smbios_add(b->f, &config), 0);
    b->entry = fw_cfg_find_file(b->f, "etc/smbios/smbios-anchor", &b->entry_size);
    b->tables = fw_cfg_find_file(b->f, "etc/smbios/smbios-tables", &b->tables_size);
    cr_assert_not_null(b->entry);
    cr_assert_not_null(b->tables);
}

static void teardown(struct board *b)
{
    fw_cfg_device(b->f)->cls->destroy(fw_cfg_device(b->f));
    bus_destroy(b->memory);
    bus_destroy(b->ports);
}

static u64 le(const u8 *p, int size)
{
    u64 v = 0;
    while (size--)
        v = v << 8 | p[size];
    return v;
}

/* The structure after p: past its text, which ends with an empty string. */
static const u8 *after(const u8 *p)
{
    p += p[1];
    while (p[0] || p[1])
        p++;
    return p + 2;
}

static const u8 *find(struct board *b, u8 type, int n)
{
    for (const u8 *p = b->tables; p < b->tables + b->tables_size; p = after(p))
        if (*p == type && n-- == 0) return p;
    return NULL;
}

static const char *string(const u8 *p, u8 number)
{
    const char *s = (const char *)p + p[1];
    while (number-- > 1)
        s += strlen(s) + 1;
    return s;
}

Test(smbios, entry_point)
{
    struct board b;
    unsigned count = 0, largest = 0;
    u8 sum = 0, inner = 0;
    setup(&b, 0x20000000, 0);
    cr_expect_eq(b.entry_size, 31);
    cr_expect_eq(memcmp(b.entry, "_SM_", 4), 0);
    cr_expect_eq(memcmp(b.entry + 16, "_DMI_", 5), 0);
    for (int i = 0; i < 31; i++)
        sum = (u8)(sum + b.entry[i]);
    for (int i = 16; i < 31; i++)
        inner = (u8)(inner + b.entry[i]);
    cr_expect_eq(sum, 0);
    cr_expect_eq(inner, 0);
    cr_expect_eq(b.entry[6], 2);
    cr_expect_eq(b.entry[7], 8);
    const u8 *p = b.tables;
    while (p < b.tables + b.tables_size) {
        unsigned size = (unsigned)(after(p) - p);
        if (size > largest) largest = size;
        p = after(p);
        count++;
    }
    cr_expect_eq(p, b.tables + b.tables_size);
    cr_expect_eq(le(b.entry + 22, 2), b.tables_size);
    cr_expect_eq(le(b.entry + 28, 2), count);
    cr_expect_eq(le(b.entry + 8, 2), largest);
    cr_expect_eq(count, 10);
    teardown(&b);
}

Test(smbios, structures)
{
    /* Type and length of the formatted part, from the specification, version 2.8. */
    static const u8 lengths[][2] = {
        {0, 0x18}, {1, 0x1b}, {3, 0x16}, {4, 0x2a}, {16, 0x17}, {17, 0x28}, {19, 0x1f}, {32, 0x0b}, {127, 4},
    };
    struct board b;
    setup(&b, 0x20000000, 0);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        const u8 *s = find(&b, lengths[i][0], 0);
        cr_assert_not_null(s, "type %u", lengths[i][0]);
        cr_expect_eq(s[1], lengths[i][1], "type %u: 0x%x", lengths[i][0], s[1]);
    }
    const u8 *system = find(&b, 1, 0);
    cr_expect_str_eq(string(system, system[4]), "Calque");
    cr_expect_str_eq(string(system, system[6]), "1.2");
    static const u8 swapped[16] = {0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
                                   0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    cr_expect_eq(memcmp(system + 8, swapped, 16), 0);
    const u8 *cpu = find(&b, 4, 1);
    cr_assert_not_null(cpu);
    cr_expect_str_eq(string(cpu, cpu[4]), "CPU 1");
    cr_expect_str_eq(string(cpu, cpu[0x10]), "Test CPU");
    cr_expect_eq(le(cpu + 8, 8), 0x0febfbff000006f1ull);
    cr_expect_null(find(&b, 4, 2));
    teardown(&b);
}

Test(smbios, memory)
{
    struct board b;
    setup(&b, 0x20000000, 0);
    cr_expect_eq(le(find(&b, 16, 0) + 7, 4), 0x80000);
    cr_expect_eq(le(find(&b, 17, 0) + 12, 2), 512);
    cr_expect_eq(le(find(&b, 19, 0) + 4, 4), 0);
    cr_expect_eq(le(find(&b, 19, 0) + 8, 4), 0x7ffff);
    cr_expect_null(find(&b, 19, 1));
    teardown(&b);

    setup(&b, 0xc0000000, 0x8000000000ull - 0xc0000000); /* 512 GiB, most of it above 4 GiB */
    cr_expect_eq(le(find(&b, 16, 0) + 13, 2), 32);
    cr_expect_eq(le(find(&b, 17, 31) + 12, 2), 16384);
    cr_expect_null(find(&b, 17, 32));
    cr_expect_eq(le(find(&b, 19, 1) + 4, 4), 0x400000);
    cr_expect_eq(le(find(&b, 19, 1) + 8, 4), (0x8040000000ull >> 10) - 1);
    teardown(&b);

    setup(&b, 0xc0000000, 0x40000000000ull); /* 4 TiB: in the extended fields */
    cr_expect_eq(le(find(&b, 16, 0) + 7, 4), 0x80000000);
    cr_expect_eq(le(find(&b, 16, 0) + 15, 8), 0x400c0000000ull);
    cr_expect_eq(le(find(&b, 19, 1) + 4, 4), 0xffffffff);
    cr_expect_eq(le(find(&b, 19, 1) + 15, 8), 0x100000000ull);
    cr_expect_eq(le(find(&b, 19, 1) + 23, 8), 0x400ffffffffull);
    teardown(&b);
}
