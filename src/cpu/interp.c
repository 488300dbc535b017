/* The reference interpreter: decodes guest code into blocks, cached per physical page, and runs one handler per instruction.
 *
 * A block is a run of instructions within one physical page. It knows nothing of linear addresses, so that every mapping of
 * the page shares it. Instructions that cross a page boundary, or lie outside RAM, are decoded anew each time.
 *
 * Blocks die when their page is written (invalidate()). The running block may be among them: a dead block's handlers are
 * replaced by one that leaves the block, and its memory is freed once the run loop is back at its top. */
#include "cpu/engine.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "cpu/cpuid.h"
#include "cpu/disasm.h"
#include "cpu/exec_local.h"

#define JUMP_ENTRIES    8192u
#define PAGE_BUCKETS    64u
#define BLOCK_MAX       64u          /* instructions */
#define CACHE_LIMIT     (256u << 20) /* bytes of decoded code, then start over */
#define GRANULE_SHIFT   4            /* code bitmap: 16 bytes a bit */
#define QUEUED_RANGES   64u

struct block {
    struct block *next; /* in its page's bucket, or in the graveyard */
    u16 offset;         /* in the page */
    u16 bytes;          /* guest bytes covered */
    u16 count;          /* instructions, without the sentinel */
    u8 code_size;       /* enum code_size it was decoded for */
    bool dead;          /* its page was written */
    struct insn insns[];
};

/* Decoded code of one physical page. */
struct code_page {
    struct block *buckets[PAGE_BUCKETS];                                /* by offset */
    u64 map[GUEST_PAGE_SIZE >> GRANULE_SHIFT >> 6]; /* granules that decoded code covers */
};

/* Linear address -> block, while nothing was flushed. */
struct jump_entry {
    gla lin;
    u64 key; /* jump_key() it was made under */
    struct block *block;
};

struct interp {
    struct jump_entry jumps[JUMP_ENTRIES];
    struct code_page **pages; /* by RAM page number */
    u64 page_count;
    u64 bytes;                /* held by blocks */
    struct block *graveyard;  /* dead, maybe still running */
    struct block *scratch;    /* the uncached one-instruction block */
    pthread_t thread;         /* the vCPU's thread, once running */
    bool running;             /* thread is valid */
    pthread_mutex_t mutex;    /* protects what follows */
    struct {
        u64 offset, size;
    } queue[QUEUED_RANGES]; /* invalidations from other threads */
    unsigned queued;        /* entries; more than there are means: everything */
};

/* ---- handlers that are no instructions ---- */

/* The sentinel after a block's last instruction, and every instruction of a dead block. */
static bool exec_block_end(struct cpu *cpu, const struct insn *i)
{
    cpu->rip = insn_rip(cpu, i);
    return false;
}

static bool exec_undefined(struct cpu *cpu, const struct insn *i)
{
    (void)i;
    return raise_ud(cpu);
}

static bool exec_too_long(struct cpu *cpu, const struct insn *i)
{
    (void)i;
    return raise_gp0(cpu);
}

exec_fn *exec_select_int(const struct insn *i)
{
    exec_fn *fn;
    if ((fn = exec_select_alu(i)) || (fn = exec_select_move(i)) || (fn = exec_select_flow(i)) ||
        (fn = exec_select_string(i)))
        return fn;
    return exec_select_bits(i);
}

/* ---- decoding ---- */

static u8 gpr_offset(const struct operand *o)
{
    return o->kind == OPND_GPR ? (u8)(o->reg * 8) : o->kind == OPND_GPRH ? (u8)(o->reg * 8 + 1) : 0;
}

/* F3 0F BC/BD are BSF/BSR with an ignored prefix where TZCNT/LZCNT do not exist. */
static bool without_feature(struct insn *i)
{
    switch (i->mnemonic) {
    case I_tzcnt: i->mnemonic = I_bsf; return true;
    case I_lzcnt: i->mnemonic = I_bsr; return true;
    default: return false;
    }
}

