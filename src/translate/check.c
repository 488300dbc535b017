/* Lock-step mode, -d check: the interpreter checks the translator block by block while a guest runs.
 *
 * Up to CHAIN blocks at a time are run twice from the same state: by the interpreter, whose stores are recorded
 * (cpu/store_log.h) and then undone, and as translated code, which counts the blocks that it begins (cpu->blocks_left) and so
 * stops at the same place. What both leave must be the same: registers, flags, x87 and vector state, control registers and
 * segments, the recorded exception, and the lines of RAM that the interpreter stored to. On the first difference the block is
 * found in which it happens, both states and both codes are printed, and the engine gives up (EXIT_BROKEN).
 *
 * Some blocks run in the interpreter alone, since they must not run twice; they are counted: those that touch devices, change
 * code, or mark page tables, and those with instructions that tell time or give random numbers. All happens under the machine
 * lock, so that neither devices nor other vCPUs change what is seen. Events are looked at between chains.
 *
 * Arithmetic flags that the translator leaves stale at a chain's end, as dead, are no difference yet: the interpreter goes on
 * with the exact ones, the translated code with the stale ones, and the next block has to overwrite them.
 *
 * Not seen: stores of translated code to lines that the interpreter did not store to; stale flags within a chain. */
#include "translate/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "cpu/disasm.h"
#include "cpu/fpu_live.h"
#include "cpu/run.h"
#include "cpu/store_log.h"
#include "translate/translate.h"

#define ROUNDS 64u /* then other vCPUs have their turn */
#define CHAIN 32u

/* The part of struct cpu that instructions change, without the TLBs, which may differ. */
#define STATE_BYTES offsetof(struct cpu, log)

struct state {
    u8 bytes[STATE_BYTES] __attribute__((aligned(64)));
};

/* The whole of it, as struct cpu has it. */
static const struct cpu *as_cpu(const struct state *s) { return (const struct cpu *)(const void *)s->bytes; }

struct check {
    struct cpu_hooks hooks;          /* stand in for the machine's while a block runs */
    const struct cpu_hooks *machine; /* the machine's */
    struct cpu *cpu;                 /* whose */
    u32 hidden;                      /* its events, out of sight meanwhile */
    bool device;                     /* a device was touched */
    bool told_time;                  /* time is valid */
    u64 time;                        /* what the TSC is throughout the block */
    struct store_log stores;         /* of the interpreter */
    struct state before, interp, bt; /* of the blocks; after them */
    struct block *chain[CHAIN];      /* the blocks, in the order they were interpreted */
    unsigned count;                  /* how many */
    bool stale;                      /* stale_flags differ from the exact ones */
    u16 stale_flags;                 /* what translated code left in cpu->aflags */
    u64 stale_rip;                   /* where it goes on from there */
    u32 rounds;                      /* of the run loop */
    u64 compared, stale_count;       /* statistics: blocks compared; left with stale flags */
    u64 interpreted, devices, code, tables, clocks; /* not compared: not translated, and see above */
};

/* ---- events ---- */

static void hide_events(struct check *c) { c->hidden |= __atomic_exchange_n(&c->cpu->events, 0, __ATOMIC_SEQ_CST); }

/* What a device does to the interrupt line must not be undone. */
static void show_events(struct check *c)
{
    cpu_event_set(c->cpu, c->hidden);
    c->hidden = 0;
}

/* Hide what is new, but for what instructions themselves raise, which is returned. */
static u32 take_raised(struct check *c)
{
    const u32 before = c->hidden;
    c->hidden = 0;
    hide_events(c);
    const u32 raised = c->hidden & EVENT_STEP;
    c->hidden = (c->hidden & ~EVENT_STEP) | before;
    return raised;
}

/* ---- hooks ---- */

static void hook_lock(void *opaque)
{
    struct check *c = opaque;
    c->device = true; /* the lock itself is held already */
    show_events(c);
}
static void hook_unlock(void *opaque) { (void)opaque; }

