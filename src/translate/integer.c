/* Integer instructions: the general form by opcode table, and those that need more. */
#include "translate/tr.h"

/* An 8-bit register operand's encoding: AH..BH, or the low byte. False: needs both a high byte and REX. */
struct byte_regs {
    bool high, rex;
};

static unsigned byte_operand(const struct insn *i, unsigned reg, struct byte_regs *r)
{
    if (!(i->prefixes & PFX_REX) && reg >= 4 && reg < 8) {
        r->high = true;
        return reg; /* AH CH DH BH, as encoded */
    }
    unsigned h = resident(reg) ? host_reg(reg) : reg;
    if (h >= 4) r->rex = true;
    return h;
}

static bool is_high(const struct insn *i, unsigned reg) { return !(i->prefixes & PFX_REX) && reg >= 4 && reg < 8; }

static void emit_imm(struct emit *e, const struct insn *i, unsigned bytes)
{
    if (bytes == 1) emit8(e, (u8)i->imm);
    else if (bytes == 2) emit16(e, (u16)i->imm);
    else if (bytes == 4) emit32(e, i->imm);
}

/* The next bytes are the immediate of t->i: where code is patched, it can be changed in place. False: it cannot. */
static bool imm_site(struct tr *t, unsigned bytes)
{
    const struct insn *i = t->i;
    const bool count = i->map || (i->code & 0xfe) == 0xc0; /* the translation depends on it */
    if (!t->b->changes || !bytes || count) return false;
    struct imm_site *s = code_memory_data(&t->bt->code, sizeof *s);
    *s = (struct imm_site){.insn = i, .at = t->e.p, .bytes = (u8)bytes, .next = t->imms};
    t->imms = s;
    return true;
}

/* Remember how to make the flags of an instruction without memory operand again. */
static void remember(struct tr *t, const struct form *f, unsigned prefixes, unsigned reg, struct rm rm, u32 regs_used,
                     const u8 *code, unsigned len)
{
    const struct insn *i = t->i;
    struct emit r = {.p = t->rec, .cpu = t->e.cpu};
    switch (i->mnemonic) {
    case I_cmp:
    case I_test:
        if (f->is_mem || len > sizeof t->rec) return;
        emit_bytes(&r, code, len);
        break;
    case I_and:
    case I_or:
    case I_xor: { /* TEST of the result leaves the same flags */
        struct rm d = f->reg_write ? rm_reg(reg) : rm;
        if (d.kind != RM_REG) return;
        emit_op(&r, prefixes, 0, f->rm_byte ? 0x84 : 0x85, d.reg, d);
        regs_used = f->rm_byte && (d.reg & 4) && !(prefixes & E_REX) && d.reg < 8 ? bit(d.reg - 4) : bit(d.reg);
        break;
    }
    case I_neg:
        if (f->is_mem || 2 * len > sizeof t->rec) return;
        emit_bytes(&r, code, len);
        emit_bytes(&r, code, len);
        break;
    case I_add:
    case I_sub:
        if (f->is_mem || 2 * len > sizeof t->rec) return;
        if (f->has_reg) {
            if (f->rm_byte || f->reg == f->rm) return;
            emit_op(&r, prefixes, 0, f->code ^ 0x28, reg, rm);
        } else {
            emit_op(&r, prefixes, 0, f->code, f->reg ^ 5, rm);
            emit_imm(&r, i, f->imm_bytes);
        }
        emit_bytes(&r, code, len);
        break;
    case I_inc:
    case I_dec: /* CF is left alone */
        if (f->is_mem || !t->carry_mem || 2 * len + 11 > sizeof t->rec) return;
        emit_carry(&r);
        emit_op(&r, prefixes, 0, f->code, f->reg ^ 1, rm);
        emit_bytes(&r, code, len);
        break;
    default: return;
    }
    t->rec_len = (u8)(r.p - t->rec);
    t->rec_regs = regs_used;
}

