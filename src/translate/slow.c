/* Out-of-line paths: what the interpreter's handler does in an instruction's place, always or when the fast path gives up. */
#include "translate/tr.h"

#include <assert.h>

#include "cpu/mmu.h"

struct stub *new_stub(struct tr *t)
{
    struct stub *s = &t->stubs[t->nstubs++];
    *s = (struct stub){.insn = t->i, .settle = t->entry, .recover = !t->mem, .rec_len = t->rec_len, .fpu = t->fpu_after};
    memcpy(s->rec, t->rec, sizeof s->rec);
    return s;
}

void stub_from(struct tr *t, struct stub *s, unsigned cc)
{
    assert(s->nsites < ARRAY_LEN(s->sites));
    s->sites[s->nsites++] = emit_jump(&t->e, cc);
}

void stub_miss(struct tr *t, struct stub *s, u8 *retry, const struct sum *lin, bool wide, bool write)
{
    t->misses[t->nmisses++] =
        (struct miss){.stub = s, .site = emit_jump(&t->e, CC_NE), .retry = retry, .lin = *lin, .wide = wide, .write = write};
}

struct miss *miss_ends(struct tr *t, unsigned size)
{
    struct miss *m = &t->misses[t->nmisses - 1];
    m->ended = m->again = t->e.p;
    m->size = (u16)size;
    m->align = (u8)t->align;
    return m;
}

void stub_back(struct tr *t, struct stub *s)
{
    s->back = t->e.p;
    s->restore = t->host;
    s->leave = t->run ? t->run->leave : groups_open(t);
}

void emit_call(struct tr *t, const u8 *thunk) { emit_jump_to(&t->e, CC_CALL, thunk_rw(t->bt, thunk)); }

static void emit_slow_call(struct tr *t, const struct insn *i)
{
    emit_mov_imm64(&t->e, H_14, (u64)(uintptr_t)i);
    emit_mov_imm64(&t->e, H_15, t->b->offset);
    emit_call(t, t->bt->slow);
}

void emit_miss(struct tr *t, const struct miss *m)
{
    struct emit *e = &t->e;
    emit_patch(m->site, e->p);
    t->align = m->align;
    if (m->ended && can_call_probe(t, m->stub, m->size)) {
        struct probe_call *call = call_probe(t, m->stub, &m->lin, m->wide, m->size, m->write, false);
        emit_jump_to(e, CC_ALWAYS, m->ended);
        call->again = m->again;
        call->slot = m->slot;
        return;
    }
    emit_sum(t, m->wide, T_B, &m->lin, 0);
    if (m->stub->span) { /* on two pages: never found */
        emit_lea(e, true, T_A, rm_mem(T_B, m->stub->span - 1));
        emit_op(e, E_W, 0, 0x33, T_A, rm_reg(T_B));
        emit_shift(e, 5, T_A, GUEST_PAGE_SHIFT);
        stub_from(t, m->stub, CC_NE);
    }
    emit_mov_imm64(e, T_A, !m->write ? ACC_READ : m->stub->span ? FILL_DIRTY : ACC_WRITE);
    emit_call(t, t->bt->fill);
    emit_op(e, 0, 0, 0x85, T_A, rm_reg(T_A));
    emit_jump_to(e, CC_NE, m->retry);
    stub_from(t, m->stub, CC_ALWAYS);
}

/* Go on in the plain translation with the instruction of this number; the flags are in cpu->aflags. */
static void emit_go_plain(struct tr *t, unsigned n)
{
    if (t->fpu[n]) emit_fpu_again(t, t->fpu[n], t->b->offset + t->b->insns[n].off);
    if (t->plain_host[n]) emit_flags_restore(&t->e);
    emit_jump_to(&t->e, CC_ALWAYS, t->plain_at[n]);
}

void emit_stub(struct tr *t, struct stub *s)
{
    const unsigned n = (unsigned)(s->insn - t->b->insns);
    s->start = s->code ? s->code : t->e.p;
    for (unsigned k = 0; k < s->nsites; k++) emit_patch(s->sites[k], s->start);
    if (s->code) return;
    if (s->settle) emit_call(t, t->bt->settle);
    if (s->recover) {
        emit_bytes(&t->e, s->rec, s->rec_len);
        emit_flags_save(&t->e);
    }
    if (s->span) {
        emit_go_plain(t, n);
        return;
    }
    emit_slow_call(t, s->insn);
    if (!s->back) return;
    if (s->leave) {
        emit_go_plain(t, n + 1);
        return;
    }
    if (s->fpu) emit_fpu_again(t, s->fpu, t->b->offset + s->insn->off + s->insn->len);
    if (s->restore) emit_flags_restore(&t->e);
    emit_jump_to(&t->e, CC_ALWAYS, s->back);
}

void emit_handler(struct tr *t)
{
    flags_to_mem(t);
    emit_settle(t);
    emit_slow_call(t, t->i);
}

void by_handler(struct tr *t)
{
    t->bt->refused[t->i->mnemonic]++;
    groups_close(t);
    emit_handler(t);
    t->host = t->entry = false;
    t->rec_len = 0;
    if (t->fpu_after) emit_fpu_again(t, t->fpu_after, t->b->offset + t->i->off + t->i->len);
}
