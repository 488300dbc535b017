/* A vCPU's life cycle, its flags, and the state derived from control registers and segments. */
#define _GNU_SOURCE
#include "cpu/cpu.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/large.h"
#include "cpu/cpuid.h"
#include "cpu/exec.h"

u32 cpu_get_eflags(const struct cpu *cpu)
{
    return cpu->eflags | (cpu->aflags >> 8 & 0xd5u) | ((cpu->aflags & AFLAG_OF) ? FLAG_OF : 0);
}

void cpu_set_eflags(struct cpu *cpu, u32 value)
{
    u32 old = cpu->eflags;
    cpu->aflags = (u16)((value & 0xd5u) << 8 | (value >> 11 & 1));
    cpu->eflags = (value & ~EFLAGS_ARITH & 0x3f7fd7u) | 2;
    if ((old ^ cpu->eflags) & (EFLAGS_TF | EFLAGS_RF | EFLAGS_VM | EFLAGS_AC)) cpu_update_mode(cpu);
}

/* Data accesses through one segment: which offsets the fast path may use without a look at the descriptor. */
static void update_window(struct cpu *cpu, unsigned n, bool aligned_only)
{
    const struct segment *s = &cpu->seg[n];
    struct segment_window *w = &cpu->win[n];
    bool real = !cpu_protected(cpu);

    if (cpu_code64(cpu)) {
        w->base = n == SEG_FS || n == SEG_GS ? s->base : 0;
        w->read_end = w->write_end = ~0ull;
    } else {
        bool code = s->attr & 8, expand_down = !code && (s->attr & 4);
        w->base = s->base;
        w->read_end = w->write_end = 0;
        if ((s->attr & SEG_P) && !expand_down) {
            if (real || !code || (s->attr & 2)) w->read_end = s->limit + 1ull;
            if (real || (!code && (s->attr & 2))) w->write_end = s->limit + 1ull;
        }
    }
    if (aligned_only) w->read_end = w->write_end = 0;
}

/* See MODE_FLAT. */
static bool is_flat(const struct cpu *cpu, bool aligned_only)
{
    static const u8 segs[3] = {SEG_ES, SEG_SS, SEG_DS};
    if (aligned_only) return false;
    if (cpu->code_size == CODE_64) return true;
    if (cpu->code_size != CODE_32 || cpu->seg[SEG_CS].base || cpu->code_limit != 0xffffffffu) return false;
    if (!(cpu->seg[SEG_SS].attr & SEG_DB)) return false;
    for (unsigned n = 0; n < 3; n++) {
        const struct segment_window *w = &cpu->win[segs[n]];
        if (w->base || w->read_end != 1ull << 32 || w->write_end != 1ull << 32) return false;
    }
    return true;
}

/* MODE_STACK32 and MODE_64K. */
static unsigned segmented_mode(const struct cpu *cpu)
{
    static const u8 segs[3] = {SEG_ES, SEG_SS, SEG_DS};
    if (cpu->code_size == CODE_64) return 0;
    unsigned mode = MODE_64K | (cpu->seg[SEG_SS].attr & SEG_DB ? MODE_STACK32 : 0);
    for (unsigned n = 0; n < 3; n++) {
        const struct segment_window *w = &cpu->win[segs[n]];
        if ((w->base & 15) || w->read_end < 0x10000 || w->write_end < 0x10000) mode &= ~MODE_64K;
    }
    return mode;
}

static bool is_plain_real(const struct cpu *cpu, unsigned segments)
{
    const bool v86 = cpu_v86(cpu);
    if ((cpu_protected(cpu) && !v86) || cpu->code_size != CODE_16 || !(segments & MODE_64K)) return false;
    for (unsigned n = 0; n < SEG_COUNT; n++) {
        const struct segment *s = &cpu->seg[n];
        if (v86 ? s->attr != (SEG_P | SEG_DPL | SEG_S | 3) || s->limit != 0xffff : (u8)s->attr != (SEG_P | SEG_S | 3)) return false;
    }
    return true;
}

/* What the privilege level decides; segments: the MODE_* of segmentation. */
static void update_context(struct cpu *cpu, unsigned segments)
{
    unsigned context = cpu->cpl == 3                                             ? TLB_USER
                       : (cpu->cr4 & CR4_SMAP) && !(cpu->eflags & EFLAGS_AC)     ? TLB_SUPERVISOR_SMAP
                                                                                 : TLB_SUPERVISOR;
    cpu->tlb = &cpu->tlbs[context];
    cpu->mode_key = (u8)(cpu->code_size | context << 2 | segments | (cpu->cpl ? 0 : MODE_RING0));
    cpu_code_mode(cpu, context);
}