/* Complete a decoded instruction that stands `off` bytes into its block. */
static void prepare(struct cpu *cpu, struct insn *i, unsigned off)
{
    i->off = (u16)off;
    i->dst = gpr_offset(&i->operands[0]);
    i->src = gpr_offset(&i->operands[1]);
    if (i->base == REG_RIP) i->disp += (s64)off + i->len;
    i->fn = NULL;
    if (!cpu_has_feature(cpu->model, i->opcode->feature) && !without_feature(i)) {
        i->fn = exec_undefined;
        return;
    }
    if (!(i->fn = exec_select_int(i)) && !(i->fn = exec_select_sys(i)) && !(i->fn = exec_select_fpu(i))) {
        log_printf(LOG_UNIMP, "interp: no handler for %s\n", i->opcode->name);
        i->fn = exec_undefined;
    }
}

/* An instruction that only faults. */
static void prepare_fault(struct insn *i, int decoded, unsigned off)
{
    u8 len = i->len;
    memset(i, 0, sizeof *i);
    i->len = len ? len : 1;
    i->off = (u16)off;
    i->fn = decoded == DECODE_LONG ? exec_too_long : exec_undefined;
}

static void log_block(const struct cpu *cpu, const struct block *b, const u8 *code)
{
    gla lin = cpu_code64(cpu) ? cpu->rip : (u32)(cpu->seg[SEG_CS].base + cpu->rip);
    fprintf(log_stream(), "----------------\nIN: cpl=%u rip=%llx\n", cpu->cpl, (unsigned long long)cpu->rip);
    disasm_print(log_stream(), code, b->bytes, lin, cpu->code_size);
}

/* Decode from `code` up to a block end, the end of the bytes, or BLOCK_MAX. Returns NULL (with no block) only when the first
 * instruction needs more bytes than there are. */
static struct block *decode_block(struct cpu *cpu, const u8 *code, unsigned avail, unsigned max)
{
    static _Thread_local struct insn insns[BLOCK_MAX + 1];
    unsigned n = 0, off = 0;
    while (n < max && off < avail) {
        struct insn *i = &insns[n];
        int len = decode(i, code + off, avail - off, cpu->code_size);
        if (len == DECODE_MORE) break;
        n++;
        if (len <= 0) {
            prepare_fault(i, len, off);
            off += i->len;
            break;
        }
        prepare(cpu, i, off);
        off += (unsigned)len;
        if (i->opcode->attr & ATTR_END) break;
    }
    if (!n) return NULL;
    insns[n] = (struct insn){.fn = exec_block_end, .off = (u16)off};
    struct block *b = malloc(sizeof *b + (n + 1) * sizeof(struct insn));
    if (!b) return NULL;
    b->next = NULL;
    b->bytes = (u16)off;
    b->count = (u16)n;
    b->code_size = cpu->code_size;
    b->dead = false;
    memcpy(b->insns, insns, (n + 1) * sizeof(struct insn));
    if (log_enabled(LOG_IN_ASM)) log_block(cpu, b, code);
    return b;
}

/* ---- the cache ---- */

static u64 block_size(const struct block *b) { return sizeof *b + (b->count + 1u) * sizeof(struct insn); }

static void granule_range(unsigned from, unsigned bytes, unsigned *first, unsigned *last)
{
    *first = from >> GRANULE_SHIFT;
    *last = (from + bytes - 1) >> GRANULE_SHIFT;
    if (*last >= GUEST_PAGE_SIZE >> GRANULE_SHIFT) *last = (GUEST_PAGE_SIZE >> GRANULE_SHIFT) - 1;
}

/* Drop all blocks of a page. They are not freed yet: one of them may be running. */
static void kill_page(struct cpu *cpu, struct interp *in, u64 page)
{
    struct code_page *p = in->pages[page];
    if (!p) return;
    for (unsigned n = 0; n < PAGE_BUCKETS; n++) {
        for (struct block *b = p->buckets[n], *next; b; b = next) {
            next = b->next;
            b->dead = true;
            for (unsigned k = 0; k < b->count; k++) b->insns[k].fn = exec_block_end;
            b->next = in->graveyard;
            in->graveyard = b;
        }
    }
    free(p);
    in->pages[page] = NULL;
    cpu->code_gen++; /* empties the jump cache */
    /* With several vCPUs another one may hold code of the page: then its stores stay slow. */
    if (!cpu->smp) __atomic_fetch_and(&cpu->ram->page_flags[page], (u8)~RAM_PAGE_CODE, __ATOMIC_SEQ_CST);
}

