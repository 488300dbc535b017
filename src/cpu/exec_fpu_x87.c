/* Interpreter: x87.
 *
 * The register stack is kept as an FXSAVE image: slot n is ST(n), tags are by physical register. Three ways to run:
 *   full    the image is loaded into the host's x87, the same instruction runs, and the state is stored again: always
 *           right, stack faults and unmasked exceptions included (they never trap: nothing on the host waits);
 *   short   only the operands are loaded, when neither stack fault nor unmasked exception comes of it;
 *   C       moves between registers, and what has to do with control and environment.
 * The last instruction's pointers (FIP, FCS, FDP, FDS) are the guest's own. FDP and FDS, as FOP, are updated by unmasked exceptions
 * only: CPUID.7:EBX[6] says so; FOP is so since the Pentium 4 [SDM1] 8.1.8, 8.1.9.1.
 *
 * References: [SDM1] 8; [SDM2] each instruction's page. */
#include "cpu/exec_fpu.h"

#include <string.h>

/* ---- common ---- */

/* What the handlers are told of an instruction (struct fpu_op.flags). */
enum {
    X_ST0 = 0x01,     /* ST(0) must not be empty */
    X_STI = 0x02,     /* nor ST(i) */
    X_TO_ST0 = 0x04,  /* the result goes to ST(0) */
    X_TO_STI = 0x08,  /* to ST(i) */
    X_PUSH = 0x10,    /* it is pushed */
    X_POP = 0x20,
    X_POP2 = 0x40,
};

static bool x87_check(struct cpu *cpu, const struct insn *i)
{
    if (UNLIKELY(cpu->cr0 & (CR0_EM | CR0_TS))) return raise_exc(cpu, EXC_NM);
    return fpu_wait_check(cpu, i);
}

static bool x87_check_nowait(struct cpu *cpu)
{
    if (UNLIKELY(cpu->cr0 & (CR0_EM | CR0_TS))) return raise_exc(cpu, EXC_NM);
    return true;
}

static u8 *tags(struct cpu *cpu) { return &cpu->fpu.legacy[FX_TAG]; }
static u8 tag_bit(struct cpu *cpu, unsigned st) { return (u8)(1u << ((fx_top(cpu) + st) & 7)); }
static bool valid(struct cpu *cpu, unsigned st) { return *tags(cpu) & tag_bit(cpu, st); }

/* Not for control instructions [SDM1] 8.1.8. */
static void set_pointers(struct cpu *cpu, const struct insn *i)
{
    *fx64(cpu, FX_IP) = insn_rip(cpu, i);
    *fx16(cpu, FX_CS) = cpu->seg[SEG_CS].selector;
}
static void set_data_pointer(struct cpu *cpu, const struct insn *i, u64 ea)
{
    *fx64(cpu, FX_DP) = ea;
    *fx16(cpu, FX_DS) = cpu->seg[i->seg].selector;
}

typedef u64 v128 __attribute__((vector_size(16), aligned(1), may_alias));

static void push_slot(struct cpu *cpu)
{
    v128 *st = (v128 *)(void *)st_slot(cpu, 0), last = st[7];
    for (unsigned n = 7; n > 0; n--) st[n] = st[n - 1];
    st[0] = last;
    *fx16(cpu, FX_SW) = (u16)((*fx16(cpu, FX_SW) & ~0x3800u) | ((fx_top(cpu) - 1) & 7) << 11);
    *tags(cpu) |= tag_bit(cpu, 0);
}

static void pop_slot(struct cpu *cpu)
{
    v128 *st = (v128 *)(void *)st_slot(cpu, 0), first = st[0];
    *tags(cpu) &= (u8)~tag_bit(cpu, 0);
    for (unsigned n = 0; n < 7; n++) st[n] = st[n + 1];
    st[7] = first;
    *fx16(cpu, FX_SW) = (u16)((*fx16(cpu, FX_SW) & ~0x3800u) | ((fx_top(cpu) + 1) & 7) << 11);
}

static void put80(struct cpu *cpu, unsigned st, const u8 v[10])
{
    u8 *slot = st_slot(cpu, st);
    memcpy(slot, v, 10);
    memset(slot + 10, 0, 6);
    *tags(cpu) |= tag_bit(cpu, st);
}

static void clear_c1(struct cpu *cpu) { *fx16(cpu, FX_SW) &= (u16)~SW_C1; }

