/* build/tests/test_sysreg: control and debug registers, MSRs, XCR0 and PKRU: what may be written, and what
 * follows. */
#include "unit/cpu_env.h"

#include "core/bus.h"
#include "cpu/cpu.h"

TestSuite(sysreg, .init = env_init, .fini = env_fini);

#define TO_CR0   0x0f, 0x22, 0xc0
#define TO_CR3   0x0f, 0x22, 0xd8
#define TO_CR4   0x0f, 0x22, 0xe0
#define FROM_CR0 0x0f, 0x20, 0xc0
#define WRMSR    0x0f, 0x30
#define RDMSR    0x0f, 0x32

static void ax(u64 v) { cpu->regs[R_AX] = v; }

Test(sysreg, cr0_combinations)
{
    env_protected(0);
    ax(CR0_PG);
    FAULTS(EXC_GP, 0, TO_CR0);
    ax(CR0_PE | CR0_NW);
    FAULTS(EXC_GP, 0, TO_CR0);
    ax(CR0_PE | 0x0fe00000u); /* reserved bits are ignored, ET is stuck */
    RUNS(TO_CR0);
    cr_expect_eq(cpu->cr0, CR0_PE | CR0_ET);
    RUNS(FROM_CR0);
    cr_expect_eq(cpu->regs[R_AX], CR0_PE | CR0_ET);
    cpu->cpl = 3;
    FAULTS(EXC_GP, 0, FROM_CR0);
}

Test(sysreg, cr0_upper_half)
{
    env_long(0);
    ax(cpu->cr0 | 1ull << 32);
    FAULTS(EXC_GP, 0, TO_CR0);
    ax(cpu->cr0 & ~(u64)CR0_PG); /* paging cannot go in 64-bit mode */
    FAULTS(EXC_GP, 0, TO_CR0);
}

Test(sysreg, entering_and_leaving_long_mode)
{
    env_protected(0);
    poke64(ENV_PAGES, 3);
    cpu->cr3 = ENV_PAGES;
    ax(CR0_PE | CR0_PG);
    cpu->efer = EFER_LME;
    FAULTS(EXC_GP, 0, TO_CR0); /* PAE is off */
    cpu->cr4 = CR4_PAE;
    cpu->seg[SEG_CS].attr |= SEG_L;
    FAULTS(EXC_GP, 0, TO_CR0); /* L is on */
    cpu->seg[SEG_CS].attr &= ~SEG_L;
    cpu->tr.attr = SEG_P | 3;
    FAULTS(EXC_GP, 0, TO_CR0); /* a 16-bit TSS */
    cpu->tr.attr = SEG_P | 0xb;
    RUNS(TO_CR0);
    cr_expect_eq(cpu->efer, EFER_LME | EFER_LMA);
    cr_expect_eq(cpu->code_size, CODE_32);
    ax(0);
    FAULTS(EXC_GP, 0, TO_CR4); /* PAE must stay */
    cpu->regs[R_CX] = 0xc0000080;
    cpu->regs[R_DX] = 0;
    ax(0);
    FAULTS(EXC_GP, 0, WRMSR); /* LME must stay */
    ax(CR0_PE);
    RUNS(TO_CR0);
    cr_expect_eq(cpu->efer, EFER_LME);
}

Test(sysreg, lmsw_sets_but_does_not_clear_pe)
{
    env_protected(0);
    ax(0xe);
    RUNS(0x0f, 0x01, 0xf0);
    cr_expect_eq(cpu->cr0 & 0xf, 0xf);
    ax(0);
    RUNS(0x0f, 0x01, 0xf0);
    cr_expect_eq(cpu->cr0 & 0xf, 1);
    cpu->cr0 |= CR0_TS;
    RUNS(0x0f, 0x06);
    cr_expect_not(cpu->cr0 & CR0_TS);
}