static u64 hook_tsc(void *opaque)
{
    struct check *c = opaque;
    if (!c->told_time) c->time = c->machine->tsc(c->machine->opaque);
    c->told_time = true;
    return c->time;
}
static int hook_ack_interrupt(void *opaque)
{
    struct check *c = opaque;
    return c->machine->ack_interrupt(c->machine->opaque);
}
static bool hook_apic_msr_read(void *opaque, u32 msr, u64 *value)
{
    struct check *c = opaque;
    return c->machine->apic_msr_read(c->machine->opaque, msr, value);
}
static bool hook_apic_msr_write(void *opaque, u32 msr, u64 value)
{
    struct check *c = opaque;
    return c->machine->apic_msr_write(c->machine->opaque, msr, value);
}
static u64 hook_cr8_read(void *opaque)
{
    struct check *c = opaque;
    return c->machine->cr8_read(c->machine->opaque);
}
static void hook_cr8_write(void *opaque, u64 value)
{
    struct check *c = opaque;
    c->machine->cr8_write(c->machine->opaque, value);
}
static void hook_ferr(void *opaque, int level)
{
    struct check *c = opaque;
    c->machine->ferr(c->machine->opaque, level);
}
static u32 hook_apic_id(void *opaque)
{
    struct check *c = opaque;
    return c->machine->apic_id(c->machine->opaque);
}
struct check *check_create(struct cpu *cpu)
{
    struct check *c = aligned_alloc(64, (sizeof *c + 63) & ~63ul);
    if (!c) {
        fprintf(stderr, "calque: no memory for checking\n");
        return NULL;
    }
    memset(c, 0, sizeof *c);
    c->cpu = cpu;
    c->machine = cpu->hooks;
    c->hooks = (struct cpu_hooks){
        .opaque = c,
        .lock = hook_lock,
        .unlock = hook_unlock,
        .tsc = hook_tsc,
        .ack_interrupt = hook_ack_interrupt,
        .apic_msr_read = hook_apic_msr_read,
        .apic_msr_write = hook_apic_msr_write,
        .cr8_read = hook_cr8_read,
        .cr8_write = hook_cr8_write,
        .ferr = hook_ferr,
        .apic_id = hook_apic_id,
    };
    return c;
}

void check_destroy(struct check *c, struct cpu *cpu)
{
    log_write("check: vCPU %u: %llu blocks compared, %llu with stale flags after them; not compared: %llu interpreted, "
              "%llu device, %llu code change, %llu page table, %llu time\n",
              cpu->index, (unsigned long long)c->compared, (unsigned long long)c->stale_count,
              (unsigned long long)c->interpreted, (unsigned long long)c->devices, (unsigned long long)c->code,
              (unsigned long long)c->tables, (unsigned long long)c->clocks);
    free(c->stores.lines);
    free(c);
}

/* ---- running a block ---- */

/* Around what need not be copied and compared at each block: XSAVE's hole, and events, which other threads set. */
static const struct {
    size_t from, to;
} parts[] = {
    {0, offsetof(struct cpu, fpu.reserved)},
    {offsetof(struct cpu, fpu.pkru), offsetof(struct cpu, events)},
    {offsetof(struct cpu, event_mask), STATE_BYTES},
};

static void copy_state(void *to, const void *from)
{
    for (size_t n = 0; n < ARRAY_LEN(parts); n++)
        memcpy((u8 *)to + parts[n].from, (const u8 *)from + parts[n].from, parts[n].to - parts[n].from);
}

static bool same_state(const void *a, const void *b)
{
    for (size_t n = 0; n < ARRAY_LEN(parts); n++)
        if (memcmp((const u8 *)a + parts[n].from, (const u8 *)b + parts[n].from, parts[n].to - parts[n].from) != 0) return false;
    return true;
}

