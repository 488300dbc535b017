/* build/tests/test_exception: delivery through the IVT and the IDT, frames, error codes, double and triple
 * faults, software interrupts and IRET. */
#include "unit/cpu_env.h"

#include "core/bus.h"
#include "cpu/cpu.h"
#include "cpu/exception.h"

TestSuite(exception, .init = env_init, .fini = env_fini);

#define TARGET 0x6000u

/* Raise a fault at the current rip and deliver it. */
static bool fault(int vector, u32 error)
{
    raise_err(cpu, vector, error);
    return deliver_exception(cpu);
}

Test(exception, real_mode_frame)
{
    cpu->regs[R_SP] = 0x100;
    cpu->seg[SEG_CS] = (struct segment){.selector = 0x500, .base = 0x5000, .limit = 0xffff, .attr = 0x93};
    cpu->rip = 0x34;
    cpu->eflags |= EFLAGS_IF | EFLAGS_TF | EFLAGS_AC;
    cpu_update_mode(cpu);
    poke32(0x21 * 4, 0x12345678);
    RUNS(0xcd, 0x21);
    cr_expect_eq(cpu->rip, 0x5678);
    cr_expect_eq(cpu->seg[SEG_CS].selector, 0x1234);
    cr_expect_eq(cpu->regs[R_SP], 0xfa);
    cr_expect_eq(peek16(0xfa), 0x36);
    cr_expect_eq(peek16(0xfc), 0x500);
    cr_expect_eq(peek16(0xfe), 0x302);
    cr_expect_eq(cpu->eflags & (EFLAGS_IF | EFLAGS_TF | EFLAGS_AC), 0);
}

Test(exception, real_mode_stack_wrap_shuts_down)
{
    cpu->regs[R_SP] = 1;
    cpu_update_mode(cpu);
    FAULTS(EXC_SS, 0, 0xcd, 0x21);
    cr_expect_eq(cpu->regs[R_SP], 1);
    cpu->regs[R_SP] = 3;
    FAULTS(EXC_SS, 0, 0xcd, 0x21);
    cr_expect_not(deliver_exception(cpu));
    cr_expect(cpu->shutdown);
}

Test(exception, real_mode_idt_limit)
{
    cpu->regs[R_SP] = 0x100;
    cpu->idtr.limit = 0x21 * 4 + 2;
    cr_expect_eq(EXEC(0xcd, 0x21), EXC_GP);
}

Test(exception, same_level_frame_and_flags)
{
    u32 sp = (u32)cpu->regs[R_SP];
    env_protected(0);
    sp = (u32)cpu->regs[R_SP];
    idt_set(13, make_gate(S_CODE0, TARGET, 0x8e, 0));
    cpu->eflags |= EFLAGS_IF | EFLAGS_TF | EFLAGS_NT;
    cr_expect(fault(EXC_GP, 0x1234));
    cr_expect_eq(cpu->regs[R_SP], sp - 16);
    cr_expect_eq(peek32(sp - 16), 0x1234);
    cr_expect_eq(peek32(sp - 12), ENV_CODE);
    cr_expect_eq(peek32(sp - 8), S_CODE0);
    cr_expect_eq(peek32(sp - 4), 2 | EFLAGS_IF | EFLAGS_TF | EFLAGS_NT | EFLAGS_RF, "faults push RF");
    cr_expect_eq(cpu->eflags, 2);
    cr_expect_eq(cpu->rip, TARGET);
}

Test(exception, trap_gate_keeps_if_and_16_bit_gate_pushes_words)
{
    env_protected(0);
    u32 sp = (u32)cpu->regs[R_SP];
    idt_set(0x30, make_gate(S_CODE0, 0x12346000, 0x87, 0));
    cpu->eflags |= EFLAGS_IF;
    RUNS(0xcd, 0x30);
    cr_expect_eq(cpu->rip, TARGET, "16 bits of offset");
    cr_expect_eq(cpu->regs[R_SP], sp - 6);
    cr_expect_eq(peek16(sp - 6), ENV_CODE + 2);
    cr_expect_eq(peek16(sp - 4), S_CODE0);
    cr_expect_eq(peek16(sp - 2), 0x202);
    cr_expect(cpu->eflags & EFLAGS_IF);
}

