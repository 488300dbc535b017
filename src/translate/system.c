/* System instructions that are worth host code of their own; the others, and every case that faults or changes the mode, are their
 * handlers'. A block is translated for one privilege (MODE_RING0), so that nothing is left to check for most.
 *
 * Interrupts are let in where the interpreter would: STI sets IF and cpu->event_mask, and the next place that looks at events is
 * after the instruction in its shadow, at the end of the block (block.c ends it there). */
#include "translate/tr.h"

static bool ring0(const struct tr *t) { return t->b->mode & MODE_RING0; }

/* A 32-bit field of struct cpu: group 1 by its /n. Clobbers the flags. */
static void emit_alu_state(struct emit *e, unsigned n, struct rm field, u32 imm)
{
    const bool small = (s32)imm == (s8)imm;
    emit_op(e, 0, 0, small ? 0x83 : 0x81, n, field);
    if (small) emit8(e, (u8)imm);
    else emit32(e, imm);
}
#define ALU_OR  1u
#define ALU_AND 4u

/* A bit of EFLAGS outside the arithmetic flags. */
static bool translate_flag(struct tr *t, u32 flag, bool set)
{
    flags_before(t, true, 0, false);
    emit_alu_state(&t->e, set ? ALU_OR : ALU_AND, STATE(eflags), set ? flag : ~flag);
    if (flag == EFLAGS_IF) emit_alu_state(&t->e, set ? ALU_OR : ALU_AND, STATE(event_mask), set ? EVENT_INTR : ~EVENT_INTR);
    return true;
}

static bool translate_sti(struct tr *t)
{
    /* Alone at the end of a page: the handler, which leaves the shadow to the run loop. */
    if (!ring0(t) || t->i + 1 == t->b->insns + t->b->count) return false;
    translate_flag(t, EFLAGS_IF, true);
    return t->poll = true;
}

static bool translate_pushf(struct tr *t)
{
    struct emit *e = &t->e;
    const unsigned size = t->i->opsize;
    if (!stack_size_ok(t) || (t->segmented && !ring0(t))) return false; /* virtual-8086 mode looks at IOPL */
    flags_to_mem(t);
    t->host = false;
    struct stub *s = new_stub(t);
    emit_eflags(e, T_A, T_B);
    emit_store(e, T_A, STATE(target));
    emit_stack(t, s, H_GSP, -(s32)size, size, true);
    emit_load(e, T_B, STATE(target));
    emit_op(e, size_prefix(size), 0, 0x89, T_B, t->at);
    emit_move_sp(t, -(s32)size);
    registers_written(t, bit(H_GSP));
    stub_back(t, s);
    return true;
}

/* Where nothing changes but IF and the arithmetic flags. */
static bool translate_popf(struct tr *t)
{
    struct emit *e = &t->e;
    const unsigned size = t->i->opsize;
    if (!stack_size_ok(t) || !ring0(t)) return false;
    flags_to_mem(t);
    struct stub *s = new_stub(t);
    emit_stack(t, s, H_GSP, 0, size, false);
    emit_load_size(e, MIN(size, 4u), T_B, t->at);
    emit_op(e, 0, 0, 0x8b, T_A, rm_reg(T_B));
    emit_op(e, 0, 0, 0x33, T_A, STATE(eflags));
    emit_op(e, 0, 0, 0xf7, 0, rm_reg(T_A));
    emit32(e, EFLAGS_TF | EFLAGS_DF | EFLAGS_IOPL | EFLAGS_NT | (size == 2 ? 0 : EFLAGS_AC | EFLAGS_ID));
    stub_from(t, s, CC_NE);
    emit_alu_imm(e, false, 4, T_A, EFLAGS_IF); /* IF if it changes */
    emit_op(e, 0, 0, 0x31, T_A, STATE(eflags));
    emit_shift(e, 5, T_A, 9);
    emit_op(e, 0, 0, 0x31, T_A, STATE(event_mask)); /* EVENT_INTR is 1, and follows IF in translated code */
    emit_op(e, 0, 0, 0x8b, T_A, rm_reg(T_B));
    emit_set_aflags(e);
    emit_move_sp(t, (s32)size);
    t->host = false;
    t->rec_len = 0;
    stub_back(t, s);
    return t->poll = true;
}