/* ---- the full way ---- */

static bool x87_full(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    u8 out[512] __attribute__((aligned(64)));
    u8 bounce[16] __attribute__((aligned(16)));
    u64 ea = 0;
    void *mem = bounce;
    bool store = false;

    TRY(x87_check(cpu, i));
    if (op->mem >= 0) {
        ea = insn_ea(cpu, i);
        store = op->mem_access & OPND_WRITE;
        if (!store) {
            TRY(mem_read_block(cpu, i->seg, ea, bounce, op->mem_size));
        } else {
            /* A store that does not happen does not fault, whatever its address. */
            memset(bounce, 0, sizeof bounce);
        }
    }
    /* Ignored pending exceptions (fpu_pending()) must not be seen by the host. */
    u16 *sw = fx16(cpu, FX_SW), ignored = 0;
    if (UNLIKELY(*sw & SW_ES)) {
        ignored = *sw & ~*fx16(cpu, FX_CW) & SW_FLAGS;
        *sw = fx_fix_sw(*sw & (u16)~ignored, *fx16(cpu, FX_CW));
    }
    op->run.x87(cpu->fpu.legacy, out, mem, cpu);
    u16 new_sw;
    memcpy(&new_sw, out + FX_SW, 2);
    bool raised = new_sw & SW_ES;

    if (store) {
        /* Unmasked exceptions but precision suppress the store: with two different backgrounds it can be told. */
        bool stored = true;
        if (raised) {
            u8 first[16];
            memcpy(first, bounce, sizeof first);
            memset(bounce, 0xff, sizeof bounce);
            op->run.x87(cpu->fpu.legacy, out, mem, cpu);
            stored = !memcmp(first, bounce, op->mem_size);
        }
        if (stored && !mem_write_block(cpu, i->seg, ea, bounce, op->mem_size)) {
            *sw = fx_fix_sw(*sw | ignored, *fx16(cpu, FX_CW));
            return false;
        }
    }
    memcpy(cpu->fpu.legacy, out, FX_OP);
    *sw = fx_fix_sw(*sw | ignored, *fx16(cpu, FX_CW));
    memcpy(st_slot(cpu, 0), out + FX_ST, 128);
    set_pointers(cpu, i);
    if (raised) {
        *fx16(cpu, FX_OP) = (u16)((i->code & 7) << 8 | i->modrm);
        if (op->mem >= 0) set_data_pointer(cpu, i, ea);
    }
    return true;
}

/* ---- the short way ---- */

static bool x87_short(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    unsigned how = op->flags, n = op->guard;
    u8 result[16] __attribute__((aligned(16))), bounce[16] __attribute__((aligned(16)));
    void *mem = bounce;
    u64 ea = 0;
    bool write_back = false;

    TRY(x87_check(cpu, i));
    if (UNLIKELY((*fx16(cpu, FX_SW) & SW_ES) || ((how & X_ST0) && !valid(cpu, 0)) || ((how & X_STI) && !valid(cpu, n)) ||
                 ((how & X_PUSH) && valid(cpu, 7))))
        return x87_full(cpu, i, op);
    if (op->mem >= 0) {
        ea = insn_ea(cpu, i);
        bool store = op->mem_access & OPND_WRITE;
        mem = mem_fast(cpu, i->seg, ea, op->mem_size, store);
        if (UNLIKELY(!mem)) {
            mem = bounce;
            write_back = store;
            if (!store) TRY(mem_read_block(cpu, i->seg, ea, bounce, op->mem_size));
        }
    }
    u8 *out = how & X_TO_ST0 ? st_slot(cpu, 0) : how & X_TO_STI ? st_slot(cpu, n) : result;
    unsigned r = op->brief(st_slot(cpu, 0), st_slot(cpu, n), out, mem, cpu);
    if (UNLIKELY(r & FPU_X87_RETRY)) return x87_full(cpu, i, op);
    if (UNLIKELY(write_back)) TRY(mem_write_block(cpu, i->seg, ea, bounce, op->mem_size));

    u16 *sw = fx16(cpu, FX_SW);
    *sw = (u16)((*sw & ~op->mask) | (r & (op->mask | SW_FLAGS)));
    if (how & X_PUSH) {
        push_slot(cpu);
        put80(cpu, 0, result);
    }
    if (how & (X_POP | X_POP2)) pop_slot(cpu);
    if (how & X_POP2) pop_slot(cpu);
    set_pointers(cpu, i);
    return true;
}