void cpu_update_mode(struct cpu *cpu)
{
    const struct segment *cs = &cpu->seg[SEG_CS];
    const bool aligned_only = cpu->cpl == 3 && (cpu->cr0 & CR0_AM) && (cpu->eflags & EFLAGS_AC);
    /* In 64-bit mode nothing but the bases of FS and GS can change. */
    const bool was_open64 = cpu->code_size == CODE_64 && cpu->win[SEG_DS].write_end == ~0ull;
    if (was_open64 && (cs->attr & SEG_L) && cpu_long(cpu) && !(cpu->eflags & (EFLAGS_VM | EFLAGS_TF)) && !aligned_only &&
        !(cpu->dr[7] & 0xff) && !cpu->shadow && !cpu->pending_debug) { /* most system calls and exceptions */
        cpu->win[SEG_FS].base = cpu->seg[SEG_FS].base;
        cpu->win[SEG_GS].base = cpu->seg[SEG_GS].base;
        cpu->watch = 0;
        cpu->step = false;
        update_context(cpu, MODE_FLAT);
        return;
    }
    if (cpu_long(cpu) && (cs->attr & SEG_L) && !cpu_v86(cpu)) {
        cpu->code_size = CODE_64;
        cpu->lin_mask = cpu->ip_mask = cpu->code_limit = ~0ull;
    } else {
        cpu->code_size = cs->attr & SEG_DB ? CODE_32 : CODE_16;
        cpu->lin_mask = cpu->ip_mask = 0xffffffffull;
        cpu->code_limit = cs->limit;
    }
    for (unsigned n = 0; n < SEG_COUNT; n++) update_window(cpu, n, aligned_only);

    const unsigned segments = is_flat(cpu, aligned_only) ? MODE_FLAT : segmented_mode(cpu);
    cpu->plain_real = is_plain_real(cpu, segments);
    for (unsigned n = 0; n < SEG_COUNT && cpu->log; n++) cpu->win[n].write_end = 0;

    update_context(cpu, segments);

    /* DR7: Ln/Gn at bits 2n, 2n+1; R/Wn at 16+4n (SDM vol 3B 17.2.4). */
    bool code_break = false;
    cpu->watch = 0;
    for (unsigned n = 0; n < 4 && (cpu->dr[7] & 0xff); n++) {
        if (!(cpu->dr[7] >> 2 * n & 3)) continue;
        switch (cpu->dr[7] >> (16 + 4 * n) & 3) {
        case 0: code_break = true; break;
        case 2: cpu->watch |= 2; break;
        default: cpu->watch |= 1; break;
        }
    }
    cpu->step = code_break || (cpu->eflags & EFLAGS_TF) || cpu->shadow || cpu->pending_debug;
}

void cpu_reset(struct cpu *cpu, bool init)
{
    u64 zero_high = cpu->cr0;
    memset(cpu->regs, 0, sizeof cpu->regs);
    cpu->regs[R_DX] = cpu_model_signature(cpu->model);
    cpu->aflags = 0;
    cpu->eflags = 2;
    cpu->rip = 0xfff0;
    for (unsigned n = 0; n < SEG_COUNT; n++)
        cpu->seg[n] = (struct segment){.limit = 0xffff, .attr = SEG_P | SEG_S | 3};
    cpu->seg[SEG_CS] = (struct segment){
        .selector = 0xf000, .base = 0xffff0000, .limit = 0xffff, .attr = SEG_P | SEG_S | 0xb};
    cpu->ldtr = (struct segment){.limit = 0xffff, .attr = SEG_P | 2};
    cpu->tr = (struct segment){.limit = 0xffff, .attr = SEG_P | 0xb};
    cpu->gdtr = cpu->idtr = (struct descriptor_table){.limit = 0xffff};
    cpu->cr0 = CR0_ET | (init ? zero_high & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW);
    cpu->cr2 = cpu->cr3 = cpu->cr4 = 0;
    cpu->efer = 0;
    memset(cpu->dr, 0, sizeof cpu->dr);
    cpu->dr[6] = 0xffff0ff0;
    cpu->dr[7] = 0x400;
    cpu->cpl = 0;
    cpu->exc.vector = -1;
    cpu->shadow = 0;
    cpu->pending_debug = 0;
    cpu->halted = cpu->shutdown = cpu->nmi_blocked = cpu->in_exception_delivery = false;
    cpu->wait_sipi = cpu->index != 0;
    if (!init) {
        cpu->star = cpu->lstar = cpu->cstar = cpu->fmask = cpu->kernel_gs_base = cpu->tsc_aux = 0;
        cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
        cpu->pat = 0x0007040600070406ull; /* SDM vol 3A table 11-12 */
        cpu->misc_enable = 1;
        cpu->tsc_offset = cpu->tsc_adjust = cpu->spec_ctrl = 0;
        cpu->mtrr_def_type = 0;
        memset(cpu->mtrr_fixed, 0, sizeof cpu->mtrr_fixed);
        memset(cpu->mtrr_base, 0, sizeof cpu->mtrr_base);
        memset(cpu->mtrr_mask, 0, sizeof cpu->mtrr_mask);
        memset(cpu->mc_bank, 0, sizeof cpu->mc_bank);
        cpu->mcg_status = 0;
        cpu->mcg_ctl = ~0ull;
        cpu->smbase = 0x30000;
        cpu->xcr0 = 1;
        cpu->pkru = 0;
        memset(&cpu->fpu, 0, sizeof cpu->fpu);
        cpu->fpu.legacy[0] = 0x40; /* FCW 0040H after power-up, SDM vol 3A table 9-1 */
        cpu->fpu.legacy[4] = 0xff; /* FTW 5555H (all zero), abridged */
        cpu->fpu.legacy[24] = 0x80; /* MXCSR 1F80H */
        cpu->fpu.legacy[25] = 0x1f;
    }
    /* A start-up message may have followed the INIT already. */
    cpu_event_clear(cpu, EVENT_NMI | EVENT_NMI2 | EVENT_SMI | EVENT_STEP | (init ? 0 : EVENT_INIT | EVENT_SIPI | EVENT_RESET));
    tlb_flush_all(cpu);
    cpu_update_mode(cpu);
}