Test(exception, inner_level_frame)
{
    env_protected(3);
    idt_set(0x30, make_gate(S_CODE0, TARGET, 0xee, 0));
    RUNS(0xcd, 0x30);
    cr_expect_eq(cpu->cpl, 0);
    cr_expect_eq(cpu->seg[SEG_CS].selector, S_CODE0);
    cr_expect_eq(cpu->seg[SEG_SS].selector, S_DATA0);
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK0 - 20);
    cr_expect_eq(peek32(ENV_STACK0 - 4), S_DATA3);
    cr_expect_eq(peek32(ENV_STACK0 - 8), ENV_STACK3);
    cr_expect_eq(peek32(ENV_STACK0 - 16), S_CODE3);
    cr_expect_eq(peek32(ENV_STACK0 - 20), ENV_CODE + 2);
    /* and back */
    RUNS(0xcf);
    cr_expect_eq(cpu->cpl, 3);
    cr_expect_eq(cpu->rip, ENV_CODE + 2);
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK3);
    cr_expect_eq(cpu->seg[SEG_SS].selector, S_DATA3);
}

Test(exception, error_codes_of_bad_gates)
{
    env_protected(3);
    cpu->idtr.limit = 0x31 * 8 - 1;
    FAULTS(EXC_GP, 0x31 * 8 + 2, 0xcd, 0x31); /* beyond the limit */
    FAULTS(EXC_GP, 0x30 * 8 + 2, 0xcd, 0x30); /* no gate */
    idt_set(0x30, make_gate(S_CODE0, TARGET, 0x8e, 0));
    FAULTS(EXC_GP, 0x30 * 8 + 2, 0xcd, 0x30); /* DPL */
    idt_set(0x30, make_gate(S_CODE0, TARGET, 0x6e, 0));
    FAULTS(EXC_NP, 0x30 * 8 + 2, 0xcd, 0x30);
    idt_set(0x30, make_gate(0, TARGET, 0xee, 0));
    FAULTS(EXC_GP, 0, 0xcd, 0x30);
    idt_set(0x30, make_gate(S_DATA0, TARGET, 0xee, 0));
    FAULTS(EXC_GP, S_DATA0, 0xcd, 0x30);
    idt_set(0x30, make_gate(S_CODE_NP, TARGET, 0xee, 0));
    FAULTS(EXC_NP, S_CODE_NP, 0xcd, 0x30);
    idt_set(0x30, make_gate(S_CODE16, 0x10000 + TARGET, 0xee, 0));
    poke16(ENV_TSS + 8, 0);
    FAULTS(EXC_TS, 0, 0xcd, 0x30);
    poke16(ENV_TSS + 8, S_DATA3);
    FAULTS(EXC_TS, S_DATA3 & ~3, 0xcd, 0x30);
    poke16(ENV_TSS + 8, S_DATA_NP);
    FAULTS(EXC_SS, S_DATA_NP, 0xcd, 0x30);
    poke16(ENV_TSS + 8, S_DATA0);
    FAULTS(EXC_GP, 0, 0xcd, 0x30); /* target beyond the limit of the code segment */
    cpu->tr.limit = 8;
    FAULTS(EXC_TS, S_TSS, 0xcd, 0x30);
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK3);
    cr_expect_eq(cpu->cpl, 3);
}

Test(exception, ext_bit_for_events_that_are_not_int_n)
{
    env_protected(0);
    cr_expect_not(interrupt(cpu, 0x40, INT_EXTERNAL, false, 0, ENV_CODE));
    cr_expect_eq(cpu->exc.vector, EXC_GP);
    cr_expect_eq(cpu->exc.error_code, 0x40 * 8 + 3);
    cr_expect_not(interrupt(cpu, 0x40, INT_SOFT, false, 0, ENV_CODE));
    cr_expect_eq(cpu->exc.error_code, 0x40 * 8 + 2);
    cr_expect_not(interrupt(cpu, 1, INT_SOFT1, false, 0, ENV_CODE));
    cr_expect_eq(cpu->exc.error_code, 1 * 8 + 3);
}

Test(exception, inner_stack_overflow_names_the_new_stack)
{
    env_protected(3);
    gdt_set(S_FRESH, make_descriptor(0, 0x3f, 0x93, 4));
    poke16(ENV_TSS + 8, S_FRESH);
    poke32(ENV_TSS + 4, 0x54);
    idt_set(0x30, make_gate(S_CODE0, TARGET, 0xee, 0));
    FAULTS(EXC_SS, S_FRESH, 0xcd, 0x30);
    poke32(ENV_TSS + 4, 0x40);
    RUNS(0xcd, 0x30);
}

