/* build/tests/test_bt_edges: what the translator sees once in a blue moon: operands that a push overwrites, sums at the edge of the
 * address space, ranges that reach over pages of another kind. */
#include "translate/bt.h"

#include "cpu/mmu.h"

#include "bt_env.h"

#define OTHER 0x12000u /* another page of code */
#define GLOBAL 0x163u  /* a page: present, writable, accessed, dirty, global; no user's */

static void from(u64 rip)
{
    cpu->rip = rip;
    cpu->halted = false;
    cpu->regs[R_SP] = 0x80000;
}

/* Where a call's operand is, its return address goes: also when nobody has been there yet, so that the target is looked for. */
Test(interp, a_call_by_memory_that_its_own_push_overwrites)
{
    long_mode();
    /* lea rax, [rsp - 8]; mov qword [rax], OTHER; call [rax]; hlt */
    CODE_AT(CODE, 0x48, 0x8d, 0x44, 0x24, 0xf8, 0x48, 0xc7, 0x00, 0, 0x20, 1, 0, 0xff, 0x10, 0xf4);
    CODE_AT(OTHER, 0xb9, 5, 0, 0, 0, 0xf4); /* mov ecx, 5; hlt */
    for (unsigned n = 0; n < 4; n++) {
        from(CODE);
        cpu->regs[R_CX] = 0;
        cr_assert_eq(run(), -1);
        cr_expect_eq(cpu->regs[R_CX], 5, "run %u", n);
        cr_expect_eq(stack64(0), CODE + 14);
    }
    /* A target that is no address leaves the return address below the stack pointer, which stays. */
    CODE_AT(CODE + 0x100, 0x48, 0xbb, 0, 0, 0, 0, 0, 0, 1, 0, 0x48, 0x89, 0x1c, 0x25, 0, 0, 2, 0, /* mov rbx, 1 << 48; mov [20000h], rbx */
            0xff, 0x14, 0x25, 0, 0, 2, 0, 0xf4);                                                  /* call [20000h]; hlt */
    for (unsigned n = 0; n < 4; n++) {
        from(CODE + 0x100);
        write64(0x80000 - 8, 0);
        cr_assert_eq(run(), EXC_GP);
        cr_expect_eq(stack64(1), CODE + 0x112);
        cr_expect_eq(stack64(4), 0x80000);
    }
}

/* A displacement of almost 2 GiB, and the instruction's place added to it. */
Test(interp, a_place_2_gib_from_rip)
{
    enum { FROM = CODE + 0x800 };
    long_mode();
    CODE_AT(FROM, 0x48, 0x8d, 0x05, 0xff, 0xff, 0xff, 0x7f,  /* lea rax, [rip + 7fffffffh] */
            0x48, 0x8d, 0x1d, 0xf0, 0xef, 0xff, 0x7f,              /* lea rbx, [rip + 7fffeff0h] */
            0x48, 0x8d, 0x0d, 0, 0, 0, 0x80,                       /* lea rcx, [rip - 80000000h] */
            0x8b, 0x15, 0xf8, 0xff, 0xff, 0x7f, 0xf4);             /* mov edx, [rip + 7ffffff8h] */
    from(FROM);
    cr_assert_eq(run(), EXC_PF);
    cr_expect_eq(cpu->regs[R_AX], FROM + 7 + 0x7fffffffull);
    cr_expect_eq(cpu->regs[R_BX], FROM + 14 + 0x7fffeff0ull);
    cr_expect_eq(cpu->regs[R_CX], FROM + 21 - 0x80000000ull);
    cr_expect_eq(cpu->cr2, FROM + 27 + 0x7ffffff8ull);
}

static void large_page(unsigned n, u64 entry) { write64(PAGES + 0x2000 + 8 * n, entry); }

/* mov eax, [rsi]; add rsi, rdi; dec ecx; jnz l; hlt: a loop, which looks at recent ranges */
static u32 last_of(u64 first, u64 step, u32 count)
{
    CODE_AT(CODE, 0x8b, 0x06, 0x48, 0x01, 0xfe, 0xff, 0xc9, 0x75, 0xf7, 0xf4);
    from(CODE);
    cpu->regs[R_SI] = first;
    cpu->regs[R_DI] = step;
    cpu->regs[R_CX] = count;
    cr_assert_eq(run(), -1);
    return (u32)cpu->regs[R_AX];
}

/* A load of CR3 leaves a kernel's ranges of global pages alone. So no other page must be in them. */
Test(interp, a_range_of_global_pages_and_others)
{
    long_mode();
    for (u64 n = 0; n < 512; n++) map(n << 12, n << 12 | GLOBAL);
    large_page(1, 0x1e3);    /* global */
    large_page(2, 0x2000e3); /* the next one, not */
    cpu->cr4 |= CR4_SMAP | CR4_PGE;
    cpu->eflags |= EFLAGS_AC;
    cpu_update_mode(cpu);
    tlb_flush_all(cpu);
    write64(0x300000, 11); /* at 500000h */
    write64(0x100000, 22);
    cr_assert_eq(last_of(0x500000, 0, 3), 11); /* known with EFLAGS.AC only */
    cpu->eflags &= ~EFLAGS_AC;
    cpu_update_mode(cpu);
    last_of(0x200000, 0x1000, 0x200); /* the first one */
    cr_assert_eq(last_of(0x3f0000, 0x8000, 35), 11);
    large_page(2, 0xe3);
    tlb_switch_space(cpu, 0, false);
    cr_expect_eq(last_of(0x3f0000, 0x8000, 35), 22);
}

