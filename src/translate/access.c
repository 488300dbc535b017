/* Guest address -> host address: the only place that knows how.
 *
 * A probe compares the page of the operand's last byte with the tag of the TLB entry for its first byte, which fails for
 * operands across pages. It needs two scratch registers only: the address is computed once for the index, once for the
 * tag, and once more by the access itself, as [guest address + addend]. */
#include "translate/tr.h"

#define TLB_FIELD(context, field) (offsetof(struct cpu, tlbs) + (context) * sizeof(struct tlb) + offsetof(struct tlb, field))

bool address_ok(const struct tr *t)
{
    const struct insn *i = t->i;
    if (t->is64) {
        if (i->addrsize == 4) return i->base != REG_RIP;
        return i->addrsize == 8;
    }
    return t->segmented || i->seg != SEG_CS;
}

/* In a segment that need not be flat. */
static bool has_base(const struct tr *t, unsigned seg) { return t->segmented || seg == SEG_FS || seg == SEG_GS; }

static struct rm window(unsigned seg, size_t field)
{
    return rm_cpu(offsetof(struct cpu, win) + seg * sizeof(struct segment_window) + field);
}
static struct rm window_base(unsigned seg) { return window(seg, offsetof(struct segment_window, base)); }
static struct rm window_end(unsigned seg, bool write)
{
    return window(seg, write ? offsetof(struct segment_window, write_end) : offsetof(struct segment_window, read_end));
}

/* An operand's offset in its segment as a sum; false: too many parts in memory. */
static bool insn_sum(const struct tr *t, const struct insn *i, struct sum *a)
{
    *a = (struct sum){.m = {.kind = RM_MEM, .reg = H_NONE, .index = H_NONE, .scale = i->scale, .disp = (s32)i->disp},
                      .half = i->addrsize == 2};
    if (t->is64 && (i->disp != (s32)i->disp || i->disp > INT32_MAX - 2 * (s32)GUEST_PAGE_SIZE)) return false;
    if (i->base == REG_RIP) {
        a->extra = STATE(page_rip);
        a->has_extra = true;
        a->m.disp += t->b->offset;
    } else if (i->base != REG_ZERO && resident(i->base)) {
        a->m.reg = (u8)host_reg(i->base);
    } else if (i->base != REG_ZERO) {
        a->extra = guest_mem(i->base);
        a->has_extra = true;
    }
    if (i->index == REG_ZERO) return true;
    if (resident(i->index)) {
        a->m.index = (u8)host_reg(i->index);
        return true;
    }
    if (a->has_extra) return false;
    a->extra = guest_mem(i->index);
    return a->has_extra = a->extra_scaled = true;
}

static bool sum_of(const struct tr *t, struct sum *a) { return insn_sum(t, t->i, a); }

bool address_sum(const struct tr *t, const struct insn *i, struct sum *a)
{
    const bool based = has_base(t, i->seg);
    if (!insn_sum(t, i, a) || (based && a->has_extra)) return false;
    if (based) {
        a->extra = window_base(i->seg);
        a->has_extra = true;
    }
    return true;
}

/* The sum with `reg` added to it, as an operand; changes `reg` when there are more parts than an operand has. */
struct rm with_register(struct tr *t, unsigned reg, struct rm m)
{
    if (m.reg == H_NONE) {
        m.reg = (u8)reg;
    } else if (m.index == H_NONE) {
        m.index = (u8)reg;
        m.scale = 0;
    } else {
        emit_lea(&t->e, true, reg, (struct rm){.kind = RM_MEM, .reg = m.reg, .index = (u8)reg});
        m.reg = (u8)reg;
    }
    return m;
}

/* m cut to 16 bits, and what is added. */
static void emit_half_sum(struct tr *t, unsigned reg, const struct sum *a)
{
    struct emit *e = &t->e;
    const bool base = a->m.reg != H_NONE, index = a->m.index != H_NONE;
    if (!base && !index) {
        emit_mov_imm64(e, reg, (u16)a->m.disp);
    } else {
        const bool plain = base && !index && !a->m.disp;
        if (!plain) emit_lea(e, false, reg, a->m);
        emit_load_size(e, 2, reg, rm_reg(plain ? a->m.reg : reg));
    }
    if (a->has_extra) emit_op(e, 0, 0, 0x03, reg, a->extra);
}

void emit_sum(struct tr *t, bool wide, unsigned reg, const struct sum *a, s32 plus)
{
    struct rm m = a->m;
    if (a->half) {
        emit_half_sum(t, reg, a);
        return;
    }
    if (a->has_extra) {
        if (wide) emit_load(&t->e, reg, a->extra);
        else emit_load32(&t->e, reg, a->extra); /* alone it is the sum already, without what stands above */
        if (a->extra_scaled) m.index = (u8)reg;
        else m = with_register(t, reg, m);
    }
    m.disp += plus;
    if (m.reg != reg || m.index != H_NONE || m.disp) emit_lea(&t->e, wide, reg, m);
}

