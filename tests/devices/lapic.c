/* Run alone: build/tests/test_lapic
 *
 * The local APIC's registers, modes, priorities, messages and timer, on a manual clock. */
#include <criterion/criterion.h>

#include "core/clock.h"
#include "devices/apic_bus.h"
#include "devices/lapic.h"

#define MSR_BASE     0x1b
#define MSR_DEADLINE 0x6e0
#define XAPIC        0xfee00900ull
#define X2APIC       0xfee00d00ull

/* What one fake CPU was told. */
struct fake_cpu {
    struct lapic *apic;
    bool intr;
    int nmis, inits, smis, sipis;
    u8 sipi_vector;
    int acks; /* INTA cycles at the fake i8259 */
    u8 extint_vector;
};

static struct clock *machine_clock;
static struct apic_bus *apics;
static struct fake_cpu cpus[4];
static int eois;
static u8 last_eoi;

static void cpu_intr(void *o, bool level) { ((struct fake_cpu *)o)->intr = level; }
static void cpu_nmi(void *o) { ((struct fake_cpu *)o)->nmis++; }
static void cpu_init(void *o) { ((struct fake_cpu *)o)->inits++; }
static void cpu_smi(void *o) { ((struct fake_cpu *)o)->smis++; }
static void cpu_sipi(void *o, u8 vector)
{
    struct fake_cpu *c = o;
    c->sipis++;
    c->sipi_vector = vector;
}
/* A 2 GHz TSC that started 1000 ticks before the clock. */
static u64 cpu_ns_to_tsc(void *o, u64 ns)
{
    (void)o;
    return ns * 2 + 1000;
}
static u64 cpu_tsc_to_ns(void *o, u64 tsc)
{
    (void)o;
    return tsc < 1000 ? 0 : (tsc - 1000) / 2;
}
static int pic_ack(void *o)
{
    struct fake_cpu *c = o;
    c->acks++;
    return c->extint_vector;
}
static void count_eoi(void *o, u8 vector)
{
    (void)o;
    eois++;
    last_eoi = vector;
}

static void setup(int count)
{
    machine_clock = clock_create_manual();
    apics = apic_bus_create();
    apic_bus_on_eoi(apics, count_eoi, NULL);
    eois = 0;
    for (int i = 0; i < count; i++) {
        struct fake_cpu *c = &cpus[i];
        *c = (struct fake_cpu){0};
        struct lapic_config config = {.id = (u32)i, .bsp = i == 0, .x2apic = true, .tsc_deadline = true,
                                      .phys_bits = 40, .extint_ack = pic_ack, .extint_opaque = c};
        struct lapic_cpu cpu = {.opaque = c, .set_intr = cpu_intr, .nmi = cpu_nmi, .init = cpu_init,
                                .sipi = cpu_sipi, .smi = cpu_smi,
                                .ns_to_tsc = cpu_ns_to_tsc, .tsc_to_ns = cpu_tsc_to_ns};
        c->apic = lapic_create(apics, machine_clock, &config, &cpu);
    }
}

static u32 rd(int cpu, unsigned reg)
{
    u64 value = 0;
    cr_assert(lapic_mmio_read(cpus[cpu].apic, lapic_base(cpus[cpu].apic) + reg, 4, &value));
    return (u32)value;
}

static void wr(int cpu, unsigned reg, u32 value)
{
    cr_assert(lapic_mmio_write(cpus[cpu].apic, lapic_base(cpus[cpu].apic) + reg, value, 4));
}

static u64 msr(int cpu, u32 n)
{
    u64 value = 0xdeadbeef;
    cr_assert(lapic_msr_read(cpus[cpu].apic, n, &value));
    return value;
}

static bool wrmsr(int cpu, u32 n, u64 value) { return lapic_msr_write(cpus[cpu].apic, n, value); }

static void enable(int cpu) { wr(cpu, 0xf0, 0x1ff); }

static void ipi(int cpu, u32 high, u32 low)
{
    wr(cpu, 0x310, high);
    wr(cpu, 0x300, low);
}

