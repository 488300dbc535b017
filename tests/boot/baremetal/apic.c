/* The local APIC in both modes, its timer and messages, NMIs between processors, and the I/O APIC on the
 * lines that pc-testdev drives (ports 2000H + line). */
#include "runtime.h"

#define MSR_BASE     0x1bu
#define MSR_DEADLINE 0x6e0u
#define BASE_X2APIC  0x400ul
#define BASE_ENABLE  0x800ul

#define REG_ID      0x20u
#define REG_VERSION 0x30u
#define REG_TPR     0x80u
#define REG_EOI     0xb0u
#define REG_LDR     0xd0u
#define REG_SVR     0xf0u
#define REG_TMR     0x180u
#define REG_TIMER   0x320u
#define REG_INITIAL 0x380u
#define REG_CURRENT 0x390u
#define REG_DIVIDE  0x3e0u

#define PATIENCE (20 * SECOND) /* for what comes at once on an idle host */
#define ENOUGH   (5 * SECOND)  /* of what is done thousands of times, if the host has other things to do */

#define ICR_NMI    0x00400u
#define ICR_SELF   0x40000u
#define ICR_ALL    0x80000u
#define ICR_OTHERS 0xc0000u

static bool x2; /* registers are MSRs */
static u32 apic_read(u32 reg)
{
    return x2 ? (u32)rdmsr(0x800 + reg / 16) : *(volatile u32 *)(0xfee00000ul + reg);
}
static void apic_write(u32 reg, u32 v)
{
    if (x2)
        wrmsr(0x800 + reg / 16, v);
    else
        *(volatile u32 *)(0xfee00000ul + reg) = v;
}
static void send(u32 command, u32 destination)
{
    if (x2) {
        wrmsr(0x830, command | (u64)destination << 32);
    } else {
        *(volatile u32 *)0xfee00310ul = destination << 24;
        *(volatile u32 *)0xfee00300ul = command;
    }
}
static void end_of_interrupt(void) { apic_write(REG_EOI, 0); }

static volatile u32 count[256], order[8], ordered;
static void interrupt(struct frame *f)
{
    count[f->vector]++;
    if (ordered < 8) order[ordered++] = (u32)f->vector;
    end_of_interrupt();
}

static void write_base(u64 v) { wrmsr(MSR_BASE, v); }
static bool base_refused(u64 v) { return try(write_base, v) == 13; }
static void read_msr(u64 msr) { rdmsr((u32)msr); }
static void write_msr_one(u64 msr) { wrmsr((u32)msr, 1); }

static void disable(void)
{
    wrmsr(MSR_BASE, rdmsr(MSR_BASE) & ~(BASE_ENABLE | BASE_X2APIC));
    x2 = false;
}
static void reset_apic(void)
{
    disable();
    wrmsr(MSR_BASE, rdmsr(MSR_BASE) | BASE_ENABLE);
    apic_write(REG_SVR, 0x1ff);
}
static bool has_x2apic(void) { return cpuid(1, 0).c >> 21 & 1; }
static void enable_x2apic(void)
{
    wrmsr(MSR_BASE, rdmsr(MSR_BASE) | BASE_X2APIC);
    x2 = true;
}
static void enable_x2apic_there(unsigned n)
{
    (void)n;
    wrmsr(MSR_BASE, rdmsr(MSR_BASE) | BASE_X2APIC);
}

/* While the page is not the APIC's, bytes written to it go nowhere, and it reads as ones. */
static void check_page_absent(void)
{
    for (u64 k = 0; k < 4096; k++)
        *(volatile u8 *)(0xfee00000ul + k) = 0xff;
    CHECK(*(volatile u32 *)0xfee00030ul == ~0u);
    CHECK(read_cr8() == 0);
    write_cr8(15);
    CHECK(read_cr8() == 15);
    CHECK(*(volatile u32 *)0xfee00080ul == ~0u);
    write_cr8(0);
}

