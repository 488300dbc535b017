/* Accesses of a block through the same registers, a little apart, or to the same page relative to RIP, share one probe: it asks
 * for the pages of all of them before the first, and leaves the addend in cpu->shared[], from where the accesses take it without
 * touching the flags. When the probe finds no pages for all (they lie on two, one may not be written, ...), the block goes on in a
 * second translation of it, where each access looks for itself; so it does after every slow path while such accesses are still to
 * come.
 *
 * Only in code that runs in loops: elsewhere the second translation costs more than it gains. In 32-bit code the registers of an address
 * must not change between its probe and the accesses: that they do not wrap at 32 bits is known of what was probed only. */
#include "translate/tr.h"

#define SPAN_MAX 256 /* bytes between the first and the last */
#define SPAN_ONE 64  /* ... for each access */
#define NEAR     (1 << 16)

/* What the block's registers are made of, instruction by instruction. */
struct trace {
    s64 delta[16]; /* what was added to each since it was last written otherwise */
    u8 since[17];  /* where that was: 1 + the instruction; the last one: for all */
};

bool stack_place(const struct tr *t, const struct insn *i, struct place *p)
{
    const unsigned kind = i->operands[0].kind;
    const bool push = i->mnemonic == I_push || i->mnemonic == I_call;
    if (i->mnemonic == I_push ? kind != OPND_GPR && kind != OPND_IMM
                              : i->mnemonic == I_pop ? kind != OPND_GPR || i->operands[0].reg == R_SP
                                                     : i->mnemonic == I_call ? kind == OPND_MEM : i->mnemonic != I_ret)
        return false;
    const unsigned word = t->is64 ? 8 : 4;
    const s32 disp = push ? -(s32)word : 0;
    *p = (struct place){.base = R_SP, .index = REG_ZERO, .seg = SEG_SS, .disp = disp, .sum.m = rm_mem(H_GSP, disp), .size = word, .align = 1,
                        .write = push};
    return i->opsize == word;
}

/* 32-bit: what would wrap fails the probe. */
static bool near_base(const struct tr *t, const struct insn *i)
{
    const s32 disp = (s32)i->disp;
    return !t->segmented && i->addrsize == 4 && i->base != REG_ZERO && i->index == REG_ZERO && disp > -NEAR && disp < NEAR &&
           i->seg != SEG_CS && i->seg != SEG_FS && i->seg != SEG_GS;
}

bool groupable(const struct tr *t, const struct insn *i, struct place *p)
{
    const struct operand *mem = memory_operand(i);
    if (stack_place(t, i, p)) return t->is64;
    if (!mem || !mem->size || mem->size > 32 || (i->prefixes & PFX_LOCK) || !(t->is64 ? i->addrsize == 8 : near_base(t, i))) return false;
    struct effect x;
    if (!effect_of(t, i, &x) || (x.vector ? !simd_groupable(i) : !integer_groupable(i))) return false;
    if (i->map == 0 && i->code >= 0xa0 && i->code <= 0xa3) return false;
    *p = (struct place){.base = i->base, .index = i->index, .scale = i->index == REG_ZERO ? 0 : i->scale,
                        .seg = i->seg == SEG_FS || i->seg == SEG_GS ? i->seg : SEG_SS, .disp = (s32)i->disp, .size = mem->size,
                        .align = i->opcode->attr & ATTR_ALIGN ? mem->size : 1, .write = (mem->access & OPND_WRITE) != 0};
    if (!address_sum(t, i, &p->sum) || p->sum.extra_scaled || (i->base == REG_ZERO && i->index == REG_ZERO)) return false;
    if (i->base != REG_RIP) return true;
    p->disp = p->sum.m.disp;
    const unsigned in_page = (u32)p->disp & GUEST_PAGE_MASK;
    if (in_page + p->size > GUEST_PAGE_SIZE || (in_page & (p->align - 1u))) return false;
    if (p->write && in_page == (u32)p->disp) return false; /* to the page of the code: beside it, which is light_probe()'s */
    p->align = 1; /* as it is known to be */
    return true;
}

