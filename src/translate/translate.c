/* Guest blocks to host code: same instruction set, so that most instructions are the guest's own with registers renamed.
 *
 * Registers: guest RAX RCX RDX RBX RBP RSI RDI R8-R11 live in the host registers of the same name, guest RSP in r12; guest
 * R12-R15 stay in cpu->regs. r13, r14 and r15 are scratch. GS points at struct cpu.
 *
 * Flags: within a block the guest's arithmetic flags may be in the host's flags, in cpu->aflags, or recoverable by repeating
 * (or undoing and repeating) the instruction that made them; any fault or slow path finds them exact. At block boundaries they
 * are in cpu->aflags, unless all successors overwrite them before anything could look.
 *
 * Memory: the TLB is probed inline. On a miss, as for every instruction that is not translated inline, the interpreter's handler
 * runs the whole instruction from the state before it: faults are precise by construction.
 *
 * Blocks are position independent: cpu->page_rip is the linear address of their page. Direct jumps within the page are chained
 * by patching (all blocks of a page die together, so nothing must be unchained); the others look the target up in the block
 * cache's table of jumps.
 *
 * DEVIATION: an interrupt taken between two blocks may push arithmetic flags that the next instructions overwrite unseen.
 *
 * Which flags an instruction leaves undefined is the host's affair, as in the interpreter (cpu/alu.h). The code below relies on
 * their not depending on the flags before, for shifts by a constant other than 0, BSF, BSR, LZCNT, TZCNT, POPCNT and IMUL:
 * measured on Intel processors. */
#include "translate/translate.h"

#include <stdlib.h>

#include "cpu/decode.h"
#include "translate/emit.h"
#include "translate/form.h"

enum { T_ADDR = H_14, T_A = H_15, T_B = H_13, H_GSP = H_12 };

#define MAX_STUBS 256
#define MAX_EXITS 8

/* An out-of-line path. */
struct stub {
    u8 *sites[5]; /* jumps to it */
    u8 nsites;
    bool recover;  /* the flags must be recovered and saved first */
    bool restore;  /* the fast path goes on with the guest's flags in the host's */
    u8 rec_len;    /* recovery code */
    u8 rec[16];
    const struct insn *insn;
    u8 *back; /* where the fast path goes on */
};

struct exit_jump {
    u8 *site;
    s32 target; /* offset from the page's start */
};

struct tr {
    struct emit e; /* first */
    struct bt *bt;
    struct cpu *cpu;
    struct block *b;
    bool is64;
    unsigned context;     /* TLB context */
    const struct insn *i; /* being translated */
    /* where the guest's flags are */
    bool host;      /* in the host's */
    bool mem;       /* in cpu->aflags */
    u8 rec_len;     /* recoverable by this code; 0: no */
    u8 rec[16];
    u32 rec_regs;   /* host registers it depends on */
    struct stub stubs[MAX_STUBS];
    unsigned nstubs;
    struct exit_jump exits[MAX_EXITS];
    unsigned nexits;
    u8 *poll_site;
};

static u8 *thunk_rw(const struct bt *bt, const u8 *rx) { return bt->code.rw + (rx - bt->code.rx); }

/* ---- registers ---- */

static bool resident(unsigned guest) { return guest < 12; }
static unsigned host_reg(unsigned guest) { return guest == R_SP ? H_GSP : guest; }
static struct rm guest_mem(unsigned guest) { return rm_gs(offsetof(struct cpu, regs) + 8 * guest); }

/* ---- flags ---- */

/* lahf/seto form into cpu->aflags; host flags stay. Uses T_B. */
static void emit_flags_save(struct emit *e)
{
    emit_store(e, H_AX, rm_reg(T_B));
    emit8(e, 0x9f); /* lahf */
    emit_op(e, 0, 1, 0x90, 0, rm_reg(H_AX)); /* seto al */
    emit_op(e, E_66, 0, 0x89, H_AX, STATE(aflags));
    emit_load(e, H_AX, rm_reg(T_B));
}

static void emit_flags_restore(struct emit *e)
{
    emit_store(e, H_AX, rm_reg(T_B));
    emit_op(e, 0, 1, 0xb7, H_AX, STATE(aflags));
    emit8(e, 0x04); /* add al, 7fh: OF */
    emit8(e, 0x7f);
    emit8(e, 0x9e); /* sahf */
    emit_load(e, H_AX, rm_reg(T_B));
}

static void emit_bytes(struct emit *e, const u8 *bytes, unsigned n)
{
    memcpy(e->p, bytes, n);
    e->p += n;
}

static void flags_to_host(struct tr *t)
{
    if (t->host) return;
    if (t->rec_len) emit_bytes(&t->e, t->rec, t->rec_len);
    else emit_flags_restore(&t->e);
    t->host = true;
}