/* `code` compares T_B, which cpu->compared has a copy of. */
static void remember_kept(struct tr *t, u32 regs_used, const u8 *code, unsigned len)
{
    struct emit r = {.p = t->rec, .cpu = t->e.cpu};
    emit_load(&r, T_B, STATE(compared));
    emit_bytes(&r, code, len);
    t->rec_len = (u8)(r.p - t->rec);
    t->rec_regs = regs_used;
}

/* Bit operations by register: with a memory operand, on a string of bits. */
static bool is_bit_string(const struct insn *i)
{
    const unsigned m = i->mnemonic;
    return (m == I_bt || m == I_bts || m == I_btr || m == I_btc) && i->operands[1].kind != OPND_IMM;
}

bool integer_groupable(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_push: case I_pop: case I_div: case I_idiv: case I_movnti: return false;
    case I_xchg: case I_xadd: case I_cmpxchg: case I_cmpxchg8b: return false; /* aligned, or in one cache line */
    default: return !is_bit_string(i);
    }
}

/* A register operand that lives in memory can be an operand there. Not where memory means something else: bit strings, locks. */
static bool fits_in_memory(const struct insn *i)
{
    if ((i->mnemonic == I_rol || i->mnemonic == I_ror) && i->operands[1].kind == OPND_IMM) return false; /* leaves another OF */
    return !is_bit_string(i) && i->mnemonic != I_xchg && i->mnemonic != I_xadd && i->mnemonic != I_cmpxchg;
}

/* Operands the other way round, where there is an opcode for that and only `reg` lives in memory. */
static void turn_form(struct form *f)
{
    if (f->is_mem || !f->has_reg || f->map || resident(f->reg) || !resident(f->rm)) return;
    if ((f->code < 0x40 && (f->code & 7) < 4) || (f->code >= 0x88 && f->code < 0x8c)) f->code ^= 2;
    else if (f->code != 0x84 && f->code != 0x85) return;
    const struct form o = *f;
    f->reg = o.rm;
    f->rm = o.reg;
    f->reg_read = o.rm_read;
    f->reg_write = o.rm_write;
    f->rm_read = o.reg_read;
    f->rm_write = o.reg_write;
}