/* tlb_index() times the size of an entry of the address in `from`, into T_A. */
static void emit_index(struct emit *e, const struct bt *bt, unsigned from)
{
    _Static_assert(sizeof(struct tlb_entry) == 32 && GUEST_PAGE_SHIFT == 12, "shifts below");
    if (bt->bmi2) {
        emit_rorx(e, T_A, from, 7);
    } else {
        if (from != T_A) emit_store(e, from, rm_reg(T_A));
        emit_shift(e, 5, T_A, 7);
    }
    emit_alu_imm(e, false, 4, T_A, (TLB_ENTRIES - 1) << 5);
}

/* The byte of the operand whose page is compared with the tag: the last one, or in the same page an aligned one. */
static s32 compared_byte(const struct tr *t, unsigned size) { return ((s32)size - 1) & -(t->align ? t->align : 1); }

/* T_A is the index, T_B the page: T_A becomes the addend. After a miss `retry` probes again. */
static void emit_compare_page(struct tr *t, struct stub *s, u8 *retry, const struct sum *lin, bool wide, bool write)
{
    struct emit *e = &t->e;
    const size_t tag = write ? offsetof(struct tlb_entry, write_tag) : offsetof(struct tlb_entry, read_tag);
    emit_op(e, E_W, 0, 0x0b, T_B, rm_cpu(TLB_FIELD(t->context, gen)));
    emit_op(e, E_W, 0, 0x3b, T_B, rm_cpu_base(T_A, TLB_FIELD(t->context, e) + tag));
    stub_miss(t, s, retry, lin, wide, write);
    emit_load(e, T_A, rm_cpu_base(T_A, TLB_FIELD(t->context, e) + offsetof(struct tlb_entry, addend)));
}

/* The same with compared_byte()'s address in T_B. */
static void emit_compare(struct tr *t, struct stub *s, u8 *retry, const struct sum *lin, bool wide, bool write)
{
    struct emit *e = &t->e;
    if (t->align) {
        emit_op(e, E_REX, 0, 0xf6, 0, rm_reg(T_B));
        emit8(e, t->align - 1u);
        stub_from(t, s, CC_NE);
    }
    emit_alu_imm(e, true, 4, T_B, -(s32)GUEST_PAGE_SIZE);
    emit_compare_page(t, s, retry, lin, wide, write);
}

/* ---- shared probes ----
 *
 * After a miss the TLB is probed again, and filled, by code that all accesses have in common: which of them has called it says the
 * address that it returns to. */

/* A recent range becomes the page of cpu->lin, with the addend in T_A. The jump if it is time for light_missed(). */
static u8 *emit_set_recent(struct emit *e, unsigned context, unsigned slot, unsigned size)
{
#define RECENT(field) rm_cpu(TLB_FIELD(context, recent) + slot * sizeof(struct tlb_recent) + offsetof(struct tlb_recent, field))
    emit_load(e, T_B, STATE(lin));
    emit_alu_imm(e, true, 4, T_B, -(s32)GUEST_PAGE_SIZE);
    emit_store(e, T_B, RECENT(start));
    emit_store(e, T_A, RECENT(addend));
    emit_op(e, E_W, 0, 0xc7, 0, RECENT(limit));
    emit32(e, GUEST_PAGE_SIZE - tlb_recent_past(size));
    emit_op(e, 0, 0, 0xc6, 0, rm_cpu(TLB_FIELD(context, recent_used) + slot / 8));
    emit8(e, 1);
    emit_op(e, E_66, 0, 0x83, 5, RECENT(left)); /* sub word, 1 */
    emit8(e, 1);
    return emit_jump(e, CC_S);
#undef RECENT
}

/* stack: recent range 0 is set, too. */
static u8 *emit_shared(struct bt *bt, struct emit *e, unsigned context, bool write, unsigned size, bool aligned, bool stack)
{
    u8 *start = e->p, *odd = NULL;
    emit_store(e, T_B, STATE(lin));
    if (aligned) {
        emit_op(e, E_REX, 0, 0xf6, 0, rm_reg(T_B));
        emit8(e, size - 1);
        odd = emit_jump(e, CC_NE);
    }
    emit_index(e, bt, T_B);
    if (!aligned && size > 1) emit_lea(e, true, T_B, rm_mem(T_B, (s32)size - 1));
    emit_alu_imm(e, true, 4, T_B, -(s32)GUEST_PAGE_SIZE);
    emit_op(e, E_W, 0, 0x0b, T_B, rm_cpu(TLB_FIELD(context, gen)));
    emit_op(e, E_W, 0, 0x3b, T_B, rm_cpu_base(T_A, TLB_FIELD(context, e) + (write ? offsetof(struct tlb_entry, write_tag) : offsetof(struct tlb_entry, read_tag))));
    u8 *miss = emit_jump(e, CC_NE), *rare = NULL;
    emit_load(e, T_A, rm_cpu_base(T_A, TLB_FIELD(context, e) + offsetof(struct tlb_entry, addend)));
    if (stack && write) rare = emit_set_recent(e, context, 0, size);
    emit8(e, 0xc3);
    if (odd) emit_patch(odd, e->p);
    emit_patch(miss, e->p);
    emit_load(e, T_B, STATE(lin));
    emit_mov_imm64(e, T_A, (write ? ACC_WRITE : ACC_READ) | (u64)size << 8 | (u64)(aligned ? size - 1 : 0) << 16);
    emit_jump_to(e, CC_ALWAYS, thunk_rw(bt, bt->probe));
    if (rare) {
        struct look look = {.context = (u8)context, .write = write, .past = (u16)tlb_recent_past(size)};
        u8 *at = (u8 *)(((uintptr_t)e->p + 7) & ~(uintptr_t)7);
        memcpy(at, &look, sizeof look);
        e->p = at + sizeof look;
        emit_patch(rare, e->p);
        emit_near(e, 0x8d, T_B, at);
        emit_jump_to(e, CC_ALWAYS, thunk_rw(bt, bt->missed));
    }
    return code_memory_rx(&bt->code, start);
}