static void flags_to_mem(struct tr *t)
{
    if (t->mem) return;
    flags_to_host(t);
    emit_flags_save(&t->e);
    t->mem = true;
}

/* Before an instruction that clobbers the host's flags without meaning to (a TLB probe), and writes `written`; `full`: it then
 * sets all the guest's flags. */
static void flags_before(struct tr *t, bool clobbers, u32 written, bool full)
{
    if (t->mem) {
        if (clobbers) t->host = false;
        return;
    }
    bool conflict = !full && (t->rec_regs & written);
    if (clobbers) {
        if (!t->rec_len || conflict) flags_to_mem(t);
        t->host = false;
    } else if (conflict) {
        flags_to_host(t);
    }
}

static void registers_written(struct tr *t, u32 written)
{
    if (t->rec_len && (t->rec_regs & written)) t->rec_len = 0;
}

/* The guest's flags were just made by host code, all of them or on top of those that were there. */
static void flags_made(struct tr *t)
{
    t->host = true;
    t->mem = false;
    t->rec_len = 0;
}

/* ---- slow paths ---- */

static struct stub *new_stub(struct tr *t)
{
    struct stub *s = &t->stubs[t->nstubs++];
    *s = (struct stub){.insn = t->i, .recover = !t->mem, .rec_len = t->rec_len};
    memcpy(s->rec, t->rec, sizeof s->rec);
    return s;
}

static void stub_from(struct tr *t, struct stub *s, unsigned cc) { s->sites[s->nsites++] = emit_jump(&t->e, cc); }

/* Here the fast path of the instruction ends. */
static void stub_back(struct tr *t, struct stub *s)
{
    s->back = t->e.p;
    s->restore = t->host;
}

static void emit_slow_call(struct tr *t, const struct insn *i)
{
    emit_mov_imm64(&t->e, H_14, (u64)(uintptr_t)i);
    emit_mov_imm64(&t->e, H_15, t->b->offset);
    emit8(&t->e, 0xe8);
    emit32(&t->e, 0);
    emit_patch(t->e.p - 4, thunk_rw(t->bt, t->bt->slow));
}

static void emit_stub(struct tr *t, const struct stub *s)
{
    for (unsigned n = 0; n < s->nsites; n++) emit_patch(s->sites[n], t->e.p);
    if (s->recover) {
        emit_bytes(&t->e, s->rec, s->rec_len);
        emit_flags_save(&t->e);
    }
    emit_slow_call(t, s->insn);
    if (!s->back) return;
    if (s->restore) emit_flags_restore(&t->e);
    emit_jump_to(&t->e, CC_ALWAYS, s->back);
}

/* The interpreter's handler in the instruction's place. */
static void by_handler(struct tr *t)
{
    t->bt->refused[t->i->mnemonic]++;
    flags_to_mem(t);
    emit_slow_call(t, t->i);
    t->host = false;
    t->rec_len = 0;
}

/* ---- memory ---- */

/* Can the memory operand's address be computed inline? */
static bool address_ok(const struct tr *t)
{
    const struct insn *i = t->i;
    if (t->is64) {
        if (i->addrsize == 4) return i->base != REG_RIP;
        return i->addrsize == 8;
    }
    return i->addrsize == 4 && i->seg != SEG_CS;
}

/* The operand of a LEA-like computation; uses T_ADDR and T_A for registers that are in memory. */
static struct rm address_rm(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    struct rm m = {.kind = RM_MEM, .reg = H_NONE, .index = H_NONE, .scale = i->scale, .disp = (s32)i->disp};
    if (i->base == REG_RIP) {
        emit_load(e, T_ADDR, STATE(page_rip));
        m.reg = T_ADDR;
        m.disp = (s32)(i->disp + t->b->offset);
        return m;
    }
    if (i->base != REG_ZERO) {
        if (resident(i->base)) {
            m.reg = (u8)host_reg(i->base);
        } else {
            emit_load(e, T_ADDR, guest_mem(i->base));
            m.reg = T_ADDR;
        }
    }
    if (i->index != REG_ZERO) {
        if (resident(i->index)) {
            m.index = (u8)host_reg(i->index);
        } else {
            emit_load(e, T_A, guest_mem(i->index));
            m.index = T_A;
        }
        /* r12 as an index is fine (only SIB index 4 without REX.X means none). */
    }
    return m;
}

/* Where a probe leaves the host address. */
static struct rm probed(void) { return (struct rm){.kind = RM_MEM, .reg = T_ADDR, .index = T_A}; }

