/* build/tests/oracle/pair --count 100000 --seed $RANDOM    (--seed S --first N --count 1 --verbose is one
 * case again)
 *
 * What a processor does for a kernel, on both engines, and compared: the oracle's native side can only be a
 * program. Random code at CPL 0 and 3 changes mappings, flushes what it has changed, switches address spaces
 * and permissions, writes to its own code by other addresses, has interrupts, single steps and breakpoints;
 * and accesses memory in between, by all kinds of instruction: pages that are not there, of a device, of ROM,
 * with code, and across them. Every exception halts the processor: there the states are compared, and both go
 * on behind the instruction. In the end all of memory is compared, and what the device has seen.
 *
 * Programs flush what they change at once: what a TLB may still have otherwise is nobody's business. Accessed
 * bits of pages are not compared (a processor may set them for accesses that it does not make), nor the x87's
 * opcode and operand pointer (fpu_live.c). */
#include "pair.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

#include "cpu/cpuid.h"
#include "cpu/disasm.h"
#include "cpu/engine.h"
#include "cpu/mmu.h"
#include "cpu/run.h"
#include "no_devices.h"
#include "translate/bt.h"
#include "translate/translate.h"

#define MAX_STOPS 60u
/* ---- a machine ---- */

static struct machine machines[2];
static volatile u64 case_number, timer_seen;
static const struct kind *kind; /* of this case */

struct rng rng;
u8 image[LARGE + GUEST_PAGE_SIZE];
u32 at, starts[MAX_INSNS], nstarts;

static u64 device_read(void *opaque, u64 offset, unsigned size)
{
    struct machine *m = opaque;
    m->seen = (m->seen ^ offset ^ size << 16) * 0x9e3779b97f4a7c15ull;
    return m->seen >> 8;
}

static void device_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct machine *m = opaque;
    m->seen = (m->seen ^ offset ^ size << 20 ^ value << 24) * 0x9e3779b97f4a7c15ull;
}

/* Port 0 has an interrupt come, port 1 an NMI. */
static void port_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct machine *m = opaque;
    device_write(opaque, offset, value, size);
    if (offset == 0) {
        m->vector = 0x40 + (int)(value & 15);
        cpu_event_set(m->cpu, EVENT_INTR);
    } else if (offset == 1) {
        cpu_raise_nmi(m->cpu);
        cpu_event_set(m->cpu, 0);
    }
}

static int ack(void *opaque)
{
    struct machine *m = opaque;
    cpu_event_clear(m->cpu, EVENT_INTR);
    return m->vector;
}

static const struct region_ops device_ops = {
    .read = device_read, .write = device_write, .min_size = 1, .max_size = 8};
static const struct region_ops port_ops = {
    .read = device_read, .write = port_write, .min_size = 1, .max_size = 4};

static void machine_create(struct machine *m, const struct cpu_model *model, const struct engine_ops *engine)
{
    m->ram = ram_create(LARGE + GUEST_PAGE_SIZE);
    m->mem = bus_create("memory", 1ull << 52);
    m->io = bus_create("io", 0x10000);
    const u64 low = ram_alloc(m->ram, LARGE), rom = ram_alloc(m->ram, GUEST_PAGE_SIZE);
    bus_add_ram(m->mem, "ram", 0, LARGE, 0, m->ram, low, false);
    bus_add_ram(m->mem, "rom", ROM_AT, GUEST_PAGE_SIZE, 0, m->ram, rom, true);
    bus_add(m->mem, "device", MMIO_AT, 2 * GUEST_PAGE_SIZE, 0, &device_ops, m);
    bus_add(m->io, "ports", 0x80, 4, 0, &port_ops, m);
    m->hooks = no_devices;
    m->hooks.opaque = m;
    m->hooks.ack_interrupt = ack;
    m->cpu = cpu_create(0, m->mem, m->io, m->ram, &m->hooks, model, engine);
    if (!m->cpu) exit(2);
}