void emit_probes(struct bt *bt, struct emit *e)
{
    for (unsigned context = 0; context < TLB_CONTEXTS; context++) {
        for (unsigned write = 0; write < 2; write++) {
            for (unsigned n = 0; n < PROBE_CLASSES; n++) {
                const bool aligned = n >= PROBE_ALIGNED;
                bt->probes[context][write][n] = emit_shared(bt, e, context, write, aligned ? 16u << (n - PROBE_ALIGNED) : 1u << n, aligned, false);
            }
            for (unsigned n = 0; n < ARRAY_LEN(bt->stack_probes[0][0]); n++)
                bt->stack_probes[context][write][n] = emit_shared(bt, e, context, write, 1u << n, false, true);
        }
    }
}

bool can_call_probe(const struct tr *t, const struct stub *s, unsigned size)
{
    return size && size <= 32 && !(size & (size - 1)) && (!t->align || (t->align == (s32)size && size >= 16)) && !s->span;
}

/* What is in no loop is much code, each of which runs now and then: that it is short, for the host's caches, counts for more than
 * that it is fast in them. A kernel has less of it. */
static bool calls_probe(const struct tr *t, const struct stub *s, unsigned size)
{
    return !t->loop && !(t->b->mode & MODE_RING0) && can_call_probe(t, s, size);
}

struct probe_call *call_probe(struct tr *t, struct stub *s, const struct sum *a, bool wide, unsigned size, bool write, bool stack)
{
    const unsigned n = (unsigned)__builtin_ctz(size);
    emit_sum(t, wide, T_B, a, 0);
    emit_call(t, stack ? t->bt->stack_probes[t->context][write][n]
                       : t->bt->probes[t->context][write][t->align ? PROBE_ALIGNED + n - 4 : n]);
    struct probe_call *call = &t->calls[t->ncalls++];
    *call = (struct probe_call){.stub = s, .back = t->e.p, .again = t->e.p};
    return call;
}

/* RIP-relative, and its place in the page is known: the page's address. */
static bool known_place(const struct tr *t, const struct sum *a, unsigned size, struct sum *page)
{
    const s32 offset = a->m.disp & (s32)GUEST_PAGE_MASK;
    *page = (struct sum){.m = rm_mem(H_NONE, a->m.disp - offset), .extra = a->extra, .has_extra = true};
    return a->has_extra && a->m.reg == H_NONE && a->m.index == H_NONE && a->extra.disp == (s32)offsetof(struct cpu, page_rip) &&
           offset + size <= GUEST_PAGE_SIZE && !(t->align && (offset & (t->align - 1)));
}

/* Probe a sum, up to the addend in T_A. */
static void emit_probe_entry(struct tr *t, struct stub *s, const struct sum *a, unsigned size, bool write)
{
    struct emit *e = &t->e;
    u8 *retry = e->p;
    struct sum page;
    if (known_place(t, a, size, &page)) {
        emit_sum(t, true, T_B, &page, 0);
        emit_index(e, t->bt, T_B);
        emit_compare_page(t, s, retry, a, true, write);
        return;
    }
    if (!a->has_extra && a->m.index == H_NONE && a->m.reg != H_NONE && !a->m.disp) {
        emit_index(e, t->bt, a->m.reg);
    } else {
        emit_sum(t, true, T_A, a, 0);
        emit_index(e, t->bt, T_A);
    }
    emit_sum(t, true, T_B, a, compared_byte(t, size));
    emit_compare(t, s, retry, a, true, write);
}

/* The same with a sum that is cut to 32 bits. */
static void emit_probe_cut(struct tr *t, struct stub *s, const struct sum *a, unsigned size, bool write)
{
    struct emit *e = &t->e;
    u8 *retry = e->p;
    emit_sum(t, false, T_A, a, 0);
    emit_index(e, t->bt, T_A);
    emit_sum(t, false, T_B, a, 0);
    if (compared_byte(t, size)) emit_lea(e, true, T_B, rm_mem(T_B, compared_byte(t, size)));
    emit_compare(t, s, retry, a, false, write);
}