/* Probe the TLB for [T_ADDR, +size): the host address is T_ADDR + T_A. Uses T_B. */
static void emit_probe(struct tr *t, struct stub *s, unsigned size, bool write)
{
    struct emit *e = &t->e;
    const size_t table = offsetof(struct cpu, tlbs) + t->context * sizeof(struct tlb) + offsetof(struct tlb, e);
    _Static_assert(sizeof(struct tlb_entry) == 32 && GUEST_PAGE_SHIFT == 12, "shifts below");
    /* tlb_index() times 32 */
    if (t->bt->bmi2) {
        emit_rorx(e, T_A, T_ADDR, 7);
        emit_rorx(e, T_B, T_ADDR, 17);
    } else {
        emit_store(e, T_ADDR, rm_reg(T_A));
        emit_shift(e, 5, T_A, 7);
        emit_store(e, T_ADDR, rm_reg(T_B));
        emit_shift(e, 5, T_B, 17);
    }
    emit_op(e, 0, 0, 0x33, T_A, rm_reg(T_B));
    emit_alu_imm(e, false, 4, T_A, (TLB_ENTRIES - 1) << 5);
    if (size == 1) emit_store(e, T_ADDR, rm_reg(T_B));
    else emit_lea(e, true, T_B, rm_mem(T_ADDR, (s32)size));
    emit_alu_imm(e, true, 4, T_B, -(s32)GUEST_PAGE_SIZE);
    emit_op(e, E_W, 0, 0x0b, T_B, rm_gs(offsetof(struct cpu, tlbs) + t->context * sizeof(struct tlb) + offsetof(struct tlb, gen)));
    size_t tag = write ? offsetof(struct tlb_entry, write_tag) : offsetof(struct tlb_entry, read_tag);
    emit_op(e, E_W, 0, 0x3b, T_B, rm_gs_base(T_A, table + tag));
    stub_from(t, s, CC_NE);
    emit_load(e, T_A, rm_gs_base(T_A, table + offsetof(struct tlb_entry, addend)));
}

/* The memory operand's host address into T_ADDR + T_A. */
static void emit_address(struct tr *t, struct stub *s, unsigned size, bool write)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    if (i->base == REG_ZERO && i->index == REG_ZERO && i->disp != (s32)i->disp) {
        emit_mov_imm64(e, T_ADDR, (u64)i->disp);
    } else {
        struct rm m = address_rm(t);
        emit_lea(e, t->is64 && i->addrsize == 8, T_ADDR, m);
    }
    if (i->seg == SEG_FS || i->seg == SEG_GS) {
        const size_t win = offsetof(struct cpu, win) + i->seg * sizeof(struct segment_window);
        if (!t->is64) {
            emit_lea(e, true, T_B, rm_mem(T_ADDR, (s32)size));
            emit_op(e, E_W, 0, 0x3b, T_B, rm_gs(win + (write ? offsetof(struct segment_window, write_end)
                                                             : offsetof(struct segment_window, read_end))));
            stub_from(t, s, CC_A);
        }
        emit_op(e, t->is64 ? E_W : 0, 0, 0x03, T_ADDR, rm_gs(win + offsetof(struct segment_window, base)));
    }
    emit_probe(t, s, size, write);
}

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

/* Remember how to make the flags of an instruction without memory operand again. */
static void remember(struct tr *t, const struct form *f, unsigned prefixes, unsigned reg, struct rm rm, u32 regs_used,
                     const u8 *code, unsigned len)
{
    const struct insn *i = t->i;
    struct emit r = {.p = t->rec};
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
    default: return;
    }
    t->rec_len = (u8)(r.p - t->rec);
    t->rec_regs = regs_used;
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
    if (f.rm_byte && !f.has_reg) f.rm_size = 1;
    if (f.rm_byte) f.rm_size = 1;

    unsigned prefixes = f.prefix | (i->opsize == 2 ? E_66 : 0) | (i->opsize == 8 ? E_W : 0) |
                        (i->prefixes & PFX_LOCK ? E_LOCK : 0);
    u32 written = f.implicit, used = f.implicit;
    unsigned reg = f.reg;
    bool reg_temp = false, rm_temp = false;
    struct byte_regs br = {0};
    struct rm rm;
    if (f.has_reg) {
        if (f.reg_byte && is_high(i, f.reg)) {
            br.high = true;
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
        rm = probed();
    } else if (f.rm_byte && is_high(i, f.rm)) {
        br.high = true;
        rm = rm_reg(f.rm);
        used |= bit(f.rm - 4);
        if (f.rm_write) written |= bit(f.rm - 4);
    } else if (resident(f.rm)) {
        rm = rm_reg(f.rm_byte ? byte_operand(i, f.rm, &br) : host_reg(f.rm));
        used |= bit(rm.reg);
        if (f.rm_write) written |= bit(rm.reg);
    } else {
        rm = rm_reg(T_B);
        rm_temp = true;
    }
    if (br.rex) prefixes |= E_REX;
    if (br.high && (br.rex || (prefixes & E_W) || reg_temp || rm_temp || f.is_mem ||
                    (f.has_reg && (reg & 8)) || (rm.kind == RM_REG && (rm.reg & 8))))
        return false;

    struct stub *s = NULL;
    flags_before(t, f.is_mem, written, u.full);
    if (f.is_mem) {
        s = new_stub(t);
        emit_address(t, s, f.rm_size, f.rm_write);
    }
    if (u.needs) flags_to_host(t);
    if (reg_temp && (f.reg_read || i->opsize < 4)) emit_load(e, reg, guest_mem(f.reg));
    if (rm_temp && (f.rm_read || f.rm_size < 4)) emit_load(e, T_B, guest_mem(f.rm));
    u8 *code = e->p;
    emit_op(e, prefixes, f.map, f.code, reg, rm);
    emit_imm(e, i, f.imm_bytes);
    unsigned len = (unsigned)(e->p - code);
    if (reg_temp && f.reg_write) emit_store(e, reg, guest_mem(f.reg));
    if (rm_temp && f.rm_write) emit_store(e, T_B, guest_mem(f.rm));
    registers_written(t, written);
    if (u.writes) {
        flags_made(t);
        if (u.full && !reg_temp && !rm_temp) remember(t, &f, prefixes, reg, rm, used, code, len);
    }
    if (s) stub_back(t, s);
    return true;
}