/* A guest register set from memory; 32-bit and 64-bit. */
static void emit_to_guest(struct tr *t, unsigned guest, unsigned prefixes, unsigned map, unsigned code, struct rm from)
{
    const unsigned h = resident(guest) ? host_reg(guest) : T_B;
    flags_before(t, false, h == T_B ? 0 : bit(h), false);
    emit_op(&t->e, prefixes, map, code, h, from);
    if (h == T_B) emit_store(&t->e, T_B, guest_mem(guest));
    else registers_written(t, bit(h));
}

static struct rm selector_of(unsigned seg)
{
    return rm_cpu(offsetof(struct cpu, seg) + seg * sizeof(struct segment) + offsetof(struct segment, selector));
}

static bool translate_mov_from_sreg(struct tr *t)
{
    const struct operand *o = t->i->operands;
    const struct rm selector = selector_of(o[1].reg);
    if (o[0].kind != OPND_GPR || o[1].kind != OPND_SEG) return false;
    if (t->i->opsize != 2) {
        emit_to_guest(t, o[0].reg, 0, 1, 0xb7, selector);
    } else if (resident(o[0].reg)) {
        emit_to_guest(t, o[0].reg, E_66, 0, 0x8b, selector);
    } else {
        emit_op(&t->e, 0, 1, 0xb7, T_B, selector);
        emit_op(&t->e, E_66, 0, 0x89, T_B, guest_mem(o[0].reg));
    }
    return true;
}

/* Loads of ES, DS, FS and GS in real and virtual-8086 mode: the handler's where more changes than the base. */
static bool real_load(const struct tr *t, unsigned seg)
{
    return t->segmented && (t->b->mode & MODE_64K) && (t->b->mode & 3) == CODE_16 && seg != SEG_CS && seg != SEG_SS && seg < SEG_COUNT;
}

static void emit_real_check(struct tr *t, struct stub *s)
{
    emit_op(&t->e, 0, 0, 0x80, 7, STATE(plain_real));
    emit8(&t->e, 0);
    stub_from(t, s, CC_E);
}

/* T_B is the selector, zero-extended. */
static void emit_real_load(struct tr *t, unsigned seg)
{
    struct emit *e = &t->e;
    emit_op(e, E_66, 0, 0x89, T_B, selector_of(seg));
    emit_shift(e, 4, T_B, 4);
    emit_store(e, T_B, rm_cpu(offsetof(struct cpu, seg) + seg * sizeof(struct segment) + offsetof(struct segment, base)));
    emit_store(e, T_B, rm_cpu(offsetof(struct cpu, win) + seg * sizeof(struct segment_window) + offsetof(struct segment_window, base)));
}

static bool translate_mov_to_sreg(struct tr *t)
{
    const struct operand *o = t->i->operands;
    if (!real_load(t, o[0].reg)) return false;
    flags_before(t, true, 0, false);
    struct stub *s = new_stub(t);
    emit_real_check(t, s);
    if (o[1].kind == OPND_MEM) emit_address(t, s, 2, false);
    emit_load_size(&t->e, 2, T_B, o[1].kind == OPND_MEM ? t->at : rm_reg(host_reg(o[1].reg)));
    emit_real_load(t, o[0].reg);
    stub_back(t, s);
    return true;
}

/* POP and PUSH of a segment register access two bytes, whatever the operand size. */
static bool translate_pop_sreg(struct tr *t)
{
    const unsigned seg = t->i->operands[0].reg;
    if (!real_load(t, seg)) return false;
    flags_before(t, true, bit(H_GSP), false);
    struct stub *s = new_stub(t);
    emit_real_check(t, s);
    emit_stack(t, s, H_GSP, 0, 2, false);
    emit_load_size(&t->e, 2, T_B, t->at);
    emit_real_load(t, seg);
    emit_move_sp(t, t->i->opsize);
    registers_written(t, bit(H_GSP));
    stub_back(t, s);
    return true;
}