static void keep_state(const struct cpu *cpu, struct state *s) { copy_state(s->bytes, cpu); }
static void set_state(struct cpu *cpu, const struct state *s)
{
    copy_state(cpu, s->bytes);
    cpu_update_mode(cpu); /* what is derived from it and not in it */
}

/* Interpret a block to where translated code leaves it, or, when that was found to be elsewhere, up to `stop` (else ~0), an
 * instruction of it. Stops with the exception recorded, or cpu->rip set. */
static void interpret(struct cpu *cpu, const struct block *b, u64 stop)
{
    const u8 mode = cpu->mode_key;
    cpu->block_rip = cpu->regs[REG_RIP] = cpu->rip;
    for (const struct insn *i = b->insns;; i++) {
        if (i != b->insns && insn_rip(cpu, i) == stop) {
            cpu->rip = stop;
            return;
        }
        bool on = i->fn(cpu, i);
        /* Translated code need not know of STI's shadow. */
        if (cpu->shadow == 1 && i + 1 < b->insns + b->count && next_rip(cpu, i) != stop) {
            cpu->shadow = 0;
            cpu_update_mode(cpu);
        }
        /* What ends a block need not end translated code (STI, POPF). Rather too far than not far enough: what translated code
         * stores behind the place where this ends would not be undone. */
        if (!on && cpu->exc.vector < 0 && !cpu->halted && cpu->rip == next_rip(cpu, i) && cpu->rip != stop &&
            i + 1 < b->insns + b->count)
            continue;
        if (!on) {
            if (cpu->exc.vector >= 0) cpu->rip = insn_rip(cpu, i);
            return;
        }
        if (stop == ~0ull && (cpu->mode_key != mode || cpu->step ||
                              (__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & cpu->event_mask))) {
            cpu->rip = next_rip(cpu, i);
            return;
        }
    }
}

void check_interpret(struct cpu *cpu, const struct block *b) { interpret(cpu, b, ~0ull); }

/* The block at the current CS:RIP, if it is translated and known without a look at page tables. */
static struct block *known_block(struct cpu *cpu, struct bt *bt)
{
    const gla lin = block_lin(cpu);
    const struct jump_entry *j = jump_slot(&bt->cache, lin);
    return j->lin == lin && j->key == cpu->code_key && !j->block->dead && j->block->host ? j->block : NULL;
}

/* Nothing that the run loop would look at before the next block. */
static bool may_go_on(const struct cpu *cpu)
{
    return cpu->exc.vector < 0 && !cpu->step && !cpu->halted && !__atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST);
}

/* Interpret up to `most` blocks from b, recording stores. `stop`: where in the last of them, as in interpret(). */
static void interpret_chain(struct cpu *cpu, struct bt *bt, struct block *b, unsigned most, u64 stop)
{
    struct check *c = bt->check;
    const u64 kills = bt->cache.kills;
    c->stores.count = c->stores.tables = 0;
    c->stores.lost = c->device = c->told_time = false;
    c->count = 0;
    cpu->log = &c->stores;
    for (unsigned n = 0; n < SEG_COUNT; n++) cpu->win[n].write_end = 0;
    for (;;) {
        c->chain[c->count++] = b;
        interpret(cpu, b, c->count == most ? stop : ~0ull);
        if (c->device || bt->cache.kills != kills) b->solo = true;
        if (c->count == most || b->solo || !may_go_on(cpu) || !(b = known_block(cpu, bt)) || b->solo) break;
    }
    cpu->log = NULL;
    cpu_update_mode(cpu);
}

/* With STI, translated code goes on where the interpreter leaves for the run loop. What changes address spaces (INVLPG) leaves TLB
 * entries behind that were not there before. */
static bool sensitive(const struct block *b)
{
    for (unsigned n = 0; n < b->count; n++)
        if (b->insns[n].opcode && b->insns[n].opcode->cls == CLASS_SENSITIVE) return true;
    return false;
}

