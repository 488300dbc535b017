/* Memory operands: segment checks, alignment checks, data breakpoints, and the slow paths behind exec.h's accessors. */
#include "cpu/exec.h"

#include <pthread.h>
#include <string.h>

#include "cpu/fpu_live.h"
#include "cpu/store_log.h"

/* #SS for the stack segment, #GP for the others. */
static bool segment_fault(struct cpu *cpu, unsigned seg) { return raise_err(cpu, seg == SEG_SS ? EXC_SS : EXC_GP, 0); }

/* SDM vol 3A 5.3 (limits) and 5.5 (types). Offsets are already truncated to the address size. */
static bool segment_allows(const struct cpu *cpu, const struct segment *s, u64 offset, unsigned size, bool write)
{
    bool code = s->attr & 8;
    if (cpu_protected(cpu) && !cpu_v86(cpu)) {
        if (!(s->attr & SEG_P)) return false; /* null selector */
        if (code ? write || !(s->attr & 2) : write && !(s->attr & 2)) return false;
    }
    u64 last = offset + size - 1;
    if (!code && (s->attr & 4)) { /* expand-down */
        u64 top = s->attr & SEG_DB ? 0xffffffffull : 0xffffull;
        return offset > s->limit && last <= top;
    }
    if (s->limit == 0xffffffffu) return true; /* may wrap; SDM vol 3A 5.3 leaves it open */
    return last <= s->limit;
}

bool seg_linear(struct cpu *cpu, unsigned seg, u64 offset, unsigned size, bool write, gla *lin)
{
    const struct segment *s = &cpu->seg[seg];
    if (size == 0) size = 1;
    if (cpu_code64(cpu)) {
        *lin = offset + cpu->win[seg].base;
        if (!canonical(*lin)) return segment_fault(cpu, seg);
    } else {
        if (!segment_allows(cpu, s, offset, size, write)) return segment_fault(cpu, seg);
        *lin = (u32)(s->base + offset);
    }
    /* [SDM3] table 6-7: 8 bytes for an x87 extended real or BCD operand. */
    if (cpu->cpl == 3 && (cpu->cr0 & CR0_AM) && (cpu->eflags & EFLAGS_AC) && size <= 10 &&
        (*lin & ((size == 10 ? 8 : size) - 1)))
        return raise_err(cpu, EXC_AC, 0);
    /* Alignment comes before the second page: so do processors. */
    return !cpu_code64(cpu) || canonical(*lin + size - 1) || segment_fault(cpu, seg);
}

/* Data breakpoints: R/W 1 writes, 3 reads and writes, 2 ports (SDM vol 3B 17.2.4). Mark those that [start, start + size)
 * touches and whose R/W field is in the set; the trap comes after the instruction. */
static void watch_hit(struct cpu *cpu, u64 address, unsigned size, unsigned rw_set)
{
    static const u8 lengths[4] = {1, 2, 8, 4};
    for (unsigned n = 0; n < 4; n++) {
        unsigned rw = cpu->dr[7] >> (16 + 4 * n) & 3;
        if (!(rw_set >> rw & 1) || !(cpu->dr[7] >> 2 * n & 3)) continue;
        unsigned len = lengths[cpu->dr[7] >> (18 + 4 * n) & 3];
        u64 start = cpu->dr[n] & ~(u64)(len - 1);
        if (address >= start + len || start >= address + size) continue;
        cpu->pending_debug |= (u8)(1u << n);
        cpu_event_set(cpu, EVENT_STEP);
    }
}

static void watch(struct cpu *cpu, gla lin, unsigned size, bool write)
{
    watch_hit(cpu, lin, size, write ? 1u << 1 | 1u << 3 : 1u << 3);
}

void io_watch_slow(struct cpu *cpu, u16 port, unsigned size)
{
    if (cpu->cr4 & CR4_DE) watch_hit(cpu, port, size, 1u << 2);
}

bool seg_read(struct cpu *cpu, unsigned seg, u64 offset, void *buf, unsigned size)
{
    gla lin;
    TRY(seg_linear(cpu, seg, offset, size, false, &lin));
    TRY(lin_read(cpu, lin, buf, size, ACC_READ));
    if (cpu->watch & 1) watch(cpu, lin, size, false);
    return true;
}