Test(exception, double_and_triple_fault)
{
    env_protected(0);
    idt_set(EXC_DF, make_gate(S_CODE0, TARGET, 0x8e, 0));
    u32 sp = (u32)cpu->regs[R_SP];
    cr_expect(fault(EXC_GP, 0x10)); /* no #GP gate: #GP again, so #DF */
    cr_expect_eq(cpu->rip, TARGET);
    cr_expect_eq(peek32(sp - 16), 0, "error code 0");
    cr_expect_eq(peek32(sp - 12), ENV_CODE);
    env_protected(0);
    idt_set(EXC_DF, 0);
    cr_expect_not(fault(EXC_GP, 0x10));
    cr_expect(cpu->shutdown);
}

Test(exception, benign_first_faults_are_handled_serially)
{
    env_protected(0);
    u32 sp = (u32)cpu->regs[R_SP];
    idt_set(EXC_GP, make_gate(S_CODE0, TARGET, 0x8e, 0));
    raise_ud(cpu);
    cr_expect(deliver_exception(cpu)); /* no #UD gate: #GP for it */
    cr_expect_eq(cpu->rip, TARGET);
    cr_expect_eq(peek32(sp - 16), EXC_UD * 8 + 3);
}

Test(exception, a_page_fault_during_a_contributory_one_is_just_a_page_fault)
{
    env_protected(0);
    /* 4 MiB identity page; the IDT of #GP points into a code segment, and the IDT itself is in an absent page
     * for #GP only. */
    poke32(ENV_PAGES, 0x83);
    cpu->cr4 = CR4_PSE;
    cpu->cr3 = ENV_PAGES;
    cpu->cr0 |= CR0_PG;
    cpu_update_mode(cpu);
    /* vectors 13 and 14 straddle: IDT base so that #PF's gate is mapped and #GP's is not */
    cpu->idtr.base = 0u - 14u * 8u;
    cpu->idtr.limit = 0x7ff;
    u64 gate = make_gate(S_CODE0, TARGET, 0x8e, 0);
    poke64(0, gate);
    u32 sp = (u32)cpu->regs[R_SP];
    cr_expect(fault(EXC_GP, 0));
    cr_expect_eq(cpu->rip, TARGET);
    cr_expect_eq(cpu->cr2, 0xfffffff8u);
    cr_expect_eq(peek32(sp - 16), 0, "not present, read, supervisor");
    /* page fault while delivering a page fault: #DF, whose gate is not there either */
    cpu->idtr.base = 0u - 15u * 8u;
    cr_expect_not(fault(EXC_PF, 0));
    cr_expect(cpu->shutdown);
}

Test(exception, nothing_changes_when_a_push_faults)
{
    env_protected(0);
    poke32(ENV_PAGES, 0x83);
    cpu->cr4 = CR4_PSE;
    cpu->cr3 = ENV_PAGES;
    cpu->cr0 |= CR0_PG;
    cpu->regs[R_SP] = 0x400008; /* the frame would need one byte of the absent page */
    cpu_update_mode(cpu);
    poke32(0x3ffffc, 0x55555555);
    idt_set(0x30, make_gate(S_CODE0, TARGET, 0x8e, 0));
    FAULTS(EXC_PF, PF_W, 0xcd, 0x30);
    cr_expect_eq(peek32(0x3ffffc), 0x55555555);
    cr_expect_eq(cpu->regs[R_SP], 0x400008);
    cr_expect_eq(cpu->rip, ENV_CODE);
}

Test(exception, long_mode_frame_is_aligned_and_has_ss)
{
    env_long(0);
    cpu->regs[R_SP] = 0x7f0b;
    poke64(ENV_IDT + 0x30 * 16, make_gate(S_CODE64, TARGET, 0x8e, 0));
    RUNS(0xcd, 0x30);
    cr_expect_eq(cpu->regs[R_SP], 0x7f00 - 40);
    cr_expect_eq(peek64(0x7f00 - 8), S_DATA0);
    cr_expect_eq(peek64(0x7f00 - 16), 0x7f0b);
    cr_expect_eq(peek64(0x7f00 - 24), 2);
    cr_expect_eq(peek64(0x7f00 - 32), S_CODE64);
    cr_expect_eq(peek64(0x7f00 - 40), ENV_CODE + 2);
    cr_expect_eq(cpu->seg[SEG_SS].selector, S_DATA0, "SS stays without a change of level");
    RUNS(0x48, 0xcf); /* iretq */
    cr_expect_eq(cpu->regs[R_SP], 0x7f0b);
    cr_expect_eq(cpu->rip, ENV_CODE + 2);
}

