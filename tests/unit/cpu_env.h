/* A vCPU on 4 MiB of RAM, with tables to fill and single instructions to execute without an engine. For tests
 * of what happens inside one instruction or one delivery. */
#ifndef TESTS_UNIT_CPU_ENV_H
#define TESTS_UNIT_CPU_ENV_H

#include <criterion/criterion.h>
#include <string.h>

#include "core/bus.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "cpu/exception.h"
#include "cpu/exec.h"
#include "cpu/msr.h"

#define ENV_RAM    0x400000ull
#define ENV_GDT    0x1000u
#define ENV_LDT    0x1800u
#define ENV_IDT    0x2000u
#define ENV_TSS    0x3000u /* current task */
#define ENV_TSS2   0x3400u /* another one */
#define ENV_TSS16  0x3800u
#define ENV_CODE   0x5000u /* where instructions are put */
#define ENV_STACK3 0x7000u /* tops of stacks */
#define ENV_STACK0 0x8000u
#define ENV_STACK1 0x9000u
#define ENV_STACK2 0xa000u
#define ENV_PAGES  0x10000u

/* Selectors of the GDT that env_gdt() fills. */
enum {
    S_CODE0 = 0x08,
    S_DATA0 = 0x10,
    S_CODE3 = 0x1b,
    S_DATA3 = 0x23,
    S_TSS = 0x28,
    S_LDT = 0x30,
    S_CONF0 = 0x38,
    S_DATA_NP = 0x40,
    S_XONLY = 0x48,
    S_RODATA = 0x50,
    S_CODE16 = 0x58,
    S_GATE = 0x60,
    S_TASKGATE = 0x68,
    S_TSS2 = 0x70,
    S_CODE_NP = 0x78,
    S_DOWN = 0x80,
    S_GATE_PRIV = 0x88,
    S_CODE64 = 0x90,
    S_CODE64U = 0x9b,
    S_TSS16 = 0xa0,
    S_GATE16 = 0xa8,
    S_CODE1 = 0xb0,
    S_DATA1 = 0xb8,
    S_FRESH = 0xc0,
    S_DATA16 = 0xc8,
    S_GATE64 = 0xd0 /* 16 bytes */,
    S_END = 0xe0,
};

static struct ram *ram;
static struct bus *mem, *io;
static struct cpu_model *model;
static struct cpu *cpu;
static u64 env_tsc; /* what the TSC hook returns */
static u64 env_cr8;
static u64 env_apic_base = 0xfee00900;

static void env_lock(void *opaque) { (void)opaque; }
static u64 env_tsc_hook(void *opaque)
{
    (void)opaque;
    return env_tsc;
}
static int env_ack(void *opaque)
{
    (void)opaque;
    return -1;
}
static bool env_apic_read(void *opaque, u32 msr, u64 *v)
{
    (void)opaque;
    *v = msr == 0x1b ? env_apic_base : 0;
    return msr == 0x1b;
}
static bool env_apic_write(void *opaque, u32 msr, u64 v)
{
    (void)opaque;
    if (msr == 0x1b) env_apic_base = v;
    return msr == 0x1b;
}
static u64 env_cr8_read(void *opaque)
{
    (void)opaque;
    return env_cr8;
}
static void env_cr8_write(void *opaque, u64 v)
{
    (void)opaque;
    env_cr8 = v;
}
static u32 env_apic_id(void *opaque)
{
    (void)opaque;
    return 5;
}
static void env_invalidate(struct cpu *c, u64 offset, u64 size)
{
    (void)c;
    (void)offset;
    (void)size;
}

static const struct cpu_hooks env_hooks = {.lock = env_lock,
                                           .unlock = env_lock,
                                           .tsc = env_tsc_hook,
                                           .ack_interrupt = env_ack,
                                           .apic_msr_read = env_apic_read,
                                           .apic_msr_write = env_apic_write,
                                           .cr8_read = env_cr8_read,
                                           .cr8_write = env_cr8_write,
                                           .apic_id = env_apic_id};
static int env_no_create(struct cpu *c)
{
    (void)c;
    return 0;
}
static void env_no_destroy(struct cpu *c) { (void)c; }
static const struct engine_ops env_engine = {
    .name = "none", .create = env_no_create, .destroy = env_no_destroy, .invalidate = env_invalidate};

static inline void poke8(gpa a, u8 v) { ram->host[a] = v; }
static inline void poke16(gpa a, u16 v) { memcpy(ram->host + a, &v, 2); }
static inline void poke32(gpa a, u32 v) { memcpy(ram->host + a, &v, 4); }
static inline void poke64(gpa a, u64 v) { memcpy(ram->host + a, &v, 8); }
static inline u8 peek8(gpa a) { return ram->host[a]; }
static inline u16 peek16(gpa a)
{
    u16 v;
    memcpy(&v, ram->host + a, 2);
    return v;
}
static inline u32 peek32(gpa a)
{
    u32 v;
    memcpy(&v, ram->host + a, 4);
    return v;
}
static inline u64 peek64(gpa a)
{
    u64 v;
    memcpy(&v, ram->host + a, 8);
    return v;
}

