/* The binary translator's engine: a run loop around translated blocks. Blocks are interpreted a few times before they are
 * translated; code that is single-stepped stays with the interpreter, and 64-bit code that has alignment checked.
 *
 * The code memory is filled region by region; when it is full the oldest region's code is given up. */
#define _GNU_SOURCE
#include "translate/bt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "cpu/run.h"
#include "translate/bt_stats.h"
#include "translate/check.h"
#include "translate/translate.h"

#define CODE_BYTES  (256u << 20)
#define HOT         16u /* interpretations before a block is translated */
#define LOOP        1000u /* instructions from one run of a block to the next, at most, if that is in a loop... */
#define CLOSE       150u  /* ... in a close one */
#define NOT_SOON    4u    /* bt->not_soon, ... */
#define NOT_CLOSE   2u    /* ... and bt->not_close */
#define CYCLES      10u   /* of the host's TSC that an instruction takes about... */
#define INTERPRETED 200u  /* ... at most, when it is interpreted */
#define PATIENCE    10u /* code that keeps changing is interpreted up to 2^PATIENCE times as often */

u64 bt_denied(struct cpu *cpu, struct block *b)
{
    struct bt *bt = cpu->engine;
    bt->interpreted[REFUSED_FPU]++;
    cpu->rip = (cpu->page_rip + b->offset) & cpu->ip_mask;
    if (bt->check) check_interpret(cpu, b);
    else run_block(cpu, b);
    return 0;
}

void bt_make_room(struct cpu *cpu, struct bt *bt)
{
    if (!code_memory_full(&bt->code)) return;
    const unsigned n = (bt->code.current + 1) % CODE_REGIONS;
    if (bt->translations[n]) {
        bt->evictions++;
        cpu_code_flush(cpu);
    }
    for (struct translation *t = bt->translations[n]; t; t = t->next) {
        if (!t->block) continue;
        t->block->hot = t->block->soon = t->block->close = 0;
        translate_discard(cpu, t->block, false);
    }
    bt->translations[n] = NULL;
    code_memory_recycle(&bt->code, n);
}

static void discard(struct cpu *cpu, struct block *b) { translate_discard(cpu, b, true); }

enum bt_refusal bt_refuses(const struct cpu *cpu, const struct block *b)
{
    if (b->page == ~0ull) return REFUSED_OUTSIDE;
    if (!(cpu->mode_key & MODE_FLAT) && cpu_code64(cpu)) return REFUSED_ALIGNMENT;
    return log_enabled(LOG_EXEC | LOG_CPU) ? REFUSED_LOG : REFUSED_NOT; /* only interpreted blocks are logged one by one */
}

/* How soon has the block come again? Counted in instructions, as far as they were interpreted. Code that changes is no loop. */
static void look_back(struct cpu *cpu, struct block *b)
{
    if (b->changes) {
        b->hot++;
        return;
    }
    const u64 now = __builtin_ia32_rdtsc(), insns = cpu->insn_count - b->seen_insns;
    const u64 rest = now - b->seen - MIN(now - b->seen, insns * INTERPRETED);
    if (b->hot++) {
        b->soon += insns < LOOP && rest < LOOP * CYCLES;
        b->close += insns < CLOSE && rest < CLOSE * CYCLES;
    }
    b->seen = now;
    b->seen_insns = cpu->insn_count;
}

/* The block is about to be interpreted once more: translate it if it is hot. */
static void warm(struct cpu *cpu, struct bt *bt, struct block *b)
{
    const enum bt_refusal why = bt_refuses(cpu, b);
    bt->interpreted[why]++;
    if (why) return;
    look_back(cpu, b);
    if (b->hot < (u64)bt->hot << MIN(b->changes, PATIENCE)) return;
    if (block_unsettled(&bt->cache, b)) return;
    bt_make_room(cpu, bt);
    translate_block(bt, cpu, b, b->hot - b->soon <= bt->not_soon, b->hot - b->close <= bt->not_close);
}

void bt_enter(struct cpu *cpu, struct bt *bt, const struct block *b, void *host)
{
    void (*enter)(void *) = (void (*)(void *))(void *)bt->enter;
    cpu->page_rip = (cpu->rip - b->offset) & cpu->ip_mask;
    bt->entries++;
    enter(host);
    cpu->return_sp = MIN(cpu->return_sp, cpu_returns_base(cpu, cpu->returns_context));
    if (cpu->exc.vector >= 0) cpu->regs[R_SP] += (u64)(s64)bt->unpush;
    bt->unpush = 0;
}