/* Where operands come from and go to, and which condition bits change, for those with a short form. guard is the i of
 * ST(i). */
static void x87_setup(struct fpu_op *op, const struct insn *i)
{
    bool mem = op->mem >= 0;
    unsigned in = X_ST0 | (mem ? 0 : X_STI);
    op->mask = SW_C1;
    op->guard = i->modrm & 7;
    switch (i->mnemonic) {
    case I_fadd:
    case I_fmul:
    case I_fsub:
    case I_fsubr:
    case I_fdiv:
    case I_fdivr:
    case I_fiadd:
    case I_fimul:
    case I_fisub:
    case I_fisubr:
    case I_fidiv:
    case I_fidivr: op->flags = (u8)(in | (i->code == 0xdc && !mem ? X_TO_STI : X_TO_ST0)); break;
    case I_faddp:
    case I_fmulp:
    case I_fsubp:
    case I_fsubrp:
    case I_fdivp:
    case I_fdivrp: op->flags = X_ST0 | X_STI | X_TO_STI | X_POP; break;
    case I_fcom:
    case I_ficom:
    case I_fucom:
        op->flags = (u8)in;
        op->mask = SW_C0 | SW_C1 | SW_C2 | SW_C3;
        break;
    case I_fcomp:
    case I_ficomp:
    case I_fucomp:
        op->flags = (u8)(in | X_POP);
        op->mask = SW_C0 | SW_C1 | SW_C2 | SW_C3;
        break;
    case I_fcompp:
    case I_fucompp:
        op->flags = X_ST0 | X_STI | X_POP2;
        op->guard = 1;
        op->mask = SW_C0 | SW_C1 | SW_C2 | SW_C3;
        break;
    case I_fcomi: /* these leave C1 alone */
    case I_fucomi:
        op->flags = X_ST0 | X_STI;
        op->mask = 0;
        break;
    case I_fcomip:
    case I_fucomip:
        op->flags = X_ST0 | X_STI | X_POP;
        op->mask = 0;
        break;
    case I_fld:
    case I_fild:
    case I_fld1:
    case I_fldl2t:
    case I_fldl2e:
    case I_fldpi:
    case I_fldlg2:
    case I_fldln2:
    case I_fldz: op->flags = X_PUSH; break;
    case I_fst:
    case I_fist: op->flags = X_ST0; break;
    case I_fstp:
    case I_fistp:
    case I_fisttp: op->flags = X_ST0 | X_POP; break;
    case I_fsqrt:
    case I_frndint:
    case I_f2xm1: op->flags = X_ST0 | X_TO_ST0; break;
    case I_fsin:
    case I_fcos:
        op->flags = X_ST0 | X_TO_ST0;
        op->mask = SW_C1 | SW_C2;
        break;
    case I_fscale:
        op->flags = X_ST0 | X_STI | X_TO_ST0;
        op->guard = 1;
        break;
    case I_fprem:
    case I_fprem1:
        op->flags = X_ST0 | X_STI | X_TO_ST0;
        op->guard = 1;
        op->mask = SW_C0 | SW_C1 | SW_C2 | SW_C3;
        break;
    case I_fyl2x:
    case I_fyl2xp1:
    case I_fpatan:
        op->flags = X_ST0 | X_STI | X_TO_STI | X_POP;
        op->guard = 1;
        break;
    case I_ftst:
    case I_fxam:
        op->flags = X_ST0;
        op->mask = SW_C0 | SW_C1 | SW_C2 | SW_C3;
        break;
    default: break;
    }
}

/* ---- registers to registers, in C; stack faults go the full way ---- */

static bool fld_sti(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    TRY(x87_check(cpu, i));
    unsigned n = i->modrm & 7;
    if (!valid(cpu, n) || valid(cpu, 7)) return x87_full(cpu, i, op);
    u8 v[10];
    memcpy(v, st_slot(cpu, n), 10);
    push_slot(cpu);
    put80(cpu, 0, v);
    clear_c1(cpu);
    set_pointers(cpu, i);
    return true;
}

