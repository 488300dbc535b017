/* build/tests/test_segment: segment register loads, pointer validation, LDTR and TR in every mode. */
#include "unit/cpu_env.h"

#include "core/bus.h"
#include "cpu/cpu.h"

TestSuite(segment, .init = env_init, .fini = env_fini);

#define MOV_DS_AX 0x8e, 0xd8
#define MOV_SS_AX 0x8e, 0xd0

static void ax(u64 v) { cpu->regs[R_AX] = v; }

Test(segment, real_mode_keeps_limit_and_size)
{
    cpu->seg[SEG_DS].limit = 0xffffffff;
    cpu->seg[SEG_DS].attr |= SEG_G | SEG_DB;
    ax(0x1234);
    RUNS(MOV_DS_AX);
    cr_expect_eq(cpu->seg[SEG_DS].base, 0x12340);
    cr_expect_eq(cpu->seg[SEG_DS].limit, 0xffffffff);
    cr_expect_eq(cpu->win[SEG_DS].base, 0x12340);
}

Test(segment, data_load_fills_the_hidden_part_and_sets_accessed)
{
    env_protected(0);
    ax(S_FRESH);
    RUNS(MOV_DS_AX);
    cr_expect_eq(cpu->seg[SEG_DS].base, 0x12345678);
    cr_expect_eq(cpu->seg[SEG_DS].limit, 0x4321);
    cr_expect_eq(cpu->seg[SEG_DS].attr, SEG_P | SEG_S | SEG_DB | 3);
    cr_expect_eq(peek8(ENV_GDT + S_FRESH + 5), 0x93);
}

Test(segment, data_load_faults)
{
    env_protected(0);
    u16 old = cpu->seg[SEG_DS].selector;
    ax(S_END);
    FAULTS(EXC_GP, S_END, MOV_DS_AX);
    ax(S_END + 3);
    FAULTS(EXC_GP, S_END, MOV_DS_AX);
    ax(S_TSS);
    FAULTS(EXC_GP, S_TSS, MOV_DS_AX);
    ax(S_XONLY);
    FAULTS(EXC_GP, S_XONLY, MOV_DS_AX);
    ax(S_DATA_NP);
    FAULTS(EXC_NP, S_DATA_NP, MOV_DS_AX);
    ax(S_DATA0 | 3); /* RPL above DPL */
    FAULTS(EXC_GP, S_DATA0, MOV_DS_AX);
    ax(0xc); /* LDT without one */
    FAULTS(EXC_GP, 0xc, MOV_DS_AX);
    cr_expect_eq(cpu->seg[SEG_DS].selector, old);
    ax(S_CONF0 | 3); /* readable conforming code is for everybody */
    RUNS(MOV_DS_AX);
    ax(3);
    RUNS(MOV_DS_AX);
    cr_expect_eq(cpu->seg[SEG_DS].selector, 3);
    cr_expect_eq(cpu->seg[SEG_DS].attr & SEG_P, 0);
}

Test(segment, cpl3_may_not_load_kernel_data)
{
    env_protected(3);
    ax(S_DATA0);
    FAULTS(EXC_GP, S_DATA0, MOV_DS_AX);
    ax(S_CONF0);
    RUNS(MOV_DS_AX);
}

Test(segment, stack_segment_rules)
{
    env_protected(0);
    ax(0);
    FAULTS(EXC_GP, 0, MOV_SS_AX);
    ax(S_RODATA);
    FAULTS(EXC_GP, S_RODATA, MOV_SS_AX);
    ax(S_DATA0 | 1);
    FAULTS(EXC_GP, S_DATA0, MOV_SS_AX);
    ax(S_DATA3);
    FAULTS(EXC_GP, S_DATA3 & ~3, MOV_SS_AX);
    ax(S_DATA_NP);
    FAULTS(EXC_SS, S_DATA_NP, MOV_SS_AX);
    ax(S_FRESH);
    RUNS(MOV_SS_AX);
    cr_expect_eq(cpu->shadow, 2);
    cr_expect_eq(cpu->rip, ENV_CODE + 2);
}

Test(segment, null_stack_segment_in_64_bit_mode)
{
    env_long(0);
    ax(0);
    RUNS(MOV_SS_AX);
    ax(3); /* RPL must be CPL */
    FAULTS(EXC_GP, 0, MOV_SS_AX);
    cpu->cpl = 3;
    FAULTS(EXC_GP, 0, MOV_SS_AX);
}