Test(lapic, reset_state)
{
    setup(2);
    cr_assert_eq(rd(0, 0x30), 0x50014);
    cr_assert_eq(rd(0, 0x20), 0);
    cr_assert_eq(rd(1, 0x20), 0x01000000);
    cr_assert_eq(rd(0, 0xf0), 0xff);
    cr_assert_eq(rd(0, 0xe0), 0xffffffff);
    cr_assert_eq(rd(0, 0xd0), 0);
    cr_assert_eq(rd(0, 0x350), 0x700, "boot CPU: virtual wire");
    cr_assert_eq(rd(1, 0x350), 0x10000);
    for (unsigned reg = 0x320; reg <= 0x340; reg += 0x10) cr_assert_eq(rd(0, reg), 0x10000);
    cr_assert_eq(msr(0, MSR_BASE), XAPIC);
    cr_assert_eq(msr(1, MSR_BASE), 0xfee00800);
}

Test(lapic, base_transitions)
{
    setup(1);
    cr_assert_not(wrmsr(0, MSR_BASE, 0xfee00500), "xAPIC to invalid");
    cr_assert(wrmsr(0, MSR_BASE, X2APIC));
    cr_assert_not(wrmsr(0, MSR_BASE, 0xfee00500), "x2APIC to invalid");
    cr_assert_not(wrmsr(0, MSR_BASE, XAPIC), "x2APIC to xAPIC");
    cr_assert(wrmsr(0, MSR_BASE, 0xfee00100));
    cr_assert_not(wrmsr(0, MSR_BASE, 0xfee00500), "disabled to invalid");
    cr_assert_not(wrmsr(0, MSR_BASE, X2APIC), "disabled to x2APIC");
    cr_assert(wrmsr(0, MSR_BASE, XAPIC));
    cr_assert_not(wrmsr(0, MSR_BASE, XAPIC | 1), "reserved low bit");
    cr_assert_not(wrmsr(0, MSR_BASE, XAPIC | 1ull << 9));
    cr_assert_not(wrmsr(0, MSR_BASE, XAPIC | 1ull << 40), "beyond MAXPHYADDR");
    cr_assert(wrmsr(0, MSR_BASE, XAPIC | 1ull << 39));
    cr_assert_eq(lapic_base(cpus[0].apic), 0x80fee00000);
    u64 value;
    cr_assert_not(lapic_mmio_read(cpus[0].apic, 0xfee00030, 4, &value), "moved away");
    cr_assert_eq(rd(0, 0x30), 0x50014);
}

Test(lapic, disabled_page)
{
    setup(1);
    enable(0);
    wr(0, 0x350, 0x10035);
    lapic_cr8_write(cpus[0].apic, 5);
    cr_assert_eq(rd(0, 0x80), 0x50);
    cr_assert(wrmsr(0, MSR_BASE, 0xfee00100));
    cr_assert_eq(rd(0, 0x30), 0xffffffff);
    lapic_cr8_write(cpus[0].apic, 0xf);
    cr_assert_eq(lapic_cr8_read(cpus[0].apic), 0xf, "CR8 works without the APIC");
    wr(0, 0x80, 0);
    cr_assert_eq(lapic_cr8_read(cpus[0].apic), 0xf);
    cr_assert(wrmsr(0, MSR_BASE, XAPIC));
    cr_assert_eq(rd(0, 0x80), 0xf0);
    cr_assert_eq(rd(0, 0xf0), 0xff, "state was reset");
    cr_assert_eq(rd(0, 0x350), 0x10000);
    cr_assert(wrmsr(0, MSR_BASE, X2APIC));
    cr_assert_eq(rd(0, 0x30), 0xffffffff, "no MMIO in x2APIC mode");
}

Test(lapic, access_sizes)
{
    setup(1);
    u64 value;
    gpa base = lapic_base(cpus[0].apic);
    cr_assert(lapic_mmio_read(cpus[0].apic, base + 0x32, 2, &value));
    cr_assert_eq(value, 0x0005);
    cr_assert(lapic_mmio_read(cpus[0].apic, base + 0x30, 8, &value));
    cr_assert_eq(value, 0x50014);
    cr_assert(lapic_mmio_read(cpus[0].apic, base + 0x38, 4, &value));
    cr_assert_eq(value, 0);
    cr_assert(lapic_mmio_write(cpus[0].apic, base + 0x80, 0x77, 1));
    cr_assert_eq(rd(0, 0x80), 0, "byte writes do nothing");
    wr(0, 0x84, 0x77);
    cr_assert_eq(rd(0, 0x80), 0);
}