static void env_create(const char *model_spec)
{
    ram = ram_create(ENV_RAM);
    u64 at = ram_alloc(ram, ENV_RAM);
    mem = bus_create("memory", 1ull << 52);
    io = bus_create("ports", 0x10000);
    bus_add_ram(mem, "ram", 0, ENV_RAM, 0, ram, at, false);
    cr_assert_eq(cpu_model_parse(model_spec, &model), 0);
    cpu = cpu_create(0, mem, io, ram, &env_hooks, model, &env_engine);
    cpu->exc.vector = -1;
}
static inline void env_init(void) { env_create("max"); }
static inline void env_fini(void)
{
    cpu_destroy(cpu);
    cpu_model_destroy(model);
    bus_destroy(mem);
    bus_destroy(io);
    ram_destroy(ram);
}

/* A segment descriptor: access is bits 40-47, flags bits 52-55 (8: G, 4: D, 2: L). limit in its 20-bit form.
 */
static inline u64 make_descriptor(u32 base, u32 limit, u8 access, u8 flags)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
           (u64)(limit >> 16 & 15) << 48 | (u64)flags << 52 | (u64)(base >> 24) << 56;
}
static inline u64 make_gate(u16 selector, u32 offset, u8 access, u8 count)
{
    return (offset & 0xffff) | (u64)selector << 16 | (u64)count << 32 | (u64)access << 40 |
           (u64)(offset >> 16) << 48;
}
static inline void gdt_set(u16 selector, u64 raw) { poke64(ENV_GDT + (selector & ~7u), raw); }
static inline void idt_set(unsigned vector, u64 raw) { poke64(ENV_IDT + vector * 8, raw); }

static void env_gdt(void)
{
    gdt_set(S_CODE0, make_descriptor(0, 0xfffff, 0x9b, 0xc));
    gdt_set(S_DATA0, make_descriptor(0, 0xfffff, 0x93, 0xc));
    gdt_set(S_CODE3, make_descriptor(0, 0xfffff, 0xfb, 0xc));
    gdt_set(S_DATA3, make_descriptor(0, 0xfffff, 0xf3, 0xc));
    gdt_set(S_TSS, make_descriptor(ENV_TSS, 0x67, 0x8b, 0));
    gdt_set(S_LDT, make_descriptor(ENV_LDT, 0xff, 0x82, 0));
    gdt_set(S_CONF0, make_descriptor(0, 0xfffff, 0x9f, 0xc));
    gdt_set(S_DATA_NP, make_descriptor(0, 0xfffff, 0x13, 0xc));
    gdt_set(S_XONLY, make_descriptor(0, 0xfffff, 0x99, 0xc));
    gdt_set(S_RODATA, make_descriptor(0, 0xfffff, 0x91, 0xc));
    gdt_set(S_CODE16, make_descriptor(0, 0xffff, 0x9b, 0));
    gdt_set(S_GATE, make_gate(S_CODE0, 0x5800, 0xec, 2));
    gdt_set(S_TASKGATE, make_gate(S_TSS2, 0, 0xe5, 0));
    gdt_set(S_TSS2, make_descriptor(ENV_TSS2, 0x67, 0x89, 0));
    gdt_set(S_CODE_NP, make_descriptor(0, 0xfffff, 0x1b, 0xc));
    gdt_set(S_DOWN, make_descriptor(0, 0xf, 0x97, 0xc));
    gdt_set(S_GATE_PRIV, make_gate(S_CODE0, 0x5800, 0x8c, 0));
    gdt_set(S_CODE64, make_descriptor(0, 0xfffff, 0x9b, 0xa));
    gdt_set(S_CODE64U, make_descriptor(0, 0xfffff, 0xfb, 0xa));
    gdt_set(S_TSS16, make_descriptor(ENV_TSS16, 0x2b, 0x81, 0));
    gdt_set(S_GATE16, make_gate(S_CODE16, 0x5900, 0xe4, 1));
    gdt_set(S_CODE1, make_descriptor(0, 0xfffff, 0xbb, 0xc));
    gdt_set(S_DATA1, make_descriptor(0, 0xfffff, 0xb3, 0xc));
    gdt_set(S_FRESH, make_descriptor(0x12345678, 0x4321, 0x92, 0x4));
    gdt_set(S_DATA16, make_descriptor(0, 0xffff, 0x93, 0));
    gdt_set(S_GATE64, make_gate(S_CODE64, 0x5a00, 0xec, 0));
    poke64(ENV_GDT + S_GATE64 + 8, 0);
    cpu->gdtr = (struct descriptor_table){.base = ENV_GDT, .limit = S_END - 1};
    cpu->idtr = (struct descriptor_table){.base = ENV_IDT, .limit = 0x7ff};
    /* Inner stacks of the current TSS, and no I/O bitmap. */
    poke32(ENV_TSS + 4, ENV_STACK0);
    poke16(ENV_TSS + 8, S_DATA0);
    poke32(ENV_TSS + 12, ENV_STACK1);
    poke16(ENV_TSS + 16, S_DATA1 | 1);
    poke16(ENV_TSS + 0x66, 0x68);
}