static bool fld_m80(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    TRY(x87_check(cpu, i));
    if (valid(cpu, 7)) return x87_full(cpu, i, op);
    u8 v[10];
    u64 ea = insn_ea(cpu, i);
    TRY(mem_read_block(cpu, i->seg, ea, v, 10));
    push_slot(cpu);
    put80(cpu, 0, v);
    clear_c1(cpu);
    set_pointers(cpu, i);
    return true;
}

static bool fst_sti(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    TRY(x87_check(cpu, i));
    if (!valid(cpu, 0)) return x87_full(cpu, i, op);
    unsigned n = i->modrm & 7;
    if (n) put80(cpu, n, st_slot(cpu, 0));
    clear_c1(cpu);
    if (i->mnemonic == I_fstp) pop_slot(cpu);
    set_pointers(cpu, i);
    return true;
}

static bool fstp_m80(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    TRY(x87_check(cpu, i));
    if (!valid(cpu, 0)) return x87_full(cpu, i, op);
    u64 ea = insn_ea(cpu, i);
    TRY(mem_write_block(cpu, i->seg, ea, st_slot(cpu, 0), 10));
    clear_c1(cpu);
    pop_slot(cpu);
    set_pointers(cpu, i);
    return true;
}

static bool fxch(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    TRY(x87_check(cpu, i));
    unsigned n = i->modrm & 7;
    if (!valid(cpu, 0) || !valid(cpu, n)) return x87_full(cpu, i, op);
    v128 *a = (v128 *)(void *)st_slot(cpu, 0), *b = (v128 *)(void *)st_slot(cpu, n), t = *a;
    *a = *b;
    *b = t;
    clear_c1(cpu);
    set_pointers(cpu, i);
    return true;
}

static bool fchs_fabs(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    TRY(x87_check(cpu, i));
    if (!valid(cpu, 0)) return x87_full(cpu, i, op);
    u8 *sign = st_slot(cpu, 0) + 9;
    *sign = i->mnemonic == I_fchs ? *sign ^ 0x80 : *sign & 0x7f;
    clear_c1(cpu);
    set_pointers(cpu, i);
    return true;
}

static bool normal(const u8 *slot)
{
    u16 exponent;
    memcpy(&exponent, slot + 8, 2);
    exponent &= 0x7fff;
    return exponent != 0 && exponent != 0x7fff && (slot[7] & 0x80);
}

/* FPREM, FPREM1: for special operands some of the condition bits are left alone. */
static bool fprem(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    if (normal(st_slot(cpu, 0)) && normal(st_slot(cpu, 1))) return x87_short(cpu, i, op);
    return x87_full(cpu, i, op);
}

/* DA C0..DF: B, E, BE, U; DB: their opposites. */
static bool fcmov(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    TRY(x87_check(cpu, i));
    unsigned n = i->modrm & 7;
    if (!valid(cpu, 0) || !valid(cpu, n)) return x87_full(cpu, i, op);
    static const u16 flags[4] = {AFLAG_CF, AFLAG_ZF, AFLAG_CF | AFLAG_ZF, AFLAG_PF};
    bool set = cpu->aflags & flags[i->modrm >> 3 & 3];
    if (set == (i->code == 0xda)) memmove(st_slot(cpu, 0), st_slot(cpu, n), 16);
    set_pointers(cpu, i);
    return true;
}

/* FNOP, FINCSTP, FDECSTP, FFREE, FFREEP: they wait, and count for the instruction pointer. */
static bool fnop(struct cpu *cpu, const struct insn *i)
{
    TRY(x87_check(cpu, i));
    unsigned n = i->modrm & 7;
    switch (i->mnemonic) {
    case I_fincstp: fpu_set_top(cpu, (fx_top(cpu) + 1) & 7); break;
    case I_fdecstp: fpu_set_top(cpu, (fx_top(cpu) - 1) & 7); break;
    case I_ffreep:
        *tags(cpu) &= (u8)~tag_bit(cpu, n);
        pop_slot(cpu);
        break;
    case I_ffree: *tags(cpu) &= (u8)~tag_bit(cpu, n); break;
    default: break;
    }
    if (i->mnemonic != I_fnop) clear_c1(cpu);
    set_pointers(cpu, i);
    return true;
}

/* ---- control ---- */

static bool fwait(struct cpu *cpu, const struct insn *i)
{
    if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) return raise_exc(cpu, EXC_NM);
    return fpu_wait_check(cpu, i);
}