Test(lapic, priorities_and_eoi)
{
    setup(1);
    enable(0);
    for (unsigned v = 32; v < 256; v++) ipi(0, 0, 0x40000 | v);
    cr_assert(cpus[0].intr);
    cr_assert_eq(rd(0, 0x210), 0xffffffff);
    cr_assert_eq(rd(0, 0x270), 0xffffffff);
    wr(0, 0x80, 0xe5);
    cr_assert_eq(rd(0, 0xa0), 0xe5);
    for (int v = 255; v >= 0xf0; v--) {
        /* Without an EOI, a second one of the same class must wait. */
        cr_assert_eq(lapic_ack(cpus[0].apic), v);
        cr_assert_eq(rd(0, 0xa0), 0xf0);
        cr_assert_not(cpus[0].intr);
        wr(0, 0xb0, 0);
    }
    cr_assert_not(cpus[0].intr, "0xef is within the task priority's class");
    cr_assert_eq(lapic_ack(cpus[0].apic), 0xff, "spurious vector");
    cr_assert_eq(rd(0, 0x170), 0, "which is not in service");
    wr(0, 0x80, 0);
    cr_assert(cpus[0].intr);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0xef);
    cr_assert_eq(rd(0, 0x170), 0x8000);
    wr(0, 0x80, 0xe8);
    cr_assert_eq(rd(0, 0xa0), 0xe8, "equal classes: PPR is TPR");
    wr(0, 0x80, 0xd8);
    cr_assert_eq(rd(0, 0xa0), 0xe0);
    wr(0, 0xb0, 0);
    cr_assert_eq(rd(0, 0xa0), 0xd8);
    cr_assert_eq(eois, 0, "edge interrupts are not broadcast");
    wr(0, 0xb0, 0);
    cr_assert_eq(eois, 0, "nothing in service");
}

Test(lapic, nesting)
{
    setup(1);
    enable(0);
    ipi(0, 0, 0x40051);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x51);
    ipi(0, 0, 0x4005f);
    cr_assert_not(cpus[0].intr, "same class");
    ipi(0, 0, 0x40061);
    cr_assert(cpus[0].intr);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x61);
    wr(0, 0xb0, 0);
    cr_assert_eq(rd(0, 0x130), 0);
    cr_assert_eq(rd(0, 0x120), 1u << 17, "0x51 still in service");
    wr(0, 0xb0, 0);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x5f);
}

Test(lapic, level_trigger_and_tmr)
{
    setup(1);
    enable(0);
    struct apic_message m = {.dest = 0, .vector = 0x79, .mode = APIC_MODE_FIXED, .level = true};
    cr_assert(apic_bus_send(apics, &m));
    cr_assert_eq(rd(0, 0x1b0), 1u << 25);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x79);
    wr(0, 0xb0, 0);
    cr_assert_eq(eois, 1);
    cr_assert_eq(last_eoi, 0x79);
    cr_assert_eq(rd(0, 0x1b0), 1u << 25, "TMR stays until the next acceptance");
    m.level = false;
    cr_assert(apic_bus_send(apics, &m));
    cr_assert_eq(rd(0, 0x1b0), 0);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x79);
    wr(0, 0xb0, 0);
    cr_assert_eq(eois, 1);
}

Test(lapic, software_disable)
{
    setup(1);
    enable(0);
    wr(0, 0x350, 0x00700);
    wr(0, 0x360, 0x00400);
    wr(0, 0xf0, 0xff);
    cr_assert_eq(rd(0, 0x350), 0x10700);
    cr_assert_eq(rd(0, 0x360), 0x10400);
    wr(0, 0x350, 0x00021);
    cr_assert_eq(rd(0, 0x350), 0x10021, "mask cannot be cleared");
    struct apic_message m = {.dest = 0, .vector = 0x40, .mode = APIC_MODE_FIXED};
    cr_assert_not(apic_bus_send(apics, &m));
    cr_assert_eq(rd(0, 0x220), 0);
    m.mode = APIC_MODE_NMI;
    cr_assert(apic_bus_send(apics, &m));
    cr_assert_eq(cpus[0].nmis, 1);
}

