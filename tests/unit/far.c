/* build/tests/test_far: far JMP, CALL, RET and IRET, SYSCALL and its kin. */
#include "unit/cpu_env.h"

#include "core/bus.h"
#include "cpu/cpu.h"

TestSuite(far, .init = env_init, .fini = env_fini);

#define JMPF(sel)  0xea, 0x00, 0x60, 0x00, 0x00, (sel)&0xff, (sel) >> 8
#define CALLF(sel) 0x9a, 0x00, 0x60, 0x00, 0x00, (sel)&0xff, (sel) >> 8
#define TARGET     0x6000u

Test(far, real_mode)
{
    cpu->regs[R_SP] = 0x100;
    cpu->seg[SEG_CS] = (struct segment){.selector = 0x500, .base = 0x5000, .limit = 0xffff, .attr = 0x9b};
    cpu->rip = 0;
    cpu_update_mode(cpu);
    RUNS(0x9a, 0x34, 0x12, 0x00, 0x20); /* call 2000:1234 */
    cr_expect_eq(cpu->rip, 0x1234);
    cr_expect_eq(cpu->seg[SEG_CS].base, 0x20000);
    cr_expect_eq(peek16(0xfc), 5);
    cr_expect_eq(peek16(0xfe), 0x500);
    RUNS(0xca, 0x06, 0x00); /* retf 6 */
    cr_expect_eq(cpu->rip, 5);
    cr_expect_eq(cpu->regs[R_SP], 0x106);
    FAULTS(EXC_GP, 0, 0x66, 0xea, 0, 0, 1, 0, 0, 0); /* beyond 64 KiB */
}

Test(far, direct_jump_rules)
{
    env_protected(0);
    RUNS(JMPF(S_CODE0));
    cr_expect_eq(cpu->rip, TARGET);
    FAULTS(EXC_GP, 0, JMPF(0));
    FAULTS(EXC_GP, S_END, JMPF(S_END));
    FAULTS(EXC_GP, S_DATA0, JMPF(S_DATA0));
    FAULTS(EXC_GP, S_CODE3 & ~3, JMPF(S_CODE3));
    FAULTS(EXC_GP, S_CODE0, JMPF(S_CODE0 | 1));
    FAULTS(EXC_NP, S_CODE_NP, JMPF(S_CODE_NP));
    FAULTS(EXC_GP, S_LDT, JMPF(S_LDT));
    FAULTS(EXC_GP, 0, 0xea, 0, 0, 1, 0, S_CODE16, 0); /* beyond the limit */
    RUNS(JMPF(S_CODE16));
    cr_expect_eq(cpu->code_size, CODE_16);
    env_protected(3);
    RUNS(JMPF(S_CONF0)); /* CPL stays */
    cr_expect_eq(cpu->cpl, 3);
    cr_expect_eq(cpu->seg[SEG_CS].selector, S_CONF0 | 3);
}

Test(far, call_and_return_same_level)
{
    env_protected(0);
    u32 sp = (u32)cpu->regs[R_SP];
    RUNS(CALLF(S_CODE0));
    cr_expect_eq(peek32(sp - 8), ENV_CODE + 7);
    cr_expect_eq(peek32(sp - 4), S_CODE0);
    RUNS(0xcb);
    cr_expect_eq(cpu->rip, ENV_CODE + 7);
    cr_expect_eq(cpu->regs[R_SP], sp);
    poke32(sp - 4, 0);
    cpu->regs[R_SP] = sp - 8;
    FAULTS(EXC_GP, 0, 0xcb);
    poke32(sp - 4, S_DATA0);
    FAULTS(EXC_GP, S_DATA0, 0xcb);
    cr_expect_eq(cpu->regs[R_SP], sp - 8);
}

Test(far, call_gate_to_inner_level_copies_parameters)
{
    env_protected(3);
    poke32(ENV_STACK3, 0x11111111);
    poke32(ENV_STACK3 + 4, 0x22222222);
    RUNS(CALLF(S_GATE));
    cr_expect_eq(cpu->cpl, 0);
    cr_expect_eq(cpu->rip, 0x5800);
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK0 - 24);
    cr_expect_eq(peek32(ENV_STACK0 - 4), S_DATA3);
    cr_expect_eq(peek32(ENV_STACK0 - 8), ENV_STACK3);
    cr_expect_eq(peek32(ENV_STACK0 - 12), 0x22222222);
    cr_expect_eq(peek32(ENV_STACK0 - 16), 0x11111111);
    cr_expect_eq(peek32(ENV_STACK0 - 20), S_CODE3);
    cr_expect_eq(peek32(ENV_STACK0 - 24), ENV_CODE + 7);

    /* RETF 8: both stacks release their parameters, and privileged data segments are nulled. */
    set_seg(SEG_ES, S_DATA0, SEG_P | SEG_S | SEG_DB | SEG_G | 3);
    RUNS(0xca, 0x08, 0x00);
    cr_expect_eq(cpu->cpl, 3);
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK3 + 8);
    cr_expect_eq(cpu->seg[SEG_ES].selector, 0);
    cr_expect_eq(cpu->seg[SEG_DS].selector, S_DATA3);
}