static void kill_all(struct cpu *cpu, struct interp *in)
{
    for (u64 n = 0; n < in->page_count; n++)
        if (in->pages[n]) kill_page(cpu, in, n);
}

static void bury(struct interp *in)
{
    while (in->graveyard) {
        struct block *b = in->graveyard;
        in->graveyard = b->next;
        in->bytes -= block_size(b);
        free(b);
    }
}

/* [offset, offset + size) of RAM was written: drop the code it hits. */
static void invalidate_range(struct cpu *cpu, struct interp *in, u64 offset, u64 size)
{
    if (!size) {
        kill_all(cpu, in);
        return;
    }
    u64 end = offset + size;
    for (u64 page = offset >> GUEST_PAGE_SHIFT; page < in->page_count && page << GUEST_PAGE_SHIFT < end; page++) {
        struct code_page *p = in->pages[page];
        if (!p) continue;
        u64 base = page << GUEST_PAGE_SHIFT;
        unsigned from = offset > base ? (unsigned)(offset - base) : 0;
        unsigned to = end < base + GUEST_PAGE_SIZE ? (unsigned)(end - base) : GUEST_PAGE_SIZE;
        unsigned first, last;
        granule_range(from, to - from, &first, &last);
        for (unsigned g = first; g <= last; g++) {
            if (p->map[g >> 6] >> (g & 63) & 1) {
                kill_page(cpu, in, page);
                break;
            }
        }
    }
}

static void interp_invalidate(struct cpu *cpu, u64 offset, u64 size)
{
    struct interp *in = cpu->engine;
    if (!in->running || pthread_equal(pthread_self(), in->thread)) {
        invalidate_range(cpu, in, offset, size);
        return;
    }
    pthread_mutex_lock(&in->mutex);
    if (in->queued < QUEUED_RANGES && size) {
        in->queue[in->queued].offset = offset;
        in->queue[in->queued].size = size;
        in->queued++;
    } else {
        in->queued = QUEUED_RANGES + 1;
    }
    pthread_mutex_unlock(&in->mutex);
    cpu_event_set(cpu, EVENT_INVALIDATE);
}

static void take_queue(struct cpu *cpu, struct interp *in)
{
    pthread_mutex_lock(&in->mutex);
    if (in->queued > QUEUED_RANGES) {
        kill_all(cpu, in);
    } else {
        for (unsigned n = 0; n < in->queued; n++) invalidate_range(cpu, in, in->queue[n].offset, in->queue[n].size);
    }
    in->queued = 0;
    pthread_mutex_unlock(&in->mutex);
}

/* Wait until no other vCPU can store to code pages by an old TLB entry. Two vCPUs may wait for each other. */
static void await_flushes(struct cpu *cpu)
{
    if (!cpu->smp || !cpu->hooks->others_passed) return;
    while (!cpu->hooks->others_passed(cpu->hooks->opaque, EVENT_TLB_FLUSH)) {
        u32 ev = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST);
        if (ev & EVENT_TLB_FLUSH) {
            cpu_event_clear(cpu, EVENT_TLB_FLUSH);
            tlb_flush_all(cpu);
        }
        if (ev & EVENT_KICK) return; /* somebody wants this thread: never hold him up */
        sched_yield();
    }
}

/* The page starts to hold code: from now on stores to it take the slow path, here and on the other vCPUs. */
static struct code_page *new_code_page(struct cpu *cpu, struct interp *in, u64 page)
{
    struct code_page *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    in->pages[page] = p;
    u8 before = __atomic_fetch_or(&cpu->ram->page_flags[page], RAM_PAGE_CODE, __ATOMIC_SEQ_CST);
    if (!(before & RAM_PAGE_CODE)) {
        tlb_protect_code(cpu, page << GUEST_PAGE_SHIFT);
        if (cpu->smp && cpu->hooks->event_others) cpu->hooks->event_others(cpu->hooks->opaque, EVENT_TLB_FLUSH);
    }
    await_flushes(cpu);
    return p;
}