Test(lapic, errors)
{
    setup(1);
    enable(0);
    wr(0, 0x370, 0x44);
    ipi(0, 0, 0x40005);
    cr_assert_eq(rd(0, 0x280), 0, "latched by a write only");
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x44);
    wr(0, 0xb0, 0);
    rd(0, 0x3f0);
    cr_assert_not(cpus[0].intr, "not rearmed yet");
    wr(0, 0x280, 0);
    cr_assert_eq(rd(0, 0x280), 0xa0);
    struct apic_message m = {.dest = 0, .vector = 3, .mode = APIC_MODE_FIXED};
    apic_bus_send(apics, &m);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x44, "rearmed");
    wr(0, 0x280, 0);
    cr_assert_eq(rd(0, 0x280), 0x40);
    wr(0, 0x280, 0);
    cr_assert_eq(rd(0, 0x280), 0);
    wr(0, 0x370, 0x5);
    wr(0, 0x40, 0);
    cr_assert_eq(rd(0, 0x200), 0, "an illegal vector for the error entry itself stays an error");
    wr(0, 0x280, 0);
    cr_assert_eq(rd(0, 0x280), 0xc0);
}

Test(lapic, ipi_shorthands)
{
    setup(3);
    for (int i = 0; i < 3; i++) enable(i);
    ipi(1, 0, 0x40000 | 0x41);
    cr_assert_not(cpus[0].intr);
    cr_assert(cpus[1].intr);
    cr_assert_eq(lapic_ack(cpus[1].apic), 0x41);
    wr(1, 0xb0, 0);
    ipi(1, 0, 0x80042);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(lapic_ack(cpus[i].apic), 0x42);
        wr(i, 0xb0, 0);
    }
    ipi(1, 0, 0xc0043);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x43);
    cr_assert_not(cpus[1].intr);
    cr_assert_eq(lapic_ack(cpus[2].apic), 0x43);
    ipi(0, 0xff000000, 0x4054);
    for (int i = 0; i < 3; i++) cr_assert_eq(lapic_ack(cpus[i].apic), 0x54, "physical broadcast");
    ipi(0, 0, 0xc4400);
    cr_assert_eq(cpus[0].nmis, 0);
    cr_assert_eq(cpus[1].nmis, 1);
    ipi(0, 0, 0x44400);
    cr_assert_eq(cpus[0].nmis, 0, "NMI with the self shorthand is invalid");
    ipi(0, 0x01000000, 0x4200);
    cr_assert_eq(cpus[1].smis, 1);
    cr_assert_eq(rd(0, 0x300), 0x4200, "delivery status idle");
}

Test(lapic, init_and_sipi)
{
    setup(2);
    enable(1);
    wr(1, 0x20, 0x07000000);
    wr(1, 0x80, 0x30);
    ipi(0, 0x07000000, 0xc500);
    cr_assert_eq(cpus[1].inits, 1);
    cr_assert_eq(cpus[0].inits, 0);
    cr_assert_eq(rd(1, 0xf0), 0xff);
    cr_assert_eq(rd(1, 0x80), 0);
    cr_assert_eq(rd(1, 0x20), 0x07000000, "INIT keeps the ID");
    ipi(0, 0x07000000, 0x8500);
    cr_assert_eq(cpus[1].inits, 1, "de-assert is nothing");
    ipi(0, 0x07000000, 0x4698);
    cr_assert_eq(cpus[1].sipis, 1);
    cr_assert_eq(cpus[1].sipi_vector, 0x98);
}

Test(lapic, logical_destinations)
{
    setup(2);
    enable(0);
    enable(1);
    wr(0, 0xd0, 0x01000000);
    wr(1, 0xd0, 0x02ffffff);
    cr_assert_eq(rd(1, 0xd0), 0x02000000);
    ipi(0, 0x06000000, 0x4850);
    cr_assert_not(cpus[0].intr);
    cr_assert_eq(lapic_ack(cpus[1].apic), 0x50);
    wr(1, 0xb0, 0);
    wr(0, 0xe0, 0);
    wr(1, 0xe0, 0);
    cr_assert_eq(rd(0, 0xe0), 0x0fffffff);
    wr(0, 0xd0, 0x31000000);
    wr(1, 0xd0, 0x32000000);
    ipi(0, 0x33000000, 0x4851);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x51);
    cr_assert_eq(lapic_ack(cpus[1].apic), 0x51);
    wr(0, 0xb0, 0);
    wr(1, 0xb0, 0);
    ipi(0, 0x23000000, 0x4852);
    cr_assert_not(cpus[0].intr);
    cr_assert_not(cpus[1].intr);
}

