/* The engine's side of the oracle: a struct cpu at CPL 3 in long mode, with the window, the segments and the control
 * registers that the host's Linux gives the native side, and an IDT whose handlers are HLT.
 *
 * A case ends when an exception is delivered: the address the engine halts at is the vector, the kernel stack holds the
 * error code and the interrupted state. */
#include "oracle.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "core/bus.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "cpu/engine.h"
#include "no_devices.h"
#include "random.h"
#include "translate/bt.h"
#include "translate/translate.h"

/* Guest-physical layout. */
enum {
    PHYS_WINDOW = 0x10000,
    PHYS_PML4 = 0x20000,
    PHYS_PDPT_LOW = 0x21000,
    PHYS_PD_LOW = 0x22000,
    PHYS_PT_LOW = 0x23000,
    PHYS_PDPT_HIGH = 0x24000,
    PHYS_PD_HIGH = 0x25000,
    PHYS_PT_HIGH = 0x26000,
    PHYS_SYSTEM = 0x30000, /* the pages below, in order */
    PHYS_SIZE = 0x40000,
};

/* Supervisor pages. */
#define SYSTEM   0xffff800000000000ull
#define GDT      (SYSTEM + 0x0000)
#define IDT      (SYSTEM + 0x1000)
#define TSS      (SYSTEM + 0x2000)
#define LDT      (SYSTEM + 0x3000)
#define HANDLERS (SYSTEM + 0x4000) /* 16 bytes each */
#define KSTACK   (SYSTEM + 0x7000) /* top */
#define SYSTEM_PAGES 7u

#define PTE_P  1ull
#define PTE_W  2ull
#define PTE_U  4ull
#define PTE_AD 0x60ull
#define PTE_NX (1ull << 63)

#define TRANSLATED (16u << 20) /* bytes of code memory: few, so that it is used again and again */

#define SEL_KERNEL_CODE 0x10
#define SEL_TSS 0x40
#define SEL_LDTR 0x50

struct guest {
    struct ram *ram;
    struct bus *mem, *io;
    struct cpu *cpu;
    const u8 *image; /* what the window is between cases */
    bool translates;
};

static struct guest *timer_guest; /* whom the timer looks after */
static volatile u64 case_number, timer_seen;
static volatile unsigned timer_ticks, timer_patience = 1; /* how often it saw the case before; at how many it has it end */

static void on_timer(int sig)
{
    (void)sig;
    timer_ticks = timer_seen == case_number ? timer_ticks + 1 : 0;
    if (timer_guest && timer_ticks >= timer_patience) cpu_event_set(timer_guest->cpu, EVENT_KICK);
    timer_seen = case_number;
}

u64 guest_translated(const struct guest *g) { return g->translates ? ((const struct bt *)g->cpu->engine)->translated : 0; }

static u64 *phys64(struct guest *g, u64 at) { return (u64 *)(void *)(g->ram->host + at); }

static void build_pages(struct guest *g)
{
    u64 table = PTE_P | PTE_W | PTE_U | PTE_AD;
    phys64(g, PHYS_PML4)[0] = PHYS_PDPT_LOW | table;
    phys64(g, PHYS_PDPT_LOW)[0] = PHYS_PD_LOW | table;
    phys64(g, PHYS_PD_LOW)[WINDOW >> 21] = PHYS_PT_LOW | table;
    for (unsigned p = 0; p < WINDOW_PAGES; p++) {
        u64 flags = 0;
        switch (window_page(p)) {
        case PAGE_NONE: continue;
        case PAGE_RWX: flags = PTE_W; break;
        case PAGE_RW: flags = PTE_W | PTE_NX; break;
        case PAGE_RO: flags = PTE_NX; break;
        }
        phys64(g, PHYS_PT_LOW)[p] = (PHYS_WINDOW + p * GUEST_PAGE_SIZE) | PTE_P | PTE_U | PTE_AD | flags;
    }
    phys64(g, PHYS_PML4)[SYSTEM >> 39 & 511] = PHYS_PDPT_HIGH | table;
    phys64(g, PHYS_PDPT_HIGH)[0] = PHYS_PD_HIGH | table;
    phys64(g, PHYS_PD_HIGH)[0] = PHYS_PT_HIGH | table;
    for (unsigned p = 0; p < SYSTEM_PAGES; p++)
        phys64(g, PHYS_PT_HIGH)[p] = (PHYS_SYSTEM + p * GUEST_PAGE_SIZE) | PTE_P | PTE_W | PTE_AD;
}

