/* SYSCALL and SYSRET between 64-bit programs and their kernel, with nothing in between that needs a look: all else is the handlers'
 * (cpu/exec_sys_fast.c).
 *
 * In 64-bit code, what CS and SS are changes nothing but CPL: the TLB's context, the stack of expected returns, and the key that code
 * is looked up by (cpu_update_mode(), cpu_code_mode()). */
#include "translate/tr.h"

#include "cpu/fpu_live.h"

#define KERNEL_MODE(context) ((u8)(CODE_64 | (context) << 2 | MODE_FLAT | MODE_RING0))
#define USER_MODE            ((u8)(CODE_64 | TLB_USER << 2 | MODE_FLAT))

static struct rm segment_of(unsigned seg, size_t field) { return rm_cpu(offsetof(struct cpu, seg) + seg * sizeof(struct segment) + field); }

/* T_A is a selector and more; T_A plus n becomes that of a flat segment. Uses T_B. */
static void emit_flat(struct emit *e, unsigned seg, unsigned attr, unsigned cpl, s32 n)
{
    emit_lea(e, false, T_A, rm_mem(T_A, n));
    emit_alu_imm(e, false, 4, T_A, 0xfffc);
    const struct segment flat = {.selector = (u16)cpl, .attr = (u16)(SEG_G | SEG_P | SEG_S | cpl << 5 | attr), .limit = 0xffffffff};
    u64 low;
    memcpy(&low, &flat, sizeof low);
    emit_mov_imm64(e, T_B, low);
    emit_op(e, E_W, 0, 0x0b, T_B, rm_reg(T_A));
    emit_store(e, T_B, segment_of(seg, 0));
    emit_mov_imm64(e, T_B, 0);
    emit_store(e, T_B, segment_of(seg, offsetof(struct segment, base)));
}

/* T_A is EFLAGS, in which TF and AC are clear. Uses T_B. */
static void emit_set_flags(struct emit *e)
{
    emit_store(e, T_A, rm_reg(T_B));
    emit_alu_imm(e, false, 4, T_B, 0x3f7fd7 & ~(s32)EFLAGS_ARITH);
    emit_alu_imm(e, false, 1, T_B, 2);
    emit_op(e, 0, 0, 0x89, T_B, STATE(eflags));
    emit_shift(e, 5, T_B, 9);
    emit_alu_imm(e, false, 4, T_B, EVENT_INTR); /* which EFLAGS.IF has become */
    emit_op(e, 0, 0, 0x83, 4, STATE(event_mask));
    emit8(e, (u8)~EVENT_INTR);
    emit_op(e, 0, 0, 0x09, T_B, STATE(event_mask));
    emit_op(e, 0, 0, 0x8b, T_B, rm_reg(T_A));
    emit_set_aflags(e);
}

void emit_context(struct emit *e, unsigned from, unsigned to, u8 mode)
{
    emit_op(e, 0, 0, 0xc6, 0, STATE(mode_key));
    emit8(e, mode);
    emit_mov_imm64(e, T_A, (u64)mode << 56);
    emit_op(e, E_W, 0, 0x0b, T_A, to == TLB_USER ? STATE(code_gen) : STATE(code_gen_kernel));
    emit_store(e, T_A, STATE(code_key));
    emit_lea(e, false, T_A, rm_cpu(offsetof(struct cpu, tlbs) + to * sizeof(struct tlb)));
    emit_store(e, T_A, STATE(tlb));
    emit_store(e, H_SP, rm_cpu(offsetof(struct cpu, returns_saved) + from * sizeof(void *)));
    emit_load(e, H_SP, rm_cpu(offsetof(struct cpu, returns_saved) + to * sizeof(void *)));
    emit_op(e, 0, 0, 0xc6, 0, STATE(returns_context));
    emit8(e, to);
}

/* To T_B, a RIP. */
static void emit_leave_for(struct emit *e, const struct bt *bt)
{
    u8 *misses[2];
    emit_find(e, misses);
    u8 *back = e->p;
    emit_enter_page(e, false);
    emit_op(e, 0, 0, 0xff, 4, rm_mem(T_A, offsetof(struct jump_entry, host)));
    emit_patch(misses[1], e->p);
    emit_load(e, T_B, rm_mem(T_A, offsetof(struct jump_entry, lin)));
    emit_patch(misses[0], e->p);
    emit_jump_to(e, CC_CALL, thunk_rw(bt, bt->find));
    emit_op(e, E_W, 0, 0x85, T_A, rm_reg(T_A));
    emit_jump_to(e, CC_NE, back);
    emit_jump_to(e, CC_ALWAYS, thunk_rw(bt, bt->exit_rip));
}

/* What is the handlers' returns to the caller: cc holds. */
static void emit_decline(struct emit *e, unsigned cc)
{
    emit8(e, 0x70 | (cc ^ 1));
    emit8(e, 1);
    emit8(e, 0xc3);
}