Test(lapic, lowest_priority)
{
    setup(3);
    for (int i = 0; i < 3; i++) enable(i);
    wr(0, 0x80, 0x30);
    wr(1, 0x80, 0x20);
    wr(2, 0x80, 0x40);
    ipi(0, 0xff000000, 0x4160);
    cr_assert_not(cpus[0].intr);
    cr_assert(cpus[1].intr);
    cr_assert_not(cpus[2].intr);
    /* CPU 1 has a class 6 request now: the next one goes to CPU 0. */
    ipi(0, 0xff000000, 0x4161);
    cr_assert(cpus[0].intr);
    wr(0, 0xf0, 0xff);
    ipi(0, 0xff000000, 0x4170);
    cr_assert_eq(rd(2, 0x230), 1u << 16, "a disabled APIC takes none");
}

Test(lapic, x2apic_registers)
{
    setup(2);
    enable(1);
    u64 value;
    cr_assert_not(lapic_msr_read(cpus[1].apic, 0x802, &value), "#GP in xAPIC mode");
    cr_assert_not(wrmsr(1, 0x80b, 0));
    wr(1, 0x20, 0x09000000);
    wr(1, 0x310, 0x55000000);
    cr_assert(wrmsr(1, MSR_BASE, 0xfee00c00));
    cr_assert_eq(msr(1, 0x802), 1, "the ID is the initial one");
    cr_assert_eq(msr(1, 0x803), 0x50014);
    cr_assert_eq(msr(1, 0x80d), 0x2);
    cr_assert_eq(msr(1, 0x80f), 0x1ff, "the rest is kept");
    cr_assert_eq(msr(1, 0x830), 0);

    static const u16 read_only[] = {0x802, 0x803, 0x80a, 0x80d, 0x810, 0x817, 0x818, 0x820, 0x827, 0x839};
    static const u16 write_only[] = {0x80b, 0x83f};
    static const u16 both[] = {0x808, 0x80f, 0x828, 0x830, 0x832, 0x833,
                               0x834, 0x835, 0x836, 0x837, 0x838, 0x83e};
    int seen = 0;
    for (u32 n = 0x800; n < 0x900; n++) {
        bool r = false, w = false;
        for (size_t i = 0; i < ARRAY_LEN(read_only); i++) r |= read_only[i] == n;
        for (size_t i = 0; i < ARRAY_LEN(write_only); i++) w |= write_only[i] == n;
        for (size_t i = 0; i < ARRAY_LEN(both); i++) r = both[i] == n ? (w = true) : r;
        if (n > 0x810 && n < 0x828) r = true;
        cr_assert_eq(lapic_msr_read(cpus[1].apic, n, &value), r, "read of 0x%x", n);
        if (!w) cr_assert_not(wrmsr(1, n, 0), "write of 0x%x", n);
        else if (n != 0x830) cr_assert(wrmsr(1, n, 0), "write of 0x%x", n);
        if (n != 0x830) cr_assert_not(wrmsr(1, n, 1ull << 32), "high half of 0x%x", n);
        seen += r || w;
    }
    cr_assert_eq(seen, 43);
    cr_assert_not(wrmsr(1, 0x808, 0x100));
    cr_assert_not(wrmsr(1, 0x80b, 1));
    cr_assert_not(wrmsr(1, 0x828, 1));
    cr_assert_not(wrmsr(1, 0x80f, 0x1000), "no EOI broadcast suppression offered");
    cr_assert_not(wrmsr(1, 0x832, 0x60000));
    cr_assert_not(wrmsr(1, 0x832, 0x100));
    cr_assert(wrmsr(1, 0x835, 0x15700));
    cr_assert_not(wrmsr(1, 0x830, 0x2000));
    cr_assert_not(wrmsr(1, 0x830, 0x10000));
    cr_assert_not(wrmsr(1, 0x830, 0x100000));
    cr_assert_not(wrmsr(1, 0x83f, 0x100));
    cr_assert_not(lapic_msr_read(cpus[1].apic, 0x7ff, &value));
}