bool seg_write(struct cpu *cpu, unsigned seg, u64 offset, const void *buf, unsigned size)
{
    gla lin;
    TRY(seg_linear(cpu, seg, offset, size, true, &lin));
    TRY(lin_write(cpu, lin, buf, size, ACC_WRITE));
    if (cpu->watch & 1) watch(cpu, lin, size, true);
    return true;
}

bool mem_read_slow(struct cpu *cpu, unsigned seg, u64 ea, void *buf, unsigned size)
{
    return seg_read(cpu, seg, ea, buf, size);
}

bool mem_write_slow(struct cpu *cpu, unsigned seg, u64 ea, const void *buf, unsigned size)
{
    return seg_write(cpu, seg, ea, buf, size);
}

bool mem_rmw_slow(struct cpu *cpu, unsigned seg, u64 ea, void *buf, unsigned size)
{
    gla lin;
    TRY(seg_linear(cpu, seg, ea, size, true, &lin));
    TRY(lin_probe_write(cpu, lin, size, ACC_WRITE));
    return lin_read(cpu, lin, buf, size, ACC_READ);
}

bool mem_read_block(struct cpu *cpu, unsigned seg, u64 ea, void *buf, unsigned size)
{
    const void *p = mem_fast(cpu, seg, ea, size, false);
    if (p) {
        fpu_save(cpu); /* memcpy() */
        memcpy(buf, p, size);
        return true;
    }
    return seg_read(cpu, seg, ea, buf, size);
}

bool mem_write_block(struct cpu *cpu, unsigned seg, u64 ea, const void *buf, unsigned size)
{
    void *p = mem_fast(cpu, seg, ea, size, true);
    if (p) {
        fpu_save(cpu);
        memcpy(p, buf, size);
        return true;
    }
    return seg_write(cpu, seg, ea, buf, size);
}

/* One lock for all machines of the process: split locks are rare, and it keeps the CPU free of a shared owner. */
static pthread_mutex_t split_mutex = PTHREAD_MUTEX_INITIALIZER;

void mem_split_lock(void) { pthread_mutex_lock(&split_mutex); }
void mem_split_unlock(void) { pthread_mutex_unlock(&split_mutex); }

/* RAM that the TLB does not have for writing: the first access to a page, or a page that holds code. Two steps would let another
 * vCPU's store get lost between them. */
void *mem_locked_slow(struct cpu *cpu, unsigned seg, u64 ea, unsigned size)
{
    gla lin;
    gpa phys;
    bool page_ok;
    if ((cpu->watch & 1) || !seg_linear(cpu, seg, ea, size, true, &lin) || (lin & 63) + size > 64 ||
        !mmu_translate(cpu, lin, ACC_WRITE, &phys)) {
        cpu->exc.vector = -1; /* the two-step path finds out again */
        return NULL;
    }
    struct bus_target t = bus_lookup(cpu->mem, phys, true, &page_ok);
    if (!t.host || bus_lookup(cpu->mem, phys, false, &page_ok).host != t.host) return NULL;
    if (cpu->log) store_log_note(cpu->log, t.host, size);
    cpu->locked_offset = t.ram_offset;
    cpu->locked_size = (u8)size;
    return t.host;
}

void mem_locked_report(struct cpu *cpu)
{
    u64 offset = cpu->locked_offset;
    unsigned size = cpu->locked_size;
    cpu->locked_size = 0;
    cpu_stored(cpu, offset, size, false);
}

bool push(struct cpu *cpu, unsigned size, u64 value)
{
    u64 sp = (cpu->regs[R_SP] - size) & stack_mask(cpu);
    switch (size) {
    case 2: TRY(mem_write16(cpu, SEG_SS, sp, (u16)value)); break;
    case 4: TRY(mem_write32(cpu, SEG_SS, sp, (u32)value)); break;
    default: TRY(mem_write64(cpu, SEG_SS, sp, value)); break;
    }
    stack_set(cpu, sp);
    return true;
}

bool pop(struct cpu *cpu, unsigned size, u64 *value)
{
    u64 sp = cpu->regs[R_SP] & stack_mask(cpu);
    switch (size) {
    case 2: {
        u16 v;
        TRY(mem_read16(cpu, SEG_SS, sp, &v));
        *value = v;
        break;
    }
    case 4: {
        u32 v;
        TRY(mem_read32(cpu, SEG_SS, sp, &v));
        *value = v;
        break;
    }
    default: TRY(mem_read64(cpu, SEG_SS, sp, value)); break;
    }
    stack_set(cpu, sp + size);
    return true;
}
