/* Shared by the fpu_*.c tests: a vCPU on a few pages of RAM, without an engine around it. */
#ifndef TESTS_FPU_SUPPORT_H
#define TESTS_FPU_SUPPORT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bus.h"
#include "cpu/cpuid.h"
#include "cpu/exec.h"

struct fixture {
    struct ram *ram;
    struct bus *mem, *io;
    struct cpu_model *model;
    struct cpu *cpu;
    int ferr;        /* level of the FERR# line */
    int ferr_calls;  /* changes of it */
    u8 *host;        /* the RAM, guest address 0 */
};

#define FIXTURE_RAM (1u << 20)
#define INSN_RIP    0x40000u

static void fixture_ferr(void *opaque, int level)
{
    struct fixture *f = opaque;
    f->ferr = level;
    f->ferr_calls++;
}

static inline void fixture_mode(struct cpu *cpu, enum code_size size, bool protected_mode)
{
    for (unsigned n = 0; n < SEG_COUNT; n++)
        cpu->seg[n] = (struct segment){.selector = (u16)(0x10 + 8 * n), .attr = SEG_P | SEG_S | SEG_DB | SEG_G | 3, .limit = ~0u};
    cpu->seg[SEG_CS].attr = SEG_P | SEG_S | SEG_G | 0xb;
    cpu->seg[SEG_CS].attr |= size == CODE_64 ? SEG_L : size == CODE_32 ? SEG_DB : 0;
    cpu->cr0 = CR0_ET | CR0_NE | (protected_mode ? CR0_PE : 0);
    cpu->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->efer = size == CODE_64 ? EFER_LMA | EFER_LME : 0;
    cpu->xcr0 = 7;
    cpu->cpl = 0;
    cpu->eflags = 2;
    cpu->exc.vector = -1;
    cpu_update_mode(cpu);
}

static inline void fixture_open(struct fixture *f, enum code_size size)
{
    static struct cpu_hooks hooks;
    memset(f, 0, sizeof *f);
    f->ram = ram_create(FIXTURE_RAM);
    u64 at = ram_alloc(f->ram, FIXTURE_RAM);
    f->host = f->ram->host + at;
    f->mem = bus_create("memory", 1ull << 52);
    f->io = bus_create("io", 0x10000);
    bus_add_ram(f->mem, "ram", 0, FIXTURE_RAM, 0, f->ram, at, false);
    cpu_model_parse("max", &f->model);
    hooks = (struct cpu_hooks){.opaque = f, .ferr = fixture_ferr};
    f->cpu = cpu_create(0, f->mem, f->io, f->ram, &hooks, f->model, NULL);
    fixture_mode(f->cpu, size, true);
}

static inline void fixture_close(struct fixture *f)
{
    cpu_destroy(f->cpu);
    cpu_model_destroy(f->model);
    bus_destroy(f->mem);
    bus_destroy(f->io);
    ram_destroy(f->ram);
}

/* Decode and run one instruction at INSN_RIP. False: an exception is recorded, or the block was left. */
static inline bool run_code(struct cpu *cpu, const u8 *code, size_t n)
{
    struct insn i;
    int len = decode(&i, code, n, cpu->code_size);
    if (len <= 0) {
        fprintf(stderr, "does not decode:");
        for (size_t k = 0; k < n; k++) fprintf(stderr, " %02x", code[k]);
        fprintf(stderr, "\n");
        abort();
    }
    i.off = 0;
    cpu->exc.vector = -1;
    cpu->block_rip = INSN_RIP;
    cpu->regs[REG_RIP] = cpu->block_rip;
    exec_fn *fn = exec_select_fpu(&i);
    if (!fn) abort();
    return fn(cpu, &i);
}

#define RUN(cpu, ...) run_code(cpu, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

#endif