/* FNENI, FNDISI, FNSETPM: of the 8087 and the 80287, without effect since. */
static bool fneni(struct cpu *cpu, const struct insn *i)
{
    (void)i;
    return x87_check_nowait(cpu);
}

static bool fnstcw(struct cpu *cpu, const struct insn *i)
{
    TRY(x87_check_nowait(cpu));
    return mem_write16(cpu, i->seg, insn_ea(cpu, i), *fx16(cpu, FX_CW));
}

static bool fnstsw(struct cpu *cpu, const struct insn *i)
{
    TRY(x87_check_nowait(cpu));
    u16 sw = *fx16(cpu, FX_SW);
    if (i->operands[0].kind == OPND_MEM) return mem_write16(cpu, i->seg, insn_ea(cpu, i), sw);
    reg_set(cpu, R_AX, 2, sw);
    return true;
}

static bool fldcw(struct cpu *cpu, const struct insn *i)
{
    TRY(x87_check(cpu, i));
    u16 cw;
    TRY(mem_read16(cpu, i->seg, insn_ea(cpu, i), &cw));
    *fx16(cpu, FX_CW) = fx_fix_cw(cw);
    *fx16(cpu, FX_SW) = fx_fix_sw(*fx16(cpu, FX_SW), *fx16(cpu, FX_CW));
    return true;
}

static bool fnclex(struct cpu *cpu, const struct insn *i)
{
    (void)i;
    TRY(x87_check_nowait(cpu));
    *fx16(cpu, FX_SW) &= 0x7f00;
    fpu_update_ferr(cpu);
    return true;
}

void fpu_x87_init(struct cpu *cpu)
{
    fpu_set_top(cpu, 0);
    *fx16(cpu, FX_CW) = 0x37f;
    *fx16(cpu, FX_SW) = 0;
    *tags(cpu) = 0;
    *fx16(cpu, FX_OP) = 0;
    *fx64(cpu, FX_IP) = *fx64(cpu, FX_DP) = 0;
    *fx16(cpu, FX_CS) = *fx16(cpu, FX_DS) = 0;
    fpu_update_ferr(cpu);
}

static bool fninit(struct cpu *cpu, const struct insn *i)
{
    (void)i;
    TRY(x87_check_nowait(cpu));
    fpu_x87_init(cpu);
    return true;
}

/* ---- environment ---- */

static unsigned env_size(const struct insn *i) { return i->opsize == 2 ? 14 : 28; }
static bool env_real(const struct cpu *cpu) { return !cpu_protected(cpu) || cpu_v86(cpu); }

static void put16(u8 *p, u32 v) { memcpy(p, &(u16){(u16)v}, 2); }
static void put32(u8 *p, u32 v) { memcpy(p, &v, 4); }
static u32 get16(const u8 *p)
{
    u16 v;
    memcpy(&v, p, 2);
    return v;
}
static u32 get32(const u8 *p)
{
    u32 v;
    memcpy(&v, p, 4);
    return v;
}

/* The two-bit tags of the environment, from the contents [SDM1] 8.1.7. */
static u16 full_tags(struct cpu *cpu)
{
    unsigned top = fx_top(cpu);
    u16 tw = 0;
    for (unsigned r = 0; r < 8; r++) {
        unsigned tag = 3;
        if (*tags(cpu) >> r & 1) {
            const u8 *slot = st_slot(cpu, (r - top) & 7);
            u64 mantissa;
            memcpy(&mantissa, slot, 8);
            u32 exponent = get16(slot + 8) & 0x7fff;
            if (exponent == 0 && mantissa == 0) tag = 1;
            else if (exponent == 0 || exponent == 0x7fff || !(mantissa >> 63)) tag = 2;
            else tag = 0;
        }
        tw |= (u16)(tag << 2 * r);
    }
    return tw;
}