static void modes(void)
{
    u32 version = apic_read(REG_VERSION);
    CHECK((version & 0xff) >= 0x10 && (version & 0xff) <= 0x15);
    reset_apic();
    CHECK(apic_read(REG_ID) >> 24 == cpuid(1, 0).b >> 24);

    disable();
    CHECK(!(cpuid(1, 0).d >> 9 & 1));
    check_page_absent();
    reset_apic();
    CHECK(cpuid(1, 0).d >> 9 & 1);
    CHECK(apic_read(REG_VERSION) == version && apic_read(REG_TPR) == 0);
    write_cr8(15);
    CHECK(apic_read(REG_TPR) == 0xf0);
    write_cr8(0);

    u64 base = rdmsr(MSR_BASE) & ~(BASE_ENABLE | BASE_X2APIC);
    CHECK(base_refused(base | BASE_X2APIC));
    CHECK(base_refused(base | BASE_ENABLE | 1));
    CHECK(base_refused(base | BASE_ENABLE | 1ul << (cpuid(0x80000008, 0).a & 0xff)));
    if (has_x2apic()) {
        enable_x2apic();
        CHECK(apic_read(REG_ID) == cpuid(0xb, 0).d);
        CHECK(apic_read(REG_LDR) == 1);
        check_page_absent();
        CHECK(try(write_msr_one, 0x802) == 13); /* ID */
        CHECK(try(write_msr_one, 0x80b) == 13); /* EOI takes 0 only */
        static const u32 absent[] = {0x80b, 0x80e, 0x831, 0x83f, 0x8ff, 0x900};
        for (unsigned k = 0; k < sizeof absent / sizeof absent[0]; k++)
            check(try(read_msr, absent[k]) == 13, "MSR %x can be read", absent[k]);
        CHECK(base_refused(base | BASE_X2APIC));
        CHECK(base_refused(base | BASE_ENABLE));
        CHECK(!base_refused(base));
        x2 = false;
        CHECK(base_refused(base | BASE_ENABLE | BASE_X2APIC));
        CHECK(!base_refused(base | BASE_ENABLE));
        CHECK(try(read_msr, 0x802) == 13);
        apic_write(REG_SVR, 0x1ff);
    } else {
        CHECK(base_refused(base | BASE_ENABLE | BASE_X2APIC));
    }

    wrmsr(MSR_BASE, base);
    wrmsr(MSR_BASE, 0xfed40000ul | (base & 0x100) | BASE_ENABLE);
    CHECK(*(volatile u32 *)0xfed40030ul == version);
    CHECK(*(volatile u32 *)0xfee00030ul == ~0u);
    wrmsr(MSR_BASE, base | BASE_ENABLE);
    reset_apic();
}

static void to_itself(void)
{
    count[0xb0] = 0;
    sti();
    send(ICR_SELF | 0xb0, 0);
    nop();
    CHECK(count[0xb0] == 1);
    cli();
    send(ICR_SELF | 0xb0, 0);
    __asm__ volatile("sti; nop" : : : "memory");
    CHECK(count[0xb0] == 2);
    cli();
    send(ICR_SELF | 0xb0, 0);
    __asm__ volatile("sti; hlt" : : : "memory");
    CHECK(count[0xb0] == 3);
    write_cr8(11); /* the vector's class is not above the task's */
    send(ICR_SELF | 0xb0, 0);
    nop();
    CHECK(count[0xb0] == 3);
    write_cr8(10);
    nop();
    CHECK(count[0xb0] == 4);
    write_cr8(0);
    cli();
    ordered = 0;
    send(ICR_SELF | 0x66, 0);
    send(ICR_SELF | 0x78, 0);
    sti();
    nop();
    nop();
    CHECK(ordered == 2 && order[0] == 0x78 && order[1] == 0x66);
    if (x2) {
        wrmsr(0x83f, 0xb0); /* SELF IPI */
        nop();
        CHECK(count[0xb0] == 5);
    }
    cli();
}