/* SYSCALL and SYSRET need it; the x87's state is saved with the code segment of its last instruction. */
static void emit_declines(struct emit *e, unsigned to, u8 mode)
{
    emit_op(e, 0, 0, 0xf6, 0, STATE(efer));
    emit8(e, EFER_SCE);
    emit_decline(e, CC_E);
    emit_op(e, 0, 0, 0xf6, 0, STATE(fpu_live));
    emit8(e, FPU_X87);
    emit_decline(e, CC_NE);
    emit_op(e, 0, 0, 0x80, 7, rm_cpu(offsetof(struct cpu, returns_mode) + to)); /* cpu_code_mode() has to empty them */
    emit8(e, mode);
    emit_decline(e, CC_NE);
}

/* Called with the RIP behind the instruction in T_B, the flags in cpu->aflags; `to`: the kernel's context. */
static u8 *emit_syscall(struct emit *e, const struct bt *bt, unsigned to)
{
    const s32 clear = EFLAGS_TF | EFLAGS_AC;
    u8 *start = code_memory_rx(&bt->code, e->p);
    emit_declines(e, to, KERNEL_MODE(to));
    emit_op(e, 0, 0, 0xf7, 0, STATE(cr4));
    emit32(e, CR4_SMAP);
    emit_decline(e, to == TLB_SUPERVISOR_SMAP ? CC_E : CC_NE);
    emit_load32(e, T_A, STATE(fmask));
    emit_alu_imm(e, false, 4, T_A, clear);
    emit_alu_imm(e, false, 7, T_A, clear);
    emit_decline(e, CC_NE);
    emit_lea(e, true, H_SP, rm_mem(H_SP, 8));

    emit_store(e, T_B, rm_reg(H_CX));
    emit_eflags(e, H_11, T_A);
    emit_load32(e, T_A, STATE(fmask));
    emit_op(e, 0, 0, 0xf7, 2, rm_reg(T_A));
    emit_op(e, 0, 0, 0x23, T_A, rm_reg(H_11));
    emit_set_flags(e);
    emit_load(e, T_A, STATE(star));
    emit_shift(e, 5, T_A, 32);
    emit_flat(e, SEG_CS, SEG_L | 0xb, 0, 0);
    emit_flat(e, SEG_SS, SEG_DB | 3, 0, 8);
    emit_op(e, 0, 0, 0xc6, 0, STATE(cpl));
    emit8(e, 0);
    emit_context(e, TLB_USER, to, KERNEL_MODE(to));
    emit_load(e, T_B, STATE(lstar));
    emit_leave_for(e, bt);
    return start;
}

/* Called; `from`: the kernel's context. */
static u8 *emit_sysret(struct emit *e, const struct bt *bt, unsigned from)
{
    u8 *start = code_memory_rx(&bt->code, e->p);
    emit_declines(e, TLB_USER, USER_MODE);
    emit_op(e, 0, 0, 0xf7, 0, rm_reg(H_11));
    emit32(e, EFLAGS_TF | EFLAGS_AC);
    emit_decline(e, CC_NE);
    emit_compare_canonical(e, H_CX);
    emit_decline(e, CC_NE);
    emit_lea(e, true, H_SP, rm_mem(H_SP, 8));

    emit_op(e, 0, 0, 0x8b, T_A, rm_reg(H_11));
    emit_alu_imm(e, false, 4, T_A, 0x3c7fd7);
    emit_set_flags(e);
    emit_load(e, T_A, STATE(star));
    emit_shift(e, 5, T_A, 48);
    emit_flat(e, SEG_CS, SEG_L | 0xb, 3, 16);
    emit_flat(e, SEG_SS, SEG_DB | 3, 3, -8);
    emit_op(e, 0, 0, 0xc6, 0, STATE(cpl));
    emit8(e, 3);
    emit_context(e, from, TLB_USER, USER_MODE);
    emit_store(e, H_CX, rm_reg(T_B));
    /* The program's blocks look at events by the limit of calls, which the kernel has lowered for those that it kept out. */
    emit_load32(e, T_A, STATE(events));
    emit_op(e, 0, 0, 0x85, T_A, STATE(event_mask));
    emit_jump_to(e, CC_NE, thunk_rw(bt, bt->exit_rip));
    emit_leave_for(e, bt);
    return start;
}

void syscall_thunks(struct emit *e, struct bt *bt)
{
    for (unsigned context = TLB_SUPERVISOR; context < TLB_CONTEXTS; context++) {
        bt->syscall[context] = emit_syscall(e, bt, context);
        bt->sysret[context] = emit_sysret(e, bt, context);
    }
}

bool translate_syscall(struct tr *t, bool *ended)
{
    const bool sysret = t->i->mnemonic == I_sysret;
    if (!t->is64 || !(t->b->mode & MODE_RING0) == sysret || (sysret && t->i->opsize != 8) || t->bt->check) return false;
    const unsigned kernel = sysret ? t->context : t->cpu->cr4 & CR4_SMAP ? TLB_SUPERVISOR_SMAP : TLB_SUPERVISOR;
    flags_to_mem(t);
    struct stub *s = new_stub(t);
    emit_settle(t);
    emit_rip(t, T_B, t->b->offset + t->i->off + t->i->len);
    emit_call(t, sysret ? t->bt->sysret[kernel] : t->bt->syscall[kernel]);
    stub_from(t, s, CC_ALWAYS);
    return *ended = true;
}
