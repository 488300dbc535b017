/* build/tests/test_bt_runs: accesses one after the other that share a probe (translate/run.c). */
#include "translate/bt.h"

#include "bt_env.h"

#define TSS    0x9000u
#define FAULTS 0x70000u /* the stack of page faults */

/* The first page's flags; page faults get a stack of their own. */
static void apart(u64 flags)
{
    long_mode();
    map(LINEAR, FIRST | flags);
    map(LINEAR + 0x1000, SECOND | 7);
    cpu->tr = (struct segment){.selector = 16, .base = TSS, .limit = 0x67, .attr = SEG_P | 0xb};
    write64(TSS + 0x24, FAULTS);
    ram->host[IDT + 16 * EXC_PF + 4] = 1;
}

static void again(u64 rsp)
{
    cpu->rip = CODE;
    cpu->halted = false;
    for (unsigned n = 0; n < 16; n++) cpu->regs[n] = 0x0101010101010101 * (n + 1);
    cpu->regs[R_SP] = rsp;
    fill_pages();
}

static void program(void)
{
    /* cmp rax, rcx; push rax; push r15; mov r14, rsp; mov r15, r13; push -123; push r12; sub rsp, 24; mov [rsp+8], rcx;
     * add word [rsp+9], 3; adc rdi, [rsp+8]; lea ebx, [rsp+5]; mov ah, [rsp+21h]; add rsp, 24; pop rdx; pop r13; pop rsi; mov rbp, rsi;
     * pop rbx; setc al; hlt */
    CODE_AT(CODE, 0x48, 0x39, 0xc8, 0x50, 0x41, 0x57, 0x49, 0x89, 0xe6, 0x4d, 0x89, 0xef, 0x6a, 0x85, 0x41, 0x54, 0x48, 0x83, 0xec, 0x18,
            0x48, 0x89, 0x4c, 0x24, 8, 0x66, 0x83, 0x44, 0x24, 9, 3, 0x48, 0x13, 0x7c, 0x24, 8, 0x8d, 0x5c, 0x24, 5, 0x8a, 0x64, 0x24, 0x21,
            0x48, 0x83, 0xc4, 0x18, 0x5a, 0x41, 0x5d, 0x5e, 0x48, 0x89, 0xf5, 0x5b, 0x0f, 0x92, 0xc0, 0xf4);
}

/* Interpreted, or translated as what runs seldom: in loops there are groups instead (group.c). */
static void engine(bool translated)
{
    bt_set_threshold(cpu, translated ? 1 : ~0u);
    bt_set_loops(cpu, false, false);
}

static u64 runs(void) { return ((struct bt *)cpu->engine)->runs; }

/* Run with a register that points there: translated, the program leaves the same registers and memory. */
static void same_as_interpreted(unsigned reg, u64 at)
{
    u64 regs[2][16], sum[2];
    for (unsigned translated = 0; translated < 2; translated++) {
        engine(translated);
        again(0x80000);
        cpu->regs[reg] = at;
        cr_assert_eq(run(), -1);
        memcpy(regs[translated], cpu->regs, sizeof regs[0]);
        sum[translated] = sum_pages();
    }
    cr_assert_arr_eq(regs[0], regs[1], sizeof regs[0], "at %llx", (unsigned long long)at);
    cr_assert_eq(sum[0], sum[1], "at %llx", (unsigned long long)at);
}

Test(interp, the_stack_lies_on_two_pages)
{
    apart(7);
    program();
    for (unsigned down = 0; down < 96; down += 3) same_as_interpreted(R_SP, LINEAR + 0x1000 + down);
    cr_assert_gt(runs(), 0);
}

Test(interp, accesses_by_another_register)
{
    apart(7);
    /* mov rcx, [rbx]; stc; mov rdx, [rbx+8]; mov [rbx-8], ch; cmp [rbx+10h], rcx; setb al; or [rbx+5], rdx;
     * mov rsi, r13; mov rbx, [rbx+18h]; mov rdi, [rsp]; adc rdi, rbx; hlt */
    CODE_AT(CODE, 0x48, 0x8b, 0x0b, 0xf9, 0x48, 0x8b, 0x53, 8, 0x88, 0x6b, 0xf8, 0x48, 0x39, 0x4b, 0x10, 0x0f, 0x92, 0xc0, 0x48, 0x09, 0x53,
            5, 0x4c, 0x89, 0xee, 0x48, 0x8b, 0x5b, 0x18, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x11, 0xdf, 0xf4);
    for (unsigned down = 0; down < 64; down += 3) same_as_interpreted(R_BX, LINEAR + 0x1008 - down);
    cr_assert_gt(runs(), 0);
}