static bool translate_form(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    struct form f;
    if (!form_of(i, &f)) return false;
    if (f.is_mem && !address_ok(t)) return false;
    if ((i->prefixes & PFX_LOCK) && !f.is_mem) return false;
    const struct flag_use u = flags_of(i);
    if (f.rm_byte) f.rm_size = 1;
    turn_form(&f);
    const bool bit_string = f.is_mem && is_bit_string(i);
    /* AH CH DH BH beside memory, which needs a REX prefix: the register is rotated for the while. */
    const bool turned = f.is_mem && f.reg_byte && is_high(i, f.reg) && i->mnemonic != I_cmpxchg && t->bt->bmi2;

    unsigned prefixes = f.prefix | size_prefix(i->opsize) | (i->prefixes & PFX_LOCK ? E_LOCK : 0);
    u32 written = f.implicit, used = f.implicit;
    unsigned reg = f.reg;
    bool reg_temp = false, rm_temp = false;
    struct byte_regs br = {0};
    struct rm rm;
    if (f.has_reg) {
        if (bit_string) {
            reg = T_B;
        } else if (f.reg_byte && is_high(i, f.reg)) {
            br.high = !turned;
            if (turned) reg = f.reg - 4u;
            used |= bit(f.reg - 4);
            if (f.reg_write) written |= bit(f.reg - 4);
        } else if (resident(f.reg)) {
            reg = f.reg_byte ? byte_operand(i, f.reg, &br) : host_reg(f.reg);
            used |= bit(reg);
            if (f.reg_write) written |= bit(reg);
        } else {
            reg = f.is_mem ? T_B : T_A; /* T_A belongs to the address */
            reg_temp = true;
        }
    }
    if (f.is_mem) {
        rm = rm_mem(H_NONE, 0); /* t->at, once it is probed */
    } else if (f.rm_byte && is_high(i, f.rm)) {
        br.high = true;
        rm = rm_reg(f.rm);
        used |= bit(f.rm - 4);
        if (f.rm_write) written |= bit(f.rm - 4);
    } else if (resident(f.rm)) {
        rm = rm_reg(f.rm_byte ? byte_operand(i, f.rm, &br) : host_reg(f.rm));
        used |= bit(rm.reg);
        if (f.rm_write) written |= bit(rm.reg);
    } else if (fits_in_memory(i) && !(f.rm_write && f.rm_size == 4)) {
        /* 32-bit results clear the upper half, and the host is slow to load all from two stores. */
        rm = guest_mem(f.rm);
    } else {
        rm = rm_reg(T_B);
        rm_temp = true;
    }
    if (br.rex) prefixes |= E_REX;
    if (br.high && (br.rex || (prefixes & E_W) || reg_temp || rm_temp || f.is_mem ||
                    (f.has_reg && (reg & 8)) || (rm.kind == RM_REG && (rm.reg & 8))))
        return false;

    struct stub *s = NULL;
    struct group *g = f.is_mem ? group_member(t) : NULL;
    const bool held = shared_held(t), unseen = u.merges && flags_unseen(t);
    flags_before(t, f.is_mem && !g, written, u.full || (unseen && !f.is_mem));
    if (g) {
        group_address(t, g);
        rm = t->at;
    } else if (f.is_mem) {
        s = new_stub(t);
        t->align = f.rm_size == 16 ? 16 : 0;
        if (bit_string) emit_bit_address(t, s, f.rm_write);
        else emit_address(t, s, f.rm_size, f.rm_write);
        t->align = 0;
        if (f.rm_size < 16 && ((i->prefixes & PFX_LOCK) || i->mnemonic == I_xchg)) emit_one_line(t, s, f.rm_size);
        rm = t->at;
    }
    const bool counts = i->mnemonic == I_inc || i->mnemonic == I_dec, carry = counts && (t->mem || t->carry_mem);
    if (u.needs && !unseen && (counts || i->mnemonic == I_adc || i->mnemonic == I_sbb)) flags_carry_to_host(t);
    else if (u.needs && !unseen) flags_to_host(t);
    if (turned) {
        if (rm.reg == reg || rm.index == reg) {
            emit_lea(e, true, T_A, rm);
            rm = rm_mem(T_A, 0);
        }
        emit_rorx(e, reg, reg, 8);
    }
    if (bit_string) emit_load(e, T_B, STATE(target));
    if (reg_temp && (f.reg_read || i->opsize < 4)) emit_load(e, reg, guest_mem(f.reg));
    if (rm_temp && (f.rm_read || f.rm_size < 4)) emit_load(e, T_B, guest_mem(f.rm));
    /* What is compared is kept, so that the flags can be made again. */
    const bool kept = f.is_mem && (i->mnemonic == I_cmp || i->mnemonic == I_test) && !turned && !reg_temp && !br.high &&
                      flags_worth(t, used);
    if (kept) {
        if (f.rm_size == 1) emit_op(e, 0, 1, 0xb6, T_B, rm);
        else emit_load_size(e, f.rm_size, T_B, rm);
        emit_store(e, T_B, STATE(compared));
        rm = rm_reg(T_B);
    }
    u8 *code = e->p;
    emit_op(e, prefixes, f.map, f.code, reg, rm);
    const bool patched = imm_site(t, f.imm_bytes);
    emit_imm(e, i, f.imm_bytes);
    unsigned len = (unsigned)(e->p - code);
    if (turned) emit_rorx(e, reg, reg, 56);
    if (reg_temp && f.reg_write) emit_store(e, reg, guest_mem(f.reg));
    if (rm_temp && f.rm_write) emit_store(e, T_B, guest_mem(f.rm));
    registers_written(t, written);
    if (u.writes) {
        flags_made(t);
        t->carry_mem = carry;
        if (kept && !patched) remember_kept(t, used, code, len);
        else if ((u.full || counts) && !reg_temp && !rm_temp && !turned && !patched && rm.kind != RM_CPU) remember(t, &f, prefixes, reg, rm, used, code, len);
    }
    if (g ? !turned : held && !f.is_mem && !reg_temp) t->shared_until = e->p;
    if (s) stub_back(t, s);
    return true;
}