static bool translate_push_sreg(struct tr *t)
{
    if (t->is64) return false;
    flags_before(t, true, bit(H_GSP), false);
    struct stub *s = new_stub(t);
    emit_stack(t, s, H_GSP, -(s32)t->i->opsize, 2, true);
    emit_load_size(&t->e, 2, T_B, selector_of(t->i->operands[0].reg));
    emit_op(&t->e, E_66, 0, 0x89, T_B, t->at);
    emit_move_sp(t, -(s32)t->i->opsize);
    registers_written(t, bit(H_GSP));
    stub_back(t, s);
    return true;
}

/* LDS, LES, LFS, LGS: offset and selector at once. */
static bool translate_load_far(struct tr *t, unsigned seg)
{
    const unsigned size = t->i->opsize, reg = host_reg(t->i->operands[0].reg);
    if (!real_load(t, seg)) return false;
    flags_before(t, true, bit(reg), false);
    struct stub *s = new_stub(t);
    emit_real_check(t, s);
    emit_address(t, s, size + 2, false);
    struct rm selector = t->at;
    selector.disp += (s32)size;
    emit_load_size(&t->e, 2, T_B, selector);
    emit_real_load(t, seg);
    emit_op(&t->e, size_prefix(size), 0, 0x8b, reg, t->at);
    registers_written(t, bit(reg));
    stub_back(t, s);
    return true;
}

static bool translate_mov_from_cr(struct tr *t)
{
    const struct operand *o = t->i->operands;
    if (o[0].kind != OPND_GPR || !ring0(t)) return false;
    size_t field;
    switch (o[1].reg) {
    case 0: field = offsetof(struct cpu, cr0); break;
    case 2: field = offsetof(struct cpu, cr2); break;
    case 3: field = offsetof(struct cpu, cr3); break;
    case 4: field = offsetof(struct cpu, cr4); break;
    default: return false;
    }
    emit_to_guest(t, o[0].reg, t->is64 ? E_W : 0, 0, 0x8b, rm_cpu(field));
    return true;
}

static bool translate_swapgs(struct tr *t)
{
    struct emit *e = &t->e;
    if (!ring0(t) || !t->is64) return false;
    emit_load(e, T_A, STATE(seg[SEG_GS].base));
    emit_load(e, T_B, STATE(kernel_gs_base));
    emit_store(e, T_A, STATE(kernel_gs_base));
    emit_store(e, T_B, STATE(seg[SEG_GS].base));
    emit_store(e, T_B, STATE(win[SEG_GS].base));
    return true;
}

/* RDFSBASE and its kin; the handler where they are off, or the base is not canonical. */
static bool translate_base(struct tr *t, unsigned seg, bool write)
{
    struct emit *e = &t->e;
    const unsigned guest = t->i->operands[0].reg, w = t->i->opsize == 8 ? E_W : 0;
    const struct rm base = rm_cpu(offsetof(struct cpu, seg) + seg * sizeof(struct segment) + offsetof(struct segment, base));
    const struct rm reg = resident(guest) ? rm_reg(host_reg(guest)) : guest_mem(guest);
    if (!t->is64) return false;
    flags_before(t, true, !write && resident(guest) ? bit(host_reg(guest)) : 0, false);
    struct stub *s = new_stub(t);
    emit_op(e, 0, 0, 0xf7, 0, STATE(cr4));
    emit32(e, CR4_FSGSBASE);
    stub_from(t, s, CC_E);
    if (write) {
        emit_op(e, w, 0, 0x8b, T_B, reg);
        emit_compare_canonical(e, T_B);
        stub_from(t, s, CC_NE);
        emit_store(e, T_B, base);
        emit_store(e, T_B, rm_cpu(offsetof(struct cpu, win) + seg * sizeof(struct segment_window)));
    } else {
        emit_op(e, w, 0, 0x8b, T_B, base);
        emit_store(e, T_B, reg);
        if (resident(guest)) registers_written(t, bit(host_reg(guest)));
    }
    stub_back(t, s);
    return true;
}