Test(sysreg, cr4)
{
    env_long(0);
    ax(CR4_PAE | 1u << 13); /* VMXE */
    FAULTS(EXC_GP, 0, TO_CR4);
    ax(CR4_PAE | CR4_LA57);
    FAULTS(EXC_GP, 0, TO_CR4);
    cpu->cr3 |= 1;
    ax(CR4_PAE | CR4_PCIDE);
    FAULTS(EXC_GP, 0, TO_CR4);
    cpu->cr3 &= ~0xfffull;
    RUNS(TO_CR4);
    ax(CR4_PAE | CR4_SMEP | CR4_SMAP | CR4_UMIP | CR4_OSXSAVE | CR4_FSGSBASE | CR4_PKE);
    RUNS(TO_CR4);
    cpu->efer = 0;
    cpu->cr0 &= ~(u64)CR0_PG;
    cpu_update_mode(cpu);
    ax(CR4_PCIDE);
    FAULTS(EXC_GP, 0, TO_CR4); /* outside IA-32e mode */
}

Test(sysreg, cr3_reserved_bits_and_pcid_hint)
{
    env_long(0);
    ax(ENV_PAGES | 1ull << 40);
    FAULTS(EXC_GP, 0, TO_CR3);
    ax(ENV_PAGES | 1ull << 63);
    FAULTS(EXC_GP, 0, TO_CR3);
    cpu->cr4 |= CR4_PCIDE;
    ax(ENV_PAGES);
    u64 gen = cpu->tlb->gen;
    RUNS(TO_CR3);
    cr_expect_neq(cpu->tlb->gen, gen, "a load flushes");
    gen = cpu->tlb->gen;
    ax(ENV_PAGES | 5 | 1ull << 63);
    RUNS(TO_CR3);
    cr_expect_eq(cpu->cr3, ENV_PAGES | 5);
    cr_expect_neq(cpu->tlb->gen, gen, "another address space");
    ax(ENV_PAGES | 1ull << 63);
    RUNS(TO_CR3);
    cr_expect_eq(cpu->tlb->gen, gen, "the hint keeps what was known");
    ax(ENV_PAGES | 5);
    RUNS(TO_CR3);
    ax(ENV_PAGES);
    RUNS(TO_CR3);
    cr_expect_neq(cpu->tlb->gen, gen, "no hint, no translations");
}

/* A global page's translation outlives a load of CR3, not INVLPG; another page's does not. */
Test(sysreg, global_pages_stay_over_loads_of_cr3)
{
    u64 v;
    env_long(0);
    cpu->cr4 |= CR4_PGE;
    const u64 tables = ENV_PAGES;
    poke64(tables + 8 * 2, 0x31003); /* linear address 2 << 39 */
    poke64(0x31000, 0x32003);
    poke64(0x32000, 0x33003);
    poke64(0x33000, 0x34103); /* global */
    poke64(0x33008, 0x34003);
    poke64(0x34000, 1);
    poke64(0x35000, 2);
    const u64 lin = 2ull << 39;
    cr_assert(lin_read(cpu, lin, &v, 8, ACC_READ) && v == 1);
    cr_assert(lin_read(cpu, lin + 0x1000, &v, 8, ACC_READ) && v == 1);
    poke64(0x33000, 0x35103);
    poke64(0x33008, 0x35003);
    ax(tables);
    RUNS(TO_CR3);
    cr_expect(lin_read(cpu, lin, &v, 8, ACC_READ) && v == 1);
    cr_expect(lin_read(cpu, lin + 0x1000, &v, 8, ACC_READ) && v == 2);
    tlb_flush_page(cpu, lin);
    cr_expect(lin_read(cpu, lin, &v, 8, ACC_READ) && v == 2);
}

/* INVLPG anywhere in a large page forgets all of it. */
Test(sysreg, invlpg_of_a_large_page)
{
    u64 v;
    env_long(0);
    const u64 tables = ENV_PAGES, lin = (2ull << 39) + (5ull << 30);
    poke64(tables + 8 * 2, 0x31003);
    poke64(0x31000 + 8 * 5, 0x32003);
    poke64(0x32000, 0x83);
    poke64(0x34000, 1);
    cr_assert(lin_read(cpu, lin + 0x34000, &v, 8, ACC_READ) && v == 1);
    poke64(0x32000, 0x200083);
    poke64(0x234000, 2);
    tlb_flush_page(cpu, lin + 0x100000);
    cr_expect(lin_read(cpu, lin + 0x34000, &v, 8, ACC_READ) && v == 2);
}