Test(segment, alignment_is_checked_between_the_first_and_the_last_byte)
{
    env_long(3);
    cpu->cr0 |= CR0_AM;
    cpu->eflags |= EFLAGS_AC;
    gla lin;
    cr_assert_not(seg_linear(cpu, SEG_DS, 0x7fffffffffff, 4, false, &lin)); /* goes on in an address that is not canonical */
    cr_expect_eq(cpu->exc.vector, EXC_AC);
    cr_assert_not(seg_linear(cpu, SEG_DS, 0x8000000000001, 4, false, &lin));
    cr_expect_eq(cpu->exc.vector, EXC_GP);
    cpu->eflags &= ~(u64)EFLAGS_AC;
    cr_assert_not(seg_linear(cpu, SEG_SS, 0x7fffffffffff, 4, false, &lin));
    cr_expect_eq(cpu->exc.vector, EXC_SS);
}

Test(segment, expand_down)
{
    env_protected(0);
    ax(S_DOWN);
    RUNS(MOV_DS_AX);
    cr_expect_eq(cpu->seg[SEG_DS].limit, 0xffff);
    u32 v;
    cr_expect_not(seg_read(cpu, SEG_DS, 0xffff, &v, 4));
    cr_expect(seg_read(cpu, SEG_DS, 0x10000, &v, 4));
    cpu->exc.vector = -1;
}

Test(segment, ldt)
{
    env_protected(0);
    poke64(ENV_LDT + 8, make_descriptor(0x777, 0xfff, 0x92, 0));
    ax(S_LDT);
    RUNS(0x0f, 0x00, 0xd0); /* lldt ax */
    cr_expect_eq(cpu->ldtr.base, ENV_LDT);
    ax(0xc);
    RUNS(MOV_DS_AX);
    cr_expect_eq(cpu->seg[SEG_DS].base, 0x777);
    ax(0x104);
    FAULTS(EXC_GP, 0x104, MOV_DS_AX);
    ax(S_DATA0);
    FAULTS(EXC_GP, S_DATA0, 0x0f, 0x00, 0xd0);
    ax(S_LDT | 4);
    FAULTS(EXC_GP, S_LDT | 4, 0x0f, 0x00, 0xd0);
    gdt_set(S_LDT, make_descriptor(ENV_LDT, 0xff, 0x02, 0));
    ax(S_LDT);
    FAULTS(EXC_NP, S_LDT, 0x0f, 0x00, 0xd0);
    ax(0);
    RUNS(0x0f, 0x00, 0xd0);
    ax(0xc);
    FAULTS(EXC_GP, 0xc, MOV_DS_AX);
}

Test(segment, task_register)
{
    env_protected(0);
    ax(0);
    FAULTS(EXC_GP, 0, 0x0f, 0x00, 0xd8); /* ltr ax */
    ax(S_TSS);                           /* busy */
    FAULTS(EXC_GP, S_TSS, 0x0f, 0x00, 0xd8);
    ax(S_TSS2);
    RUNS(0x0f, 0x00, 0xd8);
    cr_expect_eq(peek8(ENV_GDT + S_TSS2 + 5), 0x8b);
    cr_expect_eq(cpu->tr.base, ENV_TSS2);
    cpu->cpl = 3;
    FAULTS(EXC_GP, 0, 0x0f, 0x00, 0xd8);
    cpu->cpl = 0;
    cpu->cr0 = CR0_ET;
    cpu_update_mode(cpu);
    FAULTS(EXC_UD, 0, 0x0f, 0x00, 0xd8);
}

Test(segment, sixteen_byte_descriptors)
{
    env_long(0);
    gdt_set(S_CODE1, make_descriptor(0x1000, 0x67, 0x89, 0));
    gdt_set(S_DATA1, 0xffff8000); /* upper half: base bits 63:32 */
    ax(S_CODE1);
    RUNS(0x0f, 0x00, 0xd8);
    cr_expect_eq(cpu->tr.base, 0xffff800000001000ull);
    gdt_set(S_CODE1, make_descriptor(0x1000, 0x67, 0x89, 0));
    gdt_set(S_DATA1, 0x00008000); /* not canonical */
    FAULTS(EXC_GP, S_CODE1, 0x0f, 0x00, 0xd8);
    gdt_set(S_DATA1, 0x0000920000000000ull); /* type bits set above */
    FAULTS(EXC_GP, S_CODE1, 0x0f, 0x00, 0xd8);
    cpu->gdtr.limit = S_DATA1 + 6; /* second half cut off */
    gdt_set(S_DATA1, 0);
    FAULTS(EXC_GP, S_CODE1, 0x0f, 0x00, 0xd8);
}

