/* build/tests/test_task: task switches by JMP, CALL, IRET and task gates, their faults in the old and the new
 * task, and the I/O permission bitmap. */
#include "unit/cpu_env.h"

#include "core/bus.h"
#include "cpu/cpu.h"

TestSuite(task, .init = env_init, .fini = env_fini);

#define JMPF(sel)  0xea, 0x00, 0x60, 0x00, 0x00, (sel)&0xff, (sel) >> 8
#define CALLF(sel) 0x9a, 0x00, 0x60, 0x00, 0x00, (sel)&0xff, (sel) >> 8
#define TARGET2    0x6600u

/* TSS2: a complete 32-bit task. */
static void tss2(void)
{
    static const u16 segs[6] = {S_DATA0, S_CODE0, S_DATA0, S_FRESH, 0, 0};
    memset(ram->host + ENV_TSS2, 0, 0x68);
    poke32(ENV_TSS2 + 0x20, TARGET2);
    poke32(ENV_TSS2 + 0x24, 2 | EFLAGS_ARITH);
    for (unsigned n = 0; n < 8; n++)
        poke32(ENV_TSS2 + 0x28 + 4 * n, 0x100 + n);
    poke32(ENV_TSS2 + 0x38, 0x7800); /* ESP */
    for (unsigned n = 0; n < 6; n++)
        poke16(ENV_TSS2 + 0x48 + 4 * n, segs[n]);
    poke16(ENV_TSS2 + 0x60, S_LDT);
    poke16(ENV_TSS2 + 0x66, 0x68);
}

static void start(unsigned cpl)
{
    env_protected(cpl);
    tss2();
    for (unsigned n = 0; n < 8; n++)
        if (n != R_SP) cpu->regs[n] = 0xabcd0000 + n;
}

/* Vectors 10-14 arrive here, 16 bytes apart. */
static void handlers(void)
{
    for (unsigned n = 8; n < 15; n++)
        idt_set(n, make_gate(S_CODE0, 0xb000 + 16 * n, 0x8e, 0));
    idt_set(1, make_gate(S_CODE0, 0xb000 + 16, 0x8e, 0));
}

Test(task, jump)
{
    start(0);
    cpu->eflags |= EFLAGS_IF;
    cpu->dr[7] = 0x4ff;
    u64 sp = cpu->regs[R_SP];
    RUNS(JMPF(S_TSS2));
    cr_expect_eq(cpu->rip, TARGET2);
    cr_expect_eq(cpu->tr.selector, S_TSS2);
    cr_expect_eq(cpu->tr.base, ENV_TSS2);
    cr_expect_eq(cpu->regs[R_SP], 0x7800);
    cr_expect_eq(cpu->regs[R_DI], 0x107);
    cr_expect_eq(cpu_get_eflags(cpu), 2 | EFLAGS_ARITH);
    cr_expect_eq(cpu->seg[SEG_DS].base, 0x12345678);
    cr_expect_eq(cpu->ldtr.base, ENV_LDT);
    cr_expect(cpu->cr0 & CR0_TS);
    cr_expect_eq(cpu->dr[7] & 0xff, 0xaa, "local breakpoints end with the task");
    cr_expect_eq(peek8(ENV_GDT + S_TSS2 + 5), 0x8b);
    cr_expect_eq(peek8(ENV_GDT + S_TSS + 5), 0x89, "the old task is free");
    cr_expect_eq(peek32(ENV_TSS + 0x20), ENV_CODE + 7);
    cr_expect_eq(peek32(ENV_TSS + 0x24), 2 | EFLAGS_IF);
    cr_expect_eq(peek32(ENV_TSS + 0x28), 0xabcd0000);
    cr_expect_eq(peek32(ENV_TSS + 0x38), sp);
    cr_expect_eq(peek16(ENV_TSS + 0x4c), S_CODE0);
    cr_expect_eq(peek16(ENV_TSS2), 0, "no back link");
}

Test(task, call_and_iret)
{
    start(0);
    RUNS(CALLF(S_TSS2));
    cr_expect(cpu->eflags & EFLAGS_NT);
    cr_expect_eq(peek16(ENV_TSS2), S_TSS);
    cr_expect_eq(peek8(ENV_GDT + S_TSS + 5), 0x8b, "the caller stays busy");
    cpu->regs[R_BX] = 0x55;
    RUNS(0xcf);
    cr_expect_eq(cpu->tr.selector, S_TSS);
    cr_expect_eq(cpu->rip, ENV_CODE + 7);
    cr_expect_eq(cpu->regs[R_BX], 0xabcd0000 + R_BX);
    cr_expect_eq(peek8(ENV_GDT + S_TSS2 + 5), 0x89);
    cr_expect_eq(peek8(ENV_GDT + S_TSS + 5), 0x8b);
    cr_expect_eq(peek32(ENV_TSS2 + 0x24) & EFLAGS_NT, 0);
    cr_expect_eq(peek32(ENV_TSS2 + 0x34), 0x55);
    cr_expect_eq(peek32(ENV_TSS2 + 0x20), TARGET2 + 1, "it goes on after its IRET");
}

