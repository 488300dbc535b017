/* build/tests/test_interp: the interpreter's block cache, events and single steps, on small machine-code programs. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/bus.h"
#include "cpu/block.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "cpu/exec.h"

#define RAM_SIZE 0x400000ull
#define CODE     0x10000u
#define IDT      0x8000u
#define HANDLERS 0x9000u /* vector n is handled at HANDLERS + 16 n by HLT */
#define PAGES    0x1000u /* PML4, PDPT, PD, PT at successive pages: the first 2 MiB in small pages */

static void no_lock(void *opaque) { (void)opaque; }
static u64 no_time(void *opaque) { (void)opaque; return 0; }

static struct ram *ram;
static struct bus *mem, *io;
static struct cpu_model *model;
static struct cpu *cpu;
static int intr_vector;

static int ack(void *opaque)
{
    (void)opaque;
    cpu_event_clear(cpu, EVENT_INTR);
    return intr_vector;
}
static const struct cpu_hooks hooks = {.lock = no_lock, .unlock = no_lock, .tsc = no_time, .ack_interrupt = ack};

static void write64(gpa addr, u64 v) { memcpy(ram->host + addr, &v, 8); }

static void set_up(void)
{
    ram = ram_create(RAM_SIZE);
    u64 at = ram_alloc(ram, RAM_SIZE);
    mem = bus_create("memory", 1ull << 52);
    io = bus_create("ports", 0x10000);
    bus_add_ram(mem, "ram", 0, RAM_SIZE, 0, ram, at, false);
    cr_assert_eq(cpu_model_parse("max", &model), 0);
    cpu = cpu_create(0, mem, io, ram, &hooks, model, &interp_engine);
}

static void tear_down(void)
{
    cpu_destroy(cpu);
    cpu_model_destroy(model);
    bus_destroy(mem);
    bus_destroy(io);
    ram_destroy(ram);
}
TestSuite(interp, .init = set_up, .fini = tear_down);

/* 64-bit mode, CPL 0, identity-mapped small pages, an IDT whose handlers halt. */
static void long_mode(void)
{
    write64(PAGES, PAGES + 0x1000 + 7);
    write64(PAGES + 0x1000, PAGES + 0x2000 + 7);
    write64(PAGES + 0x2000, PAGES + 0x3000 + 7);
    for (u64 n = 0; n < 512; n++) write64(PAGES + 0x3000 + 8 * n, n << 12 | 7);
    /* GDT at 0x7000: null, 64-bit code. */
    write64(0x7008, 0x00af9b000000ffffull);
    for (unsigned n = 0; n < 32; n++) {
        u64 target = HANDLERS + 16 * n;
        write64(IDT + 16 * n, (target & 0xffff) | 8 << 16 | 0x8eull << 40);
        write64(IDT + 16 * n + 8, 0);
        ram->host[target] = 0xf4;
    }
    cpu->gdtr = (struct descriptor_table){.base = 0x7000, .limit = 15};
    cpu->idtr = (struct descriptor_table){.base = IDT, .limit = 32 * 16 - 1};
    cpu->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP;
    cpu->cr4 = CR4_PAE;
    cpu->cr3 = PAGES;
    cpu->efer = EFER_LME | EFER_LMA | EFER_NXE;
    cpu->seg[SEG_CS] = (struct segment){.selector = 8, .limit = ~0u, .attr = SEG_P | SEG_S | SEG_L | SEG_G | 0xb};
    cpu->rip = CODE;
    cpu->regs[R_SP] = 0x80000;
    cpu_update_mode(cpu);
}

static void code(gpa addr, const void *bytes, size_t n) { memcpy(ram->host + addr, bytes, n); }
#define CODE_AT(addr, ...) code(addr, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* The vector whose handler the vCPU halted in, or -1 when it halted elsewhere. */
static int run(void)
{
    cr_assert_eq(cpu->engine_ops->run(cpu), EXIT_HALT);
    u64 at = cpu->rip - 1 - HANDLERS;
    return at < 32 * 16 ? (int)(at / 16) : -1;
}

static u64 stack64(unsigned n)
{
    u64 v;
    memcpy(&v, ram->host + cpu->regs[R_SP] + 8 * n, 8);
    return v;
}

Test(interp, a_store_into_the_running_block_takes_effect_at_once)
{
    long_mode();
    /* mov byte [rip+1], 0x07 changes the immediate of the mov eax that follows. */
    CODE_AT(CODE, 0xc6, 0x05, 0x01, 0, 0, 0, 0x07, /* mov eax, 1 */ 0xb8, 1, 0, 0, 0, 0xf4);
    cr_assert_eq(run(), -1);
    cr_assert_eq(cpu->regs[R_AX], 7);
}

