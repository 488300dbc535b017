/* Interpreter: selection and guards of the x87 and vector instructions, and the vector instructions that run as host
 * instructions (all but those with a handler of their own in the other exec_fpu_*.c files).
 *
 * Exact by construction: see fpu_host.h. What is done here is what is not the instruction itself: #UD, #NM, #MF and
 * alignment checks [SDM2] 2.4 (exception classes), memory operands, and nothing committed when something faults.
 *
 * References: [SDM1] 8, 9, 11; [SDM2] 2.4; [SDM3A] 2.5 (CR0.EM, MP, TS, NE), 13.1. */
#include "cpu/exec_fpu.h"

#include <string.h>

/* ---- guards ---- */

bool fpu_sse_denied(struct cpu *cpu)
{
    if ((cpu->cr0 & CR0_EM) || !(cpu->cr4 & CR4_OSFXSR)) return raise_ud(cpu);
    return raise_exc(cpu, EXC_NM);
}

bool fpu_avx_check(struct cpu *cpu)
{
    if (!(cpu->cr4 & CR4_OSXSAVE) || (cpu->xcr0 & 6) != 6 || !cpu_protected(cpu) || cpu_v86(cpu)) return raise_ud(cpu);
    if (cpu->cr0 & CR0_TS) return raise_exc(cpu, EXC_NM);
    return true;
}

bool fpu_mmx_check(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cr0 & CR0_EM) return raise_ud(cpu);
    if (cpu->cr0 & CR0_TS) return raise_exc(cpu, EXC_NM);
    return fpu_wait_check(cpu, i);
}

/* An unmasked x87 exception is pending. With CR0.NE it is #MF. Without, the processor asserts FERR# (IRQ 13 on a PC) and
 * stops until an interrupt comes, or goes on when IGNNE# is asserted [SDM1] D.2. The machine's IGNNE# latch is not visible
 * here: the processor waits as long as there is an interrupt about to be taken, else it goes on as with IGNNE#.
 * DEVIATION: with IRQ 13 masked it would hang on hardware. */
bool fpu_pending(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cr0 & CR0_NE) return raise_exc(cpu, EXC_MF);
    const struct cpu_hooks *h = cpu->hooks;
    u8 *ferr = &cpu->fpu.legacy[FX_FERR];
    if (!*ferr && h && h->ferr) {
        *ferr = 1;
        if (h->lock) h->lock(h->opaque);
        h->ferr(h->opaque, 1);
        if (h->unlock) h->unlock(h->opaque);
    }
    bool interrupt_comes = (cpu->eflags & EFLAGS_IF) && (__atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST) & EVENT_INTR);
    if (!interrupt_comes) return true;
    cpu->rip = insn_rip(cpu, i);
    return false;
}

void fpu_update_ferr(struct cpu *cpu)
{
    const struct cpu_hooks *h = cpu->hooks;
    u8 *ferr = &cpu->fpu.legacy[FX_FERR];
    if (LIKELY(!*ferr) || (*fx16(cpu, FX_SW) & SW_ES)) return;
    *ferr = 0;
    if (!h || !h->ferr) return;
    if (h->lock) h->lock(h->opaque);
    h->ferr(h->opaque, 0);
    if (h->unlock) h->unlock(h->opaque);
}

void fpu_set_top(struct cpu *cpu, unsigned top)
{
    unsigned turn = (top - fx_top(cpu)) & 7;
    if (turn == 0) return;
    u8 old[128];
    memcpy(old, st_slot(cpu, 0), sizeof old);
    for (unsigned n = 0; n < 8; n++) memcpy(st_slot(cpu, n), old + 16 * ((n + turn) & 7), 16);
    *fx16(cpu, FX_SW) = (u16)((*fx16(cpu, FX_SW) & ~0x3800u) | top << 11);
}

bool fpu_aligned(struct cpu *cpu, const struct insn *i, u64 ea, unsigned size, unsigned align, bool write)
{
    gla lin = (cpu->win[i->seg].base + ea) & cpu->lin_mask;
    (void)size, (void)write;
    return LIKELY(!(lin & (align - 1))) ? true : raise_gp0(cpu);
}

/* ---- vector instructions on the host ---- */

/* Which checks come first. */
enum { GUARD_SSE, GUARD_AVX, GUARD_MMX };
/* struct fpu_op.flags. */
enum {
    VEC_MMX = 1,     /* an MMX register is an operand: the x87 changes to MMX state */
    VEC_ALIGNED = 2, /* the memory operand must be aligned */
    VEC_NO_AC = 4,   /* no alignment check: exception type 11 [SDM2] 2.4 */
};

static inline void *place(struct cpu *cpu, const struct operand *o)
{
    switch (o->kind) {
    case OPND_MM: return st_slot(cpu, o->reg);
    case OPND_GPR: return &cpu->regs[o->reg];
    default: return xmm_slot(cpu, o->reg);
    }
}