static bool tells_time(const struct block *b)
{
    for (unsigned n = 0; n < b->count; n++) {
        switch (b->insns[n].mnemonic) {
        case I_rdtsc: case I_rdtscp: case I_rdrand: case I_rdseed: case I_rdpmc: return true;
        default: break;
        }
    }
    return false;
}

/* ---- comparing ---- */

/* Fields of struct cpu to compare one by one, for a readable report; all others are padding or derived from these. */
static const struct field {
    const char *name;
    u16 offset, size;
} fields[] = {
#define FIELD(name) {#name, offsetof(struct cpu, name), sizeof(((struct cpu *)0)->name)}
    FIELD(regs[0]), FIELD(regs[1]), FIELD(regs[2]), FIELD(regs[3]), FIELD(regs[4]), FIELD(regs[5]), FIELD(regs[6]),
    FIELD(regs[7]), FIELD(regs[8]), FIELD(regs[9]), FIELD(regs[10]), FIELD(regs[11]), FIELD(regs[12]), FIELD(regs[13]),
    FIELD(regs[14]), FIELD(regs[15]), FIELD(rip), FIELD(cpl), FIELD(code_size), FIELD(eflags), FIELD(lin_mask),
    FIELD(ip_mask), FIELD(seg[0]), FIELD(seg[1]), FIELD(seg[2]), FIELD(seg[3]), FIELD(seg[4]), FIELD(seg[5]), FIELD(ldtr),
    FIELD(tr), FIELD(gdtr.base), FIELD(gdtr.limit), FIELD(idtr.base), FIELD(idtr.limit), FIELD(cr0), FIELD(cr2), FIELD(cr3),
    FIELD(cr4), FIELD(xcr0), FIELD(dr), FIELD(efer), FIELD(star), FIELD(lstar), FIELD(cstar), FIELD(fmask),
    FIELD(kernel_gs_base), FIELD(tsc_aux), FIELD(sysenter_cs), FIELD(sysenter_esp), FIELD(sysenter_eip), FIELD(pat),
    FIELD(misc_enable), FIELD(tsc_offset), FIELD(tsc_adjust), FIELD(spec_ctrl), FIELD(mtrr_def_type), FIELD(mtrr_fixed),
    FIELD(mtrr_base), FIELD(mtrr_mask), FIELD(mcg_status), FIELD(mcg_ctl), FIELD(mc_bank), FIELD(smbase), FIELD(pkru),
    /* [SDM1] table 10-2, without MXCSR_MASK and what is reserved. */
#define FXSAVE(name, at, size) {name, offsetof(struct cpu, fpu.legacy) + at, size}
    FXSAVE("fcw", 0, 2), FXSAVE("fsw", 2, 2), FXSAVE("ftw", 4, 1), FXSAVE("fop", 6, 2), FXSAVE("fip", 8, 8), FXSAVE("fdp", 16, 8),
    FXSAVE("mxcsr", 24, 4), FXSAVE("st0", 32, 10), FXSAVE("st1", 48, 10), FXSAVE("st2", 64, 10), FXSAVE("st3", 80, 10),
    FXSAVE("st4", 96, 10), FXSAVE("st5", 112, 10), FXSAVE("st6", 128, 10), FXSAVE("st7", 144, 10), FXSAVE("xmm", 160, 256),
#undef FXSAVE
    FIELD(fpu.header), FIELD(fpu.ymm_high), FIELD(pdpte), FIELD(win), FIELD(mode_key), FIELD(code_limit),
    FIELD(tlb), FIELD(exc.vector), FIELD(exc.has_error), FIELD(exc.error_code), FIELD(shadow), FIELD(unfinished),
    FIELD(halted), FIELD(wait_sipi), FIELD(shutdown), FIELD(nmi_blocked), FIELD(in_exception_delivery), FIELD(pending_debug),
    FIELD(step), FIELD(watch),
#undef FIELD
};

static bool field_differs(const struct state *a, const struct state *b, const struct field *f)
{
    return memcmp(a->bytes + f->offset, b->bytes + f->offset, f->size) != 0;
}