Test(interp, code_that_was_run_and_then_changed_is_decoded_again)
{
    long_mode();
    CODE_AT(CODE, 0xb8, 1, 0, 0, 0, 0xf4);
    run();
    cr_assert_eq(cpu->regs[R_AX], 1);
    u32 v = 2;
    bus_write_block(mem, CODE + 1, &v, 4); /* DMA: through the bus, as a device would */
    cpu->engine_ops->invalidate(cpu, CODE + 1, 4);
    cpu->rip = CODE;
    cpu->halted = false;
    run();
    cr_assert_eq(cpu->regs[R_AX], 2);
}

Test(interp, a_page_of_code_that_was_cleared_is_data_although_most_stores_change_nothing)
{
    enum { ONCE = 0x30000 };
    long_mode();
    CODE_AT(ONCE, 0xf4);
    cpu->rip = ONCE;
    run();
    cr_assert(ram->page_flags[ONCE >> 12] & RAM_PAGE_CODE);
    /* mov edi, ONCE; xor eax, eax; mov ecx, 512; rep stosq; hlt */
    CODE_AT(CODE, 0xbf, 0, 0, 3, 0, 0x31, 0xc0, 0xb9, 0, 2, 0, 0, 0xf3, 0x48, 0xab, 0xf4);
    cpu->rip = CODE;
    cpu->halted = false;
    run();
    cr_assert_not(ram->page_flags[ONCE >> 12] & RAM_PAGE_CODE);
}

Test(interp, data_beside_code_does_not_kill_the_block)
{
    long_mode();
    /* mov ecx, 1000; l: inc dword [CODE + 0x800]; dec ecx; jnz l; hlt */
    CODE_AT(CODE, 0xb9, 0xe8, 3, 0, 0, 0xff, 0x05, 0xf5, 7, 0, 0, 0xff, 0xc9, 0x75, 0xf6, 0xf4);
    cr_assert_eq(run(), -1);
    u32 v;
    memcpy(&v, ram->host + CODE + 0x800, 4);
    cr_assert_eq(v, 1000);
    cr_assert_eq(((struct block_cache *)cpu->engine)->kills, 0);
}

Test(interp, an_instruction_across_pages_runs_and_faults_on_its_second_page)
{
    long_mode();
    CODE_AT(CODE + 0xffd, 0xb8, 0x78, 0x56, 0x34, 0x12, 0xf4);
    cpu->rip = CODE + 0xffd;
    cr_assert_eq(run(), -1);
    cr_assert_eq(cpu->regs[R_AX], 0x12345678);

    write64(PAGES + 0x3000 + 8 * ((CODE >> 12) + 1), 0);
    tlb_flush_all(cpu);
    cpu->rip = CODE + 0xffd;
    cpu->halted = false;
    cr_assert_eq(run(), EXC_PF);
    cr_assert_eq(cpu->cr2, CODE + 0x1000u);
    cr_assert_eq(stack64(0), PF_I, "fetch from a page that is not present");
    cr_assert_eq(stack64(1), CODE + 0xffdu);
}

Test(interp, a_fault_leaves_registers_and_rip_of_the_faulting_instruction)
{
    long_mode();
    /* inc eax; push [0x7fffff] (not mapped) */
    CODE_AT(CODE, 0xff, 0xc0, 0xff, 0x34, 0x25, 0xff, 0xff, 0x7f, 0x00, 0xf4);
    cr_assert_eq(run(), EXC_PF);
    cr_assert_eq(cpu->regs[R_AX], 1);
    cr_assert_eq(cpu->cr2, 0x7fffff);
    cr_assert_eq(stack64(0), 0);
    cr_assert_eq(stack64(1), CODE + 2u);
    cr_assert_eq(stack64(4), 0x80000, "RSP as before the push");
}

Test(interp, a_store_across_pages_writes_nothing_when_the_second_page_is_read_only)
{
    long_mode();
    write64(PAGES + 0x3000 + 8 * 0x21, 0x21 << 12 | 5);
    memset(ram->host + 0x20ff8, 0xaa, 16);
    CODE_AT(CODE, 0x48, 0x89, 0x04, 0x25, 0xfc, 0x0f, 0x02, 0x00, 0xf4); /* mov [0x20ffc], rax */
    cr_assert_eq(run(), EXC_PF);
    cr_assert_eq(cpu->cr2, 0x21000);
    cr_assert_eq(stack64(0), PF_P | PF_W);
    for (unsigned n = 0; n < 16; n++) cr_assert_eq(ram->host[0x20ff8 + n], 0xaa);
}