/* Between one-shot and periodic the count goes on. False: it cannot be told, since the host held us up for too long in between. */
static bool count_goes_on(void)
{
    const u32 ticks = 20000000; /* ns, as those of the TSC are */
    u64 start = rdtsc();
    apic_write(REG_TIMER, 0x100ee);
    apic_write(REG_INITIAL, ticks);
    u32 before = apic_read(REG_CURRENT);
    apic_write(REG_TIMER, 0x300ee);
    u32 initial = apic_read(REG_INITIAL), after = apic_read(REG_CURRENT);
    if (rdtsc() - start >= ticks) return false;
    CHECK(initial == ticks && before <= ticks && after <= before && after);
    while (rdtsc() - start < 3 * ticks) {
    }
    start = rdtsc();
    before = apic_read(REG_CURRENT);
    CHECK(before && before <= ticks); /* a new period, and another */
    apic_write(REG_TIMER, 0x100ee);
    if (rdtsc() - start >= before) return false;
    CHECK(apic_read(REG_CURRENT) <= before);
    while (apic_read(REG_CURRENT)) {
    }
    apic_write(REG_TIMER, 0x300ee);
    CHECK(apic_read(REG_CURRENT) == 0);
    apic_write(REG_TIMER, 0x10000);
    return true;
}

static void timer(void)
{
    count[0xee] = 0;
    apic_write(REG_TIMER, 0xee);
    apic_write(REG_DIVIDE, 0xb);
    u64 start = rdtsc();
    apic_write(REG_INITIAL, 0x10000);
    sti();
    while (!count[0xee])
        pause();
    CHECK(rdtsc() - start >= 0x10000 && count[0xee] == 1);
    cli();

    unsigned tries = 0;
    while (!count_goes_on() && ++tries < 1000) {
    }
    CHECK(tries < 1000);

    if (cpuid(1, 0).c >> 24 & 1) {
        count[0xef] = 0;
        apic_write(REG_TIMER, 0x400ef);
        sti();
        wrmsr(MSR_DEADLINE, rdtsc());
        nop();
        CHECK(count[0xef] == 1 && rdmsr(MSR_DEADLINE) == 0);
        start = rdtsc();
        wrmsr(MSR_DEADLINE, start + 3000000);
        while (count[0xef] == 1 && rdtsc() - start < PATIENCE)
            pause();
        CHECK(count[0xef] == 2 && rdtsc() - start >= 3000000);
        cli();
        apic_write(REG_TIMER, 0x10000);
    }
}

/* ---- NMIs ---- */

static volatile u32 nmis;
static void nmi_storm(struct frame *f)
{
    (void)f;
    if (++nmis == 1)
        for (unsigned k = 0; k < 10; k++)
            send(ICR_NMI, 0);
}

extern const u8 after_sti[];
static volatile u32 nmis_in_shadow, sti_running, rounds_seen;
static void nmi_after_sti(struct frame *f)
{
    nmis++;
    if (f->rip == (u64)after_sti) nmis_in_shadow++;
}
static void sti_loop(unsigned n)
{
    (void)n;
    cli(); /* STI has no shadow where interrupts were on */
    while (sti_running) {
        __asm__ volatile("sti; .globl after_sti; after_sti: nop; nop; cli" : : : "memory");
        rounds_seen = nmis;
    }
    sti();
}

static volatile u32 flushed, finished, gate_in[2], gate_out[2];
static void count_nmi(struct frame *f)
{
    (void)f;
    nmis++;
}
static void flush(struct frame *f)
{
    (void)f;
    flushed = 1;
    end_of_interrupt();
}
static void second_sender(unsigned n)
{
    (void)n;
    while (!finished) {
        ++gate_in[1];
        while (gate_in[1] != gate_in[0] && !finished)
            pause();
        if (finished) return;
        send(ICR_NMI, 0);
        send(0x44, 0);
        ++gate_out[1];
        while (gate_out[1] != gate_out[0] && !finished)
            pause();
    }
}