/* The block at this RAM offset, decoded if need be; NULL when its first instruction crosses into the next page. */
static struct block *cached_block(struct cpu *cpu, struct interp *in, u64 ram_offset)
{
    u64 page = ram_offset >> GUEST_PAGE_SHIFT;
    unsigned offset = (unsigned)(ram_offset & GUEST_PAGE_MASK);
    struct code_page *p = in->pages[page];
    if (p) {
        for (struct block *b = p->buckets[offset % PAGE_BUCKETS]; b; b = b->next)
            if (b->offset == offset && b->code_size == cpu->code_size) return b;
    } else {
        if (in->bytes > CACHE_LIMIT) {
            kill_all(cpu, in);
            bury(in);
        }
        if (!(p = new_code_page(cpu, in, page))) return NULL;
    }
    struct block *b = decode_block(cpu, cpu->ram->host + ram_offset, GUEST_PAGE_SIZE - offset, BLOCK_MAX);
    if (!b) return NULL;
    b->offset = (u16)offset;
    b->next = p->buckets[offset % PAGE_BUCKETS];
    p->buckets[offset % PAGE_BUCKETS] = b;
    unsigned first, last;
    granule_range(offset, b->bytes, &first, &last);
    for (unsigned g = first; g <= last; g++) p->map[g >> 6] |= 1ull << (g & 63);
    in->bytes += block_size(b);
    return b;
}

/* Instruction bytes by linear address, one page's worth: their RAM offset, or false for a device page. False with an exception
 * recorded when the fetch faults. */
static bool fetch_page(struct cpu *cpu, gla lin, u64 *ram_offset, gpa *phys)
{
    const struct tlb_entry *e = &cpu->tlb->e[tlb_index(lin)];
    if (e->exec_tag == ((lin & ~GUEST_PAGE_MASK) | cpu->tlb->gen)) {
        *ram_offset = (u64)(lin + e->addend - (u64)(uintptr_t)cpu->ram->host);
        return true;
    }
    TRY(mmu_translate(cpu, lin, ACC_EXEC, phys));
    bool page_ok;
    struct bus_target t = bus_lookup(cpu->mem, *phys, false, &page_ok);
    if (!t.host || !page_ok) return false;
    *ram_offset = t.ram_offset;
    return true;
}

/* One instruction that crosses a page or lies outside RAM, in the scratch block. */
static struct block *uncached_block(struct cpu *cpu, struct interp *in, gla lin)
{
    u8 code[15];
    unsigned have = 0;
    free(in->scratch);
    in->scratch = NULL;
    while (have < sizeof code) {
        gla at = cpu_code64(cpu) ? lin + have : (u32)(lin + have);
        unsigned n = MIN((unsigned)sizeof code - have, GUEST_PAGE_SIZE - (unsigned)(at & GUEST_PAGE_MASK));
        u64 offset;
        gpa phys = 0;
        if (cpu_code64(cpu) && !canonical(at)) {
            raise_gp0(cpu);
            return NULL;
        }
        if (fetch_page(cpu, at, &offset, &phys)) {
            memcpy(code + have, cpu->ram->host + offset, n);
        } else {
            if (cpu->exc.vector >= 0) return NULL;
            cpu->hooks->lock(cpu->hooks->opaque);
            bus_read_block(cpu->mem, phys, code + have, n);
            cpu->hooks->unlock(cpu->hooks->opaque);
        }
        have += n;
        in->scratch = decode_block(cpu, code, have, 1);
        if (in->scratch) return in->scratch;
    }
    raise_gp0(cpu);
    return NULL;
}

static u64 jump_key(const struct cpu *cpu)
{
    return cpu->code_gen << 4 | (u64)(cpu->tlb - cpu->tlbs) << 2 | cpu->code_size;
}

static __attribute__((noinline)) struct block *find_block_slow(struct cpu *cpu, struct interp *in, gla lin, struct jump_entry *j)
{
    u64 offset;
    gpa phys;
    if (cpu->rip > cpu->code_limit || (cpu_code64(cpu) && !canonical(lin))) {
        raise_gp0(cpu);
        return NULL;
    }
    struct block *b = NULL;
    if (fetch_page(cpu, lin, &offset, &phys))
        b = cached_block(cpu, in, offset);
    else if (cpu->exc.vector >= 0)
        return NULL;
    if (!b) return uncached_block(cpu, in, lin);
    *j = (struct jump_entry){.lin = lin, .key = jump_key(cpu), .block = b};
    return b;
}