Test(task, faults_in_the_old_task)
{
    start(0);
    FAULTS(EXC_GP, S_TSS, JMPF(S_TSS));       /* busy */
    FAULTS(EXC_GP, S_TSS2, JMPF(S_TSS2 | 3)); /* RPL above DPL */
    gdt_set(S_TSS2, make_descriptor(ENV_TSS2, 0x67, 0x09, 0));
    FAULTS(EXC_NP, S_TSS2, JMPF(S_TSS2));
    gdt_set(S_TSS2, make_descriptor(ENV_TSS2, 0x66, 0x89, 0));
    FAULTS(EXC_TS, S_TSS2, JMPF(S_TSS2));
    gdt_set(S_TASKGATE, make_gate(S_TSS2 | 4, 0, 0xe5, 0));
    FAULTS(EXC_GP, S_TSS2 | 4, CALLF(S_TASKGATE));
    gdt_set(S_TASKGATE, make_gate(S_TSS2, 0, 0x65, 0));
    FAULTS(EXC_NP, S_TASKGATE, CALLF(S_TASKGATE));
    cpu->eflags |= EFLAGS_NT;
    poke16(ENV_TSS, S_TSS2); /* not busy */
    gdt_set(S_TSS2, make_descriptor(ENV_TSS2, 0x67, 0x89, 0));
    FAULTS(EXC_TS, S_TSS2, 0xcf);
    poke16(ENV_TSS, 0);
    FAULTS(EXC_TS, 0, 0xcf);
    cr_expect_eq(cpu->tr.selector, S_TSS);
    cr_expect_not(cpu->cr0 & CR0_TS);
}

Test(task, gate_from_level_3)
{
    start(3);
    FAULTS(EXC_GP, S_TSS2, CALLF(S_TSS2)); /* DPL 0 */
    RUNS(CALLF(S_TASKGATE));
    cr_expect_eq(cpu->cpl, 0);
    cr_expect_eq(cpu->rip, TARGET2);
    RUNS(0xcf);
    cr_expect_eq(cpu->cpl, 3);
}

/* A fault of the new task is delivered there, with the new instruction pointer. */
static void expect_new_fault(unsigned vector, u32 error)
{
    cr_expect_eq(cpu->tr.selector, S_TSS2);
    cr_expect_eq(cpu->rip, 0xb000 + 16 * vector, "handler at %llx", (unsigned long long)cpu->rip);
    cr_expect_eq(peek32(cpu->regs[R_SP]), error, "error %x", peek32(cpu->regs[R_SP]));
    cr_expect_eq(peek32(cpu->regs[R_SP] + 4), TARGET2);
}

Test(task, faults_in_the_new_task)
{
    static const struct {
        u32 offset;
        u16 sel;
        unsigned vector;
        u32 error;
    } t[] = {
        {0x54, S_XONLY, EXC_TS, S_XONLY},
        {0x54, S_DATA_NP, EXC_NP, S_DATA_NP},
        {0x54, S_END, EXC_TS, S_END},
    };
    for (size_t n = 0; n < ARRAY_LEN(t); n++) {
        start(0);
        handlers();
        poke16(ENV_TSS2 + t[n].offset, t[n].sel);
        RUNS(JMPF(S_TSS2));
        expect_new_fault(t[n].vector, t[n].error);
    }
}

Test(task, instruction_pointer_beyond_the_limit)
{
    start(0);
    handlers();
    poke16(ENV_TSS2 + 0x4c, S_CODE16);
    poke32(ENV_TSS2 + 0x20, 0x12345);
    RUNS(JMPF(S_TSS2));
    cr_expect_eq(cpu->rip, 0xb000 + 16 * EXC_GP);
    cr_expect_eq(peek32(cpu->regs[R_SP] + 4), 0x12345);
}

Test(task, exception_through_a_task_gate_pushes_the_error_code_there)
{
    start(0);
    idt_set(EXC_GP, make_gate(S_TSS2, 0, 0x85, 0));
    raise_err(cpu, EXC_GP, 0x4444);
    cr_expect(deliver_exception(cpu));
    cr_expect_eq(cpu->rip, TARGET2);
    cr_expect_eq(cpu->regs[R_SP], 0x7800 - 4);
    cr_expect_eq(peek32(0x7800 - 4), 0x4444);
    cr_expect(cpu->eflags & EFLAGS_NT);
    cr_expect_eq(peek32(ENV_TSS + 0x20), ENV_CODE);
    cr_expect(peek32(ENV_TSS + 0x24) & EFLAGS_RF, "a fault's image has RF");
}