/* ---- recent pages ----
 *
 * Most accesses through a base register find the pages that the last one through it found. So user code looks there first: in
 * one of tlb.recent[], whose place is known when the block is translated, so that the host's loads do not wait for the address. What
 * is not found there is probed out of line, and remembered, and then with the pages around it that have the same addend
 * (light_missed()). Loops look at more than one. A place that misses too often gets a jump to the probe instead. What 64-bit kernels
 * have at GS is found by its page there (emit_probe_gs()).
 *
 * Classes of tlb.recent[]: accesses of up to 8 bytes, of up to 16, ... of up to RECENT_LARGEST. Half of each is found for writing;
 * the first one last through the stack pointer. */

#define RECENT_SMALL   96u /* places for up to 8 bytes... */
#define RECENT_LARGER  32u /* ... and for each of the sizes above */
#define RECENT_LARGEST 256u
_Static_assert(RECENT_SMALL + 5 * RECENT_LARGER <= TLB_RECENT, "classes of 16, 32, 64, 128 and 256 bytes");

static struct rm recent_field(const struct tr *t, unsigned slot, size_t field)
{
    return rm_cpu(TLB_FIELD(t->context, recent) + slot * sizeof(struct tlb_recent) + field);
}

static bool is_stack(const struct sum *a)
{
    return a->m.reg == H_GSP && a->m.index == H_NONE && (!a->has_extra || a->segment);
}

/* The block is a loop by itself. */
static bool loops(const struct block *b)
{
    const struct insn *last = &b->insns[b->count - 1];
    return last->mnemonic == I_jcc && last->off + last->len + (s64)last->imm == 0;
}

/* Most of what kernels read through registers is in a few places: where they map all memory, in their image, among the descriptions of
 * pages. There are ranges for those, which stay; an access begins with the first of them, and goes over to where it finds what
 * it wants (light_unmapped()). */
static bool in_map(const struct tr *t, const struct sum *a, unsigned size, bool write)
{
    return t->is64 && t->context == TLB_SUPERVISOR_SMAP && !write && size <= 8 && a->m.reg != H_NONE && a->m.reg != H_GSP &&
           !a->has_extra && !loops(t->b);
}

/* The recent pages to look at for an address: the same wherever the same registers make it up, since they often still hold what they
 * held in the block before. */
static unsigned recent_slot(const struct tr *t, const struct sum *a, unsigned size, bool write)
{
    if (in_map(t, a, size, write)) return TLB_MAP;
    const unsigned class = tlb_recent_class(size), half = (class ? RECENT_LARGER : RECENT_SMALL) / 2;
    const unsigned first = class ? RECENT_SMALL + (class - 1) * RECENT_LARGER : 0;
    if (is_stack(a) && !class) return 0;
    const unsigned base = a->m.reg, index = a->m.index == H_NONE ? 0 : a->m.index + 1u, other = a->extra_scaled ? 8 : a->has_extra ? 5 : 0;
    const unsigned n = base * 3 + index * 11 + (a->segment ? a->segment * 23u : other) + (unsigned)(a->m.disp >> GUEST_PAGE_SHIFT) * 7;
    return first + (write ? !class + n % (half - !class) : half + n % half);
}

/* Code that is no loop comes back late, when others have used its recent pages: it looks at the stack's only. So do kernels but for
 * the closest loops; what runs below them, before they do, is loops that unpack them. In segmented code CPL 0 is mostly real mode. */
static bool has_recent(const struct tr *t, const struct sum *a, unsigned size, bool write)
{
    const bool frame = a->m.reg == H_BP && a->m.index == H_NONE && a->m.disp < 0 && !a->has_extra;
    const bool kernel = t->b->mode & MODE_RING0, loader = kernel && t->cpu->rip < 1u << 31;
    return size <= RECENT_LARGEST && ((t->close && !kernel) || loops(t->b) || loader || is_stack(a) || frame || t->segmented ||
                                       in_map(t, a, size, write));
}

/* Operands that are aligned cannot exceed the limit of the segment: so those that find a recent page need no other check. */
static bool within_64k(const struct tr *t, const struct sum *a, unsigned size)
{
    return a->half && (t->b->mode & MODE_64K) && !(size & (size - 1)) && has_recent(t, a, size, true) &&
           (a->segment == 1 + SEG_ES || a->segment == 1 + SEG_SS || a->segment == 1 + SEG_DS);
}

/* What is looked for in recent ranges, into T_B: of what is read where that is known in its page, the page. A range that is written may
 * begin or end where code does (light.c). */
static void emit_place(struct tr *t, const struct sum *a, unsigned size, bool write, s32 plus)
{
    struct sum page;
    emit_sum(t, true, T_B, !write && known_place(t, a, size, &page) ? &page : a, plus);
}

