/* build/tests/test_fpu_guard : #UD, #NM, #MF, #GP, #XM and faults in front of x87 and vector instructions, and that nothing
 * is committed then. */
#include <criterion/criterion.h>

#include "core/bus.h"
#include "cpu/exec.h"
#include "fpu_support.h"

static u8 *legacy(struct fixture *f) { return f->cpu->fpu.legacy; }
static u16 word(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static void set_word(u8 *p, u16 v) { memcpy(p, &v, 2); }
static void set_mxcsr(struct fixture *f, u32 v) { memcpy(legacy(f) + 24, &v, 4); }
static u32 get_mxcsr(struct fixture *f)
{
    u32 v;
    memcpy(&v, legacy(f) + 24, 4);
    return v;
}

#define EXPECT_EXC(f, vec, ...)                                                                               \
    do {                                                                                                      \
        cr_expect_not(RUN((f)->cpu, __VA_ARGS__), #__VA_ARGS__);                                              \
        cr_expect_eq((f)->cpu->exc.vector, (vec), #__VA_ARGS__ ": vector %d", (f)->cpu->exc.vector);          \
    } while (0)
#define EXPECT_OK(f, ...) cr_expect(RUN((f)->cpu, __VA_ARGS__), #__VA_ARGS__ ": vector %d", (f)->cpu->exc.vector)

#define FADD     0xd8, 0xc1
#define FWAIT    0x9b
#define FNINIT   0xdb, 0xe3
#define ADDPS    0x0f, 0x58, 0xc1
#define PXOR     0x66, 0x0f, 0xef, 0xc1
#define MOVAPS   0x0f, 0x28, 0xc1
#define PADDB_MM 0x0f, 0xfc, 0xc1
#define PADDQ_MM 0x0f, 0xd4, 0xc1
#define EMMS     0x0f, 0x77
#define CVTPI2PS 0x0f, 0x2a, 0xc1
#define CVTPI2PD_M 0x66, 0x0f, 0x2a, 0x03
#define VPXOR    0xc5, 0xf9, 0xef, 0xc1
#define VADDPS   0xc5, 0xfc, 0x58, 0xc1
#define FXSAVE   0x0f, 0xae, 0x03
#define XSAVE    0x0f, 0xae, 0x23
#define LDMXCSR  0x0f, 0xae, 0x13
#define STMXCSR  0x0f, 0xae, 0x1b
#define MOVNTI   0x0f, 0xc3, 0x03

Test(fpu_guard, control_register_bits)
{
    struct fixture f;
    fixture_open(&f, CODE_64);
    struct cpu *c = f.cpu;
    c->regs[R_BX] = 0x1000;
    EXPECT_OK(&f, FNINIT);
    EXPECT_OK(&f, FADD);

    c->cr0 |= CR0_TS;
    EXPECT_EXC(&f, EXC_NM, FADD);
    EXPECT_EXC(&f, EXC_NM, FNINIT);
    EXPECT_OK(&f, FWAIT);
    EXPECT_EXC(&f, EXC_NM, ADDPS);
    EXPECT_EXC(&f, EXC_NM, PXOR);
    EXPECT_EXC(&f, EXC_NM, MOVAPS);
    EXPECT_EXC(&f, EXC_NM, PADDB_MM);
    EXPECT_EXC(&f, EXC_NM, EMMS);
    EXPECT_EXC(&f, EXC_NM, VPXOR);
    EXPECT_EXC(&f, EXC_NM, FXSAVE);
    EXPECT_EXC(&f, EXC_NM, XSAVE);
    EXPECT_EXC(&f, EXC_NM, LDMXCSR);
    EXPECT_EXC(&f, EXC_NM, STMXCSR);
    EXPECT_OK(&f, MOVNTI);
    c->cr0 |= CR0_MP;
    EXPECT_EXC(&f, EXC_NM, FWAIT);

    c->cr0 = (c->cr0 & ~(u64)(CR0_TS | CR0_MP)) | CR0_EM;
    EXPECT_EXC(&f, EXC_NM, FADD);
    EXPECT_EXC(&f, EXC_NM, FXSAVE);
    EXPECT_OK(&f, FWAIT);
    EXPECT_EXC(&f, EXC_UD, ADDPS);
    EXPECT_EXC(&f, EXC_UD, MOVAPS);
    EXPECT_EXC(&f, EXC_UD, PADDB_MM);
    EXPECT_EXC(&f, EXC_UD, EMMS);
    EXPECT_EXC(&f, EXC_UD, LDMXCSR);
    EXPECT_OK(&f, VPXOR); /* VEX does not look at EM */
    EXPECT_OK(&f, XSAVE);
    c->cr0 |= CR0_TS;
    EXPECT_EXC(&f, EXC_UD, ADDPS); /* #UD comes first */
    EXPECT_EXC(&f, EXC_UD, PADDB_MM);
    c->cr0 &= ~(u64)(CR0_EM | CR0_TS);

    c->cr4 &= ~(u64)CR4_OSFXSR;
    EXPECT_EXC(&f, EXC_UD, ADDPS);
    EXPECT_EXC(&f, EXC_UD, PXOR);
    EXPECT_EXC(&f, EXC_UD, CVTPI2PS);
    EXPECT_EXC(&f, EXC_UD, LDMXCSR);
    EXPECT_OK(&f, PADDB_MM);
    EXPECT_OK(&f, PADDQ_MM);
    EXPECT_OK(&f, FXSAVE);
    EXPECT_OK(&f, VPXOR);
    c->cr4 |= CR4_OSFXSR;

    c->cr4 &= ~(u64)CR4_OSXSAVE;
    EXPECT_EXC(&f, EXC_UD, VPXOR);
    EXPECT_EXC(&f, EXC_UD, XSAVE);
    c->cr4 |= CR4_OSXSAVE;
    c->xcr0 = 3;
    EXPECT_EXC(&f, EXC_UD, VPXOR);
    EXPECT_EXC(&f, EXC_UD, VADDPS);
    EXPECT_OK(&f, XSAVE);
    fixture_close(&f);
}

Test(fpu_guard, vex_needs_protected_mode)
{
    struct fixture f;
    fixture_open(&f, CODE_32);
    EXPECT_OK(&f, VPXOR);
    f.cpu->cr0 &= ~(u64)CR0_PE;
    EXPECT_EXC(&f, EXC_UD, VPXOR);
    EXPECT_OK(&f, PXOR);
    f.cpu->cr0 |= CR0_PE;
    f.cpu->eflags |= EFLAGS_VM;
    EXPECT_EXC(&f, EXC_UD, VPXOR);
    fixture_close(&f);
}

Test(fpu_guard, alignment)
{
    struct fixture f;
    fixture_open(&f, CODE_64);
    struct cpu *c = f.cpu;
    c->regs[R_BX] = 0x1008;
    EXPECT_EXC(&f, EXC_GP, 0x0f, 0x28, 0x03);       /* movaps */
    EXPECT_EXC(&f, EXC_GP, 0x0f, 0x29, 0x03);       /* movaps to memory */
    EXPECT_EXC(&f, EXC_GP, 0x66, 0x0f, 0x6f, 0x03); /* movdqa */
    EXPECT_EXC(&f, EXC_GP, 0x0f, 0x58, 0x03);       /* addps */
    EXPECT_EXC(&f, EXC_GP, 0x66, 0x0f, 0xfc, 0x03); /* paddb */
    EXPECT_EXC(&f, EXC_GP, 0x0f, 0x2b, 0x03);       /* movntps */
    EXPECT_EXC(&f, EXC_GP, 0x66, 0x0f, 0xe7, 0x03); /* movntdq */
    EXPECT_EXC(&f, EXC_GP, FXSAVE);
    EXPECT_EXC(&f, EXC_GP, XSAVE);
    EXPECT_OK(&f, 0x0f, 0x10, 0x03);                /* movups */
    EXPECT_OK(&f, 0x66, 0x0f, 0x3a, 0x63, 0x03, 0); /* pcmpistri */
    EXPECT_OK(&f, 0xc5, 0xf8, 0x58, 0x03);          /* vaddps */
    EXPECT_EXC(&f, EXC_GP, 0xc5, 0xf8, 0x28, 0x03); /* vmovaps */
    c->regs[R_BX] = 0x1010;
    EXPECT_OK(&f, 0xc5, 0xf8, 0x28, 0x03);
    EXPECT_EXC(&f, EXC_GP, 0xc5, 0xfc, 0x28, 0x03); /* vmovaps ymm: 32 */
    EXPECT_OK(&f, FXSAVE);
    EXPECT_EXC(&f, EXC_GP, XSAVE); /* 64 */
    /* It is the linear address that counts. */
    c->seg[SEG_FS].base = 8;
    cpu_update_mode(c);
    EXPECT_EXC(&f, EXC_GP, 0x64, 0x0f, 0x28, 0x03);
    c->regs[R_BX] = 0x1008;
    EXPECT_OK(&f, 0x64, 0x0f, 0x28, 0x03);
    fixture_close(&f);
}

Test(fpu_guard, simd_exceptions)
{
    struct fixture f;
    fixture_open(&f, CODE_64);
    struct cpu *c = f.cpu;
    float one = 1, zero = 0;
    memcpy(legacy(&f) + 160, &one, 4);
    memcpy(legacy(&f) + 176, &zero, 4);
    set_mxcsr(&f, 0x1f80);
    EXPECT_OK(&f, 0xf3, 0x0f, 0x5e, 0xc1); /* divss xmm0, xmm1 */
    cr_expect_eq(get_mxcsr(&f), 0x1f84u);
    memcpy(legacy(&f) + 160, &one, 4);
    set_mxcsr(&f, 0x1d80); /* ZE unmasked */
    EXPECT_EXC(&f, EXC_XM, 0xf3, 0x0f, 0x5e, 0xc1);
    cr_expect_eq(get_mxcsr(&f), 0x1d84u);
    cr_expect_arr_eq(legacy(&f) + 160, &one, 4, "the result is not stored");
    c->cr4 &= ~(u64)CR4_OSXMMEXCPT;
    EXPECT_EXC(&f, EXC_UD, 0xf3, 0x0f, 0x5e, 0xc1);
    c->cr4 |= CR4_OSXMMEXCPT;
    /* The host is as it was: its own exceptions are masked. */
    volatile float d = 0;
    cr_expect(1 / d > 1e30f);

    /* An MMX destination: no change to MMX state by a fault. */
    set_mxcsr(&f, 0x1f00); /* IE unmasked */
    set_word(legacy(&f) + 2, 0x1800);
    legacy(&f)[4] = 0x18;
    memset(legacy(&f) + 160, 0xff, 16);
    u8 st[128];
    memcpy(st, legacy(&f) + 32, 128);
    EXPECT_EXC(&f, EXC_XM, 0x0f, 0x2d, 0xc0); /* cvtps2pi mm0, xmm0 */
    cr_expect_eq(word(legacy(&f) + 2), 0x1800);
    cr_expect_eq(legacy(&f)[4], 0x18);
    cr_expect_arr_eq(legacy(&f) + 32, st, 128);

    c->regs[R_BX] = 0x1000;
    memcpy(f.host + 0x1000, &(u32){0x10000}, 4);
    EXPECT_EXC(&f, EXC_GP, LDMXCSR);
    cr_expect_eq(get_mxcsr(&f), 0x1f01u);
    memset(f.host + 0x1000, 0, 512);
    memcpy(f.host + 0x1018, &(u32){0x10000}, 4);
    EXPECT_EXC(&f, EXC_GP, 0x0f, 0xae, 0x0b); /* fxrstor */
    fixture_close(&f);
}

/* Stores to a read-only segment, in 32-bit code. */
Test(fpu_guard, faulting_stores_commit_nothing)
{
    struct fixture f;
    fixture_open(&f, CODE_32);
    struct cpu *c = f.cpu;
    c->regs[R_BX] = 0x1000;
    EXPECT_OK(&f, FNINIT);
    EXPECT_OK(&f, 0xd9, 0xe8); /* fld1 */
    EXPECT_OK(&f, 0xd9, 0xeb); /* fldpi */
    c->seg[SEG_DS].attr &= (u16)~2u;
    cpu_update_mode(c);
    static const u8 stores[][3] = {{0xd9, 0x13}, {0xd9, 0x1b}, {0xdd, 0x1b}, {0xdb, 0x3b}, {0xdf, 0x1b}, {0xdb, 0x1b},
                                   {0xdf, 0x3b}, {0xdd, 0x0b}, {0xdf, 0x33}, {0xd9, 0x33}, {0xdd, 0x33}, {0xd9, 0x3b}};
    for (unsigned k = 0; k < ARRAY_LEN(stores); k++) {
        struct xsave_area before = c->fpu;
        cr_expect_not(run_code(c, stores[k], 2));
        cr_expect_eq(c->exc.vector, EXC_GP, "store %u", k);
        cr_expect_arr_eq(&c->fpu, &before, sizeof before, "store %u", k);
    }
    set_mxcsr(&f, 0x1f80);
    memcpy(c->fpu.legacy + 160, &(float){0.1f}, 4);
    struct xsave_area before = c->fpu;
    EXPECT_EXC(&f, EXC_GP, 0xc4, 0xe3, 0x79, 0x1d, 0x03, 0x04); /* vcvtps2ph [ebx], xmm0: inexact */
    cr_expect_arr_eq(&c->fpu, &before, sizeof before);
    set_word(legacy(&f) + 2, 0x1800);
    before = c->fpu;
    EXPECT_EXC(&f, EXC_GP, 0x0f, 0x7f, 0x03); /* movq [ebx], mm0 */
    cr_expect_arr_eq(&c->fpu, &before, sizeof before);
    fixture_close(&f);
}

Test(fpu_guard, masked_elements_do_not_fault)
{
    struct fixture f;
    fixture_open(&f, CODE_32);
    struct cpu *c = f.cpu;
    c->regs[R_BX] = c->regs[R_DI] = 0x1000;
    memset(f.host + 0x1000, 0x11, 32);
    for (unsigned n = 0; n < 16; n++) legacy(&f)[160 + n] = (u8)(0xa0 + n), legacy(&f)[176 + n] = n < 8 && n % 2 ? 0x80 : 0;
    EXPECT_OK(&f, 0x66, 0x0f, 0xf7, 0xc1); /* maskmovdqu xmm0, xmm1 */
    static const u8 want[16] = {0x11, 0xa1, 0x11, 0xa3, 0x11, 0xa5, 0x11, 0xa7, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11};
    cr_expect_arr_eq(f.host + 0x1000, want, 16);
    /* The segment ends 8 bytes into the operand. Processors want all of MASKMOVDQU's, whatever the mask. */
    c->seg[SEG_DS].limit = 0x1007;
    cpu_update_mode(c);
    memset(f.host + 0x1000, 0x11, 32);
    EXPECT_EXC(&f, EXC_GP, 0x66, 0x0f, 0xf7, 0xc1);
    cr_expect_eq(f.host[0x1001], 0x11, "nothing of a faulting store is done");

    static const u32 mask[4] = {0x80000000, 0x80000000, 0, 0};
    memcpy(legacy(&f) + 176, mask, 16);
    EXPECT_OK(&f, 0xc4, 0xe2, 0x71, 0x2c, 0x13); /* vmaskmovps xmm2, xmm1, [ebx] */
    static const u32 loaded[4] = {0x11111111, 0x11111111, 0, 0};
    cr_expect_arr_eq(legacy(&f) + 160 + 32, loaded, 16);
    legacy(&f)[176 + 15] = 0x80;
    EXPECT_EXC(&f, EXC_GP, 0xc4, 0xe2, 0x71, 0x2c, 0x13);

    /* A gather that faults at its third element has done the first two. */
    static const u32 index[4] = {0, 1, 2, 3}, all[4] = {~0u, ~0u, ~0u, ~0u}, left[4] = {0, 0, ~0u, ~0u};
    memcpy(legacy(&f) + 160 + 16 * 3, index, 16);
    memcpy(legacy(&f) + 160 + 16 * 1, all, 16);
    memset(legacy(&f) + 160 + 16 * 2, 0x77, 16);
    EXPECT_EXC(&f, EXC_GP, 0xc4, 0xe2, 0x71, 0x92, 0x14, 0x9b); /* vgatherdps xmm2, [ebx + xmm3*4], xmm1 */
    cr_expect_arr_eq(legacy(&f) + 160 + 16, left, 16);
    static const u32 got[4] = {0x11111111, 0x11111111, 0x77777777, 0x77777777};
    cr_expect_arr_eq(legacy(&f) + 160 + 32, got, 16);
    fixture_close(&f);
}

/* ---- pending x87 exceptions ---- */

static void make_pending(struct fixture *f)
{
    EXPECT_OK(f, FNINIT);
    set_word(f->host + 0x1000, 0x37b); /* ZE unmasked */
    f->cpu->regs[R_BX] = 0x1000;
    EXPECT_OK(f, 0xd9, 0x2b); /* fldcw */
    EXPECT_OK(f, 0xd9, 0xe8); /* fld1 */
    EXPECT_OK(f, 0xd9, 0xee); /* fldz */
    EXPECT_OK(f, 0xde, 0xf9); /* fdivp: raises, does not trap yet, nor pop */
    cr_expect_eq(word(legacy(f) + 2) & 0x80bf, 0x8084);
    cr_expect_eq(word(legacy(f) + 2) >> 11 & 7, 6);
}

Test(fpu_guard, pending_exception_is_mf)
{
    struct fixture f;
    fixture_open(&f, CODE_64);
    make_pending(&f);
    EXPECT_EXC(&f, EXC_MF, FADD);
    EXPECT_EXC(&f, EXC_MF, FWAIT);
    EXPECT_EXC(&f, EXC_MF, PADDB_MM);
    EXPECT_EXC(&f, EXC_MF, EMMS);
    EXPECT_EXC(&f, EXC_MF, CVTPI2PS);
    EXPECT_EXC(&f, EXC_MF, 0xd9, 0x2b); /* fldcw */
    EXPECT_EXC(&f, EXC_MF, 0xd9, 0xd0); /* fnop */
    EXPECT_EXC(&f, EXC_MF, 0xd9, 0xc9); /* fxch */
    EXPECT_OK(&f, CVTPI2PD_M);
    EXPECT_OK(&f, ADDPS);
    EXPECT_OK(&f, FXSAVE);
    EXPECT_OK(&f, 0xdf, 0xe0); /* fnstsw ax */
    cr_expect_eq(f.cpu->regs[R_AX] & 0xffff, 0xb084u);
    EXPECT_OK(&f, 0xd9, 0x3b); /* fnstcw */
    EXPECT_OK(&f, 0xdb, 0xe2); /* fnclex */
    EXPECT_OK(&f, FADD);
    make_pending(&f);
    EXPECT_OK(&f, 0xd9, 0x33); /* fnstenv masks all */
    cr_expect_eq(word(f.host + 0x1004), 0xb084);
    EXPECT_OK(&f, FADD);
    make_pending(&f);
    EXPECT_OK(&f, 0xdd, 0x33); /* fnsave */
    EXPECT_OK(&f, FADD);
    cr_expect_eq(f.ferr_calls, 0);
    fixture_close(&f);
}

Test(fpu_guard, pending_exception_without_ne)
{
    struct fixture f;
    fixture_open(&f, CODE_32);
    f.cpu->cr0 &= ~(u64)CR0_NE;
    make_pending(&f);
    cr_expect_eq(f.ferr, 0);
    /* An interrupt is about to come: wait for it at this instruction. */
    f.cpu->eflags |= EFLAGS_IF;
    cpu_event_set(f.cpu, EVENT_INTR);
    cr_expect_not(RUN(f.cpu, FADD));
    cr_expect_lt(f.cpu->exc.vector, 0);
    cr_expect_eq(f.cpu->rip, INSN_RIP);
    cr_expect_eq(f.ferr, 1);
    /* In its handler the x87 can be used. */
    f.cpu->eflags &= ~EFLAGS_IF;
    cpu_event_clear(f.cpu, EVENT_INTR);
    EXPECT_OK(&f, FADD);
    EXPECT_OK(&f, 0xdb, 0x3b); /* fstp tbyte */
    EXPECT_OK(&f, 0xdb, 0x2b);
    EXPECT_OK(&f, 0xd9, 0xf5); /* fprem1, the full way */
    cr_expect_eq(word(legacy(&f) + 2) & 0x8084, 0x8084, "still pending");
    cr_expect_eq(f.ferr_calls, 1);
    EXPECT_OK(&f, 0xdb, 0xe2); /* fnclex */
    cr_expect_eq(f.ferr, 0);
    cr_expect_eq(f.ferr_calls, 2);
    fixture_close(&f);
}