static void on_timer(int sig)
{
    (void)sig;
    if (timer_seen == case_number)
        for (unsigned n = 0; n < 2; n++)
            cpu_event_set(machines[n].cpu, EVENT_KICK);
    timer_seen = case_number;
}

/* ---- running ---- */

/* The interpreter, which forgets after each instruction what it knows of mappings and code: both engines have
 * their TLB and their blocks in common. */
static enum cpu_exit run_forgetful(struct cpu *cpu)
{
    struct block_cache *in = cpu->engine;
    block_cache_start(in);
    cpu->exc.vector = -1;
    for (;;) {
        if (__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) || cpu->halted || cpu->shutdown) {
            const enum outcome o = run_events(cpu, in);
            if (o != GO_ON || cpu->halted || cpu->shutdown) return (enum cpu_exit)o;
        }
        cpu->event_mask = run_event_mask(cpu);
        block_kill_all(cpu, in);
        block_bury(cpu, in);
        tlb_flush_all(cpu);
        const enum outcome o = run_step(cpu, in);
        if (o != GO_ON) return (enum cpu_exit)o;
    }
}

static void load(struct machine *m)
{
    struct cpu *cpu = m->cpu;
    memcpy(m->ram->host, image, sizeof image);
    cpu->engine_ops->invalidate(cpu, 0, 0);
    cpu_reset(cpu, false);
    cpu_event_clear(cpu, EVENT_KICK | EVENT_INTR);
    m->seen = 1;
    cpu->fpu.legacy[0] = 0x7f;
    cpu->fpu.legacy[1] = 3;
    cpu->fpu.legacy[4] = 0;
    kind->load(cpu);
    cpu->wait_sipi = false;
    cpu_update_mode(cpu);
    tlb_flush_all(cpu);
}

static void mood(struct cpu *cpu)
{
    bt_set_threshold(cpu, percent(70) ? 1 : 2 + below(3));
    const bool loop = percent(65);
    bt_set_loops(cpu, loop, loop && percent(60));
}

/* Where to go on from an exception, which halted with this frame, or ~0: nowhere. */
static u64 next_place(const struct cpu *cpu, unsigned vector, const u64 frame[12])
{
    const u64 base = kind == &pair_long ? 0 : cpu->seg[SEG_CS].base, rip = base + frame[0];
    const bool fault = vector < 32 && vector != 1 && vector != 2 && vector != 3 && vector != 4;
    if (!fault) return frame[0];
    bool known = false;
    u64 next = ~0ull;
    for (unsigned k = 0; k < nstarts; k++) {
        known |= starts[k] == rip;
        if (starts[k] > rip && starts[k] < next) next = starts[k];
    }
    return known && next - rip <= 15 ? next - base : ~0ull;
}

static unsigned lines;
static char report_text[8192];
#define DIFFER(...)                                                                                          \
    (strlen(report_text) < 7000 ? sprintf(report_text + strlen(report_text), __VA_ARGS__) : 0, lines++)

static void compare_states(const struct cpu *a, const struct cpu *b)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
#define SAME(what, x)                                                                                        \
    if (a->x != b->x)                                                                                        \
    DIFFER("    %-8s interp %llx bt %llx\n", what, (unsigned long long)a->x, (unsigned long long)b->x)
    for (unsigned n = 0; n < 16; n++)
        SAME(names[n], regs[n]);
    SAME("rip", rip);
    SAME("cr0", cr0);
    SAME("cr2", cr2);
    SAME("cr3", cr3);
    SAME("cr4", cr4);
    SAME("efer", efer);
    SAME("dr6", dr[6]);
    SAME("gs", seg[SEG_GS].base);
    SAME("kernelgs", kernel_gs_base);
    SAME("eflags", eflags);
    SAME("cpl", cpl);
    for (unsigned n = 0; n < SEG_COUNT; n++) {
        static const char *const segs[] = {"es", "cs", "ss", "ds", "fs", "gs"};
        if (kind == &pair_long && n != SEG_CS) continue;
        SAME(segs[n], seg[n].selector);
        SAME(segs[n], seg[n].base);
        SAME(segs[n], seg[n].limit);
        SAME(segs[n], seg[n].attr);
    }
    for (unsigned n = 0; n < 416; n++)
        if (a->fpu.legacy[n] != b->fpu.legacy[n] && !(n >= 6 && n < 8) && !(n >= 12 && n < 24) &&
            !(n >= 28 && n < 32)) {
            DIFFER("    fpu[%u]  interp %02x bt %02x\n", n, a->fpu.legacy[n], b->fpu.legacy[n]);
            break;
        }
}