Test(lapic, x2apic_ipis)
{
    setup(3);
    for (int i = 0; i < 3; i++) {
        enable(i);
        cr_assert(wrmsr(i, MSR_BASE, msr(i, MSR_BASE) | 0x400));
    }
    cr_assert(wrmsr(0, 0x830, 2ull << 32 | 0x4045));
    cr_assert_not(cpus[1].intr);
    cr_assert_eq(lapic_ack(cpus[2].apic), 0x45);
    cr_assert_eq(msr(0, 0x830), 2ull << 32 | 0x4045);
    cr_assert(wrmsr(0, 0x830, 0xffull << 32 | 0x4060));
    for (int i = 0; i < 3; i++) cr_assert_not(cpus[i].intr, "0xff is an ordinary ID");
    cr_assert(wrmsr(0, 0x830, 0xffffffffull << 32 | 0x4060));
    for (int i = 0; i < 3; i++) cr_assert_eq(lapic_ack(cpus[i].apic), 0x60);
    cr_assert(wrmsr(0, 0x830, 0x6ull << 32 | 0x4870));
    cr_assert_not(cpus[0].intr);
    cr_assert_eq(lapic_ack(cpus[1].apic), 0x70);
    cr_assert_eq(lapic_ack(cpus[2].apic), 0x70);
    cr_assert(wrmsr(0, 0x830, 0x10006ull << 32 | 0x4880));
    cr_assert_not(cpus[1].intr, "another cluster");
    cr_assert(wrmsr(0, 0x83f, 0x99));
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x99);
    /* An I/O APIC's 8-bit broadcast reaches x2APICs as well. */
    struct apic_message m = {.dest = 0xff, .vector = 0xa0, .mode = APIC_MODE_FIXED};
    cr_assert(apic_bus_send(apics, &m));
    cr_assert_eq(lapic_ack(cpus[2].apic), 0xa0);
}

Test(lapic, msi)
{
    setup(2);
    enable(0);
    enable(1);
    cr_assert(apic_bus_msi(apics, 0xfee01000, 0x4051));
    cr_assert_not(cpus[0].intr);
    cr_assert_eq(lapic_ack(cpus[1].apic), 0x51);
    cr_assert_not(apic_bus_msi(apics, 0xfee07000, 0x4052), "nobody there");
    struct bus *memory = bus_create("memory", 1ull << 52);
    apic_bus_map_msi(apics, memory);
    bus_write(memory, 0xfee00000, 0x0400, 4);
    cr_assert_eq(cpus[0].nmis, 1);
    bus_write(memory, 0xfee01000, 0xc061, 4);
    cr_assert_eq(rd(1, 0x1b0), 2, "level MSI");
    cr_assert_eq(bus_read(memory, 0xfee00030, 4), 0xffffffff);
    bus_destroy(memory);
}

Test(lapic, lint_pins)
{
    setup(2);
    struct irq_line lint0 = apic_bus_lint(apics, 0), lint1 = apic_bus_lint(apics, 1);
    cpus[0].extint_vector = 8;
    irq_set(&lint0, 1);
    cr_assert(cpus[0].intr, "virtual wire from power-on");
    cr_assert_not(cpus[1].intr);
    cr_assert_eq(lapic_ack(cpus[0].apic), 8);
    cr_assert_eq(cpus[0].acks, 1);
    irq_set(&lint0, 0);
    cr_assert_not(cpus[0].intr);
    enable(0);
    wr(0, 0x80, 0xff);
    irq_set(&lint0, 1);
    cr_assert(cpus[0].intr, "the task priority does not hold ExtINT");
    wr(0, 0x350, 0x10700);
    cr_assert_not(cpus[0].intr);
    wr(0, 0x350, 0x700);
    cr_assert(cpus[0].intr);
    irq_set(&lint0, 0);
    wr(0, 0x80, 0);

    wr(0, 0x350, 0x55);
    irq_set(&lint0, 1);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x55, "fixed, edge");
    wr(0, 0xb0, 0);
    cr_assert_not(cpus[0].intr);
    irq_set(&lint0, 0);

    wr(0, 0x350, 0x8056);
    irq_set(&lint0, 1);
    cr_assert_eq(rd(0, 0x350), 0xc056, "remote IRR");
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x56);
    wr(0, 0xb0, 0);
    cr_assert(cpus[0].intr, "level: again after EOI");
    irq_set(&lint0, 0);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x56);
    wr(0, 0xb0, 0);
    cr_assert_eq(rd(0, 0x350), 0x8056);
    cr_assert_not(cpus[0].intr);

    irq_set(&lint1, 1);
    cr_assert_eq(cpus[0].nmis, 0, "masked");
    irq_set(&lint1, 0);
    wr(0, 0x360, 0x400);
    irq_set(&lint1, 1);
    irq_set(&lint1, 1);
    cr_assert_eq(cpus[0].nmis, 1, "edge");
    irq_set(&lint1, 0);

    cr_assert(wrmsr(0, MSR_BASE, 0xfee00100));
    irq_set(&lint0, 1);
    cr_assert(cpus[0].intr, "INTR pin of a disabled APIC");
    cr_assert_eq(lapic_ack(cpus[0].apic), 8);
}

