/* build/tests/test_bt_groups: accesses that share a probe (translate/group.c). */
#include "translate/bt.h"

#include "bt_env.h"

static void apart(u64 flags)
{
    long_mode();
    map(LINEAR, FIRST | 7);
    map(LINEAR + 0x1000, SECOND | flags);
}

static void again(u64 rbx)
{
    cpu->rip = CODE;
    cpu->halted = false;
    cpu->regs[R_SP] = 0x80000;
    cpu->regs[R_AX] = 1;
    cpu->regs[R_BX] = rbx;
    cpu->regs[R_CX] = 100;
    cpu->regs[R_DI] = CODE + 0x800;
    fill_pages();
}

static bool has_groups(u64 at)
{
    const struct code_page *p = ((struct bt *)cpu->engine)->cache.pages[at >> 12];
    const struct block *b = p ? block_at(p, at & 0xfff, cpu->mode_key, block_place(cpu, at, at & 0xfff)) : NULL;
    return b && b->translation && b->translation->plain;
}

Test(interp, accesses_wander_over_the_end_of_a_page)
{
    u64 sum[2], stored[2];
    apart(7);
    /* l: mov rdx, [rbx]; add rax, rdx; add rax, [rbx+8]; adc rdx, [rbx+18h]; xor [rbx+10h], rdx; add rbx, 8; adc rax, [rbx-10h];
     * dec ecx; jnz l; hlt */
    CODE_AT(CODE, 0x48, 0x8b, 0x13, 0x48, 0x01, 0xd0, 0x48, 0x03, 0x43, 8, 0x48, 0x13, 0x53, 0x18, 0x48, 0x31, 0x53, 0x10, 0x48, 0x83,
            0xc3, 8, 0x48, 0x13, 0x43, 0xf0, 0xff, 0xc9, 0x75, 0xe2, 0xf4);
    for (unsigned translated = 0; translated < 2; translated++) {
        bt_set_threshold(cpu, translated ? 1 : ~0u);
        again(LINEAR + 0xf00);
        cr_assert_eq(run(), -1);
        sum[translated] = cpu->regs[R_AX];
        stored[translated] = sum_pages();
    }
    cr_assert(has_groups(CODE));
    cr_assert_eq(sum[0], sum[1]);
    cr_assert_eq(stored[0], stored[1]);
}

Test(interp, what_comes_before_a_fault_is_done)
{
    static const u64 flags[] = {0, 5}; /* not present, not writable */
    for (unsigned n = 0; n < 2; n++) {
        apart(flags[n]);
        CODE_AT(CODE, 0x48, 0x89, 0x0b, 0x48, 0x83, 0xc1, 5, 0x48, 0x89, 0x4b, 8, 0xf4); /* mov [rbx], rcx; add rcx, 5; mov [rbx+8], rcx; hlt */
        again(LINEAR + 0xff8);
        cr_assert_eq(run(), EXC_PF);
        cr_assert(has_groups(CODE));
        cr_assert_eq(cpu->cr2, LINEAR + 0x1000);
        cr_assert_eq(stack64(1), CODE + 7);
        cr_assert_eq(read64(FIRST + 0xff8), 100);
        cr_assert_eq(cpu->regs[R_CX], 105);
    }
}

/* A fault between them: the page is not marked written yet. */
Test(interp, a_page_is_dirty_after_the_store_only)
{
    const u64 dirty = 0x40;
    /* mov rax, [rbx]; mov rdx, [rdi]; mov [rbx+8], rcx; hlt */
    CODE_AT(CODE, 0x48, 0x8b, 0x03, 0x48, 0x8b, 0x17, 0x48, 0x89, 0x4b, 8, 0xf4);
    for (unsigned n = 0; n < 2; n++) {
        apart(n ? 7 : 0);
        again(LINEAR + 0x80);
        cpu->regs[R_DI] = LINEAR + 0x1000;
        cr_assert_eq(run(), n ? -1 : EXC_PF);
        cr_assert(has_groups(CODE));
        cr_assert_eq(read64(PAGES + 0x3000 + 8 * (LINEAR >> 12)) & dirty, n ? dirty : 0);
        cr_assert_eq(read64(FIRST + 0x88), n ? 100 : 0x1111111111111111);
    }
}