Test(sysreg, pae_pdptes_are_checked_on_load)
{
    env_protected(0);
    cpu->cr4 = CR4_PAE;
    cpu->cr3 = ENV_PAGES;
    poke64(ENV_PAGES, 0x11003); /* W is reserved in a PDPTE */
    ax(CR0_PE | CR0_PG);
    FAULTS(EXC_GP, 0, TO_CR0);
    poke64(ENV_PAGES, 0x11001);
    poke64(0x11000, 0x83);
    RUNS(TO_CR0);
    cr_expect_eq(cpu->pdpte[0], 0x11001);
    poke64(ENV_PAGES + 0x20, 0x11003);
    ax(ENV_PAGES + 0x20);
    FAULTS(EXC_GP, 0, TO_CR3);
    cr_expect_eq(cpu->cr3, ENV_PAGES);
}

Test(sysreg, cr8)
{
    env_long(0);
    ax(16);
    FAULTS(EXC_GP, 0, 0x44, 0x0f, 0x22, 0xc0);
    ax(9);
    RUNS(0x44, 0x0f, 0x22, 0xc0);
    cr_expect_eq(env_cr8, 9);
    ax(0);
    RUNS(0x44, 0x0f, 0x20, 0xc0);
    cr_expect_eq(cpu->regs[R_AX], 9);
}

Test(sysreg, debug_registers)
{
    env_protected(0);
    ax(0xffffffff);
    RUNS(0x0f, 0x23, 0xf0); /* dr6 */
    cr_expect_eq(cpu->dr[6], 0xffffefff);
    ax(0);
    RUNS(0x0f, 0x23, 0xf0);
    cr_expect_eq(cpu->dr[6], 0xffff0ff0);
    ax(0xffffdfff); /* all but GD */
    RUNS(0x0f, 0x23, 0xf8);
    cr_expect_eq(cpu->dr[7], 0xffff07ff);
    ax(0);
    RUNS(0x0f, 0x23, 0xf8);
    cr_expect_eq(cpu->dr[7], 0x400);
    RUNS(0x0f, 0x21, 0xe0); /* DR4 is DR6... */
    cr_expect_eq(cpu->regs[R_AX], 0xffff0ff0);
    cpu->cr4 |= CR4_DE; /* ...without debugging extensions */
    FAULTS(EXC_UD, 0, 0x0f, 0x21, 0xe0);
    cpu->dr[7] |= 0x2000;
    FAULTS(EXC_DB, DR6_BD, 0x0f, 0x21, 0xc0);
    cpu->cpl = 3;
    FAULTS(EXC_GP, 0, 0x0f, 0x21, 0xc0);
}

Test(sysreg, debug_registers_upper_half)
{
    env_long(0);
    ax(1ull << 32);
    FAULTS(EXC_GP, 0, 0x0f, 0x23, 0xf0);
    FAULTS(EXC_GP, 0, 0x0f, 0x23, 0xf8);
    RUNS(0x0f, 0x23, 0xc0);
    cr_expect_eq(cpu->dr[0], 1ull << 32);
}

Test(sysreg, invpcid)
{
    env_long(0);
    cpu->regs[R_BX] = 0x6000;
    poke64(0x6000, 0);
    poke64(0x6008, 0x5000);
    ax(0);
    RUNS(0x66, 0x0f, 0x38, 0x82, 0x03);
    poke64(0x6008, 0x800000000000ull);
    FAULTS(EXC_GP, 0, 0x66, 0x0f, 0x38, 0x82, 0x03);
    poke64(0x6000, 1); /* a PCID without CR4.PCIDE */
    ax(1);
    FAULTS(EXC_GP, 0, 0x66, 0x0f, 0x38, 0x82, 0x03);
    poke64(0x6000, 0x1000);
    cpu->cr4 |= CR4_PCIDE;
    FAULTS(EXC_GP, 0, 0x66, 0x0f, 0x38, 0x82, 0x03);
    ax(4);
    FAULTS(EXC_GP, 0, 0x66, 0x0f, 0x38, 0x82, 0x03);
    ax(2);
    RUNS(0x66, 0x0f, 0x38, 0x82, 0x03);
    cpu->cpl = 3;
    FAULTS(EXC_GP, 0, 0x66, 0x0f, 0x38, 0x82, 0x03);
}