static void build_tables(struct guest *g, const u64 *ldt, unsigned processor)
{
    /* As Linux fills it (arch/x86 segment.h); entry 15's limit is the CPU's number. */
    u64 *gdt = phys64(g, PHYS_SYSTEM + (GDT - SYSTEM));
    gdt[1] = 0x00cf9b000000ffff;
    gdt[2] = 0x00af9b000000ffff;
    gdt[3] = 0x00cf93000000ffff;
    gdt[4] = 0x00cffb000000ffff;
    gdt[5] = 0x00cff3000000ffff;
    gdt[6] = 0x00affb000000ffff;
    gdt[8] = 0x00008b0000000067 | (TSS & 0xffffff) << 16 | (TSS >> 24 & 0xff) << 56;
    gdt[9] = TSS >> 32;
    gdt[10] = 0x0000820000000000 | (LDT_COUNT * 8 - 1) | (LDT & 0xffffff) << 16 | (LDT >> 24 & 0xff) << 56;
    gdt[11] = LDT >> 32;
    gdt[15] = 0x0040f50000000000 | (processor & 0xfff);

    u64 *idt = phys64(g, PHYS_SYSTEM + (IDT - SYSTEM));
    u8 *handlers = g->ram->host + PHYS_SYSTEM + (HANDLERS - SYSTEM);
    memset(handlers, 0xcc, 0x1000);
    for (unsigned v = 0; v < 256; v++) {
        u64 at = HANDLERS + 16 * v, dpl = v == EXC_BP || v == EXC_OF ? 3 : 0;
        idt[2 * v] = (at & 0xffff) | (u64)SEL_KERNEL_CODE << 16 | (0x8e00ull | dpl << 13) << 32 |
                     (at >> 16 & 0xffff) << 48;
        idt[2 * v + 1] = at >> 32;
        handlers[16 * v] = 0xf4;
    }
    u8 *tss = g->ram->host + PHYS_SYSTEM + (TSS - SYSTEM);
    u64 top = KSTACK;
    memcpy(tss + 4, &top, 8);
    tss[102] = 0x68; /* no I/O permission bitmap */
    memcpy(g->ram->host + PHYS_SYSTEM + (LDT - SYSTEM), ldt, LDT_COUNT * 8);
}