static void nmi(unsigned cpus)
{
    handlers[2] = nmi_storm;
    bool ok = true;
    for (unsigned k = 0; k < 5000 && ok; k++) {
        nmis = 0;
        send(ICR_NMI, 0);
        nop();
        ok = nmis == 2; /* one waited, the others were the same one */
    }
    CHECK(ok);
    if (cpus < 2) return;

    handlers[2] = nmi_after_sti;
    nmis = rounds_seen = 0;
    sti_running = 1;
    run_on(1, sti_loop);
    u32 sent = 0;
    for (u64 begin = rdtsc(); sent < 2000 && rdtsc() - begin < ENOUGH; sent++) {
        u32 before = rounds_seen;
        u64 start = rdtsc();
        send(ICR_NMI, processor_apic_id[1]);
        while (rounds_seen == before && rdtsc() - start < PATIENCE)
            pause();
    }
    sti_running = 0;
    wait_for(1);
    check(nmis == sent && nmis_in_shadow == 0, "%u NMIs of %u, %u of them in the shadow", nmis, sent, nmis_in_shadow);

    /* Two at the same time, one from each processor: none is lost. */
    handlers[2] = count_nmi;
    handlers[0x44] = flush;
    sti();
    run_on(1, second_sender);
    u64 begin = rdtsc();
    for (unsigned k = 0; k < 3000 && ok && rdtsc() - begin < ENOUGH; k++) {
        flushed = nmis = 0;
        ++gate_in[0];
        while (gate_in[1] != gate_in[0])
            pause();
        send(ICR_NMI, 0);
        while (!flushed)
            pause();
        ok = nmis == 2;
        ++gate_out[0];
        while (gate_out[1] != gate_out[0] && ok)
            pause();
    }
    finished = 1;
    wait_for(1);
    CHECK(ok);
    cli();
}

static volatile u32 received;
static void broadcast(struct frame *f)
{
    (void)f;
    __sync_fetch_and_add(&received, 1);
    end_of_interrupt();
}
static void check_broadcast(u32 command, u32 destination, u32 expected)
{
    received = 0;
    sti();
    send(command | 0xcf, destination);
    u64 start = rdtsc();
    while (received < expected && rdtsc() - start < PATIENCE)
        pause();
    cli();
    check(received == expected, "broadcast %x to %x: %u", command, destination, received);
}

/* ---- I/O APIC ---- */

#define LINE 14
static u32 io_read(u32 reg)
{
    *(volatile u32 *)0xfec00000ul = reg;
    return *(volatile u32 *)0xfec00010ul;
}
static void io_write(u32 reg, u32 v)
{
    *(volatile u32 *)0xfec00000ul = reg;
    *(volatile u32 *)0xfec00010ul = v;
}
#define ENTRY_LEVEL  0x8000u
#define ENTRY_MASKED 0x10000u
static void route(u32 line, u32 entry, u32 destination)
{
    io_write(0x10 + 2 * line, entry);
    io_write(0x11 + 2 * line, destination << 24);
}
static void mask(bool on)
{
    u32 low = io_read(0x10 + 2 * LINE) & ~ENTRY_MASKED;
    io_write(0x10 + 2 * LINE, low | (on ? ENTRY_MASKED : 0));
}
static void set_line(u32 line, u8 level) { outb((u16)(0x2000 + line), level); }

static volatile u32 taken, trigger_mode;
static void lower_line(struct frame *f)
{
    taken++;
    trigger_mode = apic_read(REG_TMR + (u32)(f->vector >> 5) * 16) >> (f->vector & 31) & 1;
    set_line(LINE, 0);
    end_of_interrupt();
}
static void pulse_while_in_service(struct frame *f)
{
    (void)f;
    if (++taken == 1) {
        set_line(LINE, 0);
        set_line(LINE, 1);
    }
    set_line(LINE, 0);
    end_of_interrupt();
}
static void lower_second_time(struct frame *f)
{
    (void)f;
    if (++taken == 2) set_line(LINE, 0);
    end_of_interrupt();
}
static void mask_it(struct frame *f)
{
    (void)f;
    taken++;
    mask(true);
    end_of_interrupt();
}