Test(far, call_gate_16_bit)
{
    env_protected(3);
    gdt_set(S_CODE16, make_descriptor(0, 0xffff, 0x9b, 0));
    gdt_set(S_GATE16, make_gate(S_CODE16, 0x5900, 0xe4, 1));
    poke16(ENV_STACK3, 0x4444);
    RUNS(CALLF(S_GATE16));
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK0 - 10);
    cr_expect_eq(peek16(ENV_STACK0 - 6), 0x4444);
    cr_expect_eq(cpu->rip, 0x5900);
}

Test(far, call_gate_faults)
{
    env_protected(3);
    FAULTS(EXC_GP, S_GATE_PRIV, CALLF(S_GATE_PRIV));
    FAULTS(EXC_GP, S_CODE0, JMPF(S_GATE)); /* a jump cannot gain privilege */
    gdt_set(S_GATE, make_gate(S_CODE0, 0x5800, 0x6c, 0));
    FAULTS(EXC_NP, S_GATE, CALLF(S_GATE));
    gdt_set(S_GATE, make_gate(0, 0x5800, 0xec, 0));
    FAULTS(EXC_GP, 0, CALLF(S_GATE));
    gdt_set(S_GATE, make_gate(S_CODE_NP, 0x5800, 0xec, 0));
    FAULTS(EXC_NP, S_CODE_NP, CALLF(S_GATE));
    gdt_set(S_GATE, make_gate(S_CODE0, 0x5800, 0xec, 0));
    poke16(ENV_TSS + 8, S_DATA1);
    FAULTS(EXC_TS, S_DATA1, CALLF(S_GATE));
}

Test(far, call_gate_in_long_mode)
{
    env_long(3);
    cpu->regs[R_BX] = 0x6800;
    poke32(0x6800, 0);
    poke16(0x6804, S_GATE64);
    RUNS(0xff, 0x1b); /* call far [rbx] */
    cr_expect_eq(cpu->rip, 0x5a00);
    cr_expect_eq(cpu->cpl, 0);
    cr_expect_eq(cpu->seg[SEG_SS].selector, 0);
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK0 + 8 - 32);
    cr_expect_eq(peek64(ENV_STACK0 + 8 - 8), S_DATA3);
    cr_expect_eq(peek64(ENV_STACK0 + 8 - 32), ENV_CODE + 2);
    RUNS(0x48, 0xcb); /* retfq */
    cr_expect_eq(cpu->cpl, 3);
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK3);
    poke64(ENV_GDT + S_GATE64 + 8, 0x0000010000000000ull); /* a type in the upper half */
    FAULTS(EXC_GP, S_GATE64, 0xff, 0x1b);
    poke64(ENV_GDT + S_GATE64 + 8, 0);
    gdt_set(S_GATE64, make_gate(S_CODE0, 0x5a00, 0xec, 0)); /* must be 64-bit code */
    FAULTS(EXC_GP, S_CODE0, 0xff, 0x1b);
}

Test(far, jump_from_64_bit_to_compatibility_mode)
{
    env_long(0);
    cpu->regs[R_BX] = 0x6800;
    poke32(0x6800, TARGET);
    poke16(0x6804, S_CODE0);
    RUNS(0xff, 0x2b); /* jmp far [rbx] */
    cr_expect_eq(cpu->code_size, CODE_32);
    RUNS(JMPF(S_CODE64));
    cr_expect_eq(cpu->code_size, CODE_64);
    gdt_set(S_CODE64, make_descriptor(0, 0xfffff, 0x9b, 0xe)); /* L and D */
    poke16(0x6804, S_CODE64);
    FAULTS(EXC_GP, S_CODE64, 0xff, 0x2b);
}