static enum cpu_exit bt_run(struct cpu *cpu)
{
    struct bt *bt = cpu->engine;
    struct block_cache *in = &bt->cache;
    block_cache_start(in);
    cpu->exc.vector = -1;
    if (bt->check) return check_run(cpu, bt);
    for (;;) {
        struct block *b;
        enum outcome o = run_next(cpu, in, &b);
        if (o != GO_ON) return (enum cpu_exit)o;
        if (!b) {
            bt->interpreted[REFUSED_STEP]++;
            continue;
        }
        if (!b->host) warm(cpu, bt, b);
        if (!b->host) {
            if (!run_block(cpu, b)) return EXIT_TRIPLE;
            continue;
        }
        struct jump_entry *j = jump_slot(in, block_lin(cpu));
        if (j->block == b) j->host = b->host;
        bt_enter(cpu, bt, b, b->host);
        if (cpu->exc.vector >= 0 && !run_exception(cpu)) return EXIT_TRIPLE;
    }
}

void bt_set_threshold(struct cpu *cpu, unsigned count)
{
    struct bt *bt = cpu->engine;
    bt->hot = count;
}

void bt_set_loops(struct cpu *cpu, bool loop, bool close)
{
    struct bt *bt = cpu->engine;
    bt->not_soon = loop ? ~0u : 0;
    bt->not_close = close ? ~0u : 0;
}

/* The code memory is new. */
static void set_up_code(struct cpu *cpu, struct bt *bt)
{
    translate_thunks(bt, cpu);
    cpu->jumps = bt->cache.jumps;
    cpu_init_returns(cpu, bt->return_other);
}

int bt_set_code_bytes(struct cpu *cpu, size_t size)
{
    struct bt *bt = cpu->engine;
    code_memory_destroy(&bt->code);
    int err = code_memory_create(&bt->code, size ? size : CODE_MIN);
    if (!err) set_up_code(cpu, bt);
    return err;
}

static void bt_invalidate(struct cpu *cpu, u64 offset, u64 size)
{
    struct bt *bt = cpu->engine;
    block_invalidate(cpu, &bt->cache, offset, size);
}

static void bt_unchanged(struct cpu *cpu, u64 offset)
{
    struct bt *bt = cpu->engine;
    block_unchanged(cpu, &bt->cache, offset);
}

static int bt_create(struct cpu *cpu)
{
    if ((uintptr_t)cpu >> 31) {
        fprintf(stderr, "calque: the translator needs memory below 2 GiB, and the host has none free\n");
        return -ENOMEM;
    }
    struct bt *bt = calloc(1, sizeof *bt);
    int err = -ENOMEM;
    if (!bt) {
        fprintf(stderr, "calque: no memory for the translator\n");
        return err;
    }
    if ((err = code_memory_create(&bt->code, CODE_BYTES)) < 0) goto fail;
    if ((err = block_cache_init(&bt->cache, cpu)) < 0) goto fail_code;
    bt->hot = HOT;
    bt->not_soon = NOT_SOON;
    bt->not_close = NOT_CLOSE;
    bt->cache.discard = discard;
    bt->cache.adjust = translate_adjust;
    set_up_code(cpu, bt);
    err = -ENOMEM;
    if (!(bt->tr = translate_state())) goto fail_cache;
    if (log_enabled(LOG_CHECK) && !(bt->check = check_create(cpu))) goto fail_cache;
    cpu->engine = bt;
    return 0;
fail_cache:
    block_cache_destroy(&bt->cache, cpu);
fail_code:
    code_memory_destroy(&bt->code);
fail:
    free(bt->tr);
    free(bt);
    return err;
}

static void bt_destroy(struct cpu *cpu)
{
    struct bt *bt = cpu->engine;
    if (log_enabled(LOG_OP)) bt_info(cpu, log_stream());
    if (bt->check) check_destroy(bt->check, cpu);
    block_cache_destroy(&bt->cache, cpu);
    code_memory_destroy(&bt->code);
    free(bt->tr);
    free(bt);
    cpu->engine = NULL;
}

const struct engine_ops bt_engine = {
    .name = "bt",
    .create = bt_create,
    .destroy = bt_destroy,
    .run = bt_run,
    .invalidate = bt_invalidate,
    .unchanged = bt_unchanged,
    .info = bt_info,
};
