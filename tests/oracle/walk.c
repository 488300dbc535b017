/* What compilers make, and single random instructions hardly ever are: accesses near each other by one register, which moves
 * meanwhile by constants, pushes and pops with accesses relative to the stack pointer between them, in loops and in functions that
 * are called from there. Most of them begin near the end of a page. */
#include <string.h>

#include "build.h"

/* An instruction with a ModRM byte. */
struct op {
    u8 prefix; /* 0: none */
    u8 map;    /* 0F for those */
    u8 code;
    u8 ext;    /* ModRM.reg, or ANY: a register */
};
#define ANY 8u

static const struct op memory_ops[] = {
    {0, 0, 0x8b, ANY}, {0, 0, 0x8b, ANY}, {0, 0, 0x8b, ANY}, {0, 0, 0x89, ANY}, {0, 0, 0x89, ANY}, {0, 0, 0x89, ANY},
    {0, 0, 0x03, ANY}, {0, 0, 0x13, ANY}, {0, 0, 0x2b, ANY}, {0, 0, 0x1b, ANY}, {0, 0, 0x23, ANY}, {0, 0, 0x33, ANY},
    {0, 0, 0x3b, ANY}, {0, 0, 0x8a, ANY}, {0, 0, 0x01, ANY}, {0, 0, 0x11, ANY}, {0, 0, 0x29, ANY}, {0, 0, 0x31, ANY},
    {0, 0, 0x39, ANY}, {0, 0, 0x88, ANY}, {0, 0, 0x00, ANY}, {0, 0, 0x85, ANY}, {0, 0, 0x87, ANY}, {0, 0, 0x63, ANY},
    {0, 0, 0xc6, 0},   {0, 0, 0xc7, 0},   {0, 0, 0x80, ANY}, {0, 0, 0x83, ANY}, {0, 0, 0x81, ANY}, {0, 0, 0xf7, 2},
    {0, 0, 0xf7, 3},   {0, 0, 0xff, 0},   {0, 0, 0xff, 1},   {0, 0, 0xd1, 4},   {0, 0, 0xc1, 5},   {0, 0, 0xff, 6},
    {0, 0, 0x8f, 0},   {0, 1, 0xb6, ANY}, {0, 1, 0xbe, ANY}, {0, 1, 0xb7, ANY}, {0, 1, 0xaf, ANY}, {0, 1, 0x44, ANY},
    {0, 1, 0x92, 0},   {0, 1, 0xc1, ANY}, {0xf0, 1, 0xc1, ANY}, {0xf0, 0, 0x01, ANY}, {0xf0, 1, 0xb1, ANY}, {0xf0, 1, 0xba, 5},
    {0, 1, 0x10, ANY}, {0, 1, 0x11, ANY}, {0xf3, 1, 0x6f, ANY}, {0xf3, 1, 0x7f, ANY}, {0xf2, 1, 0x10, ANY}, {0xf2, 1, 0x11, ANY},
    {0x66, 1, 0xd6, ANY}, {0, 1, 0x28, ANY}, {0, 1, 0x29, ANY}, {0xf2, 1, 0x58, ANY}, {0x66, 1, 0xef, ANY}, {0xf2, 1, 0x2a, ANY},
};
static const struct op register_ops[] = {
    {0, 0, 0x01, ANY}, {0, 0, 0x11, ANY}, {0, 0, 0x29, ANY}, {0, 0, 0x19, ANY}, {0, 0, 0x31, ANY}, {0, 0, 0x39, ANY},
    {0, 0, 0x8b, ANY}, {0, 0, 0x8b, ANY}, {0, 0, 0x85, ANY}, {0, 0, 0x83, ANY}, {0, 1, 0xaf, ANY}, {0, 1, 0xb6, ANY},
    {0, 1, 0x45, ANY}, {0, 1, 0x93, 0},   {0, 0, 0xc1, 4},   {0, 0, 0xf7, 3},   {0, 1, 0xc8, ANY}, {0x66, 1, 0xfe, ANY},
};

struct walk {
    struct build *b;
    unsigned base;
    u16 function;  /* where one begins in code[] that can be called; 0: none */
    u16 undefined; /* the flags that it leaves undefined */
};

static unsigned any_register(struct build *b) { return rng_below(&b->rng, b->mode == CODE_64 ? 16 : 8); }

/* op reg, [base + disp8], or with base as the other register; behind it come random bytes. wide: 64 bits in 64-bit code. */
static bool add_op(struct build *b, const struct op *op, unsigned reg, unsigned base, bool memory, s32 disp, bool wide)
{
    static const u8 rm16[8] = {0xff, 0xff, 0xff, 7, 0xff, 6, 4, 5}; /* by what can be one */
    u8 code[15];
    unsigned n = 0;
    const u64 noise = rng_next(&b->rng);
    if (op->prefix) code[n++] = op->prefix;
    else if (!wide && rng_percent(&b->rng, 8)) code[n++] = 0x66;
    if (b->mode == CODE_64) code[n++] = (u8)(0x40 | wide << 3 | (reg >> 3) << 2 | base >> 3);
    if (op->map) code[n++] = 0x0f;
    code[n++] = op->code;
    code[n] = (u8)((reg & 7) << 3);
    if (!memory) {
        code[n++] |= (u8)(0xc0 | (base & 7));
    } else if (b->mode == CODE_16) {
        if (rm16[base] == 0xff) return false;
        code[n++] |= 0x40 | rm16[base];
        code[n++] = (u8)disp;
    } else {
        code[n++] |= (u8)(0x40 | (base & 7));
        if ((base & 7) == R_SP) code[n++] = 0x24;
        code[n++] = (u8)disp;
    }
    memcpy(code + n, &noise, 8);
    return add_bytes(b, code);
}