Test(lapic, extint_message)
{
    setup(1);
    enable(0);
    wr(0, 0x350, 0x10000);
    cpus[0].extint_vector = 0x23;
    struct apic_message m = {.dest = 0, .mode = APIC_MODE_EXTINT};
    cr_assert(apic_bus_send(apics, &m));
    cr_assert(cpus[0].intr);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x23);
    cr_assert_not(cpus[0].intr);
    cr_assert_eq(rd(0, 0x110), 0, "not in service here");
}

Test(lapic, timer_one_shot)
{
    setup(1);
    enable(0);
    wr(0, 0x3e0, 0xb);
    wr(0, 0x320, 0xee);
    wr(0, 0x380, 1000);
    cr_assert_eq(rd(0, 0x390), 1000);
    clock_advance(machine_clock, 1);
    cr_assert_eq(rd(0, 0x390), 999);
    clock_advance(machine_clock, 998);
    cr_assert_eq(rd(0, 0x390), 1);
    cr_assert_not(cpus[0].intr);
    clock_advance(machine_clock, 1);
    cr_assert(cpus[0].intr);
    cr_assert_eq(rd(0, 0x390), 0);
    cr_assert_eq(rd(0, 0x380), 1000);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0xee);
    wr(0, 0xb0, 0);
    clock_advance(machine_clock, 5000);
    cr_assert_not(cpus[0].intr);
    wr(0, 0x320, 0x200ee);
    clock_advance(machine_clock, 5000);
    cr_assert_eq(rd(0, 0x390), 0, "an expired counter does not start again by a mode change");
    cr_assert_not(cpus[0].intr);
}

Test(lapic, timer_dividers)
{
    static const struct {
        u8 code, divisor;
    } dividers[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};
    setup(1);
    for (size_t i = 0; i < ARRAY_LEN(dividers); i++) {
        wr(0, 0x3e0, dividers[i].code);
        cr_assert_eq(rd(0, 0x3e0), dividers[i].code);
        wr(0, 0x380, 100);
        clock_advance(machine_clock, 10u * dividers[i].divisor);
        cr_assert_eq(rd(0, 0x390), 90);
    }
    wr(0, 0x3e0, 0); /* from 1 to 2 while running: 90 ticks remain */
    clock_advance(machine_clock, 20);
    cr_assert_eq(rd(0, 0x390), 80);
}

Test(lapic, timer_periodic)
{
    setup(1);
    enable(0);
    wr(0, 0x3e0, 0xb);
    wr(0, 0x320, 0x200ee);
    wr(0, 0x380, 1000);
    int interrupts = 0;
    for (int i = 0; i < 100; i++) {
        clock_advance(machine_clock, 100);
        if (!cpus[0].intr) continue;
        interrupts++;
        cr_assert_eq((i + 1) % 10, 0);
        cr_assert_eq(rd(0, 0x390), 1000, "reloaded");
        lapic_ack(cpus[0].apic);
        wr(0, 0xb0, 0);
    }
    cr_assert_eq(interrupts, 10);
    clock_advance(machine_clock, 300);
    wr(0, 0x320, 0x000ee);
    cr_assert_eq(rd(0, 0x390), 700, "the mode change leaves the count alone");
    clock_advance(machine_clock, 700);
    cr_assert_eq(rd(0, 0x390), 0);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0xee);
    wr(0, 0xb0, 0);
    /* Masked: it counts without interrupting; unmasking does not bring back what was missed. */
    wr(0, 0x320, 0x300ee);
    wr(0, 0x380, 1000);
    clock_advance(machine_clock, 2500);
    cr_assert_eq(rd(0, 0x390), 500);
    cr_assert_not(cpus[0].intr);
    wr(0, 0x320, 0x200ee);
    clock_advance(machine_clock, 499);
    cr_assert_not(cpus[0].intr);
    clock_advance(machine_clock, 1);
    cr_assert(cpus[0].intr);
    wr(0, 0x380, 0);
    cr_assert_eq(rd(0, 0x390), 0);
}