/* Compatibility mode: ranges end at 4 GiB, where addresses begin anew, also when 64-bit code has gone on there. */
Test(interp, ranges_end_where_addresses_wrap)
{
    const u64 top = 0x14000, next = 0x15000; /* page directories of the last GiB, and of the one behind it */
    long_mode();
    write64(PAGES + 0x1000 + 8 * 3, top + 7);
    write64(PAGES + 0x1000 + 8 * 4, next + 7);
    write64(top + 8 * 511, 0xe7);
    write64(next, 0x2000e7);
    write64(0x200000, 11); /* at 4 GiB */
    write64(0, 22);
    cr_assert_eq(last_of(0xffe00000, 0x200000, 2), 11);
    cpu->seg[SEG_CS].attr = SEG_P | SEG_S | SEG_DB | SEG_G | 0xb;
    for (unsigned n = 0; n < SEG_COUNT; n++)
        if (n != SEG_CS) cpu->seg[n] = (struct segment){.selector = 16, .limit = ~0u, .attr = SEG_P | SEG_S | SEG_DB | SEG_G | 3};
    cpu_update_mode(cpu);
    cr_assert(cpu->mode_key & MODE_FLAT);
    /* l: mov eax, [esi + 20h]; add esi, edi; dec ecx; jnz l; hlt */
    CODE_AT(CODE + 0x100, 0x8b, 0x46, 0x20, 0x01, 0xfe, 0xff, 0xc9, 0x75, 0xf7, 0xf4);
    for (unsigned n = 0; n < 8; n++) {
        from(CODE + 0x100);
        cpu->regs[R_SI] = 0xffff8fe0;
        cpu->regs[R_DI] = 0x1000;
        cpu->regs[R_CX] = 8;
        cr_assert_eq(run(), -1);
        cr_expect_eq(cpu->regs[R_AX], 22, "run %u", n);
    }
}

/* INVLPG anywhere in a large page forgets all of it: the ROM there, ... */
Test(interp, a_large_page_with_rom)
{
    struct ram *two = ram_create(RAM_SIZE + 0x1000);
    u64 at = ram_alloc(two, RAM_SIZE), rom_at = ram_alloc(two, 0x1000);
    struct bus *wide = bus_create("memory", 1ull << 52);
    bus_add_ram(wide, "ram", 0, RAM_SIZE, 0, two, at, false);
    bus_add_ram(wide, "rom", 0x280000, 0x1000, 1, two, rom_at, true);
    struct cpu *first = cpu;
    struct ram *old_ram = ram;
    struct bus *old_mem = mem;
    ram = two;
    mem = wide;
    cpu = cpu_create(0, mem, io, ram, &hooks, model, &bt_engine);
    long_mode();
    ram->host[rom_at] = 11;
    ram->host[0x80000] = 22;
    large_page(1, 0x2000e7);
    cr_expect_eq(last_of(0x280000, 0, 4), 11);
    large_page(1, 0xe7);
    tlb_flush_page(cpu, 0x300000);
    cr_expect_eq(last_of(0x280000, 0, 4), 22);
    cpu_destroy(cpu);
    bus_destroy(wide);
    ram_destroy(two);
    cpu = first;
    ram = old_ram;
    mem = old_mem;
}

/* ... and the code there, also when the TLB's generations began anew meanwhile. */
Test(interp, a_large_page_of_code_that_the_tlb_has_no_more)
{
    enum { AT = 0x280000, ELSEWHERE = 0x80000 };
    long_mode();
    for (u64 n = 0; n < 512; n++) map(n << 12, n << 12 | GLOBAL);
    cpu->cr4 |= CR4_PGE;
    cpu_update_mode(cpu);
    tlb_flush_all(cpu);
    large_page(1, 0x2001e3);
    CODE_AT(CODE, 0xe8, 0xfb, 0xff, 0x26, 0, 0xf4);      /* call AT; hlt */
    CODE_AT(AT, 0xb8, 11, 0, 0, 0, 0xc3);                /* mov eax, 11; ret */
    CODE_AT(ELSEWHERE, 0xb8, 22, 0, 0, 0, 0xc3);
    for (unsigned n = 0; n < 4; n++) {
        from(CODE);
        cr_assert_eq(run(), -1);
        cr_assert_eq(cpu->regs[R_AX], 11);
    }
    cpu->tlb2.last_gen = TLB_GEN_MAX;
    tlb_switch_space(cpu, 0, false);
    large_page(1, 0x1e3);
    tlb_flush_page(cpu, 0x300000);
    from(CODE);
    cr_assert_eq(run(), -1);
    cr_expect_eq(cpu->regs[R_AX], 22);
}