Test(task, busy_task_gate_in_the_idt)
{
    start(0);
    handlers();
    idt_set(0x30, make_gate(S_TSS, 0, 0x85, 0));
    FAULTS(EXC_GP, S_TSS, 0xcd, 0x30);
    cr_expect_not(interrupt(cpu, 0x30, INT_EXTERNAL, false, 0, ENV_CODE));
    cr_expect_eq(cpu->exc.error_code, S_TSS | 1);
}

Test(task, debug_trap_on_switch)
{
    start(0);
    handlers();
    poke16(ENV_TSS2 + 0x64, 1);
    RUNS(JMPF(S_TSS2));
    cr_expect_eq(cpu->rip, 0xb000 + 16);
    cr_expect_eq(cpu->dr[6] & 0xf00f, 0x8000);
    cr_expect_eq(peek32(cpu->regs[R_SP]), TARGET2);
}

Test(task, sixteen_bit)
{
    static const u16 segs[4] = {S_DATA0, S_CODE0, S_DATA0, S_DATA0};
    start(0);
    memset(ram->host + ENV_TSS16, 0, 0x2c);
    poke16(ENV_TSS16 + 0xe, 0x6600);
    poke16(ENV_TSS16 + 0x10, 0x202);
    poke16(ENV_TSS16 + 0x12, 0x1111);
    poke16(ENV_TSS16 + 0x1a, 0x7800);
    for (unsigned n = 0; n < 4; n++)
        poke16(ENV_TSS16 + 0x22 + 2 * n, segs[n]);
    RUNS(CALLF(S_TSS16));
    cr_expect_eq(cpu->rip, 0x6600);
    cr_expect_eq(cpu->regs[R_AX] & 0xffff, 0x1111);
    cr_expect_eq(cpu->eflags, 0x202 | EFLAGS_NT);
    cr_expect_eq(cpu->seg[SEG_FS].selector, 0);
    cr_expect_eq(peek16(ENV_TSS16), S_TSS);
    RUNS(0xcf);
    cr_expect_eq(cpu->tr.selector, S_TSS);
    cr_expect_eq(peek16(ENV_TSS16 + 0xe), 0x6601);
}

Test(task, to_virtual_8086_mode)
{
    start(0);
    poke32(ENV_TSS2 + 0x24, 2 | EFLAGS_VM);
    for (unsigned n = 0; n < 6; n++)
        poke16(ENV_TSS2 + 0x48 + 4 * n, (u16)(0x100 * n));
    RUNS(JMPF(S_TSS2));
    cr_expect_eq(cpu->cpl, 3);
    cr_expect_eq(cpu->seg[SEG_CS].base, 0x1000);
    cr_expect_eq(cpu->seg[SEG_GS].base, 0x5000);
    cr_expect_eq(cpu->rip, TARGET2);
}

Test(task, no_task_switches_in_long_mode)
{
    env_long(0);
    cpu->regs[R_BX] = 0x6800;
    poke32(0x6800, 0);
    poke16(0x6804, S_TSS2);
    FAULTS(EXC_GP, S_TSS2, 0xff, 0x2b);
    poke16(0x6804, S_TASKGATE);
    FAULTS(EXC_GP, S_TASKGATE, 0xff, 0x1b);
}

Test(task, io_bitmap)
{
    env_protected(3);
    cpu->tr.limit = 0x68 + 4; /* bitmap for ports 0-31 and the byte of ones */
    poke8(ENV_TSS + 0x68, 0x10);
    poke8(ENV_TSS + 0x6c, 0xff);
    cr_expect(io_permitted(cpu, 3, 1));
    cr_expect_not(io_permitted(cpu, 4, 1));
    cr_expect_not(io_permitted(cpu, 3, 2));
    cr_expect_not(io_permitted(cpu, 1, 4));
    cr_expect(io_permitted(cpu, 5, 4));
    cr_expect(io_permitted(cpu, 7, 2));
    cr_expect(io_permitted(cpu, 31, 1));
    cr_expect_not(io_permitted(cpu, 31, 2), "crosses into the ones");
    cr_expect_not(io_permitted(cpu, 32, 1), "the last byte has no second one");
    cpu->eflags |= EFLAGS_IOPL;
    cr_expect(io_permitted(cpu, 4, 1));
    cpu->eflags |= EFLAGS_VM;
    cr_expect_not(io_permitted(cpu, 4, 1), "IOPL means nothing to virtual-8086 mode here");
    cpu->eflags = 2;
    cpu->tr.attr = SEG_P | 3; /* a 16-bit TSS has no bitmap */
    cr_expect_not(io_permitted(cpu, 3, 1));
    cr_expect_eq(cpu->exc.vector, EXC_GP);
    cpu->exc.vector = -1;
}