static void expect_trigger_mode(bool level, bool before)
{
    handlers[0x79] = lower_line;
    route(LINE, 0x79 | (level ? ENTRY_LEVEL : 0), 0);
    bool was = apic_read(REG_TMR + 3 * 16) >> (0x79 & 31) & 1;
    trigger_mode = 2;
    set_line(LINE, 1);
    if (!level) set_line(LINE, 0);
    nop();
    check(was == before && trigger_mode == level, "level %u: trigger mode %u before, %u in service", level,
          was, trigger_mode);
}

static void io_apic(unsigned cpus)
{
    u32 version = io_read(1), id = io_read(0);
    io_write(1, ~version);
    CHECK(io_read(1) == version);
    io_write(0, ~id);
    CHECK((io_read(0) ^ id) == 0x0f000000);
    io_write(0, 0x0f000000);
    CHECK(io_read(2) == 0x0f000000);

    sti();
    count[0x76] = taken = 0;
    route(LINE, 0x76, 0);
    set_line(LINE, 1);
    set_line(LINE, 0);
    nop();
    CHECK(count[0x76] == 1);

    handlers[0x77] = lower_line;
    route(LINE, 0x77 | ENTRY_LEVEL, 0);
    set_line(LINE, 1);
    nop();
    CHECK(taken == 1);
    set_line(LINE, 1);
    set_line(LINE, 1);
    nop();
    CHECK(taken >= 2);

    taken = 0;
    handlers[0x98] = pulse_while_in_service;
    route(LINE, 0x98 | ENTRY_LEVEL, 0);
    set_line(LINE, 1);
    nop();
    CHECK(taken == 1);

    taken = 0;
    handlers[0x9a] = lower_second_time;
    route(LINE, 0x9a | ENTRY_LEVEL, 0);
    set_line(LINE, 1);
    nop();
    nop();
    CHECK(taken == 2);

    taken = 0;
    handlers[0x81] = lower_line;
    route(LINE, 0x81 | ENTRY_MASKED, 0);
    set_line(LINE, 1);
    set_line(LINE, 0);
    mask(false);
    nop();
    CHECK(taken == 0); /* an edge on a masked pin is lost */
    set_line(LINE, 1);
    nop();
    CHECK(taken == 1);

    taken = 0;
    handlers[0x82] = lower_line;
    route(LINE, 0x82 | ENTRY_LEVEL | ENTRY_MASKED, 0);
    set_line(LINE, 1);
    nop();
    CHECK(taken == 0);
    mask(false);
    nop();
    CHECK(taken == 1);

    taken = 0;
    handlers[0x83] = mask_it;
    route(LINE, 0x83 | ENTRY_LEVEL, 0);
    set_line(LINE, 1);
    nop();
    mask(false);
    nop();
    CHECK(taken == 2);
    set_line(LINE, 0);
    mask(false);

    expect_trigger_mode(false, false);
    expect_trigger_mode(true, false);
    expect_trigger_mode(true, true);
    expect_trigger_mode(false, true);

    if (cpus > 1) {
        taken = 0;
        handlers[0x85] = lower_line;
        route(LINE, 0x85 | ENTRY_LEVEL, processor_apic_id[1]);
        set_line(LINE, 1);
        u64 start = rdtsc();
        while (!taken && rdtsc() - start < PATIENCE)
            pause();
        CHECK(taken == 1);
    }
    cli();
}

void test(void)
{
    unsigned cpus = cpu_count();
    for (unsigned vector = 0x20; vector < 256; vector++)
        if (vector != 0x80) handlers[vector] = interrupt;
    handlers[0xcf] = broadcast;
    modes();
    if (cpus > 1 && !CHECK(start_processors())) return;
    for (int mode = 0; mode <= has_x2apic(); mode++) {
        if (mode) {
            enable_x2apic();
            for (unsigned n = 1; n < cpus; n++) {
                run_on(n, enable_x2apic_there);
                wait_for(n);
            }
        }
        to_itself();
        timer();
        check_broadcast(0, mode ? 0xffffffff : 0xff, cpus);
        check_broadcast(ICR_ALL, 0, cpus);
        check_broadcast(ICR_OTHERS, 0, cpus - 1);
    }
    nmi(cpus);
    io_apic(cpus);
}