Test(exception, long_mode_change_of_level_and_ist)
{
    env_long(3);
    poke64(ENV_IDT + 0x30 * 16, make_gate(S_CODE64, TARGET, 0xee, 0));
    RUNS(0xcd, 0x30);
    cr_expect_eq(cpu->seg[SEG_SS].selector, 0);
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK0 - 40);
    cr_expect_eq(cpu->cpl, 0);
    cr_expect_eq(peek64(ENV_STACK0 - 8), S_DATA3);

    env_long(0);
    poke64(ENV_IDT + 14 * 16, make_gate(S_CODE64, TARGET, 0x8e, 1)); /* IST1 */
    cr_expect(fault(EXC_PF, 7));
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK2 - 48);
    cr_expect_eq(peek64(ENV_STACK2 - 48), 7);
    cr_expect_eq(cpu->seg[SEG_SS].selector, S_DATA0);
}

Test(exception, long_mode_faults)
{
    env_long(3);
    poke64(ENV_IDT + 0x30 * 16, make_gate(S_CODE0, TARGET, 0xee, 0));
    FAULTS(EXC_GP, S_CODE0, 0xcd, 0x30); /* not 64-bit code */
    poke64(ENV_IDT + 0x30 * 16, make_gate(S_CODE64, TARGET, 0xe6, 0));
    FAULTS(EXC_GP, 0x30 * 16 / 16 * 8 + 2, 0xcd, 0x30); /* 16-bit gate */
    poke64(ENV_IDT + 0x30 * 16, make_gate(S_CODE64, TARGET, 0xee, 0));
    poke64(ENV_IDT + 0x30 * 16 + 8, 0x8000);
    FAULTS(EXC_GP, 0, 0xcd, 0x30); /* target not canonical */
    poke64(ENV_IDT + 0x30 * 16 + 8, 0);
    poke64(ENV_TSS + 4, 0x900000000000ull);
    FAULTS(EXC_SS, 0, 0xcd, 0x30);
    cpu->tr.limit = 10;
    FAULTS(EXC_TS, S_TSS, 0xcd, 0x30);
    cpu->idtr.limit = 0x30 * 16 + 14;
    FAULTS(EXC_GP, 0x30 * 8 + 2, 0xcd, 0x30);
}

Test(exception, debug_exception_sets_dr6_and_clears_gd)
{
    env_protected(0);
    idt_set(EXC_DB, make_gate(S_CODE0, TARGET, 0x8e, 0));
    cpu->dr[6] = 0xffff0ff0 | DR6_BS | 8;
    cpu->dr[7] |= 0x2000;
    u32 sp = (u32)cpu->regs[R_SP];
    RUNS(0x0f, 0x01, 0xe0); /* smsw is no debug register access */
    cpu->rip = ENV_CODE;
    FAULTS(EXC_DB, DR6_BD, 0x0f, 0x21, 0xf0); /* mov eax, dr6 */
    cr_expect(deliver_exception(cpu));
    cr_expect_eq(cpu->dr[6], 0xffff0ff0 | DR6_BS | DR6_BD);
    cr_expect_eq(cpu->dr[7] & 0x2000, 0);
    cr_expect(peek32(sp - 4) & EFLAGS_RF, "general detect is a fault");

    env_protected(0);
    cpu->pending_debug = 2;
    raise_debug(cpu, 0);
    cr_expect(deliver_exception(cpu));
    cr_expect_eq(cpu->dr[6], 0xffff0ff0 | DR6_BS | DR6_BD | 2);
    cr_expect_not(peek32(sp - 4) & EFLAGS_RF);
    cr_expect_eq(cpu->pending_debug, 0);
}

Test(exception, int3_and_into_need_the_gate_but_int1_does_not)
{
    env_protected(3);
    idt_set(3, make_gate(S_CODE0, TARGET, 0x8e, 0));
    FAULTS(EXC_GP, 3 * 8 + 2, 0xcc);
    idt_set(4, make_gate(S_CODE0, TARGET, 0x8e, 0));
    RUNS(0xce);
    cr_expect_eq(cpu->rip, ENV_CODE + 1, "no overflow, no trap");
    cpu->aflags |= AFLAG_OF;
    FAULTS(EXC_GP, 4 * 8 + 2, 0xce);
    idt_set(1, make_gate(S_CODE0, TARGET, 0x8e, 0));
    RUNS(0xf1);
    cr_expect_eq(cpu->rip, TARGET);
    cr_expect_eq(cpu->dr[6], 0xffff0ff0, "INT1 leaves DR6 alone");
}