static bool vector_failed(struct cpu *cpu, unsigned result)
{
    if (result == FPU_ILLEGAL || !(cpu->cr4 & CR4_OSXMMEXCPT)) return raise_ud(cpu);
    return raise_exc(cpu, EXC_XM);
}

static inline bool vector_guard(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    if (op->guard == GUARD_AVX) return fpu_avx_check(cpu);
    if (op->guard == GUARD_SSE) TRY(fpu_sse_check(cpu));
    if (op->guard == GUARD_MMX || (op->flags & VEC_MMX)) TRY(fpu_mmx_check(cpu, i));
    return true;
}

/* Memory operands that take no alignment check: by bytes. */
static bool bytes_read(struct cpu *cpu, const struct insn *i, u64 ea, u8 *p, unsigned size)
{
    gla lin; /* the segment's limit before any page */
    TRY(seg_linear(cpu, i->seg, ea + size - 1, 1, false, &lin));
    for (unsigned k = 0; k < size; k++) TRY(mem_read8(cpu, i->seg, ea + k, p + k));
    return true;
}

static bool bytes_write(struct cpu *cpu, const struct insn *i, u64 ea, const u8 *p, unsigned size)
{
    gla lin;
    TRY(seg_linear(cpu, i->seg, ea + size - 1, 1, true, &lin));
    TRY(seg_linear(cpu, i->seg, ea, 1, true, &lin));
    TRY(lin_probe_write(cpu, lin, size, ACC_WRITE));
    for (unsigned k = 0; k < size; k++) TRY(mem_write8(cpu, i->seg, ea + k, p[k]));
    return true;
}

/* The general form: any operands, any guard. */
static bool vector_any(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    u8 bounce[64] __attribute__((aligned(64)));
    void *p[FPU_MAX_OPERANDS] = {0};
    u64 ea = 0;
    bool write_back = false, mmx = op->flags & VEC_MMX;

    TRY(vector_guard(cpu, i, op));
    for (unsigned k = 0; k < op->operands; k++)
        if (i->operands[k].kind != OPND_MEM) p[k] = place(cpu, &i->operands[k]);
    if (op->mem >= 0) {
        unsigned size = op->mem_size;
        bool write = op->mem_access & OPND_WRITE;
        ea = insn_ea(cpu, i);
        if (op->flags & VEC_ALIGNED) TRY(fpu_aligned(cpu, i, ea, size, size, write));
        void *direct = mem_fast(cpu, i->seg, ea, size, write);
        /* The host's own alignment demands are met whatever the guest instruction's are. */
        if (LIKELY(direct && !((uintptr_t)direct & (size - 1)))) {
            p[op->mem] = direct;
        } else {
            p[op->mem] = bounce;
            write_back = write;
            if (write) (void)0;
            else if (op->flags & VEC_NO_AC) TRY(bytes_read(cpu, i, ea, bounce, size));
            else TRY(mem_read_block(cpu, i->seg, ea, bounce, size));
        }
    }

    unsigned top = fx_top(cpu);
    u32 mxcsr = *fx32(cpu, FX_MXCSR);
    if (mmx) fpu_set_top(cpu, 0);
    unsigned result = op->run.vector(p[0], p[1], p[2], p[3], cpu);
    bool ok = result == FPU_DONE ? true : vector_failed(cpu, result);
    if (ok && write_back) {
        ok = op->flags & VEC_NO_AC ? bytes_write(cpu, i, ea, bounce, op->mem_size)
                                   : mem_write_block(cpu, i->seg, ea, bounce, op->mem_size);
        if (!ok) *fx32(cpu, FX_MXCSR) = mxcsr;
    }
    if (mmx) {
        if (ok) cpu->fpu.legacy[FX_TAG] = 0xff; /* all valid [SDM1] 9.5.1 */
        else fpu_set_top(cpu, top);
    }
    return ok;
}

/* Legacy SSE, two XMM registers (and an immediate). */
static bool vector_sse_xx(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    TRY(fpu_sse_check(cpu));
    unsigned result = op->run.vector(xmm_slot(cpu, i->operands[0].reg), xmm_slot(cpu, i->operands[1].reg), NULL, NULL, cpu);
    return LIKELY(result == FPU_DONE) ? true : vector_failed(cpu, result);
}

/* Legacy SSE, XMM register and memory source. */
static bool vector_sse_xm(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    TRY(fpu_sse_check(cpu));
    u8 bounce[16] __attribute__((aligned(16)));
    unsigned size = op->mem_size;
    u64 ea = insn_ea(cpu, i);
    void *p = mem_fast(cpu, i->seg, ea, size, false);
    if (UNLIKELY(!p || ((uintptr_t)p & (size - 1)))) {
        if (op->flags & VEC_ALIGNED) TRY(fpu_aligned(cpu, i, ea, size, size, false));
        TRY(mem_read_block(cpu, i->seg, ea, bounce, size));
        p = bounce;
    }
    unsigned result = op->run.vector(xmm_slot(cpu, i->operands[0].reg), p, NULL, NULL, cpu);
    return LIKELY(result == FPU_DONE) ? true : vector_failed(cpu, result);
}

