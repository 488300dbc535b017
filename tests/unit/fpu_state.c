/* build/tests/test_fpu_state : where the x87 pointers and environments, FXSAVE and XSAVE areas put what, by mode. */
#include <criterion/criterion.h>

#include "core/bus.h"
#include "cpu/exec.h"
#include "fpu_support.h"

static u8 *legacy(struct fixture *f) { return f->cpu->fpu.legacy; }
static u16 word(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static u32 dword(const u8 *p)
{
    u32 v;
    memcpy(&v, p, 4);
    return v;
}
static u64 qword(const u8 *p)
{
    u64 v;
    memcpy(&v, p, 8);
    return v;
}

#define EXPECT_OK(f, ...) cr_expect(RUN((f)->cpu, __VA_ARGS__), #__VA_ARGS__ ": vector %d", (f)->cpu->exc.vector)
#define EXPECT_GP(f, ...)                                                                                     \
    do {                                                                                                      \
        cr_expect_not(RUN((f)->cpu, __VA_ARGS__), #__VA_ARGS__);                                              \
        cr_expect_eq((f)->cpu->exc.vector, EXC_GP, #__VA_ARGS__);                                             \
    } while (0)

/* Leaves: ST(0) = 1, ST(1) = 0, ST(2) = denormal; pointers of FLD tbyte [ebx + 0x20], as if it had raised an exception. */
static void prepare(struct fixture *f)
{
    struct cpu *c = f->cpu;
    memset(f->host + 0x1020, 0, 16);
    f->host[0x1020] = 1;
    c->regs[R_BX] = 0x1000;
    EXPECT_OK(f, 0xdb, 0xe3);
    if (c->code_size == CODE_16) EXPECT_OK(f, 0xdb, 0x6f, 0x20);
    else EXPECT_OK(f, 0xdb, 0x6b, 0x20);
    u64 ip = qword(legacy(f) + 8), dp = qword(legacy(f) + 16);
    cr_expect_eq(ip, INSN_RIP & c->ip_mask);
    cr_expect_eq(dp, 0u, "no exception, no data pointer");
    memcpy(legacy(f) + 16, &(u64){0x1020}, 8);
    memcpy(legacy(f) + 466, &c->seg[SEG_DS].selector, 2); /* FX_DS */
    EXPECT_OK(f, 0xd9, 0xee);
    EXPECT_OK(f, 0xd9, 0xe8);
    memset(f->host + 0x1000, 0xcc, 0x200);
}

/* Physical registers 5, 6, 7 hold 1 (valid), 0 (zero), a denormal (special). */
#define TAGS 0x93ffu

Test(fpu_state, environment_32_protected)
{
    struct fixture f;
    fixture_open(&f, CODE_32);
    prepare(&f);
    EXPECT_OK(&f, 0xd9, 0x33);
    u8 *m = f.host + 0x1000;
    cr_expect_eq(dword(m), 0xffff037fu);
    cr_expect_eq(dword(m + 4), 0xffff2800u);
    cr_expect_eq(dword(m + 8), 0xffff0000u | TAGS, "%x", dword(m + 8));
    cr_expect_eq(dword(m + 12), INSN_RIP);
    cr_expect_eq(dword(m + 16), f.cpu->seg[SEG_CS].selector);
    cr_expect_eq(dword(m + 20), 0x1020u);
    cr_expect_eq(dword(m + 24), 0xffff0000u | f.cpu->seg[SEG_DS].selector);
    cr_expect_eq(m[28], 0xcc);
    fixture_close(&f);
}

Test(fpu_state, environment_16_protected)
{
    struct fixture f;
    fixture_open(&f, CODE_32);
    prepare(&f);
    EXPECT_OK(&f, 0x66, 0xdd, 0x33); /* fnsave */
    u8 *m = f.host + 0x1000;
    cr_expect_eq(word(m), 0x37f);
    cr_expect_eq(word(m + 2), 0x2800);
    cr_expect_eq(word(m + 4), TAGS);
    cr_expect_eq(word(m + 6), INSN_RIP & 0xffff);
    cr_expect_eq(word(m + 8), f.cpu->seg[SEG_CS].selector);
    cr_expect_eq(word(m + 10), 0x1020);
    cr_expect_eq(word(m + 12), f.cpu->seg[SEG_DS].selector);
    cr_expect_eq(qword(m + 14), 1ull << 63, "ST(0)");
    cr_expect_eq(word(m + 22), 0x3fff);
    cr_expect_eq(qword(m + 34), 1u, "ST(2)");
    cr_expect_eq(m[94], 0xcc);
    cr_expect_eq(word(legacy(&f) + 2), 0, "initialised");
    cr_expect_eq(legacy(&f)[4], 0);
    /* And back. */
    EXPECT_OK(&f, 0x66, 0xdd, 0x23);
    cr_expect_eq(word(legacy(&f) + 2), 0x2800);
    cr_expect_eq(legacy(&f)[4], 0xe0);
    cr_expect_eq(qword(legacy(&f) + 8), INSN_RIP & 0xffff);
    cr_expect_eq(word(legacy(&f) + 40), 0x3fff);
    EXPECT_OK(&f, 0xd9, 0x33);
    cr_expect_eq(dword(m + 16), f.cpu->seg[SEG_CS].selector);
    fixture_close(&f);
}

static void real_mode(struct fixture *f)
{
    fixture_mode(f->cpu, CODE_16, false);
    for (unsigned n = 0; n < SEG_COUNT; n++) {
        f->cpu->seg[n].limit = 0xffff;
        f->cpu->seg[n].selector = 0;
        f->cpu->seg[n].base = 0;
    }
    f->cpu->seg[SEG_CS].selector = 0x3210;
    f->cpu->seg[SEG_CS].base = 0x32100;
    f->cpu->seg[SEG_DS].selector = 0x1100;
    f->cpu->seg[SEG_DS].base = 0; /* so that the operand is where the other tests have it */
    cpu_update_mode(f->cpu);
}

Test(fpu_state, environment_16_real)
{
    struct fixture f;
    fixture_open(&f, CODE_16);
    real_mode(&f);
    f.cpu->ip_mask = 0xffff;
    prepare(&f);
    EXPECT_OK(&f, 0xd9, 0x37);
    u8 *m = f.host + 0x1000;
    cr_expect_eq(word(m), 0x37f);
    cr_expect_eq(word(m + 2), 0x2800);
    cr_expect_eq(word(m + 4), TAGS);
    u32 ip = 0x32100 + (INSN_RIP & 0xffff), dp = 0x11000 + 0x1020;
    cr_expect_eq(word(m + 6), ip & 0xffff);
    cr_expect_eq(word(m + 8), ip >> 16 << 12);
    cr_expect_eq(word(m + 10), dp & 0xffff);
    cr_expect_eq(word(m + 12), dp >> 16 << 12);
    cr_expect_eq(m[14], 0xcc);
    EXPECT_OK(&f, 0xdb, 0xe3);
    EXPECT_OK(&f, 0xd9, 0x27); /* fldenv: linear addresses */
    cr_expect_eq(qword(legacy(&f) + 8), ip);
    cr_expect_eq(qword(legacy(&f) + 16), dp);
    fixture_close(&f);
}

Test(fpu_state, environment_32_real)
{
    struct fixture f;
    fixture_open(&f, CODE_16);
    real_mode(&f);
    f.cpu->ip_mask = 0xffff;
    prepare(&f);
    /* An unmasked exception sets the opcode: FDIV ST(0), ST(1) by zero. */
    f.host[0x1000] = 0x7b, f.host[0x1001] = 3;
    EXPECT_OK(&f, 0xd9, 0x2f);
    EXPECT_OK(&f, 0xd8, 0xf1);
    EXPECT_OK(&f, 0x66, 0xd9, 0x37);
    u8 *m = f.host + 0x1000;
    cr_expect_eq(dword(m), 0xffff037bu);
    cr_expect_eq(dword(m + 4), 0xffffa884u);
    u32 ip = 0x32100 + (INSN_RIP & 0xffff), dp = 0x11000 + 0x1020;
    cr_expect_eq(word(m + 12), ip & 0xffff);
    cr_expect_eq(dword(m + 16), (ip >> 16) << 12 | 0x0f1);
    cr_expect_eq(word(m + 20), dp & 0xffff);
    cr_expect_eq(dword(m + 24), (dp >> 16) << 12);
    cr_expect_eq(m[28], 0xcc);
    /* V86 mode uses the same format. */
    f.cpu->cr0 |= CR0_PE;
    f.cpu->eflags |= EFLAGS_VM;
    memset(m, 0xcc, 64);
    EXPECT_OK(&f, 0x66, 0xd9, 0x37);
    cr_expect_eq(dword(m + 16), (ip >> 16) << 12 | 0x0f1);
    fixture_close(&f);
}

/* Control instructions leave the pointers alone, others without an unmasked exception leave the data pointer. */
Test(fpu_state, pointers)
{
    struct fixture f;
    fixture_open(&f, CODE_32);
    struct cpu *c = f.cpu;
    prepare(&f);
    u64 marker = 0x1234;
    memcpy(legacy(&f) + 8, &marker, 8);
    memcpy(legacy(&f) + 16, &marker, 8);
    EXPECT_OK(&f, 0xd9, 0x3b); /* fnstcw */
    EXPECT_OK(&f, 0xd9, 0x2b); /* fldcw */
    EXPECT_OK(&f, 0xdf, 0xe0); /* fnstsw */
    EXPECT_OK(&f, 0xdb, 0xe2); /* fnclex */
    EXPECT_OK(&f, 0x9b);
    cr_expect_eq(qword(legacy(&f) + 8), marker);
    EXPECT_OK(&f, 0xd8, 0xc0);
    cr_expect_eq(qword(legacy(&f) + 8), INSN_RIP);
    cr_expect_eq(qword(legacy(&f) + 16), marker);
    c->seg[SEG_FS].selector = 0x77;
    EXPECT_OK(&f, 0x64, 0xd8, 0x43, 0x10); /* fadd dword fs:[ebx+10h] */
    cr_expect_eq(qword(legacy(&f) + 16), marker);
    u8 *zero = f.host + 0x1000;
    memset(zero, 0, 32);
    EXPECT_OK(&f, 0xd9, 0xe8);             /* fld1 */
    memcpy(legacy(&f), &(u16){0x37b}, 2);  /* ZM clear */
    EXPECT_OK(&f, 0x64, 0xd8, 0x73, 0x10); /* fdiv dword fs:[ebx+10h] */
    cr_expect_eq(qword(legacy(&f) + 16), 0x1010u);
    EXPECT_OK(&f, 0xdb, 0xe2); /* fnclex */
    EXPECT_OK(&f, 0x0f, 0xae, 0x03); /* fxsave */
    u8 *m = f.host + 0x1000;
    cr_expect_eq(dword(m + 8), INSN_RIP);
    cr_expect_eq(dword(m + 12), c->seg[SEG_CS].selector);
    cr_expect_eq(dword(m + 16), 0x1010u);
    cr_expect_eq(dword(m + 20), 0x77u);
    cr_expect_eq(dword(m + 28), 0xffffu);
    EXPECT_OK(&f, 0xdb, 0xe3);
    EXPECT_OK(&f, 0x0f, 0xae, 0x0b); /* fxrstor */
    EXPECT_OK(&f, 0xd9, 0x33);
    cr_expect_eq(word(m + 24), 0x77);
    fixture_close(&f);
}

/* ---- outside 64-bit mode there are eight vector registers ---- */

Test(fpu_state, eight_registers_outside_64_bit_mode)
{
    struct fixture f;
    fixture_open(&f, CODE_32);
    struct cpu *c = f.cpu;
    c->regs[R_BX] = 0x1000;
    u8 *m = f.host + 0x1000;
    for (unsigned n = 0; n < 256; n++) c->fpu.ymm_high[n] = (u8)n, legacy(&f)[160 + n] = (u8)~n;
    memset(m, 0xcc, 0x400);
    EXPECT_OK(&f, 0x0f, 0xae, 0x03); /* fxsave */
    cr_expect_arr_eq(m + 160, legacy(&f) + 160, 128);
    cr_expect_eq(m[288], 0xcc);
    memset(m, 0xcc, 0x400);
    memset(m + 512, 0, 64);
    c->regs[R_AX] = 7, c->regs[R_DX] = 0;
    EXPECT_OK(&f, 0x0f, 0xae, 0x23); /* xsave */
    cr_expect_eq(m[512], 7);
    cr_expect_arr_eq(m + 576, c->fpu.ymm_high, 128);
    cr_expect_eq(m[288], 0xcc);
    cr_expect_eq(m[704], 0xcc);
    /* All to the initial configuration: the upper eight stay. */
    m[512] = 0;
    EXPECT_OK(&f, 0x0f, 0xae, 0x2b); /* xrstor */
    cr_expect_eq(qword(legacy(&f) + 160 + 112), 0u);
    cr_expect_eq(legacy(&f)[160 + 128], (u8)~128);
    cr_expect_eq(c->fpu.ymm_high[127], 0);
    cr_expect_eq(c->fpu.ymm_high[128], 128);
    c->fpu.ymm_high[5] = 1;
    EXPECT_OK(&f, 0xc5, 0xf8, 0x77); /* vzeroupper */
    cr_expect_eq(c->fpu.ymm_high[5], 0);
    cr_expect_eq(c->fpu.ymm_high[128], 128);
    fixture_close(&f);
}

/* ---- PKRU, compaction, supervisor forms ---- */

Test(fpu_state, pkru_component)
{
    struct fixture f;
    fixture_open(&f, CODE_64);
    struct cpu *c = f.cpu;
    u8 *m = f.host + 0x1000;
    c->xcr0 = 0x207;
    c->regs[R_BX] = 0x1000;
    c->regs[R_AX] = 0x200, c->regs[R_DX] = 0;
    c->pkru = 0x55555554;
    memset(m, 0, 4096);
    EXPECT_OK(&f, 0x0f, 0xae, 0x23); /* xsave */
    cr_expect_eq(qword(m + 512), 0x200u);
    cr_expect_eq(qword(m + 2688), 0x55555554u);
    c->pkru = 0;
    EXPECT_OK(&f, 0x0f, 0xae, 0x2b);
    cr_expect_eq(c->pkru, 0x55555554u);
    memset(m, 0, 4096);
    EXPECT_OK(&f, 0x0f, 0xc7, 0x23); /* xsavec: right behind the header */
    cr_expect_eq(qword(m + 520), 1ull << 63 | 0x200);
    cr_expect_eq(dword(m + 576), 0x55555554u);
    c->regs[R_AX] = 0x204;
    memset(c->fpu.ymm_high, 0x44, 256);
    EXPECT_OK(&f, 0x0f, 0xc7, 0x23);
    cr_expect_eq(m[576], 0x44);
    cr_expect_eq(dword(m + 832), 0x55555554u);
    m[513] = 0; /* PKRU to its initial value */
    EXPECT_OK(&f, 0x0f, 0xae, 0x2b);
    cr_expect_eq(c->pkru, 0u);
    c->xcr0 = 7; /* now the format names a component that is off */
    EXPECT_GP(&f, 0x0f, 0xae, 0x2b);
    fixture_close(&f);
}

Test(fpu_state, supervisor_forms)
{
    struct fixture f;
    fixture_open(&f, CODE_64);
    struct cpu *c = f.cpu;
    u8 *m = f.host + 0x1000;
    c->regs[R_BX] = 0x1000;
    c->regs[R_AX] = c->regs[R_DX] = 0xffffffff;
    memset(legacy(&f) + 160, 0x12, 16);
    EXPECT_OK(&f, 0x0f, 0xc7, 0x2b); /* xsaves */
    cr_expect_eq(qword(m + 520), 1ull << 63 | 7);
    cr_expect_eq(qword(m + 512) & 2, 2u);
    memset(legacy(&f) + 160, 0, 16);
    EXPECT_OK(&f, 0x0f, 0xc7, 0x1b); /* xrstors */
    cr_expect_eq(legacy(&f)[160], 0x12);
    m[527] = 0; /* the standard format is not for XRSTORS */
    m[520] = 0;
    EXPECT_GP(&f, 0x0f, 0xc7, 0x1b);
    EXPECT_OK(&f, 0x0f, 0xae, 0x2b);
    c->cpl = 3;
    cpu_update_mode(c);
    EXPECT_GP(&f, 0x0f, 0xc7, 0x2b);
    fixture_close(&f);
}

/* ---- x87 and MMX share registers ---- */

Test(fpu_state, mmx_aliases_physical_registers)
{
    struct fixture f;
    fixture_open(&f, CODE_32);
    struct cpu *c = f.cpu;
    EXPECT_OK(&f, 0xdb, 0xe3);
    EXPECT_OK(&f, 0xd9, 0xe8); /* 1 in R7 */
    EXPECT_OK(&f, 0xd9, 0xee); /* 0 in R6 */
    c->regs[R_AX] = 0x12345678;
    EXPECT_OK(&f, 0x0f, 0x6e, 0xc8); /* movd mm1, eax */
    cr_expect_eq(word(legacy(&f) + 2), 0);
    cr_expect_eq(legacy(&f)[4], 0xff);
    cr_expect_eq(qword(legacy(&f) + 32 + 16 * 7), 1ull << 63);
    cr_expect_eq(word(legacy(&f) + 40 + 16 * 7), 0x3fff);
    cr_expect_eq(qword(legacy(&f) + 32 + 16), 0x12345678u);
    cr_expect_eq(word(legacy(&f) + 40 + 16), 0xffff);
    EXPECT_OK(&f, 0x0f, 0x77);
    cr_expect_eq(legacy(&f)[4], 0);
    fixture_close(&f);
}

/* 32-bit code with VEX.W set on a general register: W is ignored there. */
Test(fpu_state, vex_w_outside_64_bit_mode)
{
    struct fixture f;
    fixture_open(&f, CODE_32);
    struct cpu *c = f.cpu;
    c->regs[R_AX] = 0xfffffffffffffffeull;
    EXPECT_OK(&f, 0xc4, 0xe1, 0xf9, 0x6e, 0xc0); /* vmovd xmm0, eax */
    cr_expect_eq(qword(legacy(&f) + 160), 0xfffffffeu);
    EXPECT_OK(&f, 0xc4, 0xe1, 0xfb, 0x2a, 0xc0); /* vcvtsi2sd xmm0, xmm0, eax */
    double d;
    memcpy(&d, legacy(&f) + 160, 8);
    cr_expect_eq(d, -2.0);
    fixture_close(&f);
}