void cpu_raise_nmi(struct cpu *cpu)
{
    u32 old = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST), now;
    do {
        bool second = (old & EVENT_NMI) && !__atomic_load_n(&cpu->nmi_blocked, __ATOMIC_SEQ_CST);
        now = old | EVENT_NMI | (second ? EVENT_NMI2 : 0);
    } while (!__atomic_compare_exchange_n(&cpu->events, &old, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
}

void cpu_raise_init(struct cpu *cpu)
{
    cpu_event_clear(cpu, EVENT_SIPI);
    cpu_event_set(cpu, EVENT_INIT);
}

void cpu_raise_sipi(struct cpu *cpu, u8 vector)
{
    cpu->sipi_vector = vector;
    cpu_event_set(cpu, EVENT_SIPI);
}

/* The only vCPU waits for time, or for what a device does to memory. No sleep is longer than a fourth of the wait so far, and a while is
 * spun before each, so that code which counts its PAUSEs is not held up for long. syscall() keeps off the vector registers. */
static __attribute__((target("general-regs-only"))) void wait_alone(struct cpu *cpu)
{
    enum { SPINS = 32, NEAR = 20000, LONG = 50000, LONGEST = 100000 }; /* NEAR and LONG: ticks of the host's TSC, some 10 and 20 us */
    const u64 now = __builtin_ia32_rdtsc();
    if (now - cpu->pause_last > NEAR) cpu->pause_since = now;
    cpu->pause_last = now;
    if (now - cpu->pause_since < LONG || ++cpu->pauses % SPINS) return;
    const struct timespec t = {.tv_nsec = (long)MIN((now - cpu->pause_since) / 8, (u64)LONGEST)};
    syscall(SYS_nanosleep, &t, NULL);
    cpu->pause_last = __builtin_ia32_rdtsc();
}

__attribute__((target("general-regs-only"))) void cpu_pause(struct cpu *cpu)
{
    enum { SPINS = 32 }; /* some microseconds: as long as a vCPU that runs holds most locks */
    if (!cpu->smp) wait_alone(cpu);
    else if (++cpu->pauses % SPINS) __builtin_ia32_pause();
    else sched_yield();
}

bool cpu_has_work(const struct cpu *cpu)
{
    u32 ev = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST);
    u32 wake = EVENT_KICK | EVENT_RESET | EVENT_INIT;
    if (cpu->wait_sipi) return ev & (wake | EVENT_SIPI);
    if (cpu->shutdown) return ev & wake;
    wake |= EVENT_SMI;
    if (!cpu->nmi_blocked) wake |= EVENT_NMI;
    if (cpu->eflags & EFLAGS_IF) wake |= EVENT_INTR;
    return !cpu->halted || (ev & wake);
}

/* One large page: the TLBs are large, and looked at all the time. */
#define STATE_BYTES LARGE_PAGE
_Static_assert(sizeof(struct cpu) <= STATE_BYTES, "");

/* Only in builds that look for leaks: there may be pointers in memory that is not malloc()'s [sanitizer/lsan_interface.h]. */
extern void __lsan_register_root_region(const void *start, size_t size) __attribute__((weak));
extern void __lsan_unregister_root_region(const void *start, size_t size) __attribute__((weak));