static bool access(struct build *b, unsigned base)
{
    struct rng *r = &b->rng;
    const struct op *op = &memory_ops[rng_below(r, ARRAY_LEN(memory_ops))];
    const unsigned reg = op->ext == ANY ? any_register(b) : op->ext;
    const s32 disp = base == R_SP ? (s32)rng_below(r, 48) : (s32)rng_below(r, 96) - 48;
    return add_op(b, op, reg, base, true, rng_percent(r, 70) ? disp & ~7 : disp, rng_percent(r, 60));
}

/* Although it is to be kept: by a constant. */
static bool move(struct build *b, unsigned reg, s32 by)
{
    static const struct op lea = {0, 0, 0x8d, ANY}, inc = {0, 0, 0xff, 0}, dec = {0, 0, 0xff, 1};
    struct rng *r = &b->rng;
    const u16 keep = b->keep;
    const bool wide = reg == R_SP || rng_percent(r, 85);
    bool done;
    b->keep &= (u16)~MASK(reg);
    if (b->mode != CODE_16 && rng_percent(r, 25)) {
        done = add_op(b, &lea, reg, reg, true, by, wide);
    } else if (reg != R_SP && rng_percent(r, 20)) {
        done = add_op(b, by < 0 ? &dec : &inc, by < 0, reg, false, 0, wide);
    } else {
        u8 code[15] = {0x48 | reg >> 3, 0x83, (u8)(0xc0 | (reg & 7)), (u8)by};
        if (rng_percent(r, 40)) code[2] |= 0x28, code[3] = (u8)-by;
        if (!wide) code[0] &= 0xf7;
        done = add_bytes(b, code + (b->mode != CODE_64));
    }
    b->keep = keep;
    return done;
}

static bool push_or_pop(struct build *b, bool push, unsigned reg)
{
    const u8 code[15] = {(u8)(0x40 | reg >> 3), (u8)((push ? 0x50 : 0x58) | (reg & 7))};
    return add_bytes(b, code + (b->mode != CODE_64));
}

/* Pushes, room, accesses there, and back. */
static void add_frame(struct build *b)
{
    struct rng *r = &b->rng;
    unsigned regs[4], n = 0, room = 8 * rng_below(r, 6);
    for (unsigned wanted = rng_below(r, 5); n < wanted; n++) {
        regs[n] = any_register(b);
        if (regs[n] == R_SP || (b->keep >> regs[n] & 1) || !push_or_pop(b, true, regs[n])) break;
    }
    if (room) move(b, R_SP, -(s32)room);
    for (unsigned k = rng_below(r, 5); k-- > 0;)
        if (b->mode != CODE_16) access(b, R_SP);
    if (room) move(b, R_SP, (s32)room);
    while (n-- > 0) push_or_pop(b, false, regs[n]);
}

static void add_jcc(struct build *b)
{
    const u8 code[15] = {(u8)(0x70 | rng_below(&b->rng, 16)), 0};
    if (b->nfixups + 2 >= ARRAY_LEN(b->fixups)) return;
    if (add_bytes(b, code)) {
        b->c->ninsns--; /* the target counts from the jump */
        add_fixup(b, FIX_REL, b->pos - 1, 1, b->pos, rng_below(&b->rng, 3));
        b->c->ninsns++;
    }
}

/* E8 or E9 to a place in code[]. */
static bool go(struct build *b, u8 opcode, unsigned to)
{
    u8 code[15] = {opcode};
    const unsigned size = b->mode == CODE_16 ? 2 : 4;
    const u32 rel = to - (b->pos + 1 + size);
    memcpy(code + 1, &rel, size);
    return add_bytes(b, code);
}

static void call_function(struct walk *w)
{
    if (go(w->b, 0xe8, w->function)) w->b->undefined |= w->undefined;
}

static void add_step(struct walk *w)
{
    struct build *b = w->b;
    struct rng *r = &b->rng;
    const unsigned p = rng_below(r, 100), reg = any_register(b);
    if (p < 42) access(b, w->base);
    else if (p < 55) move(b, w->base, w->base == R_SP ? 8 * ((s32)rng_below(r, 6) - 3) : (s32)rng_below(r, 64) - 24);
    else if (p < 68) add_op(b, &register_ops[rng_below(r, ARRAY_LEN(register_ops))], any_register(b), reg, false, 0, rng_percent(r, 60));
    else if (p < 74) add_jcc(b);
    else if (p < 79) add_frame(b);
    else if (p < 80) add_patch(b);
    else if (p < 88 && w->function) call_function(w);
    else if (p < 94 && w->base == R_SP) reg == R_SP ? false : push_or_pop(b, rng_percent(r, 55), reg);
    else add_instruction(b);
}