/* Relative to RIP: the same page. */
static bool same_registers(const struct place *a, const struct place *b)
{
    if (a->base == REG_RIP && a->disp >> GUEST_PAGE_SHIFT != b->disp >> GUEST_PAGE_SHIFT) return false;
    return a->base == b->base && a->index == b->index && a->scale == b->scale && a->seg == b->seg;
}

/* What the registers of an address have had added since they were written, as it counts in the address. */
static s64 address_delta(const struct place *p, const struct trace *r)
{
    return (p->base < 16 ? r->delta[p->base] : 0) + (p->index < 16 ? (s64)((u64)r->delta[p->index] << p->scale) : 0);
}

/* Where the registers of an address were last written otherwise. */
static u8 written_at(const struct place *p, const struct trace *r)
{
    u8 n = r->since[16];
    if (p->base < 16) n = MAX(n, r->since[p->base]);
    if (p->index < 16) n = MAX(n, r->since[p->index]);
    return n;
}

/* A place at this displacement joins; false: it does not fit in. */
static bool group_grow(struct group *g, const struct place *p, s64 at)
{
    const unsigned most = MAX(g->align, p->align);
    const s64 aligned = p->align > g->align ? at : g->lo, hi = MAX(g->hi, at + p->size);
    s64 lo = MIN(g->lo, at);
    if ((at - g->lo) & (MIN(g->align, p->align) - 1)) return false;
    lo -= (lo - aligned) & (most - 1);
    if (p->base != REG_RIP && (hi - lo > SPAN_MAX || hi - lo > SPAN_ONE * (g->count + 1))) return false;
    g->lo = lo;
    g->hi = hi;
    g->align = (u8)most;
    return true;
}

/* The flags before instruction n can be made again from registers (integer.c): a probe there need not save them. */
static bool cheap_flags(const struct block *b, unsigned n)
{
    while (n-- > 0) {
        switch (b->insns[n].mnemonic) {
        case I_cmp: case I_test: case I_and: case I_or: case I_xor: case I_add: case I_sub: case I_neg: return true;
        default:
            if (!b->insns[n].opcode || b->insns[n].opcode->writes) return false;
        }
    }
    return true;
}