static bool states_differ(const struct state *a, const struct state *b)
{
    for (size_t n = 0; n < ARRAY_LEN(fields); n++) {
        /* Without an exception its error code means nothing. */
        if (fields[n].offset > offsetof(struct cpu, exc.vector) && fields[n].offset < offsetof(struct cpu, shadow) &&
            as_cpu(a)->exc.vector < 0)
            continue;
        if (field_differs(a, b, &fields[n])) return true;
    }
    return false;
}

/* ---- reporting ---- */

static void print_bytes(FILE *f, const u8 *p, unsigned n)
{
    for (unsigned k = 0; k < n; k++) fprintf(f, "%02x%s", p[k], k % 16 == 15 && k + 1 < n ? " " : "");
    fputc('\n', f);
}

static void print_field(FILE *f, const struct check *c, const struct field *field)
{
    const u8 *a = c->interp.bytes + field->offset, *b = c->bt.bytes + field->offset;
    unsigned from = 0, to = field->size;
    if (field->size > 8) { /* what differs of it */
        while (a[from] == b[from]) from++;
        while (a[to - 1] == b[to - 1]) to--;
    }
    fprintf(f, "  %s", field->name);
    if (field->size > 8) fprintf(f, " bytes %u to %u", from, to - 1);
    if (field->size <= 8) {
        u64 x = 0, y = 0;
        memcpy(&x, a, field->size);
        memcpy(&y, b, field->size);
        fprintf(f, ": %llx, translated %llx\n", (unsigned long long)x, (unsigned long long)y);
    } else {
        fprintf(f, "\n    ");
        print_bytes(f, a + from, to - from);
        fprintf(f, "    ");
        print_bytes(f, b + from, to - from);
    }
}

/* Everything there is to know, on stderr. */
static void report(const struct cpu *cpu, const struct check *c)
{
    const struct block *b = c->chain[c->count - 1];
    const void *host = b->host;
    const struct cpu *before = as_cpu(&c->before);
    const struct store_line *line = store_log_difference(&c->stores);
    FILE *f = stderr;
    fprintf(f, "calque: -d check: vCPU %u: the translator differs from the interpreter in the last of %u blocks from %llx, "
            "after %llu\n", cpu->index, c->count, (unsigned long long)before->rip, (unsigned long long)c->compared);
    for (size_t n = 0; n < ARRAY_LEN(fields); n++)
        if (field_differs(&c->interp, &c->bt, &fields[n])) print_field(f, c, &fields[n]);
    fprintf(f, "  flags %04x, translated %04x%s\n", as_cpu(&c->interp)->aflags, as_cpu(&c->bt)->aflags,
            c->stale ? ", which began with stale flags" : "");
    if (c->stale) fprintf(f, "  stale flags at the beginning: %04x instead of %04x\n", c->stale_flags, before->aflags);
    if (line) {
        fprintf(f, "  RAM at %llx\n    ", (unsigned long long)(line->host - cpu->ram->host));
        print_bytes(f, line->after, STORE_LINE);
        fprintf(f, "    ");
        print_bytes(f, line->host, STORE_LINE);
    }
    fprintf(f, "before, interpreted, translated:\n");
    cpu_dump(before, f);
    cpu_dump(as_cpu(&c->interp), f);
    cpu_dump(as_cpu(&c->bt), f);
    for (unsigned n = 0; n < c->count; n++) {
        const struct block *k = c->chain[n];
        fprintf(f, "guest code, block %u, in RAM at %llx:\n", n + 1, (unsigned long long)(k->page << GUEST_PAGE_SHIFT | k->offset));
        disasm_print(f, cpu->ram->host + (k->page << GUEST_PAGE_SHIFT) + k->offset, k->bytes, k->offset, k->mode & 3);
    }
    fprintf(f, "host code of the last:\n");
    disasm_print(f, host, b->host_bytes, (u64)(uintptr_t)host, CODE_64);
}

/* ---- one block ---- */