#define ZF (cpu->aflags & AFLAG_ZF)

Test(segment, lar_and_lsl)
{
    env_protected(0);
    ax(S_FRESH);
    cpu->regs[R_CX] = 0xdeadbeef;
    RUNS(0x0f, 0x02, 0xc8); /* lar ecx, ax */
    cr_expect(ZF);
    cr_expect_eq(cpu->regs[R_CX], 0x00409200);
    RUNS(0x0f, 0x03, 0xc8); /* lsl ecx, ax */
    cr_expect_eq(cpu->regs[R_CX], 0x4321);
    ax(S_DATA0);
    RUNS(0x0f, 0x03, 0xc8);
    cr_expect_eq(cpu->regs[R_CX], 0xffffffff);
    ax(S_GATE);
    RUNS(0x0f, 0x02, 0xc8);
    cr_expect(ZF);
    cpu->regs[R_CX] = 7;
    RUNS(0x0f, 0x03, 0xc8); /* a gate has no limit */
    cr_expect_not(ZF);
    cr_expect_eq(cpu->regs[R_CX], 7);
    ax(S_END);
    RUNS(0x0f, 0x02, 0xc8);
    cr_expect_not(ZF);
    ax(0);
    RUNS(0x0f, 0x02, 0xc8);
    cr_expect_not(ZF);
    ax(S_DATA0 | 1); /* RPL too high */
    RUNS(0x0f, 0x02, 0xc8);
    cr_expect_not(ZF);
    ax(S_CONF0 | 3);
    RUNS(0x0f, 0x02, 0xc8);
    cr_expect(ZF);
    ax(S_DATA_NP); /* presence does not matter */
    RUNS(0x0f, 0x02, 0xc8);
    cr_expect(ZF);
}

Test(segment, lar_types_in_long_mode)
{
    env_long(0);
    ax(S_TSS16);
    RUNS(0x0f, 0x02, 0xc8);
    cr_expect_not(ZF);
    ax(S_TASKGATE);
    RUNS(0x0f, 0x02, 0xc8);
    cr_expect_not(ZF);
    ax(S_TSS);
    RUNS(0x0f, 0x02, 0xc8);
    cr_expect(ZF);
}

Test(segment, verr_verw_arpl)
{
    static const struct {
        u16 sel;
        bool r, w;
    } t[] = {{S_DATA0, true, true},       {S_RODATA, true, false},   {S_CODE0, true, false},
             {S_XONLY, false, false},     {S_TSS, false, false},     {0, false, false},
             {S_DATA0 | 3, false, false}, {S_CONF0 | 3, true, false}};
    env_protected(0);
    for (size_t n = 0; n < ARRAY_LEN(t); n++) {
        ax(t[n].sel);
        RUNS(0x0f, 0x00, 0xe0);
        cr_expect_eq(ZF != 0, t[n].r, "verr %x", t[n].sel);
        RUNS(0x0f, 0x00, 0xe8);
        cr_expect_eq(ZF != 0, t[n].w, "verw %x", t[n].sel);
    }
    ax(0x10);
    cpu->regs[R_CX] = 3;
    RUNS(0x63, 0xc8); /* arpl ax, cx */
    cr_expect(ZF);
    cr_expect_eq(cpu->regs[R_AX], 0x13);
    RUNS(0x63, 0xc8);
    cr_expect_not(ZF);
}

Test(segment, push_pop_segment)
{
    env_protected(0);
    u32 sp = (u32)cpu->regs[R_SP];
    poke32(sp - 4, 0xaaaaaaaa);
    RUNS(0x1e); /* push ds */
    cr_expect_eq(cpu->regs[R_SP], sp - 4);
    cr_expect_eq(peek32(sp - 4), 0xaaaa0000 | S_DATA0, "only two bytes are written");
    poke32(sp - 4, S_END);
    FAULTS(EXC_GP, S_END, 0x1f); /* pop ds */
    cr_expect_eq(cpu->regs[R_SP], sp - 4, "nothing popped");
    poke32(sp - 4, S_FRESH);
    RUNS(0x1f);
    cr_expect_eq(cpu->seg[SEG_DS].selector, S_FRESH);
    cr_expect_eq(cpu->regs[R_SP], sp);
}