static void iret_frame(u64 at, u64 rip, u64 cs, u64 flags, u64 rsp, u64 ss)
{
    const u64 v[5] = {rip, cs, flags, rsp, ss};
    for (unsigned n = 0; n < 5; n++)
        poke64(at + 8 * n, v[n]);
    cpu->regs[R_SP] = at;
}

Test(far, iretq_and_null_ss)
{
    env_long(0);
    iret_frame(0x7000, TARGET, S_CODE64, 2, 0x7777, 0);
    RUNS(0x48, 0xcf);
    cr_expect_eq(cpu->regs[R_SP], 0x7777);
    iret_frame(0x7000, TARGET, S_CODE64U, 2, 0x7777, 3); /* null SS for level 3 */
    FAULTS(EXC_GP, 0, 0x48, 0xcf);
    iret_frame(0x7000, TARGET, S_CODE0, 2, 0x7777, 0); /* null SS for 32-bit code */
    FAULTS(EXC_GP, 0, 0x48, 0xcf);
    iret_frame(0x7000, 0x800000000000ull, S_CODE64, 2, 0x7777, 0);
    FAULTS(EXC_GP, 0, 0x48, 0xcf);
    cpu->eflags |= EFLAGS_NT;
    iret_frame(0x7000, TARGET, S_CODE64, 2, 0x7777, 0);
    FAULTS(EXC_GP, 0, 0x48, 0xcf);
    cpu->eflags &= ~EFLAGS_NT;
    cpu->nmi_blocked = true;
    cpu->seg[SEG_FS].base = 0x123456789a;
    cpu->seg[SEG_FS].attr = 0; /* null selector: its base survives */
    iret_frame(0x7000, TARGET, S_CODE64U, 2 | EFLAGS_IF | EFLAGS_IOPL, 0x7777, S_DATA3);
    RUNS(0x48, 0xcf);
    cr_expect_eq(cpu->cpl, 3);
    cr_expect_eq(cpu->eflags, 2 | EFLAGS_IF | EFLAGS_IOPL);
    cr_expect_not(cpu->nmi_blocked);
    cr_expect_eq(cpu->seg[SEG_FS].base, 0x123456789a);
}

Test(far, iret_flags_by_privilege)
{
    env_protected(3);
    u32 sp = ENV_STACK3;
    poke32(sp, TARGET);
    poke32(sp + 4, S_CODE3);
    poke32(sp + 8, 0xffffffff & ~EFLAGS_NT);
    RUNS(0xcf);
    cr_expect_eq(cpu->eflags & (EFLAGS_IF | EFLAGS_IOPL | EFLAGS_VM | EFLAGS_VIF | EFLAGS_VIP), 0);
    cr_expect(cpu->eflags & EFLAGS_RF);
    cr_expect_eq(cpu->regs[R_SP], sp + 12);
    /* to an inner level: never */
    cpu->eflags = 2;
    cpu->regs[R_SP] = sp;
    poke32(sp + 4, S_CODE0);
    FAULTS(EXC_GP, S_CODE0, 0xcf);
}

Test(far, iret_to_a_16_bit_stack_keeps_the_upper_half_of_esp)
{
    env_protected(0);
    u32 sp = (u32)cpu->regs[R_SP];
    poke32(sp, TARGET);
    poke32(sp + 4, S_CODE3);
    poke32(sp + 8, 2);
    poke32(sp + 12, 0x12345678);
    poke32(sp + 16, S_DATA16 | 3);
    gdt_set(S_DATA16, make_descriptor(0, 0xffff, 0xf3, 0));
    RUNS(0xcf);
    cr_expect_eq(cpu->regs[R_SP], (sp & 0xffff0000) | 0x5678);
}

/* ---- SYSCALL and its kin ---- */