/* A store to code between them takes the slow path. */
Test(interp, a_slow_path_between_accesses)
{
    apart(7);
    CODE_AT(CODE + 0x800, 0x90, 0xf4);
    cpu->rip = CODE + 0x800;
    cr_assert_eq(run(), -1);
    /* mov rax, [rbx]; stc; mov [rdi], cl; adc rax, [rbx+8]; hlt */
    CODE_AT(CODE, 0x48, 0x8b, 0x03, 0xf9, 0x88, 0x0f, 0x48, 0x13, 0x43, 8, 0xf4);
    for (unsigned n = 0; n < 3; n++) {
        again(LINEAR + 0x80 + n);
        cpu->regs[R_CX] = n;
        cr_assert_eq(run(), -1);
        cr_assert(has_groups(CODE));
        cr_assert_eq(cpu->regs[R_AX], read64(FIRST + 0x80 + n) + read64(FIRST + 0x88 + n) + 1);
        cr_assert_eq(ram->host[CODE + 0x800], n);
        cpu->rip = CODE + 0x801; /* code again */
        cpu->halted = false;
        cr_assert_eq(run(), -1);
    }
}

/* R13 is no host register: it is part of what the probe leaves. */
Test(interp, a_register_in_memory_moves_between_accesses)
{
    apart(7);
    /* mov rax, [r13]; add rax, [r13+8]; add r13, 18h; add rax, [r13]; add rax, [r13+8]; hlt */
    CODE_AT(CODE, 0x49, 0x8b, 0x45, 0, 0x49, 0x03, 0x45, 8, 0x49, 0x83, 0xc5, 0x18, 0x49, 0x03, 0x45, 0, 0x49, 0x03, 0x45, 8, 0xf4);
    again(0);
    cpu->regs[R_13] = LINEAR + 0x80;
    cr_assert_eq(run(), -1);
    cr_assert(has_groups(CODE));
    cr_assert_eq(cpu->regs[R_AX], read64(FIRST + 0x80) + read64(FIRST + 0x88) + read64(FIRST + 0x98) + read64(FIRST + 0xa0));
}

Test(interp, pushes_and_pops_cross_a_page)
{
    apart(7);
    /* push rax; push rbx; push rcx; add rsp, 8; pop rdx; pop rsi; hlt */
    CODE_AT(CODE, 0x50, 0x53, 0x51, 0x48, 0x83, 0xc4, 8, 0x5a, 0x5e, 0xf4);
    for (unsigned n = 0; n < 4; n++) {
        again(77);
        cpu->regs[R_SP] = LINEAR + 0x1000 + 8 * n;
        cr_assert_eq(run(), -1);
        cr_assert(has_groups(CODE));
        cr_assert_eq(cpu->regs[R_SP], LINEAR + 0x1000 + 8 * n);
        cr_assert_eq(cpu->regs[R_DX], 77);
        cr_assert_eq(cpu->regs[R_SI], 1);
        const u64 pushed[] = {1, 77, 100};
        for (unsigned k = 0; k < 3; k++) {
            const unsigned at = 0x1000 + 8 * n - 8 * (k + 1);
            cr_assert_eq(read64(at < 0x1000 ? FIRST + at : SECOND + at - 0x1000), pushed[k]);
        }
    }
}