static struct cpu *map_state(void)
{
    struct cpu *cpu = large_map(STATE_BYTES, PROT_READ | PROT_WRITE, true);
    if (cpu && __lsan_register_root_region) __lsan_register_root_region(cpu, STATE_BYTES);
    return cpu;
}

static void unmap_state(struct cpu *cpu)
{
    if (__lsan_unregister_root_region) __lsan_unregister_root_region(cpu, STATE_BYTES);
    munmap(cpu, STATE_BYTES);
}

struct cpu *cpu_create(u32 index, struct bus *mem, struct bus *io, struct ram *ram, const struct cpu_hooks *hooks,
                       const struct cpu_model *model, const struct engine_ops *engine)
{
    struct cpu *cpu = map_state();
    if (!cpu) {
        fprintf(stderr, "calque: no memory for vCPU %u: %s\n", index, strerror(errno));
        return NULL;
    }
    cpu->index = index;
    cpu->mem = mem;
    cpu->io = io;
    cpu->ram = ram;
    cpu->hooks = hooks;
    cpu->model = model;
    cpu->engine_ops = engine;
    mmu_forget_map(cpu);
    cpu_reset(cpu, false);
    if (engine && engine->create(cpu) < 0) {
        unmap_state(cpu);
        return NULL;
    }
    return cpu;
}

void cpu_destroy(struct cpu *cpu)
{
    if (!cpu) return;
    if (cpu->engine_ops) cpu->engine_ops->destroy(cpu);
    unmap_state(cpu);
}

static void dump_segment(FILE *f, const char *name, const struct segment *s)
{
    fprintf(f, "%-4s %04x base=%016llx limit=%08x attr=%04x dpl=%u%s\n", name, s->selector,
            (unsigned long long)s->base, s->limit, s->attr, s->attr >> 5 & 3u, s->attr & SEG_P ? "" : " (not present)");
}

void cpu_dump(const struct cpu *cpu, FILE *f)
{
    static const char names[16][4] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                      "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
    static const char seg_names[SEG_COUNT][3] = {"ES", "CS", "SS", "DS", "FS", "GS"};
    u32 fl = cpu_get_eflags(cpu);
    for (unsigned n = 0; n < 16; n++)
        fprintf(f, "%s=%016llx%c", names[n], (unsigned long long)cpu->regs[n], n % 4 == 3 ? '\n' : ' ');
    fprintf(f, "RIP=%016llx EFLAGS=%08x [%c%c%c%c%c%c%c] CPL=%u %s-bit%s%s%s\n", (unsigned long long)cpu->rip, fl,
            fl & FLAG_OF ? 'O' : '-', fl & EFLAGS_DF ? 'D' : '-', fl & EFLAGS_IF ? 'I' : '-', fl & FLAG_SF ? 'S' : '-',
            fl & FLAG_ZF ? 'Z' : '-', fl & FLAG_PF ? 'P' : '-', fl & FLAG_CF ? 'C' : '-', cpu->cpl,
            cpu->code_size == CODE_64 ? "64" : cpu->code_size == CODE_32 ? "32" : "16", cpu->halted ? " HLT" : "",
            cpu_v86(cpu) ? " V86" : "", cpu->shutdown ? " SHUTDOWN" : "");
    for (unsigned n = 0; n < SEG_COUNT; n++) dump_segment(f, seg_names[n], &cpu->seg[n]);
    dump_segment(f, "LDTR", &cpu->ldtr);
    dump_segment(f, "TR", &cpu->tr);
    fprintf(f, "GDTR base=%016llx limit=%04x  IDTR base=%016llx limit=%04x\n", (unsigned long long)cpu->gdtr.base,
            cpu->gdtr.limit, (unsigned long long)cpu->idtr.base, cpu->idtr.limit);
    fprintf(f, "CR0=%08llx CR2=%016llx CR3=%016llx CR4=%08llx EFER=%04llx\n", (unsigned long long)cpu->cr0,
            (unsigned long long)cpu->cr2, (unsigned long long)cpu->cr3, (unsigned long long)cpu->cr4,
            (unsigned long long)cpu->efer);
    fprintf(f, "DR0=%016llx DR1=%016llx DR2=%016llx DR3=%016llx DR6=%08llx DR7=%08llx\n", (unsigned long long)cpu->dr[0],
            (unsigned long long)cpu->dr[1], (unsigned long long)cpu->dr[2], (unsigned long long)cpu->dr[3],
            (unsigned long long)cpu->dr[6], (unsigned long long)cpu->dr[7]);
}
