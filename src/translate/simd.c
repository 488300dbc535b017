/* x87, MMX, SSE and AVX instructions: the guest's own, on the host's registers of the same numbers (cpu/fpu_live.h).
 *
 * A block that has such instructions looks at its entry whether the state is live, and has it loaded. When that is not possible
 * (CR0.TS, an unmasked exception, ...) the block is interpreted. What accesses memory under a mask, in more than one piece or
 * of variable size, and what changes what may be live, goes by handler. */
#include "translate/tr.h"

#include "cpu/fpu_live.h"

static bool is_x87(const struct insn *i) { return i->opcode->attr & ATTR_X87; }

static const struct operand *gpr_operand(const struct insn *i)
{
    for (unsigned k = 0; k < i->noperands; k++)
        if (i->operands[k].kind == OPND_GPR) return &i->operands[k];
    return NULL;
}

/* Can the instruction be translated? */
static bool simd_ok(const struct tr *t, const struct insn *i)
{
    const struct opcode *o = i->opcode;
    const struct operand *mem = memory_operand(i);
    if (!o || i->fn == exec_undefined || !(o->attr & ATTR_VECTOR)) return false;
    if (t->segmented && (i->prefixes & PFX_VEX)) return false; /* undefined in real mode */
    if (o->cls != CLASS_IDENT || o->feature == FEAT_SSE4A || (mem && !mem->size)) return false;
    switch (i->mnemonic) {
    case I_fninit: return false; /* clears the pointers */
    case I_vzeroall:
    case I_vzeroupper: return t->is64; /* only half of the registers otherwise */
    default: break;
    }
    /* VEX.W widens general operands on the host, too, but outside 64-bit mode not in the guest. */
    return t->is64 || !(i->rex & 8) || !(gpr_operand(i) || i->map == 3 || i->code == 0x6e || i->code == 0x7e || i->code == 0x2a);
}

unsigned simd_needs(const struct tr *t, const struct insn *i)
{
    if (!simd_ok(t, i)) return 0;
    const unsigned attr = i->opcode->attr;
    if (attr & ATTR_AVX) return FPU_AVX;
    return (attr & ATTR_SSE ? FPU_SSE : 0) | (attr & (ATTR_X87 | ATTR_MMX) ? FPU_X87 : 0);
}

/* ---- having the state live ---- */

void emit_fpu_entry(struct tr *t)
{
    const unsigned need = t->fpu[0];
    struct emit *e = &t->e;
    t->fpu_site = NULL;
    if (!need) return;
    if (need & (need - 1)) {
        emit_op(e, 0, 1, 0xb6, T_B, STATE(fpu_live));
        emit_alu_imm(e, false, 4, T_B, (s32)need);
        emit_alu_imm(e, false, 7, T_B, (s32)need);
        t->fpu_site = emit_jump(e, CC_NE);
    } else {
        emit_op(e, 0, 0, 0xf6, 0, STATE(fpu_live));
        emit8(e, need);
        t->fpu_site = emit_jump(e, CC_E);
    }
    t->fpu_back = e->p;
}

static void emit_fpu_load(struct tr *t, unsigned need)
{
    emit_mov_imm64(&t->e, T_B, need);
    emit_call(t, t->bt->fpu_load);
    emit_op(&t->e, 0, 0, 0x85, T_A, rm_reg(T_A));
}

void emit_fpu_entry_slow(struct tr *t)
{
    if (!t->fpu_site) return;
    emit_patch(t->fpu_site, t->e.p);
    emit_fpu_load(t, t->fpu[0]);
    emit_jump_to(&t->e, CC_NE, t->fpu_back);
    emit_call(t, t->bt->settle);
    emit_mov_imm64(&t->e, T_B, (u64)(uintptr_t)t->home);
    emit_jump_to(&t->e, CC_ALWAYS, thunk_rw(t->bt, t->bt->denied));
}

void emit_fpu_again(struct tr *t, unsigned need, s32 off)
{
    emit_fpu_load(t, need);
    u8 *live = emit_jump(&t->e, CC_NE);
    emit_rip(t, T_B, off);
    emit_exit_rip(t);
    emit_patch(live, t->e.p);
}

/* ---- vector instructions ---- */

/* General registers are in the r/m field but for these, which are all in map 0F. */
static bool gpr_in_reg(const struct insn *i)
{
    if (i->map != 1) return false;
    switch (i->code) {
    case 0x2c: case 0x2d: case 0x50: case 0xc3: case 0xc5: case 0xd7: return true;
    default: return false;
    }
}