Test(lapic, timer_deadline)
{
    setup(1);
    enable(0);
    cr_assert(wrmsr(0, MSR_DEADLINE, 5000));
    cr_assert_eq(msr(0, MSR_DEADLINE), 0, "ignored in other modes");
    wr(0, 0x320, 0x400ef);
    cr_assert(wrmsr(0, MSR_DEADLINE, 3000)); /* at 1000 ns */
    cr_assert_eq(msr(0, MSR_DEADLINE), 3000);
    clock_advance(machine_clock, 999);
    cr_assert_not(cpus[0].intr);
    clock_advance(machine_clock, 1);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0xef);
    wr(0, 0xb0, 0);
    cr_assert_eq(msr(0, MSR_DEADLINE), 0);
    cr_assert(wrmsr(0, MSR_DEADLINE, 3000));
    cr_assert(cpus[0].intr, "a past deadline fires at once");
    cr_assert_eq(msr(0, MSR_DEADLINE), 0);
    lapic_ack(cpus[0].apic);
    wr(0, 0xb0, 0);
    cr_assert(wrmsr(0, MSR_DEADLINE, 9001)); /* between two nanoseconds: not early */
    clock_advance(machine_clock, 3000);
    cr_assert_not(cpus[0].intr);
    clock_advance(machine_clock, 1);
    cr_assert(cpus[0].intr);
    lapic_ack(cpus[0].apic);
    wr(0, 0xb0, 0);
    wr(0, 0x380, 100);
    cr_assert_eq(rd(0, 0x390), 0, "the counter does not run in this mode");
    cr_assert(wrmsr(0, MSR_DEADLINE, 100000));
    wr(0, 0x320, 0x000ef);
    cr_assert_eq(rd(0, 0x390), 0);
    clock_advance(machine_clock, 1000000);
    cr_assert_not(cpus[0].intr, "leaving the mode disarms");
}

Test(lapic, no_x2apic_no_deadline)
{
    setup(0);
    struct lapic_config config = {.id = 0, .bsp = true, .phys_bits = 36};
    struct lapic_cpu cpu = {.opaque = &cpus[0], .set_intr = cpu_intr};
    cpus[0].apic = lapic_create(apics, machine_clock, &config, &cpu);
    u64 value;
    cr_assert_not(wrmsr(0, MSR_BASE, X2APIC));
    cr_assert_not(lapic_msr_read(cpus[0].apic, MSR_DEADLINE, &value));
    enable(0);
    wr(0, 0x320, 0x500ef);
    cr_assert_eq(rd(0, 0x320), 0x100ef);
}

Test(lapic, directed_eoi)
{
    setup(0);
    struct lapic_config config = {.id = 0, .bsp = true, .phys_bits = 36, .directed_eoi = true};
    struct lapic_cpu cpu = {.opaque = &cpus[0], .set_intr = cpu_intr};
    cpus[0].apic = lapic_create(apics, machine_clock, &config, &cpu);
    cr_assert_eq(rd(0, 0x30), 0x1050014);
    wr(0, 0xf0, 0x11ff);
    cr_assert_eq(rd(0, 0xf0), 0x11ff);
    struct apic_message m = {.dest = 0, .vector = 0x79, .mode = APIC_MODE_FIXED, .level = true};
    apic_bus_send(apics, &m);
    cr_assert_eq(lapic_ack(cpus[0].apic), 0x79);
    wr(0, 0xb0, 0);
    cr_assert_eq(eois, 0);
}