static bool translate_rdpkru(struct tr *t)
{
    struct emit *e = &t->e;
    if (t->segmented) return false;
    flags_before(t, true, bit(H_AX) | bit(H_DX), false);
    struct stub *s = new_stub(t);
    emit_op(e, 0, 0, 0xf7, 0, STATE(cr4));
    emit32(e, CR4_PKE);
    stub_from(t, s, CC_E);
    emit_op(e, 0, 0, 0x85, H_CX, rm_reg(H_CX));
    stub_from(t, s, CC_NE);
    emit_load32(e, H_AX, STATE(pkru));
    emit_mov_imm64(e, H_DX, 0);
    registers_written(t, bit(H_AX) | bit(H_DX));
    stub_back(t, s);
    return true;
}

/* The clock's time, from the host's counter. DEVIATION, as in the interpreter: TSC reads are not trapped but by CR4.TSD. */
static bool translate_rdtsc(struct tr *t)
{
    struct emit *e = &t->e;
    const bool aux = t->i->mnemonic == I_rdtscp;
    const struct clock_scale *scale = t->cpu->hooks->scale;
    if (!scale) return false;
#define SCALE(field) rm_mem(T_B, offsetof(struct clock_scale, field))
    flags_before(t, true, bit(H_AX) | bit(H_DX) | (aux ? bit(H_CX) : 0), false);
    struct stub *s = new_stub(t);
    if (!ring0(t)) {
        emit_op(e, 0, 0, 0xf7, 0, STATE(cr4));
        emit32(e, CR4_TSD);
        stub_from(t, s, CC_NE);
    }
    emit_mov_imm64(e, T_B, (u64)(uintptr_t)scale);
    emit_load32(e, T_A, SCALE(seq));
    emit_op(e, E_REX, 0, 0xf6, 0, rm_reg(T_A));
    emit8(e, 1);
    stub_from(t, s, CC_NE);
    emit_bytes(e, aux ? (const u8[]){0x0f, 0x01, 0xf9} : (const u8[]){0x0f, 0x31}, aux ? 3 : 2); /* rdtscp, rdtsc */
    emit_shift(e, 4, H_DX, 32);
    emit_op(e, E_W, 0, 0x0b, H_AX, rm_reg(H_DX));
    emit_op(e, E_W, 0, 0x2b, H_AX, SCALE(tsc));
    stub_from(t, s, CC_S);
    emit_op(e, E_W, 0, 0xf7, 4, SCALE(mult)); /* mul */
    emit_op(e, E_W, 1, 0xac, H_DX, rm_reg(H_AX)); /* shrd rax, rdx, 32 */
    emit8(e, 32);
    emit_op(e, E_W, 0, 0x03, H_AX, SCALE(ns));
    emit_op(e, 0, 0, 0x3b, T_A, SCALE(seq));
    stub_from(t, s, CC_NE);
    emit_op(e, E_W, 0, 0x2b, H_AX, STATE(tsc_zero));
    emit_op(e, E_W, 0, 0x03, H_AX, STATE(tsc_offset));
    emit_store(e, H_AX, rm_reg(H_DX));
    emit_shift(e, 5, H_DX, 32);
    emit_op(e, 0, 0, 0x8b, H_AX, rm_reg(H_AX));
    if (aux) emit_load32(e, H_CX, STATE(tsc_aux));
    registers_written(t, bit(H_AX) | bit(H_DX) | (aux ? bit(H_CX) : 0));
    stub_back(t, s);
    return true;
#undef SCALE
}