static void compare_memory(const u8 *a, const u8 *b)
{
    unsigned shown = 0;
    if (machines[0].seen != machines[1].seen) DIFFER("    the device was asked other things\n");
    for (u32 n = 0; n < LARGE && shown < 8; n += 8) {
        u64 x, y;
        memcpy(&x, a + n, 8);
        memcpy(&y, b + n, 8);
        u64 ignored = kind == &pair_long && n >= TABLES && n < TABLES + 2 * SPACE ? 0x20 : 0; /* accessed */
        if (ignored && (x & 0x100))
            ignored |= 0x40; /* dirty: the TLB may still have a global page from the other address space */
        x &= ~ignored, y &= ~ignored;
        if (x != y)
            DIFFER("    memory %x: interp %016llx bt %016llx\n", n, (unsigned long long)x,
                   (unsigned long long)y),
                shown++;
    }
}

static void print_program(void)
{
    u32 sorted[MAX_INSNS];
    memcpy(sorted, starts, nstarts * sizeof *sorted);
    for (unsigned n = 1; n < nstarts; n++)
        for (unsigned k = n; k > 0 && sorted[k] < sorted[k - 1]; k--) {
            u32 t = sorted[k];
            sorted[k] = sorted[k - 1], sorted[k - 1] = t;
        }
    for (unsigned n = 0; n < nstarts; n++) {
        struct insn i;
        int len = decode(&i, image + sorted[n], 15, kind->size);
        disasm_print(stdout, image + sorted[n], len > 0 ? (unsigned)len : 1, sorted[n], kind->size);
    }
}

static u64 stops, kicked, gone, translated, vectors[256];