Test(interp, what_comes_before_a_fault_in_a_run_is_done)
{
    static const u64 flags[] = {0, 5}; /* not present, not writable */
    for (unsigned kind = 0; kind < 2; kind++) {
        apart(flags[kind]);
        /* cmp rax, rax; push rax; push r13; mov ecx, 7; push rcx; pop rdx; hlt */
        CODE_AT(CODE, 0x48, 0x39, 0xc0, 0x50, 0x41, 0x55, 0xb9, 7, 0, 0, 0, 0x51, 0x5a, 0xf4);
        for (unsigned n = 0; n < 2; n++) {
            engine(n);
            again(LINEAR + 0x1010);
            cr_assert_eq(run(), EXC_PF);
        }
        cr_assert_gt(runs(), 0);
        cr_assert_eq(cpu->cr2, LINEAR + 0xff8);
        cr_assert_eq(stack64(1), CODE + 11);
        cr_assert_eq(stack64(3) & 0x8d5, 0x44, "ZF and PF of the comparison");
        cr_assert_eq(stack64(4), LINEAR + 0x1000, "RSP");
        cr_assert_eq(read64(SECOND + 8), 0x0101010101010101);
        cr_assert_eq(read64(SECOND), 0x0101010101010101 * 14);
        cr_assert_eq(cpu->regs[R_CX], 7);
    }
}

Test(interp, a_return_at_the_end_of_a_run)
{
    apart(7);
    /* push rbx; push rbp; call f; pop rsi; pop rdi; hlt; f: push rax; push r14; sub rsp, 8; add rsp, 8; pop r14; pop rax; ret */
    CODE_AT(CODE, 0x53, 0x55, 0xe8, 3, 0, 0, 0, 0x5e, 0x5f, 0xf4, 0x50, 0x41, 0x56, 0x48, 0x83, 0xec, 8, 0x48, 0x83, 0xc4, 8, 0x41, 0x5e,
            0x58, 0xc3);
    for (unsigned down = 0; down < 64; down++) {
        for (unsigned n = 0; n < 2; n++) {
            engine(n);
            again(LINEAR + 0x1000 + down);
            cr_assert_eq(run(), -1);
            cr_assert_eq(cpu->rip, CODE + 10);
            cr_assert_eq(cpu->regs[R_SP], LINEAR + 0x1000 + down);
            cr_assert_eq(cpu->regs[R_SI], 0x0101010101010101 * (R_BP + 1));
            cr_assert_eq(cpu->regs[R_DI], 0x0101010101010101 * (R_BX + 1));
            cr_assert_eq(cpu->regs[14], 0x0101010101010101 * 15);
        }
    }
    cr_assert_gt(runs(), 1);
}

/* The stack lies beside code, and on it. */
Test(interp, a_run_overwrites_code)
{
    long_mode();
    CODE_AT(CODE, 0x50, 0x51, 0x52, 0x5a, 0x59, 0x58, 0xf4); /* push rax, rcx, rdx; pop rdx, rcx, rax; hlt */
    CODE_AT(0x60000, 0xb8, 1, 0, 0, 0, 0xf4);                /* mov eax, 1; hlt */
    for (unsigned n = 0; n < 3; n++) {
        engine(n);
        cpu->rip = 0x60000;
        cpu->halted = false;
        cr_assert_eq(run(), -1);
        cr_assert_eq(cpu->regs[R_AX], n ? n + 0x40 : 1);
        again(0x60018);
        cpu->regs[R_DX] = 0xf400000000b8ull | (u64)(n + 0x41) << 8; /* mov eax, n + 41h; hlt */
        cr_assert_eq(run(), -1);
        cr_assert_eq(cpu->regs[R_SP], 0x60018);
        cr_assert_eq(read64(0x60000), cpu->regs[R_DX]);
    }
    cr_assert_gt(runs(), 0);
}