/* BMI1 and BMI2: the same instruction, registers renamed. */
static bool translate_bmi(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    const bool group = i->map == 2 && i->code == 0xf3, two = i->mnemonic == I_mulx; /* two results */
    const bool v_last = i->map == 2 && (i->code == 0xf7 || i->mnemonic == I_bzhi);
    const struct operand *o = i->operands, *dst = &o[0], *src = &o[group || v_last || i->map == 3 ? 1 : 2];
    const struct operand *v = group ? &o[0] : i->map == 3 ? NULL : &o[v_last ? 2 : 1];
    const bool mem = src->kind == OPND_MEM, wide = i->opsize == 8;
    if (t->segmented || (mem && !address_ok(t))) return false; /* undefined in real mode */
    const struct flag_use u = flags_of(i);
    u32 written = resident(dst->reg) ? bit(host_reg(dst->reg)) : 0;
    if (two && resident(v->reg)) written |= bit(host_reg(v->reg));
    struct stub *s = NULL;
    struct group *g = mem ? group_member(t) : NULL;
    flags_before(t, mem && !g, written, u.full);
    struct rm rm = mem ? t->at : resident(src->reg) ? rm_reg(host_reg(src->reg)) : guest_mem(src->reg);
    if (g) {
        group_address(t, g);
        rm = t->at;
    } else if (mem) {
        s = new_stub(t);
        emit_address(t, s, i->opsize, false);
        rm = t->at;
    }
    /* Results into scratch registers, which are read (as part of the address) before they are written. */
    const unsigned d = resident(dst->reg) ? host_reg(dst->reg) : T_A;
    const unsigned hv = !v ? 0 : resident(v->reg) ? host_reg(v->reg) : group ? T_A : T_B;
    if (v && hv == T_B && !two) emit_load(e, T_B, guest_mem(v->reg));
    emit_vex(e, i->pp, wide, false, i->map, i->code, group ? i->modrm >> 3 & 7 : d, hv, rm);
    if (!v) emit8(e, (u8)i->imm);
    if (two && hv == T_B) emit_store(e, T_B, guest_mem(v->reg));
    if (d == T_A) emit_store(e, T_A, guest_mem(dst->reg));
    registers_written(t, written);
    if (u.writes) flags_made(t);
    if (g && d != T_A && hv != T_A) t->shared_until = e->p;
    if (s) stub_back(t, s);
    return true;
}

static bool translate_lea(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    unsigned guest = i->operands[0].reg;
    if (t->is64 && (i->opsize == 2 || i->addrsize == 2 || (i->addrsize == 4 && i->base == REG_RIP))) return false;
    bool res = resident(guest), held = shared_held(t);
    flags_before(t, false, res ? bit(host_reg(guest)) : 0, false);
    struct rm m;
    const bool wide = i->opsize == 8 && i->addrsize == 8;
    if (res && i->opsize == 2 && address_rm(t, &m)) {
        emit_op(e, E_66, 0, 0x8d, host_reg(guest), m);
    } else if (res && i->addrsize != 2 && address_rm(t, &m)) {
        emit_lea(e, wide, host_reg(guest), m);
    } else {
        emit_offset(t, wide, T_B);
        emit_op(e, wide ? E_W : 0, 0, 0x8b, res ? host_reg(guest) : T_B, rm_reg(T_B));
        held = false;
    }
    if (!res) emit_store(e, T_B, guest_mem(guest));
    else registers_written(t, bit(host_reg(guest)));
    if (held) t->shared_until = e->p;
    return true;
}

static bool translate_mov_imm(struct tr *t)
{
    const struct insn *i = t->i;
    unsigned guest = i->operands[0].reg;
    bool res = resident(guest), held = shared_held(t);
    flags_before(t, false, res ? bit(host_reg(guest)) : 0, false);
    const unsigned h = res ? host_reg(guest) : T_B;
    if (t->b->changes) { /* room for any other */
        if (i->opsize == 8 || h > 7) emit8(&t->e, 0x40u | (i->opsize & 8u) | h >> 3);
        emit8(&t->e, 0xb8 | (h & 7));
        imm_site(t, i->opsize);
        if (i->opsize == 8) emit64(&t->e, i->imm);
        else emit32(&t->e, i->imm);
    } else {
        emit_mov_imm64(&t->e, h, i->opsize == 8 ? i->imm : (u32)i->imm);
    }
    if (!res) emit_store(&t->e, T_B, guest_mem(guest));
    else registers_written(t, bit(host_reg(guest)));
    if (held) t->shared_until = t->e.p;
    return true;
}