/* The block at the current CS:RIP; NULL: an exception is recorded. */
static inline struct block *find_block(struct cpu *cpu, struct interp *in)
{
    gla lin = cpu->code_size == CODE_64 ? cpu->rip : (u32)(cpu->seg[SEG_CS].base + cpu->rip);
    struct jump_entry *j = &in->jumps[(lin ^ lin >> 13) & (JUMP_ENTRIES - 1)];
    if (__builtin_expect(j->lin == lin && j->key == jump_key(cpu), 1)) return j->block;
    return find_block_slow(cpu, in, lin, j);
}

/* ---- running ---- */

/* Deliver the recorded exception; cpu->rip is the faulting instruction's. False: triple fault. */
static bool take_exception(struct cpu *cpu)
{
    if (deliver_exception(cpu)) return true;
    cpu->shutdown = true;
    return false;
}

/* Enter the handler of an interrupt; if that faults, deliver the fault instead. */
static bool take_interrupt(struct cpu *cpu, unsigned vector, enum interrupt_kind kind)
{
    cpu->halted = false;
    if (interrupt(cpu, vector, kind, false, 0, cpu->rip)) return true;
    cpu->in_exception_delivery = false;
    return take_exception(cpu);
}

enum outcome { GO_ON, LEAVE_KICK, LEAVE_HALT, LEAVE_TRIPLE };

/* Everything asynchronous, in the order of SDM vol 3A table 6-2. */
static __attribute__((noinline)) enum outcome handle_events(struct cpu *cpu, struct interp *in)
{
    u32 ev = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST);
    /* [SDM3] 17.3.1.1: what interrupts a string instruction between two elements is pushed with RF set. */
    const u32 rf = cpu->unfinished ? EFLAGS_RF : 0;
    cpu->unfinished = false;
    if (ev & EVENT_INVALIDATE) {
        cpu_event_clear(cpu, EVENT_INVALIDATE);
        take_queue(cpu, in);
    }
    if (ev & EVENT_TLB_FLUSH) {
        cpu_event_clear(cpu, EVENT_TLB_FLUSH);
        mmu_forget_map(cpu);
        tlb_flush_all(cpu);
    }
    if (ev & (EVENT_KICK | EVENT_RESET)) {
        cpu_event_clear(cpu, EVENT_KICK);
        return LEAVE_KICK;
    }
    if (ev & EVENT_INIT) {
        cpu_event_clear(cpu, EVENT_INIT);
        cpu_reset(cpu, true);
        return GO_ON;
    }
    if (cpu->wait_sipi) {
        if (!(ev & EVENT_SIPI)) return LEAVE_HALT;
        cpu_event_clear(cpu, EVENT_SIPI);
        cpu->wait_sipi = false;
        cpu->seg[SEG_CS].selector = (u16)(cpu->sipi_vector << 8);
        cpu->seg[SEG_CS].base = (u64)cpu->sipi_vector << 12;
        cpu->rip = 0;
        cpu_update_mode(cpu);
        return GO_ON;
    }
    if (cpu->shutdown) return LEAVE_TRIPLE;
    cpu_event_clear(cpu, ev & (EVENT_STEP | EVENT_SIPI)); /* a start-up message means nothing to a running processor */
    if (ev & EVENT_SMI) cpu_event_clear(cpu, EVENT_SMI); /* no SMM: docs/LIMITS.md */
    if (cpu->pending_debug && cpu->shadow != 2) {
        cpu->eflags |= rf;
        raise_err(cpu, EXC_DB, (u32)(cpu->pending_debug & DEBUG_STEP) << 8);
        return take_exception(cpu) ? GO_ON : LEAVE_TRIPLE;
    }
    if (!cpu->shadow) {
        if ((ev & EVENT_NMI) && !cpu->nmi_blocked) {
            /* The second one may have come after `ev` was read. */
            u32 before = __atomic_fetch_and(&cpu->events, ~(EVENT_NMI | EVENT_NMI2), __ATOMIC_SEQ_CST);
            if (before & EVENT_NMI2) cpu_event_set(cpu, EVENT_NMI);
            cpu->nmi_blocked = true;
            cpu->eflags |= rf;
            return take_interrupt(cpu, EXC_NMI, INT_NMI) ? GO_ON : LEAVE_TRIPLE;
        }
        if ((ev & EVENT_INTR) && (cpu->eflags & EFLAGS_IF)) {
            cpu->hooks->lock(cpu->hooks->opaque);
            int vector = cpu->hooks->ack_interrupt(cpu->hooks->opaque);
            cpu->hooks->unlock(cpu->hooks->opaque);
            if (vector >= 0) {
                cpu->eflags |= rf;
                return take_interrupt(cpu, (unsigned)vector, INT_EXTERNAL) ? GO_ON : LEAVE_TRIPLE;
            }
        }
    }
    if (cpu->halted) return LEAVE_HALT;
    return GO_ON;
}