/* The host's general register, one that is in memory in T_B. */
static unsigned simd_gpr(struct tr *t, const struct operand *g)
{
    if (resident(g->reg)) return host_reg(g->reg);
    if (g->access & OPND_READ) emit_load(&t->e, T_B, guest_mem(g->reg));
    return T_B;
}

/* Other general registers written, as host registers. */
static u32 implicit_gprs(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_pcmpestri: case I_vpcmpestri: case I_pcmpistri: case I_vpcmpistri: return bit(H_CX);
    case I_fnstsw: return i->modrm < 0xc0 ? 0 : bit(H_AX);
    default: return 0;
    }
}

u32 simd_writes(const struct insn *i)
{
    return i->mnemonic == I_fnstsw ? bit(R_AX) : implicit_gprs(i);
}

bool simd_groupable(const struct insn *i)
{
    const unsigned m = i->mnemonic;
    const bool control = m == I_ldmxcsr || m == I_vldmxcsr || m == I_stmxcsr || m == I_vstmxcsr;
    return !is_x87(i) && !control;
}

static void emit_immediates(struct emit *e, const struct insn *i)
{
    /* An immediate that names a register (VBLENDVPS and the like) is not an operand of that kind. */
    const bool is4 = (i->prefixes & PFX_VEX) && i->map == 3 && i->code >= 0x4a && i->code <= 0x4c;
    if (is4) emit8(e, (unsigned)i->operands[3].reg << 4);
    for (unsigned k = 0; k < i->noperands; k++)
        if (i->operands[k].kind == OPND_IMM) emit8(e, (u8)i->imm);
}

static void emit_vector(struct tr *t, unsigned reg, struct rm rm)
{
    static const unsigned prefix[4] = {0, E_66, E_F3, E_F2};
    const struct insn *i = t->i;
    const bool w = i->rex & 8;
    if (i->prefixes & PFX_VEX) emit_vex(&t->e, i->pp, w, i->vex_l, i->map, i->code, reg, i->vex_v, rm);
    else emit_op(&t->e, prefix[i->pp] | (w ? E_W : 0), i->map, i->code, reg, rm);
    emit_immediates(&t->e, i);
}

static bool translate_vector(struct tr *t)
{
    const struct insn *i = t->i;
    const struct operand *mem = memory_operand(i), *g = gpr_operand(i);
    const bool flags = i->opcode->writes != 0;
    unsigned reg = (i->modrm >> 3 & 7) | (i->rex & 4 ? 8 : 0);
    u32 written = implicit_gprs(i);
    if (g && (g->access & OPND_WRITE) && resident(g->reg)) written |= bit(host_reg(g->reg));
    struct group *group = mem ? group_member(t) : NULL;
    const bool held = shared_held(t);
    flags_before(t, mem && !group, written, flags);
    struct stub *s = NULL;
    struct rm rm = rm_reg((i->modrm & 7) | (i->rex & 1 ? 8 : 0));
    if (group) {
        group_address(t, group);
        rm = t->at;
    } else if (mem) {
        s = new_stub(t);
        t->align = i->opcode->attr & ATTR_ALIGN ? mem->size : 0;
        emit_address(t, s, mem->size, mem->access & OPND_WRITE);
        t->align = 0;
        rm = t->at;
    }
    if (g && gpr_in_reg(i)) reg = simd_gpr(t, g);
    else if (g) rm = rm_reg(simd_gpr(t, g));
    emit_vector(t, reg, rm);
    if (g && !resident(g->reg) && (g->access & OPND_WRITE)) emit_store(&t->e, T_B, guest_mem(g->reg));
    registers_written(t, written);
    if (flags) flags_made(t);
    if (group || (held && !mem)) t->shared_until = t->e.p;
    if (s) stub_back(t, s);
    return true;
}

/* EMMS, VZEROUPPER, VZEROALL: no ModRM byte. */
static bool translate_plain(struct tr *t)
{
    struct emit *e = &t->e;
    if (t->i->mnemonic == I_emms) {
        emit8(e, 0x0f);
    } else {
        emit8(e, 0xc5);
        emit8(e, 0xf8 | (unsigned)t->i->vex_l << 2);
    }
    emit8(e, 0x77);
    return true;
}

/* ---- control registers: values that unmask an exception are the handler's ---- */