/* ---- the rest, by mnemonic ---- */

static bool translate_lea(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    unsigned guest = i->operands[0].reg;
    if (i->opsize == 2 || (t->is64 ? i->addrsize == 2 || (i->addrsize == 4 && i->base == REG_RIP) : i->addrsize != 4))
        return false;
    bool res = resident(guest);
    flags_before(t, false, res ? bit(host_reg(guest)) : 0, false);
    struct rm m = address_rm(t);
    emit_lea(e, i->opsize == 8 && i->addrsize == 8, res ? host_reg(guest) : T_B, m);
    if (!res) emit_store(e, T_B, guest_mem(guest));
    else registers_written(t, bit(host_reg(guest)));
    return true;
}

static bool translate_mov_imm(struct tr *t)
{
    const struct insn *i = t->i;
    unsigned guest = i->operands[0].reg;
    bool res = resident(guest);
    flags_before(t, false, res ? bit(host_reg(guest)) : 0, false);
    emit_mov_imm64(&t->e, res ? host_reg(guest) : T_B, i->opsize == 8 ? i->imm : (u32)i->imm);
    if (!res) emit_store(&t->e, T_B, guest_mem(guest));
    else registers_written(t, bit(host_reg(guest)));
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

/* The stack pointer moved by n. */
static void emit_move_sp(struct tr *t, s32 n) { emit_lea(&t->e, t->is64, H_GSP, rm_mem(H_GSP, n)); }

static bool translate_push(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    const unsigned size = t->is64 ? 8 : 4, w = t->is64 ? E_W : 0;
    const struct operand *o = &i->operands[0];
    if (i->opsize != size || (o->kind != OPND_GPR && o->kind != OPND_IMM)) return false;
    flags_before(t, true, bit(H_GSP), false);
    struct stub *s = new_stub(t);
    emit_lea(e, t->is64, T_ADDR, rm_mem(H_GSP, -(s32)size));
    emit_probe(t, s, size, true);
    if (o->kind == OPND_IMM) {
        emit_op(e, w, 0, 0xc7, 0, probed());
        emit32(e, i->imm);
    } else {
        unsigned h = resident(o->reg) ? host_reg(o->reg) : T_B;
        if (h == T_B) emit_load(e, T_B, guest_mem(o->reg));
        emit_op(e, w, 0, 0x89, h, probed());
    }
    emit_move_sp(t, -(s32)size);
    registers_written(t, bit(H_GSP));
    stub_back(t, s);
    return true;
}

static bool translate_pop(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    const unsigned size = t->is64 ? 8 : 4, w = t->is64 ? E_W : 0;
    const struct operand *o = &i->operands[0];
    if (i->opsize != size || o->kind != OPND_GPR) return false;
    u32 written = bit(H_GSP) | (resident(o->reg) ? bit(host_reg(o->reg)) : 0);
    flags_before(t, true, written, false);
    struct stub *s = new_stub(t);
    emit_op(e, w, 0, 0x8b, T_ADDR, rm_reg(H_GSP));
    emit_probe(t, s, size, false);
    emit_move_sp(t, (s32)size);
    if (resident(o->reg)) {
        emit_op(e, w, 0, 0x8b, host_reg(o->reg), probed());
    } else {
        emit_load(e, T_B, probed());
        emit_store(e, T_B, guest_mem(o->reg));
    }
    registers_written(t, written);
    stub_back(t, s);
    return true;
}

static bool translate_leave(struct tr *t)
{
    const unsigned size = t->is64 ? 8 : 4, w = t->is64 ? E_W : 0;
    struct emit *e = &t->e;
    if (t->i->opsize != size) return false;
    flags_before(t, true, bit(H_GSP) | bit(H_BP), false);
    struct stub *s = new_stub(t);
    emit_op(e, w, 0, 0x8b, T_ADDR, rm_reg(H_BP));
    emit_probe(t, s, size, false);
    emit_lea(e, t->is64, H_GSP, rm_mem(H_BP, (s32)size));
    emit_op(e, w, 0, 0x8b, H_BP, probed());
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
    const unsigned w = i->opsize == 8 ? E_W : 0;
    if (i->opsize < 4 || (mem && !address_ok(t))) return false;
    flags_before(t, true, bit(H_AX) | bit(H_DX), false);
    struct stub *s = new_stub(t);
    unsigned src = T_B;
    if (mem) {
        emit_address(t, s, i->opsize, false);
        emit_op(e, w, 0, 0x8b, T_B, probed());
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
        emit_lea(e, w, T_A, rm_mem(src, 1));
        emit_alu_imm(e, w, 7, T_A, 1);
        stub_from(t, s, CC_BE);
        emit_op(e, w, 0, 0xf7, 7, rm_reg(src));
    }
    registers_written(t, bit(H_AX) | bit(H_DX));
    stub_back(t, s);
    return true;
}

/* ---- jumps ---- */

/* Page offset of a direct branch's target; false: by handler. */
static bool branch_target(const struct tr *t, s32 *off)
{
    const struct insn *i = t->i;
    s64 target = (s64)t->b->offset + i->off + i->len + (s64)i->imm;
    if (i->opsize == 2 || target != (s32)target) return false;
    *off = (s32)target;
    return true;
}

static bool in_page(s32 off) { return off >= 0 && off < (s32)GUEST_PAGE_SIZE; }

/* All flags are overwritten at this place of the page before anything could fault or read them. */
static bool flags_dead_at(struct tr *t, s32 off)
{
    if (!in_page(off)) return false;
    struct code_page *p = t->bt->cache.pages[t->b->page];
    const u8 *code = t->cpu->ram->host + (t->b->page << GUEST_PAGE_SHIFT);
    const s32 start = off;
    for (unsigned n = 0; n < 6 && off < (s32)GUEST_PAGE_SIZE; n++) {
        struct insn i;
        int len = decode(&i, code + off, GUEST_PAGE_SIZE - (unsigned)off, t->cpu->code_size);
        if (len <= 0) return false;
        for (unsigned k = 0; k < i.noperands; k++)
            if (i.operands[k].kind == OPND_MEM && i.mnemonic != I_lea) return false;
        if (i.prefixes & PFX_LOCK) return false;
        off += len;
        switch (i.mnemonic) {
        case I_mov: case I_lea: case I_movzx: case I_movsx: case I_movsxd: case I_bswap: case I_cbw: case I_cwd: case I_nop:
            continue;
        case I_add: case I_sub: case I_and: case I_or: case I_xor: case I_cmp: case I_test: case I_neg: case I_shl:
        case I_shr: case I_sar: {
            struct flag_use u = flags_of(&i);
            if (!u.full || u.needs) return false;
            /* The page must die when these bytes change, although no block may cover them yet. */
            for (s32 g = start >> GRANULE_SHIFT; g <= (off - 1) >> GRANULE_SHIFT; g++) p->map[g >> 6] |= 1ull << (g & 63);
            return true;
        }
        default: return false;
        }
    }
    return false;
}

/* A block at this page offset that is already translated. */
static const struct block *translated_at(const struct tr *t, s32 off)
{
    const struct code_page *p = t->bt->cache.pages[t->b->page];
    for (const struct block *b = p->buckets[off % PAGE_BUCKETS]; b; b = b->next)
        if (b->offset == off && b->mode == t->b->mode) return b->host ? b : NULL;
    return NULL;
}

static bool is_forward(const struct tr *t, s32 off) { return off > t->b->offset; }

/* Jump within the page. */
static void emit_direct(struct tr *t, unsigned cc, s32 off)
{
    u8 *site = emit_jump(&t->e, cc);
    const struct block *to = translated_at(t, off);
    if (to) {
        emit_patch(site, thunk_rw(t->bt, is_forward(t, off) ? to->host_forward : to->host));
        return;
    }
    t->exits[t->nexits++] = (struct exit_jump){site, off};
}

/* Look T_ADDR, the target's RIP, up: at *miss[] with nothing changed but T_A and T_B, or go on with T_A at the entry. */
static void emit_lookup(struct tr *t, u8 *miss[2])
{
    struct emit *e = &t->e;
    _Static_assert(sizeof(struct jump_entry) == 32, "shift below");
    emit_store(e, T_ADDR, rm_reg(T_A));
    emit_shift(e, 5, T_A, 13);
    emit_op(e, 0, 0, 0x33, T_A, rm_reg(T_ADDR));
    emit_alu_imm(e, false, 4, T_A, JUMP_ENTRIES - 1);
    emit_shift(e, 4, T_A, 5);
    emit_op(e, E_W, 0, 0x03, T_A, STATE(jumps));
    emit_op(e, E_W, 0, 0x3b, T_ADDR, rm_mem(T_A, offsetof(struct jump_entry, lin)));
    miss[0] = emit_jump(e, CC_NE);
    emit_mov_imm64(e, T_B, (u64)t->b->mode << 56);
    emit_op(e, E_W, 0, 0x03, T_B, STATE(code_gen));
    emit_op(e, E_W, 0, 0x3b, T_B, rm_mem(T_A, offsetof(struct jump_entry, key)));
    miss[1] = emit_jump(e, CC_NE);
}

static void emit_enter_entry(struct tr *t)
{
    struct emit *e = &t->e;
    emit_alu_imm(e, true, 4, T_ADDR, -(s32)GUEST_PAGE_SIZE);
    emit_store(e, T_ADDR, STATE(page_rip));
    emit_op(e, 0, 0, 0xff, 4, rm_mem(T_A, offsetof(struct jump_entry, host)));
}

/* RIP of a page offset into a register. */
static void emit_rip(struct tr *t, unsigned reg, s32 off)
{
    emit_load(&t->e, reg, STATE(page_rip));
    emit_lea(&t->e, t->is64, reg, rm_mem(reg, off));
}

static void emit_exit_rip(struct tr *t) { emit_jump_to(&t->e, CC_ALWAYS, thunk_rw(t->bt, t->bt->exit_rip)); }

/* Jump out of the page, flags in memory. */
static void emit_far_jump(struct tr *t, s32 off, s32 move_sp)
{
    u8 *miss[2];
    emit_rip(t, T_ADDR, off);
    emit_lookup(t, miss);
    if (move_sp) emit_move_sp(t, move_sp);
    emit_enter_entry(t);
    if (move_sp) return;
    emit_patch(miss[0], t->e.p);
    emit_patch(miss[1], t->e.p);
    emit_exit_rip(t);
}

static void emit_go(struct tr *t, s32 off)
{
    if (in_page(off)) emit_direct(t, CC_ALWAYS, off);
    else emit_far_jump(t, off, 0);
}

static bool translate_jcc(struct tr *t)
{
    s32 taken, next = t->b->offset + t->i->off + t->i->len;
    if (!branch_target(t, &taken)) return false;
    flags_to_host(t);
    if (!t->mem && !(flags_dead_at(t, taken) && flags_dead_at(t, next))) flags_to_mem(t);
    unsigned cc = t->i->code & 15;
    if (in_page(taken)) {
        emit_direct(t, cc, taken);
        emit_go(t, next);
    } else {
        u8 *site = emit_jump(&t->e, cc);
        emit_go(t, next);
        emit_patch(site, t->e.p);
        emit_far_jump(t, taken, 0);
    }
    return true;
}

static bool translate_jmp(struct tr *t)
{
    s32 target;
    if (!branch_target(t, &target)) return false;
    if (!flags_dead_at(t, target)) flags_to_mem(t);
    emit_go(t, target);
    return true;
}

/* Push the return address without moving the stack pointer yet. */
static struct stub *emit_push_return(struct tr *t)
{
    const s32 size = t->is64 ? 8 : 4, next = t->b->offset + t->i->off + t->i->len;
    struct stub *s = new_stub(t);
    emit_lea(&t->e, t->is64, T_ADDR, rm_mem(H_GSP, -size));
    emit_probe(t, s, (unsigned)size, true);
    emit_rip(t, T_B, next);
    emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x89, T_B, probed());
    return s;
}