/* As many blocks as were interpreted, or until the run loop would have to look. */
static void run_translated(struct cpu *cpu, struct bt *bt)
{
    struct check *c = bt->check;
    const struct block *b = c->chain[0];
    for (cpu->blocks_left = (s32)c->count; b;) {
        bt_enter(cpu, bt, b, b->host);
        fpu_save(cpu);
        b = cpu->blocks_left > 0 && may_go_on(cpu) ? known_block(cpu, bt) : NULL;
    }
}

/* Back to before the blocks; what address spaces they have been in meanwhile does not matter. */
static void go_back(struct cpu *cpu, struct check *c, u64 code_gen)
{
    store_log_undo(&c->stores);
    set_state(cpu, &c->before);
    cpu_update_mode(cpu);
    if (cpu->code_gen != code_gen || c->chain[0]->solo) tlb_flush_all(cpu);
}

/* Is what the translated code just left what the interpreter left? Arithmetic flags apart. */
static bool agree(struct cpu *cpu, struct check *c)
{
    if (store_log_difference(&c->stores)) return false;
    struct cpu *mine = (struct cpu *)(void *)c->interp.bytes;
    const u16 flags = mine->aflags;
    mine->aflags = cpu->aflags;
    mine->block_rip = cpu->block_rip;
    mine->regs[REG_RIP] = cpu->regs[REG_RIP];
    memcpy(mine->fpu.legacy + 28, cpu->fpu.legacy + 28, 4); /* MXCSR_MASK */
    bool same = same_state(mine, cpu);
    mine->aflags = flags;
    if (same) return true;
    keep_state(cpu, &c->bt);
    return !states_differ(&c->interp, &c->bt);
}

/* Run the translated code from c->before. False: it does not leave what the interpreter left. */
static bool try_translated(struct cpu *cpu, struct bt *bt, bool stale)
{
    struct check *c = bt->check;
    for (unsigned tries = 0;; tries++) {
        if (stale) cpu->aflags = c->stale_flags;
        hide_events(c);
        run_translated(cpu, bt);
        if (agree(cpu, c)) return true;
        /* Another thread may have called it out. */
        if (tries == 3 || !(__atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST) & ~EVENT_STEP)) return false;
        for (unsigned n = c->stores.count; n-- > 0;) memcpy(c->stores.lines[n].host, c->stores.lines[n].before, STORE_LINE);
        set_state(cpu, &c->before);
        cpu_update_mode(cpu);
    }
}

/* Find the first of the blocks in which they differ, which then is the last of the chain. True: none; some are run both ways. */
static bool try_one_by_one(struct cpu *cpu, struct bt *bt, bool stale, u64 code_gen, u32 *raised)
{
    struct check *c = bt->check;
    const unsigned count = c->count;
    for (unsigned n = 1; n <= count; n++) {
        u64 stop = ~0ull;
        for (unsigned again = 0; again < 2; again++) {
            go_back(cpu, c, code_gen);
            hide_events(c);
            interpret_chain(cpu, bt, c->chain[0], n, stop);
            *raised = take_raised(c);
            if (c->chain[0]->dead) return true; /* it changes its own code, after all */
            keep_state(cpu, &c->interp);
            go_back(cpu, c, code_gen);
            if (try_translated(cpu, bt, stale)) {
                if (again) return true;
                break;
            }
            /* Translated code may leave, or stay in, a block where the interpreter does not. */
            if (again || cpu->exc.vector >= 0 || (cpu->rip == as_cpu(&c->interp)->rip && as_cpu(&c->interp)->exc.vector < 0)) return false;
            stop = cpu->rip;
        }
    }
    return true;
}