/* T_B, the value, into cpu->scratch, from where it may be loaded when all of `set` of `looked_at` are set. */
static void emit_control_check(struct tr *t, struct stub *s, u32 looked_at, u32 set)
{
    struct emit *e = &t->e;
    emit_op(e, 0, 0, 0x89, T_B, STATE(scratch));
    emit_alu_imm(e, false, 4, T_B, (s32)looked_at);
    emit_alu_imm(e, false, 7, T_B, (s32)set);
    stub_from(t, s, CC_NE);
}

static bool translate_ldmxcsr(struct tr *t)
{
    flags_before(t, true, 0, false);
    struct stub *s = new_stub(t);
    emit_address(t, s, 4, false);
    emit_load32(&t->e, T_B, t->at);
    emit_control_check(t, s, 0xffff1f80, 0x1f80); /* reserved bits are #GP */
    emit_op(&t->e, 0, 1, 0xae, 2, STATE(scratch));
    stub_back(t, s);
    return true;
}

static bool translate_stmxcsr(struct tr *t)
{
    flags_before(t, true, 0, false);
    struct stub *s = new_stub(t);
    emit_address(t, s, 4, true);
    emit_op(&t->e, 0, 1, 0xae, 3, t->at);
    stub_back(t, s);
    return true;
}

static bool translate_fldcw(struct tr *t)
{
    flags_before(t, true, 0, false);
    struct stub *s = new_stub(t);
    emit_address(t, s, 2, false);
    emit_op(&t->e, 0, 1, 0xb7, T_B, t->at);
    emit_control_check(t, s, 0x3f, 0x3f);
    emit_op(&t->e, 0, 0, 0xd9, 5, STATE(scratch));
    stub_back(t, s);
    return true;
}

/* ---- x87 ---- */

/* Does not leave its address in the instruction pointer [SDM1] 8.1.8. */
static bool is_control(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_fnstcw: case I_fnstsw: case I_fnclex: case I_fneni: case I_fndisi: case I_fnsetpm: return true;
    default: return false;
    }
}

/* The next instruction leaves its own address, and nothing can happen before it. */
static bool x87_follows(const struct tr *t)
{
    const struct insn *next = t->i + 1;
    return next < t->b->insns + t->b->count && simd_ok(t, next) && is_x87(next) && next->modrm >= 0xc0 && next->mnemonic != I_fwait &&
           !is_control(next);
}

/* See fpu_live.h. A NOP with the offset as its displacement. */
static void emit_x87_mark(struct tr *t)
{
    struct emit *e = &t->e;
    if (x87_follows(t)) return;
    if (!t->x87_page) {
        emit_load(e, T_B, STATE(page_rip));
        emit_store(e, T_B, STATE(x87_page));
        /* What accesses memory may take the slow path instead. */
        t->x87_page = t->i->modrm >= 0xc0;
    }
    static const u8 nop[] = {0x0f, 0x1f, 0x80};
    emit_bytes(e, nop, sizeof nop);
    emit32(e, t->b->offset + t->i->off);
}

static bool translate_x87(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    const struct operand *mem = memory_operand(i);
    const u32 written = implicit_gprs(i);
    if (i->mnemonic == I_fwait) return true; /* nothing is pending while the x87 is live */
    const bool flags = i->opcode->writes != 0;
    flags_before(t, mem != NULL, written, flags);
    if (i->opcode->reads) flags_to_host(t);
    struct stub *s = NULL;
    if (mem) {
        s = new_stub(t);
        emit_address(t, s, mem->size, mem->access & OPND_WRITE);
    }
    if (!is_control(i)) emit_x87_mark(t);
    emit_op(e, 0, 0, i->code, i->modrm >> 3 & 7, mem ? t->at : rm_reg(i->modrm & 7));
    registers_written(t, written);
    if (flags) flags_made(t);
    if (s) stub_back(t, s);
    return true;
}

bool translate_simd(struct tr *t)
{
    const struct insn *i = t->i;
    const struct operand *mem = memory_operand(i);
    if ((!simd_ok(t, i) && i->mnemonic != I_movnti) || (mem && !address_ok(t))) return false;
    switch (i->mnemonic) {
    case I_ldmxcsr: case I_vldmxcsr: return translate_ldmxcsr(t);
    case I_stmxcsr: case I_vstmxcsr: return translate_stmxcsr(t);
    case I_fldcw: return translate_fldcw(t);
    case I_emms: case I_vzeroall: case I_vzeroupper: return translate_plain(t);
    default: return is_x87(i) ? translate_x87(t) : translate_vector(t);
    }
}