static bool translate_call(struct tr *t)
{
    const s32 size = t->is64 ? 8 : 4;
    s32 target;
    if (t->i->opsize != size || !branch_target(t, &target)) return false;
    flags_to_mem(t);
    struct stub *s = emit_push_return(t);
    if (in_page(target)) {
        emit_move_sp(t, -size);
        emit_direct(t, CC_ALWAYS, target);
    } else {
        u8 *miss[2];
        emit_rip(t, T_ADDR, target);
        emit_lookup(t, miss);
        emit_move_sp(t, -size);
        emit_enter_entry(t);
        s->sites[s->nsites++] = miss[0];
        s->sites[s->nsites++] = miss[1];
    }
    return true;
}

/* On a miss the handler does it all again, from the unchanged state. */
static void emit_indirect(struct tr *t, struct stub *s, s32 move_sp)
{
    u8 *miss[2];
    emit_lookup(t, miss);
    if (move_sp) emit_move_sp(t, move_sp);
    emit_enter_entry(t);
    s->sites[s->nsites++] = miss[0];
    s->sites[s->nsites++] = miss[1];
}

static bool translate_ret(struct tr *t)
{
    const s32 size = t->is64 ? 8 : 4;
    if (t->i->opsize != size) return false;
    flags_to_mem(t);
    struct stub *s = new_stub(t);
    emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x8b, T_ADDR, rm_reg(H_GSP));
    emit_probe(t, s, (unsigned)size, false);
    emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x8b, T_ADDR, probed());
    emit_indirect(t, s, size + (t->i->operands[0].kind == OPND_IMM ? (u16)t->i->imm : 0));
    return true;
}