/* One case; the number of lines that differ. */
static unsigned run_case(u64 seed, u64 index, bool verbose)
{
    rng = rng_seeded(seed, index);
    memset(image, 0, sizeof image);
    nstarts = 0;
    kind->generate();
    if (verbose) print_program();
    lines = 0;
    report_text[0] = 0;
    case_number++;
    for (unsigned n = 0; n < 2; n++)
        load(&machines[n]);
    mood(machines[1].cpu);
    for (unsigned stop = 0; stop < MAX_STOPS; stop++) {
        enum cpu_exit why[2];
        for (unsigned n = 0; n < 2; n++)
            why[n] = machines[n].cpu->engine_ops->run(machines[n].cpu);
        const struct cpu *a = machines[0].cpu, *b = machines[1].cpu;
        if (why[0] == EXIT_KICK || why[1] == EXIT_KICK) {
            kicked++;
            return 0;
        }
        if (why[0] != why[1]) DIFFER("    ended otherwise: interp %d bt %d\n", why[0], why[1]);
        const u64 place = a->rip - 1 - HANDLERS + (kind == &pair_long ? 0 : a->seg[SEG_CS].base);
        const unsigned vector = (unsigned)(place >> 4);
        compare_states(a, b);
        const bool handled = why[0] == EXIT_HALT && place < 4096;
        u64 f[2][12] = {{0}};
        for (unsigned n = 0; n < 2 && handled; n++)
            kind->frame(&machines[n], vector, f[n]);
        if (verbose)
            printf("stop %u: rip %llx vector %d from %llx:%llx cr2 %llx\n", stop, (unsigned long long)a->rip,
                   handled ? (int)vector : -1, (unsigned long long)f[0][1], (unsigned long long)f[0][0],
                   (unsigned long long)a->cr2);
        if (lines || !handled) break;
        vectors[vector]++;
        stops++;
        for (unsigned k = 0; k < 12; k++)
            if (f[0][k] != f[1][k])
                DIFFER("    frame %u  interp %llx bt %llx\n", k, (unsigned long long)f[0][k],
                       (unsigned long long)f[1][k]);
        if (lines) break;
        bool on = true;
        for (unsigned n = 0; n < 2; n++) {
            struct cpu *cpu = machines[n].cpu;
            cpu->halted = cpu->nmi_blocked = false;
            kind->go_on(cpu, f[n], f[n][0]);
            cpu_update_mode(cpu);
            cpu->rip = next_place(cpu, vector, f[n]);
            on &= cpu->rip != ~0ull;
        }
        if (!on) break;
    }
    compare_memory(machines[0].ram->host, machines[1].ram->host);
    if (lines && kind->strayed && (kind->strayed(&machines[0]) || kind->strayed(&machines[1]))) {
        gone++;
        return 0;
    }
    return lines;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"seed", 1, NULL, 's'}, {"first", 1, NULL, 'f'},   {"count", 1, NULL, 'c'}, {"report", 1, NULL, 'r'},
        {"kind", 1, NULL, 'k'}, {"verbose", 0, NULL, 'v'}, {NULL, 0, NULL, 0}};
    u64 seed = 1, first = 0, count = 10000, different = 0, report = 10;
    bool verbose = false;
    static const struct kind *const kinds[] = {&pair_long, &pair_real, &pair_v86, &pair_protected16,
                                               &pair_protected32};
    const char *only = NULL;
    for (int opt; (opt = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (opt) {
        case 's': seed = strtoull(optarg, NULL, 0); break;
        case 'f': first = strtoull(optarg, NULL, 0); break;
        case 'c': count = strtoull(optarg, NULL, 0); break;
        case 'r': report = strtoull(optarg, NULL, 0); break;
        case 'k': only = optarg; break;
        case 'v': verbose = true; break;
        default: return 2;
        }
    }
    struct cpu_model *model;
    if (cpu_model_parse("max", &model)) return 2;
    static struct engine_ops forgetful;
    forgetful = interp_engine;
    forgetful.run = run_forgetful;
    machine_create(&machines[0], model, &forgetful);
    machine_create(&machines[1], model, &bt_engine);
    if (bt_set_code_bytes(machines[1].cpu, 16u << 20) < 0) return 2;
    /* Translated code's stack is not one for signals. */
    static u8 signal_stack[256u << 10];
    sigaltstack(&(stack_t){.ss_sp = signal_stack, .ss_size = sizeof signal_stack}, NULL);
    sigaction(SIGVTALRM, &(struct sigaction){.sa_handler = on_timer, .sa_flags = SA_ONSTACK | SA_RESTART},
              NULL);
    setitimer(ITIMER_VIRTUAL,
              &(struct itimerval){.it_interval = {.tv_usec = 80000}, .it_value = {.tv_usec = 80000}}, NULL);
    for (u64 n = first; n < first + count; n++) {
        kind = kinds[n % 2 ? 0 : 1 + n / 2 % (ARRAY_LEN(kinds) - 1)];
        for (unsigned k = 0; only && k < ARRAY_LEN(kinds); k++)
            if (!strcmp(only, kinds[k]->name)) kind = kinds[k];
        if (!run_case(seed, n, verbose)) continue;
        if (++different <= report)
            printf("difference: --kind %s --seed %llu --first %llu --count 1\n%s", kind->name,
                   (unsigned long long)seed, (unsigned long long)n, report_text);
        fflush(stdout);
        if (different >= report) break;
    }
    translated = ((const struct bt *)machines[1].cpu->engine)->translated;
    printf("pair: %llu cases, %llu stops (", (unsigned long long)count, (unsigned long long)stops);
    for (unsigned v = 0; v < 256; v++)
        if (vectors[v]) printf(" %u:%llu", v, (unsigned long long)vectors[v]);
    printf(" ), %llu without an end, %llu gone astray, %llu blocks translated, %llu differences\n",
           (unsigned long long)kicked, (unsigned long long)gone, (unsigned long long)translated,
           (unsigned long long)different);
    return different != 0;
}