Test(sysreg, xcr0)
{
    env_protected(0);
    cpu->regs[R_CX] = cpu->regs[R_DX] = 0;
    FAULTS(EXC_UD, 0, 0x0f, 0x01, 0xd0); /* xgetbv without OSXSAVE */
    cpu->cr4 |= CR4_OSXSAVE;
    ax(3);
    RUNS(0x0f, 0x01, 0xd1);
    cr_expect_eq(cpu->xcr0, 3);
    ax(2);
    FAULTS(EXC_GP, 0, 0x0f, 0x01, 0xd1); /* x87 is not optional */
    ax(5);
    FAULTS(EXC_GP, 0, 0x0f, 0x01, 0xd1); /* AVX needs SSE */
    ax(0x13);
    FAULTS(EXC_GP, 0, 0x0f, 0x01, 0xd1);
    RUNS(0x0f, 0x01, 0xd0);
    cr_expect_eq(cpu->regs[R_AX], 3);
    cpu->regs[R_CX] = 2;
    FAULTS(EXC_GP, 0, 0x0f, 0x01, 0xd0);
}

Test(sysreg, pkru)
{
    env_long(0);
    cpu->regs[R_CX] = cpu->regs[R_DX] = 0;
    FAULTS(EXC_UD, 0, 0x0f, 0x01, 0xef);
    cpu->cr4 |= CR4_PKE;
    ax(0x55);
    RUNS(0x0f, 0x01, 0xef);
    cr_expect_eq(cpu->pkru, 0x55);
    cpu->regs[R_DX] = 1;
    FAULTS(EXC_GP, 0, 0x0f, 0x01, 0xef);
    RUNS(0x0f, 0x01, 0xee);
    cr_expect_eq(cpu->regs[R_AX], 0x55);
    cr_expect_eq(cpu->regs[R_DX], 0);
}

Test(sysreg, clac_and_stac)
{
    env_protected(0);
    cpu->cr4 |= CR4_SMAP;
    cpu_update_mode(cpu);
    struct tlb *strict = cpu->tlb;
    RUNS(0x0f, 0x01, 0xcb);
    cr_expect_neq(cpu->tlb, strict);
    RUNS(0x0f, 0x01, 0xca);
    cr_expect_eq(cpu->tlb, strict);
    cpu->cpl = 3;
    FAULTS(EXC_UD, 0, 0x0f, 0x01, 0xca);
}

/* ---- MSRs ---- */

static bool wr(u32 msr, u64 v)
{
    bool ok = msr_write(cpu, msr, v);
    if (!ok) cr_expect_eq(cpu->exc.vector, EXC_GP);
    cpu->exc.vector = -1;
    return ok;
}
static u64 rd(u32 msr)
{
    u64 v = 0xdeadull;
    cr_expect(msr_read(cpu, msr, &v), "msr %x", msr);
    return v;
}

Test(sysreg, msr_privilege_and_registers)
{
    env_protected(0);
    cpu->regs[R_CX] = 0x174;
    cpu->regs[R_DX] = 0;
    ax(0x1234);
    RUNS(WRMSR);
    ax(0xffffffffffffffffull);
    RUNS(RDMSR);
    cr_expect_eq(cpu->regs[R_AX], 0x1234);
    cpu->regs[R_CX] = 0x12345678;
    FAULTS(EXC_GP, 0, RDMSR);
    FAULTS(EXC_GP, 0, WRMSR);
    cpu->cpl = 3;
    cpu->regs[R_CX] = 0x174;
    FAULTS(EXC_GP, 0, RDMSR);
}