static bool translate_indirect(struct tr *t, bool call)
{
    const struct insn *i = t->i;
    const s32 size = t->is64 ? 8 : 4;
    const struct operand *o = &i->operands[0];
    bool mem = o->kind == OPND_MEM;
    if (i->opsize != size || (mem && !address_ok(t))) return false;
    /* The push could change the operand, which the handler would read again. */
    if (call && mem && (i->base == R_SP || i->index == R_SP)) return false;
    flags_to_mem(t);
    struct stub *s;
    if (call) {
        /* First the operand, so that its fault comes first; then the push. */
        if (mem) {
            s = new_stub(t);
            emit_address(t, s, (unsigned)size, false);
            emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x8b, T_ADDR, probed());
            emit_store(&t->e, T_ADDR, STATE(target));
        }
        s = emit_push_return(t);
    } else {
        s = new_stub(t);
        if (mem) emit_address(t, s, (unsigned)size, false);
    }
    if (mem && call) emit_load(&t->e, T_ADDR, STATE(target));
    else if (mem) emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x8b, T_ADDR, probed());
    else if (resident(o->reg)) emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x8b, T_ADDR, rm_reg(host_reg(o->reg)));
    else emit_load(&t->e, T_ADDR, guest_mem(o->reg));
    emit_indirect(t, s, call ? -size : 0);
    return true;
}