/* Instruction breakpoints that match the linear address, as DR6 bits. */
static u8 code_breakpoints(const struct cpu *cpu, gla lin)
{
    u8 hit = 0;
    for (unsigned n = 0; n < 4; n++)
        if ((cpu->dr[7] >> 2 * n & 3) && !(cpu->dr[7] >> (16 + 4 * n) & 3) && cpu->dr[n] == lin) hit |= (u8)(1u << n);
    return hit;
}

/* Exactly one instruction, with everything that single steps, breakpoints, interrupt shadows and segment limits ask for. */
static __attribute__((noinline)) enum outcome step_one(struct cpu *cpu, struct interp *in)
{
    const u8 shadow = cpu->shadow;
    const bool tf = cpu->eflags & EFLAGS_TF, rf = cpu->eflags & EFLAGS_RF;
    gla lin = cpu_code64(cpu) ? cpu->rip : (u32)(cpu->seg[SEG_CS].base + cpu->rip);
    u8 hit = rf || shadow == 2 ? 0 : code_breakpoints(cpu, lin);
    if (hit) {
        cpu->pending_debug |= hit;
        raise_exc(cpu, EXC_DB);
        return take_exception(cpu) ? GO_ON : LEAVE_TRIPLE;
    }

    struct block *b = find_block(cpu, in);
    unsigned mnemonic = I_invalid;
    bool unfinished = false;
    cpu->unfinished = false;
    if (b) {
        const struct insn *i = &b->insns[0];
        mnemonic = i->mnemonic;
        if (cpu->rip + i->len - 1 > cpu->code_limit && !cpu_code64(cpu)) {
            raise_gp0(cpu);
        } else {
            u64 start = cpu->rip;
            cpu->block_rip = cpu->regs[REG_RIP] = start;
            if (i->fn(cpu, i))
                cpu->rip = next_rip(cpu, i);
            else if (cpu->exc.vector >= 0)
                cpu->rip = start;
            else
                unfinished = cpu->rip == start && (i->prefixes & (PFX_REP | PFX_REPNE));
            cpu->insn_count++;
        }
    }
    if (cpu->exc.vector >= 0) {
        cpu->pending_debug = 0;
        if (shadow) {
            cpu->shadow = 0;
            cpu_update_mode(cpu);
        }
        return take_exception(cpu) ? GO_ON : LEAVE_TRIPLE;
    }
    if (shadow && cpu->shadow == shadow) cpu->shadow = 0;
    /* Between two elements of a repeated instruction RF stays: its breakpoint must not hit again. */
    if (rf && mnemonic != I_iret && !unfinished) cpu->eflags &= ~EFLAGS_RF;
    /* Software interrupts and SYSCALL that clear TF take no trap; POPF and IRET that clear it do. */
    /* After MOV SS and POP SS there is none: the next instruction's takes its place. */
    if (tf && cpu->shadow != 2 && ((cpu->eflags & EFLAGS_TF) || mnemonic == I_popf || mnemonic == I_iret)) cpu->pending_debug |= DEBUG_STEP;
    cpu_update_mode(cpu);
    if (cpu->pending_debug) cpu_event_set(cpu, EVENT_STEP);
    return GO_ON;
}