Test(exception, int1_takes_pending_data_breakpoints_along)
{
    env_protected(0);
    idt_set(1, make_gate(S_CODE0, TARGET, 0x8e, 0));
    cpu->pending_debug = 4 | DEBUG_STEP;
    RUNS(0xf1);
    cr_expect_eq(cpu->pending_debug, 0);
    cr_expect_eq(cpu->dr[6], 0xffff0ff0 | 4);
}

/* ---- virtual-8086 mode ---- */

static void v86(unsigned iopl)
{
    env_protected(3);
    cpu->eflags = 2 | EFLAGS_VM | iopl << 12;
    for (unsigned n = 0; n < SEG_COUNT; n++)
        cpu->seg[n] = (struct segment){
            .selector = (u16)(0x100 + n), .base = 0x1000 + 16 * n, .limit = 0xffff, .attr = 0xf3};
    cpu->seg[SEG_SS] = (struct segment){.selector = 0x800, .base = 0x8000, .limit = 0xffff, .attr = 0xf3};
    cpu->seg[SEG_CS] = (struct segment){.selector = 0x500, .base = 0x5000, .limit = 0xffff, .attr = 0xf3};
    cpu->regs[R_SP] = 0x200;
    cpu->rip = 0;
    cpu_update_mode(cpu);
}

Test(exception, from_v86_all_segments_are_pushed_and_cleared)
{
    v86(3);
    idt_set(0x30, make_gate(S_CODE0, TARGET, 0xee, 0));
    RUNS(0xcd, 0x30);
    cr_expect_eq(cpu->regs[R_SP], ENV_STACK0 - 36);
    cr_expect_eq(peek32(ENV_STACK0 - 4), 0x105, "GS");
    cr_expect_eq(peek32(ENV_STACK0 - 8), 0x104, "FS");
    cr_expect_eq(peek32(ENV_STACK0 - 12), 0x103, "DS");
    cr_expect_eq(peek32(ENV_STACK0 - 16), 0x100, "ES");
    cr_expect_eq(peek32(ENV_STACK0 - 20), 0x800, "SS");
    cr_expect_eq(peek32(ENV_STACK0 - 24), 0x200);
    cr_expect_eq(peek32(ENV_STACK0 - 28), 2 | EFLAGS_VM | EFLAGS_IOPL);
    cr_expect_eq(peek32(ENV_STACK0 - 32), 0x500);
    cr_expect_eq(peek32(ENV_STACK0 - 36), 2);
    cr_expect_eq(cpu->seg[SEG_DS].selector, 0);
    cr_expect_eq(cpu->eflags & EFLAGS_VM, 0);
    RUNS(0xcf);
    cr_expect(cpu->eflags & EFLAGS_VM);
    cr_expect_eq(cpu->seg[SEG_GS].selector, 0x105);
    cr_expect_eq(cpu->seg[SEG_CS].base, 0x5000);
    cr_expect_eq(cpu->cpl, 3);
    cr_expect_eq(cpu->regs[R_SP], 0x200);
    /* into a conforming or outer segment: not from V86 */
    idt_set(0x30, make_gate(S_CONF0, TARGET, 0xee, 0));
    FAULTS(EXC_GP, S_CONF0, 0xcd, 0x30);
    idt_set(0x30, make_gate(S_CODE1, TARGET, 0xee, 0));
    FAULTS(EXC_GP, S_CODE1, 0xcd, 0x30);
}

Test(exception, v86_iopl)
{
    v86(0);
    FAULTS(EXC_GP, 0, 0xcd, 0x30);
    FAULTS(EXC_GP, 0, 0x9c);
    FAULTS(EXC_GP, 0, 0x9d);
    FAULTS(EXC_GP, 0, 0xcf);
    FAULTS(EXC_GP, 0, 0xfa);
    FAULTS(EXC_GP, 0, 0xfb);
    v86(3);
    cpu->eflags |= EFLAGS_IF;
    RUNS(0xfa);
    cr_expect_not(cpu->eflags & EFLAGS_IF);
    RUNS(0x9c);
    cr_expect_eq(peek16(0x81fe), 0x3002);
}