/* A recent range does not have the address in T_B, which becomes its place there: the jump. fields: where the range is named. */
static u8 *emit_not_in_range(struct tr *t, unsigned slot, u8 *fields[2])
{
    struct emit *e = &t->e;
    emit_op(e, E_W, 0, 0x2b, T_B, recent_field(t, slot, offsetof(struct tlb_recent, start)));
    fields[0] = e->p - 4;
    emit_op(e, E_W, 0, 0x3b, T_B, recent_field(t, slot, offsetof(struct tlb_recent, limit)));
    fields[1] = e->p - 4;
    return emit_jump(e, CC_AE);
}

/* Up to the addend in T_A; `cut`: to the host address, of a sum of 32 bits; `run`: in the range for accesses of up to 8 bytes, which must
 * have both ends. */
static void emit_probe_recent(struct tr *t, struct stub *s, const struct sum *a, unsigned size, bool write, bool cut, bool run)
{
    struct emit *e = &t->e;
    const unsigned slot = recent_slot(t, a, run ? 8 : size, write), align = within_64k(t, a, size) ? size : (unsigned)t->align;
    const s32 end = run && size > 8 ? (s32)size - 8 : 0;
    struct other_page *o = &t->others[t->nothers++];
    *o = (struct other_page){.stub = s, .start = e->p, .lin = *a, .size = (u16)size, .align = (u8)t->align,
                             .slot = (u16)slot, .write = write, .cut = cut, .run = run};
    if (cut) {
        emit_sum(t, false, T_A, a, 0);
        emit_store(e, T_A, rm_reg(T_B));
    } else {
        emit_place(t, a, size, write, end);
    }
    if (align > 1) {
        emit_op(e, E_REX, 0, 0xf6, 0, rm_reg(T_B));
        emit8(e, align - 1);
        o->sites[1] = emit_jump(e, CC_NE);
    }
    o->sites[0] = emit_not_in_range(t, slot, o->fields);
    if (end) {
        emit_alu_imm(e, true, 7, T_B, end);
        o->sites[1] = emit_jump(e, CC_B);
    }
    emit_op(e, E_W, 0, cut ? 0x03 : 0x8b, T_A, recent_field(t, slot, offsetof(struct tlb_recent, addend)));
    o->fields[2] = e->p - 4;
    o->back = e->p;
}

/* A place in a kernel's data of the processor. */
static bool in_gs_page(const struct tr *t, const struct sum *a, unsigned size)
{
    return t->is64 && (t->b->mode & MODE_RING0) && !t->align && a->has_extra && a->extra.disp == window_base(SEG_GS).disp &&
           a->m.reg == H_NONE && a->m.index == H_NONE && (u32)a->m.disp < TLB_GS_PAGES << GUEST_PAGE_SHIFT &&
           ((u32)a->m.disp & GUEST_PAGE_MASK) + size <= GUEST_PAGE_SIZE;
}

static void emit_probe_gs(struct tr *t, struct stub *s, const struct sum *a, unsigned size, bool write)
{
    struct emit *e = &t->e;
    const unsigned page = (u32)a->m.disp >> GUEST_PAGE_SHIFT;
    struct other_page *o = &t->others[t->nothers++];
    *o = (struct other_page){.stub = s, .lin = *a, .size = (u16)size, .write = write, .gs = true};
    emit_load(e, T_A, a->extra);
    emit_op(e, E_W, 0, 0x3b, T_A, rm_cpu(TLB_FIELD(t->context, gs_base)));
    o->sites[0] = emit_jump(e, CC_NE);
    emit_op(e, 0, 0, 0xf6, 0, rm_cpu(TLB_FIELD(t->context, gs_pages[write]) + page / 8));
    emit8(e, 1u << page % 8);
    o->sites[1] = emit_jump(e, CC_E);
    emit_load(e, T_A, rm_cpu(TLB_FIELD(t->context, gs_host)));
    o->back = e->p;
    t->at = rm_mem(T_A, a->m.disp);
}

static void emit_other_gs(struct tr *t, const struct other_page *o)
{
    struct emit *e = &t->e;
    struct probe_call *call = NULL;
    if (!loops(t->b) && can_call_probe(t, o->stub, o->size)) call = call_probe(t, o->stub, &o->lin, true, o->size, o->write, false);
    else emit_probe_entry(t, o->stub, &o->lin, o->size, o->write);
    emit_op(e, E_W, 0, 0x03, T_A, o->lin.extra);
    emit_mov_imm64(e, T_B, (u32)o->lin.m.disp >> GUEST_PAGE_SHIFT | (o->write ? 256 : 0));
    emit_call(t, t->bt->gs_page);
    emit_jump_to(e, CC_ALWAYS, o->back);
    if (!call) return;
    call->again = e->p; /* beside code */
    emit_op(e, E_W, 0, 0x03, T_A, o->lin.extra);
    emit_jump_to(e, CC_ALWAYS, o->back);
}