static enum cpu_exit run_loop(struct cpu *cpu, struct interp *in)
{
    for (;;) {
        if (__builtin_expect(in->graveyard != NULL, 0)) bury(in);
        if (__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) || cpu->halted || cpu->wait_sipi || cpu->shutdown) {
            switch (handle_events(cpu, in)) {
            case GO_ON: break;
            case LEAVE_KICK: return EXIT_KICK;
            case LEAVE_HALT: return EXIT_HALT;
            case LEAVE_TRIPLE: return EXIT_TRIPLE;
            }
            if (cpu->halted || cpu->wait_sipi || cpu->shutdown) continue;
        }
        const u32 mask = EVENT_KICK | EVENT_RESET | EVENT_INIT | EVENT_SMI | EVENT_TLB_FLUSH | EVENT_INVALIDATE | EVENT_STEP |
                         (cpu->nmi_blocked ? 0 : EVENT_NMI) | (cpu->eflags & EFLAGS_IF ? EVENT_INTR : 0);
        cpu->event_mask = mask;
        if (__builtin_expect(cpu->step, 0)) {
            if (step_one(cpu, in) == LEAVE_TRIPLE) return EXIT_TRIPLE;
            continue;
        }
        struct block *b = find_block(cpu, in);
        if (__builtin_expect(!b, 0)) {
            if (!take_exception(cpu)) return EXIT_TRIPLE;
            continue;
        }
        if (__builtin_expect(cpu->rip + b->bytes - 1 > cpu->code_limit && cpu->code_limit != ~0ull, 0)) {
            if (step_one(cpu, in) == LEAVE_TRIPLE) return EXIT_TRIPLE;
            continue;
        }
        if (log_enabled(LOG_EXEC | LOG_CPU)) {
            if (log_enabled(LOG_EXEC)) log_write("exec: %llx\n", (unsigned long long)cpu->rip);
            if (log_enabled(LOG_CPU)) cpu_dump(cpu, log_stream());
        }
        cpu->block_rip = cpu->regs[REG_RIP] = cpu->rip;
        cpu->insn_count += b->count;
        const struct insn *i = b->insns;
        for (;;) {
            if (!i->fn(cpu, i)) {
                if (__builtin_expect(cpu->exc.vector >= 0, 0)) {
                    cpu->insn_count -= (u64)(b->insns + b->count - i);
                    cpu->rip = insn_rip(cpu, i);
                    if (!take_exception(cpu)) return EXIT_TRIPLE;
                }
                break;
            }
            i++;
            if (__builtin_expect(__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & mask, 0)) {
                cpu->insn_count -= (u64)(b->insns + b->count - i);
                cpu->rip = insn_rip(cpu, i);
                break;
            }
        }
    }
}

static enum cpu_exit interp_run(struct cpu *cpu)
{
    struct interp *in = cpu->engine;
    in->thread = pthread_self();
    in->running = true;
    cpu->exc.vector = -1;
    __atomic_store_n(&cpu->in_guest, true, __ATOMIC_SEQ_CST);
    enum cpu_exit why = run_loop(cpu, in);
    __atomic_store_n(&cpu->in_guest, false, __ATOMIC_SEQ_CST);
    return why;
}

static int interp_create(struct cpu *cpu)
{
    struct interp *in = calloc(1, sizeof *in);
    if (!in) goto no_memory;
    in->page_count = cpu->ram->size >> GUEST_PAGE_SHIFT;
    in->pages = calloc(in->page_count, sizeof in->pages[0]);
    if (!in->pages) goto no_memory;
    for (unsigned n = 0; n < JUMP_ENTRIES; n++) in->jumps[n].key = ~0ull;
    pthread_mutex_init(&in->mutex, NULL);
    cpu->engine = in;
    return 0;
no_memory:
    free(in);
    fprintf(stderr, "calque: no memory for the interpreter\n");
    return -ENOMEM;
}

static void interp_destroy(struct cpu *cpu)
{
    struct interp *in = cpu->engine;
    kill_all(cpu, in);
    bury(in);
    free(in->scratch);
    free(in->pages);
    pthread_mutex_destroy(&in->mutex);
    free(in);
    cpu->engine = NULL;
}

const struct engine_ops interp_engine = {
    .name = "interp",
    .create = interp_create,
    .destroy = interp_destroy,
    .run = interp_run,
    .invalidate = interp_invalidate,
};