static bool translate_bswap(struct tr *t)
{
    const struct insn *i = t->i;
    unsigned guest = i->operands[0].reg;
    if (i->opsize < 4) return false;
    bool res = resident(guest);
    unsigned h = res ? host_reg(guest) : T_B;
    flags_before(t, false, res ? bit(h) : 0, false);
    if (!res) emit_load(&t->e, T_B, guest_mem(guest));
    unsigned rex = (i->opsize == 8 ? 8u : 0) | (h >> 3);
    if (rex) emit8(&t->e, 0x40 | rex);
    emit8(&t->e, 0x0f);
    emit8(&t->e, 0xc8 | (h & 7));
    if (!res) emit_store(&t->e, T_B, guest_mem(guest));
    else registers_written(t, bit(h));
    return true;
}

static bool translate_push(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    const unsigned size = i->opsize, w = size_prefix(size);
    const struct operand *o = &i->operands[0];
    const bool mem = o->kind == OPND_MEM;
    if ((mem && !address_ok(t)) || (!mem && o->kind != OPND_GPR && o->kind != OPND_IMM)) return false;
    struct group *g = group_member(t);
    flags_before(t, !g, bit(H_GSP), false);
    struct stub *s = g ? NULL : new_stub(t);
    if (mem) {
        emit_address(t, s, size, false);
        emit_op(e, w, 0, 0x8b, T_B, t->at);
        emit_store(e, T_B, STATE(target));
    }
    if (g) group_address(t, g);
    else emit_stack(t, s, H_GSP, -(s32)size, size, true);
    if (o->kind == OPND_IMM) {
        emit_op(e, w, 0, 0xc7, 0, t->at);
        emit_imm(e, i, size == 2 ? 2 : 4);
    } else {
        const bool res = !mem && resident(o->reg);
        if (!res) emit_load(e, T_B, mem ? STATE(target) : guest_mem(o->reg));
        emit_op(e, w, 0, 0x89, res ? host_reg(o->reg) : T_B, t->at);
    }
    run_move_sp(t, -(s32)size);
    registers_written(t, bit(H_GSP));
    if (g) t->shared_until = e->p;
    else stub_back(t, s);
    return true;
}

static bool translate_pop(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    const unsigned size = i->opsize, w = size_prefix(size);
    const struct operand *o = &i->operands[0];
    if (o->kind != OPND_GPR || (size == 2 && o->reg == R_SP)) return false;
    u32 written = bit(H_GSP) | (resident(o->reg) ? bit(host_reg(o->reg)) : 0);
    struct group *g = group_member(t);
    flags_before(t, !g, written, false);
    struct stub *s = g ? NULL : new_stub(t);
    if (g) group_address(t, g);
    else emit_stack(t, s, H_GSP, 0, size, false);
    const unsigned h = resident(o->reg) ? host_reg(o->reg) : T_B;
    emit_op(e, w, 0, 0x8b, h, t->at);
    if (h == T_B) emit_op(e, w, 0, 0x89, T_B, guest_mem(o->reg));
    if (h != H_GSP) run_move_sp(t, (s32)size);
    registers_written(t, written);
    if (g) t->shared_until = e->p;
    else stub_back(t, s);
    return true;
}

static bool translate_leave(struct tr *t)
{
    const unsigned size = t->i->opsize;
    if (!stack_size_ok(t)) return false;
    flags_before(t, true, bit(H_GSP) | bit(H_BP), false);
    struct stub *s = new_stub(t);
    emit_stack(t, s, H_BP, 0, size, false);
    emit_set_sp(t, H_BP, (s32)size);
    emit_op(&t->e, size_prefix(size), 0, 0x8b, H_BP, t->at);
    registers_written(t, bit(H_GSP) | bit(H_BP));
    stub_back(t, s);
    return true;
}

