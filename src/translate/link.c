/* Translated blocks leading to each other: direct jumps are patched, others find their target in the jump cache. The light functions
 * here run while the guest's vector state may be in the host's registers (light.h). */
#include "translate/light.h"

#include "cpu/mmu.h"
#include "translate/emit.h"
#include "translate/translate.h"

/* Code that has run already is not written without need: the processor would drop what it has of it. */
static void repatch(u8 *site, const u8 *target)
{
    s32 d;
    memcpy(&d, site, sizeof d);
    if (site + 4 + d != target) emit_patch(site, target);
}

static void unlink_jump(struct link *l)
{
    if (!l->to) return;
    *l->at = l->next;
    if (l->next) l->next->at = l->at;
    l->to = NULL;
    l->page = NO_PAGE;
    repatch(l->site, l->stub);
}

void translate_link(struct bt *bt, struct link *l, struct block *to, bool forward)
{
    if (l->to != to) {
        unlink_jump(l);
        struct translation *t = to->translation;
        l->to = to;
        l->next = t->in;
        l->at = &t->in;
        if (l->next) l->next->at = &l->next;
        t->in = l;
    }
    repatch(l->site, code_memory_rw(&bt->code, forward ? to->host_forward : to->host));
}

void translate_discard(struct cpu *cpu, struct block *b, bool redirect)
{
    struct bt *bt = cpu->engine;
    struct translation *t = b->translation;
    while (t->in) unlink_jump(t->in);
    for (struct link *l = t->out; l; l = l->sibling) unlink_jump(l);
    if (redirect && b->host) {
        struct emit e = {.p = code_memory_rw(&bt->code, b->host)};
        emit_jump_to(&e, CC_ALWAYS, t->leave);
        e.p = code_memory_rw(&bt->code, b->host_forward);
        emit_jump_to(&e, CC_ALWAYS, t->leave);
    }
    if (t->plain) {
        for (struct link *l = t->plain->out; l; l = l->sibling) unlink_jump(l);
        t->plain->block = NULL;
    }
    t->block = NULL;
    b->translation = NULL;
    b->host = b->host_forward = NULL;
    cpu_forget_returns(cpu);
}

bool translate_adjust(struct cpu *cpu, struct block *b, const struct insn *i, u64 imm)
{
    const struct bt *bt = cpu->engine;
    struct translation *t = b->translation;
    if (bt->check) return false; /* stores are undone behind our back */
    for (const struct imm_site *s = t->imms; s; s = s->next) {
        if (s->insn != i) continue;
        if (t->adjusted && t->adjusted != s) return false; /* all of it is written anew, as it seems */
        t->adjusted = s;
        memcpy(s->at, &imm, s->bytes);
        return true;
    }
    return false;
}

/* RAM offset of code, or ~0. Leaves no trace of a fault. */
static u64 code_offset(struct cpu *cpu, gla lin)
{
    const struct tlb_entry *e = &cpu->tlb->e[tlb_index(lin)];
    if (e->exec_tag != ((lin & ~GUEST_PAGE_MASK) | cpu->tlb->gen) && !mmu_fill(cpu, lin, ACC_EXEC)) return ~0ull;
    return lin + e->addend - (u64)(uintptr_t)cpu->ram->host;
}

/* The block at this RIP, if it is decoded already; `known` is looked at first, if it is not NULL. */
static struct block *find(struct cpu *cpu, const struct bt *bt, u64 rip, struct block *known)
{
    const bool long_code = cpu_code64(cpu);
    const gla lin = code_lin(cpu, rip);
    if (long_code ? !canonical(lin) : rip > cpu->code_limit) return NULL;
    const u64 offset = code_offset(cpu, lin);
    if (offset == ~0ull) return NULL;
    const unsigned in_page = (unsigned)(offset & GUEST_PAGE_MASK);
    const u64 place = block_place(cpu, rip, in_page);
    if (known && known->page == offset >> GUEST_PAGE_SHIFT && known->offset == in_page && known->mode == cpu->mode_key &&
        known->place == place && !block_crosses(known))
        return known;
    const struct code_page *p = bt->cache.pages[offset >> GUEST_PAGE_SHIFT];
    struct block *b = p ? block_at(p, in_page, cpu->mode_key, place) : NULL;
    if (!b || !block_crosses(b)) return b;
    const gla next = next_page(cpu, lin);
    if ((long_code && !canonical(next)) || code_offset(cpu, next) >> GUEST_PAGE_SHIFT != b->tail) return NULL;
    cpu_code_seen(cpu, next);
    return b;
}

u64 light_link(struct cpu *cpu, u64 addr, u64 a)
{
    (void)a;
    struct bt *bt = cpu->engine;
    struct link *l = (struct link *)(void *)code_memory_rw(&bt->code, (void *)(uintptr_t)addr);
    const u64 rip = (cpu->page_rip + (u64)(s64)l->target) & cpu->ip_mask;
    const u8 mode = l->from->mode;
    bool forward = l->target > l->from->offset;
    struct block *to;
    bt->links++;
    cpu->rip = rip;
    if (l->from->dead) return 0; /* a page walk in it has set a bit in its page; what leads to others is given up already */
    if (l->within) {
        to = block_at(bt->cache.pages[l->from->page], (unsigned)l->target, mode, l->from->place);
        if (to && block_crosses(to)) return 0;
    } else {
        if ((mode & 3) == CODE_64 && !canonical(rip)) {
            cpu->rip = cpu->page_rip + l->insn;
            bt->unpush = l->pushed;
            raise_gp0(cpu);
            return 0;
        }
        to = find(cpu, bt, rip, l->to);
        forward = rip > ((cpu->page_rip + l->from->offset) & cpu->ip_mask);
    }
    if (!to || !to->host || l->from->dead) return 0;
    forward |= l->quiet;
    translate_link(bt, l, to, forward);
    if (!l->within) {
        cpu_code_seen(cpu, code_lin(cpu, rip));
        l->page = cpu->page_rip + l->ahead;
        l->key = cpu->code_key;
        cpu->page_rip = (rip - to->offset) & cpu->ip_mask;
    }
    return (u64)(uintptr_t)(forward ? to->host_forward : to->host);
}

u64 light_find(struct cpu *cpu, u64 addr, u64 a)
{
    (void)a;
    struct bt *bt = cpu->engine;
    bt->finds++;
    struct block *to = find(cpu, bt, addr, NULL);
    if (!to || !to->host) return 0;
    const gla lin = code_lin(cpu, addr);
    struct jump_entry *j = jump_slot(&bt->cache, lin);
    cpu_code_seen(cpu, lin);
    *j = (struct jump_entry){.lin = lin, .key = cpu->code_key, .block = to, .host = to->host};
    return (u64)(uintptr_t)j;
}