Test(sysreg, msr_values_that_are_kept)
{
    static const struct {
        u32 msr;
        u64 value;
    } t[] = {
        {0x175, 0xffff800000001234},
        {0x176, 0x7fffffffffff},
        {0x1a0, 0x400c51889},
        {0x277, 0x0007040600070406},
        {0xc0000081, 0x0023001000000000},
        {0xc0000082, 0xffffffff81000000},
        {0xc0000083, 0x1000},
        {0xc0000084, 0x47700},
        {0xc0000100, 0x1234},
        {0xc0000101, 0xffff888000000000},
        {0xc0000102, 0x5678},
        {0xc0000103, 0xffffffff},
        {0x200, 0x80000006},
        {0x201, 0xff80000800},
        {0x20f, 0x800},
        {0x250, 0x0606060606060606},
        {0x26f, 0x0505050505050505},
        {0x2ff, 0xc06},
        {0x17a, 4},
        {0x17b, 0},
        {0x400, ~0ull},
        {0x401, 0},
        {0x3b, 77},
    };
    for (size_t n = 0; n < ARRAY_LEN(t); n++) {
        cr_expect(wr(t[n].msr, t[n].value), "write %x", t[n].msr);
        cr_expect_eq(rd(t[n].msr), t[n].value, "msr %x = %llx", t[n].msr, (unsigned long long)rd(t[n].msr));
    }
}

Test(sysreg, msr_values_that_fault)
{
    static const struct {
        u32 msr;
        u64 value;
    } t[] = {
        {0x175, 0x800000000000},
        {0x176, 0x800000000000},
        {0x277, 0x02},
        {0x277, 0x0800000000000000},
        {0xc0000080, 0x2},
        {0xc0000080, 1ull << 32},
        {0xc0000082, 0x800000000000},
        {0xc0000100, 0x800000000000},
        {0xc0000101, 1ull << 63},
        {0xc0000102, 1ull << 63},
        {0xc0000103, 1ull << 32},
        {0x200, 0x2},
        {0x200, 0x106},
        {0x200, 1ull << 40},
        {0x201, 0x400},
        {0x250, 0x02},
        {0x2ff, 0x1000},
        {0x2ff, 0x3},
        {0xfe, 0},
        {0x179, 0},
        {0x17b, 5},
        {0x400, 1},
        {0x401, 1},
        {0x428, 0},
        {0x3a, 5},
        {0xce, 0},
        {0x10a, 0},
        {0xda0, 1},
        {0x210, 0},
    };
    for (size_t n = 0; n < ARRAY_LEN(t); n++)
        cr_expect_not(wr(t[n].msr, t[n].value), "msr %x", t[n].msr);
}

Test(sysreg, tsc)
{
    env_tsc = 1000;
    cr_expect_eq(rd(0x10), 1000);
    cr_expect(wr(0x10, 5000));
    cr_expect_eq(rd(0x10), 5000);
    cr_expect_eq(rd(0x3b), 4000);
    cr_expect(wr(0x3b, 100));
    cr_expect_eq(rd(0x10), 1100);
    env_tsc = 0x100000000ull;
    env_protected(0);
    RUNS(0x0f, 0x31);
    cr_expect_eq(cpu->regs[R_AX], 100);
    cr_expect_eq(cpu->regs[R_DX], 1);
    cpu->tsc_aux = 7;
    RUNS(0x0f, 0x01, 0xf9);
    cr_expect_eq(cpu->regs[R_CX], 7);
    cpu->cr4 |= CR4_TSD;
    RUNS(0x0f, 0x31);
    cpu->cpl = 3;
    FAULTS(EXC_GP, 0, 0x0f, 0x31);
    FAULTS(EXC_GP, 0, 0x0f, 0x33); /* rdpmc */
}

Test(sysreg, efer_nxe_flushes_the_tlb)
{
    u64 gen = cpu->tlb->gen;
    cr_expect(wr(0xc0000080, EFER_NXE | EFER_SCE | EFER_LMA)); /* LMA is ignored */
    cr_expect_eq(rd(0xc0000080), EFER_NXE | EFER_SCE);
    cr_expect_neq(cpu->tlb->gen, gen);
}

Test(sysreg, fs_base_reaches_the_fast_path)
{
    env_long(0);
    cr_expect(wr(0xc0000100, 0xffff888000001000));
    cr_expect_eq(cpu->win[SEG_FS].base, 0xffff888000001000);
}
