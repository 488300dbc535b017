/* Guest memory by linear address, in any size and alignment: what descriptors, gates, stacks and the slow paths of operands are
 * read and written by. Runs while the guest's vector state is live (fpu_live.h), and saves it when it must. */
#include "cpu/mmu.h"

#include <string.h>

#include "cpu/exec.h"
#include "cpu/fpu_live.h"
#include "cpu/store_log.h"

/* Bytes in one page that the TLB has for this access; or NULL. */
static inline u8 *in_tlb(struct cpu *cpu, gla lin, unsigned size, unsigned acc)
{
    const struct tlb *tlb = &cpu->tlbs[mmu_context(cpu, acc)];
    const struct tlb_entry *e = &tlb->e[tlb_index(lin)];
    const u64 tag = acc & ACC_WRITE ? e->write_tag : acc & ACC_EXEC ? e->exec_tag : e->read_tag;
    return tag == (((lin + size - 1) & ~GUEST_PAGE_MASK) | tlb->gen) ? (u8 *)(uintptr_t)(lin + e->addend) : NULL;
}

/* Buses take these at once. */
static bool is_unit(unsigned size) { return size == 1 || size == 2 || size == 4 || size == 8; }

static void piece_read(struct cpu *cpu, const struct mmu_piece *p, void *buf, unsigned size)
{
    if (p->t.host) {
        ram_copy(buf, p->t.host, size);
        return;
    }
    fpu_save(cpu);
    cpu->hooks->lock(cpu->hooks->opaque);
    if (is_unit(size)) {
        u64 v = bus_read(cpu->mem, p->phys, size);
        ram_copy(buf, &v, size);
    } else {
        bus_read_block(cpu->mem, p->phys, buf, size);
    }
    cpu->hooks->unlock(cpu->hooks->opaque);
}

static void piece_write(struct cpu *cpu, const struct mmu_piece *p, const void *buf, unsigned size)
{
    if (!p->t.host || p->t.ram || cpu->log) fpu_save(cpu);
    if (p->t.host) {
        if (cpu->log) store_log_note(cpu->log, p->t.host, size);
        /* Code that is written as it was stays what it is; among several vCPUs nobody knows what it was. */
        const bool same = p->t.ram && !cpu->smp && !memcmp(p->t.host, buf, size);
        ram_copy(p->t.host, buf, size);
        if (p->t.ram) cpu_stored(cpu, p->t.ram_offset, size, same);
        return;
    }
    cpu->hooks->lock(cpu->hooks->opaque);
    if (is_unit(size)) {
        u64 v = 0;
        ram_copy(&v, buf, size);
        bus_write(cpu->mem, p->phys, v, size);
    } else {
        bus_write_block(cpu->mem, p->phys, buf, size);
    }
    cpu->hooks->unlock(cpu->hooks->opaque);
}

/* Bytes of [lin, lin + size) in its first page. */
static unsigned first_part(gla lin, unsigned size)
{
    unsigned room = GUEST_PAGE_SIZE - (unsigned)(lin & GUEST_PAGE_MASK);
    return size < room ? size : room;
}

static bool check_canonical(struct cpu *cpu, gla lin, unsigned size)
{
    if (!cpu_long(cpu) || (canonical(lin) && canonical(lin + size - 1))) return true;
    return raise_gp0(cpu);
}

static gla wrap(const struct cpu *cpu, gla lin) { return cpu_long(cpu) ? lin : (u32)lin; }

/* Both pages of an access: *first is what is in the first one, b is set if that is not all. */
static bool resolve(struct cpu *cpu, gla lin, unsigned size, unsigned acc, unsigned *first, struct mmu_piece *a, struct mmu_piece *b)
{
    TRY(check_canonical(cpu, lin, size));
    *first = first_part(lin, size);
    return mmu_resolve(cpu, lin, acc, a) && (*first == size || mmu_resolve(cpu, wrap(cpu, lin + *first), acc, b));
}

bool lin_read(struct cpu *cpu, gla lin, void *buf, unsigned size, unsigned acc)
{
    struct mmu_piece a, b;
    unsigned n;
    lin = wrap(cpu, lin);
    const u8 *host = in_tlb(cpu, lin, size, acc);
    if (host) {
        ram_copy(buf, host, size);
        return true;
    }
    TRY(resolve(cpu, lin, size, acc, &n, &a, &b));
    piece_read(cpu, &a, buf, n);
    if (n < size) piece_read(cpu, &b, (u8 *)buf + n, size - n);
    return true;
}

bool lin_write(struct cpu *cpu, gla lin, const void *buf, unsigned size, unsigned acc)
{
    struct mmu_piece a, b;
    unsigned n;
    acc |= ACC_WRITE;
    lin = wrap(cpu, lin);
    u8 *host = cpu->log ? NULL : in_tlb(cpu, lin, size, acc);
    if (host) {
        ram_copy(host, buf, size);
        return true;
    }
    TRY(resolve(cpu, lin, size, acc, &n, &a, &b));
    piece_write(cpu, &a, buf, n);
    if (n < size) piece_write(cpu, &b, (const u8 *)buf + n, size - n);
    return true;
}

bool lin_probe_write(struct cpu *cpu, gla lin, unsigned size, unsigned acc)
{
    struct mmu_piece a, b;
    unsigned n;
    return resolve(cpu, wrap(cpu, lin), size, acc | ACC_WRITE, &n, &a, &b);
}