Test(interp, rep_movs_stops_at_the_faulting_element_and_can_be_restarted)
{
    long_mode();
    write64(PAGES + 0x3000 + 8 * 0x31, 0x31 << 12 | 5); /* read only */
    for (unsigned n = 0; n < 0x20; n++) ram->host[0x20000 + n] = (u8)(n + 1);
    cpu->regs[R_SI] = 0x20000;
    cpu->regs[R_DI] = 0x30ff0;
    cpu->regs[R_CX] = 0x20;
    CODE_AT(CODE, 0xf3, 0xa4, 0xf4);
    cr_assert_eq(run(), EXC_PF);
    cr_assert_eq(cpu->regs[R_CX], 0x10);
    cr_assert_eq(cpu->regs[R_DI], 0x31000);
    cr_assert_eq(cpu->regs[R_SI], 0x20010);
    cr_assert_eq(stack64(1), CODE);
    cr_assert_eq(ram->host[0x30fff], 0x10);
}

Test(interp, rep_movs_with_overlap_repeats_the_pattern)
{
    long_mode();
    memcpy(ram->host + 0x20000, "ab", 2);
    cpu->regs[R_SI] = 0x20000;
    cpu->regs[R_DI] = 0x20002;
    cpu->regs[R_CX] = 10;
    CODE_AT(CODE, 0xf3, 0xa4, 0xf4);
    run();
    cr_assert(!memcmp(ram->host + 0x20000, "abababababab", 12));
}

Test(interp, an_interrupt_waits_for_the_instruction_after_sti)
{
    long_mode();
    intr_vector = 20;
    cpu_event_set(cpu, EVENT_INTR);
    CODE_AT(CODE, 0xfb, 0xff, 0xc0, 0xff, 0xc0, 0xf4); /* sti; inc eax; inc eax; hlt */
    cr_assert_eq(run(), 20);
    cr_assert_eq(cpu->regs[R_AX], 1);
    cr_assert_eq(stack64(0), CODE + 3u);
}

Test(interp, a_single_step_traps_after_each_instruction)
{
    long_mode();
    cpu_set_eflags(cpu, EFLAGS_TF | 2);
    CODE_AT(CODE, 0xff, 0xc0, 0xff, 0xc0, 0xf4);
    cr_assert_eq(run(), EXC_DB);
    cr_assert_eq(cpu->regs[R_AX], 1);
    cr_assert_eq(stack64(0), CODE + 2u);
    cr_assert(cpu->dr[6] & 0x4000);
}

Test(interp, a_data_breakpoint_traps_after_the_store)
{
    long_mode();
    cpu->dr[0] = 0x20004;
    cpu->dr[7] = 0x400 | 2 | 1 << 16 | 3 << 18; /* G0, writes, four bytes */
    cpu_update_mode(cpu);
    tlb_flush_all(cpu);
    CODE_AT(CODE, 0x89, 0x04, 0x25, 0x00, 0, 2, 0, /* mov [0x20000], eax */
            0x89, 0x04, 0x25, 0x06, 0, 2, 0,       /* mov [0x20006], eax: overlaps */
            0xff, 0xc0, 0xf4);
    cr_assert_eq(run(), EXC_DB);
    cr_assert_eq(stack64(0), CODE + 14u);
    cr_assert_eq(cpu->dr[6] & 15, 1);
    cr_assert_eq(cpu->regs[R_AX], 0);
}

Test(interp, an_instruction_breakpoint_faults_before_and_rf_passes_it)
{
    long_mode();
    cpu->dr[1] = CODE + 2;
    cpu->dr[7] = 0x400 | 8; /* G1, execution */
    cpu_update_mode(cpu);
    CODE_AT(CODE, 0xff, 0xc0, 0xff, 0xc0, 0xf4);
    cr_assert_eq(run(), EXC_DB);
    cr_assert_eq(cpu->regs[R_AX], 1);
    cr_assert_eq(stack64(0), CODE + 2u);
    cr_assert_eq(cpu->dr[6] & 15, 2);
    /* Go on as IRET with RF would. */
    cpu->rip = CODE + 2;
    cpu->halted = false;
    cpu->regs[R_SP] = 0x80000;
    cpu_set_eflags(cpu, EFLAGS_RF | 2);
    cr_assert_eq(run(), -1);
    cr_assert_eq(cpu->regs[R_AX], 2);
    cr_assert_eq(cpu->eflags & EFLAGS_RF, 0);
}