/* VEX, all operands registers XMM or YMM. */
static bool vector_avx_regs(struct cpu *cpu, const struct insn *i, const struct fpu_op *op)
{
    TRY(fpu_avx_check(cpu));
    unsigned result = op->run.vector(xmm_slot(cpu, i->operands[0].reg & 15), xmm_slot(cpu, i->operands[1].reg & 15),
                                     xmm_slot(cpu, i->operands[2].reg & 15), xmm_slot(cpu, i->operands[3].reg & 15), cpu);
    return LIKELY(result == FPU_DONE) ? true : vector_failed(cpu, result);
}

static void vector_setup(struct fpu_op *op, const struct insn *i)
{
    u16 attr = i->opcode->attr;
    bool xmm = false, mm = false;
    for (unsigned k = 0; k < i->noperands; k++) {
        if (i->operands[k].kind == OPND_XMM || i->operands[k].kind == OPND_YMM) xmm = true;
        if (i->operands[k].kind == OPND_MM) mm = true;
    }
    op->guard = attr & ATTR_AVX ? GUARD_AVX : xmm || (!mm && (attr & ATTR_SSE)) ? GUARD_SSE : GUARD_MMX;
    if (mm) op->flags |= VEC_MMX;
    if (attr & ATTR_ALIGN) op->flags |= VEC_ALIGNED;
    if (i->mnemonic == I_vcvtps2ph || i->mnemonic == I_vcvtph2ps) op->flags |= VEC_NO_AC;
}

static const struct fpu_binding bind_any = {vector_any, vector_setup};
static const struct fpu_binding bind_sse_xx = {vector_sse_xx, vector_setup};
static const struct fpu_binding bind_sse_xm = {vector_sse_xm, vector_setup};
static const struct fpu_binding bind_avx_regs = {vector_avx_regs, vector_setup};

static const struct fpu_binding *vector_binding(const struct insn *i)
{
    unsigned xmm = 0, mem = 0, other = 0, n = 0;
    for (unsigned k = 0; k < i->noperands; k++) {
        u8 kind = i->operands[k].kind;
        if (kind == OPND_IMM || kind == OPND_IMM2) continue;
        n++;
        if (kind == OPND_XMM || kind == OPND_YMM) xmm++;
        else if (kind == OPND_MEM) mem++;
        else other++;
    }
    if (i->opcode->attr & ATTR_AVX) return other || mem ? &bind_any : &bind_avx_regs;
    if (other || n != 2) return &bind_any;
    if (xmm == 2) return &bind_sse_xx;
    if (mem == 1 && i->operands[1].kind == OPND_MEM && i->operands[1].size <= 16) return &bind_sse_xm;
    return &bind_any;
}

static bool vector_uncached(struct cpu *cpu, const struct insn *i) { return fpu_host_uncached(cpu, i, &bind_any); }

/* ---- others ---- */

/* EMMS: an MMX instruction like the others (TOP becomes 0), then all tags empty. */
static bool emms(struct cpu *cpu, const struct insn *i)
{
    TRY(fpu_mmx_check(cpu, i));
    fpu_set_top(cpu, 0);
    cpu->fpu.legacy[FX_TAG] = 0;
    return true;
}

static bool movnti(struct cpu *cpu, const struct insn *i)
{
    u64 v = cpu->regs[i->operands[1].reg];
    if (i->operands[0].size == 8) return mem_write64(cpu, i->seg, insn_ea(cpu, i), v);
    return mem_write32(cpu, i->seg, insn_ea(cpu, i), (u32)v);
}

static bool nothing(struct cpu *cpu, const struct insn *i)
{
    (void)cpu, (void)i;
    return true;
}

exec_fn *exec_select_fpu(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_emms: return emms;
    case I_movnti: return movnti;
    case I_prefetch: return nothing;
    default: break;
    }
    exec_fn *fn = exec_select_fpu_state(i);
    if (fn) return fn;
    u16 attr = i->opcode->attr;
    if (attr & ATTR_X87) return exec_select_x87(i);
    if (!(attr & (ATTR_MMX | ATTR_SSE | ATTR_AVX))) return NULL;
    if ((fn = exec_select_fpu_mask(i))) return fn;
    if ((fn = exec_select_fpu_move(i))) return fn;
    const struct fpu_op *op = fpu_host_op(i, vector_binding(i));
    return op ? op->entry : vector_uncached;
}