void group_plan(struct tr *t, bool wanted)
{
    const struct block *b = t->b;
    struct trace traces[BLOCK_MAX + 1];
    struct trace r = {0};
    struct place places[GROUP_MAX]; /* of the first of each group */
    bool free_before[BLOCK_MAX + 1]; /* nobody reads the flags that stand there */
    t->ngroups = 0;
    memset(t->group_of, GROUP_NONE, sizeof t->group_of);
    if (!wanted || t->segmented || !t->loop || b->changes) return;
    for (unsigned n = 0; n < b->count; n++) {
        const struct insn *i = &b->insns[n];
        struct effect x;
        struct place p;
        traces[n] = r;
        if (groupable(t, i, &p)) {
            const s64 at = p.disp + address_delta(&p, &r);
            struct group *g = NULL;
            for (unsigned k = t->ngroups; k-- > 0 && !g;)
                if (same_registers(&places[k], &p)) g = &t->groups[k];
            if (g && (g->since != written_at(&p, &r) || !group_grow(g, &p, at))) g = NULL;
            if (!g && t->ngroups < GROUP_MAX) {
                places[t->ngroups] = p;
                g = &t->groups[t->ngroups++];
                *g = (struct group){.sum = p.sum, .lo = at, .hi = at + p.size, .align = p.align, .since = written_at(&p, &r), .first = (u8)n};
            }
            if (g) {
                g->write |= p.write;
                g->count++;
                g->last = (u8)n;
                t->group_of[n] = (u8)(g - t->groups);
            }
        }
        /* Jumps in the middle of a trace leave it or do nothing. */
        const bool known = effect_of(t, i, &x) || (n + 1u < b->count && (i->mnemonic == I_jcc || i->mnemonic == I_jmp));
        if (x.moved != REG_ZERO) r.delta[x.moved] += x.by;
        for (unsigned k = 0; k < 16; k++) {
            /* What is added to a register in memory does not reach the addend, which has that register in it. */
            if (known && (!(x.written >> k & 1) || (k == x.moved && t->is64)) && r.delta[k] == (resident(k) ? (s32)r.delta[k] : 0)) continue;
            r.delta[k] = 0;
            r.since[k] = (u8)(n + 1);
        }
        if (!known) r.since[16] = (u8)(n + 1);
    }
    /* Probes go to places where the flags need not be saved. */
    free_before[b->count] = false;
    for (unsigned n = b->count; n-- > 0;) {
        const struct insn *i = &b->insns[n];
        const bool plain = i->opcode && i->fn != exec_undefined && i->opcode->cls != CLASS_CONTROL;
        const struct flag_use u = plain ? flags_of(i) : (struct flag_use){.needs = true};
        free_before[n] = !u.needs && (u.full || free_before[n + 1]);
    }
    unsigned kept = 0;
    u8 number[GROUP_MAX];
    for (unsigned k = 0; k < t->ngroups; k++) {
        struct group g = t->groups[k];
        number[k] = GROUP_NONE;
        g.probe = g.first;
        for (unsigned n = g.first + 1u; n-- > g.since;) {
            if (n && !free_before[n]) continue;
            g.probe = (u8)n;
            break;
        }
        if (g.count < 2 && (g.probe == g.first || cheap_flags(b, g.first))) continue;
        const s64 disp = g.lo - address_delta(&places[k], &traces[g.probe]);
        if (disp != (s32)disp || disp > INT32_MAX - (s32)GUEST_PAGE_SIZE) continue;
        g.sum.m.disp = (s32)disp;
        number[k] = (u8)kept;
        t->groups[kept++] = g;
    }
    t->ngroups = kept;
    for (unsigned n = 0; n < b->count; n++)
        if (t->group_of[n] != GROUP_NONE) t->group_of[n] = number[t->group_of[n]];
}

static struct rm shared_addend(const struct group *g, const struct tr *t)
{
    return rm_cpu(offsetof(struct cpu, shared) + 8 * (size_t)(g - t->groups));
}

void group_probe(struct tr *t, unsigned n)
{
    struct emit *e = &t->e;
    for (unsigned k = 0; k < t->ngroups && !t->plain; k++) {
        struct group *g = &t->groups[k];
        if (g->probe != n) continue;
        flags_before(t, true, 0, false);
        struct stub *s = new_stub(t);
        s->span = (u16)(g->hi - g->lo);
        t->align = g->align > 1 ? g->align : 0;
        emit_probe_group(t, s, &g->sum, s->span, g->write);
        t->align = 0;
        emit_store(e, T_A, shared_addend(g, t));
        g->open = true;
        t->shared = g;
        t->shared_until = e->p;
    }
}

struct group *group_member(struct tr *t)
{
    const u8 k = t->group_of[t->i - t->b->insns];
    return k != GROUP_NONE && t->groups[k].open ? &t->groups[k] : NULL;
}

void group_address(struct tr *t, struct group *g)
{
    struct place p;
    const struct sum a = stack_place(t, t->i, &p) || address_sum(t, t->i, &p.sum) ? p.sum : (struct sum){0};
    if (t->shared != g || t->shared_until != t->e.p) emit_load(&t->e, T_A, shared_addend(g, t));
    t->shared = a.m.reg != H_NONE && a.m.index != H_NONE ? NULL : g;
    t->at = with_register(t, T_A, a.m);
    if (t->run) t->at.disp += t->moved;
}

bool groups_open(const struct tr *t)
{
    const unsigned n = (unsigned)(t->i - t->b->insns);
    for (unsigned k = 0; k < t->ngroups; k++)
        if (t->groups[k].open && t->groups[k].last > n) return true;
    return false;
}

void groups_close(struct tr *t)
{
    for (unsigned k = 0; k < t->ngroups; k++) t->groups[k].open = false;
}