static inline void set_seg(unsigned seg, u16 selector, u16 attr)
{
    cpu->seg[seg] = (struct segment){.selector = selector, .attr = attr, .limit = 0xffffffff};
}

/* 32-bit protected mode without paging, flat, at CPL 0 or 3. */
static inline void env_protected(unsigned cpl)
{
    env_gdt();
    u16 dpl = (u16)(cpl << 5);
    cpu->cr0 = CR0_PE | CR0_ET | CR0_NE;
    cpu->cpl = (u8)cpl;
    set_seg(SEG_CS, cpl ? S_CODE3 : S_CODE0, SEG_P | SEG_S | SEG_DB | SEG_G | 0xb | dpl);
    for (unsigned n = 0; n < SEG_COUNT; n++)
        if (n != SEG_CS) set_seg(n, cpl ? S_DATA3 : S_DATA0, SEG_P | SEG_S | SEG_DB | SEG_G | 3 | dpl);
    cpu->tr = (struct segment){.selector = S_TSS, .base = ENV_TSS, .limit = 0x67, .attr = SEG_P | 0xb};
    cpu->ldtr = (struct segment){0};
    cpu->regs[R_SP] = cpl ? ENV_STACK3 : ENV_STACK0 - 0x100;
    cpu->rip = ENV_CODE;
    cpu_update_mode(cpu);
}

/* 64-bit mode with the low 4 MiB mapped by 2 MiB user pages; the TSS is in 64-bit format. */
static inline void env_long(unsigned cpl)
{
    env_protected(cpl);
    gdt_set(S_DATA3, make_descriptor(0, 0xfffff, 0xf3, 0xc));
    poke64(ENV_PAGES, ENV_PAGES + 0x1000 + 7);
    poke64(ENV_PAGES + 0x1000, ENV_PAGES + 0x2000 + 7);
    poke64(ENV_PAGES + 0x2000, 0x87);
    poke64(ENV_PAGES + 0x2008, 0x200087);
    cpu->cr4 = CR4_PAE;
    cpu->cr3 = ENV_PAGES;
    cpu->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    cpu->cr0 |= CR0_PG | CR0_WP;
    set_seg(SEG_CS, cpl ? S_CODE64U : S_CODE64, (u16)(SEG_P | SEG_S | SEG_L | SEG_G | 0xb | cpl << 5));
    memset(ram->host + ENV_TSS, 0, 0x68);
    poke64(ENV_TSS + 4, ENV_STACK0 + 8); /* misaligned on purpose */
    poke64(ENV_TSS + 12, ENV_STACK1);
    poke64(ENV_TSS + 0x24, ENV_STACK2); /* IST1 */
    cpu_update_mode(cpu);
}

/* Execute one instruction at cpu->rip: the vector of the exception it records, or -1. rip moves on as an
 * engine would have it. */
static inline int exec_bytes(const u8 *bytes, size_t n)
{
    struct insn insn;
    memset(&insn, 0, sizeof insn);
    cpu->exc.vector = -1;
    cr_assert_eq(decode(&insn, bytes, n, cpu->code_size), (int)n, "the bytes are not one instruction");
    exec_fn *fn = exec_select_sys(&insn);
    cr_assert_not_null(fn, "not a system instruction");
    u64 start = cpu->rip;
    cpu->block_rip = cpu->regs[REG_RIP] = start;
    if (insn.base == REG_RIP) insn.disp += (s64)n;
    if (fn(cpu, &insn))
        cpu->rip = start + n;
    else if (cpu->exc.vector >= 0)
        cpu->rip = start;
    return cpu->exc.vector;
}
#define EXEC(...) exec_bytes((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* The instruction faults with this vector and error code. */
#define FAULTS(vec, err, ...)                                                                                \
    do {                                                                                                     \
        cr_expect_eq(EXEC(__VA_ARGS__), vec, "vector %d", cpu->exc.vector);                                  \
        cr_expect_eq(cpu->exc.error_code, (u32)(err), "error code %x", cpu->exc.error_code);                 \
    } while (0)
#define RUNS(...)                                                                                            \
    cr_expect_eq(EXEC(__VA_ARGS__), -1, "exception %d(%x)", cpu->exc.vector, cpu->exc.error_code)

#endif