/* Loops of few pages here and there: look at more ranges, those of `ways`, before the TLB, which the access would have to wait for. */
static void emit_ways(struct tr *t, const struct other_page *o, u16 ways[LOOK_WAYS])
{
    struct emit *e = &t->e;
    const unsigned half = RECENT_SMALL / 2, first = o->slot < half ? 1 : half, count = 2 * half - half * (o->slot < half) - first;
    for (unsigned n = 0; n < LOOK_WAYS; n++) {
        ways[n] = (u16)(first + (o->slot - first + 5 * (n + 1)) % count);
        emit_place(t, &o->lin, o->size, o->write, 0);
        u8 *fields[2], *no = emit_not_in_range(t, ways[n], fields);
        emit_load(e, T_A, recent_field(t, ways[n], offsetof(struct tlb_recent, addend)));
        emit_jump_to(e, CC_ALWAYS, o->back);
        emit_patch(no, e->p);
    }
}

void emit_other_page(struct tr *t, const struct other_page *o)
{
    struct emit *e = &t->e;
    u8 *probe = e->p;
    for (unsigned n = 0; n < 2; n++)
        if (o->sites[n]) emit_patch(o->sites[n], probe);
    t->align = o->align;
    if (o->gs) {
        emit_other_gs(t, o);
        return;
    }
    if (o->size > 1 && within_64k(t, &o->lin, o->size)) {
        struct sum offset = o->lin;
        offset.has_extra = false;
        emit_sum(t, false, T_B, &offset, 0);
        emit_alu_imm(e, false, 7, T_B, 0x10000 - (s32)o->size);
        stub_from(t, o->stub, CC_A);
    }
    u16 ways[LOOK_WAYS] = {0};
    if (loops(t->b) && o->slot && o->slot < RECENT_SMALL && !o->align && !o->cut && !o->run && !t->segmented) emit_ways(t, o, ways);
    probe = e->p;
    const unsigned size = o->run ? 8 : o->size;
    const bool stack = !o->slot && !t->align && !t->segmented && o->size <= 8, map = o->slot == TLB_MAP;
    struct probe_call *call = NULL;
    if (!loops(t->b) && can_call_probe(t, o->stub, o->size)) call = call_probe(t, o->stub, &o->lin, !o->cut, o->size, o->write, stack);
    else if (o->cut) emit_probe_cut(t, o->stub, &o->lin, o->size, o->write);
    else emit_probe_entry(t, o->stub, &o->lin, o->size, o->write);
    struct miss *miss = call ? NULL : miss_ends(t, o->size);
    u8 *probed = e->p;
    u8 *rare = NULL;
    if (map) {
        if (!call) emit_store(e, T_B, STATE(lin));
        emit_op(e, E_66, 0, 0x83, 5, recent_field(t, o->slot, offsetof(struct tlb_recent, left))); /* sub word, 1 */
        emit8(e, 1);
        rare = emit_jump(e, CC_S);
    } else if (!(stack && call) && (o->slot || o->write)) { /* the stack's has been found for writing */
        if (!call) emit_store(e, T_B, STATE(lin));
        rare = emit_set_recent(e, t->context, o->slot, size);
    }
    u8 *again = e->p;
    if (o->cut) {
        emit_sum(t, false, T_B, &o->lin, 0);
        emit_op(e, E_W, 0, 0x03, T_A, rm_reg(T_B));
    }
    emit_jump_to(e, CC_ALWAYS, o->back);
    if (call) {
        call->again = again;
        call->slot = (u8)o->slot;
    } else {
        miss->again = again;
        miss->slot = (u8)o->slot;
    }
    if (!rare) return;
    struct look *look = code_memory_data(&t->bt->code, sizeof *look);
    *look = (struct look){.start = o->start, .probe = probe, .probed = probed, .again = o->cut ? again : o->back,
                          .slot = o->slot, .context = (u8)t->context, .write = o->write, .past = (u16)tlb_recent_past(size),
                          .fields = {o->fields[0], o->fields[1], o->fields[2]}};
    memcpy(look->ways, ways, sizeof ways);
    emit_patch(rare, e->p);
    emit_near(e, 0x8d, T_B, look);
    emit_call(t, map ? t->bt->unmapped : t->bt->missed);
    emit_jump_to(e, CC_ALWAYS, again);
}

/* Probe a sum; no part wraps before the sum does. */
static void emit_probe_sum(struct tr *t, struct stub *s, const struct sum *a, unsigned size, bool write)
{
    struct emit *e = &t->e;
    if (in_gs_page(t, a, size)) {
        emit_probe_gs(t, s, a, size, write);
        return;
    }
    if (has_recent(t, a, size, write)) {
        emit_probe_recent(t, s, a, size, write, false, false);
    } else if (calls_probe(t, s, size)) {
        call_probe(t, s, a, true, size, write, false);
    } else {
        emit_probe_entry(t, s, a, size, write);
        miss_ends(t, size);
    }
    if (a->extra_scaled) {
        emit_sum(t, true, T_B, a, 0);
        emit_op(e, E_W, 0, 0x03, T_A, rm_reg(T_B));
        t->at = rm_mem(T_A, 0);
        return;
    }
    if (a->has_extra) emit_op(e, E_W, 0, 0x03, T_A, a->extra);
    t->at = with_register(t, T_A, a->m);
}