/* Returns false when the handler must do it. *ended: nothing follows. */
static bool translate_insn(struct tr *t, bool *ended)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    *ended = true;
    if (i->fn == exec_undefined || !i->opcode) return *ended = false;
    switch (i->mnemonic) {
    case I_jcc: return translate_jcc(t);
    case I_jmp: return i->operands[0].kind == OPND_REL ? translate_jmp(t) : translate_indirect(t, false);
    case I_call: return i->operands[0].kind == OPND_REL ? translate_call(t) : translate_indirect(t, true);
    case I_ret: return translate_ret(t);
    default: break;
    }
    *ended = false;
    switch (i->mnemonic) {
    case I_nop: return true;
    case I_lea: return translate_lea(t);
    case I_push: return translate_push(t);
    case I_pop: return translate_pop(t);
    case I_leave: return translate_leave(t);
    case I_bswap: return translate_bswap(t);
    case I_div:
    case I_idiv: return translate_divide(t);
    case I_pause:
        emit8(e, 0xf3);
        emit8(e, 0x90);
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
    case I_add: case I_or: case I_adc: case I_sbb: case I_and: case I_sub: case I_xor: case I_cmp: case I_test: case I_inc:
    case I_dec: case I_neg: case I_not: case I_mul: case I_imul: case I_shl: case I_shr: case I_sar: case I_rol: case I_ror:
    case I_rcl: case I_rcr: case I_shld: case I_shrd: case I_movzx: case I_movsx: case I_movsxd: case I_setcc:
    case I_cmovcc: case I_xchg: case I_bt: case I_bts: case I_btr: case I_btc: case I_bsf: case I_bsr: case I_tzcnt:
    case I_lzcnt: case I_popcnt: case I_cmpxchg: case I_xadd:
        return translate_form(t);
    default: return false;
    }
}