static bool room_left(const struct build *b) { return b->c->ninsns + 14 < MAX_INSNS && b->pos + 160 < CODE_MAX; }

static void add_steps(struct walk *w, unsigned count)
{
    while (count-- > 0 && room_left(w->b)) add_step(w);
}

/* A register, and where it points. */
static bool choose_base(struct walk *w)
{
    static const u8 bases16[] = {R_BX, R_BP, R_SI, R_DI};
    struct build *b = w->b;
    struct rng *r = &b->rng;
    const unsigned p = rng_below(r, 100);
    w->base = b->mode == CODE_16 ? bases16[rng_below(r, 4)]
              : p < 20           ? R_SP
              : p < 50 && b->mode == CODE_64 ? 13 + rng_below(r, 3)
                                 : any_register(b);
    if (w->base == R_CX) w->base = R_BX;
    const bool stack = w->base == R_SP, by_stack = stack || w->base == R_BP;
    if (stack && rng_percent(r, 60)) return true; /* where it is */
    unsigned t = stack      ? STACK_OFF + GUEST_PAGE_SIZE
                 : p % 10 < 4 ? DATA_OFF + GUEST_PAGE_SIZE * (1 + rng_below(r, 3))
                 : p % 10 < 5 ? RO_OFF
                 : p % 20 < 11 ? RO_OFF + GUEST_PAGE_SIZE
                             : pick_target(b, 64, false);
    t += 8 * rng_below(r, 24) - 96;
    if (rng_percent(r, 20)) t += rng_below(r, 8);
    if (!ensure(b, w->base, (WINDOW + t - segment_base(b, by_stack ? SEG_SS : SEG_DS)) & (b->mode == CODE_64 ? ~0ull : 0xffffffff)))
        return false;
    if (stack) b->state[R_SP] = REG_UNKNOWN;
    return true;
}

/* jmp over; f: ...; ret; over: */
static void add_function(struct walk *w)
{
    struct build *b = w->b;
    static const u8 ret[15] = {0xc3};
    const unsigned size = b->mode == CODE_16 ? 2 : 4, jump = b->pos;
    if (w->base == R_SP || !go(b, 0xe9, 0)) return;
    const u16 undefined = b->undefined;
    w->function = (u16)b->pos;
    forget_all(b);
    struct walk inner = {.b = b, .base = w->base};
    b->keep |= MASK(R_CX); /* it may be called in a loop */
    add_steps(&inner, 1 + rng_below(&b->rng, 4));
    if (rng_percent(&b->rng, 60)) add_frame(b);
    add_bytes(b, ret);
    w->undefined = b->undefined;
    b->undefined = undefined; /* nothing of it has run yet */
    const u32 rel = b->pos - (jump + 1 + size);
    memcpy(b->c->code + jump + 1, &rel, size);
}

/* DEC CX and a jump back to the head, or LOOP. */
static void end_loop(struct build *b, unsigned head)
{
    static const struct op dec = {0, 0, 0xff, 1};
    u8 code[15] = {0xe2, (u8)(head - (b->pos + 2))};
    for (unsigned k = 0; k < b->nfixups; k++) /* nothing jumps past the counting but to code of another size, which ends there */
        if (b->fixups[k].selector == b->c->in.cs) b->fixups[k].target = (u16)MIN(b->fixups[k].target, b->c->ninsns);
    if (b->pos + 2 - head <= 128 && rng_percent(&b->rng, 50)) {
        add_bytes(b, code);
        return;
    }
    const unsigned size = b->mode == CODE_16 ? 2 : 4;
    if (!add_op(b, &dec, 1, R_CX, false, 0, true)) return;
    code[0] = 0x0f;
    code[1] = 0x85;
    const u32 rel = head - (b->pos + 2 + size);
    memcpy(code + 2, &rel, size);
    emit(b, code, 2 + size, I_jcc);
}

void add_walk(struct build *b)
{
    struct walk w = {.b = b};
    struct rng *r = &b->rng;
    if (b->keep || b->join >= b->c->ninsns || !room_left(b) || !choose_base(&w)) return;
    b->keep = w.base == R_SP ? 0 : (u16)MASK(w.base);
    if (rng_percent(r, 25)) add_function(&w);
    unsigned head = 0;
    if (rng_percent(r, 45) && emit_mov(b, R_CX, rng_percent(r, 30) ? 1 + rng_below(r, 3) : 1 + rng_below(r, 40))) {
        head = b->pos;
        forget_all(b);
        b->keep |= MASK(R_CX);
    }
    add_steps(&w, 2 + rng_below(r, 8));
    if (w.function && room_left(b)) call_function(&w);
    b->keep = 0;
    if (head) end_loop(b, head);
    forget_registers(b);
}