void emit_probe_group(struct tr *t, struct stub *s, const struct sum *a, unsigned size, bool write)
{
    if (has_recent(t, a, size, write)) emit_probe_recent(t, s, a, size, write, false, false);
    else emit_probe_entry(t, s, a, size, write);
    if (a->has_extra) emit_op(&t->e, E_W, 0, 0x03, T_A, a->extra);
}

void emit_probe_span(struct tr *t, struct stub *s, const struct sum *a, unsigned size, bool write)
{
    if (has_recent(t, a, 8, write)) emit_probe_recent(t, s, a, size, write, false, true);
    else emit_probe_entry(t, s, a, size, write);
}

/* Probe an address in 32-bit code that may have to be cut to 32 bits. */
static void emit_probe_wrapped(struct tr *t, struct stub *s, const struct sum *a, unsigned size, bool write)
{
    struct emit *e = &t->e;
    u8 *retry = e->p;
    if (a->m.reg == H_NONE && a->m.index == H_NONE && !a->has_extra && !a->half) { /* an absolute address: its entry is known now */
        const u32 lin = (u32)a->m.disp;
        const size_t entry = TLB_FIELD(t->context, e) + tlb_index(lin) * sizeof(struct tlb_entry);
        if (t->align && (lin & (t->align - 1u))) stub_from(t, s, CC_ALWAYS);
        emit_mov_imm64(e, T_B, ((u64)lin + (u64)compared_byte(t, size)) & ~(u64)GUEST_PAGE_MASK);
        emit_op(e, E_W, 0, 0x0b, T_B, rm_cpu(TLB_FIELD(t->context, gen)));
        emit_op(e, E_W, 0, 0x3b, T_B, rm_cpu(entry + (write ? offsetof(struct tlb_entry, write_tag) : offsetof(struct tlb_entry, read_tag))));
        stub_miss(t, s, retry, a, false, write);
        emit_mov_imm64(e, T_A, lin);
        emit_op(e, E_W, 0, 0x03, T_A, rm_cpu(entry + offsetof(struct tlb_entry, addend)));
    } else if (has_recent(t, a, size, write)) {
        emit_probe_recent(t, s, a, size, write, true, false);
    } else if (calls_probe(t, s, size)) {
        call_probe(t, s, a, false, size, write, false);
        emit_op(e, E_W, 0, 0x03, T_A, STATE(lin));
    } else {
        emit_probe_cut(t, s, a, size, write);
        miss_ends(t, size);
        emit_sum(t, false, T_B, a, 0);
        emit_op(e, E_W, 0, 0x03, T_A, rm_reg(T_B));
    }
    t->at = rm_mem(T_A, 0);
}

/* Probe the address in T_B. */
static void emit_probe_register(struct tr *t, struct stub *s, unsigned size, bool write)
{
    struct emit *e = &t->e;
    const struct sum lin = {.m = rm_mem(H_NONE, 0), .extra = STATE(lin), .has_extra = true};
    emit_store(e, T_B, STATE(lin));
    u8 *retry = e->p;
    emit_index(e, t->bt, T_B);
    if (compared_byte(t, size)) emit_lea(e, true, T_B, rm_mem(T_B, compared_byte(t, size)));
    emit_compare(t, s, retry, &lin, true, write);
    miss_ends(t, size);
    emit_op(e, E_W, 0, 0x03, T_A, STATE(lin));
    t->at = rm_mem(T_A, 0);
}

bool address_rm(const struct tr *t, struct rm *m)
{
    struct sum a;
    const bool ok = sum_of(t, &a);
    *m = a.m;
    return ok && !a.has_extra;
}

void emit_offset(struct tr *t, bool wide, unsigned reg)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    struct sum a;
    if (sum_of(t, &a)) {
        emit_sum(t, wide, reg, &a, 0);
    } else if (i->base == REG_ZERO && i->index == REG_ZERO) {
        emit_mov_imm64(e, reg, wide ? (u64)i->disp : (u32)i->disp);
    } else {
        struct rm m = {.kind = RM_MEM, .reg = H_NONE, .index = H_NONE, .scale = i->scale};
        const unsigned other = reg == T_A ? T_B : T_A;
        const s64 more = i->base == REG_RIP ? MAX((s64)i->disp - INT32_MAX, 0) : 0; /* than 32 bits hold */
        if (i->base == REG_RIP) {
            emit_load(e, reg, STATE(page_rip));
            m.reg = (u8)reg;
            m.disp = t->b->offset + (s32)more;
        } else if (i->base != REG_ZERO) {
            m.reg = (u8)(resident(i->base) ? host_reg(i->base) : reg);
            if (!resident(i->base)) emit_load(e, reg, guest_mem(i->base));
        }
        if (i->index != REG_ZERO) {
            m.index = (u8)(resident(i->index) ? host_reg(i->index) : other);
            if (!resident(i->index)) emit_load(e, other, guest_mem(i->index));
        }
        emit_lea(e, wide, reg, m);
        if (i->disp) emit_lea(e, wide, reg, rm_mem(reg, (s32)(i->disp - more)));
    }
}