/* Loads are in order anyway; reading the time is not. */
static bool translate_lfence(struct tr *t)
{
    const bool last = t->i + 1 == t->b->insns + t->b->count;
    if (!last && t->i[1].mnemonic == I_rdtsc) emit_bytes(&t->e, (const u8[]){0x0f, 0xae, 0xe8}, 3);
    return true;
}

/* STAC and CLAC: EFLAGS.AC, and under SMAP the context of the TLB. */
static bool translate_ac(struct tr *t, bool set, bool *ended)
{
    struct emit *e = &t->e;
    if (!ring0(t) || t->poll || t->segmented) return false;
    if (!set && t->context == TLB_SUPERVISOR_SMAP) return true; /* AC is clear already */
    if (set && t->context == TLB_SUPERVISOR) return translate_flag(t, EFLAGS_AC, true); /* is set already, or does nothing */
    const unsigned context = set ? TLB_SUPERVISOR : TLB_SUPERVISOR_SMAP;
    const u8 mode = (u8)((t->b->mode & ~0xcu) | context << 2);
    flags_to_mem(t);
    struct stub *s = new_stub(t);
    emit_op(e, 0, 0, 0x80, 7, rm_cpu(offsetof(struct cpu, returns_mode) + context)); /* cpu_update_mode() has to empty them */
    emit8(e, mode);
    stub_from(t, s, CC_NE);
    if (!set) {
        emit_op(e, 0, 0, 0xf7, 0, STATE(cr4));
        emit32(e, CR4_SMAP);
        stub_from(t, s, CC_E);
    }
    emit_alu_state(e, set ? ALU_OR : ALU_AND, STATE(eflags), set ? EFLAGS_AC : ~EFLAGS_AC);
    emit_context(e, t->context, context, mode);
    emit_go_mode(t, t->b->offset + t->i->off + t->i->len);
    return *ended = true;
}

bool translate_system(struct tr *t, bool *ended)
{
    const struct insn *i = t->i;
    switch (i->mnemonic) {
    case I_cli: return ring0(t) && translate_flag(t, EFLAGS_IF, false);
    case I_sti: return translate_sti(t);
    case I_cld: return translate_flag(t, EFLAGS_DF, false);
    case I_std: return translate_flag(t, EFLAGS_DF, true);
    case I_pushf: return translate_pushf(t);
    case I_popf: return translate_popf(t);
    case I_swapgs: return translate_swapgs(t);
    case I_mov_sreg: return i->operands[0].kind == OPND_SEG ? translate_mov_to_sreg(t) : translate_mov_from_sreg(t);
    case I_push_sreg: return translate_push_sreg(t);
    case I_pop_sreg: return translate_pop_sreg(t);
    case I_les: return translate_load_far(t, SEG_ES);
    case I_lds: return translate_load_far(t, SEG_DS);
    case I_lfs: return translate_load_far(t, SEG_FS);
    case I_lgs: return translate_load_far(t, SEG_GS);
    case I_mov_cr: return translate_mov_from_cr(t);
    case I_rdpkru: return translate_rdpkru(t);
    case I_rdfsbase: return translate_base(t, SEG_FS, false);
    case I_rdgsbase: return translate_base(t, SEG_GS, false);
    case I_wrfsbase: return translate_base(t, SEG_FS, true);
    case I_wrgsbase: return translate_base(t, SEG_GS, true);
    case I_rdtsc:
    case I_rdtscp: return translate_rdtsc(t);
    case I_syscall:
    case I_sysret: return translate_syscall(t, ended);
    case I_stac: return translate_ac(t, true, ended);
    case I_clac: return translate_ac(t, false, ended);
    case I_lfence: return translate_lfence(t);
    case I_mfence:
    case I_sfence:
        emit8(&t->e, 0x0f);
        emit8(&t->e, 0xae);
        emit8(&t->e, i->mnemonic == I_mfence ? 0xf0 : 0xf8);
        return true;
    default: return false;
    }
}
