/* Guest address -> host address: the only place that knows how. */
#include "translate/tr.h"

bool address_ok(const struct tr *t)
{
    const struct insn *i = t->i;
    if (t->is64) {
        if (i->addrsize == 4) return i->base != REG_RIP;
        return i->addrsize == 8;
    }
    return i->addrsize == 4 && i->seg != SEG_CS;
}

struct rm address_rm(struct tr *t)
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

struct rm probed(void) { return (struct rm){.kind = RM_MEM, .reg = T_ADDR, .index = T_A}; }

void emit_probe(struct tr *t, struct stub *s, unsigned size, bool write)
{
    struct emit *e = &t->e;
    u8 *retry = e->p;
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
    stub_miss(t, s, retry, rm_mem(T_ADDR, 0), write);
    emit_load(e, T_A, rm_gs_base(T_A, table + offsetof(struct tlb_entry, addend)));
}

void emit_address(struct tr *t, struct stub *s, unsigned size, bool write)
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