/* T_B is the offset of `size` bytes in a segment: check its limit. Uses T_A. */
static void emit_limit(struct tr *t, struct stub *s, unsigned seg, unsigned size, bool write)
{
    emit_lea(&t->e, true, T_A, rm_mem(T_B, (s32)size));
    emit_op(&t->e, E_W, 0, 0x3b, T_A, window_end(seg, write));
    stub_from(t, s, CC_A);
}

/* Probe an offset in a segment of segmented code. */
static void emit_probe_segment(struct tr *t, struct stub *s, const struct sum *offset, unsigned seg, unsigned size, bool write)
{
    struct sum a = *offset;
    a.extra = window_base(seg);
    a.has_extra = true;
    a.segment = (u8)(1 + seg);
    if (!within_64k(t, &a, size)) {
        emit_sum(t, false, T_B, offset, 0);
        emit_limit(t, s, seg, size, write);
    }
    emit_probe_wrapped(t, s, &a, size, write);
}

void emit_stack(struct tr *t, struct stub *s, unsigned base, s32 disp, unsigned size, bool write)
{
    const struct sum a = {.m = rm_mem(base, disp), .half = t->half_stack};
    if (t->segmented) emit_probe_segment(t, s, &a, SEG_SS, size, write);
    else emit_probe_sum(t, s, &a, size, write);
}

void emit_element(struct tr *t, struct stub *s, unsigned seg, unsigned base, unsigned size, bool write)
{
    const struct sum a = {.m = rm_mem(base, 0), .half = t->i->addrsize == 2};
    if (t->segmented) emit_probe_segment(t, s, &a, seg, size, write);
    else emit_probe_sum(t, s, &a, size, write);
}

/* Probe the offset in T_B in the operand's segment. */
static void emit_probe_offset(struct tr *t, struct stub *s, unsigned size, bool write)
{
    struct emit *e = &t->e;
    if (has_base(t, t->i->seg)) {
        if (!t->is64) emit_limit(t, s, t->i->seg, size, write);
        emit_op(e, t->is64 ? E_W : 0, 0, 0x03, T_B, window_base(t->i->seg));
    }
    emit_probe_register(t, s, size, write);
}

void emit_probe_run(struct tr *t, struct stub *s, unsigned base, bool write)
{
    const struct sum a = {.m = rm_mem(base, 0)};
    emit_probe_entry(t, s, &a, 1, write);
}

void emit_address(struct tr *t, struct stub *s, unsigned size, bool write)
{
    const struct insn *i = t->i;
    const bool based = has_base(t, i->seg);
    struct sum a;
    if (t->segmented && sum_of(t, &a)) {
        emit_probe_segment(t, s, &a, i->seg, size, write);
        return;
    }
    if (t->is64 && i->addrsize == 8 && address_sum(t, i, &a)) {
        emit_probe_sum(t, s, &a, size, write);
        return;
    }
    if (!t->is64 && !based && sum_of(t, &a)) {
        /* Near its base: what would wrap at 32 bits fails the compare. */
        const s32 near = 1 << 16;
        if (!a.half && a.m.reg != H_NONE && a.m.index == H_NONE && a.m.disp > -near && a.m.disp < near) emit_probe_sum(t, s, &a, size, write);
        else emit_probe_wrapped(t, s, &a, size, write);
        return;
    }
    emit_offset(t, t->is64 && i->addrsize == 8, T_B);
    emit_probe_offset(t, s, size, write);
}

void emit_bit_address(struct tr *t, struct stub *s, bool write)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    const unsigned guest = i->operands[1].reg, size = i->opsize;
    const bool wide = t->is64 && i->addrsize == 8;
    const struct rm from = resident(guest) ? rm_reg(host_reg(guest)) : guest_mem(guest);
    emit_load(e, T_A, from);
    emit_alu_imm(e, false, 4, T_A, 8 * (s32)size - 1);
    emit_store(e, T_A, STATE(target));
    emit_offset(t, wide, T_B);
    /* Signed, in units of the operand size: MOVSX, MOVSXD or MOV. */
    if (size == 2) emit_op(e, E_W, 1, 0xbf, T_A, from);
    else emit_op(e, E_W, 0, size == 4 ? 0x63 : 0x8b, T_A, from);
    emit_shift(e, 7, T_A, size == 2 ? 4 : size == 4 ? 5 : 6);
    emit_lea(e, wide, T_B, (struct rm){.kind = RM_MEM, .reg = T_B, .index = T_A, .scale = size == 2 ? 1 : size == 4 ? 2 : 3});
    if (i->addrsize == 2) emit_load_size(e, 2, T_B, rm_reg(T_B));
    emit_probe_offset(t, s, size, write);
}

/* Locked operations on two cache lines take the slow path: see mem_locked(). */
void emit_one_line(struct tr *t, struct stub *s, unsigned size)
{
    struct emit *e = &t->e;
    emit_lea(e, true, T_B, t->at);
    emit_alu_imm(e, false, 4, T_B, 63);
    emit_alu_imm(e, false, 7, T_B, 64 - (s32)size);
    stub_from(t, s, CC_A);
}