/* Run blocks both ways and go on with the interpreter's result. False: they differ. */
static bool check_blocks(struct cpu *cpu, struct bt *bt, struct block *b)
{
    struct check *c = bt->check;
    const u64 kills = bt->cache.kills, code_gen = cpu->code_gen;
    u32 raised;

    hide_events(c);
    keep_state(cpu, &c->before);
    const bool stale = c->stale && c->stale_rip == cpu->rip;
    c->stale = false;
    /* Not always as many: others must not see a loop that takes and releases a lock at the same place each time. */
    interpret_chain(cpu, bt, b, cpu->smp ? CHAIN - c->rounds % 7 : CHAIN, ~0ull);
    u64 *skipped = c->device                               ? &c->devices
                   : bt->cache.kills != kills              ? &c->code
                   : c->stores.tables || c->stores.lost    ? &c->tables
                   : tells_time(b)                         ? &c->clocks
                                                           : NULL;
    if (skipped) {
        *skipped += c->count;
        show_events(c);
        return true;
    }
    raised = take_raised(c);
    keep_state(cpu, &c->interp);
    go_back(cpu, c, code_gen);
    bool same = try_translated(cpu, bt, stale) || try_one_by_one(cpu, bt, stale, code_gen, &raised);
    show_events(c);
    cpu_event_set(cpu, raised);
    c->stale = stale;
    if (!same) {
        report(cpu, c);
        return false;
    }
    c->compared += c->count;
    const u16 stale_flags = cpu->aflags;
    cpu->aflags = as_cpu(&c->interp)->aflags;
    if (cpu->code_gen != code_gen) tlb_flush_all(cpu);
    if ((c->stale = cpu->aflags != stale_flags)) {
        c->stale_flags = stale_flags;
        c->stale_rip = cpu->rip;
        c->stale_count++;
    }
    return true;
}

/* The block is to be run: translate it, unless it cannot be, or runs for the first time, as most do that run once. */
static void warm(struct cpu *cpu, struct bt *bt, struct block *b)
{
    if (b->host || bt_refuses(cpu, b) || ++b->hot < MIN(bt->hot, 2)) return;
    if (block_unsettled(&bt->cache, b)) return;
    bt_make_room(cpu, bt);
    translate_block(bt, cpu, b, bt->translated & 1, bt->translated & 2); /* some as if in loops */
    b->solo = tells_time(b) || sensitive(b);
}

/* One round of the run loop, with the machine lock. */
static enum outcome check_round(struct cpu *cpu, struct bt *bt, bool *broken)
{
    struct check *c = bt->check;
    struct block *b;
    enum outcome o = run_next(cpu, &bt->cache, &b);
    if (!b) return o;
    warm(cpu, bt, b);
    if (!b->host) {
        c->interpreted++;
        c->stale = false;
        return run_block(cpu, b) ? GO_ON : LEAVE_TRIPLE;
    }
    struct jump_entry *j = jump_slot(&bt->cache, block_lin(cpu));
    if (j->block == b) j->host = b->host;
    *broken = !check_blocks(cpu, bt, b);
    if (!*broken && cpu->exc.vector >= 0) return run_exception(cpu) ? GO_ON : LEAVE_TRIPLE;
    return GO_ON;
}

static bool others_run(const struct cpu *cpu)
{
    bool any = false;
    for (unsigned n = 0; n < cpu->count; n++)
        any |= cpu->all[n] && cpu->all[n] != cpu && __atomic_load_n(&cpu->all[n]->in_guest, __ATOMIC_RELAXED);
    return any;
}

enum cpu_exit check_run(struct cpu *cpu, struct bt *bt)
{
    const struct cpu_hooks *machine = bt->check->machine;
    for (;;) {
        bool broken = false;
        machine->lock(machine->opaque);
        cpu->hooks = &bt->check->hooks;
        enum outcome o = check_round(cpu, bt, &broken);
        cpu->hooks = machine;
        machine->unlock(machine->opaque);
        /* The lock would be taken again before those who wait for it are awake. */
        if (++bt->check->rounds % ROUNDS == 0 && others_run(cpu)) usleep(1);
        if (broken) return EXIT_BROKEN;
        if (o != GO_ON) return (enum cpu_exit)o;
    }
}