Test(interp, sixteen_bit_code_beyond_the_segment_limit_faults)
{
    /* Real mode as after reset: code at F000:FFFE runs into the limit with a three-byte instruction. */
    cpu->seg[SEG_CS] = (struct segment){.selector = 0x1000, .base = CODE, .limit = 0xffff, .attr = SEG_P | SEG_S | 0xb};
    cpu->idtr = (struct descriptor_table){.base = 0, .limit = 0x3ff};
    for (unsigned n = 0; n < 32; n++) {
        u16 v[2] = {(u16)(HANDLERS + 16 * n), 0};
        memcpy(ram->host + 4 * n, v, 4);
        ram->host[HANDLERS + 16 * n] = 0xf4;
    }
    cpu->regs[R_SP] = 0x7000;
    cpu->rip = 0xfffe;
    cpu_update_mode(cpu);
    CODE_AT(CODE + 0xfffe, 0xb8, 0x34, 0x12, 0xf4);
    cr_assert_eq(cpu->engine_ops->run(cpu), EXIT_HALT);
    cr_assert_eq(cpu->rip, HANDLERS + 16 * EXC_GP + 1);
}

/* ---- strings of ports ---- */

struct words {
    u16 next;     /* what a read gives */
    u16 stop;     /* the read of this one raises an interrupt; 0: none */
    u16 taken[64]; /* what was written */
    unsigned count; /* how many of them */
};

static u64 word_read(void *opaque, u64 offset, unsigned size)
{
    struct words *w = opaque;
    (void)offset;
    (void)size;
    if (w->stop && w->next == w->stop) cpu_event_set(cpu, EVENT_INTR);
    return w->next++;
}

static void word_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct words *w = opaque;
    (void)offset;
    (void)size;
    if (w->count == ARRAY_LEN(w->taken)) return;
    w->taken[w->count++] = (u16)value;
    if (w->stop && w->count == w->stop) cpu_event_set(cpu, EVENT_INTR);
}

static const struct region_ops word_ops = {.read = word_read, .write = word_write, .min_size = 2, .max_size = 2};

Test(interp, words_come_from_a_port_in_runs)
{
    struct words w = {.next = 1};
    long_mode();
    bus_add(io, "words", 0x100, 2, 0, &word_ops, &w);
    CODE_AT(CODE, 0xf3, 0x66, 0x6d, 0xf4);            /* rep insw; hlt */
    CODE_AT(0x41200, 0x90, 0xf4);                     /* decoded: stores to this page take the slow path */
    cpu->rip = 0x41200;
    cr_assert_eq(run(), -1);
    cpu->rip = CODE;
    cpu->halted = false;
    cpu->regs[R_DX] = 0x100;
    cpu->regs[R_CX] = 0x900;
    cpu->regs[R_DI] = 0x40001; /* from one page over the next into a third */
    cr_assert_eq(run(), -1);
    cr_assert_eq(cpu->regs[R_CX], 0);
    cr_assert_eq(cpu->regs[R_DI], 0x41201);
    for (unsigned n = 0; n < 0x900; n++) {
        u16 v;
        memcpy(&v, ram->host + 0x40001 + 2 * n, 2);
        cr_assert_eq(v, n + 1);
    }
}

Test(interp, an_interrupt_ends_a_run_of_words)
{
    for (unsigned out = 0; out < 2; out++) {
        struct words w = {.next = 1, .stop = 7};
        long_mode();
        struct region *r = bus_add(io, "words", 0x100, 2, 0, &word_ops, &w);
        const u64 at = CODE + 16 * out;
        CODE_AT(at, 0xf3, 0x66, out ? 0x6f : 0x6d, 0xf4); /* rep outsw or insw; hlt */
        cpu->rip = at;
        for (unsigned n = 0; n < 20; n++) memcpy(ram->host + 0x40000 + 2 * n, &(u16){(u16)(100 + n)}, 2);
        cpu->eflags |= EFLAGS_IF;
        cpu->halted = false;
        intr_vector = 9;
        cpu->regs[R_DX] = 0x100;
        cpu->regs[R_CX] = 20;
        cpu->regs[R_DI] = cpu->regs[R_SI] = 0x40000;
        cr_assert_eq(run(), 9);
        cr_assert_eq(stack64(0), at);
        cr_assert_eq(cpu->regs[R_CX], 13);
        cr_assert_eq(cpu->regs[out ? R_SI : R_DI], 0x4000e);
        cr_assert_eq(ram->host[0x4000c], out ? 106 : 7);
        cr_assert_eq(ram->host[0x4000e], 107);
        if (out) cr_assert_eq(w.taken[6], 106);
        region_remove(r);
    }
}

/* Behind a trap, before the first instruction of its handler. */
Test(interp, an_nmi_that_waits_comes_before_the_handler_of_a_single_step)
{
    long_mode();
    CODE_AT(CODE, 0x90, 0xf4); /* nop; hlt */
    cpu->eflags |= EFLAGS_TF;
    cpu_update_mode(cpu);
    cpu_event_set(cpu, EVENT_STEP);
    cpu->pending_debug = DEBUG_STEP;
    cpu_raise_nmi(cpu);
    cr_assert_eq(run(), EXC_NMI);
    cr_expect_eq(stack64(0), HANDLERS + 16 * EXC_DB);
}