Test(segment, load_far_pointer_is_all_or_nothing)
{
    env_protected(0);
    cpu->regs[R_BX] = 0x6000;
    cpu->regs[R_AX] = 1;
    poke32(0x6000, 0x11223344);
    poke16(0x6004, S_END);
    FAULTS(EXC_GP, S_END, 0xc4, 0x03); /* les eax, [ebx] */
    cr_expect_eq(cpu->regs[R_AX], 1);
    poke16(0x6004, S_FRESH);
    RUNS(0xc4, 0x03);
    cr_expect_eq(cpu->regs[R_AX], 0x11223344);
    cr_expect_eq(cpu->seg[SEG_ES].selector, S_FRESH);
}

Test(segment, descriptor_tables)
{
    env_protected(0);
    cpu->regs[R_BX] = 0x6000;
    poke16(0x6000, 0x1ff);
    poke32(0x6002, 0x12345678);
    RUNS(0x66, 0x0f, 0x01, 0x13); /* lgdt with 16-bit operand: 24 bits of base */
    cr_expect_eq(cpu->gdtr.base, 0x345678);
    RUNS(0x0f, 0x01, 0x13);
    cr_expect_eq(cpu->gdtr.base, 0x12345678);
    cr_expect_eq(cpu->gdtr.limit, 0x1ff);
    RUNS(0x0f, 0x01, 0x03); /* sgdt */
    cr_expect_eq(peek32(0x6002), 0x12345678);
    cpu->cpl = 3;
    FAULTS(EXC_GP, 0, 0x0f, 0x01, 0x1b); /* lidt */
    RUNS(0x0f, 0x01, 0x0b);              /* sidt: anybody */
    cpu->cr4 |= CR4_UMIP;
    FAULTS(EXC_GP, 0, 0x0f, 0x01, 0x0b);
    FAULTS(EXC_GP, 0, 0x0f, 0x00, 0xc8); /* str */
    FAULTS(EXC_GP, 0, 0x0f, 0x00, 0xc0); /* sldt */
    FAULTS(EXC_GP, 0, 0x0f, 0x01, 0xe0); /* smsw */
}

Test(segment, lgdt_checks_a_64_bit_base)
{
    env_long(0);
    cpu->regs[R_BX] = 0x6000;
    poke16(0x6000, 0xff);
    poke64(0x6002, 0x800000000000ull);
    FAULTS(EXC_GP, 0, 0x0f, 0x01, 0x13);
    poke64(0x6002, 0xffff800000001000ull);
    RUNS(0x0f, 0x01, 0x13);
    cr_expect_eq(cpu->gdtr.base, 0xffff800000001000ull);
}

Test(segment, v86_loads)
{
    env_protected(3);
    cpu->eflags |= EFLAGS_VM;
    cpu_update_mode(cpu);
    ax(0x4567);
    RUNS(0x8e, 0xc0); /* mov es, ax */
    cr_expect_eq(cpu->seg[SEG_ES].base, 0x45670);
    cr_expect_eq(cpu->seg[SEG_ES].limit, 0xffff);
    cr_expect_eq(cpu->seg[SEG_ES].attr, 0xf3);
    FAULTS(EXC_UD, 0, 0x0f, 0x02, 0xc8); /* lar */
}

/* By code_key engines find code again. */
Test(segment, no_two_code_segments_have_one_code_key)
{
    static u64 keys[3 * CODE_SEGMENTS];
    for (unsigned n = 0; n < ARRAY_LEN(keys); n++) {
        cpu->seg[SEG_CS].base = n / 2 * 0x10;
        cpu->seg[SEG_CS].limit = n & 1 ? 0xffff : 0xfffff;
        cpu_update_mode(cpu);
        keys[n] = cpu->code_key;
        for (unsigned k = 0; k < n; k++) cr_assert_neq(keys[k], keys[n], "segments %u and %u", k, n);
        cpu_update_mode(cpu);
        cr_assert_eq(cpu->code_key, keys[n]);
    }
}