Test(far, syscall_and_sysret)
{
    env_long(3);
    cpu->star = (u64)(S_DATA0 | 3) << 48 | (u64)S_CODE64 << 32;
    cpu->lstar = 0x5c00;
    cpu->fmask = EFLAGS_IF | EFLAGS_TF;
    cpu->eflags |= EFLAGS_IF;
    cpu->aflags |= AFLAG_CF;
    RUNS(0x0f, 0x05);
    cr_expect_eq(cpu->rip, 0x5c00);
    cr_expect_eq(cpu->regs[R_CX], ENV_CODE + 2);
    cr_expect_eq(cpu->regs[R_11], 2 | EFLAGS_IF | FLAG_CF);
    cr_expect_eq(cpu->eflags & EFLAGS_IF, 0);
    cr_expect_eq(cpu->cpl, 0);
    cr_expect_eq(cpu->seg[SEG_CS].selector, S_CODE64);
    cr_expect_eq(cpu->seg[SEG_SS].selector, S_CODE64 + 8);
    cpu->regs[R_CX] = 0x800000000000ull;
    FAULTS(EXC_GP, 0, 0x48, 0x0f, 0x07);
    cpu->regs[R_CX] = ENV_CODE + 2;
    cpu->regs[R_11] |= EFLAGS_VM | EFLAGS_RF;
    RUNS(0x48, 0x0f, 0x07);
    cr_expect_eq(cpu->rip, ENV_CODE + 2);
    cr_expect_eq(cpu->cpl, 3);
    cr_expect_eq(cpu->seg[SEG_CS].selector, (S_DATA0 + 16) | 3);
    cr_expect_eq(cpu->seg[SEG_SS].selector, (S_DATA0 + 8) | 3);
    cr_expect_eq(cpu_get_eflags(cpu), 2 | EFLAGS_IF | FLAG_CF);
    FAULTS(EXC_GP, 0, 0x48, 0x0f, 0x07); /* CPL 3 */
    cpu->efer &= ~(u64)EFER_SCE;
    FAULTS(EXC_UD, 0, 0x0f, 0x05);
}

Test(far, sysret_with_tf_traps_at_once)
{
    env_long(0);
    cpu->regs[R_CX] = TARGET;
    cpu->regs[R_11] = 2 | EFLAGS_TF;
    RUNS(0x48, 0x0f, 0x07);
    cr_expect_eq(cpu->pending_debug, DEBUG_STEP);
    cr_expect(cpu->events & EVENT_STEP);
}

Test(far, syscall_is_undefined_outside_64_bit_mode)
{
    env_protected(3);
    cpu->efer = EFER_SCE;
    FAULTS(EXC_UD, 0, 0x0f, 0x05);
}

Test(far, sysenter_and_sysexit)
{
    env_protected(3);
    FAULTS(EXC_GP, 0, 0x0f, 0x34);
    cpu->sysenter_cs = S_CODE0;
    cpu->sysenter_esp = 0x7700;
    cpu->sysenter_eip = 0x5d00;
    cpu->eflags |= EFLAGS_IF;
    RUNS(0x0f, 0x34);
    cr_expect_eq(cpu->rip, 0x5d00);
    cr_expect_eq(cpu->regs[R_SP], 0x7700);
    cr_expect_eq(cpu->cpl, 0);
    cr_expect_eq(cpu->eflags & EFLAGS_IF, 0);
    cr_expect_eq(cpu->seg[SEG_SS].selector, S_DATA0);
    cpu->regs[R_CX] = 0x6600;
    cpu->regs[R_DX] = 0x5500;
    RUNS(0x0f, 0x35);
    cr_expect_eq(cpu->rip, 0x5500);
    cr_expect_eq(cpu->regs[R_SP], 0x6600);
    cr_expect_eq(cpu->seg[SEG_CS].selector, S_CODE3);
    cr_expect_eq(cpu->seg[SEG_SS].selector, S_DATA3);
    FAULTS(EXC_GP, 0, 0x0f, 0x35);
}

Test(far, swapgs_and_bases)
{
    env_long(0);
    cpu->seg[SEG_GS].base = 1;
    cpu->kernel_gs_base = 2;
    RUNS(0x0f, 0x01, 0xf8);
    cr_expect_eq(cpu->win[SEG_GS].base, 2);
    cr_expect_eq(cpu->kernel_gs_base, 1);
    FAULTS(EXC_UD, 0, 0xf3, 0x48, 0x0f, 0xae, 0xd8); /* wrgsbase without CR4.FSGSBASE */
    cpu->cr4 |= CR4_FSGSBASE;
    cpu->regs[R_AX] = 0x8000000000000000ull;
    FAULTS(EXC_GP, 0, 0xf3, 0x48, 0x0f, 0xae, 0xd8);
    cpu->regs[R_AX] = 0xffffffff12345678ull;
    RUNS(0xf3, 0x48, 0x0f, 0xae, 0xd8);
    cr_expect_eq(cpu->win[SEG_GS].base, 0xffffffff12345678ull);
    RUNS(0xf3, 0x0f, 0xae, 0xc8); /* rdgsbase eax */
    cr_expect_eq(cpu->regs[R_AX], 0x12345678);
    cpu->cpl = 3;
    FAULTS(EXC_GP, 0, 0x0f, 0x01, 0xf8);
}