bool translate_block(struct bt *bt, struct cpu *cpu, struct block *b)
{
    static _Thread_local struct tr tr;
    struct tr *t = &tr;
    u8 *start = bt->code.rw + ((bt->code.used + 15) & ~(size_t)15);
    t->e.p = start;
    t->bt = bt;
    t->cpu = cpu;
    t->b = b;
    t->is64 = (b->mode & 3) == CODE_64;
    t->context = b->mode >> 2 & 3;
    t->host = false;
    t->mem = true;
    t->rec_len = 0;
    t->nstubs = t->nexits = 0;
    struct emit *e = &t->e;

    emit_load32(e, T_ADDR, STATE(events));
    emit_op(e, 0, 0, 0x85, T_ADDR, STATE(event_mask));
    t->poll_site = emit_jump(e, CC_NE);
    u8 *forward = e->p;

    bool ended = false;
    for (unsigned n = 0; n < b->count && !ended; n++) {
        t->i = &b->insns[n];
        if (translate_insn(t, &ended)) continue;
        by_handler(t);
        ended = false;
        if (!t->i->opcode || (t->i->opcode->attr & ATTR_END)) {
            /* What may be fetched next can have changed. */
            emit_rip(t, T_ADDR, b->offset + t->i->off + t->i->len);
            emit_exit_rip(t);
            ended = true;
        }
    }
    if (!ended) {
        s32 next = b->offset + b->bytes;
        if (!flags_dead_at(t, next)) flags_to_mem(t);
        emit_go(t, next);
    }
    for (unsigned n = 0; n < t->nstubs; n++) emit_stub(t, &t->stubs[n]);
    emit_patch(t->poll_site, e->p);
    emit_rip(t, T_ADDR, b->offset);
    emit_exit_rip(t);
    for (unsigned n = 0; n < t->nexits; n++) {
        const struct exit_jump *x = &t->exits[n];
        emit_patch(x->site, e->p);
        u8 *imm = e->p + 2;
        emit_mov_imm64(e, H_14, ~0ull); /* the long form; the address follows below */
        emit_jump_to(e, CC_ALWAYS, thunk_rw(bt, bt->exit_link));
        while ((uintptr_t)e->p & 7) emit8(e, 0xcc);
        struct link *l = (struct link *)(void *)e->p;
        e->p += sizeof *l;
        *l = (struct link){.site = x->site, .from = b, .target = x->target, .forward = is_forward(t, x->target)};
        u64 address = (u64)(uintptr_t)l;
        memcpy(imm, &address, 8);
    }
    bt->code.used = (size_t)(e->p - bt->code.rw);
    bt->translated++;
    bt->bytes += b->bytes;
    b->host = code_memory_rx(&bt->code, start);
    b->host_forward = code_memory_rx(&bt->code, forward);
    return true;
}

void translate_link(struct link *l, const struct block *to, const struct bt *bt)
{
    emit_patch(l->site, thunk_rw(bt, l->forward ? to->host_forward : to->host));
}

/* ---- thunks ---- */

static void emit_save_registers(struct emit *e)
{
    for (unsigned g = 0; g < 12; g++) emit_store(e, host_reg(g), guest_mem(g));
}

static void emit_load_registers(struct emit *e)
{
    for (unsigned g = 0; g < 12; g++) emit_load(e, host_reg(g), guest_mem(g));
}

static void emit_return(struct emit *e)
{
    static const u8 pops[] = {0x48, 0x83, 0xc4, 0x08, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3};
    emit_bytes(e, pops, sizeof pops); /* add rsp, 8; pop r15 r14 r13 r12 rbp rbx; ret */
}

void translate_thunks(struct bt *bt)
{
    bt->bmi2 = __builtin_cpu_supports("bmi2");
    static const u8 pushes[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x48, 0x83, 0xec, 0x08};
    struct emit em = {.p = bt->code.rw}, *e = &em;
    bt->enter = code_memory_rx(&bt->code, e->p);
    emit_bytes(e, pushes, sizeof pushes); /* push rbx rbp r12 r13 r14 r15; sub rsp, 8 */
    emit_store(e, H_DI, rm_reg(H_14));
    emit_load_registers(e);
    emit_op(e, 0, 0, 0xff, 4, rm_reg(H_14));

    bt->exit_link = code_memory_rx(&bt->code, e->p);
    emit_save_registers(e);
    emit_store(e, H_14, rm_reg(H_AX));
    emit_return(e);

    bt->cache.no_host = code_memory_rx(&bt->code, e->p); /* r15: the jump_entry */
    emit_load(e, H_14, rm_mem(H_15, offsetof(struct jump_entry, lin)));
    bt->exit_rip = code_memory_rx(&bt->code, e->p);
    emit_store(e, H_14, STATE(rip));
    emit_save_registers(e);
    emit_op(e, 0, 0, 0x33, H_AX, rm_reg(H_AX));
    emit_return(e);

    bt->slow = code_memory_rx(&bt->code, e->p);
    emit_save_registers(e);
    emit_op(e, E_W, 0, 0x03, H_15, STATE(page_rip));
    emit_store(e, H_15, STATE(block_rip));
    emit_store(e, H_15, STATE(regs[REG_RIP]));
    emit_load(e, H_DI, STATE(self));
    emit_store(e, H_14, rm_reg(H_SI));
    emit_mov_imm64(e, H_AX, (u64)(uintptr_t)bt_slow);
    emit_alu_imm(e, true, 5, H_SP, 8);
    emit_op(e, 0, 0, 0xff, 2, rm_reg(H_AX));
    emit_alu_imm(e, true, 0, H_SP, 8);
    emit_op(e, 0, 0, 0x85, H_AX, rm_reg(H_AX));
    u8 *leave = emit_jump(e, CC_NE);
    emit_load_registers(e);
    emit8(e, 0xc3);
    emit_patch(leave, e->p);
    emit_alu_imm(e, true, 0, H_SP, 8);
    emit_op(e, 0, 0, 0x33, H_AX, rm_reg(H_AX));
    emit_return(e);

    bt->thunks = bt->code.used = (size_t)(e->p - bt->code.rw);
}