Test(interp, a_pop_faults_after_another)
{
    apart(0);
    CODE_AT(CODE, 0x58, 0x59, 0xf4); /* pop rax; pop rcx; hlt */
    again(0);
    cpu->regs[R_SP] = LINEAR + 0xff8;
    cr_assert_eq(run(), EXC_PF);
    cr_assert(has_groups(CODE));
    cr_assert_eq(cpu->cr2, LINEAR + 0x1000);
    cr_assert_eq(cpu->regs[R_AX], 0x1111111111111111u * 15);
    cr_assert_eq(cpu->regs[R_CX], 100);
    const u64 frame = FIRST + (cpu->regs[R_SP] & 0xfff);
    cr_assert_eq(read64(frame + 8), CODE + 1);
    cr_assert_eq(read64(frame + 32), LINEAR + 0x1000);
}

/* A loop that goes from page to page remembers several, until one is mapped otherwise. */
Test(interp, a_chain_through_scattered_pages)
{
    static const u8 next[] = {3, 5, 0, 4, 1, 2};
    const struct bt *bt = cpu->engine;
    u64 looks = 0;
    long_mode();
    for (unsigned n = 0; n < 6; n++) {
        map(LINEAR + 0x1000 * n, (FIRST + 0x2000 * n) | 7);
        write64(FIRST + 0x2000 * n, LINEAR + 0x1000 * next[n]);
    }
    write64(FIRST + 0x1000, LINEAR + 0x1000); /* what comes in the place of page 2: it leads to page 1 */
    /* invlpg [rdi]; l: mov rbx, [rbx]; dec ecx; jnz l; hlt */
    CODE_AT(CODE, 0x0f, 0x01, 0x3f, 0x48, 0x8b, 0x1b, 0xff, 0xc9, 0x75, 0xf9, 0xf4);
    for (unsigned round = 0; round < 4; round++) {
        unsigned at = 0;
        if (round == 3) map(LINEAR + 0x2000, (FIRST + 0x1000) | 7);
        cpu->rip = CODE + (round == 0 || round == 3 ? 0 : 3);
        cpu->halted = false;
        cpu->regs[R_BX] = LINEAR;
        cpu->regs[R_CX] = 4001;
        cpu->regs[R_DI] = LINEAR + 0x2000;
        cr_assert_eq(run(), -1);
        for (unsigned n = 0; n < 4001; n++) at = round == 3 && at == 2 ? 1 : next[at];
        cr_assert_eq(cpu->regs[R_BX], LINEAR + 0x1000 * at);
        if (round == 2) cr_assert_eq(bt->looks, looks, "all pages are known by now");
        looks = bt->looks;
    }
    cr_assert_eq(bt->given_up, 0);
}

/* 32-bit code: what is added to a register can wrap, so that the two accesses behind it have a probe of their own. */
Test(interp, a_register_of_32_bits_wraps_between_accesses)
{
    const u16 flat = SEG_P | SEG_S | SEG_DB | SEG_G | 3;
    long_mode();
    for (unsigned n = 0; n < SEG_COUNT; n++) cpu->seg[n] = (struct segment){.selector = 16, .limit = ~0u, .attr = flat};
    cpu->seg[SEG_CS].attr = flat | 8;
    cpu_update_mode(cpu);
    write64(0xc010, 0x0000000200000001);
    /* mov eax, [ebx+1010h]; add eax, [ebx+1014h]; sub ebx, 0d000h; add eax, [ebx+0e010h]; add eax, [ebx+0e014h]; hlt */
    CODE_AT(CODE, 0x8b, 0x83, 0x10, 0x10, 0, 0, 0x03, 0x83, 0x14, 0x10, 0, 0, 0x81, 0xeb, 0, 0xd0, 0, 0, 0x03, 0x83, 0x10, 0xe0, 0, 0, 0x03, 0x83,
            0x14, 0xe0, 0, 0, 0xf4);
    again(0xb000);
    cr_assert_eq(run(), -1);
    cr_assert(has_groups(CODE));
    cr_assert_eq(cpu->regs[R_AX], 6);
    again(0xd000 + 0x800); /* nothing wraps, and nothing is there */
    cr_assert_eq(run(), -1);
    cr_assert_eq(cpu->regs[R_AX], 0);
}