/* Formats: [SDM1] figures 8-9 to 8-12. Reserved upper halves read as ones. */
static void env_build(struct cpu *cpu, const struct insn *i, u8 *e)
{
    u32 cw = *fx16(cpu, FX_CW), sw = *fx16(cpu, FX_SW), tw = full_tags(cpu), fop = *fx16(cpu, FX_OP) & 0x7ffu;
    u64 ip = *fx64(cpu, FX_IP), dp = *fx64(cpu, FX_DP);
    u32 cs = *fx16(cpu, FX_CS), ds = *fx16(cpu, FX_DS);
    bool real = env_real(cpu);
    if (real) {
        ip += cs << 4;
        dp += ds << 4;
    }
    if (i->opsize == 2) {
        put16(e, cw);
        put16(e + 2, sw);
        put16(e + 4, tw);
        put16(e + 6, (u32)ip);
        put16(e + 8, real ? (u32)(ip >> 4 & 0xf000) | fop : cs);
        put16(e + 10, (u32)dp);
        put16(e + 12, real ? (u32)(dp >> 4 & 0xf000) : ds);
        return;
    }
    put32(e, cw | 0xffff0000u);
    put32(e + 4, sw | 0xffff0000u);
    put32(e + 8, tw | 0xffff0000u);
    if (real) {
        put32(e + 12, (u32)(ip & 0xffff) | 0xffff0000u);
        put32(e + 16, (u32)(ip >> 16 & 0xffff) << 12 | fop);
        put32(e + 20, (u32)(dp & 0xffff) | 0xffff0000u);
        put32(e + 24, (u32)(dp >> 16 & 0xffff) << 12);
    } else {
        put32(e + 12, (u32)ip);
        put32(e + 16, cs | fop << 16);
        put32(e + 20, (u32)dp);
        put32(e + 24, ds | 0xffff0000u);
    }
}

/* Turns no registers: TOP changes what their slots mean, the caller sees to that. */
static void env_load(struct cpu *cpu, const struct insn *i, const u8 *e)
{
    bool real = env_real(cpu);
    unsigned step = i->opsize == 2 ? 2 : 4;
    u16 cw = fx_fix_cw((u16)get16(e)), sw = fx_fix_sw((u16)get16(e + step), cw);
    u32 tw = get16(e + 2 * step), ip, dp, cs = 0, ds = 0, fop = *fx16(cpu, FX_OP);
    if (step == 2) {
        ip = get16(e + 6);
        dp = get16(e + 10);
        if (real) {
            ip |= (get16(e + 8) & 0xf000) << 4;
            dp |= (get16(e + 12) & 0xf000) << 4;
            fop = get16(e + 8) & 0x7ff;
        } else {
            cs = get16(e + 8);
            ds = get16(e + 12);
            fop = 0; /* this format has no room for it */
        }
    } else if (real) {
        ip = get16(e + 12) | (get32(e + 16) >> 12 & 0xffff) << 16;
        dp = get16(e + 20) | (get32(e + 24) >> 12 & 0xffff) << 16;
        fop = get16(e + 16) & 0x7ff;
    } else {
        ip = get32(e + 12);
        cs = get16(e + 16);
        fop = get16(e + 18) & 0x7ff;
        dp = get32(e + 20);
        ds = get16(e + 24);
    }
    *fx16(cpu, FX_CW) = cw;
    *fx16(cpu, FX_SW) = sw;
    u8 abridged = 0;
    for (unsigned r = 0; r < 8; r++)
        if ((tw >> 2 * r & 3) != 3) abridged |= (u8)(1u << r);
    *tags(cpu) = abridged;
    *fx16(cpu, FX_OP) = (u16)fop;
    *fx64(cpu, FX_IP) = ip;
    *fx64(cpu, FX_DP) = dp;
    *fx16(cpu, FX_CS) = (u16)cs;
    *fx16(cpu, FX_DS) = (u16)ds;
    fpu_update_ferr(cpu);
}

/* Environments and states are aligned like their fields [SDM3] table 6-7. */
static bool env_aligned(struct cpu *cpu, const struct insn *i, bool write)
{
    gla lin;
    return seg_linear(cpu, i->seg, insn_ea(cpu, i), i->opsize == 2 ? 2 : 4, write, &lin);
}

static bool fnstenv(struct cpu *cpu, const struct insn *i)
{
    TRY(x87_check_nowait(cpu));
    TRY(env_aligned(cpu, i, true));
    u8 e[28];
    env_build(cpu, i, e);
    TRY(mem_write_block(cpu, i->seg, insn_ea(cpu, i), e, env_size(i)));
    *fx16(cpu, FX_CW) |= SW_FLAGS; /* masks all exceptions */
    *fx16(cpu, FX_SW) = fx_fix_sw(*fx16(cpu, FX_SW), *fx16(cpu, FX_CW));
    fpu_update_ferr(cpu);
    return true;
}