Test(exception, vme)
{
    v86(0);
    cpu->cr4 |= CR4_VME;
    cpu->tr.limit = 0x2000;
    poke16(ENV_TSS + 0x66, 0x88); /* redirection bitmap at 0x68 */
    cpu->eflags |= EFLAGS_IF;
    RUNS(0xfb); /* sti: VIF */
    cr_expect(cpu->eflags & EFLAGS_VIF);
    RUNS(0x9c);
    cr_expect_eq(peek16(0x81fe), 0x3202, "IOPL 3 and IF = VIF");
    poke32(0x30 * 4, 0x02000010);
    cpu->rip = 0x10;
    RUNS(0xcd, 0x30); /* redirected */
    cr_expect_eq(cpu->seg[SEG_CS].selector, 0x200);
    cr_expect_eq(cpu->rip, 0x10);
    cr_expect_eq(peek16(0x81fc), 0x3202);
    cr_expect_eq(peek16(0x81fa), 0x500);
    cr_expect_not(cpu->eflags & EFLAGS_VIF);
    cr_expect(cpu->eflags & EFLAGS_IF);
    RUNS(0xcf);
    cr_expect(cpu->eflags & EFLAGS_VIF);
    cr_expect_eq(cpu->rip, 0x12);
    poke8(ENV_TSS + 0x68 + 6, 1); /* not redirected: IOPL decides */
    FAULTS(EXC_GP, 0, 0xcd, 0x30);
    cpu->eflags |= EFLAGS_VIP;
    FAULTS(EXC_GP, 0, 0xfb);
    RUNS(0xfa);
    cr_expect_not(cpu->eflags & EFLAGS_VIF);
    FAULTS(EXC_GP, 0, 0x66, 0x9c); /* 32-bit images never */
    poke16(0x81fe, 0x100);         /* TF */
    cpu->regs[R_SP] = 0x1fe;
    FAULTS(EXC_GP, 0, 0x9d);
    cr_expect_eq(cpu->regs[R_SP], 0x1fe);
}

Test(exception, pvi)
{
    env_protected(3);
    FAULTS(EXC_GP, 0, 0xfa);
    cpu->cr4 |= CR4_PVI;
    RUNS(0xfb);
    cr_expect(cpu->eflags & EFLAGS_VIF);
    RUNS(0xfa);
    cr_expect_not(cpu->eflags & EFLAGS_VIF);
    cpu->eflags |= EFLAGS_VIP;
    FAULTS(EXC_GP, 0, 0xfb);
}

/* ---- flags ---- */

Test(exception, popf_by_privilege)
{
    env_protected(3);
    u32 sp = (u32)cpu->regs[R_SP];
    poke32(sp, 0xffffffff);
    RUNS(0x9d);
    cr_expect_eq(cpu_get_eflags(cpu),
                 0x2 | EFLAGS_ARITH | EFLAGS_TF | EFLAGS_DF | EFLAGS_NT | EFLAGS_AC | EFLAGS_ID);
    env_protected(0);
    cpu->eflags = 2;
    sp = (u32)cpu->regs[R_SP];
    poke32(sp, 0xffffffff);
    RUNS(0x9d);
    cr_expect_eq(cpu_get_eflags(cpu), 0x2 | EFLAGS_ARITH | EFLAGS_TF | EFLAGS_IF | EFLAGS_DF | EFLAGS_IOPL |
                                          EFLAGS_NT | EFLAGS_AC | EFLAGS_ID);
    cpu->eflags |= EFLAGS_RF;
    RUNS(0x9c);
    cr_expect_eq(peek32(sp) & (EFLAGS_RF | EFLAGS_VM), 0);
}

Test(exception, sti_shadow)
{
    env_protected(0);
    RUNS(0xfb);
    cr_expect_eq(cpu->shadow, 1);
    cr_expect(cpu->step);
    cpu->shadow = 0;
    RUNS(0xfb); /* IF was set: no shadow */
    cr_expect_eq(cpu->shadow, 0);
}

Test(exception, hlt)
{
    env_protected(0);
    RUNS(0xf4);
    cr_expect(cpu->halted);
    cr_expect_eq(cpu->rip, ENV_CODE + 1);
    cpu->cpl = 3;
    FAULTS(EXC_GP, 0, 0xf4);
}