struct guest *guest_create(const char *engine, const struct cpu_model *model, const u64 *ldt, unsigned processor)
{
    const bool translate = !strcmp(engine, bt_engine.name);
    if (!translate && strcmp(engine, interp_engine.name) != 0) {
        fprintf(stderr, "oracle: no engine '%s'\n", engine);
        return NULL;
    }
    struct guest *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->ram = ram_create(PHYS_SIZE);
    g->mem = bus_create("memory", 1ull << 52);
    g->io = bus_create("io", 0x10000);
    if (!g->ram || !g->mem || !g->io) goto fail;
    u64 offset = ram_alloc(g->ram, PHYS_SIZE);
    bus_add_ram(g->mem, "ram", 0, PHYS_SIZE, 0, g->ram, offset, false);
    build_pages(g);
    build_tables(g, ldt, processor);
    g->cpu = cpu_create(0, g->mem, g->io, g->ram, &no_devices, model, translate ? &bt_engine : &interp_engine);
    if (!g->cpu) goto fail;
    /* It may lie below 4 GiB, where the native side's next child is to have the window only. */
    const uintptr_t start = (uintptr_t)g->cpu & ~(uintptr_t)GUEST_PAGE_MASK;
    madvise((void *)start, (uintptr_t)(g->cpu + 1) - start, MADV_DONTFORK);
    g->translates = translate;
    if (translate && bt_set_code_bytes(g->cpu, TRANSLATED) < 0) goto fail;
    /* Translated code's stack is not one for signals. */
    static u8 signal_stack[256u << 10];
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    struct sigaction on_tick = {.sa_handler = on_timer, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaltstack(&stack, NULL);
    timer_guest = g;
    sigaction(SIGVTALRM, &on_tick, NULL);
    struct itimerval tick = {.it_interval = {.tv_usec = 100000}, .it_value = {.tv_usec = 100000}};
    setitimer(ITIMER_VIRTUAL, &tick, NULL);
    return g;
fail:
    guest_destroy(g);
    return NULL;
}

void guest_destroy(struct guest *g)
{
    if (!g) return;
    timer_guest = NULL;
    cpu_destroy(g->cpu);
    if (g->mem) bus_destroy(g->mem);
    if (g->io) bus_destroy(g->io);
    if (g->ram) ram_destroy(g->ram);
    free(g);
}

static struct segment segment_of(struct guest *g, u16 selector)
{
    if (selector < 4) return (struct segment){.selector = selector};
    u64 table = selector & 4 ? LDT : GDT, d = phys64(g, PHYS_SYSTEM + (table - SYSTEM))[selector >> 3];
    struct segment s = {.selector = selector, .attr = (u16)(d >> 40 & 0xf0ff)};
    s.limit = (u32)((d & 0xffff) | (d >> 32 & 0xf0000));
    if (s.attr & SEG_G) s.limit = s.limit << 12 | 0xfff;
    s.base = (d >> 16 & 0xffffff) | (d >> 56) << 24;
    return s;
}

static u8 *window_of(struct guest *g) { return g->ram->host + PHYS_WINDOW; }

void guest_image(struct guest *g, const u8 *image)
{
    g->image = image;
    window_fill(window_of(g), image);
}

static void load_state(struct guest *g, const struct machine_state *s)
{
    struct cpu *cpu = g->cpu;
    memcpy(cpu->regs, s->regs, sizeof s->regs);
    cpu->rip = s->rip;
    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    cpu->cr2 = 0;
    cpu->cr3 = PHYS_PML4;
    cpu->cr4 = CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE |
               CR4_OSXSAVE | CR4_SMEP | CR4_SMAP;
    cpu->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    cpu->xcr0 = 7;
    cpu->dr[6] = 0xffff0ff0;
    cpu->dr[7] = 0x400;
    cpu->gdtr = (struct descriptor_table){GDT, 127};
    cpu->idtr = (struct descriptor_table){IDT, 0xfff};
    cpu->ldtr = (struct segment){
        .selector = SEL_LDTR, .base = LDT, .limit = LDT_COUNT * 8 - 1, .attr = SEG_P | 2};
    cpu->tr = (struct segment){.selector = SEL_TSS, .base = TSS, .limit = 0x67, .attr = SEG_P | 0xb};
    const u16 selectors[SEG_COUNT] = {s->es, s->cs, s->ss, s->ds, s->fs, s->gs};
    for (unsigned n = 0; n < SEG_COUNT; n++) cpu->seg[n] = segment_of(g, selectors[n]);
    cpu->seg[SEG_FS].base = s->fs_base;
    cpu->seg[SEG_GS].base = s->gs_base;
    cpu->cpl = 3;
    memcpy(cpu->fpu.legacy, s->legacy, 512);
    memset(cpu->fpu.header, 0, sizeof cpu->fpu.header);
    cpu->fpu.header[0] = 7;
    memcpy(cpu->fpu.ymm_high, s->ymm_high, 256);
    cpu->exc.vector = -1;
    cpu->shadow = 0;
    cpu->pending_debug = 0;
    cpu->halted = cpu->shutdown = cpu->in_exception_delivery = cpu->nmi_blocked = false;
    cpu_set_eflags(cpu, (u32)s->rflags | EFLAGS_IF | 2);
    cpu_update_mode(cpu);
}

static void save_state(struct guest *g, struct machine_state *s)
{
    const struct cpu *cpu = g->cpu;
    memcpy(s->regs, cpu->regs, sizeof s->regs);
    s->es = cpu->seg[SEG_ES].selector;
    s->ds = cpu->seg[SEG_DS].selector;
    s->fs = cpu->seg[SEG_FS].selector;
    s->gs = cpu->seg[SEG_GS].selector;
    s->fs_base = cpu->seg[SEG_FS].base;
    s->gs_base = cpu->seg[SEG_GS].base;
    memcpy(s->legacy, cpu->fpu.legacy, 512);
    memcpy(s->ymm_high, cpu->fpu.ymm_high, 256);
}

static bool pushes_error(int vector)
{
    return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC || vector == EXC_CP;
}

/* The translator leaves code that keeps changing to the interpreter, and treats code in loops, and such as was patched before, in
 * ways of its own: by the case's number it is told that this is a case of each. */
static void translator_mood(struct guest *g, struct rng *r)
{
    struct bt *bt = g->cpu->engine;
    const bool loop = rng_percent(r, 60), patched = rng_percent(r, 10);
    bt_set_loops(g->cpu, loop, loop && rng_percent(r, 50));
    bt_set_threshold(g->cpu, patched ? 0 : rng_percent(r, 88) ? 1 : 2 + rng_below(r, 2));
    for (u64 page = 0; page < CODE_SIZE / GUEST_PAGE_SIZE; page++) {
        struct code_page *p = bt->cache.pages[(PHYS_WINDOW + CODE_OFF) / GUEST_PAGE_SIZE + page];
        if (p) memset(p->changes, patched, sizeof p->changes);
    }
}

static enum cpu_exit run_once(struct guest *g, const struct oracle_case *c, struct oracle_result *r)
{
    window_put_code(window_of(g), c);
    load_state(g, &c->in);
    case_number++;
    enum cpu_exit why = g->cpu->engine_ops->run(g->cpu);
    window_collect(window_of(g), g->image, c, r);
    return why;
}

/* Code that has run before, and then mostly went other ways: from other flags, and with two registers exchanged. */
static void run_before(struct guest *g, const struct oracle_case *c, struct oracle_result *r, struct rng *rng)
{
    struct oracle_case other = *c;
    const unsigned a = rng_below(rng, 16), b = rng_below(rng, 16);
    if (rng_percent(rng, 80)) other.in.rflags ^= rng_next(rng) & 0x8d5;
    if (a != R_SP && b != R_SP && rng_percent(rng, 50)) {
        other.in.regs[a] = c->in.regs[b];
        other.in.regs[b] = c->in.regs[a];
    }
    bt_set_threshold(g->cpu, 2 + rng_below(rng, 2));
    run_once(g, &other, r);
    if (r->changed & CODE_PAGES) g->cpu->engine_ops->invalidate(g->cpu, PHYS_WINDOW + CODE_OFF, CODE_SIZE);
    cpu_event_clear(g->cpu, EVENT_KICK);
}

void guest_run(struct guest *g, const struct oracle_case *c, struct oracle_result *r, bool patient)
{
    timer_patience = patient ? 100 : 1;
    struct cpu *cpu = g->cpu;
    struct rng rng = rng_seeded(c->index, c->mode);
    cpu->engine_ops->invalidate(cpu, PHYS_WINDOW + CODE_OFF, CODE_SIZE);
    if (g->translates) translator_mood(g, &rng);
    if (g->translates && rng_percent(&rng, 15)) run_before(g, c, r, &rng);
    enum cpu_exit why = run_once(g, c, r);
    /* Again, when all of it is translated and linked. */
    if (g->translates && why == EXIT_HALT && rng_percent(&rng, 25)) {
        if (r->changed & CODE_PAGES) cpu->engine_ops->invalidate(cpu, PHYS_WINDOW + CODE_OFF, CODE_SIZE);
        why = run_once(g, c, r);
    }
    memset(&r->out, 0, sizeof r->out);
    r->error_code = 0;
    r->cr2 = cpu->cr2;
    save_state(g, &r->out);
    if (why != EXIT_HALT) {
        cpu_event_clear(cpu, EVENT_KICK);
        r->vector = why == EXIT_KICK ? VECTOR_TIMEOUT : VECTOR_CRASH;
        r->out.rip = cpu->rip;
        r->out.rflags = cpu_get_eflags(cpu);
        return;
    }
    r->vector = (int)((cpu->rip - HANDLERS) / 16);
    const u64 *frame = phys64(g, PHYS_SYSTEM + (cpu->regs[R_SP] - SYSTEM));
    if (pushes_error(r->vector)) r->error_code = *frame++;
    r->out.rip = frame[0];
    r->out.cs = (u16)frame[1];
    r->out.rflags = frame[2];
    r->out.regs[R_SP] = frame[3];
    r->out.ss = (u16)frame[4];
}