static bool fldenv(struct cpu *cpu, const struct insn *i)
{
    TRY(x87_check(cpu, i));
    TRY(env_aligned(cpu, i, false));
    u8 e[28];
    TRY(mem_read_block(cpu, i->seg, insn_ea(cpu, i), e, env_size(i)));
    fpu_set_top(cpu, get16(e + (i->opsize == 2 ? 2 : 4)) >> 11 & 7);
    env_load(cpu, i, e);
    return true;
}

static bool fnsave(struct cpu *cpu, const struct insn *i)
{
    TRY(x87_check_nowait(cpu));
    TRY(env_aligned(cpu, i, true));
    u8 e[108];
    unsigned size = env_size(i);
    env_build(cpu, i, e);
    for (unsigned n = 0; n < 8; n++) memcpy(e + size + 10 * n, st_slot(cpu, n), 10);
    TRY(mem_write_block(cpu, i->seg, insn_ea(cpu, i), e, size + 80));
    fpu_x87_init(cpu);
    return true;
}

static bool frstor(struct cpu *cpu, const struct insn *i)
{
    TRY(x87_check(cpu, i));
    TRY(env_aligned(cpu, i, false));
    u8 e[108];
    unsigned size = env_size(i);
    TRY(mem_read_block(cpu, i->seg, insn_ea(cpu, i), e, size + 80));
    env_load(cpu, i, e);
    u8 keep = *tags(cpu);
    for (unsigned n = 0; n < 8; n++) put80(cpu, n, e + size + 10 * n);
    *tags(cpu) = keep;
    return true;
}

/* ---- selection ---- */

static const struct fpu_binding bind_full = {x87_full, x87_setup};
static const struct fpu_binding bind_short = {x87_short, x87_setup};
static const struct fpu_binding bind_fld_sti = {fld_sti, x87_setup};
static const struct fpu_binding bind_fld_m80 = {fld_m80, x87_setup};
static const struct fpu_binding bind_fst_sti = {fst_sti, x87_setup};
static const struct fpu_binding bind_fstp_m80 = {fstp_m80, x87_setup};
static const struct fpu_binding bind_fxch = {fxch, x87_setup};
static const struct fpu_binding bind_fprem = {fprem, x87_setup};
static const struct fpu_binding bind_fcmov = {fcmov, x87_setup};
static const struct fpu_binding bind_fchs = {fchs_fabs, x87_setup};

static bool x87_uncached(struct cpu *cpu, const struct insn *i) { return fpu_host_uncached(cpu, i, &bind_full); }

static const struct fpu_binding *x87_binding(const struct insn *i)
{
    bool mem = i->modrm < 0xc0;
    switch (i->mnemonic) {
    case I_fld: return !mem ? &bind_fld_sti : i->operands[0].size == 10 ? &bind_fld_m80 : &bind_short;
    case I_fst:
    case I_fstp: return !mem ? &bind_fst_sti : i->operands[0].size == 10 ? &bind_fstp_m80 : &bind_short;
    case I_fxch: return &bind_fxch;
    case I_fchs:
    case I_fabs: return &bind_fchs;
    case I_fbld:
    case I_fbstp:
    case I_fptan:
    case I_fsincos:
    case I_fxtract: return &bind_full;
    case I_fprem:
    case I_fprem1: return &bind_fprem;
    case I_fcmovb:
    case I_fcmove:
    case I_fcmovbe:
    case I_fcmovu:
    case I_fcmovnb:
    case I_fcmovne:
    case I_fcmovnbe:
    case I_fcmovnu: return &bind_fcmov;
    default: return &bind_short;
    }
}

exec_fn *exec_select_x87(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_fwait: return fwait;
    case I_fneni:
    case I_fndisi:
    case I_fnsetpm: return fneni;
    case I_fnstcw: return fnstcw;
    case I_fnstsw: return fnstsw;
    case I_fldcw: return fldcw;
    case I_fnclex: return fnclex;
    case I_fninit: return fninit;
    case I_fnstenv: return fnstenv;
    case I_fldenv: return fldenv;
    case I_fnsave: return fnsave;
    case I_frstor: return frstor;
    case I_fnop:
    case I_fincstp:
    case I_fdecstp:
    case I_ffree:
    case I_ffreep: return fnop;
    default: break;
    }
    const struct fpu_op *op = fpu_host_op(i, x87_binding(i));
    return op ? op->entry : x87_uncached;
}