/* DIV and IDIV where they cannot fault; else the handler does. Flags stay as they are, as the interpreter has it. */
static bool translate_divide(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    const bool mem = i->operands[0].kind == OPND_MEM;
    const unsigned w = size_prefix(i->opsize);
    if (i->opsize == 1 || i->code == 0xf6 || (mem && !address_ok(t))) return false;
    flags_before(t, true, bit(H_AX) | bit(H_DX), false);
    struct stub *s = new_stub(t);
    unsigned src = T_B;
    if (mem) {
        emit_address(t, s, i->opsize, false);
        emit_op(e, w, 0, 0x8b, T_B, t->at);
    } else if (resident(i->operands[0].reg)) {
        src = host_reg(i->operands[0].reg);
    } else {
        emit_load(e, T_B, guest_mem(i->operands[0].reg));
    }
    if (i->mnemonic == I_div) {
        /* No fault when the high half is below the divisor, which then is not 0. */
        emit_op(e, w, 0, 0x3b, H_DX, rm_reg(src));
        stub_from(t, s, CC_AE);
        emit_op(e, w, 0, 0xf7, 6, rm_reg(src));
    } else {
        /* No fault when the dividend is one half sign-extended and the divisor neither 0 nor -1. */
        emit_op(e, w, 0, 0x8b, T_A, rm_reg(H_AX));
        emit_op(e, w, 0, 0xc1, 7, rm_reg(T_A));
        emit8(e, i->opsize * 8 - 1);
        emit_op(e, w, 0, 0x3b, T_A, rm_reg(H_DX));
        stub_from(t, s, CC_NE);
        emit_lea(e, true, T_A, rm_mem(src, 1));
        emit_op(e, w, 0, 0x83, 7, rm_reg(T_A));
        emit8(e, 1);
        stub_from(t, s, CC_BE);
        emit_op(e, w, 0, 0xf7, 7, rm_reg(src));
    }
    registers_written(t, bit(H_AX) | bit(H_DX));
    stub_back(t, s);
    return true;
}

bool translate_integer(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    switch (i->mnemonic) {
    case I_nop: case I_prefetch: return true;
    case I_lea: return translate_lea(t);
    case I_push: return translate_push(t);
    case I_pop: return translate_pop(t);
    case I_leave: return translate_leave(t);
    case I_bswap: return translate_bswap(t);
    case I_movs: case I_stos: case I_lods: case I_scas: case I_cmps: return translate_string(t);
    case I_div:
    case I_idiv: return translate_divide(t);
    case I_pause:
        flags_before(t, true, 0, false);
        emit_call(t, t->bt->pause);
        return true;
    case I_cbw:
    case I_cwd: {
        u32 w = i->mnemonic == I_cbw ? bit(H_AX) : bit(H_DX);
        flags_before(t, false, w, false);
        if (i->opsize == 2) emit8(e, 0x66);
        if (i->opsize == 8) emit8(e, 0x48);
        emit8(e, i->code);
        registers_written(t, w);
        return true;
    }
    case I_clc:
    case I_stc:
    case I_cmc:
    case I_sahf:
        flags_to_host(t);
        emit8(e, i->code);
        flags_made(t);
        return true;
    case I_lahf:
        flags_to_host(t);
        emit8(e, 0x9f);
        registers_written(t, bit(H_AX));
        return true;
    case I_mov:
        if (i->map == 0 && i->code >= 0xb8 && i->code < 0xc0 && i->opsize >= 4) return translate_mov_imm(t);
        return translate_form(t);
    case I_movbe: case I_crc32: case I_adcx: case I_adox:
        return t->bt->bmi2 && translate_form(t); /* hosts that have the one have the others, or the guest has not */
    default:
        if (i->opcode->cls != CLASS_IDENT || (i->opcode->attr & ATTR_VECTOR)) return false;
        return i->prefixes & PFX_VEX ? t->bt->bmi2 && translate_bmi(t) : translate_form(t);
    }
}
